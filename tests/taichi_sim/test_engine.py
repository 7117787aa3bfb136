"""Simulators that share kernels: models of one structure, many worlds, threads, copies; memory."""

from __future__ import annotations

import copy
import dataclasses
import gc
import os
import pickle
import threading
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
from processes import run
from snippets import load_text, mjcf_text

import taichi_sim as ts
from taichi_sim import engine

ACTUATOR = '<actuator><motor joint="elbow" gear="3"/></actuator>'


def arm(mass: float = 2.0, **changes) -> ts.Model:
    model = load_text(mjcf_text(rest=ACTUATOR))
    return dataclasses.replace(model, body_mass=np.array([0.0, mass]), **changes)


def swing(sim: ts.Simulator, angle=0.3) -> ts.State:
    state = sim.initial_state()
    ctrl = torch.full((sim.num_worlds, 1), 0.5, dtype=sim.dtype)
    return sim.step(state._replace(qpos=state.qpos + angle), ctrl)


def inertia(sim: ts.Simulator) -> float:
    return sim.forward(sim.initial_state()).qM[0, 0, 0].item()


def test_models_that_differ_in_figures_share_kernels_and_keep_their_figures():
    sims = [ts.Simulator(arm(mass), num) for mass, num in ((2.0, 3), (5.0, 4))]
    assert sims[0]._engine is sims[1]._engine
    # a sphere of radius 0.1 m, 1 m off the hinge: its own inertia is that of 2 kg in all three
    own = 2 * 0.4 * 0.1**2
    for _ in range(2):
        for sim, mass in zip(sims, (2.0, 5.0), strict=True):
            assert inertia(sim) == pytest.approx(mass + own, rel=1e-12)


@pytest.mark.parametrize(
    "other",
    [
        lambda: load_text(mjcf_text(rest=ACTUATOR, joint='limited="true" range="-1 1"')),
        lambda: load_text(mjcf_text(rest=ACTUATOR, inside='<body><joint axis="0 1 0"/><geom size=".1"/></body>')),
        lambda: load_text(mjcf_text()),
    ],
    ids=["a limit", "a body", "no actuator"],
)
def test_models_of_another_structure_do_not(other):
    assert ts.Simulator(arm())._engine is not ts.Simulator(other())._engine


@pytest.mark.cpu
def test_more_worlds_than_threads_take():
    """Results and gradients of many worlds are those of few, and scratch does not grow with them."""
    many, few = ts.Simulator(arm(), 1030), ts.Simulator(arm(), 100)
    assert many._engine is few._engine and many._blocks > many._runtime.program.config().cpu_max_num_threads
    angles = torch.linspace(-1, 1, 1030, dtype=torch.float64)[:, None]

    def gradient(sim, rows):
        leaf = angles[rows].clone().requires_grad_()
        state = sim.step(sim.initial_state()._replace(qpos=leaf), torch.ones(len(leaf), 1, dtype=torch.float64))
        sim.forward(state).xpos.square().sum().backward()
        return torch.cat([state.qpos.detach(), leaf.grad], 1)

    all_rows = gradient(many, slice(None))
    for first in (0, 470, 930):
        rows = slice(first, first + 100)
        assert torch.equal(gradient(few, rows), all_rows[rows])


def resident() -> float:
    """Memory of this process [MiB]."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.cpu
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_simulators_made_and_dropped_take_no_more_than_one():
    # before: what MuJoCo's compiler leaves in the heap is not a Simulator's
    models = [arm(mass) for mass in np.linspace(1, 2, 200)]
    swing(ts.Simulator(arm(), 64))
    gc.collect()
    before = resident()
    for model in models:
        swing(ts.Simulator(model, 64))
    assert resident() - before < 10
    kept = [ts.Simulator(model, 64) for model in models]
    assert inertia(kept[0]) < inertia(kept[-1])
    assert {sim._engine for sim in kept} == {kept[0]._engine} and resident() - before < 30


def test_memory_of_engines_that_nobody_uses_is_given_back():
    def chain(length):
        inside = '<body><joint axis="0 1 0"/><geom size=".1" pos="1 0 0"/>' * length + "</body>" * length
        return ts.Simulator(load_text(mjcf_text(inside=inside)))

    for length in range(1, engine._IDLE + 4):
        chain(length)
    gc.collect()
    held = chain(1)
    assert sum(e.users == 0 for e in engine._engines.values()) <= engine._IDLE
    assert any(e is held._engine for e in engine._engines.values())


def test_threads_take_turns():
    sim = ts.Simulator(arm(), 2)
    rest = sim.initial_state()
    states = [rest._replace(qpos=rest.qpos + angle) for angle in (0.3, 1.7)]
    right = [sim.forward(state).xipos.clone() for state in states]
    wrong = [0, 0]

    def work(k):
        for _ in range(300):
            wrong[k] += not torch.equal(sim.forward(states[k]).xipos, right[k])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [0, 0]


@pytest.mark.cpu
def test_any_thread_makes_and_uses_simulators():
    """Taichi's own memory belongs to the thread that began with it; the engine's does not."""
    process = run("""
        import threading
        from taichi_sim import engine
        def elsewhere(work):
            results = []
            thread = threading.Thread(target=lambda: results.append(work()))
            thread.start()
            thread.join()
            return results[0]
        def chain(length):
            inside = '<body><joint/><geom size=".1" pos="1 0 0"/>' * length + "</body>" * length
            return ts.Simulator(ts.load(mujoco.MjModel.from_xml_string(
                f"<mujoco><worldbody>{inside}</worldbody></mujoco>")))
        def moves(sim):
            return fall(sim).qpos.isfinite().all().item()
        first = elsewhere(lambda: ts.Simulator(pendulum()))
        print(moves(first), elsewhere(lambda: moves(first)), elsewhere(lambda: moves(chain(2))))
        for length in range(1, engine._IDLE + 4):
            chain(length)
        print(len(engine._engines) <= engine._IDLE + 2, moves(first))
    """)
    assert process.stdout.split() == ["True"] * 5


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda sim: pickle.loads(pickle.dumps(sim))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_copies(copied):
    sim = ts.Simulator(arm(), 3, parameters="body_mass", check_finite=False)
    twin = copied(sim)
    assert twin is not sim and twin._engine is sim._engine and not twin.check_finite
    assert torch.equal(swing(twin).qpos, swing(sim).qpos)
    heavy = {"body_mass": [0.0, 7.0]}
    assert twin.forward(twin.initial_state(), None, heavy).qM[0, 0, 0] > inertia(sim)


PILE = """<mujoco><worldbody><geom type="plane" size="5 5 .1"/><body pos="0 0 .5"><freejoint/><geom size=".1"/>
<body pos=".2 0 0"><joint name="j" axis="0 1 0" range="-1 1" limited="true"/><geom type="capsule" size=".05 .1"/></body>
</body></worldbody><actuator><motor joint="j"/></actuator></mujoco>"""


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30, -3.0], ids=["nan", "inf", "1e30", "deep below"])
def test_one_world_never_changes_another(bad):
    """Neither states nor gradients, by no bit: worlds share SIMD registers, launches and scratch."""
    sim = ts.Simulator(ts.load(mujoco.MjSpec.from_string(PILE), unsupported_contacts="skip"), 9, check_finite=False)
    rest = sim.initial_state()
    generator = torch.Generator().manual_seed(0)
    qpos = rest.qpos + 0.1 * torch.randn(rest.qpos.shape, generator=generator, dtype=sim.dtype)
    qvel = torch.randn(rest.qvel.shape, generator=generator, dtype=sim.dtype)

    def outcome(spoilt):
        start = qpos.clone()
        if spoilt:
            start[4, 2] = bad
        leaves = [start.requires_grad_(), qvel.clone().requires_grad_()]
        state = rest._replace(qpos=leaves[0], qvel=leaves[1])
        for _ in range(20):
            state = sim.step(state, torch.ones(9, 1, dtype=sim.dtype))
        keep = torch.arange(9) != 4
        (state.qpos[keep].sum() + state.qvel[keep].sum()).backward()
        return [x[keep] for x in (state.qpos, state.qvel, *(leaf.grad for leaf in leaves))]

    for ours, clean in zip(outcome(True), outcome(False), strict=True):
        assert clean.isfinite().all() and torch.equal(ours, clean)


def test_a_table_that_kernels_could_not_share_is_noticed():
    sim = ts.Simulator(arm())
    sim._m.surprise = np.zeros(3)
    with pytest.raises(TypeError, match="ndarray"):
        ts.data.structure(sim._m)
