"""Gradients against central differences, double precision: steps, rollouts, model constants, poses."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch
import trees
from batch import random_batch
from differences import assert_gradient, rollout, weighted

import taichi_sim as ts


def forest(seed: int, num_bodies: int = 20, **keywords) -> ts.Model:
    text = trees.random_tree(np.random.default_rng(seed), num_bodies=num_bodies, num_actuators=num_bodies, **keywords)
    return ts.load(mujoco.MjModel.from_xml_string(text))


@pytest.fixture(scope="module")
def world():
    """One forest with every joint and actuator type, limits violated here and there, all parameters declared."""
    model = forest(11)
    assert {0, 1, 2, 3} == set(model.jnt_type.tolist())
    model.opt.timestep = 0.004
    sim = ts.Simulator(model, 4, parameters=ts.parameters.NAMES)
    state, ctrl = random_batch(model, 4, 0)
    return sim, state, ctrl


@pytest.mark.parametrize(("num_steps", "substeps"), [(1, 1), (1, 3), (3, 2)])
def test_steps(world, num_steps, substeps):
    sim, state, ctrl = world
    sim.model.opt.substeps = substeps
    assert_gradient(
        lambda qpos, qvel, ctrl: weighted(rollout(sim, qpos, qvel, ctrl, num_steps), 1),
        {"qpos": state.qpos, "qvel": state.qvel, "ctrl": ctrl},
        {"ctrl": 1e-4},
    )


def test_unnormalised_quaternions(world):
    """The engine reads q/|q|: gradients are those of that function of q."""
    sim, state, ctrl = world
    sim.model.opt.substeps = 1
    scale = 1 + 0.3 * torch.rand(state.qpos.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert_gradient(lambda qpos: weighted(rollout(sim, qpos, state.qvel, ctrl, 1), 2), {"qpos": state.qpos * scale})


@pytest.mark.parametrize("per_world", [False, True])
# muscles and contacts have theirs tested where there are some (test_tendon.py, test_rough.py)
@pytest.mark.parametrize("name", [name for name in ts.parameters.NAMES if not name.startswith(("muscle_", "pair_"))])
def test_parameters(world, name, per_world):
    sim, state, ctrl = world
    sim.model.opt.substeps = 2
    value = torch.as_tensor(np.asarray(getattr(sim.model, name), float)).clone()
    if name == "dof_frictionloss":
        # there is none, and none can be negative
        value += 0.5
    # forces are linear in coefficients; accelerations are not in inertias
    bent = name.startswith("body_") or name in ("dof_armature", "dof_frictionloss")
    steps = {"value": 1e-5 if bent else 1e-3}
    if per_world:
        value = value * torch.linspace(0.9, 1.1, sim.num_worlds, dtype=torch.float64).reshape(-1, *[1] * value.ndim)

        def function(value):
            return weighted(rollout(sim, state.qpos, state.qvel, ctrl, 1, {name: value}), 3)

        assert_gradient(function, {"value": value}, steps)
    else:

        def function(value):
            return weighted(rollout(sim, state.qpos, state.qvel, ctrl, 1, {name: value[0]}), 3).sum().reshape(1)

        assert_gradient(function, {"value": value[None]}, steps)


def test_parameters_of_what_a_model_has_none_of(world):
    sim, state, ctrl = world
    none = torch.zeros(0, dtype=torch.float64)
    for value in (none, none.expand(sim.num_worlds, 0)):
        assert torch.equal(sim.step(state, ctrl, {"pair_mu": value}).qvel, sim.step(state, ctrl).qvel)


def test_poses_and_velocities(world):
    sim, state, _ = world
    generator = torch.Generator().manual_seed(4)
    names = ("xpos", "xquat", "xipos", "site_xpos", "xlinvel", "xangvel")
    with torch.no_grad():
        shapes = [getattr(sim.forward(state), name).shape for name in names]
    weights = [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]

    def function(qpos, qvel):
        data = sim.forward(state._replace(qpos=qpos, qvel=qvel))
        return sum((w * getattr(data, name)).flatten(1).sum(1) for w, name in zip(weights, names, strict=True))

    assert_gradient(function, {"qpos": state.qpos, "qvel": state.qvel})


def test_poses_follow_fitted_centres_of_mass(world):
    sim, state, _ = world
    ipos = torch.as_tensor(sim.model.body_ipos).clone()
    weights = torch.randn(4, *ipos.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))

    def function(ipos):
        return (weights * sim.forward(state, parameters={"body_ipos": ipos}).xipos).flatten(1).sum(1)

    assert_gradient(function, {"ipos": ipos.repeat(4, 1, 1)})


def test_rollouts_of_50_steps():
    """Errors that cancel within a step, or grow over many, show here."""
    model = forest(3, 7)
    model.opt.timestep, model.opt.substeps = 0.002, 2
    sim = ts.Simulator(model, 4)
    state, ctrl = random_batch(model, 4, 5)
    assert_gradient(
        lambda qpos, qvel, ctrl: weighted(rollout(sim, qpos, qvel, ctrl, 50), 6),
        {"qpos": state.qpos, "qvel": 0.3 * state.qvel, "ctrl": ctrl},
        {"qpos": 1e-6, "qvel": 1e-6, "ctrl": 1e-5},
    )


def test_gradcheck():
    """Torch's own check of the step, on a model with a quaternion."""
    text = trees.random_tree(np.random.default_rng(1), num_bodies=3, num_actuators=2, limits=False)
    model = ts.load(mujoco.MjModel.from_xml_string(text))
    model.opt.substeps = 2
    sim = ts.Simulator(model, 2)
    state, ctrl = random_batch(model, 2, 0)

    def step(qpos, qvel, ctrl):
        return sim.step(ts.State(qpos, qvel, state.act), ctrl)[:2]

    assert torch.autograd.gradcheck(step, [x.requires_grad_() for x in (state.qpos, state.qvel, ctrl)], rtol=1e-6)


def test_gradients_are_not_consumed(world):
    """The same graph gives the same gradient twice, and two graphs do not mix."""
    sim, state, ctrl = world
    sim.model.opt.substeps = 2
    qpos = state.qpos.clone().requires_grad_()
    first = weighted(rollout(sim, qpos, state.qvel, ctrl, 2), 7).sum()
    second = weighted(rollout(sim, qpos, -state.qvel, ctrl, 2), 8).sum()
    alone = torch.autograd.grad(first, qpos, retain_graph=True)[0]
    other = torch.autograd.grad(second, qpos, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(first, qpos, retain_graph=True)[0], alone)
    both = torch.autograd.grad(first + second, qpos)[0]
    assert torch.allclose(both, alone + other, rtol=1e-12, atol=1e-12)


def test_options_may_change_before_the_backward_pass(world):
    sim, state, ctrl = world
    sim.model.opt.substeps = 2
    qpos = state.qpos.clone().requires_grad_()
    expected = torch.autograd.grad(weighted(rollout(sim, qpos, state.qvel, ctrl, 1), 9).sum(), qpos)[0]
    loss = weighted(rollout(sim, qpos, state.qvel, ctrl, 1), 9).sum()
    sim.model.opt.substeps = 5
    assert torch.equal(torch.autograd.grad(loss, qpos)[0], expected)
