"""What a kernel executes: its thread is stepped through, instruction by instruction.

Linux on x86-64, `pip install capstone`.

Counts are exact, whatever else the machine does: what the thread pool executes around a kernel is left out.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click

# ptrace's requests, and where a thread's registers have the instruction pointer and the stack pointer
_SEIZE, _INTERRUPT, _STEP, _PEEK, _DETACH = 0x4206, 0x4207, 9, 3, 17
_RIP, _RSP = 16 * 8, 19 * 8
_WALL = 0x40000000
# prctl's request: any process may step through this one
_SET_TRACER = 0x59616D61

_ARITHMETIC = re.compile(r"v(add|sub|mul|div|max|min|sqrt|f\w*m(add|sub)\d+)([ps])[sd]$")


class Count(NamedTuple):
    """What is executed once: instructions, operations on numbers (two for a fused one), bytes read and written."""

    instructions: float
    operations: float
    read: float
    written: float


def count(kernel: Callable[[int], object], repeat: int) -> Count:
    """What one turn of a kernel's loop executes, the difference between `kernel(3)` and `kernel(1)`.

    Args:
        kernel: runs in one thread of this process, and takes the number of turns.
        repeat: turns that take that thread long enough to be found.
    """
    try:
        import capstone
    except ImportError:
        raise click.ClickException("to count instructions takes capstone: pip install capstone") from None
    if sys.platform != "linux":
        raise click.ClickException("instructions can be counted on Linux only")
    # a step may end after the thread was let go
    signal.signal(signal.SIGTRAP, lambda *_: None)
    ctypes.CDLL(None).prctl(_SET_TRACER, ctypes.c_ulong(2**64 - 1), 0, 0, 0)
    # compiled first, which is another thread's work
    kernel(1)
    thread = _busiest(lambda: kernel(repeat))
    once, thrice = (_stepped(thread, lambda n=n: kernel(n)) for n in (1, 3))
    machine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    machine.detail = True
    total = Counter()
    for address in thrice:
        times = (thrice[address] - once[address]) / 2
        if times:
            instruction = next(machine.disasm(ctypes.string_at(address, 16), address, 1), None)
            total.update({key: times * value for key, value in _parts(instruction, capstone.x86.X86_OP_MEM).items()})
    return Count(*(total[key] for key in Count._fields))


def _parts(instruction, memory: int) -> dict[str, float]:
    parts = {"instructions": 1}
    if instruction is None or instruction.mnemonic in ("lea", "nop"):
        return parts
    arithmetic = _ARITHMETIC.match(instruction.mnemonic)
    if arithmetic:
        width = instruction.operands[0].size // (8 if instruction.mnemonic.endswith("d") else 4)
        parts["operations"] = (width if arithmetic[3] == "p" else 1) * (2 if arithmetic[2] else 1)
    for k, operand in enumerate(instruction.operands):
        if operand.type == memory:
            moves = k == 0 and not instruction.mnemonic.startswith(("cmp", "test"))
            parts["written" if moves else "read"] = operand.size
    return parts


def _busiest(work: Callable[[], object]) -> int:
    """The thread of this process that takes most of the processor time of `work`."""

    def times() -> dict[str, int]:
        found = {}
        for thread in os.listdir("/proc/self/task"):
            fields = Path(f"/proc/self/task/{thread}/stat").read_text().rsplit(")", 1)[1].split()
            found[thread] = int(fields[11]) + int(fields[12])
        return found

    before = times()
    work()
    after = times()
    return int(max(after, key=lambda thread: after[thread] - before.get(thread, 0)))


def _stepped(thread: int, work: Callable[[], object]) -> Counter:
    """How often kernels of `work` execute the instruction at each address, in a thread that waits for them now."""
    command = [sys.executable, __file__, str(thread)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as tracer:
        if tracer.stdout.readline() != b"ready\n":
            raise click.ClickException("this process may not be stepped through (ptrace is forbidden here)")
        work()
        tracer.stdin.close()
        return pickle.load(tracer.stdout)


def _compiled(thread: int) -> list[tuple[int, int]]:
    """Where the thread's process has code that is of no file."""
    maps = (line.split() for line in Path(f"/proc/{thread}/maps").read_text().splitlines())
    return [tuple(int(x, 16) for x in fields[0].split("-")) for fields in maps if "x" in fields[1] and len(fields) == 5]


def _trace(thread: int) -> None:
    """Steps through a thread until standard input ends, and writes the counts to standard output.

    What is compiled at run time counts, and what it calls: a kernel lasts until the stack is above where it began.
    """
    compiled = _compiled(thread)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p
    libc.ptrace.restype = ctypes.c_long

    def ptrace(request: int, address: int = 0) -> int:
        ctypes.set_errno(0)
        result = libc.ptrace(request, thread, address, 0)
        if ctypes.get_errno():
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result

    ptrace(_SEIZE)
    ptrace(_INTERRUPT)
    os.waitpid(thread, _WALL)
    counts = Counter()
    outermost = None
    os.set_blocking(0, False)
    print("ready", flush=True)
    ptrace(_STEP)
    while True:
        stopped, status = os.waitpid(thread, _WALL | os.WNOHANG)
        if stopped:
            if os.WIFEXITED(status):
                break
            address = ptrace(_PEEK, _RIP)
            if any(first <= address < end for first, end in compiled):
                outermost = outermost or ptrace(_PEEK, _RSP)
            elif outermost and ptrace(_PEEK, _RSP) > outermost:
                outermost = None
            if outermost:
                counts[address] += 1
            ptrace(_STEP)
        elif sys.stdin.buffer.read() == b"":
            # it waits for work, and there is no more
            ptrace(_INTERRUPT)
            os.waitpid(thread, _WALL)
            ptrace(_DETACH)
            break
    sys.stdout.buffer.write(pickle.dumps(counts))


if __name__ == "__main__":
    _trace(int(sys.argv[1]))
