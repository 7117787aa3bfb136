"""What MuJoCo's solver parameters, solref and solimp, ask of a penalty.

A constraint of MuJoCo's with impedance d at a violation r and the inertia m gives its dof the acceleration
(1 - d) a0 + d (-b v - k r), a0 being that without it ("Solver parameters" in its documentation). So what is free meets
the stiffness m k, and what a load presses against it m k d / (1 - d): ten to twenty times that with the default solimp.
"""

import numpy as np

# Share of the spring's force that damping of a limit or contact takes. What hits it rebounds with a third of its speed;
# of MuJoCo's critically damped constraints with a seventh.
LOSS = 0.9
# Frequency of such a spring times the substep, at most. Damped as `stop_gains` says, 16 of them that hold one body are
# stable up to 1.04 with theta = 0.6: the root of 4 + 2 (2 theta - 1) n 2 w = n w^2, n = 16.
STIFFEST = 1.0


def reference_gains(solref: np.ndarray, dmax: np.ndarray, timestep: float, refsafe: bool) -> np.ndarray:
    """Stiffness [1/s^2] and damping [1/s], per unit of mass, of MuJoCo's reference acceleration, (n, 2).

    That is -k r - b v ("Solver parameters: Reference" in its documentation) with k = 1 / (dmax timeconst dampratio)^2
    and b = 2 / (dmax timeconst), or k = stiffness / dmax^2 and b = damping / dmax, but for the impedance at the
    violation r, which we take as 1.
    """
    solref = np.array(solref, float).reshape(-1, 2)
    # MuJoCo clamps impedances, and replaces a mixed format by its default, in the same way
    dmax = np.clip(dmax, 0.0001, 0.9999)
    solref[(solref[:, 0] > 0) != (solref[:, 1] > 0)] = 0.02, 1.0
    first, second = solref.T
    standard = first > 0
    timeconst = np.where(standard, np.maximum(first, 2 * timestep) if refsafe else first, 1.0)
    damping_ratio = np.where(standard, second, 1.0)
    stiffness = np.where(standard, 1 / (dmax * timeconst * damping_ratio) ** 2, -first / dmax**2)
    damping = np.where(standard, 2 / (dmax * timeconst), -second / dmax)
    return np.stack([stiffness, damping], axis=1)


def friction_gains(solref, solimp, inverse, timestep: float, refsafe: bool) -> tuple[np.ndarray, ...]:
    """Of dry friction, (n,) each: coefficient of sticking [N s/m, N m s/rad], inertia [kg, kg m^2], and b [1/s].

    Under a load that dry friction holds, MuJoCo's constraint of impedance d = dmin creeps with the velocity at which
    d / (1 - d) times the inertia times the damping b equals the load: that is the coefficient.

    Args:
        solref, solimp: its solver parameters, (n, 2) and (n, 5).
        inverse: the inverse inertia that it sees at qpos0, MuJoCo's invweight0, (n,).
        timestep, refsafe: as in `reference_gains`.
    """
    solref, solimp = np.array(solref, float).reshape(-1, 2), np.array(solimp, float).reshape(-1, 5)
    damping = reference_gains(solref, solimp[:, 1], timestep, refsafe)[:, 1]
    low, high = np.clip(solimp[:, :2], 0.0001, 0.9999).T
    # nothing is violated; without a width MuJoCo takes the mean
    impedance = np.where((low == high) | (solimp[:, 2] <= 1e-15), 0.5 * (low + high), low)
    # what moves nothing has no inverse inertia
    mass = 1 / np.maximum(inverse, 1e-10)
    return mass * damping * impedance / (1 - impedance), mass, damping


def stop_gains(
    solref, solimp, inverse, timestep: float, substep: float, refsafe: bool, stiffest=STIFFEST
) -> tuple[np.ndarray, np.ndarray]:
    """Stiffness [N/m, N m/rad] and largest damping [N s/m, N m s/rad] of a limit or contact, (n,) each.

    MuJoCo's stiffness under a load grows with the violation, as d grows from dmin to dmax. Ours is the mean of that at
    the first touch and beyond the width, so what holds a load gives way at most twice as far; but no stiffer than the
    substep keeps stable, and at least what is free meets. Damping at rest is critical.

    Args:
        solref, solimp: its solver parameters, (n, 2) and (n, 5).
        inverse: the inverse inertia that it sees at qpos0, MuJoCo's invweight0, (n,).
        timestep, refsafe: as in `reference_gains`.
        substep: length of a substep [s].
        stiffest: largest frequency times `substep`, a number or (n,).
    """
    solimp = np.array(solimp, float).reshape(-1, 5)
    stiffness = reference_gains(solref, solimp[:, 1], timestep, refsafe)[:, 0]
    first, last = np.clip(solimp[:, :2], 0.0001, 0.9999).T
    # MuJoCo's k is proportional to d
    under_load = stiffness * (first**2 / (1 - first) + last**2 / (1 - last)) / 2
    stiffness = np.maximum(np.minimum(under_load, (stiffest / substep) ** 2), stiffness)
    # what moves nothing has no inverse inertia
    mass = 1 / np.maximum(inverse, 1e-10)
    return mass * stiffness, 2 * mass * np.sqrt(stiffness)
