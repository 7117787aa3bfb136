"""Pictures of a `Model` at a state, by ray casting on the CPU."""

from taichi_sim.render.renderer import Renderer

__all__ = ["Renderer"]
