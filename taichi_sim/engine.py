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
from taichi_sim.option import MOST_SUBSTEPS
from taichi_sim.runtime import Runtime, exclusive, get, require_alive
from taichi_sim.types import Model

# On CUDA what has fewer blocks of worlds than these shares memory and kernels with what has as many.
_CUDA_ROWS = 1024
# Engines without a Simulator whose memory is kept for the next one.
_IDLE = 8

_engines: collections.OrderedDict[tuple, Engine] = collections.OrderedDict()
_lock = threading.RLock()


class Engine:
    """Compiled kernels, and memory for `rows` blocks of worlds at a time.

    All arrays have one row per block: on the CPU any number of them, on CUDA at most `rows`.
    """

    def __init__(self, m: data.DeviceModel, d: data.Data, fields: Fields, runtime: Runtime, lanes: int, rows: int):
        self.users, self.m, self.d = 0, m, d
        self.runtime, self._fields, self._filled = runtime, fields, None
        fields.place(rows)
        self._forward = forward.ForwardKernels(m, d, fields, runtime)
        self._adjoint = adjoint.AdjointKernels(m, d, fields, runtime)
        self._lanes, self._others = lanes, {}

    def step(self, constants, arrays, *plan) -> None:
        """`ForwardKernels.step`; `arrays` are its inputs, fitted, outputs, tape."""
        self.launch(constants, self._forward.step, *arrays, *plan)

    def evaluate(self, constants, arrays) -> None:
        """The same in mode EVALUATE; the last array takes the report."""
        self.launch(constants, self._forward.step, *arrays, 0.0, 0.0, 1, forward.EVALUATE)

    def frames(self, constants, arrays) -> None:
        """`ForwardKernels.frames`; `arrays` are its inputs, fitted, bodies."""
        self.launch(constants, self._forward.frames, *arrays)

    def measure(self, constants, arrays) -> None:
        """`ForwardKernels.measure`; `arrays` are its inputs, fitted, results, slopes."""
        self.launch(constants, self._forward.measure, *arrays)

    def adjoint_step(self, constants, arrays, *plan) -> None:
        """`AdjointKernels.step`; `arrays` are its tape, fitted, grad_outputs, grad_inputs, grad_fitted."""
        self.launch(constants, self._adjoint.step, *arrays, *plan)

    def adjoint_kinematic(self, constants, arrays) -> None:
        """`AdjointKernels.kinematic`."""
        self.launch(constants, self._adjoint.kinematic, *arrays)

    def launch(self, constants: tuple[np.ndarray, ...], kernel, *args) -> None:
        """Runs a kernel for a model with such constants."""
        if self.runtime.device.type == "cuda":
            cuda.require_default_stream()
        with exclusive(self.runtime):
            if self._filled is not constants:
                self._fields.fill(constants)
                self._filled = constants
            kernel(*args)

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
        self._option, self._seen = copy.deepcopy(model.opt), None

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
        seen = _figures(now)
        if seen == self._seen:
            return
        # 2^40 substeps are none to a kernel
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
        self._seen = seen


def _figures(opt) -> list:
    """Options that kernels or their constants follow, to be compared: sixteen looks at arrays would take 20 us."""
    values = (getattr(opt, name) for name in (*_SWITCHES, "gravity", "substeps"))
    return [x.tobytes() if isinstance(x, np.ndarray) else x for x in values]


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
    """Rows of memory: one for each thread; a card has as many as there are blocks, a power of two."""
    if fields.whole:
        return runtime.program.config().cpu_max_num_threads
    return max(1 << (blocks - 1).bit_length(), _CUDA_ROWS if runtime.device.type == "cuda" else 1)
