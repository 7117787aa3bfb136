"""SAC's and REDQ's updates, by hand and against torchrl's own losses."""

import math

import pytest
import torch
from differences import assert_slope
from toy import Line

pytest.importorskip("torchrl")

from tensordict.nn import TensorDictModule
from torchrl.modules import MLP, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import SACLoss

from shac.algos.networks import Ensemble
from shac.algos.redq import REDQ
from shac.algos.sac import SAC
from shac.runs import checkpoint
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
    learner = REDQ(Line(), REDQSettings(**SMALL, critics=4, updates=2, gamma=0.9, reward_scale=0.5))
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
    mu, std = sac.actor(obs)
    action, found = sac.actor.sample(obs, (action.atanh() - mu) / std)
    assert torch.allclose(found, expected, atol=1e-9)
    # where tanh is 1 to rounding
    saturated = sac.actor.sample(obs, (20.0 - mu) / std)[1]
    normal = torch.distributions.Normal(mu, std).log_prob(torch.full_like(mu, 20.0))
    assert torch.allclose(saturated, (normal + 40.0 - math.log(4)).sum(-1), atol=1e-9)


@pytest.fixture
def torchrls(sac):
    """torchrl's SACLoss of the same networks, its target critics apart from the others."""
    torch.manual_seed(1)
    for parameter in sac.target_critics.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    actor = ProbabilisticActor(
        TensorDictModule(sac.actor, ["observation"], ["loc", "scale"]),
        in_keys=["loc", "scale"],
        distribution_class=TanhNormal,
        return_log_prob=True,
    )
    critic = MLP(in_features=3, out_features=1, num_cells=[5], activation_class=torch.nn.ReLU)
    critic = ValueOperator(critic.double(), in_keys=["observation", "action"])
    loss = SACLoss(actor, critic, loss_function="l2", alpha_init=0.3, target_entropy=sac.target_entropy)
    loss.make_value_estimator(gamma=0.9)
    with torch.no_grad():
        for parameters, critics in (
            (loss.qvalue_network_params, sac.critics),
            (loss.target_qvalue_network_params, sac.target_critics),
        ):
            for layer, weight, bias in zip(("0", "2"), critics.weights, critics.biases):
                parameters["module", layer, "weight"].data.copy_(weight.mT)
                parameters["module", layer, "bias"].data.copy_(bias[:, 0])
        sac.log_alpha.value.copy_(loss.log_alpha)
    return loss


@pytest.mark.filterwarnings("ignore:No target network updater")
def test_sacs_losses_are_torchrls(sac, torchrls):
    batch = sac._minibatch()
    torch.manual_seed(0)
    critic_loss = sac.critic_loss(batch, sac.targets(batch))
    torch.manual_seed(0)
    assert torchrls.qvalue_v2_loss(batch.clone())[0].item() == pytest.approx(critic_loss.item(), rel=1e-6)
    torch.manual_seed(0)
    actor_loss, log_prob = sac.actor_loss(batch)
    torch.manual_seed(0)
    expected, metadata = torchrls.actor_loss(batch.clone())
    assert expected.mean().item() == pytest.approx(actor_loss.item(), rel=1e-6)
    assert torch.allclose(metadata["log_prob"], log_prob, atol=1e-6)


@pytest.mark.filterwarnings("ignore:No target network updater")
def test_a_checkpoint_with_torchrls_critics_goes_on(sac, torchrls, tmp_path):
    """As if the same step had been made by today's."""
    batch, state = sac._minibatch(), sac.state_dict()
    optimizer = torch.optim.Adam(torchrls.qvalue_network_params.flatten_keys().values(), lr=0.01, fused=True)
    sac.critics.zero_grad()
    today = torch.optim.Adam(sac.critics.parameters(), lr=0.01, fused=True)
    torch.manual_seed(0)
    torchrls.qvalue_v2_loss(batch.clone())[0].backward()
    torch.manual_seed(0)
    sac.critic_loss(batch, sac.targets(batch)).backward()
    optimizer.step()
    today.step()
    state = {k: v for k, v in state.items() if k not in ("critics", "target_critics", "log_alpha")}
    state |= {"loss": torchrls.state_dict(), "critic_optimizer": optimizer.state_dict()}
    checkpoint.save(tmp_path / "last.pt", {"learner": state})
    resumed = SAC(Line(), sac.config)
    resumed.load_state_dict(checkpoint.load(tmp_path / "last.pt")["learner"])
    for part in ("critics", "target_critics", "log_alpha"):
        for a, b in zip(getattr(resumed, part).parameters(), getattr(sac, part).parameters(), strict=True):
            assert torch.allclose(a, b, rtol=1e-6, atol=1e-9)
    found, expected = (x.state_dict()["state"] for x in (resumed.critic_optimizer, today))
    assert found.keys() == expected.keys() and len(found) == 4
    for k in found:
        for name in found[k]:
            # torchrl's density of an action is right to 1e-6
            assert torch.allclose(found[k][name], expected[k][name], rtol=1e-4, atol=1e-7), (k, name)


def test_an_update_moves_actor_critics_targets_and_the_entropys_weight(sac):
    parts = sac.actor, sac.critics, sac.target_critics, sac.log_alpha
    before = [parameter.clone() for part in parts for parameter in part.parameters()]
    sac.update(last=False)
    after = [parameter for part in parts for parameter in part.parameters()]
    assert not any(torch.equal(a, b) for a, b in zip(before, after))


def test_redqs_target_is_the_least_of_two_drawn_critics(redq):
    batch = redq._minibatch()
    following = batch["next"]
    torch.manual_seed(0)
    targets = redq.targets(batch)
    torch.manual_seed(0)
    with torch.no_grad():
        action, _ = redq._act(following["observation"])
        chosen = torch.randperm(4)[:2]
        every = redq.target_critics(torch.cat((following["observation"], action), -1))[..., 0]
        values = torch.minimum(every[chosen[0]], every[chosen[1]])
        values = values - redq.log_alpha().exp() * log_prob(redq.actor, following["observation"], action)
    expected = 0.5 * following["reward"][:, 0] + 0.9 * (~following["terminated"][:, 0]) * values
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
