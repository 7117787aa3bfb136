"""shac-train: trains a model, or goes on with a run."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shac.cli.common import Command, Device, reports_errors
from shac.errors import UserError

if TYPE_CHECKING:
    from shac.runs.settings import Settings

EXAMPLES = """
shac-train --model cartpole --seed 1
shac-train --model cartpole --algo bptt --set horizon=64 --set actor_units=64,64
shac-train --model my_model.py --run-dir runs/mine
shac-train --model my_model.py --init runs/mine --set actor_lr=5e-4 --run-dir runs/on
shac-train --resume runs/mine
torchrun --nproc-per-node 2 -m shac.cli.train --model humanoid --run-dir runs/two
"""
INTERRUPTED = 130
# As in shac.runs.settings, which takes seconds to import.
ALGOS = ["shac", "bptt", "ppo", "sac", "redq", "mbpo"]


@click.command(cls=Command, examples=EXAMPLES)
@click.option("--model", help="Built-in model, or a Python file that defines one.")
@click.option(
    "--algo", type=click.Choice(["shac", "bptt", "ppo", "sac", "redq", "mbpo"]), help="Algorithm.  [default: shac]"
)
@click.option("--num-envs", type=int, help="Parallel worlds.")
@click.option("--max-epochs", type=int, help="Epochs to train.")
@click.option("--seed", type=int, help="Seed of everything random.  [default: 0]")
@click.option("--device", type=Device(), help="Where to compute.  [default: cpu]")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="YAML file of settings.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="One setting; may be repeated.")
@click.option("--run-dir", type=click.Path(path_type=Path), help="Run folder.  [default: runs/MODEL-ALGO-SEED-TIME]")
@click.option("--init", metavar="RUN", help="Begin with another run's networks.")
@click.option("--resume", "resume_dir", type=click.Path(path_type=Path), metavar="RUN", help="Go on with a run.")
@click.option("--distributed", is_flag=True, help="Refuse to train alone: torchrun must have started this process.")
@click.option("--list-models", is_flag=True, help="List the built-in models and exit.")
@click.option("--list-settings", is_flag=True, help="List a model's settings (with --model) and exit.")
@click.option("--quiet", is_flag=True, help="Show nothing but errors.")
@reports_errors
def main(list_models, list_settings, distributed, resume_dir, quiet, run_dir, config_file, assignments, **flags):
    """Train a policy with SHAC (or BPTT) on the simulator's analytic gradients, or with a baseline that takes none.

    Settings come from the model's preset, --config, --set and the flags, later ones winning. Ctrl-C saves and stops;
    --resume goes on exactly there, and also after a crash. Under torchrun its processes share the worlds. Exit status:
    0 complete, 1 stopped by a non-finite number or a lost process, 2 wrong usage, 130 interrupted.
    """
    # Not above: torch and Taichi take seconds to import, and --help needs neither.
    from shac import models, ranks
    from shac.runs import runner
    from shac.runs.config import to_yaml

    if list_models:
        click.echo("\n".join(models.names()))
        return
    if distributed and not ranks.started_by_torchrun():
        raise UserError(
            "--distributed needs torchrun, which starts the processes: "
            "torchrun --nproc-per-node 2 -m shac.cli.train --model ant"
        )
    if resume_dir is not None:
        given = [name for name, value in flags.items() if value is not None]
        given += [
            name for name, value in (("config", config_file), ("set", assignments), ("run_dir", run_dir)) if value
        ]
        if given:
            names = ", ".join("--" + name.replace("_", "-") for name in given)
            raise UserError(f"--resume takes all settings from the run folder; leave out {names}")
        complete = runner.resume(resume_dir, quiet=quiet)
    else:
        config = _settings(flags, config_file, assignments)
        if list_settings:
            click.echo(to_yaml(config), nl=False)
            return
        complete = runner.start(config, run_dir or _default_run_dir(config), quiet=quiet)
    sys.exit(0 if complete else INTERRUPTED)


def _settings(flags: dict[str, Any], config_file: Path | None, assignments: Sequence[str]) -> Settings:
    """The resolved settings of a new run."""
    from shac.models import make_task, task_class
    from shac.runs import config

    layers = config.read_yaml(config_file) if config_file else {}
    texts = {**config.assignments(assignments), **{name: value for name, value in flags.items() if value is not None}}
    model = texts.get("model", layers.get("model"))
    if not model:
        raise UserError("--model is missing: a built-in model (see --list-models) or a Python file that defines one")
    if model.endswith(".py"):
        # The run folder may be used from another directory.
        texts["model"] = str(Path(model).expanduser().resolve())
    kind = task_class(model)
    kinds = kind.kinds()
    own = {**layers.pop("task", {}), **{name: texts.pop(name) for name in list(texts) if name in kinds}}
    layers.update(config.parse(texts, also=kinds))
    if layers.get("init"):
        layers["init"] = str(Path(layers["init"]).expanduser().resolve())
    return config.resolve(make_task(kind, own), layers.get("algo", "shac"), layers)


def _default_run_dir(config: Settings) -> Path:
    time = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{Path(config.model).stem}-{config.algo}-{config.seed}-{time}"


if __name__ == "__main__":
    main()
