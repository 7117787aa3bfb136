"""Rays against the shapes of a scene, in Taichi.

All arithmetic is f32, whatever precision the engine runs in: literals are cast, because under default_fp f64 one bare
`0.5` would carry its whole expression to f64. Positions are relative to the camera, so that f32 holds far from the
world's origin too. A ray is (origin, unit direction, start): hits at distances up to `start` are ignored.

Conditions are written with `&`, `|` and `select`: Taichi makes a branch of every `and`, and its compile time grows with
the square of the branches (one minute instead of seconds).
"""

from taichi_sim.render import bvh
from taichi_sim.runtime import ti
from taichi_sim.types import (
    GEOM_BOX,
    GEOM_CAPSULE,
    GEOM_CYLINDER,
    GEOM_ELLIPSOID,
    GEOM_MESH,
    GEOM_PLANE,
    GEOM_SPHERE,
)

f32 = ti.f32
vec2 = ti.types.vector(2, f32)
vec3 = ti.types.vector(3, f32)
vec4 = ti.types.vector(4, f32)
ivec2 = ti.types.vector(2, ti.i32)
ivec3 = ti.types.vector(3, ti.i32)
mat3 = ti.types.matrix(3, 3, f32)

MISS = 1e30
_TINY = 1e-12

# The shapes of one frame.
#   kind    GEOM_* code, its entry in `mesh` or -1                                      (num,)
#   pos     centre relative to the camera [m]                                           (num,)
#   rot     axes in the world, as columns                                               (num,)
#   size    MuJoCo's size [m], radius of the bounding sphere [m];
#           capsules: mean radius, half-length, growth of the radius along z (see `hit_round`);
#           planes: half-extents (0: unbounded), the camera's place in the checker [m]  (num,)
#   color   linear rgb, opacity                                                         (num,)
#   mesh    first node, first triangle, depth of the tree                               (nmesh,)
#   bvh_box, tri_vert, tri_normal: `bvh.Bvh`'s arrays, all meshes in a row              (nnode, 2), (ntri, 3)
#   tube_box    the tree of the tubes, capsules that are the last of the shapes         (nnode, 2)
#   tube_first, tube_depth: the first of them, levels below the tree's root (-1: no tubes)
Scene = ti.types.argpack(
    kind=ti.types.ndarray(dtype=ivec2, ndim=1),
    pos=ti.types.ndarray(dtype=vec3, ndim=1),
    rot=ti.types.ndarray(dtype=mat3, ndim=1),
    size=ti.types.ndarray(dtype=vec4, ndim=1),
    color=ti.types.ndarray(dtype=vec4, ndim=1),
    mesh=ti.types.ndarray(dtype=ivec3, ndim=1),
    bvh_box=ti.types.ndarray(dtype=vec3, ndim=2),
    tri_vert=ti.types.ndarray(dtype=vec3, ndim=2),
    tri_normal=ti.types.ndarray(dtype=vec3, ndim=2),
    tube_box=ti.types.ndarray(dtype=vec3, ndim=2),
    tube_first=ti.i32,
    tube_depth=ti.i32,
)


@ti.dataclass
class Hit:
    """Nearest hit of a ray: distance (MISS: none), shape, and for meshes triangle and barycentric coordinates."""

    dist: f32
    prim: ti.i32
    tri: ti.i32
    bary: vec2


@ti.func
def next_node(node):
    """The next node of a tree in heap order when the walk does not go down: 0 past the root."""
    # up to the nearest ancestor that is a left child, then to its sibling: without the zeros that end node + 1
    right = node + 1
    right = right >> ti.math.popcnt((right & -right) - 1)
    return ti.select(right > 1, right, 0)


@ti.func
def hit_prim(scene: ti.template(), prim, origin, direction, start, limit):
    """Hit of one shape, any but a capsule (see `packets`), between the distances `start` and `limit`."""
    hit = Hit(dist=f32(MISS), prim=prim, tri=-1, bary=vec2(0))
    kind = scene.kind[prim][0]
    size = scene.size[prim]
    offset = origin - scene.pos[prim]
    # start from the point nearest to the shape's centre: roots of nearly equal numbers would cost f32 its digits
    middle = -offset.dot(direction)
    foot = offset + middle * direction
    near = (foot.dot(foot) <= size.w * size.w) & (middle + size.w > start) & (middle - size.w < limit)
    if near | (kind == GEOM_PLANE):
        to_local = scene.rot[prim].transpose()
        d = to_local @ direction
        if kind == GEOM_PLANE:
            hit.dist = hit_plane(to_local @ offset, d, start, size.x, size.y)
        else:
            o = to_local @ foot
            begin = start - middle
            if kind == GEOM_MESH:
                hit = hit_mesh(scene, scene.kind[prim][1], o, d, begin)
                hit.prim = prim
            elif kind == GEOM_BOX:
                enter, leave = slab_span(o, inverse(d), -size.xyz, size.xyz)
                hit.dist = first_after(begin, enter <= leave, vec2(enter, leave))
            elif (kind == GEOM_SPHERE) | (kind == GEOM_ELLIPSOID):
                hit.dist = hit_ellipsoid(o, d, begin, ti.select(kind == GEOM_SPHERE, vec3(size.x), size.xyz))
            else:
                hit.dist = hit_round(o, d, begin, size, False)
            hit.dist = ti.select(hit.dist < f32(MISS), hit.dist + middle, hit.dist)
    return hit


@ti.func
def hit_plane(o, d, start, half_x, half_y):
    """A plane shows its upper side only, as MuJoCo's rays see it."""
    t = -o.z / ti.min(d.z, -f32(_TINY))
    p = o + t * d
    within = ((half_x <= 0) | (ti.abs(p.x) <= half_x)) & ((half_y <= 0) | (ti.abs(p.y) <= half_y))
    return ti.select((d.z < -f32(_TINY)) & (o.z > 0) & (t > start) & within, t, f32(MISS))


@ti.func
def hit_ellipsoid(o, d, begin, radii):
    os = o / radii
    ds = d / radii
    a = ds.dot(ds)
    middle = -os.dot(ds) / a
    foot = os + middle * ds
    h = f32(1.0) - foot.dot(foot)
    half = ti.sqrt(ti.max(h, f32(0.0)) / a)
    return first_after(begin, h >= 0, vec2(middle - half, middle + half))


@ti.func
def hit_round(o, d, begin, size, capped):
    """Capsule (`capped`) or cylinder about z; size: mean radius, half-length and the radius' growth per length.

    For one ray or, like `slab_span`, for a packet. A capsule whose radius grows is the envelope of spheres along its
    axis: two spheres and the cone that touches both, |(x, y)| cos(alpha) = radius + z sin(alpha), where sin(alpha) is
    the growth.
    """
    half_length = size.y
    growth = ti.select(capped, size.z, f32(0.0))
    cos2 = f32(1.0) - growth * growth
    # a root of the infinite cone counts between the circles in which the spheres touch it
    a = cos2 * (d.x * d.x + d.y * d.y) - growth * growth * d.z * d.z
    a = ti.select(ti.abs(a) > f32(_TINY), a, f32(_TINY))
    middle = (growth * d.z * (size.x + growth * o.z) - cos2 * (o.x * d.x + o.y * d.y)) / a
    foot_x, foot_y = o.x + middle * d.x, o.y + middle * d.y
    reach = size.x + growth * (o.z + middle * d.z)
    h = (reach * reach - cos2 * (foot_x * foot_x + foot_y * foot_y)) / a
    half = ti.sqrt(larger(h, f32(0.0)))
    # MISS, as often as there are rays
    dist = f32(MISS) + f32(0.0) * h
    for sign in ti.static((-1, 1)):
        t = middle + sign * half
        z = o.z + t * d.z + growth * (size.x + growth * (o.z + t * d.z)) / cos2
        valid = (h >= 0) & (t > begin) & (ti.abs(z) <= half_length)
        dist = ti.select(valid & (t < dist), t, dist)
    for end in ti.static((-1, 1)):
        oz = o.z - end * half_length
        radius = size.x + end * growth * half_length
        # the disc of a cylinder's end
        flat = -oz / ti.select(ti.abs(d.z) > f32(_TINY), d.z, f32(_TINY))
        flat_x, flat_y = o.x + flat * d.x, o.y + flat * d.y
        valid = (flat_x * flat_x + flat_y * flat_y <= radius * radius) & (flat > begin) & (not capped)
        dist = ti.select(valid & (flat < dist), flat, dist)
        # the sphere of a capsule's end: its roots count beyond the circle in which it touches the cone
        turn = -(o.x * d.x + o.y * d.y + oz * d.z)
        cap_x, cap_y, cap_z = o.x + turn * d.x, o.y + turn * d.y, oz + turn * d.z
        cap_h = radius * radius - (cap_x * cap_x + cap_y * cap_y + cap_z * cap_z)
        cap_half = ti.sqrt(larger(cap_h, f32(0.0)))
        for sign in ti.static((-1, 1)):
            t = turn + sign * cap_half
            valid = (cap_h >= 0) & (t > begin) & ((oz + t * d.z + growth * radius) * end >= 0) & capped
            dist = ti.select(valid & (t < dist), t, dist)
    return dist


@ti.func
def hit_mesh(scene: ti.template(), mesh, o, d, begin):
    """Walks the mesh's tree in heap order, without a stack (see `bvh`)."""
    hit = Hit(dist=f32(MISS), prim=-1, tri=-1, bary=vec2(0))
    node_base = scene.mesh[mesh][0]
    tri_base = scene.mesh[mesh][1]
    first_leaf = ti.i32(1) << scene.mesh[mesh][2]
    inv = inverse(d)
    node = ti.i32(1)
    while node > 0:
        enter, leave = slab_span(o, inv, scene.bvh_box[node_base + node, 0], scene.bvh_box[node_base + node, 1])
        inside = (enter <= leave) & (leave > begin) & (enter < hit.dist)
        if inside & (node < first_leaf):
            node = 2 * node
        else:
            if inside:
                leaf = tri_base + (node - first_leaf) * bvh.LEAF_SIZE
                for k in range(bvh.LEAF_SIZE):
                    tri = leaf + k
                    t, u, v = hit_triangle(o, d, scene.tri_vert[tri, 0], scene.tri_vert[tri, 1], scene.tri_vert[tri, 2])
                    if (t > begin) & (t < hit.dist):
                        hit = Hit(dist=t, prim=-1, tri=tri, bary=vec2(u, v))
            node = next_node(node)
    return hit


@ti.func
def hit_triangle(o, d, a, b, c):
    """Distance and barycentric coordinates of b and c, from either side (Moeller and Trumbore 1997)."""
    ab = b - a
    ac = c - a
    p = d.cross(ac)
    det = ab.dot(p)
    crossed = ti.abs(det) > f32(1e-20)
    inv = f32(1.0) / ti.select(crossed, det, f32(1.0))
    s = o - a
    q = s.cross(ab)
    u = s.dot(p) * inv
    v = d.dot(q) * inv
    inside = crossed & (u >= 0) & (v >= 0) & (u + v <= 1)
    return ti.select(inside, ac.dot(q) * inv, f32(MISS)), u, v


@ti.func
def slab_span(o, inv, lower, upper):
    """Distances between which a line is inside an axis-aligned box; empty (the first is larger) if it passes by.

    For one ray, whose `o` and `inv` have three numbers x, y, z, or for a packet, whose x, y, z are lanes.
    """
    x0, x1 = (lower.x - o.x) * inv.x, (upper.x - o.x) * inv.x
    y0, y1 = (lower.y - o.y) * inv.y, (upper.y - o.y) * inv.y
    z0, z1 = (lower.z - o.z) * inv.z, (upper.z - o.z) * inv.z
    enter = larger(larger(smaller(x0, x1), smaller(y0, y1)), smaller(z0, z1))
    leave = smaller(smaller(larger(x0, x1), larger(y0, y1)), larger(z0, z1))
    return enter, leave


@ti.func
def inverse(d):
    """1 / d with a large finite number for 0: infinities are not kept under fast math."""
    # of 1 / select(...) LLVM would make a branch
    return f32(1.0) / (d + ti.select(ti.abs(d) > f32(_TINY), f32(0.0), f32(2 * _TINY)))


@ti.func
def smaller(a, b):
    # ti.min and ti.max mind NaN, at three instructions instead of one
    return ti.select(a < b, a, b)


@ti.func
def larger(a, b):
    return ti.select(a > b, a, b)


@ti.func
def first_after(begin, valid, roots):
    """The first of two roots beyond `begin`, MISS if there is none or they are not valid."""
    t = ti.select(roots.x > begin, roots.x, roots.y)
    return ti.select(valid & (t > begin), t, f32(MISS))


@ti.func
def surface_normal(scene: ti.template(), hit, point):
    """Unit outward normal in the world at a hit; `point` is relative to the camera [m]."""
    prim = hit.prim
    kind = scene.kind[prim][0]
    size = scene.size[prim]
    p = scene.rot[prim].transpose() @ (point - scene.pos[prim])
    n = vec3(0, 0, 1)
    if kind == GEOM_SPHERE:
        n = p
    elif kind == GEOM_CAPSULE:
        # from the centre of the sphere that touches the surface here
        center = p.z + size.z / ti.sqrt(f32(1.0) - size.z * size.z) * ti.sqrt(p.x * p.x + p.y * p.y)
        n = vec3(p.x, p.y, p.z - ti.max(-size.y, ti.min(size.y, center)))
    elif kind == GEOM_ELLIPSOID:
        n = p / (size.xyz * size.xyz)
    elif kind == GEOM_CYLINDER:
        end = size.y - ti.abs(p.z) < size.x - ti.sqrt(p.x * p.x + p.y * p.y)
        n = ti.select(end, vec3(0, 0, p.z), vec3(p.x, p.y, 0))
    elif kind == GEOM_BOX:
        # the face that is nearest
        q = ti.abs(p) - size.xyz
        n = p * ti.cast(q >= q.max(), f32)
    elif kind == GEOM_MESH:
        a = f32(1.0) - hit.bary.x - hit.bary.y
        n = (
            a * scene.tri_normal[hit.tri, 0]
            + hit.bary.x * scene.tri_normal[hit.tri, 1]
            + hit.bary.y * scene.tri_normal[hit.tri, 2]
        )
    n = scene.rot[prim] @ n
    return n / ti.sqrt(ti.max(n.dot(n), f32(1e-30)))


@ti.func
def length(v):
    # Taichi's own norm() and mix() carry literals of the default precision
    return ti.sqrt(v.dot(v))


@ti.func
def blend(a, b, share):
    return a + share * (b - a)
