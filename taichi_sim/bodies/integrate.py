"""The step of the state, v+ = v + h a and q+ = q (+) h v+, and its adjoint.

Positions have adjoints in tangent space, one number per dof: those of balls are rotations in the body's frame.

MuJoCo's integrators solve for a with all forces at v, those of constraints included, and damp it afterwards
(`Option.integrator`): (M + h C) a' = M a, with C the damping of the dofs ("Euler") or that, the servos' there, and that
of fixed tendons and servos on them between each of their joints and its ancestors ("implicitfast"; what it couples
other than these, MuJoCo leaves out). "implicit" adds K, the slope of Coriolis and gyroscopic forces (`coriolis`), to C,
and "implicitfast" that of bodies that are free and alone. a' is what the velocity takes. Runge-Kutta's method of
fourth order ("RK4") finds a at four states on the way, of which the step is a mean.
"""

import numpy as np

from taichi_sim import spatial
from taichi_sim.bodies import coriolis, damping, dynamics, inertia, kinematics
from taichi_sim.bodies.moved_dofs import fixed
from taichi_sim.runtime import procedure, ti
from taichi_sim.types import (
    GAIN_AFFINE,
    GAIN_MUSCLE,
    INTEGRATORS,
    JNT_BALL,
    JNT_FREE,
    JNT_HINGE,
    JNT_SLIDE,
    LAW_DEGROOTE,
    TRN_JOINT,
    TRN_TENDON,
)

THETA, EULER, IMPLICITFAST, IMPLICIT, RK4 = INTEGRATORS
# Those that damp by all that depends on the velocity, not by the dofs' damping alone.
IMPLICITS = IMPLICITFAST, IMPLICIT


def chosen(model) -> str:
    """The integrator that steps a `Model`: by the penalty our own."""
    return THETA if model.opt.constraint == "penalty" else model.opt.integrator


def refusal(model) -> str:
    """Why a `Model` is not stepped as its `Option.integrator` says; empty: it is.

    C must not change with the state: what it changes has no adjoint here. Activations are not among what Runge-Kutta's
    method averages here.
    """
    opt = model.opt
    if opt.integrator not in INTEGRATORS:
        return f"it is none of {', '.join(INTEGRATORS)}"
    if chosen(model) == THETA:
        return ""
    if opt.coriolis:
        return "Coriolis forces are implicit (model.opt.coriolis)"
    if model.neq and opt.equality:
        return "equalities of joints are solved by substitution"
    if (model.muscle_law == LAW_DEGROOTE).any():
        return "muscles follow De Groote and Fregly's law, which MuJoCo has not"
    if opt.integrator == RK4:
        return "actuators have activations" if model.na else ""
    if opt.integrator == EULER:
        return ""
    if opt.density or opt.viscosity:
        return "there is a fluid"
    of_joints = fixed(model)
    if opt.damper and model.tendon_damping[~of_joints].any():
        return "tendons along paths have damping"
    resists = model.actuator_biasprm[:, 2] != 0
    on_joint, on_tendon = (model.actuator_trntype == kind for kind in (TRN_JOINT, TRN_TENDON))
    constant = np.zeros(model.nu, bool)
    constant[on_joint] = np.isin(model.jnt_type[model.actuator_trnid[on_joint]], [JNT_SLIDE, JNT_HINGE])
    constant[on_tendon] = of_joints[model.actuator_trnid[on_tendon]]
    changes = (model.actuator_gaintype == GAIN_AFFINE) & (model.actuator_gainprm[:, 2] != 0)
    if opt.actuation and np.any(changes | (model.actuator_gaintype == GAIN_MUSCLE) | (resists & ~constant)):
        return "there are muscles, or actuators that resist the velocity of more than hinges, slides and fixed tendons"
    return ""


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


@procedure
def begin_damping(m: ti.template(), d: ti.template(), e, h):
    """qM = M + h C, damped = h C qacc, and damped_by, h C; as far as C is the damping of dofs."""
    row = e * m.per_block
    if ti.static(m.damping.any):
        # what `constraint` had added
        damping.clear(m, d, e)
    inertia.mass_matrix(m, d, e, 0.0)
    for i in range(m.nv):
        c = m.dof_damping[row, i] * (1.0 if ti.static(m.damper) else 0.0)
        if ti.static(m.integrator in IMPLICITS):
            c = d.dof_implicit[e, i]
        start = m.row_adr[i]
        d.qM[e, start] = d.qM[e, start] + h * c
        d.damped_by[e, i] = h * c
        d.damped[e, i] = h * c * d.qacc[e, i]


@procedure
def damp(m: ti.template(), d: ti.template(), e, h):
    """qacc -> that after damping; damped, by how much it was more; and the factor of M + h C in qLD, qDU."""
    if ti.static(m.separate):
        inertia.spread(m, d, e)
    if ti.static(m.damped_coriolis):
        coriolis.matrix(m, d, e, h, d.qDU)
        coriolis.factor(m, d, e, d.qDU)
        inertia.solve(m, d, e, d.damped, d.qDU, d.qLD)
    else:
        inertia.factor(m, d, e)
        inertia.solve(m, d, e, d.damped, d.qLD, d.qLD)
    for i in range(m.nv):
        d.qacc[e, i] = d.qacc[e, i] - d.damped[e, i]


@procedure
def adjoint_damp(m: ti.template(), d: ti.template(), e, h):
    """lam, the adjoint of qacc after damping -> before it, and qacc likewise.

    The residual M (a' - a) + h C a' has the multiplier mu = (M + h C)^-1 lam. It adds M mu = lam - h C mu to the
    adjoint of a, and to that of positions what M changes in mu' M (a - a'). The factor of M + h C is in qDD, qDU.
    What tendons damp is left to `tendon.adjoint_damp`, Coriolis forces to `coriolis.adjoint_damp`.
    """
    for i in range(m.nv):
        d.mu[e, i] = d.lam[e, i]
    # that of the transposed matrix
    inertia.solve(m, d, e, d.mu, d.qDD, d.qDU)
    for i in range(m.nv):
        d.lam[e, i] = d.lam[e, i] - d.damped_by[e, i] * d.mu[e, i]
        if ti.static(m.fit and m.damper):
            m.grad_dof_damping[e, i] = m.grad_dof_damping[e, i] - h * d.mu[e, i] * d.qacc[e, i]
        d.qacc[e, i] = d.qacc[e, i] + d.damped[e, i]


@procedure
def adjoint_inertia(m: ti.template(), d: ti.template(), e):
    """grad_qpos += the gradient of mu' M damped in the positions, and of M's constants. Expects poses and inertias."""
    row = e * m.per_block
    zero = m.gravity[0] * 0.0
    d.nw[e, 0], d.nl[e, 0], d.aw[e, 0], d.al[e, 0] = zero, zero, zero, zero
    kinematics.motions(m, d, e, d.mu, d.nw, d.nl)
    kinematics.motions(m, d, e, d.damped, d.aw, d.al)
    dynamics.clear(m, e, d.fn, d.ff)
    dynamics.clear(m, e, d.an, d.af)
    for k in range(m.nheavy):
        link = m.heavy_link[k]
        mass = m.heavy_mass[row, k]
        w, v, nw, nl = d.aw[e, link], d.al[e, link], d.nw[e, link], d.nl[e, link]
        fn, ff = spatial.inertia_mul(mass, d.ih[e, k], d.id[e, k], d.io[e, k], w, v)
        an, af = spatial.inertia_mul(mass, d.ih[e, k], d.id[e, k], d.io[e, k], nw, nl)
        d.fn[e, link], d.ff[e, link] = d.fn[e, link] + fn, d.ff[e, link] + ff
        d.an[e, link], d.af[e, link] = d.an[e, link] + an, d.af[e, link] + af
        if ti.static(m.fit):
            q = d.xq[e, link]
            c = d.xp[e, link] + spatial.rotate(q, m.heavy_com[row, k])
            dynamics.inertia_gradient(m, e, k, q, c, mass, -nw, -nl, w, v)
    for step in range(1, m.nlink):
        link = m.nlink - step
        p = m.link_parent[link]
        fn, ff, an, af = d.fn[e, link], d.ff[e, link], d.an[e, link], d.af[e, link]
        tn, tf = spatial.force_cross(d.nw[e, p], d.nl[e, p], fn, ff)
        sn, sf = spatial.force_cross(d.aw[e, p], d.al[e, p], an, af)
        qn, qf = tn + sn, tf + sf
        for i in range(m.link_dofadr[link], m.link_dofadr[link] + m.link_dofnum[link]):
            d.grad_qpos[e, i] = d.grad_qpos[e, i] - spatial.dot(d.sw[e, i], qn) - spatial.dot(d.sl[e, i], qf)
        d.fn[e, p], d.ff[e, p] = d.fn[e, p] + fn, d.ff[e, p] + ff
        d.an[e, p], d.af[e, p] = d.an[e, p] + an, d.af[e, p] + af
    if ti.static(m.fit):
        for i in range(m.nv):
            m.grad_dof_armature[e, i] = m.grad_dof_armature[e, i] + d.mu[e, i] * d.damped[e, i]


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
