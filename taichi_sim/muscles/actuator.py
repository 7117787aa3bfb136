"""Actuators on joints, tendons, sites: force = gain * x + bias, x the activation or else the control; their adjoint.

Gain and bias are affine in length and velocity, or a muscle's (`laws`). On hinges, slides and tendons the
velocity-dependent part of a force is taken at v + theta h a, its coefficient frozen, and drops out where the force is
clamped. On balls and free joints it is explicit.
"""

from taichi_sim import spatial
from taichi_sim.lanes.vectors import stack
from taichi_sim.muscles import elastic, laws, site
from taichi_sim.runtime import procedure, ti
from taichi_sim.types import JNT_BALL, JNT_FREE

# What `tendon` of an actuator says that acts on none.
ON_JOINT, ON_SITE, ON_BODY = -1, -2, -3


@ti.func
def control(m: ti.template(), d: ti.template(), e, u):
    """The control, clamped to its range."""
    return ti.min(ti.max(d.ctrl[e, u], m.actuator.ctrl_lo[u]), m.actuator.ctrl_hi[u])


@procedure
def adjoint_control(m: ti.template(), d: ti.template(), e, u, bar):
    """The adjoint of `control`, to grad_ctrl: a clamped control has no gradient."""
    inside = (d.ctrl[e, u] >= m.actuator.ctrl_lo[u]) & (d.ctrl[e, u] <= m.actuator.ctrl_hi[u])
    d.grad_ctrl[e, u] = d.grad_ctrl[e, u] + ti.select(inside, bar, bar * 0.0)


@ti.func
def dofnum(m: ti.template(), j):
    """Number of dofs of a joint."""
    n = 1
    if ti.static(m.actuator.on_ball):
        if m.jnt_type[j] == JNT_BALL:
            n = 3
    if ti.static(m.actuator.on_free):
        if m.jnt_type[j] == JNT_FREE:
            n = 6
    return n


@ti.func
def gear(m: ti.template(), u, k):
    """Entry k of an actuator's gear."""
    g = m.actuator.gear[0][u]
    for i in ti.static(range(1, 6)):
        if k == i:
            g = m.actuator.gear[i][u]
    return g


@ti.func
def ball_gear(m: ti.template(), u):
    """The first three entries of an actuator's gear, a torque's axis."""
    return stack([m.actuator.gear[0][u], m.actuator.gear[1][u], m.actuator.gear[2][u]])


@procedure
def transmission(m: ti.template(), d: ti.template(), e):
    """actuator_length and actuator_velocity."""
    for u in range(m.nu):
        g = m.actuator.gear[0][u]
        t = m.actuator.tendon[u]
        if ti.static(m.actuator.on_tendon):
            if t >= 0:
                d.actuator.length[e, u] = g * d.tendon.length[e, t]
                d.actuator.velocity[e, u] = g * d.tendon.velocity[e, t]
        if ti.static(m.actuator.on_joint):
            if t == ON_JOINT:
                joint_transmission(m, d, e, u)
        if ti.static(m.actuator.on_body):
            # of what it touches, see `constraint.adhesion`
            if t == ON_BODY:
                d.actuator.length[e, u] = d.qvel[e, 0] * 0.0
                d.actuator.velocity[e, u] = d.qvel[e, 0] * 0.0
    if ti.static(m.actuator.sites.number > 0):
        site.transmission(m, d, e)


@procedure
def joint_transmission(m: ti.template(), d: ti.template(), e, u):
    """Length and velocity of an actuator on a joint."""
    j = m.actuator.trnid[u]
    qadr = m.jnt_qposadr[j]
    dof = m.jnt_dofadr[j]
    length = m.actuator.gear[0][u] * d.qpos[e, qadr]
    if ti.static(m.actuator.on_free):
        if m.jnt_type[j] == JNT_FREE:
            length = length * 0.0
    if ti.static(m.actuator.on_ball):
        if m.jnt_type[j] == JNT_BALL:
            q = spatial.quat_normalize(spatial.load_quat(d.qpos, e, qadr))
            length = spatial.dot(ball_gear(m, u), spatial.quat_log(q))
    speed = m.actuator.gear[0][u] * d.qvel[e, dof]
    if ti.static(m.actuator.on_ball or m.actuator.on_free):
        for k in range(1, dofnum(m, j)):
            speed = speed + gear(m, u, k) * d.qvel[e, dof + k]
    d.actuator.length[e, u] = length
    d.actuator.velocity[e, u] = speed


@ti.func
def servo_length(m: ti.template(), d: ti.template(), e, u, c):
    """The length that the law sees: a position servo on a ball goes the short way to its target, as in MuJoCo 4."""
    length = d.actuator.length[e, u]
    if ti.static(m.actuator.on_ball):
        period = m.actuator.period[u]
        turns = ti.floor((c - length) / ti.max(period, 1e-6) + 0.5)
        length = length + period * turns
    return length


@ti.func
def drive(m: ti.template(), d: ti.template(), e, u):
    """What the force is driven by: the activation, or the control where there is none."""
    x = control(m, d, e, u)
    if ti.static(m.na > 0):
        i = m.actuator.actadr[u]
        if i >= 0:
            x = d.act[e, i]
    return x


@ti.func
def affine(m: ti.template(), d: ti.template(), e, u, x, speed):
    """gain, d force/d length, d force/d velocity and the force before clamping, at the given velocity."""
    row = e * m.per_block
    length = servo_length(m, d, e, u, x)
    gain = (
        m.actuator.gainprm[0][row, u] + m.actuator.gainprm[1][row, u] * length + m.actuator.gainprm[2][row, u] * speed
    )
    kp = m.actuator.gainprm[1][row, u] * x + m.actuator.biasprm[1][row, u]
    kv = m.actuator.gainprm[2][row, u] * x + m.actuator.biasprm[2][row, u]
    force = gain * x + m.actuator.biasprm[0][row, u]
    force = force + m.actuator.biasprm[1][row, u] * length + m.actuator.biasprm[2][row, u] * speed
    return gain, kp, kv, force


@ti.func
def muscle_constants(m: ti.template(), e, u):
    """The rows of `laws`, FORCE to DAMPING, for actuator u."""
    row = e * m.per_block
    rows = [
        m.actuator.muscle_force[row, u],
        m.actuator.muscle_optimal_length[row, u],
        m.actuator.muscle_slack_length[row, u],
    ]
    return stack(rows + [m.actuator.muscle_prm[k][u] for k in ti.static(range(len(m.actuator.muscle_prm)))])


@ti.func
def tangent(d: ti.template(), e, u):
    """What `law` has left of a muscle for its adjoint."""
    return stack([d.actuator.tangent[k][e, u] for k in ti.static(range(laws.NUM_TANGENT))])


@ti.func
def law(m: ti.template(), d: ti.template(), e, u, h, backward: ti.template()):
    """Force before clamping and d force/d velocity, at v; of elastic tendons rate, too, from what is in it; and for
    `adjoint_law` of rigid ones the tangent."""
    x = drive(m, d, e, u)
    speed = d.actuator.velocity[e, u]
    _, _, kv, force = affine(m, d, e, u, x, speed)
    if ti.static(m.actuator.any_muscle):
        if m.actuator.is_muscle[u] == 1 and m.actuator.tendonadr[u] < 0:
            c = muscle_constants(m, e, u)
            t = laws.tangent(m.actuator.muscle_laws, m.actuator.muscle_law[u], c, d.actuator.length[e, u], speed, x)
            force, kv = laws.force(c, t)
            if ti.static(backward):
                for k in ti.static(range(laws.NUM_TANGENT)):
                    d.actuator.tangent[k][e, u] = t[k, :]
    if ti.static(m.actuator.elastic):
        if m.actuator.tendonadr[u] >= 0:
            d.actuator.rate[e, u], force, kv = elastic.solve(
                muscle_constants(m, e, u),
                m.actuator.tendon_strain[u],
                m.actuator.tolerance[0],
                d.actuator.length[e, u],
                speed,
                d.act[e, m.actuator.tendonadr[u]],
                x,
                h,
                d.actuator.rate[e, u],
            )
    return force, kv


@ti.func
def strain_rate(m: ti.template(), d: ti.template(), e, u):
    """d eps/dt [1/s] of an elastic tendon, after `forces` with h = 0."""
    c = muscle_constants(m, e, u)
    return elastic.stretched(c, d.act[e, 0] * 0.0, d.actuator.velocity[e, u], d.actuator.rate[e, u], 1.0)


@ti.func
def resting_strain(m: ti.template(), d: ti.template(), e, u):
    """The strain of an elastic tendon whose unit, and fibre, stands still; of another actuator 0."""
    zero = d.ctrl[e, u] * 0.0
    strain = zero
    k = m.actuator.tendonadr[u]
    if k >= 0:
        c = muscle_constants(m, e, u)
        peak, near = m.actuator.tendon_strain[u], m.actuator.tolerance[0]
        x, length, forever = drive(m, d, e, u), d.actuator.length[e, u], elastic.FOREVER
        r, _f, _kv = elastic.solve(c, peak, near, length, zero, zero, x, forever, zero)
        strain = elastic.stretched(c, zero, zero, r, forever)
    return strain


@procedure
def begin(m: ti.template(), d: ti.template(), e):
    """Where the search for the fibres' rates begins, in a control step's first substep."""
    for u in range(m.nu):
        d.actuator.rate[e, u] = d.ctrl[e, u] * 0.0


@procedure
def stretch(m: ti.template(), d: ti.template(), e, h):
    """Strains of elastic tendons -> a substep on."""
    if ti.static(m.actuator.enabled):
        for u in range(m.nu):
            k = m.actuator.tendonadr[u]
            if k >= 0:
                c = muscle_constants(m, e, u)
                d.act[e, k] = elastic.stretched(c, d.act[e, k], d.actuator.velocity[e, u], d.actuator.rate[e, u], h)


@procedure
def forces(m: ti.template(), d: ti.template(), e, h, backward: ti.template()):
    """force and qfrc, both at v; on tendons their force; implicit coefficients; what `adjoint_forces` needs, if so."""
    for i in range(m.nv):
        d.actuator.qfrc[e, i] = d.qvel[e, i] * 0.0
        d.actuator.dof_implicit[e, i] = d.qvel[e, i] * 0.0
    if ti.static(m.actuator.enabled):
        for u in range(m.nu):
            force, kv = law(m, d, e, u, h, backward)
            clamped = ti.min(ti.max(force, m.actuator.force_lo[u]), m.actuator.force_hi[u])
            # a clamped force depends on nothing
            free = ti.select(clamped == force, force * 0.0 + 1.0, force * 0.0)
            d.actuator.force[e, u] = clamped
            d.actuator.free[e, u] = free
            d.actuator.kv[e, u] = free * kv
            g = m.actuator.gear[0][u]
            damping = -free * kv * g * g
            t = m.actuator.tendon[u]
            if ti.static(m.actuator.on_tendon):
                if t >= 0:
                    d.tendon.force[e, t] = d.tendon.force[e, t] + g * clamped
                    d.tendon.implicit[e, t] = d.tendon.implicit[e, t] + damping
            if ti.static(m.actuator.on_joint):
                if t == ON_JOINT:
                    j = m.actuator.trnid[u]
                    dof = m.jnt_dofadr[j]
                    for k in range(dofnum(m, j)):
                        d.actuator.qfrc[e, dof + k] = d.actuator.qfrc[e, dof + k] + gear(m, u, k) * clamped
                    if m.jnt_type[j] > JNT_BALL:
                        d.actuator.dof_implicit[e, dof] = d.actuator.dof_implicit[e, dof] + damping
        # no joint that they move is clamped, so the backward pass, which has fn and ff, does not ask
        if ti.static(m.actuator.sites.number > 0 and not backward):
            site.forces(m, d, e)
        for i in range(m.nv):
            j = m.dof_jntid[i]
            total = d.actuator.qfrc[e, i]
            clamped = ti.min(ti.max(total, m.actuator.jnt_actfrc_lo[j]), m.actuator.jnt_actfrc_hi[j])
            # a clamped joint's force depends on nothing
            free = ti.select(clamped == total, total * 0.0 + 1.0, total * 0.0)
            d.actuator.qfrc[e, i] = clamped
            d.actuator.dof_unclamped[e, i] = free
            d.dof_implicit[e, i] = d.dof_implicit[e, i] + free * d.actuator.dof_implicit[e, i]


@procedure
def adjoint_forces(m: ti.template(), d: ti.template(), e, h, h_theta):
    """lam' dqfrc/d(q, v, act, ctrl) to grad_qpos, grad_qvel, grad_act, grad_ctrl and the tendons' adjoints."""
    if ti.static(m.actuator.enabled):
        for u in range(m.nu):
            # lam' d qfrc / d force, and by how much the velocity moves ahead within the substep
            pull = d.ctrl[e, u] * 0.0
            ahead = d.ctrl[e, u] * 0.0
            g = m.actuator.gear[0][u]
            t = m.actuator.tendon[u]
            if ti.static(m.actuator.on_tendon):
                if t >= 0:
                    pull = g * d.tendon.lam[e, t]
                    ahead = g * (d.tendon.ahead[e, t] - d.tendon.velocity[e, t])
            if ti.static(m.actuator.on_joint):
                if t == ON_JOINT:
                    j = m.actuator.trnid[u]
                    dof = m.jnt_dofadr[j]
                    for k in range(dofnum(m, j)):
                        pull = pull + gear(m, u, k) * d.lam[e, dof + k] * d.actuator.dof_unclamped[e, dof + k]
                    if m.jnt_type[j] > JNT_BALL:
                        ahead = h_theta * g * d.qacc[e, dof] * d.actuator.dof_unclamped[e, dof]
            if t > ON_SITE:
                adjoint_law(m, d, e, u, pull, ahead, h)
        if ti.static(m.actuator.sites.number > 0):
            for k in range(m.actuator.sites.number):
                u = m.actuator.sites.unit[k]
                adjoint_law(m, d, e, u, site.pull(m, d, e, k), d.ctrl[e, u] * 0.0, h)
                site.adjoint_place(m, d, e, k)


@procedure
def adjoint_law(m: ti.template(), d: ti.template(), e, u, pull, ahead, h):
    """`adjoint_forces` of one actuator, its force taken with the velocity ahead of actuator_velocity."""
    speed = d.actuator.velocity[e, u]
    x = drive(m, d, e, u)
    kv = d.actuator.kv[e, u]
    pull = pull * d.actuator.free[e, u]
    # derivatives of force + kv ahead in x, in the length, and in the velocity with `ahead` held
    by_x, by_length, by_speed, _ = affine(m, d, e, u, x, speed + ahead)
    if ti.static(m.actuator.any_muscle):
        if m.actuator.is_muscle[u] == 1 and m.actuator.tendonadr[u] < 0:
            by_length, by_speed, by_x = laws.adjoint(muscle_constants(m, e, u), tangent(d, e, u), ahead)
    x_bar, length_bar, speed_bar = pull * by_x, pull * by_length, pull * by_speed
    if ti.static(m.actuator.elastic):
        if m.actuator.tendonadr[u] >= 0:
            length_bar, speed_bar, x_bar = adjoint_elastic(m, d, e, u, x, pull, ahead, h)
    t = m.actuator.tendon[u]
    g = m.actuator.gear[0][u]
    if ti.static(m.actuator.on_tendon):
        if t >= 0:
            d.tendon.force[e, t] = d.tendon.force[e, t] + g * (d.actuator.force[e, u] + kv * ahead)
            d.tendon.length_bar[e, t] = d.tendon.length_bar[e, t] + g * length_bar
            d.tendon.velocity_bar[e, t] = d.tendon.velocity_bar[e, t] + g * (speed_bar - pull * kv)
            d.tendon.ahead_bar[e, t] = d.tendon.ahead_bar[e, t] + g * pull * kv
    if ti.static(m.actuator.on_joint):
        if t == ON_JOINT:
            adjoint_joint(m, d, e, u, length_bar, speed_bar)
    adjoint_drive(m, d, e, u, x_bar)
    if ti.static(m.fit):
        adjoint_constants(m, d, e, u, x, speed, ahead, pull)


@ti.func
def adjoint_elastic(m: ti.template(), d: ti.template(), e, u, x, pull, ahead, h):
    """Adjoints of length, velocity and activation of a unit with an elastic tendon; grad_act of its strain a substep on
    -> before it.
    """
    k = m.actuator.tendonadr[u]
    length_bar, speed_bar, eps_bar, x_bar, f0_bar, lopt_bar, lslack_bar = elastic.adjoint(
        muscle_constants(m, e, u),
        m.actuator.tendon_strain[u],
        d.actuator.length[e, u],
        d.actuator.velocity[e, u],
        d.act[e, k],
        x,
        h,
        d.actuator.rate[e, u],
        ahead,
        pull,
        d.grad_act[e, k],
    )
    d.grad_act[e, k] = eps_bar
    if ti.static(m.fit):
        add_constants(m, e, u, f0_bar, lopt_bar, lslack_bar)
    return length_bar, speed_bar, x_bar


@procedure
def adjoint_joint(m: ti.template(), d: ti.template(), e, u, length_bar, speed_bar):
    """Adjoints of an actuator's length and velocity on a joint, to grad_qpos and grad_qvel."""
    j = m.actuator.trnid[u]
    dof = m.jnt_dofadr[j]
    for k in range(dofnum(m, j)):
        d.grad_qvel[e, dof + k] = d.grad_qvel[e, dof + k] + gear(m, u, k) * speed_bar
    if m.jnt_type[j] > JNT_BALL:
        d.grad_qpos[e, dof] = d.grad_qpos[e, dof] + m.actuator.gear[0][u] * length_bar
    if ti.static(m.actuator.on_ball):
        if m.jnt_type[j] == JNT_BALL:
            q = spatial.quat_normalize(spatial.load_quat(d.qpos, e, m.jnt_qposadr[j]))
            g = spatial.jac_right_inv_transpose(spatial.quat_log(q), ball_gear(m, u))
            for k in ti.static(range(3)):
                d.grad_qpos[e, dof + k] = d.grad_qpos[e, dof + k] + g[k, :] * length_bar


@procedure
def adjoint_drive(m: ti.template(), d: ti.template(), e, u, x_bar):
    """The adjoint of what drives actuator u, to grad_act or grad_ctrl."""
    ctrl_bar = x_bar
    if ti.static(m.na > 0):
        i = m.actuator.actadr[u]
        if i >= 0:
            d.grad_act[e, i] = d.grad_act[e, i] + x_bar
            ctrl_bar = x_bar * 0.0
    adjoint_control(m, d, e, u, ctrl_bar)


@procedure
def adjoint_constants(m: ti.template(), d: ti.template(), e, u, x, speed, ahead, pull):
    """pull times the gradient of the force in the constants of its law."""
    if m.actuator.is_muscle[u] == 0:
        for k, factor in ti.static(enumerate((1.0, servo_length(m, d, e, u, x), speed + ahead))):
            m.actuator.grad_gainprm[k][e, u] = m.actuator.grad_gainprm[k][e, u] + pull * x * factor
            m.actuator.grad_biasprm[k][e, u] = m.actuator.grad_biasprm[k][e, u] + pull * factor
    if ti.static(m.actuator.any_muscle):
        if m.actuator.is_muscle[u] == 1 and m.actuator.tendonadr[u] < 0:
            c = muscle_constants(m, e, u)
            f0, lopt, lslack = laws.adjoint_constants(c, tangent(d, e, u), d.actuator.length[e, u], speed, ahead)
            add_constants(m, e, u, pull * f0, pull * lopt, pull * lslack)


@procedure
def adjoint_damping(m: ti.template(), d: ti.template(), e, h):
    """The gradient in servos' constants of what they damp afterwards, mu' h C a' (`implicit.adjoint`)."""
    for u in range(m.nu):
        if m.actuator.tendon[u] == ON_JOINT:
            dof = m.jnt_dofadr[m.actuator.trnid[u]]
            if m.jnt_type[m.actuator.trnid[u]] > JNT_BALL:
                g = m.actuator.gear[0][u]
                bar = h * g * g * d.mu[e, dof] * (d.qacc[e, dof] - d.damped[e, dof])
                bar = bar * d.actuator.free[e, u] * d.actuator.dof_unclamped[e, dof]
                add_resistance(m, d, e, u, bar)
    for n in range(m.tendon.damped.number):
        i, j = m.tendon.damped.dof1[n], m.tendon.damped.dof2[n]
        bar = d.mu[e, i] * (d.qacc[e, j] - d.damped[e, j])
        if i != j:
            bar = bar + d.mu[e, j] * (d.qacc[e, i] - d.damped[e, i])
        for u in range(m.nu):
            if m.actuator.tendon[u] == m.tendon.damped.tendon[n]:
                g = m.actuator.gear[0][u]
                add_resistance(m, d, e, u, h * g * g * m.tendon.damped.weight[n] * bar * d.actuator.free[e, u])


@procedure
def add_resistance(m: ti.template(), d: ti.template(), e, u, bar):
    """Adds to the gradient in what a force has of its velocity, the bias's and the gain's part."""
    m.actuator.grad_biasprm[2][e, u] = m.actuator.grad_biasprm[2][e, u] + bar
    m.actuator.grad_gainprm[2][e, u] = m.actuator.grad_gainprm[2][e, u] + bar * drive(m, d, e, u)


@procedure
def add_constants(m: ti.template(), e, u, f0_bar, lopt_bar, lslack_bar):
    """Adds to the gradient in a muscle's constants."""
    m.actuator.grad_muscle_force[e, u] = m.actuator.grad_muscle_force[e, u] + f0_bar
    m.actuator.grad_muscle_optimal_length[e, u] = m.actuator.grad_muscle_optimal_length[e, u] + lopt_bar
    m.actuator.grad_muscle_slack_length[e, u] = m.actuator.grad_muscle_slack_length[e, u] + lslack_bar
