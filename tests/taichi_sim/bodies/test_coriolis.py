"""Implicit Coriolis forces in our own step: as in MuJoCo's, gradients, fast spin, and which files ask for them."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch
import trees
from batch import mujoco_data, random_batch
from differences import assert_gradient, rollout, weighted

import taichi_sim as ts

ROD = """<mujoco><option gravity="0 0 0" timestep="0.001" integrator="{}"/><worldbody><body><freejoint/>
<inertial pos="0 0 0" mass="0.12" diaginertia="0.00017231 0.00000658 0.00017243"/></body></worldbody></mujoco>"""
# Asks for our own step.
OWN = '<custom><numeric name="theta" data="1"/></custom>'


def forest(seed: int, *, smooth: bool) -> mujoco.MjModel:
    """A random tree; if `smooth` with nothing but inertia, gravity and dampers, whose step MuJoCo takes as we do."""
    spec = mujoco.MjSpec.from_string(trees.random_tree(np.random.default_rng(seed), num_bodies=12, num_actuators=6))
    spec.option.integrator, spec.option.timestep = mujoco.mjtIntegrator.mjINT_IMPLICIT, 0.01
    spec.add_numeric(name="theta", data=[0.6])
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


# What falls, tumbles, strikes the floor and itself.
TUMBLING = """<mujoco><option integrator="implicit" timestep="0.004" cone="{cone}"/>
<custom><numeric name="theta" data="1"/></custom>
<worldbody><geom type="plane" size="5 5 .1"/>
  <body pos="0 0 .3"><freejoint/><geom type="capsule" size=".1 .2" euler="0 90 0" mass="2"/>
    <body pos=".25 0 0"><joint axis="0 1 0" range="-40 40" limited="true"/><geom size=".08" pos=".3 0 0" mass="1"/>
      <body pos=".5 0 0"><joint axis="0 1 1" armature=".01"/><geom size=".1" pos=".2 0 0" mass="1"/>
        <body pos=".2 0 0"><joint type="ball"/><geom size=".05" pos=".2 0 0" mass=".3"/></body></body></body>
    <body pos="-.25 0 0"><joint axis="1 1 0"/><geom size=".09" pos="-.2 .1 0" mass="1"/></body></body>
  <body pos=".1 .1 1.2"><freejoint/><geom size=".12" mass="1"/></body>
</worldbody></mujoco>"""


@pytest.mark.parametrize("cone", ["pyramidal", "elliptic"])
def test_rows_that_push_are_found_beside_it(cone):
    """Ours: M a + K h a = tau + J' f, where f is what MuJoCo's rows give for a."""
    mj_model = mujoco.MjModel.from_xml_string(TUMBLING.format(cone=cone))
    model = ts.load(mj_model)
    assert model.opt.coriolis and model.opt.theta == 1.0
    sim = ts.Simulator(model, 8)
    state, rng, touched = sim.initial_state(), np.random.default_rng(1), 0
    ctrl = torch.zeros(8, 0, dtype=torch.float64)

    def bias(data, qvel):
        other = mujoco.MjData(mj_model)
        other.qpos[:], other.qvel[:] = data.qpos, qvel
        mujoco.mj_fwdPosition(mj_model, other)
        mujoco.mj_fwdVelocity(mj_model, other)
        return other.qfrc_bias

    for step in range(150):
        if step % 25 == 0:
            state = state._replace(qvel=state.qvel + 8 * torch.tensor(rng.normal(size=state.qvel.shape)))
        after = sim.step(state, ctrl)
        for world in range(8):
            data, moved = mujoco_data(mj_model, state, ctrl, world), np.zeros(mj_model.nv)
            change = (after.qvel[world] - state.qvel[world]).numpy()
            mujoco.mj_mulM(mj_model, data, moved, change / model.opt.timestep)
            # the bias is quadratic in velocities: of a half of their differences K is all
            moved += (bias(data, data.qvel + change) - bias(data, data.qvel - change)) / 2
            rows = data.efc_J.reshape(data.nefc, mj_model.nv) @ (change / model.opt.timestep) - data.efc_aref
            mujoco.mj_constraintUpdate(mj_model, data, rows, None, 0)
            error = np.abs(moved - data.qfrc_smooth - data.qfrc_constraint).max()
            assert error < 1e-8 * np.abs(data.qfrc_smooth).max(), (step, world)
            touched += data.ncon > 1
        state = after
    assert touched > 50


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
@pytest.mark.parametrize("own", [False, True])
def test_a_thin_rod_spins(integrator, own):
    """At 360 rad/s, in a file that asks for it: stable, as in MuJoCo; explicit, energy grows without bound."""
    # older MuJoCos have it in "implicit" alone
    mj_model = mujoco.MjModel.from_xml_string(ROD.format("implicit"))
    text = ROD.format(integrator).replace("<worldbody>", f"{OWN * own}<worldbody>")
    model = ts.load(mujoco.MjModel.from_xml_string(text))
    assert model.opt.coriolis == own
    model.opt.substeps = 200
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
        opt = ts.load(mujoco.MjModel.from_xml_string(text.format(integrator))).opt
        assert (opt.integrator, opt.coriolis) == (integrator, False)
        text = text.format(integrator).replace("<worldbody>", f"{OWN}<worldbody>")
        opt = ts.load(mujoco.MjModel.from_xml_string(text)).opt
        assert (opt.integrator, opt.coriolis) == ("theta", expected)


def test_equalities_leave_it_explicit():
    """A dependent joint's acceleration follows another's: the reduced problem stays symmetric."""
    text = """<mujoco><option integrator="implicit"/>{}<worldbody><body><joint name="a" axis="0 1 0"/><geom size=".1"
    pos="1 0 0"/><body pos="1 0 0"><joint name="b" axis="0 1 0"/><geom size=".1" pos="1 0 0"/></body></body></worldbody>
    <equality><joint joint1="b" joint2="a"/></equality></mujoco>"""
    model = ts.load(mujoco.MjSpec.from_string(text.format(OWN)), unsupported_contacts="skip")
    assert model.opt.coriolis and not ts.Simulator(model)._m.coriolis
