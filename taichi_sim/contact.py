"""Contact: penalty forces of bodies on static planes, implicit in the velocity, and on each other; and their adjoint.

At a point p of depth d below a plane with normal n, whose material has the velocity v = v_n n + v_t,

    f = n (ke d - c v_n') - s v_t',    c = kd d while approaching, else 0,    s = min(kf, mu ke d / |v_t|)

The coefficients c and s are taken at v, the velocities they multiply at v' = v + theta h a. That adds theta h J'BJ with
B = c n n' + s (1 - n n') to the mass matrix. The friction's part, s 1, is the inertia of a particle of mass s at p; the
rest, (c - s) n n', is summed over subtrees for each different normal on its own (`blocks`). Both keep the tree's sparsity.
The spring is explicit: an implicit one pulls on a body that leaves.

Between two geoms that are no plane the same law holds for their relative velocity, all of it taken at v: damping between
two branches would couple dofs that the tree keeps apart.

Frozen in a substep, friction may exceed mu times the normal force where the tangential velocity changes much within one.
"""  # noqa: E501

from taichi_sim import collide, contact_points, spatial
from taichi_sim.runtime import ti

# Added to |v_t|^2 [m^2/s^2]: friction of what stands still is kf v_t.
_SPEED2_FLOOR = 1e-12


@ti.func
def particle(w, v, p):
    """Velocity at p of what moves with the spatial velocity (w, v)."""
    return v + spatial.cross(w, p)


@ti.func
def along(n, x):
    """The component of x along the unit vector n, and the rest of x."""
    a = spatial.dot(n, x)
    return a, x - spatial.scale(n, a)


@ti.func
def touch(m: ti.template(), d: ti.template(), e, c):
    """Point, relative to its tree's origin, and depth (negative above the plane) of contact c."""
    link = m.contact_link[c]
    n = m.contact_frame[m.contact_normal[c]]
    q = d.xq[e, link]
    centre = d.xp[e, link] + spatial.rotate(q, m.contact_pos[c])
    p = centre - spatial.scale(n, m.contact_radius[c])
    if ti.static(contact_points.ELLIPSOID in m.contact_kinds):
        if m.contact_kind[c] == contact_points.ELLIPSOID:
            p = collide.ellipsoid_plane(centre, spatial.quat_mul(q, m.contact_quat[c]), m.contact_size[c], n)
    if ti.static(contact_points.RIM in m.contact_kinds):
        if m.contact_kind[c] >= contact_points.RIM:
            q = spatial.quat_mul(q, m.contact_quat[c])
            size = m.contact_size[c]
            p = collide.cylinder_plane(centre, q, size[0, :], size[1, :], n, m.contact_kind[c] - contact_points.RIM)
    return p, m.contact_height[c] - spatial.dot(n, d.origin[e, m.link_tree[link]] + p)


@ti.func
def wander(m: ti.template(), d: ti.template(), e, c, n, p_bar):
    """The moment by which p_bar, the adjoint of contact c's point, turns the body because the point moves over it."""
    # the lowest point of a sphere stays below its centre
    torque = spatial.scale(spatial.cross(n, p_bar), m.contact_radius[c])
    q = d.xq[e, m.contact_link[c]]
    if ti.static(contact_points.ELLIPSOID in m.contact_kinds):
        if m.contact_kind[c] == contact_points.ELLIPSOID:
            q = spatial.quat_mul(q, m.contact_quat[c])
            torque = collide.adjoint_ellipsoid_plane(q, m.contact_size[c], n, p_bar)
    if ti.static(contact_points.RIM in m.contact_kinds):
        if m.contact_kind[c] >= contact_points.RIM:
            q = spatial.quat_mul(q, m.contact_quat[c])
            k = m.contact_kind[c] - contact_points.RIM
            torque = collide.adjoint_cylinder_plane(q, m.contact_size[c][0, :], n, k, p_bar)
    return torque


@ti.func
def coefficients(ke, kd, kf, mu, depth, vn, vt):
    """Spring force, friction coefficient s, normal damping c, 1 where s depends on |v_t|, and |v_t|."""
    spring = ke * depth
    speed = ti.sqrt(spatial.dot(vt, vt) + _SPEED2_FLOOR)
    sliding = mu * spring / speed
    slides = ti.select(sliding < kf, speed * 0.0 + 1.0, speed * 0.0)
    damping = ti.select(vn < 0.0, kd * depth, depth * 0.0)
    return spring, ti.min(sliding, kf), damping, slides, speed


@ti.func
def plane_coefficients(m: ti.template(), c, depth, vn, vt):
    """`coefficients` of contact c."""
    return coefficients(m.contact_ke[c], m.contact_kd[c], m.contact_kf[c], m.contact_mu[c], depth, vn, vt)


@ti.func
def pair_coefficients(m: ti.template(), k, depth, vn, vt):
    """`coefficients` of pair k."""
    return coefficients(m.pair_ke[k], m.pair_kd[k], m.pair_kf[k], m.pair_mu[k], depth, vn, vt)


@ti.func
def forces(m: ti.template(), d: ti.template(), e, h_theta):
    """kn, kf: contact forces at v on single links; and h_theta B on cm, ch, cd, co and bm, bh, bd, bo."""
    for link in range(m.nlink):
        d.kn[e, link] = m.gravity[0] * 0.0
        d.kf[e, link] = m.gravity[0] * 0.0
    for k in range(m.nlink * m.nnormal):
        zero = m.gravity[0] * 0.0
        d.bm[e, k] = zero[0, :]
        d.bh[e, k] = zero
        d.bd[e, k] = zero
        d.bo[e, k] = zero
    for c in range(m.ncontact):
        p, depth = touch(m, d, e, c)
        # a block skips what none of its worlds touches
        if depth.max() > 0.0:
            depth = ti.max(depth, 0.0)
            link = m.contact_link[c]
            n = m.contact_frame[m.contact_normal[c]]
            vn, vt = along(n, particle(d.vw[e, link], d.vl[e, link], p))
            spring, s, damping, _, _ = plane_coefficients(m, c, depth, vn, vt)
            f = spatial.scale(n, spring - damping * vn) - spatial.scale(vt, s)
            d.kn[e, link] = d.kn[e, link] + spatial.cross(p, f)
            d.kf[e, link] = d.kf[e, link] + f
            blocks(m, d, e, c, p, n, h_theta * s, h_theta * (damping - s))
    if ti.static(m.npair > 0):
        pair_forces(m, d, e)


@ti.func
def blocks(m: ti.template(), d: ti.template(), e, c, p, n, particle_mass, normal_mass):
    """Adds J'(particle_mass 1 + normal_mass n n')J of a contact at p."""
    link = m.contact_link[c]
    x, y, z = p[0, :], p[1, :], p[2, :]
    d.cm[e, link] = d.cm[e, link] + particle_mass
    d.ch[e, link] = d.ch[e, link] + spatial.scale(p, particle_mass)
    turning = ti.Matrix.rows([y * y + z * z, x * x + z * z, x * x + y * y])
    d.cd[e, link] = d.cd[e, link] + spatial.scale(turning, particle_mass)
    d.co[e, link] = d.co[e, link] - spatial.scale(ti.Matrix.rows([y * z, x * z, x * y]), particle_mass)
    k = link * m.nnormal + m.contact_normal[c]
    arm = spatial.cross(p, n)
    x, y, z = arm[0, :], arm[1, :], arm[2, :]
    d.bm[e, k] = d.bm[e, k] + normal_mass
    d.bh[e, k] = d.bh[e, k] + spatial.scale(arm, normal_mass)
    d.bd[e, k] = d.bd[e, k] + spatial.scale(ti.Matrix.rows([x * x, y * y, z * z]), normal_mass)
    d.bo[e, k] = d.bo[e, k] + spatial.scale(ti.Matrix.rows([y * z, x * z, x * y]), normal_mass)


@ti.func
def ahead(m: ti.template(), d: ti.template(), e, h_theta):
    """qvel, qacc -> tw, tl: the links' spatial velocities if qvel were v' = qvel + h_theta qacc."""
    d.tw[e, 0] = m.gravity[0] * 0.0
    d.tl[e, 0] = m.gravity[0] * 0.0
    for link in range(1, m.nlink):
        p = m.link_parent[link]
        dof = m.link_dofadr[link]
        w = d.tw[e, p]
        v = d.tl[e, p]
        for i in range(dof, dof + m.link_dofnum[link]):
            speed = d.qvel[e, i] + h_theta * d.qacc[e, i]
            w = w + spatial.scale(d.sw[e, i], speed)
            v = v + spatial.scale(d.sl[e, i], speed)
        d.tw[e, link] = w
        d.tl[e, link] = v


@ti.func
def adjoint_forces(m: ti.template(), d: ti.template(), e):
    """The gradient of nu . W, W the contact forces: of nu to fn, ff (as -W), of v to wn, wf (as -v_bar), of v' to xn, xf,
    of the pose to gn, gf (with what nu, v and v' turn along, see docs/adjoint.md). Expects those two zeroed or begun.
    """  # noqa: E501
    for link in range(m.nlink):
        zero = m.gravity[0] * 0.0
        d.xn[e, link] = zero
        d.xf[e, link] = zero
        d.gn[e, link] = zero
        d.gf[e, link] = zero
    for c in range(m.ncontact):
        p, depth = touch(m, d, e, c)
        if depth.max() > 0.0:
            touching = ti.select(depth > 0.0, depth * 0.0 + 1.0, depth * 0.0)
            depth = ti.max(depth, 0.0)
            link = m.contact_link[c]
            n = m.contact_frame[m.contact_normal[c]]
            v = particle(d.vw[e, link], d.vl[e, link], p)
            t = particle(d.tw[e, link], d.tl[e, link], p)
            nu = particle(d.nw[e, link], d.nl[e, link], p)
            vn, vt = along(n, v)
            tn, tt = along(n, t)
            nun, nut = along(n, nu)
            spring, s, damping, slides, speed = plane_coefficients(m, c, depth, vn, vt)
            f = spatial.scale(n, spring - damping * tn) - spatial.scale(tt, s)
            t_bar = -spatial.scale(n, damping * nun) - spatial.scale(nut, s)
            # nu . f = nu_n (ke d - c t_n) - s t_t . nu_t
            slip = spatial.dot(tt, nut)
            v_bar = spatial.scale(vt, slides * s * slip / (speed * speed))
            kd = ti.select(vn < 0.0, m.contact_kd[c], depth * 0.0)
            grip = slides * m.contact_mu[c] * m.contact_ke[c] / speed
            depth_bar = touching * (nun * (m.contact_ke[c] - kd * tn) - grip * slip)
            lift = -spatial.scale(n, depth_bar)
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
    if ti.static(m.npair > 0):
        adjoint_pairs(m, d, e)


@ti.func
def pair_place(m: ti.template(), d: ti.template(), e, k):
    """Centre and half-axis of pair k's geom 1, centre, half-axis and orientation of its geom 2, all relative to the origin
    of geom 1's tree, and that of geom 2's tree relative to it.
    """  # noqa: E501
    one, two = m.pair_link1[k], m.pair_link2[k]
    offset = d.origin[e, m.link_tree[two]] - d.origin[e, m.link_tree[one]]
    q1, q2 = d.xq[e, one], d.xq[e, two]
    c1 = d.xp[e, one] + spatial.rotate(q1, m.pair_pos1[k])
    c2 = d.xp[e, two] + spatial.rotate(q2, m.pair_pos2[k]) + offset
    u1, u2 = spatial.rotate(q1, m.pair_axis1[k]), spatial.rotate(q2, m.pair_axis2[k])
    return c1, u1, c2, u2, spatial.quat_mul(q2, m.pair_quat2[k]), offset


@ti.func
def pair_touch(m: ti.template(), k, c1, u1, c2, u2, q2):
    """Depth, normal and point of pair k."""
    r1 = m.pair_radius1[k]
    depth, n, p = r1 * 0.0, c1 * 0.0, c1 * 0.0
    if ti.static(contact_points.SEGMENTS in m.pair_kinds):
        if m.pair_kind[k] == contact_points.SEGMENTS:
            depth, n, p = collide.segments(c1, u1, r1, c2, u2, m.pair_radius2[k])
    if ti.static(contact_points.SPHERE_BOX in m.pair_kinds):
        if m.pair_kind[k] == contact_points.SPHERE_BOX:
            depth, n, p = collide.sphere_box(c1, r1, c2, q2, m.pair_size2[k])
    if ti.static(contact_points.CAPSULE_BOX in m.pair_kinds):
        if m.pair_kind[k] == contact_points.CAPSULE_BOX:
            depth, n, p = collide.capsule_box(c1, u1, r1, c2, q2, m.pair_size2[k])
    return depth + m.pair_margin[k], n, p


@ti.func
def pair_turn(m: ti.template(), k, c1, u1, c2, u2, q2, d_bar, n_bar, p_bar):
    """Adjoints of `pair_touch`'s results -> the spatial force on geom 1 that they are together."""
    r1 = m.pair_radius1[k]
    gn, gf = c1 * 0.0, c1 * 0.0
    if ti.static(contact_points.SEGMENTS in m.pair_kinds):
        if m.pair_kind[k] == contact_points.SEGMENTS:
            gn, gf = collide.adjoint_segments(c1, u1, r1, c2, u2, m.pair_radius2[k], d_bar, n_bar, p_bar)
    if ti.static(contact_points.SPHERE_BOX in m.pair_kinds):
        if m.pair_kind[k] == contact_points.SPHERE_BOX:
            gn, gf = collide.adjoint_sphere_box(c1, r1, c2, q2, m.pair_size2[k], d_bar, n_bar, p_bar)
    if ti.static(contact_points.CAPSULE_BOX in m.pair_kinds):
        if m.pair_kind[k] == contact_points.CAPSULE_BOX:
            gn, gf = collide.adjoint_capsule_box(c1, u1, r1, c2, q2, m.pair_size2[k], d_bar, n_bar, p_bar)
    return gn, gf


@ti.func
def pair_forces(m: ti.template(), d: ti.template(), e):
    """Adds the forces at v between moving geoms to kn, kf."""
    for k in range(m.npair):
        c1, u1, c2, u2, q2, offset = pair_place(m, d, e, k)
        if collide.near(c1, m.pair_reach1[k], c2, m.pair_reach2[k]):
            depth, n, p = pair_touch(m, k, c1, u1, c2, u2, q2)
            if depth.max() > 0.0:
                depth = ti.max(depth, 0.0)
                one, two = m.pair_link1[k], m.pair_link2[k]
                v = particle(d.vw[e, one], d.vl[e, one], p) - particle(d.vw[e, two], d.vl[e, two], p - offset)
                vn, vt = along(n, v)
                spring, s, damping, _, _ = pair_coefficients(m, k, depth, vn, vt)
                f = spatial.scale(n, spring - damping * vn) - spatial.scale(vt, s)
                d.kn[e, one] = d.kn[e, one] + spatial.cross(p, f)
                d.kf[e, one] = d.kf[e, one] + f
                d.kn[e, two] = d.kn[e, two] - spatial.cross(p - offset, f)
                d.kf[e, two] = d.kf[e, two] - f


@ti.func
def adjoint_pairs(m: ti.template(), d: ti.template(), e):
    """`adjoint_forces` of the pairs, whose forces do not depend on v'."""
    for k in range(m.npair):
        c1, u1, c2, u2, q2, offset = pair_place(m, d, e, k)
        if collide.near(c1, m.pair_reach1[k], c2, m.pair_reach2[k]):
            depth, n, p = pair_touch(m, k, c1, u1, c2, u2, q2)
            if depth.max() > 0.0:
                touching = ti.select(depth > 0.0, depth * 0.0 + 1.0, depth * 0.0)
                depth = ti.max(depth, 0.0)
                one, two = m.pair_link1[k], m.pair_link2[k]
                y = p - offset
                v = particle(d.vw[e, one], d.vl[e, one], p) - particle(d.vw[e, two], d.vl[e, two], y)
                nu = particle(d.nw[e, one], d.nl[e, one], p) - particle(d.nw[e, two], d.nl[e, two], y)
                vn, vt = along(n, v)
                nun, nut = along(n, nu)
                spring, s, damping, slides, speed = pair_coefficients(m, k, depth, vn, vt)
                f = spatial.scale(n, spring - damping * vn) - spatial.scale(vt, s)
                # nu . f = nu_n (ke d - c v_n) - s v_t . nu_t
                slip = spatial.dot(vt, nut)
                slope = slides * s * slip / (speed * speed)
                kd = ti.select(vn < 0.0, m.pair_kd[k], depth * 0.0)
                grip = slides * m.pair_mu[k] * m.pair_ke[k] / speed
                v_bar = spatial.scale(vt, slope) - spatial.scale(n, damping * nun) - spatial.scale(nut, s)
                d_bar = touching * (nun * (m.pair_ke[k] - kd * vn) - grip * slip)
                n_bar = spatial.scale(nu, spring - damping * vn + s * vn)
                n_bar = n_bar + spatial.scale(v, s * nun - damping * nun - slope * vn)
                p_bar = spatial.cross(f, d.nw[e, one] - d.nw[e, two])
                p_bar = p_bar + spatial.cross(v_bar, d.vw[e, one] - d.vw[e, two])
                gn, gf = pair_turn(m, k, c1, u1, c2, u2, q2, d_bar, n_bar, p_bar)
                pair_add(m, d, e, one, p, f, v_bar, gn, gf)
                # both displaced alike turn the normal and move the point: geom 2 has the rest of that
                gn = spatial.cross(n, n_bar) + spatial.cross(p, p_bar) - gn
                gf = p_bar - gf
                pair_add(m, d, e, two, y, -f, -v_bar, gn - spatial.cross(offset, gf), gf)


@ti.func
def pair_add(m: ti.template(), d: ti.template(), e, link, p, f, v_bar, gn, gf):
    """Adds a pair's adjoints on one of its links: f and v_bar at p, and the pose's (gn, gf)."""
    fn = spatial.cross(p, f)
    vn = spatial.cross(p, v_bar)
    d.fn[e, link] = d.fn[e, link] - fn
    d.ff[e, link] = d.ff[e, link] - f
    d.wn[e, link] = d.wn[e, link] - vn
    d.wf[e, link] = d.wf[e, link] - v_bar
    an, af = spatial.force_cross(d.nw[e, link], d.nl[e, link], fn, f)
    bn, bf = spatial.force_cross(d.vw[e, link], d.vl[e, link], vn, v_bar)
    d.gn[e, link] = d.gn[e, link] + gn + an + bn
    d.gf[e, link] = d.gf[e, link] + gf + af + bf


@ti.func
def adjoint_project(m: ti.template(), d: ti.template(), e):
    """Sums xn, xf and gn, gf over subtrees and adds their part of lam' dtau/d(q, v) to grad_qpos and grad_qvel.

    With p the parent link, X and G the subtree's sums: q_bar_i = S_i . [G - v'_p x* X], v_bar_i = S_i . X.
    """
    for step in range(1, m.nlink):
        link = m.nlink - step
        p = m.link_parent[link]
        xn = d.xn[e, link]
        xf = d.xf[e, link]
        gn = d.gn[e, link]
        gf = d.gf[e, link]
        cn, cf = spatial.force_cross(d.tw[e, p], d.tl[e, p], xn, xf)
        cn = gn - cn
        cf = gf - cf
        dof = m.link_dofadr[link]
        for i in range(dof, dof + m.link_dofnum[link]):
            d.grad_qpos[e, i] = d.grad_qpos[e, i] + spatial.dot(d.sw[e, i], cn) + spatial.dot(d.sl[e, i], cf)
            d.grad_qvel[e, i] = d.grad_qvel[e, i] + spatial.dot(d.sw[e, i], xn) + spatial.dot(d.sl[e, i], xf)
        d.xn[e, p] = d.xn[e, p] + xn
        d.xf[e, p] = d.xf[e, p] + xf
        d.gn[e, p] = d.gn[e, p] + gn
        d.gf[e, p] = d.gf[e, p] + gf
