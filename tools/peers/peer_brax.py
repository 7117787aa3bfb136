"""Brax's spring pipeline, in JAX, differentiated in reverse mode."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from brax.io import mjcf
from brax.spring import pipeline
from problem import Problem

LEAVES_OUT = "muscles and tendons; joints are springs between free bodies, contacts are impulses"
PRECISION = "f32"


class Contestant:
    """See `child`."""

    def __init__(self, problem: Problem, threads: int):
        if problem.act.size:
            raise NotImplementedError("Brax has no muscles")
        system = mjcf.load_model(mujoco.MjModel.from_xml_path(problem.path))

        def rollout(qpos, qvel, ctrl):
            def substep(state, control):
                return pipeline.step(system, state, control), None

            @jax.checkpoint
            def control_step(state, control):
                held = jnp.broadcast_to(control, (problem.substeps, *control.shape))
                return jax.lax.scan(substep, state, held)[0], None

            state = pipeline.init(system, qpos, qvel)
            return jax.lax.scan(control_step, state, ctrl)[0].q[0]

        qvel = jnp.array(problem.qvel)
        rollouts = jax.vmap(rollout, in_axes=(0, 0, 1))
        self._forward = jax.jit(lambda qpos, ctrl: rollouts(qpos, qvel, ctrl))
        self._gradient = jax.jit(jax.grad(lambda ctrl, qpos: rollouts(qpos, qvel, ctrl).sum()))

    def forward(self, qpos: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
        return np.asarray(self._forward(jnp.asarray(qpos), jnp.asarray(ctrl)))

    def gradient(self, qpos: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
        return np.asarray(self._gradient(jnp.asarray(ctrl), jnp.asarray(qpos)))
