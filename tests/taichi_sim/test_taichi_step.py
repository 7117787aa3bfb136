"""`ts.TaichiStep`: a step among a Taichi program's own kernels, in double precision."""

import gc

import mujoco
import numpy as np
import pytest
import torch

import taichi_sim as ts
from taichi_sim.runtime import ti

# A ball that carries a hinge with a muscle and a motor: nq, nv, na and nu all differ. Five worlds leave lanes empty.
XML = """<mujoco><option timestep="0.005"/><custom><numeric name="substeps" data="2"/></custom><worldbody>
  <body><joint name="a" type="ball" damping=".3"/><geom size=".1" pos=".1 0 -.4" mass="1"/>
    <body pos="0 0 -.4"><joint name="b" axis="0 1 0" damping=".1"/><geom size=".08" pos="0 .1 -.3" mass=".5"/></body>
  </body>
</worldbody><actuator><motor joint="b" gear="2"/>
  <muscle joint="b" gear=".05" force="30" lengthrange=".05 .15"/></actuator></mujoco>"""
WORLDS, STEPS = 5, 3


@pytest.fixture(scope="module")
def step():
    return ts.TaichiStep(ts.load(mujoco.MjModel.from_xml_string(XML)), WORLDS)


def field(*shape):
    return ti.field(ti.f64, shape, needs_grad=True)


def ndarray(*shape):
    return ti.ndarray(ti.f64, shape, needs_grad=True)


class Program:
    """A closed loop and a loss, in kernels over fields or ndarrays."""

    def __init__(self, step, make):
        self.step, self.fields = step, make is field
        self.state, self.ctrl = make(STEPS + 1, WORLDS, step.nstate), make(STEPS, WORLDS, step.nu)
        self.gain = field(step.nu)
        self.loss = ti.field(ti.f64, (), needs_grad=True)
        self.weight = ti.field(ti.f64, (WORLDS, step.nstate))
        self.weight.from_numpy(np.random.default_rng(2).normal(size=(WORLDS, step.nstate)))
        array = ti.template() if self.fields else ti.types.ndarray(dtype=ti.f64, ndim=3, needs_grad=True)
        gain, loss, weight, nstate, nu = self.gain, self.loss, self.weight, step.nstate, step.nu

        @ti.kernel
        def control(state: array, ctrl: array, t: ti.i32):
            for w, u in ti.ndrange(WORLDS, nu):
                ctrl[t, w, u] = 0.5 + 0.1 * gain[u] * ti.sin(state[t, w, 4] + state[t, w, 6])

        @ti.kernel
        def cost(state: array):
            for w, i in ti.ndrange(WORLDS, nstate):
                loss[None] += weight[w, i] * state[STEPS, w, i] + 0.1 * state[1, w, i] ** 2

        self._control, self._cost = control, cost

    def run(self):
        for t in range(STEPS):
            self._control(self.state, self.ctrl, t)
            self.step(self.state, self.ctrl, t)
        self._cost(self.state)

    def value(self, first, gain):
        self.begin(first, gain)
        self.loss[None] = 0
        self.run()
        return self.loss[None]

    def gradient(self, first, gain):
        self.begin(first, gain)
        if not self.fields:
            # Taichi clears those of fields only
            self.state.grad.fill(0.0)
            self.ctrl.grad.fill(0.0)
        with ti.ad.Tape(self.loss):
            self.run()
        by_state = self.state.grad.to_numpy()
        assert not by_state[1:STEPS].any(), "what was overwritten has no gradient left"
        return by_state[0], self.gain.grad.to_numpy()

    def begin(self, first, gain):
        states = np.zeros((STEPS + 1, WORLDS, self.step.nstate))
        states[0] = first
        self.state.from_numpy(states)
        self.gain.from_numpy(gain)


def beginning(step):
    random = np.random.default_rng(0)
    first = step.resting + 0.3 * random.normal(size=(WORLDS, step.nstate))
    first[:, -1] = random.uniform(0.2, 0.8, WORLDS)
    return first, random.normal(size=step.nu)


def differences(function, x, h=1e-6):
    """Central differences of a scalar function, entry by entry."""
    result = np.empty_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = h
        result[i] = (function(x + step) - function(x - step)) / (2 * h)
    return result


@pytest.mark.parametrize("make", [field, ndarray])
def test_the_gradient_of_a_program_is_that_of_differences(step, make):
    program = Program(step, make)
    first, gain = beginning(step)
    by_first, by_gain = program.gradient(first, gain)
    expected = differences(lambda x: program.value(x, gain), first)
    np.testing.assert_allclose(by_first, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    expected = differences(lambda x: program.value(first, x), gain)
    np.testing.assert_allclose(by_gain, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("make", [field, ndarray])
def test_it_is_the_simulators_step(step, make):
    state, ctrl = make(2, WORLDS, step.nstate), make(1, WORLDS, step.nu)
    first, _ = beginning(step)
    controls = np.random.default_rng(1).uniform(0, 1, (1, WORLDS, step.nu))
    state.from_numpy(np.stack([first, 0 * first]))
    ctrl.from_numpy(controls)
    step(state, ctrl, 0)
    sim = ts.Simulator(step.model, WORLDS)
    sizes = step.model.nq, step.model.nv, step.model.na
    expected = sim.step(ts.State(*torch.tensor(first).split(sizes, 1)), torch.tensor(controls[0]))
    np.testing.assert_array_equal(state.to_numpy()[1], torch.cat(tuple(expected), 1).numpy())
    np.testing.assert_array_equal(state.to_numpy()[0], first)


def test_options_may_change_before_the_backward_pass(step):
    program = Program(step, ndarray)
    first, gain = beginning(step)
    expected, _ = program.gradient(first, gain)
    program.begin(first, gain)
    program.state.grad.fill(0.0)
    program.ctrl.grad.fill(0.0)
    substeps, gravity = step.model.opt.substeps, step.model.opt.gravity
    try:
        with ti.ad.Tape(program.loss):
            program.run()
            step.model.opt.substeps, step.model.opt.gravity = 5, np.zeros(3)
    finally:
        step.model.opt.substeps, step.model.opt.gravity = substeps, gravity
    np.testing.assert_array_equal(program.state.grad.to_numpy()[0], expected)


def test_a_tapes_memory_serves_the_next_one(step):
    program = Program(step, ndarray)
    first, gain = beginning(step)
    program.gradient(first, gain)
    gc.collect()
    idle = len(step._idle[step.model.opt.substeps])
    assert idle >= STEPS
    program.gradient(first, gain)
    gc.collect()
    assert len(step._idle[step.model.opt.substeps]) == idle


def test_what_does_not_fit_is_refused(step):
    state, ctrl = field(3, WORLDS, step.nstate), field(2, WORLDS, step.nu)
    single = ti.field(ti.f32, (3, WORLDS, step.nstate))
    for arguments, message in (
        ((np.zeros((3, WORLDS, step.nstate)), ctrl, 0), "state must be a ti.field or a ti.ndarray.*got ndarray"),
        ((state, field(2, WORLDS + 1, step.nu), 0), r"ctrl must have shape \(times, 5, 2\), got \(2, 6, 2\)"),
        ((single, ctrl, 0), "state must be of f64.*got f32"),
        ((state, ctrl, 2), "t is 2, and state has times from 0 to 2"),
        ((state, None, 0), "ctrl must be a ti.field or a ti.ndarray.*got NoneType"),
    ):
        with pytest.raises(ValueError, match=message):
            step(*arguments)
    loss, constant = ti.field(ti.f64, (), needs_grad=True), ti.field(ti.f64, (3, WORLDS, step.nstate))
    for array in (constant, ti.ndarray(ti.f64, (3, WORLDS, step.nstate))):
        with pytest.raises(ValueError, match="state is part of a ti.ad.Tape.*needs_grad"), ti.ad.Tape(loss):
            step(array, ctrl, 0)


def test_a_simulators_step_inside_a_tape_is_not_taichis_to_differentiate(step):
    """Its gradient is torch's affair; Taichi would differentiate the whole step's kernel itself."""
    sim, loss = ts.Simulator(step.model, WORLDS), ti.field(ti.f64, (), needs_grad=True)
    with ti.ad.Tape(loss) as tape:
        sim.step(sim.initial_state(), torch.zeros(WORLDS, step.nu, dtype=torch.float64))
    assert not tape.calls
