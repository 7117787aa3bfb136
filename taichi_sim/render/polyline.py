"""Paths through points, many at once: how far along each a point lies, and where a path is at a distance."""

from __future__ import annotations

import numpy as np


class Polylines:
    """Paths through points.

    | attribute | meaning | shape |
    |---|---|---|
    | points | points of all paths, one path after the other [m] | (npoint, 3) |
    | owner | which path a point is on | (npoint,) |
    | way | distance from the path's first point along the path [m] | (npoint,) |
    | length | of each path [m] | (npath,) |

    Args:
        paths: the points of each path [m], (num, 3) with num > 0.
    """

    def __init__(self, paths: list[np.ndarray]):
        num = np.array([len(path) for path in paths], int)
        self.points = np.concatenate([np.zeros((0, 3)), *paths])
        self.owner = np.repeat(np.arange(len(num)), num)
        first = np.cumsum(num) - num
        step = np.zeros(len(self.points))
        step[1:] = np.linalg.norm(np.diff(self.points, axis=0), axis=1)
        # from the end of one path to the beginning of the next there is no way
        step[first] = 0.0
        total = np.cumsum(step)
        self.way = total - total[first][self.owner]
        self.length = self.way[first + num - 1]

    def at(self, owner: np.ndarray, way: np.ndarray) -> np.ndarray:
        """Points (num, 3) at the distances `way` [m] along the paths `owner`, both (num,)."""
        if not len(way):
            return np.zeros((0, 3))
        # all paths as one, with a gap after each so that none reaches into the next
        start = np.cumsum(self.length + 1.0) - self.length
        place, known = start[owner] + way, start[self.owner] + self.way
        return np.stack([np.interp(place, known, x) for x in self.points.T], axis=1)
