"""Tendons: lengths, their gradient J in the dofs, springs, dampers, friction, limits; their adjoint (docs/adjoint.md).

A tendon whose force along its length is f moves the joints by J' f, whatever its path. Its velocity-dependent part
is taken at v + theta h a with the coefficient frozen, hence h theta c J' J in the matrix that the step factors.
"""

from taichi_sim import spatial
from taichi_sim.bodies import external
from taichi_sim.bodies.friction import coefficients
from taichi_sim.bodies.passive import stop_damping
from taichi_sim.muscles import crank, wrap
from taichi_sim.muscles.pieces import add_end, add_terms, motion, origin_between, point
from taichi_sim.runtime import procedure, ti

# Violation [m] at which a limit's damper is fully on.
LIMIT_RAMP = 0.001

# Length [m] below which a straight piece is rounded off, in bodies whose muscles are not MuJoCo's: it ends up 3/8 of
# this long where its ends meet. Otherwise the direction of its pull would jump there, and gradients with it.
ROUND = 2e-3
# Length [m] below which another one has no direction and pulls on nothing: single precision could not tell it.
_SHORT = 1e-6


@ti.func
def straight(m: ti.template(), d: ti.template(), e, k):
    """Straight piece k: its ends, relative to their trees' origins, the way r between them, and `chord` of it."""
    link1 = m.tendon.straight.link1[k]
    link2 = m.tendon.straight.link2[k]
    p1 = point(d, e, link1, m.tendon.straight.pos1[k])
    p2 = point(d, e, link2, m.tendon.straight.pos2[k])
    r = p2 - p1 + origin_between(m, d, e, link1, link2)
    length, slope, bend = chord(m.tendon.rounded, spatial.dot(r, r))
    return p1, p2, r, length, slope, bend


@ti.func
def chord(rounded: ti.template(), square):
    """Length L of a straight piece by the square of its ends' distance rho, k = L' / rho, and -k' / rho.

    L is rho, but if it is rounded only from ROUND up. Below that it is the polynomial in rho^2 that meets that line
    with its slope and curvature.
    """
    rho = ti.sqrt(square)
    length, slope, bend = rho, rho * 0.0, rho * 0.0
    if ti.static(rounded):
        size = ti.max(rho, ROUND)
        inverse = 1.0 / size
        share = square * inverse * inverse
        length = 0.125 * size * (3.0 + share * (6.0 - share))
        slope = 0.5 * inverse * (3.0 - share)
        bend = inverse * inverse * inverse
    else:
        slope = ti.select(rho > _SHORT, 1.0 / ti.max(rho, _SHORT), rho * 0.0)
        bend = slope * slope * slope
    return length, slope, bend


@ti.func
def wrapped(m: ti.template(), d: ti.template(), e, k):
    """Ends of wrapped piece k in the frame of its geom, that frame's place relative to its tree's origin and axes."""
    link = m.tendon.wrapped.link[k]
    q = spatial.quat_mul(d.xq[e, link], m.tendon.wrapped.quat[k])
    x = point(d, e, link, m.tendon.wrapped.pos[k])
    p1 = point(d, e, m.tendon.wrapped.link1[k], m.tendon.wrapped.pos1[k]) + origin_between(
        m, d, e, link, m.tendon.wrapped.link1[k]
    )
    p2 = point(d, e, m.tendon.wrapped.link2[k], m.tendon.wrapped.pos2[k]) + origin_between(
        m, d, e, link, m.tendon.wrapped.link2[k]
    )
    return spatial.rotate_inv(q, p1 - x), spatial.rotate_inv(q, p2 - x), x, q


@ti.func
def side_site(m: ti.template(), d: ti.template(), e, k, x, q):
    """Side site of wrapped piece k in the frame (x, q) of its geom."""
    side = m.tendon.wrapped.side[k]
    if ti.static(m.tendon.side_apart):
        link = m.tendon.wrapped.side_link[k]
        if link >= 0:
            p = point(d, e, link, side) + origin_between(m, d, e, m.tendon.wrapped.link[k], link)
            side = spatial.rotate_inv(q, p - x)
    return side


@ti.func
def wrap_path(m: ti.template(), k, r1, r2, side):
    """Length of wrapped piece k and its gradients in the ends."""
    # plain numbers, as all lanes have the same
    kind, radius, sided = m.tendon.wrapped.kind[k], m.tendon.wrapped.radius[k][0], m.tendon.wrapped.sided[k]
    _, length, g1, g2 = wrap.path(kind, r1, r2, radius, side, sided)
    if ti.static(m.tendon.side_apart):
        if m.tendon.wrapped.side_link[k] >= 0:
            _, within, h1, h2 = wrap.path(kind + wrap.INSIDE, r1, r2, radius, side, sided)
            inside = spatial.dot(side, side) < radius * radius
            length, g1, g2 = (
                ti.select(inside, within, length),
                spatial.pick(inside, h1, g1),
                spatial.pick(inside, h2, g2),
            )
    return length, g1, g2


@ti.func
def wrap_curvature(m: ti.template(), k, r1, r2, side, d1, d2):
    """The Hessian of that length times (d1, d2). Where the side site is decides between paths, and has no slope."""
    kind, radius, sided = m.tendon.wrapped.kind[k], m.tendon.wrapped.radius[k][0], m.tendon.wrapped.sided[k]
    e1, e2 = wrap.curvature(kind, r1, r2, radius, side, sided, d1, d2)
    if ti.static(m.tendon.side_apart):
        if m.tendon.wrapped.side_link[k] >= 0:
            h1, h2 = wrap.curvature(kind + wrap.INSIDE, r1, r2, radius, side, sided, d1, d2)
            inside = spatial.dot(side, side) < radius * radius
            e1, e2 = spatial.pick(inside, h1, e1), spatial.pick(inside, h2, e2)
    return e1, e2


@procedure
def rate(m: ti.template(), d: ti.template(), e, x: ti.template(), out: ti.template()):
    """out = J x for every tendon."""
    for t in range(m.tendon.number):
        out[e, t] = stretch(m, d, e, t, x)


@ti.func
def stretch(m: ti.template(), d: ti.template(), e, t, x: ti.template()):
    """J x of tendon t."""
    s = d.tendon.length[e, t] * 0.0
    for k in range(m.tendon.adr[t], m.tendon.adr[t + 1]):
        s = s + d.tendon.J[e, k] * x[e, m.tendon.dof[k]]
    return s


@procedure
def lengths(m: ti.template(), d: ti.template(), e):
    """Poses and qvel -> length, J and velocity."""
    for t in range(m.tendon.number):
        d.tendon.length[e, t] = m.tendon.length0[t]
    for k in range(m.tendon.njacobian):
        d.tendon.J[e, k] = m.tendon.jacobian0[k]
    for k in range(m.tendon.njoint):
        t = m.tendon.joint_tendon[k]
        d.tendon.length[e, t] = d.tendon.length[e, t] + m.tendon.joint_coef[k] * d.qpos[e, m.tendon.joint_qposadr[k]]
    if ti.static(m.tendon.straight.number > 0):
        for k in range(m.tendon.straight.number):
            p1, p2, r, length, slope, _bend = straight(m, d, e, k)
            share = m.tendon.straight.share[k]
            t = m.tendon.straight.tendon[k]
            d.tendon.length[e, t] = d.tendon.length[e, t] + share * length
            f = spatial.scale(r, share * slope)
            n1 = -spatial.cross(p1, f)
            n2 = spatial.cross(p2, f)
            add_terms(m, d, e, m.tendon.straight.term_adr[k], m.tendon.straight.term_end[k], n1, -f, n2, f, n2, f)
    if ti.static(m.tendon.wrapped.number > 0):
        for k in range(m.tendon.wrapped.number):
            r1, r2, x, q = wrapped(m, d, e, k)
            length, g1, g2 = wrap_path(m, k, r1, r2, side_site(m, d, e, k, x, q))
            share = m.tendon.wrapped.share[k]
            t = m.tendon.wrapped.tendon[k]
            d.tendon.length[e, t] = d.tendon.length[e, t] + share * length
            f1 = spatial.scale(spatial.rotate(q, g1), share)
            f2 = spatial.scale(spatial.rotate(q, g2), share)
            p1 = x + spatial.rotate(q, r1)
            p2 = x + spatial.rotate(q, r2)
            n3 = -spatial.cross(p1, f1) - spatial.cross(p2, f2)
            p1 = p1 - origin_between(m, d, e, m.tendon.wrapped.link[k], m.tendon.wrapped.link1[k])
            p2 = p2 - origin_between(m, d, e, m.tendon.wrapped.link[k], m.tendon.wrapped.link2[k])
            n1 = spatial.cross(p1, f1)
            n2 = spatial.cross(p2, f2)
            add_terms(m, d, e, m.tendon.wrapped.term_adr[k], m.tendon.wrapped.term_end[k], n1, f1, n2, f2, n3, -f1 - f2)
    if ti.static(m.tendon.crank.number > 0):
        crank.lengths(m, d, e)
    rate(m, d, e, d.qvel, d.tendon.velocity)


@procedure
def pull(m: ti.template(), d: ti.template(), e, t, force, out: ti.template()):
    """out += J' force."""
    for k in range(m.tendon.adr[t], m.tendon.adr[t + 1]):
        i = m.tendon.dof[k]
        out[e, i] = out[e, i] + d.tendon.J[e, k] * force


@ti.func
def spring(m: ti.template(), d: ti.template(), e, t):
    """Force of tendon t's spring [N] and its derivative in the length."""
    length = d.tendon.length[e, t]
    low = ti.max(m.tendon.slack_lo[t] - length, 0.0)
    high = ti.max(length - m.tendon.slack_hi[t], 0.0)
    # most springs have one length at rest, in which bodies begin: there the slope is as on both sides
    slack = (length > m.tendon.slack_lo[t]) & (length < m.tendon.slack_hi[t])
    k = m.tendon.stiffness[t]
    return k * (low - high), -k * ti.select(slack, length * 0.0, length * 0.0 + 1.0)


@ti.func
def limit(m: ti.template(), d: ti.template(), e, t):
    """Force of tendon t's limit [N], its damping c, the derivatives of both in the length, and dc/d(velocity)."""
    length = d.tendon.length[e, t]
    ke = m.tendon.limit_ke[t]
    kd = m.tendon.limit_kd[t]
    low = ti.max(m.tendon.limit_lo[t] - length, 0.0)
    high = ti.max(length - m.tendon.limit_hi[t], 0.0)
    depth = low + high
    side = ti.select(high > 0.0, length * 0.0 + 1.0, ti.select(low > 0.0, length * 0.0 - 1.0, length * 0.0))
    v, loss = d.tendon.velocity[e, t], m.tendon.limit_loss[t]
    c, c_depth, fall = stop_damping(m.tendon.limit_lossy, LIMIT_RAMP, ke, kd, loss, depth, v * v)
    return ke * (low - high), c, -ke * side * side, side * c_depth, -fall * v


@ti.func
def friction(m: ti.template(), d: ti.template(), e, t, h_theta):
    """`friction.coefficients` of tendon t."""
    loss, kf, velocity = m.tendon.frictionloss[t], m.tendon.friction_kf[t], d.tendon.velocity[e, t]
    return coefficients(loss, kf, m.tendon.friction_per_kf[t], m.tendon.friction_per_mass[t], h_theta, velocity)


@procedure
def forces(m: ti.template(), d: ti.template(), e, h_theta):
    """Springs', dampers', friction's and limits' forces on the joints; begins implicit with them, and clears force."""
    for t in range(m.tendon.number):
        zero = d.tendon.length[e, t] * 0.0
        d.tendon.force[e, t] = zero
        d.tendon.implicit[e, t] = zero
        if ti.static(m.tendon.passive):
            f, _ = spring(m, d, e, t)
            pull(m, d, e, t, f - m.tendon.damping[t] * d.tendon.velocity[e, t], d.qfrc_passive)
            d.tendon.implicit[e, t] = d.tendon.implicit[e, t] + m.tendon.damping[t]
        if ti.static(m.tendon.friction):
            s, c, _c_v, _s_loss, _c_loss = friction(m, d, e, t, h_theta)
            pull(m, d, e, t, -s * d.tendon.velocity[e, t], d.qfrc_friction)
            d.tendon.implicit[e, t] = d.tendon.implicit[e, t] + c
        if ti.static(m.tendon.limit):
            f, c, _f_l, _c_l, _c_v = limit(m, d, e, t)
            pull(m, d, e, t, f - c * d.tendon.velocity[e, t], d.qfrc_limit)
            d.tendon.implicit[e, t] = d.tendon.implicit[e, t] + c


@procedure
def actuate(m: ti.template(), d: ti.template(), e):
    """force, the actuators' forces, to the actuators' qfrc."""
    for t in range(m.tendon.number):
        pull(m, d, e, t, d.tendon.force[e, t], d.actuator.qfrc)


@procedure
def implicit(m: ti.template(), d: ti.template(), e, h_theta):
    """qM += h_theta J' implicit J."""
    for t in range(m.tendon.number):
        add_mass(m, d, e, t, h_theta * d.tendon.implicit[e, t])


@procedure
def add_mass(m: ti.template(), d: ti.template(), e, t, mass):
    """qM += mass J'J of tendon t."""
    for k in range(m.tendon.pair_adr[t], m.tendon.pair_adr[t + 1]):
        i = m.tendon.pair_target[k]
        x = mass * d.tendon.J[e, m.tendon.pair_entry1[k]] * d.tendon.J[e, m.tendon.pair_entry2[k]]
        d.qM[e, i] = d.qM[e, i] + x


@procedure
def damp(m: ti.template(), d: ti.template(), e, h):
    """The part of fixed tendons in what `implicit.begin` finds."""
    for n in range(m.tendon.damped.number):
        i, j = m.tendon.damped.dof1[n], m.tendon.damped.dof2[n]
        c = h * d.tendon.implicit[e, m.tendon.damped.tendon[n]] * m.tendon.damped.weight[n]
        d.damped_by[e, m.nv + n] = c
        d.qM[e, m.tendon.damped.target[n]] = d.qM[e, m.tendon.damped.target[n]] + c
        d.damped[e, i] = d.damped[e, i] + c * d.qacc[e, j]
        if i != j:
            d.damped[e, j] = d.damped[e, j] + c * d.qacc[e, i]


@procedure
def adjoint_damp(m: ti.template(), d: ti.template(), e):
    """The part of fixed tendons in `implicit.adjoint`."""
    for n in range(m.tendon.damped.number):
        i, j, c = m.tendon.damped.dof1[n], m.tendon.damped.dof2[n], d.damped_by[e, m.nv + n]
        d.lam[e, i] = d.lam[e, i] - c * d.mu[e, j]
        if i != j:
            d.lam[e, j] = d.lam[e, j] - c * d.mu[e, i]


@procedure
def adjoint_forces(m: ti.template(), d: ti.template(), e, h_theta):
    """Clears the tendons' adjoints and begins them with passive forces and limits; force sums their forces."""
    rate(m, d, e, d.lam, d.tendon.lam)
    rate(m, d, e, d.qacc, d.tendon.ahead)
    for t in range(m.tendon.number):
        ahead = d.tendon.velocity[e, t] + h_theta * d.tendon.ahead[e, t]
        lam = d.tendon.lam[e, t]
        zero = ahead * 0.0
        force = zero
        length_bar = zero
        velocity_bar = zero
        ahead_bar = zero
        if ti.static(m.tendon.passive):
            f, slope = spring(m, d, e, t)
            force = force + f - m.tendon.damping[t] * ahead
            length_bar = length_bar + lam * slope
            ahead_bar = ahead_bar - lam * m.tendon.damping[t]
        if ti.static(m.tendon.friction):
            s, c, c_v, s_loss, _c_loss = friction(m, d, e, t, h_theta)
            v = d.tendon.velocity[e, t]
            force = force - s * v - c * (ahead - v)
            velocity_bar = velocity_bar - lam * (s - s_loss * ti.abs(v) * s + c_v * (ahead - v) - c)
            ahead_bar = ahead_bar - lam * c
        if ti.static(m.tendon.limit):
            f, c, slope, c_l, c_v = limit(m, d, e, t)
            force = force + f - c * ahead
            length_bar = length_bar + lam * (slope - c_l * ahead)
            velocity_bar = velocity_bar - lam * c_v * ahead
            ahead_bar = ahead_bar - lam * c
        d.tendon.ahead[e, t] = ahead
        d.tendon.force[e, t] = force
        d.tendon.length_bar[e, t] = length_bar
        d.tendon.velocity_bar[e, t] = velocity_bar
        d.tendon.ahead_bar[e, t] = ahead_bar


@procedure
def begin_rows(m: ti.template(), d: ti.template(), e):
    """Adjoints of nothing yet, for rows' (`add_row`); then `adjoint_lengths`. J a is J v' - J v, v' = v + a."""
    external.ahead(m, d, e, 1.0)
    for t in range(m.tendon.number):
        zero = d.tendon.length[e, t] * 0.0
        d.tendon.force[e, t] = zero
        d.tendon.length_bar[e, t] = zero
        d.tendon.velocity_bar[e, t] = zero
        d.tendon.ahead_bar[e, t] = zero


@procedure
def add_row(d: ti.template(), e, t, length_bar, f, v_bar, a_bar):
    """Adds a row's part of tendon t's adjoints: of its length, and that of f J lam + v_bar J v + a_bar J a."""
    d.tendon.length_bar[e, t] = d.tendon.length_bar[e, t] + length_bar
    d.tendon.force[e, t] = d.tendon.force[e, t] + f
    d.tendon.velocity_bar[e, t] = d.tendon.velocity_bar[e, t] + v_bar - a_bar
    d.tendon.ahead_bar[e, t] = d.tendon.ahead_bar[e, t] + a_bar


@procedure
def adjoint_lengths(m: ti.template(), d: ti.template(), e):
    """lam' d(J' f)/d(q, v) of fixed tendons to grad_qpos and grad_qvel, of paths to links (`external`)."""
    for k in range(m.tendon.njoint):
        t = m.tendon.joint_tendon[k]
        i = m.tendon.joint_dof[k]
        c = m.tendon.joint_coef[k]
        d.grad_qpos[e, i] = d.grad_qpos[e, i] + c * d.tendon.length_bar[e, t]
        d.grad_qvel[e, i] = d.grad_qvel[e, i] + c * (d.tendon.velocity_bar[e, t] + d.tendon.ahead_bar[e, t])
    if ti.static(m.tendon.straight.number > 0):
        for k in range(m.tendon.straight.number):
            t = m.tendon.straight.tendon[k]
            link1 = m.tendon.straight.link1[k]
            link2 = m.tendon.straight.link2[k]
            p1, p2, r, _length, slope, bend = straight(m, d, e, k)
            _w1, z1 = motion(d, e, t, link1, p1)
            _w2, z2 = motion(d, e, t, link2, p2)
            z = z2 - z1
            # d y = d(slope r) . (z2 - z1) = (slope dr - bend (r . dr) r) . z
            g = spatial.scale(z, slope) - spatial.scale(r, bend * spatial.dot(r, z))
            share = m.tendon.straight.share[k]
            f = spatial.scale(r, share * slope)
            g = spatial.scale(g, share) + spatial.scale(f, d.tendon.length_bar[e, t])
            add_end(d, e, t, link1, spatial.cross(p1, -f), -f, spatial.cross(p1, -g) - spatial.cross(z1, f), -g)
            add_end(d, e, t, link2, spatial.cross(p2, f), f, spatial.cross(p2, g) + spatial.cross(z2, f), g)
    if ti.static(m.tendon.wrapped.number > 0):
        for k in range(m.tendon.wrapped.number):
            adjoint_wrapped(m, d, e, k)
    if ti.static(m.tendon.crank.number > 0):
        crank.adjoint_lengths(m, d, e)


@procedure
def adjoint_wrapped(m: ti.template(), d: ti.template(), e, k):
    """`adjoint_lengths` of wrapped piece k: its length depends on where its ends are in the frame of its geom."""
    t = m.tendon.wrapped.tendon[k]
    link = m.tendon.wrapped.link[k]
    link1 = m.tendon.wrapped.link1[k]
    link2 = m.tendon.wrapped.link2[k]
    r1, r2, x, q = wrapped(m, d, e, k)
    o1 = origin_between(m, d, e, link, link1)
    o2 = origin_between(m, d, e, link, link2)
    p1 = x + spatial.rotate(q, r1)
    p2 = x + spatial.rotate(q, r2)
    _w1, z1 = motion(d, e, t, link1, p1 - o1)
    _w2, z2 = motion(d, e, t, link2, p2 - o2)
    w, y1 = motion(d, e, t, link, p1)
    _w, y2 = motion(d, e, t, link, p2)
    share = m.tendon.wrapped.share[k]
    side = side_site(m, d, e, k, x, q)
    _length, g1, g2 = wrap_path(m, k, r1, r2, side)
    e1, e2 = wrap_curvature(m, k, r1, r2, side, spatial.rotate_inv(q, z1 - y1), spatial.rotate_inv(q, z2 - y2))
    f1 = spatial.scale(spatial.rotate(q, g1), share)
    f2 = spatial.scale(spatial.rotate(q, g2), share)
    length_bar = d.tendon.length_bar[e, t]
    g1 = spatial.scale(spatial.rotate(q, e1), share) + spatial.cross(w, f1) + spatial.scale(f1, length_bar)
    g2 = spatial.scale(spatial.rotate(q, e2), share) + spatial.cross(w, f2) + spatial.scale(f2, length_bar)
    # the turning of the ends' forces along with the geom, and the geom's share of it all, cancel in the sum
    t1 = spatial.cross(z1, f1)
    t2 = spatial.cross(z2, f2)
    add_end(d, e, t, link1, spatial.cross(p1 - o1, f1), f1, spatial.cross(p1 - o1, g1) + t1, g1)
    add_end(d, e, t, link2, spatial.cross(p2 - o2, f2), f2, spatial.cross(p2 - o2, g2) + t2, g2)
    n = -spatial.cross(p1, f1) - spatial.cross(p2, f2)
    gn = -spatial.cross(p1, g1) - spatial.cross(p2, g2) - t1 - t2
    add_end(d, e, t, link, n, -f1 - f2, gn, -g1 - g2)
