"""Which MJCF files the simulator takes, and whether they stay finite under random controls.

    python tools/try_models.py path/to/dm_control/suite path/to/gymnasium/envs/mujoco/assets my_robot.xml

Each file is loaded as it is. One that loads is simulated for 1,000 steps of its own timestep in several worlds, with
controls drawn anew every ten steps; one that does not is listed with what it lacks.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import click
import numpy as np
import torch

import taichi_sim as ts

HOLD = 10


def bounds(model: ts.Model) -> tuple[torch.Tensor, torch.Tensor]:
    """Smallest and largest control, (nu,) each; -1 and 1 where the file gives none."""
    limited = model.actuator_ctrllimited[:, None]
    low, high = np.where(limited, model.actuator_ctrlrange, (-1.0, 1.0)).T
    return torch.tensor(low), torch.tensor(high)


@torch.no_grad()
def simulate(model: ts.Model, steps: int, worlds: int, seed: int) -> int | None:
    """The step that led to a number which is not finite; None if there was none."""
    sim = ts.Simulator(model, worlds)
    low, high = (bound.to(sim.device, sim.dtype) for bound in bounds(model))
    generator = torch.Generator().manual_seed(seed)
    state = sim.initial_state()
    for step in range(steps):
        if step % HOLD == 0:
            drawn = torch.rand(worlds, model.nu, generator=generator).to(low)
        try:
            state = sim.step(state, low + (high - low) * drawn)
        except FloatingPointError:
            return step
        if not all(bool(x.isfinite().all()) for x in state):
            return step
    return None


def files(paths: tuple[Path, ...]) -> list[Path]:
    """The files among `paths`, and the MJCF files in the folders among them."""
    return [file for path in paths for file in (sorted(path.glob("*.xml")) if path.is_dir() else [path])]


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--steps", default=1000, show_default=True)
@click.option("--worlds", default=4, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(paths, steps, worlds, seed):
    """Load MJCF files, and folders of them, and simulate them under random controls."""
    warnings.simplefilter("ignore")
    ts.init()
    outcomes = []
    for path in files(paths):
        name = f"{path.parent.name}/{path.name}"
        try:
            model = ts.load(path)
        except ts.UnsupportedModelError as error:
            outcomes.append("refused")
            click.echo(f"{name}: refused\n  " + str(error).partition("\n")[2].strip().replace("\n", "\n  "))
            continue
        broken = simulate(model, steps, worlds, seed)
        outcomes.append("finite" if broken is None else "not finite")
        click.echo(f"{name}: " + (f"finite for {steps} steps" if broken is None else f"not finite in step {broken}"))
    click.echo(", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in ("finite", "not finite", "refused")))


if __name__ == "__main__":
    main()
