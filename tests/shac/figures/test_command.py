"""shac-figure: what it says, what it refuses, and that it goes on where it was killed."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from fabricated import run as fabricate

from shac.cli import figure, figure_job
from shac.figures import catalog, plan, workflow
from shac.figures.figure import Budget, Run
from shac.models import load_task
from shac.runs import runner
from shac.runs.config import resolve, to_yaml

DOUBLE = str(Path(__file__).parents[2] / "cartpole_double.py")
TINY = {"num_envs": 4, "horizon": 8, "critic_iterations": 1, "actor_units": (8,), "critic_units": (8,), "seed": 0}
# its name is of a run of figure 4, whose drawing asks for no more than its curve
RUN = Run("cartpole-shac-0", DOUBLE, "shac", 0, {**TINY, "max_epochs": 150, "save_interval": 100})


def invoke(*arguments):
    return CliRunner().invoke(figure.main, [str(argument) for argument in arguments])


def assert_one_line(result, *parts):
    assert result.exit_code == 2, result.output
    assert result.stdout == "" and len(result.stderr.splitlines()) == 1, result.output
    for part in parts:
        assert part in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give the figures' numbers or `all`; see shac-figure --list"),
        (["14"], "there is no figure 14; there are 1, "),
        (["four"], "there is no figure four; there are 1, "),
        (["5", "-4"], "No such option"),
        (["5", "--budget", "all"], "'all' is not one of 'quick', 'default', 'paper'"),
        (["5", "--partial", "--runs", "nowhere"], "there is no run folder"),
    ],
)
def test_a_mistake_gives_status_2_and_leaves_nothing(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == 2 and message in result.stderr
    assert not list(tmp_path.rglob("*.png"))


def test_help_ends_with_examples_and_does_not_wait_for_torch():
    lines = invoke("--help").stdout.rstrip().splitlines()
    assert lines[-1].strip().startswith("shac-figure") and "Examples:" in lines
    code = "import sys, shac.cli.figure, shac.cli.figure_job; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_algorithm_that_this_version_lacks_is_named_with_its_run(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "ALGOS", ("shac", "bptt"))
    result = invoke(4, "--runs", tmp_path / "runs")
    assert_one_line(result, "run cartpole-ppo-0 needs the algorithm 'ppo'", "there are: bptt, shac")


@pytest.mark.parametrize(("module", "what"), [("matplotlib", "figures need"), ("snakemake", "shac-figure needs")])
def test_a_missing_extra_is_named_with_its_cure(module, what, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    result = invoke(5, "--runs", tmp_path / "runs")
    assert_one_line(result, f"{what} {module}", 'pip install "taichi-sim[figures]"')
    assert not (tmp_path / "runs").exists()


def test_a_run_folder_of_other_settings_is_refused(tmp_path):
    folder = tmp_path / "humanoid_mtu-shac-0"
    folder.mkdir()
    other = resolve(load_task("humanoid_mtu"), "shac", {"model": "humanoid_mtu", "num_envs": 8, "actor_units": (4,)})
    (folder / "config.yaml").write_text(to_yaml(other))
    result = invoke(5, "--runs", tmp_path)
    what = "num_envs is 8 instead of 64, actor_units is 4 instead of 512,256; move it away"
    assert_one_line(result, f"{folder} is a run of other settings: {what}")
    (folder / "config.yaml").unlink()
    (folder / "notes.txt").touch()
    assert_one_line(invoke(5, "--runs", tmp_path), f"{folder} is not a run folder")


def test_a_run_from_before_a_setting_came_serves(tmp_path):
    wanted = Run("a", "humanoid_mtu", "shac", 0)
    text = to_yaml(plan.settings_of(wanted))
    assert "  follow: null\n" in text
    for change, fits in ((("  follow: null\n", ""), True), (("  follow: null\n", "  follow: 0.3\n"), False)):
        (tmp_path / "config.yaml").write_text(text.replace(*change))
        with contextlib.nullcontext() if fits else pytest.raises(ValueError, match="is a run of other settings: task"):
            plan.check_folder(wanted, tmp_path)


def test_the_runs_that_are_kept_are_of_todays_settings():
    kept = Path(__file__).parents[3] / "docs" / "figures" / "runs"
    figures = catalog.runs_of(list(catalog.FIGURES), Budget.DEFAULT)
    runs = {run.name: run for several in figures.values() for run in several}
    found = [folder for folder in kept.iterdir() if folder.name in runs]
    assert len(found) > 40
    for folder in found:
        plan.check_folder(runs[folder.name], folder)


def test_more_snapshots_than_wanted_are_no_other_settings(tmp_path):
    wanted = Run("a", DOUBLE, "shac", 0, {**TINY, "snapshots": (1, 2)})
    for snapshots, fits in (((0, 1, 2), True), ((1, 2), True), ((1, 3), False)):
        found = Run("a", DOUBLE, "shac", 0, {**TINY, "snapshots": snapshots})
        (tmp_path / "config.yaml").write_text(to_yaml(plan.settings_of(found)))
        with contextlib.nullcontext() if fits else pytest.raises(ValueError, match="snapshots is 1,3 instead of 1,2"):
            plan.check_folder(wanted, tmp_path)


def test_figures_and_what_they_lack_are_listed(tmp_path):
    fabricate(tmp_path / "humanoid_mtu-shac-0", [1000], lambda x: x)
    lines = invoke("--list", "--runs", tmp_path).stdout.splitlines()
    five = next(num for num, line in enumerate(lines) if line.startswith("  5  Six moments of"))
    assert lines[five + 1].strip() == "1 of 1 runs complete"
    assert "runs in all" in lines[-1] and "core hours" in lines[-1]
    (tmp_path / "humanoid_mtu-shac-0" / "complete").unlink()
    result = invoke(5, "--dry-run", "--runs", tmp_path / "empty")
    assert result.stdout == (
        "figure 5 lacks 1 of 1 runs, about 8 core minutes: humanoid_mtu-shac-0\nfigure 5: would be drawn\n"
    )
    assert not (tmp_path / "empty").exists()


def test_what_is_there_is_drawn_with_partial(tmp_path, monkeypatch):
    folder = tmp_path / "runs" / "ant-shac-1"
    fabricate(folder, [1000, 3000], lambda x: x)
    (folder / "config.yaml").write_text(to_yaml(resolve(load_task("ant"), "shac", {"model": "ant", "seed": 1})))
    # also if others need an algorithm that this version does not have
    monkeypatch.setattr(plan, "ALGOS", ("shac", "bptt"))
    result = invoke(4, "--partial", "--runs", tmp_path / "runs", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("figure 4 lacks 67 of 68 runs, about ")
    assert result.stdout.endswith(f"figure 4: {tmp_path / 'out' / 'fig04.png'}\n")


def program(folder: Path) -> list[str]:
    """A process that trains and draws `RUN`, as shac-figure does."""
    code = f"""
import signal, sys
from pathlib import Path
from test_command import the_plan
from shac.figures import workflow
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    sys.exit(not workflow.run(Path({str(folder)!r}), the_plan(Path({str(folder)!r})).write(), 1, None, False))
except KeyboardInterrupt:
    sys.exit(130)
"""
    return [sys.executable, "-c", code]


def the_plan(folder: Path) -> plan.Plan:
    return plan.Plan(folder, folder / "out", Budget.QUICK, {4: [RUN]})


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_figure_goes_on_where_it_was_killed_or_interrupted(tmp_path):
    pytest.importorskip("snakemake", reason="needs Python 3.11")
    folder, run_dir = tmp_path / "runs", tmp_path / "runs" / RUN.name
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}

    def epochs():
        path = run_dir / "metrics.csv"
        return path.read_text().count("\n") - 1 if path.exists() else 0

    def log():
        return [line.partition(" ")[2] for line in (run_dir / "log.txt").read_text().splitlines()]

    for number, at_least, said in ((signal.SIGKILL, 5, "Interrupted"), (signal.SIGINT, 35, "Interrupted")):
        process = subprocess.Popen(program(folder), env=environment, cwd=tmp_path)
        wait_for(lambda at_least=at_least: epochs() >= at_least)
        process.send_signal(number)
        assert process.wait(60) == (130 if number == signal.SIGINT else -number)
        # also a training whose workflow is gone saves and ends
        wait_for(lambda said=said: log()[-1].startswith(said))
    saved = int(log()[-1].split()[3].rstrip(":"))
    assert 35 <= saved < 150

    finished = subprocess.run(program(folder), env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert f"{RUN.name}: goes on" in finished.stdout and f"Goes on after epoch {saved}: {run_dir}" in log()
    assert epochs() == 150 and (run_dir / "complete").exists() and (folder / "out" / "fig04.png").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]
    assert not list((folder / ".snakemake" / "locks").iterdir())

    # no training is made twice
    (folder / "out" / "fig04.png").unlink()
    again = subprocess.run(program(folder), env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert again.stdout == f"figure 4: {folder / 'out' / 'fig04.png'}\n"


def test_two_of_them_do_not_share_a_folder(tmp_path):
    pytest.importorskip("snakemake", reason="needs Python 3.11")
    with workflow.locked(tmp_path / ".workflow" / "lock"):
        result = invoke(5, "--runs", tmp_path, "--budget", "quick")
    assert result.exit_code == 2
    assert f"another shac-figure is at work on {tmp_path}" in result.stderr


def test_a_failed_job_is_one_line_and_another_folder_is_left_alone(tmp_path):
    other = Run(RUN.name, DOUBLE, "shac", 0, {**RUN.settings, "max_epochs": 1})
    runner.start(plan.settings_of(other), tmp_path / RUN.name, quiet=True)
    path = the_plan(tmp_path).write()
    result = CliRunner().invoke(figure_job.main, ["train", str(path), RUN.name])
    assert_one_line(result, "is a run of other settings: max_epochs is 1 instead of 150")
