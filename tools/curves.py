"""Learning curves of runs of one model, drawn over environment steps and over time.

    python tools/curves.py docs/ant.png runs/ant0 runs/ant1 runs/ant2 --target 7660

Each line is a run's mean return of its last 100 training episodes, whose actions are sampled.
"""

from __future__ import annotations

import csv
from pathlib import Path

import click
import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402


def read(run: Path) -> dict[str, list[float]]:
    """Columns of a run's metrics.csv; rows before the first finished episode are left out."""
    with open(run / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["return_mean"] not in ("", "nan")]
    return {name: [float(row[name]) for row in rows] for name in ("steps", "seconds", "return_mean")}


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--target", "targets", multiple=True, type=float, help="Return to mark with a line.")
def main(out, runs, targets):
    """Draw the learning curves of RUNS into the picture OUT."""
    figure, (by_steps, by_time) = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
    for run in runs:
        curve = read(run)
        by_steps.plot([s / 1e6 for s in curve["steps"]], curve["return_mean"], lw=1, label=run.name)
        by_time.plot([s / 60 for s in curve["seconds"]], curve["return_mean"], lw=1, label=run.name)
    for axes, label in ((by_steps, "environment steps [million]"), (by_time, "wall-clock [min]")):
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
        for target in targets:
            axes.axhline(target, color="black", lw=0.8, ls="--")
    by_steps.set_ylabel("return")
    by_steps.legend(frameon=False)
    figure.savefig(out, dpi=110)
    click.echo(out)


if __name__ == "__main__":
    main()
