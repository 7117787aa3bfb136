"""Gymnasium's bodies: steps, rewards and failures beside Gymnasium's own environments."""

import gymnasium
import numpy as np
import pytest
import torch

from shac.errors import UserError
from shac.models import load_task
from shac.models._locomotion import PlanarRunner
from taichi_sim.types import State

VERSIONS = {
    "gym_hopper": "Hopper-v5",
    "gym_walker2d": "Walker2d-v5",
    "gym_halfcheetah": "HalfCheetah-v5",
    "gym_ant": "Ant-v5",
    "gym_humanoid": "Humanoid-v5",
}


@pytest.fixture(params=VERSIONS)
def pair(request):
    free = {"contact_cost_weight": 0.0} if request.param in ("gym_ant", "gym_humanoid") else {}
    return load_task(request.param), gymnasium.make(VERSIONS[request.param], **free).unwrapped


def test_controls_and_steps_are_gymnasiums(pair):
    task, env = pair
    assert task.control_timestep == pytest.approx(env.dt)
    ends = task.control(torch.tensor([[-1.0], [1.0]], dtype=torch.float64).expand(2, task.num_actions)).numpy()
    np.testing.assert_allclose(ends, [env.action_space.low, env.action_space.high], rtol=1e-6)
    assert gymnasium.spec(env.spec.id).max_episode_steps == task.episode_length


def test_rewards_and_failures_are_gymnasiums(pair):
    task, env = pair
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    failed = set()
    for height in (0.0, -0.4, -0.8, 0.5, 1.5):
        qpos, qvel = env.init_qpos.copy(), np.zeros(env.model.nv)
        qpos[1 if isinstance(task, PlanarRunner) else 2] += height
        qvel[0] = 0.7
        env.set_state(qpos, qvel)
        rows = (env.data.qpos, env.data.qvel, np.zeros(0))
        state = State(*(torch.tensor(row, dtype=torch.float64)[None].clone() for row in rows))
        action = torch.tensor(rng.uniform(-1, 1, (1, task.num_actions)))
        obs = task.observe(state, action)
        ctrl = task.control(action)[0].numpy()
        # which the humanoid's cost is of
        env.data.ctrl[:] = ctrl
        healthy = getattr(env, "is_healthy", True)
        failed.add(not healthy)
        assert bool(task.terminated(state, obs)) == (not healthy)
        # Gymnasium's weight of the mean velocity; a failing step earns as any other, it is the last one
        expected = 0.7 * env._forward_reward_weight + getattr(env, "_healthy_reward", 0.0) - env.control_cost(ctrl)
        assert task.reward(state, obs, action).item() == pytest.approx(expected, rel=1e-6)
    assert failed == ({False} if task.file == "half_cheetah.xml" else {False, True})


def test_the_papers_rewards_are_those_of_its_bodies():
    """Hopper's heights count from where it stands."""
    ours, paper = load_task("gym_hopper", {"rewards": "paper"}), load_task("hopper")
    torch.manual_seed(0)
    qpos, qvel, action = torch.randn(8, 6), torch.randn(8, 6), torch.randn(8, 3)
    raised = torch.cat((qpos[:, :1], qpos[:, 1:2] + 1.25, qpos[:, 2:]), 1)
    states = [State(q, qvel, qvel[:, :0]) for q in (raised, qpos)]
    found = [
        (task.reward(s, task.observe(s, action), action), task.terminated(s, task.observe(s, action)))
        for task, s in zip((ours, paper), states)
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-4)


def test_without_gymnasium_the_cure_is_said(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"taichi-sim\[bodies\]"):
        load_task("gym_ant").simulator(1)
