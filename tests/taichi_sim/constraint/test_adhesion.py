"""Actuators on bodies: what they stick to, how hard, and how that changes, are MuJoCo's; gradients; refusals."""

import mujoco
import numpy as np
import pytest
import torch
from batch import explicit, mujoco_data, strayed
from differences import assert_gradient, rollout, weighted

import taichi_sim as ts

# A gripper of three balls and a rod sticks to the floor, to a ball that lies about, and beyond its gap to nothing.
GRIPPER = """<mujoco><option timestep="0.002" cone="{}" iterations="200" tolerance="0" ls_iterations="200"
  ls_tolerance="1e-10"/>
<default><joint armature=".01"/><geom density="700" friction=".6 .02 .01" condim="{}"/></default>
<worldbody><geom type="plane" size="2 2 1" gap=".004"/>
<body name="hand" pos="0 0 .12"><freejoint/><geom size=".06" margin=".003"/><geom size=".05" pos=".15 0 0" gap=".02"/>
  <body name="finger" pos="0 .1 0"><joint name="knuckle" axis="1 0 0"/>
    <geom type="capsule" size=".04" fromto="0 0 0 .05 .15 0" gap=".01"/>
    <body pos=".05 .2 0"><joint axis="0 0 1"/><geom size=".05"/></body></body></body>
<body pos=".08 .1 .06"><freejoint/><geom size=".06"/></body>
</worldbody>
<actuator><adhesion body="hand" ctrlrange="0 1" gain="9"/><motor joint="knuckle" gear=".5"/>
  <general body="finger" dyntype="filter" dynprm=".03" gainprm="6" biastype="affine" biasprm=".8" forcerange="0 5"
    forcelimited="true"/></actuator></mujoco>"""
WORLDS = 16


@pytest.fixture(scope="module", params=[("pyramidal", 3), ("elliptic", 4)])
def body(request) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(GRIPPER.format(*request.param))


@pytest.fixture(scope="module")
def sim(body) -> ts.Simulator:
    return explicit(body, WORLDS)


@pytest.fixture(scope="module")
def batch(body) -> tuple[ts.State, torch.Tensor]:
    """Worlds in which something touches, or nearly."""
    rng, data, found = np.random.default_rng(1), mujoco.MjData(body), []
    while len(found) < WORLDS:
        mujoco.mj_resetData(body, data)
        data.qvel[:] = 0.7 * rng.normal(size=body.nv)
        data.ctrl[:], data.act[:] = rng.uniform(0.1, 0.9, body.nu), rng.uniform(0.1, 0.9)
        mujoco.mj_step(body, data, int(rng.integers(20, 150)))
        if data.ncon > 1:
            found.append([x.copy() for x in (data.qpos, data.qvel, data.act, data.ctrl)])
    *state, ctrl = (torch.tensor(np.array(x)) for x in zip(*found, strict=True))
    return ts.State(*state), ctrl


def test_forces_are_mujocos(body, sim, batch):
    state, ctrl = batch
    ours, apart, moved = sim.forward(state, ctrl), 0, 0
    for world in range(WORLDS):
        data = mujoco_data(body, state, ctrl, world)
        apart += sum(contact.exclude for contact in data.contact)
        moved += np.abs(data.qfrc_actuator[-6:]).max() > 0.1
        for name in ("actuator_length", "actuator_velocity", "actuator_force", "qfrc_actuator", "qacc"):
            theirs = getattr(data, name)
            error = np.abs(getattr(ours, name)[world].numpy() - theirs).max()
            assert error < 1e-10 * (1 + np.abs(theirs).max()), (world, name)
    # some contacts are within their gaps alone, and the ball that lies about is held
    assert apart > 2 and moved > 2


def test_motion_is_mujocos(body, sim, batch):
    errors = strayed(body, sim, *batch, 10)
    assert np.median(errors) < 1e-10, errors


def test_gradients_are_those_of_the_step(sim, batch):
    state, ctrl = batch

    def end(qpos, qvel, act, ctrl):
        return weighted(rollout(sim, qpos, qvel, ctrl, 2, act=act), 1)

    arguments = {"qpos": state.qpos, "qvel": state.qvel, "act": state.act, "ctrl": ctrl}
    assert_gradient(end, arguments, {"qpos": 2e-7, "qvel": 1e-5, "act": 1e-4, "ctrl": 1e-4})


def test_the_penalty_has_no_adhesion():
    model = ts.load(mujoco.MjModel.from_xml_string(GRIPPER.format("pyramidal", 3)))
    model.opt.constraint = "penalty"
    with pytest.raises(ValueError, match="adhesion.*MuJoCo's law alone"):
        ts.Simulator(model, 1)
