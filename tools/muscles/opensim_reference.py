"""The figures of OpenSim's muscle that the tests compare with (`pip install opensim`, 4.6).

    python -m tools.muscles.opensim_reference tests/taichi_sim/muscles/opensim.json

One unit pulls a body along x, whose coordinate is the unit's length. `moments`: random states of three units on elastic
tendons and of the same on rigid ones, what OpenSim's DeGrooteFregly2016Muscle and Bhargava2004SmoothedMuscleMetabolics
say of them. `motions`: three experiments with the first unit, whose equations OpenSim evaluates and SciPy integrates.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import opensim
from scipy.integrate import solve_ivp

# peak force [N], optimal length and slack length [m], pennation [rad], largest velocity [1/s], strain at the peak force
UNITS = {
    "vastus": (1000.0, 0.1, 0.2, 0.2, 10.0, 0.049),
    "soleus": (3500.0, 0.05, 0.25, 0.4, 10.0, 0.1),
    "adductor": (600.0, 0.15, 0.05, 0.0, 8.0, 0.03),
}
SLOW_TWITCH, SPECIFIC_TENSION = 0.5, 0.6e6
# mass [kg], load [N], activation, and at the beginning length [m] and the tendon's force in peak forces
MOTIONS = {
    "isometric": (1e7, 0.0, 0.7, 0.295, 0.05),
    "isotonic": (10.0, 200.0, 0.5, 0.3, 0.2),
    "release": (5.0, 300.0, 1.0, 0.31, 0.9),
}
DURATION = 0.1


class Muscle:
    """One unit between the world and a body."""

    def __init__(self, unit: str, rigid: bool):
        f0, lopt, lts, pennation, vmax, strain = UNITS[unit]
        self.model = opensim.Model()
        body = opensim.Body("body", 1.0, opensim.Vec3(0), opensim.Inertia(1))
        joint = opensim.SliderJoint("joint", self.model.getGround(), body)
        joint.updCoordinate().setName("x")
        self.muscle = opensim.DeGrooteFregly2016Muscle()
        self.muscle.setName("muscle")
        self.muscle.set_max_isometric_force(f0)
        self.muscle.set_optimal_fiber_length(lopt)
        self.muscle.set_tendon_slack_length(lts)
        self.muscle.set_pennation_angle_at_optimal(pennation)
        self.muscle.set_max_contraction_velocity(vmax)
        self.muscle.set_tendon_strain_at_one_norm_force(strain)
        self.muscle.set_ignore_tendon_compliance(rigid)
        self.muscle.addNewPathPoint("origin", self.model.getGround(), opensim.Vec3(0))
        self.muscle.addNewPathPoint("insertion", body, opensim.Vec3(0))
        self.metabolics = {}
        for name, negative in (("power", True), ("power_without_negative_work", False)):
            self.metabolics[name] = burns = opensim.Bhargava2004SmoothedMuscleMetabolics()
            burns.setName(name)
            burns.set_use_smoothing(True)
            burns.set_include_negative_mechanical_work(negative)
            burns.addMuscle("muscle", self.muscle, SLOW_TWITCH, SPECIFIC_TENSION)
        for part in (body, joint, self.muscle, *self.metabolics.values()):
            self.model.addComponent(part)
        self.model.finalizeConnections()
        self.state, self.rigid = self.model.initSystem(), rigid

    def at(self, length, velocity, activation, excitation, tension) -> None:
        """Goes to a state; tension is the tendon's force in peak forces."""
        values = {"joint/x/value": length, "joint/x/speed": velocity, "muscle/activation": activation}
        if not self.rigid:
            values["muscle/normalized_tendon_force"] = tension
        for name, value in values.items():
            self.model.setStateVariableValue(self.state, f"/{name}", float(value))
        self.model.realizeVelocity(self.state)
        controls = self.model.updControls(self.state)
        self.muscle.setControls(opensim.Vector(1, float(excitation)), controls)
        self.model.setControls(self.state, controls)
        self.model.realizeDynamics(self.state)

    def tension_rate(self) -> float:
        return self.muscle.getStateVariableDerivativeValue(self.state, "normalized_tendon_force")

    def says(self) -> dict[str, float]:
        """Forces [N], lengths [m], velocities [m/s] and power [W]."""
        muscle, state = self.muscle, self.state
        return {
            "tendon_force": muscle.getTendonForce(state),
            "length": muscle.getFiberLength(state),
            "velocity": muscle.getFiberVelocity(state),
            "active_force": muscle.getActiveFiberForce(state),
            "passive_force": muscle.getPassiveFiberForce(state),
            **{name: burns.getMuscleMetabolicRate(state, "/muscle") for name, burns in self.metabolics.items()},
        }


def moments(rng, unit: str, rigid: bool, count: int = 12) -> list[dict[str, float]]:
    """States in which the fibre has 0.5 to 1.5 of its optimal length, and what OpenSim says of them."""
    f0, lopt, lts, pennation, vmax, strain = UNITS[unit]
    muscle, rows = Muscle(unit, rigid), []
    while len(rows) < count:
        tension = 0.0 if rigid else rng.uniform(0.02, 1.2)
        stretch = 0.0 if rigid else muscle.muscle.calcTendonForceLengthInverseCurve(tension) - 1
        extent = np.sqrt(rng.uniform(0.5, 1.5) ** 2 - np.sin(pennation) ** 2)
        row = {
            "unit_length": lts * (1 + stretch) + lopt * extent,
            "unit_velocity": 0.4 * lopt * vmax * rng.uniform(-1, 1),
            "strain": stretch,
            "activation": rng.uniform(0.05, 1),
            "excitation": rng.uniform(0, 1),
        }
        muscle.at(row["unit_length"], row["unit_velocity"], row["activation"], row["excitation"], tension)
        found = muscle.says()
        # beyond the largest velocity taichi_sim's law is another
        if abs(found["velocity"]) < 0.95 * lopt * vmax:
            rows.append({**row, **found})
    return rows


def motion(name: str) -> dict:
    """Ten moments of an experiment with the first unit: time, length, velocity, tension."""
    mass, load, activation, begin, tension = MOTIONS[name]
    muscle = Muscle("vastus", rigid=False)
    f0 = UNITS["vastus"][0]

    def rates(_time, y):
        muscle.at(y[0], y[1], activation, activation, y[2])
        return y[1], (load - f0 * y[2]) / mass, muscle.tension_rate()

    times = np.linspace(0, DURATION, 11)
    found = solve_ivp(rates, (0, DURATION), [begin, 0.0, tension], "LSODA", times, rtol=1e-11, atol=1e-12)
    stretch = [muscle.muscle.calcTendonForceLengthInverseCurve(float(x)) - 1 for x in found.y[2]]
    return {"mass": mass, "load": load, "activation": activation, "times": times.tolist(), "strain": stretch} | {
        key: row.tolist() for key, row in zip(("length", "velocity", "tension"), found.y, strict=True)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("path", type=Path, help="where to write the figures")
    path = parser.parse_args().path
    opensim.Logger.setLevelString("error")
    rng = np.random.default_rng(0)
    names = ("force", "optimal_length", "slack_length", "pennation", "vmax", "strain")
    found = {
        "opensim": opensim.GetVersion(),
        "units": {unit: dict(zip(names, values, strict=True)) for unit, values in UNITS.items()},
        "moments": {
            kind: {unit: moments(rng, unit, kind == "rigid") for unit in UNITS} for kind in ("elastic", "rigid")
        },
        "motions": {name: motion(name) for name in MOTIONS},
    }
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
