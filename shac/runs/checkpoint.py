"""Checkpoints and run folders: what is written, so that it survives a crash, and read back.

A run folder holds

| file | content |
|---|---|
| config.yaml | the resolved settings |
| metrics.csv | one row per epoch |
| log.txt | what happened to the run, with times |
| events.* | TensorBoard's |
| complete | an empty file, once there is nothing left to train |
| checkpoints/last.pt | everything that decides how the run goes on |
| checkpoints/best.pt | the policy with the best mean return (`Episodes`), or a complete run's last |
| checkpoints/epoch-N.pt | the whole state after epoch N, for the epochs in the setting `snapshots` |
| checkpoints/nonfinite.pt | the state in which a non-finite number stopped the run, if one did |
"""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from shac.algos.networks import Policy, build_actor
from shac.algos.normalizer import Normalizer
from shac.errors import UserError
from shac.models import load_task
from shac.runs import older
from shac.runs.config import build, read_yaml
from shac.runs.misfit import refusing_misfits
from shac.runs.settings import Settings
from shac.task import Task

# Written into every checkpoint; raised when an older reader would misunderstand a newer file.
FORMAT = 1


def path_of(run_dir: str | os.PathLike, which: str) -> Path:
    """Where a run keeps its checkpoint `which` ("best", "last", "nonfinite")."""
    return Path(run_dir) / "checkpoints" / f"{which}.pt"


def completeness_of(run_dir: str | os.PathLike) -> Path:
    """The file that a run's folder has once there is nothing left to train."""
    return Path(run_dir) / "complete"


def atomic_write(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Replaces `path` by what `write(file)` writes: at every moment there is the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    # The new name itself must reach the disk, too. Windows cannot open folders and does not need it.
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Writes a checkpoint: nested dicts and lists of tensors, numbers and texts."""
    atomic_write(path, lambda file: torch.save({"format": FORMAT, **state}, file))


def load(path: Path) -> dict[str, Any]:
    """Reads a checkpoint, its tensors to the CPU; nothing in the file is executed.

    Raises:
      UserError: the file is missing, damaged, or not a checkpoint of this version.
    """
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    try:
        # torch writes checksums but does not look at them when it reads.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged or not a checkpoint: {str(error).splitlines()[0]}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else None
        raise UserError(f"{path} is not a checkpoint of format {FORMAT} (found {found!r})")
    if isinstance(state.get("learner"), dict):
        older.upgrade_learner(state["learner"])
    return state


def read_config(run_dir: str | os.PathLike) -> Settings:
    """The settings of the run in a folder."""
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise UserError(f"there is no run folder {run_dir}")
    path = run_dir / "config.yaml"
    if not path.is_file():
        raise UserError(f"{run_dir} is not a run folder: it has no config.yaml")
    try:
        content = read_yaml(path)
        older.upgrade_settings(content)
        return build(content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def load_run(
    run_dir: str | os.PathLike, which: str = "best", changes: Mapping[str, Any] | None = None
) -> tuple[Task, Policy, Settings]:
    """What a run has learnt, ready to act.

    Args:
      run_dir: the run folder.
      which: "best" or "last".
      changes: settings of the task other than the run's, or as texts: the policy acts in that task.

    Returns:
      The task, the policy (raw observations in, actions out; on the CPU: see `Policy.to`), and the run's settings.

    Raises:
      UserError: folder, model or checkpoint are missing or damaged, or do not belong together.
    """
    config = read_config(run_dir)
    task = load_task(config.model, {**config.task, **(changes or {})})
    path = path_of(run_dir, which)
    state = load(path)
    with refusing_misfits(f"{path} does not fit the model {config.model} or its settings"):
        return task, build_policy(task, config, state), config


def build_policy(task: Task, config: Settings, state: Mapping[str, Any]) -> Policy:
    """The policy in a checkpoint's content, on the CPU.

    Raises:
      KeyError, RuntimeError and others: the content is not of the task's and the settings' shape; see `misfit`.
    """
    actor = build_actor(task, config)
    normalizer = Normalizer(task.num_inputs)
    actor.load_state_dict(state["actor"])
    normalizer.load_state_dict(state["normalizer"])
    return Policy(actor, normalizer.snapshot(torch.get_default_dtype()))
