"""Numbers that no model can mean: not finite, or too large for single precision; frames that are none."""

from __future__ import annotations

import numpy as np

from taichi_sim.mjcf.report import Report
from taichi_sim.option import MOST_SUBSTEPS

# The largest number of a model [SI]: a moment of inertia, mass times length squared, is then at most 1e36, and single
# precision ends at 3.4e38. Published models stay below 1e5.
LARGEST = 1e12
# What is computed from them, such as the stiffness of a limit from inertia and time constant: its square is a number.
_LARGEST_DERIVED = 1e18
_DERIVED = ("pair_", "loop_", "muscle_", "jnt_limit_", "tendon_limit_", "dof_friction_", "tendon_friction_")
# In a shorter substep nothing of ordinary speed moves by as much as single precision resolves; in a longer one nothing
# of ordinary stiffness is stable.
_TIMESTEP = (1e-9, 10.0)
# Kinds of elements by their arrays' prefixes, and which element a row belongs to where it is not one row each.
_OWNERS = {
    "actuator_": ("actuator", None),
    "body_": ("body", None),
    "dof_": ("joint", lambda m: m.dof_jntid),
    "eq_": ("equality", None),
    "geom_": ("geom", None),
    "hfield_data": ("hfield", lambda m: _owner(m.hfield_adr, len(m.hfield_data))),
    "hfield_size": ("hfield", None),
    "loop_": ("equality", None),
    "jnt_": ("joint", None),
    "mat_rgba": ("material", None),
    "mesh_vert": ("mesh", lambda m: _owner(m.mesh_vertadr, len(m.mesh_vert))),
    "muscle_": ("actuator", None),
    "pair_": ("contact pair", None),
    "qpos": ("joint", lambda m: np.repeat(np.arange(len(m.jnt_type)), np.array([7, 4, 1, 1])[m.jnt_type])),
    "site_": ("site", None),
    "tendon_": ("tendon", None),
    "wrap_": ("tendon", lambda m: _owner(m.tendon_adr, len(m.wrap_type))),
}
# What MuJoCo computes from the rest, and what the importer leaves out.
_UNUSED = (
    *("_user", "_aabb", "_rbound", "_subtreemass", "_invweight0", "_M0", "_acc0", "_length0", "dof_length"),
    *("site_rgba", "_cranklength"),
)
_OPTIONS = ("gravity", "density", "viscosity", "wind")
# Negative ones would make the mass matrix indefinite, or contacts and limits pull.
_NOT_NEGATIVE = (
    *("body_mass", "body_inertia", "dof_armature", "geom_size", "pair_ke", "pair_kd", "pair_kf", "pair_mu"),
    *("pair_spin_kf", "pair_spin_mu", "pair_roll_kf", "pair_roll_mu", "pair_across"),
    *("jnt_limit_ke", "jnt_limit_kd", "tendon_limit_ke", "tendon_limit_kd", "muscle_force"),
    *("jnt_limit_loss", "tendon_limit_loss", "pair_loss", "density", "viscosity"),
    "muscle_tendon_strain",
    *("dof_frictionloss", "dof_friction_kf", "dof_friction_mass"),
    *("tendon_frictionloss", "tendon_friction_kf", "tendon_friction_mass"),
)
# Directions and rotations, which the engine takes to be of length 1.
_UNIT = ("body_quat", "body_iquat", "geom_quat", "site_quat", "jnt_axis")


def check_compiled(mj_model, report: Report) -> None:
    """Report the numbers of a `mujoco.MjModel` that are not finite or too large, but for those that nothing reads."""
    _check(mj_model, _arrays(mj_model), LARGEST, report)
    _check_option(mj_model.opt, report)


def check_derived(model, report: Report) -> None:
    """Report what the loader has computed of a `Model` and kernels cannot use; elements are those of the Model."""
    pairs = np.stack([model.pair_geom1, model.pair_geom2], axis=1)
    arrays = {name: values for name, values in _arrays(model).items() if name.startswith(_DERIVED)}
    _check(model, arrays, _LARGEST_DERIVED, report, pairs)


def check_saved(model, report: Report) -> None:
    """Report every such number of a `Model` that was read from a file."""
    arrays = {name: values for name, values in _arrays(model).items() if not name.startswith(_DERIVED)}
    _check(model, arrays, LARGEST, report)
    check_derived(model, report)
    _check_option(model.opt, report)
    if not 1 <= model.opt.substeps <= MOST_SUBSTEPS:
        report.add_setting("option", f"substeps is {model.opt.substeps}", f"take 1 to {MOST_SUBSTEPS}")
    if not 0 <= model.opt.theta <= 1:
        report.add_setting("option", f"theta is {model.opt.theta:g}", "take 0 to 1")


def _arrays(m) -> dict[str, np.ndarray]:
    """The real numbers of a model's elements, by field."""
    found = {}
    for name in dir(m):
        if name.startswith(tuple(_OWNERS)) and not name.endswith(_UNUSED):
            values = getattr(m, name)
            if isinstance(values, np.ndarray) and values.dtype.kind == "f" and values.size:
                found[name] = values
    return found


def _check(m, arrays: dict[str, np.ndarray], largest: float, report: Report, pairs=None) -> None:
    for name, values in arrays.items():
        prefix = next(prefix for prefix in _OWNERS if name.startswith(prefix))
        kind, owner = _OWNERS[prefix]
        rows = values.reshape(len(values), -1)
        wrong = np.flatnonzero(_wrong(name, rows, largest).any(axis=1))
        elements, first = np.unique(wrong if owner is None else owner(m)[wrong], return_index=True)
        field = name if prefix == "qpos" else name.partition("_")[2]
        for element, row in zip(elements, wrong[first], strict=True):
            what, cure = f"{field} is {' '.join(f'{x:g}' for x in rows[row])}", _cure(name, largest)
            if pairs is not None and kind == "contact pair":
                report.add("geom", pairs[row], f"their contact's {what}", cure)
            else:
                report.add(kind, element, what, cure)
    for name in sorted(set(_UNIT) & set(arrays)):
        length = np.linalg.norm(arrays[name], axis=1)
        # what is not a number is reported already
        off = np.isfinite(length) & (np.abs(length - 1) > 1e-3)
        kind, field = _OWNERS[f"{name.partition('_')[0]}_"][0], name.partition("_")[2]
        report.add_where(kind, off, f"{field} is not of length 1", "normalise it")


def _cure(name: str, largest: float) -> str:
    if name.startswith(_DERIVED):
        return "it follows from masses, lengths, time constants and the timestep: bring these to ordinary sizes"
    finite = f"write finite numbers of at most {largest:g}" + ", or inf for an open end" * name.endswith("range")
    return finite + ", and not below 0" * (name in _NOT_NEGATIVE)


def _wrong(name: str, values: np.ndarray, largest: float) -> np.ndarray:
    """Which numbers are wrong, bool, the shape of `values`."""
    # no comparison holds for what is not a number
    wrong = ~(np.abs(values) <= largest)
    if name in _NOT_NEGATIVE:
        wrong |= values < 0
    if name == "pair_kc":
        # infinite where damping is implicit
        wrong &= values != np.inf
    if name.endswith("range"):
        # may be open to the outside
        wrong &= values != [-np.inf, np.inf]
    return wrong


def _check_option(option, report: Report) -> None:
    low, high = _TIMESTEP
    if not low <= option.timestep <= high:
        report.add_setting("option", f"timestep is {option.timestep:g}", f"take one from {low:g} to {high:g} s")
    for name in _OPTIONS:
        numbers = np.atleast_1d(getattr(option, name, 0.0))
        if np.any(_wrong(name, numbers, LARGEST)):
            what = f"{name} is {' '.join(f'{x:g}' for x in numbers)}"
            report.add_setting("option", what, f"write finite numbers of at most {LARGEST:g}")


def _owner(adr, rows: int) -> np.ndarray:
    """Which element each row belongs to, from where the elements' rows begin."""
    return np.searchsorted(adr, np.arange(rows), side="right") - 1
