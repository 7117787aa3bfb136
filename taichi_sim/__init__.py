"""A differentiable simulator of articulated bodies in Taichi, for CPU and CUDA."""

from taichi_sim import parameters
from taichi_sim.bridge import ForwardData, Simulator
from taichi_sim.mjcf import ModelError, UnsupportedModelError, load, save
from taichi_sim.runtime import init
from taichi_sim.taichi_step import TaichiStep
from taichi_sim.types import Model, Option, State

__all__ = [
    "ForwardData",
    "Model",
    "ModelError",
    "Option",
    "Simulator",
    "State",
    "TaichiStep",
    "UnsupportedModelError",
    "init",
    "load",
    "parameters",
    "save",
]
