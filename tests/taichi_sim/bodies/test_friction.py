"""Dry friction of joints and tendons: holds and slides as MuJoCo's, gradients in every regime."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch
import trees
from differences import assert_gradient, rollout, weighted

import taichi_sim as ts

LOSS = 1.3
# A motor on a hinge, and one on a fixed tendon between two others.
ARM = """<mujoco><option timestep="{timestep}" gravity="0 0 0" integrator="implicitfast" tolerance="0"/>
  <default><geom type="capsule" fromto="0 0 0 .5 0 0" size=".04" mass="2"/>
    <joint axis="0 1 0" armature=".02"/></default>
  <worldbody>
    <body><joint name="elbow" frictionloss="1.3"/><geom/></body>
    <body pos="0 1 0"><joint name="one"/><geom/></body><body pos="0 2 0"><joint name="two"/><geom/></body>
  </worldbody>
  <tendon><fixed name="cord" frictionloss="1.3"><joint joint="one" coef="1"/><joint joint="two" coef="-.7"/></fixed>
  </tendon>
  <actuator><motor joint="elbow"/><motor tendon="cord"/></actuator></mujoco>"""


def loaded(mj_model, law):
    model = ts.load(mj_model)
    model.opt.constraint = law
    return model


def moved(law, timestep, load, speed, duration):
    """(joint, tendon) positions and velocities of MuJoCo's and ours, (2, 2) each, under `load` times the friction.

    The joint's friction is by `law`, the tendon's is the penalty by either.
    """
    mj_model = mujoco.MjModel.from_xml_string(ARM.format(timestep=timestep))
    data = mujoco.MjData(mj_model)
    sim = ts.Simulator(loaded(mj_model, law), 1)
    # along the tendon's own direction, so that nothing else moves it
    start = speed * np.array([1.0, *np.array([1.0, -0.7]) / 1.49])
    data.qvel[:], data.ctrl[:] = start, load * LOSS
    state = sim.initial_state()._replace(qvel=torch.tensor(start)[None])
    ctrl = torch.full((1, 2), load * LOSS, dtype=torch.float64)
    for _ in range(round(duration / timestep)):
        mujoco.mj_step(mj_model, data)
        state = sim.step(state, ctrl)
    along = np.array([[1.0, 0, 0], [0, 1.0, -0.7]])
    theirs, ours = along @ np.array([data.qpos, data.qvel]).T, along @ torch.cat([state.qpos, state.qvel]).numpy().T
    if law == "mujoco":
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-9, atol=1e-11)
    return theirs, ours


LAWS = pytest.mark.parametrize("law", ["penalty", "mujoco"])


@LAWS
@pytest.mark.parametrize("timestep", [0.001, 0.005])
@pytest.mark.parametrize("load", [0.5, -0.9])
def test_a_load_creeps_as_in_mujoco(law, timestep, load):
    theirs, ours = moved(law, timestep, load, 0.0, 1.0)
    # MuJoCo takes longer to begin, and creeps at the same speed from then on
    np.testing.assert_allclose(ours[:, 1], theirs[:, 1], rtol=1e-5)
    np.testing.assert_allclose(ours[:, 0], theirs[:, 0], rtol=0.02)
    assert (np.abs(theirs[:, 0]) > 1e-3).all() and (np.abs(theirs[:, 0]) < 0.02).all()


@LAWS
@pytest.mark.parametrize("timestep", [0.001, 0.005])
@pytest.mark.parametrize("load", [0.0, 0.5, -0.5])
def test_what_slides_is_slowed_as_in_mujoco(law, timestep, load):
    theirs, ours = moved(law, timestep, load, 9.0, 0.3)
    assert (theirs[:, 1] > 1).all() and (theirs[:, 1] < 8.7).all()
    np.testing.assert_allclose(ours[:, 1] - 9, theirs[:, 1] - 9, rtol=1e-4)


@LAWS
def test_a_load_beyond_friction_sets_a_joint_in_motion(law):
    theirs, ours = moved(law, 0.002, 1.5, 0.0, 1.0)
    np.testing.assert_allclose(ours[:, 1], theirs[:, 1], rtol=0.01)


def test_force_of_sliding_is_that_of_mujoco():
    mj_model = forest()
    rng = np.random.default_rng(3)
    sim = ts.Simulator(loaded(mj_model, "penalty"), 4)
    states = [trees.random_state(mj_model, rng) for _ in range(4)]
    qpos, qvel = (torch.tensor(np.array(x)) for x in zip(*states, strict=True))
    found, sliding = sim.forward(ts.State(qpos, 3 * qvel, qpos.new_zeros(4, 0))), 0
    for world in range(4):
        data = mujoco.MjData(mj_model)
        data.qpos[:], data.qvel[:] = qpos[world].numpy(), 3 * qvel[world].numpy()
        mujoco.mj_forward(mj_model, data)
        theirs, ours = data.qfrc_constraint, found.qfrc_friction[world].numpy()
        np.testing.assert_allclose(found.qfrc_passive[world], data.qfrc_passive, rtol=1e-9, atol=1e-9)
        # MuJoCo's solver takes off what slows or turns the motion within the step anyway; there it says less
        full = np.abs(theirs + mj_model.dof_frictionloss * np.sign(data.qvel)) < 1e-6
        np.testing.assert_allclose(ours[full], theirs[full], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(ours, -mj_model.dof_frictionloss * np.sign(data.qvel), rtol=1e-9, atol=1e-9)
        sliding += full.sum()
    assert sliding > 0.6 * 4 * mj_model.nv


def forest(**keywords):
    """A random forest, dry friction on all but some dofs."""
    text = trees.random_tree(np.random.default_rng(11), num_bodies=12, num_actuators=8, limits=False, **keywords)
    mj_model = mujoco.MjModel.from_xml_string(text)
    loss = np.random.default_rng(1).uniform(0.5, 2, mj_model.nv)
    loss[::5] = 0
    mj_model.dof_frictionloss[:] = loss
    return mj_model


@pytest.fixture(scope="module", params=["penalty", "mujoco"])
def world(request):
    """A forest with dry friction in 8 states, from such that stick to such that slide fast."""
    model = loaded(forest(), request.param)
    model.opt.timestep = 0.004
    sim = ts.Simulator(model, 8, parameters=("dof_frictionloss",))
    rng = np.random.default_rng(0)
    states = [trees.random_state(model, rng) for _ in range(8)]
    qpos, qvel = (torch.tensor(np.array(x)) for x in zip(*states, strict=True))
    qvel = qvel * torch.tensor(np.geomspace(1e-4, 10, 8))[:, None]
    return sim, qpos, qvel, torch.tensor(rng.normal(size=(8, model.nu)))


def test_gradients_in_every_regime(world):
    sim, qpos, qvel, ctrl = world
    sim.model.opt.substeps = 2
    model, speed = sim.model, qvel.abs().numpy()
    loss = model.dof_frictionloss
    stick = loss / model.dof_friction_kf
    slow = np.maximum(stick, 2 * 0.6 * 0.004 * loss / model.dof_friction_mass)
    rough = loss > 0
    regimes = speed < stick, (speed > stick) & (speed < slow), speed > slow
    if model.opt.constraint == "mujoco":
        held = np.abs(sim.forward(ts.State(qpos, qvel, qpos.new_zeros(8, 0)), ctrl).qfrc_friction.numpy()) < loss
        regimes = held, ~held
    for regime in regimes:
        assert (regime & rough).sum() > 8
    # what a fraction of a step could move across a kink is told by differences alone
    steps = {"qpos": 1e-7, "qvel": 1e-7, "ctrl": 1e-5}
    assert_gradient(
        lambda qpos, qvel, ctrl: weighted(rollout(sim, qpos, qvel, ctrl, 1), 1),
        {"qpos": qpos, "qvel": qvel, "ctrl": ctrl},
        steps,
    )
    fitted = torch.tensor(loss).repeat(8, 1) + 0.01
    assert_gradient(
        lambda loss: weighted(rollout(sim, qpos, qvel, ctrl, 1, {"dof_frictionloss": loss}), 2),
        {"loss": fitted},
        {"loss": 1e-6},
    )


# Friction along a tendon over two bodies, on a rolled-up joint pair and on a joint that an equality determines.
STRUNG = """<mujoco><compiler angle="radian"/><option timestep="0.004"><flag contact="disable"/></option>
  <default><geom size=".1" mass="1"/></default>
  <worldbody><site name="anchor" pos="0 .3 .2"/>
    <body><joint name="a" type="ball"/><geom pos=".3 0 0"/><site name="mid" pos=".3 .1 0"/>
      <body pos=".6 0 0"><joint name="b" axis="0 1 .3" frictionloss=".2"/><geom pos=".3 0 0"/>
        <site name="end" pos=".2 0 .1"/>
        <body pos=".6 0 0"><joint name="c" axis="0 1 0" frictionloss=".3"/><geom pos=".2 0 0"/></body></body></body>
  </worldbody>
  <tendon><spatial name="path" frictionloss="2" damping=".3" stiffness="4"><site site="anchor"/><site site="mid"/>
    <site site="end"/></spatial>
    <fixed name="mix" frictionloss=".5"><joint joint="b" coef=".5"/><joint joint="c" coef="1"/></fixed></tendon>
  <equality><joint joint1="c" joint2="b" polycoef=".1 .5 .2 0 0"/></equality>
  <actuator><motor tendon="path"/><position joint="b" kp="3" kv=".2"/></actuator></mujoco>"""


@pytest.mark.parametrize("equality", [True, False])
def test_gradients_of_tendons_and_with_equalities(equality):
    text = STRUNG if equality else STRUNG.replace("<joint joint1", '<joint active="false" joint1')
    sim = ts.Simulator(ts.load(mujoco.MjModel.from_xml_string(text)), 8)
    sim.model.opt.substeps = 2
    rng = np.random.default_rng(2)
    states = [trees.random_state(sim.model, rng) for _ in range(8)]
    qpos, qvel = (torch.tensor(np.array(x)) for x in zip(*states, strict=True))
    qvel = qvel * torch.tensor(np.geomspace(1e-4, 10, 8))[:, None]
    ctrl = torch.tensor(rng.normal(size=(8, 2)))
    assert_gradient(
        lambda qpos, qvel, ctrl: weighted(rollout(sim, qpos, qvel, ctrl, 2), 1),
        {"qpos": qpos, "qvel": qvel, "ctrl": ctrl},
        {"qpos": 1e-7, "qvel": 1e-7, "ctrl": 1e-5},
    )


def test_coefficients_follow_the_solver_parameters():
    """kf = b d / (1 - d) times the inertia, as MuJoCo's own row of the constraint has it: force = -D (a + b v)."""
    joint = '<joint axis="0 1 0" frictionloss="1" {}/><geom pos="1 0 0" size=".1"/>'
    bodies = "".join(
        f"<body>{joint.format(x)}</body>"
        for x in (
            "",
            'solreffriction=".05 1"',
            'solimpfriction=".5 .99 .01"',
            'solimpfriction=".7 .9 0"',
            'solreffriction="-9 -7"',
        )
    )
    mj_model = mujoco.MjModel.from_xml_string(
        f'<mujoco><option gravity="0 0 0"><flag contact="disable"/></option><worldbody>{bodies}</worldbody></mujoco>'
    )
    data = mujoco.MjData(mj_model)
    data.qvel[:] = 1e-6
    mujoco.mj_forward(mj_model, data)
    model = ts.load(mj_model)
    np.testing.assert_allclose(model.dof_friction_kf * data.qvel, -data.efc_D * data.efc_aref, rtol=1e-9)
    np.testing.assert_allclose(model.dof_friction_mass, 1 / mj_model.dof_invweight0, rtol=1e-12)


def test_what_is_disabled_or_negative():
    text = ARM.format(timestep=0.002)
    off = ts.load(mujoco.MjModel.from_xml_string(text.replace("/>", '><flag frictionloss="disable"/></option>', 1)))
    sim = ts.Simulator(off, 1)
    state = sim.initial_state()._replace(qvel=torch.ones(1, 3, dtype=torch.float64))
    assert not sim.forward(state).qfrc_friction.any()
    assert torch.allclose(sim.step(state, torch.zeros(1, 2, dtype=torch.float64)).qvel, state.qvel)
    with pytest.raises(ts.UnsupportedModelError, match="joint 'elbow'.*frictionloss is -1"):
        ts.load(mujoco.MjModel.from_xml_string(text.replace('frictionloss="1.3"/><geom', 'frictionloss="-1"/><geom')))
    fitting = ts.Simulator(ts.load(mujoco.MjModel.from_xml_string(text)), 1, parameters=("dof_frictionloss",))
    with pytest.raises(ValueError, match=r"dof_frictionloss\[0\] is -1"):
        fitting.step(
            state, torch.zeros(1, 2, dtype=torch.float64), {"dof_frictionloss": -torch.ones(3, dtype=torch.float64)}
        )
