"""What trainings cost, before they are made."""

from __future__ import annotations

from collections.abc import Iterable

from shac.figures.figure import Run
from shac.models import load_task
from shac.runs.config import resolve

# Imports, and the kernels from Taichi's cache [s].
START = 9.0

# Processor time of an epoch of a preset [s], before the finer substeps of the last epochs; where there is a third key,
# of the variant with that label. Means of whole trainings or of 4 to 35 epochs, two shared cores of an EPYC, 26 to 28
# November 2026, when the engine took up to twice as long: `grid.SHAC_SECONDS` goes by them. "common" and horizons: 30
# November.
EPOCH_SECONDS: dict[tuple[str, ...], float] = {
    ("cartpole", "shac"): 0.18,
    ("hopper", "shac"): 0.21,
    ("halfcheetah", "shac"): 0.10,
    ("ant", "shac"): 0.12,
    ("humanoid", "shac"): 0.21,
    ("humanoid_mtu", "shac"): 0.51,
    ("cartpole", "bptt"): 0.54,
    ("hopper", "bptt"): 0.26,
    ("halfcheetah", "bptt"): 0.33,
    ("ant", "bptt"): 4.3,
    ("humanoid", "bptt"): 4.4,
    ("humanoid_mtu", "bptt"): 7.5,
    ("cartpole", "shac", "common"): 0.16,
    ("hopper", "shac", "common"): 0.30,
    ("halfcheetah", "shac", "common"): 0.09,
    ("ant", "shac", "common"): 0.12,
    ("humanoid_mtu", "shac", "common"): 0.20,
    ("cartpole", "shac", "published"): 0.07,
    ("hopper", "shac", "published"): 0.50,
    ("halfcheetah", "shac", "published"): 0.24,
    ("ant", "shac", "published"): 0.14,
    ("humanoid", "shac", "published"): 0.45,
    ("humanoid_mtu", "shac", "published"): 2.8,
    ("ant", "shac", "h4"): 0.05,
    ("ant", "shac", "h8"): 0.05,
    ("ant", "shac", "h16"): 0.06,
    ("ant", "shac", "h64"): 0.10,
    ("ant", "shac", "h128"): 0.17,
}
# What the finer substeps of the last 7.5 % of the epochs add, at most.
FINISH = 1.15


def of(run: Run) -> float | None:
    """Processor time that a training takes from its beginning [s]; None if nobody has measured it."""
    limit = run.settings.get("max_cpu_seconds")
    label = run.name.removeprefix(f"{run.model}-{run.algo}-{run.seed}").removeprefix("-")
    epoch = EPOCH_SECONDS.get((run.model, run.algo, label)) or EPOCH_SECONDS.get((run.model, run.algo))
    if epoch is None:
        return None if limit is None else START + limit
    config = resolve(load_task(run.model), run.algo, run.settings)
    seconds = epoch * config.max_epochs * (1 if getattr(config, "final_substeps", None) is None else FINISH)
    return START + (seconds if limit is None else min(limit, seconds))


def total(runs: Iterable[Run]) -> tuple[float, int]:
    """Processor time of several trainings [s], and how many of them nobody has measured."""
    costs = [of(run) for run in runs]
    return sum(cost for cost in costs if cost is not None), costs.count(None)


def in_words(runs: Iterable[Run]) -> str:
    """That, for people."""
    seconds, unknown = total(runs)
    text = f"{seconds / 3600:.1f} core hours" if seconds > 3600 else f"{max(1, seconds / 60):.0f} core minutes"
    if not unknown:
        return f"about {text}"
    return f"about {text} and {unknown} of unknown cost" if seconds else "of unknown cost"
