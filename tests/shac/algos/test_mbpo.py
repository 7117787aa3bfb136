import pytest
import torch
from differences import assert_slope
from toy import Line, SeenLine

pytest.importorskip("torchrl")

from shac.algos.dynamics import Dynamics
from shac.algos.mbpo import MBPO
from shac.errors import UserError
from shac.runs import checkpoint
from shac.runs.settings import MBPO as Settings

SMALL = {
    "num_envs": 2,
    "horizon": 4,
    "actor_units": (6,),
    "critic_units": (5,),
    "batch": 20,
    "random_steps": 4,
    "updates": 1,
    "members": 3,
    "elites": 2,
    "model_units": (10,),
    "weight_decay": (0.0, 0.0),
    "rollouts": 30,
}


@pytest.fixture
def dynamics():
    torch.manual_seed(0)
    return Dynamics(2, 1, Settings(**SMALL)).double()


def test_a_members_likelihood_is_that_of_its_gaussian(dynamics):
    x, targets = torch.randn(9, 3, dtype=torch.float64), torch.randn(9, 3, dtype=torch.float64)
    mean, log_var = dynamics(x)
    gaussian = torch.distributions.Normal(mean, (0.5 * log_var).exp())
    # without the constant log(2 pi), twice, a mean over numbers and a sum over members
    expected = (-2 * gaussian.log_prob(targets) - torch.tensor(2 * torch.pi).log()).mean((1, 2)).sum()
    expected = expected + 0.01 * (dynamics.max_log_var - dynamics.min_log_var).sum()
    assert torch.allclose(dynamics.loss(x, targets), expected)


def test_variances_stay_between_their_bounds(dynamics):
    _, log_var = dynamics(1e4 * torch.randn(50, 3, dtype=torch.float64))
    assert (log_var <= dynamics.max_log_var + 1e-4).all() and (log_var >= dynamics.min_log_var - 1e-4).all()


def test_a_line_with_noise_is_learnt_and_the_elites_err_least(dynamics):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2000, 3, generator=generator, dtype=torch.float64)
    clean = torch.stack((x[:, 0] + 2 * x[:, 2], -x[:, 1], x.sum(1)), 1)
    targets = clean + 0.1 * torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        # a member that cannot learn: all its hidden units are off
        dynamics.members.biases[0][1] -= 1e3
    optimizer = torch.optim.Adam(dynamics.parameters(), lr=3e-3)
    error = dynamics.fit(x, targets, optimizer, generator)
    # the noise's variance, as a part of each target's own, is what cannot be predicted
    noise = (0.01 / targets.var(0)).mean().item()
    assert 0.8 * noise < error < 2 * noise
    assert sorted(dynamics.elites.tolist()) == [0, 2]
    mean, log_var = dynamics(x)
    assert (mean[0] - dynamics.targets.snapshot(clean.dtype)(clean)).square().mean() < 0.005
    spread = (0.5 * log_var[0]).exp().mean(0) * targets.std(0)
    assert spread.tolist() == pytest.approx(3 * [0.1], rel=0.3)
    following, reward = dynamics.predict(x[:, :2], x[:, 2:])
    assert (following - x[:, :2] - clean[:, :2]).std() < 0.2 and (reward - clean[:, 2]).std() < 0.2


def test_changes_that_are_small_beside_the_reward_are_learnt_as_well_as_it(dynamics):
    """A control step changes an observation by hundredths, and a reward may be some tens."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2000, 3, generator=generator, dtype=torch.float64)
    targets = torch.stack((0.01 * (x[:, 0] + 2 * x[:, 2]), -0.03 * x[:, 1], 20 + 10 * x.sum(1)), 1)
    dynamics.fit(x, targets, torch.optim.Adam(dynamics.parameters(), lr=3e-3), generator)
    following, reward = dynamics.predict(x[:, :2], x[:, 2:])
    errors = torch.cat((following - x[:, :2], reward[:, None]), 1) - targets
    assert (errors.square().mean(0).sqrt() < 0.1 * targets.std(0)).all()


def test_the_gradient_against_central_differences(dynamics):
    x, targets = torch.randn(9, 3, dtype=torch.float64), torch.randn(9, 3, dtype=torch.float64)
    assert_slope(lambda: dynamics.loss(x, targets), dynamics.parameters())


class Exact(torch.nn.Module):
    """The line itself: x' = x + action, the last action in the observation, rewarded by x'."""

    def predict(self, obs, action):
        following = torch.cat((obs[:, :1] + action, action), 1)
        return following, following[:, 0]


def test_rollouts_branch_off_from_states_that_were_met_and_end_with_a_failure():
    learner = MBPO(SeenLine(), Settings(**SMALL, rollout_length=(0, 1, 3, 3)))
    learner.train_epoch()
    assert learner.rollout_length == 3 and len(learner.imagined) == 0
    learner.dynamics = Exact()
    met = learner.replay.steps()["observation"][:, 0]
    torch.manual_seed(0)
    learner._imagine()
    steps = learner.imagined.steps()
    x, following = steps["observation"][:, 0], steps["next"]
    assert all((met - value).abs().min() == 0 for value in x[:30])
    assert torch.allclose(following["observation"][:, 0], x + steps["action"][:, 0])
    assert torch.equal(following["terminated"][:, 0], following["observation"][:, 0] >= 2)
    # a step follows from each that did not fail, twice
    alive = [~following["terminated"][:30, 0]]
    assert torch.equal(x[30 : 30 + int(alive[0].sum())], following["observation"][:30, 0][alive[0]])
    assert 30 < len(steps) < 90


def test_one_step_in_twenty_is_real():
    learner = MBPO(SeenLine(), Settings(**SMALL))
    for _ in range(2):
        learner.train_epoch()
    real = {tuple(row) for row in learner.replay.steps()["observation"].tolist()}
    batch = learner._sample()
    assert len(batch) == 20 and learner._num_real == 1
    assert tuple(batch["observation"][0].tolist()) in real


def test_the_rollouts_grow_with_the_steps():
    learner = MBPO(SeenLine(), Settings(**{**SMALL, "num_envs": 250}, rollout_length=(2, 6, 1, 5)))
    lengths = []
    for epoch in range(9):
        learner.epoch = epoch
        lengths.append(learner.rollout_length)
    assert lengths == [1, 1, 1, 2, 3, 4, 5, 5, 5]


def test_a_model_from_before_its_targets_were_standardised_is_read_as_it_was(tmp_path):
    learner = MBPO(SeenLine(), Settings(**SMALL))
    state = learner.state_dict()
    state["dynamics"] = {name: x for name, x in state["dynamics"].items() if not name.startswith("targets.")}
    checkpoint.save(tmp_path / "last.pt", {"format": checkpoint.FORMAT, "learner": state})
    learner.dynamics.targets.update(torch.tensor([[0.0, 0.0, 5.0], [1.0, 2.0, 7.0]]))
    learner.load_state_dict(checkpoint.load(tmp_path / "last.pt")["learner"])
    targets = torch.tensor([[0.3, -0.2, 4.0]])
    assert torch.allclose(learner.dynamics.targets.snapshot(torch.float32)(targets), targets, rtol=1e-4)


def test_a_task_that_looks_at_the_state_is_told_so():
    learner = MBPO(Line(), Settings(**SMALL))
    learner.train_epoch()
    with pytest.raises(UserError, match=r"Line.terminated looks at the state"):
        learner.train_epoch()
