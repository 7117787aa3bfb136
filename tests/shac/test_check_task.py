"""Clumsy tasks: every mistake of a user's is one line, before the first epoch, that names task and method."""

from __future__ import annotations

import pytest
import torch
from processes import run
from toy import Line

from shac.check_task import check_gradient
from shac.env import Env
from shac.errors import UserError
from taichi_sim.types import State


def env(**methods) -> Env:
    """Three worlds of `Line` with some methods, or attributes, replaced."""
    return Env(type("Mine", (Line,), methods)(), 3)


def step(bad: Env) -> None:
    bad.step(torch.zeros(3, 1, dtype=torch.float64))


WRONG = {
    "a NumPy array": lambda x: x.detach().numpy(),
    "a text": lambda x: "high",
    "nothing": lambda x: None,
    "a number": lambda x: 1.0,
    "one axis more": lambda x: x[..., None],
    "one world less": lambda x: x[:-1],
    "another dtype": lambda x: x.float() if x.is_floating_point() else x.double(),
}


@pytest.mark.parametrize("method", ["observe", "reward", "terminated", "control"])
@pytest.mark.parametrize("wrong", WRONG)
def test_results_of_the_wrong_kind(method, wrong):
    original = getattr(Line, method)
    replaced = {method: lambda self, *args: WRONG[wrong](original(self, *args))}
    with pytest.raises(UserError) as error:
        step(env(**replaced))
    message = str(error.value)
    assert message.startswith(f"Mine.{method} must return a tensor (3") and len(message.splitlines()) == 1
    assert f"of torch.{'bool' if method == 'terminated' else 'float64'}" in message and ", got " in message


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (lambda s: None, "must return a taichi_sim.State, got NoneType"),
        (lambda s: tuple(s), "must return a taichi_sim.State, got tuple"),
        (lambda s: s._replace(qpos=s.qpos[:2]), r"reset \(its qpos\).*\(3, 1\).*got a tensor \(2, 1\)"),
        (lambda s: s._replace(qvel=s.qvel.numpy()), r"reset \(its qvel\).*got ndarray of shape \(3, 1\)"),
        (lambda s: s._replace(act=torch.zeros(3, 2, dtype=torch.float64)), r"reset \(its act\).*\(3, 0\)"),
        (lambda s: s._replace(qpos=s.qpos.float()), r"reset \(its qpos\).*float64.*float32"),
    ],
)
def test_initial_states_of_the_wrong_kind(state, words):
    with pytest.raises(UserError, match=words):
        env(reset=lambda self, *args: state(Line.reset(self, *args)))


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_obs", "2"), ("num_obs", 0), ("num_actions", 1.0), ("episode_length", 0), ("episode_length", None)],
)
def test_attributes_of_the_wrong_kind(field, value):
    with pytest.raises(UserError, match=f"Mine.{field} must be a whole number from 1 up, got {value!r}"):
        env(**{field: value})


def test_presets_of_the_wrong_kind():
    with pytest.raises(UserError, match="Mine.presets must be a dict of dicts"):
        env(presets={"shac": ["horizon", 32]})


@pytest.mark.parametrize("method", ["observe", "reward", "terminated", "control", "reset"])
def test_a_method_that_raises_is_named_with_its_line(method):
    def broken(self, *args):
        return {}["speed"]

    with pytest.raises(UserError, match=rf"Mine.{method} failed: KeyError: 'speed' \(.*test_check_task.py, line \d+\)"):
        step(env(**{method: broken}))


@pytest.mark.parametrize("method", ["observe", "reward", "control"])
def test_a_method_that_cuts_the_gradient_is_named(method):
    """Seen: it trained without a word."""
    original = getattr(Line, method)
    with pytest.raises(UserError, match=f"Mine.{method} returns .* without a gradient"):
        check_gradient(env(**{method: lambda self, *args: original(self, *args).detach()}))


def test_a_reward_whose_gradient_is_zero_or_not_finite_gets_a_warning():
    flat = env(reward=lambda self, state, obs, action: 0.0 * state.qpos[:, 0])
    assert "Mine.reward in the actions is zero" in check_gradient(flat)
    steep = env(reward=lambda self, state, obs, action: (state.qpos[:, 0] * 0.0).sqrt())
    assert "is not finite" in check_gradient(steep)


def test_a_sound_task_is_left_as_it_was():
    class Counting(Line):
        calls = 0

        def reward(self, state, obs, action):
            self.calls += 1
            return super().reward(state, obs, action)

    sound = Env(Counting(), 3)
    before, seed = State(*(x.clone() for x in sound.state)), sound.generator.get_state()
    assert check_gradient(sound) is None
    assert sound.task.calls == 0 and torch.equal(sound.generator.get_state(), seed)
    assert all(torch.equal(a, b) for a, b in zip(sound.state, before, strict=True))


MINE = """
import torch
from shac import Task
class Mine(Task):
    asset, episode_length, num_obs, num_actions = "cartpole", 20, 4, 1
    def observe(self, state, action):
        return torch.cat([state.qpos, state.qvel], 1)
    def reward(self, state, obs, action):
        return {reward}
    def reset(self, num, generator, sim, stochastic=True):
        return self.nominal(num, sim)
"""


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        ("state.qpos.detach().numpy()[:, 0]", "Mine.reward must return a tensor (8,) of torch.float32"),
        ("(state.qpos[:, 0] > 0).float()", "Mine.reward returns rewards without a gradient"),
    ],
)
def test_the_command_line_gives_one_line_and_no_run_folder(tmp_path, reward, words):
    (tmp_path / "mine.py").write_text(MINE.format(reward=reward))
    arguments = ["--model", str(tmp_path / "mine.py"), "--run-dir", str(tmp_path / "run"), "--num-envs", "8"]
    process = run(f"from shac.cli.train import main; main({arguments})", prelude="", status=2)
    (line,) = process.stderr.strip().splitlines()
    assert line.startswith("Error: ") and words in line
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--num-envs", "1000000000"],
        ["--set", "horizon=1000000000"],
        ["--set", "actor_units=1000000000"],
        ["--set", "critic_units=64,10000000000,64"],
    ],
)
def test_absurd_sizes_are_refused_with_the_memory_they_would_take(tmp_path, arguments):
    arguments = ["--model", "cartpole", "--run-dir", str(tmp_path / "run"), *arguments]
    process = run(f"from shac.cli.train import main; main({arguments})", prelude="", status=2)
    (line,) = process.stderr.strip().splitlines()
    assert "would take" in line and "GB of memory, and there are" in line
    assert not (tmp_path / "run" / "config.yaml").exists()
