"""Small copies of complete runs, which a repository can keep.

    python tools/keep_runs.py docs/figures/runs runs/figures/default/*
    python tools/keep_runs.py docs/figures/policies runs/mine --policy

They are run folders, without what only a continuation needs: `shac-figure 4 --runs docs/figures/runs --partial` draws
them, and `shac-eval` plays those with a policy. Runs that are not complete are left out.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import click
import numpy as np

from shac.cli.common import reports_errors
from shac.figures import plot
from shac.runs import checkpoint
from shac.runs.logger import read_csv

# Of metrics.csv: what is kept, and how often.
COLUMNS = ("epoch", "steps", "seconds", "cpu_seconds", "return_mean", "episode_length")
ROWS = 200


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--policy", is_flag=True, help="Keep the best policy, too.")
@reports_errors
def main(out, runs, policy):
    """Copy what is to be kept of the complete ones of RUNS to the folder OUT."""
    for run in runs:
        if checkpoint.completeness_of(run).is_file():
            keep(run, out / run.name, policy)
        else:
            click.echo(f"{run} is not complete: left out")


def keep(run: Path, copy: Path, policy: bool = False) -> None:
    """Copies a run: every so many epochs of its metrics, its settings, and its best policy if asked for.

    Raises:
      UserError: it is no run folder.
    """
    checkpoint.read_config(run)
    rows = read_csv(run / "metrics.csv")
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(ROWS, len(rows))).round().astype(int))
    copy.mkdir(parents=True, exist_ok=True)
    plot.write_csv(copy / "metrics.csv", COLUMNS, [[_number(rows[i].get(name)) for name in COLUMNS] for i in chosen])
    shutil.copy(run / "config.yaml", copy)
    if policy:
        checkpoint.path_of(copy, "best").parent.mkdir(exist_ok=True)
        shutil.copy(checkpoint.path_of(run, "best"), checkpoint.path_of(copy, "best"))
    checkpoint.completeness_of(copy).touch()


def _number(text: str | None) -> float | int | None:
    if text in (None, ""):
        return None
    return int(text) if text.isdecimal() else float(text)


if __name__ == "__main__":
    main()
