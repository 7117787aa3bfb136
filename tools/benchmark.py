"""Speed of the engine beside MuJoCo's own threads, and the time a training takes to begin and a frame to be drawn.

One measurement interleaves all contestants, so that what else the machine does falls on each of them alike. MuJoCo runs
as a user would run it in bulk, `mujoco.rollout` on a fixed number of threads; it computes no gradient and uses f64, the
engine f32. Both simulate the same model, as many substeps of the same length; contact and joint limits are off, but for
the models whose names end in "+contact": these begin where they have come to lie on the ground.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import click

MODELS = ("cartpole", "humanoid", "ant+contact", "humanoid+contact")
CONTACT = "+contact"
# Time [s] in which bodies fall to the ground before they are measured.
FALL = 1.0


@dataclasses.dataclass(frozen=True)
class Timing:
    """Wall-clock seconds of repeated control steps of all worlds."""

    seconds: tuple[float, ...]
    substeps: int
    """Substeps of one repetition: worlds times substeps per control step."""

    @property
    def rate(self) -> float:
        """Substeps per second, from the median."""
        return self.substeps / statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, relative to the median."""
        low, middle, high = statistics.quantiles(self.seconds, n=4)
        return 0.5 * (high - low) / middle


def mj_model(name: str):
    """The model `name` for both engines, contact and joint limits disabled unless it is one with contact.

    "humanoid" is dm_control's (https://github.com/google-deepmind/dm_control, suite), the others are this package's.
    """
    import mujoco

    off = mujoco.mjtDisableBit
    spec = mujoco.MjSpec.from_file(str(_path(name)))
    if not name.endswith(CONTACT):
        spec.option.disableflags |= int(off.mjDSBL_CONTACT) | int(off.mjDSBL_LIMIT)
    # Euler's step, with damping implicit, is MuJoCo's nearest to the engine's
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_EULER
    return spec.compile()


def _path(name: str) -> Path:
    if name != "humanoid":
        return Path(__file__).parents[1] / "assets" / f"{name.removesuffix(CONTACT)}.xml"
    found = importlib.util.find_spec("dm_control")
    if found is None:
        raise click.ClickException("the humanoid is dm_control's: pip install dm_control")
    return Path(found.origin).parent / "suite" / f"{name}.xml"


def contestants(mj, worlds: int, substeps: int, threads: int) -> dict[str, Callable[[], object]]:
    """One control step of all worlds each: the engine's forward, forward + backward, and MuJoCo's rollout."""
    import numpy as np
    import torch
    from mujoco import MjData, mj_stateSize, mjtState, rollout

    import taichi_sim as ts

    model = ts.load(mj)
    model.opt.substeps = substeps
    sim = ts.Simulator(model, num_worlds=worlds)
    rng = np.random.default_rng(0)
    speeds = 0.1 * rng.standard_normal((worlds, mj.nv))
    controls = rng.uniform(-0.3, 0.3, (worlds, mj.nu))
    start = sim.initial_state()
    start = start._replace(qvel=torch.as_tensor(speeds, dtype=sim.dtype, device=sim.device))
    ctrl = torch.as_tensor(controls, dtype=sim.dtype, device=sim.device)
    if model.npair:
        with torch.no_grad():
            for _ in range(round(FALL / model.opt.control_timestep)):
                start = sim.step(start, ctrl)
    leaf = start.qpos.clone().requires_grad_(True)

    def settled(state):
        # a kernel on a GPU is not over when its launch returns
        return float(state.qvel[0, 0].detach())

    def forward():
        with torch.no_grad():
            return settled(sim.step(start, ctrl))

    def forward_backward():
        leaf.grad = None
        end = sim.step(start._replace(qpos=leaf), ctrl)
        (end.qpos.sum() + end.qvel.sum()).backward()
        return float(leaf.grad[0, 0])

    size = mj_stateSize(mj, mjtState.mjSTATE_FULLPHYSICS)
    states = np.zeros((worlds, size))
    # the full physics state begins with time, qpos, qvel
    states[:, 1 : 1 + mj.nq] = start.qpos.cpu()
    states[:, 1 + mj.nq : 1 + mj.nq + mj.nv] = start.qvel.cpu()
    held = np.repeat(controls[:, None], substeps, axis=1)
    pool = rollout.Rollout(nthread=threads)
    scratch = [MjData(mj) for _ in range(threads)]
    return {
        "forward": forward,
        "forward + backward": forward_backward,
        f"mujoco.rollout, {threads} threads": lambda: pool.rollout(mj, scratch, states, held),
    }


def measure(functions: dict[str, Callable[[], object]], repeat: int, substeps: int) -> dict[str, Timing]:
    """Runs every function once unmeasured (compilation, page faults), then all of them in turn, `repeat` times."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(repeat):
        for name, function in functions.items():
            begin = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - begin)
    return {name: Timing(tuple(times), substeps) for name, times in seconds.items()}


def machine() -> dict[str, str]:
    """What the figures depend on: processor, load and versions."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        cpu = names[0] if names else cpu
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    versions = {name: metadata.version(name) for name in ("taichi-sim", "taichi", "torch", "mujoco")}
    return {"cpu": cpu, "cores": str(os.cpu_count()), "load": load, "python": platform.python_version(), **versions}


def startup() -> dict[str, float]:
    """Seconds of `shac-train --model cartpole --max-epochs 1`, with an empty kernel cache and with a filled one."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TI_OFFLINE_CACHE_FILE_PATH": str(Path(folder, "cache"))}
        times = {}
        for name in ("cold", "warm"):
            command = [sys.executable, "-m", "shac.cli.train", "--model", "cartpole", "--max-epochs", "1", "--quiet"]
            begin = time.perf_counter()
            done = subprocess.run(
                [*command, "--run-dir", str(Path(folder, name))], env=environment, capture_output=True, text=True
            )
            times[name] = time.perf_counter() - begin
            if done.returncode:
                raise click.ClickException(f"shac-train failed: {done.stderr.strip()}")
        if not any(Path(folder, "cache").rglob("*.tic")):
            raise click.ClickException("Taichi wrote no kernels to the folder it was given: cold was not cold")
    return times


def frame(repeat: int, threads: int) -> list[float]:
    """Seconds of frames of humanoid_mtu, 640 x 480, once the kernels are compiled; the body turns between them."""
    import numpy as np

    import taichi_sim as ts
    from taichi_sim.render import Renderer
    from taichi_sim.render.scene import multiply, rest_pose

    ts.init("cpu", "f32", num_threads=threads)
    model = ts.load("humanoid_mtu")
    renderer, times = Renderer(model), []
    xpos, xquat = rest_pose(model)
    for k in range(repeat + 1):
        half = np.pi * k / repeat
        turn = np.array([np.cos(half), 0.0, 0.0, np.sin(half)])
        across = np.array([[np.cos(2 * half), -np.sin(2 * half)], [np.sin(2 * half), np.cos(2 * half)]])
        place = np.column_stack([xpos[:, :2] @ across.T, xpos[:, 2]])
        begin = time.perf_counter()
        renderer.render(place, multiply(turn[None], xquat), act=np.full(model.na, k / repeat))
        times.append(time.perf_counter() - begin)
    return times[1:]


@click.command()
@click.option("--model", "models", type=click.Choice(MODELS), multiple=True, default=MODELS, show_default=True)
@click.option("--worlds", type=click.IntRange(min=1), multiple=True, default=(64, 1024), show_default=True)
@click.option("--substeps", type=click.IntRange(min=1), default=8, show_default=True, help="Per control step.")
@click.option("--repeat", type=click.IntRange(min=2), default=21, show_default=True, help="Measured control steps.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True, help="Of both engines.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--startup", "only_startup", is_flag=True, help="Measure how long a training takes to begin, instead.")
@click.option("--frame", "only_frame", is_flag=True, help="Measure how long a frame of a film takes, instead.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(models, worlds, substeps, repeat, threads, device, only_startup, only_frame, as_json):
    """Substeps per second of the engine (f32), forward and with the backward pass, beside MuJoCo's.

    With --peers: beside other engines, with gradients; with --stages: what each stage of a substep takes. Both have
    --help of their own.

    \b
    Examples:
      python tools/benchmark.py --model humanoid --worlds 1024 --repeat 41
      python tools/benchmark.py --peers --out runs/peers
    """
    report = {"machine": machine(), "substeps": substeps, "repeat": repeat, "results": []}
    if not as_json:
        click.echo(", ".join(f"{name} {value}" for name, value in report["machine"].items()))
    if only_startup:
        report = {"machine": report["machine"], "startup": startup()}
        if not as_json:
            click.echo("   ".join(f"{name} start {seconds:.1f} s" for name, seconds in report["startup"].items()))
    elif only_frame:
        report = {"machine": report["machine"], "threads": threads, "frame": frame(repeat, threads)}
        if not as_json:
            middle, most = statistics.median(report["frame"]), max(report["frame"])
            click.echo(f"humanoid_mtu, 640 x 480: {middle:.3f} s a frame, at most {most:.3f} s ({repeat} frames)")
    else:
        _compare(models, worlds, substeps, repeat, threads, device, as_json, report["results"])
    if as_json:
        click.echo(json.dumps(report))


def _compare(models, worlds, substeps, repeat, threads, device, quiet, results):
    import taichi_sim as ts  # noqa: I001 (before torch, whose threads it has wait without spinning)
    import torch

    ts.init(device, "f32", num_threads=threads)
    torch.set_num_threads(threads)
    for model in models:
        mj = mj_model(model)
        for num in worlds:
            timings = measure(contestants(mj, num, substeps, threads), repeat, num * substeps)
            reference = list(timings.values())[-1].rate
            if not quiet:
                click.echo(f"\n{model} (nv {mj.nv}), {num:,} worlds, {substeps} substeps, {repeat} repetitions")
            for name, timing in timings.items():
                ratio = timing.rate / reference
                results.append(
                    {
                        "model": model,
                        "worlds": num,
                        "what": name,
                        "substeps_per_second": timing.rate,
                        "spread": timing.spread,
                        "ratio_to_mujoco": ratio,
                    }
                )
                if not quiet:
                    click.echo(f"  {name:<26} {timing.rate:>12,.0f} /s  +- {timing.spread:4.0%}  {ratio:6.2f} x MuJoCo")


if __name__ == "__main__":
    if "--peers" in sys.argv:
        # a command of its own, with its own options
        sys.argv.remove("--peers")
        from peers.table import main
    elif "--stages" in sys.argv:
        sys.argv.remove("--stages")
        from stages import main
    main()
