"""Contacts between bodies by MuJoCo's law: accelerations, forces, motion to the last digit, gradients, mocap bodies."""

import mujoco
import numpy as np
import pytest
import torch
from batch import explicit, mujoco_data, strayed
from differences import assert_gradient, rollout, weighted

import taichi_sim as ts

# Two chains and a world of boxes and a ball: every two of spheres, capsules and boxes touch, with and without friction.
CHAINS = """<mujoco><compiler angle="radian"/>
<option timestep="0.003" cone="{}" impratio="1.7" iterations="200" tolerance="0" ls_iterations="200"
  ls_tolerance="1e-10"/>
<default><joint armature=".01"/><geom density="700" condim="{}" friction=".6 .03 .02"/></default>
<worldbody><geom type="box" size="2 2 .1" pos="0 0 -.1" friction=".7"/><geom type="sphere" size=".1" pos=".1 .1 0"/>
<body pos="0 0 .3"><freejoint/><geom type="sphere" size=".08" margin=".01"/>
  <body pos=".1 0 .1"><joint axis="0 1 0"/><geom type="capsule" size=".04" fromto="0 0 0 .2 0 .05"/>
    <body pos=".2 0 .05"><joint axis="0 0 1"/><geom type="box" size=".06 .04 .05" pos=".05 0 0"/></body></body></body>
<body pos="0 0.05 .6"><freejoint/><geom type="capsule" size=".05" fromto="-.1 0 0 .1 .05 0"/>
  <body pos=".15 0 0"><joint axis="0 0 1"/><geom type="sphere" size=".06" pos=".05 0 0"/>
    <body pos="0 .1 0"><joint axis="1 0 0"/>
      <geom type="capsule" size=".03" fromto="0 .05 0 0 .2 0" condim="1" priority="1"/></body></body></body>
</worldbody></mujoco>"""


@pytest.fixture(scope="module", params=[("pyramidal", 3), ("elliptic", 6)])
def body(request) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(CHAINS.format(*request.param))


@pytest.fixture(scope="module")
def batch(body) -> tuple[ts.State, torch.Tensor]:
    """States of chains that fell onto each other."""
    rng, data, states = np.random.default_rng(0), mujoco.MjData(body), []
    while len(states) < 32:
        mujoco.mj_resetData(body, data)
        data.qvel[:] = rng.normal(size=body.nv)
        for _ in range(rng.integers(40, 160)):
            mujoco.mj_step(body, data)
        if data.ncon:
            states.append((data.qpos.copy(), data.qvel.copy()))
    qpos, qvel = (torch.tensor(np.array(x)) for x in zip(*states, strict=True))
    none = torch.zeros(len(qpos), 0, dtype=torch.float64)
    return ts.State(qpos, qvel, none), none


@pytest.fixture(scope="module")
def sim(body, batch) -> ts.Simulator:
    return explicit(body, len(batch[1]))


def test_accelerations_and_forces_are_mujocos(body, sim, batch):
    state, ctrl = batch
    ours, met = sim.forward(state, ctrl), set()
    for world in range(len(ctrl)):
        data = mujoco_data(body, state, ctrl, world)
        scale = 1 + np.abs(data.qacc).max()
        assert np.abs(ours.qacc[world].numpy() - data.qacc).max() < 1e-10 * scale
        found = ours.qfrc_contact[world].numpy()
        assert np.abs(found - data.qfrc_constraint).max() < 1e-10 * (1 + np.abs(data.qfrc_constraint).max())
        # action and reaction
        wrenches = np.zeros((body.nbody, 6))
        for k, contact in enumerate(data.contact[: data.ncon]):
            kinds, bodies = sorted(int(body.geom_type[geom]) for geom in contact.geom), body.geom_bodyid[contact.geom]
            met.add((*kinds, bool(bodies.min())))
            wrench = np.zeros(6)
            mujoco.mj_contactForce(body, data, k, wrench)
            force, moment = wrench.reshape(2, 3) @ contact.frame.reshape(3, 3)
            for sign, b in zip((-1, 1), bodies, strict=True):
                arm = contact.pos - data.xipos[b]
                wrenches[b] += sign * np.concatenate([force, moment + np.cross(arm, force)])
        found = ours.xfrc_contact[world, 1:].numpy()
        assert np.abs(found - wrenches[1:]).max() < 1e-10 * (1 + np.abs(wrenches).max())
    kind = mujoco.mjtGeom
    sphere, capsule, box = map(int, (kind.mjGEOM_SPHERE, kind.mjGEOM_CAPSULE, kind.mjGEOM_BOX))
    # between moving bodies, and with what stands still
    moving = {(*kinds, True) for kinds in ((sphere, capsule), (capsule, capsule), (sphere, box), (capsule, box))}
    still = {(*kinds, False) for kinds in ((sphere, sphere), (sphere, box), (capsule, box), (box, box))}
    assert len(moving & met) >= 2 and still <= met, met


def test_motion_is_mujocos(body, sim, batch):
    errors = strayed(body, sim, *batch, 20)
    assert np.median(errors) < 1e-10, errors


def test_gradients_are_those_of_the_step(sim, batch):
    state, ctrl = batch

    def end(qpos, qvel):
        return weighted(rollout(sim, qpos, qvel, ctrl, 2), 1)

    assert_gradient(end, {"qpos": state.qpos, "qvel": state.qvel}, {"qpos": 1e-6, "qvel": 1e-5})


# What a hand that is moved from outside lifts, with a cylinder and a mesh, whose points are ours.
LIFTED = """<mujoco><option timestep="0.002"/><asset><mesh name="wedge" vertex="-.1 -.1 0 .1 -.1 0 -.1 .1 0 .1 .1 0
  -.1 0 .1 .1 0 .1"/></asset>
<worldbody><geom type="plane" size="1 1 1"/>
<body name="hand" mocap="true" pos="0 0 .1"><geom type="box" size=".2 .2 .02"/></body>
<body pos="0 0 .17"><freejoint/><geom type="cylinder" size=".04 .05"/></body>
<body pos="0 0 .221"><freejoint/><geom type="mesh" mesh="wedge" density="300"/></body>
</worldbody></mujoco>"""


def test_what_a_mocap_body_carries_rides_on_it():
    model = ts.load(mujoco.MjSpec.from_string(LIFTED))
    sim, ctrl = ts.Simulator(model, 1), torch.zeros(1, 0, dtype=torch.float64)
    state, hand = sim.initial_state(), torch.tensor(model.mocap0[None])
    weight = 9.81 * model.body_mass[2:].sum()
    for height in (0.1, 0.2):
        begin = float(hand[0, 0, 2])
        for step in range(400):
            hand[0, 0, 2] = begin + (height - begin) * min(step / 200, 1)
            state = sim.step(state, ctrl, mocap=hand)
        # they rest: it bears them, and they stand where they stood on it
        load = sim.forward(state, ctrl, mocap=hand).xfrc_contact[0, :, 2].sum()
        assert load.item() == pytest.approx(weight, rel=1e-3)
        heights = state.qpos[0, [2, 9]].numpy() - height
        np.testing.assert_allclose(heights, [0.07, 0.12], atol=2e-3)


def test_gradients_in_a_mocap_bodys_pose():
    text = CHAINS.format("pyramidal", 3)
    still = '<geom type="sphere" size=".1" pos=".1 .1 0"/>'
    body = mujoco.MjModel.from_xml_string(text.replace(still, f'<body mocap="true" pos="0 .03 .1">{still}</body>'))
    state = ts.State(*(torch.tensor(x[None]) for x in (body.qpos0, np.zeros(body.nv), np.zeros(0))))
    state.qpos[0, 2] = 0.19
    sim = ts.Simulator(ts.load(body), 1)
    hand = torch.tensor(sim.model.mocap0[None]).clone()
    none = torch.zeros(1, 0, dtype=torch.float64)
    assert sim.forward(state, none, mocap=hand).qfrc_contact.abs().max() > 1

    def end(hand):
        return weighted(sim.step(state, none, mocap=hand), 1)

    assert_gradient(end, {"hand": hand}, {"hand": 1e-6})
