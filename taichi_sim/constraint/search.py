"""Which rows push: Newton's method on MuJoCo's cost, whose steps are as long as it falls.

`forward.solve` finds the acceleration that the rows make which are said to push. If others push with it, it need not be
nearer to the solution than the one before, and taking it all the same may go round in circles; but the cost, which is

    (a - a_0)' M (a - a_0) / 2 + sum of mu max(0, pull)^2 / 2,    pull = a_ref - J a

and Huber's for dry friction, falls on the way to it. So the way is gone as far as it falls, which is where its slope,
linear between the points at which rows begin or cease to push, is 0. Since it falls each time, and there are so many
sets of rows, this ends. Rows are numbered through: dry friction, limits, edges of contacts.

Equalities that are rows have a quadratic cost of their own (`loops.solve.descend`). Implicit Coriolis forces make the
matrix unsymmetric, so that there is no cost; what is left of the right side, along the way, stands for its slope.

Source: MuJoCo's documentation, "Computation: Solver algorithms", Newton.
"""

from taichi_sim.constraint import cone
from taichi_sim.lanes.vectors import greatest
from taichi_sim.runtime import procedure, ti

# Points of a step that are looked at, at most, and the share of its slope at the beginning that is none at its end.
MOST_POINTS, FLAT = 12, 0.01


@ti.func
def pushes(m: ti.template(), d: ti.template(), e, c, row):
    """1 if a limit's or contact's row of mass c pulls, else 0."""
    on = (c > 0.0) & (d.constraint.pull[e, row] > 0.0)
    return ti.select(on, c * 0.0 + 1.0, c * 0.0)


@ti.func
def bound(m: ti.template(), e, i, pull):
    """At which bound row i of dry friction is with that pull: -1, 1, or 0 within them."""
    f, most = m.constraint.dry.mass[i] * pull, loss(m, e, i)
    return ti.select(f > most, f * 0.0 + 1.0, ti.select(f < -most, f * 0.0 - 1.0, f * 0.0))


@ti.func
def loss(m: ti.template(), e, i):
    """Largest force of row i of dry friction; that of a dof the user may fit."""
    most = m.dof_frictionloss[e * m.per_block, m.constraint.dry.dof[i]]
    if ti.static(m.constraint.dry.tendons > 0):
        if i >= m.constraint.dry.joints:
            most = most * 0.0 + m.constraint.dry.loss[i]
    return most


@ti.func
def set_on(d: ti.template(), e, row, new):
    """on = new; returns whether it was something else: above 0."""
    was = d.constraint.on[e, row]
    d.constraint.on[e, row] = new
    return abs(new - was)


@ti.func
def decide(m: ti.template(), d: ti.template(), e):
    """pull -> on; returns of how many rows that has changed, by world."""
    changed = d.qacc[e, 0] * 0.0
    if ti.static(m.constraint.dry.number > 0):
        for i in range(m.constraint.dry.number):
            changed = changed + set_on(d, e, i, bound(m, e, i, d.constraint.pull[e, i]))
    if ti.static(m.constraint.limits.number > 0):
        for i in range(m.constraint.limits.number):
            row = m.constraint.limits.row + i
            changed = changed + set_on(d, e, row, pushes(m, d, e, d.constraint.limit_mass[e, i], row))
    if ti.static(m.constraint.contacts.number > 0):
        for c in range(m.constraint.contacts.number):
            if greatest(d.constraint.mass[e, c]) > 0.0:
                if ti.static(m.constraint.contacts.elliptic):
                    changed = changed + cone.decide(m, d, e, c)
                else:
                    for k in range(m.constraint.contacts.edges[c]):
                        row = cone.place(m, c) + k
                        changed = changed + set_on(d, e, row, pushes(m, d, e, d.constraint.mass[e, c], row))
    return changed


@ti.func
def entry(m: ti.template(), matrix: ti.template(), e, k):
    """Of a matrix, in the precision of vectors."""
    if ti.static(m.wide):
        return ti.cast(matrix[e, k], ti.f32)
    else:
        return matrix[e, k]


@procedure
def descend(
    m: ti.template(),
    d: ti.template(),
    e,
    rows: ti.template(),
    columns: ti.template(),
    adr: ti.template(),
    dof: ti.template(),
):
    """descent = qacc - the matrix times start, while qacc is the right side: the cost's descent at `start`.

    Of each dof the matrix has `rows` up to the diagonal, and `columns`, the same where it is symmetric; entries of dof
    i are from adr[i] on, each that with one of `dof`.
    """
    for i in range(m.nv):
        d.constraint.descent[e, i] = d.qacc[e, i]
    for i in range(m.nv):
        for k in range(adr[i], adr[i + 1]):
            j = dof[k]
            d.constraint.descent[e, i] = d.constraint.descent[e, i] - entry(m, rows, e, k) * d.constraint.start[e, j]
            if i != j:
                x = entry(m, columns, e, k)
                d.constraint.descent[e, j] = d.constraint.descent[e, j] - x * d.constraint.start[e, i]


@procedure
def begin(m: ti.template(), d: ti.template(), e):
    """The next step begins at qacc."""
    for i in range(m.nv):
        d.constraint.start[e, i] = d.qacc[e, i]
    for row in range(m.constraint.contacts.row):
        d.constraint.pull_start[e, row] = d.constraint.pull[e, row]
    if ti.static(m.constraint.contacts.number > 0):
        for c in range(m.constraint.contacts.number):
            if greatest(d.constraint.mass[e, c]) > 0.0:
                for k in range(m.constraint.contacts.edges[c]):
                    row = cone.place(m, c) + k
                    d.constraint.pull_start[e, row] = d.constraint.pull[e, row]


@ti.func
def slope(m: ti.template(), d: ti.template(), e, share):
    """Slope and curvature of the rows' cost in the share of the step, at that share."""
    first, second = share * 0.0, share * 0.0
    if ti.static(m.constraint.dry.number > 0):
        for i in range(m.constraint.dry.number):
            rate = d.constraint.pull_start[e, i] - d.constraint.pull[e, i]
            mass, most = m.constraint.dry.mass[i], loss(m, e, i)
            f = mass * (d.constraint.pull_start[e, i] - share * rate)
            first = first - ti.max(ti.min(f, most), -most) * rate
            second = second + ti.select(abs(f) > most, f * 0.0, mass * rate * rate)
    if ti.static(m.constraint.limits.number > 0):
        for i in range(m.constraint.limits.number):
            s, c = slope_of(d, e, m.constraint.limits.row + i, d.constraint.limit_mass[e, i], share)
            first, second = first + s, second + c
    if ti.static(m.constraint.contacts.number > 0):
        for c in range(m.constraint.contacts.number):
            mass = d.constraint.mass[e, c]
            if greatest(mass) > 0.0:
                if ti.static(m.constraint.contacts.elliptic):
                    s, x = cone.slope(m, d, e, c, share)
                    first, second = first + s, second + x
                else:
                    for k in range(m.constraint.contacts.edges[c]):
                        row = cone.place(m, c) + k
                        s, x = slope_of(d, e, row, mass, share)
                        first, second = first + s, second + x
    return first, second


@ti.func
def slope_of(d: ti.template(), e, row, mass, share):
    """`slope` of one row that only pushes."""
    rate = d.constraint.pull_start[e, row] - d.constraint.pull[e, row]
    pull = d.constraint.pull_start[e, row] - share * rate
    mass = ti.select((mass > 0.0) & (pull > 0.0), mass, mass * 0.0)
    return -mass * pull * rate, mass * rate * rate


@procedure
def shorten(m: ti.template(), d: ti.template(), e):
    """qacc, pull -> where the cost is least between `start` and there."""
    descent = d.qacc[e, 0] * 0.0
    for i in range(m.nv):
        descent = descent + d.constraint.descent[e, i] * (d.qacc[e, i] - d.constraint.start[e, i])
    # of the cost without rows, the slope at the beginning and the curvature
    share = descent * 0.0
    first, second = slope(m, d, e, share)
    smooth, curvature = -descent - first, descent - second
    low, high, share = share, share + 1.0, share + 1.0
    going = 1
    points = 0
    while going == 1:
        first, second = slope(m, d, e, share)
        first = first + smooth + share * curvature
        rises = first > 0.0
        high = ti.select(rises, share, high)
        low = ti.select(rises, low, share)
        off = (abs(first) > FLAT * abs(descent)) & (low < 1.0)
        ahead = share - first / ti.max(second + curvature, 1e-30)
        ahead = ti.select((ahead > low) & (ahead < high), ahead, 0.5 * (low + high))
        share = ti.select(off, ahead, share)
        points = points + 1
        going = ti.select(greatest(ti.select(off, share * 0.0 + 1.0, share * 0.0)) > 0.0 and points < MOST_POINTS, 1, 0)
    for i in range(m.nv):
        step = d.qacc[e, i] - d.constraint.start[e, i]
        d.qacc[e, i] = d.constraint.start[e, i] + share * step
    for row in range(m.constraint.contacts.row):
        go(d, e, row, share)
    if ti.static(m.constraint.contacts.number > 0):
        for c in range(m.constraint.contacts.number):
            if greatest(d.constraint.mass[e, c]) > 0.0:
                for k in range(m.constraint.contacts.edges[c]):
                    go(d, e, cone.place(m, c) + k, share)


@procedure
def go(d: ti.template(), e, row, share):
    """pull of a row -> at a share of the way from where the step began."""
    d.constraint.pull[e, row] = cone.between(d, row, e, share)
