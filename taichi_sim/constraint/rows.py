"""Limits, contacts and dry friction (`dry`) by MuJoCo's law.

Every row pushes with its virtual mass towards its reference acceleration. One with the Jacobian J, the violation x and
the impedance d(x) has the force

    f = mu max(0, a_ref - J a),    mu = d / (1 - d) / weight,    a_ref = -b J v + k d x

and these forces belong to the acceleration a that they make. A contact's rows are the edges of its friction pyramid: n
plus friction times a tangent, or times a rotation about the normal or a tangent, and their opposites; without friction
n alone. Those of an elliptic cone push together (`cone`). With the rows that push known, the step is linear: mu J'J
joins the mass matrix and mu a_ref J' the forces. Which do is found by solving with those of the last substep, looking,
and solving again until none changes (`search`): the problem is convex, so the solution is that of MuJoCo's solver, to
the last digit. In 15,000 states of five bodies that move that took 1 to 7 solutions, mostly 1 or 2; robots that lie in
a heap take up to 20. What a plane holds keeps the tree's sparsity, bodies that touch each other do not (`touch`).

Source: MuJoCo's documentation, "Computation: Constraint model" and "Solver parameters".
"""

from taichi_sim import spatial
from taichi_sim.bodies import damping, dynamics, kinematics
from taichi_sim.constraint import cone, dry, scalar, touch
from taichi_sim.constraint.impedance import impedance
from taichi_sim.contact import record
from taichi_sim.lanes.vectors import greatest, stack
from taichi_sim.runtime import procedure, ti
from taichi_sim.types import JNT_BALL

# Solutions until which the rows that push are sought. Where rounding keeps one on the brink it does not matter which.
MOST_SOLUTIONS = 40


@procedure
def begin(m: ti.template(), d: ti.template(), e):
    """Nothing pushes yet: what a step does must follow from its state alone."""
    for row in range(m.constraint.nrow):
        d.constraint.on[e, row] = d.qvel[e, 0] * 0.0
        # of those that do not touch none is computed
        d.constraint.pull[e, row] = d.qvel[e, 0] * 0.0
    if ti.static(m.constraint.contacts.number > 0):
        for c in range(m.constraint.contacts.number):
            d.constraint.depth[e, c] = d.qvel[e, 0] * 0.0
    if ti.static(m.constraint.contacts.between > 0):
        for i in range(m.nv):
            d.constraint.row[e, i] = d.qvel[e, 0] * 0.0
    if ti.static(m.constraint.dry.number > 0):
        dry.begin(m, d, e)


@procedure
def prepare(m: ti.template(), d: ti.template(), e):
    """Poses and velocities -> the rows. Those that pushed and can no more do not."""
    if ti.static(m.constraint.limits.number > 0):
        for i in range(m.constraint.limits.number):
            limit(m, d, e, i)
    if ti.static(m.constraint.contacts.number > 0):
        for c in range(m.constraint.contacts.number):
            contact(m, d, e, c)


@ti.func
def virtual_mass(t: ti.template(), i, x, weight):
    """mu, its slope in x, and k d x with its slope, of row i of a table at the violation x > 0."""
    share, slope = impedance(t.solimp, i, x)
    free = 1.0 - share
    k = t.stiffness[i]
    return share / (free * weight), slope / (free * free * weight), k * share * x, k * (slope * x + share)


@ti.func
def violation(m: ti.template(), d: ti.template(), e, i):
    """Of limit i: x, negative within the range, J of a ball's dofs or in `scalar.rate`, a ball's rotation vector."""
    q = d.qpos[e, m.constraint.limits.qpos[i]]
    if ti.static(m.constraint.limits.tendons > 0):
        if i >= m.constraint.limits.joints:
            q = d.tendon.length[e, m.constraint.limits.tendon[i]]
    low, high = m.constraint.limits.low[i] - q, q - m.constraint.limits.high[i]
    x = ti.max(low, high)
    side = ti.select(low > high, x * 0.0 + 1.0, x * 0.0 - 1.0)
    J = stack([side, side * 0.0, side * 0.0])
    u = J * 0.0
    if ti.static(m.constraint.limits.ball):
        if m.constraint.limits.kind[i] == JNT_BALL:
            u = spatial.quat_log(spatial.quat_normalize(spatial.load_quat(d.qpos, e, m.constraint.limits.qpos[i])))
            angle = ti.sqrt(spatial.dot(u, u))
            x = angle - m.constraint.limits.high[i]
            J = spatial.scale(u, -1.0 / ti.max(angle, 1e-6))
    return x, J, u


@ti.func
def along(m: ti.template(), d: ti.template(), e, i, J, y: ti.template()):
    """J y of limit i, y a vector of dofs."""
    dof = m.constraint.limits.dof[i]
    s = J[0, :] * scalar.rate(m, d, e, m.constraint.limits, i, y)
    if ti.static(m.constraint.limits.ball):
        if m.constraint.limits.kind[i] == JNT_BALL:
            s = s + J[1, :] * y[e, dof + 1] + J[2, :] * y[e, dof + 2]
    return s


@procedure
def limit(m: ti.template(), d: ti.template(), e, i):
    """The row of limit i."""
    x, J, _u = violation(m, d, e, i)
    beyond = ti.select(x > 0.0, x * 0.0 + 1.0, x * 0.0)
    row = m.constraint.limits.row + i
    d.constraint.on[e, row] = beyond * d.constraint.on[e, row]
    d.constraint.limit_side[e, i] = J
    d.constraint.limit_mass[e, i] = x * 0.0
    if greatest(x) > 0.0:
        mass, _mass_slope, push, _push_slope = virtual_mass(
            m.constraint.limits, i, ti.max(x, 0.0), m.constraint.limits.weight[i]
        )
        d.constraint.limit_mass[e, i] = beyond * mass
        d.constraint.limit_ref[e, i] = push - m.constraint.limits.damping[i] * along(m, d, e, i, J, d.qvel)


@ti.func
def edge(m: ti.template(), e, c, n, t1, t2, k):
    """Edge k of contact c's pyramid, or row k of its cone: its linear part and its angular one, which sliding lacks."""
    y, w = n, n * 0.0
    if ti.static(m.constraint.contacts.elliptic):
        y, w = cone.row(n, t1, t2, k)
    # of a contact without friction there is one
    elif m.constraint.contacts.edges[c] > 1:
        side = 1.0 - 2.0 * (k % 2)
        if k < 4:
            t = t1
            if k > 1:
                t = t2
            y = n + spatial.scale(t, side * cone.rough(m, e, c, 1 + k // 2))
        if ti.static(m.constraint.contacts.turning):
            if k > 5:
                t = t1
                if k > 7:
                    t = t2
                w = spatial.scale(t, side * cone.rough(m, e, c, 1 + k // 2))
            elif k > 3:
                w = spatial.scale(n, side * cone.rough(m, e, c, 1 + k // 2))
    return y, w


@ti.func
def product(m: ti.template(), y, w, v, turning):
    """An edge times the motion of its point, v and the angular `turning`."""
    x = spatial.dot(y, v)
    if ti.static(m.constraint.contacts.turning):
        x = x + spatial.dot(w, turning)
    return x


@procedure
def contact(m: ti.template(), d: ti.template(), e, c):
    """The rows of contact c."""
    x, n, p = touch.find(m, d, e, c)
    touching = ti.select(x > 0.0, x * 0.0 + 1.0, x * 0.0)
    # a block skips what none of its worlds touches, or has touched
    if greatest(ti.max(x, d.constraint.depth[e, c])) > 0.0:
        for k in range(m.constraint.contacts.edges[c]):
            row = cone.place(m, c) + k
            d.constraint.on[e, row] = touching * d.constraint.on[e, row]
    d.constraint.depth[e, c] = x
    d.constraint.mass[e, c] = x * 0.0
    if greatest(x) > 0.0:
        v, turning = touch.relative(m, d, e, c, p, d.vw, d.vl)
        t1, _axis, _turns = touch.tangent(m, d, e, c, n)
        t2 = spatial.cross(n, t1)
        mass, _mass_slope, push, _push_slope = virtual_mass(
            m.constraint.contacts, c, ti.max(x, 0.0), cone.weight(m, e, c)
        )
        d.constraint.mass[e, c] = touching * mass
        d.constraint.p[e, c] = p
        d.constraint.n[e, c] = n
        d.constraint.t1[e, c] = t1
        for k in range(m.constraint.contacts.edges[c]):
            y, w = edge(m, e, c, n, t1, t2, k)
            speed = product(m, y, w, v, turning)
            at = m.constraint.contacts.most * c + k
            if ti.static(m.constraint.contacts.elliptic):
                push = ti.select(k == 0, push, push * 0.0)
            d.constraint.ref[e, at] = push - m.constraint.contacts.damping[c] * speed


@procedure
def motion(m: ti.template(), d: ti.template(), e):
    """qacc -> cw, cl: what it adds to the links' motions, MuJoCo's J qacc."""
    d.constraint.cw[e, 0] = m.gravity[0] * 0.0
    d.constraint.cl[e, 0] = m.gravity[0] * 0.0
    kinematics.motions(m, d, e, d.qacc, d.constraint.cw, d.constraint.cl)


@procedure
def pulls(m: ti.template(), d: ti.template(), e):
    """qacc -> pull, a_ref - J a, of all rows that may push."""
    if ti.static(m.constraint.dry.number > 0):
        dry.pulls(m, d, e)
    if ti.static(m.constraint.limits.number > 0):
        for i in range(m.constraint.limits.number):
            if greatest(d.constraint.limit_mass[e, i]) > 0.0:
                a = along(m, d, e, i, d.constraint.limit_side[e, i], d.qacc)
                d.constraint.pull[e, m.constraint.limits.row + i] = d.constraint.limit_ref[e, i] - a
    if ti.static(m.constraint.contacts.number > 0):
        motion(m, d, e)
        for c in range(m.constraint.contacts.number):
            if greatest(d.constraint.depth[e, c]) > 0.0:
                a, turning = touch.relative(m, d, e, c, d.constraint.p[e, c], d.constraint.cw, d.constraint.cl)
                n, t1 = d.constraint.n[e, c], d.constraint.t1[e, c]
                t2 = spatial.cross(n, t1)
                for k in range(m.constraint.contacts.edges[c]):
                    y, w = edge(m, e, c, n, t1, t2, k)
                    at = m.constraint.contacts.most * c + k
                    rate = product(m, y, w, a, turning)
                    d.constraint.pull[e, cone.place(m, c) + k] = d.constraint.ref[e, at] - rate


@procedure
def assemble(m: ti.template(), d: ti.template(), e):
    """tau -> qacc = tau + J' mu a_ref of the rows that push; mu J'J of balls to diag, of planes to the links' part."""
    for i in range(m.nv):
        d.qacc[e, i] = d.constraint.tau[e, i]
    if ti.static(m.constraint.dry.number > 0):
        dry.add_forces(m, d, e)
    if ti.static(m.constraint.limits.number > 0):
        for i in range(m.constraint.limits.number):
            mass = d.constraint.limit_mass[e, i] * d.constraint.on[e, m.constraint.limits.row + i]
            if greatest(mass) > 0.0:
                add_limit(m, d, e, i, mass * d.constraint.limit_ref[e, i], d.qacc)
                if ti.static(m.constraint.limits.ball):
                    if m.constraint.limits.kind[i] == JNT_BALL:
                        dof = m.constraint.limits.dof[i]
                        # the block is that of the vector whose entries these are, see `add_to_matrix`
                        J = spatial.scale(d.constraint.limit_side[e, i], ti.sqrt(mass))
                        for k in ti.static(range(3)):
                            d.constraint.diag[e, dof + k] = J[k, :]
    if ti.static(m.constraint.contacts.number > 0):
        if ti.static(m.constraint.contacts.planes > 0):
            damping.clear(m, d, e)
        dynamics.clear(m, e, d.constraint.fn, d.constraint.ff)
        for c in range(m.constraint.contacts.number):
            if greatest(d.constraint.depth[e, c]) > 0.0:
                f, moment = contact_force(m, d, e, c, touch.FREE)
                touch.add_force(m, d, e, c, d.constraint.p[e, c], f, moment)
        dynamics.generalised(m, d, e, d.constraint.fn, d.constraint.ff, d.constraint.qfrc)
        if ti.static(m.constraint.contacts.planes > 0):
            damping.composite(m, d, e)
        for i in range(m.nv):
            d.qacc[e, i] = d.qacc[e, i] + d.constraint.qfrc[e, i]


@procedure
def add_limit(m: ti.template(), d: ti.template(), e, i, f, y: ti.template()):
    """Adds J' f of limit i to y, a vector of dofs."""
    dof = m.constraint.limits.dof[i]
    J = d.constraint.limit_side[e, i]
    scalar.add(m, d, e, m.constraint.limits, i, J[0, :] * f, y)
    if ti.static(m.constraint.limits.ball):
        if m.constraint.limits.kind[i] == JNT_BALL:
            for k in ti.static((1, 2)):
                y[e, dof + k] = y[e, dof + k] + J[k, :] * f


@ti.func
def contact_force(m: ti.template(), d: ti.template(), e, c, aim: ti.template()):
    """The force of contact c's rows that push, and its moment but for p x force; and adds to the matrix what they add.

    Which of it is meant, `touch` says of the aims.
    """
    n, p, t1 = d.constraint.n[e, c], d.constraint.p[e, c], d.constraint.t1[e, c]
    t2 = spatial.cross(n, t1)
    f, moment = p * 0.0, p * 0.0
    if ti.static(m.constraint.contacts.elliptic and aim == touch.SOLVED):
        f, moment = cone.force(m, d, e, c, n, t1, t2)
    elif ti.static(m.constraint.contacts.elliptic):
        f, moment = cone.add(m, d, e, c, p, n, t1, t2, aim)
    else:
        for k in range(m.constraint.contacts.edges[c]):
            at = m.constraint.contacts.most * c + k
            mass = d.constraint.mass[e, c] * d.constraint.on[e, cone.place(m, c) + k]
            if greatest(mass) > 0.0:
                y, w = edge(m, e, c, n, t1, t2, k)
                push = mass * d.constraint.ref[e, at]
                if ti.static(aim == touch.SOLVED):
                    a, turning = touch.relative(m, d, e, c, p, d.constraint.cw, d.constraint.cl)
                    push = push - mass * product(m, y, w, a, turning)
                f = f + spatial.scale(y, push)
                if ti.static(m.constraint.contacts.turning):
                    moment = moment + spatial.scale(w, push)
                touch.join(m, d, e, c, p, y, w, mass, aim)
    return f, moment


@procedure
def add_to_matrix(m: ti.template(), d: ti.template(), e):
    """mu J'J to qM: of limits, of a ball as the square of diag's three entries, of dry friction, and of contacts."""
    if ti.static(m.constraint.dry.number > 0):
        dry.add_to_matrix(m, d, e)
    if ti.static(m.constraint.limits.number > 0):
        for i in range(m.constraint.limits.number):
            dof = m.constraint.limits.dof[i]
            mass = d.constraint.limit_mass[e, i] * d.constraint.on[e, m.constraint.limits.row + i]
            if greatest(mass) > 0.0:
                if m.constraint.limits.kind[i] == JNT_BALL:
                    for r in range(dof, dof + 3):
                        for k in range(m.row_adr[r], m.row_adr[r] + r - dof + 1):
                            x = d.constraint.diag[e, r] * d.constraint.diag[e, m.row_dof[k]]
                            d.qM[e, k] = d.qM[e, k] + x
                else:
                    scalar.add_mass(m, d, e, m.constraint.limits, i, mass)
    if ti.static(m.constraint.contacts.between > 0):
        for c in range(m.constraint.contacts.planes, m.constraint.contacts.number):
            if greatest(d.constraint.mass[e, c]) > 0.0:
                contact_force(m, d, e, c, touch.COUPLE)


@procedure
def report(m: ti.template(), d: ti.template(), e, single: ti.template(), at):
    """qacc -> the rows' forces, added to qfrc_friction, qfrc_limit, contact.qfrc and contact.kn, kf.

    Those of single contacts, `record`'s numbers, to `single` from `at` on.
    """
    if ti.static(m.constraint.dry.number > 0):
        dry.report(m, d, e)
    if ti.static(m.constraint.limits.number > 0):
        for i in range(m.constraint.limits.number):
            mass = d.constraint.limit_mass[e, i] * d.constraint.on[e, m.constraint.limits.row + i]
            if greatest(mass) > 0.0:
                a = along(m, d, e, i, d.constraint.limit_side[e, i], d.qacc)
                add_limit(m, d, e, i, mass * (d.constraint.limit_ref[e, i] - a), d.qfrc_limit)
    if ti.static(m.constraint.contacts.number > 0):
        motion(m, d, e)
        dynamics.clear(m, e, d.constraint.fn, d.constraint.ff)
        for c in range(m.constraint.contacts.number):
            if greatest(d.constraint.depth[e, c]) > 0.0:
                f, moment = contact_force(m, d, e, c, touch.SOLVED)
                p, n, link = d.constraint.p[e, c], d.constraint.n[e, c], m.constraint.contacts.link[c]
                touch.add_force(m, d, e, c, p, f, moment)
                record.write(m, d, e, c, link, d.constraint.depth[e, c], n, p, f, moment, single, at)
        dynamics.generalised(m, d, e, d.constraint.fn, d.constraint.ff, d.constraint.qfrc)
        for link in range(m.nlink):
            d.contact.kn[e, link] = d.contact.kn[e, link] + d.constraint.fn[e, link]
            d.contact.kf[e, link] = d.contact.kf[e, link] + d.constraint.ff[e, link]
        for i in range(m.nv):
            d.contact.qfrc[e, i] = d.contact.qfrc[e, i] + d.constraint.qfrc[e, i]
