"""The hand-written adjoint of inverse dynamics against Taichi's autodiff of inverse dynamics written another way.

The second way knows nothing of spatial algebra: positions, classical accelerations and Newton-Euler at the centres of
mass, for hinges only, one world, one lane, in the loops that Taichi differentiates correctly (a top-level loop a pass).
"""

import mujoco
import numpy as np
import torch
from test_adjoint import STAGES, call, stage_kernels

import taichi_sim as ts
from taichi_sim.runtime import ti

NUM_BODIES = 9


def hinge_tree(rng: np.random.Generator) -> str:
    """A branching tree of hinges, each at its body's origin."""
    parents = [None, 0, 1, 1, 3, 0, 5, 5, 7]
    vector = lambda scale=1.0: " ".join(map(str, scale * rng.normal(size=3)))  # noqa: E731

    def body(b: int) -> str:
        inner = "".join(body(c) for c in range(NUM_BODIES) if parents[c] == b)
        inertia = " ".join(map(str, rng.uniform(0.1, 0.15, 3)))
        return (
            f'<body pos="{vector()}"><joint type="hinge" axis="{vector()}"/>'
            f'<inertial pos="{vector(0.3)}" mass="{rng.uniform(1, 2)}" diaginertia="{inertia}"/>{inner}</body>'
        )

    return f'<mujoco><option gravity="1 -2 -9"/><worldbody>{body(0)}</worldbody></mujoco>'


@ti.data_oriented
class Reference:
    """tau, inverse dynamics of a model whose bodies carry one hinge each, and autodiff's gradient of lam . tau."""

    def __init__(self, model: ts.Model):
        self.n = n = model.nbody
        self.gravity = ti.Vector(model.opt.gravity.tolist())
        self.parent = ti.field(ti.i32, n)
        self.parent.from_numpy(model.body_parentid.astype(np.int32))
        axes = np.vstack([np.zeros(3), model.jnt_axis])
        constants = {"offset": model.body_pos, "com": model.body_ipos, "inertia": model.body_inertia, "axis": axes}
        for name, values in constants.items():
            setattr(self, name, ti.Vector.field(3, ti.f64, n))
            getattr(self, name).from_numpy(np.ascontiguousarray(values))
        self.mass = ti.field(ti.f64, n)
        self.mass.from_numpy(model.body_mass)
        self.q, self.v, self.a, self.lam = (ti.field(ti.f64, n, needs_grad=True) for _ in range(4))
        names = ("position", "omega", "alpha", "acceleration", "turn", "force", "moment")
        for name in names:
            setattr(self, name, ti.Vector.field(3, ti.f64, n, needs_grad=True))
        self.quat = ti.Vector.field(4, ti.f64, n, needs_grad=True)
        self.scratch = [getattr(self, name) for name in (*names, "quat")]
        self.loss = ti.field(ti.f64, (), needs_grad=True)

    @ti.func
    def rotate(self, q, x):
        u = ti.Vector([q[1], q[2], q[3]])
        return x + 2.0 * q[0] * u.cross(x) + 2.0 * u.cross(u.cross(x))

    @ti.kernel
    def run(self):
        for _ in range(1):
            for b in range(1, self.n):
                p = self.parent[b]
                q = self.quat[p]
                r = self.rotate(q, self.offset[b])
                w = self.omega[p]
                axis = self.rotate(q, self.axis[b])
                c, s = ti.cos(0.5 * self.q[b]), ti.sin(0.5 * self.q[b])
                k = self.axis[b] * s
                u = ti.Vector([q[1], q[2], q[3]])
                turned = q[0] * k + c * u + u.cross(k)
                self.quat[b] = ti.Vector([q[0] * c - u.dot(k), turned[0], turned[1], turned[2]])
                self.position[b] = self.position[p] + r
                self.turn[b] = axis
                self.omega[b] = w + axis * self.v[b]
                self.alpha[b] = self.alpha[p] + axis * self.a[b] + w.cross(axis * self.v[b])
                self.acceleration[b] = self.acceleration[p] + self.alpha[p].cross(r) + w.cross(w.cross(r))
        for b in range(1, self.n):
            q = self.quat[b]
            inverse = ti.Vector([q[0], -q[1], -q[2], -q[3]])
            c = self.rotate(q, self.com[b])
            w, al = self.omega[b], self.alpha[b]
            f = self.mass[b] * (self.acceleration[b] + al.cross(c) + w.cross(w.cross(c)))
            own = self.rotate(inverse, w)
            n = self.inertia[b] * self.rotate(inverse, al) + own.cross(self.inertia[b] * own)
            self.force[b] += f
            self.moment[b] += self.rotate(q, n) + (self.position[b] + c).cross(f)
        for _ in range(1):
            for step in range(1, self.n):
                b = self.n - step
                self.force[self.parent[b]] += self.force[b]
                self.moment[self.parent[b]] += self.moment[b]
        for b in range(1, self.n):
            tau = self.turn[b].dot(self.moment[b] - self.position[b].cross(self.force[b]))
            self.loss[None] += self.lam[b] * tau

    def gradient(self, qpos, qvel, qacc, lam):
        """lam . tau, and its gradient in qpos and qvel."""
        for field, values in zip((self.q, self.v, self.a, self.lam), (qpos, qvel, qacc, lam), strict=True):
            field.from_numpy(np.concatenate([[0.0], values]))
        for field in (*self.scratch, self.loss, self.q, self.v, self.a, self.lam):
            if field in self.scratch or field is self.loss:
                field.fill(0.0)
            field.grad.fill(0.0)
        self.quat[0] = ti.Vector([1.0, 0.0, 0.0, 0.0])
        self.acceleration[0] = -self.gravity
        self.run()
        self.loss.grad[None] = 1.0
        self.run.grad()
        return self.loss[None], np.concatenate([self.q.grad.to_numpy()[1:], self.v.grad.to_numpy()[1:]])


def test_adjoint_equals_taichis_autodiff():
    rng = np.random.default_rng(0)
    model = ts.load(mujoco.MjModel.from_xml_string(hinge_tree(rng)))
    sim = ts.Simulator(model, 4)
    # fills the model's figures into the memory that the kernels below share
    sim.forward(sim.initial_state())
    qpos, qvel, qacc, lam = (rng.normal(size=(4, model.nv)) for _ in range(4))
    value, gradient = stage_kernels(sim, *STAGES["inverse dynamics"])
    inputs = torch.tensor(np.hstack([qpos, qvel, qacc, lam]))
    ours_value = call(value, sim, 1, inputs).numpy()[:, 0]
    ours = call(gradient, sim, 2 * model.nv, inputs).numpy()
    reference = Reference(model)
    for world in range(4):
        expected_value, expected = reference.gradient(qpos[world], qvel[world], qacc[world], lam[world])
        # the stage is the residual's force, minus inverse dynamics
        np.testing.assert_allclose(-ours_value[world], expected_value, rtol=1e-10)
        np.testing.assert_allclose(-ours[world], expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
