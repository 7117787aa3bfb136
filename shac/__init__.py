"""SHAC: short-horizon actor-critic on analytic gradients (Xu et al., ICLR 2022)."""

from __future__ import annotations

from shac.env import Env, Task
from shac.errors import NonFiniteError, UserError

__all__ = ["Env", "NonFiniteError", "Task", "UserError", "make"]


def make(
    name: str,
    *,
    num_envs: int = 1,
    seed: int = 0,
    device: str | None = None,
    stochastic_init: bool = True,
) -> Env:
    """The batched environment of a model; `reset()` has been called.

    Args:
      name: a built-in model's name (`shac.models.names()`), or the path of a Python file that defines one `Task`.
      num_envs: number of worlds.
      seed: seed of the initial states.
      device: "cpu" or "cuda"; None leaves the choice to `taichi_sim.init`.
      stochastic_init: draw initial states at random rather than begin at the nominal one.
    """
    from shac.models import load_task  # models build on this package: imported above, it would find it half made

    return Env(load_task(name), num_envs, seed=seed, device=device, stochastic_init=stochastic_init)
