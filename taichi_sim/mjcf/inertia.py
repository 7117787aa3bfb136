"""What slows a dof, and models whose mass matrix has no inverse, so that they have no acceleration.

Inertia and damping of actuators (MuJoCo 4) are those of the dof that they turn, times the square of the gear: the
body's, not the drive's, also where actuation or the actuator's group is disabled.
"""

from __future__ import annotations

import numpy as np


def armature(m) -> np.ndarray:
    """Armature of every dof, its actuators' included [kg, kg m^2], (nv,)."""
    return m.dof_armature + _reflected(m, "actuator_armature")


def damping(m) -> np.ndarray:
    """Damping of every dof, its actuators' included [N s/m, N m s/rad], (nv,)."""
    return m.dof_damping + _reflected(m, "actuator_damping")


def on_one_dof(m) -> np.ndarray:
    """Which actuators turn a hinge or move a slide, bool, (nactuator,)."""
    import mujoco

    trn, jnt = mujoco.mjtTrn, mujoco.mjtJoint
    on_joint = np.isin(m.actuator_trntype, [trn.mjTRN_JOINT, trn.mjTRN_JOINTINPARENT])
    single = np.isin(m.jnt_type, [jnt.mjJNT_HINGE, jnt.mjJNT_SLIDE])
    return on_joint & single[np.where(on_joint, m.actuator_trnid[:, 0], 0)] if m.njnt else on_joint


def _reflected(m, name: str) -> np.ndarray:
    found, which = np.zeros(m.nv), np.flatnonzero(on_one_dof(m))
    # releases of MuJoCo before 4 have none
    own = getattr(m, name, np.zeros(len(m.actuator_trntype)))
    np.add.at(found, m.jnt_dofadr[m.actuator_trnid[which, 0]], own[which] * m.actuator_gear[which, 0] ** 2)
    return found


def check_regular(m, report) -> None:
    """Refuse joints whose inertia is zero: MuJoCo's compiler finds most, not parallel axes nor edited models."""
    if m.nv == 0:
        return
    inertia = _generic_mass_matrix(m)
    scale = np.sqrt(np.maximum(np.diag(inertia), 0))
    cure = "give the body mass and inertia, the joint armature, or the joints different axes"
    if np.any(scale <= 0):
        joints = np.unique(m.dof_jntid[scale <= 0])
        report.add("joint", joints, "moves nothing that has mass, so its acceleration is undefined", cure)
        return
    eigenvalues, eigenvectors = np.linalg.eigh(inertia / np.outer(scale, scale))
    # the mass matrix, scaled to a unit diagonal, of a sound tree stays many orders of magnitude above this
    if eigenvalues[0] < 1e-13:
        joints = np.unique(m.dof_jntid[np.abs(eigenvectors[:, 0]) > 0.1 * np.abs(eigenvectors[:, 0]).max()])
        report.add("joint", joints, "their motions are not independent: the mass matrix is singular", cure)


def generic_pose(m):
    """A `mujoco.MjData` at a pose without symmetry: at qpos0 the axes of a sound model may align."""
    import mujoco

    data = mujoco.MjData(m)
    mujoco.mj_integratePos(m, data.qpos, np.linspace(0.3, 0.7, m.nv), 1.0)
    return data


def _generic_mass_matrix(m) -> np.ndarray:
    """Joint-space inertia, (nv, nv), at a generic pose."""
    import mujoco

    data = generic_pose(m)
    mujoco.mj_kinematics(m, data)
    mujoco.mj_comPos(m, data)
    inertia = np.diag(armature(m))
    linear, angular = np.zeros((3, m.nv)), np.zeros((3, m.nv))
    for body in range(1, m.nbody):
        mujoco.mj_jacBodyCom(m, data, linear, angular, body)
        principal = data.ximat[body].reshape(3, 3).T @ angular
        inertia += m.body_mass[body] * linear.T @ linear + principal.T * m.body_inertia[body] @ principal
    return inertia
