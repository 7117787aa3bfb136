"""Equalities that close loops: MuJoCo's accelerations, a linkage in closed form, redundant rows, gradients."""

import copy
import dataclasses
import re

import mujoco
import numpy as np
import pytest
import torch
from batch import mujoco_data, random_batch
from differences import assert_gradient, rollout, weighted

import taichi_sim as ts

# a walker and a cart whose parts are tied to each other and to the world in every way that there is
LOOPS = """<mujoco><compiler angle="radian"/><option timestep="0.004" gravity="0.3 -0.2 -9.81"/>
<default><joint armature="0.02"/><geom contype="0" conaffinity="0" density="600"/></default>
<worldbody>
  <site name="post" pos=".9 .1 .6" euler=".2 .1 -.3"/>
  <body name="torso" pos="0 0 1"><freejoint/><geom type="box" size=".2 .1 .1"/>
    <body name="thigh" pos=".2 0 0"><joint name="hip" axis="0 1 .2" ref=".1"/>
      <geom type="capsule" fromto="0 0 0 .1 0 -.3" size=".05"/>
      <body name="shin" pos=".1 0 -.3"><joint name="knee" axis="0 1 0"/>
        <geom type="capsule" fromto="0 0 0 -.2 0 -.3" size=".04"/><site name="heel" pos="-.2 0 -.3"/></body></body>
    <body name="back thigh" pos="-.2 0 0"><joint name="back hip" axis="0 1 0"/>
      <geom type="capsule" fromto="0 0 0 0 .1 -.3" size=".05"/>
      <body name="back shin" pos="0 .1 -.3"><joint name="back knee" axis="1 1 0"/>
        <geom type="capsule" fromto="0 0 0 0 0 -.3" size=".04"/><site name="toe" pos="0 0 -.3"/></body></body>
    <body pos="0 0 .1" name="head"><joint name="neck" type="ball"/>
      <geom type="capsule" fromto="0 0 0 .05 0 .2" size=".05"/>
      <body pos=".05 0 .2" name="jaw"><joint name="jaw" axis="0 1 0"/>
        <geom type="box" size=".1 .05 .03" pos=".1 0 0"/><site name="chin" pos=".1 0 -.02"/></body></body>
  </body>
  <body name="cart" pos="2 0 1"><joint name="cart" type="slide" axis="1 0 .1"/><geom size=".15"/>
    <body name="pole"><joint name="pole" axis="0 1 0"/>
      <geom type="capsule" fromto="0 0 0 0 0 .5" size=".03"/></body></body>
</worldbody>
<tendon>
  <fixed name="sum"><joint joint="hip" coef="1"/><joint joint="pole" coef="-.7"/></fixed>
  <spatial name="cord"><site site="post"/><site site="chin"/></spatial>
  <spatial name="strap"><site site="heel"/><site site="toe"/></spatial>
</tendon>
<equality>
  <connect body1="shin" body2="back shin" anchor=".1 .05 -.2"/>
  <connect site1="chin" site2="post" solimp=".8 .99 .5 .4 3" solref=".05 .7"/>
  <weld body1="jaw" body2="pole" relpose=".1 .2 .3 .9 .1 .3 -.2" anchor=".1 0 .1" torquescale=".6"
    solimp=".7 .95 2 .6 2"/>
  <weld site1="toe" site2="post" solref="-300 -20"/>
  <weld body1="thigh" torquescale=".8"/>
  <joint joint1="knee" joint2="hip" polycoef=".1 -.8 .3 .2" solimp=".5 .9 3 .5 1"/>
  <joint joint1="cart" polycoef=".2"/>
  <joint joint1="knee" joint2="back knee" polycoef="0 1"/>
  <tendon tendon1="sum" polycoef=".1"/>
  <tendon tendon1="cord" tendon2="strap" polycoef=".05 .4 .3 -.2" solimp=".6 .9 2"/>
</equality>
<actuator><motor joint="knee" gear="3"/><motor joint="pole" gear=".5"/></actuator></mujoco>"""
WORLDS = 4


@pytest.fixture(scope="module")
def tied():
    mj_model = mujoco.MjModel.from_xml_string(LOOPS)
    # MuJoCo's solver is to find what follows from its equations
    mj_model.opt.tolerance, mj_model.opt.iterations = 0, 100
    model = ts.load(mj_model)
    assert np.bincount(model.loop_type).tolist() == [2, 3, 3, 2] and model.neq == 0
    sim = ts.Simulator(model, WORLDS, parameters=("body_mass", "dof_damping"))
    return mj_model, sim, *random_batch(model, WORLDS, 0)


def rows_of(mj_model, data):
    """MuJoCo's Jacobian of the constraints' rows, and what dJ/dt qvel adds to their accelerations."""

    def jacobian(qpos):
        moved = mujoco.MjData(mj_model)
        moved.qpos[:] = qpos
        mujoco.mj_fwdPosition(mj_model, moved)
        return moved.efc_J.reshape(-1, mj_model.nv).copy()

    ends = []
    for step in (1e-4, -1e-4):
        qpos = data.qpos.copy()
        mujoco.mj_integratePos(mj_model, qpos, data.qvel, step)
        ends.append(jacobian(qpos))
    return jacobian(data.qpos), (ends[0] - ends[1]) / 2e-4 @ data.qvel


def test_acceleration_is_mujocos(tied):
    mj_model, sim, state, ctrl = tied
    found = sim.forward(state, ctrl)
    for world in range(WORLDS):
        data = mujoco_data(mj_model, state, ctrl, world)
        assert data.ne == data.nefc == 29
        J, drift = rows_of(mj_model, data)
        gain = data.efc_KBIP.reshape(-1, 4)
        plain = -gain[:, 1] * data.efc_vel - gain[:, 0] * gain[:, 2] * data.efc_pos
        # since its release 4 MuJoCo subtracts that itself for what ties bodies; the other rows go without
        drift[24:] = 0
        if mujoco.mj_version() >= 4000000:
            np.testing.assert_allclose(data.efc_aref, plain - drift, rtol=0, atol=1e-6 * np.abs(plain).max())
            expected, tolerance = data.qacc, 1e-9
        else:
            mass = found.qM[world].numpy()
            force = data.qfrc_smooth + J.T @ ((plain - drift) / data.efc_R)
            expected, tolerance = np.linalg.solve(mass + J.T @ (J / data.efc_R[:, None]), force), 1e-6
        np.testing.assert_allclose(found.qacc[world], expected, rtol=0, atol=tolerance * np.abs(expected).max())


def test_a_saved_model_is_the_same(tied, tmp_path):
    model = copy.deepcopy(tied[1].model)
    ts.save(model, tmp_path / "tied.npz")
    again = ts.load(tmp_path / "tied.npz")
    names = [field.name for field in dataclasses.fields(model) if field.name.startswith("loop_")]
    assert len(names) == 14 and all(np.array_equal(getattr(again, n), getattr(model, n)) for n in names)
    for name in ("loop_obj1", "loop_obj2"):
        broken = copy.deepcopy(model)
        getattr(broken, name)[0] = broken.nbody
        ts.save(broken, tmp_path / "broken.npz")
        with pytest.raises(ts.ModelError, match=f"{name} must be from 0"):
            ts.load(tmp_path / "broken.npz")


def test_gradient(tied):
    _, sim, state, ctrl = tied
    values = {"qpos": state.qpos, "qvel": state.qvel, "ctrl": ctrl}
    model = sim.model
    values["mass"] = torch.tensor(model.body_mass).expand(WORLDS, -1).clone()
    values["damping"] = torch.full((WORLDS, model.nv), 0.3, dtype=torch.float64)

    def loss(qpos, qvel, ctrl, mass, damping):
        return weighted(rollout(sim, qpos, qvel, ctrl, 2, {"body_mass": mass, "dof_damping": damping}), 1)

    # the loss is nearly linear in controls and damping
    assert_gradient(loss, values, {"ctrl": 1e-2, "damping": 1e-3, "mass": 1e-4})


# ---- linkages -------------------------------------------------------------------------------------------------------

# two cranks and a coupler that stays level; rods of 0.5 and 1 m
LINK = '<inertial mass="{mass}" pos="{pos}" diaginertia="1 {inertia} 1"/>'
CRANK = LINK.format(mass=0.6, pos="0 0 -.25", inertia=0.6 * 0.25 / 12)
FOUR_BAR = f"""<mujoco><option timestep="0.001"/><worldbody>
<body><joint axis="0 1 0"/>{CRANK}
  <body name="coupler" pos="0 0 -.5"><joint axis="0 1 0"/>
    {LINK.format(mass=0.9, pos=".5 0 0", inertia=0.1)}</body></body>
<body name="crank" pos="1 0 0"><joint axis="0 1 0"/>{CRANK}</body></worldbody>
<equality>CONNECT</equality></mujoco>"""
PIN = '<connect body1="coupler" body2="crank" anchor="1 0 0" solimp=".9999 .9999 .001"/>'


def pendulum(angle, seconds):
    """The crank's angle and speed by Runge and Kutta's method: the linkage is a pendulum, its coupler does not turn."""
    inertia, weight = 2 * 0.6 * 0.25 / 3 + 0.9 * 0.25, 9.81 * 0.5 * (0.6 + 0.9)
    state, h = np.array([angle, 0.0]), 1e-3

    def rate(x):
        return np.array([x[1], -weight / inertia * np.sin(x[0])])

    for _ in range(round(seconds / h)):
        a = rate(state)
        b = rate(state + h / 2 * a)
        c = rate(state + h / 2 * b)
        state = state + h / 6 * (a + 2 * b + 2 * c + rate(state + h * c))
    return state


# two pins in one place share the load, and rows of the y axis hold nothing that could move
@pytest.mark.parametrize("pins", [1, 2])
def test_a_four_bar_linkage_is_a_pendulum(pins):
    sim = ts.Simulator(ts.load(mujoco.MjModel.from_xml_string(FOUR_BAR.replace("CONNECT", pins * PIN))), 1)
    ends, gaps = [], []
    for substeps in (1, 2):
        sim.model.opt.timestep, sim.model.opt.substeps = 0.001 / substeps, substeps
        state = ts.State(*(torch.tensor([x]).double() for x in ([1.0, -1.0, 1.0], [0.0] * 3, [])))
        for _ in range(1000):
            state = sim.step(state, torch.zeros(1, 0).double())
        q = state.qpos[0]
        gaps.append(float((q[0] - q[2]).abs() + (q[0] + q[1]).abs()))
        ends.append(np.array([q[0], state.qvel[0, 0]]))
    assert max(gaps) < 1e-5
    exact = pendulum(1.0, 1.0)
    # of first order: what is left without that part is the second's
    first = np.abs(ends[1] - ends[0]).max()
    assert 1e-4 < first < 1e-2
    np.testing.assert_allclose(2 * ends[1] - ends[0], exact, rtol=0, atol=0.05 * first)


# ---- a leg as it is built -------------------------------------------------------------------------------------------

# Cassie's left leg below the hip, with the figures of MuJoCo Menagerie's agility_cassie/cassie.xml (MIT licence): two
# closed loops, one through a rod on a ball joint
LEG = """<mujoco><compiler autolimits="true"/><option timestep=".0005"/>
<default><equality solref=".005 1"/></default><worldbody>
<body pos="0 0 1"><joint name="pitch" axis="0 1 0" damping="1" armature=".09344"/>
  <inertial pos=".05946 0 -.03581" mass="5.52" diaginertia=".010898 .029714 .030257"/>
  <body name="achilles" pos="0 0 .045" xyaxes=".7922 -.60599 -.072096 .60349 .79547 -.054922">
    <joint type="ball" damping=".01"/>
    <inertial pos=".24719 0 0" mass=".1567" diaginertia="3.754e-6 .004487 .004488"/></body>
  <body pos=".12 0 .0045" xyaxes=".70711 -.70711 0 .70711 .70711 0">
    <joint name="knee" ref="-45" damping="1" armature=".09344"/>
    <inertial pos=".023 .03207 -.002181" mass=".9438" fullinertia=".001376 .0010335 .0021637 -.00039744 0 0"/>
    <body pos=".06068 .04741 0"><joint stiffness="1500" damping=".1"/>
      <inertial pos=".18338 .001169 .0002123" mass=".577" fullinertia=".00035939 .014728 .014707 -.00020981 0 0"/>
      <body pos=".43476 .02 0" xyaxes=".52992 .84805 0 -.84805 .52992 0"><joint ref="58" damping=".1"/>
        <inertial pos=".11046 -.03058 -.00131" mass=".782" fullinertia=".00039238 .013595 .013674 .00023651 0 0"/>
        <body name="heel" pos="-.01269 -.03059 .00092" xyaxes="-.91211 .40829 .036948 -.40992 -.90952 -.068841">
          <joint stiffness="1250"/>
          <inertial pos=".081 .0022 0" mass=".126" diaginertia="2.959e-5 .00022231 .0002007"/></body>
        <body pos=".058 -.034 .02275"><joint damping="1"/>
          <inertial pos=".00493 0 -.00215" mass=".1261" diaginertia="2.6941e-5 4.9621e-5 6.3362e-5"/>
          <body name="plantar" pos=".055 0 -.00791"><joint/>
            <inertial pos=".17792 0 0" mass=".1186" diaginertia="2.779e-6 .001774 .001775"/></body></body>
        <body name="foot" pos=".408 -.04 0"><joint name="foot" damping="1" armature=".01225"/>
          <inertial pos=".00474 .02748 0" mass=".1498" diaginertia=".00017388 .00016793 .00033261"/></body>
</body></body></body></body></worldbody>
<equality><connect name="ankle" body1="plantar" body2="foot" anchor=".35012 0 0"/>
  <connect name="hock" body1="achilles" body2="heel" anchor=".5012 0 0"/></equality>
<actuator><motor joint="pitch" gear="16"/><motor joint="knee" gear="16"/><motor joint="foot" gear="50"/></actuator>
</mujoco>"""


@pytest.mark.parametrize("damped", [False, True])
def test_cassies_leg_moves_and_yields_as_in_mujoco(damped):
    """Torques of a tenth of its motors' for half a second. Without damping the step is MuJoCo's own."""
    mj_model = mujoco.MjModel.from_xml_string(LEG if damped else re.sub(' damping="[^"]*"', "", LEG))
    sim = ts.Simulator(ts.load(mj_model), 1)
    data, here, state = mujoco.MjData(mj_model), mujoco.MjData(mj_model), sim.initial_state()
    rng, steps, apart, opened = np.random.default_rng(0), 1000 if damped else 200, 0.0, []
    for step in range(steps):
        if step % 100 == 0:
            ctrl = rng.uniform(-1, 1, 3) * [1.2, 1.2, 0.09]
        state = sim.step(state, torch.tensor(ctrl)[None])
        data.ctrl[:] = ctrl
        mujoco.mj_step(mj_model, data)
        if step % 20 == 19:
            gaps, places = [], []
            for qpos in (state.qpos[0].numpy(), data.qpos):
                here.qpos[:] = qpos
                mujoco.mj_fwdPosition(mj_model, here)
                gaps.append(np.abs(here.efc_pos).max())
                places.append(here.xpos.copy())
            apart = max(apart, np.abs(places[0] - places[1]).max())
            opened.append(gaps)
    ours, theirs = np.array(opened).T
    assert apart < theirs.max()
    if damped:
        # under a load of 200 N it gives way by 1.5 mm, in MuJoCo, too: the solref and solimp of the file
        assert 1e-3 < theirs.max() < 2e-3
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.05 * theirs.max())
    else:
        assert apart < 1e-9 and np.abs(ours - theirs).max() < 1e-9 < 1e-4 < ours.max()
