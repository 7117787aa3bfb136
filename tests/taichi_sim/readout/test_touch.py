"""Single contacts, and sensors of touch, contact, force and torque, against MuJoCo's."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch
from batch import mujoco_data
from snippets import BEFORE_4, mjcf_text

import taichi_sim as ts

WORLDS = 8
# spheres, capsules and a box on a tilted floor, where nothing is ambiguous (of a capsule in a box MuJoCo has
# other points); with all kinds of friction
BODIES = """
<mujoco><compiler angle="radian"/><option timestep="0.002" cone="{cone}" tolerance="0" iterations="200"/>
<worldbody><geom name="floor" type="plane" size="5 5 1" quat=".98 .1 .05 0" conaffinity="3"/>
  <geom name="post" type="capsule" size=".1 .5" pos=".7 0 .3"/>
  <body name="trunk" pos="0 0 .12"><freejoint/>
    <geom name="box" type="box" size=".2 .1 .1" condim="4" contype="2" conaffinity="0"/>
    <site name="sole" type="box" size=".3 .2 .06" pos="0 0 -.1" quat=".9 .1 .2 0"/>
    <site name="back" type="ellipsoid" size=".1 .2 .15" pos=".2 .05 0" quat=".9 .1 .2 0"/>
    <body name="shell" pos=".45 0 0"><geom name="knob" size=".1" condim="6"/>
      <site name="front" type="cylinder" size=".15 .15" pos="0 .05 -.1" quat=".9 .1 .2 0"/></body>
    <body name="arm" pos="-.45 0 0"><joint axis="0 1 0" damping=".1"/><geom name="hand" size=".1" condim="1"/>
      <site name="palm" type="capsule" size=".15 .1" pos="0 .05 -.1" quat=".9 .1 .2 0"/></body></body>
  <body name="rod" pos=".4 .02 .38"><freejoint/><geom name="bar" type="capsule" size=".1 .2" quat=".7 0 .7 0"/>
    <geom name="tail" size=".07" pos="0 .2 0"/><site name="tip" size=".3" pos=".05 0 -.1"/></body>
</worldbody><sensor>{sensors}</sensor></mujoco>"""
SITES = "sole", "back", "front", "palm", "tip"
FORCES = "".join(f'<{kind} site="{site}"/>' for kind in ("touch", "force", "torque") for site in SITES)
LOOKS = (
    *('geom1="floor" body2="trunk"', 'body1="trunk" geom2="floor"', 'subtree1="trunk"', 'geom2="floor"', ""),
    *('subtree1="trunk" body2="rod"', 'body1="rod" body2="arm"', 'site="sole" geom2="floor"', 'site="palm"'),
    *('subtree1="world" subtree2="trunk"', 'geom1="bar"', 'body1="arm"'),
)
ALL = "found force torque dist pos normal tangent"
CONTACTS = "".join(
    f'<contact {look} data="{ALL}" reduce="{reduce}" num="{number}"/>'
    for look in LOOKS
    for reduce, number in (("none", 12), ("mindist", 3), ("maxforce", 2), ("netforce", 1))
)
CONTACTS += '<contact name="few" geom2="floor" data="found dist" reduce="mindist" num="40"/>'


def thrown(sensors: str = "", cone: str = "pyramidal"):
    """Bodies that were thrown and have come to different heights."""
    mj_model = mujoco.MjModel.from_xml_string(BODIES.format(sensors=sensors, cone=cone))
    data, rng, found = mujoco.MjData(mj_model), np.random.default_rng(0), []
    for world in range(WORLDS):
        mujoco.mj_resetData(mj_model, data)
        data.qvel[:] = 0.3 * rng.normal(size=mj_model.nv)
        mujoco.mj_step(mj_model, data, 50 + 25 * world)
        found.append((data.qpos.copy(), data.qvel.copy()))
    qpos, qvel = (torch.tensor(np.array(x)) for x in zip(*found, strict=True))
    return mj_model, ts.load(mj_model), ts.State(qpos, qvel, torch.zeros(WORLDS, 0, dtype=torch.float64))


@pytest.mark.parametrize("cone", ["pyramidal", "elliptic"])
def test_single_contacts_are_mujocos(cone):
    mj_model, model, state = thrown(cone=cone)
    contact = ts.Simulator(model, WORLDS).forward(state).contact
    kinds = set()
    for world in range(WORLDS):
        data = mujoco_data(mj_model, state, torch.zeros(WORLDS, 0), world)
        left = np.flatnonzero(contact.found[world]).tolist()
        assert len(left) == data.ncon
        for c, theirs in enumerate(data.contact):
            geoms = theirs.geom1, theirs.geom2
            of_these = [k for k in left if (contact.geom1[k], contact.geom2[k]) == geoms]
            k = min(of_these, key=lambda k: np.abs(contact.pos[world, k].numpy() - theirs.pos).max())
            left.remove(k)
            kinds.add(geoms)
            frame = contact.frame[world, k].numpy()
            assert abs(contact.dist[world, k] - theirs.dist) < 1e-12
            np.testing.assert_allclose(contact.pos[world, k], theirs.pos, rtol=0, atol=1e-12)
            np.testing.assert_allclose(frame.ravel(), theirs.frame, rtol=0, atol=1e-9)
            wrench = np.zeros(6)
            mujoco.mj_contactForce(mj_model, data, c, wrench)
            ours = np.concatenate([frame @ contact.force[world, k].numpy(), frame @ contact.torque[world, k].numpy()])
            np.testing.assert_allclose(ours, wrench, rtol=0, atol=1e-8 * max(np.abs(wrench).max(), 1))
        missing = ~contact.found[world]
        assert not any(x[world][missing].any() for x in (contact.dist, contact.pos, contact.frame, contact.force))
    assert len(kinds) > 4


@pytest.mark.parametrize("law", ["penalty", "mujoco"])
def test_single_contacts_sum_up_to_those_of_bodies(law):
    _, model, state = thrown()
    model.opt.constraint = law
    data = ts.Simulator(model, WORLDS).forward(state)
    contact, total = data.contact, torch.zeros_like(data.xfrc_contact)
    assert contact.found.sum() > 15 and contact.torque.any()
    # the shell is a part of the trunk
    owner = torch.tensor(model.geom_bodyid)
    owner[owner == model.names["body"].index("shell")] = model.names["body"].index("trunk")
    for side, geoms in ((-1, contact.geom1), (1, contact.geom2)):
        body = owner[geoms.numpy()]
        moment = contact.torque + torch.linalg.cross(contact.pos - data.xipos[:, body], contact.force)
        total.index_add_(1, body, side * torch.cat([contact.force, moment], dim=2))
    total[:, 0] = 0
    scale = total.abs().max()
    assert scale > 10
    np.testing.assert_allclose(total, data.xfrc_contact, rtol=0, atol=1e-10 * scale)


@pytest.mark.parametrize("cone", ["pyramidal", "elliptic"])
def test_sensors_read_what_mujocos_do(cone):
    contacts = "" if BEFORE_4 else CONTACTS
    mj_model, model, state = thrown(FORCES + contacts, cone)
    assert model.sensor_type.min() >= 0
    found = ts.Simulator(model, WORLDS).forward(state).sensordata.numpy()
    read = [mujoco_data(mj_model, state, torch.zeros(WORLDS, 0), world).sensordata.copy() for world in range(WORLDS)]
    for k, (adr, dim) in enumerate(zip(mj_model.sensor_adr, mj_model.sensor_dim, strict=True)):
        ours, theirs = (np.array(x)[:, adr : adr + dim] for x in (found, read))
        if not BEFORE_4 and model.sensor_intprm[k, 0] and not model.sensor_intprm[k, 1]:
            # without an order MuJoCo has its own: rows by their distances
            ours, theirs = (x.reshape(WORLDS, -1, 17) for x in (ours, theirs))
            ours, theirs = (np.take_along_axis(x, x[..., 7:8].argsort(1), 1) for x in (ours, theirs))
        kind = ts.types.SENSORS[model.sensor_type[k]]
        assert theirs.any(), f"{kind}, sensor {k}"
        scale = max(np.abs(theirs).max(), 1.0)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-8 * scale, err_msg=f"{kind}, sensor {k}")


def test_forces_are_not_read_where_an_equality_holds_bodies():
    text = BODIES.format(cone="pyramidal", sensors='<force name="pull" site="tip"/><touch name="push" site="tip"/>')
    text = text.replace("</mujoco>", '<equality><connect body1="rod" body2="arm" anchor="0 0 0"/></equality></mujoco>')
    sim = ts.Simulator(ts.load(mujoco.MjModel.from_xml_string(text)), 1)
    found = sim.forward(sim.initial_state())
    with pytest.raises(ValueError, match="pull are not read"):
        found.sensor("pull")
    assert found.sensor("push").shape == (1, 1)


def test_a_model_without_contacts_has_none():
    contact = "" if BEFORE_4 else '<contact data="found pos" num="2"/><contact data="force" reduce="netforce"/>'
    sensors = f'<sensor><touch site="s"/><force site="s"/>{contact}</sensor>'
    text = mjcf_text(inside='<site name="s"/>', rest=sensors)
    mj_model = mujoco.MjModel.from_xml_string(text)
    sim = ts.Simulator(ts.load(mj_model), 2)
    found = sim.forward(sim.initial_state())
    assert found.contact.force.shape == (2, 0, 3) and found.sensordata[:, 0].tolist() == [0, 0]
    at_rest = mujoco_data(mj_model, sim.initial_state(), torch.zeros(2, 0), 0).sensordata
    np.testing.assert_allclose(found.sensordata[0], at_rest, rtol=0, atol=1e-9)


@pytest.mark.skipif(BEFORE_4, reason="has no sensors of contacts")
def test_a_saved_model_reads_contacts(tmp_path):
    _, model, state = thrown(CONTACTS)
    ts.save(model, tmp_path / "model.npz")
    again = ts.Simulator(ts.load(tmp_path / "model.npz"), WORLDS).forward(state)
    assert torch.equal(again.sensordata, ts.Simulator(model, WORLDS).forward(state).sensordata)
    # there are not so many places: the rest is 0
    few = again.sensor("few").reshape(WORLDS, 40, 2)
    assert not few[:, -1].any() and few[:, 0, 0].max() > 1


@pytest.mark.skipif(BEFORE_4, reason="has no sensors of contacts")
@pytest.mark.parametrize("column, value", [(0, 0), (1, 4), (2, 5)])
def test_an_edited_sensor_of_contacts_is_refused(column, value):
    mj_model = mujoco.MjModel.from_xml_string(BODIES.format(sensors=CONTACTS, cone="pyramidal"))
    mj_model.sensor_intprm[3, column] = value
    with pytest.raises(ts.ModelError, match="sensor_(intprm|dim) must be"):
        ts.load(mj_model)
