"""Settings of a training run: one dataclass, its presets and overrides."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from shac.env import Task
from shac.errors import UserError, nearest
from taichi_sim.types import MOST_SUBSTEPS

# The part of the epochs that `final_substeps` is for: 150 of 2,000 sufficed for Hopper and Humanoid (docs/substeps.md).
FINISH = 0.075

# More of anything is a slip of the hand, and beyond what libraries count with.
MOST = 10**18
# OpenMP asks for memory for every thread at once, and ends the process if there is none.
MOST_THREADS = 1024
# Beyond, the logarithm's exponential is nothing, or all, beside what tanh can take in single precision.
MOST_LOG_STD = 20

Algo = Literal["shac", "bptt"]
ALGOS = typing.get_args(Algo)


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run. Symbols in brackets are the paper's (Xu et al. 2022, algorithm 1)."""

    model: str = ""
    """Built-in model, or absolute path of a Python file that defines one."""
    algo: Algo = "shac"
    """"shac", or "bptt": the same actor update without a critic, that is, without a value at the window's end."""
    seed: int = 0
    """Seed of everything random in the run."""
    device: str | None = None
    """"cpu" or "cuda"; None: CUDA if there is one."""
    init: str | None = None
    """Run folder: begin with the networks that it ended with. Optimisers, critic's target and worlds begin anew."""
    threads: int = 1
    """Threads for torch's operations on the CPU. Networks of this size do not gain from more."""

    num_envs: int = 64
    """Parallel worlds [N]."""
    horizon: int = 32
    """Control steps in a window, through which gradients flow [h]."""
    max_epochs: int = 2000
    """Epochs: one window of all worlds, one actor step and one critic fit each."""
    max_cpu_seconds: float | None = None
    """Ends the run, complete, after the epoch with which its processor time (`cpu_seconds` in metrics.csv) reaches this
    [s], however many epochs are left; schedules reach as far as they then have. None: epochs alone count."""
    gamma: float = 0.99
    """Discount."""
    stochastic_init: bool = True
    """Draw initial states at random."""
    substeps: int | None = None
    """Substeps that a control step is divided into; None: as the model says."""
    final_substeps: int | None = None
    """Substeps in the last 7.5 % of the epochs, so that no policy lives on the errors of longer ones. None: as many as
    before."""
    theta: float | None = None
    """Implicitness of the substep, 0: explicit; None: as the model says."""
    stagger: bool = False
    """Let the worlds' first episodes end at random times, so that a window holds all phases of a task that never fails
    instead of one after the other. Those shorter episodes do not count."""
    early_limits: float = 0.0
    """Fraction of the later episodes that end at random times too: worlds that fail together would go on together, and
    no window between would hold a beginning."""

    actor: Literal["stochastic", "deterministic"] = "stochastic"
    """Whether actions are sampled during training."""
    actor_units: tuple[int, ...] = (128, 64, 32)
    """Widths of the actor's hidden layers."""
    init_log_std: float = -1.0
    """Initial logarithm of the action's standard deviation, before tanh."""
    actor_optimizer: Literal["adam", "muon"] = "adam"
    """"adam", as in the paper, or "muon": Jordan et al.'s Muon for the matrices of the actor, Adam for the rest."""
    actor_lr: float = 2e-3
    """Learning rate of the actor at the first epoch."""
    actor_average: int = 50
    """Epochs over which the actor's weights are averaged to make the policy that a run leaves, but at most a tenth of
    those so far, or of those with `final_substeps`; 1: that policy is the last actor.
    Learning does not depend on it."""
    normalize_obs: bool = True
    """Standardise observations by their running mean and variance."""

    critic_units: tuple[int, ...] = (64, 64)
    """Widths of the critic's hidden layers."""
    critic_lr: float = 2e-3
    """Learning rate of the critic at the first epoch."""
    critic_iterations: int = 16
    """Passes over the window when the critic is fitted."""
    critic_batches: int = 4
    """Minibatches in a pass: consecutive slices of the window's steps."""
    td_lambda: float = 0.95
    """Weight of longer returns in the critic's targets [lambda]."""
    target_alpha: float = 0.2
    """Weight of the OLD target critic in its update at an epoch's end [alpha]."""
    failure_gradient: bool = True
    """Let the critic's gradient flow into the states in which episodes fail, although no value counts there. false, as
    in the paper: a window in which a world fails has no gradient that would keep it from failing."""
    target_rampup: float | None = None
    """The target critic averages over 1 / (1 - alpha) epochs, but at most over this fraction of those so far, or of
    those with `final_substeps`, so that it forgets the untrained critic. None: alpha holds from the beginning."""

    lr_schedule: Literal["linear", "exponential", "constant"] = "linear"
    """Course of both learning rates: linear and exponential fall to `final_lr` at `max_epochs`."""
    final_lr: float = 1e-5
    """Learning rate at the end of a schedule that is not constant."""
    adam_betas: tuple[float, float] = (0.7, 0.95)
    """Decay rates of Adam's moments."""
    max_grad_norm: float = 1.0
    """Gradients of actor and critic are scaled down to this norm."""

    save_interval: int = 10
    """Epochs between two checkpoints."""
    snapshots: tuple[int, ...] = ()
    """Epochs after which the whole state is kept for good, as checkpoints/epoch-N.pt; 0: before the first."""

    def __post_init__(self) -> None:
        counts = "num_envs", "horizon", "max_epochs", "actor_average", "critic_iterations", "critic_batches"
        for field in (*counts, "save_interval"):
            _require(getattr(self, field) >= 1, self, field, "at least 1")
            _require(getattr(self, field) <= MOST, self, field, f"at most {MOST:.0e}")
        _require(1 <= self.threads <= MOST_THREADS, self, "threads", f"from 1 to {MOST_THREADS}")
        for field in ("max_grad_norm", "actor_lr", "critic_lr"):
            _require(getattr(self, field) > 0, self, field, "greater than 0")
        for field in ("gamma", "td_lambda", "target_alpha", "early_limits"):
            _require(0 <= getattr(self, field) <= 1, self, field, "between 0 and 1")
        _require(self.max_cpu_seconds is None or self.max_cpu_seconds > 0, self, "max_cpu_seconds", "greater than 0")
        _require(self.target_rampup is None or self.target_rampup > 0, self, "target_rampup", "greater than 0")
        for field in ("actor_units", "critic_units"):
            _require(all(1 <= width <= MOST for width in getattr(self, field)), self, field, "positive widths")
        _require(all(0 <= beta < 1 for beta in self.adam_betas), self, "adam_betas", "between 0 and 1")
        for field in ("substeps", "final_substeps"):
            value = getattr(self, field)
            _require(value is None or 1 <= value <= MOST_SUBSTEPS, self, field, f"from 1 to {MOST_SUBSTEPS:,}")
        _require(self.theta is None or 0 <= self.theta <= 1, self, "theta", "between 0 and 1")
        _require(self.final_lr >= 0, self, "final_lr", "at least 0")
        if self.lr_schedule == "exponential":
            _require(self.final_lr > 0, self, "final_lr", "greater than 0 with lr_schedule=exponential")
        limit = MOST_LOG_STD
        _require(-limit <= self.init_log_std <= limit, self, "init_log_std", f"from {-limit} to {limit}")
        _require(self.seed >= 0, self, "seed", "at least 0")
        _require(all(epoch >= 0 for epoch in self.snapshots), self, "snapshots", "epochs from 0 up")
        _require(self.device in (None, "cpu", "cuda"), self, "device", "cpu or cuda")
        _require(self.critic_batches <= self.horizon, self, "critic_batches", f"at most horizon = {self.horizon}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            finite = all(math.isfinite(x) for x in numbers if isinstance(x, float))
            _require(finite, self, field.name, "finite")

    @property
    def finish(self) -> int | None:
        """The first epoch with `final_substeps`; None without them."""
        return None if self.final_substeps is None else self.max_epochs - round(FINISH * self.max_epochs)

    @property
    def policy_substeps(self) -> int | None:
        """Substeps that the run's policy is made for; None: as the model says."""
        return self.final_substeps or self.substeps


def _require(fulfilled: bool, config: Config, field: str, what: str) -> None:
    if not fulfilled:
        raise UserError(f"setting {field} must be {what}, got {getattr(config, field)!r}")


def resolve(task: Task, algo: str, *layers: Mapping[str, Any]) -> Config:
    """The settings of a run: defaults, then the task's preset, then `layers`, later ones winning.

    Raises:
      UserError: a setting is unknown, or its value is not of its type or out of range.
    """
    merged: dict[str, Any] = {}
    for layer in (_presets(task).get(algo, {}), *layers, {"algo": algo}):
        merged.update(parse(layer))
    return Config(**merged)


def _presets(task: Task) -> dict[str, dict[str, Any]]:
    """A task's presets; all of them are looked at, whichever is wanted."""
    name = type(task).__name__
    for algo, preset in task.presets.items():
        if algo not in ALGOS:
            raise UserError(f"{name}.presets has {algo!r}, which is no algorithm; {nearest(str(algo), ALGOS)}")
        try:
            parse(preset)
        except UserError as error:
            raise UserError(f"{name}.presets[{algo!r}]: {error}") from None
    return task.presets


def parse(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with their values converted to their fields' types; texts are read as the command line gives them."""
    fields = typing.get_type_hints(Config)
    for name in settings:
        if name not in fields:
            raise UserError(f"there is no setting {name!r}; {nearest(str(name), fields)}")
    parsed = {}
    for name, value in settings.items():
        try:
            parsed[name] = _convert(value, fields[name])
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
            raise UserError(f"setting {name} takes {_describe(fields[name])}, got {value!r}") from None
    return parsed


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """The settings in texts of the form `name=value`, as `--set` takes them."""
    settings = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set takes name=value, got {text!r}")
        settings[name.strip().replace("-", "_")] = value.strip()
    return parse(settings)


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings in a YAML file."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold `name: value` lines, but its content is a {type(content).__name__}")
    try:
        return parse(content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def to_yaml(config: Config) -> str:
    """The settings as a YAML document that `read_yaml` reads back."""
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}
    return yaml.safe_dump(plain, sort_keys=False)


def _convert(value: Any, kind: Any) -> Any:
    """`value` as a `kind`, without guessing: no truth from numbers, no integers from fractions."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if value in (None, "none", "null") else _convert(value, arguments[0])
    if origin is Literal:
        if value not in arguments:
            raise ValueError
        return value
    if origin is tuple:
        items = [item for item in value.strip("()[]").split(",") if item.strip()] if isinstance(value, str) else value
        converted = tuple(_convert(item, arguments[0]) for item in items)
        if arguments[-1] is not Ellipsis and len(converted) != len(arguments):
            raise ValueError
        return converted
    if kind is bool:
        return value if isinstance(value, bool) else {"true": True, "false": False}[value.lower()]
    if isinstance(value, bool) or not isinstance(value, (kind, int, str)):
        raise TypeError
    return kind(value)


def _describe(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return f"{_describe(arguments[0])} or none"
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin is tuple:
        count = "" if arguments[-1] is Ellipsis else f"{len(arguments)} "
        return f"a list of {count}{'whole numbers' if arguments[0] is int else 'numbers'}, such as 1,2"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[kind]
