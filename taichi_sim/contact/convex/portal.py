"""Where two convex shapes that lie on each other touch in one of four directions.

Of all pairs of a point x1 of shape 1 and a point x2 of shape 2 that are opposite to each other along the normal n,
x2 - x1 = depth n, the one that is sought has most of

    depth + t . x1

with a short vector t across n: if faces lie on each other, the corner of their overlap that is furthest along t; if
shape 1 is tilted by more than t is long, the deepest point. Of the differences x2 - x1 + (t . x1) n, a convex body C,
it is where the line through the origin along n leaves C. A triangle of points of C that the line passes through is
refined until C has nothing beyond its plane (G. Snethen, XenoCollide, in Game Programming Gems 7, 2008; there it
begins from a point inside of C).
"""

from taichi_sim.contact.convex.gjk import keep
from taichi_sim.contact.convex.support import both
from taichi_sim.lanes.vectors import greatest
from taichi_sim.runtime import ti
from taichi_sim.spatial import basis, cross, dot, pick, quat_axis, scale

# Length of t: the tilt [rad] beyond which shapes do not lie on each other any more.
TILT = 0.03
# Cosine and sine of the angle between t and an axis of shape 1: no direction of a body's own.
_COSINE, _SINE = 0.629, 0.777
_ITERATIONS = 40
# Of the smaller shape's size: how far the line passes from the origin, so that it goes through no edge of C.
_ASIDE = 1e-6


@ti.func
def frame(q, n):
    """Two unit vectors across n, the first as close to an axis of shape 1 as can be, and the cotangent of the angle
    between that axis and n. Unless n is along it the axis is the third: a cylinder may roll. q is its orientation.
    """
    x, z = quat_axis(q, 0), quat_axis(q, 2)
    axis = pick(ti.abs(dot(n, z)) > 0.8, x, z)
    across = axis - scale(n, dot(n, axis))
    inv = 1.0 / ti.sqrt(dot(across, across))
    across = scale(across, inv)
    return across, cross(n, across), dot(n, axis) * inv


@ti.func
def direction(q, n, k):
    """The vector t of point k, 0 to 3, across n, with shape 1 in the orientation q."""
    a, b, _cotangent = frame(q, n)
    along, aside = TILT * _COSINE, TILT * _SINE
    if k % 2 == 1:
        along, aside = -TILT * _SINE, TILT * _COSINE
    if k > 1:
        along, aside = -along, -aside
    return a * along + b * aside


@ti.func
def adjoint_direction(q, n, t, t_bar):
    """The adjoint of n, as shape 1 sees it, from that of t."""
    _a, b, cotangent = frame(q, n)
    return -scale(b, cotangent * dot(cross(n, t), t_bar)) - scale(t, dot(n, t_bar))


@ti.func
def leave(s: ti.template(), w: ti.template(), e, one, two, r, q, n, t, size, reach, tolerance):
    """The triangle of C in which the line along n leaves it.

    Args:
        w: as in `gjk.descend`; the weights are those of the point on the line.
        n, t: in the axes of shape 2, (3, L).
        size, reach: the smaller shape's size, and that of both together [m], (L).
        tolerance: how exact the depth is to be [m], (L).

    Returns:
        The triangle's normal, of which n . normal = 1, (3, L); and whether the line meets C, (L).
    """
    ax = cross(n, pick(ti.abs(n[0, :]) < 0.6, basis(n, 0), basis(n, 1)))
    ax = scale(ax, 1.0 / ti.sqrt(dot(ax, ax)))
    ay = cross(n, ax)
    aside = scale(ax * 0.83 + ay * 0.55, _ASIDE * size)
    # a triangle so low that C takes its place wherever it has anything
    false = size * 0.0 + 7.0
    for k in range(3):
        cosine, sine = 1.0, 0.0
        if k == 1:
            cosine, sine = -0.5, 0.8660254
        if k == 2:
            cosine, sine = -0.5, -0.8660254
        w.c[e, k] = scale(ax * cosine + ay * sine, 4.0 * reach) - scale(n, 40.0 * reach)
        w.f1[e, k] = n * 0.0
        w.f2[e, k] = n * 0.0
    out, working = n, size * 0.0 + 1.0
    for _ in range(_ITERATIONS):
        if greatest(working) > 0.0:
            a, b, c = w.c[e, 0], w.c[e, 1], w.c[e, 2]
            m = cross(b - a, c - a)
            out = pick(working > 0.0, scale(m, 1.0 / ti.max(dot(m, n), 1e-20)), out)
            f1, f2, x1, x2 = both(s, one, two, r, q, out, t)
            y = x2 - x1 + scale(n, dot(t, x1)) - aside
            working = ti.select(dot(out, y - a) < tolerance, 0.0, working)
            # through which of the three triangles with the new point the line passes
            m = cross(n, y)
            sa, sb, sc = dot(m, a), dot(m, b), dot(m, c)
            fit_a, fit_b, fit_c = ti.min(sb, -sc), ti.min(sc, -sa), ti.min(sa, -sb)
            chosen = ti.select((fit_b >= fit_a) & (fit_b >= fit_c), size * 0.0 + 1.0, size * 0.0)
            chosen = ti.select((fit_c > fit_a) & (fit_c > fit_b), size * 0.0 + 2.0, chosen)
            keep(w, e, chosen, working > 0.0, y, f1, f2)
            bit = ti.select(chosen > 1.5, 4.0, ti.select(chosen > 0.5, 2.0, 1.0))
            left = ti.floor(false / bit)
            had = left - 2.0 * ti.floor(0.5 * left)
            false = ti.select(working > 0.0, false - bit * had, false)
    a, b, c = w.c[e, 0], w.c[e, 1], w.c[e, 2]
    sa, sb, sc = dot(n, cross(b, c)), dot(n, cross(c, a)), dot(n, cross(a, b))
    inv = 1.0 / ti.max(sa + sb + sc, 1e-20)
    w.share[e, 0] = sa * inv
    w.share[e, 1] = sb * inv
    w.share[e, 2] = sc * inv
    return out, false < 0.5
