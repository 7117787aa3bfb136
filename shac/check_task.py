"""What a user's task gives, looked at before it reaches the learner: a mistake is one line that names the method."""

from __future__ import annotations

import inspect
import traceback
from typing import TYPE_CHECKING, Any

import torch

from shac.errors import UserError
from taichi_sim.parameters import NAMES
from taichi_sim.types import State

if TYPE_CHECKING:
    from shac.task import Task

_METHODS = ("observe", "reward", "reset", "vary", "terminated", "control", "perturb", "measures", "simulator")


def check_attributes(task: Task) -> None:
    """Looks at what a task's class declares.

    Raises:
      UserError: a number is not a positive integer, a constant that is varied is not known, presets are not settings by
        algorithm, or a method is none.
    """
    name = type(task).__name__
    for field in ("episode_length", "num_obs", "num_actions", "history"):
        value = _attribute(task, field)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{name}.{field} must be a whole number from 1 up, got {value!r}")
    draws = _attribute(task, "num_draws")
    if not isinstance(draws, int) or isinstance(draws, bool) or draws < 0:
        raise UserError(f"{name}.num_draws must be a whole number from 0 up, got {draws!r}")
    varied = _attribute(task, "varied")
    if not isinstance(varied, tuple) or not set(varied) <= set(NAMES):
        raise UserError(f"{name}.varied must be a tuple of names from {', '.join(NAMES)}; got {varied!r}")
    presets = _attribute(task, "presets")
    if not isinstance(presets, dict) or not all(isinstance(preset, dict) for preset in presets.values()):
        raise UserError(f"{name}.presets must be a dict of dicts, algorithm -> setting -> value, got {presets!r}")
    for method in _METHODS:
        value = _attribute(task, method)
        if not callable(value):
            raise UserError(f"{name}.{method} must be a method, got {value!r:.60}")


def call(task: Task, method: str, *args) -> Any:
    """Calls a task's method.

    Raises:
      UserError: it raises; the message has the user's own error and where that happened.
      FloatingPointError: the simulator, which the method may ask, has met a number that is not finite.
      MemoryError: there is not enough memory.
    """
    try:
        return getattr(task, method)(*args)
    except (UserError, FloatingPointError, MemoryError):
        raise
    except Exception as error:
        raise failed(f"{full_name(task, method)} failed", error, getattr(task, method)) from error


def failed(what: str, error: BaseException, culprit: Any) -> UserError:
    """One line for an error in a user's code: what has failed, the error, and the last line that it reached.

    Args:
      what: what has failed.
      error: the user's own error.
      culprit: the user's method, property or file.
    """
    file, line = _origin(culprit)
    reached = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    # None reached: the call itself has failed, for its arguments.
    line = reached[-1] if reached else line
    place = file if line is None else f"{file}, line {line}"
    return UserError(f"{what}: {' '.join(f'{type(error).__name__}: {error}'.split())} ({place})")


def result(task: Task, method: str, num: int, sim, *args) -> torch.Tensor:
    """Calls `control`, `observe`, `reward` or `terminated` for `num` worlds of a simulator.

    Raises:
      UserError: it raises, or gives something else than `Task` wants; see `call` and `expect`.
    """
    sizes = {"control": (sim.model.nu,), "observe": (task.num_obs,)}
    shape = (num, *sizes.get(method, ()))
    dtype = torch.bool if method == "terminated" else sim.dtype
    return expect(task, method, call(task, method, *args), shape, dtype, sim)


def expect(task: Task, method: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype, like: Any) -> Any:
    """Returns a method's result if it is a tensor as `Task` wants it, on the device of `like`.

    Raises:
      UserError: it is not; the message says what is expected and what came.
    """
    fits = isinstance(value, torch.Tensor) and value.shape == shape and value.dtype == dtype
    if fits and value.device.type == like.device.type:
        return value
    found = _describe(value)
    raise UserError(f"{full_name(task, method)} must return a tensor {shape} of {dtype} on {like.device}, got {found}")


def perturbed(task: Task, num: int, sim, state: State, draws: torch.Tensor) -> State:
    """What a task's `perturb` makes of the states of `num` worlds.

    Raises:
      UserError: it raises, or gives something else than states of the simulator's.
    """
    return expect_state(task, call(task, "perturb", state, draws), num, sim, "perturb")


def expect_state(task: Task, state: Any, num: int, sim, method: str = "reset") -> State:
    """Returns what `reset` or `perturb` gave if it is `num` states of the simulator's.

    Raises:
      UserError: it is not.
    """
    if not isinstance(state, State):
        raise UserError(f"{full_name(task, method)} must return a taichi_sim.State, got {_describe(state)}")
    for name, size in zip(State._fields, (sim.model.nq, sim.model.nv, sim.model.na), strict=True):
        expect(task, f"{method} (its {name})", getattr(state, name), (num, size), sim.dtype, sim)
    return state


def varied(task: Task, num: int, generator: torch.Generator, sim, stochastic: bool) -> dict[str, torch.Tensor]:
    """The constants of `num` episodes, by a task's `vary`; empty if none are varied.

    Raises:
      UserError: it raises, or gives others than those of `Task.varied`.
    """
    if not task.varied:
        return {}
    constants = call(task, "vary", num, generator, sim, stochastic)
    if not isinstance(constants, dict) or set(constants) != set(task.varied):
        found = list(constants) if isinstance(constants, dict) else _describe(constants)
        raise UserError(f"{full_name(task, 'vary')} must return a dict with {', '.join(task.varied)}, got {found}")
    for name, value in constants.items():
        expect(task, f"vary (its {name})", value, (num, *getattr(sim.model, name).shape), sim.dtype, sim)
    return constants


def expect_simulator(task: Task, num_envs: int, device: str | None) -> Any:
    """Returns the task's simulator if it is one of `num_envs` worlds.

    Raises:
      UserError: it is not.
    """
    sim = call(task, "simulator", num_envs, device)
    wanted = ("step", "initial_state", "model", "device", "dtype", "num_worlds")
    if not all(hasattr(sim, name) for name in wanted):
        raise UserError(f"{full_name(task, 'simulator')} must return a taichi_sim.Simulator, got {_describe(sim)}")
    if sim.num_worlds != num_envs:
        raise UserError(f"{full_name(task, 'simulator')} must return {num_envs} worlds, got {sim.num_worlds}")
    return sim


def expect_measures(task: Task, states: State, alive: torch.Tensor) -> dict[str, torch.Tensor]:
    """Returns what `measures` gives of whole episodes if it is one number per episode, by name.

    Raises:
      UserError: it is not.
    """
    measures, shape, where = call(task, "measures", states, alive), (alive.shape[1],), full_name(task, "measures")
    if not isinstance(measures, dict) or not all(isinstance(name, str) for name in measures):
        raise UserError(f"{where} must return a dict, name -> tensor {shape}, got {_describe(measures)}")
    for name, values in measures.items():
        if not isinstance(values, torch.Tensor) or values.shape != shape or values.is_complex():
            raise UserError(f"{where} must return tensors {shape} of real numbers; {name!r} is {_describe(values)}")
    return measures


def _attribute(task: Task, field: str) -> Any:
    """An attribute, None if there is none; a property is the user's code, and may raise."""
    try:
        return getattr(task, field, None)
    except Exception as error:
        raise failed(f"{full_name(task, field)} failed", error, getattr(type(task), field, repr(task))) from error


def _origin(culprit: Any) -> tuple[str, int | None]:
    """File and first line of a method, beneath its decorators, or of a property; a file is itself."""
    if isinstance(culprit, str):
        return culprit, None
    code = getattr(inspect.unwrap(getattr(culprit, "fget", culprit)), "__code__", None)
    return (repr(culprit), None) if code is None else (code.co_filename, code.co_firstlineno)


def full_name(task: Task, method: str) -> str:
    """A method as messages call it."""
    return f"{type(task).__name__}.{method}"


def _describe(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype} on {value.device}"
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"{type(value).__name__} of shape {shape}"
    return f"{type(value).__name__} {' '.join(repr(value).split())[:60]}"
