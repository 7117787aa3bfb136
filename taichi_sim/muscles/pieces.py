"""What the pieces of tendons' paths have in common: their ends ride on links, move these, and have adjoints."""

from taichi_sim import spatial
from taichi_sim.muscles.tendon_tables import FIRST, GEOM
from taichi_sim.runtime import procedure, ti


@ti.func
def point(d: ti.template(), e, link, pos):
    """A point of a link, relative to the tree's origin."""
    return d.xp[e, link] + spatial.rotate(d.xq[e, link], pos)


@ti.func
def origin_between(m: ti.template(), d: ti.template(), e, link1, link2):
    """From the origin of link1's tree to that of link2's."""
    r = m.gravity[0] * 0.0
    if m.link_tree[link1] != m.link_tree[link2]:
        r = d.origin[e, m.link_tree[link2]] - d.origin[e, m.link_tree[link1]]
    return r


@procedure
def add_terms(m: ti.template(), d: ti.template(), e, start, end, n1, f1, n2, f2, n3, f3):
    """J of the dofs that move ends of a piece, given the gradients in these ends as (moment, force)."""
    for k in range(start, end):
        dof = m.tendon.term_dof[k]
        n = n2
        f = f2
        if m.tendon.term_end[k] == FIRST:
            n = n1
            f = f1
        if ti.static(m.tendon.wrapped.number > 0):
            if m.tendon.term_end[k] == GEOM:
                n = n3
                f = f3
        i = m.tendon.term_entry[k]
        d.tendon.J[e, i] = d.tendon.J[e, i] + spatial.dot(d.sw[e, dof], n) + spatial.dot(d.sl[e, dof], f)


@ti.func
def motion(d: ti.template(), e, t, link, p):
    """Tendon t's motion f nu + v_bar v + v'_bar v' of a link: angular, and linear at p."""
    f = d.tendon.force[e, t]
    v_bar = d.tendon.velocity_bar[e, t]
    x_bar = d.tendon.ahead_bar[e, t]
    w = spatial.scale(d.nw[e, link], f) + spatial.scale(d.vw[e, link], v_bar) + spatial.scale(d.tw[e, link], x_bar)
    v = spatial.scale(d.nl[e, link], f) + spatial.scale(d.vl[e, link], v_bar) + spatial.scale(d.tl[e, link], x_bar)
    return w, v + spatial.cross(w, p)


@procedure
def add_end(d: ti.template(), e, t, link, n, f, gn, gf):
    """A tendon's gradient (n, f) in the place of one end, and the explicit adjoint (gn, gf) of that place."""
    force = d.tendon.force[e, t]
    v_bar = d.tendon.velocity_bar[e, t]
    x_bar = d.tendon.ahead_bar[e, t]
    d.fn[e, link] = d.fn[e, link] - spatial.scale(n, force)
    d.ff[e, link] = d.ff[e, link] - spatial.scale(f, force)
    d.wn[e, link] = d.wn[e, link] - spatial.scale(n, v_bar)
    d.wf[e, link] = d.wf[e, link] - spatial.scale(f, v_bar)
    d.xn[e, link] = d.xn[e, link] + spatial.scale(n, x_bar)
    d.xf[e, link] = d.xf[e, link] + spatial.scale(f, x_bar)
    d.gn[e, link] = d.gn[e, link] + gn
    d.gf[e, link] = d.gf[e, link] + gf
