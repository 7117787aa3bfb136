"""A `Model` in one .npz file, so that a machine without mujoco can run it.

The file holds arrays and text only: nothing in it is unpickled.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path

import numpy as np

from taichi_sim.mjcf import structure, values
from taichi_sim.mjcf.report import ModelError, Report, check_names
from taichi_sim.types import Model, Option

# Raised when a field changes its meaning; a field that is added or removed is noticed by its name.
_FORMAT = 1
# The most bytes that a file may unpack to: a model of a million vertices takes a tenth of it.
_LARGEST = 2**30


def save(model: Model, path: str | Path) -> None:
    """Write a model to `path`, which must end in .npz; `load` gives it back bit for bit.

    Raises:
        ValueError: the path ends otherwise, or a field holds objects, which `load` would not read.
    """
    path = _checked(path)
    entries = {field.name: getattr(model, field.name) for field in dataclasses.fields(Model)}
    entries.update({f"opt.{key}": value for key, value in dataclasses.asdict(entries.pop("opt")).items()})
    entries["names"] = json.dumps(entries["names"])
    for name, value in entries.items():
        # savez would pickle it; to forbid that, NumPy 1.26 knows no argument
        if np.asarray(value).dtype.hasobject:
            raise ValueError(f"model.{name} holds objects, and a saved model only numbers and text: {value!r:.60}")
    with path.open("wb") as file:
        np.savez_compressed(file, format=_FORMAT, **entries)


def load(path: str | Path) -> Model:
    """Read a model that `save` wrote; what an older release did not write takes its default.

    Raises:
        FileNotFoundError: there is no such file.
        ModelError: the file is not such a model, is damaged, or of another release's format.
    """
    path = _checked(path)
    entries = _read(path)
    form = entries.pop("format", None)
    if not isinstance(form, int) or form != _FORMAT:
        raise ModelError(f"{path} is not a model saved by this release of taichi_sim: load the MJCF and save it anew")
    known = _fields(Model, "") | _fields(Option, "opt.")
    known.pop("opt")
    differ = (set(entries) - set(known)) | {name for name, has_default in known.items() if not has_default} - set(
        entries
    )
    if differ:
        what = ", ".join(sorted(differ))
        raise ModelError(f"{path} was saved by another release of taichi_sim ({what}): load the MJCF and save it anew")
    if isinstance(entries["names"], dict):
        # there were none when models had no sensors
        entries["names"].setdefault("sensor", [])
    option = {name.removeprefix("opt."): entries.pop(name) for name in list(entries) if name.startswith("opt.")}
    model = Model(**entries, opt=_option(path, option))
    try:
        structure.check(model)
    except structure.StructureError as error:
        raise ModelError(f"{path} is damaged: {error}") from None
    report = Report(lambda kind, i: model.names[kind][i] if kind in model.names else "", {})
    values.check_saved(model, report)
    check_names(model.names, report)
    report.raise_if_any(str(path))
    return model


def _read(path: Path) -> dict:
    """The file's arrays by name, but scalars as such, and the elements' names."""
    try:
        with zipfile.ZipFile(path) as file:
            size = sum(entry.file_size for entry in file.infolist())
        if size > _LARGEST:
            raise ModelError(f"{path} unpacks to {size:.3g} bytes, more than a model takes: {_LARGEST:.3g}")
        with np.load(path, allow_pickle=False) as file:
            # a scalar is stored as an array of no dimensions
            entries = {key: value if value.ndim else value.item() for key, value in dict(file).items()}
        return {**entries, "names": json.loads(entries["names"])} if "names" in entries else entries
    except (FileNotFoundError, ModelError):
        raise
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:
        # zipfile, zlib, NumPy's parser of headers and json raise a dozen types on bytes that are not theirs
        raise ModelError(f"{path} is not a model saved by taichi_sim: {error}") from None


def _fields(of: type, prefix: str) -> dict[str, bool]:
    """Names of a dataclass' fields, and whether they have a default."""
    missing = dataclasses.MISSING
    return {
        prefix + field.name: field.default is not missing or field.default_factory is not missing
        for field in dataclasses.fields(of)
    }


def _option(path: Path, entries: dict) -> Option:
    option = Option(**entries)
    for name, default in dataclasses.asdict(Option()).items():
        value = getattr(option, name)
        fits = type(value) is type(default)
        if fits and isinstance(default, np.ndarray):
            fits = value.dtype == default.dtype and value.shape == default.shape
        if not fits:
            raise ModelError(f"{path} is damaged: opt.{name} must be like {default!r}")
    return option


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"a saved model's file name ends in .npz, and {str(path)!r} does not")
    return path
