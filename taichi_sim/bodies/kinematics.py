"""Poses, velocities and accelerations of the links; one pass from the roots to the leaves each."""

from taichi_sim import spatial
from taichi_sim.bodies.tree import LINK_BALL, LINK_HINGE, LINK_MOCAP, LINK_SLIDE, LINK_TRANS
from taichi_sim.lanes.vectors import stack
from taichi_sim.runtime import procedure, ti


@procedure
def position(m: ti.template(), d: ti.template(), e):
    """qpos, mocap -> xp, xq (link frames) and sw, sl (motion subspaces)."""
    for link in range(1, m.nlink):
        p = m.link_parent[link]
        kind = m.link_kind[link]
        qadr = m.link_qposadr[link]
        dof = m.link_dofadr[link]
        q = d.xq[e, p]
        x = d.xp[e, p] + spatial.rotate(q, m.link_pos[link])
        if m.link_turned[link] == 1:
            q = spatial.quat_mul(q, m.link_quat[link])
        if ti.static(LINK_HINGE in m.kinds):
            if kind == LINK_HINGE:
                axis = m.link_axis[link]
                s, c = spatial.sin_cos(0.5 * (d.qpos[e, qadr] - m.qpos0[qadr]))
                u = spatial.scale(axis, s)
                w = spatial.rotate(q, axis)
                q = spatial.quat_mul(q, stack([c, u[0, :], u[1, :], u[2, :]]))
                d.sw[e, dof] = w
                d.sl[e, dof] = spatial.cross(x, w)
        if ti.static(LINK_SLIDE in m.kinds):
            if kind == LINK_SLIDE:
                axis = spatial.rotate(q, m.link_axis[link])
                if m.link_base[link] == 0:
                    x = x + spatial.scale(axis, d.qpos[e, qadr] - m.qpos0[qadr])
                d.sw[e, dof] = axis * 0.0
                d.sl[e, dof] = axis
        if ti.static(LINK_TRANS in m.kinds):
            if kind == LINK_TRANS:
                for k in ti.static(range(3)):
                    d.sw[e, dof + k] = x * 0.0
                    d.sl[e, dof + k] = spatial.basis(x, k)
        if ti.static(LINK_BALL in m.kinds):
            if kind == LINK_BALL:
                q = spatial.quat_mul(q, spatial.quat_normalize(spatial.load_quat(d.qpos, e, qadr)))
                for k in ti.static(range(3)):
                    w = spatial.quat_axis(q, k)
                    d.sw[e, dof + k] = w
                    d.sl[e, dof + k] = spatial.cross(x, w)
        if ti.static(LINK_MOCAP in m.kinds):
            if kind == LINK_MOCAP:
                x = spatial.load_vec3(d.mocap, e, qadr)
                q = spatial.quat_normalize(spatial.load_quat(d.mocap, e, qadr + 3))
        d.xp[e, link] = x
        d.xq[e, link] = q


@procedure
def world(m: ti.template(), d: ti.template(), e):
    """Link 0 stands still; gravity is the world's acceleration upwards."""
    zero = m.gravity[0] * 0.0
    d.xp[e, 0] = zero
    d.xq[e, 0] = m.link_quat[0]
    d.vw[e, 0] = zero
    d.vl[e, 0] = zero
    d.aw[e, 0] = zero
    d.al[e, 0] = -m.gravity[0]
    d.nw[e, 0] = zero
    d.nl[e, 0] = zero


@ti.func
def joint_motion(m: ti.template(), d: ti.template(), e, link, coordinates: ti.template()):
    """Sum over a link's dofs of S_i x_i, for x one of the state's fields: a spatial motion."""
    dof = m.link_dofadr[link]
    w = spatial.scale(d.sw[e, dof], coordinates[e, dof])
    v = spatial.scale(d.sl[e, dof], coordinates[e, dof])
    if ti.static(LINK_TRANS in m.kinds or LINK_BALL in m.kinds):
        # written out: of a loop, LLVM would add up several turns side by side, lanes apart
        if m.link_dofnum[link] == 3:
            for k in ti.static(range(1, 3)):
                w = w + spatial.scale(d.sw[e, dof + k], coordinates[e, dof + k])
                v = v + spatial.scale(d.sl[e, dof + k], coordinates[e, dof + k])
    if ti.static(LINK_MOCAP in m.kinds):
        if m.link_dofnum[link] == 0:
            w = w * 0.0
            v = v * 0.0
    return w, v


@procedure
def motions(m: ti.template(), d: ti.template(), e, x: ti.template(), w: ti.template(), v: ti.template()):
    """w, v of the links from those of the world on: those of the parent + S x, for x a vector of dofs."""
    for link in range(1, m.nlink):
        p = m.link_parent[link]
        turn, shift = joint_motion(m, d, e, link, x)
        w[e, link] = w[e, p] + turn
        v[e, link] = v[e, p] + shift


@procedure
def velocity(m: ti.template(), d: ti.template(), e, with_qacc: ti.template()):
    """qvel (and qacc) -> vw, vl, aw, al: v = v_parent + S qvel, a = a_parent + S qacc + v_parent x S qvel."""
    for link in range(1, m.nlink):
        p = m.link_parent[link]
        w, v = joint_motion(m, d, e, link, d.qvel)
        pw = d.vw[e, p]
        pl = d.vl[e, p]
        d.vw[e, link] = pw + w
        d.vl[e, link] = pl + v
        cw, cl = spatial.motion_cross(pw, pl, w, v)
        cw = cw + d.aw[e, p]
        cl = cl + d.al[e, p]
        if ti.static(with_qacc):
            qw, ql = joint_motion(m, d, e, link, d.qacc)
            cw = cw + qw
            cl = cl + ql
        d.aw[e, link] = cw
        d.al[e, link] = cl


@procedure
def origins(m: ti.template(), d: ti.template(), e):
    """qpos -> the points that spatial quantities refer to."""
    for t in range(m.ntree):
        d.origin[e, t] = m.origin_pos[t]
    for k in range(m.norigin):
        adr = m.origin_qposadr[k]
        t = m.origin_tree[k]
        d.origin[e, t] = d.origin[e, t] + spatial.scale(m.origin_axis[k], d.qpos[e, adr] - m.qpos0[adr])


@procedure
def adjoint_mocap(m: ti.template(), d: ti.template(), e, link, n, f):
    """Adds to grad_mocap that of a displacement of a mocap link, a spatial force (n, f) about the world's origin."""
    adr = m.link_qposadr[link]
    turn = n - spatial.cross(d.xp[e, link], f)
    q = spatial.load_quat(d.mocap, e, adr + 3)
    g = spatial.quat_raw_gradient(q, spatial.quat_mul(spatial.pure_quat(turn), q))
    for k in ti.static(range(3)):
        d.grad_mocap[e, adr + k] = d.grad_mocap[e, adr + k] + f[k, :]
    for k in ti.static(range(4)):
        d.grad_mocap[e, adr + 3 + k] = d.grad_mocap[e, adr + 3 + k] + g[k, :]
