"""Coriolis, centrifugal and gyroscopic forces at v + theta h a, for models that ask for it (`Option.coriolis`), or
among what MuJoCo's integrators damp afterwards (`integrators.implicit`).

The bias c is quadratic in v. Linearised in the step, c(v) + K theta h a with K = dc/dv, it keeps fast spin stable,
which the explicit bias lets grow. K has the sparsity of the mass matrix, but is not symmetric: the matrix that the step
factors has rows in qLD and columns in qLU, or, of what is damped afterwards, in qDU.

With S_j the motion of dof j, v and v_p those of its link and of the link's parent, A_j = (v_p + v) x S_j, and for a
link l of inertia I the linear map D_l x = I (x x v_l) + x x* I v_l + v_l x* I x,

    K_ij = S_i . (I_c A_j + D_c S_j),

where c stands for the sum over the subtree of whichever of the two is further from the root. D x depends on the angular
part of x alone: three columns.
"""

from taichi_sim import spatial
from taichi_sim.bodies import dynamics, inertia, kinematics
from taichi_sim.runtime import procedure, ti


@procedure
def links(m: ti.template(), d: ti.template(), e):
    """cm, ch, cd, co, which other rooms add to later, and v -> pm, ph, pd, po and D's columns jn, jf of subtrees; ow, ol."""  # noqa: E501
    for link in range(m.nlink):
        mass, h, diag, off = d.cm[e, link], d.ch[e, link], d.cd[e, link], d.co[e, link]
        d.pm[e, link] = mass
        d.ph[e, link] = h
        d.pd[e, link] = diag
        d.po[e, link] = off
        w = d.vw[e, link]
        v = d.vl[e, link]
        none = w * 0.0
        pn, pf = spatial.inertia_mul(mass, h, diag, off, w, v)
        for k in ti.static(range(3)):
            x = spatial.basis(w, k)
            cw, cl = spatial.motion_cross(x, none, w, v)
            n, f = spatial.inertia_mul(mass, h, diag, off, cw, cl)
            xn, xf = spatial.force_cross(x, none, pn, pf)
            yn, yf = spatial.inertia_mul(mass, h, diag, off, x, none)
            yn, yf = spatial.force_cross(w, v, yn, yf)
            d.jn[e, 3 * link + k] = n + xn + yn
            d.jf[e, 3 * link + k] = f + xf + yf
    for step in range(1, m.nlink):
        link = m.nlink - step
        p = m.link_parent[link]
        d.pm[e, p] = d.pm[e, p] + d.pm[e, link]
        d.ph[e, p] = d.ph[e, p] + d.ph[e, link]
        d.pd[e, p] = d.pd[e, p] + d.pd[e, link]
        d.po[e, p] = d.po[e, p] + d.po[e, link]
        for k in ti.static(range(3)):
            d.jn[e, 3 * p + k] = d.jn[e, 3 * p + k] + d.jn[e, 3 * link + k]
            d.jf[e, 3 * p + k] = d.jf[e, 3 * p + k] + d.jf[e, 3 * link + k]
    for i in range(m.nv):
        link = m.dof_link[i]
        p = m.link_parent[link]
        w = d.vw[e, link] + d.vw[e, p]
        v = d.vl[e, link] + d.vl[e, p]
        d.ow[e, i], d.ol[e, i] = spatial.motion_cross(w, v, d.sw[e, i], d.sl[e, i])


@procedure
def matrix(m: ti.template(), d: ti.template(), e, h_theta, columns: ti.template()):
    """qLD, symmetric so far -> the rows and columns of that plus h_theta K. damped += h_theta K qacc, if so."""
    for k in range(m.nfactor):
        columns[e, k] = d.qLD[e, k]
    for i in range(m.nv):
        h = h_theta * counted(m, i)
        link = m.dof_link[i]
        mass, first, diag, off = d.pm[e, link], d.ph[e, link], d.pd[e, link], d.po[e, link]
        sw = d.sw[e, i]
        sl = d.sl[e, i]
        n, f = spatial.inertia_mul(mass, first, diag, off, sw, sl)
        an, af = spatial.inertia_mul(mass, first, diag, off, d.ow[e, i], d.ol[e, i])
        # D' S_i
        g = sw * 0.0
        for k in ti.static(range(3)):
            jn = d.jn[e, 3 * link + k]
            jf = d.jf[e, 3 * link + k]
            an = an + spatial.scale(jn, sw[k, :])
            af = af + spatial.scale(jf, sw[k, :])
            g = g + spatial.scale(spatial.basis(sw, k), spatial.dot(jn, sw) + spatial.dot(jf, sl))
        for k in range(m.row_adr[i], m.row_kin[i]):
            j = m.row_dof[k]
            at = k
            if ti.static(m.separate):
                at = m.term_target[k]
            row = spatial.dot(n, d.ow[e, j]) + spatial.dot(f, d.ol[e, j]) + spatial.dot(g, d.sw[e, j])
            column = spatial.dot(d.sw[e, j], an) + spatial.dot(d.sl[e, j], af)
            d.qLD[e, at] = d.qLD[e, at] + h * row
            columns[e, at] = columns[e, at] + h * column
            if ti.static(m.damped_coriolis):
                d.damped[e, i] = d.damped[e, i] + h * row * d.qacc[e, j]
                if i != j:
                    d.damped[e, j] = d.damped[e, j] + h * column * d.qacc[e, i]


@ti.func
def counted(m: ti.template(), i):
    """1, or 0 if the forces of dof i are none of those that are damped afterwards."""
    return m.dof_coriolis[i] if ti.static(m.damped_coriolis) else 1.0


@procedure
def factor(m: ti.template(), d: ti.template(), e, columns: ti.template()):
    """`inertia.factor` of a matrix with rows qLD and such columns: LDU in place, its D in both."""
    for step in range(m.nv):
        k = m.nv - 1 - step
        start = m.factor_adr[k]
        end = m.factor_adr[k + 1]
        inverse = 1.0 / d.qLD[e, start]
        for ii in range(start + 1, end):
            row = d.qLD[e, ii] * inverse
            column = columns[e, ii] * inverse
            if inertia.counts(m, abs(row) + abs(column)):
                shift = m.factor_adr[m.factor_dof[ii]] - ii
                for jj in range(ii, end):
                    d.qLD[e, jj + shift] = d.qLD[e, jj + shift] - (column * d.qLD[e, jj])
                    columns[e, jj + shift] = columns[e, jj + shift] - (row * columns[e, jj])
            d.qLD[e, ii] = row
            columns[e, ii] = column


@procedure
def adjoint(m: ti.template(), d: ti.template(), e, h_theta):
    """grad_qpos, grad_qvel -= lam' d(K delta)/d(q, v) at delta = h_theta qacc held.

    K delta is 2 B(v, delta) with B the bilinear form of c, which is (c(v + delta) - c(v - delta)) / 2: inverse dynamics
    without gravity and acceleration, twice. Leaves velocities and forces of links to be computed anew. What the two say
    of v + delta and v - delta is also the adjoint of delta, if that is asked for, in kept_bar.
    """
    for i in range(m.nv):
        d.kept_lam[e, i] = d.lam[e, i]
        d.kept_qvel[e, i] = d.qvel[e, i]
    kinematics.world(m, d, e)
    d.al[e, 0] = m.gravity[0] * 0.0
    # a loop, so that it is compiled once
    for side in range(2):
        sign = 1.0 - 2.0 * side
        for i in range(m.nv):
            d.lam[e, i] = (0.5 * sign) * d.kept_lam[e, i]
            d.qvel[e, i] = d.kept_qvel[e, i] + (sign * h_theta) * d.qacc[e, i]
            if ti.static(m.damped_coriolis):
                d.kept_bar[e, i] = d.kept_bar[e, i] - sign * d.grad_qvel[e, i]
        kinematics.velocity(m, d, e, False)
        dynamics.newton_euler(m, d, e)
        dynamics.adjoint_motion(m, d, e)
        dynamics.adjoint_bodies(m, d, e)
        dynamics.adjoint_project(m, d, e)
        if ti.static(m.fit):
            dynamics.adjoint_inertia(m, d, e)
        if ti.static(m.damped_coriolis):
            for i in range(m.nv):
                d.kept_bar[e, i] = d.kept_bar[e, i] + sign * d.grad_qvel[e, i]
    for i in range(m.nv):
        d.lam[e, i] = d.kept_lam[e, i]
        d.qvel[e, i] = d.kept_qvel[e, i]


@procedure
def adjoint_damp(m: ti.template(), d: ti.template(), e, h):
    """The part of these forces in `implicit.adjoint`: lam -= h K' mu, and `adjoint` of mu' h K a'."""
    for i in range(m.nv):
        d.kept_sum[e, i], d.kept_bar[e, i] = d.lam[e, i], d.lam[e, i] * 0.0
        d.lam[e, i] = counted(m, i) * d.mu[e, i]
        d.qacc[e, i] = d.qacc[e, i] - d.damped[e, i]
    adjoint(m, d, e, h)
    for i in range(m.nv):
        d.lam[e, i] = d.kept_sum[e, i] + h * d.kept_bar[e, i]
        d.qacc[e, i] = d.qacc[e, i] + d.damped[e, i]
