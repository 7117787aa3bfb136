"""Forces of the rows, by the Schur complement of the matrix that the step factors.

With a row's reference acceleration a_ref = -b J v - k d r - dJ/dt v and its regulariser R, MuJoCo's solution is that of

    M a = tau + J' f,    J a + R f = a_ref

linear, since an equality may push and pull: (J M^-1 J' + R) f = a_ref - J M^-1 tau. R keeps it definite where rows
depend on each other. Source: MuJoCo's documentation, "Computation: Constraint model".
"""

from taichi_sim.bodies import inertia
from taichi_sim.loops import rows
from taichi_sim.runtime import procedure, ti


@procedure
def complement(m: ti.template(), d: ti.template(), e):
    """loops.J, inverse and M's factor -> loops.W = M^-1 J', and the factor L'DL of J W + R in loops.A."""
    for c in range(m.loops.number):
        for r in range(m.loops.row[c], m.loops.row[c + 1]):
            for i in range(m.nv):
                d.loops.x[e, i] = d.loops.inverse[e, r] * 0.0
            at = m.loops.entry[c] + (r - m.loops.row[c]) * m.loops.num[c]
            for j in range(m.loops.num[c]):
                i = m.loops.dof[m.loops.col[c] + j]
                d.loops.x[e, i] = d.loops.x[e, i] + d.loops.J[e, at + j]
            inertia.solve(m, d, e, d.loops.x, d.qLU, d.qLD)
            for i in range(m.nv):
                d.loops.W[e, r * m.nv + i] = d.loops.x[e, i]
            rates(m, d, e, d.loops.x, r * m.loops.rows, c + 1)
            k = r * m.loops.rows + r
            d.loops.A[e, k] = d.loops.A[e, k] + d.loops.inverse[e, r]
    factor(m, d, e)


@procedure
def rates(m: ti.template(), d: ti.template(), e, x: ti.template(), at, number):
    """loops.A from `at` on = J x, the rows of the first `number` equalities."""
    for c in range(number):
        for r in range(m.loops.row[c], m.loops.row[c + 1]):
            d.loops.A[e, at + r] = rate(m, d, e, x, c, r)


@ti.func
def rate(m: ti.template(), d: ti.template(), e, x: ti.template(), c, r):
    """J x of row r, which is one of equality c's."""
    y = d.loops.inverse[e, r] * 0.0
    at = m.loops.entry[c] + (r - m.loops.row[c]) * m.loops.num[c]
    for j in range(m.loops.num[c]):
        y = y + d.loops.J[e, at + j] * x[e, m.loops.dof[m.loops.col[c] + j]]
    return y


@procedure
def factor(m: ti.template(), d: ti.template(), e):
    """The lower half of loops.A -> LDL' in place."""
    n = m.loops.rows
    for j in range(n):
        # what is left of a row is at least R, but for rounding
        pivot = ti.max(d.loops.A[e, j * n + j], 0.5 * d.loops.inverse[e, j])
        d.loops.A[e, j * n + j] = pivot
        for i in range(j + 1, n):
            a = d.loops.A[e, i * n + j] / pivot
            for k in range(j + 1, i + 1):
                d.loops.A[e, i * n + k] = d.loops.A[e, i * n + k] - a * d.loops.A[e, k * n + j]
        for i in range(j + 1, n):
            d.loops.A[e, i * n + j] = d.loops.A[e, i * n + j] / pivot


@procedure
def correct(m: ti.template(), d: ti.template(), e, x: ti.template(), y: ti.template()):
    """y = (J W + R)^-1 (y - J x), x += W y."""
    n = m.loops.rows
    for c in range(m.loops.number):
        for r in range(m.loops.row[c], m.loops.row[c + 1]):
            y[e, r] = y[e, r] - rate(m, d, e, x, c, r)
    for r in range(n):
        for k in range(r):
            y[e, r] = y[e, r] - d.loops.A[e, r * n + k] * y[e, k]
    for step in range(n):
        r = n - 1 - step
        z = y[e, r] / d.loops.A[e, r * n + r]
        for k in range(r + 1, n):
            z = z - d.loops.A[e, k * n + r] * y[e, k]
        y[e, r] = z
    for r in range(n):
        for i in range(m.nv):
            x[e, i] = x[e, i] + d.loops.W[e, r * m.nv + i] * y[e, r]


@procedure
def accelerate(m: ti.template(), d: ti.template(), e):
    """qacc without the rows -> with them, and their forces. Expects aw, al without qacc."""
    complement(m, d, e)
    for r in range(m.loops.rows):
        d.loops.force[e, r] = d.qacc[e, 0] * 0.0
    if ti.static(m.loops.bodies.number > 0):
        rows.drift(m, d, e, d.loops.force)
    for c in range(m.loops.number):
        k = m.loops.stiffness[c] * d.loops.impedance[e, c]
        for r in range(m.loops.row[c], m.loops.row[c + 1]):
            v = rate(m, d, e, d.qvel, c, r)
            d.loops.force[e, r] = -m.loops.damping[c] * v - k * d.loops.pos[e, r] - d.loops.force[e, r]
    correct(m, d, e, d.qacc, d.loops.force)


@procedure
def descend(m: ti.template(), d: ti.template(), e):
    """constraint.descent += J' (a_ref - J start) / R, the rows' part of the cost's descent: J qacc + R f is a_ref."""
    for c in range(m.loops.number):
        for r in range(m.loops.row[c], m.loops.row[c + 1]):
            y = rate(m, d, e, d.qacc, c, r) - rate(m, d, e, d.constraint.start, c, r)
            f = d.loops.force[e, r] + y / d.loops.inverse[e, r]
            at = m.loops.entry[c] + (r - m.loops.row[c]) * m.loops.num[c]
            for j in range(m.loops.num[c]):
                i = m.loops.dof[m.loops.col[c] + j]
                d.constraint.descent[e, i] = d.constraint.descent[e, i] + d.loops.J[e, at + j] * f
