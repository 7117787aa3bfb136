"""What single precision, users' default, must not lose: long chains, places far from the origin."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch
from processes import run

import taichi_sim as ts

LINK = """<body pos="{} 0 0"><joint axis="0 1 0" damping=".01"/>
<geom type="capsule" fromto="0 0 0 .05 0 0" size=".01" mass=".05" contype="0" conaffinity="0"/>"""


def chain(length: int) -> str:
    bodies = "".join(LINK.format(0.05 * (i > 0)) for i in range(length)) + "</body>" * length
    return f'<mujoco><option timestep="0.0002"/><worldbody>{bodies}</worldbody></mujoco>'


@pytest.mark.parametrize("length", [30, 150])
def test_a_long_chain_moves_as_in_mujoco(length, tmp_path):
    """0.1 s of its fall, and the gradient of that. Seen: 80 links wrong by as much as they move, 100 NaN."""
    mj_model = mujoco.MjModel.from_xml_string(chain(length))
    data = mujoco.MjData(mj_model)
    mujoco.mj_step(mj_model, data, 500)
    file = tmp_path / "chain.xml"
    file.write_text(chain(length))
    program = f"""
        import numpy as np
        model = ts.load({str(file)!r})
        model.opt.substeps = 50
        sim = ts.Simulator(model)
        state = sim.initial_state()
        qvel = torch.zeros(1, {length}, requires_grad=True)
        state = state._replace(qvel=qvel)
        for _ in range(10):
            state = sim.step(state, torch.zeros(1, 0))
        weights = torch.linspace(-1, 1, {length})
        (state.qpos @ weights).sum().backward()
        np.savez({str(tmp_path / "ours.npz")!r}, qpos=state.qpos[0].detach(), grad=qvel.grad[0])
    """
    run(program)
    ours = np.load(tmp_path / "ours.npz")
    assert np.abs(data.qpos).max() > 0.1
    assert np.abs(ours["qpos"] - data.qpos).max() < 1e-3 * np.abs(data.qpos).max()
    # the same in double precision, which this process has
    model = ts.load(mj_model)
    model.opt.substeps = 50
    sim = ts.Simulator(model)
    qvel = torch.zeros(1, length, dtype=torch.float64, requires_grad=True)
    state = sim.initial_state()._replace(qvel=qvel)
    for _ in range(10):
        state = sim.step(state, torch.zeros(1, 0, dtype=torch.float64))
    (state.qpos @ torch.linspace(-1, 1, length, dtype=torch.float64)).sum().backward()
    exact = qvel.grad[0].numpy()
    assert np.abs(ours["grad"] - exact).max() < 1e-2 * np.abs(exact).max()


def test_a_body_far_away_does_not_stand_still():
    """5 km from the origin steps of 0.05 mm are below a rounding; their sum of 10 mm a control step is not."""
    process = run("""
        model = ts.load(mujoco.MjModel.from_xml_string(
            '<mujoco><option timestep="0.0001" gravity="0 0 0"/><worldbody><body><freejoint/>'
            '<geom size=".1"/></body></worldbody></mujoco>'))
        model.opt.substeps = 200
        sim = ts.Simulator(model)
        state = sim.initial_state()
        state.qpos[0, 0], state.qvel[0, 0] = 5000.0, 0.5
        with torch.no_grad():
            for _ in range(50):
                state = sim.step(state, torch.zeros(1, 0))
        print(state.qpos[0, 0].item() - 5000)
    """)
    assert float(process.stdout) == pytest.approx(0.5, abs=50 * 2**-12)
