"""Gymnasium's Ant-v5."""

from __future__ import annotations

import dataclasses

import torch

from shac.models.ant import Ant
from shac.models.gym._body import GymnasiumBody, between
from taichi_sim.types import State


@dataclasses.dataclass
class GymAnt(GymnasiumBody, Ant):
    """Reward: forward velocity + 1 - 0.5 |control|^2; or the paper's, of `Ant`.

    Episodes begin with the ankles within their limits, where the file's qpos0 is beyond them.
    """

    file = "ant.xml"
    control_timestep = 0.05
    substeps = 12
    healthy_reward = 1.0
    control_cost = 0.5
    start_height = 0.75
    # Over 32 steps of 0.05 s the gradient explodes.
    presets = {**Ant.presets, "shac": {**Ant.presets["shac"], "num_envs": 256, "horizon": 4, "max_epochs": 4000}}

    def healthy(self, state: State) -> torch.Tensor:
        finite = state.qpos.isfinite().all(1) & state.qvel.isfinite().all(1)
        return finite & between(0.2, state.qpos[:, 2], 1.0)
