"""Forces of a fluid on bodies: MuJoCo's model of boxes with each body's inertia, and its adjoint.

MuJoCo documentation, Computation, "Passive forces: inertia model": in the frame of a body's inertia the fluid resists
each component x of the velocity of its centre of mass against the wind, and of the angular velocity, with -(viscous +
drag |x|) x. Explicit, as in MuJoCo's Euler.
"""

from taichi_sim import spatial
from taichi_sim.bodies import dynamics, external
from taichi_sim.runtime import ti


@ti.func
def resist(x, viscous, drag):
    """The fluid's force against the velocity x, both in the box's axes; and how each component grows with its own."""
    return -(viscous + drag * ti.abs(x)) * x, -(viscous + 2.0 * drag * ti.abs(x))


@ti.func
def place(m: ti.template(), d: ti.template(), e, k):
    """Of heavy body k: orientation of its box, centre, angular velocity, and that of the centre against the wind."""
    link = m.heavy_link[k]
    q = d.xq[e, link]
    c = d.xp[e, link] + spatial.rotate(q, m.heavy_com[e * m.per_block, k])
    v = external.particle(d.vw[e, link], d.vl[e, link], c) - m.wind[0]
    return spatial.quat_mul(q, m.fluid_quat[k]), c, d.vw[e, link], v


@ti.func
def forces(m: ti.template(), d: ti.template(), e):
    """Adds to qfrc_passive. Overwrites fn, ff."""
    for link in range(m.nlink):
        d.fn[e, link] = m.gravity[0] * 0.0
        d.ff[e, link] = m.gravity[0] * 0.0
    for k in range(m.nheavy):
        link = m.heavy_link[k]
        q, c, w, v = place(m, d, e, k)
        moment, _spin_slope = resist(spatial.rotate_inv(q, w), m.fluid_viscous_spin[k], m.fluid_drag_spin[k])
        force, _slope = resist(spatial.rotate_inv(q, v), m.fluid_viscous[k], m.fluid_drag[k])
        force = spatial.rotate(q, force)
        d.fn[e, link] = d.fn[e, link] + spatial.rotate(q, moment) + spatial.cross(c, force)
        d.ff[e, link] = d.ff[e, link] + force
    dynamics.generalised(m, d, e, d.fn, d.ff, d.qfrc_fluid)
    for i in range(m.nv):
        d.qfrc_passive[e, i] = d.qfrc_passive[e, i] + d.qfrc_fluid[e, i]


@ti.func
def adjoint_forces(m: ti.template(), d: ti.template(), e):
    """The gradient of nu . W, W the forces, where `external` wants it; and in centres of mass."""
    for k in range(m.nheavy):
        link = m.heavy_link[k]
        q, c, w, v = place(m, d, e, k)
        nw = d.nw[e, link]
        nu = external.particle(nw, d.nl[e, link], c)
        moment, spin_slope = resist(spatial.rotate_inv(q, w), m.fluid_viscous_spin[k], m.fluid_drag_spin[k])
        force, slope = resist(spatial.rotate_inv(q, v), m.fluid_viscous[k], m.fluid_drag[k])
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
