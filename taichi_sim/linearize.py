"""The derivatives of a control step as matrices, for controllers that want them: LQR, iLQR, MPC."""

from __future__ import annotations

import math
import weakref

import numpy as np
import torch

from taichi_sim import quaternion
from taichi_sim.bridge import Simulator
from taichi_sim.types import JNT_BALL, JNT_FREE, JNT_HINGE, JNT_SLIDE, Model, State

# Worlds that a pass backward wants at least: below, more of them cost hardly more time.
_WORLDS = 64
_helpers: weakref.WeakKeyDictionary[Simulator, Simulator] = weakref.WeakKeyDictionary()


def linearize(
    sim: Simulator, state: State, ctrl: torch.Tensor, parameters: dict | None = None, mocap=None
) -> tuple[torch.Tensor, torch.Tensor]:
    """A and B of dx' = A dx + B dctrl around a control step of every world: MuJoCo's `mjd_transitionFD`, but exact.

    dx = (dq, dqvel, dact), 2 nv + na entries, where dq moves qpos as `mj_integratePos` does: a rotation by its angles
    in the body's own frame. It takes one step, and a pass backward for each row of A, of all worlds together: ask for
    the states of a whole trajectory at once, a world each.

    Args:
        sim: a simulator of N worlds.
        state, ctrl, parameters, mocap: what `Simulator.step` takes.

    Returns:
        A (N, 2 nv + na, 2 nv + na) and B (N, 2 nv + na, nu), without a graph.

    Raises:
        ValueError: shape, dtype or device of an input are others than expected.
        FloatingPointError: as `Simulator.step` and its gradient.
    """
    model, num = sim.model, sim.num_worlds
    size = 2 * model.nv + model.na
    # few worlds are there several times, for several rows a pass
    copies = min(size, math.ceil(_WORLDS / num))
    inputs = sim.inputs(state, ctrl)
    if copies > 1:
        with torch.no_grad():
            # it says what does not fit
            sim.step(state, ctrl, parameters, mocap)
        sim, parameters, mocap = _several(sim, copies, parameters or {}, mocap)
    qpos, qvel, act, ctrl = (part.detach().repeat_interleave(copies, 0) for part in inputs)
    tangent = _Tangent(model)
    dx = qpos.new_zeros(len(qpos), size, requires_grad=True)
    with torch.enable_grad():
        ctrl.requires_grad_()
        dq, dqvel, dact = dx.split([model.nv, model.nv, model.na], dim=1)
        following = sim.step(State(tangent.moved(qpos, dq), qvel + dqvel, act + dact), ctrl, parameters, mocap)
        y = torch.cat([tangent.motion(following.qpos), following.qvel, following.act], dim=1)
    passes = []
    for rows in torch.eye(size, dtype=sim.dtype, device=sim.device).split(copies):
        rows = torch.nn.functional.pad(rows, (0, 0, 0, copies - len(rows))).repeat(num, 1)
        passes.append(torch.autograd.grad(y, (dx, ctrl), rows, retain_graph=True))
    A, B = (
        torch.cat([x.unflatten(0, (num, copies)) for x in parts], 1)[:, :size] for parts in zip(*passes, strict=True)
    )
    return A, B


def _several(sim: Simulator, copies: int, parameters: dict, mocap) -> tuple[Simulator, dict, torch.Tensor | None]:
    """A simulator of so many copies of each world, and what its steps take."""
    many = _helpers.get(sim)
    if many is None:
        many = _helpers[sim] = sim.resized(sim.num_worlds * copies)
    shared = {name: np.ndim(getattr(sim.model, name)) for name in parameters}
    parameters = {
        name: x if x.ndim == shared[name] else x.repeat_interleave(copies, 0) for name, x in parameters.items()
    }
    return many, parameters, None if mocap is None else mocap.repeat_interleave(copies, 0)


class _Tangent:
    """Small motions of a model's positions, to first order."""

    def __init__(self, model: Model):
        kind, qpos, dof = model.jnt_type, model.jnt_qposadr, model.jnt_dofadr
        line, free, ball = np.isin(kind, (JNT_HINGE, JNT_SLIDE)), kind == JNT_FREE, kind == JNT_BALL
        three, four = np.arange(3), np.arange(4)
        self.lines = (
            np.concatenate([qpos[line], (qpos[free, None] + three).ravel()]),
            np.concatenate([dof[line], (dof[free, None] + three).ravel()]),
        )
        self.quats = np.concatenate([qpos[free] + 3, qpos[ball]])[:, None] + four
        self.turns = np.concatenate([dof[free] + 3, dof[ball]])[:, None] + three
        self.nv = model.nv

    def moved(self, qpos: torch.Tensor, dq: torch.Tensor) -> torch.Tensor:
        """qpos (N, nq) after a small motion dq (N, nv)."""
        change, (q, v) = torch.zeros_like(qpos), self.lines
        change[:, q] = dq[:, v]
        half = torch.nn.functional.pad(dq[:, self.turns] / 2, (1, 0))
        change[:, self.quats] = quaternion.multiply(qpos[:, self.quats], half)
        return qpos + change

    def motion(self, qpos: torch.Tensor) -> torch.Tensor:
        """What `moved` would take to where qpos (N, nq) goes, from where it is: zeros (N, nv) with a gradient."""
        change, (q, v) = qpos.new_zeros(len(qpos), self.nv), self.lines
        difference = qpos - qpos.detach()
        change[:, v] = difference[:, q]
        back = quaternion.conjugate(qpos[:, self.quats].detach())
        change[:, self.turns] = 2 * quaternion.multiply(back, difference[:, self.quats])[..., 1:]
        return change
