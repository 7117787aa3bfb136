"""Strides: from one contact of a foot with the ground to its next one."""

from __future__ import annotations

import dataclasses

import numpy as np

# A foot has come to the ground once it bears more than the first share of the body's weight, and left it once it bears
# less than the second. What bears less than the third at most is a foot that scuffs in its swing.
STRIKE, LEAVE, BEAR = 0.05, 0.02, 0.25
# Contacts and swings that are shorter than this are none [s], and so are strides shorter or longer than these [s].
SHORTEST_PHASE, SHORTEST_STRIDE, LONGEST_STRIDE = 0.05, 0.25, 3.0
# Points of a stride, 0 to 100 %.
POINTS = 101


@dataclasses.dataclass
class Stride:
    """One stride: its world and its leg, and when it begins, its foot leaves the ground and it ends [samples]."""

    world: int
    leg: int
    start: float
    off: float
    end: float


def find(vertical: np.ndarray, alive: np.ndarray, first: int, timestep: float) -> list[Stride]:
    """The strides of all legs.

    Args:
      vertical: vertical ground reactions, in body weights (T, N, legs).
      alive: the sample belongs to the episode, (T, N).
      first: no stride begins before this sample.
      timestep: between samples [s].
    """
    found = []
    for world in range(vertical.shape[1]):
        length = int(alive[:, world].sum())
        for leg in range(vertical.shape[2]):
            strikes, leaves = contacts(vertical[:length, world, leg], max(1, round(SHORTEST_PHASE / timestep)))
            for start, end in zip(strikes, strikes[1:]):
                off = [time for time in leaves if start < time < end]
                duration = (end - start) * timestep
                if start >= first and off and SHORTEST_STRIDE <= duration <= LONGEST_STRIDE:
                    found.append(Stride(world, leg, start, off[0], end))
    return found


def contacts(force: np.ndarray, shortest: int = 1) -> tuple[list[float], list[float]]:
    """When a foot comes to the ground and when it leaves it [samples], between samples by interpolation.

    Args:
      force: vertical ground reaction in body weights, (T,).
      shortest: contacts and swings of fewer samples are none.
    """
    down = np.zeros(len(force), bool)
    now = bool(len(force)) and force[0] > STRIKE
    for i, value in enumerate(force):
        now = value > (LEAVE if now else STRIKE)
        down[i] = now
    for a, b in _between_edges(down):
        # a foot that bounces has not left
        if not down[a] and b - a < shortest:
            down[a:b] = True
    for a, b in _between_edges(down):
        if down[a] and (b - a < shortest or force[a:b].max() < BEAR):
            down[a:b] = False
    edges = np.flatnonzero(np.diff(down)) + 1
    strikes = [_crossing(force, i, STRIKE) for i in edges if down[i]]
    leaves = [_crossing(force, i, LEAVE) for i in edges if not down[i]]
    return strikes, leaves


def resampled(values: np.ndarray, stride: Stride) -> np.ndarray:
    """The course of a stride at 0, 1, ... 100 %, (101, ...) of `values` (T, N, legs, ...)."""
    times = np.linspace(stride.start, stride.end, POINTS)
    before = np.minimum(times.astype(int), len(values) - 2)
    share = (times - before).reshape(-1, *[1] * (values.ndim - 3))
    course = values[:, stride.world, stride.leg]
    return (1 - share) * course[before] + share * course[before + 1]


def _between_edges(down: np.ndarray) -> list[tuple[int, int]]:
    """Where contacts and swings begin and end, but for the first and the last, which are not whole."""
    edges = np.flatnonzero(np.diff(down)) + 1
    return list(zip(edges, edges[1:]))


def _crossing(force: np.ndarray, i: int, level: float) -> float:
    """When the force passes the level, just before sample i."""
    before, after = force[i - 1], force[i]
    share = (level - before) / (after - before) if after != before else 1.0
    return i - 1 + float(np.clip(share, 0.0, 1.0))
