"""spatial.exp, log, tanh, sin_cos and quat_log beside NumPy's functions, in both precisions."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from kernels import whole
from processes import run

from taichi_sim import runtime, spatial
from taichi_sim.runtime import ti


def errors() -> dict[str, float]:
    """The largest error of each function, in roundings of what it is relative to, in the process's precision."""
    settings = runtime.get()
    lanes, dtype = settings.lanes(8), settings.numpy
    array = ti.types.ndarray(dtype=ti.types.vector(lanes, settings.real), ndim=2)

    @whole
    @ti.kernel
    def evaluate(x: array, out: array):
        for e in range(x.shape[0]):
            out[e, 0] = spatial.exp(x[e, 0])
            out[e, 1] = spatial.log(x[e, 1])
            out[e, 2] = spatial.tanh(x[e, 0])
            out[e, 3], out[e, 4] = spatial.sin_cos(x[e, 0])
            turn = spatial.quat_log(spatial.stack([x[e, 2 + k] for k in ti.static(range(4))]))
            for k in ti.static(range(3)):
                out[e, 5 + k] = turn[k, :]

    rng = np.random.default_rng(0)
    reach = 85 if dtype == np.float32 else 700
    x = np.stack([rng.uniform(-reach, reach, (1000, lanes)), np.exp(rng.uniform(-reach, reach, (1000, lanes)))], 1)
    x[:500, 0] = rng.normal(size=(500, lanes))
    x[:500, 1] = 1 + 0.3 * rng.uniform(-1, 1, (500, lanes))
    x[0] = [[0.0], [1.0]]
    # rotations by up to pi, and by little
    turns = rng.normal(size=(1000, 3, lanes))
    turns *= rng.uniform(0, np.pi, (1000, 1, lanes)) / np.linalg.norm(turns, axis=1, keepdims=True)
    turns[:300] *= 10 ** rng.uniform(-12, 0, (300, 1, lanes))
    half = np.linalg.norm(turns, axis=1, keepdims=True) / 2
    sign = rng.choice([-1, 1], (1000, 1, lanes))
    x = np.concatenate([x, sign * np.cos(half), sign * np.sin(half) * turns / (2 * half)], 1).astype(dtype)
    out = np.empty((1000, 8, lanes), dtype)
    with runtime.exclusive(settings):
        evaluate(x, out)
    x, out = x.astype(np.longdouble), out.astype(np.longdouble)
    arguments, powers = x[:, 0], x[:, 1]
    rounding = np.finfo(dtype).eps
    # what a rounding of the argument does to the result
    felt = 1 + np.abs(arguments)
    seen = {
        "exp": (out[:, 0] / np.exp(arguments) - 1) / felt,
        "log": (out[:, 1] - np.log(powers)) / np.maximum(np.abs(np.log(powers)), 1e-3),
        "tanh": out[:, 2] - np.tanh(arguments),
        "sin": (out[:, 3] - np.sin(arguments)) / felt,
        "cos": (out[:, 4] - np.cos(arguments)) / felt,
        "quat_log": (out[:, 5:] - turns) / np.pi,
        "quat_log of small ones": (out[:300, 5:] - turns[:300]) / (2 * half[:300]),
    }
    return {name: float(np.abs(error).max() / rounding) for name, error in seen.items()}


@pytest.mark.parametrize("precision", ["f64", "f32"])
def test_they_are_right_to_roundings(precision):
    """A wrong term of a series shows as thousands of them."""
    if precision == runtime.get().precision:
        seen = errors()
    else:
        folder = str(Path(__file__).parent)
        program = f"""
            import json, sys
            sys.path.insert(0, {folder!r})
            ts.init(precision={precision!r})
            import test_elementary
            print(json.dumps(test_elementary.errors()))
        """
        seen = json.loads(run(program, PYTHONPATH=":".join(sys.path)).stdout)
    assert max(seen.values()) < 4, seen


@pytest.mark.parametrize("x", [1e4, -1e4])
def test_beyond_what_a_number_holds_exp_is_finite(x):
    settings = runtime.get()
    array = ti.types.ndarray(dtype=ti.types.vector(4, settings.real), ndim=1)

    @whole
    @ti.kernel
    def evaluate(x: array):
        for e in range(x.shape[0]):
            x[e] = spatial.exp(x[e])

    values = np.full((1, 4), x)
    evaluate(values)
    assert np.isfinite(values).all() and (values > 0).all()
