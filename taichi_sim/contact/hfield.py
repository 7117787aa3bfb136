"""Where a body's points touch a height field, and the exact gradient of that; conventions as in `collide`, but that the
point is the body's deepest, as on planes.

Between the four nodes around it the surface is bilinear in x and y, and so is its slope, from those at the nodes: the
normal does not jump from cell to cell. The distance of a ball is that from the plane through the surface above or below
its centre. The points of ellipsoids and cylinders are those that the normal there tells, and each is a ball without
radius. So all are exact on an even slope, and nearly so where the surface bends little over a radius.
"""

import numpy as np

from taichi_sim.contact import collide
from taichi_sim.lanes.vectors import stack
from taichi_sim.runtime import ti
from taichi_sim.spatial import cross, dot, rotate, rotate_inv, scale

# A depth [m] that says that nothing touches.
_FAR = -1e6


def nodes(heights: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Height [m] and slopes along x and y of a field's nodes, row by row: (nrow ncol, 3).

    Args:
        heights: MuJoCo's hfield_data from 0 to 1, (nrow, ncol).
        size: MuJoCo's hfield_size: half-lengths along x and y, largest height, thickness below [m].
    """
    h = np.array(heights, float) * size[2]
    steps = [2 * half / (n - 1) for half, n in zip(size[1::-1], h.shape, strict=True)]
    along_y, along_x = np.gradient(h, *steps)
    return np.stack([h, along_x, along_y], axis=-1).reshape(-1, 3)


@ti.func
def touch(table: ti.template(), c: ti.template(), k, c1, r1, c2, q2):
    """Contact of a ball of radius r1 [m] around c1 with the height field of row k of the table c.

    Args:
        table: all height fields' `nodes`.
        c, k: table with the columns node (its first node), nrow, ncol, size2; and a row of it.
        c1, c2, q2: the ball's centre, the field's pose.

    Returns:
        Depth [m] (L), normal (3, L), point [m] (3, L).
    """
    x = rotate_inv(q2, c1 - c2)
    value, _, _, outside = surface(table, c, k, x)
    normal, length = upward(value)
    distance = (x[2, :] - value[0, :]) / length
    n = rotate(q2, normal)
    return ti.select(outside, r1 * 0.0 + _FAR, r1 - distance), n, c1 - scale(n, r1)


@ti.func
def adjoint_touch(table: ti.template(), c: ti.template(), k, c1, r1, c2, q2, d_bar, n_bar, p_bar):
    """Gradient of `touch` by a displacement of the ball: (moment, force), each (3, L)."""
    x = rotate_inv(q2, c1 - c2)
    value, by_x, by_y, _ = surface(table, c, k, x)
    normal, length = upward(value)
    height = x[2, :] - value[0, :]
    n_bar, p_bar = rotate_inv(q2, n_bar), rotate_inv(q2, p_bar)
    distance_bar = -d_bar
    n_bar = n_bar - scale(p_bar, r1)
    # distance = height / length, normal = (-slope, 1) / length
    length_bar = -(distance_bar * height / length + dot(normal, n_bar)) / length
    height_bar = distance_bar / length
    value_bar = stack(
        [
            -height_bar,
            -n_bar[0, :] / length - length_bar * normal[0, :],
            -n_bar[1, :] / length - length_bar * normal[1, :],
        ]
    )
    along = stack([dot(value_bar, by_x), dot(value_bar, by_y), height_bar])
    force = rotate(q2, p_bar + along)
    return cross(c1, force), force


@ti.func
def facing(table: ti.template(), c: ti.template(), k, c1, c2, q2):
    """The normal (3, L) of the surface above or below c1; arguments as of `touch`."""
    value, _by_x, _by_y, _outside = surface(table, c, k, rotate_inv(q2, c1 - c2))
    normal, _length = upward(value)
    return rotate(q2, normal)


@ti.func
def adjoint_facing(table: ti.template(), c: ti.template(), k, c1, c2, q2, n, turned, at, moment, force):
    """Gradient of a contact at a point that a body turns towards the surface, by a displacement of the body.

    Args:
        c1, c2, q2: the body's centre, the field's pose.
        n: `facing` of c1.
        turned: torque by which the point wanders over the body, as `collide.adjoint_ellipsoid_plane` has it.
        at: the point (3, L).
        moment, force: `adjoint_touch` of a ball without radius there.
    """
    zero = at[0, :] * 0.0
    # turning the normal moves the point as turning the body does, the other way, but for what turning both does
    bent, pushed = adjoint_touch(table, c, k, c1, zero, c2, q2, zero, cross(n, turned), at * 0.0)
    return moment + turned + bent, force + pushed


@ti.func
def touch_ellipsoid(table: ti.template(), c: ti.template(), k, c1, q1, c2, q2):
    """`touch` of an ellipsoid around c1, its half-axes c.size1."""
    p = collide.ellipsoid_plane(c1, q1, c.size1[k], facing(table, c, k, c1, c2, q2))
    return touch(table, c, k, p, p[0, :] * 0.0, c2, q2)


@ti.func
def adjoint_touch_ellipsoid(table: ti.template(), c: ti.template(), k, c1, q1, c2, q2, d_bar, n_bar, p_bar):
    """Gradient of `touch_ellipsoid` by a displacement of the ellipsoid: (moment, force), each (3, L)."""
    n = facing(table, c, k, c1, c2, q2)
    p = collide.ellipsoid_plane(c1, q1, c.size1[k], n)
    moment, force = adjoint_touch(table, c, k, p, p[0, :] * 0.0, c2, q2, d_bar, n_bar, p_bar)
    turned = collide.adjoint_ellipsoid_plane(q1, c.size1[k], n, force)
    return adjoint_facing(table, c, k, c1, c2, q2, n, turned, p, moment, force)


@ti.func
def touch_rim(table: ti.template(), c: ti.template(), k, c1, q1, c2, q2):
    """`touch` of point c.slot of a cylinder around c1, its radius and half-length the first two of c.size1."""
    n, size = facing(table, c, k, c1, c2, q2), c.size1[k]
    p = collide.cylinder_plane(c1, q1, size[0, :], size[1, :], n, c.slot[k])
    return touch(table, c, k, p, p[0, :] * 0.0, c2, q2)


@ti.func
def adjoint_touch_rim(table: ti.template(), c: ti.template(), k, c1, q1, c2, q2, d_bar, n_bar, p_bar):
    """Gradient of `touch_rim` by a displacement of the cylinder: (moment, force), each (3, L)."""
    n, size = facing(table, c, k, c1, c2, q2), c.size1[k]
    p = collide.cylinder_plane(c1, q1, size[0, :], size[1, :], n, c.slot[k])
    moment, force = adjoint_touch(table, c, k, p, p[0, :] * 0.0, c2, q2, d_bar, n_bar, p_bar)
    turned = collide.adjoint_cylinder_plane(q1, size[0, :], n, c.slot[k], force)
    return adjoint_facing(table, c, k, c1, c2, q2, n, turned, p, moment, force)


@ti.func
def upward(value):
    """The unit normal of a height and its slopes, and the length of (-slope, 1)."""
    x, y = value[1, :], value[2, :]
    length = ti.sqrt(1.0 + x * x + y * y)
    return stack([-x / length, -y / length, 1.0 / length]), length


@ti.func
def surface(table: ti.template(), c: ti.template(), k, x):
    """Height and slopes at x in the field's frame, (3, L), their derivatives along x, y, and whether x is beside it."""
    size = c.size2[k]
    nrow, ncol = c.nrow[k], c.ncol[k]
    per_x = 0.5 * (ncol - 1) / size[0, :]
    per_y = 0.5 * (nrow - 1) / size[1, :]
    u = (x[0, :] + size[0, :]) * per_x
    v = (x[1, :] + size[1, :]) * per_y
    outside = (ti.abs(x[0, :]) > size[0, :]) | (ti.abs(x[1, :]) > size[1, :])
    i = ti.max(ti.min(ti.floor(u), ncol - 2.0), 0.0)
    j = ti.max(ti.min(ti.floor(v), nrow - 2.0), 0.0)
    s, t = u - i, v - j
    low, right, up, both = x * 0.0, x * 0.0, x * 0.0, x * 0.0
    for lane in ti.static(range(x.get_shape()[1])):
        # what is not a number would be anywhere
        row = ti.max(ti.min(ti.cast(j[lane], ti.i32), nrow - 2), 0)
        at = c.node[k] + row * ncol + ti.max(ti.min(ti.cast(i[lane], ti.i32), ncol - 2), 0)
        one, two, three, four = table[at], table[at + 1], table[at + ncol], table[at + ncol + 1]
        for r in ti.static(range(3)):
            low[r, lane] = one[r, lane]
            right[r, lane] = two[r, lane] - one[r, lane]
            up[r, lane] = three[r, lane] - one[r, lane]
            both[r, lane] = four[r, lane] - three[r, lane] - two[r, lane] + one[r, lane]
    by_s, by_t = right + scale(both, t), up + scale(both, s)
    return low + scale(by_s, s) + scale(up, t), scale(by_s, per_x), scale(by_t, per_y), outside
