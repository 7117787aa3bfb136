"""From a compiled MuJoCo model to the tendons, actuators and muscles of `Model`."""

from __future__ import annotations

import numpy as np

from taichi_sim.mjcf.constraint import LOSS, friction_gains, reference_gains, stop_gains
from taichi_sim.mjcf.numerics import choice
from taichi_sim.mjcf.report import Report, element_name
from taichi_sim.mjcf.unsupported import actuator_group_enabled, actuator_simulated, stages
from taichi_sim.types import (
    BIAS_MUSCLE,
    BIAS_NONE,
    DYN_MUSCLE,
    DYN_NONE,
    GAIN_FIXED,
    GAIN_MUSCLE,
    LAW_DEGROOTE,
    LAW_MUJOCO,
    TRN_BODY,
    TRN_JOINT,
    TRN_SITE,
    TRN_TENDON,
    WRAP_CRANK,
    WRAP_SITE,
)

# What `<custom><text name="muscle_law" data="..."/>` may say.
LAWS = {"mujoco": LAW_MUJOCO, "degroote_fregly": LAW_DEGROOTE}
# Length of a passive element, over its optimal one, at which neither law has a force of it.
_SHORTEST = 0.2
# What `<custom><text name="muscle_tendon" data="..."/>` may say: whether tendons are elastic.
TENDONS = {"rigid": False, "elastic": True}

# Fibre damping of De Groote and Fregly's law, in peak forces per vmax: the smallest that Moco's users take (0.01 to
# 0.1); it lets a slack muscle resist its fastest shortening by a hundredth of its strength.
_FIBRE_DAMPING = 0.01

# Strain of an elastic tendon at the peak force (Zajac 1989; De Groote et al. 2016), and the smallest: single precision
# tells a unit's length to a thousandth of that.
_STRAIN, _LEAST_STRAIN = 0.049, 1e-4
# Without damping nothing balances a passive fibre's velocity.
_LEAST_DAMPING = 1e-3


def tendons(m, substep: float, refsafe: bool, report: Report) -> dict[str, np.ndarray]:
    """Tendons' paths, springs, dampers, friction and limits; coefficients of disabled stages are zero.

    Behind the file's there is one for each actuator on a slider-crank, with that as its path and nothing else.
    """
    found, cranks = _tendons(m, substep, refsafe, report), _cranks(m)
    own = {name: np.zeros((len(cranks), *values.shape[1:]), values.dtype) for name, values in found.items()}
    crank_site, slider_site = m.actuator_trnid[cranks].T
    own["tendon_adr"] = len(m.wrap_type) + 2 * np.arange(len(cranks), dtype=np.int32)
    own["tendon_num"] = np.full(len(cranks), 2, np.int32)
    own["wrap_type"] = np.tile(np.int32([WRAP_CRANK, WRAP_SITE]), len(cranks))
    own["wrap_objid"] = np.stack([slider_site, crank_site], axis=1).ravel()
    own["wrap_prm"] = np.stack([m.actuator_cranklength[cranks], np.zeros(len(cranks))], axis=1).ravel()
    return {name: np.concatenate([values, own[name]]) for name, values in found.items()}


def _acting(m) -> np.ndarray:
    """Which actuators are simulated and on, bool, (nu,)."""
    return actuator_group_enabled(m) & actuator_simulated(m) & stages(m).actuation


def _cranks(m) -> np.ndarray:
    """The actuators that act on slider-cranks, indices."""
    import mujoco

    return np.flatnonzero(_acting(m) & (m.actuator_trntype == mujoco.mjtTrn.mjTRN_SLIDERCRANK))


def _tendons(m, substep: float, refsafe: bool, report: Report) -> dict[str, np.ndarray]:
    """`tendons` of the file."""
    on = stages(m)
    limited = np.array(m.tendon_limited, bool) & on.limit
    # MuJoCo's limits push from `margin` inside of the range on
    length_range = m.tendon_range + np.where(limited, m.tendon_margin, 0)[:, None] * [1, -1]
    inverted = limited & (length_range[:, 0] > length_range[:, 1])
    report.add_where("tendon", inverted, "the limit's margin leaves nothing of its range", "lower margin")
    reference = m.tendon_solref_lim, m.tendon_solimp_lim
    gains = stop_gains(*reference, m.tendon_invweight0, m.opt.timestep, substep, refsafe)
    ke, kd, loss = (np.where(limited, gain, 0.0) for gain in (*gains, LOSS))
    reference = m.tendon_solref_fri, m.tendon_solimp_fri
    kf, mass, rate = friction_gains(*reference, m.tendon_invweight0, m.opt.timestep, refsafe)
    return {
        "tendon_adr": np.array(m.tendon_adr),
        "tendon_num": np.array(m.tendon_num),
        "wrap_type": np.array(m.wrap_type),
        "wrap_objid": np.array(m.wrap_objid),
        "wrap_prm": np.array(m.wrap_prm, dtype=np.float64),
        "tendon_stiffness": np.array(m.tendon_stiffness),
        "tendon_damping": np.array(m.tendon_damping),
        "tendon_frictionloss": m.tendon_frictionloss * float(on.frictionloss),
        "tendon_friction_kf": kf,
        "tendon_friction_mass": mass,
        "tendon_friction_rate": rate,
        "tendon_lengthspring": np.array(m.tendon_lengthspring),
        "tendon_limited": limited,
        "tendon_range": length_range,
        "tendon_limit_ke": ke,
        "tendon_limit_kd": kd,
        "tendon_limit_loss": loss,
        "tendon_limit_ref": reference_gains(m.tendon_solref_lim, m.tendon_solimp_lim[:, 1], m.opt.timestep, refsafe),
        "tendon_limit_solimp": np.array(m.tendon_solimp_lim, float),
        # of what moves nothing 0; MuJoCo's mjMINVAL
        "tendon_limit_invweight": np.maximum(m.tendon_invweight0, 1e-15),
        "tendon_width": np.array(m.tendon_width, dtype=np.float64),
        "tendon_rgba": colours(m, m.tendon_rgba, m.tendon_matid),
    }


def colours(m, rgba, matid) -> np.ndarray:
    """Colours, (n, 4), as MuJoCo draws them: the material's, unless the element has one of its own, which shows as not
    being the default.
    """
    found = np.array(rgba, dtype=np.float64)
    material = (matid >= 0) & np.all(rgba == np.float32([0.5, 0.5, 0.5, 1]), axis=1)
    found[material] = m.mat_rgba[matid[material]]
    return found


def actuators(m, numerics, report: Report) -> dict[str, np.ndarray]:
    """Actuators' fields. One that is disabled keeps its place in ctrl and act, but does nothing and holds its act."""
    import mujoco

    on = _acting(m)
    on_tendon = on & (m.actuator_trntype == mujoco.mjtTrn.mjTRN_TENDON)
    cranks, trnid = _cranks(m), np.array(m.actuator_trnid[:, 0])
    on_tendon[cranks], trnid[cranks] = True, m.ntendon + np.arange(len(cranks))
    on_site = on & (m.actuator_trntype == mujoco.mjtTrn.mjTRN_SITE)
    on_joint = np.isin(m.actuator_trntype, [mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_JOINTINPARENT])
    gear = np.array(m.actuator_gear)
    on_body = on & (m.actuator_trntype == mujoco.mjtTrn.mjTRN_BODY)
    kinds = [on_tendon, on_site, on_body]
    gear[~on_joint & ~np.any(kinds, axis=0)] = 0
    fields = {}
    # by kind, how many of its parameters a gain or a bias has here; MuJoCo passes over others that a file may give
    for name, without, used in (("gain", GAIN_FIXED, (1, 3, 0)), ("bias", BIAS_NONE, (0, 3, 0))):
        kind = np.where(on, getattr(m, f"actuator_{name}type"), without).astype(np.int32)
        parameters = np.array(getattr(m, f"actuator_{name}prm")[:, :3])
        has = on[:, None] & (np.arange(3) < np.take(used, kind)[:, None])
        fields[f"actuator_{name}type"], fields[f"actuator_{name}prm"] = kind, np.where(has, parameters, 0.0)
    has_act = on & (m.actuator_dyntype != mujoco.mjtDyn.mjDYN_NONE)
    fields.update(
        actuator_trntype=np.select(kinds, [TRN_TENDON, TRN_SITE, TRN_BODY], TRN_JOINT).astype(np.int32),
        actuator_trnid=np.where(on_joint | np.any(kinds, axis=0), trnid, 0).astype(np.int32),
        actuator_gear=gear,
        actuator_dyntype=np.where(has_act, m.actuator_dyntype, DYN_NONE).astype(np.int32),
        actuator_dynprm=np.array(m.actuator_dynprm[:, :3]),
        actuator_actadr=np.where(has_act, m.actuator_actadr, -1).astype(np.int32),
        actuator_actlimited=np.array(m.actuator_actlimited, bool),
        actuator_actrange=np.array(m.actuator_actrange, dtype=np.float64),
        actuator_ctrllimited=np.array(m.actuator_ctrllimited, bool),
        actuator_ctrlrange=np.array(m.actuator_ctrlrange, dtype=np.float64),
        actuator_forcelimited=np.array(m.actuator_forcelimited, bool),
        actuator_forcerange=np.array(m.actuator_forcerange, dtype=np.float64),
    )
    return {**fields, **_muscles(m, fields, numerics, report)}


def _muscles(m, fields: dict[str, np.ndarray], numerics, report: Report) -> dict[str, np.ndarray]:
    """Both laws' constants: MuJoCo's parameters in fibre lengths instead of in ranges of the transmission's length.

    MuJoCo normalises a length by L = range0 + (length - lengthrange0) / L0 ("Muscle actuators" in its documentation):
    L0 is the optimal length, and what lies between is the length of a rigid tendon.
    """
    pulls = fields["actuator_gaintype"] == GAIN_MUSCLE
    prm, strength, optimal, slack = _units(m, m.actuator_gainprm)
    short = pulls & ~(optimal > 0)
    report.add_where("actuator", short, "the muscle has no length range", 'give lengthrange="shortest longest"')
    optimal = np.where(pulls & ~short, optimal, 1.0)
    # the law divides by the fibre's largest speed
    still = pulls & ~short & ~(prm[:, 6] * optimal >= 1e-12)
    report.add_where("actuator", still, "the muscle's vmax is not positive", "give it a vmax, such as 1.5")
    # a bias may have other constants than the gain; a gain without a bias has no passive force
    passive_prm, passive_strength, passive_optimal, passive_slack = _units(m, m.actuator_biasprm)
    passive = pulls & (fields["actuator_biastype"] == BIAS_MUSCLE)
    ratio = passive_strength / np.maximum(strength, 1e-15)
    prm[:, 7] = np.where(passive, passive_prm[:, 7] * ratio, 0.0)
    # without one it stays so short that it does nothing
    stretch = np.where(passive, optimal / np.where(passive_optimal > 0, passive_optimal, 1.0), 0.0)
    shift = np.where(passive, (slack - passive_slack) / np.where(passive_optimal > 0, passive_optimal, 1.0), _SHORTEST)
    law, _ = choice(m, report, "muscle_law", LAWS, "muscle law")
    other = {"muscle_pennation": 0.0, "muscle_damping": _FIBRE_DAMPING}
    own = np.stack([_of_actuators(m, numerics, name, default, pulls) for name, default in other.items()], axis=1)
    constants = np.column_stack([prm[:, 4:9], passive_prm[:, 5], stretch, shift, own])
    return {
        "muscle_law": np.where(pulls | (fields["actuator_dyntype"] == DYN_MUSCLE), law, -1).astype(np.int32),
        "muscle_force": np.where(pulls, strength, 0.0),
        "muscle_optimal_length": optimal,
        "muscle_slack_length": np.where(pulls, slack, 0.0),
        "muscle_prm": np.where(pulls[:, None], constants, 0.0),
        **_elastic(m, numerics, report, pulls, law, slack, own[:, 1]),
    }


def _units(m, prm):
    """MuJoCo's nine parameters of muscles, their peak forces [N], optimal lengths and slack lengths [m]."""
    prm, lengthrange = np.array(prm[:, :9]), m.actuator_lengthrange
    strength = np.where(prm[:, 2] < 0, prm[:, 3] / np.maximum(m.actuator_acc0, 1e-15), prm[:, 2])
    optimal = (lengthrange[:, 1] - lengthrange[:, 0]) / np.maximum(prm[:, 1] - prm[:, 0], 1e-15)
    return prm, strength, optimal, lengthrange[:, 0] - prm[:, 0] * optimal


def _elastic(m, numerics, report: Report, pulls, law: int, slack, damping) -> dict[str, np.ndarray]:
    """Elastic tendons: their strain at the peak force, and its place in act, behind the activations."""
    elastic, i = choice(m, report, "muscle_tendon", TENDONS, "kind of tendon")
    if elastic and law != LAW_DEGROOTE:
        what, cure = "asks for elastic tendons, which MuJoCo's law of muscles has none of", "degroote_fregly"
        report.add("text", i, what, f'write <text name="muscle_law" data="{cure}"/>, or data="rigid" here')
    strain = _of_actuators(m, numerics, "muscle_strain", _STRAIN, pulls) * elastic
    small = (strain > 0) & (strain < _LEAST_STRAIN)
    what = f"the tendon's strain is below {_LEAST_STRAIN:g}"
    report.add_where("actuator", small, what, "write 0 in its numeric muscle_strain for a rigid tendon")
    loose = (strain > 0) & ~(slack > 0)
    cure = "lower the muscle's range, so that there is a tendon, or give it the numeric muscle_strain 0: a rigid one"
    report.add_where("actuator", loose, "an elastic tendon needs a slack length above 0", cure)
    free = (strain > 0) & (damping < _LEAST_DAMPING)
    cure = f"give it a muscle_damping of at least {_LEAST_DAMPING:g}"
    report.add_where("actuator", free, "a fibre on an elastic tendon needs damping, or nothing bounds its speed", cure)
    number = np.cumsum(strain > 0)
    adr = np.where(strain > 0, m.na + number - 1, -1).astype(np.int32)
    return {"muscle_tendon_strain": strain, "muscle_tendonadr": adr, "na": int(m.na + number[-1:].sum())}


def _of_actuators(m, numerics, name: str, default: float, pulls) -> np.ndarray:
    """A number per muscle from the numerics `name` and, for one of them, `name:ACTUATOR`."""
    names = [element_name(m, "actuator", i) for i in range(m.nu)]
    numerics.refuse_strangers(f"{name}:", {names[u] for u in np.flatnonzero(pulls)} - {""}, "a muscle")

    everywhere = numerics.get(name, default)
    return np.array([numerics.get(f"{name}:{names[u]}", everywhere) if pulls[u] else 0.0 for u in range(m.nu)])
