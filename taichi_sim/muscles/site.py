"""Actuators on sites, such as a drone's rotors: a force and a moment that ride along with a body.

With the actuator's force f, a site pushes with f times the first three entries of gear, and turns with f times the
others, both in its own axes. It has no length; its velocity is what gear makes of the site's motion, as in MuJoCo, and
no force depends on it.
"""

from taichi_sim import spatial
from taichi_sim.bodies import dynamics, external
from taichi_sim.runtime import procedure, ti


@ti.func
def place(m: ti.template(), d: ti.template(), e, k):
    """Of site k: its link, orientation and place, and gear's two halves in the world's axes."""
    link = m.actuator.sites.link[k]
    q = spatial.quat_mul(d.xq[e, link], m.actuator.sites.quat[k])
    p = d.xp[e, link] + spatial.rotate(d.xq[e, link], m.actuator.sites.pos[k])
    push, turn = spatial.rotate(q, m.actuator.sites.push[k]), spatial.rotate(q, m.actuator.sites.turn[k])
    return link, p, push, turn


@procedure
def transmission(m: ti.template(), d: ti.template(), e):
    """actuator_length and actuator_velocity."""
    for k in range(m.actuator.sites.number):
        u = m.actuator.sites.unit[k]
        link, p, push, turn = place(m, d, e, k)
        v = external.particle(d.vw[e, link], d.vl[e, link], p)
        d.actuator.length[e, u] = d.qvel[e, 0] * 0.0
        d.actuator.velocity[e, u] = spatial.dot(push, v) + spatial.dot(turn, d.vw[e, link])


@procedure
def forces(m: ti.template(), d: ti.template(), e):
    """The forces of all sites, to the actuators' qfrc. Overwrites fn, ff."""
    dynamics.clear(m, e, d.fn, d.ff)
    for k in range(m.actuator.sites.number):
        link, p, push, turn = place(m, d, e, k)
        force = d.actuator.force[e, m.actuator.sites.unit[k]]
        push, turn = spatial.scale(push, force), spatial.scale(turn, force)
        d.fn[e, link] = d.fn[e, link] + turn + spatial.cross(p, push)
        d.ff[e, link] = d.ff[e, link] + push
    dynamics.generalised(m, d, e, d.fn, d.ff, d.actuator.site_qfrc)
    for i in range(m.nv):
        d.actuator.qfrc[e, i] = d.actuator.qfrc[e, i] + d.actuator.site_qfrc[e, i]


@ti.func
def pull(m: ti.template(), d: ti.template(), e, k):
    """lam' d qfrc / d force of site k."""
    link, p, push, turn = place(m, d, e, k)
    nu = external.particle(d.nw[e, link], d.nl[e, link], p)
    return spatial.dot(push, nu) + spatial.dot(turn, d.nw[e, link])


@procedure
def adjoint_place(m: ti.template(), d: ti.template(), e, k):
    """The gradient of nu . W, W the wrench of site k, where `external` wants it."""
    link, p, push, turn = place(m, d, e, k)
    force = d.actuator.force[e, m.actuator.sites.unit[k]]
    push, turn = spatial.scale(push, force), spatial.scale(turn, force)
    nw = d.nw[e, link]
    p_bar = spatial.cross(push, nw)
    # both turn with the link
    turned = spatial.cross(push, external.particle(nw, d.nl[e, link], p)) + spatial.cross(turn, nw)
    external.add(d, e, link, p, push, push * 0.0, spatial.cross(p, p_bar) + turned, p_bar)
    external.add_moment(d, e, link, turn, turn * 0.0)
