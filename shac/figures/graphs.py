"""Figure 3: the computation graphs of BPTT and SHAC.

The edges are data: what is drawn here is compared with autograd's graph of a rollout by the tests.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal, NamedTuple

from shac.figures.figure import Budget, Figure, Run
from shac.figures.plot import PANEL, pyplot, save, write_csv

# Steps that are drawn, SHAC's windows among them, and the step in which the task fails there.
STEPS, WINDOWS, FAILURE = 9, 3, 4
# Rows from top to bottom, and how far apart a state is drawn from where the gradient was cut before it.
ROWS = {"parameters": 2, "action": 1, "state": 0, "reached": 0, "reward": -1, "value": -1, "loss": -2}
GAP = 1.1
FACES = {"state": "#E8E8E8", "reached": "#E8E8E8", "action": "#BFDDF0", "reward": "#FBE3A6", "value": "#B9E4D3"}
LETTERS = {"state": "s", "reached": "s", "action": "a", "reward": "r", "value": "V"}
LINKS = {
    "gradient": {"color": "#444444", "ls": "-"},
    "window": {"color": "#D55E00", "ls": "--"},
    "failure": {"color": "#AA3377", "ls": ":"},
}
MEANINGS = {
    "gradient": "computed from; the gradient flows back",
    "window": "next window begins where the last one ended: gradient cut",
    "failure": "early termination, a new episode begins: no gradient, no value",
}


class Node(NamedTuple):
    """A quantity of a trajectory.

    | kind | index | meaning |
    |---|---|---|
    | parameters | k | the actor's parameters in window k |
    | state | t | the state in which step t begins |
    | action | t | the action of step t |
    | reached | t | the state that step t - 1 led to, where the gradient does not go on from there |
    | reward | t | what step t has earned |
    | value | t | the target critic's value of the state reached in t |
    | loss | k | the actor's loss in window k |
    """

    kind: str
    index: int


class Edge(NamedTuple):
    """`target` is computed from `source`.

    | link | meaning |
    |---|---|
    | gradient | the gradient flows back from target to source |
    | window | the next window begins where this one ended; no gradient |
    | failure | the task has failed, and a new episode begins; no gradient |
    """

    source: Node
    target: Node
    link: Literal["gradient", "window", "failure"] = "gradient"


def edges(windows: int, horizon: int, failures: Collection[int] = (), *, critic: bool) -> list[Edge]:
    """All edges of one world's trajectory, with the paper's loss (equation 5).

    Args:
      windows: number of windows that follow each other; 1 for BPTT.
      horizon: steps of each.
      failures: steps in which the task fails. (With `failure_gradient`, which is not the paper's, the target critic's
        slope flows there too.)
      critic: close a window with the target critic's value, unless the task has failed there.
    """
    found = []
    steps = windows * horizon
    for step in range(steps):
        window, last, failed = step // horizon, (step + 1) % horizon == 0, step in failures
        state, action, reward, loss = map(Node, ("state", "action", "reward", "loss"), (step, step, step, window))
        led_to = Node("reached" if last or failed else "state", step + 1)
        found += [Edge(Node("parameters", window), action), Edge(state, action)]
        found += [Edge(state, led_to), Edge(action, led_to)]
        found += [Edge(led_to, reward), Edge(action, reward), Edge(reward, loss)]
        if critic and last and not failed:
            value = Node("value", step + 1)
            found += [Edge(led_to, value), Edge(value, loss)]
        if led_to.kind == "reached" and step + 1 < steps:
            found.append(Edge(led_to, Node("state", step + 1), "failure" if failed else "window"))
    return found


class Graphs(Figure):
    """Figure 3: BPTT's graph runs through the whole trajectory, SHAC's is cut between windows."""

    number = 3
    title = "Computation graphs: BPTT through the whole trajectory, SHAC in short windows with cuts between them"

    def runs(self, budget: Budget) -> list[Run]:
        return []

    def draw(self, runs: Path, out: Path, budget: Budget) -> None:
        graphs = {
            "BPTT: one graph through the whole trajectory": edges(1, STEPS, critic=False),
            f"SHAC: windows of {STEPS // WINDOWS} steps, each closed by the target critic's value": edges(
                WINDOWS, STEPS // WINDOWS, [FAILURE], critic=True
            ),
        }
        write_csv(
            out / "data" / "fig03.csv",
            ("graph", "source", "source_index", "target", "target_index", "link"),
            ((title[:4], *edge.source, *edge.target, edge.link) for title, table in graphs.items() for edge in table),
        )
        plt = pyplot()
        figure, axes = plt.subplots(2, 1, figsize=(3 * PANEL[0], 6.0))
        for ax, (title, table) in zip(axes, graphs.items()):
            _draw(ax, table)
            ax.set_title(title, loc="left")
        handles = [plt.Line2D([], [], label=text, **LINKS[link]) for link, text in MEANINGS.items()]
        figure.legend(handles=handles, loc="outside lower center")
        save(figure, out / "fig03.png")


def _draw(ax, table: list[Edge]) -> None:
    places = _places(table)
    bars = {node: _span(node, table, places) for edge in table for node in edge[:2] if node not in places}
    for source, target, link in table:
        # A bar is met straight above or below the other end.
        begin = places.get(source) or (places[target][0], ROWS[source.kind] - 0.25)
        end = places.get(target) or (places[source][0], ROWS[target.kind] + 0.25)
        light = {source.kind, target.kind} == {"action", "reward"}
        arrow = {"arrowstyle": "-|>", "mutation_scale": 7, "lw": 0.6 if light else 1.0, **LINKS[link]}
        shrink = {"shrinkA": 8.5 if source in places else 0, "shrinkB": 8.5 if target in places else 0}
        ax.annotate("", end, begin, arrowprops={**arrow, **shrink})
        if link != "gradient":
            ax.plot((begin[0] + end[0]) / 2, begin[1], "x", ms=8, mew=1.6, color=LINKS[link]["color"])
    fresh = {edge.target for edge in table if edge.link == "failure"}
    for node, place in places.items():
        ax.plot(*place, "o", ms=17, color=FACES[node.kind], mec="#444444", mew=0.7)
        prime = "^\\prime" if node in fresh else ""
        ax.text(*place, f"${LETTERS[node.kind]}{prime}_{{{node.index}}}$", ha="center", va="center", fontsize=8)
    for node, (left, right) in bars.items():
        ax.fill_between([left, right], ROWS[node.kind] - 0.25, ROWS[node.kind] + 0.25, color="#D9D9D9", lw=0)
        text = {"parameters": r"parameters $\theta_%d$", "loss": r"loss $\mathcal{L}_%d$"}[node.kind] % node.index
        ax.text((left + right) / 2, ROWS[node.kind], text, ha="center", va="center", fontsize=8)
    ax.set(ylim=(-2.4, 2.4))
    ax.margins(x=0.02)
    ax.set_axis_off()


def _places(table: list[Edge]) -> dict[Node, tuple[float, float]]:
    """Where nodes are drawn; those of a whole window are bars, and not among them."""
    cuts = {edge.target.index for edge in table if edge.link != "gradient"}
    places = {}
    for edge in table:
        for kind, index in edge[:2]:
            x = index + GAP * sum(cut <= index for cut in cuts)
            if kind in ("reached", "value", "reward"):
                # What a step leads to is drawn before the gap that follows it.
                reached = index + (kind == "reward")
                x = reached + GAP * sum(cut < reached for cut in cuts)
            if kind not in ("parameters", "loss"):
                places[Node(kind, index)] = (x + {"action": 0.5, "value": 0.55}.get(kind, 0.0), ROWS[kind])
    return places


def _span(bar: Node, table: list[Edge], places: dict[Node, tuple[float, float]]) -> tuple[float, float]:
    """From where to where a bar goes: over all that it is computed from, or that is computed from it."""
    others = [places[a if b == bar else b][0] for a, b, _ in table if bar in (a, b)]
    return min(others) - 0.35, max(others) + 0.35
