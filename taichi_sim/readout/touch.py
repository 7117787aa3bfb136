"""What sensors of touch and of contacts read: nothing of it has a gradient."""

from __future__ import annotations

import numpy as np
import torch

from taichi_sim import quaternion
from taichi_sim.readout import zones
from taichi_sim.readout.contacts import ContactData
from taichi_sim.readout.frames import Frames, Moving, subtrees
from taichi_sim.types import CONTACT_DATA, OBJ_BODY, OBJ_GEOM, OBJ_SITE, OBJ_XBODY, Model

# How a contact's sensor chooses: in order, those nearest or deepest first, those that push most first; or sums all up.
_ORDER, _DIST, _FORCE, _SUM = range(4)


class _Zones:
    """What sites enclose, in a state."""

    def __init__(self, model: Model, sites: np.ndarray, tensor):
        self._frames = Frames(model, np.full(len(sites), OBJ_SITE), sites, tensor)
        self._kinds, self._sizes = model.site_type[sites], model.site_size[sites]

    def at(self, scene) -> list[tuple]:
        """Of each site: kind, size, position (N, 1, 3), inverse rotation (N, 1, 4)."""
        moving = Moving(self._frames, scene)
        place, turn = moving.place.detach(), quaternion.conjugate(moving.turn.detach())
        return [
            (*x, place[:, k, None], turn[:, k, None]) for k, x in enumerate(zip(self._kinds, self._sizes, strict=True))
        ]


def _touch(model: Model, those: np.ndarray, tensor):
    """The sum of what pushes along the normal on a site's body, at points in what the site encloses, or from which the
    normal leads there.
    """
    sites = model.sensor_objid[those]
    around, bodies, of_geom = _Zones(model, sites, tensor), model.site_bodyid[sites], tensor(model.geom_bodyid).long()

    def read(scene) -> torch.Tensor:
        contact: ContactData = scene.data.contact
        normal = contact.frame[:, :, 0]
        push = (normal * contact.force).sum(-1)
        sums = []
        for body, (kind, size, place, turn) in zip(bodies, around.at(scene), strict=True):
            first, second = (of_geom[x] == int(body) for x in (contact.geom1, contact.geom2))
            ray = torch.where(second[:, None], -normal, normal)
            x, ray = quaternion.rotate(turn, contact.pos - place), quaternion.rotate(turn, ray)
            hit = contact.found & (first | second) & zones.met(kind, size, x, ray)
            sums.append(torch.where(hit, push.clamp(min=0), 0.0).sum(1))
        return torch.stack(sums, 1)

    return read


def _contact(model: Model, those: np.ndarray, tensor):
    """What sensors of contacts read, one after the other."""
    one = [_matched(model, model.sensor_objtype[k], model.sensor_objid[k], tensor) for k in those]
    two = [_matched(model, model.sensor_reftype[k], model.sensor_refid[k], tensor) for k in those]
    within = model.sensor_objtype[those] == OBJ_SITE
    around = _Zones(model, model.sensor_objid[those[within]], tensor)
    wanted = [[name for bit, name in enumerate(CONTACT_DATA) if model.sensor_intprm[k, 0] >> bit & 1] for k in those]

    def read(scene) -> torch.Tensor:
        contact: ContactData = scene.data.contact
        places, found = iter(around.at(scene)), []
        for k, sensor in enumerate(those):
            straight = one[k][contact.geom1] & two[k][contact.geom2]
            turned = one[k][contact.geom2] & two[k][contact.geom1] & ~straight
            match = contact.found & (straight | turned)
            if within[k]:
                kind, size, place, turn = next(places)
                match = match & zones.holds(kind, size, quaternion.rotate(turn, contact.pos - place))
            side = torch.where(turned, -1.0, 1.0).to(contact.dist)
            _, order, number = model.sensor_intprm[sensor]
            what = _summed(contact, match, side) if order == _SUM else _chosen(contact, match, side, order, number)
            rows = torch.cat([what[name] for name in wanted[k]], -1)
            missing = number - rows.shape[1]
            found.append(torch.nn.functional.pad(rows, (0, 0, 0, max(missing, 0))).flatten(1))
        return torch.cat(found, 1)

    return read


def _matched(model: Model, kind: int, index: int, tensor) -> torch.Tensor:
    """Which geoms a contact's sensor looks at, (ngeom,) bool."""
    on = np.ones(model.ngeom, bool)
    if kind == OBJ_GEOM:
        on = np.arange(model.ngeom) == index
    elif kind in (OBJ_BODY, OBJ_XBODY):
        bodies = subtrees(model)[index] if kind == OBJ_XBODY else np.arange(model.nbody) == index
        on = bodies.astype(bool)[model.geom_bodyid]
    return tensor(on).bool()


def _chosen(contact: ContactData, match: torch.Tensor, side: torch.Tensor, order: int, number: int) -> dict:
    """The first contacts that match, (N, at most `number`, numbers) by name; 0 where there are no more."""
    key = {_ORDER: torch.zeros_like(contact.dist), _DIST: contact.dist, _FORCE: -contact.force.square().sum(-1)}[order]
    chosen = key.masked_fill(~match, np.inf).sort(dim=1, stable=True).indices[:, :number]
    side = side.expand_as(key).gather(1, chosen)[..., None]

    def of(x: torch.Tensor) -> torch.Tensor:
        return x.gather(1, chosen.reshape(*chosen.shape, *(1,) * (x.dim() - 2)).expand(-1, -1, *x.shape[2:]))

    # turned by half a turn about the second tangent
    frame = of(contact.frame) * torch.stack([side, side, torch.ones_like(side)], dim=2)
    force, torque = (side * (frame @ of(x)[..., None])[..., 0] for x in (contact.force, contact.torque))
    what = {
        "found": match.sum(1)[:, None, None].to(force).expand(-1, chosen.shape[1], 1),
        "force": force,
        "torque": torque,
        "dist": of(contact.dist)[..., None],
        "pos": of(contact.pos),
        "normal": frame[:, :, 0],
        "tangent": frame[:, :, 1],
    }
    there = of(match)[..., None]
    return {name: torch.where(there, x, 0.0) for name, x in what.items()}


def _summed(contact: ContactData, match: torch.Tensor, side: torch.Tensor) -> dict:
    """All contacts that match as one, in world axes, (N, 1, numbers) by name: at the centre of their forces."""
    weight = torch.where(match, contact.force.norm(dim=-1), 0.0)[..., None]
    point = (weight * contact.pos).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1e-15)
    side = torch.where(match, side, 0.0)[..., None]
    force, torque = side * contact.force, side * contact.torque
    torque = (torque + torch.linalg.cross(contact.pos - point, force)).sum(1, keepdim=True)
    number = match.sum(1)[:, None, None].to(force)
    unit = (number > 0) * torch.eye(3).to(force)
    return {
        "found": number,
        "force": force.sum(1, keepdim=True),
        "torque": torque,
        "dist": torch.zeros_like(number),
        "pos": point,
        "normal": unit[:, :1],
        "tangent": unit[:, 1:2],
    }


READERS = {"touch": _touch, "contact": _contact}
