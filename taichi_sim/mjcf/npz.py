"""A `Model` in one .npz file, so that a machine without mujoco can run it.

The file holds arrays and text only: nothing in it is unpickled.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path

import numpy as np

from taichi_sim.mjcf.unsupported import ModelError
from taichi_sim.types import Model, Option

# Raised when a field changes its meaning; a field that is added or removed is noticed by its name.
_FORMAT = 1


def save(model: Model, path: str | Path) -> None:
    """Write a model to `path`, which must end in .npz; `load` gives it back bit for bit."""
    path = _checked(path)
    entries = {field.name: getattr(model, field.name) for field in dataclasses.fields(Model)}
    entries.update({f"opt.{key}": value for key, value in dataclasses.asdict(entries.pop("opt")).items()})
    entries["names"] = json.dumps(entries["names"])
    # without `allow_pickle=False`, an object array would be written in a form that `load` refuses
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, format=_FORMAT, **entries)


def load(path: str | Path) -> Model:
    """Read a model that `save` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ModelError: the file is not such a model, or of another release's format.
    """
    path = _checked(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            entries = dict(file)
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise ModelError(f"{path} is not a model saved by taichi_sim: {error}") from error
    if int(entries.pop("format", -1)) != _FORMAT:
        raise ModelError(f"{path} is not a model saved by this release of taichi_sim: load the MJCF and save it anew")
    names = {field.name for field in dataclasses.fields(Model)} - {"opt"}
    options = {field.name for field in dataclasses.fields(Option)}
    differ = set(entries) ^ (names | {f"opt.{name}" for name in options})
    if differ:
        what = ", ".join(sorted(differ))
        raise ModelError(f"{path} was saved by another release of taichi_sim ({what}): load the MJCF and save it anew")
    # a scalar is stored as an array of no dimensions
    entries = {key: value if value.ndim else value.item() for key, value in entries.items()}
    option = Option(**{name: entries.pop(f"opt.{name}") for name in options})
    return Model(**{**entries, "names": json.loads(entries["names"])}, opt=option)


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"a saved model's file name ends in .npz, and {str(path)!r} does not")
    return path
