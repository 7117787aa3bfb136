"""The MJCF files that other projects publish, as input for tests: gymnasium's assets and dm_control's suite."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import mujoco

FOLDERS = {"gymnasium": "envs/mujoco/assets"}
if sys.version_info < (3, 13):
    # of labmaze, which it needs, there is no wheel for later ones
    FOLDERS["dm_control"] = "suite"


def files() -> dict[str, Path]:
    """Every model of the packages by name, such as "gymnasium/walker2d".

    Raises:
        RuntimeError: a package of the extra `test` is not installed, or holds no models where they are looked for.
    """
    found: dict[str, Path] = {}
    for package, folder in FOLDERS.items():
        # found without an import: importing dm_control.suite would start its renderer
        spec = importlib.util.find_spec(package)
        paths = sorted((Path(spec.origin).parent / folder).glob("*.xml")) if spec else []
        if not paths:
            raise RuntimeError(f"no models of {package}: pip install -e '.[test]'")
        found.update({f"{package}/{path.stem}": path for path in paths})
    return found


def smooth_spec(path: Path) -> mujoco.MjSpec:
    """The model at `path` with contact, equality and friction loss, MuJoCo's non-smooth constraints, disabled."""
    spec = mujoco.MjSpec.from_file(str(path))
    bit = mujoco.mjtDisableBit
    spec.option.disableflags |= int(bit.mjDSBL_CONTACT) | int(bit.mjDSBL_EQUALITY) | int(bit.mjDSBL_FRICTIONLOSS)
    return spec
