"""Joints that equalities determine, in MuJoCo's terms."""

import numpy as np
from numpy.polynomial import Polynomial


def substitution(mj_model, qpos, qvel):
    """qpos and qvel (in place) with dependent joints determined, G = dv/dv_i (nv, n) and gamma = dG/dt v_i (nv,)."""
    keep, columns, gamma = np.ones(mj_model.nv, bool), np.eye(mj_model.nv), np.zeros(mj_model.nv)
    for one, two, data in zip(mj_model.eq_obj1id, mj_model.eq_obj2id, mj_model.eq_data, strict=True):
        q1, d1 = mj_model.jnt_qposadr[one], mj_model.jnt_dofadr[one]
        q2, d2 = mj_model.jnt_qposadr[two], mj_model.jnt_dofadr[two]
        p = Polynomial(data[:1] if two < 0 else data[:5])
        x, v = (0.0, 0.0) if two < 0 else (qpos[q2] - mj_model.qpos0[q2], qvel[d2])
        qpos[q1], qvel[d1] = mj_model.qpos0[q1] + p(x), p.deriv()(x) * v
        keep[d1], gamma[d1] = False, p.deriv(2)(x) * v**2
        columns[d1] = p.deriv()(x) * columns[d2] if two >= 0 else 0
    return columns[:, keep], gamma
