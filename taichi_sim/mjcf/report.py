"""What is said of a model that cannot be read or simulated: errors, and the elements they name."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import numpy as np


class ModelError(ValueError):
    """A model could not be read: the message names the file and what is wrong with it.

    A file's contents never reach a terminal as control characters: `printable`.
    """

    def __init__(self, message: str):
        super().__init__("\n".join(printable(line) for line in message.split("\n")))


class UnsupportedModelError(ModelError):
    """A model holds elements that the engine does not simulate, or settings that it cannot use: all of them, listed."""


def printable(text: str) -> str:
    """The text with every character escaped that is not one to be seen: line breaks, terminals' control sequences."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def decoded(raw: bytes) -> str:
    """Text of a file: UTF-8, else Latin-1, in which every byte is a letter; MuJoCo asks for no encoding."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def said(error: Exception) -> str:
    """What one of MuJoCo's exceptions says, in one line."""
    # its bindings cannot decode a message with a name that is not UTF-8
    text = decoded(error.object) if isinstance(error, UnicodeDecodeError) else str(error)
    return ", ".join(line.strip() for line in text.splitlines() if line.strip())


def element_name(mj_model, kind: str, i: int) -> str:
    """Name of element i of a kind ("body", "joint", "contact pair", ...); empty if it has none."""
    import mujoco

    prefix = {"contact pair": "pair"}.get(kind, kind)
    obj = getattr(mujoco.mjtObj, f"mjOBJ_{prefix.upper()}")
    try:
        return mujoco.mj_id2name(mj_model, obj, i) or ""
    except UnicodeDecodeError as error:
        return decoded(error.object)


def check_names(names: dict[str, list[str]], report: Report) -> None:
    """Report names, by kind, with control characters: whoever prints one prints what it tells a terminal to do."""
    for kind, found in names.items():
        hidden = [i for i, name in enumerate(found) if any(unicodedata.category(c) == "Cc" for c in name)]
        report.add(kind, hidden, "the name holds control characters", "rename it")


class Report:
    """Collects what is wrong with a model, and says it in one message.

    Args:
        name: name of element i of a kind.
        lines: MJCF line by (kind, id), as far as the parser knows them.
    """

    def __init__(self, name: Callable[[str, int], str], lines: dict[tuple[str, int], str]):
        self._name = name
        self._lines = lines
        self._groups: dict[tuple[str, str, str], list[str]] = {}

    def add(self, kind: str, ids, what: str, cure: str) -> None:
        """Add the elements `ids` of one kind that share a defect and its cure; no ids, no entry."""
        for i in np.atleast_1d(np.asarray(ids, dtype=int)):
            self._groups.setdefault((kind, what, cure), []).append(self._element(kind, int(i)))

    def add_where(self, kind: str, mask, what: str, cure: str) -> None:
        """Add the elements of one kind for which the bool array `mask` holds."""
        self.add(kind, np.flatnonzero(mask), what, cure)

    def add_setting(self, where: str, what: str, cure: str) -> None:
        """Add a defect of the model as a whole, such as an option."""
        self._groups.setdefault((where, what, cure), [])

    def raise_if_any(self, source: str) -> None:
        """Raise `UnsupportedModelError` with everything that was added, if anything was."""
        if not self._groups:
            return
        entries = []
        for (kind, what, cure), elements in self._groups.items():
            subject = f"{kind} {', '.join(elements)}" if elements else kind
            # an entry is one line, whatever its elements are called
            entries.append(printable(f"  - {subject}: {what}. {cure[0].upper()}{cure[1:]}."))
        raise UnsupportedModelError(f"{printable(source)} cannot be simulated as it is:\n" + "\n".join(entries))

    def _element(self, kind: str, i: int) -> str:
        name = self._name(kind, i)
        line = self._lines.get((kind, i))
        return (f"'{name}'" if name else f"#{i} (unnamed)") + (f" ({line})" if line else "")
