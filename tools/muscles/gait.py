"""A learnt gait of the legs: its joint speeds, and the muscles' power by constant tension and by Hill's law.

    python -m tools.muscles.gait runs/mine

Both laws pull with the gait's own activations, at its own lengths and velocities, with the strength of
docs/muscle_bodies.md. Then the strength with which Hill's law would give constant tension's joint torques along this
gait (least squares, each degree of freedom weighted alike), or its positive power.
"""

from __future__ import annotations

from pathlib import Path

import click
import mujoco
import numpy as np
import torch

from shac.env import Env
from shac.runs.checkpoint import load_run

from . import calibration
from .report import ASSETS, fibres

# Steps before these still are a beginning.
BEGINNING = 200


@torch.no_grad()
def gait(run: Path, worlds: int, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """qpos, qvel and activations of the worlds that do not fall, each (steps * worlds, ...)."""
    task, policy, config = load_run(run)
    torch.set_num_threads(config.threads)
    env = Env(task, worlds, substeps=config.policy_substeps, theta=config.theta)
    policy = policy.to(env.device, env.dtype)
    alive = torch.ones(worlds, dtype=torch.bool, device=env.device)
    recorded = []
    for step in range(BEGINNING + steps):
        action = policy(env.obs)
        terminated = env.step(action)[2]
        alive &= ~terminated
        if step >= BEGINNING:
            state = env.state
            # Without activation dynamics a muscle is as active as it is excited.
            activation = state.act if state.act.shape[1] else task.control(action)
            recorded.append((state.qpos, state.qvel, activation))
    if not alive.any():
        raise click.ClickException(f"all worlds of {run} fall within {BEGINNING + steps} steps")
    click.echo(f"{int(alive.sum())} of {worlds} worlds do not fall")
    return tuple(torch.stack(part)[:, alive].flatten(0, 1).double().cpu().numpy() for part in zip(*recorded))


@click.command(help=__doc__, context_settings={"show_default": True})
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--worlds", default=16, help="Worlds.")
@click.option("--steps", default=120, help=f"Control steps looked at, after the first {BEGINNING}.")
def main(run: Path, worlds: int, steps: int) -> None:
    """Print speeds, powers and strengths."""
    positions, velocities, activations = gait(run, worlds, steps)
    m = mujoco.MjModel.from_xml_path(str(ASSETS / "humanoid_mtu.xml"))
    if positions.shape[1] != m.nq:
        raise click.ClickException(f"{run} is not a run of humanoid_mtu's legs: qpos has {positions.shape[1]} entries")

    rates = np.sqrt(np.mean(velocities**2, axis=0))
    click.echo(f"forward {velocities[:, 0].mean():.2f} m/s")
    for joint, right, axis, *_ in calibration.TORQUES:
        sides = (m.joint(right[:-1] + side).dofadr[0] + axis for side in "RL")
        click.echo(f"{joint}, root mean square: " + ", ".join(f"{rates[dof]:.1f}" for dof in sides) + " rad/s")

    at = calibration.postures(m, list(positions))
    # The arms are a force's torque per newton, so a unit of positive arm shortens as the joint turns its way.
    speeds = -np.einsum("tij,tj->ti", at.arms, velocities)
    optimal, slack = fibres(m)
    f0, peak = m.actuator_user[:, 0], m.actuator_gainprm[:, 2]
    constant = activations * calibration.CONSTANT_TENSION * f0
    velocity_factor = np.maximum(
        calibration.active_force_velocity(np.minimum(speeds / (optimal * calibration.VMAX), 1)), 0
    )
    unit = activations * f0 * calibration.active_force_length((at.lengths - slack) / optimal) * velocity_factor
    for law, force in (("constant tension", constant), ("Hill's law", unit * peak / f0)):
        power = -force * speeds
        click.echo(f"{law}: {np.maximum(power, 0).sum(1).mean():.0f} W positive, {power.sum(1).mean():.0f} W net")

    wanted, given = (np.einsum("ti,tij->tj", force, at.arms)[:, 6:] for force in (constant, unit))
    moved = np.any(wanted != 0, axis=0)
    weight = 1 / np.mean(wanted[:, moved] ** 2, axis=0)
    strength = (weight * wanted[:, moved] * given[:, moved]).sum() / (weight * given[:, moved] ** 2).sum()
    ratio = np.maximum(-constant * speeds, 0).sum() / np.maximum(-unit * speeds, 0).sum()
    click.echo(f"peak force over f0 for the same torques: {strength:.2f}, for the same positive power: {ratio:.2f}")


if __name__ == "__main__":
    main()
