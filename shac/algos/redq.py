"""REDQ: Chen et al., Randomized Ensembled Double Q-Learning: Learning Fast Without a Model, 2021.

SAC with ten critics and twenty updates of them after every control step. A target is the least value of two critics
drawn anew for every update; the actor is moved once, after the last of them, along the mean of all ten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from shac.algos.sac import SAC

if TYPE_CHECKING:
    from shac.runs.settings import REDQ as Settings
    from shac.task import Task


class REDQ(SAC):
    """REDQ; see `Learner`. Lines are those of the paper's algorithm 1."""

    def __init__(self, task: Task, config: Settings):
        self.num_critics = config.critics
        super().__init__(task, config)

    def _chosen(self) -> torch.Tensor:
        # line 8
        return torch.randperm(self.config.critics)[: self.config.target_critics]

    def _moves_actor(self, last: bool) -> bool:
        # line 11
        return last

    def _value(self, values: torch.Tensor) -> torch.Tensor:
        # line 12
        return values.mean(0)
