"""Films: the poses of an episode, their frames in real time, and the files that hold them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from shac.algos.networks import Policy
from shac.env import Env
from shac.errors import UserError
from shac.task import Task
from taichi_sim.machine import memory
from taichi_sim.render.camera import Camera
from taichi_sim.render.scene import rest_pose
from taichi_sim.types import Model

FORMATS = (".mp4", ".gif", ".png")
# Bytes that NumPy and Python take for a pose beside its numbers.
_POSE = 500


@dataclasses.dataclass
class Poses:
    """The bodies and actuators of one world over time.

    | field | meaning | shape |
    |---|---|---|
    | model | whose bodies they are | `Model` |
    | xpos | positions [m] | (num, nbody, 3) |
    | xquat | orientations (wxyz) | (num, nbody, 4) |
    | act | actuators' activations | (num, na) |
    | ctrl | controls of the step that led there; 0 where an episode begins | (num, nu) |
    | timestep | time between two poses [s] | scalar |
    | starts | poses at which a new episode begins | set of int |
    """

    model: Model
    xpos: np.ndarray
    xquat: np.ndarray
    act: np.ndarray
    ctrl: np.ndarray
    timestep: float
    starts: set[int]

    def __len__(self) -> int:
        return len(self.xpos)


@torch.no_grad()
def roll_out(env: Env, policy: Policy, steps: int | None, on_step=lambda: None) -> Poses:
    """Acts in an environment of one world.

    Args:
        env: the environment, just reset.
        policy: what acts, deterministically.
        steps: control steps to film, over the ends of episodes; None: one episode.
        on_step: called after each step.

    Returns:
        The poses before the first step and after each.
    """
    policy = policy.to(env.device, env.dtype)
    poses, starts = [_pose(env)], {0}
    memory.require((steps or 0) * (sum(x.nbytes for x in poses[0]) + _POSE), f"a film of {steps or 0:,} steps")
    obs, num = env.obs, 0
    while num != steps:
        action = policy(obs).clamp(-1, 1)
        obs, _, terminated, truncated, info = env.step(action)
        num += 1
        on_step()
        if bool(terminated | truncated):
            poses.append(_pose(env, info["final_state"], action))
            if steps is None:
                break
            if num != steps:
                # the new episode's first state takes the place of the step that led to the old one's last
                poses[-1] = _pose(env)
                starts.add(num)
        else:
            poses.append(_pose(env, env.state, action))
    return Poses(env.sim.model, *map(np.stack, zip(*poses)), env.sim.model.opt.control_timestep, starts)


@torch.no_grad()
def at_rest(task: Task, device: str | None = None) -> Poses:
    """The model of a task in its nominal initial state."""
    env = Env(task, 1, device=device, stochastic_init=False)
    return Poses(env.sim.model, *(x[None] for x in _pose(env)), env.sim.model.opt.control_timestep, {0})


def at_qpos0(model: Model) -> Poses:
    """A model that need not be a task, where all its joints' displacements are zero."""
    xpos, xquat = rest_pose(model)
    still = np.zeros((1, model.na)), np.zeros((1, model.nu))
    return Poses(model, xpos[None], xquat[None], *still, model.opt.control_timestep, {0})


def _pose(env: Env, state=None, action=None) -> tuple[np.ndarray, ...]:
    """Fields xpos, xquat, act and ctrl of `Poses`: of the present state, unless another one is given."""
    state = env.state if state is None else state
    data = env.sim.forward(state)
    ctrl = env.state.qpos.new_zeros(1, env.sim.model.nu) if action is None else env.task.control(action)
    return tuple(x[0].detach().cpu().numpy() for x in (data.xpos, data.xquat, state.act, ctrl))


def playback_rate(suffix: str, fps: float) -> float:
    """The frame rate [1/s] nearest to `fps` that a format can hold: a GIF counts its delays in 10 ms."""
    return 100 / max(2, round(100 / fps)) if suffix == ".gif" else fps


def real_time(num: int, timestep: float, fps: float) -> np.ndarray:
    """Indices of the poses to show at `fps` frames a second, so that the film runs as fast as the world does."""
    frames = max(1, int(np.floor((num - 1) * timestep * fps + 1e-9)) + 1)
    return np.minimum(np.rint(np.arange(frames) / (fps * timestep)).astype(int), num - 1)


def spread(poses: Poses, num: int, every: float | None) -> np.ndarray:
    """Indices of the poses for a strip of `num` frames.

    Args:
        poses: what is filmed.
        num: number of frames.
        every: time between two frames [s], in the middle of the film; None: from its beginning to its end.

    Raises:
        UserError: the film is shorter than the strip.
    """
    last = len(poses) - 1
    if every is None:
        return np.rint(np.linspace(0, last, num)).astype(int) if num > 1 else np.zeros(1, int)
    steps = np.rint(np.arange(num) * every / poses.timestep)
    # not yet as integers, of which there are too few for some values of `every`
    if not steps[-1] <= last:
        took, has = steps[-1] * poses.timestep, last * poses.timestep
        raise UserError(f"{num} frames {every:g} s apart take {took:.3g} s, but the film lasts {has:.3g} s")
    steps = steps.astype(int)
    return (last - steps[-1]) // 2 + steps


def draw(
    poses: Poses, indices: np.ndarray, camera: Camera, width: int, height: int, strip: bool = False
) -> Iterator[np.ndarray]:
    """Draws the poses of `indices`, one picture (height, width, 3) at a time.

    Frames of a `strip` stand side by side: only the last one has a bar of colours, and apart in time as they are, they
    are no path that the camera could follow smoothly.
    """
    from taichi_sim.render import Renderer

    if strip:
        memory.require(2 * 3 * len(indices) * width * height, f"a strip of {len(indices)} pictures")
    try:
        camera = dataclasses.replace(camera, smoothing=0) if strip else camera
        motion = poses.xpos[indices], poses.xquat[indices]
        renderer = Renderer(poses.model, width, height, camera=camera, motion=motion)
    except ValueError as error:
        raise UserError(str(error)) from error
    shown = -1
    for num, index in enumerate(indices):
        renderer.colorbar = not strip or num == len(indices) - 1
        if any(shown < start <= index for start in poses.starts):
            renderer.reset()
        shown = index
        try:
            yield renderer.render(poses.xpos[index], poses.xquat[index], act=poses.act[index], ctrl=poses.ctrl[index])
        except ValueError as error:
            raise UserError(f"control step {index}: {error}") from error


def turn(poses: Poses, num: int, camera: Camera, width: int, height: int) -> Iterator[np.ndarray]:
    """Draws the first pose `num` times while the camera goes round it once."""
    from taichi_sim.render import Renderer

    try:
        views = [dataclasses.replace(camera, azimuth=camera.azimuth + 360 * k / num) for k in range(num)]
        renderer = Renderer(poses.model, width, height, camera=camera, motion=(poses.xpos[:1], poses.xquat[:1]))
        # one distance for all, so that the camera does not come and go
        renderer.stand_for(views)
    except ValueError as error:
        raise UserError(str(error)) from error
    for view in views:
        renderer.camera = view
        yield renderer.render(poses.xpos[0], poses.xquat[0], act=poses.act[0], ctrl=poses.ctrl[0])


def check_output(path: Path, width: int, height: int) -> None:
    """Refuses what cannot be written, before any time is spent on it.

    Raises:
        UserError: an unknown format, a folder that is missing or read-only, or a size that mp4 cannot hold.
    """
    if path.suffix not in FORMATS:
        known = f"{', '.join(FORMATS)} (a page: --html FILE)"
        raise UserError(f"{path}: unknown format {path.suffix!r}; --out must end in {known}")
    if path.suffix == ".mp4" and (width % 2 or height % 2):
        raise UserError(f"mp4 needs an even width and height, got {width} x {height}")
    check_place(path)


def check_place(path: Path) -> None:
    """Refuses a path where no file can be written.

    Raises:
        UserError: it is a folder, or its folder is missing or read-only.
    """
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder")
    with temporary(path):
        pass


def write(path: Path, frames: Iterator[np.ndarray], fps: float) -> None:
    """Writes frames to an mp4 or gif, or side by side to a png; the file appears when it is whole.

    Raises:
        UserError: the file cannot be written.
    """
    import imageio

    with temporary(path) as name:
        if path.suffix == ".png":
            imageio.imwrite(name, np.concatenate(list(frames), axis=1))
        else:
            options = dict(duration=round(1000 / fps), loop=0) if path.suffix == ".gif" else dict(fps=fps, quality=8)
            if path.suffix == ".mp4":
                # by default imageio would resize to multiples of 16
                options.update(codec="libx264", macro_block_size=2)
            with imageio.get_writer(name, **options) as writer:
                for frame in frames:
                    writer.append_data(frame)
        os.replace(name, path)


@contextlib.contextmanager
def temporary(path: Path) -> Iterator[str]:
    """A file beside `path`, of the same suffix; removed again unless it was renamed."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    os.close(handle)
    # mkstemp keeps others out; a picture is like any other file
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(name, 0o666 & ~umask)
    try:
        yield name
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        Path(name).unlink(missing_ok=True)
