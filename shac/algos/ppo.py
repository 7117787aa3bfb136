"""PPO: Schulman et al., Proximal Policy Optimization Algorithms, 2017: the paper's first baseline.

An epoch: `horizon` steps in all worlds; advantages (Schulman et al., High-Dimensional Continuous Control Using
Generalized Advantage Estimation, 2016); and some passes over the steps in minibatches, each along the gradient of the
clipped objective. Advantage and objective are torchrl's. As in rl_games, which the paper used: values of standardised
returns, and a learning rate that follows the policy's movement.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from tensordict import TensorDict
from tensordict.nn import ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential, TensorDictModule
from torch import nn
from torchrl.modules import IndependentNormal
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value.functional import generalized_advantage_estimate

from shac.algos.learner import Epoch, Learner
from shac.algos.networks import build_actor
from shac.algos.nonfinite import check_window, naming_epoch
from shac.algos.normalizer import Normalizer, Standardize
from shac.algos.sizes import require_steps
from shac.errors import NonFiniteError
from shac.task import Task

if TYPE_CHECKING:
    from shac.runs.settings import PPO as Settings

# The learning rate follows the policy's movement by this factor, within these bounds (rl_games).
RATE_FACTOR = 1.5
RATES = (1e-6, 1e-2)
# Actions are clipped at 1; the policy's mean may be a little beyond.
SOFT_BOUND = 1.1


class Rollout(NamedTuple):
    """Steps of all worlds; h is the horizon, N the number of worlds.

    | field | meaning | shape |
    |---|---|---|
    | obs | standardised observations | (h, N, num_obs) |
    | loc, scale | mean and standard deviation of the action | (h, N, num_actions) |
    | values | standardised values, and those after the last step | (h + 1, N, 1) |
    | actions | actions, not clipped | (h, N, num_actions) |
    | rewards | rewards | (h, N) |
    | terminated | the task has failed in this step | (h, N) bool |
    | ended | the step was its episode's last, terminated or truncated | (h, N) bool |
    | whole | the step's episode has the task's time limit, not an earlier one | (h, N) bool |
    | final_values | standardised values of where episodes ended, in the order of `ended` | (ends, 1) |
    """

    obs: torch.Tensor
    loc: torch.Tensor
    scale: torch.Tensor
    values: torch.Tensor
    actions: torch.Tensor
    rewards: torch.Tensor
    terminated: torch.Tensor
    ended: torch.Tensor
    whole: torch.Tensor
    final_values: torch.Tensor


class PPO(Learner):
    """PPO; see `Learner`."""

    def __init__(self, task: Task, config: Settings):
        super().__init__(task, config)
        device, dtype = self.env.device, self.env.dtype
        require_steps(self.env, config.horizon * config.num_envs, "a rollout")
        with self._weights():
            self.actor = build_actor(task, config).to(device, dtype)
        self.returns = Normalizer(1).to(device)
        self.optimizer = torch.optim.Adam(self.actor.parameters(), lr=config.actor_lr, fused=True)
        self.rate = _Rate(config.actor_lr)
        # The network is called once a minibatch: what the loss takes for one hands on what is there.
        distribution = ProbabilisticTensorDictModule(
            ["loc", "scale"], ["action"], distribution_class=IndependentNormal, return_log_prob=True
        )
        self.loss = ClipPPOLoss(
            ProbabilisticTensorDictSequential(distribution),
            TensorDictModule(nn.Identity(), ["value"], ["state_value"]),
            clip_epsilon=config.clip,
            entropy_coeff=config.entropy_coef,
            critic_coeff=config.value_coef,
            loss_critic_type="l2",
        )

    def train_epoch(self) -> Epoch:
        begin = time.perf_counter()
        self.begin_epoch()
        normalize = self.normalizer.snapshot(self.env.dtype)
        with naming_epoch(self.epoch):
            rollout, raw_obs = self.rollout(normalize)
        check_window(self.epoch, {"action": rollout.actions, "observation": raw_obs, "reward": rollout.rewards})
        rolled_out = time.perf_counter()
        actor_loss, critic_loss, norm = self._update(self.training_data(rollout))
        if self.config.normalize_obs:
            self.normalizer.update(raw_obs)
        finished = self.episodes.add(rollout.rewards, rollout.ended, rollout.whole)
        self.epoch += 1
        return Epoch(actor_loss, critic_loss, norm, finished, rolled_out - begin, time.perf_counter() - rolled_out, 0.0)

    @torch.no_grad()
    def rollout(self, normalize: Standardize) -> tuple[Rollout, torch.Tensor]:
        """`horizon` steps from where the last ones ended, and the raw observations (h, N, num_obs) that were seen."""
        env, config = self.env, self.config
        shape = (config.horizon, config.num_envs, env.task.num_actions)
        eps = torch.randn(shape, generator=self.exploration, dtype=env.dtype, device=env.device)
        obs, raw, seen, values, steps, final_values = env.cut(), [], [], [], [], []
        for noise in eps:
            raw.append(obs)
            standardised = normalize(obs)
            loc, scale, value = self.actor(standardised)
            action = loc + scale * noise
            seen.append((standardised, loc, scale))
            values.append(value)
            obs, reward, terminated, truncated, info = env.step(action)
            ended = terminated | truncated
            steps.append((action, reward, terminated, ended, info["whole"]))
            final_values.append(self.actor.value_of(normalize(info["final_obs"][ended])))
        values.append(self.actor.value_of(normalize(obs)))
        before, after = (map(torch.stack, zip(*columns)) for columns in (seen, steps))
        return Rollout(*before, torch.stack(values), *after, torch.cat(final_values)), torch.stack(raw)

    @torch.no_grad()
    def training_data(self, rollout: Rollout) -> TensorDict:
        """What the passes take, a row per step, in the order of the steps, then of the worlds.

        Values and targets are standardised by the statistics of all targets so far, this epoch's included.
        """
        config, num = self.config, len(rollout.actions)
        mean, inv_std = self.returns.snapshot(self.env.dtype)
        values = rollout.values / inv_std + mean
        next_values = values[1:].clone()
        # A time limit is no failure: what would have followed counts as it does between two steps.
        next_values[rollout.ended] = rollout.final_values / inv_std + mean
        advantage, target = generalized_advantage_estimate(
            config.gamma,
            config.gae_lambda,
            values[:-1],
            next_values,
            rollout.rewards[..., None],
            rollout.ended[..., None],
            rollout.terminated[..., None],
            time_dim=0,
        )
        self.returns.update(target)
        standardize = self.returns.snapshot(self.env.dtype)
        data = TensorDict(
            {
                "observation": rollout.obs,
                "action": rollout.actions,
                "loc_old": rollout.loc,
                "scale_old": rollout.scale,
                "action_log_prob": IndependentNormal(rollout.loc, rollout.scale).log_prob(rollout.actions),
                "advantage": (advantage - advantage.mean()) / (advantage.std() + 1e-8),
                "value_target": standardize(target),
            },
            batch_size=(num, config.num_envs),
        )
        return data.flatten()

    def _update(self, data: TensorDict) -> tuple[float, float, float]:
        """All passes; the means of the policy's loss, the value's loss and the gradient's norm."""
        config, totals = self.config, []
        for _ in range(config.passes):
            order = torch.randperm(len(data), generator=self.exploration, device=data.device)
            for rows in order.split(config.minibatch):
                batch = data[rows]
                losses = self.losses(batch)
                self.optimizer.zero_grad()
                sum(losses.values()).backward()
                norm = self._clip_gradients()
                self.optimizer.step()
                if config.kl_target is not None:
                    self.rate.follow(_divergence(batch), config.kl_target, self.optimizer)
                totals.append((losses["policy"].item(), losses["value"].item() / config.value_coef, norm))
        return tuple(sum(column) / len(totals) for column in zip(*totals))

    def _clip_gradients(self) -> float:
        """Scales down the gradients of policy and value, each for itself; the norm of the policy's before."""
        norms = [nn.utils.clip_grad_norm_(part, self.config.max_grad_norm) for part in self.actor.parts]
        if not all(norm.isfinite() for norm in norms):
            raise NonFiniteError(f"PPO's gradient is not finite in epoch {self.epoch}")
        return norms[0].item()

    def losses(self, batch: TensorDict) -> dict[str, torch.Tensor]:
        """The parts of a minibatch's loss; the network's outputs are written into `batch`."""
        config = self.config
        loc, scale, value = self.actor(batch["observation"])
        batch["loc"], batch["scale"], batch["value"] = loc, scale, value
        losses = self.loss(batch)
        beyond = (loc.abs() - SOFT_BOUND).clamp(min=0)
        return {
            "policy": losses["loss_objective"],
            "value": losses["loss_critic"],
            "entropy": losses["loss_entropy"],
            "bounds": config.bounds_coef * beyond.square().sum(-1).mean(),
        }

    @property
    def policy(self) -> nn.Module:
        return self.actor

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"optimizer": self.optimizer}

    @property
    def actor_lr(self) -> float:
        return self.rate.value

    def parts(self) -> dict[str, Any]:
        return {"actor": self.actor, "returns": self.returns, "rate": self.rate}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.rate.apply(self.optimizer)

    def begin_with(self, state: dict[str, Any]) -> None:
        for name in ("actor", "normalizer", "returns"):
            getattr(self, name).load_state_dict(state[name])


class _Rate:
    """A learning rate that keeps the policy's movement in a minibatch near a target."""

    def __init__(self, value: float):
        self.value = value

    def follow(self, divergence: float, target: float, optimizer: torch.optim.Optimizer) -> None:
        if divergence > 2 * target:
            self.value = max(self.value / RATE_FACTOR, RATES[0])
        elif divergence < target / 2:
            self.value = min(self.value * RATE_FACTOR, RATES[1])
        self.apply(optimizer)

    def apply(self, optimizer: torch.optim.Optimizer) -> None:
        optimizer.param_groups[0]["lr"] = self.value

    def state_dict(self) -> dict[str, float]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.value = state["value"]


@torch.no_grad()
def _divergence(batch: TensorDict) -> float:
    """Mean Kullback-Leibler divergence of a minibatch's old policy from the present one [nat]."""
    old = IndependentNormal(batch["loc_old"], batch["scale_old"])
    new = IndependentNormal(batch["loc"], batch["scale"])
    return torch.distributions.kl_divergence(old.base_dist, new.base_dist).sum(-1).mean().item()
