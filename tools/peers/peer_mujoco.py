"""MuJoCo's C engine: `mujoco.rollout`, and central differences of it in every control."""

from __future__ import annotations

import mujoco
import numpy as np
from mujoco import rollout
from problem import Problem

LEAVES_OUT = "gradients: those are central differences in every control, timed in a few worlds and scaled up to all"
PRECISION = "f64"
# A control's change, the cube root of f64's resolution.
EPS = 6e-6
# Worlds in which differences are timed.
FEW = 2


class Contestant:
    """See `child`."""

    def __init__(self, problem: Problem, threads: int):
        self.model = mujoco.MjModel.from_xml_path(problem.path)
        self.substeps, self.qvel, self.act = problem.substeps, problem.qvel, problem.act
        self.pool = rollout.Rollout(nthread=threads)
        self.scratch = [mujoco.MjData(self.model) for _ in range(threads)]
        self.size = mujoco.mj_stateSize(self.model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        # what `child` multiplies the seconds of a gradient by
        self.gradient_share = max(1.0, problem.worlds / FEW)

    def forward(self, qpos: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
        return self._run(self._states(qpos), ctrl)[:, -1, 1]

    def gradient(self, qpos: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
        """The gradient in the first FEW worlds, zero in the others. What came before a change is not computed anew."""
        worlds, nu = min(FEW, len(qpos)), ctrl.shape[2]
        few, found = ctrl[:, :worlds], np.zeros_like(ctrl)
        start = self._states(qpos)[:worlds]
        reached = self._run(start, few)[:, self.substeps - 1 :: self.substeps]
        before = np.concatenate([start[:, None], reached[:, :-1]], axis=1)
        # every world 2 nu times, with one of its controls changed upwards or downwards in the first step
        changes = EPS * np.concatenate([np.eye(nu), -np.eye(nu)])
        for step in range(len(ctrl)):
            rest = np.tile(few[step:, :, None], (1, 1, 2 * nu, 1))
            rest[0] += changes
            states = np.repeat(before[:, step], 2 * nu, axis=0)
            ends = self._run(states, rest.reshape(len(rest), -1, nu))[:, -1, 1].reshape(worlds, 2, nu)
            found[step, :worlds] = (ends[:, 0] - ends[:, 1]) / (2 * EPS)
        return found

    def _states(self, qpos: np.ndarray) -> np.ndarray:
        # the full physics state begins with time, qpos, qvel, act
        states = np.zeros((len(qpos), self.size))
        parts = np.concatenate([qpos, self.qvel, self.act], axis=1)
        states[:, 1 : 1 + parts.shape[1]] = parts
        return states

    def _run(self, states: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
        held = ctrl.swapaxes(0, 1).repeat(self.substeps, axis=1)
        return self.pool.rollout(self.model, self.scratch, states, held)[0]
