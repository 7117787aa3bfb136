"""Gradients against central differences, for tests."""

import torch

import taichi_sim as ts

TOLERANCE = 1e-6


def differences(function, x: torch.Tensor, step: float) -> torch.Tensor:
    """Central differences of a per-world function (N,) in x (N, n): (N, n). Worlds do not touch each other."""
    columns = []
    for i in range(x.shape[1]):
        offset = torch.zeros_like(x)
        offset[:, i] = step
        columns.append((function(x + offset) - function(x - offset)) / (2 * step))
    return torch.stack(columns, dim=1)


def assert_gradient(function, arguments: dict[str, torch.Tensor], steps: dict[str, float] | None = None):
    """Compares gradients of `function(**arguments)` (N,) with differences, relative to the largest of a world."""
    leaves = {name: x.clone().requires_grad_() for name, x in arguments.items()}
    gradients = torch.autograd.grad(function(**leaves).sum(), list(leaves.values()))
    for (name, x), gradient in zip(arguments.items(), gradients, strict=True):
        shape = gradient.shape
        flat = x.reshape(len(x), -1)

        def along(y, name=name, shape=shape):
            with torch.no_grad():
                return function(**{**arguments, name: y.reshape(shape)})

        expected = differences(along, flat, (steps or {}).get(name, 1e-5))
        error = (gradient.reshape(len(x), -1) - expected).abs().amax(1)
        scale = expected.abs().amax(1).clamp(min=1e-3)
        assert (error <= TOLERANCE * scale).all(), f"{name}: {(error / scale).max():.3g}"


def assert_slope(loss, parameters, seed: int = 0):
    """Compares the gradient of `loss()` in a module's parameters with a difference, along a random direction."""
    parameters = list(parameters)
    gradient = torch.autograd.grad(loss(), parameters)
    generator = torch.Generator().manual_seed(seed)
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    slope = sum((g * d).sum() for g, d in zip(gradient, direction, strict=True)).item()
    step, ends = 1e-6, []
    with torch.no_grad():
        for offset in (step, -2 * step):
            for parameter, along in zip(parameters, direction, strict=True):
                parameter += offset * along
            ends.append(loss().item())
    expected = (ends[0] - ends[1]) / (2 * step)
    assert abs(slope - expected) <= TOLERANCE * abs(expected), f"{slope} instead of {expected}"


def weighted(state: ts.State, seed: int) -> torch.Tensor:
    """A random linear function of a state per world (N,)."""
    generator = torch.Generator().manual_seed(seed)
    terms = (torch.randn(x.shape, generator=generator, dtype=x.dtype) * x for x in (state.qpos, state.qvel))
    return sum(term.sum(1) for term in terms)


def rollout(sim, qpos, qvel, ctrl, num_steps, parameters=None, act=None):
    state = ts.State(qpos, qvel, qpos.new_zeros(len(qpos), 0) if act is None else act)
    for _ in range(num_steps):
        state = sim.step(state, ctrl, parameters)
    return state
