"""The fluid's force on an ellipsoid in its own axes, and its adjoint: MuJoCo's model of geoms with `fluidshape`.

With v the velocity of the centre against the wind, w the angular velocity, g the vector (s_j s_k)^2 v_i, s the
semi-axes, and A = pi |g| / sqrt(g . v) the area that it shows to the stream, the force is

    added mass   p x w,  its moment p x v + l x w, with the fluid's momenta p = M v, l = I w
    Magnus       magnus w x v
    Kutta        kutta cos(alpha) A (g x v) x v / |g|, with cos(alpha) = g . v / (|v| |g|)
    drag         -(viscous + density |v| (blunt A + slender (A_max - A))) v,  its moment -(viscous + density |K w|) w

of which nothing changes if all of (s_j s_k)^2 are divided by the largest, as they are here, and A's factor is kept.

Source: MuJoCo's documentation, "Computation: Fluid forces, ellipsoid model".
"""

from taichi_sim.runtime import ti
from taichi_sim.spatial import cross, dot, scale

# Added to divisors that are zero at rest.
TINY = 1e-30


@ti.func
def stream(t: ti.template(), k, v):
    """Of ellipsoid k of a table: g, g . v, g . g, |v|, |g| / sqrt(g . v) and cos(alpha) / |g|."""
    g = t.shadow[k] * v
    num, den, speed = dot(g, v) + TINY, dot(g, g) + TINY, ti.sqrt(dot(v, v) + TINY)
    return g, num, den, speed, ti.sqrt(den / num), num / (speed * den)


@ti.func
def force(t: ti.template(), k, v, w):
    """The moment and the force."""
    g, num, _den, speed, area, lean = stream(t, k, v)
    p, spin = t.mass[k] * v, t.spin[k] * w
    rate = t.viscous[k] + speed * (t.blunt[k] * area + t.slender[k])
    f = cross(p, w) + scale(cross(w, v), t.magnus[k]) - scale(v, rate)
    f = f + scale(scale(v, num) - scale(g, speed * speed), t.kutta[k] * area * lean)
    moment = cross(p, v) + cross(t.inertia[k] * w, w)
    return moment - scale(w, t.viscous_spin[k] + t.density[k] * ti.sqrt(dot(spin, spin))), f


@ti.func
def adjoint(t: ti.template(), k, v, w, nu, nw):
    """The gradients in w and v of nu . force + nw . moment."""
    g, num, den, speed, area, lean = stream(t, k, v)
    p, spin = t.mass[k] * v, t.spin[k] * w
    p_bar = cross(w, nu) + cross(v, nw)
    v_bar = t.mass[k] * p_bar + cross(nw, p) + scale(cross(nu, w), t.magnus[k])
    w_bar = cross(nu, p) + cross(nw, t.inertia[k] * w) + t.inertia[k] * cross(w, nw) + scale(cross(v, nu), t.magnus[k])
    # of turning
    twist, along = ti.sqrt(dot(spin, spin)), dot(nw, w)
    w_bar = w_bar - scale(nw, t.viscous_spin[k] + t.density[k] * twist)
    w_bar = w_bar - scale(t.spin[k] * spin, t.density[k] * along / ti.max(twist, TINY))
    # of drag, and of T = (g . v) v . nu - |v|^2 g . nu, by which Kutta's force grows
    along, across = dot(nu, v), dot(nu, g)
    T, kutta = num * along - speed * speed * across, t.kutta[k]
    v_bar = v_bar - scale(nu, t.viscous[k] + speed * (t.blunt[k] * area + t.slender[k]))
    area_bar = kutta * lean * T - speed * t.blunt[k] * along
    lean_bar, T_bar = kutta * area * T, kutta * area * lean
    speed_bar = -(t.blunt[k] * area + t.slender[k]) * along - 2.0 * T_bar * speed * across
    v_bar = v_bar + scale(nu, T_bar * num)
    g_bar = -scale(nu, T_bar * speed * speed)
    num_bar = T_bar * along
    # of the quotients
    num_bar = num_bar + (lean_bar * lean - 0.5 * area_bar * area) / num
    den_bar = (0.5 * area_bar * area - lean_bar * lean) / den
    speed_bar = speed_bar - lean_bar * lean / speed
    g_bar = g_bar + scale(v, num_bar) + scale(g, 2.0 * den_bar)
    v_bar = v_bar + scale(g, num_bar) + t.shadow[k] * g_bar + scale(v, speed_bar / speed)
    return w_bar, v_bar
