"""Newton's SolverFeatherstone, in Warp, which on a CPU has one thread; differentiated by Warp's tape."""

from __future__ import annotations

import mujoco
import newton
import numpy as np
import warp as wp
from problem import Problem
from scipy.spatial.transform import Rotation

LEAVES_OUT = (
    "muscles and tendons; the geometry of contacts is found once per control step and has no gradient; "
    "on a CPU all threads but one"
)
PRECISION = "f32"


@wp.kernel
def drive(ctrl: wp.array2d[float], dof: wp.array[int], gear: wp.array[float], num_dofs: int, joint_f: wp.array[float]):
    world, actuator = wp.tid()
    joint_f[world * num_dofs + dof[actuator]] = gear[actuator] * ctrl[world, actuator]


@wp.kernel
def root_x(joint_q: wp.array[float], num_coords: int, x: wp.array[float]):
    world = wp.tid()
    x[world] = joint_q[world * num_coords]


class Contestant:
    """See `child`."""

    def __init__(self, problem: Problem, threads: int):
        if problem.act.size:
            raise NotImplementedError("Newton's muscles are switched off")
        wp.config.quiet = True
        wp.set_device("cpu")
        self.problem, self.mujoco = problem, mujoco.MjModel.from_xml_path(problem.path)
        body, world = newton.ModelBuilder(), newton.ModelBuilder()
        body.add_mjcf(problem.path, enable_self_collisions=False, parse_visuals=False)
        world.replicate(body, problem.worlds)
        model = self.model = world.finalize(requires_grad=True)
        # replicate() may give a body a free joint's seven coordinates in another place
        assert model.joint_coord_count == problem.worlds * self.mujoco.nq
        assert model.joint_dof_count == problem.worlds * self.mujoco.nv
        self.solver = newton.solvers.SolverFeatherstone(model)
        joints = self.mujoco.actuator_trnid[:, 0]
        self.dof = wp.array(self.mujoco.jnt_dofadr[joints], dtype=int)
        self.gear = wp.array(self.mujoco.actuator_gear[:, 0], dtype=float)
        self.dt = self.mujoco.opt.timestep
        self.steps = len(problem.ctrl)
        self.pipeline = newton.CollisionPipeline(model, broad_phase="explicit", requires_grad=False)
        self.contacts = [self.pipeline.contacts() for _ in range(self.steps)]
        self.controls = [model.control() for _ in range(self.steps)]
        self.states = [model.state(requires_grad=True) for _ in range(self.steps * problem.substeps + 1)]
        shape = problem.ctrl.shape[1:]
        self.ctrl = [wp.zeros(shape, dtype=float, requires_grad=True) for _ in range(self.steps)]
        self.x = wp.zeros(problem.worlds, dtype=float, requires_grad=True)

    def forward(self, qpos: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
        self._start(qpos, ctrl)
        self._rollout()
        # a copy: what numpy() gives is the array itself
        return self.x.numpy().copy()

    def gradient(self, qpos: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
        self._start(qpos, ctrl)
        with wp.Tape() as tape:
            self._rollout()
        tape.backward(grads={self.x: wp.full(self.x.shape, 1.0, dtype=float)})
        found = np.stack([control.grad.numpy() for control in self.ctrl])
        tape.zero()
        return found

    def _start(self, qpos: np.ndarray, ctrl: np.ndarray) -> None:
        """Writes the first state and all controls, in Newton's coordinates: quaternions xyzw, twists of the centre of
        mass in the world."""
        joint_q, joint_qd = qpos.copy(), self.problem.qvel.copy()
        joint_q[:, 3:7] = qpos[:, [4, 5, 6, 3]]
        turn = Rotation.from_quat(joint_q[:, 3:7])
        joint_qd[:, 3:6] = turn.apply(joint_qd[:, 3:6])
        root = self.mujoco.jnt_bodyid[0]
        joint_qd[:, :3] += np.cross(joint_qd[:, 3:6], turn.apply(self.mujoco.body_ipos[root]))
        first = self.states[0]
        first.joint_q.assign(joint_q.astype(np.float32).ravel())
        first.joint_qd.assign(joint_qd.astype(np.float32).ravel())
        newton.eval_fk(self.model, first.joint_q, first.joint_qd, first)
        for own, values in zip(self.ctrl, ctrl.astype(np.float32)):
            own.assign(values)

    def _rollout(self) -> None:
        substeps, worlds = self.problem.substeps, self.problem.worlds
        for step, (ctrl, control, contacts) in enumerate(zip(self.ctrl, self.controls, self.contacts)):
            before = self.states[step * substeps]
            self.pipeline.collide(before, contacts)
            inputs = [ctrl, self.dof, self.gear, self.mujoco.nv]
            wp.launch(drive, dim=ctrl.shape, inputs=inputs, outputs=[control.joint_f])
            for k in range(step * substeps, (step + 1) * substeps):
                self.states[k].clear_forces()
                self.solver.step(self.states[k], self.states[k + 1], control, contacts, self.dt)
        wp.launch(root_x, dim=worlds, inputs=[self.states[-1].joint_q, self.mujoco.nq], outputs=[self.x])
