"""The trainings whose snapshots figures 2, 11, 12 and 13 look at, and a learner as it was at one."""

from __future__ import annotations

from pathlib import Path

import torch

from shac.algos.shac import SHAC
from shac.figures.figure import Budget, Run
from shac.figures.grid import training
from shac.models import load_task
from shac.runs import checkpoint
from shac.runs.misfit import refusing_misfits, require_learner

# Epochs after which states are kept: of 2,000, with QUICK of 36; all before the finer substeps of the end.
SNAPSHOTS = {
    Budget.QUICK: (0, 4, 8, 16, 24, 32),
    Budget.DEFAULT: (100, 300, 600, 1000, 1400, 1800),
    Budget.PAPER: (100, 300, 600, 1000, 1400, 1800),
}


def snapshot_run(model: str, budget: Budget) -> Run:
    """The training of a model with SHAC that keeps snapshots: its preset's, seed 0."""
    return training(model, "shac", 0, budget, snapshots=SNAPSHOTS[budget])


def epochs(run_dir: Path) -> tuple[int, ...]:
    """The epochs of a run's snapshots."""
    return checkpoint.read_config(run_dir).snapshots


def middle(run_dir: Path) -> int:
    """The epoch that stands for the middle of a training."""
    kept = epochs(run_dir)
    return kept[len(kept) // 2]


def load(run_dir: Path, epoch: int) -> SHAC:
    """The learner as it was after an epoch, at the beginning of the window that followed.

    Raises:
      UserError: the run has no such snapshot, or it is damaged.
    """
    config = checkpoint.read_config(run_dir)
    torch.set_num_threads(config.threads)
    learner = SHAC(load_task(config.model, config.task), config)
    path = checkpoint.path_of(run_dir, f"epoch-{epoch}")
    state = checkpoint.load(path)
    with refusing_misfits(f"{path} does not fit its run's settings"):
        require_learner(state["learner"], learner)
        learner.load_state_dict(state["learner"])
    learner.begin_epoch()
    return learner
