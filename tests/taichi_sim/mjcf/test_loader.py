"""The loader: arrays as MuJoCo compiled them, what it derives from them, .npz, clear errors."""

import dataclasses
import re
import subprocess
import sys

import mujoco
import numpy as np
import pytest
import zoo
from hypothesis import given, settings
from snippets import BEFORE_4, load_text, mjcf_text
from trees import random_tree, trees

from taichi_sim import mjcf
from taichi_sim.types import GEOM_BOX, GEOM_HFIELD, GEOM_MESH, GEOM_SPHERE, Model


def assert_same_as_mujoco(model, mj_model):
    """Every field that MuJoCo has under the same name holds the same values, but for those that the loader derives."""
    derived = {"jnt_range", "geom_rgba", "geom_dataid", "pair_geom1", "pair_geom2", "pair_margin", "opt", "names"}
    derived |= {"tendon_range", "tendon_rgba", "sensor_type"}
    for name in {field.name for field in dataclasses.fields(Model)} - derived:
        if not hasattr(mj_model, name):
            derived = ("jnt_limit_", "tendon_limit_", "dof_friction_", "tendon_friction_", "pair_")
            assert name.startswith((*derived, "mesh_hull", "eq_", "loop_", "geom_hfieldid", "muscle_"))
            continue
        expected = getattr(mj_model, name)
        ours = getattr(model, name)
        if name.endswith(("gainprm", "biasprm", "dynprm")):
            expected = expected[:, :3]
        elif name == "actuator_trntype":
            # hinges and slides have one axis: in the parent's frame it is the same force
            joint, in_parent = int(mujoco.mjtTrn.mjTRN_JOINT), int(mujoco.mjtTrn.mjTRN_JOINTINPARENT)
            expected = np.where(expected == in_parent, joint, expected)
        elif name == "actuator_trnid":
            expected = expected[:, 0]
        np.testing.assert_array_equal(ours, expected, err_msg=name)
        assert np.shape(ours) == np.shape(expected), name
    weightless = mj_model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_GRAVITY
    np.testing.assert_array_equal(model.opt.gravity, np.zeros(3) if weightless else mj_model.opt.gravity)
    assert model.opt.control_timestep == mj_model.opt.timestep


@settings(deadline=None, max_examples=30)
@given(trees())
def test_random_trees_keep_mujocos_arrays(text):
    mj_model = mujoco.MjModel.from_xml_string(text)
    model = mjcf.load(mj_model)
    assert_same_as_mujoco(model, mj_model)
    np.testing.assert_array_equal(model.jnt_range, mj_model.jnt_range)
    assert model.names["joint"] == [mj_model.joint(i).name for i in range(mj_model.njnt)]


# why files of other projects are refused today, in the message's own words
REFUSED_FILES = {
    "dm_control/lqr": "no body has a joint",
}


@pytest.mark.parametrize("name", zoo.files())
@pytest.mark.filterwarnings("ignore:compiler attribute:UserWarning")
def test_files_of_other_projects(name):
    spec = zoo.smooth_spec(zoo.files()[name])
    if name in REFUSED_FILES:
        with pytest.raises(mjcf.UnsupportedModelError, match=REFUSED_FILES[name]):
            mjcf.load(spec)
    else:
        assert_same_as_mujoco(mjcf.load(spec), spec.compile())


@pytest.mark.skipif(BEFORE_4, reason="actuators have neither in this MuJoCo")
@pytest.mark.parametrize("off", ["", 'actuatorgroupdisable="3"'])
def test_actuators_inertia_and_damping_are_the_dofs_that_they_turn(off):
    text = """<mujoco><option gravity="0 0 0" {off}/><worldbody><body><joint name="a" armature=".1" damping=".05"/>
    <geom size=".1" pos=".3 0 0"/><body pos=".5 0 0"><joint name="b" type="slide"/><geom size=".1"/></body></body>
    </worldbody><actuator><motor joint="a" gear="3" group="3" {one}/><motor joint="a" gear="-2" {two}/>
    <motor jointinparent="b" gear="5" {one}/></actuator></mujoco>"""
    bare, full = (
        mujoco.MjModel.from_xml_string(text.format(off=off, **own))
        for own in (
            {"one": "", "two": ""},
            {"one": 'armature=".01" damping=".5"', "two": 'armature=".02"'},
        )
    )
    found = []
    for m in (bare, full):
        data, inertia = mujoco.MjData(m), np.zeros((2, 2))
        data.qvel[:] = 1
        mujoco.mj_forward(m, data)
        mujoco.mj_fullM(m, data, inertia)
        found.append((inertia, data.qfrc_passive))
    model = mjcf.load(full)
    np.testing.assert_allclose(model.dof_armature - bare.dof_armature, np.diag(found[1][0] - found[0][0]), rtol=1e-12)
    np.testing.assert_allclose(bare.dof_damping - model.dof_damping, found[1][1] - found[0][1], rtol=1e-12)


def test_cartpole_has_the_papers_figures():
    model = mjcf.load("cartpole")
    assert model.names["joint"] == ["slider", "hinge"]
    # box of 50 kg, 0.5 x 0.5 x 0.2; pole of 2.5 kg, 0.05 x 0.05 x 1, its centre half a metre above the hinge
    np.testing.assert_allclose(model.body_mass, [0, 50, 2.5])
    np.testing.assert_allclose(model.body_inertia[1], 50 / 12 * np.array([0.29, 0.29, 0.5]))
    np.testing.assert_allclose(model.body_inertia[2], 2.5 / 12 * np.array([1.0025, 1.0025, 0.005]))
    np.testing.assert_allclose(model.body_ipos[2], [0, 0, 0.5])
    np.testing.assert_allclose(model.dof_armature, 0.01)
    np.testing.assert_allclose(model.dof_damping, 1)
    np.testing.assert_array_equal(model.jnt_limited, [True, False])
    np.testing.assert_allclose(model.jnt_range[0], [-4, 4])
    np.testing.assert_allclose(model.jnt_limit_ke[0], 100)
    np.testing.assert_allclose(model.actuator_gear[0, 0], 1000)
    np.testing.assert_allclose(model.actuator_ctrlrange, [[-1, 1]])
    assert (model.opt.substeps, model.opt.theta, model.opt.contact) == (4, 0.6, False)
    assert model.opt.control_timestep == pytest.approx(1 / 60)


def test_where_a_runge_kutta_step_becomes_four_substeps():
    """In our own step; MuJoCo's is one, of four solutions."""
    theta, penalty = '<numeric name="theta" data=".5"/>', '<text name="constraint" data="penalty"/>'
    substeps = '<custom><numeric name="substeps" data="3"/></custom>'
    options = [
        load_text(mjcf_text(option=f'timestep="0.008" integrator="{name}"', rest=rest)).opt
        for name, rest in (
            *(("Euler", ""), ("RK4", ""), ("RK4", substeps)),
            *(("RK4", f"<custom>{field}</custom>") for field in (theta, penalty)),
        )
    ]
    expected = [(1, 0.008), (1, 0.008), (3, 0.008), (4, 0.002), (4, 0.002)]
    assert [(option.substeps, option.timestep) for option in options] == expected


# ---- what the loader derives ----------------------------------------------------------------------------------------

# a hinge that turns 2.5 kg m^2: 2 kg at 1 m, a sphere's 0.4 m r^2 = 0.008 and armature 0.492; dmax is 0.8
LIMITED = """<mujoco><option timestep="0.004"><flag contact="disable" {flag}/></option>{rest}<worldbody><body>
  <joint name="j" axis="0 1 0" armature="0.492" limited="true" range="-1 2" margin="0.25" {joint}
         solimplimit="0.3 0.8 0.001"/>
  <geom size="0.1" mass="2" pos="1 0 0"/></body></worldbody><compiler angle="radian"/></mujoco>"""


def limit(joint, rest="", flag=""):
    model = load_text(LIMITED.format(joint=joint, rest=rest, flag=flag))
    return model.jnt_limit_ke[0], model.jnt_limit_kd[0]


# MuJoCo's d^2 / (1 - d), by which a load finds a limit stiffer: the mean of dmin's and dmax's
UNDER_LOAD = (0.3**2 / 0.7 + 0.8**2 / 0.2) / 2


def test_limit_gains_from_solref():
    # k = 1 / (dmax timeconst dampratio)^2, times the inertia; the damping that is critical with it
    assert limit('solreflimit="0.1 0.5"') == pytest.approx(stop(625 * UNDER_LOAD, 2.5))
    # direct format: stiffness / dmax^2
    assert limit('solreflimit="-320 -16"') == pytest.approx(stop(500 * UNDER_LOAD, 2.5))
    # the time constant is at least two steps, unless the model says otherwise
    assert limit('solreflimit="0.001 1"') == limit('solreflimit="0.008 1"')
    assert limit('solreflimit="0.007 1"', flag='refsafe="disable"') == pytest.approx(stop(UNDER_LOAD / 0.0056**2, 2.5))


def stop(stiffness, inertia):
    return stiffness * inertia, 2 * stiffness**0.5 * inertia


def test_limits_are_no_stiffer_than_the_substep_keeps_stable():
    """A spring's frequency is at most the substep's inverse, unless MuJoCo gives what is free a stiffer one."""
    runge = LIMITED.replace('timestep="0.004"', 'timestep="0.004" integrator="RK4"')
    assert limit('solreflimit="-60000 -100"')[0] == pytest.approx(60000 / 0.64 * 2.5)
    assert limit('solreflimit="-36000 -100"')[0] == pytest.approx(max(1 / 0.004**2, 36000 / 0.64) * 2.5)
    gentle = runge.format(joint='solreflimit="-36000 -100"', rest="", flag="")
    assert load_text(gentle).jnt_limit_ke[0] == pytest.approx(36000 / 0.64 * UNDER_LOAD * 2.5)


def test_limit_gains_of_a_ball_use_its_mean_inertia():
    text = """<mujoco><option><flag contact="disable"/></option><worldbody><body>
      <joint type="ball" limited="true" range="0 1" solreflimit="0.1 1" solimplimit="0 0.5 0.001"/>
      <inertial pos="0 0 0" mass="1" diaginertia="1 2 2"/></body></worldbody></mujoco>"""
    model = load_text(text)
    # 1 / mean(1, 1/2, 1/2) = 3/2; under a load half of 0.5^2 / 0.5, but what is free is no softer
    np.testing.assert_allclose(model.jnt_limit_ke, 400 * 1.5)
    np.testing.assert_allclose(model.jnt_limit_kd, 2 * 20 * 1.5)


def test_limit_gains_from_numerics():
    everywhere = '<numeric name="limit_ke" data="7"/><numeric name="limit_kd" data="0"/>'
    assert limit("", f"<custom>{everywhere}</custom>") == (7, 0)
    assert limit("", f'<custom>{everywhere}<numeric name="limit_ke:j" data="9"/></custom>') == (9, 0)


@pytest.mark.parametrize("numeric", ["", "limit_kd", "limit_kd:j"])
def test_a_damper_of_the_file_has_no_loss(numeric):
    rest = f'<custom><numeric name="{numeric}" data="3"/></custom>' if numeric else ""
    model = load_text(LIMITED.format(joint="", rest=rest, flag=""))
    assert model.jnt_limit_loss == (0 if numeric else 0.9)
    both = rest.replace("</custom>", '<numeric name="limit_loss" data="0.5"/></custom>')
    if numeric:
        assert load_text(LIMITED.format(joint="", rest=both, flag="")).jnt_limit_loss == 0.5


def test_limit_margin_narrows_the_range():
    np.testing.assert_allclose(load_text(LIMITED.format(joint="", rest="", flag="")).jnt_range, [[-0.75, 1.75]])


@pytest.mark.parametrize(
    "numeric",
    [
        'name="substeps" data="0"',
        'name="substeps" data="2.5"',
        'name="substeps" data="1 2"',
        'name="theta" data="-0.1"',
        'name="theta" data="1.1"',
        'name="limit_ke" data="-1"',
        'name="limit_kd:j" data="-1"',
        'name="limit_kd:missing" data="1"',
    ],
)
def test_bad_numerics_are_refused(numeric):
    name = re.search('name="(.*?)"', numeric).group(1)
    with pytest.raises(mjcf.UnsupportedModelError, match=f"numeric '{name}'"):
        limit("", f"<custom><numeric {numeric}/></custom>")


def test_numerics_and_flags_reach_the_options():
    numerics = '<custom><numeric name="substeps" data="3"/><numeric name="theta" data="1"/></custom>'
    flag = 'limit="disable" gravity="disable" clampctrl="disable"'
    option = load_text(LIMITED.format(joint="", rest=numerics, flag=flag)).opt
    assert (option.substeps, option.theta, option.control_timestep) == (3, 1.0, pytest.approx(0.012))
    assert not any((option.contact, option.limit, option.clampctrl))
    assert option.actuation and option.equality and option.spring and option.damper
    np.testing.assert_array_equal(option.gravity, 0)


@pytest.mark.skipif(not hasattr(mujoco.mjtDisableBit, "mjDSBL_SPRING"), reason="older: one flag for both")
@pytest.mark.parametrize("flag", ["spring", "damper"])
def test_springs_and_dampers_are_disabled_one_by_one(flag):
    option = load_text(LIMITED.format(joint="", rest="", flag=f'{flag}="disable"')).opt
    assert (option.spring, option.damper) == (flag != "spring", flag != "damper")


DRAWN = """<mujoco><option><flag contact="disable"/></option>
  <asset>
    <material name="red" rgba="1 0 0 1"/>
    <mesh name="tetra" vertex="0 0 0  1 0 0  0 1 0  0 0 1"/>
    <hfield name="hills" nrow="2" ncol="2" size="1 1 1 1"/>
  </asset>
  <worldbody>
    <geom name="hills" type="hfield" hfield="hills"/>
    <body><joint name="j"/>
      <geom name="red" size="0.1" material="red" group="3"/>
      <geom name="green" size="0.1" material="red" rgba="0 1 0 1"/>
      <geom name="mesh" type="mesh" mesh="tetra"/><geom name="box" type="box" mesh="tetra"/>
    </body>
  </worldbody></mujoco>"""


def test_colours_and_meshes_are_what_mujoco_draws():
    model = load_text(DRAWN)
    assert model.names["geom"] == ["hills", "red", "green", "mesh", "box"]
    np.testing.assert_array_equal(model.geom_rgba[1:4], [[1, 0, 0, 1], [0, 1, 0, 1], [0.5, 0.5, 0.5, 1]])
    np.testing.assert_array_equal(model.geom_type, [GEOM_HFIELD, GEOM_SPHERE, GEOM_SPHERE, GEOM_MESH, GEOM_BOX])
    # a height field's number is not a mesh's
    np.testing.assert_array_equal(model.geom_dataid, [-1, -1, -1, 0, -1])
    np.testing.assert_array_equal(model.geom_group, [0, 3, 0, 0, 0])
    # the mesh's corners, seen from the body, are where the file puts them
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, model.geom_quat[3])
    corners = model.mesh_vert @ rotation.reshape(3, 3).T + model.geom_pos[3]
    np.testing.assert_allclose(np.sort(corners, axis=0), np.sort(np.eye(4, 3), axis=0), atol=1e-6)
    assert model.mesh_face.max() == 3


# ---- sources and files ----------------------------------------------------------------------------------------------


def test_every_source_gives_the_same_model(tmp_path):
    text = random_tree(np.random.default_rng(3))
    (tmp_path / "tree.xml").write_text(text)
    (tmp_path / "tree.mjcf").write_text(text)
    reference = mjcf.load(mujoco.MjModel.from_xml_string(text))
    for source in (tmp_path / "tree.xml", str(tmp_path / "tree.mjcf"), mujoco.MjSpec.from_string(text)):
        assert_identical(mjcf.load(source), reference)


def test_urdf_is_what_mujoco_makes_of_it(tmp_path):
    (tmp_path / "arm.urdf").write_text("""<robot name="arm">
      <link name="base"/>
      <link name="upper"><inertial><mass value="1"/><origin xyz="0 0 -.3"/>
        <inertia ixx=".1" iyy=".1" izz=".01" ixy="0" ixz="0" iyz="0"/></inertial>
        <collision><geometry><cylinder radius=".05" length=".6"/></geometry></collision></link>
      <joint name="elbow" type="revolute"><parent link="base"/><child link="upper"/><axis xyz="0 1 0"/>
        <limit lower="-1" upper="1" effort="10" velocity="5"/><dynamics damping=".1" friction=".2"/></joint>
    </robot>""")
    model = mjcf.load(tmp_path / "arm.urdf")
    assert (model.nv, model.ngeom, model.dof_damping[0], model.dof_frictionloss[0]) == (1, 1, 0.1, 0.2)
    assert_identical(model, mjcf.load(mujoco.MjModel.from_xml_path(str(tmp_path / "arm.urdf"))))


def assert_identical(a, b):
    for field in dataclasses.fields(Model):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if field.name == "opt":
            x, y = dataclasses.asdict(x), dataclasses.asdict(y)
            assert {k: type(v) for k, v in x.items()} == {k: type(v) for k, v in y.items()}
            assert str(x) == str(y) and x["timestep"] == y["timestep"]
        elif isinstance(x, np.ndarray):
            assert x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes(), field.name
        else:
            assert x == y and type(x) is type(y), field.name


@pytest.mark.parametrize("text", [random_tree(np.random.default_rng(seed)) for seed in range(5)] + [DRAWN])
def test_npz_round_trip_is_exact(text, tmp_path):
    model = load_text(text)
    mjcf.save(model, tmp_path / "model.npz")
    assert_identical(mjcf.load(tmp_path / "model.npz"), model)


def test_a_model_with_objects_is_not_saved(tmp_path):
    model = mjcf.load("cartpole")
    model.body_pos = np.array([[0, 0, None]] * 3)
    with pytest.raises(ValueError, match="model.body_pos holds objects"):
        mjcf.save(model, tmp_path / "model.npz")
    assert list(tmp_path.iterdir()) == []


def test_npz_loads_without_mujoco(tmp_path):
    path = tmp_path / "model.npz"
    mjcf.save(mjcf.load("cartpole"), path)
    code = f"""
import sys
sys.modules["mujoco"] = None
from taichi_sim import mjcf
print(mjcf.load({str(path)!r}).names["body"])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "['world', 'cart', 'pole']"


def test_errors_say_what_and_where(tmp_path):
    with pytest.raises(FileNotFoundError, match="'antt'.*cartpole"):
        mjcf.load("antt")
    with pytest.raises(FileNotFoundError, match=r"missing\.xml.*cartpole"):
        mjcf.load(tmp_path / "missing.xml")
    with pytest.raises(ValueError, match=r"model\.txt.*\.xml, \.mjcf, \.urdf or \.npz"):
        mjcf.load(tmp_path / "model.txt")
    with pytest.raises(TypeError, match="int"):
        mjcf.load(3)
    with pytest.raises(ValueError, match=r"\.npz"):
        mjcf.save(mjcf.load("cartpole"), tmp_path / "model")

    (tmp_path / "syntax.xml").write_text(mjcf_text(joint='type="swivel"'))
    with pytest.raises(mjcf.ModelError, match=r"syntax\.xml.*swivel.*line 9"):
        mjcf.load(tmp_path / "syntax.xml")
    (tmp_path / "massless.xml").write_text(mjcf_text().replace('mass="2"', 'mass="0"'))
    with pytest.raises(mjcf.ModelError, match=r"massless\.xml.*mass.*line 8"):
        mjcf.load(tmp_path / "massless.xml")


def test_broken_npz_is_one_clear_error(tmp_path):
    path = tmp_path / "model.npz"
    path.write_bytes(b"not a zip file")
    with pytest.raises(mjcf.ModelError, match=r"model\.npz"):
        mjcf.load(path)
    mjcf.save(mjcf.load("cartpole"), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(mjcf.ModelError, match=r"model\.npz"):
        mjcf.load(path)
    np.savez(path, weights=np.zeros(3))
    with pytest.raises(mjcf.ModelError, match=r"model\.npz"):
        mjcf.load(path)
    np.savez(path, format=1, weights=np.zeros(3))
    with pytest.raises(mjcf.ModelError, match="weights"):
        mjcf.load(path)
