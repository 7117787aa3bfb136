"""What the kernels of this room know of a model, and what they need for each world: tendons and actuators."""

from __future__ import annotations

import types

import numpy as np

from taichi_sim.bodies.tables import allot, friction_constants
from taichi_sim.bodies.tree import Tree
from taichi_sim.lanes.buffers import Fields
from taichi_sim.muscles import laws
from taichi_sim.muscles.actuator import ON_BODY, ON_JOINT, ON_SITE
from taichi_sim.muscles.tendon_tables import Tables
from taichi_sim.types import (
    DYN_MUSCLE,
    DYN_NONE,
    GAIN_MUSCLE,
    JNT_BALL,
    JNT_FREE,
    LAW_DEGROOTE,
    TRN_BODY,
    TRN_JOINT,
    TRN_SITE,
    TRN_TENDON,
    Model,
)

# Model constants of this room that users may fit.
PARAMETERS = (
    "actuator_gainprm",
    "actuator_biasprm",
    "muscle_force",
    "muscle_optimal_length",
    "muscle_slack_length",
    "muscle_timeconst",
)
# The residual [F0] from which one more step of Newton's method finds the pull of an elastic tendon to rounding.
_TOLERANCE = {"f32": 3e-4, "f64": 1e-9}


class Tendons:
    """Constants of tendons; the lists are those of `tendon_tables.Tables`."""

    def __init__(self, model: Model, tree: Tree, f: Fields):
        tables = Tables(model, tree)
        self.number, self.njacobian = model.ntendon, len(tables.row_dof)
        pieces = tables.straight, tables.wrapped, tables.crank
        self.straight, self.wrapped, self.crank = (
            types.SimpleNamespace(number=len(x.get("share", ())), **f.table(x)) for x in pieces
        )
        self.side_apart = bool(np.any(tables.wrapped.get("side_link", -1) >= 0))
        self.damped = types.SimpleNamespace(number=len(tables.damped["weight"]), **f.table(tables.damped))
        self.npath = self.straight.number + self.wrapped.number + self.crank.number
        self.njoint = len(tables.joint_coef)
        # MuJoCo's muscles have MuJoCo's lengths
        self.rounded = bool((model.muscle_law == LAW_DEGROOTE).any())
        stiffness, damping = model.tendon_stiffness * model.opt.spring, model.tendon_damping * model.opt.damper
        self.passive = bool(stiffness.any() or damping.any())
        # by MuJoCo's law they are rows: `constraint.tables`
        penalty = model.opt.constraint == "penalty"
        self.limit = penalty and model.opt.limit and bool(np.any(model.tendon_limited))
        self.friction = penalty and model.opt.friction and bool(model.tendon_frictionloss.any())
        if self.friction:
            self.frictionloss = f.shared.constant(model.tendon_frictionloss)
            self.friction_kf, self.friction_per_kf, self.friction_per_mass = friction_constants(
                f, model.tendon_friction_kf, model.tendon_friction_mass
            )
        self.adr, self.dof = f.ints(tables.row_adr), f.ints(tables.row_dof)
        self.length0, self.jacobian0 = f.shared.constant(tables.length0), f.shared.constant(tables.jacobian0)
        self.joint_tendon, self.joint_dof = f.ints(tables.joint_tendon), f.ints(tables.joint_dof)
        self.joint_qposadr, self.joint_coef = f.ints(tables.joint_qposadr), f.shared.constant(tables.joint_coef)
        self.term_dof, self.term_end = f.ints(tables.term_dof), f.ints(tables.term_end)
        self.term_entry = f.ints(tables.term_entry)
        self.pair_target = f.ints(tables.pair_target)
        self.pair_adr = f.ints(np.searchsorted(tables.pair_tendon, np.arange(model.ntendon + 1)))
        self.pair_entry1, self.pair_entry2 = f.ints(tables.pair_entry1), f.ints(tables.pair_entry2)
        self.stiffness, self.damping = f.shared.constant(stiffness), f.shared.constant(damping)
        self.slack_lo, self.slack_hi = (f.shared.constant(x) for x in np.reshape(model.tendon_lengthspring, (-1, 2)).T)
        self.limit_lo, self.limit_hi = f.bounds(model.tendon_limited, model.tendon_range)
        self.limit_ke, self.limit_kd, self.limit_loss = (
            f.shared.constant(getattr(model, f"tendon_limit_{name}")) for name in ("ke", "kd", "loss")
        )
        self.limit_lossy = bool(model.tendon_limit_loss.any())


class Actuators:
    """Constants of actuators, muscles among them."""

    def __init__(self, model: Model, tree: Tree, f: Fields):
        opt, self._number = model.opt, model.nu
        on_joint = model.actuator_trntype == TRN_JOINT
        on_site = model.actuator_trntype == TRN_SITE
        acted = set(model.jnt_type[model.actuator_trnid[on_joint]].tolist())
        self.enabled = opt.actuation
        self.on_free, self.on_ball = JNT_FREE in acted, JNT_BALL in acted
        self.on_joint, self.on_tendon = bool(on_joint.any()), bool((model.actuator_trntype == TRN_TENDON).any())
        self.trnid = f.ints(model.actuator_trnid)
        on_body = model.actuator_trntype == TRN_BODY
        self.on_body, kinds = bool(on_body.any()), [on_joint, on_site, on_body]
        self.tendon = f.ints(np.select(kinds, [ON_JOINT, ON_SITE, ON_BODY], model.actuator_trnid))
        self._sites(model, tree, np.flatnonzero(on_site), f)
        self.gear = [f.shared.constant(model.actuator_gear[:, k]) for k in range(6)]
        self.period = f.shared.constant(_servo_period(model))
        self.ctrl_lo, self.ctrl_hi = f.bounds(
            np.asarray(model.actuator_ctrllimited, bool) & opt.clampctrl, model.actuator_ctrlrange
        )
        self.force_lo, self.force_hi = f.bounds(model.actuator_forcelimited, model.actuator_forcerange)
        self.jnt_actfrc_lo, self.jnt_actfrc_hi = f.bounds(model.jnt_actfrclimited, model.jnt_actfrcrange)
        self._laws(model, f)
        self._activations(model, f)
        self.gainprm, self.biasprm, self.timeconst = (
            [f.fitted.constant(x[:, k]) for k in range(x.shape[1])]
            for x in (model.actuator_gainprm, model.actuator_biasprm, model.muscle_timeconst)
        )
        self.grad_gainprm, self.grad_biasprm, self.grad_timeconst = (
            [f.gradient_of(items) for items in columns] for columns in (self.gainprm, self.biasprm, self.timeconst)
        )

    def _sites(self, model: Model, tree: Tree, units: np.ndarray, f: Fields) -> None:
        self.sites = types.SimpleNamespace(number=len(units))
        if not len(units):
            return
        sites = model.actuator_trnid[units]
        places = [tree.place(model.site_bodyid[s], model.site_pos[s], model.site_quat[s]) for s in sites]
        pos, quat = (np.array(column) for column in zip(*places, strict=True))
        push, turn = np.split(model.actuator_gear[units], 2, axis=1)
        columns = {"unit": units.astype(np.int32), "link": tree.body_link[model.site_bodyid[sites]].astype(np.int32)}
        vars(self.sites).update(f.table({**columns, "pos": pos, "quat": quat, "push": push, "turn": turn}))

    def _laws(self, model: Model, f: Fields) -> None:
        pulls = model.actuator_gaintype == GAIN_MUSCLE
        self.any_muscle = bool(pulls.any())
        self.muscle_laws = frozenset(model.muscle_law[pulls].tolist())
        self.is_muscle, self.muscle_law = f.ints(pulls), f.ints(model.muscle_law)
        prm, pennation = model.muscle_prm.copy(), laws.SINE - laws.LMIN
        prm[:, pennation] = np.sin(prm[:, pennation])
        self.muscle_prm = [f.shared.constant(column) for column in prm.T]
        self.elastic = bool(np.any(model.muscle_tendonadr >= 0))
        self.tendonadr, self.tendon_strain = (
            f.ints(model.muscle_tendonadr),
            f.shared.constant(model.muscle_tendon_strain),
        )
        self.tolerance = f.shared.constant([_TOLERANCE[f.precision]])
        for name in ("muscle_force", "muscle_optimal_length", "muscle_slack_length"):
            items = f.fitted.constant(getattr(model, name))
            setattr(self, name, items)
            setattr(self, f"grad_{name}", f.gradient_of(items))

    def _activations(self, model: Model, f: Fields) -> None:
        self.dynamics = frozenset(model.actuator_dyntype.tolist()) - {DYN_NONE}
        self.activation_laws = frozenset(model.muscle_law[model.actuator_dyntype == DYN_MUSCLE].tolist())
        self.dyntype, self.actadr = f.ints(model.actuator_dyntype), f.ints(model.actuator_actadr)
        self.act_smooth = f.shared.constant(model.actuator_dynprm[:, 2])
        self.act_lo, self.act_hi = f.bounds(model.actuator_actlimited, model.actuator_actrange)

    def fitted_cells(self, name: str):
        """Where a parameter of `PARAMETERS` goes, see `parameters`: (items, entry, weights, entries of it, offset)."""
        found = getattr(self, name.removeprefix("actuator_").replace("muscle_timeconst", "timeconst"))
        columns = found if isinstance(found, list) else [found]
        for k, items in enumerate(columns):
            for u in range(self._number):
                yield items, u, np.ones((1, 1)), [len(columns) * u + k], 0.0


def _servo_period(model: Model) -> np.ndarray:
    """By how much a turn changes the length of a position servo on a ball; 0 for other actuators."""
    gain, bias = model.actuator_gainprm, model.actuator_biasprm
    servo = (gain[:, 0] != 0) & (gain[:, 0] == -bias[:, 1]) & ~gain[:, 1:].any(axis=1)
    joints = np.where(model.actuator_trntype == TRN_JOINT, model.actuator_trnid, 0)
    servo &= (model.actuator_trntype == TRN_JOINT) & (model.jnt_type[joints] == JNT_BALL)
    return np.where(servo, 2 * np.pi * np.linalg.norm(model.actuator_gear[:, :3], axis=1), 0.0)


class TendonScratch:
    """Intermediate results of tendons.

    | field | meaning | items |
    |---|---|---|
    | length, velocity | [m], [m/s] | number |
    | J | d length / d q for the dofs that change it, row by row as in `Tables.row_dof` | njacobian |
    | force, implicit | a tendon's force along its length [N]; coefficient of it as in dof_implicit | number |
    | lam, ahead | J lam; the velocity at qvel + theta h qacc | number |
    | length_bar, velocity_bar, ahead_bar | adjoints of length, velocity and ahead | number |
    """

    def __init__(self, m, f: Fields):
        allot(self, f, "J", m.tendon.njacobian)
        names = "length velocity force implicit ahead lam length_bar velocity_bar ahead_bar"
        allot(self, f, names, m.tendon.number)


class ActuatorScratch:
    """Intermediate results of actuators.

    | field | meaning | items |
    |---|---|---|
    | length, velocity, force | MuJoCo's actuator_length and so on | nu |
    | kv, free | d force/d velocity; 1 where the force is not clamped | nu |
    | tangent | of a muscle with a rigid tendon, `laws.tangent` row by row, for the backward pass | nu |
    | rate | dz/dt of fibres on elastic tendons (`elastic`) [1/s] | nu |
    | qfrc, site_qfrc | generalised forces [N, N m], those of actuators on sites | nv |
    | dof_implicit, dof_unclamped | their part of dof_implicit; 1 where a joint's total force is not clamped | nv |
    | base_act | activations where a step of Runge-Kutta's begins; backward their adjoint there | na |
    | sum_act_dot, next_act_dot | mean of its stages' rates, backward its adjoint; a stage's by the next one | na |
    """

    def __init__(self, m, f: Fields):
        allot(self, f, "length velocity force kv free rate", m.nu)
        if m.actuator.any_muscle:
            self.tangent = [f.state.items(m.nu, 1) for _ in range(laws.NUM_TANGENT)]
        allot(self, f, "qfrc dof_implicit dof_unclamped", m.nv)
        if m.stages > 1:
            allot(self, f, "base_act sum_act_dot next_act_dot", m.na)
        if m.actuator.sites.number:
            allot(self, f, "site_qfrc", m.nv)
