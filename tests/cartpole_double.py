"""A torch cart-pole with textbook equations of motion, behind the interface of `taichi_sim.Simulator`.

It lets the learner be tested without the engine, in float64 and on any initial state, and its equations are in closed
form, so that it can serve as an oracle. `--model` takes this file, too.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch

from shac.models.cartpole import CartPole
from taichi_sim.types import State

GRAVITY = 9.81
CART_MASS = 50.0
POLE_MASS = 2.5
POLE_SIZE = (0.05, 0.05, 1.0)
ARMATURE = 0.01
DAMPING = 1.0
GEAR = 1000.0


class CartPoleDouble:
    """A cart on a rail and a uniform pole (a box) on its hinge; explicit in the forces, symplectic Euler.

    With theta the angle from upright, l the distance of the pole's centre of mass from the hinge and I its moment of
    inertia about that centre (e.g. Barto, Sutton and Anderson 1983, with the pole's inertia in place of their point's):

        (M + m + a) x'' + m l cos(theta) theta''     = F + m l sin(theta) theta'^2 - b x'
        m l cos(theta) x'' + (m l^2 + I + a) theta'' = m g l sin(theta) - b theta'

    a is the armature, b the damping of either joint. The rail has no ends.
    """

    def __init__(self, num_worlds: int, dtype: torch.dtype = torch.float32, substeps: int = 4):
        self.num_worlds = num_worlds
        self.dtype = dtype
        self.device = torch.get_default_device()
        self.model = SimpleNamespace(nq=2, nv=2, nu=1, na=0)
        self.substeps = substeps
        self.timestep = 1 / 60 / substeps

    def initial_state(self) -> State:
        zeros = torch.zeros(self.num_worlds, 2, dtype=self.dtype)
        return State(zeros, zeros.clone(), zeros[:, :0])

    def acceleration(self, qpos: torch.Tensor, qvel: torch.Tensor, ctrl: torch.Tensor) -> torch.Tensor:
        """(x'', theta''), (num_worlds, 2)."""
        theta = qpos[:, 1]
        sin, cos = theta.sin(), theta.cos()
        xdot, thetadot = qvel.unbind(1)
        half = POLE_SIZE[2] / 2
        inertia = POLE_MASS * (POLE_SIZE[0] ** 2 + POLE_SIZE[2] ** 2) / 12
        m11 = CART_MASS + POLE_MASS + ARMATURE
        m12 = POLE_MASS * half * cos
        m22 = POLE_MASS * half**2 + inertia + ARMATURE
        force = GEAR * ctrl[:, 0] + POLE_MASS * half * sin * thetadot.square() - DAMPING * xdot
        torque = POLE_MASS * GRAVITY * half * sin - DAMPING * thetadot
        determinant = m11 * m22 - m12.square()
        return torch.stack(
            ((m22 * force - m12 * torque) / determinant, (m11 * torque - m12 * force) / determinant), dim=1
        )

    def step(self, state: State, ctrl: torch.Tensor) -> State:
        qpos, qvel, act = state
        for _ in range(self.substeps):
            qvel = qvel + self.timestep * self.acceleration(qpos, qvel, ctrl)
            qpos = qpos + self.timestep * qvel
        return State(qpos, qvel, act)


class CartPoleOnDouble(CartPole):
    """The CartPole task on the double, in float32 as in training."""

    def simulator(self, num_envs: int, device: str | None = None) -> CartPoleDouble:
        return CartPoleDouble(num_envs)
