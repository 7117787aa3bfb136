"""The forward step, stage by stage, and the kernels that run it.

One kernel carries a block of worlds through all substeps of a control step: no launches in between, and a block's
working set stays in the cache. Nothing here is differentiated by Taichi; `adjoint` holds the gradient.
"""

from taichi_sim.bodies import (
    body_forces,
    coriolis,
    damping,
    dynamics,
    equality,
    friction,
    inertia,
    integrate,
    kinematics,
    passive,
)
from taichi_sim.bodies.integrators import implicit, runge_kutta
from taichi_sim.constraint import adhesion, search
from taichi_sim.constraint import rows as constraint
from taichi_sim.contact import pairs, planes, record
from taichi_sim.fluid import forces as fluid
from taichi_sim.lanes.buffers import strip
from taichi_sim.lanes.launcher import Launcher
from taichi_sim.lanes.vectors import greatest
from taichi_sim.loops import rows
from taichi_sim.loops import solve as loops
from taichi_sim.muscles import activation, actuator, fibres, tendon
from taichi_sim.records import reporting, taping
from taichi_sim.runtime import Runtime, procedure, ti


@procedure
def forces(m: ti.template(), d: ti.template(), e, h, h_theta, report: ti.template(), reports):
    """State and controls -> inertias of subtrees, and tau(q, v) - c(q, v) in qacc; contacts to a report, if wanted."""
    kinematics.world(m, d, e)
    kinematics.position(m, d, e)
    kinematics.velocity(m, d, e, False)
    inertia.bodies(m, d, e)
    inertia.links(m, d, e)
    if ti.static(m.coriolis or m.damped_coriolis):
        coriolis.links(m, d, e)
    dynamics.newton_euler(m, d, e)
    dynamics.generalised(m, d, e, d.fn, d.ff, d.qfrc_bias)
    if ti.static(m.external):
        kinematics.origins(m, d, e)
    if ti.static(m.contact.any):
        dynamics.clear(m, e, d.contact.kn, d.contact.kf)
        if ti.static(m.damping.any):
            damping.clear(m, d, e)
        if ti.static(m.contact.penalty):
            at = reporting.begin(m, "touching")
            planes.forces(m, d, e, h_theta, report, at, reports)
            if ti.static(m.contact.pairs.number > 0):
                pairs.forces(m, d, e, h_theta, report, at, reports)
        dynamics.generalised(m, d, e, d.contact.kn, d.contact.kf, d.contact.qfrc)
    inertia.composite(m, d, e)
    passive.springs(m, d, e)
    passive.dampers(m, d, e)
    passive.limits(m, d, e)
    if ti.static(m.gravcomp):
        body_forces.lift(m, d, e)
    if ti.static(m.fluid.any):
        fluid.resist(m, d, e)
    if ti.static(m.any_friction):
        friction.forces(m, d, e, h_theta)
    if ti.static(m.tendon.number > 0):
        tendon.lengths(m, d, e)
        tendon.forces(m, d, e, h_theta)
    actuator.transmission(m, d, e)
    if ti.static(m.constraint.stick.number > 0):
        adhesion.find(m, d, e)
        adhesion.transmission(m, d, e)
    actuator.forces(m, d, e, h, False)
    if ti.static(m.constraint.stick.number > 0):
        adhesion.forces(m, d, e)
    if ti.static(m.actuator.on_tendon):
        tendon.actuate(m, d, e)
    if ti.static(m.actgravcomp):
        body_forces.actuate(m, d, e)
    for i in range(m.nv):
        d.qacc[e, i] = d.qfrc_passive[e, i] + d.qfrc_limit[e, i] + d.actuator.qfrc[e, i] - d.qfrc_bias[e, i]
        if ti.static(m.contact.any):
            d.qacc[e, i] = d.qacc[e, i] + d.contact.qfrc[e, i]
        if ti.static(m.any_friction):
            d.qacc[e, i] = d.qacc[e, i] + d.qfrc_friction[e, i]


@procedure
def matrix(m: ti.template(), d: ti.template(), e, h_theta):
    """qM = M + h_theta C."""
    inertia.mass_matrix(m, d, e, h_theta)
    if ti.static(m.tendon.number > 0):
        tendon.implicit(m, d, e, h_theta)


@procedure
def solve(m: ti.template(), d: ti.template(), e, h_theta):
    """qacc = (M + h_theta C)^-1 qacc as far as equalities permit, and with the rows of MuJoCo's law that push."""
    if ti.static(m.constraint.any):
        for i in range(m.nv):
            d.constraint.tau[e, i] = d.qacc[e, i]
        constraint.prepare(m, d, e)
        going = 1
        solutions = 0
        while going == 1:
            search.begin(m, d, e)
            constraint.assemble(m, d, e)
            matrix(m, d, e, h_theta)
            constraint.add_to_matrix(m, d, e)
            if ti.static(not m.coriolis):
                if solutions > 0:
                    search.descend(m, d, e, d.qM, d.qM, m.row_adr, m.row_dof)
            linear(m, d, e, h_theta)
            if ti.static(m.loops.any):
                if solutions > 0:
                    loops.descend(m, d, e)
            constraint.pulls(m, d, e)
            changed = greatest(search.decide(m, d, e)) > 0.0
            if changed:
                if solutions > 0:
                    search.shorten(m, d, e)
                    search.decide(m, d, e)
            solutions = solutions + 1
            going = ti.select(changed and solutions < constraint.MOST_SOLUTIONS, 1, 0)
    else:
        linear(m, d, e, h_theta)


@procedure
def linear(m: ti.template(), d: ti.template(), e, h_theta):
    """qM, qacc -> qacc = qM^-1 qacc as far as equalities permit, and the factor that gave it in qLD."""
    if ti.static(m.neq > 0):
        equality.dependence(m, d, e)
        equality.reduce(m, d, e)
    elif ti.static(m.separate):
        inertia.spread(m, d, e)
    if ti.static(m.coriolis):
        coriolis.matrix(m, d, e, h_theta, d.qLU)
        if ti.static(m.constraint.any):
            search.descend(m, d, e, d.qLD, d.qLU, m.factor_adr, m.factor_dof)
        coriolis.factor(m, d, e, d.qLU)
    else:
        inertia.factor(m, d, e)
    inertia.solve(m, d, e, d.qacc, d.qLU, d.qLD)
    if ti.static(m.neq > 0):
        equality.accelerate(m, d, e)
    if ti.static(m.loops.any):
        rows.assemble(m, d, e)
        loops.accelerate(m, d, e)


@procedure
def project(m: ti.template(), d: ti.template(), e):
    """Dependent joints to where the equalities want them."""
    if ti.static(m.neq > 0):
        equality.project(m, d, e)


# Modes of ForwardKernels.step.
ADVANCE, RECORD, EVALUATE = range(3)


class ForwardKernels:
    """The compiled forward pass of models of one structure.

    | kernel | from | to |
    |---|---|---|
    | step | state and controls | the state after all substeps; and by its mode a tape for `adjoint` |
    | frames | state and controls | `reporting.bodies`: where bodies are, and how they move |
    | measure | state and controls | `muscles.fibres.measure`: results and their derivatives |

    In mode EVALUATE, with one substep and h_theta = 0, `step` stops short of the integration and leaves a report
    (`reporting`) in place of the tape: it is a large kernel, and one compilation serves both. `advance` is its inside,
    for kernels that have their states elsewhere (`taichi_step`).
    """

    def __init__(self, m, d, fields, runtime: Runtime):
        real, stride = runtime.real, runtime.task_stride
        array, memory = fields.strips, fields.types
        ninput = m.nstate + m.nu + m.nmocap

        @procedure
        def load(e, inputs: ti.template(), fitted: ti.template()):
            for i in range(m.nq):
                d.qpos[e, i] = inputs[i]
            for i in range(m.nv):
                d.qvel[e, i] = inputs[m.nq + i]
            for i in range(m.na):
                d.act[e, i] = inputs[m.nq + m.nv + i]
            for i in range(m.nu):
                d.ctrl[e, i] = inputs[m.nstate + i]
            if ti.static(m.nmocap > 0):
                for i in range(m.nmocap):
                    d.mocap[e, i] = inputs[m.nstate + m.nu + i]
            if ti.static(m.fit):
                fields.load_fitted(e, fitted)

        @ti.kernel
        def step(
            m0: memory.state,
            m1: memory.wide,
            m2: memory.shared,
            m3: memory.fitted,
            m4: memory.gradient,
            m5: memory.integers,
            inputs: array,
            fitted: array,
            outputs: array,
            tape: array,
            h: real,
            h_theta: real,
            substeps: ti.i32,
            mode: ti.i32,
        ):
            fields.bind(m0, m1, m2, m3, m4, m5)
            for block, idle in ti.ndrange(inputs.shape[0], stride):
                if idle > 0:
                    continue
                e = fields.row(block)
                load(e, strip(inputs, block, ninput), strip(fitted, block, m.ncell))
                size = taping.total(m, substeps)
                if mode == EVALUATE:
                    size = reporting.total(m)
                advance(e, strip(tape, block, size), h, h_theta, substeps, mode)
                state = strip(outputs, block, m.nstate)
                for i in range(m.nq):
                    state[i] = d.qpos[e, i]
                for i in range(m.nv):
                    state[m.nq + i] = d.qvel[e, i]
                for i in range(m.na):
                    state[m.nq + m.nv + i] = d.act[e, i]

        @procedure
        def advance(e, tape: ti.template(), h, h_theta, substeps, mode):
            """The state in d through all substeps."""
            project(m, d, e)
            integrate.begin(m, d, e)
            if ti.static(m.actuator.elastic):
                actuator.begin(m, d, e)
            if ti.static(m.constraint.any):
                constraint.begin(m, d, e)
            at = 0
            solutions = substeps * m.stages
            if mode == EVALUATE:
                solutions = substeps
            for n in range(solutions):
                if mode == RECORD:
                    taping.record_state(m, d, e, tape, at)
                if ti.static(m.contact.any):
                    if mode == EVALUATE:
                        record.clear(m, d, e, tape, reporting.begin(m, "touching"))
                forces(m, d, e, h, h_theta, tape, mode == EVALUATE)
                if mode == EVALUATE or ti.static(not m.constraint.any):
                    matrix(m, d, e, h_theta)
                if mode == EVALUATE:
                    reporting.mass_matrix(m, d, e, tape)
                solve(m, d, e, h_theta)
                if ti.static(m.constraint.any):
                    if mode == EVALUATE:
                        constraint.report(m, d, e, tape, reporting.begin(m, "touching"))
                if mode == EVALUATE:
                    reporting.others(m, d, e, tape)
                if mode == RECORD:
                    taping.record_solution(m, d, e, tape, at)
                if ti.static(m.damps):
                    if mode != EVALUATE:
                        implicit.begin(m, d, e, h)
                        if ti.static(m.tendon.damped.number > 0):
                            tendon.damp(m, d, e, h)
                        implicit.damp(m, d, e, h)
                    if mode == RECORD:
                        taping.record_damping(m, d, e, tape, at)
                at = at + m.nrecord
                if mode != EVALUATE:
                    if ti.static(m.stages == 1):
                        integrate.integrate(m, d, e, h)
                        activation.advance(m, d, e, h)
                    else:
                        runge_kutta.stage(m, d, e, h, n % m.stages)
                        activation.stage(m, d, e, h, n % m.stages)
                    if ti.static(m.actuator.elastic):
                        actuator.stretch(m, d, e, h)
                    project(m, d, e)
            if mode == RECORD:
                for i in range(m.nq):
                    tape[at + i] = d.qpos[e, i]
                for i in range(m.nu):
                    tape[at + m.nq + i] = d.ctrl[e, i]
                if ti.static(m.nmocap > 0):
                    for i in range(m.nmocap):
                        tape[at + m.nq + m.nu + i] = d.mocap[e, i]

        @procedure
        def move(e, inputs: ti.template(), fitted: ti.template()):
            """Poses and velocities of the links."""
            load(e, inputs, fitted)
            project(m, d, e)
            kinematics.world(m, d, e)
            kinematics.position(m, d, e)
            kinematics.velocity(m, d, e, False)

        @ti.kernel
        def frames(
            m0: memory.state,
            m1: memory.wide,
            m2: memory.shared,
            m3: memory.fitted,
            m4: memory.gradient,
            m5: memory.integers,
            inputs: array,
            fitted: array,
            bodies: array,
        ):
            fields.bind(m0, m1, m2, m3, m4, m5)
            for block, idle in ti.ndrange(inputs.shape[0], stride):
                if idle > 0:
                    continue
                e = fields.row(block)
                move(e, strip(inputs, block, ninput), strip(fitted, block, m.ncell))
                reporting.bodies(m, d, e, strip(bodies, block, 13 * m.nbody))

        @ti.kernel
        def measure(
            m0: memory.state,
            m1: memory.wide,
            m2: memory.shared,
            m3: memory.fitted,
            m4: memory.gradient,
            m5: memory.integers,
            inputs: array,
            fitted: array,
            results: array,
            slopes: array,
        ):
            fields.bind(m0, m1, m2, m3, m4, m5)
            for block, idle in ti.ndrange(inputs.shape[0], stride):
                if idle > 0:
                    continue
                e = fields.row(block)
                move(e, strip(inputs, block, ninput), strip(fitted, block, m.ncell))
                if ti.static(m.external):
                    kinematics.origins(m, d, e)
                if ti.static(m.tendon.number > 0):
                    tendon.lengths(m, d, e)
                actuator.transmission(m, d, e)
                found = strip(results, block, fibres.NUM_RESULTS * m.nu)
                slope = strip(slopes, block, fibres.NUM_RESULTS * fibres.NUM_INPUTS * m.nu)
                for u in range(m.nu):
                    if m.actuator.is_muscle[u] == 1:
                        rows = fibres.measure(m, d, e, u)
                        for k in ti.static(range(fibres.NUM_RESULTS)):
                            found[k * m.nu + u] = rows[k, :]
                        for k in ti.static(range(fibres.NUM_RESULTS * fibres.NUM_INPUTS)):
                            slope[k * m.nu + u] = rows[fibres.NUM_RESULTS + k, :]

        self.step, self.frames, self.measure = (Launcher(kernel, fields) for kernel in (step, frames, measure))
        self.advance = advance
