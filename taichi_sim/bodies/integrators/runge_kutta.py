"""Runge and Kutta's method of fourth order, MuJoCo's "RK4": the step is a mean of four states on the way, each solved.

An adjoint of a step goes through its stages from the last to the first.
"""

from taichi_sim import spatial
from taichi_sim.bodies.integrate import adjoint_positions, positions
from taichi_sim.runtime import procedure, ti
from taichi_sim.types import JNT_FREE, JNT_SLIDE


@ti.func
def weight(s):
    """The share of stage s of Runge-Kutta's in the step."""
    return ti.select((s == 1) | (s == 2), 1.0 / 3.0, 1.0 / 6.0)


@ti.func
def reach(s):
    """The share of the step that follows stage s of Runge-Kutta's: the way to the next one, and after the last all."""
    return ti.select(s < 2, 0.5, 1.0)


@procedure
def chart(m: ti.template(), d: ti.template(), e, h, s):
    """ways of stage s: qvel, of balls in the chart u -> q exp(u) around where the step began, J_r(u)^-1 w.

    u is where the stage is, `reach` times the step's length times the way of the stage before. Source: Munthe-Kaas,
    High order Runge-Kutta methods on manifolds, 1999; MuJoCo has it from release 4 on.
    """
    for i in range(m.nv):
        d.ways[e, s * m.nv + i] = d.qvel[e, i]
    if ti.static(m.ball):
        if s > 0:
            for j in range(m.njnt):
                if m.jnt_type[j] < JNT_SLIDE:
                    i = turning(m, j)
                    u = h * reach(s - 1) * spatial.load_vec3(d.ways, e, (s - 1) * m.nv + i)
                    w = spatial.jac_right_inv_transpose(-u, spatial.load_vec3(d.qvel, e, i))
                    for k in ti.static(range(3)):
                        d.ways[e, s * m.nv + i + k] = w[k, :]


@ti.func
def turning(m: ti.template(), j):
    """The first of the dofs that turn a ball or free joint."""
    return m.jnt_dofadr[j] + ti.select(m.jnt_type[j] == JNT_FREE, 3, 0)


@procedure
def mean(m: ti.template(), d: ti.template(), e):
    """ways -> slope, their weighted mean."""
    for i in range(m.nv):
        d.slope[e, i] = d.qvel[e, i] * 0.0
        for s in range(4):
            d.slope[e, i] = d.slope[e, i] + weight(s) * d.ways[e, s * m.nv + i]


@procedure
def stage(m: ti.template(), d: ti.template(), e, h, s):
    """What has been solved at stage s -> the state of the next one; after the last one, 3, that after the step."""
    k = h * reach(s)
    chart(m, d, e, h, s)
    for i in range(m.nq):
        if s == 0:
            d.base_qpos[e, i], d.base_moved[e, i] = d.qpos[e, i], d.qpos_moved[e, i]
        d.qpos[e, i], d.qpos_moved[e, i] = d.base_qpos[e, i], d.base_moved[e, i]
    for i in range(m.nv):
        a = d.qacc[e, i]
        if s == 0:
            d.base_qvel[e, i], d.sum_qacc[e, i] = d.qvel[e, i], a * 0.0
        d.sum_qacc[e, i] = d.sum_qacc[e, i] + weight(s) * a
        d.slope[e, i] = d.ways[e, s * m.nv + i]
        if s == 3:
            a = d.sum_qacc[e, i]
        d.qvel[e, i] = d.base_qvel[e, i] + k * a
    if s == 3:
        mean(m, d, e)
    positions(m, d, e, k, d.slope)


@procedure
def adjoint_step(m: ti.template(), d: ti.template(), e, h):
    """Adjoints of the state after a step of Runge-Kutta's -> of where it began, base_..., and of the means of its ways
    and accelerations, mean_way, sum_qacc. Expects the ways.
    """
    mean(m, d, e)
    for i in range(m.nv):
        zero = d.grad_qvel[e, i] * 0.0
        d.base_qvel[e, i], d.mean_way[e, i], d.sum_qacc[e, i] = d.grad_qvel[e, i], zero, h * d.grad_qvel[e, i]
        d.next_way[e, i], d.next_qacc[e, i] = zero, zero
    adjoint_positions(m, d, e, h, d.slope, d.mean_way)
    for i in range(m.nv):
        d.base_grad_qpos[e, i] = d.grad_qpos[e, i]


@procedure
def adjoint_begin_stage(m: ti.template(), d: ti.template(), e, h, s):
    """lam, the adjoint of stage s's qacc, and grad_qvel of its velocity, as far as means and the next stage have them;
    next_way of the stage before, as far as this one's way has it. Expects qvel, and the ways.
    """
    for i in range(m.nv):
        zero = d.lam[e, i] * 0.0
        d.lam[e, i] = weight(s) * d.sum_qacc[e, i] + d.next_qacc[e, i]
        d.grad_qvel[e, i] = weight(s) * d.mean_way[e, i] + d.next_way[e, i]
        d.grad_qpos[e, i], d.next_way[e, i] = zero, zero
    if ti.static(m.ball):
        if s > 0:
            reached = h * reach(s - 1)
            for j in range(m.njnt):
                if m.jnt_type[j] < JNT_SLIDE:
                    i = turning(m, j)
                    u = reached * spatial.load_vec3(d.ways, e, (s - 1) * m.nv + i)
                    g = spatial.load_vec3(d.grad_qvel, e, i)
                    u_bar = spatial.jac_right_inv_gradient(u, spatial.load_vec3(d.qvel, e, i), g)
                    g = spatial.jac_right_inv_transpose(u, g)
                    for k in ti.static(range(3)):
                        d.grad_qvel[e, i + k] = g[k, :]
                        d.next_way[e, i + k] = reached * u_bar[k, :]


@procedure
def adjoint_end_stage(m: ti.template(), d: ti.template(), e, h, s):
    """Adjoints of stage s's state -> of where the step began, and next_..., of what the stage before found.

    After that of stage 0, which is where the step began, all of them are in grad_qpos and grad_qvel.
    """
    k = h * reach(s - 1)
    for i in range(m.nv):
        d.base_qvel[e, i] = d.base_qvel[e, i] + d.grad_qvel[e, i]
        d.next_qacc[e, i] = k * d.grad_qvel[e, i]
        if s > 0:
            d.slope[e, i] = d.ways[e, (s - 1) * m.nv + i]
    if s > 0:
        adjoint_positions(m, d, e, k, d.slope, d.next_way)
    for i in range(m.nv):
        d.base_grad_qpos[e, i] = d.base_grad_qpos[e, i] + d.grad_qpos[e, i]
        if s == 0:
            d.grad_qpos[e, i], d.grad_qvel[e, i] = d.base_grad_qpos[e, i], d.base_qvel[e, i]
