"""What a model looks like, as arrays: its visible shapes, their colours, its extent and its pose at rest."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from taichi_sim.render import bvh
from taichi_sim.types import (
    GEOM_BOX,
    GEOM_CAPSULE,
    GEOM_CYLINDER,
    GEOM_ELLIPSOID,
    GEOM_HFIELD,
    GEOM_MESH,
    GEOM_PLANE,
    GEOM_SPHERE,
    JNT_BALL,
    JNT_FREE,
    JNT_SLIDE,
    Model,
)

# MuJoCo's colour of a geom that was given none.
DEFAULT_RGBA = np.array([0.5, 0.5, 0.5, 1.0])
FLOOR_RGB = np.array([0.74, 0.78, 0.83])

# Bodies of a model without colours, by their distance from the root.
_PALETTE = np.array(
    [
        [0.20, 0.36, 0.55],
        [0.91, 0.56, 0.26],
        [0.95, 0.77, 0.45],
        [0.36, 0.60, 0.63],
        [0.83, 0.38, 0.31],
        [0.62, 0.66, 0.70],
    ]
)

# A finite plane that spans more than this many times the model's extent is a floor, and drawn without an end.
_FLOOR_SPAN = 5.0


class Shapes(NamedTuple):
    """The visible geoms of a model.

    | field | meaning | shape |
    |---|---|---|
    | geomid | index in the model | (num,) |
    | kind | GEOM_* code; a height field is a mesh | (num,) |
    | mesh | index in `meshes`, or -1 | (num,) |
    | half | half-extents of the box around the shape, about `center` [m]; planes: 0 | (num, 3) |
    | center | centre of that box in the geom's frame [m] | (num, 3) |
    | size | size as MuJoCo has it [m]; unbounded planes: 0 | (num, 3) |
    | rgba | colour as displayed, opacity | (num, 4) |
    | meshes | tree of each mesh that is used | list of `bvh.Bvh` |
    """

    geomid: np.ndarray
    kind: np.ndarray
    mesh: np.ndarray
    half: np.ndarray
    center: np.ndarray
    size: np.ndarray
    rgba: np.ndarray
    meshes: list[bvh.Bvh]


def visible_shapes(model: Model, groups: tuple[int, ...]) -> Shapes:
    """The model's geoms of the given groups that are not wholly transparent."""
    shown = np.isin(model.geom_group, groups) & (model.geom_rgba[:, 3] > 0)
    geomid = np.flatnonzero(shown)
    kind = np.where(model.geom_type[geomid] == GEOM_HFIELD, GEOM_MESH, model.geom_type[geomid])
    # of each geom what it takes its triangles from, if anything
    source = [(int(model.geom_dataid[geom]), int(model.geom_hfieldid[geom])) for geom in geomid]
    used = sorted(set(source) - {(-1, -1)})
    meshes = [_mesh_tree(model, mesh) if mesh >= 0 else _field_tree(model, field) for mesh, field in used]
    mesh = np.array([used.index(pair) if pair in used else -1 for pair in source], int)
    half, center = _boxes(kind, model.geom_size[geomid], mesh, meshes)
    size = np.where((kind == GEOM_MESH)[:, None], 0.0, model.geom_size[geomid])
    return Shapes(geomid, kind, mesh, half, center, size, _colors(model, geomid), meshes)


def _mesh_tree(model: Model, mesh: int) -> bvh.Bvh:
    vert = model.mesh_vert[model.mesh_vertadr[mesh] :][: model.mesh_vertnum[mesh]]
    face = model.mesh_face[model.mesh_faceadr[mesh] :][: model.mesh_facenum[mesh]]
    return bvh.build(np.asarray(vert, dtype=np.float64), face)


def _field_tree(model: Model, field: int) -> bvh.Bvh:
    """A height field's surface, its cells cut as MuJoCo cuts them, its walls and its base."""
    rows, columns = model.hfield_nrow[field], model.hfield_ncol[field]
    half_x, half_y, top, base = model.hfield_size[field]
    heights = top * model.hfield_data[model.hfield_adr[field] :][: rows * columns]
    y, x = np.meshgrid(np.linspace(-half_y, half_y, rows), np.linspace(-half_x, half_x, columns), indexing="ij")
    above = np.stack([x.ravel(), y.ravel(), heights], axis=1)
    node = np.arange(rows * columns).reshape(rows, columns)
    cells = node[:-1, :-1], node[:-1, 1:], node[1:, :-1], node[1:, 1:]
    one, right, up, both = (corner.ravel() for corner in cells)
    rim = np.concatenate([node[0], node[1:, -1], node[-1, -2::-1], node[-2::-1, 0]])
    below = rim + node.size
    corner = node[[0, 0, -1, -1], [0, -1, -1, 0]] + node.size
    triangles = (one, right, both), (one, both, up), (rim[:-1], below[:-1], rim[1:]), (rim[1:], below[:-1], below[1:])
    faces = np.concatenate([*(np.stack(part, axis=1) for part in triangles), corner[[[0, 1, 2], [0, 2, 3]]]])
    return bvh.build(np.concatenate([above, above * [1, 1, 0] - [0, 0, base]]), faces)


def _boxes(kind, size, mesh, meshes):
    """Half-extents and centres of the shapes' boxes in their own frames."""
    half, center = np.zeros((len(kind), 3)), np.zeros((len(kind), 3))
    for i, (k, s) in enumerate(zip(kind, size)):
        if k == GEOM_SPHERE:
            half[i] = s[0]
        elif k == GEOM_CAPSULE:
            half[i] = [s[0], s[0], s[0] + s[1]]
        elif k == GEOM_CYLINDER:
            half[i] = [s[0], s[0], s[1]]
        elif k in (GEOM_BOX, GEOM_ELLIPSOID):
            half[i] = s
        elif k == GEOM_MESH:
            lower, upper = meshes[mesh[i]].box[1]
            half[i], center[i] = (upper - lower) / 2, (upper + lower) / 2
    return half, center


def bounding_radii(shapes: Shapes) -> np.ndarray:
    """Radius of a sphere about each shape's origin that holds it [m], shape (num,)."""
    radius = np.linalg.norm(np.abs(shapes.center) + shapes.half, axis=1)
    # these reach less far than their boxes' corners
    radius = np.where(shapes.kind == GEOM_SPHERE, shapes.size[:, 0], radius)
    radius = np.where(shapes.kind == GEOM_CAPSULE, shapes.size[:, 0] + shapes.size[:, 1], radius)
    radius = np.where(shapes.kind == GEOM_CYLINDER, np.hypot(shapes.size[:, 0], shapes.size[:, 1]), radius)
    radius = np.where(shapes.kind == GEOM_ELLIPSOID, shapes.size.max(axis=1), radius)
    # f32 must not cut the silhouette
    return radius * (1 + 1e-5)


def _colors(model: Model, geomid: np.ndarray) -> np.ndarray:
    """Colours as displayed; a model that has none gets a palette by depth in the tree."""
    rgba = model.geom_rgba[geomid].astype(np.float64)
    plain = np.all(np.abs(rgba - DEFAULT_RGBA) < 1e-3, axis=1)
    floor = np.isin(model.geom_type[geomid], (GEOM_PLANE, GEOM_HFIELD))
    # white is what a textured floor's material says
    white = np.all(rgba[:, :3] > 0.99, axis=1)
    rgba[floor & (plain | white), :3] = FLOOR_RGB
    if np.all(plain[~floor]):
        depth = np.zeros(model.nbody, dtype=int)
        for body in range(1, model.nbody):
            depth[body] = depth[model.body_parentid[body]] + 1
        depth = depth[model.geom_bodyid[geomid]]
        # geoms of the world (rails, walls) stay grey
        first = depth[~floor & (depth > 0)].min(initial=1)
        tone = _PALETTE[(depth - first) % len(_PALETTE)]
        rgba[~floor, :3] = np.where((depth > 0)[:, None], tone, DEFAULT_RGBA[:3])[~floor]
    return rgba


def rest_pose(model: Model) -> tuple[np.ndarray, np.ndarray]:
    """Poses of the bodies at qpos0: positions [m], shape (nbody, 3), and quaternions (wxyz), shape (nbody, 4)."""
    return _poses(model, np.zeros((model.njnt, 3)))


def _poses(model: Model, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Poses of the bodies (..., nbody, 3), (..., nbody, 4) with joints moved away from qpos0.

    Args:
        moved: slides' displacements [m], other joints' rotation vectors [rad], in their bodies' frames, (..., njnt, 3).
    """
    xpos = np.zeros((*moved.shape[:-2], model.nbody, 3))
    xquat = np.tile([1.0, 0.0, 0.0, 0.0], (*xpos.shape[:-1], 1))
    for body in range(1, model.nbody):
        parent = model.body_parentid[body]
        pos = xpos[..., parent, :] + rotations(xquat[..., parent, :]) @ model.body_pos[body]
        quat = multiply(xquat[..., parent, :], model.body_quat[body])
        for jnt in np.flatnonzero(model.jnt_bodyid == body):
            move, anchor = moved[..., jnt, :], np.zeros(3)
            if model.jnt_type[jnt] == JNT_SLIDE:
                pos = pos + np.einsum("...ij,...j->...i", rotations(quat), move)
            else:
                anchor = model.jnt_pos[jnt]
                pos = pos + rotations(quat) @ anchor
                quat = multiply(quat, _exp(move))
                pos = pos - rotations(quat) @ anchor
        xpos[..., body, :], xquat[..., body, :] = pos, quat
    return xpos, xquat


def _exp(vector: np.ndarray) -> np.ndarray:
    """Quaternions (wxyz), (..., 4), of rotation vectors [rad], (..., 3)."""
    half = np.linalg.norm(vector, axis=-1, keepdims=True) / 2
    return np.concatenate([np.cos(half), np.sinc(half / np.pi) * vector / 2], axis=-1)


def rotations(quat: np.ndarray) -> np.ndarray:
    """Rotation matrices of quaternions (wxyz) that need not be normalised: (..., 4) -> (..., 3, 3)."""
    w, x, y, z = np.moveaxis(quat / np.linalg.norm(quat, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Products of quaternions (wxyz), (..., 4)."""
    aw, av, bw, bv = a[..., :1], a[..., 1:], b[..., :1], b[..., 1:]
    real = aw * bw - (av * bv).sum(axis=-1, keepdims=True)
    return np.concatenate([real, aw * bv + bw * av + np.cross(av, bv)], axis=-1)


def travels(model: Model) -> bool:
    """Whether the model can leave any fixed picture: a root with a free joint or an unlimited horizontal slide."""
    for jnt in np.flatnonzero(model.body_parentid[model.jnt_bodyid] == 0):
        level = abs((rotations(model.body_quat[model.jnt_bodyid[jnt]]) @ model.jnt_axis[jnt])[2]) < 0.5
        slides = model.jnt_type[jnt] == JNT_SLIDE and not model.jnt_limited[jnt] and level
        if model.jnt_type[jnt] == JNT_FREE or slides:
            return True
    return False


def frame_box(
    model: Model, shapes: Shapes, motion: tuple[np.ndarray, np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Centre and half-extents [m] of the box that a default picture should hold.

    For a model that travels this is the box around it at rest; for one on a fixed base, that of all poses in `motion`,
    (num, nbody, 3) and (num, nbody, 4). Where these are not known, it is that of the postures which the limits allow,
    and of a long track as much as the model is large itself, lest it become a dot on it.
    """
    solid = (shapes.kind != GEOM_PLANE) & (model.geom_bodyid[shapes.geomid] > 0)
    if not solid.any():
        return np.zeros(3), np.ones(3)
    fixed = not travels(model)
    if fixed and motion is not None:
        lower, upper = _bounds(model, shapes, solid, *motion)
    else:
        lower, upper = _bounds(model, shapes, solid, *rest_pose(model))
        if fixed:
            moved = _excursions(model, np.linalg.norm(upper - lower) / 2)
            lower, upper = _bounds(model, shapes, solid, *_poses(model, moved))
    return (lower + upper) / 2, np.maximum((upper - lower) / 2, 1e-3)


def _bounds(
    model: Model, shapes: Shapes, solid: np.ndarray, xpos: np.ndarray, xquat: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corner [m], (3,), of the box around the shapes where `solid`, over one or many poses."""
    rot, center = geom_poses(model, shapes.geomid, xpos, xquat)
    center = center + np.einsum("...ij,...j->...i", rot, shapes.center)
    half = np.einsum("...ij,...j->...i", np.abs(rot), shapes.half)
    lower, upper = (center - half)[..., solid, :], (center + half)[..., solid, :]
    return lower.reshape(-1, 3).min(axis=0), upper.reshape(-1, 3).max(axis=0)


def _excursions(model: Model, track: float) -> np.ndarray:
    """Random postures within the joints' limits, as displacements and rotation vectors from qpos0, (num, njnt, 3).

    Joints with limits are often at one of them, or at rest: a limb is stretched out more often than by even chance.
    Slides go at most `track` [m] either way.
    """
    num, draw = 1024, np.random.default_rng(0)
    moved = np.zeros((num, model.njnt, 3))
    for jnt, kind in enumerate(model.jnt_type):
        axis, most = model.jnt_axis[jnt], track if kind == JNT_SLIDE else np.pi
        low, high = -most, most
        if model.jnt_limited[jnt]:
            low, high = np.clip(model.jnt_range[jnt] - model.qpos0[model.jnt_qposadr[jnt]], low, high)
        if kind == JNT_BALL:
            axis = draw.standard_normal((num, 3))
            axis /= np.linalg.norm(axis, axis=1, keepdims=True)
            low, high = 0.0, model.jnt_range[jnt, 1] if model.jnt_limited[jnt] else np.pi
        amount = draw.uniform(low, high, num)
        if model.jnt_limited[jnt] or kind == JNT_SLIDE:
            amount = np.choose(draw.integers(4, size=num), [amount, low, high, 0.0])
        moved[:, jnt] = amount[:, None] * axis
    return moved


def geom_poses(model: Model, geomid: np.ndarray, xpos: np.ndarray, xquat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World rotations (..., num, 3, 3) and positions [m] (..., num, 3) of geoms for poses of the bodies."""
    body = rotations(xquat)[..., model.geom_bodyid[geomid], :, :]
    rot = body @ rotations(model.geom_quat[geomid])
    return rot, xpos[..., model.geom_bodyid[geomid], :] + np.einsum("...ij,...j->...i", body, model.geom_pos[geomid])


def unbounded(shapes: Shapes, extent: float) -> Shapes:
    """The same shapes, with planes that dwarf the model's extent [m] made endless."""
    span = np.where(shapes.size[:, :2] > 0, shapes.size[:, :2], np.inf).min(axis=1)
    endless = (shapes.kind == GEOM_PLANE) & (span > _FLOOR_SPAN * extent)
    return shapes._replace(size=np.where(endless[:, None], 0.0, shapes.size))


def checker_size(extent: float) -> float:
    """Side of a floor's squares [m], a round number, of which a model of that extent [m] spans a few."""
    sizes = np.outer(10.0 ** np.arange(-4, 5), [1, 2, 5]).reshape(-1)
    return float(sizes[np.abs(np.log(sizes / (0.7 * extent))).argmin()])


def center_of_mass(model: Model, xpos: np.ndarray, xquat: np.ndarray) -> np.ndarray:
    """Centre of mass of the moving bodies [m], shape (3,)."""
    inertial = xpos + np.einsum("nij,nj->ni", rotations(xquat), model.body_ipos)
    mass = np.where(np.arange(model.nbody) > 0, model.body_mass, 0.0)
    return mass @ inertial / mass.sum() if mass.sum() > 0 else inertial[1:].mean(axis=0)
