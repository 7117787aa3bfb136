"""Angles of the legs' joints in the sagittal plane, as clinics count them.

A segment's axes are the world's (x forward, y left, z up) while the body stands at its qpos0, and go with the segment
from there. An angle is that of the distal segment's long axis in the sagittal plane (x, z) of the proximal one: 0 as
the body stands, flexion of hip and knee and dorsiflexion of the ankle positive.
"""

from __future__ import annotations

import math

import torch

from shac.gait.legs import Legs
from taichi_sim import quaternion
from taichi_sim.render.scene import rest_pose
from taichi_sim.types import Model

# Long axes: of thigh and shank, of the foot.
_LONG, _SOLE = (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)


def anatomical(model: Model, legs: Legs, xquat: torch.Tensor) -> torch.Tensor:
    """Orientations of pelvis, thigh, shank and foot as rotations from the standing body, (N, 2, 4, 4).

    Args:
      model, legs: whose.
      xquat: orientations of the bodies, (N, nbody, 4).
    """
    standing = xquat.new_tensor(rest_pose(model)[1])
    turned = quaternion.multiply(xquat, quaternion.conjugate(standing))
    chains = [[legs.pelvis, *leg] for leg in legs.segments.tolist()]
    return turned[:, chains]


def sagittal(turned: torch.Tensor) -> torch.Tensor:
    """Hip flexion, knee flexion and ankle dorsiflexion [deg], (N, 2, 3), from `anatomical`'s orientations."""
    relative = quaternion.multiply(quaternion.conjugate(turned[:, :, :-1]), turned[:, :, 1:])
    long = quaternion.rotate(relative, relative.new_tensor(_LONG))
    sole = quaternion.rotate(relative[:, :, 2], relative.new_tensor(_SOLE))
    # forward (hip) or backward (knee) of what hangs down: its upper end goes the other way
    lean = torch.atan2(long[..., 0], long[..., 2])
    rise = torch.atan2(sole[..., 2], sole[..., 0])
    return torch.stack([-lean[:, :, 0], lean[:, :, 1], rise], dim=2) * (180 / math.pi)
