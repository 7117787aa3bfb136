"""What muscles burn: Bhargava et al. 2004, in the smooth form of OpenSim's Bhargava2004SmoothedMuscleMetabolics."""

from __future__ import annotations

import math

import torch

from taichi_sim.readout.fibres import FibreData
from taichi_sim.types import GAIN_MUSCLE, Model

# Heat rates of activation and of maintenance [W/kg], of slow and of fast fibres (Bhargava et al. 2004, table 1).
_ACTIVATION, _MAINTENANCE = (40.0, 133.0), (74.0, 111.0)
# Heat of shortening per force and velocity (Anderson 1999), the least heat rate [W/kg] (Umberger et al. 2003).
_SHORTENING, _LEAST_HEAT = 0.25, 1.0
# Steepness of the switch between shortening and lengthening [s/m], and of those between powers [1/W]: OpenSim's.
_SPEED_SWITCH, _POWER_SWITCH = 10.0, 10.0


class Metabolics:
    """Metabolic power of each muscle [W], differentiable: heat of activation, maintenance and shortening, and work.

    Of OpenSim's alternatives its defaults: work of a muscle that is stretched counts (it gives power back, down to
    nothing) unless `negative_work` is False, a muscle's power is not negative and its heat rate at least 1 W/kg, but
    for what its smooth switches leave, some milliwatts.

    Args:
        model: whose muscles.
        like: a tensor of the simulator's precision and device, such as `sim.initial_state().qpos`.
        slow_twitch: share of slow fibres, a number or one per actuator (nu,).
        specific_tension: peak force per area of the fibres [Pa].
        density: of muscle [kg/m^3].
        negative_work: whether work on a muscle that is stretched counts (OpenSim: include_negative_mechanical_work).

    | attribute | meaning |
    |---|---|
    | mass | of each muscle, F0 / specific_tension * density * optimal length; 0 of other actuators [kg], (nu,) |
    | basal | power that a body at rest needs, 1.2 W/kg, which belongs to no muscle [W] |
    """

    def __init__(
        self,
        model: Model,
        like: torch.Tensor,
        *,
        slow_twitch: float = 0.5,
        specific_tension: float = 0.6e6,
        density: float = 1059.7,
        negative_work: bool = True,
    ):
        def tensor(values):
            return torch.tensor(values, dtype=like.dtype, device=like.device)

        self.mass = tensor(model.muscle_force * model.muscle_optimal_length * density / specific_tension)
        self.mass = self.mass * tensor(model.actuator_gaintype == GAIN_MUSCLE)
        self.basal = 1.2 * float(model.body_mass.sum())
        self._negative_work = negative_work
        self._optimal = tensor(model.muscle_optimal_length)
        slow = tensor(slow_twitch)
        if ((slow < 0) | (slow > 1)).any() or slow.shape not in ((), (model.nu,)):
            raise ValueError(f"slow_twitch must be shares from 0 to 1, one or {model.nu}, got {slow_twitch!r}")
        if not (specific_tension > 0 and density > 0):
            raise ValueError(f"specific_tension and density must be positive, got {specific_tension!r}, {density!r}")
        # of slow and of fast fibres, per share of them that is excited [W]
        self._slow = [self.mass * slow * rates[0] for rates in (_ACTIVATION, _MAINTENANCE)]
        self._fast = [self.mass * (1 - slow) * rates[1] for rates in (_ACTIVATION, _MAINTENANCE)]

    def __call__(self, fibres: FibreData) -> torch.Tensor:
        """Metabolic power [W], (N, nu); it begins at 1 W/kg, of a muscle that does nothing.

        Args:
            fibres: `sim.fibres(state, ctrl)`, or `sim.forward(state, ctrl).fibres`.
        """
        angle = 0.5 * math.pi * fibres.excitation
        slow, fast = torch.sin(angle), 1 - torch.cos(angle)
        activation, maintenance = (a * slow + b * fast for a, b in zip(self._slow, self._fast, strict=True))
        x = fibres.length / self._optimal
        # at 0.5 optimal lengths and below half, at 1 all, at 1.5 and beyond nothing; straight between
        share = torch.minimum(x.clamp(min=0.5), (3 - 2 * x).clamp(min=0))
        total = fibres.active_force + fibres.passive_force
        shortening = -_SHORTENING * total * fibres.velocity * _below(fibres.velocity, _SPEED_SWITCH)
        work = -fibres.active_force * fibres.velocity
        if not self._negative_work:
            work = work * _below(fibres.velocity, _SPEED_SWITCH)
        heat = activation + maintenance * share + shortening
        # what is missing for a power that is not negative, and then for the least heat rate
        power = heat + work
        heat = heat - power * _below(power, _POWER_SWITCH)
        least = _LEAST_HEAT * self.mass
        return heat + (least - heat) * _below(heat - least, _POWER_SWITCH) + work


def cost_of_transport(power: torch.Tensor, timestep: float, mass: float, distance: torch.Tensor) -> torch.Tensor:
    """Energy per mass and distance [J/kg/m], (N,).

    Args:
        power: metabolic power after each of T control steps [W], (T, N): the muscles' sum, and the basal one if it
            shall count.
        timestep: of a control step [s] (`model.opt.control_timestep`).
        mass: of the body [kg].
        distance: that each world has come in the T steps [m], (N,).
    """
    return power.sum(0) * timestep / (mass * distance)


def _below(x: torch.Tensor, steepness: float) -> torch.Tensor:
    """1 where x is below 0, 0 above, smoothly."""
    return 0.5 - 0.5 * torch.tanh(steepness * x)
