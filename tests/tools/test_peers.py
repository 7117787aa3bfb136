"""What `tools/benchmark.py --peers` makes of contestants that are right, wrong, that crash or never answer."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

TOOLS = Path(__file__).parents[2] / "tools"

# Places of the roots are the sums of the squares of their controls.
FAKE = """
import os, time
import numpy as np
LEAVES_OUT, PRECISION = "everything", "f64"
class Contestant:
    def __init__(self, problem, threads):
        self.gradient_share = 3.0
    def forward(self, qpos, ctrl):
        return np.square(ctrl).sum((0, 2))
    def gradient(self, qpos, ctrl):
        {gradient}
"""


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return {name: importlib.import_module(f"peers.{name}") for name in ("problem", "race", "table")}


@pytest.fixture
def start(peers, tmp_path):
    """Starts a contestant with such a gradient."""
    children = []
    peers["problem"].make("ant", 4, steps=2).save(tmp_path / "problem.npz")

    def begin(gradient, seconds=60.0, gigabytes=4.0):
        name = f"fake{len(children)}"
        (tmp_path / f"peer_{name}.py").write_text(FAKE.format(gradient=gradient))
        limits = 1, seconds, gigabytes
        path = {"PYTHONPATH": str(tmp_path)}
        children.append(peers["race"].Child(name, sys.executable, tmp_path / "problem.npz", *limits, path))
        return children[-1]

    yield begin
    for child in children:
        child.close()


def test_a_gradient_is_compared_with_differences(start):
    right, twice = start("return 2 * ctrl").ask("check"), start("return 4 * ctrl").ask("check")
    # the rollout is quadratic: central differences of it are exact but for rounding
    for where in ("ground", "air"):
        assert right[f"{where}_slope"] == pytest.approx(1, abs=1e-6)
        assert right[f"{where}_right"] == 1
        assert twice[f"{where}_slope"] == pytest.approx(0.5, abs=1e-6)
        assert twice[f"{where}_right"] == 0


def test_one_that_crashes_or_hangs_costs_its_limit_and_leaves_the_others_alone(peers, start):
    children = [
        start("return 2 * ctrl"),
        start("os._exit(3)"),
        start("time.sleep(1000)", seconds=2.0),
        start("self.held = np.ones(2**27); time.sleep(1000)", gigabytes=0.6),
        start("raise NotImplementedError('no slopes')"),
        start("return ctrl / 0"),
    ]
    rows = peers["race"].run(children, 2)
    assert [len(row["gradient"]) for row in rows] == [2, 0, 0, 0, 0, 0]
    assert [len(row["forward"]) for row in rows] == [2, 0, 0, 0, 2, 0]
    failures = [row["failure"] for row in rows]
    assert not failures[0] and not failures[4]
    assert "it ended with 3" in failures[1]
    assert failures[2] == "more than 2 s"
    # it was ended at its limit of 2 s, and not 10 s later
    assert -10 < rows[2]["left"] < 0
    assert failures[3] == "more than 0.6 GB"
    assert "not finite" in failures[5]
    assert rows[4]["missing"] == "no slopes"
    assert rows[0]["leaves_out"] == "everything"


def test_rates_are_of_the_medians_and_compilation_is_what_only_the_first_answers_took(peers):
    row = {"start": 2.0, "first_forward": 5.0, "first_gradient": 7.0, "forward": [1.0, 2.0, 9.0], "shares": {}}
    row |= {"gradient": [4.0, 8.0, 8.0], "shares": {"gradient": 2.0}}
    found = peers["table"].rates(row, worlds=10, steps=32, substeps=4)
    assert found["forward"] == 10 * 32 * 4 / 2
    assert found["forward_control_steps"] == 10 * 32 / 2
    assert found["forward_backward"] == 10 * 32 * 4 / 8
    # 2 for the start, 5 - 2 and 7 - 8 / 2 beyond later answers
    assert found["compile_s"] == 2 + 3 + 3
    # quartiles 4 and 8
    assert found["spread"] == 0.25


def test_what_cannot_end_in_time_is_not_started(peers):
    run = peers["table"].Run(["mjx", "brax"], {}, 1, 600.0, 4.0)
    assert run._expected("ant", 64, "mjx") == 0
    # 64 worlds: 3 and 9 seconds a rollout of 32 steps, 100 s of compilation
    rates = {"forward_control_steps": 64 * 32 / 3, "forward_backward_control_steps": 64 * 32 / 9, "compile_s": 100.0}
    run.rows = [
        {"body": "ant", "worlds": 64, "peer": "mjx", "note": "", **rates},
        {"body": "ant", "worlds": 64, "peer": "brax", "note": "more than 4 GB"},
    ]
    assert run._expected("ant", 256, "mjx") == pytest.approx(100 + 2 * 4 * 12)
    assert run._expected("humanoid", 256, "mjx") == 0
    assert run._expected("ant", 256, "brax") == float("inf")


def test_differences_of_mujoco_are_those_of_whole_rollouts(peers, monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS / "peers"))
    problem = peers["problem"].make("ant", 3, steps=3)
    contestant = importlib.import_module("peer_mujoco").Contestant(problem, 1)
    found = contestant.gradient(problem.qpos, problem.ctrl)
    for place in ((0, 0, 1), (1, 1, 4), (2, 0, 7)):
        change = np.zeros_like(problem.ctrl)
        change[place] = 6e-6
        ends = [contestant.forward(problem.qpos, problem.ctrl + sign * change)[place[1]] for sign in (1, -1)]
        # a rollout that goes on from a state forgets the solver's warm start, which is within its tolerance of 1e-8
        assert found[place] == pytest.approx((ends[0] - ends[1]) / 1.2e-5, rel=1e-3)
    assert not found[:, 2].any()
    # the body lies on the ground
    assert problem.qpos[:, 2].max() < 0.75


def test_the_same_seed_is_the_same_problem(peers, tmp_path):
    first, second = (peers["problem"].make("ant", 70, steps=2) for _ in range(2))
    first.save(tmp_path / "problem.npz")
    again = peers["problem"].Problem.load(tmp_path / "problem.npz")
    for name in ("qpos", "qvel", "act", "ctrl"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert (again.substeps, again.worlds) == (4, 70)
    # worlds that begin alike are driven differently
    assert np.array_equal(first.qpos[0], first.qpos[64]) and not np.array_equal(first.ctrl[:, 0], first.ctrl[:, 64])
