"""Variants of a policy side by side, against the learner's own rollout and loss, one policy at a time."""

import copy

import pytest
import torch
from cartpole_double import CartPoleDouble, CartPoleOnDouble

from shac import seeding
from shac.algos.shac import SHAC
from shac.figures.losses.directions import filter_normalised, one_weight
from shac.figures.losses.variants import CommonEnv, Landscape
from shac.runs.config import resolve

POINTS = torch.tensor([[0.0, 0.0], [0.3, -0.1], [-0.7, 0.0], [0.0, 1.0], [0.3, -0.1]], dtype=torch.float64)


class Smooth(CartPoleOnDouble):
    """In float64; a window of 8 steps meets a time limit, and no failure, where the loss would jump."""

    episode_length = 5

    def simulator(self, num_envs, device=None):
        return CartPoleDouble(num_envs, dtype=torch.float64)


class Failing(Smooth):
    """Whether and when a world fails depends on the policy."""

    def terminated(self, state, obs):
        return obs[:, 1].abs() > 0.5


def learner(task, **settings):
    torch.set_num_threads(1)
    small = {"num_envs": 4, "horizon": 8, "actor_units": (8,), "critic_units": (8,), "stagger": False}
    made = SHAC(task, resolve(task, "shac", {**small, "normalize_obs": True, **settings}))
    # An update makes the normaliser's map other than the identity, and leaves worlds amid their episodes.
    made.train_epoch()
    made.env.cut()
    return made


def two_directions(actor):
    generator = torch.Generator().manual_seed(1)
    return [one_weight(actor, generator)[1], filter_normalised(actor, generator)]


def moved(shac, directions, point):
    """A learner whose actor is moved, about to draw the noise of figures."""
    other = copy.deepcopy(shac)
    with torch.no_grad():
        for along, direction in zip(point, directions):
            for name, step in direction.items():
                other.actor.get_parameter(name).add_(along * step)
    other.exploration.set_state(seeding.generator(shac.config.seed, "figures").get_state())
    return other


@pytest.mark.parametrize("critic", [True, False])
@pytest.mark.parametrize("task", [Smooth, Failing])
def test_losses_are_the_learners_of_actors_moved_one_by_one(task, critic):
    # Without a spread a world's next episode begins the same, whichever others begin with it.
    shac = learner(task(), stochastic_init=False)
    directions = two_directions(shac.actor)
    found = Landscape(shac, 4, worlds=8).losses(directions, POINTS, 8, critic=critic)
    normalize = shac.normalizer.snapshot(torch.float64)
    failures = 0
    for point, loss in zip(POINTS, found.tolist()):
        other = moved(shac, directions, point)
        window = other.rollout(normalize)
        failures += window.terminated.sum().item()
        if not critic:
            other.critic = None
        assert loss == pytest.approx(other.actor_loss(window, normalize).item(), rel=1e-12)
    assert window.ended.any() and (failures > 0) == (task is Failing)


def test_horizon_is_the_callers():
    shac = learner(Smooth(), stochastic_init=False)
    directions = two_directions(shac.actor)
    other = moved(shac, directions, POINTS[1])
    other.config = resolve(Smooth(), "shac", {"num_envs": 4, "horizon": 20})
    other.critic = None
    normalize = shac.normalizer.snapshot(torch.float64)
    expected = other.actor_loss(other.rollout(normalize), normalize).item()
    found = Landscape(shac, 4).losses(directions, POINTS[1:2], 20, critic=False)
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_random_numbers_are_common_to_variants_wherever_they_are_simulated():
    shac = learner(Failing())
    directions = two_directions(shac.actor)
    apart = Landscape(shac, 6, worlds=6).losses(directions, POINTS, 20, critic=True)
    together = Landscape(shac, 6, worlds=18).losses(directions, POINTS, 20, critic=True)
    torch.testing.assert_close(apart, together, rtol=1e-12, atol=0)
    assert together[1] == together[4]
    assert len(set(together.tolist())) == 4


def test_an_episode_begins_the_same_in_all_blocks_whenever_it_begins():
    env = CommonEnv(Failing(), 2, 3)
    saved = env.state_dict()
    drawn = env.task.reset(3, torch.Generator().set_state(saved["generator"]), env.sim)
    env.begin_at(saved)
    world = torch.arange(6)
    # World 1's first new episode in one block long before the other's.
    env.reset(world == 1)
    assert torch.equal(env.state.qpos[1], drawn.qpos[1])
    env.reset((world == 2) | (world == 5))
    first = env.state.qpos[1].clone()
    env.reset(world == 4)
    assert torch.equal(env.state.qpos[4], first)
    assert torch.equal(env.state.qpos[2], env.state.qpos[5])
    env.reset(world == 4)
    assert not torch.equal(env.state.qpos[4], first)
    assert not torch.equal(env.state.qpos[1], env.state.qpos[2])


def test_more_trajectories_than_worlds_share_their_states_but_not_the_noise():
    shac = learner(Smooth())
    landscape = Landscape(shac, 8, worlds=16)
    landscape.env.begin_at(landscape.begin)
    qpos = landscape.env.state.qpos
    assert torch.equal(qpos, shac.env.state.qpos.detach().repeat(4, 1))
    landscape.losses(two_directions(shac.actor), POINTS[:2], 3, critic=False)
    assert not torch.isclose(landscape.env.state.qvel[:4], landscape.env.state.qvel[4:8]).any()


@pytest.mark.parametrize("critic", [True, False])
def test_gradients_equal_finite_differences(critic):
    shac = learner(Smooth())
    directions = two_directions(shac.actor)
    landscape = Landscape(shac, 4, worlds=8)
    points = POINTS[:3]
    gradients = landscape.gradients(directions, points, 8, critic=critic)
    assert gradients.shape == (3, 2)
    h = 1e-5
    for column in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[column] = h
        ahead, behind = (landscape.losses(directions, points + s * step, 8, critic=critic) for s in (1, -1))
        torch.testing.assert_close(gradients[:, column], (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-9)
