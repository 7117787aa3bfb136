"""The boundary between torch and the kernels: what is refused and how, DLPack, the graph, memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from snippets import load_text, mjcf_text

import taichi_sim as ts

N = 3
ACTUATOR = '<actuator><motor joint="elbow" gear="3"/></actuator>'


@pytest.fixture(scope="module")
def sim():
    model = load_text(mjcf_text(rest=ACTUATOR))
    model.opt.substeps = 2
    return ts.Simulator(model, N)


def arguments(sim: ts.Simulator) -> dict[str, torch.Tensor]:
    """qpos, qvel, ctrl of worlds that differ."""
    values = torch.linspace(0.1, 0.9, N, dtype=sim.dtype)[:, None]
    return {"qpos": values.clone(), "qvel": -values, "ctrl": 0.5 * values}


def step(sim: ts.Simulator, qpos, qvel, ctrl) -> ts.State:
    return sim.step(ts.State(qpos, qvel, torch.zeros(N, 0, dtype=sim.dtype)), ctrl)


def forward(sim: ts.Simulator, qpos, qvel, ctrl) -> ts.ForwardData:
    return sim.forward(ts.State(qpos, qvel, torch.zeros(N, 0, dtype=sim.dtype)), ctrl)


@pytest.mark.parametrize("name", ["qpos", "qvel", "ctrl"])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda x: x[:-1], ["shape", "(3, 1)", "(2, 1)"]),
        (lambda x: x[:, 0], ["shape", "(3, 1)", "(3,)"]),
        (lambda x: x.expand(-1, 2), ["shape", "(3, 1)", "(3, 2)"]),
        (lambda x: x.float(), ["float64", "float32", "precision"]),
        (lambda x: x.to("meta"), ["the device of ts.init", "meta"]),
        (lambda x: x.tolist(), ["torch tensor", "__dlpack__", "list"]),
        (lambda x: None, ["torch tensor", "__dlpack__", "NoneType"]),
    ],
    ids=["worlds", "axes", "entries", "dtype", "device", "list", "none"],
)
def test_unfit_input(sim, name, spoil, words):
    """The message names the argument, what was expected and what was given."""
    inputs = arguments(sim)
    inputs[name] = spoil(inputs[name])
    calls = [step]
    if inputs["ctrl"] is not None:  # which means zero controls to `forward`
        calls.append(forward)
    for call in calls:
        with pytest.raises(ValueError) as error:
            call(sim, **inputs)
        message = str(error.value)
        assert name in message and all(word in message for word in words), message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["qpos", "qvel", "ctrl"])
def test_non_finite_input(sim, name, value):
    inputs = arguments(sim)
    inputs[name][1, 0] = value
    with pytest.raises(FloatingPointError) as error:
        step(sim, **inputs)
        sim.require_finite()
    assert name in str(error.value) and "world 1" in str(error.value)


@pytest.mark.parametrize("name", ["qpos", "qvel"])
def test_non_finite_gradient(sim, name):
    inputs = {key: x.requires_grad_() for key, x in arguments(sim).items()}
    weights = torch.ones(N, 1, dtype=sim.dtype)
    weights[2] = float("nan")
    with pytest.raises(FloatingPointError) as error:
        (getattr(step(sim, **inputs), name) * weights).sum().backward()
        sim.require_finite()
    message = str(error.value)
    assert name in message and "world 2" in message and "gradient" in message


def test_looks_taken_together_name_the_step_too(sim):
    """As on CUDA, where a look at a number would wait for the device."""
    together = ts.Simulator(sim.model, N)
    together._looks.at_once = False
    good, bad = arguments(sim), arguments(sim)
    bad["qvel"][2] = float("nan")
    for inputs in (good, bad, good):
        step(together, **inputs)
    with pytest.raises(FloatingPointError, match=r"^qvel\[0\] of world 2 is not finite \(1 of 3 .* step 2 since"):
        together.require_finite()
    together.require_finite()

    state = step(together, **{key: x.requires_grad_() for key, x in good.items()})
    (state.qpos[1, 0] * float("nan")).backward()
    with pytest.raises(FloatingPointError, match=r"reached a step's qpos\[0\] of world 1 .* step 1 since"):
        together.require_finite()

    for _ in range(together._looks.MOST - 1):
        step(together, **bad)
    with pytest.raises(FloatingPointError, match="step 1 since"):
        step(together, **good)


@pytest.mark.cpu
def test_settings_are_made_once():
    assert ts.init() is ts.init(device="cpu", precision="f64")
    with pytest.raises(RuntimeError, match="f64.*f32.*process"):
        ts.init(precision="f32")
    with pytest.raises(RuntimeError, match="cpu.*cuda.*process"):
        ts.init(device="cuda")
    with pytest.raises(ValueError, match="device.*'cpu' or 'cuda'.*'tpu'"):
        ts.init(device="tpu")
    with pytest.raises(ValueError, match="precision.*'f32' or 'f64'.*'f16'"):
        ts.init(precision="f16")


@pytest.mark.parametrize("num_worlds", [0, -1, 1.5, "many"])
def test_number_of_worlds(sim, num_worlds):
    with pytest.raises(ValueError, match="num_worlds.*positive"):
        ts.Simulator(sim.model, num_worlds)


def test_parameter_names_and_shapes(sim):
    with pytest.raises(ValueError, match="'mass'.*body_mass.*dof_damping"):
        ts.Simulator(sim.model, N, parameters=("mass",))
    mass = torch.tensor(sim.model.body_mass)
    state, ctrl = sim.initial_state(), arguments(sim)["ctrl"]
    with pytest.raises(ValueError, match="declare.*Simulator"):
        sim.step(state, ctrl, {"body_mass": mass})
    fitting = ts.Simulator(sim.model, N, parameters="body_mass")
    with pytest.raises(ValueError, match="'dof_damping' was not declared"):
        fitting.step(state, ctrl, {"dof_damping": torch.ones(1)})
    with pytest.raises(ValueError, match=r"body_mass.*\(2,\).*\(3, 2\).*\(5,\)"):
        fitting.step(state, ctrl, {"body_mass": torch.ones(5)})


@pytest.mark.cpu
def test_numpy_arrays_by_dlpack(sim):
    inputs = arguments(sim)
    expected = step(sim, **inputs)
    after = step(sim, **{name: x.numpy() for name, x in inputs.items()})
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(after, expected, strict=True))
    assert np.array_equal(np.from_dlpack(after.qpos), expected.qpos.numpy())


def test_inputs_may_be_strided(sim):
    inputs = arguments(sim)
    wide = {name: torch.stack([x[:, 0], 7 + x[:, 0]], dim=1)[:, :1] for name, x in inputs.items()}
    assert not wide["qpos"].is_contiguous()
    assert torch.equal(step(sim, **wide).qpos, step(sim, **inputs).qpos)


def test_gradients_through_control_steps(sim):
    """Five control steps: the first state and every step's controls get their gradients."""
    inputs = arguments(sim)
    inputs["ctrl"] = inputs["ctrl"].repeat(5, 1, 1) * torch.linspace(-1, 1, 5, dtype=sim.dtype)[:, None, None]

    def final_angle(qpos, qvel, ctrl):
        for c in ctrl:
            qpos, qvel, _ = step(sim, qpos, qvel, c)
        return qpos

    leaves = {name: x.clone().requires_grad_() for name, x in inputs.items()}
    gradients = torch.autograd.grad(final_angle(**leaves).sum(), list(leaves.values()))
    for (name, x), gradient in zip(inputs.items(), gradients, strict=True):
        for index in np.ndindex(*x.shape):
            offset = torch.zeros_like(x)
            offset[index] = 1e-4
            ahead, behind = (final_angle(**{**inputs, name: y}).sum() for y in (x + offset, x - offset))
            assert gradient[index].item() == pytest.approx(((ahead - behind) / 2e-4).item(), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("record", [False, True])
def test_tape_only_for_gradients(sim, record, monkeypatch):
    """A rollout without gradients allocates nothing that grows with the substeps."""
    sizes = []
    empty = sim._empty
    monkeypatch.setattr(sim, "_empty", lambda size: sizes.append(size) or empty(size))
    inputs = {name: x.requires_grad_() for name, x in arguments(sim).items()}
    with torch.set_grad_enabled(record):
        after = step(sim, **inputs)
    assert after.qpos.requires_grad == record
    m = sim.model
    assert (max(sizes) > m.nq + m.nv) == record
