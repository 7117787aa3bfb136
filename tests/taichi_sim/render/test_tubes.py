"""Tendons' paths against MuJoCo's, and what the pictures of muscles show: where, in which colour, in what light."""

from pathlib import Path

import mujoco
import numpy as np
import pytest

from taichi_sim.mjcf.loader import load
from taichi_sim.render.camera import Camera
from taichi_sim.render.polyline import Polylines
from taichi_sim.render.renderer import Capsules, Renderer
from taichi_sim.render.tubes import Tubes, tendon_paths

ARM = Path(__file__).parents[2] / "arm26.xml"
WIDTH, HEIGHT = 240, 180
BLUE, RED = [20, 69, 204], [227, 26, 28]

# every kind of wrap on a body that turns freely: with and without side sites, from inside, behind pulleys
WRAPS = """
<mujoco>
  <default><geom contype="0" conaffinity="0"/></default>
  <worldbody>
    <site name="a" pos="-.4 .05 0"/> <site name="b" pos="-.3 -.2 .1"/> <site name="above" pos="0 0 .5"/>
    <geom name="fixed" type="sphere" size=".12" pos="0 0 .1"/>
    <body pos=".2 .1 .1">
      <joint type="ball"/>
      <geom name="ball" type="sphere" size=".1" pos="-.1 0 0"/>
      <geom name="roll" type="cylinder" size=".08 .2" pos=".1 .05 0" euler="20 50 0"/>
      <site name="c" pos=".3 0 .05"/> <site name="d" pos=".35 .2 -.1"/> <site name="e" pos="-.1 .2 .2"/>
      <site name="in_ball" pos="-.1 .01 .02"/> <site name="in_roll" pos=".1 .06 .01"/> <site name="side" pos=".1 .3 0"/>
    </body>
  </worldbody>
  <tendon>
    <spatial><site site="a"/><site site="b"/><site site="c"/></spatial>
    <spatial><site site="a"/><geom geom="ball"/><site site="c"/></spatial>
    <spatial><site site="a"/><geom geom="ball" sidesite="side"/><site site="c"/></spatial>
    <spatial><site site="b"/><geom geom="roll"/><site site="d"/></spatial>
    <spatial><site site="b"/><geom geom="roll" sidesite="side"/><site site="d"/></spatial>
    <spatial><site site="b"/><geom geom="roll" sidesite="in_roll"/><site site="d"/></spatial>
    <spatial><site site="a"/><geom geom="ball" sidesite="in_ball"/><site site="e"/></spatial>
    <spatial>
      <site site="a"/><geom geom="fixed" sidesite="above"/><site site="e"/>
      <pulley divisor="2"/><site site="e"/><geom geom="roll"/><site site="d"/>
      <pulley divisor="4"/><site site="b"/><site site="c"/><geom geom="ball"/><site site="a"/>
    </spatial>
  </tendon>
</mujoco>
"""


def poses(model, num, seed):
    """MuJoCo's data in `num` random configurations."""
    rng = np.random.default_rng(seed)
    data = mujoco.MjData(model)
    for _ in range(num):
        qpos = rng.normal(size=model.nq)
        mujoco.mj_normalizeQuat(model, qpos)
        data.qpos[:] = qpos
        mujoco.mj_forward(model, data)
        yield data


@pytest.mark.parametrize("source", [WRAPS, ARM.read_text()])
def test_tendons_run_where_mujocos_do(source):
    model = mujoco.MjModel.from_xml_string(source)
    converted = load(model)
    straight = wrapped = 0
    for data in poses(model, 40, seed=1):
        paths = tendon_paths(converted, data.xpos, data.xquat, resolution=0.01)
        for tendon, branches in enumerate(paths):
            places = slice(data.ten_wrapadr[tendon], data.ten_wrapadr[tendon] + data.ten_wrapnum[tendon])
            passed = data.wrap_obj.reshape(-1)[places]
            points = data.wrap_xpos.reshape(-1, 3)[places][passed != -2]
            ours = np.concatenate(branches)
            # MuJoCo's path: sites, and where arcs begin and end
            gap = np.linalg.norm(points[:, None] - ours, axis=2).min(axis=1)
            assert gap.max() < 1e-9
            wrapped += np.sum(passed >= 0)
            straight += len(passed)

            path = converted.wrap_type[converted.tendon_adr[tendon] :][: converted.tendon_num[tendon]]
            prm = converted.wrap_prm[converted.tendon_adr[tendon] :][: converted.tendon_num[tendon]]
            divisors = np.append(1.0, prm[path == mujoco.mjtWrap.mjWRAP_PULLEY])
            lengths = [np.linalg.norm(np.diff(branch, axis=0), axis=1).sum() for branch in branches]
            # chords instead of arcs: shorter by resolution^2 / 24
            assert lengths @ (1 / divisors) == pytest.approx(data.ten_length[tendon], rel=0.01**2 / 24)
    assert wrapped > 100 and straight > 500


def test_tendons_over_joints_have_no_path_and_are_not_drawn():
    model = load(
        mujoco.MjModel.from_xml_string(
            '<mujoco><worldbody><body><joint name="j"/><geom size=".1"/></body></worldbody>'
            '<tendon><fixed><joint joint="j" coef="2"/></fixed></tendon></mujoco>'
        )
    )
    tubes = Tubes(model)
    assert tendon_paths(model, np.zeros((2, 3)), np.eye(4)[[0, 0]]) == [[]]
    assert len(tubes.capsules(np.zeros((2, 3)), np.eye(4)[[0, 0]]).ends) == 0 and not tubes.has_muscles


def test_points_along_paths_stay_on_their_path():
    """Against each path by itself; lengths from 0 to 3 m, and ends that are other paths' beginnings."""
    rng = np.random.default_rng(0)
    paths = [np.cumsum(rng.normal(size=(num, 3)), axis=0) for num in (2, 5, 3)]
    paths += [np.zeros((2, 3)), np.array([paths[0][-1], paths[1][0]])]
    lines = Polylines(paths)
    for i, path in enumerate(paths):
        way = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1)))
        assert lines.length[i] == pytest.approx(way[-1], abs=1e-12)
        np.testing.assert_allclose(lines.way[lines.owner == i], way, atol=1e-12)
        places = np.linspace(0.0, way[-1], 11)
        expected = np.stack([np.interp(places, way, x) for x in path.T], axis=1)
        np.testing.assert_allclose(lines.at(np.full(11, i), places), expected, atol=1e-12)


@pytest.fixture(scope="module")
def arm():
    """The arm, its data with a bent elbow, and a renderer that sees it from the side."""
    model = mujoco.MjModel.from_xml_path(str(ARM))
    data = mujoco.MjData(model)
    data.qpos[:] = 0.3, 0.9
    mujoco.mj_forward(model, data)
    camera = Camera(distance=1.3, azimuth=90, elevation=0, lookat=(0.05, 0, 0.8))
    return load(model), data, Renderer(load(model), WIDTH, HEIGHT, camera=camera, colorbar=False)


def hue(picture, color):
    """Cosine between the pixels' colour, without their grey part, and that of `color`."""
    pixels, color = picture.astype(float), np.array(color, float)
    pixels, color = pixels - pixels.mean(axis=-1, keepdims=True), color - color.mean()
    return pixels @ color / np.maximum(np.linalg.norm(pixels, axis=-1), 25) / np.linalg.norm(color)


def test_a_muscle_is_blue_at_rest_and_red_when_active_where_it_lies(arm):
    model, data, renderer = arm
    biceps = model.names["actuator"].index("biceps")
    pixel = 2 * np.tan(np.deg2rad(40) / 2) * 1.3 / HEIGHT
    # a point that no other muscle covers, in the picture's plane: x to the right, z up
    middle = 0.3 * data.site("front").xpos + 0.7 * data.site("biceps").xpos
    column, row = int(WIDTH / 2 + (middle[0] - 0.05) / pixel), int(HEIGHT / 2 - (middle[2] - 0.8) / pixel)
    for level in (0.0, 1.0):
        act = np.full(model.na, 1.0 - level)
        act[biceps] = level
        picture = renderer.render(data.xpos, data.xquat, act=act)[row - 1 : row + 2, column - 1 : column + 2]
        assert hue(picture, RED if level else BLUE).min() > 0.9
    rest, half, full = (renderer.render(data.xpos, data.xquat, act=np.full(model.na, x)) for x in (0.0, 0.5, 1.0))
    muscles = np.abs(rest.astype(int) - full).max(axis=-1) > 60
    assert muscles.sum() > 300
    assert np.mean(hue(rest[muscles], BLUE) > 0.9) > 0.9 and np.mean(hue(full[muscles], RED) > 0.9) > 0.9
    assert np.all(hue(half[muscles], BLUE) < 0.9) and np.all(hue(half[muscles], RED) < 0.9)


def test_muscles_without_activation_show_their_control(arm):
    spec = mujoco.MjSpec.from_file(str(ARM))
    for actuator in spec.actuators:
        actuator.dyntype = mujoco.mjtDyn.mjDYN_NONE
    model = load(spec)
    ctrl = np.array([0.0, 0.25, 0.5, 1.0, 7.0, -1.0])
    assert model.na == 0
    np.testing.assert_array_equal(Tubes(model).activation(ctrl=ctrl), [0.0, 0.25, 0.5, 1.0, 1.0, 0.0])


def test_the_bar_of_colours_comes_with_muscles_only(arm):
    model, data, _ = arm
    with_bar, without = (Renderer(model, WIDTH, HEIGHT, colorbar=bar) for bar in (True, False))
    changed = np.any(with_bar.render(data.xpos, data.xquat) != without.render(data.xpos, data.xquat), axis=-1)
    rows, columns = np.nonzero(changed)
    assert len(rows) > 100 and rows.min() > 0.7 * HEIGHT and columns.min() > 0.5 * WIDTH
    # blue on its left, red on its right
    picture = with_bar.render(data.xpos, data.xquat)
    blue, red = (np.nonzero(changed & (hue(picture, color) > 0.97))[1] for color in (BLUE, RED))
    assert len(blue) > 5 and len(red) > 5 and blue.max() < red.min()

    plain = mujoco.MjModel.from_xml_string(WRAPS)
    pose = next(poses(plain, 1, seed=0))
    pictures = [
        Renderer(load(plain), WIDTH, HEIGHT, colorbar=bar).render(pose.xpos, pose.xquat) for bar in (True, False)
    ]
    np.testing.assert_array_equal(*pictures)


def test_colours_keep_their_order_for_the_colour_blind():
    """Luminance rises all along the ramp: what remains of it in grey, and to those who confuse red with green."""
    from taichi_sim.render.colorbar import activation_rgb

    luminance = activation_rgb(np.linspace(0, 1, 33)) ** 2.2 @ [0.2126, 0.7152, 0.0722]
    assert np.all(np.diff(luminance) > 0)
    np.testing.assert_allclose(255 * activation_rgb([0.0, 1.0]), [BLUE, RED], atol=1.5)


def floor():
    """A floor, with a speck under it because something must be able to move, and the bodies' poses."""
    source = (
        '<mujoco><worldbody><geom type="plane" size="0 0 1"/>'
        '<body pos="0 0 -1"><joint/><geom size=".001"/></body></worldbody></mujoco>'
    )
    return load(mujoco.MjModel.from_xml_string(source)), np.array([[0, 0, 0], [0, 0, -1.0]]), np.eye(4)[[0, 0]]


def test_a_tapered_capsule_is_the_envelope_of_its_spheres():
    model, *pose = floor()
    # from the side, from both ends
    for azimuth in (90.0, 8.0, 172.0):
        renderer = Renderer(
            model, WIDTH, HEIGHT, camera=Camera(distance=3, azimuth=azimuth, elevation=-10, lookat=(0, 0, 1))
        )
        ends = np.array([[[-0.5, 0.0, 0.9], [0.4, 0.1, 1.1]]])
        cone = renderer.render(*pose, capsules=Capsules(ends, [[0.05, 0.3]], [[0, 0.8, 0, 1]]))
        share = np.linspace(0, 1, 400)[:, None]
        centers = ends[0, 0] + share * (ends[0, 1] - ends[0, 0])
        radius = 0.05 + 0.25 * share[:, 0]
        spheres = Capsules(np.stack([centers, centers + 1e-12], axis=1), radius, np.tile([0, 0.8, 0, 1.0], (400, 1)))
        difference = np.abs(cone.astype(int) - renderer.render(*pose, capsules=spheres)).max(axis=-1)
        assert (cone[..., 1] > 1.5 * cone[..., 0]).sum() > 1000
        assert np.mean(difference > 12) < 2e-3


def test_tubes_cast_shadows():
    model, *pose = floor()
    camera = Camera(distance=4, azimuth=90, elevation=-89.9, lookat=(0, 0, 0))
    renderer = Renderer(model, WIDTH, HEIGHT, camera=camera, sun=(-1, 0, 1))
    tube = Capsules([[[-0.6, -0.5, 0.5], [-0.6, 0.5, 0.5]]], [0.04], [[0, 0.8, 0, 1]])
    bare, lit = renderer.render(*pose).astype(int), renderer.render(*pose, capsules=tube).astype(int)
    y, x = np.nonzero((bare - lit).min(axis=-1) > 25)
    pixel = 2 * np.tan(np.deg2rad(camera.fovy) / 2) * 4 / HEIGHT
    x = (x + 0.5 - WIDTH / 2) * pixel
    # half a metre up, with the sun at 45 degrees: half a metre further along x; the tube itself is left of that
    y, x = y[x > -0.45], x[x > -0.45]
    assert len(x) > 100
    assert x.mean() == pytest.approx(-0.1, abs=0.02)
    assert np.ptp(y) * pixel == pytest.approx(1.08, abs=0.08)


def test_a_glassy_tube_casts_its_share_of_a_shadow():
    model, *pose = floor()
    camera = Camera(distance=4, azimuth=90, elevation=-89.9, lookat=(0, 0, 0))
    renderer = Renderer(model, WIDTH, HEIGHT, camera=camera, sun=(-1, 0, 1))
    # a block of parallel tubes would be dark in any case: one tube, 0.2 m thick, with a core of full shadow
    pictures = [
        renderer.render(*pose, capsules=Capsules([[[-0.6, -0.5, 0.5], [-0.6, 0.5, 0.5]]], [0.1], [[0, 0.8, 0, alpha]]))
        for alpha in (0.0, 0.5, 1.0)
    ]
    pixel = 2 * np.tan(np.deg2rad(camera.fovy) / 2) * 4 / HEIGHT
    core = np.s_[HEIGHT // 2 - 5 : HEIGHT // 2 + 5, round(WIDTH / 2 - 0.1 / pixel)]
    lit, half, dark = ((picture[core] / 255) ** 2.2 for picture in pictures)
    assert np.all(lit - dark > 0.1)
    # bytes are 1/255 apart, up to 2.2/255 in linear light
    np.testing.assert_allclose(half, (lit + dark) / 2, atol=0.01)


def test_a_tube_behind_glass_lies_in_its_shadow():
    """What is behind glass is drawn with the glass, once, even where tubes in sight would be drawn again."""
    source = """
        <mujoco><default><geom contype="0" conaffinity="0"/></default><worldbody>
          <geom type="box" size=".01 .6 .6" pos="-.5 0 .5" rgba=".5 .5 1 .2"/>
          <body pos="0 0 1.2"><joint/><geom type="box" size=".3 .6 .02" rgba=".5 .5 .5 {shade}"/></body>
        </worldbody></mujoco>"""
    tube = Capsules([[[0.0, -0.4, 0.5], [0.0, 0.4, 0.5]]], [0.15], [[0, 0.8, 0, 1]])
    camera = Camera(distance=3, azimuth=0, elevation=0, lookat=(0, 0, 0.5))
    centre = []
    for shade in (0, 1):
        model = load(mujoco.MjModel.from_xml_string(source.format(shade=shade)))
        pose = np.array([[0, 0, 0], [0, 0, 1.2]]), np.eye(4)[[0, 0]]
        picture = Renderer(model, WIDTH, HEIGHT, camera=camera, sun=(-0.1, 0, 1)).render(*pose, capsules=tube)
        centre.append(picture[HEIGHT // 2 - 10, WIDTH // 2 - 10 : WIDTH // 2 + 10, 1].astype(float))
    assert np.all(centre[1] < 0.8 * centre[0])


def test_thin_tubes_are_smooth_and_whole():
    """A pixel is the mean of its samples' linear light: against a picture of 8 x 8 pixels for each."""
    model, *pose = floor()
    rng = np.random.default_rng(3)
    # half a pixel to two pixels thick, across each other and their shadows
    ends = rng.uniform([-0.5, -0.5, 0.0], [0.5, 0.5, 1.0], (40, 2, 3))
    tubes = Capsules(ends, rng.uniform(0.006, 0.024, (40, 1)), np.append(rng.random((40, 3)), np.ones((40, 1)), axis=1))
    camera = Camera(distance=3, azimuth=100, elevation=-15, lookat=(0, 0, 0.5))
    width, height, fine = 120, 90, 8
    coarse, exact = (
        (Renderer(model, width * k, height * k, camera=camera).render(*pose, capsules=tubes) / 255) ** 2.2
        for k in (1, fine)
    )
    exact = exact.reshape(height, fine, width, fine, 3).mean(axis=(1, 3))
    error = np.abs(coarse - exact).max(axis=-1)
    # eight samples tell a share of a pixel to 1 / 8; no pixel is beyond twice that, few are near it
    assert error.max() < 1 / 4 and np.mean(error > 1 / 8) < 0.005


def test_bad_activations_are_refused(arm):
    _, data, renderer = arm
    with pytest.raises(ValueError, match=r"act has shape \(5,\), expected \(6,\)"):
        renderer.render(data.xpos, data.xquat, act=np.zeros(5))
    with pytest.raises(ValueError, match=r"ctrl\[2\] is not finite"):
        renderer.render(data.xpos, data.xquat, ctrl=[0, 0, np.nan, 0, 0, 0])
