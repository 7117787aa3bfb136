"""This package."""

# taichi_sim comes before torch, whose threads it has wait without spinning
# ruff: noqa: I001

from __future__ import annotations

import os

import numpy as np
import taichi_sim as ts
import torch
from problem import Problem

LEAVES_OUT = "nothing; contacts and limits are springs and dampers"
PRECISION = "f32"


class Contestant:
    """See `child`."""

    def __init__(self, problem: Problem, threads: int):
        # f64 where differences are to be clear; see `table.Run.check`
        ts.init("cpu", os.environ.get("PEERS_PRECISION", "f32"), num_threads=threads)
        torch.set_num_threads(threads)
        model = ts.load(problem.path)
        self.sim = ts.Simulator(model, num_worlds=problem.worlds)
        self.qvel, self.act = self._tensor(problem.qvel), self._tensor(problem.act)

    def forward(self, qpos: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self._rollout(qpos, self._tensor(ctrl)).numpy()

    def gradient(self, qpos: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
        controls = self._tensor(ctrl).requires_grad_()
        self._rollout(qpos, controls).sum().backward()
        return controls.grad.numpy()

    def _rollout(self, qpos: np.ndarray, controls: torch.Tensor) -> torch.Tensor:
        state = self.sim.initial_state()._replace(qpos=self._tensor(qpos), qvel=self.qvel, act=self.act)
        for control in controls.unbind(0):
            state = self.sim.step(state, control)
        return state.qpos[:, 0]

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(array, dtype=self.sim.dtype).contiguous()
