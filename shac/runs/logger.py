"""What a run shows and keeps of its epochs: a CSV file, TensorBoard events, and a view for whoever watches."""

from __future__ import annotations

import csv
import datetime
import io
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.live import Live
from rich.table import Table
from torch.utils.tensorboard import SummaryWriter

from shac.errors import UserError
from shac.runs.checkpoint import atomic_write


class Metrics(NamedTuple):
    """One epoch, as metrics.csv and TensorBoard have it; what is not known yet is None, and an empty field there.

    | field | meaning |
    |---|---|
    | epoch | epochs done |
    | steps | environment steps done, all worlds together |
    | seconds | wall-clock time of the training so far, without pauses between a stop and its resumption [s] |
    | cpu_seconds | processor time of the training so far, all threads together [s]: what `seconds` would be on one free
      core, also beside others on a shared one; unknown in a run that a release without it began |
    | return_mean | mean undiscounted return of the last `Episodes`, with the actions that training sampled |
    | return_best | the largest return_mean so far |
    | episode_length | mean length of those episodes [control steps] |
    | episodes | episodes finished |
    | actor_loss, critic_loss | the epoch's losses |
    | grad_norm | norm of the actor's gradient before clipping |
    | actor_lr | learning rate of the actor |
    | time_rollout, time_backward, time_critic | seconds in the epoch's parts, one after the other [s]; see `Epoch` |
    """

    epoch: int
    steps: int
    seconds: float
    cpu_seconds: float | None
    return_mean: float | None
    return_best: float | None
    episode_length: float | None
    episodes: int
    actor_loss: float | None
    critic_loss: float | None
    grad_norm: float | None
    actor_lr: float
    time_rollout: float
    time_backward: float
    time_critic: float


# The most seconds that a time can be written with.
LONGEST = datetime.timedelta.max // datetime.timedelta(seconds=1)

# Those that differ from one run to the next although seed, machine and thread count are the same.
TIMES = ("seconds", "cpu_seconds", "time_rollout", "time_backward", "time_critic")


class NoLogger:
    """What a process has instead that does not write the run folder."""

    def log(self, metrics: Metrics) -> None: ...

    def event(self, message: str, *, show: bool = True) -> None: ...

    def close(self) -> None: ...


class Logger:
    """Writes a run's metrics into its folder and shows them: live on a terminal, else a plain line per epoch.

    Args:
      run_dir: the run folder.
      max_epochs: epochs the run is to have.
      max_cpu_seconds: processor time [s] after which it ends all the same; None: no matter how long it takes.
      epoch: epochs done before; rows of later ones, which a killed run may have left, are dropped.
      quiet: show nothing.
    """

    def __init__(
        self,
        run_dir: Path,
        max_epochs: int,
        *,
        max_cpu_seconds: float | None = None,
        epoch: int = 0,
        quiet: bool = False,
    ):
        self.run_dir = run_dir
        self.max_epochs = max_epochs
        self.max_cpu_seconds = max_cpu_seconds
        self.quiet = quiet
        self.csv_path = run_dir / "metrics.csv"
        _truncate_csv(self.csv_path, epoch)
        self.csv_file = open(self.csv_path, "a", newline="", encoding="utf-8")  # noqa: SIM115 (`close` closes it)
        self.csv = csv.writer(self.csv_file)
        self.tensorboard = SummaryWriter(str(run_dir), purge_step=epoch + 1)
        self.live = None
        console = Console()
        if console.is_terminal and not quiet:
            self.live = Live(console=console, refresh_per_second=4)
            self.live.start()
        self.speed = _Speed()

    def log(self, metrics: Metrics) -> None:
        """Takes in an epoch. Its row is with the operating system when this returns: a killed process loses none."""
        self.csv.writerow(["" if value is None else value for value in metrics])
        self.csv_file.flush()
        for name, value in metrics._asdict().items():
            if value is not None and name != "epoch":
                self.tensorboard.add_scalar(name, value, metrics.epoch)
        self.speed.update(metrics)
        if self.live is not None:
            self.live.update(self._table(metrics))
        elif not self.quiet:
            print(self._line(metrics), flush=True)

    def event(self, message: str, *, show: bool = True) -> None:
        """Notes something that happened to the run, in log.txt and, with `show`, for whoever watches."""
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        with open(self.run_dir / "log.txt", "a", encoding="utf-8") as file:
            file.write(f"{now} {message}\n")
        if not show or self.quiet:
            return
        if self.live is not None:
            self.live.console.print(message, markup=False, highlight=False)
        else:
            print(message, flush=True)

    def close(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None
        self.tensorboard.close()
        self.csv_file.close()

    def _table(self, metrics: Metrics) -> Table:
        table = Table(title=str(self.run_dir), show_header=False)
        for name, value in _shown(metrics, self):
            table.add_row(name, value)
        return table

    def _line(self, metrics: Metrics) -> str:
        return "  ".join(f"{name} {value}" for name, value in _shown(metrics, self))


class _Speed:
    """Steps and seconds per epoch of the last epochs; older ones say little about the time that is left."""

    WEIGHT = 0.1

    def __init__(self):
        self.before: Metrics | None = None
        self.epoch_seconds: float | None = None
        self.steps_per_second: float | None = None

    def update(self, metrics: Metrics) -> None:
        if self.before is not None:
            seconds = max(metrics.seconds - self.before.seconds, 1e-9)
            if self.epoch_seconds is not None:
                seconds = self.epoch_seconds + self.WEIGHT * (seconds - self.epoch_seconds)
            self.epoch_seconds = seconds
            self.steps_per_second = (metrics.steps - self.before.steps) / seconds
        self.before = metrics


def _shown(metrics: Metrics, logger: Logger) -> list[tuple[str, str]]:
    speed = logger.speed
    left = None if speed.epoch_seconds is None else speed.epoch_seconds * (logger.max_epochs - metrics.epoch)
    if None not in (left, logger.max_cpu_seconds, metrics.cpu_seconds):
        left = min(left, max(0, logger.max_cpu_seconds - metrics.cpu_seconds))
    return [
        ("epoch", f"{metrics.epoch}/{logger.max_epochs}"),
        ("steps", f"{metrics.steps:,}"),
        ("return", _number(metrics.return_mean)),
        ("best", _number(metrics.return_best)),
        ("episode length", _number(metrics.episode_length)),
        ("actor loss", _number(metrics.actor_loss)),
        ("critic loss", _number(metrics.critic_loss)),
        ("gradient norm", _number(metrics.grad_norm)),
        ("steps/s", "-" if speed.steps_per_second is None else f"{speed.steps_per_second:,.0f}"),
        ("time left", "-" if left is None else str(datetime.timedelta(seconds=min(round(left), LONGEST)))),
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv, as texts by column; a row that a crash cut off is left out."""
    with open(path, newline="", encoding="utf-8") as file:
        lines = file.read().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    return [row for row in csv.DictReader(whole) if None not in row.values()]


def _truncate_csv(path: Path, epoch: int) -> None:
    """Leaves the header and the rows up to `epoch`; makes the file if there is none."""
    try:
        rows = [row for row in read_csv(path) if int(row["epoch"]) <= epoch] if path.exists() else []
    except (ValueError, KeyError, csv.Error) as error:
        raise UserError(f"{path} is damaged ({error}): move it away, and the run goes on with a new one") from error
    text = io.StringIO()
    writer = csv.DictWriter(text, Metrics._fields)
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(path, lambda file: file.write(text.getvalue().encode()))
