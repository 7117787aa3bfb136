"""The batched, differentiable environment that runs a task."""

from __future__ import annotations

from typing import Any

import torch

from shac import check_task, seeding
from shac.adjoint_bound import bounded
from shac.errors import UserError
from shac.ranks import SOLO, Ranks
from shac.task import Task
from taichi_sim.types import State

# Steps for which a card draws initial states at a time, and rows of all steps together.
_STEPS_AHEAD, _ROWS_AHEAD = 32, 1 << 17


class Env:
    """`num_envs` episodes of a task, side by side; an episode that ends is followed by the next one at once.

    Gradients flow from observations and rewards to actions and through the states of all steps since `cut`; the states
    of a world that is reset carry none across the reset.

    Args:
      task: the task.
      num_envs: number of worlds, of all processes together.
      seed: seed of the initial states.
      device: as in `taichi_sim.init`; None: what the process runs on, or the CPU.
      stochastic_init: draw initial states at random rather than begin at the nominal one.
      substeps: divide the model's control step into so many; by default as the model says.
      theta: implicitness of the substep (`taichi_sim.Option`); by default as the model says.
      early_limits: fraction of the episodes, but for the first ones, whose time limit is drawn from 1 to the task's.
      ranks: the processes that share the worlds; the attribute `num_envs`, and all shapes, are those of this one's.

    The attribute `adjoint_bound`, if it is not None, bounds what flows back through each step: `adjoint_bound.bounded`.
    """

    def __init__(
        self,
        task: Task,
        num_envs: int,
        *,
        seed: int = 0,
        device: str | None = None,
        stochastic_init: bool = True,
        substeps: int | None = None,
        theta: float | None = None,
        early_limits: float = 0.0,
        ranks: Ranks = SOLO,
    ):
        if not isinstance(num_envs, int) or num_envs < 1:
            raise UserError(f"num_envs must be at least 1, got {num_envs!r}")
        if not isinstance(task, Task):
            raise UserError(f"task must be an object of a subclass of shac.Task, got {task!r:.100}")
        check_task.check_attributes(task)
        self.task = task
        self.ranks = ranks
        self._everywhere, self._own = num_envs, ranks.share(num_envs)
        self.num_envs = num_envs // ranks.size
        self.stochastic_init = stochastic_init
        self.early_limits = early_limits
        self.adjoint_bound: float | None = None
        # drawn ahead on a card; see `_draw_beginnings`
        self._beginnings: list[tuple[State, torch.Tensor, dict[str, torch.Tensor]]] = []
        self.sim = check_task.expect_simulator(task, self.num_envs, device)
        if substeps is not None or theta is not None:
            option = self.sim.model.opt
            try:
                option.divide(option.substeps if substeps is None else substeps, theta)
            except ValueError as error:
                raise UserError(str(error)) from error
        self.device, self.dtype = self.sim.device, self.sim.dtype
        self.reset(seed=seed)

    def reset(self, mask: torch.Tensor | None = None, *, seed: int | None = None) -> torch.Tensor:
        """Begins new episodes in the worlds of `mask` (bool, (num_envs,); None: all).

        Args:
          mask: the worlds to reset.
          seed: begins the stream of initial states anew.

        Returns:
          What policies see of all worlds, (num_envs, num_inputs).
        """
        if seed is not None:
            self.generator = seeding.generator(seed, "reset", self.device)
            self._beginnings.clear()
        if mask is None:
            every = torch.arange(self.num_envs, device=self.device)
            self.state, self.constants = self._begin(self._everywhere, self._own, every)
            self.action = torch.zeros(self.num_envs, self.task.num_actions, dtype=self.dtype, device=self.device)
            self.progress = torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)
            self.limit = torch.full_like(self.progress, self.task.episode_length)
            self.obs = self._ask("observe", self.state, self.action).repeat(1, self.task.history)
        elif mask.dtype != torch.bool or mask.shape != (self.num_envs,):
            raise ValueError(f"mask must be bool of shape ({self.num_envs},), got {mask.dtype} {tuple(mask.shape)}")
        else:
            self._restart(mask)
        return self.obs

    def step(
        self, action: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any]]:
        """One control step of all worlds, and new episodes where one has ended.

        Args:
          action: (num_envs, num_actions), clipped to [-1, 1].

        Returns:
          obs: what policies see (num_envs, num_inputs); the new episode's where one has begun.
          reward: (num_envs,).
          terminated: the task has failed, bool (num_envs,).
          truncated: the episode has reached its time limit, bool (num_envs,); both may be true.
          info: "final_obs" and "final_state", what the step led to before any reset, with gradient; "whole", whether
            the step's episode had the task's time limit rather than an earlier one, bool (num_envs,).
        """
        shape = (self.num_envs, self.task.num_actions)
        if action.shape != shape:
            raise ValueError(f"action must have shape {shape}, got {tuple(action.shape)}")
        action = action.clamp(-1, 1)
        self.state = self._perturbed(self.simulate(self.state, self._ask("control", action)))
        if self.adjoint_bound is not None:
            self.state = bounded(self.state, self.adjoint_bound, self.ranks)
        self.action = action
        obs = self._ask("observe", self.state, action)
        reward = self._ask("reward", self.state, obs, action)
        terminated = self._ask("terminated", self.state, obs)
        self.obs = self._followed(obs)
        # Not in place: callers may keep what they were given.
        self.progress = self.progress + 1
        truncated = self.progress >= self.limit
        whole = self.limit == self.task.episode_length
        info = {"final_obs": self.obs, "final_state": self.state, "whole": whole}
        self._restart(terminated | truncated)
        return self.obs, reward, terminated, truncated, info

    def simulate(self, state: State, control: torch.Tensor) -> State:
        """What a control step of the simulator makes of `state`, with the constants of the episodes under way."""
        return self.sim.step(state, control, self.constants) if self.constants else self.sim.step(state, control)

    def stagger(self) -> None:
        """Gives the episodes under way early time limits."""
        self.limit = self._early_limits(self._everywhere)[self._own]

    def cut(self) -> torch.Tensor:
        """Cuts the gradient here, at the beginning of a window: what follows does not flow back beyond it.

        Returns:
          What policies see at present (num_envs, num_inputs), without gradient.
        """
        self.state = State(*(x.detach() for x in self.state))
        self.action = self.action.detach()
        self.obs = self.obs.detach()
        return self.obs

    def state_dict(self) -> dict[str, Any]:
        """All that decides what follows, for an exact continuation; of all processes' worlds."""
        # drawn anew by who continues, and so here
        self._beginnings.clear()
        gather = self.ranks.gather
        varied = {"constants": {name: gather(x) for name, x in self.constants.items()}} if self.constants else {}
        return {
            **varied,
            "state": {name: gather(x.detach()) for name, x in self.state._asdict().items()},
            "action": gather(self.action.detach()),
            "obs": gather(self.obs.detach()),
            "progress": gather(self.progress),
            "limit": gather(self.limit),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continues from `state_dict`'s result, on this environment's device."""
        num_envs = len(saved["progress"])
        if num_envs != self._everywhere:
            raise ValueError(f"the saved state has {num_envs} worlds, this environment {self._everywhere}")
        self.state = State(**{name: x[self._own].to(self.device) for name, x in saved["state"].items()})
        self.constants = {name: x[self._own].to(self.device) for name, x in saved.get("constants", {}).items()}
        self.action = saved["action"][self._own].to(self.device)
        self.obs = saved["obs"][self._own].to(self.device)
        self.progress = saved["progress"][self._own].to(self.device)
        self.limit = saved["limit"][self._own].to(self.device)
        self.generator.set_state(saved["generator"].cpu())
        self._beginnings.clear()

    def _restart(self, ended: torch.Tensor) -> None:
        """Begins new episodes in the worlds of `ended`; the others keep their states and gradients."""
        if self.device.type == "cuda":
            self._restart_without_waiting(ended)
        else:
            self._restart_counted(ended)

    def _restart_counted(self, ended: torch.Tensor) -> None:
        """The same with as many states drawn as episodes have ended."""
        everywhere = self.ranks.gather(ended)
        num = int(everywhere.sum())
        if num == 0:
            return
        # of all states that are drawn this process's follow those of the worlds before its own
        before = int(everywhere[: self._own.start].sum())
        rows = ended.nonzero().squeeze(1)
        own = slice(before, before + len(rows))
        fresh, constants = self._begin(num, own, rows)
        limit = self._draw_limits(num)[own]
        if len(rows) == 0:
            return
        self.state = State(*(x.index_put((rows,), new) for x, new in zip(self.state, fresh)))
        self.constants = {name: x.index_put((rows,), constants[name]) for name, x in self.constants.items()}
        self.action = self.action.index_fill(0, rows, 0.0)
        self.progress = self.progress.index_fill(0, rows, 0)
        self.limit = self.limit.index_put((rows,), limit)
        self._observe_fresh(ended)

    def _restart_without_waiting(self, ended: torch.Tensor) -> None:
        """The same with states drawn for all worlds: how many have ended is not known without waiting for the card."""
        if not self._beginnings:
            self._beginnings = self._draw_beginnings()
        fresh, limit, constants = self._beginnings.pop()
        action = torch.zeros_like(self.action)
        # of fresh states alone: all worlds' would be looked at, and differentiated, twice
        obs = self._ask("observe", fresh, action).repeat(1, self.task.history)

        def choose(new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
            return torch.where(ended.view(-1, *[1] * (old.dim() - 1)), new, old)

        self.state = State(*map(choose, fresh, self.state))
        self.constants = {name: choose(constants[name], x) for name, x in self.constants.items()}
        self.action, self.obs = choose(action, self.action), choose(obs, self.obs)
        self.progress = self.progress.masked_fill(ended, 0)
        self.limit = choose(limit, self.limit)

    def _draw_beginnings(self) -> list[tuple[State, torch.Tensor, dict[str, torch.Tensor]]]:
        """Initial states, time limits and constants of all worlds for some steps to come, the next one's last.

        To draw them takes as many launches as the rest of a step, for one step or for many.
        """
        steps = min(_STEPS_AHEAD, max(1, _ROWS_AHEAD // self._everywhere))
        state, constants = self._begin(steps * self._everywhere, slice(None), torch.arange(0))
        limit = self._draw_limits(steps * self._everywhere)
        own = [x.unflatten(0, (steps, -1))[:, self._own].unbind(0) for x in (*state, limit, *constants.values())]
        size = len(state)
        return [(State(*x[:size]), x[size], dict(zip(constants, x[size + 1 :]))) for x in zip(*own)][::-1]

    def _followed(self, obs: torch.Tensor) -> torch.Tensor:
        """An observation in front of those before it."""
        if self.task.history == 1:
            return obs
        return torch.cat((obs, self.obs[:, : -self.task.num_obs]), dim=1)

    def _observe_fresh(self, ended: torch.Tensor) -> None:
        """What is seen where episodes have begun: their first observation alone, as often as a policy sees one."""
        # Of all worlds again, not only of the fresh ones: a task may ask the simulator, which knows whole batches.
        obs = self._ask("observe", self.state, self.action)
        if self.task.history == 1:
            self.obs = obs
        else:
            self.obs = torch.where(ended[:, None], obs.repeat(1, self.task.history), self.obs)

    def require_finite(self) -> None:
        """Looks now at what a simulator on CUDA has not looked at yet; see `taichi_sim.Simulator.require_finite`."""
        getattr(self.sim, "require_finite", lambda: None)()

    def _begin(self, num: int, own: slice, rows: torch.Tensor) -> tuple[State, dict[str, torch.Tensor]]:
        """States and constants that `num` episodes begin with, of which `own` are this process's, its worlds `rows`."""
        state = check_task.call(self.task, "reset", num, self.generator, self.sim, self.stochastic_init)
        state = check_task.expect_state(self.task, state, num, self.sim)
        constants = check_task.varied(self.task, num, self.generator, self.sim, self.stochastic_init)
        return State(*(x[own] for x in state)), {name: x[own] for name, x in constants.items()}

    def _perturbed(self, state: State) -> State:
        """The state after the task's `perturb`."""
        if self.task.num_draws == 0:
            return state
        shape = (self._everywhere, self.task.num_draws)
        draws = torch.rand(shape, generator=self.generator, dtype=self.dtype, device=self.device)[self._own]
        return check_task.perturbed(self.task, self.num_envs, self.sim, state, draws)

    def _ask(self, method: str, *args) -> torch.Tensor:
        """What one of the task's methods gives, if it is as it should be."""
        return check_task.result(self.task, method, self.num_envs, self.sim, *args)

    def _draw_limits(self, num: int) -> torch.Tensor:
        """Time limits of new episodes, some of them early, (num,)."""
        limit = torch.full((num,), self.task.episode_length, device=self.device)
        if self.early_limits > 0:
            early = torch.rand(num, generator=self.generator, device=self.device) < self.early_limits
            limit = torch.where(early, self._early_limits(num), limit)
        return limit

    def _early_limits(self, num: int) -> torch.Tensor:
        """Time limits from 1 to the task's, (num,)."""
        length = self.task.episode_length
        return length - torch.randint(length, (num,), generator=self.generator, device=self.device)
