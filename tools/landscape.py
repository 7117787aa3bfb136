"""How steep the actor's loss is around a run's last actor, along its gradient, optimisers' steps, a random direction.

    python tools/landscape.py runs/mine

First the gradients of consecutive windows, each clipped as in training: the mean cosine between two of them says how
much of one is not noise. Then, for the actor moved by steps of given lengths along a direction: the loss of as many
windows from the states in which the training stopped, with the same noise; and, without noise, the reward per step and
the falls of fresh episodes. Directions: the gradients' mean; that over their root mean square, as Adam's steps; its
matrices with all singular values made equal, as Muon's; a random one. (Cf. figure 11 of Xu et al. 2022.)
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from shac.algos.shac import SHAC
from shac.env import Env
from shac.models import load_task
from shac.runs import checkpoint

# Of the fresh episodes, the first steps are left out of the reward per step: the gait has not begun.
BEGINNING = 150


class Landscape:
    """A run's learner where its training stopped.

    Args:
      run: run folder.
      windows: number of windows of a loss or of a mean gradient.
      episodes: number of fresh episodes for a reward per step.
    """

    def __init__(self, run: Path, windows: int, episodes: int):
        config = checkpoint.read_config(run)
        # A learner's environment has the final substeps only in its last epochs.
        config = dataclasses.replace(config, substeps=config.policy_substeps)
        torch.set_num_threads(config.threads)
        self.learner = SHAC(load_task(config.model, config.task), config)
        self.learner.load_state_dict(checkpoint.load(checkpoint.path_of(run, "last"))["learner"])
        self.begin = self.learner.env.state_dict(), self.learner.exploration.get_state()
        self.normalize = self.learner.normalizer.snapshot(self.learner.env.dtype)
        self.windows = windows
        self.fresh = Env(self.learner.env.task, episodes, substeps=config.substeps, theta=config.theta)
        self.parameters = list(self.learner.actor.parameters())
        self.here = nn.utils.parameters_to_vector(self.parameters).detach()

    def losses(self):
        """The actor's losses in consecutive windows, one after the other."""
        self.learner.env.load_state_dict(self.begin[0])
        self.learner.exploration.set_state(self.begin[1])
        for _ in range(self.windows):
            yield self.learner.actor_loss(self.learner.rollout(self.normalize), self.normalize)

    def gradients(self) -> torch.Tensor:
        """Clipped gradients of the losses, (windows, number of parameters)."""
        rows = []
        for loss in self.losses():
            self.learner.actor.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters, self.learner.config.max_grad_norm)
            rows.append(nn.utils.parameters_to_vector([parameter.grad for parameter in self.parameters]))
        return torch.stack(rows)

    def orthogonalised(self, vector: torch.Tensor) -> torch.Tensor:
        """`vector`, with all singular values of its matrices made 1 and its other parts left out."""
        parts = []
        for parameter, part in zip(self.parameters, vector.split([p.numel() for p in self.parameters])):
            if parameter.ndim == 2:
                left, _, right = torch.linalg.svd(part.view_as(parameter), full_matrices=False)
                parts.append((left @ right).flatten())
            else:
                parts.append(torch.zeros_like(part))
        return torch.cat(parts)

    def move(self, step: torch.Tensor) -> None:
        nn.utils.vector_to_parameters(self.here + step, self.parameters)

    def loss(self) -> float:
        return sum(loss.item() for loss in self.losses()) / self.windows

    @torch.no_grad()
    def episodes(self, steps: int) -> tuple[float, float]:
        """Reward per step and fraction of falls of fresh episodes without noise, the same ones every time."""
        env = self.fresh
        env.reset(seed=1)
        alive, earned, lived = torch.ones(env.num_envs, dtype=torch.bool, device=env.device), 0.0, 0
        for step in range(steps):
            _, reward, terminated, _, _ = env.step(self.learner.actor(self.normalize(env.obs)))
            if step >= BEGINNING:
                earned, lived = earned + (reward * alive).sum().item(), lived + int(alive.sum())
            alive &= ~terminated
        return earned / max(lived, 1), 1 - alive.double().mean().item()


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--windows", default=6, show_default=True, help="Windows of a loss or a mean gradient.")
@click.option("--step", "steps", multiple=True, type=float, default=[0.003, 0.01, 0.03, 0.1], show_default=True)
@click.option("--episodes", default=128, show_default=True, help="Fresh episodes for each row.")
@click.option("--length", default=400, show_default=True, help="Control steps of a fresh episode.")
def main(run, windows, steps, episodes, length):
    """Measure how the actor's loss changes around the last actor of RUN."""
    landscape = Landscape(run, windows, episodes)
    gradients = landscape.gradients()
    units = nn.functional.normalize(gradients)
    cosines = units @ units.T
    other = ~torch.eye(windows, dtype=torch.bool, device=cosines.device)
    mean = gradients.mean(0)
    directions = {
        "gradient": mean,
        "Adam": mean / (gradients.square().mean(0).sqrt() + 1e-8),
        "Muon": landscape.orthogonalised(mean),
        "random": torch.randn(mean.shape, generator=torch.Generator().manual_seed(0)).to(mean),
    }
    table = Table("direction", "step", "loss", "reward per step", "falls", title=str(run))
    for name, length_of_step in [("none", 0.0), *((name, step) for name in directions for step in steps)]:
        direction = directions.get(name, mean)
        landscape.move(-length_of_step / direction.norm() * direction)
        reward, falls = landscape.episodes(length)
        table.add_row(name, f"{length_of_step:g}", f"{landscape.loss():.4f}", f"{reward:.3f}", f"{falls:.3f}")
    Console().print(
        table,
        f"norm of the weights {landscape.here.norm().item():.3g}; cosine of two windows' gradients: "
        f"mean {cosines[other].mean().item():.2f}",
    )


if __name__ == "__main__":
    main()
