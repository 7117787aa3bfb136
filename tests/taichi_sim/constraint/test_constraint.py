"""MuJoCo's law of limits, contacts, dry friction: accelerations and motion to the last digit, gradients, refusals."""

import dataclasses

import mujoco
import numpy as np
import pytest
import torch
from batch import driven, explicit, mujoco_data, strayed
from differences import assert_gradient, rollout, weighted

import taichi_sim as ts

# Every kind of limit, and of what touches two planes: round and with edges, with friction and without, by all formats
# of solref and solimp. No damping, which MuJoCo's Euler step adds after its constraints.
BODY = """<mujoco><compiler angle="radian" autolimits="true"/>
<option timestep="0.003" gravity="0.2 -0.1 -9.81" cone="{}" impratio="1.7" iterations="200" tolerance="0"
  ls_iterations="200" ls_tolerance="1e-10"/>
<default><joint armature="0.01"/><geom contype="0" conaffinity="1" density="700"/></default>
<worldbody>
  <geom type="plane" size="5 5 .1" contype="1" conaffinity="0" friction=".8"/>
  <geom type="plane" size="5 5 .1" contype="1" conaffinity="0" pos="-.5 0 0" euler="0 1.2 0.3" friction=".3"
    solimp=".8 .99 .01 .3 3"/>
  <body name="torso" pos="0 0 .5"><freejoint/><geom type="box" size=".15 .1 .05" condim="6" friction=".5 .1 .05"/>
    <body pos=".1 .1 0"><joint name="hip" axis="0 1 .2" range="-.6 .4" frictionloss="3" solimplimit=".7 .97 .1 .4 2"/>
      <geom type="capsule" fromto="0 0 0 .05 0 -.3" size=".04" margin=".01"/>
      <body pos=".05 0 -.3"><joint name="knee" axis="0 1 0" range="-1 0" solreflimit="-900 -40"/>
        <geom type="capsule" fromto="0 0 0 -.05 0 -.2" size=".03" solref="-4000 -90" condim="4" friction=".5 .2"/>
      </body></body>
    <body pos="-.1 -.1 0"><joint name="prop" type="slide" axis="0 .2 1" range="-.05 .1" margin=".01" frictionloss="9"
      solreffriction=".03 1"/>
      <geom type="sphere" size=".05" pos="0 0 -.35" condim="1" priority="1"/></body>
    <body pos="0 0 .1"><joint name="neck" type="ball" range="0 .5" frictionloss=".4" solimpfriction=".7 .9 0"/>
      <geom type="ellipsoid" size=".06 .08 .1" pos="0 0 .1"/></body></body>
</worldbody>
<actuator><motor joint="hip" gear="30"/><motor joint="knee" gear="20"/><motor joint="prop" gear="100"/>
  <motor joint="neck" gear="3 -5 4 0 0 0"/></actuator></mujoco>"""
WORLDS = 16


@pytest.fixture(scope="module", params=["pyramidal", "elliptic"])
def body(request) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(BODY.format(request.param))


@pytest.fixture(scope="module")
def sim(body) -> ts.Simulator:
    return explicit(body, WORLDS)


@pytest.fixture(scope="module")
def batch() -> tuple[ts.State, torch.Tensor]:
    """States of bodies that were dropped and driven for a while: rows of every kind push, and others do not."""
    rng = np.random.default_rng(9)
    body = mujoco.MjModel.from_xml_string(BODY.format("pyramidal"))

    def drop(data):
        data.qvel[:] = rng.normal(size=body.nv)
        data.qpos[3:7] = rng.normal(size=4) + [0.5, 0, 0, 0]

    return driven(body, WORLDS, rng, 0.8, 0.5, drop)


def test_accelerations_and_forces_are_mujocos(body, sim, batch):
    state, ctrl = batch
    ours = sim.forward(state, ctrl)
    seen, slides, held = set(), set(), set()
    for world in range(WORLDS):
        data = mujoco_data(body, state, ctrl, world)
        scale = 1 + np.abs(data.qacc).max()
        assert np.abs(ours.qacc[world].numpy() - data.qacc).max() < 1e-10 * scale
        constraint = (ours.qfrc_limit + ours.qfrc_contact + ours.qfrc_friction)[world].numpy()
        assert np.abs(constraint - data.qfrc_constraint).max() < 1e-10 * (1 + np.abs(data.qfrc_constraint).max())
        kinds = data.efc_type[: data.nefc]
        limits = data.efc_id[: data.nefc][kinds == mujoco.mjtConstraint.mjCNSTR_LIMIT_JOINT]
        for row in np.flatnonzero(kinds == mujoco.mjtConstraint.mjCNSTR_FRICTION_DOF):
            slides.add((int(data.efc_id[row]), bool(abs(data.efc_force[row]) > 0.9999 * data.efc_frictionloss[row])))
        seen |= {body.joint(i).name for i in limits} | {int(c.geom2) for c in data.contact[: data.ncon]}
        held |= {int(data.efc_state[c.efc_address]) for c in data.contact[: data.ncon]}
    # whatever a state lacks proves nothing
    assert {"hip", "knee", "prop", "neck"} <= seen and set(range(2, body.ngeom)) <= seen, seen
    # five dofs with dry friction, held and sliding
    assert len(slides) >= 9, slides
    kinds = mujoco.mjtConstraintState
    elliptic = body.opt.cone == mujoco.mjtCone.mjCONE_ELLIPTIC
    assert held >= ({kinds.mjCNSTRSTATE_QUADRATIC, kinds.mjCNSTRSTATE_CONE} if elliptic else set()), held


def test_rows_that_push_are_found_from_afar(body, sim):
    rng = np.random.default_rng(0)
    for _ in range(8):
        qpos, qvel = np.tile(body.qpos0, (WORLDS, 1)), 5 * rng.normal(size=(WORLDS, body.nv))
        # no lower, as MuJoCo looks at four corners of a box
        qpos[:, 2] = rng.uniform(0.19, 0.35, WORLDS)
        for quaternion in (slice(3, 7), slice(10, 14)):
            qpos[:, quaternion] = rng.normal(size=(WORLDS, 4))
            qpos[:, quaternion] /= np.linalg.norm(qpos[:, quaternion], axis=1, keepdims=True)
        qpos[:, 7:10] += rng.normal(size=(WORLDS, 3))
        state = ts.State(*map(torch.tensor, (qpos, qvel)), torch.zeros(WORLDS, 0, dtype=torch.float64))
        ctrl = torch.tensor(rng.normal(size=(WORLDS, body.nu)))
        ours = sim.forward(state, ctrl).qacc.numpy()
        for world in range(WORLDS):
            theirs = mujoco_data(body, state, ctrl, world).qacc
            assert np.abs(ours[world] - theirs).max() < 1e-10 * (1 + np.abs(theirs).max())


def test_motion_is_mujocos(body, sim, batch):
    errors = strayed(body, sim, *batch, 40)
    # a row that begins to push a step later where MuJoCo's solver stops short of its solution sets worlds apart
    assert np.median(errors) < 1e-10 and np.quantile(errors, 0.8) < 1e-7, errors


def test_what_turns_about_its_centre_is_held_where_it_touches():
    """MuJoCo gives a contact the compliance of the bodies' centres: here none, so it pushes until nothing moves."""
    body = mujoco.MjModel.from_xml_string("""<mujoco><option timestep=".003" tolerance="0"/><default>
<geom size=".1" solref=".02 1" solimp="0 .9 .01"/></default><worldbody><geom type="plane" size="5 5 .1"/>
<body pos="0 0 .37"><joint axis="0 1 0"/><geom pos=".3 0 0"/><geom pos="-.3 0 0"/></body></worldbody></mujoco>""")
    assert body.body_invweight0[1, 0] < 1e-12
    sim = explicit(body, 2)
    state = ts.State(*(torch.tensor([[x], [-x]]).double() for x in (1.2, 0.5)), torch.zeros(2, 0).double())
    state.qvel[1] = -0.5
    ours = sim.forward(state).qacc
    for world in range(2):
        theirs = mujoco_data(body, state, torch.zeros(2, 0), world)
        assert theirs.ncon == 1 and abs(theirs.qacc[0]) > 1
        assert ours[world, 0].item() == pytest.approx(theirs.qacc[0], rel=1e-4)


def test_gradients_are_those_of_the_step(sim, batch):
    state, ctrl = batch

    def end(qpos, qvel, ctrl):
        return weighted(rollout(sim, qpos, qvel, ctrl, 2), 1)

    assert_gradient(end, {"qpos": state.qpos, "qvel": state.qvel, "ctrl": ctrl}, {"qpos": 1e-7, "qvel": 1e-6})


# What closes a loop or makes one joint another's stands in the same matrix.
TIED = """<mujoco><compiler angle="radian" autolimits="true"/><option timestep="0.003" iterations="200" tolerance="0"/>
<default><geom contype="0" conaffinity="0"/></default>
<worldbody><geom type="plane" size="5 5 .1" pos="0 0 .2" contype="1"/>
<body pos="0 0 .3"><joint type="slide" axis="0 0 1"/><joint axis="0 1 0" range="-.1 .1"/>
  <geom size=".1" conaffinity="1"/>
  <body pos=".3 0 0"><joint name="one" axis="0 1 0"/>
    <geom type="capsule" fromto="0 0 0 .2 0 -.25" size=".04"/><site name="end" pos=".2 0 -.25"/></body></body>
<body pos="1 0 .3"><joint name="two" axis="0 1 0"/><geom type="capsule" fromto="0 0 0 -.3 0 -.1" size=".04"/>
  <site name="tip" pos="-.3 0 -.1"/></body></worldbody><equality>{}</equality></mujoco>"""


def dropped(body: mujoco.MjModel) -> tuple[ts.State, torch.Tensor]:
    """States of a body on its way down, and no controls."""
    data, states = mujoco.MjData(body), []
    for step in range(160):
        mujoco.mj_step(body, data)
        if step % 10 == 9:
            states.append((data.qpos.copy(), data.qvel.copy()))
    qpos, qvel = (torch.tensor(np.array(x)) for x in zip(*states, strict=True))
    none = torch.zeros(len(qpos), 0, dtype=torch.float64)
    return ts.State(qpos, qvel, none), none


def test_closed_loops_and_contacts_are_solved_together():
    body = mujoco.MjModel.from_xml_string(TIED.format('<connect site1="end" site2="tip"/>'))
    state, ctrl = dropped(body)
    ours = ts.Simulator(ts.load(body), len(ctrl)).forward(state, ctrl)
    pushing = 0
    for world in range(len(ctrl)):
        data = mujoco_data(body, state, ctrl, world)
        assert np.abs(ours.qacc[world].numpy() - data.qacc).max() < 1e-9 * (1 + np.abs(data.qacc).max())
        pushing += np.abs(ours.qfrc_contact[world].numpy()).max() > 0
    assert pushing > 3


def test_gradients_with_joints_that_follow_others():
    body = mujoco.MjModel.from_xml_string(TIED.format('<joint joint1="two" joint2="one" polycoef="0 -.6 .2"/>'))
    state, ctrl = dropped(body)
    sim = ts.Simulator(ts.load(body), len(ctrl))

    def end(qpos, qvel):
        return weighted(rollout(sim, qpos, qvel, ctrl, 2), 1)

    assert_gradient(end, {"qpos": state.qpos, "qvel": state.qvel}, {"qpos": 1e-7, "qvel": 1e-6})


def test_another_law_is_refused(body):
    model = ts.load(body)
    model.opt.constraint = "hard"
    with pytest.raises(ValueError, match="must be one of 'mujoco', 'penalty', got 'hard'"):
        ts.Simulator(model)
    text = BODY.format("elliptic").replace(
        "<default>", '<custom><text name="constraint" data="hard"/></custom><default>'
    )
    with pytest.raises(ts.UnsupportedModelError, match="'hard', which is no law of constraints"):
        ts.load(mujoco.MjSpec.from_string(text))
    model = ts.load(body)
    model.opt.cone = "round"
    with pytest.raises(ValueError, match="opt.cone must be one of 'pyramidal', 'elliptic', got 'round'"):
        ts.Simulator(model)


def test_files_have_it_that_ask_for_nothing_else():
    text = (
        '<mujoco><option{}/><custom>{}</custom><worldbody><body><joint/><geom size=".1"/></body></worldbody></mujoco>'
    )
    number = '<numeric name="{}" data="2"/>'
    for custom, law in (
        ("", "mujoco"),
        (number.format("substeps"), "mujoco"),
        (number.format("contact_ke"), "penalty"),
        (number.format("limit_kd"), "penalty"),
        ('<text name="constraint" data="penalty"/>', "penalty"),
        (number.format("contact_ke") + '<text name="constraint" data="mujoco"/>', "mujoco"),
    ):
        assert ts.load(mujoco.MjSpec.from_string(text.format("", custom))).opt.constraint == law
    for cone in ("elliptic", "pyramidal"):
        option = ts.load(mujoco.MjSpec.from_string(text.format(f' cone="{cone}"', ""))).opt
        assert (option.constraint, option.cone) == ("mujoco", cone)


# A capsule and a box on a slope, with friction of five kinds each.
UNEVEN = """<mujoco><compiler angle="radian"/>
<option timestep="0.003" cone="{}" impratio="2" iterations="200" tolerance="0"/>
<worldbody><geom name="floor" type="plane" size="5 5 .1" euler=".3 .1 0"/>
<body pos="0 0 .3"><freejoint/><geom name="one" type="capsule" size=".05" fromto="-.2 0 0 .1 .1 .05"/>
  <body pos=".1 .1 .05"><joint axis="0 1 0"/><geom name="two" type="box" size=".1 .05 .05" pos=".1 0 0"/></body></body>
</worldbody><contact>
<pair geom1="floor" geom2="one" condim="6" friction=".9 .2 .03 .02 .05"/>
<pair name="odd" geom1="two" geom2="floor" condim="3" friction=".1 .7"/></contact></mujoco>"""


@pytest.mark.parametrize("cone", ["pyramidal", "elliptic"])
def test_friction_may_differ_by_direction(cone):
    body = mujoco.MjModel.from_xml_string(UNEVEN.format(cone))
    state, ctrl = dropped(body)
    sim, sliding = explicit(body, len(ctrl)), set()
    ours = sim.forward(state, ctrl)
    for world in range(len(ctrl)):
        data = mujoco_data(body, state, ctrl, world)
        assert np.abs(ours.qacc[world].numpy() - data.qacc).max() < 1e-9 * (1 + np.abs(data.qacc).max())
        sliding |= {int(c.geom2) for c in data.contact[: data.ncon]}
    assert sliding == {1, 2}

    def end(qpos, qvel):
        return weighted(rollout(sim, qpos, qvel, ctrl, 2), 1)

    assert_gradient(end, {"qpos": state.qpos, "qvel": state.qvel}, {"qpos": 3e-7, "qvel": 1e-5})


def test_friction_that_differs_by_direction_is_mujocos_law_alone():
    penalty = '<custom><text name="constraint" data="penalty"/></custom><worldbody>'
    text = UNEVEN.format("elliptic").replace("<worldbody>", penalty)
    with pytest.raises(ts.UnsupportedModelError, match="contact pair .*'odd'.*differs between two directions"):
        ts.load(mujoco.MjSpec.from_string(text))


def test_friction_parameters_of_a_pairs_own_are_refused_where_mujoco_has_them():
    text = """<mujoco><option cone="{}"/><worldbody><geom name="floor" type="plane" size="1 1 1"/>
    <body><freejoint/><geom name="ball" size=".1"/></body></worldbody>
    <contact><pair name="soft" geom1="floor" geom2="ball" solreffriction=".1 1"/></contact></mujoco>"""
    ts.load(mujoco.MjSpec.from_string(text.format("pyramidal")))
    with pytest.raises(ts.UnsupportedModelError, match="contact pair 'soft'.*solreffriction of an elliptic cone"):
        ts.load(mujoco.MjSpec.from_string(text.format("elliptic")))


def test_a_model_that_an_older_release_saved_asks_to_be_loaded_anew(body):
    fields = {f.name: getattr(ts.load(body), f.name) for f in dataclasses.fields(ts.Model)}
    for names, what in ((("pair_dim",), "dimensions"), (("jnt_limit_invweight",), "inverse inertias")):
        with pytest.raises(ValueError, match=f"an older release saved it, without .*{what}"):
            ts.Simulator(ts.Model(**{**fields, **dict.fromkeys(names)}))


def test_a_saved_model_keeps_its_law(body, tmp_path):
    ts.save(ts.load(body), tmp_path / "body.npz")
    model = ts.load(tmp_path / "body.npz")
    assert model.opt.constraint == "mujoco" and model.opt.impratio == 1.7
    assert model.opt.cone == ts.load(body).opt.cone
