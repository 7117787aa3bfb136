"""MBPO: Janner et al., When to Trust Your Model: Model-Based Policy Optimization, 2019.

An epoch, 250 control steps: a fit of the model to all steps so far; short rollouts of it that branch off from states
that were met, whose steps are remembered for four epochs; then control steps, after each of which SAC is moved twenty
times, on minibatches of which one step in twenty is a real one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from tensordict import TensorDict

from shac.algos.dynamics import Dynamics
from shac.algos.learner import Epoch
from shac.algos.replay import Replay
from shac.algos.sac import SAC
from shac.errors import UserError
from shac.task import Task

if TYPE_CHECKING:
    from shac.runs.settings import MBPO as Settings

# The schedule of the rollouts' length counts in these [control steps].
THOUSAND = 1000
# Rollouts are computed so many at a time.
CHUNK = 10_000


class MBPO(SAC):
    """MBPO; see `Learner`."""

    def __init__(self, task: Task, config: Settings):
        super().__init__(task, config)
        with self._weights():
            self.dynamics = Dynamics(task.num_inputs, task.num_actions, config).to(self.env.device, self.env.dtype)
        self.dynamics_optimizer = torch.optim.Adam(self.dynamics.parameters(), lr=config.model_lr, fused=True)
        self.imagined_length = 1
        self.imagined = self._memory()

    def _train_epoch(self) -> Epoch:
        if self.epoch * self.config.horizon >= self.config.random_steps:
            self._fit()
            self._imagine()
        return super()._train_epoch()

    @property
    def rollout_length(self) -> int:
        """Steps of the model's rollouts in the present epoch."""
        config = self.config
        begin, end, shortest, longest = config.rollout_length
        done = self.epoch * config.horizon * config.num_envs / THOUSAND
        progress = min(max((done - begin) / (end - begin), 0.0), 1.0)
        return int(shortest + progress * (longest - shortest))

    def _memory(self) -> Replay:
        """For the steps of the last epochs' rollouts."""
        config = self.config
        size = config.rollouts * self.imagined_length * config.retained
        return Replay(self.env, size, config.batch - self._num_real, self.sampling)

    @property
    def _num_real(self) -> int:
        return max(1, round(self.config.real_ratio * self.config.batch))

    def _fit(self) -> None:
        steps = self.replay.steps()
        obs, following = steps["observation"], steps["next"]
        x = torch.cat((obs, steps["action"]), dim=1)
        targets = torch.cat((following["observation"] - obs, following["reward"]), dim=1)
        self.dynamics.fit(x, targets, self.dynamics_optimizer, self.sampling)

    @torch.no_grad()
    def _imagine(self) -> None:
        """Rollouts of the model under the present policy, from states drawn from all that were met."""
        config = self.config
        if self.imagined_length != self.rollout_length:
            self.imagined_length, older = self.rollout_length, self.imagined
            self.imagined = self._memory()
            if len(older):
                self.imagined.extend(older.steps())
        normalize = self.normalizer.snapshot(self.env.dtype)
        beginnings = self.replay.sample(config.rollouts)["observation"]
        for obs in beginnings.split(CHUNK):
            for _ in range(self.imagined_length):
                seen = normalize(obs) if config.normalize_obs else obs
                action = self.actor.act(seen, torch.randn(len(obs), self.env.task.num_actions).to(obs))
                following, reward = self.dynamics.predict(obs, action)
                failed = self._failed(following)
                self.imagined.add(obs, action, reward, following, failed)
                obs = following[~failed]
                if not len(obs):
                    break

    def _failed(self, obs: torch.Tensor) -> torch.Tensor:
        """Whether episodes fail with these observations, (batch,) bool."""
        task = self.env.task
        try:
            return task.terminated(None, obs[:, : task.num_obs])
        except (AttributeError, TypeError) as error:
            raise UserError(
                f"{type(task).__name__}.terminated looks at the state, but MBPO's model predicts observations alone: "
                f"compute it of obs ({error})"
            ) from error

    def _sample(self) -> TensorDict:
        return torch.cat((self.replay.sample(self._num_real), self.imagined.sample()))

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return super().optimizers | {"dynamics_optimizer": self.dynamics_optimizer}

    def parts(self) -> dict[str, Any]:
        return super().parts() | {"dynamics": self.dynamics}

    def state_dict(self, *, complete: bool = False) -> dict[str, Any]:
        imagined = None if complete else self.imagined.state_dict()
        length = self.imagined_length
        return {**super().state_dict(complete=complete), "imagined": imagined, "imagined_length": length}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.imagined_length = state["imagined_length"]
        self.imagined = self._memory()
        if state["imagined"] is not None:
            self.imagined.load_state_dict(state["imagined"])

    def begin_with(self, state: dict[str, Any]) -> None:
        super().begin_with(state)
        self.dynamics.load_state_dict(state["dynamics"])
