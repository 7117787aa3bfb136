"""What the fibres of muscles do at one moment, and the derivatives of that: `results.FibreData`, in kernels."""

from taichi_sim.lanes.vectors import stack
from taichi_sim.muscles import elastic, laws
from taichi_sim.muscles.actuator import drive, muscle_constants
from taichi_sim.runtime import ti

# What the results depend on: the unit's length [m] and velocity [m/s], its tendon's strain, its activation.
NUM_INPUTS = 4
# Results: length [m] and velocity [m/s] of the fibre, its active, passive and isometric force [N].
NUM_RESULTS = 5


@ti.func
def measure(m: ti.template(), d: ti.template(), e, u):
    """The results for actuator u as rows, then those of their derivatives: of each result in each of the inputs."""
    length, velocity, a = d.actuator.length[e, u], d.actuator.velocity[e, u], drive(m, d, e, u)
    law = m.actuator.muscle_law[u]
    c = muscle_constants(m, e, u)
    zero = length * 0.0
    # z and its rate by length, velocity, eps and activation; of the rate of a rigid tendon only by velocity
    inverse = 1.0 / c[laws.OPTIMAL, :]
    z = (length - c[laws.SLACK, :]) * inverse
    rate = velocity * inverse
    z_eps = zero
    rate_length = zero
    rate_velocity = inverse
    rate_eps = zero
    rate_a = zero
    if ti.static(m.actuator.elastic):
        if m.actuator.tendonadr[u] >= 0:
            eps = d.act[e, m.actuator.tendonadr[u]]
            a = ti.max(a, 0.0)
            peak = m.actuator.tendon_strain[u]
            rate, _f, _kv = elastic.solve(c, peak, m.actuator.tolerance[0], length, velocity, eps, a, 0.0, zero)
            z = elastic.extent(c, length, eps)
            z_eps = -c[laws.SLACK, :] * inverse
            _p, p_z, p_r, p_a, _p_rz, _p_rr, _p_ra = elastic.fibre(c, z, rate, a)
            _t, dt, _ddt = elastic.tendon(eps, peak)
            # P(z, rate, a) = FT(eps)
            rate_length = -p_z * inverse / p_r
            rate_velocity = zero
            rate_eps = (dt - p_z * z_eps) / p_r
            rate_a = -p_a / p_r
    x, dx, cosine, dc = laws.geometry(m.actuator.muscle_laws, law, z, c[laws.SINE, :])
    w = cosine * rate / c[laws.VMAX, :]
    fl, dfl, fv, dfv, _ddfv, fp, dfp = laws.curves(m.actuator.muscle_laws, law, c, x, w)
    beta = laws.damping_of(law, c)
    f0, lopt = c[laws.FORCE, :], c[laws.OPTIMAL, :]
    fastest = lopt * c[laws.VMAX, :]
    results = [lopt * x, fastest * w, f0 * a * fl * fv, f0 * (fp + beta * w), f0 * a * fl]
    # by z, by w, and directly by the activation
    by_z = [lopt * dx, zero, f0 * a * dfl * dx * fv, f0 * dfp * dx, f0 * a * dfl * dx]
    by_w = [zero, fastest, f0 * a * fl * dfv, f0 * beta, zero]
    by_a = [zero, zero, f0 * fl * fv, zero, f0 * fl]
    turn = dc * rate / c[laws.VMAX, :]
    swift = cosine / c[laws.VMAX, :]
    z_by = [inverse, zero, z_eps, zero]
    rate_by = [rate_length, rate_velocity, rate_eps, rate_a]
    w_by = [turn * z_by[k] + swift * rate_by[k] for k in ti.static(range(NUM_INPUTS))]
    directly = [0.0, 0.0, 0.0, 1.0]
    slopes = [
        by_z[i] * z_by[k] + by_w[i] * w_by[k] + by_a[i] * directly[k]
        for i in ti.static(range(NUM_RESULTS))
        for k in ti.static(range(NUM_INPUTS))
    ]
    return stack(results + slopes)
