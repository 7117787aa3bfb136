"""Walking at a prescribed speed with little effort: legs with 152 muscles or more, as heavy as a person."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import ClassVar

import mujoco
import numpy as np
import torch

import taichi_sim as ts
from shac.mirror import Mirror
from shac.models._feet import Feet
from shac.models._locomotion import MuscleRunner, pushed
from shac.models._walker import NUM_MENDED, Settings, compiled, legs, mirror, soles
from shac.models.humanoid_mtu import HumanoidMTU
from shac.task import constant, made_once
from taichi_sim import quaternion
from taichi_sim.types import State

# Half of what the speed earns is lost with this error [m/s].
SPEED_WIDTH = 0.5
# Half of what economy earns is lost with this power [W/kg], and half of what ease does with this mean square, of
# activations and of excitations less activations together. Up to 0.58 of it what is lost grows more than in proportion:
# where it grew less, who burned as much in bursts earned more, and walked in bursts, on bent knees.
POWER_WIDTH, EFFORT_WIDTH = 12.0, 0.04
# Half of what limits cost at most is lost where joints are so far beyond them [rad], as the root of a sum of squares.
LIMIT_WIDTH = 0.1
# Half of what uprightness earns is lost with this tilt [rad].
TILT_WIDTH = 0.2
SPEED_WEIGHT = 5.0
# Feet skim the floor below this height [m]; half of what slip costs at most is lost where a foot slides so fast [m/s].
CLEARANCE, SLIP_WIDTH = 0.02, 0.5
# Half of what load costs at most is lost where a foot bears so much more than the body's weight [body weights].
LOAD_WIDTH = 0.3
# Height of the pelvis from which on the soles clear the floor with the largest tilt and a step of up to 40 degrees [m].
LOWEST_STEP = 0.991


@dataclasses.dataclass
class WalkMTU(MuscleRunner):
    """`MuscleRunner` that walks at a speed: docs/walking.md has the body.

    The speed wanted is the position of the body's marker, so it is a part of the state and of the observation: the last
    joint's position, behind those of the legs. At another speed than its own the `reference` has a pace that is as the
    root of the speed, since people's steps become longer and quicker alike; what is followed to the end (`follow` none)
    goes at its own, unless speeds are drawn.

    Reward: 5 / (1 + e^2) + (ease / (1 + (E / 0.04)^2) + economy / (1 + (P / 12)^2)) / (1 + e^4) - activation mean(a^2)
    + upright / (1 + (tilt / 0.2)^4) + heading - limits s / (1 + s), with e the error of the pelvis' speed / 0.5 m/s,
    the activations a, the excitations u, means by the muscles' volumes, the effort E = mean(a^2) + mean((u - a)^2), the
    metabolic power P [W/kg], the basal one included, the pelvis' tilt [rad] (its square as 2 (1 - cos)), and s the sum
    of (rad beyond a joint's limit / 0.1)^2; less slip f / (1 + f), f the speed at which feet skim the floor / 0.5 m/s,
    and load g / (1 + g) of each foot, g the square of the body weights beyond 1 that it bears / 0.3. No posture is
    rewarded but the pelvis'. Fourth powers leave a person's changes of speed and tilt within a stride nearly free. What
    costs is bounded, so that falling never pays.
    """

    reference: str | None = "person"
    """File of the motion to follow or to begin with, .mot, .sto or .csv, or person: how people walk, measured; none."""
    track_root: float = 8.0
    """What the root earns that is as in the motion, but for its place on the ground."""
    follow: float | None = 0.6
    """Share of a training in which what following earns falls evenly to nothing; none: it is followed always."""
    speed: float | None = 1.25
    """Speed wanted [m/s]; none: drawn for each episode."""
    slowest: float = 0.7
    """Slowest of the speeds drawn [m/s]; at the slowest that it has learnt a body falls most easily."""
    fastest: float = 1.8
    """Fastest of the speeds drawn [m/s]."""
    economy: float = 8.0
    """What a body earns at the speed wanted that burns nothing; it earns half of it with 12 W/kg."""
    ease: float = 2.0
    """What a body earns at that speed that makes no effort; half of it with activations of mean square 0.04."""
    activation: float = 6.0
    """Weight of the mean square of the activations."""
    upright: float = 1.0
    """What an upright pelvis earns, of walk_mtu_full with the head; half of it with a tilt of 0.2 rad."""
    limits: float = 2.0
    """What joints cost that are far beyond their limits; 0.1 rad cost half of it."""
    slip: float = 1.0
    """What feet cost that slide over the floor or skim it, closer than 2 cm."""
    load: float = 0.0
    """What a foot costs that bears far more than the body's weight; half of it at 1.3 times that."""
    mended: bool = True
    """With a psoas, a calf that lifts the heel, and paths that bend knees as people's; without, the source's legs."""
    anatomy: bool = True
    """With muscles as measured in people; without, the source's, with fibres up to nine times as long."""
    elastic: bool = True
    """With tendons that stretch; asks for anatomy."""
    strength: float = 1.0
    """Peak force of every muscle over the source's f0; humanoid_mtu has 0.454."""
    damping: float = 0.05
    """Share of humanoid_mtu's joint damping that is kept."""
    ground: float = 4.0
    """Stiffness of the ground over what makes feet sink in as far as humanoid_mtu's, up to 2 cm."""
    push: float = 0.0
    """Largest change of the pelvis' velocity by a push, forward and to the side [m/s]."""
    push_every: float = 5.0
    """Mean time between two pushes [s]."""
    stride: float = 0.0
    """Largest angle between the thighs that episodes begin with without a reference [deg], at the speed wanted."""

    episode_length: ClassVar[int] = 1200
    num_obs: ClassVar[int] = 55
    num_actions: ClassVar[int] = 152
    start_height: ClassVar[float] = HumanoidMTU.start_height
    lowest_start: ClassVar[float] = HumanoidMTU.lowest_start
    min_height: ClassVar[float] = 0.7
    target_distance: ClassVar[float] = HumanoidMTU.target_distance
    presets: ClassVar[dict] = {
        **HumanoidMTU.presets,
        # 540 of them follow a motion less and less
        "shac": {**HumanoidMTU.presets["shac"], "max_epochs": 900},
    }
    # the body, and how many units `mended` adds to its own
    build: ClassVar[Callable[[Settings], mujoco.MjSpec]] = staticmethod(legs)
    num_mended: ClassVar[int] = NUM_MENDED

    def __post_init__(self):
        speeds = [self.slowest, self.fastest] if self.speed is None else [self.speed]
        if not 0 < min(speeds) <= max(speeds) <= 3 or self.slowest > self.fastest:
            raise ValueError("speeds must be above 0 and at most 3 m/s, slowest <= fastest")
        if not 0 <= self.stride <= 40:
            raise ValueError("stride must be from 0 to 40 degrees")
        if not (self.strength > 0 and 0 <= self.damping <= 1 and self.ground > 0):
            raise ValueError("strength and ground must be positive, and damping from 0 to 1")
        if self.push < 0 or not self.push_every > 0:
            raise ValueError("push must be at least 0, push_every greater than 0")
        if self.elastic and not self.anatomy:
            raise ValueError("elastic asks for anatomy: the source's tendons are none of a person's")
        # what power needs, by number of worlds, and slip, by precision and device
        self._sims, self._burn, self._feet = {}, {}, {}
        if self.mended:
            self.num_actions = type(self).num_actions + self.num_mended
        super().__post_init__()

    @functools.cached_property
    def asset(self) -> mujoco.MjModel:
        """The body, compiled by MuJoCo."""
        return compiled(self.build, self._settings)

    def body(self) -> mujoco.MjSpec:
        return self.build(self._settings)

    @property
    def _settings(self) -> Settings:
        return Settings(*(getattr(self, name) for name in Settings._fields))

    @property
    def num_draws(self) -> int:
        return 3 if self.push else 0

    def perturb(self, state: State, draws: torch.Tensor) -> State:
        step = self.asset.opt.timestep * self.asset.numeric("substeps").data[0]
        return pushed(state, draws, self.push, step / self.push_every)

    @functools.cached_property
    def _shares(self) -> tuple[float, ...]:
        """How much each unit counts in a mean over muscles: by its volume, but all alike with the source's fibres."""
        m = self.asset
        # ranges of length are as long as fibres at their optimum
        volumes = m.actuator_gainprm[:, 2] * np.ptp(m.actuator_lengthrange, axis=1) if self.anatomy else np.ones(m.nu)
        return tuple((volumes / volumes.sum()).tolist())

    @property
    def _marker(self) -> int:
        """Where the marker is among positions, and among velocities."""
        return -1 - self.hidden

    def simulator(self, num_envs: int, device: str | None = None) -> ts.Simulator:
        sim = super().simulator(num_envs, device)
        self._sims[num_envs] = sim
        self._burn.pop(num_envs, None)
        return sim

    def begun(self, state: State, generator: torch.Generator, sim: ts.Simulator, stochastic: bool) -> State:
        state, num = super().begun(state, generator, sim, stochastic), len(state.qpos)
        drawn = self.speed is None
        speed = (self.slowest + self.fastest) / 2 if drawn else self.speed
        if self.reference is not None and self.follow is None and not drawn:
            speed = self.motion.speed
        state.qpos[:, self._marker], state.qvel[:, self._marker] = speed, 0.0
        if drawn and stochastic:
            draw = torch.rand(num, generator=generator, dtype=sim.dtype, device=sim.device)
            state.qpos[:, self._marker] = self.slowest + (self.fastest - self.slowest) * draw
        if self.reference is not None:
            ratio = state.qpos[:, self._marker, None] / self.motion.speed
            # the clock's, too
            state.qvel[:, 3:] *= ratio.sqrt()
            state.qvel[:, :3] *= ratio
        if self.stride and self.reference is None and stochastic:
            self._stand_in_step(state, generator)
        return state

    def _stand_in_step(self, state: State, generator: torch.Generator) -> None:
        """Puts one thigh forward and the other back, feet flat, and lets the body move."""
        qpos = state.qpos
        draw = torch.rand(len(qpos), generator=generator, dtype=qpos.dtype, device=qpos.device)
        angle = math.radians(self.stride) / 2 * (2 * draw - 1)
        pitch = constant((0.0, 1.0, 0.0), qpos.dtype, qpos.device).expand(len(qpos), 3)
        for side, flexion in (("R", angle), ("L", -angle)):
            # thigh forward and foot up are about -y
            for name, turn in ((f"Femur{side}", -flexion), (f"Talus{side}", flexion)):
                place = int(self.asset.joint(name).qposadr[0])
                qpos[:, place : place + 4] = quaternion.from_axis_angle(pitch, turn)
        qpos[:, 2].clamp_(min=LOWEST_STEP)
        state.qvel[:, 0] += qpos[:, self._marker]

    def reward(self, state: State, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        end = type(self).num_obs
        velocity, heading = obs[:, 5], obs[:, end - 1]
        error = ((velocity - state.qpos[:, self._marker]) / SPEED_WIDTH).square()
        tilt = 2 * (1 - self.ups(state, obs)) / TILT_WIDTH**2
        earned = SPEED_WEIGHT * (1 / (1 + error)) + self.upright * (1 / (1 + tilt.square())).mean(1) + heading
        at_speed = 1 / (1 + error.square())
        if self.economy:
            earned = earned + self.economy * at_speed / (1 + (self.power(state, action) / POWER_WIDTH).square())
        beyond = (excess(self.asset, state.qpos) / LIMIT_WIDTH).square().sum(1)
        # the strains of elastic tendons are behind them
        active = state.act[:, : self.num_actions]
        shares = constant(self._shares, active.dtype, active.device)
        held = active.square() @ shares
        if self.ease:
            # what makes activations change costs as much as to hold them; who stands has it for nothing
            effort = held + (self.control(action) - active).square() @ shares
            earned = earned + self.ease * at_speed / (1 + (effort / EFFORT_WIDTH).square())
        own = earned - self.activation * held - self.limits * beyond / (1 + beyond)
        if self.slip:
            skims = self._skims(state) / SLIP_WIDTH
            own = own - self.slip * skims / (1 + skims)
        if self.load:
            beyond = ((self._loads(state) - 1).clamp(min=0) / LOAD_WIDTH).square()
            own = own - self.load * (beyond / (1 + beyond)).sum(1)
        return self.earned(own, state)

    def ups(self, state: State, obs: torch.Tensor) -> torch.Tensor:
        """Vertical components of the z axes of what is to be upright, (num_envs, parts)."""
        up = type(self).num_obs - 2
        return obs[:, up : up + 1]

    def _skims(self, state: State) -> torch.Tensor:
        """How fast the feet slide, (num_envs,): the sum of the mean speeds of their soles' corners [m/s], each weighted
        by the square of how close to the floor it is, from 0 at 2 cm to 1."""
        position, velocity = self._soles(state)(state)
        close = (1 - position[..., 2] / CLEARANCE).clamp(0, 1).square()
        # smooth where nothing moves
        speed = (velocity[..., :2].square().sum(-1) + 1e-4).sqrt()
        # of two feet
        return 2 * (close * speed).mean(1)

    def _loads(self, state: State) -> torch.Tensor:
        """What the right and the left foot bear, (num_envs, 2) [body weights]: of contact's law the spring alone."""
        soles, m = self._soles(state), self.asset
        depth = -(soles(state)[0][..., 2] + soles.ground).unflatten(1, (2, -1))
        weight = 9.81 * float(m.body_mass.sum())
        return float(m.numeric("contact_ke").data[0]) / weight * depth.clamp(min=0).sum(2)

    def _soles(self, state: State) -> Feet:
        key = state.qpos.dtype, state.qpos.device
        m = self.asset
        return made_once(self._feet, key, lambda: Feet(m, m.qpos0, soles(m), *key))

    def mirror(self) -> Mirror | None:
        # of the body without a motion's clock, which is not observed
        return self.mirrored(mirror(compiled(self.build, self._settings)))

    def power(self, state: State, action: torch.Tensor) -> torch.Tensor:
        """Metabolic power, the basal one included [W/kg], (num_envs,)."""
        sim = self._sims[len(action)]
        # who lands on bent knees would have what stretches their muscles for nothing
        burn = made_once(self._burn, len(action), lambda: ts.Metabolics(sim.model, state.qpos, negative_work=False))
        mass = float(sim.model.body_mass.sum())
        return (burn(sim.fibres(state, self.control(action))).sum(1) + burn.basal) / mass

    def measures(self, states: State, alive: torch.Tensor) -> dict[str, torch.Tensor]:
        found = super().measures(states, alive)
        # the first seconds are how an episode begins
        later = alive.clone()
        later[:120] = False
        steps = later.sum(0).clamp(min=1)
        wanted = states.qpos[0, :, self._marker]
        error = (states.qvel[..., 0] * later).sum(0) / steps - wanted
        found["speed_error"] = torch.where(later.any(0), error.abs(), wanted)
        found["mean_activation"] = (states.act[..., : self.num_actions].mean(2) * alive).sum(0) / alive.sum(0)
        return found


def excess(m: mujoco.MjModel, qpos: torch.Tensor) -> torch.Tensor:
    """How far limited joints are beyond their limits [rad], (N, joints): hinges, then balls."""
    columns, low, high, widest = _limits(m)
    like = qpos.dtype, qpos.device
    found = qpos.index_select(1, constant(columns, torch.int64, qpos.device))
    hinges, balls = found[:, : len(low)], found[:, len(low) :].unflatten(1, (-1, 4))
    # at rest torch takes 0 for the norm's gradient
    half = torch.atan2(torch.linalg.vector_norm(balls[..., 1:], dim=2), balls[..., 0].abs())
    turned = 2 * half - constant(widest, *like)
    bent = torch.maximum(constant(low, *like) - hinges, hinges - constant(high, *like))
    return torch.cat((bent, turned), dim=1).clamp(min=0)


@functools.cache
def _limits(m: mujoco.MjModel) -> tuple[tuple, ...]:
    """Columns of qpos of limited hinges and then balls, bounds of the hinges, angles of the balls [rad]."""
    columns, low, high, widest = [], [], [], []
    for kind in (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_BALL):
        for joint in np.flatnonzero((m.jnt_type == kind) & m.jnt_limited.astype(bool)):
            adr, (least, most) = int(m.jnt_qposadr[joint]), m.jnt_range[joint].tolist()
            if kind == mujoco.mjtJoint.mjJNT_BALL:
                columns += range(adr, adr + 4)
                widest.append(most)
            else:
                columns.append(adr)
                low.append(least)
                high.append(most)
    return tuple(columns), tuple(low), tuple(high), tuple(widest)
