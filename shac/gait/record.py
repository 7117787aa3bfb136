"""A policy's walk, as instruments would record it: angles, moments, forces, activations, energy."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import torch

import taichi_sim as ts
from shac.algos.networks import Policy
from shac.env import Env
from shac.gait import angles, kinetics
from shac.gait.legs import Legs, find
from shac.runs.evaluate import play
from taichi_sim.machine import memory
from taichi_sim.types import GAIN_MUSCLE


@dataclasses.dataclass
class Recording:
    """Samples at the end of every control step; the legs are right and left.

    | field | meaning | shape |
    |---|---|---|
    | legs | whose they are | `Legs` |
    | timestep | between samples [s] | scalar |
    | mass | of the body [kg] | scalar |
    | alive | the sample belongs to the world's episode | (T, N) bool |
    | fallen | the episode has failed | (N,) bool |
    | qpos | positions | (T, N, nq) |
    | pelvis | where the pelvis is [m] | (T, N, 3) |
    | angles | hip flexion, knee flexion, ankle dorsiflexion [deg] | (T, N, 2, 3) |
    | moments, powers | of hip, knee and ankle [N m/kg, W/kg] | (T, N, 2, 3) |
    | reactions | forces of the ground on a foot, world axes [body weights] | (T, N, 2, 3) |
    | activations | of the groups of muscles, their units weighted by peak force | (T, N, 2, groups) |
    | metabolic | metabolic power, the basal one included [W/kg]; nan without muscles | (T, N) |
    | mechanical | positive power of all actuators [W/kg] | (T, N) |
    """

    legs: Legs
    timestep: float
    mass: float
    alive: np.ndarray
    fallen: np.ndarray
    qpos: np.ndarray
    pelvis: np.ndarray
    angles: np.ndarray
    moments: np.ndarray
    powers: np.ndarray
    reactions: np.ndarray
    activations: np.ndarray
    metabolic: np.ndarray
    mechanical: np.ndarray


@torch.no_grad()
def record(env: Env, policy: Policy, seconds: float) -> Recording:
    """Lets a policy act, deterministically, for so long or until all episodes have ended.

    Args:
      env: the environment, just reset (`shac.runs.evaluate.begin`).
      policy: what acts.
      seconds: how long [s].

    Raises:
      UserError: the model has no two legs.
    """
    model = env.sim.model
    legs = find(model)
    timestep, mass = model.opt.control_timestep, float(model.body_mass.sum())
    weight = mass * float(np.linalg.norm(model.opt.gravity))
    steps = max(1, math.ceil(seconds / timestep))
    figures = 8 * steps * env.num_envs * (model.nq + 3 + 2 * (12 + len(legs.groups)) + 2)
    memory.require(2 * figures, f"a recording of {env.num_envs:,} worlds over {steps:,} steps")
    muscles = bool((model.actuator_gaintype == GAIN_MUSCLE).any())
    burn = ts.Metabolics(model, env.state.qpos) if muscles else None
    rows, fallen = [], torch.zeros(env.num_envs, dtype=torch.bool, device=env.device)
    for played in itertools.islice(play(env, policy), steps):
        ctrl = env.task.control(played.action)
        data = env.sim.forward(played.state, ctrl, env.constants)
        turned = angles.anatomical(model, legs, data.xquat)
        power = data.actuator_force * data.actuator_velocity
        metabolic = burn(data.fibres).sum(1) + burn.basal if burn else torch.full_like(power[:, 0], math.nan)
        row = (
            played.alive,
            played.state.qpos,
            data.xpos[:, legs.pelvis],
            angles.sagittal(turned),
            kinetics.moments(model, legs, played.state, data, turned) / mass,
            kinetics.powers(legs, played.state, data) / mass,
            kinetics.reactions(legs, data) / weight,
            _activations(env, legs, played.state.act, ctrl),
            metabolic / mass,
            power.clamp(min=0).sum(1) / mass,
        )
        rows.append([x.cpu().numpy() for x in row])
        fallen |= played.terminated & played.alive
    alive, *rest = (np.stack(column) for column in zip(*rows))
    rest = [column.astype(np.float64) for column in rest]
    return Recording(legs, timestep, mass, alive, fallen.cpu().numpy(), *rest)


def _activations(env: Env, legs: Legs, act: torch.Tensor, ctrl: torch.Tensor) -> torch.Tensor:
    """Mean activations of the groups (N, 2, groups), 0 where there are none; a muscle without dynamics is as active as
    it is excited."""
    model = env.sim.model
    sides = []
    for units_of in legs.units:
        groups = []
        for units in units_of:
            values = [act[:, adr] if (adr := model.actuator_actadr[u]) >= 0 else ctrl[:, u] for u in units]
            share = act.new_tensor(model.muscle_force[units] / model.muscle_force[units].sum())
            groups.append(torch.stack(values, dim=1) @ share.to(act.dtype))
        sides.append(torch.stack(groups, dim=1) if groups else act.new_zeros(len(act), 0))
    return torch.stack(sides, dim=1)
