"""What people do: measured curves of normal level walking, and where they are from."""

from __future__ import annotations

import functools
from importlib.resources import files

import numpy as np

SOURCE = (
    "one motion laboratory's reference, normal.gcd of NCH-Motion-Laboratory/gaitutils: means over the cycle; stride "
    "1.39 m, 1.18 m/s (its stride length times its 0.851 strides/s), foot off at 65.5 %"
)
# Its own figures, beside those of a policy.
MEASURES = {"speed": 1.181, "stride_length": 1.388, "cadence": 102.1, "stance_share": 65.5}


@functools.cache
def curves() -> dict[str, np.ndarray]:
    """Measured means by name, "percent" (51,) and for example "hip_flexion" (51,); units are those in normal.csv."""
    lines = (files("shac.gait") / "normal.csv").read_text(encoding="utf-8").splitlines()
    header, *rows = [line.split(",") for line in lines if not line.startswith("#")]
    return dict(zip(header, np.array(rows, float).T))


def compare(name: str, mean: np.ndarray) -> tuple[float, float] | None:
    """Correlation of a mean course (101,) with the measured one, and the root mean square of their difference.

    None if there is no measured one; the correlation is nan where one of them is constant.
    """
    table = curves()
    if name not in table:
        return None
    ours = np.interp(table["percent"], np.linspace(0, 100, len(mean)), mean)
    theirs = table[name]
    rms = float(np.sqrt(np.mean((ours - theirs) ** 2)))
    spread = ours.std() * theirs.std()
    r = float(np.mean((ours - ours.mean()) * (theirs - theirs.mean())) / spread) if spread > 0 else float("nan")
    return r, rms
