"""Elastic tendons alone: OpenSim's muscle, the step's root, its derivatives; in a body: test_elastic_step.py."""

import functools

import numpy as np
import pytest
from test_laws import LANES, call, muscle_rows

from taichi_sim import runtime
from taichi_sim.muscles import elastic, laws
from taichi_sim.runtime import ti

TOLERANCE = 1e-6  # of derivatives

# A row of inputs, then the muscle's constants.
LENGTH, VELOCITY, STRAIN, ACTIVATION, STEP, DELTA, PULL, STRAIN_BAR, PEAK, CONSTANTS = range(10)
# A row of results.
RATE, FORCE, KV, NEXT, SUM, ADJOINT = range(6)


@functools.cache
def kernel():
    """From rows to rate, force, kv, eps+, pull (force + kv delta) + eps_bar eps+, and the latter's derivatives."""
    array = ti.types.ndarray(dtype=ti.types.vector(LANES, runtime.get().real), ndim=2)

    @ti.kernel
    def step(_law: ti.i32, x: array, out: array):
        for e in range(x.shape[0]):
            c = ti.Matrix.rows([x[e, CONSTANTS + i] for i in range(laws.NUM_CONSTANTS)])
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
