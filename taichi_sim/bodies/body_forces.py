"""Gravity compensation and its adjoint.

It is MuJoCo's force -gravcomp mass gravity at bodies' centres of mass: a part of qfrc_passive, or of the actuators'
qfrc at joints that ask for that (actuatorgravcomp).
"""

from taichi_sim import spatial
from taichi_sim.bodies import dynamics, external
from taichi_sim.runtime import procedure, ti


@procedure
def lift(m: ti.template(), d: ti.template(), e):
    """qfrc_gravcomp, and to qfrc_passive what is not the actuators'. Overwrites fn, ff."""
    row = e * m.per_block
    g = m.gravity[0]
    dynamics.clear(m, e, d.fn, d.ff)
    for k in range(m.nheavy):
        link = m.heavy_link[k]
        up = -spatial.scale(g, m.heavy_gravcomp[k])
        d.fn[e, link] = d.fn[e, link] + spatial.cross(d.ih[e, k], up)
        d.ff[e, link] = d.ff[e, link] + spatial.scale(up, m.heavy_mass[row, k])
    dynamics.generalised(m, d, e, d.fn, d.ff, d.qfrc_gravcomp)
    for i in range(m.nv):
        d.qfrc_passive[e, i] = d.qfrc_passive[e, i] + (1.0 - m.dof_actgravcomp[i]) * d.qfrc_gravcomp[e, i]


@procedure
def actuate(m: ti.template(), d: ti.template(), e):
    """Adds what is the actuators' to their qfrc."""
    for i in range(m.nv):
        d.actuator.qfrc[e, i] = d.actuator.qfrc[e, i] + m.dof_actgravcomp[i] * d.qfrc_gravcomp[e, i]


@procedure
def adjoint_lift(m: ti.template(), d: ti.template(), e):
    """The gradient of nu . W, W the forces, where `external` wants it; and in masses and centres of mass."""
    row = e * m.per_block
    for k in range(m.nheavy):
        link = m.heavy_link[k]
        q = d.xq[e, link]
        up = -spatial.scale(m.gravity[0], m.heavy_gravcomp[k])
        f = spatial.scale(up, m.heavy_mass[row, k])
        c = d.xp[e, link] + spatial.rotate(q, m.heavy_com[row, k])
        c_bar = spatial.cross(f, d.nw[e, link])
        external.add(d, e, link, c, f, f * 0.0, spatial.cross(c, c_bar), c_bar)
        if ti.static(m.fit):
            nu = external.particle(d.nw[e, link], d.nl[e, link], c)
            m.grad_heavy_mass[e, k] = m.grad_heavy_mass[e, k] + spatial.dot(nu, up)
            m.grad_heavy_com[e, k] = m.grad_heavy_com[e, k] + spatial.rotate_inv(q, c_bar)
