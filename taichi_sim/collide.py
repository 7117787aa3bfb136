"""Where two geoms touch, and the exact gradient of that.

A pair function returns the depth [m] (negative: minus the distance), the unit normal from geom 2 to geom 1, which is
the direction in which geom 1 is pushed, and the contact point [m] midway between the two surfaces. All positions are
relative to one common point. The closest points are found by straight-line code, so that lanes stay together.

An adjoint takes the adjoints of those three and returns (moment, force) about the common point: the gradient with
respect to a rigid displacement of geom 1, geom 2 held. Displacing both alike turns the normal and moves the point
along, hence geom 2's is (n x n_bar + p x p_bar, p_bar) less geom 1's. Closest points are differentiated by the implicit
function theorem: where their parameter is free, the derivative of its defining equation; where it is clamped, nothing.

Where the closest point is not unique it would jump with the pose. There the exact answer is left, and only there:

* A segment almost parallel to its partner (sin^2 of the angle below PARALLEL) is pulled towards the middle, by
  PULL times a squared half-length in the equation of the parameter. The pull fades to zero at PARALLEL. At a distance
  z it costs about PULL l^2 / (4 z) of depth, l the half-length, at its worst tilt.
* Segments that cross: see `segments`.
* Inside of a box the nearest face pushes, so that the normal jumps from one face to the next.
"""

from taichi_sim.runtime import ti
from taichi_sim.spatial import cross, dot, rotate, rotate_inv, scale

PARALLEL = 1e-3  # sin^2 of 1.8 degrees
PULL = 2e-3

# Distance of two axes, in sums of their radii, below which the normal shortens.
CORE = 1e-3

# A pull that is always there, too weak to show: where all of a segment's points are equally close it decides.
_WEAK_PULL = 1e-14

# Added to denominators that vanish only together with their numerator; a normal number in f32.
_TINY = 1e-30

# How strongly a standing cylinder's points turn towards its own x axis, in sines of a tilt.
TURN = 1e-3


@ti.func
def near(c1, reach1, c2, reach2):
    """Whether in any lane two balls overlap that enclose the geoms: 0 allows to skip the pair.

    Args:
        c1, c2: centres [m], (3, L).
        reach1, reach2: radii [m], (L).
    """
    r, reach = c1 - c2, reach1 + reach2
    gap = dot(r, r) - reach * reach
    least = gap[0]
    for i in ti.static(range(1, gap.n)):
        least = ti.min(least, gap[i])
    return least < 0.0


@ti.func
def segments(c1, u1, r1, c2, u2, r2):
    """Contact of two capsules; a sphere is a capsule with u = 0.

    Closest points of two segments as in Ericson, Real-Time Collision Detection, section 5.1.9. Where the axes come
    closer than CORE (r1 + r2) there is no stable direction between them: the normal is their distance vector over
    that length, thus shorter than one and zero where they cross, and the depth is its integral.

    Args:
        c1, c2: centres [m], (3, L).
        u1, u2: half-axes: direction times half-length [m], (3, L).
        r1, r2: radii [m], (L).

    Returns:
        Depth [m] (L), normal (3, L), point [m] (3, L).
    """
    s, t, _a, _b, _c, _pull, _slope = _closest(c1 - c2, u1, u2)
    x1, x2 = c1 + scale(u1, s), c2 + scale(u2, t)
    w = x1 - x2
    length, core = ti.sqrt(dot(w, w)), CORE * (r1 + r2)
    n = scale(w, 1.0 / ti.max(length, core))
    distance = ti.select(length < core, 0.5 * (length * length / core + core), length)
    return r1 + r2 - distance, n, 0.5 * (x1 + x2 + scale(n, r2 - r1))


@ti.func
def adjoint_segments(c1, u1, r1, c2, u2, r2, d_bar, n_bar, p_bar):
    """Gradient of `segments` by a displacement of geom 1: (moment, force), each (3, L), about the common point."""
    r = c1 - c2
    s, t, a, b, c, pull, slope = _closest(r, u1, u2)
    su1, tu2 = scale(u1, s), scale(u2, t)
    w = r + su1 - tu2
    length, core = ti.sqrt(dot(w, w)), CORE * (r1 + r2)
    inv = 1.0 / ti.max(length, core)
    n = scale(w, inv)

    # through depth, normal and point at fixed parameters
    toward = n_bar + scale(p_bar, 0.5 * (r2 - r1))
    along = ti.select(length < core, 0.0 * length, dot(n, toward))
    w_bar = scale(toward - scale(n, along), inv) - scale(n, d_bar)
    x1_bar, x2_bar = 0.5 * p_bar + w_bar, 0.5 * p_bar - w_bar

    # through the free ones of the parameters: the 2x2 system of `_closest`, clamped rows replaced by the identity
    zero, one = 0.0 * s, 0.0 * s + 1.0
    s_free, t_free = (ti.abs(s) < 1.0) & (a > 0.0), (ti.abs(t) < 1.0) & (c > 0.0)
    s_bar, t_bar = ti.select(s_free, dot(u1, x1_bar), zero), ti.select(t_free, dot(u2, x2_bar), zero)
    both = s_free & t_free
    off = ti.select(both, b, zero)
    ss, tt = ti.select(s_free, a + pull, one), ti.select(t_free, c + pull, one)
    # a c - b^2 cancels where the axes are almost parallel, the cross product's square does not
    axes = cross(u1, u2)
    det = ti.select(both, dot(axes, axes) + pull * (a + c + pull), ss * tt)
    s_lam, t_lam = (tt * s_bar + off * t_bar) / det, (ss * t_bar + off * s_bar) / det

    c1_bar = x1_bar + scale(u2, t_lam) - scale(u1, s_lam)
    # less what is along u1: a rotation does not change its length
    u1_bar = scale(x1_bar, s) - scale(r - tu2, s_lam) + scale(u2, t_lam * s - slope * (s_lam * s + t_lam * t))
    return cross(c1, c1_bar) + cross(u1, u1_bar), c1_bar


@ti.func
def sphere_box(c1, r1, c2, q2, size):
    """Contact of a sphere and a box. With the centre inside the box, the nearest face pushes.

    Args:
        c1: the sphere's centre [m], (3, L).
        r1: its radius [m], (L).
        c2: the box's centre [m], (3, L).
        q2: its orientation, a unit quaternion (4, L).
        size: its half-extents [m], (3, L).

    Returns:
        Depth [m] (L), normal (3, L), point [m] (3, L).
    """
    distance, normal = _box_distance(rotate_inv(q2, c1 - c2), size)
    n = rotate(q2, normal)
    return r1 - distance, n, c1 - scale(n, 0.5 * (r1 + distance))


@ti.func
def adjoint_sphere_box(c1, r1, c2, q2, size, d_bar, n_bar, p_bar):
    """Gradient of `sphere_box` by a displacement of the sphere: (moment, force), each (3, L)."""
    x = rotate_inv(q2, c1 - c2)
    x_bar = _adjoint_box_distance(x, r1, size, d_bar, rotate_inv(q2, n_bar), rotate_inv(q2, p_bar))
    force = rotate(q2, x_bar)
    return cross(c1, force), force


@ti.func
def capsule_box(c1, u1, r1, c2, q2, size):
    """Contact of a capsule and a box: that of the ball around the point of the axis that is closest to the box.

    One point does not let a capsule lie: add `sphere_box` for its two ends. They hold it on a face, this point holds
    it across an edge and where it juts out over one. Where an end is the closest point, this contact is that end's.
    Where the axis dips into the box, the point is the one inside that is closest to the capsule's centre: the ends
    go deeper.

    Args:
        c1: the capsule's centre [m], (3, L).
        u1: its half-axis: direction times half-length [m], (3, L).
        r1: its radius [m], (L).
        c2: the box's centre [m], (3, L).
        q2: its orientation, a unit quaternion (4, L).
        size: its half-extents [m], (3, L).

    Returns:
        Depth [m] (L), normal (3, L), point [m] (3, L).
    """
    u = rotate_inv(q2, u1)
    s = _closest_to_box(rotate_inv(q2, c1 - c2), u, r1, size)
    return sphere_box(c1 + scale(u1, s), r1, c2, q2, size)


@ti.func
def adjoint_capsule_box(c1, u1, r1, c2, q2, size, d_bar, n_bar, p_bar):
    """Gradient of `capsule_box` by a displacement of the capsule: (moment, force), each (3, L)."""
    c, u = rotate_inv(q2, c1 - c2), rotate_inv(q2, u1)
    s = _closest_to_box(c, u, r1, size)
    x = c + scale(u, s)
    x_bar = _adjoint_box_distance(x, r1, size, d_bar, rotate_inv(q2, n_bar), rotate_inv(q2, p_bar))

    # sum_i u_i w_i + pull s = 0, with w_i the distance beyond face i. A point on the surface counts as beyond: there
    # it stays while the capsule moves.
    pull, pull_c, pull_u = _box_pull(c, u, r1, size)
    beyond = ti.select(ti.abs(x) > (1.0 - 1e-6) * size, 0.0 * x + 1.0, 0.0 * x)
    w, ub = x - ti.max(-size, ti.min(x, size)), u * beyond
    lam = ti.select(ti.abs(s) < 1.0, dot(u, x_bar) / (dot(u, ub) + pull + _TINY), 0.0 * s)
    c_bar = x_bar - scale(ub + scale(pull_c, s), lam)
    u_bar = scale(x_bar, s) - scale(w + scale(ub + pull_u, s), lam)
    force = rotate(q2, c_bar)
    return cross(c1, force) + cross(u1, rotate(q2, u_bar)), force


@ti.func
def ellipsoid_plane(c, q, size, n):
    """The point of an ellipsoid that lies deepest below a plane.

    Args:
        c: its centre [m], (3, L).
        q: its orientation, a unit quaternion (4, L).
        size: its half-axes [m], (3, L).
        n: the plane's unit normal (3, L).

    Returns:
        The point [m] (3, L).
    """
    v = size * rotate_inv(q, n)
    return c - rotate(q, scale(size * v, 1.0 / ti.sqrt(dot(v, v))))


@ti.func
def adjoint_ellipsoid_plane(q, size, n, p_bar):
    """Torque (3, L) about `ellipsoid_plane`'s point, because it wanders over the body while that rotates.

    A point fixed to the body has the gradient (p x p_bar, p_bar); this adds to its moment.
    """
    v = size * rotate_inv(q, n)
    inv = 1.0 / ti.sqrt(dot(v, v))
    y, g = scale(size * v, inv), rotate_inv(q, p_bar)
    # minus the Hessian of |S R'n| by R'n
    v_bar = scale(scale(y, dot(y, g)) - size * size * g, inv)
    return cross(rotate(q, v_bar), n)


@ti.func
def cylinder_plane(c, q, radius, half_length, n, k):
    """One of eight points of a cylinder that bear it on a plane: four on each rim.

    k = 0 to 3 are on the rim of the cylinder's positive z end, 4 to 7 on the other. The first of each is the rim's
    deepest point, the others follow at right angles: a lying cylinder rolls on two points, a standing one has four.
    Where it stands (sin^2 of the tilt below PARALLEL) the deepest point has no direction, and the square turns
    towards the cylinder's own x axis; at a tilt of 1e-3 against it, which has no direction again, it shrinks.

    Args:
        c: its centre [m], (3, L).
        q: its orientation, a unit quaternion (4, L).
        radius: [m], (L).
        half_length: [m], (L).
        n: the plane's unit normal (3, L).
        k: which point, 0 to 7, the same in all lanes.

    Returns:
        The point [m] (3, L).
    """
    tx, ty, _inv, _long, _slope = _rim_direction(rotate_inv(q, n))
    along, aside, end = _corner(k)
    x, y = tx * along - ty * aside, ty * along + tx * aside
    return c + rotate(q, ti.Matrix.rows([radius * x, radius * y, end * half_length]))


@ti.func
def adjoint_cylinder_plane(q, radius, n, k, p_bar):
    """Torque (3, L) about `cylinder_plane`'s point k, because it wanders along the rim while the body rotates.

    A point fixed to the body has the gradient (p x p_bar, p_bar); this adds to its moment.
    """
    v, g = rotate_inv(q, n), rotate_inv(q, p_bar)
    tx, ty, inv, long, slope = _rim_direction(v)
    gx, gy = radius * g[0, :], radius * g[1, :]
    along, aside, _end = _corner(k)
    x, y = gx * along + gy * aside, gy * along - gx * aside
    radial = ti.select(long, tx * x + ty * y, 0.0 * x)
    ax, ay = inv * (x - tx * radial), inv * (y - ty * radial)
    turn = slope * ax
    v_bar = ti.Matrix.rows([turn * v[0, :] - ax, turn * v[1, :] - ay, 0.0 * ax])
    return cross(rotate(q, v_bar), n)


# Segments


@ti.func
def _closest(r, u1, u2):
    """Parameters s, t in [-1, 1] of the closest points s u1 and t u2 - r of two segments, and what led to them.

    They solve (a + pull) s - b t = -r.u1 and (c + pull) t - b s = r.u2 with a = u1.u1, b = u1.u2, c = u2.u2: the
    minimum of a convex function over a square, which clamping s, then t, then s reaches exactly.

    Returns:
        s, t, a, b, c, the pull, and its derivative by b at fixed lengths.
    """
    a, b, c = dot(u1, u1), dot(u1, u2), dot(u2, u2)
    axes = cross(u1, u2)
    det = dot(axes, axes)
    fade = ti.max(1.0 - det / (PARALLEL * a * c + _TINY), 0.0)
    pull = PULL * fade * fade * a * c / (a + c + _TINY)
    slope = (4.0 * PULL / PARALLEL) * fade * b / (a + c + _TINY)
    ru1, ru2 = dot(r, u1), dot(r, u2)
    s = _clamp((b * ru2 - (c + pull) * ru1) / (det + pull * (a + c + pull) + _TINY))
    t = _clamp((b * s + ru2) / (c + pull + _TINY))
    s = _clamp((b * t - ru1) / (a + pull + _TINY))
    return s, t, a, b, c, pull, slope


@ti.func
def _clamp(x):
    return ti.max(ti.min(x, 1.0), -1.0)


# Boxes, in their own frame


@ti.func
def _box_distance(x, size):
    """Signed distance of the point x from a box and its gradient, the outward normal."""
    w = x - ti.max(-size, ti.min(x, size))
    w2 = dot(w, w)
    outside = w2 > 0.0
    length = ti.sqrt(ti.select(outside, w2, 0.0 * w2 + 1.0))
    out = scale(w, 1.0 / length)

    gap = size - ti.abs(x)
    gx, gy, gz = gap[0, :], gap[1, :], gap[2, :]
    least = ti.min(gx, ti.min(gy, gz))
    zero = 0.0 * gx
    one = zero + 1.0
    # the first of equals
    is_x = ti.select(gx <= least, one, zero)
    is_y = ti.select(gy <= least, one - is_x, zero)
    face = ti.Matrix.rows([is_x, is_y, one - is_x - is_y])
    face = ti.select(x < 0.0, -face, face)
    for k in ti.static(range(3)):
        for i in ti.static(range(x.get_shape()[1])):
            out[k, i] = ti.select(outside[i], out[k, i], face[k, i])
    return ti.select(outside, length, -least), out


@ti.func
def _adjoint_box_distance(x, radius, size, d_bar, n_bar, p_bar):
    """Adjoint of x, the centre of a ball, for the contact of that ball with a box."""
    distance, n = _box_distance(x, size)
    toward = n_bar - scale(p_bar, 0.5 * (radius + distance))
    x_bar = p_bar - scale(n, d_bar + 0.5 * dot(n, p_bar))
    # only beyond an edge or a corner does the normal turn
    w = x - ti.max(-size, ti.min(x, size))
    beyond = ti.select(ti.abs(w) > 0.0, 0.0 * w + 1.0, 0.0 * w)
    turns = beyond[0, :] + beyond[1, :] + beyond[2, :] > 1.5
    inv = ti.select(turns, 1.0 / ti.max(distance, 1e-20), 0.0 * distance)
    return x_bar + scale(beyond * (toward - scale(n, dot(n, toward))), inv)


@ti.func
def _box_pull(c, u, radius, size):
    """The pull on a segment that is almost parallel to a face and beyond it, and its gradients by c and u.

    It sets in while the centre is between half a radius and nothing below the plane of the face: a segment that is
    parallel to a face without facing it needs no pull.
    """
    a = dot(u, u)
    inv = 1.0 / (PARALLEL * a + _TINY)
    fade = ti.max(1.0 - scale(u * u, inv), 0.0)
    gate = ti.max(ti.min(1.0 + scale(ti.abs(c) - size, 2.0 / radius), 1.0), 0.0)
    gate_c = scale(6.0 * gate * (1.0 - gate), 2.0 / radius)
    gate_c = ti.select(c < 0.0, -gate_c, gate_c)
    gate = gate * gate * (3.0 - 2.0 * gate)
    each = fade * fade * gate
    pull = a * (PULL * (each[0, :] + each[1, :] + each[2, :]) + _WEAK_PULL)
    pull_c = scale(fade * fade * gate_c, PULL * a)
    pull_u = scale(fade * gate * u, -4.0 * PULL * a * inv)
    return pull, pull_c, pull_u


@ti.func
def _closest_to_box(c, u, radius, size):
    """Parameter s in [-1, 1] of the point c + s u that is closest to a box.

    The derivative of half the squared distance is piecewise linear and rises with s. It bends where the segment passes
    the plane of a face: the innermost of these six points around its root bound a linear piece. Inside of the box it is
    zero, and the weak pull decides: towards the centre, s = 0, which is tried as a seventh.
    """
    pull, _pull_c, _pull_u = _box_pull(c, u, radius, size)
    low = 0.0 * pull - 1.0
    high = 0.0 * pull + 1.0
    at_low, at_high = _box_slope(c - u, u, low, pull, size), _box_slope(c + u, u, high, pull, size)
    # not unrolled: that would multiply the time to compile by seven
    for k in range(7):
        mx, my, mz, sign = _face(k)
        plane = sign * (mx * size[0, :] + my * size[1, :] + mz * size[2, :])
        here = mx * c[0, :] + my * c[1, :] + mz * c[2, :]
        rate = mx * u[0, :] + my * u[1, :] + mz * u[2, :]
        # a segment parallel to a face passes it nowhere
        s = _clamp((plane - here) * rate / (rate * rate + _TINY))
        # exactly on the face: where the axis dips into the box, f32 rounding would outweigh the weak pull
        x = c + scale(u, s)
        x = ti.Matrix.rows(
            [
                (1.0 - mx) * x[0, :] + mx * plane,
                (1.0 - my) * x[1, :] + my * plane,
                (1.0 - mz) * x[2, :] + mz * plane,
            ]
        )
        slope = _box_slope(x, u, s, pull, size)
        between = (low < s) & (s < high)
        raise_low, lower_high = between & (slope < 0.0), between & (slope >= 0.0)
        low, at_low = ti.select(raise_low, s, low), ti.select(raise_low, slope, at_low)
        high, at_high = ti.select(lower_high, s, high), ti.select(lower_high, slope, at_high)
    return _clamp(low - at_low * (high - low) / ti.max(at_high - at_low, _TINY))


@ti.func
def _face(k):
    """Axis, as three masks, and side of a box's k-th face, 0 to 5; beyond those, no axis."""
    mx, my, mz, sign = 0.0, 0.0, 0.0, 1.0
    if k // 2 == 0:
        mx = 1.0
    if k // 2 == 1:
        my = 1.0
    if k // 2 == 2:
        mz = 1.0
    if k % 2 == 1:
        sign = -1.0
    return mx, my, mz, sign


@ti.func
def _box_slope(x, u, s, pull, size):
    """Derivative by s of half the squared distance from a box of the point x at s, and of the pull's potential."""
    return dot(u, x - ti.max(-size, ti.min(x, size))) + pull * s


# Cylinders, in their own frame


@ti.func
def _rim_direction(v):
    """Direction across a cylinder's axis of a rim's deepest point, with the plane's normal v in the cylinder's frame.

    Returns:
        x and y of the direction, the factor that normalised it, whether it is one that leaves unit length, and the
        derivative of its x component before normalisation by half the square of v across the axis.
    """
    vx, vy = v[0, :], v[1, :]
    fade = ti.max(1.0 - (vx * vx + vy * vy) / PARALLEL, 0.0)
    x, y = TURN * fade * fade - vx, -vy
    length = ti.sqrt(x * x + y * y)
    long = length > 0.1 * TURN
    inv = 1.0 / ti.max(length, 0.1 * TURN)
    return x * inv, y * inv, inv, long, (-4.0 * TURN / PARALLEL) * fade


@ti.func
def _corner(k):
    """Of the k-th point of a cylinder: cosine and sine of its angle from the first on the rim, and which end."""
    j = k % 4
    along, aside, end = 0.0, 0.0, 1.0
    if j == 0:
        along = 1.0
    if j == 1:
        aside = 1.0
    if j == 2:
        along = -1.0
    if j == 3:
        aside = -1.0
    if k > 3:
        end = -1.0
    return along, aside, end
