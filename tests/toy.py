"""A world on a line, simple enough to compute every number by hand: x' = x + action, rewarded by x'."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from shac.task import Task
from taichi_sim.types import State


class LineSim:
    def __init__(self, num_worlds: int, dtype: torch.dtype = torch.float64):
        self.num_worlds = num_worlds
        self.dtype = dtype
        self.device = torch.get_default_device()
        self.model = SimpleNamespace(nq=1, nv=1, nu=1, na=0)
        self.calls = 0

    def initial_state(self) -> State:
        x = torch.zeros(self.num_worlds, 1, dtype=self.dtype)
        return State(x, x.clone(), x[:, :0])

    def step(self, state: State, ctrl: torch.Tensor) -> State:
        self.calls += 1
        return State(state.qpos + ctrl, ctrl, state.act)


class Line(Task):
    """Observation (x, last action); world i of a whole reset begins at x = i, every later episode at x = 0."""

    asset = "none"
    episode_length = 3
    num_obs = 2
    num_actions = 1
    failure = 2.0

    def simulator(self, num_envs, device=None):
        return LineSim(num_envs)

    def observe(self, state, action):
        return torch.cat((state.qpos, action), dim=1)

    def reward(self, state, obs, action):
        return state.qpos[:, 0]

    def terminated(self, state, obs):
        return state.qpos[:, 0] >= self.failure

    def reset(self, num, generator, sim, stochastic=True):
        state = self.nominal(num, sim)
        if num == sim.num_worlds:
            state.qpos[:, 0] = torch.arange(num, dtype=sim.dtype)
        return state


class SeenLine(Line):
    """`Line` whose failures are told from the observation alone."""

    def terminated(self, state, obs):
        return obs[:, 0] >= self.failure
