"""Boxes on boxes: MuJoCo's distances and normals, polygons by hand, gradients, stacks that stand."""

import math

import mujoco
import numpy as np
import pytest
import torch
from differences import assert_gradient, rollout, weighted
from kernels import whole

import taichi_sim as ts
from taichi_sim.contact import box_box
from taichi_sim.runtime import ti
from taichi_sim.spatial import load_quat, load_vec3

LANES, TOLERANCE = 4, 1e-6
ARRAY = ti.types.ndarray(dtype=ti.types.vector(LANES, ti.f64), ndim=2)
# Of a slot: depth, normal, point, moment, force.
ENTRIES = 13


@whole
@ti.kernel
def kernel(x: ARRAY, out: ARRAY):
    """(c1, q1, size1, c2, q2, size2, adjoints of depth, normal and point) -> each slot's entries."""
    for e in range(x.shape[0]):
        c1, q1, size1 = load_vec3(x, e, 0), load_quat(x, e, 3), load_vec3(x, e, 7)
        c2, q2, size2 = load_vec3(x, e, 10), load_quat(x, e, 13), load_vec3(x, e, 17)
        d_bar, n_bar, p_bar = x[e, 20], load_vec3(x, e, 21), load_vec3(x, e, 24)
        for slot in range(box_box.SLOTS):
            depth, n, p = box_box.touch(c1, q1, size1, c2, q2, size2, slot)
            moment, force = box_box.adjoint_touch(c1, q1, size1, c2, q2, size2, slot, d_bar, n_bar, p_bar)
            out[e, ENTRIES * slot] = depth
            for k in ti.static(range(3)):
                out[e, ENTRIES * slot + 1 + k] = n[k, :]
                out[e, ENTRIES * slot + 4 + k] = p[k, :]
                out[e, ENTRIES * slot + 7 + k] = moment[k, :]
                out[e, ENTRIES * slot + 10 + k] = force[k, :]


def call(rows: np.ndarray) -> np.ndarray:
    """(N, 27) -> (N, SLOTS, ENTRIES)."""
    padded = np.concatenate([rows, np.repeat(rows[-1:], -len(rows) % LANES, axis=0)])
    blocks = np.ascontiguousarray(padded.reshape(-1, LANES, rows.shape[1]).transpose(0, 2, 1))
    out = np.full((len(blocks), box_box.SLOTS * ENTRIES, LANES), np.nan)
    kernel(blocks, out)
    return out.transpose(0, 2, 1).reshape(-1, box_box.SLOTS, ENTRIES)[: len(rows)]


def quat(axis_angle) -> np.ndarray:
    angle = np.linalg.norm(axis_angle)
    return np.concatenate([[np.cos(angle / 2)], np.sin(angle / 2) * np.asarray(axis_angle) / max(angle, 1e-30)])


def turned(q, x) -> np.ndarray:
    result = np.zeros(3)
    mujoco.mju_rotVecQuat(result, np.asarray(x, float), q)
    return result


def poses(rng, count) -> np.ndarray:
    """Random boxes, moved along a random direction to where they are about to touch or overlap by some per cent."""
    rows = np.zeros((count, 27))
    rows[:, [7, 8, 9]], rows[:, [17, 18, 19]] = rng.uniform(0.1, 0.5, (2, count, 3))
    for row in rows:
        row[3:7], row[13:17] = (x / np.linalg.norm(x) for x in rng.normal(size=(2, 4)))
        if rng.random() < 0.5:
            # almost flat, as boxes rest
            row[3:7] = quat(rng.normal(size=3) * [0.02, 0.02, 2])
            row[13:17] = quat(rng.normal(size=3) * [0.02, 0.02, 2])
        direction = rng.normal(size=3) * ([0.3, 0.3, 1] if rng.random() < 0.5 else [1, 1, 1])
        row[0:3] = 2 * direction / np.linalg.norm(direction)
        low, high = 0.0, 1.0
        for _ in range(25):
            middle = (low + high) / 2
            low, high = (middle, high) if distance([*(middle * row[0:3]), *row[3:]]) < 0 else (low, middle)
        row[0:3] *= high * rng.uniform(0.9, 1.03)
    rows[:, 20:] = rng.normal(size=(count, 7))
    return rows


def model_of(row):
    """The two boxes in MuJoCo."""
    boxes = "".join(
        f'<body pos="{" ".join(map(str, pos))}" quat="{" ".join(map(str, q))}"><freejoint/>'
        f'<geom type="box" size="{" ".join(map(str, size))}"/></body>'
        for pos, q, size in ((row[0:3], row[3:7], row[7:10]), (row[10:13], row[13:17], row[17:20]))
    )
    return mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{boxes}</worldbody></mujoco>")


_SCENE = model_of(np.array([0, 0, 0, 1, 0, 0, 0, 1, 1, 1] * 2 + [0] * 7))


def distance(row) -> float:
    """Distance of two boxes, below 0 the least overlap, by MuJoCo's convex collision."""
    row = np.asarray(row)
    _SCENE.geom_size[:] = row[7:10], row[17:20]
    data = mujoco.MjData(_SCENE)
    data.qpos[:] = [*row[0:7], *row[10:17]]
    mujoco.mj_kinematics(_SCENE, data)
    return mujoco.mj_geomDistance(_SCENE, data, 0, 1, 1.0, None)


@pytest.fixture(scope="module")
def cases():
    rows = poses(np.random.default_rng(0), 2000)
    return rows, call(rows), np.array([distance(row) for row in rows])


def test_depth_and_normal_are_mujocos(cases):
    rows, out, apart = cases
    depth = out[:, :, 0].max(axis=1)
    touching = apart < -1e-4
    assert 1000 < touching.sum() < 1800
    # an axis that is the better by less than a seam may be passed over
    seam = box_box.SEAM * np.minimum(rows[:, 7:10].min(1), rows[:, 17:20].min(1))
    assert (depth[apart > 2e-4] <= 1e-6).all()
    error = depth[touching] + apart[touching]
    assert (error > -1e-5).all() and (error < 2 * seam[touching] + 1e-5).all()
    checked = 0
    for row, slots in zip(rows[touching][:300], out[touching]):
        scene = model_of(row)
        data = mujoco.MjData(scene)
        mujoco.mj_forward(scene, data)
        normals = np.array([-c.frame[:3] for c in data.contact])
        k = slots[:, 0].argmax()
        if len(normals):
            checked += 1
            # MuJoCo, too, chooses among axes that are about as good
            assert (normals @ slots[k, 1:4]).max() > 0.999 or slots[k, 0] > 0.01
    assert checked > 200
    # all kinds of contacts are there
    assert ((out[touching, :, 0] > 0).any(axis=0)).all()


def test_gradients(cases):
    rows, out, _ = cases
    active, step = out[:, :, 0] > 0, 1e-6
    bars = rows[:, None, 20:]
    expected, smooth = np.zeros((*active.shape, 6)), active.copy()
    for i, motion in enumerate(np.eye(6)):
        ends = []
        for sign in (1, -1):
            moved = rows.copy()
            turn = quat(sign * step * motion[:3])
            for row in moved:
                row[0:3] = turned(turn, row[0:3]) + sign * step * motion[3:]
                mujoco.mju_mulQuat(row[3:7], turn, row[3:7].copy())
            ends.append(call(moved)[:, :, :7])
        ahead, behind = ends
        # the same feature on both sides
        smooth &= (ahead[:, :, 0] > -1) & (behind[:, :, 0] > -1)
        smooth &= np.abs(ahead - behind)[:, :, 1:4].max(axis=2) < 1e-3
        expected[:, :, i] = ((ahead - behind) * bars).sum(axis=2) / (2 * step)
    error = np.abs(out[:, :, 7:] - expected).max(axis=2)
    scale = np.maximum(np.abs(expected).max(axis=2), 1.0)
    # where edges are almost parallel, points run away, and differences with them
    tame = smooth & (scale < 30)
    assert (tame.sum(axis=0) > 5).all() and tame.sum() > 0.95 * active.sum()
    worst = (error / scale)[tame].max()
    assert worst < TOLERANCE, worst


@pytest.mark.parametrize(
    ("shift", "yaw", "corners"),
    [
        ((0, 0), 0, [(1, 1), (1, -1), (-1, 1), (-1, -1)]),
        ((0.5, 0), 0, [(1, 1), (1, -1), (-0.5, 1), (-0.5, -1)]),
        ((0.5, -0.25), 90, [(1, 0.75), (1, -1), (-0.5, 0.75), (-0.5, -1)]),
        (
            (0, 0),
            45,
            [
                (s * a, t * b)
                for a, b in ((1, math.sqrt(2) - 1), (math.sqrt(2) - 1, 1))
                for s in (1, -1)
                for t in (1, -1)
            ],
        ),
    ],
)
def test_faces_bear_with_the_corners_of_their_overlap(shift, yaw, corners):
    """Cubes of half-extent 1, one on the other."""
    row = np.zeros((1, 27))
    row[0, :10] = [*shift, 1.99, *quat([0, 0, math.radians(yaw)]), 1, 1, 1]
    row[0, 10:20] = [0, 0, 0, 1, 0, 0, 0, 1, 1, 1]
    found = call(row)[0]
    found = found[found[:, 0] > 0]
    np.testing.assert_allclose(found[:, 0], 0.01, atol=1e-12)
    np.testing.assert_allclose(found[:, 1:4], [[0, 0, 1]] * len(found), atol=1e-12)
    assert sorted(map(tuple, found[:, 4:6].round(9) + 0.0)) == sorted(map(tuple, np.round(corners, 9) + 0.0))
    np.testing.assert_allclose(found[:, 6], 0.995, atol=1e-12)


# Boxes on a box of the world, on each other and with an arm between them.
PILE = """<mujoco><compiler angle="radian"/><option timestep="0.002"/>
  <worldbody><geom type="box" size=".5 .5 .1" pos="0 0 -.1" euler=".1 .05 .3"/>
    <body><freejoint/><geom type="box" size=".15 .2 .1"/>
      <body pos=".2 0 0"><joint axis="0 1 .2"/><geom type="box" size=".2 .05 .05" pos=".2 0 0" margin=".01"/></body>
    </body>
    <body><freejoint/><geom type="box" size=".1 .12 .2" condim="6" friction=".8 .05 .02"/></body>
    <body><freejoint/><geom type="box" size=".1 .3 .05"/></body>
  </worldbody></mujoco>"""


def test_gradients_of_steps():
    sim = ts.Simulator(ts.load(mujoco.MjModel.from_xml_string(PILE)), 8)
    sim.model.opt.substeps, rng = 2, np.random.default_rng(6)
    qpos = np.tile(sim.model.qpos0, (8, 1))
    for adr in sim.model.jnt_qposadr[sim.model.jnt_type == ts.types.JNT_FREE]:
        qpos[:, adr : adr + 3] = rng.uniform(-1, 1, (8, 3)) * [0.3, 0.3, 0.15] + [0, 0, 0.1]
        qpos[:, adr + 3 : adr + 7] = [quat(x) for x in rng.normal(size=(8, 3))]
    qvel = rng.normal(size=(8, sim.model.nv)) * np.geomspace(1e-3, 4, 8)[:, None]
    qpos, qvel, ctrl = torch.tensor(qpos), torch.tensor(qvel), torch.zeros(8, 0, dtype=torch.float64)
    assert (sim.forward(ts.State(qpos, qvel, ctrl)).qfrc_contact.abs().amax(1) > 1).sum() > 6
    assert_gradient(
        lambda qpos, qvel: weighted(rollout(sim, qpos, qvel, ctrl, 1), 1),
        {"qpos": qpos, "qvel": qvel},
        {"qpos": 1e-8, "qvel": 1e-6},
    )


TOWER = """<mujoco><option timestep="0.002"/><worldbody><geom type="{floor}" size="1 1 .1" pos="0 0 {height}"/>
  <body pos="0 0 .1"><freejoint/><geom type="box" size=".1 .1 .1"/></body>
  <body pos=".02 0 .3" euler="0 0 {yaw}"><freejoint/><geom type="box" size=".1 .1 .1"/></body>
  <body pos="0 .01 .5"><freejoint/><geom type="box" size=".05 .1 .1"/></body></worldbody></mujoco>"""


@pytest.mark.parametrize(("floor", "height", "yaw"), [("plane", 0, 0), ("box", -0.1, 30)])
def test_a_tower_stands(floor, height, yaw):
    sim = ts.Simulator(ts.load(mujoco.MjModel.from_xml_string(TOWER.format(floor=floor, height=height, yaw=yaw))), 1)
    state, ctrl = sim.initial_state(), torch.zeros(1, 0, dtype=torch.float64)
    start = state.qpos.reshape(3, 7)
    for _ in range(1000):
        state = sim.step(state, ctrl)
    end = state.qpos.reshape(3, 7)
    # it sinks in by what its load asks for
    assert (end[:, :2] - start[:, :2]).abs().max() < 0.01
    assert ((start[:, 2] - end[:, 2]) < 0.008).all() and ((start[:, 2] - end[:, 2]) > 0).all()
    assert state.qvel.abs().max() < 0.02


def test_a_box_slides_down_a_box_as_friction_says():
    """By the penalty; by MuJoCo's law friction that slides is less than mu times the normal force, as in MuJoCo."""
    tilt, mu = math.radians(40), 0.5
    gravity = f"{9.81 * math.sin(tilt)} 0 {-9.81 * math.cos(tilt)}"
    text = f"""<mujoco><compiler angle="radian"/><option timestep="0.002" gravity="{gravity}"/>
      <custom><text name="constraint" data="penalty"/></custom>
      <default><geom friction="{mu}"/></default><worldbody><geom type="box" size="5 1 .1" pos="0 0 -.1"/>
      <body pos="0 0 .0495"><freejoint/><geom type="box" size=".1 .1 .05"/></body></worldbody></mujoco>"""
    sim = ts.Simulator(ts.load(mujoco.MjModel.from_xml_string(text)), 1)
    state, ctrl, speeds = sim.initial_state(), torch.zeros(1, 0, dtype=torch.float64), []
    for _ in range(400):
        state = sim.step(state, ctrl)
        speeds.append(state.qvel[0, 0].item())
    expected = 9.81 * (math.sin(tilt) - mu * math.cos(tilt))
    np.testing.assert_allclose((speeds[-1] - speeds[199]) / 0.4, expected, rtol=0.01)
