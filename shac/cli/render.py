"""shac-render: a film of what a run has learnt, or the picture of a model."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import click

from shac.cli.common import Command, Device, Finite, other_settings, reports_errors
from shac.errors import UserError, nearest

EXAMPLES = """
shac-render runs/mine --out gait.mp4
shac-render runs/mine --out gait.gif --checkpoint last --camera azimuth=90,distance=4
shac-render runs/mine --out stride.png --frames 6 --every 0.1
shac-render runs/mine --html gait.html
shac-render --model cartpole --out cartpole.png
"""

EVERY_HELP = "Seconds between frames of a png, from the film's middle.  [default: from its beginning to its end]"

# Seconds in which the camera goes round a model that has no run.
TURN = 6.0


@click.command(cls=Command, examples=EXAMPLES)
@click.argument("run_dir", metavar="[RUN]", required=False, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The file: .mp4, .gif or .png (a strip).")
@click.option(
    "--html", "page", type=click.Path(path_type=Path), help="A page (.html) to play, turn and zoom in a browser."
)
@click.option("--model", metavar="NAME", help="Without a RUN: show this model (a name, a .py or an MJCF file) at rest.")
@click.option("--steps", type=click.IntRange(min=1), help="Control steps to film.  [default: one episode]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the initial state.")
@click.option("--checkpoint", type=click.Choice(["best", "last"]), default="best", show_default=True, help="Policy.")
@click.option("--width", type=click.IntRange(16, 4096), default=640, show_default=True, help="Pixels, of each frame.")
@click.option("--height", type=click.IntRange(16, 4096), default=480, show_default=True, help="Pixels.")
@click.option("--fps", type=Finite(1, 120), default=30, show_default=True, help="Frames per second.")
@click.option("--frames", type=click.IntRange(1, 64), default=5, show_default=True, help="Frames in a png of a RUN.")
@click.option("--every", type=Finite(min=0, min_open=True), help=EVERY_HELP)
@click.option("--camera", metavar="KEY=VALUE,...", help="azimuth, elevation, fovy [deg], distance [m], track (a body).")
@click.option("--device", type=Device(), help="Where to compute.")
@other_settings
@reports_errors
def main(
    run_dir, out, page, model, steps, seed, checkpoint, width, height, fps, frames, every, camera, device, changes
):
    """Film the deterministic policy of the run in folder RUN, in one world and in real time.

    With --model in place of a RUN, show the model at rest: one picture, or a film that goes round it. Muscles are tubes
    from blue (activation 0) to red (1).
    """
    if (run_dir is None) == (model is None):
        raise UserError("give either a RUN folder or --model NAME; see shac-render --help")
    if changes and run_dir is None:
        raise UserError("--set changes the task of a RUN; leave it out with --model")
    if out is None and page is None:
        raise UserError("give --out FILE, --html FILE or both; see shac-render --help")
    # torch and Taichi take seconds to import: not before --help has had its chance.
    from shac.film import film
    from shac.film import page as pages
    from shac.runs.config import assignments

    view = parse_camera(camera)
    if out is not None:
        film.check_output(out, width, height)
    if page is not None:
        pages.check_output(page)
    with Progress() as progress:
        if run_dir is None:
            poses = _at_rest(model, device)
        else:
            poses = _roll_out(run_dir, checkpoint, assignments(changes), steps, seed, device, progress)
        if out is not None:
            if run_dir is None:
                num, pictures = _turn(out, poses, view, width, height, fps)
            else:
                num, pictures = _film(out, poses, view, width, height, fps, frames, every)
            film.write(out, progress.over(pictures, num, "draw"), film.playback_rate(out.suffix, fps))
            click.echo(f"{out}: {num} frame{'s' * (num > 1)} of {width} x {height}")
        if page is not None:
            indices = film.real_time(len(poses), poses.timestep, fps)
            shown = progress.over(indices, len(indices), "record")
            pages.write(page, poses, shown, fps, view, f"{model or run_dir.name} - shac-render")
            size, num = page.stat().st_size / 1e6, len(indices)
            click.echo(f"{page}: {num} frame{'s' * (num > 1)} in {size:.1f} MB")


def _turn(out: Path, poses, view, width: int, height: int, fps: float):
    """Number of pictures of a model at rest, and the pictures."""
    from shac.film import film

    num = 1 if out.suffix == ".png" else round(TURN * film.playback_rate(out.suffix, fps))
    return num, film.turn(poses, num, view, width, height)


def _film(out: Path, poses, view, width: int, height: int, fps: float, frames: int, every: float | None):
    """Number of pictures of a run, and the pictures."""
    from shac.film import film

    strip = out.suffix == ".png"
    if strip:
        indices = film.spread(poses, frames, every)
    else:
        indices = film.real_time(len(poses), poses.timestep, film.playback_rate(out.suffix, fps))
    return len(indices), film.draw(poses, indices, view, width, height, strip)


def _roll_out(run_dir, checkpoint, changes, steps, seed, device, progress):
    from shac.env import Env
    from shac.film import film
    from shac.runs.checkpoint import load_run

    task, policy, config = load_run(run_dir, checkpoint, changes)
    device, substeps = device or config.device, config.policy_substeps
    env = Env(task, 1, seed=seed, device=device, substeps=substeps, theta=config.theta)
    tick = progress.start(steps or task.episode_length, "simulate")
    return film.roll_out(env, policy, steps, tick)


def _at_rest(model: str, device: str | None):
    """Poses of a built-in task, a Python file's, or a plain MJCF file or asset, which need not be a task."""
    import taichi_sim as ts
    from shac import models
    from shac.film import film
    from taichi_sim.mjcf.loader import load

    if model in models.names() or model.endswith(".py"):
        return film.at_rest(models.load_task(model), device)
    if not Path(model).suffix:
        raise UserError(f"no model is called {model!r}; {nearest(model, models.names())} (or give a .py or MJCF file)")
    if device is not None:
        ts.init(device=device)
    try:
        body = load(model)
    except ValueError as error:
        raise UserError(f"cannot load {model}: {error}") from error
    return film.at_qpos0(body)


def parse_camera(text: str | None):
    """A `Camera` from "azimuth=90,distance=4,track=torso".

    Raises:
        UserError: an unknown key or a value that does not fit.
    """
    from taichi_sim.render.camera import Camera

    values = {}
    for part in filter(None, (text or "").split(",")):
        key, equals, value = part.partition("=")
        if key not in ("azimuth", "elevation", "distance", "fovy", "track") or not equals:
            keys = "azimuth, elevation, distance, fovy, track"
            raise UserError(f"--camera {part!r} is not KEY=VALUE with a KEY of {keys}")
        try:
            values[key] = value if key == "track" else float(value)
            if key != "track" and not math.isfinite(values[key]):
                raise ValueError
        except ValueError:
            raise UserError(f"--camera {part!r}: {value!r} is not a number") from None
    try:
        return Camera(**values)
    except ValueError as error:
        raise UserError(f"--camera {text!r}: {error}") from error


class Progress:
    """Bars on a terminal; plain lines, one per fifth of the work, where there is none."""

    def __init__(self):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        console = Console(stderr=True)
        columns = TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self._bars = Bars(*columns, console=console) if console.is_terminal else None

    def __enter__(self):
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *_):
        if self._bars is not None:
            self._bars.stop()

    def start(self, total: int, what: str):
        """Begins a task of `total` parts; returns what is to be called after each."""
        if self._bars is not None:
            bar = self._bars.add_task(what, total=total)
            return lambda: self._bars.advance(bar)
        count = 0

        def tick():
            nonlocal count
            count += 1
            if total >= 5 and count * 5 // total > (count - 1) * 5 // total:
                print(f"{what} {count}/{total}", file=sys.stderr, flush=True)

        return tick

    def over(self, parts, total: int, what: str):
        """Passes `parts` on while counting them."""
        tick = self.start(total, what)
        for part in parts:
            yield part
            tick()


if __name__ == "__main__":
    main()
