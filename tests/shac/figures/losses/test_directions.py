import pytest
import torch

from shac.algos.networks import Actor
from shac.figures.losses.directions import filter_normalised, one_weight


@pytest.fixture
def actor():
    torch.manual_seed(0)
    return Actor(3, 2, (5, 4))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_one_weight_is_one_entry_of_a_matrix_and_any_of_them(actor):
    names = set()
    for seed in range(300):
        name, direction = one_weight(actor, generator(seed))
        ((parameter, entries),) = direction.items()
        row, column = entries.nonzero()[0].tolist()
        assert entries.sum() == 1 and (entries != 0).sum() == 1
        assert name == f"{parameter}[{row}, {column}]"
        assert entries.shape == actor.get_parameter(parameter).shape
        names.add(name)
    # 15 + 20 + 8 weights; a wrong offset would leave some out, or leave the matrix.
    assert len(names) == 43
    assert one_weight(actor, generator(7))[0] == one_weight(actor, generator(7))[0]


def test_filters_are_scaled_to_the_policys_rows(actor):
    direction = filter_normalised(actor, generator())
    assert set(direction) == {"mu.0.weight", "mu.3.weight", "mu.6.weight"}
    for name, step in direction.items():
        torch.testing.assert_close(step.norm(dim=1), actor.get_parameter(name).norm(dim=1))
    # By hand: the first layer's noise is the generator's first 15 numbers.
    noise, weight = torch.randn(5, 3, generator=generator()), actor.get_parameter("mu.0.weight")
    row = noise[2] * (weight[2].square().sum().sqrt() / noise[2].square().sum().sqrt())
    torch.testing.assert_close(direction["mu.0.weight"][2], row.detach())
    assert not direction["mu.0.weight"].requires_grad
