"""What `Simulator.fibres` gives: `FibreData`, and by which entries of a state."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from taichi_sim.muscles.fibres import NUM_INPUTS, NUM_RESULTS
from taichi_sim.types import GAIN_MUSCLE, JNT_BALL, TRN_JOINT, TRN_TENDON, Model


@dataclasses.dataclass
class FibreData:
    """The fibres of the muscles, (N, nu) each, all differentiable; 0 for other actuators.

    A fibre's force is along itself, not along its tendon (`muscles.laws`). Gradients flow to qpos, qvel, act and ctrl,
    but not to the position of a unit on a ball, or on a joint that an equality determines.

    | field | meaning |
    |---|---|
    | length, velocity | [m], [m/s]; lengthening is positive |
    | active_force | F0 a FL FV, the pull of its activation [N] |
    | passive_force | F0 (FP + beta w), that of its stretch and its damping [N] |
    | isometric_force | F0 a FL, the active force if it stood still [N] |
    | activation, excitation | the entry in act, or else the control; the control, clamped to [0, 1] |
    """

    length: torch.Tensor
    velocity: torch.Tensor
    active_force: torch.Tensor
    passive_force: torch.Tensor
    isometric_force: torch.Tensor
    activation: torch.Tensor
    excitation: torch.Tensor


class Units:
    """Which entries of the state and the controls the muscles of a model depend on.

    Args:
        model: whose muscles.
        tensor: makes tensors of the simulator's precision and device from arrays.
    """

    def __init__(self, model: Model, tensor):
        def pairs(where, targets):
            """Muscles and their entries, for those of which `where` holds."""
            units = np.flatnonzero(where & (model.actuator_gaintype == GAIN_MUSCLE))
            return tensor(units).long(), tensor(np.asarray(targets)[units]).long()

        on_tendon, on_joint = (model.actuator_trntype == kind for kind in (TRN_TENDON, TRN_JOINT))
        joint = model.actuator_trnid * on_joint
        dependent = np.isin(joint, model.eq_joint1) & model.opt.equality
        scalar = on_joint & (model.jnt_type[joint] > JNT_BALL) & ~dependent
        self._gear = tensor(model.actuator_gear[:, 0])
        self._tendon = pairs(on_tendon, model.actuator_trnid)
        self._qpos, self._qvel = pairs(scalar, model.jnt_qposadr[joint]), pairs(scalar, model.jnt_dofadr[joint])
        acts = model.actuator_actadr >= 0
        self._act, self._strain = (pairs(adr >= 0, adr) for adr in (model.actuator_actadr, model.muscle_tendonadr))
        self._ctrl = pairs(~acts, np.arange(model.nu))
        limited = model.actuator_ctrllimited & model.opt.clampctrl
        low, high = np.where(limited[:, None], model.actuator_ctrlrange, [-np.inf, np.inf]).T
        self._low, self._high = tensor(low), tensor(high)
        self._sizes = model.ntendon, model.nq, model.nv, model.na

    def data(self, found: torch.Tensor, act: torch.Tensor, ctrl: torch.Tensor) -> FibreData:
        """What `Measure` has found, with what drives the muscles."""
        control = torch.minimum(torch.maximum(ctrl, self._low), self._high)
        units, entries = self._act
        activation = control.index_copy(1, units, act[:, entries]) if len(units) else control
        return FibreData(*found.unbind(1), activation=activation, excitation=control.clamp(0, 1))

    def spread(self, bars: torch.Tensor, ctrl: torch.Tensor):
        """Adjoints of the tendons' lengths and velocities, and of the state and the controls by other ways.

        Args:
            bars: adjoints of each unit's length, velocity, tendon's strain and activation, (N, 4, nu).
            ctrl: the controls.
        """
        length, velocity, strain, activation = bars.unbind(1)
        tendons, nq, nv, na = self._sizes

        def summed(size, *parts):
            total = bars.new_zeros(len(bars), size)
            for (units, entries), bar in parts:
                total.index_add_(1, entries, bar[:, units])
            return total

        length, velocity = length * self._gear, velocity * self._gear
        by_tendons = [summed(tendons, (self._tendon, bar)) for bar in (length, velocity)]
        inside = (ctrl >= self._low) & (ctrl <= self._high)
        motion = [summed(nq, (self._qpos, length)), summed(nv, (self._qvel, velocity))]
        drive = [
            summed(na, (self._act, activation), (self._strain, strain)),
            summed(ctrl.shape[1], (self._ctrl, activation)) * inside,
        ]
        return torch.cat(by_tendons, dim=1), torch.cat(motion, dim=1), torch.cat(drive, dim=1)


class Measure(torch.autograd.Function):
    """`muscles.fibres.measure`: from (qpos, qvel), (act, ctrl, mocap) to the results, (N, 5, nu)."""

    @staticmethod
    def forward(ctx, motion, drive, cells, sim):
        m = sim._m
        packed = torch.cat([motion, drive], dim=1).detach()
        sim._require_finite(packed, "", sim._looks.count())
        # other actuators' stay 0
        results, slopes = (sim._empty(n * m.nu).zero_() for n in (NUM_RESULTS, NUM_RESULTS * NUM_INPUTS))
        sim._engine.measure(sim._constants, (sim._to_lanes(packed, sim._rest), sim._fitted(cells), results, slopes))
        ctx.sim, ctx.constants = sim, sim._constants
        ctx.save_for_backward(motion, drive, slopes)
        return sim._from_lanes(results).reshape(len(motion), NUM_RESULTS, m.nu)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        sim, (motion, drive, slopes) = ctx.sim, ctx.saved_tensors
        m = sim._m
        grad = sim._to_lanes(grad.reshape(len(grad), -1)).reshape(-1, NUM_RESULTS, 1, m.nu, slopes.shape[2])
        bars = (slopes.reshape(-1, NUM_RESULTS, NUM_INPUTS, m.nu, slopes.shape[2]) * grad).sum(1)
        bars = sim._from_lanes(bars.reshape(len(slopes), NUM_INPUTS * m.nu, -1)).reshape(len(motion), NUM_INPUTS, m.nu)
        by_tendons, by_motion, by_drive = sim._units.spread(bars, drive[:, m.na : m.na + m.nu])
        by_drive = torch.nn.functional.pad(by_drive, (0, m.nmocap))
        if m.tendon.number:
            further = sim._kinematic_adjoint(ctx.constants, motion, drive, None, by_tendons)
            by_motion, by_drive = by_motion + further[0], by_drive + further[1]
        return by_motion, by_drive, None, None
