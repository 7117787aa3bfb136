"""What a run would take of the memory, beside what torch's operations really keep."""

import dataclasses

import pytest
import torch

from shac.algos import sizes
from shac.algos.shac import SHAC
from shac.env import Env
from shac.models.cartpole import CartPole
from shac.runs.config import Config
from taichi_sim.machine import memory

CONFIG = Config(algo="bptt", num_envs=256, horizon=16, actor_units=(64, 32))


@pytest.fixture
def estimate(monkeypatch):
    """`require_window`'s estimate [bytes], whether there is so much or not."""

    def taken(config: Config) -> float:
        asked = []
        with monkeypatch.context() as patch:
            patch.setattr(memory, "require", lambda size, what: asked.append(size))
            sizes.require_window(Env(CartPole(), config.num_envs), config)
        # the simulator, too, has asked for what it takes
        return asked[-1]

    return taken


def test_a_window_keeps_what_is_estimated(estimate):
    shac, kept = SHAC(CartPole(), CONFIG), {}

    def count(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        window = shac.rollout(shac.normalizer.snapshot(torch.float64))
    given = [window.obs, window.final_obs, window.rewards, *window.actions]
    size = sum(kept.values()) + sum(tensor.nbytes for tensor in given)
    # operations keep no more of a step than that because it has few worlds
    assert estimate(CONFIG) - sizes._STEP * CONFIG.horizon == pytest.approx(size, rel=0.1)


def test_the_estimate_grows_with_all_that_makes_a_window_larger(estimate):
    base = estimate(CONFIG)
    assert estimate(dataclasses.replace(CONFIG, horizon=160)) == pytest.approx(10 * base)
    for larger in ({"num_envs": 512}, {"actor_units": (64, 64)}, {"algo": "shac"}):
        assert estimate(dataclasses.replace(CONFIG, **larger)) > 1.05 * base
    # the last epochs' tape: a number is 8 bytes, and a substep leaves at least qpos, qvel, qacc and a factor of 3
    finer = estimate(dataclasses.replace(CONFIG, final_substeps=1000))
    assert finer > 256 * 16 * 1000 * 9 * 8


def test_a_run_that_is_too_large_is_refused_before_it_takes_anything(monkeypatch):
    built = []
    monkeypatch.setattr(memory, "available", lambda: 1e6)
    monkeypatch.setattr("shac.algos.shac.build_actor", lambda *_: built.append(1))
    for settings, what in (
        ({"actor_units": (1000, 1000)}, "networks with hidden layers of 1,000 would take [0-9.]+ MB"),
        ({"horizon": 1000}, "a window of 1,000 steps of 256 worlds would take [0-9,.]+ [MG]B"),
    ):
        with pytest.raises(MemoryError, match=f"{what} of memory, and there are 1.0 MB"):
            SHAC(CartPole(), dataclasses.replace(CONFIG, **settings))
    assert not built
