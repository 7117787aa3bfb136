"""Dry friction of dofs and tendons, and its adjoint (docs/adjoint.md).

At the velocity v, with delta = theta h a the velocity that the substep adds,

    f = -s v - c delta,    s = min(kf, loss / |v|)

is a damper while it sticks, c = s = kf, and loss against the motion while it slides. MuJoCo's friction constraint
creeps under a load by the same law, with the kf that its solver parameters give (`mjcf.contact_pairs`). What slides so
slowly that a few substeps could turn it round has c = s, too, so that no timestep makes it chatter:

    |v| < v_s = loss max(1 / kf, FEW theta h / mass);    above that c = s (v_s / v)^2 fades, and f is loss.
"""

from taichi_sim.runtime import procedure, ti

# Substeps that friction alone needs to stop what slides so slowly that its coefficient is frozen.
FEW = 2.0
# Speeds [m/s, rad/s] that divide nothing.
_TINY = 1e-12


@ti.func
def coefficients(loss, kf, per_kf, per_mass, h_theta, v):
    """s, c, the derivative of c in v, and those of s and c in the loss; all but s and c are 0 while it sticks.

    Args:
        loss: friction while sliding [N, N m].
        kf, per_kf: largest coefficient [N s/m, N m s/rad] and its inverse.
        per_mass: inverse of the inertia that friction slows [1/kg, 1/(kg m^2)].
        h_theta: theta h [s].
        v: velocity [m/s, rad/s].

    Returns:
        s, c, dc/dv, ds/dloss, dc/dloss.
    """
    speed = ti.max(ti.abs(v), _TINY)
    sliding = loss / speed
    slides = ti.select(sliding < kf, v * 0.0 + 1.0, v * 0.0)
    s = ti.min(sliding, kf)
    fade = ti.min(loss * ti.max(per_kf, (FEW * h_theta) * per_mass) / speed, 1.0)
    c = s * fade * fade
    # by how much c falls with v, relative to both
    order = slides * ti.select(fade < 1.0, v * 0.0 + 3.0, v * 0.0 + 1.0)
    return s, c, -order * c * v / (speed * speed), slides / speed, order * fade * fade / speed


@ti.func
def magnitude(v2):
    """The speed whose square is v2, and which divides nothing by zero."""
    return ti.sqrt(v2 + _TINY)


@ti.func
def sliding(kf, most, v2):
    """Coefficient of a force against the motion that is `most` where it slides, kf v where it sticks.

    Args:
        kf: largest coefficient [N s/m, N m s/rad].
        most: the force while it slides [N, N m].
        v2: square of the velocity.

    Returns:
        The coefficient, 1 where it slides, and the `magnitude` of the velocity.
    """
    speed = magnitude(v2)
    coefficient = most / speed
    return ti.min(coefficient, kf), ti.select(coefficient < kf, v2 * 0.0 + 1.0, v2 * 0.0), speed


@ti.func
def of_dof(m: ti.template(), d: ti.template(), e, i, h_theta):
    """`coefficients` of a dof."""
    loss = m.dof_frictionloss[e * m.per_block, i]
    return coefficients(
        loss, m.dof_friction_kf[i], m.dof_friction_per_kf[i], m.dof_friction_per_mass[i], h_theta, d.qvel[e, i]
    )


@procedure
def forces(m: ti.template(), d: ti.template(), e, h_theta):
    """qfrc_friction at v, and c on dof_implicit."""
    for i in range(m.nv):
        if ti.static(m.friction):
            s, c, _c_v, _s_loss, _c_loss = of_dof(m, d, e, i, h_theta)
            d.qfrc_friction[e, i] = -s * d.qvel[e, i]
            d.dof_implicit[e, i] = d.dof_implicit[e, i] + c
        else:
            d.qfrc_friction[e, i] = d.qvel[e, i] * 0.0


@procedure
def adjoint_forces(m: ti.template(), d: ti.template(), e, h_theta):
    """grad_qvel += lam' df/dv, and likewise the adjoint of the loss."""
    if ti.static(m.friction):
        for i in range(m.nv):
            s, _c, c_v, s_loss, c_loss = of_dof(m, d, e, i, h_theta)
            lam = d.lam[e, i]
            v = d.qvel[e, i]
            ahead = h_theta * d.qacc[e, i]
            # s v = loss does not change while it slides
            f_v = s - s_loss * ti.abs(v) * s + c_v * ahead
            d.grad_qvel[e, i] = d.grad_qvel[e, i] - lam * f_v
            if ti.static(m.fit):
                m.grad_dof_frictionloss[e, i] = m.grad_dof_frictionloss[e, i] - lam * (s_loss * v + c_loss * ahead)
