"""Cosines and slopes of `tools/gradients.py --quality`, on a loss whose gradient is known in closed form."""

import importlib
import math
from pathlib import Path

import click
import pytest
import torch
from torch import nn

from shac.algos.networks import Policy
from shac.algos.normalizer import Standardize

GAMMA, STEPS, CUBE = 0.9, 3, 0.7


@pytest.fixture
def quality(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "tools"))
    return importlib.import_module("quality")


class Cubic:
    """Worlds whose reward is c_i . a - CUBE sum(a^3), whatever came before."""

    def __init__(self, slopes):
        self.slopes, self.num_envs = slopes, len(slopes)

    def cut(self):
        return torch.zeros(self.num_envs, 1)

    def step(self, action):
        reward = (self.slopes * action).sum(1) - CUBE * action.pow(3).sum(1)
        never = torch.zeros(self.num_envs, dtype=torch.bool)
        return self.cut(), reward, never, never, {"final_obs": self.cut(), "whole": ~never}

    def require_finite(self):
        pass

    def state_dict(self):
        return {}

    def load_state_dict(self, saved):
        pass


class Constant(nn.Module):
    """Acts by its parameters alone."""

    def __init__(self, action):
        super().__init__()
        self.action = nn.Parameter(action.clone())

    def perturbation(self, eps):
        return None

    def forward(self, obs, perturbation=None):
        return self.action.expand(len(obs), -1)


def test_cosine_and_slopes_are_those_in_closed_form(quality, monkeypatch):
    monkeypatch.setattr(quality, "LEARNERS", 0.5)
    slopes = torch.tensor([[1.0, 0.2], [0.3, -0.4], [-0.5, 1.1], [0.9, 0.8]], dtype=torch.float64)
    action = torch.tensor([0.3, -0.6], dtype=torch.float64)
    actor, same = Constant(action), Standardize(torch.zeros(1), torch.ones(1))
    found = quality.examine(Cubic(slopes), Policy(actor, same), torch.zeros(STEPS, 4, 2), GAMMA)

    # the loss is k sum_i (CUBE sum(a^3) - c_i . a)
    k = sum(GAMMA**t for t in range(STEPS)) / (STEPS * 4)
    first, second = (k * (2 * 3 * CUBE * action**2 - slopes[rows].sum(0)) for rows in (slice(2), slice(2, 4)))
    assert found["cosine"] == pytest.approx((first @ second / first.norm() / second.norm()).item(), rel=1e-12)
    # what a central difference of a cubic has beyond the slope is its third derivative's, step^2 / 6 times that
    gradient = first + second
    direction, step = gradient / gradient.norm(), 0.5 * action.norm()
    beyond = k * 4 * CUBE * step**2 * direction.pow(3).sum() / gradient.norm()
    assert found["slope_learners"] == pytest.approx(1 + beyond.item(), rel=1e-12)
    # rounding of f64 over a step of 1e-6
    assert found["slope"] == pytest.approx(1, abs=1e-9)
    assert actor.action.equal(action)


def test_a_window_that_is_not_finite_counts_as_none(quality):
    lost = dict.fromkeys(("cosine", "slope", "slope_learners"), math.nan)
    rows = [{"cosine": c, "slope": s, "slope_learners": 2 * s} for c, s in ((0.5, 1.0), (0.9, 1.1), (0.7, 5.0))]
    found = quality.summary([rows[0], lost, *rows[1:]])
    assert found["windows"] == 3
    assert found["cosine"] == pytest.approx(0.7)
    # standard deviation 0.2, of three
    assert found["error"] == pytest.approx(0.2 / math.sqrt(3))
    assert (found["slope"], found["slope_learners"]) == (1.1, 2.2)
    assert math.isnan(quality.summary([lost, rows[0]])["cosine"])


def test_worlds_that_cannot_be_halved_are_refused(quality):
    with pytest.raises(click.UsageError, match="--num-envs even"):
        quality.report(["cartpole"], [], 3, 8, 0, 0, None)
