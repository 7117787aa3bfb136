"""Contact: forces and the implicit step against MuJoCo's Jacobians, gradients, motions with closed forms."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
from differences import assert_gradient, rollout, weighted

import taichi_sim as ts

ASSETS = Path(__file__).resolve().parents[3] / "assets"
KE, KD, KF, MU = 3e3, 2e3, 40.0, 0.7
GAINS = f"""<custom><numeric name="contact_ke" data="{KE}"/><numeric name="contact_kd" data="{KD}"/>
    <numeric name="contact_kf" data="{KF}"/><numeric name="contact_mu" data="{MU}"/></custom>"""
TILTED = 'pos="0.1 -0.2 -0.1" euler="0.2 -0.3 0.4"'

# Two planes of which one is tilted, and every kind of geom that touches them in points: free, on joints, in one tree.
SCENE = f"""<mujoco><compiler angle="radian"/><option timestep="0.004"><flag filterparent="disable"/></option>{GAINS}
  <default><geom contype="0" conaffinity="1"/><joint armature="0.01"/></default>
  <asset><mesh name="wedge" vertex="0 0 0 .3 0 0 0 .3 0 0 0 .2 .05 .05 .05"/></asset>
  <worldbody>
    <geom name="floor" type="plane" size="1 1 1" contype="1" conaffinity="0"/>
    <geom name="ramp" type="plane" size="1 1 1" contype="1" conaffinity="0" {TILTED}/>
    <body name="box"><freejoint/><geom type="box" size=".1 .15 .2" pos=".02 0 0" euler=".3 .2 .1"/>
      <body name="arm" pos=".1 0 0"><joint axis="0 1 .2"/><geom type="capsule" fromto="0 0 0 .3 .1 -.2" size=".05"/>
        <body pos=".3 .1 -.2"><joint type="ball"/><geom type="sphere" size=".08" pos=".1 0 0" margin=".02"/></body>
      </body>
    </body>
    <body name="wedge"><freejoint/><geom type="mesh" mesh="wedge"/></body>
    <body name="egg"><freejoint/><geom type="ellipsoid" size=".1 .15 .2"/>
      <body pos=".2 0 0"><joint axis="0 1 0"/><geom type="cylinder" size=".1 .15" pos=".1 0 0"/></body></body>
    <body name="rail" pos="0 0 .05"><joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 0 1"/>
      <joint axis="0 1 0"/><geom type="capsule" size=".06 .2"/></body>
  </worldbody></mujoco>"""


@pytest.fixture(scope="module")
def scene():
    """The scene's model in MuJoCo, a Simulator of 8 worlds, and states that touch both planes here and there."""
    mj_model = mujoco.MjModel.from_xml_string(SCENE)
    model = ts.load(mj_model)
    sim = ts.Simulator(model, 8)
    # slow worlds stick, fast ones slide
    return mj_model, sim, crowded(sim, 5, np.geomspace(1e-3, 6, 8), [0.3, 0.3, 0.15], above=0.15)


def crowded(sim, seed, speeds, reach, above=0.0):
    """States with all free bodies within `reach` (3,) [m] of one point, moving at the given speed of each world."""
    model, rng, n = sim.model, np.random.default_rng(seed), sim.num_worlds
    qpos = np.tile(model.qpos0, (n, 1))
    for j in range(model.njnt):
        adr = model.jnt_qposadr[j]
        if model.jnt_type[j] == ts.types.JNT_FREE:
            qpos[:, adr : adr + 3] = rng.uniform(-1, 1, (n, 3)) * reach + [0, 0, above]
            adr += 3
        if model.jnt_type[j] < ts.types.JNT_SLIDE:
            quat = rng.normal(size=(n, 4))
            qpos[:, adr : adr + 4] = quat / np.linalg.norm(quat, axis=1, keepdims=True)
        else:
            qpos[:, adr] += rng.normal(size=n) * 0.15
    qvel = rng.normal(size=(n, model.nv)) * speeds[:, None]
    return ts.State(torch.tensor(qpos), torch.tensor(qvel), torch.zeros(n, 0, dtype=torch.float64))


def points(mj_model, data):
    """(body, point, normal, depth) of every contact point that is below a plane, by hand from the geoms' poses."""
    for plane, geom in itertools.product(range(2), range(2, mj_model.ngeom)):
        normal = data.geom_xmat[plane].reshape(3, 3)[:, 2]
        frame, size = data.geom_xmat[geom].reshape(3, 3), mj_model.geom_size[geom]
        kind, radius = mj_model.geom_type[geom], 0.0
        if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
            local, radius = np.zeros((1, 3)), size[0]
        elif kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
            local, radius = np.array([[0, 0, size[1]], [0, 0, -size[1]]]), size[0]
        elif kind == mujoco.mjtGeom.mjGEOM_BOX:
            local = np.array(list(itertools.product((-1, 1), repeat=3))) * size
        elif kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID:
            down = frame.T @ normal * size
            local = -(size * down / np.linalg.norm(down))[None]
        elif kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
            x, y, _ = -frame.T @ normal / math.hypot(*(frame.T @ normal)[:2])
            rim = size[0] * np.array([(x, y), (-y, x), (-x, -y), (y, -x)])
            local = np.array([(*p, end * size[1]) for p in rim for end in (-1, 1)])
        else:
            # the wedge's last vertex is inside of its hull
            local = mj_model.mesh_vert[:5][np.linalg.norm(mj_model.mesh_vert[:5], axis=1) > 0.08]
        for x in data.geom_xpos[geom] + local @ frame.T - radius * normal:
            depth = normal @ (data.geom_xpos[plane] - x) + mj_model.geom_margin[geom]
            if depth > 0:
                yield mj_model.geom_bodyid[geom], x, normal, depth


def contact_terms(mj_model, qpos, qvel):
    """J'f at qvel, J'BJ (`taichi_sim.contact`), and for each point (depth, v_n, |v_t|, whether it sticks)."""
    data = mujoco.MjData(mj_model)
    data.qpos[:], data.qvel[:] = qpos, qvel
    mujoco.mj_forward(mj_model, data)
    force, damping, regimes = np.zeros(mj_model.nv), np.zeros((mj_model.nv, mj_model.nv)), []
    for body, x, n, depth in points(mj_model, data):
        jac = np.zeros((3, mj_model.nv))
        mujoco.mj_jac(mj_model, data, jac, None, x, body)
        v = jac @ qvel
        speed = np.linalg.norm(v - n * (n @ v))
        s = min(KF, MU * KE * depth / math.hypot(speed, 1e-6))
        block = s * (np.eye(3) - np.outer(n, n)) + (KD * depth if n @ v < 0 else 0) * np.outer(n, n)
        force += jac.T @ (KE * depth * n - block @ v)
        damping += jac.T @ block @ jac
        regimes.append((depth, n @ v, speed, s == KF))
    return force, damping, regimes


def test_forces_of_single_bodies(scene):
    """By hand, and from them the generalised forces, by MuJoCo's Jacobians at the centres of mass."""
    mj_model, sim, state = scene
    found = sim.forward(state)
    touched = np.zeros(mj_model.nbody, bool)
    for world in range(8):
        data, xfrc = mujoco.MjData(mj_model), found.xfrc_contact[world].numpy()
        data.qpos[:], data.qvel[:] = state.qpos[world].numpy(), state.qvel[world].numpy()
        mujoco.mj_forward(mj_model, data)
        expected, qfrc = np.zeros_like(xfrc), np.zeros(mj_model.nv)
        for body, x, n, depth in points(mj_model, data):
            jac = np.zeros((3, mj_model.nv))
            mujoco.mj_jac(mj_model, data, jac, None, x, body)
            v = jac @ data.qvel
            s = min(KF, MU * KE * depth / math.hypot(np.linalg.norm(v - n * (n @ v)), 1e-6))
            f = KE * depth * n - (KD * depth if n @ v < 0 else 0) * (n @ v) * n - s * (v - n * (n @ v))
            expected[body] += np.concatenate([f, np.cross(x - data.xipos[body], f)])
            touched[body] = True
        for body in range(1, mj_model.nbody):
            mujoco.mj_applyFT(mj_model, data, xfrc[body, :3], xfrc[body, 3:], data.xipos[body], body, qfrc)
        np.testing.assert_allclose(xfrc, expected, rtol=0, atol=1e-9 * max(1, abs(expected).max()))
        np.testing.assert_allclose(found.qfrc_contact[world], qfrc, rtol=0, atol=1e-9 * max(1, abs(qfrc).max()))
    # bodies that carry others among them
    assert touched.sum() >= 6


def test_forces_and_acceleration(scene):
    mj_model, sim, state = scene
    data = sim.forward(state)
    sim.model.opt.substeps = 1
    after = sim.step(state, torch.zeros(8, 0, dtype=torch.float64))
    h, theta = sim.model.opt.timestep, sim.model.opt.theta
    regimes = []
    for world in range(8):
        qvel = state.qvel[world].numpy()
        force, damping, found = contact_terms(mj_model, state.qpos[world].numpy(), qvel)
        regimes += found
        np.testing.assert_allclose(data.qfrc_contact[world], force, rtol=0, atol=1e-9 * max(1, abs(force).max()))
        rhs = force - data.qfrc_bias[world].numpy()
        qacc = np.linalg.solve(data.qM[world].numpy() + theta * h * damping, rhs)
        np.testing.assert_allclose((after.qvel[world] - qvel) / h, qacc, rtol=0, atol=1e-9 * abs(qacc).max())
    approaching = [v < 0 for _, v, _, _ in regimes]
    sticking = [stuck for *_, stuck in regimes]
    # every combination of approaching or leaving with sticking or sliding is there
    assert set(zip(approaching, sticking, strict=True)) == set(itertools.product((False, True), repeat=2))


@pytest.mark.parametrize(("num_steps", "substeps"), [(1, 1), (2, 4)])
def test_gradients_in_every_regime(scene, num_steps, substeps):
    _, sim, state = scene
    sim.model.opt.substeps = substeps
    ctrl = torch.zeros(8, 0, dtype=torch.float64)
    assert_gradient(
        lambda qpos, qvel: weighted(rollout(sim, qpos, qvel, ctrl, num_steps), 1),
        {"qpos": state.qpos, "qvel": state.qvel},
        {"qpos": 1e-7, "qvel": 1e-6},
    )


# Spheres, capsules and boxes on each other, in one tree, between trees and on a box of the world.
PILE = f"""<mujoco><compiler angle="radian"/><option timestep="0.002"><flag filterparent="disable"/></option>{GAINS}
  <worldbody>
    <geom name="table" type="box" size=".3 .3 .1" pos="0 0 -.1" euler=".1 .2 .3"/>
    <body name="ball"><freejoint/><geom size=".15" pos=".02 0 0"/>
      <body pos=".1 0 0"><joint axis="0 1 .2"/><geom size=".1" pos=".1 0 0"/></body></body>
    <body name="log"><freejoint/><geom type="capsule" size=".1 .2" euler=".3 0 0" margin=".01"/>
      <body pos=".1 0 0"><joint axis="0 1 .2"/><geom type="capsule" fromto="0 0 0 .3 .1 -.1" size=".08"/></body></body>
    <body name="crate"><freejoint/><geom type="box" size=".2 .15 .1"/></body>
  </worldbody>
  <contact><exclude body1="world" body2="crate"/></contact></mujoco>"""


@pytest.fixture(scope="module")
def pile():
    mj_model = mujoco.MjModel.from_xml_string(PILE)
    sim = ts.Simulator(ts.load(mj_model), 8)
    return mj_model, sim, crowded(sim, 3, np.geomspace(1e-3, 6, 8), [0.25, 0.25, 0.2])


def lifted(sim, state, **heights):
    """The state with free bodies moved up by heights [m]."""
    state = state._replace(qpos=state.qpos.clone())
    for name, height in heights.items():
        state.qpos[:, sim.model.jnt_qposadr[sim.model.body_jntadr[sim.model.names["body"].index(name)]] + 2] += height
    return state


@pytest.mark.parametrize("heights", [{"log": 5.0}, {"ball": 5.0, "log": 5.0, "crate": 10.0}])
def test_forces_between_bodies(pile, heights):
    """With MuJoCo's own depths, normals and points, where it chooses as the engine does: without capsules on boxes."""
    mj_model, sim, state = pile
    state, touching = lifted(sim, state, **heights), 0
    force = sim.forward(state).qfrc_contact
    for world in range(8):
        data = mujoco.MjData(mj_model)
        data.qpos[:], data.qvel[:] = state.qpos[world].numpy(), state.qvel[world].numpy()
        mujoco.mj_forward(mj_model, data)
        expected = sum((pair_force(mj_model, sim.model, data, c) for c in data.contact), np.zeros(mj_model.nv))
        np.testing.assert_allclose(force[world], expected, rtol=0, atol=1e-9 * max(1, abs(expected).max()))
        touching += len(data.contact)
    assert touching > 8


def pair_block(mj_model, model, data, contact):
    """Normal, spring force, B and the Jacobian of one of MuJoCo's contacts."""
    # MuJoCo's normal points from geom 1 to geom 2
    n, depth, jac = -contact.frame[:3], contact.includemargin - contact.dist, 0
    for sign, geom in zip((1, -1), contact.geom, strict=True):
        one = np.zeros((3, mj_model.nv))
        mujoco.mj_jac(mj_model, data, one, None, contact.pos, mj_model.geom_bodyid[geom])
        jac = jac + sign * one
    k = np.flatnonzero((model.pair_geom1 == contact.geom[0]) & (model.pair_geom2 == contact.geom[1]))[0]
    v = jac @ data.qvel
    s = min(model.pair_kf[k], MU * KE * depth / math.hypot(np.linalg.norm(v - n * (n @ v)), 1e-6))
    normal = np.outer(n, n)
    return KE * depth * n, s * (np.eye(3) - normal) + min(KD * depth, model.pair_kc[k]) * (n @ v < 0) * normal, jac


def pair_force(mj_model, model, data, contact):
    """J'f of one of MuJoCo's contacts."""
    spring, block, jac = pair_block(mj_model, model, data, contact)
    return jac.T @ (spring - block @ jac @ data.qvel)


def pair_damping(mj_model, model, data, contact):
    """J'BJ of one of MuJoCo's contacts."""
    _, block, jac = pair_block(mj_model, model, data, contact)
    return jac.T @ block @ jac


def test_friction_on_the_world_is_implicit(pile):
    """The step of a ball alone on the table: (M + theta h J'BJ) a = J'f - c, with MuJoCo's contact."""
    mj_model, sim, state = pile
    state = lifted(sim, state, log=5.0, crate=20.0)
    sim.model.opt.substeps = 1
    after, data = sim.step(state, torch.zeros(8, 0, dtype=torch.float64)), sim.forward(state)
    h, theta, touching = sim.model.opt.timestep, sim.model.opt.theta, 0
    for world in range(8):
        mj_data = mujoco.MjData(mj_model)
        mj_data.qpos[:], mj_data.qvel[:] = state.qpos[world].numpy(), state.qvel[world].numpy()
        mujoco.mj_forward(mj_model, mj_data)
        damping = np.zeros((mj_model.nv, mj_model.nv))
        for contact in mj_data.contact:
            if 0 in contact.geom:
                damping += pair_damping(mj_model, sim.model, mj_data, contact)
                touching += 1
        rhs = (data.qfrc_contact - data.qfrc_bias)[world].numpy()
        qacc = np.linalg.solve(data.qM[world].numpy() + theta * h * damping, rhs)
        found = (after.qvel - state.qvel)[world].numpy() / h
        np.testing.assert_allclose(found, qacc, rtol=0, atol=1e-9 * abs(qacc).max())
    assert touching > 4


def test_bodies_push_each_other_alike(pile):
    """Off the table, contacts do not push the whole."""
    _, sim, state = pile
    data = sim.forward(lifted(sim, state, ball=5.0, log=5.0, crate=5.0))
    dofs = [sim.model.jnt_dofadr[j] for j in range(sim.model.njnt) if sim.model.jnt_type[j] == ts.types.JNT_FREE]
    force = sum(data.qfrc_contact[:, dof : dof + 3] for dof in dofs)
    assert data.qfrc_contact.abs().max() > 10
    assert force.abs().max() < 1e-9 * data.qfrc_contact.abs().max()


def test_gradients_between_bodies(pile):
    _, sim, state = pile
    sim.model.opt.substeps = 2
    ctrl = torch.zeros(8, 0, dtype=torch.float64)
    assert_gradient(
        lambda qpos, qvel: weighted(rollout(sim, qpos, qvel, ctrl, 1), 1),
        {"qpos": state.qpos, "qvel": state.qvel},
        {"qpos": 1e-7, "qvel": 1e-6},
    )


# Bodies without weight that move along x and z only, and motors that press them on planes: each box on one of its own.
TILTS = {3: 0.0, 4: math.radians(20), 5: math.radians(50)}
PLANE = '<geom type="plane" size="1 1 1" pos="{0} 0 0" euler="0 {1} 0" contype="{2}" conaffinity="0"/>'
BOX = """<body pos="{0} 0 0"><joint name="x{0}" axis="1 0 0" type="slide"/>
      <joint name="z{0}" axis="0 0 1" type="slide"/>
      <geom type="box" size=".2 .2 .1" pos="{3} 0 {4}" euler="0 {1} 0" conaffinity="{2}"/></body>"""
MOTORS = '<motor joint="x{0}"/><motor joint="z{0}"/>'


def per_box(text):
    rows = ((x, tilt, 2**x, 0.1 * math.sin(tilt), 0.1 * math.cos(tilt)) for x, tilt in TILTS.items())
    return "".join(text.format(*row) for row in rows)


PRESSED = f"""<mujoco><compiler angle="radian"/><option gravity="0 0 0"/>{GAINS}
  <default><geom contype="0" conaffinity="1" mass="2"/></default>
  <worldbody><geom type="plane" size="1 1 1" contype="1" conaffinity="0"/>{per_box(PLANE)}
    <body pos="0 0 .1"><joint axis="0 0 1" type="slide"/><geom size=".1"/></body>{per_box(BOX)}
  </worldbody>
  <actuator>{per_box(MOTORS)}</actuator></mujoco>"""
MASS, PRESS = 2.0, 25.0


@pytest.fixture(scope="module")
def pressed():
    """After 0.5 s in steps of 0.1 ms, from one step to the next: qpos and qvel, (5001, nv) each.

    A ball hits the floor at 1.5 m/s. Three boxes are pulled down with PRESS and rest on their four lower corners: one
    on level ground, where it slides at 1 m/s, and two on slopes, less and more steep than friction can hold.
    """
    sim = ts.Simulator(ts.load(mujoco.MjModel.from_xml_string(PRESSED)), 1)
    state = sim.initial_state()
    state.qvel[0, 0], state.qvel[0, 1] = -1.5, 1.0
    for i, tilt in enumerate(TILTS.values()):
        depth = PRESS * math.cos(tilt) / (4 * KE)
        state.qpos[0, 1 + 2 * i], state.qpos[0, 2 + 2 * i] = -depth * math.sin(tilt), -depth * math.cos(tilt)
    ctrl = torch.tensor([[0, -PRESS] * len(TILTS)], dtype=torch.float64)
    sim.model.opt.timestep = 1e-4
    states = [state]
    for _ in range(5000):
        states.append(sim.step(states[-1], ctrl))
    return tuple(np.concatenate([getattr(s, name).numpy() for s in states]) for name in ("qpos", "qvel"))


def test_a_ball_bounces(pressed):
    """m v dv = -d (ke + kd v) dd while it sinks, to the depth D; then the spring alone gives back ke D^2 / 2."""
    qpos, qvel = (x[:, 0] for x in pressed)
    c, v = KD / KE, 1.5
    depth = math.sqrt(2 * MASS / KE * (v / c - math.log1p(c * v) / c**2))
    assert -qpos.min() == pytest.approx(depth, rel=2e-3)
    assert qvel[-1] == pytest.approx(depth * math.sqrt(KE / MASS), rel=2e-3)


def test_a_box_slides_to_rest(pressed):
    """The deceleration is mu N / m; below kf's speed, mu N / (4 kf), friction is viscous and it creeps."""
    qpos, qvel = (x[:, 1] for x in pressed)
    deceleration = MU * PRESS / MASS
    slow = MU * PRESS / (4 * KF)
    # from the sliding speed 1 down to `slow`, then m v' = -4 kf v
    stopping = (1 - slow**2) / (2 * deceleration) + slow * MASS / (4 * KF)
    assert qpos[-1] == pytest.approx(stopping, rel=2e-3)
    assert abs(qvel[-1]) < 1e-3


def test_a_box_sticks_on_a_slope_within_the_cone_and_slides_on_a_steeper_one(pressed):
    """What sticks creeps downhill, by kf; what slides gains what its weight has beyond mu times the normal force."""
    _, qvel = pressed
    gentle, steep = TILTS[4], TILTS[5]
    downhill = qvel[:, 3] * math.cos(gentle) - qvel[:, 4] * math.sin(gentle)
    assert downhill[-1] == pytest.approx(PRESS * math.sin(gentle) / (4 * KF), rel=1e-6)
    downhill = qvel[:, 5] * math.cos(steep) - qvel[:, 6] * math.sin(steep)
    beyond = PRESS / MASS * (math.sin(steep) - MU * math.cos(steep))
    np.testing.assert_allclose(np.diff(downhill[1000:]) / 1e-4, beyond, rtol=1e-2)


def test_order_of_convergence(scene):
    """First order, against a step 64 times as fine."""
    _, sim, state = scene
    ctrl = torch.zeros(8, 0, dtype=torch.float64)

    def after(substeps):
        sim.model.opt.timestep, sim.model.opt.substeps = 0.05 / substeps, substeps
        return sim.step(state, ctrl).qpos

    reference = after(64 * 64)
    errors = [(after(n) - reference).abs().amax(1).mean().item() for n in (16, 32, 64)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (orders > 0.8).all(), (errors, orders)


@pytest.fixture(scope="module")
def running_bodies():
    """Hopper, HalfCheetah, Ant and Humanoid side by side on one floor, as their tasks begin."""
    spec = mujoco.MjSpec.from_string(f'<mujoco><option timestep="{1 / 240}"/>{GAINS}<worldbody/></mujoco>')
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1], contype=1, conaffinity=0)
    # HalfCheetah begins 0.2 m below its qpos0
    for name, height in (("hopper", 0.0), ("halfcheetah", -0.2), ("ant", 0.75), ("humanoid", 1.35)):
        child = mujoco.MjSpec.from_file(str(ASSETS / f"{name}.xml"))
        body = child.body("torso")
        body.pos[2] = body.pos[2] + height if name in ("hopper", "halfcheetah") else height
        spec.worldbody.add_frame().attach_body(body, f"{name}-", "")
    model = ts.load(spec)
    model.opt.substeps = 4
    return ts.Simulator(model, 4)


def test_gradients_of_the_running_bodies(running_bodies):
    """Along random directions, over six control steps from random velocities, feet on the ground."""
    sim = running_bodies
    model, generator = sim.model, torch.Generator().manual_seed(0)
    assert (model.nv, model.nu) == (56, 38) and sim._m.contact.planes.number == 8 + 16 + 25 + 35

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    qvel, ctrl = 0.3 * draw(4, model.nv), 0.3 * draw(4, model.nu)
    with torch.no_grad():
        # some joints begin exactly at their limits, where forces have a kink
        qpos, qvel, _ = rollout(sim, sim.initial_state().qpos, qvel, ctrl, 6)
    leaves = [x.clone().requires_grad_() for x in (qpos, qvel, ctrl)]
    gradients = torch.autograd.grad(weighted(rollout(sim, *leaves, 6), 2).sum(), leaves)
    assert sim.forward(rollout(sim, qpos, qvel, ctrl, 6)).qfrc_contact.abs().amax() > 100
    for x, gradient, step in zip(leaves, gradients, (1e-7, 1e-6, 1e-6), strict=True):
        for _ in range(4):
            direction = draw(*x.shape)
            with torch.no_grad():
                moved = [[y + sign * step * direction if y is x else y for y in leaves] for sign in (1, -1)]
                ends = [weighted(rollout(sim, *those, 6), 2) for those in moved]
            expected = (ends[0] - ends[1]) / (2 * step)
            torch.testing.assert_close((gradient * direction).sum(1), expected, rtol=2e-6, atol=1e-6)
