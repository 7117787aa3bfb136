"""A run folder of an older release, 3 epochs of CartPole in f32: hence in processes of their own."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from processes import run

OLD = Path(__file__).parents[2] / "old" / "run"


def command(name: str, *arguments) -> str:
    program = f"from shac.cli.{name} import main; main({list(map(str, arguments))})"
    return run(program, prelude="").stdout


def test_its_policy_does_what_it_did():
    found = json.loads(command("evaluate", OLD, "--json"))
    # what the release before the move into rooms printed
    assert found["return_mean"] == pytest.approx(-1939.2017889460549, rel=1e-4)
    assert found["return_std"] == pytest.approx(182.63448709468324, rel=1e-3)
    assert found["length_mean"] == 240.0


def test_it_goes_on_and_is_filmed(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(OLD, folder)
    settings = folder / "config.yaml"
    settings.write_text(settings.read_text().replace("max_epochs: 3", "max_epochs: 4"))
    command("train", "--resume", folder, "--quiet")
    with open(folder / "metrics.csv", newline="") as file:
        metrics = list(csv.DictReader(file))
    assert [row["epoch"] for row in metrics] == ["1", "2", "3", "4"]
    # nobody counted its processor time when it began
    assert {row["cpu_seconds"] for row in metrics} == {""} and float(metrics[-1]["seconds"]) > 0
    command("render", folder, "--out", tmp_path / "strip.png", "--frames", 1)
    assert (tmp_path / "strip.png").stat().st_size > 1000
