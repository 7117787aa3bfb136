"""The muscles of walk_mtu beside people's: sizes, moment arms in the postures of a walk, what they do relaxed."""

from __future__ import annotations

import itertools
import math

import mujoco
import numpy as np
import pytest
import torch
from walkers import SOURCE, arm

from shac import models
from shac.errors import UserError
from shac.models._walker import bend

KNEE, HIP, ANKLE = (0, 15, 30, 45, 60, 75), (-20, -10, 0, 10, 20, 30, 40), (-20, -10, 0, 5, 10, 15, 20)
# Moment arms of the right leg of Rajagopal2015 (Rajagopal et al. 2016, IEEE Trans Biomed Eng 63) by OpenSim 4.6 [cm],
# flexion and dorsiflexion positive; the knee's with hip and ankle at 0, theirs with the knee bent by 10 degrees.
PUBLISHED = {
    "Tibia": {
        "Bicep_Femoris_Longus": (2.90, 3.13, 3.38, 3.59, 3.68, 3.54),
        "Bicep_Femoris_Short": (2.13, 2.47, 2.92, 3.43, 3.89, 4.16),
        "Semimembranosus": (3.18, 3.69, 4.25, 4.57, 4.60, 4.33),
        "Semitendinosus": (3.80, 4.37, 4.95, 5.42, 5.54, 5.30),
        "Gracilis": (2.21, 3.01, 3.59, 4.15, 4.57, 4.71),
        "Sartorius": (1.11, 1.99, 2.68, 3.22, 3.64, 3.97),
        "Gastrocnemius_Lateral_Head": (2.31, 2.20, 2.36, 2.55, 2.68, 2.66),
        "Gastrocnemius_Medial_Head": (1.76, 1.92, 2.18, 2.60, 2.91, 3.08),
        "Rectus_Femoris": (-4.73, -4.74, -4.59, -4.22, -3.92, -3.17),
        "Vastus_Intermedius": (-4.59, -4.39, -4.12, -3.75, -3.50, -2.84),
        "Vastus_Lateralis": (-4.03, -4.52, -4.29, -3.74, -3.34, -2.54),
        "Vastus_Medialis": (-4.41, -4.35, -4.01, -3.56, -3.27, -2.59),
    },
    "Femur": {
        "Bicep_Femoris_Longus": (-2.99, -4.01, -4.85, -5.50, -5.95, -6.19, -6.23),
        "Semimembranosus": (-2.65, -3.54, -4.29, -4.87, -5.27, -5.48, -5.53),
        "Semitendinosus": (-2.61, -3.79, -4.80, -5.60, -6.18, -6.53, -6.67),
        "Rectus_Femoris": (2.06, 2.76, 3.40, 3.96, 4.43, 4.79, 5.02),
        "iliacus": (3.41, 3.42, 3.46, 3.54, 3.64, 3.75, 3.88),
        "Psoas_Major": (2.42, 2.38, 2.41, 2.50, 2.62, 2.76, 2.99),
    },
    "Talus": {
        "Gastrocnemius_Lateral_Head": (-4.43, -4.46, -4.36, -4.26, -4.13, -3.98, -3.80),
        "Gastrocnemius_Medial_Head": (-4.30, -4.36, -4.29, -4.21, -4.10, -3.97, -3.80),
        "Soleus": (-4.42, -4.34, -4.14, -3.99, -3.83, -3.64, -3.42),
        "Tibialis_Anterior": (3.80, 4.06, 4.26, 4.33, 4.38, 4.41, 4.40),
        "Extensor_Hallucis_Longus": (3.52, 3.72, 3.88, 3.94, 3.99, 4.02, 4.02),
    },
}
# of the psoas, whose path about the brim of the pelvis the source leads otherwise, and of all others [cm]
BOUNDS = {"Psoas_Major": 2.2}
BOUND = 2.1


def postures(joint: str) -> list[tuple[float, float, float]]:
    if joint == "Tibia":
        return [(0, knee, 0) for knee in KNEE]
    return [(hip, 10, 0) for hip in HIP] if joint == "Femur" else [(0, 10, ankle) for ankle in ANKLE]


@pytest.fixture(scope="module")
def legs() -> mujoco.MjModel:
    return models.load_task("walk_mtu").asset


@pytest.mark.parametrize("joint", PUBLISHED)
def test_muscles_turn_the_joints_as_much_as_a_persons(legs, joint):
    """The mean over a muscle's units, by their peak forces; in the source the hamstrings straighten a bent knee."""
    names = [legs.actuator(u).name for u in range(legs.nu)]
    for muscle, published in PUBLISHED[joint].items():
        for side in "RL":
            units = [name for name in names if name.rstrip("0123456789") == f"{side}_{muscle}"]
            force = [legs.actuator(name).gainprm[2] for name in units]
            arms = [[100 * arm(legs, unit, joint, at) for unit in units] for at in postures(joint)]
            found = np.average(arms, axis=1, weights=force)
            assert (np.sign(found) == np.sign(published)).all(), muscle
            np.testing.assert_allclose(found, published, atol=BOUNDS.get(muscle, BOUND), err_msg=muscle)


def test_no_muscle_behind_the_knee_straightens_it(legs):
    """Each unit, up to where a swinging leg bends."""
    behind = ("Semi", "Bicep", "Gracilis", "Gastrocnemius", "Plantaris", "Popliteus")
    names = [name for u in range(legs.nu) if (name := legs.actuator(u).name)[2:].startswith(behind)]
    assert len(names) == 2 * 11
    for knee in range(0, 91, 15):
        assert all(arm(legs, name, "Tibia", (0, knee, 0)) > 0 for name in names)
    source = models.load_task("walk_mtu", SOURCE).asset
    assert sum(arm(source, name, "Tibia", (0, 75, 0)) > 0 for name in names) == 4


# Of Rajagopal et al. 2016: peak force [N], optimal fibre length [m], pennation [rad].
MUSCLES = {
    "Soleus": (6195, 0.044, 0.381),
    "Vastus_Lateralis": (5149, 0.0994, 0.253),
    "Semimembranosus": (2201, 0.069, 0.255),
}
# Of twelve people, by magnetic resonance imaging: volumes [cm^3] (Fukunaga et al. 1992, J Orthop Res 10).
VOLUMES = {"Soleus": 489, "Gastrocnemius_Medial": 245, "Gastrocnemius_Lateral": 140}


def test_muscles_are_as_long_and_strong_as_measured_in_people():
    task = models.load_task("walk_mtu", {"reference": None})
    model = task.simulator(1).model
    source = models.load_task("walk_mtu", {**SOURCE, "mended": True}).asset
    # lighter than the man who was measured
    light = 61.402 / 75.337
    for side in "RL":
        for name, (force, optimal, pennation) in MUSCLES.items():
            units = [u for u, unit in enumerate(model.names["actuator"]) if unit.startswith(f"{side}_{name}")]
            assert model.muscle_force[units].sum() == pytest.approx(light * force, rel=1e-4)
            assert model.muscle_optimal_length[units] == pytest.approx(optimal)
            pennations = [task.asset.numeric(f"muscle_pennation:{model.names['actuator'][u]}").data[0] for u in units]
            assert pennations == pytest.approx([pennation] * len(units))
        for name, volume in VOLUMES.items():
            units = [u for u, unit in enumerate(model.names["actuator"]) if unit.startswith(f"{side}_{name}")]
            found = (model.muscle_force * model.muscle_optimal_length)[units].sum() / 0.6e6 / light
            assert found == pytest.approx(1e-6 * volume, rel=0.12)
            # the source's fibres are more than seven times as long
            first = source.actuator(model.names["actuator"][units[0]])
            assert np.diff(first.lengthrange)[0] > 7 * model.muscle_optimal_length[units[0]]
    # the Achilles tendon gives way by as much as the published, others too; those shorter than their fibres do not
    strain = dict(zip(model.names["actuator"], model.muscle_tendon_strain * model.muscle_slack_length, strict=True))
    assert strain["R_Soleus1"] == pytest.approx(0.10 * 0.277) and strain["L_Semimembranosus"] == pytest.approx(
        0.049 * 0.348
    )
    assert strain["R_Gluteus_Maximus"] == strain["R_Popliteus"] == 0
    # at work fibres are as long as those of the model that the sizes are from: of optimal lengths, by OpenSim 4.6
    m = task.asset
    for unit, low, high in (
        ("R_Soleus", 0.70, 1.28),
        ("L_Vastus_Lateralis", 0.76, 1.29),
        ("R_Semitendinosus", 0.69, 1.29),
    ):
        row, found = m.tendon(unit).id, []
        for angles in itertools.product(np.radians((-20, 0, 40)), np.radians((0, 35, 70)), np.radians((-20, 0, 15))):
            d = mujoco.MjData(m)
            bend(d, unit[0], *angles)
            mujoco.mj_kinematics(m, d)
            mujoco.mj_tendon(m, d)
            u = m.actuator(unit).id
            found.append((d.ten_length[row] - model.muscle_slack_length[u]) / model.muscle_optimal_length[u])
        assert (min(found), max(found)) == pytest.approx((low, high), abs=0.08)
    with pytest.raises(UserError, match="elastic asks for anatomy"):
        models.load_task("walk_mtu", {"anatomy": False})


def test_relaxed_legs_resist_as_peoples_do():
    """As ten people's did (Riener and Edrich 1999, J Biomech 32): ankle and extended hip within 5 N m, knees straight
    and bent, and the knee within 3 N m, at the hip's flexions of a walk; there plantarflexion is positive."""
    bent = ((0, -20), (0, -10), (0, 0), (0, 10), (0, 15), (30, 5), (60, 0), (60, 10))
    ankles = [(0, knee, ankle) for knee, ankle in bent]
    knees = [(hip, knee, 0) for hip in (-15, 0, 27) for knee in (10, 30, 45, 60)]
    hips = [(hip, knee, 0) for hip in (-20, -15, -10, -5, 0) for knee in (0, 30, 60)]
    expected = [
        math.exp(2.1016 + 0.0843 * ankle - 0.0176 * knee) - math.exp(-7.9763 - 0.1949 * ankle + 0.0008 * knee) - 1.792
        for _, knee, ankle in ankles
    ]
    for hip, knee, _ in knees:
        behind = math.exp(1.8 - 0.0352 * knee + 0.0217 * hip) + math.exp(2.22 - 0.15 * knee)
        expected.append(behind - math.exp(-3.971 + 0.0495 * knee - 0.0128 * hip) - 4.82)
    for hip, knee, _ in hips:
        # extension is positive here, there flexion
        front = math.exp(1.4655 - 0.0034 * knee - 0.075 * hip)
        expected.append(math.exp(1.3403 - 0.0226 * knee + 0.0305 * hip) - front - 8.072)
    postures = [*ankles, *knees, *hips]
    task = models.load_task("walk_mtu", {"reference": None, "elastic": False})
    sim, data = task.simulator(len(postures)), mujoco.MjData(task.asset)
    rest = sim.initial_state()
    for side in "RL":
        qpos = rest.qpos.clone()
        for row, angles in enumerate(postures):
            mujoco.mj_resetData(task.asset, data)
            bend(data, side, *np.radians(angles))
            qpos[row] = torch.tensor(data.qpos)
        state = rest._replace(qpos=qpos, act=torch.zeros_like(rest.act))
        result = sim.forward(state, torch.zeros_like(rest.act))
        # of muscles, ligaments and springs; about the axis to the left
        moments = result.qfrc_actuator + result.qfrc_passive
        ankle, knee, hip = (int(task.asset.joint(name + side).dofadr[0]) for name in ("Talus", "Tibia", "Femur"))
        first, second = len(ankles), len(ankles) + len(knees)
        np.testing.assert_allclose(moments[:first, ankle + 1].numpy(), expected[:first], atol=5)
        np.testing.assert_allclose(moments[first:second, knee].numpy(), expected[first:second], atol=3)
        np.testing.assert_allclose(moments[second:, hip + 1].numpy(), expected[second:], atol=5)
