"""Packets of rays against the shapes of a scene: neighbouring rays meet the same ones.

A packet holds LANES rays that go through lists and trees together. Each number of theirs is a vector over the lanes;
written out by Taichi as straight-line code, LLVM packs it into SIMD registers. It does so from sums of integers and
from what a loop carries on, and only if no lane branches: hence `any_of`, `select`, and `raycast.smaller`. So go
capsules, of which there are hundreds; other shapes meet one ray after the other.
"""

from taichi_sim.render import bvh
from taichi_sim.render.raycast import MISS, Hit, f32, hit_prim, hit_round, inverse, next_node, slab_span, vec2, vec3
from taichi_sim.runtime import ti
from taichi_sim.types import GEOM_CAPSULE

# Measured on 100,000 rays to the muscles of humanoid_mtu: 8 and 16 lanes take a quarter of the time of single rays.
LANES = 8
# What is left of the light behind opaque things.
OPAQUE = 0.01

lanes = ti.types.vector(LANES, f32)
int_lanes = ti.types.vector(LANES, ti.i32)


@ti.dataclass
class Points:
    """Points or directions, one per lane."""

    x: lanes
    y: lanes
    z: lanes


@ti.dataclass
class Hits:
    """Nearest hits of a packet: distance, shape (-1: none), and for meshes triangle and barycentric coordinates."""

    dist: lanes
    prim: int_lanes
    tri: int_lanes
    u: lanes
    v: lanes


@ti.func
def point(points, lane):
    return vec3(points.x[lane], points.y[lane], points.z[lane])


@ti.func
def hit_of(hits, lane):
    return Hit(dist=hits.dist[lane], prim=hits.prim[lane], tri=hits.tri[lane], bary=vec2(hits.u[lane], hits.v[lane]))


@ti.func
def any_of(condition):
    """Whether a condition holds in any lane."""
    holds = ti.select(condition, int_lanes(1), int_lanes(0))
    count = 0
    for lane in ti.static(range(LANES)):
        count += holds[lane]
    return count > 0


@ti.func
def closest_hits(scene: ti.template(), lists: ti.template(), row, origin, direction, start, limit):
    """Nearest of the tubes and of the shapes in lists[row, 1:], of which lists[row, 0] is the number.

    Args:
        scene, lists, row: the shapes.
        origin, direction: the rays, `Points`.
        start, limit: the distances between which hits count, lanes; a ray of limit -MISS meets nothing.
    """
    hits = Hits(dist=limit, prim=int_lanes(-1), tri=int_lanes(-1), u=lanes(0), v=lanes(0))
    for k in range(lists[row, 0]):
        prim = lists[row, 1 + k]
        if scene.kind[prim][0] == GEOM_CAPSULE:
            found = _hit_capsule(scene, prim, origin, direction, start, hits.dist)
            hits.prim = ti.select(found < hits.dist, prim, hits.prim)
            hits.dist = ti.select(found < hits.dist, found, hits.dist)
        else:
            for lane in range(LANES):
                hit = hit_prim(scene, prim, point(origin, lane), point(direction, lane), start[lane], hits.dist[lane])
                if hit.dist < hits.dist[lane]:
                    hits.dist[lane], hits.prim[lane] = hit.dist, prim
                    hits.tri[lane], hits.u[lane], hits.v[lane] = hit.tri, hit.bary.x, hit.bary.y
    dist, tube, _ = _walk_tubes(scene, origin, direction, start, hits.dist, False)
    hits.dist = dist
    hits.prim = ti.select(tube >= 0, tube, hits.prim)
    return hits


@ti.func
def transmission(scene: ti.template(), lists: ti.template(), rows, origin, direction, limit):
    """Shares of light that the tubes and the shapes in each ray's row of `lists` (-1: none) let through; see above."""
    left, _, passed = _walk_tubes(scene, origin, direction, lanes(0), limit, True)
    for lane in range(LANES):
        row = rows[lane]
        if row >= 0:
            # all rays of that row at once: mostly it is one for the whole packet
            some = ti.select(rows == row, left, -f32(MISS))
            for k in range(lists[row, 0]):
                passed *= _through(scene, lists[row, 1 + k], origin, direction, some)
                some = ti.select(passed > f32(OPAQUE), some, -f32(MISS))
            rows = ti.select(rows == row, -1, rows)
    return passed


@ti.func
def _through(scene: ti.template(), prim, origin, direction, limit):
    """Share of light that a shape lets through along each ray."""
    hit = lanes(MISS)
    if scene.kind[prim][0] == GEOM_CAPSULE:
        hit = _hit_capsule(scene, prim, origin, direction, lanes(0), limit)
    else:
        for lane in range(LANES):
            ray = point(direction, lane)
            hit[lane] = hit_prim(scene, prim, point(origin, lane), ray, f32(0.0), limit[lane]).dist
    return ti.select(hit < limit, f32(1.0) - scene.color[prim].w, f32(1.0))


@ti.func
def _walk_tubes(scene: ti.template(), origin, direction, start, limit, light: ti.template()):
    """Distances to the nearest tubes (limit: none) and which they are (-1); or, for `light`, what share passes them.

    Walks the tree in heap order, without a stack (see `bvh`).
    """
    dist = limit
    nearest = int_lanes(-1)
    passed = lanes(1.0)
    inv = Points(x=inverse(direction.x), y=inverse(direction.y), z=inverse(direction.z))
    first_leaf = ti.i32(1) << ti.max(scene.tube_depth, 0)
    node = ti.select(scene.tube_depth >= 0, 1, 0)
    while node > 0:
        enter, leave = slab_span(origin, inv, scene.tube_box[node, 0], scene.tube_box[node, 1])
        inside = any_of((enter <= leave) & (leave > start) & (enter < dist))
        if inside & (node < first_leaf):
            node = 2 * node
        else:
            if inside:
                for k in range(bvh.LEAF_SIZE):
                    prim = scene.tube_first + (node - first_leaf) * bvh.LEAF_SIZE + k
                    found = _hit_capsule(scene, prim, origin, direction, start, dist)
                    if ti.static(light):
                        passed *= ti.select(found < dist, f32(1.0) - scene.color[prim].w, f32(1.0))
                        # a ray that is dark needs to go no further
                        dist = ti.select(passed > f32(OPAQUE), dist, -f32(MISS))
                    else:
                        nearest = ti.select(found < dist, prim, nearest)
                        dist = ti.select(found < dist, found, dist)
            node = next_node(node)
    return dist, nearest, passed


@ti.func
def _hit_capsule(scene: ti.template(), prim, origin, direction, start, limit):
    """Distances of a capsule between `start` and `limit`, MISS where there is none."""
    size, pos, rot = scene.size[prim], scene.pos[prim], scene.rot[prim]
    ox, oy, oz = origin.x - pos.x, origin.y - pos.y, origin.z - pos.z
    # start from the point nearest to the capsule's centre, as `raycast.hit_prim` does
    middle = -(ox * direction.x + oy * direction.y + oz * direction.z)
    fx, fy, fz = ox + middle * direction.x, oy + middle * direction.y, oz + middle * direction.z
    # most rays that meet the bounding sphere of a long shape pass its axis by
    cx = direction.y * rot[2, 2] - direction.z * rot[1, 2]
    cy = direction.z * rot[0, 2] - direction.x * rot[2, 2]
    cz = direction.x * rot[1, 2] - direction.y * rot[0, 2]
    away = ox * cx + oy * cy + oz * cz
    radius = size.w - size.y
    near = (fx * fx + fy * fy + fz * fz <= size.w * size.w) & (middle - size.w < limit) & (middle + size.w > start)
    near = near & (away * away <= radius * radius * (cx * cx + cy * cy + cz * cz) + f32(1e-12))
    dist = lanes(MISS)
    if any_of(near) & (scene.color[prim].w > 0):
        foot = _to_local(rot, fx, fy, fz)
        found = hit_round(foot, _to_local(rot, direction.x, direction.y, direction.z), start - middle, size, True)
        dist = ti.select(found < f32(MISS), found + middle, dist)
    return dist


@ti.func
def _to_local(rot, x, y, z):
    return Points(
        x=rot[0, 0] * x + rot[1, 0] * y + rot[2, 0] * z,
        y=rot[0, 1] * x + rot[1, 1] * y + rot[2, 1] * z,
        z=rot[0, 2] * x + rot[1, 2] * y + rot[2, 2] * z,
    )
