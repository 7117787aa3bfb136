"""Vectors, quaternions and six-dimensional algebra over lanes.

Every function works on a block of worlds at once: a scalar is a vector over the block's L lanes, a 3-vector a (3, L)
matrix, a quaternion (w, x, y, z) a (4, L) matrix. A spatial motion is a pair (angular, linear), a spatial force a pair
(moment, force), both about the same point and in world axes. Nothing here branches on a lane's value, so that the lanes
stay packed in SIMD registers.
"""

import math

from taichi_sim.lanes.vectors import of_compiler, stack
from taichi_sim.runtime import ti

# Taylor coefficients beyond the first: sin x = x + x^3 p(x^2), cos x = 1 + x^2 q(x^2), of x up to pi / 4; those of
# e^x = 1 + x p(x), of x up to log(2) / 2; of log m = 2 s + s z p(z) with s = (m - 1) / (m + 1), z = s^2, of m up to
# sqrt(2); and of atan t = t p(t^2), of t as small as `quat_log` makes it. For single precision fewer are enough.
_SINE, _COSINE, _EXPONENTIAL, _LOGARITHM, _ARCTANGENT = (
    {single: tuple(term(k) for k in range(1, number + 1)) for single, number in ((True, fewer), (False, number))}
    for term, fewer, number in (
        (lambda k: (-1) ** k / math.factorial(2 * k + 1), 4, 8),
        (lambda k: (-1) ** k / math.factorial(2 * k), 5, 9),
        (lambda k: 1 / math.factorial(k), 7, 13),
        (lambda k: 2 / (2 * k + 1), 4, 10),
        (lambda k: (-1) ** (k - 1) / (2 * k - 1), 9, 12),
    )
)
# log 2 as a number of few digits, whose multiples are exact, and the rest.
_LOG2 = float.fromhex("0x1.62e4p-1")
_LOG2_REST = math.log(2) - _LOG2

# Square of a quaternion's length below which it has no direction: that of MuJoCo's mjMINVAL.
NO_LENGTH2 = 1e-30


@ti.func
def dot(a, b):
    """Inner product of two 3-vectors."""
    return a[0, :] * b[0, :] + a[1, :] * b[1, :] + a[2, :] * b[2, :]


@ti.func
def cross(a, b):
    """Cross product of two 3-vectors."""
    ax, ay, az = a[0, :], a[1, :], a[2, :]
    bx, by, bz = b[0, :], b[1, :], b[2, :]
    return stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


@ti.func
def scale(a, s):
    """A 3-vector times a scalar."""
    return stack([a[0, :] * s, a[1, :] * s, a[2, :] * s])


@ti.func
def pick(condition, a, b):
    """3-vectors: a where the condition holds in a lane, else b."""
    rows = [ti.select(condition, a[k, :], b[k, :]) for k in ti.static(range(3))]
    return stack(rows)


@ti.func
def quat_mul(a, b):
    """Hamilton product."""
    aw, ax, ay, az = a[0, :], a[1, :], a[2, :], a[3, :]
    bw, bx, by, bz = b[0, :], b[1, :], b[2, :], b[3, :]
    return stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ]
    )


@ti.func
def quat_conj(a):
    """Inverse of a unit quaternion."""
    return stack([a[0, :], -a[1, :], -a[2, :], -a[3, :]])


@ti.func
def quat_normalize(a):
    """The unit quaternion along a; of zeros the identity, as in MuJoCo."""
    n2 = a[0, :] * a[0, :] + a[1, :] * a[1, :] + a[2, :] * a[2, :] + a[3, :] * a[3, :]
    none = n2 < NO_LENGTH2
    r = ti.select(none, n2 * 0.0, 1.0 / ti.sqrt(ti.max(n2, NO_LENGTH2)))
    return stack([ti.select(none, n2 * 0.0 + 1.0, a[0, :] * r), a[1, :] * r, a[2, :] * r, a[3, :] * r])


@ti.func
def quat_raw_gradient(q, g):
    """Gradient in q's own entries of what uses q/|q|: 2 g/|q|^2, 0 where q has no length and is no rotation.

    g is the gradient in a rotation u, times q: (0, u_bar) q in outer axes, q (0, u_bar) in its own.
    """
    norm2 = q[0, :] * q[0, :] + q[1, :] * q[1, :] + q[2, :] * q[2, :] + q[3, :] * q[3, :]
    none = norm2 < NO_LENGTH2
    return stack([ti.select(none, norm2 * 0.0, 2.0 * g[k, :] / norm2) for k in ti.static(range(4))])


@ti.func
def quat_vec(a):
    """Vector part of a quaternion."""
    return stack([a[1, :], a[2, :], a[3, :]])


@ti.func
def rotate(q, x):
    """Rotates the 3-vector x by the unit quaternion q."""
    u = quat_vec(q)
    t = 2.0 * cross(u, x)
    return x + scale(t, q[0, :]) + cross(u, t)


@ti.func
def rotate_inv(q, x):
    """Rotates the 3-vector x by the inverse of the unit quaternion q."""
    u = quat_vec(q)
    t = 2.0 * cross(u, x)
    return x - scale(t, q[0, :]) + cross(u, t)


@ti.func
def basis(like, k: ti.template()):
    """The k-th unit vector, shaped like the 3-vector `like`."""
    c = like * 0.0
    c[k, :] = c[k, :] + 1.0
    return c


@ti.func
def quat_axis(q, k: ti.template()):
    """The k-th column of the rotation matrix of q: its k-th axis in the outer frame."""
    w, x, y, z = q[0, :], q[1, :], q[2, :], q[3, :]
    c = quat_vec(q)
    if ti.static(k == 0):
        c = stack([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)])
    if ti.static(k == 1):
        c = stack([2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)])
    if ti.static(k == 2):
        c = stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)])
    return c


@ti.func
def sin_cos(x):
    """Sine and cosine by argument reduction and Taylor series.

    The C library's functions take one lane at a time; this one is straight-line code that LLVM packs. Its error is
    below the rounding of the argument in both precisions (remainder below 1e-19 on [-pi/4, pi/4]).
    """
    n = ti.floor(x * 0.6366197723675814 + 0.5)
    r = (x - n * 1.5707963267948966192) - n * 6.123233995736766e-17
    z = r * r
    s = r + r * z * _polynomial(_SINE, z)
    c = 1.0 + z * _polynomial(_COSINE, z)
    m = n - 4.0 * ti.floor(n * 0.25)
    odd = ti.select((m == 1.0) | (m == 3.0), x * 0.0 + 1.0, x * 0.0)
    sine = odd * c + (1.0 - odd) * s
    cosine = odd * s + (1.0 - odd) * c
    sine = ti.select(m >= 2.0, -sine, sine)
    cosine = ti.select((m == 1.0) | (m == 2.0), -cosine, cosine)
    return sine, cosine


def _single() -> bool:
    return ti.lang.impl.current_cfg().default_fp == ti.f32


@of_compiler
def _polynomial(series, x):
    """In kernels: c_1 + c_2 x + c_3 x^2 + .., whose parts do not wait for each other, as they do in Horner's scheme."""
    terms = list(series[_single()])
    while len(terms) > 1:
        pairs = [ti.lang.impl.expr_init(low + x * high) for low, high in zip(terms[::2], terms[1::2])]
        terms, x = pairs + terms[2 * len(pairs) :], ti.lang.impl.expr_init(x * x)
    return terms[0]


@ti.func
def exp(x):
    """e^x by argument reduction and Taylor series, straight-line as `sin_cos`; at least e^-87, or in double precision
    e^-708, and at most the inverse of that. Right to the rounding of the argument.
    """
    bound = ti.static(87.0 if _single() else 708.0)
    x = ti.min(ti.max(x, -bound), bound)
    n = ti.floor(x * 1.4426950408889634 + 0.5)
    r = (x - n * _LOG2) - n * _LOG2_REST
    s = _polynomial(_EXPONENTIAL, r)
    power = n
    # 2^n by its bits
    if ti.static(_single()):
        power = ti.bit_cast((ti.cast(n, ti.i32) + 127) << 23, ti.f32)
    else:
        power = ti.bit_cast((ti.cast(n, ti.i64) + 1023) << 52, ti.f64)
    return (1.0 + r * s) * power


@ti.func
def log(x):
    """The natural logarithm of positive numbers that are not denormal, straight-line as `sin_cos`."""
    n = x
    m = x
    # x = 2^n m by its bits, m in [1, 2)
    if ti.static(_single()):
        bits = ti.bit_cast(x, ti.i32)
        n = ti.cast((bits >> 23) - 127, ti.f32)
        m = ti.bit_cast((bits & 0x7FFFFF) | 0x3F800000, ti.f32)
    else:
        bits = ti.bit_cast(x, ti.i64)
        n = ti.cast((bits >> 52) - 1023, ti.f64)
        m = ti.bit_cast((bits & ti.i64(0xFFFFFFFFFFFFF)) | ti.i64(0x3FF0000000000000), ti.f64)
    high = m > 1.4142135623730951
    m = ti.select(high, 0.5 * m, m)
    n = ti.select(high, n + 1.0, n)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = z * _polynomial(_LOGARITHM, z)
    return n * _LOG2 + (n * _LOG2_REST + s * p + 2.0 * s)


@ti.func
def tanh(x):
    """The hyperbolic tangent, straight-line as `sin_cos`; its error is one rounding of 1."""
    y = exp(2.0 * ti.min(ti.max(x, -20.0), 20.0))
    return (y - 1.0) / (y + 1.0)


@ti.func
def quat_exp(u):
    """The unit quaternion of the rotation vector u [rad]."""
    h2 = 0.25 * dot(u, u)
    h = ti.sqrt(h2)
    s, c = sin_cos(h)
    # sin(h)/h by its series where the quotient would be 0/0; the next term is below one rounding there
    ratio = ti.select(h2 < 1e-4, 1.0 - h2 * (1.0 / 6 - h2 * (1.0 / 120 - h2 * (1.0 / 5040))), s / ti.max(h, 1e-20))
    half = 0.5 * ratio
    return stack([c, half * u[0, :], half * u[1, :], half * u[2, :]])


@ti.func
def quat_log(q):
    """The rotation vector [rad] of the unit quaternion q, of length at most pi."""
    u = quat_vec(q)
    # q and -q are one rotation: the half that gives the short way round
    w = 1.0 + ti.abs(q[0, :])
    # |u| is the sine of half the angle, t = |u| / w the tangent of a quarter; for the series it is halved on, once to
    # 0.41 and twice to 0.2 at most
    ratio, z = 4.0 / w, dot(u, u) / (w * w)
    for _ in ti.static(range(1 if _single() else 2)):
        more = 1.0 + ti.sqrt(1.0 + z)
        ratio, z = 2.0 * ratio / more, z / (more * more)
    ratio = ratio * _polynomial(_ARCTANGENT, z)
    return scale(u, ti.select(q[0, :] < 0.0, -ratio, ratio))


@ti.func
def jac_right_transpose(u, x):
    """Transpose of SO(3)'s right Jacobian at the rotation vector u, applied to x.

    exp(u + du) = exp(u) exp(J_r(u) du). Source: Sola et al., A micro Lie theory, eq. 143.
    """
    t2 = dot(u, u)
    t = ti.sqrt(t2)
    s, c = sin_cos(t)
    a = 0.5 - t2 * (1.0 / 24 - t2 * (1.0 / 720 - t2 * (1.0 / 40320)))
    b = 1.0 / 6 - t2 * (1.0 / 120 - t2 * (1.0 / 5040 - t2 * (1.0 / 362880)))
    large = t2 > 1e-2
    safe = ti.max(t2, 1e-3)
    a = ti.select(large, (1.0 - c) / safe, a)
    b = ti.select(large, (t - s) / (safe * ti.sqrt(safe)), b)
    ux = cross(u, x)
    return x + scale(ux, a) + scale(cross(u, ux), b)


@ti.func
def jac_right_inv_coefficient(t2):
    """b(t) = 1 / t^2 - (1 + cos t) / (2 t sin t) of t^2: J_r(u)^-1 x = x + u x x / 2 + b(|u|) u x (u x x)."""
    t = ti.sqrt(t2)
    s, c = sin_cos(t)
    b = 1.0 / 12 + t2 * (1.0 / 720 + t2 * (1.0 / 30240 + t2 * (1.0 / 1209600)))
    safe = ti.max(t2, 1e-3)
    # (1 + cos)/sin has a removable pole at pi, where (1 + cos t) t / sin t -> 0
    tail = 1.0 / safe - (1.0 + c) / (2.0 * ti.sqrt(safe) * ti.select(ti.abs(s) < 1e-12, s * 0.0 + 1e-12, s))
    return ti.select(t2 > 1e-2, tail, b)


@ti.func
def jac_right_inv_transpose(u, x):
    """Transpose of the inverse of SO(3)'s right Jacobian at the rotation vector u, applied to x.

    log(exp(u) exp(dx)) = u + J_r(u)^-1 dx. Source: Sola et al., A micro Lie theory, eq. 144.
    """
    ux = cross(u, x)
    return x - 0.5 * ux + scale(cross(u, ux), jac_right_inv_coefficient(dot(u, u)))


@ti.func
def jac_right_inv_gradient(u, v, x):
    """The gradient of x . J_r(u)^-1 v in the rotation vector u, with J_r SO(3)'s right Jacobian; |u| below 2 pi."""
    t2 = dot(u, u)
    b = jac_right_inv_coefficient(t2)
    # db/dt / t
    slope = 1.0 / 360 + t2 * (1.0 / 7560 + t2 * (1.0 / 201600 + t2 * (1.0 / 5987520)))
    safe = ti.max(t2, 0.1)
    s, c = sin_cos(0.5 * ti.sqrt(safe))
    half = 0.5 * ti.sqrt(safe) * c / s
    slope = ti.select(t2 > 0.25, (half - 2.0 + 0.25 * safe / (s * s)) / (safe * safe), slope)
    uv, ux, vx = dot(u, v), dot(u, x), dot(v, x)
    along = scale(x, uv) + scale(v, ux) - scale(u, 2.0 * vx)
    return 0.5 * cross(v, x) + scale(along, b) + scale(u, slope * (ux * uv - vx * t2))


@ti.func
def sym_mul(diag, off, x):
    """A symmetric 3x3 matrix, (xx, yy, zz) and (yz, xz, xy), times a 3-vector."""
    yz, xz, xy = off[0, :], off[1, :], off[2, :]
    return stack(
        [
            diag[0, :] * x[0, :] + xy * x[1, :] + xz * x[2, :],
            xy * x[0, :] + diag[1, :] * x[1, :] + yz * x[2, :],
            xz * x[0, :] + yz * x[1, :] + diag[2, :] * x[2, :],
        ]
    )


@ti.func
def inertia_mul(mass, h, diag, off, w, v):
    """Spatial inertia (mass, mass times centre, inertia about the reference point) times the motion (w, v)."""
    return sym_mul(diag, off, w) + cross(h, v), scale(v, mass) - cross(h, w)


@ti.func
def motion_cross(w1, v1, w2, v2):
    """Spatial cross product of two motions: the rate of (w2, v2) when it is carried along by (w1, v1)."""
    return cross(w1, w2), cross(w1, v2) + cross(v1, w2)


@ti.func
def force_cross(w, v, n, f):
    """Spatial cross product of a motion and a force: the rate of (n, f) when it is carried along by (w, v)."""
    return cross(w, n) + cross(v, f), cross(w, f)


@ti.func
def load_quat(field: ti.template(), e, adr):
    """Four consecutive scalars as a quaternion."""
    return stack([field[e, adr], field[e, adr + 1], field[e, adr + 2], field[e, adr + 3]])


@ti.func
def load_vec3(field: ti.template(), e, adr):
    """Three consecutive scalars as a 3-vector."""
    return stack([field[e, adr], field[e, adr + 1], field[e, adr + 2]])


@ti.func
def load_quat_constant(field: ti.template(), adr):
    """Four consecutive constants as a quaternion."""
    return stack([field[adr], field[adr + 1], field[adr + 2], field[adr + 3]])


@ti.func
def pure_quat(u):
    """The quaternion (0, u)."""
    zero = u[0, :] * 0.0
    return stack([zero, u[0, :], u[1, :], u[2, :]])
