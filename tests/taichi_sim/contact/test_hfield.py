"""Height fields: an even slope is a tilted plane, a hilly one as deep as MuJoCo's, gradients differences."""

import copy

import mujoco
import numpy as np
import pytest
import torch
from differences import assert_gradient, weighted

import taichi_sim as ts

NUMBERS = """<custom><numeric name="contact_ke" data="2000"/><numeric name="contact_kd" data="3000"/>
  <numeric name="contact_kf" data="50"/><numeric name="contact_mu" data=".7"/></custom>"""
# of everything that can touch one
BODIES = """
<body name="ball"><freejoint/><geom size=".1"/></body>
<body name="pill"><freejoint/><geom type="capsule" size=".06 .1" pos=".02 0 0" euler="30 20 0"/></body>
<body name="box"><freejoint/><geom type="box" size=".1 .06 .05" euler="0 0 25"/></body>
<body name="stone"><freejoint/><geom type="mesh" mesh="stone"/></body>
<body name="egg"><freejoint/><geom type="ellipsoid" size=".1 .06 .08" pos="0 .01 0" euler="0 20 0"/></body>
<body name="can"><freejoint/><geom type="cylinder" size=".07 .09" euler="40 0 10"/></body>"""
NUMBER = BODIES.count("<body")
STONE = '<mesh name="stone" vertex=".1 0 0 -.05 .08 0 -.05 -.08 0 0 0 .1 .02 .03 -.05"/>'


def world(ground, asset=""):
    return mujoco.MjModel.from_xml_string(
        f"""<mujoco><option timestep=".002"/>{NUMBERS}<default><geom density="500" conaffinity="0"/></default>
<asset>{STONE}{asset}</asset><worldbody>{ground}{BODIES}</worldbody></mujoco>"""
    )


def field(heights, size="2 1 .5 .1", pose='pos=".3 -.2 .1" euler="5 -8 30"'):
    """MuJoCo's model of a height field, with its data."""
    rows, columns = heights.shape
    mj_model = world(
        f'<geom name="hill" type="hfield" hfield="hill" conaffinity="1" {pose}/>',
        f'<hfield name="hill" nrow="{rows}" ncol="{columns}" size="{size}"/>',
    )
    mj_model.hfield_data[:] = heights.ravel()
    return mj_model


def hills(rows=41, columns=81):
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-2, 2, columns), indexing="ij")
    return 0.3 + 0.1 * np.sin(1.5 * x + 0.3) * np.cos(2 * y) + 0.05 * x


def frame(mj_model):
    """Place and axes of the ground."""
    data = mujoco.MjData(mj_model)
    mujoco.mj_kinematics(mj_model, data)
    return data.geom_xpos[0].copy(), data.geom_xmat[0].reshape(3, 3).copy()


def states(mj_model, num, seed, height=lambda x, y: 0.0):
    """Bodies at random over the field, some in it, some above, some beside it."""
    rng = np.random.default_rng(seed)
    place, axes = frame(mj_model)
    qpos = rng.normal(size=(num, NUMBER, 7))
    for k in range(num):
        for b in range(NUMBER):
            x, y = rng.uniform(-1.7, 1.7), rng.uniform(-0.8, 0.8)
            qpos[k, b, :3] = place + axes @ [x, y, height(x, y) + rng.uniform(0, 0.12)]
    qpos[..., 3:] /= np.linalg.norm(qpos[..., 3:], axis=-1, keepdims=True)
    zeros = torch.zeros(num, 0).double()
    return ts.State(torch.tensor(qpos.reshape(num, -1)), torch.tensor(rng.normal(size=(num, 6 * NUMBER))), zeros)


def test_an_even_slope_is_a_plane():
    """The same forces and steps as on the tilted plane, of all shapes; heights have no digits that MuJoCo drops."""
    y, x = np.meshgrid(np.linspace(-1, 1, 5), np.linspace(-2, 2, 9), indexing="ij")
    on_field = field((0.25 + x / 8 + y / 16) / 0.5)
    place, axes = frame(on_field)
    normal = axes @ np.array([-1 / 8, -1 / 16, 1])
    point = place + axes @ [0, 0, 0.25]
    plane = '<geom type="plane" conaffinity="1" size="9 9 1" pos="{} {} {}" zaxis="{} {} {}"/>'.format(*point, *normal)
    state = states(on_field, 4, 0, lambda x, y: 0.25 + x / 8 + y / 16)
    found = []
    for mj_model in (on_field, world(plane)):
        sim = ts.Simulator(ts.load(mj_model), 4)
        force, ctrl = sim.forward(state).qfrc_contact, torch.zeros(4, 0).double()
        found.append((force, *sim.step(state, ctrl)[:2]))
    touching = (found[0][0].reshape(4, NUMBER, 6).abs().amax(2) > 1).sum(0)
    assert (touching >= 1).all() and touching.sum() > 2 * NUMBER
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9 * theirs.abs().max())


def test_depths_are_mujocos_where_the_ground_bends_little():
    mj_model = field(hills())
    model = ts.load(mj_model)
    sim = ts.Simulator(model, 4)

    def height(x, y):
        return 0.5 * (0.3 + 0.1 * np.sin(1.5 * x + 0.3) * np.cos(2 * y) + 0.05 * x)

    compared = 0
    for seed in range(5):
        state = states(mj_model, 4, seed, height)
        state = state._replace(qvel=state.qvel * 0)
        force = sim.forward(state).qfrc_contact
        for k in range(4):
            data = mujoco.MjData(mj_model)
            data.qpos[:] = state.qpos[k]
            mujoco.mj_kinematics(mj_model, data)
            distance = least(mj_model, data)
            depth = force[k, :3].norm().item() / 2000
            # a fold of the ground by the curvature 0.3 / m, seen from a tenth of a metre; MuJoCo's facets of 5 cm
            assert abs(depth - max(-distance, 0)) < 1e-3
            compared += depth > 1e-3
    assert compared > 5


def least(mj_model, data):
    """The ball's distance from the field as MuJoCo's contacts have it."""
    mujoco.mj_collision(mj_model, data)
    ball = mj_model.body("ball").geomadr[0]
    return min([c.dist for c in data.contact if ball in c.geom and 0 in c.geom], default=0.0)


def test_gradient():
    mj_model = field(hills(9, 17))
    sim = ts.Simulator(ts.load(mj_model), 4)
    state = states(mj_model, 4, 3, lambda x, y: 0.13)
    ctrl = torch.zeros(4, 0).double()

    def loss(qpos, qvel):
        found = ts.State(qpos, qvel, state.act)
        for _ in range(2):
            found = sim.step(found, ctrl)
        return weighted(found, 1)

    assert (sim.forward(state).qfrc_contact.reshape(4, NUMBER, 6).abs().amax(2) > 1).sum(0).min() > 0
    assert_gradient(loss, {"qpos": state.qpos, "qvel": state.qvel}, {"qpos": 1e-6})


def test_a_saved_field_is_the_same(tmp_path):
    model = ts.load(field(hills(3, 4)))
    ts.save(model, tmp_path / "hill.npz")
    again = ts.load(tmp_path / "hill.npz")
    assert np.array_equal(again.hfield_data, model.hfield_data) and again.geom_hfieldid[0] == 0
    for name, value in (("hfield_nrow", 4), ("hfield_ncol", 1), ("geom_hfieldid", 1)):
        broken = copy.deepcopy(model)
        getattr(broken, name)[0] = value
        ts.save(broken, tmp_path / "broken.npz")
        with pytest.raises(ts.ModelError, match="hfield"):
            ts.load(tmp_path / "broken.npz")


def test_beside_the_field_there_is_nothing():
    mj_model = field(np.ones((3, 4)), pose="")
    sim = ts.Simulator(ts.load(mj_model), 1)
    state = sim.initial_state()
    force = {}
    for x in (1.99, 2.01):
        state.qpos[0, :3] = torch.tensor([x, 0.0, 0.55])
        force[x] = sim.forward(state).qfrc_contact[0, :3].abs().max().item()
    assert force[1.99] == pytest.approx(2000 * 0.05) and force[2.01] == 0
