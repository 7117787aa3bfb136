"""MJCF of the muscle bodies: segments, joints, contact and muscles of `source` in this project's form.

Joint and contact parameters are those of the benchmark of Xu et al. 2022 (its body "SNU humanoid").
"""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET

import numpy as np

from .bones import BONES, Ellipsoid
from .source import MIRROR, Segment, Unit

# Mass [kg] at which the benchmark's limits have their full stiffness and damping; they go with mass / MASS_SCALE.
MASS_SCALE = 15.0
LIMIT_KE, LIMIT_KD = 1e3, 10.0
# A joint's spring [N m/rad], which goes with the square root of the same ratio, its damping and its armature.
STIFFNESS, DAMPING, ARMATURE = 5.0, 2.0, 0.05
CONTROL_STEP, SUBSTEPS = 1 / 60, 6
CUSTOM = {
    "substeps": SUBSTEPS,
    "theta": 0.6,
    "contact_ke": 5e3,
    "contact_kd": 2e3,
    "contact_kf": 1e3,
    "contact_mu": 0.5,
    "muscle_damping": 0.01,
}
# Fibre lengths, in units of the optimal one, at the two ends of an actuator's lengthrange.
RANGE = 0.5, 1.5
ACTIVATION_TIME, DEACTIVATION_TIME = 0.015, 0.06
VMAX = 10.0


@dataclasses.dataclass
class Muscle:
    """What a unit's actuator says: peak force [N], optimal fibre length [m], slack length of the tendon [m]."""

    peak_force: float
    optimal_length: float
    slack_length: float


def document(model: str, segments: list[Segment], units: list[Unit], muscles: dict[str, Muscle], strength: float):
    """The MJCF's root element. `muscles` are by unit's name, `strength` is their peak force over the units' f0."""
    root = ET.Element("mujoco", model=model)
    ET.SubElement(root, "compiler", angle="radian")
    ET.SubElement(root, "option", timestep=repr(CONTROL_STEP / SUBSTEPS), gravity="0 0 -9.81")
    ET.SubElement(root, "size", nuser_actuator="1")
    _custom(ET.SubElement(root, "custom"), segments, strength)
    _defaults(ET.SubElement(root, "default"))
    asset = ET.SubElement(root, "asset")
    checker = {"type": "2d", "builtin": "checker", "width": "300", "height": "300"}
    ET.SubElement(asset, "texture", name="floor", **checker, rgb1="1 1 1", rgb2="0.85 0.85 0.85")
    ET.SubElement(asset, "material", name="floor", texture="floor", texuniform="true")
    world = ET.SubElement(root, "worldbody")
    ET.SubElement(world, "light", directional="true", pos="0 0 10", dir="0.3 0.4 -1")
    floor = {"size": "0 0 1", "contype": "1", "conaffinity": "0", "material": "floor", "rgba": "0.74 0.77 0.81 1"}
    ET.SubElement(world, "geom", name="floor", type="plane", **floor)
    _bodies(world, segments, units)
    tendon = ET.SubElement(root, "tendon")
    for unit in units:
        path = ET.SubElement(tendon, "spatial", name=unit.name)
        for index in range(len(unit.waypoints)):
            ET.SubElement(path, "site", site=f"{unit.name}_{index}")
    actuator = ET.SubElement(root, "actuator")
    for unit in units:
        _actuator(actuator, unit, muscles[unit.name])
    return root


def limit_angle(segment: Segment) -> float:
    """The largest angle [rad] of a ball joint, whose limits the source gives for each axis.

    The median of the three upper limits: for Femur, Talus, Shoulder, Arm and Hand what all axes have; for Spine and
    Torso that of two axes; for Neck and Head without their one-sided 1.5, which no neck bends to one side.
    """
    return float(np.median(segment.upper))


def _custom(custom: ET.Element, segments: list[Segment], strength: float) -> None:
    ET.SubElement(custom, "text", name="muscle_law", data="degroote_fregly")
    for name, value in CUSTOM.items():
        ET.SubElement(custom, "numeric", name=name, data=_text(value))
    ET.SubElement(custom, "numeric", name="strength", data=_text(strength))
    ET.SubElement(custom, "numeric", name="limit_kd", data="0")
    for segment in segments:
        scale = segment.mass / MASS_SCALE
        if segment.joint != "Free":
            ET.SubElement(custom, "numeric", name=f"limit_ke:{segment.name}", data=_text(LIMIT_KE * scale))
        if segment.joint == "Ball":
            ET.SubElement(custom, "numeric", name=f"limit_kd:{segment.name}", data=_text(LIMIT_KD * scale))


def _defaults(default: ET.Element) -> None:
    bone = {"contype": "0", "conaffinity": "0", "mass": "0", "group": "2"}
    ET.SubElement(default, "joint", type="ball", damping=_text(DAMPING), armature=_text(ARMATURE))
    ET.SubElement(default, "site", size="0.004", group="4")
    ET.SubElement(default, "tendon", width="0.005", rgba="0.7 0.25 0.25 1")
    ET.SubElement(
        default,
        "muscle",
        ctrllimited="true",
        ctrlrange="0 1",
        range=_text(*RANGE),
        timeconst=_text(ACTIVATION_TIME, DEACTIVATION_TIME),
        vmax=_text(VMAX),
    )
    body = ET.SubElement(default, "default", **{"class": "body"})
    ET.SubElement(body, "geom", type="capsule", **bone, rgba="0.9 0.87 0.78 1")
    contact = ET.SubElement(body, "default", **{"class": "contact"})
    ET.SubElement(contact, "geom", type="box", conaffinity="1", group="3", rgba="0.86 0.49 0.18 0.5")


def _bodies(world: ET.Element, segments: list[Segment], units: list[Unit]) -> None:
    lowest = min(segment.corners()[:, 2].min() for segment in segments)
    elements, origins = {}, {}
    for segment in segments:
        root = segment.parent not in elements
        # rounded upwards, so that nothing is below the floor
        ground = np.array([*segment.joint_pos[:2], np.floor(lowest * 1e4) / 1e4])
        origin = ground if root else origins[segment.parent]
        above = world if root else elements[segment.parent]
        body = ET.SubElement(above, "body", name=segment.name, pos=_text(*(segment.joint_pos - origin)))
        if root:
            body.set("childclass", "body")
        elements[segment.name], origins[segment.name] = body, segment.joint_pos
        _joint(body, segment)
        _inertial(body, segment)
        if segment.contact:
            pose = {"pos": _text(*(segment.box_pos - segment.joint_pos)), "quat": _quaternion(segment.box_rot)}
            size = _text(*(segment.box / 2), digits=5)
            ET.SubElement(body, "geom", name=segment.name, **{"class": "contact"}, size=size, **pose)
        _bones(body, segment)
    for unit in units:
        for index, (segment, point) in enumerate(unit.waypoints):
            pos = _text(*(point - origins[segment]))
            ET.SubElement(elements[segment], "site", name=f"{unit.name}_{index}", pos=pos)
    for body in elements.values():
        # the sites above were added last, and read better before the next body
        body[:] = sorted(body, key=lambda element: element.tag == "body")


def _joint(body: ET.Element, segment: Segment) -> None:
    if segment.joint == "Free":
        ET.SubElement(body, "freejoint", name="root")
        return
    scale = segment.mass / MASS_SCALE
    joint = ET.SubElement(body, "joint", name=segment.name)
    stiffness = _text(STIFFNESS * scale**0.5, digits=3)
    if segment.joint == "Ball":
        joint.attrib.update(range=_text(0, limit_angle(segment)), stiffness=stiffness)
    else:
        limits = _text(segment.lower[0], segment.upper[0])
        joint.attrib.update(type="hinge", axis=_text(*segment.axis), range=limits, stiffness=stiffness)
        joint.set("damping", _text(DAMPING + LIMIT_KD * scale))


def _inertial(body: ET.Element, segment: Segment) -> None:
    square = segment.box**2
    inertia = segment.mass / 12 * (square.sum() - square)
    ET.SubElement(
        body,
        "inertial",
        mass=_text(segment.mass),
        pos=_text(*(segment.box_pos - segment.joint_pos)),
        quat=_quaternion(segment.box_rot),
        diaginertia=" ".join(f"{moment:.4g}" for moment in inertia),
    )


def _bones(body: ET.Element, segment: Segment) -> None:
    paired = segment.name[:-1] in BONES
    for bone in BONES[segment.name[:-1] if paired else segment.name]:
        left = [segment.name.endswith("L")] if paired else [False] if bone.midline else [False, True]
        for mirror in (MIRROR if side else np.eye(3) for side in left):
            geom = ET.SubElement(body, "geom")
            if isinstance(bone, Ellipsoid):
                pos = mirror @ bone.center - segment.joint_pos
                geom.attrib.update(type="ellipsoid", pos=_text(*pos), size=_text(*bone.size))
                if bone.pitch:
                    geom.set("euler", _text(0, np.radians(bone.pitch), 0))
            elif bone.start == bone.end:
                pos = mirror @ bone.start - segment.joint_pos
                geom.attrib.update(type="sphere", pos=_text(*pos), size=_text(bone.radius))
            else:
                ends = [mirror @ end - segment.joint_pos for end in (bone.start, bone.end)]
                geom.attrib.update(fromto=_text(*np.concatenate(ends)), size=_text(bone.radius))


def _actuator(actuator: ET.Element, unit: Unit, muscle: Muscle) -> None:
    ends = (muscle.slack_length + x * muscle.optimal_length for x in RANGE)
    element = ET.SubElement(actuator, "muscle", name=unit.name, tendon=unit.name)
    element.set("force", _text(muscle.peak_force, digits=3))
    element.set("lengthrange", _text(*ends, digits=5))
    element.set("user", _text(unit.f0, digits=6))


def _quaternion(rotation: np.ndarray) -> str:
    """(w, x, y, z) of a rotation by less than 180 degrees."""
    w = np.sqrt(1 + np.trace(rotation)) / 2
    skew = rotation - rotation.T
    return _text(w, *(skew[[2, 0, 1], [1, 2, 0]] / (4 * w)))


def _text(*values: float, digits: int = 4) -> str:
    """Numbers for an attribute, without trailing zeros and without -0."""
    return " ".join(f"{round(value, digits) + 0.0:.{digits}f}".rstrip("0").rstrip(".") for value in values)
