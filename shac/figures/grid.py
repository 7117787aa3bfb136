"""The trainings that figures show: their names, what differs from the presets, and what they cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from shac.figures.figure import Budget, Run

# The paper's six problems, from the easiest on; and those of its main figure.
MODELS = ("cartpole", "hopper", "halfcheetah", "ant", "humanoid", "humanoid_mtu")
MAIN_MODELS = ("cartpole", "ant", "humanoid", "humanoid_mtu")
TITLES = {
    "cartpole": "CartPole swing-up",
    "hopper": "Hopper",
    "halfcheetah": "HalfCheetah",
    "ant": "Ant",
    "humanoid": "Humanoid",
    "humanoid_mtu": "Humanoid MTU",
}

# Processor time of a whole SHAC preset [s], rounded up: with DEFAULT the other algorithms have as much.
SHAC_SECONDS = {
    "cartpole": 120,
    "hopper": 750,
    "halfcheetah": 360,
    "ant": 540,
    "humanoid": 480,
    "humanoid_mtu": 480,
}
# With DEFAULT the first seeds of PPO and SAC on these have four times as much, for figure 7.
LONG_MODELS = ("humanoid", "humanoid_mtu")
LONG_SEEDS = (0, 1)
LONG = 4
# Epochs of BPTT that take at least as long as SHAC's training, so that its learning rate has fallen when they end.
BPTT_EPOCHS = {
    "cartpole": 500,
    "hopper": 3200,
    "halfcheetah": 2000,
    "ant": 150,
    "humanoid": 180,
    "humanoid_mtu": 160,
}
# Figure 10's algorithms beside SHAC, and the processor time of a training with DEFAULT [s], but on `LONG_MODELS`, where
# it is SHAC's.
OFF_POLICY = "redq", "mbpo"
OFF_POLICY_SECONDS = 45 * 60

# With QUICK: SHAC's epochs, so that also worlds which never fail finish an episode; BPTT's; the others' time [s].
QUICK_SHAC_EPOCHS = {"cartpole": 20, "humanoid_mtu": 24}
QUICK_EPOCHS = 36
QUICK_BPTT_EPOCHS = {"cartpole": 5, "hopper": 10, "halfcheetah": 10, "ant": 2, "humanoid": 2, "humanoid_mtu": 2}
QUICK_SECONDS = 10.0
# REDQ and MBPO learn after so many steps, and so often a step: an epoch of their presets takes minutes.
QUICK_OFF_POLICY = {"random_steps": 500, "updates": 1}

# What figure 4 and 7's curve "SHAC as published" takes: Adam, no gradient at failures, the last actor itself, explicit
# substeps, linear rates. The rest, and the substeps, by problem (paper.md, 1 and 4.1).
PUBLISHED: dict[str, Any] = {
    "actor_optimizer": "adam",
    "failure_gradient": False,
    "actor_average": 1,
    "theta": 0.0,
    "final_substeps": None,
    "target_rampup": None,
    "early_limits": 0.0,
    "stagger": False,
    "normalize_obs": True,
    "lr_schedule": "linear",
    "final_lr": 1e-5,
}
PUBLISHED_BY_MODEL: dict[str, dict[str, Any]] = {
    "cartpole": {"num_envs": 64, "substeps": 4},
    "hopper": {"substeps": 16},
    "halfcheetah": {"substeps": 16},
    "ant": {"substeps": 16, "actor_lr": 2e-3},
    "humanoid": {"substeps": 48, "actor_lr": 2e-3},
    "humanoid_mtu": {"substeps": 48, "actor_lr": 2e-3, "max_epochs": 2000},
}

# Figure 8's networks and rates: what of Humanoid's preset the others take.
COMMON_FIELDS = ("actor_units", "critic_units", "actor_optimizer", "actor_lr", "critic_lr")

# Figure 6: horizon -> worlds, so that an epoch has as many steps.
WORLDS_OF_HORIZON = {4: 512, 8: 256, 16: 128, 32: 64, 64: 32, 128: 16}


def seeds(algo: str, budget: Budget) -> range:
    """Seeds of an algorithm's curves."""
    if budget is Budget.QUICK:
        return range(1)
    return range(5 if algo == "shac" or budget is Budget.PAPER else 3)


def training(model: str, algo: str, seed: int, budget: Budget, label: str = "", **settings: Any) -> Run:
    """A training with the preset's settings, but for what the budget limits.

    Args:
      model, algo, seed: as `shac-train` takes them.
      budget: how much is trained.
      label: for the name of one that also differs by `settings`.
      settings: what differs from the preset.
    """
    name = "-".join(filter(None, (model, algo, str(seed), label)))
    if budget is Budget.QUICK:
        settings = {**settings, **_quick(model, algo)}
    elif budget is Budget.DEFAULT:
        settings = {**_default(model, algo, seed), **settings}
    return Run(name, model, algo, seed, settings)


def trainings(model: str, algo: str, budget: Budget, label: str = "", num: int | None = None, **settings) -> list[Run]:
    """Those of all seeds, or of the first `num`; see `training`."""
    return [training(model, algo, seed, budget, label, **settings) for seed in seeds(algo, budget)[:num]]


def published(model: str, budget: Budget) -> list[Run]:
    """SHAC with the paper's settings."""
    settings = {**PUBLISHED, **PUBLISHED_BY_MODEL[model]}
    return trainings(model, "shac", budget, "published", None if budget is Budget.PAPER else 3, **settings)


def long_runs(model: str, algo: str, budget: Budget) -> list[Run]:
    """Those of figure 7: where some have four times the time, only these."""
    runs = trainings(model, algo, budget)
    if budget is Budget.DEFAULT and algo in ("ppo", "sac") and model in LONG_MODELS:
        return [run for run in runs if run.seed in LONG_SEEDS]
    return runs


def off_policy(model: str, algo: str, budget: Budget) -> list[Run]:
    """Those of REDQ and MBPO: two seeds, one where they have no more time than SHAC."""
    num = None if budget is Budget.PAPER else 1 if model in LONG_MODELS else 2
    return trainings(model, algo, budget, num=num)


def unite(runs: Iterable[Run]) -> dict[str, Run]:
    """One training for each name, with the snapshots that any of them wants.

    Raises:
      ValueError: two of one name differ in anything else.
    """
    united: dict[str, Run] = {}
    for run in runs:
        other = united.setdefault(run.name, run)
        one, two = dict(other.settings), dict(run.settings)
        snapshots = {*one.pop("snapshots", ()), *two.pop("snapshots", ())}
        if (other.model, other.algo, other.seed, one) != (run.model, run.algo, run.seed, two):
            raise ValueError(f"two trainings are called {run.name}: {other} and {run}")
        if snapshots:
            united[run.name] = dataclasses.replace(run, settings={**two, "snapshots": tuple(sorted(snapshots))})
    return united


def _quick(model: str, algo: str) -> dict[str, Any]:
    if algo == "shac":
        return {"max_epochs": QUICK_SHAC_EPOCHS.get(model, QUICK_EPOCHS)}
    if algo == "bptt":
        return {"max_epochs": QUICK_BPTT_EPOCHS[model]}
    return {"max_cpu_seconds": QUICK_SECONDS, **(QUICK_OFF_POLICY if algo in OFF_POLICY else {})}


def _default(model: str, algo: str, seed: int) -> dict[str, Any]:
    """What DEFAULT leaves of a preset's epochs: as much time as SHAC has."""
    if algo == "shac":
        return {}
    if algo == "bptt":
        return {"max_epochs": BPTT_EPOCHS[model]}
    seconds = SHAC_SECONDS[model]
    if algo in OFF_POLICY and model not in LONG_MODELS:
        seconds = OFF_POLICY_SECONDS
    elif algo in ("ppo", "sac") and model in LONG_MODELS and seed in LONG_SEEDS:
        seconds *= LONG
    return {"max_cpu_seconds": float(seconds)}
