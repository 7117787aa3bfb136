"""Running mean and variance of the observations."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from shac.ranks import SOLO, Ranks

# Added to the variance under the root: an observation that never changes must not be divided by zero.
EPSILON = 1e-5


class Standardize(NamedTuple):
    """A fixed affine map of observations; constant for autograd.

    | field | meaning | shape |
    |---|---|---|
    | mean | subtracted first | (num_obs,) |
    | inv_std | multiplied after that, 1 / sqrt(var + 1e-5) | (num_obs,) |
    """

    mean: torch.Tensor
    inv_std: torch.Tensor

    def __call__(self, obs: torch.Tensor) -> torch.Tensor:
        """Standardised observations, of the shape of `obs` (..., num_obs)."""
        return (obs - self.mean) * self.inv_std


class Normalizer(nn.Module):
    """Running statistics by Chan et al.'s parallel update, with biased batch variances.

    A nearly empty count, mean 0 and variance 1 to begin with: the map is the identity until the first update.
    Statistics are kept in float64: a run's counts pass float32's exact integers.
    """

    def __init__(self, num_obs: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_obs, dtype=torch.float64))
        self.register_buffer("var", torch.ones(num_obs, dtype=torch.float64))
        self.register_buffer("count", torch.tensor(1e-4, dtype=torch.float64))

    @torch.no_grad()
    def update(self, obs: torch.Tensor, ranks: Ranks = SOLO) -> None:
        """Takes in a batch of observations (..., num_obs), any leading dimensions; one of each process's."""
        obs = obs.reshape(-1, obs.shape[-1]).double()
        num = len(obs) * ranks.size
        own_mean, own_var = obs.mean(0), obs.var(0, correction=0)
        mean = ranks.mean(own_mean)
        var = ranks.mean(own_var + (own_mean - mean).square())
        total = self.count + num
        delta = mean - self.mean
        between = delta.square() * (self.count * num / total)
        self.var.copy_((self.var * self.count + var * num + between) / total)
        self.mean.add_(delta * (num / total))
        self.count.copy_(total)

    def snapshot(self, dtype: torch.dtype) -> Standardize:
        """The map as of now, which later updates do not change."""
        return Standardize(self.mean.to(dtype, copy=True), (self.var + EPSILON).rsqrt().to(dtype))
