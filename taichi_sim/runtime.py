"""The one point where Taichi is imported and initialised."""

from __future__ import annotations

import taichi as ti


def init() -> None:
    """Initialises Taichi on the CPU in f32, once; a runtime that is up already is left alone."""
    if ti.lang.impl.get_runtime().prog is None:
        ti.init(arch=ti.cpu, default_fp=ti.f32, offline_cache=True, log_level=ti.WARN)
