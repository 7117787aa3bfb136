"""Runs a plan by Snakemake: trainings side by side, drawings as soon as theirs are complete.

    python -m shac.figures.workflow ARGUMENTS OF SNAKEMAKE

is what `run` starts: Snakemake, which ends, and its trainings with it, when whoever started it is gone.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from shac.errors import UserError

SNAKEFILE = Path(__file__).with_name("Snakefile")


def require_engine() -> None:
    """Raises a UserError if Snakemake is not installed."""
    if importlib.util.find_spec("snakemake") is None:
        needs = "" if sys.version_info >= (3, 11) else " (and Python 3.11)"
        raise UserError(f'shac-figure needs snakemake{needs}: pip install "taichi-sim[figures]"')


def run(folder: Path, plan: Path, jobs: int, profile: str | None, redraw: bool) -> bool:
    """Trains and draws what a plan lacks.

    Ctrl-C and SIGTERM let the trainings end their epochs and save. A second one ends them at once, and they go on from
    their last checkpoints.

    Args:
      folder: of the runs.
      plan: the plan's file.
      jobs: trainings and drawings at the same time.
      profile: Snakemake's, for a cluster; None: this machine.
      redraw: draw also what is drawn.

    Returns:
      Whether all was done.

    Raises:
      KeyboardInterrupt: it was interrupted.
    """
    arguments = ["--snakefile", str(SNAKEFILE), "--directory", str(folder), "--configfile", str(plan)]
    # a lock that a killed process leaves would have to be lifted by hand; `locked` needs none
    arguments += [
        "--nolock",
        "--rerun-incomplete",
        "--rerun-triggers",
        "mtime",
        "--keep-going",
        "--scheduler",
        "greedy",
    ]
    arguments += ["--quiet", "all", "--workflow-profile", "none"]
    arguments += ["--jobs", str(jobs), "--profile", profile] if profile else ["--cores", str(jobs)]
    arguments += ["--forcerun", "draw"] if redraw else []
    command = [sys.executable, "-m", __name__, *arguments]
    # in a session of its own, so that the terminal's Ctrl-C reaches it once, through us
    process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    with _passing_on(process) as interrupted:
        status = process.wait()
    if interrupted.is_set():
        raise KeyboardInterrupt
    return status == 0


@contextlib.contextmanager
def _passing_on(process: subprocess.Popen) -> Iterator[threading.Event]:
    """Passes signals on to a process and all that it started: first as SIGINT, which saves, then as SIGKILL."""
    interrupted = threading.Event()

    def stop(number, frame):
        again = interrupted.is_set()
        interrupted.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL if again else signal.SIGINT)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def locked(path: Path, busy: str | None = None) -> Iterator[None]:
    """Holds a file's lock, which the system lifts however its holder ends.

    Args:
      path: the file; it is made if there is none, and stays.
      busy: what to raise a UserError with if another process holds it; None: wait.
    """
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if busy is None else fcntl.LOCK_NB))
        except BlockingIOError:
            raise UserError(busy) from None
        yield


def _end_when_orphaned() -> None:
    """Interrupts this process and all that it started when the other end of its standard input is closed."""
    # not by sys.stdin, whose lock this thread would hold when the process ends
    os.read(sys.stdin.fileno(), 1)
    os.killpg(0, signal.SIGINT)


def _main() -> None:
    from snakemake.cli import main

    # a shell's background jobs begin with SIGINT ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_when_orphaned, daemon=True).start()
    main(sys.argv[1:])


if __name__ == "__main__":
    _main()
