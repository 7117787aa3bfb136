"""Hopper: Xu et al. 2022, appendix; one leg in a plane, that is to hop along x.

qpos is (x, z, pitch, thigh, leg, foot), 0 when it stands upright. Figures of observation, reward, initial state and
presets are the paper's and its reference implementation's.
"""

from __future__ import annotations

import math

import torch

from shac.models._locomotion import PlanarRunner, clearance_reward
from taichi_sim.types import State

# The episode fails with the torso this far [m] from where it stands upright; it is to stay MARGIN above that.
MIN_Z = -0.45
MARGIN = 0.15
MAX_CLEARANCE = 0.3
# Pitch [rad] that costs what an upright torso earns.
PITCH_SCALE = math.pi / 6
ACTION_COST = 0.1


class Hopper(PlanarRunner):
    """Reward: forward velocity + `clearance_reward` above z = -0.3 m + 1 - (pitch / 30 deg)^2 - 0.1 |action|^2."""

    asset = "hopper"
    episode_length = 1000
    num_obs = 11
    num_actions = 3
    position_spread = 0.05
    velocity_spread = 0.05
    presets = {
        "shac": {
            "num_envs": 256,
            "horizon": 32,
            "max_epochs": 2000,
            "actor_units": (128, 64, 32),
            "critic_units": (64, 64),
            "actor_lr": 2e-3,
            "critic_lr": 2e-4,
            "target_alpha": 0.2,
            # Without it one policy in three lives on the errors of six substeps (docs/substeps.md).
            "final_substeps": 16,
        },
        "bptt": {
            "num_envs": 32,
            "horizon": 128,
            "max_epochs": 2000,
            "actor_units": (128, 64, 32),
            "actor_lr": 1e-3,
        },
        "ppo": {"num_envs": 1024, "max_epochs": 1526, "minibatch": 8192},
        "sac": {"max_epochs": 610},
        "redq": {"target_entropy": -1.0},
    }

    def reward(self, state: State, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        z, pitch, velocity = obs[:, 0] - self.start_height, obs[:, 1], obs[:, 5]
        height = clearance_reward(z - (MIN_Z + MARGIN), MAX_CLEARANCE, slope=1.0)
        upright = 1 - (pitch / PITCH_SCALE).square()
        return velocity + height + upright - ACTION_COST * action.square().sum(1)

    def terminated(self, state: State, obs: torch.Tensor) -> torch.Tensor:
        return obs[:, 0] - self.start_height < MIN_Z
