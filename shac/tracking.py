"""To follow a reference motion: a task's settings, and what it adds to body, observation, reward and beginning.

A task has no memory, so what time it is in the motion must be in the state: a body of its own, a gram that nothing
touches, slides along x at 1 m/s, and where it is [m] says how much time of the motion has passed [s]. A task may set
another pace: then all moves as much faster, and the root by its square, as steps are longer, too.
"""

from __future__ import annotations

import dataclasses
import math
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

import mujoco
import numpy as np
import torch

import taichi_sim as ts
from shac import motion
from shac.errors import UserError
from shac.task import Task, made_once
from taichi_sim.types import JNT_BALL, State

CLOCK = "reference_clock"
# Motions that come with the package: the legs of humanoid_mtu and walk_mtu, `tools/muscles/person.py`.
MOTIONS = {"person": files("shac.gait") / "person.mot"}
# Half of what following earns is lost with these root mean square errors of the joints [rad, rad/s], and of the root's
# orientation [rad], height [m] and velocity [m/s].
POSE_WIDTH, VELOCITY_WIDTH = 0.2, 2.0
TILT_WIDTH, HEIGHT_WIDTH, SPEED_WIDTH = 0.2, 0.05, 0.5


def add_slider(spec: mujoco.MjSpec, name: str) -> None:
    """Adds a body of a gram that nothing moves or stops: its place along x is a number for a task to keep."""
    body = spec.worldbody.add_body(name=name, mass=1e-3, inertia=(1e-6, 1e-6, 1e-6), explicitinertial=True)
    joint = body.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=(1, 0, 0))
    # a file's defaults hold for all its joints
    joint.limited, joint.armature, joint.frictionloss = mujoco.mjtLimited.mjLIMITED_FALSE, 0.0, 0.0
    joint.damping, joint.stiffness = 0 * np.asarray(joint.damping), 0 * np.asarray(joint.stiffness)


@dataclasses.dataclass
class Tracking(Task):
    """A base for tasks that may follow a reference motion (`shac.motion`), with a free joint as the body's first.

    Of the motion count the joints that the file has, and of the root orientation, height and velocity; where it is on
    the ground does not. The reward is `own_reward` times the task's own, and three terms w / (1 + e): `track_pose` with
    the mean square over the joints of how far they are off, over (0.2 rad)^2; `track_velocity` with that of their
    velocities, over (2 rad/s)^2; `track_root` with the sum of squares of the errors of the root's orientation over
    0.2 rad, height over 0.05 m and velocity over 0.5 m/s. Episodes begin anywhere in the motion, in its pose and with
    its velocities. Observed, behind all else, are sine and cosine of the phase; of a motion that is no cycle the share
    of its time that has passed, and when that is over, its last row is what is wanted.

    A subclass calls `observed`, `earned` and `begun` where it observes, rewards and resets, and `followed` where it
    measures; `hidden` joints at the end of its positions, and as many velocities, are none of its own.
    """

    reference: str | None = None
    """File of the motion to follow, .mot, .sto or .csv, or person: how people walk, measured; none: no such motion."""
    cyclic: bool = True
    """The motion is one cycle, to be repeated."""
    track_pose: float = 4.0
    """What joints earn that are where the motion has them; half of it where they are off by 0.2 rad."""
    track_velocity: float = 1.0
    """What joints earn that move as in the motion; half of it where they are off by 2 rad/s."""
    track_root: float = 2.0
    """What the root earns that is as in the motion, but for its place on the ground."""
    own_reward: float = 1.0
    """Weight of the task's own reward beside that."""
    follow: float | None = None
    """Share of a training in which what following earns falls evenly to nothing; none: it is followed always."""

    hidden: ClassVar[int] = 0

    def __post_init__(self):
        if self.reference is None:
            return
        if min(self.track_pose, self.track_velocity, self.track_root, self.own_reward) < 0:
            raise ValueError("track_pose, track_velocity, track_root and own_reward must not be negative")
        file = MOTIONS.get(self.reference)
        if file is None:
            # the run folder may be used from another directory
            file = self.reference = str(Path(self.reference).expanduser().resolve())
        if self.follow is not None and not 0 < self.follow <= 1:
            raise ValueError("follow must be above 0 and at most 1, or none")
        # a policy that need not follow to the end is judged by the task's own reward
        self._following = 1.0 if self.follow is None else 0.0
        spec = self.body()
        self.motion = motion.load(file, spec.compile(), self.cyclic)
        add_slider(spec, CLOCK)
        self.asset, self.hidden = spec.compile(), 1
        self.num_obs = type(self).num_obs + (2 if self.cyclic else 1)
        self._tables = {}

    def body(self) -> mujoco.MjSpec:
        """The task's body without the clock; override it where `asset` is not the name of one of the package's."""
        return mujoco.MjSpec.from_string((files("taichi_sim.assets") / f"{self.asset}.xml").read_text(encoding="utf-8"))

    def observed(self, obs: torch.Tensor, state: State) -> torch.Tensor:
        """The task's observation, and the phase behind it."""
        if self.reference is None:
            return obs
        share = state.qpos[:, -1:] / self.motion.duration
        if not self.cyclic:
            return torch.cat((obs, share.clamp(0, 1)), dim=1)
        return torch.cat((obs, (2 * math.pi * share).sin(), (2 * math.pi * share).cos()), dim=1)

    def earned(self, own: torch.Tensor, state: State) -> torch.Tensor:
        """The task's own reward (N,), and what following the motion earns."""
        if self.reference is None:
            return own
        if not self._following:
            return self.own_reward * own
        pose, velocity, root = self._errors(state)
        followed = self.track_pose / (1 + pose / POSE_WIDTH**2) + self.track_root / (1 + root)
        followed = followed + self.track_velocity / (1 + velocity / VELOCITY_WIDTH**2)
        return self.own_reward * own + self._following * followed

    def schedule(self, progress: float) -> bool:
        if self.reference is None or self.follow is None:
            return False
        before, self._following = self._following, max(0.0, 1 - progress / self.follow)
        return self._following != before

    def begun(self, state: State, generator: torch.Generator, sim: ts.Simulator, stochastic: bool) -> State:
        """Initial states, moved to where the motion is at random times, or at its beginning; muscles stay."""
        if self.reference is None:
            return state
        if sim.model.names["joint"][-1] != CLOCK:
            raise UserError(
                f"{type(self).__name__}.simulator has a body of its own, without the clock that a reference needs: "
                "override `body`, not `simulator`"
            )
        qpos, qvel = state.qpos.clone(), state.qvel.clone()
        time = torch.zeros(len(qpos), dtype=qpos.dtype, device=qpos.device)
        if stochastic:
            draw = torch.rand(len(qpos), generator=generator, dtype=qpos.dtype, device=qpos.device)
            time = self.motion.duration * draw
        table = self._table(qpos)
        row = self._row(time)
        qpos[:, 2:7], qvel[:, :6] = table.qpos[row, 2:7], table.qvel[row, :6]
        qpos[:, table.places] = table.qpos[row[:, None], table.places]
        qvel[:, table.dofs] = table.qvel[row[:, None], table.dofs]
        qpos[:, -1], qvel[:, -1] = time, 1.0
        return state._replace(qpos=qpos, qvel=qvel)

    def followed(self, states: State, alive: torch.Tensor) -> dict[str, torch.Tensor]:
        """Measures of episodes: pose_error, the root mean square of how far joints are off [deg]."""
        if self.reference is None:
            return {}
        steps, worlds = alive.shape
        pose, _, _ = self._errors(State(*(x.reshape(steps * worlds, -1) for x in states)))
        mean = (pose.reshape(steps, worlds) * alive).sum(0) / alive.sum(0)
        return {"pose_error": mean.sqrt() * (180 / math.pi)}

    def rows(self, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions and velocities of the motion, a row per millisecond, with the clock's columns of zeros."""
        table = self._table(torch.empty(0, dtype=dtype, device=device))
        return table.qpos, table.qvel

    def _errors(self, state: State) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mean square of the joints' errors [rad^2], of their velocities' [rad^2/s^2], and the root's, (N,) each."""
        table, qpos, qvel = self._table(state.qpos), state.qpos, state.qvel
        row = self._row(qpos[:, -1].detach())
        pace = qvel[:, -1:]
        wanted, speeds = table.qpos[row], table.qvel[row] * pace
        straight = (qpos - wanted[:, : qpos.shape[1]]).index_select(1, table.straight).square().sum(1)
        # 4 sin^2 of half the angle between two orientations, about its square
        products = (qpos * wanted).index_select(1, table.balls).unflatten(1, (-1, 4)).sum(2)
        turned = 4 * (1 - products.square())
        pose = (straight + turned[:, 1:].sum(1)) / (len(self.motion.joints) - 1)
        slip = (qvel - speeds).index_select(1, table.dofs).square().sum(1) / (len(self.motion.joints) - 1)
        height = (qpos[:, 2] - wanted[:, 2]) / HEIGHT_WIDTH
        drift = (qvel[:, :3] - speeds[:, :3] * pace).square().sum(1) / SPEED_WIDTH**2
        return pose, slip, turned[:, 0] / TILT_WIDTH**2 + height.square() + drift

    def _row(self, time: torch.Tensor) -> torch.Tensor:
        rows = len(self.motion.qpos)
        if self.cyclic:
            return (time * (rows / self.motion.duration)).long() % rows
        return (time * ((rows - 1) / self.motion.duration)).round().long().clamp(0, rows - 1)

    def _table(self, like: torch.Tensor) -> _Table:
        key = like.dtype, like.device
        return made_once(self._tables, key, lambda: _Table(self.motion, self.asset, like))


class _Table:
    """A motion as tensors, with a column for the clock, and columns of what is followed.

    `places` and `dofs` are positions and velocities of the joints, `straight` the places that belong to no quaternion,
    `balls` those of all quaternions, the root's first.
    """

    def __init__(self, reference: motion.Motion, m: mujoco.MjModel, like: torch.Tensor):
        def index(columns):
            return torch.tensor(columns, dtype=torch.int64, device=like.device)

        pad = (0, 1)
        self.qpos, self.qvel = (
            torch.nn.functional.pad(torch.tensor(x, dtype=like.dtype, device=like.device), pad)
            for x in (reference.qpos, reference.qvel)
        )
        straight, balls, dofs = [], list(range(3, 7)), []
        for joint in reference.joints[1:]:
            adr, dof, ball = m.jnt_qposadr[joint], m.jnt_dofadr[joint], m.jnt_type[joint] == JNT_BALL
            if ball:
                balls += range(adr, adr + 4)
            else:
                straight.append(adr)
            dofs += range(dof, dof + (3 if ball else 1))
        self.straight, self.balls, self.dofs = index(straight), index(balls), index(dofs)
        self.places = index(straight + balls[4:])
