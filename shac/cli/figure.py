"""shac-figure: the paper's figures, from the trainings to the picture."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shac.cli.common import Command, reports_errors
from shac.cli.train import INTERRUPTED
from shac.errors import UserError

if TYPE_CHECKING:
    from shac.figures.plan import Plan

EXAMPLES = """
shac-figure --list
shac-figure 4                                # trains what is missing, draws docs/figures/fig04.png
shac-figure 1 5 --partial                    # draws what there is, and says so in the picture
shac-figure all --budget quick --jobs 2      # every figure, small, in one sitting
shac-figure all --budget paper --jobs 100 --profile slurm --runs /scratch/figures
"""


@click.command(cls=Command, examples=EXAMPLES)
@click.argument("numbers", metavar="[FIGURE]...", nargs=-1)
@click.option(
    "--budget",
    type=click.Choice(["quick", "default", "paper"]),
    default="default",
    show_default=True,
    help="How much is trained: minutes, a day and a half of one core, or the paper's seeds and epochs.",
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="At a time, each on one core.")
@click.option("--runs", type=click.Path(path_type=Path), help="Folder of the runs.  [default: runs/figures/BUDGET]")
@click.option(
    "--out", type=click.Path(path_type=Path), default="docs/figures", show_default=True, help="Folder of the pictures."
)
@click.option("--partial", is_flag=True, help="Train nothing; draw what there is, and say so in the picture.")
@click.option("--redraw", is_flag=True, help="Draw also what has been drawn since its trainings were complete.")
@click.option("--profile", help="Snakemake's profile of a cluster, which then runs the jobs.")
@click.option("--list", "list_figures", is_flag=True, help="List the figures and what they take, and exit.")
@click.option("--dry-run", is_flag=True, help="Say what would be trained and drawn, and exit.")
@reports_errors
def main(numbers, budget, jobs, runs, out, partial, redraw, profile, list_figures, dry_run):
    """Draw the FIGUREs of Xu et al. 2022, by their numbers or `all`, and train what they need before.

    Each is OUT/figNN.png, and its numbers are in OUT/data. Ctrl-C saves all trainings and stops; the same command goes
    on exactly there, and also after a crash. Exit status: 0 all drawn, 1 a training or drawing failed, 2 wrong usage,
    130 interrupted.
    """
    # Not above: torch and Taichi take seconds to import, and --help needs neither.
    from shac.figures import workflow
    from shac.figures.catalog import FIGURES
    from shac.figures.figure import Budget
    from shac.figures.plan import Plan
    from shac.figures.plot import pyplot

    if not numbers and not list_figures:
        raise UserError("give the figures' numbers or `all`; see shac-figure --list")
    chosen = _chosen(numbers or ("all",), list(FIGURES))
    folder = (runs or Path("runs/figures") / budget).resolve()
    plan = Plan.of(chosen, folder, out.resolve(), Budget(budget))
    if list_figures:
        click.echo(_list(plan))
        return
    if not dry_run:
        pyplot()
    if not partial:
        plan.check_algorithms()
    plan.check_folders()
    lacks = [lack for number in chosen if (lack := plan.lack(number))]
    if partial or dry_run:
        for line in lacks:
            click.echo(line)
        for number in chosen:
            click.echo(f"figure {number}: {'would be drawn' if dry_run else plan.draw(number)}")
        return
    workflow.require_engine()
    for line in lacks:
        click.echo(line)
    busy = f"another shac-figure is at work on {folder}: wait for it, or end it"
    with workflow.locked(plan.own_files / "lock", busy):
        try:
            done = workflow.run(folder, plan.write(), jobs, profile, redraw)
        except KeyboardInterrupt:
            click.echo("interrupted; the same command goes on", err=True)
            sys.exit(INTERRUPTED)
    if not done:
        failed = [lack for number in chosen if (lack := plan.lack(number))]
        click.echo(f"Error: {'; '.join(failed) or 'a figure was not drawn'}", err=True)
        sys.exit(1)


def _chosen(numbers: tuple[str, ...], known: list[int]) -> list[int]:
    if "all" in numbers:
        return known
    for text in numbers:
        if not text.isdecimal() or int(text) not in known:
            raise UserError(f"there is no figure {text}; there are {', '.join(map(str, known))}, and `all`")
    return sorted({int(text) for text in numbers})


def _list(plan: Plan) -> str:
    """One line for each figure, and one for all: a training that several show counts once there."""
    from shac.figures import costs
    from shac.figures.catalog import FIGURES

    lines = []
    for number, runs in plan.figures.items():
        lacking = plan.incomplete(runs)
        state = f"{len(runs) - len(lacking)} of {len(runs)} runs complete"
        cost = f", {costs.in_words(lacking)} left" if lacking else ""
        lines.append(f"{number:>3}  {FIGURES[number].title}\n     {state}{cost}")
    lacking = plan.incomplete(plan.runs.values())
    total = f"{len(plan.runs)} runs in all, {len(lacking)} of them incomplete"
    return "\n".join([*lines, total + (f", {costs.in_words(lacking)}" if lacking else "")])


if __name__ == "__main__":
    main()
