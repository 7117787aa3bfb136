"""Values of declared types, from texts, files and programs."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from shac.errors import UserError, nearest

# What `convert` raises.
_MISFITS = (TypeError, ValueError, KeyError, AttributeError, OverflowError)


def fields(kind: type) -> dict[str, Any]:
    """The types of a dataclass's fields by name; none of another class."""
    if not dataclasses.is_dataclass(kind):
        return {}
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def require_known(names: Iterable[str], known: Iterable[str], owner: str) -> None:
    """Refuses names that are no settings of the owner ("there is", "ant has").

    Raises:
      UserError: it has no setting of such a name.
    """
    for name in names:
        if name not in known:
            raise UserError(f"{owner} no setting {name!r}; {nearest(str(name), known)}")


def converted(values: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The values as their types.

    Raises:
      UserError: a value is not of its type.
    """
    result = {}
    for name, value in values.items():
        try:
            result[name] = convert(value, kinds[name])
        except _MISFITS:
            raise UserError(f"setting {name} takes {describe(kinds[name])}, got {value!r}") from None
    return result


def convert(value: Any, kind: Any) -> Any:
    """`value` as a `kind`, without guessing: no truth from numbers, no integers from fractions.

    Raises:
      TypeError, ValueError, KeyError, AttributeError or OverflowError: it is none.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if value in (None, "none", "null") else convert(value, arguments[0])
    if origin is Literal:
        if value not in arguments:
            raise ValueError
        return value
    if origin is dict:
        return dict(value)
    if origin is tuple:
        items = [item for item in value.strip("()[]").split(",") if item.strip()] if isinstance(value, str) else value
        converted = tuple(convert(item, arguments[0]) for item in items)
        if arguments[-1] is not Ellipsis and len(converted) != len(arguments):
            raise ValueError
        return converted
    if kind is bool:
        return value if isinstance(value, bool) else {"true": True, "false": False}[value.lower()]
    if isinstance(value, bool) or not isinstance(value, (kind, int, str)):
        raise TypeError
    return kind(value)


def describe(kind: Any) -> str:
    """What a `kind` is, for people."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return f"{describe(arguments[0])} or none"
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin is dict:
        return "lines of `name: value`"
    if origin is tuple:
        count = "" if arguments[-1] is Ellipsis else f"{len(arguments)} "
        return f"a list of {count}{'whole numbers' if arguments[0] is int else 'numbers'}, such as 1,2"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[kind]
