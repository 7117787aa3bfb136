"""The running problems against Xu et al. 2022: what is seen, earned, failed and drawn. No simulator is needed."""

import math
from importlib import resources
from types import SimpleNamespace

import mujoco
import numpy as np
import pytest
import torch

from shac import models
from shac.errors import UserError
from shac.runs import config
from taichi_sim.types import State

FREE = ["ant", "humanoid"]
PLANAR = ["hopper", "halfcheetah"]
F64 = torch.float64


@pytest.fixture(scope="module", params=FREE + PLANAR)
def task(request):
    return models.load_task(request.param)


@pytest.fixture(scope="module", params=FREE)
def free_task(request):
    return models.load_task(request.param)


@pytest.fixture(scope="module", params=PLANAR)
def planar_task(request):
    return models.load_task(request.param)


def mujoco_model(task) -> mujoco.MjModel:
    asset = resources.files("taichi_sim.assets") / f"{task.asset}.xml"
    return mujoco.MjModel.from_xml_string(asset.read_text(encoding="utf-8"))


def rest_of(task, dtype=F64) -> SimpleNamespace:
    """What `Task.reset` asks of a simulator."""
    m = mujoco_model(task)
    state = State(torch.tensor(m.qpos0, dtype=dtype)[None], torch.zeros(1, m.nv, dtype=dtype), torch.zeros(1, 0))
    return SimpleNamespace(initial_state=lambda: state, dtype=dtype, device=torch.get_default_device())


def start(task, num: int = 1, stochastic: bool = False, dtype=F64) -> State:
    return task.reset(num, torch.Generator().manual_seed(0), rest_of(task, dtype), stochastic)


def no_action(task, num: int = 1) -> torch.Tensor:
    return torch.zeros(num, task.num_actions, dtype=F64)


def seen(task, state: State, action: torch.Tensor | None = None) -> torch.Tensor:
    """The observation of a single state."""
    (obs,) = task.observe(state, no_action(task) if action is None else action)
    return obs


def earned(task, state: State, action: torch.Tensor | None = None) -> float:
    action = no_action(task) if action is None else action
    return task.reward(state, task.observe(state, action), action).item()


def changed(state: State, field: str, values: dict[int, float]) -> State:
    new = getattr(state, field).clone()
    for index, value in values.items():
        new[:, index] = value
    return state._replace(**{field: new})


def turned(state: State, axis: str, angle: float) -> State:
    """The state with the torso turned by `angle` about a world axis, from its upright pose."""
    return changed(state, "qpos", {3: math.cos(angle / 2), 4 + "xyz".index(axis): math.sin(angle / 2)})


# --- observations


def test_the_torso_is_observed_as_mujoco_has_it(free_task):
    m = mujoco_model(free_task)
    d = mujoco.MjData(m)
    rng = np.random.default_rng(1)
    torso = m.body("torso").id
    for _ in range(3):
        d.qpos[:] = rng.normal(size=m.nq)
        d.qpos[3:7] /= np.linalg.norm(d.qpos[3:7])
        d.qvel[:] = rng.normal(size=m.nv)
        mujoco.mj_forward(m, d)
        state = State(torch.tensor(d.qpos)[None], torch.tensor(d.qvel)[None], None)
        obs = seen(free_task, state).numpy()
        velocity = np.empty(6)
        mujoco.mj_objectVelocity(m, d, mujoco.mjtObj.mjOBJ_XBODY, torso, velocity, 0)
        x_axis, z_axis = d.xmat[torso].reshape(3, 3)[:, [0, 2]].T
        to_target = np.array([free_task.target_distance, 0]) - d.xpos[torso, :2]
        heading = x_axis[:2] @ to_target / np.linalg.norm(to_target)
        expected = np.concatenate(
            (
                *(d.xpos[torso, 2:], d.xquat[torso], velocity[3:], velocity[:3], d.qpos[7:], 0.1 * d.qvel[6:]),
                (z_axis[2], heading),
                np.zeros(m.nu),
            )
        )
        np.testing.assert_allclose(obs, expected, atol=1e-12)


def test_every_coordinate_has_its_place_in_the_observation(free_task):
    joints = free_task.num_actions
    state = start(free_task)
    rest = seen(free_task, state)
    assert rest.shape == (free_task.num_obs,) == (13 + 3 * joints,)
    moves = [("qpos", 2, 0, 1.0)]
    moves += [("qvel", i, 5 + i, 1.0) for i in range(6)]
    moves += [("qpos", 7 + i, 11 + i, 1.0) for i in range(joints)]
    moves += [("qvel", 6 + i, 11 + joints + i, 0.1) for i in range(joints)]
    for field, index, place, scale in moves:
        before = getattr(state, field)[0, index].item()
        difference = seen(free_task, changed(state, field, {index: before + 0.25})) - rest
        expected = torch.zeros_like(difference)
        expected[place] = 0.25 * scale
        torch.testing.assert_close(difference, expected, atol=1e-14, rtol=0)
    action = torch.linspace(-1, 1, joints, dtype=F64)[None]
    assert torch.equal(seen(free_task, state, action)[-joints:], action[0])


def test_up_and_heading_fall_with_tilt_and_with_a_turn_from_the_target(free_task):
    first = 11 + 2 * free_task.num_actions
    state = start(free_task)
    for axis, up, heading in (("x", 0.8, 1.0), ("y", 0.8, 0.8), ("z", 1.0, 0.8)):
        obs = seen(free_task, turned(state, axis, math.acos(0.8)))
        assert obs[first : first + 2].tolist() == pytest.approx([up, heading]), axis
    # The torso stands as far to the left as the target is away: it has to turn right by 45 degrees.
    aside = changed(state, "qpos", {1: free_task.target_distance})
    assert seen(free_task, aside)[first + 1].item() == pytest.approx(math.sqrt(0.5))
    assert seen(free_task, turned(aside, "z", -math.pi / 4))[first + 1].item() == pytest.approx(1)


def test_planar_observations_are_all_coordinates_but_x(planar_task):
    n = planar_task.num_actions + 3
    qpos, qvel = torch.arange(n, dtype=F64)[None], 100 + torch.arange(n, dtype=F64)[None]
    obs = seen(planar_task, State(qpos, qvel, None))
    assert obs.tolist() == [*range(1, n), *range(100, 100 + n)]
    assert obs.shape == (planar_task.num_obs,)


# --- rewards and failures


def test_ants_reward():
    task = models.load_task("ant")
    state = changed(start(task), "qvel", {0: 3.0, 1: 5.0})
    # Velocity, 0.1 up, heading, height above 0.27 m; actions are free.
    assert earned(task, state) == pytest.approx(3 + 0.1 + 1 + 0.48)
    assert earned(task, state, torch.ones(1, 8, dtype=F64)) == pytest.approx(4.58)
    tilted = turned(changed(state, "qpos", {2: 0.3}), "y", math.pi / 3)
    assert earned(task, tilted) == pytest.approx(3 + 0.05 + 0.5 + 0.03)


def test_humanoids_reward():
    task = models.load_task("humanoid")
    state = changed(start(task), "qvel", {0: -2.0})
    base = -2 + 0.1 + 1
    # 10 per metre above 0.84 m up to 0.1 m, a parabola below it down to 1 m.
    for z, height in ((1.35, 1.0), (0.89, 0.5), (0.84, 0.0), (0.80, -200 * 0.04**2), (-3.0, -200.0)):
        assert earned(task, changed(state, "qpos", {2: z})) == pytest.approx(base + height), z
    action = torch.full((1, 21), 0.5, dtype=F64)
    assert earned(task, state, action) == pytest.approx(base + 1 - 0.002 * 21 * 0.25)


def test_hoppers_reward():
    task = models.load_task("hopper")
    state = changed(start(task), "qvel", {0: 2.0, 1: 7.0})
    # 1 per metre above -0.3 m up to 0.3 m, a parabola below it down to 1 m; 1 for standing upright.
    for z, height in ((0.0, 0.3), (0.5, 0.3), (-0.2, 0.1), (-0.4, -2.0), (-9.0, -200.0)):
        assert earned(task, changed(state, "qpos", {1: z})) == pytest.approx(2 + height + 1), z
    assert earned(task, changed(state, "qpos", {2: -math.pi / 12})) == pytest.approx(2 + 0.3 + 0.75)
    assert earned(task, state, torch.ones(1, 3, dtype=F64)) == pytest.approx(2 + 0.3 + 1 - 0.3)


def test_halfcheetahs_reward():
    task = models.load_task("halfcheetah")
    state = changed(start(task), "qvel", {0: 2.0, 1: 7.0})
    assert earned(task, state) == pytest.approx(2)
    assert earned(task, state, torch.full((1, 6), -0.5, dtype=F64)) == pytest.approx(2 - 0.15)


@pytest.mark.parametrize(
    ("name", "index", "limit"),
    [("ant", 2, 0.27), ("humanoid", 2, 0.74), ("hopper", 1, -0.45), ("halfcheetah", 1, None)],
)
def test_episodes_fail_below_the_papers_height(name, index, limit):
    task = models.load_task(name)
    state = start(task, 2)
    z = (-5.0, 5.0) if limit is None else (limit - 1e-6, limit + 1e-6)
    state.qpos[:, index] = torch.tensor(z)
    failed = task.terminated(state, task.observe(state, no_action(task, 2)))
    assert failed.tolist() == [limit is not None, False]


def test_observations_and_rewards_are_differentiable(task):
    def observed_and_earned(qpos, qvel, action):
        state = State(qpos, qvel, None)
        obs = task.observe(state, action)
        return obs, task.reward(state, obs, action)

    def inputs(state):
        action = torch.full((len(state.qpos), task.num_actions), 0.1, dtype=F64)
        return [x.requires_grad_() for x in (state.qpos, state.qvel, action)]

    tumbling = start(task, 2, stochastic=True)
    tumbling.qpos.add_(0.3 * torch.randn(tumbling.qpos.shape, generator=torch.Generator().manual_seed(0), dtype=F64))
    assert torch.autograd.gradcheck(observed_and_earned, inputs(tumbling))
    # The initial pose is where angles, products and norms vanish; Hopper stands on a kink of its reward.
    at_rest = inputs(start(task))
    obs, reward = observed_and_earned(*at_rest)
    assert all(x.isfinite().all() for x in torch.autograd.grad(obs.sum() + reward.sum(), at_rest))


# --- initial states


def test_episodes_begin_at_the_papers_pose():
    ant, humanoid, hopper, cheetah = (start(models.load_task(name)).qpos[0].tolist() for name in FREE + PLANAR)
    assert ant == [0, 0, 0.75, 1, 0, 0, 0, *(0, 1, 0, -1, 0, -1, 0, 1)]
    assert humanoid == [0, 0, 1.35, 1, 0, 0, 0, *[0] * 21]
    assert hopper == [0] * 6
    assert cheetah == [0, -0.2, *[0] * 7]
    for name in FREE + PLANAR:
        assert (start(models.load_task(name)).qvel == 0).all()


@pytest.mark.parametrize(
    ("name", "positions", "joints", "velocities"),
    [
        ("ant", 0.1, 0.2, 0.25),
        ("humanoid", 0.1, 0.2, 0.25),
        ("hopper", 0.05, 0.05, 0.05),
        ("halfcheetah", 0.1, 0.1, 0.25),
    ],
)
def test_initial_states_are_spread_as_in_the_paper(name, positions, joints, velocities):
    task = models.load_task(name)
    num = 20_000
    state, nominal = start(task, num, stochastic=True), start(task)
    offset = (state.qpos - nominal.qpos).T
    if name in FREE:
        # A rotation by at most 7.5 degrees about any axis: the angle itself is uniform.
        quat = state.qpos[:, 3:7]
        torch.testing.assert_close(quat.norm(dim=1), torch.ones(num, dtype=F64))
        angle = 2 * torch.atan2(quat[:, 1:].norm(dim=1), quat[:, 0])
        assert angle.max() <= math.pi / 24
        assert angle.mean().item() == pytest.approx(math.pi / 48, rel=0.02)
        assert (quat[:, 1:].mean(0).abs() < 0.001).all()
        assert (torch.corrcoef(quat[:, 1:].T) - torch.eye(3)).abs().max() < 0.05
        offset = torch.cat((offset[:3], offset[7:]))
    widest = torch.tensor(
        [*[positions] * 3, *[joints] * task.num_actions, *[velocities] * state.qvel.shape[1]], dtype=F64
    )
    offset = torch.cat((offset, state.qvel.T))
    assert (offset.abs().max(1).values <= widest).all()
    # A uniform distribution: mean 0, standard deviation width / sqrt(12). No two numbers are drawn together.
    torch.testing.assert_close(offset.std(1), 2 * widest / math.sqrt(12), rtol=0.02, atol=0)
    assert (offset.mean(1).abs() < 0.03 * widest).all()
    assert (torch.corrcoef(offset) - torch.eye(len(offset))).abs().max() < 0.05


def test_initial_states_come_from_the_generator_in_the_simulators_precision(task):
    first, again = (start(task, 3, stochastic=True, dtype=torch.float32) for _ in range(2))
    assert torch.equal(first.qpos, again.qpos) and torch.equal(first.qvel, again.qvel)
    assert first.qpos.dtype == first.qvel.dtype == torch.float32


# --- measures and settings


def test_measures_count_an_episodes_own_steps(task):
    m = mujoco_model(task)
    states = State(torch.tensor(m.qpos0).expand(10, 2, -1).clone(), torch.ones(10, 2, m.nv, dtype=F64), None)
    states.qvel[5:, :, 0] = 3.0
    # Upside down in the last step, which in world 1 belongs to another episode.
    if task.asset in FREE:
        states.qpos[9, :, 3:7] = torch.tensor([0.0, 0.0, 1.0, 0.0], dtype=F64)
    else:
        states.qpos[9, :, 2] = math.pi
    alive = torch.ones(10, 2, dtype=torch.bool)
    alive[6:, 1] = False
    measures = task.measures(states, alive)
    assert measures["forward_speed"].tolist() == pytest.approx([2, (5 + 3) / 6])
    assert measures["upright_fraction"].tolist() == pytest.approx([0.9, 1])
    assert measures["finished"].tolist() == [1, 0]


def test_presets_take_the_papers_number_of_steps(task):
    settings = config.resolve(task, "shac")
    steps = {"hopper": 16.384e6}.get(task.asset, 4.096e6)
    assert settings.num_envs * settings.horizon * settings.max_epochs == steps
    assert config.resolve(task, "bptt").horizon == (1000 if task.asset in FREE else 128)


def test_what_tasks_share_is_not_offered_as_a_model():
    assert {*FREE, *PLANAR} <= set(models.names())
    assert not any("locomotion" in name for name in models.names())
    with pytest.raises(UserError, match="no model is called '_locomotion'"):
        models.load_task("_locomotion")
