"""Elastic and rigid tendons, and metabolic power, against OpenSim's figures (tools/muscles/opensim_reference.py)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from differences import assert_gradient

import taichi_sim as ts

REFERENCE = json.loads((Path(__file__).parent / "opensim.json").read_text(encoding="utf-8"))
UNITS, MOMENTS, MOTIONS = REFERENCE["units"], REFERENCE["moments"], REFERENCE["motions"]
# What double precision and the integration's tolerance leave of the digits.
SAME = 1e-6

FILE = """
<mujoco>
  <option gravity="{gravity} 0 0" timestep="{timestep}"/>
  <custom>
    <text name="muscle_law" data="degroote_fregly"/> <text name="muscle_tendon" data="{tendon}"/> {numerics}
  </custom>
  <worldbody> {bodies} </worldbody>
  <tendon> {tendons} </tendon>
  <actuator> {actuators} </actuator>
</mujoco>
"""


def load(units, tendon: str, mass: float = 1.0, gravity: float = 0.0, timestep: float = 0.001) -> ts.Model:
    """Each unit pulls a body of its own, whose coordinate is the unit's length; fibres have no damping, as there."""
    parts = {"numerics": "", "bodies": "", "tendons": "", "actuators": ""}
    for name in units:
        unit = UNITS[name]
        low, high = (unit["slack_length"] + share * unit["optimal_length"] for share in (0.5, 1.5))
        parts["numerics"] += "".join(
            f'<numeric name="muscle_{key}:{name}" data="{unit[key]!r}"/>' for key in ("pennation", "strain")
        )
        parts["bodies"] += f"""
            <site name="{name} begin"/>
            <body><joint type="slide" axis="1 0 0"/><geom size="0.01" mass="{mass!r}" contype="0"/>
            <site name="{name} end"/></body>"""
        parts["tendons"] += f'<spatial name="{name}"><site site="{name} begin"/><site site="{name} end"/></spatial>'
        parts["actuators"] += f"""
            <muscle name="{name}" tendon="{name}" lengthrange="{low!r} {high!r}" range="0.5 1.5"
                    force="{unit["force"]!r}" vmax="{unit["vmax"]!r}"/>"""
    import mujoco

    text = FILE.format(gravity=gravity, timestep=timestep, tendon=tendon, **parts)
    model = ts.load(mujoco.MjSpec.from_string(text))
    model.muscle_prm[:, -1] = 0.0
    return model


def of(rows, key: str) -> torch.Tensor:
    """A figure of every moment, a column per unit."""
    return torch.tensor([[row[key] for row in rows[unit]] for unit in UNITS], dtype=torch.float64).T


@pytest.fixture(scope="module", params=["elastic", "rigid"])
def moments(request):
    rows = MOMENTS[request.param]
    model = load(UNITS, request.param)
    sim = ts.Simulator(model, len(rows["soleus"]))
    act = of(rows, "activation")
    if request.param == "elastic":
        act = torch.cat([act, of(rows, "strain")], dim=1)
    state = ts.State(of(rows, "unit_length"), of(rows, "unit_velocity"), act)
    return sim, state, of(rows, "excitation"), rows


def test_moments_are_opensims(moments):
    sim, state, ctrl, rows = moments
    data = sim.forward(state, ctrl)
    fibres = data.fibres
    power = ts.Metabolics(sim.model, state.qpos)(fibres)
    ours = {
        "tendon_force": -data.actuator_force,
        "length": fibres.length,
        "velocity": fibres.velocity,
        "active_force": fibres.active_force,
        "passive_force": fibres.passive_force,
        "power": power,
        "power_without_negative_work": ts.Metabolics(sim.model, state.qpos, negative_work=False)(fibres),
    }
    for name, found in ours.items():
        theirs = of(rows, name)
        assert (found - theirs).abs().max() <= SAME * theirs.abs().max(), name
    # what the muscles give back, and what they must not
    assert power.max() > 100 and power.min() > -0.01


def test_fibres_and_power_are_differentiable(moments):
    sim, state, ctrl, _rows = moments
    metabolics = ts.Metabolics(sim.model, state.qpos, slow_twitch=0.3)
    scale = torch.linspace(0.5, 1.5, sim.model.nu, dtype=torch.float64)

    def power(qpos, qvel, act, ctrl):
        return (metabolics(sim.fibres(ts.State(qpos, qvel, act), ctrl)) * scale).sum(1)

    def forces(qpos, qvel, act, ctrl):
        x = sim.forward(ts.State(qpos, qvel, act), ctrl).fibres
        force = x.active_force - 0.3 * x.passive_force + 0.2 * x.isometric_force
        return ((force * 0.01 + 20 * x.length + x.velocity + x.excitation + x.activation) * scale).sum(1)

    # what a fibre's velocity changes by in a tendon's strain is a million times as much, and needs small steps
    elastic = state.act.shape[1] > sim.model.nu
    steps = {"qpos": 2e-7, "act": 1e-6 if elastic else 1e-4}
    arguments = {"qpos": state.qpos, "qvel": state.qvel, "act": state.act, "ctrl": 0.05 + 0.9 * ctrl}
    assert_gradient(power, arguments, steps)
    assert_gradient(forces, arguments, steps)


@pytest.mark.parametrize("name", MOTIONS)
def test_motions_are_opensims(name):
    """Three step lengths, extrapolated to none: the step is of first order, and what is left of third."""
    wanted, found = MOTIONS[name], []
    for substeps in (200, 400, 800, 1600):
        model = load(["vastus"], "elastic", wanted["mass"], wanted["load"] / wanted["mass"], 0.01 / substeps)
        model.opt.substeps = substeps
        sim = ts.Simulator(model)
        begin = [wanted["length"][0]], [0.0], [wanted["activation"], wanted["strain"][0]]
        state = ts.State(*(torch.tensor([x], dtype=torch.float64) for x in begin))
        ctrl, path = torch.full((1, 1), wanted["activation"], dtype=torch.float64), []
        for _ in wanted["times"][1:]:
            state = sim.step(state, ctrl)
            path.append(torch.cat([state.qpos[0], state.qvel[0], state.act[0, 1:]]))
        found.append(torch.stack(path).numpy())
    theirs = np.stack([wanted[key][1:] for key in ("length", "velocity", "strain")], axis=1)
    errors = [np.abs(x - theirs).max(0) for x in found]
    coarse = errors[2] > 1e-9
    assert np.all(np.abs(errors[2] / errors[3] - 2)[coarse] < 0.1), errors
    for order in (1, 2, 3):
        found = [(2**order * fine - coarse) / (2**order - 1) for coarse, fine in zip(found, found[1:])]
    assert np.all(np.abs(found[0] - theirs).max(0) <= SAME * np.abs(theirs).max(0)), np.abs(found[0] - theirs).max(0)


def released(strain: float, substeps: int) -> torch.Tensor:
    """The motion of a body that is let go of, its vastus on a tendon of that strain, 0: rigid; a row per 10 ms."""
    model = load(["vastus"], "elastic" if strain else "rigid", 5.0, 40.0, 0.01 / substeps)
    model.muscle_prm[:, -1], model.muscle_tendon_strain[:] = 0.05, strain
    model.opt.substeps = substeps
    sim = ts.Simulator(model)
    state = sim.initial_state()
    act = state.act.clone()
    act[:, 0] = 0.5
    state, path = sim.equilibrium(state._replace(qpos=state.qpos + 0.3, act=act)), []
    for _ in range(10):
        state = sim.step(state, torch.full((1, 1), 0.5, dtype=torch.float64))
        path.append(torch.cat([state.qpos[0], state.qvel[0]]))
    return torch.stack(path)


def test_stiff_tendons_become_rigid():
    """The distance from the motion with a rigid tendon shrinks as the strain."""
    rigid = released(0.0, 500)
    errors = [(released(strain, 500) - rigid).abs().amax(0) for strain in (8e-3, 4e-3, 2e-3)]
    for coarse, fine in zip(errors, errors[1:]):
        assert ((coarse / fine - 2).abs() < 0.25).all(), errors


def test_stiff_tendons_need_no_smaller_substeps():
    """With few substeps they err no more than with a rigid tendon, however stiff."""
    rigid = (released(0.0, 3) - released(0.0, 1000)).abs().amax(0)
    for strain in (2e-3, 1e-3, 1e-4):
        assert ((released(strain, 3) - released(strain, 500)).abs().amax(0) < 2 * rigid).all(), strain
