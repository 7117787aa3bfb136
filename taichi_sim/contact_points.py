"""Where bodies can touch the planes of the world: the points that `contact` looks at, from a model's pairs of geoms.

A sphere is one point with a radius, a capsule two; a box touches with its corners, a mesh with those of its convex hull.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from taichi_sim import tree as tree_module
from taichi_sim.types import GEOM_BOX, GEOM_CAPSULE, GEOM_MESH, GEOM_PLANE, GEOM_SPHERE, Model


@dataclasses.dataclass
class Points:
    """Contact points, n of them.

    | field | meaning | shape |
    |---|---|---|
    | link | the link that the point moves with | (n,) |
    | pos, radius | centre in the link's frame and distance of the surface from it [m] | (n, 3), (n,) |
    | normal | index of the plane's normal | (n,) |
    | normals | the different unit normals, world frame | (nnormal, 3) |
    | height | depth = height - normal . centre, in the world frame [m] | (n,) |
    | ke, kd, kf, mu | as `Model.pair_ke` and so on | (n,) |
    """

    link: np.ndarray
    pos: np.ndarray
    radius: np.ndarray
    normal: np.ndarray
    normals: np.ndarray
    height: np.ndarray
    ke: np.ndarray
    kd: np.ndarray
    kf: np.ndarray
    mu: np.ndarray


def find(model: Model, tree: tree_module.Tree) -> Points:
    """The contact points of all pairs of a plane and another geom."""
    rows: list[tuple] = []
    normals: list[np.ndarray] = []
    for k in range(model.npair):
        plane, geom = model.pair_geom1[k], model.pair_geom2[k]
        if model.geom_type[plane] != GEOM_PLANE:
            continue
        base, axes = _pose(model, tree, plane)
        normal = axes[:, 2]
        i = next((i for i, n in enumerate(normals) if np.allclose(n, normal, rtol=0, atol=1e-12)), len(normals))
        if i == len(normals):
            normals.append(normal)
        link = tree.body_link[model.geom_bodyid[geom]]
        centre, axes = _pose(model, tree, geom)
        pos, radius = surface(model, geom)
        height = radius + normal @ base + model.pair_margin[k]
        gains = (model.pair_ke[k], model.pair_kd[k], model.pair_kf[k], model.pair_mu[k])
        rows += [(link, *(centre + axes @ x), radius, i, height, *gains) for x in pos]
    table = np.array(rows, float).reshape(len(rows), 11)
    return Points(
        link=table[:, 0].astype(np.int32),
        pos=table[:, 1:4],
        radius=table[:, 4],
        normal=table[:, 5].astype(np.int32),
        normals=np.array(normals).reshape(-1, 3),
        height=table[:, 6],
        ke=table[:, 7],
        kd=table[:, 8],
        kf=table[:, 9],
        mu=table[:, 10],
    )


def surface(model: Model, geom: int) -> tuple[np.ndarray, float]:
    """Points (n, 3) in the geom's frame and the radius [m] around them that make up what can touch a plane."""
    kind, size = model.geom_type[geom], model.geom_size[geom]
    if kind == GEOM_SPHERE:
        return np.zeros((1, 3)), size[0]
    if kind == GEOM_CAPSULE:
        return np.array([[0, 0, size[1]], [0, 0, -size[1]]]), size[0]
    if kind == GEOM_BOX:
        return size * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]), 0.0
    if kind == GEOM_MESH:
        mesh = model.geom_dataid[geom]
        start, number = model.mesh_hulladr[mesh], model.mesh_hullnum[mesh]
        return model.mesh_vert[model.mesh_vertadr[mesh] + model.mesh_hull[start : start + number]], 0.0
    raise ValueError(f"geom {geom} of type {kind} cannot touch a plane")


def _pose(model: Model, tree: tree_module.Tree, geom: int) -> tuple[np.ndarray, np.ndarray]:
    """Position (3,) and axes (3, 3) of a geom in the frame of its body's link."""
    body = model.geom_bodyid[geom]
    axes = tree_module.quat_matrix(tree.body_quat[body])
    pos = tree.body_pos[body] + axes @ model.geom_pos[geom]
    return pos, axes @ tree_module.quat_matrix(model.geom_quat[geom])
