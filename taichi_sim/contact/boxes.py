"""Where a sphere or a capsule touches a box, and the exact gradient of that; conventions as in `collide`.

Inside of a box the nearest face pushes, so that the normal jumps from one face to the next.
"""

from taichi_sim.contact.collide import PARALLEL, PULL, TINY, clamp
from taichi_sim.lanes.vectors import stack
from taichi_sim.runtime import ti
from taichi_sim.spatial import cross, dot, pick, rotate, rotate_inv, scale

# A pull that is always there, too weak to show: where all of a segment's points are equally close it decides.
_WEAK_PULL = 1e-14


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
    lam = ti.select(ti.abs(s) < 1.0, dot(u, x_bar) / (dot(u, ub) + pull + TINY), 0.0 * s)
    c_bar = x_bar - scale(ub + scale(pull_c, s), lam)
    u_bar = scale(x_bar, s) - scale(w + scale(ub + pull_u, s), lam)
    force = rotate(q2, c_bar)
    return cross(c1, force) + cross(u1, rotate(q2, u_bar)), force


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
    face = stack([is_x, is_y, one - is_x - is_y])
    face = ti.select(x < 0.0, -face, face)
    out = pick(outside, out, face)
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
    inv = 1.0 / (PARALLEL * a + TINY)
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
        s = clamp((plane - here) * rate / (rate * rate + TINY))
        # exactly on the face: where the axis dips into the box, f32 rounding would outweigh the weak pull
        x = c + scale(u, s)
        x = stack(
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
    return clamp(low - at_low * (high - low) / ti.max(at_high - at_low, TINY))


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
