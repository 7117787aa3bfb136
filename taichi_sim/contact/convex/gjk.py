"""The direction in which two convex shapes overlap least, or in which they are closest.

With h(n) the overlap along a unit vector n, that is how far shape 2 reaches along n less where shape 1 begins, both are
the minimum of h: below zero its negative is the distance. Of C, the differences of points of shape 2 and of shape 1,
h(n) is the reach along n, and the minimum belongs to the point of C's surface that is closest to the origin.

From outside of C that point is found by the algorithm of Gilbert, Johnson and Keerthi (IEEE J. Robotics and Automation
4, 1988), with triangles of points of C. From inside, and next to the surface where the direction would be lost to
rounding, we look from the point (h(n) + clearance) n, which is outside of C whatever n is, and which follows the best n
so far. An n that is found so is no worse than the last: seen from there, C is no nearer than the clearance. That is a
descent, so where shapes overlap it begins from the two best of some directions that they know (`shapes`).
"""

from taichi_sim.contact.collide import TINY, clamp
from taichi_sim.contact.convex.support import both
from taichi_sim.lanes.vectors import greatest, stack
from taichi_sim.runtime import procedure, ti
from taichi_sim.spatial import dot, pick, rotate, scale

FAR = 1e9
# Of the smaller shape's size: what `clearance` is above.
_CLEARANCE = 0.15
_ITERATIONS = 60
# Cosine of the angle between directions above which they are one beginning.
_SAME = 0.9


@ti.func
def start(s: ti.template(), one, two, r, q, avoid):
    """The best of the directions that the shapes know and of that between their centres, but those close to `avoid`.

    Returns:
        The direction (3, L), and the overlap along it (L).
    """
    n, h = r, r[0, :] * 0.0 + FAR
    for k in range(s.facenum[one] + s.facenum[two] + 1):
        # centres that coincide have no direction between them
        trial = pick(dot(r, r) > TINY, r, r * 0.0 + 1.0)
        if 0 < k <= s.facenum[one]:
            trial = -rotate(q, s.face[s.faceadr[one] + k - 1])
        if k > s.facenum[one]:
            trial = s.face[s.faceadr[two] + k - 1 - s.facenum[one]]
        trial = scale(trial, 1.0 / ti.sqrt(dot(trial, trial)))
        _f1, _f2, x1, x2 = both(s, one, two, r, q, trial, r * 0.0)
        overlap = dot(trial, x2 - x1)
        better = (overlap < h) & (dot(trial, avoid) < _SAME)
        n, h = pick(better, trial, n), ti.select(better, overlap, h)
    return n, h


@ti.func
def descend(s: ti.template(), w: ti.template(), e, one, two, r, q, n, size, tolerance):
    """From n to a direction of least overlap near it.

    Args:
        w: scratch for the corners of a triangle: points of C in w.c, the vertices that made them in w.f1 and w.f2, and
            weights that make them the point of C that n belongs to in w.share.
        size, tolerance: the smaller shape's size, and how exact the overlap is to be [m], (L) each.

    Returns:
        The direction (3, L), and the overlap along it (L).
    """
    h, best, origin = size * 0.0 + FAR, n, n * 0.0
    at, working = scale(n, -h), size * 0.0 + 1.0
    for step in range(_ITERATIONS):
        if greatest(working) > 0.0:
            f1, f2, x1, x2 = both(s, one, two, r, q, n, n * 0.0)
            c = x2 - x1
            if step == 0:
                for k in range(3):
                    w.c[e, k] = c
                    w.f1[e, k] = f1
                    w.f2[e, k] = f2
            reach = dot(c, n)
            better = (reach < h) & (working > 0.0)
            h, best = ti.select(better, reach, h), pick(better, n, best)
            moved = scale(best, ti.max(h + _CLEARANCE * size, 0.0)) - origin
            origin = origin + moved
            done = (reach - dot(at, n) < tolerance) & (dot(moved, moved) < tolerance * tolerance)
            working = ti.select(done, 0.0, working)
            nearest, chosen = size * 0.0 + FAR, size * 0.0
            a, b, g = size * 0.0, size * 0.0, size * 0.0
            for k in range(3):
                # the triangle without its corner k
                y0, y1, y2 = w.c[e, 0] - origin, w.c[e, 1] - origin, w.c[e, 2] - origin
                if k == 0:
                    y0 = c - origin
                if k == 1:
                    y1 = c - origin
                if k == 2:
                    y2 = c - origin
                a_k, b_k, g_k, distance2 = _triangle(y0, y1, y2)
                closer = distance2 < nearest
                nearest, chosen = ti.min(distance2, nearest), ti.select(closer, 1.0 * k, chosen)
                a, b, g = ti.select(closer, a_k, a), ti.select(closer, b_k, b), ti.select(closer, g_k, g)
            keep(w, e, chosen, working > 0.0, c, f1, f2)
            shares = stack([a, b, g])
            at = at * 0.0
            for k in ti.static(range(3)):
                w.share[e, k] = ti.select(working > 0.0, shares[k, :], w.share[e, k])
                at = at + scale(w.c[e, k], w.share[e, k])
            toward = origin - at
            toward = scale(toward, 1.0 / ti.sqrt(dot(toward, toward) + TINY))
            n = pick(working > 0.0, toward, n)
    return best, h


@procedure
def keep(w: ti.template(), e, chosen, where, c, f1, f2):
    """Puts a point of C in the place of corner `chosen` (L)."""
    for k in range(3):
        here = where & (ti.abs(chosen - k) < 0.5)
        w.c[e, k] = pick(here, c, w.c[e, k])
        w.f1[e, k] = pick(here, f1, w.f1[e, k])
        w.f2[e, k] = pick(here, f2, w.f2[e, k])


@ti.func
def _triangle(a, b, c):
    """Weights of the corners that make a triangle's point closest to the origin, and that point's squared distance."""
    u, v = b - a, c - a
    uu, uv, vv = dot(u, u), dot(u, v), dot(v, v)
    au, av = -dot(a, u), -dot(a, v)
    det = uu * vv - uv * uv
    proper = det > 1e-12 * uu * vv + TINY
    inv = 1.0 / ti.select(proper, det, 1.0)
    y, z = (vv * au - uv * av) * inv, (uu * av - uv * au) * inv
    x = 1.0 - y - z
    within = proper & (x >= 0.0) & (y >= 0.0) & (z >= 0.0)
    p = a + scale(u, y) + scale(v, z)
    distance2 = ti.select(within, dot(p, p), FAR)
    zero = x * 0.0
    s, d2 = _segment(a, b)
    edge = d2 < distance2
    x, y, z, distance2 = (
        ti.select(edge, 1 - s, x),
        ti.select(edge, s, y),
        ti.select(edge, zero, z),
        ti.min(d2, distance2),
    )
    s, d2 = _segment(b, c)
    edge = d2 < distance2
    x, y, z, distance2 = (
        ti.select(edge, zero, x),
        ti.select(edge, 1 - s, y),
        ti.select(edge, s, z),
        ti.min(d2, distance2),
    )
    s, d2 = _segment(c, a)
    edge = d2 < distance2
    x, y, z, distance2 = (
        ti.select(edge, s, x),
        ti.select(edge, zero, y),
        ti.select(edge, 1 - s, z),
        ti.min(d2, distance2),
    )
    return x, y, z, distance2


@ti.func
def _segment(a, b):
    """Weight of b in the point of a segment that is closest to the origin, and that point's squared distance."""
    u = b - a
    s = 0.5 + 0.5 * clamp(-2.0 * dot(a, u) / (dot(u, u) + TINY) - 1.0)
    p = a + scale(u, s)
    return s, dot(p, p)
