"""The adjoint of forces on links that contacts and tendons make, as far as it is the same for both (docs/adjoint.md).

A stage with such forces adds, for its force W on a link: of nu to fn, ff (as -W), of the velocity v to wn, wf (as
-v_bar), of the velocity v' = v at qvel + theta h qacc to xn, xf, of the pose to gn, gf. For a force f at a point p
that is `add` and `add_ahead`; if the link carries p along, the pose's part is (p x p_bar, p_bar) with p_bar = f x nu_w
+ v_bar x v_w + v'_bar x v'_w, w the angular parts.
"""

from taichi_sim import spatial
from taichi_sim.bodies import kinematics
from taichi_sim.bodies.tree import LINK_MOCAP
from taichi_sim.runtime import procedure, ti


@procedure
def ahead(m: ti.template(), d: ti.template(), e, h_theta):
    """qvel, qacc -> tw, tl: the links' spatial velocities v' = v + theta h S qacc. Clears xn, xf, gn, gf."""
    d.tw[e, 0] = m.gravity[0] * 0.0
    d.tl[e, 0] = m.gravity[0] * 0.0
    kinematics.motions(m, d, e, d.qacc, d.tw, d.tl)
    for link in range(1, m.nlink):
        d.tw[e, link] = d.vw[e, link] + h_theta * d.tw[e, link]
        d.tl[e, link] = d.vl[e, link] + h_theta * d.tl[e, link]
    for link in range(m.nlink):
        zero = m.gravity[0] * 0.0
        d.xn[e, link] = zero
        d.xf[e, link] = zero
        d.gn[e, link] = zero
        d.gf[e, link] = zero


@procedure
def adjoint_project(m: ti.template(), d: ti.template(), e):
    """Sums xn, xf and gn, gf over subtrees and adds their part of lam' dtau/d(q, v) to the gradients.

    With p the parent link, X and G the subtree's sums: q_bar_i = S_i . [G - v'_p x* X], v_bar_i = S_i . X.
    """
    for step in range(1, m.nlink):
        link = m.nlink - step
        p = m.link_parent[link]
        xn = d.xn[e, link]
        xf = d.xf[e, link]
        gn = d.gn[e, link]
        gf = d.gf[e, link]
        if ti.static(LINK_MOCAP in m.kinds):
            if m.link_kind[link] == LINK_MOCAP:
                # its parent is the world, which stands still
                kinematics.adjoint_mocap(m, d, e, link, gn, gf)
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


@ti.func
def particle(w, v, p):
    """Velocity at p of what moves with the spatial velocity (w, v)."""
    return v + spatial.cross(w, p)


@procedure
def add(d: ti.template(), e, link, p, f, v_bar, gn, gf):
    """Adds the adjoints of a force f at a point p of a link, and of v there, v_bar; and the pose's own (gn, gf)."""
    fn = spatial.cross(p, f)
    vn = spatial.cross(p, v_bar)
    d.fn[e, link] = d.fn[e, link] - fn
    d.ff[e, link] = d.ff[e, link] - f
    d.wn[e, link] = d.wn[e, link] - vn
    d.wf[e, link] = d.wf[e, link] - v_bar
    an, af = spatial.force_cross(d.nw[e, link], d.nl[e, link], fn, f)
    bn, bf = spatial.force_cross(d.vw[e, link], d.vl[e, link], vn, v_bar)
    d.gn[e, link] = d.gn[e, link] + gn + an + bn
    d.gf[e, link] = d.gf[e, link] + gf + af + bf


@procedure
def add_ahead(d: ti.template(), e, link, p, t_bar):
    """Adds t_bar, the adjoint of v' at p, to a link's."""
    add_motion(d, e, link, p, t_bar, d.tw, d.tl, d.xn, d.xf)


@procedure
def add_motion(
    d: ti.template(), e, link, p, bar, w: ti.template(), v: ti.template(), n: ti.template(), f: ti.template()
):
    """Adds `bar`, the adjoint at p of a link's motion w, v, to that motion's n, f, and to the pose's."""
    arm = spatial.cross(p, bar)
    gn, gf = spatial.force_cross(w[e, link], v[e, link], arm, bar)
    n[e, link] = n[e, link] + arm
    f[e, link] = f[e, link] + bar
    d.gn[e, link] = d.gn[e, link] + gn
    d.gf[e, link] = d.gf[e, link] + gf


@procedure
def add_moment(d: ti.template(), e, link, moment, w_bar):
    """Adds the adjoints of a moment on a link, and of the angular part of v, w_bar."""
    d.fn[e, link] = d.fn[e, link] - moment
    d.wn[e, link] = d.wn[e, link] - w_bar
    d.gn[e, link] = d.gn[e, link] + spatial.cross(d.nw[e, link], moment) + spatial.cross(d.vw[e, link], w_bar)


@procedure
def add_spin(d: ti.template(), e, link, bar, w: ti.template(), n: ti.template()):
    """Adds `bar`, the adjoint of the angular part w of a link's motion, to that motion's n, and to the pose's."""
    n[e, link] = n[e, link] + bar
    d.gn[e, link] = d.gn[e, link] + spatial.cross(w[e, link], bar)
