"""The fluid's forces on all bodies, and their adjoint (docs/adjoint.md). Explicit, as in MuJoCo's Euler.

In the frame of a body's inertia a box meets each component x of the centre of mass' velocity against the wind, and of
the angular velocity, with -(viscous + drag |x|) x (MuJoCo's documentation, Computation, "Fluid forces: Inertia model").
A body with geoms that say `fluidshape` has those for that instead (`ellipsoid`).
"""

from taichi_sim import spatial
from taichi_sim.bodies import dynamics, external
from taichi_sim.fluid import ellipsoid
from taichi_sim.runtime import procedure, ti


@ti.func
def drag(x, viscous, quadratic):
    """The fluid's force against the velocity x, both in the box's axes; and how each component grows with its own."""
    return -(viscous + quadratic * ti.abs(x)) * x, -(viscous + 2.0 * quadratic * ti.abs(x))


@ti.func
def box_drag(t: ti.template(), k, v, w):
    """Of box k of a table: moment and force in its axes, and their slopes, component by component."""
    moment, spin_slope = drag(w, t.viscous_spin[k], t.drag_spin[k])
    force, slope = drag(v, t.viscous[k], t.drag[k])
    return moment, force, spin_slope, slope


@ti.func
def against(m: ti.template(), d: ti.template(), e, link, c):
    """Velocity of a link's point c against the wind."""
    return external.particle(d.vw[e, link], d.vl[e, link], c) - m.fluid.wind[0]


@ti.func
def box(m: ti.template(), d: ti.template(), e, k):
    """Of box k: its link, centre and orientation."""
    heavy = m.fluid.boxes.heavy[k]
    link = m.heavy_link[heavy]
    q = d.xq[e, link]
    c = d.xp[e, link] + spatial.rotate(q, m.heavy_com[e * m.per_block, heavy])
    return link, c, spatial.quat_mul(q, m.fluid.boxes.quat[k])


@ti.func
def shape(m: ti.template(), d: ti.template(), e, k):
    """Of ellipsoid k: its link, centre and orientation."""
    link = m.fluid.ellipsoids.link[k]
    q = d.xq[e, link]
    c = d.xp[e, link] + spatial.rotate(q, m.fluid.ellipsoids.pos[k])
    return link, c, spatial.quat_mul(q, m.fluid.ellipsoids.quat[k])


@procedure
def push(d: ti.template(), e, link, c, q, moment, force):
    """Adds a moment and a force at c, in the axes q, to fn, ff."""
    force = spatial.rotate(q, force)
    d.fn[e, link] = d.fn[e, link] + spatial.rotate(q, moment) + spatial.cross(c, force)
    d.ff[e, link] = d.ff[e, link] + force


@procedure
def resist(m: ti.template(), d: ti.template(), e):
    """Adds to qfrc_passive. Overwrites fn, ff."""
    dynamics.clear(m, e, d.fn, d.ff)
    for k in range(m.fluid.boxes.number):
        link, c, q = box(m, d, e, k)
        v, w = spatial.rotate_inv(q, against(m, d, e, link, c)), spatial.rotate_inv(q, d.vw[e, link])
        moment, force, _spin_slope, _slope = box_drag(m.fluid.boxes, k, v, w)
        push(d, e, link, c, q, moment, force)
    if ti.static(m.fluid.ellipsoids.number > 0):
        for k in range(m.fluid.ellipsoids.number):
            link, c, q = shape(m, d, e, k)
            v, w = spatial.rotate_inv(q, against(m, d, e, link, c)), spatial.rotate_inv(q, d.vw[e, link])
            moment, force = ellipsoid.force(m.fluid.ellipsoids, k, v, w)
            push(d, e, link, c, q, moment, force)
    dynamics.generalised(m, d, e, d.fn, d.ff, d.fluid.qfrc)
    for i in range(m.nv):
        d.qfrc_passive[e, i] = d.qfrc_passive[e, i] + d.fluid.qfrc[e, i]


@ti.func
def adjoint_push(m: ti.template(), d: ti.template(), e, link, c, q, moment, force, w_bar, v_bar):
    """The gradient of nu . W, W the moment and the force, where `external` wants it; they and the adjoints in axes q.

    Returns:
        That in c.
    """
    moment, force = spatial.rotate(q, moment), spatial.rotate(q, force)
    w_bar, v_bar = spatial.rotate(q, w_bar), spatial.rotate(q, v_bar)
    w, v, nw = d.vw[e, link], against(m, d, e, link, c), d.nw[e, link]
    nu = external.particle(nw, d.nl[e, link], c)
    c_bar = spatial.cross(force, nw) + spatial.cross(v_bar, w)
    # the axes turn with the link, but the velocities that it meets do not
    turn = spatial.cross(force, nu) - spatial.cross(v, v_bar)
    turn = turn + spatial.cross(moment, nw) - spatial.cross(w, w_bar)
    external.add(d, e, link, c, force, v_bar, spatial.cross(c, c_bar) + turn, c_bar)
    external.add_moment(d, e, link, moment, w_bar)
    return c_bar


@procedure
def adjoint_resist(m: ti.template(), d: ti.template(), e):
    """The gradient of nu . W, W the forces, where `external` wants it; and in centres of mass."""
    for k in range(m.fluid.boxes.number):
        link, c, q = box(m, d, e, k)
        nw = d.nw[e, link]
        nu = external.particle(nw, d.nl[e, link], c)
        v, w = spatial.rotate_inv(q, against(m, d, e, link, c)), spatial.rotate_inv(q, d.vw[e, link])
        moment, force, spin_slope, slope = box_drag(m.fluid.boxes, k, v, w)
        w_bar, v_bar = spin_slope * spatial.rotate_inv(q, nw), slope * spatial.rotate_inv(q, nu)
        c_bar = adjoint_push(m, d, e, link, c, q, moment, force, w_bar, v_bar)
        if ti.static(m.fit):
            heavy = m.fluid.boxes.heavy[k]
            turned = spatial.rotate_inv(d.xq[e, link], c_bar)
            m.grad_heavy_com[e, heavy] = m.grad_heavy_com[e, heavy] + turned
    if ti.static(m.fluid.ellipsoids.number > 0):
        for k in range(m.fluid.ellipsoids.number):
            link, c, q = shape(m, d, e, k)
            v, w = spatial.rotate_inv(q, against(m, d, e, link, c)), spatial.rotate_inv(q, d.vw[e, link])
            nw = d.nw[e, link]
            nu = external.particle(nw, d.nl[e, link], c)
            moment, force = ellipsoid.force(m.fluid.ellipsoids, k, v, w)
            nu, nw = spatial.rotate_inv(q, nu), spatial.rotate_inv(q, nw)
            w_bar, v_bar = ellipsoid.adjoint(m.fluid.ellipsoids, k, v, w, nu, nw)
            adjoint_push(m, d, e, link, c, q, moment, force, w_bar, v_bar)
