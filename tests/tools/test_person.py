"""A person's walk on the body of walk_mtu: measured angles, feet on the ground, steps that do not slide."""

import importlib.util
from pathlib import Path

import mujoco
import numpy as np
import pytest

from shac import motion
from shac.gait import normal
from shac.models._walker import Settings, compiled, legs

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("person", ROOT / "tools/muscles/person.py")
person = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(person)


@pytest.fixture(scope="module")
def body() -> mujoco.MjModel:
    settings = Settings(strength=1.0, damping=0.25, mended=True, ground=1.0, anatomy=False, elastic=False)
    return compiled(legs, settings)


def test_the_file_is_what_the_tool_writes(body, tmp_path):
    path = tmp_path / "person.mot"
    person.main([str(path), "--speed", "1.25"], standalone_mode=False)
    assert path.read_text() == (ROOT / "shac/gait/person.mot").read_text()
    walk = motion.load(path, body, cyclic=True)
    assert walk.speed == pytest.approx(1.25, rel=1e-6) and walk.duration == pytest.approx(1.06, abs=0.02)


def test_joints_turn_as_measured(body):
    table, curves = person.walk(body, 1.25), normal.curves()
    columns = dict(zip(table.names, table.values.T, strict=True))
    half = np.roll(np.arange(50), 25)
    for side, rows in (("R", np.arange(50)), ("L", half)):
        # about -y; the hip to an upright pelvis
        np.testing.assert_allclose(-columns[f"Femur{side}_ry"][:50], curves["hip_flexion"][rows] - 8, atol=1e-9)
        np.testing.assert_allclose(columns[f"Tibia{side}"][:50], curves["knee_flexion"][rows], atol=1e-9)
        np.testing.assert_allclose(-columns[f"Talus{side}_ry"][:50], curves["ankle_dorsiflexion"][rows], atol=1e-9)


def test_feet_stand_and_heels_come_down_where_the_cycle_begins(body):
    table = person.walk(body, 1.25)
    joints = [0, *(body.joint(f"{name}{side}").id for side in "RL" for name in ("Femur", "Tibia", "Talus"))]
    names = dict(zip(table.names, table.values.T, strict=True))
    data, lowest = mujoco.MjData(body), np.empty((51, 2))
    for k in range(51):
        data.qpos[:] = body.qpos0
        data.qpos[:3] = [names[f"root_t{axis}"][k] for axis in "xyz"]
        for joint in joints[1:]:
            adr, name = body.jnt_qposadr[joint], body.joint(joint).name
            if name in names:
                data.qpos[adr] = np.radians(names[name][k])
            else:
                mujoco.mju_axisAngle2Quat(data.qpos[adr : adr + 4], [0, 1, 0], np.radians(names[f"{name}_ry"][k]))
        mujoco.mj_kinematics(body, data)
        for side, foot in enumerate("RL"):
            lowest[k, side] = person.corners_of(data, f"Talus{foot}")[:, 2].min()
    assert np.abs(lowest.min(axis=1)).max() < 1e-6
    # from the cycle's beginning to its half the right foot stands, and the left one swings after its toe is off
    assert (lowest[2:25, 0] < 1e-6).all() and (lowest[10:24, 1] > 3e-3).all()
