"""Where bodies touch by MuJoCo's law, how a contact's links move there, and what its rows add to the mass matrix.

Contacts on planes come first (`contact.planes`), then those between bodies (`contact.pairs`). A row of a contact is a
direction y of its point, and w of its turning. Two bodies that touch pull on each other's dofs: mu J'J then goes to qM
entry by entry, while what a plane holds couples no branches and goes with its link's damping.
"""

from taichi_sim import spatial
from taichi_sim.bodies import damping
from taichi_sim.bodies.external import particle
from taichi_sim.contact import boxes, collide, pairs, planes, points
from taichi_sim.lanes.vectors import stack
from taichi_sim.runtime import procedure, ti

# Square of the length of a capsule's axis across a normal from which on it has a direction there.
ACROSS2 = 1e-20
# Share of a capsule's radius by which its deepest point lies deeper than its ends say, at least.
_SAME = 1e-4
# What `rows.contact_force` is to do: forces where qacc is 0, and what planes' rows add to the matrix; what others' do;
# forces with the qacc that was solved for.
FREE, COUPLE, SOLVED = range(3)


@ti.func
def find(m: ti.template(), d: ti.template(), e, c):
    """Violation of contact c, normal, and point half way between the surfaces, as in MuJoCo."""
    n, p = d.xp[e, 0] * 0.0, d.xp[e, 0] * 0.0
    x = n[0, :] - 1.0
    if ti.static(m.constraint.contacts.planes > 0):
        if c < m.constraint.contacts.planes:
            p, x = planes.touch(m, d, e, c)
            n = n + m.damping.normals[m.contact.planes.normal[c]]
            p = p + spatial.scale(n, 0.5 * (x - m.constraint.contacts.margin[c]))
    if ti.static(m.constraint.contacts.between > 0):
        if c >= m.constraint.contacts.planes:
            k = c - m.constraint.contacts.planes
            c1, u1, q1, c2, u2, q2, _apart = pairs.place(m, d, e, k)
            if collide.near(c1, m.contact.pairs.reach1[k], c2, m.contact.pairs.reach2[k]):
                x, n, p = pairs.touch(m, d, e, k, c1, u1, q1, c2, u2, q2)
                if ti.static(points.CAPSULE_BOX in m.contact.pairs.kinds):
                    if m.contact.pairs.kind[k] == points.CAPSULE_BOX:
                        borne = borne_by_ends(m, k, c1, u1, c2, q2, x - m.contact.pairs.margin[k], n, p)
                        x = ti.select(borne, x * 0.0 - 1.0, x)
    return x, n, p


@ti.func
def borne_by_ends(m: ti.template(), k, c1, u1, c2, q2, depth, n, p):
    """Whether a capsule's deepest point in a box is no contact, as in MuJoCo: its ends bear it, by themselves contacts.

    They do where it lies over one face of the box: there depths are linear along it.
    """
    r, size = m.contact.pairs.radius1[k], m.contact.pairs.size2[k]
    one, _n1, _p1 = boxes.sphere_box(c1 + u1, r, c2, q2, size)
    two, _n2, _p2 = boxes.sphere_box(c1 - u1, r, c2, q2, size)
    deepest = p + spatial.scale(n, r - 0.5 * depth) - c1
    at = spatial.dot(deepest, u1) / spatial.dot(u1, u1)
    return depth - 0.5 * (one + two + at * (one - two)) < _SAME * r


@ti.func
def relative(m: ti.template(), d: ti.template(), e, c, p, w: ti.template(), v: ti.template()):
    """Of the links' motions w, v, the first link's at contact c's point less the second's: linear, angular."""
    one = m.constraint.contacts.link[c]
    x, turning = particle(w[e, one], v[e, one], p), w[e, one]
    if ti.static(m.constraint.contacts.between > 0):
        if c >= m.constraint.contacts.planes:
            k = c - m.constraint.contacts.planes
            x, turning = pairs.relative(one, m.contact.pairs.link2[k], e, w, v, p, pairs.offset(m, d, e, k))
    return x, turning


@ti.func
def tangent(m: ti.template(), d: ti.template(), e, c, n):
    """First tangent of contact c, as in MuJoCo: along a capsule on a plane. And how it turns about n: see `adjoint`.

    Returns:
        The tangent; a capsule's direction a, else 0; and 1 / |a across n|, or between bodies -(n . y) / |y across n|, y
        the axis of the world that the tangent is nearest to.
    """
    t1 = d.xp[e, 0] * 0.0
    a, turns = t1, t1[0, :]
    if ti.static(m.constraint.contacts.planes > 0):
        if c < m.constraint.contacts.planes:
            t1 = t1 + m.constraint.contacts.across[c]
            if ti.static(m.constraint.contacts.any_aligned):
                a = spatial.rotate(d.xq[e, m.constraint.contacts.link[c]], m.constraint.contacts.axis[c])
                flat = a - spatial.scale(n, spatial.dot(n, a))
                length2 = spatial.dot(flat, flat)
                turned = length2 > ACROSS2
                turns = ti.select(turned, 1.0 / ti.sqrt(ti.max(length2, ACROSS2)), length2 * 0.0)
                t1 = spatial.pick(turned, spatial.scale(flat, turns), t1)
    if ti.static(m.constraint.contacts.between > 0):
        if c >= m.constraint.contacts.planes:
            one, zero = n[1, :] * 0.0 + 1.0, n[1, :] * 0.0
            level = abs(n[1, :]) < 0.5
            y = stack([zero, ti.select(level, one, zero), ti.select(level, zero, one)])
            up = spatial.dot(n, y)
            flat = y - spatial.scale(n, up)
            per_length = 1.0 / ti.sqrt(spatial.dot(flat, flat))
            t1, turns = spatial.scale(flat, per_length), -up * per_length
    return t1, a, turns


@procedure
def join(m: ti.template(), d: ti.template(), e, c, p, y, w, mass, aim: ti.template()):
    """Adds mass J'J of contact c's row y, w at p to the matrix, if it is its turn."""
    if ti.static(aim == FREE and m.constraint.contacts.planes > 0):
        if c < m.constraint.contacts.planes:
            damping.add_block(d, e, m.constraint.contacts.link[c], spatial.cross(p, y) + w, y, mass)
    if ti.static(aim == COUPLE):
        k = c - m.constraint.contacts.planes
        arm = spatial.cross(p, y) + w
        arm2 = arm - spatial.cross(pairs.offset(m, d, e, k), y)
        for i in range(m.constraint.contacts.adr[k], m.constraint.contacts.adr[k + 1]):
            dof = m.constraint.contacts.dof[i]
            J = spatial.dot(d.sw[e, dof], arm) + spatial.dot(d.sl[e, dof], y)
            if m.constraint.contacts.side[i] < 0:
                J = -spatial.dot(d.sw[e, dof], arm2) - spatial.dot(d.sl[e, dof], y)
            d.constraint.row[e, dof] = J
        for i in range(m.constraint.contacts.adr[k], m.constraint.contacts.adr[k + 1]):
            dof = m.constraint.contacts.dof[i]
            push = mass * d.constraint.row[e, dof]
            for at in range(m.row_adr[dof], m.row_adr[dof + 1]):
                d.qM[e, at] = d.qM[e, at] + push * d.constraint.row[e, m.row_dof[at]]
        for i in range(m.constraint.contacts.adr[k], m.constraint.contacts.adr[k + 1]):
            d.constraint.row[e, m.constraint.contacts.dof[i]] = mass * 0.0


@procedure
def add_force(m: ti.template(), d: ti.template(), e, c, p, f, moment):
    """Adds a force of contact c, and its moment but for p x f, to its first link's fn, ff, and its opposite."""
    one = m.constraint.contacts.link[c]
    d.constraint.fn[e, one] = d.constraint.fn[e, one] + spatial.cross(p, f) + moment
    d.constraint.ff[e, one] = d.constraint.ff[e, one] + f
    if ti.static(m.constraint.contacts.between > 0):
        if c >= m.constraint.contacts.planes:
            k = c - m.constraint.contacts.planes
            two = m.contact.pairs.link2[k]
            arm = p - pairs.offset(m, d, e, k)
            d.constraint.fn[e, two] = d.constraint.fn[e, two] - spatial.cross(arm, f) - moment
            d.constraint.ff[e, two] = d.constraint.ff[e, two] - f
