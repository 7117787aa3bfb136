"""Length, gradient and curvature of a tendon's path past a sphere or a cylinder, against MuJoCo and differences."""

import functools
import itertools
import subprocess
import sys

import mujoco
import numpy as np
import pytest
from kernels import whole

from taichi_sim import runtime
from taichi_sim.lanes.vectors import stack
from taichi_sim.muscles import wrap
from taichi_sim.render.tendon_path import wrap_points
from taichi_sim.runtime import ti
from taichi_sim.spatial import load_vec3

EXACT = 1e-9
TOLERANCE = 1e-7  # of second derivatives; less than the tolerance of an inside wrap's search, which then shows
LANES = 4

# A row of inputs: end points r1 and r2, directions d1 and d2. Of outputs: wraps, length, g1, g2, E1, E2.
INPUTS, OUTPUTS = 12, 14

# geom, radius, side site
CASES = {
    "sphere": ("sphere", 0.3, None),
    "sphere with a side": ("sphere", 0.3, (0.4, -0.2, 0.3)),
    "inside of a sphere": ("sphere", 0.25, (0.05, 0.1, -0.1)),
    "cylinder": ("cylinder", 0.3, None),
    "cylinder with a side": ("cylinder", 0.3, (-0.1, 0.5, 0.4)),
    "cylinder with a side on its axis": ("cylinder", 0.3, (0.0, 0.0, 0.7)),
    "inside of a cylinder": ("cylinder", 0.25, (0.05, 0.1, -0.1)),
}


@functools.cache
def kernel():
    real = runtime.get().real
    array = ti.types.ndarray(dtype=ti.types.vector(LANES, real), ndim=2)

    @whole
    @ti.kernel
    def both(kind: ti.i32, radius: real, at: ti.types.vector(3, real), sided: ti.i32, x: array, out: array):
        for e in range(x.shape[0]):
            side = stack([x[e, 0] * 0.0 + at[k] for k in ti.static(range(3))])
            r1, r2, d1, d2 = load_vec3(x, e, 0), load_vec3(x, e, 3), load_vec3(x, e, 6), load_vec3(x, e, 9)
            out[e, 0], out[e, 1], g1, g2 = wrap.path(kind, r1, r2, radius, side, sided)
            e1, e2 = wrap.curvature(kind, r1, r2, radius, side, sided, d1, d2)
            for k in ti.static(range(3)):
                out[e, 2 + k], out[e, 5 + k] = g1[k, :], g2[k, :]
                out[e, 8 + k], out[e, 11 + k] = e1[k, :], e2[k, :]

    return both


def call(case, rows: np.ndarray) -> np.ndarray:
    """The outputs (N, OUTPUTS) of rows (N, INPUTS), or of (N, 6) with no directions."""
    shape, radius, side = case
    count = len(rows)
    rows = np.concatenate([rows, np.zeros((count, INPUTS - rows.shape[1]))], axis=1)
    rows = np.concatenate([rows, np.repeat(rows[-1:], -count % LANES, axis=0)])
    dtype = {"f64": np.float64, "f32": np.float32}[runtime.get().precision]
    blocks = np.ascontiguousarray(rows.reshape(-1, LANES, INPUTS).transpose(0, 2, 1), dtype=dtype)
    out = np.full((len(blocks), OUTPUTS, LANES), np.nan, dtype)
    kind = {"sphere": wrap.SPHERE, "cylinder": wrap.CYLINDER}[shape]
    if side is not None and np.linalg.norm(side) < radius:
        kind += wrap.INSIDE
    kernel()(kind, radius, ti.Vector(list(side or (0.0, 0.0, 0.0))), int(side is not None), blocks, out)
    return out.transpose(0, 2, 1).reshape(-1, OUTPUTS)[:count]


def poses(rng, count: int) -> np.ndarray:
    """End points and directions (count, INPUTS): some close to the surface, some inside, some on one line."""
    rows = rng.normal(size=(count, INPUTS)) * 0.4
    rows[::5, 3:6] = rows[::5, :3] * rng.uniform(-2.0, 2.0, (len(rows[::5]), 1)) + 0.02 * rows[::5, 3:6]
    return rows


# MuJoCo


POS, QUAT = np.array([0.3, -0.2, 0.5]), np.array([0.5, -0.1, 0.7, 0.5]) / np.linalg.norm([0.5, -0.1, 0.7, 0.5])


def mujoco_model(case) -> mujoco.MjModel:
    """A tendon between two points that slide freely, past a tilted geom."""
    shape, radius, side = case
    slides = "".join(f'<joint type="slide" axis="{axis}"/>' for axis in ("1 0 0", "0 1 0", "0 0 1"))
    body = f'<body>{slides}<geom size="0.01" mass="1"/><site name="{{}}"/></body>'
    site = "" if side is None else f'<site name="side" pos="{" ".join(map(str, side))}"/>'
    sidesite = "" if side is None else 'sidesite="side"'
    return mujoco.MjModel.from_xml_string(f"""
        <mujoco>
          <worldbody>
            <body pos="{" ".join(map(str, POS))}" quat="{" ".join(map(repr, map(float, QUAT)))}">
              <geom name="geom" type="{shape}" size="{radius} 0.5"/>{site}
            </body>
            {body.format("a")}{body.format("b")}
          </worldbody>
          <tendon>
            <spatial><site site="a"/><geom geom="geom" {sidesite}/><site site="b"/></spatial>
          </tendon>
        </mujoco>""")


@pytest.mark.parametrize("name", CASES)
def test_matches_mujoco(name):
    case = CASES[name]
    rows = poses(np.random.default_rng(0), 1500)
    out = call(case, rows)
    model = mujoco_model(case)
    data = mujoco.MjData(model)
    turn = np.zeros(9)
    mujoco.mju_quat2Mat(turn, QUAT)
    turn = turn.reshape(3, 3)
    wrapped = 0
    for row, (wraps, length, *g) in zip(rows, out[:, :8]):
        data.qpos[:3], data.qpos[3:] = POS + turn @ row[:3], POS + turn @ row[3:6]
        mujoco.mj_forward(model, data)
        jacobian = np.zeros(6)
        jacobian[model.ten_J_colind] = data.ten_J
        wrapped += data.ten_wrapnum[0] == 4
        assert wraps == (data.ten_wrapnum[0] == 4), row
        np.testing.assert_allclose(length, data.ten_length[0], rtol=EXACT, err_msg=str(row))
        np.testing.assert_allclose(np.reshape(g, (2, 3)) @ turn.T, jacobian.reshape(2, 3), atol=EXACT, err_msg=str(row))
    assert 0.1 < wrapped / len(rows) < 0.9


# Second derivatives


def jacobian(case, rows: np.ndarray, step: float) -> np.ndarray:
    """Central differences of fourth order of the gradient, (N, 6, 6)."""
    columns = []
    for motion in np.eye(6):
        near, far = (
            call(case, rows[:, :6] + s * motion)[:, 2:8] - call(case, rows[:, :6] - s * motion)[:, 2:8]
            for s in (step, 2 * step)
        )
        columns.append((8 * near - far) / (12 * step))
    return np.stack(columns, axis=2)


@pytest.mark.parametrize("name", CASES)
def test_curvature(name):
    case = CASES[name]
    rows = poses(np.random.default_rng(1), 600)
    out = call(case, rows)
    coarse, fine = jacobian(case, rows, 4e-6), jacobian(case, rows, 2e-6)
    expected, check = (np.einsum("nij,ni->nj", j, rows[:, 6:]) for j in (fine, coarse))
    scale = np.maximum(np.abs(expected).max(1), 1.0)
    # where the path switches between the four differences, or the point is on the surface, these do not agree
    sure = np.abs(expected - check).max(1) < 0.1 * TOLERANCE * scale
    assert sure.mean() > 0.95 and 0.1 < out[sure, 0].mean() < 0.9
    error = np.abs(out[:, 8:] - expected).max(1) / scale
    assert error[sure].max() < TOLERANCE, rows[np.where(sure, error, 0.0).argmax()].tolist()


# Points


@pytest.mark.parametrize("name", CASES)
def test_points(name):
    shape, radius, side = case = CASES[name]
    rows = poses(np.random.default_rng(2), 300)
    for row, (wraps, length) in zip(rows, call(case, rows)[:, :2]):
        points = wrap_points(shape, row[:3], row[3:6], radius, side, 1e-3)
        np.testing.assert_array_equal(points[[0, -1]], row[:6].reshape(2, 3))
        assert (len(points) > 2) == wraps
        # a chord is shorter than its arc by the square of half its angle over six
        np.testing.assert_allclose(np.linalg.norm(np.diff(points, axis=0), axis=1).sum(), length, rtol=1e-7)
        across = points[1:-1] if shape == "sphere" else points[1:-1, :2]
        np.testing.assert_allclose(np.linalg.norm(across, axis=1), radius, rtol=EXACT)


def test_points_follow_the_resolution():
    # half a turn around a sphere, from tangent to tangent
    ends = np.array([[0.5, -1.0, 0.0], [-0.5, -1.0, 0.0]])
    for resolution, count in ((0.5, 7), (10.0, 1)):
        points = wrap_points("sphere", *ends, 0.5, np.array([0.0, 2.0, 0.0]), resolution)
        assert len(points) == 2 + 1 + count
        np.testing.assert_allclose(points[[1, -2]], [[0.5, 0, 0], [-0.5, 0, 0]], atol=1e-12)
    with pytest.raises(ValueError, match="'sphere' or a 'cylinder', got 'box'"):
        wrap_points("box", *ends, 0.5, None, 0.1)
    with pytest.raises(ValueError, match="resolution must be a positive angle"):
        wrap_points("sphere", *ends, 0.5, None, 0.0)


# Degenerate poses, and single precision

SIDES = (None, (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0))
DEGENERATE = list(itertools.product(("sphere", "cylinder"), (0.5, 1.0, 0.0), SIDES))


def degenerate_poses(rng) -> np.ndarray:
    """At the centre, on the surface and on the axis, coincident and on one line in every combination; and near that."""
    grid = np.array(list(itertools.product([-1.0, -0.5, 0.0, 0.5], repeat=3)))
    rows = np.array([[*a, *b] for a, b in itertools.product(grid, grid)])
    rows = np.concatenate([rows, rows + 1e-7 * rng.normal(size=rows.shape), 1e-9 * rows, 1e4 * rows])
    return np.concatenate([rows, rng.normal(size=rows.shape)], axis=1)


def assert_finite(out: np.ndarray, case) -> None:
    assert np.isfinite(out).all(), case
    assert np.linalg.norm(out[:, 2:8].reshape(-1, 3), axis=1).max() < 1.0 + 1e-5, case


def test_degenerate_poses_are_finite():
    rows = degenerate_poses(np.random.default_rng(3))
    for case in DEGENERATE:
        assert_finite(call(case, rows), case)


SINGLE_PRECISION = """
import numpy as np, sys
import taichi_sim as ts

ts.init(device="cpu", precision="f32")
sys.path[:0] = sys.argv[1].split(":")
import test_wrap as t

degenerate, rows = t.degenerate_poses(np.random.default_rng(3)), t.poses(np.random.default_rng(4), 4000)
for case in t.DEGENERATE:
    t.assert_finite(t.call(case, degenerate), case)
np.savez(sys.argv[2], **{name: t.call(case, rows.astype(np.float32)) for name, case in t.CASES.items()})
"""


def test_single_precision(tmp_path):
    file = tmp_path / "out.npz"
    command = [sys.executable, "-c", SINGLE_PRECISION, ":".join(sys.path), str(file)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    rows = poses(np.random.default_rng(4), 4000).astype(np.float32)
    ours = np.load(file)
    for name, case in CASES.items():
        exact, single = call(case, rows.astype(np.float64)), ours[name]
        same = exact[:, 0] == single[:, 0]
        assert same.mean() > 0.999, name
        np.testing.assert_allclose(single[same, 1], exact[same, 1], rtol=1e-5, err_msg=name)
        # directions follow the root of the distance to the surface, of which the roundings of the input are a part
        np.testing.assert_allclose(single[same, 2:8], exact[same, 2:8], atol=2e-3, err_msg=name)
