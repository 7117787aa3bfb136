"""Humanoid MTU with its upper body: 284 muscle-tendon units, and the problem of `humanoid_mtu`.

The paper has the lower body alone: heights, reward and presets are taken over from it.
"""

from __future__ import annotations

import math

from shac.models._locomotion import MuscleRunner
from shac.models.humanoid_mtu import HumanoidMTU as _LowerBody

# A ball joint at rest, (w, x, y, z); femur, tibia, talus, thumb and pinky toe.
_REST = (1.0, 0.0, 0.0, 0.0)
_LEG = (*_REST, 0.0, *_REST, 0.0, 0.0)
# The arms, which the asset stretches out sideways, hang down: turned about x, by almost a right angle [rad].
_LOWERED = 1.3


def _arm(side: int) -> tuple[float, ...]:
    """Shoulder, upper arm, elbow, hand; `side` is 1 for the right arm, -1 for the left one."""
    upper_arm = (math.cos(_LOWERED / 2), side * math.sin(_LOWERED / 2), 0.0, 0.0)
    return (*_REST, *upper_arm, 0.0, *_REST)


class HumanoidMTUFull(MuscleRunner):
    """`MuscleRunner` with the whole body of Lee et al. 2019, which begins with its arms hanging."""

    asset = "humanoid_mtu_full"
    episode_length = 1000
    num_obs = 127
    num_actions = 284
    start_height = _LowerBody.start_height
    # Legs; spine, torso, neck and head; arms.
    start_joints = (*_LEG, *_LEG, *_REST * 4, *_arm(1), *_arm(-1))
    lowest_start = _LowerBody.lowest_start
    min_height = _LowerBody.min_height
    target_distance = _LowerBody.target_distance
    presets = _LowerBody.presets
