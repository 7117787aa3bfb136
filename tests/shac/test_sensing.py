"""A task that observes what its simulator says of a state."""

from __future__ import annotations

import mujoco
import pytest
import torch

import shac
from shac.env import Env
from shac.rehearsal import rehearse

XML = """
<mujoco><option timestep="0.01"><flag contact="disable"/></option>
<worldbody><body><joint name="hinge" axis="0 1 0" damping=".05"/><geom type="capsule" fromto="0 0 0 0 0 .5" size=".02"/>
  <site name="tip" pos="0 0 .5"/></body></worldbody>
<actuator><motor joint="hinge" gear="3"/></actuator>
<sensor><framelinvel name="speed" objtype="site" objname="tip"/></sensor></mujoco>"""


class Swing(shac.Task):
    """A rod that is to swing fast; what is observed is the velocity of its tip, along x and z."""

    asset = mujoco.MjModel.from_xml_string(XML)
    episode_length, num_obs, num_actions = 20, 2, 1

    def observe(self, state, action):
        angle, rate = state.qpos, state.qvel
        return 0.5 * rate * torch.cat((angle.cos(), -angle.sin()), dim=1)

    def reward(self, state, obs, action):
        return obs.square().sum(1)

    def reset(self, num, generator, sim, stochastic=True):
        state = self.nominal(num, sim)
        return state._replace(qvel=torch.rand(num, 1, generator=generator, dtype=sim.dtype, device=sim.device))


class Sensing(Swing):
    def simulator(self, num_envs, device=None):
        self.sim = super().simulator(num_envs, device)
        return self.sim

    def observe(self, state, action):
        return self.sim.forward(state).sensor("speed")[:, ::2]


def episode(task: shac.Task) -> tuple[torch.Tensor, torch.Tensor]:
    """Rewards of steps with the same actions, and their gradient."""
    env = Env(task, 3)
    actions = torch.linspace(-1, 1, 30, dtype=env.dtype, device=env.device).reshape(10, 3, 1).requires_grad_()
    env.cut()
    rewards = torch.stack([env.step(action)[1] for action in actions])
    return rewards, torch.autograd.grad((rewards * torch.arange(3).to(rewards)).sum(), actions)[0]


def test_a_sensor_has_the_value_and_the_gradient_of_its_formula():
    for ours, theirs in zip(episode(Sensing()), episode(Swing()), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_it_is_rehearsed_like_others():
    assert rehearse(Env(Sensing(), 3)) is None


def test_a_simulator_of_other_worlds_is_one_clear_error():
    task = Sensing()
    env = Env(task, 3)
    Env(task, 2)
    with pytest.raises(shac.UserError, match=r"Sensing.observe failed: ValueError: qpos must have shape \(2, 1\)"):
        env.step(torch.zeros(3, 1, dtype=env.dtype))
