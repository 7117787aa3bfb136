"""Tendons, activations and muscles in the step: MuJoCo's numbers, and gradients against central differences."""

from __future__ import annotations

import re

import mujoco
import numpy as np
import pytest
import torch
from batch import mujoco_data, random_batch, tendon_jacobian
from differences import assert_gradient, rollout, weighted

import taichi_sim as ts

# Two legs from one free body, each with joints of its own kinds; wrapping geoms; a site in the world. Tendon "across"
# couples the legs, "grounded" couples the body to the world, "wrapped", "round" and "through" go past geoms.
BODY = """
<mujoco>
  <option timestep="0.002"><flag contact="disable"/></option>
  {custom}
  <worldbody>
    <site name="world" pos="0.3 0.1 1"/>
    <body name="trunk" pos="0 0 1">
      <freejoint/>
      <geom size="0.1" mass="1"/>
      <site name="trunk1" pos="0.1 0.02 0"/> <site name="trunk2" pos="0 0.1 0.05"/>
      <body name="thigh" pos="0.3 0 0">
        <joint name="hip" type="ball"/>
        <geom size="0.05" mass="0.5"/>
        <geom name="cylinder" type="cylinder" size="0.04 0.1" pos="0.05 0 0" euler="20 30 40" mass="0"/>
        <geom name="ring" type="sphere" size="0.12" pos="0.15 0 0" mass="0"/>
        <site name="thigh" pos="0.1 0.03 0.02"/> <site name="inside" pos="0.15 0 0.05"/>
        <body name="shank" pos="0.3 0 0">
          <joint name="knee" axis="0 1 0.2"/>
          <geom size="0.05" mass="0.4"/>
          <site name="shank" pos="0.12 0.03 -0.02"/>
        </body>
      </body>
      <body name="arm" pos="-0.3 0 0.1">
        <joint name="shoulder" axis="0 1 0"/>
        <geom size="0.05" mass="0.3"/>
        <geom name="ball" type="sphere" size="0.06" pos="-0.08 0 0" mass="0"/>
        <site name="arm" pos="-0.1 0.05 0.02"/> <site name="side" pos="-0.08 0 0.1"/>
        <body name="hand" pos="-0.2 0 0">
          <joint name="wrist" type="slide" axis="1 0 0"/>
          <geom size="0.05" mass="0.3"/>
          <site name="hand" pos="0 0.05 0.02"/>
        </body>
      </body>
    </body>
  </worldbody>
  <tendon>
    <spatial name="straight" stiffness="30" damping="2">
      <site site="trunk1"/> <site site="thigh"/> <site site="shank"/>
    </spatial>
    <spatial name="across" stiffness="20" damping="1">
      <site site="shank"/> <site site="arm"/> <pulley divisor="2"/> <site site="trunk2"/> <site site="hand"/>
    </spatial>
    <spatial name="grounded" stiffness="10" springlength="0 0.1" damping="0.3">
      <site site="world"/> <site site="trunk2"/> <geom geom="cylinder"/> <site site="shank"/>
    </spatial>
    <spatial name="round"> <site site="trunk2"/> <geom geom="ball" sidesite="side"/> <site site="hand"/> </spatial>
    <spatial name="through">
      <site site="trunk1"/> <geom geom="ring" sidesite="inside"/> <site site="shank"/>
    </spatial>
    <fixed name="fixed" stiffness="3" damping="0.1">
      <joint joint="knee" coef="1.5"/> <joint joint="wrist" coef="-2"/>
    </fixed>
    <!-- soft: random states stretch it by more than differences could resolve of a stiffer one -->
    <spatial name="limited" range="0 0.25" solreflimit="-150 -3"> <site site="thigh"/> <site site="hand"/> </spatial>
  </tendon>
  <actuator>{actuators}</actuator>
</mujoco>
"""

ACTUATORS = """
    <position tendon="straight" kp="50" kv="3"/>
    <motor tendon="fixed" gear="2"/>
    <general tendon="grounded" dyntype="filterexact" dynprm=".03" gainprm="5 3 1" biastype="affine" biasprm="1 -2 -.5"/>
    <general joint="knee" dyntype="integrator" gainprm="1" biasprm="1 2 3" actlimited="true" actrange="-0.3 0.4"/>
    <general tendon="across" dyntype="filter" dynprm="0.05" gainprm="4" forcerange="-1 1"/>
"""

MUSCLES = """
    <muscle tendon="straight" lengthrange="0.3 0.9" force="50"/>
    <muscle tendon="across" lengthrange="0.3 0.9" force="30" tausmooth="0.3"/>
    <muscle tendon="grounded" lengthrange="0.5 1.6" scale="300" vmax="8"/>
    <muscle tendon="round" lengthrange="0.2 0.6" force="20" gear="1.1"/>
    <muscle tendon="through" lengthrange="0.2 0.8" force="20"/>
    <muscle joint="knee" lengthrange="-2 2" force="10"/>
    <general tendon="limited" gaintype="muscle" biastype="muscle" dyntype="muscle" lengthrange="0.3 1"
             dynprm="0.02 0.05" gainprm="0.8 1.1 20 200 0.5 1.6 2 1.2 1.3" biasprm="0.7 1 25 200 0.5 1.5 2 1.4 1.3"/>
    <general tendon="round" gaintype="muscle" biastype="none" dyntype="none" lengthrange="0.2 1"
             gainprm="0.75 1.05 15 200 0.5 1.6 1.5 1.3 1.2"/>
"""

DEGROOTE = """<custom><text name="muscle_law" data="degroote_fregly"/><numeric name="muscle_pennation" data="0.3"/>
    <numeric name="muscle_damping" data="0.05"/></custom>"""

CONTROL_STEPS = 3


def spec(custom: str = "", actuators: str = ACTUATORS + MUSCLES, wraps: bool = True) -> mujoco.MjSpec:
    text = BODY.format(custom=custom, actuators=actuators)
    return mujoco.MjSpec.from_string(text if wraps else re.sub("<geom geom=.*?/>", "", text))


class Scene:
    def __init__(self, custom="", actuators=ACTUATORS + MUSCLES, parameters=(), num_worlds=6, wraps=True):
        self.mujoco = spec(custom, actuators, wraps).compile()
        self.model = ts.load(spec(custom, actuators, wraps))
        self.model.opt.substeps = 4
        self.constants = {name: torch.tensor(getattr(self.model, name)) for name in parameters}
        self.sim = ts.Simulator(self.model, num_worlds, parameters=parameters)
        state, ctrl = random_batch(self.model, num_worlds, seed=3)
        generator = torch.Generator().manual_seed(0)
        # strictly inside of the range to which muscles' excitations and activations are clipped
        act = 0.02 + 0.96 * torch.rand(state.act.shape, generator=generator, dtype=torch.float64)
        self.ctrl = 0.02 + 0.96 * torch.rand(ctrl.shape, generator=generator, dtype=torch.float64)
        self.state = state._replace(act=act)

    def rollout(self, qpos, qvel, act, ctrl, **parameters) -> torch.Tensor:
        """A random linear function of the state after some control steps, (N,)."""
        state = rollout(self.sim, qpos, qvel, ctrl, CONTROL_STEPS, parameters, act)
        return weighted(state, 7) + (state.act * torch.linspace(-1, 1, self.model.na, dtype=torch.float64)).sum(1)


@pytest.fixture(scope="module")
def scene():
    return Scene()


@pytest.fixture(scope="module")
def smooth():
    names = ("muscle_force", "muscle_optimal_length", "muscle_slack_length", "muscle_timeconst", "actuator_gainprm")
    # without wrapping, which is tested above and takes longest to compile
    return Scene(DEGROOTE, MUSCLES, names, num_worlds=3, wraps=False)


def assert_close(ours: torch.Tensor, theirs: np.ndarray, name: str):
    error = np.abs(ours.numpy().ravel() - theirs.ravel()).max()
    assert error <= 1e-9 * max(1.0, np.abs(theirs).max()), f"{name}: {error:.3g}"


def test_forward_gives_the_numbers_of_mujoco(scene):
    data = scene.sim.forward(scene.state, scene.ctrl)
    names = "ten_length ten_velocity actuator_length actuator_velocity actuator_force act_dot"
    names += " qfrc_passive qfrc_actuator"
    wraps = 0
    for world in range(scene.sim.num_worlds):
        theirs = mujoco_data(scene.mujoco, scene.state, scene.ctrl, world)
        wraps += (theirs.wrap_obj >= 0).sum()
        for name in names.split():
            assert_close(getattr(data, name)[world], getattr(theirs, name), name)
        assert_close(data.ten_J[world], tendon_jacobian(scene.mujoco, theirs), "ten_J")
    assert wraps > 0


def test_gradients_of_steps_through_every_kind_of_tendon_and_actuator(scene):
    assert_gradient(scene.rollout, {**scene.state._asdict(), "ctrl": scene.ctrl}, {"qpos": 1e-6})


def test_of_the_smooth_law_a_passive_element_may_have_a_range_of_its_own_or_there_is_none(smooth):
    m, still = smooth.mujoco, smooth.state._replace(qvel=torch.zeros_like(smooth.state.qvel))
    fibres = smooth.sim.forward(still, smooth.ctrl).fibres
    own, none = m.nu - 2, m.nu - 1
    # lengths of fibres: its optimal one by `gainprm`, where the passive element is as long as it by `biasprm`
    (shortest, longest), (g0, g1), (b0, b1) = (
        m.actuator_lengthrange[own],
        m.actuator_gainprm[own, :2],
        m.actuator_biasprm[own, :2],
    )
    optimal, passive = (longest - shortest) / (g1 - g0), (longest - shortest) / (b1 - b0)
    x = fibres.length[:, own].numpy() / optimal
    y = np.minimum((x * optimal + (shortest - g0 * optimal) - (shortest - b0 * passive)) / passive, 1.8)
    # the paper's equation 3, as OpenSim has it: 0 at 0.2
    low = np.exp(4 * (0.2 - 1) / 0.6)
    expected = (np.exp(4 * (y - 1) / 0.6) - low) / (np.exp(4) - low)
    found = fibres.passive_force[:, own].numpy() / smooth.model.muscle_force[own]
    assert (y < 1.8).any() and np.ptp(found[y < 1.8]) > 0.001
    np.testing.assert_allclose(found[y < 1.8], expected[y < 1.8], atol=1e-12)
    assert fibres.passive_force[:, none].abs().max() < 1e-12 < fibres.active_force[:, none].abs().max()


def test_gradients_of_the_smooth_law_and_of_its_constants(smooth):
    model = smooth.model
    names = ("muscle_force", "muscle_optimal_length", "muscle_slack_length", "muscle_timeconst")
    constants = {
        name: torch.tensor(getattr(model, name)).expand(3, *getattr(model, name).shape).contiguous() for name in names
    }
    arguments = {**smooth.state._asdict(), "ctrl": smooth.ctrl, **constants}
    assert_gradient(smooth.rollout, arguments, {"muscle_force": 1e-3, "muscle_timeconst": 1e-6})


def test_gradients_of_tendon_lengths_and_velocities(scene):
    def lengths(qpos, qvel):
        data = scene.sim.forward(scene.state._replace(qpos=qpos, qvel=qvel), scene.ctrl)
        weights = torch.linspace(0.5, 1.5, scene.model.ntendon, dtype=torch.float64)
        return (data.ten_length * weights).sum(1) + (data.ten_velocity * weights.flip(0)).sum(1)

    assert_gradient(lengths, {"qpos": scene.state.qpos, "qvel": scene.state.qvel})


def test_implicit_damping_of_muscles_keeps_a_stiff_step_stable(smooth):
    """All muscles fully on, 50 times as strong: their velocity dependence alone would blow up an explicit step."""
    force = 50 * torch.tensor(smooth.model.muscle_force)
    state, ctrl = smooth.sim.initial_state(), torch.ones_like(smooth.ctrl)
    for _ in range(40):
        state = smooth.sim.step(state, ctrl, {"muscle_force": force})
    assert torch.isfinite(state.qvel).all() and state.qvel[:, 6:].abs().max() < 300


def test_activations_stay_in_their_range_and_follow_the_control(scene):
    state = scene.state
    on = torch.ones_like(scene.ctrl)
    for _ in range(60):
        # held in place: so many forces at once would throw it about
        state = scene.state._replace(act=scene.sim.step(state, on).act)
    muscles = scene.model.actuator_actadr[(scene.model.muscle_law >= 0) & (scene.model.actuator_actadr >= 0)]
    assert (state.act[:, muscles] <= 1).all() and (state.act[:, muscles] > 0.99).all()
    integrator = scene.model.actuator_actadr[3]
    assert torch.allclose(state.act[:, integrator], torch.full_like(state.act[:, integrator], 0.4))


def extreme_inputs(scene: Scene, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """States and controls far outside of every range; half of the numbers exactly on values where branches meet."""

    def draw(size, *scales):
        size = (scene.sim.num_worlds, size)
        exact, spread = rng.choice([-1.0, 1.0], size), rng.normal(size=size)
        numbers = rng.choice(scales, size) * np.where(rng.random(size) < 0.5, exact, spread)
        return torch.tensor(numbers, dtype=scene.sim.dtype)

    m = scene.model
    inputs = {"qpos": draw(m.nq, 0, 1, np.pi / 2, 100), "qvel": draw(m.nv, 0, 1, 1e3), "act": draw(m.na, 0, 1, 1e3)}
    for kind, adr in zip(m.jnt_type, m.jnt_qposadr, strict=True):
        # four zeros are no rotation
        if kind in (0, 1):
            inputs["qpos"][:, adr + (3 if kind == 0 else 0)] += 0.1
    return {**inputs, "ctrl": draw(m.nu, 0, 1, 1e6)}


def assert_finite_everywhere(scene: Scene, batches: int):
    """A step and its gradient in state, controls and constants; the Simulator itself raises at most of what is not."""
    rng = np.random.default_rng(5)
    for _ in range(batches):
        inputs = extreme_inputs(scene, rng)
        leaves = {name: x.clone().requires_grad_() for name, x in (inputs | scene.constants).items()}
        constants = {name: leaves[name] for name in scene.constants}
        state = scene.sim.step(ts.State(leaves["qpos"], leaves["qvel"], leaves["act"]), leaves["ctrl"], constants)
        loss = sum((torch.tensor(rng.normal(size=x.shape), dtype=x.dtype) * x).sum() for x in state)
        results = {**dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())))), **state._asdict()}
        for name, x in results.items():
            assert torch.isfinite(x).all(), (name, inputs)


@pytest.mark.parametrize("law", ["scene", "smooth"])
def test_a_step_and_its_gradient_are_finite_in_every_state(law, request, monkeypatch):
    scene = request.getfixturevalue(law)
    # from here on each further substep would square the velocities (inertial forces are explicit), to 1e27 in four
    monkeypatch.setattr(scene.model.opt, "substeps", 1)
    assert_finite_everywhere(scene, batches=300)


def test_unknown_law_and_strangers_are_named():
    fields = '<text name="muscle_law" data="hill"/><numeric name="muscle_pennation:nobody" data="0.1"/>'
    custom = f"<custom>{fields}</custom>"
    with pytest.raises(ts.UnsupportedModelError, match="'hill', which is no muscle law(.|\n)*'nobody' is not a muscle"):
        ts.load(spec(custom))


APART = """
<mujoco>
  <option timestep="0.002"><flag contact="disable"/></option>
  <worldbody>
    <site name="fixed" pos="0.1 0.3 0.1"/>
    <body>
      <freejoint/> <geom size="0.2" mass="1"/> <geom name="roll" type="cylinder" size="0.25 0.5" euler="20 30 40"/>
    </body>
    <body>
      <joint type="slide" axis="1 0 0"/> <joint type="slide" axis="0 1 0"/> <joint axis="1 1 0"/>
      <geom size="0.1" mass="1"/> <site name="end" pos="0.5 0 0.3"/> <site name="side" pos="0 0.1 0.1"/>
    </body>
  </worldbody>
  <tendon>
    <spatial stiffness="20"> <site site="fixed"/> <geom geom="roll" sidesite="side"/> <site site="end"/> </spatial>
    <spatial stiffness="20"> <site site="side"/> <geom geom="roll" sidesite="fixed"/> <site site="end"/> </spatial>
  </tendon>
</mujoco>
"""


def test_a_side_site_may_ride_on_another_body_than_the_geom():
    spec, worlds = mujoco.MjSpec.from_string(APART), 96
    model, compiled = ts.load(spec), spec.compile()
    sim = ts.Simulator(model, worlds)
    state, ctrl = random_batch(model, worlds, seed=1)
    state.qpos[:, [0, 1, 2, 7, 8]] *= 0.2
    data = sim.forward(state, ctrl)
    paths = set()
    for world in range(worlds):
        theirs = mujoco_data(compiled, state, ctrl, world)
        geom = theirs.geom("roll")
        for t, side in enumerate(("side", "fixed")):
            at = geom.xmat.reshape(3, 3).T @ (theirs.site(side).xpos - geom.xpos)
            paths.add((t, np.linalg.norm(at) < 0.25, int(theirs.ten_wrapnum[t])))
        assert_close(data.ten_length[world], theirs.ten_length, "ten_length")
        assert_close(data.ten_J[world], tendon_jacobian(compiled, theirs), "ten_J")
    # outside and within, past the geom and straight, all in blocks of worlds that differ
    assert len(paths) == 8

    def steps(qpos, qvel):
        return weighted(rollout(sim, qpos, qvel, ctrl, 2), 7)

    assert_gradient(steps, {"qpos": state.qpos, "qvel": state.qvel})


def test_a_spring_at_rest_has_the_slope_of_both_sides():
    """Bodies begin there: without a springlength of its own, a spring's is the tendon's in qpos0."""
    text = """<mujoco><worldbody><site name="a"/><body pos=".3 0 0"><joint type="slide" axis="1 0 0"/>
      <geom size=".05" mass="1"/><site name="b"/></body></worldbody>
      <tendon><spatial stiffness="200"><site site="a"/><site site="b"/></spatial></tendon></mujoco>"""
    sim = ts.Simulator(ts.load(mujoco.MjSpec.from_string(text)), 1)
    state, ctrl = sim.initial_state(), torch.zeros(1, 0, dtype=torch.float64)
    assert_gradient(lambda qpos: sim.step(state._replace(qpos=qpos), ctrl).qvel[:, 0], {"qpos": state.qpos})


MEETING = """
<mujoco>
  <option timestep="0.002" gravity="0 0 0"><flag contact="disable"/></option>
  <custom><text name="muscle_law" data="{}"/></custom>
  <worldbody>
    <site name="anchor"/> <site name="above" pos="0 0 1"/>
    <body>
      <joint type="slide" axis="1 0 0"/> <joint type="slide" axis="0 1 0"/>
      <geom size="0.1" mass="1"/> <site name="end"/>
    </body>
  </worldbody>
  <tendon><spatial name="short" stiffness="50" springlength="0.1" damping="2">
    <site site="anchor"/><site site="end"/></spatial>
    <spatial name="long"><site site="above"/><site site="end"/></spatial></tendon>
  <actuator><motor tendon="short"/><muscle tendon="long" force="2" lengthrange=".5 1.5"/></actuator>
</mujoco>
"""


def test_points_of_a_path_may_meet():
    """Up to 2 mm apart the length is a polynomial that goes over into the distance; its pull does not jump."""
    sim = ts.Simulator(ts.load(mujoco.MjSpec.from_string(MEETING.format("degroote_fregly"))), 6)
    apart = torch.tensor([0.0, 3e-4, 1e-3, 1.99e-3, 2.01e-3, 5e-3], dtype=torch.float64)
    way = torch.tensor([0.6, -0.8], dtype=torch.float64)
    qpos = apart[:, None] * way
    ctrl = torch.tensor([[-3.0, 0.5]], dtype=torch.float64).expand(6, 2).clone()
    state = sim.initial_state()._replace(qpos=qpos, qvel=torch.full((6, 2), 0.1, dtype=torch.float64))
    data, share = sim.forward(state, ctrl), apart / 2e-3
    rounded = share < 1
    length = torch.where(rounded, 2e-3 * (3 + 6 * share**2 - share**4) / 8, apart)
    pull = torch.where(rounded, (3 * share - share**3) / 2, torch.ones_like(share))
    torch.testing.assert_close(data.ten_length[:, 0], length, rtol=1e-14, atol=0)
    torch.testing.assert_close(data.ten_J[:, 0, :2] @ way, pull, rtol=1e-14, atol=0)

    def moved(qpos, qvel, ctrl):
        return weighted(sim.step(state._replace(qpos=qpos, qvel=qvel), ctrl), 1)

    # the pull turns within 2 mm
    assert_gradient(moved, {"qpos": qpos, "qvel": state.qvel, "ctrl": ctrl}, {"qpos": 1e-8})


def test_tendons_of_mujocos_muscles_are_not_rounded():
    sim = ts.Simulator(ts.load(mujoco.MjSpec.from_string(MEETING.format("mujoco"))), 1)
    state = sim.initial_state()._replace(qpos=torch.tensor([[3e-4, -4e-4]], dtype=torch.float64))
    data = sim.forward(state, torch.zeros(1, 2, dtype=torch.float64))
    assert data.ten_length[0, 0].item() == pytest.approx(5e-4, rel=1e-12)
    assert data.ten_J[0, 0, :2].tolist() == pytest.approx([0.6, -0.8], rel=1e-12)
