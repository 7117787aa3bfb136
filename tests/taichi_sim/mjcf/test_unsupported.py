"""Refusals: every element by name, in one message, unless a disabled stage makes it harmless."""

import re

import mujoco
import pytest
from snippets import BEFORE_4, NO_CONTACT, load_text, mjcf_text

from taichi_sim import mjcf
from taichi_sim.types import BIAS_NONE, GAIN_FIXED

HAND = '<body mocap="true"><geom name="hand" type="plane" size="1 1 1"/></body>'
CAN = '<body><freejoint/><geom name="can" type="cylinder" size=".1 .1"/></body>'
FLOOR = '<geom name="floor" type="plane" size="1 1 1"/>'
HILL = '<body><freejoint/><geom size=".1"/><geom name="hill" type="hfield" hfield="hill"/></body>'
HEIGHTS = '<asset><hfield name="hill" nrow="2" ncol="2" size="1 1 1 .1"/></asset>'
TENDON = '<tendon><fixed name="cord" {}><joint joint="elbow" coef="1"/></fixed></tendon>'
RAG = '<flexcomp name="rag" type="grid" count="3 3 1" spacing=".1 .1 .1" dim="2" radius=".01"/>'

MOTOR = '<actuator><motor joint="elbow"/></actuator>'

# what is refused: level and text, words of the message, and the flags under which it has no effect (None: none do)
REFUSED = {
    "contact": ({"world": HAND + CAN, "flag": ""}, ["geom 'hand'", "plane on a mocap body"], NO_CONTACT),
    "contact by all constraints": ({"world": HAND + CAN, "flag": ""}, ["'hand'"], 'constraint="disable"'),
    "contact pair": (
        {
            "world": (FLOOR + HILL).replace("<geom", '<geom contype="0" conaffinity="0"'),
            "rest": HEIGHTS + '<contact><pair name="touch" geom1="hill" geom2="floor"/></contact>',
            "flag": "",
        },
        ["geom 'floor'", "'hill'", "plane with hfield"],
        NO_CONTACT,
    ),
    "equality": (
        {"world": RAG, "rest": '<equality><flex name="glue" flex="rag"/></equality>'},
        ["equality 'glue'", "deformable"],
        None,
    ),
    "stiffnesspoly": (
        {"joint": 'stiffness="1 2"'},
        ["joint 'elbow'", "polynomial stiffness"],
        f'{NO_CONTACT} spring="disable"',
    ),
    "springyield": (
        {"joint": 'stiffness="1" springyield="1"'},
        ["joint 'elbow'", "springyield"],
        f'{NO_CONTACT} spring="disable"',
    ),
    "dampingpoly": (
        {"joint": 'damping="1 0 2"'},
        ["joint 'elbow'", "polynomial damping"],
        f'{NO_CONTACT} damper="disable"',
    ),
    "margin": (
        {"joint": 'limited="true" range="-.1 .1" margin=".2"'},
        ["joint 'elbow'", "margin"],
        f'{NO_CONTACT} limit="disable"',
    ),
    "gravcomp": (
        {"body": 'gravcomp="1"', "joint": 'actuatorgravcomp="true"'},
        ["joint 'elbow'", "actuatorgravcomp"],
        f'{NO_CONTACT} gravity="disable"',
    ),
    "gravcomp, passive": (
        {"body": 'gravcomp="1"', "joint": 'actuatorgravcomp="true" actuatorfrcrange="-1 1"', "rest": MOTOR},
        ["joint 'elbow'", "clamped"],
        f'{NO_CONTACT} spring="disable" damper="disable"',
    ),
    "surface velocity": (
        {"world": FLOOR.replace("/>", ' surfacevel="1 0 0 0 0 0"/>'), "flag": ""},
        ["geom 'floor'", "velocity of a geom's surface"],
        NO_CONTACT,
    ),
    "adhesion": (
        {"world": FLOOR.replace("/>", ' adhesion="1"/>'), "flag": ""},
        ["geom 'floor'", "adhesion"],
        NO_CONTACT,
    ),
    "adhesion of a pair": (
        {
            "world": FLOOR + CAN,
            "rest": '<contact><pair name="touch" geom1="can" geom2="floor" adhesion="1"/></contact>',
            "flag": "",
        },
        ["contact pair 'touch'", "adhesion"],
        NO_CONTACT,
    ),
    "a flag": (
        {"flag": f'{NO_CONTACT} diagexact="enable"'},
        ["option", "diagexact"],
        f'{NO_CONTACT} invdiscrete="enable"',
    ),
    "sleep": ({"flag": f'{NO_CONTACT} sleep="enable"'}, ["sleep"], NO_CONTACT),
    "mocap": (
        {"world": '<body mocap="true"><geom name="hand" type="plane" size="1 1 1"/></body>', "flag": ""},
        ["geom 'hand'", "plane on a mocap body"],
        NO_CONTACT,
    ),
    "flex": (
        {"world": RAG},
        ["flex 'rag'"],
        None,
    ),
    "tendon spring": (
        {"rest": TENDON.format('stiffness="1 2 0"')},
        ["tendon 'cord'", "polynomial"],
        f'{NO_CONTACT} spring="disable"',
    ),
    "tendon limit": (
        {"rest": TENDON.format('limited="true" range="-1 1" margin="2"')},
        ["tendon 'cord'", "margin"],
        f'{NO_CONTACT} limit="disable"',
    ),
    "tendon armature": ({"rest": TENDON.format('armature="1"')}, ["tendon 'cord'"], None),
    "actuator armature": (
        {"rest": TENDON.format("") + '<actuator><motor name="m" tendon="cord" armature="1"/></actuator>'},
        ["actuator 'm'", "armature"],
        None,
    ),
    "actuator damping": (
        {"rest": TENDON.format("") + '<actuator><motor name="m" tendon="cord" damping="1"/></actuator>'},
        ["actuator 'm'", "damping"],
        f'{NO_CONTACT} damper="disable"',
    ),
    "actuator dampingpoly": (
        {"rest": '<actuator><motor name="m" joint="elbow" damping="0 1 0"/></actuator>'},
        ["actuator 'm'", "polynomial damping"],
        f'{NO_CONTACT} damper="disable"',
    ),
    "clamped joint on a tendon": (
        {
            "joint": 'actuatorfrcrange="-1 1"',
            "rest": TENDON.format("") + '<actuator><motor name="pull" tendon="cord"/></actuator>',
        },
        ["joint 'elbow'", "clamped", "forcerange"],
        f'{NO_CONTACT} actuation="disable"',
    ),
    "no joints": ({"body": 'childclass="main"'}, ["no body has a joint"], None),
    "parallel joints": (
        {"inside": '<body><joint name="x1" axis="1 0 0"/><joint name="x2" axis="1 0 0"/><geom size=".1"/></body>'},
        ["'x1'", "'x2'", "singular"],
        None,
    ),
}

ACTUATORS = {
    "site by motion": ("<actuator><velocity name='m' site='palm' kv='1' gear='0 0 1 0 0 0'/></actuator>", "motion"),
    "body": (
        "<actuator><general name='m' body='arm' biastype='affine' biasprm='0 0 -1'/></actuator>",
        "a site's or a body's motion",
    ),
    "jointinparent": ("<actuator><motor name='m' jointinparent='neck' gear='1 0 0'/></actuator>", "jointinparent"),
    "user dynamics": ("<actuator><general name='m' joint='elbow' dyntype='user'/></actuator>", "activation dynamics"),
    "user gain": ("<actuator><general name='m' joint='elbow' gaintype='user'/></actuator>", "gain type"),
    "user bias": ("<actuator><general name='m' joint='elbow' biastype='user'/></actuator>", "bias type"),
    "actearly": (
        "<actuator><general name='m' joint='elbow' dyntype='filter' actearly='true'/></actuator>",
        "next activation",
    ),
    "muscle bias": (
        "<actuator><general name='m' joint='elbow' biastype='muscle' lengthrange='0 1'"
        " biasprm='.75 1.05 9 200 .5 1.6 1.5 1.3 1.2'/></actuator>",
        "muscle's gain",
    ),
    "delay": ("<actuator><motor name='m' joint='elbow' delay='.1' nsample='9'/></actuator>", "delay"),
}
ACTUATOR_WORLD = '<site name="rail"/><body><joint name="neck" type="ball"/><geom name="head" size=".1"/></body>'


def load_if_known(text):
    """Load a snippet; skip the test where this release of MuJoCo is too old to know what stands in it."""
    try:
        return load_text(text)
    except mjcf.UnsupportedModelError:
        raise
    except ValueError as error:
        if BEFORE_4:
            pytest.skip(f"MuJoCo {mujoco.__version__}: {error}")
        raise


# MuJoCo's compiler warns of two of these models by itself
@pytest.mark.filterwarnings("ignore:flex 'rag':UserWarning", "ignore:Inertia matrix:UserWarning")
@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name_unless_its_stage_is_disabled(case):
    parts, words, flag = REFUSED[case]
    text = mjcf_text(**parts)
    if case == "no joints":
        text = re.sub("<joint [^>]*>", "", text)
    with pytest.raises(mjcf.UnsupportedModelError) as error:
        load_if_known(text)
    assert all(word in str(error.value) for word in words), error.value
    if flag is not None:
        load_if_known(mjcf_text(**{**parts, "flag": flag}))


@pytest.mark.parametrize("case", ACTUATORS)
def test_refused_actuators(case):
    rest, word = ACTUATORS[case]
    parts = {"world": ACTUATOR_WORLD, "inside": '<site name="palm"/>', "rest": rest}
    with pytest.raises(mjcf.UnsupportedModelError, match=f"actuator 'm'.*{word}"):
        load_if_known(mjcf_text(**parts))
    # with actuation disabled, as a whole or by group, it keeps its place among the controls and does nothing
    disabled = [{"flag": f'{NO_CONTACT} actuation="disable"'}, {"option": 'actuatorgroupdisable="0"'}]
    for off in disabled:
        model = load_if_known(mjcf_text(**parts, **off))
        assert model.nu == 1 and model.actuator_actadr[0] == -1
        assert (model.actuator_gaintype[0], model.actuator_biastype[0]) == (GAIN_FIXED, BIAS_NONE)
        assert not model.actuator_gainprm.any() and not model.actuator_biasprm.any()
        assert 0 <= model.actuator_trnid[0] < model.njnt


def test_everything_wrong_stands_in_one_message_with_its_line(tmp_path):
    path = tmp_path / "many.xml"
    path.write_text(
        mjcf_text(
            world=HAND + CAN,
            flag="",
            joint='limited="true" range="-.1 .1" margin=".2"',
            rest=TENDON.format('armature="1"')
            + "<actuator><motor joint='elbow' damping='1 1 0'/></actuator>"
            + "<custom><numeric name='substeps' data='0'/></custom>",
        )
    )
    with pytest.raises(mjcf.UnsupportedModelError) as error:
        mjcf.load(path)
    message = str(error.value)
    for element in ("geom 'hand'", "joint 'elbow'", "tendon 'cord'"):
        assert element in message
    # elements carry ids, by which lines are found, since MuJoCo 3.3.2
    if hasattr(mujoco.MjSpec().worldbody, "id"):
        assert all(f"{e})" in message for e in ("'hand' (line 7", "'elbow' (line 9"))
    assert "actuator #0 (unnamed)" in message and "numeric 'substeps'" in message
    assert message.startswith(str(path))


def test_edited_model_without_mass_is_refused():
    mj_model = mujoco.MjModel.from_xml_string(mjcf_text())
    mj_model.body_mass[1] = 0
    mj_model.body_inertia[1] = 0
    with pytest.raises(mjcf.UnsupportedModelError, match="joint 'elbow'.*mass"):
        mjcf.load(mj_model)
