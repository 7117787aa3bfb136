"""Left and right exchanged."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn


class Mirror(NamedTuple):
    """What a body's mirror image observes and does: entry i is `signs[i]` times the body's own entry `index[i]`.

    Mirrored twice, everything is as it was.
    """

    obs_index: tuple[int, ...]
    obs_signs: tuple[float, ...]
    action_index: tuple[int, ...]
    action_signs: tuple[float, ...]

    def repeated(self, times: int) -> Mirror:
        """The same for so many observations side by side."""
        size = len(self.obs_index)
        index = tuple(i + k * size for k in range(times) for i in self.obs_index)
        return self._replace(obs_index=index, obs_signs=times * self.obs_signs)


class Exchange(nn.Module):
    """A `Mirror`'s map of observations, or of actions; no parameters, and nothing in a state_dict."""

    def __init__(self, index: tuple[int, ...], signs: tuple[float, ...]):
        super().__init__()
        self.register_buffer("index", torch.tensor(index), persistent=False)
        self.register_buffer("signs", torch.tensor(signs), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The mirror image of x (..., n)."""
        return x[..., self.index] * self.signs
