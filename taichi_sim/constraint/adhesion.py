"""Actuators on bodies: adhesion, which pulls a body towards whatever it touches.

Such an actuator with the force f pulls with f / n along the normal at each of the n contacts of its body, also at those
that are within their gap and do not push, as MuJoCo's body transmission does. It has no length; its velocity is the
mean of those along the normals, negative, and no force depends on it.
"""

from taichi_sim import spatial
from taichi_sim.bodies import dynamics
from taichi_sim.constraint import adjoint as contacts
from taichi_sim.constraint import touch
from taichi_sim.lanes.vectors import greatest
from taichi_sim.muscles import actuator
from taichi_sim.runtime import procedure, ti


@procedure
def find(m: ti.template(), d: ti.template(), e):
    """Where the bodies touch, and in how many points."""
    for u in range(m.nu):
        d.constraint.stick.count[e, u] = d.qvel[e, 0] * 0.0
    for k in range(m.constraint.stick.number):
        c, u = m.constraint.stick.contact[k], m.constraint.stick.unit[k]
        x, n, p = touch.find(m, d, e, c)
        on = ti.select(x + m.constraint.stick.gap[k] > 0.0, x * 0.0 + 1.0, x * 0.0)
        d.constraint.stick.on[e, k] = on
        d.constraint.stick.n[e, k], d.constraint.stick.p[e, k] = n, p
        d.constraint.stick.count[e, u] = d.constraint.stick.count[e, u] + on


@ti.func
def share(m: ti.template(), d: ti.template(), e, k):
    """What contact k has of its actuator's force."""
    return d.constraint.stick.on[e, k] / ti.max(d.constraint.stick.count[e, m.constraint.stick.unit[k]], 1.0)


@procedure
def transmission(m: ti.template(), d: ti.template(), e):
    """actuator_velocity, where `actuator.transmission` has left 0."""
    for k in range(m.constraint.stick.number):
        c, u = m.constraint.stick.contact[k], m.constraint.stick.unit[k]
        v, _w = touch.relative(m, d, e, c, d.constraint.stick.p[e, k], d.vw, d.vl)
        speed = spatial.dot(d.constraint.stick.n[e, k], v)
        d.actuator.velocity[e, u] = d.actuator.velocity[e, u] - share(m, d, e, k) * speed


@procedure
def forces(m: ti.template(), d: ti.template(), e):
    """The forces of all contacts, to the actuators' qfrc. Overwrites constraint.fn, ff."""
    dynamics.clear(m, e, d.constraint.fn, d.constraint.ff)
    for k in range(m.constraint.stick.number):
        c, u = m.constraint.stick.contact[k], m.constraint.stick.unit[k]
        f = -spatial.scale(d.constraint.stick.n[e, k], share(m, d, e, k) * d.actuator.force[e, u])
        touch.add_force(m, d, e, c, d.constraint.stick.p[e, k], f, f * 0.0)
    dynamics.generalised(m, d, e, d.constraint.fn, d.constraint.ff, d.constraint.stick.qfrc)
    for i in range(m.nv):
        d.actuator.qfrc[e, i] = d.actuator.qfrc[e, i] + d.constraint.stick.qfrc[e, i]


@procedure
def adjoint(m: ti.template(), d: ti.template(), e, h):
    """The gradient of nu . W, W the wrenches, where `external` wants it; and that in the actuators' forces."""
    for u in range(m.nu):
        d.constraint.stick.pull[e, u] = d.qvel[e, 0] * 0.0
    for k in range(m.constraint.stick.number):
        c, u = m.constraint.stick.contact[k], m.constraint.stick.unit[k]
        # found again: what `pairs.turn` is about is the pair that was found last
        x, n, p = touch.find(m, d, e, c)
        part = share(m, d, e, k)
        if greatest(part) > 0.0:
            nu, nw = touch.relative(m, d, e, c, p, d.nw, d.nl)
            d.constraint.stick.pull[e, u] = d.constraint.stick.pull[e, u] - part * spatial.dot(n, nu)
            f, none = -spatial.scale(n, part * d.actuator.force[e, u]), n * 0.0
            # a force along the normal has no part in how tangents turn about it
            frame_bar, p_bar = spatial.cross(f, nu), spatial.cross(f, nw)
            contacts.carry(m, d, e, c, x, n, p, f, none, x * 0.0, p_bar, frame_bar, none, none)
    for u in range(m.nu):
        if m.actuator.tendon[u] == actuator.ON_BODY:
            actuator.adjoint_law(m, d, e, u, d.constraint.stick.pull[e, u], d.qvel[e, 0] * 0.0, h)
