"""The elastic tendon of De Groote and Fregly's muscle: its law, its implicit step, and the adjoint of that.

A unit of length L has a tendon of length lslack (1 + eps) in series with a fibre whose extent along it is
z = (L - lslack (1 + eps)) / lopt. The state is eps, the tendon's strain (an entry of `act`). With the fibre's pull P by
`laws`, of its extent, its rate r = dz/dt and the activation, a substep of length h solves

    g(r) = P(z + h r, r, a) - FT(eps+) = 0,    eps+ = eps + h (V - lopt r) / lslack

for r, V being the unit's velocity. It pulls with F0 FT(eps+). With A = F0 FT' / lslack and p = F0 dP/dr, its force at
V + delta is taken as f + kv delta,

    f = -F0 FT(eps+),    kv = -h A p / (p + h A lopt)

which is the rigid tendon's df/dV for a stiff tendon and the spring's own -h A for a stiff fibre: neither asks for
smaller substeps. By how much the unit has become longer than L + h V at the next substep is the fibre's share: only eps
is kept.

    FT(eps) = c (exp(k eps) - 1),    c = 0.2, k = ln(1 + 1/c) / s           (De Groote et al. 2016, eq. 2)

in the constants of OpenSim's DeGrooteFregly2016Muscle, s the strain at F0. Its formula pushes by 0.2 F0 when the tendon
is slack; here that is 0.01 F0 at most. Beyond ten peak forces it goes on along its tangent.
"""

import math

from taichi_sim.lanes.vectors import greatest
from taichi_sim.muscles import laws
from taichi_sim.runtime import ti
from taichi_sim.spatial import exp
from taichi_sim.types import LAW_DEGROOTE

# FT: c, and how hard a slack tendon may push; the exponent beyond which it is a straight line.
_C, _PUSH, _STEEPEST = 0.2, 0.01, 4.0
_RISE = math.log(1.0 + 1.0 / _C)
_LAWS = frozenset({LAW_DEGROOTE})

# Newton's method: most evaluations (from a fibre at rest four to eight are usual, within a control step fewer), and the
# first step's bounds, in largest velocities and in optimal lengths.
_MOST, _FASTEST, _FARTHEST = 60, 100.0, 2.0
_OPEN = 1e30
_MIN = 1e-12

# A step [s] in which every fibre comes to rest.
FOREVER = 1e10


@ti.func
def tendon(eps, peak_strain):
    """FT, FT', FT'' of the tendon's strain."""
    k = _RISE / peak_strain
    x = k * eps
    taut = x >= 0.0
    sharper = _C / _PUSH
    power = exp(ti.select(taut, ti.min(x, _STEEPEST), ti.max(sharper * x, -80.0)))
    beyond = ti.max(x - _STEEPEST, 0.0)
    f = ti.select(taut, _C * (power - 1.0 + power * beyond), _PUSH * (power - 1.0))
    df = k * _C * power
    ddf = ti.select(taut, ti.select(beyond > 0.0, x * 0.0, k * df), sharper * k * df)
    return f, df, ddf


@ti.func
def fibre(c, z, r, a):
    """P, its derivatives in z, r and a, and those of dP/dr in z, r and a."""
    inverse = 1.0 / c[laws.VMAX, :]
    x, dx, cosine, dc = laws.geometry(_LAWS, LAW_DEGROOTE, z, c[laws.SINE, :])
    w = cosine * r * inverse
    fl, dfl, fv, dfv, ddfv, fp, dfp = laws.curves(_LAWS, LAW_DEGROOTE, c, x, w)
    beta = c[laws.DAMPING, :]
    along = a * fl * fv + fp + beta * w
    by_w = a * fl * dfv + beta
    turn = dc * r * inverse
    by_z = dc * along + cosine * ((a * dfl * fv + dfp) * dx + by_w * turn)
    speed = cosine * cosine * inverse
    by_rz = 2.0 * cosine * dc * inverse * by_w + speed * a * (dfl * dfv * dx + fl * ddfv * turn)
    by_rr = speed * cosine * inverse * a * fl * ddfv
    return cosine * along, by_z, speed * by_w, cosine * fl * fv, by_rz, by_rr, speed * fl * dfv


@ti.func
def extent(c, length, eps):
    """z."""
    return (length - c[laws.SLACK, :] * (1.0 + eps)) / c[laws.OPTIMAL, :]


@ti.func
def stretched(c, eps, velocity, r, h):
    """eps+."""
    return eps + h * (velocity - c[laws.OPTIMAL, :] * r) / c[laws.SLACK, :]


@ti.func
def solve(c, peak_strain, tolerance, length, velocity, eps, a, h, guess):
    """The fibre's rate r [1/s], f [N] and kv [N s/m].

    Newton's method, kept between the points where g was seen to be negative and positive. It ends with the step after
    g < tolerance, so that the error is of the order of its square; a lane's result does not depend on the others'.

    Args:
        c: the muscle's constants as in `laws`, (13, L).
        peak_strain: s.
        length, velocity, eps, a: L [m], V [m/s], the tendon's strain, the activation (below 0: 0).
        h: the substep [s]; 0 gives the rate and the force of this moment.
        guess: r to begin with.
    """
    a = ti.max(a, 0.0)
    lopt, slack = c[laws.OPTIMAL, :], c[laws.SLACK, :]
    z = extent(c, length, eps)
    longest = 1.0 / (1.0 / (_FASTEST * c[laws.VMAX, :]) + h / _FARTHEST)
    r = guess
    one = a * 0.0 + 1.0
    low, high = -_OPEN * one, _OPEN * one
    searching = one
    by_r = one
    count = 0
    while count < _MOST and greatest(searching) > 0.0:
        p, p_z, p_r, _p_a, _p_rz, _p_rr, _p_ra = fibre(c, z + h * r, r, a)
        t, dt, _ddt = tendon(stretched(c, eps, velocity, r, h), peak_strain)
        g = p - t
        slope = h * p_z + p_r + h * lopt / slack * dt
        low = ti.select(g < 0.0, r, low)
        high = ti.select(g > 0.0, r, high)
        step = ti.min(ti.max(-g / ti.max(slope, _MIN), -longest), longest)
        new = r + step
        # one that leaves the bracket has both of its ends
        new = ti.select((new < low) | (new > high), 0.5 * (low + high), new)
        going = searching > 0.0
        r = ti.select(going, new, r)
        by_r = ti.select(going, p_r, by_r)
        searching = ti.select(ti.abs(g) < tolerance, searching * 0.0, searching)
        count = count + 1
        # what is far is reached all the same
        longest = 2.0 * longest
    t, dt, _ddt = tendon(stretched(c, eps, velocity, r, h), peak_strain)
    stiff = h * dt / slack
    return r, -c[laws.FORCE, :] * t, -c[laws.FORCE, :] * stiff * by_r / (by_r + stiff * lopt)


@ti.func
def adjoint(c, peak_strain, length, velocity, eps, a, h, r, delta, pull, eps_bar):
    """Adjoints of L, V, eps, a, and of F0, lopt and lslack, of pull (f + kv delta) + eps_bar eps+, delta held.

    Through r by the implicit function theorem: mu is the adjoint of g, which is zero.

    Args:
        r: what `solve` gave; the others as there.
        delta: by how much V is ahead in the step's force [m/s].
        pull, eps_bar: adjoints of the force and of eps+.
    """
    active = a >= 0.0
    a = ti.max(a, 0.0)
    f0, lopt, slack = c[laws.FORCE, :], c[laws.OPTIMAL, :], c[laws.SLACK, :]
    z = extent(c, length, eps)
    _p, p_z, p_r, p_a, p_rz, p_rr, p_ra = fibre(c, z + h * r, r, a)
    t, dt, ddt = tendon(stretched(c, eps, velocity, r, h), peak_strain)
    stiff = h * dt / slack
    inverse = 1.0 / (p_r + stiff * lopt)
    # kv = -F0 stiff p_r / (p_r + stiff lopt), in p_r and in stiff
    ahead = pull * f0 * delta
    by_p = -ahead * lopt * (stiff * inverse) * (stiff * inverse)
    by_stiff = -ahead * (p_r * inverse) * (p_r * inverse)
    # what reaches eps+, then r by it, by z + h r and by itself
    strain_bar = eps_bar - pull * f0 * dt + by_stiff * h * ddt / slack
    r_bar = by_p * p_rr + h * by_p * p_rz - strain_bar * h * lopt / slack
    slope = h * p_z + p_r + stiff * lopt
    mu = -r_bar / ti.select(ti.abs(slope) > _MIN, slope, slope * 0.0 + _MIN)
    strain_bar = strain_bar - mu * dt
    z_bar = by_p * p_rz + mu * p_z
    a_bar = ti.select(active, by_p * p_ra + mu * p_a, a * 0.0)
    value = -t - stiff * p_r * inverse * delta
    rate = velocity - lopt * r
    lopt_bar = -z_bar * z / lopt - strain_bar * h * r / slack + ahead * p_r * (stiff * inverse) * (stiff * inverse)
    slack_bar = -z_bar * (1.0 + eps) / lopt - (strain_bar * h * rate / slack + by_stiff * stiff) / slack
    length_bar = z_bar / lopt
    velocity_bar = strain_bar * h / slack
    return (
        length_bar,
        velocity_bar,
        strain_bar - length_bar * slack,
        a_bar,
        pull * value,
        lopt_bar,
        slack_bar,
    )
