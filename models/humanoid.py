"""Humanoid: Xu et al. 2022, appendix; a body on two legs, with a motor at every joint, that is to run along x.

Figures of observation, reward, initial state and presets are the paper's and its reference implementation's.
"""

from __future__ import annotations

import torch

from shac.models._locomotion import FreeRunner, clearance_reward

# The torso is to stay this much [m] above the height at which the episode fails; it earns up to as much again.
MARGIN = 0.1
HEIGHT_WEIGHT = 10.0


class Humanoid(FreeRunner):
    """Reward: forward velocity + 0.1 up + heading + `clearance_reward` above 0.84 m - 0.002 |action|^2."""

    asset = "humanoid"
    episode_length = 1000
    num_obs = 76
    num_actions = 21
    min_height = 0.74
    target_distance = 200.0
    action_cost = 0.002
    presets = {
        "shac": {
            "num_envs": 64,
            "horizon": 32,
            "max_epochs": 2000,
            "actor_units": (256, 128),
            "critic_units": (128, 128),
            # Finds faster gaits than Adam, and sooner (docs/learning.md).
            "actor_optimizer": "muon",
            "actor_lr": 2e-3,
            "critic_lr": 5e-4,
            "target_alpha": 0.995,
            # Without it one policy in three lives on the errors of six substeps (docs/substeps.md).
            "final_substeps": 16,
        },
        "bptt": {
            "num_envs": 32,
            "horizon": 1000,
            "max_epochs": 2000,
            "actor_units": (256, 128),
            "actor_lr": 2e-3,
        },
        "ppo": {"num_envs": 1024, "max_epochs": 3052, "actor_units": (256, 128, 64), "minibatch": 8192},
        "sac": {"max_epochs": 610},
        "redq": {"target_entropy": -2.0},
    }

    def height_reward(self, height: torch.Tensor) -> torch.Tensor:
        return clearance_reward(height - (self.min_height + MARGIN), MARGIN, HEIGHT_WEIGHT)
