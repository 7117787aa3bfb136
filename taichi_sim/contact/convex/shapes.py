"""The geoms of a model as sums of a polytope, an ellipsoid and a ball, which is what `support` reads."""

from __future__ import annotations

import numpy as np

from taichi_sim.types import (
    GEOM_BOX,
    GEOM_CAPSULE,
    GEOM_CYLINDER,
    GEOM_ELLIPSOID,
    GEOM_MESH,
    GEOM_SPHERE,
    Model,
)

# Kinds of geoms that have a shape.
CONVEX = (GEOM_SPHERE, GEOM_CAPSULE, GEOM_ELLIPSOID, GEOM_CYLINDER, GEOM_BOX, GEOM_MESH)
# Directions in which the search for a mesh's least overlap may begin: how many, the cosine above which two of them
# are one, and from how many they are chosen.
_FACES, _SAME, _TRIED = 8, 0.9, 400


class Shapes:
    """The shapes of some geoms, each shape once.

    | field | meaning | shape |
    |---|---|---|
    | columns | for kernels: vertadr, vertnum, faceadr, facenum, ellipsoid (its half-axes [m]) | (n,), (n, 3) |
    | points | what they point into: vert [m], face (unit vectors) | (k, 3), (j, 3) |
    | reach, size | radius of a ball that encloses the shape, half its least extent [m] | (n,), (n,) |

    Args:
        model: the model.
        geoms: indices of its geoms.
    """

    def __init__(self, model: Model, geoms: list[int]):
        self._of_geom: dict[int, int] = {}
        known: dict[tuple, int] = {}
        rows, corners, faces = [], [], []
        for geom in geoms:
            kind = int(model.geom_type[geom])
            mesh = int(model.geom_dataid[geom]) if kind == GEOM_MESH else -1
            key = kind, mesh, *(() if kind == GEOM_MESH else model.geom_size[geom].tolist())
            if key not in known:
                known[key] = len(known)
                vertices, ellipsoid, radius = parts(model, geom)
                face = _faces(kind, vertices)
                top = (face @ vertices.T).max(axis=1) + np.linalg.norm(face * ellipsoid, axis=1)
                extent = np.linalg.norm(vertices, axis=1).max() + ellipsoid.max() + radius
                least = min(top.min() if len(top) else np.inf, extent)
                if kind == GEOM_CYLINDER:
                    least = min(least, ellipsoid[0])
                least = least if kind not in (GEOM_SPHERE, GEOM_CAPSULE) else radius
                rows.append(
                    (
                        sum(map(len, corners)),
                        len(vertices),
                        sum(map(len, faces)),
                        len(face),
                        ellipsoid,
                        extent,
                        least,
                    )
                )
                corners.append(vertices)
                faces.append(face)
            self._of_geom[geom] = known[key]
        columns = list(zip(*rows, strict=True)) or [()] * 7
        names = ("vertadr", "vertnum", "faceadr", "facenum")
        self.columns = {name: np.array(column, np.int32) for name, column in zip(names, columns[:4], strict=True)}
        self.columns["ellipsoid"] = np.array(columns[4], float).reshape(-1, 3)
        self.reach, self.size = (np.array(column, float) for column in columns[5:])
        self.points = {
            "vert": np.concatenate([*corners, np.zeros((0, 3))]),
            "face": np.concatenate([*faces, np.zeros((0, 3))]),
        }

    def __getitem__(self, geom: int) -> int:
        """The row of a geom's shape."""
        return self._of_geom[geom]


def parts(model: Model, geom: int) -> tuple[np.ndarray, np.ndarray, float]:
    """The vertices (n, 3) [m], the ellipsoid's half-axes (3,) [m] and the ball's radius [m] that a geom is the sum of,
    in its frame.

    Raises:
        ValueError: a geom of another kind than those of CONVEX.
    """
    kind, size, nothing = model.geom_type[geom], model.geom_size[geom], np.zeros(3)
    ends = np.array([(0, 0, size[1]), (0, 0, -size[1])])
    if kind == GEOM_SPHERE:
        return np.zeros((1, 3)), nothing, size[0]
    if kind == GEOM_CAPSULE:
        return ends, nothing, size[0]
    if kind == GEOM_ELLIPSOID:
        return np.zeros((1, 3)), size, 0.0
    if kind == GEOM_CYLINDER:
        return ends, np.array([size[0], size[0], 0.0]), 0.0
    if kind == GEOM_BOX:
        return size * [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], nothing, 0.0
    if kind == GEOM_MESH:
        mesh = model.geom_dataid[geom]
        hull = model.mesh_hull[model.mesh_hulladr[mesh] :][: model.mesh_hullnum[mesh]]
        return np.array(model.mesh_vert[model.mesh_vertadr[mesh] + hull], float), nothing, 0.0
    raise ValueError(f"a geom of type {kind} has no convex shape")


def _faces(kind: int, vertices: np.ndarray) -> np.ndarray:
    """Directions in which a shape may be left on a short way, (n, 3): of its faces, or of the flattest of them."""
    axes = np.concatenate([np.eye(3), -np.eye(3)])
    if kind in (GEOM_BOX, GEOM_ELLIPSOID):
        return axes
    if kind == GEOM_CYLINDER:
        return axes[[2, 5]]
    if kind != GEOM_MESH:
        return np.zeros((0, 3))
    # evenly spread over the sphere, on a spiral
    z = 1 - (2 * np.arange(_TRIED) + 1) / _TRIED
    angle = np.arange(_TRIED) * np.pi * (3 - 5**0.5)
    tried = np.stack([np.sqrt(1 - z**2) * np.cos(angle), np.sqrt(1 - z**2) * np.sin(angle), z], axis=1)
    tried = np.concatenate([axes, tried])
    top = (tried @ (vertices - vertices.mean(axis=0)).T).max(axis=1)
    chosen: list[np.ndarray] = []
    for k in np.argsort(top, kind="stable"):
        if len(chosen) < _FACES and all(tried[k] @ x < _SAME for x in chosen):
            chosen.append(tried[k])
    return np.array(chosen)
