"""Gymnasium's Walker2d-v5."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch

from shac.models._locomotion import PlanarRunner
from shac.models.gym._body import GymnasiumBody, between
from shac.models.hopper import Hopper
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
        **Hopper.presets,
        # At the hopper's rates it dives and never comes back.
        "shac": {
            **Hopper.presets["shac"],
            "num_envs": 128,
            "max_epochs": 800,
            # As for the hopper.
            "gamma": 0.995,
            "actor_lr": 5e-4,
            "critic_lr": 5e-4,
        },
    }

    def healthy(self, state: State) -> torch.Tensor:
        return between(0.8, state.qpos[:, 1], 2.0) & between(-1.0, state.qpos[:, 2], 1.0)
