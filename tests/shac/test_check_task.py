"""Clumsy tasks: every mistake of a user's is one line, before the first epoch, that names task and method."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from processes import run
from toy import Line, LineSim

from shac.cli.train import main
from shac.env import Env
from shac.errors import UserError
from shac.rehearsal import rehearse
from shac.runs.config import resolve
from shac.task import Task
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
    "whole numbers": lambda x: x.long(),
    "truth values": lambda x: x > 0 if x.is_floating_point() else x[:, None],
    "another device": lambda x: x.to("meta"),
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


def test_perturbed_states_of_the_wrong_kind():
    with pytest.raises(UserError, match=r"Mine.perturb \(its qvel\) must return a tensor \(3, 1\)"):
        step(env(num_draws=1, perturb=lambda self, s, draws: s._replace(qvel=draws[:, :0])))
    with pytest.raises(UserError, match="Mine.perturb must return a taichi_sim.State, got NoneType"):
        rehearse(env(num_draws=1, perturb=lambda self, s, draws: None))
    with pytest.raises(UserError, match="Mine.num_draws must be a whole number from 0 up, got -1"):
        env(num_draws=-1)


def test_constants_of_the_wrong_kind():
    def simulator(self, num_envs, device=None):
        sim = Line.simulator(self, num_envs)
        sim.model.body_mass = np.ones(2)
        return sim

    def varying(vary):
        return env(varied=("body_mass",), simulator=simulator, vary=vary)

    with pytest.raises(UserError, match=r"Mine.varied must be a tuple of names from body_mass, .*; got \('mass',\)"):
        env(varied=("mass",))
    with pytest.raises(UserError, match="Mine.vary failed: NotImplementedError: Mine names constants in varied"):
        env(varied=("body_mass",))
    with pytest.raises(UserError, match="Mine.vary must return a dict with body_mass, got NoneType"):
        varying(lambda self, *args: None)
    with pytest.raises(UserError, match=r"Mine.vary must return a dict with body_mass, got \['dof_damping'\]"):
        varying(lambda self, *args: {"dof_damping": torch.ones(3, 2)})
    with pytest.raises(UserError, match=r"Mine.vary \(its body_mass\) must return a tensor \(3, 2\).*\(3, 1\)"):
        varying(lambda self, *args: {"body_mass": torch.ones(3, 1, dtype=torch.float64)})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_obs", "2"),
        ("num_obs", 0),
        ("history", 0),
        ("num_actions", 1.0),
        ("episode_length", 0),
        ("episode_length", None),
    ],
)
def test_attributes_of_the_wrong_kind(field, value):
    with pytest.raises(UserError, match=f"Mine.{field} must be a whole number from 1 up, got {value!r}"):
        env(**{field: value})


def test_presets_of_the_wrong_kind():
    with pytest.raises(UserError, match="Mine.presets must be a dict of dicts"):
        env(presets={"shac": ["horizon", 32]})


@pytest.mark.parametrize(
    ("presets", "words"),
    [
        ({"shac": {"horizn": 3}}, r"Mine.presets\['shac'\]: there is no setting 'horizn'; did you mean horizon"),
        # seen: only the preset in use was looked at
        ({"bptt": {"horizon": "long"}}, r"Mine.presets\['bptt'\]: setting horizon takes a whole number, got 'long'"),
        ({"shaq": {}}, "Mine.presets has 'shaq', which is no algorithm; did you mean shac"),
    ],
)
def test_presets_of_unknown_names_and_values(presets, words):
    with pytest.raises(UserError, match=words):
        resolve(type("Mine", (Line,), {"presets": presets})(), "shac")


def test_attributes_that_are_missing_or_raise():
    class Mine(Line):
        simulator = Task.simulator

        @property
        def num_obs(self):
            return {}["obs"]

    with pytest.raises(UserError, match=r"Mine.num_obs failed: KeyError: 'obs' \(.*test_check_task.py, line \d+\)"):
        Env(Mine(), 3)
    Mine.num_obs, Mine.asset = 2, None
    with pytest.raises(UserError, match="cannot load the model of task Mine: cannot load a model from NoneType"):
        Env(Mine(), 3)
    with pytest.raises(UserError, match=r"task must be an object of a subclass of shac.Task, got <class .*Mine'>"):
        Env(Mine, 3)
    with pytest.raises(UserError, match="Mine.control must be a method, got 3"):
        env(control=3)


@pytest.mark.parametrize(
    ("simulator", "words"),
    [
        (lambda self, num, device: 3, "must return a taichi_sim.Simulator, got int 3"),
        (lambda self, num, device: LineSim(1), "must return 3 worlds, got 1"),
        (lambda self, num, device: {}["it"], r"failed: KeyError: 'it' \(.*test_check_task.py, line"),
    ],
)
def test_simulators_of_the_wrong_kind(simulator, words):
    with pytest.raises(UserError, match=f"Mine.simulator {words}"):
        env(simulator=simulator)


@pytest.mark.parametrize(
    ("measures", "words"),
    [
        (lambda states, alive: [alive[-1]], r"must return a dict, name -> tensor \(3,\), got list"),
        (lambda states, alive: {3: alive[-1]}, "must return a dict"),
        (lambda states, alive: {"up": 1.0}, r"must return tensors \(3,\) of real numbers; 'up' is float 1.0"),
        (lambda states, alive: {"up": alive}, r".*'up' is a tensor \(3, 3\) of torch.bool"),
        (lambda states, alive: {}["z"], r"failed: KeyError: 'z' \(.*line \d+\)"),
    ],
)
def test_measures_of_the_wrong_kind(measures, words):
    """Seen: after hours of training."""
    with pytest.raises(UserError, match=f"Mine.measures {words}"):
        rehearse(env(measures=lambda self, states, alive: measures(states, alive)))


@pytest.mark.parametrize("method", ["observe", "reward", "terminated", "control", "reset"])
def test_a_method_that_raises_is_named_with_its_line(method):
    def helper():
        return {}["speed"]

    def broken(self, *args):
        return helper()

    line = helper.__code__.co_firstlineno + 1
    with pytest.raises(
        UserError, match=rf"Mine.{method} failed: KeyError: 'speed' \(.*test_check_task.py, line {line}\)"
    ):
        step(env(**{method: broken}))


def test_a_method_with_other_arguments_is_named_with_its_line():
    def observe(self, state):
        return state.qpos

    line = observe.__code__.co_firstlineno
    with pytest.raises(UserError, match=rf"Mine.observe failed: TypeError: .* \(.*test_check_task.py, line {line}\)"):
        env(observe=observe)


def test_a_division_by_zero_is_the_methods_mistake_and_not_the_trainings():
    """Seen: a traceback, since a ZeroDivisionError is as much an ArithmeticError as what the simulator raises."""
    with pytest.raises(UserError, match="Mine.reward failed: ZeroDivisionError: division by zero"):
        step(env(reward=lambda self, *args: 1 / 0))


@pytest.mark.parametrize(
    ("method", "where"),
    [("observe", "where episodes begin"), ("control", "in step 0"), ("reward", "in step 0"), ("reset", "in world 1")],
)
def test_a_number_that_is_not_finite_in_the_first_steps_is_traced_to_its_method(method, where):
    def spoil(self, *args):
        value = getattr(Line, method)(self, *args)
        if method == "reset":
            return value._replace(qvel=value.qvel.index_fill(0, torch.tensor([1]), float("nan")))
        return value.index_fill(0, torch.tensor([1]), float("inf"))

    with pytest.raises(UserError, match=rf"Mine.{method}.* is not finite in world 1.*(inf|nan)") as error:
        rehearse(env(**{method: spoil}))
    assert where in str(error.value)


@pytest.mark.parametrize("method", ["observe", "reward", "control"])
def test_a_method_that_cuts_the_gradient_is_named(method):
    """Seen: it trained without a word."""
    original = getattr(Line, method)
    with pytest.raises(UserError, match=f"Mine.{method} returns .* without a gradient"):
        rehearse(env(**{method: lambda self, *args: original(self, *args).detach()}))


def test_a_reward_whose_gradient_is_zero_or_not_finite_gets_a_warning():
    flat = env(reward=lambda self, state, obs, action: 0.0 * state.qpos[:, 0])
    assert "Mine.reward in the actions is zero" in rehearse(flat)
    steep = env(reward=lambda self, state, obs, action: (state.qpos[:, 0] * 0.0).sqrt())
    assert "is not finite" in rehearse(steep)


def test_the_warning_stands_in_the_log_before_the_first_epoch(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from toy import Line\n"
        "class Mine(Line):\n"
        "    def reward(self, state, obs, action):\n"
        "        return 0 * state.qpos[:, 0]\n"
    )
    quick = ["--num-envs=2", "--max-epochs=1", "--set=horizon=4", "--set=critic_iterations=1", "--set=actor_units=4"]
    result = CliRunner().invoke(main, ["--model", f"{tmp_path}/mine.py", "--run-dir", f"{tmp_path}/run", *quick])
    assert result.exit_code == 0, result.output
    _, warning, epoch, *_ = result.stdout.splitlines()
    assert warning.startswith("Warning: the gradient of Mine.reward in the actions is zero") and "epoch 1/1" in epoch
    assert warning in (tmp_path / "run" / "log.txt").read_text()


def test_what_cannot_be_differentiated_is_one_line():
    def reward(self, state, obs, action):
        root = state.qpos[:, 0].exp()
        value = root + obs[:, 0]
        root += 1
        return value

    with pytest.raises(UserError, match="the gradient of Mine's first steps failed: RuntimeError: .*in-?place"):
        rehearse(env(reward=reward))


def test_a_reward_that_is_flat_only_where_nothing_moves_gets_no_warning():
    begin = {"reset": lambda self, num, generator, sim, stochastic=True: self.nominal(num, sim)}
    assert rehearse(env(reward=lambda self, state, obs, action: -state.qpos[:, 0].square(), **begin)) is None


def test_a_task_that_cannot_be_copied_is_rehearsed_all_the_same():
    assert rehearse(env(__init__=lambda self: setattr(self, "lock", threading.Lock()))) is None


def test_a_sound_task_is_left_as_it_was():
    class Counting(Line):
        calls = 0

        def reward(self, state, obs, action):
            self.calls += 1
            return super().reward(state, obs, action)

    sound = Env(Counting(), 3)
    before, seed = State(*(x.clone() for x in sound.state)), sound.generator.get_state()
    assert rehearse(sound) is None
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
