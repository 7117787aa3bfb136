"""Fibre lengths and strength of the muscle bodies, and the tables of docs/muscle_bodies.md.

The experiment of Xu et al. 2022 pulls with a constant tension, 0.36 f0 times the activation, at any length and speed. A
muscle of Hill's law needs fibres that work near their optimum, and is fitted to the same joint torques while it
shortens as fast as in the gait.
"""

from __future__ import annotations

import dataclasses
import itertools

import mujoco
import numpy as np

# Tension over f0 of the experiment whose torques are matched.
CONSTANT_TENSION = 0.36
# What a joint does in walking and running [degrees], right side: components of the rotation vector about x, y, z of a
# ball, or the angle of a hinge. Thigh and foot swing forward and up about -y. Arms, stretched out at rest, hang down
# at 90 about x. Trunk, neck, shoulder and wrist: half of their limits.
WORKING_RANGES = {
    "Femur": ((-10, 10), (-40, 20), (-10, 10)),
    "Tibia": ((0, 70),),
    "Talus": ((-10, 10), (-15, 20), (-10, 10)),
    "FootThumb": ((-30, 30),),
    "FootPinky": ((-30, 30),),
    "Spine": ((-11, 11),) * 3,
    "Torso": ((-11, 11),) * 3,
    "Neck": ((-17, 17),) * 3,
    "Head": ((-17, 17),) * 3,
    "Shoulder": ((-14, 14),) * 3,
    "Arm": ((0, 90), (-30, 30), (-20, 20)),
    "ForeArm": ((0, 90),),
    "Hand": ((-20, 20),) * 3,
}
# What a healthy body's joints can do [degrees], as far as the joints' limits allow; further than a muscle has to work.
FULL_RANGES = {
    "Femur": ((-30, 40), (-120, 20), (-40, 40)),
    "Tibia": ((0, 130),),
    "Talus": ((-30, 30), (-25, 50), (-10, 10)),
    "FootThumb": ((-34, 34),),
    "FootPinky": ((-34, 34),),
    "Spine": ((-22, 22),) * 3,
    "Torso": ((-22, 22),) * 3,
    "Neck": ((-34, 34),) * 3,
    "Head": ((-34, 34),) * 3,
    "Shoulder": ((-28, 28),) * 3,
    "Arm": ((-60, 90), (-60, 60), (-45, 45)),
    "ForeArm": ((0, 130),),
    "Hand": ((-40, 40),) * 3,
}
# Flexion of hip, knee and ankle [degrees] at which torques are compared: the range of the gait.
GAIT = tuple(itertools.product((-20, -5, 10, 25, 40), (0, 17.5, 35, 52.5, 70), (-20, -8, 4, 15)))
# Joint speeds [rad/s] at which they are compared, the agonists shortening: root mean squares of the joints' angular
# velocities where legs of constant tension run, rounded (docs/muscle_bodies.md).
GAIT_SPEEDS = {"hip": 6.0, "knee": 5.0, "ankle": 7.0}
# Largest shortening velocity of a fibre, in optimal lengths per second.
VMAX = 10.0
# Fibre length, in optimal ones, at which the passive force is the peak active one.
LONGEST = 1.6
# Torques that the right leg is judged by: joint, degree of freedom of it, and the names of its two directions.
TORQUES = (
    ("hip", "FemurR", 1, "extension", "flexion"),
    ("knee", "TibiaR", 0, "flexion", "extension"),
    ("ankle", "TalusR", 1, "plantarflexion", "dorsiflexion"),
)


def active_force_length(x: np.ndarray) -> np.ndarray:
    """Force of a fully active fibre of length x over its peak, x in optimal lengths.

    De Groote et al. 2016, with the constants of OpenSim's DeGrooteFregly2016Muscle.
    """
    # the third term has a pole at 0.149
    x = np.maximum(x, 0.2)
    gains = 0.8150671134243542, 0.433004984392647, 0.1
    centers = 1.055033428970575, 0.716775413397760, 1.0
    widths = 0.162384573599574, -0.029947116970696, 0.353553390593274
    slopes = 0.063303448465465, 0.200356847296188, 0.0
    terms = zip(gains, centers, widths, slopes)
    return sum(gain * np.exp(-0.5 * ((x - center) / (width + slope * x)) ** 2) for gain, center, width, slope in terms)


def active_force_velocity(v: np.ndarray) -> np.ndarray:
    """Force of a fully active fibre over its isometric one, v the lengthening velocity over VMAX; source as above."""
    scale, slope, shift, offset = -0.3211346127989808, -8.149, -0.374, 0.8825327733249912
    return scale * np.arcsinh(slope * np.maximum(v, -1) + shift) + offset


def passive_force_length(x: np.ndarray) -> np.ndarray:
    """Force of a passive fibre of length x over the peak active force; source as above."""
    stiffness, strain = 4.0, 0.6
    at_shortest = np.exp(stiffness * (0.2 - 1) / strain)
    return (np.exp(stiffness * (x - 1) / strain) - at_shortest) / (np.exp(stiffness) - at_shortest)


@dataclasses.dataclass
class Postures:
    """Lengths [m], (postures, units), and moment arms [m], (postures, units, nv), the force's torque per newton."""

    lengths: np.ndarray
    arms: np.ndarray


def postures(m: mujoco.MjModel, positions: list[np.ndarray]) -> Postures:
    """All tendons of the model in the given configurations (nq,)."""
    d = mujoco.MjData(m)
    lengths, arms = np.empty((len(positions), m.nu)), np.empty((len(positions), m.nu, m.nv))
    for row, qpos in enumerate(positions):
        d.qpos[:] = qpos
        mujoco.mj_forward(m, d)
        lengths[row] = d.actuator_length
        mujoco.mju_sparse2dense(arms[row], d.actuator_moment, d.moment_rownnz, d.moment_rowadr, d.moment_colind)
    return Postures(lengths, -arms)


def gait(m: mujoco.MjModel) -> list[np.ndarray]:
    """Configurations of the right leg at the flexions of GAIT."""
    return [
        _configuration(m, {"FemurR": (0, -hip, 0), "TibiaR": (knee,), "TalusR": (0, -ankle, 0)})
        for hip, knee, ankle in GAIT
    ]


def drawn(m: mujoco.MjModel, ranges: dict[str, tuple], number: int = 2000) -> list[np.ndarray]:
    """Configurations drawn uniformly from `ranges` of the right side; joints without a range stay at rest."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(number):
        angles = {}
        for part, bounds in ranges.items():
            low, high = np.transpose(bounds)
            name = next((name for name in (part, part + "R") if name in _joints(m)), None)
            angle = rng.uniform(low, high)
            if name:
                angles[name] = angle
        found.append(_configuration(m, angles))
    return found


def _joints(m: mujoco.MjModel) -> dict[str, int]:
    return {m.joint(i).name: i for i in range(m.njnt)}


def _configuration(m: mujoco.MjModel, angles: dict[str, tuple[float, ...]]) -> np.ndarray:
    qpos = m.qpos0.copy()
    for name, angle in angles.items():
        adr = m.jnt_qposadr[_joints(m)[name]]
        vector = np.radians(np.asarray(angle, float))
        if len(vector) == 3:
            size = np.linalg.norm(vector)
            mujoco.mju_axisAngle2Quat(qpos[adr : adr + 4], vector / max(size, 1e-9), size)
        else:
            qpos[adr] = vector[0]
    return qpos


def optimal_lengths(working: np.ndarray, full: np.ndarray, slack: np.ndarray) -> np.ndarray:
    """Optimal fibre lengths [m], (units,), for units of `working` and `full` lengths (postures, units).

    The middle between a fibre's shortest and longest at work: so it stays near its optimum, where force varies least
    and the passive one is small. Longer where it would otherwise stretch beyond LONGEST in the full range.
    """
    middle = (working.min(0) + working.max(0)) / 2 - slack
    return np.maximum(middle, (full.max(0) - slack) / LONGEST)


def shortening(arms: np.ndarray, optimal: np.ndarray, speed: float) -> np.ndarray:
    """Force-velocity factors of agonists with positive `arms` [m] when the joint turns their way at `speed` [rad/s]."""
    return active_force_velocity(-np.maximum(arms, 0) * speed / (optimal * VMAX))


def fitted_strength(at: Postures, m: mujoco.MjModel, f0: np.ndarray, slack: np.ndarray, optimal: np.ndarray) -> float:
    """Peak force over f0, the same for all units: least squares of the agonists' torques against constant tension's.

    Each joint's each direction counts alike, whatever its strength; the joint turns in it at the gait's speed.
    """
    num = den = 0.0
    force = active_force_length((at.lengths - slack) / optimal)
    for name, joint, axis, *_ in TORQUES:
        arms = at.arms[:, :, m.joint(joint).dofadr[0] + axis]
        for direction in (1, -1):
            agonists = np.maximum(direction * arms, 0) * f0
            fast = force * shortening(direction * arms, optimal, GAIT_SPEEDS[name])
            constant, hill = agonists.sum(1), (agonists * fast).sum(1)
            weight = 1 / np.mean(constant**2)
            num += weight * constant @ hill
            den += weight * hill @ hill
    return float(CONSTANT_TENSION * num / den)
