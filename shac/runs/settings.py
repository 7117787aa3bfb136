"""Settings of a training run: one dataclass an algorithm, all fields with their defaults."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, get_args

from shac.errors import UserError
from taichi_sim.machine import cuda
from taichi_sim.option import MOST_SUBSTEPS

# The part of the epochs that `final_substeps` is for: 150 of 2,000 sufficed for Hopper and Humanoid (docs/substeps.md).
FINISH = 0.075

# More of anything is a slip of the hand, and beyond what libraries count with.
MOST = 10**18
# OpenMP asks for memory for every thread at once, and ends the process if there is none.
MOST_THREADS = 1024
# Beyond, the logarithm's exponential is nothing, or all, beside what tanh can take in single precision.
MOST_LOG_STD = 20

Algo = Literal["shac", "bptt", "ppo", "sac", "redq", "mbpo"]
ALGOS = get_args(Algo)
# Those that learn from the simulator's gradients; the others are the paper's baselines.
GRADIENT_ALGOS = ("shac", "bptt")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What every algorithm has. Symbols in brackets are the paper's (Xu et al. 2022, algorithm 1)."""

    model: str = ""
    """Built-in model, or absolute path of a Python file that defines one."""
    task: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The task's own settings."""
    algo: Algo = "shac"
    """"shac"; "bptt": the same actor update without a critic, that is, without a value at the window's end; or a
    baseline, which takes no gradient from the simulator: "ppo", "sac", "redq", "mbpo"."""
    seed: int = 0
    """Seed of everything random in the run."""
    device: str | None = None
    """"cpu", "cuda", "cuda:1" and so on, or "auto"; None: the CPU."""
    init: str | None = None
    """Run folder: begin with the networks that it ended with. Optimisers, targets and worlds begin anew."""
    threads: int = 1
    """Threads for torch's operations on the CPU. Networks of this size do not gain from more."""

    num_envs: int = 64
    """Parallel worlds [N]."""
    horizon: int = 32
    """Control steps of every world in an epoch; with gradients, the window through which they flow [h]."""
    max_epochs: int = 2000
    """Epochs."""
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

    actor_units: tuple[int, ...] = (128, 64, 32)
    """Widths of the actor's hidden layers."""
    actor_lr: float = 2e-3
    """Learning rate of the actor at the first epoch."""
    normalize_obs: bool = True
    """Standardise observations by their running mean and variance."""

    save_interval: int = 10
    """Epochs between two checkpoints."""
    snapshots: tuple[int, ...] = ()
    """Epochs after which the whole state is kept for good, as checkpoints/epoch-N.pt; 0: before the first."""

    def __post_init__(self) -> None:
        self._require(SETTINGS[self.algo] is type(self), "algo", f"one with settings of class {type(self).__name__}")
        self._require_counts("num_envs", "horizon", "max_epochs", "save_interval")
        self._require(1 <= self.threads <= MOST_THREADS, "threads", f"from 1 to {MOST_THREADS}")
        self._require_positive("actor_lr")
        self._require_fractions("gamma", "early_limits")
        self._require_positive_or_none("max_cpu_seconds")
        self._require_widths("actor_units")
        for field in ("substeps", "final_substeps"):
            value = getattr(self, field)
            self._require(value is None or 1 <= value <= MOST_SUBSTEPS, field, f"from 1 to {MOST_SUBSTEPS:,}")
        self._require(self.theta is None or 0 <= self.theta <= 1, "theta", "between 0 and 1")
        self._require(self.seed >= 0, "seed", "at least 0")
        self._require(all(epoch >= 0 for epoch in self.snapshots), "snapshots", "epochs from 0 up")
        try:
            cuda.parse(self.device)
        except ValueError:
            self._require(False, "device", "cpu, cuda, cuda:1 and so on, or auto")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            finite = all(math.isfinite(x) for x in numbers if isinstance(x, float))
            self._require(finite, field.name, "finite")

    @property
    def finish(self) -> int | None:
        """The first epoch with `final_substeps`; None without them."""
        return None if self.final_substeps is None else self.max_epochs - round(FINISH * self.max_epochs)

    @property
    def policy_substeps(self) -> int | None:
        """Substeps that the run's policy is made for; None: as the model says."""
        return self.final_substeps or self.substeps

    def _require(self, fulfilled: bool, field: str, what: str) -> None:
        if not fulfilled:
            raise UserError(f"setting {field} must be {what}, got {getattr(self, field)!r}")

    def _require_counts(self, *fields: str) -> None:
        for field in fields:
            self._require(getattr(self, field) >= 1, field, "at least 1")
            self._require(getattr(self, field) <= MOST, field, f"at most {MOST:.0e}")

    def _require_positive(self, *fields: str) -> None:
        for field in fields:
            self._require(getattr(self, field) > 0, field, "greater than 0")

    def _require_positive_or_none(self, *fields: str) -> None:
        self._require_positive(*(field for field in fields if getattr(self, field) is not None))

    def _require_fractions(self, *fields: str) -> None:
        for field in fields:
            self._require(0 <= getattr(self, field) <= 1, field, "between 0 and 1")

    def _require_widths(self, field: str) -> None:
        self._require(all(1 <= width <= MOST for width in getattr(self, field)), field, "positive widths")


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Settings of SHAC and of BPTT, which has no critic."""

    actor: Literal["stochastic", "deterministic"] = "stochastic"
    """Whether actions are sampled during training."""
    init_log_std: float = -1.0
    """Initial logarithm of the action's standard deviation, before tanh."""
    symmetric: bool = False
    """The actor treats left and right alike: for the mirror image of an observation it does the mirror image of what it
    does. The task says what that is."""
    actor_optimizer: Literal["adam", "muon"] = "adam"
    """"adam", as in the paper, or "muon": Jordan et al.'s Muon for the matrices of the actor, Adam for the rest."""
    actor_average: int = 50
    """Epochs over which the actor's weights are averaged to make the policy that a run leaves, but at most a tenth of
    those so far, or of those with `final_substeps`; 1: that policy is the last actor.
    Learning does not depend on it."""

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
    """The target critic averages over 1 / (1 - alpha) epochs, but at most over this fraction of those so far, to forget
    the untrained critic; after rewards or substeps have become others, of those since, but at least over five.
    None: alpha holds from the beginning."""

    lr_schedule: Literal["linear", "exponential", "constant"] = "linear"
    """Course of both learning rates: linear and exponential fall to `final_lr` at `max_epochs`."""
    final_lr: float = 1e-5
    """Learning rate at the end of a schedule that is not constant."""
    adam_betas: tuple[float, float] = (0.7, 0.95)
    """Decay rates of Adam's moments."""
    max_grad_norm: float = 1.0
    """Gradients of actor and critic are scaled down to this norm."""
    adjoint_bound: float | None = None
    """Of what flows back through a control step no world has more than so many times the median of all worlds: for
    stiff contacts and long steps, where a few worlds are all of a gradient otherwise (docs/learning.md). None: no
    bound."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_counts("actor_average", "critic_iterations", "critic_batches")
        self._require_positive("max_grad_norm", "critic_lr")
        self._require_fractions("td_lambda", "target_alpha")
        self._require_widths("critic_units")
        self._require_positive_or_none("target_rampup", "adjoint_bound")
        self._require(all(0 <= beta < 1 for beta in self.adam_betas), "adam_betas", "between 0 and 1")
        self._require(self.final_lr >= 0, "final_lr", "at least 0")
        if self.lr_schedule == "exponential":
            self._require(self.final_lr > 0, "final_lr", "greater than 0 with lr_schedule=exponential")
        limit = MOST_LOG_STD
        self._require(-limit <= self.init_log_std <= limit, "init_log_std", f"from {-limit} to {limit}")
        self._require(self.critic_batches <= self.horizon, "critic_batches", f"at most horizon = {self.horizon}")


@dataclasses.dataclass(frozen=True)
class PPO(Settings):
    """Proximal policy optimisation: Schulman et al. 2017, with the settings of the paper's baseline."""

    algo: Algo = "ppo"
    num_envs: int = 1024
    max_epochs: int = 3000
    actor_lr: float = 3e-4
    """Learning rate of policy and value at the first epoch; `kl_target` moves it."""
    gae_lambda: float = 0.95
    """Weight of longer returns in advantages and targets [lambda; tau in rl_games]."""
    clip: float = 0.2
    """Ratios of probabilities count from 1 - clip to 1 + clip [epsilon]."""
    passes: int = 5
    """Passes over an epoch's steps ("mini epochs")."""
    minibatch: int = 8192
    """Steps in a minibatch; it divides num_envs * horizon."""
    kl_target: float | None = 0.008
    """The learning rate is divided by 1.5 after a minibatch whose policy is twice as far from the old one in mean
    Kullback-Leibler divergence, and multiplied by 1.5 if it is less than half as far. None: the rate is constant."""
    value_coef: float = 2.0
    """Weight of the value's squared error (rl_games: critic_coef 4, times one half)."""
    entropy_coef: float = 0.0
    """Weight of the policy's entropy."""
    bounds_coef: float = 1e-4
    """Weight of the square of what the policy's mean is beyond 1.1, where actions are clipped."""
    init_log_std: float = 0.0
    """Initial logarithm of the action's standard deviation."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    shared_value: bool = False
    """Whether the value stands on the policy's hidden layers, as in the paper, and not on as many of its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_counts("passes", "minibatch")
        self._require_positive("clip", "max_grad_norm")
        self._require_fractions("gae_lambda")
        for field in ("value_coef", "entropy_coef", "bounds_coef"):
            self._require(getattr(self, field) >= 0, field, "at least 0")
        self._require_positive_or_none("kl_target")
        limit = MOST_LOG_STD
        self._require(-limit <= self.init_log_std <= limit, "init_log_std", f"from {-limit} to {limit}")
        steps = self.num_envs * self.horizon
        self._require(steps % self.minibatch == 0, "minibatch", f"a divisor of num_envs * horizon = {steps}")


@dataclasses.dataclass(frozen=True)
class SAC(Settings):
    """Soft actor-critic: Haarnoja et al. 2018, with a learnt temperature.

    Many small updates, in place of the paper's one of some thousand steps (docs/baselines.md).
    """

    algo: Algo = "sac"
    horizon: int = 128
    """Control steps of every world in an epoch."""
    max_epochs: int = 1000
    actor_units: tuple[int, ...] = (256, 128, 64)
    actor_lr: float = 1e-3
    critic_units: tuple[int, ...] = (256, 128, 64)
    """Widths of the critics' hidden layers."""
    critic_lr: float = 1e-3
    """Learning rate of the critics."""
    batch: int = 128
    """Transitions in a minibatch."""
    replay: int = 1_000_000
    """Transitions that are remembered."""
    random_steps: int = 5
    """Control steps of every world with random actions, at first ("seed steps"); nothing is learnt meanwhile."""
    updates: int = 16
    """Updates after every control step of all worlds."""
    tau: float = 0.005
    """Weight of the NEW critics in the targets' update."""
    reward_scale: float = 1.0
    """The critics' values, beside which the entropy has its weight, are of rewards times this."""
    init_alpha: float = 0.1
    """Weight of the entropy at first [alpha]."""
    alpha_lr: float = 5e-4
    """Learning rate of that weight's logarithm."""
    target_entropy: float | None = None
    """Entropy that the weight is learnt for [nat]; None: minus half the number of actions."""
    save_interval: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_counts("batch", "replay", "updates")
        self._require_positive("critic_lr", "alpha_lr", "init_alpha", "reward_scale")
        self._require_fractions("tau")
        self._require_widths("critic_units")
        self._require(self.random_steps >= 0, "random_steps", "at least 0")
        self._require(self.replay >= self.num_envs, "replay", f"at least num_envs = {self.num_envs}")


@dataclasses.dataclass(frozen=True)
class OneWorld(SAC):
    """What REDQ and MBPO share: one world, of whose steps each is learnt from many times.

    Their authors' settings, but for standardised observations, critics that learn three times as fast, and a thousand
    random steps instead of five: with these REDQ swings CartPole up in a sixth of the time (docs/baselines.md).
    """

    num_envs: int = 1
    actor_units: tuple[int, ...] = (256, 256)
    actor_lr: float = 3e-4
    critic_units: tuple[int, ...] = (256, 256)
    critic_lr: float = 1e-3
    batch: int = 256
    random_steps: int = 1000
    updates: int = 20
    """Updates after every control step of all worlds [G]."""
    init_alpha: float = 1.0
    alpha_lr: float = 3e-4


@dataclasses.dataclass(frozen=True)
class REDQ(OneWorld):
    """Randomised ensembled double Q-learning: Chen et al. 2021."""

    algo: Algo = "redq"
    horizon: int = 100
    max_epochs: int = 1250
    critics: int = 10
    """Critics [N]."""
    target_critics: int = 2
    """Critics whose minimum a target is, drawn anew for every update [M]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_counts("critics", "target_critics")
        fulfilled = self.target_critics <= self.critics
        self._require(fulfilled, "target_critics", f"at most critics = {self.critics}")


@dataclasses.dataclass(frozen=True)
class MBPO(OneWorld):
    """Model-based policy optimisation: Janner et al. 2019."""

    algo: Algo = "mbpo"
    horizon: int = 250
    """Control steps of every world between two fits of the model."""
    max_epochs: int = 500
    save_interval: int = 4

    members: int = 7
    """Networks of the model."""
    elites: int = 5
    """Those of them that err least on held-out steps, and are used."""
    model_units: tuple[int, ...] = (200, 200, 200, 200)
    """Widths of their hidden layers."""
    model_lr: float = 1e-3
    """Their learning rate."""
    model_batch: int = 256
    """Steps in a minibatch of the fit."""
    weight_decay: tuple[float, ...] = (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4)
    """Weight of the squared weights of each layer."""
    holdout: float = 0.2
    """Fraction of the steps that are held out of a fit."""
    patience: int = 5
    """A fit ends after so many passes in which no member became better by 1 %."""
    rollouts: int = 100_000
    """States that rollouts of the model begin with, after every fit."""
    rollout_length: tuple[int, int, int, int] = (20, 150, 1, 1)
    """From, to, shortest, longest: rollouts grow from the shortest to the longest between so many thousand steps."""
    retained: int = 4
    """Epochs whose rollouts are remembered."""
    real_ratio: float = 0.05
    """Fraction of real steps in a minibatch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_counts("members", "elites", "model_batch", "patience", "rollouts", "retained")
        self._require_positive("model_lr")
        self._require_fractions("real_ratio", "holdout")
        self._require_widths("model_units")
        self._require(self.elites <= self.members, "elites", f"at most members = {self.members}")
        layers = len(self.model_units) + 1
        self._require(len(self.weight_decay) == layers, "weight_decay", f"one number a layer, {layers}")
        begin, end, shortest, longest = self.rollout_length
        self._require(begin < end and 1 <= shortest <= longest, "rollout_length", "from < to, 1 <= shortest <= longest")
        self._require(self.random_steps >= self.horizon, "random_steps", f"at least horizon = {self.horizon}")
        self._require(self.random_steps % self.horizon == 0, "random_steps", f"a multiple of horizon = {self.horizon}")
        self._require(self.batch >= 2, "batch", "at least 2")


SETTINGS: dict[str, type[Settings]] = {
    "shac": Config,
    "bptt": Config,
    "ppo": PPO,
    "sac": SAC,
    "redq": REDQ,
    "mbpo": MBPO,
}
