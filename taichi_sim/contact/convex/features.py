"""The features in which two convex shapes touch: exact points from them, and their gradient.

A contact has a normal n, a direction m that decides which points touch, and a short vector t: shape 1 touches with what
it has furthest along t - m, shape 2 with what it has furthest along m, and these two are opposite along n. (For the
least overlap m = n and t = 0; `portal` has the others.) What is furthest along a direction is

    flat: an edge or a face, along which points slide, while its directions e stay orthogonal to that direction;
    bent: it moves by the Hessian K of the support function as the direction turns; of a vertex K = 0.

With a displacement (w, v) of shape 1, v(x) = v + w x x, y = w x m + (t' - w x t), and the tangents g of n that no flat
direction covers,

    x1' = v(x1) + K1 (y - m') - s e,       x2' = K2 m' + s e,      x2' - x1' = depth' n + depth n'
    e . m' = e . y of shape 1, 0 of shape 2;                       g . (K1 + K2) m' = g . (v(x1) + depth n' + K1 y)

These are the equations that `sharpen` solves by Newton's method, and `adjoint_normal`, `adjoint_point` transposed.
All is in the axes of shape 2.
"""

from taichi_sim.contact.collide import TINY
from taichi_sim.contact.convex.support import bend, bends, bulge, flat
from taichi_sim.runtime import ti
from taichi_sim.spatial import basis, cross, dot, pick, quat_axis, rotate, rotate_inv, scale

# Of a direction of a flat: sine of its angle to the first below which it is no second one.
_PARALLEL = 1e-3
# Largest step of Newton's method [rad].
_STEP = 0.2


@ti.func
def flats(s: ti.template(), w: ti.template(), e, one, two, q, m, t, least):
    """Directions along which the points of contact can slide.

    Args:
        w: the triangle, as in `gjk.descend`; corners that have shares up to `least` do not count.

    Returns:
        The first direction (3, L), zero if there is none, 1 where it is shape 1's (L); and the second likewise.
    """
    a, a1 = m * 0.0, m[0, :] * 0.0
    for k in range(3):
        j = (k + 1) % 3
        both_count = (w.share[e, k] > least) & (w.share[e, j] > least)
        d1, d2 = w.f1[e, j] - w.f1[e, k], w.f2[e, j] - w.f2[e, k]
        longer = both_count & (dot(d1, d1) > dot(a, a))
        a, a1 = pick(longer, d1, a), ti.select(longer, 1.0, a1)
        longer = both_count & (dot(d2, d2) > dot(a, a))
        a, a1 = pick(longer, d2, a), ti.select(longer, 0.0, a1)
    a = scale(a, 1.0 / ti.sqrt(dot(a, a) + TINY))
    b, b1, widest = m * 0.0, m[0, :] * 0.0, m[0, :] * 0.0
    for k in range(3):
        j = (k + 1) % 3
        both_count = (w.share[e, k] > least) & (w.share[e, j] > least)
        d1, d2 = w.f1[e, j] - w.f1[e, k], w.f2[e, j] - w.f2[e, k]
        c1, c2 = cross(a, d1), cross(a, d2)
        wide1, wide2 = dot(c1, c1), dot(c2, c2)
        wider = both_count & (wide1 > widest) & (wide1 > _PARALLEL * _PARALLEL * dot(d1, d1))
        b, b1, widest = pick(wider, d1, b), ti.select(wider, 1.0, b1), ti.select(wider, wide1, widest)
        wider = both_count & (wide2 > widest) & (wide2 > _PARALLEL * _PARALLEL * dot(d2, d2))
        b, b1, widest = pick(wider, d2, b), ti.select(wider, 0.0, b1), ti.select(wider, wide2, widest)
    b = scale(b, 1.0 / ti.sqrt(dot(b, b) + TINY))
    # a cylinder's end is flat in all directions across its axis
    cap = flat(s, one, rotate_inv(q, t - m)) > 0.5
    a, b = pick(cap, quat_axis(q, 0), a), pick(cap, quat_axis(q, 1), b)
    a1, b1 = ti.select(cap, 1.0, a1), ti.select(cap, 1.0, b1)
    cap = flat(s, two, m) > 0.5
    a, b = pick(cap, basis(m, 0), a), pick(cap, basis(m, 1), b)
    a1, b1 = ti.select(cap, 0.0, a1), ti.select(cap, 0.0, b1)
    return a, a1, b, b1


@ti.func
def tangents(n, a):
    """Two unit vectors across n, the first as close to a as can be."""
    x = a - scale(n, dot(n, a))
    none = dot(x, x) < 1e-6
    z = cross(n, pick(ti.abs(n[0, :]) < 0.6, basis(n, 0), basis(n, 1)))
    x = pick(none, z, x)
    x = scale(x, 1.0 / ti.sqrt(dot(x, x)))
    return x, cross(n, x)


@ti.func
def curve1(s: ti.template(), one, q, m, t, x):
    """K1 x."""
    y = x * 0.0
    if ti.static(s.round):
        y = rotate(q, bend(s, one, rotate_inv(q, t - m), rotate_inv(q, x)))
    return y


@ti.func
def curve2(s: ti.template(), two, m, x):
    """K2 x."""
    y = x * 0.0
    if ti.static(s.round):
        y = bend(s, two, m, x)
    return y


@ti.func
def system(s: ti.template(), one, two, q, m, t, x, y, a, b, depth):
    """The matrix of the equations for m' along the tangents x and y: rows of flat directions a and b, if they are not
    zero, else of K1 + K2 - depth. A row without a minimum of the overlap is left out.

    Returns:
        Its four entries by rows, and 1 where the first and where the second row are there.
    """
    xx, xy, yy = -depth, depth * 0.0, -depth
    if ti.static(s.round):
        xx1, xy1, yy1 = bends(s, one, rotate_inv(q, t - m), rotate_inv(q, x), rotate_inv(q, y))
        xx2, xy2, yy2 = bends(s, two, m, x, y)
        xx, xy, yy = xx + xx1 + xx2, xy1 + xy2, yy + yy1 + yy2
    is_a, is_b = dot(a, a) > 0.5, dot(b, b) > 0.5
    zero = depth * 0.0
    one_ = zero + 1.0
    # the sphere's Hessian has to be positive where nothing is flat
    small = TINY
    steep = ti.select(is_b, one_, ti.select(is_a, ti.select(yy > small, one_, zero), one_))
    convex = (xx > small) & (xx * yy - xy * xy > small * small)
    there_x = ti.select(is_a, one_, ti.select(convex, one_, zero))
    there_y = ti.select(is_a, steep, ti.select(convex, one_, zero))
    m11, m12 = ti.select(is_a, dot(a, x), ti.select(convex, xx, one_)), ti.select(is_a | ~convex, zero, xy)
    m21, m22 = ti.select(is_b, dot(b, x), xy), ti.select(is_b, dot(b, y), yy)
    m21, m22 = ti.select(there_y > 0.5, m21, zero), ti.select(there_y > 0.5, m22, one_)
    return m11, m12, m21, m22, there_x, there_y


@ti.func
def sharpen(s: ti.template(), one, two, q, f1, f2, n, m, t, a, a1, b, b1, own):
    """One step of Newton's method for m; n is it, too, where own is 1, else (0) it is given.

    Args:
        f1, f2: a vertex of each shape in the axes and about the centre of shape 2, (3, L).

    Returns:
        m, and the two points (3, L).
    """
    x, y = tangents(n, a)
    u = t - m
    x1, x2 = f1 + rotate(q, bulge(s, one, rotate_inv(q, u))), f2 + bulge(s, two, m)
    gap = x2 - x1
    m11, m12, m21, m22, there_x, there_y = system(s, one, two, q, m, t, x, y, a, b, own * dot(n, gap))
    is_a, is_b = dot(a, a) > 0.5, dot(b, b) > 0.5
    along_a, along_b = ti.select(a1 > 0.5, dot(a, u), -dot(a, m)), ti.select(b1 > 0.5, dot(b, u), -dot(b, m))
    r1 = there_x * ti.select(is_a, along_a, -dot(x, gap))
    r2 = there_y * ti.select(is_b, along_b, -dot(y, gap))
    det = m11 * m22 - m12 * m21
    inv = 1.0 / ti.select(ti.abs(det) > TINY, det, 1.0)
    zx, zy = (m22 * r1 - m12 * r2) * inv, (m11 * r2 - m21 * r1) * inv
    m = m + scale(x, ti.max(ti.min(zx, _STEP), -_STEP)) + scale(y, ti.max(ti.min(zy, _STEP), -_STEP))
    # slides, until the points are opposite along n
    sx, sy = -dot(x, gap), -dot(y, gap)
    at_b = ti.select(is_b, sy / ti.select(is_b, dot(b, y), 1.0), 0.0)
    at_a = ti.select(is_a, (sx - at_b * dot(b, x)) / ti.select(is_a, dot(a, x), 1.0), 0.0)
    x1 = x1 - scale(a, a1 * at_a) - scale(b, b1 * at_b)
    x2 = x2 + scale(a, (1.0 - a1) * at_a) + scale(b, (1.0 - b1) * at_b)
    return m, x1, x2


@ti.func
def _transposed(m11, m12, m21, m22, y1, y2):
    """z of (m11 m12; m21 m22)' z = y."""
    det = m11 * m22 - m12 * m21
    inv = 1.0 / ti.select(ti.abs(det) > TINY, det, 1.0)
    return (m22 * y1 - m21 * y2) * inv, (m11 * y2 - m12 * y1) * inv


@ti.func
def adjoint_direction(s: ti.template(), one, two, q, n, m, t, x1, depth, a, a1, b, b1, own, m_bar):
    """The adjoint m_bar of m as the adjoint of y, the moment and the force about shape 2's centre at a fixed y, and the
    adjoint of n. Where own is 1 n is m, and has none of its own.
    """
    x, y = tangents(n, a)
    m11, m12, m21, m22, there_x, there_y = system(s, one, two, q, m, t, x, y, a, b, own * depth)
    is_a, is_b = dot(a, a) > 0.5, dot(b, b) > 0.5
    z1, z2 = _transposed(m11, m12, m21, m22, dot(x, m_bar), dot(y, m_bar))
    z1, z2 = z1 * there_x, z2 * there_y
    pull = scale(x, ti.select(is_a, 0.0, z1)) + scale(y, ti.select(is_b, 0.0, z2))
    turn = scale(a, ti.select(is_a, a1 * z1, 0.0)) + scale(b, ti.select(is_b, b1 * z2, 0.0))
    bent = curve1(s, one, q, m, t, pull)
    y_bar = bent + turn
    flat_n = ti.select(is_a, z1 * dot(a, n), 0.0) + ti.select(is_b, z2 * dot(b, n), 0.0)
    across = flat_n + dot(n, bent + curve2(s, two, m, pull)) - dot(m_bar, n)
    n_bar = scale(pull, depth) + scale(m, across)
    return y_bar, cross(x1, pull), pull, scale(n_bar, 1.0 - own)


@ti.func
def adjoint_point(s: ti.template(), one, two, q, n, m, t, x1, depth, a, a1, b, b1, d_bar, p_bar):
    """Adjoints of depth and point -> that of y, moment and force at a fixed y, adjoints of m and n."""
    x, y = tangents(n, a)
    is_a, is_b = dot(a, a) > 0.5, dot(b, b) > 0.5
    d_bar = d_bar - 0.5 * dot(p_bar, n)
    lift = scale(n, d_bar)
    # of how far points slide along a and b
    ya = dot(a, lift + scale(p_bar, 1.0 - a1))
    yb = dot(b, lift + scale(p_bar, 1.0 - b1))
    za = ti.select(is_a, ya / ti.select(is_a, dot(a, x), 1.0), 0.0)
    zb = ti.select(is_b, (yb - za * dot(b, x)) / ti.select(is_b, dot(b, y), 1.0), 0.0)
    slide = scale(x, za) + scale(y, zb)
    force = slide - lift
    y_bar = curve1(s, one, q, m, t, force)
    m_bar = curve2(s, two, m, p_bar - force) - y_bar
    n_bar = scale(slide - 0.5 * p_bar, depth)
    return y_bar, cross(x1, force), force, m_bar, n_bar
