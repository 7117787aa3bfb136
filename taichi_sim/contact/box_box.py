"""Where two boxes touch, and the exact gradient of that; conventions as in `collide`.

The axis in which they overlap least is a normal of one of their faces or crosses an edge of each (Gottschalk, Lin and
Manocha, OBBTree, SIGGRAPH 1996). On a face of one box, the reference, the face of the other that looks at it, the
incident one, bears with the corners of the polygon in which they overlap. Each of these is a slot, of which most are
empty:

    0 to 3    corners of the incident face, within the reference face
    4 to 7    corners of the reference face, within the incident one
    8 to 23   where an edge of the incident face passes over one of the reference face
    24        where two edges cross

What lies within SEAM of the other face's border counts as within, and of corners that lie that close to each other
that in the lowest slot counts: boxes of one size, one on the other, have four points. From feature to feature, contact
jumps.
"""

from taichi_sim.contact.collide import PARALLEL
from taichi_sim.runtime import ti
from taichi_sim.spatial import cross, dot, pick, quat_axis, scale

SLOTS = 25
_EDGES = SLOTS - 1
# Relative to the smallest half-extent: width of a seam, and by how much less a later axis must overlap.
SEAM = 1e-3
_FAR = 1e9


@ti.func
def touch(c1, q1, size1, c2, q2, size2, slot):
    """Contact of two boxes in one slot.

    Args:
        c1, c2: centres [m], (3, L).
        q1, q2: orientations, unit quaternions (4, L).
        size1, size2: half-extents [m], (3, L).
        slot: which, 0 to 24, the same in all lanes.

    Returns:
        Depth [m] (L), far below 0 where the slot is empty; normal (3, L), point [m] (3, L).
    """
    n, first, crossed, u, w = _axis(c1, q1, size1, c2, q2, size2)
    depth, p = first * 0.0 - _FAR, c1 * 0.0
    if slot < _EDGES:
        frame, base, out, top, c, within, _k, _e, _inv, _keep, _turn = _corner(
            c1, q1, size1, c2, q2, size2, n, first, slot
        )
        d = top - dot(out, c - base)
        depth = ti.select(within & (crossed < 0.5) & (frame > 0.5), d, depth)
        p = c + scale(out, 0.5 * d)
    else:
        x1, x2 = _crossing(c1, q1, size1, c2, q2, size2, n, u, w)
        depth = ti.select(crossed > 0.5, dot(n, x2 - x1), depth)
        p = 0.5 * (x1 + x2)
    return depth, n, p


@ti.func
def adjoint_touch(c1, q1, size1, c2, q2, size2, slot, d_bar, n_bar, p_bar):
    """Gradient of `touch` by a displacement of box 1: (moment, force), each (3, L)."""
    n, first, _crossed, u, w = _axis(c1, q1, size1, c2, q2, size2)
    moment, force = c1 * 0.0, c1 * 0.0
    if slot < _EDGES:
        _frame, base, out, top, c, _within, k, e, inv, keep, turn = _corner(
            c1, q1, size1, c2, q2, size2, n, first, slot
        )
        # of the incident box, the other held
        c_bar = p_bar - scale(out, d_bar + 0.5 * dot(out, p_bar))
        force = c_bar * keep + scale(k, turn * inv * dot(e, c_bar))
        moment = cross(c, force)
        p = c + scale(out, 0.5 * (top - dot(out, c - base)))
        moment = pick(first > 0.5, cross(n, n_bar) + cross(p, p_bar) - moment, moment)
        force = pick(first > 0.5, p_bar - force, force)
    else:
        # x1 - x2 = -depth n: the points slide along their edges as box 1 moves
        x1, x2 = _crossing(c1, q1, size1, c2, q2, size2, n, u, w)
        inv = _inverse(dot(n, cross(u, w)))
        slide = scale(cross(w, n), dot(u, p_bar)) + scale(cross(u, n), dot(w, p_bar))
        slide = scale(slide, -0.5 * inv)
        force = 0.5 * p_bar - scale(n, d_bar) + slide
        turned = n_bar + scale(slide, dot(n, x2 - x1))
        g = scale(turned - scale(n, dot(n, turned)), inv)
        moment = cross(x1, force) + cross(u, cross(w, g))
    return moment, force


@ti.func
def _axis(c1, q1, size1, c2, q2, size2):
    """The axis of least overlap.

    Returns:
        The unit normal from box 2 to box 1; 1 where it is a face's of box 1; 1 where it crosses two edges, and
        these edges' directions.
    """
    ax, ay, az = quat_axis(q1, 0), quat_axis(q1, 1), quat_axis(q1, 2)
    bx, by, bz = quat_axis(q2, 0), quat_axis(q2, 1), quat_axis(q2, 2)
    t = c1 - c2
    seam = _seam(size1, size2)
    best = seam * 0.0 + _FAR
    n, u, w, first, crossed = t * 0.0, t * 0.0, t * 0.0, seam * 0.0, seam * 0.0
    # not unrolled: that would multiply the time to compile
    for k in range(6):
        mx, my, mz = _mask(k % 3)
        a, of_first = ax * mx + ay * my + az * mz, 1.0
        if k > 2:
            a, of_first = bx * mx + by * my + bz * mz, 0.0
        along = dot(a, t)
        depth = _reach(a, ax, ay, az, size1) + _reach(a, bx, by, bz, size2) - ti.abs(along)
        better = depth < best - seam
        best = ti.select(better, depth, best)
        first = ti.select(better, first * 0.0 + of_first, first)
        n = pick(better, scale(a, _sign(along)), n)
    for k in range(9):
        mx, my, mz = _mask(k // 3)
        ox, oy, oz = _mask(k % 3)
        a, b = ax * mx + ay * my + az * mz, bx * ox + by * oy + bz * oz
        g = cross(a, b)
        g2 = dot(g, g)
        g = scale(g, 1.0 / ti.sqrt(ti.max(g2, PARALLEL)))
        along = dot(g, t)
        depth = _reach(g, ax, ay, az, size1) + _reach(g, bx, by, bz, size2) - ti.abs(along)
        better = (g2 > PARALLEL) & (depth < best - seam)
        best = ti.select(better, depth, best)
        crossed = ti.select(better, crossed * 0.0 + 1.0, crossed)
        n, u, w = pick(better, scale(g, _sign(along)), n), pick(better, a, u), pick(better, b, w)
    return n, first, crossed, u, w


@ti.func
def _crossing(c1, q1, size1, c2, q2, size2, n, u, w):
    """The closest points of the lines through the edges with directions u and w that look at each other."""
    a, b = c1, c2
    for k in ti.static(range(3)):
        x, y = quat_axis(q1, k), quat_axis(q2, k)
        a = a - scale(x, size1[k, :] * _sign(dot(n, x)))
        b = b + scale(y, size2[k, :] * _sign(dot(n, y)))
    r, inv = a - b, _inverse(dot(n, cross(u, w)))
    return a - scale(u, dot(r, cross(w, n)) * inv), b - scale(w, dot(r, cross(u, n)) * inv)


@ti.func
def _corner(c1, q1, size1, c2, q2, size2, n, first, slot):
    """The corner of the polygon of overlap in a slot below `_EDGES`.

    Returns:
        1 where the axis is a face's; the reference box' centre, its face's outward normal and distance of that face;
        the corner (3, L) on the incident face; whether it is one; and k, e, 1 / (k . e), keep and turn, by which the
        adjoint c_bar of the corner is that of the incident box' material: keep c_bar + turn k (e . c_bar) / (k . e).
    """
    one = first > 0.5
    ax, ay, az = quat_axis(q1, 0), quat_axis(q1, 1), quat_axis(q1, 2)
    bx, by, bz = quat_axis(q2, 0), quat_axis(q2, 1), quat_axis(q2, 2)
    rx, ry, rz = pick(one, ax, bx), pick(one, ay, by), pick(one, az, bz)
    ix, iy, iz = pick(one, bx, ax), pick(one, by, ay), pick(one, bz, az)
    rs, ins, base, f = pick(one, size1, size2), pick(one, size2, size1), pick(one, c1, c2), pick(one, c2, c1)
    out = pick(one, -n, n)
    # of the reference: which axis is the normal, the two across it
    mx, my, mz = _near(dot(out, rx)), _near(dot(out, ry)), _near(dot(out, rz))
    top, hu, hv = _turned(rs, mx, my, mz)
    u, v = _blend(ry, rz, rx, mx, my, mz), _blend(rz, rx, ry, mx, my, mz)
    # of the other: the axis closest to it
    dx, dy, dz = ti.abs(dot(out, ix)), ti.abs(dot(out, iy)), ti.abs(dot(out, iz))
    ones = dx * 0.0 + 1.0
    ox = ti.select((dx >= dy) & (dx >= dz), ones, 0.0 * ones)
    oy = ti.select(dy >= dz, ones, 0.0 * ones) * (1.0 - ox)
    oz = 1.0 - ox - oy
    height, hg, hh = _turned(ins, ox, oy, oz)
    face = _blend(ix, iy, iz, ox, oy, oz)
    face = scale(face, -_sign(dot(face, out)))
    g, h = _blend(iy, iz, ix, ox, oy, oz), _blend(iz, ix, iy, ox, oy, oz)
    f = f + scale(face, height)

    seam = _seam(size1, size2)
    sign1, sign2 = 1.0 - 2.0 * (slot % 2), 1.0 - 2.0 * ((slot // 2) % 2)
    c = f + scale(g, sign1 * hg) + scale(h, sign2 * hh)
    k, e, inv, keep, turn = face * 0.0, face * 0.0, ones * 0.0, 1.0, 0.0
    within = (ti.abs(dot(u, c - base)) <= hu + seam) & (ti.abs(dot(v, c - base)) <= hv + seam)
    if 4 <= slot < 8:
        r = base + scale(out, top) + scale(u, sign1 * hu) + scale(v, sign2 * hv)
        k, e, keep, turn = face, out, 0.0, 1.0
        inv = _inverse(dot(k, e))
        c = r - scale(out, dot(face, r - f) * inv)
        x, y = ti.abs(dot(g, c - f)), ti.abs(dot(h, c - f))
        within = (x <= hg + seam) & (y <= hh + seam) & ((x < hg - seam) | (y < hh - seam))
    if slot >= 8:
        side, edge = (slot - 8) // 4, (slot - 8) % 4
        # the edge c + s e, |s| < half, and the side k . x = reach, within |across . x| < wide
        e, half, c = g, hg, f + scale(h, sign1 * hh)
        if edge > 1:
            e, half, c = h, hh, f + scale(g, sign1 * hg)
        k, reach, across, wide = u, hu, v, hv
        if side > 1:
            k, reach, across, wide = v, hv, u, hu
        k, keep, turn = k * (1.0 - 2.0 * (side % 2)), 1.0, -1.0
        inv = _inverse(dot(k, e))
        s = (reach - dot(k, c - base)) * inv
        c = c + scale(e, s)
        # else one of the edge's ends is that close to the side, and counts
        within = (half - ti.abs(s)) * ti.abs(dot(k, e)) > seam
        within = within & (ti.abs(dot(across, c - base)) < wide - seam)
    return mx + my + mz, base, out, top, c, within, k, e, inv, keep, turn


@ti.func
def _mask(k):
    """1 for axis k of three, else 0, the same in all lanes."""
    x, y, z = 0.0, 0.0, 0.0
    if k == 0:
        x = 1.0
    if k == 1:
        y = 1.0
    if k == 2:
        z = 1.0
    return x, y, z


@ti.func
def _blend(x, y, z, mx, my, mz):
    """That of three vectors whose mask is 1."""
    return scale(x, mx) + scale(y, my) + scale(z, mz)


@ti.func
def _turned(size, mx, my, mz):
    """Half-extents along the axis whose mask is 1, along the next and the one after that."""
    x, y, z = size[0, :], size[1, :], size[2, :]
    return mx * x + my * y + mz * z, mx * y + my * z + mz * x, mx * z + my * x + mz * y


@ti.func
def _reach(n, x, y, z, size):
    """Half the extent along n of a box with axes x, y, z."""
    return size[0, :] * ti.abs(dot(n, x)) + size[1, :] * ti.abs(dot(n, y)) + size[2, :] * ti.abs(dot(n, z))


@ti.func
def _seam(size1, size2):
    """SEAM of the smallest half-extent [m]."""
    least = ti.min(size1, size2)
    return SEAM * ti.min(least[0, :], ti.min(least[1, :], least[2, :]))


@ti.func
def _sign(x):
    return ti.select(x < 0.0, x * 0.0 - 1.0, x * 0.0 + 1.0)


@ti.func
def _near(x):
    """1 where x is that of a box' own axis, 1 or -1, else 0."""
    return ti.select(ti.abs(x) > 0.9999, x * 0.0 + 1.0, x * 0.0)


@ti.func
def _inverse(x):
    """1 / x, bounded: what is that small belongs to parallel edges, which do not cross."""
    return 1.0 / ti.select(ti.abs(x) < 1e-6, x * 0.0 + 1e-6, x)
