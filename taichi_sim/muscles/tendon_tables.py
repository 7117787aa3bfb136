"""Tendons as the kernels walk them.

A piece whose ends ride on one link has a constant length and needs no work.
"""

from __future__ import annotations

import numpy as np

from taichi_sim.bodies.integrators.choice import IMPLICITS, chosen
from taichi_sim.bodies.moved_dofs import (
    FIRST,
    GEOM,
    SECOND,
    elements,
    fixed,
    is_crank,
    is_fixed,
    links_of,
    moved_dofs,
    terms,
)
from taichi_sim.bodies.tree import quat_matrix
from taichi_sim.muscles.wrap import CYLINDER, INSIDE, SPHERE
from taichi_sim.types import TRN_TENDON, WRAP_CYLINDER, WRAP_SPHERE, Model


class Tables:
    """Everything about a model's tendons that does not change.

    | field | meaning | shape |
    |---|---|---|
    | length0 | the constant part of a tendon's length [m] | (ntendon,) |
    | row_adr, row_dof | tendon t's dofs are row_dof[row_adr[t]:row_adr[t+1]]; ten_J has one entry for each | (ntendon+1,), (nJ,) |
    | jacobian0 | ten_J's constant part, of fixed tendons | (nJ,) |
    | joint_tendon, joint_dof, joint_qposadr, joint_coef | a fixed tendon's joints | (njoint,) |
    | straight, wrapped, crank | dicts of arrays by piece, see `_piece` | |
    | term_dof, term_end, term_entry | a dof that moves an end of a piece; the entry of ten_J that it adds to | (nterm,) |
    | pair_tendon, pair_entry1, pair_entry2, pair_target | entries of a tendon's J'J and where they lie in qM | (npair,) |
    | damped | entries of J'J between a dof and its ancestors, of fixed tendons that are damped afterwards | `_damped` |
    """  # noqa: E501

    def __init__(self, model: Model, tree):
        dofs = moved_dofs(model, tree)
        self.row_adr = np.cumsum([0] + [len(row) for row in dofs]).astype(np.int32)
        self.row_dof = np.array([dof for row in dofs for dof in row], np.int32)
        self.length0, self.jacobian0 = np.zeros(model.ntendon), np.zeros(len(self.row_dof))
        self._joints: list[tuple] = []
        self._term: list[tuple[int, int, int]] = []
        pieces: dict[str, list[dict]] = {"straight": [], "wrapped": [], "crank": []}
        for t, row in enumerate(dofs):
            if is_fixed(model, t):
                self._add_joints(model, t, row)
                continue
            for share, one, two, geom, side in elements(model, t):
                links = links_of(model, tree, one, two, geom)
                kind = "crank" if is_crank(model, t) else "straight" if geom < 0 else "wrapped"
                if len(set(links)) == 1 and kind == "straight":
                    self.length0[t] += share * self._constant(model, tree, one, two)
                    continue
                piece = self._piece(model, tree, links, one, two, geom, side)
                if kind == "crank":
                    piece.update(self._crank(model, tree, t, one))
                piece.update(tendon=t, share=share, term_adr=len(self._term))
                self._term += [(dof, end, self.row_adr[t] + row.index(dof)) for dof, end in terms(tree, links)]
                piece["term_end"] = len(self._term)
                pieces[kind].append(piece)
        self.straight, self.wrapped, self.crank = map(_columns, pieces.values())
        self.term_dof, self.term_end, self.term_entry = np.array(self._term, np.int32).reshape(-1, 3).T
        columns = np.array(self._joints, float).reshape(-1, 4).T
        self.joint_tendon, self.joint_dof, self.joint_qposadr = columns[:3].astype(np.int32)
        self.joint_coef = columns[3]
        self._pairs(tree, dofs)
        self.damped = self._damped(model, tree)

    def _add_joints(self, model: Model, t: int, row: list[int]) -> None:
        adr = model.tendon_adr[t]
        for k in range(adr, adr + model.tendon_num[t]):
            joint, coef = model.wrap_objid[k], model.wrap_prm[k]
            dof = model.jnt_dofadr[joint]
            self._joints.append((t, dof, model.jnt_qposadr[joint], coef))
            self.jacobian0[self.row_adr[t] + row.index(dof)] += coef

    def _site(self, model: Model, tree, site: int):
        return tree.place(model.site_bodyid[site], model.site_pos[site])[0]

    def _constant(self, model: Model, tree, one: int, two: int) -> float:
        return float(np.linalg.norm(self._site(model, tree, one) - self._site(model, tree, two)))

    def _piece(self, model: Model, tree, links: list[int], one: int, two: int, geom: int, side: int) -> dict:
        """link1, pos1, link2, pos2: ends [m]; and with a geom link, pos, quat, radius, kind, sided, side, side_link.

        side is in the geom's frame, and side_link -1; unless the site rides on another link, and is in that one's.
        """
        piece = {
            "link1": links[FIRST],
            "pos1": self._site(model, tree, one),
            "link2": links[SECOND],
            "pos2": self._site(model, tree, two),
        }
        if geom < 0:
            return piece
        pos, quat = tree.place(model.geom_bodyid[geom], model.geom_pos[geom], model.geom_quat[geom])
        radius, at, side_link = model.geom_size[geom, 0], np.zeros(3), -1
        kind = {WRAP_SPHERE: SPHERE, WRAP_CYLINDER: CYLINDER}[self._wrap_kind(model, geom)]
        if side >= 0:
            at, rides = self._site(model, tree, side), int(tree.body_link[model.site_bodyid[side]])
            if rides != links[GEOM]:
                side_link = rides
            else:
                at = quat_matrix(quat).T @ (at - pos)
                # a side site inside of the geom means that the tendon passes through it
                kind += INSIDE * int(np.linalg.norm(at) < radius)
        piece.update(link=links[GEOM], pos=pos, quat=quat, radius=radius, kind=kind)
        piece.update(sided=int(side >= 0), side=at, side_link=side_link)
        return piece

    @staticmethod
    def _crank(model: Model, tree, t: int, slider: int) -> dict:
        """axis: of the slider, in its link's frame; rod: its length [m]."""
        _, quat = tree.place(model.site_bodyid[slider], model.site_pos[slider], model.site_quat[slider])
        return {"axis": quat_matrix(quat)[:, 2], "rod": model.wrap_prm[model.tendon_adr[t]]}

    @staticmethod
    def _wrap_kind(model: Model, geom: int) -> int:
        found = (model.wrap_objid == geom) & np.isin(model.wrap_type, [WRAP_SPHERE, WRAP_CYLINDER])
        return int(model.wrap_type[np.flatnonzero(found)[0]])

    def _pairs(self, tree, dofs: list[list[int]]) -> None:
        pairs = []
        for t, row in enumerate(dofs):
            for a, high in enumerate(row):
                start, end = tree.row_adr[high], tree.row_adr[high + 1]
                place = {int(dof): k for k, dof in zip(range(start, end), tree.row_dof[start:end], strict=True)}
                for b in range(a + 1):
                    pairs.append((t, self.row_adr[t] + a, self.row_adr[t] + b, place[row[b]]))
        self.pair_tendon, self.pair_entry1, self.pair_entry2, self.pair_target = (
            np.array(pairs, np.int32).reshape(-1, 4).T
        )

    def _damped(self, model: Model, tree) -> dict[str, np.ndarray]:
        """tendon, dof1, its ancestor or itself dof2, weight (their entry of J'J), and target, where that lies in qM."""
        servos = model.actuator_trnid[model.actuator_trntype == TRN_TENDON]
        resists = (model.tendon_damping != 0) | np.isin(np.arange(model.ntendon), servos)
        damped = resists & fixed(model) & (chosen(model) in IMPLICITS)
        kinematic = self.pair_target < tree.row_kin[self.row_dof[self.pair_entry1]]
        pairs = np.flatnonzero(kinematic & damped[self.pair_tendon])
        one, two = self.pair_entry1[pairs], self.pair_entry2[pairs]
        return {
            "tendon": self.pair_tendon[pairs],
            "dof1": self.row_dof[one],
            "dof2": self.row_dof[two],
            "weight": self.jacobian0[one] * self.jacobian0[two],
            "target": self.pair_target[pairs],
        }


def _columns(pieces: list[dict]) -> dict[str, np.ndarray]:
    """One array per key of the pieces; none if there are no pieces."""
    keys = pieces[0].keys() if pieces else ()
    columns = {key: np.array([piece[key] for piece in pieces]) for key in keys}
    return {key: x.astype(np.int32) if x.dtype.kind in "iu" else x for key, x in columns.items()}
