"""Figure 13: the actor's loss over two random directions in its parameters."""

from __future__ import annotations

from pathlib import Path

import torch

from shac import seeding
from shac.figures.figure import Budget, Figure, Run
from shac.figures.losses import snapshots
from shac.figures.losses.directions import filter_normalised
from shac.figures.losses.variants import Fineness, Landscape
from shac.figures.plot import LABELS, PANEL, pyplot, save, write_csv

MODELS = {"humanoid": "Humanoid", "ant": "Ant"}
# The weights move by this times their norm, to each side.
REACH = 1.0
CONTOURS = 14
# A map from dark to light that the colour-blind read the same way.
COLOURS = "viridis"
GRIDS = {
    Budget.QUICK: Fineness(11, 8, 200),
    Budget.DEFAULT: Fineness(41, 32, 1000),
    Budget.PAPER: Fineness(61, 128, 1000),
}


class Surfaces(Figure):
    """Figure 13: BPTT's loss surface beside SHAC's, for Humanoid and Ant."""

    number = 13
    title = "Loss surfaces along two random, filter-normalised directions: BPTT beside SHAC, Humanoid and Ant"

    def runs(self, budget: Budget) -> list[Run]:
        return [snapshots.snapshot_run(model, budget) for model in MODELS]

    def draw(self, runs: Path, out: Path, budget: Budget) -> None:
        grid = GRIDS[budget]
        drawn = [(model, *surfaces) for model in MODELS for surfaces in _measure(runs, out, model, grid)]
        plt = pyplot()
        figure = plt.figure(figsize=(3 * PANEL[0], 2 * PANEL[1]))
        for column, (model, algo, horizon, along, losses) in enumerate(drawn):
            x, y = torch.meshgrid(along, along, indexing="ij")
            surface = figure.add_subplot(2, len(drawn), column + 1, projection="3d")
            surface.plot_surface(x, y, losses, cmap=COLOURS, rcount=len(along), ccount=len(along), lw=0)
            surface.set_title(f"{MODELS[model]}, {LABELS[algo]},\n{horizon:,} steps", fontsize=9)
            surface.tick_params(pad=-3, labelsize=6)
            surface.locator_params(nbins=3)
            surface.set_box_aspect(None, zoom=1.15)
            contour = figure.add_subplot(2, len(drawn), len(drawn) + column + 1)
            filled = contour.contourf(x, y, losses, levels=CONTOURS, cmap=COLOURS)
            contour.contour(x, y, losses, levels=CONTOURS, colors="black", linewidths=0.3, linestyles="solid")
            contour.plot(0, 0, "+", color="white", ms=6)
            contour.grid(False)
            contour.set(xlabel="1st direction", aspect="equal", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
            if column == 0:
                contour.set_ylabel("2nd direction")
            bar = figure.colorbar(filled, ax=contour, location="bottom", label="loss [-reward per step]")
            bar.locator = plt.MaxNLocator(3)
            bar.ax.tick_params(labelsize=7)
        save(figure, out / "fig13.png")


def _measure(runs: Path, out: Path, model: str, grid: Fineness):
    """Yields (algorithm, horizon, coordinates, losses) of a model's two surfaces and writes their numbers."""
    run_dir = runs / snapshots.snapshot_run(model, Budget.DEFAULT).name
    epoch = snapshots.middle(run_dir)
    learner = snapshots.load(run_dir, epoch)
    generator = seeding.generator(learner.config.seed, "figures")
    directions = [filter_normalised(learner.actor, generator) for _ in range(2)]
    along = torch.linspace(-REACH, REACH, grid.points, dtype=torch.float64)
    points = torch.cartesian_prod(along, along)
    landscape = Landscape(learner, grid.trajectories)
    horizons = {"bptt": grid.horizon, "shac": learner.config.horizon}
    losses = {
        algo: landscape.losses(directions, points, horizon, critic=algo == "shac").double().cpu()
        for algo, horizon in horizons.items()
    }
    write_csv(
        out / "data" / f"fig13_{model}.csv",
        ("first", "second", *(f"loss_{algo}" for algo in losses)),
        zip(*points.T.tolist(), *(loss.tolist() for loss in losses.values())),
    )
    facts = {"run": run_dir.name, "epoch": epoch, "trajectories": grid.trajectories}
    facts |= {f"{LABELS[algo]}'s horizon": horizon for algo, horizon in horizons.items()}
    write_csv(out / "data" / f"fig13_{model}_facts.csv", ("name", "value"), facts.items())
    for algo, loss in losses.items():
        yield algo, horizons[algo], along, loss.view(grid.points, grid.points)
