"""A reference motion: a table of joints' positions as a body's positions and velocities over time.

Columns by the names of joints: a hinge's is its name (an angle), a slide's too (in m). A ball joint JOINT has three,
JOINT_rx, JOINT_ry and JOINT_rz: its rotation as a vector, axis times angle, in the axes of the body that carries it. A
free joint has JOINT_tx, _ty and _tz [m] and these three, in the world's axes.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import mujoco
import numpy as np

from shac import storage
from shac.errors import UserError, nearest

HINGE, SLIDE, BALL, FREE = (
    int(getattr(mujoco.mjtJoint, f"mjJNT_{name}")) for name in ("HINGE", "SLIDE", "BALL", "FREE")
)
# Between two rows of a motion [s], but at most so many rows.
_SPACING, _MOST_ROWS = 1e-3, 100_000
# A cycle ends as it begins, up to this [rad, m].
_GAP = 0.2
# Angles beyond this are none in radians.
_LARGEST_ANGLE = 4 * np.pi


@dataclasses.dataclass
class Motion:
    """Positions and velocities at `rows` equidistant times, as of a model's state.

    | field | meaning | shape |
    |---|---|---|
    | joints | the model's joints that the file has, the free one first | list |
    | duration | of a cycle or of the whole [s] | scalar |
    | cyclic | it begins anew where it ends: the last row is one before the first | scalar |
    | qpos, qvel | as in `State`; joints that the file lacks are at `qpos0` and at rest | (rows, nq), (rows, nv) |
    | speed | mean speed of the root along x [m/s] | scalar |
    """

    joints: list[int]
    duration: float
    cyclic: bool
    qpos: np.ndarray
    qvel: np.ndarray
    speed: float


def columns(m: mujoco.MjModel, joint: int) -> list[str]:
    """The columns that a joint has in a table."""
    name, kind = m.joint(joint).name, m.jnt_type[joint]
    turns, moves = ([f"{name}_{letter}{axis}" for axis in "xyz"] for letter in "rt")
    return {HINGE: [name], SLIDE: [name], BALL: turns, FREE: moves + turns}[kind]


def load(path: str | Path, m: mujoco.MjModel, cyclic: bool) -> Motion:
    """The motion in a file, for a model whose first joint is free.

    Args:
      path: a .mot, .sto or .csv.
      m: whose joints.
      cyclic: whether it is a cycle.

    Raises:
      UserError: it is no table, or not of such a motion; the message names the file and what to do.
    """
    table = storage.read(path)
    joints = _joints(path, m, table)
    positions = np.tile(m.qpos0, (len(table.time), 1))
    for joint in joints:
        where = [table.names.index(name) for name in columns(m, joint)]
        adr, kind, values = m.jnt_qposadr[joint], m.jnt_type[joint], table.values[:, where].copy()
        angles = {SLIDE: values[:, :0], FREE: values[:, 3:]}.get(kind, values)
        if table.in_degrees:
            angles *= np.pi / 180
        elif np.abs(angles).max(initial=0) > _LARGEST_ANGLE:
            raise UserError(
                f"{path}: {m.joint(joint).name} turns by {np.abs(angles).max():.3g} rad; "
                "are these degrees? Then inDegrees must be yes"
            )
        if kind == FREE:
            positions[:, adr : adr + 3] = values[:, :3]
            adr += 3
        if kind in (BALL, FREE):
            for row, vector in zip(positions, angles, strict=True):
                angle = np.linalg.norm(vector)
                mujoco.mju_axisAngle2Quat(row[adr : adr + 4], vector / max(angle, 1e-300), angle)
        else:
            positions[:, adr] = values[:, 0]
    time = table.time - table.time[0]
    if cyclic:
        _check_closed(path, m, positions)
    qpos, qvel = _resampled(m, time, positions, cyclic)
    return Motion(joints, time[-1], cyclic, qpos, qvel, (positions[-1, 0] - positions[0, 0]) / time[-1])


def table_of(m: mujoco.MjModel, joints: list[int], time: np.ndarray, qpos: np.ndarray) -> storage.Table:
    """The table, in degrees, of joints' positions `qpos` (R, nq) at `time` (R,)."""
    names, values = [], []
    for joint in joints:
        adr, kind = m.jnt_qposadr[joint], m.jnt_type[joint]
        names += columns(m, joint)
        if kind == FREE:
            values += list(qpos[:, adr : adr + 3].T)
            adr += 3
        if kind in (BALL, FREE):
            vectors = np.empty((len(qpos), 3))
            for row, quat in zip(vectors, qpos[:, adr : adr + 4], strict=True):
                mujoco.mju_quat2Vel(row, quat / np.linalg.norm(quat), 1.0)
            values += list(np.degrees(vectors.T))
        else:
            values.append(np.degrees(qpos[:, adr]) if kind == HINGE else qpos[:, adr])
    return storage.Table(names, time, np.stack(values, axis=1), True)


def difference(m: mujoco.MjModel, start: np.ndarray, end: np.ndarray, duration: float) -> np.ndarray:
    """The constant velocity (nv,) that leads from one position to another."""
    velocity = np.empty(m.nv)
    mujoco.mj_differentiatePos(m, velocity, duration, start, end)
    return velocity


def _joints(path, m: mujoco.MjModel, table: storage.Table) -> list[int]:
    """The joints that the table has, which has all columns of each, and no others."""
    if m.njnt == 0 or m.jnt_type[0] != FREE:
        raise UserError(f"{path} cannot be followed: a reference motion is for bodies whose first joint is free")
    of = {name: joint for joint in range(m.njnt) for name in columns(m, joint)}
    for name in table.names:
        if name not in of:
            raise UserError(
                f"{path}: the model has no joint for column {name!r}; {nearest(name, of)} "
                "(rename the column, or take it out)"
            )
    joints = sorted({0} | {of[name] for name in table.names})
    missing = [name for joint in joints for name in columns(m, joint) if name not in table.names]
    if missing:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}: add them, also where they are constant")
    if len(joints) < 2:
        raise UserError(f"{path} has no column of a joint but {m.joint(0).name}; there are: {', '.join(of)}")
    turning = any(m.jnt_type[joint] != SLIDE for joint in joints)
    if turning and table.in_degrees is None:
        raise UserError(f"{path} does not say what angles are in: add a line inDegrees=yes, or no, before the names")
    return joints


def _check_closed(path, m: mujoco.MjModel, positions: np.ndarray) -> None:
    gap = difference(m, positions[-1], positions[0], 1.0)
    # the body may have come somewhere else
    gap[:2] = 0
    worst = np.abs(gap).argmax()
    if abs(gap[worst]) > _GAP:
        raise UserError(
            f"{path} does not end as it begins: {m.joint(m.dof_jntid[worst]).name} is off by {abs(gap[worst]):.2g} "
            "(rad or m); give a whole cycle, its last row like its first, or say cyclic=false"
        )


def _resampled(m: mujoco.MjModel, time: np.ndarray, positions: np.ndarray, cyclic: bool):
    """Positions and velocities at equidistant times; velocities are linear between those at the rows."""
    steps = np.diff(time)
    between = np.array([difference(m, a, b, h) for a, b, h in zip(positions, positions[1:], steps)])
    before, after = np.concatenate((between[-1:], between)), np.concatenate((between, between[:1]))
    if not cyclic:
        before[0], after[-1] = after[0], before[-1]
    velocities = (before + after) / 2
    rows = min(_MOST_ROWS, max(2, round(time[-1] / _SPACING)))
    qpos, qvel = np.empty((rows, m.nq)), np.empty((rows, m.nv))
    for k, now in enumerate(np.linspace(0, time[-1], rows, endpoint=not cyclic)):
        i = min(np.searchsorted(time, now, side="right") - 1, len(steps) - 1)
        share = (now - time[i]) / steps[i]
        qpos[k] = positions[i]
        mujoco.mj_integratePos(m, qpos[k], between[i], now - time[i])
        qvel[k] = (1 - share) * velocities[i] + share * velocities[i + 1]
    return qpos, qvel
