"""Damping after the solution: what MuJoCo's integrators take implicitly, and its adjoint.

They solve for a with all forces at v, those of constraints included, and damp it afterwards: (M + h C) a' = M a, with
C the damping of the dofs ("Euler") or that, the servos' there, and that of fixed tendons and servos on them between
each of their joints and its ancestors ("implicitfast"; what it couples other than these, MuJoCo leaves out). "implicit"
adds K, the slope of Coriolis and gyroscopic forces (`coriolis`), to C, and "implicitfast" that of bodies that are free
and alone. a' is what the velocity takes.
"""

from taichi_sim import spatial
from taichi_sim.bodies import coriolis, damping, dynamics, inertia, kinematics
from taichi_sim.bodies.integrators.choice import IMPLICITS
from taichi_sim.runtime import procedure, ti


@procedure
def begin(m: ti.template(), d: ti.template(), e, h):
    """qM = M + h C, damped = h C qacc, and damped_by, h C; as far as C is the damping of dofs."""
    row = e * m.per_block
    if ti.static(m.damping.any):
        # what `constraint` had added
        damping.clear(m, d, e)
    inertia.mass_matrix(m, d, e, 0.0)
    for i in range(m.nv):
        c = m.dof_damping[row, i] * (1.0 if ti.static(m.damper) else 0.0)
        if ti.static(m.integrator in IMPLICITS):
            c = d.dof_implicit[e, i]
        start = m.row_adr[i]
        d.qM[e, start] = d.qM[e, start] + h * c
        d.damped_by[e, i] = h * c
        d.damped[e, i] = h * c * d.qacc[e, i]


@procedure
def damp(m: ti.template(), d: ti.template(), e, h):
    """qacc -> that after damping; damped, by how much it was more; and the factor of M + h C in qLD, qDU."""
    if ti.static(m.separate):
        inertia.spread(m, d, e)
    if ti.static(m.damped_coriolis):
        coriolis.matrix(m, d, e, h, d.qDU)
        coriolis.factor(m, d, e, d.qDU)
        inertia.solve(m, d, e, d.damped, d.qDU, d.qLD)
    else:
        inertia.factor(m, d, e)
        inertia.solve(m, d, e, d.damped, d.qLD, d.qLD)
    for i in range(m.nv):
        d.qacc[e, i] = d.qacc[e, i] - d.damped[e, i]


@procedure
def adjoint(m: ti.template(), d: ti.template(), e, h):
    """lam, the adjoint of qacc after damping -> before it, and qacc likewise.

    The residual M (a' - a) + h C a' has the multiplier mu = (M + h C)^-1 lam. It adds M mu = lam - h C mu to the
    adjoint of a, and to that of positions what M changes in mu' M (a - a'). The factor of M + h C is in qDD, qDU.
    What tendons damp is left to `tendon.adjoint_damp`, Coriolis forces to `coriolis.adjoint_damp`.
    """
    for i in range(m.nv):
        d.mu[e, i] = d.lam[e, i]
    # that of the transposed matrix
    inertia.solve(m, d, e, d.mu, d.qDD, d.qDU)
    for i in range(m.nv):
        d.lam[e, i] = d.lam[e, i] - d.damped_by[e, i] * d.mu[e, i]
        if ti.static(m.fit and m.damper):
            m.grad_dof_damping[e, i] = m.grad_dof_damping[e, i] - h * d.mu[e, i] * d.qacc[e, i]
        d.qacc[e, i] = d.qacc[e, i] + d.damped[e, i]


@procedure
def adjoint_inertia(m: ti.template(), d: ti.template(), e):
    """grad_qpos += the gradient of mu' M damped in the positions, and of M's constants. Expects poses and inertias."""
    row = e * m.per_block
    zero = m.gravity[0] * 0.0
    d.nw[e, 0], d.nl[e, 0], d.aw[e, 0], d.al[e, 0] = zero, zero, zero, zero
    kinematics.motions(m, d, e, d.mu, d.nw, d.nl)
    kinematics.motions(m, d, e, d.damped, d.aw, d.al)
    dynamics.clear(m, e, d.fn, d.ff)
    dynamics.clear(m, e, d.an, d.af)
    for k in range(m.nheavy):
        link = m.heavy_link[k]
        mass = m.heavy_mass[row, k]
        w, v, nw, nl = d.aw[e, link], d.al[e, link], d.nw[e, link], d.nl[e, link]
        fn, ff = spatial.inertia_mul(mass, d.ih[e, k], d.id[e, k], d.io[e, k], w, v)
        an, af = spatial.inertia_mul(mass, d.ih[e, k], d.id[e, k], d.io[e, k], nw, nl)
        d.fn[e, link], d.ff[e, link] = d.fn[e, link] + fn, d.ff[e, link] + ff
        d.an[e, link], d.af[e, link] = d.an[e, link] + an, d.af[e, link] + af
        if ti.static(m.fit):
            q = d.xq[e, link]
            c = d.xp[e, link] + spatial.rotate(q, m.heavy_com[row, k])
            dynamics.inertia_gradient(m, e, k, q, c, mass, -nw, -nl, w, v)
    for step in range(1, m.nlink):
        link = m.nlink - step
        p = m.link_parent[link]
        fn, ff, an, af = d.fn[e, link], d.ff[e, link], d.an[e, link], d.af[e, link]
        tn, tf = spatial.force_cross(d.nw[e, p], d.nl[e, p], fn, ff)
        sn, sf = spatial.force_cross(d.aw[e, p], d.al[e, p], an, af)
        qn, qf = tn + sn, tf + sf
        for i in range(m.link_dofadr[link], m.link_dofadr[link] + m.link_dofnum[link]):
            d.grad_qpos[e, i] = d.grad_qpos[e, i] - spatial.dot(d.sw[e, i], qn) - spatial.dot(d.sl[e, i], qf)
        d.fn[e, p], d.ff[e, p] = d.fn[e, p] + fn, d.ff[e, p] + ff
        d.an[e, p], d.af[e, p] = d.an[e, p] + an, d.af[e, p] + af
    if ti.static(m.fit):
        for i in range(m.nv):
            m.grad_dof_armature[e, i] = m.grad_dof_armature[e, i] + d.mu[e, i] * d.damped[e, i]
