"""shac-gait: how a run's policy walks, beside people."""

from __future__ import annotations

from pathlib import Path

import click

from shac.cli.common import Command, Device, Finite, other_settings, print_result, reports_errors
from shac.errors import UserError

EXAMPLES = """
shac-gait runs/mine
shac-gait runs/mine --out report.html --csv gait.csv
shac-gait runs/mine --out report.pdf --episodes 64 --seconds 20
shac-gait runs/mine --mot walk.mot
shac-gait runs/all-speeds --set slowest=0.8 --set fastest=0.8
"""


@click.command(cls=Command, examples=EXAMPLES)
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--out", multiple=True, type=click.Path(path_type=Path), help="The report: .html, .png, .pdf; repeatable."
)
@click.option("--csv", "table", type=click.Path(path_type=Path), help="A table of the courses of a stride.")
@click.option("--mot", "motion", type=click.Path(path_type=Path), help="The mean stride: .mot, .sto or .csv.")
@click.option("--episodes", type=click.IntRange(min=1), default=16, show_default=True, help="Episodes, side by side.")
@click.option("--seconds", type=Finite(min=3, max=3600), default=12.0, show_default=True, help="Of each, at most.")
@click.option("--checkpoint", type=click.Choice(["best", "last"]), default="best", show_default=True, help="Policy.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the initial states.")
@click.option("--device", type=Device(), help="Where to compute.  [default: the run's]")
@other_settings
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@reports_errors
def main(run_dir, out, table, motion, episodes, seconds, checkpoint, seed, device, changes, as_json):
    """Report the gait of the policy of the run in folder RUN: courses of a stride, and figures of the whole.

    --mot writes the right leg's mean stride as a motion, which OpenSim reads and a training can follow (setting
    reference).

    The policy acts deterministically, in the episodes of shac-eval with as many of the same seed; what is of their
    first two seconds is left out.
    """
    # Not above: torch and Taichi take seconds to import, and --help needs neither.
    from shac import storage
    from shac.film.film import check_place
    from shac.gait import page
    from shac.gait.record import record
    from shac.gait.stride import mean_stride
    from shac.gait.summary import summarise
    from shac.runs.checkpoint import load_run
    from shac.runs.config import assignments
    from shac.runs.evaluate import begin
    from taichi_sim.mjcf.loader import compiled

    for path in out:
        page.check_output(path)
    if table is not None:
        check_place(table)
    if motion is not None:
        storage.check_kind(motion)
        check_place(motion)
    task, policy, config = load_run(run_dir, checkpoint, assignments(changes))
    if motion is not None:
        try:
            body, _, _ = compiled(task.asset)
        except (ValueError, TypeError) as error:
            raise UserError(f"--mot takes a task whose asset MuJoCo reads: {error}") from error
    env = begin(task, episodes, seed, device or config.device, config.policy_substeps, config.theta)
    recording = record(env, policy, seconds)
    gait = summarise(recording)
    for path in out:
        page.write(path, gait, f"Gait of {run_dir.resolve().name} ({config.model})")
    if table is not None:
        page.write_courses(table, gait)
    if motion is not None:
        storage.write(motion, mean_stride(recording, body))
    print_result(gait.whole, as_json)


if __name__ == "__main__":
    main()
