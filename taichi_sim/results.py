"""What `Simulator.forward` gives: `ForwardData`, and by it `FibreData` of the muscles."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import torch

from taichi_sim.muscles.fibres import NUM_INPUTS, NUM_RESULTS
from taichi_sim.types import JNT_BALL, TRN_TENDON, Model, State


@dataclasses.dataclass
class FibreData:
    """The fibres of the muscles, (N, nu) each, all differentiable; 0 for other actuators.

    A fibre's force is along itself, not along its tendon (`muscles.laws`).

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
    | qM | mass matrix, armature included [kg, kg m^2] | (N, nv, nv) |
    | qfrc_bias | Coriolis, centrifugal and gravity forces [N, N m] | (N, nv) |
    | qfrc_passive | springs and dampers [N, N m] | (N, nv) |
    | qfrc_limit | penalty forces of joint limits [N, N m] | (N, nv) |
    | qfrc_contact | contact forces [N, N m] | (N, nv) |
    | qfrc_friction | dry friction of joints and tendons at qvel: none at rest [N, N m] | (N, nv) |
    | qfrc_actuator | actuators' forces on the joints [N, N m] | (N, nv) |
    | qacc | acceleration [m/s^2, rad/s^2] | (N, nv) |
    | actuator_length, actuator_velocity | transmission's length and its rate | (N, nu) |
    | actuator_force | scalar force of the actuator [N, N m] | (N, nu) |
    | act_dot | rate of the activations [1/s] | (N, na) |
    | ten_length, ten_velocity | tendons' lengths [m] and their rates [m/s], differentiable | (N, ntendon) |
    | ten_J | d ten_length / d q, in the coordinates of qvel | (N, ntendon, nv) |

    | property | meaning |
    |---|---|
    | fibres | `FibreData` of the muscles, differentiable; computed when it is asked for |
    """

    xpos: torch.Tensor
    xquat: torch.Tensor
    xipos: torch.Tensor
    site_xpos: torch.Tensor
    qM: torch.Tensor  # noqa: N815
    qfrc_bias: torch.Tensor
    qfrc_passive: torch.Tensor
    qfrc_limit: torch.Tensor
    qfrc_actuator: torch.Tensor
    qfrc_contact: torch.Tensor
    qfrc_friction: torch.Tensor
    qacc: torch.Tensor
    actuator_length: torch.Tensor
    actuator_velocity: torch.Tensor
    actuator_force: torch.Tensor
    act_dot: torch.Tensor
    ten_length: torch.Tensor
    ten_velocity: torch.Tensor
    ten_J: torch.Tensor  # noqa: N815
    _measure: Callable[[ForwardData], FibreData] = dataclasses.field(repr=False)

    @functools.cached_property
    def fibres(self) -> FibreData:
        """What the muscles' fibres do."""
        return self._measure(self)


class Fibres:
    """Finds `FibreData` for one model.

    Args:
        model: whose muscles.
        tensor: makes tensors of the simulator's precision and device from arrays.
    """

    def __init__(self, model: Model, tensor):
        def index(values):
            return tensor(values).long()

        self._gear = tensor(model.actuator_gear[:, 0])
        on_tendon = model.actuator_trntype == TRN_TENDON
        kinds = model.jnt_type[model.actuator_trnid * ~on_tendon]
        # where a unit's length is read: among the tendons, or among the positions of hinges and slides
        self._on_tendon, self._on_joint = tensor(on_tendon).bool(), tensor(~on_tendon & (kinds > JNT_BALL)).bool()
        self._tendon = index(model.actuator_trnid * on_tendon)
        joint = model.actuator_trnid * ~on_tendon
        self._qpos, self._dof = index(model.jnt_qposadr[joint]), index(model.jnt_dofadr[joint])
        self._act, self._strain = index(model.actuator_actadr), index(model.muscle_tendonadr)
        self._range = tensor(model.actuator_ctrllimited).bool(), *tensor(model.actuator_ctrlrange).T
        self._clamped, self._elastic = model.opt.clampctrl, bool((model.muscle_tendonadr >= 0).any())
        self._joints, self._acts = bool((~on_tendon).any()), bool((model.actuator_actadr < 0).any())

    def __call__(self, data, state: State, ctrl: torch.Tensor, measure) -> FibreData:
        """The fibres of a state.

        Args:
            data: its `ForwardData`.
            state, ctrl: of which that was computed.
            measure: the kernel of `muscles.fibres`, as a differentiable function (N, 4 nu) -> (N, 5, nu).
        """
        control = ctrl
        if self._clamped:
            limited, low, high = self._range
            control = torch.where(limited, torch.minimum(torch.maximum(ctrl, low), high), ctrl)
        act = torch.cat([state.act, torch.zeros_like(state.act[:, :1])], dim=1) if self._elastic else state.act
        activation = control
        if act.shape[1]:
            activation = act[:, self._act.clamp(min=0)]
            activation = torch.where(self._act >= 0, activation, control) if self._acts else activation
        strain = act[:, self._strain] if self._elastic else torch.zeros_like(ctrl)
        inputs = torch.cat([*self._units(data, state), strain, activation], dim=1)
        found = measure(inputs).unbind(1)
        return FibreData(*found, activation=activation, excitation=control.clamp(0, 1))

    def _units(self, data, state: State):
        """Lengths and velocities of the muscle-tendon units."""
        length, velocity = data.actuator_length, data.actuator_velocity
        if data.ten_length.shape[1]:
            ours = [self._gear * x[:, self._tendon] for x in (data.ten_length, data.ten_velocity)]
            length, velocity = (
                torch.where(self._on_tendon, x, y) for x, y in zip(ours, (length, velocity), strict=True)
            )
        if self._joints:
            length = torch.where(self._on_joint, self._gear * state.qpos[:, self._qpos], length)
            velocity = torch.where(self._on_joint, self._gear * state.qvel[:, self._dof], velocity)
        return length, velocity


class Measure(torch.autograd.Function):
    """`muscles.fibres.measure`, from (N, 4 nu) to (N, 5, nu); launch(inputs) gives results and derivatives."""

    @staticmethod
    def forward(ctx, inputs, launch):
        found = launch(inputs.detach()).reshape(len(inputs), NUM_RESULTS * (1 + NUM_INPUTS), -1)
        ctx.save_for_backward(found[:, NUM_RESULTS:])
        return found[:, :NUM_RESULTS].contiguous()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (slopes,) = ctx.saved_tensors
        slopes = slopes.reshape(len(grad), NUM_RESULTS, NUM_INPUTS, -1)
        return (slopes * grad[:, :, None]).sum(1).reshape(len(grad), -1), None
