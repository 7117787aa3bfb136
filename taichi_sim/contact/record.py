"""What an evaluation says of single contacts (`records.reporting`): those on planes first, then those of pairs."""

from taichi_sim.lanes.vectors import of_compiler
from taichi_sim.runtime import procedure, ti

# Numbers of a contact: how deep it is, margin included, 0 or less where nothing touches; the normal, the point, the
# force on its first link, the moment about the point; in world axes.
SIZE = 13


@of_compiler
def total(m) -> int:
    """Scalars per world."""
    return SIZE * (m.contact.planes.number + m.contact.pairs.number)


@procedure
def clear(m: ti.template(), d: ti.template(), e, report: ti.template(), at):
    """Nothing touches."""
    for k in range(total(m)):
        report[at + k] = d.qvel[e, 0] * 0.0


@procedure
def write(m: ti.template(), d: ti.template(), e, c, link, depth, n, p, f, moment, report: ti.template(), at):
    """Contact c, of which `link` is the first link and p relative to its tree's origin."""
    begin = at + SIZE * c
    x = d.origin[e, m.link_tree[link]] + p
    report[begin] = depth
    for k in ti.static(range(3)):
        report[begin + 1 + k] = n[k, :]
        report[begin + 4 + k] = x[k, :]
        report[begin + 7 + k] = f[k, :]
        report[begin + 10 + k] = moment[k, :]
