"""What an evaluation of a state reports, in place of a control step's tape: see `sizes`; and what its bodies do."""

from taichi_sim import spatial
from taichi_sim.bodies import kinematics
from taichi_sim.contact import record
from taichi_sim.lanes.vectors import of_compiler
from taichi_sim.muscles import activation, actuator
from taichi_sim.runtime import procedure, ti


def sizes(m) -> dict[str, int]:
    """Scalars per world of each part, in their order; `strains` are those at which fibres on elastic tendons rest."""
    return {
        "mass": m.nv * m.nv,
        "accelerations": 6 * m.nbody,
        "forces": 7 * m.nv,
        "actuators": 3 * m.nu + m.na,
        "lengths": 2 * m.tendon.number,
        "jacobian": m.tendon.number * m.nv,
        "contacts": 6 * m.nbody,
        "touching": record.total(m),
        "strains": m.nu if m.actuator.elastic else 0,
    }


@of_compiler
def total(m) -> int:
    """Scalars per world."""
    return sum(sizes(m).values())


@of_compiler
def begin(m, part: str) -> int:
    """Where a part begins."""
    names = list(sizes(m))
    return sum(sizes(m)[name] for name in names[: names.index(part)])


@procedure
def mass_matrix(m: ti.template(), d: ti.template(), e, report: ti.template()):
    """qM, before it is factored."""
    at = begin(m, "mass")
    for k in range(m.nv * m.nv):
        report[at + k] = d.qvel[e, 0] * 0.0
    for i in range(m.nv):
        for k in range(m.row_adr[i], m.row_adr[i + 1]):
            for one, other in ti.static(((i, m.row_dof[k]), (m.row_dof[k], i))):
                if ti.static(m.wide):
                    report[at + one * m.nv + other] = ti.cast(d.qM[e, k], ti.f32)
                else:
                    report[at + one * m.nv + other] = d.qM[e, k]


@procedure
def others(m: ti.template(), d: ti.template(), e, report: ti.template()):
    """All else, after the acceleration is known."""
    accelerations(m, d, e, report)
    forces(m, d, e, report)
    actuators(m, d, e, report)
    tendons(m, d, e, report)
    contacts(m, d, e, report)


@procedure
def bodies(m: ti.template(), d: ti.template(), e, found: ti.template()):
    """13 scalars a body: positions of all, then quaternions, velocities of the frames' origins, angular velocities."""
    kinematics.origins(m, d, e)
    for b in range(m.nbody):
        link = m.body_link[b]
        q = d.xq[e, link]
        # from the point that spatial quantities refer to
        p = d.xp[e, link] + spatial.rotate(q, m.body_pos[b])
        x = d.origin[e, m.link_tree[link]] + p
        q = spatial.quat_mul(q, m.body_quat[b])
        w = d.vw[e, link]
        v = d.vl[e, link] + spatial.cross(w, p)
        for k in ti.static(range(3)):
            found[3 * b + k] = x[k, :]
            found[7 * m.nbody + 3 * b + k] = v[k, :]
            found[10 * m.nbody + 3 * b + k] = w[k, :]
        for k in ti.static(range(4)):
            found[3 * m.nbody + 4 * b + k] = q[k, :]


@procedure
def accelerations(m: ti.template(), d: ti.template(), e, report: ti.template()):
    """Of all bodies' frames, then angular ones."""
    at = begin(m, "accelerations")
    kinematics.velocity(m, d, e, True)
    for b in range(m.nbody):
        link = m.body_link[b]
        p = d.xp[e, link] + spatial.rotate(d.xq[e, link], m.body_pos[b])
        w, aw = d.vw[e, link], d.aw[e, link]
        # a spatial acceleration is that of what passes by, and gravity is the world's, upwards
        a = d.al[e, link] + m.gravity[0] + spatial.cross(aw, p)
        a = a + spatial.cross(w, d.vl[e, link] + spatial.cross(w, p))
        for k in ti.static(range(3)):
            report[at + 3 * b + k] = a[k, :]
            report[at + 3 * m.nbody + 3 * b + k] = aw[k, :]


@procedure
def forces(m: ti.template(), d: ti.template(), e, report: ti.template()):
    """Bias, passive, of limits, of actuators; the acceleration; of contacts, of dry friction."""
    at = begin(m, "forces")
    for i in range(m.nv):
        report[at + i] = d.qfrc_bias[e, i]
        report[at + m.nv + i] = d.qfrc_passive[e, i]
        report[at + 2 * m.nv + i] = d.qfrc_limit[e, i]
        report[at + 3 * m.nv + i] = d.actuator.qfrc[e, i]
        report[at + 4 * m.nv + i] = d.qacc[e, i]
        touching = d.qacc[e, i] * 0.0
        if ti.static(m.contact.any):
            touching = d.contact.qfrc[e, i]
        report[at + 5 * m.nv + i] = touching
        dry = d.qacc[e, i] * 0.0
        if ti.static(m.any_friction):
            dry = d.qfrc_friction[e, i]
        report[at + 6 * m.nv + i] = dry


@procedure
def actuators(m: ti.template(), d: ti.template(), e, report: ti.template()):
    """Lengths, velocities and forces; rates of activations; strains at which fibres on elastic tendons rest."""
    at = begin(m, "actuators")
    for u in range(m.nu):
        report[at + u] = d.actuator.length[e, u]
        report[at + m.nu + u] = d.actuator.velocity[e, u]
        report[at + 2 * m.nu + u] = d.actuator.force[e, u]
    for i in range(m.na):
        report[at + 3 * m.nu + i] = d.act[e, i] * 0.0
    for u in range(m.nu):
        if m.actuator.actadr[u] >= 0:
            dot, _, _, _, _ = activation.rate(m, d, e, u, True)
            report[at + 3 * m.nu + m.actuator.actadr[u]] = dot
        if ti.static(m.actuator.elastic):
            if ti.static(m.actuator.enabled):
                if m.actuator.tendonadr[u] >= 0:
                    report[at + 3 * m.nu + m.actuator.tendonadr[u]] = actuator.strain_rate(m, d, e, u)
            report[begin(m, "strains") + u] = actuator.resting_strain(m, d, e, u)


@procedure
def tendons(m: ti.template(), d: ti.template(), e, report: ti.template()):
    """Lengths, velocities, and derivatives of lengths by the degrees of freedom."""
    at, jacobian = begin(m, "lengths"), begin(m, "jacobian")
    for t in range(m.tendon.number):
        report[at + t] = d.tendon.length[e, t]
        report[at + m.tendon.number + t] = d.tendon.velocity[e, t]
        for i in range(m.nv):
            report[jacobian + t * m.nv + i] = d.tendon.length[e, t] * 0.0
        for k in range(m.tendon.adr[t], m.tendon.adr[t + 1]):
            report[jacobian + t * m.nv + m.tendon.dof[k]] = d.tendon.J[e, k]


@procedure
def contacts(m: ti.template(), d: ti.template(), e, report: ti.template()):
    """Forces and moments about the bodies' frames, which stay near what is touched; takes apart what contacts sum."""
    at = begin(m, "contacts")
    if ti.static(m.contact.any):
        for link in range(1, m.nlink):
            # what `generalised` has summed over subtrees, of single links again
            p = m.link_parent[link]
            d.contact.kn[e, p] = d.contact.kn[e, p] - d.contact.kn[e, link]
            d.contact.kf[e, p] = d.contact.kf[e, p] - d.contact.kf[e, link]
        for b in range(m.nbody):
            link = m.body_link[b]
            f = d.contact.kf[e, link]
            x = d.xp[e, link] + spatial.rotate(d.xq[e, link], m.body_pos[b])
            n = d.contact.kn[e, link] - spatial.cross(x, f)
            for k in ti.static(range(3)):
                report[at + 6 * b + k] = f[k, :]
                report[at + 6 * b + 3 + k] = n[k, :]
    else:
        for k in range(6 * m.nbody):
            report[at + k] = d.qvel[e, 0] * 0.0
