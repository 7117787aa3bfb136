"""What a gait is written to: a picture, a page that holds its pictures, a table of courses."""

from __future__ import annotations

import base64
import html
import io
import os
from pathlib import Path

import numpy as np

from shac.errors import UserError
from shac.figures.plot import pyplot, write_csv
from shac.film.film import check_place, temporary
from shac.gait import draw, normal
from shac.gait.legs import SIDES
from shac.gait.summary import Gait, asymmetry
from shac.runs.checkpoint import atomic_write

FORMATS = (".html", ".png", ".pdf")
_DPI = 150
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
img{width:100%;height:auto}table{border-collapse:collapse;margin:.5rem 0 1.5rem}
td,th{padding:.2rem .9rem .2rem 0;text-align:right;border-bottom:1px solid #ddd;font-variant-numeric:tabular-nums}
td:first-child,th:first-child{text-align:left}h1{font-size:1.5rem}h2{font-size:1.15rem;margin-bottom:0}
p.note{color:#555;font-size:.9rem}"""
_LEG_LABELS = {
    "strides": ("strides", "{:.0f}"),
    "stride_time": ("stride time [s]", "{:.3f}"),
    "stride_length": ("stride length [m]", "{:.3f}"),
    "stance_share": ("stance [% of a stride]", "{:.1f}"),
    "hip_range": ("range of the hip [deg]", "{:.0f}"),
    "knee_range": ("range of the knee [deg]", "{:.0f}"),
    "ankle_range": ("range of the ankle [deg]", "{:.0f}"),
    "peak_force": ("peak vertical force [body weights]", "{:.2f}"),
}


def check_output(path: Path) -> None:
    """Refuses what cannot be written, before any time is spent on it.

    Raises:
      UserError: an unknown format, a folder that is missing or read-only, or matplotlib is not installed.
    """
    if path.suffix not in FORMATS:
        raise UserError(f"{path}: unknown format {path.suffix!r}; --out must end in {', '.join(FORMATS)}")
    check_place(path)
    pyplot()


def write(path: Path, gait: Gait, title: str) -> None:
    """Writes the picture or the page; the file appears when it is whole."""
    picture = draw.figure(gait, title)
    try:
        if path.suffix == ".html":
            drawn = io.BytesIO()
            picture.savefig(drawn, format="png", dpi=_DPI)
            text = _page(gait, title, drawn.getvalue())
            atomic_write(path, lambda file: file.write(text.encode()))
        else:
            with temporary(path) as name:
                picture.savefig(name, dpi=_DPI)
                os.replace(name, path)
    finally:
        pyplot().close(picture)


def write_courses(path: Path, gait: Gait) -> None:
    """Writes the courses: a line per percent, and of each course a column per leg of means and one of spreads."""
    header, columns = ["percent"], [np.arange(len(next(iter(gait.mean.values()))[0]))]
    for name in gait.mean:
        for leg, side in enumerate(SIDES):
            label = f"{side}_{name.replace(' ', '_')}"
            header += [f"{label}_mean", f"{label}_sd"]
            columns += [gait.mean[name][leg], gait.std[name][leg]]
    write_csv(path, header, [[int(row[0]), *map(float, row[1:])] for row in zip(*columns)])


def _page(gait: Gait, title: str, picture: bytes) -> str:
    legs = [
        (
            label,
            *(_number(x, form) for x in gait.legs[name]),
            "" if name == "strides" else f"{asymmetry(gait.legs[name]):.0f} %",
        )
        for name, (label, form) in _LEG_LABELS.items()
    ]
    compared = [
        (f"{draw.TITLES[name]} [{gait.units[name]}]", *(_number(x, "{:.2f}") for x in values.T.ravel()))
        for name, values in gait.comparison.items()
    ]
    source = base64.b64encode(picture).decode()
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>
<h1>{html.escape(title)}</h1>
<h2>The whole</h2>
{_table(("", "this policy", "people"), draw.overview(gait))}
<h2>Courses of a stride</h2>
<img alt="Angles, moments, powers, ground reactions and activations over a stride" src="data:image/png;base64,{source}">
<h2>The legs</h2>
{_table(("", "right", "left", "asymmetry"), legs)}
<h2>Beside people</h2>
{_table(("", "r, right", "r, left", "rms difference, right", "left"), compared)}
<p class="note">Measured: {html.escape(normal.SOURCE)}. The hip's angle there is relative to a pelvis tilted forward by
8 to 11 degrees; here it is 0 as the body stands. Moments are internal and net: extending ones are positive.
Correlations are over the cycle, from the foot's contact on, without a shift. docs/walking.md says how all is
computed.</p>
</body></html>
"""


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    def line(cells, tag):
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + "\n".join([line(header, "th"), *(line(row, "td") for row in rows)]) + "</table>"


def _number(value: float, form: str) -> str:
    return form.format(value) if np.isfinite(value) else "-"
