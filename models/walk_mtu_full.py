"""The whole body walks: `walk_mtu` with trunk, head, arms and their muscles, 284 in all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import mujoco
import torch

from shac.models._walker import Settings, whole
from shac.models.humanoid_mtu_full import HumanoidMTUFull
from shac.models.walk_mtu import WalkMTU
from taichi_sim import quaternion
from taichi_sim.types import State

# From the pelvis to the head, all balls.
_SPINE = ("Spine", "Torso", "Neck", "Head")


@dataclasses.dataclass
class WalkMTUFull(WalkMTU):
    """`WalkMTU` with the whole body of Lee et al. 2019, which begins with its arms hanging.

    Pelvis and head earn for being upright, each one half. Muscles of trunk and arms stay the source's.
    """

    num_obs: ClassVar[int] = 129
    num_actions: ClassVar[int] = 284
    build: ClassVar[Callable[[Settings], mujoco.MjSpec]] = staticmethod(whole)
    num_mended: ClassVar[int] = 0

    @property
    def start_joints(self) -> tuple[float, ...]:
        """As `HumanoidMTUFull` begins, and the marker."""
        return *HumanoidMTUFull.start_joints, 0.0

    def ups(self, state: State, obs: torch.Tensor) -> torch.Tensor:
        turned = state.qpos[:, 3:7]
        for name in _SPINE:
            place = int(self.asset.joint(name).qposadr[0])
            turned = quaternion.multiply(turned, state.qpos[:, place : place + 4])
        up = turned.new_tensor((0.0, 0.0, 1.0)).expand(len(turned), 3)
        return torch.cat((super().ups(state, obs), quaternion.rotate(turned, up)[:, 2:]), dim=1)
