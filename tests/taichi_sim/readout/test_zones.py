"""What sites enclose, against MuJoCo's rays."""

import mujoco
import numpy as np
import pytest
import torch
from snippets import BEFORE_4

from taichi_sim.readout import zones
from taichi_sim.types import GEOM_BOX, GEOM_CAPSULE, GEOM_CYLINDER, GEOM_ELLIPSOID, GEOM_SPHERE

SIZES = {
    GEOM_SPHERE: [0.7, 0, 0],
    GEOM_ELLIPSOID: [0.5, 0.9, 0.7],
    GEOM_BOX: [0.5, 0.8, 0.3],
    GEOM_CYLINDER: [0.5, 0.8, 0],
    GEOM_CAPSULE: [0.5, 0.4, 0],
}


def distance(kind: int, size, x, ray) -> float:
    more = () if BEFORE_4 else (None,)
    return mujoco.mju_rayGeom(np.zeros(3), np.eye(3).ravel(), np.array(size, float), x, ray, kind, *more)


@pytest.mark.parametrize("kind", SIZES)
def test_rays_and_points(kind):
    rng = np.random.default_rng(kind)
    x, ray = rng.normal(size=(2, 400, 3))
    # along the axes, too: what is round about one has no side there
    ray[:90] = np.repeat(np.concatenate([np.eye(3), -np.eye(3)]), 15, axis=0)
    forth, back = ([distance(kind, SIZES[kind], p, side * r) >= 0 for p, r in zip(x, ray)] for side in (1, -1))
    found = zones.met(kind, np.array(SIZES[kind]), torch.tensor(x), torch.tensor(ray)).tolist()
    assert found == forth and 40 < sum(forth) < 300
    # of what is convex
    within = [a and b for a, b in zip(forth, back)]
    assert zones.holds(kind, np.array(SIZES[kind]), torch.tensor(x)).tolist() == within and sum(within) > 15
