"""A control step's matrices against MuJoCo's differences of its own step, and against those of ours."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch
from snippets import BEFORE_4

import taichi_sim as ts

# All kinds of joints, a muscle with an activation, a box at rest on the ground by MuJoCo's law.
BODIES = """
<mujoco>
  <option timestep="0.004" integrator="{integrator}" tolerance="1e-15" iterations="100"/>
  <worldbody>
    <geom type="plane" size="5 5 .1"/>
    <body pos="0 0 .099"><freejoint/><geom type="box" size=".2 .15 .1"/></body>
    <body pos="1 0 2">
      <joint type="ball" damping=".3"/>
      <geom type="capsule" fromto="0 0 0 .3 .1 -.5" size=".05" contype="0" conaffinity="0"/>
      <body pos=".3 .1 -.5">
        <joint name="hinge" axis="0 1 .2" damping=".2" stiffness="3"/>
        <geom type="capsule" fromto="0 0 0 0 0 -.4" size=".04" contype="0" conaffinity="0"/>
        <body pos="0 0 -.4">
          <joint name="slide" type="slide" axis="1 0 .1" damping="1"/>
          <geom size=".08" contype="0" conaffinity="0"/>
        </body>
      </body>
    </body>
    <body pos="-1 0 2"><freejoint/><geom type="box" size=".1 .2 .3" contype="0" conaffinity="0"/></body>
  </worldbody>
  <actuator>
    {actuator}
    <position joint="slide" kp="20"/>
  </actuator>
</mujoco>
"""


MUSCLE = '<muscle joint="hinge" lengthrange="-1.5 1.5" force="30"/>'


def moving(mj_model: mujoco.MjModel, num: int) -> list[mujoco.MjData]:
    """States of all joints' motion, but for the box that rests on the ground."""
    rng, worlds = np.random.default_rng(0), [mujoco.MjData(mj_model) for _ in range(num)]
    for data in worlds:
        away = rng.standard_normal(mj_model.nv)
        away[:6] *= 1e-3
        mujoco.mj_integratePos(mj_model, data.qpos, away, 0.5)
        data.qvel[:] = rng.standard_normal(mj_model.nv)
        data.qvel[:6] *= 1e-2
        data.act[:], data.ctrl[:] = rng.uniform(0.2, 0.8, mj_model.na), rng.uniform(0.2, 0.8, mj_model.nu)
    return worlds


def rows(worlds: list[mujoco.MjData]) -> tuple[ts.State, torch.Tensor]:
    *state, ctrl = (torch.tensor(np.stack([getattr(w, name) for w in worlds])) for name in (*ts.State._fields, "ctrl"))
    return ts.State(*state), ctrl


def assert_same(matrix: torch.Tensor, expected: np.ndarray):
    assert matrix.shape == expected.shape
    assert np.abs(matrix.numpy() - expected).max() <= 1e-6 * np.abs(expected).max()


# Releases of MuJoCo before 4 have other gyroscopic forces of bodies that are free and alone by implicitfast.
CASES = [("Euler", MUSCLE), ("implicitfast", '<motor joint="hinge"/>')][: 1 if BEFORE_4 else 2]


@pytest.mark.parametrize("integrator, actuator", CASES)
def test_matrices_are_those_of_mujocos_differences(integrator, actuator):
    mj_model = mujoco.MjModel.from_xml_string(BODIES.format(integrator=integrator, actuator=actuator))
    worlds, size = moving(mj_model, 3), 2 * mj_model.nv + mj_model.na
    for world, A, B in zip(worlds, *ts.linearize(ts.Simulator(ts.load(mj_model), 3), *rows(worlds)), strict=True):
        theirs = np.zeros((size, size)), np.zeros((size, mj_model.nu))
        # where a corner of the box leaves the ground steps bend so much that a larger difference is another slope
        mujoco.mjd_transitionFD(mj_model, world, 1e-7, True, *theirs, None, None)
        assert world.ncon >= 3
        assert_same(A, theirs[0])
        assert_same(B, theirs[1])


def test_matrices_are_those_of_our_own_steps_differences():
    """With muscles implicitfast is our own step, here of three substeps."""
    mj_model = mujoco.MjModel.from_xml_string(BODIES.format(integrator="implicitfast", actuator=MUSCLE))
    model, nv = ts.load(mj_model), mj_model.nv
    assert model.opt.integrator == "theta"
    model.opt.substeps = 3
    (world,), size, step = moving(mj_model, 1), 2 * nv + mj_model.na, 1e-7
    sim = ts.Simulator(model)

    def after(dx: np.ndarray, dctrl: np.ndarray) -> ts.State:
        state, ctrl = rows([world])
        mujoco.mj_integratePos(mj_model, state.qpos[0].numpy(), dx[:nv], 1.0)
        return sim.step(
            ts.State(state.qpos, state.qvel + torch.tensor(dx[nv : 2 * nv]), state.act + torch.tensor(dx[2 * nv :])),
            ctrl + torch.tensor(dctrl),
        )

    columns = []
    for direction in np.eye(size + mj_model.nu):
        plus, minus = (after(*np.split(sign * step * direction, [size])) for sign in (1, -1))
        dq = np.zeros(nv)
        mujoco.mj_differentiatePos(mj_model, dq, 2 * step, minus.qpos[0].numpy(), plus.qpos[0].numpy())
        others = ((a - b)[0] / (2 * step) for a, b in zip(plus[1:], minus[1:], strict=True))
        columns.append(np.concatenate([dq, *others]))
    A, B = ts.linearize(sim, *rows([world]))
    expected = np.stack(columns, axis=1)
    assert_same(A[0], expected[:, :size])
    assert_same(B[0], expected[:, size:])


def test_what_is_no_state_is_refused_as_by_a_step():
    sim = ts.Simulator(ts.load("cartpole"), 2)
    state = sim.initial_state()
    with pytest.raises(ValueError, match="ctrl must have shape"):
        ts.linearize(sim, state, torch.zeros(1, 1, dtype=sim.dtype))
    with pytest.raises(ValueError, match="taichi_sim.State"):
        ts.linearize(sim, state.qpos, torch.zeros(2, 1, dtype=sim.dtype))
    with pytest.raises(ValueError, match="declare parameters first"):
        ts.linearize(sim, state, torch.zeros(2, 1, dtype=sim.dtype), {"masses": 1.0})


def test_few_worlds_have_the_matrices_of_many():
    """Few are computed several times over; fitted constants and mocap bodies, too, are each world's own."""
    model = ts.load(
        mujoco.MjModel.from_xml_string(
            """<mujoco><worldbody>
              <body name="hand" mocap="true" pos="0 0 1"><body pos="0 0 -.2">
                <joint name="ball" type="ball" damping=".1"/>
                <geom type="capsule" fromto="0 0 0 .1 0 -.3" size=".03" contype="0"/></body></body>
            </worldbody><actuator><motor joint="ball" gear="0 1 .3"/></actuator></mujoco>"""
        )
    )
    num, generator = 70, torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.rand(num, *shape, generator=generator, dtype=torch.float64)

    values = drawn(4) + 0.1, drawn(3), drawn(0), drawn(1)
    damping, pose = {"dof_damping": drawn(3)}, drawn(1, 7) + 0.1
    many = ts.linearize(
        ts.Simulator(model, num, parameters=tuple(damping)), ts.State(*values[:3]), values[3], damping, pose
    )
    few = ts.Simulator(model, 2, parameters=tuple(damping))
    state, damping = ts.State(*(x[:2] for x in values[:3])), {"dof_damping": damping["dof_damping"][:2]}
    for ours, theirs in zip(ts.linearize(few, state, values[3][:2], damping, pose[:2]), many, strict=True):
        torch.testing.assert_close(ours, theirs[:2], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(many[0][0], many[0][1])
