"""The adjoint of the rows' forces at fixed qacc, where those that push are those that did (docs/adjoint.md)."""

from taichi_sim import spatial
from taichi_sim.bodies.external import add, add_moment, add_motion, add_spin
from taichi_sim.constraint import cone, dry, touch
from taichi_sim.constraint.rows import along, edge, motion, prepare, product, violation, virtual_mass
from taichi_sim.contact import pairs, planes
from taichi_sim.lanes.vectors import greatest
from taichi_sim.muscles import tendon
from taichi_sim.runtime import procedure, ti
from taichi_sim.types import JNT_BALL


@procedure
def forces(m: ti.template(), d: ti.template(), e):
    """grad_qpos, grad_qvel += lam' dtau/d(q, v); a part of it where `external` and `dynamics` want it."""
    prepare(m, d, e)
    if ti.static(m.constraint.dry.number > 0):
        dry.adjoint_forces(m, d, e)
    if ti.static(m.constraint.limits.number > 0):
        for i in range(m.constraint.limits.joints):
            if greatest(d.constraint.limit_mass[e, i]) > 0.0:
                limit(m, d, e, i)
    if ti.static(m.constraint.contacts.number > 0):
        motion(m, d, e)
        for link in range(m.nlink):
            d.constraint.yn[e, link] = m.gravity[0] * 0.0
            d.constraint.yf[e, link] = m.gravity[0] * 0.0
        for c in range(m.constraint.contacts.number):
            if greatest(d.constraint.depth[e, c]) > 0.0:
                contact(m, d, e, c)
        project(m, d, e)


@procedure
def tendon_forces(m: ti.template(), d: ti.template(), e):
    """What `forces` does, of tendons' limits and dry friction, to the tendons' adjoints."""
    if ti.static(m.constraint.dry.tendons > 0):
        for i in range(m.constraint.dry.joints, m.constraint.dry.number):
            dry.adjoint_tendon(m, d, e, i)
    if ti.static(m.constraint.limits.tendons > 0):
        for i in range(m.constraint.limits.joints, m.constraint.limits.number):
            _x, J, _u, f, a_bar, x_bar = pushed(m, d, e, i)
            v_bar = m.constraint.limits.damping[i] * a_bar
            side = J[0, :]
            tendon.add_row(d, e, m.constraint.limits.tendon[i], -side * x_bar, side * f, side * v_bar, side * a_bar)


@ti.func
def pushed(m: ti.template(), d: ti.template(), e, i):
    """Of limit i `violation`, its force along J, and the adjoints of J a and of the violation."""
    x, J, u = violation(m, d, e, i)
    mass, mass_slope, push, push_slope = virtual_mass(
        m.constraint.limits, i, ti.max(x, 0.0), m.constraint.limits.weight[i]
    )
    speed = along(m, d, e, i, J, d.qvel)
    pull = push - m.constraint.limits.damping[i] * speed - along(m, d, e, i, J, d.qacc)
    on = ti.select((x > 0.0) & (pull > 0.0), x * 0.0 + 1.0, x * 0.0)
    lam = on * along(m, d, e, i, J, d.lam)
    return x, J, u, on * mass * pull, -lam * mass, lam * (mass_slope * pull + mass * push_slope)


@procedure
def limit(m: ti.template(), d: ti.template(), e, i):
    """Of limit i, of a joint."""
    _x, J, u, f, a_bar, x_bar = pushed(m, d, e, i)
    v_bar = m.constraint.limits.damping[i] * a_bar
    dof = m.constraint.limits.dof[i]
    d.grad_qvel[e, dof] = d.grad_qvel[e, dof] + v_bar * J[0, :]
    if ti.static(m.constraint.limits.ball):
        if m.constraint.limits.kind[i] == JNT_BALL:
            for k in ti.static((1, 2)):
                d.grad_qvel[e, dof + k] = d.grad_qvel[e, dof + k] + v_bar * J[k, :]
            # the angle grows along -J, which turns with u
            a = spatial.load_vec3(d.qacc, e, dof) + spatial.scale(
                spatial.load_vec3(d.qvel, e, dof), m.constraint.limits.damping[i]
            )
            J_bar = spatial.scale(spatial.load_vec3(d.lam, e, dof), f) + spatial.scale(a, a_bar)
            per_angle = 1.0 / ti.max(ti.sqrt(spatial.dot(u, u)), 1e-6)
            across = J_bar - spatial.scale(J, spatial.dot(J, J_bar))
            g = -spatial.scale(J, x_bar) - spatial.scale(across, per_angle)
            g = spatial.jac_right_inv_transpose(u, g)
            for k in ti.static(range(3)):
                d.grad_qpos[e, dof + k] = d.grad_qpos[e, dof + k] + g[k, :]
        else:
            d.grad_qpos[e, dof] = d.grad_qpos[e, dof] - x_bar * J[0, :]
    else:
        d.grad_qpos[e, dof] = d.grad_qpos[e, dof] - x_bar * J[0, :]


@procedure
def contact(m: ti.template(), d: ti.template(), e, c):
    """Of contact c: the gradient of nu . f at its point."""
    n, p, x = d.constraint.n[e, c], d.constraint.p[e, c], d.constraint.depth[e, c]
    mass, mass_slope, _push, push_slope = virtual_mass(m.constraint.contacts, c, ti.max(x, 0.0), cone.weight(m, e, c))
    v, vw = touch.relative(m, d, e, c, p, d.vw, d.vl)
    a, aw = touch.relative(m, d, e, c, p, d.constraint.cw, d.constraint.cl)
    nu, nw = touch.relative(m, d, e, c, p, d.nw, d.nl)
    t1, axis, turns = touch.tangent(m, d, e, c, n)
    t2 = spatial.cross(n, t1)
    b = m.constraint.contacts.damping[c]
    # the force; its gradient in v, over -b, and in a, negative; likewise the angular ones
    f, moment, g, turning_g = p * 0.0, p * 0.0, p * 0.0, p * 0.0
    x_bar = x * 0.0
    at = m.constraint.contacts.most * c
    per_mass = mass_slope / ti.max(mass, 1e-30)
    # H of an elliptic cone, and h' nu
    q, r, slides, per_T, h_nu = x_bar, x_bar, x_bar, x_bar, x_bar
    if ti.static(m.constraint.contacts.elliptic):
        for k in range(m.constraint.contacts.edges[c]):
            y, w = edge(m, e, c, n, t1, t2, k)
            d.constraint.pull[e, cone.place(m, c) + k] = d.constraint.ref[e, at + k] - product(m, y, w, a, aw)
        q, r, slides, per_T = cone.second(m, d, e, c)
        for k in range(1, m.constraint.contacts.edges[c]):
            y, w = edge(m, e, c, n, t1, t2, k)
            h_nu = h_nu + cone.heading(m, d, e, c, k, per_T) * product(m, y, w, nu, nw)
    for k in range(m.constraint.contacts.edges[c]):
        y, w = edge(m, e, c, n, t1, t2, k)
        along_nu = product(m, y, w, nu, nw)
        push, back = x_bar * 0.0, x_bar * 0.0
        if ti.static(m.constraint.contacts.elliptic):
            h = cone.heading(m, d, e, c, k, per_T)
            push = cone.pushed(m, d, e, c, k, q, r, slides, per_T)
            back = cone.product(m, e, c, k, q, r, slides, h, spatial.dot(n, nu), along_nu, h_nu)
            if k == 0:
                x_bar = x_bar + back * push_slope
        else:
            pull = d.constraint.ref[e, at + k] - product(m, y, w, a, aw)
            held = ti.select((x > 0.0) & (pull > 0.0), mass, x * 0.0)
            push, back = held * pull, held * along_nu
            x_bar = x_bar + back * push_slope
        x_bar = x_bar + push * along_nu * per_mass
        if ti.static(m.constraint.contacts.fit and not m.constraint.contacts.elliptic):
            if m.constraint.contacts.edges[c] > 1:
                # by how much friction times its direction would be more
                leg = y - n
                more = push * product(m, leg, w, nu, nw)
                more = more - back * (b * product(m, leg, w, v, vw) + product(m, leg, w, a, aw))
                rough(m, e, c, 1 + k // 2, more / cone.rough(m, e, c, 1 + k // 2))
                mu = cone.rough(m, e, c, 1)
                rough(m, e, c, 1, -push * along_nu * (2.0 / mu + 2.0 * mu / (1.0 + mu * mu)))
        f, g = f + spatial.scale(y, push), g + spatial.scale(y, back)
        if ti.static(m.constraint.contacts.turning):
            moment, turning_g = moment + spatial.scale(w, push), turning_g + spatial.scale(w, back)
    if ti.static(m.constraint.contacts.fit and m.constraint.contacts.elliptic):
        if m.constraint.contacts.edges[c] > 1:
            cone_friction(m, d, e, c, q, r, slides, per_T, h_nu, n, t1, t2, nu, nw)
    v_bar, a_bar = -spatial.scale(g, b), -g
    w_bar, aw_bar = -spatial.scale(turning_g, b), -turning_g
    # of turning the normal and the tangents together
    frame_bar = spatial.cross(f, nu) + spatial.cross(v_bar, v) + spatial.cross(a_bar, a)
    if ti.static(m.constraint.contacts.turning):
        frame_bar = frame_bar + spatial.cross(moment, nw) + spatial.cross(w_bar, vw) + spatial.cross(aw_bar, aw)
        add_moment(d, e, m.constraint.contacts.link[c], moment, w_bar)
        add_spin(d, e, m.constraint.contacts.link[c], aw_bar, d.constraint.cw, d.constraint.yn)
    p_bar = spatial.cross(f, nw) + spatial.cross(v_bar, vw) + spatial.cross(a_bar, aw)
    bend = spatial.scale(t2, spatial.dot(n, frame_bar) * turns)
    carry(m, d, e, c, x, n, p, f, v_bar, x_bar, p_bar, frame_bar, axis, bend)
    add_acceleration(d, e, m.constraint.contacts.link[c], p, a_bar)
    if ti.static(m.constraint.contacts.between > 0):
        if c >= m.constraint.contacts.planes:
            k = c - m.constraint.contacts.planes
            two = m.contact.pairs.link2[k]
            add_acceleration(d, e, two, p - pairs.offset(m, d, e, k), -a_bar)
            if ti.static(m.constraint.contacts.turning):
                add_moment(d, e, two, -moment, -w_bar)
                add_spin(d, e, two, -aw_bar, d.constraint.cw, d.constraint.yn)


@procedure
def carry(m: ti.template(), d: ti.template(), e, c, x, n, p, f, v_bar, x_bar, p_bar, frame_bar, axis, bend):
    """Adds to its links' adjoints those of contact c's force, velocity, violation and point, and of turning its frame.

    Args: of `touch.find` what was found; `bend`, the adjoint of how tangents turn about the normal, with the axis of a
    capsule on a plane.
    """
    if ti.static(m.constraint.contacts.planes > 0):
        if c < m.constraint.contacts.planes:
            # p lies half way between the surfaces
            d_bar = x_bar + 0.5 * spatial.dot(n, p_bar)
            lift = -spatial.scale(n, ti.select(x > 0.0, d_bar, x * 0.0))
            turn = planes.wander(m, d, e, c, n, lift + p_bar)
            turn = turn - spatial.scale(spatial.cross(n, p_bar), 0.5 * (x - m.constraint.contacts.margin[c]))
            turn = turn + spatial.cross(axis, bend)
            add(d, e, m.constraint.contacts.link[c], p, f, v_bar, spatial.cross(p, lift + p_bar) + turn, lift + p_bar)
    if ti.static(m.constraint.contacts.between > 0):
        if c >= m.constraint.contacts.planes:
            k = c - m.constraint.contacts.planes
            n_bar = spatial.cross(frame_bar, n) + bend
            c1, u1, q1, c2, u2, q2, apart = pairs.place(m, d, e, k)
            d_bar = ti.select(x > 0.0, x_bar, x * 0.0)
            pairs.add_both(m, d, e, k, c1, u1, q1, c2, u2, q2, apart, n, p, f, v_bar, d_bar, n_bar, p_bar)


@procedure
def rough(m: ti.template(), e, c, k, bar):
    """Adds the adjoint of friction coefficient k of contact c."""
    at = m.constraint.contacts.dims * c + k
    m.constraint.contacts.grad_rough[e, at] = m.constraint.contacts.grad_rough[e, at] + bar


@procedure
def cone_friction(m: ti.template(), d: ti.template(), e, c, q, r, slides, per_T, h_nu, n, t1, t2, nu, nw):
    """The gradient of nu . f in the friction of an elliptic contact, with H and h' nu of `contact`."""
    nu2 = cone.regularised(m, e, c)
    normal = spatial.dot(n, nu)
    # nu . f of the tangents
    across = q * 0.0
    for k in range(1, m.constraint.contacts.edges[c]):
        y, w = edge(m, e, c, n, t1, t2, k)
        along_nu = product(m, y, w, nu, nw)
        across = across + cone.pushed(m, d, e, c, k, q, r, slides, per_T) * along_nu
        mu, pull = cone.rough(m, e, c, k), d.constraint.pull[e, cone.place(m, c) + k]
        bar = mu * pull * per_T * (q * (normal + h_nu) - r * h_nu)
        rough(m, e, c, k, pull * (bar + 2.0 * r * mu * along_nu))
    total = across + cone.pushed(m, d, e, c, 0, q, r, slides, per_T) * normal
    bar = -ti.select(slides > 0.0, total / (1.0 + nu2), across / nu2)
    rough(m, e, c, 1, bar * 2.0 * nu2 / cone.rough(m, e, c, 1))


@procedure
def add_acceleration(d: ti.template(), e, link, p, a_bar):
    """Adds a_bar, the adjoint of cw, cl's motion at p, to a link's."""
    add_motion(d, e, link, p, a_bar, d.constraint.cw, d.constraint.cl, d.constraint.yn, d.constraint.yf)


@procedure
def project(m: ti.template(), d: ti.template(), e):
    """Sums yn, yf over subtrees and adds what they change with the positions: as `external.adjoint_project`."""
    for step in range(1, m.nlink):
        link = m.nlink - step
        p = m.link_parent[link]
        yn, yf = d.constraint.yn[e, link], d.constraint.yf[e, link]
        cn, cf = spatial.force_cross(d.constraint.cw[e, p], d.constraint.cl[e, p], yn, yf)
        for i in range(m.link_dofadr[link], m.link_dofadr[link] + m.link_dofnum[link]):
            d.grad_qpos[e, i] = d.grad_qpos[e, i] - spatial.dot(d.sw[e, i], cn) - spatial.dot(d.sl[e, i], cf)
        d.constraint.yn[e, p] = d.constraint.yn[e, p] + yn
        d.constraint.yf[e, p] = d.constraint.yf[e, p] + yf
