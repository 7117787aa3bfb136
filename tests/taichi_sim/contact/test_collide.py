"""Depth, normal and point of contacts against MuJoCo, and their gradients against central differences."""

import mujoco
import numpy as np
import pytest
from kernels import whole

from taichi_sim.contact import boxes, collide
from taichi_sim.runtime import ti
from taichi_sim.spatial import load_quat, load_vec3

EXACT = 1e-9
TOLERANCE = 1e-6  # of gradients
LANES = 4

ARRAY = ti.types.ndarray(dtype=ti.types.vector(LANES, ti.f64), ndim=2)

# A row of inputs: the geoms, then the adjoints of depth, normal and point (or of the point alone).
SEGMENTS = {"c1": 3, "u1": 3, "r1": 1, "c2": 3, "u2": 3, "r2": 1, "bar": 7}
BOX = {"c1": 3, "u1": 3, "r1": 1, "c2": 3, "q2": 4, "size": 3, "bar": 7}
PLANE = {"c": 3, "q": 4, "size": 3, "n": 3, "bar": 3}

# A row of outputs: depth, normal, point, moment, force.
PAIR = 13


@ti.func
def store(out: ti.template(), e, adr: ti.template(), depth, n, p, moment, force):
    out[e, adr] = depth
    for k in ti.static(range(3)):
        out[e, adr + 1 + k] = n[k, :]
        out[e, adr + 4 + k] = p[k, :]
        out[e, adr + 7 + k] = moment[k, :]
        out[e, adr + 10 + k] = force[k, :]


@whole
@ti.kernel
def segments_kernel(x: ARRAY, out: ARRAY):
    for e in range(x.shape[0]):
        c1, u1, r1 = load_vec3(x, e, 0), load_vec3(x, e, 3), x[e, 6]
        c2, u2, r2 = load_vec3(x, e, 7), load_vec3(x, e, 10), x[e, 13]
        depth, n, p = collide.segments(c1, u1, r1, c2, u2, r2)
        d_bar, n_bar, p_bar = x[e, 14], load_vec3(x, e, 15), load_vec3(x, e, 18)
        moment, force = collide.adjoint_segments(c1, u1, r1, c2, u2, r2, d_bar, n_bar, p_bar)
        store(out, e, 0, depth, n, p, moment, force)


@whole
@ti.kernel
def box_kernel(x: ARRAY, out: ARRAY):
    """Ball around c1, then capsule."""
    for e in range(x.shape[0]):
        c1, u1, r1 = load_vec3(x, e, 0), load_vec3(x, e, 3), x[e, 6]
        c2, q2, size = load_vec3(x, e, 7), load_quat(x, e, 10), load_vec3(x, e, 14)
        d_bar, n_bar, p_bar = x[e, 17], load_vec3(x, e, 18), load_vec3(x, e, 21)
        depth, n, p = boxes.sphere_box(c1, r1, c2, q2, size)
        moment, force = boxes.adjoint_sphere_box(c1, r1, c2, q2, size, d_bar, n_bar, p_bar)
        store(out, e, 0, depth, n, p, moment, force)
        depth, n, p = boxes.capsule_box(c1, u1, r1, c2, q2, size)
        moment, force = boxes.adjoint_capsule_box(c1, u1, r1, c2, q2, size, d_bar, n_bar, p_bar)
        store(out, e, PAIR, depth, n, p, moment, force)


@whole
@ti.kernel
def plane_kernel(x: ARRAY, out: ARRAY):
    """Point and torque of an ellipsoid, then of a cylinder's eight points."""
    for e in range(x.shape[0]):
        c, q, size, n, p_bar = (
            load_vec3(x, e, 0),
            load_quat(x, e, 3),
            load_vec3(x, e, 7),
            load_vec3(x, e, 10),
            load_vec3(x, e, 13),
        )
        p = collide.ellipsoid_plane(c, q, size, n)
        torque = collide.adjoint_ellipsoid_plane(q, size, n, p_bar)
        for i in ti.static(range(3)):
            out[e, i] = p[i, :]
            out[e, 3 + i] = torque[i, :]
        for k in range(8):
            p = collide.cylinder_plane(c, q, size[0, :], size[2, :], n, k)
            torque = collide.adjoint_cylinder_plane(q, size[0, :], n, k, p_bar)
            for i in ti.static(range(3)):
                out[e, 6 + 6 * k + i] = p[i, :]
                out[e, 9 + 6 * k + i] = torque[i, :]


@whole
@ti.kernel
def near_kernel(x: ARRAY, out: ARRAY):
    for e in range(x.shape[0]):
        hit = collide.near(load_vec3(x, e, 0), x[e, 3], load_vec3(x, e, 4), x[e, 7])
        out[e, 0] = 0.0 * x[e, 0] + ti.cast(hit, ti.f64)


def call(kernel, cases: np.ndarray, size: int) -> np.ndarray:
    """Runs a kernel over the rows of (N, n) -> (N, size)."""
    padded = np.concatenate([cases, np.repeat(cases[-1:], -len(cases) % LANES, axis=0)])
    blocks = np.ascontiguousarray(padded.reshape(-1, LANES, cases.shape[1]).transpose(0, 2, 1))
    out = np.full((len(blocks), size, LANES), np.nan)
    kernel(blocks, out)
    return out.transpose(0, 2, 1).reshape(-1, size)[: len(cases)]


def columns(layout: dict[str, int], name: str) -> slice:
    start = sum(list(layout.values())[: list(layout).index(name)])
    return slice(start, start + layout[name])


def pack(layout: dict[str, int], **parts) -> np.ndarray:
    """Rows of a layout from its parts."""
    return np.concatenate([np.reshape(parts[name], (-1, size)) for name, size in layout.items()], axis=1)


def unit(rng, *shape) -> np.ndarray:
    x = rng.normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def rotate(q: np.ndarray, x: np.ndarray) -> np.ndarray:
    """x (N, 3) turned by the unit quaternions q (N, 4)."""
    t = 2 * np.cross(q[:, 1:], x)
    return x + q[:, :1] * t + np.cross(q[:, 1:], t)


def inverse(q: np.ndarray) -> np.ndarray:
    return q * [1, -1, -1, -1]


# Poses


def segment_poses(rng, count=400) -> np.ndarray:
    """Two capsules, one in four of each kind a sphere, at distances about the sum of their radii and beyond."""
    r1, r2 = rng.uniform(0.05, 0.3, (2, count))
    u1, u2 = (unit(rng, count, 3) * rng.uniform(0.1, 0.6, (count, 1)) for _ in range(2))
    u1[::4], u2[1::4], u2[::8] = 0.0, 0.0, 0.0
    c1 = rng.normal(size=(count, 3))
    return pack(
        SEGMENTS,
        c1=c1,
        u1=u1,
        r1=r1,
        c2=c1 + rng.normal(size=(count, 3)) * 0.4,
        u2=u2,
        r2=r2,
        bar=rng.normal(size=(count, 7)),
    )


def parallel_poses(rng, count=80) -> np.ndarray:
    """Capsules side by side, tilted by up to three degrees: within and around the range of the pull."""
    cases = segment_poses(rng, count)
    side, axis = unit(rng, count, 3), unit(rng, count, 3)
    axis -= side * (side * axis).sum(1, keepdims=True)
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    tilted = axis + rng.uniform(0, 0.05, (count, 1)) * unit(rng, count, 3)
    cases[:, columns(SEGMENTS, "u1")] = axis * rng.uniform(0.1, 0.6, (count, 1))
    cases[:, columns(SEGMENTS, "u2")] = tilted * rng.uniform(0.1, 0.6, (count, 1))
    offset = side * 0.2 + axis * rng.uniform(-0.3, 0.3, (count, 1))
    cases[:, columns(SEGMENTS, "c2")] = cases[:, columns(SEGMENTS, "c1")] + offset
    return cases


def box_poses(rng, count=600) -> np.ndarray:
    """A capsule near a box, its centre inside of it now and then."""
    c2, q2 = rng.normal(size=(count, 3)), unit(rng, count, 4)
    size = rng.uniform(0.1, 0.5, (count, 3))
    c1 = rotate(q2, size * rng.uniform(-1.6, 1.6, (count, 3))) + c2
    u1 = unit(rng, count, 3) * rng.uniform(0.1, 0.5, (count, 1))
    r1, bar = rng.uniform(0.05, 0.2, count), rng.normal(size=(count, 7))
    return pack(BOX, c1=c1, u1=u1, r1=r1, c2=c2, q2=q2, size=size, bar=bar)


def lying_poses(rng, count=120) -> np.ndarray:
    """Capsules on the box's upper face, tilted by up to three degrees, some jutting out."""
    cases = box_poses(rng, count)
    c2, q2, size = (cases[:, columns(BOX, name)] for name in ("c2", "q2", "size"))
    angle = rng.uniform(0, 2 * np.pi, count)
    axis = np.stack([np.cos(angle), np.sin(angle), rng.uniform(-0.05, 0.05, count)], axis=1)
    place = size * rng.uniform(-1.1, 1.1, (count, 3))
    # from just above to deeper than the radius
    place[:, 2] = size[:, 2] + cases[:, columns(BOX, "r1")][:, 0] * rng.uniform(-0.6, 1.05, count)
    cases[:, columns(BOX, "c1")] = rotate(q2, place) + c2
    cases[:, columns(BOX, "u1")] = rotate(q2, axis) * rng.uniform(0.1, 0.5, (count, 1))
    return cases


def plane_poses(rng, count=120) -> np.ndarray:
    """Anywhere; every third stands within three degrees of upright."""
    q, n = unit(rng, count, 4), unit(rng, count, 3)
    upright = unit(rng, count, 3) * rng.uniform(0, 0.05, (count, 1)) + [0, 0, 1]
    n[::3] = rotate(q, upright / np.linalg.norm(upright, axis=1, keepdims=True))[::3]
    return pack(
        PLANE,
        c=rng.normal(size=(count, 3)),
        q=q,
        size=rng.uniform(0.1, 0.5, (count, 3)),
        n=n,
        bar=rng.normal(size=(count, 3)),
    )


# MuJoCo


def geom(kind: str, size, pos, quat=(1, 0, 0, 0)) -> str:
    def text(x):
        return " ".join(repr(float(v)) for v in np.ravel(x))

    return f'<geom type="{kind}" size="{text(size)}" margin="20"/>', text(pos), text(quat)


def mujoco_contact(geom1, geom2, fixed=False) -> tuple[float, np.ndarray, np.ndarray]:
    """Depth, normal from geom 2 to geom 1, and point of the deepest contact that MuJoCo finds, at any distance."""
    joints = ("" if fixed else "<freejoint/>", "<freejoint/>")
    bodies = "".join(
        f'<body pos="{pos}" quat="{quat}">{joint}{shape}</body>'
        for joint, (shape, pos, quat) in zip(joints, (geom1, geom2))
    )
    model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{bodies}</worldbody></mujoco>")
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    first = min(data.contact, key=lambda c: c.dist)
    sign = -1.0 if first.geom1 == 0 else 1.0
    return -first.dist, sign * first.frame[:3], first.pos.copy()


def capsule(c, u, r):
    """A capsule for MuJoCo, or a sphere if u is zero."""
    half = np.linalg.norm(u)
    if half == 0.0:
        return geom("sphere", r, c)
    quat = np.zeros(4)
    mujoco.mju_quatZ2Vec(quat, u / half)
    return geom("capsule", (r[0], half), c, quat)


def parts(layout, row):
    return [row[columns(layout, name)] for name in layout]


def test_segments_match_mujoco():
    cases = segment_poses(np.random.default_rng(0))
    ours = call(segments_kernel, cases, PAIR)
    regimes = set()
    for row, out in zip(cases, ours):
        c1, u1, r1, c2, u2, r2, _ = parts(SEGMENTS, row)
        depth, n, p = mujoco_contact(capsule(c1, u1, r1), capsule(c2, u2, r2))
        np.testing.assert_allclose(out[:7], [depth, *n, *p], atol=EXACT, rtol=0)
        regimes.add((depth > 0, *(("free" if abs(n @ u) < EXACT else "end") if u.any() else "ball" for u in (u1, u2))))
    kinds = [("ball", "ball")] + [(a, b) for a in ("ball", "free", "end") for b in ("free", "end")]
    assert regimes >= {(overlap, *kind) for overlap in (True, False) for kind in kinds}


def test_sphere_box_matches_mujoco():
    cases = box_poses(np.random.default_rng(1), 400)
    ours = call(box_kernel, cases, 2 * PAIR)
    regimes = set()
    for row, out in zip(cases, ours):
        c1, _, r1, c2, q2, size, _ = parts(BOX, row)
        depth, n, p = mujoco_contact(geom("sphere", r1, c1), geom("box", size, c2, q2))
        np.testing.assert_allclose(out[:7], [depth, *n, *p], atol=EXACT, rtol=0)
        inside = depth > r1[0]
        regimes.add((bool(depth > 0), bool(inside), beyond(n, q2)))
    faces = {(True, True, 1)} | {(overlap, False, k) for overlap in (True, False) for k in (1, 2, 3)}
    assert regimes >= faces


def beyond(n: np.ndarray, q2: np.ndarray) -> int:
    """Whether a normal is that of a box's face (1), edge (2) or corner (3)."""
    return int((np.abs(rotate(inverse(q2)[None], n[None])) > EXACT).sum())


def brute_force_distance(cases: np.ndarray) -> np.ndarray:
    """Distance of a capsule's axis from a box by golden-section search: it is convex along the axis."""
    c, u = (rotate(inverse(cases[:, columns(BOX, "q2")]), cases[:, columns(BOX, name)]) for name in ("c1", "u1"))
    c = c - rotate(inverse(cases[:, columns(BOX, "q2")]), cases[:, columns(BOX, "c2")])
    size = cases[:, columns(BOX, "size")]

    def distance(s):
        x = c + s[:, None] * u
        return np.linalg.norm(x - np.clip(x, -size, size), axis=1)

    ratio = (np.sqrt(5) - 1) / 2
    low, high = -np.ones(len(c)), np.ones(len(c))
    for _ in range(100):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        left = distance(a) < distance(b)
        low, high = np.where(left, low, a), np.where(left, b, high)
    return np.minimum(distance((low + high) / 2), np.minimum(distance(-np.ones(len(c))), distance(np.ones(len(c)))))


def nearly_parallel(cases: np.ndarray) -> np.ndarray:
    """Whether a capsule's axis is within PARALLEL of some face of the box."""
    u = rotate(inverse(cases[:, columns(BOX, "q2")]), cases[:, columns(BOX, "u1")])
    return ((u**2).min(axis=1) / (u**2).sum(axis=1)) < collide.PARALLEL


def test_capsule_box():
    cases = box_poses(np.random.default_rng(2))
    cases = cases[~nearly_parallel(cases)]
    distance = brute_force_distance(cases)
    cases, distance = cases[distance > 1e-6], distance[distance > 1e-6]
    out = call(box_kernel, cases, 2 * PAIR)[:, PAIR:]
    u, r, q2 = (cases[:, columns(BOX, name)] for name in ("u1", "r1", "q2"))
    depth, n, p = out[:, 0], out[:, 1:4], out[:, 4:7]
    np.testing.assert_allclose(depth, r[:, 0] - distance, atol=EXACT, rtol=0)
    np.testing.assert_allclose((n**2).sum(1), 1.0, atol=EXACT)

    # the point's ball of that depth around it: its centre is on the axis, the box's surface on the other side
    center = p + n * (r - depth[:, None] / 2)
    offset = center - cases[:, columns(BOX, "c1")]
    np.testing.assert_allclose(np.cross(offset, u), 0.0, atol=EXACT)
    assert (np.abs((offset * u).sum(1)) <= (u**2).sum(1) * (1 + EXACT)).all()
    x = rotate(inverse(q2), p + n * depth[:, None] / 2 - cases[:, columns(BOX, "c2")])
    size = cases[:, columns(BOX, "size")]
    np.testing.assert_allclose((np.abs(x) - size).max(1), 0.0, atol=EXACT)

    free = np.abs((n * u).sum(1)) < EXACT
    kinds = np.array([beyond(a, b) for a, b in zip(n, q2)])
    # a free point faces an edge or a corner only: to face a face, the axis would have to be parallel to it
    assert set(zip(free.tolist(), kinds.tolist())) == {(False, 1), (False, 2), (False, 3), (True, 2), (True, 3)}


def test_capsule_dipping_into_a_box():
    cases = box_poses(np.random.default_rng(2))
    cases = cases[~nearly_parallel(cases)]
    cases = cases[brute_force_distance(cases) < 1e-12]
    c, size = (cases[:, columns(BOX, name)] for name in ("c1", "size"))
    c = rotate(inverse(cases[:, columns(BOX, "q2")]), c - cases[:, columns(BOX, "c2")])
    inside = (np.abs(c) < size).all(1)
    out = call(box_kernel, cases, 2 * PAIR)
    assert inside.sum() > 50 and (~inside).sum() > 20
    # the point of the axis that is inside and closest to its centre: the centre itself, or one on the surface
    np.testing.assert_allclose(out[inside, PAIR : PAIR + 7], out[inside, :7], atol=EXACT, rtol=0)
    np.testing.assert_allclose(out[~inside, PAIR], cases[~inside, columns(BOX, "r1").start], atol=EXACT, rtol=0)
    np.testing.assert_allclose((out[:, PAIR + 1 : PAIR + 4] ** 2).sum(1), 1.0, atol=EXACT)


def test_lying_capsule_rests_on_its_ends():
    cases = lying_poses(np.random.default_rng(3), 400)
    c1, u1, r1 = (columns(BOX, name) for name in ("c1", "u1", "r1"))
    ends = [cases.copy(), cases.copy()]
    ends[0][:, c1] += cases[:, u1]
    ends[1][:, c1] -= cases[:, u1]
    depths = [call(box_kernel, cases, 2 * PAIR)[:, PAIR], *(call(box_kernel, end, 2 * PAIR)[:, 0] for end in ends)]
    distance = brute_force_distance(cases)
    outside = distance > 1e-6
    cases, distance = cases[outside], distance[outside]
    loss = cases[:, r1][:, 0] - distance - np.max(depths, axis=0)[outside]
    assert len(cases) > 200 and loss.min() > -EXACT
    # At a tilt t the pull takes s to t z / (PULL l), z above the face, instead of to where the axis leaves the face
    # at 1 or before; t l (1 - s) is largest half-way.
    bound = collide.PULL * (cases[:, u1] ** 2).sum(1) / (4 * distance)
    assert (loss <= 1.1 * bound).all()
    # whoever lies on the face with both ends rests on those, without loss
    q2, size = (cases[:, columns(BOX, name)] for name in ("q2", "size"))
    tips = [rotate(inverse(q2), end[outside, c1] - cases[:, columns(BOX, "c2")]) for end in ends]
    within = np.all([(np.abs(tip) < size)[:, :2].all(1) for tip in tips], axis=0)
    assert within.sum() > 10 and np.abs(loss[within]).max() < EXACT


def test_parallel_capsules_touch_in_the_middle_of_their_overlap():
    # axes along x: [0.0, 0.4] and [0.1, 0.9] at a distance of 0.1, radii 0.06
    row = pack(
        SEGMENTS, c1=[0.2, 0, 0], u1=[0.2, 0, 0], r1=0.06, c2=[0.5, 0, -0.1], u2=[0.4, 0, 0], r2=0.06, bar=[0] * 7
    )
    depth, n, p = np.split(call(segments_kernel, row, PAIR)[0, :7], [1, 4])
    np.testing.assert_allclose(depth, 0.02, atol=1e-6)
    np.testing.assert_allclose(n, [0, 0, 1], atol=1e-2)
    assert 0.1 < p[0] < 0.4


# Gradients


def displaced(layout, cases, motion, step, positions, vectors) -> np.ndarray:
    """Rows after a small rigid displacement (rotation vector, translation) of some positions and vectors."""
    result = cases.copy()
    angle = np.linalg.norm(motion[:3]) * step
    axis = motion[:3] / max(np.linalg.norm(motion[:3]), 1e-30)
    q = np.array([[np.cos(angle / 2), *(np.sin(angle / 2) * axis)]])
    for name in (*positions, *vectors):
        where = columns(layout, name)
        result[:, where] = rotate(q, cases[:, where]) + (step * motion[3:] if name in positions else 0.0)
    return result


def differences(value, move, size=6, step=1e-5) -> np.ndarray:
    """Central differences of fourth order of value(rows) (N,) along each of `size` motions."""
    results = []
    for motion in np.eye(6)[:size]:
        near, far = (value(move(motion, s)) - value(move(motion, -s)) for s in (step, 2 * step))
        results.append((8 * near - far) / (12 * step))
    return np.stack(results, axis=1)


def assert_gradients(ours, expected, cases):
    error = np.abs(ours - expected).max(axis=1)
    worst = (error / np.maximum(np.abs(expected).max(axis=1), 1.0)).argmax()
    scale = max(np.abs(expected[worst]).max(), 1.0)
    assert error[worst] <= TOLERANCE * scale, (
        f"case {worst}: {error[worst]:.3g} of {scale:.3g}, {cases[worst].tolist()}"
    )


def pair_gradients(kernel, layout, cases, offset=0, size=PAIR):
    """The adjoint's (moment, force) and central differences of bar . (depth, normal, point)."""
    bar = cases[:, columns(layout, "bar")]

    def value(rows):
        return (bar * call(kernel, rows, size)[:, offset : offset + 7]).sum(1)

    def move(motion, step):
        return displaced(layout, cases, motion, step, ["c1"], ["u1"])

    return call(kernel, cases, size)[:, offset + 7 : offset + PAIR], differences(value, move)


@pytest.mark.parametrize("poses", [segment_poses, parallel_poses])
def test_segments_gradient(poses):
    cases = poses(np.random.default_rng(4))
    assert_gradients(*pair_gradients(segments_kernel, SEGMENTS, cases), cases)


def test_segments_gradient_where_axes_almost_meet():
    cases = segment_poses(np.random.default_rng(5), 40)
    c1, u1, r1, c2, u2, r2, _ = (cases[:, columns(SEGMENTS, name)] for name in SEGMENTS)
    rng = np.random.default_rng(6)
    meet = c1 + u1 * rng.uniform(-0.9, 0.9, (40, 1)) - u2 * rng.uniform(-0.9, 0.9, (40, 1))
    cases[:, columns(SEGMENTS, "c2")] = meet + 0.5 * collide.CORE * (r1 + r2) * unit(rng, 40, 3)
    ours, expected = pair_gradients(segments_kernel, SEGMENTS, cases)
    assert np.abs(expected).max() > 100.0
    assert_gradients(ours, expected, cases)


@pytest.mark.parametrize("poses", [box_poses, lying_poses])
@pytest.mark.parametrize("kind", ["sphere", "capsule"])
def test_box_gradient(poses, kind):
    cases = poses(np.random.default_rng(7))
    offset = 0 if kind == "sphere" else PAIR
    assert_gradients(*pair_gradients(box_kernel, BOX, cases, offset, 2 * PAIR), cases)


# Planes


def test_planes_match_mujoco():
    cases = plane_poses(np.random.default_rng(8))
    out = call(plane_kernel, cases, 54)
    for row, result in zip(cases, out):
        c, q, size, n, _ = parts(PLANE, row)
        quat = np.zeros(4)
        mujoco.mju_quatZ2Vec(quat, n)
        plane = geom("plane", (1, 1, 1), np.zeros(3), quat)
        depth, _, p = mujoco_contact(plane, geom("ellipsoid", size, c, q), fixed=True)
        np.testing.assert_allclose(result[:3], p - n * depth / 2, atol=EXACT, rtol=0)

        points = result[6:].reshape(8, 6)[:, :3]
        depth, _, _ = mujoco_contact(plane, geom("cylinder", size[[0, 2]], c, q), fixed=True)
        tilt = 1 - rotate(inverse(q[None]), n[None])[0, 2] ** 2
        # upright, the deepest point of the rim is left by radius times tilt at most
        slack = EXACT if tilt > collide.PARALLEL else size[0] * np.sqrt(tilt)
        np.testing.assert_allclose(-(points @ n).min(), depth, atol=slack, rtol=0)
        assert -(points @ n).min() <= depth + EXACT


def test_cylinder_points_are_a_square_on_each_rim():
    cases = plane_poses(np.random.default_rng(9))
    points = call(plane_kernel, cases, 54)[:, 6:].reshape(-1, 8, 6)[:, :, :3]
    for row, corner in zip(cases, points):
        c, q, size, _, _ = parts(PLANE, row)
        local = rotate(np.repeat(inverse(q)[None], 8, axis=0), corner - c)
        np.testing.assert_allclose(local[:, 2], np.repeat([size[2], -size[2]], 4), atol=EXACT)
        np.testing.assert_allclose((local[:, :2] ** 2).sum(1), size[0] ** 2, atol=EXACT)
        np.testing.assert_allclose(local[:4, :2].sum(0), 0.0, atol=EXACT)
        np.testing.assert_allclose(local[4:, :2], local[:4, :2], atol=EXACT)


def test_standing_cylinder_bears_on_its_own_axes():
    row = pack(PLANE, c=[0, 0, 1], q=[1, 0, 0, 0], size=[0.2, 0.2, 1], n=[0, 0, 1], bar=[0] * 3)
    lower = call(plane_kernel, row, 54)[0, 6:].reshape(8, 6)[4:, :3]
    np.testing.assert_allclose(lower, [[0.2, 0, 0], [0, 0.2, 0], [-0.2, 0, 0], [0, -0.2, 0]], atol=1e-12)


def test_plane_gradients():
    cases = plane_poses(np.random.default_rng(10))
    c, q, bar = (cases[:, columns(PLANE, name)] for name in ("c", "q", "bar"))
    out = call(plane_kernel, cases, 54)

    for adr in range(0, 54, 6):

        def value(rows, adr=adr):
            return (bar * call(plane_kernel, rows, 54)[:, adr : adr + 3]).sum(1)

        def move(motion, step):
            rows = cases.copy()
            turn = np.array([[np.cos(step / 2), *(np.sin(step / 2) * motion[:3])]])
            product = np.zeros(4)
            for i in range(len(rows)):
                mujoco.mju_mulQuat(product, turn[0], q[i])
                rows[i, columns(PLANE, "q")] = product
            rows[:, columns(PLANE, "c")] = rotate(turn, c)
            return rows

        expected = differences(value, move, size=3, step=1e-6)
        p, torque = out[:, adr : adr + 3], out[:, adr + 3 : adr + 6]
        assert_gradients(np.cross(p, bar) + torque, expected, cases)


# Degenerate poses, and the cull


def test_degenerate_poses_are_finite():
    rng = np.random.default_rng(12)

    def places(count):
        # zeros and multiples of a quarter: coincident, parallel, touching and crossing in every combination
        return rng.integers(-2, 3, (count, 3)) / 4

    count = 1000
    bar, r = rng.normal(size=(count, 7)), rng.choice([0.25, 0.5], (2, count))
    u1, u2 = (x * (rng.random((count, 1)) < 0.8) for x in (places(count), places(count)))
    u2[::3] = -u1[::3]
    rows = pack(SEGMENTS, c1=places(count), u1=u1, r1=r[0], c2=places(count), u2=u2, r2=r[1], bar=bar)
    assert np.isfinite(call(segments_kernel, rows, PAIR)).all()

    q = rng.integers(-1, 2, (count, 4)) + [1e-9, 0, 0, 0]
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    size = rng.choice([0.25, 0.5], (count, 3))
    rows = pack(BOX, c1=places(count), u1=u1, r1=r[0], c2=places(count), q2=q, size=size, bar=bar)
    out = call(box_kernel, rows, 2 * PAIR)
    assert np.isfinite(out).all()
    np.testing.assert_allclose((out[:, [[1, 2, 3], [14, 15, 16]]] ** 2).sum(2), 1.0, atol=EXACT)

    n = np.eye(3)[rng.integers(0, 3, count)]
    n[:10] = [collide.TURN, 0, np.sqrt(1 - collide.TURN**2)]
    q[:10] = [1, 0, 0, 0]
    rows = pack(PLANE, c=places(count), q=q, size=size, n=n, bar=bar[:, :3])
    assert np.isfinite(call(plane_kernel, rows, 54)).all()


def test_near_keeps_a_block_with_one_pair_that_may_touch():
    x = np.zeros((2 * LANES, 8))
    x[:, 3], x[:, 7], x[:, 4] = 0.5, 0.25, 0.76
    x[LANES + 1, 4] = 0.74
    assert call(near_kernel, x, 1)[:, 0].tolist() == [0.0] * LANES + [1.0] * LANES
