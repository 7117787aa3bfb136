"""Figure 6: how far SHAC's window reaches, on Ant."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shac.errors import UserError
from shac.figures import grid, means, plot
from shac.figures.figure import Budget, Figure, Run
from shac.runs import checkpoint
from shac.runs.evaluate import evaluate

MODEL = "ant"
PRESET_HORIZON = 32
EPISODES = {Budget.QUICK: 8, Budget.DEFAULT: 128, Budget.PAPER: 128}


class Figure6(Figure):
    number = 6
    title = "SHAC on Ant with horizons from 4 to 128 and as many steps an epoch"

    def runs(self, budget: Budget) -> list[Run]:
        return [run for horizon in grid.WORLDS_OF_HORIZON for run in self._seeds(horizon, budget)]

    def draw(self, runs: Path, out: Path, budget: Budget) -> None:
        by_horizon = {h: self._seeds(h, budget) for h in grid.WORLDS_OF_HORIZON}
        curves = {h: means.read_all(runs, several) for h, several in by_horizon.items()}
        rows = [
            (h, run.seed, _return_of_best(runs / run.name, EPISODES[budget]), *means.duration(runs / run.name))
            for h, several in by_horizon.items()
            for run in several
            if checkpoint.path_of(runs / run.name, "best").is_file()
        ]
        if not rows:
            raise UserError(f"none of figure 6's runs in {runs} has begun")
        header = ("horizon", "seed", "return_mean", "minutes", "steps")
        plot.write_csv(out / "data" / "fig06.csv", header, rows)
        _draw(curves, rows, out)

    def _seeds(self, horizon: int, budget: Budget) -> list[Run]:
        """The runs of one horizon; the preset's is that of other figures, too."""
        num = None if budget is Budget.PAPER else 3
        if horizon == PRESET_HORIZON:
            return grid.trainings(MODEL, "shac", budget, num=num)
        settings = {"horizon": horizon, "num_envs": grid.WORLDS_OF_HORIZON[horizon]}
        return grid.trainings(MODEL, "shac", budget, f"h{horizon}", num, **settings)


def _return_of_best(run_dir: Path, episodes: int) -> float:
    """The mean return of a run's best policy, without noise."""
    task, policy, config = checkpoint.load_run(run_dir, "best")
    divided = {"substeps": config.policy_substeps, "theta": config.theta}
    return evaluate(task, policy, episodes, device=config.device, **divided).returns.mean().item()


def _draw(curves: dict[int, list[means.Curve]], rows: list[tuple], out: Path) -> None:
    plt = plot.pyplot()
    figure, (learning, value, time) = plt.subplots(1, 3, figsize=(8.4, 2.6))
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(curves)))
    table = []
    for shade, (horizon, several) in zip(shades, curves.items()):
        mean = means.mean(several, "steps")
        if mean is None:
            continue
        learning.plot(1e-6 * mean.x, mean.mean, color=shade, label=f"h = {horizon}")
        learning.fill_between(1e-6 * mean.x, mean.mean - mean.std, mean.mean + mean.std, color=shade, alpha=0.15, lw=0)
        table += [(horizon, x.item(), y.item(), z.item(), mean.num) for x, y, z in zip(mean.x, mean.mean, mean.std)]
    plot.write_csv(out / "data" / "fig06_curves.csv", ("horizon", "steps", "return_mean", "return_std", "runs"), table)
    if table:
        figure.legend(fontsize=7, loc="outside left lower", handlelength=1)
    learning.set(xlabel="million steps", ylabel="return in training", title="learning curves")
    of_all = [curve for several in curves.values() for curve in several]
    _over_horizon(value, rows, 2, "return", "value of the best policy")
    _over_horizon(time, rows, 3, means.time_label(of_all), "time of the training")
    time.set_ylim(bottom=0)
    plot.save(figure, out / "fig06.png")


def _over_horizon(panel, rows: list[tuple], column: int, label: str, title: str) -> None:
    """Every seed's dot, and the mean and standard deviation over them."""
    horizons = sorted({row[0] for row in rows})
    values = [[row[column] for row in rows if row[0] == h] for h in horizons]
    for horizon, several in zip(horizons, values):
        panel.plot([horizon] * len(several), several, ".", color="0.6", ms=4)
    mean, std = [np.mean(x) for x in values], [np.std(x) for x in values]
    panel.errorbar(horizons, mean, std, color=plot.COLOURS["shac"], marker="o", ms=3, capsize=2)
    panel.set_xscale("log", base=2)
    panel.set_xticks(horizons, [str(h) for h in horizons])
    panel.set(xlabel="horizon h", ylabel=label, title=title)
