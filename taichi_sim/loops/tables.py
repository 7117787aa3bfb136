"""What the kernels of this room know of a model, and what they need for each world."""

from __future__ import annotations

import types

import numpy as np

from taichi_sim.bodies.moved_dofs import dofs_of, moved_dofs
from taichi_sim.bodies.tables import allot
from taichi_sim.bodies.tree import Tree
from taichi_sim.constraint import impedance
from taichi_sim.lanes.buffers import Fields
from taichi_sim.types import EQ_JOINT, EQ_TENDON, EQ_WELD, Model


class Constants:
    """The equalities as rows of a Jacobian: first those between bodies, three rows or six each, then one row each.

    Row r of equality c has its entries of the Jacobian from `entry[c] + r num[c]` on, for the dofs
    `dof[col[c]:col[c + 1]]`, of which there are num[c]; a dof may come twice.

    | field | meaning |
    |---|---|
    | number, rows, entries | how many there are |
    | row | first row of an equality; one more entry than there are equalities |
    | stiffness, damping | of MuJoCo's reference acceleration [1/s^2], [1/s] |
    | solimp | `constraint.impedance.table` |
    | weight | inverse inertia that a row sees, MuJoCo's diagApprox |
    | bodies.number | how many of them are between bodies |
    | bodies.link1, pos1, quat1, link2, pos2, quat2 | the two frames that meet, in links |
    | bodies.scale | torquescale; 0 where only positions meet |
    | on1, on2 | of `dof`: 1 where it moves that end |
    | scalar.number | how many are between joints or tendons |
    | scalar.is_tendon, one, two, ref1, ref2 | tendons, or places in qpos (-1: none), and what is subtracted from them |
    | scalar.poly | coefficients of the polynomial |
    | scalar.split | number of entries that belong to the first |
    | source | of `dof`: the entry of the tendons' Jacobian; -1: 1 |
    | any, tendons, rotations | what there is at all |
    """

    def __init__(self, model: Model, tree: Tree, f: Fields):
        kind = model.loop_type if model.opt.equality else model.loop_type[:0]
        between = [c for c in range(len(kind)) if kind[c] <= EQ_WELD]
        others = [c for c in range(len(kind)) if kind[c] > EQ_WELD]
        order = between + others
        dim = [6 if kind[c] == EQ_WELD else 3 for c in between] + [1] * len(others)
        self.number, self.rows, self.any = len(order), sum(dim), bool(order)
        self.tendons, self.rotations = bool((kind == EQ_TENDON).any()), bool((kind == EQ_WELD).any())
        self.bodies = types.SimpleNamespace(number=len(between))
        self.scalar = types.SimpleNamespace(number=len(others))
        if not order:
            return
        self.row = f.ints(np.cumsum([0, *dim]))
        self.stiffness = f.shared.constant(model.loop_stiffness[order])
        self.damping = f.shared.constant(model.loop_damping[order])
        self.solimp = impedance.table(model.loop_solimp[order], f)
        # three rows of positions and three of rotations
        weight = [model.loop_invweight[c][int(r > 2)] for c, n in zip(order, dim, strict=True) for r in range(n)]
        self.weight = f.shared.constant(np.maximum(weight, impedance.TINY))
        columns = self._between(model, tree, between, f) + self._others(model, tree, others, f)
        count = [len(c) for c in columns]
        self.num, self.col = f.ints(count), f.ints(np.cumsum([0, *count]))
        start = np.cumsum([0, *(n * k for n, k in zip(dim, count, strict=True))])
        self.entry, self.entries = f.ints(start), int(start[-1])
        dof, on1, on2, source = np.array([x for c in columns for x in c]).reshape(-1, 4).T
        self.dof, self.source = f.ints(dof), f.ints(source)
        self.on1, self.on2 = f.shared.constant(on1), f.shared.constant(on2)

    def _between(self, model: Model, tree: Tree, which: list[int], f: Fields) -> list[list[tuple]]:
        """Fills `bodies`; per equality its dofs as (dof, moves end 1, moves end 2, -1)."""
        columns, ends = [], []
        for c in which:
            bodies = model.loop_obj1[c], model.loop_obj2[c]
            chains = [dofs_of(tree, tree.body_link[b]) for b in bodies]
            columns.append([(i, i in chains[0], i in chains[1], -1) for i in sorted({*chains[0], *chains[1]})])
            frames = (model.loop_pos1[c], model.loop_quat1[c]), (model.loop_pos2[c], model.loop_quat2[c])
            ends.append([_on_link(tree, b, *frame) for b, frame in zip(bodies, frames, strict=True)])
        for k in range(2):
            setattr(self.bodies, f"link{k + 1}", f.ints([end[k][0] for end in ends]))
            for i, name, width in ((1, "pos", 3), (2, "quat", 4)):
                values = np.array([end[k][i] for end in ends]).reshape(-1, width)
                setattr(self.bodies, f"{name}{k + 1}", f.shared.constant(values))
        scale = np.where(model.loop_type == EQ_WELD, model.loop_torquescale, 0.0)
        self.bodies.scale = f.shared.constant(scale[which])
        return columns

    def _others(self, model: Model, tree: Tree, which: list[int], f: Fields) -> list[list[tuple]]:
        """Fills `scalar`; per equality its dofs as (dof, 1, 0, source)."""
        moved = moved_dofs(model, tree)
        first = np.cumsum([0, *(len(dofs) for dofs in moved)])
        columns, split, places = [], [], []
        for c in which:
            ends, place = [], []
            for obj in (int(model.loop_obj1[c]), int(model.loop_obj2[c])):
                if obj < 0:
                    ends.append([])
                    place.append(-1)
                elif model.loop_type[c] == EQ_JOINT:
                    ends.append([(int(model.jnt_dofadr[obj]), 1, 0, -1)])
                    place.append(int(model.jnt_qposadr[obj]))
                else:
                    ends.append([(dof, 1, 0, int(first[obj]) + k) for k, dof in enumerate(moved[obj])])
                    place.append(obj)
            columns.append(ends[0] + ends[1])
            split.append(len(ends[0]))
            places.append(place)
        one, two = np.array(places, np.int32).reshape(-1, 2).T
        self.scalar.one, self.scalar.two, self.scalar.split = f.ints(one), f.ints(two), f.ints(split)
        self.scalar.is_tendon = f.ints(model.loop_type[which] == EQ_TENDON)
        self.scalar.ref1, self.scalar.ref2 = (f.shared.constant(x) for x in model.loop_ref[which].T)
        self.scalar.poly = f.shared.constant(model.loop_polycoef[which])
        return columns


def _on_link(tree: Tree, body: int, pos: np.ndarray, quat: np.ndarray):
    """The link that a body's frame rides on, and its pose there."""
    return tree.body_link[body], *tree.place(body, pos, quat)


class Scratch:
    """Intermediate results of this room.

    | field | meaning | items |
    |---|---|---|
    | J | Jacobian of the rows | entries |
    | pos, inverse | what ought to be zero [m, rad, 1]; the regulariser R [1/kg, ...] | rows |
    | impedance, slope | of an equality, and its derivative in the norm of pos, over that norm | number |
    | W | M^-1 J', row by row | rows nv |
    | A | the factor of J M^-1 J' + R, row by row | rows rows |
    | force, mu | forces of the rows; adjoint of their equation, negative | rows |
    | x | a vector that is solved for | nv |
    """

    def __init__(self, m, f: Fields):
        if m.loops.any:
            allot(self, f, "J", m.loops.entries)
            allot(self, f, "pos inverse force mu", m.loops.rows)
            allot(self, f, "impedance slope", m.loops.number)
            allot(self, f, "W", m.loops.rows * m.nv)
            allot(self, f, "A", m.loops.rows * m.loops.rows)
            allot(self, f, "x", m.nv)
