"""Vectors over lanes that kernels keep whole."""

import pytest
import torch
from kernels import whole

from taichi_sim import runtime
from taichi_sim.lanes.vectors import greatest, stack
from taichi_sim.runtime import ti

pytestmark = pytest.mark.cpu
L = 8
ARRAY = ti.types.ndarray(dtype=ti.types.vector(L, ti.f64), ndim=1)


def evaluated(function, number: int) -> list[torch.Tensor]:
    """Vectors that a Taichi function makes of two others, x in [-1, 1] and y in [0.1, 1]; and these."""

    @whole
    @ti.kernel
    def kernel(inputs: ARRAY, out: ARRAY):
        for _ in range(1):
            results = ti.static(function)(inputs[0], inputs[1])
            for k in ti.static(range(number)):
                out[k] = results[k]

    generator = torch.Generator().manual_seed(0)
    draws = torch.rand(2, L, dtype=torch.float64, generator=generator)
    inputs = torch.stack([2 * draws[0] - 1, 0.1 + 0.9 * draws[1]])
    out = torch.full((number, L), torch.nan, dtype=torch.float64)
    kernel(inputs.numpy(), out.numpy())
    return [*out, *inputs]


def test_functions_that_taichi_has_for_numbers_only():
    @ti.func
    def function(x, y):
        return -x, ti.abs(x), ti.exp(x), ti.asin(x), ti.atan2(x, y), ti.log(y), ti.cast(ti.cast(9 * x, ti.i32), ti.f64)

    *found, x, y = evaluated(function, 7)
    expected = -x, x.abs(), x.exp(), x.asin(), torch.atan2(x, y), y.log(), (9 * x).trunc()
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)


def test_the_least_and_the_greatest():
    """Of vectors and numbers, and rows."""

    @ti.func
    def function(x, y):
        rows = ti.max(stack([x, y]), 0.3)
        return ti.max(x, y), ti.min(x, y), ti.max(x, 0.0), ti.min(0.5, y), ti.max(0, x), rows[0, :], rows[1, :]

    *found, x, y = evaluated(function, 7)
    expected = x.maximum(y), x.minimum(y), x.clamp(min=0), y.clamp(max=0.5), x.clamp(min=0), x.clamp(0.3), y.clamp(0.3)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_masks():
    """In variables, combined, and of rows."""

    @ti.func
    def function(x, y):
        low = x < 0.0
        both = low | (y > 0.5)
        rows = stack([x, y])
        one = ti.select(low, x, y)
        rows = ti.select(rows < 0.4, -rows, rows)
        return one, ti.select(both, 1.0, 0.0), ti.select(not low, x * 0.0 + 2.0, y), rows[0, :], rows[1, :]

    *found, x, y = evaluated(function, 5)
    expected = (
        torch.where(x < 0, x, y),
        ((x < 0) | (y > 0.5)).double(),
        torch.where(x < 0, y, 2.0),
        torch.where(x < 0.4, -x, x),
        torch.where(y < 0.4, -y, y),
    )
    assert (x < 0).any() and (x > 0).any() and (y > 0.5).any() and (y < 0.5).any()
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_rows_are_copied_and_assigned_as_matrices():
    @ti.func
    def function(x, y):
        a = stack([x, y])
        b = a
        b[0, :] = y
        c = 2.0 * a - b * 0.5 + b
        # each row of the new one has both of the old
        a = stack([a[1, :], a[0, :]])
        c[1, 3] = 7.0
        return a[0, :], a[1, :], b[0, :], c[0, :], c[1, :]

    *found, x, y = evaluated(function, 5)
    last = 2.5 * y
    last[3] = 7
    for one, other in zip(found, (y, x, y, 2 * x + 0.5 * y, last), strict=True):
        assert torch.allclose(one, other, rtol=1e-15)


def test_the_greatest_lane_is_found():
    @ti.func
    def function(x, y):
        return x * 0.0 + greatest(x), x * 0.0 + greatest(-y), x * 0.0 + ti.select(greatest(x * y) > 0.2, 1.0, 0.0)

    *found, x, y = evaluated(function, 3)
    for one, other in zip(found, (x.max(), -y.min(), torch.tensor(1.0)), strict=True):
        assert torch.equal(one, other.double().expand(L))


def test_subtracting_in_place_is_refused():
    """Seen: LLVM ended the process."""

    @ti.func
    def function(x, y):
        z = x
        z -= y
        return (z,)

    with pytest.raises(ti.TaichiCompilationError, match="write x = x - y"):
        evaluated(function, 1)


def test_kernels_of_others_are_compiled_as_before():
    assert runtime.get().program.config().real_matrix_scalarize

    @ti.kernel
    def kernel() -> ti.f64:
        x = ti.Matrix.rows([ti.Vector([1.0, 2.0]), ti.Vector([3.0, -4.0])])
        x -= 1.0
        return (-x).sum() + ti.exp(x[0, :]).sum()

    assert kernel() == pytest.approx(2 + 1 + 2.718281828459045)
