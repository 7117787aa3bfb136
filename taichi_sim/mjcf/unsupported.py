"""What a compiled MuJoCo model holds that this engine does not simulate: the one place that refuses input.

An element is refused only if it would change the motion: what belongs to a stage that the model itself disables
(`<option><flag .../></option>`) is let through. MuJoCo's fields newer
than 3.3 are read with a default, so that older releases serve too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from taichi_sim.contact import points
from taichi_sim.mjcf import inertia
from taichi_sim.mjcf.contact_pairs import Pairs
from taichi_sim.mjcf.report import Report
from taichi_sim.types import EQ_TENDON, GEOM_PLANE

# What may be enabled: it changes no motion of rigid bodies, or is simulated (override).
_FLAGS = {"override", "energy", "fwdinv", "invdiscrete", "ipc", "multiccd", "nativeccd", "island"}


class Stages(NamedTuple):
    """The stages of MuJoCo's pipeline that a model's disable flags leave on."""

    contact: bool
    limit: bool
    equality: bool
    frictionloss: bool
    spring: bool
    damper: bool
    gravity: bool
    actuation: bool
    clampctrl: bool

    @property
    def passive(self) -> bool:
        """MuJoCo computes gravity compensation and fluid forces unless springs and dampers are both disabled."""
        return self.spring or self.damper


def stages(mj_model) -> Stages:
    """Read the disable flags of a `mujoco.MjModel`; "constraint" stands for the four flags below it."""
    from mujoco import mjtDisableBit as bit

    def on(*bits) -> bool:
        return not any(mj_model.opt.disableflags & int(b) for b in bits)

    return Stages(
        contact=on(bit.mjDSBL_CONTACT, bit.mjDSBL_CONSTRAINT),
        limit=on(bit.mjDSBL_LIMIT, bit.mjDSBL_CONSTRAINT),
        equality=on(bit.mjDSBL_EQUALITY, bit.mjDSBL_CONSTRAINT),
        frictionloss=on(bit.mjDSBL_FRICTIONLOSS, bit.mjDSBL_CONSTRAINT),
        spring=on(_passive_bit("mjDSBL_SPRING")),
        damper=on(_passive_bit("mjDSBL_DAMPER")),
        gravity=on(bit.mjDSBL_GRAVITY),
        actuation=on(bit.mjDSBL_ACTUATION),
        clampctrl=on(bit.mjDSBL_CLAMPCTRL),
    )


def _passive_bit(name: str):
    # before the flags for springs and dampers there was one for all passive forces
    from mujoco import mjtDisableBit as bit

    return getattr(bit, name, None) or bit.mjDSBL_PASSIVE


def actuator_group_enabled(mj_model) -> np.ndarray:
    """Which actuators `<option actuatorgroupdisable>` leaves on, bool, shape (nactuator,)."""
    # groups above 30 cannot be disabled: the option is a bit field of 31
    group = np.asarray(mj_model.actuator_group)
    disabled = (mj_model.opt.disableactuator >> np.clip(group, 0, 30)) & 1 == 1
    return ~(disabled & (group >= 0) & (group <= 30))


def actuator_simulated(mj_model) -> np.ndarray:
    """Which actuators the engine can simulate, whether or not they are on, bool, shape (nactuator,)."""
    return ~np.any([mask for mask, _, _ in _actuator_defects(mj_model)], axis=0)


def find(mj_model, pairs: Pairs | None, report: Report) -> None:
    """Add to `report` every element of a `mujoco.MjModel` that the engine does not simulate.

    Args:
        mj_model: the compiled model.
        pairs: its pairs of geoms that are to touch; None without contact.
        report: takes what is found.
    """
    on = stages(mj_model)
    _check_options(mj_model, on, report)
    _check_bodies(mj_model, on, report)
    _check_joints(mj_model, on, report)
    if pairs is not None:
        _check_contacts(mj_model, pairs, report)
    _check_constraints(mj_model, on, report)
    _check_tendons(mj_model, on, report)
    _check_actuators(mj_model, on, report)
    if not mj_model.nflex:
        inertia.check_regular(mj_model, report)


def _check_options(m, on: Stages, report: Report) -> None:
    import mujoco

    for bit in mujoco.mjtEnableBit.__members__.values():
        kind, _, name = bit.name.lower().partition("_")
        # the last member is their number
        if kind == "mjenbl" and m.opt.enableflags & int(bit) and name not in _FLAGS:
            report.add_setting("option", f"{name} changes the motion and is not simulated", f"remove the flag {name}")
    if m.nv == 0:
        report.add_setting("model", "no body has a joint, so nothing can move", "add a joint")


def _check_bodies(m, on: Stages, report: Report) -> None:
    compensated = on.passive and on.gravity and np.any(m.body_gravcomp != 0)
    lost = np.full(m.njnt, not on.actuation or m.nu == 0) | np.asarray(m.jnt_actfrclimited, bool)
    report.add_where(
        "joint",
        compensated & np.asarray(m.jnt_actgravcomp, bool) & lost,
        "actuatorgravcomp on a joint whose actuators' force is clamped, or without actuators, is not simulated",
        "remove it: the compensation is a passive force then",
    )
    if on.passive:
        report.add_where("body", m.body_plugin >= 0, "plugins are not run", "remove the <plugin> element")
    report.add("flex", range(m.nflex), "deformable bodies are not simulated", "remove the flex, or use rigid bodies")


def _check_joints(m, on: Stages, report: Report) -> None:
    if on.spring:
        poly = np.any(_field(m, "jnt_stiffnesspoly", m.njnt, 2) != 0, axis=1)
        report.add_where(
            "joint", poly, "a polynomial stiffness is not simulated", "give stiffness one number, its linear term"
        )
        plastic = _field(m, "jnt_springyield", m.njnt) > 0
        report.add_where("joint", plastic, "a plastic spring (springyield) is not simulated", "remove springyield")
    if on.damper:
        joints = m.dof_jntid[np.any(_field(m, "dof_dampingpoly", m.nv, 2) != 0, axis=1)]
        what = "a polynomial damping is not simulated"
        report.add("joint", np.unique(joints), what, "give damping one number, its linear term")


def _geom_kind(kind: int) -> str:
    import mujoco

    return mujoco.mjtGeom(kind).name.removeprefix("mjGEOM_").lower()


def simulated_pairs(m, pairs: Pairs) -> np.ndarray:
    """Which pairs of geoms the engine can let touch each other, bool, shape (len(pairs),)."""
    kinds = zip(m.geom_type[pairs.geom1].tolist(), m.geom_type[pairs.geom2].tolist(), strict=True)
    known = np.array([kind in points.SUPPORTED for kind in kinds], dtype=bool)
    return known & ~_moving_planes(m, pairs)


def _moving_planes(m, pairs: Pairs) -> np.ndarray:
    """Which pairs have a plane that rides on a mocap body."""
    moving = m.body_mocapid[m.body_rootid[m.geom_bodyid[pairs.geom1]]] >= 0
    return moving & (m.geom_type[pairs.geom1] == GEOM_PLANE)


def _check_contacts(m, pairs: Pairs, report: Report) -> None:
    import mujoco

    kinds = list(zip(m.geom_type[pairs.geom1].tolist(), m.geom_type[pairs.geom2].tolist(), strict=True))
    for one, two in sorted(set(kinds) - points.SUPPORTED):
        those = [k for k, kind in enumerate(kinds) if kind == (one, two)]
        what = f"can collide as {_geom_kind(one)} with {_geom_kind(two)}, which is not simulated yet"
        cure = "set contype and conaffinity so that they do not meet, or exclude the bodies"
        cure += ', or let them pass through each other: load(..., unsupported_contacts="skip")'
        report.add("geom", np.unique([(pairs.geom1[k], pairs.geom2[k]) for k in those]), what, cure)
    what, cure = "is a plane on a mocap body, which is not simulated", "use a box"
    report.add("geom", np.unique(pairs.geom1[_moving_planes(m, pairs)]), what, cure)
    touching = np.isin(np.arange(m.ngeom), (pairs.geom1, pairs.geom2))
    what, cure = "a velocity of a geom's surface is not simulated", "use a body on a slide with a velocity servo"
    report.add_where("geom", touching & _field(m, "geom_surfacevel", m.ngeom, 6).any(axis=1), what, cure)
    what, cure = "a geom's adhesion is not simulated", "use an adhesion actuator"
    report.add_where("geom", touching & (_field(m, "geom_adhesion", m.ngeom) != 0), what, cure)
    sticks = _field(m, "pair_adhesion", m.npair) != 0
    report.add_where("contact pair", sticks, "adhesion is not simulated", cure)
    # pyramids have none in MuJoCo, either
    own = np.any(m.pair_solreffriction != 0, axis=1) & (m.opt.cone == mujoco.mjtCone.mjCONE_ELLIPTIC)
    what, cure = "solreffriction of an elliptic cone is not simulated", 'remove it, or take cone="pyramidal"'
    report.add("contact pair", pairs.explicit[np.append(own, False)[pairs.explicit]], what, cure)


def _check_constraints(m, on: Stages, report: Report) -> None:
    if not on.equality:
        return
    active = np.asarray(m.eq_active0, dtype=bool)
    others = active & (m.eq_type > EQ_TENDON)
    what, cure = "equalities of deformable bodies are not simulated", "remove it"
    report.add_where("equality", others, what, f'{cure}, or set active="false"')


def _check_tendons(m, on: Stages, report: Report) -> None:
    n = m.ntendon
    if on.spring:
        poly = np.any(_field(m, "tendon_stiffnesspoly", n, 2) != 0, axis=1)
        cure = "give stiffness one number, its linear term"
        report.add_where("tendon", poly, "a polynomial stiffness is not simulated", cure)
        plastic = _field(m, "tendon_springyield", n) > 0
        report.add_where("tendon", plastic, "a plastic spring (springyield) is not simulated", "remove springyield")
    if on.damper:
        poly = np.any(_field(m, "tendon_dampingpoly", n, 2) != 0, axis=1)
        cure = "give damping one number, its linear term"
        report.add_where("tendon", poly, "a polynomial damping is not simulated", cure)
    heavy = _field(m, "tendon_armature", n) != 0
    report.add_where("tendon", heavy, "armature of a tendon is not simulated", "give the joints armature instead")
    clamped = np.asarray(_field(m, "tendon_actfrclimited", n), dtype=bool) & on.actuation
    cure = "give its actuators a forcerange"
    report.add_where("tendon", clamped, "a clamped total force of its actuators is not simulated", cure)
    if on.actuation:
        _check_clamped_joints(m, report)


def _check_clamped_joints(m, report: Report) -> None:
    """Joints whose actuator force is clamped must not be driven through a tendon, a site or a body."""
    import mujoco

    clamped = np.flatnonzero(m.jnt_actfrclimited)
    trn = mujoco.mjtTrn
    sticky = bool((m.actuator_trntype == trn.mjTRN_BODY).any())
    driven = np.isin(m.actuator_trntype, [trn.mjTRN_TENDON, trn.mjTRN_SITE, trn.mjTRN_SLIDERCRANK])
    if not len(clamped) or not driven.any() and not sticky:
        return
    data = inertia.generic_pose(m)
    mujoco.mj_forward(m, data)
    moment = np.zeros((m.nu, m.nv))
    mujoco.mju_sparse2dense(moment, data.actuator_moment, data.moment_rownnz, data.moment_rowadr, data.moment_colind)
    # what a body sticks to may be anything
    moved = (np.abs(moment[driven]).sum(axis=0) > 0) | sticky
    joints = np.intersect1d(clamped, m.dof_jntid[moved])
    what, cure = (
        "its actuator force is clamped, but a tendon, a slider-crank, a site or a body drives it, too",
        "give the actuators a forcerange instead",
    )
    report.add("joint", joints, what, cure)


def _check_actuators(m, on: Stages, report: Report) -> None:
    if hasattr(m, "actuator_ctrlnum"):
        several = (m.actuator_ctrlnum != 1) | (m.actuator_outnum != 1)
        cure = "use one actuator per control"
        report.add_where("actuator", several, "takes or drives other than one scalar, which is not supported", cure)
    _check_reflected(m, on, report)
    enabled = actuator_group_enabled(m) & on.actuation
    for mask, what, cure in _actuator_defects(m):
        report.add_where("actuator", enabled & mask, what, cure)


def _check_reflected(m, on: Stages, report: Report) -> None:
    """Armature and damping of actuators, which act also where these are disabled."""
    n, elsewhere = len(m.actuator_trntype), ~inertia.on_one_dof(m)
    for name, acts in (("armature", True), ("damping", on.damper)):
        what = f"{name} of an actuator is simulated on hinges and slides alone"
        own = (_field(m, f"actuator_{name}", n) != 0) & acts
        report.add_where("actuator", own & elsewhere, what, f"give the joints {name} instead")
    poly = np.any(_field(m, "actuator_dampingpoly", n, 2) != 0, axis=1) & on.damper
    what, cure = "a polynomial damping is not simulated", "give damping one number, its linear term"
    report.add_where("actuator", poly, what, cure)


def _actuator_defects(m) -> list[tuple[np.ndarray, str, str]]:
    """What the engine does not simulate of actuators: (which have it, bool, (nactuator,); what it is; its cure)."""
    import mujoco

    trn, dyn, gain, bias = mujoco.mjtTrn, mujoco.mjtDyn, mujoco.mjtGain, mujoco.mjtBias
    n = len(m.actuator_trntype)
    in_parent = m.actuator_trntype == trn.mjTRN_JOINTINPARENT
    muscle = m.actuator_gaintype == gain.mjGAIN_MUSCLE
    on_site = m.actuator_trntype == trn.mjTRN_SITE
    on_body = m.actuator_trntype == trn.mjTRN_BODY
    paths = [trn.mjTRN_JOINT, trn.mjTRN_TENDON, trn.mjTRN_SLIDERCRANK]
    supported = in_parent | on_site | on_body | np.isin(m.actuator_trntype, paths)
    # a site's length is that of a way between two, or none, a body's none; a force by velocity would be explicit
    by_motion = np.any(m.actuator_gainprm[:, 1:3] != 0, axis=1) & (m.actuator_gaintype == gain.mjGAIN_AFFINE)
    by_motion |= np.any(m.actuator_biasprm[:, 1:3] != 0, axis=1) & (m.actuator_biastype == bias.mjBIAS_AFFINE)
    turning = np.flatnonzero(np.isin(m.jnt_type, [mujoco.mjtJoint.mjJNT_BALL, mujoco.mjtJoint.mjJNT_FREE]))
    delayed = (_field(m, "actuator_delay", n) > 0) | (_field(m, "actuator_history", n, 2)[:, 0] > 0)
    dynamics = [dyn.mjDYN_NONE, dyn.mjDYN_INTEGRATOR, dyn.mjDYN_FILTER, dyn.mjDYN_FILTEREXACT, dyn.mjDYN_MUSCLE]
    passive = m.actuator_biastype == bias.mjBIAS_MUSCLE
    return [
        (~supported, "this transmission is not supported", "use a joint, a tendon, a slider-crank, a site or a body"),
        (on_site & (m.actuator_trnid[:, 1] >= 0), "refsite is not supported", "use a site alone, or a joint"),
        (
            (on_site | on_body) & (by_motion | muscle),
            "a force by a site's or a body's motion is not supported",
            "use a motor or an adhesion, or a joint",
        ),
        (
            in_parent & np.isin(m.actuator_trnid[:, 0], turning),
            "jointinparent on a ball or free joint is not supported",
            'use joint="..."',
        ),
        (
            ~np.isin(m.actuator_dyntype, dynamics) | (m.actuator_actnum > 1),
            "these activation dynamics are not simulated",
            'use dyntype "none", "integrator", "filter", "filterexact" or "muscle"',
        ),
        (m.actuator_actearly != 0, "a force from the next activation is not simulated", "remove actearly"),
        (
            ~np.isin(m.actuator_gaintype, [gain.mjGAIN_FIXED, gain.mjGAIN_AFFINE, gain.mjGAIN_MUSCLE]),
            "this gain type is not simulated",
            'use gaintype "fixed", "affine" or "muscle"',
        ),
        (
            ~np.isin(m.actuator_biastype, [bias.mjBIAS_NONE, bias.mjBIAS_AFFINE, bias.mjBIAS_MUSCLE]),
            "this bias type is not simulated",
            'use biastype "none", "affine" or "muscle"',
        ),
        (
            (passive & ~muscle) | (muscle & (m.actuator_biastype == bias.mjBIAS_AFFINE)),
            "a muscle's bias needs a muscle's gain, and a muscle's gain no other bias",
            'use <muscle>, or gaintype="muscle" and biastype="muscle"',
        ),
        (m.actuator_plugin >= 0, "plugins are not run", "use a built-in actuator"),
        (delayed, "delayed controls (delay, nsample) are not simulated", "remove delay and nsample"),
    ]


def _field(m, name: str, *shape: int) -> np.ndarray:
    """A field of the model, or zeros where this release of MuJoCo does not have it."""
    return np.asarray(getattr(m, name, np.zeros(shape)))
