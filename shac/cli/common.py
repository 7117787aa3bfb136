"""What the commands share: errors in one line, and help that ends with an example."""

from __future__ import annotations

import functools
import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from shac.errors import LostRankError, NonFiniteError, UserError


def reports_errors(command: Callable) -> Callable:
    """A user's mistake, a full disk or too little memory: one line and exit status 2; a failed training: status 1."""

    @functools.wraps(command)
    def wrapped(*args, **kwargs):
        try:
            return command(*args, **kwargs)
        except (UserError, OSError, MemoryError) as error:
            status, message = 2, str(error)
        except (NonFiniteError, FloatingPointError, LostRankError) as error:
            status, message = 1, str(error)
        except RuntimeError as error:
            # torch and Taichi have no type of their own for what no estimate has foreseen, such as a small card
            if not re.search("out of memory|allocate memory", str(error), re.IGNORECASE):
                raise
            status, message = 2, f"there is not enough memory: {error}"
        click.echo(f"Error: {' '.join(message.split())}", err=True)
        sys.exit(status)

    return wrapped


def print_result(result: Mapping[str, float], as_json: bool) -> None:
    """Prints numbers by name, one a line or all as one JSON object, in which those that are not finite are null."""
    if as_json:
        click.echo(json.dumps({name: value if math.isfinite(value) else None for name, value in result.items()}))
        return
    width = max(map(len, result))
    for name, value in result.items():
        click.echo(f"{name:<{width}}  {value:.6g}")


class Finite(click.FloatRange):
    """A range of numbers, of which nan is none, nor are infinities."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not finite.", param, ctx)
        return number


class Device(click.ParamType):
    """A device's name; whether there is one is known when it is used."""

    name = "cpu|cuda|cuda:N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"cpu|auto|cuda(:\d{1,4})?", value):
            self.fail(f"{value!r} is not cpu, cuda, cuda:1 and so on, or auto.", param, ctx)
        return value


# What a policy is played with.
other_settings = click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting of the task other than the run's; may be repeated.",
)


class Command(click.Command):
    """A command whose help ends with examples, laid out as they are written."""

    def __init__(self, *args, examples: str, **kwargs):
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for line in self.examples.strip().splitlines():
                formatter.write(f"  {line.strip()}\n")
