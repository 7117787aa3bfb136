"""How far a convex shape reaches in a direction, and how that point moves as the direction turns.

A shape is the sum of a polytope, an ellipsoid and a ball, of which one or two may be a mere point: a box and a mesh are
their corners, a capsule is two points and a ball, a cylinder two points and a flat ellipsoid (a disk). `shapes` makes
the table s that these functions read; a vector u need not have unit length. The ball is left to the caller.
"""

from taichi_sim.contact.collide import TINY
from taichi_sim.runtime import ti
from taichi_sim.spatial import dot, pick, rotate, rotate_inv, scale

# Sine of the angle to a cylinder's axis below which a direction is that axis: single precision does not tell.
FLAT = 1e-5


@ti.func
def vertex(s: ti.template(), shape, u):
    """The vertex of the polytope that lies furthest along u, (3, L)."""
    adr = s.vertadr[shape]
    x = s.vert[adr]
    most = dot(u, x)
    for i in range(1, s.vertnum[shape]):
        y = s.vert[adr + i]
        reach = dot(u, y)
        x = pick(reach > most, y, x)
        most = ti.max(most, reach)
    return x


@ti.func
def bulge(s: ti.template(), shape, u):
    """The ellipsoid's point that lies furthest along u, (3, L)."""
    x = u * 0.0
    if ti.static(s.round):
        size = s.ellipsoid[shape]
        v = size * u
        x = scale(size * v, 1.0 / ti.sqrt(dot(v, v) + TINY))
    return x


@ti.func
def bend(s: ti.template(), shape, u, x):
    """The rate at which `bulge` moves as u changes by x (3, L): the Hessian of the support function, times x."""
    size, b, inv = _steep(s, shape, u)
    return scale(size * size * x - scale(b, dot(b, x)), inv)


@ti.func
def bends(s: ti.template(), shape, u, x, y):
    """The Hessian's products with two vectors, (3, L): x . H x, x . H y and y . H y."""
    size, b, inv = _steep(s, shape, u)
    bx, by, sx, sy = dot(b, x), dot(b, y), size * x, size * y
    return inv * (dot(sx, sx) - bx * bx), inv * (dot(sx, sy) - bx * by), inv * (dot(sy, sy) - by * by)


@ti.func
def _steep(s: ti.template(), shape, u):
    """Half-axes, `bulge` and the factor of the Hessian."""
    size = s.ellipsoid[shape]
    v = size * u
    # of a disk seen along its axis the rate has no bound
    floor = FLAT * FLAT * dot(size, size) * dot(u, u)
    inv = 1.0 / ti.sqrt(ti.max(dot(v, v), floor + TINY))
    return size, scale(size * v, inv), inv


@ti.func
def flat(s: ti.template(), shape, u):
    """Whether the shape's ellipsoid is a disk seen along its axis, (L)."""
    result = u[0, :] * 0.0
    if ti.static(s.round):
        size = s.ellipsoid[shape]
        v = size * u
        disk = (size[2, :] <= 0.0) & (size[0, :] > 0.0)
        seen = dot(v, v) < FLAT * FLAT * dot(size, size) * dot(u, u)
        result = ti.select(disk & seen, result + 1.0, result)
    return result


@ti.func
def both(s: ti.template(), one, two, r, q, n, t):
    """What two shapes have furthest: shape 1 along t - n, shape 2 along n, all in the axes of shape 2.

    Args:
        one, two: the shapes' rows in s.
        r, q: position (3, L) and orientation (4, L) of shape 1 in the frame of shape 2.
        n, t: directions (3, L).

    Returns:
        Vertices of both polytopes, and the points of both shapes, each (3, L).
    """
    u = rotate_inv(q, t - n)
    f1, f2 = r + rotate(q, vertex(s, one, u)), vertex(s, two, n)
    return f1, f2, f1 + rotate(q, bulge(s, one, u)), f2 + bulge(s, two, n)
