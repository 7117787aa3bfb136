"""Contacts whose friction is held in MuJoCo's elliptic cone.

A contact has a row along the normal n, two along tangents, and as condim says one about n and two about the tangents;
what friction leaves to them, f, has |f_k / mu_k| <= f_n. With the pulls p = a_ref - J a (`rows`), u_k = mu_k p_k,
T = |u|, and the mass m of the normal's row, they push with the gradient of

    0                                              where p_n + T <= 0,
    m (p_n^2 + T^2 / nu^2) / 2                     where T <= nu^2 p_n: the contact sticks,
    m (p_n + T)^2 / (2 (1 + nu^2))                 elsewhere: it slides,    nu = mu_1 / sqrt(impratio)

in p. That is H p, H the second derivative: the normal's row and, where it slides, the direction of slip h_k = mu_k u_k
/ T push together with the mass q, tangents with mu_k^2 times another, r, and across h alone. What sticks is linear in
the acceleration, as pyramids are; what slides is not, and H is that of the last solution, until none is different.

Source: MuJoCo's documentation, "Computation: Constraint model"; there nu is the cone's regularised mu.
"""

from taichi_sim import spatial
from taichi_sim.constraint.touch import join
from taichi_sim.lanes.vectors import greatest
from taichi_sim.runtime import ti

# MuJoCo's mjMINMU.
LEAST_FRICTION = 1e-5

# What a contact does, as `on` of its first row says it.
SLIDES, STICKS = 1.0, 2.0


@ti.func
def row(n, t1, t2, k):
    """Row k of a contact: its linear part and its angular one."""
    y, w = n, n * 0.0
    if k == 1:
        y = t1
    elif k == 2:
        y = t2
    elif k > 2:
        y, w = w, n
        if k == 4:
            w = t1
        elif k == 5:
            w = t2
    return y, w


@ti.func
def rough(m: ti.template(), e, c, k):
    """Friction coefficient of row k of a cone; 0 of the normal's."""
    mu = m.constraint.contacts.rough[e * m.constraint.contacts.per_block, m.constraint.contacts.dims * c + k]
    if ti.static(m.constraint.contacts.fit):
        # as the model's own, `tables`
        mu = ti.max(mu, ti.select(k == 0, 0.0, LEAST_FRICTION))
    return mu


@ti.func
def regularised(m: ti.template(), e, c):
    """nu^2 of contact c."""
    nu2 = m.constraint.contacts.per_impratio[0]
    if m.constraint.contacts.edges[c] > 1:
        mu = rough(m, e, c, 1)
        nu2 = mu * mu * nu2
    else:
        nu2 = nu2 * 0.0 + 1.0
    return nu2


@ti.func
def weight(m: ti.template(), e, c):
    """The inverse mass that a row of contact c sees; an edge of a pyramid by its friction, as in MuJoCo."""
    w = m.constraint.contacts.weight[c]
    if ti.static(not m.constraint.contacts.elliptic):
        if m.constraint.contacts.edges[c] > 1:
            mu2 = rough(m, e, c, 1) * rough(m, e, c, 1)
            w = w * 2.0 * mu2 * (1.0 + mu2) * m.constraint.contacts.per_impratio[0]
    return w


@ti.func
def place(m: ti.template(), c):
    """Contact c's first row among all rows."""
    return m.constraint.contacts.row + m.constraint.contacts.most * c


@ti.func
def between(d: ti.template(), row, e, share):
    """Pull of a row at a share of the way from where a step begins (`search`)."""
    start = d.constraint.pull_start[e, row]
    return start + share * (d.constraint.pull[e, row] - start)


@ti.func
def slip(m: ti.template(), d: ti.template(), e, c, share):
    """T at a share of the way, which is 1 at its end."""
    T2 = share * 0.0
    for k in range(1, m.constraint.contacts.edges[c]):
        u = rough(m, e, c, k) * between(d, place(m, c) + k, e, share)
        T2 = T2 + u * u
    return ti.sqrt(T2)


@ti.func
def masses(m: ti.template(), e, c, mass, normal, T):
    """q, r, and 1 if the contact slides, by the pulls p_n and T."""
    nu2 = regularised(m, e, c)
    sticks = (nu2 * normal >= T) & (mass > 0.0)
    slides = (nu2 * normal < T) & (normal + T > 0.0) & (mass > 0.0)
    q = ti.select(sticks, mass, ti.select(slides, mass / (1.0 + nu2), mass * 0.0))
    r = ti.select(sticks, mass / nu2, ti.select(slides, q * (normal + T) / ti.max(T, 1e-30), mass * 0.0))
    return q, r, ti.select(slides, mass * 0.0 + 1.0, mass * 0.0)


@ti.func
def second(m: ti.template(), d: ti.template(), e, c):
    """H of contact c at its pulls: q, r, whether it slides, and 1 / T of what does."""
    T = slip(m, d, e, c, d.constraint.mass[e, c] * 0.0 + 1.0)
    q, r, slides = masses(m, e, c, d.constraint.mass[e, c], d.constraint.pull[e, place(m, c)], T)
    return q, r, slides, slides / ti.max(T, 1e-30)


@ti.func
def heading(m: ti.template(), d: ti.template(), e, c, k, per_T):
    """h_k: 0 of the normal's row, and of what does not slide."""
    mu = rough(m, e, c, k)
    return mu * mu * d.constraint.pull[e, place(m, c) + k] * per_T


@ti.func
def product(m: ti.template(), e, c, k, q, r, slides, h, normal, x, along):
    """Row k of H x, x_n being the normal's entry and `along` h' x."""
    mu = rough(m, e, c, k)
    y = q * (normal + slides * along)
    if k > 0:
        y = slides * h * (y - r * along) + r * mu * mu * x
    return y


@ti.func
def add(m: ti.template(), d: ti.template(), e, c, p, n, t1, t2, aim: ti.template()):
    """H of contact c to the matrix (`touch.join`); returns the force H a_ref, and its moment but for p x force."""
    q, r, slides, per_T = second(m, d, e, c)
    on = ti.min(d.constraint.on[e, place(m, c)], 1.0)
    q, r = on * q, on * r
    at = m.constraint.contacts.most * c
    along = q * 0.0
    for k in range(1, m.constraint.contacts.edges[c]):
        along = along + heading(m, d, e, c, k, per_T) * d.constraint.ref[e, at + k]
    f, moment = p * 0.0, p * 0.0
    both, both_w = p * 0.0, p * 0.0
    for k in range(m.constraint.contacts.edges[c]):
        y, w = row(n, t1, t2, k)
        h = heading(m, d, e, c, k, per_T)
        push = product(m, e, c, k, q, r, slides, h, d.constraint.ref[e, at], d.constraint.ref[e, at + k], along)
        f, moment = f + spatial.scale(y, push), moment + spatial.scale(w, push)
        both, both_w = both + spatial.scale(y, h), both_w + spatial.scale(w, h)
        if k > 0:
            mu = rough(m, e, c, k)
            join(m, d, e, c, p, y, w, r * mu * mu, aim)
    if greatest(slides) > 0.0:
        join(m, d, e, c, p, both, both_w, -r * slides, aim)
    join(m, d, e, c, p, n + both, both_w, q, aim)
    return f, moment


@ti.func
def pushed(m: ti.template(), d: ti.template(), e, c, k, q, r, slides, per_T):
    """Row k of H p, its force."""
    at = place(m, c)
    h = heading(m, d, e, c, k, per_T)
    T = ti.select(slides > 0.0, 1.0 / ti.max(per_T, 1e-30), slides)
    return product(m, e, c, k, q, r, slides, h, d.constraint.pull[e, at], d.constraint.pull[e, at + k], T)


@ti.func
def force(m: ti.template(), d: ti.template(), e, c, n, t1, t2):
    """The force with which contact c pushes, and its moment but for p x force."""
    q, r, slides, per_T = second(m, d, e, c)
    f, moment = n * 0.0, n * 0.0
    for k in range(m.constraint.contacts.edges[c]):
        y, w = row(n, t1, t2, k)
        push = pushed(m, d, e, c, k, q, r, slides, per_T)
        f, moment = f + spatial.scale(y, push), moment + spatial.scale(w, push)
    return f, moment


@ti.func
def decide(m: ti.template(), d: ti.template(), e, c):
    """pull -> on of contact c; returns whether that, or where it slides to, is not what it was at `pull_start`."""
    one = d.constraint.mass[e, c] * 0.0 + 1.0
    q, _r, slides, _per_T = second(m, d, e, c)
    at = place(m, c)
    new = ti.select(slides > 0.0, one * SLIDES, ti.select(q > 0.0, one * STICKS, one * 0.0))
    was = d.constraint.on[e, at]
    d.constraint.on[e, at] = new
    off, all2 = one * 0.0, one * 0.0
    for k in range(m.constraint.contacts.edges[c]):
        mu = ti.max(rough(m, e, c, k), ti.select(k == 0, 1.0, 0.0))
        pull = d.constraint.pull[e, at + k]
        step = mu * (pull - d.constraint.pull_start[e, at + k])
        off, all2 = off + step * step, all2 + mu * mu * pull * pull
    same2 = ti.static(10.0 ** (-2 * m.constraint.contacts.digits))
    turned = ti.select((slides > 0.0) & (off > same2 * all2), one, one * 0.0)
    return abs(new - was) + turned


@ti.func
def slope(m: ti.template(), d: ti.template(), e, c, share):
    """Slope and curvature of contact c's cost in the share of a step (`search.slope`)."""
    at = place(m, c)
    normal = between(d, at, e, share)
    T = slip(m, d, e, c, share)
    q, r, slides = masses(m, e, c, d.constraint.mass[e, c], normal, T)
    # of how p changes with the share: mu^2 p' p, mu^2 p'^2
    along, size = share * 0.0, share * 0.0
    for k in range(1, m.constraint.contacts.edges[c]):
        mu = rough(m, e, c, k)
        rate = mu * (d.constraint.pull[e, at + k] - d.constraint.pull_start[e, at + k])
        along = along + mu * between(d, at + k, e, share) * rate
        size = size + rate * rate
    rate = d.constraint.pull[e, at] - d.constraint.pull_start[e, at]
    h = slides * along / ti.max(T, 1e-30)
    first = q * (normal + slides * T) * (rate + h) + (1.0 - slides) * r * along
    return first, q * (rate + h) * (rate + h) + r * (size - h * h)
