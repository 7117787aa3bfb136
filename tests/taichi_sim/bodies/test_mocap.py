"""Mocap bodies: their poses are inputs; accelerations are MuJoCo's, gradients differences."""

import mujoco
import numpy as np
import pytest
import torch
from batch import random_batch
from differences import assert_gradient, weighted

import taichi_sim as ts

# what hangs from a mocap body, is welded to it, pulled by it and pushed by it; they are not in the order of the bodies
HANDS = """<mujoco><compiler angle="radian"/><option timestep="0.002"/>
<custom><numeric name="contact_ke" data="300"/><numeric name="contact_kd" data="2000"/>
  <numeric name="contact_kf" data="20"/><numeric name="contact_mu" data=".5"/></custom>
<default><geom contype="0" conaffinity="0"/></default>
<worldbody>
  <body name="load" pos="0 0 1"><freejoint/><geom type="box" size=".2 .1 .1"/><site name="eye" pos=".2 .1 0"/></body>
  <body name="left" mocap="true" pos=".3 0 1.1" quat=".9 .1 .3 -.2"><geom size=".05"/></body>
  <body name="right" mocap="true" pos="0 1 1">
    <geom name="fist" type="capsule" size=".1 .2" pos=".1 0 0" contype="1"/><site name="tip" pos="0 .1 .2"/>
    <body pos=".1 0 -.3"><joint axis="0 1 0"/><geom type="capsule" fromto="0 0 0 0 .1 -.4" size=".04"/>
      <body pos="0 .1 -.4"><joint type="ball"/><geom type="box" size=".05 .1 .2" pos=".1 0 -.1"/></body></body></body>
  <body name="bystander" pos=".1 1.15 1"><joint type="slide" axis="0 1 0"/><joint axis="1 0 .3"/>
    <geom type="sphere" size=".1" conaffinity="1"/></body>
</worldbody>
<tendon><spatial name="cord" stiffness="20" damping="1"><site site="eye"/><site site="tip"/></spatial></tendon>
<equality><weld body1="load" body2="left" solimp=".8 .95 .5" solref=".05 1"/></equality></mujoco>"""
WORLDS = 4


@pytest.fixture(scope="module")
def hands():
    mj_model = mujoco.MjModel.from_xml_string(HANDS)
    sim = ts.Simulator(ts.load(mj_model), WORLDS)
    state, ctrl = random_batch(sim.model, WORLDS, 0)
    # the bystander stays where the fist reaches it
    state.qpos[:, -2:] *= 0.05
    state.qpos[:, :3] = torch.tensor([0.1, 0.1, 0.9]) + 0.2 * state.qpos[:, :3]
    rng = np.random.default_rng(1)
    mocap = torch.tensor(sim.model.mocap0).expand(WORLDS, -1, -1) + 0.1 * torch.tensor(rng.normal(size=(WORLDS, 2, 7)))
    # of any length, but not all of another than 1
    mocap[1, :, 3:] /= mocap[1, :, 3:].norm(dim=-1, keepdim=True)
    return mj_model, sim, state, ctrl, mocap


def test_forward_is_mujocos(hands):
    mj_model, sim, state, ctrl, mocap = hands
    found = sim.forward(state, ctrl, mocap=mocap)
    assert (found.qfrc_contact.abs().amax(1) > 1).sum() == WORLDS - 1
    for world in range(WORLDS):
        # contact is a penalty here, tested elsewhere
        mj_model.geom_contype[:] = 0
        data = mujoco.MjData(mj_model)
        data.qpos[:], data.qvel[:] = state.qpos[world].numpy(), state.qvel[world].numpy()
        data.mocap_pos[:], data.mocap_quat[:] = mocap[world, :, :3].numpy(), mocap[world, :, 3:].numpy()
        data.qfrc_applied[:] = found.qfrc_contact[world].numpy()
        mujoco.mj_forward(mj_model, data)
        np.testing.assert_allclose(found.xpos[world], data.xpos, rtol=0, atol=1e-12)
        np.testing.assert_allclose(np.abs((found.xquat[world].numpy() * data.xquat).sum(1)), 1, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.ten_length[world], data.ten_length, rtol=0, atol=1e-12)
        if mujoco.mj_version() >= 4000000:
            np.testing.assert_allclose(found.qacc[world], data.qacc, rtol=0, atol=1e-9 * np.abs(data.qacc).max())


def test_gradient(hands):
    _, sim, state, ctrl, mocap = hands

    def loss(qpos, qvel, mocap):
        return weighted(sim_rollout(sim, qpos, qvel, ctrl, mocap), 1)

    assert_gradient(loss, {"qpos": state.qpos, "qvel": state.qvel, "mocap": mocap}, {"mocap": 1e-6})


def sim_rollout(sim, qpos, qvel, ctrl, mocap):
    state = ts.State(qpos, qvel, qpos.new_zeros(len(qpos), 0))
    for _ in range(2):
        state = sim.step(state, ctrl, mocap=mocap)
    return state


@pytest.mark.parametrize(
    "option, own, cord",
    [
        ('integrator="implicit"', True, ""),
        ('integrator="implicit"', False, ""),
        ("", False, 'frictionloss="3"'),
        ("", False, 'limited="true" range="0 .5"'),
    ],
    ids=["implicit Coriolis forces, our own", "MuJoCo's", "dry friction of a tendon", "limit of a tendon"],
)
def test_gradient_beside_other_forces(hands, option, own, cord):
    """What other rooms add to the bodies' forces reaches mocap bodies once, also where rows stand on their tendons."""
    _, _, state, ctrl, mocap = hands
    text = HANDS[: HANDS.index("<custom>")] + HANDS[HANDS.index("<default>") : HANDS.index("<equality>")] + "</mujoco>"
    text = text.replace('timestep="0.002"', f'timestep="0.002" {option}')
    text = text.replace('name="cord"', f'name="cord" {cord}')
    if own:
        text = text.replace("<default>", '<custom><numeric name="theta" data="0.6"/></custom><default>')
    sim = ts.Simulator(ts.load(mujoco.MjModel.from_xml_string(text)), WORLDS)

    def loss(qpos, qvel, mocap):
        return weighted(sim_rollout(sim, qpos, qvel, ctrl, mocap), 1)

    assert_gradient(loss, {"qpos": state.qpos, "qvel": state.qvel, "mocap": mocap}, {"mocap": 1e-6})


def test_gradient_of_poses_velocities_and_lengths(hands):
    _, sim, state, ctrl, mocap = hands
    weights = torch.tensor(np.random.default_rng(2).normal(size=(sim.model.nbody, 13)))

    def loss(mocap):
        data = sim.forward(state, ctrl, mocap=mocap)
        bodies = (torch.cat([data.xpos, data.xquat, data.xlinvel, data.xangvel], dim=2) * weights).sum((1, 2))
        return bodies + 2 * data.ten_length[:, 0] - 3 * data.ten_velocity[:, 0]

    assert_gradient(loss, {"mocap": mocap})


def test_without_poses_they_are_the_files(hands):
    _, sim, state, ctrl, _ = hands
    here = torch.tensor(sim.model.mocap0).expand(WORLDS, -1, -1)
    for one, two in zip(sim.step(state, ctrl), sim.step(state, ctrl, mocap=here), strict=True):
        assert torch.equal(one, two)
    with pytest.raises(ValueError, match=r"mocap must have shape \(4, 2, 7\)"):
        sim.step(state, ctrl, mocap=here[:, 0])
