"""Pictures and tables of losses, from a run of a cart-pole that stands in a Humanoid's and an Ant's place."""

import csv
import shutil
from pathlib import Path

import cartpole_double
import pytest
import torch

from shac import seeding
from shac.algos.window import Window
from shac.errors import UserError
from shac.figures.figure import Budget
from shac.figures.graphs import Graphs
from shac.figures.losses import gradients, line, snapshots, surface
from shac.figures.losses.variants import Fineness
from shac.models import load_task
from shac.runs import checkpoint, runner
from shac.runs.config import resolve

SMALL = {"num_envs": 4, "horizon": 4, "actor_units": (8,), "critic_units": (8,), "stagger": False}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder with the runs that the figures look for."""
    folder = tmp_path_factory.mktemp("runs")
    model = str(Path(cartpole_double.__file__).resolve())
    settings = {**SMALL, "model": model, "max_epochs": 4, "snapshots": (0, 2, 3)}
    runner.start(resolve(load_task(model), "shac", settings), folder / "humanoid-shac-0", quiet=True)
    shutil.copytree(folder / "humanoid-shac-0", folder / "ant-shac-0")
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def facts(path: Path) -> dict[str, str]:
    return {row["name"]: row["value"] for row in table(path)}


def numbers(rows, column):
    return [float(row[column]) for row in rows]


def is_picture(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")


def test_figures_want_one_training_with_snapshots():
    wanted = [figure().runs(Budget.DEFAULT) for figure in (line.OneWeightLosses, gradients.GradientValues)]
    assert wanted[0] == wanted[1] == surface.Surfaces().runs(Budget.DEFAULT)[:1]
    for budget in Budget:
        (run,) = line.OneWeightGradient().runs(budget)
        task = load_task(run.model)
        config = resolve(task, run.algo, run.settings)
        assert run.name == "humanoid-shac-0" and len(config.snapshots) == 6
        # The longer substeps are those of most of the training.
        assert max(config.snapshots) <= config.finish


def test_a_snapshot_goes_on_as_the_run_did(runs):
    learner = snapshots.load(runs / "humanoid-shac-0", 2)
    epoch = learner.train_epoch()
    row = table(runs / "humanoid-shac-0" / "metrics.csv")[2]
    assert (row["epoch"], float(row["actor_loss"])) == ("3", pytest.approx(epoch.actor_loss, rel=1e-9))
    assert snapshots.middle(runs / "humanoid-shac-0") == 2
    with pytest.raises(UserError, match="no checkpoint .*epoch-1.pt"):
        snapshots.load(runs / "humanoid-shac-0", 1)


def test_late_snapshots_have_the_final_substeps(tmp_path):
    settings = {**SMALL, "model": "cartpole", "max_epochs": 7, "final_substeps": 5, "snapshots": (5, 6)}
    config = resolve(load_task("cartpole"), "shac", settings)
    assert config.finish == 6
    runner.start(config, tmp_path / "run", quiet=True)
    substeps = [snapshots.load(tmp_path / "run", epoch).env.sim.model.opt.substeps for epoch in (5, 6)]
    assert substeps[0] != substeps[1] == 5


def test_a_weights_losses(runs, tmp_path, monkeypatch):
    monkeypatch.setitem(line.LINES, Budget.QUICK, Fineness(5, 4, 6))
    line.OneWeightLosses().draw(runs, tmp_path, Budget.QUICK)
    assert is_picture(tmp_path / "fig02.png")
    rows, about = table(tmp_path / "data" / "fig02.csv"), facts(tmp_path / "data" / "fig02_facts.csv")
    assert numbers(rows, "offset") == [-1, -0.5, 0, 0.5, 1]
    assert (about["run"], about["epoch"], about["BPTT's horizon"]) == ("humanoid-shac-0", "2", "6")
    # In the middle it is the snapshot's policy, in its own next window but for the noise.
    learner = snapshots.load(runs / "humanoid-shac-0", 2)
    learner.exploration.set_state(seeding.generator(0, "figures").get_state())
    normalize = learner.normalizer.snapshot(learner.env.dtype)
    expected = learner.actor_loss(learner.rollout(normalize), normalize).item()
    assert float(rows[2]["loss_shac"]) == pytest.approx(expected, rel=1e-4)
    assert len(set(numbers(rows, "loss_bptt"))) == 5
    parameter, place = about["weight"].rstrip("]").split("[")
    weight = learner.actor.get_parameter(parameter)[tuple(int(i) for i in place.split(", "))]
    assert float(about["weight's value"]) == pytest.approx(weight.item(), rel=1e-4)


def test_a_weights_gradient(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(line.LINES, Budget.QUICK, Fineness(41, 4, 6))
    line.OneWeightGradient().draw(runs, tmp_path, Budget.QUICK)
    assert is_picture(tmp_path / "fig11.png")
    rows, about = table(tmp_path / "data" / "fig11.csv"), facts(tmp_path / "data" / "fig11_facts.csv")
    assert rows[0]["central_difference"] == rows[-1]["central_difference"] == ""
    # The cart-pole never fails, so that its loss is smooth.
    assert float(about["correlation"]) > 0.99
    assert float(about["ratio of root mean squares"]) == pytest.approx(1, abs=0.05)
    assert f"correlation {float(about['correlation']):.4g}" in capsys.readouterr().out


def test_comparison_of_a_gradient_with_differences():
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)
    slopes = line.central_differences(x, x.square())
    torch.testing.assert_close(slopes, 2 * x[1:-1])
    found = line.compare(-3 * slopes, slopes)
    assert found["correlation"] == pytest.approx(-1)
    assert found["ratio of root mean squares"] == pytest.approx(3)


def test_surfaces(runs, tmp_path, monkeypatch):
    monkeypatch.setitem(surface.GRIDS, Budget.QUICK, Fineness(3, 4, 6))
    surface.Surfaces().draw(runs, tmp_path, Budget.QUICK)
    assert is_picture(tmp_path / "fig13.png")
    for model in ("humanoid", "ant"):
        rows = table(tmp_path / "data" / f"fig13_{model}.csv")
        assert [(row["first"], row["second"]) for row in rows[:4]] == [
            ("-1", "-1"),
            ("-1", "0"),
            ("-1", "1"),
            ("0", "-1"),
        ]
        assert len(rows) == 9
        for algo in ("bptt", "shac"):
            assert len(set(numbers(rows, f"loss_{algo}"))) == 9
        assert facts(tmp_path / "data" / f"fig13_{model}_facts.csv")["epoch"] == "2"


def test_gradient_values(runs, tmp_path, monkeypatch):
    monkeypatch.setitem(gradients.HORIZONS, Budget.QUICK, 6)
    gradients.GradientValues().draw(runs, tmp_path, Budget.QUICK)
    assert is_picture(tmp_path / "fig12.png")
    norms = table(tmp_path / "data" / "fig12_norms.csv")
    assert [row["epoch"] for row in norms] == ["0", "2", "3"]
    rows = table(tmp_path / "data" / "fig12.csv")
    for epoch in ("0", "2", "3"):
        for algo in ("bptt", "shac"):
            fractions = numbers([row for row in rows if row["epoch"] == epoch], f"fraction_{algo}")
            assert sum(fractions) == pytest.approx(1, abs=1e-4)
    reached = table(tmp_path / "data" / "fig12_reach.csv")
    assert [row["step"] for row in reached] == ["1", "2", "4"] * 3
    assert all(float(row["low"]) <= float(row["median"]) <= float(row["high"]) for row in reached)


def test_an_action_reaches_as_far_as_observations_grow_with_it():
    """World n's observations are 2^t (n + 1) times the first action; world 2 ends its episode with the second step."""
    action = torch.zeros(3, 2, requires_grad=True)
    growth = torch.tensor([[2.0**t * (n + 1) for n in range(3)] for t in range(4)])
    ended = torch.zeros(4, 3, dtype=torch.bool)
    ended[1, 2] = True
    no = torch.zeros(4, 3)
    window = Window(no, [action], growth[:, :, None] * action, no, ended, ended, ended)
    found = torch.tensor(list(gradients.reach(window, [1, 2, 3])))
    expected = [(1, 3, 2.0, 1.2, 2.8), (2, 3, 4.0, 2.4, 5.6), (3, 2, 6.0, 4.4, 7.6)]
    torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize("critic", [True, False])
def test_gradient_entries_are_the_learners(runs, critic):
    learner = snapshots.load(runs / "humanoid-shac-0", 2)
    entries, again = (
        gradients.gradient_entries(learner, gradients.window_from(learner, 4), critic=critic) for _ in range(2)
    )
    assert torch.equal(entries, again)
    learner.exploration.set_state(seeding.generator(0, "figures").get_state())
    normalize = learner.normalizer.snapshot(learner.env.dtype)
    window = learner.rollout(normalize)
    if not critic:
        learner.critic = None
    learner.actor_loss(window, normalize).backward()
    expected = torch.cat([parameter.grad.flatten() for parameter in learner.actor.parameters()])
    torch.testing.assert_close(entries, expected.double(), rtol=1e-5, atol=1e-7)


def test_graphs(tmp_path):
    Graphs().draw(tmp_path, tmp_path, Budget.QUICK)
    assert is_picture(tmp_path / "fig03.png")
    rows = table(tmp_path / "data" / "fig03.csv")
    assert {row["link"] for row in rows if row["graph"] == "BPTT"} == {"gradient"}
    cuts = [(row["link"], row["source_index"]) for row in rows if row["link"] != "gradient"]
    assert cuts == [("window", "3"), ("failure", "5"), ("window", "6")]


def test_snapshots_of_another_shape_are_refused(runs, tmp_path):
    shutil.copytree(runs / "humanoid-shac-0", tmp_path / "run")
    config = checkpoint.read_config(tmp_path / "run")
    assert config.actor_units == (8,)
    text = (tmp_path / "run" / "config.yaml").read_text()
    (tmp_path / "run" / "config.yaml").write_text(text.replace("actor_units:\n- 8", "actor_units:\n- 9"))
    with pytest.raises(UserError, match="does not fit its run's settings"):
        snapshots.load(tmp_path / "run", 2)
