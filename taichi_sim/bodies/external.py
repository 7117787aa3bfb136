"""The adjoint of forces on links that contacts and tendons make, as far as it is the same for both (docs/adjoint.md).

A stage with such forces adds, for its force W on a link: of nu to fn, ff (as -W), of the velocity v to wn, wf (as
-v_bar), of the velocity v' = v at qvel + theta h qacc to xn, xf, of the pose to gn, gf.
"""

from taichi_sim import spatial
from taichi_sim.runtime import ti


@ti.func
def ahead(m: ti.template(), d: ti.template(), e, h_theta):
    """qvel, qacc -> tw, tl: the links' spatial velocities v'. Clears xn, xf, gn, gf."""
    d.tw[e, 0] = m.gravity[0] * 0.0
    d.tl[e, 0] = m.gravity[0] * 0.0
    for link in range(1, m.nlink):
        p = m.link_parent[link]
        dof = m.link_dofadr[link]
        w = d.tw[e, p]
        v = d.tl[e, p]
        for i in range(dof, dof + m.link_dofnum[link]):
            speed = d.qvel[e, i] + h_theta * d.qacc[e, i]
            w = w + spatial.scale(d.sw[e, i], speed)
            v = v + spatial.scale(d.sl[e, i], speed)
        d.tw[e, link] = w
        d.tl[e, link] = v
    for link in range(m.nlink):
        zero = m.gravity[0] * 0.0
        d.xn[e, link] = zero
        d.xf[e, link] = zero
        d.gn[e, link] = zero
        d.gf[e, link] = zero


@ti.func
def adjoint_project(m: ti.template(), d: ti.template(), e):
    """Sums xn, xf and gn, gf over subtrees and adds their part of lam' dtau/d(q, v) to grad_qpos and grad_qvel.

    With p the parent link, X and G the subtree's sums: q_bar_i = S_i . [G - v'_p x* X], v_bar_i = S_i . X.
    """
    for step in range(1, m.nlink):
        link = m.nlink - step
        p = m.link_parent[link]
        xn = d.xn[e, link]
        xf = d.xf[e, link]
        gn = d.gn[e, link]
        gf = d.gf[e, link]
        cn, cf = spatial.force_cross(d.tw[e, p], d.tl[e, p], xn, xf)
        cn = gn - cn
        cf = gf - cf
        dof = m.link_dofadr[link]
        for i in range(dof, dof + m.link_dofnum[link]):
            d.grad_qpos[e, i] = d.grad_qpos[e, i] + spatial.dot(d.sw[e, i], cn) + spatial.dot(d.sl[e, i], cf)
            d.grad_qvel[e, i] = d.grad_qvel[e, i] + spatial.dot(d.sw[e, i], xn) + spatial.dot(d.sl[e, i], xf)
        d.xn[e, p] = d.xn[e, p] + xn
        d.xf[e, p] = d.xf[e, p] + xf
        d.gn[e, p] = d.gn[e, p] + gn
        d.gf[e, p] = d.gf[e, p] + gf
