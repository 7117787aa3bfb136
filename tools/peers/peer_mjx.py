"""MJX: MuJoCo in JAX, differentiated in reverse mode."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import mjx
from problem import Problem

LEAVES_OUT = "the solver takes one iteration and four steps of its line search, since more cannot be differentiated"
PRECISION = "f32"


class Contestant:
    """See `child`."""

    def __init__(self, problem: Problem, threads: int):
        model = mujoco.MjModel.from_xml_path(problem.path)
        # with more than one, the solver is a loop of unknown length, which has no reverse mode
        model.opt.iterations, model.opt.ls_iterations = 1, 4
        device_model = mjx.put_model(model)
        blank = mjx.make_data(device_model)

        def rollout(qpos, qvel, act, ctrl):
            def substep(data, _):
                return mjx.step(device_model, data), None

            @jax.checkpoint
            def control_step(data, control):
                return jax.lax.scan(substep, data.replace(ctrl=control), None, problem.substeps)

            data = blank.replace(qpos=qpos, qvel=qvel, act=act)
            return jax.lax.scan(control_step, data, ctrl)[0].qpos[0]

        start = jnp.array(problem.qvel), jnp.array(problem.act)
        rollouts = jax.vmap(rollout, in_axes=(0, 0, 0, 1))
        self._forward = jax.jit(lambda qpos, ctrl: rollouts(qpos, *start, ctrl))
        self._gradient = jax.jit(jax.grad(lambda ctrl, qpos: rollouts(qpos, *start, ctrl).sum()))

    def forward(self, qpos: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
        return np.asarray(self._forward(jnp.asarray(qpos), jnp.asarray(ctrl)))

    def gradient(self, qpos: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
        return np.asarray(self._gradient(jnp.asarray(ctrl), jnp.asarray(qpos)))
