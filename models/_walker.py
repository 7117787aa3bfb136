"""The legs of Lee et al. 2019 with the rest of their person on the pelvis, for walking tasks."""

from __future__ import annotations

import functools
from importlib.resources import files

import mujoco
import numpy as np

from shac.models.humanoid_mtu_full import HumanoidMTUFull

# Parameters of contact that go with the weight, so that feet sink in as far as those of the legs alone.
_CONTACT = ("contact_ke", "contact_kd", "contact_kf")


@functools.cache
def body(strength: float, damping: float) -> mujoco.MjModel:
    """`humanoid_mtu` as heavy as a whole person, and a marker that carries the speed wanted.

    The pelvis has mass, centre and inertia of pelvis, trunk, head and hanging arms of `humanoid_mtu_full`, held rigid:
    39.4 of 61.4 kg. The marker, a slide along x as the last joint, weighs a gram, touches nothing and stays where it
    is.

    Args:
      strength: peak force of every muscle over the source's f0.
      damping: share of the asset's joint damping that is kept.
    """
    spec = mujoco.MjSpec.from_string(_text("humanoid_mtu"))
    mass, centre, inertia = upper_body()
    pelvis = spec.body("Pelvis")
    light = sum(b.mass for b in spec.bodies)
    pelvis.explicitinertial = True
    heavy = (light - pelvis.mass + mass) / light
    principal, axes = np.linalg.eigh(inertia)
    mujoco.mju_mat2Quat(pelvis.iquat, (axes * np.linalg.det(axes)).ravel())
    pelvis.mass, pelvis.ipos, pelvis.inertia = mass, centre, principal
    for name in _CONTACT:
        numeric = spec.numeric(name)
        numeric.data = [heavy * value for value in numeric.data]
    for joint in spec.joints:
        joint.damping = damping * np.asarray(joint.damping)
    for muscle in spec.actuators:
        muscle.gainprm[2] = muscle.biasprm[2] = strength * muscle.userdata[0]
    marker = spec.worldbody.add_body(name="speed", mass=1e-3, inertia=(1e-6, 1e-6, 1e-6), explicitinertial=True)
    marker.add_joint(name="speed", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=(1, 0, 0))
    return spec.compile()


@functools.cache
def upper_body() -> tuple[float, np.ndarray, np.ndarray]:
    """All but the legs, arms hanging: mass [kg], centre in the pelvis' frame [m], inertia about it (3, 3) [kg m^2]."""
    m = mujoco.MjModel.from_xml_string(_text("humanoid_mtu_full"))
    data = mujoco.MjData(m)
    data.qpos[:3], data.qpos[7:] = 0, HumanoidMTUFull.start_joints
    mujoco.mj_kinematics(m, data)
    mujoco.mj_comPos(m, data)
    legs = ("Femur", "Tibia", "Talus", "FootThumb", "FootPinky")
    bodies = [b for b in range(1, m.nbody) if not m.body(b).name.startswith(legs)]
    masses = m.body_mass[bodies]
    centre = masses @ data.xipos[bodies] / masses.sum()
    inertia = np.zeros((3, 3))
    for b, mass in zip(bodies, masses):
        frame, arm = data.ximat[b].reshape(3, 3), data.xipos[b] - centre
        inertia += frame @ np.diag(m.body_inertia[b]) @ frame.T + mass * (arm @ arm * np.eye(3) - np.outer(arm, arm))
    return float(masses.sum()), centre, inertia


def _text(name: str) -> str:
    return (files("taichi_sim.assets") / f"{name}.xml").read_text(encoding="utf-8")
