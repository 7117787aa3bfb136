"""What the kernels read and write: the model's constants and the state of a batch of worlds, as Taichi fields.

Worlds are grouped into blocks of L lanes (`runtime`). A field of a quantity has shape (blocks, items) and holds L lanes of
it per entry: `vec` a scalar, `vec3` a 3-vector, `vec4` a quaternion.
"""

from __future__ import annotations

import numpy as np

from taichi_sim import tree as tree_module
from taichi_sim.runtime import Runtime, ti
from taichi_sim.types import Model


class Fields:
    """Allocates the fields of one Simulator, in one tree of Taichi's that can be given back."""

    def __init__(self, runtime: Runtime):
        self.lanes, self.real = runtime.lanes, runtime.real
        self.npreal = np.float64 if runtime.precision == "f64" else np.float32
        # consecutive threads of a CUDA warp handle consecutive blocks: keep those side by side in memory there
        self._order = "ji" if runtime.device.type == "cuda" else "ij"
        self._builder = ti.FieldsBuilder()
        self._pending: list = []
        self._tree = None

    def _place(self, field, shape):
        axes = ti.i if len(shape) == 1 else ti.ij
        # Taichi has no empty fields; kernels loop over zero items of these
        shape = tuple(max(1, n) for n in shape)
        if len(shape) == 2 and self._order == "ji":
            self._builder.dense(ti.j, shape[1]).dense(ti.i, shape[0]).place(field)
        else:
            self._builder.dense(axes, shape).place(field)
        return field

    def ints(self, values):
        """Constants of type int, one per item."""
        return self._constant(ti.field(ti.i32), np.asarray(values, np.int32))

    def vec(self, *shape):
        """A scalar per item."""
        return self._place(ti.Vector.field(self.lanes, self.real), shape)

    def vec3(self, *shape):
        """A 3-vector per item."""
        return self._place(ti.Matrix.field(3, self.lanes, self.real), shape)

    def vec4(self, *shape):
        """A quaternion per item."""
        return self._place(ti.Matrix.field(4, self.lanes, self.real), shape)

    def constant(self, values, rows: int | None = None):
        """Constants, the same in every lane; `values` is (items,), (items, 3) or (items, 4). With `rows`, a leading axis."""
        values = np.asarray(values, self.npreal)
        lanes = np.repeat(values[..., None], self.lanes, axis=-1)
        make = {1: self.vec, 2: {3: self.vec3, 4: self.vec4}.get(values.shape[-1])}[values.ndim]
        if rows is None:
            field = make(len(values))
        else:
            field, lanes = make(rows, len(values)), np.repeat(lanes[None], rows, axis=0)
        self._pending.append((field, lanes))
        return field

    def _constant(self, field, values):
        self._place(field, values.shape)
        self._pending.append((field, values))
        return field

    def commit(self) -> None:
        """Allocates everything that was asked for and fills in the constants."""
        self._tree = self._builder.finalize()
        for field, values in self._pending:
            if values.size:
                field.from_numpy(np.ascontiguousarray(values))
        self._pending.clear()

    def destroy(self) -> None:
        """Gives the memory back."""
        if self._tree is not None:
            self._tree.destroy()
            self._tree = None


@ti.data_oriented
class DeviceModel:
    """The model's constants on the device; sizes are Python integers, fixed when a kernel is compiled.

    Arrays that users may fit (`body_mass`, `body_com`, ...) have a row for all worlds, or with `per_world` one per block.
    """

    def __init__(self, model: Model, fields: Fields, num_blocks: int, per_world: bool):
        tree = tree_module.Tree(model)
        self.tree = tree
        links = tree.links
        self.nq, self.nv, self.nu = model.nq, model.nv, model.nu
        self.nbody, self.njnt, self.nsite = model.nbody, model.njnt, model.nsite
        self.nlink, self.ntree, self.nnz = len(links), tree.num_trees, len(tree.row_dof)
        self.num_blocks, self.per_world = num_blocks, int(per_world)
        self.kinds = frozenset(k.kind for k in links[1:])
        opt = model.opt
        self.spring, self.damper, self.limit = opt.spring, opt.damper, opt.limit
        self.actuation, self.clampctrl = opt.actuation, opt.clampctrl
        self.theta = opt.theta

        f = fields
        self.gravity = f.constant(np.asarray(opt.gravity)[None])
        self.qpos0, self.qpos_spring = f.constant(model.qpos0), f.constant(model.qpos_spring)
        self._links(links, tree, f)
        rows = num_blocks if per_world else 1
        self._bodies(model, tree, f, rows)
        self._joints(model, tree, f, rows)
        self._actuators(model, f, rows)

    def _links(self, links, tree, f: Fields) -> None:
        self.link_kind = f.ints([k.kind for k in links])
        self.link_parent = f.ints([k.parent for k in links])
        self.link_turned = f.ints([not np.allclose(k.quat, [1, 0, 0, 0], atol=1e-15) for k in links])
        self.link_base = f.ints([k.base for k in links])
        self.link_pos = f.constant([k.pos for k in links])
        self.link_quat = f.constant([k.quat for k in links])
        self.link_axis = f.constant([k.axis for k in links])
        self.link_qposadr = f.ints([k.qposadr for k in links])
        self.link_dofadr = f.ints([k.dofadr for k in links])
        self.link_dofnum = f.ints([0] + [k.dofnum for k in links[1:]])
        self.link_tree = f.ints([k.tree for k in links])
        self.origin_pos = f.constant(tree.origin_pos)
        self.norigin = len(tree.origin_terms)
        self.origin_tree = f.ints([t for t, _, _ in tree.origin_terms])
        self.origin_qposadr = f.ints([a for _, a, _ in tree.origin_terms])
        self.origin_axis = f.constant(np.array([x for _, _, x in tree.origin_terms]).reshape(-1, 3))
        self.dof_link = f.ints(tree.dof_link)
        self.row_adr, self.row_dof = f.ints(tree.row_adr), f.ints(tree.row_dof)

    def _bodies(self, model: Model, tree, f: Fields, rows: int) -> None:
        self.body_link = f.ints(tree.body_link)
        self.body_pos, self.body_quat = f.constant(tree.body_pos), f.constant(tree.body_quat)
        self.body_ipos = f.constant(model.body_ipos)
        self.site_bodyid, self.site_pos = f.ints(model.site_bodyid), f.constant(model.site_pos.reshape(-1, 3))
        # inertias in link frames; bodies that cannot move, or weigh nothing, have none
        self.heavy = [b for b in range(1, model.nbody) if tree.body_link[b] > 0 and model.body_mass[b] > 0]
        self.nheavy = len(self.heavy)
        self.heavy_link = f.ints(tree.body_link[self.heavy])
        mass, com, diag, off = link_inertia(model, tree)
        self.heavy_mass = f.constant(mass[self.heavy], rows)
        self.heavy_com = f.constant(com[self.heavy].reshape(-1, 3), rows)
        self.heavy_diag = f.constant(diag[self.heavy].reshape(-1, 3), rows)
        self.heavy_off = f.constant(off[self.heavy].reshape(-1, 3), rows)

    def _joints(self, model: Model, tree, f: Fields, rows: int) -> None:
        self.jnt_type = f.ints(model.jnt_type)
        self.jnt_qposadr, self.jnt_dofadr = f.ints(model.jnt_qposadr), f.ints(model.jnt_dofadr)
        self.jnt_limited = f.ints(model.jnt_limited)
        self.jnt_range_lo, self.jnt_range_hi = f.constant(model.jnt_range[:, 0]), f.constant(model.jnt_range[:, 1])
        self.jnt_limit_ke, self.jnt_limit_kd = f.constant(model.jnt_limit_ke), f.constant(model.jnt_limit_kd)
        self.jnt_sprung = f.ints(model.jnt_stiffness != 0)
        self.jnt_stiffness = f.constant(model.jnt_stiffness, rows)
        limited = np.asarray(model.jnt_actfrclimited, bool)
        self.jnt_actfrc_lo = f.constant(np.where(limited, model.jnt_actfrcrange[:, 0], -np.inf))
        self.jnt_actfrc_hi = f.constant(np.where(limited, model.jnt_actfrcrange[:, 1], np.inf))
        self.dof_jntid = f.ints(model.dof_jntid)
        self.dof_armature, self.dof_damping = f.constant(model.dof_armature, rows), f.constant(model.dof_damping, rows)

    def _actuators(self, model: Model, f: Fields, rows: int) -> None:
        self.actuator_trnid = f.ints(model.actuator_trnid)
        self.actuator_gear = [f.constant(model.actuator_gear[:, k]) for k in range(6)]
        self.actuator_gainprm = [f.constant(model.actuator_gainprm[:, k], rows) for k in range(3)]
        self.actuator_biasprm = [f.constant(model.actuator_biasprm[:, k], rows) for k in range(3)]
        limited = np.asarray(model.actuator_ctrllimited, bool) & self.clampctrl
        self.ctrl_lo = f.constant(np.where(limited, model.actuator_ctrlrange[:, 0], -np.inf))
        self.ctrl_hi = f.constant(np.where(limited, model.actuator_ctrlrange[:, 1], np.inf))
        limited = np.asarray(model.actuator_forcelimited, bool)
        self.force_lo = f.constant(np.where(limited, model.actuator_forcerange[:, 0], -np.inf))
        self.force_hi = f.constant(np.where(limited, model.actuator_forcerange[:, 1], np.inf))


def link_inertia(model: Model, tree):
    """Mass [kg], centre of mass [m] and inertia about it [kg m^2] of every body in the frame of its link.

    Returns:
        mass (nbody,), com (nbody, 3), diagonal (nbody, 3) as xx, yy, zz and off-diagonal (nbody, 3) as yz, xz, xy.
    """
    com, diag, off = (np.zeros((model.nbody, 3)) for _ in range(3))
    for b in range(model.nbody):
        frame = tree_module.quat_matrix(tree.body_quat[b])
        com[b] = tree.body_pos[b] + frame @ model.body_ipos[b]
        axes = frame @ tree_module.quat_matrix(model.body_iquat[b])
        inertia = axes @ np.diag(model.body_inertia[b]) @ axes.T
        diag[b], off[b] = np.diag(inertia), (inertia[1, 2], inertia[0, 2], inertia[0, 1])
    return model.body_mass, com, diag, off


@ti.data_oriented
class Data:
    """The state and the intermediate results of a batch of worlds.

    | field | meaning | items |
    |---|---|---|
    | qpos, qvel, qacc, ctrl | as in `State` | nq, nv, nv, nu |
    | origin | reference point of a tree's spatial quantities, world frame [m] | ntree |
    | xp, xq | pose of a link's frame; the position relative to its tree's origin | nlink |
    | sw, sl | motion subspace of a dof, MuJoCo's cdof: angular, linear about the tree's origin | nv |
    | vw, vl | spatial velocity of a link | nlink |
    | aw, al | spatial acceleration of a link, gravity included as an upward acceleration of the world | nlink |
    | fn, ff | spatial force that a link's subtree needs (moment, force) | nlink |
    | ih, id, io | spatial inertia of a heavy body: mass times centre, diagonal, off-diagonal about the origin | nheavy |
    | cm, ch, cd, co | composite inertia: mass, mass times centre, diagonal and off-diagonal about the origin | nlink |
    | qLD | the mass matrix and later its L'DL factor, row by row as in `Tree.row_dof` | nnz |
    | qfrc_bias, qfrc_passive, qfrc_limit, qfrc_actuator | generalised forces [N, N m] | nv |
    | dof_implicit | coefficient c of the velocity-dependent force -c v that is taken at v + theta h a | nv |
    | dof_actuator, dof_unclamped | actuators' part of it; 1 where the joint's total actuator force is not clamped | nv |
    | actuator_length, actuator_velocity, actuator_force | | nu |
    | lam, nw, nl | adjoint of R, and the motions it gives the links (`adjoint`) | nv, nlink |
    | an, af, wn, wf | adjoints of acceleration and velocity as spatial forces, summed over subtrees | nlink |
    | grad_qpos, grad_qvel, grad_ctrl | adjoints of the state (positions: tangent space) and of the controls | nv, nv, nu |
    | grad_raw | adjoint of qpos' own entries | nq |
    """

    def __init__(self, m: DeviceModel, fields: Fields):
        n, f = m.num_blocks, fields
        self.qpos, self.qvel, self.qacc, self.ctrl = f.vec(n, m.nq), f.vec(n, m.nv), f.vec(n, m.nv), f.vec(n, m.nu)
        self.origin = f.vec3(n, m.ntree)
        self.xp, self.xq = f.vec3(n, m.nlink), f.vec4(n, m.nlink)
        self.sw, self.sl = f.vec3(n, m.nv), f.vec3(n, m.nv)
        self.vw, self.vl, self.aw, self.al, self.fn, self.ff = (f.vec3(n, m.nlink) for _ in range(6))
        self.ih, self.id, self.io = (f.vec3(n, m.nheavy) for _ in range(3))
        self.cm, self.ch, self.cd, self.co = f.vec(n, m.nlink), *(f.vec3(n, m.nlink) for _ in range(3))
        self.qLD = f.vec(n, m.nnz)
        self.qfrc_bias, self.qfrc_passive, self.qfrc_limit, self.qfrc_actuator = (f.vec(n, m.nv) for _ in range(4))
        self.dof_implicit, self.dof_actuator, self.dof_unclamped = (f.vec(n, m.nv) for _ in range(3))
        self.actuator_length, self.actuator_velocity, self.actuator_force = (f.vec(n, m.nu) for _ in range(3))
        self.lam, self.grad_qpos, self.grad_qvel = (f.vec(n, m.nv) for _ in range(3))
        self.grad_ctrl, self.grad_raw = f.vec(n, m.nu), f.vec(n, m.nq)
        self.nw, self.nl, self.an, self.af, self.wn, self.wf = (f.vec3(n, m.nlink) for _ in range(6))
