"""MuJoCo's own engine in the place of a task's simulator: does a policy live on ours?"""

from __future__ import annotations

import copy

import mujoco
import torch

import taichi_sim as ts
from shac.errors import UserError
from shac.task import Task
from taichi_sim.mjcf.loader import compiled
from taichi_sim.types import LAW_DEGROOTE, State

# What MuJoCo counts before it silently begins a world anew.
_UNSTABLE = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)


class InMujoco:
    """Steps the worlds of a simulator by MuJoCo: its contacts, its solver, the integrator that the file asks for.

    Like a `taichi_sim.Simulator` for one that only steps and begins episodes; nothing has a gradient.

    Args:
      task: the task; its `asset` is what MuJoCo simulates.
      sim: the task's simulator.
      steps: MuJoCo's steps in a control step; None: as many as its file's timestep allows, at least one.

    Raises:
      UserError: MuJoCo cannot simulate the task's body, or not as the task does.
    """

    def __init__(self, task: Task, sim: ts.Simulator, steps: int | None = None):
        name, control = type(task).__name__, sim.model.opt.control_timestep
        try:
            compiled_model, _, _ = compiled(task.asset)
        except (ValueError, OSError, TypeError, AttributeError) as error:
            raise UserError(f"MuJoCo cannot simulate {name}.asset: {error}") from error
        sizes = [(m.nq, m.nv, m.nu, m.na) for m in (compiled_model, sim.model)]
        if sizes[0] != sizes[1]:
            raise UserError(f"{name}: MuJoCo's model has nq, nv, nu, na = {sizes[0]}, the simulator's {sizes[1]}")
        if (sim.model.muscle_law == LAW_DEGROOTE).any():
            raise UserError(f"{name}: MuJoCo does not have the muscles' law, De Groote and Fregly's")
        # The task's file, or its user's model, stays as it is.
        self.mj_model = copy.deepcopy(compiled_model)
        self.steps = steps or max(1, round(control / compiled_model.opt.timestep))
        self.mj_model.opt.timestep = control / self.steps
        self.model, self.device, self.dtype, self.num_worlds = sim.model, sim.device, sim.dtype, sim.num_worlds
        self._sim = sim
        self._worlds = [mujoco.MjData(self.mj_model) for _ in range(sim.num_worlds)]

    def initial_state(self) -> State:
        """As the simulator's."""
        return self._sim.initial_state()

    def step(self, state: State, ctrl: torch.Tensor, constants: dict | None = None) -> State:
        """One control step of all worlds, with the file's own constants: those that a task varies do not count here.

        Raises:
          FloatingPointError: a world has become unstable.
        """
        rows = [x.detach().double().cpu().numpy() for x in (*state, ctrl)]
        after = [torch.empty(x.shape, dtype=torch.float64) for x in state]
        for world, data in enumerate(self._worlds):
            for field, values in zip(("qpos", "qvel", "act", "ctrl"), rows):
                getattr(data, field)[:] = values[world]
            mujoco.mj_step(self.mj_model, data, self.steps)
            if any(data.warning[kind].number for kind in _UNSTABLE):
                raise FloatingPointError(f"MuJoCo's simulation of world {world} has become unstable")
            for field, values in zip(State._fields, after):
                values[world] = torch.from_numpy(getattr(data, field))
        return State(*(x.to(self.device, self.dtype) for x in after))
