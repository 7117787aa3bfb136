"""Dry friction of dofs and tendons by MuJoCo's law: rows that push against motion, at most as hard as it does.

With mu and a_ref as in `rows`, at no violation,

    f = clamp(mu (a_ref - a), -loss, loss),    mu = d / (1 - d) / weight,    a_ref = -b v

A row within its bounds is linear in the acceleration: mu joins the mass matrix. At a bound its force is known.

Source: MuJoCo's documentation, "Computation: Constraint model", "Friction loss".
"""

from taichi_sim.constraint import scalar
from taichi_sim.constraint.search import bound, loss
from taichi_sim.muscles import tendon
from taichi_sim.runtime import procedure, ti


@ti.func
def reference(m: ti.template(), d: ti.template(), e, i):
    """a_ref of row i."""
    return -m.constraint.dry.rate[i] * scalar.rate(m, d, e, m.constraint.dry, i, d.qvel)


@ti.func
def pull(m: ti.template(), d: ti.template(), e, i):
    """a_ref - a of row i, a being qacc."""
    return reference(m, d, e, i) - scalar.rate(m, d, e, m.constraint.dry, i, d.qacc)


@procedure
def pulls(m: ti.template(), d: ti.template(), e):
    """`rows.pulls` of these rows."""
    for i in range(m.constraint.dry.number):
        d.constraint.pull[e, i] = pull(m, d, e, i)


@procedure
def begin(m: ti.template(), d: ti.template(), e):
    """At a bound is what would be without acceleration: what slides, as a rule goes on sliding."""
    for i in range(m.constraint.dry.number):
        d.constraint.on[e, i] = bound(m, e, i, reference(m, d, e, i))


@procedure
def add_forces(m: ti.template(), d: ti.template(), e):
    """qacc += what the rows push at a bound, and mu a_ref within."""
    for i in range(m.constraint.dry.number):
        at = d.constraint.on[e, i]
        inside = (1.0 - abs(at)) * m.constraint.dry.mass[i] * reference(m, d, e, i)
        scalar.add(m, d, e, m.constraint.dry, i, at * loss(m, e, i) + inside, d.qacc)


@procedure
def add_to_matrix(m: ti.template(), d: ti.template(), e):
    """mu of the rows within their bounds to qM."""
    for i in range(m.constraint.dry.number):
        mass = (1.0 - abs(d.constraint.on[e, i])) * m.constraint.dry.mass[i]
        scalar.add_mass(m, d, e, m.constraint.dry, i, mass)


@procedure
def report(m: ti.template(), d: ti.template(), e):
    """qacc -> the rows' forces, added to qfrc_friction."""
    for i in range(m.constraint.dry.number):
        most = loss(m, e, i)
        f = ti.max(ti.min(m.constraint.dry.mass[i] * pull(m, d, e, i), most), -most)
        scalar.add(m, d, e, m.constraint.dry, i, f, d.qfrc_friction)


@procedure
def adjoint_forces(m: ti.template(), d: ti.template(), e):
    """grad_qvel += lam' df/dv of dofs at fixed qacc, and likewise the adjoint of the loss."""
    for i in range(m.constraint.dry.joints):
        dof, at = m.constraint.dry.dof[i], bound(m, e, i, pull(m, d, e, i))
        lam = d.lam[e, dof]
        slope = (1.0 - abs(at)) * m.constraint.dry.mass[i] * m.constraint.dry.rate[i]
        d.grad_qvel[e, dof] = d.grad_qvel[e, dof] - lam * slope
        if ti.static(m.fit):
            m.grad_dof_frictionloss[e, dof] = m.grad_dof_frictionloss[e, dof] + lam * at


@procedure
def adjoint_tendon(m: ti.template(), d: ti.template(), e, i):
    """What `adjoint_forces` does, of row i, that of a tendon."""
    mass, most = m.constraint.dry.mass[i], loss(m, e, i)
    x = pull(m, d, e, i)
    inside = 1.0 - abs(bound(m, e, i, x))
    a_bar = -inside * mass * scalar.rate(m, d, e, m.constraint.dry, i, d.lam)
    f = ti.max(ti.min(mass * x, most), -most)
    tendon.add_row(d, e, m.constraint.dry.tendon[i], x * 0.0, f, m.constraint.dry.rate[i] * a_bar, a_bar)
