"""Where bodies can touch: the points and pairs that `planes` and `pairs` look at, from a model's pairs of geoms.

On a plane, a sphere is one point with a radius and a capsule two; a box touches with its corners, a mesh with those of
its convex hull; the points of ellipsoids and cylinders wander over their surface (`collide`). Of the other geoms,
spheres and capsules touch each other and boxes; a capsule touches a box with its ends, too, so that it can lie there.
Boxes touch each other in the corners of the polygon in which two of their faces overlap (`box_box`). A height field is
touched by the points that a plane is touched by (`hfield`). All others are any two convex shapes (`convex`).
"""

from __future__ import annotations

import numpy as np

from taichi_sim.bodies import tree as tree_module
from taichi_sim.bodies.moved_dofs import dofs_of
from taichi_sim.contact import box_box
from taichi_sim.contact.convex import pair as convex
from taichi_sim.contact.convex.shapes import CONVEX as SHAPED
from taichi_sim.contact.convex.shapes import Shapes
from taichi_sim.types import (
    GEOM_BOX,
    GEOM_CAPSULE,
    GEOM_CYLINDER,
    GEOM_ELLIPSOID,
    GEOM_HFIELD,
    GEOM_MESH,
    GEOM_PLANE,
    GEOM_SPHERE,
    Model,
)

# Kinds of contact points on planes; RIM + k is point k of a cylinder.
POINT, ELLIPSOID, RIM = range(3)
RIM_POINTS = 8
# Kinds of pairs of bodies' geoms.
SEGMENTS, SPHERE_BOX, CAPSULE_BOX, BOX_BOX, CONVEX, HFIELD, HFIELD_ELLIPSOID, HFIELD_RIM = range(8)
# A point of a body on a height field, as that on a plane is.
ON_HFIELD = {POINT: HFIELD, ELLIPSOID: HFIELD_ELLIPSOID, **dict.fromkeys(range(RIM, RIM + RIM_POINTS), HFIELD_RIM)}

_ROUND = (GEOM_SPHERE, GEOM_CAPSULE)
# Kinds of geoms that can touch, in MuJoCo's order of types.
SUPPORTED = frozenset(
    [(ground, kind) for ground in (GEOM_PLANE, GEOM_HFIELD) for kind in SHAPED]
    + [(one, two) for one in SHAPED for two in SHAPED if one <= two]
)
# Half-length [m] of a capsule up to which it is a sphere.
_SHORT = 1e-6
_INTEGERS = (
    "kind",
    "slot",
    "normal",
    "link",
    "link1",
    "link2",
    "shape1",
    "shape2",
    "points",
    "main",
    "row",
    "node",
    "nrow",
    "ncol",
    "pair",
    "side",
)
_GAINS = ("ke", "kd", "loss", "kc", "kf", "mu", "spin_kf", "spin_mu", "roll_kf", "roll_mu")


def on_planes(model: Model, tree: tree_module.Tree) -> dict[str, np.ndarray]:
    """The contact points of geoms with planes, n of them.

    | entry | meaning | shape |
    |---|---|---|
    | link | the link that the point moves with | (n,) |
    | kind | POINT, ELLIPSOID or RIM + k | (n,) |
    | pos, radius | centre in the link's frame and distance of the surface from it [m] | (n, 3), (n,) |
    | quat, size | orientation in the link's frame and size [m] of an ellipsoid or a cylinder | (n, 4), (n, 3) |
    | normal, frame | index of the plane's normal among the different ones, in the world | (n,), (nnormal, 3) |
    | height | depth = height - normal . point, in the world frame [m] | (n,) |
    | ke, kd, loss, kc, kf, mu, spin_kf, ... | as `Model.pair_ke` and so on | (n,) |
    | pair | the pair of geoms that it belongs to | (n,) |
    | axis | direction of a capsule in the link's frame, else zero | (n, 3) |
    """
    rows: list[tuple] = []
    frame: list[np.ndarray] = []
    for k in _pairs(model, tree, with_plane=True):
        plane, geom = model.pair_geom1[k], model.pair_geom2[k]
        base, quat = _pose(model, tree, plane)
        normal = tree_module.quat_matrix(quat)[:, 2]
        index = next((i for i, n in enumerate(frame) if np.allclose(n, normal, rtol=0, atol=1e-12)), len(frame))
        if index == len(frame):
            frame.append(normal)
        centre, quat = _pose(model, tree, geom)
        axes, link = tree_module.quat_matrix(quat), tree.body_link[model.geom_bodyid[geom]]
        height = normal @ base + model.pair_margin[k]
        along = axes[:, 2] if model.geom_type[geom] == GEOM_CAPSULE else np.zeros(3)
        for kind, x, radius in _surface(model, geom):
            place = (link, kind, centre + axes @ x, radius, quat, model.geom_size[geom], index, height)
            rows.append((*place, *_gains(model, k), k, along))
    names = ("link", "kind", "pos", "radius", "quat", "size", "normal", "height", *_GAINS, "pair", "axis")
    return {**_table(rows, names, {"pos": 3, "quat": 4, "size": 3, "axis": 3}), "frame": np.array(frame).reshape(-1, 3)}


def between_bodies(model: Model, tree: tree_module.Tree) -> tuple[dict[str, np.ndarray], Shapes]:
    """Contacts of geoms that are no planes, n of them, and the shapes of the geoms whose pairs are CONVEX.

    Geom 1 is a sphere, a capsule or, with a box, a box; of CONVEX pairs any. Rows of a pair follow each other.

    | entry | meaning | shape |
    |---|---|---|
    | kind | SEGMENTS, SPHERE_BOX, CAPSULE_BOX, BOX_BOX, CONVEX, or of `ON_HFIELD` | (n,) |
    | slot | which contact of a pair's, or of a cylinder's points, it is | (n,) |
    | link1, link2 | the geoms' links | (n,), (n,) |
    | pos1, pos2 | their centres in the links' frames [m] | (n, 3), (n, 3) |
    | axis1, axis2 | half-axes of capsules in the links' frames [m] | (n, 3), (n, 3) |
    | radius1, radius2 | radii of spheres and capsules [m] | (n,), (n,) |
    | quat1, quat2 | orientations in the links' frames | (n, 4), (n, 4) |
    | size1, size2 | half-extents of boxes, `geom_size` of others [m] | (n, 3), (n, 3) |
    | reach1, reach2 | radii of balls that enclose the geoms, margin and gap in the first [m] | (n,), (n,) |
    | shape1, shape2, size | CONVEX: rows of the shapes, size of the smaller [m] | (n,), (n,), (n,) |
    | points | CONVEX: how many slots there are besides the least overlap | (n,) |
    | main, row | CONVEX: where in the scratch the least overlap and the row's contact are | (n,), (n,) |
    | node, nrow, ncol | `ON_HFIELD`: the field's first node, numbers of nodes; size2: half-lengths | (n,) each |
    | margin, ke, kd, loss, kc, kf, mu, spin_kf, ... | as `Model.pair_margin` and so on | (n,) |
    | pair | the pair of geoms that it belongs to | (n,) |
    | side | 1 where geom 1 is the second of that pair, else -1 | (n,) |
    """
    pairs = [_ordered(model, tree, k) for k in _pairs(model, tree, with_plane=False)]
    shapes = Shapes(model, [geom for _, *geoms, kind in pairs if kind == CONVEX for geom in geoms])
    rows: list[tuple] = []
    found = 0
    for k, one, two, kind in pairs:
        links = tuple(tree.body_link[model.geom_bodyid[[one, two]]])
        (pos1, quat1), (pos2, quat2) = _pose(model, tree, one), _pose(model, tree, two)
        axis1, axis2 = _half_axis(model, one, quat1), _half_axis(model, two, quat2)
        margin, size1, size2 = model.pair_margin[k], model.geom_size[one], model.geom_size[two]
        radius1 = size1[0] if model.geom_type[one] in _ROUND else 0.0
        radius2 = size2[0] if model.geom_type[two] in _ROUND else 0.0
        side = 1 if one == model.pair_geom2[k] else -1
        convex_columns, grid = (0, 0, 0.0, 0, 0), (0, 2, 2)
        contacts = [(kind, pos1, axis1, 0)]
        if kind == BOX_BOX:
            contacts = [(kind, pos1, axis1, slot) for slot in range(box_box.SLOTS)]
        elif kind == CONVEX:
            smooth = bool({model.geom_type[one], model.geom_type[two]} & {GEOM_SPHERE, GEOM_ELLIPSOID})
            number = 0 if smooth else convex.SLOTS
            contacts = [(kind, pos1, axis1, slot) for slot in range(max(number, 1))]
            size = min(shapes.size[shapes[one]], shapes.size[shapes[two]])
            convex_columns = (shapes[one], shapes[two], size, number, found)
            found += number + 1
        elif kind == HFIELD:
            field = model.geom_hfieldid[two]
            size2 = model.hfield_size[field, :3]
            grid = (int(model.hfield_adr[field]), int(model.hfield_nrow[field]), int(model.hfield_ncol[field]))
            turn = tree_module.quat_matrix(quat1)
            surface = _surface(model, one)
            radius1 = surface[0][2]
            contacts = [(ON_HFIELD[on], pos1 + turn @ x, np.zeros(3), max(on - RIM, 0)) for on, x, _ in surface]
        elif kind == CAPSULE_BOX:
            ends = [(SPHERE_BOX, pos1 + end * axis1, np.zeros(3), 0) for end in (1, -1)]
            contacts = [*contacts, *ends]
        for kind_, pos, axis, slot in contacts:
            reach1, reach2 = _reach(model, shapes, one, kind_), _reach(model, shapes, two, kind_)
            geoms = (
                pos,
                pos2,
                axis,
                axis2,
                radius1,
                radius2,
                quat1,
                quat2,
                size1,
                size2,
                reach1 + max(margin, 0.0) + model.pair_gap[k],
                reach2,
            )
            row = convex_columns[4] + (slot + 1 if convex_columns[3] else 0)
            rows.append((kind_, slot, *links, *geoms, *convex_columns, row, *grid, margin, *_gains(model, k), k, side))
    names = ("kind", "slot", "link1", "link2", "pos1", "pos2", "axis1", "axis2", "radius1", "radius2")
    names = (
        *names,
        "quat1",
        "quat2",
        "size1",
        "size2",
        "reach1",
        "reach2",
        "shape1",
        "shape2",
        "size",
        "points",
        "main",
    )
    widths = {"pos1": 3, "pos2": 3, "axis1": 3, "axis2": 3, "quat1": 4, "quat2": 4, "size1": 3, "size2": 3}
    return _table(rows, (*names, "row", "node", "nrow", "ncol", "margin", *_GAINS, "pair", "side"), widths), shapes


def _pairs(model: Model, tree: tree_module.Tree, with_plane: bool) -> list[int]:
    """The pairs that touch, those with a plane or the others; none of what no dof moves."""
    if not model.opt.contact:
        return []
    links = [tree.body_link[model.geom_bodyid[geom]] for geom in (model.pair_geom1, model.pair_geom2)]
    moves = [any(dofs_of(tree, link) for link in pair) for pair in zip(*links, strict=True)]
    on_plane = model.geom_type[model.pair_geom1] == GEOM_PLANE
    return [k for k in range(model.npair) if on_plane[k] == with_plane and moves[k]]


def _ordered(model: Model, tree: tree_module.Tree, k: int) -> tuple[int, int, int, int]:
    """A pair, its geom 1 and geom 2, and its kind."""
    one, two = int(model.pair_geom1[k]), int(model.pair_geom2[k])
    kind1, kind2 = model.geom_type[one], model.geom_type[two]
    kind = CONVEX
    if kind1 == GEOM_HFIELD:
        return k, two, one, HFIELD
    if kind1 in _ROUND and kind2 in _ROUND:
        kind = SEGMENTS
    elif kind1 in _ROUND and kind2 == GEOM_BOX:
        kind = CAPSULE_BOX if _half_axis(model, one, np.array([1.0, 0, 0, 0])).any() else SPHERE_BOX
    elif kind1 == kind2 == GEOM_BOX:
        kind = BOX_BOX
    if kind not in (SPHERE_BOX, CAPSULE_BOX) and not tree.body_link[model.geom_bodyid[one]]:
        # what stands still is implicit as the second geom only
        one, two = two, one
    return k, one, two, kind


def _reach(model: Model, shapes: Shapes, geom: int, kind: int) -> float:
    """Radius [m] of a ball that encloses a geom in a contact of that kind."""
    size = model.geom_size[geom]
    if kind == CONVEX:
        return float(shapes.reach[shapes[geom]])
    if model.geom_type[geom] == GEOM_HFIELD:
        return float(np.linalg.norm(model.hfield_size[model.geom_hfieldid[geom], :3]))
    if kind == HFIELD:
        return float(size[0]) if model.geom_type[geom] in _ROUND else 0.0
    if kind == HFIELD_ELLIPSOID:
        return float(size.max())
    if kind == HFIELD_RIM:
        return float(np.linalg.norm(size[:2]))
    if model.geom_type[geom] == GEOM_BOX:
        return float(np.linalg.norm(size))
    # of a capsule on a box, the ends are spheres
    long = model.geom_type[geom] == GEOM_CAPSULE and size[1] > _SHORT and kind != SPHERE_BOX
    return size[0] + (size[1] if long else 0.0)


def _surface(model: Model, geom: int) -> list[tuple[int, np.ndarray, float]]:
    """What of a geom can touch a plane: kind, centre (3,) in the geom's frame and radius [m] of each point."""
    kind, size = model.geom_type[geom], model.geom_size[geom]
    if kind == GEOM_SPHERE:
        return [(POINT, np.zeros(3), size[0])]
    if kind == GEOM_CAPSULE:
        return [(POINT, np.array([0, 0, end * size[1]]), size[0]) for end in (1, -1)]
    if kind == GEOM_BOX:
        corners = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
        return [(POINT, size * corner, 0.0) for corner in corners]
    if kind == GEOM_ELLIPSOID:
        return [(ELLIPSOID, np.zeros(3), 0.0)]
    if kind == GEOM_CYLINDER:
        return [(RIM + k, np.zeros(3), 0.0) for k in range(RIM_POINTS)]
    if kind == GEOM_MESH:
        mesh = model.geom_dataid[geom]
        hull = model.mesh_hull[model.mesh_hulladr[mesh] :][: model.mesh_hullnum[mesh]]
        return [(POINT, x, 0.0) for x in model.mesh_vert[model.mesh_vertadr[mesh] + hull]]
    raise ValueError(f"a geom of type {kind} cannot touch a plane")


def _half_axis(model: Model, geom: int, quat: np.ndarray) -> np.ndarray:
    """Direction times half-length of a capsule in its link's frame; zero for other geoms."""
    length = model.geom_size[geom, 1] if model.geom_type[geom] == GEOM_CAPSULE else 0.0
    # of a capsule so short the square of its axis would vanish in single precision: it is a sphere
    length = length if length > _SHORT else 0.0
    return length * tree_module.quat_matrix(quat)[:, 2]


def _gains(model: Model, k: int) -> list[float]:
    return [getattr(model, f"pair_{name}")[k] for name in _GAINS]


def _pose(model: Model, tree: tree_module.Tree, geom: int) -> tuple[np.ndarray, np.ndarray]:
    """Position (3,) and quaternion (4,) of a geom in the frame of its body's link."""
    body = model.geom_bodyid[geom]
    return tree.place(body, model.geom_pos[geom], model.geom_quat[geom])


def _table(rows: list[tuple], names: tuple[str, ...], widths: dict[str, int]) -> dict[str, np.ndarray]:
    """Columns by name: int32 for kinds and indices, else float64, (n,) or (n, width)."""
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    table = {}
    for name, column in zip(names, columns, strict=True):
        integers = name in _INTEGERS
        shape = (len(rows), widths[name]) if name in widths else len(rows)
        table[name] = np.array(column, np.int32 if integers else float).reshape(shape)
    return table
