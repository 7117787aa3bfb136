"""MuJoCo's own steps, digit by digit: accelerations that are damped after constraints are solved; their gradients."""

from __future__ import annotations

import copy
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
import trees
from batch import around, mujoco_data
from differences import assert_gradient, rollout, weighted
from snippets import BEFORE_4

import taichi_sim as ts

# Limits, contacts with the floor and between bodies, a ball joint; one servo that reaches its largest force.
SCENE = """<mujoco><option integrator="{integrator}" timestep="0.004" cone="{cone}"/>
<worldbody><geom type="plane" size="5 5 .1"/>
  <body pos="0 0 .3"><freejoint/><geom type="capsule" size=".1 .2" euler="0 90 0" mass="2"/>
    <body pos=".25 0 0"><joint name="a" axis="0 1 0" damping=".3" range="-40 40" limited="true"/>
      <geom size=".08" pos=".3 0 0" mass="1"/>
      <body pos=".5 0 0"><joint name="b" axis="0 1 1" damping=".1" armature=".01"/>
        <geom size=".1" pos=".2 0 0" mass="1"/>
        <body pos=".2 0 0"><joint type="ball" damping=".05"/><geom size=".05" pos=".2 0 0" mass=".3"/></body>
      </body></body>
    <body pos="-.25 0 0"><joint name="c" axis="1 1 0"/><geom size=".09" pos="-.2 .1 0" mass="1"/></body></body>
  <body pos=".1 .1 1.2"><freejoint/><geom type="box" size=".1 .1 .1" mass="1"/>
    <body><joint name="d" type="slide"/><geom size=".03" pos="0 0 .2" mass=".2"/></body></body>
</worldbody><actuator>
  <position joint="a" kp="20" kv="2"/><motor joint="b" gear="3"/>
  <position joint="c" kp="50" kv="3" gear="2" forcerange="-6 6"/><velocity joint="d" kv=".5"/>
</actuator></mujoco>"""
ARM = Path(__file__).parents[2] / "arm26.xml"
COUPLED = '<equality><joint joint1="a" joint2="b" polycoef=".1 .5 .2"/><joint joint1="d" polycoef=".05"/></equality>'
# Joints of one chain, which "implicitfast" couples, of another branch and of another body, which it does not.
TENDONS = """<tendon><fixed name="t" damping="2"><joint joint="a" coef=".5"/><joint joint="b" coef="-.7"/>
  <joint joint="c" coef=".4"/><joint joint="d" coef="2"/></fixed>
  <fixed name="u"><joint joint="b" coef="1"/><joint joint="c" coef="1"/><joint joint="a" coef=".3"/></fixed></tendon>
<actuator><position tendon="u" kp="30" kv="4" gear="1.5" forcerange="-20 20"/>"""
PATH = """<worldbody><site name="one"/><body pos="0 0 3"><joint/><geom size=".1" pos=".1 0 0"/><site name="two"/></body>
</worldbody><tendon><spatial name="p" damping="1"><site site="one"/><site site="two"/></spatial></tendon>"""
# Of every kind; the first one comes to its limits.
ACTIVATIONS = """<general joint="a" dyntype="integrator" gainprm="3" actlimited="true" actrange="-.05 .1"/>
<general joint="b" dyntype="filter" dynprm=".03" gainprm="5"/>
<general joint="c" dyntype="filterexact" dynprm=".005" gainprm="5" ctrllimited="true" ctrlrange="-.5 .5"/>
<muscle joint="d" lengthrange="0 1" force="20"/>
<muscle joint="b" lengthrange="-1 1" timeconst=".005 .02" tausmooth=".3" force="9"/></actuator>"""
KINDS = ["Euler", "implicitfast", "implicit", "RK4"]
# Two that are free and alone, one of them with a part that is fixed to it, and an arm.
LONE = """<mujoco><option integrator="implicitfast" timestep="0.004"/><worldbody><geom type="plane" size="5 5 .1"/>
  <body pos="0 0 1"><joint name="a" axis="0 1 0" damping=".2"/><geom size=".05" pos=".3 0 0" mass="1"/>
    <body pos=".6 0 0"><joint axis="0 0 1" stiffness="2"/><geom size=".06" pos=".2 0 .1" mass="1"/></body></body>
  <body pos="0 1 .3"><freejoint/><geom size=".1" pos=".1 .05 .02"/>
    <inertial pos=".06 .03 .02" mass="1.3" diaginertia=".02 .03 .045"/></body>
  <body pos="0 -1 .4"><freejoint/><geom size=".1" mass="1"/>
    <body pos=".2 .1 .3"><geom size=".08" mass=".5"/></body></body>
</worldbody><actuator><motor joint="a"/></actuator></mujoco>"""


def scene(integrator: str, cone: str = "pyramidal") -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(SCENE.format(integrator=integrator, cone=cone))


def begin(mj_model: mujoco.MjModel, worlds: int, steps: int, seed: int = 0) -> tuple[ts.State, torch.Tensor]:
    """States of MuJoCo's after some steps from random velocities, and controls."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(worlds):
        data = mujoco.MjData(mj_model)
        data.qvel[:], data.ctrl[:] = rng.normal(size=mj_model.nv), rng.normal(size=mj_model.nu)
        mujoco.mj_step(mj_model, data, steps)
        rows.append((data.qpos.copy(), data.qvel.copy(), data.act.copy(), data.ctrl.copy()))
    qpos, qvel, act, ctrl = (torch.as_tensor(np.array(column)) for column in zip(*rows, strict=True))
    return ts.State(qpos, qvel, act), ctrl


def assert_steps(mj_model: mujoco.MjModel, steps: int, worlds: int = 3, kick: float = 0.0) -> int:
    """Every step of MuJoCo's is the engine's, to rounding. Returns how many contacts there were at most.

    Every 40 steps velocities are changed by `kick` times standard normal numbers.
    """
    if mj_model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4 and BEFORE_4:
        pytest.skip("before release 4, MuJoCo's RK4 goes other ways for balls and free joints (docs/models.md)")
    # its solver stops at a tolerance, ours does not
    mj_model.opt.tolerance, mj_model.opt.iterations = 0.0, 200
    sim = ts.Simulator(ts.load(mj_model), worlds)
    state, ctrl = begin(mj_model, worlds, 0)
    datas, touched = [mujoco_data(mj_model, state, ctrl, world) for world in range(worlds)], 0
    rng = np.random.default_rng(1)
    for step in range(steps):
        if step % 40 == 0:
            for data in datas:
                data.qvel[:] += kick * rng.normal(size=mj_model.nv)
        now = (torch.as_tensor(np.array([getattr(x, name) for x in datas])) for name in ts.State._fields)
        after = sim.step(ts.State(*now), ctrl)
        for world, data in enumerate(datas):
            mujoco.mj_step(mj_model, data)
            touched = max(touched, data.ncon)
            scale = 1 + np.abs(data.qvel).max()
            np.testing.assert_allclose(after.qvel[world], data.qvel, rtol=0, atol=1e-9 * scale)
            np.testing.assert_allclose(after.qpos[world], data.qpos, rtol=0, atol=1e-11)
            np.testing.assert_allclose(after.act[world], data.act, rtol=0, atol=1e-11)
    return touched


@pytest.mark.parametrize("cone", ["pyramidal", "elliptic"])
@pytest.mark.parametrize("integrator", KINDS)
def test_steps_are_mujocos(integrator, cone):
    mj_model = scene(integrator, cone)
    assert ts.load(mj_model).opt.integrator == integrator
    assert assert_steps(mj_model, 250) >= 5


@pytest.mark.parametrize(
    "integrator, cone", [("Euler", "elliptic"), ("implicitfast", "pyramidal"), ("RK4", "elliptic")]
)
def test_equalities_of_joints_step_as_mujocos(integrator, cone):
    """Rows that give way, which our own step has exactly instead; beside contacts that begin and end."""
    # MuJoCo finds the contact of a capsule with a box twice
    text = SCENE.replace('type="box" size=".1 .1 .1"', 'size=".12"').replace("</actuator>", f"</actuator>{COUPLED}")
    mj_model = mujoco.MjModel.from_xml_string(text.format(integrator=integrator, cone=cone))
    model = ts.load(mj_model)
    assert (model.neq, len(model.loop_type)) == (0, 2)
    assert assert_steps(mj_model, 240, 8, kick=3.0) >= 3
    sim = ts.Simulator(model, 3)
    state, ctrl = begin(mj_model, 3, 20)
    arguments = {"qpos": state.qpos, "qvel": state.qvel, "ctrl": ctrl}
    assert_gradient(lambda qpos, qvel, ctrl: weighted(rollout(sim, qpos, qvel, ctrl, 2), 0), arguments, {"qpos": 1e-7})
    mj_model.opt.integrator, mj_model.opt.viscosity = mujoco.mjtIntegrator.mjINT_IMPLICIT, 1.0
    assert ts.load(mj_model).neq == 2


def test_what_is_free_and_alone_has_implicit_coriolis_forces():
    """By "implicitfast", as MuJoCo has it from release 4 on, and nothing else has; and gradients, in masses too."""
    mj_model = mujoco.MjModel.from_xml_string(LONE)
    model = ts.load(mj_model)
    assert (model.opt.integrator, model.opt.coriolis) == ("implicitfast", False)
    assert assert_steps(mj_model, 200, 4, kick=4.0) >= 2
    sim = ts.Simulator(model, 3, parameters="body_mass")
    state, ctrl = begin(mj_model, 3, 10)
    state = state._replace(qvel=5 * state.qvel)
    mass = torch.tensor(model.body_mass).repeat(3, 1)

    def function(qpos, qvel, mass):
        now = sim.step(ts.State(qpos, qvel, state.act), ctrl, {"body_mass": mass})
        return weighted(sim.step(now, ctrl, {"body_mass": mass}), 0)

    assert_gradient(function, {"qpos": state.qpos, "qvel": state.qvel, "mass": mass}, {"qpos": 1e-7, "mass": 1e-5})


def tendons() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(
        SCENE.format(integrator="implicitfast", cone="pyramidal").replace("<actuator>", TENDONS)
    )


def test_fixed_tendons_are_damped_as_mujocos():
    """By "implicitfast", as far as they couple joints with their ancestors; and gradients."""
    mj_model = tendons()
    model = ts.load(mj_model)
    assert model.opt.integrator == "implicitfast"
    assert assert_steps(mj_model, 240, 4, kick=2.0) >= 3
    sim = ts.Simulator(model, 3)
    state, ctrl = begin(mj_model, 3, 20)
    arguments = {"qpos": state.qpos, "qvel": state.qvel, "ctrl": ctrl}
    assert_gradient(lambda qpos, qvel, ctrl: weighted(rollout(sim, qpos, qvel, ctrl, 2), 0), arguments, {"qpos": 1e-7})


# Rows of every kind: all equalities, limits and dry friction of joints, balls and tendons, contacts of spheres.
EVERYTHING = """<mujoco><option timestep="0.002" cone="{cone}"/>
<default><geom friction=".8 .01 .002" condim="{condim}"/></default>
<worldbody><geom type="plane" size="5 5 .1"/>
  <body name="trunk" pos="0 0 .3"><freejoint/><geom size=".12" mass="2"/><site name="one" pos="0 .1 0"/>
    <body pos=".25 0 0"><joint name="a" axis="0 1 0" damping=".3" range="-40 40" limited="true" frictionloss=".3"/>
      <geom size=".08" pos=".3 0 0" mass="1"/>
      <body pos=".5 0 0"><joint name="b" axis="0 1 1" damping=".1" armature=".01" frictionloss=".1"/>
        <geom size=".1" pos=".2 0 0" mass="1"/><site name="two" pos=".2 0 0"/>
        <body name="hand" pos=".2 0 0"><joint type="ball" damping=".05" range="0 60" limited="true"/>
          <geom size=".05" pos=".2 0 0" mass=".3"/></body></body></body>
    <body name="arm" pos="-.25 0 0"><joint name="c" axis="1 1 0"/>
      <geom size=".09" pos="-.2 .1 0" mass="1"/></body></body>
  <body pos=".1 .1 .5"><freejoint/><geom size=".1" mass="1"/>
    <body name="slider"><joint name="d" type="slide" frictionloss=".5" range="-.1 .1" limited="true"/>
      <geom size=".05" pos="0 0 .25" mass=".2"/><site name="three" pos="0 0 .25"/></body></body>
</worldbody>
<tendon><spatial name="t" limited="true" range="0 .99" frictionloss=".4" damping=".1">
    <site site="one"/><site site="two"/></spatial>
  <spatial name="u" limited="true" range=".1 .6" stiffness="3">
    <site site="one"/><site site="three"/></spatial></tendon>
<equality><weld body1="arm" body2="slider" solref=".05 1"/>
  <connect body1="hand" body2="trunk" anchor="0 0 .1" solref=".06 1"/>
  <joint joint1="c" joint2="b" polycoef="0 .5"/><tendon tendon1="t" tendon2="u" polycoef="0 .5"/></equality>
<actuator><position joint="a" kp="20"/><motor joint="b" gear="3"/><motor joint="c"/>
  <velocity joint="d" kv=".5"/></actuator>
</mujoco>"""


@pytest.mark.parametrize("cone, condim", [("elliptic", 3), ("pyramidal", 4)])
def test_rows_of_every_kind_step_as_mujocos(cone, condim):
    mj_model = mujoco.MjModel.from_xml_string(EVERYTHING.format(cone=cone, condim=condim))
    assert assert_steps(mj_model, 200, 8, kick=1.5) >= 3


def test_trees_and_tendons_step_as_mujocos():
    """Springs, tendons that wrap, pulleys, actuators of all kinds, whose damping is explicit there."""
    spec = mujoco.MjSpec.from_string(trees.random_tree(np.random.default_rng(3), num_bodies=12, num_actuators=6))
    spec.option.integrator, spec.option.timestep = mujoco.mjtIntegrator.mjINT_EULER, 0.002
    mj_model = spec.compile()
    assert mj_model.dof_damping.any()
    assert ts.load(mj_model).opt.integrator == "Euler"
    assert_steps(mj_model, 100)


def test_muscles_step_as_mujocos():
    """Their activations by Euler's step, too; and gradients in them."""
    mj_model = mujoco.MjModel.from_xml_path(str(ARM))
    assert mj_model.na == 6
    assert_steps(mj_model, 100)
    sim = ts.Simulator(ts.load(mj_model), 3)
    state, ctrl = around(mj_model, 3, 0.1, 0)

    def function(qpos, qvel, act, ctrl):
        now = sim.step(sim.step(ts.State(qpos, qvel, act), ctrl), ctrl)
        return sum((x * torch.linspace(1, 2, x.shape[1], dtype=x.dtype)).sum(1) for x in now)

    assert_gradient(function, {**state._asdict(), "ctrl": ctrl})


def test_activations_go_through_the_stages_of_runge_kutta():
    """As MuJoCo's; and gradients, in time constants too."""
    text = SCENE.format(integrator="RK4", cone="elliptic").replace("</actuator>", ACTIVATIONS)
    mj_model = mujoco.MjModel.from_xml_string(text)
    model = ts.load(mj_model)
    assert (model.opt.integrator, model.na) == ("RK4", 5)
    assert_steps(mj_model, 120, 4, kick=2.0)
    sim = ts.Simulator(model, 2, parameters="muscle_timeconst")
    state, ctrl = begin(mj_model, 2, 20)
    # within all limits; the muscles' activations, of 0 there, and controls too
    state = state._replace(act=0.5 * state.act + torch.tensor([0.0, 0.0, 0.0, 0.3, 0.4]))
    ctrl[:, -2:] = 0.2 + 0.5 * ctrl[:, -2:].abs()
    times = torch.tensor(model.muscle_timeconst).repeat(2, 1, 1)

    def function(qpos, qvel, act, ctrl, times):
        now = sim.step(ts.State(qpos, qvel, act), ctrl, {"muscle_timeconst": times})
        now = sim.step(now, ctrl, {"muscle_timeconst": times})
        return sum((x * torch.linspace(1, 2, x.shape[1], dtype=x.dtype)).sum(1) for x in now)

    arguments = {**state._asdict(), "ctrl": ctrl, "times": times}
    assert_gradient(function, arguments, {"qpos": 1e-7, "times": 1e-7})


@pytest.mark.parametrize("integrator", KINDS)
@pytest.mark.parametrize("steps", [5, 120])
def test_gradients_are_those_of_the_step(integrator, steps):
    """In the air, and where it lies."""
    mj_model = scene(integrator)
    model = ts.load(mj_model)
    model.opt.substeps = 2
    sim = ts.Simulator(model, 3)
    state, ctrl = begin(mj_model, 3, steps)
    arguments = {"qpos": state.qpos, "qvel": state.qvel, "ctrl": ctrl}
    # a corner that lies loosely comes off within a thousandth of a millimetre
    function = lambda qpos, qvel, ctrl: weighted(rollout(sim, qpos, qvel, ctrl, 2), 0)  # noqa: E731
    assert_gradient(function, arguments, {"qpos": 1e-7})


@pytest.mark.parametrize(
    "name", ["body_mass", "body_ipos", "dof_armature", "dof_damping", "actuator_biasprm", "actuator_gainprm"]
)
@pytest.mark.parametrize("integrator", [*KINDS, "tendons"])
def test_gradients_of_parameters(integrator, name):
    mj_model = tendons() if integrator == "tendons" else scene(integrator)
    model = ts.load(mj_model)
    sim = ts.Simulator(model, 2, parameters=name)
    state, ctrl = begin(mj_model, 2, 120)
    values = torch.tensor(getattr(model, name)).flatten().repeat(2, 1)

    def function(values):
        shaped = values.reshape(2, *sim._parameters.shapes[name])
        return weighted(sim.step(state, ctrl, {name: shaped}), 0)

    # inertias of the smallest bodies are 1e-4 kg m^2
    assert_gradient(function, {"values": values}, {"values": 1e-7 if name == "dof_armature" else 1e-5})


def test_what_is_fitted_is_damped_from_nothing():
    """A damping that is 0 in the file may grow."""
    text = '<mujoco><worldbody><body><joint/><geom size=".1" pos="1 0 0"/></body></worldbody></mujoco>'
    sim = ts.Simulator(ts.load(mujoco.MjModel.from_xml_string(text)), 1, parameters="dof_damping")
    state = sim.initial_state()
    state.qvel[:] = 1.0
    damping = torch.full((1, 1), 40.0, dtype=torch.float64)
    after = sim.step(state, torch.zeros(1, 0, dtype=torch.float64), {"dof_damping": damping})
    mj_model = mujoco.MjModel.from_xml_string(text.replace("<joint/>", '<joint damping="40"/>'))
    data = mujoco.MjData(mj_model)
    data.qvel[:] = 1.0
    mujoco.mj_step(mj_model, data)
    np.testing.assert_allclose(after.qvel[0], data.qvel, rtol=1e-12)


def test_which_files_have_it():
    """The file's integrator, but where it is another one, or C is not that of dofs alone."""
    model = ts.load(scene("Euler"))
    for changes, expected in (
        (("", ""), "implicitfast"),
        (('"implicitfast"', '"RK4"'), "RK4"),
        (('"implicitfast"', '"implicit"'), "implicit"),
        (("<worldbody>", '<custom><numeric name="theta" data="1"/></custom><worldbody>'), "theta"),
        (("<worldbody>", '<custom><text name="constraint" data="penalty"/></custom><worldbody>'), "theta"),
        (('cone="', 'viscosity="1" cone="'), "theta"),
        (("<motor joint", '<muscle joint="d" lengthrange="0 1"/><motor joint'), "theta"),
        (('<motor joint="b" gear="3"/>', '<general joint="b" gaintype="affine" gainprm="1 0 -1"/>'), "theta"),
        (("</actuator>", f"</actuator>{COUPLED}"), "implicitfast"),
        (
            ("</actuator>", '</actuator><tendon><fixed damping="1"><joint joint="a" coef="1"/></fixed></tendon>'),
            "implicitfast",
        ),
        (("</actuator>", f"</actuator>{PATH}"), "theta"),
        (("</actuator>", f'<velocity tendon="p" kv="1"/></actuator>{PATH.replace("damping", "stiffness")}'), "theta"),
    ):
        text = SCENE.format(integrator="implicitfast", cone="pyramidal").replace(*changes)
        assert ts.load(mujoco.MjSpec.from_string(text)).opt.integrator == expected, changes
    text = SCENE.format(integrator="Euler", cone="pyramidal")
    flag = text.replace('cone="pyramidal"/>', 'cone="pyramidal"><flag eulerdamp="disable"/></option>')
    explicit = ts.load(mujoco.MjSpec.from_string(flag)).opt
    assert (explicit.integrator, explicit.theta) == ("theta", 0.0)
    # by the penalty it is our own step, for Runge-Kutta's with as many evaluations
    model.opt.constraint = "penalty"
    sim = ts.Simulator(model)
    assert sim._m.integrator == "theta" and sim._plan() == (0.004, 0.6 * 0.004, 1)
    model = ts.load(scene("RK4"))
    model.opt.constraint = "penalty"
    assert ts.Simulator(model)._plan() == (0.001, 0.6 * 0.001, 4)


def test_a_model_that_cannot_have_it_says_so():
    model = ts.load(scene("implicitfast"))
    for change, reason in (
        ({"viscosity": 1.0}, "fluid"),
        ({"coriolis": True}, "Coriolis"),
        ({"integrator": "midpoint"}, "none of"),
    ):
        other = copy.deepcopy(model)
        vars(other.opt).update(change)
        with pytest.raises(ValueError, match=reason):
            ts.Simulator(other)
