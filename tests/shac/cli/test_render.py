"""shac-render: what it refuses and how, and that its films have the right length."""

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from shac.algos.normalizer import Normalizer
from shac.cli.render import main
from shac.film import film
from shac.models import load_task
from shac.runs import checkpoint
from shac.runs.config import Config

SMALL = ["--width", "64", "--height", "48"]


@pytest.fixture
def run_dir(tmp_path):
    """The run folder of an untrained policy."""
    config = Config(model="cartpole", actor_units=(8,))
    task = load_task("cartpole")
    torch.manual_seed(0)
    state = {
        "actor": checkpoint.build_actor(task, config).state_dict(),
        "normalizer": Normalizer(task.num_obs).state_dict(),
    }
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("model: cartpole\nactor_units: [8]\n")
    checkpoint.save(checkpoint.path_of(folder, "best"), state)
    return folder


def refused(*args):
    """Runs the command, which must end with status 2 and one line on stderr; returns the line."""
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == 2, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    (line,) = result.stderr.strip().splitlines()
    return line


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "either a RUN folder or --model"),
        (["--model", "cartpole", "--html", "x.htm"], "must end in .html"),
        (["nowhere"], "no run folder nowhere"),
        (["--model", "cartpol"], "did you mean cartpole"),
        (["--model", "missing.xml"], "missing.xml"),
        (["--model", "cartpole", "--camera", "azimut=3"], "KEY of azimuth"),
        (["--model", "cartpole", "--camera", "azimuth=north"], "'north' is not a number"),
        (["--model", "cartpole", "--camera", "azimuth=inf"], "'inf' is not a number"),
        (["--model", "cartpole", "--camera", "fovy=0"], "between 1 and 150"),
        (["--model", "cartpole", "--camera", "track=head"], "no body 'head'"),
    ],
)
def test_bad_input_is_refused_in_one_line(tmp_path, args, message):
    out = tmp_path / "x.png"
    assert message in refused(*args, "--out", out)
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_cannot_be_written_are_refused(tmp_path):
    assert ".mp4, .gif, .png" in refused("--model", "cartpole", "--out", tmp_path / "x.avi")
    assert "No such file" in refused("--model", "cartpole", "--out", tmp_path / "missing" / "x.png")
    assert "even" in refused("--model", "cartpole", "--out", tmp_path / "x.mp4", "--width", 65)
    (tmp_path / "folder.png").mkdir()
    assert "is a folder" in refused("--model", "cartpole", "--out", tmp_path / "folder.png")


def test_a_broken_checkpoint_is_refused(tmp_path, run_dir):
    path = checkpoint.path_of(run_dir, "best")
    assert "no checkpoint" in refused(run_dir, "--checkpoint", "last", "--out", tmp_path / "x.png")
    path.write_bytes(path.read_bytes()[:100])
    assert "damaged" in refused(run_dir, "--out", tmp_path / "x.png")


def test_a_run_is_filmed_in_real_time(tmp_path, run_dir):
    # 31 poses, 1/60 s apart, last half a second: 16 frames at 30 per second, the first and the last included
    out = tmp_path / "x.mp4"
    result = CliRunner().invoke(main, [str(run_dir), "--out", str(out), "--steps", "30", *SMALL])
    assert result.exit_code == 0, result.output
    frames = iio.imread(out)
    assert frames.shape == (16, 48, 64, 3)
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 50
    assert iio.immeta(out)["fps"] == 30
    # a GIF's delays are multiples of 10 ms: 33.3 frames per second, 30 ms each
    result = CliRunner().invoke(main, [str(run_dir), "--out", str(tmp_path / "x.gif"), "--steps", "30", *SMALL])
    assert result.exit_code == 0, result.output
    assert iio.immeta(tmp_path / "x.gif")["duration"] == 30
    assert len(iio.imread(tmp_path / "x.gif")) == 17
    assert "simulate 30/30" in result.stderr and "draw 17/17" in result.stderr


def test_png_is_a_strip_or_the_model_at_rest(tmp_path, run_dir):
    out = tmp_path / "x.png"
    args = [str(run_dir), "--out", str(out), "--steps", "20", "--frames", "3", *SMALL]
    assert CliRunner().invoke(main, args).exit_code == 0
    assert iio.imread(out).shape == (48, 3 * 64, 3)
    assert CliRunner().invoke(main, ["--model", "cartpole", "--out", str(out), *SMALL]).exit_code == 0
    assert iio.imread(out).shape == (48, 64, 3)


def test_a_strip_shows_one_stride_from_the_middle(tmp_path, run_dir):
    model = load_task("cartpole").simulator(1).model
    poses = film.Poses(
        model, np.zeros((101, 3, 3)), np.zeros((101, 3, 4)), np.zeros((101, 0)), np.zeros((101, 1)), 0.02, {0}
    )
    np.testing.assert_array_equal(film.spread(poses, 5, None), [0, 25, 50, 75, 100])
    np.testing.assert_array_equal(film.spread(poses, 4, 0.1), [42, 47, 52, 57])
    np.testing.assert_array_equal(film.spread(poses, 1, 0.1), [50])
    # 21 poses, 1/60 s apart, last a third of a second
    args = [str(run_dir), "--out", str(tmp_path / "x.png"), "--steps", "20", "--every", "0.1", *SMALL]
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 2
    assert "5 frames 0.1 s apart take 0.4 s, but the film lasts 0.333 s" in result.stderr.splitlines()[-1]


def test_a_film_beyond_memory_is_refused_before_it_is_made(tmp_path, run_dir):
    out = tmp_path / "x.png"
    message = refused(run_dir, "--out", out, "--steps", 10**12, *SMALL)
    assert "a film of 1,000,000,000,000 steps would take" in message and "GB of memory, and there are" in message
    result = CliRunner().invoke(main, [str(run_dir), "--out", str(out), "--steps", "5", "--every", "1e300"])
    assert result.exit_code == 2 and "the film lasts 0.0833 s" in result.stderr.splitlines()[-1]
    assert not out.exists()


@pytest.mark.parametrize("option", ["--fps", "--every"])
@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
def test_options_are_finite_numbers(option, value):
    result = CliRunner().invoke(main, ["nowhere", "--out", "x.png", option, value])
    assert result.exit_code == 2 and f"Invalid value for '{option}'" in result.stderr


def test_something_must_be_written(run_dir):
    assert "give --out FILE, --html FILE or both" in refused(run_dir)


@pytest.mark.parametrize("num, timestep, fps", [(241, 1 / 60, 30), (100, 0.02, 30), (11, 0.05, 60), (1, 0.1, 25)])
def test_playback_keeps_time(num, timestep, fps):
    shown = film.real_time(num, timestep, fps)
    assert shown[0] == 0 and shown[-1] >= num - 1 - 1 / (fps * timestep)
    np.testing.assert_array_less(np.abs(shown * timestep - np.arange(len(shown)) / fps), timestep / 2 + 1e-9)


def test_help_ends_with_an_example():
    assert CliRunner().invoke(main, ["--help"]).output.strip().splitlines()[-1].strip().startswith("shac-render ")
