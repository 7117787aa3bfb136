"""A training run: epochs, checkpoints, and a folder that outlives a crash."""

from __future__ import annotations

import contextlib
import copy
import importlib
import math
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from shac import seeding
from shac.algos.learner import Epoch, Learner
from shac.errors import NonFiniteError, UserError
from shac.models import load_task
from shac.ranks import SOLO, Ranks, joined
from shac.rehearsal import rehearse
from shac.runs import checkpoint
from shac.runs.checkpoint import build_policy
from shac.runs.config import to_yaml
from shac.runs.evaluate import evaluate
from shac.runs.logger import Logger, Metrics, NoLogger
from shac.runs.misfit import refusing_misfits, require_learner, require_like
from shac.runs.settings import GRADIENT_ALGOS, Settings
from shac.task import Task

# Algorithm -> module and class.
LEARNERS = {
    "shac": "shac.algos.shac:SHAC",
    "bptt": "shac.algos.shac:SHAC",
    "ppo": "shac.algos.ppo:PPO",
    "sac": "shac.algos.sac:SAC",
    "redq": "shac.algos.redq:REDQ",
    "mbpo": "shac.algos.mbpo:MBPO",
}


def start(config: Settings, run_dir: Path, *, quiet: bool = False) -> bool:
    """Trains in a new run folder, in all processes that torchrun has started; see `Run.train`.

    Raises:
      UserError: the folder holds a run already, or the run to begin with does not fit this one.
    """
    with joined(config.device) as ranks:
        if ranks.first and (run_dir / "config.yaml").exists():
            raise UserError(
                f"{run_dir} holds a run already: --resume {run_dir} continues it, another --run-dir begins anew"
            )
        run = Run(config, run_dir, ranks)
        if config.init is not None:
            run.begin_with(checkpoint.path_of(config.init, "last"))
        run.check_task()
        # From here on the folder is a run, and can be resumed: so the state must be there before the settings are.
        run.save()
        if ranks.first:
            checkpoint.atomic_write(run_dir / "config.yaml", lambda file: file.write(to_yaml(config).encode()))
        return run.train(quiet=quiet)


def resume(run_dir: Path, *, quiet: bool = False) -> bool:
    """Goes on with a folder's run as if it had not been interrupted, in any number of processes; see `Run.train`."""
    config = checkpoint.read_config(run_dir)
    path = checkpoint.path_of(run_dir, "last")
    state = checkpoint.load(path)
    with joined(config.device) as ranks:
        run = Run(config, run_dir, ranks)
        with refusing_misfits(f"{path} does not fit its run's settings"):
            run.load(state)
        return run.train(quiet=quiet)


def build_learner(task: Task, config: Settings, ranks: Ranks = SOLO) -> Learner:
    """The learner of a run's algorithm, untrained.

    Raises:
      UserError: the algorithm needs a library that is not installed, or has no use for several processes.
    """
    if ranks.size > 1 and config.algo not in GRADIENT_ALGOS:
        raise UserError(f"{config.algo} trains in one process, shac and bptt in several: start it without torchrun")
    # The baselines' library is an extra, and takes seconds to import.
    module, name = LEARNERS[config.algo].split(":")
    try:
        learner = getattr(importlib.import_module(module), name)
        return learner(task, config) if ranks.size == 1 else learner(task, config, ranks)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("torchrl", "tensordict"):
            raise
        raise UserError(
            f"{config.algo} needs {package}, which is not installed: pip install 'taichi-sim[baselines]'"
        ) from error


class Run:
    """A learner and the folder that keeps it.

    Args:
      config: all settings.
      run_dir: the run folder; nothing is written before `save` or `train`, and that by the first process alone.
      ranks: the processes that train together; each calls the same methods.
    """

    def __init__(self, config: Settings, run_dir: Path, ranks: Ranks = SOLO):
        torch.set_num_threads(config.threads)
        self.config = config
        self.run_dir = run_dir
        self.ranks = ranks
        self.learner = build_learner(load_task(config.model, config.task), config, ranks)
        self.seconds = 0.0
        # None: a release that did not count it began the run.
        self.cpu_seconds: float | None = 0.0
        self.warnings: list[str] = []
        self.return_best: float | None = None
        # What best.pt holds, or is to hold at the next `save`.
        self.best = self._policy()
        self.best_is_saved = False

    def train(self, *, quiet: bool = False) -> bool:
        """Trains until the last epoch or `max_cpu_seconds`, or until SIGINT or SIGTERM, and saves.

        Returns:
          Whether the run is complete; it can be resumed otherwise.

        Raises:
          NonFiniteError: a number became infinite or NaN; nonfinite.pt holds the state to look at, and last.pt an
            earlier one, from which a resumed run meets the same error again.
        """
        learner, config = self.learner, self.config
        logger = self._logger(quiet)
        try:
            logger.event(
                f"{'Begins' if learner.epoch == 0 else f'Goes on after epoch {learner.epoch}'}: {self.run_dir}"
            )
            if self.ranks.size > 1:
                logger.event(f"{self.ranks.size} processes, {learner.env.num_envs} worlds each")
            for warning in self.warnings:
                logger.event(warning)
            with _interruption() as interrupted:
                clock = _Clock(self.seconds, self.cpu_seconds, self.ranks)
                if not self.complete and self.ranks.first:
                    # it may have been before somebody gave it more epochs
                    checkpoint.completeness_of(self.run_dir).unlink(missing_ok=True)
                self._keep_snapshot()
                while not self.complete and not self.ranks.any(interrupted.is_set(), learner.env.device):
                    epoch = learner.train_epoch()
                    self.seconds, self.cpu_seconds = clock.read(learner.env.device)
                    self._keep_best(epoch)
                    logger.log(self._metrics(epoch))
                    self._keep_snapshot()
                    if learner.epoch % config.save_interval == 0:
                        self.save()
                self.save()
            if self.complete and self.ranks.first:
                self._compare_last_with_best()
                checkpoint.atomic_write(checkpoint.completeness_of(self.run_dir), lambda file: None)
            logger.event(
                f"Complete: {self.run_dir}"
                if self.complete
                else f"Interrupted after epoch {learner.epoch}: shac-train --resume {self.run_dir} goes on"
            )
            return self.complete
        except NonFiniteError as error:
            if self.ranks.size > 1:
                # the state is in several processes, of which this one may be the only one that knows
                own = f"process {self.ranks.rank}, {learner.env.num_envs} worlds"
                message = f"{own}: {error}. shac-train --resume {self.run_dir} in one process comes here again"
                logger.event(f"Stopped: {message}", show=False)
                raise NonFiniteError(message) from error
            path = checkpoint.path_of(self.run_dir, "nonfinite")
            checkpoint.save(path, self._state())
            # What was learnt before stays learnt; last.pt is left as it is, and leads here again.
            self._save_best()
            message = f"{error}. The state is in {path}"
            logger.event(f"Stopped: {message}", show=False)
            raise NonFiniteError(message) from error
        finally:
            logger.close()

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to train."""
        limit = self.config.max_cpu_seconds
        timed_out = None not in (limit, self.cpu_seconds) and self.cpu_seconds >= limit
        return self.learner.epoch >= self.config.max_epochs or timed_out

    def save(self) -> None:
        """Writes the checkpoints. best.pt goes first: a crash between the two leaves a best policy at least as good."""
        self._save_best()
        self._write("last", self._state(complete=self.complete))

    def _keep_snapshot(self) -> None:
        epoch = self.learner.epoch
        if epoch in self.config.snapshots:
            self._write(f"epoch-{epoch}", self._state())

    def _write(self, which: str, state: dict) -> None:
        # all processes make the state together, one writes it
        if self.ranks.first:
            checkpoint.save(checkpoint.path_of(self.run_dir, which), state)

    def _logger(self, quiet: bool) -> Logger | NoLogger:
        config = self.config
        if not self.ranks.first:
            return NoLogger()
        return Logger(
            self.run_dir,
            config.max_epochs,
            max_cpu_seconds=config.max_cpu_seconds,
            epoch=self.learner.epoch,
            quiet=quiet,
        )

    def check_task(self) -> None:
        """Looks whether the task can be learnt from gradients; the first line of the log may be a warning.

        Raises:
          UserError: it cannot; see `check_task.rehearse`.
        """
        warning = rehearse(self.learner.env, gradient=self.config.algo in GRADIENT_ALGOS)
        if warning is not None:
            self.warnings.append(f"Warning: {warning}")

    def begin_with(self, path: Path) -> None:
        """Takes the networks from another run's checkpoint.

        Raises:
          UserError: it is missing or damaged, or its networks have other shapes.
        """
        state = checkpoint.load(path)
        with refusing_misfits(f"the networks in {path} do not fit this model or its settings"):
            self.learner.begin_with(state["learner"])
        self.best = self._policy()

    def load(self, state: dict) -> None:
        """Goes on from a checkpoint's content.

        Raises:
          ValueError and others: it is not of this run's shape; see `misfit`.
        """
        require_learner(state["learner"], self.learner)
        require_like(state["seconds"], 0.0, "seconds")
        for name, number in (("return_best", state["return_best"]), ("cpu_seconds", state.get("cpu_seconds"))):
            require_like(number, None, name)
        self.learner.load_state_dict(state["learner"])
        self.seconds = state["seconds"]
        self.cpu_seconds = state.get("cpu_seconds")
        self.return_best = state["return_best"]
        self.best = self._policy()
        self.best_is_saved = checkpoint.path_of(self.run_dir, "best").is_file()

    def _save_best(self) -> None:
        if not self.best_is_saved:
            self._write("best", self.best)
            self.best_is_saved = True

    def _keep_best(self, epoch: Epoch) -> None:
        mean = self.learner.episodes.mean_return
        if self.learner.renewed:
            self.return_best = None
        if epoch.finished and mean > (-math.inf if self.return_best is None else self.return_best):
            self.return_best = mean
            self.best = self._policy()
            self.best_is_saved = False

    def _compare_last_with_best(self) -> None:
        """Makes the last policy the best one if it does better on the same fresh episodes, both deterministic.

        The highest of hundreds of noisy means belongs to a policy that was lucky: on CartPole, to one 30 worse in
        return than the last (docs/results.md).
        """
        config, last = self.config, self._policy()
        task, path = self.learner.env.task, checkpoint.path_of(self.run_dir, "best")
        best = checkpoint.load(path)

        def mean_return(state: dict) -> float:
            with refusing_misfits(f"{path} does not fit its run's settings"):
                policy = build_policy(task, config, state)
            return (
                evaluate(
                    task,
                    policy,
                    config.num_envs,
                    seed=seeding.stream_seed(config.seed, "selection"),
                    device=config.device,
                    substeps=config.policy_substeps,
                    theta=config.theta,
                )
                .returns.mean()
                .item()
            )

        if best.get("epoch") != last["epoch"] and mean_return(last) > mean_return(best):
            self.best, self.best_is_saved = last, False
            self._save_best()

    def _metrics(self, epoch: Epoch) -> Metrics:
        learner, config = self.learner, self.config
        return Metrics(
            epoch=learner.epoch,
            steps=learner.epoch * config.num_envs * config.horizon,
            seconds=self.seconds,
            cpu_seconds=self.cpu_seconds,
            return_mean=learner.episodes.mean_return,
            return_best=self.return_best,
            episode_length=learner.episodes.mean_length,
            episodes=learner.episodes.finished,
            actor_loss=epoch.actor_loss,
            critic_loss=epoch.critic_loss,
            grad_norm=epoch.grad_norm,
            actor_lr=learner.actor_lr,
            time_rollout=epoch.time_rollout,
            time_backward=epoch.time_backward,
            time_critic=epoch.time_critic,
        )

    def _policy(self) -> dict:
        """What acting takes, as a checkpoint's content that later epochs do not change."""
        learner = self.learner
        return copy.deepcopy(
            {
                "epoch": learner.epoch,
                "return_mean": learner.episodes.mean_return,
                "actor": learner.policy.state_dict(),
                "normalizer": learner.normalizer.state_dict(),
            }
        )

    def _state(self, *, complete: bool = False) -> dict:
        return {
            **self._policy(),
            "learner": self.learner.state_dict(complete=complete),
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "return_best": self.return_best,
        }


class _Clock:
    """Wall-clock and processor time of a training, of all processes and earlier parts of it [s]."""

    def __init__(self, seconds: float, cpu_seconds: float | None, ranks: Ranks):
        self._begin = time.perf_counter() - seconds
        self._before, self._cpu_begin, self._ranks = cpu_seconds, time.process_time(), ranks

    def read(self, device: torch.device) -> tuple[float, float | None]:
        cpu_seconds = self._ranks.sum(time.process_time() - self._cpu_begin, device)
        total = None if self._before is None else self._before + cpu_seconds
        return time.perf_counter() - self._begin, total


@contextlib.contextmanager
def _interruption() -> Iterator[threading.Event]:
    """An event that SIGINT (Ctrl-C) and SIGTERM set instead of ending the process; a second one ends it at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may handle signals; whoever trains in another one stops it in another way.
        yield event
        return
    previous = {}

    def stop(number, frame):
        event.set()
        signal.signal(number, previous[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        previous[number] = signal.signal(number, stop)
    try:
        yield event
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
