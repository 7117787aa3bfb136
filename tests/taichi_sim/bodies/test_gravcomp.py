"""Gravity compensation against MuJoCo, and its gradients."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch
import trees
from batch import assert_forces, mujoco_data, random_batch
from differences import assert_gradient, rollout, weighted

import taichi_sim as ts


@pytest.fixture(scope="module")
def world():
    """A random forest of which most bodies are lifted, some of them by the actuators."""
    rng = np.random.default_rng(5)
    spec = mujoco.MjSpec.from_string(trees.random_tree(rng, num_bodies=15, num_actuators=10, limits=False))
    for body in spec.bodies[1:]:
        body.gravcomp = rng.choice([0, 0.6, 1, 1.3])
    for joint in spec.joints:
        clamped = joint.actfrclimited == mujoco.mjtLimited.mjLIMITED_TRUE
        joint.actgravcomp = not clamped and rng.random() < 0.4
    mj_model = spec.compile()
    model = ts.load(mj_model)
    model.opt.timestep = 0.004
    assert model.jnt_actgravcomp.sum() > 2 and (model.body_gravcomp != 0).sum() > 5
    sim = ts.Simulator(model, 4, parameters=("body_mass", "body_ipos"))
    return mj_model, sim, *random_batch(model, 4, 0)


def test_forces_are_those_of_mujoco(world):
    mj_model, sim, state, ctrl = world
    found = sim.forward(state, ctrl)
    for k in range(4):
        data = mujoco_data(mj_model, state, ctrl, k)
        assert np.abs(data.qfrc_gravcomp).max() > 1
        assert_forces(found, data, k, "qfrc_passive", "qfrc_actuator", "qfrc_bias", "qacc")


def test_gradients(world):
    _, sim, state, ctrl = world
    sim.model.opt.substeps = 2
    assert_gradient(
        lambda qpos, qvel, ctrl: weighted(rollout(sim, qpos, qvel, ctrl, 2), 1),
        {"qpos": state.qpos, "qvel": state.qvel, "ctrl": ctrl},
        {"ctrl": 1e-4},
    )
    for name in ("body_mass", "body_ipos"):
        value = torch.tensor(getattr(sim.model, name)).repeat(4, *[1] * getattr(sim.model, name).ndim)
        assert_gradient(
            lambda value, name=name: weighted(rollout(sim, state.qpos, state.qvel, ctrl, 1, {name: value}), 2),
            {"value": value},
        )


def test_it_follows_gravity():
    """What is lifted stays where it is, whatever gravity becomes; without passive forces it falls."""
    text = """<mujoco><option><flag contact="disable"{}/></option><worldbody>
      <body gravcomp="1"><joint axis="0 1 0"/><geom size=".1" pos="1 0 0"/></body></worldbody></mujoco>"""
    no_ctrl = torch.zeros(1, 0, dtype=torch.float64)
    sim = ts.Simulator(ts.load(mujoco.MjModel.from_xml_string(text.format(""))), 1)
    sim.model.opt.gravity = np.array([1.0, 2.0, -30.0])
    assert sim.step(sim.initial_state(), no_ctrl).qvel.abs().max() < 1e-12
    off = text.format(' spring="disable" damper="disable"')
    sim = ts.Simulator(ts.load(mujoco.MjModel.from_xml_string(off)), 1)
    assert sim.step(sim.initial_state(), no_ctrl).qvel.abs().max() > 1e-3
