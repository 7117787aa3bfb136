"""The data structures of the engine: `Model` and `State`; `Option` is a file of its own.

Names, shapes and conventions are MuJoCo's wherever it has the word: z up, quaternions (w, x, y, z), SI units, a free
joint's qvel is (linear in the world frame, angular in the body frame). Arrays of a `Model` are NumPy, float64 or int32.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from taichi_sim.option import Option

# Integer codes follow MuJoCo's enumerations, so that arrays compiled by it need no translation.
JNT_FREE, JNT_BALL, JNT_SLIDE, JNT_HINGE = range(4)
(GEOM_PLANE, GEOM_HFIELD, GEOM_SPHERE, GEOM_CAPSULE, GEOM_ELLIPSOID, GEOM_CYLINDER, GEOM_BOX, GEOM_MESH) = range(8)
TRN_JOINT, TRN_TENDON, TRN_SITE, TRN_BODY = 0, 3, 4, 5
DYN_NONE, DYN_INTEGRATOR, DYN_FILTER, DYN_FILTEREXACT, DYN_MUSCLE = range(5)
GAIN_FIXED, GAIN_AFFINE, GAIN_MUSCLE = range(3)
BIAS_NONE, BIAS_AFFINE, BIAS_MUSCLE = range(3)
EQ_CONNECT, EQ_WELD, EQ_JOINT, EQ_TENDON = range(4)
_, WRAP_JOINT, WRAP_PULLEY, WRAP_SITE, WRAP_SPHERE, WRAP_CYLINDER, WRAP_CRANK = range(7)
# Muscle laws (`taichi_sim.muscles.laws`): MuJoCo's, and that of De Groote et al. 2016.
LAW_MUJOCO, LAW_DEGROOTE = range(2)
# Laws of constraints, and friction cones of MuJoCo's (`taichi_sim.constraint`); steps of velocities (`Option`).
LAWS, CONES = ("mujoco", "penalty"), ("pyramidal", "elliptic")
# Sensors that are read (`readout.sensors`), MuJoCo's mjSENS_ names: its own numbers change with its releases. Saved
# models hold these: new ones go to the end.
SENSORS = (
    *("jointpos", "jointvel", "jointactfrc", "ballquat", "ballangvel", "tendonpos", "tendonvel", "tendonactfrc"),
    *("actuatorpos", "actuatorvel", "actuatorfrc", "framepos", "framequat", "framexaxis", "frameyaxis", "framezaxis"),
    *("framelinvel", "frameangvel", "framelinacc", "frameangacc", "velocimeter", "gyro", "accelerometer"),
    *("subtreecom", "subtreelinvel", "subtreeangmom", "magnetometer", "touch", "force", "torque", "contact"),
)
# Shapes of sites, of what sensors of touch enclose.
ZONES = GEOM_SPHERE, GEOM_CAPSULE, GEOM_ELLIPSOID, GEOM_CYLINDER, GEOM_BOX
# What of a contact's data a contact's sensor may give, MuJoCo's mjCONDATA_ names in their order: numbers of each.
CONTACT_DATA = {"found": 1, "force": 3, "torque": 3, "dist": 1, "pos": 3, "normal": 3, "tangent": 3}
# What a sensor of a frame is attached to: a body's inertial frame, its own frame, a geom, a site. A contact's sensor
# looks at a body, at it and all that hangs from it (OBJ_XBODY), at a geom or into a site.
OBJ_BODY, OBJ_XBODY, OBJ_GEOM, OBJ_SITE = 1, 2, 5, 6
INTEGRATORS = "theta", "Euler", "implicitfast", "implicit", "RK4"


class State(NamedTuple):
    """What a simulation step maps to its successor; a pytree of torch tensors, one row per world.

    | field | meaning | shape |
    |---|---|---|
    | qpos | generalised positions [m, rad, unit quaternions] | (num_worlds, nq) |
    | qvel | generalised velocities [m/s, rad/s] | (num_worlds, nv) |
    | act  | actuator activations, then the strains of elastic tendons (`Model.muscle_tendonadr`) | (num_worlds, na) |
    """

    qpos: object
    qvel: object
    act: object


# Fields of `Model` with a default; of each kind one that has as many entries; and numbers per entry if several.
_NAMES = (
    "geom_hfieldid geom_fluid body_gravcomp body_mocapid jnt_actgravcomp jnt_limit_loss jnt_limit_ref "
    "jnt_limit_solimp jnt_limit_invweight dof_frictionloss dof_friction_kf dof_friction_mass dof_friction_rate "
    "tendon_limit_loss tendon_frictionloss tendon_friction_kf tendon_friction_mass tendon_friction_rate "
    "tendon_limit_ref tendon_limit_solimp tendon_limit_invweight muscle_tendon_strain muscle_tendonadr "
    "pair_loss pair_ref pair_solimp pair_invweight pair_dim pair_spin_kf pair_spin_mu pair_roll_kf pair_roll_mu "
    "pair_across pair_gap site_type site_size sensor_intprm"
)
_LIKE = (
    "geom_type",
    "body_parentid",
    "jnt_type",
    "dof_bodyid",
    "tendon_adr",
    "muscle_law",
    "pair_geom1",
    "site_bodyid",
    "sensor_type",
)
_LATER = {name: next(x for x in _LIKE if x.startswith(name.split("_")[0])) for name in _NAMES.split()}
_WIDTHS = dict.fromkeys(("jnt_limit_ref", "tendon_limit_ref", "pair_ref", "pair_across"), (2,))
_WIDTHS |= dict.fromkeys(("jnt_limit_solimp", "tendon_limit_solimp", "pair_solimp"), (5,)) | {"geom_fluid": (12,)}
_WIDTHS |= dict.fromkeys(("site_size", "sensor_intprm"), (3,))
# Fields of `Model` without entries by default: (their dtype, numbers per entry).
_EMPTY = {
    **dict.fromkeys(("loop_type", "loop_obj1", "loop_obj2"), (np.int32, ())),
    **dict.fromkeys(("hfield_adr", "hfield_nrow", "hfield_ncol"), (np.int32, ())),
    **dict.fromkeys(("loop_pos1", "loop_pos2"), (float, (3,))),
    **dict.fromkeys(("loop_quat1", "loop_quat2", "hfield_size"), (float, (4,))),
    **dict.fromkeys(("loop_torquescale", "loop_stiffness", "loop_damping", "hfield_data"), (float, ())),
    **dict.fromkeys(("loop_polycoef", "loop_solimp"), (float, (5,))),
    **dict.fromkeys(("loop_ref", "loop_invweight"), (float, (2,))),
    **dict.fromkeys(("sensor_type", "sensor_dim", "sensor_objtype", "sensor_objid"), (np.int32, ())),
    **dict.fromkeys(("sensor_reftype", "sensor_refid"), (np.int32, ())),
    "sensor_cutoff": (float, ()),
}
# How those say that there is none, where it is not the number 0.
_NONE = dict.fromkeys(("muscle_tendonadr", "body_mocapid", "geom_hfieldid", "pair_dim"), (np.int32, -1))
_NONE["jnt_actgravcomp"] = bool, False
_NONE |= dict.fromkeys(("site_type", "sensor_intprm"), (np.int32, 0))


@dataclasses.dataclass
class Model:
    """A compiled model: everything about the bodies that does not change while they move.

    | field | meaning | shape |
    |---|---|---|
    | nq, nv, nu, na | positions, velocities, controls, entries of act | scalar |
    | qpos0 | positions at which all joint displacements are zero | (nq,) |
    | qpos_spring | positions at which joint springs are at rest | (nq,) |
    | body_parentid | parent body; the world is body 0 and its own parent | (nbody,) |
    | body_pos, body_quat | frame relative to the parent's [m] | (nbody, 3), (nbody, 4) |
    | body_mass, body_inertia | [kg]; principal moments about the centre of mass [kg m^2] | (nbody,), (nbody, 3) |
    | body_ipos, body_iquat | centre of mass [m] and principal axes in the body's frame | (nbody, 3), (nbody, 4) |
    | body_gravcomp | share of its weight that is lifted (gravity compensation) | (nbody,) |
    | body_mocapid | which of the mocap bodies it is, whose pose is an input (-1: none) | (nbody,) |
    | body_jntadr, body_jntnum | first joint (-1: none), number of joints | (nbody,) |
    | jnt_type | JNT_FREE, JNT_BALL, JNT_SLIDE or JNT_HINGE | (njnt,) |
    | jnt_bodyid, jnt_qposadr, jnt_dofadr | its body, first entry in qpos, in qvel | (njnt,) |
    | jnt_pos, jnt_axis | anchor [m] and axis in the body's frame | (njnt, 3) |
    | jnt_limited | has a position limit | (njnt,) bool |
    | jnt_range | lower and upper limit [m, rad]; ball: (0, largest angle) | (njnt, 2) |
    | jnt_limit_ke, _kd, _loss | a penalty's stiffness, damping (with loss the largest), loss | (njnt,) each |
    | jnt_limit_ref, jnt_limit_solimp, jnt_limit_invweight | as loop_... | (njnt, 2), (njnt, 5), (njnt,) |
    | jnt_stiffness | spring stiffness [N/m, N m/rad] | (njnt,) |
    | jnt_actfrclimited, jnt_actfrcrange | total actuator force on the joint is clamped [N, N m] | (njnt,), (njnt, 2) |
    | jnt_actgravcomp | gravity compensation is one of the actuators' forces there | (njnt,) bool |
    | dof_bodyid, dof_jntid | its body, its joint | (nv,) |
    | dof_armature, dof_damping | on M's diagonal [kg, kg m^2]; viscous [N s/m, N m s/rad] | (nv,), (nv,) |
    | dof_frictionloss, dof_friction_kf | [N, N m]; its coefficient of sticking [N s/m, N m s/rad] | (nv,), (nv,) |
    | dof_friction_mass, dof_friction_rate | inertia it slows at qpos0 [kg, kg m^2]; MuJoCo's b [1/s] | (nv,), (nv,) |
    | geom_type | GEOM_* code | (ngeom,) |
    | geom_bodyid, geom_pos, geom_quat | its body, pose in the body's frame [m] | (ngeom,), (ngeom, 3), (ngeom, 4) |
    | geom_size | MuJoCo's size parameters (radius, half-length; half-extents) [m] | (ngeom, 3) |
    | geom_rgba | colour; its material's where the file gives the geom none of its own | (ngeom, 4) |
    | geom_group | group for drawing; groups above 2 (collision shapes and the like) are hidden | (ngeom,) |
    | geom_fluid | `fluidshape`: share, drag (blunt, slender, turning), Kutta, Magnus, mass, inertia | (ngeom, 12) |
    | geom_dataid, geom_hfieldid | a GEOM_MESH's mesh, a GEOM_HFIELD's height field; else -1 | (ngeom,), (ngeom,) |
    | hfield_adr, hfield_nrow, hfield_ncol | first node, numbers of nodes along y and x | (nhfield,) each |
    | hfield_size | half-lengths along x and y, height where the data is 1, thickness below 0 [m] | (nhfield, 4) |
    | hfield_data | heights of the nodes, row by row, as shares | (nhfieldnode,) |
    | mesh_vertadr, mesh_vertnum, mesh_vert | vertices in the geom's frame [m] | (nmesh,), (nmesh,), (nmeshvert, 3) |
    | mesh_hulladr, mesh_hullnum, mesh_hull | the convex hulls' vertices, as indices in the mesh | as mesh_vert... |
    | mesh_faceadr, mesh_facenum, mesh_face | triangles, indices in the mesh | (nmesh,), (nmesh,), (nmeshface, 3) |
    | pair_geom1, pair_geom2, pair_dim | geoms that can touch, a plane first; the contact's condim | (npair,) each |
    | pair_ke, pair_kd | a contact point's stiffness [N/m], damping per depth [N s/m^2] | (npair,), (npair,) |
    | pair_loss, pair_kc | share of the spring's force that dry damping takes; largest damping [N s/m] | (npair,) each |
    | pair_mu, pair_spin_mu, pair_roll_mu | friction against sliding, spinning, rolling [-, m, m] | (npair,) |
    | pair_across | MuJoCo's law alone: of sliding, rolling along the second tangent, or 0 | (npair, 2) |
    | pair_kf, pair_spin_kf, pair_roll_kf | largest coefficients, of sticking [N s/m, N m s] | (npair,) each |
    | pair_margin, pair_gap | distance from which on it pushes; how far beyond adhesion pulls [m] | (npair,), (npair,) |
    | pair_ref, pair_solimp, pair_invweight | of MuJoCo's law, as loop_... | (npair, 2), (npair, 5), (npair,) |
    | eq_joint1, eq_joint2 | a hinge or slide, and that which determines it (-1: locked) | (neq,), (neq,) |
    | eq_polycoef | coefficients a: q1 - qpos0_1 = a0 + a1 x + ... + a4 x^4, x = q2 - qpos0_2 | (neq, 5) |
    | loop_type | EQ_* of an equality that the solver meets as MuJoCo's does (`taichi_sim.loops`) | (nloop,) |
    | loop_obj1, loop_obj2 | its bodies, joints or tendons (-1: none) | (nloop,), (nloop,) |
    | loop_pos1, loop_quat1, loop_pos2, loop_quat2 | frames that meet, in those bodies' [m] | (nloop, 3), (nloop, 4) |
    | loop_torquescale, loop_solimp | [m]; MuJoCo's, as all of these | (nloop,), (nloop, 5) |
    | loop_polycoef, loop_ref | of joints, tendons: as eq_polycoef; qpos0 or lengths there | (nloop, 5), (nloop, 2) |
    | loop_stiffness, loop_damping | of its reference acceleration [1/s^2], [1/s] | (nloop,), (nloop,) |
    | loop_invweight | inverse inertia that rows see: of positions, of rotations | (nloop, 2) |
    | site_bodyid, site_pos, site_quat | its body, pose in the body's frame [m] | (nsite,), (nsite, 3), (nsite, 4) |
    | site_type, site_size | shape, GEOM_*, and size [m] of what it encloses | (nsite,), (nsite, 3) |
    | tendon_adr, tendon_num | first element of its path, number of elements; slider-cranks last | (ntendon,) each |
    | wrap_type, wrap_objid | WRAP_* code of an element; its joint, site or geom (pulley: -1) | (nwrap,), (nwrap,) |
    | wrap_prm | joint: coefficient; pulley: divisor; sphere, cylinder: side site or -1; crank: its rod [m] | (nwrap,) |
    | tendon_stiffness, tendon_damping | [N/m], [N s/m] | (ntendon,), (ntendon,) |
    | tendon_frictionloss, tendon_friction_kf, _mass, _rate | as of a dof [N], [N s/m], [kg], [1/s] | (ntendon,) each |
    | tendon_lengthspring | lengths between which its spring is slack [m] | (ntendon, 2) |
    | tendon_limited, tendon_range | has a length limit, lower and upper [m] | (ntendon,), (ntendon, 2) |
    | tendon_limit_ke, tendon_limit_kd, tendon_limit_loss | as of a joint's limit [N/m], [N s/m] | (ntendon,) each |
    | tendon_limit_ref, tendon_limit_solimp, _invweight | as loop_... | (ntendon, 2), (ntendon, 5), (ntendon,) |
    | tendon_width, tendon_rgba | for drawing: radius [m], colour | (ntendon,), (ntendon, 4) |
    | actuator_trntype, actuator_trnid | TRN_*; the joint, tendon, site or body it acts on | (nu,), (nu,) |
    | actuator_gear | transmission ratio; scalar joints and tendons use the first entry | (nu, 6) |
    | actuator_dyntype | DYN_* | (nu,) |
    | actuator_dynprm | time constants [s]; muscles: of activation, of deactivation, width between them | (nu, 3) |
    | actuator_actadr | its entry in act, -1: none | (nu,) |
    | actuator_actlimited, actuator_actrange | activation is clamped | (nu,), (nu, 2) |
    | actuator_gaintype, actuator_gainprm | GAIN_*; force = gain * (act or else ctrl) + bias | (nu,), (nu, 3) |
    | actuator_biastype, actuator_biasprm | BIAS_*; prm[0] + prm[1] length + prm[2] velocity | (nu,), (nu, 3) |
    | muscle_law | LAW_* of a muscle, -1: another actuator | (nu,) |
    | muscle_force | peak isometric force F0 [N] | (nu,) |
    | muscle_optimal_length, muscle_slack_length | of the fibre, of the tendon in series with it [m] | (nu,), (nu,) |
    | muscle_tendon_strain, muscle_tendonadr | an elastic tendon's at F0, entry in act; 0, -1: rigid | (nu,), (nu,) |
    | muscle_prm | MuJoCo's lmin, lmax, vmax, fpmax, fvmax; stretched lmax, stretch, shift; see below | (nu, 10) |
    | actuator_ctrllimited, actuator_ctrlrange | controls are clamped | (nu,), (nu, 2) |
    | actuator_forcelimited, actuator_forcerange | forces are clamped [N, N m] | (nu,), (nu, 2) |
    | sensor_type, sensor_dim | index in SENSORS, -1: another, which is not read; numbers it gives | (nsensor,) each |
    | sensor_objtype, sensor_objid | OBJ_*, 0: what its type says; the body, geom, site, joint, ... | (nsensor,) each |
    | sensor_reftype, sensor_refid | OBJ_* of the frame in which it is read (id -1: the world's) | (nsensor,) each |
    | sensor_cutoff | largest absolute value, 0: any | (nsensor,) |
    | sensor_intprm | a contact's: bits of CONTACT_DATA, order (`readout.touch`), how many contacts | (nsensor, 3) |
    | opt | options of the simulation | `Option` |
    | names | names by kind: "body", "joint", "geom", "site", "tendon", "actuator", "sensor" | dict of lists |

    A muscle of MuJoCo's whose bias has other constants than its gain has its passive force at the fibre length
    stretch x + shift, with the bias' own lmax. muscle_prm's last two columns are De Groote's pennation [rad] and fibre
    damping.
    """

    nq: int
    nv: int
    nu: int
    na: int
    qpos0: np.ndarray
    qpos_spring: np.ndarray
    body_parentid: np.ndarray
    body_pos: np.ndarray
    body_quat: np.ndarray
    body_mass: np.ndarray
    body_inertia: np.ndarray
    body_ipos: np.ndarray
    body_iquat: np.ndarray
    body_jntadr: np.ndarray
    body_jntnum: np.ndarray
    jnt_type: np.ndarray
    jnt_bodyid: np.ndarray
    jnt_qposadr: np.ndarray
    jnt_dofadr: np.ndarray
    jnt_pos: np.ndarray
    jnt_axis: np.ndarray
    jnt_limited: np.ndarray
    jnt_range: np.ndarray
    jnt_limit_ke: np.ndarray
    jnt_limit_kd: np.ndarray
    jnt_stiffness: np.ndarray
    jnt_actfrclimited: np.ndarray
    jnt_actfrcrange: np.ndarray
    dof_bodyid: np.ndarray
    dof_jntid: np.ndarray
    dof_armature: np.ndarray
    dof_damping: np.ndarray
    geom_type: np.ndarray
    geom_bodyid: np.ndarray
    geom_pos: np.ndarray
    geom_quat: np.ndarray
    geom_size: np.ndarray
    geom_rgba: np.ndarray
    geom_group: np.ndarray
    geom_dataid: np.ndarray
    mesh_vertadr: np.ndarray
    mesh_vertnum: np.ndarray
    mesh_vert: np.ndarray
    mesh_faceadr: np.ndarray
    mesh_facenum: np.ndarray
    mesh_face: np.ndarray
    mesh_hulladr: np.ndarray
    mesh_hullnum: np.ndarray
    mesh_hull: np.ndarray
    pair_geom1: np.ndarray
    pair_geom2: np.ndarray
    pair_ke: np.ndarray
    pair_kd: np.ndarray
    pair_kc: np.ndarray
    pair_kf: np.ndarray
    pair_mu: np.ndarray
    pair_margin: np.ndarray
    eq_joint1: np.ndarray
    eq_joint2: np.ndarray
    eq_polycoef: np.ndarray
    site_bodyid: np.ndarray
    site_pos: np.ndarray
    site_quat: np.ndarray
    tendon_adr: np.ndarray
    tendon_num: np.ndarray
    wrap_type: np.ndarray
    wrap_objid: np.ndarray
    wrap_prm: np.ndarray
    tendon_stiffness: np.ndarray
    tendon_damping: np.ndarray
    tendon_lengthspring: np.ndarray
    tendon_limited: np.ndarray
    tendon_range: np.ndarray
    tendon_limit_ke: np.ndarray
    tendon_limit_kd: np.ndarray
    tendon_width: np.ndarray
    tendon_rgba: np.ndarray
    actuator_trntype: np.ndarray
    actuator_trnid: np.ndarray
    actuator_gear: np.ndarray
    actuator_dyntype: np.ndarray
    actuator_dynprm: np.ndarray
    actuator_actadr: np.ndarray
    actuator_actlimited: np.ndarray
    actuator_actrange: np.ndarray
    actuator_gaintype: np.ndarray
    actuator_gainprm: np.ndarray
    actuator_biastype: np.ndarray
    actuator_biasprm: np.ndarray
    muscle_law: np.ndarray
    muscle_force: np.ndarray
    muscle_optimal_length: np.ndarray
    muscle_slack_length: np.ndarray
    muscle_prm: np.ndarray
    actuator_ctrllimited: np.ndarray
    actuator_ctrlrange: np.ndarray
    actuator_forcelimited: np.ndarray
    actuator_forcerange: np.ndarray
    opt: Option
    names: dict[str, list[str]]
    # what models that were saved before do not have: none of it
    body_gravcomp: np.ndarray | None = None
    body_mocapid: np.ndarray | None = None
    jnt_actgravcomp: np.ndarray | None = None
    jnt_limit_loss: np.ndarray | None = None
    tendon_limit_loss: np.ndarray | None = None
    pair_loss: np.ndarray | None = None
    dof_frictionloss: np.ndarray | None = None
    dof_friction_kf: np.ndarray | None = None
    dof_friction_mass: np.ndarray | None = None
    dof_friction_rate: np.ndarray | None = None
    tendon_frictionloss: np.ndarray | None = None
    tendon_friction_kf: np.ndarray | None = None
    tendon_friction_mass: np.ndarray | None = None
    tendon_friction_rate: np.ndarray | None = None
    tendon_limit_ref: np.ndarray | None = None
    tendon_limit_solimp: np.ndarray | None = None
    tendon_limit_invweight: np.ndarray | None = None
    muscle_tendon_strain: np.ndarray | None = None
    muscle_tendonadr: np.ndarray | None = None
    pair_spin_kf: np.ndarray | None = None
    pair_spin_mu: np.ndarray | None = None
    pair_roll_kf: np.ndarray | None = None
    pair_roll_mu: np.ndarray | None = None
    pair_across: np.ndarray | None = None
    jnt_limit_ref: np.ndarray | None = None
    jnt_limit_solimp: np.ndarray | None = None
    jnt_limit_invweight: np.ndarray | None = None
    pair_ref: np.ndarray | None = None
    pair_solimp: np.ndarray | None = None
    pair_invweight: np.ndarray | None = None
    pair_dim: np.ndarray | None = None
    pair_gap: np.ndarray | None = None
    loop_type: np.ndarray | None = None
    loop_obj1: np.ndarray | None = None
    loop_obj2: np.ndarray | None = None
    loop_pos1: np.ndarray | None = None
    loop_pos2: np.ndarray | None = None
    loop_quat1: np.ndarray | None = None
    loop_quat2: np.ndarray | None = None
    loop_torquescale: np.ndarray | None = None
    loop_polycoef: np.ndarray | None = None
    loop_ref: np.ndarray | None = None
    loop_stiffness: np.ndarray | None = None
    loop_damping: np.ndarray | None = None
    loop_solimp: np.ndarray | None = None
    loop_invweight: np.ndarray | None = None
    geom_hfieldid: np.ndarray | None = None
    geom_fluid: np.ndarray | None = None
    hfield_adr: np.ndarray | None = None
    hfield_nrow: np.ndarray | None = None
    hfield_ncol: np.ndarray | None = None
    hfield_size: np.ndarray | None = None
    hfield_data: np.ndarray | None = None
    sensor_type: np.ndarray | None = None
    sensor_dim: np.ndarray | None = None
    sensor_objtype: np.ndarray | None = None
    sensor_objid: np.ndarray | None = None
    sensor_reftype: np.ndarray | None = None
    sensor_refid: np.ndarray | None = None
    sensor_cutoff: np.ndarray | None = None
    site_type: np.ndarray | None = None
    site_size: np.ndarray | None = None
    sensor_intprm: np.ndarray | None = None

    def __post_init__(self):
        for name, (kind, width) in _EMPTY.items():
            if getattr(self, name) is None:
                setattr(self, name, np.zeros((0, *width), kind))
        for name, sibling in _LATER.items():
            if getattr(self, name) is None:
                kind, nothing = _NONE.get(name, (float, 0))
                shape = np.size(getattr(self, sibling)), *_WIDTHS.get(name, ())
                setattr(self, name, np.full(shape, nothing, kind))

    def seal(self) -> None:
        """Makes the model unchangeable, but for `opt`, as a Simulator has been made of it; a copy can be changed."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
        self.__dict__["_sealed"] = True

    def __setattr__(self, name: str, value) -> None:
        if "_sealed" in self.__dict__:
            raise AttributeError(
                f"Model.{name} cannot change any more, a Simulator has been made of this model: change "
                "copy.deepcopy(model) and make a new Simulator, or declare what is to vary as its parameters"
            )
        super().__setattr__(name, value)

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "_sealed"}

    @property
    def nbody(self) -> int:
        return len(self.body_parentid)

    @property
    def njnt(self) -> int:
        return len(self.jnt_type)

    @property
    def ngeom(self) -> int:
        return len(self.geom_type)

    @property
    def npair(self) -> int:
        return len(self.pair_geom1)

    @property
    def neq(self) -> int:
        return len(self.eq_joint1)

    @property
    def nmocap(self) -> int:
        return int((self.body_mocapid >= 0).sum())

    @property
    def mocap0(self) -> np.ndarray:
        """Poses of the mocap bodies in the file: positions [m] and unit quaternions, (nmocap, 7)."""
        bodies = np.argsort(self.body_mocapid, kind="stable")[self.nbody - self.nmocap :]
        return np.concatenate([self.body_pos[bodies], self.body_quat[bodies]], axis=1)

    @property
    def ntendon(self) -> int:
        return len(self.tendon_adr)

    @property
    def muscle_timeconst(self) -> np.ndarray:
        """Time constants of activation and deactivation [s], (nu, 2)."""
        return self.actuator_dynprm[:, :2]
