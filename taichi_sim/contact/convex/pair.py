"""Where any two convex shapes touch, and the exact gradient of that; conventions as in `collide`.

The direction of least overlap is `gjk`'s. Pairs with a sphere or an ellipsoid have one point, all others up to four,
those of `portal`; of points closer to each other than SEAM that in the lowest slot counts. `features` makes all of this
exact. From feature to feature, contact jumps.
"""

from taichi_sim.contact.convex import features, gjk, portal, support
from taichi_sim.lanes.vectors import greatest
from taichi_sim.runtime import procedure, ti
from taichi_sim.spatial import cross, dot, pick, quat_conj, quat_mul, rotate, rotate_inv, scale

# Points that shapes with edges or faces touch in.
SLOTS = 4
# Distance of two points up to which they are one, over the smaller shape's size.
SEAM = 1e-3
# By how much the overlap may be missed before features are not trusted, over the same.
_TRUST = 1e-4
# Share of a corner in the closest point from which on it counts.
_LEAST = 1e-4
_NEWTON = 5


@procedure
def find(m: ti.template(), d: ti.template(), e, k, c1, q1, c2, q2):
    """Finds all contacts of the pair whose first row is k, for `touch` and `turn` of this row and the next ones."""
    one, two = m.contact.pairs.shape1[k], m.contact.pairs.shape2[k]
    r, q = rotate_inv(q2, c1 - c2), quat_mul(quat_conj(q2), q1)
    size, reach, tolerance = (
        m.contact.pairs.size[k],
        m.contact.pairs.reach1[k] + m.contact.pairs.reach2[k],
        m.contact.pairs.tolerance[k],
    )
    touching = m.contact.pairs.radius1[k] + m.contact.pairs.radius2[k] + ti.max(m.contact.pairs.margin[k], 0.0)
    n, h = least_overlap(m, d, e, one, two, r, q, size, tolerance, touching)
    main, points = m.contact.pairs.main[k], m.contact.pairs.points[k]
    for j in range(points + 1):
        d.contact.found.depth[e, main + j] = size * 0.0 - gjk.FAR
    if greatest(h + touching) > 0.0:
        for j in range(points + 1):
            t, ahead, own, good, least = n * 0.0, n, size * 0.0 + 1.0, size > 0.0, _LEAST
            if j > 0:
                t = portal.direction(q, n, j - 1)
                ahead, good = portal.leave(
                    m.contact.shapes, d.contact.triangle, e, one, two, r, q, n, t, size, reach, tolerance
                )
                own, least = size * 0.0, -1.0
            rough, rough1, rough2 = ahead, n * 0.0, n * 0.0
            for i in range(3):
                rough1, rough2 = (
                    rough1 + scale(d.contact.triangle.f1[e, i], d.contact.triangle.share[e, i]),
                    rough2 + scale(d.contact.triangle.f2[e, i], d.contact.triangle.share[e, i]),
                )
            rough1 = rough1 + rotate(q, support.bulge(m.contact.shapes, one, rotate_inv(q, t - ahead)))
            rough2 = rough2 + support.bulge(m.contact.shapes, two, ahead)
            a, a1, b, b1 = features.flats(m.contact.shapes, d.contact.triangle, e, one, two, q, ahead, t, least)
            f1, f2 = largest(d.contact.triangle, e)
            x1, x2 = rough1, rough2
            for _ in range(_NEWTON):
                if j == 0:
                    n = ahead
                ahead, x1, x2 = features.sharpen(m.contact.shapes, one, two, q, f1, f2, n, ahead, t, a, a1, b, b1, own)
                if j == 0:
                    ahead = scale(ahead, 1.0 / ti.sqrt(dot(ahead, ahead)))
            f1, f2, y1, y2 = support.both(m.contact.shapes, one, two, r, q, ahead, t)
            most = dot(ahead, y2 - y1) + dot(t, y1)
            sure = ti.abs(most - dot(ahead, x2 - x1) - dot(t, x1)) < _TRUST * size
            if j == 0:
                sure = sure & (most < h + _TRUST * size)
            # else what was found, without features
            ahead, x1, x2 = pick(sure, ahead, rough), pick(sure, x1, rough1), pick(sure, x2, rough2)
            if j == 0:
                n = ahead
            gap = dot(n, x2 - x1)
            p = 0.5 * (x1 + x2 + scale(n, m.contact.pairs.radius2[k] - m.contact.pairs.radius1[k]))
            for i in range(1, j):
                gone = p - d.contact.found.p[e, main + i]
                other = (d.contact.found.depth[e, main + i] > -0.5 * gjk.FAR) & (
                    dot(gone, gone) < SEAM * SEAM * size * size
                )
                good = good & ~other
            d.contact.found.depth[e, main + j] = ti.select(
                good, gap + m.contact.pairs.radius1[k] + m.contact.pairs.radius2[k], size * 0.0 - gjk.FAR
            )
            d.contact.found.n[e, main + j] = n
            d.contact.found.p[e, main + j] = p
            d.contact.found.gap[e, main + j] = gap
            d.contact.found.ahead[e, main + j] = ahead
            d.contact.found.tilt[e, main + j] = t
            d.contact.found.x1[e, main + j] = x1
            d.contact.found.a[e, main + j] = a
            d.contact.found.b[e, main + j] = b
            d.contact.found.a1[e, main + j] = a1
            d.contact.found.b1[e, main + j] = b1
            d.contact.found.own[e, main + j] = own
        if points > 0:
            fall_back(d, e, main)


@ti.func
def least_overlap(m: ti.template(), d: ti.template(), e, one, two, r, q, size, tolerance, touching):
    """The direction of least overlap, and the overlap; where all lanes' shapes are farther apart than `touching`, some
    direction along which they are. Leaves its triangle in contact.triangle.
    """
    h, n, first = size * 0.0 + gjk.FAR, r * 0.0, r * 0.0
    for _ in range(2):
        # apart, there is one minimum only
        if greatest(h) > 0.0:
            trial, overlap = gjk.start(m.contact.shapes, one, two, r, q, first)
            first = trial
            if greatest(overlap + touching) > 0.0:
                trial, overlap = gjk.descend(
                    m.contact.shapes, d.contact.triangle, e, one, two, r, q, trial, size, tolerance
                )
            better = overlap < h - tolerance
            n, h = pick(better, trial, n), ti.select(better, overlap, h)
            for i in range(3):
                d.contact.kept.f1[e, i] = pick(better, d.contact.triangle.f1[e, i], d.contact.kept.f1[e, i])
                d.contact.kept.f2[e, i] = pick(better, d.contact.triangle.f2[e, i], d.contact.kept.f2[e, i])
                d.contact.kept.share[e, i] = ti.select(
                    better, d.contact.triangle.share[e, i], d.contact.kept.share[e, i]
                )
    for i in range(3):
        d.contact.triangle.f1[e, i] = d.contact.kept.f1[e, i]
        d.contact.triangle.f2[e, i] = d.contact.kept.f2[e, i]
        d.contact.triangle.share[e, i] = d.contact.kept.share[e, i]
    return n, h


@ti.func
def largest(w: ti.template(), e):
    """The vertices of the corner that has the largest share."""
    f1, f2, most = w.f1[e, 0], w.f2[e, 0], w.share[e, 0]
    for i in range(1, 3):
        more = w.share[e, i] > most
        f1, f2, most = pick(more, w.f1[e, i], f1), pick(more, w.f2[e, i], f2), ti.max(most, w.share[e, i])
    return f1, f2


@procedure
def fall_back(d: ti.template(), e, main):
    """Where no point of a pair counts, that of the least overlap takes the first one's place."""
    none = d.contact.found.depth[e, main + 1] < -0.5 * gjk.FAR
    for i in range(2, SLOTS + 1):
        none = none & (d.contact.found.depth[e, main + i] < -0.5 * gjk.FAR)
    for entry in ti.static(
        (d.contact.found.depth, d.contact.found.gap, d.contact.found.a1, d.contact.found.b1, d.contact.found.own)
    ):
        entry[e, main + 1] = ti.select(none, entry[e, main], entry[e, main + 1])
    for entry in ti.static(
        (
            d.contact.found.p,
            d.contact.found.ahead,
            d.contact.found.tilt,
            d.contact.found.x1,
            d.contact.found.a,
            d.contact.found.b,
        )
    ):
        entry[e, main + 1] = pick(none, entry[e, main], entry[e, main + 1])


@ti.func
def touch(m: ti.template(), d: ti.template(), e, k, c2, q2):
    """Depth [m] (L), far below 0 where there is no contact; normal (3, L), point [m] (3, L) of the pairs' row k."""
    row = m.contact.pairs.row[k]
    return (
        d.contact.found.depth[e, row],
        rotate(q2, d.contact.found.n[e, row]),
        c2 + rotate(q2, d.contact.found.p[e, row]),
    )


@ti.func
def adjoint_touch(m: ti.template(), d: ti.template(), e, k, c1, q1, c2, q2, d_bar, n_bar, p_bar):
    """Gradient of `touch` by a displacement of geom 1: (moment, force), each (3, L)."""
    one, two, row = m.contact.pairs.shape1[k], m.contact.pairs.shape2[k], m.contact.pairs.row[k]
    q = quat_mul(quat_conj(q2), q1)
    n_bar, p_bar = rotate_inv(q2, n_bar), rotate_inv(q2, p_bar)
    n_bar = n_bar + scale(p_bar, 0.5 * (m.contact.pairs.radius2[k] - m.contact.pairs.radius1[k]))
    n, own = d.contact.found.n[e, row], d.contact.found.own[e, row]
    y_bar, moment, force, m_bar, more = features.adjoint_point(
        m.contact.shapes,
        one,
        two,
        q,
        n,
        d.contact.found.ahead[e, row],
        d.contact.found.tilt[e, row],
        d.contact.found.x1[e, row],
        d.contact.found.gap[e, row],
        d.contact.found.a[e, row],
        d.contact.found.a1[e, row],
        d.contact.found.b[e, row],
        d.contact.found.b1[e, row],
        d_bar,
        p_bar,
    )
    n_bar = n_bar + more + scale(m_bar, own)
    # of the direction ahead, then of the normal
    bar, at, is_n = scale(m_bar, 1.0 - own), row, own * 0.0
    for step in range(2):
        if step == 1:
            bar, at, is_n, y_bar = n_bar, m.contact.pairs.main[k], own * 0.0 + 1.0, n * 0.0
        y_k, m_k, f_k, more = features.adjoint_direction(
            m.contact.shapes,
            one,
            two,
            q,
            n,
            d.contact.found.ahead[e, at],
            d.contact.found.tilt[e, at],
            d.contact.found.x1[e, at],
            d.contact.found.gap[e, at],
            d.contact.found.a[e, at],
            d.contact.found.a1[e, at],
            d.contact.found.b[e, at],
            d.contact.found.b1[e, at],
            is_n,
            bar,
        )
        y_bar = y_bar + y_k
        seen = portal.adjoint_direction(q, n, d.contact.found.tilt[e, at], y_bar)
        moment = moment + m_k + cross(d.contact.found.ahead[e, at], y_bar) - cross(n, seen)
        force, n_bar = force + f_k, n_bar + more + seen
    force = rotate(q2, force)
    return rotate(q2, moment) + cross(c2, force), force
