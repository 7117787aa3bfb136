"""Equalities of a compiled MuJoCo model that the solver meets: all that act, but where substitution does."""

from __future__ import annotations

import numpy as np

from taichi_sim.mjcf.constraint import reference_gains
from taichi_sim.mjcf.equalities import acting, resolved
from taichi_sim.types import EQ_CONNECT, EQ_JOINT, EQ_TENDON, EQ_WELD


def solved(mj_model, on: bool, rows: bool) -> np.ndarray:
    """The equalities that become rows of the solver, indices; none with their stage off.

    Without `rows` equalities between joints alone are substituted (`equalities`) and not among them, unless these
    determine a joint twice or in a circle, or make a polynomial of too high a degree.
    """
    m = mj_model
    kinds = np.asarray(m.eq_active0, bool) & on & np.isin(m.eq_type, [EQ_CONNECT, EQ_WELD, EQ_JOINT, EQ_TENDON])
    if on and not rows and not resolved(acting(m, on))[1] and not np.any(kinds & (m.eq_type != EQ_JOINT)):
        kinds[:] = False
    return np.flatnonzero(kinds)


def fields(mj_model, on: bool, rows: bool, refsafe: bool) -> dict[str, np.ndarray]:
    """The fields loop_... and eq_... of `Model`.

    Args:
        mj_model: the compiled model.
        on: whether its stage is on.
        rows: as in `solved`.
        refsafe: as in `constraint.reference_gains`.
    """
    m, which = mj_model, solved(mj_model, on, rows)
    substituted = [] if len(which) else resolved(acting(m, on))[0]
    kind, data = m.eq_type[which].astype(np.int32), np.array(m.eq_data[which], float).reshape(-1, m.eq_data.shape[1])
    solimp = np.array(m.eq_solimp[which], float).reshape(-1, 5)
    gains = reference_gains(m.eq_solref[which], solimp[:, 1], m.opt.timestep, refsafe)
    ends = [_ends(m, c) for c in which]
    columns = list(zip(*ends, strict=True)) if ends else [[]] * 6
    one, two, pos1, quat1, pos2, quat2 = columns
    return {
        "eq_joint1": np.array([e.joint1 for e in substituted], np.int32),
        "eq_joint2": np.array([e.joint2 for e in substituted], np.int32),
        "eq_polycoef": np.array([e.coefficients for e in substituted]).reshape(-1, 5),
        "loop_type": kind,
        "loop_obj1": np.array(one, np.int32),
        "loop_obj2": np.array(two, np.int32),
        "loop_pos1": np.array(pos1, float).reshape(-1, 3),
        "loop_quat1": np.array(quat1, float).reshape(-1, 4),
        "loop_pos2": np.array(pos2, float).reshape(-1, 3),
        "loop_quat2": np.array(quat2, float).reshape(-1, 4),
        "loop_torquescale": np.where(kind == EQ_WELD, data[:, 10], 0.0),
        "loop_polycoef": np.where((kind >= EQ_JOINT)[:, None], data[:, :5], 0.0),
        "loop_ref": np.array([_references(m, c) for c in which], float).reshape(-1, 2),
        "loop_stiffness": gains[:, 0],
        "loop_damping": gains[:, 1],
        "loop_solimp": solimp,
        "loop_invweight": np.array([_inverse(m, c) for c in which], float).reshape(-1, 2),
    }


def _ends(m, c: int) -> tuple:
    """The objects of equality c, and the frames in bodies that are to meet: (obj1, obj2, pos, quat, pos, quat)."""
    import mujoco

    one, two, data = int(m.eq_obj1id[c]), int(m.eq_obj2id[c]), m.eq_data[c]
    here, zero = [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
    if m.eq_type[c] >= EQ_JOINT:
        return one, two, zero, here, zero, here
    if m.eq_objtype[c] == mujoco.mjtObj.mjOBJ_SITE:
        frames = [(m.site_pos[s], m.site_quat[s]) for s in (one, two)]
        return (int(m.site_bodyid[one]), int(m.site_bodyid[two]), *frames[0], *frames[1])
    if m.eq_type[c] == EQ_CONNECT:
        return one, two, data[:3], here, data[3:6], here
    # of a weld the second body's anchor comes first; what the file leaves out MuJoCo fills in
    turn = data[6:10] / np.linalg.norm(data[6:10])
    return one, two, data[3:6], turn, data[:3], here


def _references(m, c: int) -> tuple[float, float]:
    if m.eq_type[c] < EQ_JOINT:
        return 0.0, 0.0
    objects = int(m.eq_obj1id[c]), int(m.eq_obj2id[c])
    rest = (lambda j: m.qpos0[m.jnt_qposadr[j]]) if m.eq_type[c] == EQ_JOINT else (lambda t: m.tendon_length0[t])
    return tuple(float(rest(i)) if i >= 0 else 0.0 for i in objects)


def _inverse(m, c: int) -> tuple[float, float]:
    """What MuJoCo takes for the diagonal of J M^-1 J', of positions and of rotations."""
    import mujoco

    one, two = int(m.eq_obj1id[c]), int(m.eq_obj2id[c])
    if m.eq_type[c] <= EQ_WELD:
        if m.eq_objtype[c] == mujoco.mjtObj.mjOBJ_SITE:
            one, two = m.site_bodyid[one], m.site_bodyid[two]
        return tuple(m.body_invweight0[one] + m.body_invweight0[two])
    if m.eq_type[c] == EQ_JOINT:
        weight, objects = m.dof_invweight0, [m.jnt_dofadr[j] for j in (one, two) if j >= 0]
    else:
        weight, objects = m.tendon_invweight0, [t for t in (one, two) if t >= 0]
    return float(sum(weight[i] for i in objects)), 0.0
