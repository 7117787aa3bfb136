"""Slider-cranks: lengths, forces and accelerations are MuJoCo's, gradients those of the step."""

import mujoco
import numpy as np
import pytest
import torch
from batch import around, mujoco_data
from differences import assert_gradient, rollout, weighted

import taichi_sim as ts

# A machine that moves itself, with a crank, a slider that nothing guides, and another body: rods between all of these,
# one of them often too short, one within a body; a servo, a damper, a muscle and a tendon.
MACHINE = """<mujoco><compiler angle="radian"/><option timestep="0.002"/>
<worldbody><site name="wall" pos="0 -.4 .8" euler="1.3 0 .2"/>
<body name="frame" pos="0 0 1" euler=".3 -.2 .5"><freejoint/>
  <geom type="box" size=".2 .2 .03" mass="1" pos=".02 0 0"/>
  <site name="rail" pos=".1 .05 .02" euler=".2 1.2 .1"/><site name="corner" pos=".1 -.2 0"/>
  <body pos="-.1 -.2 0" euler="0 .4 .1"><joint name="crank" axis="1 0 .3" armature=".01"/>
    <geom type="capsule" fromto="0 0 0 .1 -.2 0" size=".02" mass=".2"/><site name="pin" pos=".1 -.15 0" euler="1 .3 0"/>
    <body pos=".1 -.2 0"><joint name="tip" type="ball" armature=".01"/><geom size=".05" mass=".1" pos="0 0 .1"/>
      <site name="end" pos=".05 0 .1"/></body></body></body>
<body name="other" pos=".3 .2 1.1"><freejoint/><geom size=".1" mass=".4"/><site name="eye" pos=".05 .02 .06"/></body>
</worldbody>
<tendon><spatial name="string"><site site="corner"/><site site="end"/></spatial></tendon>
<actuator><motor name="piston" cranksite="pin" slidersite="rail" cranklength=".6" gear="3"/>
  <position cranksite="eye" slidersite="rail" cranklength=".7" kp="5"/>
  <motor tendon="string" gear="2"/>
  <velocity cranksite="end" slidersite="wall" cranklength="1.6" kv=".4"/>
  <general cranksite="eye" slidersite="pin" cranklength=".35" dyntype="filter" dynprm=".05" gear=".5"/>
  <muscle cranksite="end" slidersite="rail" cranklength="1" lengthrange="-1 1" force="10"/>
  <motor cranksite="corner" slidersite="rail" cranklength=".5"/></actuator></mujoco>"""
WORLDS = 8
CRANKS = 6


@pytest.fixture(scope="module")
def machine() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(MACHINE)


@pytest.fixture(scope="module")
def sim(machine) -> ts.Simulator:
    return ts.Simulator(ts.load(machine), WORLDS)


@pytest.fixture(scope="module")
def batch(machine) -> tuple[ts.State, torch.Tensor]:
    return around(machine, WORLDS, 0.2, seed=2)


def reaches(machine, data) -> list[bool]:
    """Whether the rods of the slider-cranks are long enough, from MuJoCo's poses of the sites."""
    found = []
    for u in np.flatnonzero(machine.actuator_trntype == mujoco.mjtTrn.mjTRN_SLIDERCRANK):
        crank, slider = machine.actuator_trnid[u]
        way = data.site_xpos[crank] - data.site_xpos[slider]
        along = way @ data.site_xmat[slider].reshape(3, 3)[:, 2]
        found.append(along**2 + machine.actuator_cranklength[u] ** 2 > way @ way)
    return found


def test_lengths_and_forces_are_mujocos(machine, sim, batch):
    state, ctrl = batch
    ours, seen = sim.forward(state, ctrl), []
    for world in range(WORLDS):
        data = mujoco_data(machine, state, ctrl, world)
        for name in ("actuator_length", "actuator_velocity", "actuator_force", "qfrc_actuator", "qacc", "ten_length"):
            found, theirs = getattr(ours, name)[world], getattr(data, name)
            np.testing.assert_allclose(found[: len(theirs)], theirs, atol=1e-10 * (1 + np.abs(theirs).max()))
        # behind the file's tendons, without gear
        bare = np.delete(data.actuator_length / machine.actuator_gear[:, 0], 2)
        np.testing.assert_allclose(ours.ten_length[world, 1:], bare, atol=1e-12)
        seen.append(reaches(machine, data))
    seen = np.array(seen)
    assert seen.shape == (WORLDS, CRANKS) and seen.any(0).all() and not seen[:, 3].all()


def test_gradients_are_those_of_the_step(sim, batch):
    state, ctrl = batch

    def end(qpos, qvel, act, ctrl):
        return weighted(rollout(sim, qpos, qvel, ctrl, 2, act=act), 1)

    inputs = {"qpos": state.qpos, "qvel": state.qvel, "act": state.act, "ctrl": ctrl}
    assert_gradient(end, inputs, {"qpos": 1e-6, "qvel": 1e-6, "act": 1e-4})


def test_lengths_are_differentiable(sim, batch):
    state, ctrl = batch
    weights = torch.randn(1 + CRANKS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def length(qpos):
        found = sim.forward(state._replace(qpos=qpos), ctrl)
        return ((found.ten_length + 0.3 * found.ten_velocity) * weights).sum(1)

    assert_gradient(length, {"qpos": state.qpos}, {"qpos": 1e-6})


def test_a_saved_model_is_the_same(machine, sim, batch, tmp_path):
    ts.save(sim.model, tmp_path / "machine.npz")
    again = ts.Simulator(ts.load(tmp_path / "machine.npz"), WORLDS)
    assert torch.equal(sim.step(*batch).qpos, again.step(*batch).qpos)
    broken = ts.load(machine)
    broken.wrap_type[-1] = broken.wrap_type[-2]
    ts.save(broken, tmp_path / "broken.npz")
    with pytest.raises(ts.ModelError, match="slider-crank"):
        ts.load(tmp_path / "broken.npz")


def test_what_is_disabled_does_nothing():
    text = MACHINE.replace("<option ", '<option actuatorgroupdisable="0" ')
    model = ts.load(mujoco.MjModel.from_xml_string(text))
    assert model.ntendon == 1 and not model.actuator_gear.any()
