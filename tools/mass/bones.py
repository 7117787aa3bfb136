"""How the segments of Lee et al. 2019 are drawn: bones as capsules and ellipsoids.

They are for the eye alone, placed by the joints and the muscles' attachments. Points are world positions at rest [m] in
the axes of `source`, on the midline or on the right side, which is mirrored to the left.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class Capsule:
    """From one point to another, with a radius [m]."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius: float

    @property
    def midline(self) -> bool:
        return self.start[1] == self.end[1] == 0


@dataclasses.dataclass
class Ellipsoid:
    """Its centre, its half-axes [m] and its pitch about y, front down [degrees]."""

    center: tuple[float, float, float]
    size: tuple[float, float, float]
    pitch: float = 0.0

    @property
    def midline(self) -> bool:
        return self.center[1] == 0


def _chain(radius: float, *points: tuple[float, float, float]) -> list[Capsule]:
    return [Capsule(start, end, radius) for start, end in zip(points, points[1:])]


def _rib(height: float, width: float, back: float, front: float) -> list[Capsule]:
    """From the spine around the side, then down to the breastbone."""
    spine, turn = (back, -0.01, height + 0.02), (back + 0.005, -0.7 * width, height + 0.01)
    return _chain(0.006, spine, turn, (-0.025, -width, height - 0.005), (front, -0.02, height - 0.04))


HIP, KNEE, ANKLE = (-0.0116, -0.0903, 0.9337), (-0.0103, -0.0995, 0.5387), (-0.0419, -0.08, 0.0776)
SHOULDER, ELBOW, WRIST = (-0.0353, -0.1995, 1.435), (-0.0105, -0.5234, 1.4607), (0.0194, -0.8102, 1.469)
SPINA, CREST, SACRUM, ISCHIUM, PUBIS = (
    (0.045, -0.12, 0.995),
    (-0.02, -0.125, 1.045),
    (-0.085, -0.04, 1.01),
    (-0.05, -0.06, 0.865),
    (0.05, -0.015, 0.905),
)

# By segment without its side.
BONES = {
    "Pelvis": [
        Ellipsoid((-0.09, 0, 0.985), (0.022, 0.045, 0.06), 20),
        *_chain(0.017, HIP, SPINA, CREST, SACRUM, HIP, ISCHIUM),
        Capsule(CREST, HIP, 0.02),
        *_chain(0.012, HIP, PUBIS, ISCHIUM),
        Capsule(PUBIS, (0.05, 0.015, 0.905), 0.012),
    ],
    "Femur": [
        Capsule(HIP, (-0.02, -0.14, 0.915), 0.018),
        Capsule((-0.02, -0.14, 0.905), (-0.0103, -0.0995, 0.56), 0.015),
        Capsule((-0.0153, -0.08, 0.547), (-0.0153, -0.119, 0.547), 0.024),
    ],
    "Tibia": [
        Capsule((-0.0103, -0.082, 0.51), (-0.0103, -0.115, 0.51), 0.019),
        Capsule((-0.0103, -0.0955, 0.505), (-0.04, -0.076, 0.09), 0.013),
        Capsule((-0.03, -0.128, 0.495), (-0.053, -0.103, 0.085), 0.007),
        Ellipsoid((0.026, -0.1, 0.548), (0.01, 0.018, 0.022)),
    ],
    "Talus": [
        Capsule((-0.085, -0.082, 0.037), (-0.045, -0.085, 0.05), 0.021),
        Ellipsoid((-0.03, -0.085, 0.06), (0.035, 0.024, 0.022)),
        Capsule((-0.02, -0.075, 0.055), (0.0692, -0.07, 0.028), 0.01),
        Capsule((-0.02, -0.082, 0.055), (0.0692, -0.087, 0.028), 0.008),
        Capsule((-0.02, -0.09, 0.05), (0.058, -0.104, 0.026), 0.008),
        Capsule((-0.02, -0.096, 0.046), (0.05, -0.119, 0.025), 0.008),
        Capsule((-0.025, -0.1, 0.04), (0.042, -0.133, 0.024), 0.008),
    ],
    "FootThumb": [
        Capsule((0.0692, -0.07, 0.0265), (0.112, -0.074, 0.0245), 0.011),
        Capsule((0.0692, -0.087, 0.0265), (0.112, -0.094, 0.0225), 0.008),
    ],
    "FootPinky": [
        Capsule((0.06, -0.104, 0.0255), (0.103, -0.113, 0.0225), 0.008),
        Capsule((0.052, -0.119, 0.0245), (0.093, -0.129, 0.0215), 0.008),
        Capsule((0.044, -0.133, 0.0235), (0.08, -0.144, 0.0205), 0.008),
    ],
    "Spine": _chain(0.02, (-0.065, 0, 1.045), (-0.05, 0, 1.1), (-0.056, 0, 1.165)),
    "Torso": [
        *_chain(0.018, (-0.06, 0, 1.19), (-0.09, 0, 1.27), (-0.095, 0, 1.36), (-0.07, 0, 1.46)),
        *_chain(0.012, (0.03, 0, 1.43), (0.062, 0, 1.29)),
        *_rib(1.445, 0.075, -0.075, 0.03),
        *_rib(1.405, 0.105, -0.085, 0.042),
        *_rib(1.365, 0.122, -0.092, 0.05),
        *_rib(1.325, 0.132, -0.092, 0.06),
        *_rib(1.285, 0.136, -0.09, 0.065),
        *_rib(1.245, 0.136, -0.08, 0.06),
    ],
    "Neck": _chain(0.019, (-0.055, 0, 1.49), (-0.02, 0, 1.56)),
    "Head": [
        Ellipsoid((-0.005, 0, 1.67), (0.093, 0.072, 0.085)),
        Ellipsoid((0.045, 0, 1.605), (0.035, 0.042, 0.04), 20),
    ],
    "Shoulder": [
        Capsule((0.01, -0.02, 1.455), (-0.035, -0.185, 1.465), 0.008),
        Capsule((-0.1, -0.1, 1.435), (-0.04, -0.185, 1.46), 0.008),
        Ellipsoid((-0.112, -0.105, 1.39), (0.01, 0.04, 0.065), -15),
    ],
    "Arm": [
        Capsule(SHOULDER, SHOULDER, 0.022),
        Capsule(SHOULDER, ELBOW, 0.012),
        Capsule((ELBOW[0], ELBOW[1], ELBOW[2] - 0.015), (ELBOW[0], ELBOW[1], ELBOW[2] + 0.015), 0.016),
    ],
    "ForeArm": [
        Capsule((-0.005, -0.535, 1.474), (0.025, -0.79, 1.472), 0.008),
        Capsule((-0.02, -0.53, 1.453), (0.008, -0.79, 1.462), 0.008),
    ],
    "Hand": [
        Ellipsoid((0.026, -0.85, 1.466), (0.034, 0.045, 0.012)),
        *_chain(0.008, (0.045, -0.835, 1.466), (0.075, -0.868, 1.462), (0.085, -0.893, 1.458)),
        Capsule((0.05, -0.885, 1.466), (0.058, -0.958, 1.46), 0.007),
        Capsule((0.035, -0.89, 1.466), (0.038, -0.972, 1.46), 0.007),
        Capsule((0.02, -0.885, 1.466), (0.018, -0.965, 1.46), 0.007),
        Capsule((0.005, -0.878, 1.466), (-0.001, -0.94, 1.46), 0.007),
    ],
}
