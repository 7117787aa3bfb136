import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from shac.algos.episodes import Episodes
from shac.cli import evaluate, gait, render, train
from shac.runs import checkpoint, runner
from shac.runs.logger import TIMES

DOUBLE = str(Path(__file__).parents[2] / "cartpole_double.py")
QUICK = ["--set=horizon=8", "--set=critic_iterations=1", "--set=actor_units=8", "--set=critic_units=8", "--num-envs=4"]
COMMAND = [
    "--model",
    DOUBLE,
    *QUICK,
    "--set=normalize_obs=true",
    "--set=stagger=false",
    "--set=save_interval=4",
    "--seed=5",
    "--max-epochs=50",
]


def invoke(command, *arguments):
    return CliRunner().invoke(command.main, [str(argument) for argument in arguments])


def rows(run_dir):
    """metrics.csv without the columns that no two runs share."""
    with open(run_dir / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


def assert_same_runs(run_dir, other):
    assert rows(run_dir) == rows(other)
    states = [checkpoint.load(checkpoint.path_of(folder, "last")) for folder in (run_dir, other)]
    policies = [checkpoint.load(checkpoint.path_of(folder, "best")) for folder in (run_dir, other)]
    for one, two in (states, policies):
        assert one["epoch"] == two["epoch"]
        for name in one["actor"]:
            assert torch.equal(one["actor"][name], two["actor"][name])
        for name in one["normalizer"]:
            assert torch.equal(one["normalizer"][name], two["normalizer"][name])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nothing interrupted."""
    run_dir = tmp_path_factory.mktemp("runs") / "finished"
    result = invoke(train, *COMMAND, "--run-dir", run_dir)
    assert result.exit_code == 0, result.output
    return run_dir, result.output


def test_snapshots_are_the_states_between(tmp_path):
    short = [*COMMAND[:-1], "--max-epochs=4", "--set=lr_schedule=constant", "--set=snapshots=0,2,4"]
    assert invoke(train, *short, "--run-dir", tmp_path).exit_code == 0
    kept = {path.stem: checkpoint.load(path) for path in (tmp_path / "checkpoints").glob("epoch-*.pt")}
    assert {n: state["learner"]["epoch"] for n, state in kept.items()} == {"epoch-0": 0, "epoch-2": 2, "epoch-4": 4}
    last = checkpoint.load(checkpoint.path_of(tmp_path, "last"))
    assert all(torch.equal(last["actor"][name], value) for name, value in kept["epoch-4"]["actor"].items())
    assert not torch.equal(last["actor"]["mu.0.weight"], kept["epoch-2"]["actor"]["mu.0.weight"])


def test_a_run_leaves_settings_metrics_events_and_checkpoints(finished):
    run_dir, output = finished
    metrics = rows(run_dir)
    assert [int(row["epoch"]) for row in metrics] == list(range(1, 51))
    assert [int(row["steps"]) for row in metrics] == [32 * k for k in range(1, 51)]
    # Episodes of 240 steps end with every 30th window of 8.
    assert [int(row["episodes"]) for row in metrics] == [4 * (k // 30) for k in range(1, 51)]
    assert metrics[28]["return_mean"] == "" and float(metrics[29]["return_mean"]) < 0
    assert metrics[29]["episode_length"] == "240.0"

    lines = [line for line in output.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 50
    assert re.search(r"epoch 50/50 +steps 1,600 .*steps/s [\d,]+ +time left 0:00:00", lines[-1])
    events = EventAccumulator(str(run_dir)).Reload()
    assert [event.step for event in events.Scalars("actor_loss")] == list(range(1, 51))
    assert events.Scalars("actor_loss")[9].value == pytest.approx(float(metrics[9]["actor_loss"]), rel=1e-6)
    config = checkpoint.read_config(run_dir)
    assert (config.model, config.seed, config.horizon, config.actor_lr) == (DOUBLE, 5, 8, 1e-2)
    assert "Complete" in (run_dir / "log.txt").read_text() and checkpoint.completeness_of(run_dir).is_file()
    # one thread works, so that its time is at most that on the wall
    with open(run_dir / "metrics.csv", newline="") as file:
        times = [(float(row["cpu_seconds"]), float(row["seconds"])) for row in csv.DictReader(file)]
    assert times == sorted(times) and times[0][0] > 0 and times[-1][0] < 1.2 * times[-1][1] + 0.1


def test_a_killed_run_goes_on_as_if_nothing_had_happened(finished, tmp_path):
    run_dir = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "shac.cli.train", *COMMAND, "--run-dir", str(run_dir), "--quiet"], cwd=tmp_path
    )
    metrics = run_dir / "metrics.csv"
    deadline = time.monotonic() + 120
    # Past episodes, so that there is a best policy, and with luck not at a checkpoint: rows are then left over.
    while not metrics.exists() or metrics.read_text().count("\n") < 34:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert 33 <= len(rows(run_dir)) < 50
    # A row that the crash cut off.
    with metrics.open("a") as file:
        file.write("50,1,2")

    result = invoke(train, "--resume", run_dir, "--quiet")
    assert result.exit_code == 0, result.output
    assert_same_runs(run_dir, finished[0])


def test_a_run_killed_again_and_again_ends_as_if_nothing_had_happened(finished, tmp_path):
    """Killed wherever it is, also while it starts or saves, and resumed: the same metrics and networks to the bit."""
    run_dir = tmp_path / "killed"
    arguments = [*COMMAND, "--run-dir", str(run_dir), "--quiet"]
    for seconds in (0.3, 0.05, 0.6):
        process = subprocess.Popen([sys.executable, "-m", "shac.cli.train", *arguments], cwd=tmp_path)
        deadline = time.monotonic() + 120
        while not (run_dir / "metrics.csv").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.002)
        with contextlib.suppress(subprocess.TimeoutExpired):
            # counted from the first epoch, or, when it goes on, from the start of the process
            process.wait(seconds if "--resume" not in arguments else 4 + seconds)
        process.kill()
        process.wait()
        arguments = ["--resume", str(run_dir), "--quiet"]
    result = invoke(train, *arguments)
    assert result.exit_code == 0, result.output
    assert_same_runs(run_dir, finished[0])


def test_ctrl_c_saves_and_the_run_goes_on_from_there(finished, tmp_path, monkeypatch):
    run_dir = tmp_path / "interrupted"
    log = runner.Logger.log

    def interrupt(self, metrics):
        log(self, metrics)
        if metrics.epoch == 37:
            os.kill(os.getpid(), signal.SIGINT)

    # a shell's background jobs begin with SIGINT ignored
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(runner.Logger, "log", interrupt)
        result = invoke(train, *COMMAND, "--run-dir", run_dir)
    assert result.exit_code == 130
    assert f"Interrupted after epoch 37: shac-train --resume {run_dir} goes on" in result.output
    assert checkpoint.load(checkpoint.path_of(run_dir, "last"))["epoch"] == 37
    assert not checkpoint.completeness_of(run_dir).exists()
    assert signal.getsignal(signal.SIGINT) is handler

    result = invoke(train, "--resume", run_dir)
    assert result.exit_code == 0, result.output
    assert_same_runs(run_dir, finished[0])


def test_a_run_ends_complete_when_its_time_is_up_however_often_it_is_interrupted(tmp_path, monkeypatch):
    """The clock is a double that counts a second each time an epoch ends, and nobody's time between two commands."""
    clock = iter(range(1000))
    monkeypatch.setattr(runner.time, "process_time", lambda: next(clock))
    log, run_dir = runner.Logger.log, tmp_path / "run"

    def interrupt(self, metrics):
        log(self, metrics)
        if metrics.epoch == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(runner.Logger, "log", interrupt)
        limited = [*COMMAND[:-1], "--max-epochs=1000", "--set=max_cpu_seconds=5"]
        result = invoke(train, *limited, "--run-dir", run_dir)
    assert result.exit_code == 130, result.output
    # of five seconds two are left, whatever the epochs
    assert "time left 0:00:02" in result.output.splitlines()[-2]
    next(clock), next(clock)
    result = invoke(train, "--resume", run_dir, "--quiet")
    assert result.exit_code == 0, result.output
    with open(run_dir / "metrics.csv", newline="") as file:
        assert [float(row["cpu_seconds"]) for row in csv.DictReader(file)] == [1, 2, 3, 4, 5]
    assert checkpoint.completeness_of(run_dir).is_file()
    # complete as it is, it has nothing to go on with
    assert invoke(train, "--resume", run_dir, "--quiet").exit_code == 0
    assert len(rows(run_dir)) == 5


def test_evaluation_prints_one_json_object(finished):
    result = invoke(evaluate, finished[0], "--episodes", 5, "--json")
    values = json.loads(result.stdout)
    assert list(values) == [
        "episodes",
        "return_mean",
        "return_std",
        "return_min",
        "length_mean",
        "upright_fraction",
        "balanced",
    ]
    assert values["episodes"] == 5 and values["length_mean"] == 240
    assert values["return_min"] <= values["return_mean"] <= 0 and values["return_std"] > 0
    # Deterministic, and it does not depend on how it is shown.
    assert f"return_mean       {values['return_mean']:.6g}" in invoke(evaluate, finished[0], "--episodes", 5).stdout
    assert invoke(evaluate, finished[0], "--episodes", 5, "--json", "--seed", 1).stdout != result.stdout


NAN_MODEL = """
import torch
from cartpole_double import CartPoleOnDouble
class Mine(CartPoleOnDouble):
    def reward(self, state, obs, action):
        # The first episodes' ends are far from the beginning of the rail only by then.
        self.steps = getattr(self, "steps", 0) + 1
        reward = super().reward(state, obs, action)
        return reward.index_fill(0, torch.tensor([1]), float("inf")) if self.steps == 21 else reward
"""


def test_a_non_finite_number_stops_the_run_and_leaves_its_state(tmp_path):
    model, run_dir = tmp_path / "mine.py", tmp_path / "run"
    model.write_text(NAN_MODEL)
    result = invoke(train, "--model", model, *QUICK, "--max-epochs", 9, "--run-dir", run_dir)
    assert result.exit_code == 1
    assert "Error: the reward is not finite: first in epoch 2, step 4 of the window, world 1" in result.stderr
    assert len(result.stderr.splitlines()) == 1 and str(run_dir / "checkpoints" / "nonfinite.pt") in result.stderr
    assert len(rows(run_dir)) == 2
    assert checkpoint.load(checkpoint.path_of(run_dir, "nonfinite"))["epoch"] == 2
    assert "nonfinite.pt" in (run_dir / "log.txt").read_text()


def test_settings_of_a_file_give_way_to_assignments_and_flags(tmp_path):
    (tmp_path / "c.yaml").write_text("seed: 1\nhorizon: 9\ngamma: 0.5\n")
    result = invoke(
        train,
        "--list-settings",
        "--model",
        "cartpole",
        "--config",
        tmp_path / "c.yaml",
        "--set",
        "horizon=10",
        "--seed",
        3,
    )
    assert result.exit_code == 0
    for line in ("seed: 3", "horizon: 10", "gamma: 0.5", "actor_lr: 0.01"):
        assert line in result.stdout.splitlines()


def test_models_are_listed():
    assert "cartpole" in invoke(train, "--list-models").stdout.splitlines()


@pytest.mark.parametrize("command", [train, evaluate])
def test_help_ends_with_an_example(command):
    lines = invoke(command, "--help").stdout.rstrip().splitlines()
    assert lines[-1].strip().startswith(("shac-", "torchrun ")) and "Examples:" in lines


def test_help_does_not_wait_for_torch_and_taichi():
    code = "import sys, shac.cli.train, shac.cli.evaluate; sys.exit('torch' in sys.modules or 'taichi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (train, [], "--model is missing"),
        (train, ["--model", "cartpoel"], "no model is called 'cartpoel'; did you mean cartpole?"),
        (train, ["--model", "nowhere.py"], "there is no file"),
        (train, ["--model", DOUBLE, "--set", "horizn=3"], "there is no setting 'horizn'; did you mean horizon?"),
        (train, ["--model", DOUBLE, "--num-envs", "0"], "num_envs must be at least 1, got 0"),
        (train, ["--model", DOUBLE, "--config", "nowhere.yaml"], "cannot read nowhere.yaml: No such file"),
        (train, ["--resume", "nowhere"], "there is no run folder nowhere"),
        (train, ["--resume", "x", "--seed", "1"], "--resume takes all settings from the run folder; leave out --seed"),
        (evaluate, ["nowhere"], "there is no run folder nowhere"),
        (evaluate, ["nowhere", "--set", "push"], "--set takes name=value, got 'push'"),
        (gait, ["nowhere", "--set", "push"], "--set takes name=value, got 'push'"),
        (render, ["--model", "ant", "--out", "ant.png", "--set", "history=2"], "--set changes the task of a RUN"),
    ],
)
def test_a_mistake_gives_one_line_and_status_2(command, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke(command, *arguments)
    assert result.exit_code == 2
    assert result.stdout == "" and len(result.stderr.splitlines()) == 1 and message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_endless_run_says_so_and_can_be_interrupted(tmp_path, monkeypatch):
    """Seen: 10^18 epochs have no time left that Python could write down."""
    log = runner.Logger.log

    def interrupt(self, metrics):
        log(self, metrics)
        if metrics.epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(runner.Logger, "log", interrupt)
    result = invoke(train, *COMMAND, "--max-epochs", 10**18, "--run-dir", tmp_path / "run")
    assert result.exit_code == 130, result.output
    assert "epoch 2/1000000000000000000" in result.output and "time left 999999999 days" in result.output


def test_what_memory_does_not_suffice_for_gives_one_line_and_status_2(finished, monkeypatch):
    for failing, message in (
        ("shac.runs.evaluate.Env", "there is not enough memory: DefaultCPUAllocator: can't allocate memory"),
        (
            "taichi_sim.machine.memory.available",
            "500 episodes of 240 steps at the same time would take 3.7 MB of memory",
        ),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(failing, _out_of_memory if failing.endswith("Env") else lambda: 1e6)
            result = invoke(evaluate, finished[0], "--episodes", 500)
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1), result.output
        assert message in result.stderr


def _out_of_memory(*args, **kwargs):
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8000000000000 bytes.")


@pytest.mark.parametrize("theta", ["nan", "inf", "2"])
def test_an_option_that_is_no_number_of_its_range_is_refused(theta):
    result = invoke(evaluate, "nowhere", "--theta", theta)
    assert result.exit_code == 2 and "Invalid value for '--theta'" in result.stderr


def test_a_used_run_folder_and_a_damaged_checkpoint_are_refused(finished, tmp_path):
    result = invoke(train, *COMMAND, "--run-dir", finished[0])
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "holds a run already" in result.stderr

    run_dir = tmp_path / "run"
    (run_dir / "checkpoints").mkdir(parents=True)
    (run_dir / "config.yaml").write_bytes((finished[0] / "config.yaml").read_bytes())
    whole = checkpoint.path_of(finished[0], "last").read_bytes()
    for which in ("best", "last"):
        checkpoint.path_of(run_dir, which).write_bytes(whole[:-100])
    for result in (invoke(train, "--resume", run_dir), invoke(evaluate, run_dir)):
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
        assert "is damaged or not a checkpoint" in result.stderr


def test_a_run_can_begin_with_the_networks_of_another(finished, tmp_path):
    still = ["--set=actor_lr=1e-9", "--set=critic_lr=1e-9", "--set=lr_schedule=constant", "--max-epochs=1"]
    run_dir = tmp_path / "on"
    result = invoke(train, *COMMAND, *still, "--init", finished[0], "--run-dir", run_dir)
    assert result.exit_code == 0, result.output
    paths = (checkpoint.path_of(folder, "last") for folder in (finished[0], run_dir))
    before, after = (checkpoint.load(path)["learner"] for path in paths)
    assert after["epoch"] == 1
    for networks in ("actor", "critic"):
        given = before["average_actor" if networks == "actor" else networks]
        for name, weights in given.items():
            torch.testing.assert_close(after[networks][name], weights, rtol=0, atol=1e-6)
    for name, weights in before["critic"].items():
        torch.testing.assert_close(after["target_critic"][name], weights, rtol=0, atol=1e-6)
    # 50 epochs' observations and one more's
    assert after["normalizer"]["count"].item() == pytest.approx(
        51 / 50 * before["normalizer"]["count"].item(), rel=1e-6
    )
    # A run that is resumed needs the other one no more.
    shutil.copytree(run_dir, tmp_path / "moved")
    config = (run_dir / "config.yaml").read_text()
    assert f"init: {finished[0]}" in config
    (tmp_path / "moved" / "config.yaml").write_text(config.replace(str(finished[0]), "nowhere"))
    assert invoke(train, "--resume", tmp_path / "moved").exit_code == 0

    for arguments, message in ((["--init", "nowhere"], "there is no checkpoint"), (["--init", run_dir], "do not fit")):
        result = invoke(train, *COMMAND, "--set=actor_units=9", *arguments, "--run-dir", tmp_path / "refused")
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
        assert message in result.stderr
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize("worse", ["best", "last"])
def test_the_last_policy_becomes_the_best_if_it_is_better(finished, tmp_path, worse):
    """However lucky the training episodes were of which best.pt's mean is."""
    run_dir = tmp_path / "run"
    shutil.copytree(finished[0], run_dir)
    state = checkpoint.load(checkpoint.path_of(run_dir, "last"))
    better = checkpoint.path_of(run_dir, "last" if worse == "best" else "best")
    # full force to one side, all the time
    for actor in [state["actor"], state["learner"]["average_actor"]]:
        actor["mu.3.bias"] += 100.0
    if worse == "best":
        state["epoch"] = 1
    else:
        checkpoint.save(better, {**checkpoint.load(better), "epoch": 1})
    checkpoint.save(checkpoint.path_of(run_dir, worse), state)
    expected = checkpoint.load(better)["actor"]

    assert invoke(train, "--resume", run_dir).exit_code == 0
    found = checkpoint.load(checkpoint.path_of(run_dir, "best"))["actor"]
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_best_policy_is_one_of_the_epochs_with_final_substeps(tmp_path, monkeypatch):
    """However much earlier ones earned: episodes end in epochs 30 and 60 of 64, of which the last 5 are finer."""
    falling = property(lambda self: -float(self.finished) if self.finished else None)
    monkeypatch.setattr(Episodes, "mean_return", falling)
    settings = ["--model=cartpole", "--max-epochs=64", "--set=substeps=2", "--set=final_substeps=3"]
    result = invoke(train, *COMMAND, *settings, "--run-dir", tmp_path)
    assert result.exit_code == 0, result.output
    best = [row["return_best"] for row in rows(tmp_path)]
    assert best == 29 * [""] + 30 * ["-4.0"] + 5 * ["-8.0"]
    assert checkpoint.load(checkpoint.path_of(tmp_path, "best"))["epoch"] in (60, 64)
    # It is evaluated with as many, unless told otherwise.
    as_trained, final, coarse = (
        invoke(evaluate, tmp_path, "--episodes=2", *more).output for more in ([], ["--substeps=3"], ["--substeps=2"])
    )
    assert as_trained == final != coarse
