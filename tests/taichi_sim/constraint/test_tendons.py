"""Limits and dry friction of tendons by MuJoCo's law: accelerations, forces and motion to the last digit, gradients."""

import mujoco
import numpy as np
import pytest
import torch
from batch import driven, explicit, mujoco_data, strayed
from differences import assert_gradient, rollout, weighted

import taichi_sim as ts

# Paths straight, around a cylinder, between two trees, and one of joints, limited and rough; a joint's limit, dry
# friction and contact stand beside them, so that rows of every kind are solved together. One moves nothing.
BODY = """<mujoco><compiler angle="radian" autolimits="true"/>
<option timestep="0.003" iterations="200" tolerance="0" ls_iterations="200" ls_tolerance="1e-10"/>
<default><joint armature="0.01"/><geom contype="0" conaffinity="0" density="700"/></default>
<worldbody><geom type="plane" size="5 5 .1" pos="0 0 -.4" conaffinity="1"/>
  <site name="eye" pos="-.2 .1 .2"/><site name="post" pos="-.2 .5 .2"/>
  <body name="arm"><joint name="pan" axis="0 .2 1" frictionloss=".5"/><joint name="lift" axis="0 1 0" range="-.5 1"/>
    <geom type="capsule" fromto="0 0 0 .3 0 0" size=".04"/><geom name="roll" type="cylinder" size=".05 .1" pos=".3 0 0"
      euler="1.5708 0 0"/>
    <site name="upper" pos=".15 0 .06"/><site name="side" pos=".3 0 .1"/>
    <body pos=".3 0 0"><joint name="elbow" axis="0 1 0"/><geom type="capsule" fromto="0 0 0 .25 0 -.1" size=".03"/>
      <site name="lower" pos=".15 0 .02"/><site name="hand" pos=".25 0 -.1"/></body></body>
  <body name="ball" pos=".5 0 -.3"><freejoint/><geom size=".08" contype="1"/><site name="top" pos="0 0 .08"/></body>
</worldbody>
<tendon>
  <spatial name="rope" range="0 .32" frictionloss="4"><site site="hand"/><site site="top"/></spatial>
  <spatial name="stay" range=".55 .7" margin=".02" solreflimit=".03 1.2" solimplimit=".7 .97 .1 .4 2">
    <site site="eye"/><site site="lower"/></spatial>
  <spatial name="belt" range=".1 .31" solreflimit="-900 -40" frictionloss="20" solreffriction=".03 1">
    <site site="upper"/>
    <geom geom="roll" sidesite="side"/><site site="lower"/></spatial>
  <fixed name="both" range="-.3 .4" frictionloss="2" solimpfriction=".7 .9 0"><joint joint="lift" coef="1"/>
    <joint joint="elbow" coef="-.5"/></fixed>
  <spatial name="dead" range="0 .1" frictionloss="1"><site site="eye"/><site site="post"/></spatial>
  <fixed name="free"><joint joint="pan" coef="2"/></fixed>
</tendon>
<actuator><motor joint="pan" gear="8"/><motor joint="lift" gear="20"/><motor joint="elbow" gear="10"/>
  <motor tendon="free" gear=".5"/></actuator></mujoco>"""
WORLDS = 24


@pytest.fixture(scope="module")
def body() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(BODY)


@pytest.fixture(scope="module")
def sim(body) -> ts.Simulator:
    return explicit(body, WORLDS)


@pytest.fixture(scope="module")
def batch(body) -> tuple[ts.State, torch.Tensor]:
    return driven(body, WORLDS, np.random.default_rng(4), 0.9, 0.4)


def test_accelerations_and_forces_are_mujocos(body, sim, batch):
    state, ctrl = batch
    ours = sim.forward(state, ctrl)
    seen, slides, touching = set(), set(), 0
    for world in range(WORLDS):
        data = mujoco_data(body, state, ctrl, world)
        assert np.abs(ours.qacc[world].numpy() - data.qacc).max() < 1e-10 * (1 + np.abs(data.qacc).max())
        kinds, ids = data.efc_type[: data.nefc], data.efc_id[: data.nefc]
        rough = kinds == mujoco.mjtConstraint.mjCNSTR_FRICTION_TENDON
        limits = kinds == mujoco.mjtConstraint.mjCNSTR_LIMIT_TENDON
        for found, which in (
            ("qfrc_friction", rough | (kinds == mujoco.mjtConstraint.mjCNSTR_FRICTION_DOF)),
            ("qfrc_limit", limits | (kinds == mujoco.mjtConstraint.mjCNSTR_LIMIT_JOINT)),
        ):
            force = np.zeros(data.nefc)
            force[which] = data.efc_force[: data.nefc][which]
            theirs = np.zeros(body.nv)
            mujoco.mj_mulJacTVec(body, data, theirs, force)
            assert np.abs(getattr(ours, found)[world].numpy() - theirs).max() < 1e-10 * (1 + np.abs(theirs).max())
        touching += data.ncon
        seen |= {body.tendon(ids[row]).name for row in np.flatnonzero(limits) if data.efc_force[row] > 0}
        for row in np.flatnonzero(rough):
            slides.add(
                (body.tendon(ids[row]).name, bool(abs(data.efc_force[row]) > 0.9999 * data.efc_frictionloss[row]))
            )
    # whatever a state lacks proves nothing
    seen.discard("dead")
    slides = {(name, at_bound) for name, at_bound in slides if name != "dead"}
    assert seen == {"rope", "stay", "belt", "both"} and len(slides) == 6 and touching > 5, (seen, slides)


def test_motion_is_mujocos(body, sim, batch):
    errors = strayed(body, sim, *batch, 40)
    # a row that begins to push a step later where MuJoCo's solver stops short of its solution sets worlds apart
    assert np.median(errors) < 1e-10 and np.quantile(errors, 0.8) < 1e-7, errors


@pytest.mark.parametrize("theta", [0.0, 0.6])
def test_gradients_are_those_of_the_step(sim, batch, theta, monkeypatch):
    state, ctrl = batch
    monkeypatch.setattr(sim.model.opt, "theta", theta)

    def end(qpos, qvel, ctrl):
        return weighted(rollout(sim, qpos, qvel, ctrl, 2), 1)

    assert_gradient(end, {"qpos": state.qpos, "qvel": state.qvel, "ctrl": ctrl}, {"qpos": 1e-7, "qvel": 1e-6})
