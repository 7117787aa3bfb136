"""The memory that kernels read and write: arrays of which each quantity is a row of cells.

Every cell is a vector over the lanes of a block of worlds (`runtime`). What a room needs it declares first; memory is
taken when all rooms have, and filled with constants later, again for each model of the same layout (`engine`).
"""

import functools
from typing import NamedTuple

import numpy as np
import torch

from taichi_sim.lanes import vectors
from taichi_sim.lanes.vectors import of_compiler
from taichi_sim.runtime import Runtime, procedure, ti

# Bound of what is not bounded: fast-math code may assume that there are no infinities.
UNBOUNDED = 1e30

# Where something varies in memory is taken modulo this [cells]. LLVM cannot know otherwise that an index does not
# overflow, and then computes one anew for each cell instead of adding a constant (docs/learning.md).
MOST_CELLS = 1 << 30


def require_indexable(cells: int, what: str) -> None:
    """Raises a MemoryError if so many vectors, of a launch or of a card's worlds, cannot be told apart."""
    if cells >= MOST_CELLS:
        raise MemoryError(f"{what} would take {cells:,} vectors; kernels can address {MOST_CELLS:,}: divide the worlds")


def bounded(index):
    """In kernels: an index of at least 0 and less than `MOST_CELLS`, as LLVM can see."""
    return index if isinstance(index, int) else index & (MOST_CELLS - 1)


class Items:
    """A row of consecutive entries in a buffer, indexed in kernels like a field: `items[block, i]`, or `items[i]` in a
    shared buffer.

    An entry is `width` cells of L lanes: a scalar (width 1) reads as a vector of L, a 3-vector or a quaternion as
    (width, L), a vector for each component (`vectors.stack`).
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
        at = self._buffer.varying(block, i, self.width)
        if self.width == 1:
            return self._buffer.cell(at, self.begin)
        at = ti.lang.impl.expr_init(at)
        return vectors.Rows(self._buffer.cell(at, self.begin + k) for k in range(self.width))


class Ints:
    """A row of consecutive integers: `ints[i]`."""

    def __init__(self, fields: "Fields", start: int):
        self._fields, self._start = fields, start

    @property
    def place(self) -> tuple[str, int]:
        """What a kernel that uses it has compiled in."""
        return "integers", self._start

    def __getitem__(self, i):
        i = bounded(i) if self._fields.whole else i
        return ti.lang.impl.subscript(None, self._fields.integers, i + self._start)


class Buffer:
    """Cells from which `Items` are handed out, and the array that holds them: row by row, and within a row those of
    entries of one width together; on CUDA cell by cell, and the rows' together.

    Args:
        name: for `Items.place`.
        real: Taichi's type of a cell.
        lanes: worlds of a block, L.
        alike: what it holds is the same in all lanes; a cell takes a single number, and reads as a vector of L.
    """

    def __init__(self, name: str, real, lanes: int, alike: bool = False):
        self.name, self.real, self._lanes, self._alike = name, real, lanes, alike
        self._number: dict[int, int] = {}
        self._values: list[tuple[Items, np.ndarray]] = []
        self._rows, self._together = 0, False
        # what stands for the memory in the kernel that is being compiled
        self._array = None

    @property
    def cells(self) -> int:
        """Of all entries."""
        return sum(width * number for width, number in self._number.items())

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

    @property
    def type(self):
        """Of the memory, for kernels."""
        return ti.types.ndarray(dtype=self.real if self._alike else ti.types.vector(self._lanes, self.real), ndim=1)

    @property
    def layout(self) -> tuple:
        """What decides where cells are."""
        return self.name, tuple(sorted(self._number.items()))

    def like(self, other: "Buffer") -> None:
        """Takes over how many entries of each width another one has."""
        self._number = dict(other._number)

    @property
    def everything(self) -> list[Items]:
        """All entries there are, those of one width together."""
        return [Items(self, 0, number, width) for width, number in self._number.items()]

    def place(self, rows: int, together: bool) -> None:
        """Decides where cells are, of so many rows: those of a row together, or the rows' of a cell."""
        require_indexable(rows * self.cells, "the memory of a Simulator")
        self._rows, self._together = rows, together

    def allocate(self, device: torch.device) -> torch.Tensor:
        """The memory, (cells of all rows, L) or, if alike, (cells of all rows)."""
        dtype = torch.float64 if self.real is ti.f64 else torch.float32
        lanes = () if self._alike else (self._lanes,)
        self._memory = torch.zeros((max(1, self._rows * self.cells), *lanes), dtype=dtype, device=device)
        return self._memory

    def fill(self, values: np.ndarray) -> None:
        """Writes `values`, cell by cell, into all rows and lanes."""
        if len(values):
            values = torch.as_tensor(values, dtype=self._memory.dtype, device=self._memory.device)
            values = values[:, None] if self._together else values
            shape = (len(values), self._rows) if self._together else (self._rows, len(values))
            self._memory.view(*shape, -1).copy_(values[..., None])

    def bind(self, array) -> None:
        """In kernels: what the memory is called."""
        self._array = array

    def varying(self, block, i, width: int):
        """In kernels: what of the place of entry i of a width, in a row, is not known before; for `cell`."""
        if self._together:
            return i * (width * self._rows) + block
        return bounded(i * width + block * self.cells if self._rows > 1 else i * width)

    def cell(self, varying, k: int):
        """In kernels: the cell so much after cell k of `values`."""
        value = ti.lang.impl.subscript(None, self._array, varying + k * (self._rows if self._together else 1))
        return vectors.spread(value, self._lanes) if self._alike else value


@ti.data_oriented
class Strip:
    """A row of an array of vectors that a launch brings or takes away, indexed in kernels: `strip[i]`."""

    def __init__(self, array, first):
        self._array, self._first = array, first

    def __getitem__(self, i):
        return ti.lang.impl.subscript(None, self._array, bounded(self._first + i))


@of_compiler
def strip(array, row, size):
    """In kernels: row `row` of an array of `Fields.strips`, whose rows have `size` vectors."""
    return Strip(array, ti.lang.impl.expr_init(row * size))


class Memory(NamedTuple):
    """What a kernel takes before all else: arrays, or their types."""

    state: object
    wide: object
    shared: object
    fitted: object
    gradient: object
    integers: object


@ti.data_oriented
class Fields:
    """The memory of the kernels of one structure.

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
        self._buffers = self.state, self.wide, self.shared, self.fitted, self.gradient
        self.integers = None
        self._runtime, self.fit, self.precision = runtime, fit, runtime.precision
        # whether kernels keep vectors whole: a card's threads have a lane each
        self.whole = runtime.device.type == "cpu"
        self._integers: list[np.ndarray] = []

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

    def constants(self) -> tuple[np.ndarray, ...]:
        """The values of `shared`, `fitted` and `integers`."""
        return self.shared.values(), self.fitted.values(), np.concatenate(self._integers)

    @property
    def layout(self) -> tuple:
        """What kernels have compiled in of the buffers."""
        return tuple(buffer.layout for buffer in self._buffers)

    def place(self, rows: int) -> None:
        """Makes room for `rows` blocks at a time."""
        self.gradient.like(self.fitted)
        per_block = rows if self.fit else 1
        for buffer, number in zip(self._buffers, (rows, rows, 1, per_block, per_block)):
            # neighbouring threads of a card handle neighbouring blocks: keep those side by side
            buffer.place(number, together=not self.whole)

    @functools.cached_property
    def memory(self) -> Memory:
        """What kernels take before all else."""
        device = self._runtime.device
        integers = torch.zeros(sum(map(len, self._integers)), dtype=torch.int32, device=device)
        of = {buffer: buffer.allocate(device) for buffer in set(self._buffers)}
        return Memory(*(of[buffer] for buffer in self._buffers), integers)

    @property
    def types(self) -> Memory:
        """Of the memory, for kernels."""
        return Memory(*(buffer.type for buffer in self._buffers), ti.types.ndarray(dtype=ti.i32, ndim=1))

    @property
    def strips(self):
        """The type of arrays of which `strip` takes a row, in kernels."""
        return ti.types.ndarray(dtype=ti.types.vector(self.state._lanes, self.state.real), ndim=1)

    @of_compiler
    def row(self, block):
        """In kernels: the row of memory for a block of worlds. On a CPU it is the thread's own, and so in its cache; a
        card's threads have each one of a block."""
        return ti.lang.impl.call_internal("linear_thread_idx") if self.whole else block

    @of_compiler
    def bind(self, *memory) -> None:
        """In kernels, first of all: what the memory is called."""
        *arrays, self.integers = memory
        for buffer, array in zip(self._buffers, arrays, strict=True):
            buffer.bind(array)

    def fill(self, constants: tuple[np.ndarray, ...]) -> None:
        """Writes a model's constants."""
        shared, fitted, integers = constants
        self.memory.integers.copy_(torch.as_tensor(integers))
        self.shared.fill(shared)
        self.fitted.fill(fitted)

    @procedure
    def load_fitted(self, block, cells: ti.template()):
        """`fitted` from a strip that a launch brings, in the order of `Buffer.values`."""
        for items in ti.static(self.fitted.everything):
            for i in range(items.number):
                at = items.begin + i * items.width
                if ti.static(items.width == 1):
                    items[block, i] = cells[at]
                else:
                    items[block, i] = vectors.stack([cells[at + k] for k in ti.static(range(items.width))])

    @procedure
    def clear_gradient(self, block):
        """`gradient` = 0."""
        for items in ti.static(self.gradient.everything):
            for i in range(items.number):
                items[block, i] = items[block, i] * 0.0

    @procedure
    def store_gradient(self, block, cells: ti.template()):
        """`gradient` to a strip that a launch takes away."""
        for items in ti.static(self.gradient.everything):
            for i in range(items.number):
                at = items.begin + i * items.width
                entry = items[block, i]
                if ti.static(items.width == 1):
                    cells[at] = entry
                else:
                    for k in ti.static(range(items.width)):
                        cells[at + k] = entry[k, :]
