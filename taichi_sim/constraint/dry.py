"""Dry friction of dofs by MuJoCo's law: rows that push against the motion, at most as hard as friction does.

With mu and a_ref as in `rows`, at no violation,

    f = clamp(mu (a_ref - a), -loss, loss),    mu = d / (1 - d) / weight,    a_ref = -b v

A row within its bounds is linear in the acceleration: mu joins the mass matrix. At a bound its force is known.

Source: MuJoCo's documentation, "Computation: Constraint model", "Friction loss".
"""

from taichi_sim.constraint.search import bound, loss
from taichi_sim.runtime import ti


@ti.func
def reference(m: ti.template(), d: ti.template(), e, i):
    """a_ref of row i."""
    return -m.constraint.dry.rate[i] * d.qvel[e, m.constraint.dry.dof[i]]


@ti.func
def pull(m: ti.template(), d: ti.template(), e, i):
    """a_ref - a of row i, a being qacc."""
    return reference(m, d, e, i) - d.qacc[e, m.constraint.dry.dof[i]]


@ti.func
def pulls(m: ti.template(), d: ti.template(), e):
    """`rows.pulls` of these rows."""
    for i in range(m.constraint.dry.number):
        d.constraint.pull[e, i] = pull(m, d, e, i)


@ti.func
def begin(m: ti.template(), d: ti.template(), e):
    """At a bound is what would be without acceleration: what slides, as a rule goes on sliding."""
    for i in range(m.constraint.dry.number):
        d.constraint.on[e, i] = bound(m, e, i, reference(m, d, e, i))


@ti.func
def add_forces(m: ti.template(), d: ti.template(), e):
    """qacc += what the rows push at a bound, and mu a_ref within."""
    for i in range(m.constraint.dry.number):
        dof, at = m.constraint.dry.dof[i], d.constraint.on[e, i]
        inside = (1.0 - abs(at)) * m.constraint.dry.mass[i] * reference(m, d, e, i)
        d.qacc[e, dof] = d.qacc[e, dof] + at * loss(m, e, i) + inside


@ti.func
def add_to_matrix(m: ti.template(), d: ti.template(), e):
    """mu of the rows within their bounds to qM."""
    for i in range(m.constraint.dry.number):
        k = m.row_adr[m.constraint.dry.dof[i]]
        d.qM[e, k] = d.qM[e, k] + (1.0 - abs(d.constraint.on[e, i])) * m.constraint.dry.mass[i]


@ti.func
def report(m: ti.template(), d: ti.template(), e):
    """qacc -> the rows' forces, added to qfrc_friction."""
    for i in range(m.constraint.dry.number):
        dof, most = m.constraint.dry.dof[i], loss(m, e, i)
        f = ti.max(ti.min(m.constraint.dry.mass[i] * pull(m, d, e, i), most), -most)
        d.qfrc_friction[e, dof] = d.qfrc_friction[e, dof] + f


@ti.func
def adjoint_forces(m: ti.template(), d: ti.template(), e):
    """grad_qvel += lam' df/dv at fixed qacc, and likewise the adjoint of the loss."""
    for i in range(m.constraint.dry.number):
        dof, at = m.constraint.dry.dof[i], bound(m, e, i, pull(m, d, e, i))
        lam = d.lam[e, dof]
        slope = (1.0 - abs(at)) * m.constraint.dry.mass[i] * m.constraint.dry.rate[i]
        d.grad_qvel[e, dof] = d.grad_qvel[e, dof] - lam * slope
        if ti.static(m.fit):
            m.grad_dof_frictionloss[e, dof] = m.grad_dof_frictionloss[e, dof] + lam * at
