"""Gymnasium's Humanoid-v5, MuJoCo's own humanoid."""

from __future__ import annotations

import dataclasses

import torch

from shac.models.gym._body import GymnasiumBody, between
from shac.models.humanoid import Humanoid
from taichi_sim.types import State


@dataclasses.dataclass
class GymHumanoid(GymnasiumBody, Humanoid):
    """Reward: 1.25 forward velocity + 5 - 0.1 |control|^2; or the paper's, with the height that this body has."""

    file = "humanoid.xml"
    num_obs = 64
    num_actions = 17
    control_timestep = 0.015
    substeps = 6
    forward_weight = 1.25
    healthy_reward = 5.0
    control_cost = 0.1
    lowest_start = 1.4
    joint_spread = 0.05
    min_height = 0.8
    presets = {
        **Humanoid.presets,
        "shac": {
            **Humanoid.presets["shac"],
            # Over 32 steps of MuJoCo's contacts the gradient of 64 worlds is noise (docs/learning.md).
            "num_envs": 256,
            "horizon": 8,
            "max_epochs": 1500,
            "actor_lr": 1e-3,
            # In such short steps 0.99 looks 1.5 s ahead, and it runs faster and faster until it falls.
            "gamma": 0.995,
            # Without it the untrained critic's values last for hundreds of epochs, and nothing speaks against falling.
            "target_rampup": 0.1,
            # Who falls no more forgets how to stay up, if no window holds a beginning.
            "early_limits": 0.3,
        },
    }

    def control(self, action: torch.Tensor) -> torch.Tensor:
        return 0.4 * action

    def healthy(self, state: State) -> torch.Tensor:
        return between(1.0, state.qpos[:, 2], 2.0)
