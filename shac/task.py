"""Tasks: what a model is asked to do."""

from __future__ import annotations

import abc
import functools
from typing import Any, ClassVar

import torch

import taichi_sim as ts
from shac import typed
from shac.errors import UserError
from shac.mirror import Mirror
from taichi_sim.types import State


class Task(abc.ABC):
    """What a model is asked to do: observation, reward, termination, initial states and presets.

    A task has no state of its own. All of its tensors have one row per world, and whatever `observe`, `reward` and
    `control` return must be differentiable by torch's autograd.

    If its class is a dataclass, its fields, all with defaults, are settings that `--set` and `shac.make` take: numbers,
    texts, bool, Literal or tuples. `__post_init__` may refuse values by a ValueError.

    | attribute | meaning |
    |---|---|
    | asset | what `taichi_sim.load` takes: an asset's name, the path of an MJCF file, a `mujoco.MjModel` |
    | episode_length | control steps after which an episode is truncated |
    | num_obs, num_actions | sizes of one observation and one action |
    | num_draws | random numbers that `perturb` takes a step; 0: it is not called |
    | history | observations that a policy sees at once, the latest first; a setting of every task |
    | varied | the model's constants that differ between episodes, of `taichi_sim.parameters.NAMES`; see `vary` |
    | presets | algorithm ("shac", "ppo", ...) -> its settings (`shac.runs.settings`) that differ from defaults |
    """

    asset: ClassVar[Any]
    episode_length: ClassVar[int]
    num_obs: ClassVar[int]
    num_actions: ClassVar[int]
    num_draws: ClassVar[int] = 0
    history: ClassVar[int] = 1
    varied: ClassVar[tuple[str, ...]] = ()
    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    @classmethod
    def kinds(cls) -> dict[str, Any]:
        """The types of its settings by name: its own, and `history`."""
        return {"history": int, **typed.fields(cls)}

    def settings(self) -> dict[str, Any]:
        """Its settings and their values; `history` only if it is not 1."""
        names = list(typed.fields(type(self)))
        if self.history != 1 and "history" not in names:
            names.append("history")
        return {name: getattr(self, name) for name in names}

    @property
    def num_inputs(self) -> int:
        """Numbers that a policy sees."""
        return self.history * self.num_obs

    @abc.abstractmethod
    def observe(self, state: State, action: torch.Tensor) -> torch.Tensor:
        """Observations (num_envs, num_obs) of `state`; `action` led to it, and is 0 at an episode's beginning."""

    @abc.abstractmethod
    def reward(self, state: State, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Rewards (num_envs,) of having reached `state`, observed as `obs`, by `action`."""

    @abc.abstractmethod
    def reset(self, num: int, generator: torch.Generator, sim: ts.Simulator, stochastic: bool = True) -> State:
        """`num` initial states, drawn with `generator` alone; the nominal one, repeated, unless `stochastic`.

        They are on `sim.device`, of `sim.dtype`. `nominal` gives states to begin with.
        """

    def vary(
        self, num: int, generator: torch.Generator, sim: ts.Simulator, stochastic: bool = True
    ) -> dict[str, torch.Tensor]:
        """The constants named in `varied` for `num` episodes, drawn with `generator` alone; the model's own, repeated,
        unless `stochastic`.

        Returns:
          name -> a tensor (num, ...) as the model's array, on `sim.device`, of `sim.dtype`.
        """
        raise NotImplementedError(f"{type(self).__name__} names constants in varied, but does not define vary")

    def terminated(self, state: State, obs: torch.Tensor) -> torch.Tensor:
        """Whether the episode has failed, so that nothing more is to be earned: bool (num_envs,). Default: never."""
        return torch.zeros(len(obs), dtype=torch.bool, device=obs.device)

    def control(self, action: torch.Tensor) -> torch.Tensor:
        """The model's controls (num_envs, nu) for actions in [-1, 1]. Default: the actions themselves."""
        return action

    def perturb(self, state: State, draws: torch.Tensor) -> State:
        """What chance does to the worlds between two control steps, such as a push or another command.

        Args:
          state: what a step led to, before it is observed; gradients flow through.
          draws: uniform from 0 to 1, (num_envs, num_draws).

        Returns:
          The state that is observed, rewarded and gone on from. Default: `state`.
        """
        return state

    def schedule(self, progress: float) -> bool:
        """Adapts the rewards to how much of a training is over, from 0 to 1: called before each epoch, elsewhere never.

        Returns:
          Whether they are others than in the epoch before.
        """
        return False

    def measures(self, states: State, alive: torch.Tensor) -> dict[str, torch.Tensor]:
        """The task's own measures of whole episodes, for `shac-eval`: name -> one number per episode, (num_envs,).

        Args:
          states: the states that the steps led to, each field (episode_length, num_envs, ...).
          alive: the step belongs to the episode, bool (episode_length, num_envs); later rows are another episode's.
        """
        return {}

    def mirror(self) -> Mirror | None:
        """What the body's mirror image observes and does, for the setting `symmetric`. Default: None, not known."""
        return None

    def simulator(self, num_envs: int, device: str | None = None) -> ts.Simulator:
        """The simulator of `num_envs` worlds."""
        try:
            if device is not None:
                ts.init(device=device)
        except RuntimeError as error:
            raise UserError(str(error)) from error
        return ts.Simulator(self.model(), num_worlds=num_envs, parameters=self.varied)

    def model(self) -> ts.Model:
        """What is simulated; override it for a model that is not loaded from a file, or for other options."""
        if not hasattr(self, "asset"):
            raise UserError(f"task {type(self).__name__} does not define asset")
        try:
            return ts.load(self.asset)
        except (ValueError, OSError, TypeError) as error:
            raise UserError(f"cannot load the model of task {type(self).__name__}: {error}") from error

    @staticmethod
    def nominal(num: int, sim: ts.Simulator) -> State:
        """`num` copies of the simulator's initial state, safe to write to."""
        return State(*(rows[:1].expand(num, -1).clone() for rows in sim.initial_state()))


@functools.lru_cache
def constant(values: tuple | float, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Numbers as a tensor, for tasks; made once, since to copy them to a card waits for it. Not to be written to."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


def made_once(cache: dict, key, make):
    """cache[key], made when it is first asked for; its tensors serve for gradients, whoever asks first."""
    if key not in cache:
        with torch.inference_mode(False):
            cache[key] = make()
    return cache[key]
