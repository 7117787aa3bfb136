import csv

import numpy as np
import pytest
from fabricated import run
from PIL import Image

from shac.errors import UserError
from shac.figures import curves, means
from shac.figures.catalog import FIGURES
from shac.figures.figure import Budget
from shac.figures.horizon import Figure6
from shac.figures.plan import Plan

MEAN_X = np.linspace(1000, 3000, means.POINTS)


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def column(rows, name):
    return np.array([float(row[name]) for row in rows])


def test_the_mean_over_seeds_is_that_of_straight_lines(tmp_path):
    run(tmp_path / "a", [500, 1500, 3500], lambda x: x / 10)
    run(tmp_path / "b", [1000, 2000, 3000], lambda x: 3 * x / 10)
    both = [means.read(tmp_path / name) for name in "ab"]
    mean = means.mean(both, "steps")
    np.testing.assert_allclose(mean.x, MEAN_X)
    np.testing.assert_allclose(mean.mean, MEAN_X / 5)
    np.testing.assert_allclose(mean.std, MEAN_X / 10)
    assert mean.num == 2
    minutes = means.mean(both, "minutes")
    np.testing.assert_allclose(minutes.x, MEAN_X / 1000)
    np.testing.assert_allclose(minutes.mean, MEAN_X / 5)
    logarithmic = means.mean(both, "steps", log=True)
    np.testing.assert_allclose(logarithmic.x[[0, -1]], [1000, 3000])
    np.testing.assert_allclose(logarithmic.mean, logarithmic.x / 5)
    np.testing.assert_allclose(np.diff(np.log(logarithmic.x)), np.log(3) / (means.POINTS - 1))


def test_curves_that_share_no_steps_have_no_mean(tmp_path):
    run(tmp_path / "a", [500, 900], lambda x: x)
    run(tmp_path / "b", [1000, 2000], lambda x: x)
    assert means.mean([means.read(tmp_path / name) for name in "ab"], "steps") is None
    assert means.mean([], "steps") is None


def test_time_is_processor_time_where_it_is_known(tmp_path):
    run(tmp_path / "new", [1000, 2000], lambda x: x)
    run(tmp_path / "old", [1000, 2000], lambda x: x, cpu=False)
    new, old = means.read(tmp_path / "new"), means.read(tmp_path / "old")
    assert new.minutes.tolist() == [1, 2] and old.minutes.tolist() == [2, 4]
    assert means.time_label([new]) == "core time [min]" and means.time_label([new, old]) == "wall-clock [min]"
    assert means.duration(tmp_path / "old") == (4, 2000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps,seconds,return_mean\n1,x,2\n", "could not convert"),
        ("steps,return_mean\n1,2\n", "lacks steps or seconds"),
        (None, "cannot read"),
    ],
)
def test_damaged_metrics_are_named(tmp_path, text, message):
    if text is not None:
        (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        means.read(tmp_path)
    assert str(tmp_path / "metrics.csv") in str(error.value)


def test_figure_4_shows_means_as_far_as_shacs_training_goes(tmp_path):
    runs = tmp_path / "runs"
    for seed in range(2):
        run(runs / f"ant-shac-{seed}", [1000, 3000], lambda x, seed=seed: (1 + 2 * seed) * x / 10)
    run(runs / "ant-bptt-0", [1000, 9000], lambda x: x, minutes_per_step=1e-4)
    run(runs / "humanoid_mtu-shac-0", [1000, 3000], lambda x: x)
    run(runs / "humanoid_mtu-bptt-0", [1000, 9000], lambda x: x)
    FIGURES[4].draw(runs, tmp_path, Budget.DEFAULT)
    with Image.open(tmp_path / "fig04.png") as image:
        assert image.width > 1000
    rows = table(tmp_path / "data" / "fig04_ant.csv")
    shac = [row for row in rows if (row["curve"], row["axis"]) == ("SHAC", "steps")]
    np.testing.assert_allclose(column(shac, "x"), MEAN_X, rtol=1e-5)
    np.testing.assert_allclose(column(shac, "return_mean"), MEAN_X / 5, rtol=1e-5)
    np.testing.assert_allclose(column(shac, "return_std"), MEAN_X / 10, rtol=1e-5)
    assert {row["runs"] for row in shac} == {"2"}
    bptt = [row for row in rows if (row["curve"], row["axis"]) == ("BPTT", "steps")]
    assert len(bptt) == means.POINTS
    np.testing.assert_allclose(column(bptt, "x"), MEAN_X, rtol=1e-5)
    np.testing.assert_allclose(column(bptt, "return_mean"), MEAN_X, rtol=1e-5)
    # faster, it has no more minutes to show
    bptt = [row for row in rows if (row["curve"], row["axis"]) == ("BPTT", "minutes")]
    np.testing.assert_allclose(column(bptt, "x")[[0, -1]], [0.1, 0.9], rtol=1e-5)
    # of the muscles the paper shows all
    rows = table(tmp_path / "data" / "fig04_humanoid_mtu.csv")
    assert max(float(row["x"]) for row in rows if (row["curve"], row["axis"]) == ("BPTT", "steps")) == 9000


def test_figure_10_says_how_much_longer_redq_takes(tmp_path):
    runs = tmp_path / "runs"
    for model in ("hopper", "ant"):
        # 10 a minute
        run(runs / f"{model}-shac-0", [1000, 3000], lambda x: x / 100)
    # 0.2 a minute, up to 20; and beyond all that SHAC has
    run(runs / "hopper-redq-0", [10, 100], lambda x: x / 5, minutes_per_step=1)
    run(runs / "ant-redq-0", [10, 100], lambda x: x, minutes_per_step=1)
    FIGURES[10].draw(runs, tmp_path, Budget.QUICK)
    rows = table(tmp_path / "data" / "fig10_ratio.csv")
    assert [(row["model"], row["axis"]) for row in rows] == [(m, a) for m in ("hopper", "ant") for a in curves.AXES]
    assert {row["curve"] for row in rows} == {"REDQ"}
    steps, minutes, *ant = rows
    assert [float(minutes[x]) for x in ("best_return", "at")] == [20, 100]
    assert float(minutes["shac_at"]) == pytest.approx(2, rel=1e-3)
    assert float(minutes["ratio"]) == pytest.approx(50, rel=1e-3)
    # SHAC takes 2,000 steps to it, REDQ 100
    assert float(steps["ratio"]) == pytest.approx(0.05, rel=1e-3)
    assert {(row["best_return"], row["shac_at"], row["ratio"]) for row in ant} == {("100", "", "")}


def test_every_run_has_its_end_and_its_best_in_a_table(tmp_path):
    runs = tmp_path / "runs"
    run(runs / "ant-shac-0", [1000, 2000, 4000], lambda x: 10 if x == 2000 else x / 1000)
    run(runs / "ant-shac-1", [1000, 3000], lambda x: x / 1000)
    run(runs / "hopper-sac-0", [500], lambda x: -x)
    FIGURES[7].draw(runs, tmp_path, Budget.DEFAULT)
    rows = [tuple(row.values()) for row in table(tmp_path / "data" / "fig07_ends.csv")]
    assert rows == [
        ("hopper", "SAC", "hopper-sac-0", "500", "0.5", "-500", "-500"),
        ("ant", "SHAC", "ant-shac-0", "4000", "4", "4", "10"),
        ("ant", "SHAC", "ant-shac-1", "3000", "3", "3", "3"),
    ]


def test_a_level_is_reached_between_two_points():
    mean = means.Mean(np.array([1.0, 2.0, 3.0]), np.array([0.0, 10.0, 5.0]), np.zeros(3), 1)
    assert curves.reached(mean, 7.5) == 1.75
    assert curves.reached(mean, -1) == 1.0
    assert curves.reached(mean, 11) is None


@pytest.mark.parametrize("number", [7, 8, 9])
def test_the_other_curves_are_drawn(tmp_path, number):
    figure = FIGURES[number]
    for wanted in figure.runs(Budget.QUICK):
        run(tmp_path / "runs" / wanted.name, [1000, 3000], lambda x: x)
    figure.draw(tmp_path / "runs", tmp_path, Budget.QUICK)
    assert (tmp_path / f"fig{number:02d}.png").stat().st_size > 10_000
    for model in figure.models:
        rows = table(tmp_path / "data" / f"fig{number:02d}_{model}.csv")
        assert {row["curve"] for row in rows} == {line.label for line in figure.lines(model, Budget.QUICK)}


def test_figure_6_has_a_value_and_a_time_for_each_horizon(tmp_path, monkeypatch):
    """The best policy's value and the run's settings are another module's: only what is made of them is looked at."""
    monkeypatch.setattr("shac.figures.horizon._return_of_best", lambda folder, episodes: float(len(folder.name)))
    runs = tmp_path / "runs"
    for wanted in Figure6().runs(Budget.QUICK):
        run(runs / wanted.name, [1000, 3000], lambda x: x)
        (runs / wanted.name / "checkpoints").mkdir()
        (runs / wanted.name / "checkpoints" / "best.pt").touch()
    Figure6().draw(runs, tmp_path, Budget.QUICK)
    rows = table(tmp_path / "data" / "fig06.csv")
    assert [row["horizon"] for row in rows] == ["4", "8", "16", "32", "64", "128"]
    labels = ("-h4", "-h8", "-h16", "", "-h64", "-h128")
    assert [row["return_mean"] for row in rows] == [str(len("ant-shac-0" + label)) for label in labels]
    assert {(row["minutes"], row["steps"]) for row in rows} == {("3", "3000")}
    assert (tmp_path / "fig06.png").stat().st_size > 10_000


def test_what_has_no_curves_yet_is_an_error(tmp_path):
    for number in (4, 6, 7, 8, 9, 10):
        with pytest.raises(UserError, match=f"none of figure {number}'s runs in {tmp_path}"):
            FIGURES[number].draw(tmp_path, tmp_path / "out", Budget.QUICK)


def test_a_partial_picture_says_so(tmp_path):
    runs = tmp_path / "runs"
    run(runs / "ant-shac-0", [1000, 3000], lambda x: x)
    run(runs / "ant-bptt-0", [1000, 2000], lambda x: x, complete=False)
    plan = Plan.of([4], runs, tmp_path, Budget.QUICK)
    path = plan.draw(4)
    with Image.open(path) as image:
        assert image.getpixel((2, 2)) == (0xB0, 0, 0x20)
    assert plan.lack(4).startswith("figure 4 lacks 19 of 20 runs, about ")
    for wanted in plan.figures[4]:
        (runs / wanted.name).mkdir(exist_ok=True)
        (runs / wanted.name / "complete").touch()
    assert plan.lack(4) is None
    with Image.open(plan.draw(4)) as image:
        assert image.getpixel((2, 2))[:3] == (255, 255, 255)
