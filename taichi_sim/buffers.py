"""The memory that kernels read and write: Taichi fields of which each quantity is a row of cells.

Every cell is a vector over the lanes of a block of worlds (`runtime`). What a room needs it declares first; the fields
are placed when all rooms have, and filled with constants later, again for each model of the same layout (`engine`).
"""

from __future__ import annotations

import numpy as np

from taichi_sim.runtime import Runtime, ti

# Bound of what is not bounded: fast-math code may assume that there are no infinities.
UNBOUNDED = 1e30


class Items:
    """A row of consecutive cells in a buffer, indexed in kernels like a field: `items[block, i]`, or `items[i]` in a
    shared buffer.

    An entry is `width` cells of L lanes: a scalar (width 1) reads as a vector of L, a 3-vector or a quaternion as a
    (width, L) matrix. Taichi would make a separate data structure of every component of every lane of a matrix field,
    and then take longer over their layout than over the kernels.
    """

    def __init__(self, buffer: Buffer, start: int, width: int):
        self._buffer, self._start, self._width = buffer, start, width

    @property
    def place(self) -> tuple[str, int, int]:
        """What a kernel that uses it has compiled in."""
        return self._buffer.name, self._start, self._width

    def twin(self, buffer: Buffer) -> Items:
        """The same cells of another buffer."""
        return Items(buffer, self._start, self._width)

    def cells(self, i: int) -> slice:
        """Where entry i lies in the buffer."""
        return slice(self._start + i * self._width, self._start + (i + 1) * self._width)

    def __getitem__(self, index):
        # runs while Taichi compiles a kernel: indices and results are its expressions
        block, i = index if isinstance(index, tuple) else (0, index)
        field, width = self._buffer.field, self._width
        if width == 1:
            return ti.lang.impl.subscript(None, field, block, i + self._start)
        first = ti.lang.impl.expr_init(i * width + self._start)
        rows = [ti.lang.impl.subscript(None, field, block, first + k) for k in range(width)]
        value = ti.Matrix.rows(rows)

        def assign(new):
            new = ti.lang.impl.expr_init(new)
            for k, row in enumerate(rows):
                row._assign(ti.lang.impl.subscript(None, new, k, slice(None)))

        value._assign = assign
        return value


class Ints:
    """A row of consecutive integers: `ints[i]`."""

    def __init__(self, fields: Fields, start: int):
        self._fields, self._start = fields, start

    @property
    def place(self) -> tuple[str, int]:
        """What a kernel that uses it has compiled in."""
        return "integers", self._start

    def __getitem__(self, i):
        return ti.lang.impl.subscript(None, self._fields.integers, i + self._start)


class Buffer:
    """One Taichi field of shape (rows, cells), each cell a vector of L lanes, from which `Items` are handed out."""

    def __init__(self, name: str, real):
        self.name, self.real, self.cells, self.field = name, real, 0, None
        self._values: list[tuple[int, np.ndarray]] = []

    def items(self, number: int, width: int) -> Items:
        """Room for `number` entries, at least one: kernels that loop over none still have to compile."""
        start, self.cells = self.cells, self.cells + max(1, number) * width
        return Items(self, start, width)

    def constant(self, values) -> Items:
        """Entries that hold `values`, (n,) or (n, width), in every lane of every row; at most `UNBOUNDED`."""
        values = np.clip(np.asarray(values, np.float64), -UNBOUNDED, UNBOUNDED)
        items = self.items(len(values), 1 if values.ndim == 1 else values.shape[1])
        self._values.append((items._start, values.ravel()))
        return items

    def values(self) -> np.ndarray:
        """The constants, cell by cell."""
        cells = np.zeros(self.cells)
        for start, values in self._values:
            cells[start : start + len(values)] = values
        return cells


class Fields:
    """The memory of the kernels of one structure, in one tree of Taichi's that can be given back.

    | buffer | what it holds | rows |
    |---|---|---|
    | state | what differs between worlds and changes | one per block of a launch |
    | wide | those parts of it for which single precision may not do; in double precision the same as state | the same |
    | shared | constants of the model | 1 |
    | fitted | constants that users may fit | 1, or one per block |
    | gradient | the adjoint of `fitted`, cell by cell | one per block |
    | integers | indices and switches of the model | - |
    """

    def __init__(self, runtime: Runtime, lanes: int, fit: bool):
        self.state, self.shared, self.fitted, self.gradient = (
            Buffer(name, runtime.real) for name in ("state", "shared", "fitted", "gradient")
        )
        self.wide = Buffer("wide", ti.f64) if runtime.precision == "f32" else self.state
        self.integers = None
        self._runtime, self._lanes, self.fit, self.precision = runtime, lanes, fit, runtime.precision
        self._integers: list[np.ndarray] = []
        self._tree = None

    def ints(self, values) -> Ints:
        """Integer constants."""
        start = sum(len(x) for x in self._integers)
        self._integers.append(np.atleast_1d(np.asarray(values, np.int32)))
        return Ints(self, start)

    def bounds(self, limited, ranges) -> tuple[Items, Items]:
        """Lower and upper bounds (n, 2) where there are any, else none."""
        limited = np.asarray(limited, bool)
        low, high = np.reshape(ranges, (-1, 2)).T
        return (
            self.shared.constant(np.where(limited, low, -UNBOUNDED)),
            self.shared.constant(np.where(limited, high, UNBOUNDED)),
        )

    def table(self, columns: dict[str, np.ndarray]) -> dict[str, Items | Ints]:
        """Constants by name: integers where a column's dtype is int32."""
        return {
            name: self.ints(column) if column.dtype == np.int32 else self.shared.constant(column)
            for name, column in columns.items()
        }

    def gradient_of(self, items: Items) -> Items:
        """Where the adjoint of fitted constants is collected."""
        return items.twin(self.gradient)

    def bytes_per_row(self) -> int:
        """Memory that one block of worlds takes."""
        cells = self.state.cells + (2 * self.fitted.cells if self.fit else 0)
        narrow = cells * (8 if self._runtime.precision == "f64" else 4)
        return self._lanes * (narrow + (8 * self.wide.cells if self.wide is not self.state else 0))

    def constants(self) -> tuple[np.ndarray, ...]:
        """The values of `shared`, `fitted` and `integers`."""
        return self.shared.values(), self.fitted.values(), np.concatenate(self._integers)

    def allocate(self, rows: int) -> None:
        """Places the fields, with room for `rows` blocks at a time."""
        builder = ti.FieldsBuilder()
        self.gradient.cells = self.fitted.cells
        per_block = rows if self.fit else 1
        placed = [(self.state, rows), (self.shared, 1), (self.fitted, per_block), (self.gradient, per_block)]
        if self.wide.cells and self.wide is not self.state:
            placed.append((self.wide, rows))
        for buffer, number in placed:
            buffer.field = ti.Vector.field(self._lanes, buffer.real)
            if self._runtime.device.type == "cuda":
                # neighbouring threads handle neighbouring blocks: keep those side by side
                builder.dense(ti.j, buffer.cells).dense(ti.i, number).place(buffer.field)
            else:
                builder.dense(ti.ij, (number, buffer.cells)).place(buffer.field)
        self.integers = ti.field(ti.i32)
        builder.dense(ti.i, len(self.constants()[2])).place(self.integers)
        self._tree = builder.finalize()

    def fill(self, constants: tuple[np.ndarray, ...]) -> None:
        """Writes a model's constants."""
        shared, fitted, integers = constants
        for buffer, values in ((self.shared, shared), (self.fitted, fitted)):
            everywhere = np.broadcast_to(values[None, :, None], (*buffer.field.shape, self._lanes))
            buffer.field.from_numpy(np.ascontiguousarray(everywhere, self._runtime.numpy))
        self.integers.from_numpy(integers)

    def destroy(self) -> None:
        """Gives the memory back."""
        if self._tree is not None:
            self._tree.destroy()
            self._tree = None
