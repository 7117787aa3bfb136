import numpy as np
import pytest
import torch
from torch.nn.functional import elu, layer_norm

from shac.algos.networks import Actor, Critic, Policy
from shac.algos.normalizer import Normalizer


def test_actor_is_linear_elu_layernorm_and_a_tanh_gaussian():
    torch.manual_seed(0)
    actor = Actor(3, 2, (8, 4), init_log_std=-0.5)
    obs, eps = torch.randn(5, 3), torch.randn(5, 2)
    weights = [p for name, p in actor.named_parameters() if name != "log_std"]
    w0, b0, g0, c0, w1, b1, g1, c1, w2, b2 = weights
    hidden = layer_norm(elu(obs @ w0.T + b0), (8,), g0, c0)
    hidden = layer_norm(elu(hidden @ w1.T + b1), (4,), g1, c1)
    mu = hidden @ w2.T + b2

    torch.testing.assert_close(actor(obs), mu.tanh())
    torch.testing.assert_close(actor(obs, actor.perturbation(eps)), (mu + np.exp(-0.5) * eps).tanh())


def test_deterministic_actor_has_no_noise():
    actor = Actor(3, 2, (8,), stochastic=False)
    assert actor.perturbation(torch.randn(5, 2)) is None
    assert not any(name == "log_std" for name, _ in actor.named_parameters())


def test_critic_begins_with_orthogonal_weights_and_no_biases():
    critic = Critic(16, (16, 8))
    linear = [layer for layer in critic.value if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in linear] == [16, 8, 1]
    for layer in linear:
        torch.testing.assert_close(layer.weight @ layer.weight.T, 2 * torch.eye(layer.out_features))
        assert (layer.bias == 0).all()
    assert critic(torch.randn(7, 3, 16)).shape == (7, 3)


def test_policy_is_deterministic_unless_it_is_given_a_generator():
    torch.manual_seed(0)
    policy = Policy(Actor(3, 2, (8,)), Normalizer(3).snapshot(torch.float32))
    obs = torch.randn(4, 3)
    assert torch.equal(policy(obs), policy(obs))
    sampled = policy(obs, torch.Generator().manual_seed(1))
    assert not torch.equal(sampled, policy(obs))
    assert torch.equal(sampled, policy(obs, torch.Generator().manual_seed(1)))


def test_normalizer_has_the_statistics_of_all_that_it_saw():
    generator = torch.Generator().manual_seed(0)
    # Mean and spread differ between batches, and the mean is large beside the spread: the hard case for a running sum.
    batches = [100 + i + (i + 1) * torch.randn(4 + i, 8, 3, generator=generator) for i in range(5)]
    normalizer = Normalizer(3)
    for batch in batches:
        normalizer.update(batch)
    everything = torch.cat([batch.flatten(0, 1) for batch in batches]).double().numpy()

    # The initial count of 1e-4 stands for an observation of mean 0 and variance 1 that was never seen.
    assert normalizer.mean.numpy() == pytest.approx(everything.mean(0), rel=1e-6)
    assert normalizer.var.numpy() == pytest.approx(everything.var(0), rel=1e-2)
    standardized = normalizer.snapshot(torch.float64)(torch.from_numpy(everything))
    assert standardized.mean(0).abs().max() < 1e-3
    assert (standardized.std(0) - 1).abs().max() < 1e-2


def test_snapshot_does_not_follow_later_updates():
    normalizer = Normalizer(3)
    obs = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    normalizer.update(obs)
    snapshot = normalizer.snapshot(torch.float32)
    before = snapshot(obs)
    normalizer.update(5 * obs + 3)
    assert torch.equal(snapshot(obs), before)


def test_normalizer_is_the_identity_before_the_first_update():
    obs = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Normalizer(3).snapshot(torch.float32)(obs), obs, rtol=1e-5, atol=0)
