"""What Gymnasium's bodies share: their files as they are shipped, and rewards that compare with published returns."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import ClassVar, Literal

import torch

import taichi_sim as ts
from shac.errors import UserError
from shac.task import Task
from taichi_sim.types import State


@dataclasses.dataclass
class GymnasiumBody(Task):
    """A body of Gymnasium's MuJoCo environments, version 5, from the file that its wheel ships, unmodified.

    Control step, controls, reward, failure and length of an episode are Gymnasium's, but: the forward velocity is the
    root's at the end of a control step, not the mean over the step (of the humanoid's centre of mass); contact forces
    cost nothing; observations and initial states are like those of the paper's bodies. With `rewards=paper` reward and
    failure are those of the paper's body, which the class has as its second base.

    | attribute | meaning |
    |---|---|
    | file | the file's name |
    | control_timestep | control step: Gymnasium's timestep times its frame_skip [s] |
    | substeps | substeps of ours that it is divided into |
    | forward_weight | what a forward velocity of 1 m/s earns |
    | healthy_reward | what a step earns |
    | control_cost | weight of the controls' squares |
    """

    rewards: Literal["gymnasium", "paper"] = "gymnasium"
    """Whose reward, and whose failure."""
    step: Literal["ours", "file"] = "ours"
    """Our own substeps, or the file's integrator and timestep, as MuJoCo takes them: docs/results.md."""

    file: ClassVar[str]
    control_timestep: ClassVar[float]
    substeps: ClassVar[int]
    forward_weight: ClassVar[float] = 1.0
    healthy_reward: ClassVar[float]
    control_cost: ClassVar[float]
    episode_length: ClassVar[int] = 1000

    @property
    def asset(self) -> str:
        """The file's path.

        Raises:
          UserError: Gymnasium is not installed.
        """
        found = importlib.util.find_spec("gymnasium")
        if found is None:
            raise UserError(f"{self.file} comes with Gymnasium: pip install 'taichi-sim[bodies]'")
        return str(Path(found.origin).parent / "envs/mujoco/assets" / self.file)

    def model(self) -> ts.Model:
        model = super().model()
        opt = model.opt
        if self.step == "file":
            opt.substeps = round(self.control_timestep / opt.timestep)
            return model
        opt.timestep, opt.substeps, opt.integrator = self.control_timestep / self.substeps, self.substeps, "theta"
        return model

    def reward(self, state: State, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        if self.rewards == "paper":
            return super().reward(state, obs, action)
        cost = self.control_cost * self.control(action).square().sum(1)
        return self.forward_weight * state.qvel[:, 0] + self.healthy_reward - cost

    def terminated(self, state: State, obs: torch.Tensor) -> torch.Tensor:
        return super().terminated(state, obs) if self.rewards == "paper" else ~self.healthy(state)

    def healthy(self, state: State) -> torch.Tensor:
        """Whether Gymnasium lets the episode go on, bool (num_envs,)."""
        return torch.ones(len(state.qpos), dtype=torch.bool, device=state.qpos.device)


def between(low: float, x: torch.Tensor, high: float) -> torch.Tensor:
    """Whether low < x < high."""
    return (low < x) & (x < high)
