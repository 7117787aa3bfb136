"""Walking legs as heavy as a person: their figures, the speeds wanted, the reward by hand and its gradient."""

import dataclasses
import math
from importlib import resources
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
from walkers import SOURCE, arm

import shac
import taichi_sim as ts
from shac import models
from shac.algos.networks import build_actor
from shac.errors import UserError
from shac.mirror import Exchange
from shac.models._locomotion import JOINT_VELOCITY_SCALE
from shac.models._walker import soles
from shac.models.walk_mtu import excess
from shac.runs.config import resolve
from taichi_sim.types import State

F64 = torch.float64
FEET = [[f"{part}{side}" for part in ("Talus", "FootThumb", "FootPinky")] for side in "RL"]


def asset(name: str) -> mujoco.MjModel:
    path = resources.files("taichi_sim.assets") / f"{name}.xml"
    return mujoco.MjModel.from_xml_string(path.read_text(encoding="utf-8"))


def test_it_is_as_heavy_as_the_whole_body_and_turns_as_hard():
    """Held rigid with hanging arms: the mass matrix of the free joint says mass, centre and inertia."""
    full, walker = asset("humanoid_mtu_full"), models.load_task("walk_mtu", SOURCE).asset
    rows = []
    for m in (full, walker):
        d = mujoco.MjData(m)
        d.qpos[3] = 1
        if m is full:
            d.qpos[7:] = models.load_task("humanoid_mtu_full").start_joints
        mujoco.mj_forward(m, d)
        mass = np.zeros((m.nv, m.nv))
        mujoco.mj_fullM(m, d, mass)
        rows.append(mass[:6, :6])
    np.testing.assert_allclose(rows[1], rows[0], atol=1e-6)
    assert rows[0][0, 0] == pytest.approx(61.4)
    # its muscles are the source's, its joints less damped, and the marker moves along x alone
    legs = asset("humanoid_mtu")
    np.testing.assert_allclose(walker.actuator_gainprm[: legs.nu, 2], legs.actuator_user[:, 0])
    np.testing.assert_allclose(walker.dof_damping[:24], 0.25 * legs.dof_damping)
    assert walker.joint(walker.njnt - 1).name == "speed" and walker.jnt_axis[-1].tolist() == [1, 0, 0]
    assert walker.nq == legs.nq + 1 and walker.numeric("contact_ke").data[0] == pytest.approx(5000 * 61.4 / 37)


def test_a_psoas_bends_the_hip_and_the_calf_lifts_the_heel():
    """As the whole body's psoas does, and as the soleus does, which ends at the same tendon."""
    walker, full = models.load_task("walk_mtu", {**SOURCE, "mended": True}).asset, asset("humanoid_mtu_full")
    source = models.load_task("walk_mtu", SOURCE)
    assert walker.nu == 158 and source.asset.nu == source.num_actions == 152
    for side in "RL":
        for name in ("Psoas_Major", "Psoas_Major1", "Psoas_Major2"):
            unit = f"{side}_{name}"
            # held as it stands: as long, and as far from the hip
            assert walker.tendon_length0[walker.tendon(unit).id] == pytest.approx(
                full.tendon_length0[full.tendon(unit).id], abs=1e-6
            )
            assert arm(walker, unit, "Femur") == pytest.approx(arm(full, unit, "Femur"), abs=1e-6)
            # the importer's fit, from random postures of the trunk, too
            np.testing.assert_allclose(walker.actuator(unit).lengthrange, full.actuator(unit).lengthrange, rtol=0.01)
            assert walker.actuator(unit).gainprm[2] == full.actuator(unit).user[0]
        for head in ("Lateral", "Medial"):
            unit = f"{side}_Gastrocnemius_{head}_Head"
            soleus = arm(walker, f"{side}_Soleus", "Talus")
            assert soleus < -0.03 and arm(walker, unit, "Talus") == pytest.approx(soleus, rel=0.15)
            assert arm(source.asset, unit, "Talus") == 0
            # the knee is crossed about where it was
            knee = arm(source.asset, unit, "Tibia")
            assert knee > 0.02 and arm(walker, unit, "Tibia") == pytest.approx(knee, abs=2e-3)


def test_episodes_begin_with_elastic_tendons_at_rest():
    """Whatever the posture: fibres and tendons pull alike, as the step would have it at no velocity."""
    env = shac.make("walk_mtu", num_envs=3, seed=2)
    state = env.task.reset(5, torch.Generator().manual_seed(0), env.sim, True)
    assert state.qpos[:, 7:].std(0).max() > 0.1
    for rows in ([0, 1, 2], [3, 4, 4]):
        picked = State(*(x[rows] for x in state))
        still = picked._replace(qvel=torch.zeros_like(picked.qvel))
        data = env.sim.forward(still, torch.zeros(3, env.sim.model.nu, dtype=state.act.dtype))
        assert data.act_dot[:, env.sim.model.nu :].abs().max() < 1e-6


def test_feet_that_skim_the_floor_cost(env):
    """Where the soles' corners are and how fast they go, by MuJoCo; only what is within 2 cm of the floor counts."""
    task = models.load_task("walk_mtu", {**SOURCE, "slip": 2.0})
    plain, m = models.load_task("walk_mtu", SOURCE), task.asset
    rng = np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)
    state = plain.reset(6, generator, env.sim, True)
    state.qpos[:, 7:-1] += torch.tensor(rng.normal(scale=0.05, size=(6, m.nq - 8)))
    state.qvel[:] = torch.tensor(rng.normal(size=(6, m.nv)))
    expected, low = [], 0
    stands = mujoco.MjData(m)
    mujoco.mj_kinematics(m, stands)
    for row in range(6):
        d = mujoco.MjData(m)
        d.qpos, d.qvel = state.qpos[row].numpy(), state.qvel[row].numpy()
        mujoco.mj_normalizeQuat(m, d.qpos)
        state.qpos[row] = torch.tensor(d.qpos)
        # as low as it can come
        mujoco.mj_forward(m, d)
        corners = [[x.xpos[b] + x.xmat[b].reshape(3, 3) @ place for b, place in soles(m)] for x in (d, stands)]
        heights = np.subtract(*corners)[:, 2]
        drop = heights.min() + 0.005
        state.qpos[row, 2] -= drop
        total = 0.0
        for height, corner, (body, _) in zip(heights - drop, corners[0], soles(m), strict=True):
            jacobian = np.zeros((3, m.nv))
            mujoco.mj_jac(m, d, jacobian, None, corner, body)
            speed = math.sqrt(((jacobian @ d.qvel)[:2] ** 2).sum() + 1e-4)
            total += speed * min(max(1 - height / 0.02, 0), 1) ** 2 / 12
            low += height < 0.02
        expected.append(2.0 * total / (total + 0.5))
    assert 6 <= low < 6 * 24 and len(soles(m)) == 24
    action = torch.rand(6, 152, dtype=F64)
    costs = plain.reward(state, plain.observe(state, action), action) - task.reward(
        state, task.observe(state, action), action
    )
    np.testing.assert_allclose(costs.numpy(), expected, rtol=1e-9)


def test_feet_that_bear_more_than_the_weight_cost(env):
    """By the engine's own contact forces, at rest."""
    plain = dataclasses.replace(env.task, economy=0.0)
    task = dataclasses.replace(plain, load=3.0)
    state = env.sim.initial_state()
    # the right foot, the left one, both, both deeper; leaning to a side lowers one of them
    lean = torch.tensor([0.03, -0.03, 0.0, 0.0], dtype=F64)
    state.qpos[:, 3:7] = torch.stack([(lean / 2).cos(), (lean / 2).sin(), 0 * lean, 0 * lean], dim=1)
    state.qvel[:] = 0
    rest = torch.zeros(4, env.task.num_actions, dtype=F64)
    low, high = torch.full((4,), 0.9, dtype=F64), torch.full((4,), 1.1, dtype=F64)
    wanted = torch.tensor([1.2, 1.5, 1.0, 3.0], dtype=F64)
    weight = 9.81 * float(env.sim.model.body_mass.sum())
    feet = [[b for b, name in enumerate(env.sim.model.names["body"]) if name in names] for names in FEET]

    def loads():
        force = env.sim.forward(state, rest).xfrc_contact[..., 2] / weight
        return torch.stack([force[:, bodies].sum(1) for bodies in feet], dim=1)

    for _ in range(40):
        state.qpos[:, 2] = (low + high) / 2
        light = loads().sum(1) < wanted
        low, high = torch.where(light, low, state.qpos[:, 2]), torch.where(light, state.qpos[:, 2], high)
    found = loads()
    assert ((found > 1).sum(1) == torch.tensor([1, 1, 0, 2])).all()
    beyond = ((found - 1).clamp(min=0) / 0.3).square()
    cost = plain.reward(state, plain.observe(state, rest), rest) - task.reward(state, task.observe(state, rest), rest)
    torch.testing.assert_close(cost, 3 * (beyond / (1 + beyond)).sum(1), rtol=1e-6, atol=1e-9)


def test_pushes_change_the_velocity_of_the_pelvis_and_nothing_else():
    task = models.load_task("walk_mtu", {**SOURCE, "push": 0.5, "push_every": 2.0})
    assert models.load_task("walk_mtu").num_draws == 0 and task.num_draws == 3
    n = 60_000
    before = State(torch.rand(n, 3), torch.rand(n, 4), torch.rand(n, 2))
    after = task.perturb(before, torch.rand(n, 3, generator=torch.Generator().manual_seed(0)))
    kicks = after.qvel[:, :2] - before.qvel[:, :2]
    now = kicks.any(1)
    # 60 control steps a second
    assert now.double().mean().item() == pytest.approx(1 / 120, abs=0.001)
    assert 0.48 < kicks.abs().max() <= 0.5 + 1e-6 and kicks[now].mean(0).abs().max() < 0.05
    assert torch.equal(after.qvel[:, 2:], before.qvel[:, 2:]) and torch.equal(after.qpos, before.qpos)
    for settings in ({"push": "-1"}, {"push_every": "0"}):
        with pytest.raises(UserError, match="push"):
            models.load_task("walk_mtu", settings)


@pytest.fixture(scope="module")
def env():
    settings = {**SOURCE, "economy": 2.0, "ease": 6.0, "mended": True, "stride": 40.0}
    return shac.make("walk_mtu", num_envs=4, seed=1, **settings)


def test_speeds_are_fixed_or_drawn_for_each_episode(env):
    def drawn(task, stochastic=True):
        state = task.reset(500, torch.Generator().manual_seed(0), env.sim, stochastic)
        assert (state.qvel[:, -1] == 0).all() and state.qvel[:, :-1].any() == stochastic
        return state.qpos[:, -1]

    assert (drawn(models.load_task("walk_mtu", {"reference": None})) == 1.25).all()
    task = models.load_task("walk_mtu", {"reference": None, "speed": None, "fastest": 1.6})
    speeds = drawn(task)
    assert 0.7 <= speeds.min() < 0.72 and 1.58 < speeds.max() <= 1.6
    assert (drawn(task, False) - 1.15).abs().max() < 1e-9
    # it stays, and is seen
    before = env.state.qpos[:, -1].clone()
    obs, *_ = env.step(torch.zeros(4, 158, dtype=F64))
    assert torch.equal(env.state.qpos[:, -1], before) and torch.equal(obs[:, 11 + 22], before)


def test_episodes_begin_in_a_step_at_the_speed_wanted_on_flat_feet(env):
    """One thigh forward and the other back by up to 20 degrees each; no sole is in the floor, whatever is drawn."""
    task, generator = env.task, torch.Generator().manual_seed(0)
    state = task.reset(1000, generator, env.sim, True)
    m = task.asset
    d = mujoco.MjData(m)
    soles = np.flatnonzero((m.geom_type == mujoco.mjtGeom.mjGEOM_BOX) & (m.geom_conaffinity > 0))
    pitches = []
    for qpos in state.qpos.numpy():
        d.qpos = qpos
        mujoco.mj_kinematics(m, d)
        axes, size = d.geom_xmat[soles].reshape(-1, 3, 3), m.geom_size[soles]
        assert (d.geom_xpos[soles, 2] - (np.abs(axes[:, 2]) * size).sum(1)).min() > 0
        pelvis = d.body("Pelvis").xmat.reshape(3, 3)
        thighs, feet = ([pelvis.T @ d.body(f"{x}{s}").xmat.reshape(3, 3) for s in "RL"] for x in ("Femur", "Talus"))
        np.testing.assert_allclose(feet, [np.eye(3)] * 2, atol=1e-9)
        pitches.append([np.degrees(np.arctan2(-x[0, 2], x[2, 2])) for x in thighs])
    right, left = np.transpose(pitches)
    np.testing.assert_allclose(right, -left, atol=1e-9)
    assert -20 <= right.min() < -19.8 and 19.8 < right.max() <= 20
    assert abs(state.qvel[:, 0].mean() - 1.25) < 0.02
    # as they stand without
    plain = models.load_task("walk_mtu", SOURCE).reset(10, generator, env.sim, True)
    assert (plain.qpos[:, 7:-1] - env.sim.initial_state().qpos[:1, 7:-1]).abs().max() == 0


def test_on_stiffer_ground_feet_sink_in_less():
    soft, hard = (ts.load(models.load_task("walk_mtu", {**SOURCE, "ground": value}).asset) for value in (1.0, 4.0))
    for name in ("pair_ke", "pair_kf"):
        np.testing.assert_allclose(getattr(hard, name), 4 * getattr(soft, name), rtol=1e-12)


def test_the_reward_by_hand(env):
    task, sim = env.task, env.sim
    state = sim.initial_state()
    state.qpos[:, -1] = torch.tensor([1.25, 1.25, 0.8, 1.8])
    state.qvel[:, 0] = torch.tensor([1.25, 0.95, 1.3, 1.8])
    names = {name: sim.model.jnt_qposadr[k] for k, name in enumerate(sim.model.names["joint"])}
    # world 2: a knee 0.2 rad beyond its limit
    state.qpos[2, names["TibiaR"]] = 2.5
    # world 3: a knee 0.1 rad beyond its other one, an ankle bent to 1.2 rad of 1
    state.qpos[3, names["TibiaL"]] = -0.1
    state.qpos[3, names["TalusR"] : names["TalusR"] + 4] = torch.tensor([np.cos(0.6), 0, np.sin(0.6), 0])
    # world 0: the pelvis leans by 0.2 rad
    state.qpos[0, 3:7] = torch.tensor([np.cos(0.1), 0, np.sin(0.1), 0])
    action = torch.full((4, 158), -0.8, dtype=F64)
    state = state._replace(act=torch.full_like(state.act, 0.1))
    reward = task.reward(state, task.observe(state, action), action)
    power = task.power(state, action)
    # a tenth of all muscles' excitation: more than at rest, less than a person's greatest
    assert (power > 1.2).all() and (power < 15).all()
    tracking = torch.tensor([5, 5 / 1.36, 5 / 2, 5], dtype=F64)
    limits = torch.tensor([0, 0, 4 / 5, 5 / 6], dtype=F64)
    lean = 2 * (1 - np.cos(0.2)) / 0.04
    upright = torch.tensor([1 / (1 + lean**2), 1, 1, 1], dtype=F64)
    heading = torch.tensor([np.cos(0.2), 1, 1, 1], dtype=F64)
    # excitations are the activations, whose mean square is 0.01
    at_speed = torch.tensor([1, 1 / (1 + 0.36**2), 1 / 2, 1], dtype=F64)
    saved = at_speed * (6 / (1 + 1 / 16) + 2 / (1 + (power / 12).square()))
    expected = saved + tracking - 6 * 0.01 + upright + heading - 2 * limits
    torch.testing.assert_close(reward, expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(excess(task.asset, state.qpos).sum(1), [0, 0, 0.2, 0.3], atol=1e-6)


def test_effort_counts_by_the_muscles_volumes():
    """Of muscles as measured in people; of the source's, whose fibres are too long, all units count alike."""
    for anatomy in (True, False):
        settings = {"reference": None, "economy": 0.0, "anatomy": anatomy, "elastic": False}
        task = models.load_task("walk_mtu", settings)
        sim = task.simulator(task.num_actions)
        state = sim.initial_state()
        # it stands, as is wanted; in each world another muscle is active and remains so
        state = state._replace(act=0.3 * torch.eye(task.num_actions, dtype=F64))
        action = 2 * state.act - 1
        plain = dataclasses.replace(task, ease=0.0)
        earned = [x.reward(state, x.observe(state, action), action) for x in (task, plain)]
        volume = sim.model.muscle_force * sim.model.muscle_optimal_length
        share = torch.tensor(volume / volume.sum() if anatomy else np.full(len(volume), 1 / len(volume)))
        effort = 0.09 * share
        expected = 2 / (1 + (effort / 0.04).square())
        torch.testing.assert_close(earned[0] - earned[1], expected, rtol=1e-9, atol=1e-12)
        # and what they hold costs by itself
        spread = earned[1] - earned[1].mean()
        torch.testing.assert_close(spread, -6 * (effort - effort.mean()), rtol=0, atol=1e-9)


def test_the_rewards_gradient_is_that_of_central_differences(env):
    task, rng = env.task, torch.Generator().manual_seed(3)
    state = State(*(x + 0.05 * torch.randn(x.shape, generator=rng, dtype=F64) for x in env.sim.initial_state()))
    state = state._replace(act=0.3 + state.act)
    action = torch.rand(4, 158, generator=rng, dtype=F64) - 0.5
    ways = [torch.randn(x.shape, generator=rng, dtype=F64) for x in (*state, action)]

    def earned(step):
        moved = [x + step * way for x, way in zip((*state, action), ways)]
        now = State(*moved[:3])
        return task.reward(now, task.observe(now, moved[3]), moved[3])

    step = torch.zeros((), dtype=F64, requires_grad=True)
    for world in range(4):
        (slope,) = torch.autograd.grad(earned(step)[world], step)
        difference = (earned(1e-6)[world] - earned(-1e-6)[world]) / 2e-6
        assert slope.item() == pytest.approx(difference.item(), rel=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"speed": "0"},
        {"speed": "none", "slowest": "2"},
        {"strength": "0"},
        {"ground": "0"},
        {"damping": "2"},
        {"stride": "41"},
    ],
)
def test_settings_that_make_no_walk_are_refused(settings):
    with pytest.raises(UserError, match="WalkMTU: (speeds|strength|stride)"):
        models.load_task("walk_mtu", settings)


def test_its_mirror_image_moves_like_one(env):
    """Two worlds and their images: bodies stand opposite each other, and a step and what it earns are images again."""
    task, rule = env.task, env.task.mirror()
    twice = torch.tensor(rule.obs_index)[torch.tensor(rule.obs_index)]
    assert twice.tolist() == list(range(task.num_obs))
    image, back = Exchange(rule.obs_index, rule.obs_signs).double(), Exchange(rule.action_index, rule.action_signs)
    generator = torch.Generator().manual_seed(3)
    state = task.reset(4, generator, env.sim)
    # upright enough to stand on its feet, each joint elsewhere
    state.qpos[:, 7:-1] += 0.05 * torch.randn(4, 22, generator=generator, dtype=F64)
    state.qpos[:, 2] = 0.95
    state = state._replace(act=torch.rand(4, 158, generator=generator, dtype=F64))
    ctrl = torch.rand(4, 158, generator=generator, dtype=F64)

    def opposite(state):
        seen = image(task.posture(state))
        nq = state.qpos.shape[1]
        place = state.qpos[:, :2] * torch.tensor([1.0, -1.0])
        qpos = torch.cat((place, seen[:, :5], seen[:, 11 : nq + 4]), dim=1)
        velocities = seen[:, nq + 4 : -2] / JOINT_VELOCITY_SCALE
        # a free joint turns about the torso's axes
        turning = state.qvel[:, 3:6] * torch.tensor([-1.0, 1.0, -1.0])
        return State(qpos, torch.cat((seen[:, 5:8], turning, velocities), dim=1), back(state.act))

    both = State(*(torch.cat((x[:2], y[:2])) for x, y in zip(state, opposite(state), strict=True)))
    both_ctrl = torch.cat((ctrl[:2], back(ctrl)[:2]))
    found = env.sim.forward(both, both_ctrl)
    names = [task.asset.body(b).name for b in range(task.asset.nbody)]
    across = [names.index(name[:-1] + {"R": "L", "L": "R"}[name[-1]] if name[-1] in "RL" else name) for name in names]
    places = found.xpos[:2][:, across] * torch.tensor([1.0, -1.0, 1.0])
    # the source's figures are those of a mirror image to some micrometres
    torch.testing.assert_close(found.xpos[2:], places, rtol=0, atol=2e-5)
    assert found.xfrc_contact[:2, :, 2].abs().sum() > 100
    after = env.sim.step(both, both_ctrl)
    wanted = opposite(after)
    for x, y in zip(after, wanted, strict=True):
        torch.testing.assert_close(x[2:], y[:2], rtol=1e-3, atol=1e-3)


def test_a_motion_that_is_its_own_image_half_a_cycle_later_keeps_left_from_right():
    task = models.load_task("walk_mtu")
    rule, bare = task.mirror(), models.load_task("walk_mtu", {"reference": None}).mirror()
    assert rule.obs_index == (*bare.obs_index, 55, 56) and rule.obs_signs == (*bare.obs_signs, -1, -1)
    assert rule[2:] == bare[2:]
    qpos, qvel = task.rows(F64, torch.device("cpu"))
    state = State(qpos.clone(), qvel, torch.zeros(len(qpos), 152, dtype=F64))
    state.qpos[:, -1] = task.motion.duration * torch.arange(len(qpos)) / len(qpos)
    seen = task.observe(state, torch.zeros_like(state.act))
    image = Exchange(rule.obs_index, rule.obs_signs).double()(seen)
    torch.testing.assert_close(image, seen.roll(len(seen) // 2, 0), rtol=0, atol=0.01)
    # the other walk limps, and one that is no cycle has no half of it
    limp = Path(__file__).parents[2] / "docs" / "walk.mot"
    assert models.load_task("walk_mtu", {"reference": str(limp)}).mirror() is None
    assert models.load_task("walk_mtu", {"cyclic": "false"}).mirror() is None


def test_a_symmetric_actor_does_the_image_of_what_it_does(env):
    config = resolve(env.task, "shac", {"symmetric": True, "actor_units": (8,)})
    actor = build_actor(env.task, config).double()
    obs = torch.randn(5, env.task.num_obs, dtype=F64)
    assert torch.allclose(actor(actor.image(obs)), actor.back(actor(obs)), atol=1e-12)
    assert not torch.allclose(actor(obs), actor.back(actor(obs)), atol=1e-3)
    with pytest.raises(UserError, match="CartPole.mirror does not say"):
        build_actor(models.load_task("cartpole"), config)
