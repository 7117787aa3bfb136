"""One HTML page that plays a film in 3-D, to be turned and zoomed: it holds its own viewer and needs no network."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from shac.errors import UserError
from shac.film.film import Poses, check_place, temporary
from taichi_sim.render import scene, solids
from taichi_sim.render.camera import Camera, CameraRig
from taichi_sim.render.colorbar import activation_rgb
from taichi_sim.render.polyline import Polylines
from taichi_sim.render.tubes import Tubes, tendon_paths
from taichi_sim.types import GEOM_PLANE, WRAP_SITE, Model

# Pieces of a tendon's branch that wraps around something: as many in all frames, however it runs.
_WRAP_PIECES = 24

# Positions are rounded to 0.25 mm and orientations to 1/2000, so that the page's compression finds repetitions.
_METRE_STEPS, _UNIT_STEPS = 4096.0, 2048.0

_ASPECT = 16 / 9
_SKY_LIGHT = 2.0


def check_output(path: Path) -> None:
    """Refuses what cannot be written, before any time is spent on it.

    Raises:
        UserError: viser is not installed, the name does not end in .html, or its folder is missing or read-only.
    """
    if path.suffix != ".html":
        raise UserError(f"{path}: --html is the page to write; its name must end in .html")
    check_place(path)
    _viser()


def _viser():
    try:
        import viser
    except ImportError:
        raise UserError('--html needs viser: pip install "viser>=1.1"') from None
    return viser


def write(path: Path, poses: Poses, indices: Iterable[int], fps: float, camera: Camera, title: str) -> None:
    """Writes the poses of `indices`, shown at `fps` a second, as one page; the file appears when it is whole.

    The world moves under a camera that follows, and the user turns and zooms about what it follows.

    Raises:
        UserError: viser is missing, the camera does not fit the model or the file cannot be written.
    """
    viser = _viser()
    with temporary(path) as name, contextlib.redirect_stdout(io.StringIO()):
        # it builds the recording; nobody connects to it
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
    """A model in a viser server's scene, in a frame that travels with what the camera looks at.

    All that moves is a batch of instances, geoms too: viser shows changes of batches one picture later than changes of
    nodes, and tendons would lag behind their bodies.
    """

    def __init__(self, server, model: Model, camera: Camera):
        self._scene, self.model = server.scene, model
        shapes = scene.visible_shapes(model, (0, 1, 2))
        try:
            self.rig = CameraRig(model, shapes, camera, _ASPECT)
        except ValueError as error:
            raise UserError(str(error)) from error
        self.tubes = Tubes(model)
        server.scene.set_up_direction("+z")
        # the default light of all sides would wash the muscles' colours out
        server.scene.configure_environment_map(None)
        server.scene.add_light_hemisphere("/light", ground_color=(150, 145, 140), intensity=_SKY_LIGHT)
        server.initial_camera.fov = float(np.deg2rad(camera.fovy))
        server.initial_camera.look_at = (0.0, 0.0, 0.0)
        server.initial_camera.position = tuple(-self.rig.distance * camera.axes()[0])
        plane = shapes.kind == GEOM_PLANE
        self._planes = [
            (geom, self._add_plane(geom, rgba)) for geom, rgba in zip(shapes.geomid[plane], shapes.rgba[plane])
        ]
        self._solids = self._add_solids(shapes.geomid[~plane], shapes.rgba[~plane])
        self._tendon, self._first = _pieces(self.model, self.tubes)
        self._cords = self._add_cords() if len(self._first) else None

    def show(self, xpos: np.ndarray, xquat: np.ndarray, act: np.ndarray, ctrl: np.ndarray) -> None:
        """Moves everything to a pose and colours the muscles."""
        lookat = self.rig.lookat(xpos, xquat)
        pos, quat = xpos - lookat, xquat
        for geom, handle in self._planes:
            _, place = scene.geom_poses(self.model, np.array([geom]), pos, quat)
            handle.position = _rounded(place[0], _METRE_STEPS)
        for body, handle in self._solids:
            handle.batched_positions = _rounded(pos[body][None], _METRE_STEPS)
            handle.batched_wxyzs = _rounded(quat[body][None], _UNIT_STEPS)
        if self._cords is not None:
            for name, values in self._cord_poses(pos, quat).items():
                setattr(self._cords, name, values)
            self._cords.batched_colors = _bytes(self.tubes.rgba(act, ctrl)[self._tendon, :3])

    def _add_solids(self, geomid: np.ndarray, rgba: np.ndarray) -> list:
        """One mesh for all geoms of a body and a colour: (body, handle) of each."""
        handles = []
        keys = np.column_stack([self.model.geom_bodyid[geomid], rgba])
        for num, key in enumerate(np.unique(keys, axis=0)):
            parts = []
            for geom in geomid[np.all(keys == key, axis=1)]:
                vert, face = solids.geom_mesh(self.model, geom)
                rot = scene.rotations(self.model.geom_quat[geom])
                parts.append((vert @ rot.T + self.model.geom_pos[geom], face))
            handle = self._scene.add_batched_meshes_simple(
                f"/solids/{num}",
                *solids.join(parts),
                batched_positions=np.zeros((1, 3)),
                batched_wxyzs=np.array([[1.0, 0.0, 0.0, 0.0]]),
                batched_colors=_bytes(key[1:4]),
                opacity=float(key[4]) if key[4] < 1 else None,
                lod="off",
            )
            handles.append((int(key[0]), handle))
        return handles

    def _add_plane(self, geom: int, rgba: np.ndarray):
        # planes stand still
        _, xquat = scene.rest_pose(self.model)
        size, cell = self.model.geom_size[geom], scene.checker_size(self.rig.extent)
        endless = bool(min(size[:2]) == 0 or min(size[:2]) > 5 * self.rig.extent)
        width, height = (10.0, 10.0) if endless else 2 * size[:2]
        return self._scene.add_grid(
            f"/planes/{geom}",
            width=float(width),
            height=float(height),
            infinite_grid=endless,
            cell_size=cell,
            section_size=5 * cell,
            fade_distance=12 * self.rig.distance,
            plane_color=tuple(_bytes(rgba[:3])),
            plane_opacity=float(rgba[3]),
            shadow_opacity=0.3,
            wxyz=scene.multiply(xquat[self.model.geom_bodyid[geom]], self.model.geom_quat[geom]),
        )

    def _add_cords(self):
        # round ends fill the gaps where pieces meet at an angle
        latitude = np.linspace(-np.pi / 2, np.pi / 2, 8)
        vert, face = solids.revolve(np.cos(latitude), 0.04 * np.sin(latitude) + 0.5 * np.sign(latitude))
        poses = self._cord_poses(*scene.rest_pose(self.model))
        return self._scene.add_batched_meshes_simple("/tendons", vert, face, lod="off", **poses)

    def _cord_poses(self, pos: np.ndarray, quat: np.ndarray) -> dict[str, np.ndarray]:
        """Where the pieces of tendons are: a unit cylinder along z, turned and stretched."""
        points = _fixed_paths(self.model, self.tubes, pos, quat)
        start, end = points[self._first], points[self._first + 1]
        length = np.linalg.norm(end - start, axis=1)
        x, y, z = ((end - start) / np.maximum(length, 1e-9)[:, None]).T
        # the shortest turn of the z axis to this one; upside down it may be about any level axis
        turned = np.stack([1 + z, -y, x, np.zeros_like(z)], axis=1)
        turned[z < -1 + 1e-6] = [0.0, 1.0, 0.0, 0.0]
        turned /= np.linalg.norm(turned, axis=1, keepdims=True)
        radius = np.maximum(self.tubes.radius[self._tendon], 1e-4)
        return dict(
            batched_positions=_rounded((start + end) / 2, _METRE_STEPS),
            batched_wxyzs=_rounded(turned, _UNIT_STEPS),
            batched_scales=_rounded(np.stack([radius, radius, np.maximum(length, 1e-4)], axis=1), 4 * _METRE_STEPS),
        )


def _fixed_paths(model: Model, tubes: Tubes, xpos: np.ndarray, xquat: np.ndarray) -> np.ndarray:
    """Points of all tendons that are drawn, in a row and as many in every pose, (num, 3) [m]."""
    paths = tendon_paths(model, xpos, xquat, branches=tubes.branches)
    rows = [np.zeros((0, 3))]
    for tendon in tubes.shown:
        for points, branch in zip(paths[tendon], tubes.branches[tendon]):
            rows.append(points if _is_straight(model, branch) else _resampled(points, _WRAP_PIECES + 1))
    return np.concatenate(rows)


def _pieces(model: Model, tubes: Tubes) -> tuple[np.ndarray, np.ndarray]:
    """For each piece between two points of `_fixed_paths` its tendon and the first point."""
    tendons, firsts, start = [], [], 0
    for tendon in tubes.shown:
        for branch in tubes.branches[tendon]:
            num = len(branch) if _is_straight(model, branch) else _WRAP_PIECES + 1
            tendons += [tendon] * (num - 1)
            firsts += range(start, start + num - 1)
            start += num
    return np.array(tendons, int), np.array(firsts, int)


def _is_straight(model: Model, branch: np.ndarray) -> bool:
    return bool(np.all(model.wrap_type[branch] == WRAP_SITE))


def _resampled(points: np.ndarray, num: int) -> np.ndarray:
    """`num` evenly spaced points on a path."""
    path = Polylines([points])
    return path.at(np.zeros(num, int), np.linspace(0.0, path.length[0], num))


def _bytes(rgb: np.ndarray) -> np.ndarray:
    return np.rint(255 * np.clip(rgb, 0, 1)).astype(np.uint8)


def _rounded(values: np.ndarray, steps: float) -> np.ndarray:
    return np.rint(np.asarray(values) * steps) / steps


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
