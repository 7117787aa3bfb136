"""What `Simulator.forward` gives: `ForwardData`, and by it `FibreData` of the muscles."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import torch

from taichi_sim import quaternion
from taichi_sim.muscles.fibres import NUM_INPUTS, NUM_RESULTS
from taichi_sim.readout.sensors import Sensors
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


@dataclasses.dataclass
class ForwardData:
    """What `Simulator.forward` computes from a state; MuJoCo's names, one row per world.

    | field | meaning | shape |
    |---|---|---|
    | xpos, xquat | frames of the bodies [m], differentiable | (N, nbody, 3), (N, nbody, 4) |
    | xipos | centres of mass [m], differentiable | (N, nbody, 3) |
    | site_xpos | sites [m], differentiable | (N, nsite, 3) |
    | xlinvel, xangvel | velocities of the bodies' frames in world axes [m/s, rad/s], differentiable | (N, nbody, 3) |
    | xlinacc, xangacc | their accelerations in world axes, by qacc [m/s^2, rad/s^2] | (N, nbody, 3) |
    | qM | mass matrix, armature included [kg, kg m^2] | (N, nv, nv) |
    | qfrc_bias | Coriolis, centrifugal and gravity forces [N, N m] | (N, nv) |
    | qfrc_passive | springs and dampers [N, N m] | (N, nv) |
    | qfrc_limit | forces of limits of joints and tendons [N, N m] | (N, nv) |
    | qfrc_contact | contact forces [N, N m] | (N, nv) |
    | qfrc_friction | dry friction of joints and tendons [N, N m]; by the penalty at qvel, none at rest | (N, nv) |
    | xfrc_contact | contact force, moment about xipos on a body and what is fixed to it [N, N m] | (N, nbody, 6) |
    | qfrc_actuator | actuators' forces on the joints [N, N m] | (N, nv) |
    | qacc | acceleration [m/s^2, rad/s^2] | (N, nv) |
    | actuator_length, actuator_velocity | transmission's length and its rate | (N, nu) |
    | actuator_force | scalar force of the actuator [N, N m] | (N, nu) |
    | act_dot | rate of the activations [1/s] | (N, na) |
    | ten_length, ten_velocity | lengths of tendons, then slider-cranks [m], rates; differentiable | (N, ntendon) |
    | ten_J | d ten_length / d q, in the coordinates of qvel | (N, ntendon, nv) |

    | when it is asked for | meaning | shape |
    |---|---|---|
    | fibres | `FibreData` of the muscles, differentiable | |
    | sensordata, sensor(name) | what sensors read; differentiable but for forces, accelerations | (N, nsensordata) |
    """

    xpos: torch.Tensor
    xquat: torch.Tensor
    xipos: torch.Tensor
    site_xpos: torch.Tensor
    xlinvel: torch.Tensor
    xangvel: torch.Tensor
    xlinacc: torch.Tensor
    xangacc: torch.Tensor
    qM: torch.Tensor  # noqa: N815
    qfrc_bias: torch.Tensor
    qfrc_passive: torch.Tensor
    qfrc_limit: torch.Tensor
    qfrc_actuator: torch.Tensor
    qfrc_contact: torch.Tensor
    qfrc_friction: torch.Tensor
    xfrc_contact: torch.Tensor
    qacc: torch.Tensor
    actuator_length: torch.Tensor
    actuator_velocity: torch.Tensor
    actuator_force: torch.Tensor
    act_dot: torch.Tensor
    ten_length: torch.Tensor
    ten_velocity: torch.Tensor
    ten_J: torch.Tensor  # noqa: N815
    _measure: Callable[[], FibreData] = dataclasses.field(repr=False)
    _sensors: Sensors = dataclasses.field(repr=False)
    _sense: Callable[[ForwardData], torch.Tensor] = dataclasses.field(repr=False)

    @functools.cached_property
    def fibres(self) -> FibreData:
        """What the muscles' fibres do."""
        return self._measure()

    @functools.cached_property
    def _readings(self) -> torch.Tensor:
        return self._sense(self)

    @property
    def sensordata(self) -> torch.Tensor:
        """What all sensors read, in the file's order, (N, nsensordata); see `Sensors.all`."""
        return self._sensors.all(self._readings)

    def sensor(self, name: str) -> torch.Tensor:
        """What one sensor reads, (N, its numbers); see `Sensors.one`."""
        return self._sensors.one(self._readings, name)


class Layout:
    """Makes a model's `ForwardData` of what an evaluation has found.

    Args:
        model: whose.
        tensor: makes tensors of the simulator's precision and device from arrays.
    """

    # what of the model's constants matters to it, and may be fitted
    FIGURES = "body_mass", "body_inertia", "body_ipos"

    def __init__(self, model: Model, tensor):
        self._model, self._tensor = model, tensor
        self._figures = {name: tensor(getattr(model, name)) for name in self.FIGURES}
        self._site_body, self._site_pos = tensor(model.site_bodyid).long(), tensor(model.site_pos.reshape(-1, 3))
        self._moves = tensor(model.body_jntnum > 0)
        self._sensors = Sensors(model, tensor)

    def data(self, found, motion: torch.Tensor, fitted: dict[str, torch.Tensor], measure) -> ForwardData:
        """`ForwardData` of a state.

        Args:
            found: what `reporting` has, part by part, (N, numbers) each: of bodies, lengths of tendons, the mass
                matrix, accelerations, forces, actuators, the tendons' Jacobian, contacts.
            motion: qpos and qvel (N, nq + nv).
            fitted: those of FIGURES that are, with an axis of N.
            measure: gives the fibres.
        """
        m, n, figures = self._model, len(motion), self._figures | fitted
        bodies, tendons, mass, accelerations, forces, actuators, jacobian, contacts = found
        widths = [3 * m.nbody, 4 * m.nbody, 3 * m.nbody, 3 * m.nbody]
        xpos, xquat, xlinvel, xangvel = (x.reshape(n, m.nbody, -1) for x in bodies.split(widths, dim=1))
        xlinacc, xangacc = (x.reshape(n, m.nbody, 3) for x in accelerations.split(3 * m.nbody, dim=1))
        bias, passive, limit, actuation, qacc, contact, friction = forces.split(m.nv, dim=1)
        length, speed, force, act_dot = actuators.split([m.nu, m.nu, m.nu, m.na], dim=1)
        arm, gravity = quaternion.rotate(xquat, figures["body_ipos"]), self._tensor(m.opt.gravity)
        site = self._site_body
        return ForwardData(
            xpos=xpos,
            xquat=xquat,
            xipos=xpos + arm,
            site_xpos=xpos[:, site] + quaternion.rotate(xquat[:, site], self._site_pos),
            xlinvel=xlinvel,
            xangvel=xangvel,
            xlinacc=xlinacc,
            xangacc=xangacc,
            qM=mass.reshape(n, m.nv, m.nv),
            qfrc_bias=bias,
            qfrc_passive=passive,
            qfrc_limit=limit,
            qfrc_actuator=actuation,
            qfrc_contact=contact,
            qfrc_friction=friction,
            xfrc_contact=self._about_centres(contacts.reshape(n, m.nbody, 6), arm.detach()),
            qacc=qacc,
            actuator_length=length,
            actuator_velocity=speed,
            actuator_force=force,
            act_dot=act_dot,
            ten_length=tendons[:, : m.ntendon],
            ten_velocity=tendons[:, m.ntendon :],
            ten_J=jacobian.reshape(n, m.ntendon, m.nv),
            _measure=measure,
            _sensors=self._sensors,
            _sense=lambda data: self._sensors.read(data, motion, figures, gravity),
        )

    def _about_centres(self, contacts: torch.Tensor, arm: torch.Tensor) -> torch.Tensor:
        """Forces and moments about bodies' frames -> about their centres of mass, `arm` from there."""
        force, moment = contacts.split(3, dim=2)
        # a body without joints is a part of what it is fixed to
        return torch.cat([force, moment - torch.linalg.cross(arm, force)], dim=2) * self._moves[:, None]


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
