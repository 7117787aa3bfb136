"""Equalities that close loops: MuJoCo's accelerations, a linkage in closed form, redundant rows, gradients."""

import mujoco
import numpy as np
import pytest
import torch
import trees
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
    <body pos="0 0 .1" name="head"><joint name="neck" type="ball"/><geom type="capsule" fromto="0 0 0 .05 0 .2" size=".05"/>
      <body pos=".05 0 .2" name="jaw"><joint name="jaw" axis="0 1 0"/>
        <geom type="box" size=".1 .05 .03" pos=".1 0 0"/><site name="chin" pos=".1 0 -.02"/></body></body>
  </body>
  <body name="cart" pos="2 0 1"><joint name="cart" type="slide" axis="1 0 .1"/><geom size=".15"/>
    <body name="pole"><joint name="pole" axis="0 1 0"/><geom type="capsule" fromto="0 0 0 0 0 .5" size=".03"/></body></body>
</worldbody>
<tendon>
  <fixed name="sum"><joint joint="hip" coef="1"/><joint joint="pole" coef="-.7"/></fixed>
  <spatial name="cord"><site site="post"/><site site="chin"/></spatial>
  <spatial name="strap"><site site="heel"/><site site="toe"/></spatial>
</tendon>
<equality>
  <connect body1="shin" body2="back shin" anchor=".1 .05 -.2"/>
  <connect site1="chin" site2="post" solimp=".8 .99 .5 .4 3" solref=".05 .7"/>
  <weld body1="jaw" body2="pole" relpose=".1 .2 .3 .9 .1 .3 -.2" anchor=".1 0 .1" torquescale=".6" solimp=".7 .95 2 .6 2"/>
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
    found = sim.forward(state, ctrl).qacc
    for world in range(WORLDS):
        data = mujoco_data(mj_model, state, ctrl, world)
        assert data.ne == data.nefc == 29
        J, drift = rows_of(mj_model, data)
        gain = data.efc_KBIP.reshape(-1, 4)
        plain = -gain[:, 1] * data.efc_vel - gain[:, 0] * gain[:, 2] * data.efc_pos
        # since its release 4 MuJoCo subtracts that itself for what ties bodies; what ties joints or tendons goes without
        drift[24:] = 0
        if mujoco.mj_version() >= 4000000:
            np.testing.assert_allclose(data.efc_aref, plain - drift, rtol=0, atol=1e-6 * np.abs(plain).max())
            expected, tolerance = data.qacc, 1e-9
        else:
            mass = np.column_stack([mul_mass(mj_model, data, unit) for unit in np.eye(mj_model.nv)])
            force = data.qfrc_smooth + J.T @ ((plain - drift) / data.efc_R)
            expected, tolerance = np.linalg.solve(mass + J.T @ (J / data.efc_R[:, None]), force), 1e-6
        np.testing.assert_allclose(found[world], expected, rtol=0, atol=tolerance * np.abs(expected).max())


def mul_mass(mj_model, data, x):
    y = np.zeros_like(x)
    mujoco.mj_mulM(mj_model, data, y, x)
    return y


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
