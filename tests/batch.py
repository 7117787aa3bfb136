"""Batches of random states for the engine's tests, and the same state in MuJoCo."""

from __future__ import annotations

import mujoco
import numpy as np
import torch
import trees

import taichi_sim as ts


def random_batch(model: ts.Model, num_worlds: int, seed: int) -> tuple[ts.State, torch.Tensor]:
    """Random states and controls, float64."""
    rng = np.random.default_rng(seed)
    pairs = [trees.random_state(model, rng) for _ in range(num_worlds)]
    qpos, qvel = (torch.tensor(np.array(x)) for x in zip(*pairs, strict=True))
    ctrl = torch.tensor(rng.normal(size=(num_worlds, model.nu)))
    return ts.State(qpos, qvel, torch.zeros(num_worlds, model.na, dtype=torch.float64)), ctrl


def around(mj_model: mujoco.MjModel, num_worlds: int, spread: float, seed: int) -> tuple[ts.State, torch.Tensor]:
    """States that lie around qpos0 and move, with activations and controls from 0 to 1."""
    rng = np.random.default_rng(seed)
    qpos = np.tile(mj_model.qpos0, (num_worlds, 1)) + spread * rng.normal(size=(num_worlds, mj_model.nq))
    for world in range(num_worlds):
        mujoco.mj_normalizeQuat(mj_model, qpos[world])
    qvel, act = rng.normal(size=(num_worlds, mj_model.nv)), rng.random((num_worlds, mj_model.na))
    ctrl = torch.tensor(rng.uniform(0.1, 0.9, size=(num_worlds, mj_model.nu)))
    return ts.State(*map(torch.tensor, (qpos, qvel, act))), ctrl


def driven(
    mj_model: mujoco.MjModel, num_worlds: int, rng, kept: float, push: float, begin=None
) -> tuple[ts.State, torch.Tensor]:
    """States of bodies that random controls drove for a while in MuJoCo, and the last controls.

    Args:
        kept, push: share of the controls that is kept from step to step, and standard deviation of what comes to it.
        begin: changes the `mujoco.MjData` that each begins with.
    """
    data, found = mujoco.MjData(mj_model), []
    for _ in range(num_worlds):
        mujoco.mj_resetData(mj_model, data)
        if begin is not None:
            begin(data)
        for _ in range(rng.integers(60, 200)):
            data.ctrl[:] = kept * data.ctrl + rng.normal(size=mj_model.nu) * push
            mujoco.mj_step(mj_model, data)
        found.append([x.copy() for x in (data.qpos, data.qvel, data.act, data.ctrl)])
    *state, ctrl = (torch.tensor(np.array(x)) for x in zip(*found, strict=True))
    return ts.State(*state), ctrl


def explicit(mj_model: mujoco.MjModel, num_worlds: int) -> ts.Simulator:
    """A simulator with explicit velocities, as in MuJoCo's Euler step without damping."""
    model = ts.load(mj_model)
    model.opt.theta = 0.0
    return ts.Simulator(model, num_worlds)


def strayed(
    mj_model: mujoco.MjModel, sim: ts.Simulator, state: ts.State, ctrl: torch.Tensor, steps: int
) -> list[float]:
    """By how much each world's positions differ from MuJoCo's, at most, after so many steps of one substep each."""
    sim.model.opt.substeps = steps
    with torch.no_grad():
        after = sim.step(state, ctrl)
    sim.model.opt.substeps = 1
    errors = []
    for world in range(len(ctrl)):
        data = mujoco_data(mj_model, state, ctrl, world)
        mujoco.mj_step(mj_model, data, steps)
        errors.append(np.abs(after.qpos[world].numpy() - data.qpos).max())
    return errors


def mujoco_data(mj_model: mujoco.MjModel, state: ts.State, ctrl: torch.Tensor, world: int) -> mujoco.MjData:
    """MuJoCo's results for one world of a batch."""
    data = mujoco.MjData(mj_model)
    data.qpos[:], data.qvel[:], data.act[:], data.ctrl[:] = (x[world].numpy() for x in (*state, ctrl))
    mujoco.mj_forward(mj_model, data)
    return data


def assert_forces(found, theirs: mujoco.MjData, world: int, *names: str) -> None:
    """Fields of `Simulator.forward` in one world are MuJoCo's, to 1e-9 of their largest entry."""
    for name in names:
        expected, ours = getattr(theirs, name), getattr(found, name)[world].numpy()
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-9 * np.abs(expected).max(), err_msg=name)


def tendon_jacobian(mj_model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    """MuJoCo's ten_J, which it keeps sparse, as a matrix (ntendon, nv)."""
    jacobian = np.zeros((mj_model.ntendon, mj_model.nv))
    sparsity = mj_model.ten_J_rownnz, mj_model.ten_J_rowadr, mj_model.ten_J_colind.ravel()
    mujoco.mju_sparse2dense(jacobian, data.ten_J.ravel(), *sparsity)
    return jacobian
