import pytest
import torch

from shac.algos.returns import td_lambda


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
