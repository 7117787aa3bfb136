"""One training in several processes: the same as in one, to rounding; in float64, with a cart-pole of torch's."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ranked
import torch
from click.testing import CliRunner

from shac.cli import train as command
from shac.errors import UserError
from shac.ranks import Ranks, joined
from shac.runs.config import resolve
from shac.runs.runner import build_learner

ROOT = Path(__file__).parents[2]
DOUBLE = str(ROOT / "tests" / "cartpole_double.py")
QUICK = ["--num-envs=4", "--set=horizon=8", "--set=critic_iterations=1", "--set=actor_units=8", "--set=critic_units=8"]


@pytest.fixture(scope="module")
def alone():
    return ranked.train(ranked.learner(), ranked.EPOCHS)


def assert_same(one, two):
    """Numbers, lists, dicts and tensors; the sums of five epochs come in another order."""
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        one, two = one.values(), two.values()
    if isinstance(one, torch.Tensor) and one.dtype != torch.uint8:
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)
    elif isinstance(one, float):
        assert one == pytest.approx(two, rel=1e-9, abs=1e-9)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two), "a random stream"
    elif one is None or isinstance(one, (int, str)):
        assert one == two
    else:
        for a, b in zip(one, two, strict=True):
            assert_same(a, b)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two processes, and then four, have left."""
    folder = tmp_path_factory.mktemp("ranks")
    # of two packages called shac the one that is not a folder of tests
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    script = [sys.executable, "-m", "ranked", str(folder), "2", "4"]
    process = subprocess.run(script, capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stderr
    return folder


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("size", [2, 4])
def test_they_are_the_training_of_one_process(alone, folder, size):
    results = [torch.load(folder / f"{size}-{rank}.pt", weights_only=False) for rank in range(size)]
    for result in results:
        torch.testing.assert_close(result[0]["gradient"], alone[0]["gradient"], rtol=1e-12, atol=1e-15)
        assert_same(result, alone)
    assert alone[-1]["state"]["episodes"]["finished"] > 12, "episodes have ended, and others begun"
    # resumed in one process
    shac = ranked.learner()
    shac.load_state_dict(results[1][2]["state"])
    assert_same(ranked.train(shac, ranked.EPOCHS - 3), alone[3:])


def test_a_lost_process_ends_all_with_one_line(tmp_path):
    launcher = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "shac.cli.train"]
        + ["--model", DOUBLE, *QUICK, "--max-epochs=100000", "--run-dir=run", "--quiet", "--distributed"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        metrics, deadline = tmp_path / "run" / "metrics.csv", time.monotonic() + 120
        while not metrics.exists() or metrics.read_text().count("\n") < 15:
            assert launcher.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        _, errors = launcher.communicate(timeout=60)
    finally:
        with contextlib.suppress(OSError):
            launcher.terminate()
    assert launcher.returncode != 0
    lines = [line for line in errors.splitlines() if line.startswith("Error: ")]
    assert len(lines) <= 1 and all("lost another one of this training" in line for line in lines), errors
    assert "shac/" not in errors, "a traceback of ours"
    assert (tmp_path / "run" / "log.txt").read_text().count("2 processes, 2 worlds each") == 1


def test_what_cannot_be_shared_is_refused(monkeypatch):
    with pytest.raises(UserError, match="num_envs is 6, which 4 processes cannot share evenly"):
        Ranks(0, 4).share(6)
    task = ranked.ShortEpisodes()
    with pytest.raises(UserError, match="ppo trains in one process.*without torchrun"):
        build_learner(task, resolve(task, "ppo", {}), Ranks(0, 2))
    result = CliRunner().invoke(command.main, ["--model", DOUBLE, "--distributed"])
    assert result.exit_code == 2 and "torchrun --nproc-per-node 2 -m shac.cli.train" in result.output
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "2")
    with pytest.raises(UserError, match="cuda:1 is one card for several processes"), joined("cuda:1"):
        pass
