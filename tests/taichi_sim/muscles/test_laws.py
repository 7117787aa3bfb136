"""The muscle laws against MuJoCo and SymPy, their activation dynamics, and the derivatives of both."""

import functools
import subprocess
import sys

import mujoco
import numpy as np
import pytest
import sympy
from kernels import whole
from sympy.physics import biomechanics

from taichi_sim import runtime
from taichi_sim.lanes.vectors import stack
from taichi_sim.muscles import laws
from taichi_sim.runtime import ti
from taichi_sim.types import LAW_DEGROOTE, LAW_MUJOCO

EXACT = 1e-12
TOLERANCE = 1e-6  # of derivatives
LANES = 4
LAWS = frozenset({LAW_MUJOCO, LAW_DEGROOTE})

# A row of inputs: length, velocity, activation, delta, then the muscle's constants.
LENGTH, VELOCITY, ACTIVATION, DELTA, CONSTANTS = range(5)

# A row of the activation dynamics' inputs.
ACT, CTRL, STEP, TAU_ACT, TAU_DEACT, SMOOTH = range(6)


@functools.cache
def kernels():
    """From rows to f, df/dv, and the derivatives by length, velocity, activation, F0, lopt, lslack; and to act_dot,
    the next activation, and the derivatives of both by act, ctrl and the time constants."""
    array = ti.types.ndarray(dtype=ti.types.vector(LANES, runtime.get().real), ndim=2)

    @whole
    @ti.kernel
    def force(law: ti.i32, x: array, out: array):
        for e in range(x.shape[0]):
            c = stack([x[e, CONSTANTS + i] for i in range(laws.NUM_CONSTANTS)])
            length, v, a, delta = x[e, LENGTH], x[e, VELOCITY], x[e, ACTIVATION], x[e, DELTA]
            t = laws.tangent(LAWS, law, c, length, v, a)
            out[e, 0], out[e, 1] = laws.force(c, t)
            out[e, 2], out[e, 3], out[e, 4] = laws.adjoint(c, t, delta)
            out[e, 5], out[e, 6], out[e, 7] = laws.adjoint_constants(c, t, length, v, delta)

    @whole
    @ti.kernel
    def activation(law: ti.i32, x: array, out: array):
        for e in range(x.shape[0]):
            a, ctrl, h = x[e, ACT], x[e, CTRL], x[e, STEP]
            ta, td, smooth = x[e, TAU_ACT], x[e, TAU_DEACT], x[e, SMOOTH]
            out[e, 0], out[e, 2], out[e, 3], out[e, 4], out[e, 5] = laws.act_dot(LAWS, law, a, ctrl, ta, td, smooth)
            y, by_a, by_ctrl, by_ta, by_td = laws.advance(LAWS, law, a, ctrl, h, ta, td, smooth)
            out[e, 1], out[e, 6], out[e, 7], out[e, 8], out[e, 9] = y, by_a, by_ctrl, by_ta, by_td

    return force, activation


def call(kernel, law: int, rows: np.ndarray, size: int) -> np.ndarray:
    """Runs a kernel over the rows (N, n) -> (N, size)."""
    dtype = {"f64": np.float64, "f32": np.float32}[runtime.get().precision]
    padded = np.concatenate([rows, np.repeat(rows[-1:], -len(rows) % LANES, axis=0)])
    blocks = np.ascontiguousarray(padded.reshape(-1, LANES, rows.shape[1]).transpose(0, 2, 1), dtype=dtype)
    out = np.full((len(blocks), size, LANES), np.nan, dtype)
    kernel(law, blocks, out)
    return out.transpose(0, 2, 1).reshape(-1, size)[: len(rows)]


def force(law, rows):
    return call(kernels()[0], law, rows, 8)


def activation(law, rows):
    return call(kernels()[1], law, rows, 10)


def muscle_rows(rng, count: int, z=(0.0, 2.2), w=(-1.5, 1.8)) -> np.ndarray:
    """Random muscles at lengths z and velocities w in units of their own, their constants unlike MuJoCo's defaults."""
    columns = {
        laws.FORCE: (50.0, 5000.0),
        laws.OPTIMAL: (0.02, 0.4),
        laws.SLACK: (0.0, 0.4),
        laws.LMIN: (0.3, 0.6),
        laws.LMAX: (1.5, 1.9),
        laws.VMAX: (1.0, 12.0),
        laws.FPMAX: (0.5, 2.0),
        laws.FVMAX: (1.1, 1.6),
        laws.PASSIVE_LMAX: (1.5, 1.9),
        laws.STRETCH: (0.8, 1.25),
        laws.SHIFT: (-0.1, 0.1),
        laws.SINE: (0.0, 0.48),
        laws.DAMPING: (0.0, 0.1),
    }
    c = np.stack([rng.uniform(*columns[i], count) for i in range(laws.NUM_CONSTANTS)], axis=1)
    lopt, lslack, vmax = c[:, laws.OPTIMAL], c[:, laws.SLACK], c[:, laws.VMAX]
    rows = np.zeros((count, CONSTANTS + laws.NUM_CONSTANTS))
    rows[:, LENGTH] = lslack + lopt * rng.uniform(*z, count)
    rows[:, VELOCITY], rows[:, DELTA] = lopt * vmax * rng.uniform(*w, count), lopt * vmax * rng.normal(size=count)
    rows[:, ACTIVATION], rows[:, CONSTANTS:] = rng.uniform(0.0, 1.0, count), c
    return rows


def activation_rows(rng, count: int) -> np.ndarray:
    rows = np.stack(
        [
            rng.uniform(0.0, 1.0, count),
            rng.uniform(-0.2, 1.2, count),
            rng.uniform(0.0, 0.05, count),
            rng.uniform(0.005, 0.02, count),
            rng.uniform(0.03, 0.08, count),
            rng.choice([0.0, 0.1, 1.0], count),
        ],
        axis=1,
    )
    rows[::10, CTRL] = rows[::10, ACT]
    return rows


def constant(rows, index):
    return rows[:, CONSTANTS + index]


# The laws


def test_mujoco_law():
    rows = muscle_rows(np.random.default_rng(0), 3000)
    regimes = set()
    for row, f in zip(rows, force(LAW_MUJOCO, rows)[:, 0]):
        f0, lopt, lslack, lmin, lmax, vmax, fpmax, fvmax, passive_lmax, stretch, shift, _, _ = row[CONSTANTS:]
        length, v, a = row[:3]
        # MuJoCo's way to say it: the lengths at r0 and r1 optimal fibre lengths
        r = np.array([0.7, 1.1])
        prm = np.array([*r, f0, 200.0, lmin, lmax, vmax, fpmax, fvmax, 0.0])
        gain = mujoco.mju_muscleGain(length, v, lslack + r * lopt, 1.0, prm[:9])
        # the bias has constants of its own
        passive_lopt = lopt / stretch
        prm[5] = passive_lmax
        bias = mujoco.mju_muscleBias(length, lslack - shift * passive_lopt + r * passive_lopt, 1.0, prm[:9])
        np.testing.assert_allclose(f, gain * a + bias, atol=EXACT * f0, rtol=EXACT, err_msg=str(row))
        x, w = (length - lslack) / lopt, v / (lopt * vmax)
        middle = [lmin, (lmin + 1) / 2, 1, (1 + lmax) / 2, lmax]
        regimes.add((int(np.searchsorted(middle, x)), int(np.searchsorted([-1, 0, fvmax - 1], w))))
    assert len(regimes) == 6 * 4


# OpenSim's constants: three bumps of four, and the velocity's four
BUMPS = """
    .8150671134243542 1.055033428970575 .162384573599574 .063303448465465
    .433004984392647 .716775413397760 -.029947116970696 .200356847296188
    .1 1 .353553390593274 0
"""
VELOCITIES = "-.3211346127989808 -8.149 -.374 .8825327733249912"


@functools.cache
def sympy_law():
    """Force over F0 of De Groote's muscle on a rigid tendon, by z, v / (lopt vmax), activation, pennation's sine,
    damping, and of the passive element its lengths by those of the fibre."""
    z, w0, a, sine, beta, stretch, shift = symbols = sympy.symbols("z w0 a sine beta stretch shift")
    bumps, velocities = ([sympy.Float(x, 17) for x in text.split()] for text in (BUMPS, VELOCITIES))
    x = sympy.sqrt(z**2 + sine**2)
    w = w0 * z / x
    fl = biomechanics.FiberForceLengthActiveDeGroote2016(x, *bumps).doit()
    fv = biomechanics.FiberForceVelocityDeGroote2016(w, *velocities).doit()
    # SymPy's passive force is the paper's, which is zero at x = 1; OpenSim's is zero at x = 0.2
    e0, kpe = sympy.Rational(3, 5), 4
    zero = sympy.exp(kpe * (sympy.Rational(1, 5) - 1) / e0)
    fp = biomechanics.FiberForceLengthPassiveDeGroote2016(stretch * x + shift, e0, kpe).doit()
    fp = (fp * (sympy.exp(kpe) - 1) + 1 - zero) / (sympy.exp(kpe) - zero)
    return sympy.lambdify(symbols, -(a * fl * fv + fp + beta * w) * z / x, "numpy")


def test_degroote_law():
    # within the fibre's range, pennation included: x below 1.8 and |w| below 1
    rows = muscle_rows(np.random.default_rng(1), 2000, z=(0.2, 1.7), w=(-1.0, 1.0))
    f0, lopt, lslack, vmax = (constant(rows, i) for i in (laws.FORCE, laws.OPTIMAL, laws.SLACK, laws.VMAX))
    z, w0 = (rows[:, LENGTH] - lslack) / lopt, rows[:, VELOCITY] / (lopt * vmax)
    damping, sine = constant(rows, laws.DAMPING), constant(rows, laws.SINE)
    stretch, shift = constant(rows, laws.STRETCH), constant(rows, laws.SHIFT)
    expected = sympy_law()(z, w0, rows[:, ACTIVATION], sine, damping, stretch, shift)
    within = stretch * np.hypot(z, sine) + shift < 1.8
    assert 1500 < within.sum() < 2000
    found = force(LAW_DEGROOTE, rows)[:, 0] / f0
    np.testing.assert_allclose(found[within], expected[within], rtol=EXACT, atol=EXACT)


def isometric(z, activation, w=0.0):
    """Pull of De Groote's muscle of F0 = 1, lopt = 0.1, vmax = 10, no pennation and no damping."""
    z, activation, w = np.broadcast_arrays(z, activation, w)
    rows = np.zeros((z.size, CONSTANTS + laws.NUM_CONSTANTS))
    rows[:, LENGTH], rows[:, VELOCITY], rows[:, ACTIVATION] = 0.2 + 0.1 * z.ravel(), w.ravel(), activation.ravel()
    constants = {laws.FORCE: 1.0, laws.OPTIMAL: 0.1, laws.SLACK: 0.2, laws.VMAX: 10.0, laws.STRETCH: 1.0}
    for i, value in constants.items():
        rows[:, CONSTANTS + i] = value
    return -force(LAW_DEGROOTE, rows)[:, 0]


def test_degroote_curves_are_opensims():
    """The normalised curves' corner points that the constants were chosen for."""
    passive = isometric(np.array([0.5, 1.0, 1.5, 1.6]), 0.0)
    np.testing.assert_allclose(passive[[1, 3]], [0.018, 1.0], atol=5e-4)
    active = isometric(np.array([0.5, 1.0, 1.5]), 1.0) - passive[:3]
    np.testing.assert_allclose(active, [0.054, 1.0, 0.226], atol=5e-4)
    # at optimal length, from the fastest shortening to the fastest lengthening
    moving = isometric(1.0, 1.0, np.array([-1.0, 0.0, 1.0])) - passive[1]
    np.testing.assert_allclose(moving, [0.0, 1.0, 1.794], atol=5e-4)


def test_pull():
    """It damps, and never pushes but by its damping and, beyond the fastest shortening, by 1.5 % of F0."""
    rows = muscle_rows(np.random.default_rng(2), 4000, z=(-1.0, 4.0), w=(-5.0, 5.0))
    f0, lopt, vmax = (constant(rows, i) for i in (laws.FORCE, laws.OPTIMAL, laws.VMAX))
    damping = constant(rows, laws.DAMPING) * np.abs(rows[:, VELOCITY]) / (lopt * vmax)
    for law in LAWS:
        f, by_v = force(law, rows)[:, :2].T
        assert (by_v <= 0.0).all()
        push = np.zeros(len(f)) if law == LAW_MUJOCO else 0.015 + damping
        assert (f / f0 <= push).all(), law


@pytest.mark.parametrize("seam", ["z = 0.2", "x = 1.8", "w = 1", "w = -1"])
def test_degroote_goes_on_smoothly(seam):
    name, value = seam.split(" = ")
    rows = np.repeat(muscle_rows(np.random.default_rng(3), 50, z=(0.5, 1.4), w=(-0.5, 0.5)), 2, axis=0)
    lopt, lslack, vmax, sine = (constant(rows, i) for i in (laws.OPTIMAL, laws.SLACK, laws.VMAX, laws.SINE))
    step = np.tile([-1e-8, 1e-8], 50)
    at = float(value) + step
    if name == "w":
        z = (rows[:, LENGTH] - lslack) / lopt
        cosine = z / np.hypot(z, sine)
        rows[:, VELOCITY] = at * lopt * vmax / cosine
    else:
        # of the passive element's own length
        x = (at - constant(rows, laws.SHIFT)) / constant(rows, laws.STRETCH)
        z = at if name == "z" else np.sqrt(x**2 - sine**2)
        rows[:, LENGTH] = lslack + lopt * z
    out = force(LAW_DEGROOTE, rows)
    scale = np.abs(out).max(0)
    np.testing.assert_allclose(out[::2] / scale, out[1::2] / scale, atol=1e-5)


# Activation


def test_activation_is_mujocos():
    rows = activation_rows(np.random.default_rng(4), 1000)
    rows[::7, ACT] += np.random.default_rng(5).normal(size=len(rows[::7]))
    ours = activation(LAW_MUJOCO, rows)[:, 0]
    for row, rate in zip(rows, ours):
        theirs = mujoco.mju_muscleDynamics(row[CTRL], row[ACT], row[[TAU_ACT, TAU_DEACT, SMOOTH]])
        np.testing.assert_allclose(rate, theirs, rtol=EXACT, atol=EXACT, err_msg=str(row))


def test_activation_is_degrootes():
    rows = activation_rows(np.random.default_rng(6), 1000)
    model = biomechanics.FirstOrderActivationDeGroote2016("muscle", *sympy.symbols("ta td"), sympy.Integer(10))
    rate = sympy.lambdify((model.e, model.a, *model.p), model.rhs()[0], "numpy")
    expected = rate(np.clip(rows[:, CTRL], 0, 1), rows[:, ACT], rows[:, TAU_ACT], rows[:, TAU_DEACT])
    np.testing.assert_allclose(activation(LAW_DEGROOTE, rows)[:, 0], expected, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("law", sorted(LAWS))
def test_advance_follows_act_dot(law):
    rows = activation_rows(np.random.default_rng(7), 200)
    rows[:, SMOOTH] = np.where(rows[:, SMOOTH] == 0.0, 0.3, rows[:, SMOOTH])

    def after(count):
        """Activation after 0.02 s in so many steps."""
        x = rows.copy()
        x[:, STEP] = 0.02 / count
        for _ in range(count):
            x[:, ACT] = activation(law, x)[:, 1]
        return x[:, ACT]

    # act_dot's own integral: Runge-Kutta of fourth order
    x, h = rows.copy(), 0.02 / 400
    for _ in range(400):
        slopes = []
        for ahead in (0.0, 0.5, 0.5, 1.0):
            y = x.copy()
            y[:, ACT] += h * ahead * (slopes[-1] if slopes else 0.0)
            slopes.append(activation(law, y)[:, 0])
        x[:, ACT] += h / 6 * (slopes[0] + 2 * slopes[1] + 2 * slopes[2] + slopes[3])
    coarse, fine = (np.abs(after(count) - x[:, ACT]).max() for count in (40, 80))
    assert fine < 5e-3 and 1.8 < coarse / fine < 2.2


@pytest.mark.parametrize("law", sorted(LAWS))
def test_advance_stays_between_activation_and_excitation(law):
    rows = activation_rows(np.random.default_rng(8), 1000)
    rows[:, STEP] = np.random.default_rng(9).choice([0.0, 1e-3, 0.1, 100.0], len(rows))
    e, y = np.clip(rows[:, CTRL], 0, 1), activation(law, rows)[:, 1]
    assert (y >= np.minimum(e, rows[:, ACT]) - EXACT).all() and (y <= np.maximum(e, rows[:, ACT]) + EXACT).all()
    np.testing.assert_allclose(y[rows[:, STEP] == 100.0], e[rows[:, STEP] == 100.0], atol=EXACT)


# Derivatives


def assert_derivatives(value, rows, columns, ours, units, share):
    """That `ours` (N, k) are the derivatives of value(rows) (N,) by the columns, wherever differences tell."""
    for column, mine, unit in zip(columns, ours.T, units):
        expected = []
        for step in (1e-4, 5e-5):
            near, far = (
                value(moved(rows, column, s * unit)) - value(moved(rows, column, -s * unit)) for s in (step, 2 * step)
            )
            expected.append((8 * near - far) / (12 * step * unit))
        scale = np.abs(expected[1]) + np.abs(expected[1]).mean()
        # across a seam of a piecewise law the two steps disagree
        sure = np.abs(expected[0] - expected[1]) < 0.1 * TOLERANCE * scale
        assert sure.mean() > share, (column, sure.mean())
        error = np.where(sure, np.abs(mine - expected[1]) / scale, 0.0)
        assert error.max() < TOLERANCE, (column, rows[error.argmax()].tolist())


def moved(rows, column, step):
    rows = rows.copy()
    rows[:, column] += step
    return rows


@pytest.mark.parametrize("law", sorted(LAWS))
def test_force_derivatives(law):
    rows = muscle_rows(np.random.default_rng(10), 2000, z=(0.1, 2.2), w=(-1.5, 2.5))
    out = force(law, rows)
    lopt, vmax, f0 = (constant(rows, i) for i in (laws.OPTIMAL, laws.VMAX, laws.FORCE))

    def per_force(rows):
        return force(law, rows)[:, 0]

    assert_derivatives(per_force, rows, [VELOCITY], out[:, 1:2], [lopt * vmax], 0.9)

    def ahead(rows):
        f, by_v = force(law, rows)[:, :2].T
        return f + by_v * rows[:, DELTA]

    columns = [LENGTH, VELOCITY, ACTIVATION, CONSTANTS + laws.FORCE, CONSTANTS + laws.OPTIMAL]
    columns.append(CONSTANTS + laws.SLACK)
    units = [lopt, lopt * vmax, np.ones_like(lopt), f0, lopt, lopt]
    assert_derivatives(ahead, rows, columns, out[:, 2:], units, 0.9)


@pytest.mark.parametrize("law", sorted(LAWS))
@pytest.mark.parametrize(("value", "first"), [(0, 2), (1, 6)], ids=["act_dot", "advance"])
def test_activation_derivatives(law, value, first):
    rows = activation_rows(np.random.default_rng(11), 1000)
    rows = rows[np.abs(rows[:, CTRL] - rows[:, ACT]) > 1e-3]
    out = activation(law, rows)
    units = [0.1 + 0.0 * rows[:, 0], 0.1 + 0.0 * rows[:, 0], rows[:, TAU_ACT], rows[:, TAU_DEACT]]
    columns = [ACT, CTRL, TAU_ACT, TAU_DEACT]
    derivatives = out[:, first : first + 4]
    assert_derivatives(lambda x: activation(law, x)[:, value], rows, columns, derivatives, units, 0.9)


# Everywhere


def extreme_rows(rng) -> tuple[np.ndarray, np.ndarray]:
    """Lengths, velocities and activations of any size, on all seams; and the activation dynamics' inputs."""
    rows = muscle_rows(rng, 3000)
    lopt, lslack, vmax = (constant(rows, i) for i in (laws.OPTIMAL, laws.SLACK, laws.VMAX))
    z = rng.choice([-1e6, -3.0, 0.0, 0.15, 0.18, 0.2, 1.0, 1.8, 3.0, 1e6], len(rows))
    w = rng.choice([-1e6, -3.0, -1.0, 0.0, 0.3, 1.0, 3.0, 1e6], len(rows))
    rows[:, LENGTH], rows[:, VELOCITY] = lslack + lopt * z, lopt * vmax * w
    rows[:, ACTIVATION] *= rng.choice([0.0, 1.0, 10.0], len(rows))
    rows[::3, CONSTANTS + laws.SINE] = 0.0
    acts = activation_rows(rng, 1000)
    acts[:, ACT] += rng.choice([-1e3, -0.1, 0.0, 0.1, 1e3], len(acts))
    acts[:, CTRL] *= rng.choice([-1e6, 0.0, 1.0, 1e6], len(acts))
    acts[:, STEP] = rng.choice([0.0, 1e-3, 100.0], len(acts))
    return rows, acts


def assert_finite():
    rows, acts = extreme_rows(np.random.default_rng(12))
    for law in LAWS:
        for out, x in ((force(law, rows), rows), (activation(law, acts), acts)):
            bad = ~np.isfinite(out).all(1)
            assert not bad.any(), (law, x[bad][0].tolist(), out[bad][0].tolist())


def test_finite_everywhere():
    assert_finite()


SINGLE_PRECISION = """
import sys
import taichi_sim as ts

ts.init(device="cpu", precision="f32")
sys.path[:0] = sys.argv[1].split(":")
import test_laws

test_laws.assert_finite()
"""


def test_finite_everywhere_in_single_precision():
    command = [sys.executable, "-c", SINGLE_PRECISION, ":".join(sys.path)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
