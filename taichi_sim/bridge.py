"""Torch on one side, Taichi's kernels on the other: `Simulator`, the only place where they meet."""

from __future__ import annotations

import math

import numpy as np
import torch

from taichi_sim import forward
from taichi_sim.engine import Bound
from taichi_sim.lanes.buffers import require_indexable
from taichi_sim.parameters import Parameters
from taichi_sim.readout.fibres import FibreData, Measure, Units
from taichi_sim.readout.results import ForwardData, Layout
from taichi_sim.records import reporting, taping
from taichi_sim.types import Model, State


class Simulator(Bound):
    """Steps many worlds of one model side by side; gradients flow through torch's autograd.

    Of `model.opt` timestep, substeps, theta and gravity may change from step to step; all else about the model is fixed
    from here on, and refuses to be changed (copy.deepcopy gives a model that can be). Simulators of models that differ
    in figures alone share compiled kernels. They may be copied, pickled, and used from several threads, which then take
    turns.

    Args:
        model: what `taichi_sim.load` returns.
        num_worlds: number of worlds, N.
        parameters: names of model constants that `step` takes as tensors and gives gradients for: body_mass,
            body_inertia, body_ipos, dof_armature, dof_damping, dof_frictionloss, jnt_stiffness, pair_mu, pair_spin_mu,
            pair_roll_mu, actuator_gainprm, actuator_biasprm, muscle_force, muscle_optimal_length, muscle_slack_length,
            muscle_timeconst. None cost nothing.
        check_finite: look for non-finite numbers in what enters a step and in its gradient; without it they spread. On
            CUDA 64 looks are taken together, or those that there are by `require_finite`.

    Raises:
        ValueError: `num_worlds` is not a positive integer, or a parameter is unknown.
        MemoryError: there is not enough memory for so many worlds.
    """

    def __init__(self, model: Model, num_worlds: int = 1, *, parameters=(), check_finite: bool = True):
        declared = Parameters.check(parameters)
        super().__init__(model, num_worlds, declared)
        self.check_finite = check_finite
        self.device, self.dtype = self._runtime.device, self._runtime.dtype
        self._declared, self._parameters = declared, None
        if declared:
            figures = self._constants[1]
            self._parameters = Parameters(model, self._m, figures, declared, self.dtype, self.device)
        sizes = {"qpos": model.nq, "qvel": model.nv, "act": model.na, "ctrl": model.nu, "mocap": 7 * model.nmocap}
        self._looks = _Looks(num_worlds, sizes, at_once=self.device.type == "cpu")
        # stands for the tape, or for fitted constants, where there are none
        self._nothing = self._empty(1)
        self._layout, self._units = Layout(model, self._m.contact.slots(), self._tensor), Units(model, self._tensor)
        self._is_strain = self._tensor(np.isin(np.arange(model.na), model.muscle_tendonadr)).bool()
        # lanes beyond the last world are filled with a state at rest, which every model can simulate
        self._rest = self._tensor(self._resting())
        self._mocap0 = self._tensor(model.mocap0)

    def __reduce__(self):
        # a copy shares kernels, not memory
        return _rebuild, (self.model, self.num_worlds, self._declared, self.check_finite)

    def resized(self, num_worlds: int) -> Simulator:
        """Another of the same model, parameters and checks."""
        return _rebuild(self.model, num_worlds, self._declared, self.check_finite)

    def initial_state(self) -> State:
        """All worlds at rest at qpos0, dependent joints of equalities where these want them; no muscle is active,
        those with elastic tendons are in equilibrium.
        """
        n = self.num_worlds
        zeros = {"dtype": self.dtype, "device": self.device}
        state = State(
            self._rest.expand(n, -1).clone(),
            torch.zeros(n, self.model.nv, **zeros),
            torch.zeros(n, self.model.na, **zeros),
        )
        return self.equilibrium(state)

    def equilibrium(self, state: State, ctrl=None, parameters: dict | None = None, mocap=None) -> State:
        """The same state with the strains of elastic tendons at which the fibres stand still.

        For its positions, as if at rest, and its activations (of muscles without activation dynamics: its controls).
        Strains are detached; without elastic tendons it is the state itself.

        Args, Raises: as in `forward`.
        """
        if not self._m.actuator.elastic:
            return state
        qpos, qvel, act, ctrl = self.inputs(state, self._controls(ctrl))
        still = torch.zeros_like(qvel), act.masked_fill(self._is_strain, 0.0)
        packed = torch.cat([qpos, *still, ctrl, self._placed(mocap)], dim=1).detach()
        self._require_finite(packed, "", self._looks.count())
        strains = self._report(packed, self._cells(parameters), self._constants)["strains"]
        found = act.detach().new_zeros(act.shape)
        adr = self._tensor(self.model.muscle_tendonadr).long()
        found[:, adr[adr >= 0]] = strains[:, adr >= 0]
        return State(qpos, qvel, torch.where(self._is_strain, found, act))

    def tape_bytes(self, substeps: int | None = None) -> int:
        """Memory [bytes] that a step with gradient keeps for its backward pass; None: with the model's substeps."""
        substeps = self.model.opt.substeps if substeps is None else substeps
        return self._blocks * self._lanes * taping.total(self._m, substeps) * self.dtype.itemsize

    def step(self, state: State, ctrl, parameters: dict | None = None, mocap=None) -> State:
        """Advances all worlds by one control step of `model.opt.substeps` substeps.

        Args:
            state: qpos (N, nq), qvel (N, nv), act (N, na); anything with `__dlpack__` is taken.
            ctrl: controls, (N, nu), held over the control step.
            parameters: values of declared parameters by name, shaped as in the Model or with a leading axis of N; the
                others keep the model's figures.
            mocap: poses of the mocap bodies, (N, nmocap, 7): positions [m] and quaternions (w, x, y, z), of any length
                but zero, held over the control step; None: as in the file (`Model.mocap0`).

        Returns:
            The next state. Gradients flow to qpos, qvel, act, ctrl, the parameters and mocap. What a joint equality
            determines by substitution follows its independent joint: entries of the state for joint1 are not read, and
            their gradients are 0.

        Raises:
            ValueError: a shape, dtype or device does not fit.
            FloatingPointError: a number is not finite, here or in the backward pass; the message names the world and
                the quantity.
        """
        self._follow_options()
        qpos, qvel, act, ctrl = self.inputs(state, ctrl)
        out = _Step.apply(torch.cat([qpos, qvel, act, ctrl, self._placed(mocap)], dim=1), self._cells(parameters), self)
        return State(*out.split([self.model.nq, self.model.nv, self.model.na], dim=1))

    def forward(self, state: State, ctrl=None, parameters: dict | None = None, mocap=None) -> ForwardData:
        """Poses, motions, mass matrix and forces of a state, without a step.

        Where bodies are and how they move is computed at once, the rest when it is first asked for.

        Args:
            state: as in `step`.
            ctrl: controls, (N, nu); zero if left out.
            parameters, mocap: as in `step`.

        Returns:
            `ForwardData`. Gradients flow from what it calls differentiable to qpos, qvel and mocap, from fibres to act
            and ctrl, too; the rest is detached.

        Raises:
            ValueError, FloatingPointError: as in `step`.
        """
        ctrl = self._controls(ctrl)
        self._follow_options()
        qpos, qvel, act, ctrl = self.inputs(state, ctrl)
        motion, drive = torch.cat([qpos, qvel], dim=1), torch.cat([act, ctrl, self._placed(mocap)], dim=1)
        packed = torch.cat([motion, drive], dim=1).detach()
        self._require_finite(packed, "", self._looks.count())
        # options may change before the rest is asked for
        cells, constants = self._cells(parameters), self._constants
        bodies = _Frames.apply(motion, drive, packed, cells, self)
        fitted = {
            name: self._parameters.tensor(name, value, self.num_worlds)
            for name, value in (parameters or {}).items()
            if name in Layout.FIGURES
        }
        return self._layout.data(
            bodies,
            motion,
            fitted,
            lambda: _Evaluate.apply(motion, drive, packed, cells, constants, self),
            lambda: self._fibres(motion, drive, cells),
        )

    def fibres(self, state: State, ctrl=None, parameters: dict | None = None, mocap=None) -> FibreData:
        """What the muscles' fibres do in a state: `forward(...).fibres` without the rest of it, which takes longer.

        Args: as in `forward`.

        Raises:
            ValueError, FloatingPointError: as there; also a ValueError if the model has no muscles.
        """
        qpos, qvel, act, ctrl = self.inputs(state, self._controls(ctrl))
        self._follow_options()
        motion, drive = torch.cat([qpos, qvel], dim=1), torch.cat([act, ctrl, self._placed(mocap)], dim=1)
        return self._fibres(motion, drive, self._cells(parameters))

    def _fibres(self, motion, drive, cells) -> FibreData:
        if not self._m.actuator.any_muscle:
            raise ValueError("the model has no muscles, and so no fibres: write <actuator><muscle .../></actuator>")
        act, ctrl, _ = drive.split([self.model.na, self.model.nu, self._m.nmocap], dim=1)
        return self._units.data(Measure.apply(motion, drive, cells, self), act, ctrl)

    def _controls(self, ctrl):
        """The controls, zero if there are none."""
        if ctrl is None:
            return torch.zeros(self.num_worlds, self.model.nu, dtype=self.dtype, device=self.device)
        return ctrl

    def _placed(self, mocap) -> torch.Tensor:
        """The poses of mocap bodies as kernels take them, (N, 7 nmocap)."""
        expected = (self.num_worlds, self.model.nmocap, 7)
        if mocap is None:
            return self._mocap0.reshape(1, -1).expand(self.num_worlds, -1)
        if tuple(getattr(mocap, "shape", ())) != expected:
            raise ValueError(f"mocap must have shape {expected} (num_worlds, nmocap, pose), got {_shape(mocap)}")
        return self._check(mocap.reshape(self.num_worlds, -1), "mocap", self._m.nmocap)

    def _cells(self, parameters: dict | None):
        if self._parameters is None:
            if parameters:
                raise ValueError(
                    "declare parameters first: Simulator(model, num_worlds, parameters=('body_mass', ...))"
                )
            return None
        return self._parameters.cells(parameters or {}, self.num_worlds, check=self.check_finite)

    def inputs(self, state: State, ctrl) -> list[torch.Tensor]:
        """qpos, qvel, act and ctrl as they are asked for, as tensors; see `step` for errors."""
        m = self.model
        if not all(hasattr(state, name) for name in State._fields):
            raise ValueError(f"state must be a taichi_sim.State (qpos, qvel, act), got {type(state).__name__}")
        fields = (
            (state.qpos, "qpos", m.nq),
            (state.qvel, "qvel", m.nv),
            (state.act, "act", m.na),
            (ctrl, "ctrl", m.nu),
        )
        return [self._check(x, name, size) for x, name, size in fields]

    def _check(self, x, name: str, size: int) -> torch.Tensor:
        if not isinstance(x, torch.Tensor):
            if not hasattr(x, "__dlpack__"):
                raise ValueError(f"{name} must be a torch tensor or offer __dlpack__, got {type(x).__name__}")
            x = torch.from_dlpack(x)
        expected = (self.num_worlds, size)
        if tuple(x.shape) != expected:
            raise ValueError(f"{name} must have shape {expected} (num_worlds, entries), got {tuple(x.shape)}")
        if x.dtype != self.dtype:
            raise ValueError(f"{name} must be {self.dtype} (the precision of ts.init), got {x.dtype}")
        if x.device != self.device:
            raise ValueError(f"{name} must be on {self.device} (the device of ts.init), got {x.device}")
        return x

    def require_finite(self) -> None:
        """Looks now at what has not been looked at yet: on CUDA a look waits for the device, and steps do not.

        Raises:
            FloatingPointError: as `step`, with the step counted from the last look.
        """
        self._looks.settle()

    def _require_finite(self, x: torch.Tensor, what: str, step: int) -> None:
        if self.check_finite:
            self._looks.look(x, what, step)

    def _report(self, packed: torch.Tensor, cells: torch.Tensor | None, constants) -> dict[str, torch.Tensor]:
        """What `reporting` has of a state and controls, the parts (N, their sizes) by name."""
        m = self._m
        inputs, report = self._to_lanes(packed, self._rest), self._empty(reporting.total(m))
        self._engine.evaluate(constants, (inputs, self._fitted(cells), self._empty(m.nstate), report))
        sizes = reporting.sizes(m)
        return dict(zip(sizes, self._from_lanes(report).split(list(sizes.values()), dim=1), strict=True))

    def _kinematic_adjoint(self, constants, motion, drive, grad_bodies, grad_tendons):
        """Adjoints of (qpos, qvel) and (act, ctrl, mocap) from those of bodies' poses and velocities, and of tendons'
        lengths and velocities; None: 0.
        """
        m = self._m
        grad_motion = self._empty(m.nq + m.nv + m.nmocap)

        def in_lanes(grad, size: int) -> torch.Tensor:
            return self._empty(size).zero_() if grad is None else self._to_lanes(grad)

        bodies = in_lanes(grad_bodies, 13 * m.nbody)
        tendons = in_lanes(grad_tendons, 2 * m.tendon.number) if m.tendon.number else self._nothing
        first = drive.shape[1] - m.nmocap
        states = self._to_lanes(torch.cat([motion, drive[:, first:]], dim=1).detach(), self._rest)
        self._engine.adjoint_kinematic(constants, (states, bodies, tendons, grad_motion))
        grad_motion, grad_mocap = self._from_lanes(grad_motion).split([m.nq + m.nv, m.nmocap], dim=1)
        return grad_motion, torch.nn.functional.pad(grad_mocap, (first, 0))

    def _tensor(self, values) -> torch.Tensor:
        return torch.tensor(values, dtype=self.dtype, device=self.device)

    def _empty(self, size: int) -> torch.Tensor:
        require_indexable(self._blocks * size, f"a step of a Simulator of {self.num_worlds:,} worlds")
        return torch.empty(self._blocks, size, self._lanes, dtype=self.dtype, device=self.device)

    def _to_lanes(self, x: torch.Tensor, fill: torch.Tensor | None = None) -> torch.Tensor:
        """(N, n) -> (blocks, n, lanes); lanes without a world hold `fill`, or zero."""
        missing = self._blocks * self._lanes - self.num_worlds
        if missing:
            pad = x.new_zeros(missing, x.shape[1])
            if fill is not None:
                pad[:, : len(fill)] = fill
            x = torch.cat([x, pad])
        return x.view(self._blocks, self._lanes, -1).transpose(1, 2).contiguous()

    def _fitted(self, cells: torch.Tensor | None) -> torch.Tensor:
        """The fitted constants as kernels take them."""
        return self._to_lanes(cells.detach(), self._parameters.base) if self._m.fit else self._nothing

    def _from_lanes(self, x: torch.Tensor) -> torch.Tensor:
        """(blocks, n, lanes) -> (N, n)."""
        return x.transpose(1, 2).reshape(self._blocks * self._lanes, -1)[: self.num_worlds]


class _Looks:
    """Looks for numbers that are not finite in (N, n) tensors, the parts of a state and the controls side by side.

    Args:
        num_worlds: N.
        sizes: the parts' names and sizes.
        at_once: raise in `look`; otherwise later, so that nothing waits for the device in between.
    """

    MOST = 64

    def __init__(self, num_worlds: int, sizes: dict[str, int], *, at_once: bool):
        self._num_worlds, self._sizes, self.at_once = num_worlds, sizes, at_once
        self._pending: list[tuple[torch.Tensor, int, str, int]] = []
        self._steps = 0

    def count(self) -> int:
        """The number of a step, or of a call of `forward`, since the last look."""
        self._steps += 1
        return self._steps

    def look(self, x: torch.Tensor, what: str, step: int) -> None:
        """Raises a FloatingPointError if a number of x is not finite, now or later; `what` begins its message."""
        # the sum is finite, if no number spoils it and it does not overflow
        if self.at_once and math.isfinite(x.sum().item()):
            return
        finite = torch.isfinite(x)
        bad = ~finite.flatten()
        # whether there is one, where the first is, in how many worlds
        found = torch.stack([bad.any().long(), bad.to(torch.uint8).argmax(), (~finite).any(1).sum()])
        self._pending.append((found, x.shape[1], what, step))
        if self.at_once or len(self._pending) >= self.MOST:
            self.settle()

    def settle(self) -> None:
        """Raises a FloatingPointError if a number was not finite."""
        pending, self._pending, self._steps = self._pending, [], 0
        if not pending:
            return
        found = torch.stack([found for found, *_ in pending]).tolist()
        for (any_bad, place, worlds), (_, width, what, step) in zip(found, pending, strict=True):
            if any_bad:
                world, column = divmod(place, width)
                when = "" if self.at_once else f", in step {step} since the last look"
                raise FloatingPointError(
                    f"{what}{self._name(column)} of world {world} is not finite "
                    f"({worlds} of {self._num_worlds} worlds){when}"
                )

    def _name(self, column: int) -> str:
        for name, size in self._sizes.items():
            if column < size:
                return f"{name}[{column}]"
            column -= size
        raise IndexError(column)


def _shape(x):
    return tuple(x.shape) if hasattr(x, "shape") else type(x).__name__


def _rebuild(model: Model, num_worlds: int, parameters: tuple[str, ...], check_finite: bool) -> Simulator:
    """A Simulator from what `Simulator.__reduce__` keeps."""
    return Simulator(model, num_worlds, parameters=parameters, check_finite=check_finite)


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, packed, cells, sim: Simulator):
        m, plan = sim._m, sim._plan()
        ctx.number = sim._looks.count()
        sim._require_finite(packed, "", ctx.number)
        record = any(ctx.needs_input_grad[:2])
        tape = sim._empty(taping.total(m, plan.substeps)) if record else sim._nothing
        fitted = sim._fitted(cells)
        out = sim._empty(m.nstate)
        inputs = sim._to_lanes(packed.detach(), sim._rest)
        mode = forward.RECORD if record else forward.ADVANCE
        sim._engine.step(sim._constants, (inputs, fitted, out, tape), *plan, mode)
        # options may have changed by the time of the backward pass
        ctx.sim, ctx.constants, ctx.plan = sim, sim._constants, plan
        ctx.save_for_backward(tape, fitted)
        return sim._from_lanes(out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_out):
        sim, (tape, fitted) = ctx.sim, ctx.saved_tensors
        m = sim._m
        sim._require_finite(grad_out, "the gradient that reached a step's ", ctx.number)
        grad_in = sim._empty(m.nstate + m.nu + m.nmocap)
        grad_fitted = sim._empty(m.ncell) if m.fit else sim._nothing
        arrays = tape, fitted, sim._to_lanes(grad_out), grad_in, grad_fitted
        sim._engine.adjoint_step(ctx.constants, arrays, *ctx.plan)
        grad_in = sim._from_lanes(grad_in)
        sim._require_finite(grad_in, "the gradient of a step in ", ctx.number)
        return grad_in, sim._from_lanes(grad_fitted) if m.fit else None, None


class _Frames(torch.autograd.Function):
    """`reporting.bodies`: from (qpos, qvel), (act, ctrl, mocap), and both side by side, to (N, 13 nbody)."""

    @staticmethod
    def forward(ctx, motion, drive, packed, cells, sim: Simulator):
        bodies = sim._empty(13 * sim._m.nbody)
        inputs = sim._to_lanes(packed, sim._rest)
        sim._engine.frames(sim._constants, (inputs, sim._fitted(cells), bodies))
        ctx.sim, ctx.constants = sim, sim._constants
        ctx.save_for_backward(motion, drive)
        return sim._from_lanes(bodies)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_bodies):
        motion, drive = ctx.sim._kinematic_adjoint(ctx.constants, *ctx.saved_tensors, grad_bodies, None)
        return motion, drive, None, None, None


class _Evaluate(torch.autograd.Function):
    # of a report, first what has gradients
    PARTS = "lengths", "mass", "accelerations", "forces", "actuators", "jacobian", "contacts", "touching"

    @staticmethod
    def forward(ctx, motion, drive, packed, cells, constants, sim: Simulator):
        report = sim._report(packed, cells, constants)
        ctx.sim, ctx.constants = sim, constants
        ctx.save_for_backward(motion, drive)
        lengths, *rest = (report[name] for name in _Evaluate.PARTS)
        ctx.mark_non_differentiable(*rest)
        return lengths, *rest

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_lengths, *_):
        motion, drive = ctx.sim._kinematic_adjoint(ctx.constants, *ctx.saved_tensors, None, grad_lengths)
        return motion, drive, None, None, None, None
