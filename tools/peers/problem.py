"""What every contestant computes: a rollout of some control steps of many worlds, and its gradient in the controls.

Worlds begin where MuJoCo has let the body fall to the ground under random controls, so that contacts are active. The
place of the root along x after the last step is differentiated: every engine has that, and in every world it depends on
that world's controls alone.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

ASSETS = Path(__file__).parents[2] / "assets"
BODIES = ("ant", "humanoid", "humanoid_mtu")
# Control steps of a rollout; those before it, in which bodies fall to the ground.
STEPS = 32
FALL = 60
# So many starting states are simulated at most; further worlds begin as these do, with controls of their own.
DISTINCT = 64


@dataclasses.dataclass(frozen=True)
class Problem:
    """A rollout to be timed.

    | attribute | meaning | shape |
    |---|---|---|
    | path | MJCF file of the body | |
    | substeps | steps of MuJoCo's `opt.timestep` in a control step | |
    | qpos, qvel, act | where the worlds begin, MuJoCo's order | (N, nq), (N, nv), (N, na) |
    | ctrl | controls of every control step | (steps, N, nu) |
    """

    path: str
    substeps: int
    qpos: np.ndarray
    qvel: np.ndarray
    act: np.ndarray
    ctrl: np.ndarray

    @property
    def worlds(self) -> int:
        return len(self.qpos)

    def save(self, path: Path) -> None:
        np.savez(path, **dataclasses.asdict(self))

    @staticmethod
    def load(path: Path) -> Problem:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        return Problem(str(arrays.pop("path")), int(arrays.pop("substeps")), **arrays)


def draw_controls(rng: np.random.Generator, model, steps: int, worlds: int) -> np.ndarray:
    """Uniform controls (steps, worlds, nu) in the middle six tenths of each actuator's range."""
    low, high = model.actuator_ctrlrange.T
    middle, half = 0.5 * (high + low), 0.5 * (high - low)
    return middle + 0.6 * half * rng.uniform(-1.0, 1.0, (steps, worlds, model.nu))


def make(body: str, worlds: int, steps: int = STEPS, seed: int = 0) -> Problem:
    """The problem for one of this package's bodies, in `worlds` worlds; the same for the same seed."""
    import mujoco
    from mujoco import rollout

    path = ASSETS / f"{body}.xml"
    model = mujoco.MjModel.from_xml_path(str(path))
    substeps = int(model.numeric("substeps").data[0])
    rng = np.random.default_rng(seed)
    distinct = min(worlds, DISTINCT)
    fall = draw_controls(rng, model, FALL, distinct).swapaxes(0, 1).repeat(substeps, axis=1)
    states = np.zeros((distinct, mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)))
    states[:, 1 : 1 + model.nq] = model.qpos0
    ended = rollout.rollout(model, mujoco.MjData(model), states, fall)[0][:, -1]
    # the full physics state begins with time, qpos, qvel, act
    qpos, qvel, act = np.split(ended[:, 1:], np.cumsum((model.nq, model.nv, model.na)), axis=1)[:3]
    rows = np.arange(worlds) % distinct
    ctrl = draw_controls(rng, model, steps, worlds)
    return Problem(str(path), substeps, qpos[rows], qvel[rows], act[rows], ctrl)
