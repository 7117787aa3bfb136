"""The muscle bodies against the figures of Lee et al. 2019 and of the benchmark of Xu et al. 2022, and against anatomy.

The tables are the source's own figures in its axes: x left, y up, z forward. MuJoCo compiles the assets.
"""

import itertools
from importlib import resources

import mujoco
import numpy as np
import pytest

from taichi_sim.mjcf.contact_pairs import candidates

# body, parent, its joint x y z from the parent's [m], mass [kg], full size of its box [m], joint, and range [rad]
LEG = """
    Femur      Pelvis  -.0903 -.0472 .0192  7   .1271 .4043 .1398  ball  0 2
    Tibia      Femur   -.0092 -.395 .0013   3   .1198 .4156 .1141  1,0,0 0 2.3
    Talus      Tibia   .0195 -.4611 -.0316  .6  .0756 .0498 .1570  ball  0 1
    FootThumb  Talus   .0019 -.0575 .1111   .2  .0407 .0262 .0563  1,0,0 -.6 .6
    FootPinky  Talus   -.0427 -.0634 .0913  .2  .0422 .0238 .0529  1,0,0 -.6 .6
"""
TRUNK = """
    Spine  Pelvis  0 .0866 -.0126  5   .1170 .0976 .0984  ball  0 .4
    Torso  Spine   0 .1086 -.0064  10  .1798 .2181 .1337  ball  0 .4
    Neck   Torso   0 .3083 .0062   2   .0793 .0728 .0652  ball  0 .6
    Head   Neck    0 .0808 .0350   2   .1129 .1144 .1166  ball  0 .6
"""
ARM = """
    Shoulder  Torso     -.0147 .2774 .0117   1   .1635 .0634 .0645  ball  0 .5
    Arm       Shoulder  -.1848 -.0185 .0028  1   .3329 .0542 .0499  ball  0 2
    ForeArm   Arm       -.3239 .0257 .0248   .5  .2630 .0506 .0513  0,1,0 0 2.3
    Hand      ForeArm   -.2868 .0083 .0299   .2  .1306 .0104 .0846  ball  0 .7
"""
# bodies, positions, velocities, units, waypoints, mass [kg]
WHOLE = {"humanoid_mtu": (11, 29, 24, 152, 636, 37.0), "humanoid_mtu_full": (23, 71, 56, 284, 1212, 61.4)}
# Waypoints of some units, world positions at rest [m]
PATHS = {
    "R_Soleus1": """
        TibiaR -.1366 .4909 -.0455
        TibiaR -.1308 .3930 -.0757
        TalusR -.0853 .0863 -.0855
        TalusR -.0876 .0298 -.0982
    """,
    "L_Adductor_Brevis": """
        Pelvis .0319 .9196 .0416
        FemurL .0831 .8338 .0049
        FemurL .1104 .8262 -.0084
    """,
}
PELVIS = np.array([0, 0.9809, -0.0308])
# In the source's axes, its x, y and z are our y, z and x.
OURS = [2, 0, 1]


@pytest.fixture(scope="module", params=WHOLE)
def m(request):
    return load(request.param)


@pytest.fixture(scope="module")
def lower():
    return load("humanoid_mtu")


def load(name: str) -> mujoco.MjModel:
    asset = resources.files("taichi_sim.assets") / f"{name}.xml"
    return mujoco.MjModel.from_xml_string(asset.read_text(encoding="utf-8"))


def data(m: mujoco.MjModel, qpos=None) -> mujoco.MjData:
    d = mujoco.MjData(m)
    d.qpos[:] = m.qpos0 if qpos is None else qpos
    mujoco.mj_forward(m, d)
    return d


def numerics(m: mujoco.MjModel) -> dict[str, float]:
    return {m.numeric(i).name: m.numeric(i).data[0] for i in range(m.nnumeric)}


def names(m: mujoco.MjModel) -> list[str]:
    return [m.actuator(i).name for i in range(m.nu)]


def torque_arms(m: mujoco.MjModel, d: mujoco.MjData) -> np.ndarray:
    """Torque about each degree of freedom per newton of a unit's tension, (units, nv)."""
    arms = np.empty((m.nu, m.nv))
    mujoco.mju_sparse2dense(arms, d.actuator_moment, d.moment_rownnz, d.moment_rowadr, d.moment_colind)
    return -arms


def axis_dof(m: mujoco.MjModel, joint: str, axis: str) -> int:
    return m.joint(joint).dofadr[0] + ("xyz".index(axis) if m.joint(joint).type[0] == mujoco.mjtJoint.mjJNT_BALL else 0)


def parts(m: mujoco.MjModel) -> list[tuple]:
    """The tables' rows for the model, of both sides: (name, parent, pos, mass, box, joint, range), in our axes."""
    found = []
    for table, sides in ((LEG, "RL"), (TRUNK, [""]), (ARM, "RL")):
        if m.nbody < 20 and table != LEG:
            continue
        paired = {line.split()[0] for line in table.strip().splitlines()} if sides == "RL" else set()
        for side in sides:
            for line in table.strip().splitlines():
                name, parent, *figures, joint, low, high = line.split()
                figures = np.array([float(x) for x in figures])
                pos, limits = figures[:3], np.array([float(low), float(high)])
                if side == "L":
                    pos = pos * [-1, 1, 1]
                    # the left elbow bends about the same axis, the other way
                    limits = -limits[::-1] if joint == "0,1,0" else limits
                parent = parent + side if parent in paired else parent
                found.append((name + side, parent, pos[OURS], figures[3], figures[4:][OURS], joint, limits))
    return found


# --- skeleton


@pytest.mark.parametrize("name", WHOLE)
def test_counts_and_mass_are_the_sources(name):
    m = load(name)
    bodies, nq, nv, units, waypoints, mass = WHOLE[name]
    assert (m.nbody - 1, m.nq, m.nv) == (bodies, nq, nv)
    assert (m.nu, m.na, m.ntendon, m.nsite, m.nwrap) == (units, units, units, waypoints, waypoints)
    assert m.body_mass.sum() == pytest.approx(mass, abs=1e-9)


def test_bodies_have_the_sources_places_masses_and_boxes(m):
    table = parts(m)
    assert [m.body(i).name for i in range(1, m.nbody)] == ["Pelvis", *(row[0] for row in table)]
    pelvis = ("Pelvis", "world", None, 15.0, np.array([0.1294, 0.2083, 0.1454]), None, None)
    for name, parent, pos, mass, box, *_ in (pelvis, *table):
        body = m.body(name)
        assert m.body(body.parentid[0]).name == parent
        if pos is not None:
            np.testing.assert_allclose(body.pos, pos, atol=1e-9, err_msg=name)
        np.testing.assert_array_equal(body.quat, [1, 0, 0, 0])
        assert body.mass[0] == mass
        moments = mass / 12 * (np.sum(box**2) - box**2)
        np.testing.assert_allclose(np.sort(body.inertia), np.sort(moments), rtol=5e-4, err_msg=name)


def test_thighs_and_shanks_lean_as_the_source_means_them(m):
    """The long axis' tilt from the vertical, from its three components; the thigh's defect in the source makes 6."""
    d = data(m)
    for name, degrees in (("FemurR", 1.40), ("FemurL", 1.40), ("TibiaR", 5.38), ("TibiaL", 5.38)):
        body = m.body(name).id
        long = d.ximat[body].reshape(3, 3)[2, np.argmin(m.body_inertia[body])]
        assert np.degrees(np.arccos(abs(long))) == pytest.approx(degrees, abs=0.02), name


def test_joints_are_the_benchmarks(m):
    values = numerics(m)
    assert values["limit_kd"] == 0
    for name, _, _, mass, _, kind, limits in parts(m):
        joint, scale = m.joint(name), mass / 15
        np.testing.assert_allclose(joint.range, limits, err_msg=name)
        assert joint.limited[0] and m.jnt_bodyid[joint.id] == m.body(name).id
        np.testing.assert_array_equal(joint.pos, 0)
        assert joint.stiffness[0] == pytest.approx(5 * scale**0.5, abs=6e-4)
        assert values[f"limit_ke:{name}"] == pytest.approx(1000 * scale, abs=1e-4)
        dof = slice(joint.dofadr[0], joint.dofadr[0] + (3 if kind == "ball" else 1))
        np.testing.assert_array_equal(m.dof_armature[dof], 0.05)
        if kind == "ball":
            assert joint.type[0] == mujoco.mjtJoint.mjJNT_BALL
            np.testing.assert_array_equal(m.dof_damping[dof], 2)
            assert values[f"limit_kd:{name}"] == pytest.approx(10 * scale, abs=1e-4)
        else:
            assert joint.type[0] == mujoco.mjtJoint.mjJNT_HINGE
            np.testing.assert_array_equal(joint.axis, np.array(kind.split(","), float)[OURS], err_msg=name)
            # the reference damps by the limits' damping always
            np.testing.assert_allclose(m.dof_damping[dof], 2 + 10 * scale, atol=1e-4, err_msg=name)
            assert f"limit_kd:{name}" not in values
    assert tuple(values[f"contact_{key}"] for key in ("ke", "kd", "kf", "mu")) == (5e3, 2e3, 1e3, 0.5)
    assert m.opt.timestep * values["substeps"] == pytest.approx(1 / 60, rel=1e-12)


def test_only_the_feet_touch_the_floor_and_at_rest_they_stand_on_it(m):
    floor = m.geom("floor").id
    assert m.geom_type[floor] == mujoco.mjtGeom.mjGEOM_PLANE and m.geom_pos[floor, 2] == 0
    feet = {part + side: m.geom(part + side).id for part in ("Talus", "FootThumb", "FootPinky") for side in "RL"}
    touching = np.zeros((m.ngeom, m.ngeom), dtype=bool)
    touching[floor, list(feet.values())] = touching[list(feet.values()), floor] = True
    np.testing.assert_array_equal(candidates(m), touching)
    d = data(m)
    lowest = {}
    for name, geom in feet.items():
        assert m.geom_type[geom] == mujoco.mjtGeom.mjGEOM_BOX and m.geom_bodyid[geom] == m.body(name).id
        lowest[name] = d.geom_xpos[geom, 2] - np.abs(d.geom_xmat[geom].reshape(3, 3)[2]) @ m.geom_size[geom]
    # no deeper than the floor, and flat: heel and toes differ by 2 mm in the source
    assert 0 <= min(lowest.values()) < 1e-4
    assert max(lowest.values()) < 0.0025
    toes = d.geom_xpos[feet["FootThumbR"]] - d.geom_xpos[feet["TalusR"]]
    assert toes[0] > 0.1 and abs(toes[1]) < 0.03


def test_the_bones_are_for_the_eye(m):
    bones = (m.geom_group == 2).nonzero()[0]
    assert set(m.geom_bodyid[bones]) == set(range(1, m.nbody)), "every body can be seen"
    assert not m.geom_contype[bones].any() and not m.geom_conaffinity[bones].any()
    d = data(m)
    for bone in bones:
        box = m.geom_bodyid[bone]
        assert np.linalg.norm(d.geom_xpos[bone] - d.xipos[box]) < 0.3, m.body(box).name


# --- muscles


def path_sites(m: mujoco.MjModel, tendon: int) -> np.ndarray:
    return m.wrap_objid[m.tendon_adr[tendon] : m.tendon_adr[tendon] + m.tendon_num[tendon]]


def test_paths_run_through_the_sources_waypoints(m):
    d = data(m)
    origin = d.xpos[m.body("Pelvis").id]
    for unit, table in PATHS.items():
        path = [line.split() for line in table.strip().splitlines()]
        sites = path_sites(m, m.tendon(unit).id)
        assert [m.body(m.site_bodyid[site]).name for site in sites] == [body for body, *_ in path]
        points = np.array([[float(x) for x in point] for _, *point in path])
        np.testing.assert_allclose(d.site_xpos[sites] - origin, (points - PELVIS)[:, OURS], atol=1e-9, err_msg=unit)
        np.testing.assert_array_equal([m.site(site).name for site in sites], [f"{unit}_{i}" for i in range(len(sites))])


def test_lengths_and_strengths_of_the_lower_body_are_the_sources(lower):
    m, d = lower, data(lower)
    f0 = m.actuator_user[:, 0]
    assert f0.sum() == pytest.approx(55158.5, abs=0.01)
    assert (f0.min(), f0.max()) == (45, 1792.95)
    assert round(d.ten_length.min(), 3) == 0.062 and round(d.ten_length.max(), 3) == 0.597
    crossing = 0
    for tendon in range(m.ntendon):
        crossing += np.count_nonzero(np.diff(m.site_bodyid[path_sites(m, tendon)]))
    assert crossing == 198


def test_muscles_are_of_the_smooth_law_with_the_sources_tendons(m):
    law = mujoco.mj_name2id(m, mujoco.mjtObj.mjOBJ_TEXT, "muscle_law")
    assert m.text_data[m.text_adr[law] :].startswith(b"degroote_fregly\0")
    np.testing.assert_array_equal(m.actuator_trntype, mujoco.mjtTrn.mjTRN_TENDON)
    np.testing.assert_array_equal(m.actuator_gaintype, mujoco.mjtGain.mjGAIN_MUSCLE)
    np.testing.assert_array_equal(m.actuator_dynprm[:, :3], [[0.015, 0.06, 0]] * m.nu)
    np.testing.assert_array_equal(m.actuator_ctrlrange, [[0, 1]] * m.nu)
    assert names(m) == [m.tendon(i).name for i in m.actuator_trnid[:, 0]]
    strength = numerics(m)["strength"]
    np.testing.assert_allclose(m.actuator_gainprm[:, 2], strength * m.actuator_user[:, 0], atol=6e-4)
    optimal, slack = fibres(m)
    np.testing.assert_allclose(slack, 0.2 * data(m).ten_length, atol=2e-5)
    assert (optimal > 0).all()


def fibres(m: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
    """Optimal fibre lengths and slack lengths [m], by MuJoCo's definition."""
    (low, high), (r0, r1) = m.actuator_lengthrange.T, m.actuator_gainprm[:, :2].T
    optimal = (high - low) / (r1 - r0)
    return optimal, low - r0 * optimal


def test_both_bodies_have_the_same_legs(lower):
    whole = load("humanoid_mtu_full")
    for name in names(lower):
        a, b = lower.actuator(name), whole.actuator(name)
        for field in ("gainprm", "biasprm", "dynprm", "lengthrange", "user"):
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field), err_msg=name)
    for i in range(lower.nsite):
        name = lower.site(i).name
        np.testing.assert_array_equal(lower.site(i).pos, whole.site(name).pos, err_msg=name)
        assert lower.body(lower.site_bodyid[i]).name == whole.body(whole.site(name).bodyid[0]).name


def mirrored(m: mujoco.MjModel, qpos: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mirror image of a configuration; which degree of freedom is each one's image, and its sign."""
    image, dofs, signs = qpos.copy(), np.arange(m.nv), np.ones(m.nv)
    for i in range(m.njnt):
        joint = m.joint(i)
        other = joint.name[:-1] + {"R": "L", "L": "R"}.get(joint.name[-1], joint.name[-1])
        other = m.joint(other) if other in {m.joint(k).name for k in range(m.njnt)} else joint
        q, p, v, w = joint.qposadr[0], other.qposadr[0], joint.dofadr[0], other.dofadr[0]
        if joint.type[0] == mujoco.mjtJoint.mjJNT_HINGE:
            sign = 1 if joint.axis[1] else -1
            image[p], dofs[v], signs[v] = sign * qpos[q], w, sign
            continue
        if joint.type[0] == mujoco.mjtJoint.mjJNT_FREE:
            image[p : p + 3] = qpos[q : q + 3] * [1, -1, 1]
            signs[v : v + 3] = 1, -1, 1
            q, p, v, w = q + 3, p + 3, v + 3, w + 3
        image[p : p + 4] = qpos[q : q + 4] * [1, -1, 1, -1]
        dofs[v : v + 3], signs[v : v + 3] = w + np.arange(3), (-1, 1, -1)
    return image, dofs, signs


def test_left_and_right_are_mirror_images_in_every_posture(m):
    rng = np.random.default_rng(0)
    unit = {name: i for i, name in enumerate(names(m))}
    other = np.array([unit[{"R": "L", "L": "R"}[name[0]] + name[1:]] for name in unit])
    for field in (m.actuator_gainprm, m.actuator_lengthrange, m.actuator_user):
        np.testing.assert_array_equal(field, field[other])
    for _ in range(3):
        qpos = rng.normal(size=m.nq)
        mujoco.mj_normalizeQuat(m, qpos)
        image, dofs, signs = mirrored(m, qpos)
        here, there = data(m, qpos), data(m, image)
        np.testing.assert_allclose(here.ten_length, there.ten_length[other], atol=1e-12)
        arms, image_arms = torque_arms(m, here), torque_arms(m, there)
        np.testing.assert_allclose(arms, signs * image_arms[other][:, dofs], atol=1e-12)


# Right leg, torque [N m] per newton about our axes. At a positive angle about y the thigh and the shank swing back and
# the toes go down; about x the thigh goes inwards and the sole turns inwards. The bounds are what anatomy books give,
# with room for a factor of about two. (The source's gastrocnemius ends on the shank and does not reach the heel.)
ANATOMY = """
    Vastus_Lateralis              Tibia  y  -.02 -.06
    Vastus_Medialis               Tibia  y  -.02 -.06
    Vastus_Intermedius            Tibia  y  -.02 -.06
    Rectus_Femoris                Tibia  y  -.02 -.06
    Rectus_Femoris                Femur  y  -.02 -.06
    Semimembranosus               Tibia  y  .02 .06
    Semitendinosus                Tibia  y  .02 .06
    Bicep_Femoris_Longus          Tibia  y  .01 .06
    Semimembranosus1              Femur  y  .02 .08
    Semitendinosus                Femur  y  .02 .08
    Bicep_Femoris_Longus          Femur  y  .02 .08
    Gluteus_Maximus2              Femur  y  .02 .09
    iliacus1                      Femur  y  -.02 -.06
    Gluteus_Medius1               Femur  x  -.03 -.09
    Adductor_Longus               Femur  x  .03 .09
    Gracilis                      Femur  x  .04 .11
    Gastrocnemius_Medial_Head     Tibia  y  .01 .05
    Soleus                        Talus  y  .03 .06
    Soleus1                       Talus  y  .03 .06
    Tibialis_Anterior             Talus  y  -.02 -.06
    Extensor_Hallucis_Longus      FootThumb  y  -.005 -.02
    Flexor_Hallucis               FootThumb  y  .005 .02
    Peroneus_Longus               Talus  x  -.01 -.04
    Tibialis_Posterior            Talus  x  .01 .04
"""


def test_muscles_pull_the_way_anatomy_says(lower):
    m = lower
    qpos = m.qpos0.copy()
    qpos[m.joint("TibiaR").qposadr[0]] = np.radians(20)
    arms = torque_arms(m, data(m, qpos))
    for line in ANATOMY.strip().splitlines():
        unit, joint, axis, *bounds = line.split()
        low, high = sorted(float(x) for x in bounds)
        assert low < arms[m.actuator("R_" + unit).id, axis_dof(m, joint + "R", axis)] < high, line


def active_force_length(x: np.ndarray) -> np.ndarray:
    """De Groote et al. 2016, the constants rounded from OpenSim's."""
    first = 0.81507 * np.exp(-0.5 * ((x - 1.05503) / (0.162385 + 0.0633034 * x)) ** 2)
    second = 0.433005 * np.exp(-0.5 * ((x - 0.716775) / (0.200357 * x - 0.0299471)) ** 2)
    return first + second + 0.1 * np.exp(-0.5 * ((x - 1) / 0.353553) ** 2)


def active_force_velocity(v: np.ndarray) -> np.ndarray:
    """Ibid.; v is the lengthening velocity over 10 optimal lengths per second."""
    return 0.882533 - 0.321135 * np.log(-8.149 * v - 0.374 + np.sqrt((8.149 * v + 0.374) ** 2 + 1))


def gait(m: mujoco.MjModel) -> list[np.ndarray]:
    """The pose at rest, then the right leg's flexions in a gait."""
    found = []
    for hip, knee, ankle in itertools.product((0, -20, 20, 40), (0, 35, 70), (0, -20, 15)):
        qpos = m.qpos0.copy()
        for joint, angle in (("FemurR", -hip), ("TalusR", -ankle)):
            adr = m.joint(joint).qposadr[0]
            mujoco.mju_axisAngle2Quat(qpos[adr : adr + 4], np.array([0.0, 1, 0]), np.radians(angle))
        qpos[m.joint("TibiaR").qposadr[0]] = np.radians(knee)
        found.append(qpos)
    return found


# Joint speeds of the gait [rad/s].
SPEEDS = {"FemurR": 6, "TibiaR": 5, "TalusR": 7}


def test_joint_torques_at_the_gaits_speed_are_the_benchmarks_with_constant_tension(lower):
    """All units that turn a joint one way, fully active, against a tension of 0.36 f0 each; a positive torque flexes
    the knee and points the toes down. The muscles shorten as the joint turns."""
    m = lower
    optimal, slack = fibres(m)
    # the quadratus femoris has room for a turned thigh instead
    right = np.array([name[0] == "R" and "Quadratus_Femoris" not in name for name in names(m)])
    torques = {(joint, sign): [] for joint in SPEEDS for sign in (1, -1)}
    for qpos in gait(m):
        d = data(m, qpos)
        x = (d.ten_length - slack) / optimal
        assert x[right].min() > 0.6 and x[right].max() < 1.4
        isometric = m.actuator_gainprm[:, 2] * active_force_length(x)
        arms = torque_arms(m, d)
        for (joint, sign), rows in torques.items():
            lever = np.maximum(sign * arms[:, axis_dof(m, joint, "y")], 0)
            hill = isometric * active_force_velocity(-lever * SPEEDS[joint] / (10 * optimal))
            rows.append([sign * lever @ tension for tension in (0.36 * m.actuator_user[:, 0], hill)])
    for key, wanted in {("TibiaR", -1): -91, ("TibiaR", 1): 57, ("TalusR", -1): -16, ("TalusR", 1): 66}.items():
        assert torques[key][0][0] == pytest.approx(wanted, abs=0.5), key
    # One strength for all: no other one fits better, each of the six directions weighted alike.
    constant, hill = np.moveaxis(list(torques.values()), 2, 0)
    size = np.linalg.norm(constant, axis=1, keepdims=True)
    constant, hill = constant / size, hill / size
    assert (constant * hill).sum() / (hill * hill).sum() == pytest.approx(1, abs=0.01)
    for key, error in zip(torques, np.linalg.norm(hill - constant, axis=1)):
        assert error < (0.21 if key[0] == "FemurR" else 0.11), key
