"""Policies played in MuJoCo, beside the same policies in our own step."""

import mujoco
import pytest
import torch
from torch import nn

from shac.errors import UserError
from shac.runs.evaluate import evaluate
from shac.task import Task

XML = """<mujoco><compiler angle="radian"/><option timestep="0.005"/><worldbody><geom type="plane" size="5 5 .1"/>
<body pos="0 0 1"><joint name="h" axis="0 1 0" damping="0.1"/>
<geom type="capsule" fromto="0 0 0 0 0 .5" size=".03"/></body>
<body pos="0 2 {height}"><freejoint/><geom size=".1"/></body></worldbody>
<actuator><motor joint="h" gear="2"/></actuator></mujoco>"""


class Swing(Task):
    """A pendulum, and a ball in its own place: a step is a hundredth of a second, two steps of the file."""

    asset = mujoco.MjModel.from_xml_string(XML.format(height=0.1))
    episode_length = 100
    num_obs = 2
    num_actions = 1

    def simulator(self, num_envs, device=None):
        sim = super().simulator(num_envs, device)
        sim.model.opt.timestep, sim.model.opt.substeps = 0.001, 10
        return sim

    def observe(self, state, action):
        return torch.cat((state.qpos[:, :1], state.qvel[:, :1]), dim=1)

    def reward(self, state, obs, action):
        return obs[:, 0].cos() - 0.1 * action[:, 0] ** 2 + state.qpos[:, 3]

    def reset(self, num, generator, sim, stochastic=True):
        state = self.nominal(num, sim)
        state.qpos[:, 0] = torch.rand(num, generator=generator, dtype=sim.dtype) - 0.5
        return state


class Linear(nn.Module):
    def forward(self, obs, generator=None):
        return (obs @ obs.new_tensor([[-2.0], [-0.5]])).tanh()


def play(task: Task, **options):
    return evaluate(task, Linear(), 8, **options).returns


def test_returns_agree_as_steps_become_short():
    ours = play(Swing(), substeps=100)
    assert (play(Swing(), engine="mujoco", substeps=100) - ours).abs().max() < 2e-3 * ours.abs().mean()
    # the file's two steps, not the simulator's ten
    differences = [
        (play(Swing(), engine="mujoco", substeps=n) - play(Swing(), engine="mujoco")).abs().max() for n in (2, 10)
    ]
    assert differences[0] == 0 < differences[1]


def test_the_tasks_model_stays_as_it_is():
    play(Swing(), engine="mujoco", substeps=7)
    assert Swing.asset.opt.timestep == 0.005


class Unstable(Swing):
    asset = mujoco.MjModel.from_xml_string(XML.format(height=-50).replace('size=".1"', 'size=".1" solref="-1e12 0"'))


class Elsewhere(Swing):
    """The simulator's model does not come from the asset."""

    def simulator(self, num_envs, device=None):
        sim = super().simulator(num_envs, device)
        self.asset = self.other
        return sim


class Saved(Elsewhere):
    other = "model.npz"


class Other(Elsewhere):
    other = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>")


class DeGroote(Swing):
    asset = "humanoid_mtu"

    def reset(self, num, generator, sim, stochastic=True):
        return self.nominal(num, sim)


@pytest.mark.parametrize(
    ("task", "message"),
    [(Saved, "cannot simulate Saved.asset: .*model.npz"), (Other, "nq, nv, nu, na"), (DeGroote, "De Groote")],
)
def test_what_mujoco_cannot_play_is_refused(task, message):
    with pytest.raises(UserError, match=message):
        play(task(), engine="mujoco")


def test_a_world_that_explodes_is_an_error_and_not_a_new_beginning():
    with pytest.raises(FloatingPointError, match="world 0 has become unstable"):
        play(Unstable(), engine="mujoco")
