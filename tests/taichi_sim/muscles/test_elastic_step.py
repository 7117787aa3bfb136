"""Elastic tendons of muscles in a moving body: gradients, equilibrium, and what is refused."""

from __future__ import annotations

import re

import mujoco
import pytest
import torch
from batch import random_batch
from differences import assert_gradient, rollout, weighted
from test_tendon import BODY

import taichi_sim as ts

# Of all kinds: on a path and on a fixed tendon, with gear, on a joint, without activation dynamics, clamped, rigid.
MUSCLES = """
    <muscle name="plain" tendon="straight" lengthrange="0.3 0.9" range="0.2 1.4" force="50" vmax="8"/>
    <muscle name="across" tendon="across" lengthrange="0.9 1.8" range="0.4 1.5" force="30" vmax="10" gear="1.1"/>
    <muscle name="fixed" tendon="fixed" lengthrange="1.6 6" range="0.4 1.6" force="5" vmax="10"/>
    <muscle name="joint" joint="knee" lengthrange="0.5 2" range="0.2 1.4" force="10" vmax="10"/>
    <muscle name="clamped" tendon="grounded" lengthrange="1.6 4" range="0.4 1.5" force="40" vmax="8"
            forcelimited="true" forcerange="-15 0"/>
    <muscle name="rigid" tendon="limited" lengthrange="0.8 2.5" range="0.4 1.5" force="20" vmax="10"/>
    <general name="direct" tendon="straight" gaintype="muscle" biastype="muscle" dyntype="none" lengthrange="0.3 1"
             gainprm="0.3 1.4 15 200 0.5 1.6 10 1.3 1.2" biasprm="0.3 1.4 15 200 0.5 1.6 10 1.3 1.2"/>
"""
CUSTOM = """<custom>
    <text name="muscle_law" data="degroote_fregly"/> <text name="muscle_tendon" data="{tendon}"/>
    <numeric name="muscle_pennation" data="0.3"/> <numeric name="muscle_damping" data="0.05"/>
    <numeric name="muscle_strain" data="{strain}"/> <numeric name="muscle_strain:rigid" data="0"/>
    <numeric name="muscle_strain:across" data="{other}"/></custom>"""
PARAMETERS = ("muscle_force", "muscle_optimal_length", "muscle_slack_length", "muscle_timeconst")


def load(strain: float = 0.05, other: float | None = None, tendon: str = "elastic", text: str = "") -> ts.Model:
    custom = CUSTOM.format(tendon=tendon, strain=strain, other=strain if other is None else other)
    # wrapping takes longest to compile, and what wraps is tested elsewhere
    body = re.sub("<geom geom=.*?/>", "", BODY).format(custom=text or custom, actuators=MUSCLES)
    model = ts.load(mujoco.MjSpec.from_string(body))
    model.opt.substeps = 4
    return model


class Scene:
    def __init__(self, model: ts.Model, parameters=PARAMETERS, num_worlds: int = 4):
        self.model, self.sim = model, ts.Simulator(model, num_worlds, parameters=parameters)
        state, ctrl = random_batch(model, num_worlds, seed=3)
        # the same numbers on every device
        generator = torch.Generator("cpu").manual_seed(0)

        def draw(*shape) -> torch.Tensor:
            return torch.rand(shape, generator=generator, dtype=torch.float64, device="cpu").to(self.sim.device)

        act = 0.05 + 0.9 * draw(*state.act.shape)
        self.ctrl = 0.05 + 0.9 * draw(*ctrl.shape)
        state = self.sim.equilibrium(state._replace(act=act), self.ctrl)
        # out of equilibrium by up to a third of the peak strain
        strain = torch.tensor(model.muscle_tendon_strain[model.muscle_tendonadr >= 0])
        number = len(strain)
        offset = 0.3 * strain * (2 * draw(num_worlds, number) - 1)
        act = state.act.clone()
        act[:, len(act[0]) - number :] += offset
        self.state = state._replace(act=act)
        self.constants = {name: torch.tensor(getattr(model, name)) for name in parameters}

    def rollout(self, qpos, qvel, act, ctrl, **parameters) -> torch.Tensor:
        """A random linear function of the state after some control steps, (N,)."""
        state = rollout(self.sim, qpos, qvel, ctrl, 3, parameters, act)
        weights = torch.linspace(-1, 1, self.model.na, dtype=torch.float64)
        # strains are a hundredth of what activations are
        weights = weights * torch.where(self.sim._is_strain, 100.0, 1.0)
        return weighted(state, 7) + (state.act * weights).sum(1)


@pytest.fixture(scope="module")
def scene():
    return Scene(load(other=0.02))


def test_layout_of_act(scene):
    model = scene.model
    assert (model.na, model.nu) == (6 + 6, 7)
    assert model.muscle_tendonadr.tolist() == [6, 7, 8, 9, 10, -1, 11]
    assert model.muscle_tendon_strain.tolist() == [0.05, 0.02, 0.05, 0.05, 0.05, 0.0, 0.05]


def test_gradients(scene):
    clamped = scene.sim.forward(scene.state, scene.ctrl).actuator_force[:, 4]
    assert (clamped == -15).any() and (clamped > -15).any()
    names = ("qpos", "qvel", "act")
    arguments = {**dict(zip(names, scene.state, strict=True)), "ctrl": scene.ctrl}
    assert_gradient(scene.rollout, arguments, {"act": 1e-6})
    for theta in (0.0, 1.0):
        scene.model.opt.theta = theta
        assert_gradient(scene.rollout, arguments, {"act": 1e-6})
    scene.model.opt.theta = 0.6


def test_gradients_in_constants(scene):
    worlds = scene.sim.num_worlds
    constants = {name: x.expand(worlds, *x.shape).clone() for name, x in scene.constants.items()}

    def rollout(**parameters):
        return scene.rollout(*scene.state, scene.ctrl, **parameters)

    steps = {"muscle_optimal_length": 1e-6, "muscle_slack_length": 1e-6, "muscle_timeconst": 1e-7}
    assert_gradient(rollout, constants, steps)


def test_equilibrium(scene):
    """At rest and with its activations held, nothing in a muscle moves."""
    state = scene.state._replace(qvel=torch.zeros_like(scene.state.qvel))
    state = scene.sim.equilibrium(state, scene.ctrl)
    assert torch.equal(state.act[:, :6], scene.state.act[:, :6])
    data = scene.sim.forward(state, scene.ctrl)
    elastic = torch.tensor(scene.model.muscle_tendonadr >= 0)
    # to the search's tolerance, a billionth of the peak force, over the fibre's damping
    assert (data.fibres.velocity[:, elastic]).abs().max() < 1e-7
    assert data.act_dot[:, 6:].abs().max() < 1e-6
    # every fibre has found what pulls on it
    pull = data.fibres.active_force + data.fibres.passive_force
    assert (pull[:, elastic] > 0).all()
    start = scene.sim.initial_state()
    assert start.act[:, :6].abs().max() == 0 and start.act[:, 6:].abs().min() > 0
    assert scene.sim.forward(start).act_dot[:, 6:].abs().max() < 1e-6


def test_act_dot_is_the_rate_of_the_strains(scene):
    rate = scene.sim.forward(scene.state, scene.ctrl).act_dot[:, 6:]
    timestep = scene.model.opt.timestep
    found = []
    for share in (1e-4, 2e-4):
        scene.model.opt.timestep = share * timestep / 4
        found.append((scene.sim.step(scene.state, scene.ctrl).act - scene.state.act)[:, 6:] / (share * timestep))
    scene.model.opt.timestep = timestep
    # the first order of what is left taken off
    error = 2 * found[0] - found[1] - rate
    assert error.abs().max() < 1e-4 * rate.abs().max()


REFUSED = {
    "MuJoCo's law": (CUSTOM.replace("degroote_fregly", "mujoco"), 'muscle_law" data="degroote_fregly"'),
    "no such tendon": (CUSTOM.replace("{tendon}", "rubber"), "rigid or elastic"),
    "no slack length": (CUSTOM, "muscle_strain 0"),
    "no damping": (CUSTOM.replace('damping" data="0.05"', 'damping" data="0"'), "muscle_damping of at least"),
    "tiny strain": (CUSTOM.replace("{other}", "1e-6"), "for a rigid tendon"),
    "too large a strain": (CUSTOM.replace("{other}", "2"), "from 0 to 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, monkeypatch):
    text, cure = REFUSED[name]
    if name == "no slack length":
        monkeypatch.setitem(globals(), "MUSCLES", MUSCLES.replace('range="0.2 1.4"', 'range="0.9 1.4"'))
    with pytest.raises(ts.UnsupportedModelError, match=cure):
        load(text=text.format(tendon="elastic", strain=0.05, other=0.05))


def test_saved_and_loaded(scene, tmp_path):
    ts.save(scene.model, tmp_path / "model.npz")
    model = ts.load(tmp_path / "model.npz")
    assert model.muscle_tendonadr.tolist() == scene.model.muscle_tendonadr.tolist()
    assert model.na == scene.model.na
