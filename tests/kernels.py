"""Kernels of tests over the engine's functions, compiled as the engine's own are: with whole vectors."""

import functools

import numpy as np
import torch

from taichi_sim import runtime
from taichi_sim.lanes import vectors
from taichi_sim.lanes.launcher import Launcher


def whole(kernel):
    """A kernel without the engine's memory, of arrays of vectors."""

    @functools.wraps(kernel)
    def call(*args):
        settings = runtime.get()
        with runtime.exclusive(settings), vectors.whole(settings.program.config()):
            _with_tensors(kernel, args)

    return call


def launched(kernel, fields):
    """A kernel whose first parameters are the memory `fields`."""
    launcher = Launcher(kernel, fields)

    def call(*args):
        with runtime.exclusive(runtime.get()):
            _with_tensors(launcher, args)

    return call


def _with_tensors(kernel, args):
    # where vectors lie as processors want them, which NumPy's need not
    tensors = [torch.tensor(x) if isinstance(x, np.ndarray) else x for x in args]
    kernel(*tensors)
    for x, tensor in zip(args, tensors):
        if isinstance(x, np.ndarray):
            x[...] = tensor.numpy()
