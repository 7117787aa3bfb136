"""Figures 4 and 7 to 10: learning curves over steps and over time."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from shac.errors import UserError
from shac.figures import grid, means, plot
from shac.figures.figure import Budget, Figure, Run
from shac.figures.grid import MAIN_MODELS, MODELS, TITLES, trainings
from shac.models import load_task
from shac.runs.config import resolve

AXES = ("steps", "minutes")
# Algorithms beside SHAC in figures 4 and 7.
OTHERS = "bptt", "ppo", "sac"
HEADER = ("curve", "axis", "x", "return_mean", "return_std", "runs")
# Of every run: where it has come to, and its best, means of a hundred episodes as everywhere.
ENDS = ("model", "curve", "run", "steps", "minutes", "last_return", "best_return")
# How much longer another algorithm takes to its own best return than SHAC takes to it.
RATIO = ("model", "curve", "axis", "best_return", "at", "shac_at", "ratio")


class Line(NamedTuple):
    """One curve of a panel.

    | field | meaning |
    |---|---|
    | label | its name in the legend and the table |
    | colour | key of `plot.COLOURS` |
    | runs | the seeds that it is the mean of |
    | dashed | whether it is drawn dashed |
    """

    label: str
    colour: str
    runs: list[Run]
    dashed: bool = False


class Curves(Figure):
    """A column for each problem, a row for each axis, a line for each algorithm or variant; the first one is SHAC's.

    | attribute | meaning |
    |---|---|
    | models | the problems |
    | axes | "steps", "minutes" or both |
    | log | axes with a logarithmic scale |
    | rivals | labels of the lines that SHAC's is to be compared with, in figNN_ratio.csv |
    """

    models: ClassVar[tuple[str, ...]] = MODELS
    axes: ClassVar[tuple[str, ...]] = AXES
    log: ClassVar[tuple[str, ...]] = ()
    rivals: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def lines(self, model: str, budget: Budget) -> list[Line]:
        """The curves of a problem's panels."""

    def runs(self, budget: Budget) -> list[Run]:
        return [run for model in self.models for line in self.lines(model, budget) for run in line.runs]

    def draw(self, runs: Path, out: Path, budget: Budget) -> None:
        plt = plot.pyplot()
        size = plot.PANEL[0] * len(self.models), plot.PANEL[1] * len(self.axes) + 0.3
        figure, panels = plt.subplots(len(self.axes), len(self.models), figsize=size, squeeze=False)
        handles: dict[str, object] = {}
        ends, ratios = [], []
        for column, model in enumerate(self.models):
            lines = self.lines(model, budget)
            curves = {line.label: means.read_all(runs, line.runs) for line in lines}
            ends += [(model, label, *_end(curve)) for label, several in curves.items() for curve in several]
            table = []
            for row, axis in enumerate(self.axes):
                panel = panels[row, column]
                drawn = self.means(model, axis, curves)
                for line in lines:
                    if line.label in drawn:
                        handles.setdefault(line.label, _draw(panel, line, drawn[line.label], axis))
                        table += _rows(line.label, axis, drawn[line.label])
                _frame(panel, axis, axis in self.log, drawn, [c for several in curves.values() for c in several])
                self.annotate(panel, axis, drawn)
                ratios += [(model, label, axis, *against(drawn, label)) for label in self.rivals if label in drawn]
            panels[0, column].set_title(TITLES[model])
            plot.write_csv(out / "data" / f"fig{self.number:02d}_{model}.csv", HEADER, table)
        if not handles:
            raise UserError(f"none of figure {self.number}'s runs in {runs} has finished an episode")
        for row in panels:
            row[0].set_ylabel("return")
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
        plot.save(figure, out / f"fig{self.number:02d}.png")
        plot.write_csv(out / "data" / f"fig{self.number:02d}_ends.csv", ENDS, ends)
        if self.rivals:
            plot.write_csv(out / "data" / f"fig{self.number:02d}_ratio.csv", RATIO, ratios)

    def means(self, model: str, axis: str, curves: dict[str, list[means.Curve]]) -> dict[str, means.Mean]:
        """A panel's curves by label: those that have begun."""
        log, first = axis in self.log, next(iter(curves))
        shac = means.mean(curves[first], axis, log)
        end = None if shac is None or not self.ends_with_shac(model) else shac.x[-1].item()
        others = {label: means.mean(several, axis, log, end) for label, several in curves.items() if label != first}
        return {label: mean for label, mean in {first: shac, **others}.items() if mean is not None}

    def ends_with_shac(self, model: str) -> bool:
        """Whether a problem's panels end where SHAC's training does; default: no, all is shown."""
        return False

    def annotate(self, panel, axis: str, drawn: dict[str, means.Mean]) -> None:
        """Adds what else a panel has; default: nothing."""


class Comparison(Curves):
    """SHAC, also as published, beside BPTT, PPO and SAC."""

    def lines(self, model: str, budget: Budget) -> list[Line]:
        shac = Line("SHAC", "shac", trainings(model, "shac", budget))
        published = Line("SHAC with the paper's settings", "published", grid.published(model, budget), dashed=True)
        others = [Line(plot.LABELS[x], x, self.of(model, x, budget)) for x in OTHERS]
        return [shac, published, *others]

    @abc.abstractmethod
    def of(self, model: str, algo: str, budget: Budget) -> list[Run]:
        """The runs of another algorithm."""


class Figure4(Comparison):
    number = 4
    title = "Learning curves on four problems, as far as SHAC's training goes"
    models = MAIN_MODELS

    def of(self, model: str, algo: str, budget: Budget) -> list[Run]:
        return trainings(model, algo, budget)

    def ends_with_shac(self, model: str) -> bool:
        # the paper shows the others' whole curves for the muscles alone
        return model != "humanoid_mtu"


class Figure7(Comparison):
    number = 7
    title = "Whole learning curves on all six problems"
    # the others take many times SHAC's steps in the same time
    log = ("steps",)
    rivals = tuple(plot.LABELS[x] for x in OTHERS)

    def of(self, model: str, algo: str, budget: Budget) -> list[Run]:
        return grid.long_runs(model, algo, budget)


class Figure8(Curves):
    number = 8
    title = "SHAC with Humanoid's networks and learning rates on all problems"
    models = tuple(model for model in MODELS if model != "humanoid")
    axes = ("steps",)

    def lines(self, model: str, budget: Budget) -> list[Line]:
        humanoid = resolve(load_task("humanoid"), "shac")
        common = {name: getattr(humanoid, name) for name in grid.COMMON_FIELDS}
        return [
            Line("SHAC, tuned for the problem", "shac", trainings(model, "shac", budget, num=_few(budget))),
            Line(
                "SHAC with Humanoid's networks and rates",
                "variant",
                trainings(model, "shac", budget, "common", _few(budget), **common),
            ),
        ]


class Figure9(Curves):
    number = 9
    title = "SHAC with a deterministic policy"
    axes = ("steps",)

    def lines(self, model: str, budget: Budget) -> list[Line]:
        deterministic = trainings(model, "shac", budget, "deterministic", _few(budget), actor="deterministic")
        return [
            Line("SHAC, stochastic policy", "shac", trainings(model, "shac", budget, num=_few(budget))),
            Line("SHAC, deterministic policy", "variant", deterministic),
        ]


class Figure10(Curves):
    number = 10
    title = "REDQ and MBPO beside SHAC"
    models = ("cartpole", "hopper", "ant", "humanoid", "humanoid_mtu")
    # they take a hundredth of SHAC's steps, each of which takes them a hundred times as long
    log = AXES
    rivals = tuple(plot.LABELS[x] for x in grid.OFF_POLICY)

    def lines(self, model: str, budget: Budget) -> list[Line]:
        others = [Line(plot.LABELS[x], x, grid.off_policy(model, x, budget)) for x in grid.OFF_POLICY]
        return [Line("SHAC", "shac", trainings(model, "shac", budget)), *others]

    def annotate(self, panel, axis: str, drawn: dict[str, means.Mean]) -> None:
        if axis != "minutes" or not {"SHAC", "REDQ"} <= drawn.keys():
            return
        level, _, fast, ratio = against(drawn, "REDQ")
        faster = "SHAC never" if fast is None else f"SHAC {ratio:,.{0 if ratio >= 10 else 1}f} times as fast"
        panel.axhline(level, color=plot.COLOURS["redq"], lw=0.8, ls=":")
        panel.set_title(f"REDQ's best: {faster}", fontsize=8)


def against(drawn: dict[str, means.Mean], label: str) -> tuple[float, float, float | None, float | None]:
    """A rival's best return, where it has it, where SHAC has it, and their ratio, on a panel with SHAC and the rival.

    None: SHAC has not yet begun, or never has it.
    """
    rival = drawn[label]
    best = int(np.argmax(rival.mean))
    level, slow = rival.mean[best].item(), rival.x[best].item()
    fast = reached(drawn["SHAC"], level) if "SHAC" in drawn else None
    return level, slow, fast, None if fast is None else slow / fast


def reached(mean: means.Mean, level: float) -> float | None:
    """Where a curve first has the value `level`, between its points linearly; None if it never has."""
    above = np.nonzero(mean.mean >= level)[0]
    if len(above) == 0:
        return None
    first = above[0]
    if first == 0:
        return mean.x[0].item()
    pair = slice(first - 1, first + 1)
    return np.interp(level, mean.mean[pair], mean.x[pair]).item()


def _few(budget: Budget) -> int | None:
    """Seeds of what is beside a variant of SHAC: as many as the variant has."""
    return None if budget is Budget.PAPER else 3


def _draw(panel, line: Line, mean: means.Mean, axis: str):
    scale = 1e-6 if axis == "steps" else 1.0
    colour = plot.COLOURS[line.colour]
    (drawn,) = panel.plot(scale * mean.x, mean.mean, color=colour, ls="--" if line.dashed else "-")
    panel.fill_between(scale * mean.x, mean.mean - mean.std, mean.mean + mean.std, color=colour, alpha=0.2, lw=0)
    return drawn


def _end(curve: means.Curve):
    last = curve.steps[-1], curve.minutes[-1], curve.returns[-1], curve.returns.max()
    return curve.run, *(x.item() for x in last)


def _rows(label: str, axis: str, mean: means.Mean):
    name = "steps" if axis == "steps" else "minutes"
    return [
        (label, name, x.item(), value.item(), std.item(), mean.num)
        for x, value, std in zip(mean.x, mean.mean, mean.std)
    ]


def _few_labels(panel) -> None:
    """Of a logarithmic axis: powers of ten, or on a short one 1, 2 and 5, since others write over each other."""
    # a figure may be asked what it takes where nothing can draw
    from matplotlib import ticker

    low, high = panel.get_xlim()
    panel.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0,) if high > 20 * low else (1.0, 2.0, 5.0)))
    panel.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    panel.xaxis.set_minor_formatter(ticker.NullFormatter())


def _frame(panel, axis: str, log: bool, drawn: dict[str, means.Mean], curves: list[means.Curve]) -> None:
    panel.set_xlabel("million steps" if axis == "steps" else means.time_label(curves))
    if log:
        panel.set_xscale("log")
        _few_labels(panel)
    else:
        panel.set_xlim(left=0)
    if not drawn:
        return
    # an algorithm whose policy only falls, deeper and deeper, must not press the others to the upper edge
    first = next(iter(drawn.values()))
    low, high = (first.mean - first.std).min(), max((x.mean + x.std).max() for x in drawn.values())
    lowest = min((x.mean - x.std).min() for x in drawn.values())
    bottom = max(lowest, low - 0.4 * max(high - low, abs(high)))
    margin = 0.05 * (high - bottom) or 1.0
    panel.set_ylim(bottom - margin, high + margin)
