"""Torsional and rolling friction (condim 4 and 6): MuJoCo's deceleration, moments by hand, gradients."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch
from differences import assert_gradient, rollout, weighted

import taichi_sim as ts

SPIN, ROLL = 0.02, 0.004
FLOORS = {"plane": 'type="plane" size="9 9 1"', "box": 'type="box" size="9 9 1" pos="0 0 -1"'}
# so stiff that it rolls on its whole radius
BALL = """<mujoco><option timestep="0.002" cone="elliptic"/><default><geom friction="1 {spin} {roll}"/></default>
  <custom><numeric name="contact_ke" data="1e5"/></custom>
  <worldbody><geom {floor}/>
    <body pos="0 0 .1"><freejoint/><geom size=".1" mass="2" condim="{condim}"/></body></worldbody></mujoco>"""


def slowed(floor, condim, qvel):
    """Velocities (6,) of a ball that lies on the floor, 0.2 s after it got qvel: MuJoCo's and ours."""
    text = BALL.format(spin=SPIN, roll=ROLL, floor=FLOORS[floor], condim=condim)
    mj_model = mujoco.MjModel.from_xml_string(text)
    data, sim = mujoco.MjData(mj_model), ts.Simulator(ts.load(mj_model), 1)
    state, ctrl = sim.initial_state(), torch.zeros(1, 0, dtype=torch.float64)
    for step in range(600):
        if step == 500:
            data.qvel[:], state = qvel, state._replace(qvel=torch.tensor([qvel], dtype=torch.float64))
        mujoco.mj_step(mj_model, data)
        state = sim.step(state, ctrl)
    return data.qvel, state.qvel[0].numpy()


@pytest.mark.parametrize("floor", FLOORS)
@pytest.mark.parametrize("condim", [3, 4, 6])
def test_a_spinning_and_a_rolling_ball_slow_down_as_in_mujoco(floor, condim):
    theirs, ours = slowed(floor, condim, [0, 0, 0, 0, 0, 20.0])
    assert theirs[5] < 11 if condim > 3 else theirs[5] > 19
    np.testing.assert_allclose(20 - ours[5], 20 - theirs[5], rtol=0.04, atol=0.02)
    # torsion of spin_mu m g on 2/5 m r^2
    np.testing.assert_allclose(20 - ours[5], (condim > 3) * 0.2 * SPIN * 9.81 / 0.004, rtol=0.015, atol=0.02)
    theirs, ours = slowed(floor, condim, [1.0, 0, 0, 0, 10, 0])
    assert theirs[4] < 9.5 if condim == 6 else theirs[4] > 9.9
    np.testing.assert_allclose(10 - ours[4], 10 - theirs[4], rtol=0.02, atol=0.02)
    # it rolls without slipping
    np.testing.assert_allclose(ours[0], 0.1 * ours[4], rtol=1e-3)


# Balls and capsules on a level and a tilted plane, on a box of the world, on each other, on a box that moves.
PILE = """<mujoco><compiler angle="radian"/><option timestep="0.002"/>
  <default><geom condim="{condim}" friction=".7 .05 .02"/></default>
  <custom><numeric name="contact_ke" data="3e3"/><numeric name="contact_kd" data="2e3"/>
    <numeric name="contact_kf" data="40"/></custom>
  <worldbody>
    <geom type="plane" size="1 1 1"/><geom type="plane" size="1 1 1" pos=".1 -.2 -.1" euler=".2 -.3 .4"/>
    <geom type="box" size=".3 .3 .1" pos="0 0 -.05" euler=".1 .2 .3"/>
    <body><freejoint/><geom size=".15" mass="3"/>
      <body pos=".1 0 0"><joint axis="0 1 .2"/><geom size=".1" pos=".1 0 0" mass="2"/></body></body>
    <body><freejoint/><geom type="capsule" size=".1 .2" mass="4"/></body>
    <body><freejoint/><geom type="box" size=".2 .15 .1" conaffinity="2" contype="2" mass="4"/></body>
    <body><freejoint/><geom size=".12" conaffinity="2" contype="3" mass="2"/></body>
  </worldbody></mujoco>"""


@pytest.fixture(scope="module")
def pile():
    """Simulators with condim 3 and 6 of the same bodies, and 8 states in which they touch, from slow to fast."""
    models = [mujoco.MjModel.from_xml_string(PILE.format(condim=condim)) for condim in (3, 6)]
    sims = [ts.Simulator(ts.load(m), 8) for m in models]
    model, rng = sims[0].model, np.random.default_rng(4)
    qpos = np.tile(model.qpos0, (8, 1))
    for adr in model.jnt_qposadr[model.jnt_type == ts.types.JNT_FREE]:
        qpos[:, adr : adr + 3] = rng.uniform(-1, 1, (8, 3)) * [0.25, 0.25, 0.1] + [0, 0, 0.1]
        quat = rng.normal(size=(8, 4))
        qpos[:, adr + 3 : adr + 7] = quat / np.linalg.norm(quat, axis=1, keepdims=True)
    qvel = rng.normal(size=(8, model.nv)) * np.geomspace(1e-3, 6, 8)[:, None]
    return models[1], sims, ts.State(torch.tensor(qpos), torch.tensor(qvel), torch.zeros(8, 0, dtype=torch.float64))


def test_moments_are_what_the_law_says(pile):
    """What condim 6 adds to condim 3, with MuJoCo's normals, depths and Jacobians: spheres on all kinds of floors."""
    mj_model, (without, sim), state = pile
    state, touching, sliding = state._replace(qpos=state.qpos.clone()), 0, set()
    for dof, height in ((8, 5.0), (15, 9.0), (22, 9.0)):
        # the capsule and the box fly, on which MuJoCo may choose other points
        state.qpos[:, dof + 2] += height
    found = sim.forward(state).qfrc_contact - without.forward(state).qfrc_contact
    for world in range(8):
        data = mujoco.MjData(mj_model)
        data.qpos[:], data.qvel[:] = state.qpos[world].numpy(), state.qvel[world].numpy()
        mujoco.mj_forward(mj_model, data)
        expected = np.zeros(mj_model.nv)
        for contact in data.contact:
            n, jac = -contact.frame[:3], 0
            for sign, geom in zip((1, -1), contact.geom, strict=True):
                one = np.zeros((3, mj_model.nv))
                mujoco.mj_jac(mj_model, data, None, one, contact.pos, mj_model.geom_bodyid[geom])
                jac = jac + sign * one
            same = (sim.model.pair_geom1 == contact.geom[0]) & (sim.model.pair_geom2 == contact.geom[1])
            k, spring, w = np.flatnonzero(same)[0], -3e3 * contact.dist, jac @ data.qvel
            spin, roll = n * (n @ w), w - n * (n @ w)
            for part, kind, mu in ((spin, "spin", 0.05), (roll, "roll", 0.02)):
                kf, free = getattr(sim.model, f"pair_{kind}_kf")[k], mu * spring / np.hypot(np.linalg.norm(part), 1e-6)
                expected -= jac.T @ part * min(kf, free)
                sliding.add((kind, free < kf))
            touching += 1
        np.testing.assert_allclose(found[world], expected, rtol=0, atol=1e-9 * max(1, abs(expected).max()))
    assert touching > 12 and len(sliding) == 4


@pytest.mark.parametrize("substeps", [1, 3])
def test_gradients(pile, substeps):
    _, (_, sim), state = pile
    sim.model.opt.substeps = substeps
    pairs = {
        (sim.model.geom_type[a], sim.model.geom_type[b]) for a, b in zip(sim.model.pair_geom1, sim.model.pair_geom2)
    }
    assert len(pairs) == 6
    ctrl = torch.zeros(8, 0, dtype=torch.float64)
    assert_gradient(
        lambda qpos, qvel: weighted(rollout(sim, qpos, qvel, ctrl, 1), 1),
        {"qpos": state.qpos, "qvel": state.qvel},
        {"qpos": 1e-7, "qvel": 1e-6},
    )


def test_a_pair_that_rolls_differently_along_two_axes_is_refused():
    pair = '<contact><pair name="odd" geom1="floor" geom2="ball" condim="{}" friction="1 1 .1 .1 .2"/></contact>'
    text = BALL.format(spin=SPIN, roll=ROLL, floor='name="floor" ' + FLOORS["plane"], condim=3)
    text = text.replace("</worldbody>", "</worldbody>" + pair)
    text = text.replace('size=".1" mass', 'name="ball" size=".1" mass')
    with pytest.raises(ts.UnsupportedModelError, match="contact pair 'odd'.*differs between two directions"):
        ts.load(mujoco.MjModel.from_xml_string(text.format(6)))
    model = ts.load(mujoco.MjModel.from_xml_string(text.format(4)))
    assert model.pair_spin_mu[0] == 0.1 and not model.pair_roll_mu.any()
