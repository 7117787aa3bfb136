"""shac-gait: the report of a committed policy, and what is refused."""

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from shac import motion
from shac.cli import gait
from shac.gait.strides import POINTS
from shac.models import load_task

POLICIES = Path(__file__).resolve().parents[3] / "docs/figures/policies"


def invoke(*arguments):
    return CliRunner().invoke(gait.main, [str(argument) for argument in arguments])


def refused(result, *parts):
    assert result.exit_code == 2 and not result.stdout
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ") and all(part in line for part in parts), line


def test_a_report_of_a_committed_policy(tmp_path):
    pytest.importorskip("matplotlib")
    page, picture, table = (tmp_path / f"gait.{kind}" for kind in ("html", "pdf", "csv"))
    mot = tmp_path / "run.mot"
    files = ["--out", page, "--out", picture, "--csv", table, "--mot", mot]
    result = invoke(POLICIES / "humanoid_mtu-shac-0", *files, "--episodes", 2, "--seconds", 4, "--json")
    assert result.exit_code == 0, result.output
    whole = json.loads(result.stdout)
    assert whole["episodes"] == 2 and whole["fallen"] == 0
    # it runs (docs/results.md), and as fast as its strides are long and frequent
    assert 3 < whole["speed"] < 6 and whole["double_support"] < 10
    assert whole["speed"] == pytest.approx(whole["stride_length"] / whole["stride_time"], rel=0.05)
    assert 5 < whole["cost_of_transport"] < 30 and 1 < whole["mechanical_cost"] < whole["cost_of_transport"]

    with open(table, newline="") as file:
        header, *rows = list(csv.reader(file))
    assert len(rows) == POINTS and [row[0] for row in rows] == [str(k) for k in range(POINTS)]
    columns = dict(zip(header, np.array(rows, float).T))
    # a period ends as it begins, as far as strides are alike
    knee = columns["right_knee_flexion_mean"]
    assert abs(knee[0] - knee[-1]) < 0.2 * np.ptp(knee)
    # while both feet are in the air or not: over a stride the ground bears the body
    bears = [columns[f"{side}_vertical_force_mean"].mean() for side in ("right", "left")]
    assert sum(bears) == pytest.approx(1, abs=0.1)
    assert {"left_soleus_mean", "left_soleus_sd"} <= columns.keys()

    # the mean stride as a motion is as long as the strides are, and the body can follow it
    run = motion.load(mot, load_task("humanoid_mtu").body().compile(), True)
    assert len(run.joints) == 11 and run.speed == pytest.approx(whole["speed"], rel=0.03)
    assert run.duration == pytest.approx(whole["stride_time"], rel=0.05)

    text = page.read_text(encoding="utf-8")
    assert "NCH-Motion-Laboratory/gaitutils" in text and not re.search(r'(src|href)="(?!data:)', text)
    assert "nan" not in text.replace("data:image", "").split("base64,")[0]
    assert picture.read_bytes().startswith(b"%PDF")


def test_what_cannot_be_reported_is_one_line(tmp_path, monkeypatch):
    run = POLICIES / "humanoid-shac-0"
    refused(invoke(POLICIES / "ant-shac-0"), "bodies with two legs, such as humanoid, humanoid_mtu")
    refused(invoke(run, "--out", tmp_path / "report.svg"), "unknown format '.svg'", ".html, .png, .pdf")
    refused(invoke(run, "--csv", tmp_path / "none" / "gait.csv"), "cannot write")
    refused(invoke(run, "--mot", tmp_path / "walk.txt"), "none of the endings .mot, .sto, .csv")
    refused(invoke(tmp_path), "is not a run folder")
    assert invoke(run, "--seconds", "1").exit_code == 2
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    refused(invoke(run, "--out", tmp_path / "report.html"), 'pip install "taichi-sim[figures]"')
    assert not list(tmp_path.iterdir())
