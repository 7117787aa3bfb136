"""Contact of convex shapes with each other, and its adjoint (docs/adjoint.md).

The law: `law`. On geoms of the world it is implicit in the velocity, between moving ones explicit.
"""

from taichi_sim import spatial
from taichi_sim.bodies.damping import add_block, add_particle, add_turning
from taichi_sim.bodies.external import add, add_ahead, add_moment, add_spin, particle
from taichi_sim.contact import box_box, boxes, collide, hfield, points, record
from taichi_sim.contact.convex import pair as convex
from taichi_sim.contact.law import adjoint, adjoint_moment, along, force, moment, turning_coefficients
from taichi_sim.lanes.vectors import greatest
from taichi_sim.runtime import procedure, ti


@ti.func
def offset(m: ti.template(), d: ti.template(), e, k):
    """From the origin of the tree of pair k's geom 1 to that of its geom 2."""
    one, two = m.contact.pairs.link1[k], m.contact.pairs.link2[k]
    return d.origin[e, m.link_tree[two]] - d.origin[e, m.link_tree[one]]


@ti.func
def place(m: ti.template(), d: ti.template(), e, k):
    """Centre, half-axis and orientation of pair k's geom 1, those of its geom 2, all relative to the origin of geom 1's
    tree, and that of geom 2's tree relative to it.
    """
    one, two = m.contact.pairs.link1[k], m.contact.pairs.link2[k]
    apart = offset(m, d, e, k)
    q1, q2 = d.xq[e, one], d.xq[e, two]
    c1 = d.xp[e, one] + spatial.rotate(q1, m.contact.pairs.pos1[k])
    c2 = d.xp[e, two] + spatial.rotate(q2, m.contact.pairs.pos2[k]) + apart
    u1, u2 = spatial.rotate(q1, m.contact.pairs.axis1[k]), spatial.rotate(q2, m.contact.pairs.axis2[k])
    q1, q2 = spatial.quat_mul(q1, m.contact.pairs.quat1[k]), spatial.quat_mul(q2, m.contact.pairs.quat2[k])
    return c1, u1, q1, c2, u2, q2, apart


@ti.func
def touch(m: ti.template(), d: ti.template(), e, k, c1, u1, q1, c2, u2, q2):
    """Depth, normal and point of pair k. Rows of one pair must take their turn."""
    r1 = m.contact.pairs.radius1[k]
    depth, n, p = r1 * 0.0, c1 * 0.0, c1 * 0.0
    if ti.static(points.SEGMENTS in m.contact.pairs.kinds):
        if m.contact.pairs.kind[k] == points.SEGMENTS:
            depth, n, p = collide.segments(c1, u1, r1, c2, u2, m.contact.pairs.radius2[k])
    if ti.static(points.SPHERE_BOX in m.contact.pairs.kinds):
        if m.contact.pairs.kind[k] == points.SPHERE_BOX:
            depth, n, p = boxes.sphere_box(c1, r1, c2, q2, m.contact.pairs.size2[k])
    if ti.static(points.CAPSULE_BOX in m.contact.pairs.kinds):
        if m.contact.pairs.kind[k] == points.CAPSULE_BOX:
            depth, n, p = boxes.capsule_box(c1, u1, r1, c2, q2, m.contact.pairs.size2[k])
    if ti.static(points.BOX_BOX in m.contact.pairs.kinds):
        if m.contact.pairs.kind[k] == points.BOX_BOX:
            size1, size2 = m.contact.pairs.size1[k], m.contact.pairs.size2[k]
            depth, n, p = box_box.touch(c1, q1, size1, c2, q2, size2, m.contact.pairs.slot[k])
    if ti.static(points.CONVEX in m.contact.pairs.kinds):
        if m.contact.pairs.kind[k] == points.CONVEX:
            if m.contact.pairs.slot[k] == 0:
                convex.find(m, d, e, k, c1, q1, c2, q2)
            depth, n, p = convex.touch(m, d, e, k, c2, q2)
    if ti.static(points.HFIELD in m.contact.pairs.kinds):
        if m.contact.pairs.kind[k] == points.HFIELD:
            depth, n, p = hfield.touch(m.contact.nodes, m.contact.pairs, k, c1, r1, c2, q2)
    if ti.static(points.HFIELD_ELLIPSOID in m.contact.pairs.kinds):
        if m.contact.pairs.kind[k] == points.HFIELD_ELLIPSOID:
            depth, n, p = hfield.touch_ellipsoid(m.contact.nodes, m.contact.pairs, k, c1, q1, c2, q2)
    if ti.static(points.HFIELD_RIM in m.contact.pairs.kinds):
        if m.contact.pairs.kind[k] == points.HFIELD_RIM:
            depth, n, p = hfield.touch_rim(m.contact.nodes, m.contact.pairs, k, c1, q1, c2, q2)
    return depth + m.contact.pairs.margin[k], n, p


@ti.func
def turn(m: ti.template(), d: ti.template(), e, k, c1, u1, q1, c2, u2, q2, d_bar, n_bar, p_bar):
    """Adjoints of `touch`'s results, just found -> the spatial force on geom 1 that they are together."""
    r1 = m.contact.pairs.radius1[k]
    gn, gf = c1 * 0.0, c1 * 0.0
    if ti.static(points.SEGMENTS in m.contact.pairs.kinds):
        if m.contact.pairs.kind[k] == points.SEGMENTS:
            gn, gf = collide.adjoint_segments(c1, u1, r1, c2, u2, m.contact.pairs.radius2[k], d_bar, n_bar, p_bar)
    if ti.static(points.SPHERE_BOX in m.contact.pairs.kinds):
        if m.contact.pairs.kind[k] == points.SPHERE_BOX:
            gn, gf = boxes.adjoint_sphere_box(c1, r1, c2, q2, m.contact.pairs.size2[k], d_bar, n_bar, p_bar)
    if ti.static(points.CAPSULE_BOX in m.contact.pairs.kinds):
        if m.contact.pairs.kind[k] == points.CAPSULE_BOX:
            gn, gf = boxes.adjoint_capsule_box(c1, u1, r1, c2, q2, m.contact.pairs.size2[k], d_bar, n_bar, p_bar)
    if ti.static(points.BOX_BOX in m.contact.pairs.kinds):
        if m.contact.pairs.kind[k] == points.BOX_BOX:
            size1, size2, slot = m.contact.pairs.size1[k], m.contact.pairs.size2[k], m.contact.pairs.slot[k]
            gn, gf = box_box.adjoint_touch(c1, q1, size1, c2, q2, size2, slot, d_bar, n_bar, p_bar)
    if ti.static(points.CONVEX in m.contact.pairs.kinds):
        if m.contact.pairs.kind[k] == points.CONVEX:
            gn, gf = convex.adjoint_touch(m, d, e, k, c1, q1, c2, q2, d_bar, n_bar, p_bar)
    if ti.static(points.HFIELD in m.contact.pairs.kinds):
        if m.contact.pairs.kind[k] == points.HFIELD:
            gn, gf = hfield.adjoint_touch(m.contact.nodes, m.contact.pairs, k, c1, r1, c2, q2, d_bar, n_bar, p_bar)
    if ti.static(points.HFIELD_ELLIPSOID in m.contact.pairs.kinds):
        if m.contact.pairs.kind[k] == points.HFIELD_ELLIPSOID:
            gn, gf = hfield.adjoint_touch_ellipsoid(
                m.contact.nodes, m.contact.pairs, k, c1, q1, c2, q2, d_bar, n_bar, p_bar
            )
    if ti.static(points.HFIELD_RIM in m.contact.pairs.kinds):
        if m.contact.pairs.kind[k] == points.HFIELD_RIM:
            gn, gf = hfield.adjoint_touch_rim(m.contact.nodes, m.contact.pairs, k, c1, q1, c2, q2, d_bar, n_bar, p_bar)
    return gn, gf


@ti.func
def relative(one, two, e, w: ti.template(), v: ti.template(), p, offset):
    """Velocity at p of link `one` relative to link `two`, and the difference of their angular velocities."""
    return particle(w[e, one], v[e, one], p) - particle(w[e, two], v[e, two], p - offset), w[e, one] - w[e, two]


@procedure
def forces(m: ti.template(), d: ti.template(), e, h_theta, report: ti.template(), at, reports):
    """Adds the forces at v to contact.kn, kf; and h_theta B of geoms of the world to cm, ch, cd, co and gm, gl, ga.

    Writes them to a report as `planes.forces` does.
    """
    for k in range(m.contact.pairs.number):
        c1, u1, q1, c2, u2, q2, apart = place(m, d, e, k)
        if collide.near(c1, m.contact.pairs.reach1[k], c2, m.contact.pairs.reach2[k]):
            depth, n, p = touch(m, d, e, k, c1, u1, q1, c2, u2, q2)
            if greatest(depth) > 0.0:
                depth = ti.max(depth, 0.0)
                one, two = m.contact.pairs.link1[k], m.contact.pairs.link2[k]
                v, w = relative(one, two, e, d.vw, d.vl, p, apart)
                f, spring, damping, s = force(m.contact.pairs, e, k, n, depth, v)
                d.contact.kn[e, one] = d.contact.kn[e, one] + spatial.cross(p, f)
                d.contact.kf[e, one] = d.contact.kf[e, one] + f
                d.contact.kn[e, two] = d.contact.kn[e, two] - spatial.cross(p - apart, f)
                d.contact.kf[e, two] = d.contact.kf[e, two] - f
                if ti.static(m.contact.pairs.static):
                    if two == 0:
                        add_particle(d, e, one, p, h_theta * s)
                        add_block(d, e, one, spatial.cross(p, n), n, h_theta * (damping - s))
                torque = f * 0.0
                if ti.static(m.contact.pairs.turning):
                    wn, wt = along(n, w)
                    sn, st, _, _, _, _ = turning_coefficients(m.contact.pairs, e, k, spring, wn, wt)
                    torque = moment(n, sn, st, wn, wt)
                    d.contact.kn[e, one] = d.contact.kn[e, one] + torque
                    d.contact.kn[e, two] = d.contact.kn[e, two] - torque
                    if ti.static(m.contact.pairs.static):
                        if two == 0:
                            add_turning(d, e, one, n, h_theta * sn, h_theta * st)
                if reports:
                    c = m.contact.planes.number + k
                    record.write(m, d, e, c, one, depth, n, p, f, torque, report, at)


@procedure
def adjoint_forces(m: ti.template(), d: ti.template(), e):
    """`planes.adjoint_forces` of the pairs."""
    for k in range(m.contact.pairs.number):
        c1, u1, q1, c2, u2, q2, apart = place(m, d, e, k)
        if collide.near(c1, m.contact.pairs.reach1[k], c2, m.contact.pairs.reach2[k]):
            depth, n, p = touch(m, d, e, k, c1, u1, q1, c2, u2, q2)
            if greatest(depth) > 0.0:
                touching = ti.select(depth > 0.0, depth * 0.0 + 1.0, depth * 0.0)
                depth = ti.max(depth, 0.0)
                one, two = m.contact.pairs.link1[k], m.contact.pairs.link2[k]
                v, vw = relative(one, two, e, d.vw, d.vl, p, apart)
                nu, nw = relative(one, two, e, d.nw, d.nl, p, apart)
                t, tw = v, vw
                if ti.static(m.contact.pairs.static):
                    if two == 0:
                        t, tw = relative(one, two, e, d.tw, d.tl, p, apart)
                f, v_bar, t_bar, n_bar, d_bar, spring = adjoint(m.contact.pairs, e, k, n, depth, v, t, nu)
                if ti.static(m.contact.pairs.turning):
                    torque, w_bar, tw_bar, turned, grip = adjoint_moment(m.contact.pairs, e, k, spring, n, vw, tw, nw)
                    d_bar = d_bar + m.contact.pairs.ke[k] * grip
                    n_bar = n_bar + turned
                    now = w_bar + tw_bar
                    if ti.static(m.contact.pairs.static):
                        if two == 0:
                            now = w_bar
                            add_spin(d, e, one, tw_bar, d.tw, d.xn)
                    add_moment(d, e, one, torque, now)
                    add_moment(d, e, two, -torque, -now)
                d_bar = touching * d_bar
                p_bar = spatial.cross(f, nw) + spatial.cross(v_bar, vw) + spatial.cross(t_bar, tw)
                if ti.static(m.contact.pairs.static):
                    if two == 0:
                        add_ahead(d, e, one, p, t_bar)
                        # of what follows only v_bar is left
                        t_bar = t_bar * 0.0
                add_both(m, d, e, k, c1, u1, q1, c2, u2, q2, apart, n, p, f, v_bar + t_bar, d_bar, n_bar, p_bar)


@procedure
def add_both(
    m: ti.template(), d: ti.template(), e, k, c1, u1, q1, c2, u2, q2, apart, n, p, f, v_bar, d_bar, n_bar, p_bar
):
    """Adds the adjoints of pair k's force, relative velocity, and of what `touch` has just found to those of its links.

    Args: of `place`, of `touch` the normal and the point, the force on geom 1, and the adjoints.
    """
    gn, gf = turn(m, d, e, k, c1, u1, q1, c2, u2, q2, d_bar, n_bar, p_bar)
    add(d, e, m.contact.pairs.link1[k], p, f, v_bar, gn, gf)
    # both displaced alike turn the normal and move the point: geom 2 has the rest of that
    gn = spatial.cross(n, n_bar) + spatial.cross(p, p_bar) - gn
    gf = p_bar - gf
    add(d, e, m.contact.pairs.link2[k], p - apart, -f, -v_bar, gn - spatial.cross(apart, gf), gf)
