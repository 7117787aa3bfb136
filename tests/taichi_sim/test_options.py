"""What may change after a Simulator was made, and what refuses to; values that nothing can be simulated with."""

from __future__ import annotations

import copy
import dataclasses

import mujoco
import numpy as np
import pytest
import torch
from snippets import load_text, mjcf_text

import taichi_sim as ts


@pytest.fixture
def sim() -> ts.Simulator:
    return ts.Simulator(load_text(mjcf_text(flag="")), 2)


def speed(sim: ts.Simulator) -> torch.Tensor:
    return sim.step(sim.initial_state(), torch.zeros(2, 0, dtype=sim.dtype)).qvel[0, 0]


def test_gravity_may_change(sim):
    before = speed(sim)
    sim.model.opt.gravity = sim.model.opt.gravity / 6
    assert speed(sim).item() == pytest.approx(before.item() / 6, rel=1e-12)
    sim.model.opt.gravity[:] = 0.0  # in place, too
    assert speed(sim) == 0
    sim.model.opt.gravity = np.array([0.0, np.nan, 0.0])
    with pytest.raises(ValueError, match="gravity.*three finite numbers"):
        speed(sim)


def test_a_backward_pass_keeps_the_gravity_of_its_step(sim):
    def gradient(change):
        qpos = torch.full((2, 1), 0.4, dtype=sim.dtype, requires_grad=True)
        state = sim.step(sim.initial_state()._replace(qpos=qpos), torch.zeros(2, 0, dtype=sim.dtype))
        if change:
            sim.model.opt.gravity = np.zeros(3)
        return torch.autograd.grad(state.qvel.sum(), qpos)[0]

    assert torch.equal(gradient(False), gradient(True))


def test_timestep_substeps_and_theta_may_change(sim):
    before = speed(sim)
    sim.model.opt.timestep *= 2
    assert speed(sim) == pytest.approx(2 * before.item(), rel=1e-3)
    sim.model.opt.divide(4, theta=0.0)
    assert speed(sim) == pytest.approx(2 * before.item(), rel=1e-2)


@pytest.mark.parametrize("name", ["spring", "damper"])
def test_a_switch_is_of_joints_and_tendons(name):
    text = """<mujoco>{}<worldbody><body><joint name="a" stiffness="3" damping=".2"/><geom size=".1" pos=".3 0 0"/>
    </body></worldbody>
    <tendon><fixed stiffness="5" damping=".7"><joint joint="a" coef="2"/></fixed></tendon></mujoco>"""
    model = load_text(text.format(""))
    setattr(model.opt, name, False)
    mj_model = mujoco.MjModel.from_xml_string(text.format(f'<option><flag {name}="disable"/></option>'))
    data = mujoco.MjData(mj_model)
    data.qpos[:], data.qvel[:] = 0.4, 1.5
    sim = ts.Simulator(model, 1)
    qpos, qvel = (torch.full((1, 1), x, dtype=sim.dtype) for x in (0.4, 1.5))
    found = sim.forward(sim.initial_state()._replace(qpos=qpos, qvel=qvel))
    mujoco.mj_forward(mj_model, data)
    assert found.qacc[0, 0].item() == pytest.approx(data.qacc[0], rel=1e-12)


@pytest.mark.parametrize("name", ["contact", "limit", "spring", "damper", "actuation", "clampctrl", "equality"])
def test_switches_are_compiled_in(sim, name):
    setattr(sim.model.opt, name, not getattr(sim.model.opt, name))
    for call in (speed, lambda sim: sim.forward(sim.initial_state())):
        with pytest.raises(ValueError, match=f"opt.{name} was True.*new Simulator"):
            call(sim)


EVERYTHING = """
<mujoco><compiler angle="radian"/><option><flag {}="disable"/></option>
<worldbody><geom type="plane" size="1 1 1" friction="1 0 0" priority="1"/>
  <body pos="0 0 0.19"><joint name="a" axis="0 1 0" range="-0.1 0.1" limited="true" stiffness="2" damping="0.3"/>
    <geom type="capsule" fromto="0 0 0 0.4 0 0" size="0.05" mass="1"/>
    <body pos="0.4 0 0"><joint name="b" axis="0 1 0" frictionloss="0.2"/>
      <geom type="capsule" fromto="0.1 0 0 0.4 0 0" size="0.05" mass="1"/></body></body>
  <body pos="0 1 0.19"><joint name="c" axis="0 1 0"/><geom type="sphere" pos="0.1 0 0" size="0.2" mass="1"/></body>
</worldbody>
<actuator><motor joint="b" ctrlrange="-0.5 0.5" ctrllimited="true"/></actuator>
<equality><joint joint1="c" joint2="b" polycoef="0 0.5 0 0 0"/></equality></mujoco>
"""
FLAGS = {
    "contact": "contact",
    "limit": "limit",
    "spring": "spring",
    "damper": "damper",
    "friction": "frictionloss",
    "actuation": "actuation",
    "clampctrl": "clampctrl",
    "equality": "equality",
}


@pytest.mark.parametrize("name", FLAGS)
def test_a_switch_does_what_the_files_flag_does(name):
    def after_a_step(flag, switch=None):
        model = ts.load(mujoco.MjModel.from_xml_string(EVERYTHING.format(flag)))
        # equalities of joints have no other
        model.opt.integrator = "theta"
        if switch is not None:
            setattr(model.opt, switch, False)
        sim = ts.Simulator(model, 1)
        state = sim.initial_state()
        state = state._replace(qpos=state.qpos + torch.tensor([[0.2, 0.1, 0.05]]), qvel=state.qvel + 0.3)
        return torch.cat(sim.step(state, torch.full((1, 1), 2.0, dtype=sim.dtype)), dim=1)

    # multiccd stands for nothing: no flag of the file's is in question
    switched, everything = after_a_step("multiccd", name), after_a_step("multiccd")
    assert torch.equal(switched, after_a_step(FLAGS[name]))
    assert not torch.allclose(switched, everything, atol=1e-6)


def test_the_rest_of_a_model_refuses_to_change(sim):
    model = sim.model
    with pytest.raises(ValueError, match="read-only"):
        model.body_mass[1] = 3.0
    with pytest.raises(AttributeError, match="body_mass.*deepcopy.*parameters"):
        model.body_mass = np.ones(2)
    other = copy.deepcopy(model)
    other.body_mass[1] = 3.0
    assert dataclasses.replace(model, body_mass=other.body_mass).body_mass[1] == 3.0
    assert model.body_mass[1] == 2.0


def test_a_payload_gets_its_mass():
    """A body without mass can be given one as a parameter."""
    mj_model = mujoco.MjModel.from_xml_string(mjcf_text(inside='<body name="tool" pos="1 0 0"/>'))
    sim = ts.Simulator(ts.load(mj_model), 2, parameters="body_mass")
    mass = torch.tensor([0.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    mj_model.body_mass[:] = mass.detach()
    data = mujoco.MjData(mj_model)
    mujoco.mj_forward(mj_model, data)
    expected = np.zeros((1, 1))
    mujoco.mj_fullM(mj_model, data, expected)
    inertia = sim.forward(sim.initial_state(), None, {"body_mass": mass}).qM[0, 0, 0].item()
    assert inertia == pytest.approx(expected.item(), rel=1e-12)

    def velocity(mass):
        state = sim.initial_state()._replace(qpos=torch.full((2, 1), 0.5, dtype=torch.float64))
        return sim.step(state, torch.zeros(2, 0, dtype=torch.float64), {"body_mass": mass}).qvel.sum()

    (gradient,) = torch.autograd.grad(velocity(mass), mass)
    for i in (1, 2):
        offset = torch.zeros(3, dtype=torch.float64)
        offset[i] = 1e-4
        difference = (velocity(mass + offset) - velocity(mass - offset)) / 2e-4
        assert gradient[i].item() == pytest.approx(difference.item(), rel=1e-6)


def test_forward_takes_parameters_in_every_form_that_step_does():
    model = load_text(mjcf_text())
    sim = ts.Simulator(model, 2, parameters="body_ipos")
    forms = [[[0, 0, 0], [2, 0, 0]], np.array([[0, 0, 0], [2, 0, 0]], np.float32), torch.tensor([[0, 0, 0], [2, 0, 0]])]
    forms.append(torch.tensor([[[0, 0, 0], [2, 0, 0]]] * 2, dtype=torch.float64))
    for form in forms:
        assert sim.forward(sim.initial_state(), None, {"body_ipos": form}).xipos[1, 1].tolist() == [2.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("name", "value", "error", "words"),
    [
        ("body_mass", [0.0, -1.0], ValueError, r"body_mass\[1\] is -1.*at least 0"),
        ("body_mass", [0.0, float("nan")], FloatingPointError, r"body_mass\[1\] is not finite"),
        ("body_inertia", [[0, 0, 0], [1, 1, -2]], ValueError, r"body_inertia\[1, 2\] is -2"),
        ("dof_damping", [float("inf")], FloatingPointError, r"dof_damping\[0\]"),
    ],
)
def test_parameters_without_meaning_are_named(name, value, error, words):
    sim = ts.Simulator(load_text(mjcf_text()), 2, parameters=name)
    for call in (sim.step, sim.forward):
        with pytest.raises(error, match=words):
            call(sim.initial_state(), torch.zeros(2, 0, dtype=torch.float64), {name: value})


def test_a_callers_autocast_does_not_round_parameters():
    sim = ts.Simulator(load_text(mjcf_text()), 2, parameters=("body_mass", "body_ipos"))
    mass = {"body_mass": [0.0, 2.0 + 2**-30], "body_ipos": [[0, 0, 0], [1.0 + 2**-30, 0, 0]]}
    expected = sim.forward(sim.initial_state(), None, mass).qM
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sim.forward(sim.initial_state(), None, mass).qM, expected)


def test_a_state_that_is_none_is_named(sim):
    for state in (None, torch.zeros(2, 1), (1, 2, 3)):
        with pytest.raises(ValueError, match="state must be a taichi_sim.State"):
            sim.step(state, torch.zeros(2, 0, dtype=sim.dtype))
