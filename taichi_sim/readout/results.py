"""What `Simulator.forward` gives: `ForwardData`."""

from __future__ import annotations

import functools

import torch

from taichi_sim import quaternion
from taichi_sim.readout.contacts import ContactData, Contacts
from taichi_sim.readout.fibres import FibreData
from taichi_sim.readout.sensors import Sensors
from taichi_sim.types import Model


class _Later:
    """A field of `ForwardData` that is computed, with all others like it, when one of them is first asked for."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, data: ForwardData | None, owner: type | None = None):
        return self if data is None else data._rest[self._name]


class ForwardData:
    """What `Simulator.forward` computes from a state; MuJoCo's names, one row per world.

    | field | meaning | shape |
    |---|---|---|
    | xpos, xquat | frames of the bodies [m], differentiable | (N, nbody, 3), (N, nbody, 4) |
    | xipos | centres of mass [m], differentiable | (N, nbody, 3) |
    | site_xpos | sites [m], differentiable | (N, nsite, 3) |
    | xlinvel, xangvel | velocities of the bodies' frames in world axes [m/s, rad/s], differentiable | (N, nbody, 3) |
    | xlinacc, xangacc | their accelerations in world axes, by qacc [m/s^2, rad/s^2] | (N, nbody, 3) |
    | qM | mass matrix, armature included [kg, kg m^2] | (N, nv, nv) |
    | qfrc_bias | Coriolis, centrifugal and gravity forces [N, N m] | (N, nv) |
    | qfrc_passive | springs and dampers [N, N m] | (N, nv) |
    | qfrc_limit | forces of limits of joints and tendons [N, N m] | (N, nv) |
    | qfrc_contact | contact forces [N, N m] | (N, nv) |
    | qfrc_friction | dry friction of joints and tendons [N, N m]; by the penalty at qvel, none at rest | (N, nv) |
    | xfrc_contact | contact force, moment about xipos on a body and what is fixed to it [N, N m] | (N, nbody, 6) |
    | qfrc_actuator | actuators' forces on the joints [N, N m] | (N, nv) |
    | qacc | acceleration [m/s^2, rad/s^2] | (N, nv) |
    | actuator_length, actuator_velocity | transmission's length and its rate | (N, nu) |
    | actuator_force | scalar force of the actuator [N, N m] | (N, nu) |
    | act_dot | rate of the activations [1/s] | (N, na) |
    | ten_length, ten_velocity | lengths of tendons, then slider-cranks [m], rates; differentiable | (N, ntendon) |
    | ten_J | d ten_length / d q, in the coordinates of qvel | (N, ntendon, nv) |
    | contact | `ContactData` of single contacts | |
    | fibres | `FibreData` of the muscles, differentiable | |
    | sensordata, sensor(name) | what sensors read; differentiable but for forces, accelerations | (N, nsensordata) |
    """

    qM, qfrc_bias, qfrc_passive, qfrc_limit, qfrc_contact, qfrc_friction = (_Later() for _ in range(6))  # noqa: N815
    xfrc_contact, qfrc_actuator, qacc, xlinacc, xangacc = (_Later() for _ in range(5))
    actuator_length, actuator_velocity, actuator_force, act_dot = (_Later() for _ in range(4))
    ten_length, ten_velocity, ten_J = (_Later() for _ in range(3))  # noqa: N815

    def __init__(self, layout: Layout, bodies: torch.Tensor, motion, figures: dict, evaluate, measure):
        """See `Layout.data`."""
        self._layout, self._motion, self._figures = layout, motion, figures
        self._evaluate, self._measure, self._read = evaluate, measure, {}
        self.xpos, self.xquat, self.xlinvel, self.xangvel = layout.bodies(bodies)

    @functools.cached_property
    def xipos(self) -> torch.Tensor:
        """See the table."""
        return self.xpos + quaternion.rotate(self.xquat, self._figures["body_ipos"])

    @functools.cached_property
    def site_xpos(self) -> torch.Tensor:
        """See the table."""
        return self._layout.sites(self.xpos, self.xquat)

    @functools.cached_property
    def _rest(self) -> dict[str, torch.Tensor]:
        return self._layout.rest(self._evaluate(), (self.xipos - self.xpos).detach())

    @functools.cached_property
    def contact(self) -> ContactData:
        """Single contacts."""
        return self._layout.contacts.data(self._rest["touching"], self.xquat.detach())

    @functools.cached_property
    def fibres(self) -> FibreData:
        """What the muscles' fibres do."""
        return self._measure()

    @property
    def _scene(self):
        # not kept: each would hold the other
        return self._layout.sensors.scene(self, self._motion, self._figures, self._read)

    @property
    def sensordata(self) -> torch.Tensor:
        """What all sensors read, in the file's order, (N, nsensordata); see `Sensors.all`."""
        return self._layout.sensors.all(self._scene)

    def sensor(self, name: str) -> torch.Tensor:
        """What one sensor reads, (N, its numbers); see `Sensors.one`."""
        return self._layout.sensors.one(self._scene, name)


class Layout:
    """Where what kernels have found of a model's state belongs in its `ForwardData`.

    Args:
        model: whose.
        slots: where geoms can touch, `contact.tables.Slots`.
        tensor: makes tensors of the simulator's precision and device from arrays.
    """

    # what of the model's constants matters to it, and may be fitted
    FIGURES = "body_mass", "body_inertia", "body_ipos"

    def __init__(self, model: Model, slots, tensor):
        self._model = model
        self._figures = {name: tensor(getattr(model, name)) for name in self.FIGURES}
        self._site_body, self._site_pos = tensor(model.site_bodyid).long(), tensor(model.site_pos.reshape(-1, 3))
        self._moves = tensor(model.body_jntnum > 0)
        self.contacts, self.sensors = Contacts(model, slots, tensor), Sensors(model, tensor)

    def data(self, bodies: torch.Tensor, motion: torch.Tensor, fitted: dict, evaluate, measure) -> ForwardData:
        """`ForwardData` of a state.

        Args:
            bodies: what `reporting.bodies` has found (N, 13 nbody).
            motion: qpos and qvel (N, nq + nv).
            fitted: those of FIGURES that are, with an axis of N.
            evaluate: gives what `rest` takes.
            measure: gives the fibres.
        """
        return ForwardData(self, bodies, motion, self._figures | fitted, evaluate, measure)

    def bodies(self, found: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """xpos, xquat, xlinvel, xangvel (N, nbody, 3 or 4)."""
        nbody = self._model.nbody
        widths = [3 * nbody, 4 * nbody, 3 * nbody, 3 * nbody]
        return tuple(x.reshape(len(found), nbody, -1) for x in found.split(widths, dim=1))

    def sites(self, xpos: torch.Tensor, xquat: torch.Tensor) -> torch.Tensor:
        """site_xpos (N, nsite, 3)."""
        at = self._site_body
        return xpos[:, at] + quaternion.rotate(xquat[:, at], self._site_pos)

    def rest(self, found: tuple[torch.Tensor, ...], arm: torch.Tensor) -> dict[str, torch.Tensor]:
        """The fields that are computed later, by name.

        Args:
            found: what `reporting` has, part by part, (N, numbers) each: lengths of tendons, the mass matrix,
                accelerations, forces, actuators, the tendons' Jacobian, contacts of bodies, single ones.
            arm: from bodies' frames to their centres of mass (N, nbody, 3).
        """
        m, n = self._model, len(arm)
        tendons, mass, accelerations, forces, actuators, jacobian, contacts, touching = found
        names = ["qfrc_bias", "qfrc_passive", "qfrc_limit", "qfrc_actuator", "qacc", "qfrc_contact", "qfrc_friction"]
        names_u = ["actuator_length", "actuator_velocity", "actuator_force", "act_dot"]
        linear, angular = (x.reshape(n, m.nbody, 3) for x in accelerations.split(3 * m.nbody, dim=1))
        return {
            "qM": mass.reshape(n, m.nv, m.nv),
            "xlinacc": linear,
            "xangacc": angular,
            **dict(zip(names, forces.split(m.nv, dim=1), strict=True)),
            **dict(zip(names_u, actuators.split([m.nu, m.nu, m.nu, m.na], dim=1), strict=True)),
            "xfrc_contact": self._about_centres(contacts.reshape(n, m.nbody, 6), arm),
            "ten_length": tendons[:, : m.ntendon],
            "ten_velocity": tendons[:, m.ntendon :],
            "ten_J": jacobian.reshape(n, m.ntendon, m.nv),
            "touching": touching,
        }

    def _about_centres(self, contacts: torch.Tensor, arm: torch.Tensor) -> torch.Tensor:
        """Forces and moments about bodies' frames -> about their centres of mass, `arm` from there."""
        force, moment = contacts.split(3, dim=2)
        # a body without joints is a part of what it is fixed to
        return torch.cat([force, moment - torch.linalg.cross(arm, force)], dim=2) * self._moves[:, None]
