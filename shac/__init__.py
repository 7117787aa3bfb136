"""SHAC: short-horizon actor-critic on analytic gradients (Xu et al., ICLR 2022)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from shac.errors import NonFiniteError, UserError

# As in `taichi_sim`, which is imported later than torch by most of what is here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from shac.env import Env
    from shac.task import Task

__all__ = ["Env", "NonFiniteError", "Task", "UserError", "make"]


def make(
    name: str,
    *,
    num_envs: int = 1,
    seed: int = 0,
    device: str | None = None,
    stochastic_init: bool = True,
    **settings: Any,
) -> Env:
    """The batched environment of a model; `reset()` has been called.

    Args:
      name: a built-in model's name (`shac.models.names()`), or the path of a Python file that defines one `Task`.
      num_envs: number of worlds.
      seed: seed of the initial states.
      device: as in `taichi_sim.init`; None: what the process runs on, or the CPU.
      stochastic_init: draw initial states at random rather than begin at the nominal one.
      settings: the task's own.
    """
    from shac.env import Env
    from shac.models import load_task

    return Env(load_task(name, settings), num_envs, seed=seed, device=device, stochastic_init=stochastic_init)


def __getattr__(name: str):
    """`Env` and `Task` when they are first asked for: torch and Taichi take seconds, and a command's --help neither."""
    if name == "Env":
        from shac.env import Env

        return Env
    if name == "Task":
        from shac.task import Task

        return Task
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
