"""How many substeps a body's gradients need, and which theta: the table from which the presets are chosen.

    python tools/gradients.py --model ant --substeps 2 --substeps 4 --theta 0.6
    python tools/gradients.py --run runs/mine --theta 0.6    # along the gait of a trained policy
    python tools/gradients.py --quality --csv quality.csv    # how much of a gradient is noise: see quality.py
    python tools/gradients.py --quality --run runs/mine      # the same along a policy of yours

The return of 32 steps is differentiated with respect to the actions, in a reference of 64 explicit substeps, from
states that random actions reach in one second (`--warm-up`: a body that has fallen by then wants fewer steps) or along
a policy's motion (`--run`). For each S and theta: the largest norm of a world's gradient, over the reference's; the
cosine between the batch's mean gradient and the reference's; and the time of one gradient.
"""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

import click
import quality
import torch
from rich.console import Console
from rich.table import Table

import shac
import taichi_sim as ts

REFERENCE = 64, 0.0
HORIZON, GAMMA = 32, 0.99
# Actions are held this many steps: faster ones average out before the body moves.
HOLD = 4


def actions(env, steps: int, scale: float, generator: torch.Generator) -> torch.Tensor:
    """Random actions (steps, num_envs, num_actions) from -scale to scale, each held for HOLD steps."""
    shape = -(-steps // HOLD), env.num_envs, env.task.num_actions
    drawn = scale * (2 * torch.rand(shape, generator=generator, dtype=env.dtype) - 1)
    return drawn.repeat_interleave(HOLD, dim=0)[:steps].to(env.device)


def random_window(env, warm_up: int, scale: float, seed: int) -> tuple[ts.State, torch.Tensor]:
    """The state that `warm_up` random actions reach in the reference, and HORIZON further ones."""
    acts = actions(env, warm_up + HORIZON, scale, torch.Generator().manual_seed(seed))
    state = env.state
    env.sim.model.opt.divide(*REFERENCE)
    with torch.no_grad():
        for action in acts[:warm_up]:
            state = env.simulate(state, env.task.control(action))
    return state, acts[warm_up:]


@torch.no_grad()
def policy_window(env, policy, warm_up: int, seed: int) -> tuple[ts.State, torch.Tensor]:
    """The state of running episodes after `warm_up` steps of a policy, and HORIZON further actions, all sampled."""
    generator = torch.Generator(env.device).manual_seed(seed)
    for _ in range(warm_up):
        env.step(policy(env.obs, generator))
    start, acts = env.state, []
    state, obs = env.state, env.obs
    for _ in range(HORIZON):
        acts.append(policy(obs, generator))
        state = env.simulate(state, env.task.control(acts[-1]))
        obs = env.task.observe(state, acts[-1])
    return start, torch.stack(acts)


def beginnings(models, runs, num_envs: int, warm_up: int, scale: float, seed: int):
    """Name, and environment, state and actions, of one model or run after the other."""
    for name in models or (() if runs else ("hopper", "halfcheetah", "ant", "humanoid")):
        env = shac.make(name, num_envs=num_envs, seed=seed)
        yield name, (env, *random_window(env, warm_up, scale, seed))
    for run in runs:
        env, policy, _ = quality.best_of(run, num_envs, seed)
        yield str(run), (env, *policy_window(env, policy, warm_up, seed))


def gradient(env, state: ts.State, acts: torch.Tensor, substeps: int, theta: float) -> tuple[torch.Tensor, float]:
    """Gradient of the discounted return in `acts`, same shape; and the seconds it took. Terminations do not count."""
    env.sim.model.opt.divide(substeps, theta)
    acts = acts.clone().requires_grad_()
    begin = time.perf_counter()
    total = 0.0
    for t, action in enumerate(acts):
        state = env.simulate(state, env.task.control(action))
        obs = env.task.observe(state, action)
        total = total + GAMMA**t * env.task.reward(state, obs, action).sum()
    total.backward()
    return acts.grad, time.perf_counter() - begin


def compare(env, state: ts.State, acts: torch.Tensor, counts, thetas) -> list[dict]:
    """One row for each number of substeps and theta; without "cosine" where a number is not finite."""
    reference, _ = gradient(env, state, acts, *REFERENCE)
    largest, rows = norms(reference).max(), []
    for substeps, theta in itertools.product(counts, thetas):
        row = {"substeps": substeps, "theta": theta, "reference": largest.item()}
        try:
            found, row["seconds"] = gradient(env, state, acts, substeps, theta)
            row["largest"] = (norms(found).max() / largest).item()
            row["cosine"] = torch.cosine_similarity(mean(found), mean(reference), dim=0).item()
        except FloatingPointError:
            pass
        rows.append(row)
    return rows


def show(title: str, rows: list[dict]) -> None:
    table = Table("S", "theta", "largest gradient / reference's", "cosine", "time [ms]", title=title)
    for row in rows:
        cells = ("not finite", "-", "-")
        if "cosine" in row:
            cells = f"{row['largest']:.3g}", f"{row['cosine']:.3f}", f"{1e3 * row['seconds']:.0f}"
        table.add_row(str(row["substeps"]), f"{row['theta']:g}", *cells)
    Console().print(table, f"reference: S = 64, explicit; its largest gradient {rows[0]['reference']:.3g}")


@click.command()
@click.option("--model", "models", multiple=True, help="A task.  [default: hopper, halfcheetah, ant, humanoid]")
@click.option("--run", "runs", multiple=True, type=click.Path(exists=True, path_type=Path), help="A trained policy.")
@click.option("--substeps", "counts", multiple=True, type=int, default=[2, 3, 4, 6, 8, 16], show_default=True)
@click.option("--theta", "thetas", multiple=True, type=float, default=[0.0, 0.6, 1.0], show_default=True)
@click.option("--num-envs", default=64, show_default=True)
@click.option("--warm-up", default=60, show_default=True, help="Control steps before the gradient's.")
@click.option("--scale", default=0.6, show_default=True, help="Largest random action.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per row.")
@click.option("--quality", "only_quality", is_flag=True, help="Measure noise and slopes by length of window, instead.")
@click.option("--windows", default=8, show_default=True, help="Windows of --quality, one after the other.")
@click.option("--csv", "out", type=click.Path(dir_okay=False, path_type=Path), help="Of --quality: a file to write.")
def main(models, runs, counts, thetas, num_envs, warm_up, scale, seed, as_json, only_quality, windows, out):
    """Compare gradients of few implicit substeps with those of many explicit ones."""
    ts.init(precision="f64")
    if only_quality:
        quality.report(models, runs, num_envs, windows, warm_up, seed, out)
        return
    for name, window in beginnings(models, runs, num_envs, warm_up, scale, seed):
        rows = compare(*window, counts, thetas)
        if as_json:
            for row in rows:
                click.echo(json.dumps({"model": name, **row}))
        else:
            show(name, rows)


def norms(gradients: torch.Tensor) -> torch.Tensor:
    """Norm of each world's gradient, (num_envs,)."""
    return gradients.square().sum((0, 2)).sqrt()


def mean(gradients: torch.Tensor) -> torch.Tensor:
    """The batch's mean gradient, flat."""
    return gradients.mean(1).flatten()


if __name__ == "__main__":
    main()
