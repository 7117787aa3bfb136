"""Walking as a command says: any robot with legs and servos, forward, sideways and turning."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

import taichi_sim as ts
from shac.mirror import Mirror
from shac.models import _robot
from shac.models._feet import Feet
from shac.models._locomotion import pushed, uniform
from shac.task import Task, constant, made_once
from taichi_sim import quaternion
from taichi_sim.types import State

# Weight of the joints' velocities in the observation.
JOINT_VELOCITY_SCALE = 0.05
# Spread of joints [rad], velocities [m/s, rad/s], tilt [rad] and height [m] at the beginning of episodes.
JOINT_SPREAD, VELOCITY_SPREAD, TILT_SPREAD, HEIGHT_SPREAD = 0.1, 0.2, 0.1, 0.02
# Numbers in the observation before the joints': linear and angular velocity, gravity, command, phase.
TRUNK = 14
# A command of no more is one to stand still [m/s, rad/s].
STILL = 0.05


@dataclasses.dataclass
class Velocity(Task):
    """A robot that is to move as it is told: docs/velocity.md.

    The robot is any MJCF file with a free base and hinges. Actions are targets of position servos, `scale` times the
    action around the pose that it stands in. The command (forward and sideways [m/s], turning [rad/s], in the trunk's
    axes) and the gait's phase are kept in the last four activations of the state.

    | observation | meaning |
    |---|---|
    | 0:3, 3:6 | linear [m/s] and angular [rad/s] velocity of the trunk, in its axes |
    | 6:9 | direction of gravity in its axes |
    | 9:12 | command |
    | 12, 13 | sine and cosine of the gait's phase |
    | n from 14 on | positions of the servos' joints, relative to the pose [rad] |
    | n | their velocities, times 0.05 [rad/s] |
    | n | the servos' targets as they are now, as actions: filtered, if `filter` is not 0 |

    Reward: what tracking, turning and being alive earn, less the costs, each with its weight.
    """

    file: str = "ant"
    """The robot: a path of MJCF, a body of this package, or a robot of an installed wheel: go1, go2, h1, g1, or one of
    mujoco-menagerie's names."""
    keyframe: str = ""
    """Keyframe of the pose that it stands in; empty: the file's first one, or qpos0."""
    pose: str = ""
    """Changes to that pose, `word=angle` separated by commas: all joints whose names have the word in them [rad]."""
    stiffness: float = 1.5
    """Stiffness of the servos in peak torques per radian, where the file has no position servos of its own."""
    damping: float = 0.025
    """Damping of those over their stiffness [s]."""
    torque: float = 0.0
    """Peak torque where the file names none [N m]."""
    filter: float = 0.02
    """Time constant with which the servos' targets follow the actions [s]; 0: at once."""
    collisions: Literal["feet", "floor", "all"] = "feet"
    """What collides: feet with the floor, all of the robot with the floor, or all that collides in the file."""
    control_step: float = 0.02
    """Control step [s]."""
    substep: float = 0.004
    """Substep of the simulation [s]; it divides the control step."""

    scale: float = 0.3
    """What an action of 1 moves a servo's target by [rad]."""
    forward: tuple[float, float] = (-1.0, 1.0)
    """Range of the forward velocities that are commanded [m/s]."""
    sideways: tuple[float, float] = (-0.5, 0.5)
    """Range of the sideways ones, to the left [m/s]."""
    turning: tuple[float, float] = (-1.0, 1.0)
    """Range of the turning ones, to the left [rad/s]."""
    standing: float = 0.1
    """Share of the commands that are 0."""
    moving: tuple[float, float] = (0.0, 0.0)
    """Range of the share of the velocity commanded that the robot begins an episode with: who begins at rest may stay
    so, and earn what standing earns (docs/velocity.md)."""
    slowing: float = 0.0
    """Share of the training over which that range widens: it begins with its higher end alone; 0: at once."""
    redraw: float = 5.0
    """Mean time after which a command is drawn anew [s]; 0: one command an episode."""
    push: float = 0.0
    """Largest change of the trunk's horizontal velocity by a push [m/s]."""
    push_every: float = 5.0
    """Mean time between two pushes [s]."""
    friction: tuple[float, float] = (1.0, 1.0)
    """Range of what an episode's friction is, over the file's."""
    payload: tuple[float, float] = (0.0, 0.0)
    """Range of the mass that the trunk carries in an episode, at its centre of mass [kg]."""

    kernel: Literal["rational", "exp"] = "rational"
    """What errors in velocity cost: 1 / (1 + e^2 / sigma^2), which has a slope far away, or exp(-e^2 / sigma^2)."""
    sigma: float = 0.5
    """Error at which tracking earns a half, or 1 / e [m/s, rad/s]."""
    tracking_weight: float = 2.0
    """What the velocity commanded earns."""
    turning_weight: float = 1.0
    """What the turning velocity commanded earns."""
    alive_weight: float = 1.0
    """What a step earns whatever it does, so that to fail costs."""
    upright_weight: float = 1.0
    """Cost of the trunk's tilt, its sine squared."""
    height_weight: float = 10.0
    """Cost of the square of the height lost or won [m]."""
    bounce_weight: float = 0.5
    """Cost of the squares of the vertical velocity and, a tenth of it, of rolling and pitching."""
    posture_weight: float = 0.2
    """Cost of the mean square of the joints' distance from the pose [rad]."""
    torque_weight: float = 0.2
    """Cost of the mean square of the torques over their peaks."""
    smoothness_weight: float = 0.1
    """Cost of the mean square of what actions differ from the filtered ones."""
    feet_weight: float = 0.0
    """Cost of the mean square of the feet's horizontal velocities, where they are not lifted by `clearance` [m/s]."""
    gait_weight: float = 2.0
    """Cost of the mean square of what feet are too low or too high, in clearances, for a walk or a trot in time; with 0
    Go1 has stood still (docs/velocity.md)."""
    gait_period: float = 0.5
    """Period of that gait [s]."""
    clearance: float = 0.06
    """How high a foot is lifted [m]: where it slides without cost, and the height of a step in the gait."""

    lowest: float = 0.6
    """An episode fails with the trunk lower than this share of its height in the pose."""
    tilt: float = 1.0
    """An episode fails with the trunk tilted by more [rad]."""
    seconds: float = 20.0
    """Length of an episode [s]."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "shac": {"num_envs": 64, "horizon": 24, "actor_optimizer": "muon", "actor_lr": 2e-3, "init_log_std": -1.5},
        "bptt": {"num_envs": 64, "horizon": 24},
        "ppo": {"num_envs": 256, "horizon": 32},
        "sac": {"num_envs": 64},
    }

    def __post_init__(self):
        positive = (
            "stiffness",
            "control_step",
            "substep",
            "scale",
            "sigma",
            "seconds",
            "push_every",
            "gait_period",
            "clearance",
        )
        for name in positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than 0, got {getattr(self, name)}")
        ratio = self.control_step / self.substep
        if abs(ratio - round(ratio)) > 1e-6:
            raise ValueError("control_step must be a whole number of substeps")
        for name in ("forward", "sideways", "turning", "moving", "friction", "payload"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must be lowest, highest, got {low}, {high}")
        if not (0 <= self.standing <= 1 and 0 <= self.lowest < 1 and 0 < self.tilt < math.pi / 2):
            raise ValueError("standing is from 0 to 1, lowest from 0 to below 1, tilt from 0 to pi / 2")
        if self.filter < 0 or self.redraw < 0 or self.push < 0 or self.damping < 0 or self.slowing < 0:
            raise ValueError("filter, redraw, push, damping and slowing must be at least 0")
        if self.smoothness_weight and not self.filter:
            raise ValueError("smoothness is measured against the filtered actions: filter=0 wants smoothness_weight=0")
        if Path(self.file).suffix:
            # a run may be gone on with in another folder
            self.file = str(Path(self.file).expanduser().resolve())
        # a robot that cannot be simulated is refused here
        _ = self.robot
        trunk = float(self.asset.body_mass[self._trunk])
        if self.friction[0] < 0 or trunk + self.payload[0] <= 0:
            raise ValueError(f"friction must be at least 0, and payload more than the trunk's {-trunk:.3g} kg")
        self._moving = self.moving
        # made when they are first asked for
        self._feet: dict[tuple[torch.dtype, torch.device], Feet] = {}

    @property
    def robot(self) -> _robot.Robot:
        """The robot, as it is simulated."""
        names = [field.name for field in dataclasses.fields(_robot.Preparation)]
        return _robot.prepare(_robot.Preparation(*(getattr(self, name) for name in names)))

    @property
    def asset(self):
        """The robot's model, compiled by MuJoCo."""
        return self.robot.model

    @property
    def episode_length(self) -> int:
        return max(1, round(self.seconds / self.control_step))

    @property
    def num_actions(self) -> int:
        return len(self.robot.joints)

    @property
    def num_obs(self) -> int:
        return TRUNK + 3 * self.num_actions

    @property
    def varied(self) -> tuple[str, ...]:
        return ("pair_mu",) * (self.friction != (1.0, 1.0)) + ("body_mass",) * (self.payload != (0.0, 0.0))

    @property
    def num_draws(self) -> int:
        return 8 if self.push else 5

    def control(self, action: torch.Tensor) -> torch.Tensor:
        targets = self._stance(action) + self.scale * action
        # the command stays, the phase goes on
        rates = constant((0.0, 0.0, 0.0, 1 / self.gait_period), action.dtype, action.device)
        return torch.cat((targets, rates.expand(len(action), 4)), dim=1)

    def observe(self, state: State, action: torch.Tensor) -> torch.Tensor:
        robot, n = self.robot, self.num_actions
        quat = quaternion.conjugate(state.qpos[:, 3:7])
        down = constant((0.0, 0.0, -1.0), quat.dtype, quat.device).expand(len(quat), 3)
        turned = quaternion.rotate(quat[:, None], torch.stack((state.qvel[:, :3], down), dim=1))
        stance, phase = self._stance(action), 2 * math.pi * state.act[:, -1:]
        joints = state.qpos[:, self._index(robot.qpos, state)] - stance
        target = (state.act[:, :n] - stance) / self.scale if self.filter else action
        return torch.cat(
            (
                turned[:, 0],
                state.qvel[:, 3:6],
                turned[:, 1],
                state.act[:, -4:-1],
                phase.sin(),
                phase.cos(),
                joints,
                JOINT_VELOCITY_SCALE * state.qvel[:, self._index(robot.dofs, state)],
                target,
            ),
            dim=1,
        )

    def reward(self, state: State, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        n = self.num_actions
        linear, angular, down, command = obs[:, :3], obs[:, 3:6], obs[:, 6:9], obs[:, 9:12]
        joints, target = obs[:, TRUNK : TRUNK + n], obs[:, TRUNK + 2 * n :]
        earned = self.tracking_weight * self._kernel((linear[:, :2] - command[:, :2]).square().sum(1))
        earned = earned + self.turning_weight * self._kernel((angular[:, 2] - command[:, 2]).square())
        earned = earned + self.alive_weight
        tilt = self.upright_weight * down[:, :2].square().sum(1)
        height = self.height_weight * (state.qpos[:, 2] - float(self.robot.pose[2])).square()
        bounce = self.bounce_weight * (linear[:, 2].square() + 0.1 * angular[:, :2].square().sum(1))
        posture = self.posture_weight * joints.square().mean(1)
        torque = self.torque_weight * self._torque(obs).square().mean(1)
        smoothness = self.smoothness_weight * (action - target).square().mean(1)
        earned = earned - tilt - height - bounce - posture - torque - smoothness
        return earned - self._steps(state) if self.feet_weight or self.gait_weight else earned

    def terminated(self, state: State, obs: torch.Tensor) -> torch.Tensor:
        fallen = state.qpos[:, 2] < self.lowest * float(self.robot.pose[2])
        return fallen | (obs[:, 8] > -math.cos(self.tilt))

    def reset(self, num: int, generator: torch.Generator, sim: ts.Simulator, stochastic: bool = True) -> State:
        state, n = self.nominal(num, sim), self.num_actions
        qpos, qvel, act = state.qpos, torch.zeros_like(state.qvel), torch.zeros_like(state.act)
        qpos[:] = constant(tuple(self.robot.pose), sim.dtype, sim.device)
        command, phase = torch.full((num, 4), 0.5, dtype=sim.dtype, device=sim.device), 0.0
        if stochastic:
            qpos[:, 2:3] += HEIGHT_SPREAD * torch.rand(num, 1, generator=generator, dtype=sim.dtype, device=sim.device)
            axis, angle = (uniform(generator, sim, num, size, 1.0) for size in (3, 1))
            turn = quaternion.from_axis_angle(axis, TILT_SPREAD * angle[:, 0])
            qpos[:, 3:7] = quaternion.multiply(turn, qpos[:, 3:7])
            qpos[:, self.robot.qpos] += uniform(generator, sim, num, n, JOINT_SPREAD)
            qvel += uniform(generator, sim, num, qvel.shape[1], VELOCITY_SPREAD)
            drawn = torch.rand(num, 5, generator=generator, dtype=sim.dtype, device=sim.device)
            command, phase = drawn[:, :4], drawn[:, 4]
        if self.filter:
            act[:, :n] = constant(tuple(self.robot.pose[self.robot.qpos]), sim.dtype, sim.device)
        wanted = self._command(command)
        act[:, -4:-1], act[:, -1] = wanted, phase
        if stochastic and self._moving != (0.0, 0.0):
            low, high = self._moving
            share = torch.rand(num, 1, generator=generator, dtype=sim.dtype, device=sim.device)
            begin = (low + (high - low) * share) * wanted
            level = torch.cat((begin[:, :2], torch.zeros_like(begin[:, :1])), dim=1)
            qvel[:, :3] += quaternion.rotate(qpos[:, 3:7], level)
            qvel[:, 5] += begin[:, 2]
        return state._replace(qpos=qpos, qvel=qvel, act=act)

    def schedule(self, progress: float) -> bool:
        (low, high), before = self.moving, self._moving
        self._moving = self.moving
        if progress < self.slowing:
            self._moving = high - progress / self.slowing * (high - low), high
        # what returns are of is the same from the moment on that the range is whole
        return before != self.moving == self._moving

    def vary(
        self, num: int, generator: torch.Generator, sim: ts.Simulator, stochastic: bool = True
    ) -> dict[str, torch.Tensor]:
        def drawn(low: float, high: float) -> torch.Tensor:
            return low + (high - low) * torch.rand(num, 1, generator=generator, dtype=sim.dtype, device=sim.device)

        constants = {
            name: constant(tuple(getattr(sim.model, name)), sim.dtype, sim.device).expand(num, -1).clone()
            for name in self.varied
        }
        if stochastic and "pair_mu" in constants:
            constants["pair_mu"] *= drawn(*self.friction)
        if stochastic and "body_mass" in constants:
            constants["body_mass"][:, self._trunk : self._trunk + 1] += drawn(*self.payload)
        return constants

    def perturb(self, state: State, draws: torch.Tensor) -> State:
        if self.redraw:
            now = draws[:, :1] < self.control_step / self.redraw
            command = torch.where(now, self._command(draws[:, 1:5]), state.act[:, -4:-1])
            state = state._replace(act=torch.cat((state.act[:, :-4], command, state.act[:, -1:]), dim=1))
        if self.push:
            state = pushed(state, draws[:, 5:], self.push, self.control_step / self.push_every)
        return state

    def mirror(self) -> Mirror | None:
        found = _robot.mirror(self.robot)
        return None if found is None else _robot.observed(*found, groups=3)

    def measures(self, states: State, alive: torch.Tensor) -> dict[str, torch.Tensor]:
        quat = quaternion.conjugate(states.qpos[..., 3:7])
        linear = quaternion.rotate(quat, states.qvel[..., :3])[..., :2]
        error = linear - states.act[..., -4:-2]
        turning = (states.qvel[..., 5] - states.act[..., -2]).abs()
        steps = alive.sum(0).clamp(min=1)
        found = {"velocity_error": error.norm(dim=-1), "forward_error": error[..., 0].abs(), "turning_error": turning}
        found["speed"] = linear.norm(dim=-1)
        found["speed_wanted"] = states.act[..., -4:-2].norm(dim=-1)
        found = {name: (values * alive).sum(0) / steps for name, values in found.items()}
        return {**found, "finished": alive[-1].to(linear.dtype)}

    @property
    def _trunk(self) -> int:
        """The body that moves freely."""
        return int(self.asset.jnt_bodyid[0])

    def _stance(self, like: torch.Tensor) -> torch.Tensor:
        """The servos' joints in the pose that it stands in [rad], (n,)."""
        return constant(tuple(self.robot.pose[self.robot.qpos]), like.dtype, like.device)

    @staticmethod
    def _index(addresses: np.ndarray, state: State) -> torch.Tensor:
        return constant(tuple(map(int, addresses)), torch.int64, state.qpos.device)

    def _kernel(self, square: torch.Tensor) -> torch.Tensor:
        square = square / self.sigma**2
        return (-square).exp() if self.kernel == "exp" else 1 / (1 + square)

    def _torque(self, obs: torch.Tensor) -> torch.Tensor:
        """The servos' torques over their peaks, unclamped, (num_envs, n)."""
        n, robot = self.num_actions, self.robot
        shares = robot.gains / robot.torque[:, None]
        stiffness, damping = (constant(tuple(x), obs.dtype, obs.device) for x in shares.T)
        joints, velocities, target = obs[:, TRUNK:].split(n, dim=1)
        return stiffness * (self.scale * target - joints) - damping * velocities / JOINT_VELOCITY_SCALE

    def _steps(self, state: State) -> torch.Tensor:
        """What the feet's sliding and their heights cost, (num_envs,)."""
        key = state.qpos.dtype, state.qpos.device
        feet = made_once(self._feet, key, lambda: self._soles(*key))
        position, velocity = feet(state)
        height = position[..., 2] / self.clearance
        sliding = ((1 - height).clamp(0, 1).square() * velocity[..., :2].square().sum(-1)).mean(1)
        cost = self.feet_weight * sliding
        if self.gait_weight:
            walks = (state.act[:, -4:-1].abs() > STILL).any(1, keepdim=True)
            lifted = walks * (2 * math.pi * (state.act[:, -1:] + feet.offsets)).sin().clamp(min=0)
            cost = cost + self.gait_weight * (height - lifted).square().mean(1)
        return cost

    def _soles(self, dtype: torch.dtype, device: torch.device) -> Feet:
        robot = self.robot
        return Feet(robot.model, robot.pose, robot.soles, dtype, device)

    def _command(self, draws: torch.Tensor) -> torch.Tensor:
        """Commands of uniform numbers from 0 to 1: (num_envs, 3) of (num_envs, 4)."""
        low, high = (
            constant(bound, draws.dtype, draws.device) for bound in zip(self.forward, self.sideways, self.turning)
        )
        command = low + (high - low) * draws[:, 1:]
        return torch.where(draws[:, :1] < self.standing, torch.zeros_like(command), command)
