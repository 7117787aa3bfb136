"""Settings from presets, files and the command line: read, converted, checked, written."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from shac import typed
from shac.errors import UserError, nearest
from shac.runs.settings import ALGOS, SETTINGS, Config, Settings
from shac.task import Task

__all__ = ["Config", "Settings", "assignments", "parse", "read_yaml", "resolve", "to_yaml"]


def resolve(task: Task, algo: str, *layers: Mapping[str, Any]) -> Settings:
    """The settings of a run: defaults, then the task's preset, then `layers`, later ones winning; and the task's own.

    Raises:
      UserError: a setting is unknown, is not one of this algorithm's, its value is not of its type or out of range, or
        one of the task's has the name of an algorithm's.
    """
    own = task.settings()
    for name in own:
        if name in _types():
            raise UserError(f"{type(task).__name__}.{name}: algorithms have a setting of that name; call it otherwise")
    merged: dict[str, Any] = {}
    for layer in (_presets(task).get(algo, {}), *layers, {"algo": algo, "task": own}):
        merged.update(parse(layer))
    return build(merged)


def build(settings: Mapping[str, Any]) -> Settings:
    """Settings of the algorithm that they name; SHAC's if they name none.

    Raises:
      UserError: a setting is not one of that algorithm's, or out of range.
    """
    algo = settings.get("algo", "shac")
    _require_of(algo, settings)
    return SETTINGS[algo](**settings)


def _require_of(algo: str, names: Iterable[str]) -> None:
    typed.require_known(names, [field.name for field in dataclasses.fields(SETTINGS[algo])], f"{algo} has")


@functools.cache
def _types() -> dict[str, Any]:
    """The types of all settings, whichever algorithm's; those of one name have one type."""
    return {name: kind for settings in SETTINGS.values() for name, kind in typing.get_type_hints(settings).items()}


def _presets(task: Task) -> dict[str, dict[str, Any]]:
    """A task's presets; all of them are looked at, whichever is wanted."""
    name = type(task).__name__
    for algo, preset in task.presets.items():
        if algo not in ALGOS:
            raise UserError(f"{name}.presets has {algo!r}, which is no algorithm; {nearest(str(algo), ALGOS)}")
        try:
            _require_of(algo, parse(preset))
        except UserError as error:
            raise UserError(f"{name}.presets[{algo!r}]: {error}") from None
    return task.presets


def parse(settings: Mapping[str, Any], also: Iterable[str] = ()) -> dict[str, Any]:
    """Settings with their values converted to their fields' types; texts are read as the command line gives them.

    Raises:
      UserError: there is no such setting (names in `also` exist, too, for the message), or a value is not of its type.
    """
    kinds = _types()
    typed.require_known(settings, {*kinds, *also}, "there is")
    return typed.converted(settings, kinds)


def assignments(texts: Iterable[str]) -> dict[str, str]:
    """The names and values in texts of the form `name=value`, as `--set` takes them."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set takes name=value, got {text!r}")
        found[name.strip().replace("-", "_")] = value.strip()
    return found


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings in a YAML file."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold `name: value` lines, but its content is a {type(content).__name__}")
    try:
        return parse(content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def to_yaml(config: Settings) -> str:
    """The settings as a YAML document that `read_yaml` reads back."""

    def plain(value):
        if isinstance(value, dict):
            return {name: plain(entry) for name, entry in value.items()}
        return list(value) if isinstance(value, tuple) else value

    return yaml.safe_dump(plain(dataclasses.asdict(config)), sort_keys=False)
