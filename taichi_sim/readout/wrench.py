"""What sensors of force and torque read: what a body's parent exerts on it. It has no gradient."""

from __future__ import annotations

import numpy as np
import torch

from taichi_sim import quaternion
from taichi_sim.readout.frames import Frames, Moving, subtrees
from taichi_sim.types import OBJ_SITE, Model


def reader(kind: str, model: Model, those: np.ndarray, tensor):
    """A reader of the forces, or of the moments about the sites, in the sites' axes.

    It is what moves a body and all that hangs from it, less gravity and what touches them.
    """
    sites = model.sensor_objid[those]
    frames = Frames(model, np.full(len(those), OBJ_SITE), sites, tensor)
    within, turn = tensor(subtrees(model)[model.site_bodyid[sites]]), tensor(model.body_iquat)
    bodies, cross = tensor(model.geom_bodyid).long(), torch.linalg.cross

    def read(scene) -> torch.Tensor:
        data, contact, moving = scene.data, scene.data.contact, Moving(frames, scene)
        mass, inertia = (scene.figures[f"body_{name}"] for name in ("mass", "inertia"))
        # shares of the bodies, and of what touches them; in a row of sensors
        on = within[:, bodies[contact.geom2]] - within[:, bodies[contact.geom1]]
        arm, spin, turning = data.xipos - data.xpos, data.xangvel, data.xangacc
        linear = data.xlinacc + cross(turning, arm) + cross(spin, cross(spin, arm))
        force = mass[..., None] * (linear - scene.gravity)
        if kind == "force":
            return moving.seen(within @ force - on @ contact.force)
        axes = quaternion.multiply(data.xquat, turn)

        def momentum(x: torch.Tensor) -> torch.Tensor:
            return quaternion.rotate(axes, inertia * quaternion.rotate(quaternion.conjugate(axes), x))

        about = moving.place[:, :, None]
        torque = momentum(turning) + cross(spin, momentum(spin))
        torque = torque[:, None] + cross(data.xipos[:, None] - about, force[:, None])
        touched = contact.torque[:, None] + cross(contact.pos[:, None] - about, contact.force[:, None])
        return moving.seen((within[..., None] * torque).sum(2) - (on[..., None] * touched).sum(2))

    # a part of it alone has a gradient
    return lambda scene: read(scene).detach()
