"""A task is tried before it is learnt: some steps of its first episodes, whose mistakes are one line each."""

from __future__ import annotations

import copy

import torch

from shac.check_task import expect_measures, failed, full_name, perturbed, result
from shac.env import Env
from shac.errors import UserError
from shac.task import Task
from taichi_sim.types import State

# Control steps, in which actions must have reached the reward: an excitation takes two to move a body.
_STEPS = 4


def rehearse(env: Env, *, gradient: bool = True) -> str | None:
    """Takes some steps from the states that episodes begin with, and forgets them.

    Args:
      env: the task's environment.
      gradient: the task is to be learnt from gradients.

    Returns:
      A warning if the reward's gradient in the actions is zero or not finite, else None.

    Raises:
      UserError: a method gives what `Task` does not want or a number that is not finite, or no gradient flows from the
        actions to the reward; the message names the method.
    """
    task = _copy(env.task)
    generator = torch.Generator(env.device).manual_seed(0)
    # Not zero: many a reward has no gradient where nothing moves.
    shape = (_STEPS, env.num_envs, task.num_actions)
    actions = torch.rand(shape, generator=generator, dtype=env.dtype, device=env.device) - 0.5
    with torch.set_grad_enabled(gradient):
        state, rewards = _rehearsal(env, task, actions.requires_grad_(gradient), generator)
    # A view of all steps of an episode, the same state in each.
    length = (task.episode_length, -1, -1)
    states = State(*(x.detach().expand(*length) for x in state))
    expect_measures(task, states, torch.ones(length[0], env.num_envs, dtype=torch.bool, device=env.device))
    return _warning(task, actions, rewards) if gradient else None


def _warning(task: Task, actions: torch.Tensor, rewards: list[torch.Tensor]) -> str | None:
    """What is wrong with the gradient of the steps' rewards in their actions."""
    what = f"the gradient of {full_name(task, 'reward')} in the actions"
    try:
        (gradient,) = torch.autograd.grad(sum(rewards), actions, allow_unused=True)
    except FloatingPointError as error:
        return f"{what} is not finite: {error}"
    except RuntimeError as error:
        # seen with tensors that a later line of the user's changes in place
        raise failed(f"the gradient of {type(task).__name__}'s first steps failed", error, task.reward) from error
    if gradient is None or not gradient.any():
        return f"{what} is zero in the first {_STEPS} steps of episodes"
    if not gradient.isfinite().all():
        return f"{what} is not finite in the first {_STEPS} steps"
    return None


def _rehearsal(
    env: Env, task: Task, actions: torch.Tensor, generator: torch.Generator
) -> tuple[State, list[torch.Tensor]]:
    """The state after steps with `actions`, and the sum of rewards of each step."""

    def ask(method: str, *args) -> torch.Tensor:
        return result(task, method, env.num_envs, env.sim, *args)

    gradient = torch.is_grad_enabled()
    state, rewards = State(*(x.detach() for x in env.state)), []
    for name, values in state._asdict().items():
        _require_finite(task, f"reset (its {name})", values, "")
    _require_finite(task, "observe", env.obs, " where episodes begin")
    for step, action in enumerate(actions):
        when = f" in step {step} of an episode"
        control = ask("control", action)
        if gradient and not control.requires_grad:
            raise UserError(f"{full_name(task, 'control')} returns controls without a gradient in the actions")
        _require_finite(task, "control", control, when)
        try:
            state = env.simulate(state, control)
        except FloatingPointError as error:
            raise UserError(f"the simulation of {type(task).__name__} goes wrong{when}: {error}") from error
        if task.num_draws:
            draws = torch.rand(env.num_envs, task.num_draws, generator=generator, dtype=env.dtype, device=env.device)
            state = perturbed(task, env.num_envs, env.sim, state, draws)
        obs = ask("observe", state, action)
        if gradient and not obs.requires_grad:
            raise UserError(f"{full_name(task, 'observe')} returns observations without a gradient in the state")
        _require_finite(task, "observe", obs, when)
        reward = ask("reward", state, obs, action)
        if gradient and not reward.requires_grad:
            raise UserError(
                f"{full_name(task, 'reward')} returns rewards without a gradient: SHAC and BPTT learn from it alone. "
                "Compute it of the state with torch's operations, without detach, .item() or comparisons"
            )
        _require_finite(task, "reward", reward, when)
        ask("terminated", state, obs)
        rewards.append(reward.sum())
    return state, rewards


def _require_finite(task: Task, method: str, values: torch.Tensor, when: str) -> None:
    bad = ~values.isfinite()
    if bad.any():
        world = int(bad.nonzero()[0, 0])
        found = values[world].tolist()
        raise UserError(f"{full_name(task, method)} is not finite in world {world}{when}: {found!s:.100}")


def _copy(task: Task) -> Task:
    """A copy, so that the user's own object stays as it is, whatever it remembers."""
    try:
        return copy.deepcopy(task)
    except Exception:
        # it holds what cannot be copied: a lock, an open file
        return copy.copy(task)
