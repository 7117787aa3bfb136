"""Inertia and damping of actuators (MuJoCo 4), as the dof has them that they turn: times the square of the gear.

They are the body's, not the drive's: also where actuation or the actuator's group is disabled.
"""

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
