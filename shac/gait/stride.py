"""The mean stride of a recording as a motion that a training may follow (`shac.motion`)."""

from __future__ import annotations

import dataclasses

import mujoco
import numpy as np

from shac import motion
from shac.errors import UserError
from shac.gait import strides
from shac.gait.record import Recording
from shac.gait.summary import BEGINNING
from shac.storage import Table

# Every other percent of a stride.
_EVERY = 2


def mean_stride(recording: Recording, m: mujoco.MjModel) -> Table:
    """The mean of all strides of the right leg, from contact to contact, closed to a cycle; angles in degrees.

    It begins at x = 0, and its sideways drift is taken out. Joints that do not hang on the first one are left out.

    Args:
      recording: of a body whose first joint is free.
      m: its model in MuJoCo.

    Raises:
      UserError: the first joint is not free, or there are no strides of the right leg.
    """
    if m.jnt_type[0] != motion.FREE:
        raise UserError("a stride is written of bodies whose first joint is free, as a reference motion needs it")
    first = round(BEGINNING / recording.timestep)
    found = strides.find(recording.reactions[..., 2], recording.alive, first, recording.timestep)
    found = [stride for stride in found if stride.leg == 0]
    if not found:
        raise UserError("the right leg makes no strides: there is no motion to write")
    courses = np.stack([_course(recording, stride, m) for stride in found])
    mean = courses.mean(axis=0)
    for adr in _quaternions(m):
        mean[:, adr : adr + 4] /= np.linalg.norm(mean[:, adr : adr + 4], axis=1, keepdims=True)
    share = np.linspace(0, 1, len(mean))
    mean[:, 1] -= share * (mean[-1, 1] - mean[0, 1])
    gap = motion.difference(m, mean[-1], mean[0], 1.0)
    gap[:2] = 0
    for row, part in zip(mean, share):
        mujoco.mj_integratePos(m, row, gap, part)
    joints = [j for j in range(m.njnt) if m.body_rootid[m.jnt_bodyid[j]] == m.jnt_bodyid[0]]
    duration = np.mean([stride.end - stride.start for stride in found]) * recording.timestep
    return motion.table_of(m, joints, duration * share[::_EVERY], mean[::_EVERY])


def _course(recording: Recording, stride: strides.Stride, m: mujoco.MjModel) -> np.ndarray:
    """Positions over a stride, (101, nq), from x = 0 on, quaternions with a positive real part at its beginning."""
    course = strides.resampled(recording.qpos[:, :, None], dataclasses.replace(stride, leg=0))
    course[:, :2] -= course[0, :2]
    for adr in _quaternions(m):
        if course[0, adr] < 0:
            course[:, adr : adr + 4] *= -1
    return course


def _quaternions(m: mujoco.MjModel) -> list[int]:
    """Where they begin in qpos."""
    balls = m.jnt_qposadr[m.jnt_type == motion.BALL]
    return [*(m.jnt_qposadr[m.jnt_type == motion.FREE] + 3).tolist(), *balls.tolist()]
