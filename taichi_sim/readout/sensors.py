"""What a model's sensors read of a state: MuJoCo's `sensordata`, as far as it follows from `ForwardData`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import normalize

from taichi_sim import quaternion
from taichi_sim.readout import touch, wrench
from taichi_sim.readout.frames import Centres, Frames, Moving, centres, subtrees
from taichi_sim.types import SENSORS, TRN_TENDON, Model


class Sensors:
    """The sensors of a model.

    Args:
        model: whose.
        tensor: makes tensors of the simulator's precision and device from arrays.
    """

    def __init__(self, model: Model, tensor):
        self._option = model.opt
        self._names, self._types = model.names.get("sensor", []), model.sensor_type
        self._readers, self._begin = {}, np.zeros(len(self._types), int)
        for kind in np.unique(self._types[self._types >= 0]):
            those = np.flatnonzero(self._types == kind)
            widths, cutoff = model.sensor_dim[those], model.sensor_cutoff[those]
            self._begin[those] = np.cumsum(widths) - widths
            most = tensor(np.repeat(np.where(cutoff > 0, cutoff, np.inf), widths))
            self._readers[kind] = _reader(SENSORS[kind], model, those, tensor), most
        self._ends = self._begin + model.sensor_dim
        self._other = [self._names[k] or f"number {k}" for k in np.flatnonzero(self._types < 0)]

    def scene(self, data, motion: torch.Tensor, figures: dict[str, torch.Tensor], read: dict) -> Scene:
        """A state, for `one` and `all`.

        Args:
            data: the `ForwardData` of the state.
            motion: its qpos and qvel (N, nq + nv).
            figures: body_mass, body_inertia and body_ipos as the state has them, with or without an axis of N.
            read: what has been read by now.
        """
        gravity, magnetic = (motion.new_tensor(x) for x in (self._option.gravity, self._option.magnetic))
        return Scene(data, motion, figures, gravity, magnetic, read)

    def one(self, scene: Scene, name: str) -> torch.Tensor:
        """What one sensor reads, (N, its numbers).

        Raises:
            ValueError: there is no such sensor, or none of that kind is read.
        """
        if name not in self._names:
            raise ValueError(f"there is no sensor {name!r}; the model has {', '.join(self._names) or 'none'}")
        k = self._names.index(name)
        if self._types[k] < 0:
            self._refuse([name])
        return self._read(scene, k)

    def all(self, scene: Scene) -> torch.Tensor:
        """All of them in the order of the file, (N, nsensordata).

        Raises:
            ValueError: one of the sensors is of a kind that is not read.
        """
        if self._other:
            self._refuse(self._other)
        return torch.cat([scene.motion[:, :0], *(self._read(scene, k) for k in range(len(self._types)))], dim=1)

    def _read(self, scene: Scene, k: int) -> torch.Tensor:
        kind = self._types[k]
        # kind by kind: what is not asked for may take the longest
        if kind not in scene.read:
            reader, most = self._readers[kind]
            scene.read[kind] = torch.minimum(torch.maximum(reader(scene).flatten(1), -most), most)
        return scene.read[kind][:, self._begin[k] : self._ends[k]]

    def _refuse(self, names: list[str]) -> None:
        raise ValueError(
            f"sensors of the kind of {', '.join(names)} are not read (docs/models.md has those that are): "
            "ask for the others by name, data.sensor(...)"
        )


class Scene(NamedTuple):
    """A state as sensors see it: what `Sensors.scene` takes, gravity [m/s^2] and the magnetic field, (3,) each."""

    data: object
    motion: torch.Tensor
    figures: dict[str, torch.Tensor]
    gravity: torch.Tensor
    magnetic: torch.Tensor
    read: dict[int, torch.Tensor]


def _relative_velocity(a: Moving, b: Moving) -> torch.Tensor:
    return b.seen(a.velocity - b.velocity - torch.linalg.cross(b.spin, a.place - b.place))


# What is read of frames a, for those that may be seen from others in frames b.
_OF_FRAMES = {
    "framepos": lambda a, b: b.seen(a.place - b.place),
    "framequat": lambda a, b: quaternion.multiply(quaternion.conjugate(b.turn), a.turn),
    "framexaxis": lambda a, b: b.seen(a.axis(0)),
    "frameyaxis": lambda a, b: b.seen(a.axis(1)),
    "framezaxis": lambda a, b: b.seen(a.axis(2)),
    "framelinvel": _relative_velocity,
    "frameangvel": lambda a, b: b.seen(a.spin - b.spin),
    "framelinacc": lambda a, b: a.felt,
    "frameangacc": lambda a, b: a.angular_acceleration,
    "velocimeter": lambda a, b: a.seen(a.velocity),
    "gyro": lambda a, b: a.seen(a.spin),
    "magnetometer": lambda a, b: a.seen(a.magnetic),
    # its gradient in the frame's rotation would be a part of it alone
    "accelerometer": lambda a, b: a.seen(a.felt).detach(),
}


def _subtree(kind: str, model: Model, bodies: np.ndarray, tensor):
    """A reader of the mass of bodies and of all that hangs from them: its centre, its momenta."""
    within, frames = tensor(subtrees(model)[bodies]), centres(model, tensor)

    def read(scene: Scene) -> torch.Tensor:
        masses = Centres(frames, scene)
        share = within * masses.mass[..., None, :]
        share = share / share.sum(-1, keepdim=True).clamp(min=torch.finfo(share.dtype).tiny)
        centre = share @ masses.place
        if kind == "subtreecom":
            return centre
        if kind == "subtreelinvel":
            return share @ masses.velocity
        momentum = masses.mass[..., None] * masses.velocity
        # about the centre what it moves with has none
        arm = masses.place[:, None] - centre[:, :, None]
        momentum = momentum[:, None] - masses.mass[..., None, :, None] * (share @ masses.velocity)[:, :, None]
        own = masses.momentum(masses.spin)
        return (within[..., None] * (own[:, None] + torch.linalg.cross(arm, momentum))).sum(2)

    return read


def _entries(kind: str, model: Model, objects: np.ndarray, tensor):
    """A reader of entries of the state, or of what `forward` has found."""
    if kind == "tendonactfrc":
        on = (model.actuator_trntype == TRN_TENDON)[:, None] & (model.actuator_trnid[:, None] == objects)
        drives = tensor(on)
        return lambda scene: scene.data.actuator_force @ drives
    fields = {
        "tendonpos": "ten_length",
        "tendonvel": "ten_velocity",
        "actuatorpos": "actuator_length",
        "actuatorvel": "actuator_velocity",
        "actuatorfrc": "actuator_force",
        "jointactfrc": "qfrc_actuator",
    }
    if kind in fields:
        places = tensor(model.jnt_dofadr[objects] if kind == "jointactfrc" else objects).long()
        return lambda scene: getattr(scene.data, fields[kind])[:, places]
    qpos, qvel = model.jnt_qposadr[objects, None], model.nq + model.jnt_dofadr[objects, None]
    places = {
        "jointpos": qpos,
        "jointvel": qvel,
        "ballquat": qpos + np.arange(4),
        "ballangvel": qvel + np.arange(3),
    }
    places = tensor(places[kind]).long()
    if kind == "ballquat":
        return lambda scene: normalize(scene.motion[:, places], dim=-1)
    return lambda scene: scene.motion[:, places]


_OF_FORCES = touch.READERS | wrench.READERS


def _reader(kind: str, model: Model, those: np.ndarray, tensor):
    """What sensors of one kind read of a scene, (N, n) or (N, n, numbers of each)."""
    objects = model.sensor_objid[those]
    if kind in _OF_FORCES:
        return _OF_FORCES[kind](model, those, tensor)
    if kind not in _OF_FRAMES:
        return (_subtree if kind.startswith("subtree") else _entries)(kind, model, objects, tensor)
    frames = Frames(model, model.sensor_objtype[those], objects, tensor)
    others = Frames(model, model.sensor_reftype[those], model.sensor_refid[those], tensor)
    return lambda scene: _OF_FRAMES[kind](Moving(frames, scene), Moving(others, scene))
