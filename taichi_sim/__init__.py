"""A differentiable simulator of articulated bodies in Taichi, for CPU and CUDA."""

# ruff: noqa: E402
import os

# Otherwise torch's OpenMP threads go on looking for work, for milliseconds after each operation, on the cores that
# Taichi's need: 1,024 humanoids on two cores took 1.4 times as long. OpenMP reads it when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from taichi_sim import parameters
from taichi_sim.bridge import Simulator
from taichi_sim.linearize import linearize
from taichi_sim.mjcf import ModelError, UnsupportedModelError, load, save
from taichi_sim.readout.fibres import FibreData
from taichi_sim.readout.metabolics import Metabolics, cost_of_transport
from taichi_sim.readout.results import ForwardData
from taichi_sim.runtime import init
from taichi_sim.taichi_step import TaichiStep
from taichi_sim.types import Model, Option, State

__all__ = [
    "FibreData",
    "ForwardData",
    "Metabolics",
    "Model",
    "ModelError",
    "Option",
    "Simulator",
    "State",
    "TaichiStep",
    "UnsupportedModelError",
    "cost_of_transport",
    "init",
    "linearize",
    "load",
    "parameters",
    "save",
]
