"""What the kernels read and write: the model's constants and the state of a batch of worlds, as Taichi fields.

Worlds are grouped into blocks of L lanes (`runtime`).
"""

from __future__ import annotations

import numpy as np

from taichi_sim import contact_points
from taichi_sim import tree as tree_module
from taichi_sim.runtime import Runtime, ti
from taichi_sim.tendon_tables import Tables
from taichi_sim.types import (
    DYN_MUSCLE,
    DYN_NONE,
    GAIN_MUSCLE,
    JNT_BALL,
    JNT_FREE,
    TRN_JOINT,
    TRN_TENDON,
    Model,
)

# Bound of what is not bounded: fast-math code may assume that there are no infinities.
_UNBOUNDED = 1e30


class Items:
    """A row of consecutive cells in a buffer, indexed in kernels like a field: `items[block, i]`, or `items[i]` in a
    shared buffer.

    An entry is `width` cells of L lanes: a scalar (width 1) reads as a vector of L, a 3-vector or a quaternion as a
    (width, L) matrix. Taichi would make a separate data structure of every component of every lane of a matrix field,
    and then take longer over their layout than over the kernels.
    """

    def __init__(self, buffer: Buffer, start: int, width: int):
        self._buffer, self._start, self._width = buffer, start, width

    def twin(self, buffer: Buffer) -> Items:
        """The same cells of another buffer."""
        return Items(buffer, self._start, self._width)

    def cells(self, i: int) -> slice:
        """Where entry i lies in the buffer."""
        return slice(self._start + i * self._width, self._start + (i + 1) * self._width)

    def __getitem__(self, index):
        # runs while Taichi compiles a kernel: indices and results are its expressions
        block, i = index if isinstance(index, tuple) else (0, index)
        field, width = self._buffer.field, self._width
        if width == 1:
            return ti.lang.impl.subscript(None, field, block, i + self._start)
        first = ti.lang.impl.expr_init(i * width + self._start)
        rows = [ti.lang.impl.subscript(None, field, block, first + k) for k in range(width)]
        value = ti.Matrix.rows(rows)

        def assign(new):
            new = ti.lang.impl.expr_init(new)
            for k, row in enumerate(rows):
                row._assign(ti.lang.impl.subscript(None, new, k, slice(None)))

        value._assign = assign
        return value


class Buffer:
    """One Taichi field of shape (rows, cells), each cell a vector of L lanes, from which `Items` are handed out."""

    def __init__(self, lanes: int, real, rows: int):
        self.lanes, self.real, self.rows = lanes, real, rows
        self.field = ti.Vector.field(lanes, real)
        self._values: list[tuple[int, np.ndarray]] = []
        self.cells = 0

    def items(self, number: int, width: int) -> Items:
        """Room for `number` entries, at least one: kernels that loop over none still have to compile."""
        start, self.cells = self.cells, self.cells + max(1, number) * width
        return Items(self, start, width)

    def constant(self, values) -> Items:
        """Entries that hold `values`, (n,) or (n, width), in every lane of every row."""
        values = np.asarray(values, np.float64)
        items = self.items(len(values), 1 if values.ndim == 1 else values.shape[1])
        self._values.append((items._start, values.ravel()))
        return items

    def values(self) -> np.ndarray:
        """The constants, cell by cell."""
        cells = np.zeros(self.cells)
        for start, values in self._values:
            cells[start : start + len(values)] = values
        return cells

    def fill(self) -> None:
        """Writes the constants; the field must be placed."""
        if self._values:
            everywhere = np.broadcast_to(self.values()[None, :, None], (self.rows, self.cells, self.lanes))
            self.field.from_numpy(np.ascontiguousarray(everywhere, np.float64 if self.real == ti.f64 else np.float32))


class Ints:
    """A row of consecutive integers in a buffer: `ints[i]`."""

    def __init__(self, fields: Fields, start: int):
        self._fields, self._start = fields, start

    def __getitem__(self, i):
        return ti.lang.impl.subscript(None, self._fields.integers, i + self._start)


class Fields:
    """The memory of one Simulator, in one tree of Taichi's that can be given back.

    | buffer | what it holds | rows |
    |---|---|---|
    | state | what differs between worlds and changes | one per block |
    | shared | constants of the model | 1 |
    | fitted | constants that users may fit | 1, or one per block |
    | gradient | the adjoint of `fitted`, cell by cell | one per block |
    | integers | indices and switches of the model | - |
    """

    def __init__(self, runtime: Runtime, lanes: int, num_blocks: int, fit: bool):
        self.state = Buffer(lanes, runtime.real, num_blocks)
        self.shared = Buffer(lanes, runtime.real, 1)
        self.fitted = Buffer(lanes, runtime.real, num_blocks if fit else 1)
        self.gradient = Buffer(lanes, runtime.real, num_blocks if fit else 1)
        self.integers = ti.field(ti.i32)
        self._integers: list[np.ndarray] = []
        self._cuda = runtime.device.type == "cuda"
        self._tree = None

    def ints(self, values) -> Ints:
        """Integer constants."""
        start = sum(len(x) for x in self._integers)
        self._integers.append(np.atleast_1d(np.asarray(values, np.int32)))
        return Ints(self, start)

    def gradient_of(self, items: Items) -> Items:
        """Where the adjoint of fitted constants is collected."""
        return items.twin(self.gradient)

    def commit(self) -> None:
        """Allocates everything that was asked for and fills in the constants."""
        builder = ti.FieldsBuilder()
        self.gradient.cells = self.fitted.cells
        for buffer in (self.state, self.shared, self.fitted, self.gradient):
            if self._cuda:
                # neighbouring threads handle neighbouring blocks: keep those side by side
                builder.dense(ti.j, buffer.cells).dense(ti.i, buffer.rows).place(buffer.field)
            else:
                builder.dense(ti.ij, (buffer.rows, buffer.cells)).place(buffer.field)
        integers = np.concatenate(self._integers)
        builder.dense(ti.i, len(integers)).place(self.integers)
        self._tree = builder.finalize()
        for buffer in (self.state, self.shared, self.fitted):
            buffer.fill()
        self.integers.from_numpy(integers)

    def destroy(self) -> None:
        """Gives the memory back."""
        if self._tree is not None:
            self._tree.destroy()
            self._tree = None


@ti.data_oriented
class DeviceModel:
    """The model's constants on the device; sizes are Python integers, fixed when a kernel is compiled.

    Constants that users may fit (`heavy_mass`, `dof_damping`, ...) have one row for all worlds, or with `fit` one per
    block and an adjoint beside it (`grad_heavy_mass`, ...).
    """

    def __init__(self, model: Model, fields: Fields, num_blocks: int, fit: bool):
        tree = tree_module.Tree(model)
        self.tree = tree
        links = tree.links
        self.nq, self.nv, self.nu, self.na = model.nq, model.nv, model.nu, model.na
        self.nbody, self.njnt = model.nbody, model.njnt
        self.nlink, self.ntree, self.nnz = len(links), tree.num_trees, len(tree.row_dof)
        self.nfactor, self.neq = len(tree.factor_dof), len(tree.eq_dof)
        # what is factored is not qM where equalities reduce it, nor where tendons couple branches, which fills it in
        self.coupled = bool((tree.row_kin < tree.row_adr[1:]).any())
        self.separate = self.neq > 0 or self.coupled
        # what a substep leaves on the tape: qpos, qvel, act, qacc, qLD; and for equalities qM and eq_force
        self.nstate = self.nq + self.nv + self.na
        self.nrecord = self.nstate + self.nv + self.nfactor + (self.nnz + self.neq if self.neq else 0)
        self.num_blocks, self.fit, self.per_block = num_blocks, fit, int(fit)
        # what a model has none of is left out of its kernels
        types = set(model.jnt_type.tolist())
        limited = set(model.jnt_type[np.asarray(model.jnt_limited, bool)].tolist())
        on_joint = model.actuator_trntype == TRN_JOINT
        acted = set(model.jnt_type[model.actuator_trnid[on_joint]].tolist())
        self.kinds = frozenset(k.kind for k in links[1:])
        self.free, self.ball = JNT_FREE in types, bool(types & {JNT_FREE, JNT_BALL})
        opt = model.opt
        self.spring, self.damper = opt.spring and (fit or bool(model.jnt_stiffness.any())), opt.damper
        self.limit, self.limit_ball = opt.limit and bool(limited), JNT_BALL in limited
        self.act_free, self.act_ball = JNT_FREE in acted, JNT_BALL in acted
        self.act_joint, self.act_tendon = bool(on_joint.any()), bool((~on_joint).any())
        self.actuation, self.clampctrl = opt.actuation, opt.clampctrl

        f = fields
        self.gravity = f.shared.constant(np.asarray(opt.gravity)[None])
        self.qpos0, self.qpos_spring = f.shared.constant(model.qpos0), f.shared.constant(model.qpos_spring)
        self._links(links, tree, f)
        self._bodies(model, tree, f)
        self._joints(model, tree, f)
        self._actuators(model, f)
        self._contacts(model, tree, f)
        self._tendons(model, tree, f)
        self._muscles(model, f)
        # forces on links besides those of inertia and gravity
        self.external = self.contact or self.npath > 0
        if self.separate:
            self._factor(tree, f)
        if self.neq:
            self._equalities(model, tree, f)
        for name in (
            "heavy_mass",
            "heavy_com",
            "heavy_diag",
            "heavy_off",
            "dof_armature",
            "dof_damping",
            "jnt_stiffness",
            "muscle_force",
            "muscle_optimal_length",
            "muscle_slack_length",
        ):
            setattr(self, f"grad_{name}", f.gradient_of(getattr(self, name)))
        self.grad_gainprm = [f.gradient_of(x) for x in self.actuator_gainprm]
        self.grad_biasprm = [f.gradient_of(x) for x in self.actuator_biasprm]
        self.grad_timeconst = [f.gradient_of(x) for x in self.muscle_timeconst]
        self.ncell, self.fitted_values = f.fitted.cells, f.fitted.values()

    def _links(self, links, tree, f: Fields) -> None:
        self.link_kind = f.ints([k.kind for k in links])
        self.link_parent = f.ints([k.parent for k in links])
        self.link_turned = f.ints([not np.allclose(k.quat, [1, 0, 0, 0], atol=1e-15) for k in links])
        self.link_base = f.ints([k.base for k in links])
        self.link_pos = f.shared.constant([k.pos for k in links])
        self.link_quat = f.shared.constant([k.quat for k in links])
        self.link_axis = f.shared.constant([k.axis for k in links])
        self.link_qposadr = f.ints([k.qposadr for k in links])
        self.link_dofadr = f.ints([k.dofadr for k in links])
        self.link_dofnum = f.ints([0] + [k.dofnum for k in links[1:]])
        self.link_tree = f.ints([k.tree for k in links])
        self.origin_pos = f.shared.constant(tree.origin_pos)
        self.norigin = len(tree.origin_terms)
        self.origin_tree = f.ints([t for t, _, _ in tree.origin_terms])
        self.origin_qposadr = f.ints([a for _, a, _ in tree.origin_terms])
        self.origin_axis = f.shared.constant(np.array([x for _, _, x in tree.origin_terms]).reshape(-1, 3))
        self.dof_link = f.ints(tree.dof_link)
        self.row_adr, self.row_dof, self.row_kin = f.ints(tree.row_adr), f.ints(tree.row_dof), f.ints(tree.row_kin)
        # unless they are separate
        self.factor_adr, self.factor_dof = self.row_adr, self.row_dof

    def _bodies(self, model: Model, tree, f: Fields) -> None:
        self.body_link = f.ints(tree.body_link)
        self.body_pos, self.body_quat = f.shared.constant(tree.body_pos), f.shared.constant(tree.body_quat)
        # inertias in link frames; bodies that cannot move, or weigh nothing, have none
        self.heavy = [b for b in range(1, model.nbody) if tree.body_link[b] > 0 and model.body_mass[b] > 0]
        self.nheavy = len(self.heavy)
        self.heavy_link = f.ints(tree.body_link[self.heavy])
        mass, com, diag, off = link_inertia(model, tree)
        self.heavy_mass = f.fitted.constant(mass[self.heavy])
        self.heavy_com = f.fitted.constant(com[self.heavy].reshape(-1, 3))
        self.heavy_diag = f.fitted.constant(diag[self.heavy].reshape(-1, 3))
        self.heavy_off = f.fitted.constant(off[self.heavy].reshape(-1, 3))

    def _joints(self, model: Model, tree, f: Fields) -> None:
        self.jnt_type = f.ints(model.jnt_type)
        self.jnt_qposadr, self.jnt_dofadr = f.ints(model.jnt_qposadr), f.ints(model.jnt_dofadr)
        self.jnt_limited = f.ints(model.jnt_limited)
        self.jnt_range_lo, self.jnt_range_hi = (
            f.shared.constant(model.jnt_range[:, 0]),
            f.shared.constant(model.jnt_range[:, 1]),
        )
        self.jnt_limit_ke, self.jnt_limit_kd = (
            f.shared.constant(model.jnt_limit_ke),
            f.shared.constant(model.jnt_limit_kd),
        )
        self.jnt_sprung = f.ints((model.jnt_stiffness != 0) | self.fit)
        self.jnt_stiffness = f.fitted.constant(model.jnt_stiffness)
        limited = np.asarray(model.jnt_actfrclimited, bool)
        self.jnt_actfrc_lo = f.shared.constant(np.where(limited, model.jnt_actfrcrange[:, 0], -_UNBOUNDED))
        self.jnt_actfrc_hi = f.shared.constant(np.where(limited, model.jnt_actfrcrange[:, 1], _UNBOUNDED))
        self.dof_jntid = f.ints(model.dof_jntid)
        self.dof_armature, self.dof_damping = (
            f.fitted.constant(model.dof_armature),
            f.fitted.constant(model.dof_damping),
        )

    def _actuators(self, model: Model, f: Fields) -> None:
        self.actuator_trnid = f.ints(model.actuator_trnid)
        self.actuator_gear = [f.shared.constant(model.actuator_gear[:, k]) for k in range(6)]
        self.actuator_gainprm = [f.fitted.constant(model.actuator_gainprm[:, k]) for k in range(3)]
        self.actuator_biasprm = [f.fitted.constant(model.actuator_biasprm[:, k]) for k in range(3)]
        gain, bias = model.actuator_gainprm, model.actuator_biasprm
        servo = (gain[:, 0] != 0) & (gain[:, 0] == -bias[:, 1]) & ~gain[:, 1:].any(axis=1)
        joints = np.where(model.actuator_trntype == TRN_JOINT, model.actuator_trnid, 0)
        servo &= (model.actuator_trntype == TRN_JOINT) & (model.jnt_type[joints] == JNT_BALL)
        turn = 2 * np.pi * np.linalg.norm(model.actuator_gear[:, :3], axis=1)
        self.actuator_period = f.shared.constant(np.where(servo, turn, 0.0))
        limited = np.asarray(model.actuator_ctrllimited, bool) & self.clampctrl
        self.ctrl_lo = f.shared.constant(np.where(limited, model.actuator_ctrlrange[:, 0], -_UNBOUNDED))
        self.ctrl_hi = f.shared.constant(np.where(limited, model.actuator_ctrlrange[:, 1], _UNBOUNDED))
        limited = np.asarray(model.actuator_forcelimited, bool)
        self.force_lo = f.shared.constant(np.where(limited, model.actuator_forcerange[:, 0], -_UNBOUNDED))
        self.force_hi = f.shared.constant(np.where(limited, model.actuator_forcerange[:, 1], _UNBOUNDED))

    def _contacts(self, model: Model, tree, f: Fields) -> None:
        points, pairs = contact_points.on_planes(model, tree), contact_points.between_bodies(model, tree)
        self.ncontact, self.nnormal, self.npair = len(points["link"]), len(points["frame"]), len(pairs["link1"])
        self.contact = self.ncontact + self.npair > 0
        self.pair_static = bool((pairs["link2"] == 0).any())
        self.contact_kinds, self.pair_kinds = set(points["kind"].tolist()), set(pairs["kind"].tolist())
        for prefix, table in (("contact", points), ("pair", pairs)):
            for name, values in table.items():
                if values.dtype == np.int32:
                    items = f.ints(values)
                else:
                    items = f.shared.constant(np.minimum(values, _UNBOUNDED))
                setattr(self, f"{prefix}_{name}", items)

    def _tendons(self, model: Model, tree, f: Fields) -> None:
        tables = Tables(model, tree)
        self.ntendon, self.njacobian = model.ntendon, len(tables.row_dof)
        self.nstraight, self.nwrapped = (len(x.get("share", ())) for x in (tables.straight, tables.wrapped))
        self.npath, self.nten_joint = self.nstraight + self.nwrapped, len(tables.joint_coef)
        self.nten_pair = len(tables.pair_target)
        opt = model.opt
        sprung, damped = (x.astype(bool) for x in (model.tendon_stiffness, model.tendon_damping))
        self.ten_passive = bool(sprung.any() or damped.any())
        self.ten_limit = opt.limit and bool(np.any(model.tendon_limited))
        self.ten_adr, self.ten_dof = f.ints(tables.row_adr), f.ints(tables.row_dof)
        self.ten_length0, self.ten_jacobian0 = f.shared.constant(tables.length0), f.shared.constant(tables.jacobian0)
        self.ten_joint_tendon, self.ten_joint_dof = f.ints(tables.joint_tendon), f.ints(tables.joint_dof)
        self.ten_joint_qposadr, self.ten_joint_coef = f.ints(tables.joint_qposadr), f.shared.constant(tables.joint_coef)
        for prefix, table in (("straight", tables.straight), ("wrapped", tables.wrapped)):
            for name, values in table.items():
                items = f.ints(values) if values.dtype == np.int32 else f.shared.constant(values)
                setattr(self, f"{prefix}_{name}", items)
        self.ten_term_dof, self.ten_term_end = f.ints(tables.term_dof), f.ints(tables.term_end)
        self.ten_term_entry = f.ints(tables.term_entry)
        self.ten_pair_tendon, self.ten_pair_target = f.ints(tables.pair_tendon), f.ints(tables.pair_target)
        self.ten_pair_entry1, self.ten_pair_entry2 = f.ints(tables.pair_entry1), f.ints(tables.pair_entry2)
        self.ten_stiffness, self.ten_damping = (
            f.shared.constant(model.tendon_stiffness),
            f.shared.constant(model.tendon_damping),
        )
        self.ten_slack_lo, self.ten_slack_hi = (f.shared.constant(model.tendon_lengthspring[:, k]) for k in range(2))
        limited = np.asarray(model.tendon_limited, bool)
        self.ten_limit_lo = f.shared.constant(np.where(limited, model.tendon_range[:, 0], -_UNBOUNDED))
        self.ten_limit_hi = f.shared.constant(np.where(limited, model.tendon_range[:, 1], _UNBOUNDED))
        self.ten_limit_ke = f.shared.constant(np.minimum(model.tendon_limit_ke, _UNBOUNDED))
        self.ten_limit_kd = f.shared.constant(np.minimum(model.tendon_limit_kd, _UNBOUNDED))

    def _muscles(self, model: Model, f: Fields) -> None:
        pulls = model.actuator_gaintype == GAIN_MUSCLE
        self.muscle = bool(pulls.any())
        self.muscle_laws = frozenset(model.muscle_law[pulls].tolist())
        self.dynamics = frozenset(model.actuator_dyntype.tolist()) - {DYN_NONE}
        driven = model.actuator_dyntype == DYN_MUSCLE
        self.activation_laws = frozenset(model.muscle_law[driven].tolist())
        self.actuator_tendon = f.ints(np.where(model.actuator_trntype == TRN_TENDON, model.actuator_trnid, -1))
        self.actuator_muscle, self.muscle_law = f.ints(pulls), f.ints(model.muscle_law)
        self.actuator_dyntype, self.actuator_actadr = f.ints(model.actuator_dyntype), f.ints(model.actuator_actadr)
        self.act_smooth = f.shared.constant(model.actuator_dynprm[:, 2])
        # row for row the columns of Model.muscle_timeconst; other actuators' dynprm[0] is a time constant, too
        self.muscle_timeconst = [f.fitted.constant(model.actuator_dynprm[:, k]) for k in range(2)]
        limited = np.asarray(model.actuator_actlimited, bool)
        self.act_lo = f.shared.constant(np.where(limited, model.actuator_actrange[:, 0], -_UNBOUNDED))
        self.act_hi = f.shared.constant(np.where(limited, model.actuator_actrange[:, 1], _UNBOUNDED))
        self.muscle_force = f.fitted.constant(model.muscle_force)
        self.muscle_optimal_length = f.fitted.constant(model.muscle_optimal_length)
        self.muscle_slack_length = f.fitted.constant(model.muscle_slack_length)
        self.muscle_prm = [f.shared.constant(model.muscle_prm[:, k]) for k in range(model.muscle_prm.shape[1])]

    def _factor(self, tree, f: Fields) -> None:
        self.factor_adr, self.factor_dof = f.ints(tree.factor_adr), f.ints(tree.factor_dof)
        self.nterm = len(tree.factor_terms)
        self.term_entry, self.term_dof1, self.term_dof2, self.term_target = (f.ints(x) for x in tree.factor_terms.T)

    def _equalities(self, model: Model, tree, f: Fields) -> None:
        dof1, dof2 = tree.eq_dof.T
        qpos1, qpos2 = (model.jnt_qposadr[model.dof_jntid[dof]] for dof in (dof1, dof2))
        self.eq_dof1, self.eq_dof2 = f.ints(dof1), f.ints(dof2)
        self.eq_qpos1, self.eq_qpos2 = f.ints(qpos1), f.ints(qpos2)
        coefficients = np.array(model.eq_polycoef)
        coefficients[dof1 == dof2, 1:] = 0
        coefficients[:, 0] += model.qpos0[qpos1]
        self.eq_polycoef = f.shared.constant(coefficients)


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
    | qpos, qvel, act, qacc, ctrl | as in `State` | nq, nv, na, nv, nu |
    | origin | reference point of a tree's spatial quantities, world frame [m] | ntree |
    | xp, xq | pose of a link's frame; the position relative to its tree's origin | nlink |
    | sw, sl | motion subspace of a dof, MuJoCo's cdof: angular, linear about the tree's origin | nv |
    | vw, vl | spatial velocity of a link | nlink |
    | aw, al | spatial acceleration of a link, gravity included as an upward acceleration of the world | nlink |
    | fn, ff | spatial force that a link's subtree needs (moment, force) | nlink |
    | ih, id, io | spatial inertia of a heavy body: mass times centre, diagonal, off-diagonal | nheavy |
    | cm, ch, cd, co | inertia of a link's subtree: mass and as above | nlink |
    | qM | the mass matrix, row by row as in `Tree.row_dof`; unless `separate` it lies where qLD does | nnz |
    | qLD | what the step factors and later its L'DL factor, row by row as in `Tree.factor_dof` | nfactor |
    | eq_slope, eq_gamma | of a dof in terms of the independent ones: v = slope v_i, a = slope a_i + gamma | nv |
    | eq_product, eq_force | qM times a vector; the force [N, N m] by which an equality moves its joint1 | nv, neq |
    | qfrc_bias, qfrc_passive, qfrc_limit, qfrc_actuator | generalised forces [N, N m] | nv |
    | dof_implicit | coefficient c of the velocity-dependent force -c v that is taken at v + theta h a | nv |
    | dof_actuator, dof_unclamped | its part by actuators; 1 where the total actuator force is not clamped | nv |
    | actuator_length, actuator_velocity, actuator_force | | nu |
    | actuator_kv, actuator_free | d force/d velocity; 1 where the force is not clamped | nu |
    | ten_length, ten_velocity | of tendons [m], [m/s] | ntendon |
    | ten_J | d ten_length / d q for the dofs that change it, row by row as in `Tables.row_dof` | njacobian |
    | ten_force, ten_implicit | a tendon's force along its length [N]; coefficient of it as in dof_implicit | ntendon |
    | ten_lam, ten_ahead | ten_J lam; the velocity at qvel + theta h qacc | ntendon |
    | ten_length_bar, ten_velocity_bar, ten_ahead_bar | adjoints of length, velocity and ten_ahead | ntendon |
    | lam, nw, nl | adjoint of R, and the motions it gives the links (`adjoint`) | nv, nlink |
    | qfrc_contact | generalised contact forces [N, N m] | nv |
    | kn, kf | contact forces on a link's subtree (moment, force) | nlink |
    | bm, bh, bd, bo | its contact damping along each normal: mass, arm, diagonal, off-diagonal | nlink * nnormal |
    | gl, ga | that along other normals, linear and angular: diagonal, off-diagonal | 2 nlink |
    | gm | its columns that couple the two | 3 nlink |
    | tw, tl | spatial velocity of a link at qvel + theta h qacc (`external.ahead`) | nlink |
    | xn, xf, gn, gf | adjoints of tw, tl and of the pose through contacts and tendons, summed over subtrees | nlink |
    | an, af, wn, wf | adjoints of acceleration and velocity as spatial forces, summed over subtrees | nlink |
    | grad_qpos, grad_qvel, grad_act, grad_ctrl | adjoints of state (qpos: tangent space), ctrl | nv, nv, na, nu |
    | grad_raw | adjoint of qpos' own entries | nq |
    """

    def __init__(self, m: DeviceModel, fields: Fields):
        def scalars(names: str, number: int) -> None:
            self._allot(fields, names, number, 1)

        def vectors(names: str, number: int) -> None:
            self._allot(fields, names, number, 3)

        scalars("qpos grad_raw", m.nq)
        scalars("qvel qacc lam grad_qpos grad_qvel", m.nv)
        scalars("qfrc_bias qfrc_passive qfrc_limit qfrc_actuator dof_implicit dof_actuator dof_unclamped", m.nv)
        if m.external:
            vectors("tw tl xn xf gn gf", m.nlink)
        if m.contact:
            scalars("qfrc_contact", m.nv)
            vectors("kn kf", m.nlink)
            scalars("bm", m.nlink * m.nnormal)
            vectors("bh bd bo", m.nlink * m.nnormal)
        if m.pair_static:
            vectors("gl ga", 2 * m.nlink)
            vectors("gm", 3 * m.nlink)
        scalars("ctrl grad_ctrl actuator_length actuator_velocity actuator_force actuator_kv actuator_free", m.nu)
        scalars("act grad_act", m.na)
        scalars("ten_J", m.njacobian)
        scalars("ten_length ten_velocity ten_force ten_implicit", m.ntendon)
        scalars("ten_ahead ten_lam ten_length_bar ten_velocity_bar ten_ahead_bar", m.ntendon)
        scalars("qLD", m.nfactor)
        self.qM = self.qLD
        if m.separate:
            scalars("qM", m.nnz)
        if m.neq:
            scalars("eq_slope eq_gamma eq_product", m.nv)
            scalars("eq_force", m.neq)
        vectors("origin", m.ntree)
        self._allot(fields, "xq", m.nlink, 4)
        vectors("xp vw vl aw al fn ff", m.nlink)
        vectors("sw sl", m.nv)
        vectors("ih id io", m.nheavy)
        scalars("cm", m.nlink)
        vectors("ch cd co nw nl an af wn wf", m.nlink)

    def _allot(self, fields: Fields, names: str, number: int, width: int) -> None:
        for name in names.split():
            setattr(self, name, fields.state.items(number, width))
