"""Actuators on joints: force = gain * ctrl + bias with affine gain and bias; and their adjoint.

On hinges and slides the velocity-dependent part of a force is taken at v + theta h a, its coefficient frozen, and
drops out where the force is clamped. On balls and free joints it is explicit.
"""

from taichi_sim import spatial
from taichi_sim.runtime import ti
from taichi_sim.types import JNT_BALL, JNT_FREE


@ti.func
def control(m: ti.template(), d: ti.template(), e, u):
    """The control, clamped to its range."""
    return ti.min(ti.max(d.ctrl[e, u], m.ctrl_lo[u]), m.ctrl_hi[u])


@ti.func
def dofnum(m: ti.template(), j):
    """Number of dofs of a joint."""
    n = 1
    if ti.static(m.act_ball):
        if m.jnt_type[j] == JNT_BALL:
            n = 3
    if ti.static(m.act_free):
        if m.jnt_type[j] == JNT_FREE:
            n = 6
    return n


@ti.func
def gear(m: ti.template(), u, k):
    """Entry k of an actuator's gear."""
    g = m.actuator_gear[0][u]
    for i in ti.static(range(1, 6)):
        if k == i:
            g = m.actuator_gear[i][u]
    return g


@ti.func
def ball_gear(m: ti.template(), u):
    """The first three entries of an actuator's gear, a torque's axis."""
    return ti.Matrix.rows([m.actuator_gear[0][u], m.actuator_gear[1][u], m.actuator_gear[2][u]])


@ti.func
def transmission(m: ti.template(), d: ti.template(), e):
    """actuator_length and actuator_velocity."""
    for u in range(m.nu):
        j = m.actuator_trnid[u]
        qadr = m.jnt_qposadr[j]
        dof = m.jnt_dofadr[j]
        length = m.actuator_gear[0][u] * d.qpos[e, qadr]
        if ti.static(m.act_free):
            if m.jnt_type[j] == JNT_FREE:
                length = length * 0.0
        if ti.static(m.act_ball):
            if m.jnt_type[j] == JNT_BALL:
                q = spatial.quat_normalize(spatial.load_quat(d.qpos, e, qadr))
                length = spatial.dot(ball_gear(m, u), spatial.quat_log(q))
        speed = m.actuator_gear[0][u] * d.qvel[e, dof]
        if ti.static(m.act_ball or m.act_free):
            for k in range(1, dofnum(m, j)):
                speed = speed + gear(m, u, k) * d.qvel[e, dof + k]
        d.actuator_length[e, u] = length
        d.actuator_velocity[e, u] = speed


@ti.func
def servo_length(m: ti.template(), d: ti.template(), e, u, c):
    """The length that the law sees: a position servo on a ball goes the short way to its target, as in MuJoCo 4."""
    length = d.actuator_length[e, u]
    if ti.static(m.act_ball):
        period = m.actuator_period[u]
        turns = ti.floor((c - length) / ti.max(period, 1e-6) + 0.5)
        length = length + period * turns
    return length


@ti.func
def law(m: ti.template(), d: ti.template(), e, u, speed):
    """gain, d force/d length, d force/d velocity and the force before clamping, at the given velocity."""
    row = e * m.per_block
    c = control(m, d, e, u)
    length = servo_length(m, d, e, u, c)
    gain = (
        m.actuator_gainprm[0][row, u] + m.actuator_gainprm[1][row, u] * length + m.actuator_gainprm[2][row, u] * speed
    )
    kp = m.actuator_gainprm[1][row, u] * c + m.actuator_biasprm[1][row, u]
    kv = m.actuator_gainprm[2][row, u] * c + m.actuator_biasprm[2][row, u]
    force = gain * c + m.actuator_biasprm[0][row, u]
    force = force + m.actuator_biasprm[1][row, u] * length + m.actuator_biasprm[2][row, u] * speed
    return gain, kp, kv, force


@ti.func
def forces(m: ti.template(), d: ti.template(), e):
    """actuator_force and qfrc_actuator, both at v; implicit coefficients on dof_implicit."""
    for i in range(m.nv):
        d.qfrc_actuator[e, i] = d.qvel[e, i] * 0.0
        d.dof_actuator[e, i] = d.qvel[e, i] * 0.0
    if ti.static(m.actuation):
        for u in range(m.nu):
            j = m.actuator_trnid[u]
            dof = m.jnt_dofadr[j]
            _, _, kv, force = law(m, d, e, u, d.actuator_velocity[e, u])
            clamped = ti.min(ti.max(force, m.force_lo[u]), m.force_hi[u])
            d.actuator_force[e, u] = clamped
            for k in range(dofnum(m, j)):
                d.qfrc_actuator[e, dof + k] = d.qfrc_actuator[e, dof + k] + gear(m, u, k) * clamped
            if m.jnt_type[j] > JNT_BALL:
                g = m.actuator_gear[0][u]
                d.dof_actuator[e, dof] = d.dof_actuator[e, dof] + ti.select(clamped == force, -kv * g * g, g * 0.0)
        for i in range(m.nv):
            j = m.dof_jntid[i]
            total = d.qfrc_actuator[e, i]
            clamped = ti.min(ti.max(total, m.jnt_actfrc_lo[j]), m.jnt_actfrc_hi[j])
            # a clamped joint's force depends on nothing
            free = ti.select(clamped == total, total * 0.0 + 1.0, total * 0.0)
            d.qfrc_actuator[e, i] = clamped
            d.dof_unclamped[e, i] = free
            d.dof_implicit[e, i] = d.dof_implicit[e, i] + free * d.dof_actuator[e, i]


@ti.func
def adjoint_forces(m: ti.template(), d: ti.template(), e, h_theta):
    """grad_qpos, grad_qvel, grad_ctrl += lam' dqfrc_actuator/d(q, v, ctrl)."""
    if ti.static(m.actuation):
        for u in range(m.nu):
            j = m.actuator_trnid[u]
            dof = m.jnt_dofadr[j]
            scalar = m.jnt_type[j] > JNT_BALL
            _, _, kv, force = law(m, d, e, u, d.actuator_velocity[e, u])
            clamped = ti.min(ti.max(force, m.force_lo[u]), m.force_hi[u])
            free = ti.select(clamped == force, force * 0.0 + 1.0, force * 0.0)
            pull = force * 0.0
            for k in range(dofnum(m, j)):
                pull = pull + gear(m, u, k) * d.lam[e, dof + k] * d.dof_unclamped[e, dof + k]
            pull = pull * free
            # the velocity at which the force was taken
            speed = d.actuator_velocity[e, u]
            if scalar:
                ahead = h_theta * m.actuator_gear[0][u] * d.qacc[e, dof] * d.dof_unclamped[e, dof]
                speed = speed + ahead
            gain, kp, _, _ = law(m, d, e, u, speed)
            inside = (d.ctrl[e, u] >= m.ctrl_lo[u]) & (d.ctrl[e, u] <= m.ctrl_hi[u])
            d.grad_ctrl[e, u] = d.grad_ctrl[e, u] + ti.select(inside, pull * gain, pull * 0.0)
            for k in range(dofnum(m, j)):
                d.grad_qvel[e, dof + k] = d.grad_qvel[e, dof + k] + gear(m, u, k) * pull * kv
            if scalar:
                d.grad_qpos[e, dof] = d.grad_qpos[e, dof] + m.actuator_gear[0][u] * pull * kp
            if ti.static(m.act_ball):
                if m.jnt_type[j] == JNT_BALL:
                    q = spatial.quat_normalize(spatial.load_quat(d.qpos, e, m.jnt_qposadr[j]))
                    g = spatial.jac_right_inv_transpose(spatial.quat_log(q), ball_gear(m, u))
                    for k in ti.static(range(3)):
                        d.grad_qpos[e, dof + k] = d.grad_qpos[e, dof + k] + g[k, :] * pull * kp
            if ti.static(m.fit):
                c = control(m, d, e, u)
                length = servo_length(m, d, e, u, c)
                for k, factor in ti.static(enumerate((1.0, length, speed))):
                    m.grad_gainprm[k][e, u] = m.grad_gainprm[k][e, u] + pull * c * factor
                    m.grad_biasprm[k][e, u] = m.grad_biasprm[k][e, u] + pull * factor
