"""Implicit Coriolis forces: MuJoCo's own implicit step, gradients, fast spin, and which files ask for them."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch
import trees
from batch import random_batch
from differences import assert_gradient, rollout, weighted

import taichi_sim as ts

ROD = """<mujoco><option gravity="0 0 0" timestep="0.001" integrator="{}"/><worldbody><body><freejoint/>
<inertial pos="0 0 0" mass="0.12" diaginertia="0.00017231 0.00000658 0.00017243"/></body></worldbody></mujoco>"""


def forest(seed: int, *, smooth: bool) -> mujoco.MjModel:
    """A random tree; if `smooth` with nothing but inertia, gravity and dampers, whose step MuJoCo takes as we do."""
    spec = mujoco.MjSpec.from_string(trees.random_tree(np.random.default_rng(seed), num_bodies=12, num_actuators=6))
    spec.option.integrator, spec.option.timestep = mujoco.mjtIntegrator.mjINT_IMPLICIT, 0.01
    bit = mujoco.mjtDisableBit
    if smooth:
        spec.option.disableflags |= int(bit.mjDSBL_ACTUATION) | int(bit.mjDSBL_LIMIT) | int(bit.mjDSBL_SPRING)
    return spec.compile()


@pytest.mark.parametrize("seed", range(3))
def test_one_step_is_mujocos(seed):
    """With theta = 1 velocities after one step are those of MuJoCo's integrator "implicit"."""
    mj_model = forest(seed, smooth=True)
    model = ts.load(mj_model)
    assert model.opt.coriolis
    model.opt.theta = 1.0
    sim = ts.Simulator(model, 4)
    state, ctrl = random_batch(model, 4, seed)
    state = state._replace(qvel=3 * state.qvel)
    after = sim.step(state, ctrl)
    for world in range(4):
        data = mujoco.MjData(mj_model)
        data.qpos[:], data.qvel[:] = state.qpos[world], state.qvel[world]
        mujoco.mj_forward(mj_model, data)
        explicit = data.qvel + model.opt.timestep * data.qacc
        mujoco.mj_step(mj_model, data)
        scale = np.abs(data.qvel).max()
        assert np.abs(explicit - data.qvel).max() > 1e-4 * scale
        np.testing.assert_allclose(after.qvel[world], data.qvel, rtol=0, atol=1e-9 * scale)


def test_gradients():
    model = ts.load(forest(5, smooth=False))
    model.opt.substeps = 2
    sim = ts.Simulator(model, 3)
    state, ctrl = random_batch(model, 3, 0)
    arguments = {"qpos": state.qpos, "qvel": 2 * state.qvel, "ctrl": ctrl}
    assert_gradient(lambda qpos, qvel, ctrl: weighted(rollout(sim, qpos, qvel, ctrl, 2), 0), arguments)


@pytest.mark.parametrize("name", ["body_mass", "body_ipos", "body_inertia", "dof_armature"])
def test_gradients_of_parameters(name):
    model = ts.load(forest(5, smooth=False))
    sim = ts.Simulator(model, 2, parameters=name)
    state, ctrl = random_batch(model, 2, 0)
    values = torch.tensor(getattr(model, name)).flatten().repeat(2, 1)

    def function(values):
        shaped = values.reshape(2, *sim._parameters.shapes[name])
        return weighted(sim.step(state._replace(qvel=3 * state.qvel), ctrl, {name: shaped}), 0)

    assert_gradient(function, {"values": values})


@pytest.mark.parametrize("integrator", ["implicit", "implicitfast"])
def test_a_thin_rod_spins(integrator):
    """At 360 rad/s, in a file that asks for it: stable, as in MuJoCo; explicit, energy grows without bound."""
    # older MuJoCos have it in "implicit" alone
    mj_model = mujoco.MjModel.from_xml_string(ROD.format("implicit"))
    model = ts.load(mujoco.MjModel.from_xml_string(ROD.format(integrator)))
    model.opt.substeps, model.opt.theta = 200, 1.0
    sim, data = ts.Simulator(model), mujoco.MjData(mj_model)
    state = sim.initial_state()
    state.qvel[0, 3:] = torch.tensor([300.0, 50, 200])
    data.qvel[3:] = 300, 50, 200
    for _ in range(10):
        state = sim.step(state, torch.zeros(1, 0, dtype=torch.float64))
        mujoco.mj_step(mj_model, data, 200)
        np.testing.assert_allclose(state.qvel[0, 3:], data.qvel[3:], rtol=1e-6)
    explicit = ts.load(mujoco.MjModel.from_xml_string(ROD.format("Euler")))
    assert not explicit.opt.coriolis
    explicit.opt.substeps = 2000
    sim = ts.Simulator(explicit)
    state = sim.initial_state()
    state.qvel[0, 3:] = torch.tensor([300.0, 50, 200])
    assert not sim.step(state, torch.zeros(1, 0, dtype=torch.float64)).qvel.isfinite().all()


def test_which_files_ask_for_it():
    """MuJoCo's fast form has it for bodies that are free and alone."""
    chain = ROD.replace("</body>", '<body><joint axis="0 1 0"/><geom size=".1"/></body></body>')
    for text, integrator, expected in (
        (ROD, "Euler", False),
        (ROD, "RK4", False),
        (ROD, "implicitfast", True),
        (chain, "implicitfast", False),
        (chain, "implicit", True),
    ):
        assert ts.load(mujoco.MjModel.from_xml_string(text.format(integrator))).opt.coriolis is expected


def test_equalities_leave_it_explicit():
    """A dependent joint's acceleration follows another's: the reduced problem stays symmetric."""
    text = """<mujoco><option integrator="implicit"/><worldbody><body><joint name="a" axis="0 1 0"/><geom size=".1"
    pos="1 0 0"/><body pos="1 0 0"><joint name="b" axis="0 1 0"/><geom size=".1" pos="1 0 0"/></body></body></worldbody>
    <equality><joint joint1="b" joint2="a"/></equality></mujoco>"""
    model = ts.load(mujoco.MjSpec.from_string(text), unsupported_contacts="skip")
    assert model.opt.coriolis and not ts.Simulator(model)._m.coriolis
