"""Taichi's worker threads, each on a core of its own."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

# Linux lists a process's threads here.
_THREADS = Path("/proc/self/task")


def running() -> set[int]:
    """This process' threads, as Linux numbers them; none elsewhere."""
    return {int(path.name) for path in _THREADS.iterdir()} if _THREADS.is_dir() else set()


def pin(started: set[int], number: int) -> None:
    """Ties Taichi's worker threads, the last of those that it started, to a core each.

    A launch wakes them all for a millisecond, too short for Linux to move one of two that woke up on the same core:
    whether there is any parallelism was luck (64 humanoids, two cores: 0.14 to 0.42 s for the same work, 0.21 to 0.27 s
    with pinned threads, 0.25 to 0.46 s with one thread).
    """
    cores = sorted(os.sched_getaffinity(0))
    if number < len(cores):
        # another process may want the same ones
        return
    for core, thread in zip(cores, sorted(started)[-len(cores) :]):
        # one that was not a worker may have ended
        with contextlib.suppress(OSError):
            os.sched_setaffinity(thread, {core})
