"""HalfCheetah: Xu et al. 2022, appendix; two legs in a plane, that are to run along x.

qpos is (x, z, pitch, bthigh, bshin, bfoot, fthigh, fshin, ffoot). Figures of observation, reward, initial state and
presets are the paper's and its reference implementation's.
"""

from __future__ import annotations

import torch

from shac.models._locomotion import PlanarRunner
from taichi_sim.types import State

ACTION_COST = 0.1


class HalfCheetah(PlanarRunner):
    """Reward: forward velocity - 0.1 |action|^2. The episode never fails."""

    asset = "halfcheetah"
    episode_length = 1000
    num_obs = 17
    num_actions = 6
    start_height = -0.2
    position_spread = 0.1
    velocity_spread = 0.25
    presets = {
        "shac": {
            "num_envs": 64,
            "horizon": 32,
            "max_epochs": 2000,
            "actor_units": (128, 64, 32),
            "critic_units": (64, 64),
            "actor_lr": 2e-3,
            "critic_lr": 2e-3,
            "target_alpha": 0.2,
        },
        "bptt": {
            "num_envs": 32,
            "horizon": 128,
            "max_epochs": 2000,
            "actor_units": (128, 64, 32),
            "actor_lr": 2e-3,
        },
        "ppo": {"num_envs": 1024, "max_epochs": 1526, "minibatch": 8192},
        "sac": {"max_epochs": 610},
        "redq": {"target_entropy": -3.0},
    }

    def reward(self, state: State, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return obs[:, 8] - ACTION_COST * action.square().sum(1)
