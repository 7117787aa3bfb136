"""The law of contact: a smooth penalty with friction, implicit in the velocity where the world stands still.

At a point p of depth d below a surface with normal n, whose material has the velocity v = v_n n + v_t relative to it,

    f = n (ke d - c v_n') - s v_t',    c = min(kc, kd d) while approaching, else 0,    s = min(kf, mu ke d / |v_t|)

The coefficients c and s are taken at v, the velocities they multiply at v' = v + theta h a. That adds theta h J'BJ with
B = c n n' + s (1 - n n') to the mass matrix: s 1 is the inertia of a particle of mass s at p, the rest is summed over
subtrees by `bodies.damping`. The spring is explicit: an implicit one pulls
on a body that leaves.

Between two moving bodies v' is v: damping between two branches would couple dofs that the tree keeps apart. There the
loader bounds kf and kc by what the timestep keeps stable (`mjcf.contact_pairs.gains`).

Friction against turning, MuJoCo's condim 4 and 6, is a moment of the same form: with w the relative angular velocity,

    -s_n w_n' n - s_t w_t',    s_n = min(spin_kf, spin_mu ke d / |w_n|),    s_t = min(roll_kf, roll_mu ke d / |w_t|)

with lengths spin_mu and roll_mu; it adds to the links' moments of inertia. The three kinds of friction do not share one
bound, as MuJoCo's friction cone does.

Frozen in a substep, friction may exceed mu times the normal force where the tangential velocity changes much in it.
"""

from taichi_sim import spatial
from taichi_sim.runtime import ti

# Added to |v_t|^2 [m^2/s^2]: friction of what stands still is kf v_t.
_SPEED2_FLOOR = 1e-12


@ti.func
def along(n, x):
    """The component of x along the unit vector n, and the rest of x."""
    a = spatial.dot(n, x)
    return a, x - spatial.scale(n, a)


@ti.func
def coefficients(ke, kd, kc, kf, mu, depth, vn, vt):
    """Spring force, friction coefficient s, normal damping c, its slope in depth, 1 where s slides, and |v_t|."""
    spring = ke * depth
    speed = ti.sqrt(spatial.dot(vt, vt) + _SPEED2_FLOOR)
    sliding = mu * spring / speed
    slides = ti.select(sliding < kf, speed * 0.0 + 1.0, speed * 0.0)
    damping = ti.select(vn < 0.0, ti.min(kd * depth, kc), depth * 0.0)
    slope = ti.select((vn < 0.0) & (kd * depth < kc), kd, depth * 0.0)
    return spring, ti.min(sliding, kf), damping, slope, slides, speed


@ti.func
def adjoint(ke, mu, spring, s, damping, kd, slides, speed, n, tn, tt, nun, nut):
    """f at v' = tn n + tt, and the gradient of nu . f = nu_n (ke d - c t_n) - s t_t . nu_t.

    The third to eighth arguments are what `coefficients` returns.

    Returns:
        f, the gradients in v' and, divided by v_t, in v, and that in the depth.
    """
    f = spatial.scale(n, spring - damping * tn) - spatial.scale(tt, s)
    t_bar = -spatial.scale(n, damping * nun) - spatial.scale(nut, s)
    slip = spatial.dot(tt, nut)
    slope = slides * s * slip / (speed * speed)
    grip = slides * mu * ke / speed
    return f, t_bar, slope, nun * (ke - kd * tn) - grip * slip


@ti.func
def turning(kf, mu, spring, w2):
    """Coefficient of friction against turning at the square w2 of the angular velocity, 1 where it slides, and |w|."""
    speed = ti.sqrt(w2 + _SPEED2_FLOOR)
    sliding = mu * spring / speed
    return ti.min(sliding, kf), ti.select(sliding < kf, speed * 0.0 + 1.0, speed * 0.0), speed


@ti.func
def turning_coefficients(c: ti.template(), k, spring, wn, wt):
    """s_n, s_t of contact k of a table c, and for each of the two whether it slides and the angular velocity."""
    sn, slides_n, speed_n = turning(c.spin_kf[k], c.spin_mu[k], spring, wn * wn)
    st, slides_t, speed_t = turning(c.roll_kf[k], c.roll_mu[k], spring, spatial.dot(wt, wt))
    return sn, st, slides_n, speed_n, slides_t, speed_t


@ti.func
def moment(n, sn, st, wn, wt):
    """The moment of friction against turning, with the angular velocity ahead."""
    return -spatial.scale(n, sn * wn) - spatial.scale(wt, st)


@ti.func
def adjoint_moment(c: ti.template(), k, spring, n, w, t, nu):
    """The moment of contact k at the angular velocities w and t ahead, and the gradient of nu . moment.

    Returns:
        The moment, the gradients in w, t and n, and that in the depth, relative to ke.
    """
    wn, wt = along(n, w)
    tn, tt = along(n, t)
    nun, nut = along(n, nu)
    sn, st, slides_n, speed_n, slides_t, speed_t = turning_coefficients(c, k, spring, wn, wt)
    slip_n, slip_t = tn * nun, spatial.dot(tt, nut)
    slope_n, slope_t = slides_n * sn * slip_n / (speed_n * speed_n), slides_t * st * slip_t / (speed_t * speed_t)
    w_bar = spatial.scale(n, slope_n * wn) + spatial.scale(wt, slope_t)
    n_bar = spatial.scale(nu, (st - sn) * tn) + spatial.scale(t, (st - sn) * nun)
    n_bar = n_bar + spatial.scale(w, (slope_n - slope_t) * wn)
    grip = slides_n * c.spin_mu[k] / speed_n * slip_n + slides_t * c.roll_mu[k] / speed_t * slip_t
    return moment(n, sn, st, tn, tt), w_bar, moment(n, sn, st, nun, nut), n_bar, -grip
