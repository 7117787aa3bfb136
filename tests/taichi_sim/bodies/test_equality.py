"""Joint equalities: MuJoCo's matrices with the dependent joints substituted, equivalent models, energy, gradients."""

import re

import mujoco
import numpy as np
import pytest
import torch
import trees
from batch import mujoco_data
from differences import assert_gradient, rollout, weighted
from snippets import load_text, mjcf_text
from substituted import substitution

import taichi_sim as ts
from taichi_sim.bodies.tree import Tree

# a walker on a floor and a cart: dependent joints below and above the joint that determines them, on other branches and
# in another tree, two of one, one locked; heel and toe make back knee and hip depend on each other as the matrix is
# factored; all forces that a joint can have act on dependent ones
WALKER = """<mujoco><compiler angle="radian"/><option timestep="0.004" gravity="0.3 -0.2 -9.81"/>
<custom><numeric name="contact_ke" data="2000"/><numeric name="contact_kd" data="3000"/>
  <numeric name="contact_kf" data="50"/><numeric name="contact_mu" data="0.7"/></custom>
<default><joint armature="0.02" damping="0.3"/><geom contype="0" conaffinity="0" density="600"/>
  <default class="foot"><geom type="sphere" size=".1" contype="1"/></default></default>
<worldbody>
  <geom name="floor" type="plane" size="5 5 1" conaffinity="1"/>
  <body name="torso" pos="0 0 1"><freejoint/><geom type="box" size=".2 .1 .1"/>
    <body pos=".2 0 0"><joint name="hip" axis="0 1 .2" ref=".1"/>
      <geom type="capsule" fromto="0 0 0 .1 0 -.3" size=".05"/>
      <body pos=".1 0 -.3">
        <joint name="knee" axis="0 1 0" limited="true" range="-.2 .2" stiffness="4" springref=".3" ref="-.2"/>
        <geom type="capsule" fromto="0 0 0 0 0 -.3" size=".04"/>
        <body pos="0 0 -.3"><joint name="ankle" type="slide" axis="0 0 1"/><geom class="foot"/>
          <body><joint name="heel" axis="0 1 0"/><geom class="foot" pos="-.1 0 0"/></body></body></body></body>
    <body pos="-.2 0 0"><joint name="back hip" axis="0 1 0"/><geom type="capsule" fromto="0 0 0 0 .1 -.3" size=".05"/>
      <body pos="0 .1 -.3"><joint name="back knee" axis="1 1 0"/>
        <geom type="capsule" fromto="0 0 0 0 0 -.3" size=".04"/>
        <body pos="0 0 -.3"><joint name="toe" axis="0 1 0"/><geom class="foot" pos=".05 0 0"/></body></body></body>
    <body pos="0 0 .1"><joint name="neck" type="ball"/><geom type="capsule" fromto="0 0 0 .05 0 .2" size=".05"/>
      <body pos=".05 0 .2"><joint name="jaw" axis="0 1 0"/>
        <geom type="box" size=".1 .05 .03" pos=".1 0 0"/></body></body>
  </body>
  <body pos="2 0 1"><joint name="cart" type="slide" axis="1 0 .1"/><geom size=".15"/>
    <body><joint name="pole" axis="0 1 0"/><geom type="capsule" fromto="0 0 0 0 0 .5" size=".03"/></body></body>
</worldbody>
<equality>
  <joint joint1="knee" joint2="hip" polycoef=".1 -.8 .3 .2"/>
  <joint joint1="jaw" joint2="hip" polycoef="0 .5 -.4 .3 .1"/>
  <joint joint1="back hip" joint2="toe" polycoef="-.2 .6 .2 -.3"/>
  <joint joint1="heel" joint2="toe" polycoef="0 .7 .3"/>
  <joint joint1="cart" joint2="back knee" polycoef="0 .3 .2 .1"/>
  <joint joint1="ankle" polycoef=".05"/>
</equality>
<actuator><motor joint="knee" gear="3"/><velocity joint="jaw" kv=".4"/><position joint="cart" kp="5"/>
  <motor joint="toe"/><motor joint="pole" gear=".5"/></actuator></mujoco>"""
WORLDS = 4


@pytest.fixture(scope="module")
def walker():
    """MuJoCo's model, a Simulator and states with feet in the floor; qpos and qvel do not satisfy the equalities."""
    mj_model = mujoco.MjModel.from_xml_string(WALKER)
    model = ts.load(mj_model)
    assert model.neq == 6
    sim = ts.Simulator(model, WORLDS, parameters=("body_mass", "dof_armature", "dof_damping", "jnt_stiffness"))
    rng = np.random.default_rng(0)
    qpos = np.tile(model.qpos0, (WORLDS, 1)) + 0.4 * rng.normal(size=(WORLDS, model.nq))
    qpos[:, 2] = 0.5 + 0.05 * np.arange(WORLDS)
    for adr in (3, model.jnt_qposadr[model.names["joint"].index("neck")]):
        qpos[:, adr : adr + 4] = [1, 0, 0, 0] + 0.1 * rng.normal(size=(WORLDS, 4))
        qpos[:, adr : adr + 4] /= np.linalg.norm(qpos[:, adr : adr + 4], axis=1, keepdims=True)
    state = ts.State(
        torch.tensor(qpos), torch.tensor(rng.normal(size=(WORLDS, model.nv))), torch.zeros(WORLDS, 0).double()
    )
    return mj_model, sim, state, torch.tensor(rng.normal(size=(WORLDS, model.nu)))


def test_acceleration_is_mujocos_with_the_dependent_joints_substituted(walker):
    mj_model, sim, state, ctrl = walker
    data = sim.forward(state, ctrl)
    assert (data.qfrc_contact.abs().amax(1) > 1).any() and (data.qfrc_limit.abs().amax(1) > 1).any()
    for world in range(WORLDS):
        qpos, qvel = (x[world].numpy().copy() for x in (state.qpos, state.qvel))
        g, gamma = substitution(mj_model, qpos, qvel)
        projected = ts.State(torch.tensor(qpos)[None], torch.tensor(qvel)[None], torch.zeros(1, 0))
        ref = mujoco_data(mj_model, projected, ctrl[world : world + 1], 0)
        mass = np.column_stack([mul_mass(mj_model, ref, unit) for unit in np.eye(mj_model.nv)])
        force = ref.qfrc_passive + ref.qfrc_actuator - ref.qfrc_bias
        # contacts and limits are penalties here, tested elsewhere, and constraints there
        force += data.qfrc_contact[world].numpy() + data.qfrc_limit[world].numpy()
        qacc = g @ np.linalg.solve(g.T @ mass @ g, g.T @ (force - mass @ gamma)) + gamma
        np.testing.assert_allclose(data.qacc[world], qacc, rtol=0, atol=1e-9 * np.abs(qacc).max())
        np.testing.assert_allclose(data.xpos[world], ref.xpos, rtol=0, atol=1e-12)
        np.testing.assert_allclose(data.qM[world], mass, rtol=0, atol=1e-12)
        np.testing.assert_allclose(data.qfrc_bias[world], ref.qfrc_bias, rtol=0, atol=1e-9)


def mul_mass(mj_model, data, x):
    y = np.zeros_like(x)
    mujoco.mj_mulM(mj_model, data, y, x)
    return y


def test_dependent_joints_do_not_drift(walker):
    mj_model, sim, state, ctrl = walker
    with torch.no_grad():
        state = rollout(sim, state.qpos, 0.3 * state.qvel, ctrl, 100)
    for qpos, qvel in zip(state.qpos.numpy(), state.qvel.numpy(), strict=True):
        q, v = qpos.copy(), qvel.copy()
        substitution(mj_model, q, v)
        np.testing.assert_allclose(qpos, q, rtol=0, atol=1e-12)
        np.testing.assert_allclose(qvel, v, rtol=0, atol=1e-12 * max(1, np.abs(v).max()))


@pytest.mark.parametrize("num_steps", [1, 3])
def test_gradients_of_steps(walker, num_steps):
    _, sim, state, ctrl = walker
    sim.model.opt.substeps = 2
    assert_gradient(
        lambda qpos, qvel, ctrl: weighted(rollout(sim, qpos, qvel, ctrl, num_steps), 1),
        {"qpos": state.qpos, "qvel": state.qvel, "ctrl": ctrl},
        {"qpos": 1e-6, "qvel": 1e-6, "ctrl": 1e-4},
    )


def test_gradients_with_respect_to_dependent_joints_are_zero(walker):
    _, sim, state, ctrl = walker
    qpos, qvel = state.qpos.clone().requires_grad_(), state.qvel.clone().requires_grad_()
    weighted(rollout(sim, qpos, qvel, ctrl, 1), 2).sum().backward()
    joints = sim.model.eq_joint1
    assert not qpos.grad[:, sim.model.jnt_qposadr[joints]].any()
    assert not qvel.grad[:, sim.model.jnt_dofadr[joints]].any()


@pytest.mark.parametrize("name", ["body_mass", "dof_armature", "dof_damping", "jnt_stiffness"])
def test_gradients_of_parameters(walker, name):
    _, sim, state, ctrl = walker
    sim.model.opt.substeps = 2
    value = torch.tensor(getattr(sim.model, name)).repeat(WORLDS, 1)
    assert_gradient(
        lambda value: weighted(rollout(sim, state.qpos, state.qvel, ctrl, 1, {name: value}), 3), {"value": value}
    )


def test_gradients_of_poses_and_velocities(walker):
    _, sim, state, _ = walker
    weights = torch.randn(WORLDS, sim.model.nbody, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def function(qpos, qvel):
        data = sim.forward(state._replace(qpos=qpos, qvel=qvel))
        return (weights * torch.cat([data.xpos, data.xlinvel], dim=2)).sum((1, 2))

    assert_gradient(function, {"qpos": state.qpos, "qvel": state.qvel})


# Our own step has them by substitution, MuJoCo's integrators do not.
OWN_STEP = '<custom><numeric name="theta" data=".6"/></custom>'

# ---- trajectories ---------------------------------------------------------------------------------------------------

# a parallelogram, whose second link does not turn, and the pendulum that carries its mass; a chain with a locked hinge
# and one that is made so; a linkage without losses
TWINS = """<mujoco><compiler angle="radian"/><option timestep="0.002"><flag contact="disable"/></option>
<worldbody>
  <body name="long"><joint name="a" axis="0 1 0" armature=".03" damping=".2" stiffness="1"/>
    <inertial pos=".3 0 0" mass="1" diaginertia=".02 .02 .02"/>
    <body pos=".8 0 0"><joint name="b" axis="0 1 0" armature=".04" damping=".1" stiffness="2"/>
      <inertial pos=".1 .2 .3" mass=".5" diaginertia=".1 .1 .1"/></body></body>
  <body pos="0 2 0"><joint name="a'" axis="0 1 0" armature=".07" damping=".3" stiffness="3"/>
    <inertial pos="{com} 0 0" mass="1.5" diaginertia="{moment} {moment} {moment}"/></body>
  <body pos="0 4 0"><joint name="c" axis="1 0 0"/><geom size=".1" pos="0 .2 0"/>
    <body pos="0 .3 0"><joint name="locked" axis="0 0 1"/><geom type="box" size=".1 .2 .05" pos="0 .2 0"/>
      <body pos="0 .4 0"><joint name="d" axis="1 0 0"/><geom size=".1" pos="0 .2 0"/></body></body></body>
  <body pos="0 8 0"><joint name="c'" axis="1 0 0"/><geom size=".1" pos="0 .2 0"/>
    <body pos="0 .3 0" axisangle="0 0 1 .5"><geom type="box" size=".1 .2 .05" pos="0 .2 0"/>
      <body pos="0 .4 0"><joint name="d'" axis="1 0 0"/><geom size=".1" pos="0 .2 0"/></body></body></body>
  <body name="linkage" pos="0 12 0"><joint name="e" axis="0 1 0"/><geom type="box" size=".2 .1 .1" pos=".2 0 0"/>
    <body pos=".4 0 0"><joint name="f" axis="0 1 1"/><geom type="box" size=".2 .1 .1" pos=".2 0 0"/></body>
    <body pos="0 0 .4"><joint name="g" type="slide" axis="1 0 1"/><geom size=".15"/></body></body>
</worldbody>
<equality><joint joint1="b" joint2="a" polycoef="0 -1"/><joint joint1="locked" polycoef=".5"/>
  <joint joint1="g" joint2="f" polycoef="0 .3 .4 -.1"/></equality>
<actuator><motor joint="a"/><motor joint="b"/><motor joint="a'"/></actuator>{own_step}</mujoco>"""


@pytest.fixture(scope="module")
def twins():
    # 1 kg at 0.3 m and half a kilogram at 0.8 m
    com = (0.3 + 0.4) / 1.5
    moment = 0.02 + 0.3**2 + 0.5 * 0.8**2 - 1.5 * com**2
    model = load_text(TWINS.format(com=com, moment=moment, own_step=OWN_STEP))
    return ts.Simulator(model, 1)


def dofs(model, *joints):
    return model.jnt_dofadr[[model.names["joint"].index(joint) for joint in joints]]


def test_coupled_and_locked_joints_move_like_the_models_that_they_amount_to(twins):
    model, state = twins.model, twins.initial_state()
    ours, theirs = dofs(model, "a", "c", "d"), dofs(model, "a'", "c'", "d'")
    start = torch.tensor([0.7, -0.4, 1.1], dtype=torch.float64)
    for adr in (ours, theirs):
        state.qpos[0, adr], state.qvel[0, adr] = start, -2 * start
    with torch.no_grad():
        for t in range(500):
            u, w = np.sin(0.05 * t), np.cos(0.03 * t)
            # what b pushes, a feels the other way round
            state = twins.step(state, torch.tensor([[u, w, u - w]], dtype=torch.float64))
    assert state.qpos[0, theirs].abs().min() > 0.1
    for x in (state.qpos[0], state.qvel[0]):
        np.testing.assert_allclose(x[ours], x[theirs], rtol=0, atol=1e-9)


def energies(sim, state):
    """Kinetic and potential, of the linkage [J]."""
    data, model = sim.forward(state), sim.model
    adr = dofs(model, "e", "f", "g")
    v, first = state.qvel[0, adr], model.names["body"].index("linkage")
    kinetic = 0.5 * v @ data.qM[0][np.ix_(adr, adr)] @ v
    return float(kinetic), float(9.81 * data.xipos[0, first:, 2] @ torch.tensor(model.body_mass[first:]))


def test_a_linkage_without_losses_keeps_its_energy(twins):
    ctrl, errors = torch.zeros(1, 3, dtype=torch.float64), []
    for substeps in (1, 2, 4):
        twins.model.opt.timestep, twins.model.opt.substeps = 0.001 / substeps, substeps
        state = twins.initial_state()
        state.qpos[0, dofs(twins.model, "e", "f")] = torch.tensor([0.5, -1.0], dtype=torch.float64)
        history = []
        with torch.no_grad():
            for _ in range(500):
                # what the first step reads is not where the slide belongs
                state = twins.step(state, ctrl)
                history.append(energies(twins, state))
        kinetic, potential = np.array(history).T
        errors.append(np.abs(kinetic + potential - kinetic[0] - potential[0]).max() / kinetic.max())
    # of first order: half the step, half the error, and nothing of it remains as the step goes to zero
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 2, rtol=0.05)
    assert errors[-1] < 0.05


# ---- what is factored -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_rows_hold_what_coupled_branches_fill_in(seed):
    """For a random matrix of M's pattern, the terms add up to G'MG, and the rows hold all of that one's factor."""
    rng = np.random.default_rng(seed)
    model = random_coupled_tree(rng)
    tree = Tree(model)
    mass, g = np.zeros((model.nv, model.nv)), np.eye(model.nv)
    entries = rng.normal(size=len(tree.row_dof))
    for i, row in enumerate(np.split(np.arange(len(entries)), tree.row_adr[1:-1])):
        mass[i, tree.row_dof[row]] = mass[tree.row_dof[row], i] = entries[row]
        mass[i, i] = entries[row[0]] = 100
    slope = np.ones(model.nv)
    slope[tree.eq_dof[:, 0]] = np.where(tree.eq_dof[:, 0] == tree.eq_dof[:, 1], 0, rng.normal(size=len(tree.eq_dof)))
    for one, two in tree.eq_dof:
        g[one] = slope[one] * np.eye(model.nv)[two]
    rows = np.split(tree.factor_dof, tree.factor_adr[1:-1])
    assert all(np.array_equal(row[k:], rows[row[k]]) for row in rows for k in range(len(row)))
    sums = np.zeros(len(tree.factor_dof))
    for entry, i, j, target in tree.factor_terms:
        sums[target] += slope[i] * slope[j] * entries[entry]
    reduced, ours = g.T @ mass @ g, np.zeros_like(mass)
    for i, row in enumerate(np.split(np.arange(len(sums)), tree.factor_adr[1:-1])):
        ours[i, tree.factor_dof[row]] = ours[tree.factor_dof[row], i] = sums[row]
    np.testing.assert_allclose(ours, reduced, rtol=0, atol=1e-10)
    reduced[tree.eq_dof[:, 0], tree.eq_dof[:, 0]] = 1
    # the last dof goes first
    factor = np.linalg.cholesky(reduced[::-1, ::-1])[::-1, ::-1].T
    assert all(set(np.flatnonzero(np.abs(factor[i]) > 1e-12)) <= set(row) for i, row in enumerate(rows))
    # without equalities nothing changes
    model.opt.equality = False
    assert np.array_equal(Tree(model).factor_dof, tree.row_dof)


def random_coupled_tree(rng):
    """Four joints that follow others and a locked one, wherever they are."""
    text = trees.random_tree(rng, num_bodies=14)
    model = load_text(text)
    scalar = [name for name, kind in zip(model.names["joint"], model.jnt_type, strict=True) if kind > ts.types.JNT_BALL]
    joints = rng.permutation(scalar)
    assert len(joints) > 7
    pairs = zip(joints[1:5], rng.choice(joints[5:], 4), strict=True)
    joint = "".join(f'<joint joint1="{one}" joint2="{two}"/>' for one, two in pairs) + f'<joint joint1="{joints[0]}"/>'
    return load_text(text.replace("</mujoco>", f"<equality>{joint}</equality></mujoco>"))


# ---- loading --------------------------------------------------------------------------------------------------------

FINGER = '<body name="finger"><joint name="finger" axis="0 1 0"/><geom size=".1"/></body>'
TIP = '<body name="tip"><joint name="tip" axis="1 0 0"/><geom size=".1"/></body>'


def equality_text(equalities, **parts):
    return mjcf_text(inside=FINGER + TIP, rest=f"<equality>{equalities}</equality>{OWN_STEP}", **parts)


@pytest.mark.parametrize(
    ("equalities", "kinds"),
    [
        ('<weld body1="finger" body2="tip"/><joint joint1="tip" joint2="elbow"/>', [1, 2]),
        ('<connect body1="finger" body2="tip" anchor="0 0 0"/>', [0]),
        (
            '<tendon tendon1="cord"/></equality>'
            '<tendon><fixed name="cord"><joint joint="tip" coef="1"/></fixed></tendon><equality>',
            [3],
        ),
        # one joint1 of two
        ('<joint joint1="tip" joint2="elbow"/><joint joint1="tip" joint2="finger"/>', [2, 2]),
        # beyond degree 4
        (
            '<joint joint1="tip" joint2="finger" polycoef="0 1 1 1 0"/>'
            '<joint joint1="elbow" joint2="tip" polycoef="0 1 1 0 0"/>',
            [2, 2],
        ),
        # a circle
        (
            '<joint joint1="tip" joint2="finger"/><joint joint1="finger" joint2="elbow"/>'
            '<joint joint1="elbow" joint2="tip"/>',
            [2, 2, 2],
        ),
        ('<joint joint1="tip" joint2="elbow"/>', []),
    ],
)
def test_what_cannot_be_substituted_is_left_to_the_solver(equalities, kinds):
    model = load_text(equality_text(equalities))
    assert model.loop_type.tolist() == kinds and model.neq == (not kinds)
    inactive = re.sub(" (body1|joint1|tendon1)=", r' active="false" \1=', equalities)
    for text in (equality_text(inactive), equality_text(equalities, flag='contact="disable" equality="disable"')):
        model = load_text(text)
        assert model.neq == 0 and len(model.loop_type) == 0


def test_chains_are_one_step_each():
    """As MuJoCo's own residuals have it: a tip that follows a finger that follows the elbow, in any order."""
    tip = '<joint joint1="tip" joint2="finger" polycoef=".1 .7 -.3 0 0"/>'
    finger = '<joint joint1="finger" joint2="elbow" polycoef=".2 -.5 .4 0 0"/>'
    for text in (tip + finger, finger + tip):
        mj_model = mujoco.MjModel.from_xml_string(equality_text(text))
        sim = ts.Simulator(ts.load(mj_model), 1)
        elbow, middle, end = (mj_model.joint(name).id for name in ("elbow", "finger", "tip"))
        state = sim.initial_state()
        state.qpos[0, elbow], state.qvel[0, elbow] = 0.4, 0.9
        state = sim.step(state, torch.zeros(1, 0, dtype=torch.float64))
        data = mujoco.MjData(mj_model)
        data.qpos[:], data.qvel[:] = state.qpos[0].numpy(), state.qvel[0].numpy()
        mujoco.mj_forward(mj_model, data)
        rows = data.efc_type == mujoco.mjtConstraint.mjCNSTR_EQUALITY
        assert rows.sum() == 2 and abs(data.qpos[elbow] - 0.4) > 1e-4
        np.testing.assert_allclose(data.efc_pos[rows], 0, atol=1e-12)
        np.testing.assert_allclose(data.efc_vel[rows], 0, atol=1e-12)
    # what follows a locked joint is locked
    model = load_text(equality_text('<joint joint1="elbow" joint2="tip"/><joint joint1="tip" polycoef=".3 0 0 0 0"/>'))
    assert model.eq_joint2.tolist() == [-1, -1] and model.eq_polycoef[:, 0].tolist() == [0.3, 0.3]


def test_balls_and_free_joints_are_refused_by_mujoco():
    text = equality_text(
        '<joint joint1="tip" joint2="head"/>', world='<body><freejoint name="head"/><geom size="1"/></body>'
    )
    with pytest.raises(ValueError, match="only HINGE and SLIDE"):
        load_text(text)
