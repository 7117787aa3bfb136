"""Pictures against MuJoCo's own rays, and what users see: shadows, colours, the camera, films."""

import dataclasses
import os
from pathlib import Path

import mujoco
import numpy as np
import pytest

from shac.film.film import at_qpos0, turn
from taichi_sim.mjcf.loader import load
from taichi_sim.render.camera import Camera
from taichi_sim.render.renderer import Capsules, Renderer
from taichi_sim.render.scene import frame_box, rest_pose, visible_shapes

WIDTH, HEIGHT = 160, 120

# every type of geom, tilted, on bodies that are turned themselves
SHAPES = """
<mujoco>
  <default><geom contype="0" conaffinity="0"/></default>
  <asset>
    <mesh name="wedge" vertex="0 0 0  .4 0 0  0 .3 0  .4 .3 0  0 0 .35  0 .3 .25"/>
    <hfield name="hill" nrow="3" ncol="4" size=".5 .3 .3 .1" elevation="0 1 2 0  1 4 3 2  0 2 0 3"/>
  </asset>
  <worldbody>
    <geom type="plane" size="0 0 1"/>
    <geom type="plane" size=".6 .3 1" pos="-.2 1.4 .5" euler="70 10 5"/>
    <geom type="hfield" hfield="hill" pos=".3 -1.1 .4" euler="20 -10 30"/>
    <body pos="0 0 .6" euler="20 -35 60">
      <freejoint/>
      <geom type="capsule" size=".09 .3" pos="-.5 .3 .1" euler="50 20 0"/>
      <geom type="sphere" size=".2" pos=".1 .4 .3"/>
      <body pos=".2 -.1 .1" euler="-50 10 30">
        <geom type="box" size=".2 .1 .15" pos=".3 .1 0" euler="10 30 20"/>
        <geom type="cylinder" size=".12 .2" pos="-.3 -.2 .2" euler="70 0 40"/>
        <geom type="ellipsoid" size=".1 .25 .15" pos=".1 -.5 .4" euler="0 40 10"/>
        <geom type="mesh" mesh="wedge" pos="-.4 .3 .3" euler="30 60 0"/>
      </body>
    </body>
  </worldbody>
</mujoco>
"""


def pose(spec):
    """A MuJoCo model at qpos0 and the same model converted."""
    model = mujoco.MjModel.from_xml_string(spec)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data, load(model)


def rays(camera, lookat, distance, width, height):
    """Origin and unit directions (height, width, 3) of a pinhole camera, written out from MuJoCo's angles."""
    azimuth, elevation = np.deg2rad([camera.azimuth, camera.elevation])
    forward = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    pixel = 2 * np.tan(np.deg2rad(camera.fovy) / 2) / height
    x, y = np.meshgrid(np.arange(width) + 0.5 - width / 2, height / 2 - np.arange(height) - 0.5)
    direction = forward + pixel * (x[..., None] * right + y[..., None] * up)
    return np.asarray(lookat) - distance * forward, direction / np.linalg.norm(direction, axis=-1, keepdims=True)


def oracle(model, data, origin, direction):
    """Geom and distance per ray, by MuJoCo."""
    shape = direction.shape[:-1]
    num = int(np.prod(shape))
    geomid, dist = np.full((num, 1), -1, np.int32), np.zeros((num, 1))
    group = np.array([1, 1, 1, 0, 0, 0], np.uint8)
    for i, vec in enumerate(direction.reshape(-1, 3)):
        geom = np.full((1,), -1, np.int32)
        dist[i] = mujoco.mj_ray(model, data, origin, vec, group, 1, -1, geom)
        geomid[i] = geom[0]
    return geomid.reshape(shape), np.where(geomid < 0, np.inf, dist).reshape(shape)


def interior(ids):
    """Pixels whose neighbours show the same geom: there rounding cannot decide."""
    same = np.ones_like(ids, dtype=bool)
    for axis in (0, 1):
        for shift in (-1, 1):
            same &= np.roll(ids, shift, axis) == ids
    same[[0, -1]] = same[:, [0, -1]] = False
    return same


@pytest.mark.parametrize(
    "azimuth, elevation, distance", [(120, -20, 3.0), (-40, -55, 2.5), (20, -4, 4.0), (250, 10, 3)]
)
def test_silhouettes_and_distances_agree_with_mujocos_rays(azimuth, elevation, distance):
    model, data, converted = pose(SHAPES)
    camera = Camera(distance=distance, azimuth=azimuth, elevation=elevation, lookat=(0, 0, 0.9))
    geomid, dist = Renderer(converted, WIDTH, HEIGHT, camera=camera).segment(data.xpos, data.xquat)
    expected, expected_dist = oracle(model, data, *rays(camera, camera.lookat, distance, WIDTH, HEIGHT))
    assert len(np.unique(expected)) >= 7
    assert np.mean(geomid != expected) < 2e-3
    inside = interior(expected)
    np.testing.assert_array_equal(geomid[inside], expected[inside])
    hit = inside & (expected >= 0)
    np.testing.assert_allclose(dist[hit], expected_dist[hit], rtol=2e-5)


def test_pictures_of_any_size_are_whole():
    """Pixels are drawn in blocks, and a picture need not consist of whole ones."""
    model, data, converted = pose(SHAPES)
    camera = Camera(distance=3, azimuth=120, elevation=-20, lookat=(0, 0, 0.9))
    for width, height in [(41, 31), (30, 25), (3, 1)]:
        geomid, _ = Renderer(converted, width, height, camera=camera).segment(data.xpos, data.xquat)
        expected, _ = oracle(model, data, *rays(camera, camera.lookat, 3.0, width, height))
        assert np.count_nonzero(geomid != expected) <= 2


def test_pictures_do_not_depend_on_the_place_in_the_world():
    """10 km from the origin an f32 position is 1 mm off: the arithmetic must be relative to the camera."""
    _, data, converted = pose(SHAPES)
    camera = Camera(distance=3, lookat=(0, 0, 0.9))
    shift = np.array([10240.0, -8192.0, 0.0])
    near = Renderer(converted, WIDTH, HEIGHT, camera=camera).render(data.xpos, data.xquat)
    moved = dataclasses.replace(
        converted, geom_pos=converted.geom_pos + np.where(converted.geom_bodyid == 0, 1, 0)[:, None] * shift
    )
    camera = dataclasses.replace(camera, lookat=tuple(shift + [0, 0, 0.9]))
    xpos = data.xpos + np.where(np.arange(len(data.xpos)) > 0, 1, 0)[:, None] * shift
    far = Renderer(moved, WIDTH, HEIGHT, camera=camera).render(xpos, data.xquat)
    assert np.mean(np.any(np.abs(near.astype(int) - far) > 2, axis=-1)) < 2e-3


def ball(height=1.0, extra=""):
    return f"""
    <mujoco><default><geom contype="0" conaffinity="0"/></default><worldbody>
      <geom type="plane" size="0 0 1" rgba="1 1 1 1"/>
      <body pos="0 0 {height}"><freejoint/><geom size=".3" rgba=".8 .2 .1 1"/></body>{extra}
    </worldbody></mujoco>"""


def test_the_shadow_falls_away_from_the_sun():
    _, data, model = pose(ball())
    camera = Camera(distance=8, elevation=-89.9, azimuth=90, lookat=(0, 0, 0))

    def centre_of_shadow(sun):
        picture = Renderer(model, WIDTH, HEIGHT, camera=camera, sun=sun).render(data.xpos, data.xquat)
        grey = np.ptp(picture.astype(int), axis=-1) < 60
        dark = grey & (picture.sum(axis=-1) < 0.75 * np.median(picture.sum(axis=-1)))
        assert dark.sum() > 50
        y, x = np.nonzero(dark)
        pixel = 2 * np.tan(np.deg2rad(camera.fovy) / 2) * 8 / HEIGHT
        # seen from above with azimuth 90, the picture's right is +x and its top +y
        return np.array([x.mean() + 0.5 - WIDTH / 2, HEIGHT / 2 - y.mean() - 0.5]) * pixel

    # the shadow's centre lies where the sun's ray through the ball's centre meets the floor
    for sun in [(-1, 0, 1), (0, 1, 1), (1, -1, 1.5)]:
        np.testing.assert_allclose(centre_of_shadow(sun), -np.array(sun[:2]) / sun[2], atol=0.12)


def test_geoms_keep_their_colours_and_plain_models_get_several():
    _, data, model = pose(ball())
    picture = Renderer(model, WIDTH, HEIGHT, floor=False).render(data.xpos, data.xquat)
    geomid, _ = Renderer(model, WIDTH, HEIGHT).segment(data.xpos, data.xquat)
    red, green, blue = picture[interior(geomid) & (geomid == 1)].mean(axis=0)
    assert red > 2 * green > 2 * blue

    _, data, plain = pose(SHAPES)
    renderer = Renderer(plain, WIDTH, HEIGHT, camera=Camera(distance=3, lookat=(0, 0, 0.9)))
    picture, (geomid, _) = renderer.render(data.xpos, data.xquat), renderer.segment(data.xpos, data.xquat)
    tones = [picture[geomid == geom].mean(axis=0) for geom in np.flatnonzero(plain.geom_bodyid > 0)]
    outer, inner = np.mean(tones[:2], axis=0), np.mean(tones[2:], axis=0)
    assert np.abs(outer / outer.sum() - inner / inner.sum()).max() > 0.05


def test_transparent_and_hidden_geoms():
    front = '<geom type="box" size=".02 .5 .5" pos="{x} 0 1" rgba="0 0 1 {alpha}" group="{group}"/>'
    camera = Camera(distance=4, azimuth=0, elevation=0, lookat=(0, 0, 1))

    def centre(**box):
        _, data, model = pose(ball(extra=front.format(**box)))
        renderer = Renderer(model, 64, 48, camera=camera)
        return renderer.render(data.xpos, data.xquat)[24, 32].astype(float)

    bare = centre(x=-1, alpha=0, group=0)
    np.testing.assert_array_equal(centre(x=-1, alpha=1, group=3), bare)
    half, full = centre(x=-1, alpha=0.5, group=0), centre(x=-1, alpha=1, group=0)
    assert bare[0] > half[0] > full[0] and bare[2] < half[2] < full[2]


def test_edges_are_smooth_and_pictures_repeat():
    _, data, model = pose(ball())
    renderer = Renderer(model, WIDTH, HEIGHT, camera=Camera(distance=4, elevation=20, lookat=(0, 0, 1)))
    picture = renderer.render(data.xpos, data.xquat)
    np.testing.assert_array_equal(picture, renderer.render(data.xpos, data.xquat))
    # along a row through the silhouette, against the sky, the step from ball to sky takes an intermediate value
    geomid, _ = renderer.segment(data.xpos, data.xquat)
    rows = np.flatnonzero((geomid == 1).any(axis=1))[5:-5]
    between = 0
    for row in rows:
        edge = np.flatnonzero(geomid[row] == 1)[0]
        inside, outside = (picture[row, edge + shift].astype(float) for shift in (2, -2))
        share = [(picture[row, edge + s] - outside)[2] / (inside - outside)[2] for s in (-1, 0)]
        between += any(0.05 < s < 0.95 for s in share)
    assert between > 0.8 * len(rows)


def test_the_floor_has_no_moire():
    """Towards the horizon, where squares are smaller than pixels, the checker must fade to its mean."""
    _, data, model = pose(ball(height=500))
    camera = Camera(distance=3, elevation=-3, lookat=(0, 0, 0.0))
    picture = Renderer(model, WIDTH, HEIGHT, camera=camera).render(data.xpos, data.xquat).astype(float)
    geomid, dist = Renderer(model, WIDTH, HEIGHT, camera=camera).segment(data.xpos, data.xquat)
    first = np.flatnonzero((geomid == 0).all(axis=1))[0]
    assert np.ptp(picture[first + 1 : first + 3], axis=1).max() <= 12


def test_camera_follows_what_travels_and_frames_what_stands():
    _, data, model = pose(ball())
    renderer = Renderer(model, WIDTH, HEIGHT)
    for step in range(60):
        geomid, _ = renderer.segment(data.xpos + [0, step * 0.1, 0] * (np.arange(2) > 0)[:, None], data.xquat)
        x = np.nonzero(geomid == 1)[1]
        assert abs(x.mean() - WIDTH / 2) < WIDTH / 4 and x.min() > 0 and x.max() < WIDTH - 1
    assert abs(x.mean() - WIDTH / 2) < 3

    cartpole = load("cartpole")
    renderer = Renderer(cartpole, WIDTH, HEIGHT)
    xpos, xquat = rest_pose(cartpole)
    rest, _ = renderer.segment(xpos, xquat)
    # a fixed base gets a fixed view: the cart moves in the picture, which shows no floor
    moved, _ = renderer.segment(xpos + [0.3, 0, 0] * (np.arange(cartpole.nbody) > 0)[:, None], xquat)
    assert (rest != moved).any()
    assert (rest == -1).any(axis=1)[-1] and not np.any((rest >= 0)[[0, -1]])


# a fixed base, every type of joint with an anchor off its body's origin, a rest position off zero, spheres alone
ARM = """
<mujoco>
  <default><geom type="sphere" size=".05" contype="0" conaffinity="0"/></default>
  <worldbody>
    <body pos=".3 0 1" euler="10 20 30">
      <joint type="hinge" axis="0 1 1" pos=".1 0 -.1" range="-40 70" ref="20"/>
      <geom pos=".4 0 .1"/>
      <body pos=".5 0 0" euler="0 40 0">
        <joint type="slide" axis="1 0 1" range="-.1 .3"/>
        <joint type="ball" pos="0 .1 0" range="0 50"/>
        <geom pos="0 .3 .1"/>
        <body pos="0 .2 .3">
          <joint type="hinge" axis="1 0 0"/>
          <geom pos="0 .2 .1"/>
        </body>
      </body>
    </body>
  </worldbody>
</mujoco>
"""


def test_a_fixed_base_is_framed_in_all_its_postures():
    mj, data, model = pose(ARM)
    rng, corners = np.random.default_rng(3), []
    for _ in range(10_000):
        # often at a limit, where a limb reaches furthest
        hinge, slide, ball, free = rng.uniform([-80, -0.2, 0, -180], [110, 0.4, 80, 180])
        data.qpos[[0, 1, 6]] = np.deg2rad(np.clip(hinge, -40, 70)), np.clip(slide, -0.1, 0.3), np.deg2rad(free)
        axis = rng.standard_normal(3)
        mujoco.mju_axisAngle2Quat(data.qpos[2:6], axis / np.linalg.norm(axis), np.deg2rad(min(ball, 50)))
        mujoco.mj_kinematics(mj, data)
        corners.append((data.geom_xpos.min(axis=0) - 0.05, data.geom_xpos.max(axis=0) + 0.05))
    lower, upper = np.min(corners, axis=0)[0], np.max(corners, axis=0)[1]
    center, half = frame_box(model, visible_shapes(model, (0,)), None)
    # both are drawn at random; a picture has a margin of a tenth
    np.testing.assert_allclose(center - half, lower, atol=0.1 * half.max())
    np.testing.assert_allclose(center + half, upper, atol=0.1 * half.max())


def test_a_film_of_a_fixed_base_is_framed_by_its_motion():
    mj, data, model = pose(ARM)
    motion = []
    for angle in np.linspace(-0.2, 0.4, 7):
        data.qpos[0] = angle
        mujoco.mj_kinematics(mj, data)
        motion.append((data.xpos.copy(), data.xquat.copy()))
    motion = tuple(map(np.stack, zip(*motion)))
    renderer, wide = Renderer(model, WIDTH, HEIGHT, motion=motion), Renderer(model, WIDTH, HEIGHT)
    for xpos, xquat in zip(*motion):
        geomid, _ = renderer.segment(xpos, xquat)
        assert not np.any(geomid[[0, -1]] >= 0) and not np.any(geomid[:, [0, -1]] >= 0)
        assert (geomid >= 0).sum() > 1.5 * (wide.segment(xpos, xquat)[0] >= 0).sum()


def test_a_turn_round_a_long_body_holds_all_of_it():
    body = '<body><joint type="hinge" axis="0 0 1"/><geom type="box" size=".1 1 .1" rgba="1 0 0 1"/></body>'
    _, _, model = pose(f"<mujoco><worldbody>{body}</worldbody></mujoco>")
    for picture in turn(at_qpos0(model), 12, Camera(), WIDTH, HEIGHT):
        red = picture[..., 0] > 2.0 * picture[..., 2]
        assert red.sum() > 100 and not red[[0, -1]].any() and not red[:, [0, -1]].any()


def test_added_capsules_are_drawn_where_they_are():
    _, data, model = pose(ball())
    camera = Camera(distance=4, azimuth=90, elevation=0, lookat=(0, 0, 1))
    renderer = Renderer(model, WIDTH, HEIGHT, camera=camera)
    tube = Capsules(ends=[[[0.6, 0, 0.6], [0.6, 0, 1.4]]], radius=[0.05], rgba=[[0, 1, 0, 1]])
    picture = renderer.render(data.xpos, data.xquat, capsules=tube).astype(float)
    green = picture[..., 1] > 1.5 * picture[..., [0, 2]].max(axis=-1)
    pixel = 2 * np.tan(np.deg2rad(camera.fovy) / 2) * 4 / HEIGHT
    y, x = np.nonzero(green)
    np.testing.assert_allclose((x.mean() + 0.5 - WIDTH / 2) * pixel, 0.6, atol=0.02)
    np.testing.assert_allclose(np.ptp(y) * pixel, 0.9, atol=0.08)


def test_a_model_without_geoms_is_sky_and_a_floor_can_be_added():
    inertial = '<inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>'
    _, data, model = pose(f"<mujoco><worldbody><body><freejoint/>{inertial}</body></worldbody></mujoco>")
    sky = Renderer(model, 32, 24).render(data.xpos, data.xquat)
    floor = Renderer(model, 32, 24, floor=True).render(data.xpos, data.xquat)
    np.testing.assert_array_equal(sky[0], floor[0])
    # along a row the sky is even, and the floor has its checker
    assert np.ptp(sky[-6:], axis=1).max() <= 3 and np.ptp(floor[-6:], axis=1).max() > 10


def test_bad_input_says_what_is_wrong():
    _, data, model = pose(ball())
    renderer = Renderer(model, 32, 24)
    with pytest.raises(ValueError, match=r"xpos has shape \(1, 2, 3\), expected \(2, 3\)"):
        renderer.render(data.xpos[None], data.xquat)
    bad = data.xpos.copy()
    bad[1, 2] = np.nan
    with pytest.raises(ValueError, match="xpos of body 1 is not finite"):
        renderer.render(bad, data.xquat)
    with pytest.raises(ValueError, match="no body 'torso'"):
        Renderer(model, 32, 24, camera=Camera(track="torso"))
    with pytest.raises(ValueError, match="must be positive"):
        Renderer(model, 0, 24)
    with pytest.raises(ValueError, match="one of the two"):
        Camera(lookat=(0, 0, 0), track="com")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_renderers_give_their_memory_back():
    """Taichi keeps that of vector arrays: seen, 8 MB for each Renderer of this size."""
    model = load("cartpole")
    pose = rest_pose(model)

    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    Renderer(model).render(*pose)
    before = resident()
    for _ in range(40):
        Renderer(model).render(*pose)
    assert resident() - before < 40
