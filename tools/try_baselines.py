"""PPO and SAC of other libraries on a model, with the networks and settings of its preset here.

    pip install rsl-rl-lib skrl
    taskset -c 0 python tools/try_baselines.py rsl_rl ppo --model ant --minutes 10 --seed 0 --out rsl.csv

docs/learning.md has what was found: which library the baselines here stand on, and why. Time is the process's own, so
that another program beside it changes little. The last row's return is the mean of the last 100 finished episodes.
"""

from __future__ import annotations

import csv
import time
from pathlib import Path

import click
import gymnasium
import torch
from tensordict import TensorDict
from torch import nn

from shac.algos.episodes import Episodes
from shac.algos.networks import LOG_STD_RANGE, plain_mlp
from shac.env import Env
from shac.models import load_task
from shac.runs.config import resolve


class Worlds:
    """Steps of the worlds, their returns, and a row of the CSV file now and then."""

    def __init__(self, config, out: Path, minutes: float):
        task = load_task(config.model, config.task)
        self.env = Env(task, config.num_envs, seed=config.seed, substeps=config.substeps)
        self.episodes = Episodes(config.num_envs)
        self.horizon, self.minutes, self.out = config.horizon, minutes, out
        self.rewards, self.steps = [], 0
        self.rows: list[tuple[int, float, float | None]] = []
        self.begin = time.process_time()

    @property
    def seconds(self) -> float:
        return time.process_time() - self.begin

    def step(self, action):
        with torch.no_grad():
            obs, reward, terminated, truncated, info = self.env.step(action)
        self.rewards.append((reward, terminated | truncated, info["whole"]))
        self.steps += self.env.num_envs
        if len(self.rewards) == self.horizon:
            self.episodes.add(*map(torch.stack, zip(*self.rewards)))
            self.rewards = []
            self.rows.append((self.steps, round(self.seconds, 1), self.episodes.mean_return))
            with open(self.out, "w", newline="") as file:
                csv.writer(file).writerows([("steps", "cpu_seconds", "return_mean"), *self.rows])
        return obs, reward, terminated, truncated, info

    @property
    def going_on(self) -> bool:
        return self.seconds < 60 * self.minutes


def rsl_rl_ppo(config, worlds: Worlds) -> None:
    from rsl_rl.algorithms import PPO
    from rsl_rl.models import MLPModel
    from rsl_rl.storage import RolloutStorage

    env, num = worlds.env, config.num_envs
    as_dict = lambda obs: TensorDict({"obs": obs}, num)  # noqa: E731
    obs, groups = as_dict(env.obs), {"actor": ["obs"], "critic": ["obs"]}
    shape = {"hidden_dims": list(config.actor_units), "activation": "elu", "obs_normalization": True}
    gaussian = {"class_name": "GaussianDistribution", "init_std": 1.0, "std_type": "log"}
    actor = MLPModel(obs, groups, "actor", env.task.num_actions, distribution_cfg=gaussian, **shape)
    critic = MLPModel(obs, groups, "critic", 1, **shape)
    algorithm = PPO(
        actor,
        critic,
        RolloutStorage("rl", num, config.horizon, obs, [env.task.num_actions]),
        num_learning_epochs=config.passes,
        num_mini_batches=num * config.horizon // config.minibatch,
        clip_param=config.clip,
        gamma=config.gamma,
        lam=config.gae_lambda,
        value_loss_coef=config.value_coef,
        entropy_coef=config.entropy_coef,
        learning_rate=config.actor_lr,
        desired_kl=config.kl_target,
        max_grad_norm=config.max_grad_norm,
    )
    while worlds.going_on:
        for _ in range(config.horizon):
            with torch.no_grad():
                action = algorithm.act(as_dict(env.obs))
                obs, reward, terminated, truncated, info = worlds.step(action)
                # It has no value standardisation: rewards are scaled as rl_games scales them.
                scaled = 0.01 * reward
                ends = truncated & ~terminated
                if ends.any():
                    scaled += config.gamma * ends * critic(as_dict(info["final_obs"])).squeeze(1)
                algorithm.process_env_step(as_dict(obs), scaled, terminated | truncated, {})
        with torch.no_grad():
            algorithm.compute_returns(as_dict(env.obs))
        algorithm.update()


def skrl_agent(config, worlds: Worlds, sac: bool):
    from skrl.memories.torch import RandomMemory
    from skrl.models.torch import DeterministicMixin, GaussianMixin, Model
    from skrl.resources.preprocessors.torch import RunningStandardScaler as Scaler

    task = worlds.env.task
    spaces = {
        "observation_space": gymnasium.spaces.Box(-float("inf"), float("inf"), (task.num_inputs,)),
        "state_space": None,
        "action_space": gymnasium.spaces.Box(-1, 1, (task.num_actions,)),
        "device": "cpu",
    }
    activation = nn.ReLU if sac else nn.ELU

    class Policy(GaussianMixin, Model):
        def __init__(self):
            Model.__init__(self, **spaces)
            low, high = LOG_STD_RANGE if sac else (-20, 2)
            GaussianMixin.__init__(self, min_log_std=low, max_log_std=high)
            self.trunk = plain_mlp(task.num_inputs, config.actor_units, activation)
            self.head = nn.Linear(config.actor_units[-1], task.num_actions * (1 + sac))
            self.log_std = nn.Parameter(torch.zeros(task.num_actions))

        def compute(self, inputs, role):
            out = self.head(self.trunk(inputs["observations"]))
            if sac:
                mean, log_std = out.chunk(2, -1)
                return mean, {"log_std": log_std}
            return out, {"log_std": self.log_std.expand_as(out)}

    class Squashed(Policy):
        def act(self, inputs, *, role=""):
            mean, outputs = self.compute(inputs, role)
            std = outputs["log_std"].clamp(*LOG_STD_RANGE).exp()
            eps = torch.randn_like(mean)
            raw = mean + std * eps
            # log of the density of tanh(raw): the Gaussian's less the logarithm of tanh's derivative
            normal = torch.distributions.Normal(mean, std).log_prob(raw)
            slope = 2 * (torch.log(torch.tensor(2.0)) - raw - nn.functional.softplus(-2 * raw))
            return raw.tanh(), {"log_prob": (normal - slope).sum(-1, keepdim=True), "mean_actions": mean.tanh()}

    class Value(DeterministicMixin, Model):
        def __init__(self):
            Model.__init__(self, **spaces)
            DeterministicMixin.__init__(self)
            num_in, units = task.num_inputs + sac * task.num_actions, config.critic_units if sac else config.actor_units
            self.net = nn.Sequential(plain_mlp(num_in, units, activation), nn.Linear(units[-1], 1))

        def compute(self, inputs, role):
            x = inputs["observations"]
            return self.net(torch.cat((x, inputs["taken_actions"]), -1) if sac else x), {}

    if sac:
        from skrl.agents.torch.sac import SAC

        names = "critic_1", "critic_2", "target_critic_1", "target_critic_2"
        models = {"policy": Squashed(), **{name: Value() for name in names}}
        settings = {
            "batch_size": config.batch,
            "polyak": config.tau,
            "learning_rate": (config.actor_lr, config.critic_lr, config.alpha_lr),
            "learning_starts": config.random_steps,
            "random_timesteps": config.random_steps,
            "initial_entropy_value": config.init_alpha,
            "target_entropy": -0.5 * task.num_actions,
        }
        kind, size = SAC, config.replay // config.num_envs
    else:
        from skrl.agents.torch.ppo import PPO
        from skrl.resources.schedulers.torch import KLAdaptiveLR

        models = {"policy": Policy(), "value": Value()}
        settings = {
            "rollouts": config.horizon,
            "learning_epochs": config.passes,
            "mini_batches": config.num_envs * config.horizon // config.minibatch,
            "gae_lambda": config.gae_lambda,
            "learning_rate": config.actor_lr,
            "learning_rate_scheduler": KLAdaptiveLR,
            "learning_rate_scheduler_kwargs": {"kl_threshold": config.kl_target, "min_lr": 1e-6},
            "value_preprocessor": Scaler,
            "value_preprocessor_kwargs": {"size": 1},
            "grad_norm_clip": config.max_grad_norm,
            "value_loss_scale": config.value_coef,
            "time_limit_bootstrap": True,
        }
        kind, size = PPO, config.horizon
    settings |= {
        "discount_factor": config.gamma,
        "observation_preprocessor": Scaler,
        "observation_preprocessor_kwargs": {"size": spaces["observation_space"]},
        "experiment": {"write_interval": 0, "checkpoint_interval": 0},
    }
    memory = RandomMemory(memory_size=size, num_envs=config.num_envs, device="cpu")
    agent = kind(models=models, memory=memory, cfg=settings, **spaces)
    agent.init()
    agent.enable_training_mode(True)
    return agent


def skrl(config, worlds: Worlds, sac: bool) -> None:
    agent, env, step = skrl_agent(config, worlds, sac), worlds.env, 0
    while worlds.going_on:
        when = {"timestep": step, "timesteps": 10**9}
        obs = env.obs
        agent.pre_interaction(**when)
        with torch.no_grad():
            action, _ = agent.act(obs, None, **when)
            _, reward, terminated, truncated, info = worlds.step(action)
            agent.record_transition(
                observations=obs,
                states=None,
                actions=action.clamp(-1, 1) if sac else action,
                rewards=reward[:, None],
                next_observations=info["final_obs"],
                next_states=None,
                terminated=terminated[:, None],
                truncated=(truncated & ~terminated)[:, None],
                infos={},
                **when,
            )
        agent.post_interaction(**when)
        step += 1


@click.command()
@click.argument("library", type=click.Choice(["rsl_rl", "skrl"]))
@click.argument("algo", type=click.Choice(["ppo", "sac"]))
@click.option("--model", default="ant", show_default=True)
@click.option("--minutes", type=float, default=10.0, show_default=True, help="Of the process's own time.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="CSV file.")
def main(library, algo, model, minutes, seed, out):
    """Trains with PPO or SAC of LIBRARY and writes the curve."""
    if (library, algo) == ("rsl_rl", "sac"):
        raise click.UsageError("rsl_rl has no SAC")
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    config = resolve(load_task(model), algo, {"model": model, "seed": seed})
    worlds = Worlds(config, out, minutes)
    if library == "rsl_rl":
        rsl_rl_ppo(config, worlds)
    else:
        skrl(config, worlds, algo == "sac")
    print(f"{library} {algo} {model} seed {seed}: {worlds.steps:,} steps, return {worlds.episodes.mean_return}")


if __name__ == "__main__":
    main()
