"""A differentiable simulator of articulated bodies in Taichi, for CPU and CUDA."""

from taichi_sim.bridge import ForwardData, Simulator
from taichi_sim.mjcf import load
from taichi_sim.runtime import init
from taichi_sim.types import Model, Option, State

__all__ = ["ForwardData", "Model", "Option", "Simulator", "State", "init", "load"]
