"""Rays against the shapes of a scene, in Taichi.

All arithmetic is f32, whatever precision the engine runs in: literals are cast, because under default_fp f64 one bare
`0.5` would carry its whole expression to f64. Positions are relative to the camera, so that f32 holds far from the
world's origin too. A ray is (origin, unit direction, start): hits at distances up to `start` are ignored.
"""

from taichi_sim import bvh
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
ivec3 = ti.types.vector(3, ti.i32)
mat3 = ti.types.matrix(3, 3, f32)

MISS = 1e30
_TINY = 1e-12

# The shapes of one frame.
#   kind    GEOM_* code, its entry in `mesh` or -1, unused                              (num,)
#   pos     centre relative to the camera [m]                                           (num,)
#   rot     axes in the world, as columns                                               (num,)
#   size    MuJoCo's size [m], radius of the bounding sphere [m];
#           planes: half-extents (0: unbounded), the camera's place in the checker [m]  (num,)
#   color   linear rgb, opacity                                                         (num,)
#   mesh    first node, first triangle, depth of the tree                               (nmesh,)
#   bvh_box, tri_vert, tri_normal: `bvh.Bvh`'s arrays, all meshes in a row              (nnode, 2), (ntri, 3)
Scene = ti.types.argpack(
    kind=ti.types.ndarray(dtype=ivec3, ndim=1),
    pos=ti.types.ndarray(dtype=vec3, ndim=1),
    rot=ti.types.ndarray(dtype=mat3, ndim=1),
    size=ti.types.ndarray(dtype=vec4, ndim=1),
    color=ti.types.ndarray(dtype=vec4, ndim=1),
    mesh=ti.types.ndarray(dtype=ivec3, ndim=1),
    bvh_box=ti.types.ndarray(dtype=vec3, ndim=2),
    tri_vert=ti.types.ndarray(dtype=vec3, ndim=2),
    tri_normal=ti.types.ndarray(dtype=vec3, ndim=2),
)


@ti.dataclass
class Hit:
    """Nearest hit of a ray: distance (MISS: none), shape, and for meshes triangle and barycentric coordinates."""

    dist: f32
    prim: ti.i32
    tri: ti.i32
    bary: vec2


@ti.func
def closest_hit(scene: ti.template(), lists: ti.template(), row, origin, direction, start):
    """Nearest of the shapes in lists[row, 1:], of which lists[row, 0] is the number."""
    hit = Hit(dist=f32(MISS), prim=-1, tri=-1, bary=vec2(0))
    for k in range(lists[row, 0]):
        prim = lists[row, 1 + k]
        found = hit_prim(scene, prim, origin, direction, start, hit.dist)
        if found.dist < hit.dist:
            hit = found
    return hit


@ti.func
def transmission(scene: ti.template(), lists: ti.template(), row, origin, direction):
    """Share of light that the shapes in lists[row, 1:] let through along a ray."""
    passed = f32(1.0)
    for k in range(lists[row, 0]):
        if passed > f32(0.01):
            prim = lists[row, 1 + k]
            found = hit_prim(scene, prim, origin, direction, f32(0.0), f32(MISS))
            if found.dist < f32(MISS):
                passed *= f32(1.0) - scene.color[prim].w
    return passed


@ti.func
def hit_prim(scene: ti.template(), prim, origin, direction, start, limit):
    """Hit of one shape between the distances `start` and `limit`."""
    hit = Hit(dist=f32(MISS), prim=prim, tri=-1, bary=vec2(0))
    kind = scene.kind[prim][0]
    size = scene.size[prim]
    offset = origin - scene.pos[prim]
    if kind == GEOM_PLANE:
        to_local = scene.rot[prim].transpose()
        dist = hit_plane(to_local @ offset, to_local @ direction, size.x, size.y)
        if dist > start:
            hit.dist = dist
    else:
        # start from the point nearest to the shape's centre: roots of nearly equal numbers would cost f32 its digits
        middle = -offset.dot(direction)
        foot = offset + middle * direction
        if foot.dot(foot) <= size.w * size.w and middle + size.w > start and middle - size.w < limit:
            to_local = scene.rot[prim].transpose()
            o = to_local @ foot
            d = to_local @ direction
            begin = start - middle
            if kind == GEOM_MESH:
                hit = hit_mesh(scene, scene.kind[prim][1], o, d, begin)
                hit.prim = prim
            else:
                hit.dist = hit_solid(kind, size, o, d, begin)
            if hit.dist < f32(MISS):
                hit.dist += middle
    return hit


@ti.func
def hit_solid(kind, size, o, d, begin):
    dist = f32(MISS)
    if kind == GEOM_SPHERE:
        dist = hit_ellipsoid(o, d, begin, vec3(size.x, size.x, size.x))
    elif kind == GEOM_CAPSULE:
        dist = hit_capsule(o, d, begin, size.x, size.y)
    elif kind == GEOM_ELLIPSOID:
        dist = hit_ellipsoid(o, d, begin, size.xyz)
    elif kind == GEOM_CYLINDER:
        dist = hit_cylinder(o, d, begin, size.x, size.y)
    elif kind == GEOM_BOX:
        dist = hit_box(o, d, begin, size.xyz)
    return dist


@ti.func
def hit_plane(o, d, half_x, half_y):
    """A plane shows its upper side only, as MuJoCo's rays see it."""
    dist = f32(MISS)
    if d.z < -f32(_TINY) and o.z > 0:
        t = -o.z / d.z
        p = o + t * d
        if (half_x <= 0 or ti.abs(p.x) <= half_x) and (half_y <= 0 or ti.abs(p.y) <= half_y):
            dist = t
    return dist


@ti.func
def hit_ellipsoid(o, d, begin, radii):
    os = o / radii
    ds = d / radii
    a = ds.dot(ds)
    middle = -os.dot(ds) / a
    foot = os + middle * ds
    h = f32(1.0) - foot.dot(foot)
    dist = f32(MISS)
    if h >= 0:
        half = ti.sqrt(h / a)
        dist = first_after(begin, middle - half, middle + half)
    return dist


@ti.func
def hit_capsule(o, d, begin, radius, half_length):
    dist = f32(MISS)
    # a root of the infinite cylinder counts between the caps' centres, a root of a cap's sphere beyond them
    side = cylinder_roots(o, d, radius)
    for k in ti.static(range(2)):
        if side[k] > begin and side[k] < dist and ti.abs(o.z + side[k] * d.z) <= half_length:
            dist = side[k]
    for end in ti.static((-1, 1)):
        oz = o.z - end * half_length
        middle = -(o.x * d.x + o.y * d.y + oz * d.z)
        foot = vec3(o.x, o.y, oz) + middle * d
        h = radius * radius - foot.dot(foot)
        if h >= 0:
            half = ti.sqrt(h)
            for sign in ti.static((-1, 1)):
                t = middle + sign * half
                if t > begin and t < dist and (oz + t * d.z) * end >= 0:
                    dist = t
    return dist


@ti.func
def hit_cylinder(o, d, begin, radius, half_length):
    dist = f32(MISS)
    side = cylinder_roots(o, d, radius)
    for k in ti.static(range(2)):
        if side[k] > begin and side[k] < dist and ti.abs(o.z + side[k] * d.z) <= half_length:
            dist = side[k]
    if ti.abs(d.z) > f32(_TINY):
        for end in ti.static((-1, 1)):
            t = (end * half_length - o.z) / d.z
            x = o.x + t * d.x
            y = o.y + t * d.y
            if t > begin and t < dist and x * x + y * y <= radius * radius:
                dist = t
    return dist


@ti.func
def cylinder_roots(o, d, radius):
    """Where a line enters and leaves the infinite cylinder about z; MISS twice if it passes by."""
    roots = vec2(MISS, MISS)
    a = d.x * d.x + d.y * d.y
    if a > f32(_TINY):
        middle = -(o.x * d.x + o.y * d.y) / a
        x = o.x + middle * d.x
        y = o.y + middle * d.y
        h = radius * radius - x * x - y * y
        if h >= 0:
            half = ti.sqrt(h / a)
            roots = vec2(middle - half, middle + half)
    return roots


@ti.func
def hit_box(o, d, begin, half):
    span = slab_span(o, inverse(d), -half, half)
    dist = f32(MISS)
    if span.x <= span.y:
        dist = first_after(begin, span.x, span.y)
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
        span = slab_span(o, inv, scene.bvh_box[node_base + node, 0], scene.bvh_box[node_base + node, 1])
        inside = span.x <= span.y and span.y > begin and span.x < hit.dist
        if inside and node < first_leaf:
            node = 2 * node
        else:
            if inside:
                leaf = tri_base + (node - first_leaf) * bvh.LEAF_SIZE
                for k in range(bvh.LEAF_SIZE):
                    tri = leaf + k
                    t, u, v = hit_triangle(o, d, scene.tri_vert[tri, 0], scene.tri_vert[tri, 1], scene.tri_vert[tri, 2])
                    if t > begin and t < hit.dist:
                        hit = Hit(dist=t, prim=-1, tri=tri, bary=vec2(u, v))
            # up to the nearest ancestor that is a left child, then to its sibling; past the root that is node 0
            while node > 1 and node % 2 == 1:
                node = node // 2
            node = ti.select(node > 1, node + 1, 0)
    return hit


@ti.func
def hit_triangle(o, d, a, b, c):
    """Distance and barycentric coordinates of b and c, from either side (Moeller and Trumbore 1997)."""
    ab = b - a
    ac = c - a
    p = d.cross(ac)
    det = ab.dot(p)
    t = f32(MISS)
    u = f32(0.0)
    v = f32(0.0)
    if ti.abs(det) > f32(1e-20):
        s = o - a
        q = s.cross(ab)
        u = s.dot(p) / det
        v = d.dot(q) / det
        if u >= 0 and v >= 0 and u + v <= 1:
            t = ac.dot(q) / det
    return t, u, v


@ti.func
def slab_span(o, inv, lower, upper):
    """Distances between which a line is inside an axis-aligned box; empty (x > y) if it passes by."""
    t0 = (lower - o) * inv
    t1 = (upper - o) * inv
    return vec2(ti.min(t0, t1).max(), ti.max(t0, t1).min())


@ti.func
def inverse(d):
    """1 / d with a large finite number for 0: infinities are not kept under fast math."""
    inv = vec3(0)
    for i in ti.static(range(3)):
        inv[i] = f32(1.0) / ti.select(ti.abs(d[i]) > f32(_TINY), d[i], f32(_TINY))
    return inv


@ti.func
def first_after(begin, near, far):
    dist = f32(MISS)
    if near > begin:
        dist = near
    elif far > begin:
        dist = far
    return dist


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
        n = vec3(p.x, p.y, p.z - ti.max(-size.y, ti.min(size.y, p.z)))
    elif kind == GEOM_ELLIPSOID:
        n = p / (size.xyz * size.xyz)
    elif kind == GEOM_CYLINDER:
        if size.y - ti.abs(p.z) < size.x - ti.sqrt(p.x * p.x + p.y * p.y):
            n = vec3(0, 0, ti.math.sign(p.z))
        else:
            n = vec3(p.x, p.y, 0)
    elif kind == GEOM_BOX:
        q = ti.abs(p) - size.xyz
        n = vec3(0)
        if q.x >= q.y and q.x >= q.z:
            n.x = ti.math.sign(p.x)
        elif q.y >= q.z:
            n.y = ti.math.sign(p.y)
        else:
            n.z = ti.math.sign(p.z)
    elif kind == GEOM_MESH:
        a = f32(1.0) - hit.bary.x - hit.bary.y
        n = (
            a * scene.tri_normal[hit.tri, 0]
            + hit.bary.x * scene.tri_normal[hit.tri, 1]
            + hit.bary.y * scene.tri_normal[hit.tri, 2]
        )
    n = scene.rot[prim] @ n
    return n / ti.sqrt(ti.max(n.dot(n), f32(1e-30)))
