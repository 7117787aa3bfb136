"""Actuators on sites: forces, moments, velocities and motion are MuJoCo's, gradients those of the step; refusals."""

import mujoco
import numpy as np
import pytest
import torch
from batch import around, mujoco_data
from differences import assert_gradient, rollout, weighted

import taichi_sim as ts

# A drone of four rotors, one of them tilted and on an arm that turns; beside it a motor on a joint and a tendon.
DRONE = """<mujoco><compiler angle="radian"/><option timestep="0.002" density="1.2"/>
<worldbody><body name="frame" pos="0 0 1" euler=".3 -.2 .5"><freejoint/>
  <geom type="box" size=".2 .2 .03" mass="1" pos=".02 0 0"/>
  <site name="one" pos=".2 .2 .01"/><site name="two" pos="-.2 .2 .01" euler=".2 .1 0"/>
  <site name="three" pos="0 -.2 0"/>
  <body pos="-.1 -.2 0" euler="0 .4 .1"><joint name="arm" axis="1 0 .3" damping=".01"/>
    <geom type="capsule" fromto="0 0 0 .1 -.2 0" size=".02" mass=".2"/><site name="four" pos=".1 -.2 0" euler="1 .3 0"/>
    <body pos=".1 -.2 0"><joint name="tip" type="ball"/><geom size=".05" mass=".1" pos="0 0 .1"/>
      <site name="end" pos=".05 0 .1"/></body></body></body></worldbody>
<tendon><spatial name="string"><site site="three"/><site site="end"/></spatial></tendon>
<actuator><motor site="one" gear="0 0 2 0 0 .1" ctrlrange="0 1" ctrllimited="true"/>
  <motor joint="arm" gear=".3"/>
  <general site="two" gear="0 .5 3 0 .2 -.1" dyntype="filter" dynprm=".05" gainprm="1.5" biastype="affine"
    biasprm=".3"/>
  <motor site="four" gear="1 -.4 2 .3 .2 -.1" forcerange="-.6 .6" forcelimited="true"/>
  <motor tendon="string" gear="2"/></actuator></mujoco>"""
WORLDS = 8


@pytest.fixture(scope="module")
def body() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(DRONE)


@pytest.fixture(scope="module")
def sim(body) -> ts.Simulator:
    return ts.Simulator(ts.load(body), WORLDS)


@pytest.fixture(scope="module")
def batch(body) -> tuple[ts.State, torch.Tensor]:
    return around(body, WORLDS, 0.3, seed=2)


def test_forces_and_velocities_are_mujocos(body, sim, batch):
    state, ctrl = batch
    ours = sim.forward(state, ctrl)
    for world in range(WORLDS):
        data = mujoco_data(body, state, ctrl, world)
        for name in ("actuator_length", "actuator_velocity", "actuator_force", "qfrc_actuator", "qacc"):
            theirs = getattr(data, name)
            np.testing.assert_allclose(getattr(ours, name)[world], theirs, atol=1e-10 * (1 + np.abs(theirs).max()))
    # of the clamped one both sides are seen
    clamped = ours.actuator_force[:, 3].abs() == 0.6
    assert clamped.any() and not clamped.all()


def test_gradients_are_those_of_the_step(sim, batch):
    state, ctrl = batch

    def end(qpos, qvel, act, ctrl):
        return weighted(rollout(sim, qpos, qvel, ctrl, 2, act=act), 1)

    inputs = {"qpos": state.qpos, "qvel": state.qvel, "act": state.act, "ctrl": ctrl}
    # in activations the motion is all but linear
    assert_gradient(end, inputs, {"qpos": 1e-6, "qvel": 1e-6, "act": 1e-3})


def test_a_drone_that_hovers_stays_where_it_is():
    """In closed form: with the thrust of its weight it hangs still, with twice that it rises with g."""
    text = """<mujoco><worldbody><body><freejoint/><geom size=".1" mass="2"/><site name="rotor"/></body></worldbody>
    <actuator><motor site="rotor" gear="0 0 1 0 0 0"/></actuator></mujoco>"""
    sim = ts.Simulator(ts.load(mujoco.MjSpec.from_string(text)), 2)
    qacc = sim.forward(sim.initial_state(), torch.tensor([[2 * 9.81], [4 * 9.81]], dtype=torch.float64)).qacc
    np.testing.assert_allclose(qacc[:, 2], [0, 9.81], atol=1e-12)


def test_a_saved_model_keeps_its_sites(body, batch, sim, tmp_path):
    state, ctrl = batch
    ts.save(ts.load(body), tmp_path / "drone.npz")
    again = ts.Simulator(ts.load(tmp_path / "drone.npz"), WORLDS).forward(state, ctrl)
    assert torch.equal(again.qacc, sim.forward(state, ctrl).qacc)


@pytest.mark.parametrize(
    ("actuator", "what"),
    [
        ('<motor name="x" site="one" refsite="two"/>', "refsite is not supported"),
        ('<velocity name="x" site="one" kv="2"/>', "a force by a site's or a body's motion is not supported"),
    ],
)
def test_what_is_not_simulated_is_refused(actuator, what):
    text = DRONE.replace("<actuator>", f"<actuator>{actuator}")
    with pytest.raises(ts.UnsupportedModelError, match=f"actuator 'x'.*{what}"):
        ts.load(mujoco.MjSpec.from_string(text))
