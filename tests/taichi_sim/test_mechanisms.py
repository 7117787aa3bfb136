"""Random mechanisms step as in MuJoCo, in every feature at once, and their gradients are differences."""

import mujoco
import numpy as np
import pytest
import torch
from batch import mujoco_data
from mechanisms import random_mechanism, touch_alike

import taichi_sim as ts

WORLDS = 6
# of a step's largest change of velocity
STEP_TOLERANCE, GRADIENT_TOLERANCE = 1e-7, 1e-5


def states(m: mujoco.MjModel, rng: np.random.Generator) -> tuple[ts.State, torch.Tensor]:
    """The initial state; then what random controls lead to; then that, pushed, and moved out of its constraints."""
    found = []
    for world in range(WORLDS):
        data = mujoco.MjData(m)
        data.ctrl[:] = rng.normal(size=m.nu)
        for _ in range(rng.integers(5, 150) * (world > 0)):
            mujoco.mj_step(m, data)
        if world > 2:
            data.qvel += 0.5 * rng.normal(size=m.nv)
        if world > 3:
            mujoco.mj_integratePos(m, data.qpos, 0.1 * rng.normal(size=m.nv), 1.0)
        wild = not np.isfinite(data.qpos).all() or np.abs(data.qvel).max() > 1e3
        # what muscles' activations do at 0 has no slope
        state = data.qpos.copy(), data.qvel.copy(), rng.uniform(0.05, 0.45, m.na), rng.normal(size=m.nu)
        found.append(found[0] if wild and found else state)
    *state, ctrl = (torch.tensor(np.array(x)) for x in zip(*found, strict=True))
    return ts.State(*state), ctrl


# most with --shipped alone: each has kernels of its own to compile
@pytest.mark.parametrize("seed", [9, *(pytest.param(seed, marks=pytest.mark.shipped) for seed in range(100, 160))])
def test_a_random_mechanism(seed):
    spec = mujoco.MjSpec.from_string(random_mechanism(seed))
    m = spec.compile()
    try:
        model = ts.load(spec)
    except ts.UnsupportedModelError as error:
        pytest.skip(str(error))
    if model.opt.integrator == "theta":
        pytest.skip("stepped by our own integrator")
    m.opt.iterations, m.opt.tolerance, m.opt.ls_iterations, m.opt.ls_tolerance = 500, 0.0, 200, 1e-12
    state, ctrl = states(m, np.random.default_rng(seed))
    sim = ts.Simulator(model, WORLDS)
    after = sim.step(state, ctrl)
    for world in range(WORLDS):
        data = mujoco_data(m, state, ctrl, world)
        before = data.qvel.copy()
        mujoco.mj_step(m, data)
        if touch_alike(m, data):
            change = max(np.abs(data.qvel - before).max(), 1e-3 * np.abs(data.qvel).max(), 1e-4)
            for name, scale in (("qvel", change), ("qpos", change * m.opt.timestep + 1e-5), ("act", 1.0)):
                ours, atol = getattr(after, name)[world].numpy(), STEP_TOLERANCE * scale
                np.testing.assert_allclose(ours, getattr(data, name), rtol=0, atol=atol, err_msg=f"{name} of {world}")
    assert_slope(sim, state, ctrl, seed)


def assert_slope(sim: ts.Simulator, state: ts.State, ctrl: torch.Tensor, seed: int) -> None:
    """A step's slope along a random direction is a difference, in worlds where two differences agree."""
    generator = torch.Generator().manual_seed(seed)
    inputs = *state, ctrl
    ways, weights = ([torch.randn(x.shape, generator=generator).to(x) for x in those] for those in (inputs, state))

    def value(step: torch.Tensor) -> torch.Tensor:
        moved = [x + step[:, None] * way for x, way in zip(inputs, ways, strict=True)]
        after = sim.step(ts.State(*moved[:3]), moved[3])
        return sum((weight * x).sum(1) for weight, x in zip(weights, after, strict=True))

    step = torch.zeros(WORLDS, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(value(step).sum(), step)
    with torch.no_grad():
        far, near = ((value(step + h) - value(step - h)) / (2 * h) for h in (1e-6, 3e-7))
    scale = far.abs().clamp(min=1.0)
    sure = (far - near).abs() < 1e-6 * scale
    assert sure.any() and ((slope - far).abs() < GRADIENT_TOLERANCE * scale)[sure].all(), (slope, far)
