"""Net moments and powers of the legs' joints, and the forces of the ground on the feet.

A joint's net moment is what muscles, springs, dampers, limits and dry friction make there together: what a laboratory
finds by inverse dynamics from motion and ground reaction, but for the armature of the joints.
"""

from __future__ import annotations

import torch

from shac.gait.legs import JOINTS, Legs, joints_of, path
from taichi_sim import ForwardData, quaternion
from taichi_sim.types import JNT_BALL, JNT_HINGE, Model, State

# About the proximal segment's axis to the left: to extend the hip turns the thigh about it, to extend the knee the
# shank against it, plantarflexion the foot about it.
_EXTENDS = {"hip": 1.0, "knee": -1.0, "ankle": 1.0}
_LEFT = (0.0, 1.0, 0.0)


def net_forces(data: ForwardData) -> torch.Tensor:
    """Generalised forces of all that acts in the joints themselves [N, N m], (N, nv)."""
    return data.qfrc_actuator + data.qfrc_passive + data.qfrc_limit + data.qfrc_friction


def moments(model: Model, legs: Legs, state: State, data: ForwardData, turned: torch.Tensor) -> torch.Tensor:
    """Net moments about the proximal segments' axes to the left [N m], (N, 2, 3); extending ones are positive.

    Args:
      model, legs: whose.
      state: the state, and
      data: what `Simulator.forward` gives of it.
      turned: `angles.anatomical`'s orientations.
    """
    forces, sides = net_forces(data), []
    left = quaternion.rotate(turned[:, :, :-1], turned.new_tensor(_LEFT))
    for side, chain in enumerate([[legs.pelvis, *leg] for leg in legs.segments.tolist()]):
        joints = []
        for k, name in enumerate(JOINTS):
            axes = _axes(model, chain[k], chain[k + 1], state.qpos, data.xquat.detach())
            along = forces[:, legs.dofs[side][k]]
            # the smallest moment that has these components along the axes: the whole one where there are three
            moment = (torch.linalg.pinv(axes) @ along[:, :, None])[:, :, 0]
            joints.append(_EXTENDS[name] * (moment * left[:, side, k]).sum(1))
        sides.append(torch.stack(joints, dim=1))
    return torch.stack(sides, dim=1)


def powers(legs: Legs, state: State, data: ForwardData) -> torch.Tensor:
    """Powers of the net moments about all axes [W], (N, 2, 3); generation is positive."""
    rate = net_forces(data) * state.qvel
    return torch.stack([torch.stack([rate[:, dofs].sum(1) for dofs in leg], dim=1) for leg in legs.dofs], dim=1)


def reactions(legs: Legs, data: ForwardData) -> torch.Tensor:
    """Contact forces on the feet [N], world axes, (N, 2, 3)."""
    return torch.stack([data.xfrc_contact[:, foot, :3].sum(1) for foot in legs.feet], dim=1)


def _axes(model: Model, above: int, below: int, qpos: torch.Tensor, xquat: torch.Tensor) -> torch.Tensor:
    """World axes of the dofs that turn `below` against `above`, (N, dofs, 3)."""
    axes = []
    for body in path(model, above, below):
        q = quaternion.multiply(xquat[:, model.body_parentid[body]], qpos.new_tensor(model.body_quat[body]))
        for joint in joints_of(model, body):
            adr, kind = model.jnt_qposadr[joint], model.jnt_type[joint]
            if kind == JNT_BALL:
                q = quaternion.multiply(q, torch.nn.functional.normalize(qpos[:, adr : adr + 4], dim=1))
                axes += [quaternion.rotate(q, row) for row in torch.eye(3, dtype=q.dtype, device=q.device)]
            elif kind == JNT_HINGE:
                axis = qpos.new_tensor(model.jnt_axis[joint])
                axes.append(quaternion.rotate(q, axis))
                angle = qpos[:, adr] - float(model.qpos0[adr])
                q = quaternion.multiply(q, quaternion.from_axis_angle(axis.expand(len(q), 3), angle))
    return torch.stack(axes, dim=1)
