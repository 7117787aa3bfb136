"""The dofs that pull on each other, through a tendon or a contact; the pieces of a tendon's path.

A path is cut at its sites. A straight piece joins two sites; a wrapped one has a sphere or cylinder between them. A
slider-crank is a path of one piece, from the slider's site to the crank's.
"""

from __future__ import annotations

import numpy as np

from taichi_sim.types import GEOM_PLANE, WRAP_CRANK, WRAP_JOINT, WRAP_PULLEY, WRAP_SITE, Model

# Ends of a piece: its first site, its second, the geom that it wraps around.
FIRST, SECOND, GEOM = range(3)


def elements(model: Model, t: int):
    """The pieces of tendon t's path: (share of the length, first site, second site, geom or -1, side site or -1)."""
    share, i, end = 1.0, model.tendon_adr[t], model.tendon_adr[t] + model.tendon_num[t]
    while i < end - 1:
        kind, following = model.wrap_type[i], model.wrap_type[i + 1]
        if kind == WRAP_PULLEY:
            share, i = 1 / model.wrap_prm[i], i + 1
        elif following == WRAP_PULLEY:
            i += 1
        elif following == WRAP_SITE:
            yield share, model.wrap_objid[i], model.wrap_objid[i + 1], -1, -1
            i += 1
        else:
            side = int(round(model.wrap_prm[i + 1]))
            yield share, model.wrap_objid[i], model.wrap_objid[i + 2], model.wrap_objid[i + 1], side
            i += 2


def is_fixed(model: Model, t: int) -> bool:
    """Whether tendon t is a linear combination of joints instead of a path."""
    return model.wrap_type[model.tendon_adr[t]] == WRAP_JOINT


def fixed(model: Model) -> np.ndarray:
    """`is_fixed` of all tendons, bool (ntendon,)."""
    return np.array([is_fixed(model, t) for t in range(model.ntendon)], bool)


def is_crank(model: Model, t: int) -> bool:
    """Whether tendon t is a slider-crank."""
    return model.wrap_type[model.tendon_adr[t]] == WRAP_CRANK


def moved_dofs(model: Model, tree) -> list[list[int]]:
    """Of every tendon the dofs that can change its length, in ascending order."""
    found = []
    for t in range(model.ntendon):
        if is_fixed(model, t):
            adr = model.tendon_adr[t]
            joints = model.wrap_objid[adr : adr + model.tendon_num[t]]
            dofs = {int(model.jnt_dofadr[j]) for j in joints}
        else:
            dofs = set()
            for _, one, two, geom, _ in elements(model, t):
                dofs |= {dof for dof, _ in terms(tree, links_of(model, tree, one, two, geom))}
        found.append(sorted(dofs))
    return found


def coupled_dofs(model: Model, tree) -> list[list[int]]:
    """Sets of dofs, in ascending order, between any two of which the matrix that a step solves has an entry.

    Those that change a tendon's length, and those that move what touches by MuJoCo's law apart.
    """
    found = moved_dofs(model, tree)
    if model.opt.contact and model.opt.constraint == "mujoco":
        bodies = [model.geom_bodyid[geom] for geom in (model.pair_geom1, model.pair_geom2)]
        between = model.geom_type[model.pair_geom1] != GEOM_PLANE
        links = {(int(one), int(two)) for one, two in zip(*(tree.body_link[b[between]] for b in bodies), strict=True)}
        found += [apart(tree, one, two) for one, two in sorted(links)]
    return found


def apart(tree, one: int, two: int) -> list[int]:
    """The dofs that move one of two links but not the other, in ascending order."""
    return sorted(set(dofs_of(tree, one)) ^ set(dofs_of(tree, two)))


def links_of(model: Model, tree, one: int, two: int, geom: int) -> list[int]:
    """The links that a piece's ends ride on."""
    bodies = [model.site_bodyid[one], model.site_bodyid[two]] + ([model.geom_bodyid[geom]] if geom >= 0 else [])
    return [int(tree.body_link[b]) for b in bodies]


def terms(tree, links: list[int]) -> list[tuple[int, int]]:
    """(dof, end) for every dof that moves that end of a piece, but does not move all of its ends alike."""
    moving = [set(dofs_of(tree, link)) for link in links]
    alike = set.intersection(*moving)
    return [(dof, end) for end, dofs in enumerate(moving) for dof in sorted(dofs - alike)]


def dofs_of(tree, link: int) -> list[int]:
    """The dofs that move a link."""
    dofs = []
    while link > 0:
        record = tree.links[link]
        dofs += range(record.dofadr, record.dofadr + record.dofnum)
        link = record.parent
    return dofs
