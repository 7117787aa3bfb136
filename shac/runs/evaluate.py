"""How good a policy is: episodes, their returns, lengths and the task's own measures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch

from shac import check_task, seeding
from shac.algos.networks import Policy
from shac.env import Env
from shac.task import Task
from taichi_sim.machine import memory
from taichi_sim.types import State


class Evaluation(NamedTuple):
    """Whole episodes of a policy, one per world.

    | field | meaning | shape |
    |---|---|---|
    | returns | undiscounted returns | (episodes,) |
    | lengths | lengths [control steps] | (episodes,) |
    | measures | the task's own measures, name -> values | (episodes,) each |
    """

    returns: torch.Tensor
    lengths: torch.Tensor
    measures: dict[str, torch.Tensor]

    def summary(self) -> dict[str, float | int]:
        """One number each: episodes, return_mean, return_std, return_min, length_mean, and the measures' means."""
        return {
            "episodes": len(self.returns),
            "return_mean": self.returns.mean().item(),
            "return_std": self.returns.std(correction=0).item(),
            "return_min": self.returns.min().item(),
            "length_mean": self.lengths.double().mean().item(),
            **{name: values.double().mean().item() for name, values in self.measures.items()},
        }


@torch.no_grad()
def evaluate(
    task: Task,
    policy: Policy,
    episodes: int = 128,
    *,
    seed: int = 0,
    device: str | None = None,
    stochastic_policy: bool = False,
    substeps: int | None = None,
    theta: float | None = None,
    engine: Literal["taichi_sim", "mujoco"] = "taichi_sim",
) -> Evaluation:
    """Runs `episodes` episodes from random initial states, all at the same time.

    Args:
      task: the task.
      policy: what acts.
      episodes: number of episodes.
      seed: seed of the initial states, and of the actions if they are sampled; no training's stream is met again.
      device: as in `taichi_sim.init`; None: what the process runs on, or the CPU.
      stochastic_policy: sample the actions, rather than take tanh(mu).
      substeps, theta: as for `Env`; in MuJoCo, substeps are its steps in a control step.
      engine: what simulates the episodes. "mujoco" is MuJoCo on the task's asset (`in_mujoco.InMujoco`).
    """
    if engine == "mujoco":
        from shac.runs.in_mujoco import InMujoco

        env = begin(task, episodes, seed, device)
        env.sim = InMujoco(task, env.sim, substeps)
    else:
        env = begin(task, episodes, seed, device, substeps, theta)
    width = sum(x.shape[1] for x in env.state)
    size = episodes * task.episode_length * width * env.dtype.itemsize
    memory.require(2 * size, f"{episodes:,} episodes of {task.episode_length:,} steps at the same time")
    generator = seeding.generator(seed, "evaluation", env.device) if stochastic_policy else None
    returns = torch.zeros(episodes, dtype=torch.float64, device=env.device)
    states, alive_during = [], []
    for played in play(env, policy, generator):
        returns += played.reward.double().masked_fill(~played.alive, 0.0)
        states.append(played.state)
        alive_during.append(played.alive)
    stacked = State(*(torch.stack(field) for field in zip(*states)))
    mask = torch.stack(alive_during)
    return Evaluation(returns, mask.sum(0), check_task.expect_measures(task, stacked, mask))


class Step(NamedTuple):
    """What a control step of all worlds was and led to.

    | field | meaning | shape |
    |---|---|---|
    | action | what the policy did, clipped to [-1, 1] | (num_envs, num_actions) |
    | state | the state that it led to, before any reset | `State` |
    | reward | | (num_envs,) |
    | alive | the step belongs to the world's first episode | (num_envs,) bool |
    | terminated | the task has failed with it | (num_envs,) bool |
    """

    action: torch.Tensor
    state: State
    reward: torch.Tensor
    alive: torch.Tensor
    terminated: torch.Tensor


def begin(
    task: Task,
    episodes: int,
    seed: int = 0,
    device: str | None = None,
    substeps: int | None = None,
    theta: float | None = None,
) -> Env:
    """An environment with the episodes of `evaluate` with these settings, at their beginnings."""
    # The environment derives its stream as a training of this seed does: hashed first, it begins elsewhere.
    states = seeding.stream_seed(seed, "evaluation")
    return Env(task, episodes, seed=states, device=device, substeps=substeps, theta=theta)


@torch.no_grad()
def play(env: Env, policy: Policy, generator: torch.Generator | None = None) -> Iterator[Step]:
    """Acts in all worlds until each has ended its first episode.

    Args:
      env: the environment, just reset.
      policy: what acts.
      generator: what actions are drawn with; None: they are the distributions' centres.
    """
    policy = policy.to(env.device, env.dtype)
    alive = torch.ones(env.num_envs, dtype=torch.bool, device=env.device)
    while bool(alive.any()):
        action = policy(env.obs, generator).clamp(-1, 1)
        _, reward, terminated, truncated, info = env.step(action)
        yield Step(action, info["final_state"], reward, alive, terminated)
        alive = alive & ~(terminated | truncated)
