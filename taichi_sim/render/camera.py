"""Where a picture is taken from: the user's `Camera` and the `CameraRig` that follows a body with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from taichi_sim.render import scene
from taichi_sim.types import Model


@dataclasses.dataclass(frozen=True)
class Camera:
    """A camera that looks at a point, by MuJoCo's angles; None leaves a choice to the renderer.

    | field | meaning |
    |---|---|
    | distance | from the point looked at [m]; None: the model fills the picture |
    | azimuth | heading of the view about z [deg]: 0 looks along +x, 90 along +y |
    | elevation | pitch of the view [deg]; negative looks down |
    | lookat | fixed point looked at [m]; None: follow `track` |
    | track | "com" (centre of mass) or a body's name; None: "com" if the model can travel, else a fixed view |
    | fovy | vertical field of view [deg] |
    | smoothing | time constant of following, in frames; 0 follows at once |
    """

    distance: float | None = None
    azimuth: float = 115.0
    elevation: float = -14.0
    lookat: tuple[float, float, float] | None = None
    track: str | None = None
    fovy: float = 40.0
    smoothing: float = 8.0

    def __post_init__(self):
        if self.lookat is not None and self.track is not None:
            raise ValueError("Camera: lookat is a fixed point and track a moving one; give one of the two.")
        if self.distance is not None and not self.distance > 0:
            raise ValueError(f"Camera: distance is {self.distance}; it must be positive [m].")
        if not 1 <= self.fovy <= 150:
            raise ValueError(f"Camera: fovy is {self.fovy}; it must be between 1 and 150 [deg].")
        if not self.smoothing >= 0:
            raise ValueError(f"Camera: smoothing is {self.smoothing}; it must not be negative [frames].")

    def axes(self) -> np.ndarray:
        """Rows: unit vectors forward, right and up in the world, shape (3, 3)."""
        azimuth, elevation = np.deg2rad(self.azimuth), np.deg2rad(self.elevation)
        forward = [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ]
        right = [np.sin(azimuth), -np.cos(azimuth), 0.0]
        return np.array([forward, right, np.cross(right, forward)])

    def fit(self, half_size: np.ndarray, aspect: float) -> float:
        """Distance [m] from a box's centre at which all of the box is in the picture.

        Args:
            half_size: half-extents of the box along the world's axes [m], shape (3,).
            aspect: width over height of the picture.
        """
        sign = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), axis=-1).reshape(-1, 3)
        depth, x, y = self.axes() @ (sign * half_size).T
        tangent = np.tan(np.deg2rad(self.fovy) / 2)
        return float(np.max(np.maximum(np.abs(x) / aspect, np.abs(y)) / tangent - depth))


class Follower:
    """Smooths a point's path without lag at constant velocity.

    The critically damped g-h filter (g = 1 - k^2, h = (1 - k)^2, fading memory k): it tracks position and velocity, so
    that a runner stays in the middle of the picture while the bounce of the gait is taken out. A jump of more than
    `cut` [m] between two frames (a reset) is followed at once.
    """

    def __init__(self, smoothing: float, cut: float):
        self._keep = np.exp(-1.0 / smoothing) if smoothing > 0 else 0.0
        self._cut = cut
        self.reset()

    def reset(self) -> None:
        self._pos = None

    def __call__(self, target: np.ndarray) -> np.ndarray:
        """The smoothed point [m] for the target [m] of the next frame, shape (3,)."""
        if self._pos is None or np.linalg.norm(target - self._last) > self._cut:
            self._pos, self._step = target.copy(), np.zeros(3)
        else:
            predicted = self._pos + self._step
            error = target - predicted
            self._pos = predicted + (1 - self._keep**2) * error
            self._step = self._step + (1 - self._keep) ** 2 * error
        self._last = target.copy()
        return self._pos


class CameraRig:
    """Carries a camera through the scene: resolves what the user left open, and follows what is tracked.

    | attribute | meaning |
    |---|---|
    | distance | from the point looked at [m] |
    | extent | size of the model [m], half the diagonal of the box that a default picture holds |
    | ground | height of that box's lower side [m] |

    Args:
        model: what is looked at.
        shapes: its visible geoms.
        camera: the point of view.
        aspect: width over height of the picture.
        motion: the poses that will be looked at, see `scene.frame_box`; None: they are not known.

    Raises:
        ValueError: the body to track does not exist.
    """

    def __init__(self, model: Model, shapes: scene.Shapes, camera: Camera, aspect: float, motion=None):
        self._model = model
        center, half = scene.frame_box(model, shapes, motion)
        self.extent = float(np.linalg.norm(half))
        self.ground = center[2] - half[2]
        self._track = camera.track
        if camera.track is None and camera.lookat is None and scene.travels(model):
            self._track = "com"
        names = model.names.get("body", [])
        if self._track not in (None, "com", *names):
            raise ValueError(f"Camera: there is no body '{self._track}' to track. Bodies: com, {', '.join(names)}.")
        # room to move in front of a camera that follows, a margin before one that stands
        self._half, self._aspect = half * (1.3 if self._track else 1.1), aspect
        self.stand_for([camera])
        self._offset = np.zeros(3)
        if camera.lookat is not None:
            self._offset = np.asarray(camera.lookat, dtype=np.float64)
        elif self._track in (None, "com"):
            self._offset = center - self._target(*scene.rest_pose(model))
        self._follow = Follower(camera.smoothing, cut=3 * self.extent)

    def stand_for(self, views: Sequence[Camera]) -> None:
        """Goes to the views' distance, or to one from which all of the model is in the picture of each of them."""
        self.distance = max(view.distance or view.fit(self._half, self._aspect) for view in views)

    def lookat(self, xpos: np.ndarray, xquat: np.ndarray) -> np.ndarray:
        """The point to look at [m], (3,), in the next frame, of the bodies' poses (nbody, 3) and (nbody, 4)."""
        return self._offset + self._follow(self._target(xpos, xquat))

    def reset(self) -> None:
        """Begins a new shot: the next point is the target itself."""
        self._follow.reset()

    def _target(self, xpos: np.ndarray, xquat: np.ndarray) -> np.ndarray:
        if self._track is None:
            return np.zeros(3)
        if self._track == "com":
            return scene.center_of_mass(self._model, xpos, xquat)
        return xpos[self._model.names["body"].index(self._track)]
