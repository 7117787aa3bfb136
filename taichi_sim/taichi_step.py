"""A control step for programs written in Taichi: over their fields or ndarrays, and part of `ti.ad.Tape`."""

import weakref

import numpy as np
import torch

from taichi_sim import forward
from taichi_sim.engine import Bound
from taichi_sim.lanes.buffers import require_indexable, strip
from taichi_sim.lanes.launcher import Launcher
from taichi_sim.records import taping
from taichi_sim.runtime import exclusive, procedure, ti
from taichi_sim.types import Model


class TaichiStep(Bound):
    """The step of `Simulator` for a program written in Taichi; no torch tensors.

    A trajectory is one array with the time in front: `step(state, ctrl, t)` reads state[t] and ctrl[t] and writes
    state[t + 1]. Inside `ti.ad.Tape` it is recorded among the program's own kernels. Its gradient, exact for the
    discrete step (docs/adjoint.md), is added to state.grad[t] and ctrl.grad[t]; state.grad[t + 1] is zero after that,
    as Taichi leaves the gradient of whatever was overwritten.

    The arrays are scalar `ti.ndarray`s, which kernels read and write where they are, or scalar `ti.field`s, of which a
    step copies state[t] and ctrl[t] in and state[t + 1] out, and the backward pass the gradients of these, in and out.
    Numbers that are not finite are not looked for.

    Mocap bodies stay where the file has them. Of `model.opt` timestep, substeps, theta and gravity may change from step
    to step.

    Args:
        model: what `taichi_sim.load` returns; fixed from here on, but for those options.
        num_worlds: number of worlds, N.

    | attribute | meaning |
    |---|---|
    | nstate | nq + nv + na: a row of `state` is (qpos, qvel, act) |
    | nu | controls |
    | resting | a world at rest at qpos0, NumPy array (nstate,) |

    Raises:
        ValueError: `num_worlds` is not a positive integer.
        MemoryError: there is not enough memory for so many worlds.
    """

    def __init__(self, model: Model, num_worlds: int = 1):
        super().__init__(model, num_worlds)
        self.nstate, self.nu = self._m.nstate, model.nu
        self.resting = np.concatenate([self._resting(), np.zeros(model.nv + model.na)]).astype(self._runtime.numpy)
        self._kernels = self._engine.others(_Kernels)
        # stand for the controls of a model without any, and for the tape of a step without gradient
        self._no_ctrl = ti.ndarray(self._runtime.real, (1, 1, 1))
        self._no_tape = self._tape(1, 1)
        # by the number of substeps: tapes that no record needs any more
        self._idle: dict[int, list[torch.Tensor]] = {}
        # where fields are copied to: two times of states, one of controls
        self._staged: dict[str, object] = {}

    def __call__(self, state, ctrl, t: int) -> None:
        """state[t], ctrl[t] -> state[t + 1].

        Args:
            state: (T + 1, N, nq + nv + na).
            ctrl: controls, (T, N, nu); None for a model without any.
            t: from 0 to T - 1.

        Raises:
            ValueError: a type, precision, shape or time does not fit, or an array in a Tape has no gradient.
        """
        self._follow_options()
        state = self._port(state, "state", t, 2, self.nstate)
        ctrl = None if self.nu == 0 and ctrl is None else self._port(ctrl, "ctrl", t, 1, self.nu)
        taichi, record = ti.lang.impl.get_runtime(), None
        if taichi.target_tape is not None and not taichi.grad_replaced:
            for port in (state, ctrl):
                if port is not None:
                    port.require_gradient()
            record = _Record(self, state, ctrl)
            taichi.target_tape.insert(record, ())
        self._advance(state, ctrl, record)

    def _advance(self, state: "_Port", ctrl: "_Port | None", record: "_Record | None") -> None:
        mode, tape, plan = forward.ADVANCE, self._no_tape, self._plan()
        if record is not None:
            mode, tape, plan = forward.RECORD, record.tape, record.plan
        with exclusive(self._runtime):
            values, at = state.taken(1)
            controls, ctrl_at = (self._no_ctrl, 0) if ctrl is None else ctrl.taken(1)
            args = values, controls, tape, at, ctrl_at, self._blocks, self.num_worlds, *plan, mode
            self._engine.launch(self._constants, self._kernels.step, *args)
            state.give(1)

    def _retreat(self, state: "_Port", ctrl: "_Port | None", record: "_Record") -> None:
        with exclusive(self._runtime):
            values, at = state.taken(2, gradient=True)
            controls, ctrl_at = (self._no_ctrl, 0) if ctrl is None else ctrl.taken(1, gradient=True)
            args = values, controls, record.tape, at, ctrl_at, self._blocks, self.num_worlds, *record.plan
            self._engine.launch(record.constants, self._kernels.adjoint, *args)
            state.give(0, gradient=True)
            if ctrl is not None:
                ctrl.give(0, gradient=True)

    def _port(self, array, name: str, t: int, rows: int, size: int) -> "_Port":
        """An array as `__call__` takes it, if it is as it should be."""
        if not isinstance(array, (ti.ScalarField, ti.ScalarNdarray)):
            raise ValueError(f"{name} must be a ti.field or a ti.ndarray of scalars, got {type(array).__name__}")
        real = self._runtime.real
        if array.dtype != real:
            raise ValueError(f"{name} must be of {real} (default_fp of ti.init), got {array.dtype}")
        shape = tuple(array.shape)
        if len(shape) != 3 or shape[1:] != (self.num_worlds, size):
            raise ValueError(f"{name} must have shape (times, {self.num_worlds}, {size}), got {shape}")
        if not 0 <= t <= shape[0] - rows:
            raise ValueError(f"t is {t}, and {name} has times from 0 to {shape[0] - 1}")
        if isinstance(array, ti.ScalarNdarray):
            return _Port(array, name, t)
        if name not in self._staged:
            self._staged[name] = ti.ndarray(real, (rows, *shape[1:]))
        return _FieldPort(array, name, t, self._staged[name])

    def _memory(self, substeps: int) -> torch.Tensor:
        """The tape of a control step."""
        idle = self._idle.setdefault(substeps, [])
        return idle.pop() if idle else self._tape(self._blocks, taping.total(self._m, substeps))

    def _tape(self, blocks: int, size: int) -> torch.Tensor:
        require_indexable(blocks * size, f"a step of {self.num_worlds:,} worlds")
        shape = blocks, size, self._lanes
        return torch.empty(shape, dtype=self._runtime.dtype, device=self._runtime.device)


class _Port:
    """Some times of a ti.ndarray, which kernels take as it is."""

    def __init__(self, array, name: str, t: int):
        self.array, self.name, self.t = array, name, t

    def require_gradient(self) -> None:
        """Raises a ValueError if the array has no gradient."""
        if self.array.grad is None:
            raise ValueError(f"{self.name} is part of a ti.ad.Tape: make it with needs_grad=True")

    def taken(self, rows: int, *, gradient: bool = False):
        """An ndarray with the array's first `rows` times, or their gradients, and where they begin in it."""
        return (self.array.grad if gradient else self.array), self.t

    def give(self, first: int, *, gradient: bool = False) -> None:
        """Writes back what kernels have changed, from the time `first` on."""


class _FieldPort(_Port):
    """Some times of a ti.field, copied into an ndarray and back."""

    def __init__(self, array, name: str, t: int, staged: ti.ScalarNdarray):
        super().__init__(array, name, t)
        self._staged = staged

    def require_gradient(self) -> None:
        if not self.array.snode.ptr.has_adjoint():
            raise ValueError(f"{self.name} is part of a ti.ad.Tape: make it with needs_grad=True")

    def taken(self, rows: int, *, gradient: bool = False):
        _copy_in(self.array.grad if gradient else self.array, self._staged, self.t, rows)
        return self._staged, 0

    def give(self, first: int, *, gradient: bool = False) -> None:
        _copy_out(self.array.grad if gradient else self.array, self._staged, self.t, first)


class _Record:
    """A step as `ti.ad.Tape` keeps it: with the interface of a kernel."""

    autodiff_mode = ti.lang.kernel_impl.AutodiffMode.NONE

    def __init__(self, step: TaichiStep, state: _Port, ctrl: _Port | None):
        # options may have changed by the time of the backward pass
        self.step, self.state, self.ctrl, self.plan, self.constants = step, state, ctrl, step._plan(), step._constants
        self.tape = step._memory(self.plan.substeps)
        weakref.finalize(self, step._idle[self.plan.substeps].append, self.tape).atexit = False

    def __call__(self) -> None:
        self.step._advance(self.state, self.ctrl, self)

    def grad(self) -> None:
        self.step._retreat(self.state, self.ctrl, self)


@ti.kernel
def _copy_in(field: ti.template(), staged: ti.types.ndarray(), t: ti.i32, rows: ti.i32):
    for k, w, i in ti.ndrange(rows, staged.shape[1], staged.shape[2]):
        staged[k, w, i] = field[t + k, w, i]


@ti.kernel
def _copy_out(field: ti.template(), staged: ti.types.ndarray(), t: ti.i32, first: ti.i32):
    for k, w, i in ti.ndrange((first, staged.shape[0]), staged.shape[1], staged.shape[2]):
        field[t + k, w, i] = staged[k, w, i]


class _Kernels:
    """`ForwardKernels.step` and `AdjointKernels.step` with worlds and times as a Taichi program has them.

    Lanes beyond the last world repeat it.
    """

    def __init__(self, m, d, fields, forward_kernels, adjoint_kernels, runtime, lanes: int):
        real, stride, memory = runtime.real, runtime.task_stride, fields.types
        array = ti.types.ndarray(dtype=real, ndim=3)
        tapes = fields.strips
        advance, retreat = forward_kernels.advance, adjoint_kernels.retreat

        @ti.func
        def read(x: ti.template(), t, world, i, worlds):
            return ti.Vector([x[t, ti.min(world + k, worlds - 1), i] for k in ti.static(range(lanes))])

        @procedure
        def write(x: ti.template(), t, world, i, worlds, values):
            for k in ti.static(range(lanes)):
                if world + k < worlds:
                    x[t, world + k, i] = values[k]

        @procedure
        def add(x: ti.template(), t, world, i, worlds, values):
            for k in ti.static(range(lanes)):
                if world + k < worlds:
                    x[t, world + k, i] = x[t, world + k, i] + values[k]

        @ti.kernel
        def step(
            m0: memory.state,
            m1: memory.wide,
            m2: memory.shared,
            m3: memory.fitted,
            m4: memory.gradient,
            m5: memory.integers,
            state: array,
            ctrl: array,
            tape: tapes,
            t: ti.i32,
            ctrl_t: ti.i32,
            blocks: ti.i32,
            worlds: ti.i32,
            h: real,
            h_theta: real,
            substeps: ti.i32,
            mode: ti.i32,
        ):
            fields.bind(m0, m1, m2, m3, m4, m5)
            for block, idle in ti.ndrange(blocks, stride):
                if idle > 0:
                    continue
                e, world = fields.row(block), block * lanes
                for i in range(m.nq):
                    d.qpos[e, i] = read(state, t, world, i, worlds)
                for i in range(m.nv):
                    d.qvel[e, i] = read(state, t, world, m.nq + i, worlds)
                for i in range(m.na):
                    d.act[e, i] = read(state, t, world, m.nq + m.nv + i, worlds)
                for i in range(m.nu):
                    d.ctrl[e, i] = read(ctrl, ctrl_t, world, i, worlds)
                if ti.static(m.nmocap > 0):
                    for i in range(m.nmocap):
                        d.mocap[e, i] = m.mocap0[i]
                advance(e, strip(tape, block, taping.total(m, substeps)), h, h_theta, substeps, mode)
                for i in range(m.nq):
                    write(state, t + 1, world, i, worlds, d.qpos[e, i])
                for i in range(m.nv):
                    write(state, t + 1, world, m.nq + i, worlds, d.qvel[e, i])
                for i in range(m.na):
                    write(state, t + 1, world, m.nq + m.nv + i, worlds, d.act[e, i])

        @ti.kernel
        def adjoint(
            m0: memory.state,
            m1: memory.wide,
            m2: memory.shared,
            m3: memory.fitted,
            m4: memory.gradient,
            m5: memory.integers,
            state: array,
            ctrl: array,
            tape: tapes,
            t: ti.i32,
            ctrl_t: ti.i32,
            blocks: ti.i32,
            worlds: ti.i32,
            h: real,
            h_theta: real,
            substeps: ti.i32,
        ):
            fields.bind(m0, m1, m2, m3, m4, m5)
            for block, idle in ti.ndrange(blocks, stride):
                if idle > 0:
                    continue
                e, world = fields.row(block), block * lanes
                for i in range(m.nq):
                    d.grad_raw[e, i] = read(state, t + 1, world, i, worlds)
                for i in range(m.nv):
                    d.grad_qvel[e, i] = read(state, t + 1, world, m.nq + i, worlds)
                for i in range(m.na):
                    d.grad_act[e, i] = read(state, t + 1, world, m.nq + m.nv + i, worlds)
                for i in range(m.nstate):
                    write(state, t + 1, world, i, worlds, d.grad_qvel[e, 0] * 0.0)
                retreat(e, strip(tape, block, taping.total(m, substeps)), h, h_theta, substeps)
                for i in range(m.nq):
                    add(state, t, world, i, worlds, d.grad_raw[e, i])
                for i in range(m.nv):
                    add(state, t, world, m.nq + i, worlds, d.grad_qvel[e, i])
                for i in range(m.na):
                    add(state, t, world, m.nq + m.nv + i, worlds, d.grad_act[e, i])
                for i in range(m.nu):
                    add(ctrl, ctrl_t, world, i, worlds, d.grad_ctrl[e, i])

        self.step, self.adjoint = Launcher(step, fields), Launcher(adjoint, fields)
