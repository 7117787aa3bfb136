"""Taichi shared with other programs, processes that fork, the kernel cache: each in a process of its own."""

import os

import pytest
from processes import run

from taichi_sim import runtime


def test_standard_output_belongs_to_the_program(monkeypatch):
    # this process has it from its own import
    monkeypatch.delenv("ENABLE_TAICHI_HEADER_PRINT", raising=False)
    assert run("fall(ts.Simulator(pendulum(), num_worlds=2)); print('mine')").stdout == "mine\n"


def test_a_users_taichi_is_shared():
    """Fields and settings of a program that called ti.init first are its own afterwards."""
    run("""
        import taichi as ti
        ti.init(arch=ti.cpu, default_fp=ti.f64)
        mine = ti.field(ti.f64, shape=4)
        mine[2] = 5.0
        before = ti.lang.impl.current_cfg().advanced_optimization
        sim = ts.Simulator(pendulum())
        assert sim.dtype == torch.float64
        fall(sim)
        assert mine[2] == 5.0 and ti.lang.impl.current_cfg().advanced_optimization is before is True
        try:
            ts.init(precision="f32")
        except RuntimeError as error:
            assert "'f64' since your ti.init()" in str(error)
        else:
            raise AssertionError
    """)


def test_a_users_taichi_of_an_arch_that_does_not_fit_is_refused():
    process = run("""
        import taichi as ti
        from types import SimpleNamespace
        from taichi_sim import runtime
        ti.init(arch=ti.cpu)
        # no machine of ours has another arch
        runtime._program = lambda: SimpleNamespace(config=lambda: SimpleNamespace(arch="vulkan", default_fp=ti.f32))
        try:
            ts.init()
        except RuntimeError as error:
            print(error)
    """)
    assert "vulkan" in process.stdout and "ti.cpu and ti.cuda only" in process.stdout


def test_a_ti_init_after_a_simulator_ends_it_with_a_message():
    process = run("""
        import taichi as ti
        sim = ts.Simulator(pendulum())
        first = fall(sim)
        ti.init(arch=ti.cpu)
        for call in (fall, lambda sim: sim.forward(first)):
            try:
                call(sim)
            except RuntimeError as error:
                print(error)
        again = ts.Simulator(pendulum())
        assert torch.equal(fall(again).qvel, first.qvel)
        ti.reset()
        assert torch.equal(fall(ts.Simulator(pendulum())).qvel, first.qvel)
    """)
    assert process.stdout.count("before the first Simulator") == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_raises_instead_of_hanging():
    process = run("""
        import os
        sim = ts.Simulator(pendulum())
        fall(sim)
        child = os.fork()
        if child == 0:
            for call in (lambda: fall(sim), lambda: ts.Simulator(pendulum())):
                try:
                    call()
                except RuntimeError as error:
                    print(error, flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        fall(sim)
    """)
    assert process.stdout.count("did not survive the fork") == 2


def test_a_fork_before_the_first_simulator_is_fine():
    run("""
        import multiprocessing
        def work(queue):
            queue.put(fall(ts.Simulator(pendulum())).qvel.tolist())
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        child = context.Process(target=work, args=(queue,))
        child.start()
        child.join(120)
        assert queue.get() == fall(ts.Simulator(pendulum())).qvel.tolist()
    """)


def test_the_kernel_cache_is_written_though_a_graph_lives(tmp_path):
    """As in README's first example: the script ends with a loss that refers to its Simulator."""
    run(
        """
        sim = ts.Simulator(pendulum())
        qvel = torch.zeros(1, 1, requires_grad=True)
        loss = sim.step(sim.initial_state()._replace(qvel=qvel), torch.zeros(1, 0)).qpos.sum()
        loss.backward()
        """,
        TI_OFFLINE_CACHE_FILE_PATH=str(tmp_path),
    )
    assert len(list(tmp_path.glob("*.tic"))) >= 2


def test_a_kernel_cache_that_cannot_be_made_is_done_without(tmp_path):
    (tmp_path / "file").touch()
    process = run("fall(ts.Simulator(pendulum()))", TI_OFFLINE_CACHE_FILE_PATH=str(tmp_path / "file" / "cache"))
    assert "UserWarning" in process.stderr and "TI_OFFLINE_CACHE_FILE_PATH" in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.cpu
def test_blocks_have_as_many_lanes_as_leave_none_of_the_threads_without_one():
    settings = runtime.get()
    threads = settings.program.config().cpu_max_num_threads
    assert settings.precision == "f64"
    assert [settings.lanes(num) for num in (1, 2, 3, 10_000)] == [1, 2, 4, 8]
    assert (settings.lanes(4 * threads), settings.lanes(4 * threads + 1)) == (4, 8)
