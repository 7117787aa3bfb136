"""What the kernels of this room know of a model, and what they need for each world.

The other rooms stand on this one: its constants are a device model's own (`m.link_parent`), its scratch the data's own
(`d.xp`); theirs have their room's name before them.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from taichi_sim.bodies.conditioning import ill_conditioned
from taichi_sim.bodies.integrators import choice
from taichi_sim.bodies.tree import Tree, lone, quat_matrix
from taichi_sim.lanes.buffers import Buffer, Fields, Items
from taichi_sim.types import JNT_BALL, JNT_FREE, Model

# Model constants of this room that users may fit.
PARAMETERS = (
    *("body_mass", "body_inertia", "body_ipos", "dof_armature", "dof_damping", "dof_frictionloss", "jnt_stiffness"),
)
_INERTIAL = frozenset(PARAMETERS[:3])


@dataclasses.dataclass(frozen=True)
class Damping:
    """What other rooms take at v + theta h a for links, see `damping`: along how many fixed normals, and along others.

    Some of it comes `later`, with what `constraint` adds to the same matrix.
    """

    normals: Items
    number: int
    free: bool
    any: bool
    later: bool


class Constants:
    """Constants of bodies, joints and dofs; sizes are Python integers, fixed when a kernel is compiled.

    Constants that users may fit have one row for all worlds, or with `fit` one per block and an adjoint beside it
    (`grad_heavy_mass`, ...). Names that begin with an underscore are not for kernels.
    """

    def __init__(self, model: Model, f: Fields, fitted: tuple[str, ...]):
        tree = Tree(model)
        self._tree, self._model = tree, model
        self.fit, self.per_block = bool(fitted), int(bool(fitted))
        self.nq, self.nv, self.nu, self.na = model.nq, model.nv, model.nu, model.na
        self.nstate = self.nq + self.nv + self.na
        self.nbody, self.njnt = model.nbody, model.njnt
        # numbers that place the mocap bodies
        self.nmocap = 7 * model.nmocap
        self.mocap0 = f.shared.constant(model.mocap0.ravel())
        self.gravity = f.shared.constant(np.asarray(model.opt.gravity)[None])
        self.qpos0, self.qpos_spring = f.shared.constant(model.qpos0), f.shared.constant(model.qpos_spring)
        self._links(tree, f)
        self._matrix(tree, f)
        self._bodies(model, tree, f, fitted)
        self._joints(model, f)
        self._friction(model, f, fitted)
        if self.neq:
            self._equalities(model, tree, f)
        self.external = self.gravcomp
        # equalities make a symmetric problem of it
        self.coriolis = model.opt.coriolis and self.neq == 0
        self._integrator(model, f, fitted)
        self.wide = f.wide is not f.state and self.neq == 0 and ill_conditioned(model, tree)

    def _links(self, tree: Tree, f: Fields) -> None:
        links = tree.links
        self.nlink, self.ntree = len(links), tree.num_trees
        # what a model has none of is left out of its kernels
        self.kinds = frozenset(k.kind for k in links[1:])
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

    def _integrator(self, model: Model, f: Fields, fitted: tuple[str, ...]) -> None:
        if why := choice.refusal(model):
            raise ValueError(f"model.opt.integrator is {model.opt.integrator!r}, but {why}; take 'theta'")
        self.integrator = choice.chosen(model)
        # how often a substep solves for accelerations, and whether they are damped afterwards
        self.stages = 4 if self.integrator == choice.RK4 else 1
        joints = self.damper and (model.dof_damping.any() or "dof_damping" in fitted)
        servos = model.opt.actuation and (model.actuator_biasprm[:, 2].any() or "actuator_biasprm" in fitted)
        tendons = self.damper and model.tendon_damping.any()
        implicit = self.integrator in choice.IMPLICITS
        turning = np.full(model.nv, self.integrator == choice.IMPLICIT)
        if self.integrator == choice.IMPLICITFAST:
            turning = lone(model)
        self.damped_coriolis, self.dof_coriolis = bool(turning.any()), f.shared.constant(turning.astype(float))
        euler = self.integrator == choice.EULER
        self.damps = bool((implicit or euler) and joints or implicit and (servos or tendons or self.damped_coriolis))

    def _matrix(self, tree: Tree, f: Fields) -> None:
        """Where the entries of the mass matrix and of what is factored lie."""
        self.nnz, self.nfactor, self.neq = len(tree.row_dof), len(tree.factor_dof), len(tree.eq_dof)
        # what is factored is not qM where equalities reduce it, nor where tendons couple branches, which fills it in
        self.coupled = bool((tree.row_kin < tree.row_adr[1:]).any())
        self.separate = self.neq > 0 or self.coupled
        self.dof_link = f.ints(tree.dof_link)
        self.row_adr, self.row_dof, self.row_kin = f.ints(tree.row_adr), f.ints(tree.row_dof), f.ints(tree.row_kin)
        self.factor_adr, self.factor_dof = self.row_adr, self.row_dof
        if self.separate:
            self.factor_adr, self.factor_dof = f.ints(tree.factor_adr), f.ints(tree.factor_dof)
            self.nterm = len(tree.factor_terms)
            terms = tree.factor_terms.T
            self.term_entry, self.term_dof1, self.term_dof2, self.term_target = (f.ints(x) for x in terms)

    def _bodies(self, model: Model, tree: Tree, f: Fields, fitted: tuple[str, ...]) -> None:
        self.body_link = f.ints(tree.body_link)
        self.body_pos, self.body_quat = f.shared.constant(tree.body_pos), f.shared.constant(tree.body_quat)
        # inertias in link frames; bodies that cannot move have none, nor those that weigh nothing and never will
        weighs = (model.body_mass > 0) | bool(_INERTIAL & set(fitted))
        heavy = np.flatnonzero((tree.body_link > 0) & weighs)
        self._heavy, self.nheavy = heavy.tolist(), len(heavy)
        self.heavy_link = f.ints(tree.body_link[heavy])
        mass, com, diag, off = link_inertia(model, tree)
        self.heavy_mass = f.fitted.constant(mass[heavy])
        self.heavy_com = f.fitted.constant(com[heavy])
        self.heavy_diag = f.fitted.constant(diag[heavy])
        self.heavy_off = f.fitted.constant(off[heavy])
        self.gravcomp = bool(model.body_gravcomp[heavy].any())
        actuated = model.jnt_actgravcomp[model.dof_jntid]
        self.actgravcomp = self.gravcomp and bool(actuated.any())
        if self.gravcomp:
            self.heavy_gravcomp = f.shared.constant(model.body_gravcomp[heavy])
            self.dof_actgravcomp = f.shared.constant(actuated.astype(float))
        for name in ("heavy_mass", "heavy_com", "heavy_diag", "heavy_off"):
            setattr(self, f"grad_{name}", f.gradient_of(getattr(self, name)))

    def _joints(self, model: Model, f: Fields) -> None:
        opt, types = model.opt, set(model.jnt_type.tolist())
        limited = set(model.jnt_type[np.asarray(model.jnt_limited, bool)].tolist())
        self.free, self.ball = JNT_FREE in types, bool(types & {JNT_FREE, JNT_BALL})
        self.spring, self.damper = opt.spring and (self.fit or bool(model.jnt_stiffness.any())), opt.damper
        # MuJoCo's law has them in `constraint`
        self.limit = opt.limit and bool(limited) and opt.constraint == "penalty"
        self.limit_ball = JNT_BALL in limited
        self.jnt_type = f.ints(model.jnt_type)
        self.jnt_qposadr, self.jnt_dofadr = f.ints(model.jnt_qposadr), f.ints(model.jnt_dofadr)
        self.jnt_limited = f.ints(model.jnt_limited)
        self.jnt_range_lo, self.jnt_range_hi = (f.shared.constant(x) for x in np.reshape(model.jnt_range, (-1, 2)).T)
        self.jnt_limit_ke = f.shared.constant(model.jnt_limit_ke)
        self.jnt_limit_kd = f.shared.constant(model.jnt_limit_kd)
        self.jnt_limit_loss = f.shared.constant(model.jnt_limit_loss)
        self.limit_lossy = bool(model.jnt_limit_loss.any())
        self.jnt_sprung = f.ints((model.jnt_stiffness != 0) | self.fit)
        self.dof_jntid = f.ints(model.dof_jntid)
        for name in ("jnt_stiffness", "dof_armature", "dof_damping"):
            items = f.fitted.constant(getattr(model, name))
            setattr(self, name, items)
            setattr(self, f"grad_{name}", f.gradient_of(items))

    def _friction(self, model: Model, f: Fields, fitted: tuple[str, ...]) -> None:
        rough = bool(model.dof_frictionloss.any()) or "dof_frictionloss" in fitted
        # whether dofs or, as `data` says, tendons have it
        self.any_friction = model.opt.friction and rough
        # MuJoCo's law has it in `constraint`
        self.friction = self.any_friction and model.opt.constraint == "penalty"
        self.dof_frictionloss = f.fitted.constant(model.dof_frictionloss)
        self.grad_dof_frictionloss = f.gradient_of(self.dof_frictionloss)
        if self.friction:
            self.dof_friction_kf, self.dof_friction_per_kf, self.dof_friction_per_mass = friction_constants(
                f, model.dof_friction_kf, model.dof_friction_mass
            )

    def _equalities(self, model: Model, tree: Tree, f: Fields) -> None:
        dof1, dof2 = tree.eq_dof.T
        qpos1, qpos2 = (model.jnt_qposadr[model.dof_jntid[dof]] for dof in (dof1, dof2))
        self.eq_dof1, self.eq_dof2 = f.ints(dof1), f.ints(dof2)
        self.eq_qpos1, self.eq_qpos2 = f.ints(qpos1), f.ints(qpos2)
        coefficients = np.array(model.eq_polycoef)
        coefficients[dof1 == dof2, 1:] = 0
        coefficients[:, 0] += model.qpos0[qpos1]
        self.eq_polycoef = f.shared.constant(coefficients)

    def fitted_cells(self, name: str):
        """Where a parameter of `PARAMETERS` goes, see `parameters`: (items, entry, weights, entries of it, offset)."""
        if name not in _INERTIAL:
            for i in range(len(getattr(self._model, name))):
                yield getattr(self, name), i, np.ones((1, 1)), [i], 0.0
            return
        for k, b in enumerate(self._heavy):
            frame, vector = quat_matrix(self._tree.body_quat[b]), [3 * b, 3 * b + 1, 3 * b + 2]
            if name == "body_mass":
                yield self.heavy_mass, k, np.ones((1, 1)), [b], 0.0
            elif name == "body_ipos":
                yield self.heavy_com, k, frame, vector, self._tree.body_pos[b]
            else:
                axes = frame @ quat_matrix(self._model.body_iquat[b])
                yield self.heavy_diag, k, axes**2, vector, 0.0
                yield self.heavy_off, k, axes[[1, 0, 0]] * axes[[2, 2, 1]], vector, 0.0


def friction_constants(f: Fields, kf: np.ndarray, mass: np.ndarray) -> tuple[Items, Items, Items]:
    """What `friction.coefficients` takes besides the loss: kf, and the inverses of kf and mass."""
    least = 1e-12
    return tuple(f.shared.constant(x) for x in (kf, 1 / np.maximum(kf, least), 1 / np.maximum(mass, least)))


def link_inertia(model: Model, tree: Tree):
    """Mass [kg], centre of mass [m] and inertia about it [kg m^2] of every body in the frame of its link.

    Returns:
        mass (nbody,), com (nbody, 3), diagonal (nbody, 3) as xx, yy, zz and off-diagonal (nbody, 3) as yz, xz, xy.
    """
    com, diag, off = (np.zeros((model.nbody, 3)) for _ in range(3))
    for b in range(model.nbody):
        frame = quat_matrix(tree.body_quat[b])
        com[b] = tree.body_pos[b] + frame @ model.body_ipos[b]
        axes = frame @ quat_matrix(model.body_iquat[b])
        inertia = axes @ np.diag(model.body_inertia[b]) @ axes.T
        diag[b], off[b] = np.diag(inertia), (inertia[1, 2], inertia[0, 2], inertia[0, 1])
    return model.body_mass, com, diag, off


class Scratch:
    """The state and the intermediate results of bodies.

    | field | meaning | items |
    |---|---|---|
    | qpos, qvel, act, qacc, ctrl | as in `State` | nq, nv, na, nv, nu |
    | mocap, grad_mocap | poses of mocap bodies as in `Model.mocap0`, their adjoint | 7 nmocap |
    | qpos_begin, qpos_moved | qpos at the control step's beginning, and the sum of its steps since | nq |
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
    | qLU | its U, column by column; the same as qLD where the matrix is symmetric | nfactor |
    | solved | what is solved for, where that is wide | nv |
    | pm, ph, pd, po | inertia of a link's subtree without what other rooms add (`coriolis`) | nlink |
    | jn, jf, ow, ol | D's columns of a link's subtree; A of a dof (`coriolis`) | 3 nlink, nv |
    | kept_lam, kept_qvel | lam and qvel, put aside | nv |
    | kept_sum, kept_bar | the same of `coriolis.adjoint_damp`; the adjoint of `coriolis.adjoint`'s delta | nv |
    | eq_slope, eq_gamma | of a dof in terms of the independent ones: v = slope v_i, a = slope a_i + gamma | nv |
    | eq_product, eq_force | qM times a vector; the force [N, N m] by which an equality moves its joint1 | nv, neq |
    | qfrc_bias, qfrc_passive, qfrc_limit, qfrc_friction, qfrc_gravcomp | generalised forces [N, N m] | nv |
    | damped, damped_by | what MuJoCo's integrators take from qacc; h C, of dofs and then of `tendon.damped` | nv, nv + tendon.damped.number |
    | mu, qDD, qDU | the multiplier of that (`implicit.adjoint`); rows and columns of the factor of M + h C | nv, nfactor |
    | slope | the velocity that moves the positions (`integrate`) | nv |
    | base_qpos, base_moved, base_qvel | state at the beginning of a step of Runge-Kutta's; backward the adjoint of qvel there | nq, nq, nv |
    | ways, sum_qacc | velocities of its stages (`runge_kutta.chart`); their accelerations' mean, backward its adjoint | 4 nv, nv |
    | base_grad_qpos, mean_way | adjoints of qpos there and of the ways' mean | nv |
    | next_way, next_qacc | what the stage that follows says of a stage's way and acceleration | nv |
    | dof_implicit | coefficient c of the velocity-dependent force -c v that is taken at v + theta h a | nv |
    | bm, bh, bd, bo | a link's damping along each normal: mass, arm, diagonal, off-diagonal (`damping`) | nlink * number |
    | gl, ga | that along other normals, linear and angular: diagonal, off-diagonal | 2 nlink |
    | gm | its columns that couple the two | 3 nlink |
    | lam, nw, nl | adjoint of R, and the motions it gives the links (`adjoint`) | nv, nlink |
    | tw, tl | spatial velocity of a link at qvel + theta h qacc (`external.ahead`) | nlink |
    | xn, xf, gn, gf | adjoints of tw, tl and of the pose through other rooms' forces, summed over subtrees | nlink |
    | an, af, wn, wf | adjoints of acceleration and velocity as spatial forces, summed over subtrees | nlink |
    | grad_qpos, grad_qvel, grad_act, grad_ctrl | adjoints of state (qpos: tangent space), ctrl | nv, nv, na, nu |
    | grad_raw | adjoint of qpos' own entries | nq |
    """  # noqa: E501

    def __init__(self, m, f: Fields):
        allot(self, f, "qpos qpos_begin qpos_moved grad_raw", m.nq)
        allot(self, f, "qvel qacc slope lam grad_qpos grad_qvel qfrc_bias qfrc_passive qfrc_limit dof_implicit", m.nv)
        allot(self, f, "ctrl grad_ctrl", m.nu)
        allot(self, f, "act grad_act", m.na)
        if m.nmocap:
            allot(self, f, "mocap grad_mocap", m.nmocap)
        if m.any_friction:
            allot(self, f, "qfrc_friction", m.nv)
        if m.gravcomp:
            allot(self, f, "qfrc_gravcomp", m.nv)
        if m.external:
            allot(self, f, "tw tl xn xf gn gf", m.nlink, 3)
        if m.damping.any:
            allot(self, f, "bm", m.nlink * m.damping.number)
            allot(self, f, "bh bd bo", m.nlink * m.damping.number, 3)
        if m.damping.free:
            allot(self, f, "gl ga", 2 * m.nlink, 3)
            allot(self, f, "gm", 3 * m.nlink, 3)
        # the mass matrix, its factor and the composite inertias that it is made of
        wide = f.wide if m.wide else f.state
        allot(self, f, "qLD", m.nfactor, buffer=wide)
        self.qM = self.qLU = self.qLD
        if m.separate:
            allot(self, f, "qM", m.nnz, buffer=wide)
        if m.wide:
            allot(self, f, "solved", m.nv, buffer=wide)
        if m.damps:
            allot(self, f, "damped mu", m.nv)
            allot(self, f, "damped_by", m.nv + m.tendon.damped.number)
            allot(self, f, "qDD", m.nfactor, buffer=wide)
            self.qDU = self.qDD
        if m.stages > 1:
            allot(self, f, "base_qpos base_moved", m.nq)
            allot(self, f, "base_qvel sum_qacc base_grad_qpos mean_way next_way next_qacc", m.nv)
            allot(self, f, "ways", m.stages * m.nv)
        if m.coriolis:
            allot(self, f, "qLU", m.nfactor, buffer=wide)
        if m.damped_coriolis:
            allot(self, f, "qDU", m.nfactor, buffer=wide)
            allot(self, f, "kept_sum kept_bar", m.nv)
        if m.coriolis or m.damped_coriolis:
            allot(self, f, "pm", m.nlink, buffer=wide)
            allot(self, f, "ph pd po", m.nlink, 3, wide)
            allot(self, f, "jn jf", 3 * m.nlink, 3)
            allot(self, f, "ow ol", m.nv, 3)
            allot(self, f, "kept_lam kept_qvel", m.nv)
        if m.neq:
            allot(self, f, "eq_slope eq_gamma eq_product", m.nv)
            allot(self, f, "eq_force", m.neq)
        allot(self, f, "origin", m.ntree, 3)
        allot(self, f, "xq", m.nlink, 4)
        allot(self, f, "xp vw vl aw al fn ff", m.nlink, 3)
        allot(self, f, "sw sl", m.nv, 3)
        allot(self, f, "ih id io", m.nheavy, 3)
        allot(self, f, "cm", m.nlink, buffer=wide)
        allot(self, f, "ch cd co", m.nlink, 3, wide)
        allot(self, f, "nw nl an af wn wf", m.nlink, 3)


def allot(scratch, f: Fields, names: str, number: int, width: int = 1, buffer: Buffer | None = None) -> None:
    """Gives `scratch` fields of `number` entries of `width` cells each, by names; in f's state, or another buffer."""
    for name in names.split():
        setattr(scratch, name, (buffer or f.state).items(number, width))
