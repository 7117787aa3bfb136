"""What a CUDA card does with this project, in ten minutes: `python tools/device_check --out card.jsonl`.

Needs the project installed (`pip install -e ".[test]"`) with a torch that has CUDA. Stages run side by side, each in a
process of its own with a time limit: they compile together and take turns where they measure. What a stage finds is a
line of the file as soon as it is known, so that one that hangs or fails costs its limit and no more.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np

HERE = Path(__file__).parent
# The last one by MuJoCo's law of contacts and limits, which the others have as springs.
BODIES = ("cartpole", "ant", "humanoid", "humanoid_mtu", "gym_ant")
# Taichi's settings to compare with the project's own, and for which bodies.
VARIANTS = {
    "block128": ({"default_gpu_block_dim": 128}, ("ant", "humanoid")),
    "not-optimised": ({"advanced_optimization": False, "cfg_optimization": True}, ("ant", "humanoid", "humanoid_mtu")),
}


def stages(device: str, bodies: list[str], variants: list[str], sizes: str, parts: set[str]) -> dict[str, list[str]]:
    """Arguments of every stage's process, by name."""
    every = {}
    both = dict.fromkeys(("cpu", device))
    if "numbers" in parts:
        for precision in ("f32", "f64"):
            for where in both:
                for body in bodies:
                    every[f"numbers-{precision}-{where}-{body}"] = ["numbers", where, body, "--precision", precision]
    if "differences" in parts:
        for body in bodies:
            every[f"differences-{body}"] = ["differences", device, body, "--precision", "f64"]
    if "hazards" in parts:
        every["hazards"] = ["hazards", device, "ant"]
    if "speed" in parts:
        for body in bodies:
            # kernels are compiled for a number of worlds, in processes of their own at the same time
            for size in sizes.split(","):
                every[f"speed-{body}-{size}"] = ["speed", device, body, "--sizes", size]
        for variant in variants:
            settings, some = VARIANTS[variant]
            for body in set(bodies).intersection(some):
                command = ["speed", device, body, "--sizes", sizes, "--settings", json.dumps(settings)]
                every[f"speed-{variant}-{body}"] = command
    for part in parts & {"epoch", "calls"}:
        for body in bodies[1:]:
            every[f"{part}-{body}"] = [part, device, body, "--sizes", sizes]
    return every


def compare(folder: Path, device: str, bodies: list[str], say) -> None:
    """Largest differences of what the card computed from what the CPU did, relative to a quantity's largest entry."""
    for precision in ("f32", "f64"):
        for body in bodies:
            try:
                want, found = (np.load(folder / f"{body}-{precision}-{where}.npz") for where in ("cpu", device))
            except FileNotFoundError as missing:
                say({"stage": "compare", "body": body, "precision": precision, "failed": str(missing)})
                continue
            worst = {}
            for key in want.files:
                difference = np.abs(found[key].astype(float) - want[key]).max() / max(np.abs(want[key]).max(), 1e-30)
                worst[key] = float(f"{difference:.2g}")
            largest = max(worst, key=lambda key: np.nan_to_num(worst[key], nan=np.inf))
            say({"stage": "compare", "body": body, "precision": precision, "worst": [largest, worst[largest]]} | worst)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default="card.jsonl", help="Facts, one JSON object a line.")
@click.option("--device", default="cuda", help="cuda, or cpu to try the check itself.")
@click.option("--limit", default=480, help="Seconds for all stages.")
@click.option("--bodies", default=",".join(BODIES))
@click.option("--sizes", default="64,1024,4096,16384", help="Numbers of worlds.")
@click.option("--variants", default="", help=f"Of {', '.join(VARIANTS)}.")
@click.option("--parts", default="numbers,differences,hazards,speed,epoch,calls")
def main(out, device, limit, bodies, sizes, variants, parts):
    """Checks a CUDA card."""
    begin, folder = time.perf_counter(), out.absolute().with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)

    def say(facts: dict) -> None:
        line = json.dumps(facts)
        print(line[:400], flush=True)
        with open(out, "a") as file:
            file.write(line + "\n")

    bodies = bodies.split(",")
    chosen = [name for name in variants.split(",") if name]
    running = {}
    for name, arguments in stages(device, bodies, chosen, sizes, set(parts.split(","))).items():
        command = [sys.executable, str(HERE / "stage.py"), *arguments, "--out", str(out.absolute())]
        log = open(folder / f"{name}.log", "w")  # noqa: SIM115
        running[name] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    while running and time.perf_counter() - begin < limit:
        for name, process in list(running.items()):
            if process.poll() is None:
                continue
            del running[name]
            if process.returncode:
                text = (folder / f"{name}.log").read_text()[-1500:]
                say({"stage": name, "failed": process.returncode, "last": text})
        time.sleep(0.2)
    for name, process in running.items():
        process.kill()
        say({"stage": name, "failed": "time limit", "last": (folder / f"{name}.log").read_text()[-500:]})
    if "numbers" in parts:
        compare(folder, device, bodies, say)
    say({"stage": "end", "seconds": round(time.perf_counter() - begin, 1)})


main()
