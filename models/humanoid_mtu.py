"""Humanoid MTU: Xu et al. 2022, appendix; legs with 152 muscle-tendon units that are to run along x.

Figures of observation, reward, initial state and presets are the paper's and its reference implementation's. There the
muscles pull with a constant tension; here they obey Hill's law (docs/muscle_bodies.md).
"""

from __future__ import annotations

from shac.models._locomotion import MuscleRunner


class HumanoidMTU(MuscleRunner):
    """`MuscleRunner` with the lower body of Lee et al. 2019."""

    asset = "humanoid_mtu"
    episode_length = 1000
    num_obs = 53
    num_actions = 152
    # The soles are 3 cm above the floor.
    start_height = 1.0
    min_height = 0.46
    target_distance = 10_000.0
    presets = {
        "shac": {
            "num_envs": 64,
            "horizon": 32,
            "max_epochs": 2000,
            "actor_units": (512, 256),
            "critic_units": (256, 256),
            "actor_lr": 2e-3,
            "critic_lr": 5e-4,
            "target_alpha": 0.995,
        },
        "bptt": {
            "num_envs": 16,
            "horizon": 1000,
            "max_epochs": 2000,
            "actor_units": (512, 256),
            "actor_lr": 2e-3,
        },
    }
