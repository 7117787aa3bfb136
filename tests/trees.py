"""Random kinematic trees as MJCF: every joint and actuator type that the engine knows, contacts disabled.

`trees()` is the hypothesis strategy: it draws the structure, so that failures shrink to few bodies, and a seed for the
figures. `random_tree(rng)` is the same without hypothesis, and `random_state` a state to go with either.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import strategies as st

# What MuJoCo lets share a body: a free joint stands alone, and no hinge goes with a ball.
JOINTS = [
    ("hinge",),
    ("ball",),
    ("slide",),
    ("free",),
    (),
    ("hinge", "hinge"),
    ("slide", "hinge"),
    ("hinge", "slide"),
    ("slide", "ball"),
    ("ball", "slide"),
    ("hinge", "hinge", "hinge"),
    ("slide", "slide", "hinge"),
    ("slide", "slide", "slide", "ball"),
]
ACTUATORS = ["motor", "position", "velocity", "damper", "general", "affine"]


@dataclasses.dataclass
class Structure:
    """What is discrete in a tree: parents (0: the world) and joints of bodies; type and joint index of actuators."""

    parents: list[int]
    joints: list[tuple[str, ...]]
    actuators: list[tuple[str, int]]


@st.composite
def trees(draw, *, max_bodies: int = 6, limits: bool = True, passive: bool = True, gravity: bool = True):
    """Strategy for MJCF strings of random trees; the keywords are those of `random_tree`."""
    num_bodies = draw(st.integers(1, max_bodies))

    def choose(options):
        return draw(st.sampled_from(options))

    structure = _structure(num_bodies, choose)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return _mjcf(structure, rng, limits=limits, passive=passive, gravity=gravity)


def random_tree(
    rng: np.random.Generator,
    *,
    num_bodies: int | None = None,
    num_actuators: int | None = None,
    limits: bool = True,
    passive: bool = True,
    gravity: bool = True,
) -> str:
    """MJCF of a random tree with its contacts disabled.

    Args:
        rng: source of all choices.
        num_bodies: how many, one to seven by default.
        num_actuators: how many, none to three by default.
        limits: give some joints limits, which random states may violate.
        passive: give joints springs and dampers.
        gravity: leave gravity on, in a random direction.
    """

    def choose(options):
        return options[rng.integers(len(options))]

    structure = _structure(num_bodies or int(rng.integers(1, 8)), choose, num_actuators)
    return _mjcf(structure, rng, limits=limits, passive=passive, gravity=gravity)


def random_state(model, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random qpos (nq,), with unit quaternions, and qvel (nv,) of a `Model` or a `mujoco.MjModel`."""
    qpos = rng.normal(size=model.nq)
    for kind, adr in zip(model.jnt_type, model.jnt_qposadr, strict=True):
        # a free joint's quaternion (type 0) follows its position; a ball (type 1) has nothing else
        if kind in (0, 1):
            quat = slice(adr + 3, adr + 7) if kind == 0 else slice(adr, adr + 4)
            qpos[quat] /= np.linalg.norm(qpos[quat])
    return qpos, rng.normal(size=model.nv)


def _structure(num_bodies: int, choose, num_actuators: int | None = None) -> Structure:
    parents = [choose(range(body + 1)) for body in range(num_bodies)]
    # only a child of the world may float, and something has to move
    joints = [choose([kinds for kinds in JOINTS if parent == 0 or "free" not in kinds]) for parent in parents]
    if not any(joints):
        joints[0] = JOINTS[0]
    num_joints = sum(map(len, joints))
    count = choose(range(4)) if num_actuators is None else num_actuators
    actuators = [(choose(ACTUATORS), choose(range(num_joints))) for _ in range(count)]
    return Structure(parents, joints, actuators)


def _mjcf(structure: Structure, rng: np.random.Generator, *, limits: bool, passive: bool, gravity: bool) -> str:
    children: dict[int, list[int]] = {}
    for body, parent in enumerate(structure.parents, 1):
        children.setdefault(parent, []).append(body)
    offsets = np.cumsum([0, *map(len, structure.joints)])

    def body_xml(body: int) -> str:
        first = offsets[body - 1]
        joints = [
            _joint(f"j{first + i}", kind, rng, limits, passive) for i, kind in enumerate(structure.joints[body - 1])
        ]
        inner = "".join(body_xml(child) for child in children.get(body, []))
        return (
            f'<body name="b{body}" pos="{_vector(rng)}" quat="{_quat(rng)}">{"".join(joints)}{_inertial(rng)}'
            f'<site name="s{body}" pos="{_vector(rng)}" quat="{_quat(rng)}"/>{inner}</body>'
        )

    kinds = [kind for body in structure.joints for kind in body]
    actuators = [_actuator(f"a{i}", kind, j, kinds[j], rng) for i, (kind, j) in enumerate(structure.actuators)]
    flag = "" if gravity else ' gravity="disable"'
    return f"""<mujoco>
  <compiler angle="radian"/>
  <option timestep="0.002" gravity="{_vector(rng, 6.0)}"><flag contact="disable"{flag}/></option>
  <worldbody>{"".join(body_xml(body) for body in children[0])}</worldbody>
  <actuator>{"".join(actuators)}</actuator>
</mujoco>"""


def _joint(name: str, kind: str, rng: np.random.Generator, limits: bool, passive: bool) -> str:
    attributes = {"name": name, "type": kind, "armature": f"{rng.uniform(0, 0.1):.6f}"}
    if passive:
        attributes |= {"damping": f"{rng.uniform(0, 2):.6f}", "stiffness": f"{rng.uniform(0, 5):.6f}"}
    if kind in ("slide", "hinge"):
        attributes |= {"axis": _vector(rng), "springref": f"{rng.normal():.6f}", "ref": f"{rng.normal():.6f}"}
    if kind in ("slide", "hinge") and rng.random() < 0.3:
        attributes |= {"actuatorfrclimited": "true", "actuatorfrcrange": "-1.5 1"}
    if kind != "free":
        attributes["pos"] = _vector(rng, 0.3)
    if kind != "free" and limits and rng.random() < 0.5:
        lower = 0 if kind == "ball" else -rng.uniform(0.2, 1)
        attributes |= {"limited": "true", "range": f"{lower:.6f} {rng.uniform(0.2, 1):.6f}"}
        # random states are radians beyond: what stiffer limits do to them no difference could resolve
        attributes["solreflimit"] = "0.07 1"
    return f"<joint {_attributes(attributes)}/>"


def _inertial(rng: np.random.Generator) -> str:
    # principal moments obey the triangle inequality, being sums of the second moments x, y and z
    x, y, z = rng.uniform(0.02, 0.5, 3)
    moments = f"{y + z:.6f} {z + x:.6f} {x + y:.6f}"
    mass = rng.uniform(0.2, 3)
    return f'<inertial pos="{_vector(rng, 0.3)}" quat="{_quat(rng)}" mass="{mass:.6f}" diaginertia="{moments}"/>'


def _actuator(name: str, kind: str, joint: int, joint_kind: str, rng: np.random.Generator) -> str:
    size = {"free": 6, "ball": 3}.get(joint_kind, 1)
    gear = " ".join(f"{x:.6f}" for x in rng.normal(size=size))
    # only on a scalar joint does the parent's frame make no difference
    target = "jointinparent" if size == 1 and rng.random() < 0.3 else "joint"
    attributes = {"name": name, target: f"j{joint}", "gear": gear}
    if kind == "damper":
        # this shortcut always limits its control, to what is not negative
        attributes["ctrlrange"] = "0 0.8"
    elif rng.random() < 0.5:
        attributes |= {"ctrllimited": "true", "ctrlrange": "-0.5 0.8"}
    if rng.random() < 0.3:
        attributes |= {"forcelimited": "true", "forcerange": "-1 0.7"}
    tag = "general" if kind == "affine" else kind
    if kind == "position":
        attributes |= {"kp": f"{rng.uniform(1, 5):.6f}", "kv": f"{rng.uniform(0, 1):.6f}"}
    elif kind in ("velocity", "damper"):
        attributes["kv"] = f"{rng.uniform(0.1, 2):.6f}"
    elif kind == "general":
        attributes |= {"gainprm": f"{rng.normal():.6f}", "biastype": "affine", "biasprm": _vector(rng)}
    elif kind == "affine":
        attributes |= {"gaintype": "affine", "gainprm": _vector(rng), "biastype": "affine", "biasprm": _vector(rng)}
    return f"<{tag} {_attributes(attributes)}/>"


def _attributes(attributes: dict[str, str]) -> str:
    return " ".join(f'{key}="{value}"' for key, value in attributes.items())


def _vector(rng: np.random.Generator, scale: float = 1.0) -> str:
    return " ".join(f"{x:.6f}" for x in scale * rng.normal(size=3))


def _quat(rng: np.random.Generator) -> str:
    return " ".join(f"{x:.6f}" for x in rng.normal(size=4))
