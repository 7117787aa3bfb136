"""What tests of walk_mtu share: the source's legs, and moment arms."""

import mujoco
import numpy as np

from shac.models._walker import bend

# the source's legs with the benchmark's damping and floor, and a reward of nothing but speed, posture and activation
SOURCE = {
    "reference": None,
    "mended": False,
    "anatomy": False,
    "elastic": False,
    "damping": 0.25,
    "ground": 1.0,
    "economy": 0.0,
    "ease": 0.0,
    "slip": 0.0,
}


def arm(m: mujoco.MjModel, unit: str, joint: str, angles: tuple[float, float, float] = (0, 0, 0)) -> float:
    """How much a unit shortens as its leg's Femur, Tibia or Talus flexes [m], from angles of all three on [degrees]."""
    which, lengths = ("Femur", "Tibia", "Talus").index(joint), []
    for step in (0.01, -0.01):
        data, moved = mujoco.MjData(m), list(angles)
        moved[which] += step
        bend(data, unit[0], *np.radians(moved))
        mujoco.mj_kinematics(m, data)
        mujoco.mj_tendon(m, data)
        lengths.append(data.ten_length[m.tendon(unit).id])
    return (lengths[1] - lengths[0]) / np.radians(0.02)
