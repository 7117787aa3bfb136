"""Tendons and muscles as they are drawn: their paths over the bodies, their thickness and their colours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from taichi_sim.render import scene
from taichi_sim.render.colorbar import activation_rgb
from taichi_sim.render.polyline import Polylines
from taichi_sim.render.tendon_path import wrap_points
from taichi_sim.types import TRN_TENDON, WRAP_PULLEY, WRAP_SITE, WRAP_SPHERE, Model

# Largest angle between successive points where a path is round [rad]; what is left of its corners is a 100th of the
# radius.
RESOLUTION = 0.25

# A muscle's pieces along its path, of equal lengths, and its thickness at the ends of a path as a share of its belly's.
_PIECES = 6
_END_SHARE = 0.4

# MJCF's default `width`, which says nothing about a muscle's thickness.
_DEFAULT_WIDTH = 0.003
# Force per cross-section that gives a muscle its thickness [N/m^2]: Rajagopal et al. 2016.
_SPECIFIC_TENSION = 6e5
# A muscle's mean radius is not drawn larger than this share of its path's length.
_MOST_THICK = 0.06


class Capsules(NamedTuple):
    """Coloured capsules of one frame: tendons, muscles, contact forces.

    | field | meaning | shape |
    |---|---|---|
    | ends | end points in the world [m] | (num, 2, 3) |
    | radius | radius, or one at each end [m] | (num,) or (num, 2) |
    | rgba | colour as displayed, opacity | (num, 4) |
    """

    ends: np.ndarray
    radius: np.ndarray
    rgba: np.ndarray


def tendon_paths(
    model: Model, xpos: np.ndarray, xquat: np.ndarray, resolution: float = RESOLUTION, branches: list | None = None
) -> list[list[np.ndarray]]:
    """Where a model's tendons run.

    Args:
        model: the model.
        xpos, xquat: poses of its bodies [m], (nbody, 3) and (nbody, 4).
        resolution: largest angle [rad] between successive points of an arc around a sphere or cylinder.
        branches: the model's `tendon_branches`, of whoever has found them already.

    Returns:
        For each tendon its branches, which pulleys part, and for each branch its points in the world [m], (num, 3):
        sites, and the points of the arcs between them. A tendon over joints (`<fixed>`) has no branch.
    """
    sites = xpos[model.site_bodyid] + np.einsum("nij,nj->ni", scene.rotations(xquat)[model.site_bodyid], model.site_pos)
    frames = scene.geom_poses(model, np.arange(model.ngeom), xpos, xquat)
    return [
        [_branch_points(model, branch, sites, frames, resolution) for branch in parts]
        for parts in (tendon_branches(model) if branches is None else branches)
    ]


def tendon_branches(model: Model) -> list[list[np.ndarray]]:
    """For each tendon its branches, each the indices of its sites and geoms in `wrap_type`."""
    found = []
    for adr, num in zip(model.tendon_adr, model.tendon_num):
        path = np.arange(adr, adr + num)
        kind = model.wrap_type[path]
        parts = np.split(path, np.flatnonzero(kind == WRAP_PULLEY))
        parts = [part[model.wrap_type[part] != WRAP_PULLEY] for part in parts]
        spatial = np.any(kind == WRAP_SITE)
        found.append([part for part in parts if spatial and len(part) > 1])
    return found


def _branch_points(model: Model, branch: np.ndarray, sites, frames, resolution: float) -> np.ndarray:
    around = model.wrap_type[branch] != WRAP_SITE
    if not around.any():
        return sites[model.wrap_objid[branch]]
    points = []
    for i in np.flatnonzero(~around):
        site = sites[model.wrap_objid[branch[i]]]
        if i > 0 and around[i - 1]:
            last = sites[model.wrap_objid[branch[i - 2]]]
            points.append(_arc(model, branch[i - 1], last, site, sites, frames, resolution)[1:])
        else:
            points.append(site[None])
    return np.concatenate(points)


def _arc(model: Model, wrap: int, last, site, sites, frames, resolution: float) -> np.ndarray:
    """Points (num, 3) from one site to the next, past the geom of a path's element `wrap`."""
    geom = model.wrap_objid[wrap]
    rot, pos = frames[0][geom], frames[1][geom]
    side = int(model.wrap_prm[wrap])
    points = wrap_points(
        "sphere" if model.wrap_type[wrap] == WRAP_SPHERE else "cylinder",
        (last - pos) @ rot,
        (site - pos) @ rot,
        float(model.geom_size[geom, 0]),
        (sites[side] - pos) @ rot if side >= 0 else None,
        resolution,
    )
    return points @ rot.T + pos


class Tubes:
    """The tendons of a model as tubes.

    Those that muscles pull are spindles, from blue at activation 0 to red at 1; others have their own colour. A
    spindle's mean radius is the `width` that the file gives the tendon, or without one that of a muscle of its peak
    force. Tendons of opacity 0 are left out.

    | attribute | meaning |
    |---|---|
    | shown | tendons that are drawn, indices |
    | branches | `tendon_branches` of the model |
    | muscle | tendons that a muscle pulls, bool (ntendon,) |
    | radius | mean radius [m], (ntendon,) |
    """

    def __init__(self, model: Model):
        self.model = model
        pulls = (model.muscle_law >= 0) & (model.actuator_trntype == TRN_TENDON)
        self._actuator = np.flatnonzero(pulls)
        self._tendon = model.actuator_trnid[self._actuator]
        self.muscle = np.isin(np.arange(model.ntendon), self._tendon)
        self.branches = tendon_branches(model)
        has_path = np.array([bool(branches) for branches in self.branches], bool)
        self.shown = np.flatnonzero(has_path & (model.tendon_rgba[:, 3] > 0))
        self.radius = self._mean_radius()

    @property
    def has_muscles(self) -> bool:
        """Whether any tube's colour tells an activation."""
        return bool(np.any(self.muscle[self.shown]))

    def _mean_radius(self) -> np.ndarray:
        model = self.model
        force = np.zeros(model.ntendon)
        np.maximum.at(force, self._tendon, model.muscle_force[self._actuator])
        unset = self.muscle & (np.abs(model.tendon_width - _DEFAULT_WIDTH) < 1e-9) & (force > 0)
        return np.where(unset, np.sqrt(force / _SPECIFIC_TENSION / np.pi), model.tendon_width)

    def activation(self, act=None, ctrl=None) -> np.ndarray:
        """How active the muscle on each tendon is, the most active one of several; without a muscle 0, (ntendon,).

        Args:
            act: activations (na,); None: 0.
            ctrl: controls (nu,), for muscles without activation dynamics; None: 0.
        """
        act, ctrl = _vector(act, self.model.na, "act"), _vector(ctrl, self.model.nu, "ctrl")
        adr = self.model.actuator_actadr[self._actuator]
        # the entry appended is never used, but a model without any activation has none to index
        level = np.where(adr >= 0, np.append(act, 0.0)[adr], ctrl[self._actuator])
        found = np.zeros(self.model.ntendon)
        np.maximum.at(found, self._tendon, np.clip(level, 0.0, 1.0))
        return found

    def rgba(self, act=None, ctrl=None) -> np.ndarray:
        """Colours of the tendons, (ntendon, 4); arguments as of `activation`."""
        rgba = self.model.tendon_rgba.astype(np.float64)
        rgba[self.muscle, :3] = activation_rgb(self.activation(act, ctrl)[self.muscle])
        return rgba

    def capsules(self, xpos: np.ndarray, xquat: np.ndarray, act=None, ctrl=None) -> Capsules:
        """The tubes of one pose of the bodies, as chains of capsules.

        Args:
            xpos, xquat: as of `tendon_paths`.
            act, ctrl: as of `activation`.
        """
        paths = tendon_paths(self.model, xpos, xquat, branches=self.branches)
        tendon = np.repeat(self.shown, [len(self.branches[i]) for i in self.shown])
        drawn = Polylines([points for i in self.shown for points in paths[i]])
        owner, way = _with_stops(drawn, self.muscle[tendon])
        points, radius = drawn.at(owner, way), self._thickness(tendon, drawn.length, owner, way)
        piece = owner[:-1] == owner[1:]
        ends = np.stack([points[:-1], points[1:]], axis=1)[piece]
        radius = np.stack([radius[:-1], radius[1:]], axis=1)[piece]
        return Capsules(ends, radius, self.rgba(act, ctrl)[tendon[owner[:-1][piece]]])

    def _thickness(self, tendon: np.ndarray, length: np.ndarray, owner: np.ndarray, way: np.ndarray) -> np.ndarray:
        """Radii [m] at distances `way` along the paths `owner`, which are of these tendons and lengths."""
        mean = self.radius[tendon]
        # half a sine wave, whose mean is 2 / pi
        share = _END_SHARE + (1 - _END_SHARE) * np.sin(np.pi * way / np.maximum(length, 1e-12)[owner])
        belly = np.minimum(mean, _MOST_THICK * length) / (_END_SHARE + (1 - _END_SHARE) * 2 / np.pi)
        return np.where(self.muscle[tendon][owner], np.maximum(belly[owner] * share, 1e-5), mean[owner])


def _vector(values, num: int, name: str) -> np.ndarray:
    if values is None:
        return np.zeros(num)
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (num,):
        raise ValueError(f"render: {name} has shape {values.shape}, expected {(num,)}: the actuators of one world.")
    if not np.all(np.isfinite(values)):
        raise ValueError(f"render: {name}[{np.flatnonzero(~np.isfinite(values))[0]}] is not finite.")
    return values


def _with_stops(lines: Polylines, spindle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points of paths and, on those that are spindles, further ones where the thickness changes.

    Returns:
        For each point its path and the distance along it [m], in order.
    """
    added = np.repeat(np.flatnonzero(spindle), _PIECES + 1)
    even = np.tile(np.linspace(0.0, 1.0, _PIECES + 1), np.count_nonzero(spindle)) * lines.length[added]
    owner, way = np.append(lines.owner, added), np.append(lines.way, even)
    order = np.lexsort((way, owner))
    owner, way = owner[order], way[order]
    # nearly coincident points make pieces that are shorter than they are thick
    near = (owner[1:] == owner[:-1]) & spindle[owner[1:]] & (np.diff(way) <= 1e-3 * lines.length[owner[1:]])
    keep = np.append(True, ~near)[: len(way)]
    return owner[keep], way[keep]
