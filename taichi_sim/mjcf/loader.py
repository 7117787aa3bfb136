"""MJCF to `Model`: compiled by mujoco, checked by `unsupported`, converted to the engine's arrays.

What the importer leaves out, because it moves no body: cameras, lights, textures, material properties other
than colour, skins, keyframes, user data, custom tuples, visual settings, groups other than those of geoms, sizes of
sites, the heights of height fields, and tendons and actuators whose stages are disabled. Settings of MuJoCo's solver
(`<option iterations tolerance ...>`) are not used: there is none here.
Everything else is simulated or refused.
"""

from __future__ import annotations

import os
from functools import partial
from importlib import resources
from pathlib import Path

import numpy as np

from taichi_sim.bodies.integrators.choice import EULER, IMPLICIT, IMPLICITFAST, RK4, THETA, refusal
from taichi_sim.bodies.tree import lone
from taichi_sim.mjcf import actuators, compiler, inertia, loops, npz, sensors, structure, values
from taichi_sim.mjcf.constraint import LOSS, friction_gains, reference_gains, stop_gains
from taichi_sim.mjcf.contact_pairs import Pairs, gains, inverse_mass
from taichi_sim.mjcf.numerics import Numerics, choice
from taichi_sim.mjcf.report import ModelError, Report, check_names, element_name, said
from taichi_sim.mjcf.unsupported import find, simulated_pairs, stages
from taichi_sim.types import CONES, GEOM_HFIELD, GEOM_MESH, JNT_BALL, LAWS, Model, Option

# What MuJoCo compiles, by the ends of files' names, and all that `load` takes, in words.
_COMPILED = (".xml", ".mjcf", ".urdf")
_ENDINGS = f"{', '.join(_COMPILED)} or .npz"
# Contact parameters that a file may state, as `<numeric name="contact_ke">` and so on.
_CONTACT_NUMERICS = ("ke", "kd", "kf", "mu")


def load(source, *, unsupported_contacts: str = "refuse") -> Model:
    """Read a model.

    Args:
        source: the name of a body that comes with the package ("cartpole"), a path to MJCF (.xml, .mjcf), URDF (.urdf)
            or a saved model (.npz), a `mujoco.MjModel`, or a `mujoco.MjSpec`.
        unsupported_contacts: what becomes of pairs of geoms that could touch but whose contact is not simulated:
            "refuse" the model, or "skip" them, so that these geoms pass through each other.

    Penalty joint limits take their stiffness and damping from `<custom><numeric name="limit_ke">` and `"limit_kd"`, for
    one joint `"limit_ke:JOINT"` and `"limit_kd:JOINT"`, else from MuJoCo's `solreflimit` and `solimplimit`. A limit's
    `margin` narrows its range, as it does there. Contacts take the four numbers of `taichi_sim.contact.law` from the
    numerics `contact_ke`, `contact_kd`, `contact_kf` and `contact_mu`, else from MuJoCo's `solref`, `solimp` and
    `friction`; between moving bodies, where they are explicit, friction and damping are bounded by what the timestep
    keeps stable. The numerics `substeps` and `theta` set the options of those names. Without `theta` the file's
    integrator is taken as far as it is simulated (docs/models.md); where Runge-Kutta's is not, in place of its one step
    without `substeps` are four of our own. By MuJoCo's integrators equalities of joints are rows of the solver, in our
    own step substituted.

    Muscles follow MuJoCo's law, or with `<custom><text name="muscle_law" data="degroote_fregly"/>` De Groote and
    Fregly's; that one's pennation [rad] and fibre damping come from the numerics `muscle_pennation` (0) and
    `muscle_damping` (0.01), for one muscle `muscle_pennation:ACTUATOR` and `muscle_damping:ACTUATOR`. With
    `<custom><text name="muscle_tendon" data="elastic"/>` its tendons are elastic, with the strain `muscle_strain`
    (0.049) or `muscle_strain:ACTUATOR` at the peak force; where that is 0, the tendon is rigid.

    Raises:
        FileNotFoundError: no such file, or no body of that name.
        ValueError: the file's name does not say what it holds, or no such `unsupported_contacts`.
        TypeError: no such source.
        ModelError: the file cannot be read or does not compile; MuJoCo's reason is in the message.
        UnsupportedModelError: it holds what the engine does not simulate, numbers that are not finite or above 1e12, or
            settings out of range; every such element is in the message.
    """
    if unsupported_contacts not in ("refuse", "skip"):
        raise ValueError(f"unsupported_contacts must be 'refuse' or 'skip', got {unsupported_contacts!r}")
    skip = unsupported_contacts == "skip"
    if isinstance(source, (str, os.PathLike)) and Path(source).suffix == ".npz":
        return npz.load(_existing(Path(source)))
    return _convert(*compiled(source), skip)


def compiled(source) -> tuple:
    """The `mujoco.MjModel` that `load` reads from the same source, its name, and its elements' lines by kind and id.

    Raises:
        FileNotFoundError, ValueError, TypeError, ModelError: as `load`; also a saved model (.npz), which holds no MJCF.
    """
    import mujoco

    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if isinstance(source, str) and not path.suffix and path.name == source:
            with resources.as_file(_asset(source)) as path:
                return _compiled(compiler.spec_of_file(path), str(path))
        if path.suffix not in _COMPILED:
            raise ValueError(f"cannot tell what {str(path)!r} holds: a model's file name ends in {_ENDINGS}")
        return _compiled(compiler.spec_of_file(_existing(path)), str(path))
    if isinstance(source, mujoco.MjSpec):
        return _compiled(source, compiler.name_of_spec(source))
    if isinstance(source, mujoco.MjModel):
        return source, "the MjModel", {}
    raise TypeError(
        f"cannot load a model from {type(source).__name__}: give the name of a body, a path, a mujoco.MjModel or a "
        "mujoco.MjSpec"
    )


def _asset(name: str):
    file = resources.files("taichi_sim.assets") / f"{name}.xml"
    if not file.is_file():
        raise FileNotFoundError(f"no body is called {name!r}; {_known_sources()}")
    return file


def _known_sources() -> str:
    names = sorted(
        path.name[:-4] for path in resources.files("taichi_sim.assets").iterdir() if path.name[-4:] == ".xml"
    )
    return f"the package has {', '.join(names)}; paths end in {_ENDINGS}"


def _existing(path: Path) -> Path:
    # unlike Path.is_file, also for names that no file can have
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file {str(path)!r}; {_known_sources()}")
    return path


def _compiled(spec, name: str) -> tuple:
    return compiler.compiled(spec, name), name, compiler.lines(spec)


def _convert(mj_model, name: str, lines: dict[tuple[str, int], str], skip: bool) -> Model:
    import mujoco

    try:
        structure.check_compiled(mj_model)
        # what is not finite goes through all of the rest and is reported in the end
        with np.errstate(all="ignore"):
            return _checked(mj_model, name, lines, skip)
    except structure.StructureError as error:
        raise ModelError(f"{name} is inconsistent: {error}") from None
    except mujoco.FatalError as error:
        raise ModelError(f"MuJoCo cannot compute with {name}: {said(error)}") from None


def _checked(mj_model, name: str, lines: dict[tuple[str, int], str], skip: bool) -> Model:
    report = Report(partial(element_name, mj_model), lines)
    values.check_compiled(mj_model, report)
    # MuJoCo's own functions do not take such numbers
    report.raise_if_any(name)
    pairs = Pairs(mj_model) if stages(mj_model).contact else None
    if skip and pairs is not None:
        pairs = pairs.only(simulated_pairs(mj_model, pairs))
    find(mj_model, pairs, report)
    model = _model(mj_model, pairs, report)
    structure.check_sensors(model)
    _choose_integrator(mj_model, model)
    # MuJoCo's integrators have it by themselves
    model.opt.coriolis = model.opt.integrator == THETA and _implicit_coriolis(mj_model)
    check_names(model.names, report)
    values.check_derived(model, report)
    report.raise_if_any(name)
    return model


def _model(mj_model, pairs: Pairs | None, report: Report) -> Model:
    numerics = Numerics(mj_model, report)
    option = _option(mj_model, numerics, report)
    if pairs is not None and option.constraint == "penalty":
        what = "friction that differs between two directions is not simulated by the penalty"
        cure = "give both directions one coefficient, or take MuJoCo's law of constraints"
        report.add("contact pair", pairs.explicit[pairs.uneven], what, cure)
    substep = option.timestep
    tendons = actuators.tendons(mj_model, substep, _refsafe(mj_model), report)
    return Model(
        nq=mj_model.nq,
        nv=mj_model.nv,
        nu=mj_model.nu,
        **_bodies_and_joints(mj_model),
        jnt_range=_limit_range(mj_model, report),
        **_limit_gains(mj_model, numerics, substep),
        **_friction(mj_model),
        **_geoms_and_sites(mj_model),
        **_contacts(mj_model, pairs, numerics, substep),
        **_equalities(mj_model, rows=_integrator(mj_model, option) is not None),
        **tendons,
        **actuators.actuators(mj_model, numerics, report),
        sensor_type=sensors.types(mj_model),
        sensor_intprm=sensors.parameters(mj_model),
        **_copies(mj_model, "sensor_dim", "sensor_objtype", "sensor_objid", "sensor_reftype", "sensor_refid"),
        **_copies(mj_model, "sensor_cutoff"),
        opt=option,
        names={
            kind: [element_name(mj_model, kind, i) for i in range(count)]
            for kind, count in (
                ("body", mj_model.nbody),
                ("joint", mj_model.njnt),
                ("geom", mj_model.ngeom),
                ("site", mj_model.nsite),
                ("tendon", len(tendons["tendon_adr"])),
                ("actuator", mj_model.nu),
                ("sensor", mj_model.nsensor),
            )
        },
    )


def _copies(mj_model, *names: str) -> dict[str, np.ndarray]:
    """Fields of the model by name, in the dtypes of `Model`: float64, int32 or bool, and not views."""
    fields = {name: np.array(getattr(mj_model, name)) for name in names}
    return {name: value.astype(np.float64) if value.dtype.kind == "f" else value for name, value in fields.items()}


def _bodies_and_joints(m) -> dict[str, np.ndarray]:
    return {
        **_copies(m, "qpos0", "qpos_spring", "body_parentid", "body_pos", "body_quat", "body_mass", "body_inertia"),
        **_copies(m, "body_ipos", "body_iquat", "body_jntadr", "body_jntnum", "body_mocapid"),
        **_copies(m, "jnt_type", "jnt_bodyid", "jnt_qposadr", "jnt_dofadr", "jnt_pos", "jnt_axis", "jnt_stiffness"),
        **_copies(m, "dof_bodyid", "dof_jntid", "dof_frictionloss"),
        "dof_armature": inertia.armature(m),
        "dof_damping": inertia.damping(m),
        **_copies(m, "jnt_actfrcrange"),
        "jnt_limited": np.array(m.jnt_limited, dtype=bool),
        "jnt_actfrclimited": np.array(m.jnt_actfrclimited, dtype=bool),
        "jnt_actgravcomp": np.array(m.jnt_actgravcomp, dtype=bool),
        # MuJoCo computes it with the passive forces
        "body_gravcomp": m.body_gravcomp * float(stages(m).passive),
    }


def _geoms_and_sites(m) -> dict[str, np.ndarray]:
    import mujoco

    # a signed distance field collides as such, but is drawn as its mesh
    is_mesh = np.isin(m.geom_type, [GEOM_MESH, mujoco.mjtGeom.mjGEOM_SDF])
    return {
        **_copies(m, "geom_bodyid", "geom_pos", "geom_quat", "geom_size", "geom_group", "geom_fluid"),
        **_copies(m, "mesh_vertadr", "mesh_vertnum", "mesh_vert", "mesh_faceadr", "mesh_facenum", "mesh_face"),
        **_copies(m, "site_bodyid", "site_pos", "site_quat", "site_type", "site_size"),
        "geom_type": np.where(is_mesh, GEOM_MESH, m.geom_type).astype(np.int32),
        "geom_hfieldid": np.where(m.geom_type == GEOM_HFIELD, m.geom_dataid, -1).astype(np.int32),
        **_copies(m, "hfield_adr", "hfield_nrow", "hfield_ncol", "hfield_size", "hfield_data"),
        "geom_dataid": np.where(is_mesh, m.geom_dataid, -1).astype(np.int32),
        "geom_rgba": actuators.colours(m, m.geom_rgba, m.geom_matid),
    }


def _option(m, numerics: Numerics, report: Report) -> Option:
    import mujoco

    on = stages(m)
    default = Option()
    substeps = numerics.get("substeps", None)
    theta = numerics.get("theta", default.theta)
    option = Option(
        timestep=float(m.opt.timestep),
        substeps=int(substeps or default.substeps),
        theta=theta,
        gravity=np.array(m.opt.gravity) if on.gravity else np.zeros(3),
        contact=on.contact,
        limit=on.limit,
        spring=on.spring,
        damper=on.damper,
        friction=on.frictionloss,
        actuation=on.actuation,
        clampctrl=on.clampctrl,
        equality=on.equality,
        constraint=_law(m, numerics, report),
        cone=CONES[m.opt.cone == mujoco.mjtCone.mjCONE_ELLIPTIC],
        impratio=float(m.opt.impratio),
        density=float(m.opt.density) * on.passive,
        viscosity=float(m.opt.viscosity) * on.passive,
        wind=np.array(m.opt.wind),
        magnetic=np.array(m.opt.magnetic),
    )
    if substeps is None and m.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4:
        # as many evaluations of the forces as Runge-Kutta's; in one step as long, Euler's method may well diverge
        option.divide(4)
    return option


def _law(m, numerics: Numerics, report: Report) -> str:
    """Law of limits and contacts: MuJoCo's, but for files that say otherwise, or state numbers of the penalty's."""
    said, at = choice(m, report, "constraint", {law: law for law in LAWS}, "law of constraints")
    if at >= 0:
        return said
    return LAWS[numerics.states(("limit_", "contact_"))]


def _states(m, name: str) -> bool:
    """Whether the file has a numeric of that name."""
    return name in [element_name(m, "numeric", i) for i in range(m.nnumeric)]


def _integrator(m, option: Option) -> str | None:
    """MuJoCo's that the file asks for; None: our own step, also by the penalty and where the file states theta."""
    import mujoco

    if option.constraint == "penalty" or _states(m, "theta"):
        return None
    kinds = mujoco.mjtIntegrator
    known = {
        kinds.mjINT_EULER: EULER,
        kinds.mjINT_IMPLICITFAST: IMPLICITFAST,
        kinds.mjINT_IMPLICIT: IMPLICIT,
        kinds.mjINT_RK4: RK4,
    }
    return known.get(m.opt.integrator)


def _choose_integrator(m, model: Model) -> None:
    """The file's, where it is simulated so; if not, our own step, which has equalities of joints exactly."""
    import mujoco

    opt = model.opt
    found = _integrator(m, opt)
    if found is None:
        return
    if found == EULER and m.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_EULERDAMP:
        opt.theta = 0.0
        return
    opt.integrator = found
    if refusal(model):
        opt.integrator = THETA
        for name, value in _equalities(m, rows=False).items():
            setattr(model, name, value)
    elif found == RK4 and not _states(m, "substeps"):
        # what `_option` has divided for our own step
        opt.divide(1)


def _implicit_coriolis(m) -> bool:
    """Whether the file's integrator takes Coriolis forces implicitly: "implicit", and for lone free bodies its fast form."""  # noqa: E501
    import mujoco

    integrator, kinds = m.opt.integrator, mujoco.mjtIntegrator
    return integrator == kinds.mjINT_IMPLICIT or (integrator == kinds.mjINT_IMPLICITFAST and bool(lone(m).any()))


def _limit_gains(m, numerics: Numerics, substep: float) -> dict[str, np.ndarray]:
    """Stiffness, damping and loss of joint limits, `Model.jnt_limit_...`, each (njnt,); 0 without a limit."""
    limited = np.array(m.jnt_limited, bool)
    # MuJoCo gives each of a ball's three dofs their mean
    inverse = m.dof_invweight0[m.jnt_dofadr]
    derived = stop_gains(m.jnt_solref, m.jnt_solimp, inverse, m.opt.timestep, substep, _refsafe(m))
    found = {key: np.where(limited, gain, 0.0) for key, gain in zip(("ke", "kd", "loss"), (*derived, LOSS))}
    names = [element_name(m, "joint", i) for i in range(m.njnt)]
    for key, column in found.items():
        numerics.refuse_strangers(f"limit_{key}:", set(names) - {""}, "a joint")
        for joint in np.flatnonzero(limited):
            column[joint] = _limit_number(numerics, key, names[joint], column[joint])
            if key == "kd" and _limit_number(numerics, key, names[joint], None) is not None:
                # a damper that the file states is a damper
                found["loss"][joint] = 0.0
    found["ref"] = reference_gains(m.jnt_solref, m.jnt_solimp[:, 1], m.opt.timestep, _refsafe(m))
    found |= {"solimp": np.array(m.jnt_solimp, float), "invweight": np.array(inverse, float)}
    return {f"jnt_limit_{key}": column for key, column in found.items()}


def _limit_number(numerics: Numerics, key: str, joint: str, default):
    everywhere = numerics.get(f"limit_{key}", default)
    return numerics.get(f"limit_{key}:{joint}", everywhere) if joint else everywhere


def _refsafe(m) -> bool:
    import mujoco

    return not m.opt.disableflags & int(mujoco.mjtDisableBit.mjDSBL_REFSAFE)


def _friction(m) -> dict[str, np.ndarray]:
    """What dry friction of dofs needs besides its force, also where there is none: it may be fitted."""
    kf, mass, rate = friction_gains(m.dof_solref, m.dof_solimp, m.dof_invweight0, m.opt.timestep, _refsafe(m))
    return {"dof_friction_kf": kf, "dof_friction_mass": mass, "dof_friction_rate": rate}


def _contacts(m, pairs: Pairs | None, numerics: Numerics, substep: float) -> dict[str, np.ndarray]:
    """Pairs of geoms that can touch and their penalty parameters; none where the model disables contact."""
    empty = np.zeros(0, np.int32)
    names = ("kc", "loss", "margin", "gap", *_CONTACT_NUMERICS, "spin_kf", "spin_mu", "roll_kf", "roll_mu")
    fields = {"geom1": empty, "geom2": empty, **dict.fromkeys((*names, "invweight"), np.zeros(0))}
    fields |= {"ref": np.zeros((0, 2)), "across": np.zeros((0, 2)), "solimp": np.zeros((0, 5)), "dim": empty}
    if pairs is not None:
        fields = {"geom1": pairs.geom1, "geom2": pairs.geom2, "margin": pairs.margin, "gap": pairs.gap}
        found = gains(m, pairs, substep, _refsafe(m))
        most = found.pop("most")
        if numerics.get("contact_kd", None) is not None:
            # a damper that the file states is a damper
            found["loss"], found["kc"] = np.zeros(len(pairs)), most
        fields.update(found)
        fields["ref"] = reference_gains(pairs.solref, pairs.solimp[:, 1], m.opt.timestep, _refsafe(m))
        fields |= {"solimp": pairs.solimp, "invweight": inverse_mass(m, pairs), "dim": pairs.condim}
        for key in (*_CONTACT_NUMERICS, "loss"):
            values, number = found[key], numerics.get(f"contact_{key}", None)
            fields[key] = values if number is None else np.full(len(pairs), number)
        fields["kf"] = np.minimum(fields["kf"], most)
    kinds = dict.fromkeys(("geom1", "geom2", "dim"), np.int32)
    return {**{f"pair_{key}": x.astype(kinds.get(key, float)) for key, x in fields.items()}, **_hulls(m)}


def _equalities(m, rows: bool) -> dict[str, np.ndarray]:
    """Equalities, as rows of the solver or, where `rows` is False and that can be, by substitution."""
    return loops.fields(m, stages(m).equality, rows, _refsafe(m))


def _hulls(m) -> dict[str, np.ndarray]:
    """Vertices of the meshes' convex hulls: all of a mesh's where MuJoCo has not built one."""
    number, vertices = np.zeros(m.nmesh, np.int32), []
    for mesh in range(m.nmesh):
        adr = m.mesh_graphadr[mesh]
        if adr < 0:
            hull = np.arange(m.mesh_vertnum[mesh])
        else:
            # mesh_graph: numbers of vertices and faces, an edge address per vertex, the vertices' indices, ...
            count = m.mesh_graph[adr]
            hull = m.mesh_graph[adr + 2 + count : adr + 2 + 2 * count]
        number[mesh] = len(hull)
        vertices.append(hull)
    adr = np.concatenate([[0], np.cumsum(number)[:-1]]) if m.nmesh else np.zeros(0)
    hull = np.concatenate(vertices) if vertices else np.zeros(0)
    return {"mesh_hulladr": adr.astype(np.int32), "mesh_hullnum": number, "mesh_hull": hull.astype(np.int32)}


def _limit_range(m, report: Report) -> np.ndarray:
    """Joint ranges narrowed by their margins, (njnt, 2): MuJoCo's limits push from `margin` inside the range on."""
    limited = np.array(m.jnt_limited, dtype=bool)
    margin = np.where(limited, m.jnt_margin, 0)
    narrowed = np.array(m.jnt_range)
    narrowed[:, 0] += np.where(m.jnt_type == JNT_BALL, 0, margin)
    narrowed[:, 1] -= margin
    if stages(m).limit:
        inverted = limited & (narrowed[:, 0] > narrowed[:, 1])
        report.add_where("joint", inverted, "the limit's margin leaves nothing of its range", "lower margin")
    return narrowed
