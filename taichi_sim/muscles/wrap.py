"""The length of a tendon's path past a sphere or a cylinder, with first and second derivatives.

Everything is in the geom's own frame: origin at its centre, a cylinder's axis along z. A sphere's path lies in the
plane of its two end points and the centre; a cylinder's is a circle's path in the xy plane, unrolled into a straight
line with the height. So all is decided on a circle of radius R in a plane, the way MuJoCo 4's mju_wrap does:

* Outside, no side site: the path wraps where the straight line would enter the circle, the short way round.
* Outside, with a side site: it goes from the first point's direction to the side site's and on to the second point's.
  That is either the short way, and it wraps as above, or the long one of more than half a turn, and it always wraps.
* Inside (the side site is closer to the centre than R): the path touches the circle at the one point where it is
  stationary, unless the straight line enters the circle.
* Straight: where a point is inside of the circle, or nothing above applies.

A path that wraps is stationary in the points where it meets the circle, so the gradient need not know how these move.
Outside, with rho_k = |r_k|, s_k = sqrt(rho_k^2 - R^2) and gamma the angle swept from one point to the other,

    P = s_1 + s_2 + R (gamma - acos(R / rho_1) - acos(R / rho_2)),  dP/drho_k = s_k / rho_k,  dP/dgamma = R.

Second derivatives grow without bound towards a point on the surface, and where a sphere's path has no plane of its own;
NEAR ends that growth. Nothing is NaN for finite input.
"""

from taichi_sim.lanes.vectors import greatest, stack
from taichi_sim.runtime import ti
from taichi_sim.spatial import basis, cross, dot, scale, sin_cos

# Kinds of a wrapping object: a geom, plus INSIDE where its side site is closer to its centre than its radius.
SPHERE, CYLINDER, INSIDE = 0, 1, 2

# Second derivatives do not grow beyond those at a distance of NEAR radii from the point of contact, or at a sine of
# NEAR between the directions of a sphere's two points.
NEAR = 1e-4

# MuJoCo's mjMINVAL: what is shorter has no length.
_MINVAL = 1e-15

# Smaller than any square that matters; a normal number in f32.
_TINY = 1e-30

# MuJoCo's search for the point of an inside wrap: when it is content, when it gives up. A search to the last digit
# would be better, but its gradients would differ from MuJoCo's by up to this tolerance.
_NEWTON_TOLERANCE = 1e-6
_NEWTON_STEPS = 20

# Sine below which an inside wrap's ends count as of one direction.
_ONE_WAY = 1e-3

# Squared cosine that stands for none: below every other, and its square's square is a number in f32.
_GRAZING = 1e-18

_TURN = 6.283185307179586


@ti.func
def path(kind, r1, r2, radius, side, sided):
    """Length of the path from r1 to r2, and its gradient.

    Args:
        kind: SPHERE or CYLINDER, plus INSIDE for an inside wrap; the same in all lanes.
        r1, r2: end points in the geom's frame [m], (3, L).
        radius: the geom's [m], one number.
        side: the side site in the geom's frame [m], (3, L).
        sided: whether there is a side site, 1 or 0; without one, `side` is of no account.

    Returns:
        1.0 where the path wraps, else 0.0 (L); its length [m] (L); the gradients by r1 and r2, (3, L) each, which are
        unit vectors that lead out of the path's ends; zero where the two points coincide.
    """
    along, aside = _axes(kind, r1, r2)
    x1, y1, x2, y2 = dot(r1, along), dot(r1, aside), dot(r2, along), dot(r2, aside)
    sx, sy = dot(side, along), dot(side, aside)
    wraps, flat, g, _s1, _s2, _m1, _m2, _slip, _pull, _k1, _k2 = _flat_path(kind, x1, y1, x2, y2, radius, sx, sy, sided)
    wraps = wraps * _apart(r1, r2)

    h = 0.0 * flat
    if kind % INSIDE == CYLINDER:
        h = r2[2, :] - r1[2, :]
    wrapped = ti.sqrt(flat * flat + h * h)
    inv = 1.0 / ti.max(wrapped, _MINVAL)
    ez = cross(along, aside)
    w1 = scale(_lift(along, aside, g[0, :], g[1, :]), flat * inv) - scale(ez, h * inv)
    w2 = scale(_lift(along, aside, g[2, :], g[3, :]), flat * inv) + scale(ez, h * inv)

    d = r2 - r1
    straight = ti.sqrt(dot(d, d))
    line = scale(d, (1.0 - wraps) / ti.max(straight, _MINVAL))
    return wraps, ti.select(wraps > 0.5, wrapped, straight), scale(w1, wraps) - line, scale(w2, wraps) + line


@ti.func
def curvature(kind, r1, r2, radius, side, sided, d1, d2):
    """The Hessian of `path`'s length times (d1, d2): the gradient by r1 and r2 of d1 . g1 + d2 . g2.

    Exact but for what NEAR bounds. For inside wraps, that is of the point of contact where MuJoCo's search ends: it is
    off the stationary one by the search's tolerance, and the Hessian symmetric up to that.

    Args:
        kind, r1, r2, radius, side, sided: as for `path`.
        d1, d2: (3, L).

    Returns:
        The parts of r1 and r2, (3, L) each, in units of (d1, d2) per metre.
    """
    along, aside = _axes(kind, r1, r2)
    x1, y1, x2, y2 = dot(r1, along), dot(r1, aside), dot(r2, along), dot(r2, aside)
    sx, sy = dot(side, along), dot(side, aside)
    wraps, flat, g, s1, s2, m1, m2, slip, pull, k1, k2 = _flat_path(kind, x1, y1, x2, y2, radius, sx, sy, sided)
    wraps = wraps * _apart(r1, r2)
    u1, v1, u2, v2 = g[0, :], g[1, :], g[2, :], g[3, :]
    normal = cross(along, aside)
    n1, n2 = dot(d1, normal), dot(d2, normal)

    # in the plane each end turns with the part of its motion that is across it, and with the point of contact's slip
    px1, py1, px2, py2 = dot(d1, along), dot(d1, aside), dot(d2, along), dot(d2, aside)
    q1, q2 = py1 * u1 - px1 * v1, py2 * u2 - px2 * v2
    back = m1 * q1 + m2 * q2
    q1, q2 = q1 / s1, q2 / s2
    eu1, ev1 = -q1 * v1 - slip[0, :] * back, q1 * u1 - slip[1, :] * back
    eu2, ev2 = -q2 * v2 - slip[2, :] * back, q2 * u2 - slip[3, :] * back

    en1, en2 = 0.0 * n1, 0.0 * n2
    if kind % INSIDE == CYLINDER:
        h = r2[2, :] - r1[2, :]
        inv = 1.0 / ti.max(ti.sqrt(flat * flat + h * h), _MINVAL)
        c, s = flat * inv, h * inv
        # the unrolled path turns by this, and its length across its own direction is unchanged
        rate = (px1 * u1 + py1 * v1 + px2 * u2 + py2 * v2) * s - (n2 - n1) * c
        eu1, ev1, eu2, ev2 = c * eu1, c * ev1, c * eu2, c * ev2
        turn = rate * inv
        st = s * turn
        eu1, ev1 = eu1 + st * (u1 + pull * slip[0, :]), ev1 + st * (v1 + pull * slip[1, :])
        eu2, ev2 = eu2 + st * (u2 + pull * slip[2, :]), ev2 + st * (v2 + pull * slip[3, :])
        en1, en2 = c * turn, -c * turn
    else:
        # out of its plane a sphere's path tilts: the plane follows both points
        rho1, rho2 = _norm(x1, y1), _norm(x2, y2)
        tilt1, tilt2, cosine = n1 / rho1, n2 / rho2, (x1 * x2 + y1 * y2) / (rho1 * rho2)
        en1 = (tilt1 * (x1 * u1 + y1 * v1 + k1 * cosine) - tilt2 * k2) / rho1
        en2 = (tilt2 * (x2 * u2 + y2 * v2 + k2 * cosine) - tilt1 * k1) / rho2

    w1 = _lift(along, aside, eu1, ev1) + scale(normal, en1)
    w2 = _lift(along, aside, eu2, ev2) + scale(normal, en2)
    d = r2 - r1
    straight = ti.sqrt(dot(d, d))
    inv = ti.select(straight > _MINVAL, (1.0 - wraps) / ti.max(straight, _MINVAL), 0.0 * straight)
    line = scale(d, 1.0 / ti.max(straight, _MINVAL))
    across = scale(d2 - d1 - scale(line, dot(line, d2 - d1)), inv)
    return scale(w1, wraps) - across, scale(w2, wraps) + across


# The plane


@ti.func
def _axes(kind, r1, r2):
    """Two orthogonal unit vectors, (3, L) each, that span the plane in which the path is a circle's."""
    along, aside = basis(r1, 0), basis(r1, 1)
    if kind % INSIDE == SPHERE:
        along = scale(r1, 1.0 / ti.max(ti.sqrt(dot(r1, r1)), _MINVAL))
        n = cross(r1, r2)
        length = ti.sqrt(dot(n, n))
        second = cross(scale(n, 1.0 / ti.max(length, _MINVAL)), along)
        # Of opposite or like points the normal is rounding noise, which may well point along them: then any plane will
        # do, and MuJoCo's goes through the diagonal of the two smaller axes; or across x, where r1 lies on that.
        norm = ti.sqrt(dot(second, second))
        other = _diagonal(along)
        other = other - scale(along, dot(along, other))
        across_x = cross(basis(r1, 0), along)
        lies = dot(other, other) < 1e-6
        for i in ti.static(range(3)):
            noise = (length < _MINVAL) | (norm < 0.5)
            aside[i, :] = ti.select(noise, ti.select(lies, across_x[i, :], other[i, :]), second[i, :])
        aside = scale(aside, 1.0 / ti.max(ti.sqrt(dot(aside, aside)), _MINVAL))
    return along, aside


@ti.func
def _diagonal(a):
    """(1, 1, 1) with zero in place of a's largest component."""
    x, y, z = ti.abs(a[0, :]), ti.abs(a[1, :]), ti.abs(a[2, :])
    zero = 0.0 * x
    one = zero + 1.0
    is_y, is_z = (y > x) & (y > z), (z > x) & (z > y)
    return stack([ti.select(is_y | is_z, one, zero), ti.select(is_y, zero, one), ti.select(is_z, zero, one)])


@ti.func
def _lift(along, aside, u, v):
    return scale(along, u) + scale(aside, v)


@ti.func
def _apart(r1, r2):
    """1.0 where both points are away from the geom's centre."""
    one = 0.0 * r1[0, :] + 1.0
    return ti.select((dot(r1, r1) < _TINY) | (dot(r2, r2) < _TINY), 0.0 * one, one)


@ti.func
def _norm(x, y):
    """Length of a plane vector, never zero."""
    return ti.sqrt(ti.max(x * x + y * y, _TINY))


# The circle, in that plane


@ti.func
def _flat_path(kind, x1, y1, x2, y2, radius, sx, sy, sided):
    """The path in the plane, and what its second derivatives are made of.

    Returns:
        Whether it wraps (L); its length (L); its gradients (4, L), two unit vectors; the lengths of its straight parts,
        no shorter than NEAR radii, (L) each; how much each of these turns while the point of contact goes round by one
        radian, (L) each; the gradient of that point's angle (4, L), and the derivative of the length by it (L), both
        zero outside; the derivative of the length by the angle between the two ends, as seen from each of them, over
        that angle's sine, (L) each.
    """
    zero = 0.0 * x1
    none = stack([zero, zero, zero, zero])
    wraps, flat, g, s1, s2, m1, m2 = zero, zero, none, zero, zero, zero, zero
    slip, pull, k1, k2 = none, zero, zero, zero
    if kind >= INSIDE:
        wraps, flat, g, s1, s2, m1, m2, slip, pull, k1, k2 = _inside(x1, y1, x2, y2, radius)
    else:
        wraps, flat, g, s1, s2, k1 = _outside(x1, y1, x2, y2, radius, sx, sy, sided)
        k2 = k1
    return wraps, flat, g, s1, s2, m1, m2, slip, pull, k1, k2


@ti.func
def _outside(x1, y1, x2, y2, radius, sx, sy, sided):
    """`_flat_path` around a circle; without the values that are zero, and both ends see the same."""
    wraps, turn, long, t1, t2 = _wrap_circle(x1, y1, x2, y2, radius, sx, sy, sided)
    flat = t1 + t2 + radius * _arc(x1, y1, x2, y2, radius, t1, t2, turn, long)
    inv1, inv2 = 1.0 / ti.max(x1 * x1 + y1 * y1, _TINY), 1.0 / ti.max(x2 * x2 + y2 * y2, _TINY)
    c = radius * turn
    u1, v1 = (t1 * x1 + c * y1) * inv1, (t1 * y1 - c * x1) * inv1
    u2, v2 = (t2 * x2 - c * y2) * inv2, (t2 * y2 + c * x2) * inv2
    s1, s2 = ti.max(t1, NEAR * radius + _MINVAL), ti.max(t2, NEAR * radius + _MINVAL)
    sine = ti.abs(x1 * y2 - y1 * x2) * ti.sqrt(inv1 * inv2)
    k = radius * (1.0 - 2.0 * long) / ti.max(sine, NEAR)
    return wraps, flat, stack([u1, v1, u2, v2]), s1, s2, k


@ti.func
def _inside(x1, y1, x2, y2, radius):
    """`_flat_path` from outside of a ring to a point inside of it and out again."""
    touches, nx, ny, slip = _touch(x1, y1, x2, y2, radius)
    ax, ay, bx, by = x1 - radius * nx, y1 - radius * ny, x2 - radius * nx, y2 - radius * ny
    a, b = _norm(ax, ay), _norm(bx, by)
    u1, v1, u2, v2 = ax / a, ay / a, bx / b, by / b
    s1, s2 = ti.max(a, NEAR * radius), ti.max(b, NEAR * radius)
    m1, m2 = radius * (u1 * nx + v1 * ny) / s1, radius * (u2 * nx + v2 * ny) / s2
    pull = radius * ((u1 + u2) * ny - (v1 + v2) * nx)

    rho1, rho2 = _norm(x1, y1), _norm(x2, y2)
    sine = (x1 * y2 - y1 * x2) / (rho1 * rho2)
    apart = ti.abs(sine) > _ONE_WAY
    inv = radius / ti.select(apart, sine, 0.0 * sine + _ONE_WAY)
    # Ends of almost one direction: both sines are mostly rounding. In a stationary point both values are this one.
    k = radius * rho1 * rho2 / ti.max(a * (x2 * nx + y2 * ny) + b * (x1 * nx + y1 * ny), _TINY)
    k1 = ti.select(apart, inv * (x1 * ny - y1 * nx) / a, k)
    k2 = ti.select(apart, inv * (nx * y2 - ny * x2) / b, k)
    return touches, a + b, stack([u1, v1, u2, v2]), s1, s2, m1, m2, slip, pull, k1, k2


@ti.func
def _wrap_circle(x1, y1, x2, y2, radius, sx, sy, sided):
    """How a path from outside wraps around a circle.

    Returns, each (L): whether it does; the way it turns, 1.0 counter-clockwise or -1.0; whether it goes the long way
    round; the lengths of its two tangents.
    """
    zero = 0.0 * x1
    one = zero + 1.0
    rho1, rho2 = _norm(x1, y1), _norm(x2, y2)
    dx, dy = x2 - x1, y2 - y1
    dd = dx * dx + dy * dy
    outside = (rho1 >= radius) & (rho2 >= radius) & (dd >= _MINVAL) & (one * radius >= _MINVAL)
    hidden = _distance(x1, y1, x2, y2) <= radius

    # a point exactly opposite of the side site could go either way: what includes zero below is a choice
    sx = ti.select(sx * sx + sy * sy < _TINY, one, sx)
    to_side, from_side, direct = x1 * sy - y1 * sx, sx * y2 - sy * x2, x1 * y2 - y1 * x2
    counter_clockwise = (to_side > 0.0) & (from_side >= 0.0) & (direct < 0.0)
    clockwise = (to_side <= 0.0) & (from_side < 0.0) & (direct > 0.0)
    long = ti.select(counter_clockwise | clockwise, one, zero) * sided

    turn = ti.select(direct >= 0.0, one, -one) * (1.0 - 2.0 * long)
    wraps = ti.select(outside & (hidden | (long > 0.5)), one, zero)
    # (rho - R)(rho + R): the difference of the squares would cancel near the surface
    t1 = ti.sqrt(ti.max((rho1 - radius) * (rho1 + radius), 0.0))
    t2 = ti.sqrt(ti.max((rho2 - radius) * (rho2 + radius), 0.0))
    return wraps, turn, long, t1, t2


@ti.func
def _arc(x1, y1, x2, y2, radius, t1, t2, turn, long):
    """Angle [rad] of the arc between a path's two tangent points.

    One atan2 of the two points instead of the difference of three angles, which would cancel.
    """
    across1, across2 = turn * t1, -turn * t2
    ax, ay = radius * x1 - across1 * y1, radius * y1 + across1 * x1
    bx, by = radius * x2 - across2 * y2, radius * y2 + across2 * x2
    inner = ax * bx + ay * by
    angle = _atan2(turn * (ax * by - ay * bx), inner)
    # a little less than nothing is rounding, unless it is a little less than a whole turn
    beyond = (inner < 0.0) | ((long > 0.5) & (x1 * x2 + y1 * y2 > 0.0))
    return ti.select(angle >= 0.0, angle, ti.select(beyond, angle + _TURN, 0.0 * angle))


@ti.func
def _touch(x1, y1, x2, y2, radius):
    """Where a path touches a circle from inside of a ring, though both of its ends are outside.

    There the angles x to the circle's normal are equal: asin(a sin x) + asin(b sin x) - 2 x + gamma = 0, with
    a = R / rho_1, b = R / rho_2 and gamma between the two points. Where MuJoCo's search gives up, or the points have
    the same direction, the middle between them serves.

    Returns:
        Whether it touches (L); the unit vector from the centre to the point of contact, (L) each; the gradients of
        that point's angle by the two ends (4, L).
    """
    zero = 0.0 * x1
    one = zero + 1.0
    rho1, rho2 = _norm(x1, y1), _norm(x2, y2)
    sine, cosine = x1 * y2 - y1 * x2, x1 * x2 + y1 * y2
    inner = cosine / (rho1 * rho2)
    outside = (rho1 > radius) & (rho2 > radius) & (one * radius >= _MINVAL) & (inner >= -1.0 + _MINVAL)
    touches = ti.select(outside & (_distance(x1, y1, x2, y2) > radius), one, zero)

    a, b = ti.min(radius / rho1, 1.0) * touches, ti.min(radius / rho2, 1.0) * touches
    apart = ti.select(inner > 1.0 - _MINVAL, zero, one)
    found, x, x_a, x_b, x_gamma = _incidence(a, b, _atan2(ti.abs(sine), cosine), touches * apart)

    # turned by x - asin(a sin x) from the point that is first counter-clockwise
    first = ti.select(sine > 0.0, one, zero)
    a_first = first * a + (1.0 - first) * b
    s, c = sin_cos(x)
    q = a_first * s
    p = ti.sqrt(ti.max(1.0 - q * q, _GRAZING))
    turn_c, turn_s = c * p + s * q, s * p - c * q
    e1x, e1y, e2x, e2y = x1 / rho1, y1 / rho1, x2 / rho2, y2 / rho2
    fx, fy = first * e1x + (1.0 - first) * e2x, first * e1y + (1.0 - first) * e2y
    mx, my = x1 + x2, y1 + y2
    norm = _norm(mx, my)
    nx = ti.select(found > 0.5, turn_c * fx - turn_s * fy, mx / norm)
    ny = ti.select(found > 0.5, turn_s * fx + turn_c * fy, my / norm)

    # by the ends' angles over their distances, then by their distances
    rate = 1.0 - a_first * c / p
    swing = (2.0 * first - 1.0) * rate * x_gamma
    by1, by2 = (first - swing) / rho1, (1.0 - first + swing) / rho2
    out1, out2 = (first * s / p - rate * x_a) * a / rho1, ((1.0 - first) * s / p - rate * x_b) * b / rho2
    middle = (1.0 - found) / norm
    by1, by2, out1, out2 = by1 * found, by2 * found, out1 * found, out2 * found
    slip = stack(
        [
            out1 * e1x - by1 * e1y - middle * ny,
            out1 * e1y + by1 * e1x + middle * nx,
            out2 * e2x - by2 * e2y - middle * ny,
            out2 * e2y + by2 * e2x + middle * nx,
        ]
    )
    return touches, nx, ny, slip


@ti.func
def _incidence(a, b, gamma, wanted):
    """The angle x [rad] of `_touch`, in the lanes where it is wanted.

    MuJoCo's Newton iteration, step for step and with its rules to stop, each lane for itself.

    Returns, each (L): 1.0 where x was found, else 0.0; x; its derivatives by a, b and gamma, carried through the steps.
    """
    zero = 0.0 * a
    one = zero + 1.0
    x, found, open, excess = zero + 0.25 * _TURN, zero, wanted, zero
    x_a, x_b, x_gamma = zero, zero, zero
    for _ in range(_NEWTON_STEPS):
        if greatest(open) > 0.5:
            s, c = sin_cos(x)
            cos_a = ti.sqrt(ti.max(1.0 - a * a * s * s, _GRAZING))
            cos_b = ti.sqrt(ti.max(1.0 - b * b * s * s, _GRAZING))
            f = ti.asin(ti.min(a * s, 1.0)) + ti.asin(ti.min(b * s, 1.0)) - 2.0 * x + gamma
            bend = a / cos_a + b / cos_b
            slope = ti.min(c * bend - 2.0, -_MINVAL)
            done = (open > 0.5) & (ti.abs(f) <= _NEWTON_TOLERANCE) & (f <= excess)
            found = ti.select(done, one, found)
            open = ti.select(done | (f > excess) | (slope >= -_MINVAL), zero, open)

            # of f by its parameters, of slope by a, b and x
            f_a, f_b = s / cos_a, s / cos_b
            slope_a, slope_b = c / (cos_a * cos_a * cos_a), c / (cos_b * cos_b * cos_b)
            slope_x = (a * a * a * slope_a + b * b * b * slope_b) * s * c - s * bend
            # a step takes x to x - f / slope
            inv = open / slope
            gain = f * inv / slope
            x_a += gain * (slope_a + slope_x * x_a) - inv * (f_a + slope * x_a)
            x_b += gain * (slope_b + slope_x * x_b) - inv * (f_b + slope * x_b)
            x_gamma += gain * slope_x * x_gamma - inv * (1.0 + slope * x_gamma)
            x = x - f * inv
            excess = zero + _NEWTON_TOLERANCE
    return found, x, x_a, x_b, x_gamma


@ti.func
def _atan2(y, x):
    """Angle [rad] of (x, y), lane by lane: Taichi 1.7's atan2 of two f64 vectors is right to f32 only."""
    angle = 0.0 * x
    for i in ti.static(range(x.n)):
        angle[i] = ti.atan2(y[i], x[i])
    return angle


@ti.func
def _distance(x1, y1, x2, y2):
    """Distance of a segment from the origin."""
    dx, dy = x2 - x1, y2 - y1
    at = -(dx * x1 + dy * y1) / ti.max(dx * dx + dy * dy, _TINY)
    at = ti.max(ti.min(at, 1.0), 0.0)
    return _norm(x1 + at * dx, y1 + at * dy)
