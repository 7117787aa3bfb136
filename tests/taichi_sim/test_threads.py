"""That blocks of worlds run on threads of their own, which takes more than a parallel loop: `runtime._CPU_TASK`."""

import os

import numpy as np
import pytest
from processes import run

from taichi_sim import runtime
from taichi_sim.runtime import ti

CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
pytestmark = pytest.mark.skipif(len(CORES) < 2, reason="needs Linux and two cores")


@pytest.mark.cpu
def test_every_core_has_a_worker_of_its_own():
    threads = [os.sched_getaffinity(int(thread)) for thread in os.listdir("/proc/self/task")]
    assert set().union(*(cores for cores in threads if len(cores) == 1)) == CORES


@pytest.mark.parametrize(("number", "pinned"), [(len(CORES), True), (1, False)])
def test_so_it_has_if_as_many_threads_are_asked_for(number, pinned):
    """Seen: without, two threads of 512 humanoids' backward pass took 4.2 ms and one 4.6; with, 2.7."""
    program = f"""
        import os
        ts.init(num_threads={number})
        threads = [os.sched_getaffinity(int(thread)) for thread in os.listdir("/proc/self/task")]
        print(len(set().union(*(cores for cores in threads if len(cores) == 1))))
    """
    assert int(run(program).stdout) == (len(CORES) if pinned else 0)


@pytest.mark.parametrize("chosen", [None, "ACTIVE"])
def test_openmps_threads_wait_without_spinning_unless_asked_to(chosen):
    program = f"""
        import os
        os.environ.pop("OMP_WAIT_POLICY", None)
        os.environ.update({{}} if {chosen!r} is None else {{"OMP_WAIT_POLICY": {chosen!r}}})
        import taichi_sim
        print(os.environ["OMP_WAIT_POLICY"])
    """
    assert run(program, prelude="").stdout.split()[-1] == (chosen or "PASSIVE")


def test_two_blocks_run_at_the_same_time():
    stride = runtime.get().task_stride

    @ti.kernel
    def meet(here: ti.types.ndarray(ti.i32, 1), met: ti.types.ndarray(ti.i32, 1), patience: ti.i32):
        for e, idle in ti.ndrange(2, stride):
            if idle > 0:
                continue
            ti.atomic_add(here[e], 1)
            tries = 0
            while tries < patience and met[e] == 0:
                # an addition, because a plain read may be done once, before the loop
                met[e] = ti.atomic_add(here[1 - e], 0)
                tries += 1

    here, met = np.zeros(2, np.int32), np.zeros(2, np.int32)
    # a second or so: one thread alone waits in vain for its own next task
    meet(here, met, 50_000_000)
    assert met.tolist() == [1, 1]
