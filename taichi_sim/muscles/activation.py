"""Activation dynamics: d act/dt, the step of act, and its adjoint.

| dyntype | act_dot | step |
|---|---|---|
| integrator | ctrl | Euler |
| filter | (ctrl - act) / tau | Euler |
| filterexact | (ctrl - act) / tau | exact |
| muscle | `laws.act_dot` | exact for the rate at its beginning (`laws.advance`); by MuJoCo's integrators Euler |

A force of a substep comes from the activation at its beginning. Limits (`actlimited`) clamp what comes out.
"""

from taichi_sim.bodies.integrate import THETA
from taichi_sim.muscles import laws
from taichi_sim.muscles.actuator import adjoint_control, control
from taichi_sim.runtime import procedure, ti
from taichi_sim.spatial import exp
from taichi_sim.types import DYN_FILTER, DYN_FILTEREXACT, DYN_INTEGRATOR, DYN_MUSCLE

# Smallest time constant [s], MuJoCo's.
_MIN_TAU = 1e-15


@ti.func
def constants(m: ti.template(), e, u):
    """Time constants [s] and the width of their transition."""
    row = e * m.per_block
    return m.actuator.timeconst[0][row, u], m.actuator.timeconst[1][row, u], m.actuator.act_smooth[u]


@ti.func
def rate(m: ti.template(), d: ti.template(), e, u):
    """act_dot of actuator u."""
    a = d.act[e, m.actuator.actadr[u]]
    c = control(m, d, e, u)
    tau, tau_deact, smooth = constants(m, e, u)
    dot = c
    if ti.static(DYN_FILTER in m.actuator.dynamics or DYN_FILTEREXACT in m.actuator.dynamics):
        if m.actuator.dyntype[u] != DYN_INTEGRATOR:
            dot = (c - a) / ti.max(tau, _MIN_TAU)
    if ti.static(DYN_MUSCLE in m.actuator.dynamics):
        if m.actuator.dyntype[u] == DYN_MUSCLE:
            dot = laws.act_dot(m.actuator.activation_laws, m.actuator.muscle_law[u], a, c, tau, tau_deact, smooth)
    return dot


@ti.func
def next_act(m: ti.template(), d: ti.template(), e, u, h):
    """The activation a substep on, before it is clamped; its derivatives in act, control and time constants."""
    a = d.act[e, m.actuator.actadr[u]]
    c = control(m, d, e, u)
    tau, tau_deact, smooth = constants(m, e, u)
    y = a + h * c
    by_a = a * 0.0 + 1.0
    by_c = a * 0.0 + h
    by_tau = a * 0.0
    by_deact = a * 0.0
    if ti.static(DYN_FILTER in m.actuator.dynamics):
        if m.actuator.dyntype[u] == DYN_FILTER:
            k = h / ti.max(tau, _MIN_TAU)
            y = a + (c - a) * k
            by_a = 1.0 - k
            by_c = k
            by_tau = -(c - a) * k / ti.max(tau, _MIN_TAU)
    if ti.static(DYN_FILTEREXACT in m.actuator.dynamics):
        if m.actuator.dyntype[u] == DYN_FILTEREXACT:
            k = h / ti.max(tau, _MIN_TAU)
            by_a = exp(-k)
            by_c = 1.0 - by_a
            y = c + (a - c) * by_a
            by_tau = (a - c) * by_a * k / ti.max(tau, _MIN_TAU)
    if ti.static(DYN_MUSCLE in m.actuator.dynamics):
        if m.actuator.dyntype[u] == DYN_MUSCLE:
            euler = ti.static(m.integrator != THETA)
            y, by_a, by_c, by_tau, by_deact = laws.advance(
                m.actuator.activation_laws, euler, m.actuator.muscle_law[u], a, c, h, tau, tau_deact, smooth
            )
    return y, by_a, by_c, by_tau, by_deact


@procedure
def advance(m: ti.template(), d: ti.template(), e, h):
    """act -> act a substep on."""
    if ti.static(m.actuator.enabled and len(m.actuator.dynamics) > 0):
        for u in range(m.nu):
            i = m.actuator.actadr[u]
            if i >= 0:
                y, _, _, _, _ = next_act(m, d, e, u, h)
                d.act[e, i] = ti.min(ti.max(y, m.actuator.act_lo[u]), m.actuator.act_hi[u])


@procedure
def adjoint_advance(m: ti.template(), d: ti.template(), e, h):
    """grad_act of the next activation -> of this one; grad_ctrl += its part."""
    if ti.static(m.actuator.enabled and len(m.actuator.dynamics) > 0):
        for u in range(m.nu):
            i = m.actuator.actadr[u]
            if i >= 0:
                y, by_a, by_c, by_tau, by_deact = next_act(m, d, e, u, h)
                free = (y >= m.actuator.act_lo[u]) & (y <= m.actuator.act_hi[u])
                bar = d.grad_act[e, i]
                bar = ti.select(free, bar, bar * 0.0)
                d.grad_act[e, i] = bar * by_a
                adjoint_control(m, d, e, u, bar * by_c)
                if ti.static(m.fit):
                    m.actuator.grad_timeconst[0][e, u] = m.actuator.grad_timeconst[0][e, u] + bar * by_tau
                    m.actuator.grad_timeconst[1][e, u] = m.actuator.grad_timeconst[1][e, u] + bar * by_deact
