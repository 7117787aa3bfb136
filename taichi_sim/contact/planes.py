"""Contact of bodies with planes and its adjoint (docs/adjoint.md). The law: `law`."""

from taichi_sim import spatial
from taichi_sim.bodies.damping import add_along, add_particle, add_turning
from taichi_sim.bodies.external import add_moment, add_spin, particle
from taichi_sim.contact import collide, points, record
from taichi_sim.contact.law import adjoint, adjoint_moment, along, force, moment, turning_coefficients
from taichi_sim.lanes.vectors import greatest
from taichi_sim.runtime import procedure, ti


@ti.func
def touch(m: ti.template(), d: ti.template(), e, c):
    """Point, relative to its tree's origin, and depth (negative above the plane) of contact c."""
    link = m.contact.planes.link[c]
    n = m.damping.normals[m.contact.planes.normal[c]]
    q = d.xq[e, link]
    centre = d.xp[e, link] + spatial.rotate(q, m.contact.planes.pos[c])
    p = centre - spatial.scale(n, m.contact.planes.radius[c])
    if ti.static(points.ELLIPSOID in m.contact.planes.kinds):
        if m.contact.planes.kind[c] == points.ELLIPSOID:
            p = collide.ellipsoid_plane(
                centre, spatial.quat_mul(q, m.contact.planes.quat[c]), m.contact.planes.size[c], n
            )
    if ti.static(points.RIM in m.contact.planes.kinds):
        if m.contact.planes.kind[c] >= points.RIM:
            q = spatial.quat_mul(q, m.contact.planes.quat[c])
            size = m.contact.planes.size[c]
            p = collide.cylinder_plane(centre, q, size[0, :], size[1, :], n, m.contact.planes.kind[c] - points.RIM)
    return p, m.contact.planes.height[c] - spatial.dot(n, d.origin[e, m.link_tree[link]] + p)


@ti.func
def wander(m: ti.template(), d: ti.template(), e, c, n, p_bar):
    """The moment by which p_bar, the adjoint of contact c's point, turns the body because the point moves over it."""
    # the lowest point of a sphere stays below its centre
    torque = spatial.scale(spatial.cross(n, p_bar), m.contact.planes.radius[c])
    q = d.xq[e, m.contact.planes.link[c]]
    if ti.static(points.ELLIPSOID in m.contact.planes.kinds):
        if m.contact.planes.kind[c] == points.ELLIPSOID:
            q = spatial.quat_mul(q, m.contact.planes.quat[c])
            torque = collide.adjoint_ellipsoid_plane(q, m.contact.planes.size[c], n, p_bar)
    if ti.static(points.RIM in m.contact.planes.kinds):
        if m.contact.planes.kind[c] >= points.RIM:
            q = spatial.quat_mul(q, m.contact.planes.quat[c])
            k = m.contact.planes.kind[c] - points.RIM
            torque = collide.adjoint_cylinder_plane(q, m.contact.planes.size[c][0, :], n, k, p_bar)
    return torque


@procedure
def forces(m: ti.template(), d: ti.template(), e, h_theta, report: ti.template(), at, reports):
    """Adds the forces at v to contact.kn, kf; and h_theta B to cm, ch, cd, co and bm, bh, bd, bo.

    With `reports` it also writes them to a report, `record`'s numbers from `at` on.
    """
    for c in range(m.contact.planes.number):
        p, depth = touch(m, d, e, c)
        # a block skips what none of its worlds touches
        if greatest(depth) > 0.0:
            depth = ti.max(depth, 0.0)
            link = m.contact.planes.link[c]
            n = m.damping.normals[m.contact.planes.normal[c]]
            v = particle(d.vw[e, link], d.vl[e, link], p)
            f, spring, damping, s = force(m.contact.planes, e, c, n, depth, v)
            d.contact.kn[e, link] = d.contact.kn[e, link] + spatial.cross(p, f)
            d.contact.kf[e, link] = d.contact.kf[e, link] + f
            add_particle(d, e, link, p, h_theta * s)
            add_along(m, d, e, link, m.contact.planes.normal[c], p, h_theta * (damping - s))
            torque = f * 0.0
            if ti.static(m.contact.planes.turning):
                wn, wt = along(n, d.vw[e, link])
                sn, st, _, _, _, _ = turning_coefficients(m.contact.planes, e, c, spring, wn, wt)
                torque = moment(n, sn, st, wn, wt)
                d.contact.kn[e, link] = d.contact.kn[e, link] + torque
                add_turning(d, e, link, n, h_theta * sn, h_theta * st)
            if reports:
                record.write(m, d, e, c, link, depth, n, p, f, torque, report, at)


@procedure
def adjoint_forces(m: ti.template(), d: ti.template(), e):
    """The gradient of nu . W, W the contact forces, where `external` wants it (with what nu, v and v' turn along)."""
    for c in range(m.contact.planes.number):
        p, depth = touch(m, d, e, c)
        if greatest(depth) > 0.0:
            touching = ti.select(depth > 0.0, depth * 0.0 + 1.0, depth * 0.0)
            depth = ti.max(depth, 0.0)
            link = m.contact.planes.link[c]
            n = m.damping.normals[m.contact.planes.normal[c]]
            v = particle(d.vw[e, link], d.vl[e, link], p)
            t = particle(d.tw[e, link], d.tl[e, link], p)
            nu = particle(d.nw[e, link], d.nl[e, link], p)
            f, v_bar, t_bar, _n_bar, d_bar, spring = adjoint(m.contact.planes, e, c, n, depth, v, t, nu)
            if ti.static(m.contact.planes.turning):
                w, tw, nw = d.vw[e, link], d.tw[e, link], d.nw[e, link]
                torque, w_bar, tw_bar, _turned, grip = adjoint_moment(m.contact.planes, e, c, spring, n, w, tw, nw)
                add_moment(d, e, link, torque, w_bar)
                add_spin(d, e, link, tw_bar, d.tw, d.xn)
                d_bar = d_bar + m.contact.planes.ke[c] * grip
            lift = -spatial.scale(n, touching * d_bar)
            d.fn[e, link] = d.fn[e, link] - spatial.cross(p, f)
            d.ff[e, link] = d.ff[e, link] - f
            d.wn[e, link] = d.wn[e, link] - spatial.cross(p, v_bar)
            d.wf[e, link] = d.wf[e, link] - v_bar
            d.xn[e, link] = d.xn[e, link] + spatial.cross(p, t_bar)
            d.xf[e, link] = d.xf[e, link] + t_bar
            turn = spatial.cross(nu, f) + spatial.cross(v, v_bar) + spatial.cross(t, t_bar)
            p_bar = lift + spatial.cross(f, d.nw[e, link]) + spatial.cross(v_bar, d.vw[e, link])
            p_bar = p_bar + spatial.cross(t_bar, d.tw[e, link])
            turn = turn + wander(m, d, e, c, n, p_bar)
            d.gn[e, link] = d.gn[e, link] + spatial.cross(p, lift) + turn
            d.gf[e, link] = d.gf[e, link] + lift
