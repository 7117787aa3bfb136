"""What holds a load by the penalty, limits and contacts, against MuJoCo; and what the law of their damping promises."""

import mujoco
import numpy as np
import pytest
import torch

import taichi_sim as ts
from tests.differences import assert_gradient, weighted

LIMITS = """<mujoco><compiler angle="radian"/>
<option timestep="0.002" gravity="0 0 0"><flag contact="disable"/></option>
<worldbody>
<body><joint name="h" axis="0 1 0" range="-1 1" solreflimit="{solref}" solimplimit="{solimp}" damping="1"/>
<geom size=".1" mass="2" pos=".5 0 0"/></body>
<body><joint name="s" type="slide" axis="1 0 0" range="-1 1" solreflimit="{solref}" solimplimit="{solimp}" damping="1"/>
<geom size=".1" mass="3"/></body>
<body><joint name="b" type="ball" range="0 1" solreflimit="{solref}" solimplimit="{solimp}" damping="1"/>
<geom size=".1" mass="3"/></body>
<body><joint name="t" type="slide" axis="1 0 0" damping="1"/><geom size=".1" mass="3"/></body></worldbody>
<tendon><fixed name="t" range="-1 1" solreflimit="{solref}" solimplimit="{solimp}"><joint joint="t" coef="2"/></fixed>
</tendon>
<actuator>
<motor joint="h"/><motor joint="s"/><motor joint="b" gear="0 1 0 0 0 0"/><motor joint="t"/></actuator></mujoco>"""
CONTACTS = """<mujoco><option timestep="0.002"/><default><geom solref="{solref}" solimp="{solimp}"/></default>
<worldbody>
<geom type="plane" size="5 5 .1"/><geom type="box" size=".5 .5 .1" pos="0 3 .1"/>
<body pos="0 0 .1"><freejoint/><geom size=".1" mass="5"/></body>
<body pos="1 0 .1"><freejoint/><geom type="box" size=".1 .2 .1" mass="5"/></body>
<body pos="2 0 .1"><joint type="slide" axis="0 0 1"/><geom size=".1" mass="1"/></body>
<body pos="2 0 .3"><joint type="slide" axis="0 0 1"/><geom size=".1" mass="{load}"/></body>
<body pos="0 3 .3"><freejoint/><geom size=".1" mass="5"/></body></worldbody></mujoco>"""
SOLIMPS = ("0.9 0.95 0.001", "0.9 0.99 0.001", "0 0.8 0.03", "0.5 0.95 0.01 0.3 2", "0.95 0.95 0")
SOLREFS = ("0.02 1", "0.015 1", "-3000 -100")


def penalty(text: str) -> ts.Model:
    """The model, with the law that this file is about."""
    model = ts.load(mujoco.MjModel.from_xml_string(text))
    model.opt.constraint = "penalty"
    return model


def at_rest(text: str, ctrl: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """qpos under constant controls after six seconds, MuJoCo's and ours."""
    m = mujoco.MjModel.from_xml_string(text)
    data = mujoco.MjData(m)
    data.ctrl[:] = ctrl
    for _ in range(3000):
        mujoco.mj_step(m, data)
    model = penalty(text)
    model.opt.substeps = 3000
    sim = ts.Simulator(model)
    with torch.no_grad():
        state = sim.step(sim.initial_state(), torch.tensor([ctrl], dtype=torch.float64))
    assert np.abs(data.qvel).max() < 1e-3 and state.qvel.abs().max() < 1e-3
    return data.qpos, state.qpos[0].numpy()


@pytest.mark.parametrize("solref", SOLREFS)
@pytest.mark.parametrize("solimp", SOLIMPS)
@pytest.mark.parametrize("load", [1.0, 20.0])
def test_limits_yield_at_most_twice_as_far_as_in_mujoco(solref, solimp, load):
    theirs, ours = at_rest(LIMITS.format(solref=solref, solimp=solimp), [load, -load, load, load])
    # how far beyond the limits: hinge, slide, ball's angle, tendon (twice its joint)
    yields = [
        np.array([q[0] - 1, -q[1] - 1, 2 * np.arctan2(np.linalg.norm(q[3:6]), q[2]) - 1, 2 * q[6] - 1])
        for q in (theirs, ours)
    ]
    assert (yields[0] > 0).all() and (yields[1] > 0).all()
    assert (yields[1] < 2.0001 * yields[0]).all(), yields[1] / yields[0]


@pytest.mark.parametrize("solref", SOLREFS)
@pytest.mark.parametrize("solimp", SOLIMPS)
def test_contacts_yield_at_most_twice_as_far_as_in_mujoco(solref, solimp):
    theirs, ours = at_rest(CONTACTS.format(solref=solref, solimp=solimp, load=20), [])
    # heights: sphere and box on the plane, a heavy sphere on a light one on it, sphere on a box of the world
    heights = [np.array([q[2], q[9], q[14] + 0.1, q[15] - q[14], q[18] - 0.2]) for q in (theirs, ours)]
    rest = np.array([0.1, 0.1, 0.1, 0.0, 0.1])
    sunk = [rest - h for h in heights]
    assert (sunk[0] > 0).all() and (sunk[1] > 0).all(), sunk
    assert (sunk[1] < 2.0001 * sunk[0]).all(), sunk[1] / sunk[0]


def rebound(loss: float) -> float:
    """Share of its speed with which a unit mass leaves a spring of frequency 1, by small explicit steps."""
    x, v, h = 0.0, 1.0, 1e-5
    while x >= 0:
        c = min(2.0, loss * x / max(abs(v), 1e-9))
        v -= h * (x + c * v)
        x += h * v
    return -v


@pytest.mark.parametrize("speed", [0.2, 1.0, 3.0])
def test_what_hits_rebounds_with_the_same_share_of_any_speed(speed):
    text = """<mujoco><option timestep="0.00005" gravity="0 0 0"/><worldbody><geom type="plane" size="5 5 .1"/>
    <body pos="0 0 .1"><freejoint/><geom size=".1" mass="5"/></body></worldbody></mujoco>"""
    model = penalty(text)
    model.opt.substeps = 2000
    sim = ts.Simulator(model)
    state = sim.initial_state()
    state.qvel[0, 2] = -speed
    with torch.no_grad():
        state = sim.step(state, torch.zeros(1, 0, dtype=torch.float64))
    assert state.qvel[0, 2].item() / speed == pytest.approx(rebound(model.pair_loss[0]), rel=0.02)


def test_gradients_of_loads_and_impacts():
    for body, seed in ((LIMITS, 0), (CONTACTS, 1)):
        text = body.format(solref="0.02 1", solimp="0.9 0.95 0.001", load=20)
        sim = ts.Simulator(penalty(text), 4)
        generator = torch.Generator().manual_seed(seed)
        state = sim.initial_state()
        speed = 3 * torch.randn(state.qvel.shape, generator=generator, dtype=torch.float64)
        ctrl = 20 * torch.randn(4, sim.model.nu, generator=generator, dtype=torch.float64)
        state = state._replace(qvel=speed)
        with torch.no_grad():
            for _ in range(150):
                state = sim.step(state, ctrl)

        def end(qvel, ctrl=ctrl, state=state, sim=sim, seed=seed):
            now = state._replace(qvel=qvel)
            for _ in range(3):
                now = sim.step(now, ctrl)
            return weighted(now, seed)

        leaves = {"qvel": state.qvel, "ctrl": ctrl}
        if not sim.model.nu:
            del leaves["ctrl"]
        assert_gradient(end, leaves)
