"""The law of contact: a smooth penalty with friction, implicit in the velocity where the world stands still.

At a point p of depth d below a surface with normal n, whose material has the velocity v = v_n n + v_t relative to it,

    f = n (ke d - c v_n') - s v_t',    c = min(kc, kd d + loss ke d / |v_n|),    s = min(kf, mu ke d / |v_t|)

with kd while approaching, else 0. The coefficients c and s are taken at v, the velocities they multiply at
v' = v + theta h a. That adds theta h J'BJ with B = c n n' + s (1 - n n') to the mass matrix: s 1 is the inertia of a
particle of mass s at p, the rest is summed over subtrees by `bodies.damping`. The spring is explicit: an implicit one
pulls on a body that leaves.

Damping by kd is Hunt and Crossley's (1975). Damping by the loss is dry friction along the normal: (1 + loss) ke is the
stiffness on the way in, (1 - loss) ke on the way out, and kc bounds c at the turn: what rebounds has the same share of
its speed at any speed. So a spring that is stiff under a load takes up an impact with no more slope than one a tenth as
stiff whose damping grows with depth (docs/models.md).

Between two moving bodies v' is v: damping between two branches would couple dofs that the tree keeps apart. There the
loader bounds kf and kc by what the timestep keeps stable (`mjcf.contact_pairs.gains`).

Friction against turning, MuJoCo's condim 4 and 6, is a moment of the same form: with w the relative angular velocity,

    -s_n w_n' n - s_t w_t',    s_n = min(spin_kf, spin_mu ke d / |w_n|),    s_t = min(roll_kf, roll_mu ke d / |w_t|)

with lengths spin_mu and roll_mu; it adds to the links' moments of inertia. The three kinds of friction do not share one
bound, as MuJoCo's friction cone does.

Frozen in a substep, friction may exceed mu times the normal force where the tangential velocity changes much in it.
"""

from taichi_sim import spatial
from taichi_sim.bodies.friction import magnitude, sliding
from taichi_sim.runtime import ti


@ti.func
def along(n, x):
    """The component of x along the unit vector n, and the rest of x."""
    a = spatial.dot(n, x)
    return a, x - spatial.scale(n, a)


@ti.func
def normal_damping(c: ti.template(), k, depth, vn):
    """Damping of contact k of a table c, its slope in depth, and its fall with |v_n|, over |v_n|."""
    approaching = vn < 0.0
    damping = ti.select(approaching, c.kd[k] * depth, depth * 0.0)
    slope = ti.select(approaching, depth * 0.0 + c.kd[k], depth * 0.0)
    fall = depth * 0.0
    if ti.static(c.lossy):
        speed = magnitude(vn * vn)
        dry = c.loss[k] * c.ke[k] * depth / speed
        damping = damping + dry
        slope = slope + c.loss[k] * c.ke[k] / speed
        fall = dry / (speed * speed)
    below = ti.select(damping < c.kc[k], depth * 0.0 + 1.0, depth * 0.0)
    return ti.min(damping, c.kc[k]), below * slope, below * fall


@ti.func
def force(c: ti.template(), e, k, n, depth, v):
    """Force of contact k of a table c at the velocity v; and its spring, normal damping and friction coefficient."""
    vn, vt = along(n, v)
    spring = c.ke[k] * depth
    s, _, _ = sliding(c.kf[k], c.mu[e * c.per_block, k] * spring, spatial.dot(vt, vt))
    damping, _, _ = normal_damping(c, k, depth, vn)
    return spatial.scale(n, spring - damping * vn) - spatial.scale(vt, s), spring, damping, s


@ti.func
def adjoint(c: ti.template(), e, k, n, depth, v, t, nu):
    """The force f of contact k at the velocities v and t ahead, and the gradient of nu . f; that in mu is added.

    Returns:
        f, the gradients in v, t, n and the depth, and the spring's force.
    """
    vn, vt = along(n, v)
    tn, tt = along(n, t)
    nun, nut = along(n, nu)
    spring = c.ke[k] * depth
    mu = c.mu[e * c.per_block, k]
    s, slides, speed = sliding(c.kf[k], mu * spring, spatial.dot(vt, vt))
    damping, slope, fall = normal_damping(c, k, depth, vn)
    f = spatial.scale(n, spring - damping * tn) - spatial.scale(tt, s)
    slip = spatial.dot(tt, nut)
    # of friction along v_t, and of damping along n
    grip, check = slides * s * slip / (speed * speed), fall * vn * tn * nun
    v_bar = spatial.scale(vt, grip) + spatial.scale(n, check)
    t_bar = -spatial.scale(n, damping * nun) - spatial.scale(nut, s)
    n_bar = spatial.scale(nu, spring - damping * tn + s * tn) + spatial.scale(v, check - grip * vn)
    n_bar = n_bar + spatial.scale(t, s * nun - damping * nun)
    # by how much it grows with the bound of friction
    held = -slides / speed * slip
    d_bar = nun * (c.ke[k] - slope * tn) + mu * c.ke[k] * held
    if ti.static(c.fit):
        c.grad_mu[e, k] = c.grad_mu[e, k] + spring * held
    return f, v_bar, t_bar, n_bar, d_bar, spring


@ti.func
def turning_coefficients(c: ti.template(), e, k, spring, wn, wt):
    """s_n, s_t of contact k of a table c, and for each of the two whether it slides and the angular velocity."""
    sn, slides_n, speed_n = sliding(c.spin_kf[k], c.spin_mu[e * c.per_block, k] * spring, wn * wn)
    st, slides_t, speed_t = sliding(c.roll_kf[k], c.roll_mu[e * c.per_block, k] * spring, spatial.dot(wt, wt))
    return sn, st, slides_n, speed_n, slides_t, speed_t


@ti.func
def moment(n, sn, st, wn, wt):
    """The moment of friction against turning, with the angular velocity ahead."""
    return -spatial.scale(n, sn * wn) - spatial.scale(wt, st)


@ti.func
def adjoint_moment(c: ti.template(), e, k, spring, n, w, t, nu):
    """The moment of contact k at the angular velocities w and t ahead, and the gradient of nu . moment;
    those in spin_mu and roll_mu are added.

    Returns:
        The moment, the gradients in w, t and n, and that in the depth, relative to ke.
    """
    wn, wt = along(n, w)
    tn, tt = along(n, t)
    nun, nut = along(n, nu)
    sn, st, slides_n, speed_n, slides_t, speed_t = turning_coefficients(c, e, k, spring, wn, wt)
    slip_n, slip_t = tn * nun, spatial.dot(tt, nut)
    slope_n, slope_t = slides_n * sn * slip_n / (speed_n * speed_n), slides_t * st * slip_t / (speed_t * speed_t)
    w_bar = spatial.scale(n, slope_n * wn) + spatial.scale(wt, slope_t)
    n_bar = spatial.scale(nu, (st - sn) * tn) + spatial.scale(t, (st - sn) * nun)
    n_bar = n_bar + spatial.scale(w, (slope_n - slope_t) * wn)
    held_n, held_t = -slides_n / speed_n * slip_n, -slides_t / speed_t * slip_t
    if ti.static(c.fit):
        c.grad_spin_mu[e, k] = c.grad_spin_mu[e, k] + spring * held_n
        c.grad_roll_mu[e, k] = c.grad_roll_mu[e, k] + spring * held_t
    grip = c.spin_mu[e * c.per_block, k] * held_n + c.roll_mu[e * c.per_block, k] * held_t
    return moment(n, sn, st, tn, tt), w_bar, moment(n, sn, st, nun, nut), n_bar, grip
