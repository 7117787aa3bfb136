"""What the workflow of `shac-figure` runs: one training or one drawing of a plan, in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from shac.cli.common import reports_errors
from shac.cli.train import INTERRUPTED


@click.group()
def main():
    """Do one job of a plan that shac-figure wrote."""


@main.command()
@click.argument("path", metavar="PLAN", type=click.Path(path_type=Path))
@click.argument("name", metavar="RUN")
@reports_errors
def train(path, name):
    """Train RUN of PLAN, or go on with it."""
    from shac.figures import costs, plan, workflow
    from shac.runs import runner

    the_plan = plan.read(path)
    run, folder = the_plan.runs[name], the_plan.folder / name
    # after a crash a training that lost its workflow may still be about to save
    with workflow.locked(the_plan.own_files / "locks" / name):
        plan.check_folder(run, folder)
        begun = (folder / "config.yaml").exists()
        click.echo(f"{name}: {'goes on' if begun else 'begins'} ({costs.in_words([run])})")
        if begun:
            complete = runner.resume(folder, quiet=True)
        else:
            complete = runner.start(plan.settings_of(run), folder, quiet=True)
    click.echo(f"{name}: {'complete' if complete else 'interrupted, and saved'}")
    sys.exit(0 if complete else INTERRUPTED)


@main.command()
@click.argument("path", metavar="PLAN", type=click.Path(path_type=Path))
@click.argument("number", metavar="FIGURE", type=int)
@reports_errors
def draw(path, number):
    """Draw FIGURE of PLAN."""
    from shac.figures import plan

    the_plan = plan.read(path)
    click.echo(f"figure {number}: {the_plan.draw(number)}")
    the_plan.mark(number).write_text(str(the_plan.out), encoding="utf-8")


if __name__ == "__main__":
    main()
