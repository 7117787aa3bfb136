"""shac-render: a film of what a run has learnt, or the picture of a model."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import click

from shac.cli.common import Command, reports_errors
from shac.errors import UserError, nearest

EXAMPLES = """
shac-render runs/mine --out gait.mp4
shac-render runs/mine --out gait.gif --checkpoint last --camera azimuth=90,distance=4
shac-render --model cartpole --out cartpole.png
"""

# Seconds in which the camera goes round a model that has no run.
TURN = 6.0


@click.command(cls=Command, examples=EXAMPLES)
@click.argument("run_dir", metavar="[RUN]", required=False, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file: .mp4, .gif or .png (a strip).")
@click.option("--model", metavar="NAME", help="Without a RUN: show this model (a name, a .py or an MJCF file) at rest.")
@click.option("--steps", type=click.IntRange(min=1), help="Control steps to film.  [default: one episode]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the initial state.")
@click.option("--checkpoint", type=click.Choice(["best", "last"]), default="best", show_default=True, help="Policy.")
@click.option("--width", type=click.IntRange(16, 4096), default=640, show_default=True, help="Pixels, of each frame.")
@click.option("--height", type=click.IntRange(16, 4096), default=480, show_default=True, help="Pixels.")
@click.option("--fps", type=click.FloatRange(1, 120), default=30, show_default=True, help="Frames per second.")
@click.option("--frames", type=click.IntRange(1, 64), default=5, show_default=True, help="Frames in a png of a RUN.")
@click.option("--camera", metavar="KEY=VALUE,...", help="azimuth, elevation, fovy [deg], distance [m], track (a body).")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Where to compute.")
@reports_errors
def main(run_dir, out, model, steps, seed, checkpoint, width, height, fps, frames, camera, device):
    """Film the deterministic policy of the run in folder RUN, in one world and in real time.

    With --model in place of a RUN, show the model at rest: one picture, or a film that goes round it.
    """
    if (run_dir is None) == (model is None):
        raise UserError("give either a RUN folder or --model NAME; see shac-render --help")
    # torch and Taichi take seconds to import: not before --help has had its chance.
    from shac import film

    film.check_output(out, width, height)
    view = parse_camera(camera)
    fps = film.playback_rate(out.suffix, fps)
    with Progress() as progress:
        if run_dir is None:
            poses, num = _at_rest(model, device), 1
            if out.suffix != ".png":
                num = round(TURN * fps)
            pictures = film.turn(poses, num, view, width, height)
        else:
            poses = _roll_out(run_dir, checkpoint, steps, seed, device, progress)
            if out.suffix == ".png":
                # apart in time as they are, frames of a strip are no path to smooth
                view = dataclasses.replace(view, smoothing=0)
                indices = [round(i * (len(poses) - 1) / max(frames - 1, 1)) for i in range(frames)]
            else:
                indices = film.real_time(len(poses), poses.timestep, fps)
            num = len(indices)
            pictures = film.draw(poses, indices, view, width, height)
        film.write(out, progress.over(pictures, num, "draw"), fps)
    click.echo(f"{out}: {num} frame{'s' * (num > 1)} of {width} x {height}")


def _roll_out(run_dir, checkpoint, steps, seed, device, progress):
    from shac import film
    from shac.checkpoint import load_run
    from shac.env import Env

    task, policy, config = load_run(run_dir, checkpoint)
    env = Env(task, 1, seed=seed, device=device or config.device, substeps=config.substeps, theta=config.theta)
    tick = progress.start(steps or task.episode_length, "simulate")
    return film.roll_out(env, policy, steps, tick)


def _at_rest(model: str, device: str | None):
    """Poses of a built-in task, a Python file's, or a plain MJCF file or asset, which need not be a task."""
    import taichi_sim as ts
    from shac import film, models
    from taichi_sim.mjcf import load
    from taichi_sim.scene import rest_pose

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
    xpos, xquat = rest_pose(body)
    return film.Poses(body, xpos[None], xquat[None], body.opt.control_timestep, {0})


def parse_camera(text: str | None):
    """A `Camera` from "azimuth=90,distance=4,track=torso".

    Raises:
        UserError: an unknown key or a value that does not fit.
    """
    from taichi_sim.camera import Camera

    values = {}
    for part in filter(None, (text or "").split(",")):
        key, equals, value = part.partition("=")
        if key not in ("azimuth", "elevation", "distance", "fovy", "track") or not equals:
            keys = "azimuth, elevation, distance, fovy, track"
            raise UserError(f"--camera {part!r} is not KEY=VALUE with a KEY of {keys}")
        try:
            values[key] = value if key == "track" else float(value)
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
