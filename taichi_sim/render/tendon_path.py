"""The points of a tendon's path around a sphere or a cylinder, for whoever draws it.

NumPy only. `taichi_sim.wrap` has the same path's length and derivatives, and says why the cases are told apart the way
they are; source of both: MuJoCo's mju_wrap.
"""

from __future__ import annotations

import math

import numpy as np

# MuJoCo's mjMINVAL: what is shorter has no length.
_MINVAL = 1e-15

# MuJoCo's search for the point of an inside wrap: when it is content, when it gives up.
_NEWTON_TOLERANCE = 1e-6
_NEWTON_STEPS = 20


def wrap_points(
    kind: str, r1: np.ndarray, r2: np.ndarray, radius: float, side: np.ndarray | None, resolution: float
) -> np.ndarray:
    """The path of a tendon from r1 to r2 past a wrapping geom, as MuJoCo lays it.

    Args:
        kind: "sphere" or "cylinder".
        r1, r2: where the path comes from and goes to, in the geom's frame (a cylinder's axis is z) [m], (3,).
        radius: the geom's [m].
        side: the side site's position in the geom's frame [m], (3,), or None. It tells on which side the path passes;
            closer to the geom's centre than radius, the path touches the geom from inside.
        resolution: largest angle [rad] between successive points of the arc.

    Returns:
        Points in the geom's frame [m], (n, 3), from r1 to r2: those two alone where the path is straight; with the
        one point of contact of an inside wrap; or with the two tangent points and the arc or helix between them.

    Raises:
        ValueError: an unknown kind, or a resolution that is not positive.
    """
    if kind not in ("sphere", "cylinder"):
        raise ValueError(f"a tendon wraps around a 'sphere' or a 'cylinder', got {kind!r}")
    if not resolution > 0.0:
        raise ValueError(f"resolution must be a positive angle [rad], got {resolution!r}")
    r1, r2 = np.asarray(r1, float), np.asarray(r2, float)
    straight = np.stack([r1, r2])
    if min(np.linalg.norm(r1), np.linalg.norm(r2), radius) < _MINVAL:
        return straight
    axes = _plane(r1, r2) if kind == "sphere" else np.eye(3)[:2]
    p1, p2 = axes @ r1, axes @ r2
    if side is not None and np.linalg.norm(side) < radius:
        arc, length = _touch(p1, p2, radius)
    else:
        arc, length = _arc(p1, p2, radius, None if side is None else _unit(axes @ side), resolution)
    if arc is None:
        return straight
    points = np.concatenate([straight[:1], arc @ axes, straight[1:]])
    if kind == "cylinder":
        # straight on the unrolled surface: the height grows with the way
        start, end = np.linalg.norm(arc[0] - p1), np.linalg.norm(p2 - arc[-1])
        way = start + np.linspace(0.0, length, len(arc))
        points[1:-1, 2] = r1[2] + (r2[2] - r1[2]) * way / (start + length + end)
    return points


def _plane(r1: np.ndarray, r2: np.ndarray) -> np.ndarray:
    """Two orthogonal unit vectors (2, 3), the first along r1, that span the plane of r1, r2 and the origin."""
    first = r1 / np.linalg.norm(r1)
    normal = np.cross(r1, r2)
    length = np.linalg.norm(normal)
    if length >= _MINVAL:
        second = np.cross(normal / length, first)
    else:
        # opposite or alike, any plane will do: MuJoCo's goes through the two smaller axes' diagonal, or across x
        second = np.ones(3)
        second[np.abs(first).argmax()] = 0.0
        second -= first * (first @ second)
        if second @ second < 1e-6:
            second = np.cross([1.0, 0.0, 0.0], first)
    return np.stack([first, second / np.linalg.norm(second)])


def _arc(p1, p2, radius: float, side, resolution: float) -> tuple[np.ndarray | None, float]:
    """Evenly spaced points (n, 2) on a circle from one tangent point to the other, and the arc's length.

    None and nothing if the path does not wrap. Without a side site it goes the short way round, and only if the
    straight line would pass through the circle; with one it goes from p1's direction to the site's to p2's.
    """
    if min(p1 @ p1, p2 @ p2) < radius**2 or (p2 - p1) @ (p2 - p1) < _MINVAL:
        return None, 0.0
    nearest = _nearest(p1, p2)
    long = side is not None and _is_long_way(p1, side, p2)
    if nearest @ nearest > radius**2 and not long:
        return None, 0.0

    turn = (1 if _cross(p1, p2) >= 0.0 else -1) * (-1 if long else 1)
    t1, t2 = _tangent_points(p1, p2, radius, turn)
    angle = math.atan2(turn * _cross(t1, t2), t1 @ t2)
    if angle < 0.0:
        # beyond half a turn, or rounding just below nothing
        angle = angle + 2.0 * math.pi if t1 @ t2 < 0.0 or (long and p1 @ p2 > 0.0) else 0.0
    angles = math.atan2(t1[1], t1[0]) + turn * np.linspace(0.0, angle, 1 + max(1, math.ceil(angle / resolution)))
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1), radius * angle


def _is_long_way(p1, side, p2) -> bool:
    """Whether from p1's direction to the side site's and on to p2's is more than half a turn.

    A point exactly opposite of the side site could go either way: what is compared with zero including it is a choice.
    """
    to_side, from_side, direct = _cross(p1, side), _cross(side, p2), _cross(p1, p2)
    counter_clockwise = to_side > 0.0 and from_side >= 0.0 and direct < 0.0
    return counter_clockwise or (to_side <= 0.0 and from_side < 0.0 and direct > 0.0)


def _tangent_points(p1, p2, radius: float, turn: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the path meets the circle and leaves it when it goes round counter-clockwise (turn = 1) or not (-1)."""
    s1, s2 = math.sqrt(p1 @ p1 - radius**2), math.sqrt(p2 @ p2 - radius**2)
    t1 = (radius * p1 + turn * s1 * np.array([-p1[1], p1[0]])) * (radius / (p1 @ p1))
    t2 = (radius * p2 - turn * s2 * np.array([-p2[1], p2[0]])) * (radius / (p2 @ p2))
    return t1, t2


def _touch(p1, p2, radius: float) -> tuple[np.ndarray | None, float]:
    """The one point (1, 2) where a path from outside touches a circle, and the length of its arc, nothing.

    None and nothing if it enters the circle anyway.
    """
    nearest = _nearest(p1, p2)
    if min(p1 @ p1, p2 @ p2, nearest @ nearest) <= radius**2:
        return None, 0.0
    cosine = (p1 @ p2) / (np.linalg.norm(p1) * np.linalg.norm(p2))
    if cosine < -1.0 + _MINVAL:
        return None, 0.0
    first, other = (p1, p2) if _cross(p1, p2) > 0.0 else (p2, p1)
    a, b = radius / np.linalg.norm(first), radius / np.linalg.norm(other)
    angle = None
    if cosine <= 1.0 - _MINVAL:
        angle = _incidence(a, b, math.atan2(_cross(first, other), first @ other))
    if angle is None:
        return radius * _unit(p1 + p2)[None], 0.0
    turn = angle - math.asin(a * math.sin(angle))
    x, y = first * a
    return np.array([[math.cos(turn) * x - math.sin(turn) * y, math.sin(turn) * x + math.cos(turn) * y]]), 0.0


def _incidence(a: float, b: float, gamma: float) -> float | None:
    """Angle between the path and the circle's normal, or None if MuJoCo's search does not find it.

    It is the same on both sides, hence asin(a sin x) + asin(b sin x) - 2 x + gamma = 0 with a = radius / |p1| and so
    on.
    """
    x, excess = 0.5 * math.pi, 0.0
    for _ in range(_NEWTON_STEPS):
        f = math.asin(a * math.sin(x)) + math.asin(b * math.sin(x)) - 2.0 * x + gamma
        if f > excess:
            return None
        if f >= -_NEWTON_TOLERANCE:
            return x
        slope = math.cos(x) * sum(c / math.sqrt(1.0 - (c * math.sin(x)) ** 2) for c in (a, b)) - 2.0
        if slope > -_MINVAL:
            return None
        x, excess = x - f / slope, _NEWTON_TOLERANCE
    return None


def _nearest(p1, p2) -> np.ndarray:
    """The point of the segment that is closest to the origin."""
    d = p2 - p1
    return p1 + d * min(max(-(d @ p1) / max(d @ d, _MINVAL), 0.0), 1.0)


def _unit(x: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(x)
    return x / length if length >= _MINVAL else np.eye(len(x))[0]


def _cross(x: np.ndarray, y: np.ndarray) -> float:
    return x[0] * y[1] - x[1] * y[0]
