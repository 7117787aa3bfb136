"""What sensors of force and torque read: what a body's parent exerts on it. It has no gradient."""

from __future__ import annotations

import functools

import numpy as np
import torch

from taichi_sim.readout.frames import Centres, Frames, Moving, centres, subtrees
from taichi_sim.types import OBJ_SITE, Model


def _reader(kind: str, model: Model, those: np.ndarray, tensor):
    """A reader of the forces, or of the moments about the sites, in the sites' axes.

    It is what moves a body and all that hangs from it, less gravity and what touches them.
    """
    sites = model.sensor_objid[those]
    frames = Frames(model, np.full(len(those), OBJ_SITE), sites, tensor)
    within, inertial = tensor(subtrees(model)[model.site_bodyid[sites]]), centres(model, tensor)
    bodies, cross = tensor(model.geom_bodyid).long(), torch.linalg.cross

    def read(scene) -> torch.Tensor:
        contact, moving, masses = scene.data.contact, Moving(frames, scene), Centres(inertial, scene)
        # shares of the bodies, and of what touches them; in a row of sensors
        on = within[:, bodies[contact.geom2]] - within[:, bodies[contact.geom1]]
        force = masses.mass[..., None] * masses.felt
        if kind == "force":
            return moving.seen(within @ force - on @ contact.force)
        about = moving.place[:, :, None]
        torque = masses.momentum(masses.angular_acceleration) + cross(masses.spin, masses.momentum(masses.spin))
        torque = torque[:, None] + cross(masses.place[:, None] - about, force[:, None])
        touched = contact.torque[:, None] + cross(contact.pos[:, None] - about, contact.force[:, None])
        return moving.seen((within[..., None] * torque).sum(2) - (on[..., None] * touched).sum(2))

    # a part of it alone has a gradient
    return lambda scene: read(scene).detach()


READERS = {kind: functools.partial(_reader, kind) for kind in ("force", "torque")}
