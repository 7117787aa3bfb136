"""Our own step over time: convergence to MuJoCo's motion, conserved quantities, closed forms, limits; in f64."""

from __future__ import annotations

import itertools
import subprocess
import sys

import cartpole_double
import mujoco
import numpy as np
import pytest
import torch
from batch import random_batch

import taichi_sim as ts
from taichi_sim.bodies.passive import LIMIT_RAMP

DURATION = 0.5  # [s]
STEPS = (4e-4, 2e-4, 1e-4)  # [s]

# Floating trees: a brick, a chain of every joint type held together by springs, a star of two balls.
FLIGHT = """<mujoco>
  <compiler angle="radian"/>
  <option timestep="1e-4" integrator="RK4" gravity="0.3 -0.2 {gravity}">
    <flag contact="disable" energy="enable"/>
  </option>
  <default><geom type="box" density="800"/><joint stiffness="4" armature="0.002"/></default>
  <worldbody>
    <body name="brick"><freejoint/><geom size="0.3 0.2 0.05"/></body>
    <body name="chain" pos="3 0 0"><freejoint/><geom size="0.2 0.1 0.1" pos="0.05 0 0"/>
      <body pos="0.25 0 0" quat="0.8 0.6 0 0"><joint type="ball" pos="-0.05 0 0"/><geom size="0.15 0.06 0.08"/>
        <body pos="0.2 0 0"><joint type="slide" axis="1 0.2 0" stiffness="60"/><geom size="0.1 0.05 0.07"/>
          <body pos="0.1 0.1 0"><joint axis="0 1 0.3" springref="0.4"/>
            <geom size="0.15 0.04 0.04" pos="0.1 0 0"/></body>
        </body>
      </body>
      <body pos="-0.2 0 0"><joint axis="0 0 1"/><joint axis="0 1 0"/><geom size="0.15 0.05 0.03" pos="-0.2 0 0"/></body>
    </body>
    <body name="star" pos="6 0 0"><freejoint/><geom size="0.1 0.15 0.2"/>
      <body pos="0 0.2 0.1"><joint type="ball"/><geom size="0.05 0.2 0.04" pos="0 0.2 0"/></body>
      <body pos="0 -0.2 0"><joint type="ball" stiffness="0"/><geom size="0.05 0.2 0.08" pos="0 -0.2 0"/></body>
    </body>
  </worldbody>
</mujoco>"""

# A fixed base with damping, springs, servos and a motor: what the step takes implicitly is all there.
ARM = """<mujoco>
  <compiler angle="radian"/>
  <option timestep="1e-4" integrator="RK4"><flag contact="disable"/></option>
  <default><geom type="capsule" size="0.05" density="900"/><joint armature="0.02"/></default>
  <worldbody>
    <body><joint name="a" axis="0 1 0" damping="3" stiffness="10"/><geom fromto="0 0 0 0.4 0 0"/>
      <body pos="0.4 0 0"><joint name="b" axis="0 0 1" damping="0.5"/><geom fromto="0 0 0 0.3 0 0.1"/>
        <body pos="0.3 0 0.1"><joint name="c" type="ball" damping="0.3" stiffness="2"/><geom fromto="0 0 0 0.2 0.1 0"/>
          <body pos="0.2 0.1 0"><joint name="d" type="slide" axis="1 0 0" damping="4" stiffness="90"/>
            <geom fromto="0 0 0 0.2 0 0"/></body>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <motor joint="a" gear="20"/><position joint="b" kp="30" kv="2"/><velocity joint="d" kv="5"/>
    <general joint="c" gear="1 -0.5 0.3" gainprm="0.7" biastype="affine" biasprm="0.1 -0.4 -0.2"/>
  </actuator>
</mujoco>"""


def simulator(mj_model: mujoco.MjModel, num_worlds: int, **options) -> ts.Simulator:
    model = ts.load(mj_model)
    for name, value in options.items():
        setattr(model.opt, name, value)
    return ts.Simulator(model, num_worlds)


def advance(sim: ts.Simulator, state: ts.State, ctrl, duration: float, timestep: float) -> ts.State:
    sim.model.opt.timestep, sim.model.opt.substeps = timestep, round(duration / timestep)
    return sim.step(state, ctrl)


def flying_batch(model: ts.Model, num_worlds: int) -> ts.State:
    """Displaced joints on spinning bases. Springs of balls stay clear of half a turn, where their force jumps."""
    state, _ = random_batch(model, num_worlds, 0)
    state.qvel[:] *= 0.5
    for j, (kind, qadr, dof) in enumerate(zip(model.jnt_type, model.jnt_qposadr, model.jnt_dofadr)):
        if kind == ts.types.JNT_FREE:
            spin = state.qvel[:, dof + 3 : dof + 6]
            # the brick, joint 0, has no springs that could give way
            spin *= (20.0 if j == 0 else 5.0) / spin.norm(dim=1, keepdim=True)
        elif kind == ts.types.JNT_BALL:
            quat = state.qpos[:, qadr : qadr + 4]
            quat[:, 0] = 4.0
            quat /= quat.norm(dim=1, keepdim=True)
        else:
            state.qpos[:, qadr] *= 0.2
    return state


def mujoco_motion(mj_model: mujoco.MjModel, state: ts.State, ctrl, world: int) -> tuple[np.ndarray, np.ndarray]:
    """MuJoCo's qpos and qvel after DURATION, by Runge-Kutta at its own fine step."""
    data = mujoco.MjData(mj_model)
    data.qpos[:], data.qvel[:], data.ctrl[:] = (x[world].numpy() for x in (state.qpos, state.qvel, ctrl))
    mujoco.mj_step(mj_model, data, round(DURATION / mj_model.opt.timestep))
    return data.qpos.copy(), data.qvel.copy()


def assert_first_order(mj_model: mujoco.MjModel, sim: ts.Simulator, state: ts.State, ctrl):
    """Half the step, half the error against MuJoCo. What extrapolation leaves falls faster: there is no other limit."""
    results = [advance(sim, state, ctrl, DURATION, h) for h in STEPS]
    for world in range(sim.num_worlds):
        qpos, qvel = mujoco_motion(mj_model, state, ctrl, world)
        errors = []
        for result in results:
            step = np.zeros(mj_model.nv)
            mujoco.mj_differentiatePos(mj_model, step, 1.0, qpos, result.qpos[world].numpy())
            errors.append(np.concatenate([step, result.qvel[world].numpy() - qvel]))
        sizes = [np.linalg.norm(e) for e in errors]
        for coarse, fine in itertools.pairwise(sizes):
            assert 1.8 < coarse / fine < 2.2, f"world {world}: errors {sizes}"
        rests = [np.linalg.norm(2 * fine - coarse) for coarse, fine in itertools.pairwise(errors)]
        assert rests[0] / rests[1] > 3 and rests[1] < 0.1 * sizes[-1], f"world {world}: errors {sizes}, then {rests}"


@pytest.fixture(scope="module", params=[0.0, -9.81], ids=["weightless", "falling"])
def flight(request):
    mj_model = mujoco.MjModel.from_xml_string(FLIGHT.format(gravity=request.param))
    if request.param == 0.0:
        mj_model.opt.gravity[:] = 0.0
    sim = simulator(mj_model, 4, integrator="theta")
    state = flying_batch(sim.model, 4)
    ctrl = torch.zeros(4, 0, dtype=torch.float64)
    return mj_model, sim, state, ctrl, [advance(sim, state, ctrl, DURATION, h) for h in STEPS]


def test_flight_converges_to_mujoco(flight):
    mj_model, sim, state, ctrl, _ = flight
    assert_first_order(mj_model, sim, state, ctrl)


def energy_and_momentum(mj_model: mujoco.MjModel, state: ts.State) -> np.ndarray:
    """Energy [J] of all trees; momentum [N s] and angular momentum [N m s] of each: (N, 1 + 6 trees)."""
    data = mujoco.MjData(mj_model)
    roots = [b for b in range(1, mj_model.nbody) if mj_model.body_parentid[b] == 0]
    rows = []
    for qpos, qvel in zip(state.qpos.numpy(), state.qvel.numpy(), strict=True):
        data.qpos[:], data.qvel[:] = qpos, qvel
        mujoco.mj_forward(mj_model, data)
        mujoco.mj_subtreeVel(mj_model, data)
        momentum = [mj_model.body_subtreemass[b] * data.subtree_linvel[b] for b in roots]
        rows.append(np.concatenate([[data.energy.sum()], *momentum, *(data.subtree_angmom[b] for b in roots)]))
    return np.array(rows)


def test_conservation(flight):
    """No damping: energy is conserved; momentum changes by weight alone, angular momentum not at all."""
    mj_model, _, state, _, results = flight
    before = energy_and_momentum(mj_model, state)
    roots = mj_model.body_parentid[1:] == 0
    impulse = np.outer(mj_model.body_subtreemass[1:][roots], mj_model.opt.gravity).ravel() * DURATION
    before[:, 1 : 1 + impulse.size] += impulse
    drifts = [energy_and_momentum(mj_model, result) - before for result in results]
    for part in (slice(0, 1), slice(1, 10), slice(10, 19)):
        scale = np.abs(before[:, part]).max()
        sizes = [np.linalg.norm(drift[:, part], axis=1) / scale for drift in drifts]
        for coarse, fine in itertools.pairwise(sizes):
            assert (coarse > 1.8 * fine).all(), sizes
        assert sizes[-1].max() < 0.02, sizes


def test_arm_converges_to_mujoco():
    mj_model = mujoco.MjModel.from_xml_string(ARM)
    sim = simulator(mj_model, 4, integrator="theta")
    state, ctrl = random_batch(sim.model, 4, 3)
    state.qpos[:, -1] *= 0.2
    assert_first_order(mj_model, sim, state, ctrl)


# One-joint mechanisms side by side. The limited ones are hinged at their centres of mass: gravity does not turn them.
BENCH = """<mujoco>
  <compiler angle="radian"/>
  <option timestep="1e-3"><flag contact="disable"/></option>
  <custom><numeric name="limit_ke" data="2e3"/><numeric name="limit_kd" data="40"/></custom>
  <worldbody>
    <body><joint axis="0 1 0"/><inertial pos="0 0 -0.6" mass="2" diaginertia="0.03 0.02 0.01"/></body>
    <body><joint type="slide" axis="1 0 0" stiffness="50" damping="3"/>
      <inertial pos="0 0 0" mass="2" diaginertia="1 1 1"/></body>
    <body><joint type="slide" axis="1 0 0" stiffness="50" damping="1e6"/>
      <inertial pos="0 0 0" mass="0.5" diaginertia="1 1 1"/></body>
    <body><joint name="hinge" axis="1 0 0" limited="true" range="-0.5 0.3"/>
      <inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/></body>
    <body><joint name="slide" type="slide" axis="1 0 0" limited="true" range="-0.2 0.4"/>
      <inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/></body>
    <body><joint name="ball" type="ball" limited="true" range="0 0.7"/>
      <inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/></body>
  </worldbody>
  <actuator>
    <motor joint="hinge"/><motor joint="slide"/><motor joint="ball" gear="0.6 0 0.8"/>
  </actuator>
</mujoco>"""
PENDULUM, OSCILLATOR, DASHPOT, HINGE, SLIDE = range(5)
BALL = slice(5, 8)


@pytest.fixture(scope="module")
def bench():
    return simulator(mujoco.MjModel.from_xml_string(BENCH), 4)


@pytest.fixture
def at_rest(bench):
    bench.model.opt.timestep, bench.model.opt.substeps = 1e-3, 1
    return bench.initial_state(), torch.zeros(4, 3, dtype=torch.float64)


def trajectory(sim: ts.Simulator, state: ts.State, ctrl, num_steps: int) -> ts.State:
    """qpos (num_steps, N, nq) and qvel after every control step."""
    states = []
    for _ in range(num_steps):
        state = sim.step(state, ctrl)
        states.append(state)
    return ts.State(*(torch.stack(x) for x in zip(*states)))


def test_period_of_a_pendulum(bench, at_rest):
    state, ctrl = at_rest
    state.qpos[:, PENDULUM] = 1e-3
    bench.model.opt.substeps = 5
    angle = trajectory(bench, state, ctrl, 1000).qpos[:, 0, PENDULUM].numpy()
    before = np.flatnonzero(angle[:-1] * angle[1:] < 0)
    # numbers of control steps at which the pendulum passes through the vertical
    crossings = before + 1 + angle[before] / (angle[before] - angle[before + 1])
    period = 2 * np.diff(crossings).mean() * bench.model.opt.control_timestep
    assert period == pytest.approx(2 * np.pi * np.sqrt((0.02 + 2 * 0.6**2) / (2 * 9.81 * 0.6)), rel=1e-5)


def test_decay_of_an_oscillator(bench, at_rest):
    state, ctrl = at_rest
    state.qpos[:, OSCILLATOR] = 0.1
    bench.model.opt.timestep, bench.model.opt.substeps = 1e-4, 5000
    time, rate = 0.5, 3 / (2 * 2)
    omega = np.sqrt(50 / 2 - rate**2)
    # of first order in the timestep, relative to the amplitude
    expected = 0.1 * np.exp(-rate * time) * (np.cos(omega * time) + rate / omega * np.sin(omega * time))
    assert bench.step(state, ctrl).qpos[0, OSCILLATOR].item() == pytest.approx(expected, abs=1e-4 * omega * 0.1)


def test_damping_is_implicit(bench, at_rest):
    """m a = -k x - c (v + theta h a), step by step; stable however strong the damper."""
    state, ctrl = at_rest
    state.qpos[:, [OSCILLATOR, DASHPOT]] = 0.1
    state.qvel[:, [OSCILLATOR, DASHPOT]] = torch.tensor([-2.0, 3.0], dtype=torch.float64)
    motion = trajectory(bench, state, ctrl, 50)
    h, theta = 1e-3, bench.model.opt.theta
    for j, mass, damping in ((OSCILLATOR, 2.0, 3.0), (DASHPOT, 0.5, 1e6)):
        x, v = state.qpos[0, j].item(), state.qvel[0, j].item()
        for i in range(50):
            v -= h * (50 * x + damping * v) / (mass + theta * h * damping)
            x += h * v
            assert motion.qpos[i, 0, j].item() == pytest.approx(x, rel=1e-11)
            assert motion.qvel[i, 0, j].item() == pytest.approx(v, rel=1e-9)
    speed = motion.qvel[:20, 0, DASHPOT].abs()
    assert (speed[1:] < speed[:-1]).all()


def test_limit_forces(bench, at_rest):
    """ke times the violation inwards; kd times the speed against it, fading in over LIMIT_RAMP."""
    state, _ = at_rest
    ke, kd = 2e3, 40.0
    depth = torch.tensor([-0.1, 0.3 * LIMIT_RAMP, 0.9 * LIMIT_RAMP, 0.2], dtype=torch.float64)
    inside = depth.clamp(min=0)
    c = kd * (inside / LIMIT_RAMP).clamp(max=1)
    axis = torch.tensor([0.36, -0.48, 0.8], dtype=torch.float64)
    spin = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    state.qvel[:, HINGE], state.qvel[:, SLIDE], state.qvel[:, BALL] = 1.5, -0.7, spin
    half = (0.7 + depth[:, None]) / 2
    state.qpos[:, 5:] = torch.cat([half.cos(), half.sin() * axis], 1)
    for hinge, slide, side in ((0.3 + depth, -0.2 - depth, 1), (-0.5 - depth, 0.4 + depth, -1)):
        state.qpos[:, HINGE], state.qpos[:, SLIDE] = hinge, slide
        force = bench.forward(state).qfrc_limit
        assert torch.allclose(force[:, HINGE], -side * ke * inside - c * 1.5, rtol=1e-12, atol=1e-12)
        assert torch.allclose(force[:, SLIDE], side * ke * inside + c * 0.7, rtol=1e-12, atol=1e-12)
        assert torch.allclose(force[:, BALL], -ke * inside[:, None] * axis - c[:, None] * spin, rtol=1e-11, atol=1e-11)


def test_limit_forces_are_continuous(bench, at_rest):
    state, _ = at_rest
    depth = torch.tensor([-1e-9, 1e-9, LIMIT_RAMP - 1e-9, LIMIT_RAMP + 1e-9], dtype=torch.float64)
    state.qvel[:] = 1.0
    state.qpos[:, HINGE], state.qpos[:, SLIDE] = 0.3 + depth, -0.2 - depth
    state.qpos[:, 5], state.qpos[:, 6] = (0.35 + depth / 2).cos(), (0.35 + depth / 2).sin()
    force = bench.forward(state).qfrc_limit[:, HINGE:]
    assert (force[2].abs() > 1).all()
    assert torch.allclose(force[0::2], force[1::2], atol=1e-4)


def test_joints_rest_on_their_limits(bench, at_rest):
    """A constant push ends where the penalty spring balances it."""
    state, ctrl = at_rest
    ctrl[:] = torch.tensor([8.0, -10.0, 6.0])
    bench.model.opt.substeps = 6000
    state = bench.step(state, ctrl)
    assert state.qvel[0, HINGE:].abs().max() < 1e-6
    angle = 2 * state.qpos[0, 6:].norm().atan2(state.qpos[0, 5])
    reached = torch.stack([state.qpos[0, HINGE], state.qpos[0, SLIDE], angle])
    expected = torch.tensor([0.3 + 8 / 2e3, -0.2 - 10 / 2e3, 0.7 + 6 / 2e3], dtype=torch.float64)
    assert torch.allclose(reached, expected, atol=1e-8)


def test_cartpole_against_textbook_equations():
    """With theta = 0 damping is explicit, as in the textbook's equations."""
    model = ts.load("cartpole")
    model.opt.theta = 0.0
    sim = ts.Simulator(model, 4)
    double = cartpole_double.CartPoleDouble(4, torch.float64, model.opt.substeps)
    state, _ = random_batch(model, 4, 0)
    state = state._replace(qvel=3 * state.qvel)
    ctrl = torch.linspace(-1, 1, 4, dtype=torch.float64)[:, None]
    expected = double.acceleration(state.qpos, state.qvel, ctrl)
    assert torch.allclose(sim.forward(state, ctrl).qacc, expected, rtol=1e-9, atol=1e-9)
    ours = theirs = state
    for _ in range(10):
        ours, theirs = sim.step(ours, ctrl), double.step(theirs, ctrl)
    assert theirs.qpos[:, 0].abs().max() < 4, "beyond the rail, where the double has no limit"
    assert torch.allclose(ours.qpos, theirs.qpos, rtol=1e-9, atol=1e-9)
    assert torch.allclose(ours.qvel, theirs.qvel, rtol=1e-9, atol=1e-9)


CHAIN = """<mujoco>
  <option timestep="2e-3"><flag contact="disable"/></option>
  <default><geom type="capsule" size="0.05" fromto="0 0 0 0.3 0 0.1"/></default>
  <worldbody>
    <body><joint name="base" type="slide" axis="1 0 0" damping="1"/><joint axis="0 1 0" limited="true" range="-30 30"/>
      <geom/>
      <body pos="0.3 0 0.1"><joint axis="0 0.6 0.8" stiffness="5"/><geom/></body></body>
  </worldbody>
  <actuator><motor gear="2" joint="base"/></actuator>
</mujoco>"""


def step_and_gradient(model: ts.Model, num_worlds: int) -> list[torch.Tensor]:
    """The first worlds of a batch of eight: qpos and qvel after a step, gradients of a function of them."""
    state, ctrl = random_batch(model, 8, 0)
    leaves = [x[:num_worlds].clone().requires_grad_() for x in (state.qpos, state.qvel, ctrl)]
    after = ts.Simulator(model, num_worlds).step(ts.State(*leaves[:2], state.act[:num_worlds]), leaves[2])
    loss = (after.qpos.sin() + after.qvel.square()).sum()
    return [*after[:2], *torch.autograd.grad(loss, leaves)]


def test_number_of_worlds_makes_no_difference():
    """Worlds share SIMD lanes in blocks: those that do not fill their last block give the same step and gradient."""
    model = ts.load(mujoco.MjModel.from_xml_string(CHAIN))
    model.opt.substeps = 3
    expected = step_and_gradient(model, 8)
    for num_worlds in (1, 3, 5):
        for ours, theirs in zip(step_and_gradient(model, num_worlds), expected):
            assert torch.allclose(ours, theirs[:num_worlds], rtol=1e-13, atol=1e-13), num_worlds


FAR_AWAY = """
import mujoco, torch
import taichi_sim as ts

ts.init(device="cpu", precision="f32")
geom = '<geom type="capsule" size="0.05" fromto="0 0 0 0.3 0 0.1"/>'
limb = f'<body pos="0.3 0 0.1"><joint axis="0 1 0"/>{geom}</body>'
limbs = f'<body pos="0.3 0 0.1"><joint axis="0 1 0.2" stiffness="3"/>{geom}{limb}</body>'
model = ts.load(mujoco.MjModel.from_xml_string(f'''<mujoco>
  <option timestep="2e-3"><flag contact="disable"/></option>
  <worldbody>
    <body><freejoint/>{geom}{limbs}</body>
    <body>
      <joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 0 1"/><joint axis="0 1 0"/>{geom}{limbs}
    </body>
  </worldbody>
</mujoco>'''))
model.opt.substeps = 50
sim = ts.Simulator(model, 2)
state, ctrl = sim.initial_state(), torch.zeros(2, 0)
state.qvel[:] = 3 * torch.randn(model.nv, generator=torch.Generator().manual_seed(0))
# the floating base's position and the slides, behind 7 + 2 entries of the first tree
state.qpos[1, [0, 1, 2, 9, 10]] += 1000.0
after = sim.step(state, ctrl)
start, end = sim.forward(state, ctrl).qacc, sim.forward(after, ctrl).qacc
for name, x in (("qacc", start), ("qvel", after.qvel), ("qacc after the step", end)):
    error = (x[1] - x[0]).abs().max() / x[0].abs().max()
    assert error < 1e-5, f"{name}: {error:.3g}"
"""


def test_motion_does_not_depend_on_the_place():
    """1 km from the origin, in single precision: a floating tree and a planar base."""
    process = subprocess.run([sys.executable, "-c", FAR_AWAY], capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
