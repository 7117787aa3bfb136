"""The step of the state, v+ = v + h a and q+ = q (+) h v+, and its adjoint.

Positions have adjoints in tangent space, one number per dof: those of balls are rotations in the body's frame.
"""

from taichi_sim import spatial
from taichi_sim.runtime import procedure, ti
from taichi_sim.types import JNT_BALL, JNT_FREE, JNT_SLIDE


@procedure
def integrate(m: ti.template(), d: ti.template(), e, h):
    """qacc -> the next qvel and qpos (semi-implicit Euler)."""
    for i in range(m.nv):
        d.qvel[e, i] = d.qvel[e, i] + h * d.qacc[e, i]
    positions(m, d, e, h, d.qvel)


@procedure
def positions(m: ti.template(), d: ti.template(), e, h, v: ti.template()):
    """qpos -> where it is after a time h at the velocities v."""
    for j in range(m.njnt):
        qadr = m.jnt_qposadr[j]
        dof = m.jnt_dofadr[j]
        if m.jnt_type[j] > JNT_BALL:
            move(d, e, qadr, h * v[e, dof])
        if ti.static(m.ball):
            if m.jnt_type[j] < JNT_SLIDE:
                if ti.static(m.free):
                    if m.jnt_type[j] == JNT_FREE:
                        for k in ti.static(range(3)):
                            move(d, e, qadr + k, h * v[e, dof + k])
                        qadr = qadr + 3
                        dof = dof + 3
                q = spatial.quat_normalize(spatial.load_quat(d.qpos, e, qadr))
                q = spatial.quat_mul(q, spatial.quat_exp(h * spatial.load_vec3(v, e, dof)))
                for k in ti.static(range(4)):
                    d.qpos[e, qadr + k] = q[k, :]


@procedure
def begin(m: ti.template(), d: ti.template(), e):
    """Notes the positions at the beginning of a control step."""
    for i in range(m.nq):
        d.qpos_begin[e, i] = d.qpos[e, i]
        d.qpos_moved[e, i] = d.qpos[e, i] * 0.0


@procedure
def move(d: ti.template(), e, i, step):
    """qpos += step, by way of the sum since `begin`: far from zero, each of many small steps would be rounded away."""
    moved = d.qpos_moved[e, i] + step
    d.qpos_moved[e, i] = moved
    d.qpos[e, i] = d.qpos_begin[e, i] + moved


@procedure
def adjoint_integrate(m: ti.template(), d: ti.template(), e, h):
    """Adjoints of (q+, v+) -> of (q, v), and lam = h v_bar, that of qacc. Expects qvel and qacc of the substep."""
    for i in range(m.nv):
        d.slope[e, i] = d.qvel[e, i] + h * d.qacc[e, i]
    adjoint_positions(m, d, e, h, d.slope, d.grad_qvel)
    for i in range(m.nv):
        d.lam[e, i] = h * d.grad_qvel[e, i]


@procedure
def adjoint_positions(m: ti.template(), d: ti.template(), e, h, v: ti.template(), v_bar: ti.template()):
    """grad_qpos after `positions` -> before it; what it says of v is added to v_bar."""
    for j in range(m.njnt):
        dof = m.jnt_dofadr[j]
        if m.jnt_type[j] > JNT_BALL:
            v_bar[e, dof] = v_bar[e, dof] + h * d.grad_qpos[e, dof]
        if ti.static(m.ball):
            if m.jnt_type[j] < JNT_SLIDE:
                if ti.static(m.free):
                    if m.jnt_type[j] == JNT_FREE:
                        for k in ti.static(range(3)):
                            v_bar[e, dof + k] = v_bar[e, dof + k] + h * d.grad_qpos[e, dof + k]
                        dof = dof + 3
                u = h * spatial.load_vec3(v, e, dof)
                g = spatial.load_vec3(d.grad_qpos, e, dof)
                # q+ = q exp(u): dq+ = exp(-u) dq + J_r(u) du, both in the body's frame
                gv = spatial.jac_right_transpose(u, g)
                g = spatial.rotate(spatial.quat_exp(u), g)
                for k in ti.static(range(3)):
                    v_bar[e, dof + k] = v_bar[e, dof + k] + h * gv[k, :]
                    d.grad_qpos[e, dof + k] = g[k, :]


@procedure
def tangent(m: ti.template(), d: ti.template(), e, raw: ti.template()):
    """grad_qpos from `raw`, the adjoint of qpos' own entries, at the unit quaternions in qpos."""
    for j in range(m.njnt):
        qadr = m.jnt_qposadr[j]
        dof = m.jnt_dofadr[j]
        if m.jnt_type[j] > JNT_BALL:
            d.grad_qpos[e, dof] = raw[e, qadr]
        if ti.static(m.ball):
            if m.jnt_type[j] < JNT_SLIDE:
                if ti.static(m.free):
                    if m.jnt_type[j] == JNT_FREE:
                        for k in ti.static(range(3)):
                            d.grad_qpos[e, dof + k] = raw[e, qadr + k]
                        qadr = qadr + 3
                        dof = dof + 3
                q = spatial.quat_conj(spatial.load_quat(d.qpos, e, qadr))
                # dq = q (0, u)/2, so u_bar = vec(conj(q) q_bar)/2
                g = spatial.quat_mul(q, spatial.load_quat(raw, e, qadr))
                for k in ti.static(range(3)):
                    d.grad_qpos[e, dof + k] = 0.5 * g[k + 1, :]


@procedure
def raw_gradient(m: ti.template(), d: ti.template(), e, raw: ti.template()):
    """`raw`, the adjoint of qpos' own entries, from grad_qpos; quaternions need not be of unit length."""
    for j in range(m.njnt):
        qadr = m.jnt_qposadr[j]
        dof = m.jnt_dofadr[j]
        if m.jnt_type[j] > JNT_BALL:
            raw[e, qadr] = d.grad_qpos[e, dof]
        if ti.static(m.ball):
            if m.jnt_type[j] < JNT_SLIDE:
                if ti.static(m.free):
                    if m.jnt_type[j] == JNT_FREE:
                        for k in ti.static(range(3)):
                            raw[e, qadr + k] = d.grad_qpos[e, dof + k]
                        qadr = qadr + 3
                        dof = dof + 3
                q = spatial.load_quat(d.qpos, e, qadr)
                u = spatial.load_vec3(d.grad_qpos, e, dof)
                g = spatial.quat_raw_gradient(q, spatial.quat_mul(q, spatial.pure_quat(u)))
                for k in ti.static(range(4)):
                    raw[e, qadr + k] = g[k, :]
