"""What the kernels of this room know of a model, and what they need for each world."""

from __future__ import annotations

import types

from taichi_sim.bodies.tables import Damping, allot
from taichi_sim.bodies.tree import Tree
from taichi_sim.buffers import Fields
from taichi_sim.contact import points
from taichi_sim.types import Model


class Constants:
    """Where bodies can touch: `planes` and `pairs` have the columns of `points.on_planes` and `points.between_bodies`.

    | field | meaning |
    |---|---|
    | planes.number, pairs.number | how many there are |
    | planes.kinds, pairs.kinds | which kinds there are; what a model has none of is left out of its kernels |
    | planes.turning, pairs.turning | whether some contact has torsional or rolling friction |
    | planes.lossy, pairs.lossy | whether some contact's damping is dry |
    | pairs.static | whether one of the geoms of some pair belongs to the world |
    | any | whether anything can touch |
    | damping | what is implicit about it |
    """

    def __init__(self, model: Model, tree: Tree, f: Fields):
        on_planes, between = points.on_planes(model, tree), points.between_bodies(model, tree)
        frame = on_planes.pop("frame")
        self.planes, self.pairs = (
            types.SimpleNamespace(number=len(table["kind"]), kinds=frozenset(table["kind"].tolist()), **f.table(table))
            for table in (on_planes, between)
        )
        for contacts, table in ((self.planes, on_planes), (self.pairs, between)):
            contacts.turning = bool(table["spin_mu"].any() or table["roll_mu"].any())
            contacts.lossy = bool(table["loss"].any())
        self.pairs.static = bool((between["link2"] == 0).any())
        self.any = self.planes.number + self.pairs.number > 0
        self.damping = Damping(f.shared.constant(frame), len(frame), self.pairs.static, self.any)


class Scratch:
    """Intermediate results of contact.

    | field | meaning | items |
    |---|---|---|
    | qfrc | generalised contact forces [N, N m] | nv |
    | kn, kf | contact forces on a link's subtree (moment, force) | nlink |
    """

    def __init__(self, m, f: Fields):
        if m.contact.any:
            allot(self, f, "qfrc", m.nv)
            allot(self, f, "kn kf", m.nlink, 3)
