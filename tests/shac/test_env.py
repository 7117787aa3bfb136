import math

import gymnasium
import numpy as np
import pytest
import torch
from cartpole_double import CartPoleDouble, CartPoleOnDouble
from gymnasium.utils import env_checker
from gymnasium.vector import AutoresetMode
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from toy import Line, LineSim

import shac
from shac import models
from shac.algos.episodes import Episodes
from shac.env import Env
from shac.errors import UserError
from shac.gym_env import GymEnv
from shac.models.cartpole import CartPole
from shac.runs.config import resolve
from taichi_sim.types import State

HALF = torch.full((2, 1), 0.5, dtype=torch.float64)


def test_episodes_end_and_begin_in_the_same_step():
    env = shac.Env(Line(), 2)
    assert env.reset()[:, 0].tolist() == [0, 1]
    steps = [env.step(HALF) for _ in range(4)]
    # World 0 reaches the time limit in step 2 at x = 1.5, world 1 fails in step 1 at x = 2; both begin again at 0.
    assert [s[0][:, 0].tolist() for s in steps] == [[0.5, 1.5], [1.0, 0.0], [0.0, 0.5], [0.5, 1.0]]
    assert [s[1].tolist() for s in steps] == [[0.5, 1.5], [1.0, 2.0], [1.5, 0.5], [0.5, 1.0]]
    assert [s[2].tolist() for s in steps] == [[False, False], [False, True], [False, False], [False, False]]
    assert [s[3].tolist() for s in steps] == [[False, False], [False, False], [True, False], [False, False]]
    assert [s[4]["final_obs"][:, 0].tolist() for s in steps] == [[0.5, 1.5], [1.0, 2.0], [1.5, 0.5], [0.5, 1.0]]
    # The last action is part of the observation, and there is none when an episode begins.
    assert steps[1][0][:, 1].tolist() == [0.5, 0.0]


def test_gradient_flows_through_worlds_that_go_on_and_stops_at_resets_and_cuts():
    env = shac.Env(Line(), 2)
    first = HALF.clone().requires_grad_()
    env.step(first)
    _, reward, _, _, info = env.step(HALF)
    assert torch.autograd.grad(reward.sum(), first, retain_graph=True)[0].flatten().tolist() == [1, 1]
    assert torch.autograd.grad(info["final_obs"][:, 0].sum(), first, retain_graph=True)[0].flatten().tolist() == [1, 1]
    # World 1 has begun a new episode.
    obs, reward, *_ = env.step(HALF)
    assert torch.autograd.grad(reward.sum(), first, retain_graph=True)[0].flatten().tolist() == [1, 0]
    assert not env.cut().requires_grad
    assert not env.step(HALF)[1].requires_grad


class Stretching(Line):
    """World i's x is multiplied by `factors[i]` before an action is added; no episode fails."""

    failure, episode_length = torch.inf, 100
    factors = torch.tensor([1.0, 1.5, 2.0, 3.0, 50.0], dtype=torch.float64)

    def simulator(self, num_envs, device=None):
        sim, factors = LineSim(num_envs), self.factors[:, None]
        sim.step = lambda state, ctrl: State(factors * state.qpos + ctrl, ctrl, state.act)
        return sim


def gradients(bound, rewarded=slice(None), steps=3):
    """Of the worlds' rewards in the actions, (steps, 5)."""
    env = Env(Stretching(), 5)
    env.adjoint_bound = bound
    actions = [torch.zeros(5, 1, dtype=torch.float64, requires_grad=True) for _ in range(steps)]
    sum(env.step(action)[1][rewarded].sum() for action in actions).backward()
    return torch.stack([action.grad[:, 0] for action in actions])


@pytest.mark.parametrize("bound", [1.0, 1.4, 20.0])
def test_no_world_has_more_of_what_flows_back_than_its_bound(bound):
    expected, back = [], torch.zeros(5, dtype=torch.float64)
    for _ in range(3):
        back = torch.minimum(back + 1, bound * (back + 1).sort().values[2])
        expected.insert(0, back)
        back = Stretching.factors * back
    torch.testing.assert_close(gradients(bound), torch.stack(expected), rtol=1e-12, atol=0)
    # the bound holds somewhere, and not everywhere
    assert ((gradients(bound) != gradients(None)).sum(1) < 5).all()
    assert (gradients(bound) != gradients(None)).any()


def test_worlds_to_which_nothing_flows_back_do_not_count_for_the_bound():
    assert torch.equal(gradients(1.0, [4]), gradients(None, [4]))


def test_actions_are_clipped():
    env = shac.Env(Line(), 2)
    obs, *_ = env.step(torch.tensor([[-5.0], [0.25]], dtype=torch.float64))
    assert obs[:, 0].tolist() == [-1.0, 1.25]


def test_only_the_worlds_of_a_mask_are_reset():
    env = shac.Env(Line(), 2)
    env.step(HALF)
    assert env.reset(torch.tensor([True, False]))[:, 0].tolist() == [0.0, 1.5]
    truncated = [env.step(-HALF)[3].tolist() for _ in range(3)]
    assert truncated == [[False, False], [False, True], [True, False]]


def test_a_saved_environment_goes_on_exactly():
    env = shac.Env(CartPoleOnDouble(), 4, seed=3)
    actions = torch.rand(500, 4, 1, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for action in actions[:100]:
        env.step(action)
    saved = env.state_dict()
    expected = torch.stack([env.step(action)[0] for action in actions[100:]])
    other = shac.Env(CartPoleOnDouble(), 4, seed=8)
    other.load_state_dict(saved)
    assert torch.equal(torch.stack([other.step(action)[0] for action in actions[100:]]), expected)


class WindyLine(Line):
    """`Line` in gusts: x grows by what is drawn, too."""

    episode_length = 50
    failure = 100.0
    num_draws = 2

    def perturb(self, state, draws):
        return state._replace(qpos=state.qpos + draws[:, :1])


def test_what_chance_does_between_steps_is_seen_rewarded_and_drawn_from_the_seed():
    env = shac.Env(WindyLine(), 3, seed=4)
    action = torch.full((3, 1), 0.25, dtype=torch.float64, requires_grad=True)
    obs, reward, *_ = env.step(action)
    gusts = obs[:, 0] - 0.25 - torch.arange(3)
    assert ((gusts >= 0) & (gusts < 1)).all() and len(set(gusts.tolist())) == 3
    assert torch.equal(reward, obs[:, 0]) and torch.equal(env.state.qpos[:, 0], obs[:, 0])
    assert torch.autograd.grad(reward.sum(), action)[0].tolist() == [[1.0]] * 3
    saved = env.state_dict()
    after = env.step(HALF[:1].expand(3, 1))[0]
    other = shac.Env(WindyLine(), 3, seed=7)
    other.load_state_dict(saved)
    assert torch.equal(other.step(HALF[:1].expand(3, 1))[0], after)
    again = shac.Env(WindyLine(), 3, seed=4)
    assert torch.equal(again.step(action)[0], obs)


class Sled(LineSim):
    """`LineSim` of which each world has a mass: x' = x + action / mass."""

    def __init__(self, num_worlds):
        super().__init__(num_worlds)
        self.model.body_mass = np.ones(1)

    def step(self, state, ctrl, constants):
        return super().step(state, ctrl / constants["body_mass"])


class SledLine(Line):
    """`Line` with a mass from 1 to 2 in each episode."""

    failure = 100.0
    varied = ("body_mass",)

    def simulator(self, num_envs, device=None):
        return Sled(num_envs)

    def vary(self, num, generator, sim, stochastic=True):
        drawn = torch.rand(num, 1, generator=generator, dtype=sim.dtype)
        return {"body_mass": 1 + drawn * stochastic}


@pytest.mark.parametrize("waits", [True, False])
def test_an_episode_keeps_the_constants_that_were_drawn_for_it(waits):
    env = Env(SledLine(), 3, seed=4)
    if not waits:
        env._restart = env._restart_without_waiting
    begun, action = env.constants["body_mass"][:, 0], torch.full((3, 1), 0.5, dtype=env.dtype)
    assert ((begun >= 1) & (begun < 2)).all() and len(set(begun.tolist())) == 3
    for step in (1, 2):
        obs, *_ = env.step(action)
        torch.testing.assert_close(obs[:, 0], torch.arange(3) + step * 0.5 / begun)
    env._restart(torch.tensor([False, True, False]))
    now = env.constants["body_mass"][:, 0]
    assert (now == begun).tolist() == [True, False, True]
    saved = env.state_dict()
    obs, *_ = env.step(action)
    assert obs[1, 0].item() == pytest.approx(0.5 / now[1].item())
    # worlds 0 and 2 have come to their time limits
    after = env.constants["body_mass"][:, 0]
    assert (after == now).tolist() == [False, True, False] and ((after >= 1) & (after < 2)).all()
    other = Env(SledLine(), 3, seed=9)
    if not waits:
        other._restart = other._restart_without_waiting
    other.load_state_dict(saved)
    assert torch.equal(other.step(action)[0], obs)
    assert torch.equal(other.constants["body_mass"][:, 0], after)
    assert Env(SledLine(), 3, stochastic_init=False).constants["body_mass"].tolist() == [[1.0]] * 3


def test_initial_states_depend_on_the_seed_alone():
    first = shac.Env(CartPoleOnDouble(), 8, seed=1)
    torch.manual_seed(99)
    assert torch.equal(shac.Env(CartPoleOnDouble(), 8, seed=1).obs, first.obs)
    assert not torch.equal(shac.Env(CartPoleOnDouble(), 8, seed=2).obs, first.obs)
    assert torch.equal(first.reset(seed=2), shac.Env(CartPoleOnDouble(), 8, seed=2).obs)


def test_a_control_step_is_divided_as_asked():
    option = Env(CartPole(), 2, substeps=16, theta=0.0).sim.model.opt
    assert (option.substeps, option.theta) == (16, 0.0)
    assert option.control_timestep == pytest.approx(Env(CartPole(), 2).sim.model.opt.control_timestep, rel=1e-12)
    # the last of them was no substep at all: 2^40 is 0 to a kernel
    for bad in ({"substeps": -1}, {"substeps": 0}, {"substeps": 2, "theta": 1.5}, {"substeps": 2**40}):
        with pytest.raises(UserError, match="must be"):
            Env(CartPole(), 2, **bad)
    sim = Env(CartPole(), 2).sim
    sim.model.opt.substeps = 2**40
    with pytest.raises(ValueError, match="model.opt.substeps must be from 1 to 10,000, got 1099511627776"):
        sim.step(sim.initial_state(), torch.zeros(2, 1, dtype=sim.dtype))


def test_bad_arguments_are_refused():
    env = shac.Env(Line(), 2)
    with pytest.raises(ValueError, match=r"action must have shape \(2, 1\), got \(2,\)"):
        env.step(torch.zeros(2))
    with pytest.raises(ValueError, match=r"mask must be bool of shape \(2,\)"):
        env.reset(torch.zeros(2))
    with pytest.raises(UserError, match="num_envs must be at least 1, got 0"):
        shac.Env(Line(), 0)


def test_cartpole_observes_and_rewards_as_the_paper_has_it():
    qpos = torch.tensor([[0.5, 2 * math.pi + 0.3], [-1.0, math.pi]], dtype=torch.float64)
    state = State(qpos, torch.tensor([[2.0, -3.0], [0.0, 1.0]], dtype=torch.float64), None)
    task = CartPole()
    obs = task.observe(state, torch.zeros(2, 1, dtype=torch.float64))
    assert obs[0].tolist() == pytest.approx([0.5, 2.0, math.sin(0.3), math.cos(0.3), -3.0])
    reward = task.reward(state, obs, None)
    assert reward.tolist() == pytest.approx([-(0.09 + 0.9 + 0.0125 + 0.4), -(math.pi**2 + 0.1 + 0.05)])


def test_cartpole_begins_hanging_and_spread_as_in_the_paper():
    sim = CartPoleDouble(20_000)
    state = CartPole().reset(20_000, torch.Generator().manual_seed(0), sim)
    offset = torch.stack((state.qpos[:, 0], state.qpos[:, 1] + math.pi, *state.qvel.unbind(1)))
    widest = torch.tensor([math.pi / 2, math.pi / 2, 0.25, 0.25])
    assert (offset.abs().max(1).values <= widest).all()
    # A uniform distribution: mean 0, standard deviation width / sqrt(12).
    torch.testing.assert_close(offset.std(1), 2 * widest / math.sqrt(12), rtol=0.02, atol=0)
    assert (offset.mean(1).abs() < 0.02 * widest).all()

    rest = CartPole().reset(3, torch.Generator(), sim, stochastic=False)
    assert rest.qpos.tolist() == [[0.0, pytest.approx(-math.pi)]] * 3
    assert (rest.qvel == 0).all()


def test_cartpole_measures_the_balanced_episodes():
    theta = torch.zeros(240, 3)
    theta[:140] = 2.0
    theta[200, 1] = -0.16
    theta[200, 2] = 0.14 + 2 * math.pi
    measures = CartPole().measures(
        State(torch.stack((theta, theta), dim=-1), None, None), torch.ones(240, 3, dtype=torch.bool)
    )
    assert measures["balanced"].tolist() == [1, 0, 1]
    assert measures["upright_fraction"].tolist() == pytest.approx([100 / 240, 99 / 240, 100 / 240])


def test_built_in_models_load():
    assert "cartpole" in models.names()
    for name in models.names():
        task = models.load_task(name)
        assert task.presets.keys() >= {"shac", "bptt", "ppo", "sac"}
        # every algorithm's settings are its own, and in range
        assert all(resolve(task, algo).algo == algo for algo in task.presets)


USER_FILE = """
from toy import Line
class Mine(Line):
    episode_length = 7
"""


def test_a_users_file_defines_a_model(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(USER_FILE)
    assert shac.make(str(path), num_envs=3).task.episode_length == 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file"),
        ("x = 1", "must define exactly one subclass of shac.Task, but has: none"),
        (USER_FILE + "class Other(Mine): pass", "but has: Mine, Other"),
        ("import nonsense_package", "cannot be run: ModuleNotFoundError"),
        (
            "from shac import Task\nclass Half(Task):\n    asset = 'x'\n    num_obs = 1",
            "Half does not define episode_len",
        ),
    ],
)
def test_a_bad_users_file_gives_one_clear_error(tmp_path, content, message):
    path = tmp_path / "mine.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError) as error:
        shac.make(str(path))
    assert str(path) in str(error.value) and message in str(error.value)


def test_an_unknown_model_is_met_with_the_nearest_name():
    with pytest.raises(UserError, match="no model is called 'cartpol'; did you mean cartpole?"):
        shac.make("cartpol")


@pytest.mark.filterwarnings("ignore:.*The default seed.*")
def test_the_gymnasium_view_passes_gymnasiums_checks():
    # The checks are for single environments, whose flags are truth values: those of one world are, too.
    env = GymEnv(shac.Env(CartPoleOnDouble(), 1))
    env.spec = gymnasium.envs.registration.EnvSpec("CartPole-double-v0", entry_point=lambda: env)
    env_checker.check_reset_seed_determinism(env)
    env_checker.check_reset_options(env)
    env_checker.check_returned_data_not_reused(env)
    env_checker.check_reset_return_type(env)
    env_checker.check_space_limit(env.action_space, "action")


def test_the_gymnasium_view_returns_batches_of_its_spaces():
    env = GymEnv(shac.Env(CartPoleOnDouble(), 3))
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    env.reset(seed=0)
    obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
    assert obs in env.observation_space
    assert reward.shape == terminated.shape == truncated.shape == (3,)


def test_the_gymnasium_view_resets_in_the_same_step_and_keeps_the_final_observation():
    env = GymEnv(shac.Env(Line(), 2))
    env.reset(seed=0)
    half = np.full((2, 1), 0.5, np.float32)
    assert env.step(half)[4] == {}
    obs, reward, terminated, truncated, info = env.step(half)
    assert obs[:, 0].tolist() == [1.0, 0.0]
    assert (terminated.tolist(), truncated.tolist()) == ([False, True], [False, False])
    assert info["_final_obs"].tolist() == [False, True]
    assert info["final_obs"][0] is None and info["final_obs"][1].tolist() == [2.0, 0.5]
    env.reset(options={"reset_mask": np.array([True, False])})
    assert env.step(half)[0][:, 0].tolist() == [0.5, 0.5]


def test_gymnasiums_own_statistics_wrapper_takes_the_view():
    env = gymnasium.wrappers.vector.RecordEpisodeStatistics(GymEnv(shac.Env(Line(), 2)))
    env.reset(seed=0)
    half = np.full((2, 1), 0.5, np.float32)
    env.step(half)
    *_, info = env.step(half)
    # World 1: x = 1.5, then 2.
    assert info["episode"]["r"][1] == 3.5 and info["episode"]["l"][1] == 2


def test_staggered_worlds_end_their_first_episodes_at_different_times_and_whole_ones_after():
    env = Env(CartPoleOnDouble(), 64, seed=0)
    env.stagger()
    length, limit = env.task.episode_length, env.limit
    assert limit.min() >= 1 and limit.max() <= length and len(limit.unique()) > 32
    ends = torch.zeros(64, dtype=torch.int64)
    action = torch.zeros(64, 1, dtype=env.dtype)
    for step in range(1, length + 1):
        *_, truncated, info = env.step(action)
        assert torch.equal(info["whole"], (limit == length) | (ends > 0))
        ends[truncated] = step
    assert torch.equal(ends, limit)
    assert (env.limit == length).all()


class Unfailing(Line):
    episode_length = 20
    failure = math.inf


def test_early_limits_separate_worlds_that_began_together():
    env = Env(Unfailing(), 400, seed=0, early_limits=0.25)
    still = torch.zeros(400, 1, dtype=torch.float64)
    truncated, whole = [], []
    for _ in range(20):
        *_, ends, info = env.step(still)
        truncated.append(ends)
        whole.append(info["whole"])
    # The first episodes are whole ones and end together.
    assert not torch.stack(truncated[:-1]).any() and truncated[-1].all() and torch.stack(whole).all()
    # Of the next ones a quarter has a limit drawn from 1 to 20.
    limit, saved = env.limit, env.state_dict()
    early = limit[limit < 20]
    assert 70 < len(early) < 120 and set(early.tolist()) == set(range(1, 20))
    lengths = torch.zeros(400, dtype=torch.int64)
    for step in range(1, 21):
        under_way = lengths == 0
        *_, ends, info = env.step(still)
        assert torch.equal(info["whole"][under_way], (limit == 20)[under_way])
        lengths[ends & under_way] = step
    assert torch.equal(lengths, limit)
    env.load_state_dict(saved)
    assert torch.equal(env.limit, limit)


def test_episodes_with_early_limits_do_not_count():
    rewards = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    ended = torch.tensor([[True, False], [False, True], [True, False]])
    whole = torch.tensor([[False, False], [True, False], [True, True]])
    episodes = Episodes(2, rewards.device)
    assert episodes.add(rewards, ended, whole) == 1
    # world 0's second episode alone
    assert list(episodes.recent_returns) == [8.0] and list(episodes.recent_lengths) == [2]
    again = Episodes(2, rewards.device)
    again.load_state_dict(episodes.state_dict())
    assert again.add(rewards[:1], torch.tensor([[False, True]]), torch.tensor([[True, True]])) == 1
    assert list(again.recent_returns) == [8.0, 8.0]


def test_the_mean_return_is_that_of_ten_episodes_a_world_and_a_hundred_at_most():
    ended = torch.ones(1, 1, dtype=torch.bool)
    alone = Episodes(1)
    for k in range(30):
        alone.add(torch.full((1, 1), float(k)), ended, ended)
    again = Episodes(1)
    again.load_state_dict(alone.state_dict())
    again.add(torch.full((1, 1), 30.0), ended, ended)
    assert alone.mean_return == pytest.approx(24.5) and again.mean_return == pytest.approx(25.5)
    many = Episodes(16)
    rewards = torch.arange(20.0)[:, None].expand(20, 16)
    many.add(rewards, torch.ones(20, 16, dtype=torch.bool), torch.ones(20, 16, dtype=torch.bool))
    assert len(many.recent_returns) == 100 and many.finished == 320


def test_a_step_on_a_card_does_not_wait_for_it():
    """Fake tensors have no values: whatever asks for one, and so would wait, raises."""
    env = Env(CartPoleOnDouble(), 4, early_limits=0.5)
    env._restart = env._restart_without_waiting
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        env.state = State(*map(fake.from_tensor, env.state))
        action = torch.zeros(4, 1, dtype=env.dtype)
        for _ in range(2):
            obs, *_ = env.step(action)
        with pytest.raises(DataDependentOutputException):
            obs.sum().item()


def test_episodes_begun_without_waiting_are_as_the_others():
    """Worlds that go on keep their states and gradients, others begin anew; the draws are others."""
    env = Env(Line(), 4)
    action = torch.full((4, 1), 0.5, dtype=env.dtype, requires_grad=True)
    env._restart = env._restart_without_waiting
    # world i begins at i, of a whole reset, later ones at 0; it has failed from 2 on
    obs, _, terminated, _, info = env.step(action)
    assert terminated.tolist() == [False, False, True, True]
    assert info["final_obs"][:, 0].tolist() == [0.5, 1.5, 2.5, 3.5]
    assert obs.tolist() == [[0.5, 0.5], [1.5, 0.5], [0.0, 0.0], [0.0, 0.0]]
    assert env.progress.tolist() == [1, 1, 0, 0]
    assert torch.autograd.grad(obs[:, 0].sum(), action)[0].flatten().tolist() == [1, 1, 0, 0]


def test_episodes_drawn_ahead_go_on_as_they_were_saved():
    """Draws for 32 steps at a time, anew after a checkpoint, on both sides."""
    env = Env(CartPoleOnDouble(), 4, early_limits=0.5)
    env._restart = env._restart_without_waiting
    ended = torch.ones(4, dtype=torch.bool)

    def begun(steps):
        found = []
        for _ in range(steps):
            env._restart(ended)
            assert torch.equal(env.obs, env.task.observe(env.state, env.action))
            found.append((env.state.qpos.clone(), env.limit.clone()))
        return [torch.stack(x) for x in zip(*found)]

    begun(3)
    saved = env.state_dict()
    positions, limits = begun(40)
    # each drawn for itself, and a half of them early
    assert len(positions.flatten(0, 1).unique(dim=0)) == 160
    assert 50 < (limits < env.task.episode_length).sum() < 110
    env.load_state_dict(saved)
    assert all(torch.equal(*pair) for pair in zip(begun(40), (positions, limits)))
