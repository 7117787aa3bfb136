"""Vectors over the lanes of a block of worlds that reach LLVM whole.

Left to itself, Taichi 1.7 writes every operation on vectors out number by number, and LLVM packs the numbers into SIMD
registers again: 128 bits at a time on a CPU younger than itself, after compiling for three times as long. With
`real_matrix_scalarize=False` vectors in arrays and variables stay what they are. That asks for three things:

- A 3-vector or quaternion over lanes is a row of vectors (`Rows`): as a matrix it would be one vector of 24 or 48
  numbers, to be taken apart by shuffles.
- Operations that Taichi cannot generate for vectors are written lane by lane, or in terms of others.
- Masks, of which LLVM packs the bits and Taichi reads bytes, are never taken apart.

docs/learning.md has what it brings.
"""

from __future__ import annotations

import contextlib
import functools

from taichi_sim.runtime import ti

impl, matrix, ops, Expr = ti.lang.impl, ti.lang.matrix, ti.lang.ops, ti.lang.expr.Expr

# Whether the kernel that is being compiled keeps its vectors whole.
_whole = False


@contextlib.contextmanager
def whole(config):
    """Kernels that are compiled within keep their vectors whole; `config`: the program's."""
    global _whole
    before, _whole = _whole, True
    scalarize, config.real_matrix_scalarize = config.real_matrix_scalarize, False
    try:
        yield
    finally:
        _whole, config.real_matrix_scalarize = before, scalarize


def of_compiler(function):
    """A Python function that kernels call while they are compiled: its arguments are expressions."""
    function._is_wrapped_kernel, function._is_classkernel = True, False
    return function


@of_compiler
def stack(rows):
    """In kernels: a quantity (n, L) of n vectors over L lanes."""
    return Rows(rows)


class Rows:
    """In kernels: n vectors over L lanes, used like a (n, L) matrix."""

    def __init__(self, rows):
        self._rows = list(rows)

    def __getitem__(self, index):
        k, lane = index
        row = self._rows[k]
        return row if isinstance(lane, slice) else impl.subscript(None, row, lane)

    def get_shape(self) -> tuple[int, int]:
        return len(self._rows), self._rows[0].get_shape()[0]

    def variable(self) -> Rows:
        """A copy in variables."""
        return Rows(map(impl.expr_init, self._rows))

    def each(self, function, *others) -> Rows:
        """`function` of each row, and of the same row of the others or of what is none of `Rows`."""
        columns = [x._rows if isinstance(x, Rows) else [x] * len(self._rows) for x in others]
        return Rows(map(function, self._rows, *columns))

    def _assign(self, other) -> None:
        # none is written before all are known
        for row, value in zip(self._rows, other.variable()._rows, strict=True):
            row._assign(value)

    def __add__(self, other):
        return ops.add(self, other)

    def __radd__(self, other):
        return ops.add(other, self)

    def __sub__(self, other):
        return ops.sub(self, other)

    def __rsub__(self, other):
        return ops.sub(other, self)

    def __mul__(self, other):
        return ops.mul(self, other)

    def __rmul__(self, other):
        return ops.mul(other, self)

    def __neg__(self):
        return ops.neg(self)

    def __lt__(self, other):
        return ops.cmp_lt(self, other)

    def __gt__(self, other):
        return ops.cmp_gt(self, other)


@of_compiler
def greatest(x):
    """In kernels: the largest number of a vector, found by halves of it; no number is less than all."""
    x = impl.expr_init(x)
    half = x.get_shape()[0] // 2
    while half:
        a, b = (
            impl.expr_init(matrix.make_matrix([impl.subscript(None, x, first + k) for k in range(half)]))
            for first in (0, half)
        )
        x = impl.expr_init(ops.max(a, b))
        half //= 2
    return impl.subscript(None, x, 0)


def spread(value, lanes: int):
    """In kernels: a number as a vector over lanes."""
    value = impl.expr_init(value)
    return matrix.make_matrix([value] * lanes)


def _is_vector(x) -> bool:
    return isinstance(x, Expr) and x.is_tensor()


def _lanes(operands) -> int:
    """Of those that are vectors."""
    return next(x.get_shape()[0] for x in operands if _is_vector(x))


def _lane_by_lane(function, *operands):
    """A function of vectors, and perhaps of numbers."""
    operands = [impl.expr_init(x) if _is_vector(x) else x for x in operands]
    lanes = _lanes(operands)
    lane = lambda x, i: impl.subscript(None, x, i) if _is_vector(x) else x  # noqa: E731
    return matrix.make_matrix([function(*(lane(x, i) for x in operands)) for i in range(lanes)])


# What Taichi generates for vectors, of its functions of one operand.
_UNARY = {getattr(ops._ti_core, f"expr_{name}") for name in ("sqrt", "floor", "ceil", "round", "bit_not", "logic_not")}
_NEG, _ABS, _ATAN2 = ops._ti_core.expr_neg, ops._ti_core.expr_abs, ops._ti_core.expr_atan2
_CHOSEN = {ops._ti_core.expr_max: ops.cmp_gt, ops._ti_core.expr_min: ops.cmp_lt}


def _chosen(first, a, b):
    """a where `first` of a and b holds, else b: one instruction; Taichi's own, which see to what is no number, have
    three."""
    lanes = _lanes((a, b))
    a, b = (impl.expr_init(x) if _is_vector(x) else spread(x, lanes) for x in (a, b))
    return ops.select(first(a, b), a, b)


def _teach() -> None:
    """Has Taichi's compiler treat `Rows` and whole vectors; everything else as before."""
    unary, binary, ternary, init = ops._unary_operation, ops._binary_operation, ops._ternary_operation, impl.expr_init

    def of_one(taichi_op, python_op, a):
        if isinstance(a, Rows):
            return a.each(functools.partial(of_one, taichi_op, python_op))
        if _whole and _is_vector(a) and taichi_op not in _UNARY:
            if taichi_op is _NEG:
                return a * -1.0
            if taichi_op is _ABS:
                a = impl.expr_init(a)
                return ops.max(a, a * -1.0)
            return _lane_by_lane(functools.partial(unary, taichi_op, python_op), a)
        return unary(taichi_op, python_op, a)

    def of_two(taichi_op, python_op, a, b):
        function = functools.partial(of_two, taichi_op, python_op)
        if isinstance(a, Rows):
            return a.each(function, b)
        if isinstance(b, Rows):
            return b.each(lambda row, other: function(other, row), a)
        if _whole and taichi_op is _ATAN2 and (_is_vector(a) or _is_vector(b)):
            return _lane_by_lane(functools.partial(binary, taichi_op, python_op), a, b)
        if _whole and taichi_op in _CHOSEN and (_is_vector(a) or _is_vector(b)):
            return _chosen(_CHOSEN[taichi_op], a, b)
        return binary(taichi_op, python_op, a, b)

    def of_three(taichi_op, python_op, a, b, c):
        if isinstance(a, Rows):
            return a.each(functools.partial(ternary, taichi_op, python_op), b, c)
        return ternary(taichi_op, python_op, a, b, c)

    def of_difference(x, y):
        if _whole and _is_vector(x):
            raise ti.TaichiSyntaxError(
                "write x = x - y instead of x -= y: Taichi negates y, which it cannot for vectors"
            )
        return subtract(x, y)

    def variable(value):
        return value.variable() if isinstance(value, Rows) else init(value)

    ops._unary_operation, ops._binary_operation, ops._ternary_operation = of_one, of_two, of_three
    subtract, ops.atomic_sub = ops.atomic_sub, of_difference
    impl.expr_init = functools.wraps(init)(variable)
    for name in ("cast", "bit_cast"):
        convert = _of_vectors(getattr(ops, name))
        setattr(ops, name, convert)
        setattr(ti, name, convert)


def _of_vectors(convert):
    """`cast` or `bit_cast`."""

    @functools.wraps(convert)
    def converted(obj, dtype):
        if isinstance(obj, Rows):
            return obj.each(lambda row: converted(row, dtype))
        # what becomes a mask is one
        if _whole and _is_vector(obj) and dtype is not ti.u1:
            return _lane_by_lane(lambda x: convert(x, dtype), obj)
        return convert(obj, dtype)

    return converted


_teach()
