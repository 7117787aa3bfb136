"""SHAC: Xu et al., Accelerated Policy Learning with Parallel Differentiable Simulation, ICLR 2022, algorithm 1.

An epoch: a window of `horizon` steps in all worlds; one step of the actor along the gradient, which flows through the
simulator, of the window's discounted reward and of the target critic's value at its end; a fit of the critic to
TD(lambda) targets; and the target critic's update. BPTT is the same with neither critic nor value.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from shac.algos.critic import CriticFit, td_lambda
from shac.algos.learner import Epoch, Learner
from shac.algos.networks import Critic, build_actor
from shac.algos.nonfinite import check_gradient, check_window, clip_gradient
from shac.algos.normalizer import Standardize
from shac.algos.sizes import require_window
from shac.algos.window import Window, actor_loss, rollout
from shac.errors import NonFiniteError
from shac.ranks import SOLO, Ranks
from shac.task import Task

if TYPE_CHECKING:
    from shac.runs.settings import Config

# The actor is averaged over at most this part of the epochs so far: early ones know nothing yet.
AVERAGED = 0.1
# Epochs that the target critic is averaged over at least once rewards or substeps have become others; with one, six of
# ten walks broke in the epochs that followed.
SETTLING = 5.0
# Of Muon. Adam's of the paper is 0.7; windows that follow each other have nearly the same gradient.
MUON_MOMENTUM = 0.9


class SHAC(Learner):
    """SHAC and, with `algo` "bptt", BPTT; see `Learner`."""

    def __init__(self, task: Task, config: Config, ranks: Ranks = SOLO):
        super().__init__(task, config, ranks)
        device, dtype = self.env.device, self.env.dtype
        require_window(self.env, config)
        self.env.adjoint_bound = config.adjoint_bound
        with self._weights():
            self.actor = build_actor(task, config).to(device, dtype)
            critic = Critic(task.num_inputs, config.critic_units).to(device, dtype)
        # What acts when the run is over: of one epoch's actor and the next one's, one may fall ten times as often.
        self.average_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.critic = critic if config.algo == "shac" else None
        self.target_critic = copy.deepcopy(self.critic)
        self.actor_optimizers = self._actor_optimizers()
        if self.critic is not None:
            self.target_critic.requires_grad_(False)
            self.critic_optimizer = self._adam(self.critic.parameters(), config.critic_lr)
            self._fit = CriticFit(self.critic, self.critic_optimizer, config.max_grad_norm)

    def train_epoch(self) -> Epoch:
        """One epoch of algorithm 1; a number that is not finite updates nothing."""
        begin = time.perf_counter()
        self._schedule_lr()
        self.begin_epoch()
        # The actor and both critics see one and the same map during an epoch; what it brings is known to the next.
        normalize = self.normalizer.snapshot(self.env.dtype)
        window = self.rollout(normalize)
        next_values = self._next_values(window, normalize)
        check_window(self.epoch, self._quantities(window, next_values), self.ranks)
        rolled_out = time.perf_counter()

        with self._beside(self._critic_fit(window, normalize, next_values)) as fit:
            loss = self.actor_loss(window, normalize)
            grad_norm = self._update_actor(loss, window)
            self._update_average()
            updated = time.perf_counter()
            critic_loss = fit()
        self._update_target()
        if self.config.normalize_obs:
            # Each observation that the actor saw counts once. (The reference counts those between windows twice.)
            obs = window.obs
            if self.config.symmetric:
                # standardised alike on both sides
                obs = torch.cat((obs, self.actor.image(obs)))
            self.normalizer.update(obs, self.ranks)
        # all processes know the episodes of all worlds, and so agree on which policy is the best
        episodes = (self.ranks.gather(x, dim=1) for x in (window.rewards.detach(), window.ended, window.whole))
        finished = self.episodes.add(*episodes)
        self.epoch += 1
        times = (rolled_out - begin, updated - rolled_out, time.perf_counter() - updated)
        return Epoch(self.ranks.mean(loss).item(), critic_loss, grad_norm, finished, *times)

    def rollout(self, normalize: Standardize) -> Window:
        """A window of `horizon` steps from where the last one ended, with the gradient cut at its beginning."""
        env, config = self.env, self.config
        shape = (config.horizon, config.num_envs, env.task.num_actions)
        eps = torch.randn(shape, generator=self.exploration, dtype=env.dtype, device=env.device)
        eps = eps[:, self.ranks.share(config.num_envs)]
        try:
            return rollout(env, self.actor, normalize, eps)
        except NonFiniteError as error:
            raise NonFiniteError(f"in epoch {self.epoch}, {error}") from error

    def actor_loss(self, window: Window, normalize: Standardize) -> torch.Tensor:
        """Equation 5; see `window.actor_loss`. Without a critic nothing follows a window's end: that is BPTT's."""
        config = self.config
        value = None if self.critic is None else lambda obs: self.target_critic(normalize(obs))
        return actor_loss(window, config.gamma, value, failure_gradient=config.failure_gradient)

    def begin_with(self, state: dict[str, Any]) -> None:
        # The average one: it is the other learner's policy.
        self.actor.load_state_dict(state["average_actor"])
        self.average_actor.load_state_dict(state["average_actor"])
        self.normalizer.load_state_dict(state["normalizer"])
        if self.critic is not None:
            self.critic.load_state_dict(state["critic"])
            self.target_critic.load_state_dict(state["critic"])

    def parts(self) -> dict[str, Any]:
        names = ["actor", "average_actor"]
        if self.critic is not None:
            names += ["critic", "target_critic"]
        return {name: getattr(self, name) for name in names}

    @property
    def policy(self) -> nn.Module:
        return self.average_actor

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return self.actor_optimizers | ({} if self.critic is None else {"critic_optimizer": self.critic_optimizer})

    def _actor_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """What moves the actor, by the names that checkpoints have.

        The loss is far steeper along a few directions than along all others (docs/learning.md). Adam steps too far
        along those, or not far enough along these; Muon goes equally far along all singular directions of a matrix.
        """
        config = self.config
        if config.actor_optimizer == "adam":
            return {"actor_optimizer": self._adam(self.actor.parameters(), config.actor_lr)}
        matrices = [parameter for parameter in self.actor.parameters() if parameter.ndim == 2]
        others = [parameter for parameter in self.actor.parameters() if parameter.ndim != 2]
        muon = torch.optim.Muon(
            matrices,
            lr=config.actor_lr,
            weight_decay=0.0,
            momentum=MUON_MOMENTUM,
            # Root mean square of a step's entries: 0.2 times the rate, as it is with Adam for large networks.
            adjust_lr_fn="match_rms_adamw",
        )
        return {"actor_optimizer": self._adam(others, config.actor_lr), "actor_muon": muon}

    def _adam(self, parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Adam:
        # Fused: one call instead of a dozen per step, a third of the critic's fit with networks this small.
        return torch.optim.Adam(parameters, lr=lr, betas=self.config.adam_betas, fused=True)

    def _memory(self, fraction: float, begin: int) -> float:
        """Epochs to average over, at least one: `fraction` of those from `begin` on, the present one included."""
        return max(1.0, fraction * (self.epoch + 1 - begin))

    def _target_memory(self, fraction: float) -> float:
        """Epochs that the target critic averages over: `fraction` of those since rewards or substeps became others.

        While they become others with every epoch, of all epochs: values are late then, but steady. (Of policies that a
        critic without delay has led, one drifts and falls without its noise; docs/learning.md.)
        """
        since = 0 if self.renewed else self.since
        memory = self._memory(fraction, since)
        return max(SETTLING, memory) if since else memory

    @property
    def actor_lr(self) -> float:
        return self.actor_optimizers["actor_optimizer"].param_groups[0]["lr"]

    def _schedule_lr(self) -> None:
        for optimizer in self.actor_optimizers.values():
            optimizer.param_groups[0]["lr"] = self._lr(self.config.actor_lr)
        if self.critic is not None:
            self.critic_optimizer.param_groups[0]["lr"] = self._lr(self.config.critic_lr)

    def _lr(self, first: float) -> float:
        """The present value of a learning rate that was `first` at the first epoch."""
        config = self.config
        progress = self.epoch / config.max_epochs
        if config.lr_schedule == "linear":
            return first + progress * (config.final_lr - first)
        if config.lr_schedule == "exponential":
            return first * (config.final_lr / first) ** progress
        return first

    def _quantities(self, window: Window, next_values: torch.Tensor | None) -> dict[str, torch.Tensor]:
        quantities = {
            "action": torch.stack(window.actions),
            "observation": window.final_obs,
            "reward": window.rewards,
        }
        if next_values is not None:
            quantities["target critic's value of the next state"] = next_values
        return quantities

    @torch.no_grad()
    def _next_values(self, window: Window, normalize: Standardize) -> torch.Tensor | None:
        """Target values of the states that the steps led to, 0 where the task has failed; (h, N)."""
        if self.critic is None:
            return None
        return self.target_critic(normalize(window.final_obs)).masked_fill(window.terminated, 0.0)

    def _update_actor(self, loss: torch.Tensor, window: Window) -> float:
        self.actor.zero_grad()
        try:
            loss.backward()
            self.env.require_finite()
        except ArithmeticError as error:
            raise NonFiniteError(f"in the backward pass of epoch {self.epoch}: {error}") from error
        self.ranks.average_gradients(self.actor.parameters())
        norm = clip_gradient(self.actor.parameters(), self.config.max_grad_norm)
        # The reference also stops at norms above 1e6. Those are finite, are clipped, and are BPTT's daily bread.
        check_gradient(self.epoch, norm, window.actions)
        for optimizer in self.actor_optimizers.values():
            optimizer.step()
        return norm.item()

    def _critic_fit(
        self, window: Window, normalize: Standardize, next_values: torch.Tensor | None
    ) -> Callable[[], float | None]:
        """A call that fits the critic to the window's targets, equation 6, and returns its loss."""
        if self.critic is None:
            return lambda: None
        config = self.config
        targets = td_lambda(
            window.rewards.detach(), next_values, window.ended, gamma=config.gamma, lambda_=config.td_lambda
        )
        # Consecutive steps, as in the reference: slices without a copy.
        obs, targets = (
            [part.flatten(0, 1) for part in x.tensor_split(config.critic_batches)]
            for x in (normalize(window.obs), targets)
        )
        return functools.partial(self._fit_critic, obs, targets)

    def _fit_critic(self, obs: list[torch.Tensor], targets: list[torch.Tensor]) -> float:
        passes = self.config.critic_iterations
        if self.ranks.size == 1:
            total = self._fit(obs, targets, passes)
        else:
            total = self._fit_together(obs, targets, passes)
        mean = self.ranks.mean(total).item() / len(obs)
        # Once it is not finite, a loss stays so: to ask after the last pass is enough, and keeps a GPU busy.
        if mean != mean or mean in (float("inf"), float("-inf")):
            raise NonFiniteError(f"the critic's loss is not finite in epoch {self.epoch}, although its targets are")
        return mean

    def _fit_together(self, obs: list[torch.Tensor], targets: list[torch.Tensor], passes: int) -> torch.Tensor:
        """`CriticFit` of several processes, with the mean of their gradients."""
        parameters = list(self.critic.parameters())
        for _ in range(passes):
            total = torch.zeros((), dtype=self.env.dtype, device=self.env.device)
            for x, target in zip(obs, targets):
                loss = nn.functional.mse_loss(self.critic(x), target)
                self.critic_optimizer.zero_grad()
                loss.backward()
                self.ranks.average_gradients(parameters)
                nn.utils.clip_grad_norm_(parameters, self.config.max_grad_norm)
                self.critic_optimizer.step()
                total += loss.detach()
        return total

    @contextlib.contextmanager
    def _beside(self, fit: Callable[[], float | None]) -> Iterator[Callable[[], float | None]]:
        """A call for `fit`'s result, which a core that has nothing else to do computes while the actor is updated.

        Neither of the two reads what the other one writes. If the actor's update fails, the critic is as it was.
        """
        # Processes talk to each other in one order only, and a card does one thing after the other.
        alone = self.ranks.size == 1 and self.env.device.type == "cpu"
        if self.critic is None or not alone or _num_cores() <= torch.get_num_threads():
            yield fit
            return
        before = copy.deepcopy((self.critic.state_dict(), self.critic_optimizer.state_dict()))
        result = _thread().submit(fit)
        try:
            yield result.result
        except BaseException:
            if result.exception() is None:
                self.critic.load_state_dict(before[0])
                self.critic_optimizer.load_state_dict(before[1])
            raise

    @torch.no_grad()
    def _update_average(self) -> None:
        """Moves the average actor towards the actor; Polyak and Juditsky 1992, with exponential weights.

        It begins anew with `final_substeps`: what they are to cure would live on in older actors.
        """
        begin = self.config.finish if self.finishing else 0
        epochs = min(self.config.actor_average, self._memory(AVERAGED, begin))
        torch._foreach_lerp_(list(self.average_actor.parameters()), list(self.actor.parameters()), 1 / epochs)

    @torch.no_grad()
    def _update_target(self) -> None:
        """phi' <- alpha phi' + (1 - alpha) phi."""
        if self.critic is None:
            return
        config = self.config
        weight = 1 - config.target_alpha
        if config.target_rampup is not None:
            weight = max(weight, 1 / self._target_memory(config.target_rampup))
        torch._foreach_lerp_(list(self.target_critic.parameters()), list(self.critic.parameters()), weight)


def _num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _thread() -> ThreadPoolExecutor:
    """One for all epochs: of each new thread some memory would stay with the libraries."""
    return ThreadPoolExecutor(max_workers=1)
