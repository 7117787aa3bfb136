"""TD(lambda) targets for the critic."""

from __future__ import annotations

import torch


def td_lambda(
    rewards: torch.Tensor, next_values: torch.Tensor, ended: torch.Tensor, *, gamma: float, lambda_: float
) -> torch.Tensor:
    """TD(lambda) targets of a window: Xu et al. 2022, equation 7.

    The exponentially weighted mean of the k-step returns that fit into the window and into the episode, by the
    recursion G_t = r_t + gamma * ((1 - lambda) * V_t+1 + lambda * G_t+1), which begins anew wherever an episode ends.

    Args:
      rewards: rewards of the window's steps, (horizon, num_envs).
      next_values: value of the state that each step led to, before any reset; 0 where the episode terminated.
        (horizon, num_envs).
      ended: the step was its episode's last, terminated or truncated; bool, (horizon, num_envs).
      gamma: discount.
      lambda_: weight of longer returns; 0 gives one-step targets, 1 the longest returns.

    Returns:
      Targets for the values of the states in which the steps began, (horizon, num_envs).
    """
    carry = (gamma * lambda_) * (~ended).to(rewards.dtype)
    # Nothing is known beyond the window's last step: there the recursion begins.
    carry[-1] = 0
    local = torch.addcmul(rewards + gamma * next_values, carry, next_values, value=-1)
    targets = torch.empty_like(rewards)
    target = torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        target = torch.addcmul(local[t], carry[t], target, out=targets[t])
    return targets
