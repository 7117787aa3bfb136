"""What rows of limits and of dry friction are of: the dof of a joint, or a tendon, in either table the last ones."""

from taichi_sim.muscles import tendon
from taichi_sim.runtime import procedure, ti


@ti.func
def rate(m: ti.template(), d: ti.template(), e, table: ti.template(), i, y: ti.template()):
    """Of row i: the entry of y, a vector of dofs, or how fast y stretches the tendon."""
    s = y[e, table.dof[i]]
    if ti.static(table.tendons > 0):
        if i >= table.joints:
            s = tendon.stretch(m, d, e, table.tendon[i], y)
    return s


@procedure
def add(m: ti.template(), d: ti.template(), e, table: ti.template(), i, f, y: ti.template()):
    """Adds a force of row i to y, a vector of dofs."""
    if ti.static(table.tendons > 0):
        if i >= table.joints:
            tendon.pull(m, d, e, table.tendon[i], f, y)
        else:
            y[e, table.dof[i]] = y[e, table.dof[i]] + f
    else:
        y[e, table.dof[i]] = y[e, table.dof[i]] + f


@procedure
def add_mass(m: ti.template(), d: ti.template(), e, table: ti.template(), i, mass):
    """Adds mass J'J of row i to qM."""
    at = m.row_adr[table.dof[i]]
    if ti.static(table.tendons > 0):
        if i >= table.joints:
            tendon.add_mass(m, d, e, table.tendon[i], mass)
        else:
            d.qM[e, at] = d.qM[e, at] + mass
    else:
        d.qM[e, at] = d.qM[e, at] + mass
