"""SAC: Haarnoja et al., Soft Actor-Critic Algorithms and Applications, 2018: the paper's second baseline.

An epoch: `horizon` control steps of all worlds, each remembered, and after each a step of critics, actor and the
entropy's weight along the gradient of a minibatch of what is remembered. Loss and memory are torchrl's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.modules import MLP, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import SACLoss, SoftUpdate

from shac import seeding
from shac.algos.learner import Epoch, Learner
from shac.algos.networks import build_actor
from shac.algos.nonfinite import naming_epoch
from shac.algos.replay import Replay
from shac.algos.sizes import require_steps
from shac.env import Task
from shac.errors import NonFiniteError, UserError

if TYPE_CHECKING:
    from shac.runs.settings import SAC as Settings


class SAC(Learner):
    """SAC; see `Learner`."""

    def __init__(self, task: Task, config: Settings):
        super().__init__(task, config)
        device, dtype = self.env.device, self.env.dtype
        require_steps(self.env, config.replay, "a memory")
        self.sampling = seeding.generator(config.seed, "sampling")
        self.replay = Replay(self.env, config.replay, config.batch, self.sampling)
        with self._weights():
            self.actor = build_actor(task, config).to(device, dtype)
            self._build_critics()
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=config.actor_lr, fused=True)

    def train_epoch(self) -> Epoch:
        # The loss draws its actions from torch's global generator.
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
        losses = self.loss(self._minibatch())
        optimizers = self.actor_optimizer, self.critic_optimizer, self.alpha_optimizer
        for optimizer in optimizers:
            optimizer.zero_grad()
        (losses["loss_actor"] + losses["loss_qvalue"] + losses["loss_alpha"]).backward()
        norm = self._require_finite()
        for optimizer in optimizers:
            optimizer.step()
        self.update_targets()
        return losses["loss_actor"].item(), losses["loss_qvalue"].item(), norm

    @property
    def target_entropy(self) -> float:
        """The entropy that its weight is learnt for [nat]."""
        wanted = self.config.target_entropy
        return -0.5 * self.env.task.num_actions if wanted is None else wanted

    def _build_critics(self) -> None:
        """The critics, what learns them, and the entropy's weight."""
        task, config, like = self.env.task, self.config, {"device": self.env.device, "dtype": self.env.dtype}
        actor = ProbabilisticActor(
            TensorDictModule(self.actor, ["observation"], ["loc", "scale"]),
            in_keys=["loc", "scale"],
            distribution_class=TanhNormal,
            return_log_prob=True,
        )
        critic = MLP(
            in_features=task.num_inputs + task.num_actions,
            out_features=1,
            num_cells=list(config.critic_units),
            activation_class=nn.ReLU,
        )
        self.loss = SACLoss(
            actor,
            ValueOperator(critic.to(**like), in_keys=["observation", "action"]),
            loss_function="l2",
            alpha_init=config.init_alpha,
            target_entropy=self.target_entropy,
        )
        self.loss.make_value_estimator(gamma=config.gamma)
        self.update_targets = SoftUpdate(self.loss, tau=config.tau).step
        self.critic_optimizer = torch.optim.Adam(
            self.loss.qvalue_network_params.flatten_keys().values(), lr=config.critic_lr, fused=True
        )
        self.alpha_optimizer = torch.optim.Adam([self.loss.log_alpha], lr=config.alpha_lr)

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
        return {"actor": self.actor, "loss": self.loss}

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
        for name in ("actor", "loss", "normalizer"):
            getattr(self, name).load_state_dict(state[name])


def _mean(values: tuple[float | None, ...]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
