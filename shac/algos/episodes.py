"""Returns and lengths of the episodes that finish during training."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch

# The mean return that decides which policy is the best one is taken over so many episodes, but no more than this many
# a world: a single one's last hundred may be its whole training.
RECENT, RECENT_PER_WORLD = 100, 10


class Episodes:
    """Undiscounted returns of the episodes under way, and of the last 100 that have finished, or 10 a world.

    Finished episodes count in the order of their last steps, then of their worlds, however windows divide them.

    Args:
      num_envs: number of worlds.
      device: where rewards come from.
    """

    def __init__(self, num_envs: int, device: torch.device | str = "cpu"):
        # float64: a sum of a thousand rewards in float32 would make the logged return depend on the order.
        self.running = torch.zeros(num_envs, dtype=torch.float64, device=device)
        self.lengths = torch.zeros(num_envs, dtype=torch.int64, device=device)
        recent = min(RECENT, RECENT_PER_WORLD * num_envs)
        self.recent_returns: deque[float] = deque(maxlen=recent)
        self.recent_lengths: deque[int] = deque(maxlen=recent)
        self.finished = 0

    def add(self, rewards: torch.Tensor, ended: torch.Tensor, whole: torch.Tensor) -> int:
        """Takes in a window.

        Args:
          rewards: (horizon, num_envs).
          ended: the step was its episode's last, bool (horizon, num_envs).
          whole: the step's episode counts, bool (horizon, num_envs).

        Returns:
          How many episodes ended that count.
        """
        begin = 0
        before = self.finished
        for step in ended.any(1).nonzero().squeeze(1).tolist():
            self._extend(rewards[begin : step + 1])
            begin = step + 1
            done = ended[step]
            counted = done & whole[step]
            self.recent_returns.extend(self.running[counted].tolist())
            self.recent_lengths.extend(self.lengths[counted].tolist())
            self.finished += int(counted.sum())
            self.running = self.running.masked_fill(done, 0.0)
            self.lengths = self.lengths.masked_fill(done, 0)
        self._extend(rewards[begin:])
        return self.finished - before

    @property
    def mean_return(self) -> float | None:
        """Mean return of the last finished episodes; None before the first."""
        return sum(self.recent_returns) / len(self.recent_returns) if self.recent_returns else None

    @property
    def mean_length(self) -> float | None:
        """Mean length of the last finished episodes [control steps]; None before the first."""
        return sum(self.recent_lengths) / len(self.recent_lengths) if self.recent_lengths else None

    def state_dict(self) -> dict[str, Any]:
        return {
            "running": self.running,
            "lengths": self.lengths,
            "recent_returns": list(self.recent_returns),
            "recent_lengths": list(self.recent_lengths),
            "finished": self.finished,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.running = saved["running"].to(self.running.device)
        self.lengths = saved["lengths"].to(self.lengths.device)
        self.recent_returns = deque(saved["recent_returns"], maxlen=self.recent_returns.maxlen)
        self.recent_lengths = deque(saved["recent_lengths"], maxlen=self.recent_lengths.maxlen)
        self.finished = saved["finished"]

    def _extend(self, rewards: torch.Tensor) -> None:
        self.running = self.running + rewards.sum(0, dtype=torch.float64)
        self.lengths = self.lengths + len(rewards)
