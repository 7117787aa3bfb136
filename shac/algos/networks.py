"""Actor, critic, and the policy that a run leaves behind."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from shac.algos.normalizer import Standardize
from shac.errors import UserError
from shac.mirror import Exchange, Mirror

if TYPE_CHECKING:
    from shac.runs.settings import Settings
    from shac.task import Task


# SAC's range of the logarithm of the action's standard deviation.
LOG_STD_RANGE = (-5.0, 2.0)
# Added to the variance under LayerNorm's root.
NORM_EPSILON = 1e-5


def mlp(num_in: int, units: Sequence[int], num_out: int) -> nn.Sequential:
    """Linear -> ELU -> LayerNorm for each hidden layer, then a linear output."""
    layers: list[nn.Module] = []
    for width in units:
        layers += [nn.Linear(num_in, width), nn.ELU(), nn.LayerNorm(width, eps=NORM_EPSILON)]
        num_in = width
    return nn.Sequential(*layers, nn.Linear(num_in, num_out))


def plain_mlp(num_in: int, units: Sequence[int], activation: type[nn.Module]) -> nn.Sequential:
    """Linear -> activation for each hidden layer; the output is the last hidden layer."""
    widths = (num_in, *units)
    layers = [layer for pair in itertools.pairwise(widths) for layer in (nn.Linear(*pair), activation())]
    return nn.Sequential(*layers)


class Actor(nn.Module):
    """A tanh-Gaussian policy with a state-independent standard deviation, or a deterministic one.

    a = tanh(mu(s) + exp(log_std) * eps),  eps ~ N(0, 1): Xu et al. 2022, section 4.1.

    With a `mirror`, mu is the mean of the network's output and of its output for the mirror image, mirrored: what the
    actor does for an image is the image of what it does.
    """

    def __init__(
        self,
        num_obs: int,
        num_actions: int,
        units: Sequence[int],
        *,
        stochastic: bool = True,
        init_log_std: float = -1.0,
        mirror: Mirror | None = None,
    ):
        super().__init__()
        self.mu = mlp(num_obs, units, num_actions)
        self.image = self.back = None
        if mirror is not None:
            self.image = Exchange(mirror.obs_index, mirror.obs_signs)
            self.back = Exchange(mirror.action_index, mirror.action_signs)
        self.log_std = nn.Parameter(torch.full((num_actions,), init_log_std)) if stochastic else None
        self.num_random = num_actions if stochastic else 0

    def perturbation(self, eps: torch.Tensor) -> torch.Tensor | None:
        """exp(log_std) * eps for standard normal `eps` (..., num_actions); None for a deterministic actor.

        Apart from `forward`, so that a whole window's worth costs two operations rather than two per step.
        """
        return None if self.log_std is None else self.log_std.exp() * eps

    def forward(self, obs: torch.Tensor, perturbation: torch.Tensor | None = None) -> torch.Tensor:
        """Actions in (-1, 1), (..., num_actions), for standardised observations (..., num_obs)."""
        mu = self.mu(obs)
        if self.image is not None:
            mu = 0.5 * (mu + self.back(self.mu(self.image(obs))))
        return torch.tanh(mu if perturbation is None else mu + perturbation)

    def act(self, obs: torch.Tensor, eps: torch.Tensor | None = None) -> torch.Tensor:
        """`forward` with standard normal `eps` (..., num_actions); None: the deterministic tanh(mu)."""
        return self(obs, None if eps is None else self.perturbation(eps))


class GaussianActor(nn.Module):
    """PPO's policy: a Gaussian with a state-independent standard deviation; beside it its value.

    What is beyond [-1, 1] is clipped by the environment.

    Args:
      num_obs, num_actions: sizes.
      units: widths of the policy's hidden layers.
      init_log_std: logarithm of the initial standard deviation.
      shared_value: whether the value stands on these layers, too, and not on as many of its own.
    """

    def __init__(self, num_obs: int, num_actions: int, units: Sequence[int], init_log_std: float, shared_value: bool):
        super().__init__()
        self.trunk = plain_mlp(num_obs, units, nn.ELU)
        num_features = units[-1] if units else num_obs
        self.mu = nn.Linear(num_features, num_actions)
        self.value_trunk = None if shared_value else plain_mlp(num_obs, units, nn.ELU)
        self.value = nn.Linear(num_features, 1)
        self.log_std = nn.Parameter(torch.full((num_actions,), init_log_std))
        self.num_random = num_actions

    @property
    def parts(self) -> list[list[nn.Parameter]]:
        """The policy's parameters, and the value's if these are others; else all."""
        if self.value_trunk is None:
            return [list(self.parameters())]
        value = [*self.value_trunk.parameters(), *self.value.parameters()]
        return [[*self.trunk.parameters(), *self.mu.parameters(), self.log_std], value]

    def forward(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mean and standard deviation (..., num_actions) of the action, and the value (..., 1)."""
        features = self.trunk(obs)
        mu = self.mu(features)
        value = self.value(features) if self.value_trunk is None else self.value_of(obs)
        return mu, self.log_std.exp().expand_as(mu), value

    def value_of(self, obs: torch.Tensor) -> torch.Tensor:
        """The value alone, (..., 1)."""
        return self.value((self.trunk if self.value_trunk is None else self.value_trunk)(obs))

    def act(self, obs: torch.Tensor, eps: torch.Tensor | None = None) -> torch.Tensor:
        """Actions (..., num_actions): the mean, or with standard normal `eps` a sample."""
        mu = self.mu(self.trunk(obs))
        return mu if eps is None else mu + self.log_std.exp() * eps


class SquashedActor(nn.Module):
    """SAC's policy: a tanh-Gaussian with a standard deviation that depends on the state."""

    def __init__(self, num_obs: int, num_actions: int, units: Sequence[int]):
        super().__init__()
        self.trunk = plain_mlp(num_obs, units, nn.ReLU)
        self.head = nn.Linear(units[-1] if units else num_obs, 2 * num_actions)
        self.num_random = num_actions

    def forward(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation (..., num_actions) of the action before tanh."""
        mu, log_std = self.head(self.trunk(obs)).chunk(2, dim=-1)
        return mu, log_std.clamp(*LOG_STD_RANGE).exp()

    def act(self, obs: torch.Tensor, eps: torch.Tensor | None = None) -> torch.Tensor:
        """Actions in (-1, 1), (..., num_actions): tanh of the mean, or with standard normal `eps` a sample."""
        mu, std = self(obs)
        return torch.tanh(mu if eps is None else mu + std * eps)

    def sample(self, obs: torch.Tensor, eps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Actions as `act`'s, with gradient, and the logarithms of their densities (...,).

        Haarnoja et al. 2018, appendix C, with log(1 - tanh(u)^2) = 2 (log 2 - u - log(1 + exp(-2 u))), which does not
        cancel where tanh saturates.
        """
        mu, std = self(obs)
        u = mu + std * eps
        log_slope = 2 * (math.log(2) - u - nn.functional.softplus(-2 * u))
        log_normal = -0.5 * eps.square() - std.log() - 0.5 * math.log(2 * math.pi)
        return torch.tanh(u), (log_normal - log_slope).sum(-1)


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


class Ensemble(nn.Module):
    """Networks of one shape, side by side: Linear -> activation for each hidden layer, then a linear output.

    Weights are drawn as torch.nn.Linear draws them.

    Args:
      num: number of networks.
      widths: sizes of input, hidden layers and output.
      activation: between the layers.
    """

    def __init__(self, num: int, widths: Sequence[int], activation: Callable = nn.functional.relu):
        super().__init__()
        self.num, self.activation = num, activation
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for num_in, num_out in itertools.pairwise(widths):
            bound = num_in**-0.5
            self.weights.append(nn.Parameter(torch.empty(num, num_in, num_out).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.empty(num, 1, num_out).uniform_(-bound, bound)))

    def forward(self, x: torch.Tensor, chosen: torch.Tensor | None = None) -> torch.Tensor:
        """Outputs (num, batch, widths[-1]).

        Args:
          x: inputs, (batch, widths[0]) for all networks or (num, batch, widths[0]).
          chosen: indices of the networks that are asked, instead of all.
        """
        rows = slice(None) if chosen is None else chosen
        x = x.expand(self.num if chosen is None else len(chosen), *x.shape[-2:])
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            x = torch.baddbmm(bias[rows], x, weight[rows])
            if layer < len(self.weights) - 1:
                x = self.activation(x)
        return x


class Policy(NamedTuple):
    """A trained policy: raw observations in, actions out."""

    actor: Actor | GaussianActor | SquashedActor
    normalize: Standardize

    @torch.no_grad()
    def __call__(self, obs: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Actions (num_envs, num_actions) for raw observations (num_envs, num_inputs).

        With a `generator` they are sampled, without one they are deterministic.
        """
        eps = None
        if generator is not None and self.actor.num_random:
            shape = (*obs.shape[:-1], self.actor.num_random)
            eps = torch.randn(shape, generator=generator, dtype=obs.dtype, device=obs.device)
        return self.actor.act(self.normalize(obs), eps)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Policy:
        """The policy for observations on `device`, of `dtype`. Its actor is moved, not copied."""
        return Policy(self.actor.to(device, dtype), Standardize(*(x.to(device, dtype) for x in self.normalize)))


def build_actor(task: Task, config: Settings) -> Actor | GaussianActor | SquashedActor:
    """An untrained actor of a run's shape, its weights from torch's global generator."""
    sizes = task.num_inputs, task.num_actions, config.actor_units
    if config.algo == "ppo":
        return GaussianActor(*sizes, config.init_log_std, config.shared_value)
    if config.algo in ("sac", "redq", "mbpo"):
        return SquashedActor(*sizes)
    mirror = task.mirror() if config.symmetric else None
    if config.symmetric and mirror is None:
        raise UserError(f"symmetric=true needs to know left from right, and {type(task).__name__}.mirror does not say")
    mirror = mirror and mirror.repeated(task.history)
    stochastic = config.actor == "stochastic"
    return Actor(*sizes, stochastic=stochastic, init_log_std=config.init_log_std, mirror=mirror)
