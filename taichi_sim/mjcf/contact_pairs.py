"""Which geoms can touch, and how stiff their contact is: from a compiled MuJoCo model to `Model.pair_*`."""

from __future__ import annotations

import copy
import functools

import numpy as np

from taichi_sim.mjcf.constraint import LOSS, STIFFEST, stop_gains

# Friction coefficients kf times the timestep and over the mass: where friction is explicit, below the bound of
# stability (2); where it is implicit, foreign models' is stiff enough to creep at 1 mm/s.
_KF_EXPLICIT, _KF_IMPLICIT = 0.25, 10.0
# Frequency of a contact's spring times the substep where damping is explicit, at most: below the bound of stability (2)
# with several of them.
_STIFFEST_EXPLICIT = 0.8
# Share of the mobility by turning that `gains` sees at least: springs are no stiffer than a substep keeps stable.
_TURNING = 1e-3


def candidates(mj_model) -> np.ndarray:
    """Which geoms MuJoCo's filters let collide, bool, shape (ngeom, ngeom), symmetric; explicit pairs not included.

    The rules are those of MuJoCo's documentation, "Collision detection: selection": not within one body or bodies
    welded to each other, not with the parent (unless that filter is off, or the parent is the world), not for excluded
    bodies, not between two planes or height fields, and only where contype meets conaffinity.
    """
    import mujoco

    m = mj_model
    affine = (m.geom_contype[:, None] & m.geom_conaffinity[None, :]) != 0
    pairs = affine | affine.T

    weld = m.body_weldid[m.geom_bodyid]
    pairs &= weld[:, None] != weld[None, :]
    if not m.opt.disableflags & int(mujoco.mjtDisableBit.mjDSBL_FILTERPARENT):
        parent = m.body_weldid[m.body_parentid[weld]]
        child_of = (weld[:, None] == parent[None, :]) & (weld[:, None] != 0) & (weld[None, :] != 0)
        pairs &= ~(child_of | child_of.T)

    body = m.geom_bodyid
    low, high = np.minimum(body[:, None], body[None, :]), np.maximum(body[:, None], body[None, :])
    pairs &= ~np.isin((low << 16) + high, m.exclude_signature)

    flat = np.isin(m.geom_type, [mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_HFIELD])
    return pairs & ~(flat[:, None] & flat[None, :])


class Pairs:
    """The pairs of geoms that can touch, in MuJoCo's order of types: a plane before all others.

    Args:
        mj_model: a `mujoco.MjModel` whose contacts are on.

    | field | meaning | shape |
    |---|---|---|
    | geom1, geom2 | the geoms | (n,) |
    | explicit | index of the `<contact><pair>` they come from, or -1 | (n,) |
    | condim | 1: without friction, 3: sliding, 4 and 6: torsional, rolling | (n,) |
    | friction | coefficients: sliding, along two tangents, spinning, rolling about two tangents [m] | (n, 5) |
    | solref, solimp | reference and impedance of MuJoCo's solver | (n, 2), (n, 5) |
    | margin, gap | distance from which on contact forces act, and how far beyond contacts are found [m] | (n,), (n,) |
    """

    def __init__(self, mj_model):
        import mujoco

        m = mj_model
        one, two = np.nonzero(np.triu(candidates(m), 1))
        # an explicit pair replaces what the filters find for its geoms
        explicit = {tuple(sorted(pair)) for pair in zip(m.pair_geom1.tolist(), m.pair_geom2.tolist())}
        kept = [k for k, pair in enumerate(zip(one.tolist(), two.tolist())) if pair not in explicit]
        one, two = one[kept], two[kept]
        geom1, geom2 = np.concatenate([one, m.pair_geom1]), np.concatenate([two, m.pair_geom2])
        swap = m.geom_type[geom1] > m.geom_type[geom2]
        self.geom1, self.geom2 = np.where(swap, geom2, geom1), np.where(swap, geom1, geom2)
        self.explicit = np.concatenate([np.full(len(one), -1), np.arange(m.npair)]).astype(int)
        mixed = [self._mixed(m, one, two, m.geom_friction[:, k], np.maximum) for k in (0, 0, 1, 2, 2)]
        self.friction = np.concatenate([np.stack(mixed, axis=1), m.pair_friction])
        self.condim = np.concatenate([self._mixed(m, one, two, m.geom_condim, np.maximum), m.pair_dim])
        total = m.geom_margin[one] + m.geom_margin[two]
        larger = np.maximum(m.geom_margin[one], m.geom_margin[two])
        self.margin = np.concatenate([total if _margins_add() else larger, m.pair_margin])
        weigh = self._weighed(m, one, two)
        self.gap = np.concatenate([m.geom_gap[one] + m.geom_gap[two], m.pair_gap])
        self.solref = np.concatenate([weigh(m.geom_solref), m.pair_solref])
        self.solimp = np.concatenate([weigh(m.geom_solimp), m.pair_solimp])
        if m.opt.enableflags & int(mujoco.mjtEnableBit.mjENBL_OVERRIDE):
            for name in ("friction", "solref", "solimp", "margin"):
                getattr(self, name)[:] = getattr(m.opt, f"o_{name}")

    def only(self, mask) -> Pairs:
        """The pairs for which the bool array `mask` holds."""
        chosen = copy.copy(self)
        for name, values in vars(self).items():
            setattr(chosen, name, values[mask])
        return chosen

    @staticmethod
    def _mixed(m, one, two, values, mix):
        """MuJoCo's rule: the geom of higher priority decides, equal ones are mixed."""
        higher, lower = m.geom_priority[one] > m.geom_priority[two], m.geom_priority[one] < m.geom_priority[two]
        return np.where(higher, values[one], np.where(lower, values[two], mix(values[one], values[two])))

    @staticmethod
    def _weighed(m, one, two):
        """Likewise for the solver's parameters: means weighted by `solmix`, but the smaller of direct solrefs."""
        total = m.geom_solmix[one] + m.geom_solmix[two]
        share = np.where(total > 0, m.geom_solmix[one] / np.where(total > 0, total, 1), 0.5)[:, None]

        def weigh(values):
            mean = share * values[one] + (1 - share) * values[two]
            if values is m.geom_solref:
                standard = (values[one][:, :1] > 0) & (values[two][:, :1] > 0)
                mean = np.where(standard, mean, np.minimum(values[one], values[two]))
            higher = (m.geom_priority[one] > m.geom_priority[two])[:, None]
            lower = (m.geom_priority[one] < m.geom_priority[two])[:, None]
            return np.where(higher, values[one], np.where(lower, values[two], mean))

        return weigh

    @property
    def uneven(self) -> np.ndarray:
        """Which have friction that differs between two directions, (n,); only explicit ones can."""
        sliding = (self.friction[:, 0] != self.friction[:, 1]) & (self.condim > 1)
        return sliding | (self.friction[:, 3] != self.friction[:, 4]) & (self.condim > 4)

    def __len__(self) -> int:
        return len(self.geom1)


@functools.cache
def _margins_add() -> bool:
    """Whether this MuJoCo adds the margins of two geoms (4.0 does) or takes the larger one (3.3 did): asks it."""
    import mujoco

    spheres = "".join(f'<body pos="{x} 0 0"><freejoint/><geom size="1" margin="0.1"/></body>' for x in (0, 1))
    m = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{spheres}</worldbody></mujoco>")
    data = mujoco.MjData(m)
    mujoco.mj_forward(m, data)
    return data.contact[0].includemargin > 0.15


def inverse_mass(mj_model, pairs: Pairs, least: float = 1e-6) -> np.ndarray:
    """The inverse mass that a contact sees at qpos0, by MuJoCo's `body_invweight0` [1/kg], (n,).

    That is of the bodies' centres. Where these stay in place, as of what spins about its own, MuJoCo's contacts are
    without compliance, and no solver is well conditioned; so it is at least a share `least` of that by turning, at the
    geoms' outermost points.
    """
    m = mj_model
    geoms = pairs.geom1, pairs.geom2
    centre, turning = np.moveaxis(m.body_invweight0[m.geom_bodyid], -1, 0)
    turning = turning * m.geom_rbound**2
    return np.maximum(sum(centre[geom] for geom in geoms), least * sum(turning[geom] for geom in geoms))


def gains(mj_model, pairs: Pairs, substep: float, refsafe: bool) -> dict[str, np.ndarray]:
    """Penalty parameters that do what the pairs' solver parameters ask for, `Model.pair_...` by name, each (n,).

    Those along the normal are `constraint.stop_gains` of the mass that the contact sees at qpos0, by MuJoCo's
    `body_invweight0`. kf follows from the timestep; "spin_kf" and "roll_kf" likewise from the moment of inertia,
    instead of the mass. The entry "most", (n,), bounds damping and kf where they are explicit: between moving bodies,
    and of moving boxes on spheres and capsules of the world.
    """
    import mujoco

    m = mj_model
    inverse = inverse_mass(m, pairs, least=_TURNING)
    mass = 1 / np.maximum(inverse, 1e-10)
    # what rides on a mocap body moves
    still = (m.body_weldid == 0) & (m.body_mocapid[m.body_rootid] < 0)
    fixed1, fixed2 = (still[m.geom_bodyid[geom]] for geom in (pairs.geom1, pairs.geom2))
    on_plane = m.geom_type[pairs.geom1] == mujoco.mjtGeom.mjGEOM_PLANE
    kind = mujoco.mjtGeom
    smooth = (kind.mjGEOM_SPHERE, kind.mjGEOM_ELLIPSOID)
    round1 = np.isin(m.geom_type[pairs.geom1], (kind.mjGEOM_SPHERE, kind.mjGEOM_CAPSULE))
    single = np.isin(m.geom_type[pairs.geom1], smooth) | np.isin(m.geom_type[pairs.geom2], smooth)
    single |= round1 & np.isin(m.geom_type[pairs.geom2], (kind.mjGEOM_CAPSULE, kind.mjGEOM_BOX))
    implicit = on_plane | fixed2 | (fixed1 & ~(round1 & (m.geom_type[pairs.geom2] == kind.mjGEOM_BOX)))
    # what has edges or faces touches in four points and more
    share = np.where(single, 1.0, 0.25)
    stiffest = np.where(implicit, STIFFEST, _STIFFEST_EXPLICIT * np.sqrt(share))
    ke, kc = stop_gains(pairs.solref, pairs.solimp, inverse, m.opt.timestep, substep, refsafe, stiffest)
    kf = mass / m.opt.timestep * np.where(implicit, _KF_IMPLICIT, _KF_EXPLICIT * share)
    inverse = m.body_invweight0[m.geom_bodyid, 1]
    turning = kf / mass / np.maximum(inverse[pairs.geom1] + inverse[pairs.geom2], 1e-10)
    rough, spins, rolls = (pairs.condim > least for least in (1, 3, 4))
    return {
        "most": np.where(implicit, np.inf, kf),
        "ke": ke,
        "kd": np.zeros(len(pairs)),
        "loss": np.full(len(pairs), LOSS),
        "kc": np.where(implicit, kc, np.minimum(kc, kf)),
        "kf": np.where(rough, kf, 0.0),
        "mu": np.where(rough, pairs.friction[:, 0], 0.0),
        "spin_kf": np.where(spins, turning, 0.0),
        "spin_mu": np.where(spins, pairs.friction[:, 2], 0.0),
        "roll_kf": np.where(rolls, turning, 0.0),
        "roll_mu": np.where(rolls, pairs.friction[:, 3], 0.0),
        "across": np.where(pairs.uneven[:, None], pairs.friction[:, [1, 4]], 0.0),
    }
