"""Losses of many variants of a policy, simulated side by side with common random numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from shac import seeding
from shac.algos.networks import Actor
from shac.algos.shac import SHAC
from shac.algos.window import actor_loss, rollout
from shac.env import Env
from shac.task import Task
from taichi_sim.types import State

# What coordinate 1 adds to an actor's parameters, by name; those left out stay where they are.
Direction = Mapping[str, torch.Tensor]
# Side by side at most: a simulator's time is linear beyond a few hundred worlds, its window's memory everywhere.
WORLDS = 1024


class Fineness(NamedTuple):
    """How finely a loss is drawn.

    | field | meaning |
    |---|---|
    | points | variants of the policy along each direction |
    | trajectories | worlds that each variant is tried in |
    | horizon | BPTT's window [control steps] |
    """

    points: int
    trajectories: int
    horizon: int


class Variants(nn.Module):
    """Policies that differ by how far their weights are moved along some directions; takes an `Actor`'s place.

    Args:
      actor: the policy in the middle.
      directions: K of them.
      coordinates: how far along each, (V, K), one row per variant; the gradient flows into them.
    """

    def __init__(self, actor: Actor, directions: Sequence[Direction], coordinates: torch.Tensor):
        super().__init__()
        self.actor = actor
        self.num = len(coordinates)
        self.moved = {}
        for name, parameter in actor.named_parameters():
            steps = [
                torch.tensordot(along.unsqueeze(1), direction[name].unsqueeze(0), dims=1)
                for along, direction in zip(coordinates.unbind(1), directions)
                if name in direction
            ]
            if steps:
                self.moved[name] = parameter.detach() + sum(steps)

    def perturbation(self, eps: torch.Tensor) -> torch.Tensor | None:
        """As `Actor.perturbation`, for the noise (h, trajectories, num_actions) that all variants share."""
        return self.actor.perturbation(eps)

    def forward(self, obs: torch.Tensor, perturbation: torch.Tensor | None = None) -> torch.Tensor:
        """Actions (V * trajectories, num_actions) for standardised observations, variant by variant."""

        def act(moved, obs):
            return torch.func.functional_call(self.actor, moved, (obs, perturbation))

        return torch.vmap(act)(self.moved, obs.unflatten(0, (self.num, -1))).flatten(0, 1)


class CommonEnv(Env):
    """The same trajectories once for each variant: blocks of worlds that meet the same random beginnings.

    The k-th new episode of a trajectory begins with the same state in all blocks, whenever that is.

    Args:
      task: the task.
      blocks: number of variants.
      trajectories: worlds of each.
      options: as for `Env`.
    """

    def __init__(self, task: Task, blocks: int, trajectories: int, **options):
        self.trajectories = trajectories
        self.begun = torch.zeros(blocks * trajectories, dtype=torch.int64)
        self.beginnings: list[tuple[State, dict[str, torch.Tensor]]] = []
        super().__init__(task, blocks * trajectories, **options)

    def begin_at(self, saved: dict[str, Any]) -> None:
        """All blocks go on from an environment's `state_dict`; more trajectories than it has worlds share these."""
        worlds = torch.arange(self.num_envs) % self.trajectories % len(saved["progress"])
        tiled = {name: saved[name][worlds] for name in ("action", "obs", "progress", "limit")}
        for name in ("state", "constants"):
            tiled[name] = {field: x[worlds] for field, x in saved.get(name, {}).items()}
        self.load_state_dict({**saved, **tiled})
        self.begun.zero_()
        self.beginnings.clear()

    def _restart(self, ended: torch.Tensor) -> None:
        # on a card, too, beginnings are counted
        self._restart_counted(ended)

    def _begin(self, num: int, own: slice, rows: torch.Tensor) -> tuple[State, dict[str, torch.Tensor]]:
        rows = rows.cpu()
        which = self.begun[rows]
        self.begun[rows] += 1
        while len(self.beginnings) <= which.max():
            every = torch.arange(self.trajectories)
            self.beginnings.append(super()._begin(self.trajectories, slice(None), every))
        at, states = (which, rows % self.trajectories), [state for state, _ in self.beginnings]
        constants = {name: torch.stack([own[name] for _, own in self.beginnings])[at] for name in self.task.varied}
        return State(*(torch.stack(field)[at] for field in zip(*states))), constants


class Landscape:
    """The actor's loss around a learner's actor, as the learner's next window would have it.

    All variants begin in the states in which the learner's worlds stand and meet the same noise and the same beginnings
    of episodes.

    Args:
      learner: usually a snapshot (`snapshots.load`).
      trajectories: worlds of each variant.
      worlds: at most so many side by side, but for those of one variant.
    """

    def __init__(self, learner: SHAC, trajectories: int, *, worlds: int = WORLDS):
        config = learner.config
        self.learner = learner
        self.normalize = learner.normalizer.snapshot(learner.env.dtype)
        self.variants = max(1, worlds // trajectories)
        self.begin = learner.env.state_dict()
        self.env = CommonEnv(
            learner.env.task,
            self.variants,
            trajectories,
            device=config.device,
            stochastic_init=config.stochastic_init,
            substeps=config.final_substeps if learner.finishing else config.substeps,
            theta=config.theta,
        )

    def losses(
        self, directions: Sequence[Direction], points: torch.Tensor, horizon: int, *, critic: bool
    ) -> torch.Tensor:
        """The actor's loss (P,) at points (P, K) along K directions.

        Args:
          directions: what coordinate 1 adds to the actor's parameters.
          points: coordinates of the variants.
          horizon: control steps of the window.
          critic: close the window with the target critic's value, as SHAC does, or with nothing, as BPTT.
        """
        with torch.no_grad():
            return torch.cat([self._losses(directions, part, horizon, critic) for part in self._parts(points)])[
                : len(points)
            ]

    def gradients(
        self, directions: Sequence[Direction], points: torch.Tensor, horizon: int, *, critic: bool
    ) -> torch.Tensor:
        """The loss' analytic gradient (P, K) with respect to the coordinates; arguments as for `losses`.

        It is that of the plotted loss: a failure, where the loss jumps, has none.
        """
        found = []
        for part in self._parts(points):
            part.requires_grad_(True)
            total = self._losses(directions, part, horizon, critic).sum()
            found += torch.autograd.grad(total, part)
        return torch.cat(found)[: len(points)]

    def _parts(self, points: torch.Tensor) -> Sequence[torch.Tensor]:
        """The points in parts that fill the worlds; the last one is filled up with points in the middle."""
        points = points.to(self.env.device, self.env.dtype)
        missing = -len(points) % self.variants
        return torch.cat((points, points.new_zeros(missing, points.shape[1]))).split(self.variants)

    def _losses(
        self, directions: Sequence[Direction], points: torch.Tensor, horizon: int, critic: bool
    ) -> torch.Tensor:
        learner, env = self.learner, self.env
        env.begin_at(self.begin)
        # The same noise every time.
        generator = seeding.generator(learner.config.seed, "figures", env.device)
        shape = (horizon, env.trajectories, env.task.num_actions)
        eps = torch.randn(shape, generator=generator, dtype=env.dtype, device=env.device)
        window = rollout(env, Variants(learner.actor, directions, points), self.normalize, eps)
        value = None if not critic else lambda obs: learner.target_critic(self.normalize(obs))
        blocks = [slice(first, first + env.trajectories) for first in range(0, env.num_envs, env.trajectories)]
        return torch.stack([actor_loss(window.of(block), learner.config.gamma, value) for block in blocks])
