"""Friction coefficients that differ between worlds: MuJoCo's accelerations, Coulomb's force, and gradients."""

import mujoco
import numpy as np
import pytest
import torch
from batch import mujoco_data
from differences import assert_gradient, rollout, weighted

import taichi_sim as ts

NAMES = ("pair_mu", "pair_spin_mu", "pair_roll_mu")
WORLDS = 12

# What slides, spins, rolls and touches another; the bead's friction differs between two directions where that is
# possible, and one sphere has none.
HEAP = """<mujoco><option timestep="0.002" cone="{}" impratio="1.7" iterations="200" tolerance="0" ls_iterations="200"
  ls_tolerance="1e-10"/>
<default><geom condim="{}" friction=".6 .02 .01"/></default>
<worldbody><geom name="floor" type="plane" size="2 2 1" friction="0 0 0"/>
<body pos="0 0 .12"><freejoint/><geom type="capsule" size=".05 .1" euler="80 10 0"/></body>
<body pos="0.02 0 .2"><freejoint/><geom type="sphere" size=".06"/></body>
<body pos=".3 0 .06"><freejoint/><geom name="bead" type="sphere" size=".06"/></body>
<body pos=".6 0 .06"><freejoint/><geom type="sphere" size=".06" condim="1" priority="1"/></body>
</worldbody>
<contact><pair geom1="floor" geom2="bead" condim="6" friction="{}"/></contact></mujoco>"""


@pytest.fixture(scope="module", params=["pyramidal", "elliptic", "penalty"])
def case(request):
    """MuJoCo's model, a simulator, and states in which things touch."""
    cone, law = ("pyramidal", "penalty") if request.param == "penalty" else (request.param, "mujoco")
    uneven = ".5 .8 .02 .01 .03" if cone == "elliptic" else ".5 .5 .02 .01 .01"
    body = mujoco.MjModel.from_xml_string(HEAP.format(cone, 4 if cone == "pyramidal" else 6, uneven))
    rng, states, data = np.random.default_rng(0), [], mujoco.MjData(body)
    while len(states) < WORLDS:
        mujoco.mj_resetData(body, data)
        data.qvel[:] = rng.normal(size=body.nv)
        mujoco.mj_step(body, data, int(rng.integers(5, 80)))
        if data.ncon > 2:
            states.append((data.qpos.copy(), data.qvel.copy()))
    qpos, qvel = (torch.tensor(np.array(x)) for x in zip(*states, strict=True))
    model = ts.load(body)
    # by MuJoCo's law as its Euler step without damping
    model.opt.constraint, model.opt.theta, model.opt.substeps = law, 0.5 * (law == "penalty"), 1
    sim = ts.Simulator(model, WORLDS, parameters=NAMES)
    return body, sim, ts.State(qpos, qvel, torch.zeros(WORLDS, 0, dtype=torch.float64))


def drawn(body: mujoco.MjModel, model: ts.Model) -> tuple[np.ndarray, dict[str, torch.Tensor]]:
    """Coefficients of each world's geoms (the last ones are the named pair's), and those of its pairs by name."""
    scale = np.random.default_rng(1).uniform(0.3, 1.6, (WORLDS, body.ngeom + 1, 3))
    geoms = scale * np.concatenate([body.geom_friction, body.pair_friction[:, [0, 2, 3]]])
    one, two = model.pair_geom1, model.pair_geom2
    # the bead on the floor, and whatever has no friction of that kind
    own = (body.geom_type[one] == mujoco.mjtGeom.mjGEOM_PLANE) & (
        two == mujoco.mj_name2id(body, mujoco.mjtObj.mjOBJ_GEOM, "bead")
    )
    pairs = np.where(own[:, None], geoms[:, -1:], np.maximum(geoms[:, one], geoms[:, two]))
    values = {name: pairs[..., k] * (getattr(model, name) > 0) for k, name in enumerate(NAMES)}
    return geoms, {name: torch.tensor(x) for name, x in values.items()}


def test_each_world_has_its_own(case):
    body, sim, state = case
    if sim.model.opt.constraint == "penalty":
        pytest.skip("MuJoCo has another law; see Coulomb's below")
    geoms, rough = drawn(body, sim.model)
    none = torch.zeros(WORLDS, 0, dtype=torch.float64)
    ours = sim.forward(state, none, rough).qacc
    for world, coefficients in enumerate(geoms):
        body.geom_friction[:] = coefficients[:-1]
        body.pair_friction[0, [0, 2, 3]] = coefficients[-1]
        if sim.model.opt.cone == "pyramidal":
            body.pair_friction[0, [1, 4]] = body.pair_friction[0, [0, 3]]
        expected = mujoco_data(body, state, none, world).qacc
        np.testing.assert_allclose(ours[world].numpy(), expected, rtol=0, atol=1e-10 * (1 + np.abs(expected).max()))


def test_gradients(case):
    body, sim, state = case
    none = torch.zeros(WORLDS, 0, dtype=torch.float64)
    rough = drawn(body, sim.model)[1]

    def end(**share):
        values = {name: share[name] * x for name, x in rough.items()}
        return weighted(rollout(sim, state.qpos, state.qvel, none, 2, values), 1)

    # what turns moves little: its differences drown in rounding with smaller steps
    assert_gradient(end, {name: torch.ones_like(x) for name, x in rough.items()}, dict.fromkeys(NAMES, 1e-4))


BALL = """<mujoco><option timestep="0.002"/><worldbody><geom type="plane" size="2 2 1"/>
<body pos="0 0 .099"><freejoint/><geom type="sphere" size=".1"/></body></worldbody></mujoco>"""


def test_what_slides_is_held_by_coulombs_force_by_the_penalty():
    model = ts.load(mujoco.MjSpec.from_string(BALL))
    model.opt.constraint = "penalty"
    sim = ts.Simulator(model, 4, parameters=("pair_mu",))
    state = sim.initial_state()
    state.qvel[:, 0] = 1.0
    mu = torch.tensor([[0.0], [0.2], [0.7], [1.3]], dtype=torch.float64)
    force = sim.forward(state, parameters={"pair_mu": mu}).xfrc_contact[:, 1, :3]
    assert force[0, 2] > 1
    torch.testing.assert_close(-force[:, 0], mu[:, 0] * force[:, 2], rtol=1e-9, atol=0)
