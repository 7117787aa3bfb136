"""Triangle meshes of geoms, for viewers that draw triangles."""

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

# Sides of a round shape, and steps from its equator to its pole.
_SIDES, _RINGS = 20, 6


def geom_mesh(model: Model, geom: int) -> tuple[np.ndarray, np.ndarray]:
    """The surface of a geom: vertices in its own frame [m], (nvert, 3), and triangles, (nface, 3).

    Corners of boxes and rims of cylinders have a vertex for each side, so that averaged normals keep them sharp.

    Raises:
        ValueError: the geom has no closed surface: a plane or a height field.
    """
    kind, size = model.geom_type[geom], model.geom_size[geom]
    if kind == GEOM_MESH:
        mesh = model.geom_dataid[geom]
        vert = model.mesh_vert[model.mesh_vertadr[mesh] :][: model.mesh_vertnum[mesh]]
        return np.array(vert), np.array(model.mesh_face[model.mesh_faceadr[mesh] :][: model.mesh_facenum[mesh]])
    if kind == GEOM_BOX:
        return _box(size)
    latitude = np.linspace(-np.pi / 2, np.pi / 2, 2 * _RINGS + 1)
    if kind in (GEOM_SPHERE, GEOM_ELLIPSOID):
        vert, face = revolve(np.cos(latitude), np.sin(latitude))
        return vert * (size if kind == GEOM_ELLIPSOID else size[0]), face
    if kind == GEOM_CAPSULE:
        # the equator twice, once for each half
        latitude = np.insert(latitude, _RINGS, 0.0)
        end = np.repeat([-1.0, 1.0], _RINGS + 1)
        return revolve(size[0] * np.cos(latitude), size[0] * np.sin(latitude) + size[1] * end)
    if kind == GEOM_CYLINDER:
        lids = [revolve(np.array([0, size[0]])[::end], np.full(2, -end * size[1])) for end in (1, -1)]
        side = revolve(np.full(2, size[0]), size[1] * np.array([-1.0, 1.0]))
        return join([side, *lids])
    raise ValueError(f"geom '{model.names['geom'][geom]}' has no closed surface")


def revolve(radius: np.ndarray, height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A surface of revolution about z through rings of the given radii and heights [m], upwards seen from outside."""
    angle = 2 * np.pi * np.arange(_SIDES) / _SIDES
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    vert = np.concatenate([np.column_stack([r * circle, np.full(_SIDES, z)]) for r, z in zip(radius, height)])
    a = np.arange(_SIDES)
    b = (a + 1) % _SIDES
    ring = np.concatenate([np.stack([a, b, b + _SIDES], axis=1), np.stack([a, b + _SIDES, a + _SIDES], axis=1)])
    face = np.concatenate([ring + k * _SIDES for k in range(len(radius) - 1)])
    corner = vert[face]
    area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    # at the poles every other triangle is a line
    return vert, face[area > 1e-9 * area.max()]


def _box(half: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sides = []
    for axis in range(3):
        for sign in (1.0, -1.0):
            u, v = np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3] * sign
            corners = sign * np.eye(3)[axis] + np.array([-u - v, u - v, u + v, -u + v])
            sides.append((corners * half, np.array([[0, 1, 2], [0, 2, 3]])))
    return join(sides)


def join(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Several meshes as one."""
    first = np.cumsum([0] + [len(vert) for vert, _ in parts])
    vert = np.concatenate([vert for vert, _ in parts])
    return vert, np.concatenate([face + start for start, (_, face) in zip(first, parts)])
