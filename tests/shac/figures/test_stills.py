import csv

import numpy as np
import pytest
from PIL import Image

from shac.errors import UserError
from shac.figures import stills
from shac.figures.catalog import FIGURES
from shac.figures.figure import Budget
from shac.models import load_task
from shac.runs import runner
from shac.runs.config import resolve, to_yaml

TINY = {"num_envs": 2, "horizon": 2, "critic_batches": 1, "actor_units": (8,), "critic_units": (8,)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The runs of figure 1, before their first epoch."""
    folder = tmp_path_factory.mktemp("runs")
    for run in FIGURES[1].runs(Budget.QUICK):
        config = resolve(load_task(run.model), "shac", {**TINY, "model": run.model})
        runner.Run(config, folder / run.name).save()
        (folder / run.name / "config.yaml").write_text(to_yaml(config))
    return folder


@pytest.fixture(autouse=True)
def _short_films(monkeypatch):
    monkeypatch.setattr(stills, "FILMED", 0.2)


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_figure_1_has_six_bodies_in_a_row(runs, tmp_path):
    FIGURES[1].draw(runs, tmp_path, Budget.QUICK)
    with Image.open(tmp_path / "fig01.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape[1] > 5.9 * stills.SIZE
    for column in np.array_split(pixels[-stills.SIZE :], 6, axis=1):
        # orange limbs, or bones and red muscles; the ground and the sky are grey and blue
        warm = column[..., 0] > column[..., 2] + 40
        assert 0.002 < warm.mean() < 0.5
    rows = table(tmp_path / "data" / "fig01.csv")
    assert [row["model"] for row in rows] == ["cartpole", "hopper", "halfcheetah", "ant", "humanoid", "humanoid_mtu"]
    assert float(rows[1]["seconds_of_episode"]) == pytest.approx(0.6 * 0.2, abs=0.02)


def test_figure_5_has_six_moments_of_one_episode_and_the_bar(runs, tmp_path):
    FIGURES[5].draw(runs, tmp_path, Budget.QUICK)
    rows = table(tmp_path / "data" / "fig05.csv")
    times = [float(row["seconds_of_episode"]) for row in rows]
    assert len(times) == 6 and times == sorted(times) and 0 <= times[0] < times[-1] <= 0.2 + 1e-6
    # untrained, the muscles stay near the activation that they begin with
    assert all(0.3 < float(row["activation_mean"]) < 0.7 for row in rows)
    with Image.open(tmp_path / "fig05.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    corners = [frame[-40:, -70:] for frame in np.array_split(pixels, 6, axis=1)]
    blue = [((x[..., 2] > 150) & (x[..., 0] < 90)).sum() for x in corners]
    assert blue[-1] > 20 and max(blue[:-1]) == 0


def test_without_a_run_there_is_an_error(tmp_path):
    with pytest.raises(UserError, match="none of figure 1's runs"):
        FIGURES[1].draw(tmp_path, tmp_path, Budget.QUICK)
    with pytest.raises(UserError, match="there is no run folder"):
        FIGURES[5].draw(tmp_path, tmp_path, Budget.QUICK)
