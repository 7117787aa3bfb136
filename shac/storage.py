"""Tables of motions: OpenSim's .mot and .sto, and .csv, read and written."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np

from shac.errors import UserError, nearest

KINDS = (".mot", ".sto", ".csv")
TIME = "time"


@dataclasses.dataclass
class Table:
    """Numbers over time.

    | field | meaning | shape |
    |---|---|---|
    | names | of the columns, without that of the time | C |
    | time | increasing [s] | (R,) |
    | values | of the columns | (R, C) |
    | in_degrees | angles are in degrees, else in radians; None: the file does not say | scalar |
    """

    names: list[str]
    time: np.ndarray
    values: np.ndarray
    in_degrees: bool | None


def read(path: str | Path) -> Table:
    """The table in a file.

    A .mot or .sto begins with lines up to `endheader`, among which `inDegrees=yes` or `no` says what angles are in, and
    goes on with columns' names and rows of numbers, separated by tabs or blanks. A .csv begins with their names; before
    that it may have a line `inDegrees=yes`, too, also as a comment (`#`).

    Raises:
      UserError: there is no such file, or it is not such a table; the message names file and line.
    """
    path = Path(path).expanduser()
    check_kind(path)
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: save it in this encoding") from error
    # rows of the file by their numbers
    rows = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    header, rows = (_comments if path.suffix == ".csv" else _header)(path, rows)
    if not rows:
        raise UserError(f"{path} has no line with the columns' names")
    (at, labels), body = rows[0], rows[1:]
    names = _cells(path, labels)
    if len(names) < 2 or names[0].lower() != TIME:
        raise UserError(f"{path}, line {at}: the first column must be {TIME!r}, with others behind, got {labels!r:.80}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{path}, line {at}: columns of one name: {', '.join(twice)}; leave one of them")
    values = np.array([_numbers(path, number, line, len(names)) for number, line in body])
    for key in ("nrows", "datarows"):
        if header.get(key, str(len(body))) != str(len(body)):
            raise UserError(f"{path} has {len(body)} rows of numbers, its header says {header[key]}: it is cut off")
    if len(body) < 2:
        raise UserError(f"{path} has {len(body)} rows of numbers; a motion takes two or more")
    late = np.flatnonzero(np.diff(values[:, 0]) <= 0)
    if len(late):
        k = late[0] + 1
        raise UserError(
            f"{path}, line {body[k][0]}: time must increase, but {values[k, 0]:g} s follows {values[k - 1, 0]:g} s; "
            "sort the rows, or take out those that are there twice"
        )
    return Table(names[1:], values[:, 0], values[:, 1:], _degrees(path, header))


def write(path: str | Path, table: Table) -> None:
    """Writes a table to a .mot, .sto or .csv, with seven digits; what OpenSim reads of the first two.

    Raises:
      UserError: the name ends otherwise, or the folder is not there.
    """
    path = Path(path)
    check_kind(path)
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: there is no folder {path.parent}")
    separator = "," if path.suffix == ".csv" else "\t"
    unit = [] if table.in_degrees is None else [f"inDegrees={'yes' if table.in_degrees else 'no'}"]
    rows, columns = table.values.shape
    head = [path.stem, "version=1", f"nRows={rows}", f"nColumns={columns + 1}", *unit, "endheader"]
    lines = [f"# {line}" for line in unit] if path.suffix == ".csv" else head
    lines.append(separator.join([TIME, *table.names]))
    for time, row in zip(table.time, table.values, strict=True):
        lines.append(separator.join(f"{value:.7g}" for value in (time, *row)))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def check_kind(path: Path) -> None:
    """Raises a UserError where the name of a table's file does not say what it is."""
    if path.suffix not in KINDS:
        raise UserError(f"{path} has none of the endings {', '.join(KINDS)}, which say what a table of a motion is")


def _header(path: Path, rows: list[tuple[int, str]]):
    """Values by lower-case key of what stands before `endheader`, and the rows after it."""
    header = {}
    for k, (_, line) in enumerate(rows):
        if line.lower() == "endheader":
            return header, rows[k + 1 :]
        key, _, value = line.partition("=") if "=" in line else line.partition(" ")
        header[key.strip().lower()] = value.strip()
    raise UserError(f"{path} has no line 'endheader', which ends the header of a {path.suffix}")


def _comments(path: Path, rows: list[tuple[int, str]]):
    """The same of a .csv, whose header is what has `=` before the columns' names."""
    header = {}
    for k, (_, line) in enumerate(rows):
        line = line.lstrip("# ")
        if "=" not in line:
            return header, rows[k:]
        key, _, value = line.partition("=")
        header[key.strip().lower()] = value.strip().rstrip(",")
    return header, []


def _cells(path: Path, line: str) -> list[str]:
    if path.suffix == ".csv":
        return [cell.strip() for cell in next(csv.reader([line]))]
    return [cell.strip() for cell in line.split("\t")] if "\t" in line else line.split()


def _numbers(path: Path, number: int, line: str, count: int) -> list[float]:
    cells = _cells(path, line)
    if len(cells) != count:
        raise UserError(f"{path}, line {number}: {len(cells)} cells where the header has {count} columns")
    values = []
    for cell in cells:
        try:
            values.append(float(cell))
        except ValueError:
            raise UserError(f"{path}, line {number}: {cell!r} is no number") from None
    if not np.isfinite(values).all():
        raise UserError(f"{path}, line {number}: not all numbers are finite; leave out the row, or fill its gap")
    return values


def _degrees(path: Path, header: dict[str, str]) -> bool | None:
    value = header.get("indegrees")
    if value is None:
        return None
    try:
        return {"yes": True, "no": False}[value.lower()]
    except KeyError:
        raise UserError(f"{path}: inDegrees is yes or no, got {value!r}; {nearest(value, ('yes', 'no'))}") from None
