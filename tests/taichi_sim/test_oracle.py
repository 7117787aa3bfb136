"""The engine against MuJoCo, double precision: kinematics, mass matrix, forces and accelerations."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch
import trees
import zoo
from batch import mujoco_data, random_batch
from hypothesis import HealthCheck, given, settings

import taichi_sim as ts

TOLERANCE = 1e-9
NAMES = [
    "xpos",
    "xipos",
    "site_xpos",
    "qfrc_bias",
    "qfrc_passive",
    "qfrc_actuator",
    "qacc",
    "actuator_length",
    "actuator_velocity",
    "actuator_force",
]


def assert_same(name, ours, theirs):
    error = np.abs(ours - theirs).max(initial=0.0)
    scale = np.abs(theirs).max(initial=0.0)
    assert error <= TOLERANCE * max(scale, 1e-3), f"{name}: error {error:.3g} of {scale:.3g}"


def motions(mj_model, data) -> tuple[np.ndarray, np.ndarray]:
    """Velocities and accelerations of the bodies' frames, angular and linear, in world axes (nbody, 6) each."""
    velocity, acceleration = np.zeros((2, mj_model.nbody, 6))
    mujoco.mj_rnePostConstraint(mj_model, data)
    for body in range(mj_model.nbody):
        mujoco.mj_objectVelocity(mj_model, data, mujoco.mjtObj.mjOBJ_XBODY, body, velocity[body], 0)
        mujoco.mj_objectAcceleration(mj_model, data, mujoco.mjtObj.mjOBJ_XBODY, body, acceleration[body], 0)
    if not mj_model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_GRAVITY:
        # MuJoCo's are an accelerometer's
        acceleration[:, 3:] += mj_model.opt.gravity
    # in releases before 4 what is fixed to the world feels no gravity
    acceleration[mj_model.body_weldid == 0] = 0
    return velocity, acceleration


def assert_same_as_mujoco(mj_model, num_worlds, seed):
    # limits are penalties here and constraints there: compared without
    mj_model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_LIMIT)
    model = ts.load(mj_model)
    state, ctrl = random_batch(model, num_worlds, seed)
    data = ts.Simulator(model, num_worlds).forward(state, ctrl)
    for world in range(num_worlds):
        ref = mujoco_data(mj_model, state, ctrl, world)
        for name in NAMES:
            assert_same(name, getattr(data, name)[world].numpy(), getattr(ref, name))
        # q and -q are the same rotation
        quat = data.xquat[world].numpy()
        assert_same("xquat", quat * np.sign((quat * ref.xquat).sum(-1, keepdims=True)), ref.xquat)
        for k in np.flatnonzero(model.sensor_type >= 0):
            if not model.names["sensor"][k]:
                continue
            theirs, kind = ref.sensor(k).data, ts.types.SENSORS[model.sensor_type[k]]
            ours = data.sensor(model.names["sensor"][k])[world].numpy()
            assert_same(f"{kind} {k}", ours * np.sign(ours @ theirs) if kind.endswith("quat") else ours, theirs)
        velocity, acceleration = motions(mj_model, ref)
        assert_same("xangvel, xlinvel", torch.cat([data.xangvel, data.xlinvel], 2)[world].numpy(), velocity)
        assert_same("xangacc, xlinacc", torch.cat([data.xangacc, data.xlinacc], 2)[world].numpy(), acceleration)
        for i in range(model.nv):
            column, unit = np.zeros(model.nv), np.eye(model.nv)[i]
            mujoco.mj_mulM(mj_model, ref, column, unit)
            assert_same("qM", data.qM[world, :, i].numpy(), column)


@pytest.mark.parametrize("seed", [0, 1])
def test_forest(seed):
    """Many random trees in one world, all joint and actuator types at once."""
    text = trees.random_tree(np.random.default_rng(seed), num_bodies=40, num_actuators=30, limits=False)
    assert_same_as_mujoco(mujoco.MjModel.from_xml_string(text), 8, seed)


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(trees.trees(limits=False))
def test_small_trees(text):
    assert_same_as_mujoco(mujoco.MjModel.from_xml_string(text), 1, 0)


def test_files_of_other_projects():
    """Every file that the engine takes (`test_mjcf` says which it refuses), side by side in one world."""
    world = mujoco.MjSpec()
    for i, (name, path) in enumerate(zoo.files().items()):
        spec = zoo.smooth_spec(path)
        world.option.disableflags |= spec.option.disableflags
        try:
            ts.load(spec)
        except ts.UnsupportedModelError:
            continue
        world.attach(zoo.smooth_spec(path), frame=world.worldbody.add_frame(pos=[0, 0, i]), prefix=f"{name}:")
    mj_model = world.compile()
    assert mj_model.nbody > (150 if "dm_control" in zoo.FOLDERS else 100)
    assert_same_as_mujoco(mj_model, 2, 0)


def test_results_do_not_depend_on_what_was_computed_before():
    """Scratch memory carries nothing over: a state gives the same digits first, last and in another world."""
    text = trees.random_tree(np.random.default_rng(5), num_bodies=5, num_actuators=3)
    model = ts.load(mujoco.MjModel.from_xml_string(text))
    state, ctrl = random_batch(model, 6, 1)
    sim = ts.Simulator(model, 6)
    first = sim.step(state, ctrl)
    other, other_ctrl = random_batch(model, 6, 2)
    sim.step(other, other_ctrl)
    sim.forward(other, other_ctrl)
    again = sim.step(state, ctrl)
    turned = sim.step(ts.State(*(x.roll(1, 0) for x in state)), ctrl.roll(1, 0))
    for a, b, c in zip(first, again, turned, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a.roll(1, 0), c)
