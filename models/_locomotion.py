"""What the running problems of Xu et al. 2022 share; the leading underscore keeps it from being offered as a model."""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
from typing import ClassVar

import torch
from torch.nn.functional import normalize

import taichi_sim as ts
from shac.mirror import Exchange, Mirror
from shac.task import Task, constant
from shac.tracking import Tracking
from taichi_sim import quaternion
from taichi_sim.types import State

# Weight of the joints' velocities in the observation of a body with a free torso, and of `up` in its reward.
JOINT_VELOCITY_SCALE = 0.1
UP_WEIGHT = 0.1
# Spread to each side of its initial position [m], its joints [rad], its velocities [m/s, rad/s] and its tilt [rad].
POSITION_SPREAD = 0.1
JOINT_SPREAD = 0.2
VELOCITY_SPREAD = 0.25
TILT_SPREAD = math.pi / 24
# How far what is seen of a motion and of its image may differ [m, rad, m/s, 10 rad/s].
SAME = 0.03
# Activations with which a motion is entered.
CALM = 0.05


class FreeRunner(Task):
    """A body with a free torso that is to run along x.

    The asset's first joint is the torso's free joint, at rest in the upright pose with x forward and z up; all other
    joints are of the legs, arms and trunk.

    | observation | meaning |
    |---|---|
    | 0 | height of the torso's frame [m] |
    | 1:5 | orientation relative to the upright pose, quaternion (w, x, y, z) |
    | 5:8, 8:11 | linear [m/s] and angular [rad/s] velocity of the torso, both in world axes |
    | nq - 7 from 11 on | joint positions [rad] |
    | nv - 6 from nq + 4 on | joint velocities, times 0.1 [rad/s] |
    | nq + nv - 2 | up: vertical component of the torso's z axis |
    | nq + nv - 1 | heading: component of the torso's x axis towards the target |
    | the rest | the last action |

    It is the layout of the paper's benchmark, but for the axes, which have z up here, and the quaternion's order. The
    initial linear velocity is drawn for the torso's frame, which there is at the world's origin.

    | attribute | meaning |
    |---|---|
    | start_height | height of the torso's frame in the nominal initial state [m]; None: the asset's |
    | lowest_start | no episode begins with the torso's frame lower than this [m]; None: the draw decides alone |
    | start_joints | positions of its joints there, nq - 7 of them, or one number for all; None: the asset's |
    | joint_spread | spread to each side of the joints' initial positions [rad]; 0 where there are ball joints |
    | min_height | the episode fails with the torso's frame below it [m] |
    | target_distance | the target lies on the x axis, this far from the origin [m] |
    | action_cost | weight of the action's square in the reward |
    | hidden | so many joints at the end are no part of the body, and not observed |
    """

    start_height: ClassVar[float | None] = None
    lowest_start: ClassVar[float | None] = None
    start_joints: ClassVar[tuple[float, ...] | float | None] = None
    joint_spread: ClassVar[float] = JOINT_SPREAD
    min_height: ClassVar[float]
    target_distance: ClassVar[float]
    action_cost: ClassVar[float] = 0.0
    hidden: ClassVar[int] = 0

    @abc.abstractmethod
    def height_reward(self, height: torch.Tensor) -> torch.Tensor:
        """What the torso's height [m] (num_envs,) earns."""

    def observe(self, state: State, action: torch.Tensor) -> torch.Tensor:
        return torch.cat((self.posture(state), action), dim=1)

    def posture(self, state: State) -> torch.Tensor:
        """The observation without the action, (num_envs, nq + nv)."""
        nq, nv = state.qpos.shape[1] - self.hidden, state.qvel.shape[1] - self.hidden
        position, quat, joints = state.qpos[:, :3], state.qpos[:, 3:7], state.qpos[:, 7:nq]
        linear, angular, joint_velocities = state.qvel[:, :3], state.qvel[:, 3:6], state.qvel[:, 6:nv]
        # MuJoCo has a free joint's angular velocity in the torso's axes.
        forward, upward = constant(((1.0, 0.0, 0.0), (0.0, 0.0, 1.0)), angular.dtype, angular.device)
        in_torso = torch.stack((angular, forward.expand_as(angular), upward.expand_as(angular)), dim=1)
        angular, forward, upward = quaternion.rotate(quat[:, None], in_torso).unbind(1)
        to_target = normalize(torch.stack((self.target_distance - position[:, 0], -position[:, 1]), dim=1), dim=1)
        heading = (forward[:, :2] * to_target).sum(1)
        return torch.cat(
            (
                position[:, 2:],
                quat,
                linear,
                angular,
                joints,
                JOINT_VELOCITY_SCALE * joint_velocities,
                upward[:, 2:],
                heading[:, None],
            ),
            dim=1,
        )

    def reward(self, state: State, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        end = state.qpos.shape[1] + state.qvel.shape[1] - 2 * self.hidden
        height, forward_velocity, up, heading = obs[:, 0], obs[:, 5], obs[:, end - 2], obs[:, end - 1]
        earned = forward_velocity + UP_WEIGHT * up + heading + self.height_reward(height)
        return earned - self.action_cost * action.square().sum(1)

    def terminated(self, state: State, obs: torch.Tensor) -> torch.Tensor:
        return obs[:, 0] < self.min_height

    def reset(self, num: int, generator: torch.Generator, sim: ts.Simulator, stochastic: bool = True) -> State:
        state = self.nominal(num, sim)
        qpos, qvel = state.qpos, torch.zeros_like(state.qvel)
        if self.start_height is not None:
            qpos[:, 2] = self.start_height
        if self.start_joints is not None:
            joints = qpos[:, 7 : qpos.shape[1] - self.hidden]
            joints[:] = constant(self.start_joints, qpos.dtype, qpos.device)
        if stochastic:
            draw = functools.partial(uniform, generator, sim, num)
            qpos[:, :3] += draw(3, POSITION_SPREAD)
            if self.lowest_start is not None:
                qpos[:, 2].clamp_(min=self.lowest_start)
            qpos[:, 3:7] = quaternion.from_axis_angle(axis=draw(3, 1.0), angle=draw(1, TILT_SPREAD)[:, 0])
            if self.joint_spread:
                qpos[:, 7:] += draw(qpos.shape[1] - 7, self.joint_spread)
            qvel += draw(qvel.shape[1], VELOCITY_SPREAD)
        return state._replace(qpos=qpos, qvel=qvel)

    def measures(self, states: State, alive: torch.Tensor) -> dict[str, torch.Tensor]:
        quat = states.qpos[..., 3:7]
        upward = quaternion.rotate(quat, quat.new_tensor((0.0, 0.0, 1.0)))
        return running_measures(states.qvel[..., 0], upward[..., 2], alive)


@dataclasses.dataclass
class MuscleRunner(Tracking, FreeRunner):
    """A body with muscles, one action for each, that is to run along x, or to follow a motion (`Tracking`).

    An action from -1 to 1 is an excitation from 0 to 1. The observation is `posture`: neither the action nor the
    muscles' activations, which follow the excitations within a few hundredths of a second. An episode begins with the
    activations that the action 0 keeps up, one half: with it the muscles are in equilibrium, and neither limp nor
    different from what they are at any other time of an untrained policy.

    Reward: forward velocity + 0.1 up + heading - 0.001 times the sum of the excitations. The benchmark's muscles have
    no activation dynamics, and its joints begin at rest.
    """

    joint_spread: ClassVar[float] = 0.0
    excitation_cost: ClassVar[float] = 0.001

    def observe(self, state: State, action: torch.Tensor) -> torch.Tensor:
        return self.observed(self.posture(state), state)

    def control(self, action: torch.Tensor) -> torch.Tensor:
        return 0.5 * action + 0.5

    def height_reward(self, height: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(height)

    def reward(self, state: State, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        own = super().reward(state, obs, action) - self.excitation_cost * self.control(action).sum(1)
        return self.earned(own, state)

    def reset(self, num: int, generator: torch.Generator, sim: ts.Simulator, stochastic: bool = True) -> State:
        state = super().reset(num, generator, sim, stochastic)
        excited = self.control(torch.zeros_like(state.act))
        if self.reference is not None:
            # half active in the middle of a stride, even a policy that walks stumbles
            excited = torch.full_like(state.act, CALM)
        return rested(sim, self.begun(state._replace(act=excited), generator, sim, stochastic))

    def mirrored(self, rule: Mirror) -> Mirror | None:
        """A rule for `posture`, made one for what is observed: the image of a motion's phase is half a cycle later.

        None: the motion is not its own mirror image then.
        """
        if self.reference is None:
            return rule
        if not self.cyclic:
            return None
        qpos, qvel = self.rows(torch.float64, torch.get_default_device())
        seen = self.posture(State(qpos, qvel, qpos[:, :0]))
        image = Exchange(rule.obs_index, rule.obs_signs).double()(seen)
        if (image - seen.roll(len(seen) // 2, 0)).abs().max() > SAME:
            return None
        end = len(rule.obs_index)
        return rule._replace(obs_index=(*rule.obs_index, end, end + 1), obs_signs=(*rule.obs_signs, -1.0, -1.0))

    def measures(self, states: State, alive: torch.Tensor) -> dict[str, torch.Tensor]:
        return super().measures(states, alive) | self.followed(states, alive)


def pushed(state: State, draws: torch.Tensor, largest: float, chance: float) -> State:
    """The state, in some worlds after a push: another horizontal velocity of the body's first joint, a free one.

    Args:
      state: before.
      draws: uniform from 0 to 1, (num_envs, 3).
      largest: change of each component [m/s].
      chance: of a push in a control step.
    """
    now = draws[:, :1] < chance
    kick = largest * (2 * draws[:, 1:] - 1) * now
    return state._replace(qvel=torch.cat((state.qvel[:, :2] + kick, state.qvel[:, 2:]), dim=1))


def rested(sim: ts.Simulator, state: State) -> State:
    """`sim.equilibrium` of any number of states: with the strains of elastic tendons at which fibres stand still."""
    if (sim.model.muscle_tendonadr < 0).all():
        return state
    num, parts = len(state.qpos), []
    # the simulator takes as many states as it has worlds
    for first in range(0, num, sim.num_worlds):
        rows = torch.arange(first, first + sim.num_worlds, device=sim.device).clamp(max=num - 1)
        parts.append(sim.equilibrium(State(*(x[rows] for x in state))))
    return State(*(torch.cat(x)[:num] for x in zip(*parts, strict=True)))


class PlanarRunner(Task):
    """A body in the plane x, z that is to run along x.

    The asset's first joints are two slides along x and z and the torso's hinge about y. The observation is (qpos
    without x, qvel), nq + nv - 1 numbers.

    | attribute | meaning |
    |---|---|
    | start_height | coordinate z in the nominal initial state [m]; all others are 0 |
    | position_spread | spread to each side of the initial positions [m, rad] |
    | velocity_spread | spread to each side of the initial velocities [m/s, rad/s] |
    """

    start_height: ClassVar[float] = 0.0
    position_spread: ClassVar[float]
    velocity_spread: ClassVar[float]

    def observe(self, state: State, action: torch.Tensor) -> torch.Tensor:
        return torch.cat((state.qpos[:, 1:], state.qvel), dim=1)

    def reset(self, num: int, generator: torch.Generator, sim: ts.Simulator, stochastic: bool = True) -> State:
        state = self.nominal(num, sim)
        qpos, qvel = torch.zeros_like(state.qpos), torch.zeros_like(state.qvel)
        qpos[:, 1] = self.start_height
        if stochastic:
            qpos += uniform(generator, sim, num, qpos.shape[1], self.position_spread)
            qvel += uniform(generator, sim, num, qvel.shape[1], self.velocity_spread)
        return state._replace(qpos=qpos, qvel=qvel)

    def measures(self, states: State, alive: torch.Tensor) -> dict[str, torch.Tensor]:
        return running_measures(states.qvel[..., 0], states.qpos[..., 2].cos(), alive)


def running_measures(velocity: torch.Tensor, up: torch.Tensor, alive: torch.Tensor) -> dict[str, torch.Tensor]:
    """Measures of whole episodes, one number per episode each.

    Args:
      velocity: forward velocity [m/s], (episode_length, num_envs).
      up: vertical component of the torso's z axis, (episode_length, num_envs).
      alive: the step belongs to the episode, bool (episode_length, num_envs).

    Returns:
      forward_speed: mean forward velocity [m/s].
      upright_fraction: fraction of the steps in which the torso's z axis points upwards.
      finished: 1 if the episode did not end before its time, else 0.
    """
    steps = alive.sum(0).to(velocity.dtype)
    return {
        "forward_speed": (velocity * alive).sum(0) / steps,
        "upright_fraction": ((up > 0) & alive).sum(0).to(velocity.dtype) / steps,
        "finished": alive[-1].to(velocity.dtype),
    }


def uniform(generator: torch.Generator, sim: ts.Simulator, num: int, count: int, spread: float) -> torch.Tensor:
    """Uniform numbers from -spread to spread, (num, count)."""
    return spread * (2 * torch.rand(num, count, generator=generator, dtype=sim.dtype, device=sim.device) - 1)


def clearance_reward(clearance: torch.Tensor, limit: float, slope: float) -> torch.Tensor:
    """What a height [m] above a tolerated one earns: `slope` times it, up to `limit`; -200 times its square below 0.

    Xu et al. 2022, appendix: the height term of Hopper and Humanoid. The clearance counts from -1 m up.
    """
    clearance = clearance.clamp(-1.0, limit)
    return torch.where(clearance < 0, -200 * clearance.square(), slope * clearance)
