"""Which integrator steps a model: MuJoCo's that `Option.integrator` names, or our own, "theta"."""

from __future__ import annotations

import numpy as np

from taichi_sim.bodies.moved_dofs import fixed
from taichi_sim.types import (
    GAIN_AFFINE,
    GAIN_MUSCLE,
    INTEGRATORS,
    JNT_HINGE,
    JNT_SLIDE,
    LAW_DEGROOTE,
    TRN_JOINT,
    TRN_TENDON,
)

THETA, EULER, IMPLICITFAST, IMPLICIT, RK4 = INTEGRATORS
# Those that damp by all that depends on the velocity, not by the dofs' damping alone.
IMPLICITS = IMPLICITFAST, IMPLICIT


def chosen(model) -> str:
    """The integrator that steps a `Model`: by the penalty our own."""
    return THETA if model.opt.constraint == "penalty" else model.opt.integrator


def refusal(model) -> str:
    """Why a `Model` is not stepped as its `Option.integrator` says; empty: it is.

    C must not change with the state: what it changes has no adjoint here.
    """
    opt = model.opt
    if opt.integrator not in INTEGRATORS:
        return f"it is none of {', '.join(INTEGRATORS)}"
    if chosen(model) == THETA:
        return ""
    if opt.coriolis:
        return "Coriolis forces are implicit (model.opt.coriolis)"
    if model.neq and opt.equality:
        return "equalities of joints are solved by substitution"
    if (model.muscle_law == LAW_DEGROOTE).any():
        return "muscles follow De Groote and Fregly's law, which MuJoCo has not"
    if opt.integrator in (EULER, RK4):
        return ""
    if opt.density or opt.viscosity:
        return "there is a fluid"
    of_joints = fixed(model)
    if opt.damper and model.tendon_damping[~of_joints].any():
        return "tendons along paths have damping"
    resists = model.actuator_biasprm[:, 2] != 0
    on_joint, on_tendon = (model.actuator_trntype == kind for kind in (TRN_JOINT, TRN_TENDON))
    constant = np.zeros(model.nu, bool)
    constant[on_joint] = np.isin(model.jnt_type[model.actuator_trnid[on_joint]], [JNT_SLIDE, JNT_HINGE])
    constant[on_tendon] = of_joints[model.actuator_trnid[on_tendon]]
    changes = (model.actuator_gaintype == GAIN_AFFINE) & (model.actuator_gainprm[:, 2] != 0)
    if opt.actuation and np.any(changes | (model.actuator_gaintype == GAIN_MUSCLE) | (resists & ~constant)):
        return "there are muscles, or actuators that resist the velocity of more than hinges, slides and fixed tendons"
    return ""
