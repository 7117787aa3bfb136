"""Strides of signals whose contacts are known."""

import numpy as np
import pytest

from shac.gait import strides

DT = 0.01


def ramp(start: float, end: float, height: float = 1.0) -> np.ndarray:
    """A force that rises from 0 within 0.1 s from `start` on, and falls to 0 within 0.1 s before `end` (10 s)."""
    t = np.arange(1000) * DT
    return height * np.clip(np.minimum((t - start) / 0.1, (end - t) / 0.1), 0, 1)


def test_contacts_are_found_between_samples_with_hysteresis():
    force = ramp(1.0, 1.6) + ramp(2.2, 2.9)
    strikes, leaves = strides.contacts(force)
    # linear, so interpolation is exact: 5 % are reached 5 ms after the beginning, 2 % are left 2 ms before the end
    np.testing.assert_allclose(np.multiply(strikes, DT), [1.005, 2.205], atol=1e-12)
    np.testing.assert_allclose(np.multiply(leaves, DT), [1.598, 2.898], atol=1e-12)
    # between the two levels nothing changes
    time = np.arange(1000)
    between = np.where(abs(time - 130) < 10, 0.03, np.where(abs(time - 190) < 10, 0.03, force))
    assert strides.contacts(between) == strides.contacts(force)


def test_a_bounce_and_a_scuff_are_no_steps():
    force = ramp(1, 1.6) + ramp(2.2, 2.8)
    bouncing = np.where(np.abs(np.arange(1000) - 130) < 2, 0.0, force)
    assert strides.contacts(bouncing, 5) == strides.contacts(force, 5)
    assert len(strides.contacts(bouncing, 2)[0]) == 3
    scuffing = force + ramp(1.75, 2.05, 0.24)
    assert strides.contacts(scuffing) == strides.contacts(force)
    assert len(strides.contacts(force + ramp(1.75, 2.05, 0.26))[0]) == 3


def test_strides_are_whole_and_of_their_world_and_leg():
    right = sum(ramp(t, t + 0.6) for t in np.arange(0.5, 9, 1))
    left = sum(ramp(t, t + 0.7) for t in np.arange(0.0, 9, 1.25))
    vertical = np.stack([np.stack([right, left], axis=1), np.zeros((1000, 2))], axis=1)
    alive = np.ones((1000, 2), bool)
    # the episode ends just before the left foot's contact at 5 s, and 5 ms before the right one's fifth stride does
    alive[500:, 0] = False
    found = strides.find(vertical, alive, 150, DT)
    by_leg = [[s for s in found if s.leg == leg] for leg in range(2)]
    assert {s.world for s in found} == {0}
    np.testing.assert_allclose([s.start * DT for s in by_leg[0]], [1.505, 2.505, 3.505], atol=1e-9)
    np.testing.assert_allclose([s.end * DT for s in by_leg[0]], [2.505, 3.505, 4.505], atol=1e-9)
    np.testing.assert_allclose([(s.off - s.start) * DT for s in by_leg[0]], 0.593, atol=1e-9)
    np.testing.assert_allclose([s.start * DT for s in by_leg[1]], [2.505], atol=1e-9)
    # one of 4 s is none
    assert not strides.find(np.stack([ramp(1, 2) + ramp(5, 6)] * 2, axis=1)[:, None], np.ones((1000, 1), bool), 0, DT)


@pytest.mark.parametrize("shape", [(), (3,), (0,)])
def test_courses_run_from_strike_to_strike(shape):
    values = np.zeros((100, 2, 2, *shape))
    values[:, 1, 0] = np.arange(100.0).reshape(-1, *[1] * len(shape))
    course = strides.resampled(values, strides.Stride(1, 0, 10.25, 20.0, 99.0))
    assert course.shape == (101, *shape)
    expected = np.linspace(10.25, 99.0, 101).reshape(-1, *[1] * len(shape))
    np.testing.assert_allclose(course, np.broadcast_to(expected, course.shape), atol=1e-12)
