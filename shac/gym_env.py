"""The batched environment as a `gymnasium.vector.VectorEnv`, for tools that take those."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from shac.env import Env


class GymEnv(VectorEnv):
    """NumPy in, NumPy out, no gradients; an episode that ends is followed by the next one in the same step.

    At the end of an episode `info["final_obs"]` holds its last observation, masked by `info["_final_obs"]`.

    Args:
      env: the environment; `shac.make` makes one.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}

    def __init__(self, env: Env):
        self.env = env
        self.num_envs = env.num_envs
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (env.task.num_inputs,), np.float32)
        self.single_action_space = gymnasium.spaces.Box(-1.0, 1.0, (env.task.num_actions,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self.action_space = batch_space(self.single_action_space, env.num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins new episodes: in all worlds, or in those of `options["reset_mask"]` (bool, (num_envs,))."""
        super().reset(seed=seed)
        mask = None
        if options is not None and "reset_mask" in options:
            mask = torch.as_tensor(options["reset_mask"], device=self.env.device)
        with torch.no_grad():
            obs = self.env.reset(mask, seed=seed)
        return self._observation(obs), {}

    @torch.no_grad()
    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One control step of all worlds; actions (num_envs, num_actions) in [-1, 1]."""
        action = torch.as_tensor(np.asarray(actions), dtype=self.env.dtype, device=self.env.device)
        obs, reward, terminated, truncated, step_info = self.env.step(action)
        info: dict[str, Any] = {}
        ended = (terminated | truncated).cpu().numpy()
        if ended.any():
            final_obs = self._observation(step_info["final_obs"])
            for world in np.flatnonzero(ended):
                info = self._add_info(info, {"final_obs": final_obs[world], "final_info": {}}, world)
        return (
            self._observation(obs),
            reward.cpu().numpy().astype(np.float64),
            terminated.cpu().numpy(),
            truncated.cpu().numpy(),
            info,
        )

    @staticmethod
    def _observation(obs: torch.Tensor) -> np.ndarray:
        # A copy: callers keep observations, and those on the CPU would share memory with the environment's.
        return obs.to(torch.float32).cpu().numpy().copy()
