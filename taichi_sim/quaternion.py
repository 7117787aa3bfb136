"""Rotations of torch tensors by unit quaternions (w, x, y, z); differentiable."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize


def rotate(quat: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Rotates vectors (..., 3) by unit quaternions (..., 4); the leading dimensions broadcast."""
    u, x = torch.broadcast_tensors(quat[..., 1:], x)
    t = 2 * torch.linalg.cross(u, x)
    return x + quat[..., :1] * t + torch.linalg.cross(u, t)


def from_axis_angle(axis: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Quaternions (..., 4) of rotations by angles [rad] (...) about axes (..., 3) of any length but 0."""
    half = angle[..., None] / 2
    return torch.cat((half.cos(), half.sin() * normalize(axis, dim=-1)), dim=-1)


def multiply(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Hamilton products (..., 4): the rotation b, then a; the leading dimensions broadcast."""
    u, v = torch.broadcast_tensors(a[..., 1:], b[..., 1:])
    scalar = a[..., :1] * b[..., :1] - (u * v).sum(-1, keepdim=True)
    return torch.cat((scalar, a[..., :1] * v + b[..., :1] * u + torch.linalg.cross(u, v)), dim=-1)


def conjugate(quat: torch.Tensor) -> torch.Tensor:
    """The inverse rotations (..., 4)."""
    return torch.cat((quat[..., :1], -quat[..., 1:]), dim=-1)
