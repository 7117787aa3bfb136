"""Actor, critic, and the policy that a run leaves behind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from shac.algos.normalizer import Standardize

if TYPE_CHECKING:
    from shac.env import Task
    from shac.runs.config import Config


def mlp(num_in: int, units: Sequence[int], num_out: int) -> nn.Sequential:
    """Linear -> ELU -> LayerNorm for each hidden layer, then a linear output."""
    layers: list[nn.Module] = []
    for width in units:
        layers += [nn.Linear(num_in, width), nn.ELU(), nn.LayerNorm(width)]
        num_in = width
    return nn.Sequential(*layers, nn.Linear(num_in, num_out))


class Actor(nn.Module):
    """A tanh-Gaussian policy with a state-independent standard deviation, or a deterministic one.

    a = tanh(mu(s) + exp(log_std) * eps),  eps ~ N(0, 1): Xu et al. 2022, section 4.1.
    """

    def __init__(
        self,
        num_obs: int,
        num_actions: int,
        units: Sequence[int],
        *,
        stochastic: bool = True,
        init_log_std: float = -1.0,
    ):
        super().__init__()
        self.mu = mlp(num_obs, units, num_actions)
        self.log_std = nn.Parameter(torch.full((num_actions,), init_log_std)) if stochastic else None

    def perturbation(self, eps: torch.Tensor) -> torch.Tensor | None:
        """exp(log_std) * eps for standard normal `eps` (..., num_actions); None for a deterministic actor.

        Apart from `forward`, so that a whole window's worth costs two operations rather than two per step.
        """
        return None if self.log_std is None else self.log_std.exp() * eps

    def forward(self, obs: torch.Tensor, perturbation: torch.Tensor | None = None) -> torch.Tensor:
        """Actions in (-1, 1), (..., num_actions), for standardised observations (..., num_obs)."""
        mu = self.mu(obs)
        return torch.tanh(mu if perturbation is None else mu + perturbation)


class Critic(nn.Module):
    """State values (...,) of standardised observations (..., num_obs).

    Weights are orthogonal with gain sqrt(2) and biases zero to begin with, the output layer's too.
    """

    def __init__(self, num_obs: int, units: Sequence[int]):
        super().__init__()
        self.value = mlp(num_obs, units, 1)
        for layer in self.value:
            if isinstance(layer, nn.Linear):
                nn.init.orthogonal_(layer.weight, gain=math.sqrt(2))
                nn.init.zeros_(layer.bias)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.value(obs).squeeze(-1)


class Policy(NamedTuple):
    """A trained policy: raw observations in, actions out."""

    actor: Actor
    normalize: Standardize

    @torch.no_grad()
    def __call__(self, obs: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Actions (num_envs, num_actions) for raw observations (num_envs, num_obs).

        With a `generator` they are sampled, without one they are the deterministic tanh(mu).
        """
        perturbation = None
        if generator is not None and self.actor.log_std is not None:
            shape = (*obs.shape[:-1], len(self.actor.log_std))
            eps = torch.randn(shape, generator=generator, dtype=obs.dtype, device=obs.device)
            perturbation = self.actor.perturbation(eps)
        return self.actor(self.normalize(obs), perturbation)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Policy:
        """The policy for observations on `device`, of `dtype`. Its actor is moved, not copied."""
        return Policy(self.actor.to(device, dtype), Standardize(*(x.to(device, dtype) for x in self.normalize)))


def build_actor(task: Task, config: Config) -> Actor:
    """An untrained actor of a run's shape, its weights from torch's global generator."""
    return Actor(
        task.num_obs,
        task.num_actions,
        config.actor_units,
        stochastic=config.actor == "stochastic",
        init_log_std=config.init_log_std,
    )
