"""Gymnasium's Walker2d-v5."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch

from shac.models._locomotion import PlanarRunner
from shac.models.gym._body import GymnasiumBody, between
from shac.models.gym.hopper import GymHopper
from taichi_sim.types import State


@dataclasses.dataclass
class GymWalker2d(GymnasiumBody, PlanarRunner):
    """Reward: forward velocity + 1 - 0.001 |control|^2. The paper does not have this body."""

    rewards: Literal["gymnasium"] = "gymnasium"

    file = "walker2d_v5.xml"
    num_obs = 17
    num_actions = 6
    control_timestep = 0.008
    substeps = 4
    healthy_reward = 1.0
    control_cost = 1e-3
    start_height = 1.25
    position_spread = 0.05
    velocity_spread = 0.05
    presets = {
        **GymHopper.presets,
        "shac": {
            **GymHopper.presets["shac"],
            "num_envs": 128,
            "max_epochs": 1600,
            # With Adam it may dive, and then never comes back (docs/learning.md).
            "actor_optimizer": "muon",
            "actor_lr": 2e-3,
        },
    }

    def healthy(self, state: State) -> torch.Tensor:
        return between(0.8, state.qpos[:, 1], 2.0) & between(-1.0, state.qpos[:, 2], 1.0)
