"""What the kernels of this room know of a model, and what they need for each world."""

from __future__ import annotations

import types

import numpy as np

from taichi_sim.bodies.moved_dofs import apart, dofs_of
from taichi_sim.bodies.tables import allot
from taichi_sim.bodies.tree import Tree
from taichi_sim.constraint import impedance
from taichi_sim.constraint.cone import LEAST_FRICTION
from taichi_sim.contact.tables import PARAMETERS, Touching
from taichi_sim.lanes.buffers import Fields
from taichi_sim.runtime import ti
from taichi_sim.types import CONES, JNT_BALL, JNT_SLIDE, LAWS, TRN_BODY, Model

# Edges of a friction pyramid by the contact's dimensions, MuJoCo's condim.
EDGES = {1: 1, 3: 4, 4: 6, 6: 10}
# Digits to which pulls of what slides must be the same in two solutions (`cone`).
_DIGITS = {ti.f64: 9, ti.f32: 4}
_OLD = "load the MJCF and save the model anew for MuJoCo's law of constraints: an older release saved it, without"


class Constants:
    """Limits and dry friction of joints and tendons, and contacts by MuJoCo's law; none if the model has another.

    Contacts are those of `contact.planes`, in its order, and after them those of `contact.pairs`.

    | field | meaning |
    |---|---|
    | any | whether there are any |
    | limits.number, contacts.number, dry.number | how many |
    | nrow, limits.row, contacts.row | rows in all; first one of the limits, of the contacts (`search`) |
    | limits.joints, tendons, dry.joints, tendons | rows of joints, and those of tendons, which come after them |
    | limits.tendon, dry.tendon | of rows of tendons: which |
    | dry.dof, rate, mass, loss | of dry friction: its dof, b, mu; a tendon's largest force |
    | limits.ball | whether some joint is a ball |
    | limits.kind, qpos, dof, low, high | a joint's type, place in qpos and qvel; range |
    | contacts.planes, between | how many of the contacts are on planes, how many are not |
    | contacts.link | the link that touches the plane, or the first of two |
    | contacts.adr, dof, side | between bodies: dof[adr[k]:adr[k+1]] move the first link or, side -1, the other |
    | contacts.elliptic, turning | whether the cone is elliptic; whether some resist spinning |
    | contacts.edges, most | edges of the pyramid or rows of the cone, 1: the normal alone; the largest number |
    | contacts.dims, rough | largest condim; 0, and friction along the tangents, about the normal, the tangents [m] |
    | contacts.per_impratio | 1 / impratio: see `cone` |
    | contacts.digits | of elliptic ones, to which what slides is found |
    | contacts.fit, per_block | whether users may fit `rough`: then it has one row per block, and an adjoint |
    | contacts.margin | distance from which on it acts [m] |
    | contacts.axis | a capsule's direction in its link's frame, along which MuJoCo lays the pyramid; else zero |
    | contacts.across, any_aligned | the pyramid's direction elsewhere on planes; whether there are capsules |
    | stick.number, unit, contact, gap | contacts of actuators on bodies (`adhesion`): which; reach beyond margins |
    | stiffness, damping | of the reference acceleration, of either table |
    | solimp, weight | of either table: `impedance.table`, and the inverse mass that a row sees |

    Raises:
        ValueError: there is no such law, or the model lacks what it takes.
    """

    def __init__(self, model: Model, tree: Tree, f: Fields, fitted: tuple[str, ...], touching: Touching):
        law = model.opt.constraint
        for what, said, known in (("constraint", law, LAWS), ("cone", model.opt.cone, CONES)):
            if said not in known:
                raise ValueError(f"model.opt.{what} must be one of {', '.join(map(repr, known))}, got {said!r}")
        mine = law == "mujoco"
        limited, tied = (
            np.flatnonzero(np.asarray(x, bool) & model.opt.limit & mine)
            for x in (model.jnt_limited, model.tendon_limited)
        )
        planes, between = (len(table["pair"]) * mine for table in (touching.on_planes, touching.between))
        number = planes + between
        self.limits = _rows(limited, tied)
        elliptic = model.opt.cone == "elliptic"
        self.contacts = types.SimpleNamespace(number=number, planes=planes, between=between, most=0, elliptic=elliptic)
        rough, slow = (
            np.flatnonzero(x & model.opt.friction & mine)
            for x in (
                (model.dof_frictionloss > 0) | ("dof_frictionloss" in fitted),
                model.tendon_frictionloss > 0,
            )
        )
        self.dry = _rows(rough, slow)
        self.any = bool(self.limits.number + number + self.dry.number)
        if self.limits.number:
            self._limits(model, limited, tied, f)
        if number:
            self._contacts(model, touching, f, fitted)
        if between:
            self._between(tree, touching.between, f)
        if self.dry.number:
            self._dry(model, rough, slow, f)
        self._stick(model, touching, f)
        self.limits.row, self.contacts.row = self.dry.number, self.dry.number + self.limits.number
        self.nrow = self.contacts.row + self.contacts.most * number

    def _limits(self, model: Model, j: np.ndarray, t: np.ndarray, f: Fields) -> None:
        self.limits.ball = JNT_BALL in model.jnt_type[j]
        low, high = np.concatenate([model.jnt_range[j], model.tendon_range[t]]).T
        none = np.zeros(len(t), np.int32)
        places = {"kind": model.jnt_type[j], "qpos": model.jnt_qposadr[j], "dof": model.jnt_dofadr[j]}
        # as if a tendon were a slide
        places = {name: np.concatenate([x, none + (name == "kind") * JNT_SLIDE]) for name, x in places.items()}
        vars(self.limits).update(f.table({**places, "low": low, "high": high}))
        ref, solimp, weight = (
            np.concatenate([getattr(model, f"jnt_limit_{name}")[j], getattr(model, f"tendon_limit_{name}")[t]])
            for name in ("ref", "solimp", "invweight")
        )
        self.limits.tendon = f.ints(_behind(j, t))
        _gains(self.limits, ref, solimp, weight, f)

    def _dry(self, model: Model, i: np.ndarray, t: np.ndarray, f: Fields) -> None:
        kf, rate, loss = (
            np.concatenate([getattr(model, f"dof_friction{name}")[i], getattr(model, f"tendon_friction{name}")[t]])
            for name in ("_kf", "_rate", "loss")
        )
        if not np.all(rate > 0):
            raise ValueError(f"{_OLD} rates of friction")
        dof = np.concatenate([i, 0 * t]).astype(np.int32)
        vars(self.dry).update(f.table({"dof": dof, "rate": rate, "mass": kf / rate, "loss": loss}))
        self.dry.tendon = f.ints(_behind(i, t))

    def _contacts(self, model: Model, touching: Touching, f: Fields, fitted: tuple[str, ...]) -> None:
        on_planes, between = touching.on_planes, touching.between
        pair = np.concatenate([on_planes["pair"], between["pair"]])
        axis, normal = on_planes["axis"], on_planes["frame"][on_planes["normal"]]
        self.contacts.link = f.ints(np.concatenate([on_planes["link"], between["link1"]]))
        dim = model.pair_dim[pair]
        if not np.isin(dim, list(EDGES)).all():
            raise ValueError(f"{_OLD} the dimensions of its contacts")
        elliptic = self.contacts.elliptic
        edges = dim if elliptic else np.array([EDGES[n] for n in dim])
        self.contacts.edges, self.contacts.most = f.ints(edges), int(edges.max())
        self.contacts.turning, self.contacts.any_aligned = bool(dim.max() > 3), bool(axis.any())
        mu, spin, roll = (getattr(model, f"pair_{name}")[pair] for name in ("mu", "spin_mu", "roll_mu"))
        mu2, roll2 = (np.where(x > 0, x, y) for x, y in zip(model.pair_across[pair].T, (mu, roll), strict=True))
        rough = np.maximum(np.stack([mu, mu2, spin, roll, roll2], axis=1), LEAST_FRICTION)
        across = np.array([_across(n, bool(a.any())) for n, a in zip(normal, axis, strict=True)]).reshape(-1, 3)
        self.contacts.dims = int(dim.max())
        rough = np.concatenate([0 * rough[:, :1], rough], axis=1)[:, : self.contacts.dims]
        columns = {"margin": model.pair_margin[pair], "axis": axis, "across": across}
        if elliptic:
            self.contacts.digits = _DIGITS[f.state.real]
        self.contacts.per_impratio = f.shared.constant([1 / model.opt.impratio])
        self.contacts.fit = bool(set(PARAMETERS) & set(fitted))
        self.contacts.per_block = int(self.contacts.fit)
        self.contacts.rough = (f.fitted if self.contacts.fit else f.shared).constant(rough.reshape(-1))
        if self.contacts.fit:
            self.contacts.grad_rough = f.gradient_of(self.contacts.rough)
        self._sources = pair, dim, model.pair_across[pair] > 0
        vars(self.contacts).update(f.table(columns))
        _gains(self.contacts, model.pair_ref[pair], model.pair_solimp[pair], model.pair_invweight[pair], f)

    def _between(self, tree: Tree, between: dict[str, np.ndarray], f: Fields) -> None:
        links = list(zip(between["link1"].tolist(), between["link2"].tolist(), strict=True))
        # of many contacts the links are the same
        dofs = {pair: apart(tree, *pair) for pair in set(links)}
        moved = {pair: set(dofs_of(tree, pair[0])) for pair in dofs}
        self.contacts.adr = f.ints(np.cumsum([0] + [len(dofs[pair]) for pair in links]))
        self.contacts.dof = f.ints([dof for pair in links for dof in dofs[pair]])
        self.contacts.side = f.ints([1 if dof in moved[pair] else -1 for pair in links for dof in dofs[pair]])

    def _stick(self, model: Model, touching: Touching, f: Fields) -> None:
        units = np.flatnonzero(model.actuator_trntype == TRN_BODY) if model.opt.actuation else []
        if len(units) and model.opt.constraint == "penalty":
            raise ValueError(
                "actuators on bodies (adhesion) pull by MuJoCo's law alone: model.opt.constraint is penalty"
            )
        pair = np.concatenate([touching.on_planes["pair"], touching.between["pair"]])
        bodies = model.geom_bodyid[np.stack([model.pair_geom1[pair], model.pair_geom2[pair]])]
        rows = [(u, c) for u in units for c in np.flatnonzero((bodies == model.actuator_trnid[u]).any(0))]
        unit, contact = np.array(rows, np.int32).reshape(-1, 2).T
        self.stick = types.SimpleNamespace(number=len(rows))
        if rows:
            columns = {"unit": np.ascontiguousarray(unit), "contact": np.ascontiguousarray(contact)}
            vars(self.stick).update(f.table({**columns, "gap": model.pair_gap[pair[contact]]}))

    def fitted_cells(self, name: str):
        """Where a parameter of `contact.tables.PARAMETERS` goes, see there.

        Friction that differs between two directions keeps its second coefficient.
        """
        if not self.contacts.number:
            return
        rows = {"pair_mu": (1, 2), "pair_spin_mu": (3,), "pair_roll_mu": (4, 5)}[name]
        for c, (pair, dim, across) in enumerate(zip(*self._sources, strict=True)):
            for row in rows:
                own = row == 2 and across[0] or row == 5 and across[1]
                if row < dim and not own:
                    yield self.contacts.rough, self.contacts.dims * c + row, np.ones((1, 1)), [pair], 0.0


def _rows(joints: np.ndarray, tendons: np.ndarray) -> types.SimpleNamespace:
    return types.SimpleNamespace(number=len(joints) + len(tendons), joints=len(joints), tendons=len(tendons))


def _behind(joints: np.ndarray, tendons: np.ndarray) -> np.ndarray:
    """Tendons of rows; 0 for those of joints."""
    return np.concatenate([0 * joints, tendons])


def _across(n: np.ndarray, aligned: bool) -> np.ndarray:
    """First tangent of a contact with the normal n; where a capsule has none, too. MuJoCo's mju_makeFrame."""
    y = np.eye(3)[0 if aligned else 1 if abs(n[1]) < 0.5 else 2]
    if aligned and abs(n[0]) > 0.9:
        y = np.eye(3)[1]
    y = y - (n @ y) * n
    return y / np.linalg.norm(y)


def _gains(table, ref: np.ndarray, solimp: np.ndarray, weight: np.ndarray, f: Fields) -> None:
    if not np.all(weight > 0):
        raise ValueError(f"{_OLD} inverse inertias")
    stiffness, damping = ref.T
    vars(table).update(f.table({"stiffness": stiffness, "damping": damping, "weight": weight}))
    table.solimp = impedance.table(solimp, f)


class Scratch:
    """Intermediate results of this room.

    | field | meaning | items |
    |---|---|---|
    | tau | generalised forces but those of the rows | nv |
    | cw, cl | motion of a link by qacc | nlink |
    | diag | of a ball whose limit pushes: x, as x x' joins the mass matrix' block of its dofs | nv |
    | fn, ff, qfrc | forces on links, and the generalised ones | nlink, nv |
    | limit_side | Jacobian of a limit: 1 or -1; ball: of its three dofs | limits, 3 |
    | limit_mass, limit_ref | d / (1 - d) times the inertia, reference acceleration | limits |
    | depth, mass | of a contact: violation, as above | contacts |
    | p, n, t1 | its point from the origin of the first link's tree, normal, first tangent | contacts |
    | ref | of its edges: reference acceleration | most contacts |
    | on | 1: a row pushes; of dry friction -1 or 1 at a bound, 0 within | nrow |
    | start, descent | qacc where a step begins, the cost's descent there (`search`) | nv |
    | pull, pull_start | of a row at qacc, where the step begins | nrow |
    | row | Jacobian of a contact between bodies; zero before and after its use | nv |
    | yn, yf | adjoint of cw, cl, summed over subtrees | nlink |
    | stick.on, n, p | of a contact of an actuator on a body: whether it is one; normal, point | stick, 3 |
    | stick.count, pull, qfrc | its contacts, gradient in its force; generalised forces | nu, nv |
    """

    def __init__(self, m, f: Fields):
        if not m.constraint.any:
            return
        allot(self, f, "tau diag qfrc start descent", m.nv)
        allot(self, f, "on pull pull_start", m.constraint.nrow)
        allot(self, f, "cw cl fn ff yn yf", m.nlink, 3)
        if m.constraint.limits.number:
            allot(self, f, "limit_side", m.constraint.limits.number, 3)
            allot(self, f, "limit_mass limit_ref", m.constraint.limits.number)
        if m.constraint.contacts.number:
            allot(self, f, "depth mass", m.constraint.contacts.number)
            allot(self, f, "p n t1", m.constraint.contacts.number, 3)
            allot(self, f, "ref", m.constraint.contacts.most * m.constraint.contacts.number)
        if m.constraint.contacts.between:
            allot(self, f, "row", m.nv)
        if m.constraint.stick.number:
            self.stick = types.SimpleNamespace()
            allot(self.stick, f, "on", m.constraint.stick.number)
            allot(self.stick, f, "n p", m.constraint.stick.number, 3)
            allot(self.stick, f, "count pull", m.nu)
            allot(self.stick, f, "qfrc", m.nv)
