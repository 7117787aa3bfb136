"""Slider-cranks, as MuJoCo has them: a slider on an axis, a rod, and a crank that the rod's other end rides on.

With r the way from the slider's site to the crank's, a the slider's axis and R the length of the rod, the slider is at
L = s - sqrt(s^2 + R^2 - r^2), s = r . a, along the axis. Where the rod is too short it is at s.
"""

from taichi_sim import spatial
from taichi_sim.muscles.pieces import add_end, add_terms, motion, origin_between, point
from taichi_sim.runtime import procedure, ti


@ti.func
def place(m: ti.template(), d: ti.template(), e, k):
    """Crank k: the sites, relative to their trees' origins, the way r between them, and the slider's axis."""
    link1, link2 = m.tendon.crank.link1[k], m.tendon.crank.link2[k]
    p1, p2 = point(d, e, link1, m.tendon.crank.pos1[k]), point(d, e, link2, m.tendon.crank.pos2[k])
    r = p2 - p1 + origin_between(m, d, e, link1, link2)
    return p1, p2, r, spatial.rotate(d.xq[e, link1], m.tendon.crank.axis[k])


@ti.func
def slide(r, a, rod):
    """L, its gradients in r and in a, and what `bend` needs: s, 1 / sqrt(..) or 0, 1 - s / sqrt(..)."""
    s = spatial.dot(r, a)
    square = s * s + rod * rod - spatial.dot(r, r)
    reaches = square > 0.0
    root = ti.sqrt(ti.select(reaches, square, s * 0.0))
    inverse = ti.select(reaches, 1.0 / ti.select(reaches, root, s * 0.0 + 1.0), s * 0.0)
    slack = 1.0 - s * inverse
    return s - root, spatial.scale(a, slack) + spatial.scale(r, inverse), spatial.scale(r, slack), s, inverse, slack


@ti.func
def bend(r, a, s, inverse, slack, u, b):
    """The Hessian of L by (r, a) times (u, b)."""
    faster = spatial.dot(u, a) + spatial.dot(r, b)
    wider = (s * faster - spatial.dot(r, u)) * inverse * inverse
    slacker = inverse * (s * wider - faster)
    g = spatial.scale(b, slack) + spatial.scale(a, slacker) + spatial.scale(u - spatial.scale(r, wider), inverse)
    return g, spatial.scale(u, slack) + spatial.scale(r, slacker)


@procedure
def lengths(m: ti.template(), d: ti.template(), e):
    """Poses -> length and J of the tendons that are slider-cranks."""
    for k in range(m.tendon.crank.number):
        p1, p2, r, a = place(m, d, e, k)
        length, f, turn, _s, _inverse, _slack = slide(r, a, m.tendon.crank.rod[k])
        t = m.tendon.crank.tendon[k]
        d.tendon.length[e, t] = d.tendon.length[e, t] + length
        n1, n2 = spatial.cross(a, turn) - spatial.cross(p1, f), spatial.cross(p2, f)
        add_terms(m, d, e, m.tendon.crank.term_adr[k], m.tendon.crank.term_end[k], n1, -f, n2, f, n2, f)


@procedure
def adjoint_lengths(m: ti.template(), d: ti.template(), e):
    """`tendon.adjoint_lengths` of the slider-cranks."""
    for k in range(m.tendon.crank.number):
        t = m.tendon.crank.tendon[k]
        link1, link2 = m.tendon.crank.link1[k], m.tendon.crank.link2[k]
        p1, p2, r, a = place(m, d, e, k)
        _length, f, turn, s, inverse, slack = slide(r, a, m.tendon.crank.rod[k])
        w1, z1 = motion(d, e, t, link1, p1)
        _w2, z2 = motion(d, e, t, link2, p2)
        b = spatial.cross(w1, a)
        g, h = bend(r, a, s, inverse, slack, z2 - z1, b)
        g = g + spatial.scale(f, d.tendon.length_bar[e, t])
        h = h + spatial.scale(turn, d.tendon.length_bar[e, t])
        turned = spatial.cross(a, h) + spatial.cross(b, turn)
        n1 = spatial.cross(a, turn) - spatial.cross(p1, f)
        add_end(d, e, t, link1, n1, -f, turned - spatial.cross(p1, g) - spatial.cross(z1, f), -g)
        add_end(d, e, t, link2, spatial.cross(p2, f), f, spatial.cross(p2, g) + spatial.cross(z2, f), g)
