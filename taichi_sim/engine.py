"""Kernels and their memory, shared by all Simulators whose models have the same structure.

Compiling takes seconds and what is compiled stays with Taichi until the process ends. So a kernel has compiled in only
sizes, switches and places (`data.structure`); a model's figures are data, written anew when another model's turn comes.
A state passes through a launch, and scratch outlives none: any number of Simulators can use the same.
"""

from __future__ import annotations

import collections
import threading
import weakref

import numpy as np

from taichi_sim import adjoint, cuda, data, forward
from taichi_sim.buffers import Fields
from taichi_sim.runtime import Runtime, exclusive, require_alive

# Blocks of worlds that one launch takes on the CPU: enough for the threads of a large machine. More worlds take several
# launches, so that scratch does not grow with them (a launch costs 0.1 ms, a block of humanoids' control step 0.1 ms).
_MOST_ROWS = 64
# Scratch [bytes] that is taken for a full launch even if there are fewer worlds, so that later ones may have more.
_GENEROUS = 16 << 20
# Engines without a Simulator whose memory is kept for the next one.
_IDLE = 8

_engines: collections.OrderedDict[tuple, Engine] = collections.OrderedDict()
_lock = threading.RLock()


class Engine:
    """Compiled kernels, and memory for `rows` blocks of worlds at a time.

    All arrays have one row per block, any number of them.
    """

    def __init__(self, m: data.DeviceModel, d: data.Data, fields: Fields, runtime: Runtime, lanes: int, rows: int):
        self.users, self.m, self.d = 0, m, d
        self.runtime, self._rows, self._fields, self._filled = runtime, rows, fields, None
        with exclusive(runtime):
            fields.allocate(rows)
            # Taichi looks at new fields when the next kernel is compiled, and must not find destroyed ones
            fields.fill(fields.constants())
        self._forward = forward.ForwardKernels(m, d, fields, runtime, lanes)
        self._adjoint = adjoint.AdjointKernels(m, d, fields, runtime, lanes)

    def step(self, constants, arrays, *plan) -> None:
        """`ForwardKernels.step`; `arrays` are its inputs, fitted, outputs, tape."""
        self._launch(constants, [(self._forward.step, arrays, plan)])

    def evaluate(self, constants, arrays, results) -> None:
        """`ForwardKernels.step` in mode EVALUATE, and then its `results`."""
        plan = 0.0, 0.0, 1, forward.EVALUATE
        self._launch(constants, [(self._forward.step, arrays, plan), (self._forward.results, results, ())])

    def adjoint_step(self, constants, arrays, *plan) -> None:
        """`AdjointKernels.step`; `arrays` are its tape, fitted, grad_outputs, grad_inputs, grad_fitted."""
        self._launch(constants, [(self._adjoint.step, arrays, plan)])

    def adjoint_kinematic(self, constants, arrays) -> None:
        """`AdjointKernels.kinematic`."""
        self._launch(constants, [(self._adjoint.kinematic, arrays, ())])

    def destroy(self) -> None:
        """Gives the memory back. The kernels stay with Taichi."""
        self._fields.destroy()

    def _launch(self, constants: tuple[np.ndarray, ...], kernels) -> None:
        """Runs the kernels one after the other, for some blocks at a time."""
        if self.runtime.device.type == "cuda":
            cuda.require_default_stream()
        with exclusive(self.runtime):
            if self._filled is not constants:
                self._fields.fill(constants)
                self._filled = constants
            blocks = len(kernels[0][1][0])
            for first in range(0, blocks, self._rows):
                for kernel, arrays, plan in kernels:
                    kernel(*(x[first : first + self._rows] for x in arrays), *plan)


def lease(
    owner, m: data.DeviceModel, d: data.Data, fields: Fields, runtime: Runtime, lanes: int, blocks: int
) -> Engine:
    """The engine for a structure: one that there is or a new one. `owner` has it for as long as it lives.

    Args:
        m, d, fields: a model's tables, scratch and memory, not allocated; they become the engine's if it is new.
        blocks: how many blocks of worlds the owner has.

    Raises:
        RuntimeError: Taichi has been ended since `runtime` (`runtime.require_alive`).
    """
    require_alive(runtime)
    rows = _rows(fields, runtime, blocks)
    key = lanes, rows, data.structure(m), data.structure(d)
    with _lock:
        for other in [k for k, engine in _engines.items() if engine.runtime is not runtime]:
            # its memory went with its program
            del _engines[other]
        engine = _engines.get(key)
        if engine is None:
            engine = _engines[key] = Engine(m, d, fields, runtime, lanes, rows)
        _engines.move_to_end(key)
        engine.users += 1
        weakref.finalize(owner, _leave, engine).atexit = False
        idle = [k for k, other in _engines.items() if other.users == 0]
        for k in idle[: max(0, len(idle) - _IDLE)]:
            _engines.pop(k).destroy()
    return engine


def _leave(engine: Engine) -> None:
    # runs whenever Python collects the owner, so nothing is destroyed here
    engine.users -= 1


def _rows(fields: Fields, runtime: Runtime, blocks: int) -> int:
    """How many blocks of worlds a launch takes: a power of two."""
    needed = 1 << (blocks - 1).bit_length()
    if runtime.device.type == "cuda":
        return needed
    if _MOST_ROWS * fields.bytes_per_row() <= _GENEROUS:
        return _MOST_ROWS
    return min(needed, _MOST_ROWS)
