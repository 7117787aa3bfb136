"""What a warp for each world would gain over a thread for each: the passes down a tree of 27 links, on a card.

`plan.py cuda|cpu`. Each link's pose follows from its parent's by a rotation and a translation, again and again, as a
substep's kinematics does. One plan has a thread per world, the poses in a field, worlds innermost; the other has 32
threads per world, which take a level of the tree at a time, the poses in shared memory. Both compute the same.
"""

import sys
import time

import numpy as np
import torch

# torch's context first, as in taichi_sim
CUDA = sys.argv[1:] == ["cuda"]
if CUDA:
    torch.zeros(1, device="cuda")

import taichi as ti  # noqa: E402

ti.init(arch=ti.cuda if CUDA else ti.cpu, log_level=ti.WARN, advanced_optimization=True, cfg_optimization=False)
REAL, SWEEPS, WARP = ti.f32, 200, 32
# humanoid.xml's links after the world: trunk, legs, arms, each hinge a link
PARENT = [0, 0, 1, 2, 3, 4, 5, 6, 3, 8, 9, 10, 11, 12, 8, 3, 15, 16, 17, 18, 19, 1, 21, 22, 1, 24, 25]
N = len(PARENT)
DEPTH = [0] * N
for i in range(1, N):
    DEPTH[i] = DEPTH[PARENT[i]] + 1
ORDER = sorted(range(N), key=DEPTH.__getitem__)
LEVELS = max(DEPTH) + 1
CELLS = 12

parent, order, starts = ti.field(ti.i32, N), ti.field(ti.i32, N), ti.field(ti.i32, LEVELS + 1)
parent.from_numpy(np.array(PARENT, np.int32))
order.from_numpy(np.array(ORDER, np.int32))
starts.from_numpy(np.searchsorted([DEPTH[i] for i in ORDER], range(LEVELS + 1)).astype(np.int32))


@ti.func
def compose(a, b):
    """The pose b, three columns and a place, seen from where a is seen from."""
    c = ti.Vector.zero(REAL, CELLS)
    for i in ti.static(range(3)):
        for j in ti.static(range(4)):
            for k in ti.static(range(3)):
                c[3 * j + i] += a[3 * k + i] * b[3 * j + k]
        c[9 + i] += a[9 + i]
    return c


def thread_plan(worlds: int):
    local, pose = (ti.field(REAL, (N * CELLS, worlds)) for _ in range(2))

    @ti.kernel
    def sweep(x: ti.types.ndarray(dtype=REAL, ndim=2), out: ti.types.ndarray(dtype=REAL, ndim=2), sweeps: ti.i32):
        ti.loop_config(block_dim=WARP)
        for w in range(worlds):
            for i in range(N * CELLS):
                local[i, w] = x[w, i]
                pose[i, w] = x[w, i]
            for _ in range(sweeps):
                for i in range(1, N):
                    a, b = ti.Vector.zero(REAL, CELLS), ti.Vector.zero(REAL, CELLS)
                    for c in ti.static(range(CELLS)):
                        a[c] = pose[parent[i] * CELLS + c, w]
                        b[c] = local[i * CELLS + c, w]
                    found = compose(a, b)
                    for c in ti.static(range(CELLS)):
                        pose[i * CELLS + c, w] = found[c]
            for i in range(N * CELLS):
                out[w, i] = pose[i, w]

    return sweep


def warp_plan(worlds: int):
    @ti.kernel
    def sweep(x: ti.types.ndarray(dtype=REAL, ndim=2), out: ti.types.ndarray(dtype=REAL, ndim=2), sweeps: ti.i32):
        ti.loop_config(block_dim=WARP)
        for t in range(worlds * WARP):
            w, lane = t // WARP, t % WARP
            local = ti.simt.block.SharedArray((N * CELLS,), REAL)
            pose = ti.simt.block.SharedArray((N * CELLS,), REAL)
            for r in range((N * CELLS + WARP - 1) // WARP):
                i = lane + WARP * r
                if i < N * CELLS:
                    local[i] = x[w, i]
                    pose[i] = x[w, i]
            ti.simt.block.sync()
            for _ in range(sweeps):
                for level in range(1, LEVELS):
                    at = starts[level] + lane
                    if at < starts[level + 1]:
                        i = order[at]
                        a, b = ti.Vector.zero(REAL, CELLS), ti.Vector.zero(REAL, CELLS)
                        for c in ti.static(range(CELLS)):
                            a[c] = pose[parent[i] * CELLS + c]
                            b[c] = local[i * CELLS + c]
                        found = compose(a, b)
                        for c in ti.static(range(CELLS)):
                            pose[i * CELLS + c] = found[c]
                    ti.simt.block.sync()
            for r in range((N * CELLS + WARP - 1) // WARP):
                i = lane + WARP * r
                if i < N * CELLS:
                    out[w, i] = pose[i]

    return sweep


def main():
    rng = np.random.default_rng(0)
    for worlds in (64, 1024, 4096, 16384):
        # rotations about z and small shifts, so that poses stay of size one
        angle = rng.uniform(-1, 1, (worlds, N))
        zero, one, c, s = 0 * angle, 1 + 0 * angle, np.cos(angle), np.sin(angle)
        x = np.stack([c, s, zero, -s, c, zero, zero, zero, one, 0.1 * c, 0.1 * s, zero], axis=2)
        x = torch.tensor(x.reshape(worlds, -1), dtype=torch.float32, device="cuda" if CUDA else "cpu")
        plans, found, seconds = {"thread": thread_plan(worlds)}, {}, {}
        if CUDA:
            plans["warp"] = warp_plan(worlds)
        for name, sweep in plans.items():
            found[name] = torch.zeros_like(x)
            times = []
            for _ in range(6):
                begin = time.perf_counter()
                sweep(x, found[name], SWEEPS)
                ti.sync()
                times.append(time.perf_counter() - begin)
            seconds[name] = sorted(times)[1] / SWEEPS
        # the same by matrix products
        want = x.cpu().numpy().astype(float).reshape(worlds, N, 4, 3)
        for i in range(1, N):
            a, b = want[:, PARENT[i]], x.cpu().numpy().astype(float).reshape(worlds, N, 4, 3)[:, i]
            want[:, i] = np.einsum("wki,wjk->wji", a[:, :3], b)
            want[:, i, 3] += a[:, 3]
        for name, y in found.items():
            error = np.abs(y.cpu().numpy() - want.reshape(worlds, -1)).max()
            print(
                f"{name}: {worlds} worlds, {1e6 * seconds[name]:.2f} us a sweep, largest error {error:.1e}", flush=True
            )


main()
