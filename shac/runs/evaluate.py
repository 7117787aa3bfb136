"""How good a policy is: episodes, their returns, lengths and the task's own measures."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch

from shac import check_task, seeding
from shac.algos.networks import Policy
from shac.env import Env, Task
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
    # The environment derives its stream as a training of this seed does: hashed first, it begins elsewhere.
    seed_of_states = seeding.stream_seed(seed, "evaluation")
    if engine == "mujoco":
        from shac.runs.in_mujoco import InMujoco

        env = Env(task, episodes, seed=seed_of_states, device=device)
        env.sim = InMujoco(task, env.sim, substeps)
    else:
        env = Env(task, episodes, seed=seed_of_states, device=device, substeps=substeps, theta=theta)
    width = sum(x.shape[1] for x in env.state)
    size = episodes * task.episode_length * width * env.dtype.itemsize
    memory.require(2 * size, f"{episodes:,} episodes of {task.episode_length:,} steps at the same time")
    policy = policy.to(env.device, env.dtype)
    generator = seeding.generator(seed, "evaluation", env.device) if stochastic_policy else None
    obs = env.obs
    alive = torch.ones(episodes, dtype=torch.bool, device=env.device)
    returns = torch.zeros(episodes, dtype=torch.float64, device=env.device)
    states, alive_during = [], []
    while bool(alive.any()):
        obs, reward, terminated, truncated, info = env.step(policy(obs, generator))
        returns += reward.double().masked_fill(~alive, 0.0)
        states.append(info["final_state"])
        alive_during.append(alive)
        alive = alive & ~(terminated | truncated)
    stacked = State(*(torch.stack(field) for field in zip(*states)))
    mask = torch.stack(alive_during)
    return Evaluation(returns, mask.sum(0), check_task.expect_measures(task, stacked, mask))
