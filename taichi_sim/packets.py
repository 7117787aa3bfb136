"""Packets of rays against the tubes: hundreds of thin shapes, through whose tree neighbouring rays take the same way.

A packet holds LANES rays that go through the tree together. Each number of theirs is a vector over the lanes; written
out by Taichi as straight-line code, LLVM packs it into SIMD registers. It does so from sums of integers and from what
a loop carries on, and only if no lane branches: hence `any_of`, `select`, and `raycast.smaller`.
"""

from taichi_sim import bvh
from taichi_sim.raycast import MISS, OPAQUE, f32, hit_round, inverse, next_node, slab_span
from taichi_sim.runtime import ti

# Measured on 100,000 rays to the muscles of humanoid_mtu: 8 and 16 lanes take a quarter of the time of single rays.
LANES = 8

lanes = ti.types.vector(LANES, f32)
int_lanes = ti.types.vector(LANES, ti.i32)


@ti.dataclass
class Points:
    """Points or directions, one per lane."""

    x: lanes
    y: lanes
    z: lanes


@ti.func
def any_of(condition):
    """Whether a condition holds in any lane."""
    holds = ti.select(condition, int_lanes(1), int_lanes(0))
    count = 0
    for lane in ti.static(range(LANES)):
        count += holds[lane]
    return count > 0


@ti.func
def walk_tubes(scene: ti.template(), origin, direction, start, limit, light: ti.template()):
    """The tubes between two distances along each ray, through their tree in heap order, without a stack (see `bvh`).

    Args:
        scene: the shapes.
        origin, direction: the rays, `Points`.
        start, limit: the distances, lanes; a ray of limit -MISS meets nothing.
        light: whether the rays ask for light instead of the nearest tube.

    Returns:
        Distance to the nearest tube (limit: there is none), which one it is (-1), and, for `light`, the share of light
        let through.
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
                    found = _hit_tube(scene, prim, origin, direction, start, dist)
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
def _hit_tube(scene: ti.template(), prim, origin, direction, start, limit):
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
