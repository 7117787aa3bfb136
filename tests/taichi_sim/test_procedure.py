"""Procedures: Taichi functions that are compiled apart from their surroundings."""

import time

import pytest

import taichi_sim as ts
from taichi_sim.runtime import procedure, ti

PLACES = 6


@pytest.fixture
def uncached():
    """Kernels are compiled, whatever an earlier run has left behind."""
    config = ts.init().program.config()
    config.offline_cache = False
    yield
    config.offline_cache = True


def compiled(mark):
    """Processor time [s] of a first launch of a kernel with some copies of a long function, and what it leaves."""
    x = ti.field(ti.types.vector(8, ti.f32), shape=2 * PLACES + 2)
    x.fill(0.5)

    @mark
    def work(i):
        a, b = x[i], x[i + 1]
        for _ in ti.static(range(30)):
            a, b = a + b * a, b - a * b
            b, a = b + a * b, a - b * a
        x[i], x[i + 1] = a, b

    @ti.kernel
    def kernel():
        for i, _idle in ti.ndrange(1, 1):
            for k in ti.static(range(PLACES)):
                work(i + 2 * k)

    begin = time.process_time()
    kernel()
    return time.process_time() - begin, x.to_numpy()


def test_procedures_are_compiled_apart(uncached):
    """Some in one kernel take a fraction of the time that they take written out in one block, and do the same."""
    (apart, result), (together, same) = compiled(procedure), compiled(ti.func)
    assert (result == same).all() and (result[:-2] != 0.5).all() and (result[-2:] == 0.5).all()
    assert apart < 0.6 * together, f"{apart:.2f} s and {together:.2f} s"


def test_a_procedure_has_no_result():
    @procedure
    def half(x):
        return 0.5 * x

    @ti.kernel
    def kernel():
        half(1.0)

    with pytest.raises(ti.TaichiCompilationError, match="half has a result, so it is no procedure"):
        kernel()
