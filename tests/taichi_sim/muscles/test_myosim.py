"""Tendons and muscles of the published leg and arm models of `myo-sim`: MuJoCo's numbers in random states."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch
from batch import mujoco_data, tendon_jacobian
from substituted import substitution

import taichi_sim as ts

myo_sim = pytest.importorskip("myo_sim", reason="pip install --no-deps myo-sim==0.2.4")

# MuJoCo's remark on how the package composes its models
pytestmark = pytest.mark.filterwarnings("ignore:Attaching a spec with an empty prefix")

WORLDS = 6
RELATIVE = 1e-9


@pytest.fixture(scope="module", params=["myolegs", "myoarm_r"])
def body(request, tmp_path_factory):
    """MuJoCo's model, a Simulator, and random states and controls that both can be in."""
    with pytest.MonkeyPatch.context() as patch:
        # where MuJoCo writes its remark down once more
        patch.chdir(tmp_path_factory.mktemp("log"))
        spec = myo_sim.load_spec(request.param)
    # contact is none of what is compared, and compiles as long as all the rest
    spec.option.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CONTACT)
    mj_model = spec.compile()
    sim = ts.Simulator(ts.load(mj_model), WORLDS)
    rng = np.random.default_rng(0)
    qpos, qvel = zip(*(random_motion(mj_model, rng) for _ in range(WORLDS)), strict=True)
    # activations and controls also beyond their range
    act, ctrl = rng.uniform(-0.1, 1.1, (WORLDS, mj_model.na)), rng.uniform(-0.2, 1.2, (WORLDS, mj_model.nu))
    state = ts.State(*(torch.tensor(np.array(x)) for x in (qpos, qvel, act)))
    return mj_model, sim, state, torch.tensor(ctrl)


def random_motion(mj_model: mujoco.MjModel, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """qpos all over the joints' ranges and somewhat beyond, and qvel; both as the joint equalities want them."""
    qpos, qvel = mj_model.qpos0.copy(), rng.normal(size=mj_model.nv)
    for kind, adr, (low, high) in zip(mj_model.jnt_type, mj_model.jnt_qposadr, mj_model.jnt_range, strict=True):
        if kind == mujoco.mjtJoint.mjJNT_FREE:
            qpos[adr : adr + 7] = rng.normal(size=7)
            qpos[adr + 3 : adr + 7] /= np.linalg.norm(qpos[adr + 3 : adr + 7])
        else:
            qpos[adr] = rng.uniform(low - 0.1 * (high - low), high + 0.1 * (high - low))
    substitution(mj_model, qpos, qvel)
    return qpos, qvel


def assert_relative(ours: torch.Tensor, theirs: np.ndarray, name: str):
    error, scale = np.abs(ours.numpy() - theirs).max(), np.abs(theirs).max()
    assert scale > 0 and error <= RELATIVE * scale, f"{name}: {error / scale:.3g}"


def test_forward_gives_the_numbers_of_mujoco(body):
    mj_model, sim, state, ctrl = body
    data = sim.forward(state, ctrl)
    names = "ten_length ten_velocity actuator_length actuator_velocity actuator_force act_dot"
    for world in range(WORLDS):
        theirs = mujoco_data(mj_model, state, ctrl, world)
        assert (theirs.wrap_obj >= 0).any(), "no tendon wraps here"
        for name in names.split():
            assert_relative(getattr(data, name)[world], getattr(theirs, name), name)
        assert_relative(data.ten_J[world], tendon_jacobian(mj_model, theirs), "ten_J")
