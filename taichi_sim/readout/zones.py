"""What sites enclose: which points lie in it, which rays meet it."""

from __future__ import annotations

import numpy as np
import torch

from taichi_sim.types import GEOM_BOX, GEOM_CAPSULE, GEOM_CYLINDER, GEOM_ELLIPSOID, GEOM_SPHERE

_TINY = 1e-30


def holds(kind: int, size: np.ndarray, x: torch.Tensor) -> torch.Tensor:
    """Whether points (..., 3) [m], in the zone's axes, lie in it.

    Args:
        kind: of `types.ZONES`.
        size: MuJoCo's `site_size` (3,) [m].
    """
    low, high = _within(kind, size, x, x.new_tensor([0.0, 0.0, 1.0]).expand_as(x))
    return (low <= 0) & (high >= 0)


def met(kind: int, size: np.ndarray, x: torch.Tensor, ray: torch.Tensor) -> torch.Tensor:
    """Whether rays (..., 3) of any length but 0 from points x meet it; those from inside do."""
    low, high = _within(kind, size, x, ray)
    return (low <= high) & (high >= 0)


def _within(kind: int, size: np.ndarray, x: torch.Tensor, ray: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Between which t a zone holds x + t ray, which it does nowhere if the first is the larger one."""
    if kind == GEOM_BOX:
        return _slab(x, ray, size)
    if kind in (GEOM_SPHERE, GEOM_ELLIPSOID):
        scale = x.new_tensor(size if kind == GEOM_ELLIPSOID else [size[0]] * 3)
        return _ball(x / scale, ray / scale)
    # what is round about its axis
    radius, half = float(size[0]), float(size[1])
    side, ends = _ball(x[..., :2] / radius, ray[..., :2] / radius), _slab(x[..., 2:], ray[..., 2:], [half])
    low, high = torch.maximum(side[0], ends[0]), torch.minimum(side[1], ends[1])
    if kind == GEOM_CYLINDER:
        return low, high
    assert kind == GEOM_CAPSULE
    nowhere = low > high
    low, high = low.masked_fill(nowhere, np.inf), high.masked_fill(nowhere, -np.inf)
    for end in (half, -half):
        first, last = _ball((x - x.new_tensor([0.0, 0.0, end])) / radius, ray / radius)
        low, high = torch.minimum(low, first), torch.maximum(high, last)
    return low, high


def _slab(x: torch.Tensor, ray: torch.Tensor, half) -> tuple[torch.Tensor, torch.Tensor]:
    """Where all coordinates are between -half and half."""
    ray = torch.where(ray.abs() < _TINY, _TINY, ray)
    one, two = ((side * x.new_tensor(half) - x) / ray for side in (1, -1))
    return torch.minimum(one, two).amax(-1), torch.maximum(one, two).amin(-1)


def _ball(x: torch.Tensor, ray: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the length is at most 1."""
    a, b, c = (ray * ray).sum(-1), (x * ray).sum(-1), (x * x).sum(-1) - 1
    root = b * b - a * c
    nowhere = (root < 0) | ((a < _TINY) & (c > 0))
    root, a = root.clamp(min=0).sqrt(), a.clamp(min=_TINY)
    low, high = (-b - root) / a, (-b + root) / a
    # along the axis of what is round about it
    always = (a <= _TINY) & ~nowhere
    low, high = low.masked_fill(always, -np.inf), high.masked_fill(always, np.inf)
    return low.masked_fill(nowhere, np.inf), high.masked_fill(nowhere, -np.inf)
