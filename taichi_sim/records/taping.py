"""What a substep, or a stage of Runge-Kutta's, leaves for its backward pass: qpos, qvel, act, qacc and the factor;
for damping as MuJoCo's integrators have it damped, damped_by and the factor of that; for equalities qM, eq_force; for
elastic tendons of muscles the rates of the fibres; and for equalities that close loops, last, their rows' forces.

A record is `size` scalars per world, one after the other from `at`. A control step's tape ends with its last qpos and
its controls, and the poses of mocap bodies.
"""

from taichi_sim.lanes.vectors import of_compiler
from taichi_sim.runtime import procedure, ti


def size(m) -> int:
    """Scalars per world and substep."""
    factor = m.nfactor * (1 + m.coriolis) * (1 + m.wide)
    # by our own step nothing is damped afterwards
    damping = 0
    if m.damps:
        damping = 2 * m.nv + m.tendon.damped.number + m.nfactor * (1 + m.damped_coriolis) * (1 + m.wide)
    return m.nstate + m.nv + factor + damping + (m.nnz + m.neq if m.neq else 0) + rates(m) + m.loops.rows


def rates(m) -> int:
    """Scalars of these for elastic tendons; they come last but for the forces of equalities."""
    return m.nu if m.actuator.elastic else 0


@of_compiler
def total(m, substeps: int) -> int:
    """Scalars per world that a control step leaves."""
    return substeps * m.stages * m.nrecord + m.nq + m.nu + m.nmocap


@procedure
def record_state(m: ti.template(), d: ti.template(), e, tape: ti.template(), at):
    """The state before a substep."""
    for i in range(m.nq):
        tape[at + i] = d.qpos[e, i]
    for i in range(m.nv):
        tape[at + m.nq + i] = d.qvel[e, i]
    for i in range(m.na):
        tape[at + m.nq + m.nv + i] = d.act[e, i]


@procedure
def recall_state(m: ti.template(), d: ti.template(), e, tape: ti.template(), at):
    """What `record_state` wrote."""
    for i in range(m.nq):
        d.qpos[e, i] = tape[at + i]
    for i in range(m.nv):
        d.qvel[e, i] = tape[at + m.nq + i]
    for i in range(m.na):
        d.act[e, i] = tape[at + m.nq + m.nv + i]


@procedure
def record_solution(m: ti.template(), d: ti.template(), e, tape: ti.template(), at):
    """The acceleration of a substep, and the factor that gave it."""
    for i in range(m.nv):
        tape[at + m.nstate + i] = d.qacc[e, i]
    first = at + m.nstate + m.nv
    write(m, e, tape, first, d.qLD)
    if ti.static(m.coriolis):
        write(m, e, tape, first + m.nfactor * (1 + m.wide), d.qLU)
    if ti.static(m.neq > 0):
        for i in range(m.nnz):
            tape[first + m.nfactor + i] = d.qM[e, i]
        for i in range(m.neq):
            tape[at + m.nrecord - m.loops.rows - m.neq + i] = d.eq_force[e, i]
    if ti.static(m.actuator.elastic):
        for u in range(m.nu):
            tape[at + m.nrecord - m.loops.rows - m.neq - m.nu + u] = d.actuator.rate[e, u]
    if ti.static(m.loops.any):
        for r in range(m.loops.rows):
            tape[at + m.nrecord - m.loops.rows + r] = d.loops.force[e, r]


@procedure
def recall_solution(m: ti.template(), d: ti.template(), e, tape: ti.template(), at):
    """What `record_solution` wrote."""
    for i in range(m.nv):
        d.qacc[e, i] = tape[at + m.nstate + i]
    first = at + m.nstate + m.nv
    read(m, e, tape, first, d.qLD)
    if ti.static(m.coriolis):
        read(m, e, tape, first + m.nfactor * (1 + m.wide), d.qLU)
    if ti.static(m.neq > 0):
        for i in range(m.nnz):
            d.qM[e, i] = tape[first + m.nfactor + i]
        for i in range(m.neq):
            d.eq_force[e, i] = tape[at + m.nrecord - m.loops.rows - m.neq + i]
    if ti.static(m.actuator.elastic):
        for u in range(m.nu):
            d.actuator.rate[e, u] = tape[at + m.nrecord - m.loops.rows - m.neq - m.nu + u]
    if ti.static(m.loops.any):
        for r in range(m.loops.rows):
            d.loops.force[e, r] = tape[at + m.nrecord - m.loops.rows + r]


@procedure
def record_damping(m: ti.template(), d: ti.template(), e, tape: ti.template(), at):
    """What `implicit.damp` left behind."""
    first = at + m.nstate + m.nv + m.nfactor * (1 + m.wide)
    for i in range(m.nv):
        tape[first + i] = d.damped[e, i]
    entries = m.nv + m.tendon.damped.number
    for i in range(entries):
        tape[first + m.nv + i] = d.damped_by[e, i]
    write(m, e, tape, first + m.nv + entries, d.qLD)
    if ti.static(m.damped_coriolis):
        write(m, e, tape, first + m.nv + entries + m.nfactor * (1 + m.wide), d.qDU)


@procedure
def recall_damping(m: ti.template(), d: ti.template(), e, tape: ti.template(), at):
    """What `record_damping` wrote, the factor to qDD, qDU; qacc is that after damping."""
    first = at + m.nstate + m.nv + m.nfactor * (1 + m.wide)
    for i in range(m.nv):
        d.damped[e, i] = tape[first + i]
        d.qacc[e, i] = d.qacc[e, i] - d.damped[e, i]
    entries = m.nv + m.tendon.damped.number
    for i in range(entries):
        d.damped_by[e, i] = tape[first + m.nv + i]
    read(m, e, tape, first + m.nv + entries, d.qDD)
    if ti.static(m.damped_coriolis):
        read(m, e, tape, first + m.nv + entries + m.nfactor * (1 + m.wide), d.qDU)


@procedure
def write(m: ti.template(), e, tape: ti.template(), at, entries: ti.template()):
    """A factor's entries; of wide ones the leading digits, and then the rest."""
    for i in range(m.nfactor):
        if ti.static(m.wide):
            x = entries[e, i]
            leading = ti.cast(x, ti.f32)
            tape[at + i] = leading
            tape[at + m.nfactor + i] = ti.cast(x - leading, ti.f32)
        else:
            tape[at + i] = entries[e, i]


@procedure
def read(m: ti.template(), e, tape: ti.template(), at, entries: ti.template()):
    """What `write` wrote."""
    for i in range(m.nfactor):
        if ti.static(m.wide):
            entries[e, i] = ti.cast(tape[at + i], ti.f64) + tape[at + m.nfactor + i]
        else:
            entries[e, i] = tape[at + i]
