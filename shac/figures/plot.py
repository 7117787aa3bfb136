"""How all pictures look, and how they and their numbers are written."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from shac.errors import UserError
from shac.film.film import temporary
from shac.runs.checkpoint import atomic_write

# Okabe and Ito's colours, which those who see few colours tell apart, too.
COLOURS = {
    "shac": "#0072B2",
    "published": "#56B4E9",
    "bptt": "#D55E00",
    "ppo": "#009E73",
    "sac": "#CC79A7",
    "redq": "#E69F00",
    "mbpo": "#000000",
    "variant": "#D55E00",
}
LABELS = {"shac": "SHAC", "bptt": "BPTT", "ppo": "PPO", "sac": "SAC", "redq": "REDQ", "mbpo": "MBPO"}
# Inches: of a panel in a row of several.
PANEL = (2.6, 2.3)
DPI = 130
_STYLE = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


def pyplot():
    """matplotlib's pyplot, without a display and in the figures' style.

    Raises:
      UserError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise UserError('figures need matplotlib: pip install "taichi-sim[figures]"') from None
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update(_STYLE)
    return plt


def save(figure, path: Path) -> None:
    """Writes a figure of matplotlib's as a png, which appears when it is whole, and closes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary(path) as name:
        figure.savefig(name, dpi=DPI)
        os.replace(name, path)
    pyplot().close(figure)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table: numbers with six digits, None as an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([f"{x:.6g}" if isinstance(x, float) else "" if x is None else x for x in row])
    atomic_write(path, lambda file: file.write(text.getvalue().encode()))
