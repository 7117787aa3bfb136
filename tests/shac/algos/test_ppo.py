import pytest
import torch
from differences import assert_slope
from toy import Line

pytest.importorskip("torchrl")

from shac.algos.ppo import PPO, Rollout, _Rate
from shac.runs.settings import PPO as Settings


@pytest.fixture
def ppo():
    """gamma and lambda are one half."""
    settings = Settings(num_envs=1, horizon=3, minibatch=3, actor_units=(), gamma=0.5, gae_lambda=0.5)
    return PPO(Line(), settings)


def rollout(ends: int | None = None, terminated: bool = False) -> Rollout:
    """Values 1, 2, 3 and 4, rewards 1; the episode ends with step `ends`, at a state of value 10."""
    actions = torch.zeros(3, 1, 1, dtype=torch.float64)
    ended = torch.zeros(3, 1, dtype=torch.bool)
    if ends is not None:
        ended[ends] = True
    return Rollout(
        obs=torch.rand(3, 1, 2, dtype=torch.float64),
        loc=actions + 0.1,
        scale=actions + 0.5,
        values=torch.arange(1.0, 5.0, dtype=torch.float64)[:, None, None],
        actions=actions,
        rewards=torch.ones(3, 1, dtype=torch.float64),
        terminated=ended & terminated,
        ended=ended,
        whole=torch.ones_like(ended),
        final_values=torch.tensor([[10.0]], dtype=torch.float64)[: 0 if ends is None else 1],
    )


@pytest.mark.parametrize(
    ("ends", "terminated", "targets"),
    [
        # errors 1, 0.5, 0; advantages 1.125, 0.5, 0
        (None, False, [2.125, 2.5, 3.0]),
        # errors 1, 1 - 2, 0: nothing follows a failure, nor does a later advantage reach back across it
        (1, True, [1.75, 1.0, 3.0]),
        # errors 1, 1 + 10 / 2 - 2, 0: what would have followed the time limit counts
        (1, False, [3.0, 6.0, 3.0]),
    ],
    ids=["no end", "failure", "time limit"],
)
def test_targets_and_advantages_by_hand(ppo, ends, terminated, targets):
    data = ppo.training_data(rollout(ends, terminated))
    targets = torch.tensor(targets, dtype=torch.float64)
    mean, inv_std = ppo.returns.snapshot(torch.float64)
    # the first epoch's map of values is the identity, but for EPSILON
    assert torch.allclose(data["value_target"][:, 0] / inv_std + mean, targets, rtol=1e-4)
    advantages = targets - torch.arange(1.0, 4.0, dtype=torch.float64)
    expected = (advantages - advantages.mean()) / advantages.std()
    assert torch.allclose(data["advantage"][:, 0], expected, atol=2e-4)
    # the statistics are those of all targets so far
    assert mean.item() == pytest.approx(targets.mean().item(), rel=1e-3)


def test_a_rollout_has_what_the_network_said():
    """Of what it saw, of where it stands, and of where episodes ended: x >= 2 or the third step."""
    learner = PPO(Line(), Settings(num_envs=4, horizon=4, minibatch=16, actor_units=(5,)))
    learner.normalizer.update(torch.randn(50, 2, dtype=torch.float64) + 0.3)
    normalize = learner.normalizer.snapshot(torch.float64)
    found, raw = learner.rollout(normalize)
    loc, scale, values = learner.actor(normalize(raw))
    assert torch.equal(found.obs, normalize(raw))
    for one, other in ((found.loc, loc), (found.scale, scale), (found.values[:-1], values)):
        assert torch.allclose(one, other, rtol=1e-12)
    assert torch.allclose(found.values[-1], learner.actor(normalize(learner.env.obs))[2], rtol=1e-12)
    # the next x is the reward, and the observation has the action beside it
    final = torch.stack((found.rewards, found.actions[..., 0].clamp(-1, 1)), dim=-1)[found.ended]
    assert len(final) >= 4
    assert torch.allclose(found.final_values, learner.actor(normalize(final))[2], rtol=1e-12)


def test_the_loss_by_hand(ppo):
    """One step with ratio 1.5, advantage 2, and a value half a unit above its target."""
    data = ppo.training_data(rollout())[:1]
    loc, scale, value = ppo.actor(data["observation"])
    data["advantage"] = torch.full_like(data["advantage"], 2.0)
    log_prob = torch.distributions.Normal(loc, scale).log_prob(data["action"]).sum()
    data["action_log_prob"] = (log_prob - torch.tensor(1.5).log()).detach()[None]
    data["value_target"] = (value - 0.5).detach()
    losses = ppo.losses(data)
    assert losses["policy"].item() == pytest.approx(-2 * 1.2)
    assert losses["value"].item() == pytest.approx(ppo.config.value_coef * 0.5**2)


@pytest.mark.parametrize("shared", [False, True])
def test_gradients_of_policy_and_value_are_clipped_each_for_itself(shared):
    learner = PPO(Line(), Settings(num_envs=2, horizon=3, minibatch=6, actor_units=(4,), shared_value=shared))
    parts = learner.actor.parts
    assert {id(p) for part in parts for p in part} == {id(p) for p in learner.actor.parameters()}
    for k, part in enumerate(parts):
        for parameter in part:
            parameter.grad = torch.full_like(parameter, 10.0 ** (1 - 3 * k))
    norms = [torch.stack([p.grad.norm() for p in part]).norm().item() for part in parts]
    assert learner._clip_gradients() == pytest.approx(norms[0])
    after = [torch.stack([p.grad.norm() for p in part]).norm().item() for part in parts]
    assert after == pytest.approx([1.0] if shared else [1.0, norms[1]], rel=1e-4)


def test_the_losss_gradient_against_central_differences():
    learner = PPO(Line(), Settings(num_envs=4, horizon=4, minibatch=16, actor_units=(6, 5), entropy_coef=0.01))
    data = learner.training_data(learner.rollout(learner.normalizer.snapshot(learner.env.dtype))[0])
    parameters = list(learner.actor.parameters())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        # as in a later pass: the policy has moved, some ratios are clipped
        for parameter in parameters:
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)

    def loss():
        return sum(learner.losses(data.clone()).values())

    assert_slope(loss, parameters)


@pytest.mark.parametrize("shared", [False, True])
def test_the_values_loss_moves_the_policy_only_where_they_share_layers(shared):
    learner = PPO(Line(), Settings(num_envs=2, horizon=3, minibatch=6, actor_units=(4,), shared_value=shared))
    data = learner.training_data(learner.rollout(learner.normalizer.snapshot(learner.env.dtype))[0])
    learner.losses(data)["value"].backward()
    assert (learner.actor.trunk[0].weight.grad is not None) == shared
    assert learner.actor.value.weight.grad.any()
    assert len(list(learner.actor.parameters())) == (7 if shared else 9)


def test_the_rate_follows_the_policys_movement():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    rate = _Rate(3e-4)
    for divergence, expected in ((0.0081, 3e-4), (0.017, 2e-4), (0.003, 3e-4)):
        rate.follow(divergence, 0.008, optimizer)
        assert rate.value == pytest.approx(expected) == optimizer.param_groups[0]["lr"]
