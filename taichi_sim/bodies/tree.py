"""The kinematic tree as the engine walks it: links, one per joint, instead of bodies.

A joint's link has its frame at the joint's anchor. A free joint makes two links, a translation along the world's axes
and a ball, so that every link's joint has the same form of velocity: `v = v_parent + S qvel`. A mocap body is a link
without dofs, whose pose is an input; its place in `qposadr` is that in the inputs. Bodies ride on links at
constant poses; bodies without joints ride on their parent's link. Link 0 is the world.

Spatial quantities of a tree refer to a point that moves with its root (`tree_origin`), never to the world's origin:
they do not lose digits when a body is far from it.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from taichi_sim.bodies.moved_dofs import coupled_dofs
from taichi_sim.types import JNT_BALL, JNT_FREE, JNT_HINGE, JNT_SLIDE, Model

LINK_HINGE, LINK_SLIDE, LINK_TRANS, LINK_BALL, LINK_MOCAP = range(5)
_KIND = {JNT_HINGE: LINK_HINGE, JNT_SLIDE: LINK_SLIDE, JNT_BALL: LINK_BALL}
_DOFS = {LINK_HINGE: 1, LINK_SLIDE: 1, LINK_TRANS: 3, LINK_BALL: 3, LINK_MOCAP: 0}


def quat_mul(a, b):
    """Hamilton product of two quaternions (w, x, y, z)."""
    w, u, x, v = a[0], np.asarray(a[1:]), b[0], np.asarray(b[1:])
    return np.concatenate([[w * x - u @ v], w * v + x * u + np.cross(u, v)])


def quat_matrix(q):
    """Rotation matrix (3, 3) of a unit quaternion."""
    w, x, y, z = q
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


@dataclasses.dataclass
class Link:
    """One joint of the tree: its parent link, its frame in the parent's, its axis and its places in qpos and qvel."""

    kind: int
    parent: int
    pos: np.ndarray
    quat: np.ndarray
    axis: np.ndarray
    qposadr: int
    dofadr: int
    tree: int
    # displacements that move the tree's origin instead of the link's frame relative to it
    base: bool = False

    @property
    def dofnum(self) -> int:
        return _DOFS[self.kind]


class Tree:
    """Links, dofs and the sparsity of the mass matrix, derived from a `Model`.

    | field | meaning | shape |
    |---|---|---|
    | links | `Link` records; entry 0 stands for the world | nlink |
    | body_link, body_pos, body_quat | the link a body rides on, its pose in the link's frame [m] | (nbody,), (nbody, 3), (nbody, 4) |
    | origin_pos | the constant part of each tree's origin [m]; tree 0 is the world | (ntree, 3) |
    | origin_terms | (tree, qposadr, direction): origin += direction * (qpos - qpos0) | list |
    | dof_link | link of a dof | (nv,) |
    | row_adr, row_dof | row i of M holds dofs row_dof[row_adr[i]:row_adr[i+1]]: i and its ancestors, leaf first; then those of lower number that a tendon or contact couples to it | (nv+1,), (nnz,) |
    | row_kin | where the ancestors in row i end | (nv,) |
    | eq_dof | (dependent, independent) dof of each joint equality; the dependent twice if it is locked | (neq, 2) |
    | factor_adr, factor_dof | the same of the matrix that a step factors, see `_factor_sparsity` | (nv+1,), (nfactor,) |
    | factor_terms | (entry of M, its dofs i and j, entry of the factored matrix that it adds to) | (n, 4) |
    """  # noqa: E501

    def __init__(self, model: Model):
        self.links = [Link(-1, 0, np.zeros(3), np.array([1.0, 0, 0, 0]), np.zeros(3), 0, 0, 0)]
        self._place_bodies(model)
        self._place_origins(model)
        self._sparsity(model)
        self._equalities(model)
        self._factor_sparsity(model)

    def place(self, body: int, pos, quat=(1.0, 0, 0, 0)) -> tuple[np.ndarray, np.ndarray]:
        """A pose in a body's frame, in that of the link on which the body rides."""
        frame = self.body_quat[body]
        return self.body_pos[body] + quat_matrix(frame) @ pos, quat_mul(frame, quat)

    def _place_bodies(self, model: Model) -> None:
        nbody = model.nbody
        self.body_link = np.zeros(nbody, np.int32)
        self.body_pos, self.body_quat = np.zeros((nbody, 3)), np.tile([1.0, 0, 0, 0], (nbody, 1))
        identity, num_trees = np.array([1.0, 0, 0, 0]), 1
        for b in range(1, nbody):
            p = model.body_parentid[b]
            link = self.body_link[p]
            pos, quat = self.place(p, model.body_pos[b], model.body_quat[b])
            if model.body_mocapid[b] >= 0:
                link, pos, quat = len(self.links), np.zeros(3), identity
                self.links.append(Link(LINK_MOCAP, 0, pos, identity, np.zeros(3), 7 * int(model.body_mocapid[b]), 0, 0))
            for j in range(model.body_jntadr[b], model.body_jntadr[b] + model.body_jntnum[b]):
                kind, qadr, dadr = model.jnt_type[j], model.jnt_qposadr[j], model.jnt_dofadr[j]
                tree = self.links[link].tree
                if link == 0:
                    tree, num_trees = num_trees, num_trees + 1
                if kind == JNT_FREE:
                    trans = Link(LINK_TRANS, 0, np.zeros(3), identity, np.zeros(3), qadr, dadr, tree)
                    ball = Link(
                        LINK_BALL, len(self.links), np.zeros(3), identity, np.zeros(3), qadr + 3, dadr + 3, tree
                    )
                    self.links += [trans, ball]
                    pos, quat = np.zeros(3), identity
                else:
                    anchor = model.jnt_pos[j]
                    place = pos + quat_matrix(quat) @ anchor
                    self.links.append(Link(_KIND[kind], link, place, quat, model.jnt_axis[j], qadr, dadr, tree))
                    pos, quat = -anchor, identity
                link = len(self.links) - 1
            self.body_link[b], self.body_pos[b], self.body_quat[b] = link, pos, quat
        self.num_trees = num_trees

    def _place_origins(self, model: Model) -> None:
        self.origin_pos = np.zeros((self.num_trees, 3))
        self.origin_terms: list[tuple[int, int, np.ndarray]] = []
        frame = {0: np.eye(3)}
        children = np.bincount([k.parent for k in self.links[1:]], minlength=len(self.links))
        for i, link in enumerate(self.links[1:], start=1):
            root = link.parent == 0
            parent = self.links[link.parent]
            # a slide on top of a moving base is a base too if nothing else rides on what lies between
            on_base = parent.base and children[link.parent] == 1 and link.parent not in self.body_link
            if not (root or on_base):
                continue
            frame[i] = frame[link.parent] @ quat_matrix(link.quat)
            self.origin_pos[link.tree] += frame[link.parent] @ link.pos
            link.pos = np.zeros(3)
            link.base = link.kind in (LINK_SLIDE, LINK_TRANS)
            if link.kind == LINK_SLIDE:
                self.origin_terms.append((link.tree, link.qposadr, frame[i] @ link.axis))
            elif link.kind == LINK_TRANS:
                # a free joint's qpos is an absolute position
                self.origin_pos[link.tree] = model.qpos0[link.qposadr : link.qposadr + 3]
                self.origin_terms += [(link.tree, link.qposadr + k, np.eye(3)[k]) for k in range(3)]

    def _sparsity(self, model: Model) -> None:
        self.dof_link = np.zeros(model.nv, np.int32)
        last_dof = [-1] * len(self.links)
        parent_dof = np.zeros(model.nv, np.int32)
        for i, link in enumerate(self.links[1:], start=1):
            previous = last_dof[link.parent]
            for d in range(link.dofadr, link.dofadr + link.dofnum):
                self.dof_link[d], parent_dof[d], previous = i, previous, d
            last_dof[i] = previous
        rows = _paths(parent_dof)
        self.row_kin = np.array([len(row) for row in rows], np.int32)
        for dofs in coupled_dofs(model, self):
            for k, high in enumerate(dofs):
                rows[high] += [low for low in dofs[:k] if low not in rows[high]]
        self.row_adr, self.row_dof = _compressed(rows)
        self.row_kin += self.row_adr[:-1]

    def _equalities(self, model: Model) -> None:
        dof, on = model.jnt_dofadr, model.opt.equality
        pairs = zip(model.eq_joint1, model.eq_joint2, strict=True) if on else ()
        self.eq_dof = np.array([(dof[a], dof[a if b < 0 else b]) for a, b in pairs], np.int32).reshape(-1, 2)

    def _factor_sparsity(self, model: Model) -> None:
        """Rows of G'MG, G = d qvel / d (independent qvel), and the products that it is the sum of.

        Coupled branches fill in entries when it is factored. Row i holds i and its ancestors in the elimination tree
        (Davis, Direct Methods for Sparse Linear Systems (2006), section 4.1; here the last dof goes first), so that the
        ancestors of a dof from j on are row j. Without equalities that tree is the kinematic one, and G'MG = M.
        """
        entries = self._moved_entries(model)
        couples: list[set[int]] = [set() for _ in range(model.nv)]
        for _, _, _, low, high in entries:
            if low < high:
                couples[high].add(low)
        parent = [-1] * model.nv
        for i in reversed(range(model.nv)):
            if couples[i]:
                parent[i] = max(couples[i])
                couples[parent[i]] |= couples[i] - {parent[i]}
        rows = _paths(parent)
        self.factor_adr, self.factor_dof = _compressed(rows)
        terms = []
        for k, i, j, low, high in entries:
            target = self.factor_adr[high] + rows[high].index(low)
            # an entry off M's diagonal stands for two; both come to lie on one of G'MG's diagonal
            terms += [(k, i, j, target)] * (2 if low == high and i != j else 1)
        self.factor_terms = np.array(terms, np.int32).reshape(-1, 4)

    def _moved_entries(self, model: Model) -> list[tuple[int, int, int, int, int]]:
        """M's entries that reach G'MG: entry, its dofs, and the dofs that determine these, the lower first."""
        moved = np.arange(model.nv)
        for one, two in self.eq_dof:
            moved[one] = -1 if one == two else two
        entries = []
        for i in range(model.nv):
            for k in range(self.row_adr[i], self.row_adr[i + 1]):
                j = self.row_dof[k]
                low, high = sorted((moved[i], moved[j]))
                if low >= 0:
                    entries.append((k, i, j, low, high))
        return entries


def lone(model) -> np.ndarray:
    """Of a `Model` or a `mujoco.MjModel`: which dofs are those of a body that is free, and on which nothing rides that
    moves, bool (nv,)."""
    root = np.arange(model.nbody)
    for b, parent in enumerate(model.body_parentid):
        if parent > 0:
            root[b] = root[parent]
    of_dof = np.repeat(root, model.body_jntnum)[model.dof_jntid]
    free = model.jnt_type[model.dof_jntid] == JNT_FREE
    return free & (np.bincount(of_dof, minlength=model.nbody)[of_dof] == 6)


def _paths(parent) -> list[list[int]]:
    """Of every node of a forest, itself and its ancestors up to the root; `parent` is negative for roots."""
    paths = []
    for i in range(len(parent)):
        path = [i]
        while parent[path[-1]] >= 0:
            path.append(int(parent[path[-1]]))
        paths.append(path)
    return paths


def _compressed(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Where each row starts, (n + 1,), and all rows one after the other."""
    starts = np.cumsum([0] + [len(row) for row in rows])
    return starts.astype(np.int32), np.array([entry for row in rows for entry in row], np.int32)
