"""What a run takes of the memory, so that what is too much is refused before anything is allocated."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from taichi_sim.machine import memory

if TYPE_CHECKING:
    from shac.env import Env
    from shac.runs.settings import Config, Settings
    from shac.task import Task

# Bytes that a step takes however few its worlds are, for torch's nodes and tensors (measured: 50 kB, CartPole).
_STEP = 40_000


def require_networks(task: Task, config: Settings) -> None:
    """Raises a MemoryError if there is not enough memory for a run's networks."""
    own_value = () if getattr(config, "shared_value", True) else config.actor_units
    critic_units = getattr(config, "critic_units", own_value)
    size = 0
    for units, num in ((config.actor_units, 1), (critic_units, getattr(config, "critics", 1))):
        widths = (task.num_inputs, *units, max(task.num_actions, 1))
        size += num * sum((num_in + 3) * num_out for num_in, num_out in itertools.pairwise(widths))
    # with gradient, the optimiser's two averages, the target or the average network, and float64 at the most
    widest = max((0, *config.actor_units, *critic_units))
    memory.require(5 * 8 * size, f"networks with hidden layers of {widest:,}")


def require_steps(env: Env, num: int, what: str) -> None:
    """Raises a MemoryError if there is not enough memory to keep `num` steps, with what came before and after each."""
    size = num * (2 * env.task.num_inputs + env.task.num_actions + 1) * env.dtype.itemsize
    memory.require(size, f"{what} of {num:,} steps")


def require_window(env: Env, config: Config) -> None:
    """Raises a MemoryError if there is not enough memory for a window.

    It is 0.91 to 1.0 of what processes grew by (CartPole, Ant, Humanoid; many worlds, many steps, wide networks): what
    a task's own operations keep is not in it.
    """
    # a stand-in for the simulator keeps no tape
    tape_bytes = getattr(env.sim, "tape_bytes", lambda substeps: 0)
    tape = max(tape_bytes(None), tape_bytes(config.final_substeps))
    # A hidden layer keeps three tensors (linear, ELU, LayerNorm); the critic's fit, one batch at a time, hardly fewer.
    actor = 3 * sum(config.actor_units) + 4 * env.task.num_actions
    critic = max(3 * sum(config.critic_units) // config.critic_batches, 2 * max((0, *config.critic_units)))
    # The simulator takes and gives states; observations are stacked before and after each step, and standardised.
    width = sum(x.shape[1] for x in env.state)
    numbers = actor + (critic if config.algo == "shac" else 0) + 4 * env.task.num_inputs + 2 * width
    size = config.horizon * (tape + env.num_envs * numbers * env.dtype.itemsize + _STEP)
    memory.require(size, f"a window of {config.horizon:,} steps of {config.num_envs:,} worlds")
