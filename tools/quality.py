"""How far a window's gradient can be trusted, by the window's length: `python tools/gradients.py --quality`.

The gradient is that of the actor's loss (equation 5 of Xu et al. 2022) in the policy's parameters: it is what the
learner steps along, and unlike one in the actions it can be compared between batches, whose actions have nothing to do
with each other. No value is added at a window's end, so that it is the simulator's gradient and no critic's.

Cosine: the worlds are halved, and each half has a gradient of its own; the nearer their cosine is to 1, the less of
it is noise. Slope: the loss's change from one side of the policy to the other, along the gradient of all worlds, over
what the gradient promises. At a very small step that asks whether the gradient is right; at one as long as a learner's,
whether it is of use. All windows are in f64 and begin where the policy itself has led.
"""

from __future__ import annotations

import copy
import csv
import math
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from shac import seeding
from shac.algos.networks import Policy, build_actor
from shac.algos.normalizer import Normalizer
from shac.algos.window import actor_loss, rollout
from shac.env import Env
from shac.errors import NonFiniteError
from shac.models import load_task
from shac.runs.checkpoint import load_run
from shac.runs.config import resolve
from shac.runs.settings import Settings

BODIES = ("cartpole", "hopper", "halfcheetah", "ant", "humanoid", "humanoid_mtu", "humanoid_mtu_full")
LENGTHS = (4, 8, 16, 32)
POLICIES = Path(__file__).parents[1] / "docs" / "figures" / "policies"
# Lengths of a step along the gradient, relative to the norm of the policy's parameters: one for the derivative, and one
# of a learner (docs/learning.md, Muon: after 0.03 to 0.1 of a norm of 38 an episode begins to fall).
SMALL, LEARNERS = 1e-6, 1e-3


class Halves(nn.Module):
    """An actor for the first half of the worlds and its copy for the second: one backward pass gives both gradients."""

    def __init__(self, actor: nn.Module):
        super().__init__()
        self.actors = nn.ModuleList([actor, copy.deepcopy(actor)])

    def perturbation(self, eps: torch.Tensor) -> torch.Tensor | None:
        parts = [actor.perturbation(part) for actor, part in zip(self.actors, eps.chunk(2, dim=1))]
        return None if parts[0] is None else torch.cat(parts, dim=1)

    def forward(self, obs: torch.Tensor, perturbation: torch.Tensor | None = None) -> torch.Tensor:
        noise = (None, None) if perturbation is None else perturbation.chunk(2)
        return torch.cat([actor(part, own) for actor, part, own in zip(self.actors, obs.chunk(2), noise)])

    def move(self, parameters: torch.Tensor) -> None:
        """Gives both actors the parameters in a flat vector."""
        for actor in self.actors:
            vector_to_parameters(parameters, actor.parameters())

    def gradients(self, loss: torch.Tensor) -> list[torch.Tensor]:
        """Gradient of a loss in either actor's parameters, flat."""
        parts = [list(actor.parameters()) for actor in self.actors]
        found = torch.autograd.grad(loss, parts[0] + parts[1])
        return [parameters_to_vector(found[: len(parts[0])]), parameters_to_vector(found[len(parts[0]) :])]


def slope(loss: Callable[[torch.Tensor], float], here: torch.Tensor, gradient: torch.Tensor, step: float) -> float:
    """The central difference of `loss` along `gradient`, over the gradient's norm.

    Args:
      loss: of a flat vector of parameters.
      here: the parameters.
      gradient: what is said to be the loss's gradient there.
      step: length of a step to either side, relative to the norm of `here`.
    """
    norm, length = gradient.norm(), step * here.norm()
    moved = length / norm * gradient
    return (loss(here + moved) - loss(here - moved)) / (2 * length * norm).item()


def examine(env: Env, policy: Policy, eps: torch.Tensor, gamma: float) -> dict[str, float]:
    """Quality of the gradient of one window.

    Args:
      env: an even number of worlds; it stands at the window's end afterwards.
      policy: what acts.
      eps: its standard normal noise, (T, num_envs, num_actions).
      gamma: the discount.

    Returns:
      "cosine", and "slope" and "slope_learners" for a step of either length; all NaN if a number was not finite.
    """
    begin, actor = env.state_dict(), Halves(policy.actor)
    here = parameters_to_vector(policy.actor.parameters()).detach().clone()

    def loss(parameters: torch.Tensor) -> torch.Tensor:
        actor.move(parameters)
        env.load_state_dict(begin)
        return actor_loss(rollout(env, actor, policy.normalize, eps), gamma)

    def value(parameters: torch.Tensor) -> float:
        with torch.no_grad():
            return loss(parameters).item()

    try:
        # last of all the policy itself, so that the environment goes on from there
        first, second = actor.gradients(loss(here))
        slopes = [slope(value, here, first + second, step) for step in (SMALL, LEARNERS)]
        value(here)
    except (NonFiniteError, ArithmeticError):
        actor.move(here)
        return dict.fromkeys(("cosine", "slope", "slope_learners"), math.nan)
    cosine = torch.cosine_similarity(first, second, dim=0).item()
    return {"cosine": cosine, "slope": slopes[0], "slope_learners": slopes[1]}


def summary(found: list[dict[str, float]]) -> dict[str, float]:
    """Of several windows: the cosines' mean and its standard error, the slopes' medians, and how many were finite.

    A median, since a world that falls on one side of the policy only is a jump, over a very small step a large one.
    """
    finite = [row for row in found if not math.isnan(row["cosine"])]
    if len(finite) < 2:
        return {"windows": len(finite), **dict.fromkeys(("cosine", "error", "slope", "slope_learners"), math.nan)}
    cosines = [row["cosine"] for row in finite]
    middle = {name: statistics.median(row[name] for row in finite) for name in ("slope", "slope_learners")}
    error = statistics.stdev(cosines) / math.sqrt(len(cosines))
    return {"windows": len(finite), "cosine": statistics.fmean(cosines), "error": error, **middle}


def measure(env: Env, policy: Policy, gamma: float, windows: int, warm_up: int, seed: int) -> list[dict[str, float]]:
    """One row for each length of a window, of `windows` windows that begin in the same states for every length."""
    generator = seeding.generator(seed, "exploration", env.device)
    for _ in range(warm_up):
        env.step(policy(env.obs, generator))
    found: dict[int, list] = {length: [] for length in LENGTHS}
    for _ in range(windows):
        begin = env.state_dict()
        shape = max(LENGTHS), env.num_envs, env.task.num_actions
        eps = torch.randn(shape, generator=generator, dtype=env.dtype, device=env.device)
        for length, rows in found.items():
            env.load_state_dict(begin)
            rows.append(examine(env, policy, eps[:length], gamma))
    return [{"steps": length, **summary(rows)} for length, rows in found.items()]


def best_of(run: Path, num_envs: int, seed: int) -> tuple[Env, Policy, Settings]:
    """The environment of a run's task, its best policy, and its settings."""
    task, policy, config = load_run(run, "best")
    env = Env(task, num_envs, seed=seed, substeps=config.substeps, theta=config.theta)
    return env, policy.to(env.device, env.dtype), config


def policies(models, runs, num_envs: int, seed: int) -> Iterator[tuple[str, str, Env, Policy, float]]:
    """Body, "untrained", "trained" or a run's name, environment, policy and discount, one after the other.

    Untrained is what a training of the preset begins with, trained what docs/figures/policies has of the body; of a run
    it is the best policy.
    """
    for model in models:
        task = load_task(model)
        config = resolve(task, "shac", {"seed": seed})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeding.stream_seed(seed, "weights"))
            actor = build_actor(task, config)
        blank = Policy(actor, Normalizer(task.num_inputs).snapshot(torch.get_default_dtype()))
        candidates = [("untrained", blank, config)]
        run = POLICIES / f"{model}-shac-0"
        if run.is_dir():
            _, policy, config = load_run(run, "best")
            candidates.append(("trained", policy, config))
        env = Env(task, num_envs, seed=seed, substeps=config.substeps, theta=config.theta)
        for name, policy, settings in candidates:
            env.reset(seed=seed)
            yield model, name, env, policy.to(env.device, env.dtype), settings.gamma
    for run in runs:
        env, policy, config = best_of(run, num_envs, seed)
        yield Path(config.model).stem, run.resolve().name, env, policy, config.gamma


def markdown(rows: list[dict]) -> str:
    """Two tables, of cosines and of slopes, with a row for each body and policy."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        groups.setdefault((row["body"], row["policy"]), []).append(row)
    head = (
        "| body | policy | "
        + " | ".join(f"T = {length}" for length in LENGTHS)
        + " |\n|---|---|"
        + "---|" * len(LENGTHS)
    )
    formats = (
        ("cosine of two half batches", lambda row: f"{row['cosine']:.2f} ± {row['error']:.2f}"),
        (f"slope, {SMALL:g} / {LEARNERS:g}", lambda row: f"{row['slope']:.4f} / {row['slope_learners']:.2f}"),
    )
    tables = []
    for title, cell in formats:
        lines = [f"| {body} | {policy} | {' | '.join(map(cell, group))} |" for (body, policy), group in groups.items()]
        tables.append("\n".join([f"{title}:", "", head, *lines]))
    return "\n\n".join(tables)


def report(models, runs, num_envs: int, windows: int, warm_up: int, seed: int, out: Path | None) -> None:
    """Measures, prints Markdown, and writes `out`, a CSV file, anew after each policy."""
    if num_envs % 2 or windows < 2:
        raise click.UsageError(
            "--quality halves the worlds and averages windows: --num-envs even, --windows at least 2"
        )
    if not models and not runs:
        models = BODIES
    rows: list[dict] = []
    for body, name, env, policy, gamma in policies(models, runs, num_envs, seed):
        for row in measure(env, policy, gamma, windows, warm_up, seed):
            rows.append({"body": body, "policy": name, "worlds": num_envs, **row})
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            with open(out, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, rows[0], lineterminator="\n")
                writer.writeheader()
                writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
        click.echo(f"{body}, {name}: done", err=True)
    click.echo(markdown(rows))
