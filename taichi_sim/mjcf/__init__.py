"""From MJCF to a `Model`, and what of MJCF is refused."""

from taichi_sim.mjcf.loader import load
from taichi_sim.mjcf.npz import save
from taichi_sim.mjcf.report import ModelError, UnsupportedModelError

__all__ = ["ModelError", "UnsupportedModelError", "load", "save"]
