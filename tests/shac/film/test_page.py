"""shac-render --html: one file that holds its viewer and all frames, and says what is missing."""

import base64
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from shac.cli.render import main
from shac.film import film
from taichi_sim.mjcf.loader import load
from taichi_sim.render import scene, solids
from taichi_sim.render.camera import Camera
from taichi_sim.render.colorbar import activation_rgb

ARM = Path(__file__).parents[2] / "arm26.xml"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of the arm: 10 poses, one of which raises it by 0.5 m, while its muscles go from 0 to 1."""
    pytest.importorskip("viser")
    from shac.film import page

    model = load(ARM)
    xpos, xquat = scene.rest_pose(model)
    lift = np.where(np.arange(10) >= 6, 0.5, 0.0)[:, None] * [0, 0, 1]
    poses = film.Poses(
        model,
        xpos + lift[:, None] * (np.arange(model.nbody) > 0)[:, None],
        np.tile(xquat, (10, 1, 1)),
        np.linspace(0, 1, 10)[:, None] * np.ones(model.na),
        np.zeros((10, model.nu)),
        1 / 20,
        {0},
    )
    path = tmp_path_factory.mktemp("page") / "arm.html"
    page.write(path, poses, range(10), 20, Camera(), "</script> & the arm")
    return path.read_text(encoding="utf-8")


def recording(page):
    """viser's recording in a page: its length [s] and what happens when, (time, message)."""
    import msgspec
    import zstandard

    (data,) = re.findall(r'__VISER_EMBED_DATA__="([^"]*)"', page)
    raw = base64.b64decode(data)
    inner = zstandard.ZstdDecompressor().decompressobj().decompress(raw[8:])
    end = 8 + int.from_bytes(inner[:8], "little")
    found = msgspec.msgpack.decode(inner[8:end])
    buffers, start = [], end
    for size in found["binaryBufferLengths"]:
        # buffers are aligned to 8 bytes
        start += -start % 8
        buffers.append(inner[start : start + size])
        start += size
    return found["durationSeconds"], found["messages"], buffers


def history(page, node, prop, dtype):
    """Times and values of a property of a node, from its creation on."""
    _, messages, buffers = recording(page)
    times, values = [], []
    for time, message in messages:
        set_now = message.get("updates", message.get("props", {}))
        if message.get("name") == node and prop in set_now:
            times.append(time)
            # arrays are dictionaries with the index of their buffer
            index = next(x for x in set_now[prop].values() if isinstance(x, int))
            values.append(np.frombuffer(buffers[index], dtype))
    return np.array(times), values


def test_the_page_is_one_file_that_needs_no_network(page):
    # what a browser would fetch: sources, style sheets, imports
    fetched = re.findall(r"""<(?:script|img|iframe)[^>]*\ssrc=["']([^"']*)|<link[^>]*href=["']([^"']*)""", page)
    assert [a or b for a, b in fetched if not (a or b).startswith("data:")] == []
    # a title cannot end the script that sets it
    assert "</script> & the arm" not in page and "the arm" in page


def test_the_page_holds_every_frame_in_real_time(page):
    duration, _, _ = recording(page)
    assert duration == pytest.approx(10 / 20)
    times, colors = history(page, "/tendons", "batched_colors", np.uint8)
    np.testing.assert_allclose(times[-10:], np.arange(10) / 20, atol=1e-9)
    for level, rgb in zip(np.linspace(0, 1, 10), colors[-10:]):
        expected = 255 * activation_rgb(level)
        np.testing.assert_allclose(rgb.reshape(-1, 3), np.tile(expected, (len(rgb) // 3, 1)), atol=1)


def test_bodies_and_tendons_move_together(page):
    rises = []
    for node in ("/solids/1", "/solids/2", "/tendons"):
        times, values = history(page, node, "batched_positions", np.float32)
        before, after = (
            values[np.flatnonzero(times < time + 1e-9)[-1]].reshape(-1, 3)[:, 2] for time in (5 / 20, 6 / 20)
        )
        rises.append(after - before)
    np.testing.assert_allclose(np.concatenate(rises[:2]), 0.5, atol=1e-3)
    # pieces between the two bodies; pieces with one end on the world rise by half as much
    assert np.any(np.abs(rises[2] - 0.5) < 1e-3) and np.any(np.abs(rises[2] - 0.25) < 1e-3)


def test_muscles_get_a_bar_of_colours(page):
    assert 'id="colorbar"' in page and page.index('id="colorbar"') > page.index("<body")


@pytest.mark.parametrize("geom", range(3))
def test_meshes_of_geoms_have_the_volume_of_the_geoms(geom):
    """By the divergence theorem, which also tells that triangles face outwards."""
    import mujoco

    shapes = ['box" size=".1 .2 .3"', 'capsule" size=".1 .3"', 'cylinder" size=".1 .3"']
    volume = [8 * 0.006, np.pi * 0.01 * 0.6 + 4 / 3 * np.pi * 0.001, np.pi * 0.01 * 0.6]
    source = f'<mujoco><worldbody><body><freejoint/><geom type="{shapes[geom]}/></body></worldbody></mujoco>'
    vert, face = solids.geom_mesh(load(mujoco.MjModel.from_xml_string(source)), 0)
    a, b, c = np.moveaxis(vert[face], 1, 0)
    # round shapes are polygons of 20 sides
    assert 0.95 * volume[geom] < np.einsum("ni,ni", a, np.cross(b, c)) / 6 <= volume[geom] * (1 + 1e-12)


def test_without_viser_the_cure_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    result = CliRunner().invoke(main, ["--model", str(ARM), "--html", str(tmp_path / "arm.html")])
    assert result.exit_code == 2 and 'pip install "viser' in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_model_at_rest_shows_its_muscles(tmp_path):
    pytest.importorskip("viser")
    out, page = tmp_path / "arm.png", tmp_path / "arm.html"
    args = ["--model", str(ARM), "--out", str(out), "--html", str(page), "--width", "64", "--height", "48"]
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, result.output
    assert f"{out}: 1 frame of 64 x 48" in result.stdout and f"{page}: 1 frame in" in result.stdout
    assert "viser" not in result.stdout
