"""The musculoskeletal body of Lee et al. 2019 as published (human.xml, muscle284.xml), its defects mended.

Source: Lee, Park, Lee, Lee, "Scalable Muscle-Actuated Human Simulation and Control", SIGGRAPH 2019; Apache-2.0.

In the files y is up, the toes point along z and the left side is at positive x; all transforms are world poses at
rest. Here x is forward, y left and z up, as in the other bodies. Everything is in metres, kilograms, newtons.
"""

from __future__ import annotations

import dataclasses
import itertools
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

# Columns: the source's axes in ours. A cyclic permutation, thus a rotation.
TO_OURS = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
MIRROR = np.diag([1.0, -1, 1])
LOWER_BODY = {"Pelvis"} | {
    part + side for part in ("Femur", "Tibia", "Talus", "FootThumb", "FootPinky") for side in "RL"
}
# Further than this from a rotation, a matrix holds a mistake that rounding to four digits does not explain.
ROUNDING = 1e-3


@dataclasses.dataclass
class Segment:
    """A body of the skeleton at rest, in world axes.

    | field | meaning |
    |---|---|
    | name, parent | its name, its parent's ("None": the root) |
    | mass | [kg] |
    | box, box_pos, box_rot | full extents [m], centre [m] and axes (columns) of the box that it is |
    | contact | collides with the floor |
    | joint, joint_pos | "Free", "Ball" or "Revolute", and its centre [m] |
    | axis | of a revolute joint |
    | lower, upper | limits per axis [rad], (1,) or (3,) |
    """

    name: str
    parent: str
    mass: float
    box: np.ndarray
    box_pos: np.ndarray
    box_rot: np.ndarray
    contact: bool
    joint: str
    joint_pos: np.ndarray
    axis: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    def corners(self) -> np.ndarray:
        """Corners of the box [m], (8, 3)."""
        signs = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
        return self.box_pos + (signs * self.box) @ self.box_rot.T


@dataclasses.dataclass
class Unit:
    """A muscle-tendon unit: peak force f0 [N], length `lt` of the tendon over the unit's at rest, and waypoints:
    (segment, position at rest [m] in world axes)."""

    name: str
    f0: float
    lt: float
    waypoints: list[tuple[str, np.ndarray]]

    @property
    def rest_length(self) -> float:
        """Length of the path at rest [m]."""
        points = np.array([point for _, point in self.waypoints])
        return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def read(folder: Path, lower_body: bool) -> tuple[list[Segment], list[Unit]]:
    """Segments, parents before children, and units; of the lower body alone, units all of whose waypoints are on it.

    The left side is the mirror image of the right one, as the source's waypoints are. Its segments are too, but for
    the left toes, where the thumb's and the pinky toe's nodes carry each other's transforms with joints up to 8 mm off,
    and the left hand, 0.7 mm off.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is not the published one; says where.
    """
    skeleton, muscles = (_root(folder / name) for name in ("human.xml", "muscle284.xml"))
    segments = {node.get("name"): _segment(node) for node in skeleton.iter("Node")}
    for name in [name for name in segments if name.endswith("L")]:
        segments[name] = _mirrored(segments[name[:-1] + "R"])
    units = [_unit(element) for element in muscles]
    kept = LOWER_BODY if lower_body else set(segments)
    return (
        [segment for name, segment in segments.items() if name in kept],
        [unit for unit in units if all(name in kept for name, _ in unit.waypoints)],
    )


def _root(path: Path) -> ET.Element:
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: give the folder of the published human.xml and muscle284.xml")
    return ET.parse(path).getroot()


def _numbers(text: str) -> np.ndarray:
    return np.array([float(word) for word in text.split()])


def _segment(node: ET.Element) -> Segment:
    name, body, joint = node.get("name"), node.find("Body"), node.find("Joint")
    pose, anchor = body.find("Transformation"), joint.find("Transformation")
    if not np.array_equal(_numbers(anchor.get("linear")), np.eye(3).ravel()):
        raise ValueError(f"human.xml, node {name}: the joint's frame is turned; the published one's are not")
    rotation = _numbers(pose.get("linear")).reshape(3, 3)
    if name.startswith("Femur"):
        # 0.21 stands where the other entries ask for 0.0021
        rotation[2, 0] /= 100
    return Segment(
        name=name,
        parent=node.get("parent"),
        mass=float(body.get("mass")),
        box=TO_OURS @ _numbers(body.get("size")),
        box_pos=TO_OURS @ _numbers(pose.get("translation")),
        box_rot=_upright(TO_OURS @ _rotation(rotation, name) @ TO_OURS.T),
        contact=body.get("contact") == "On",
        joint=joint.get("type"),
        joint_pos=TO_OURS @ _numbers(anchor.get("translation")),
        axis=TO_OURS @ _numbers(joint.get("axis", "0 0 0")),
        lower=_numbers(joint.get("lower", "")),
        upper=_numbers(joint.get("upper", "")),
    )


def _rotation(matrix: np.ndarray, name: str) -> np.ndarray:
    """The rotation nearest to a matrix of rounded numbers: the orthogonal factor of its polar decomposition."""
    u, stretch, vt = np.linalg.svd(matrix)
    if np.abs(stretch - 1).max() > ROUNDING or np.linalg.det(matrix) < 0:
        raise ValueError(f"human.xml, node {name}: the body's `linear` is no rotation, even with rounding allowed for")
    return u @ vt


def _upright(rotation: np.ndarray) -> np.ndarray:
    """The same box with its axes turned by 180 degrees so that they lie nearest to the world's."""
    turns = [np.diag(signs) for signs in ([1.0, 1, 1], [1.0, -1, -1], [-1.0, 1, -1], [-1.0, -1, 1])]
    return rotation @ max(turns, key=lambda turn: np.trace(rotation @ turn))


def _mirrored(right: Segment) -> Segment:
    # A rotation's axis is a pseudovector, so that the mirror image flexes with the same sign about y, with the opposite
    # sign about x and z; the source turns the limits of a left joint then, not its axis.
    flips = -1 if right.joint == "Revolute" and right.axis[1] == 0 else 1
    limits = (right.lower, right.upper) if flips > 0 else (0 - right.upper, 0 - right.lower)
    return dataclasses.replace(
        right,
        name=right.name[:-1] + "L",
        parent=right.parent[:-1] + "L" if right.parent.endswith("R") else right.parent,
        box_pos=MIRROR @ right.box_pos,
        box_rot=MIRROR @ right.box_rot @ MIRROR,
        joint_pos=MIRROR @ right.joint_pos,
        lower=limits[0],
        upper=limits[1],
    )


def _unit(element: ET.Element) -> Unit:
    name = element.get("name")
    if float(element.get("pen_angle")) != 0:
        raise ValueError(f"muscle284.xml, unit {name}: it has a pennation angle; the published ones have none")
    return Unit(
        name=name,
        f0=float(element.get("f0")),
        lt=float(element.get("lt")),
        waypoints=[(point.get("body"), TO_OURS @ _numbers(point.get("p"))) for point in element],
    )
