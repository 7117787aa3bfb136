"""SAC's and REDQ's updates, by hand and against torchrl's own losses."""

import pytest
import torch
from differences import assert_slope
from toy import Line

pytest.importorskip("torchrl")

from torchrl.modules import TanhNormal

from shac.algos.networks import Ensemble
from shac.algos.redq import REDQ
from shac.algos.sac import SAC
from shac.runs.settings import REDQ as REDQSettings
from shac.runs.settings import SAC as SACSettings

SMALL = {"num_envs": 3, "horizon": 4, "actor_units": (6,), "critic_units": (5,), "batch": 7, "random_steps": 1}


@pytest.fixture
def sac():
    learner = SAC(Line(), SACSettings(**SMALL, normalize_obs=False, gamma=0.9))
    learner.train_epoch()
    return learner


@pytest.fixture
def redq():
    learner = REDQ(Line(), REDQSettings(**SMALL, critics=4, updates=2, gamma=0.9))
    learner.train_epoch()
    return learner


def test_what_is_remembered_is_what_happened(sac):
    """x' = x + action, rewarded by x'; a failure at x >= 2 is remembered as one, the time limit of 3 steps is not."""
    steps = sac.replay._buffer[:]
    x, action, following = steps["observation"][:, 0], steps["action"][:, 0], steps["next"]
    assert len(sac.replay) == 12
    assert torch.allclose(following["observation"][:, 0], x + action)
    assert torch.equal(following["reward"][:, 0], following["observation"][:, 0])
    assert torch.equal(following["terminated"][:, 0], following["observation"][:, 0] >= 2)
    assert torch.equal(following["terminated"], following["done"])
    # the third world began at x = 2; world 0's third step was its last, and is no failure
    assert following["terminated"].any() and not following["terminated"][6]


def log_prob(actor, obs, action):
    """The density of tanh(u), u normal, by the change of variables."""
    mu, std = actor(obs)
    normal = torch.distributions.Normal(mu, std).log_prob(action.atanh())
    return (normal - (1 - action.square()).log()).sum(-1)


def test_the_density_of_an_action(sac):
    obs, action = torch.randn(5, 2, dtype=torch.float64), torch.rand(5, 1, dtype=torch.float64) - 0.5
    expected = log_prob(sac.actor, obs, action)
    assert torch.allclose(TanhNormal(*sac.actor(obs), event_dims=1).log_prob(action), expected, atol=1e-6)


def test_sacs_target_by_hand(sac):
    batch = sac._minibatch()
    torch.manual_seed(0)
    loss, _ = sac.loss.qvalue_v2_loss(batch.clone())
    torch.manual_seed(0)
    following = batch["next"]
    with torch.no_grad():
        action = TanhNormal(*sac.actor(following["observation"]), event_dims=1).rsample()
        parameters = sac.loss.target_qvalue_network_params
        x = torch.cat((following["observation"], action), -1)
        values = torch.stack([critic(parameters[k], x) for k in range(2)]).min(0).values
        values = values - sac.loss.log_alpha.exp() * log_prob(sac.actor, following["observation"], action)
        target = following["reward"][:, 0] + 0.9 * (~following["terminated"][:, 0]) * values
        x = torch.cat((batch["observation"], batch["action"]), -1)
        errors = [critic(sac.loss.qvalue_network_params[k], x) - target for k in range(2)]
    assert loss.item() == pytest.approx(sum(e.square().mean() for e in errors).item(), rel=1e-6)


def critic(parameters, x):
    layers = parameters["module"]
    hidden = torch.relu(x @ layers["0"]["weight"].T + layers["0"]["bias"])
    return (hidden @ layers["2"]["weight"].T + layers["2"]["bias"])[:, 0]


def test_the_losss_actor_is_the_one_that_acts(sac):
    batch = sac._minibatch()
    sac.actor.zero_grad()
    sac.loss(batch)["loss_actor"].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in sac.actor.parameters())
    before = [parameter.clone() for parameter in sac.actor.parameters()]
    sac.update(last=True)
    assert not any(torch.equal(a, b) for a, b in zip(before, sac.actor.parameters()))


def test_redqs_target_is_the_least_of_two_drawn_critics(redq):
    batch = redq._minibatch()
    following = batch["next"]
    torch.manual_seed(0)
    targets = redq.targets(batch)
    torch.manual_seed(0)
    with torch.no_grad():
        action = TanhNormal(*redq.actor(following["observation"]), event_dims=1).rsample()
        chosen = torch.randperm(4)[:2]
        every = redq.target_critics(torch.cat((following["observation"], action), -1))[..., 0]
        values = torch.minimum(every[chosen[0]], every[chosen[1]])
        values = values - redq.log_alpha().exp() * log_prob(redq.actor, following["observation"], action)
    expected = following["reward"][:, 0] + 0.9 * (~following["terminated"][:, 0]) * values
    assert torch.allclose(targets, expected, atol=1e-6)


def test_an_ensemble_is_its_networks():
    ensemble = Ensemble(3, (4, 5, 2)).double()
    x = torch.randn(7, 4, dtype=torch.float64)
    (w0, w1), (b0, b1) = ensemble.weights, ensemble.biases
    alone = torch.stack([torch.relu(x @ w0[k] + b0[k]) @ w1[k] + b1[k] for k in range(3)])
    assert torch.allclose(ensemble(x), alone)
    assert torch.allclose(ensemble(x, torch.tensor([2, 0])), alone[[2, 0]])


@pytest.mark.parametrize("part", ["critic", "actor"])
def test_redqs_gradients_against_central_differences(redq, part):
    batch = redq._minibatch()
    targets = redq.targets(batch)
    module = redq.critics if part == "critic" else redq.actor

    def loss():
        torch.manual_seed(0)
        return redq.critic_loss(batch, targets) if part == "critic" else redq.actor_loss(batch)[0]

    assert_slope(loss, module.parameters())


def test_the_targets_follow_and_the_weight_of_the_entropy_learns(redq):
    before = [p.clone() for p in redq.target_critics.parameters()]
    critics = [p.clone() for p in redq.critics.parameters()]
    alpha = redq.log_alpha().item()
    redq.update(last=False)
    assert redq.log_alpha().item() == alpha
    redq.update(last=True)
    assert redq.log_alpha().item() != alpha
    tau = redq.config.tau
    moved = list(zip(before, critics, redq.target_critics.parameters()))
    assert all((new - old).abs().max() <= 3 * tau * ((live - old).abs().max() + 0.01) for old, live, new in moved)
    assert any(not torch.equal(old, new) for old, _, new in moved)
