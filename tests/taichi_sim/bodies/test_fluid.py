"""A fluid's forces against MuJoCo, and their gradients."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch
import trees
from batch import assert_forces, mujoco_data, random_batch
from differences import assert_gradient, rollout, weighted

import taichi_sim as ts


def forest(**options) -> mujoco.MjModel:
    spec = mujoco.MjSpec.from_string(trees.random_tree(np.random.default_rng(7), num_bodies=12, limits=False))
    for name, value in options.items():
        setattr(spec.option, name, value)
    return spec.compile()


@pytest.fixture(scope="module", params=[{"density": 5.0}, {"viscosity": 0.1}, {"density": 10.0, "viscosity": 0.05}])
def world(request):
    """A random forest in a current, only one of its forces, or both."""
    mj_model = forest(wind=(0.3, -0.7, 0.4), **request.param)
    model = ts.load(mj_model)
    model.opt.timestep = 0.002
    sim = ts.Simulator(model, 4, parameters=("body_ipos",))
    return mj_model, sim, *random_batch(model, 4, 0)


def test_forces_are_those_of_mujoco(world):
    mj_model, sim, state, ctrl = world
    found = sim.forward(state, ctrl)
    for k in range(4):
        data = mujoco_data(mj_model, state, ctrl, k)
        assert np.abs(data.qfrc_fluid).max() > 0.1
        assert_forces(found, data, k, "qfrc_passive", "qacc")


def test_gradients(world):
    _, sim, state, ctrl = world
    sim.model.opt.substeps = 2
    assert_gradient(
        lambda qpos, qvel, ctrl: weighted(rollout(sim, qpos, qvel, ctrl, 2), 1),
        {"qpos": state.qpos, "qvel": state.qvel, "ctrl": ctrl},
        # nearly linear in them, and small
        {"ctrl": 1e-2},
    )
    value = torch.tensor(sim.model.body_ipos).repeat(4, 1, 1)
    assert_gradient(
        lambda value: weighted(rollout(sim, state.qpos, state.qvel, ctrl, 1, {"body_ipos": value}), 2),
        {"value": value},
    )


# All shapes that geoms have, every coefficient different, beside a body of which the fluid meets the box.
SHAPES = """<mujoco><option density="30" viscosity=".4" wind=".3 -.7 .4" timestep=".002"/>
<default><joint armature=".02"/><geom contype="0" conaffinity="0" density="800" fluidshape="ellipsoid"
  fluidcoef=".5 .25 1.5 .8 1.2"/></default>
<asset><mesh name="wedge" vertex="-.1 -.1 0 .1 -.1 0 -.1 .1 0 .1 .1 0 -.1 0 .1 .1 0 .1"/></asset>
<worldbody><geom type="sphere" size=".1"/><body pos="0 0 1"><freejoint/>
  <geom type="ellipsoid" size=".05 .1 .2" pos=".1 0 0" euler="20 30 40"/><geom type="sphere" size=".07" pos="-.1 0 0"/>
  <body pos=".2 0 0"><joint axis="0 1 0"/><geom type="capsule" size=".04 .1" euler="10 50 0" fluidcoef=".3 .5 1 2 .7"/>
    <body pos="0 0 .2"><joint axis="1 0 0"/><joint type="ball"/><geom type="cylinder" size=".03 .1"/>
      <body pos=".1 0 0"><joint axis="0 0 1"/><geom type="box" size=".1 .02 .05" fluidshape="none"/></body>
    </body></body>
  <body pos="-.2 .1 0"><joint axis="0 0 1"/><geom type="box" size=".1 .02 .05"/></body>
  <body pos="-.2 -.1 0"><joint axis="1 0 0"/><geom type="mesh" mesh="wedge"/></body></body></worldbody></mujoco>"""


@pytest.fixture(scope="module")
def shapes():
    """Bodies of which the fluid meets the geoms, moving."""
    mj_model = mujoco.MjModel.from_xml_string(SHAPES)
    model = ts.load(mj_model)
    return mj_model, ts.Simulator(model, 6), *random_batch(model, 6, 0)


def test_shapes_meet_what_mujocos_do(shapes):
    mj_model, sim, state, ctrl = shapes
    # one world as good as at rest in the wind, where MuJoCo bounds divisors
    qvel = state.qvel.clone()
    qvel[5] = 0.0
    qvel[5, :3] = torch.tensor(mj_model.opt.wind) + 1e-5
    state = state._replace(qvel=qvel)
    found = sim.forward(state, ctrl)
    for k in range(6):
        data = mujoco_data(mj_model, state, ctrl, k)
        assert np.abs(data.qfrc_fluid).max() > (1e-8 if k == 5 else 0.1)
        assert_forces(found, data, k, "qfrc_passive", "qacc")


def test_gradients_of_shapes(shapes):
    _, sim, state, ctrl = shapes
    assert_gradient(
        lambda qpos, qvel: weighted(rollout(sim, qpos, qvel, ctrl, 2), 1), {"qpos": state.qpos, "qvel": state.qvel}
    )


def test_a_ball_sinks_at_the_speed_at_which_its_weight_is_borne():
    """That of a cube with a ball's inertia, side b = r sqrt(12 / 5): w - sqrt(2 m g / rho) / b, w the current up."""
    text = """<mujoco><option density="1000" wind="0 0 .2" timestep=".001"/>
      <worldbody><body><freejoint/><geom size=".02" density="3000"/></body></worldbody></mujoco>"""
    model = ts.load(mujoco.MjModel.from_xml_string(text))
    sim = ts.Simulator(model, 1)
    state = sim.initial_state()
    for _ in range(2500):
        state = sim.step(state, torch.zeros(1, 0, dtype=torch.float64))
    side = 0.02 * np.sqrt(12 / 5)
    speed = 0.2 - np.sqrt(2 * model.body_mass[1] * 9.81 / 1000) / side
    assert state.qvel[0, 2].item() == pytest.approx(speed, rel=1e-9)


def test_what_the_file_switches_off_does_nothing():
    mj_model = forest(density=800.0)
    mj_model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_SPRING) | int(mujoco.mjtDisableBit.mjDSBL_DAMPER)
    assert ts.load(mj_model).opt.density == 0


def test_the_fluid_cannot_change_under_a_simulator():
    model = ts.load(forest(density=800.0))
    sim = ts.Simulator(model, 1)
    state, ctrl = sim.initial_state(), torch.zeros(1, model.nu, dtype=torch.float64)
    model.opt.wind = np.array([1.0, 0, 0])
    with pytest.raises(ValueError, match="opt.wind"):
        sim.step(state, ctrl)
