"""Following a reference motion: where episodes begin, what time it is, and what an error costs."""

import dataclasses
import math
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
from test_motion import XML, spinning
from walkers import SOURCE

from shac import models, storage
from shac.env import Env
from shac.errors import UserError
from shac.tracking import Tracking
from taichi_sim.types import State

F64 = torch.float64
WALK = Path(__file__).parents[2] / "docs" / "walk.mot"
BODY = XML.replace("<worldbody>", '<option gravity="0 0 0"><flag contact="disable"/></option><worldbody>').replace(
    "</mujoco>", '<actuator><motor joint="toe"/></actuator></mujoco>'
)


@dataclasses.dataclass
class Hanging(Tracking):
    """A user's own task, of the body of test_motion."""

    asset = mujoco.MjModel.from_xml_string(BODY)
    episode_length, num_obs, num_actions = 100, 13, 1

    def body(self):
        return mujoco.MjSpec.from_string(BODY)

    def observe(self, state, action):
        return self.observed(state.qpos[:, :13], state)

    def reward(self, state, obs, action):
        return self.earned(obs[:, 2], state)

    def reset(self, num, generator, sim, stochastic=True):
        return self.begun(self.nominal(num, sim), generator, sim, stochastic)

    def measures(self, states, alive):
        return self.followed(states, alive)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("motions")
    table = spinning()
    storage.write(folder / "cycle.mot", table)
    table.time, table.values = table.time[:21], table.values[:21]
    storage.write(folder / "half.csv", table)
    return folder


@pytest.fixture(scope="module")
def env(files):
    return Env(Hanging(str(files / "cycle.mot"), own_reward=0.5), 64)


def as_said(time: torch.Tensor) -> torch.Tensor:
    """Positions in `spinning`'s motion but for x and y, (N, 11)."""
    phase, one = math.pi * time, torch.ones_like(time)
    turn, hip = math.radians(10) * phase.cos() / 2, math.radians(math.sqrt(1400)) * phase.sin() / 2
    axis = torch.tensor([2.0, -3.0, 1.0], dtype=F64) / math.sqrt(14)
    root = [1 + 0.02 * (2 * phase).cos(), turn.cos(), 0 * one, 0 * one, turn.sin()]
    knee = math.radians(40) + math.radians(30) * phase.cos()
    return torch.stack([*root, hip.cos(), *(hip.sin() * a for a in axis), knee, 0.01 * phase.sin()], dim=1)


def test_episodes_begin_in_the_motion_and_time_goes_on(env):
    state, task = env.state, env.task
    time = state.qpos[:, -1].clone()
    assert task.num_obs == 15 and 0 <= time.min() < 0.1 and 1.8 < time.max() < 2
    # rows of 1/20 s, between which the motion is straight: off by (w h)^2 / 8 of an amplitude, twice as fast in z
    torch.testing.assert_close(state.qpos[:, 2:-1], as_said(time), rtol=0, atol=4e-3)
    assert (state.qvel[:, 0] - 1.5).abs().max() < 1e-6 and (state.qvel[:, -1] == 1).all()
    torch.testing.assert_close(env.obs[:, -2:], torch.stack([(math.pi * time).sin(), (math.pi * time).cos()], dim=1))
    # a beginning that is not drawn is the motion's
    (first,) = task.reset(1, torch.Generator(), env.sim, False).qpos
    torch.testing.assert_close(first[2:-1], as_said(torch.zeros(1, dtype=F64))[0], rtol=0, atol=1e-6)
    obs, *_ = env.step(torch.zeros(64, 1, dtype=F64))
    control = env.sim.model.opt.control_timestep
    torch.testing.assert_close(env.state.qpos[:, -1], time + control, rtol=0, atol=1e-12)
    # a step of 2 ms without forces leads along the motion
    assert task.followed(State(*(x[None] for x in env.state)), torch.ones(1, 64, dtype=bool))["pose_error"].max() < 0.5


def test_the_reward_by_hand(env):
    task = env.task
    state = State(*(x.clone() for x in task.reset(4, torch.Generator().manual_seed(0), env.sim)))
    qpos, qvel = state.qpos, state.qvel
    own = qpos[:, 2].clone()
    # it earns all of what following earns where it is as the motion; knee off by 0.3 rad, and 2 rad/s too fast
    qpos[1, 11] += 0.3
    qvel[1, 9] += 2
    # root too low by 5 cm, slow by 0.5 m/s, and turned by 0.2 rad
    qpos[2, 2] -= 0.05
    qvel[2, 0] -= 0.5
    turn, result = np.array([math.cos(0.1), math.sin(0.1), 0, 0]), np.empty(4)
    mujoco.mju_mulQuat(result, qpos[2, 3:7].numpy(), turn)
    qpos[2, 3:7] = torch.tensor(result)
    # hip turned by 0.3 rad; where it is on the ground does not matter, nor a quaternion's sign
    mujoco.mju_mulQuat(result, qpos[3, 7:11].numpy(), [math.cos(0.15), 0, 0, math.sin(0.15)])
    qpos[3, 7:11] = -torch.tensor(result)
    qpos[3, :2] += 5
    chord = 4 * math.sin(0.1) ** 2 / 0.04
    hip = 4 * math.sin(0.15) ** 2
    expected = [7, 4 / (1 + 0.03 / 0.04) + 1 / (1 + 4 / 3 / 4) + 2, 5 + 2 / (1 + 1 + 1 + chord)]
    expected += [4 / (1 + hip / 3 / 0.04) + 3]
    reward = task.reward(state, task.observe(state, None), None)
    own = torch.where(torch.arange(4) == 2, own - 0.05, own)
    torch.testing.assert_close(reward, 0.5 * own + torch.tensor(expected, dtype=F64), rtol=0, atol=2e-5)
    errors = task.followed(State(*(x[None] for x in state)), torch.ones(1, 4, dtype=bool))["pose_error"]
    wanted = np.degrees([0, math.sqrt(0.03), 0, math.sqrt(hip / 3)])
    np.testing.assert_allclose(errors, wanted, atol=0.05)


def test_a_motion_to_begin_with_is_followed_less_and_less(env, files):
    """Its own reward alone is what it is judged by; a training begins with all that following earns."""
    task = Hanging(str(files / "cycle.mot"), own_reward=0.5, follow=0.5)
    state = task.reset(4, torch.Generator().manual_seed(0), env.sim)
    own = torch.full((4,), 3.0, dtype=F64)
    torch.testing.assert_close(task.earned(own, state), 0.5 * own, rtol=0, atol=0)
    for progress, share, others in ((0, 1, True), (0.125, 0.75, True), (0.5, 0, True), (0.75, 0, False)):
        assert task.schedule(progress) == others
        added = task.earned(own, state) - 0.5 * own
        torch.testing.assert_close(added, torch.full((4,), 7.0 * share, dtype=F64), rtol=0, atol=1e-6)
    assert not env.task.schedule(0.3) and not Hanging().schedule(0.3)


def test_the_rewards_gradient_is_that_of_central_differences(env):
    task, generator = env.task, torch.Generator().manual_seed(1)
    start = task.reset(4, generator, env.sim)
    ways = [torch.randn(x.shape, generator=generator, dtype=F64) for x in start[:2]]
    ways[0][:, -1] = 0  # the motion is in steps of a millisecond
    base = [x + 0.1 * way for x, way in zip(start, ways)]

    def earned(step):
        state = State(*(x + step * way for x, way in zip(base, ways)), start.act)
        return task.earned(state.qpos[:, 2], state)

    step = torch.zeros((), dtype=F64, requires_grad=True)
    for world in range(4):
        (slope,) = torch.autograd.grad(earned(step)[world], step)
        difference = (earned(1e-6)[world] - earned(-1e-6)[world]) / 2e-6
        assert slope.item() == pytest.approx(difference.item(), rel=1e-6)


def test_a_motion_that_is_no_cycle_is_held_at_its_end(env, files):
    task = Hanging(str(files / "half.csv"), cyclic=False)
    assert task.num_obs == 14
    state = task.reset(64, torch.Generator().manual_seed(0), env.sim)
    share = task.observe(state, None)[:, -1]
    assert 0 <= share.min() < 0.05 and 0.95 < share.max() < 1
    torch.testing.assert_close(state.qpos[:, 2:-1], as_said(state.qpos[:, -1]), rtol=0, atol=5e-3)
    state.qpos[:, -1] = 7.0
    state.qpos[:, 2:-1] = as_said(torch.ones(64, dtype=F64))
    assert (task.observe(state, None)[:, -1] == 1).all() and task._errors(state)[0].max() < 1e-9


def test_what_cannot_be_followed_is_refused(env, files, tmp_path):
    with pytest.raises(ValueError, match="must not be negative"):
        Hanging(str(files / "cycle.mot"), track_pose=-1)
    with pytest.raises(ValueError, match="follow must be above 0"):
        Hanging(str(files / "cycle.mot"), follow=0)
    plain = Env(Hanging(), 1)
    with pytest.raises(UserError, match="Hanging.simulator has a body of its own.*override `body`"):
        Hanging(str(files / "cycle.mot")).reset(1, torch.Generator(), plain.sim)
    with pytest.raises(UserError, match="no joint for column 'hip_rx'; .*rename the column"):
        models.load_task("walk_mtu", {"reference": str(files / "cycle.mot")})


@pytest.mark.parametrize(
    ("name", "reference"), [("walk_mtu", str(WALK)), ("walk_mtu", "person"), ("humanoid_mtu", str(WALK))]
)
def test_the_bodies_of_the_package_follow_a_recorded_walk(name, reference):
    """No simulator is needed: states as `Task.nominal` gives them."""
    settings = SOURCE if name == "walk_mtu" else {}
    follows = {**settings, "reference": reference, "follow": None, "track_root": 2.0}
    bare, task = models.load_task(name, settings), models.load_task(name, follows)
    assert task.reference == reference
    m, sim = task.asset, type("Sim", (), {})()
    rest = State(torch.tensor(m.qpos0)[None], torch.zeros(1, m.nv, dtype=F64), torch.zeros(1, m.na, dtype=F64))
    sim.dtype, sim.device, sim.num_worlds = F64, torch.get_default_device(), 16
    sim.initial_state = lambda: rest
    names = {"joint": [m.joint(j).name for j in range(m.njnt)]}
    # its tendons are rigid
    sim.model = type("Model", (), {"names": names, "muscle_tendonadr": np.full(m.nu, -1)})
    state = task.reset(16, torch.Generator().manual_seed(0), sim)
    # the clock goes, whatever the file's defaults for joints are: it stood still after 50 ms
    data = mujoco.MjData(m)
    data.qvel[-1] = 1
    mujoco.mj_step(m, data, 100)
    assert data.qpos[-1] == pytest.approx(data.time, rel=1e-12)
    assert task.num_obs == bare.num_obs + 2 and task.observe(state, None).shape == (16, task.num_obs)
    # the recorded walk is one: it goes on at its speed, and its knees bend by 20 degrees and more
    assert task.motion.speed == pytest.approx(1.26, abs=0.05)
    knees = [m.joint(f"Tibia{side}").qposadr[0] for side in "RL"]
    assert (np.degrees(np.ptp(task.motion.qpos[:, knees], axis=0)) > 20).all()
    # what it sees of the body and earns for it is what it sees and earns without a reference
    seen = State(state.qpos[:, :-1], state.qvel[:, :-1], state.act)
    if name == "walk_mtu":
        assert (seen.qpos[:, -1] == task.motion.speed).all()
    action = torch.zeros(16, task.num_actions, dtype=F64)
    obs, bare_obs = task.observe(state, action), bare.observe(seen, action)
    torch.testing.assert_close(obs[:, :-2], bare_obs, rtol=0, atol=0)
    added = task.reward(state, obs, action) - bare.reward(seen, bare_obs, action)
    torch.testing.assert_close(added, torch.full((16,), 7.0, dtype=F64), rtol=0, atol=1e-6)
    if name == "walk_mtu":
        # at another speed the motion is as much quicker as its steps are longer
        paced = models.load_task(name, {**follows, "speed": None})
        other = paced.reset(16, torch.Generator().manual_seed(0), sim)
        speed, pace = other.qpos[:, -2], other.qvel[:, -1]
        assert 0.7 <= speed.min() < 1 < 1.6 < speed.max() <= 1.8
        torch.testing.assert_close(pace.square(), speed / task.motion.speed)
        torch.testing.assert_close(other.qvel[:, 0], state.qvel[:, 0] * pace.square())
        torch.testing.assert_close(other.qvel[:, 3:-1], state.qvel[:, 3:-1] * pace[:, None])
        own = bare.observe(State(other.qpos[:, :-1], other.qvel[:, :-1], other.act), action)
        own = bare.reward(State(other.qpos[:, :-1], other.qvel[:, :-1], other.act), own, action)
        added = paced.reward(other, paced.observe(other, action), action) - own
        torch.testing.assert_close(added, torch.full((16,), 7.0, dtype=F64), rtol=0, atol=1e-6)
        # one that is followed to begin with alone has the pace of the speed wanted, too
        begins = models.load_task(name, {**follows, "follow": 0.5, "speed": 0.9})
        slower = begins.reset(16, torch.Generator().manual_seed(0), sim)
        assert (slower.qpos[:, -2] == 0.9).all()
        torch.testing.assert_close(slower.qvel[:, -1].square(), slower.qpos[:, -2] / task.motion.speed)
    # of the two only people's is its own mirror image
    assert (task.mirror() is None) == (reference != "person")
