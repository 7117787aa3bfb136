"""MuJoCo's impedance d of a constraint by how far it is violated, `solimp`: from dmin to dmax within a width.

Source: MuJoCo's documentation, "Solver parameters: Impedance".
"""

import types

import numpy as np

from taichi_sim.lanes.buffers import Fields
from taichi_sim.runtime import ti
from taichi_sim.spatial import exp, log

# MuJoCo's mjMINIMP, mjMAXIMP and mjMINVAL.
LEAST, MOST, TINY = 0.0001, 0.9999, 1e-15


def table(solimp: np.ndarray, f: Fields) -> types.SimpleNamespace:
    """What `impedance` reads of n constraints' solimp, (n, 5)."""
    low, high = np.clip(solimp[:, :2], LEAST, MOST).T
    flat = (low == high) | (solimp[:, 2] <= TINY)
    low, high = np.where(flat, (low + high) / 2, low), np.where(flat, (low + high) / 2, high)
    width, middle = np.where(flat, 1.0, solimp[:, 2]), np.clip(solimp[:, 3], LEAST, MOST)
    power = np.maximum(solimp[:, 4], 1.0)
    columns = {
        "dmin": low,
        "rise": high - low,
        "per_width": 1 / width,
        "middle": middle,
        "power": power,
        "below": middle ** (1 - power),
        "above": (1 - middle) ** (1 - power),
    }
    return types.SimpleNamespace(**f.table(columns))


@ti.func
def impedance(t: ti.template(), c, violation):
    """d of constraint c of a table at a violation of at least 0, and its slope in it."""
    x = violation * t.per_width[c]
    inside = ti.min(x, 1.0)
    low = inside <= t.middle[c]
    # the argument of the power that counts, at least what has a logarithm
    z = ti.max(ti.select(low, inside, 1.0 - inside), 1e-30)
    power = t.power[c]
    y = ti.select(low, t.below[c], t.above[c]) * exp(power * log(z))
    slope = t.rise[c] * t.per_width[c] * power * y / z
    # met, or beyond the width
    flat = (violation < 1e-15) | (x >= 1.0)
    return t.dmin[c] + t.rise[c] * ti.select(low, y, 1.0 - y), ti.select(flat, violation * 0.0, slope)
