"""Run folders that nobody trained, with curves that can be computed by hand."""

from collections.abc import Callable, Sequence
from pathlib import Path


def run(
    folder: Path,
    steps: Sequence[float],
    returns: Callable[[float], float],
    *,
    minutes_per_step: float = 1e-3,
    cpu: bool = True,
    complete: bool = True,
) -> None:
    """A run folder whose return is a function of the steps, and whose time grows with them; wall-clock is twice it."""
    folder.mkdir(parents=True)
    columns = ["epoch", "steps", "seconds", *(["cpu_seconds"] if cpu else []), "return_mean"]
    # before the first finished episode there is no return
    lines = [",".join(columns), "0" + ",0" * (len(columns) - 2) + ","]
    for epoch, x in enumerate(steps, 1):
        seconds = 60 * minutes_per_step * x
        lines.append(",".join(map(str, (epoch, x, 2 * seconds, *([seconds] if cpu else []), returns(x)))))
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    if complete:
        (folder / "complete").touch()
