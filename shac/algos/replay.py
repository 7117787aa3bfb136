"""What an off-policy learner remembers of its steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from tensordict import TensorDict
from torchrl import logger
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer

from shac.env import Env

# It tells of every buffer that it makes.
logger.setLevel("WARNING")


class Replay:
    """The last steps of all worlds, and minibatches drawn from them with equal chances; torchrl's buffer.

    | key | meaning | shape |
    |---|---|---|
    | observation | raw observation that the actor saw | (num_inputs,) |
    | action | action, clipped | (num_actions,) |
    | next, observation | raw observation that the step led to, before any reset | (num_inputs,) |
    | next, reward | reward | (1,) |
    | next, terminated; next, done | the task has failed: nothing follows. A time limit is none of both | (1,) bool |

    Args:
      env: whose steps they are.
      size: number of steps.
      batch: steps in a minibatch.
      generator: draws the minibatches.
    """

    def __init__(self, env: Env, size: int, batch: int, generator: torch.Generator):
        self._env, self._batch = env, batch
        self._buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(size, device=env.device), generator=generator)

    def __len__(self) -> int:
        return len(self._buffer)

    def add(
        self,
        obs: torch.Tensor,
        action: torch.Tensor,
        reward: torch.Tensor,
        final_obs: torch.Tensor,
        terminated: torch.Tensor,
    ) -> None:
        """Takes in a step of all worlds, a row each."""
        self._buffer.extend(_rows(obs, action, reward, final_obs, terminated))

    def extend(self, steps: TensorDict) -> None:
        """Takes in steps of another memory."""
        self._buffer.extend(steps)

    def sample(self, num: int | None = None) -> TensorDict:
        """A minibatch, or `num` steps."""
        return self._buffer.sample(num or self._batch)

    def steps(self) -> TensorDict:
        """All that is remembered."""
        return self._buffer[:]

    def state_dict(self) -> dict[str, Any]:
        """Steps by key, and where the next one goes."""
        steps = self.steps().flatten_keys(".").to_dict() if len(self) else {}
        # A part of the storage would be saved with the whole of it.
        return {"steps": {k: v.clone() for k, v in steps.items()}, "writer": self._buffer.writer.state_dict()}

    def require(self, saved: Any) -> None:
        """Looks at what a checkpoint has of a memory's state.

        Raises:
          ValueError: it does not fit.
        """
        if not isinstance(saved, Mapping) or not isinstance(saved.get("steps"), Mapping):
            raise ValueError("learner.replay is not a memory's state")
        task, like = self._env.task, {"device": self._env.device, "dtype": self._env.dtype}
        obs, number = torch.empty(1, task.num_inputs, **like), torch.empty(1, **like)
        rows = _rows(obs, torch.empty(1, task.num_actions, **like), number, obs, number.bool()).flatten_keys(".")
        wanted = {key: (value.shape[1:], value.dtype) for key, value in rows.items()}
        found = {key: (value.shape[1:], value.dtype) for key, value in saved["steps"].items() if key != "index"}
        if found and found != wanted:
            raise ValueError(f"learner.replay has steps of {found} instead of {wanted}")

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        if saved["steps"]:
            steps = TensorDict(saved["steps"], batch_size=len(saved["steps"]["index"]))
            self._buffer.extend(steps.unflatten_keys("."))
        self._buffer.writer.load_state_dict(saved["writer"])


def _rows(
    obs: torch.Tensor, action: torch.Tensor, reward: torch.Tensor, final_obs: torch.Tensor, terminated: torch.Tensor
) -> TensorDict:
    failed = terminated[:, None]
    following = {"observation": final_obs, "reward": reward[:, None], "terminated": failed, "done": failed}
    return TensorDict({"observation": obs, "action": action, "next": following}, len(obs))
