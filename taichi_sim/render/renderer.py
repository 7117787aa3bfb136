"""The picture of a model: a ray caster that needs no display, no graphics card and no system package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from taichi_sim import runtime
from taichi_sim.render import bvh, raycast, scene, shading
from taichi_sim.render.camera import Camera, CameraRig
from taichi_sim.render.colorbar import draw_colorbar
from taichi_sim.render.tubes import Capsules, Tubes
from taichi_sim.runtime import returned, ti
from taichi_sim.types import GEOM_CAPSULE, GEOM_PLANE, Model

# Cells per side of the grid across the sunlight that finds the shapes casting a shadow on a point.
_GRID = 48
# Tangent of the sun's angular radius: larger than the sun's own 0.005, for softer shadows.
_SUN_RADIUS = 0.02
_GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))

_NO_CAPSULES = Capsules(np.zeros((0, 2, 3)), np.zeros((0, 2)), np.zeros((0, 4)))


class Renderer:
    """Draws a model for given poses of its bodies.

    Colours are the geoms' own, or a palette where the model has none. Geoms of opacity 0 and of hidden groups are left
    out; planes get a checker, and those much larger than the model have no end. Spatial tendons are tubes along their
    paths; muscles among them are coloured by activation. The camera follows what it tracks from frame to frame, so
    frames are to be drawn in their order; `reset` begins a new shot.

    Args:
        model: the model to draw.
        width, height: size of the picture [pixels].
        camera: the point of view.
        motion: the poses (num, nbody, 3) and (num, nbody, 4) that are to be drawn, which a camera before a fixed base
            is placed for; None: it is placed for all postures that the limits allow.
        sun: direction towards the sun, in the world, shape (3,).
        floor: draw a floor under a model that has no plane of its own.
        groups: groups of geoms that are drawn (MuJoCo's viewer shows 0, 1 and 2).
        colorbar: explain the muscles' colours by a bar in the picture, if there are muscles. An attribute too.

    Raises:
        ValueError: a size is not positive, the sun is not above the horizon, the tracked body does not exist, or a geom
            cannot be drawn.
    """

    def __init__(
        self,
        model: Model,
        width: int = 640,
        height: int = 480,
        *,
        camera: Camera | None = None,
        motion: tuple[np.ndarray, np.ndarray] | None = None,
        sun=(-0.35, -0.55, 1.0),
        floor: bool = False,
        groups: tuple[int, ...] = (0, 1, 2),
        colorbar: bool = True,
    ):
        if width < 1 or height < 1:
            raise ValueError(f"Renderer: a picture of {width} x {height} pixels; both must be positive.")
        sun = np.asarray(sun, dtype=np.float64)
        if sun.shape != (3,) or not sun[2] > 0:
            raise ValueError(f"Renderer: sun is {sun}; it must be a direction (x, y, z) with z > 0.")
        self._runtime = runtime.get()
        self.model, self.width, self.height = model, width, height
        self.camera = camera or Camera()
        self.sun = sun / np.linalg.norm(sun)
        shapes = scene.visible_shapes(model, groups)
        self._rig = CameraRig(model, shapes, self.camera, width / height, motion)
        self._checker = scene.checker_size(self._rig.extent)
        self._shapes = scene.unbounded(shapes, self._rig.extent)
        self._tubes = Tubes(model)
        self.colorbar = colorbar
        self._floor = floor and not np.any(shapes.kind == GEOM_PLANE)
        self._bound = scene.bounding_radii(self._shapes)
        self._meshes = _upload_meshes(self._shapes.meshes)
        self._across_sun = _across(self.sun)
        self._sun_rays = returned(ti.Vector.ndarray(3, ti.f32, shading.SAMPLES + shading.RIM))
        self._sun_rays.from_numpy(_sun_rays(self.sun, self._across_sun).astype(np.float32))
        self._allocate(16, 1)
        # packed for each call: a pack that lives when Python ends complains
        self._buffers = dict(
            radiance=returned(ti.Vector.ndarray(3, ti.f32, (height, width))),
            prim=ti.ndarray(ti.i32, (height, width)),
            dist=ti.ndarray(ti.f32, (height, width)),
            surface=returned(ti.Vector.ndarray(4, ti.f32, (height, width))),
            image=ti.ndarray(ti.u8, (height, width, 3)),
        )

    def render(self, xpos, xquat, *, act=None, ctrl=None, capsules: Capsules | None = None) -> np.ndarray:
        """Draws one frame.

        Args:
            xpos: positions of the bodies [m], array or tensor of shape (nbody, 3).
            xquat: their orientations (wxyz), shape (nbody, 4).
            act: the actuators' activations, shape (na,): the colours of muscles; None: 0.
            ctrl: controls, shape (nu,), for muscles without activation dynamics; None: 0.
            capsules: further coloured capsules to draw in this frame.

        Returns:
            The picture, uint8, shape (height, width, 3), top row first.

        Raises:
            ValueError: a shape is wrong or a number is not finite.
        """
        xpos, xquat = self._checked(xpos, "xpos", 3), self._checked(xquat, "xquat", 4)
        tubes = [self._tubes.capsules(xpos, xquat, act, ctrl)] + [capsules] * (capsules is not None)
        with runtime.exclusive(self._runtime):
            shapes, view, frame = self._sample(xpos, xquat, tubes)
            shading.trace_pixels(shapes, view, frame, 1)
            shading.write_image(frame)
            picture = self._buffers["image"].to_numpy()
        return draw_colorbar(picture) if self.colorbar and self._tubes.has_muscles else picture

    def segment(self, xpos, xquat) -> tuple[np.ndarray, np.ndarray]:
        """Which geom stands at each pixel's centre; tendons are left out.

        Args and errors as in `render`.

        Returns:
            Index of the geom, int32, shape (height, width), -1 where there is none; and the distance from the
            camera [m], float32, same shape, infinite where there is none.
        """
        xpos, xquat = self._checked(xpos, "xpos", 3), self._checked(xquat, "xquat", 4)
        with runtime.exclusive(self._runtime):
            self._sample(xpos, xquat, [])
            prim, dist = self._buffers["prim"].to_numpy(), self._buffers["dist"].to_numpy()
        geomid = np.append(self._shapes.geomid, [-1, -1]).astype(np.int32)[prim]
        return geomid, np.where(prim < 0, np.inf, dist)

    def reset(self) -> None:
        """Begins a new shot: the camera goes to its target at once."""
        self._rig.reset()

    def stand_for(self, views: Sequence[Camera]) -> None:
        """Places the camera so far away that each of these views, of which one is `camera` later, holds the model."""
        self._rig.stand_for(views)

    def _sample(self, xpos, xquat, capsules):
        """Uploads a frame and traces one ray per pixel."""
        axes = self.camera.axes()
        eye = self._rig.lookat(xpos, xquat) - self._rig.distance * axes[0]
        prims = self._prims(xpos, xquat, eye)
        num = len(prims.bound)
        tubes, depth, box = _tube_prims(capsules, eye)
        self._upload(_Prims(*map(np.concatenate, zip(prims, tubes))), box)
        view = self._view(axes, prims)
        shapes = raycast.Scene(**self._arrays, **self._meshes, tube_first=num, tube_depth=depth)
        shading.bin_shapes(shapes, view, num)
        frame = shading.Frame(**self._buffers)
        shading.trace_pixels(shapes, view, frame, 0)
        return shapes, view, frame

    def _checked(self, pose, name: str, width: int) -> np.ndarray:
        if hasattr(pose, "detach"):
            pose = pose.detach().cpu()
        pose = np.asarray(pose, dtype=np.float64)
        if pose.shape != (self.model.nbody, width):
            raise ValueError(
                f"render: {name} has shape {pose.shape}, expected {(self.model.nbody, width)}: the bodies of one world."
            )
        if not np.all(np.isfinite(pose)):
            body = np.flatnonzero(~np.isfinite(pose).all(axis=1))[0]
            raise ValueError(f"render: {name} of body {body} is not finite.")
        return pose

    def _prims(self, xpos, xquat, eye) -> _Prims:
        """All shapes of the frame but tubes, relative to the eye: the model's and the added floor."""
        shapes = self._shapes
        rot, pos = scene.geom_poses(self.model, shapes.geomid, xpos, xquat)
        parts = [_Prims(shapes.kind, shapes.mesh, pos - eye, rot, shapes.size, self._bound, shapes.rgba)]
        if self._floor:
            origin, rgba = np.array([[0.0, 0.0, self._rig.ground]]), [[*scene.FLOOR_RGB, 1.0]]
            parts.append(_Prims([GEOM_PLANE], [-1], origin - eye, [np.eye(3)], np.zeros((1, 3)), [0.0], rgba))
        return _Prims(*(np.concatenate(columns) for columns in zip(*parts)))

    def _upload(self, prims: _Prims, tube_box: np.ndarray) -> None:
        num = len(prims.bound)
        nodes = self._arrays["tube_box"].shape[0]
        if num > self._capacity or len(tube_box) > nodes:
            self._allocate(1 << (max(num, self._capacity) - 1).bit_length(), max(len(tube_box), nodes))
        size = np.column_stack([prims.size, prims.bound])
        plane = prims.kind == GEOM_PLANE
        # the camera's place in the checker, modulo its period, in f64: f32 would blur it far from the origin
        own = -np.einsum("nji,nj->ni", prims.rot, prims.pos)
        size[plane, 2:] = np.mod(own[plane, :2], 2 * self._checker)
        linear = np.column_stack([np.clip(prims.rgba[:, :3], 0, 1) ** 2.2, np.clip(prims.rgba[:, 3], 0, 1)])
        kind = np.column_stack([prims.kind, prims.mesh])
        arrays = dict(kind=kind, pos=prims.pos, rot=prims.rot, size=size, color=linear, tube_box=tube_box)
        for name, values in arrays.items():
            room = self._arrays[name].shape[0]
            padded = np.zeros((room, *values.shape[1:]), np.int32 if name == "kind" else np.float32)
            padded[: len(values)] = values
            self._arrays[name].from_numpy(padded)

    def _allocate(self, capacity: int, nodes: int) -> None:
        self._capacity = capacity
        self._arrays = dict(
            kind=returned(ti.Vector.ndarray(2, ti.i32, capacity)),
            pos=returned(ti.Vector.ndarray(3, ti.f32, capacity)),
            rot=returned(ti.Matrix.ndarray(3, 3, ti.f32, capacity)),
            size=returned(ti.Vector.ndarray(4, ti.f32, capacity)),
            color=returned(ti.Vector.ndarray(4, ti.f32, capacity)),
            tube_box=returned(ti.Vector.ndarray(3, ti.f32, (nodes, 2))),
        )
        tiles = -(-self.width // shading.TILE) * -(-self.height // shading.TILE)
        self._tiles = ti.ndarray(ti.i32, (tiles, capacity + 1))
        self._cells = ti.ndarray(ti.i32, (_GRID * _GRID, capacity + 1))

    def _view(self, axes: np.ndarray, prims: _Prims) -> shading.View:
        pixel = 2 * np.tan(np.deg2rad(self.camera.fovy) / 2) / self.height
        sun_u, sun_v = self._across_sun
        solid = prims.kind != GEOM_PLANE
        across = prims.pos[solid] @ self._across_sun.T
        reach = self._shadow_reach(prims)
        bound = prims.bound[solid, None] + _SUN_RADIUS * reach
        lower = (across - bound).min(axis=0, initial=np.inf) if len(across) else np.zeros(2)
        upper = (across + bound).max(axis=0, initial=-np.inf) if len(across) else np.full(2, 1e-3)
        return shading.View(
            width=self.width,
            height=self.height,
            forward=raycast.vec3(*axes[0]),
            right=raycast.vec3(*(axes[1] * pixel)),
            up=raycast.vec3(*(axes[2] * pixel)),
            sun=raycast.vec3(*self.sun),
            sun_u=raycast.vec3(*sun_u),
            sun_v=raycast.vec3(*sun_v),
            sun_radius=_SUN_RADIUS,
            sun_rays=self._sun_rays,
            sun_reach=reach,
            grid_origin=raycast.vec2(*lower),
            grid_cell=float(np.max(upper - lower)) / _GRID,
            grid_num=_GRID,
            fade=12 * self._rig.distance,
            checker=self._checker,
            tiles=self._tiles,
            cells=self._cells,
        )

    def _shadow_reach(self, prims: _Prims) -> float:
        """Largest distance from a shape to what it can cast a shadow on [m], over planes not grazed by the sun."""
        solid = prims.kind != GEOM_PLANE
        pos, bound = prims.pos[solid], prims.bound[solid]
        if not len(pos):
            return 0.0
        reach = np.linalg.norm(np.ptp(pos, axis=0)) + 2 * bound.max()
        for normal, origin in zip(prims.rot[~solid][:, :, 2], prims.pos[~solid]):
            if normal @ self.sun > 0.1:
                reach = max(reach, np.max((pos - origin) @ normal + bound) / (normal @ self.sun))
        return float(min(reach, 50 * self._rig.extent))


def _across(sun: np.ndarray) -> np.ndarray:
    """Two orthogonal unit vectors across the sunlight, (2, 3)."""
    first = np.cross([0.0, 1.0, 0.0] if abs(sun[1]) < 0.9 else [1.0, 0.0, 0.0], sun)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(sun, first)])


def _sun_rays(sun: np.ndarray, across: np.ndarray) -> np.ndarray:
    """`View.sun_rays`: unit directions to evenly spread points of the sun's disc, then to its rim, (num, 3)."""
    # a spiral; neighbouring samples of a pixel are to look at places far apart
    place = np.arange(shading.SAMPLES) * 7 % shading.SAMPLES
    angle = np.append(place * _GOLDEN_ANGLE, np.arange(shading.RIM) * 2 * np.pi / shading.RIM)
    radius = _SUN_RADIUS * np.append(np.sqrt((place + 0.5) / shading.SAMPLES), np.ones(shading.RIM))
    rays = sun + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1) @ across
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


class _Prims(NamedTuple):
    """Shapes of a frame; positions are relative to the eye."""

    kind: np.ndarray
    mesh: np.ndarray
    pos: np.ndarray
    rot: np.ndarray
    size: np.ndarray
    bound: np.ndarray
    rgba: np.ndarray


def _tube_prims(capsules: list[Capsules], eye: np.ndarray) -> tuple[_Prims, int, np.ndarray]:
    """Capsules in the order of the leaves of their tree, the tree's depth (-1: there is none) and its boxes.

    Hundreds of thin, long shapes: lists per tile of the screen and per cell of the sunlight would hold too many.
    """
    prims = _Prims(*map(np.concatenate, zip(*(_capsule_prims(some, eye) for some in (_NO_CAPSULES, *capsules)))))
    if not len(prims.bound):
        return prims, -1, np.zeros((1, 2, 3))
    axis = np.abs(prims.rot[:, :, 2]) * prims.size[:, 1:2]
    reach = axis + (prims.bound - prims.size[:, 1])[:, None]
    depth, order, box = bvh.tree(prims.pos - reach, prims.pos + reach)
    # a capsule that fills up a leaf is not to dim the light twice
    again = np.ones(len(order), bool)
    again[np.unique(order, return_index=True)[1]] = False
    prims = _Prims(*(column[order] for column in prims))
    prims.rgba[again, 3] = 0
    return prims, depth, box


def _capsule_prims(capsules: Capsules, eye: np.ndarray) -> _Prims:
    ends = np.asarray(capsules.ends, dtype=np.float64).reshape(-1, 2, 3)
    num = len(ends)
    radius = np.asarray(capsules.radius, dtype=np.float64)
    radius = np.broadcast_to(radius[..., None] if radius.ndim < 2 else radius, (num, 2))
    rgba = np.broadcast_to(np.asarray(capsules.rgba, dtype=np.float64), (num, 4))
    if not (np.all(np.isfinite(ends)) and np.all(radius > 0)):
        raise ValueError("render: capsules need finite ends and positive radii.")
    axis = ends[:, 1] - ends[:, 0]
    length = np.linalg.norm(axis, axis=1)
    z = np.where(length[:, None] > 1e-9, axis / np.maximum(length, 1e-9)[:, None], [0.0, 0.0, 1.0])
    # any direction off the axis completes the frame
    helper = np.where(np.abs(z[:, :1]) < 0.7, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    x = np.cross(helper, z)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    rot = np.stack([x, np.cross(z, x), z], axis=2)
    # where one end's sphere all but holds the other there is no cone between them, and the larger radius serves both
    steep = np.abs(radius[:, 1] - radius[:, 0]) > 0.9 * length
    radius = np.where(steep[:, None], radius.max(axis=1, keepdims=True), radius)
    growth = (radius[:, 1] - radius[:, 0]) / np.maximum(length, 1e-9)
    size = np.column_stack([radius.mean(axis=1), length / 2, growth])
    bound = (radius.max(axis=1) + length / 2) * 1.00001
    kind = np.full(num, GEOM_CAPSULE)
    return _Prims(kind, np.full(num, -1), ends.mean(axis=1) - eye, rot, size, bound, rgba)


def _upload_meshes(meshes: list) -> dict:
    """The meshes' trees as the arrays of `raycast.Scene`; one unused entry where there are none."""
    adr, node, tri = [], 0, 0
    for mesh in meshes:
        adr.append([node, tri, mesh.depth])
        node, tri = node + len(mesh.box), tri + len(mesh.vert)
    arrays = dict(
        bvh_box=np.concatenate([m.box for m in meshes] or [np.zeros((1, 2, 3))]),
        tri_vert=np.concatenate([m.vert for m in meshes] or [np.zeros((1, 3, 3))]),
        tri_normal=np.concatenate([m.normal for m in meshes] or [np.zeros((1, 3, 3))]),
    )
    fields = {}
    for name, values in arrays.items():
        fields[name] = returned(ti.Vector.ndarray(3, ti.f32, values.shape[:2]))
        fields[name].from_numpy(values.astype(np.float32))
    fields["mesh"] = returned(ti.Vector.ndarray(3, ti.i32, max(len(adr), 1)))
    fields["mesh"].from_numpy(np.array(adr or [[0, 0, 0]], dtype=np.int32))
    return fields
