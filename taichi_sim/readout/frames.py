"""Frames that move with bodies, in a state."""

from __future__ import annotations

import numpy as np
import torch

from taichi_sim import quaternion
from taichi_sim.types import OBJ_BODY, OBJ_GEOM, OBJ_SITE, Model


class Frames:
    """Frames that are fixed to bodies.

    Args:
        model: theirs.
        kinds, ids: OBJ_*, and which one; an id of -1 is the world.
        tensor: as of `Sensors`.
    """

    def __init__(self, model: Model, kinds: np.ndarray, ids: np.ndarray, tensor):
        body, pos, quat = np.maximum(ids, 0), np.zeros((len(ids), 3)), np.tile([1.0, 0.0, 0.0, 0.0], (len(ids), 1))
        for kind, name in ((OBJ_GEOM, "geom"), (OBJ_SITE, "site")):
            those = (kinds == kind) & (ids >= 0)
            for array, field in ((body, "bodyid"), (pos, "pos"), (quat, "quat")):
                array[those] = getattr(model, f"{name}_{field}")[ids[those]]
        inertial = (kinds == OBJ_BODY) & (ids >= 0)
        quat[inertial] = model.body_iquat[ids[inertial]]
        self.body, self.pos, self.quat = tensor(body).long(), tensor(pos), tensor(quat)
        self.inertial = tensor(inertial[:, None]).bool()


class Moving:
    """n frames in a state: where they are, and how they move; in world axes, (N, n, 3 or 4).

    Args:
        frames: which.
        scene: the state, `sensors.Scene`.
    """

    def __init__(self, frames: Frames, scene):
        self._scene, self._body, data = scene, frames.body, scene.data
        base = data.xquat[:, self._body]
        pos = torch.where(frames.inertial, scene.figures["body_ipos"][..., self._body, :], frames.pos)
        self._arm = quaternion.rotate(base, pos)
        self.turn = quaternion.multiply(base, frames.quat)
        self.place = data.xpos[:, self._body] + self._arm
        self.spin = data.xangvel[:, self._body]
        self.velocity = data.xlinvel[:, self._body] + torch.linalg.cross(self.spin, self._arm)

    @property
    def angular_acceleration(self) -> torch.Tensor:
        return self._scene.data.xangacc[:, self._body]

    @property
    def felt(self) -> torch.Tensor:
        """The acceleration, less gravity's."""
        arm, spin = self._arm.detach(), self.spin.detach()
        turning = torch.linalg.cross(self.angular_acceleration, arm)
        turning = turning + torch.linalg.cross(spin, torch.linalg.cross(spin, arm))
        return self._scene.data.xlinacc[:, self._body] + turning - self._scene.gravity

    @property
    def magnetic(self) -> torch.Tensor:
        return self._scene.magnetic.expand_as(self.place)

    def axis(self, k: int) -> torch.Tensor:
        return quaternion.rotate(self.turn, self.turn.new_tensor(np.eye(3)[k]))

    def seen(self, vectors: torch.Tensor) -> torch.Tensor:
        """Vectors in the frames' own axes."""
        return quaternion.rotate(quaternion.conjugate(self.turn), vectors)


class Centres(Moving):
    """The principal axes of all bodies, at their centres of mass, in a state.

    Args:
        frames: `centres`.
        scene: as of `Moving`.
    """

    def __init__(self, frames: Frames, scene):
        super().__init__(frames, scene)
        self.mass, self._inertia = scene.figures["body_mass"], scene.figures["body_inertia"]

    def momentum(self, spin: torch.Tensor) -> torch.Tensor:
        """Moments of inertia times angular velocities, or accelerations, about the centres."""
        return quaternion.rotate(self.turn, self._inertia * self.seen(spin))


def centres(model: Model, tensor) -> Frames:
    """The frames of `Centres`."""
    return Frames(model, np.full(model.nbody, OBJ_BODY), np.arange(model.nbody), tensor)


def subtrees(model: Model) -> np.ndarray:
    """1 where the second body is the first or hangs from it, (nbody, nbody)."""
    within = np.eye(model.nbody)
    # parents come first
    for body in range(1, model.nbody):
        within[:, body] += within[:, model.body_parentid[body]]
    return within
