"""What a user's task gives, looked at before it reaches the learner: a mistake is one line that names the method."""

from __future__ import annotations

import copy
import traceback
from typing import TYPE_CHECKING, Any

import torch

from shac.errors import UserError
from taichi_sim.types import State

if TYPE_CHECKING:
    from shac.env import Env, Task

# Control steps after which an action must have reached the reward: an excitation takes two to move a body.
_STEPS = 4


def check_attributes(task: Task) -> None:
    """Looks at what a task's class declares.

    Raises:
      UserError: a number is not a positive integer, or presets are not settings by algorithm.
    """
    name = type(task).__name__
    for field in ("episode_length", "num_obs", "num_actions"):
        value = getattr(task, field, None)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{name}.{field} must be a whole number from 1 up, got {value!r}")
    presets = task.presets
    if not isinstance(presets, dict) or not all(isinstance(preset, dict) for preset in presets.values()):
        raise UserError(f"{name}.presets must be a dict of dicts, algorithm -> setting -> value, got {presets!r}")


def call(task: Task, method: str, *args) -> Any:
    """Calls a task's method.

    Raises:
      UserError: it raises; the message has the user's own error and where that happened.
      ArithmeticError: a number is not finite, which is not the method's mistake.
    """
    try:
        return getattr(task, method)(*args)
    except (UserError, ArithmeticError):
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        # the method's own line, or else where it calls from
        own = [frame for frame in frames if frame.name == method] or frames
        place = f"{own[-1].filename}, line {own[-1].lineno}"
        raise UserError(f"{_name(task, method)} failed: {type(error).__name__}: {error} ({place})") from error


def result(env: Env, task: Task, method: str, *args) -> torch.Tensor:
    """Calls `control`, `observe`, `reward` or `terminated` for all worlds of an environment.

    Raises:
      UserError: it raises, or gives something else than `Task` wants; see `call` and `expect`.
    """
    sizes = {"control": (env.sim.model.nu,), "observe": (task.num_obs,)}
    shape = (env.num_envs, *sizes.get(method, ()))
    dtype = torch.bool if method == "terminated" else env.dtype
    return expect(task, method, call(task, method, *args), shape, dtype, env)


def expect(task: Task, method: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype, like: Any) -> Any:
    """Returns a method's result if it is a tensor as `Task` wants it, on the device of `like`.

    Raises:
      UserError: it is not; the message says what is expected and what came.
    """
    fits = isinstance(value, torch.Tensor) and value.shape == shape and value.dtype == dtype
    if fits and value.device.type == like.device.type:
        return value
    found = _describe(value)
    raise UserError(f"{_name(task, method)} must return a tensor {shape} of {dtype} on {like.device}, got {found}")


def expect_state(task: Task, state: Any, num: int, sim) -> State:
    """Returns what `reset` gave if it is `num` states of the simulator's.

    Raises:
      UserError: it is not.
    """
    if not isinstance(state, State):
        raise UserError(f"{_name(task, 'reset')} must return a taichi_sim.State, got {_describe(state)}")
    for name, size in zip(State._fields, (sim.model.nq, sim.model.nv, sim.model.na), strict=True):
        expect(task, f"reset (its {name})", getattr(state, name), (num, size), sim.dtype, sim)
    return state


def check_gradient(env: Env) -> str | None:
    """Takes some steps with gradient from the states that episodes begin with, and forgets them.

    Returns:
      A warning if the reward's gradient in the actions is zero or not finite, else None.

    Raises:
      UserError: no gradient flows from the actions to the reward; the message names the method that cuts it.
    """
    # the user's own object stays as it is, whatever it remembers
    task, state, reward = copy.deepcopy(env.task), State(*(x.detach() for x in env.state)), None
    action = torch.zeros(env.num_envs, task.num_actions, dtype=env.dtype, device=env.device, requires_grad=True)
    with torch.enable_grad():
        for _ in range(_STEPS):
            control = result(env, task, "control", action)
            if not control.requires_grad:
                raise UserError(f"{_name(task, 'control')} returns controls without a gradient in the actions")
            state = env.sim.step(state, control)
            obs = result(env, task, "observe", state, action)
            if not obs.requires_grad:
                raise UserError(f"{_name(task, 'observe')} returns observations without a gradient in the state")
            reward = result(env, task, "reward", state, obs, action)
            if not reward.requires_grad:
                raise UserError(
                    f"{_name(task, 'reward')} returns rewards without a gradient: SHAC and BPTT learn from it alone. "
                    "Compute it of the state with torch's operations, without detach, .item() or comparisons"
                )
        (gradient,) = torch.autograd.grad(reward.sum(), action, allow_unused=True)
    if gradient is None or not gradient.any():
        return f"the gradient of {_name(task, 'reward')} in the actions is zero after {_STEPS} steps from the beginning"
    if not gradient.isfinite().all():
        return f"the gradient of {_name(task, 'reward')} in the actions is not finite after {_STEPS} steps"
    return None


def _name(task: Task, method: str) -> str:
    return f"{type(task).__name__}.{method}"


def _describe(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype} on {value.device}"
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__}" + (f" of shape {tuple(shape)}" if shape is not None else f" {value!r:.60}")
