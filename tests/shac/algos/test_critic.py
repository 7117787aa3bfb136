import copy

import pytest
import torch
from torch import nn

from shac.algos.critic import CriticFit, td_lambda
from shac.algos.networks import Critic


def lambda_return(rewards, next_values, ended, t, gamma, lambda_):
    """The definition, for one world: the weighted mean of all k-step returns, k up to the end of episode or window."""
    longest = 1
    while t + longest < len(rewards) and not ended[t + longest - 1]:
        longest += 1
    k_step = [
        sum(gamma**j * rewards[t + j] for j in range(k)) + gamma**k * next_values[t + k - 1]
        for k in range(1, longest + 1)
    ]
    # The longest return takes the weight of all that would be longer.
    weights = [(1 - lambda_) * lambda_ ** (k - 1) for k in range(1, longest)] + [lambda_ ** (longest - 1)]
    return sum(w * g for w, g in zip(weights, k_step))


@pytest.mark.parametrize("lambda_", [0.0, 0.3, 0.95, 1.0])
def test_targets_equal_the_weighted_sum_of_k_step_returns(lambda_):
    generator = torch.Generator().manual_seed(0)
    rewards = torch.randn(9, 6, generator=generator, dtype=torch.float64)
    values = torch.randn(9, 6, generator=generator, dtype=torch.float64)
    ended = torch.rand(9, 6, generator=generator) < 0.25
    ended[:, 0] = False
    ended[:, 1] = True
    ended[-1, 2] = True

    targets = td_lambda(rewards, values, ended, gamma=0.9, lambda_=lambda_)

    for world in range(6):
        for t in range(9):
            expected = lambda_return(rewards[:, world], values[:, world], ended[:, world], t, 0.9, lambda_)
            assert targets[t, world].item() == pytest.approx(expected.item(), rel=1e-12), (t, world)


def test_arguments_are_left_alone():
    rewards, values = torch.ones(3, 2), torch.ones(3, 2)
    ended = torch.zeros(3, 2, dtype=torch.bool)
    td_lambda(rewards, values, ended, gamma=0.9, lambda_=0.95)
    assert (rewards == 1).all() and (values == 1).all() and not ended.any()


LR, BETAS, CLIP = 0.03, (0.7, 0.95), 0.5


def problem(units):
    """A critic, its Adam, and three minibatches, of which the last is smaller."""
    torch.manual_seed(3)
    critic = Critic(5, units).double()
    for parameter in critic.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    obs = [torch.randn(n, 5, dtype=torch.float64) for n in (12, 12, 8)]
    targets = [3 * torch.randn(len(x), dtype=torch.float64) for x in obs]
    return critic, torch.optim.Adam(critic.parameters(), lr=LR, betas=BETAS, fused=True), obs, targets


@pytest.mark.parametrize("units", [(), (7,), (16, 8, 4)])
def test_a_fit_is_what_autograd_and_adam_do(units):
    critic, adam, obs, targets = problem(units)
    theirs = copy.deepcopy(critic)
    reference = torch.optim.Adam(theirs.parameters(), lr=LR, betas=BETAS)
    clipped, fit = [], CriticFit(critic, adam, CLIP)
    # the second time with the moments of the first
    for passes in (1, 2):
        obs, targets = [x + 1 for x in obs], [x + 1 for x in targets]
        total = fit(obs, targets, passes)
        for _ in range(passes):
            expected = 0.0
            for x, target in zip(obs, targets):
                reference.zero_grad()
                loss = nn.functional.mse_loss(theirs(x), target)
                loss.backward()
                clipped.append(nn.utils.clip_grad_norm_(theirs.parameters(), CLIP).item() > CLIP)
                reference.step()
                expected += loss.item()
        # on a card the rate of Adam is an f32
        assert total.item() == pytest.approx(expected, rel=1e-12 if total.device.type == "cpu" else 1e-7)
    assert any(clipped)
    for ours, other in zip(critic.parameters(), theirs.parameters(), strict=True):
        rtol = 1e-9 if ours.device.type == "cpu" else 1e-6
        torch.testing.assert_close(ours, other, rtol=rtol, atol=rtol / 1000)
        for name, value in reference.state[other].items():
            torch.testing.assert_close(adam.state[ours][name], value, rtol=rtol, atol=rtol / 1000)


def test_a_fit_goes_on_with_what_a_checkpoint_brings():
    critic, adam, obs, targets = problem((7,))
    fit = CriticFit(critic, adam, CLIP)
    fit(obs, targets, 1)
    saved = copy.deepcopy((critic.state_dict(), adam.state_dict()))
    want = fit(obs, targets, 2).item()
    critic.load_state_dict(saved[0])
    adam.load_state_dict(saved[1])
    assert fit(obs, targets, 2).item() == pytest.approx(want, rel=1e-12)


def test_a_later_fit_of_a_process_has_the_same_bits_as_the_first():
    """A resumed run begins with a first one."""
    weights = []
    for _ in range(5):
        critic, adam, obs, targets = problem((64, 64))
        CriticFit(critic, adam, CLIP)(obs, targets, 3)
        weights.append(torch.cat([parameter.detach().flatten() for parameter in critic.parameters()]))
    assert all(torch.equal(weights[0], later) for later in weights[1:])
