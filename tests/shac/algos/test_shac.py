import copy
import math

import pytest
import torch
from ranked import ShortEpisodes
from torch import nn
from toy import Line, LineSim

from shac.algos.networks import Actor
from shac.algos.nonfinite import clip_gradient
from shac.algos.shac import SHAC
from shac.errors import NonFiniteError, UserError
from shac.models.cartpole import CartPole
from shac.runs.config import Config, resolve

SMALL = {
    "num_envs": 4,
    "horizon": 8,
    "max_epochs": 10,
    "actor_units": (8,),
    "critic_units": (8,),
    "critic_iterations": 2,
    "normalize_obs": True,
}


def learner(task, **settings):
    # As in a training run: two threads for networks of this size wait for each other, on a busy machine for long.
    torch.set_num_threads(1)
    return SHAC(task, resolve(task, settings.pop("algo", "shac"), {**SMALL, **settings}))


@pytest.mark.parametrize("algo", ["shac", "bptt"])
def test_gradient_of_the_actors_loss_equals_finite_differences(algo):
    # The gradient of a failure is not that of the loss, in which it counts nothing.
    shac = learner(ShortEpisodes(), num_envs=8, algo=algo, failure_gradient=False)
    # An update makes the normaliser's map other than the identity.
    shac.train_epoch()
    saved = shac.state_dict()
    normalize = shac.normalizer.snapshot(torch.float64)

    def loss():
        shac.env.load_state_dict(saved["env"])
        shac.exploration.set_state(saved["exploration"])
        window = shac.rollout(normalize)
        assert window.terminated.any() and (window.ended & ~window.terminated).any()
        return shac.actor_loss(window, normalize)

    gradients = torch.autograd.grad(loss(), list(shac.actor.parameters()))
    generator = torch.Generator().manual_seed(0)
    for (name, parameter), gradient in zip(shac.actor.named_parameters(), gradients):
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        differences = []
        for h in (1e-5, -1e-5):
            parameter.data.add_(h * direction)
            differences.append(loss().item())
            parameter.data.sub_(h * direction)
        expected = (differences[0] - differences[1]) / 2e-5
        assert (gradient * direction).sum().item() == pytest.approx(expected, rel=1e-6, abs=1e-8), name


class Always(nn.Module):
    """An actor that always acts 0.5, through a parameter that can take a gradient."""

    def __init__(self):
        super().__init__()
        self.action = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

    def perturbation(self, eps):
        return None

    def forward(self, obs, perturbation=None):
        return self.action.expand(len(obs), 1)


class TenTimesX(nn.Module):
    def forward(self, obs):
        return 10 * obs[..., 0]


def line_loss(**settings):
    shac = learner(Line(), num_envs=2, horizon=4, gamma=0.5, **settings)
    shac.actor = Always()
    shac.target_critic = TenTimesX()
    shac.normalizer.var.fill_(1 - 1e-5)
    normalize = shac.normalizer.snapshot(torch.float64)
    window = shac.rollout(normalize)
    loss = shac.actor_loss(window, normalize)
    loss.backward()
    # The loss is the negative mean over 2 worlds and 4 steps.
    return loss.item() * -8, -8 * torch.cat([action.grad for action in window.actions], dim=1)


@pytest.mark.parametrize("failure_gradient", [True, False])
def test_loss_and_gradients_of_a_window_equal_numbers_computed_by_hand(failure_gradient):
    # World 0: x = 0.5, 1, 1.5 | time limit, value 15 | 0.5, end of the window, value 5.
    world_0 = (0.5 + 0.5 * 1 + 0.25 * 1.5 + 0.125 * 15) + (0.5 + 0.5 * 5)
    # World 1: x = 1.5, 2 | failed, no value | 0.5, 1, end of the window, value 10.
    world_1 = (1.5 + 0.5 * 2) + (0.5 + 0.5 * 1 + 0.25 * 10)
    total, gradients = line_loss(failure_gradient=failure_gradient)
    assert total == pytest.approx(world_0 + world_1)
    # An action moves all x up to the end of its episode or window, and with it the value there.
    assert gradients[0].tolist() == pytest.approx([0.5 + 0.25 + 1.25 + 1, 0.5 + 0.25 + 1.25, 0.25 + 1.25, 1 + 5])
    # The failure counts nothing; the value's slope there, 10 times 0.25, may count.
    slope = 2.5 if failure_gradient else 0.0
    assert gradients[1].tolist() == pytest.approx([1 + 0.5 + slope, 0.5 + slope, 1 + 0.5 + 2.5, 0.5 + 2.5])


def test_bptt_is_the_same_without_values():
    total, gradients = line_loss(algo="bptt")
    assert total == pytest.approx((0.5 + 0.5 + 0.375 + 0.5) + (1.5 + 1 + 0.5 + 0.5))
    assert gradients[0].tolist() == pytest.approx([1.75, 0.75, 0.25, 1])


class Clock(Line):
    """Observes the time since the beginning in units of 4 steps and earns 1 per step; actions do nothing."""

    episode_length = 4
    failure = math.inf

    def observe(self, state, action):
        return torch.cat((state.qpos / 4, action * 0), dim=1)

    def control(self, action):
        return action * 0 + 1

    def reward(self, state, obs, action):
        return torch.ones_like(obs[:, 0]) + 0 * obs[:, 0]

    def reset(self, num, generator, sim, stochastic=True):
        return self.nominal(num, sim)


class Bomb(Clock):
    """Fails after four steps."""

    episode_length = 1000
    failure = 4.0


@pytest.mark.parametrize(
    ("task", "values"),
    [
        # Nothing follows a failure: 1 + 0.5 + 0.25 + 0.125 from the beginning.
        (Bomb(), [1.875, 1.75, 1.5, 1.0]),
        # A time limit ends an episode but not the world: 1 / (1 - 0.5) from everywhere.
        (Clock(), [2.0, 2.0, 2.0, 2.0]),
    ],
)
def test_the_critic_learns_the_values_in_closed_form(task, values):
    # after 30 epochs the fit of some seeds is still 0.07 off, after 60 it is 0.02 of any of eight
    shac = learner(task, gamma=0.5, max_epochs=60, critic_units=(16,), critic_lr=2e-2, critic_iterations=8)
    for _ in range(60):
        shac.train_epoch()
    obs = torch.tensor([[k / 4, 0.0] for k in range(4)], dtype=torch.float64)
    learnt = shac.target_critic(shac.normalizer.snapshot(torch.float64)(obs))
    assert learnt.tolist() == pytest.approx(values, abs=0.05)


def check_average(shac, average, latest, epochs):
    """Trains an epoch: the module `average` goes 1 / `epochs` of the way to `latest`."""
    old = [p.clone() for p in average.parameters()]
    shac.train_epoch()
    for before, now, new in zip(old, average.parameters(), latest.parameters()):
        torch.testing.assert_close(now.data, before + (new.data - before) / epochs)


def test_the_average_actor_is_an_exponential_mean_of_the_actors():
    """Over a tenth of the epochs so far, which is less than one for ten of them, until `actor_average` limits it."""
    shac = learner(Line(), actor_average=2)
    assert not any(p.requires_grad for p in shac.average_actor.parameters())
    for epochs in [1] * 10 + [1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2, 2, 2]:
        check_average(shac, shac.average_actor, shac.actor, epochs)


def test_the_target_critic_keeps_alpha_of_its_old_weights():
    shac = learner(Line(), target_alpha=0.75)
    old = [p.clone() for p in shac.target_critic.parameters()]
    shac.train_epoch()
    for before, target, critic in zip(old, shac.target_critic.parameters(), shac.critic.parameters()):
        torch.testing.assert_close(target.data, 0.75 * before + 0.25 * critic.data)


def test_the_target_critics_memory_grows_until_alpha_limits_it():
    """Over 0.5 epochs per epoch: 1 (nothing old is kept), 1, 1.5, 2, and then 1 / (1 - alpha) = 2."""
    shac = learner(Line(), target_alpha=0.5, target_rampup=0.5)
    for memory in (1, 1, 1.5, 2, 2):
        check_average(shac, shac.target_critic, shac.critic, memory)


def test_the_target_critics_memory_begins_anew_with_the_final_substeps():
    """In the last 3 of 40 epochs; before over 0.8 epochs per epoch, after the first of them over at least five."""
    settings = {"num_envs": 2, "horizon": 2, "critic_batches": 1, "final_substeps": 5, "max_epochs": 40}
    shac = learner(CartPole(), target_alpha=0.99, target_rampup=0.8, **settings)
    while shac.epoch < 36:
        shac.train_epoch()
    for memory in (29.6, 30.4, 5, 5):
        check_average(shac, shac.target_critic, shac.critic, memory)


def test_the_last_epochs_have_the_final_substeps_also_in_a_resumed_run():
    """3 of 40, which is 7.5 %."""
    settings = {"num_envs": 2, "horizon": 2, "critic_batches": 1, "substeps": 2, "final_substeps": 5, "max_epochs": 40}
    shac = learner(CartPole(), **settings)
    option = shac.env.sim.model.opt
    duration, taken = option.control_timestep, []
    while shac.epoch < 40:
        shac.train_epoch()
        taken.append(option.substeps)
        assert option.control_timestep == pytest.approx(duration, rel=1e-12)
    assert taken == 37 * [2] + 3 * [5]

    again = learner(CartPole(), **settings)
    again.load_state_dict(shac.state_dict())
    again.train_epoch()
    assert again.env.sim.model.opt.substeps == 5


class Scheduled(Line):
    """Its reward is another one with each epoch at which one of these parts of a training is over."""

    def __init__(self, changes=(0.5,)):
        self.changes, self.seen = changes, []

    def schedule(self, progress):
        self.seen.append(progress)
        return progress in self.changes


def test_tasks_know_how_much_of_a_training_is_over_also_of_a_resumed_one():
    shac = learner(Scheduled())
    renewed = [shac.train_epoch() and shac.renewed for _ in range(10)]
    assert renewed == [k == 5 for k in range(10)]
    assert shac.env.task.seen == pytest.approx([k / 10 for k in range(10)])

    again = learner(Scheduled())
    again.load_state_dict({**shac.state_dict(), "epoch": 5})
    again.train_epoch()
    assert again.renewed and again.env.task.seen == [0.5]


def test_the_target_critics_memory_begins_anew_when_rewards_stay_also_in_a_resumed_run():
    """Over 0.5 epochs per epoch; from the last change, in epoch 2, on over at least five."""
    settings = {"target_alpha": 0.99, "target_rampup": 0.5, "max_epochs": 20}
    shac = learner(Scheduled((0.0, 0.05, 0.1)), **settings)
    for memory in (1, 1, 1.5, 5, 5, 5, 5, 5, 5, 5, 5):
        check_average(shac, shac.target_critic, shac.critic, memory)
    again = learner(Scheduled(()), **settings)
    again.load_state_dict(shac.state_dict())
    for memory in (5, 5.5, 6):
        check_average(again, again.target_critic, again.critic, memory)


def test_the_average_actor_begins_anew_with_the_final_substeps():
    """In the first of the last 3 of 40 epochs; the average is over 3.7 epochs before."""
    shac = learner(CartPole(), num_envs=2, horizon=2, critic_batches=1, final_substeps=5, max_epochs=40)
    for epoch in range(38):
        shac.train_epoch()
        same = all(torch.equal(a, b) for a, b in zip(shac.average_actor.parameters(), shac.actor.parameters()))
        # A tenth of less than ten epochs is less than one.
        assert same == (epoch < 10 or epoch == 37)


def test_learning_rates_fall_linearly_and_the_normalizer_lags_one_epoch():
    shac = learner(ShortEpisodes(), actor_lr=1.0, critic_lr=0.5, final_lr=0.1)
    rates = []
    for _ in range(10):
        shac.train_epoch()
        rates.append((shac.actor_lr, shac.critic_optimizer.param_groups[0]["lr"]))
    assert [rate for rate, _ in rates] == pytest.approx([1 - 0.09 * k for k in range(10)])
    assert [rate for _, rate in rates] == pytest.approx([0.5 - 0.04 * k for k in range(10)])
    assert shac.normalizer.count.item() == pytest.approx(10 * 4 * 8, rel=1e-6)


def test_learning_rates_fall_by_the_same_factor_every_epoch():
    shac = learner(ShortEpisodes(), lr_schedule="exponential", actor_lr=1.0, critic_lr=0.1, final_lr=0.1)
    rates = []
    for _ in range(10):
        shac.train_epoch()
        rates.append((shac.actor_lr, shac.critic_optimizer.param_groups[0]["lr"]))
    for k, rate in enumerate(rates):
        assert rate == pytest.approx((10 ** (-k / 10), 0.1))
    with pytest.raises(UserError, match="final_lr must be greater than 0"):
        learner(ShortEpisodes(), lr_schedule="exponential", final_lr=0)


def curve(shac, epochs):
    losses = [shac.train_epoch()[:3] for _ in range(epochs)]
    return losses, torch.cat([p.detach().flatten() for p in shac.actor.parameters()])


@pytest.mark.parametrize("settings", [{}, {"algo": "bptt"}, {"actor": "deterministic"}, {"actor_optimizer": "muon"}])
def test_the_same_seed_gives_the_same_curve_bit_for_bit_and_another_seed_another(settings):
    losses, weights = curve(learner(ShortEpisodes(), seed=1, **settings), 4)
    torch.manual_seed(1234)
    losses_again, weights_again = curve(learner(ShortEpisodes(), seed=1, **settings), 4)
    assert losses == losses_again and torch.equal(weights, weights_again)
    other_losses, _ = curve(learner(ShortEpisodes(), seed=2, **settings), 4)
    assert not set(losses) & set(other_losses)


@pytest.mark.parametrize("actor_optimizer", ["adam", "muon"])
def test_a_restored_learner_goes_on_with_its_optimizers_moments(actor_optimizer):
    shac = learner(ShortEpisodes(), actor_optimizer=actor_optimizer)
    curve(shac, 2)
    restored = learner(ShortEpisodes(), actor_optimizer=actor_optimizer, seed=7)
    restored.load_state_dict(copy.deepcopy(shac.state_dict()))
    assert torch.equal(curve(shac, 2)[1], curve(restored, 2)[1])


def test_muon_steps_equally_far_along_all_singular_directions():
    shac = learner(ShortEpisodes(), actor_optimizer="muon", actor_lr=0.01)
    matrices = [parameter for parameter in shac.actor.parameters() if parameter.ndim == 2]
    before = [matrix.detach().clone() for matrix in matrices]
    shac.train_epoch()
    for matrix, old in zip(matrices, before):
        gradient = torch.linalg.svdvals(matrix.grad)
        step = torch.linalg.svdvals((matrix - old).detach())
        assert gradient.numel() == 1 or gradient.max() > 5 * gradient.min()
        # Muon's iteration brings singular values to between 0.5 and 1.5.
        assert step.max() < 3 * step.min()
        assert 0.5 < (matrix - old).square().mean().sqrt() / (0.2 * 0.01) < 1.5


@pytest.mark.parametrize("settings", [{}, {"algo": "bptt"}, {"actor": "deterministic"}, {"actor_optimizer": "muon"}])
def test_the_actor_learns_to_go_where_the_reward_is(settings):
    shac = learner(Line(), actor_lr=0.05, max_epochs=25, **settings)
    for _ in range(25):
        shac.train_epoch()
    obs = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    assert shac.actor(shac.normalizer.snapshot(torch.float64)(obs)).min() > 0.8


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e15, 1e25, 1e37])
def test_gradients_are_clipped_at_any_size(size):
    gradients = [torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.ones(4)]
    parameters = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = size * gradient
    norm = clip_gradient(parameters, 0.7)
    expected = size * torch.cat([gradient.double().flatten() for gradient in gradients]).norm()
    torch.testing.assert_close(norm.double(), expected, rtol=1e-6, atol=0)
    for parameter, gradient in zip(parameters, gradients):
        share = min(1.0, 0.7 / expected.item())
        torch.testing.assert_close(parameter.grad, (share * size * gradient.double()).float(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("fault", [math.inf, math.nan])
def test_a_gradient_that_is_not_finite_has_no_finite_norm(fault):
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([1.0, fault])
    assert not clip_gradient([parameter], 1.0).isfinite()


class Faulty(LineSim):
    """Goes wrong in one call, in world 2: in the state, or in the gradient of the state alone."""

    def __init__(self, num_worlds, fault, call):
        super().__init__(num_worlds)
        self.fault, self.call = fault, call

    def step(self, state, ctrl):
        state = super().step(state, ctrl)
        if self.calls != self.call:
            return state
        rows = torch.tensor([2])
        if self.fault == "error":
            raise FloatingPointError("qacc of world 2 is not finite")
        if self.fault == "state":
            return state._replace(qpos=state.qpos.index_fill(0, rows, math.nan))
        state.qpos.register_hook(lambda grad: grad.index_fill(0, rows, math.nan))
        return state


class FaultyLine(Line):
    failure = math.inf
    episode_length = 100

    def __init__(self, fault):
        self.fault = fault

    def simulator(self, num_envs, device=None):
        return Faulty(num_envs, self.fault, call=8 + 6)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("state", "the observation is not finite: first in epoch 1, step 5 of the window, world 2"),
        ("gradient", "backwards first in epoch 1, step 5 of the window, world 2, with respect to that step's action"),
        ("error", "in epoch 1, step 5 of the window: qacc of world 2 is not finite"),
    ],
)
@pytest.mark.parametrize("cores", [1, 2])
def test_a_non_finite_number_is_traced_and_changes_nothing(fault, message, cores, monkeypatch):
    monkeypatch.setattr("shac.algos.shac._num_cores", lambda: cores)
    shac = learner(FaultyLine(fault))
    shac.train_epoch()
    before = copy.deepcopy(shac.state_dict())
    with pytest.raises(NonFiniteError, match=message):
        shac.train_epoch()
    after = shac.state_dict()
    for name in ("actor", "critic", "target_critic"):
        assert all(torch.equal(a, b) for a, b in zip(before[name].values(), after[name].values()))
    moments = zip(before["critic_optimizer"]["state"].values(), after["critic_optimizer"]["state"].values())
    assert all(torch.equal(a[key], b[key]) for a, b in moments for key in a)


@pytest.mark.parametrize("actor_optimizer", ["adam", "muon"])
def test_a_fit_beside_the_actors_update_changes_no_bit(actor_optimizer, monkeypatch):
    curves = []
    for cores in (1, 2):
        monkeypatch.setattr("shac.algos.shac._num_cores", lambda cores=cores: cores)
        shac = learner(ShortEpisodes(), actor_optimizer=actor_optimizer)
        losses, weights = curve(shac, 4)
        curves.append((losses, weights, torch.cat([p.detach().flatten() for p in shac.critic.parameters()])))
    (losses, *weights), (losses_beside, *weights_beside) = curves
    assert losses == losses_beside and all(map(torch.equal, weights, weights_beside))


def test_training_takes_the_defaults():
    # The default networks and optimiser settings, not the small ones above, on the task without a preset.
    shac = SHAC(Line(), Config(model="line", num_envs=2, horizon=4, max_epochs=1, critic_iterations=1))
    assert math.isfinite(shac.train_epoch().actor_loss)
    assert isinstance(shac.actor, Actor)
