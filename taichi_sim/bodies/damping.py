"""Forces -B v on links that are taken at v + theta h a: h theta B as a part of the links' inertia.

A room adds B to its links, at a point p: isotropic damping, which is a particle's inertia (`add_particle`), or damping
along a normal n, B = N N' with N = (p x n, n). Here it is summed over subtrees and reaches the mass matrix. Normals
that the model fixes take ten numbers each and link (`add_along`: bm, bh, bd, bo), all others together a symmetric 6x6
matrix (`add_block`: gl, gm, ga). It keeps the tree's sparsity.
"""

from taichi_sim import spatial
from taichi_sim.lanes.vectors import stack
from taichi_sim.runtime import procedure, ti


@procedure
def clear(m: ti.template(), d: ti.template(), e):
    """No damping on any link."""
    for k in range(m.nlink * m.damping.number):
        zero = m.gravity[0] * 0.0
        d.bm[e, k] = zero[0, :]
        d.bh[e, k] = zero
        d.bd[e, k] = zero
        d.bo[e, k] = zero
    if ti.static(m.damping.free):
        for i in range(3 * m.nlink):
            d.gm[e, i] = m.gravity[0] * 0.0
        for i in range(2 * m.nlink):
            d.gl[e, i] = m.gravity[0] * 0.0
            d.ga[e, i] = m.gravity[0] * 0.0


@procedure
def accumulate(m: ti.template(), d: ti.template(), e, link, p):
    """Adds a link's damping to its parent's, p."""
    for i in range(m.damping.number):
        k = link * m.damping.number + i
        q = p * m.damping.number + i
        d.bm[e, q] = d.bm[e, q] + d.bm[e, k]
        d.bh[e, q] = d.bh[e, q] + d.bh[e, k]
        d.bd[e, q] = d.bd[e, q] + d.bd[e, k]
        d.bo[e, q] = d.bo[e, q] + d.bo[e, k]
    if ti.static(m.damping.free):
        for i in ti.static(range(3)):
            d.gm[e, 3 * p + i] = d.gm[e, 3 * p + i] + d.gm[e, 3 * link + i]
        for i in ti.static(range(2)):
            d.gl[e, 2 * p + i] = d.gl[e, 2 * p + i] + d.gl[e, 2 * link + i]
            d.ga[e, 2 * p + i] = d.ga[e, 2 * p + i] + d.ga[e, 2 * link + i]


@procedure
def composite(m: ti.template(), d: ti.template(), e):
    """Damping of single links -> of whole subtrees."""
    for step in range(1, m.nlink):
        link = m.nlink - step
        accumulate(m, d, e, link, m.link_parent[link])


@ti.func
def mul(m: ti.template(), d: ti.template(), e, link, w, v):
    """The subtree's damping times the motion (w, v): a spatial force."""
    moment = w * 0.0
    force = v * 0.0
    for i in range(m.damping.number):
        k = link * m.damping.number + i
        n = m.damping.normals[i]
        vn = spatial.dot(n, v)
        moment = moment + spatial.sym_mul(d.bd[e, k], d.bo[e, k], w) + spatial.scale(d.bh[e, k], vn)
        force = force + spatial.scale(n, d.bm[e, k] * vn + spatial.dot(d.bh[e, k], w))
    if ti.static(m.damping.free):
        moment = moment + spatial.sym_mul(d.ga[e, 2 * link], d.ga[e, 2 * link + 1], w)
        force = force + spatial.sym_mul(d.gl[e, 2 * link], d.gl[e, 2 * link + 1], v)
        x, y, z = d.gm[e, 3 * link], d.gm[e, 3 * link + 1], d.gm[e, 3 * link + 2]
        moment = moment + spatial.scale(x, v[0, :]) + spatial.scale(y, v[1, :]) + spatial.scale(z, v[2, :])
        force = force + stack([spatial.dot(x, w), spatial.dot(y, w), spatial.dot(z, w)])
    return moment, force


@procedure
def add_along(m: ti.template(), d: ti.template(), e, link, i, p, mass):
    """Adds mass N N' with N = (p x n, n), n the model's normal i."""
    k = link * m.damping.number + i
    arm = spatial.cross(p, m.damping.normals[i])
    diag, off = outer(arm)
    d.bm[e, k] = d.bm[e, k] + mass
    d.bh[e, k] = d.bh[e, k] + spatial.scale(arm, mass)
    d.bd[e, k] = d.bd[e, k] + spatial.scale(diag, mass)
    d.bo[e, k] = d.bo[e, k] + spatial.scale(off, mass)


@ti.func
def outer(x):
    """x x' of a 3-vector: diagonal (xx, yy, zz) and off-diagonal (yz, xz, xy)."""
    yz = stack([x[1, :] * x[2, :], x[0, :] * x[2, :], x[0, :] * x[1, :]])
    return x * x, yz


@procedure
def add_particle(d: ti.template(), e, link, p, mass):
    """Adds a particle at p to the inertia of a link: cm, ch, cd, co."""
    diag, off = outer(p)
    x2, y2, z2 = diag[0, :], diag[1, :], diag[2, :]
    d.cm[e, link] = d.cm[e, link] + mass
    d.ch[e, link] = d.ch[e, link] + spatial.scale(p, mass)
    d.cd[e, link] = d.cd[e, link] + spatial.scale(stack([y2 + z2, x2 + z2, x2 + y2]), mass)
    d.co[e, link] = d.co[e, link] - spatial.scale(off, mass)


@procedure
def add_block(d: ti.template(), e, link, arm, n, mass):
    """Adds mass N N' with N = (arm, n): its linear part to gl, the angular to ga, the coupling's columns to gm."""
    diag, off = outer(n)
    d.gl[e, 2 * link] = d.gl[e, 2 * link] + spatial.scale(diag, mass)
    d.gl[e, 2 * link + 1] = d.gl[e, 2 * link + 1] + spatial.scale(off, mass)
    diag, off = outer(arm)
    d.ga[e, 2 * link] = d.ga[e, 2 * link] + spatial.scale(diag, mass)
    d.ga[e, 2 * link + 1] = d.ga[e, 2 * link + 1] + spatial.scale(off, mass)
    for i in ti.static(range(3)):
        d.gm[e, 3 * link + i] = d.gm[e, 3 * link + i] + spatial.scale(arm, mass * n[i, :])


@procedure
def add_turning(d: ti.template(), e, link, n, along, across):
    """Adds damping of rotations, along the unit vector n and across it, to the inertia of a link: cd, co."""
    diag, off = outer(n)
    diag = spatial.scale(diag, along - across) + stack([across, across, across])
    d.cd[e, link] = d.cd[e, link] + diag
    d.co[e, link] = d.co[e, link] + spatial.scale(off, along - across)
