"""Sensors against MuJoCo's own `sensordata`, their gradients against differences."""

from __future__ import annotations

import weakref

import mujoco
import numpy as np
import pytest
import torch
from batch import mujoco_data, random_batch
from differences import assert_gradient
from snippets import BEFORE_4

import taichi_sim as ts

WORLDS = 3
# two trees and a fixed body; frames that are turned and shifted against their bodies
BODIES = """
<mujoco><compiler angle="radian"/><option timestep="0.002"><flag contact="disable"/></option>
<worldbody>
  <site name="post" pos=".3 -.2 1" quat=".8 .2 -.3 .1"/>
  <body name="trunk" pos="0 0 1"><freejoint/>
    <geom name="box" type="box" size=".2 .1 .15" pos=".05 .02 -.03" quat=".9 .3 .1 -.2"/>
    <site name="imu" pos=".1 .2 -.1" quat=".7 .1 .5 -.2"/>
    <body name="shell" pos="0 .1 .2" quat=".9 -.1 .2 .3"><geom type="ellipsoid" size=".1 .2 .05"/>
      <site name="lamp" pos=".1 0 .1" quat=".6 .5 .1 .2"/></body>
    <body name="arm" pos=".2 0 0"><joint name="shoulder" type="ball"/>
      <geom type="capsule" fromto="0 0 0 .1 .2 -.4" size=".04"/>
      <body name="hand" pos=".1 .2 -.4">
        <joint name="wrist" axis="0 1 .3"/><joint name="grip" type="slide" axis="1 0 0"/>
        <geom name="palm" type="box" size=".05 .1 .02" pos=".02 .01 -.03" quat=".5 .5 .1 .7"/>
        <site name="tip" pos=".1 .02 .03" quat=".4 .1 .8 .2"/></body></body></body>
  <body name="pendulum" pos="1 0 1"><joint name="hinge" axis="1 .2 0" armature=".3"/>
    <geom type="capsule" fromto="0 0 0 .1 0 -.5" size=".05"/><site name="end" pos="0 .1 -.5"/></body>
</worldbody>
<tendon><fixed name="belt"><joint joint="wrist" coef=".7"/><joint joint="hinge" coef="-1.2"/></fixed>
  <spatial name="cord"><site site="tip"/><site site="end"/></spatial></tendon>
<actuator><motor name="push" joint="grip" gear="3"/><position name="hold" joint="wrist" kp="7"/>
  <motor name="pull" tendon="cord" gear="2"/><motor tendon="cord"/><motor tendon="belt"/></actuator>
<sensor>{sensors}</sensor></mujoco>"""
FRAMES = {
    "xbody": ("trunk", "hand", "shell"),
    "body": ("trunk", "shell", "world"),
    "geom": ("box", "palm"),
    "site": ("imu", "tip", "post"),
}
MOVING = "framepos", "framequat", "framexaxis", "frameyaxis", "framezaxis", "framelinvel", "frameangvel"
AXES = ("quat", "axis")


def of_frames() -> str:
    lines, all_frames = [], [(kind, name) for kind, names in FRAMES.items() for name in names]
    for k, (kind, name) in enumerate(all_frames):
        refkind, ref = all_frames[(3 * k + 4) % len(all_frames)]
        for sensor in MOVING:
            lines.append(f'<{sensor} objtype="{kind}" objname="{name}"/>')
            lines.append(f'<{sensor} objtype="{kind}" objname="{name}" reftype="{refkind}" refname="{ref}"/>')
        lines += [f'<{sensor} objtype="{kind}" objname="{name}"/>' for sensor in ("framelinacc", "frameangacc")]
    return "".join(lines)


SITES = "".join(
    f'<{kind} site="{name}"/>'
    for kind in ("velocimeter", "gyro", "magnetometer", "accelerometer")
    for name in FRAMES["site"]
)
TREES = "".join(
    f'<{kind} body="{name}"/>'
    for kind in ("subtreecom", "subtreelinvel", "subtreeangmom")
    for name in ("world", "trunk", "arm", "hand", "shell", "pendulum")
)
ENTRIES = """<jointpos joint="wrist"/><jointvel joint="hinge" name="speed"/><jointactuatorfrc joint="grip"/>
<ballquat joint="shoulder"/><ballangvel joint="shoulder"/><tendonpos tendon="cord"/><tendonvel tendon="belt"/>
<tendonactuatorfrc tendon="cord"/><tendonactuatorfrc tendon="belt"/><actuatorpos actuator="hold"/>
<actuatorvel actuator="pull"/><actuatorfrc actuator="push"/><actuatorfrc actuator="hold"/>
<jointpos joint="hinge" cutoff=".01"/><gyro site="tip" cutoff=".2" name="spin"/>"""


def loaded(sensors: str):
    mj_model = mujoco.MjModel.from_xml_string(BODIES.format(sensors=sensors))
    model = ts.load(mj_model)
    return mj_model, ts.Simulator(model, WORLDS), *random_batch(model, WORLDS, 0)


def test_all_kinds_read_what_mujocos_do():
    mj_model, sim, state, ctrl = loaded(ENTRIES + of_frames() + SITES + TREES)
    others = "touch", "force", "torque", "contact"
    kinds = [ts.types.SENSORS[k] for k in np.unique(sim.model.sensor_type)]
    assert {*kinds, *others} == set(ts.types.SENSORS)
    found = sim.forward(state, ctrl)
    for world in range(WORLDS):
        data = mujoco_data(mj_model, state, ctrl, world)
        for k, (adr, dim) in enumerate(zip(mj_model.sensor_adr, mj_model.sensor_dim, strict=True)):
            ours, theirs = (x[adr : adr + dim] for x in (found.sensordata[world].numpy(), data.sensordata))
            kind = ts.types.SENSORS[sim.model.sensor_type[k]]
            if BEFORE_4 and kind in ("framelinacc", "accelerometer") and not theirs.any():
                # before, what is fixed to the world felt no gravity
                continue
            if kind.endswith("quat"):
                # q and -q are the same rotation
                ours = ours * np.sign(ours @ theirs)
            scale = max(np.abs(theirs).max(), 1.0)
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9 * scale, err_msg=f"{kind}, sensor {k}")


def test_one_is_asked_for_by_name():
    mj_model, sim, state, ctrl = loaded(SITES + ENTRIES)
    found = sim.forward(state, ctrl)
    for name, dim in (("speed", 1), ("spin", 3)):
        adr = mj_model.sensor(name).adr[0]
        assert torch.equal(found.sensor(name), found.sensordata[:, adr : adr + dim]) and found.sensor(name).any()
    with pytest.raises(ValueError, match="there is no sensor 'speeed'; the model has .*speed"):
        found.sensor("speeed")


def test_gradients():
    moving = of_frames().replace("framelinacc", "framepos").replace("frameangacc", "framepos")
    sites = SITES.replace("accelerometer", "gyro")
    entries = '<jointpos joint="wrist"/><jointvel joint="hinge"/><ballquat joint="shoulder"/><tendonvel tendon="cord"/>'
    _, sim, state, ctrl = loaded(moving + sites + TREES + entries)
    weights = torch.tensor(np.random.default_rng(0).normal(size=sim.forward(state, ctrl).sensordata.shape))

    def function(qpos, qvel):
        return (sim.forward(state._replace(qpos=qpos, qvel=qvel), ctrl).sensordata * weights).sum(1)

    assert_gradient(function, {"qpos": state.qpos, "qvel": state.qvel})


def test_fitted_masses_move_what_is_read():
    mj_model, _, state, ctrl = loaded(TREES + '<framelinvel objtype="body" objname="hand"/>')
    rng, constants = np.random.default_rng(1), {}
    for name in ("body_mass", "body_inertia", "body_ipos"):
        array = getattr(mj_model, name)
        array[1:] += 0.1 * array[1:] * rng.uniform(size=array[1:].shape)
        constants[name] = torch.tensor(array)
    mujoco.mj_setConst(mj_model, mujoco.MjData(mj_model))
    sim = ts.Simulator(
        loaded(TREES + '<framelinvel objtype="body" objname="hand"/>')[1].model, WORLDS, parameters=tuple(constants)
    )
    found = sim.forward(state, ctrl, constants)
    for world in range(WORLDS):
        expected = mujoco_data(mj_model, state, ctrl, world).sensordata
        np.testing.assert_allclose(found.sensordata[world], expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_what_is_not_read_is_named_and_the_rest_is_read():
    delay = ' delay=".01" nsample="5"' if hasattr(mujoco.MjModel, "sensor_delay") else ""
    sensors = '<rangefinder name="sole" site="tip"/><gyro name="spin" site="imu"/>'
    sensors += f'<jointpos name="late" joint="wrist"{delay}/>'
    _, sim, state, _ = loaded(sensors)
    found = sim.forward(state)
    with pytest.raises(ValueError, match=f"sole{', late' if delay else ''} are not read"):
        found.sensordata  # noqa: B018
    with pytest.raises(ValueError, match="sole"):
        found.sensor("sole")
    assert found.sensor("spin").any()


def test_a_saved_model_has_them(tmp_path):
    _, sim, state, ctrl = loaded(ENTRIES)
    ts.save(sim.model, tmp_path / "model.npz")
    again = ts.Simulator(ts.load(tmp_path / "model.npz"), WORLDS)
    assert torch.equal(again.forward(state, ctrl).sensordata, sim.forward(state, ctrl).sensordata)


@pytest.mark.parametrize("field", ["sensor_objid", "sensor_refid"])
def test_an_edited_sensor_that_looks_at_nothing_is_refused(field):
    text = BODIES.format(sensors='<framepos objtype="site" objname="tip" reftype="geom" refname="palm"/>')
    mj_model = mujoco.MjModel.from_xml_string(text)
    getattr(mj_model, field)[:] = 99
    with pytest.raises(ts.ModelError, match=f"{field} must be from 0"):
        ts.load(mj_model)


def test_what_is_not_asked_for_is_not_computed_and_nothing_is_kept():
    """Of a gyroscope beside an accelerometer; what is read holds memory no longer than the user does."""
    _, sim, state, ctrl = loaded(SITES + '<gyro name="spin" site="imu"/>')
    found = sim.forward(state, ctrl)
    found.sensor("spin")
    assert "_rest" not in vars(found)
    assert torch.equal(found.sensordata[:, -3:], found.sensor("spin"))
    gone = weakref.ref(found)
    del found
    assert gone() is None
