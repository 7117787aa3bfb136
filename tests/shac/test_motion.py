"""Motions in files: round trips, what a body makes of them, and what is refused, by file and line."""

import mujoco
import numpy as np
import pytest

from shac import motion, storage
from shac.errors import UserError

XML = """
<mujoco>
  <worldbody>
    <body name="trunk">
      <freejoint name="root"/> <geom size="0.1"/>
      <body name="thigh"> <joint name="hip" type="ball"/> <geom size="0.1"/>
        <body name="shank" pos="0 0 -0.4"> <joint name="knee" axis="0 1 0" ref="10"/> <geom size="0.1"/>
          <body name="foot" pos="0 0 -0.4"> <joint name="toe" type="slide"/> <geom size="0.1"/> </body>
        </body>
      </body>
    </body>
  </worldbody>
</mujoco>
"""
ROOT = "root_tx root_ty root_tz root_rx root_ry root_rz"
NAMES = f"{ROOT} hip_rx hip_ry hip_rz knee toe".split()


@pytest.fixture(scope="module")
def body():
    return mujoco.MjModel.from_xml_string(XML)


def spinning(rows: int = 41, cyclic: bool = True) -> storage.Table:
    """2 s: the root goes on at 1.5 m/s, the hip turns about an oblique axis, the knee bends as a sine."""
    time = np.linspace(3, 5, rows)
    phase = np.pi * (time - 3)
    hip = np.outer(np.sin(phase), [20, -30, 10])
    columns = [1.5 * (time - 3), 0 * time, 1 + 0.02 * np.cos(2 * phase), 0 * time, 0 * time, 10 * np.cos(phase)]
    values = np.stack([*columns, *hip.T, 40 + 30 * np.cos(phase), 0.01 * np.sin(phase)], axis=1)
    return storage.Table(NAMES, time, values, True)


@pytest.mark.parametrize("kind", storage.KINDS)
@pytest.mark.parametrize("degrees", [True, False, None])
def test_what_is_written_is_read(tmp_path, kind, degrees):
    table = spinning()
    table.in_degrees = degrees
    storage.write(tmp_path / f"walk{kind}", table)
    again = storage.read(tmp_path / f"walk{kind}")
    assert again.names == table.names and again.in_degrees == degrees
    np.testing.assert_allclose(again.time, table.time, rtol=1e-6)
    np.testing.assert_allclose(again.values, table.values, rtol=1e-6, atol=1e-12)


def test_headers_as_others_write_them(tmp_path):
    """Of OpenSim's inverse kinematics, and of SIMM's older ground reactions."""
    (tmp_path / "ik.mot").write_text(
        "Coordinates\r\nversion=1\r\nnRows=2\r\nnColumns=3\r\ninDegrees=yes\r\n\r\nUnits are S.I. units "
        "(second, meters, Newtons, ...)\r\n\r\nendheader\r\ntime\tpelvis_tilt\tknee_angle_r\r\n"
        "      0.00000000\t     -1.5\t      2.25\r\n      0.01\t     -1.4\t      2.5e0\r\n"
    )
    table = storage.read(tmp_path / "ik.mot")
    assert table.names == ["pelvis_tilt", "knee_angle_r"] and table.in_degrees
    np.testing.assert_array_equal(table.values, [[-1.5, 2.25], [-1.4, 2.5]])
    (tmp_path / "grf.mot").write_text(
        "name grf.mot\ndatacolumns 2\ndatarows 2\nrange 0 1\nendheader\ntime ground_force_vy\n0 1\n1 2\n"
    )
    table = storage.read(tmp_path / "grf.mot")
    assert table.names == ["ground_force_vy"] and table.in_degrees is None


def test_a_body_moves_as_the_table_says(tmp_path, body):
    storage.write(tmp_path / "walk.sto", spinning())
    found = motion.load(tmp_path / "walk.sto", body, True)
    rows = len(found.qpos)
    assert found.joints == [0, 1, 2, 3] and rows == 2000
    assert found.duration == pytest.approx(2) and found.speed == pytest.approx(1.5)
    # a quarter of the cycle: sine 1, cosine 0
    angle, axis = np.radians(np.sqrt(1400)), np.array([2, -3, 1]) / np.sqrt(14)
    half = [np.cos(angle / 2), *np.sin(angle / 2) * axis]
    expected = [0.75, 0, 0.98, 1, 0, 0, 0, *half, np.radians(40), 0.01]
    np.testing.assert_allclose(found.qpos[rows // 4], expected, atol=1e-6)
    # rows of a twentieth of a second: a central difference of a sine is off by (w h)^2 / 6 = 0.4 %
    speeds = found.qvel[rows // 4]
    assert speeds[0] == pytest.approx(1.5) and speeds[5] == pytest.approx(-np.pi * np.radians(10), rel=5e-3)
    assert speeds[9] == pytest.approx(-np.pi * np.radians(30), rel=5e-3)
    # the seam is no jump: the first row follows the last after 1 ms, in which the knee gains pi^2 30 deg of speed
    np.testing.assert_allclose(found.qvel[-1, 3:], found.qvel[0, 3:], atol=6e-3)
    np.testing.assert_allclose(found.qpos[-1, 2:], found.qpos[0, 2:], atol=2e-3)


def test_a_motion_that_is_no_cycle_ends_where_it_ends(tmp_path, body):
    table = spinning()
    half = storage.Table(table.names, table.time[:21], table.values[:21], True)
    storage.write(tmp_path / "step.csv", half)
    found = motion.load(tmp_path / "step.csv", body, False)
    np.testing.assert_allclose(found.qpos[-1, 11], np.radians(10), atol=1e-6)
    with pytest.raises(UserError, match="step.csv does not end as it begins: .* cyclic=false"):
        motion.load(tmp_path / "step.csv", body, True)


def test_a_body_gives_the_table_again(body):
    table = spinning()
    qpos = np.tile(body.qpos0, (len(table.time), 1))
    qpos[:, :3], qpos[:, 11:] = table.values[:, :3], table.values[:, 9:] * [np.pi / 180, 1]
    for row, turned, hip in zip(qpos, np.radians(table.values[:, 3:6]), np.radians(table.values[:, 6:9])):
        for adr, vector in ((3, turned), (7, hip)):
            angle = np.linalg.norm(vector)
            mujoco.mju_axisAngle2Quat(row[adr : adr + 4], vector / max(angle, 1e-12), angle)
    again = motion.table_of(body, [0, 1, 2, 3], table.time, qpos)
    assert again.names == NAMES and again.in_degrees
    np.testing.assert_allclose(again.values, table.values, atol=1e-9)


HEAD = "inDegrees=yes\nendheader\n"
REST = f"time {ROOT} knee\n0 0 0 1 0 0 0 0\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.mot", f"{REST}1 0 0 1 0 0 0 0\n", "a.mot has no line 'endheader'"),
        ("a.mot", f"{HEAD}{REST}0.1 0 0 1 0 0 0 x\n", "a.mot, line 5: 'x' is no number"),
        ("a.mot", f"{HEAD}{REST}0.1 0 0 1 0 0 0\n", "a.mot, line 5: 7 cells where the header has 8 columns"),
        ("a.mot", f"{HEAD}{REST}0.1 0 0 1 0 0 0 nan\n", "a.mot, line 5: .*fill its gap"),
        ("a.mot", f"{HEAD}{REST}0.1 0 0 1 0 0 0 0\n\n0.1 0 0 1 0 0 0 0\n", "line 7: time must increase.*sort the rows"),
        ("a.mot", f"nRows=3\n{HEAD}{REST}1 0 0 1 0 0 0 0\n", "has 2 rows of numbers, its header says 3: it is cut off"),
        ("a.mot", f"{HEAD}{REST}", "has 1 rows of numbers; a motion takes two"),
        ("a.mot", f"inDegrees=maybe\nendheader\n{REST}1 0 0 1 0 0 0 0\n", "inDegrees is yes or no, got 'maybe'"),
        ("a.mot", f"endheader\n{REST}1 0 0 1 0 0 0 0\n", "does not say what angles are in: add a line inDegrees=yes"),
        ("a.mot", f"inDegrees=no\nendheader\n{REST}1 0 0 1 0 0 0 60\n", "knee turns by 60 rad; are these degrees"),
        ("a.mot", f"{HEAD}{REST.replace('knee', 'kneee')}1 0 0 1 0 0 0 0\n", "column 'kneee'; did you mean knee"),
        ("a.mot", f"{HEAD}{REST.replace('knee', 'hip_rx')}1 0 0 1 0 0 0 0\n", "lacks the columns hip_ry, hip_rz"),
        ("a.mot", f"{HEAD}time knee\n0 0\n1 0\n", "lacks the columns root_tx, .*root_rz"),
        ("a.mot", f"{HEAD}time knee knee\n0 0 0\n1 0 0\n", "line 3: columns of one name: knee"),
        ("a.mot", f"{HEAD}t knee\n0 0\n1 0\n", "line 3: the first column must be 'time'"),
        ("a.csv", "time,knee\n0,0\n0,1\n", "a.csv, line 3: time must increase"),
        ("a.txt", "", "a.txt has none of the endings .mot, .sto, .csv"),
        ("b/a.mot", None, "there is no file .*a.mot"),
    ],
)
def test_what_is_no_motion_is_refused(tmp_path, body, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        motion.load(tmp_path / name, body, True)


def test_a_body_needs_a_free_root(tmp_path):
    storage.write(tmp_path / "a.mot", storage.Table(["knee"], np.arange(2.0), np.zeros((2, 1)), True))
    hinge = mujoco.MjModel.from_xml_string(
        '<mujoco><worldbody><body><joint name="knee"/><geom size="1"/></body></worldbody></mujoco>'
    )
    with pytest.raises(UserError, match="bodies whose first joint is free"):
        motion.load(tmp_path / "a.mot", hinge, True)
