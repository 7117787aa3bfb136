"""What PPO, SAC, REDQ and MBPO share: a run goes on as if it had not been interrupted, and steps leave no tape."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import processes
import pytest
import torch
from click.testing import CliRunner
from toy import LineSim, SeenLine

from shac.cli import evaluate, train
from shac.env import Env
from shac.errors import NonFiniteError
from shac.models import load_task
from shac.runs import checkpoint
from shac.runs.config import to_yaml
from shac.runs.misfit import require_learner
from shac.runs.runner import LEARNERS, build_learner
from shac.runs.settings import ALGOS, MBPO, PPO, REDQ, SAC

pytest.importorskip("torchrl")

DOUBLE = str(Path(__file__).parents[2] / "cartpole_double.py")
SMALL = {"num_envs": 3, "horizon": 4, "max_epochs": 6, "actor_units": (8,), "seed": 3}
OFF_POLICY = {**SMALL, "critic_units": (8,), "batch": 5, "random_steps": 3, "replay": 20}
CONFIGS = {
    "ppo": PPO(**SMALL, minibatch=6, passes=2),
    "sac": SAC(**OFF_POLICY),
    "redq": REDQ(**OFF_POLICY, critics=4, updates=3),
    "mbpo": MBPO(
        **{**OFF_POLICY, "random_steps": 4},
        updates=2,
        members=3,
        elites=2,
        model_units=(8,),
        model_batch=5,
        weight_decay=(1e-5, 1e-5),
        rollouts=30,
        rollout_length=(0, 1, 1, 25),
    ),
}


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


class Breaking(LineSim):
    """Cannot step from some call on."""

    def step(self, state, ctrl):
        if self.calls == 5:
            raise FloatingPointError("qvel[0] of world 2 is not finite")
        return super().step(state, ctrl)


class BreakingLine(SeenLine):
    def simulator(self, num_envs, device=None):
        return Breaking(num_envs)


def test_what_the_simulator_cannot_step_is_named_with_its_epoch(config):
    learner = build_learner(BreakingLine(), config)
    with pytest.raises(NonFiniteError, match=r"in epoch 1: qvel\[0\] of world 2"):
        for _ in range(6):
            learner.train_epoch()


def weights(learner):
    return torch.nn.utils.parameters_to_vector(learner.policy.parameters())


def test_a_run_goes_on_as_if_it_had_not_been_interrupted(config, tmp_path):
    whole = build_learner(SeenLine(), config)
    epochs = [whole.train_epoch() for _ in range(6)]
    first = build_learner(SeenLine(), config)
    # the memory of 20 steps is overwritten from the seventh step of 3 worlds on
    for _ in range(3):
        first.train_epoch()
    checkpoint.save(tmp_path / "state.pt", first.state_dict())
    saved = checkpoint.load(tmp_path / "state.pt")
    saved.pop("format")
    second = build_learner(SeenLine(), config)
    require_learner(saved, second)
    second.load_state_dict(saved)
    later = [second.train_epoch() for _ in range(3)]
    times = ("time_rollout", "time_backward", "time_critic")
    without = [{k: v for k, v in epoch._asdict().items() if k not in times} for epoch in epochs[3:]]
    assert [{k: v for k, v in epoch._asdict().items() if k not in times} for epoch in later] == without
    assert torch.equal(weights(second), weights(whole))
    assert not torch.equal(weights(second), weights(first))


def test_the_global_generator_is_left_alone_and_does_not_matter(config):
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        learner = build_learner(SeenLine(), config)
        learner.train_epoch()
        learner.train_epoch()
        assert torch.equal(torch.get_rng_state(), before)
        results.append(weights(learner))
    assert torch.equal(*results)


def test_from_the_command_line(config, tmp_path):
    settings = tmp_path / "settings.yaml"
    settings.write_text(to_yaml(dataclasses.replace(config, model=DOUBLE, max_epochs=3)))
    command = ["--config", str(settings), "--quiet"]
    run = tmp_path / "run"
    result = CliRunner().invoke(train.main, [*command, "--run-dir", str(run)])
    assert result.exit_code == 0, result.output
    task, policy, loaded = checkpoint.load_run(run)
    assert loaded.algo == config.algo and type(loaded) is type(config)
    assert policy(torch.zeros(2, task.num_obs)).shape == (2, task.num_actions)
    result = CliRunner().invoke(evaluate.main, [str(run), "--episodes=2", "--stochastic"])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(train.main, [*command, "--init", str(run), "--run-dir", str(tmp_path / "on")])
    assert result.exit_code == 0, result.output


def test_the_command_knows_every_algorithm():
    assert tuple(train.ALGOS) == ALGOS == tuple(LEARNERS)


def test_a_setting_of_another_algorithm_is_refused():
    for given in (["--algo=ppo", "--set=td_lambda=.9"], ["--set=clip=.1"], ["--algo=sac", "--set=critics=3"]):
        result = CliRunner().invoke(train.main, ["--model=ant", *given, "--list-settings"])
        assert result.exit_code == 2 and "has no setting" in result.output, result.output


@pytest.mark.parametrize(
    "absurd",
    [
        ["--algo=ppo", "--set=horizon=1000000000", "--set=minibatch=1000000000"],
        ["--algo=sac", "--set=replay=1000000000000"],
        ["--algo=sac", "--set=critic_units=1000000000"],
        ["--algo=redq", "--set=critics=1000000000"],
    ],
)
def test_absurd_sizes_get_one_line(absurd, tmp_path):
    result = CliRunner().invoke(train.main, ["--model", DOUBLE, *absurd, "--run-dir", str(tmp_path / "run")])
    assert result.exit_code == 2 and "memory" in result.output and result.output.count("\n") <= 3, result.output
    assert not (tmp_path / "run").exists()


def test_a_missing_library_gets_one_line(tmp_path):
    program = f"""
    import sys
    sys.modules["torchrl"] = None
    from shac.cli.train import main
    main(["--model", {DOUBLE!r}, "--algo", "ppo", "--run-dir", {str(tmp_path / "run")!r}])
    """
    process = processes.run(program, prelude="", status=2)
    assert "pip install 'taichi-sim[baselines]'" in process.stderr


def test_steps_without_gradient_leave_no_tape():
    env = Env(load_task("ant"), 512)
    tape = env.sim.tape_bytes(None) / 2**20
    assert tape > 2
    action = torch.zeros(512, env.task.num_actions, dtype=env.dtype)

    def resident():
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    with torch.no_grad():
        kept = [env.step(action) for _ in range(3)]
        before = resident()
        kept += [env.step(action) for _ in range(50)]
        grown = resident() - before
    assert not kept[-1][0].requires_grad
    # what the steps gave is kept by the caller: some 60 numbers a world
    assert grown < 50 * tape / 4
