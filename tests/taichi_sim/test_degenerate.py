"""States and geometry without a direction: MuJoCo's meaning, finite values, gradients that do not grow."""

import mujoco
import numpy as np
import pytest
import torch
from snippets import load_text, mjcf_text

import taichi_sim as ts

BALL = """<mujoco><option><flag contact="disable"/></option><worldbody><body>{joint}
<inertial pos=".1 .2 0" mass="1" diaginertia=".1 .2 .25"/></body></worldbody></mujoco>"""


@pytest.mark.parametrize("joint", ['<joint type="ball"/>', "<freejoint/>"])
@pytest.mark.parametrize("quat", [(0, 0, 0, 0), (1e-20, 0, 0, 0), (0, 0, 3e8, 4e8)])
def test_quaternions_of_any_length_mean_what_they_mean_in_mujoco(joint, quat):
    mj_model = mujoco.MjModel.from_xml_string(BALL.format(joint=joint))
    sim = ts.Simulator(ts.load(mj_model))
    data = mujoco.MjData(mj_model)
    data.qpos[-4:], data.qvel[:] = quat, np.linspace(-1, 1, mj_model.nv)
    qpos = torch.tensor(data.qpos)[None].requires_grad_()
    state = ts.State(qpos, torch.tensor(data.qvel)[None], torch.zeros(1, 0, dtype=torch.float64))
    ours = sim.forward(state)
    mujoco.mj_forward(mj_model, data)
    np.testing.assert_allclose(ours.xquat[0, 1].detach(), data.xquat[1], atol=1e-12)
    np.testing.assert_allclose(ours.qacc[0], data.qacc, rtol=1e-9, atol=1e-9)
    after = sim.step(state, torch.zeros(1, 0, dtype=torch.float64))
    assert after.qpos[0, -4:].norm().item() == pytest.approx(1, abs=1e-12)
    (after.qpos.sum() + after.qvel.sum() + ours.xpos.sum()).backward()
    assert qpos.grad.isfinite().all()


WINCH = """<site name="a"/><body><joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 0 1"/>
<geom size=".05" mass="1"/><site name="b"/></body>"""
TENDON = """<tendon><spatial name="t"><site site="a"/><site site="b"/></spatial></tendon>
<actuator><motor tendon="t" gear="-1"/></actuator>"""


def test_a_tendon_whose_ends_coincide_pulls_on_nothing():
    """Seen: at rest, but its gradient grew by 1e4 a step until the backward pass raised."""
    model = load_text(mjcf_text(world=WINCH, rest=TENDON, option='timestep="0.001" gravity="0 0 0"'))
    sim = ts.Simulator(model)
    state = sim.initial_state()
    qpos = state.qpos.clone().requires_grad_()
    state, ctrl = state._replace(qpos=qpos), torch.full((1, 1), 25.0, dtype=torch.float64)
    for _ in range(20):
        state = sim.step(state, ctrl)
    assert torch.equal(state.qpos[0, :2], torch.zeros(2, dtype=torch.float64))
    state.qpos[0, :2].sum().backward()
    assert qpos.grad[0].tolist() == pytest.approx([1, 1, 0])
