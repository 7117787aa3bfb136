"""Gradient throughput beside other engines: `python tools/benchmark.py --peers`.

All engines simulate the same rollouts (`problem`), each by its own contacts and limits, in processes of their own that
take turns (`race`). What a peer leaves out is printed beside its figures; published figures of others follow, marked as
not measured here. An engine that is missing is named with the command that installs it.
"""

from __future__ import annotations

import csv
import dataclasses
import statistics
import sys
import tempfile
from pathlib import Path

import click
from peers import problem, race


@dataclasses.dataclass(frozen=True)
class Peer:
    """An engine: its title, the modules that its adapter needs, and how to get them."""

    title: str
    modules: tuple[str, ...]
    pip: str


PEERS = {
    "taichi_sim": Peer("taichi_sim", ("taichi_sim",), "pip install -e ."),
    "mujoco": Peer("mujoco.rollout", ("mujoco",), "pip install mujoco"),
    "mjx": Peer("MJX", ("jax", "mujoco.mjx"), "pip install mujoco-mjx jax"),
    "brax": Peer("Brax spring", ("jax", "brax"), "pip install brax jax"),
    "newton": Peer("Newton Featherstone", ("newton", "mujoco", "scipy"), "pip install newton mujoco scipy"),
    "mujoco_warp": Peer("MuJoCo-Warp", ("mujoco_warp",), "pip install mujoco-warp"),
}
PUBLISHED = Path(__file__).with_name("published.csv")
COLUMNS = (
    "body",
    "worlds",
    "peer",
    "precision",
    "forward",
    "forward_backward",
    "forward_control_steps",
    "forward_backward_control_steps",
    "spread",
    "compile_s",
    "peak_gb",
    "note",
)


def rates(row: dict, worlds: int, steps: int, substeps: int) -> dict[str, float | str]:
    """World-substeps and control steps per second of a row of `race.run`, from the medians of its times.

    "spread" is half the distance between a gradient's quartiles (without one: a forward pass's), relative to the
    median; "compile_s" is what the process's start and first answers took beyond the median of later ones.
    """
    found: dict[str, float | str] = {}
    compiled = row["start"] or 0.0
    for question, name in (("forward", "forward"), ("gradient", "forward_backward")):
        times = row[question]
        if not times:
            continue
        middle = statistics.median(times)
        found[name] = worlds * steps * substeps / middle
        found[f"{name}_control_steps"] = worlds * steps / middle
        # a gradient by differences is timed in some worlds only: its first answer has the same share
        compiled += max(0.0, row[f"first_{question}"] - middle / row["shares"].get(question, 1.0))
        if len(times) > 2:
            low, _, high = statistics.quantiles(times, n=4)
            found["spread"] = 0.5 * (high - low) / middle
        found["compile_s"] = compiled
    return found


def markdown(rows: list[dict]) -> str:
    """A table of the results, one of what the peers leave out, and the published figures."""
    head = ("body", "worlds", "engine", "forward [1/s]", "forward + backward [1/s]", "control steps/s", "compile [s]")
    head = (*head, "GB", "note")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        numbers = [row.get(n) for n in ("forward", "forward_backward", "forward_backward_control_steps")]
        spread = row.get("spread")
        cells = ["" if value is None else f"{value:,.0f}" for value in numbers]
        if spread is not None:
            measured = 1 if row.get("forward_backward") is not None else 0
            cells[measured] += f" ± {spread:.0%}"
        compiled, peak = row.get("compile_s"), row.get("peak_gb")
        tail = [
            "" if compiled is None else f"{compiled:.0f}",
            "" if peak is None else f"{peak:.1f}",
            row.get("note", ""),
        ]
        lines.append(
            f"| {row['body']} | {row['worlds']:,} | {PEERS[row['peer']].title} | {' | '.join([*cells, *tail])} |"
        )
    left_out = {row["peer"]: (row["precision"], row["leaves_out"]) for row in rows if row.get("leaves_out")}
    lines += ["", "| engine | precision | leaves out |", "|---|---|---|"]
    lines += [f"| {PEERS[peer].title} | {precision} | {text} |" for peer, (precision, text) in left_out.items()]
    lines += ["", "Published by others, not measured here:", ""]
    lines += [
        "| engine | device | body | worlds | forward [1/s] | forward + backward [1/s] | source |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in published():
        values = [f"{int(row[name]):,}" if row[name] else "" for name in ("worlds", "forward", "forward_backward")]
        lines.append(f"| {row['peer']} | {row['device']} | {row['body']} | {' | '.join(values)} | {row['source']} |")
    return "\n".join(lines) + "\n"


def published() -> list[dict[str, str]]:
    with open(PUBLISHED, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def picture(rows: list[dict], path: Path) -> None:
    """World-substeps per second by number of worlds; a panel for each body, a colour for each engine."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    bodies = list(dict.fromkeys(row["body"] for row in rows))
    figure, axes = plt.subplots(1, len(bodies), figsize=(4.2 * len(bodies), 3.6), sharey=True, squeeze=False)
    colours = dict(zip(PEERS, plt.rcParams["axes.prop_cycle"].by_key()["color"]))
    for body, ax in zip(bodies, axes[0]):
        for peer, colour in colours.items():
            own = [row for row in rows if (row["body"], row["peer"]) == (body, peer)]
            title = PEERS[peer].title
            for name, style in (("forward_backward", "o-"), ("forward", "^:")):
                points = [(row["worlds"], row[name]) for row in own if row.get(name) is not None]
                if points:
                    ax.plot(*zip(*points), style, color=colour, lw=1.2, ms=3, label=title)
                    # one entry of the legend for both
                    title = None
        others = [row for row in published() if row["body"] == body]
        if others:
            points = [(int(row["worlds"]), int(row["forward_backward"])) for row in others]
            ax.plot(*zip(*points), "x--", color="0.5", lw=0.8, label="published, GPU: not measured here")
        ax.set(xscale="log", yscale="log", xlabel="worlds", title=body)
        ax.grid(alpha=0.3)
    axes[0][0].set_ylabel("world-substeps per second\ncircles: with gradient, triangles: forward", fontsize=8)
    handles = {}
    for ax in axes[0]:
        handles |= dict(zip(*reversed(ax.get_legend_handles_labels())))
    figure.legend(handles.values(), handles, loc="lower center", ncols=2 * len(bodies), frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0.08 + 0.16 / len(bodies), 1, 1))
    figure.savefig(path, dpi=150)
    plt.close(figure)


class Run:
    """What all races of a run share: interpreters, limits, empty caches, and what has been measured.

    Args:
      peers: names, in the order of their turns.
      pythons: interpreter of each peer.
      threads, seconds, gigabytes: see `race.Child`.
    """

    def __init__(self, peers: list[str], pythons: dict[str, str], threads: int, seconds: float, gigabytes: float):
        self.peers, self.pythons, self.limits = peers, pythons, (threads, seconds, gigabytes)
        self.seconds, self.rows = seconds, []

    def race(self, body: str, worlds: int, steps: int, repeat: int, folder: Path) -> None:
        """Adds a row for each peer; those that cannot be expected to end in time are not started."""
        task = problem.make(body, worlds, steps)
        task.save(folder / "problem.npz")
        caches = {"TI_OFFLINE_CACHE_FILE_PATH": str(folder / "taichi"), "WARP_CACHE_PATH": str(folder / "warp")}
        rows, children = {}, []
        for peer in self.peers:
            blank = {"body": body, "worlds": worlds, "peer": peer}
            expected = self._expected(body, worlds, peer)
            if expected > self.seconds:
                rows[peer] = {**blank, "note": f"not tried: {_reason(expected)}"}
            elif (child := self._start(peer, folder, caches)).failure:
                rows[peer] = {**blank, **child.started, "peak_gb": child.peak, "note": child.failure}
                child.close()
            else:
                children.append(child)
        try:
            for row in race.run(children, repeat):
                note = "; ".join(filter(None, (row["failure"], row["missing"])))
                rows[row["peer"]] = {
                    **{"body": body, "worlds": worlds, "peer": row["peer"], "peak_gb": row["peak"], "note": note},
                    **{name: row[name] for name in ("precision", "leaves_out")},
                    **rates(row, worlds, steps, task.substeps),
                }
        finally:
            for child in children:
                child.close()
        self.rows += [rows[peer] for peer in self.peers]

    def check(self, body: str, worlds: int, steps: int, folder: Path) -> None:
        """Compares every peer's gradient with differences of its own rollout and prints the result."""
        problem.make(body, worlds, steps).save(folder / "problem.npz")
        for peer in self.peers:
            # where an engine can compute in f64, differences are far clearer
            child = self._start(peer, folder, {"JAX_ENABLE_X64": "1", "PEERS_PRECISION": "f64"})
            reply = child.ask("check")
            if reply and "missing" not in reply:
                parts = [f"{w} {reply[f'{w}_slope']:.4f} ({reply[f'{w}_right']:.0%})" for w in ("ground", "air")]
                text = ", ".join(parts)
            else:
                text = reply.get("missing") or child.failure
            click.echo(f"{body}, {PEERS[peer].title}: {text}")
            child.close()

    def _start(self, peer: str, folder: Path, environment: dict[str, str]) -> race.Child:
        return race.Child(peer, self.pythons[peer], folder / "problem.npz", *self.limits, environment)

    def _expected(self, body: str, worlds: int, peer: str) -> float:
        """Seconds that a race would take by the time of the last one, in proportion to the worlds; 0 if unknown."""
        before = [row for row in self.rows if (row["body"], row["peer"]) == (body, peer)]
        if not before:
            return 0.0
        last = before[-1]
        if last["note"].startswith(("more than", "not tried")):
            return float("inf")
        work = [last["worlds"] / last["forward_control_steps"]] if "forward_control_steps" in last else []
        if "forward_backward_control_steps" in last and peer != "mujoco":
            work.append(last["worlds"] / last["forward_backward_control_steps"])
        # the first round, which compiles, and one more
        return last.get("compile_s", 0.0) + 2 * sum(work) * problem.STEPS * worlds / last["worlds"]


def _reason(expected: float) -> str:
    return "fewer worlds passed a limit" if expected == float("inf") else f"some {expected:.0f} s expected"


def write_csv(rows: list[dict], path: Path) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: f"{x:.4g}" if isinstance(x, float) else x for name, x in row.items()})


def _pythons(pairs: tuple[str, ...]) -> dict[str, str]:
    """The interpreter of each peer: this one, but for those in texts PEER=PATH."""
    chosen = dict.fromkeys(PEERS, sys.executable)
    for pair in pairs:
        peer, equals, path = pair.partition("=")
        if not equals or peer not in PEERS or not Path(path).is_file():
            raise click.UsageError(f"--python takes PEER=PATH, a peer of {', '.join(PEERS)} and a Python, got {pair!r}")
        chosen[peer] = path
    return chosen


def _present(peers: tuple[str, ...], pythons: dict[str, str]) -> list[str]:
    """Those of the peers that are installed; the others are named."""
    present = []
    for peer in peers:
        if race.missing(pythons[peer], PEERS[peer].modules):
            click.echo(f"{PEERS[peer].title}: not installed; {PEERS[peer].pip}, or --python {peer}=PATH", err=True)
        else:
            present.append(peer)
    return present


@click.command()
@click.option("--peer", "peers", type=click.Choice(list(PEERS)), multiple=True, default=list(PEERS), show_default=True)
@click.option("--body", "bodies", type=click.Choice(problem.BODIES), multiple=True, default=problem.BODIES)
@click.option("--worlds", type=click.IntRange(min=1), multiple=True, default=(64, 256, 1024, 4096), show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=problem.STEPS, show_default=True, help="Of a rollout.")
@click.option("--repeat", type=click.IntRange(min=1), default=7, show_default=True, help="Rounds after the first.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True, help="Cores of every engine.")
@click.option("--limit", type=click.IntRange(min=1), default=600, show_default=True, help="Seconds of a peer and size.")
@click.option("--memory", type=click.FloatRange(min=0.5), default=16.0, show_default=True, help="GB of a peer.")
@click.option("--python", "pairs", multiple=True, metavar="PEER=PATH", help="Another environment's Python for a peer.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default="peers", show_default=True)
@click.option("--check", "only_check", is_flag=True, help="Compare gradients with differences, instead; few worlds.")
def main(peers, bodies, worlds, steps, repeat, threads, limit, memory, pairs, out, only_check):
    """Forward, and forward + backward of rollouts in the controls, of this engine and of others, on the CPU.

    \b
    Examples:
      python tools/benchmark.py --peers --out runs/peers
      python tools/benchmark.py --peers --check --body ant --worlds 8 --steps 4
    """
    pythons = _pythons(pairs)
    run = Run(_present(peers, pythons), pythons, threads, limit, memory)
    for body in bodies:
        # caches of this body alone: what is said of compilation holds for an empty one
        with tempfile.TemporaryDirectory() as folder:
            for num in sorted(worlds):
                if only_check:
                    run.check(body, num, steps, Path(folder))
                    continue
                run.race(body, num, steps, repeat, Path(folder))
                out.mkdir(parents=True, exist_ok=True)
                write_csv(run.rows, out / "peers.csv")
                (out / "peers.md").write_text(markdown(run.rows), encoding="utf-8")
                picture(run.rows, out / "peers.png")
                click.echo(f"{body}, {num:,} worlds: done", err=True)
    if not only_check:
        click.echo(markdown(run.rows))
