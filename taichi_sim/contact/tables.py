"""What the kernels of this room know of a model, and what they need for each world."""

from __future__ import annotations

import types
from typing import NamedTuple

import numpy as np

from taichi_sim.bodies.tables import Damping, allot
from taichi_sim.bodies.tree import Tree
from taichi_sim.contact import points
from taichi_sim.contact.convex.shapes import Shapes
from taichi_sim.contact.hfield import nodes
from taichi_sim.lanes.buffers import Fields
from taichi_sim.runtime import ti
from taichi_sim.types import Model

# Model constants of this room that users may fit.
PARAMETERS = ("pair_mu", "pair_spin_mu", "pair_roll_mu")


class Touching(NamedTuple):
    """Where a model's bodies can touch, `points.on_planes` and `points.between_bodies`."""

    on_planes: dict[str, np.ndarray]
    between: dict[str, np.ndarray]
    shapes: Shapes


def touching(model: Model, tree: Tree) -> Touching:
    return Touching(points.on_planes(model, tree), *points.between_bodies(model, tree))


class Slots(NamedTuple):
    """The contacts that there can be, those on planes first, n of them.

    | field | meaning |
    |---|---|
    | pair | the pair of geoms that each belongs to (n,) |
    | side | 1 where what the kernels say of its first geom is said of the pair's second, else -1 (n,) |
    """

    pair: np.ndarray
    side: np.ndarray


class Constants:
    """Where bodies can touch: `planes` and `pairs` have the columns of `points.on_planes` and `points.between_bodies`.

    | field | meaning |
    |---|---|
    | planes.number, pairs.number | how many there are |
    | planes.kinds, pairs.kinds | which kinds there are; what a model has none of is left out of its kernels |
    | planes.turning, pairs.turning | whether some contact has torsional or rolling friction |
    | planes.fit, pairs.fit, per_block | whether users may fit friction: then it has one row per block, and an adjoint |
    | planes.lossy, pairs.lossy | whether some contact's damping is dry |
    | penalty | whether the law is the penalty, and not MuJoCo's (`constraint`) |
    | pairs.static | whether it holds some pair of which one geom belongs to the world |
    | any | whether anything can touch |
    | shapes | of the geoms of convex pairs: `shapes.Shapes`; round: whether there are ellipsoids or cylinders |
    | found | how many contacts of convex pairs there can be, those of the least overlap included |
    | nodes | of the height fields that can be touched: `hfield.nodes` |
    | damping | what is implicit about it |
    """

    def __init__(self, model: Model, touching: Touching, f: Fields, fitted: tuple[str, ...]):
        on_planes, between, shapes = dict(touching.on_planes), dict(touching.between), touching.shapes
        # how exact overlaps of convex shapes are found
        between["tolerance"] = between["size"] * (1e-10 if f.shared.real is ti.f64 else 3e-6)
        frame = on_planes.pop("frame")
        # `constraint.tables` reads it
        del on_planes["axis"]
        pair, side = np.concatenate([on_planes["pair"], between["pair"]]), between.pop("side")
        self._slots = Slots(pair, np.concatenate([np.ones(len(on_planes["pair"]), side.dtype), side]))
        self.penalty = model.opt.constraint == "penalty"
        fit = self.penalty and bool(set(PARAMETERS) & set(fitted))
        self.planes, self.pairs = (_contacts(table, fit, f) for table in (on_planes, between))
        self.pairs.static = self.penalty and bool((between["link2"] == 0).any())
        self.shapes = types.SimpleNamespace(
            round=bool(shapes.columns["ellipsoid"].any()), **f.table(shapes.columns), **f.table(shapes.points)
        )
        self.found = int((between["row"] + 1).max()) if points.CONVEX in self.pairs.kinds else 0
        fields = not self.pairs.kinds.isdisjoint(points.ON_HFIELD.values())
        self.nodes = f.shared.constant(height_fields(model) if fields else np.zeros((1, 3)))
        self.any = self.planes.number + self.pairs.number > 0
        # MuJoCo's law holds what touches bodies elsewhere than in the links' damping
        later = not self.penalty and self.planes.number > 0
        normals, fixed = f.shared.constant(frame), len(frame) * (not later)
        damped = self.any if self.penalty else later
        self.damping = Damping(normals, fixed, self.pairs.static or later, damped, later)

    def slots(self) -> Slots:
        """What readers of reports need to know of `record`'s contacts."""
        return self._slots

    def fitted_cells(self, name: str):
        """Where a parameter of `PARAMETERS` goes, see `parameters`: (items, entry, weights, entries of it, offset)."""
        for contacts in (self.planes, self.pairs):
            for k, pair in enumerate(contacts._pair):
                yield getattr(contacts, name.removeprefix("pair_")), k, np.ones((1, 1)), [pair], 0.0


def _contacts(table: dict[str, np.ndarray], fit: bool, f: Fields) -> types.SimpleNamespace:
    """A table of contacts by the penalty."""
    table = dict(table)
    contacts = types.SimpleNamespace(
        number=len(table["kind"]), kinds=frozenset(table["kind"].tolist()), fit=fit, per_block=int(fit)
    )
    contacts._pair = table.pop("pair").tolist()
    contacts.turning = any(table[name].any() for name in ("spin_mu", "roll_mu"))
    contacts.turning |= fit and any(table[name].any() for name in ("spin_kf", "roll_kf"))
    contacts.lossy = bool(table["loss"].any())
    if fit:
        for name in ("mu", "spin_mu", "roll_mu"):
            items = f.fitted.constant(table.pop(name))
            setattr(contacts, name, items)
            setattr(contacts, f"grad_{name}", f.gradient_of(items))
    vars(contacts).update(f.table(table))
    return contacts


def height_fields(model: Model) -> np.ndarray:
    """The nodes of all height fields, one after the other, (n, 3)."""
    grids = zip(model.hfield_adr, model.hfield_nrow, model.hfield_ncol, model.hfield_size, strict=True)
    return np.concatenate([nodes(model.hfield_data[a:][: r * c].reshape(r, c), size) for a, r, c, size in grids])


class Scratch:
    """Intermediate results of contact.

    | field | meaning | items |
    |---|---|---|
    | qfrc | generalised contact forces [N, N m] | nv |
    | kn, kf | contact forces on a link's subtree (moment, force) | nlink |
    | triangle, kept | of one convex pair at a time: c, f1, f2, share as in `gjk.descend`, and the best of two | 3 |
    | found.depth, n, p | contacts of convex pairs, without margin; n and p in geom 2's frame | found |
    | found.gap, ahead, tilt, x1, a, a1, b, b1 | depth without radii, m, t, ... of `features` | found |
    | found.own | 1 where the direction m is the normal itself | found |
    """

    def __init__(self, m, f: Fields):
        if m.contact.any:
            allot(self, f, "qfrc", m.nv)
            allot(self, f, "kn kf", m.nlink, 3)
        if m.contact.found:
            self.triangle, self.kept, self.found = (types.SimpleNamespace() for _ in range(3))
            for corners in (self.triangle, self.kept):
                allot(corners, f, "c f1 f2", 3, 3)
                allot(corners, f, "share", 3)
            allot(self.found, f, "depth gap a1 b1 own", m.contact.found)
            allot(self.found, f, "n p ahead tilt x1 a b", m.contact.found, 3)
