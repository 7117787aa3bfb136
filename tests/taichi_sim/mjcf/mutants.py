"""Broken MJCF for `test_fuzz`: a sound file with a few seeded defects. Run as a program, it loads a range of them."""

from __future__ import annotations

import copy
import dataclasses
import functools
import re
import sys
import tempfile
import traceback
import warnings
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import mujoco
import numpy as np

from taichi_sim import mjcf
from taichi_sim.types import Model

ROOT = Path(__file__).resolve().parents[3]
BASES = [
    *(ROOT / "assets" / f"{name}.xml" for name in ("cartpole", "hopper", "ant")),
    ROOT / "tests/arm26.xml",
    *[Path(__file__).parent / "rich.xml"] * 4,
]
NUMBERS = [
    "nan",
    "inf",
    "-inf",
    "1e300",
    "-1e300",
    "1e30",
    "1e15",
    "1e9",
    "1e-300",
    "1e-30",
    "-1",
    "0",
    "",
    "x",
    "1 2",
    "1000000000",
]
# the only fields that may be infinite: ranges open to one side, and the damping of what is implicit
MAY_BE_INFINITE = ("range", "pair_kc")


def mutant(seed: int) -> bytes:
    """One of `BASES` with one to three defects."""
    rng = np.random.default_rng(seed)
    text = BASES[rng.integers(len(BASES))].read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    for _ in range(rng.integers(1, 4)):
        elements = [element for element in root.iter() if element is not root]
        if elements:
            _ELEMENT_DEFECTS[rng.integers(len(_ELEMENT_DEFECTS))](rng, root, elements[rng.integers(len(elements))])
    data = ElementTree.tostring(root)
    return _break_bytes(rng, data) if rng.random() < 0.15 else data


@functools.cache
def _attributes() -> dict[str, list[str]]:
    """Attributes by element, from MuJoCo's own schema."""
    found: dict[str, set[str]] = {}
    schema = mujoco.mj_printSchema(False, False)
    for tag, attributes in re.findall(r"(\w+) \(.\)((?:\s+\w+\b(?! \())*)", schema):
        found.setdefault(tag, set()).update(attributes.split())
    return {tag: sorted(attributes) for tag, attributes in found.items() if attributes}


def _number(rng, root, element) -> None:
    """One number of an attribute."""
    if element.attrib:
        key = rng.choice(sorted(element.attrib))
        words = element.attrib[key].split() or [""]
        words[rng.integers(len(words))] = rng.choice(NUMBERS)
        element.attrib[key] = " ".join(words)


def _attribute(rng, root, element) -> None:
    """Another attribute that MuJoCo knows for the element."""
    if element.tag in (known := _attributes()):
        element.attrib[rng.choice(known[element.tag])] = " ".join(rng.choice(NUMBERS, rng.integers(1, 4)))


def _insert(rng, root, element) -> None:
    """An element that MuJoCo knows, with some of its attributes."""
    others, known = list(root.iter()), _attributes()
    new = ElementTree.SubElement(others[rng.integers(len(others))], rng.choice(sorted(known)))
    for key in known[new.tag]:
        if rng.random() < 0.3:
            new.attrib[key] = rng.choice(NUMBERS)


def _no_attribute(rng, root, element) -> None:
    if element.attrib:
        del element.attrib[rng.choice(sorted(element.attrib))]


def _swap(rng, root, element) -> None:
    if len(element.attrib) > 1:
        one, two = rng.choice(sorted(element.attrib), 2, replace=False)
        element.attrib[one], element.attrib[two] = element.attrib[two], element.attrib[one]


def _rename(rng, root, element) -> None:
    element.tag = rng.choice(sorted({other.tag for other in root.iter()}))


def _remove(rng, root, element) -> None:
    next(parent for parent in root.iter() if element in list(parent)).remove(element)


def _duplicate(rng, root, element) -> None:
    others = list(root.iter())
    other = copy.deepcopy(element)
    if rng.random() < 0.5:
        for part in other.iter():
            part.attrib.pop("name", None)
    others[rng.integers(len(others))].append(other)


def _name(rng, root, element) -> None:
    element.attrib["name"] = rng.choice(["\x9b", "\u202e", "\n", "\xe4", "a'b", "", "world", "a" * 5000])


_ELEMENT_DEFECTS = (
    [_number] * 10 + [_attribute] * 10 + [_no_attribute, _swap, _rename, _remove, _duplicate, _insert, _name]
)


def _break_bytes(rng, data: bytes) -> bytes:
    kind = rng.integers(5)
    at = int(rng.integers(len(data)))
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + rng.bytes(rng.integers(1, 20)) + data[at:]
    if kind == 2:
        flipped = bytearray(data)
        for k in rng.integers(len(data), size=rng.integers(1, 6)):
            flipped[k] ^= 1 << rng.integers(8)
        return bytes(flipped)
    if kind == 3:
        return data.decode().encode(rng.choice(["utf-16", "utf-8-sig", "utf-32"]))
    letters = [b"\xe4", b"\x1b[31m", b"\x00", b"\xff\xfe"][rng.integers(4)]
    return data.replace(b'name="', b'name="' + letters)


def fault(path: Path) -> str:
    """What is wrong with how the file is read; empty if it becomes a sound model or a clear `ModelError`."""
    try:
        model = mjcf.load(path)
    except mjcf.ModelError as error:
        message = str(error)
        if type(error) not in (mjcf.ModelError, mjcf.UnsupportedModelError) or path.name not in message:
            return f"{type(error).__name__}: {message!r}"
        return "" if message.replace("\n", "").isprintable() else f"control characters: {message!r}"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:80]!r} in {last.filename}:{last.lineno}"
    return _nonsense(model)


def _nonsense(model: Model) -> str:
    fields = {field.name: getattr(model, field.name) for field in dataclasses.fields(Model)}
    fields.update({f"opt.{name}": value for name, value in dataclasses.asdict(fields.pop("opt")).items()})
    for name, values in fields.items():
        if isinstance(values, np.ndarray | float) and np.asarray(values).dtype.kind == "f":
            wrong = np.isnan(values) if name.endswith(MAY_BE_INFINITE) else ~np.isfinite(np.float32(values))
            if np.any(wrong):
                return f"{name} holds {np.asarray(values)[wrong].ravel()[0]}"
    return ""


def main(first: int, last: int, keep: Path | None = None) -> None:
    """Load mutants `first` to `last` - 1: prints each one's number before, and its fault after it."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mutant.xml"
        for seed in range(first, last):
            path.write_bytes(mutant(seed))
            print(seed, end=" ", flush=True)
            found = fault(path)
            print(found, flush=True)
            if found and keep:
                (keep / f"{seed}.xml").write_bytes(path.read_bytes())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *map(Path, sys.argv[3:]))
