"""Angles on posed bodies; moments and powers beside MuJoCo's inverse dynamics."""

from importlib.resources import files

import mujoco
import numpy as np
import pytest
import torch

import taichi_sim as ts
from shac.errors import UserError
from shac.gait import angles, kinetics, legs, normal

BODIES = ("humanoid", "humanoid_mtu")
# Joints that bend a leg in its plane, and the sign with which they do: hip flexion, knee flexion, dorsiflexion.
HINGES = {"right": ("right_hip_y", "right_knee", "right_ankle_y"), "left": ("left_hip_y", "left_knee", "left_ankle_y")}
BALLS = {"right": ("FemurR", "TibiaR", "TalusR"), "left": ("FemurL", "TibiaL", "TalusL")}


def mujoco_model(name: str) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_path(str(files("taichi_sim.assets") / f"{name}.xml"))


def sagittal(name: str, data: mujoco.MjData) -> np.ndarray:
    """Angles (2, 3) of the pose in `data`."""
    model = ts.load(name)
    turned = angles.anatomical(model, legs.find(model), torch.tensor(data.xquat)[None])
    return angles.sagittal(turned)[0].numpy()


def set_joint(m, data, name, axis, degrees):
    """Turns a hinge, or a ball about an axis, to the left for the hinges' own."""
    joint = m.joint(name)
    if m.jnt_type[joint.id] == mujoco.mjtJoint.mjJNT_HINGE:
        data.qpos[joint.qposadr[0]] = np.deg2rad(degrees) * np.sign(m.jnt_axis[joint.id] @ axis)
    else:
        quat = np.zeros(4)
        mujoco.mju_axisAngle2Quat(quat, axis / np.linalg.norm(axis), np.deg2rad(degrees))
        data.qpos[joint.qposadr[0] : joint.qposadr[0] + 4] = quat


@pytest.mark.parametrize("name", BODIES)
def test_angles_are_those_of_the_pose_however_the_body_stands(name):
    m = mujoco_model(name)
    data = mujoco.MjData(m)
    mujoco.mj_kinematics(m, data)
    np.testing.assert_allclose(sagittal(name, data), 0, atol=1e-9)
    bent = {"right": (30.0, 50.0, 12.0), "left": (-15.0, 5.0, -25.0)}
    names = HINGES if name == "humanoid" else BALLS
    for side in bent:
        # about the axis to the left the thigh goes backward, the shank too, and the toes down
        for joint, sign, angle in zip(names[side], (-1, 1, -1), bent[side]):
            set_joint(m, data, joint, (0, 1, 0), sign * angle)
    data.qpos[:7] = 3, -2, 1, *np.array([0.3, -0.5, 0.7, 0.4]) / np.linalg.norm([0.3, -0.5, 0.7, 0.4])
    mujoco.mj_kinematics(m, data)
    np.testing.assert_allclose(sagittal(name, data), [bent["right"], bent["left"]], atol=1e-6)


def test_abduction_is_not_flexion_and_flexion_is_seen_from_the_pelvis():
    m = mujoco_model("humanoid_mtu")
    data = mujoco.MjData(m)
    set_joint(m, data, "FemurR", (1, 0, 0), -25)
    # a thigh that is turned about an axis between leftward and forward, by a: its end is at (sin a / sqrt 2, ., -cos a)
    set_joint(m, data, "FemurL", (1, -1, 0), 40)
    mujoco.mj_kinematics(m, data)
    a = np.deg2rad(40)
    expected = np.rad2deg(np.arctan2(np.sin(a) / np.sqrt(2), np.cos(a)))
    np.testing.assert_allclose(sagittal("humanoid_mtu", data)[:, 0], [0, expected], atol=1e-6)


@pytest.mark.parametrize("name", BODIES)
def test_moments_and_powers_are_those_of_inverse_dynamics(name):
    """From MuJoCo's inertia and Coriolis forces, our accelerations and our forces of the ground."""
    m, model = mujoco_model(name), ts.load(name)
    m.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONSTRAINT | mujoco.mjtDisableBit.mjDSBL_SPRING
    m.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_DAMPER
    sim, found = ts.Simulator(model, 4), legs.find(model)
    rng, rest = np.random.default_rng(0), sim.initial_state()
    qpos, qvel = rest.qpos.numpy().copy(), rng.normal(size=(4, model.nv))
    for row in qpos:
        mujoco.mj_integratePos(m, row, rng.normal(size=model.nv) * 0.3, 1.0)
    qpos[:, 2] -= 0.1
    state = ts.State(torch.tensor(qpos), torch.tensor(qvel), torch.rand(4, model.na, dtype=torch.float64))
    data = sim.forward(state, torch.rand(4, model.nu, dtype=torch.float64))
    turned = angles.anatomical(model, found, data.xquat)
    moments = kinetics.moments(model, found, state, data, turned).numpy()
    powers = kinetics.powers(found, state, data).numpy()
    reactions = kinetics.reactions(found, data).numpy()
    chains = {side: [found.pelvis, *found.segments[k]] for k, side in enumerate(("right", "left"))}
    assert (reactions[..., 2].max(0) > 1).all()
    for world in range(4):
        d = mujoco.MjData(m)
        d.qpos[:], d.qvel[:], d.qacc[:] = qpos[world], qvel[world], data.qacc[world].numpy()
        mujoco.mj_inverse(m, d)
        qfrc = d.qfrc_inverse.copy()
        for body in range(1, m.nbody):
            away, force = np.zeros(m.nv), data.xfrc_contact[world, body].numpy()
            mujoco.mj_applyFT(m, d, force[:3], force[3:], d.xipos[body], body, away)
            qfrc -= away
        if name == "humanoid_mtu":
            # only its feet touch the ground
            total = reactions[world].sum(0)
            np.testing.assert_allclose(total, data.qfrc_contact[world, :3], atol=1e-8 * max(1, abs(total).max()))
        for side, label in enumerate(chains):
            for k, sign in enumerate((1, -1, 1)):
                above, below = chains[label][k], chains[label][k + 1]
                axes, forces = world_axes(m, d, below, qfrc)
                moment = np.linalg.lstsq(axes, forces, rcond=None)[0]
                left = d.xmat[above].reshape(3, 3)[:, 1]
                bound = 1e-8 * max(1, abs(qfrc).max())
                assert moments[world, side, k] == pytest.approx(sign * moment @ left, abs=bound), (label, k)
                velocities = np.zeros((2, 6))
                for row, body in zip(velocities, (above, below)):
                    mujoco.mj_objectVelocity(m, d, mujoco.mjtObj.mjOBJ_XBODY, body, row, 0)
                turning = velocities[1, :3] - velocities[0, :3]
                assert powers[world, side, k] == pytest.approx(moment @ turning, abs=10 * bound), (label, k)


def world_axes(m, d, body, qfrc):
    """Axes of the body's dofs in the world (n, 3), and the generalised forces there."""
    axes, dofs = [], []
    for joint in range(m.body_jntadr[body], m.body_jntadr[body] + m.body_jntnum[body]):
        adr = m.jnt_dofadr[joint]
        if m.jnt_type[joint] == mujoco.mjtJoint.mjJNT_BALL:
            axes += list(d.xmat[body].reshape(3, 3).T)
            dofs += [adr, adr + 1, adr + 2]
        else:
            axes.append(d.xaxis[joint])
            dofs.append(adr)
    return np.array(axes), qfrc[dofs]


def test_feet_have_their_toes_and_muscles_their_groups():
    model = ts.load("humanoid_mtu_full")
    found = legs.find(model)
    bodies, units = model.names["body"], model.names["actuator"]
    assert [bodies[k] for k in found.feet[1]] == ["TalusL", "FootThumbL", "FootPinkyL"]
    assert len(found.groups) == 9 and [len(d) for d in found.dofs[0]] == [3, 1, 3]
    hamstrings = [units[k] for k in found.units[0][found.groups.index("hamstrings")]]
    assert hamstrings == ["R_Bicep_Femoris_Longus", "R_Semimembranosus", "R_Semimembranosus1", "R_Semitendinosus"]
    soleus = [units[k] for k in found.units[1][found.groups.index("soleus")]]
    assert soleus == ["L_Soleus", "L_Soleus1"]


@pytest.mark.parametrize("joint", ["", '<joint type="slide"/>'])
def test_legs_that_do_not_bend_are_refused(joint):
    leg = (
        '<body name="{0}_thigh"><joint/>{1}<body name="{0}_shin"><joint/>{1}<body name="{0}_foot">{2}{1}</body></body>'
        "</body>"
    )
    parts = "".join(leg.format(side, '<geom size=".1"/>', joint) for side in ("right", "left"))
    xml = f'<mujoco><worldbody><body name="pelvis"><freejoint/><geom size=".1"/>{parts}</body></worldbody></mujoco>'
    with pytest.raises(UserError, match="right ankle has no joint that turns"):
        legs.find(ts.load(mujoco.MjModel.from_xml_string(xml.replace("<geom", '<geom contype="0" conaffinity="0"'))))


def test_measured_powers_are_moments_times_speeds():
    """A figure carried over wrongly, or a sign, would show: 0.851 strides a second."""
    table = normal.curves()
    for joint, angle in zip(legs.JOINTS, ("hip_flexion", "knee_flexion", "ankle_dorsiflexion")):
        speed = np.gradient(np.deg2rad(table[angle]), 1 / 0.851 / 50)
        power = -table[f"{joint}_moment"] * speed
        assert np.corrcoef(power, table[f"{joint}_power"])[0, 1] > 0.95


def test_comparison_with_the_measured_courses():
    table = normal.curves()
    knee = np.interp(np.linspace(0, 100, 101), table["percent"], table["knee_flexion"])
    assert normal.compare("knee_flexion", 2 * knee - 3) == pytest.approx((1, np.sqrt(np.mean((knee[::2] - 3) ** 2))))
    assert normal.compare("knee_flexion", -knee)[0] == pytest.approx(-1)
    assert np.isnan(normal.compare("knee_flexion", np.ones(101))[0])
    assert normal.compare("vertical_force", knee) is None
