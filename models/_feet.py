"""Where points of a body's feet are and how they move, in torch: what a reward may ask of a state."""

from __future__ import annotations

from typing import NamedTuple

import mujoco
import numpy as np
import torch

from shac.task import constant
from taichi_sim import quaternion
from taichi_sim.types import State


class _Link(NamedTuple):
    """The next joint of each point's leg, from the trunk outwards; a leg that has no more has a hinge that never turns.

    | field | meaning |
    |---|---|
    | ball | the joints are balls, not hinges, and turn alone counts |
    | offset | from the last joint's anchor to this one's, in the last link's frame (F, 3) |
    | turn, sine, versine | rotation from the last link's frame: turn + sin(q) sine + (1 - cos(q)) versine, (F, 3, 3) |
    | axis | of a hinge, in the link's frame (F, 3) |
    | qpos, dof | addresses (F,), of balls (F, 4) and (F, 3); the trunk's height and velocity where there is no hinge |
    """

    ball: bool
    offset: torch.Tensor
    turn: torch.Tensor
    sine: torch.Tensor
    versine: torch.Tensor
    axis: torch.Tensor
    qpos: torch.Tensor
    dof: torch.Tensor


class Feet:
    """Points on the feet of a body.

    Args:
      model: the body; its first joint is the trunk's free joint, those from there to the feet are hinges and balls, and
        the k-th of a leg is of the same kind in all legs.
      pose: qpos in which the feet stand on the ground, (nq,).
      points: of each its body, and its place in the body's frame [m].
      dtype, device: of the tensors.

    | attribute | meaning |
    |---|---|
    | offsets | phases of feet of a point each in a walk or a trot [periods], (F,) |
    | ground | heights of the points in the pose [m], (F,) |
    """

    def __init__(self, model: mujoco.MjModel, pose: np.ndarray, points: list[tuple[int, np.ndarray]], dtype, device):
        legs = [_joints(model, body) for body, _ in points]
        depth = max(len(leg) for leg in legs)
        # the last joint's frame and anchor, from which the next one starts: at first the trunk's
        rows = [_leg(model, leg, body, point, depth) for leg, (body, point) in zip(legs, points)]

        def stack(values, kind=dtype):
            return torch.tensor(np.stack(values), dtype=kind, device=device)

        self._links = []
        for k in range(depth):
            (ball,) = {model.jnt_type[leg[k]] == mujoco.mjtJoint.mjJNT_BALL for leg in legs if k < len(leg)}
            columns = list(zip(*(row[0][k] for row in rows)))
            kinds = (dtype,) * 5 + (torch.int64,) * 2
            link = _Link(ball, *(stack(column, kind) for column, kind in zip(columns, kinds)))
            if ball:
                four = torch.arange(4, device=device)
                link = link._replace(qpos=link.qpos[:, None] + four, dof=link.dof[:, None] + four[:3])
            self._links.append(link)
        self._ends = stack([row[1] for row in rows])
        self.ground = torch.zeros((), dtype=dtype, device=device)
        rest = torch.tensor(pose, dtype=dtype, device=device)[None]
        still = torch.zeros(1, model.nv, dtype=dtype, device=device)
        standing = self(State(rest, still, still[:, :0]))[0][0]
        self.ground = standing[:, 2]
        self.offsets = _offsets(standing)

    def __call__(self, state: State) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions [m] and velocities [m/s] in the world, (num_envs, F, 3); heights count from those of the pose."""
        quat = state.qpos[:, None, 3:7]
        rotation = _matrix(quat)
        position, velocity = state.qpos[:, None, :3, None], state.qvel[:, None, :3]
        spin = quaternion.rotate(quat, state.qvel[:, None, 3:6])
        for link in self._links:
            arm = rotation @ link.offset[..., None]
            velocity = velocity + torch.linalg.cross(*torch.broadcast_tensors(spin, arm[..., 0]))
            position = position + arm
            if link.ball:
                rotation = rotation @ link.turn @ _matrix(state.qpos[:, link.qpos])
                spin = spin + (rotation @ state.qvel[:, link.dof][..., None])[..., 0]
                continue
            angle = state.qpos[:, link.qpos][..., None, None]
            rotation = rotation @ (link.turn + angle.sin() * link.sine + (1 - angle.cos()) * link.versine)
            spin = spin + (rotation @ link.axis[..., None])[..., 0] * state.qvel[:, link.dof][..., None]
        arm = rotation @ self._ends[..., None]
        velocity = velocity + torch.linalg.cross(spin, arm[..., 0])
        position = (position + arm)[..., 0]
        ground = torch.zeros_like(position)
        ground[..., 2] = self.ground
        return position - ground, velocity


def _matrix(quat: torch.Tensor) -> torch.Tensor:
    """Rotations (..., 3, 3) of quaternions (..., 4)."""
    # rows of the transposed rotation are the images of the axes
    axes = constant(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), quat.dtype, quat.device)
    return quaternion.rotate(quat[..., None, :], axes).transpose(-1, -2)


def _offsets(feet: torch.Tensor) -> torch.Tensor:
    """Phases of the feet (F,) [periods]: two take turns, of more the diagonal ones, as in a trot."""
    x, y = feet[:, 0] - feet[:, 0].mean(), feet[:, 1]
    return torch.where((y if len(feet) == 2 else x * y) > 0, 0.0, 0.5).to(feet)


def _joints(model: mujoco.MjModel, body: int) -> list[int]:
    """Joints from the trunk to a body."""
    joints: list[int] = []
    while body and model.body_parentid[body]:
        first = model.body_jntadr[body]
        joints = [*range(first, first + model.body_jntnum[body]), *joints] if first >= 0 else joints
        body = int(model.body_parentid[body])
    return joints


def _leg(m: mujoco.MjModel, joints: list[int], body: int, point: np.ndarray, depth: int) -> tuple[list, np.ndarray]:
    """The rows of `_Link` of one leg, padded to `depth`, and the foot's point from the last anchor."""
    # frames at qpos0's angles 0: what lies between two hinges does not move
    rows, rotation, anchor = [], np.eye(3), np.zeros(3)
    owner = _trunk(m, body)
    for joint in joints:
        base_rotation, base_position = _between(m, owner, int(m.jnt_bodyid[joint]))
        place = base_position + base_rotation @ m.jnt_pos[joint]
        # a ball turns as its quaternion says
        axis = m.jnt_axis[joint] * (m.jnt_type[joint] == mujoco.mjtJoint.mjJNT_HINGE)
        cross = np.cross(np.eye(3), axis)
        rows.append(
            (
                place - anchor,
                base_rotation,
                base_rotation @ cross,
                base_rotation @ cross @ cross,
                axis,
                m.jnt_qposadr[joint],
                m.jnt_dofadr[joint],
            )
        )
        owner, anchor = int(m.jnt_bodyid[joint]), m.jnt_pos[joint]
    while len(rows) < depth:
        rows.append((np.zeros(3), np.eye(3), np.zeros((3, 3)), np.zeros((3, 3)), np.zeros(3), 2, 2))
    rotation, position = _between(m, owner, body)
    return rows, position + rotation @ point - anchor


def _trunk(m: mujoco.MjModel, body: int) -> int:
    while m.body_parentid[body]:
        body = int(m.body_parentid[body])
    return body


def _between(m: mujoco.MjModel, ancestor: int, body: int) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (3, 3) and position (3,) of a body's frame in an ancestor's, all angles between them 0."""
    rotation, position = np.eye(3), np.zeros(3)
    while body != ancestor:
        matrix = np.zeros(9)
        mujoco.mju_quat2Mat(matrix, m.body_quat[body])
        matrix = matrix.reshape(3, 3)
        rotation, position = matrix @ rotation, m.body_pos[body] + matrix @ position
        body = int(m.body_parentid[body])
    return rotation, position
