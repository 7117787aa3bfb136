"""What a policy sees of the past: through steps and resets, its gradient, and what cannot be learnt without."""

import copy

import pytest
import torch
from cartpole_double import CartPoleDouble, CartPoleOnDouble
from toy import Line, LineSim

from shac.algos.networks import Policy
from shac.algos.shac import SHAC
from shac.env import Env
from shac.errors import UserError
from shac.mirror import Mirror
from shac.models import load_task, make_task
from shac.runs.checkpoint import load_run
from shac.runs.config import resolve
from shac.runs.evaluate import begin, evaluate, play
from shac.runs.runner import start
from taichi_sim.types import State

F64 = torch.float64


class Blind(CartPoleOnDouble):
    """A pole to be balanced whose velocities are not seen, in float64."""

    num_obs = 3
    episode_length = 120

    def simulator(self, num_envs, device=None):
        return CartPoleDouble(num_envs, dtype=F64, substeps=2)

    def observe(self, state, action):
        return super().observe(state, action)[:, [0, 2, 3]]

    def reward(self, state, obs, action):
        return super().reward(state, super().observe(state, action), action)

    def reset(self, num, generator, sim, stochastic=True):
        state = super().reset(num, generator, sim, stochastic)
        return state._replace(qpos=0.2 * (state.qpos + torch.tensor([0.0, torch.pi])))


def remembering(task, history):
    task.history = history
    return task


def test_observations_follow_each_other_and_an_episode_begins_with_its_first_one():
    env = Env(remembering(Line(), 3), 2)
    # world i begins at x = i; an observation is x and the last action
    assert env.obs.tolist() == [[0, 0] * 3, [1, 0] * 3]
    ones = torch.full((2, 1), 0.5, dtype=F64)
    obs, *_ = env.step(ones)
    assert obs.tolist() == [[0.5, 0.5, 0, 0, 0, 0], [1.5, 0.5, 1, 0, 1, 0]]
    obs, _, terminated, _, info = env.step(ones)
    assert terminated.tolist() == [False, True]
    # what the step led to has its past; the next episode's beginning has none
    assert info["final_obs"][1].tolist() == [2, 0.5, 1.5, 0.5, 1, 0]
    assert obs.tolist() == [[1, 0.5, 0.5, 0.5, 0, 0], [0, 0] * 3]
    obs, *_ = env.step(ones)
    assert obs[1].tolist() == [0.5, 0.5, 0, 0, 0, 0]
    # as does a reset by a mask
    assert env.reset(torch.tensor([False, True]))[1].tolist() == [0, 0] * 3


def learner(history, **settings):
    small = {"num_envs": 8, "horizon": 6, "max_epochs": 20, "actor_units": (8,), "critic_units": (8,)}
    task = remembering(Blind(), history)
    return SHAC(task, resolve(task, "shac", {**small, **settings}))


def test_the_gradient_flows_through_what_is_remembered():
    """Of the actor's loss, whose actions and value are of stacks, against central differences."""
    shac = learner(3)
    normalize = shac.normalizer.snapshot(F64)
    begin, noise = shac.env.state_dict(), shac.exploration.get_state()
    shac.actor.double(), shac.target_critic.double()

    def loss():
        shac.env.load_state_dict(begin)
        shac.exploration.set_state(noise)
        return shac.actor_loss(shac.rollout(normalize), normalize)

    parameters = list(shac.actor.parameters())
    gradients = torch.autograd.grad(loss(), parameters)
    ways = [
        torch.randn(p.shape, generator=torch.Generator().manual_seed(i), dtype=F64) for i, p in enumerate(parameters)
    ]
    slope = sum((gradient * way).sum() for gradient, way in zip(gradients, ways))

    @torch.no_grad()
    def moved(step):
        for parameter, way in zip(parameters, ways):
            parameter += step * way
        value = loss()
        for parameter, way in zip(parameters, ways):
            parameter -= step * way
        return value

    difference = (moved(1e-6) - moved(-1e-6)) / 2e-6
    assert slope.item() == pytest.approx(difference.item(), rel=1e-6)
    # the first layer weighs all of the past, and each has its share of the gradient
    (first,) = [gradient for parameter, gradient in zip(parameters, gradients) if parameter.shape == (8, 9)]
    assert all(part.abs().max() > 0 for part in first.split(3, dim=1))


def test_a_restored_learner_remembers_what_was_seen():
    a, b = learner(4), learner(4)
    for _ in range(3):
        a.train_epoch()
    b.load_state_dict(copy.deepcopy(a.state_dict()))
    assert torch.equal(a.env.obs, b.env.obs) and a.env.obs.shape == (8, 12)
    for _ in range(2):
        assert a.train_epoch().actor_loss == b.train_epoch().actor_loss
    assert torch.equal(a.env.obs, b.env.obs)


class Puck(Line):
    """A puck without friction that is to be held at 0: its position is seen, its velocity is not."""

    episode_length = 40
    num_obs = 1
    presets = {}

    def simulator(self, num_envs, device=None):
        sim = LineSim(num_envs)
        sim.step = lambda state, ctrl: State(
            state.qpos + 0.25 * (state.qvel + 0.5 * ctrl), state.qvel + 0.5 * ctrl, state.act
        )
        return sim

    def observe(self, state, action):
        return state.qpos.clone()

    def reward(self, state, obs, action):
        return -obs[:, 0].square()

    def terminated(self, state, obs):
        return obs[:, 0].abs() > 20

    def reset(self, num, generator, sim, stochastic=True):
        state = self.nominal(num, sim)
        draw = 2 * torch.rand(num, 2, generator=generator, dtype=sim.dtype) - 1
        return state._replace(qpos=draw[:, :1], qvel=draw[:, 1:])


def test_velocities_that_are_not_seen_are_learnt_from_the_past():
    """Without friction, no force that follows from the position alone ever stops a puck."""
    late = {}
    for history in (1, 3):
        task = remembering(Puck(), history)
        settings = {"num_envs": 32, "horizon": 20, "max_epochs": 60, "actor_units": (16,), "critic_units": (16,)}
        shac = SHAC(task, resolve(task, "shac", {**settings, "actor_lr": 2e-2, "normalize_obs": False}))
        for _ in range(60):
            shac.train_epoch()
        policy = Policy(shac.policy, shac.normalizer.snapshot(F64))
        steps = list(play(begin(task, 64), policy))
        late[history] = torch.stack([step.state.qpos for step in steps[20:]]).abs().mean().item()
    print(late)
    assert late[3] < 0.05 and late[1] > 0.3


def test_every_task_has_the_setting_and_a_run_keeps_it(tmp_path):
    task = load_task("cartpole", {"history": "3"})
    assert task.num_inputs == 15 and task.settings() == {"history": 3}
    assert load_task("cartpole").settings() == {}
    with pytest.raises(UserError, match="history must be a whole number from 1 up"):
        make_task(Blind, {"history": 0})
    file = tmp_path / "blind.py"
    file.write_text("from test_history import Blind\nclass Mine(Blind):\n    pass\n")
    small = {"num_envs": 4, "horizon": 4, "max_epochs": 2, "actor_units": (4,), "critic_units": (4,)}
    start(
        resolve(make_task(Blind, {"history": 2}), "shac", {**small, "model": str(file)}), tmp_path / "run", quiet=True
    )
    task, policy, config = load_run(tmp_path / "run")
    assert task.history == 2 and config.task == {"history": 2}
    assert evaluate(task, policy, 4).returns.isfinite().all()


def test_mirrored_observations_are_mirrored_one_by_one():
    mirror = Mirror((1, 0, 2), (1.0, 1.0, -1.0), (0,), (-1.0,)).repeated(2)
    assert mirror.obs_index == (1, 0, 2, 4, 3, 5) and mirror.obs_signs == (1, 1, -1) * 2
    assert mirror.action_index == (0,)
