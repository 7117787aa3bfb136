"""MBPO's model of a task: an ensemble of probabilistic networks that learn what a step leads to.

Chua et al., Deep Reinforcement Learning in a Handful of Trials using Probabilistic Dynamics Models, 2018; settings of
Janner et al., When to Trust Your Model: Model-Based Policy Optimization, 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from shac.algos.networks import Ensemble
from shac.algos.normalizer import Normalizer

if TYPE_CHECKING:
    from shac.runs.settings import MBPO as Settings

# Logarithms of variances are kept between bounds that are learnt from here on.
LOG_VARIANCES = (-10.0, 0.5)
BOUNDS_WEIGHT = 0.01
# A member has improved if its error on the held-out steps is less by this part.
IMPROVEMENT = 0.01


class Dynamics(nn.Module):
    """For an observation and an action: Gaussians of the observation's change and of the reward, one a member.

    They are learnt standardised: the reward's error, in a hundred times as large a unit as some changes, would
    otherwise say alone when a fit has ended. The authors' tasks have changes as large as their rewards.

    Args:
      num_obs, num_actions: sizes.
      config: MBPO's settings.
    """

    def __init__(self, num_obs: int, num_actions: int, config: Settings):
        super().__init__()
        self.config, self.num_targets = config, num_obs + 1
        widths = (num_obs + num_actions, *config.model_units, 2 * self.num_targets)
        self.members = Ensemble(config.members, widths, nn.functional.silu)
        low, high = LOG_VARIANCES
        self.min_log_var = nn.Parameter(torch.full((self.num_targets,), low))
        self.max_log_var = nn.Parameter(torch.full((self.num_targets,), high))
        self.inputs, self.targets = Normalizer(num_obs + num_actions), Normalizer(self.num_targets)
        # Members by their error on held-out steps, least first.
        self.register_buffer("elites", torch.arange(config.members)[: config.elites])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Means and logarithms of variances (members, batch, num_obs + 1) for inputs (batch, num_obs + num_actions).

        Those of standardised targets. Inputs (members, batch, ...) give every member its own.
        """
        mean, log_var = self.members(self.inputs.snapshot(x.dtype)(x)).chunk(2, dim=-1)
        log_var = self.max_log_var - nn.functional.softplus(self.max_log_var - log_var)
        return mean, self.min_log_var + nn.functional.softplus(log_var - self.min_log_var)

    def loss(self, x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Twice the negative logarithm of the likelihood without its constant, a number's mean, summed over members.

        And what keeps the bounds of the variances close, and the weights small. Targets are standardised.
        """
        mean, log_var = self(x)
        likelihood = ((mean - targets).square() * (-log_var).exp() + log_var).mean((1, 2)).sum()
        bounds = BOUNDS_WEIGHT * (self.max_log_var.sum() - self.min_log_var.sum())
        decays = zip(self.config.weight_decay, self.members.weights)
        return likelihood + bounds + sum(decay * weight.square().sum() / 2 for decay, weight in decays)

    def fit(
        self, x: torch.Tensor, targets: torch.Tensor, optimizer: torch.optim.Optimizer, generator: torch.Generator
    ) -> float:
        """Learns from all steps until the error on held-out ones no longer falls; chooses the elites.

        Args:
          x: inputs, (steps, num_obs + num_actions).
          targets: changes of the observation, and rewards, (steps, num_obs + 1).
          optimizer: of this module's parameters.
          generator: of the order of the steps.

        Returns:
          The mean squared error of the elites on the held-out steps, standardised.
        """
        config, device = self.config, x.device
        order = torch.randperm(len(x), generator=generator).to(device)
        held_out, rest = order.split([round(config.holdout * len(x)), len(x) - round(config.holdout * len(x))])
        # The statistics are those of what is learnt from now.
        for normalizer, values in ((self.inputs, x), (self.targets, targets)):
            fresh = Normalizer(values.shape[1]).to(device)
            fresh.update(values[rest])
            normalizer.load_state_dict(fresh.state_dict())
        targets = self.targets.snapshot(targets.dtype)(targets)
        # Every member sees its own draw of the steps, with repetitions.
        draws = torch.randint(len(rest), (config.members, len(rest)), generator=generator).to(device)
        best = self._errors(x[held_out], targets[held_out])
        weights = [parameter.detach().clone() for parameter in self.members.parameters()]
        waited = 0
        while waited < config.patience:
            draws = draws.gather(1, torch.rand(draws.shape, generator=generator).argsort(1).to(device))
            for columns in draws.split(config.model_batch, dim=1):
                rows = rest[columns]
                loss = self.loss(x[rows], targets[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            errors = self._errors(x[held_out], targets[held_out])
            better = errors < (1 - IMPROVEMENT) * best
            waited = 0 if better.any() else waited + 1
            best = torch.where(better, errors, best)
            for kept, parameter in zip(weights, self.members.parameters()):
                kept[better] = parameter.detach()[better]
        with torch.no_grad():
            for kept, parameter in zip(weights, self.members.parameters()):
                parameter.copy_(kept)
        self.elites.copy_(best.argsort()[: config.elites])
        return best[self.elites].mean().item()

    @torch.no_grad()
    def predict(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Next observations (batch, num_obs) and rewards (batch,): drawn, each of an elite drawn for it."""
        member = self.elites[torch.randint(len(self.elites), (len(obs),), device=obs.device)]
        mean, log_var = self(torch.cat((obs, action), dim=1))
        rows = torch.arange(len(obs), device=obs.device)
        mean, log_var = mean[member, rows], log_var[member, rows]
        shift, inv_std = self.targets.snapshot(mean.dtype)
        drawn = shift + (mean + (0.5 * log_var).exp() * torch.randn_like(mean)) / inv_std
        return obs + drawn[:, :-1], drawn[:, -1]

    @torch.no_grad()
    def _errors(self, x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean squared error of each member, (members,)."""
        return (self(x)[0] - targets).square().mean((1, 2))
