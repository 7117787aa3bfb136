"""Pairs of geoms that can touch, and the parameters they touch with: MuJoCo's own selection as the oracle."""

import mujoco
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from taichi_sim.mjcf.contact_pairs import Pairs


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_pairs_and_their_parameters_are_those_of_mujoco(seed, filter_parent, override):
    rng = np.random.default_rng(seed)
    n = 7
    parents = [int(rng.integers(i + 1)) for i in range(n)]

    def geom(name):
        timeconst, ratio = rng.choice([0.01, 0.02, 0.05], 2)
        friction = " ".join(f"{x:.3f}" for x in rng.uniform(0.1, 1, 3))
        solref = rng.choice([f"{timeconst} {ratio}", f"{-1 / timeconst} {-1 / ratio}"])
        return (
            f'<geom name="{name}" size="1" pos="{rng.uniform(0, 0.1):.5f} 0 0" contype="{rng.integers(4)}" '
            f'conaffinity="{rng.integers(4)}" friction="{friction}" condim="{rng.choice([1, 3, 4, 6])}" '
            f'priority="{rng.integers(2)}" solmix="{rng.choice([0, 0.5, 2])}" solref="{solref}" '
            f'solimp="0.5 {rng.uniform(0.6, 0.9):.3f}" margin="{rng.uniform(0, 0.1):.3f}"/>'
        )

    def bodies(parent):
        out = ""
        for i in [i for i in range(n) if parents[i] == parent]:
            joint = rng.choice(["", '<joint axis="1 0 0"/>'])
            out += f'<body name="b{i + 1}">{joint}{geom(f"g{i}")}{geom(f"f{i}")}{bodies(i + 1)}</body>'
        return out

    low, high = rng.choice(n, 2, replace=False) + 1
    one, two = rng.choice(n, 2, replace=False)
    m = mujoco.MjModel.from_xml_string(
        f"""<mujoco><option o_margin=".03" o_solref=".03 .9" o_solimp=".4 .8 .01 .4 3" o_friction=".5 .4 .03 .02 .01">
        <flag filterparent="{"enable" if filter_parent else "disable"}"
          override="{"enable" if override else "disable"}"/></option>
        <worldbody><geom size="1"/>{bodies(0)}</worldbody>
        <contact><exclude body1="b{low}" body2="b{high}"/>
        <pair geom1="g{one}" geom2="f{two}" condim="3" friction="0.3 0.3 0.1 0.1 0.1" margin="0.2"/>
        </contact></mujoco>"""
    )
    data = mujoco.MjData(m)
    mujoco.mj_forward(m, data)
    # the spheres overlap, so that every pair that the filters leave is in contact
    expected = {tuple(sorted(c.geom.tolist())): c for c in data.contact}
    pairs = Pairs(m)
    found = {tuple(sorted(pair)): k for k, pair in enumerate(zip(pairs.geom1.tolist(), pairs.geom2.tolist()))}
    assert len(pairs) == len(found) and set(found) == set(expected)
    for pair, k in found.items():
        contact = expected[pair]
        np.testing.assert_allclose(pairs.friction[k], contact.friction, rtol=1e-12)
        np.testing.assert_allclose(pairs.solref[k], contact.solref, rtol=1e-12)
        np.testing.assert_allclose(pairs.solimp[k], contact.solimp, rtol=1e-12)
        np.testing.assert_allclose(pairs.margin[k], contact.includemargin, rtol=1e-12)
        assert pairs.condim[k] == contact.dim


def test_a_plane_is_the_first_of_its_pair():
    m = mujoco.MjModel.from_xml_string(
        """<mujoco><worldbody><body><freejoint/><geom type="box" size="1 1 1"/></body>
        <geom name="floor" type="plane" size="1 1 1"/></worldbody></mujoco>"""
    )
    pairs = Pairs(m)
    assert m.geom_type[pairs.geom1].tolist() == [mujoco.mjtGeom.mjGEOM_PLANE]
