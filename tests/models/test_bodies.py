"""The benchmark's bodies against the figures of Xu et al. 2022 and its reference implementation.

The figures below are the source's own, four digits each: links, their inertia about their centres of mass, and joints.
MuJoCo compiles the assets. Joint damping there is `damping` plus the limits' damping of 10, which always acts.
"""

from importlib import resources

import mujoco
import numpy as np
import pytest

from taichi_sim.mjcf.contact_pairs import candidates

# body, parent, x y z in the parent [m], mass [kg], centre of mass [m], Ixx Iyy Izz Ixy Ixz Iyz about it [kg m^2]
LINKS = {
    "hopper": """
        torso  world  0 0 1.25  3.6652  0 0 0       .06925 .06925 .004451  0 0 0
        thigh  torso  0 0 -.2   4.0579  0 0 -.225   .0933 .0933 .004941    0 0 0
        leg    thigh  0 0 -.45  2.7814  0 0 -.25    .0723 .0723 .002182    0 0 0
        foot   leg    0 0 -.5   5.3156  .06 0 0     .009242 .1035 .1035    0 0 0
    """,
    "halfcheetah": """
        torso   world   0 0 1         9.4573  .1524 0 .0254  .03822 1.357 1.329      0 -.1199 0
        bthigh  torso   -.5 0 0       2.3355  .1 0 -.13      .01684 .02549 .01103    0 .01118 0
        bshin   bthigh  .16 0 -.25    2.4020  -.14 0 -.07    .007403 .02764 .02269   0 -.01001 0
        bfoot   bshin   -.28 0 -.14   1.6575  .03 0 -.097    .009047 .009612 .002233 0 .002042 0
        fthigh  torso   .5 0 0        2.1760  -.07 0 -.12    .0162 .02079 .006802    0 -.008009 0
        fshin   fthigh  -.14 0 -.24   1.8170  .065 0 -.09    .00906 .01244 .005217   0 .004942 0
        ffoot   fshin   .13 0 -.18    1.3384  .045 0 -.07    .004061 .00534 .002608  0 .001869 0
    """,
    "ant": """
        torso    world  0 0 .75    96.7760  0 0 0      2.224 2.224 2.717   0 0 0
        hip_1    torso  .2 .2 0    7.8316   .1 .1 0    .06864 .06864 .1136 -.04495 0 0
        ankle_1  hip_1  .2 .2 0    13.5184  .2 .2 0    .2884 .2884 .535    -.2465 0 0
        hip_2    torso  -.2 .2 0   7.8316   -.1 .1 0   .06864 .06864 .1136 .04495 0 0
        ankle_2  hip_2  -.2 .2 0   13.5184  -.2 .2 0   .2884 .2884 .535    .2465 0 0
        hip_3    torso  -.2 -.2 0  7.8316   -.1 -.1 0  .06864 .06864 .1136 -.04495 0 0
        ankle_3  hip_3  -.2 -.2 0  13.5184  -.2 -.2 0  .2884 .2884 .535    -.2465 0 0
        hip_4    torso  .2 -.2 0   7.8316   .1 -.1 0   .06864 .06864 .1136 .04495 0 0
        ankle_4  hip_4  .2 -.2 0   13.5184  .2 -.2 0   .2884 .2884 .535    .2465 0 0
    """,
    "humanoid": """
        torso            world            0 0 1.35        8.9075  -.002539 0 .03466   .1731 .154 .04121        0 -.003498 0
        lower_waist      torso            -.01 0 -.195    2.2619  0 0 -.065           .009853 .003746 .009853  0 0 0
        pelvis           lower_waist      0 0 -.13        6.6162  -.02 0 -.1          .05232 .02432 .05232     0 0 0
        right_thigh      pelvis           0 -.1 -.14      4.7518  0 .005 -.17         .07495 .07489 .008285    0 0 .001961
        right_shin       right_thigh      0 .01 -.383     2.7557  0 0 -.17            .03261 .03261 .00319     0 0 0
        right_foot       right_shin       0 0 -.33        1.1311  .035 -.01 -.08      .000903 .005944 .006446  0 0 0
        left_thigh       pelvis           0 .1 -.14       4.7518  0 -.005 -.17        .07495 .07489 .008285    0 0 -.001961
        left_shin        left_thigh       0 -.01 -.383    2.7557  0 0 -.17            .03261 .03261 .00319     0 0 0
        left_foot        left_shin        0 0 -.33        1.1311  .035 .01 -.08       .000903 .005944 .006446  0 0 0
        right_upper_arm  torso            0 -.17 .06      1.6611  .08 -.08 -.08       .01103 .01103 .01103     .004873 .004873 -.004873
        right_lower_arm  right_upper_arm  .18 -.18 -.18   1.2295  .1096 .1096 .1096   .009319 .009319 .009319  -.004349 -.004349 -.004349
        left_upper_arm   torso            0 .17 .06       1.6611  .08 .08 -.08        .01103 .01103 .01103     -.004873 .004873 .004873
        left_lower_arm   left_upper_arm   .18 .18 -.18    1.2295  .1096 -.1096 .1096  .009319 .009319 .009319  .004349 -.004349 .004349
    """,  # noqa: E501
}
# joint, body, axis, range [rad] or none, stiffness, damping without the limits' [N m s/rad], rotor inertia, motor [N m]
JOINTS = {
    "hopper": """
        rootx  torso  1 0 0   none none     0 0 1  0
        rootz  torso  0 0 1   none none     0 0 1  0
        rooty  torso  0 1 0   none none     0 0 1  0
        thigh  thigh  0 -1 0  -2.618 0      0 2 1  200
        leg    leg    0 -1 0  -2.618 0      0 2 1  200
        foot   foot   0 -1 0  -.7854 .7854  0 2 1  200
    """,
    "halfcheetah": """
        rootx   torso   1 0 0  none none   0 0 .1      0
        rootz   torso   0 0 1  none none   0 0 .1      0
        rooty   torso   0 1 0  none none   0 0 .1      0
        bthigh  bthigh  0 1 0  -.52 1.05   240 6 .1    200
        bshin   bshin   0 1 0  -.785 .785  180 4.5 .1  200
        bfoot   bfoot   0 1 0  -.4 .785    120 3 .1    200
        fthigh  fthigh  0 1 0  -1.5 .8     180 4.5 .1  200
        fshin   fshin   0 1 0  -1.2 1.1    120 3 .1    200
        ffoot   ffoot   0 1 0  -3.1 -.3    60 1.5 .1   200
    """,
    "ant": """
        hip_1    hip_1    0 0 1            -.6981 .6981  0 1 .05  200
        ankle_1  ankle_1  -.7071 .7071 0   .5236 1.745   0 1 .05  200
        hip_2    hip_2    0 0 1            -.6981 .6981  0 1 .05  200
        ankle_2  ankle_2  .7071 .7071 0    -1.745 -.5236 0 1 .05  200
        hip_3    hip_3    0 0 1            -.6981 .6981  0 1 .05  200
        ankle_3  ankle_3  -.7071 .7071 0   -1.745 -.5236 0 1 .05  200
        hip_4    hip_4    0 0 1            -.6981 .6981  0 1 .05  200
        ankle_4  ankle_4  .7071 .7071 0    .5236 1.745   0 1 .05  200
    """,
    "humanoid": """
        abdomen_z        lower_waist      0 0 1               -.7854 .7854   20 5 .02   70
        abdomen_y        lower_waist      0 1 0               -1.309 .5236   20 5 .01   70
        abdomen_x        pelvis           1 0 0               -.6109 .6109   10 5 .01   70
        right_hip_x      right_thigh      1 0 0               -.4363 .08727  10 5 .01   70
        right_hip_z      right_thigh      0 0 1               -1.047 .6109   10 5 .01   70
        right_hip_y      right_thigh      0 1 0               -1.396 .3491   20 5 .01   210
        right_knee       right_shin       0 -1 0              -2.793 .03491  5 .1 .007  140
        right_ankle_y    right_foot       0 1 0               -.8727 .8727   2 1 .006   35
        right_ankle_x    right_foot       .8944 0 .4472       -.8727 .8727   2 1 .006   35
        left_hip_x       left_thigh       -1 0 0              -.4363 .08727  10 5 .01   70
        left_hip_z       left_thigh       0 0 -1              -1.047 .6109   10 5 .01   70
        left_hip_y       left_thigh       0 1 0               -1.396 .3491   20 5 .01   210
        left_knee        left_shin        0 -1 0              -2.793 .03491  5 .1 .007  140
        left_ankle_y     left_foot        0 1 0               -.8727 .8727   2 1 .006   35
        left_ankle_x     left_foot        .8944 0 .4472       -.8727 .8727   2 1 .006   35
        right_shoulder1  right_upper_arm  .8165 .4082 .4082   -1.047 1.047   10 5 .01   35
        right_shoulder2  right_upper_arm  0 -.7071 .7071      -1.047 1.047   10 5 .01   35
        right_elbow      right_lower_arm  0 -.7071 .7071      -1.571 .8727   2 1 .006   70
        left_shoulder1   left_upper_arm   -.8165 .4082 -.4082 -1.047 1.047   10 5 .01   35
        left_shoulder2   left_upper_arm   0 -.7071 -.7071     -1.047 1.047   10 5 .01   35
        left_elbow       left_lower_arm   0 -.7071 -.7071     -1.571 .8727   2 1 .006   70
    """,
}
LIMIT_KD = 10
# total mass [kg]; contact points: ends of capsules and centres of spheres; contact stiffness, damping, friction, mu
WHOLE = {
    "hopper": (15.820, 8, (2e4, 1e3, 1e3, 0.9)),
    "halfcheetah": (21.184, 16, (2e4, 1e3, 1e3, 1.0)),
    "ant": (182.176, 25, (4e4, 1e4, 3e3, 0.75)),
    "humanoid": (40.844, 35, (2e4, 5e3, 1e3, 0.75)),
}
# The most that rounding to four digits, or to four decimals, takes away.
ROUNDED = {"rtol": 5e-4, "atol": 5e-5}


def rows(table: str) -> list[tuple[str, str, np.ndarray]]:
    """A table's lines as (first name, second name, numbers), "none" being NaN."""
    fields = [line.split() for line in table.strip().splitlines()]
    return [(f[0], f[1], np.array([float(x.replace("none", "nan")) for x in f[2:]])) for f in fields]


@pytest.fixture(scope="module", params=WHOLE)
def body(request):
    asset = resources.files("taichi_sim.assets") / f"{request.param}.xml"
    return request.param, mujoco.MjModel.from_xml_string(asset.read_text(encoding="utf-8"))


def test_links_have_the_sources_places_masses_and_inertias(body):
    name, m = body
    table = rows(LINKS[name])
    assert [m.body(i + 1).name for i in range(m.nbody - 1)] == [link for link, _, _ in table]
    for link, parent, figures in table:
        pos, mass, com, inertia = np.split(figures, (3, 4, 7))
        b = m.body(link)
        assert m.body(b.parentid[0]).name == parent
        np.testing.assert_allclose(b.pos, pos, atol=1e-12, err_msg=link)
        np.testing.assert_array_equal(b.quat, [1, 0, 0, 0], err_msg=link)
        np.testing.assert_allclose(b.mass, mass, **ROUNDED, err_msg=link)
        np.testing.assert_allclose(b.ipos, com, **ROUNDED, err_msg=link)
        axes = np.empty(9)
        mujoco.mju_quat2Mat(axes, b.iquat)
        axes = axes.reshape(3, 3)
        full = axes @ np.diag(b.inertia) @ axes.T
        # products of inertia that vanish do so up to MuJoCo's diagonalisation
        found = full[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
        np.testing.assert_allclose(found, inertia, rtol=5e-4, atol=1e-7, err_msg=link)


def test_joints_have_the_sources_axes_ranges_and_gains_in_its_order(body):
    name, m = body
    table = rows(JOINTS[name])
    if m.jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE:
        table.insert(0, ("root", "torso", None))
    assert [m.joint(i).name for i in range(m.njnt)] == [joint for joint, _, _ in table]
    motors = {m.joint(m.actuator_trnid[i, 0]).name: m.actuator_gear[i, 0] for i in range(m.nu)}
    driven = [joint for joint, _, figures in table if figures is not None and figures[-1] > 0]
    assert list(motors) == driven, "motors are in the order of the joints"
    for joint, link, figures in table:
        j = m.joint(joint)
        assert m.body(j.bodyid[0]).name == link
        np.testing.assert_array_equal(j.pos, 0, err_msg=joint)
        if figures is None:
            continue
        axis, limits, (stiffness, damping, armature, motor) = np.split(figures, (3, 5))
        np.testing.assert_allclose(j.axis, axis, atol=5e-5, err_msg=joint)
        assert bool(j.limited[0]) == bool(np.isfinite(limits).all())
        if j.limited[0]:
            np.testing.assert_allclose(j.range, limits, **ROUNDED, err_msg=joint)
        found = [j.stiffness[0], j.damping[0], j.armature[0], motors.get(joint, 0)]
        assert found == pytest.approx([stiffness, damping + LIMIT_KD, armature, motor], rel=1e-12), joint
        assert m.qpos_spring[j.qposadr[0]] == 0 and m.qpos0[j.qposadr[0]] == 0
    np.testing.assert_array_equal(m.actuator_ctrlrange, [[-1, 1]] * m.nu)


def test_mass_time_step_and_contact_are_the_sources(body):
    name, m = body
    mass, points, contact = WHOLE[name]
    assert m.body_mass.sum() == pytest.approx(mass, abs=5e-4)
    numerics = {m.numeric(i).name: m.numeric(i).data[0] for i in range(m.nnumeric)}
    assert tuple(numerics[f"contact_{key}"] for key in ("ke", "kd", "kf", "mu")) == contact
    assert (numerics["limit_ke"], numerics["limit_kd"]) == (1000, 0)
    assert m.opt.timestep * numerics["substeps"] == pytest.approx(1 / 60, rel=1e-12)
    capsules, spheres = (m.geom_type == kind for kind in (mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_SPHERE))
    assert 2 * capsules.sum() + spheres.sum() == points


def test_every_geom_touches_the_floor_and_nothing_else(body):
    _, m = body
    floor = m.geom("floor").id
    assert m.geom_type[floor] == mujoco.mjtGeom.mjGEOM_PLANE and m.geom_pos[floor, 2] == 0
    expected = np.zeros((m.ngeom, m.ngeom), dtype=bool)
    expected[floor] = expected[:, floor] = np.arange(m.ngeom) != floor
    np.testing.assert_array_equal(candidates(m), expected)
