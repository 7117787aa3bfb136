"""Time of `ts.linearize` beside MuJoCo's `mjd_transitionFD`: Gymnasium's humanoid on the ground, one core each.

python tools/linearize.py            # states at once: 1, 8, 64, 240
"""

from __future__ import annotations

import functools
import importlib.util
import statistics
import time
from pathlib import Path

import click
import mujoco
import numpy as np
import torch

import taichi_sim as ts

STEPS_BEFORE, REPEAT = 300, 7


def humanoid() -> mujoco.MjModel:
    found = importlib.util.find_spec("gymnasium.envs.mujoco")
    if found is None or found.origin is None:
        raise click.ClickException("the humanoid is Gymnasium's: pip install 'gymnasium[mujoco]'")
    spec = mujoco.MjSpec.from_file(str(Path(found.origin).parent / "assets" / "humanoid.xml"))
    # MuJoCo has no such matrices for the file's Runge-Kutta
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_EULER
    return spec.compile()


def milliseconds(call) -> float:
    """Median."""
    call()
    times = []
    for _ in range(REPEAT):
        begin = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


@click.command(help=__doc__)
@click.argument("states", type=click.IntRange(1), nargs=-1)
def main(states: tuple[int, ...]) -> None:
    torch.set_num_threads(1)
    ts.init(num_threads=1)
    mj_model = humanoid()
    data, rng = mujoco.MjData(mj_model), np.random.default_rng(0)
    for _ in range(STEPS_BEFORE):
        data.ctrl[:] = rng.uniform(-0.3, 0.3, mj_model.nu)
        mujoco.mj_step(mj_model, data)
    size = 2 * mj_model.nv + mj_model.na
    A, B = np.zeros((size, size)), np.zeros((size, mj_model.nu))
    theirs = milliseconds(lambda: mujoco.mjd_transitionFD(mj_model, data, 1e-6, False, A, B, None, None))
    click.echo(f"mjd_transitionFD, one-sided differences: {theirs:.2f} ms a state, {data.ncon} contacts")
    model = ts.load(mj_model)
    for num in states or (1, 8, 64, 240):
        sim = ts.Simulator(model, num)
        parts = (data.qpos, data.qvel, data.act, data.ctrl)
        *state, ctrl = (torch.tensor(part, dtype=sim.dtype).repeat(num, 1) for part in parts)
        ours = milliseconds(functools.partial(ts.linearize, sim, ts.State(*state), ctrl)) / num
        click.echo(f"linearize, {num} states at once: {ours:.2f} ms a state")


if __name__ == "__main__":
    main()
