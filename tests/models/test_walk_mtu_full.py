"""The whole body that walks: its image, what of it is upright, its muscles."""

from __future__ import annotations

import math

import mujoco
import numpy as np
import pytest
import torch
from walkers import SOURCE

from shac import models
from shac.mirror import Exchange
from taichi_sim.types import State

F64 = torch.float64


@pytest.fixture(scope="module")
def task():
    return models.load_task("walk_mtu_full", {"reference": None, "elastic": False})


def state_of(m: mujoco.MjModel, qpos: np.ndarray) -> State:
    none = torch.zeros(1, m.nv, dtype=F64), torch.zeros(1, m.na, dtype=F64)
    return State(torch.tensor(qpos, dtype=F64)[None], *none)


def test_muscles_of_the_mirrored_posture_are_as_long_as_the_other_sides(task):
    m, rng = task.asset, np.random.default_rng(0)
    data, qpos = mujoco.MjData(m), m.qpos0.copy()
    qpos[:2] = 0
    for joint in range(1, m.njnt):
        place = m.jnt_qposadr[joint]
        if m.jnt_type[joint] == mujoco.mjtJoint.mjJNT_BALL:
            qpos[place : place + 4] = [1, *0.2 * rng.normal(size=3)]
            qpos[place : place + 4] /= np.linalg.norm(qpos[place : place + 4])
        elif m.jnt_limited[joint]:
            qpos[place] = rng.uniform(*m.jnt_range[joint])
    rule = task.mirror()
    action = torch.zeros(1, task.num_actions, dtype=F64)
    seen = task.observe(state_of(m, qpos), action)
    (image,) = Exchange(rule.obs_index, rule.obs_signs).double()(seen).numpy()
    other = np.concatenate([qpos[:2], image[:5], image[11 : 11 + m.nq - 7]])
    lengths = []
    for pose in (qpos, other):
        data.qpos[:] = pose
        mujoco.mj_kinematics(m, data)
        mujoco.mj_tendon(m, data)
        lengths.append(data.ten_length[m.actuator_trnid[:, 0]].copy())
    np.testing.assert_allclose(lengths[1][list(rule.action_index)], lengths[0], rtol=1e-12)
    assert np.abs(lengths[1] - lengths[0]).max() > 0.01


def test_pelvis_and_head_are_to_be_upright(task):
    m = task.asset
    qpos = m.qpos0.copy()
    # the pelvis leans by 0.3 rad, the trunk bends back by 0.1, the head by 0.4
    for name, angle in (("root", 0.3), ("Spine", -0.1), ("Head", -0.4)):
        place = m.joint(name).qposadr[0] + (3 if name == "root" else 0)
        qpos[place : place + 4] = math.cos(angle / 2), 0, math.sin(angle / 2), 0
    state = state_of(m, qpos)
    action = torch.zeros(1, task.num_actions, dtype=F64)
    ups = task.ups(state, task.observe(state, action))
    torch.testing.assert_close(ups, torch.tensor([[math.cos(0.3), math.cos(0.2)]], dtype=F64))
    assert task.observe(state, action).shape == (1, task.num_obs)


def test_legs_have_the_muscles_of_walk_mtu_and_the_rest_the_sources(task):
    full, legs = task.asset, models.load_task("walk_mtu", {"reference": None, "elastic": False}).asset
    bare = models.load_task("walk_mtu_full", SOURCE).asset
    assert full.body_mass.sum() == pytest.approx(legs.body_mass.sum(), rel=1e-6)
    ours = {legs.actuator(u).name for u in range(legs.nu)}
    assert len(ours) == 158 and full.nu == 284
    for unit in range(full.nu):
        name = full.actuator(unit).name
        if name in ours:
            assert full.actuator(name).gainprm[2] == pytest.approx(legs.actuator(name).gainprm[2], rel=1e-6)
            # a psoas begins on the pelvis there, and on the spine here
            if "Psoas" not in name:
                np.testing.assert_allclose(full.actuator(name).lengthrange, legs.actuator(name).lengthrange, rtol=1e-6)
        else:
            assert full.actuator(name).gainprm[2] == bare.actuator(name).gainprm[2] == full.actuator(name).user[0]
    for name in ("contact_ke", "contact_kd", "contact_kf"):
        assert full.numeric(name).data == pytest.approx(legs.numeric(name).data, rel=1e-6)
