"""Which bodies of a model are its legs, and which of its muscles a gait report shows."""

from __future__ import annotations

import dataclasses

import numpy as np

from shac.errors import UserError
from taichi_sim.types import GAIN_MUSCLE, JNT_BALL, JNT_HINGE, Model

SIDES = ("right", "left")
JOINTS = ("hip", "knee", "ankle")
# Names of pelvis, thigh, shank and foot, in which {} stands for the side, and what that is on the right and the left.
_NAMES = (
    (("Pelvis", "Femur{}", "Tibia{}", "Talus{}"), ("R", "L")),
    (("pelvis", "{}_thigh", "{}_shin", "{}_foot"), SIDES),
    (("pelvis", "femur_{}", "tibia_{}", "talus_{}"), ("r", "l")),
)
# Groups of muscles, and how names of their units begin without their side: Lee et al. 2019, OpenSim's gait models.
_GROUPS = {
    "gluteus maximus": ("gluteus_maximus", "glmax"),
    "gluteus medius": ("gluteus_medius", "glmed"),
    "iliopsoas": ("iliacus", "psoas"),
    "hamstrings": ("bicep_femoris_longus", "semimem", "semiten", "bflh"),
    "rectus femoris": ("rectus_femoris", "recfem"),
    "vasti": ("vastus", "vas"),
    "gastrocnemius": ("gastrocnemius", "gas"),
    "soleus": ("soleus",),
    "tibialis anterior": ("tibialis_anterior", "tibant"),
}


@dataclasses.dataclass
class Legs:
    """The legs of a model; the first axis of every list is the side, right before left.

    | field | meaning | shape |
    |---|---|---|
    | pelvis | the body that carries them | scalar |
    | segments | thigh, shank and foot | (2, 3) |
    | dofs | the joints' dofs, which move a segment against the one before | (2, 3) lists |
    | feet | the foot and what hangs on it | (2,) lists |
    | groups | names of the groups of muscles | list |
    | units | their actuators | (2, groups) lists |
    """

    pelvis: int
    segments: np.ndarray
    dofs: list[list[list[int]]]
    feet: list[list[int]]
    groups: list[str]
    units: list[list[list[int]]]


def find(model: Model) -> Legs:
    """The legs of a model.

    Raises:
      UserError: it has no two legs with names that are known, or no joints in them.
    """
    names = {name: body for body, name in enumerate(model.names["body"])}
    for parts, sides in _NAMES:
        wanted = [[part.format(side) for part in parts] for side in sides]
        if all(name in names for leg in wanted for name in leg):
            chains = [[names[name] for name in leg] for leg in wanted]
            break
    else:
        known = "; ".join(", ".join(part.format(sides[0]) for part in parts) for parts, sides in _NAMES)
        raise UserError(
            "a gait report is of bodies with two legs, such as humanoid, humanoid_mtu, humanoid_mtu_full and walk_mtu: "
            f"pelvis, thigh, shank and foot must have the names {known} (and those of the left side)"
        )
    dofs = [[_between(model, above, below) for above, below in zip(chain, chain[1:])] for chain in chains]
    for side, leg in zip(SIDES, dofs):
        for joint, found in zip(JOINTS, leg):
            if not found:
                raise UserError(f"the {side} {joint} has no joint that turns, so there is no gait report of this body")
    feet = [[body for body in range(model.nbody) if _hangs_on(model, body, chain[-1])] for chain in chains]
    units = [[_units(model, side[0], starts) for starts in _GROUPS.values()] for side in SIDES]
    shown = [k for k in range(len(_GROUPS)) if units[0][k] and units[1][k]]
    return Legs(
        pelvis=chains[0][0],
        segments=np.array([chain[1:] for chain in chains]),
        dofs=dofs,
        feet=feet,
        groups=[list(_GROUPS)[k] for k in shown],
        units=[[leg[k] for k in shown] for leg in units],
    )


def joints_of(model: Model, body: int) -> range:
    """The joints by which a body moves against its parent, in their order."""
    return range(model.body_jntadr[body], model.body_jntadr[body] + model.body_jntnum[body])


def path(model: Model, above: int, below: int) -> list[int]:
    """The bodies from the one after `above` down to `below`; none if that does not hang on it."""
    chain, body = [], below
    while body not in (above, 0):
        chain.append(body)
        body = int(model.body_parentid[body])
    return chain[::-1] if body == above else []


def _between(model: Model, above: int, below: int) -> list[int]:
    turning = [
        joint
        for body in path(model, above, below)
        for joint in joints_of(model, body)
        if model.jnt_type[joint] in (JNT_BALL, JNT_HINGE)
    ]
    size = {JNT_BALL: 3, JNT_HINGE: 1}
    return [int(model.jnt_dofadr[j]) + k for j in turning for k in range(size[int(model.jnt_type[j])])]


def _hangs_on(model: Model, body: int, ancestor: int) -> bool:
    return body == ancestor or bool(path(model, ancestor, body))


def _units(model: Model, side: str, starts: tuple[str, ...]) -> list[int]:
    """Muscles of a side ("r" or "l") whose names begin so: R_Soleus1, soleus_r."""
    found = []
    for unit, name in enumerate(model.names["actuator"]):
        name = name.lower()
        bare = name.removeprefix(side + "_") if name.startswith(side + "_") else name.removesuffix("_" + side)
        if bare != name and bare.startswith(starts) and model.actuator_gaintype[unit] == GAIN_MUSCLE:
            found.append(unit)
    return found
