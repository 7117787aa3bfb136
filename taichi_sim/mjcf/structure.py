"""The shape of a `Model`: arrays that fit each other, and indices that point at something.

MuJoCo's compiler sees to that. A file of arrays or an edited `mujoco.MjModel` may say anything, and what follows a
wrong index reads the memory of others, or never comes to an end.
"""

from __future__ import annotations

import numpy as np

from taichi_sim.contact import points
from taichi_sim.types import (
    CONTACT_DATA,
    DYN_NONE,
    EQ_CONNECT,
    EQ_JOINT,
    EQ_TENDON,
    EQ_WELD,
    GAIN_MUSCLE,
    GEOM_HFIELD,
    GEOM_MESH,
    JNT_BALL,
    JNT_FREE,
    JNT_HINGE,
    JNT_SLIDE,
    LAW_DEGROOTE,
    OBJ_BODY,
    OBJ_GEOM,
    OBJ_SITE,
    OBJ_XBODY,
    SENSORS,
    TRN_BODY,
    TRN_JOINT,
    TRN_SITE,
    TRN_TENDON,
    WRAP_CRANK,
    WRAP_CYLINDER,
    WRAP_JOINT,
    WRAP_PULLEY,
    WRAP_SITE,
    WRAP_SPHERE,
    ZONES,
    Model,
)

# Shapes by field, as in the table of `Model`: numbers of elements by the array that has one entry each, and widths.
_SHAPES = {
    **dict.fromkeys(("qpos0", "qpos_spring"), ("nq",)),
    **dict.fromkeys(("body_parentid", "body_mass", "body_gravcomp", "body_jntadr", "body_jntnum"), ("nbody",)),
    "body_mocapid": ("nbody",),
    **dict.fromkeys(("body_pos", "body_inertia", "body_ipos"), ("nbody", 3)),
    **dict.fromkeys(("body_quat", "body_iquat"), ("nbody", 4)),
    **dict.fromkeys(("jnt_type", "jnt_bodyid", "jnt_qposadr", "jnt_dofadr", "jnt_limited"), ("njnt",)),
    **dict.fromkeys(("jnt_limit_ke", "jnt_limit_kd", "jnt_limit_loss", "jnt_stiffness"), ("njnt",)),
    **dict.fromkeys(("jnt_actgravcomp", "jnt_actfrclimited", "jnt_limit_invweight"), ("njnt",)),
    "jnt_limit_ref": ("njnt", 2),
    "jnt_limit_solimp": ("njnt", 5),
    **dict.fromkeys(("jnt_pos", "jnt_axis"), ("njnt", 3)),
    **dict.fromkeys(("jnt_range", "jnt_actfrcrange"), ("njnt", 2)),
    **dict.fromkeys(("dof_bodyid", "dof_jntid", "dof_armature", "dof_damping"), ("nv",)),
    **dict.fromkeys(("dof_frictionloss", "dof_friction_kf", "dof_friction_mass"), ("nv",)),
    **dict.fromkeys(("geom_type", "geom_bodyid", "geom_group", "geom_dataid"), ("ngeom",)),
    **dict.fromkeys(("geom_pos", "geom_size"), ("ngeom", 3)),
    **dict.fromkeys(("geom_quat", "geom_rgba"), ("ngeom", 4)),
    **dict.fromkeys(("mesh_vertadr", "mesh_vertnum", "mesh_faceadr", "mesh_facenum"), ("nmesh",)),
    **dict.fromkeys(("mesh_hulladr", "mesh_hullnum"), ("nmesh",)),
    "geom_hfieldid": ("ngeom",),
    "geom_fluid": ("ngeom", 12),
    **dict.fromkeys(("hfield_adr", "hfield_nrow", "hfield_ncol"), ("nhfield",)),
    "hfield_size": ("nhfield", 4),
    "hfield_data": ("nhfieldnode",),
    "mesh_vert": ("nmeshvert", 3),
    "mesh_face": ("nmeshface", 3),
    "mesh_hull": ("nmeshhull",),
    **dict.fromkeys(("pair_geom1", "pair_geom2", "pair_ke", "pair_kd", "pair_kc", "pair_kf"), ("npair",)),
    **dict.fromkeys(("pair_mu", "pair_loss", "pair_margin", "pair_gap", "pair_invweight", "pair_dim"), ("npair",)),
    **dict.fromkeys(("pair_ref", "pair_across"), ("npair", 2)),
    "pair_solimp": ("npair", 5),
    **dict.fromkeys(("pair_spin_kf", "pair_spin_mu", "pair_roll_kf", "pair_roll_mu"), ("npair",)),
    **dict.fromkeys(("eq_joint1", "eq_joint2"), ("neq",)),
    "eq_polycoef": ("neq", 5),
    **dict.fromkeys(("loop_type", "loop_obj1", "loop_obj2", "loop_torquescale"), ("nloop",)),
    **dict.fromkeys(("loop_stiffness", "loop_damping"), ("nloop",)),
    **dict.fromkeys(("loop_pos1", "loop_pos2"), ("nloop", 3)),
    **dict.fromkeys(("loop_quat1", "loop_quat2"), ("nloop", 4)),
    **dict.fromkeys(("loop_polycoef", "loop_solimp"), ("nloop", 5)),
    **dict.fromkeys(("loop_ref", "loop_invweight"), ("nloop", 2)),
    **dict.fromkeys(("site_bodyid", "site_type"), ("nsite",)),
    **dict.fromkeys(("site_pos", "site_size"), ("nsite", 3)),
    "site_quat": ("nsite", 4),
    **dict.fromkeys(("wrap_type", "wrap_objid", "wrap_prm"), ("nwrap",)),
    **dict.fromkeys(("tendon_adr", "tendon_num", "tendon_stiffness", "tendon_damping"), ("ntendon",)),
    "tendon_width": ("ntendon",),
    **dict.fromkeys(("tendon_frictionloss", "tendon_friction_kf", "tendon_friction_mass"), ("ntendon",)),
    **dict.fromkeys(("tendon_friction_rate", "tendon_limit_invweight"), ("ntendon",)),
    **dict.fromkeys(("tendon_limited", "tendon_limit_ke", "tendon_limit_kd", "tendon_limit_loss"), ("ntendon",)),
    **dict.fromkeys(("tendon_lengthspring", "tendon_range", "tendon_limit_ref"), ("ntendon", 2)),
    "tendon_limit_solimp": ("ntendon", 5),
    "tendon_rgba": ("ntendon", 4),
    **dict.fromkeys(("actuator_trntype", "actuator_trnid", "actuator_dyntype", "actuator_actadr"), ("nu",)),
    **dict.fromkeys(("actuator_gaintype", "actuator_biastype", "actuator_actlimited"), ("nu",)),
    **dict.fromkeys(("actuator_ctrllimited", "actuator_forcelimited"), ("nu",)),
    **dict.fromkeys(("muscle_law", "muscle_force", "muscle_optimal_length", "muscle_slack_length"), ("nu",)),
    **dict.fromkeys(("muscle_tendon_strain", "muscle_tendonadr"), ("nu",)),
    **dict.fromkeys(("actuator_actrange", "actuator_ctrlrange", "actuator_forcerange"), ("nu", 2)),
    **dict.fromkeys(("actuator_dynprm", "actuator_gainprm", "actuator_biasprm"), ("nu", 3)),
    **dict.fromkeys(("sensor_type", "sensor_dim", "sensor_objtype", "sensor_objid"), ("nsensor",)),
    **dict.fromkeys(("sensor_reftype", "sensor_refid", "sensor_cutoff"), ("nsensor",)),
    "sensor_intprm": ("nsensor", 3),
    "actuator_gear": ("nu", 6),
    "muscle_prm": ("nu", 10),
}
# Numbers that a file does not state: as many as that array has entries.
_COUNTED = {
    "nbody": "body_parentid",
    "njnt": "jnt_type",
    "ngeom": "geom_type",
    "nmesh": "mesh_vertadr",
    "nhfield": "hfield_adr",
    "nhfieldnode": "hfield_data",
    "nmeshvert": "mesh_vert",
    "nmeshface": "mesh_face",
    "nmeshhull": "mesh_hull",
    "npair": "pair_geom1",
    "neq": "eq_joint1",
    "nloop": "loop_type",
    "nsite": "site_bodyid",
    "nwrap": "wrap_type",
    "ntendon": "tendon_adr",
    "nsensor": "sensor_type",
}
_NAMED = {
    **{"body": "nbody", "joint": "njnt", "geom": "ngeom", "site": "nsite", "tendon": "ntendon", "actuator": "nu"},
    "sensor": "nsensor",
}
# Types by the ends of fields' names; the others are float64.
_FLAGS = ("limited", "actgravcomp")
_INTEGERS = (
    *("id", "adr", "num", "type", "law", "group", "geom1", "geom2", "joint1", "joint2", "obj1", "obj2"),
    *("mesh_face", "mesh_hull", "nrow", "ncol", "pair_dim", "sensor_dim", "sensor_intprm"),
)
# Indices and codes by field: the lowest, and how many there are.
_INDICES = {
    "body_parentid": (0, "nbody"),
    "geom_bodyid": (0, "nbody"),
    "geom_dataid": (-1, "nmesh"),
    "geom_hfieldid": (-1, "nhfield"),
    "geom_type": (0, 8),
    "site_bodyid": (0, "nbody"),
    "site_type": (0, 8),
    "jnt_type": (0, 4),
    "jnt_bodyid": (0, "nbody"),
    "dof_jntid": (0, "njnt"),
    "pair_geom1": (0, "ngeom"),
    "pair_geom2": (0, "ngeom"),
    "eq_joint1": (0, "njnt"),
    "eq_joint2": (-1, "njnt"),
    "loop_type": (0, 4),
    "wrap_type": (1, 7),
    "actuator_actadr": (-1, "na"),
    "actuator_dyntype": (0, 5),
    "actuator_gaintype": (0, 3),
    "actuator_biastype": (0, 3),
    "muscle_law": (-1, 2),
    "muscle_tendonadr": (-1, "na"),
    "sensor_type": (-1, len(SENSORS)),
}
# What MuJoCo has under another meaning, or more kinds of.
_OURS = ("geom_dataid", "geom_hfieldid", "geom_type", "actuator_", "eq_", "loop_", "muscle_", "sensor_type")


class StructureError(ValueError):
    """Arrays do not fit each other; the message names one."""


def check(model: Model) -> None:
    """Raise `StructureError` if the arrays of a `Model` do not fit each other."""
    sizes = _sizes(model)
    for name, shape in _SHAPES.items():
        _check_array(name, getattr(model, name), tuple(sizes.get(n, n) for n in shape))
    _require(set(model.names) == set(_NAMED), "names", f"must have the kinds {', '.join(_NAMED)}")
    for kind, size in _NAMED.items():
        names = model.names[kind]
        fits = isinstance(names, list) and len(names) == sizes[size] and all(isinstance(x, str) for x in names)
        _require(fits, f"names of kind {kind}", f"must be {sizes[size]} strings")
    for name, (low, end) in _INDICES.items():
        _check_indices(name, getattr(model, name), low, sizes.get(end, end))
    _check_bodies(model, sizes)
    _check_meshes(model)
    _check_pairs(model)
    _check_equalities(model)
    _check_loops(model, sizes)
    _check_tendons(model, sizes)
    _check_actuators(model, sizes)
    check_sensors(model)


def check_compiled(mj_model) -> None:
    """Raise `StructureError` if somebody has edited a `mujoco.MjModel`'s indices, and so that MuJoCo would crash."""
    sizes = {n: getattr(mj_model, n) for n in ("nq", "nv", "nbody", "njnt", "ngeom", "nsite", "ntendon", "nwrap")}
    for name, (low, end) in _INDICES.items():
        if not name.startswith(_OURS):
            _check_indices(name, getattr(mj_model, name), low, sizes.get(end, end))
    _check_bodies(mj_model, sizes)
    _check_paths(mj_model, sizes)


def _require(holds, name: str, what: str) -> None:
    if not holds:
        raise StructureError(f"{name} {what}")


def _sizes(model: Model) -> dict[str, int]:
    sizes = {}
    for name in ("nq", "nv", "nu", "na"):
        sizes[name] = number = getattr(model, name)
        _require(type(number) is int and number >= 0, name, "must be a number of elements")
    for name, array in _COUNTED.items():
        found = getattr(model, array)
        _require(isinstance(found, np.ndarray) and found.ndim > 0, array, "must be an array")
        sizes[name] = len(found)
    _require(sizes["nbody"] > 0 and sizes["nv"] > 0, "the model", "must have bodies that move")
    return sizes


def _check_array(name: str, array, shape: tuple[int, ...]) -> None:
    integer = name.endswith(_INTEGERS) and name != "geom_fluid"
    dtype = np.bool_ if name.endswith(_FLAGS) else np.int32 if integer else np.float64
    fits = isinstance(array, np.ndarray) and array.dtype == dtype and array.shape == shape
    found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
    _require(fits, name, f"must be {np.dtype(dtype)} {shape}, not {found}")


def _check_indices(name: str, values, low: int, end: int) -> None:
    wrong = np.flatnonzero((values < low) | (values >= end))
    if len(wrong):
        raise StructureError(f"{name} must be from {low} to {end - 1}, not {values[wrong[0]]:g}")


def _check_bodies(m, sizes: dict[str, int]) -> None:
    """Parents come before their children, joints in the order of their bodies, dofs in that of the joints."""
    number = np.arange(sizes["nbody"])
    _require(np.all(m.body_parentid[1:] < number[1:]) and m.body_parentid[0] == 0, "body_parentid", "must point back")
    _require(np.all(np.diff(m.jnt_bodyid) >= 0) and np.all(m.jnt_bodyid > 0), "jnt_bodyid", "must not decrease")
    count = np.bincount(m.jnt_bodyid, minlength=sizes["nbody"])
    first = np.where(count > 0, np.cumsum(count) - count, -1)
    dofs, coordinates = np.array([6, 3, 1, 1])[m.jnt_type], np.array([7, 4, 1, 1])[m.jnt_type]
    expected = {
        "body_jntnum": count,
        "body_jntadr": first,
        "jnt_dofadr": np.cumsum(dofs) - dofs,
        "jnt_qposadr": np.cumsum(coordinates) - coordinates,
        "dof_jntid": np.repeat(np.arange(sizes["njnt"]), dofs),
        "dof_bodyid": np.repeat(m.jnt_bodyid, dofs),
    }
    _require(dofs.sum() == sizes["nv"] and coordinates.sum() == sizes["nq"], "nq and nv", "must be the joints'")
    for name, values in expected.items():
        _require(np.array_equal(getattr(m, name), values), name, "must follow from the joints")
    moved = m.body_mocapid >= 0
    _require(np.array_equal(np.sort(m.body_mocapid[moved]), np.arange(moved.sum())), "body_mocapid", "must count")
    held = np.all(m.body_parentid[moved] == 0) and np.all(count[moved] == 0) and not moved[0]
    _require(held, "body_mocapid", "must be of children of the world without joints")
    free = m.jnt_bodyid[m.jnt_type == JNT_FREE]
    alone = np.all(m.body_parentid[free] == 0) and np.all(count[free] == 1)
    _require(alone, "jnt_type", "must not be free but for the only joint of a child of the world")


def _check_segments(adr_name: str, adr, num, total: int) -> None:
    _require(
        np.all((adr >= 0) & (num >= 0) & (adr <= total - num.clip(0))), adr_name, f"must lie within {total} entries"
    )


def _check_meshes(m: Model) -> None:
    for part, array in (("vert", m.mesh_vert), ("face", m.mesh_face), ("hull", m.mesh_hull)):
        adr, num = getattr(m, f"mesh_{part}adr"), getattr(m, f"mesh_{part}num")
        _check_segments(f"mesh_{part}adr", adr, num, len(array))
        if part != "vert":
            for mesh in range(len(adr)):
                indices = array[adr[mesh] :][: num[mesh]].ravel()
                _check_indices(f"mesh_{part}", indices, 0, m.mesh_vertnum[mesh])
    _check_segments("hfield_adr", m.hfield_adr, m.hfield_nrow * m.hfield_ncol, len(m.hfield_data))
    _require(np.all((m.hfield_nrow > 1) & (m.hfield_ncol > 1)), "hfield_nrow and hfield_ncol", "must be at least 2")
    of_field = m.geom_hfieldid[m.geom_type == GEOM_HFIELD]
    _require(np.all(of_field >= 0), "geom_hfieldid", "must name the field of every height field")
    _require(
        np.all(m.geom_dataid[m.geom_type == GEOM_MESH] >= 0), "geom_dataid", "must name the mesh of every mesh geom"
    )


def _check_pairs(m: Model) -> None:
    kinds = set(zip(m.geom_type[m.pair_geom1].tolist(), m.geom_type[m.pair_geom2].tolist(), strict=True))
    _require(kinds <= points.SUPPORTED, "pair_geom1 and pair_geom2", "must be kinds of geoms that can touch")


def _check_equalities(m: Model) -> None:
    one, two = m.eq_joint1, m.eq_joint2[m.eq_joint2 >= 0]
    scalar = np.isin(m.jnt_type[np.append(one, two)], [JNT_SLIDE, JNT_HINGE])
    _require(np.all(scalar), "eq_joint1 and eq_joint2", "must be slides or hinges")
    once = len(np.unique(one)) == len(one) and not np.isin(two, one).any()
    _require(once, "eq_joint1", "must be determined once, and determine no other joint")
    _require(not (len(one) and len(m.loop_type)), "eq_joint1", "must be empty where there are loops")


def _check_loops(m: Model, sizes: dict[str, int]) -> None:
    for kinds, end in (((EQ_CONNECT, EQ_WELD), "nbody"), ((EQ_JOINT,), "njnt"), ((EQ_TENDON,), "ntendon")):
        those = np.isin(m.loop_type, kinds)
        # what is between bodies has two of them
        for name, low in (("loop_obj1", 0), ("loop_obj2", 0 if end == "nbody" else -1)):
            _check_indices(name, getattr(m, name)[those], low, sizes[end])
    joints = np.concatenate([m.loop_obj1, m.loop_obj2])[np.tile(m.loop_type == EQ_JOINT, 2)]
    scalar = np.isin(m.jnt_type[joints[joints >= 0]], [JNT_SLIDE, JNT_HINGE])
    _require(np.all(scalar), "loop_obj1 and loop_obj2", "must be slides or hinges")


def _check_tendons(m: Model, sizes: dict[str, int]) -> None:
    _check_paths(m, sizes)
    for start, number in zip(m.tendon_adr, m.tendon_num, strict=True):
        kinds = m.wrap_type[start : start + number]
        around = np.flatnonzero(np.isin(kinds, [WRAP_SPHERE, WRAP_CYLINDER]))
        ends = np.concatenate([around - 1, around + 1])
        fits = np.all((ends >= 0) & (ends < number)) and np.all(kinds[ends] == WRAP_SITE)
        _require(fits, "wrap_type", "must have a site before and after a geom")
        fixed = kinds == WRAP_JOINT
        _require(number > 0 and (fixed.all() or not fixed.any()), "wrap_type", "must be joints only, or none")
        crank = WRAP_CRANK not in kinds or list(kinds) == [WRAP_CRANK, WRAP_SITE]
        _require(crank, "wrap_type", "must have a site alone behind a slider-crank")
    divisors = m.wrap_prm[m.wrap_type == WRAP_PULLEY]
    _require(np.all(divisors > 0), "wrap_prm", "must have positive divisors")


def _check_paths(m, sizes: dict[str, int]) -> None:
    _check_segments("tendon_adr", m.tendon_adr, m.tendon_num, sizes["nwrap"])
    targets = {WRAP_JOINT: "njnt", WRAP_SPHERE: "ngeom", WRAP_CYLINDER: "ngeom"}
    targets |= dict.fromkeys((WRAP_SITE, WRAP_CRANK), "nsite")
    for kind, size in targets.items():
        _check_indices("wrap_objid", m.wrap_objid[m.wrap_type == kind], 0, sizes[size])
    joints = m.wrap_objid[m.wrap_type == WRAP_JOINT]
    _require(np.all(np.isin(m.jnt_type[joints], [JNT_SLIDE, JNT_HINGE])), "wrap_objid", "must be slides or hinges")
    around = np.isin(m.wrap_type, [WRAP_SPHERE, WRAP_CYLINDER])
    # what is not a number belongs to `values`
    _check_indices("wrap_prm", np.nan_to_num(m.wrap_prm[around]).round(), -1, sizes["nsite"])


def _check_actuators(m: Model, sizes: dict[str, int]) -> None:
    kinds = {TRN_JOINT: "njnt", TRN_TENDON: "ntendon", TRN_SITE: "nsite", TRN_BODY: "nbody"}
    _require(np.all(np.isin(m.actuator_trntype, list(kinds))), "actuator_trntype", "must be joint, tendon, site, body")
    for kind, size in kinds.items():
        _check_indices("actuator_trnid", m.actuator_trnid[m.actuator_trntype == kind], 0, sizes[size])
    acts = np.concatenate([m.actuator_actadr, m.muscle_tendonadr])
    acts = acts[acts >= 0]
    _require(len(np.unique(acts)) == len(acts), "actuator_actadr and muscle_tendonadr", "must differ")
    elastic = m.muscle_tendonadr >= 0
    _require(np.array_equal(elastic, m.muscle_tendon_strain > 0), "muscle_tendonadr", "must be that of elastic tendons")
    pulls = (m.muscle_law == LAW_DEGROOTE) & (m.actuator_gaintype == GAIN_MUSCLE)
    fits = pulls & (m.muscle_slack_length > 0) & (m.muscle_prm[:, -1] > 0)
    _require(np.all(fits[elastic]), "muscle_tendonadr", "must be of muscles whose tendon can be elastic")
    has_act = m.actuator_dyntype != DYN_NONE
    _require(np.array_equal(m.actuator_actadr >= 0, has_act), "actuator_actadr", "must be that of the dynamics")


def check_sensors(m: Model) -> None:
    """Raise `StructureError` if sensors that are read look at what is not there."""
    frames = {OBJ_BODY: m.nbody, OBJ_XBODY: m.nbody, OBJ_GEOM: m.ngeom, OBJ_SITE: len(m.site_bodyid)}
    ends = {"joint": m.njnt, "ball": m.njnt, "tendon": m.ntendon, "actuator": m.nu, "subtree": m.nbody}
    for k in np.flatnonzero(m.sensor_type >= 0):
        name, obj = SENSORS[m.sensor_type[k]], m.sensor_objid[k]
        if name == "contact":
            _check_contact_sensor(m, k, frames)
            continue
        start = next((start for start in ends if name.startswith(start)), "")
        end = ends.get(start, len(m.site_bodyid))
        if name.startswith("frame"):
            _require(m.sensor_objtype[k] in frames, "sensor_objtype", "must be a body, a geom or a site")
            end = frames[m.sensor_objtype[k]]
            if m.sensor_refid[k] >= 0:
                _require(m.sensor_reftype[k] in frames, "sensor_reftype", "must be a body, a geom or a site")
                _check_indices("sensor_refid", m.sensor_refid[k : k + 1], 0, frames[m.sensor_reftype[k]])
        _check_indices("sensor_objid", m.sensor_objid[k : k + 1], 0, end)
        if start in ("joint", "ball"):
            kinds = (JNT_BALL,) if start == "ball" else (JNT_SLIDE, JNT_HINGE)
            _require(m.jnt_type[obj] in kinds, "sensor_objid", "must be a joint that the sensor can read")
        if name == "touch":
            _check_zone(m, obj)
        single = name == "touch" or start in ("joint", "tendon", "actuator")
        width = 4 if name.endswith("quat") else 1 if single else 3
        _require(m.sensor_dim[k] == width, "sensor_dim", f"must be {width} of a {name}")


def _check_contact_sensor(m: Model, k: int, frames: dict[int, int]) -> None:
    ends = {"obj": frames, "ref": {kind: end for kind, end in frames.items() if kind != OBJ_SITE}}
    for which, kinds in ends.items():
        kind, index = (getattr(m, f"sensor_{which}{part}")[k : k + 1] for part in ("type", "id"))
        _require(kind[0] in {0, *kinds}, f"sensor_{which}type", "must be of what a contact's sensor can look at")
        if kind[0]:
            _check_indices(f"sensor_{which}id", index, 0, kinds[kind[0]])
            if kind[0] == OBJ_SITE:
                _check_zone(m, index[0])
    fields, order, number = (int(x) for x in m.sensor_intprm[k])
    _require(
        0 < fields < 2 ** len(CONTACT_DATA) and 0 <= order < 4 and number > 0, "sensor_intprm", "must be a contact's"
    )
    width = sum(n for bit, n in enumerate(CONTACT_DATA.values()) if fields >> bit & 1)
    _require(m.sensor_dim[k] == number * width, "sensor_dim", f"must be {number} times {width} of a contact")


def _check_zone(m: Model, site: int) -> None:
    _require(m.site_type[site] in ZONES, "site_type", "must be a sphere, a capsule, an ellipsoid, a cylinder or a box")
