"""Every stage's adjoint alone, against central differences in double precision."""

import mujoco
import numpy as np
import pytest
import torch
import trees
from batch import random_batch
from kernels import launched

import taichi_sim as ts
from taichi_sim import runtime
from taichi_sim.bodies import dynamics, inertia, integrate, kinematics, passive
from taichi_sim.muscles import actuator
from taichi_sim.runtime import ti

TOLERANCE = 1e-6
H = 0.004  # substep [s]
H_THETA = 0.6 * H

ARRAY = ti.types.ndarray(dtype=ti.types.vector(runtime.get().lanes(4), ti.f64), ndim=2)


# Residual forces tau(q, v, u) of the stages at a fixed acceleration, and their adjoints' counterparts. A force whose
# coefficient c is frozen and taken at v + h_theta a is the stage's force at v less h_theta c a.


@ti.func
def springs(m: ti.template(), d: ti.template(), e):
    passive.springs(m, d, e)
    for i in range(m.nv):
        d.qfrc_bias[e, i] = d.qfrc_passive[e, i]


@ti.func
def dampers(m: ti.template(), d: ti.template(), e):
    passive.springs(m, d, e)
    for i in range(m.nv):
        d.qfrc_passive[e, i] = d.qfrc_passive[e, i] * 0.0
    passive.dampers(m, d, e)
    for i in range(m.nv):
        d.qfrc_bias[e, i] = d.qfrc_passive[e, i] - H_THETA * d.dof_implicit[e, i] * d.qacc[e, i]


@ti.func
def limits(m: ti.template(), d: ti.template(), e):
    for i in range(m.nv):
        d.dof_implicit[e, i] = d.qvel[e, i] * 0.0
    passive.limits(m, d, e)
    for i in range(m.nv):
        d.qfrc_bias[e, i] = d.qfrc_limit[e, i] - H_THETA * d.dof_implicit[e, i] * d.qacc[e, i]


@ti.func
def actuators(m: ti.template(), d: ti.template(), e):
    for i in range(m.nv):
        d.dof_implicit[e, i] = d.qvel[e, i] * 0.0
    actuator.transmission(m, d, e)
    actuator.forces(m, d, e, H, True)
    for i in range(m.nv):
        d.qfrc_bias[e, i] = d.actuator.qfrc[e, i] - H_THETA * d.dof_implicit[e, i] * d.qacc[e, i]


@ti.func
def inverse_dynamics(m: ti.template(), d: ti.template(), e):
    kinematics.world(m, d, e)
    kinematics.position(m, d, e)
    kinematics.velocity(m, d, e, True)
    inertia.bodies(m, d, e)
    dynamics.newton_euler(m, d, e)
    dynamics.generalised(m, d, e, d.fn, d.ff, d.qfrc_bias)
    for i in range(m.nv):
        d.qfrc_bias[e, i] = -d.qfrc_bias[e, i]


@ti.func
def adjoint_springs(m: ti.template(), d: ti.template(), e):
    passive.adjoint_springs(m, d, e)


@ti.func
def adjoint_dampers(m: ti.template(), d: ti.template(), e):
    passive.adjoint_dampers(m, d, e, H_THETA)


@ti.func
def adjoint_limits(m: ti.template(), d: ti.template(), e):
    passive.adjoint_limits(m, d, e, H_THETA)


@ti.func
def adjoint_actuators(m: ti.template(), d: ti.template(), e):
    actuators(m, d, e)
    actuator.adjoint_forces(m, d, e, H, H_THETA)


@ti.func
def adjoint_inverse_dynamics(m: ti.template(), d: ti.template(), e):
    inverse_dynamics(m, d, e)
    # the forces of single links again
    dynamics.newton_euler(m, d, e)
    dynamics.adjoint_motion(m, d, e)
    dynamics.adjoint_bodies(m, d, e)
    dynamics.adjoint_project(m, d, e)


STAGES = {
    "springs": (springs, adjoint_springs),
    "dampers": (dampers, adjoint_dampers),
    "limits": (limits, adjoint_limits),
    "actuators": (actuators, adjoint_actuators),
    "inverse dynamics": (inverse_dynamics, adjoint_inverse_dynamics),
}


def stage_kernels(sim: ts.Simulator, force, adjoint):
    """Kernels (qpos, qvel, qacc, ctrl, lam) -> lam . tau, and -> its gradient by tangent of q, v and ctrl."""
    m, d, fields = sim._engine.m, sim._engine.d, sim._engine._fields
    memory = fields.types

    @ti.func
    def load(e, inputs: ti.template()):
        for i in range(m.nq):
            d.qpos[e, i] = inputs[e, i]
        for i in range(m.nv):
            d.qvel[e, i] = inputs[e, m.nq + i]
            d.qacc[e, i] = inputs[e, m.nq + m.nv + i]
            d.lam[e, i] = inputs[e, m.nq + 2 * m.nv + i]
        for i in range(m.nu):
            d.ctrl[e, i] = inputs[e, m.nq + 3 * m.nv + i]

    @ti.kernel
    def value(
        m0: memory.state,
        m1: memory.wide,
        m2: memory.shared,
        m3: memory.fitted,
        m4: memory.gradient,
        m5: memory.integers,
        inputs: ARRAY,
        out: ARRAY,
    ):
        fields.bind(m0, m1, m2, m3, m4, m5)
        for e in range(inputs.shape[0]):
            load(e, inputs)
            force(m, d, e)
            out[e, 0] = out[e, 0] * 0.0
            for i in range(m.nv):
                out[e, 0] = out[e, 0] + d.lam[e, i] * d.qfrc_bias[e, i]

    @ti.kernel
    def gradient(
        m0: memory.state,
        m1: memory.wide,
        m2: memory.shared,
        m3: memory.fitted,
        m4: memory.gradient,
        m5: memory.integers,
        inputs: ARRAY,
        out: ARRAY,
    ):
        fields.bind(m0, m1, m2, m3, m4, m5)
        for e in range(inputs.shape[0]):
            load(e, inputs)
            for i in range(m.nv):
                d.grad_qpos[e, i] = d.qvel[e, i] * 0.0
                d.grad_qvel[e, i] = d.qvel[e, i] * 0.0
            for i in range(m.nu):
                d.grad_ctrl[e, i] = d.ctrl[e, i] * 0.0
            adjoint(m, d, e)
            for i in range(m.nv):
                out[e, i] = d.grad_qpos[e, i]
                out[e, m.nv + i] = d.grad_qvel[e, i]
            for i in range(m.nu):
                out[e, 2 * m.nv + i] = d.grad_ctrl[e, i]

    return launched(value, fields), launched(gradient, fields)


def integrate_kernels(sim: ts.Simulator):
    """Kernels (q, v, a) -> (q+, v+), and (the same, adjoints of q+'s entries and of v+) -> those of q, v and a."""
    m, d, fields = sim._engine.m, sim._engine.d, sim._engine._fields
    memory = fields.types

    @ti.func
    def load(e, inputs: ti.template()):
        for i in range(m.nq):
            d.qpos[e, i] = inputs[e, i]
        for i in range(m.nv):
            d.qvel[e, i] = inputs[e, m.nq + i]
            d.qacc[e, i] = inputs[e, m.nq + m.nv + i]

    @ti.kernel
    def value(
        m0: memory.state,
        m1: memory.wide,
        m2: memory.shared,
        m3: memory.fitted,
        m4: memory.gradient,
        m5: memory.integers,
        inputs: ARRAY,
        out: ARRAY,
    ):
        fields.bind(m0, m1, m2, m3, m4, m5)
        for e in range(inputs.shape[0]):
            load(e, inputs)
            integrate.begin(m, d, e)
            integrate.integrate(m, d, e, H)
            for i in range(m.nq):
                out[e, i] = d.qpos[e, i]
            for i in range(m.nv):
                out[e, m.nq + i] = d.qvel[e, i]

    @ti.kernel
    def gradient(
        m0: memory.state,
        m1: memory.wide,
        m2: memory.shared,
        m3: memory.fitted,
        m4: memory.gradient,
        m5: memory.integers,
        inputs: ARRAY,
        weights: ARRAY,
        out: ARRAY,
    ):
        fields.bind(m0, m1, m2, m3, m4, m5)
        for e in range(inputs.shape[0]):
            load(e, inputs)
            integrate.begin(m, d, e)
            integrate.integrate(m, d, e, H)
            for i in range(m.nq):
                d.grad_raw[e, i] = weights[e, i]
            for i in range(m.nv):
                d.grad_qvel[e, i] = weights[e, m.nq + i]
            integrate.tangent(m, d, e, d.grad_raw)
            load(e, inputs)
            integrate.adjoint_integrate(m, d, e, H)
            for i in range(m.nv):
                out[e, i] = d.grad_qpos[e, i]
                out[e, m.nv + i] = d.grad_qvel[e, i]
                out[e, 2 * m.nv + i] = d.lam[e, i]

    return launched(value, fields), launched(gradient, fields)


@pytest.fixture(scope="module")
def world():
    """A forest with every joint and actuator type in four random states, some beyond their limits."""
    text = trees.random_tree(np.random.default_rng(11), num_bodies=20, num_actuators=20)
    mj_model = mujoco.MjModel.from_xml_string(text)
    model = ts.load(mj_model)
    # the stages of limits are the penalty's
    model.opt.constraint = "penalty"
    assert {0, 1, 2, 3} == set(model.jnt_type.tolist())
    sim = ts.Simulator(model, 4)
    # fills the model's figures into the memory that the kernels below share
    sim.forward(sim.initial_state())
    state, ctrl = random_batch(model, 4, 0)
    for j in np.flatnonzero(model.jnt_limited):
        # worlds 2 and 3: half-way up the ramp of the limits' dampers, which random states miss
        (low, high), adr = model.jnt_range[j], model.jnt_qposadr[j]
        if model.jnt_type[j] == ts.types.JNT_BALL:
            half = (high + passive.LIMIT_RAMP / 2) / 2
            axis = state.qpos[2:, adr + 1 : adr + 4]
            axis *= np.sin(half) / axis.norm(dim=1, keepdim=True)
            state.qpos[2:, adr] = np.cos(half)
        else:
            state.qpos[2, adr], state.qpos[3, adr] = low - passive.LIMIT_RAMP / 2, high + passive.LIMIT_RAMP / 2
    rng = np.random.default_rng(1)
    qacc, lam = (torch.tensor(rng.normal(size=(4, model.nv))) for _ in range(2))
    return mj_model, sim, state.qpos, torch.cat([state.qvel, qacc, lam, ctrl], dim=1)


def call(kernel, sim: ts.Simulator, size: int, *inputs: torch.Tensor) -> torch.Tensor:
    """Runs a kernel over four worlds, (4, n) -> (4, size)."""
    out = torch.zeros(sim._blocks, size, sim._lanes, dtype=torch.float64)
    kernel(*(sim._to_lanes(x) for x in inputs), out)
    return sim._from_lanes(out)


def moved(mj_model: mujoco.MjModel, qpos: torch.Tensor, dof: int, step: float) -> torch.Tensor:
    """qpos after a motion along one dof in tangent space."""
    result, unit = qpos.numpy().copy(), np.zeros(mj_model.nv)
    unit[dof] = 1.0
    for row in result:
        mujoco.mj_integratePos(mj_model, row, unit, step)
    return torch.tensor(result)


def tangent_differences(mj_model, function, qpos, rest, columns, step=1e-5) -> torch.Tensor:
    """Central differences of function(qpos, rest) (N,) by every dof's motion, then by the given columns of `rest`."""
    results = []
    for dof in range(mj_model.nv):
        ahead, behind = (moved(mj_model, qpos, dof, s) for s in (step, -step))
        results.append(function(ahead, rest) - function(behind, rest))
    for i in columns:
        offset = torch.zeros_like(rest)
        offset[:, i] = step
        results.append(function(qpos, rest + offset) - function(qpos, rest - offset))
    return torch.stack(results, dim=1) / (2 * step)


def assert_close(ours: torch.Tensor, expected: torch.Tensor, parts: dict[str, int]):
    """Compares part by part, relative to the largest entry of a part."""
    for (name, size), a, b in zip(
        parts.items(), ours.split(list(parts.values()), 1), expected.split(list(parts.values()), 1)
    ):
        error, scale = (a - b).abs().max(), b.abs().max()
        assert error <= TOLERANCE * max(scale, 1e-3), f"{name} ({size}): error {error:.3g} of {scale:.3g}"


@pytest.mark.parametrize("stage", STAGES)
def test_stage(world, stage):
    mj_model, sim, qpos, rest = world
    nv, nu = mj_model.nv, mj_model.nu
    value, gradient = stage_kernels(sim, *STAGES[stage])

    def function(qpos, rest):
        return call(value, sim, 1, torch.cat([qpos, rest], 1))[:, 0]

    # qvel and ctrl: qacc and lam between them are held
    columns = [*range(nv), *range(3 * nv, 3 * nv + nu)]
    # short enough to stay on one side of where a limit's damper sticks
    expected = tangent_differences(mj_model, function, qpos, rest, columns, step=3e-6)
    ours = call(gradient, sim, 2 * nv + nu, torch.cat([qpos, rest], 1))
    assert expected.abs().max() > 0.1
    assert_close(ours, expected, {"qpos": nv, "qvel": nv, "ctrl": nu})


def test_integrate(world):
    mj_model, sim, qpos, rest = world
    nq, nv = mj_model.nq, mj_model.nv
    motion = rest[:, : 2 * nv] * 30  # fast enough that a step turns balls by 0.1 rad and more
    weights = torch.randn(4, nq + nv, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    value, gradient = integrate_kernels(sim)

    def function(qpos, motion):
        return (weights * call(value, sim, nq + nv, torch.cat([qpos, motion], 1))).sum(1)

    expected = tangent_differences(mj_model, function, qpos, motion, range(2 * nv))
    ours = call(gradient, sim, 3 * nv, torch.cat([qpos, motion], 1), weights)
    assert_close(ours, expected, {"qpos": nv, "qvel": nv, "qacc": nv})
