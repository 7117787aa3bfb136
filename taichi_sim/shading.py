"""From rays to pixels: culling, light, floor, sky and anti-aliasing, in three Taichi kernels.

1. `bin_shapes` lists, per screen tile and per cell of a grid across the sunlight, the shapes that can be seen or cast
   a shadow there.
2. `trace_pixels` shades one sample per pixel and keeps what it saw: shape, distance, normal and sunlight. Run again to
   refine, it takes SAMPLES samples wherever that differs between neighbours or the sun is partly hidden.
3. `write_image` turns linear light into bytes.
"""

from taichi_sim.raycast import (
    MISS,
    Scene,
    blend,
    closest_hit,
    f32,
    length,
    surface_normal,
    transmission,
    vec2,
    vec3,
    vec4,
)
from taichi_sim.runtime import ti
from taichi_sim.types import GEOM_PLANE

TILE = 16
SAMPLES = 16
_LAYERS = 4  # transparent surfaces seen through one another
_GOLDEN_ANGLE = 2.399963

_EXPOSURE = 0.46
_SUN = (2.35, 2.2, 1.95)
_SKY_LIGHT = (0.62, 0.70, 0.84)
_GROUND_LIGHT = (0.46, 0.43, 0.40)
_ZENITH = (0.26, 0.45, 0.74)
_HORIZON = (0.78, 0.85, 0.92)
_NADIR = (0.52, 0.57, 0.64)

_lists = ti.types.ndarray(dtype=ti.i32, ndim=2)

# The camera and the light of one frame.
#   forward, right, up    ray through pixel (x, y): forward + (x - width / 2) right + (height / 2 - y) up
#   sun, sun_u, sun_v     direction towards the sun and two unit vectors across it
#   sun_radius            tangent of the sun's angular radius
#   sun_reach             largest distance over which a shadow's blur is kept whole [m]
#   grid_origin           the grid's corner in (sun_u, sun_v) [m]
#   grid_cell, grid_num   side of a cell [m], cells per side
#   fade                  distance at which the floor is half lost in the haze [m]
#   checker               side of the floor's squares [m]
#   tiles, cells          shapes per tile and per cell; entry 0 of a row is their number
View = ti.types.argpack(
    width=ti.i32,
    height=ti.i32,
    forward=vec3,
    right=vec3,
    up=vec3,
    sun=vec3,
    sun_u=vec3,
    sun_v=vec3,
    sun_radius=f32,
    sun_reach=f32,
    grid_origin=vec2,
    grid_cell=f32,
    grid_num=ti.i32,
    fade=f32,
    checker=f32,
    tiles=_lists,
    cells=_lists,
)

# The frame buffers: one sample per pixel (`Sample`'s fields; surface = normal, sunlight) and the picture.
# Taichi puts the members of all argpacks of a kernel into one namespace, that of its arguments: no name occurs twice.
Frame = ti.types.argpack(
    radiance=ti.types.ndarray(dtype=vec3, ndim=2),
    prim=ti.types.ndarray(dtype=ti.i32, ndim=2),
    dist=ti.types.ndarray(dtype=f32, ndim=2),
    surface=ti.types.ndarray(dtype=vec4, ndim=2),
    image=ti.types.ndarray(dtype=ti.u8, ndim=3),
)


@ti.dataclass
class Sample:
    """Linear colour of one ray, and of the first surface that it met: shape (-1: sky), distance, normal, sunlight."""

    color: vec3
    prim: ti.i32
    dist: f32
    normal: vec3
    sunlight: f32


@ti.kernel
def bin_shapes(scene: Scene, view: View, num: ti.i32):
    for tile in range(view.tiles.shape[0]):
        _bin_tile(scene, view, num, tile)
    for cell in range(view.cells.shape[0]):
        _bin_cell(scene, view, num, cell)


@ti.kernel
def trace_pixels(scene: Scene, view: View, frame: Frame, refine: ti.i32):
    for y, x in ti.ndrange(view.height, view.width):
        # one kernel for both passes, because most of its compile time goes into `_shade`
        first = 0
        last = 0
        if refine == 0:
            first = -1
        elif _is_edge(view, frame, y, x):
            last = SAMPLES
        # thin as they are, tubes are edges all over: half of the samples serve them
        tube = (refine != 0) & (scene.tube_depth >= 0) & (frame.prim[y, x] >= scene.tube_first)
        last = ti.select(tube, last // 2, last)
        pixel = vec3(0)
        for i in range(first, last):
            # of each two neighbours the one with an even number of ones: these points are evenly spread as well
            k = ti.select(tube, 2 * i + ((i & 1) ^ (i >> 1 & 1) ^ (i >> 2 & 1)), i)
            place = _place_in_pixel(k)
            sample = _shade(scene, view, x + place.x, y + place.y, k)
            pixel += sample.color
            if k < 0:
                frame.prim[y, x] = sample.prim
                frame.dist[y, x] = sample.dist
                frame.surface[y, x] = vec4(sample.normal, sample.sunlight)
        if last > first:
            frame.radiance[y, x] = pixel / f32(last - first)


@ti.kernel
def write_image(frame: Frame):
    for y, x in frame.radiance:
        for c in ti.static(range(3)):
            # displays expect roughly the 2.2th root of linear light
            value = ti.pow(ti.max(f32(0.0), ti.min(f32(1.0), frame.radiance[y, x][c])), f32(1 / 2.2))
            frame.image[y, x, c] = ti.cast(value * f32(255.0) + f32(0.5), ti.u8)


@ti.func
def _bin_tile(scene: ti.template(), view: ti.template(), num, tile):
    """Lists the shapes whose bounding sphere meets the cone around a tile of the screen."""
    columns = (view.width + TILE - 1) // TILE
    x = (tile % columns) * TILE
    y = (tile // columns) * TILE
    axis = _ray_direction(view, f32(x + TILE // 2), f32(y + TILE // 2))
    corner = _ray_direction(view, f32(x), f32(y)).dot(axis)
    for k in ti.static(range(1, 4)):
        corner = ti.min(corner, _ray_direction(view, f32(x + TILE * (k % 2)), f32(y + TILE * (k // 2))).dot(axis))
    half_angle = ti.acos(ti.min(corner, f32(1.0))) + f32(1e-3)
    count = 0
    for prim in range(num):
        seen = scene.color[prim].w > 0
        if seen & (scene.kind[prim][0] != GEOM_PLANE):
            pos = scene.pos[prim]
            dist = length(pos)
            bound = scene.size[prim].w
            if dist > bound:
                angle = ti.acos(ti.max(-f32(1.0), ti.min(f32(1.0), pos.dot(axis) / dist)))
                seen = angle < half_angle + ti.asin(bound / dist)
        if seen:
            count += 1
            view.tiles[tile, count] = prim
    view.tiles[tile, 0] = count


@ti.func
def _bin_cell(scene: ti.template(), view: ti.template(), num, cell):
    """Lists the shapes whose bounding sphere, seen from the sun, meets a cell; planes cast no shadows."""
    lower = view.grid_origin + vec2(f32(cell % view.grid_num), f32(cell // view.grid_num)) * view.grid_cell
    count = 0
    for prim in range(num):
        if (scene.color[prim].w > 0) & (scene.kind[prim][0] != GEOM_PLANE):
            center = vec2(scene.pos[prim].dot(view.sun_u), scene.pos[prim].dot(view.sun_v))
            gap = center - ti.max(lower, ti.min(lower + view.grid_cell, center))
            bound = scene.size[prim].w + view.sun_radius * view.sun_reach
            if gap.dot(gap) <= bound * bound:
                count += 1
                view.cells[cell, count] = prim
    view.cells[cell, 0] = count


@ti.func
def _ray_direction(view: ti.template(), x, y):
    d = view.forward + (x - view.width * f32(0.5)) * view.right + (view.height * f32(0.5) - y) * view.up
    return d / length(d)


@ti.func
def _place_in_pixel(k):
    """Hammersley's points, one in each row and column of a 16 x 16 grid; the centre for a pixel's only sample."""
    reverse = (k & 1) * 8 + (k & 2) * 2 + (k & 4) // 2 + (k & 8) // 8
    return ti.select(k < 0, vec2(0.5), (vec2(f32(k), f32(reverse)) + f32(0.5)) * f32(1 / SAMPLES))


@ti.func
def _is_edge(view: ti.template(), frame: ti.template(), y, x):
    """Whether a pixel differs from a neighbour by more than smooth shading does, or lies in a half-shadow."""
    prim = frame.prim[y, x]
    here = frame.surface[y, x]
    edge = (here.w > f32(0.01)) & (here.w < f32(0.99))
    for i in range(9):
        v = ti.max(0, ti.min(view.height - 1, y + i // 3 - 1))
        u = ti.max(0, ti.min(view.width - 1, x + i % 3 - 1))
        there = frame.surface[v, u]
        edge |= frame.prim[v, u] != prim
        edge |= ti.abs(there.w - here.w) > f32(0.1)
        edge |= (prim >= 0) & (here.xyz.dot(there.xyz) < f32(0.95))
    return edge


@ti.func
def _shade(scene: ti.template(), view: ti.template(), x, y, k):
    """Colour along the ray through (x, y); k is the number of the sample within its pixel, -1 for the only one."""
    columns = (view.width + TILE - 1) // TILE
    tile = ti.min(ti.i32(y), view.height - 1) // TILE * columns + ti.min(ti.i32(x), view.width - 1) // TILE
    d = _ray_direction(view, x, y)
    first = Sample(color=vec3(0), prim=-1, dist=f32(MISS), normal=vec3(0), sunlight=f32(1.0))
    color = vec3(0)
    through = f32(1.0)
    start = f32(0.0)
    for layer in range(_LAYERS):
        if through > f32(0.01):
            hit = closest_hit(scene, view.tiles, tile, vec3(0), d, start)
            if hit.dist < f32(MISS):
                surface = _shade_hit(scene, view, hit, d, k)
                opacity = scene.color[hit.prim].w
                color += through * opacity * surface.color
                through *= f32(1.0) - opacity
                start = hit.dist * f32(1.0001)
                if layer == 0:
                    first = surface
            else:
                color += through * _sky(d)
                through = f32(0.0)
    first.color = color
    return first


@ti.func
def _shade_hit(scene: ti.template(), view: ti.template(), hit, d, k):
    point = hit.dist * d
    normal = surface_normal(scene, hit, point)
    normal *= ti.select(normal.dot(d) > 0, f32(-1.0), f32(1.0))
    tint = scene.color[hit.prim]
    albedo = tint.xyz
    haze = f32(0.0)
    gloss = f32(0.10)
    if scene.kind[hit.prim][0] == GEOM_PLANE:
        albedo *= _checker(scene, view, hit.prim, d, hit.dist, k)
        far = hit.dist / view.fade
        haze = far * far / (f32(1.0) + far * far)
        gloss = f32(0.0)

    sunlight = f32(1.0)
    facing = normal.dot(view.sun)
    if facing > 0:
        sunlight = _sunlight(scene, view, point + normal * (hit.dist * f32(2e-4)), k)
    half_way = view.sun - d
    shine = ti.pow(ti.max(f32(0.0), normal.dot(half_way) / length(half_way)), 40)
    direct = ti.max(f32(0.0), facing) * sunlight
    ambient = blend(vec3(_GROUND_LIGHT), vec3(_SKY_LIGHT), normal.z * f32(0.5) + f32(0.5))
    color = albedo * (ambient + direct * vec3(_SUN)) * f32(_EXPOSURE) + gloss * shine * direct * vec3(_SUN)
    color = blend(color, _sky(vec3(d.x, d.y, f32(0.0))), haze)
    return Sample(color=color, prim=hit.prim, dist=hit.dist, normal=normal, sunlight=sunlight)


@ti.func
def _sunlight(scene: ti.template(), view: ti.template(), point, k):
    """Visible share of the sun: one point of its disc per sample, or four of its rim for a pixel's only sample."""
    place = (vec2(point.dot(view.sun_u), point.dot(view.sun_v)) - view.grid_origin) / view.grid_cell
    column = ti.i32(ti.floor(place.x))
    row = ti.i32(ti.floor(place.y))
    cell = ti.select(
        (column >= 0) & (column < view.grid_num) & (row >= 0) & (row < view.grid_num), row * view.grid_num + column, -1
    )
    light = f32(1.0)
    if _tubes_shade(scene, view, point) | ((cell >= 0) & (view.cells[ti.max(cell, 0), 0] > 0)):
        rays = ti.select(k < 0, 4, 1)
        light = f32(0.0)
        for i in range(rays):
            spiral = (k * 7) % SAMPLES
            angle = ti.select(k < 0, i * f32(1.5707963), spiral * f32(_GOLDEN_ANGLE))
            radius = ti.select(k < 0, f32(1.0), ti.sqrt((spiral + f32(0.5)) * f32(1 / SAMPLES))) * view.sun_radius
            ray = view.sun + radius * (ti.cos(angle) * view.sun_u + ti.sin(angle) * view.sun_v)
            light += transmission(scene, view.cells, cell, point, ray / length(ray)) / f32(rays)
    return light


@ti.func
def _tubes_shade(scene: ti.template(), view: ti.template(), point):
    """Whether the sunlight at a point passes the sphere around all tubes, so that it pays to look closer."""
    lower = scene.tube_box[ti.min(1, scene.tube_depth + 1), 0]
    upper = scene.tube_box[ti.min(1, scene.tube_depth + 1), 1]
    radius = length(upper - lower) * f32(0.5)
    offset = (lower + upper) * f32(0.5) - point
    along = offset.dot(view.sun)
    reach = radius + view.sun_radius * (along + radius)
    aside = offset - along * view.sun
    return (scene.tube_depth >= 0) & (along + radius > 0) & (aside.dot(aside) <= reach * reach)


@ti.func
def _checker(scene: ti.template(), view: ti.template(), prim, d, dist, k):
    """Brightness of the two-tone floor, averaged over the pixel's footprint, so that no moire appears."""
    to_local = scene.rot[prim].transpose()
    local = to_local @ d
    size = scene.size[prim]
    p = (vec2(size.z, size.w) + dist * local.xy) / view.checker
    # the footprint: how far the hit moves when the ray turns by one pixel (one sample's share of it) in x and in y
    pixel = ti.select(k < 0, f32(1.0), f32(0.25)) * dist / view.checker * d.dot(view.forward)
    right = to_local @ view.right
    up = to_local @ view.up
    across = (right.xy - local.xy * (right.z / local.z)) * pixel
    along = (up.xy - local.xy * (up.z / local.z)) * pixel
    width = ti.abs(across) + ti.abs(along) + f32(1e-4)
    # the integral of a square wave is a triangle wave: its difference quotient is the wave filtered by a box
    wave = f32(2.0) * (_triangle(p - width * f32(0.5)) - _triangle(p + width * f32(0.5))) / width
    return f32(0.89) - f32(0.11) * wave.x * wave.y


@ti.func
def _triangle(x):
    return ti.abs(ti.math.fract(x * f32(0.5)) - f32(0.5))


@ti.func
def _sky(d):
    up = ti.max(f32(0.0), d.z)
    down = ti.max(f32(0.0), -d.z)
    color = blend(vec3(_HORIZON), vec3(_ZENITH), f32(1.0) - ti.exp(-f32(2.2) * up))
    return blend(color, vec3(_NADIR), f32(1.0) - ti.exp(-f32(2.2) * down))
