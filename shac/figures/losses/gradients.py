"""Figure 12: the entries of the actor's gradient in a training, through a whole episode and through a window.

Beside it, why they grow or do not: how far an action reaches.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import torch

from shac import seeding
from shac.algos.shac import SHAC
from shac.algos.sizes import require_window
from shac.algos.window import Window, actor_loss, rollout
from shac.figures.figure import Budget, Figure, Run
from shac.figures.losses import snapshots
from shac.figures.plot import COLOURS, LABELS, PANEL, pyplot, save, write_csv

MODEL = "humanoid"
# BPTT's window [control steps].
HORIZONS = {Budget.QUICK: 100, Budget.DEFAULT: 1000, Budget.PAPER: 1000}
# Of BPTT's window: after so many parts of it an action is asked how far it reaches.
REACHES = (0.001, 0.032, 0.1, 0.2, 0.4, 0.7)
# Of a histogram [decades]; the axis leaves out this fraction of all entries, the smallest: the first bin holds them.
BIN = 0.25
TAIL = 1e-3


class GradientValues(Figure):
    """Figure 12: histograms of the gradient's entries at six epochs of a training.

    Both gradients are of the mean loss of all worlds of the training, from the states in which the epoch left them.
    """

    number = 12
    title = "The actor's gradient entries in the course of a Humanoid training: BPTT's grow, SHAC's stay"

    def runs(self, budget: Budget) -> list[Run]:
        return [snapshots.snapshot_run(MODEL, budget)]

    def draw(self, runs: Path, out: Path, budget: Budget) -> None:
        run_dir = runs / snapshots.snapshot_run(MODEL, budget).name
        epochs = snapshots.epochs(run_dir)
        horizon = HORIZONS[budget]
        reaches = sorted({max(1, round(part * horizon)) for part in REACHES})
        entries: dict[str, list[torch.Tensor]] = {"bptt": [], "shac": []}
        reached = []
        for epoch in epochs:
            learner = snapshots.load(run_dir, epoch)
            window = window_from(learner, horizon)
            reached += [(epoch, *row) for row in reach(window, reaches)]
            entries["bptt"].append(gradient_entries(learner, window, critic=False))
            window = window_from(learner, learner.config.horizon)
            entries["shac"].append(gradient_entries(learner, window, critic=True))
        edges = _bins([part for parts in entries.values() for part in parts])
        fractions = {algo: [_fractions(part, edges) for part in parts] for algo, parts in entries.items()}
        norms = {algo: [part.norm().item() for part in parts] for algo, parts in entries.items()}
        write_csv(
            out / "data" / "fig12.csv",
            ("epoch", "log10_from", "log10_to", *(f"fraction_{algo}" for algo in entries)),
            (
                (epoch, *row)
                for epoch, *columns in zip(epochs, *fractions.values())
                for row in zip(edges[:-1].tolist(), edges[1:].tolist(), *(column.tolist() for column in columns))
            ),
        )
        write_csv(
            out / "data" / "fig12_norms.csv",
            ("epoch", *(f"norm_{algo}" for algo in norms)),
            zip(epochs, *norms.values()),
        )
        write_csv(out / "data" / "fig12_reach.csv", ("epoch", "step", "worlds", "median", "low", "high"), reached)
        horizons = {"bptt": horizon, "shac": learner.config.horizon}
        self._picture(out / "fig12.png", epochs, horizons, edges, fractions, norms)

    def _picture(self, path, epochs, horizons, edges, fractions, norms) -> None:
        plt = pyplot()
        rows = -(-len(epochs) // 3)
        size = (3 * PANEL[0], 0.85 * PANEL[1] * rows + 0.4)
        figure, axes = plt.subplots(rows, 3, figsize=size, sharex=True, sharey=True, squeeze=False)
        for index, (ax, epoch) in enumerate(zip(axes.flat, epochs)):
            for algo, horizon in horizons.items():
                label = f"{LABELS[algo]}, {horizon:,} steps"
                ax.stairs(fractions[algo][index], edges, color=COLOURS[algo], fill=True, alpha=0.45, label=label)
                ax.stairs(fractions[algo][index], edges, color=COLOURS[algo], lw=0.9)
            ax.set_title(f"epoch {epoch:,}")
            for algo, place in (("shac", 0.02), ("bptt", 0.98)):
                text = f"norm {_scientific(norms[algo][index])}"
                side = "left" if algo == "shac" else "right"
                ax.text(place, 0.97, text, transform=ax.transAxes, ha=side, va="top", color=COLOURS[algo], fontsize=8)
        for ax in axes.flat[len(epochs) :]:
            ax.set_axis_off()
        # Room for the norms above the highest bin.
        axes[0, 0].set_ylim(0, 1.25 * max(part.max().item() for parts in fractions.values() for part in parts))
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
        figure.supxlabel("gradient entry, log$_{10}$ of its magnitude", fontsize=9)
        figure.supylabel("fraction of the entries", fontsize=9)
        save(figure, path)


def _scientific(x: float) -> str:
    """A number with two digits as matplotlib's mathematics: 2.8 10^4."""
    if not 0.01 <= abs(x) < 1000:
        mantissa, exponent = f"{x:.1e}".split("e")
        return rf"${mantissa} \times 10^{{{int(exponent)}}}$"
    return f"{x:.2g}" if abs(x) < 100 else f"{x:.0f}"


def window_from(learner: SHAC, horizon: int) -> Window:
    """A window of `horizon` control steps from where the learner's worlds stand, usually a snapshot's.

    Raises:
      MemoryError: there is not enough memory for it.
    """
    env, config = learner.env, learner.config
    require_window(env, dataclasses.replace(config, horizon=horizon))
    begin = env.state_dict()
    generator = seeding.generator(config.seed, "figures", env.device)
    shape = (horizon, env.num_envs, env.task.num_actions)
    eps = torch.randn(shape, generator=generator, dtype=env.dtype, device=env.device)
    window = rollout(env, learner.actor, learner.normalizer.snapshot(env.dtype), eps)
    env.load_state_dict(begin)
    return window


def gradient_entries(learner: SHAC, window: Window, *, critic: bool) -> torch.Tensor:
    """The gradient of the actor's loss over a window, (parameters,) float64; what the window recorded is used up.

    Args:
      learner: whose window it is.
      window: of `window_from`.
      critic: close the window with the target critic's value, as SHAC does, or with nothing, as BPTT.
    """
    normalize, config = learner.normalizer.snapshot(learner.env.dtype), learner.config
    value = (lambda obs: learner.target_critic(normalize(obs))) if critic else None
    loss = actor_loss(window, config.gamma, value, failure_gradient=config.failure_gradient)
    gradients = torch.autograd.grad(loss, list(learner.actor.parameters()))
    return torch.cat([gradient.flatten() for gradient in gradients]).double().cpu()


def reach(window: Window, steps: list[int]) -> Iterator[tuple[int, int, float | None, float | None, float | None]]:
    """How far the first action reaches: the gradient in it of what is observed after some steps, in a random direction.

    Args:
      window: any.
      steps: after how many steps to ask, 1 to the window's length.

    Yields:
      For each: the steps; the number of worlds whose first episode still goes on, or ends there; and of their
      gradients' norms the median and the deciles 1 and 9, None where there are no such worlds.
    """
    obs, action = window.final_obs, window.actions[0]
    for step in steps:
        direction = torch.randn(obs.shape[2], generator=seeding.generator(step, "figures", obs.device)).to(obs)
        seen = (obs[step - 1] @ (direction / direction.norm())).sum()
        (gradient,) = torch.autograd.grad(seen, action, retain_graph=True)
        norms = gradient.norm(dim=1)[~window.ended[: step - 1].any(0)]
        yield step, len(norms), *(norms.quantile(q).item() if len(norms) else None for q in (0.5, 0.1, 0.9))


def _bins(entries: list[torch.Tensor]) -> torch.Tensor:
    """The common bins' edges, log10 of magnitudes."""
    magnitudes = torch.cat(entries).abs()
    logs = magnitudes[magnitudes > 0].log10().sort().values
    low, high = logs[int(TAIL * len(logs))].item(), logs[-1].item()
    first, last = math.floor(low / BIN), math.ceil(high / BIN)
    return BIN * torch.arange(first, max(last, first + 1) + 1, dtype=torch.float64)


def _fractions(entries: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """The fraction of the entries in each bin; those below the first one count to it."""
    logs = entries.abs().log10().clamp(edges[0].item(), edges[-1].item())
    return torch.histogram(logs, edges).hist / len(entries)
