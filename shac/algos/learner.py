"""What all learners are: an environment, a policy, random streams, and epochs that can be interrupted and resumed."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from shac import seeding
from shac.algos.episodes import Episodes
from shac.algos.normalizer import Normalizer
from shac.algos.sizes import require_networks
from shac.env import Env
from shac.ranks import SOLO, Ranks
from shac.task import Task

if TYPE_CHECKING:
    from shac.runs.settings import Settings


class Epoch(NamedTuple):
    """What an epoch did.

    | field | meaning |
    |---|---|
    | actor_loss | the actor's loss; None if there was no update |
    | critic_loss | mean squared error of the critics; None without a critic or an update |
    | grad_norm | norm of the actor's gradient before clipping; None if there was no update |
    | finished | episodes that ended in the epoch |
    | time_rollout, time_backward, time_critic | seconds of rollout, actor's update, what is left of the critic's |
    """

    actor_loss: float | None
    critic_loss: float | None
    grad_norm: float | None
    finished: int
    time_rollout: float
    time_backward: float
    time_critic: float


class Learner(abc.ABC):
    """Environment, networks, optimisers and random streams of one run.

    Args:
      task: what is to be learnt.
      config: all settings.
      ranks: the processes that share the worlds.

    | attribute | meaning |
    |---|---|
    | env | the worlds |
    | normalizer | statistics of the observations |
    | episodes | returns of the episodes that have finished |
    | epoch | epochs done |
    | renewed | returns before the last epoch say nothing about policies after it: substeps or rewards are others |
    | since | the last epoch that was renewed |
    """

    def __init__(self, task: Task, config: Settings, ranks: Ranks = SOLO):
        self.config, self.ranks = config, ranks
        require_networks(task, config)
        self.env = Env(
            task,
            config.num_envs,
            seed=config.seed,
            device=config.device,
            stochastic_init=config.stochastic_init,
            substeps=config.substeps,
            theta=config.theta,
            early_limits=config.early_limits,
            ranks=ranks,
        )
        self.normalizer = Normalizer(task.num_inputs).to(self.env.device)
        self.exploration = seeding.generator(config.seed, "exploration", self.env.device)
        if config.stagger:
            self.env.stagger()
        self.episodes = Episodes(config.num_envs, self.env.device)
        self.epoch = 0
        self.renewed = False
        self.since = 0

    @abc.abstractmethod
    def train_epoch(self) -> Epoch:
        """One epoch.

        Raises:
          NonFiniteError: a number became infinite or NaN; the message says where that began.
        """

    @property
    @abc.abstractmethod
    def policy(self) -> nn.Module:
        """The actor that the run leaves behind; see `networks.build_actor`."""

    @property
    @abc.abstractmethod
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """All optimisers, by the names that checkpoints have."""

    @property
    @abc.abstractmethod
    def actor_lr(self) -> float:
        """The actor's learning rate in the last epoch; before the first one, at its beginning."""

    @abc.abstractmethod
    def parts(self) -> dict[str, Any]:
        """What else has a state of its own, by name: objects with `state_dict` and `load_state_dict`."""

    @abc.abstractmethod
    def begin_with(self, state: dict[str, Any]) -> None:
        """Takes the networks and the normaliser from another learner's `state_dict`; all else stays as it is."""

    def state_dict(self, *, complete: bool = False) -> dict[str, Any]:
        """All that decides how the run goes on: nested dicts of tensors, numbers and texts.

        Args:
          complete: the run has ended: what only its continuation needs may be left out.
        """
        parts = {name: part.state_dict() for name, part in self._all_parts().items()}
        return {"epoch": self.epoch, "since": self.since, "exploration": self.exploration.get_state(), **parts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from `state_dict`'s result as if nothing had happened."""
        for name, part in self._all_parts().items():
            saved = state[name]
            if name in self.optimizers:
                # Rates and betas are the settings', whatever a release of torch has put beside them.
                saved = {"state": saved["state"], "param_groups": part.state_dict()["param_groups"]}
            part.load_state_dict(saved)
        self.epoch, self.since = state["epoch"], state["since"]
        self.exploration.set_state(state["exploration"].cpu())

    def _all_parts(self) -> dict[str, Any]:
        shared = {name: getattr(self, name) for name in ("normalizer", "env", "episodes")}
        return self.parts() | shared | self.optimizers

    @contextlib.contextmanager
    def _weights(self) -> Iterator[None]:
        """Draws of torch's global generator are the run's stream for untrained networks."""
        # On the CPU, so that a seed means the same weights on every device.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeding.stream_seed(self.config.seed, "weights"))
            yield

    @property
    def finishing(self) -> bool:
        """Whether the present epoch is one of those with `final_substeps`."""
        return self.config.finish is not None and self.epoch >= self.config.finish

    def begin_epoch(self) -> None:
        """Gives the present epoch its substeps, and the task its part of the training."""
        if self.finishing:
            self.env.sim.model.opt.divide(self.config.final_substeps)
        self.renewed = self.env.task.schedule(self.epoch / self.config.max_epochs) or self.epoch == self.config.finish
        if self.renewed:
            self.since = self.epoch
