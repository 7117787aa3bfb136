"""Passive forces at bodies' centres of mass, and their adjoints: gravity compensation, and a fluid's resistance.

Gravity compensation is MuJoCo's force -gravcomp mass gravity: a part of qfrc_passive, or of the actuators' qfrc at
joints that ask for that (actuatorgravcomp).

The fluid is MuJoCo's model of boxes with each body's inertia (MuJoCo documentation, Computation, "Passive forces:
inertia model"): in the frame of a body's inertia it meets each component x of the centre of mass' velocity against the
wind, and of the angular velocity, with -(viscous + quadratic |x|) x. Explicit, as in MuJoCo's Euler.
"""

from taichi_sim import spatial
from taichi_sim.bodies import dynamics, external
from taichi_sim.runtime import ti


@ti.func
def lift(m: ti.template(), d: ti.template(), e):
    """qfrc_gravcomp, and to qfrc_passive what is not the actuators'. Overwrites fn, ff."""
    row = e * m.per_block
    g = m.gravity[0]
    dynamics.clear(m, e, d.fn, d.ff)
    for k in range(m.nheavy):
        link = m.heavy_link[k]
        up = -spatial.scale(g, m.heavy_gravcomp[k])
        d.fn[e, link] = d.fn[e, link] + spatial.cross(d.ih[e, k], up)
        d.ff[e, link] = d.ff[e, link] + spatial.scale(up, m.heavy_mass[row, k])
    dynamics.generalised(m, d, e, d.fn, d.ff, d.qfrc_gravcomp)
    for i in range(m.nv):
        d.qfrc_passive[e, i] = d.qfrc_passive[e, i] + (1.0 - m.dof_actgravcomp[i]) * d.qfrc_gravcomp[e, i]


@ti.func
def actuate(m: ti.template(), d: ti.template(), e):
    """Adds what is the actuators' to their qfrc."""
    for i in range(m.nv):
        d.actuator.qfrc[e, i] = d.actuator.qfrc[e, i] + m.dof_actgravcomp[i] * d.qfrc_gravcomp[e, i]


@ti.func
def adjoint_lift(m: ti.template(), d: ti.template(), e):
    """The gradient of nu . W, W the forces, where `external` wants it; and in masses and centres of mass."""
    row = e * m.per_block
    for k in range(m.nheavy):
        link = m.heavy_link[k]
        q = d.xq[e, link]
        up = -spatial.scale(m.gravity[0], m.heavy_gravcomp[k])
        f = spatial.scale(up, m.heavy_mass[row, k])
        c = d.xp[e, link] + spatial.rotate(q, m.heavy_com[row, k])
        c_bar = spatial.cross(f, d.nw[e, link])
        external.add(d, e, link, c, f, f * 0.0, spatial.cross(c, c_bar), c_bar)
        if ti.static(m.fit):
            nu = external.particle(d.nw[e, link], d.nl[e, link], c)
            m.grad_heavy_mass[e, k] = m.grad_heavy_mass[e, k] + spatial.dot(nu, up)
            m.grad_heavy_com[e, k] = m.grad_heavy_com[e, k] + spatial.rotate_inv(q, c_bar)


@ti.func
def drag(x, viscous, quadratic):
    """The fluid's force against the velocity x, both in the box's axes; and how each component grows with its own."""
    return -(viscous + quadratic * ti.abs(x)) * x, -(viscous + 2.0 * quadratic * ti.abs(x))


@ti.func
def place(m: ti.template(), d: ti.template(), e, k):
    """Of heavy body k: orientation of its box, centre, angular velocity, and that of the centre against the wind."""
    link = m.heavy_link[k]
    q = d.xq[e, link]
    c = d.xp[e, link] + spatial.rotate(q, m.heavy_com[e * m.per_block, k])
    v = external.particle(d.vw[e, link], d.vl[e, link], c) - m.wind[0]
    return spatial.quat_mul(q, m.fluid_quat[k]), c, d.vw[e, link], v


@ti.func
def resist(m: ti.template(), d: ti.template(), e):
    """Adds to qfrc_passive. Overwrites fn, ff."""
    dynamics.clear(m, e, d.fn, d.ff)
    for k in range(m.nheavy):
        link = m.heavy_link[k]
        q, c, w, v = place(m, d, e, k)
        moment, _spin_slope = drag(spatial.rotate_inv(q, w), m.fluid_viscous_spin[k], m.fluid_drag_spin[k])
        force, _slope = drag(spatial.rotate_inv(q, v), m.fluid_viscous[k], m.fluid_drag[k])
        force = spatial.rotate(q, force)
        d.fn[e, link] = d.fn[e, link] + spatial.rotate(q, moment) + spatial.cross(c, force)
        d.ff[e, link] = d.ff[e, link] + force
    dynamics.generalised(m, d, e, d.fn, d.ff, d.qfrc_fluid)
    for i in range(m.nv):
        d.qfrc_passive[e, i] = d.qfrc_passive[e, i] + d.qfrc_fluid[e, i]


@ti.func
def adjoint_resist(m: ti.template(), d: ti.template(), e):
    """The gradient of nu . W, W the forces, where `external` wants it; and in centres of mass."""
    for k in range(m.nheavy):
        link = m.heavy_link[k]
        q, c, w, v = place(m, d, e, k)
        nw = d.nw[e, link]
        nu = external.particle(nw, d.nl[e, link], c)
        moment, spin_slope = drag(spatial.rotate_inv(q, w), m.fluid_viscous_spin[k], m.fluid_drag_spin[k])
        force, slope = drag(spatial.rotate_inv(q, v), m.fluid_viscous[k], m.fluid_drag[k])
        moment, force = spatial.rotate(q, moment), spatial.rotate(q, force)
        w_bar = spatial.rotate(q, spin_slope * spatial.rotate_inv(q, nw))
        v_bar = spatial.rotate(q, slope * spatial.rotate_inv(q, nu))
        c_bar = spatial.cross(force, nw) + spatial.cross(v_bar, d.vw[e, link])
        # the box turns with the link, but the velocities that it meets do not
        turn = spatial.cross(force, nu) - spatial.cross(v, v_bar)
        turn = turn + spatial.cross(moment, nw) - spatial.cross(w, w_bar)
        external.add(d, e, link, c, force, v_bar, spatial.cross(c, c_bar) + turn, c_bar)
        external.add_moment(d, e, link, moment, w_bar, w_bar * 0.0)
        if ti.static(m.fit):
            m.grad_heavy_com[e, k] = m.grad_heavy_com[e, k] + spatial.rotate_inv(d.xq[e, link], c_bar)
