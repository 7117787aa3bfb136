"""Spatial inertias, the mass matrix by composite inertias, its sparse L'DL factor and solves with it.

Source: Featherstone, Rigid Body Dynamics Algorithms (2008), section 6.2 (composite rigid bodies) and 6.5 (L'DL).
"""

from taichi_sim import spatial
from taichi_sim.bodies import damping
from taichi_sim.lanes.vectors import greatest, stack
from taichi_sim.runtime import procedure, ti


@procedure
def bodies(m: ti.template(), d: ti.template(), e):
    """Poses -> ih, id, io: spatial inertias of the heavy bodies about their trees' origins, in world axes."""
    row = e * m.per_block
    for k in range(m.nheavy):
        link = m.heavy_link[k]
        q = d.xq[e, link]
        mass = m.heavy_mass[row, k]
        com = d.xp[e, link] + spatial.rotate(q, m.heavy_com[row, k])
        diag, off = rotated(q, m.heavy_diag[row, k], m.heavy_off[row, k])
        # parallel axes: m (|c|^2 - c c')
        x, y, z = com[0, :], com[1, :], com[2, :]
        diag = diag + stack([mass * (y * y + z * z), mass * (x * x + z * z), mass * (x * x + y * y)])
        off = off - stack([mass * y * z, mass * x * z, mass * x * y])
        d.ih[e, k] = spatial.scale(com, mass)
        d.id[e, k] = diag
        d.io[e, k] = off


@ti.func
def rotated(q, diag, off):
    """R I R' for a symmetric I given by diagonal (xx, yy, zz) and off-diagonal (yz, xz, xy)."""
    x = spatial.quat_axis(q, 0)
    y = spatial.quat_axis(q, 1)
    z = spatial.quat_axis(q, 2)
    # the columns of R I
    a = spatial.scale(x, diag[0, :]) + spatial.scale(y, off[2, :]) + spatial.scale(z, off[1, :])
    b = spatial.scale(x, off[2, :]) + spatial.scale(y, diag[1, :]) + spatial.scale(z, off[0, :])
    c = spatial.scale(x, off[1, :]) + spatial.scale(y, off[0, :]) + spatial.scale(z, diag[2, :])
    # and of (R I) R'
    xx = a[0, :] * x[0, :] + b[0, :] * y[0, :] + c[0, :] * z[0, :]
    yy = a[1, :] * x[1, :] + b[1, :] * y[1, :] + c[1, :] * z[1, :]
    zz = a[2, :] * x[2, :] + b[2, :] * y[2, :] + c[2, :] * z[2, :]
    yz = a[1, :] * x[2, :] + b[1, :] * y[2, :] + c[1, :] * z[2, :]
    xz = a[0, :] * x[2, :] + b[0, :] * y[2, :] + c[0, :] * z[2, :]
    xy = a[0, :] * x[1, :] + b[0, :] * y[1, :] + c[0, :] * z[1, :]
    return stack([xx, yy, zz]), stack([yz, xz, xy])


@procedure
def links(m: ti.template(), d: ti.template(), e):
    """ih, id, io -> cm, ch, cd, co: the inertias of single links."""
    row = e * m.per_block
    for link in range(m.nlink):
        zero = m.gravity[0] * 0.0
        d.cm[e, link] = zero[0, :]
        d.ch[e, link] = zero
        d.cd[e, link] = zero
        d.co[e, link] = zero
    for k in range(m.nheavy):
        link = m.heavy_link[k]
        d.cm[e, link] = d.cm[e, link] + m.heavy_mass[row, k]
        d.ch[e, link] = d.ch[e, link] + d.ih[e, k]
        d.cd[e, link] = d.cd[e, link] + d.id[e, k]
        d.co[e, link] = d.co[e, link] + d.io[e, k]


@procedure
def composite(m: ti.template(), d: ti.template(), e):
    """cm, ch, cd, co of single links -> of whole subtrees; and damping, unless some of it comes later."""
    for step in range(1, m.nlink):
        link = m.nlink - step
        p = m.link_parent[link]
        d.cm[e, p] = d.cm[e, p] + d.cm[e, link]
        d.ch[e, p] = d.ch[e, p] + d.ch[e, link]
        d.cd[e, p] = d.cd[e, p] + d.cd[e, link]
        d.co[e, p] = d.co[e, p] + d.co[e, link]
        if ti.static(m.damping.any and not m.damping.later):
            damping.accumulate(m, d, e, link, p)


@procedure
def mass_matrix(m: ti.template(), d: ti.template(), e, h_theta):
    """qM = M + h_theta C, C that of dampers and of links: row i holds S_j . (I_i S_i) for i's ancestors j."""
    row = e * m.per_block
    for i in range(m.nv):
        link = m.dof_link[i]
        n, f = spatial.inertia_mul(d.cm[e, link], d.ch[e, link], d.cd[e, link], d.co[e, link], d.sw[e, i], d.sl[e, i])
        if ti.static(m.damping.any):
            bn, bf = damping.mul(m, d, e, link, d.sw[e, i], d.sl[e, i])
            n = n + bn
            f = f + bf
        start = m.row_adr[i]
        for k in range(start, m.row_kin[i]):
            j = m.row_dof[k]
            d.qM[e, k] = spatial.dot(d.sw[e, j], n) + spatial.dot(d.sl[e, j], f)
        d.qM[e, start] = d.qM[e, start] + m.dof_armature[row, i] + h_theta * d.dof_implicit[e, i]
        for k in range(m.row_kin[i], m.row_adr[i + 1]):
            d.qM[e, k] = d.qvel[e, i] * 0.0


@procedure
def spread(m: ti.template(), d: ti.template(), e):
    """qM -> qLD, which has room for what the factorisation fills in."""
    for k in range(m.nfactor):
        d.qLD[e, k] = d.qM[e, 0] * 0.0
    for n in range(m.nterm):
        k = m.term_target[n]
        d.qLD[e, k] = d.qLD[e, k] + d.qM[e, m.term_entry[n]]


@procedure
def factor(m: ti.template(), d: ti.template(), e):
    """qLD = M -> L'DL in place: D on the diagonal, L's rows behind it."""
    for step in range(m.nv):
        k = m.nv - 1 - step
        start = m.factor_adr[k]
        end = m.factor_adr[k + 1]
        inverse = 1.0 / d.qLD[e, start]
        for ii in range(start + 1, end):
            a = d.qLD[e, ii] * inverse
            if counts(m, a):
                # the ancestors of k from its ancestor i on are i's own row
                shift = m.factor_adr[m.factor_dof[ii]] - ii
                for jj in range(ii, end):
                    d.qLD[e, jj + shift] = d.qLD[e, jj + shift] - (a * d.qLD[e, jj])
            d.qLD[e, ii] = a


@ti.func
def counts(m: ti.template(), x):
    """Whether an entry of the factor does anything: those of branches that only contacts couple mostly do not."""
    some = 1
    if ti.static(m.coupled):
        some = ti.select(greatest(abs(x)) > 0.0, 1, 0)
    return some


@procedure
def solve(m: ti.template(), d: ti.template(), e, x: ti.template(), columns: ti.template(), rows: ti.template()):
    """x = A^-1 x, with the factor of A in its columns and rows (qLU, qLD); of A' with these exchanged."""
    if ti.static(m.wide):
        for i in range(m.nv):
            d.solved[e, i] = x[e, i]
        substitute(m, d, e, d.solved, columns, rows)
        for i in range(m.nv):
            x[e, i] = ti.cast(d.solved[e, i], ti.f32)
    else:
        substitute(m, d, e, x, columns, rows)


@procedure
def substitute(m: ti.template(), d: ti.template(), e, x: ti.template(), columns: ti.template(), rows: ti.template()):
    """`solve` in the precision of x."""
    for step in range(m.nv):
        i = m.nv - 1 - step
        xi = x[e, i]
        for k in range(m.factor_adr[i] + 1, m.factor_adr[i + 1]):
            j = m.factor_dof[k]
            x[e, j] = x[e, j] - (columns[e, k] * xi)
    for i in range(m.nv):
        start = m.factor_adr[i]
        xi = x[e, i] / rows[e, start]
        for k in range(start + 1, m.factor_adr[i + 1]):
            xi = xi - (rows[e, k] * x[e, m.factor_dof[k]])
        x[e, i] = xi
