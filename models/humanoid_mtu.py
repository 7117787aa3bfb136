"""Humanoid MTU: Xu et al. 2022, appendix; legs with 152 muscle-tendon units that are to run along x.

Figures of observation, reward, initial state and presets are the paper's and its reference implementation's, with three
departures. There the muscles pull with a constant tension; here they obey Hill's law (docs/muscle_bodies.md). There
episodes begin up to 7 cm inside the floor, which throws the body up; here never. And the preset learns otherwise: the
actor moves by Muon, not Adam, the target critic's memory grows with the run, episodes may end early, learning rates
fall exponentially, and there are 830 epochs, not 2,000. What that changes is measured in docs/learning.md.
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
    # With the largest tilt they just clear it.
    lowest_start = 0.985
    min_height = 0.46
    target_distance = 10_000.0
    presets = {
        "shac": {
            "num_envs": 64,
            "horizon": 32,
            # More bring little (docs/learning.md).
            "max_epochs": 830,
            "lr_schedule": "exponential",
            "final_lr": 2.5e-4,
            # Worlds that fall together would go on together.
            "early_limits": 0.3,
            "actor_units": (512, 256),
            "critic_units": (256, 256),
            # With Adam the policy breaks again and again for as long as the learning rate is high.
            "actor_optimizer": "muon",
            "actor_lr": 5e-3,
            "critic_lr": 5e-4,
            "target_alpha": 0.995,
            # Without it the untrained critic's values last for hundreds of epochs, and nothing speaks against falling
            # forward (docs/learning.md).
            "target_rampup": 0.1,
            # With 16 policies of longer runs still live on the errors of the substeps (docs/substeps.md).
            "final_substeps": 32,
        },
        "bptt": {
            "num_envs": 16,
            "horizon": 1000,
            "max_epochs": 2000,
            "actor_units": (512, 256),
            "actor_lr": 2e-3,
        },
        "ppo": {
            "num_envs": 1024,
            "max_epochs": 3052,
            # Four times the steps a minute that the paper's (512, 512, 256) and six passes have (docs/baselines.md).
            "actor_units": (256, 128, 64),
            "minibatch": 8192,
            "passes": 4,
        },
        "sac": {"max_epochs": 610},
    }
