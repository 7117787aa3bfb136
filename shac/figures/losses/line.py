"""Figures 2 and 11: the actor's loss along one of its weights."""

from __future__ import annotations

from pathlib import Path

import torch

from shac import seeding
from shac.figures.figure import Budget, Figure, Run
from shac.figures.losses import snapshots
from shac.figures.losses.directions import one_weight
from shac.figures.losses.variants import Fineness, Landscape
from shac.figures.plot import COLOURS, LABELS, PANEL, pyplot, save, write_csv

MODEL = "humanoid"
# The weight is moved by this much to each side.
REACH = 1.0
LOSS_LABEL = "loss [-reward per step]"
LINES = {
    Budget.QUICK: Fineness(21, 32, 200),
    Budget.DEFAULT: Fineness(201, 128, 1000),
    Budget.PAPER: Fineness(201, 128, 1000),
}


class OneWeight:
    """The loss around the Humanoid policy of the middle of a training, along a weight drawn by the run's seed.

    | attribute | meaning |
    |---|---|
    | offsets | by which the weight is moved, (points,) float64 |
    | facts | what was measured, name -> value |
    """

    def __init__(self, runs: Path, line: Fineness):
        run_dir = runs / snapshots.snapshot_run(MODEL, Budget.DEFAULT).name
        epoch = snapshots.middle(run_dir)
        learner = snapshots.load(run_dir, epoch)
        name, direction = one_weight(learner.actor, seeding.generator(learner.config.seed, "figures"))
        self.line, self.horizon = line, learner.config.horizon
        self.offsets = torch.linspace(-REACH, REACH, line.points, dtype=torch.float64)
        self._landscape = Landscape(learner, line.trajectories)
        self._directions = [direction]
        self.facts = {
            "run": run_dir.name,
            "epoch": epoch,
            "weight": name,
            "weight's value": _value(learner.actor, direction),
            "trajectories": line.trajectories,
            "SHAC's horizon": self.horizon,
        }

    def losses(self, horizon: int, *, critic: bool) -> torch.Tensor:
        """The loss at the offsets, (points,)."""
        points = self.offsets.unsqueeze(1)
        return self._landscape.losses(self._directions, points, horizon, critic=critic).double().cpu()

    def slopes(self, horizon: int, *, critic: bool) -> torch.Tensor:
        """Its analytic derivative with respect to the weight at the offsets, (points,)."""
        points = self.offsets.unsqueeze(1)
        return self._landscape.gradients(self._directions, points, horizon, critic=critic)[:, 0].double().cpu()


class OneWeightLosses(Figure):
    """Figure 2: BPTT's loss beside SHAC's, one weight of a policy moved."""

    number = 2
    title = "The loss along one weight of a Humanoid policy: BPTT through a whole episode, SHAC through a short window"

    def runs(self, budget: Budget) -> list[Run]:
        return [snapshots.snapshot_run(MODEL, budget)]

    def draw(self, runs: Path, out: Path, budget: Budget) -> None:
        measured = OneWeight(runs, LINES[budget])
        horizons = {"bptt": measured.line.horizon, "shac": measured.horizon}
        losses = {algo: measured.losses(h, critic=algo == "shac") for algo, h in horizons.items()}
        write_csv(
            out / "data" / "fig02.csv",
            ("offset", *(f"loss_{algo}" for algo in losses)),
            zip(measured.offsets.tolist(), *(loss.tolist() for loss in losses.values())),
        )
        write_csv(
            out / "data" / "fig02_facts.csv",
            ("name", "value"),
            {**measured.facts, "BPTT's horizon": measured.line.horizon}.items(),
        )

        plt = pyplot()
        figure, axes = plt.subplots(1, 2, figsize=(3 * PANEL[0], PANEL[1]))
        for ax, (algo, loss) in zip(axes, losses.items()):
            ax.plot(measured.offsets, loss, color=COLOURS[algo], lw=1.1)
            ax.set(
                title=f"{LABELS[algo]}, {_steps(algo, horizons[algo])}", xlabel=_axis(measured), xlim=(-REACH, REACH)
            )
        axes[0].set_ylabel(LOSS_LABEL)
        save(figure, out / "fig02.png")


class OneWeightGradient(Figure):
    """Figure 11: SHAC's loss along one weight, and its analytic gradient beside the curve's own slope."""

    number = 11
    title = "SHAC's loss along one weight of a Humanoid policy, and its analytic gradient beside central differences"

    def runs(self, budget: Budget) -> list[Run]:
        return [snapshots.snapshot_run(MODEL, budget)]

    def draw(self, runs: Path, out: Path, budget: Budget) -> None:
        measured = OneWeight(runs, LINES[budget])
        losses = measured.losses(measured.horizon, critic=True)
        analytic = measured.slopes(measured.horizon, critic=True)
        inner = measured.offsets[1:-1]
        differences = central_differences(measured.offsets, losses)
        agreement = compare(analytic[1:-1], differences)
        padded = [None, *differences.tolist(), None]
        write_csv(
            out / "data" / "fig11.csv",
            ("offset", "loss", "analytic_gradient", "central_difference"),
            zip(measured.offsets.tolist(), losses.tolist(), analytic.tolist(), padded),
        )
        write_csv(out / "data" / "fig11_facts.csv", ("name", "value"), {**measured.facts, **agreement}.items())
        print("figure 11:", ", ".join(f"{name} {value:.4g}" for name, value in agreement.items()))

        plt = pyplot()
        figure, (above, beside) = plt.subplots(1, 2, figsize=(3 * PANEL[0], PANEL[1]))
        above.plot(measured.offsets, losses, color=COLOURS["shac"], lw=1.1)
        above.set(title=f"loss, {_steps('shac', measured.horizon)}", ylabel=LOSS_LABEL)
        beside.plot(inner, differences, color="black", lw=0.8, label="central differences of the loss")
        beside.plot(measured.offsets, analytic, color=COLOURS["shac"], lw=1.6, ls=(0, (4, 2)), label="analytic")
        beside.set(title=f"gradient, correlation {agreement['correlation']:.3f}", ylabel="derivative of the loss")
        beside.legend()
        for ax in (above, beside):
            ax.set(xlabel=_axis(measured), xlim=(-REACH, REACH))
        save(figure, out / "fig11.png")


def central_differences(offsets: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
    """Slopes (points - 2,) of a curve at all of its points (points,) but the two ends."""
    return (losses[2:] - losses[:-2]) / (offsets[2:] - offsets[:-2])


def compare(gradient: torch.Tensor, differences: torch.Tensor) -> dict[str, float]:
    """The correlation of two series (n,), and the root mean square of the first over that of the second."""
    return {
        "correlation": torch.corrcoef(torch.stack((gradient, differences)))[0, 1].item(),
        "ratio of root mean squares": (gradient.square().mean() / differences.square().mean()).sqrt().item(),
    }


def _value(actor, direction) -> float:
    """The value of the weight that a direction moves."""
    ((name, entries),) = direction.items()
    return (actor.get_parameter(name) * entries).sum().item()


def _steps(algo: str, horizon: int) -> str:
    return f"H = {horizon:,} steps" if algo == "bptt" else f"h = {horizon} steps"


def _axis(measured: OneWeight) -> str:
    return f"offset of the weight {measured.facts['weight']}"
