"""Two muscle laws, their activation dynamics, and the derivatives of both.

A muscle-tendon unit of length l and velocity v pulls with

    f = -F0 c [a FL(x) FV(w) + FP(x) + beta w],    w = c v / (lopt vmax)

x is the length of its fibre in optimal lengths, c the cosine of its pennation, a the activation; the tendon is rigid.

| law | x | c | curves |
|---|---|---|---|
| LAW_MUJOCO | z = (l - lslack) / lopt | 1 | piecewise quadratic, beta = 0 (its documentation, "Muscle actuators") |
| LAW_DEGROOTE | sqrt(z^2 + s^2) | z / x | De Groote et al. 2016, smooth; s = sin(pennation at x = 1) |

FP may have an optimal length and a tendon of its own: it is taken at stretch x + shift.

The second is exact where it describes a muscle and goes on smoothly where it does not. Below z = 0.2 its formulas come
near a pole: z approaches 0.18 instead. Above x = 1.8 passive force goes on along its tangent. Beyond the greatest
velocities, |w| = 1, FV is bounded: at 2.0 for lengthening, and at -0.014 for shortening. So a muscle that is shortened
faster than it can shorten itself pushes by 0.014 a, and by fibre damping, beta |w|.

A step takes the force at v' = v + delta with d f/d v frozen at v (`force`); `adjoint` differentiates that, with what
`tangent` has worked out.

All lengths and forces are vectors over lanes, `c` holds a muscle's constants as rows (`FORCE` to `DAMPING`), and `laws`
are the LAW_* codes that a model uses: the others are not compiled.
"""

import math

from taichi_sim.lanes.vectors import greatest, stack
from taichi_sim.runtime import ti
from taichi_sim.spatial import exp, log, tanh
from taichi_sim.types import LAW_DEGROOTE, LAW_MUJOCO

# Rows of a muscle's constants: F0 [N], lopt [m], lslack [m], then the columns of `Model.muscle_prm`, of the pennation
# its sine.
FORCE, OPTIMAL, SLACK, LMIN, LMAX, VMAX, FPMAX, FVMAX, PASSIVE_LMAX, STRETCH, SHIFT, SINE, DAMPING = range(13)
NUM_CONSTANTS = 13

# Rows of a muscle's `tangent`.
PULL, BY_V, BY_V_AHEAD, BY_Z, BY_Z_AHEAD, BY_ACT, BY_ACT_AHEAD = range(7)
NUM_TANGENT = 7

# De Groote et al. 2016, Muscle redundancy problem: (b1, b2, b3, b4) of the three bumps of FL and d1 to d4 of FV, in the
# digits of OpenSim's DeGrooteFregly2016Muscle, which make FL(1) = 1, FV(-1) = 0 and FV(0) = 1 exact.
_BUMPS = (
    (0.8150671134243542, 1.055033428970575, 0.162384573599574, 0.063303448465465),
    (0.433004984392647, 0.716775413397760, -0.029947116970696, 0.200356847296188),
    (0.1, 1.0, 0.353553390593274, 0.0),
)
_D1, _D2, _D3, _D4 = -0.3211346127989808, -8.149, -0.374, 0.8825327733249912
_KPE, _E0, _SHORTEST = 4.0, 0.6, 0.2
_LOW = math.exp(_KPE * (_SHORTEST - 1.0) / _E0)
_SCALE = 1.0 / (math.exp(_KPE) - _LOW)

# Where its curves are continued otherwise, and over which width: z, x, and w on either side.
_FLOOR, _FLOOR_WIDTH = 0.2, 0.02
_STRETCHED = 1.8
_SLOW_WIDTH, _FAST_WIDTH = 0.05, 0.5

# Steepness of the switch between activation and deactivation.
_SWITCH = 10.0

_MIN = 1e-15


@ti.func
def geometry(laws: ti.template(), law, z, s):
    """x, dx/dz, c, dc/dz."""
    one = z * 0.0 + 1.0
    x = z
    dx = one
    cosine = one
    dc = z * 0.0
    if ti.static(LAW_DEGROOTE in laws):
        if law == LAW_DEGROOTE:
            slope = one
            if greatest(-z) > -_FLOOR:
                t = tanh(ti.max(_FLOOR - z, 0.0) / _FLOOR_WIDTH)
                slope = ti.select(z < _FLOOR, 1.0 - t * t, one)
                z = ti.select(z < _FLOOR, _FLOOR - _FLOOR_WIDTH * t, z)
            square = z * z + s * s
            inverse = 1.0 / ti.sqrt(square)
            x = square * inverse
            cosine = z * inverse
            dx = cosine * slope
            dc = slope * s * s * inverse * inverse * inverse
    return x, dx, cosine, dc


@ti.func
def curves(laws: ti.template(), law, c, x, w):
    """FL, FL', FV, FV', FV'', FP, FP'."""
    fl = x * 0.0
    dfl = x * 0.0
    fv = x * 0.0
    dfv = x * 0.0
    ddfv = x * 0.0
    fp = x * 0.0
    dfp = x * 0.0
    # the passive element may have an optimal length and a tendon of its own
    passive = c[STRETCH, :] * x + c[SHIFT, :]
    if ti.static(LAW_MUJOCO in laws):
        if law == LAW_MUJOCO:
            fl, dfl = mujoco_length(x, c[LMIN, :], c[LMAX, :])
            fv, dfv, ddfv = mujoco_velocity(w, c[FVMAX, :])
            fp, dfp = mujoco_passive(passive, c[PASSIVE_LMAX, :], c[FPMAX, :])
    if ti.static(LAW_DEGROOTE in laws):
        if law == LAW_DEGROOTE:
            fl, dfl = degroote_length(x)
            fv, dfv, ddfv = degroote_velocity(w)
            fp, dfp = degroote_passive(passive)
    dfp = dfp * c[STRETCH, :]
    return fl, dfl, fv, dfv, ddfv, fp, dfp


@ti.func
def mujoco_length(x, lmin, lmax):
    """FL, FL': four parabolas from lmin over 1 to lmax."""
    a = 0.5 * (lmin + 1.0)
    b = 0.5 * (1.0 + lmax)
    rise = 1.0 / ti.max(a - lmin, _MIN)
    near = 1.0 / ti.max(1.0 - a, _MIN)
    far = 1.0 / ti.max(b - 1.0, _MIN)
    fall = 1.0 / ti.max(lmax - b, _MIN)
    y = ti.select(x <= a, (x - lmin) * rise, ti.select(x <= 1.0, (1.0 - x) * near, (x - 1.0) * far))
    y = ti.select(x > b, (lmax - x) * fall, y)
    dy = ti.select(x <= a, rise, ti.select(x <= 1.0, -near, far))
    dy = ti.select(x > b, -fall, dy)
    outer = (x <= a) | (x > b)
    inside = (x >= lmin) & (x <= lmax)
    f = ti.select(outer, 0.5 * y * y, 1.0 - 0.5 * y * y)
    df = ti.select(outer, y * dy, -y * dy)
    return ti.select(inside, f, x * 0.0), ti.select(inside, df, x * 0.0)


@ti.func
def mujoco_velocity(w, fvmax):
    """FV, FV', FV'': 0 up to w = -1, 1 at w = 0, fvmax from w = fvmax - 1 on."""
    y = fvmax - 1.0
    short = w + 1.0
    inverse = 1.0 / ti.max(y, _MIN)
    zero = w * 0.0
    f = ti.select(w <= 0.0, short * short, fvmax - (y - w) * (y - w) * inverse)
    df = ti.select(w <= 0.0, 2.0 * short, 2.0 * (y - w) * inverse)
    ddf = ti.select(w <= 0.0, zero + 2.0, -2.0 * inverse)
    f = ti.select(w <= -1.0, zero, ti.select(w > y, fvmax, f))
    flat = (w <= -1.0) | (w > y)
    return f, ti.select(flat, zero, df), ti.select(flat, zero, ddf)


@ti.func
def mujoco_passive(x, lmax, fpmax):
    """FP, FP': a parabola from x = 1 on, a line beyond the middle of [1, lmax]."""
    b = 0.5 * (1.0 + lmax)
    far = 1.0 / ti.max(b - 1.0, _MIN)
    y = ti.max(x - 1.0, 0.0) * far
    f = ti.select(x <= b, 0.5 * fpmax * y * y, fpmax * (0.5 + (x - b) * far))
    df = ti.select(x <= b, fpmax * y * far, fpmax * far)
    return f, df


@ti.func
def degroote_length(x):
    """FL, FL' (eq. 4 of the paper)."""
    f = x * 0.0
    df = x * 0.0
    widths = [_BUMPS[k][2] + _BUMPS[k][3] * x for k in ti.static(range(3))]
    # divisions take longest: one for all
    inverses = 1.0 / (widths[0] * widths[1] * widths[2])
    for k in ti.static(range(3)):
        b1, b2, b3, b4 = ti.static(_BUMPS[k])
        inverse = inverses * widths[(k + 1) % 3] * widths[(k + 2) % 3]
        s = (x - b2) * inverse
        bump = b1 * exp(-0.5 * s * s)
        f = f + bump
        df = df - bump * s * (b3 + b4 * b2) * inverse * inverse
    return f, df


@ti.func
def degroote_velocity(w):
    """FV, FV', FV'' (eq. 5), of a velocity that is bounded beyond the fastest."""
    one = w * 0.0 + 1.0
    slope = one
    bend = w * 0.0
    if greatest(ti.abs(w)) > 1.0:
        width = ti.select(w > 0.0, one * _FAST_WIDTH, one * _SLOW_WIDTH)
        sign = ti.select(w > 0.0, one, -one)
        t = tanh(ti.max(ti.abs(w) - 1.0, 0.0) / width)
        slope = 1.0 - t * t
        bend = -2.0 * sign * t * slope / width
        w = ti.select(ti.abs(w) > 1.0, sign * (1.0 + width * t), w)
    y = _D2 * w + _D3
    root = 1.0 / ti.sqrt(y * y + 1.0)
    # asinh, without the cancellation of its formula for negative y
    size = log(ti.abs(y) + ti.sqrt(y * y + 1.0))
    f = _D1 * ti.select(y < 0.0, -size, size) + _D4
    df = _D1 * _D2 * root
    ddf = -_D1 * _D2 * _D2 * y * root * root * root
    return f, df * slope, ddf * slope * slope + df * bend


@ti.func
def degroote_passive(x):
    """FP, FP' (eq. 3), along the tangent beyond _STRETCHED."""
    power = exp(_KPE * (ti.min(x, _STRETCHED) - 1.0) / _E0)
    df = power * _SCALE * (_KPE / _E0)
    return (power - _LOW) * _SCALE + df * ti.max(x - _STRETCHED, 0.0), df


@ti.func
def damping_of(law, c):
    """beta; MuJoCo's law has none."""
    beta = c[DAMPING, :]
    if law == LAW_MUJOCO:
        beta = beta * 0.0
    return beta


@ti.func
def tangent(laws: ti.template(), law, c, length, velocity, a):
    """f / F0 and its derivatives, as the rows PULL to BY_ACT_AHEAD, (7, L).

    Of f + df/dv delta with delta held, which is what a step takes, a derivative is a row plus delta times the one
    "ahead" (in v: BY_V and BY_V_AHEAD).

    Args:
        laws: LAW_* codes that are compiled.
        law: LAW_* code of this muscle, the same for all lanes.
        c: its constants, (13, L).
        length, velocity: of the muscle-tendon unit [m], [m/s], (L).
        a: activation, (L).
    """
    speed = 1.0 / (c[VMAX, :] * c[OPTIMAL, :])
    x, dx, cosine, dc = geometry(laws, law, (length - c[SLACK, :]) * (speed * c[VMAX, :]), c[SINE, :])
    rate = speed * cosine
    w = rate * velocity
    fl, dfl, fv, dfv, ddfv, fp, dfp = curves(laws, law, c, x, w)
    beta = damping_of(law, c)
    along = a * fl * fv + fp + beta * w
    by_w = a * fl * dfv + beta
    bend = a * fl * ddfv * rate
    return stack(
        [
            -cosine * along,
            -cosine * by_w * rate,
            -cosine * bend * rate,
            -cosine * dx * (a * dfl * fv + dfp) - dc * (along + by_w * w),
            -cosine * dx * a * dfl * dfv * rate - dc * (2.0 * by_w * rate + bend * w),
            -cosine * fl * fv,
            -cosine * fl * dfv * rate,
        ]
    )


@ti.func
def force(c, t):
    """f [N] and df/dv [N s/m], never positive for an activation of at least 0; t is the `tangent`."""
    return c[FORCE, :] * t[PULL, :], c[FORCE, :] * t[BY_V, :]


@ti.func
def adjoint(c, t, delta):
    """Derivatives of f + df/dv delta in length, in velocity with delta held, and in activation; t is the `tangent`."""
    by_z = t[BY_Z, :] + t[BY_Z_AHEAD, :] * delta
    by_v = t[BY_V, :] + t[BY_V_AHEAD, :] * delta
    by_a = t[BY_ACT, :] + t[BY_ACT_AHEAD, :] * delta
    return c[FORCE, :] * by_z / c[OPTIMAL, :], c[FORCE, :] * by_v, c[FORCE, :] * by_a


@ti.func
def adjoint_constants(c, t, length, velocity, delta):
    """Derivatives of f + df/dv delta in F0, lopt and lslack; t is the `tangent` at this length and velocity."""
    inverse = 1.0 / c[OPTIMAL, :]
    z = (length - c[SLACK, :]) * inverse
    by_z = t[BY_Z, :] + t[BY_Z_AHEAD, :] * delta
    # in ln(lopt vmax)
    by_scale = -(t[BY_V, :] + t[BY_V_AHEAD, :] * delta) * velocity - t[BY_V, :] * delta
    pull = t[PULL, :] + t[BY_V, :] * delta
    return pull, c[FORCE, :] * (by_scale - by_z * z) * inverse, -c[FORCE, :] * by_z * inverse


@ti.func
def act_rate(laws: ti.template(), law, a, e, tau_act, tau_deact, smooth):
    """k in da/dt = k (e - a), and its derivatives in a, e, tau_act and tau_deact."""
    one = a * 0.0 + 1.0
    inside = ti.select((a >= 0.0) & (a <= 1.0), one, a * 0.0)
    z = 0.5 + 1.5 * ti.min(ti.max(a, 0.0), 1.0)
    dz = 1.5 * inside
    ta = ti.max(tau_act, _MIN)
    td = ti.max(tau_deact, _MIN)
    # the share of activation, and its derivative in e - a
    share = ti.select(e > a, one, a * 0.0)
    steep = a * 0.0
    k = a * 0.0
    by_share = a * 0.0
    by_z = a * 0.0
    by_ta = a * 0.0
    by_td = a * 0.0
    if ti.static(LAW_MUJOCO in laws):
        if law == LAW_MUJOCO:
            width = ti.max(smooth, _MIN)
            y = ti.min(ti.max((e - a) / width + 0.5, 0.0), 1.0)
            soft = smooth > _MIN
            share = ti.select(soft, y * y * y * (y * (6.0 * y - 15.0) + 10.0), share)
            steep = ti.select(soft, 30.0 * y * y * (y - 1.0) * (y - 1.0) / width, steep)
            tau = td / z * (1.0 - share) + ta * z * share
            k = 1.0 / tau
            by_share = (td / z - ta * z) * k * k
            by_z = (td / (z * z) * (1.0 - share) - ta * share) * k * k
            by_ta = -z * share * k * k
            by_td = -(1.0 - share) / z * k * k
    if ti.static(LAW_DEGROOTE in laws):
        if law == LAW_DEGROOTE:
            t = tanh(_SWITCH * (e - a))
            share = 0.5 + 0.5 * t
            steep = 0.5 * _SWITCH * (1.0 - t * t)
            # divisions take longest: one for all
            inverse = 1.0 / (ta * td * z)
            up, down = inverse * td, inverse * ta * z
            k = share * up + (1.0 - share) * z * down
            by_share = up - z * down
            by_z = (1.0 - share) * down - share * up * (inverse * ta * td)
            by_ta = -share * up * (inverse * td * z)
            by_td = -(1.0 - share) * z * down * down
    return k, by_z * dz - by_share * steep, by_share * steep, by_ta, by_td


@ti.func
def act_dot(laws: ti.template(), law, a, ctrl, tau_act, tau_deact, smooth):
    """da/dt [1/s], and its derivatives in a, ctrl, tau_act and tau_deact; excitation is ctrl, clipped to [0, 1].

    Sources: MuJoCo's documentation, "Muscle actuators"; De Groote et al. 2016, eq. 1 and 2, with the switch ten times
    steeper than printed there: as printed, muscles deactivate in well over tau_deact.

    Args:
        laws, law: see `tangent`.
        a, ctrl: activation and control, (L).
        tau_act, tau_deact: time constants [s].
        smooth: width of MuJoCo's transition between the two (tausmooth); De Groote's is fixed.
    """
    e, inside = excitation(ctrl)
    k, k_a, k_e, k_ta, k_td = act_rate(laws, law, a, e, tau_act, tau_deact, smooth)
    lag = e - a
    return k * lag, lag * k_a - k, inside * (lag * k_e + k), lag * k_ta, lag * k_td


@ti.func
def advance(laws: ti.template(), law, a, ctrl, h, tau_act, tau_deact, smooth):
    """The activation a time h [s] on, the rate frozen; and its derivatives in a, ctrl, tau_act and tau_deact.

    Stable for every h; activations in [0, 1] stay there. Args: see `act_dot`.
    """
    e, inside = excitation(ctrl)
    k, k_a, k_e, k_ta, k_td = act_rate(laws, law, a, e, tau_act, tau_deact, smooth)
    decay = exp(-h * k)
    lag = (e - a) * h * decay
    by_ctrl = inside * (1.0 - decay + lag * k_e)
    return e + (a - e) * decay, decay + lag * k_a, by_ctrl, lag * k_ta, lag * k_td


@ti.func
def excitation(ctrl):
    """Excitation of a control, and its derivative."""
    inside = ti.select((ctrl >= 0.0) & (ctrl <= 1.0), ctrl * 0.0 + 1.0, ctrl * 0.0)
    return ti.min(ti.max(ctrl, 0.0), 1.0), inside
