"""How people walk, as a motion that walk_mtu can follow: measured angles on the legs of the body.

    python -m tools.muscles.person shac/gait/person.mot --speed 1.25

Hip, knee and ankle turn in the sagittal plane as in `shac/gait/normal.csv`, the left leg half a cycle after the right.
The pelvis is upright, and as high as the lower foot wants; a stride is as long as the foot on the ground is carried
back in it, and takes the time that the speed makes of that.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import click
import mujoco
import numpy as np

from shac import motion, storage
from shac.gait import normal
from shac.models._walker import bend
from shac.models.walk_mtu import WalkMTU

# Of the pelvis that hips' angles are measured to, of its 8 to 11 degrees: so heels come down where the curves begin.
TILT = 8.0


def walk(m: mujoco.MjModel, speed: float) -> storage.Table:
    """One stride at a speed [m/s], from the right heel's contact on."""
    curves = normal.curves()
    rows = len(curves["percent"])
    angles = np.stack((curves["hip_flexion"] - TILT, curves["knee_flexion"], curves["ankle_dorsiflexion"]), axis=1)
    # the cycle's last row is its first one
    angles[-1] = angles[0]
    late = np.roll(angles[:-1], rows // 2, axis=0)
    late = np.concatenate((late, late[:1]))
    data, qpos = mujoco.MjData(m), np.tile(m.qpos0, (rows, 1))
    corners = np.empty((rows, 16, 3))
    for k in range(rows):
        data.qpos[:] = m.qpos0
        data.qpos[:3] = 0
        for side, flexions in zip("RL", np.radians((angles[k], late[k]))):
            bend(data, side, *flexions)
        mujoco.mj_kinematics(m, data)
        corners[k] = np.concatenate([corners_of(data, f"Talus{side}") for side in "RL"])
        qpos[k] = data.qpos
    qpos[:, 2] = -corners[..., 2].min(axis=1)
    # until the left heel's contact the right foot is on the ground, and its lowest point stays where it is
    right = corners[: rows // 2 + 1, :8]
    steps, low = np.arange(rows // 2), right[:-1, :, 2].argmin(axis=1)
    stride = 2 * (right[steps, low, 0] - right[steps + 1, low, 0]).sum()
    duration = stride / speed
    time = np.linspace(0, duration, rows)
    qpos[:, 0] = speed * time
    joints = [0, *(m.joint(f"{name}{side}").id for side in "RL" for name in ("Femur", "Tibia", "Talus"))]
    return motion.table_of(m, joints, time, qpos)


def corners_of(data: mujoco.MjData, box: str) -> np.ndarray:
    """Where the corners of a box are, (8, 3) [m]."""
    geom, signs = data.geom(box), np.array(list(itertools.product((-1, 1), repeat=3)))
    return geom.xpos + (signs * data.model.geom(box).size) @ geom.xmat.reshape(3, 3).T


@click.command(help=__doc__, context_settings={"show_default": True})
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--speed", default=1.25, help="Of the motion [m/s].")
def main(out: Path, speed: float) -> None:
    """Write the motion."""
    table = walk(WalkMTU(reference=None).asset, speed)
    storage.write(out, table)
    duration = table.time[-1]
    click.echo(f"a stride of {speed * duration:.3f} m in {duration:.3f} s, {120 / duration:.0f} steps a minute")


if __name__ == "__main__":
    main()
