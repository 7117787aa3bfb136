"""What the kernels of this room know of a model, and what they need for each world."""

from __future__ import annotations

import types

import numpy as np

from taichi_sim.bodies.tables import allot
from taichi_sim.bodies.tree import Tree, quat_matrix, quat_mul
from taichi_sim.lanes.buffers import Fields
from taichi_sim.types import GEOM_CAPSULE, GEOM_CYLINDER, GEOM_SPHERE, Model


class Constants:
    """A fluid, and what it meets.

    | field | meaning |
    |---|---|
    | any | whether there is one |
    | wind | its velocity [m/s] |
    | boxes.number, heavy | boxes of bodies' inertia: how many; which of the bodies that weigh something |
    | boxes.quat, viscous, drag, viscous_spin, drag_spin | axes in the link's frame; as `forces.drag` takes them |
    | ellipsoids.number, link, pos, quat | in their links' frames [m] |
    | ellipsoids.shadow, mass, ... | as `ellipsoid` has them, its density as part of all |
    """

    def __init__(self, model: Model, tree: Tree, heavy: list[int], f: Fields):
        self.any = model.opt.density > 0 or model.opt.viscosity > 0
        if not self.any:
            return
        self.wind = f.shared.constant(np.asarray(model.opt.wind)[None])
        # MuJoCo's bodies have the one or the other; what has no mass has none
        formed = np.zeros(model.nbody, bool)
        formed[model.geom_bodyid[model.geom_fluid[:, 0] > 0]] = True
        boxes = [(k, b) for k, b in enumerate(heavy) if not formed[b]]
        bodies = [b for _, b in boxes]
        quat = [quat_mul(tree.body_quat[b], model.body_iquat[b]) for b in bodies]
        table = {"heavy": np.array([k for k, _ in boxes], np.int32), "quat": np.reshape(quat, (-1, 4))}
        table |= {name: values[bodies] for name, values in resistance(model).items()}
        self.boxes = types.SimpleNamespace(number=len(boxes), **f.table(table))
        moves = (tree.body_link > 0) & (model.body_mass > 0)
        geoms = np.flatnonzero((model.geom_fluid[:, 0] > 0) & moves[model.geom_bodyid])
        self.ellipsoids = types.SimpleNamespace(number=len(geoms))
        if len(geoms):
            vars(self.ellipsoids).update(f.table(ellipsoids(model, tree, geoms)))


class Scratch:
    """Intermediate results of this room.

    | field | meaning | items |
    |---|---|---|
    | qfrc | generalised forces [N, N m] | nv |
    """

    def __init__(self, m, f: Fields):
        if m.fluid.any:
            allot(self, f, "qfrc", m.nv)


def resistance(model: Model) -> dict[str, np.ndarray]:
    """What fluid resists the boxes with that have the bodies' mass and inertia, by name, each (nbody, 3).

    viscous [N s/m], drag [N s^2/m^2], viscous_spin [N m s], drag_spin [N m s^2]: those of `forces.drag` along and
    about each axis. MuJoCo documentation, Computation, "Fluid forces: Inertia model". Bodies without mass have none.
    """
    density, viscosity, inertia = model.opt.density, model.opt.viscosity, model.body_inertia
    # squares of the sides
    others = inertia.sum(1, keepdims=True) - 2 * inertia
    weighs = model.body_mass[:, None] > 0
    box = np.sqrt(6 * np.maximum(others, 1e-15) / np.where(weighs, model.body_mass[:, None], 1.0)) * weighs
    one, other = np.roll(box, -1, axis=1), np.roll(box, -2, axis=1)
    size = np.repeat(box.mean(1, keepdims=True), 3, axis=1)
    return {
        "viscous": 3 * np.pi * viscosity * size,
        "drag": density / 2 * one * other,
        "viscous_spin": np.pi * viscosity * size**3,
        "drag_spin": density / 64 * box * (one**4 + other**4),
    }


def ellipsoids(model: Model, tree: Tree, geoms: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of the table of ellipsoids, for these geoms: what `ellipsoid` needs, each of them times their shares."""
    size, kind = model.geom_size[geoms], model.geom_type[geoms]
    # as MuJoCo's mju_geomSemiAxes has them
    thick, long = size[:, 0], size[:, 1] + np.where(kind == GEOM_CAPSULE, size[:, 0], 0)
    rod = np.stack([thick, thick, long], axis=1)
    axes = np.where(np.isin(kind, (GEOM_CAPSULE, GEOM_CYLINDER))[:, None], rod, size)
    axes = np.where((kind == GEOM_SPHERE)[:, None], thick[:, None], axes)
    low, middle, high = np.sort(axes, axis=1).T
    one, other = np.roll(axes, -1, axis=1), np.roll(axes, -2, axis=1)
    shadow = (one * other) ** 2
    wide = shadow.max(1)
    share, blunt, slender, angular, kutta, magnus, *virtual = model.geom_fluid[geoms].T
    thin, thick = share * model.opt.viscosity, share * model.opt.density
    sphere, largest = 2 / 3 * axes.sum(1), np.pi * high * middle
    swept, most = 8 / 15 * np.pi * axes * np.maximum(one, other) ** 4, 8 / 15 * np.pi * middle * high**4
    bodies = model.geom_bodyid[geoms]
    pos, quat = tree.body_pos[bodies], tree.body_quat[bodies]
    places = zip(pos, quat, model.geom_pos[geoms], strict=True)
    return {
        "link": tree.body_link[bodies].astype(np.int32),
        "pos": np.stack([p + quat_matrix(q) @ x for p, q, x in places]),
        "quat": np.stack([quat_mul(q, x) for q, x in zip(quat, model.geom_quat[geoms], strict=True)]),
        "shadow": shadow / wide[:, None],
        "mass": thick[:, None] * np.stack(virtual[:3], axis=1),
        "inertia": thick[:, None] * np.stack(virtual[3:], axis=1),
        "magnus": thick * magnus * 4 / 3 * np.pi * axes.prod(1),
        "kutta": thick * kutta * np.pi * np.sqrt(wide),
        "viscous": thin * 3 * np.pi * sphere,
        "blunt": thick * (blunt - slender) * np.pi * np.sqrt(wide),
        "slender": thick * slender * largest,
        "viscous_spin": thin * np.pi * sphere**3,
        "density": thick,
        "spin": angular[:, None] * swept + slender[:, None] * (most[:, None] - swept),
    }
