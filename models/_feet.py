"""Where a robot's feet are and how they move, in torch: what a reward may ask of a state."""

from __future__ import annotations

from typing import NamedTuple

import mujoco
import numpy as np
import torch

from taichi_sim import quaternion
from taichi_sim.types import State


class _Link(NamedTuple):
    """The next hinge of each foot's leg, from the trunk outwards; a leg that has no more has one that never turns.

    | field | meaning |
    |---|---|
    | offset | from the last hinge's anchor to this one's, in the last link's frame (F, 3) |
    | turn, sine, versine | rotation from the last link's frame: turn + sin(q) sine + (1 - cos(q)) versine, (F, 3, 3) |
    | axis | in the link's frame (F, 3) |
    | qpos, dof | addresses (F,); those of the trunk's height and velocity where there is no hinge, whose axis is 0 |
    """

    offset: torch.Tensor
    turn: torch.Tensor
    sine: torch.Tensor
    versine: torch.Tensor
    axis: torch.Tensor
    qpos: torch.Tensor
    dof: torch.Tensor


class Feet:
    """The feet of a robot: its bodies with geoms that `touching` names.

    Args:
      model: the robot; its first joint is the trunk's free joint, all joints up to the feet are hinges.
      pose: qpos in which the feet stand on the ground, (nq,).
      touching: geoms of the feet.
      dtype, device: of the tensors.

    | attribute | meaning |
    |---|---|
    | offsets | phases of the feet in a walk or a trot [periods], (F,) |
    """

    def __init__(self, model: mujoco.MjModel, pose: np.ndarray, touching: list[int], dtype, device):
        self.bodies = sorted({int(model.geom_bodyid[g]) for g in touching})
        legs = [_hinges(model, body) for body in self.bodies]
        depth = max(len(leg) for leg in legs)
        # the last hinge's frame and anchor, from which the next one starts: at first the trunk's
        points = [model.geom_pos[[g for g in touching if model.geom_bodyid[g] == b]].mean(0) for b in self.bodies]
        rows = [_leg(model, leg, body, point, depth) for leg, body, point in zip(legs, self.bodies, points)]

        def stack(values, kind=dtype):
            return torch.tensor(np.stack(values), dtype=kind, device=device)

        self._links = []
        for k in range(depth):
            columns = list(zip(*(row[0][k] for row in rows)))
            kinds = (dtype,) * 5 + (torch.int64,) * 2
            self._links.append(_Link(*(stack(column, kind) for column, kind in zip(columns, kinds))))
        self._ends = stack([row[1] for row in rows])
        self._ground = torch.zeros((), dtype=dtype, device=device)
        rest = torch.tensor(pose, dtype=dtype, device=device)[None]
        still = torch.zeros(1, model.nv, dtype=dtype, device=device)
        standing = self(State(rest, still, still[:, :0]))[0][0]
        self._ground = standing[:, 2]
        self.offsets = _offsets(standing)

    def __call__(self, state: State) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions [m] and velocities [m/s] in the world, (num_envs, F, 3); heights count from those of the pose."""
        quat = state.qpos[:, None, 3:7]
        # rows of the transposed rotation are the images of the axes
        axes = torch.eye(3, dtype=quat.dtype, device=quat.device)
        rotation = quaternion.rotate(quat[:, None], axes).transpose(-1, -2)
        position, velocity = state.qpos[:, None, :3, None], state.qvel[:, None, :3]
        spin = quaternion.rotate(quat, state.qvel[:, None, 3:6])
        for link in self._links:
            arm = rotation @ link.offset[..., None]
            velocity = velocity + torch.linalg.cross(*torch.broadcast_tensors(spin, arm[..., 0]))
            position = position + arm
            angle = state.qpos[:, link.qpos][..., None, None]
            rotation = rotation @ (link.turn + angle.sin() * link.sine + (1 - angle.cos()) * link.versine)
            spin = spin + (rotation @ link.axis[..., None])[..., 0] * state.qvel[:, link.dof][..., None]
        arm = rotation @ self._ends[..., None]
        velocity = velocity + torch.linalg.cross(spin, arm[..., 0])
        position = (position + arm)[..., 0]
        ground = torch.zeros_like(position)
        ground[..., 2] = self._ground
        return position - ground, velocity


def _offsets(feet: torch.Tensor) -> torch.Tensor:
    """Phases of the feet (F,) [periods]: two take turns, of more the diagonal ones, as in a trot."""
    x, y = feet[:, 0] - feet[:, 0].mean(), feet[:, 1]
    return torch.where((y if len(feet) == 2 else x * y) > 0, 0.0, 0.5).to(feet)


def _hinges(model: mujoco.MjModel, body: int) -> list[int]:
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
        axis = m.jnt_axis[joint]
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
