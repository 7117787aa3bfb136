"""Instructions counted by stepping through a kernel."""

import platform
import sys
from pathlib import Path

import pytest
from processes import run_kernels

pytestmark = [
    pytest.mark.cpu,
    pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="steps through x86 on Linux"),
]
LANES, LENGTH = 8, 64
PROGRAM = f"""
import functools
import taichi_sim as ts
import torch
from instructions import click, count
from kernels import whole
from taichi_sim.runtime import ti

ts.init("cpu", "f64", num_threads=1)
array = ti.types.ndarray(dtype=ti.types.vector({LANES}, ti.f64), ndim=1)

@whole
@ti.kernel
def kernel(x: array, turns: ti.i32):
    for _ in range(1):
        for turn in range(turns):
            for i in range({LENGTH}):
                x[i] = x[i] * 0.5 + turn * 0.25

x = torch.ones({LENGTH}, {LANES}, dtype=torch.float64)
try:
    for _ in range(2):
        print(*count(functools.partial(kernel, x), 2_000_000))
except click.ClickException as error:
    print(error)
"""


def test_operations_and_bytes_of_a_sum_of_products(tmp_path):
    """A product and a sum of each vector, which is read once and written once, whatever the thread pool does."""
    tools = str(Path(__file__).parents[2] / "tools")
    path = ":".join([tools, *sys.path])
    output = run_kernels(PROGRAM, tmp_path, PYTHONPATH=path).stdout
    if "forbidden" in output:
        pytest.skip(output)
    once, again = ([float(x) for x in line.split()] for line in output.splitlines()[-2:])
    assert once == again
    instructions, operations, read, written = once
    values = LENGTH * LANES
    # a turn has a product of its own
    assert 2 * values <= operations <= 2 * values + LANES
    # constants may be read with each vector
    assert 8 * values <= read <= 10 * values and written == 8 * values
    assert LENGTH * 4 < instructions < LENGTH * 40
