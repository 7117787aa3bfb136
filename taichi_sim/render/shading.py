"""From rays to pixels: culling, light, floor, sky and anti-aliasing, in three Taichi kernels.

1. `bin_shapes` lists, per screen tile and per cell of a grid across the sunlight, the shapes that can be seen or cast
   a shadow there.
2. `trace_pixels` shades one sample per pixel and keeps what it saw: shape, distance, normal and sunlight. Run again to
   refine, it takes SAMPLES samples wherever that differs between neighbours or the sun is partly hidden. Rays go in
   packets: a block of pixels, or the samples of one.
3. `write_image` turns linear light into bytes.
"""

from taichi_sim.render.packets import (
    LANES,
    OPAQUE,
    Points,
    any_of,
    closest_hits,
    hit_of,
    int_lanes,
    lanes,
    point,
    transmission,
)
from taichi_sim.render.raycast import (
    MISS,
    Scene,
    blend,
    f32,
    length,
    surface_normal,
    vec2,
    vec3,
    vec4,
)
from taichi_sim.runtime import ti
from taichi_sim.types import GEOM_PLANE

TILE = 16
SAMPLES = 2 * LANES
# Pixels side by side in the packets of the first pass.
_BLOCK = 4
RIM = 4  # rays to the sun's rim
_LAYERS = 4  # transparent surfaces seen through one another

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
#   sun_rays              directions towards it: one for each sample of a pixel, then the RIM for an only one
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
    sun_rays=ti.types.ndarray(dtype=vec3, ndim=1),
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
class Samples:
    """Linear colours of a packet of rays, and of the first surface that each met: shape (-1: sky), distance, normal,
    sunlight.
    """

    color: Points
    prim: int_lanes
    dist: lanes
    normal: Points
    sunlight: lanes


@ti.kernel
def bin_shapes(scene: Scene, view: View, num: ti.i32):
    for tile in range(view.tiles.shape[0]):
        _bin_tile(scene, view, num, tile)
    for cell in range(view.cells.shape[0]):
        _bin_cell(scene, view, num, cell)


@ti.kernel
def trace_pixels(scene: Scene, view: View, frame: Frame, refine: ti.i32):
    # one kernel for both passes, because most of its compile time goes into `_shade`
    for row, column in ti.ndrange((view.height + 1) // 2, (view.width + _BLOCK - 1) // _BLOCK):
        for j in range(ti.select(refine == 0, 1, LANES)):
            y = 2 * row + j // _BLOCK
            x = _BLOCK * column + j % _BLOCK
            packets = 1
            if refine != 0:
                packets = _packets(scene, view, frame, y, x)
            pixel = vec3(0)
            for i in range(packets):
                numbers = _sample_numbers(refine, i, packets)
                samples = _shade(scene, view, y, x, numbers)
                if refine == 0:
                    _keep(view, frame, y, x, samples)
                pixel += vec3(samples.color.x.sum(), samples.color.y.sum(), samples.color.z.sum())
            if (refine != 0) & (packets > 0):
                frame.radiance[y, x] = pixel / f32(packets * LANES)


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
def _packets(scene: ti.template(), view: ti.template(), frame: ti.template(), y, x):
    """How many packets of samples refine a pixel."""
    packets = 0
    if (y < view.height) & (x < view.width):
        if _is_tube(scene, frame.prim[y, x]):
            packets = 1
        elif _is_edge(view, frame, y, x):
            packets = SAMPLES // LANES
    return packets


@ti.func
def _is_tube(scene: ti.template(), prim):
    """Tubes, thin as they are, are edges all over: a pixel of one is always refined, by half of the samples, and lit
    only then.
    """
    return (scene.tube_depth >= 0) & (prim >= scene.tube_first)


@ti.func
def _sample_numbers(refine, i, packets):
    """The numbers of a packet's samples within their pixel; -1 for a pixel's only sample."""
    numbers = int_lanes(-1)
    for lane in ti.static(range(LANES)):
        # of each two neighbours the one with an even number of ones: these points are evenly spread as well
        half = 2 * lane + ((lane & 1) ^ (lane >> 1 & 1) ^ (lane >> 2 & 1))
        numbers[lane] = ti.select(refine == 0, -1, ti.select(packets == 1, half, i * LANES + lane))
    return numbers


@ti.func
def _keep(view: ti.template(), frame: ti.template(), y, x, samples):
    """Keeps the only samples of a block of pixels."""
    for lane in range(LANES):
        v = y + lane // _BLOCK
        u = x + lane % _BLOCK
        if (v < view.height) & (u < view.width):
            frame.radiance[v, u] = point(samples.color, lane)
            frame.prim[v, u] = samples.prim[lane]
            frame.dist[v, u] = samples.dist[lane]
            frame.surface[v, u] = vec4(point(samples.normal, lane), samples.sunlight[lane])


@ti.func
def _camera_rays(view: ti.template(), y, x, numbers):
    """Directions of a packet: through these samples of pixel (x, y), or the centres of the block that begins there."""
    # Hammersley's points, one in each row and column of a 16 x 16 grid
    reverse = (numbers & 1) * 8 + (numbers & 2) * 2 + (numbers & 4) // 2 + (numbers & 8) // 8
    right = (ti.cast(numbers, f32) + f32(0.5)) * f32(1 / SAMPLES)
    down = (ti.cast(reverse, f32) + f32(0.5)) * f32(1 / SAMPLES)
    for lane in ti.static(range(LANES)):
        right[lane] = ti.select(numbers[lane] < 0, f32(lane % _BLOCK + 0.5), right[lane])
        down[lane] = ti.select(numbers[lane] < 0, f32(lane // _BLOCK + 0.5), down[lane])
    right += x - view.width * f32(0.5)
    up = view.height * f32(0.5) - y - down
    dx = view.forward.x + right * view.right.x + up * view.up.x
    dy = view.forward.y + right * view.right.y + up * view.up.y
    dz = view.forward.z + right * view.right.z + up * view.up.z
    share = f32(1.0) / ti.sqrt(dx * dx + dy * dy + dz * dz)
    return Points(x=dx * share, y=dy * share, z=dz * share)


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
def _shade(scene: ti.template(), view: ti.template(), y, x, numbers):
    """A packet: the samples of these numbers of pixel (x, y), or the only ones of the block that begins there.

    A block does not cross the edges of tiles.
    """
    columns = (view.width + TILE - 1) // TILE
    tile = y // TILE * columns + x // TILE
    d = _camera_rays(view, y, x, numbers)
    none = Points(x=lanes(0), y=lanes(0), z=lanes(0))
    first = Samples(color=none, prim=int_lanes(-1), dist=lanes(MISS), normal=none, sunlight=lanes(1))
    color = none
    through = lanes(1)
    start = lanes(0)
    for layer in range(_LAYERS):
        if any_of(through > f32(OPAQUE)):
            found = _surfaces(scene, view, tile, d, start, through, numbers)
            for lane in range(LANES):
                opacity = f32(1.0)
                if found.prim[lane] >= 0:
                    opacity = scene.color[found.prim[lane]].w
                share = through[lane] * opacity
                color.x[lane] += share * found.color.x[lane]
                color.y[lane] += share * found.color.y[lane]
                color.z[lane] += share * found.color.z[lane]
                through[lane] *= f32(1.0) - opacity
                start[lane] = found.dist[lane] * f32(1.0001)
            if layer == 0:
                first = found
    first.color = color
    return first


@ti.func
def _surfaces(scene: ti.template(), view: ti.template(), tile, d, start, through, numbers):
    """What a packet's rays meet next, and the sky's colour where that is nothing."""
    eye = Points(x=lanes(0), y=lanes(0), z=lanes(0))
    limit = ti.select(through > f32(OPAQUE), f32(MISS), -f32(MISS))
    hits = closest_hits(scene, view.tiles, tile, eye, d, start, limit)
    found = Samples(color=eye, prim=hits.prim, dist=hits.dist, normal=eye, sunlight=lanes(1))
    for lane in range(LANES):
        if found.prim[lane] >= 0:
            ray = point(d, lane)
            normal = surface_normal(scene, hit_of(hits, lane), found.dist[lane] * ray)
            normal *= ti.select(normal.dot(ray) > 0, f32(-1.0), f32(1.0))
            found.normal.x[lane], found.normal.y[lane], found.normal.z[lane] = normal.x, normal.y, normal.z
    found.sunlight = _sunlight(scene, view, d, start, found, numbers)
    for lane in range(LANES):
        ray = point(d, lane)
        color = _sky(ray)
        if found.prim[lane] >= 0:
            normal = point(found.normal, lane)
            color = _surface_color(
                scene, view, found.prim[lane], found.dist[lane], ray, normal, found.sunlight[lane], numbers[lane]
            )
        found.color.x[lane], found.color.y[lane], found.color.z[lane] = color.x, color.y, color.z
    return found


@ti.func
def _surface_color(scene: ti.template(), view: ti.template(), prim, dist, d, normal, sunlight, k):
    albedo = scene.color[prim].xyz
    haze = f32(0.0)
    gloss = f32(0.10)
    if scene.kind[prim][0] == GEOM_PLANE:
        albedo *= _checker(scene, view, prim, d, dist, k)
        far = dist / view.fade
        haze = far * far / (f32(1.0) + far * far)
        gloss = f32(0.0)
    half_way = view.sun - d
    shine = ti.max(f32(0.0), normal.dot(half_way) / length(half_way)) ** 40
    direct = ti.max(f32(0.0), normal.dot(view.sun)) * sunlight
    ambient = blend(vec3(_GROUND_LIGHT), vec3(_SKY_LIGHT), normal.z * f32(0.5) + f32(0.5))
    color = albedo * (ambient + direct * vec3(_SUN)) * f32(_EXPOSURE) + gloss * shine * direct * vec3(_SUN)
    return blend(color, vec3(_HORIZON), haze)


@ti.func
def _sunlight(scene: ti.template(), view: ti.template(), d, start, surfaces, numbers):
    """Visible shares of the sun: of one point of its disc per sample, or of the rim for a pixel's only sample."""
    off = surfaces.dist * f32(2e-4)
    place = Points(
        x=surfaces.dist * d.x + off * surfaces.normal.x,
        y=surfaces.dist * d.y + off * surfaces.normal.y,
        z=surfaces.dist * d.z + off * surfaces.normal.z,
    )
    light = lanes(1)
    cells = int_lanes(-1)
    limit = lanes(-MISS)
    for lane in range(LANES):
        asks = (numbers[lane] >= 0) | (start[lane] > 0) | (not _is_tube(scene, surfaces.prim[lane]))
        if asks & (surfaces.prim[lane] >= 0) & (point(surfaces.normal, lane).dot(view.sun) > 0):
            cells[lane] = _cell(view, point(place, lane))
            if _tubes_shade(scene, view, point(place, lane)) | (cells[lane] >= 0):
                limit[lane] = f32(MISS)
                light[lane] = f32(0.0)
    if any_of(limit > 0):
        rays = ti.select(numbers[0] < 0, RIM, 1)
        for i in range(rays):
            ray = Points(x=lanes(0), y=lanes(0), z=lanes(0))
            for lane in range(LANES):
                towards = view.sun_rays[ti.select(numbers[lane] < 0, SAMPLES + i, numbers[lane])]
                ray.x[lane], ray.y[lane], ray.z[lane] = towards.x, towards.y, towards.z
            passed = transmission(scene, view.cells, cells, place, ray, limit)
            light += ti.select(limit > 0, passed / f32(rays), f32(0.0))
    return light


@ti.func
def _cell(view: ti.template(), point):
    """The cell of the grid across the sunlight that a point is in, -1 where none has a shape that casts a shadow."""
    place = (vec2(point.dot(view.sun_u), point.dot(view.sun_v)) - view.grid_origin) / view.grid_cell
    column = ti.i32(ti.floor(place.x))
    row = ti.i32(ti.floor(place.y))
    cell = -1
    if (column >= 0) & (column < view.grid_num) & (row >= 0) & (row < view.grid_num):
        if view.cells[row * view.grid_num + column, 0] > 0:
            cell = row * view.grid_num + column
    return cell


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
