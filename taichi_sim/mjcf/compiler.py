"""From a file or a spec to a compiled `mujoco.MjModel`: every way in which that can fail is a `ModelError`.

MuJoCo reads and compiles what others wrote without a bound on time and memory, and crashes on some sizes: those are
refused before.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import warnings
from pathlib import Path

from taichi_sim.mjcf.report import ModelError, decoded, printable, said

# The largest file of MJCF [bytes], and the most copies of elements that one may ask for: they take MuJoCo minutes.
_LARGEST_FILE = 2**28
_MOST_COPIES = 20_000
# The most cells of a height field or a texture; MuJoCo multiplies their numbers of rows and columns as 32-bit integers.
_MOST_CELLS = 2**26
# The most entries of what `<size>` reserves.
_MOST_ENTRIES = 10**5
# The most steps of the simulation by which MuJoCo finds a muscle's length range; by default there are 1000.
_MOST_LENGTH_STEPS = 10**6
_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
_TAG = re.compile(rb"""<(/?)(replicate|composite|flexcomp|hfield|include)\b((?:[^>"']|"[^"]*"|'[^']*')*?)(/?)>""")
_VALUE = rb"""\b%s\s*=\s*(?:"([^"]*)"|'([^']*)')"""


def spec_of_file(path: Path):
    """The `mujoco.MjSpec` of a file that exists.

    Raises:
        ModelError: it cannot be read, is not MJCF, or would make too many copies of its elements.
    """
    import mujoco

    data = _read(path, str(path))
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:4]:
        raise ModelError(f"{path} is not UTF-8, as MJCF must be: save it in this encoding")
    _check_text(path, data)
    with _errors(f"{path} is not valid MJCF"):
        if path.suffix in (".xml", ".urdf"):
            return mujoco.MjSpec.from_file(str(path))
        # MuJoCo reads no names that end in .mjcf; the file's own includes and meshes still lie beside it
        return mujoco.MjSpec.from_file(f"{path}.xml", include={f"{path.name}.xml": data})


def compiled(spec, source: str):
    """The `mujoco.MjModel` of a `mujoco.MjSpec`; `source` is what messages call it.

    Raises:
        ModelError: it does not compile, or would take too much time or memory.
    """
    _check_sizes(spec, source)
    with _errors(f"{source} does not compile"):
        return spec.compile()


def name_of_spec(spec) -> str:
    """What messages call a `mujoco.MjSpec`."""
    try:
        return f"the MjSpec '{spec.modelname}'"
    except UnicodeDecodeError as error:
        return f"the MjSpec '{decoded(error.object)}'"


def lines(spec) -> dict[tuple[str, int], str]:
    """MJCF lines of a compiled spec's elements by (kind, id); elements of included files have none."""
    kinds = {
        "body": spec.bodies,
        "joint": spec.joints,
        "geom": spec.geoms,
        "site": spec.sites,
        "mesh": spec.meshes,
        "material": spec.materials,
        "contact pair": spec.pairs,
        "equality": spec.equalities,
        "tendon": spec.tendons,
        "actuator": spec.actuators,
        "flex": spec.flexes,
        "numeric": spec.numerics,
        "text": spec.texts,
    }
    return {
        (kind, element.id): element.info
        for kind, elements in kinds.items()
        for element in elements
        # elements have no ids before MuJoCo 3.3.2; the parser counts lines from 1, with 0 for what was included
        if hasattr(element, "id") and element.info and element.info != "line 0"
    }


@contextlib.contextmanager
def _errors(what: str):
    """Turns MuJoCo's exceptions into one `ModelError`, and makes its warnings fit to be printed."""
    import mujoco

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        except (ValueError, MemoryError, mujoco.FatalError) as error:
            # MuJoCo's own exception would print what its message holds of the file as it is
            raise ModelError(f"{what}: {said(error) or 'there is not enough memory'}") from None
    for warning in caught:
        # to the caller of `load`
        warnings.warn(printable(str(warning.message)), warning.category, stacklevel=6)


def _read(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > _LARGEST_FILE:
                raise ModelError(f"{name} is larger than {_LARGEST_FILE >> 20} MB, which no MJCF is")
            # no more than that: there are files without an end
            return file.read(size)
    except OSError as error:
        raise ModelError(f"{name} cannot be read: {error.strerror or error}") from None


def _check_text(path: Path, data: bytes, copies: float = 1.0, seen: frozenset[Path] = frozenset()) -> None:
    """Refuse a file that MuJoCo would take hours or all memory to read, by itself or by one that it includes.

    Args:
        copies: how often the place is copied where it is included.
        seen: the files that include it.
    """
    nested = [copies]
    for closing, tag, attributes, empty in _TAG.findall(_COMMENT.sub(b"", data)):
        if tag == b"include":
            # MuJoCo looks beside the main file
            file = path.parent / decoded(_value(attributes, b"file"))
            if os.path.exists(file) and file not in seen:
                if not os.path.isfile(file):
                    raise ModelError(f"{path} includes {file}, which is not a file")
                _check_text(path, _read(file, f"{path} includes {file}, which"), nested[-1], seen | {file})
        elif tag == b"hfield":
            cells = _product(_value(attributes, b"nrow") + b" " + _value(attributes, b"ncol"))
            _check_size(str(path), "hfield", "nrow x ncol", cells, _MOST_CELLS)
        elif closing:
            nested = nested[:-1] or [1.0]
        else:
            number = nested[-1] * _product(_value(attributes, b"count"))
            _check_size(str(path), tag.decode(), "count", number, _MOST_COPIES)
            nested += [number] * (not empty)


def _value(attributes: bytes, name: bytes) -> bytes:
    found = re.search(_VALUE % name, attributes)
    return (found[1] or found[2] or b"") if found else b""


def _product(words: bytes) -> float:
    """The product of the numbers among the words; MuJoCo's parser refuses those that are none."""
    product = 1.0
    for word in words.split():
        with contextlib.suppress(ValueError):
            product *= max(abs(float(word)), 1.0)
    return product


def _check_sizes(spec, source: str) -> None:
    """Refuse sizes and settings with which MuJoCo's compiler crashes, or takes hours or all memory."""
    found = [(f"hfield ({x.info})", "nrow x ncol", x.nrow * x.ncol, _MOST_CELLS) for x in spec.hfields]
    found += [(f"texture ({x.info})", "width x height", x.width * x.height, _MOST_CELLS) for x in spec.textures]
    kinds = ("body", "jnt", "geom", "site", "cam", "tendon", "actuator", "sensor")
    names = ["nkey", "nuserdata", *(f"nuser_{kind}" for kind in kinds)]
    found += [("size", name, getattr(spec, name), _MOST_ENTRIES) for name in names]
    ranges = spec.compiler.LRopt
    steps = ranges.inttotal / ranges.timestep if ranges.timestep > 0 else math.inf
    found.append(("lengthrange", "inttotal / timestep", steps, _MOST_LENGTH_STEPS))
    for element, name, number, most in found:
        _check_size(source, element, name, number, most)


def _check_size(source: str, element: str, name: str, number: float, most: float) -> None:
    if not number <= most:
        raise ModelError(f"{source} asks for too much: {name} of {element} is {number:g}; give at most {most:g}")
