"""MuJoCo-Warp: MuJoCo in Warp, which on a CPU has one thread."""

from __future__ import annotations

import mujoco
import mujoco_warp as mjw
import numpy as np
import warp as wp
from problem import Problem

LEAVES_OUT = "gradients; on a CPU all threads but one"
PRECISION = "f32"


class Contestant:
    """See `child`."""

    def __init__(self, problem: Problem, threads: int):
        wp.config.quiet = True
        wp.set_device("cpu")
        model = mujoco.MjModel.from_xml_path(problem.path)
        self.problem, self.model = problem, mjw.put_model(model)
        self.data = mjw.make_data(model, nworld=problem.worlds)

    def forward(self, qpos: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
        data, problem = self.data, self.problem
        mjw.reset_data(self.model, data)
        for name, values in (("qpos", qpos), ("qvel", problem.qvel), ("act", problem.act)):
            if values.size:
                getattr(data, name).assign(values.astype(np.float32))
        for control in ctrl.astype(np.float32):
            data.ctrl.assign(control)
            for _ in range(problem.substeps):
                mjw.step(self.model, data)
        # a copy: what numpy() gives is the array itself
        return data.qpos.numpy()[:, 0].copy()

    def gradient(self, qpos: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
        raise NotImplementedError("MuJoCo-Warp has no gradients in a release")
