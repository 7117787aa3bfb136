"""SAC: Haarnoja et al., Soft Actor-Critic Algorithms and Applications, 2018: the paper's second baseline.

An epoch: `horizon` control steps of all worlds, each remembered, and after each a step of critics, actor and the
entropy's weight along the gradient of a minibatch of what is remembered.

The memory is torchrl's. The critics are one batched matrix product a layer, and their loss is here: with torchrl's an
update takes half as long again, and twice as long with small networks (docs/baselines.md). Tests compare the two.
"""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from shac import seeding
from shac.algos.learner import Epoch, Learner
from shac.algos.networks import Ensemble, build_actor
from shac.algos.nonfinite import naming_epoch
from shac.algos.replay import Replay
from shac.algos.sizes import require_steps
from shac.errors import NonFiniteError, UserError
from shac.task import Task

if TYPE_CHECKING:
    from tensordict import TensorDict

    from shac.runs.settings import SAC as Settings


class SAC(Learner):
    """SAC; see `Learner`."""

    num_critics = 2

    def __init__(self, task: Task, config: Settings):
        super().__init__(task, config)
        device, dtype = self.env.device, self.env.dtype
        require_steps(self.env, config.replay, "a memory")
        self.sampling = seeding.generator(config.seed, "sampling")
        self.replay = Replay(self.env, config.replay, config.batch, self.sampling)
        with self._weights():
            self.actor = build_actor(task, config).to(device, dtype)
            widths = (task.num_inputs + task.num_actions, *config.critic_units, 1)
            self.critics = Ensemble(self.num_critics, widths).to(device, dtype)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.log_alpha = Temperature(config.init_alpha).to(device, dtype)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=config.actor_lr, fused=True)
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), lr=config.critic_lr, fused=True)
        self.alpha_optimizer = torch.optim.Adam(self.log_alpha.parameters(), lr=config.alpha_lr)

    def train_epoch(self) -> Epoch:
        # Updates draw from torch's global generator.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch.randint(2**62, (), generator=self.sampling).item())
            return self._train_epoch()

    def _train_epoch(self) -> Epoch:
        env, config = self.env, self.config
        if self.epoch and not len(self.replay):
            raise UserError(
                f"a complete run of {config.algo} keeps none of its steps, so it cannot be given more epochs: "
                "begin a new one with its networks (--init)"
            )
        self.begin_epoch()
        steps, updates = [], []
        rollout = update = 0.0
        obs = env.cut()
        for step in range(self.epoch * config.horizon, (self.epoch + 1) * config.horizon):
            begin = time.perf_counter()
            obs, *results = self._step(obs, at_random=step < config.random_steps)
            steps.append(results)
            stepped = time.perf_counter()
            if step >= config.random_steps:
                updates += [self.update(last=k == config.updates - 1) for k in range(config.updates)]
            rollout += stepped - begin
            update += time.perf_counter() - stepped
        rewards, ended, whole = map(torch.stack, zip(*steps))
        finished = self.episodes.add(rewards, ended, whole)
        self.epoch += 1
        means = [_mean(column) for column in zip(*updates)] if updates else [None] * 3
        return Epoch(*means, finished, rollout, update, 0.0)

    @torch.no_grad()
    def _step(self, obs: torch.Tensor, *, at_random: bool) -> tuple[torch.Tensor, ...]:
        """A control step of all worlds, remembered; the next observations, the rewards, who has ended, who is whole."""
        env, config = self.env, self.config
        shape = (config.num_envs, env.task.num_actions)
        draws = {"generator": self.exploration, "dtype": env.dtype, "device": env.device}
        if config.normalize_obs:
            self.normalizer.update(obs)
        if at_random:
            action = 2 * torch.rand(shape, **draws) - 1
        else:
            normalize = self.normalizer.snapshot(env.dtype)
            action = self.actor.act(normalize(obs), torch.randn(shape, **draws))
        with naming_epoch(self.epoch):
            following, reward, terminated, truncated, info = env.step(action)
        self.replay.add(obs, action, reward, info["final_obs"], terminated)
        return following, reward, terminated | truncated, info["whole"]

    def update(self, *, last: bool) -> tuple[float | None, float, float | None]:
        """Moves critics, actor and the entropy's weight along the gradient of one minibatch.

        Args:
          last: it is the last update after a control step.

        Returns:
          The actor's loss, the critics', and the norm of the actor's gradient.
        """
        batch = self._minibatch()
        critic_loss = self.critic_loss(batch, self.targets(batch))
        self.critic_optimizer.zero_grad()
        critic_loss.backward()
        self.critic_optimizer.step()
        actor_loss, norm = self._update_actor(batch) if self._moves_actor(last) else (None, None)
        torch._foreach_lerp_(list(self.target_critics.parameters()), list(self.critics.parameters()), self.config.tau)
        return actor_loss, critic_loss.item(), norm

    def _moves_actor(self, last: bool) -> bool:
        """Whether an update moves actor and entropy's weight, too."""
        return True

    def _chosen(self) -> torch.Tensor | None:
        """The critics whose least value a target is; None: all."""
        return None

    def _value(self, values: torch.Tensor) -> torch.Tensor:
        """What the actor goes by, (batch,), of all critics' values (critics, batch)."""
        return values.min(0).values

    @torch.no_grad()
    def targets(self, batch: TensorDict) -> torch.Tensor:
        """Targets of a minibatch's values, (batch,)."""
        following = batch["next"]
        action, log_prob = self._act(following["observation"])
        values = self.target_critics(_inputs(following["observation"], action), self._chosen())[..., 0].min(0).values
        values = values - self.log_alpha().exp() * log_prob
        goes_on = (~following["terminated"][:, 0]).to(values.dtype)
        return self.config.reward_scale * following["reward"][:, 0] + self.config.gamma * goes_on * values

    def critic_loss(self, batch: TensorDict, targets: torch.Tensor) -> torch.Tensor:
        """Sum over the critics of their mean squared errors."""
        values = self.critics(_inputs(batch["observation"], batch["action"]))[..., 0]
        return (values - targets).square().mean(1).sum()

    def actor_loss(self, batch: TensorDict) -> tuple[torch.Tensor, torch.Tensor]:
        """The actor's loss, and the logarithms of its actions' densities (batch,)."""
        action, log_prob = self._act(batch["observation"])
        value = self._value(self.critics(_inputs(batch["observation"], action))[..., 0])
        return (self.log_alpha().exp().detach() * log_prob - value).mean(), log_prob

    def _update_actor(self, batch: TensorDict) -> tuple[float, float]:
        # The critics take no part: their gradient would be thrown away.
        self.critics.requires_grad_(False)
        loss, log_prob = self.actor_loss(batch)
        self.actor_optimizer.zero_grad()
        loss.backward()
        self.critics.requires_grad_(True)
        norm = self._require_finite()
        self.actor_optimizer.step()
        self.alpha_optimizer.zero_grad()
        (-self.log_alpha() * (log_prob.detach() + self.target_entropy).mean()).backward()
        self.alpha_optimizer.step()
        return loss.item(), norm

    def _act(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`SquashedActor.sample` with fresh noise."""
        return self.actor.sample(obs, torch.randn(len(obs), self.env.task.num_actions).to(obs))

    @property
    def target_entropy(self) -> float:
        """The entropy that its weight is learnt for [nat]."""
        wanted = self.config.target_entropy
        return -0.5 * self.env.task.num_actions if wanted is None else wanted

    def _minibatch(self) -> TensorDict:
        """Remembered steps, standardised."""
        batch = self._sample()
        if self.config.normalize_obs:
            normalize = self.normalizer.snapshot(self.env.dtype)
            for key in ("observation", ("next", "observation")):
                batch[key] = normalize(batch[key])
        return batch

    def _sample(self) -> TensorDict:
        """A minibatch of steps as they are remembered."""
        return self.replay.sample()

    def _require_finite(self) -> float:
        """The norm of the actor's gradient."""
        norm = nn.utils.get_total_norm(p.grad for p in self.actor.parameters())
        if not bool(norm.isfinite()):
            raise NonFiniteError(f"the actor's gradient is not finite in epoch {self.epoch}")
        return norm.item()

    @property
    def policy(self) -> nn.Module:
        return self.actor

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        names = "actor_optimizer", "critic_optimizer", "alpha_optimizer"
        return {name: getattr(self, name) for name in names}

    @property
    def actor_lr(self) -> float:
        return self.config.actor_lr

    def parts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("actor", "critics", "target_critics", "log_alpha")}

    def state_dict(self, *, complete: bool = False) -> dict[str, Any]:
        # Nobody goes on with a complete run, and what it remembers is large.
        replay = None if complete else self.replay.state_dict()
        return {**super().state_dict(complete=complete), "sampling": self.sampling.get_state(), "replay": replay}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.sampling.set_state(state["sampling"].cpu())
        if state["replay"] is not None:
            self.replay.load_state_dict(state["replay"])

    def begin_with(self, state: dict[str, Any]) -> None:
        for name in ("actor", "critics", "normalizer"):
            getattr(self, name).load_state_dict(state[name])
        self.target_critics.load_state_dict(state["critics"])


class Temperature(nn.Module):
    """The logarithm of the entropy's weight."""

    def __init__(self, alpha: float):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(float(alpha)).log())

    def forward(self) -> torch.Tensor:
        return self.value


def _inputs(obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    return torch.cat((obs, action), dim=-1)


def _mean(values: tuple[float | None, ...]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
