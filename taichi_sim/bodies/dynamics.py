"""Inverse dynamics by the recursive Newton-Euler algorithm, and its adjoint.

Source: Featherstone, Rigid Body Dynamics Algorithms (2008), table 5.1. The adjoint is derived in docs/adjoint.md.
"""

from taichi_sim import spatial
from taichi_sim.bodies import kinematics
from taichi_sim.bodies.tree import LINK_MOCAP
from taichi_sim.lanes.vectors import stack
from taichi_sim.runtime import procedure, ti


@procedure
def clear(m: ti.template(), e, n: ti.template(), f: ti.template()):
    """No spatial forces (n, f) on any link."""
    zero = m.gravity[0] * 0.0
    for link in range(m.nlink):
        n[e, link] = zero
        f[e, link] = zero


@procedure
def newton_euler(m: ti.template(), d: ti.template(), e):
    """vw, vl, aw, al -> fn, ff: f = I a + v x* I v of every body, added up per link."""
    row = e * m.per_block
    clear(m, e, d.fn, d.ff)
    for k in range(m.nheavy):
        link = m.heavy_link[k]
        mass = m.heavy_mass[row, k]
        h = d.ih[e, k]
        diag = d.id[e, k]
        off = d.io[e, k]
        w = d.vw[e, link]
        v = d.vl[e, link]
        n, f = spatial.inertia_mul(mass, h, diag, off, w, v)
        n, f = spatial.force_cross(w, v, n, f)
        an, af = spatial.inertia_mul(mass, h, diag, off, d.aw[e, link], d.al[e, link])
        d.fn[e, link] = d.fn[e, link] + n + an
        d.ff[e, link] = d.ff[e, link] + f + af


@procedure
def generalised(m: ti.template(), d: ti.template(), e, n: ti.template(), f: ti.template(), out: ti.template()):
    """Spatial forces (n, f) of single links -> of whole subtrees, in place, and out_i = S_i . (n, f)."""
    for step in range(1, m.nlink):
        link = m.nlink - step
        p = m.link_parent[link]
        n[e, p] = n[e, p] + n[e, link]
        f[e, p] = f[e, p] + f[e, link]
    for i in range(m.nv):
        link = m.dof_link[i]
        out[e, i] = spatial.dot(d.sw[e, i], n[e, link]) + spatial.dot(d.sl[e, i], f[e, link])


@procedure
def adjoint_motion(m: ti.template(), d: ti.template(), e):
    """lam -> nw, nl: the motions nu = nu_parent + S lam, so that lam' S' f = sum of nu . f over bodies."""
    kinematics.motions(m, d, e, d.lam, d.nw, d.nl)


@procedure
def adjoint_bodies(m: ti.template(), d: ti.template(), e):
    """The gradient of nu . f in a and v, as spatial forces on the link: an, af and wn, wf = v_bar + v x* a_bar."""
    row = e * m.per_block
    for link in range(m.nlink):
        zero = m.gravity[0] * 0.0
        d.an[e, link] = zero
        d.af[e, link] = zero
        d.wn[e, link] = zero
        d.wf[e, link] = zero
    for k in range(m.nheavy):
        link = m.heavy_link[k]
        mass = m.heavy_mass[row, k]
        h = d.ih[e, k]
        diag = d.id[e, k]
        off = d.io[e, k]
        w = d.vw[e, link]
        v = d.vl[e, link]
        nw = d.nw[e, link]
        nl = d.nl[e, link]
        an, af = spatial.inertia_mul(mass, h, diag, off, nw, nl)
        pn, pf = spatial.inertia_mul(mass, h, diag, off, w, v)
        # v_bar = -nu x* (I v) - I (v x nu)
        bn, bf = spatial.force_cross(nw, nl, pn, pf)
        cw, cl = spatial.motion_cross(w, v, nw, nl)
        cn, cf = spatial.inertia_mul(mass, h, diag, off, cw, cl)
        gn, gf = spatial.force_cross(w, v, an, af)
        d.an[e, link] = d.an[e, link] + an
        d.af[e, link] = d.af[e, link] + af
        d.wn[e, link] = d.wn[e, link] + gn - bn - cn
        d.wf[e, link] = d.wf[e, link] + gf - bf - cf


@procedure
def adjoint_project(m: ti.template(), d: ti.template(), e):
    """Sums the adjoints over subtrees and subtracts lam' dID/d(q, v) from grad_qpos and grad_qvel, and grad_mocap.

    With p the parent link, F, A, W the subtree's sums of f, a_bar and w:
        q_bar_i = S_i . [nu_p x* F + a_p x* A + v_p x* (W - v_p x* A)]
        v_bar_i = -S_i . [W - (v_p + v) x* A]
    """
    for step in range(1, m.nlink):
        link = m.nlink - step
        p = m.link_parent[link]
        an = d.an[e, link]
        af = d.af[e, link]
        wn = d.wn[e, link]
        wf = d.wf[e, link]
        pw = d.vw[e, p]
        pl = d.vl[e, p]
        xn, xf = spatial.force_cross(pw, pl, an, af)
        yn, yf = spatial.force_cross(d.vw[e, link], d.vl[e, link], an, af)
        yn = yn + xn - wn
        yf = yf + xf - wf
        qn, qf = spatial.force_cross(pw, pl, wn - xn, wf - xf)
        tn, tf = spatial.force_cross(d.nw[e, p], d.nl[e, p], d.fn[e, link], d.ff[e, link])
        sn, sf = spatial.force_cross(d.aw[e, p], d.al[e, p], an, af)
        if ti.static(LINK_MOCAP in m.kinds):
            if m.link_kind[link] == LINK_MOCAP:
                # its parent is the world, which has gravity alone
                kinematics.adjoint_mocap(m, d, e, link, sn, sf)
        qn = qn + tn + sn
        qf = qf + tf + sf
        dof = m.link_dofadr[link]
        for i in range(dof, dof + m.link_dofnum[link]):
            d.grad_qpos[e, i] = d.grad_qpos[e, i] + spatial.dot(d.sw[e, i], qn) + spatial.dot(d.sl[e, i], qf)
            d.grad_qvel[e, i] = d.grad_qvel[e, i] + spatial.dot(d.sw[e, i], yn) + spatial.dot(d.sl[e, i], yf)
        d.fn[e, p] = d.fn[e, p] + d.fn[e, link]
        d.ff[e, p] = d.ff[e, p] + d.ff[e, link]
        d.an[e, p] = d.an[e, p] + an
        d.af[e, p] = d.af[e, p] + af
        d.wn[e, p] = d.wn[e, p] + wn
        d.wf[e, p] = d.wf[e, p] + wf


@procedure
def adjoint_inertia(m: ti.template(), d: ti.template(), e):
    """Gradient of -nu . f in every heavy body's mass, centre and inertia, added to their adjoints.

    nu . f = nu . I a - (v x nu) . I v; and for any motions x, y with linear velocities x_c, y_c at the centre of mass,
    x . I y = m x_c . y_c + x_w' J y_w, with J the inertia about it.
    """
    row = e * m.per_block
    for k in range(m.nheavy):
        link = m.heavy_link[k]
        q = d.xq[e, link]
        mass = m.heavy_mass[row, k]
        c = d.xp[e, link] + spatial.rotate(q, m.heavy_com[row, k])
        w = d.vw[e, link]
        v = d.vl[e, link]
        nw = d.nw[e, link]
        nl = d.nl[e, link]
        xw, xl = spatial.motion_cross(w, v, nw, nl)
        inertia_gradient(m, e, k, q, c, mass, nw, nl, d.aw[e, link], d.al[e, link])
        inertia_gradient(m, e, k, q, c, mass, -xw, -xl, w, v)


@procedure
def inertia_gradient(m: ti.template(), e, k, q, c, mass, xw, xl, yw, yl):
    """Subtracts the gradient of x . I y from the adjoints of body k's mass, centre and inertia."""
    xc = xl + spatial.cross(xw, c)
    yc = yl + spatial.cross(yw, c)
    m.grad_heavy_mass[e, k] = m.grad_heavy_mass[e, k] - spatial.dot(xc, yc)
    g = spatial.scale(spatial.cross(yc, xw) + spatial.cross(xc, yw), mass)
    m.grad_heavy_com[e, k] = m.grad_heavy_com[e, k] - spatial.rotate_inv(q, g)
    a = spatial.rotate_inv(q, xw)
    b = spatial.rotate_inv(q, yw)
    m.grad_heavy_diag[e, k] = m.grad_heavy_diag[e, k] - a * b
    yz = a[1, :] * b[2, :] + a[2, :] * b[1, :]
    xz = a[0, :] * b[2, :] + a[2, :] * b[0, :]
    xy = a[0, :] * b[1, :] + a[1, :] * b[0, :]
    m.grad_heavy_off[e, k] = m.grad_heavy_off[e, k] - stack([yz, xz, xy])


@procedure
def adjoint_armature(m: ti.template(), d: ti.template(), e):
    """Gradient of -lam . armature qacc."""
    for i in range(m.nv):
        m.grad_dof_armature[e, i] = m.grad_dof_armature[e, i] - d.lam[e, i] * d.qacc[e, i]
