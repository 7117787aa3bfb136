"""Learning curves of runs, and their mean over seeds."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shac.errors import UserError
from shac.figures.figure import Run
from shac.runs.logger import read_csv

# Points of a mean's curve, in pictures and tables.
POINTS = 200


class Curve(NamedTuple):
    """A run's mean return of its last 100 training episodes (10 a world), from the first finished one on.

    | field | meaning | shape |
    |---|---|---|
    | run | its name | str |
    | steps | environment steps | (num,) |
    | minutes | time of the training [min] | (num,) |
    | returns | mean returns | (num,) |
    | on_core | whether that time is processor time, not wall-clock | bool |
    """

    run: str
    steps: np.ndarray
    minutes: np.ndarray
    returns: np.ndarray
    on_core: bool


class Mean(NamedTuple):
    """The mean of several runs' curves over what all of them have reached.

    | field | meaning | shape |
    |---|---|---|
    | x | steps, or minutes | (POINTS,) |
    | mean, std | of the runs' returns, interpolated; the deviation is that of the runs themselves | (POINTS,) |
    | num | number of runs | int |
    """

    x: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    num: int


def read(run_dir: Path) -> Curve:
    """The learning curve of the run in a folder, which may still be growing.

    Raises:
      UserError: it has no curve, or a damaged one.
    """
    rows = [row for row in _rows(run_dir) if row["return_mean"] is not None]
    time, on_core = _time(rows)
    steps, returns = (np.array([row[name] for row in rows]) for name in ("steps", "return_mean"))
    return Curve(run_dir.name, steps, np.array(time) / 60, returns, on_core)


def duration(run_dir: Path) -> tuple[float, int]:
    """Time [min], as `Curve` has it, and environment steps of a training so far.

    Raises:
      UserError: its metrics are missing or damaged.
    """
    rows = _rows(run_dir)
    time, _ = _time(rows)
    return (time[-1] / 60, int(rows[-1]["steps"])) if rows else (0.0, 0)


def read_all(runs: Path, wanted: Sequence[Run]) -> list[Curve]:
    """The curves of the runs that have begun and finished an episode."""
    curves = [read(runs / run.name) for run in wanted if (runs / run.name / "metrics.csv").exists()]
    return [curve for curve in curves if len(curve.steps)]


def mean(curves: Sequence[Curve], axis: str, log: bool = False, limit: float | None = None) -> Mean | None:
    """The mean over seeds.

    Args:
      curves: of the runs.
      axis: "steps" or "minutes".
      log: let the points lie as densely on a logarithmic axis, rather than on a linear one.
      limit: where the mean ends if the curves do not end before.

    Returns:
      The mean, from where the last of the curves begins to where the first one ends; None if that is nowhere.
    """
    xs = [getattr(curve, axis) for curve in curves]
    if not xs:
        return None
    begin, end = max(x[0] for x in xs), min(x[-1] for x in xs)
    end = end if limit is None else min(end, limit)
    if begin > end:
        return None
    x = (np.geomspace if log and begin > 0 else np.linspace)(begin, end, POINTS)
    # rounding must not lead beyond the ends, where a curve would be continued as a constant
    x = x.clip(begin, end)
    values = np.stack([np.interp(x, own, curve.returns) for own, curve in zip(xs, curves)])
    return Mean(x, values.mean(0), values.std(0), len(curves))


def _rows(run_dir: Path) -> list[dict[str, float | None]]:
    """What curves need of the rows of a run's metrics; None where a field is empty or missing."""
    path = run_dir / "metrics.csv"
    names = ("steps", "seconds", "cpu_seconds", "return_mean")
    try:
        rows = [
            {x: float(row[x]) if row.get(x) not in (None, "", "nan") else None for x in names} for row in read_csv(path)
        ]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} is damaged ({error}): move {run_dir} away, and it is trained anew") from error
    if any(row["steps"] is None for row in rows) or None in _time(rows)[0]:
        raise UserError(f"{path} lacks steps or seconds: move {run_dir} away, and it is trained anew")
    return rows


def _time(rows: list[dict[str, float | None]]) -> tuple[list[float], bool]:
    """Seconds of the training by row, and whether they are processor time."""
    on_core = bool(rows) and all(row["cpu_seconds"] is not None for row in rows)
    return [row["cpu_seconds" if on_core else "seconds"] for row in rows], on_core


def time_label(curves: Sequence[Curve]) -> str:
    """What the axis of time is called."""
    return "core time [min]" if all(curve.on_core for curve in curves) else "wall-clock [min]"
