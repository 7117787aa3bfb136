"""The one place where Taichi is imported and initialised.

Everything else imports `ti` from here, so that a switch to a fork of Taichi stays a change of one line.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import io
import os
import threading
import weakref

import numpy as np

# Taichi announces itself on standard output, which belongs to the programs that use it (`shac-eval --json | jq`).
os.environ.setdefault("ENABLE_TAICHI_HEADER_PRINT", "0")

import taichi as ti  # noqa: E402
import torch  # noqa: E402
from taichi.lang.ast import ast_transformer_utils  # noqa: E402

from taichi_sim.machine import cuda, kernel_cache, threads  # noqa: E402


def _remember_positions() -> None:
    """Lets Taichi format the source position of a line once instead of for every node of every inlined copy of it.

    It does so whether there is an error to report or not, which was half of the Python side of compiling a kernel
    (2.4 of 5.0 s for a humanoid's step), with or without a kernel cache.
    """
    context = ast_transformer_utils.ASTTransformerContext
    original, memory = context.get_pos_info, {}

    def get_pos_info(self, node):
        span = (node.lineno, node.col_offset, node.end_lineno, node.end_col_offset)
        key = (self.file, self.lineno_offset, *span)
        if key not in memory:
            memory[key] = original(self, node)
        return memory[key]

    context.get_pos_info = get_pos_info


_remember_positions()


def procedure(function):
    """Like `ti.func`, for a function without a result: its statements have a block of their own wherever it is called.

    Whenever a pass of Taichi's replaces a statement, it looks for uses of it in all of the statement's block, in the
    blocks within, and in those around. So a kernel's compilation takes time by the square of what a block has in it.
    LLVM has no use for a block that always runs: the code is the same.

    Raises:
        ti.TaichiSyntaxError: the function has a result; it would not be known outside of the block.
    """
    inlined = ti.func(function)

    @functools.wraps(inlined)
    def call(*args):
        taichi = ti.lang.impl
        builder = taichi.get_runtime().current_kernel.ast_builder()
        taichi.begin_frontend_if(builder, ti.lang.expr.Expr(1), taichi._ti_core.DebugInfo())
        builder.begin_frontend_if_true()
        if inlined(*args) is not None:
            raise ti.TaichiSyntaxError(f"{function.__name__} has a result, so it is no procedure")
        builder.pop_scope()
        builder.begin_frontend_if_false()
        builder.pop_scope()

    return call


# Worlds that one Taichi "thread" carries side by side. Every quantity of the engine is a vector over the lanes of a
# block of worlds, and LLVM's vectors are as long as that: a register of 512 bits, or two of 256 (docs/performance.md).
_CPU_LANES = {"f32": 16, "f64": 8}

# Iterations that a CPU thread of Taichi 1.7 takes at a time, whatever `loop_config` and `default_cpu_block_dim` say
# (measured: a loop of 512 heavy iterations has one thread, one of 1,024 has two).
_CPU_TASK = 512


@dataclasses.dataclass(frozen=True)
class Runtime:
    """What `init` settled on: the device, the precision and the layout that follows from them."""

    device: torch.device
    precision: str
    # Taichi's program that kernels and fields belong to, and whether somebody else had begun it
    program: object = dataclasses.field(repr=False)
    shared: bool
    # which of the machine's cards, on CUDA
    card: int = 0

    @property
    def real(self):
        """Taichi's type of a real number."""
        return ti.f64 if self.precision == "f64" else ti.f32

    @property
    def dtype(self) -> torch.dtype:
        """Torch's type of a real number."""
        return torch.float64 if self.precision == "f64" else torch.float32

    @property
    def numpy(self):
        """NumPy's type of a real number."""
        return np.float64 if self.precision == "f64" else np.float32

    @property
    def task_stride(self) -> int:
        """Iterations of a kernel's parallel loop per block of worlds, of which one does the work: so each block may run
        on a thread of its own."""
        return 1 if self.device.type == "cuda" else _CPU_TASK

    def lanes(self, num_worlds: int) -> int:
        """Worlds per block for a batch of that size: a power of two; half as many where threads would have no block."""
        if self.device.type == "cuda":
            return 1
        most = _CPU_LANES[self.precision]
        if num_worlds <= most // 2 * self.program.config().cpu_max_num_threads:
            most //= 2
        return min(most, 1 << (num_worlds - 1).bit_length())


_runtime: Runtime | None = None
_forked = False

# Taichi's compiler and launches belong to one thread at a time, and so does the scratch that kernels work in.
_lock = threading.RLock()


def _after_fork() -> None:
    global _forked
    _forked = _runtime is not None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def require_alive(runtime: Runtime) -> None:
    """Raises a RuntimeError if what was made under `runtime` cannot be used any more."""
    if _forked:
        raise RuntimeError(
            "Taichi's threads did not survive the fork of this process, so no Simulator can run in it: start workers "
            'with multiprocessing\'s "spawn" (DataLoader(multiprocessing_context="spawn")), or simulate in the parent'
        )
    if _program() is not runtime.program:
        raise RuntimeError(
            "ti.init() or ti.reset() ended the Taichi program in which this Simulator was made: call your ti.init() "
            "before the first Simulator, which then shares it, or make a new Simulator"
        )


@contextlib.contextmanager
def exclusive(runtime: Runtime):
    """For launches of kernels: one thread at a time; Taichi compiles as `init` wants it; no `ti.ad.Tape` records them.

    Raises:
        RuntimeError: see `require_alive`.
    """
    require_alive(runtime)
    with _lock:
        taichi, config = ti.lang.impl.get_runtime(), runtime.program.config()
        ours = _compile_settings(runtime.device.type, runtime.precision) if runtime.shared else {}
        theirs = {name: getattr(config, name) for name in ours}
        replaced, taichi.grad_replaced = taichi.grad_replaced, True
        try:
            for name, value in ours.items():
                setattr(config, name, value)
            yield
        finally:
            taichi.grad_replaced = replaced
            for name, value in theirs.items():
                setattr(config, name, value)


def _compile_settings(device: str, precision: str) -> dict[str, bool | int]:
    """Taichi's settings for the engine's kernels."""
    settings = {
        # f64 is the precision of tests and of system identification: no reordering of sums there.
        "fast_math": precision == "f32",
        # LLVM optimises what Taichi's own passes would, and compiles the engine's kernels in a sixth of the time.
        "advanced_optimization": False,
    }
    if device == "cuda":
        # one warp a block: few worlds spread over many multiprocessors
        settings["default_gpu_block_dim"] = 32
        if precision == "f32":
            # Otherwise every store makes the code load the fields' places anew: twice the time of a step, for half of
            # that of compilation (H100, docs/performance.md).
            settings |= {"advanced_optimization": True, "cfg_optimization": False}
    return settings


def _program():
    """Taichi's program, None before ti.init."""
    return ti.lang.impl.get_runtime().prog


def returned(array):
    """A vector or matrix ndarray whose memory goes back when nobody has it any more, which Taichi forgets."""
    weakref.finalize(array, _return, _program(), array.arr).atexit = False
    return array


def _return(program, memory) -> None:
    if _program() is program:
        program.delete_ndarray(memory)


def _finish(program) -> None:
    """Ends Taichi's program, which writes its kernel cache.

    Taichi does so when Python takes its runtime apart, which does not happen while an autograd graph refers to a
    Simulator, as at the end of many a script.
    """
    if _program() is program and not _forked:
        ti.lang.impl.get_runtime().clear()


def init(device: str | None = None, precision: str | None = None, *, num_threads: int | None = None) -> Runtime:
    """Initialises Taichi; optional, and at most once per process.

    A program that has called `ti.init` itself shares it, if arch and default_fp are those asked for here.

    Args:
        device: "cpu" (default), "cuda", "cuda:1" and so on, or "auto": the CPU. "cuda" is the card that
          the environment's LOCAL_RANK says, or the first one.
        precision: "f32" (default) or "f64".
        num_threads: CPU threads of the simulation; by default as many as the environment's TI_CPU_MAX_NUM_THREADS says,
          or one on each core. If there are as many as cores, they (on Linux) do not leave theirs.

    Returns:
        The settings in force.

    Raises:
        ValueError: an unknown device or precision.
        RuntimeError: the process is initialised already with other settings, or Taichi cannot run on the card; the
          message has the cure.
    """
    global _runtime
    kind, card = cuda.parse(device)
    if precision not in (None, "f32", "f64"):
        raise ValueError(f"precision must be 'f32' or 'f64', got {precision!r}")
    with _lock:
        if _runtime is None or _program() is not _runtime.program:
            _runtime = _begin(kind, card, precision, num_threads) if _program() is None else _share()
        settled_card = None if card is None else f"cuda:{_runtime.card}"
        for asked, settled in (
            (kind, _runtime.device.type),
            (None if card is None else device, settled_card),
            (precision, _runtime.precision),
        ):
            if asked is not None and asked != settled:
                since = "your ti.init()" if _runtime.shared else "the first Simulator or init()"
                raise RuntimeError(
                    f"taichi_sim runs with {settled!r} since {since}; {asked!r} needs a process of its own, or a call "
                    "of ts.init() before anything else"
                )
        return _runtime


def _begin(kind: str | None, card: int | None, precision: str | None, num_threads: int | None) -> Runtime:
    """Begins a program of Taichi's."""
    device, card = kind or "cpu", cuda.local_card() if card is None else card
    if device == "cuda":
        cuda.begin(card)
    precision = precision or "f32"
    workers = {} if num_threads is None else {"cpu_max_num_threads": num_threads}
    before = threads.running()
    with (
        kernel_cache.usable(ti.lang.impl.default_cfg().offline_cache_file_path),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        ti.init(
            arch=ti.cuda if device == "cuda" else ti.cpu,
            default_fp=ti.f64 if precision == "f64" else ti.f32,
            offline_cache=True,
            log_level=ti.WARN,
            **_compile_settings(device, precision),
            **workers,
        )
        # what Taichi does in this thread or never, and else with the first kernel
        ti.lang.impl.get_runtime().materialize()
    if device == "cuda" and _program().config().arch != ti.cuda:
        # a program on the CPU, with a card's layout, is nothing to leave behind
        ti.reset()
        raise RuntimeError(f"device='cuda' was asked for, but Taichi runs on the CPU: {cuda.why_not()}")
    if device == "cpu" and before:
        threads.pin(threads.running() - before, _program().config().cpu_max_num_threads)
    atexit.register(_finish, _program())
    return Runtime(_torch_device(device), precision, _program(), shared=False, card=card)


def _torch_device(device: str) -> torch.device:
    # the first card that the process sees is Taichi's, whatever torch's current one is
    return torch.device("cuda", 0) if device == "cuda" else torch.device("cpu")


def _share() -> Runtime:
    """Joins the program that somebody else began."""
    config = _program().config()
    if config.arch == ti.cuda:
        device = "cuda"
    elif config.arch in (ti.x64, ti.arm64):
        device = "cpu"
    else:
        raise RuntimeError(f"your ti.init() chose the arch {config.arch}; taichi_sim runs on ti.cpu and ti.cuda only")
    atexit.register(_finish, _program())
    precision = "f64" if config.default_fp == ti.f64 else "f32"
    return Runtime(_torch_device(device), precision, _program(), shared=True)


def get() -> Runtime:
    """The settings in force; initialises with the defaults if nobody has."""
    return init()
