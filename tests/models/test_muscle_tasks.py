"""The running problems with muscles against Xu et al. 2022: what is seen, earned and drawn. No simulator is needed."""

import math
from importlib import resources
from types import SimpleNamespace

import mujoco
import numpy as np
import pytest
import torch

from shac import models
from shac.runs import config
from taichi_sim.types import State

F64 = torch.float64
# Positions and velocities of the joints, and units.
SIZES = {"humanoid_mtu": (22, 18, 152), "humanoid_mtu_full": (64, 50, 284)}


@pytest.fixture(scope="module", params=SIZES)
def problem(request):
    """A task, and its model in MuJoCo."""
    task = models.load_task(request.param)
    asset = resources.files("taichi_sim.assets") / f"{task.asset}.xml"
    return task, mujoco.MjModel.from_xml_string(asset.read_text(encoding="utf-8"))


def start(task, m, num: int = 1, stochastic: bool = False) -> State:
    rest = State(torch.tensor(m.qpos0)[None], torch.zeros(1, m.nv, dtype=F64), torch.zeros(1, m.na, dtype=F64))
    # the bodies' tendons are rigid: any state is in equilibrium
    rigid = SimpleNamespace(muscle_tendonadr=np.full(m.nu, -1))
    sim = SimpleNamespace(initial_state=lambda: rest, model=rigid)
    sim.dtype, sim.device, sim.num_worlds = F64, torch.get_default_device(), num
    return task.reset(num, torch.Generator().manual_seed(0), sim, stochastic)


def test_the_pelvis_and_the_joints_are_observed_and_nothing_else(problem):
    task, m = problem
    positions, velocities, units = SIZES[task.asset]
    assert (task.num_obs, task.num_actions) == (13 + positions + velocities, units)
    d = mujoco.MjData(m)
    rng = np.random.default_rng(1)
    d.qpos[:], d.qvel[:] = rng.normal(size=m.nq), rng.normal(size=m.nv)
    mujoco.mj_normalizeQuat(m, d.qpos)
    mujoco.mj_forward(m, d)
    velocity = np.empty(6)
    mujoco.mj_objectVelocity(m, d, mujoco.mjtObj.mjOBJ_XBODY, m.body("Pelvis").id, velocity, 0)
    forward, up = d.body("Pelvis").xmat.reshape(3, 3)[:, [0, 2]].T
    # the target is 10 km away along x
    to_target = np.array([1e4, 0]) - d.qpos[:2]
    heading = forward[:2] @ to_target / np.linalg.norm(to_target)
    expected = np.concatenate(
        (d.qpos[2:7], velocity[3:], velocity[:3], d.qpos[7:], 0.1 * d.qvel[6:], (up[2], heading)),
    )
    state = State(torch.tensor(d.qpos)[None], torch.tensor(d.qvel)[None], torch.rand(1, m.na, dtype=F64))
    (obs,) = task.observe(state, torch.rand(1, units, dtype=F64))
    np.testing.assert_allclose(obs.numpy(), expected, atol=1e-12)


def test_actions_are_excitations_and_cost_their_sum(problem):
    task, m = problem
    action = torch.tensor([-1.0, 0.0, 0.5, 1.0], dtype=F64)
    assert task.control(action).tolist() == [0, 0.5, 0.75, 1]
    state = start(task, m)
    state.qvel[0, :2] = torch.tensor([3.0, 7.0])
    for scalar in (-1.0, 0.0, 1.0):
        action = torch.full((1, task.num_actions), scalar, dtype=F64)
        (reward,) = task.reward(state, task.observe(state, action), action)
        # forward velocity, 0.1 up, heading; excitations cost 0.001 each
        assert reward.item() == pytest.approx(3 + 0.1 + 1 - 0.001 * task.num_actions * (scalar + 1) / 2)
    # height earns nothing
    lifted = state._replace(qpos=state.qpos + torch.tensor([0.0, 0, 0.3] + [0.0] * (m.nq - 3), dtype=F64))
    assert task.reward(lifted, task.observe(lifted, action), action).item() == pytest.approx(reward.item())


def lowest_of_the_soles(m, d, qpos) -> float:
    """Height of the feet's lowest point above the floor [m]; leaves `d` at these positions."""
    d.qpos[:] = qpos
    mujoco.mj_forward(m, d)
    feet = [m.geom(part + side).id for part in ("Talus", "FootThumb", "FootPinky") for side in "RL"]
    return (d.geom_xpos[feet, 2] - (np.abs(d.geom_xmat[feet, 6:]) * m.geom_size[feet]).sum(1)).min()


def test_an_episode_fails_with_the_pelvis_below_the_papers_height(problem):
    task, m = problem
    state = start(task, m, 2)
    state.qpos[:, 2] = torch.tensor([0.46 - 1e-6, 0.46 + 1e-6])
    assert task.terminated(state, task.observe(state, torch.zeros(2, task.num_actions))).tolist() == [True, False]


def test_episodes_begin_upright_with_muscles_in_equilibrium_with_no_action(problem):
    task, m = problem
    state = start(task, m)
    assert state.qpos[0, :7].tolist() == [0, 0, 1.0, 1, 0, 0, 0]
    assert (state.qvel == 0).all()
    torch.testing.assert_close(state.act, task.control(torch.zeros(1, task.num_actions, dtype=F64)))
    d = mujoco.MjData(m)
    assert 0.02 < lowest_of_the_soles(m, d, state.qpos[0]) < 0.04
    if task.asset == "humanoid_mtu_full":
        for side in "RL":
            hand = d.body("Hand" + side).xpos - d.body("Arm" + side).xpos
            assert hand[2] < -0.5 and abs(hand[0]) < 0.2, "the arms hang"
    else:
        np.testing.assert_array_equal(d.qpos[7:], m.qpos0[7:])


def test_initial_states_are_spread_as_in_the_paper(problem):
    """The pelvis' position by 0.1 m, its tilt by 7.5 degrees, velocities by 0.25; joints not at all.

    But no foot begins inside the floor: what would be lower than 0.985 m is lifted to that.
    """
    task, m = problem
    num = 2000
    state, nominal = start(task, m, num, stochastic=True), start(task, m)
    assert torch.equal(state.qpos[:, 7:], nominal.qpos[:, 7:].expand(num, -1))
    assert torch.equal(state.act, nominal.act.expand(num, -1))
    angle = 2 * torch.atan2(state.qpos[:, 4:7].norm(dim=1), state.qpos[:, 3])
    assert angle.max() <= math.pi / 24 and angle.mean().item() == pytest.approx(math.pi / 48, rel=0.05)
    d, height = mujoco.MjData(m), state.qpos[:, 2]
    assert min(lowest_of_the_soles(m, d, qpos) for qpos in state.qpos[:500]) > 0
    lifted = height == height.min()
    assert lifted.double().mean().item() == pytest.approx(0.085 / 0.2, abs=0.03)
    assert height[~lifted].mean().item() == pytest.approx(1 + (0.1 - 0.015) / 2, abs=3e-3) and height.max() <= 1.1
    for offset, widest in (((state.qpos - nominal.qpos)[:, :2], 0.1), (state.qvel, 0.25)):
        assert offset.abs().max() <= widest
        torch.testing.assert_close(
            offset.std(0), torch.full_like(offset[0], 2 * widest / math.sqrt(12)), rtol=0.06, atol=0
        )
        assert (offset.mean(0).abs() < 0.08 * widest).all()


def test_observations_and_rewards_are_differentiable(problem):
    task, m = problem
    state = start(task, m, 2, stochastic=True)
    action = torch.full((2, task.num_actions), 0.1, dtype=F64, requires_grad=True)

    def observed_and_earned(qpos, qvel, action):
        obs = task.observe(State(qpos, qvel, state.act), action)
        return obs, task.reward(State(qpos, qvel, state.act), obs, action)

    inputs = (state.qpos.requires_grad_(), state.qvel.requires_grad_(), action)
    assert torch.autograd.gradcheck(observed_and_earned, inputs, fast_mode=True)


def test_sizes_and_the_critics_first_rate_are_the_papers(problem):
    task, _ = problem
    settings = config.resolve(task, "shac")
    assert (settings.num_envs, settings.horizon) == (64, 32)
    assert (settings.actor_units, settings.critic_units) == ((512, 256), (256, 256))
    # The paper's rate of the actor is one for Adam.
    assert settings.actor_optimizer == "muon"
    assert (settings.critic_lr, settings.target_alpha) == (5e-4, 0.995)
    assert config.resolve(task, "bptt").num_envs == 16
