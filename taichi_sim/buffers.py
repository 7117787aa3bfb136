"""The memory that kernels read and write: Taichi fields of which each quantity is a row of cells.

Every cell is a vector over the lanes of a block of worlds (`runtime`). What a room needs it declares first; the fields
are placed when all rooms have, and filled with constants later, again for each model of the same layout (`engine`).
"""

import numpy as np

from taichi_sim.runtime import Runtime, procedure, ti

# Bound of what is not bounded: fast-math code may assume that there are no infinities.
UNBOUNDED = 1e30


class Items:
    """A row of consecutive entries in a buffer, indexed in kernels like a field: `items[block, i]`, or `items[i]` in a
    shared buffer.

    An entry is `width` cells of L lanes: a scalar (width 1) reads as a vector of L, a 3-vector or a quaternion as a
    (width, L) matrix. Taichi would make a separate data structure of every component of every lane of a matrix field,
    and then take longer over their layout than over the kernels.
    """

    def __init__(self, buffer: "Buffer", start: int, number: int, width: int):
        self._buffer, self._start, self.number, self.width = buffer, start, number, width

    @property
    def place(self) -> tuple[str, int, int, int]:
        """What a kernel that uses it has compiled in, and what the memory must have room for."""
        return self._buffer.name, self._start, self.number, self.width

    def twin(self, buffer: "Buffer") -> "Items":
        """The same entries of another buffer."""
        return Items(buffer, self._start, self.number, self.width)

    @property
    def begin(self) -> int:
        """Where the cells come in `Buffer.values`."""
        return self._buffer.first(self.width) + self._start * self.width

    def cells(self, i: int) -> slice:
        """Where those of entry i come there."""
        first = self.begin + i * self.width
        return slice(first, first + self.width)

    def __getitem__(self, index):
        # runs while Taichi compiles a kernel: indices and results are its expressions
        block, i = index if isinstance(index, tuple) else (0, index)
        if self.width == 1:
            return self._buffer.cell(block, i + self._start, 0, 1)
        i = ti.lang.impl.expr_init(i + self._start)
        rows = [self._buffer.cell(block, i, k, self.width) for k in range(self.width)]
        value = ti.Matrix.rows(rows)

        def assign(new):
            new = ti.lang.impl.expr_init(new)
            for k, row in enumerate(rows):
                row._assign(ti.lang.impl.subscript(None, new, k, slice(None)))

        value._assign = assign
        return value


class Ints:
    """A row of consecutive integers: `ints[i]`."""

    def __init__(self, fields: "Fields", start: int):
        self._fields, self._start = fields, start

    @property
    def place(self) -> tuple[str, int]:
        """What a kernel that uses it has compiled in."""
        return "integers", self._start

    def __getitem__(self, i):
        return ti.lang.impl.subscript(None, self._fields.integers, i + self._start)


class Buffer:
    """Cells from which `Items` are handed out, those of one width in a Taichi field of their own: then a kernel finds
    the components of a vector beside each other without computing the place of each.

    Args:
        name: for `Items.place`.
        real: Taichi's type of a cell.
        lanes: worlds of a block, L.
        alike: what it holds is the same in all lanes; a cell takes a single number, and reads as a vector of L.
    """

    def __init__(self, name: str, real, lanes: int, alike: bool = False):
        self.name, self.real, self._lanes, self._alike = name, real, lanes, alike
        self._number: dict[int, int] = {}
        self._fields: dict[int, object] = {}
        self._values: list[tuple[Items, np.ndarray]] = []

    @property
    def cells(self) -> int:
        """Of all entries."""
        return sum(width * number for width, number in self._number.items())

    @property
    def bytes(self) -> int:
        """Memory of a row."""
        return self.cells * (1 if self._alike else self._lanes) * (8 if self.real is ti.f64 else 4)

    def first(self, width: int) -> int:
        """Where the cells of the entries of a width begin in `values`."""
        return sum(w * number for w, number in self._number.items() if w < width)

    def items(self, number: int, width: int) -> Items:
        """Room for `number` entries, at least one: kernels that loop over none still have to compile."""
        start = self._number.get(width, 0)
        self._number[width] = start + max(1, number)
        return Items(self, start, max(1, number), width)

    def constant(self, values) -> Items:
        """Entries that hold `values`, (n,) or (n, width), in every lane of every row; at most `UNBOUNDED`."""
        values = np.clip(np.asarray(values, np.float64), -UNBOUNDED, UNBOUNDED)
        items = self.items(len(values), 1 if values.ndim == 1 else values.shape[1])
        self._values.append((items, values.ravel()))
        return items

    def values(self) -> np.ndarray:
        """The constants, cell by cell."""
        cells = np.zeros(self.cells)
        for items, values in self._values:
            cells[items.begin : items.begin + len(values)] = values
        return cells

    def like(self, other: "Buffer") -> None:
        """Takes over how many entries of each width another one has."""
        self._number = dict(other._number)

    @property
    def everything(self) -> list[Items]:
        """All entries there are, those of one width together."""
        return [Items(self, 0, number, width) for width, number in self._number.items()]

    def allocate(self, builder, rows: int, *, blocks_together: bool) -> None:
        """Makes the fields."""
        for width, number in self._number.items():
            field = ti.field(self.real) if self._alike else ti.Vector.field(self._lanes, self.real)
            self._fields[width] = field
            if blocks_together:
                entries = builder.dense(ti.j, number)
                (entries.dense(ti.k, width) if width > 1 else entries).dense(ti.i, rows).place(field)
            else:
                entries = builder.dense(ti.ij, (rows, number))
                (entries.dense(ti.k, width) if width > 1 else entries).place(field)

    def fill(self, values: np.ndarray, numpy) -> None:
        """Writes `values`, cell by cell, into all rows and lanes."""
        for width, number in self._number.items():
            field, first = self._fields[width], self.first(width)
            part = values[first : first + number * width].reshape((1, number) if width == 1 else (1, number, width))
            shape = field.shape
            if not self._alike:
                part, shape = part[..., None], (*shape, self._lanes)
            field.from_numpy(np.ascontiguousarray(np.broadcast_to(part, shape), numpy))

    def cell(self, block, i, k: int, width: int):
        """In kernels: component k of entry i among those of a width."""
        place = (block, i) if width == 1 else (block, i, k)
        value = ti.lang.impl.subscript(None, self._fields[width], *place)
        if not self._alike:
            return value
        value = ti.lang.impl.expr_init(value)
        return ti.lang.matrix.make_matrix([value] * self._lanes)


@ti.data_oriented
class Fields:
    """The memory of the kernels of one structure, in one tree of Taichi's that can be given back.

    | buffer | what it holds | rows |
    |---|---|---|
    | state | what differs between worlds and changes | one per block of a launch |
    | wide | those parts of it for which single precision may not do; in double precision the same as state | the same |
    | shared | constants of the model | 1 |
    | fitted | constants that users may fit; if they do, those of each world | 1, or one per block |
    | gradient | the adjoint of `fitted`, cell by cell | one per block |
    | integers | indices and switches of the model | - |
    """

    def __init__(self, runtime: Runtime, lanes: int, fit: bool):
        real = runtime.real
        self.state, self.gradient = Buffer("state", real, lanes), Buffer("gradient", real, lanes)
        self.shared = Buffer("shared", real, lanes, alike=True)
        self.fitted = Buffer("fitted", real, lanes, alike=not fit)
        self.wide = Buffer("wide", ti.f64, lanes) if runtime.precision == "f32" else self.state
        self.integers = None
        self._runtime, self.fit, self.precision = runtime, fit, runtime.precision
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
        buffers = [self.state] + [self.wide] * (self.wide is not self.state) + [self.fitted, self.fitted] * self.fit
        return sum(buffer.bytes for buffer in buffers)

    def constants(self) -> tuple[np.ndarray, ...]:
        """The values of `shared`, `fitted` and `integers`."""
        return self.shared.values(), self.fitted.values(), np.concatenate(self._integers)

    def allocate(self, rows: int) -> None:
        """Places the fields, with room for `rows` blocks at a time."""
        builder = ti.FieldsBuilder()
        self.gradient.like(self.fitted)
        per_block = rows if self.fit else 1
        placed = [(self.state, rows), (self.shared, 1), (self.fitted, per_block), (self.gradient, per_block)]
        if self.wide.cells and self.wide is not self.state:
            placed.append((self.wide, rows))
        # neighbouring threads of a card handle neighbouring blocks: keep those side by side
        together = self._runtime.device.type == "cuda"
        for buffer, number in placed:
            buffer.allocate(builder, number, blocks_together=together)
        self.integers = ti.field(ti.i32)
        builder.dense(ti.i, len(self.constants()[2])).place(self.integers)
        self._tree = builder.finalize()

    def fill(self, constants: tuple[np.ndarray, ...]) -> None:
        """Writes a model's constants."""
        shared, fitted, integers = constants
        self.shared.fill(shared, self._runtime.numpy)
        self.fitted.fill(fitted, self._runtime.numpy)
        self.integers.from_numpy(integers)

    @procedure
    def load_fitted(self, block, cells: ti.template()):
        """`fitted` from what a launch brings, in the order of `Buffer.values`."""
        for items in ti.static(self.fitted.everything):
            for i in range(items.number):
                at = items.begin + i * items.width
                if ti.static(items.width == 1):
                    items[block, i] = cells[block, at]
                else:
                    items[block, i] = ti.Matrix.rows([cells[block, at + k] for k in ti.static(range(items.width))])

    @procedure
    def clear_gradient(self, block):
        """`gradient` = 0."""
        for items in ti.static(self.gradient.everything):
            for i in range(items.number):
                items[block, i] = items[block, i] * 0.0

    @procedure
    def store_gradient(self, block, cells: ti.template()):
        """`gradient` to what a launch takes away."""
        for items in ti.static(self.gradient.everything):
            for i in range(items.number):
                at = items.begin + i * items.width
                entry = items[block, i]
                if ti.static(items.width == 1):
                    cells[block, at] = entry
                else:
                    for k in ti.static(range(items.width)):
                        cells[block, at + k] = entry[k, :]

    def destroy(self) -> None:
        """Gives the memory back."""
        if self._tree is not None:
            self._tree.destroy()
            self._tree = None
