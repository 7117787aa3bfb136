"""Joint equalities by exact substitution, and their adjoint.

A dependent joint d follows an independent one i, both hinges or slides, by MuJoCo's polynomial p:

    q_d = p(q_i),    v_d = p' v_i,    a_d = p' a_i + gamma_d,    gamma_d = p'' v_i^2

p is constant if the joint is locked; it stands for its own independent one then. The step solves for the independent
accelerations alone, G' M_hat G a_i = G' (tau - c - M_hat gamma) with G = dv/dv_i, and `project` puts the dependent
positions and velocities where the new independent ones want them: no drift, no penalty. docs/adjoint.md derives the
adjoint.
"""

from taichi_sim.runtime import procedure, ti


@ti.func
def polynomial(m: ti.template(), k, q):
    """p(q), p'(q), p''(q), p'''(q) of equality k."""
    c = m.eq_polycoef[k]
    x = q - m.qpos0[m.eq_qpos2[k]]
    p = c[0, :] + x * (c[1, :] + x * (c[2, :] + x * (c[3, :] + x * c[4, :])))
    p1 = c[1, :] + x * (2.0 * c[2, :] + x * (3.0 * c[3, :] + x * (4.0 * c[4, :])))
    p2 = 2.0 * c[2, :] + x * (6.0 * c[3, :] + x * (12.0 * c[4, :]))
    p3 = 6.0 * c[3, :] + x * (24.0 * c[4, :])
    return p, p1, p2, p3


@procedure
def project(m: ti.template(), d: ti.template(), e):
    """qpos and qvel of the dependent joints from those of the independent ones."""
    for k in range(m.neq):
        p, p1, _, _ = polynomial(m, k, d.qpos[e, m.eq_qpos2[k]])
        d.qpos[e, m.eq_qpos1[k]] = p
        d.qvel[e, m.eq_dof1[k]] = p1 * d.qvel[e, m.eq_dof2[k]]


@procedure
def dependence(m: ti.template(), d: ti.template(), e):
    """qpos, qvel -> eq_slope and eq_gamma."""
    for i in range(m.nv):
        zero = d.qvel[e, i] * 0.0
        d.eq_slope[e, i] = zero + 1.0
        d.eq_gamma[e, i] = zero
    for k in range(m.neq):
        _, p1, p2, _ = polynomial(m, k, d.qpos[e, m.eq_qpos2[k]])
        v = d.qvel[e, m.eq_dof2[k]]
        d.eq_slope[e, m.eq_dof1[k]] = p1
        d.eq_gamma[e, m.eq_dof1[k]] = p2 * v * v


@procedure
def mass_mul(m: ti.template(), d: ti.template(), e, x: ti.template()):
    """eq_product = qM x."""
    for i in range(m.nv):
        d.eq_product[e, i] = x[e, i] * 0.0
    for i in range(m.nv):
        start = m.row_adr[i]
        xi = x[e, i]
        y = d.qM[e, start] * xi
        for k in range(start + 1, m.row_adr[i + 1]):
            j = m.row_dof[k]
            y = y + d.qM[e, k] * x[e, j]
            d.eq_product[e, j] = d.eq_product[e, j] + d.qM[e, k] * xi
        d.eq_product[e, i] = d.eq_product[e, i] + y


@procedure
def reduce(m: ti.template(), d: ti.template(), e):
    """qM, qacc (tau - c) -> qLD = G' qM G, qacc = G' (qacc - qM gamma); 1 and 0 in the places of dependent dofs."""
    for k in range(m.nfactor):
        d.qLD[e, k] = d.qM[e, 0] * 0.0
    for n in range(m.nterm):
        w = d.eq_slope[e, m.term_dof1[n]] * d.eq_slope[e, m.term_dof2[n]]
        k = m.term_target[n]
        d.qLD[e, k] = d.qLD[e, k] + w * d.qM[e, m.term_entry[n]]
    mass_mul(m, d, e, d.eq_gamma)
    for i in range(m.nv):
        d.qacc[e, i] = d.qacc[e, i] - d.eq_product[e, i]
    for k in range(m.neq):
        dof = m.eq_dof1[k]
        i = m.eq_dof2[k]
        f = d.qacc[e, dof]
        start = m.factor_adr[dof]
        d.qLD[e, start] = d.qLD[e, start] + 1.0
        d.eq_force[e, k] = d.eq_product[e, dof] + f
        d.qacc[e, dof] = f * 0.0
        d.qacc[e, i] = d.qacc[e, i] + d.eq_slope[e, dof] * f


@procedure
def expand(m: ti.template(), d: ti.template(), e, x: ti.template()):
    """x = G x: dependent entries from independent ones."""
    for k in range(m.neq):
        dof = m.eq_dof1[k]
        x[e, dof] = d.eq_slope[e, dof] * x[e, m.eq_dof2[k]]


@procedure
def accelerate(m: ti.template(), d: ti.template(), e):
    """Independent qacc -> all of qacc; eq_force, from tau - c, becomes the residual qM qacc - (tau - c)."""
    expand(m, d, e, d.qacc)
    for k in range(m.neq):
        dof = m.eq_dof1[k]
        d.qacc[e, dof] = d.qacc[e, dof] + d.eq_gamma[e, dof]
    mass_mul(m, d, e, d.qacc)
    for k in range(m.neq):
        d.eq_force[e, k] = d.eq_product[e, m.eq_dof1[k]] - d.eq_force[e, k]


@procedure
def adjoint_project(m: ti.template(), d: ti.template(), e, h):
    """Moves the adjoints of dependent positions and velocities to the independent ones, at the state a step h on."""
    for k in range(m.neq):
        dof = m.eq_dof1[k]
        i = m.eq_dof2[k]
        v = d.qvel[e, i] + h * d.qacc[e, i]
        _, p1, p2, _ = polynomial(m, k, d.qpos[e, m.eq_qpos2[k]] + h * v)
        q_bar = d.grad_qpos[e, dof]
        v_bar = d.grad_qvel[e, dof]
        d.grad_qpos[e, dof] = q_bar * 0.0
        d.grad_qvel[e, dof] = v_bar * 0.0
        d.grad_qpos[e, i] = d.grad_qpos[e, i] + p1 * q_bar + p2 * v * v_bar
        d.grad_qvel[e, i] = d.grad_qvel[e, i] + p1 * v_bar


@procedure
def adjoint_dependence(m: ti.template(), d: ti.template(), e):
    """grad_qpos, grad_qvel -= lam_i' d(G' R)/d(q, v) through G and gamma; expects qM and eq_force of the substep."""
    mass_mul(m, d, e, d.lam)
    for k in range(m.neq):
        i = m.eq_dof2[k]
        v = d.qvel[e, i]
        _, _, p2, p3 = polynomial(m, k, d.qpos[e, m.eq_qpos2[k]])
        r = d.eq_product[e, m.eq_dof1[k]]
        q_bar = p2 * (d.lam[e, i] * d.eq_force[e, k] + d.qacc[e, i] * r) + p3 * v * v * r
        d.grad_qpos[e, i] = d.grad_qpos[e, i] - q_bar
        d.grad_qvel[e, i] = d.grad_qvel[e, i] - 2.0 * p2 * v * r
