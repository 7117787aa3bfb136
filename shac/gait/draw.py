"""The picture of a gait: courses of a stride, right and left, the measured ones behind them."""

from __future__ import annotations

import textwrap

import numpy as np

from shac.figures.plot import pyplot
from shac.gait import normal
from shac.gait.legs import SIDES
from shac.gait.summary import ANGLES, MOMENTS, POWERS, REACTIONS, Gait

COLOURS = {"right": "#0072B2", "left": "#D55E00"}
_MEASURED = {"color": "0.72", "linewidth": 4, "solid_capstyle": "round", "zorder": 1}
TITLES = {
    "hip_flexion": "Hip flexion",
    "knee_flexion": "Knee flexion",
    "ankle_dorsiflexion": "Ankle dorsiflexion",
    "hip_moment": "Hip extension moment",
    "knee_moment": "Knee extension moment",
    "ankle_moment": "Ankle plantarflexion moment",
    "hip_power": "Hip power",
    "knee_power": "Knee power",
    "ankle_power": "Ankle power",
    "vertical_force": "Vertical ground reaction",
    "forward_force": "Fore-aft ground reaction",
}
# Inches.
_WIDTH, _ROW, _FOOT = 9.0, 1.75, 0.9


def figure(gait: Gait, title: str):
    """A figure of matplotlib's, with the figures of the whole in it and the sources under it.

    Raises:
      UserError: matplotlib is not installed.
    """
    plt = pyplot()
    blocks = [list(ANGLES), list(MOMENTS), list(POWERS), [*REACTIONS, None]]
    blocks += [gait.groups[k : k + 3] for k in range(0, len(gait.groups), 3)]
    picture = plt.figure(figsize=(_WIDTH, _ROW * len(blocks) + _FOOT))
    picture.suptitle(title, fontsize=11)
    grid = picture.add_gridspec(len(blocks), 3)
    for row, names in enumerate(blocks):
        for column, name in enumerate(names):
            axes = picture.add_subplot(grid[row, column])
            if name is None:
                _figures(axes, gait)
            else:
                _panel(axes, gait, name)
                if row == len(blocks) - 1:
                    axes.set_xlabel("stride [%], from foot strike")
    handles, labels = picture.axes[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=3, title=_caption())
    return picture


def _panel(axes, gait: Gait, name: str) -> None:
    percent, table = np.linspace(0, 100, gait.mean[name].shape[1]), normal.curves()
    if name in table:
        axes.plot(table["percent"], table[name], label="measured, normal walking", **_MEASURED)
    for leg, side in enumerate(SIDES):
        mean, std = gait.mean[name][leg], gait.std[name][leg]
        axes.fill_between(percent, mean - std, mean + std, color=COLOURS[side], alpha=0.2, linewidth=0)
        axes.plot(percent, mean, color=COLOURS[side], label=f"{side}: {gait.legs['strides'][leg]:.0f} strides")
        axes.axvline(gait.legs["stance_share"][leg], color=COLOURS[side], linewidth=0.8, linestyle=":")
    activation = name in gait.groups
    axes.set_title(f"{name} activation" if activation else TITLES[name], fontsize=7.5, loc="left")
    if not activation:
        axes.set_ylabel(gait.units[name], fontsize=7, labelpad=1)
    axes.set_xlim(0, 100)
    if activation:
        axes.set_ylim(0, 1)
    elif name not in ANGLES[1:2] + REACTIONS[:1]:
        axes.axhline(0, color="0.5", linewidth=0.5)
    if name in gait.comparison:
        right, left = (f"{r:.2f}" if np.isfinite(r) else "-" for r in gait.comparison[name][:, 0])
        axes.set_title(f"r {right}, {left}", fontsize=7, loc="right")


def _figures(axes, gait: Gait) -> None:
    """The figures of the whole, as text in place of a panel."""
    axes.axis("off")
    lines = [f"{label}  {text}" for label, text, _ in overview(gait)]
    axes.text(0, 1, "\n".join(lines), transform=axes.transAxes, va="top", fontsize=7.5, linespacing=1.35)


def overview(gait: Gait) -> list[tuple[str, str, str]]:
    """What is said of the whole: label, text, and the measured figure or nothing."""
    whole, people = gait.whole, normal.MEASURES
    lines = [
        ("speed", f"{whole['speed']:.2f} m/s", f"{people['speed']:.2f} m/s"),
        ("stride length", f"{whole['stride_length']:.2f} m", f"{people['stride_length']:.2f} m"),
        ("cadence", f"{whole['cadence']:.0f} steps/min", f"{people['cadence']:.0f} steps/min"),
        ("stance", f"{whole['stance_share']:.0f} % of a stride", f"{people['stance_share']:.0f} %"),
    ]
    if np.isfinite(whole["cost_of_transport"]):
        lines.append(("metabolic cost of transport", f"{whole['cost_of_transport']:.2f} J/kg/m", ""))
    lines += [
        ("mechanical cost (positive work)", f"{whole['mechanical_cost']:.2f} J/kg/m", ""),
        ("asymmetry", f"{whole['asymmetry']:.0f} %", ""),
        ("episodes that fall", f"{whole['fallen']:.0f} of {whole['episodes']:.0f}", ""),
    ]
    return lines


def _caption() -> str:
    text = (
        "Mean and standard deviation over strides. Dotted: foot off. r: correlation with the measured curve, right and "
        f"left. Grey: {normal.SOURCE}."
    )
    return "\n".join(textwrap.wrap(text, 150))
