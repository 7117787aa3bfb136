"""The tables of docs/muscle_bodies.md: joint torques and fibre lengths of the muscle bodies in assets/.

    python -m tools.muscles.report

Torques are those of the right leg's agonists, all units that turn a joint one way, fully active.
"""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np

from . import calibration

ASSETS = Path(__file__).parents[2] / "assets"
# Fibres outside of this have a force below 0.06 or 0.23 of their peak, or resist like a spring at its end.
USABLE = 0.5, 1.5


def fibres(m: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
    """Optimal fibre lengths and tendons' slack lengths [m], each (nu,), from MuJoCo's parameters."""
    low, high = m.actuator_lengthrange.T
    optimal = (high - low) / (m.actuator_gainprm[:, 1] - m.actuator_gainprm[:, 0])
    return optimal, low - m.actuator_gainprm[:, 0] * optimal


def torques(m: mujoco.MjModel) -> None:
    """Print active torques by law, at rest and over the gait, and the passive ones of all units."""
    optimal, slack = fibres(m)
    f0, peak = m.actuator_user[:, 0], m.actuator_gainprm[:, 2]
    at = calibration.postures(m, [m.qpos0, *calibration.gait(m)])
    tension = calibration.CONSTANT_TENSION * f0
    laws = {
        "constant tension": np.broadcast_to(tension, at.lengths.shape),
        # the source's optimal length is 1.0 of the length at rest, in 148 of the 152 units
        "before, standing still": tension * calibration.active_force_length((at.lengths - slack) / at.lengths[0]),
        "after, standing still": peak * calibration.active_force_length((at.lengths - slack) / optimal),
    }
    resting = peak * calibration.passive_force_length((at.lengths - slack) / optimal)
    passive = []
    print("| torque [N m] | law | at rest | least | mean | most | error |\n|---|---|---|---|---|---|---|")
    for joint, name, axis, *directions in calibration.TORQUES:
        arms = at.arms[:, :, m.joint(name).dofadr[0] + axis]
        for sign, direction in zip((1, -1), directions):
            wanted = _agonists(laws["constant tension"], sign * arms)[1:]
            speed = calibration.GAIT_SPEEDS[joint]
            fast = laws["after, standing still"] * calibration.shortening(sign * arms, optimal, speed)
            for law, force in {**laws, f"after, shortening at {speed:.0f} rad/s": fast}.items():
                rest, found = np.split(_agonists(force, sign * arms), [1])
                error = np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2))
                values = " | ".join(f"{value:.1f}" for value in (*rest, found.min(), found.mean(), found.max()))
                print(f"| {joint} {direction} | {law} | {values} | {100 * error:.1f} % |")
        moments = (arms * resting).sum(1)
        passive.append(f"| {joint} {directions[0]} | {moments[0]:.1f} | {moments.min():.1f} | {moments.max():.1f} |")
    print("\n| passive torque [N m] | at rest | least | most |\n|---|---|---|---|", *passive, sep="\n")


def _agonists(force: np.ndarray, arms: np.ndarray) -> np.ndarray:
    return (np.maximum(arms, 0) * force).sum(1)


def lengths(m: mujoco.MjModel, ranges: dict[str, tuple], title: str) -> list[str]:
    """Print how short and how long the right side's fibres become, in optimal lengths, over postures within `ranges`.

    Returns:
      The units that leave USABLE, and how far.
    """
    optimal, slack = fibres(m)
    moved = calibration.postures(m, calibration.drawn(m, ranges)).lengths
    names = [m.actuator(i).name for i in range(m.nu)]
    used = [i for i in range(m.nu) if names[i].startswith("R_") and np.ptp(moved[:, i]) > 1e-9]
    x = (moved[:, used] - slack[used]) / optimal[used]
    ends = x.min(0), x.max(0)
    cells = " | ".join(f"{value:.2f}" for end in ends for value in np.quantile(end, (0, 0.05, 0.5, 0.95, 1)))
    outside = [
        f"{names[i]} {low:.2f} to {high:.2f}"
        for i, low, high in zip(used, *ends)
        if low < USABLE[0] or high > USABLE[1]
    ]
    print(f"| {title} | {len(used)} | {cells} | {len(outside)} |")
    return outside


def main() -> None:
    """Print the tables in Markdown."""
    lower, whole = (mujoco.MjModel.from_xml_path(str(ASSETS / f"humanoid_mtu{part}.xml")) for part in ("", "_full"))
    torques(lower)
    print("\n| postures | units | shortest: least | 5 % | median | 95 % | most | longest: ... | | | | | outside |")
    print("|---" * 13 + "|")
    outside = {}
    for body, title in ((lower, "legs"), (whole, "whole body")):
        for extent, ranges in (("working", calibration.WORKING_RANGES), ("full", calibration.FULL_RANGES)):
            label = f"{title}, {extent} range"
            outside[label] = lengths(body, ranges, label)
    for label, units in outside.items():
        print(f"\n{label}, outside of {USABLE[0]} to {USABLE[1]}: {', '.join(units) or 'none'}.")


if __name__ == "__main__":
    main()
