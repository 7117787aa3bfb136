"""Whether single precision can solve for a model's accelerations."""

from __future__ import annotations

import numpy as np

from taichi_sim.bodies.tree import LINK_HINGE, LINK_SLIDE, LINK_TRANS, Tree, quat_matrix
from taichi_sim.types import Model

# Condition of the mass matrix, scaled to a unit diagonal, from which on a factor in single precision is not enough: it
# leaves accelerations relative errors of about 1e-9 times that. Published bodies have 50 to 2,000 (gymnasium,
# dm_control, myo-sim, this package), chains of 10, 20, 40 and 80 equal links 3e4, 7e5, 1e7 and 2e8.
LIMIT = 1e5
# A bend of all hinges [rad] for a pose without symmetry: the first one's, and by how much it grows to the last one's.
_BEND, _GROWTH = 0.3, 0.4


def ill_conditioned(model: Model, tree: Tree) -> bool:
    """Whether the condition of the mass matrix is beyond `LIMIT`, at rest or in a pose without symmetry."""
    if model.nv < 2:
        return False
    bends = np.zeros(len(tree.links)), _BEND + _GROWTH * np.linspace(0, 1, len(tree.links))
    return any(_condition(mass_matrix(model, tree, bend)) > LIMIT for bend in bends)


def _condition(matrix: np.ndarray) -> float:
    diagonal = np.sqrt(np.diag(matrix))
    if not (np.isfinite(matrix).all() and (diagonal > 0).all()):
        # a payload may give it mass later
        return 1.0
    eigenvalues = np.linalg.eigvalsh(matrix / np.outer(diagonal, diagonal))
    return eigenvalues[-1] / max(eigenvalues[0], np.finfo(float).tiny)


def mass_matrix(model: Model, tree: Tree, bend: np.ndarray) -> np.ndarray:
    """M (nv, nv), with every hinge's link turned by its `bend` [rad] (nlink,) and the other joints at rest."""
    frames, motions = _motions(model, tree, bend)
    matrix = np.diag(np.array(model.dof_armature, float))
    for b in range(1, model.nbody):
        link = tree.body_link[b]
        place, axes = frames[link]
        x = place + axes @ tree.body_pos[b]
        axes = axes @ quat_matrix(tree.body_quat[b])
        x, axes = x + axes @ model.body_ipos[b], axes @ quat_matrix(model.body_iquat[b])
        linear, angular = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        while link > 0:
            record = tree.links[link]
            for dof in range(record.dofadr, record.dofadr + record.dofnum):
                w, v, anchor = motions[dof]
                angular[:, dof], linear[:, dof] = w, v + np.cross(w, x - anchor)
            link = record.parent
        principal = axes.T @ angular
        matrix += model.body_mass[b] * linear.T @ linear + principal.T * model.body_inertia[b] @ principal
    return matrix


def _motions(model: Model, tree: Tree, bend: np.ndarray):
    """Every link's place and axes (3, 3) in the world, and every dof's angular and linear velocity at its anchor."""
    frames, motions = [(np.zeros(3), np.eye(3))], {}
    for i, link in enumerate(tree.links[1:], start=1):
        place, axes = frames[link.parent]
        place, axes = place + axes @ link.pos, axes @ quat_matrix(link.quat)
        for k in range(link.dofnum):
            axis = axes @ (link.axis if link.dofnum == 1 else np.eye(3)[k])
            turns = link.kind not in (LINK_SLIDE, LINK_TRANS)
            motions[link.dofadr + k] = (axis, np.zeros(3), place) if turns else (np.zeros(3), axis, place)
        if link.kind == LINK_HINGE:
            half = bend[i] / 2
            axes = axes @ quat_matrix(np.concatenate([[np.cos(half)], np.sin(half) * link.axis]))
        frames.append((place, axes))
    return frames, motions
