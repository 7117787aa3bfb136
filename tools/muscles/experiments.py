"""Both muscle laws in the laboratory: isometric, isotonic and quick-release experiments on one muscle, as a picture.

    python -m tools.muscles.experiments docs/muscle_experiments.png

One muscle of 1000 N and 0.1 m of optimal fibre length, each law with its default constants (no pennation). Forces are
drawn in units of F0, lengths in optimal fibre lengths, velocities in the law's own largest velocity.
"""

from pathlib import Path

import click
import matplotlib
import numpy as np

import taichi_sim as ts
from taichi_sim.muscles import laws
from taichi_sim.runtime import ti
from taichi_sim.types import LAW_DEGROOTE, LAW_MUJOCO

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

LAWS = frozenset({LAW_MUJOCO, LAW_DEGROOTE})
STYLES = {LAW_DEGROOTE: ("De Groote-Fregly", "C0"), LAW_MUJOCO: ("MuJoCo", "C1")}

F0, LOPT, LSLACK = 1000.0, 0.1, 0.2
# vmax [1/s], tau_act and tau_deact [s] of each law
VMAX = {LAW_DEGROOTE: 10.0, LAW_MUJOCO: 1.5}
TAU = {LAW_DEGROOTE: (0.015, 0.06), LAW_MUJOCO: (0.01, 0.04)}

ARRAY = ti.types.ndarray(dtype=ti.types.vector(1, ti.f64), ndim=1)


@ti.kernel
def force_kernel(law: ti.i32, constants: ARRAY, length: ARRAY, velocity: ARRAY, act: ARRAY, f: ARRAY, by_v: ARRAY):
    for i in range(length.shape[0]):
        c = ti.Matrix.rows([constants[k] for k in range(laws.NUM_CONSTANTS)])
        f[i], by_v[i] = laws.force(c, laws.tangent(LAWS, law, c, length[i], velocity[i], act[i]))


@ti.kernel
def activation_kernel(law: ti.i32, act: ARRAY, ctrl: ARRAY, h: ti.f64, tau_act: ti.f64, tau_deact: ti.f64):
    for i in range(act.shape[0]):
        zero = act[i] * 0.0
        args = (h, zero + tau_act, zero + tau_deact, zero)
        act[i], _a, _c, _ta, _td = laws.advance(LAWS, law, act[i], ctrl[i], *args)


def pull(law: int, x, w, act) -> tuple[np.ndarray, np.ndarray]:
    """Pull over F0 at fibre lengths x, velocities w and activations, and how fast it falls with shortening."""
    x, w, act = (np.ascontiguousarray(y, dtype=float)[:, None] for y in np.broadcast_arrays(x, w, act))
    constants = np.zeros((laws.NUM_CONSTANTS, 1))
    values = {laws.FORCE: F0, laws.OPTIMAL: LOPT, laws.SLACK: LSLACK, laws.VMAX: VMAX[law], laws.LMIN: 0.5}
    values |= {laws.LMAX: 1.6, laws.FPMAX: 1.3, laws.FVMAX: 1.2, laws.DAMPING: 0.01}
    values |= {laws.PASSIVE_LMAX: 1.6, laws.STRETCH: 1.0}
    for row, value in values.items():
        constants[row] = value
    f, by_v = np.zeros_like(x), np.zeros_like(x)
    rate = LOPT * VMAX[law]
    force_kernel(law, constants, LSLACK + LOPT * x, rate * w, act, f, by_v)
    return -f[:, 0] / F0, -by_v[:, 0] * rate / F0


def isometric(axes, law: int) -> None:
    """Force over length, the muscle held: passive, and at three activations."""
    name, color = STYLES[law]
    x = np.linspace(0.3, 1.8, 301)
    for act in (0.0, 0.25, 0.5, 1.0):
        label = name if act == 1.0 else None
        axes.plot(x, pull(law, x, 0.0, act)[0], color, lw=0.6 + act, ls="-" if act else "--", label=label)


def isotonic(axes, law: int) -> None:
    """Force over velocity at optimal length, and the speeds that an active muscle reaches against loads.

    Each load hangs on the muscle, which holds it at optimal length and is then let go: the dots are the velocities
    and the pulls once it moves steadily, for which a light mass takes a few steps.
    """
    _, color = STYLES[law]
    w = np.linspace(-1.2, 1.2, 301)
    axes.plot(w, pull(law, 1.0, w, 1.0)[0], color)
    load = np.array([0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9])
    speed, h = np.zeros_like(load), 1e-4
    for _ in range(200):
        # velocity-implicit like the engine's step; the length is held, so that it stays optimal
        force, damping = pull(law, 1.0, speed, 1.0)
        speed += h * (load - force) / (1e-3 + h * damping)
    axes.plot(speed, pull(law, 1.0, speed, 1.0)[0], color + "o", ms=3)


def quick_release(axes, act_axes, law: int) -> None:
    """A tetanic muscle held at 1.1 optimal lengths is shortened within 10 ms, and relaxes in the end."""
    name, color = STYLES[law]
    h, times = 1e-3, np.arange(0.0, 0.7, 1e-3)
    ctrl = np.where((times > 0.05) & (times < 0.5), 1.0, 0.0)
    for release in (0.05, 0.15):
        act, x, forces, acts = np.zeros((1, 1)), 1.1, [], []
        for time, excitation in zip(times, ctrl):
            released = 0.3 <= time < 0.31
            speed = -release / 0.01 if released else 0.0
            forces.append(pull(law, [x], speed / VMAX[law], act[0])[0][0])
            acts.append(act[0, 0])
            x += h * speed
            activation_kernel(law, act, np.full((1, 1), excitation), h, *TAU[law])
        axes.plot(times, forces, color, lw=1.2 if release == 0.05 else 0.7)
    act_axes.plot(times, acts, color, label=name)


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
def main(out):
    """Draw the experiments into the picture OUT."""
    ts.init(device="cpu", precision="f64")
    figure, axes = plt.subplots(2, 2, figsize=(9, 6), layout="constrained")
    (length, velocity), (release, act) = axes
    for law in STYLES:
        isometric(length, law)
        isotonic(velocity, law)
        quick_release(release, act, law)
    length.set(title="isometric, activation 0, 0.25, 0.5, 1", xlabel="fibre length / optimal", ylabel="force / F0")
    length.set_ylim(-0.05, 2.0)
    velocity.set(title="isotonic at optimal length, activation 1", xlabel="velocity / largest", ylabel="force / F0")
    release.set(title="quick release by 5 % and 15 % at 0.3 s", xlabel="time [s]", ylabel="force / F0")
    act.set(title="activation, excited from 0.05 to 0.5 s", xlabel="time [s]", ylabel="activation")
    for panel in axes.ravel():
        panel.grid(alpha=0.3)
    length.legend(frameon=False)
    figure.savefig(out, dpi=110)
    click.echo(out)


if __name__ == "__main__":
    main()
