"""Settings from presets, files and the command line: read, converted, checked, written."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from shac.env import Task
from shac.errors import UserError, nearest
from shac.runs.settings import ALGOS, SETTINGS, Config, Settings

__all__ = ["Config", "Settings", "parse", "parse_assignments", "read_yaml", "resolve", "to_yaml"]


def resolve(task: Task, algo: str, *layers: Mapping[str, Any]) -> Settings:
    """The settings of a run: defaults, then the task's preset, then `layers`, later ones winning.

    Raises:
      UserError: a setting is unknown, is not one of this algorithm's, or its value is not of its type or out of range.
    """
    merged: dict[str, Any] = {}
    for layer in (_presets(task).get(algo, {}), *layers, {"algo": algo}):
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
    known = [field.name for field in dataclasses.fields(SETTINGS[algo])]
    for name in names:
        if name not in known:
            raise UserError(f"{algo} has no setting {name!r}; {nearest(name, known)}")


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


def parse(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with their values converted to their fields' types; texts are read as the command line gives them."""
    fields = _types()
    for name in settings:
        if name not in fields:
            raise UserError(f"there is no setting {name!r}; {nearest(str(name), fields)}")
    parsed = {}
    for name, value in settings.items():
        try:
            parsed[name] = _convert(value, fields[name])
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
            raise UserError(f"setting {name} takes {_describe(fields[name])}, got {value!r}") from None
    return parsed


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """The settings in texts of the form `name=value`, as `--set` takes them."""
    settings = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set takes name=value, got {text!r}")
        settings[name.strip().replace("-", "_")] = value.strip()
    return parse(settings)


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
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}
    return yaml.safe_dump(plain, sort_keys=False)


def _convert(value: Any, kind: Any) -> Any:
    """`value` as a `kind`, without guessing: no truth from numbers, no integers from fractions."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if value in (None, "none", "null") else _convert(value, arguments[0])
    if origin is Literal:
        if value not in arguments:
            raise ValueError
        return value
    if origin is tuple:
        items = [item for item in value.strip("()[]").split(",") if item.strip()] if isinstance(value, str) else value
        converted = tuple(_convert(item, arguments[0]) for item in items)
        if arguments[-1] is not Ellipsis and len(converted) != len(arguments):
            raise ValueError
        return converted
    if kind is bool:
        return value if isinstance(value, bool) else {"true": True, "false": False}[value.lower()]
    if isinstance(value, bool) or not isinstance(value, (kind, int, str)):
        raise TypeError
    return kind(value)


def _describe(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return f"{_describe(arguments[0])} or none"
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin is tuple:
        count = "" if arguments[-1] is Ellipsis else f"{len(arguments)} "
        return f"a list of {count}{'whole numbers' if arguments[0] is int else 'numbers'}, such as 1,2"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[kind]
