"""How many substeps a body's gradients need, and which theta: the table from which the presets are chosen.

    python tools/gradients.py --model ant --substeps 2 --substeps 4 --theta 0.6

The return of 32 steps is differentiated with respect to the actions, from states that random actions reach in one
second (`--warm-up`: a body that has fallen by then wants fewer steps), in a reference of 64 explicit substeps. For each
S and theta: the largest norm of a world's gradient, over the reference's; the cosine between the batch's mean gradient
and the reference's; and the time of one gradient.
"""

from __future__ import annotations

import json
import time

import click
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


def gradient(env, state: ts.State, acts: torch.Tensor, substeps: int, theta: float) -> tuple[torch.Tensor, float]:
    """Gradient of the discounted return in `acts`, same shape; and the seconds it took. Terminations do not count."""
    env.sim.model.opt.divide(substeps, theta)
    acts = acts.clone().requires_grad_()
    begin = time.perf_counter()
    total = 0.0
    for t, action in enumerate(acts):
        state = env.sim.step(state, env.task.control(action))
        obs = env.task.observe(state, action)
        total = total + GAMMA**t * env.task.reward(state, obs, action).sum()
    total.backward()
    return acts.grad, time.perf_counter() - begin


@click.command()
@click.option("--model", "models", multiple=True, default=["hopper", "halfcheetah", "ant", "humanoid"])
@click.option("--substeps", "counts", multiple=True, type=int, default=[2, 3, 4, 6, 8, 16])
@click.option("--theta", "thetas", multiple=True, type=float, default=[0.0, 0.6, 1.0])
@click.option("--num-envs", default=64, show_default=True)
@click.option("--warm-up", default=60, show_default=True, help="Control steps before the gradient's.")
@click.option("--scale", default=0.6, show_default=True, help="Largest action.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per row.")
def main(models, counts, thetas, num_envs, warm_up, scale, seed, as_json):
    """Compare gradients of few implicit substeps with those of many explicit ones."""
    ts.init(precision="f64")
    for name in models:
        env = shac.make(name, num_envs=num_envs, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        acts = actions(env, warm_up + HORIZON, scale, generator)
        state = env.state
        env.sim.model.opt.divide(*REFERENCE)
        with torch.no_grad():
            for action in acts[:warm_up]:
                state = env.sim.step(state, env.task.control(action))
        acts = acts[warm_up:]
        reference, _ = gradient(env, state, acts, *REFERENCE)
        largest = norms(reference).max()
        table = Table("S", "theta", "largest gradient / reference's", "cosine", "time [ms]", title=name)
        for substeps in counts:
            for theta in thetas:
                row = {"model": name, "substeps": substeps, "theta": theta, "reference": largest.item()}
                try:
                    found, seconds = gradient(env, state, acts, substeps, theta)
                    row["largest"] = (norms(found).max() / largest).item()
                    row["cosine"] = torch.cosine_similarity(mean(found), mean(reference), dim=0).item()
                    row["seconds"] = seconds
                    cells = f"{row['largest']:.3g}", f"{row['cosine']:.3f}", f"{1e3 * seconds:.0f}"
                except FloatingPointError:
                    cells = "not finite", "-", "-"
                if as_json:
                    click.echo(json.dumps(row))
                table.add_row(str(substeps), f"{theta:g}", *cells)
        if not as_json:
            Console().print(table, f"reference: S = 64, explicit; its largest gradient {largest:.3g}")


def norms(gradients: torch.Tensor) -> torch.Tensor:
    """Norm of each world's gradient, (num_envs,)."""
    return gradients.square().sum((0, 2)).sqrt()


def mean(gradients: torch.Tensor) -> torch.Tensor:
    """The batch's mean gradient, flat."""
    return gradients.mean(1).flatten()


if __name__ == "__main__":
    main()
