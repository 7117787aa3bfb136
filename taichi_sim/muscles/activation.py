"""Activation dynamics: d act/dt, the step of act, and its adjoint.

| dyntype | act_dot | step |
|---|---|---|
| integrator | ctrl | Euler |
| filter | (ctrl - act) / tau | Euler |
| filterexact | (ctrl - act) / tau | exact |
| muscle | `laws.act_dot` | exact for the rate at its beginning (`laws.advance`); by MuJoCo's integrators Euler |

A force of a substep comes from the activation at its beginning. Limits (`actlimited`) clamp what comes out. In Runge
and Kutta's method a force of a stage comes from the activation there, and a step goes along the mean of the stages'
rates; what comes out is clamped, and what is exact is so along that mean.
"""

from taichi_sim.bodies.integrators.choice import THETA
from taichi_sim.bodies.integrators.runge_kutta import reach, weight
from taichi_sim.muscles import laws
from taichi_sim.muscles.actuator import adjoint_control, control
from taichi_sim.runtime import procedure, ti
from taichi_sim.spatial import exp
from taichi_sim.types import DYN_FILTER, DYN_FILTEREXACT, DYN_MUSCLE

# Smallest time constant [s], MuJoCo's.
_MIN_TAU = 1e-15


@ti.func
def constants(m: ti.template(), e, u):
    """Time constants [s] and the width of their transition."""
    row = e * m.per_block
    return m.actuator.timeconst[0][row, u], m.actuator.timeconst[1][row, u], m.actuator.act_smooth[u]


@ti.func
def rate(m: ti.template(), d: ti.template(), e, u, muscles: ti.template()):
    """act_dot of actuator u; its derivatives in act, control and time constants.

    Without `muscles` theirs are not compiled, and mean nothing.
    """
    a = d.act[e, m.actuator.actadr[u]]
    c = control(m, d, e, u)
    tau, tau_deact, smooth = constants(m, e, u)
    dot = c
    by_a = a * 0.0
    by_c = a * 0.0 + 1.0
    by_tau = a * 0.0
    by_deact = a * 0.0
    if ti.static(DYN_FILTER in m.actuator.dynamics or DYN_FILTEREXACT in m.actuator.dynamics):
        if (m.actuator.dyntype[u] == DYN_FILTER) | (m.actuator.dyntype[u] == DYN_FILTEREXACT):
            by_c = 1.0 / ti.max(tau, _MIN_TAU)
            by_a = -by_c
            dot = (c - a) / ti.max(tau, _MIN_TAU)
            by_tau = -dot * by_c
    if ti.static(muscles and DYN_MUSCLE in m.actuator.dynamics):
        if m.actuator.dyntype[u] == DYN_MUSCLE:
            dot, by_a, by_c, by_tau, by_deact = laws.act_dot(
                m.actuator.activation_laws, m.actuator.muscle_law[u], a, c, tau, tau_deact, smooth
            )
    return dot, by_a, by_c, by_tau, by_deact


@ti.func
def along(m: ti.template(), d: ti.template(), e, u, h):
    """The time for which a step follows its rate, shorter than h where the rate is known to decay; and its slope in the
    time constant."""
    by_tau = d.act[e, m.actuator.actadr[u]] * 0.0
    time = by_tau + h
    if ti.static(DYN_FILTEREXACT in m.actuator.dynamics):
        if m.actuator.dyntype[u] == DYN_FILTEREXACT:
            tau, _, _ = constants(m, e, u)
            tau = ti.max(tau, _MIN_TAU)
            decay = exp(-h / tau)
            time = tau * (1.0 - decay)
            by_tau = 1.0 - decay - decay * h / tau
    return time, by_tau


@ti.func
def next_act(m: ti.template(), d: ti.template(), e, u, h):
    """The activation a time h on, before it is clamped; its derivatives in act, control and time constants."""
    a = d.act[e, m.actuator.actadr[u]]
    # our own step does not take muscles along their rate
    frozen = ti.static(m.integrator == THETA and DYN_MUSCLE in m.actuator.dynamics)
    dot, dot_a, dot_c, dot_tau, dot_deact = rate(m, d, e, u, not frozen)
    time, time_tau = along(m, d, e, u, h)
    y = a + time * dot
    by_a = 1.0 + time * dot_a
    by_c = time * dot_c
    by_tau = time * dot_tau + time_tau * dot
    by_deact = time * dot_deact
    if ti.static(frozen):
        if m.actuator.dyntype[u] == DYN_MUSCLE:
            tau, tau_deact, smooth = constants(m, e, u)
            y, by_a, by_c, by_tau, by_deact = laws.advance(
                m.actuator.activation_laws,
                m.actuator.muscle_law[u],
                a,
                control(m, d, e, u),
                h,
                tau,
                tau_deact,
                smooth,
            )
    return y, by_a, by_c, by_tau, by_deact


@ti.func
def clamped(m: ti.template(), u, y):
    """An activation within its limits."""
    return ti.min(ti.max(y, m.actuator.act_lo[u]), m.actuator.act_hi[u])


@ti.func
def adjoint_clamped(m: ti.template(), u, y, bar):
    """The adjoint of `clamped`: what was clamped has no gradient."""
    free = (y >= m.actuator.act_lo[u]) & (y <= m.actuator.act_hi[u])
    return ti.select(free, bar, bar * 0.0)


@procedure
def adjoint_inputs(m: ti.template(), d: ti.template(), e, u, ctrl_bar, tau_bar, tau_deact_bar):
    """Adds the adjoints of control and time constants to what is known of them."""
    adjoint_control(m, d, e, u, ctrl_bar)
    if ti.static(m.fit):
        m.actuator.grad_timeconst[0][e, u] = m.actuator.grad_timeconst[0][e, u] + tau_bar
        m.actuator.grad_timeconst[1][e, u] = m.actuator.grad_timeconst[1][e, u] + tau_deact_bar


@procedure
def advance(m: ti.template(), d: ti.template(), e, h):
    """act -> act a substep on."""
    if ti.static(m.actuator.enabled and len(m.actuator.dynamics) > 0):
        for u in range(m.nu):
            i = m.actuator.actadr[u]
            if i >= 0:
                y, _, _, _, _ = next_act(m, d, e, u, h)
                d.act[e, i] = clamped(m, u, y)


@procedure
def adjoint_advance(m: ti.template(), d: ti.template(), e, h):
    """grad_act of the next activation -> of this one; grad_ctrl += its part."""
    if ti.static(m.actuator.enabled and len(m.actuator.dynamics) > 0):
        for u in range(m.nu):
            i = m.actuator.actadr[u]
            if i >= 0:
                y, by_a, by_c, by_tau, by_deact = next_act(m, d, e, u, h)
                bar = adjoint_clamped(m, u, y, d.grad_act[e, i])
                d.grad_act[e, i] = bar * by_a
                adjoint_inputs(m, d, e, u, bar * by_c, bar * by_tau, bar * by_deact)


@ti.func
def added(m: ti.template(), d: ti.template(), e, u, s):
    """The rate of actuator u at stage s of Runge-Kutta's, whose share is added to sum_act_dot; at stage 0 base_act is
    where the step begins."""
    i = m.actuator.actadr[u]
    dot, _, _, _, _ = rate(m, d, e, u, True)
    if s == 0:
        d.actuator.base_act[e, i], d.actuator.sum_act_dot[e, i] = d.act[e, i], dot * 0.0
    d.actuator.sum_act_dot[e, i] = d.actuator.sum_act_dot[e, i] + weight(s) * dot
    return dot


@procedure
def add_rates(m: ti.template(), d: ti.template(), e, s):
    """`added` of all."""
    if ti.static(m.actuator.enabled and len(m.actuator.dynamics) > 0):
        for u in range(m.nu):
            if m.actuator.actadr[u] >= 0:
                added(m, d, e, u, s)


@procedure
def stage(m: ti.template(), d: ti.template(), e, h, s):
    """act at stage s of Runge-Kutta's -> that of the next stage; after the last one, 3, that after the step."""
    if ti.static(m.actuator.enabled and len(m.actuator.dynamics) > 0):
        for u in range(m.nu):
            i = m.actuator.actadr[u]
            if i >= 0:
                dot = added(m, d, e, u, s)
                y = d.actuator.base_act[e, i] + h * reach(s) * dot
                if s == 3:
                    time, _ = along(m, d, e, u, h)
                    y = d.actuator.base_act[e, i] + time * d.actuator.sum_act_dot[e, i]
                    y = clamped(m, u, y)
                d.act[e, i] = y


@procedure
def adjoint_step(m: ti.template(), d: ti.template(), e, h):
    """grad_act after a step of Runge-Kutta's -> base_act, the adjoint of where it began, and sum_act_dot, that of the
    mean rate. Expects these two as `add_rates` leaves them.
    """
    if ti.static(m.actuator.enabled and len(m.actuator.dynamics) > 0):
        for u in range(m.nu):
            i = m.actuator.actadr[u]
            if i >= 0:
                time, by_tau = along(m, d, e, u, h)
                mean = d.actuator.sum_act_dot[e, i]
                y = d.actuator.base_act[e, i] + time * mean
                bar = adjoint_clamped(m, u, y, d.grad_act[e, i])
                d.actuator.base_act[e, i], d.actuator.next_act_dot[e, i] = bar, bar * 0.0
                d.actuator.sum_act_dot[e, i] = time * bar
                if ti.static(m.fit):
                    m.actuator.grad_timeconst[0][e, u] = m.actuator.grad_timeconst[0][e, u] + bar * mean * by_tau


@procedure
def adjoint_begin_stage(m: ti.template(), d: ti.template(), e, s):
    """grad_act, the adjoint of stage s's activation as far as its rate has it; grad_ctrl += the rate's part."""
    if ti.static(m.actuator.enabled and len(m.actuator.dynamics) > 0):
        for u in range(m.nu):
            i = m.actuator.actadr[u]
            if i >= 0:
                bar = weight(s) * d.actuator.sum_act_dot[e, i] + d.actuator.next_act_dot[e, i]
                _, by_a, by_c, by_tau, by_deact = rate(m, d, e, u, True)
                d.grad_act[e, i] = bar * by_a
                adjoint_inputs(m, d, e, u, bar * by_c, bar * by_tau, bar * by_deact)


@procedure
def adjoint_end_stage(m: ti.template(), d: ti.template(), e, h, s):
    """grad_act of stage s -> base_act, and next_act_dot, of the rate at the stage before; after that of stage 0, which
    is where the step began, all of it is in grad_act."""
    if ti.static(m.actuator.enabled and len(m.actuator.dynamics) > 0):
        for i in range(m.na):
            bar = d.grad_act[e, i]
            d.actuator.base_act[e, i] = d.actuator.base_act[e, i] + bar
            d.actuator.next_act_dot[e, i] = h * reach(s - 1) * bar
            if s == 0:
                d.grad_act[e, i] = d.actuator.base_act[e, i]
