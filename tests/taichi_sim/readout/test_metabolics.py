"""Metabolic power by hand, its settings, and the cost of transport; against OpenSim: muscles/test_opensim.py."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import taichi_sim as ts
from taichi_sim.types import GAIN_FIXED, GAIN_MUSCLE

# Two muscles and a motor between them.
MODEL = SimpleNamespace(
    nu=3,
    muscle_force=np.array([1200.0, 0.0, 600.0]),
    muscle_optimal_length=np.array([0.1, 1.0, 0.05]),
    actuator_gaintype=np.array([GAIN_MUSCLE, GAIN_FIXED, GAIN_MUSCLE]),
    body_mass=np.array([0.0, 30.0, 20.0]),
)
LIKE = torch.zeros(1, dtype=torch.float64)
MASS = 1200 / 0.6e6 * 1059.7 * 0.1


def fibres(length=0.1, velocity=0.0, active=0.0, passive=0.0, excitation=0.0) -> ts.FibreData:
    """Both muscles alike, but for their constants."""
    values = (length, velocity, active, passive, 0.0, excitation, excitation)
    return ts.FibreData(*(torch.full((1, 3), float(x), dtype=torch.float64) for x in values))


def test_mass():
    metabolics = ts.Metabolics(MODEL, LIKE)
    assert metabolics.mass.tolist() == pytest.approx([MASS, 0.0, MASS / 4])
    assert metabolics.basal == pytest.approx(60.0)


def test_isometric():
    """Excited in full at the optimal length: 50 % of 40 + 74 and of 133 + 111 W/kg."""
    power = ts.Metabolics(MODEL, LIKE)(fibres(excitation=1.0))[0]
    assert power[0].item() == pytest.approx(0.5 * (40 + 74 + 133 + 111) * MASS, rel=1e-9)
    slow = ts.Metabolics(MODEL, LIKE, slow_twitch=[1.0, 0.5, 0.5])(fibres(excitation=1.0))[0]
    assert slow[0].item() == pytest.approx((40 + 74) * MASS, rel=1e-9)
    # half the heat of maintenance at half the optimal length and at 1.25 of it
    half = 0.5 * (40 + 133 + (74 + 111) / 2) * MASS
    for length in (0.03, 0.05, 0.125):
        assert ts.Metabolics(MODEL, LIKE)(fibres(length, excitation=1.0))[0, 0].item() == pytest.approx(half, rel=1e-9)


def test_moving():
    """Shortening adds its work and a quarter of all force times velocity; what is stretched gives back all it burns."""
    metabolics = ts.Metabolics(MODEL, LIKE)
    rest = metabolics(fibres(excitation=1.0))[0, 0].item()
    fast = metabolics(fibres(velocity=-1.0, active=500.0, passive=100.0, excitation=1.0))[0, 0].item()
    # but for the tails of the switches, exp(-20)
    assert fast - rest == pytest.approx(500 + 0.25 * 600, rel=1e-6)
    assert metabolics(fibres(velocity=1.0, active=500.0, excitation=1.0))[0, 0].item() == pytest.approx(0.0, abs=1e-6)
    # unless it gives back nothing
    forward = ts.Metabolics(MODEL, LIKE, negative_work=False)
    assert forward(fibres(velocity=1.0, active=500.0, excitation=1.0))[0, 0].item() == pytest.approx(rest, rel=1e-6)
    moved = forward(fibres(velocity=-1.0, active=500.0, passive=100.0, excitation=1.0))[0, 0].item()
    assert moved == pytest.approx(fast, rel=1e-8)
    # without excitation the least heat, 1 W/kg, as far as its switch has turned: a tenth of a watt wide
    idle = metabolics(fibres())[0]
    assert idle[0].item() == pytest.approx(MASS * (0.5 + 0.5 * np.tanh(10 * MASS)), rel=1e-9) and idle[1].item() == 0.0


def test_settings():
    for wrong in (-0.1, 1.5, [0.5, 0.5]):
        with pytest.raises(ValueError, match="slow_twitch must be"):
            ts.Metabolics(MODEL, LIKE, slow_twitch=wrong)
    with pytest.raises(ValueError, match="must be positive"):
        ts.Metabolics(MODEL, LIKE, specific_tension=0.0)


def test_cost_of_transport():
    power = torch.tensor([[100.0, 200.0], [300.0, 200.0]])
    cost = ts.cost_of_transport(power, 0.5, 50.0, torch.tensor([1.0, 2.0]))
    assert cost.tolist() == [4.0, 2.0]
