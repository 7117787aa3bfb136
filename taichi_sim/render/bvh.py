"""Bounding volume hierarchies of triangles and of tubes, built on the host and walked by `raycast`.

A tree is a complete binary heap: node 1 is the root, node i has children 2i and 2i + 1, and leaf j holds the
elements [j * LEAF_SIZE, (j + 1) * LEAF_SIZE). Such a tree is built by whole-array operations, and a ray walks it
without a stack.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LEAF_SIZE = 4

# Edges that bend by more than this stay sharp when the vertex normals are averaged.
CREASE_ANGLE = np.deg2rad(40.0)


class Bvh(NamedTuple):
    """One mesh's tree and its triangles in the order of the leaves.

    | field | meaning | shape |
    |---|---|---|
    | depth | levels below the root; there are 2^depth leaves | scalar |
    | box | lower and upper corner per node, node 0 unused [m] | (2^(depth + 1), 2, 3) |
    | vert | corners per triangle [m] | (LEAF_SIZE * 2^depth, 3, 3) |
    | normal | unit shading normals per triangle's corner | (LEAF_SIZE * 2^depth, 3, 3) |
    """

    depth: int
    box: np.ndarray
    vert: np.ndarray
    normal: np.ndarray


def build(vert: np.ndarray, face: np.ndarray) -> Bvh:
    """Builds the tree of a mesh by median splits along each node's longest side.

    Args:
        vert: vertices [m], shape (nvert, 3).
        face: triangles as indices into `vert`, shape (nface, 3).
    """
    corner = vert[face]
    depth, order, box = tree(corner.min(axis=1), corner.max(axis=1))
    return Bvh(depth, box, corner[order], corner_normals(vert, face)[order])


def tree(lower: np.ndarray, upper: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """The tree over boxes with corners `lower` and `upper` [m], each (num, 3).

    Returns:
        depth: levels below the root.
        order: which element is where in the leaves, (LEAF_SIZE * 2^depth,); some occur twice to fill them.
        box: corners per node [m], (2^(depth + 1), 2, 3).
    """
    # repeat elements up to LEAF_SIZE times a power of two: all splits are then exact halves
    depth = max(0, int(np.ceil(np.log2(len(lower) / LEAF_SIZE))))
    order = np.arange(LEAF_SIZE << depth) % len(lower)
    center = (lower + upper) / 2
    for level in range(depth):
        order = order.reshape(1 << level, -1)
        point = center[order]
        axis = np.ptp(point, axis=1).argmax(axis=1)
        key = np.take_along_axis(point, axis[:, None, None], axis=2)[:, :, 0]
        order = np.take_along_axis(order, key.argsort(axis=1), axis=1)
    order = order.reshape(-1)

    box = np.zeros((2 << depth, 2, 3))
    box[1 << depth :, 0] = lower[order].reshape(1 << depth, -1, 3).min(1)
    box[1 << depth :, 1] = upper[order].reshape(1 << depth, -1, 3).max(1)
    for level in reversed(range(depth)):
        child = box[2 << level : 4 << level].reshape(1 << level, 2, 2, 3)
        box[1 << level : 2 << level, 0] = child[:, :, 0].min(1)
        box[1 << level : 2 << level, 1] = child[:, :, 1].max(1)
    # a flat box has no inside in f32
    box += np.array([[-1.0], [1.0]]) * 1e-5 * max(np.ptp(box[1], axis=0).max(), 1e-12)
    return depth, order, box


def corner_normals(vert: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Unit normals per triangle corner, shape (nface, 3, 3), smooth except across creases.

    A corner averages its triangle's normal with those of the triangles around the same point, by area, unless they
    bend away by more than CREASE_ANGLE from the vertex's mean: then the triangle keeps its own.
    """
    # weld vertices that coincide: STL files repeat each vertex in every triangle
    scale = max(np.ptp(vert, axis=0).max(), 1e-12)
    _, weld = np.unique(np.round(vert / scale * 1e5).astype(np.int64), axis=0, return_inverse=True)
    corner = vert[face]
    area = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    flat = area / np.maximum(np.linalg.norm(area, axis=1, keepdims=True), 1e-30)

    welded = weld.reshape(-1)[face]
    mean = np.zeros((len(vert), 3))
    np.add.at(mean, welded.reshape(-1), np.repeat(area, 3, axis=0))
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-30)
    smooth = mean[welded]
    bent = (smooth * flat[:, None]).sum(axis=2, keepdims=True) < np.cos(CREASE_ANGLE)
    return np.where(bent, flat[:, None], smooth)
