"""A window of the learner's: some steps of all worlds, and the actor's loss over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from shac.algos.normalizer import Standardize
from shac.env import Env
from shac.errors import NonFiniteError


class Window(NamedTuple):
    """A window of all worlds; h is the horizon, N the number of worlds.

    | field | meaning | shape |
    |---|---|---|
    | obs | raw observations that the actor saw, no gradient | (h, N, num_inputs) |
    | actions | actions, each with its own `.grad` after the backward pass | h times (N, num_actions) |
    | final_obs | raw observations that the steps led to, before resets, with gradient | (h, N, num_inputs) |
    | rewards | rewards, with gradient | (h, N) |
    | terminated | the task has failed in this step | (h, N) bool |
    | ended | the step was its episode's last, terminated or truncated | (h, N) bool |
    | whole | the step's episode has the task's time limit, not an earlier one | (h, N) bool |
    """

    obs: torch.Tensor
    actions: list[torch.Tensor]
    final_obs: torch.Tensor
    rewards: torch.Tensor
    terminated: torch.Tensor
    ended: torch.Tensor
    whole: torch.Tensor

    def of(self, worlds: slice) -> Window:
        """The same window of some of the worlds only."""
        actions = [action[worlds] for action in self.actions]
        rest = {name: x[:, worlds] for name, x in self._asdict().items() if name != "actions"}
        return Window(actions=actions, **rest)


def rollout(env: Env, actor: nn.Module, normalize: Standardize, eps: torch.Tensor) -> Window:
    """A window of all worlds from where the last one ended, with the gradient cut at its beginning.

    Args:
      env: the worlds; they stand at the window's end afterwards.
      actor: `Actor`, or what takes its place.
      normalize: the map of observations.
      eps: standard normal noise of the actions, for `actor.perturbation`; its length is the horizon.

    Raises:
      NonFiniteError: a number became infinite or NaN; the message begins with the step.
    """
    perturbation = actor.perturbation(eps)
    perturbations = [None] * len(eps) if perturbation is None else perturbation.unbind(0)
    obs = env.cut()
    seen, actions, final_obs, rewards, terminations, truncations, whole = [], [], [], [], [], [], []
    for step, noise in enumerate(perturbations):
        action = actor(normalize(obs), noise)
        if action.requires_grad:
            # Only to be able to say where a non-finite gradient began.
            action.retain_grad()
        seen.append(obs.detach())
        actions.append(action)
        try:
            obs, reward, terminated, truncated, info = env.step(action)
        except ArithmeticError as error:
            raise NonFiniteError(f"step {step} of the window: {error}") from error
        final_obs.append(info["final_obs"])
        rewards.append(reward)
        terminations.append(terminated)
        truncations.append(truncated)
        whole.append(info["whole"])
    try:
        env.require_finite()
    except ArithmeticError as error:
        raise NonFiniteError(f"the window: {error}") from error
    terminated = torch.stack(terminations)
    return Window(
        obs=torch.stack(seen),
        actions=actions,
        final_obs=torch.stack(final_obs),
        rewards=torch.stack(rewards),
        terminated=terminated,
        ended=terminated | torch.stack(truncations),
        whole=torch.stack(whole),
    )


def actor_loss(
    window: Window,
    gamma: float,
    value: Callable[[torch.Tensor], torch.Tensor] | None = None,
    *,
    failure_gradient: bool = False,
) -> torch.Tensor:
    """Equation 5: the negative mean, per step and world, of discounted rewards and values at the ends.

    The discount begins anew with every episode. A value stands for what follows a window's or an episode's end, unless
    the task has failed: then nothing follows. The value's gradient flows into the observation it is of.

    With `failure_gradient` that of a failure does so too. Values jump to 0 where the task fails, and a jump has no
    gradient: the window would rather run into it than lose speed. The critic knows what leads away from it.

    Args:
      window: h steps of N worlds.
      gamma: the discount.
      value: values (n,) of raw observations (n, num_inputs); None: nothing follows an end, as in BPTT.
      failure_gradient: see above.
    """
    horizon, num_envs = window.rewards.shape
    discount = gamma ** _steps_since_start(window.ended).to(window.rewards.dtype)
    total = (discount * window.rewards).sum()
    if value is not None:
        closing = window.ended.clone()
        closing[-1] = True
        # A step that both fails and reaches the time limit has failed. (The reference lets the limit win.)
        failed = window.terminated
        if not failure_gradient:
            closing &= ~failed
        values = value(window.final_obs[closing])
        values = values - values.detach().masked_fill(~failed[closing], 0.0)
        total = total + gamma * (discount[closing] * values).sum()
    return -total / (horizon * num_envs)


def _steps_since_start(ended: torch.Tensor) -> torch.Tensor:
    """Steps since the window's or the episode's beginning, (h, N), for the ends of episodes, (h, N) bool."""
    step = torch.arange(len(ended), device=ended.device).unsqueeze(1)
    start = torch.zeros_like(ended, dtype=torch.int64)
    start[1:] = torch.where(ended[:-1], step[1:], 0)
    return step - start.cummax(0).values
