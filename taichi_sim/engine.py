"""Kernels and their memory, shared by all Simulators whose models have the same structure.

Compiling takes seconds and what is compiled stays with Taichi until the process ends. So a kernel has compiled in only
sizes, switches and places (`data.structure`); a model's figures are data, written anew when another model's turn comes.
A state passes through a launch, and scratch outlives none: any number of Simulators can use the same.
"""

from __future__ import annotations

import collections
import copy
import threading
import weakref
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from taichi_sim import adjoint, data, forward
from taichi_sim.bodies.integrators.choice import RK4, THETA
from taichi_sim.lanes.buffers import Fields
from taichi_sim.machine import cuda, memory
from taichi_sim.runtime import Runtime, exclusive, get, require_alive
from taichi_sim.types import MOST_SUBSTEPS, Model

# Blocks of worlds that one launch takes on the CPU: enough for the threads of a large machine. More worlds take several
# launches, so that scratch does not grow with them (a launch costs 0.1 ms, a block of humanoids' control step 0.1 ms).
_MOST_ROWS = 64
# On CUDA one launch takes all worlds; what has fewer than these shares memory and kernels with what has as many.
_CUDA_ROWS = 1024
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
        fields.place(rows)
        self._forward = forward.ForwardKernels(m, d, fields, runtime, lanes)
        self._adjoint = adjoint.AdjointKernels(m, d, fields, runtime, lanes)
        self._lanes, self._others = lanes, {}

    def step(self, constants, arrays, *plan) -> None:
        """`ForwardKernels.step`; `arrays` are its inputs, fitted, outputs, tape."""
        self._launch(constants, [(self._forward.step, arrays, plan)])

    def evaluate(self, constants, arrays, results) -> None:
        """`ForwardKernels.step` in mode EVALUATE, and then its `results`."""
        plan = 0.0, 0.0, 1, forward.EVALUATE
        self._launch(constants, [(self._forward.step, arrays, plan), (self._forward.results, results, ())])

    def rest(self, constants, arrays, strains) -> None:
        """`ForwardKernels.step` in mode EVALUATE, and then its `rest`."""
        plan = 0.0, 0.0, 1, forward.EVALUATE
        self._launch(constants, [(self._forward.step, arrays, plan), (self._forward.rest, (strains,), ())])

    def measure(self, constants, arrays) -> None:
        """`ForwardKernels.measure`; `arrays` are its inputs, fitted, results, slopes."""
        self._launch(constants, [(self._forward.measure, arrays, ())])

    def adjoint_step(self, constants, arrays, *plan) -> None:
        """`AdjointKernels.step`; `arrays` are its tape, fitted, grad_outputs, grad_inputs, grad_fitted."""
        self._launch(constants, [(self._adjoint.step, arrays, plan)])

    def adjoint_kinematic(self, constants, arrays) -> None:
        """`AdjointKernels.kinematic`."""
        self._launch(constants, [(self._adjoint.kinematic, arrays, ())])

    def _launch(self, constants: tuple[np.ndarray, ...], kernels) -> None:
        """Runs the kernels one after the other, for some blocks at a time."""
        if self.runtime.device.type == "cuda":
            cuda.require_default_stream()
        blocks = len(kernels[0][1][0])

        def call(first: int, rows: int) -> None:
            for kernel, arrays, plan in kernels:
                if rows < blocks:
                    arrays = [x[first : first + rows] for x in arrays]
                kernel(*arrays, *plan)

        self.run(constants, blocks, call)

    def run(self, constants: tuple[np.ndarray, ...], blocks: int, call: Callable[[int, int], None]) -> None:
        """Calls `call(first, rows)`, which launches kernels for some blocks at a time."""
        with exclusive(self.runtime):
            if self._filled is not constants:
                self._fields.fill(constants)
                self._filled = constants
            for first, rows in self.launches(blocks):
                call(first, rows)

    def launches(self, blocks: int) -> list[tuple[int, int]]:
        """The first block of each launch for so many, and how many it takes."""
        return [(first, min(self._rows, blocks - first)) for first in range(0, blocks, self._rows)]

    def others(self, make: Callable) -> object:
        """Further kernels, made once: `make(m, d, memory, forward kernels, adjoint kernels, runtime, lanes)`."""
        with _lock:
            if make not in self._others:
                ours = self.m, self.d, self._fields, self._forward, self._adjoint
                self._others[make] = make(*ours, self.runtime, self._lanes)
            return self._others[make]


# Options that are compiled in.
_SWITCHES = (
    "constraint",
    "cone",
    "contact",
    "limit",
    "spring",
    "damper",
    "friction",
    "actuation",
    "clampctrl",
    "equality",
    "coriolis",
    "integrator",
    "density",
    "viscosity",
    "wind",
)


class Plan(NamedTuple):
    """How a control step is divided: substep [s], theta times it [s], number of substeps."""

    h: float
    h_theta: float
    substeps: int


class Bound:
    """A model that kernels have been made for, in a number of worlds, and what of its options may change.

    Args:
        model: what `taichi_sim.load` returns; sealed from here on.
        num_worlds: number of worlds, N.
        declared: names of the constants that may be fitted.

    Raises:
        ValueError: `num_worlds` is not a positive integer.
        MemoryError: there is not enough memory for so many worlds.
    """

    def __init__(self, model: Model, num_worlds: int, declared: tuple[str, ...] = ()):
        if not isinstance(num_worlds, int) or num_worlds < 1:
            raise ValueError(f"num_worlds must be a positive integer, got {num_worlds!r}")
        self._runtime = get()
        self.model, self.num_worlds = model, num_worlds
        self._lanes = self._runtime.lanes(num_worlds)
        self._blocks = -(-num_worlds // self._lanes)
        fields = Fields(self._runtime, self._lanes, bool(declared))
        self._m = data.DeviceModel(model, fields, declared)
        # what comes and goes with every step: in and out, across lanes and back, with gradients
        figures = 8 * (self._m.nstate + self._m.nu) + 2 * self._m.ncell * fields.fit
        memory.require(num_worlds * figures * self._runtime.dtype.itemsize, f"a Simulator of {num_worlds:,} worlds")
        scratch = data.Data(self._m, fields)
        self._constants = fields.constants()
        self._engine = lease(self, self._m, scratch, fields, self._runtime, self._lanes, self._blocks)
        model.seal()
        self._option = copy.deepcopy(model.opt)

    def _plan(self) -> Plan:
        """As the model's options have it now."""
        opt = self.model.opt
        if self._m.integrator != THETA:
            return Plan(opt.timestep, 0.0, opt.substeps)
        # by the penalty our own step: as many evaluations of the forces as Runge-Kutta's
        share = 4 if opt.integrator == RK4 else 1
        return Plan(opt.timestep / share, opt.theta * opt.timestep / share, opt.substeps * share)

    def _resting(self) -> np.ndarray:
        """qpos0, but for joints that an equality holds elsewhere."""
        model, qpos = self.model, np.array(self.model.qpos0)
        if model.opt.equality:
            qpos[model.jnt_qposadr[model.eq_joint1]] += model.eq_polycoef[:, 0]
        return qpos

    def _follow_options(self) -> None:
        """Takes over what has changed in `model.opt`.

        Raises:
            ValueError: something has that is compiled in, or to what cannot be simulated.
        """
        now, before = self.model.opt, self._option
        # seen: 2^40 substeps are none to a kernel
        if not 1 <= now.substeps <= MOST_SUBSTEPS:
            raise ValueError(f"model.opt.substeps must be from 1 to {MOST_SUBSTEPS:,}, got {now.substeps!r}")
        for name in _SWITCHES:
            if not np.array_equal(getattr(now, name), getattr(before, name)):
                raise ValueError(
                    f"model.opt.{name} was {getattr(before, name)} when this Simulator was made and is "
                    f"{getattr(now, name)} now; what is simulated is compiled in: make a new Simulator"
                )
        if not np.array_equal(now.gravity, before.gravity):
            shared = self._constants[0].copy()
            shared[self._m.gravity.cells(0)] = _gravity(now.gravity)
            # new ones, so that backward passes of earlier steps keep theirs
            self._constants = (shared, *self._constants[1:])
            self._option = copy.deepcopy(now)


def _gravity(value) -> np.ndarray:
    gravity = np.asarray(value, float)
    if gravity.shape != (3,) or not np.isfinite(gravity).all():
        raise ValueError(f"model.opt.gravity must be three finite numbers [m/s^2], got {value!r}")
    return gravity


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
    key = lanes, rows, fields.layout, data.structure(m), data.structure(d)
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
            del _engines[k]
    return engine


def _leave(engine: Engine) -> None:
    # runs whenever Python collects the owner, so nothing is destroyed here
    engine.users -= 1


def _rows(fields: Fields, runtime: Runtime, blocks: int) -> int:
    """How many blocks of worlds a launch takes: a power of two."""
    needed = 1 << (blocks - 1).bit_length()
    if runtime.device.type == "cuda":
        return max(needed, _CUDA_ROWS)
    if _MOST_ROWS * fields.bytes_per_row() <= _GENEROUS:
        return _MOST_ROWS
    return min(needed, _MOST_ROWS)
