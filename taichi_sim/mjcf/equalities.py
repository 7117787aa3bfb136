"""Joint equalities of a compiled MuJoCo model: which act, and chains of them made into one step each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.polynomial import Polynomial

# The degree of `Model.eq_polycoef`.
_DEGREE = 4


class Equality(NamedTuple):
    """joint1 follows joint2 (-1: locked) by `coefficients` (5,); `index` is that of MuJoCo's equality."""

    index: int
    joint1: int
    joint2: int
    coefficients: np.ndarray


def acting(mj_model, on: bool) -> list[Equality]:
    """The equalities between joints that are active, as they stand; none with their stage off."""
    import mujoco

    m = mj_model
    active = np.asarray(m.eq_active0, dtype=bool) & on & (m.eq_type == mujoco.mjtEq.mjEQ_JOINT)
    joints = zip(m.eq_obj1id.tolist(), m.eq_obj2id.tolist(), strict=True)
    rows = [(*pair, np.array(data[:5])) for pair, data in zip(joints, m.eq_data, strict=True)]
    return [Equality(int(i), *rows[i]) for i in np.flatnonzero(active)]


def resolved(equalities: list[Equality]) -> tuple[list[Equality], dict[int, str]]:
    """The equalities with joints that nothing determines as their joint2.

    Where joint2 is another one's joint1, its polynomial is put into this one's.

    Returns:
        Those that can be made so, and what is wrong with the others, by index.
    """
    first = {e.joint1: e for e in reversed(equalities)}
    done, wrong = [], {}
    for e in equalities:
        if first[e.joint1] is not e:
            wrong[e.index] = "its joint1 is determined by another equality already"
            continue
        polynomial, joint, seen = _polynomial(e), e.joint2, {e.joint1}
        while joint in first and joint not in seen:
            seen.add(joint)
            polynomial, joint = polynomial(_polynomial(first[joint])), first[joint].joint2
        polynomial = polynomial.trim()
        if joint in seen:
            wrong[e.index] = "its joints determine each other in a circle"
        elif polynomial.degree() > _DEGREE:
            wrong[e.index] = f"with those before it in its chain, it is a polynomial beyond degree {_DEGREE}"
        else:
            coefficients = np.zeros(_DEGREE + 1)
            coefficients[: polynomial.degree() + 1] = polynomial.coef
            done.append(Equality(e.index, e.joint1, joint, coefficients))
    return done, wrong


def _polynomial(e: Equality) -> Polynomial:
    # without joint2 the joint is locked at the constant
    return Polynomial(e.coefficients if e.joint2 >= 0 else e.coefficients[:1]).trim()
