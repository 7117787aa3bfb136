"""Single contacts of a state: `ContactData`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn.functional import normalize

from taichi_sim import quaternion
from taichi_sim.constraint.touch import ACROSS2
from taichi_sim.contact import record
from taichi_sim.types import GEOM_CAPSULE, GEOM_PLANE, Model


class ContactData(NamedTuple):
    """Where geoms touch, n places where they can; MuJoCo's names, one row per world. Detached.

    A geom has as many places as it can touch at: a sphere one, a capsule two, a box on a plane eight. What is not found
    is 0. Forces act midway between the surfaces, but by the penalty on planes at the body's.

    | field | meaning | shape |
    |---|---|---|
    | geom1, geom2 | the geoms, MuJoCo's order | (n,) each |
    | found | whether they touch there, and so may push | (N, n) bool |
    | dist | distance between their surfaces, negative: penetration [m] | (N, n) |
    | pos | where the force acts, in world axes [m] | (N, n, 3) |
    | frame | rows: normal, from geom1 to geom2, and two tangents | (N, n, 3, 3) |
    | force, torque | on geom2, and about the point, in world axes [N, N m]; on geom1 their opposites | (N, n, 3) each |
    """

    geom1: torch.Tensor
    geom2: torch.Tensor
    found: torch.Tensor
    dist: torch.Tensor
    pos: torch.Tensor
    frame: torch.Tensor
    force: torch.Tensor
    torque: torch.Tensor


class Contacts:
    """The places at which geoms of a model can touch.

    Args:
        model: whose.
        slots: `contact.tables.Slots`.
        tensor: as of `sensors.Sensors`.
    """

    def __init__(self, model: Model, slots, tensor):
        geom1, geom2 = (x[slots.pair] for x in (model.pair_geom1, model.pair_geom2))
        self._geom1, self._geom2 = tensor(geom1).long(), tensor(geom2).long()
        self._margin, self._side = tensor(model.pair_margin[slots.pair]), tensor(slots.side.astype(float))[:, None]
        # MuJoCo lays the tangents along capsules on planes
        along = (model.geom_type[geom1] == GEOM_PLANE) & (model.geom_type[geom2] == GEOM_CAPSULE)
        self._body, self._quat = tensor(model.geom_bodyid[geom2]).long(), tensor(model.geom_quat[geom2])
        self._along = tensor(along[:, None]).bool()

    def data(self, report: torch.Tensor, xquat: torch.Tensor) -> ContactData:
        """Args: what `contact.record` has written (N, 13 n), and the bodies' orientations."""
        report = report.reshape(len(report), len(self._margin), record.SIZE)
        found = report[..., 0] > 0
        report = torch.where(found[..., None], report, 0.0)
        depth, normal, pos, force, torque = report.split([1, 3, 3, 3, 3], dim=-1)
        dist = torch.where(found, self._margin - depth[..., 0], 0.0)
        normal = self._side * normal
        frame = torch.where(found[..., None, None], self._frame(normal, xquat), 0.0)
        return ContactData(self._geom1, self._geom2, found, dist, pos, frame, self._side * force, self._side * torque)

    def _frame(self, normal: torch.Tensor, xquat: torch.Tensor) -> torch.Tensor:
        """Normals and tangents (N, n, 3, 3)."""
        unit = torch.eye(3, dtype=normal.dtype, device=normal.device)
        x, y = normal[..., :1].abs(), normal[..., 1:2].abs()
        free = torch.where(y < 0.5, unit[1], unit[2])
        upright = torch.where(x > 0.9, unit[1], unit[0])
        axis = quaternion.rotate(quaternion.multiply(xquat[:, self._body], self._quat), unit[2])
        axis = _across(axis, normal)
        has_one = (axis * axis).sum(-1, keepdim=True) > ACROSS2
        across = torch.where(self._along, torch.where(has_one, axis, _across(upright, normal)), _across(free, normal))
        one = normalize(across, dim=-1)
        return torch.stack([normal, one, torch.linalg.cross(normal, one)], dim=-2)


def _across(x: torch.Tensor, normal: torch.Tensor) -> torch.Tensor:
    """What of vectors is across normals."""
    return x - normal * (x * normal).sum(-1, keepdim=True)
