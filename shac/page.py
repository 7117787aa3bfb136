"""One HTML page that plays a film in 3-D, to be turned and zoomed: it holds its own viewer and needs no network."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from shac.errors import UserError
from shac.film import Poses, temporary
from taichi_sim import scene, solids
from taichi_sim.camera import Camera, CameraRig
from taichi_sim.colorbar import activation_rgb
from taichi_sim.tubes import Tubes, tendon_paths
from taichi_sim.types import GEOM_PLANE, WRAP_SITE, Model

# Pieces of a tendon's branch that wraps around something: as many in all frames, however it runs.
_WRAP_PIECES = 24

# Positions are rounded to 0.25 mm and orientations to 1/2000, so that the page's compression finds repetitions.
_METRE_STEPS, _UNIT_STEPS = 4096.0, 2048.0

_ASPECT = 16 / 9


def check_viser() -> None:
    """Refuses to begin without viser.

    Raises:
        UserError: it is not installed.
    """
    try:
        import viser  # noqa: F401
    except ImportError:
        raise UserError('a page needs viser: pip install "taichi-sim[view]", or pip install viser') from None


def write(path: Path, poses: Poses, indices: Iterable[int], fps: float, camera: Camera, title: str) -> None:
    """Writes the poses of `indices`, shown at `fps` a second, as one page; the file appears when it is whole.

    The world moves under a camera that follows, and the user turns and zooms about what it follows.

    Raises:
        UserError: viser is missing, the camera does not fit the model or the file cannot be written.
    """
    check_viser()
    import viser

    with temporary(path) as name:
        server = viser.ViserServer(host="127.0.0.1", verbose=False)
        try:
            stage = Stage(server, poses.model, camera)
            recording, shown = server.get_scene_serializer(), -1
            for num, index in enumerate(indices):
                if num > 0:
                    recording.insert_sleep(1 / fps)
                if any(shown < start <= index for start in poses.starts):
                    stage.rig.reset()
                shown = index
                stage.show(poses.xpos[index], poses.xquat[index], poses.act[index], poses.ctrl[index])
            if num > 0:
                # the last frame lasts as long as the others
                recording.insert_sleep(1 / fps)
            page = recording.as_html()
        finally:
            server.stop()
        Path(name).write_text(_with_legend(page, title, stage.tubes.has_muscles), encoding="utf-8")
        os.replace(name, path)


class Stage:
    """A model in a viser server's scene: bodies below the node /world, which is moved against the camera's travel."""

    def __init__(self, server, model: Model, camera: Camera):
        self._server, self.model = server, model
        shapes = scene.visible_shapes(model, (0, 1, 2))
        try:
            self.rig = CameraRig(model, shapes, camera, _ASPECT)
        except ValueError as error:
            raise UserError(str(error)) from error
        self.tubes = Tubes(model)
        server.scene.set_up_direction("+z")
        server.initial_camera.fov = float(np.deg2rad(camera.fovy))
        server.initial_camera.look_at = (0.0, 0.0, 0.0)
        server.initial_camera.position = tuple(-self.rig.distance * camera.axes()[0])
        self._world = server.scene.add_frame("/world", show_axes=False)
        self._bodies = {
            int(body): server.scene.add_frame(_node(body), show_axes=False) for body in range(1, model.nbody)
        }
        self._add_geoms(shapes)
        self._add_tendons()

    def show(self, xpos: np.ndarray, xquat: np.ndarray, act: np.ndarray, ctrl: np.ndarray) -> None:
        """Moves everything to a pose and colours the muscles."""
        self._world.position = _rounded(-self.rig.lookat(xpos, xquat), _METRE_STEPS)
        for body, frame in self._bodies.items():
            frame.position = _rounded(xpos[body], _METRE_STEPS)
            frame.wxyz = _rounded(xquat[body], _UNIT_STEPS)
        rgb = (255 * self.tubes.rgba(act, ctrl)[:, :3] + 0.5).astype(np.uint8)
        points = _fixed_paths(self.model, self.tubes, xpos, xquat)
        for cords, first in self._cords:
            cords.show(rgb, np.stack([points[first], points[first + 1]], axis=1))

    def _add_tendons(self) -> None:
        xpos, xquat = scene.rest_pose(self.model)
        points = _fixed_paths(self.model, self.tubes, xpos, xquat)
        tendon, first, body = _pieces(self.model, self.tubes)
        self._cords = []
        for holder in np.unique(body):
            own = np.flatnonzero(body == holder)
            ends = np.stack([points[first[own]], points[first[own] + 1]], axis=1) - xpos[holder]
            local = ends @ scene.rotations(xquat[holder])
            self._cords.append((_Cords(self._server, holder, tendon[own], local, self.tubes.radius), first[own]))

    def _add_geoms(self, shapes: scene.Shapes) -> None:
        model = self.model
        for geom, kind, rgba in zip(shapes.geomid, shapes.kind, shapes.rgba):
            node = f"{_node(model.geom_bodyid[geom])}/geom{geom}"
            place = dict(position=model.geom_pos[geom], wxyz=model.geom_quat[geom])
            color = tuple(int(c) for c in 255 * rgba[:3])
            if kind == GEOM_PLANE:
                self._add_plane(node, model.geom_size[geom], color, place)
            else:
                vert, face = solids.geom_mesh(model, geom)
                opacity = float(rgba[3]) if rgba[3] < 1 else None
                self._server.scene.add_mesh_simple(node, vert, face, color=color, opacity=opacity, **place)

    def _add_plane(self, node: str, size: np.ndarray, color: tuple[int, ...], place: dict) -> None:
        cell = scene.checker_size(self.rig.extent)
        endless = min(size[:2]) == 0 or min(size[:2]) > 5 * self.rig.extent
        width, height = (0.0, 0.0) if endless else 2 * size[:2]
        self._server.scene.add_grid(
            node,
            width=float(width),
            height=float(height),
            infinite_grid=bool(endless),
            cell_size=cell,
            section_size=5 * cell,
            fade_distance=12 * self.rig.distance,
            plane_color=color,
            plane_opacity=1.0,
            shadow_opacity=0.3,
            **place,
        )


class _Cords:
    """Straight pieces of tendons in one body's frame, where only their colours change, or in the world's (body 0)."""

    def __init__(self, server, body: int, tendon: np.ndarray, ends: np.ndarray, radius: np.ndarray):
        self._tendon, self._radius, self._moves = tendon, np.maximum(radius[tendon], 1e-4), body == 0
        # round ends fill the gaps where pieces meet at an angle
        latitude = np.linspace(-np.pi / 2, np.pi / 2, 8)
        vert, face = solids.revolve(np.cos(latitude), 0.04 * np.sin(latitude) + 0.5 * np.sign(latitude))
        self._handle = server.scene.add_batched_meshes_simple(
            f"{_node(body)}/tendons", vert, face, lod="off", **self._poses(ends)
        )

    def show(self, rgb: np.ndarray, ends: np.ndarray) -> None:
        """Colours of the tendons (ntendon, 3), uint8, and ends of these pieces (num, 2, 3) [m]."""
        self._handle.batched_colors = rgb[self._tendon]
        if self._moves:
            for name, values in self._poses(ends).items():
                setattr(self._handle, name, values)

    def _poses(self, ends: np.ndarray) -> dict[str, np.ndarray]:
        axis = ends[:, 1] - ends[:, 0]
        length = np.linalg.norm(axis, axis=1)
        x, y, z = (axis / np.maximum(length, 1e-9)[:, None]).T
        # the shortest turn of the z axis to this one; upside down it may be about any level axis
        turned = np.stack([1 + z, -y, x, np.zeros_like(z)], axis=1)
        turned[z < -1 + 1e-6] = [0.0, 1.0, 0.0, 0.0]
        turned /= np.linalg.norm(turned, axis=1, keepdims=True)
        scales = np.stack([self._radius, self._radius, np.maximum(length, 1e-4)], axis=1)
        return dict(
            batched_positions=_rounded(ends.mean(axis=1), _METRE_STEPS),
            batched_wxyzs=_rounded(turned, _UNIT_STEPS),
            batched_scales=_rounded(scales, _METRE_STEPS * 4),
        )


def _fixed_paths(model: Model, tubes: Tubes, xpos: np.ndarray, xquat: np.ndarray) -> np.ndarray:
    """Points of all tendons that are drawn, in a row and as many in every pose, (num, 3) [m]."""
    paths = tendon_paths(model, xpos, xquat)
    rows = [np.zeros((0, 3))]
    for tendon in tubes.shown:
        for points, branch in zip(paths[tendon], tubes.branches[tendon]):
            rows.append(points if _is_straight(model, branch) else _resampled(points, _WRAP_PIECES + 1))
    return np.concatenate(rows)


def _pieces(model: Model, tubes: Tubes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each piece between two points of `_fixed_paths`: its tendon, the first point, and the body that holds both.

    That body is 0, the world, where the ends belong to two bodies or the path wraps.
    """
    tendons, firsts, bodies, start = [], [], [], 0
    for tendon in tubes.shown:
        for branch in tubes.branches[tendon]:
            holder = np.zeros(_WRAP_PIECES + 1, int)
            if _is_straight(model, branch):
                holder = model.site_bodyid[model.wrap_objid[branch]]
            tendons += [tendon] * (len(holder) - 1)
            firsts += range(start, start + len(holder) - 1)
            bodies += list(np.where(holder[1:] == holder[:-1], holder[:-1], 0))
            start += len(holder)
    return np.array(tendons, int), np.array(firsts, int), np.array(bodies, int)


def _is_straight(model: Model, branch: np.ndarray) -> bool:
    return bool(np.all(model.wrap_type[branch] == WRAP_SITE))


def _resampled(points: np.ndarray, num: int) -> np.ndarray:
    """`num` evenly spaced points on a path."""
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    return np.stack([np.interp(np.linspace(0, way[-1], num), way, x) for x in points.T], axis=1)


def _rounded(values: np.ndarray, steps: float) -> np.ndarray:
    return np.rint(np.asarray(values) * steps) / steps


def _node(body: int) -> str:
    return f"/world/body{body}" if body > 0 else "/world"


def _with_legend(page: str, title: str, muscles: bool) -> str:
    """viser's page with a title of its own and, for muscles, the bar of their colours."""
    bar = ""
    if muscles:
        stops = ", ".join(f"rgb({r:.0f} {g:.0f} {b:.0f})" for r, g, b in 255 * activation_rgb(np.linspace(0, 1, 9)))
        bar = (
            '<div id="colorbar" style="position: fixed; right: 1.5em; bottom: 4em; z-index: 5; pointer-events: none; '
            'font: 14px sans-serif; color: #1e2228; text-align: center">activation<br>0 <span style="display: '
            "inline-block; width: 10em; height: 0.6em; margin: 0 0.3em; background: "
            f'linear-gradient(to right, {stops})"></span> 1</div>'
        )
    head, body = page.index("</head>"), page.rindex("</body>")
    title = f"<script>document.title = {json.dumps(title).replace('<', chr(92) + 'u003c')}</script>"
    return page[:head] + title + page[head:body] + bar + page[body:]
