"""Kernels of the engine: how they are compiled and launched."""

from __future__ import annotations

import contextlib

import torch

from taichi_sim.lanes import vectors
from taichi_sim.lanes.buffers import Fields
from taichi_sim.runtime import ti


class Launcher:
    """A kernel that takes the engine's memory, then arrays, then numbers; without the look at every argument by which
    Taichi decides whether to compile anew: that takes 0.1 ms, longer than many a kernel.

    To be called within `runtime.exclusive`, with contiguous tensors on the runtime's device, of its precision, or
    Taichi's ndarrays.
    """

    def __init__(self, kernel, fields: Fields):
        self._kernel, self._fields, self._launch = kernel, fields, None

    def __call__(self, *args) -> None:
        if self._launch is None:
            self._launch = self._compiled(args)
        self._launch(args)

    def _compiled(self, args):
        primal, program, memory = self._kernel._primal, ti.lang.impl.get_runtime().prog, self._fields.memory
        kinds = [argument.annotation for argument in primal.arguments]
        flat = [_flat(kind, x) if isinstance(x, torch.Tensor) else x for kind, x in zip(kinds[len(memory) :], args)]
        with vectors.whole(program.config()) if self._fields.whole else contextlib.nullcontext():
            kernel = primal.compiled_kernels[primal.ensure_compiled(*memory, *flat)]
            data = program.compile_kernel(program.config(), program.get_device_caps(), kernel)

        def context():
            made = kernel.make_launch_context()
            _put(made, kinds, 0, memory)
            return made

        # A launch on a card leaves in the context where its copy of the arguments was: the next one needs another.
        kept = context() if self._fields.whole else None

        def launch(args) -> None:
            current = kept or context()
            _put(current, kinds, len(memory), args)
            program.launch_kernel(data, current)

        return launch


def _put(context, kinds: list, first: int, values) -> None:
    """Arguments of a launch from number `first` on."""
    for i, x in enumerate(values, first):
        if isinstance(x, torch.Tensor):
            shape = x.shape[: kinds[i].ndim]
            context.set_arg_external_array_with_shape((i,), x.data_ptr(), x.nbytes, shape, 0)
        elif isinstance(x, ti.Ndarray):
            context.set_arg_ndarray((i,), x.arr)
        elif kinds[i] is ti.i32:
            context.set_arg_int((i,), x)
        else:
            context.set_arg_float((i,), x)


def _flat(kind, x: torch.Tensor) -> torch.Tensor:
    """A tensor of the dimensions that a kernel's parameter has: it takes arrays' rows one after the other
    (`buffers.strip`)."""
    return x.flatten(0, x.ndim - kind.ndim - getattr(kind.dtype, "ndim", 0))
