"""shac-eval: how good a run's policy is."""

from __future__ import annotations

from pathlib import Path

import click

from shac.cli.common import Command, Device, Finite, other_settings, print_result, reports_errors
from shac.errors import UserError

EXAMPLES = """
shac-eval runs/mine
shac-eval runs/mine --episodes 1024 --checkpoint last --json
shac-eval runs/mine --substeps 64 --theta 0   # does the policy live on the step's errors?
shac-eval runs/mine --engine mujoco           # or on this engine's contacts and limits?
shac-eval runs/mine --set push=1 --set push_every=2   # a task's setting, here of walk_mtu and velocity
"""


@click.command(cls=Command, examples=EXAMPLES)
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--episodes", type=click.IntRange(min=1), default=128, show_default=True, help="Episodes to run.")
@click.option("--checkpoint", type=click.Choice(["best", "last"]), default="best", show_default=True, help="Policy.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the initial states.")
@click.option("--device", type=Device(), help="Where to compute.  [default: the run's]")
@click.option("--stochastic", is_flag=True, help="Sample the actions, rather than take the distribution's centre.")
@click.option("--substeps", type=click.IntRange(min=1), help="Substeps per control step.  [default: the run's]")
@click.option("--theta", type=Finite(0, 1), help="Implicitness, 0: explicit.  [default: the run's]")
@click.option(
    "--engine",
    type=click.Choice(["taichi_sim", "mujoco"]),
    default="taichi_sim",
    show_default=True,
    help="What simulates: in mujoco, substeps are its own steps, by default the file's.",
)
@other_settings
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@reports_errors
def main(run_dir, episodes, checkpoint, seed, device, stochastic, substeps, theta, engine, changes, as_json):
    """Evaluate the policy of the run in folder RUN on episodes from random initial states."""
    # Not above: torch and Taichi take seconds to import, and --help needs neither.
    from shac.runs.checkpoint import load_run
    from shac.runs.config import assignments
    from shac.runs.evaluate import evaluate

    in_mujoco = engine == "mujoco"
    if in_mujoco and theta is not None:
        raise UserError("--theta is a setting of taichi_sim's step; leave it out with --engine mujoco")
    task, policy, config = load_run(run_dir, checkpoint, assignments(changes))
    result = evaluate(
        task,
        policy,
        episodes,
        seed=seed,
        device=device or config.device,
        stochastic_policy=stochastic,
        substeps=substeps or (None if in_mujoco else config.policy_substeps),
        theta=config.theta if theta is None else theta,
        engine=engine,
    ).summary()
    print_result(result, as_json)


if __name__ == "__main__":
    main()
