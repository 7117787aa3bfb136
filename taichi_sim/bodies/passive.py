"""Passive joint forces: springs, damping, position limits; and their adjoint.

Damping acts at v + theta h a with its coefficient frozen (`Data.dof_implicit`), springs explicitly. A limit is a
penalty spring `ke` with a damper that is continuous in the violation: one without `loss` is `kd` and fades in over the
first `LIMIT_RAMP`, one with it is dry, of the size loss times the spring's force, and `kd` bounds its coefficient
(`contact.law` says what for).
"""

from taichi_sim import spatial
from taichi_sim.bodies.friction import sliding
from taichi_sim.runtime import procedure, ti
from taichi_sim.types import JNT_BALL, JNT_FREE, JNT_SLIDE

# Violation [m, rad] at which a limit's damper is fully on.
LIMIT_RAMP = 0.01


@ti.func
def ball_displacement(m: ti.template(), d: ti.template(), e, qadr):
    """Rotation vector from the spring's rest orientation, in the body's frame."""
    rest = spatial.quat_normalize(spatial.load_quat_constant(m.qpos_spring, qadr))
    now = spatial.quat_normalize(spatial.load_quat(d.qpos, e, qadr))
    return spatial.quat_log(spatial.quat_mul(spatial.quat_conj(rest), now))


@procedure
def springs(m: ti.template(), d: ti.template(), e):
    """qfrc_passive = -stiffness * (q - q_spring); zero where there is no spring."""
    row = e * m.per_block
    for i in range(m.nv):
        d.qfrc_passive[e, i] = m.dof_damping[row, i] * 0.0
    if ti.static(m.spring):
        for j in range(m.njnt):
            if m.jnt_sprung[j] == 1:
                k = m.jnt_stiffness[row, j]
                qadr = m.jnt_qposadr[j]
                dof = m.jnt_dofadr[j]
                if m.jnt_type[j] > JNT_BALL:
                    d.qfrc_passive[e, dof] = k * (m.qpos_spring[qadr] - d.qpos[e, qadr])
                if ti.static(m.ball):
                    if m.jnt_type[j] < JNT_SLIDE:
                        if ti.static(m.free):
                            if m.jnt_type[j] == JNT_FREE:
                                for i in ti.static(range(3)):
                                    d.qfrc_passive[e, dof + i] = k * (m.qpos_spring[qadr + i] - d.qpos[e, qadr + i])
                                qadr = qadr + 3
                                dof = dof + 3
                        u = ball_displacement(m, d, e, qadr)
                        for i in ti.static(range(3)):
                            d.qfrc_passive[e, dof + i] = -k * u[i, :]


@procedure
def dampers(m: ti.template(), d: ti.template(), e):
    """Damping: its coefficient to dof_implicit, its force at v to qfrc_passive."""
    row = e * m.per_block
    for i in range(m.nv):
        c = m.dof_damping[row, i] * (1.0 if ti.static(m.damper) else 0.0)
        d.dof_implicit[e, i] = c
        d.qfrc_passive[e, i] = d.qfrc_passive[e, i] - (c * d.qvel[e, i])


@ti.func
def stop_damping(lossy: ti.template(), ramp, ke, kd, loss, depth, v2):
    """Damping c of a limit at a violation and the square of a velocity, dc/d(violation), and fall: dc/dv = -fall v.

    Without loss it is kd, faded in over the first `ramp` of violation; else that of a force loss times the spring's.
    """
    c = kd * ti.min(depth / ramp, 1.0)
    slope = ti.select((depth > 0.0) & (depth < ramp), depth * 0.0 + kd / ramp, depth * 0.0)
    fall = depth * 0.0
    if ti.static(lossy):
        dry, slides, speed = sliding(kd, loss * ke * depth, v2)
        c = ti.select(loss > 0.0, dry, c)
        violated = ti.select(depth > 0.0, slides, depth * 0.0)
        slope = ti.select(loss > 0.0, violated * loss * ke / speed, slope)
        fall = violated * dry / (speed * speed)
    return c, slope, fall


@ti.func
def limit_damping(m: ti.template(), j, depth, v2):
    """`stop_damping` of joint j's limit."""
    ke, kd, loss = m.jnt_limit_ke[j], m.jnt_limit_kd[j], m.jnt_limit_loss[j]
    return stop_damping(m.limit_lossy, LIMIT_RAMP, ke, kd, loss, depth, v2)


@procedure
def limits(m: ti.template(), d: ti.template(), e):
    """qfrc_limit, and the damper's coefficient on dof_implicit."""
    for i in range(m.nv):
        d.qfrc_limit[e, i] = d.qvel[e, i] * 0.0
    if ti.static(m.limit):
        for j in range(m.njnt):
            if m.jnt_limited[j] == 1:
                ke = m.jnt_limit_ke[j]
                qadr = m.jnt_qposadr[j]
                dof = m.jnt_dofadr[j]
                if m.jnt_type[j] > JNT_BALL:
                    q = d.qpos[e, qadr]
                    low = ti.max(m.jnt_range_lo[j] - q, 0.0)
                    high = ti.max(q - m.jnt_range_hi[j], 0.0)
                    v = d.qvel[e, dof]
                    c, _slope, _fall = limit_damping(m, j, low + high, v * v)
                    d.qfrc_limit[e, dof] = ke * (low - high) - c * v
                    d.dof_implicit[e, dof] = d.dof_implicit[e, dof] + c
                if ti.static(m.limit_ball):
                    if m.jnt_type[j] == JNT_BALL:
                        # the angle from the identity pulls back along its own axis; damping acts on all axes
                        u = spatial.quat_log(spatial.quat_normalize(spatial.load_quat(d.qpos, e, qadr)))
                        angle = ti.sqrt(spatial.dot(u, u))
                        depth = ti.max(angle - m.jnt_range_hi[j], 0.0)
                        pull = -ke * depth / ti.max(angle, 1e-6)
                        v = spatial.load_vec3(d.qvel, e, dof)
                        c, _slope, _fall = limit_damping(m, j, depth, spatial.dot(v, v))
                        for i in ti.static(range(3)):
                            d.qfrc_limit[e, dof + i] = pull * u[i, :] - c * d.qvel[e, dof + i]
                            d.dof_implicit[e, dof + i] = d.dof_implicit[e, dof + i] + c


@procedure
def adjoint_springs(m: ti.template(), d: ti.template(), e):
    """grad_qpos += lam' dqfrc/dq of the springs."""
    row = e * m.per_block
    if ti.static(m.spring):
        for j in range(m.njnt):
            if m.jnt_sprung[j] == 1:
                k = m.jnt_stiffness[row, j]
                qadr = m.jnt_qposadr[j]
                dof = m.jnt_dofadr[j]
                slope = k * 0.0
                if m.jnt_type[j] > JNT_BALL:
                    d.grad_qpos[e, dof] = d.grad_qpos[e, dof] - k * d.lam[e, dof]
                    slope = (m.qpos_spring[qadr] - d.qpos[e, qadr]) * d.lam[e, dof]
                if ti.static(m.ball):
                    if m.jnt_type[j] < JNT_SLIDE:
                        if ti.static(m.free):
                            if m.jnt_type[j] == JNT_FREE:
                                for i in ti.static(range(3)):
                                    d.grad_qpos[e, dof + i] = d.grad_qpos[e, dof + i] - k * d.lam[e, dof + i]
                                    stretch = m.qpos_spring[qadr + i] - d.qpos[e, qadr + i]
                                    slope = slope + stretch * d.lam[e, dof + i]
                                qadr = qadr + 3
                                dof = dof + 3
                        u = ball_displacement(m, d, e, qadr)
                        g = spatial.jac_right_inv_transpose(u, spatial.load_vec3(d.lam, e, dof))
                        for i in ti.static(range(3)):
                            d.grad_qpos[e, dof + i] = d.grad_qpos[e, dof + i] - k * g[i, :]
                            slope = slope - u[i, :] * d.lam[e, dof + i]
                if ti.static(m.fit):
                    m.grad_jnt_stiffness[e, j] = m.grad_jnt_stiffness[e, j] + slope


@procedure
def adjoint_dampers(m: ti.template(), d: ti.template(), e, h_theta):
    """grad_qvel += lam' dqfrc/dv of the dampers."""
    row = e * m.per_block
    if ti.static(m.damper):
        for i in range(m.nv):
            d.grad_qvel[e, i] = d.grad_qvel[e, i] - m.dof_damping[row, i] * d.lam[e, i]
            if ti.static(m.fit):
                v = d.qvel[e, i] + h_theta * d.qacc[e, i]
                m.grad_dof_damping[e, i] = m.grad_dof_damping[e, i] - d.lam[e, i] * v


@procedure
def adjoint_limits(m: ti.template(), d: ti.template(), e, h_theta):
    """grad_qpos, grad_qvel += lam' dqfrc/d(q, v) of the limits."""
    if ti.static(m.limit):
        for j in range(m.njnt):
            if m.jnt_limited[j] == 1:
                ke = m.jnt_limit_ke[j]
                qadr = m.jnt_qposadr[j]
                dof = m.jnt_dofadr[j]
                if m.jnt_type[j] > JNT_BALL:
                    q = d.qpos[e, qadr]
                    lam = d.lam[e, dof]
                    low = ti.max(m.jnt_range_lo[j] - q, 0.0)
                    high = ti.max(q - m.jnt_range_hi[j], 0.0)
                    depth = low + high
                    side = ti.select(high > 0.0, 1.0, ti.select(low > 0.0, -1.0, q * 0.0))
                    v = d.qvel[e, dof]
                    c, slope, fall = limit_damping(m, j, depth, v * v)
                    ahead = v + h_theta * d.qacc[e, dof]
                    d.grad_qpos[e, dof] = d.grad_qpos[e, dof] - (lam * (ke * side * side + side * slope * ahead))
                    d.grad_qvel[e, dof] = d.grad_qvel[e, dof] - (lam * (c - fall * v * ahead))
                if ti.static(m.limit_ball):
                    if m.jnt_type[j] == JNT_BALL:
                        u = spatial.quat_log(spatial.quat_normalize(spatial.load_quat(d.qpos, e, qadr)))
                        angle = ti.max(ti.sqrt(spatial.dot(u, u)), 1e-6)
                        depth = ti.max(angle - m.jnt_range_hi[j], 0.0)
                        on = ti.select(depth > 0.0, angle * 0.0 + 1.0, angle * 0.0)
                        n = spatial.scale(u, 1.0 / angle)
                        lam = spatial.load_vec3(d.lam, e, dof)
                        v = spatial.load_vec3(d.qvel, e, dof)
                        ahead = v + h_theta * spatial.load_vec3(d.qacc, e, dof)
                        c, slope, fall = limit_damping(m, j, depth, spatial.dot(v, v))
                        # f = -ke depth n - c v; d depth = n . du, dn = (1 - n n') du / angle
                        along = spatial.dot(n, lam)
                        across = spatial.scale(lam - spatial.scale(n, along), ke * depth / angle)
                        g = across + spatial.scale(n, on * ke * along + slope * spatial.dot(ahead, lam))
                        g = spatial.jac_right_inv_transpose(u, g)
                        for i in ti.static(range(3)):
                            d.grad_qpos[e, dof + i] = d.grad_qpos[e, dof + i] - g[i, :]
                            fallen = fall * v[i, :] * spatial.dot(ahead, lam)
                            d.grad_qvel[e, dof + i] = d.grad_qvel[e, dof + i] - (c * lam[i, :] - fallen)
