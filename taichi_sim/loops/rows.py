"""Equalities as rows: how far they are from being met, their Jacobian and their impedance, as MuJoCo has them.

| equality | rows |
|---|---|
| connect | p1 - p2, the two anchors in world axes |
| weld | the same, and torquescale times the vector part of conj(q2) q1 |
| joint, tendon | x1 - p(x2), x the displacement from its reference and p a polynomial |

Source: MuJoCo's documentation, "Computation: Constraint model". Of equalities between bodies `drift` has what
dJ/dt qvel adds to the rows' acceleration; of the others that is left out, as in MuJoCo 4.
"""

from taichi_sim import spatial
from taichi_sim.constraint.impedance import impedance
from taichi_sim.lanes.vectors import stack
from taichi_sim.runtime import procedure, ti


@procedure
def assemble(m: ti.template(), d: ti.template(), e):
    """Poses, and lengths of tendons -> loops.pos, J, impedance, slope and inverse."""
    if ti.static(m.loops.bodies.number > 0):
        for c in range(m.loops.bodies.number):
            between(m, d, e, c)
    if ti.static(m.loops.scalar.number > 0):
        for s in range(m.loops.scalar.number):
            scalar(m, d, e, s)
    for c in range(m.loops.number):
        impedances(m, d, e, c)


@ti.func
def ends(m: ti.template(), d: ti.template(), e, c):
    """The anchors of equality c relative to the origins of their trees, and the vector from the second to the first."""
    one, two = m.loops.bodies.link1[c], m.loops.bodies.link2[c]
    p1 = d.xp[e, one] + spatial.rotate(d.xq[e, one], m.loops.bodies.pos1[c])
    p2 = d.xp[e, two] + spatial.rotate(d.xq[e, two], m.loops.bodies.pos2[c])
    return p1, p2, p1 - p2 + (d.origin[e, m.link_tree[one]] - d.origin[e, m.link_tree[two]])


@ti.func
def turns(m: ti.template(), d: ti.template(), e, c):
    """The orientations that equality c wants to be one."""
    q1 = spatial.quat_mul(d.xq[e, m.loops.bodies.link1[c]], m.loops.bodies.quat1[c])
    return q1, spatial.quat_mul(d.xq[e, m.loops.bodies.link2[c]], m.loops.bodies.quat2[c])


@procedure
def between(m: ti.template(), d: ti.template(), e, c):
    """Rows of an equality between bodies."""
    row, at, number = m.loops.row[c], m.loops.entry[c], m.loops.num[c]
    p1, p2, r = ends(m, d, e, c)
    for k in ti.static(range(3)):
        d.loops.pos[e, row + k] = r[k, :]
    for j in range(number):
        i = m.loops.dof[m.loops.col[c] + j]
        on1, on2 = m.loops.on1[m.loops.col[c] + j], m.loops.on2[m.loops.col[c] + j]
        w = d.sw[e, i]
        # velocities of the two anchors, v + w x p
        arm = spatial.scale(p1, on1) - spatial.scale(p2, on2)
        y = spatial.scale(d.sl[e, i], on1 - on2) + spatial.cross(w, arm)
        for k in ti.static(range(3)):
            d.loops.J[e, at + k * number + j] = y[k, :]
    if ti.static(m.loops.rotations):
        if m.loops.row[c + 1] - row > 3:
            scale = m.loops.bodies.scale[c]
            q1, q2 = turns(m, d, e, c)
            back = spatial.quat_conj(q2)
            gap = spatial.quat_mul(back, q1)
            for k in ti.static(range(3)):
                d.loops.pos[e, row + 3 + k] = scale * gap[k + 1, :]
            for j in range(number):
                i = m.loops.dof[m.loops.col[c] + j]
                on = 0.5 * scale * (m.loops.on1[m.loops.col[c] + j] - m.loops.on2[m.loops.col[c] + j])
                y = spatial.quat_mul(spatial.quat_mul(back, spatial.pure_quat(d.sw[e, i])), q1)
                for k in ti.static(range(3)):
                    d.loops.J[e, at + (3 + k) * number + j] = on * y[k + 1, :]


@ti.func
def classical(w, v, aw, al, p):
    """Acceleration at p of what moves with the spatial velocity (w, v) and acceleration (aw, al)."""
    return al + spatial.cross(aw, p) + spatial.cross(w, v + spatial.cross(w, p))


@ti.func
def spin(w1, w2, alpha):
    """Of two orientations with q1' = w1 q1 / 2, alpha their w1' - w2': twice what stands between conj(q2) and q1 in
    the second derivative of conj(q2) q1."""
    w = w1 - w2
    twist = alpha + spatial.cross(w1, w2)
    return stack([-0.5 * spatial.dot(w, w), twist[0, :], twist[1, :], twist[2, :]])


@procedure
def drift(m: ti.template(), d: ti.template(), e, y: ti.template()):
    """vw, vl, aw, al -> y = the second derivative of pos, of rows between bodies; dJ/dt qvel if aw, al lack qacc."""
    for c in range(m.loops.bodies.number):
        one, two = m.loops.bodies.link1[c], m.loops.bodies.link2[c]
        row = m.loops.row[c]
        p1, p2, _ = ends(m, d, e, c)
        a = classical(d.vw[e, one], d.vl[e, one], d.aw[e, one], d.al[e, one], p1)
        a = a - classical(d.vw[e, two], d.vl[e, two], d.aw[e, two], d.al[e, two], p2)
        for k in ti.static(range(3)):
            y[e, row + k] = a[k, :]
        if ti.static(m.loops.rotations):
            if m.loops.row[c + 1] - row > 3:
                q1, q2 = turns(m, d, e, c)
                p = spin(d.vw[e, one], d.vw[e, two], d.aw[e, one] - d.aw[e, two])
                p = spatial.quat_mul(spatial.quat_mul(spatial.quat_conj(q2), p), q1)
                for k in ti.static(range(3)):
                    y[e, row + 3 + k] = 0.5 * m.loops.bodies.scale[c] * p[k + 1, :]


@ti.func
def displacement(m: ti.template(), d: ti.template(), e, is_tendon, i, reference):
    """Of the tendon i, or of the joint with the place i in qpos; 0 if i is negative."""
    x = reference * 0.0
    if i >= 0:
        if is_tendon == 0:
            x = d.qpos[e, i] - reference
        if ti.static(m.loops.tendons):
            if is_tendon == 1:
                x = d.tendon.length[e, i] - reference
    return x


@ti.func
def follow(m: ti.template(), d: ti.template(), e, s):
    """p(x2), p', p'' of scalar equality s."""
    c = m.loops.scalar.poly[s]
    x = displacement(m, d, e, m.loops.scalar.is_tendon[s], m.loops.scalar.two[s], m.loops.scalar.ref2[s])
    p = c[0, :] + x * (c[1, :] + x * (c[2, :] + x * (c[3, :] + x * c[4, :])))
    p1 = c[1, :] + x * (2.0 * c[2, :] + x * (3.0 * c[3, :] + x * (4.0 * c[4, :])))
    p2 = 2.0 * c[2, :] + x * (6.0 * c[3, :] + x * (12.0 * c[4, :]))
    return p, p1, p2


@ti.func
def along(m: ti.template(), d: ti.template(), e, k):
    """How dof `loops.dof[k]` changes its joint or tendon."""
    y = m.loops.on1[k]
    if ti.static(m.loops.tendons):
        if m.loops.source[k] >= 0:
            y = d.tendon.J[e, m.loops.source[k]]
    return y


@procedure
def scalar(m: ti.template(), d: ti.template(), e, s):
    """The row of an equality between joints or tendons."""
    c = m.loops.bodies.number + s
    p, p1, _ = follow(m, d, e, s)
    x = displacement(m, d, e, m.loops.scalar.is_tendon[s], m.loops.scalar.one[s], m.loops.scalar.ref1[s])
    d.loops.pos[e, m.loops.row[c]] = x - p
    for j in range(m.loops.num[c]):
        y = along(m, d, e, m.loops.col[c] + j)
        if j >= m.loops.scalar.split[s]:
            y = -p1 * y
        d.loops.J[e, m.loops.entry[c] + j] = y


@procedure
def impedances(m: ti.template(), d: ti.template(), e, c):
    """loops.pos -> impedance, slope and inverse = (1 - d)/d times the inverse inertia."""
    norm2 = d.loops.pos[e, m.loops.row[c]] * 0.0
    for r in range(m.loops.row[c], m.loops.row[c + 1]):
        norm2 = norm2 + d.loops.pos[e, r] * d.loops.pos[e, r]
    norm = ti.sqrt(norm2)
    d_row, slope = impedance(m.loops.solimp, c, norm)
    d.loops.impedance[e, c] = d_row
    d.loops.slope[e, c] = slope / ti.max(norm, 1e-15)
    for r in range(m.loops.row[c], m.loops.row[c + 1]):
        d.loops.inverse[e, r] = ti.max((1.0 - d_row) / d_row * m.loops.weight[r], 1e-15)
