import importlib
from pathlib import Path

import pytest

import taichi_sim as ts
from taichi_sim import adjoint, forward


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "tools"))
    return importlib.import_module("stages")


def test_stages_are_those_that_the_model_has(tool):
    """Compiled away: contacts and tendons of a cart-pole, what only MuJoCo's law takes."""
    m = ts.Simulator(ts.load("cartpole"))._engine.m
    calls = [*tool.stages(forward, "forces", m), *tool.stages(forward, "solve", m), *tool.stages(adjoint, "substep", m)]
    assert calls[1] == "kinematics.position(m, d, e)"
    assert {"inertia.factor(m, d, e)", "actuator.forces(m, d, e, h, False)", "dynamics.adjoint_project(m, d, e)"} <= {
        *calls
    }
    assert not any(room in call for call in calls for room in ("planes.", "pairs.", "tendon.", "constraint.", "loops."))


def test_each_takes_its_time(tool):
    sim = ts.Simulator(ts.load("cartpole"), 8)
    calls = ["kinematics.position(m, d, e)", "inertia.factor(m, d, e)"]
    times, _ = tool.alone(sim, forward, calls, lambda: None, 1000)
    assert all(0 < us < 1000 for us in times)
