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
        args = *self._fields.memory, *args
        if self._launch is None:
            self._launch = self._compiled(args)
        self._launch(args)

    def _compiled(self, args):
        primal, program = self._kernel._primal, ti.lang.impl.get_runtime().prog
        with vectors.whole(program.config()) if self._fields.whole else contextlib.nullcontext():
            kernel = primal.compiled_kernels[primal.ensure_compiled(*args)]
            data = program.compile_kernel(program.config(), program.get_device_caps(), kernel)
        kinds = [argument.annotation for argument in primal.arguments]

        def launch(args) -> None:
            context = kernel.make_launch_context()
            for i, (kind, x) in enumerate(zip(kinds, args)):
                if isinstance(x, torch.Tensor):
                    shape = x.shape[: kind.ndim]
                    context.set_arg_external_array_with_shape((i,), x.data_ptr(), x.nbytes, shape, 0)
                elif isinstance(x, ti.Ndarray):
                    context.set_arg_ndarray((i,), x.arr)
                elif kind is ti.i32:
                    context.set_arg_int((i,), x)
                else:
                    context.set_arg_float((i,), x)
            program.launch_kernel(data, context)

        return launch
