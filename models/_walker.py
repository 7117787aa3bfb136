"""The bodies of walk_mtu and walk_mtu_full: muscles, and a person's weight; docs/muscle_bodies.md has the sources."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from importlib.resources import files
from typing import NamedTuple

import mujoco
import numpy as np

from shac.mirror import Mirror
from shac.models import _anatomy
from shac.models.humanoid_mtu_full import HumanoidMTUFull
from shac.tracking import add_slider

# Parameters of contact that go with the weight, so that feet sink in as far as those of the legs alone.
_CONTACT = ("contact_ke", "contact_kd", "contact_kf")
# Units of the whole body that bend the hip and begin on the spine: right and left ones are called R_ and L_ before.
_PSOAS = ("Psoas_Major", "Psoas_Major1", "Psoas_Major2")
# How many units `mended` adds to the asset's.
NUM_MENDED = 2 * len(_PSOAS)
# The calf's units that end on the shank, and the ends of the soleus' paths that lead them on to the heel.
_CALF = {
    "Gastrocnemius_Lateral_Head": ("Soleus1_2", "Soleus1_3"),
    "Gastrocnemius_Medial_Head": ("Soleus_3", "Soleus_4"),
}
# Points of paths that are left out. Where a knee is bent by more than 50 degrees, those on the thigh and those on the
# shank pass each other, and hamstrings and calf would straighten it; those in front of the ankle lie too close to it.
# Without them moment arms are like a person's (docs/muscle_bodies.md).
_PASSING = (
    *("Semimembranosus_1", "Semimembranosus_2", "Semimembranosus1_1", "Semimembranosus1_2", "Semimembranosus1_3"),
    *("Semitendinosus_1", "Semitendinosus_2", "Bicep_Femoris_Longus_2", "Bicep_Femoris_Longus_3"),
    *("Bicep_Femoris_Short_1", "Bicep_Femoris_Short1_1", "Gracilis_1", "Popliteus_1", "Popliteus_2", "Plantaris_2"),
    *("Gastrocnemius_Lateral_Head_2", "Gastrocnemius_Medial_Head_2", "Tibialis_Anterior_2"),
    *("Extensor_Hallucis_Longus_2", "Extensor_Digitorum_Longus_3", "Extensor_Digitorum_Longus1_3"),
    "Extensor_Digitorum_Longus2_3",
)
# Flexions of hip, knee and ankle in walking and running [degrees]: the working range of docs/muscle_bodies.md.
_WORKING = ((-20, 40), (0, 70), (-20, 15))
# The ligament in front of the hip, from where it leaves the pelvis to the upper end of the thigh: its ends from the
# hip's centre on [m], of the right leg, its stiffness [N/m], and the flexion from which on it is taut as the thigh goes
# back [rad]. Stiffness and flexion are such that, relaxed, the hip holds an extended thigh as people's do (Riener and
# Edrich 1999, J Biomech 32).
_LIGAMENT = "Iliofemoral"
_LIGAMENT_ENDS = {"Pelvis": (0.035, 0.0, 0.0), "Femur": (0.035, -0.02, -0.05)}
_LIGAMENT_STIFFNESS, _LIGAMENT_TAUT = 27e3, np.radians(10)
# What of a muscle is its source's.
_MUSCLE = ("gaintype", "gainprm", "biastype", "biasprm", "dyntype", "dynprm", "ctrllimited", "ctrlrange", "userdata")
# Of a unit's length at rest, its tendon has that share.
_TENDON = 0.2


def mirror(m: mujoco.MjModel) -> Mirror:
    """Right and left exchanged, at the plane y = 0: bodies' frames are the world's at rest, hinges are about y or z."""
    # of a vector, of a rotation's vector, and of a quaternion
    vector, axis, quat = (1.0, -1.0, 1.0), (-1.0, 1.0, -1.0), (1.0, -1.0, 1.0, -1.0)
    other = {"R": "L", "L": "R"}
    pairs = []
    for j in range(1, m.njnt):
        name = m.joint(j).name
        image = m.joint(name[:-1] + other.get(name[-1], name[-1]))
        ball = m.jnt_type[j] == mujoco.mjtJoint.mjJNT_BALL
        turns = -1.0 if m.jnt_type[j] == mujoco.mjtJoint.mjJNT_HINGE and m.jnt_axis[j, 2] else 1.0
        pairs.append((image.qposadr[0], image.dofadr[0], ball, turns))
    index, signs = list(range(11)), [1.0, *quat, *vector, *axis]
    for adr, _, ball, turns in pairs:
        index += range(adr + 4, adr + 4 + (4 if ball else 1))
        signs += quat if ball else (turns,)
    for _, adr, ball, turns in pairs:
        index += range(m.nq - 2 + adr, m.nq - 2 + adr + (3 if ball else 1))
        signs += axis if ball else (turns,)
    # up and heading
    index, signs = [*index, len(index), len(index) + 1], [*signs, 1.0, 1.0]
    names = [m.actuator(u).name for u in range(m.nu)]
    muscles = [names.index(other[name[0]] + name[1:]) for name in names]
    return Mirror(tuple(map(int, index)), tuple(signs), tuple(muscles), (1.0,) * m.nu)


class Settings(NamedTuple):
    """What the tasks' settings make of a body.

    | field | meaning |
    |---|---|
    | strength | peak force of every muscle over the source's f0 |
    | damping | share of the asset's joint damping that is kept |
    | mended | legs alone with a psoas, and a gastrocnemius that lifts the heel: `_mend` |
    | ground | stiffness, damping and friction of contact over what makes feet sink in as far as humanoid_mtu's |
    | anatomy, elastic | with published muscles, and tendons that stretch: `_publish` |
    """

    strength: float
    damping: float
    mended: bool
    ground: float
    anatomy: bool
    elastic: bool


def legs(settings: Settings) -> mujoco.MjSpec:
    """`humanoid_mtu` as heavy as a whole person, and a marker that carries the speed wanted.

    The pelvis has mass, centre and inertia of pelvis, trunk, head and hanging arms of `humanoid_mtu_full`, held rigid:
    39.4 of 61.4 kg. The marker, a slide along x as the last joint, weighs a gram, touches nothing and stays where it
    is.
    """
    spec = _source("humanoid_mtu", settings)
    mass, centre, inertia = upper_body()
    pelvis = spec.body("Pelvis")
    pelvis.explicitinertial = True
    principal, axes = np.linalg.eigh(inertia)
    mujoco.mju_mat2Quat(pelvis.iquat, (axes * np.linalg.det(axes)).ravel())
    pelvis.mass, pelvis.ipos, pelvis.inertia = mass, centre, principal
    if settings.mended:
        _mend(spec)
    return _set(spec, settings)


def whole(settings: Settings) -> mujoco.MjSpec:
    """`humanoid_mtu_full`, and a marker as that of `legs`."""
    spec = _source("humanoid_mtu_full", settings)
    if settings.mended:
        _lead_on(spec)
        _fit(spec, [f"{side}_{name}" for side in "RL" for name in _CALF])
    return _set(spec, settings)


def _source(name: str, settings: Settings) -> mujoco.MjSpec:
    """An asset; mended, without the points of paths that pass others."""
    text = _text(name)
    if settings.mended:
        for side, point in itertools.product("RL", _PASSING):
            text = text.replace(f'<site site="{side}_{point}"/>', "")
    return mujoco.MjSpec.from_string(text)


@functools.cache
def compiled(body: Callable[[Settings], mujoco.MjSpec], settings: Settings) -> mujoco.MjModel:
    """A body, `legs` or `whole`."""
    return body(settings).compile()


def _set(spec: mujoco.MjSpec, settings: Settings) -> mujoco.MjSpec:
    """What both bodies have in common."""
    light = _legs_alone()
    mass = sum(b.mass for b in spec.bodies)
    for name in _CONTACT:
        numeric = spec.numeric(name)
        numeric.data = [mass / light * settings.ground * value for value in numeric.data]
    for joint in spec.joints:
        joint.damping = settings.damping * np.asarray(joint.damping)
    if settings.anatomy:
        _publish(spec, mass / _anatomy.MASS, settings.elastic)
        _tie(spec)
    for muscle in spec.actuators:
        muscle.gainprm[2] = muscle.biasprm[2] = settings.strength * muscle.userdata[0]
    add_slider(spec, "speed")
    return spec


@functools.cache
def _legs_alone() -> float:
    """Mass of `humanoid_mtu` [kg]."""
    return sum(b.mass for b in mujoco.MjSpec.from_string(_text("humanoid_mtu")).bodies)


def _mend(spec: mujoco.MjSpec) -> None:
    """Gives the legs what the source's lack: a psoas, and a gastrocnemius that lifts the heel.

    The psoas is the source's, its places on the spine held by the pelvis. The gastrocnemius goes on from its end on the
    shank along the soleus to the heel. Fibres are as long as the asset's: see `_fit`.
    """
    full = mujoco.MjSpec.from_string(_text("humanoid_mtu_full"))
    data = _standing()
    for side in "RL":
        for name in (f"{side}_{name}" for name in _PSOAS):
            source = full.actuator(name)
            tendon = spec.add_tendon(name=name)
            for wrap in full.tendon(name).path:
                body, place = spec.body(wrap.target.parent.name), wrap.target.pos
                if body is None:
                    body, place = spec.body("Pelvis"), _in_pelvis(data, data.site(wrap.target.name).xpos)
                body.add_site(name=wrap.target.name, pos=place, size=wrap.target.size, group=wrap.target.group)
                tendon.wrap_site(wrap.target.name)
            muscle = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_TENDON)
            for field in _MUSCLE:
                setattr(muscle, field, getattr(source, field))
    _lead_on(spec)
    _fit(spec, [f"{side}_{name}" for side in "RL" for name in (*_PSOAS, *_CALF)])


def _lead_on(spec: mujoco.MjSpec) -> None:
    """Leads the gastrocnemius on along the soleus to the heel."""
    for side in "RL":
        for name, end in _CALF.items():
            for site in end:
                spec.tendon(f"{side}_{name}").wrap_site(f"{side}_{site}")


def _publish(spec: mujoco.MjSpec, heavy: float, elastic: bool) -> None:
    """Gives muscles published peak forces, fibres and pennations; tendons are what is left of units as the body stands.

    Args:
      heavy: the body's mass over that of the man whose muscles they are: peak forces grow with it.
      elastic: tendons stretch, by as much as the published; those shorter than their fibres do not (Millard et al.
        2013), nor do those of which nothing is published.
    """
    sizes = _anatomy.sizes([muscle.name for muscle in spec.actuators])
    m = spec.compile()
    if elastic:
        spec.add_text(name="muscle_tendon", data="elastic")
        spec.add_numeric(name="muscle_strain", data=[0.0])
    for name, size in sizes.items():
        tendon = m.tendon_length0[m.tendon(name).id] - size.standing * size.optimal
        muscle = spec.actuator(name)
        muscle.userdata = [size.force * heavy]
        muscle.lengthrange = tendon + 0.5 * size.optimal, tendon + 1.5 * size.optimal
        # at the ends of that range
        muscle.biasprm[:2] = 0.5 - size.slack, 1.5 - size.slack
        spec.add_numeric(name=f"muscle_pennation:{name}", data=[size.pennation])
        if elastic and tendon >= size.optimal:
            spec.add_numeric(name=f"muscle_strain:{name}", data=[size.stretch / tendon])


def _tie(spec: mujoco.MjSpec) -> None:
    """Gives each hip its ligament in front."""
    for side, mirrored in (("R", 1), ("L", -1)):
        femur = spec.body(f"Femur{side}")
        tendon = spec.add_tendon(name=f"{side}_{_LIGAMENT}", stiffness=_LIGAMENT_STIFFNESS)
        for body, centre in ((spec.body("Pelvis"), femur.pos), (femur, 0)):
            place = centre + np.multiply(_LIGAMENT_ENDS[body.name.rstrip(side)], (1, mirrored, 1))
            name = f"{side}_{_LIGAMENT}_{body.name}"
            body.add_site(name=name, pos=place, size=[0.005, 0.0, 0.0], group=3)
            tendon.wrap_site(name)
    m = spec.compile()
    data = mujoco.MjData(m)
    for side in "RL":
        bend(data, side, _LIGAMENT_TAUT, 0, 0)
    mujoco.mj_kinematics(m, data)
    mujoco.mj_tendon(m, data)
    for side in "RL":
        name = f"{side}_{_LIGAMENT}"
        spec.tendon(name).springlength = 0, data.ten_length[m.tendon(name).id]


def _fit(spec: mujoco.MjSpec, names: list[str]) -> None:
    """Optimal fibre lengths by the asset's rule: the middle of the shortest and longest that fibres become at work."""
    m = spec.compile()
    data = mujoco.MjData(m)
    rows = [m.tendon(name).id for name in names]
    lengths = []
    for angles in itertools.product(*_WORKING):
        for side in "RL":
            bend(data, side, *np.radians(angles))
        mujoco.mj_kinematics(m, data)
        mujoco.mj_tendon(m, data)
        lengths.append(data.ten_length[rows].copy())
    for name, rest, low, high in zip(names, m.tendon_length0[rows], np.min(lengths, 0), np.max(lengths, 0)):
        tendon = _TENDON * rest
        optimal = (low + high) / 2 - tendon
        spec.actuator(name).lengthrange = tendon + 0.5 * optimal, tendon + 1.5 * optimal


def bend(data: mujoco.MjData, side: str, hip: float, knee: float, ankle: float) -> None:
    """Bends leg `side`, R or L, in the sagittal plane: flexions of hip and knee, dorsiflexion of the ankle [rad]."""
    m = data.model
    # thigh and foot swing forward and up about -y
    for joint, angle in (("Femur", hip), ("Talus", ankle)):
        place = m.joint(joint + side).qposadr[0]
        mujoco.mju_axisAngle2Quat(data.qpos[place : place + 4], np.array([0.0, -1.0, 0.0]), angle)
    data.qpos[m.joint(f"Tibia{side}").qposadr[0]] = knee


def soles(m: mujoco.MjModel) -> list[tuple[int, np.ndarray]]:
    """The lower corners of the feet's boxes: of each its body, and its place in the body's frame [m]."""
    found = []
    for geom in np.flatnonzero((m.geom_type == mujoco.mjtGeom.mjGEOM_BOX) & (m.geom_conaffinity > 0)):
        axes = np.zeros(9)
        mujoco.mju_quat2Mat(axes, m.geom_quat[geom])
        for signs in itertools.product((-1, 1), (-1, 1), (-1,)):
            corner = m.geom_pos[geom] + axes.reshape(3, 3) @ (signs * m.geom_size[geom])
            found.append((int(m.geom_bodyid[geom]), corner))
    return found


@functools.cache
def upper_body() -> tuple[float, np.ndarray, np.ndarray]:
    """All but the legs, arms hanging: mass [kg], centre in the pelvis' frame [m], inertia about it (3, 3) [kg m^2]."""
    data = _standing()
    m = data.model
    legs = ("Femur", "Tibia", "Talus", "FootThumb", "FootPinky")
    bodies = [b for b in range(1, m.nbody) if not m.body(b).name.startswith(legs)]
    masses = m.body_mass[bodies]
    centre = masses @ data.xipos[bodies] / masses.sum()
    inertia = np.zeros((3, 3))
    for b, mass in zip(bodies, masses):
        frame, arm = data.ximat[b].reshape(3, 3), data.xipos[b] - centre
        inertia += frame @ np.diag(m.body_inertia[b]) @ frame.T + mass * (arm @ arm * np.eye(3) - np.outer(arm, arm))
    return float(masses.sum()), centre, inertia


@functools.cache
def _standing() -> mujoco.MjData:
    """The whole body, standing with its arms hanging, its pelvis at the origin."""
    m = mujoco.MjModel.from_xml_string(_text("humanoid_mtu_full"))
    data = mujoco.MjData(m)
    data.qpos[:3], data.qpos[7:] = 0, HumanoidMTUFull.start_joints
    mujoco.mj_kinematics(m, data)
    mujoco.mj_comPos(m, data)
    return data


def _in_pelvis(data: mujoco.MjData, place: np.ndarray) -> np.ndarray:
    pelvis = data.body("Pelvis")
    return pelvis.xmat.reshape(3, 3).T @ (place - pelvis.xpos)


def _text(name: str) -> str:
    return (files("taichi_sim.assets") / f"{name}.xml").read_text(encoding="utf-8")
