"""Elastic tendons alone: OpenSim's muscle, the step's root, its derivatives; in a body: test_elastic_step.py."""

import functools
import subprocess
import sys

import numpy as np
import pytest
from kernels import whole
from test_laws import LANES, call, force, muscle_rows

from taichi_sim import runtime
from taichi_sim.lanes.vectors import stack
from taichi_sim.muscles import elastic, laws
from taichi_sim.runtime import ti
from taichi_sim.types import LAW_DEGROOTE

TOLERANCE = 1e-6  # of derivatives

# A row of inputs, then the muscle's constants.
LENGTH, VELOCITY, STRAIN, ACTIVATION, STEP, DELTA, PULL, STRAIN_BAR, PEAK, CONSTANTS = range(10)
# A row of results.
RATE, FORCE, KV, NEXT, SUM, ADJOINT = range(6)


@functools.cache
def kernel():
    """From rows to rate, force, kv, eps+, pull (force + kv delta) + eps_bar eps+, and the latter's derivatives."""
    array = ti.types.ndarray(dtype=ti.types.vector(LANES, runtime.get().real), ndim=2)

    @whole
    @ti.kernel
    def step(_law: ti.i32, x: array, out: array):
        for e in range(x.shape[0]):
            c = stack([x[e, CONSTANTS + i] for i in range(laws.NUM_CONSTANTS)])
            length, v, eps, a = x[e, LENGTH], x[e, VELOCITY], x[e, STRAIN], x[e, ACTIVATION]
            h, peak = x[e, STEP], x[e, PEAK]
            r, f, kv = elastic.solve(c, peak, 1e-9, length, v, eps, a, h, a * 0.0)
            after = elastic.stretched(c, eps, v, r, h)
            out[e, RATE], out[e, FORCE], out[e, KV], out[e, NEXT] = r, f, kv, after
            out[e, SUM] = x[e, PULL] * (f + kv * x[e, DELTA]) + x[e, STRAIN_BAR] * after
            bars = elastic.adjoint(c, peak, length, v, eps, a, h, r, x[e, DELTA], x[e, PULL], x[e, STRAIN_BAR])
            for k in ti.static(range(7)):
                out[e, ADJOINT + k] = bars[k]

    return step


def step(rows):
    return call(kernel(), 0, rows, ADJOINT + 7)


def constant(rows, index):
    return rows[:, CONSTANTS + index]


def unit_rows(rng, count: int, x=(0.3, 1.7), strain=(0.0, 0.06), w=(-0.8, 0.8), peak=(0.03, 0.1)) -> np.ndarray:
    """Random units: fibres of extent x, tendons of that strain, velocities w in fibres' largest."""
    c = muscle_rows(rng, count)[:, 4:]
    c[:, laws.SLACK] = c[:, laws.OPTIMAL] * rng.uniform(0.2, 8.0, count)
    c[:, laws.DAMPING] = rng.uniform(0.01, 0.1, count)
    rows = np.zeros((count, CONSTANTS + laws.NUM_CONSTANTS))
    rows[:, CONSTANTS:] = c
    lopt, slack, vmax = c[:, laws.OPTIMAL], c[:, laws.SLACK], c[:, laws.VMAX]
    rows[:, STRAIN], rows[:, PEAK] = rng.uniform(*strain, count), rng.uniform(*peak, count)
    rows[:, LENGTH] = slack * (1 + rows[:, STRAIN]) + lopt * rng.uniform(*x, count)
    rows[:, VELOCITY], rows[:, DELTA] = (
        lopt * vmax * y for y in (rng.uniform(*w, count), 0.1 * rng.normal(size=count))
    )
    rows[:, ACTIVATION] = rng.uniform(0.02, 1.0, count)
    rows[:, STEP] = rng.choice([1e-4, 1e-3, 5e-3], count)
    rows[:, PULL], rows[:, STRAIN_BAR] = rng.normal(size=count), rng.normal(size=count) * c[:, laws.FORCE]
    return rows


BRANCHES = {
    "compliant": {"peak": (0.08, 0.12)},
    "usual": {},
    "stiff": {"peak": (1e-3, 2e-3), "strain": (0.0, 1.5e-3)},
    "slack": {"strain": (-0.02, -1e-4)},
    "fibre at its guard": {"x": (-0.1, 0.19), "strain": (-0.01, 0.01)},
    "overstretched": {"strain": (0.12, 0.2)},
    "fast": {"w": (-3.0, 3.0)},
}


@pytest.mark.parametrize("branch", BRANCHES)
def test_derivatives(branch):
    rows = unit_rows(np.random.default_rng(0), 300, **BRANCHES[branch])
    out = step(rows)
    lopt, slack, vmax, f0 = (constant(rows, i) for i in (laws.OPTIMAL, laws.SLACK, laws.VMAX, laws.FORCE))
    # a length's own scale is what stretches the tendon or the fibre as much as matters
    short = np.minimum(lopt, slack * rows[:, PEAK])
    columns = [LENGTH, VELOCITY, STRAIN, ACTIVATION, *(CONSTANTS + i for i in (laws.FORCE, laws.OPTIMAL, laws.SLACK))]
    units = [short, lopt * vmax, np.minimum(rows[:, PEAK], lopt / slack), 0.1 + 0 * lopt, f0, short, short]
    for column, mine, unit in zip(columns, out[:, ADJOINT:].T, units, strict=True):
        slopes = []
        for size in (1e-3, 5e-4):
            offset = size * unit
            sums = []
            for k in (1, 2):
                ends = []
                for sign in (1, -1):
                    moved = rows.copy()
                    moved[:, column] += sign * k * offset
                    ends.append(step(moved)[:, SUM])
                sums.append(ends[0] - ends[1])
            slopes.append((8 * sums[0] - sums[1]) / (12 * offset))
        scale = np.abs(slopes[1]) + np.abs(slopes[1] * unit).mean() / unit
        # across a seam the two steps disagree
        sure = np.abs(slopes[0] - slopes[1]) < 0.2 * TOLERANCE * scale
        assert sure.mean() > 0.85, (column, sure.mean())
        error = np.where(sure, np.abs(mine - slopes[1]) / scale, 0.0)
        assert error.max() < TOLERANCE, (column, error.max(), rows[error.argmax()].tolist())


def pulled(rows, out) -> np.ndarray:
    """By how much the fibre at the end of the step pulls less than the tendon, in peak forces."""
    lopt, slack, f0 = (constant(rows, i) for i in (laws.OPTIMAL, laws.SLACK, laws.FORCE))
    extent = (rows[:, LENGTH] - slack * (1 + rows[:, STRAIN])) / lopt + rows[:, STEP] * out[:, RATE]
    fibre = np.zeros((len(rows), 4 + laws.NUM_CONSTANTS))
    fibre[:, 0], fibre[:, 1] = slack + lopt * extent, lopt * out[:, RATE]
    fibre[:, 2], fibre[:, 4:] = rows[:, ACTIVATION], rows[:, CONSTANTS:]
    return (force(LAW_DEGROOTE, fibre)[:, 0] - out[:, FORCE]) / f0


@pytest.mark.parametrize("branch", BRANCHES)
def test_fibre_and_tendon_pull_alike(branch):
    rows = unit_rows(np.random.default_rng(1), 2000, **BRANCHES[branch])
    rows[:, STEP] = np.random.default_rng(2).choice([0.0, 1e-4, 1e-3, 1e-2], len(rows))
    np.testing.assert_allclose(pulled(rows, step(rows)), 0.0, atol=1e-9)


def test_no_state_is_too_far():
    """Whatever the state, the search ends in a root, or at worst in numbers."""
    rng = np.random.default_rng(3)
    rows = unit_rows(rng, 4000, x=(-3.0, 6.0), strain=(-2.0, 2.0), w=(-100.0, 100.0), peak=(1e-4, 1.0))
    rows[:, ACTIVATION] = rng.choice([-1.0, 0.0, 1e-3, 1.0, 3.0], len(rows))
    rows[:, STEP] = rng.choice([0.0, 1e-4, 1e-2, 1.0], len(rows))
    out = step(rows)
    assert np.isfinite(out).all()
    assert (out[:, KV] <= 0).all()
    # forces may be thousands of peak forces here: the fibre's damping at such velocities
    wrong = np.abs(pulled(rows, out)) / (1 + np.abs(out[:, FORCE]) / constant(rows, laws.FORCE))
    assert (wrong < 1e-6)[rows[:, ACTIVATION] >= 0].mean() > 0.999


def test_tendon():
    """Taut: De Groote et al., eq. 2; slack: it never pushes by more than a hundredth; no jump in value and slope."""
    rows = unit_rows(np.random.default_rng(4), 2000, strain=(-0.1, 0.3))
    rows[:, STEP] = 0.0
    pull = -step(rows)[:, FORCE] / constant(rows, laws.FORCE)
    strain, peak = rows[:, STRAIN], rows[:, PEAK]
    x = np.log(6) * strain / peak
    usual = (x >= 0) & (x <= 4)
    np.testing.assert_allclose(pull[usual], 0.2 * (np.exp(x[usual]) - 1), rtol=1e-12)
    assert (pull[x < 0] < 0).all() and (pull[x < 0] > -0.01 - 1e-12).all()
    assert (x > 4).sum() > 100 and (pull[x > 4] > 0.2 * (np.exp(4) - 1)).all()
    for seam in (0.0, 4.0):
        near = np.repeat(rows[:40], 2, axis=0)
        near[:, STRAIN] = (seam + np.tile([-1e-7, 1e-7], 40)) * near[:, PEAK] / np.log(6)
        ends = -step(near)[:, FORCE] / constant(near, laws.FORCE)
        np.testing.assert_allclose(ends[1::2] - ends[::2], 2e-7 * 0.2 * np.exp(seam), rtol=1e-5)


SINGLE_PRECISION = """
import sys
import numpy as np
import taichi_sim as ts

ts.init(device="cpu", precision="f32")
sys.path[:0] = sys.argv[1].split(":")
import test_elastic

wide = {"x": (-1, 3), "strain": (-0.05, 0.1), "w": (-3, 3), "peak": (5e-3, 0.2)}
rows = test_elastic.unit_rows(np.random.default_rng(5), 2000, **wide)
out = test_elastic.step(rows)
assert np.isfinite(out).all()
# the tendon's length, to single precision, tells its force to this share of the peak force
sure = 3e-7 * 8 / rows[:, test_elastic.PEAK]
wrong = np.abs(test_elastic.pulled(rows, out)) / (1 + np.abs(out[:, 1]) / test_elastic.constant(rows, 0))
assert (wrong < 0.01 + sure).all(), wrong.max()
"""


def test_single_precision():
    command = [sys.executable, "-c", SINGLE_PRECISION, ":".join(sys.path)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
