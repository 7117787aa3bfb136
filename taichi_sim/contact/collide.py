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
* Boxes: see `boxes`.
"""

from taichi_sim.lanes.vectors import greatest, stack
from taichi_sim.runtime import ti
from taichi_sim.spatial import cross, dot, rotate, rotate_inv, scale

PARALLEL = 1e-3  # sin^2 of 1.8 degrees
PULL = 2e-3

# Distance of two axes, in sums of their radii, below which the normal shortens. With a thousandth, the gradient of
# bodies of 4 kg whose axes cross grew by a hundred a step of 2 ms.
CORE = 0.02

# Added to denominators that vanish only together with their numerator; a normal number in f32.
TINY = 1e-30

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
    return greatest(-gap) > 0.0


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
    return c + rotate(q, stack([radius * x, radius * y, end * half_length]))


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
    v_bar = stack([turn * v[0, :] - ax, turn * v[1, :] - ay, 0.0 * ax])
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
    fade = ti.max(1.0 - det / (PARALLEL * a * c + TINY), 0.0)
    pull = PULL * fade * fade * a * c / (a + c + TINY)
    slope = (4.0 * PULL / PARALLEL) * fade * b / (a + c + TINY)
    ru1, ru2 = dot(r, u1), dot(r, u2)
    s = clamp((b * ru2 - (c + pull) * ru1) / (det + pull * (a + c + pull) + TINY))
    t = clamp((b * s + ru2) / (c + pull + TINY))
    s = clamp((b * t - ru1) / (a + pull + TINY))
    return s, t, a, b, c, pull, slope


@ti.func
def clamp(x):
    """x, or the nearest end of [-1, 1]."""
    return ti.max(ti.min(x, 1.0), -1.0)


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
