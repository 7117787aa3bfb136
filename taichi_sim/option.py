"""Options of the simulation: what may change while a `Model` stays as it is."""

from __future__ import annotations

import dataclasses

import numpy as np

# A control step of more substeps takes seconds, and their tape gigabytes.
MOST_SUBSTEPS = 10_000


@dataclasses.dataclass
class Option:
    """Options of the simulation.

    | field | meaning | shape |
    |---|---|---|
    | timestep | length of one substep [s] (MJCF's `<option timestep>`) | scalar |
    | substeps | substeps per control step (`<numeric name="substeps">`) | scalar |
    | gravity | gravitational acceleration [m/s^2] | (3,) |
    | integrator | "theta": our own step; with MuJoCo's law also its "Euler", "implicitfast", "implicit", "RK4" | str |
    | theta | with that: velocity-dependent forces at v + theta h a, 0: explicit (`<numeric name="theta">`) | scalar |
    | constraint | law of limits, contacts, dry friction: "penalty", or "mujoco" (`<text name="constraint">`) | str |
    | cone, impratio | of that: "pyramidal" or "elliptic"; stiffness of friction over the normal's | str, scalar |
    | coriolis | Coriolis and gyroscopic forces are taken at v + theta h a, too (`bodies.coriolis`) | bool |
    | magnetic | the field that magnetometers read | (3,) |
    | density, viscosity, wind | of a fluid around all bodies [kg/m^3, Pa s, m/s] | scalars, (3,) |
    | contact, limit, spring, damper, friction, actuation, clampctrl, equality | stages that are on | bool |
    """

    timestep: float = 0.002
    substeps: int = 1
    gravity: np.ndarray = dataclasses.field(default_factory=lambda: np.array([0.0, 0.0, -9.81]))
    integrator: str = "theta"
    theta: float = 0.6
    constraint: str = "penalty"
    cone: str = "pyramidal"
    impratio: float = 1.0
    coriolis: bool = False
    density: float = 0.0
    viscosity: float = 0.0
    magnetic: np.ndarray = dataclasses.field(default_factory=lambda: np.array([0.0, -0.5, 0.0]))
    wind: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(3))
    contact: bool = True
    limit: bool = True
    spring: bool = True
    damper: bool = True
    friction: bool = True
    actuation: bool = True
    clampctrl: bool = True
    equality: bool = True

    @property
    def control_timestep(self) -> float:
        """Length of one control step, `substeps * timestep` [s]."""
        return self.substeps * self.timestep

    def divide(self, substeps: int, theta: float | None = None) -> None:
        """Divides the same control step into `substeps`, and sets theta if it is given; 0 is fully explicit.

        Raises:
            ValueError: `substeps` is not an integer from 1 to 10,000, or theta not in [0, 1].
        """
        if not isinstance(substeps, int) or not 1 <= substeps <= MOST_SUBSTEPS:
            raise ValueError(f"substeps must be an integer from 1 to {MOST_SUBSTEPS:,}, got {substeps!r}")
        if theta is not None and not 0 <= theta <= 1:
            raise ValueError(f"theta must be from 0 to 1, got {theta!r}")
        self.timestep, self.substeps = self.control_timestep / substeps, substeps
        self.theta = self.theta if theta is None else theta
