"""The gradient of a control step: the implicit-function adjoint of the residual, exact for the discrete step.

A substep solves R(a; q, v, u) = M a + c - tau = 0 for the acceleration a, then steps v and q. Given the adjoints of
the new state, the adjoint of a gives lam = M^-1 a_bar with the forward step's own factor, and (q, v, u)_bar -= lam'
dR/d(q, v, u) at the stored a. R's rigid-body part is inverse dynamics: its adjoint is two more passes over the tree
(`dynamics`), O(n). Derivation: docs/adjoint.md.

The adjoint is written out by hand instead of taken from Taichi's autodiff. Autodiff turns every read of a parent's
quantity into an atomic addition, one lane at a time. Measured on a 27-link kinematics pass (per world and link):
forward 5.7 ns; Taichi's gradient 122 ns on two threads with atomics, 33 ns serial without. Every
stage's adjoint is tested alone against central differences (tests/taichi_sim/test_adjoint.py), that of inverse
dynamics against Taichi's autodiff, too (tests/taichi_sim/test_autodiff.py).
"""

from taichi_sim import spatial
from taichi_sim.bodies import (
    body_forces,
    coriolis,
    dynamics,
    equality,
    external,
    friction,
    inertia,
    integrate,
    kinematics,
    passive,
)
from taichi_sim.bodies.integrators import implicit, runge_kutta
from taichi_sim.bodies.integrators.choice import IMPLICITS
from taichi_sim.bodies.tree import LINK_MOCAP
from taichi_sim.constraint import adhesion
from taichi_sim.constraint import adjoint as constraint
from taichi_sim.contact import pairs, planes
from taichi_sim.fluid import forces as fluid
from taichi_sim.lanes.buffers import strip
from taichi_sim.lanes.launcher import Launcher
from taichi_sim.lanes.vectors import stack
from taichi_sim.loops import adjoint as loops
from taichi_sim.loops import rows
from taichi_sim.muscles import activation, actuator, tendon
from taichi_sim.records import taping
from taichi_sim.runtime import Runtime, procedure, ti


@procedure
def substep(m: ti.template(), d: ti.template(), e, h, h_theta):
    """Adjoints of the state after a substep -> before it. Expects what the tape has of that substep."""
    if ti.static(m.stages == 1):
        activation.adjoint_advance(m, d, e, h)
    if ti.static(m.neq > 0):
        equality.adjoint_project(m, d, e, h)
        equality.dependence(m, d, e)
    if ti.static(m.stages == 1):
        integrate.adjoint_integrate(m, d, e, h)
    if ti.static(m.damps):
        implicit.adjoint(m, d, e, h)
        if ti.static(m.tendon.damped.number > 0):
            tendon.adjoint_damp(m, d, e)
    kinematics.world(m, d, e)
    kinematics.position(m, d, e)
    inertia.bodies(m, d, e)
    if ti.static(m.damped_coriolis):
        coriolis.adjoint_damp(m, d, e, h)
        kinematics.world(m, d, e)
    inertia.solve(m, d, e, d.lam, d.qLD, d.qLU)
    if ti.static(m.neq > 0):
        equality.expand(m, d, e, d.lam)
    if ti.static(m.loops.any or m.rows_on_tendons):
        kinematics.origins(m, d, e)
    if ti.static(m.rows_on_tendons):
        tendon.lengths(m, d, e)
    if ti.static(m.loops.any):
        rows.assemble(m, d, e)
        loops.correct(m, d, e)
    if ti.static(m.coriolis):
        coriolis.adjoint(m, d, e, h_theta)
        kinematics.world(m, d, e)
    if ti.static(m.damps):
        implicit.adjoint_inertia(m, d, e)
        kinematics.world(m, d, e)
    kinematics.velocity(m, d, e, True)
    dynamics.newton_euler(m, d, e)
    dynamics.adjoint_motion(m, d, e)
    dynamics.adjoint_bodies(m, d, e)
    if ti.static(m.rows_on_tendons):
        tendon.begin_rows(m, d, e)
    if ti.static(m.loops.scalar.number > 0):
        loops.scalar_forces(m, d, e)
    if ti.static(m.rows_on_tendons):
        constraint.tendon_forces(m, d, e)
        tendon.adjoint_lengths(m, d, e)
        external.adjoint_project(m, d, e)
    passive.adjoint_springs(m, d, e)
    passive.adjoint_dampers(m, d, e, h_theta)
    passive.adjoint_limits(m, d, e, h_theta)
    friction.adjoint_forces(m, d, e, h_theta)
    if ti.static(m.external):
        kinematics.origins(m, d, e)
        external.ahead(m, d, e, h_theta)
    if ti.static(m.loops.bodies.number > 0):
        loops.forces(m, d, e)
    if ti.static(m.gravcomp):
        body_forces.adjoint_lift(m, d, e)
    if ti.static(m.fluid.any):
        fluid.adjoint_resist(m, d, e)
    if ti.static(m.tendon.number > 0):
        tendon.lengths(m, d, e)
    actuator.transmission(m, d, e)
    if ti.static(m.constraint.stick.number > 0):
        adhesion.find(m, d, e)
        adhesion.transmission(m, d, e)
    actuator.forces(m, d, e, h, True)
    if ti.static(m.tendon.number > 0):
        tendon.adjoint_forces(m, d, e, h_theta)
    actuator.adjoint_forces(m, d, e, h, h_theta)
    if ti.static(m.damps and m.fit and m.integrator in IMPLICITS):
        actuator.adjoint_damping(m, d, e, h)
    if ti.static(m.constraint.stick.number > 0):
        adhesion.adjoint(m, d, e, h)
    if ti.static(m.tendon.number > 0):
        tendon.adjoint_lengths(m, d, e)
    if ti.static(m.contact.any and m.contact.penalty):
        planes.adjoint_forces(m, d, e)
        if ti.static(m.contact.pairs.number > 0):
            pairs.adjoint_forces(m, d, e)
    if ti.static(m.constraint.any):
        constraint.forces(m, d, e)
    if ti.static(m.external):
        external.adjoint_project(m, d, e)
    dynamics.adjoint_project(m, d, e)
    if ti.static(m.fit):
        dynamics.adjoint_inertia(m, d, e)
        dynamics.adjoint_armature(m, d, e)
    if ti.static(m.neq > 0):
        equality.adjoint_dependence(m, d, e)


class AdjointKernels:
    """The compiled backward pass of models of one structure: the adjoints of `ForwardKernels.step`, and of kinematics:
    poses and velocities of the bodies, lengths and velocities of the tendons.
    """

    def __init__(self, m, d, fields, runtime: Runtime):
        real, stride, memory, array = runtime.real, runtime.task_stride, fields.types, fields.strips

        @ti.kernel
        def step(
            m0: memory.state,
            m1: memory.wide,
            m2: memory.shared,
            m3: memory.fitted,
            m4: memory.gradient,
            m5: memory.integers,
            tape: array,
            fitted: array,
            grad_outputs: array,
            grad_inputs: array,
            grad_fitted: array,
            h: real,
            h_theta: real,
            substeps: ti.i32,
        ):
            fields.bind(m0, m1, m2, m3, m4, m5)
            for block, idle in ti.ndrange(tape.shape[0], stride):
                if idle > 0:
                    continue
                e = fields.row(block)
                if ti.static(m.fit):
                    fields.load_fitted(e, strip(fitted, block, m.ncell))
                    fields.clear_gradient(e)
                bar = strip(grad_outputs, block, m.nstate)
                for i in range(m.nq):
                    d.grad_raw[e, i] = bar[i]
                for i in range(m.nv):
                    d.grad_qvel[e, i] = bar[m.nq + i]
                for i in range(m.na):
                    d.grad_act[e, i] = bar[m.nq + m.nv + i]
                retreat(e, strip(tape, block, taping.total(m, substeps)), h, h_theta, substeps)
                found = strip(grad_inputs, block, m.nstate + m.nu + m.nmocap)
                for i in range(m.nq):
                    found[i] = d.grad_raw[e, i]
                for i in range(m.nv):
                    found[m.nq + i] = d.grad_qvel[e, i]
                for i in range(m.na):
                    found[m.nq + m.nv + i] = d.grad_act[e, i]
                for i in range(m.nu):
                    found[m.nstate + i] = d.grad_ctrl[e, i]
                if ti.static(m.nmocap > 0):
                    for i in range(m.nmocap):
                        found[m.nstate + m.nu + i] = d.grad_mocap[e, i]
                if ti.static(m.fit):
                    fields.store_gradient(e, strip(grad_fitted, block, m.ncell))

        @procedure
        def retreat(e, tape: ti.template(), h, h_theta, substeps):
            """Adjoints in d of the state after all substeps -> before them, and of the controls."""
            at = substeps * m.stages * m.nrecord
            for i in range(m.nq):
                d.qpos[e, i] = tape[at + i]
            for i in range(m.nu):
                d.ctrl[e, i] = tape[at + m.nq + i]
                d.grad_ctrl[e, i] = tape[at] * 0.0
            if ti.static(m.nmocap > 0):
                for i in range(m.nmocap):
                    d.mocap[e, i] = tape[at + m.nq + m.nu + i]
                    d.grad_mocap[e, i] = tape[at] * 0.0
            integrate.tangent(m, d, e, d.grad_raw)
            for n in range(substeps * m.stages):
                at = at - m.nrecord
                stage = m.stages - 1 - n % m.stages
                if ti.static(m.stages > 1):
                    if stage == m.stages - 1:
                        for s in range(m.stages):
                            taping.recall_state(m, d, e, tape, at - (m.stages - 1 - s) * m.nrecord)
                            runge_kutta.chart(m, d, e, h, s)
                            activation.add_rates(m, d, e, s)
                        runge_kutta.adjoint_step(m, d, e, h)
                        activation.adjoint_step(m, d, e, h)
                taping.recall_state(m, d, e, tape, at)
                if ti.static(m.stages > 1):
                    runge_kutta.adjoint_begin_stage(m, d, e, h, stage)
                    activation.adjoint_begin_stage(m, d, e, stage)
                taping.recall_solution(m, d, e, tape, at)
                if ti.static(m.damps):
                    taping.recall_damping(m, d, e, tape, at)
                substep(m, d, e, h, h_theta)
                if ti.static(m.stages > 1):
                    runge_kutta.adjoint_end_stage(m, d, e, h, stage)
                    activation.adjoint_end_stage(m, d, e, h, stage)
            if ti.static(m.neq > 0):
                equality.adjoint_project(m, d, e, 0.0)
            integrate.raw_gradient(m, d, e, d.grad_raw)

        @ti.func
        def load3(source: ti.template(), at):
            return stack([source[at], source[at + 1], source[at + 2]])

        @ti.kernel
        def kinematic(
            m0: memory.state,
            m1: memory.wide,
            m2: memory.shared,
            m3: memory.fitted,
            m4: memory.gradient,
            m5: memory.integers,
            states: array,
            grad_bodies: array,
            grad_tendons: array,
            grad_states: array,
        ):
            fields.bind(m0, m1, m2, m3, m4, m5)
            for block, idle in ti.ndrange(states.shape[0], stride):
                if idle > 0:
                    continue
                e = fields.row(block)
                state, bars = strip(states, block, m.nq + m.nv + m.nmocap), strip(grad_bodies, block, 13 * m.nbody)
                found = strip(grad_states, block, m.nq + m.nv + m.nmocap)
                for i in range(m.nq):
                    d.qpos[e, i] = state[i]
                for i in range(m.nv):
                    d.qvel[e, i] = state[m.nq + i]
                    d.qacc[e, i] = state[0] * 0.0
                    d.grad_qvel[e, i] = state[0] * 0.0
                if ti.static(m.nmocap > 0):
                    for i in range(m.nmocap):
                        d.mocap[e, i] = state[m.nq + m.nv + i]
                        d.grad_mocap[e, i] = state[0] * 0.0
                if ti.static(m.neq > 0):
                    equality.project(m, d, e)
                kinematics.world(m, d, e)
                kinematics.position(m, d, e)
                kinematics.velocity(m, d, e, False)
                dynamics.clear(m, e, d.fn, d.ff)
                dynamics.clear(m, e, d.wn, d.wf)
                # neither accelerations nor the motion of lam are of interest here
                dynamics.clear(m, e, d.an, d.af)
                dynamics.clear(m, e, d.nw, d.nl)
                for b in range(m.nbody):
                    link = m.body_link[b]
                    q, w = d.xq[e, link], d.vw[e, link]
                    x = d.xp[e, link] + spatial.rotate(q, m.body_pos[b])
                    g, g_v = load3(bars, 3 * b), load3(bars, 7 * m.nbody + 3 * b)
                    g_w = load3(bars, 10 * m.nbody + 3 * b)
                    q = spatial.quat_mul(q, m.body_quat[b])
                    at = 3 * m.nbody + 4 * b
                    g_q = stack([bars[at + k] for k in ti.static(range(4))])
                    # a force g at x, relative to the tree's origin; dq = (0, u) q / 2 for a rotation u in world axes,
                    # which turns the velocities, too
                    turn = 0.5 * spatial.quat_vec(spatial.quat_mul(g_q, spatial.quat_conj(q)))
                    turn = turn + spatial.cross(d.vl[e, link] + spatial.cross(w, x), g_v) + spatial.cross(w, g_w)
                    d.fn[e, link] = d.fn[e, link] + spatial.cross(x, g) + turn
                    d.ff[e, link] = d.ff[e, link] + g
                    d.wn[e, link] = d.wn[e, link] - spatial.cross(x, g_v) - g_w
                    d.wf[e, link] = d.wf[e, link] - g_v
                dynamics.generalised(m, d, e, d.fn, d.ff, d.grad_qpos)
                if ti.static(LINK_MOCAP in m.kinds):
                    for link in range(1, m.nlink):
                        if m.link_kind[link] == LINK_MOCAP:
                            kinematics.adjoint_mocap(m, d, e, link, d.fn[e, link], d.ff[e, link])
                dynamics.adjoint_project(m, d, e)
                if ti.static(m.tendon.number > 0):
                    tendons(e, strip(grad_tendons, block, 2 * m.tendon.number))
                if ti.static(m.neq > 0):
                    equality.adjoint_project(m, d, e, 0.0)
                integrate.raw_gradient(m, d, e, d.grad_raw)
                for i in range(m.nq):
                    found[i] = d.grad_raw[e, i]
                for i in range(m.nv):
                    found[m.nq + i] = d.grad_qvel[e, i]
                if ti.static(m.nmocap > 0):
                    for i in range(m.nmocap):
                        found[m.nq + m.nv + i] = d.grad_mocap[e, i]

        @procedure
        def tendons(e, grad_tendons: ti.template()):
            if ti.static(m.external):
                kinematics.origins(m, d, e)
                external.ahead(m, d, e, 0.0)
            tendon.lengths(m, d, e)
            for t in range(m.tendon.number):
                d.tendon.force[e, t] = grad_tendons[t] * 0.0
                d.tendon.length_bar[e, t] = grad_tendons[t]
                d.tendon.velocity_bar[e, t] = grad_tendons[t] * 0.0
                d.tendon.ahead_bar[e, t] = grad_tendons[m.tendon.number + t]
            tendon.adjoint_lengths(m, d, e)
            if ti.static(m.external):
                external.adjoint_project(m, d, e)

        self.step, self.kinematic, self.retreat = Launcher(step, fields), Launcher(kinematic, fields), retreat
