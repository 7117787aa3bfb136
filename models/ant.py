"""Ant: Xu et al. 2022, appendix; a body on four legs that is to run along x.

Figures of observation, reward, initial state and presets are the paper's and its reference implementation's.
"""

from __future__ import annotations

import torch

from shac.models._locomotion import FreeRunner


class Ant(FreeRunner):
    """Reward: forward velocity + 0.1 up + heading + height above the one at which the episode fails."""

    asset = "ant"
    episode_length = 1000
    num_obs = 37
    num_actions = 8
    # Hip and ankle of the four legs: the feet point down.
    start_joints = (0.0, 1.0, 0.0, -1.0, 0.0, -1.0, 0.0, 1.0)
    min_height = 0.27
    target_distance = 10_000.0
    presets = {
        "shac": {
            "num_envs": 64,
            "horizon": 32,
            "max_epochs": 2000,
            "actor_units": (128, 64, 32),
            "critic_units": (64, 64),
            # Sooner than Adam, with this rate, and faster in two of three seeds (docs/learning.md).
            "actor_optimizer": "muon",
            "actor_lr": 5e-3,
            "critic_lr": 2e-3,
            "target_alpha": 0.2,
            # Some policies live on the errors of four substeps otherwise (docs/substeps.md).
            "final_substeps": 16,
        },
        "bptt": {
            "num_envs": 32,
            "horizon": 1000,
            "max_epochs": 2000,
            "actor_units": (128, 64, 32),
            "actor_lr": 4e-3,
        },
        "ppo": {"num_envs": 2048, "max_epochs": 1526, "minibatch": 16384},
        "sac": {"max_epochs": 610},
        "redq": {"target_entropy": -4.0},
    }

    def height_reward(self, height: torch.Tensor) -> torch.Tensor:
        return height - self.min_height
