"""The adjoint of the rows (docs/adjoint.md, "Equalities that close loops").

The two equations of `solve` have the adjoints lam and mu, with the same matrix: R mu = J lam, M lam + J' mu = a_bar. At
fixed a, f, lam and mu the gradient in the state is that of

    f . J lam - mu . (J a + dJ/dt v + b J v + k d r) - mu . R f

J a + dJ/dt v being the difference of two accelerations, as `dynamics` has them with their adjoints.
"""

from taichi_sim import spatial
from taichi_sim.bodies import external
from taichi_sim.bodies.external import add, add_moment
from taichi_sim.loops import rows, solve
from taichi_sim.muscles import tendon
from taichi_sim.runtime import procedure, ti


@procedure
def correct(m: ti.template(), d: ti.template(), e):
    """lam without the rows -> with them; loops.mu = -mu."""
    solve.complement(m, d, e)
    for r in range(m.loops.rows):
        d.loops.mu[e, r] = d.lam[e, 0] * 0.0
    solve.correct(m, d, e, d.lam, d.loops.mu)


@procedure
def forces(m: ti.template(), d: ti.template(), e):
    """Adds the gradient of above, of rows between bodies, to the links' adjoints."""
    for c in range(m.loops.bodies.number):
        between(m, d, e, c)


@procedure
def scalar_forces(m: ti.template(), d: ti.template(), e):
    """Adds that of the other rows to grad_qpos and grad_qvel, or to the tendons'."""
    for s in range(m.loops.scalar.number):
        scalar(m, d, e, s)


@ti.func
def weight_of_pos(m: ti.template(), d: ti.template(), e, c):
    """Two factors: the adjoint of a row's pos is the first times its mu, plus the second times its pos."""
    impedance = d.loops.impedance[e, c]
    y = impedance * 0.0
    for r in range(m.loops.row[c], m.loops.row[c + 1]):
        mu = d.loops.mu[e, r]
        y = y + m.loops.stiffness[c] * mu * d.loops.pos[e, r]
        y = y - mu * d.loops.force[e, r] * m.loops.weight[r] / (impedance * impedance)
    return m.loops.stiffness[c] * impedance, y * d.loops.slope[e, c]


@procedure
def between(m: ti.template(), d: ti.template(), e, c):
    """Of an equality between bodies."""
    one, two = m.loops.bodies.link1[c], m.loops.bodies.link2[c]
    p1, p2, r = rows.ends(m, d, e, c)
    row = m.loops.row[c]
    own, common = weight_of_pos(m, d, e, c)
    f, a_bar = spatial.load_vec3(d.loops.force, e, row), spatial.load_vec3(d.loops.mu, e, row)
    v_bar = spatial.scale(a_bar, m.loops.damping[c])
    r_bar = spatial.scale(a_bar, own) + spatial.scale(r, common)
    end(d, e, one, p1, f, v_bar, a_bar, r_bar)
    end(d, e, two, p2, -f, -v_bar, -a_bar, -r_bar)
    if ti.static(m.loops.rotations):
        if m.loops.row[c + 1] - row > 3:
            rotations(m, d, e, c, own, common)


@procedure
def end(d: ti.template(), e, link, p, f, v_bar, a_bar, r_bar):
    """One anchor, which the link carries along: what multiplies its velocities of lam and v, acceleration and place."""
    w = d.vw[e, link]
    p_bar = spatial.cross(f, d.nw[e, link]) + spatial.cross(v_bar, w) + r_bar
    p_bar = p_bar + spatial.cross(a_bar, d.aw[e, link]) + spatial.cross(spatial.cross(a_bar, w), w)
    add(d, e, link, p, f, v_bar, spatial.cross(p, p_bar), p_bar)
    # of w x (v + w x p)
    of_v = spatial.cross(a_bar, w)
    of_w = spatial.cross(external.particle(w, d.vl[e, link], p), a_bar) + spatial.cross(p, of_v)
    accelerated(d, e, link, spatial.cross(p, a_bar), a_bar, of_w, of_v)


@procedure
def accelerated(d: ti.template(), e, link, an, af, vn, vf):
    """Adds the adjoints (an, af) of a link's spatial acceleration and (vn, vf) of its velocity, in world axes."""
    # `dynamics` subtracts them
    n, f = spatial.force_cross(d.vw[e, link], d.vl[e, link], an, af)
    d.an[e, link] = d.an[e, link] - an
    d.af[e, link] = d.af[e, link] - af
    d.wn[e, link] = d.wn[e, link] - vn - n
    d.wf[e, link] = d.wf[e, link] - vf - f
    n, f = spatial.force_cross(d.aw[e, link], d.al[e, link], an, af)
    gn, gf = spatial.force_cross(d.vw[e, link], d.vl[e, link], vn, vf)
    d.gn[e, link] = d.gn[e, link] + n + gn
    d.gf[e, link] = d.gf[e, link] + f + gf


@procedure
def rotations(m: ti.template(), d: ti.template(), e, c, own, common):
    """The last three rows of a weld. They are half the vector parts of conj(q2) x q1, x a motion of q1 seen from q2."""
    one, two = m.loops.bodies.link1[c], m.loops.bodies.link2[c]
    row, scale = m.loops.row[c] + 3, m.loops.bodies.scale[c]
    q1, q2 = rows.turns(m, d, e, c)
    mu = spatial.load_vec3(d.loops.mu, e, row)
    gap_bar = spatial.scale(mu, own) + spatial.scale(spatial.load_vec3(d.loops.pos, e, row), common)
    # the product of that with a vector y is the product of x with q2 y conj(q1)
    f = outward(q1, q2, spatial.scale(spatial.load_vec3(d.loops.force, e, row), scale))
    a = outward(q1, q2, spatial.scale(mu, scale))
    v = outward(q1, q2, spatial.scale(mu, scale * m.loops.damping[c]))
    gap = outward(q1, q2, spatial.scale(gap_bar, scale))
    w1, w2 = d.vw[e, one], d.vw[e, two]
    w, zero = w1 - w2, w1 * 0.0
    moment, now, ahead = spatial.quat_vec(f), spatial.quat_vec(v), spatial.quat_vec(a)
    add_moment(d, e, one, moment, now)
    add_moment(d, e, two, -moment, -now)
    of_w1 = spatial.cross(w2, ahead) - spatial.scale(w, a[0, :])
    of_w2 = spatial.cross(ahead, w1) + spatial.scale(w, a[0, :])
    accelerated(d, e, one, ahead, zero, of_w1, zero)
    accelerated(d, e, two, -ahead, zero, of_w2, zero)
    # turning q1 or q2 itself
    x = spatial.quat_conj(spatial.pure_quat(d.nw[e, one] - d.nw[e, two]))
    y = spatial.quat_conj(spatial.pure_quat(w))
    z = spatial.quat_conj(rows.spin(w1, w2, d.aw[e, one] - d.aw[e, two]))
    u1 = spatial.quat_mul(x, f) + spatial.quat_mul(y, v) + spatial.quat_mul(z, a)
    u2 = spatial.quat_mul(f, x) + spatial.quat_mul(v, y) + spatial.quat_mul(a, z)
    d.gn[e, one] = d.gn[e, one] + spatial.quat_vec(gap) + 0.5 * spatial.quat_vec(u1)
    d.gn[e, two] = d.gn[e, two] - spatial.quat_vec(gap) - 0.5 * spatial.quat_vec(u2)


@ti.func
def outward(q1, q2, y):
    """Half of q2 y conj(q1), for a vector y."""
    return 0.5 * spatial.quat_mul(spatial.quat_mul(q2, spatial.pure_quat(y)), spatial.quat_conj(q1))


@procedure
def scalar(m: ti.template(), d: ti.template(), e, s):
    """Of an equality between joints or tendons."""
    c = m.loops.bodies.number + s
    row, first = m.loops.row[c], m.loops.col[c]
    split = first + m.loops.scalar.split[s]
    own, common = weight_of_pos(m, d, e, c)
    f, mu, b = d.loops.force[e, row], d.loops.mu[e, row], m.loops.damping[c]
    r_bar = own * mu + common * d.loops.pos[e, row]
    _, p1, p2 = rows.follow(m, d, e, s)
    # what p' is multiplied by
    y = r_bar * 0.0
    for k in range(split, m.loops.col[c + 1]):
        i = m.loops.dof[k]
        y = y + rows.along(m, d, e, k) * (f * d.lam[e, i] + mu * (d.qacc[e, i] + b * d.qvel[e, i]))
    of_one, of_two = r_bar, -p1 * r_bar - p2 * y
    if m.loops.scalar.is_tendon[s] == 0:
        i = m.loops.dof[first]
        d.grad_qpos[e, i] = d.grad_qpos[e, i] + of_one
        d.grad_qvel[e, i] = d.grad_qvel[e, i] + b * mu
        if m.loops.scalar.two[s] >= 0:
            i = m.loops.dof[split]
            d.grad_qpos[e, i] = d.grad_qpos[e, i] + of_two
            d.grad_qvel[e, i] = d.grad_qvel[e, i] - p1 * b * mu
    if ti.static(m.loops.tendons):
        if m.loops.scalar.is_tendon[s] == 1:
            tendon.add_row(d, e, m.loops.scalar.one[s], of_one, f, b * mu, mu)
            if m.loops.scalar.two[s] >= 0:
                tendon.add_row(d, e, m.loops.scalar.two[s], of_two, -p1 * f, -p1 * b * mu, -p1 * mu)
