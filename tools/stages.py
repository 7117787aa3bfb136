"""What a substep's stages cost, each alone: `python tools/benchmark.py --stages`.

The stages are read off the code that runs them, `taichi_sim.forward` and `taichi_sim.adjoint`, so that there is no
second list of them. Each is compiled into a kernel of its own and repeated on a block of worlds, its memory in the
first-level cache. The difference between their sum and the whole is what they wait for memory, which a stage finds in
the second-level cache after the others, and what lies between them. With `--count` instructions, operations and bytes
stand beside that (`instructions`), against what small kernels reach.
"""

import ast
import functools
import importlib.util
import inspect
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import torch
from instructions import Count, count

import taichi_sim as ts
from taichi_sim import adjoint, forward, runtime
from taichi_sim.lanes.launcher import Launcher
from taichi_sim.lanes.vectors import whole
from taichi_sim.runtime import ti

# Vectors that fit into the first-level cache many times.
_CACHED = 128
# What `forward.ForwardKernels` calls itself, after `solve`.
_LAST = ["integrate.integrate(m, d, e, h)", "activation.advance(m, d, e, h)"]

_KERNEL = """
def make_{number}({names}):
    memory = fields.types
    @ti.kernel
    def stage(
        m0: memory.state,
        m1: memory.wide,
        m2: memory.shared,
        m3: memory.fitted,
        m4: memory.gradient,
        m5: memory.integers,
        repeat: ti.i32,
    ):
        fields.bind(m0, m1, m2, m3, m4, m5)
        for e in range(1):
            for _ in range(repeat):
                {call}
    return stage
"""


def stages(module, name: str, m) -> Iterator[str]:
    """The calls that a stage function of a module makes for a model with the tables m, in their order, as source."""
    tree = ast.parse(inspect.getsource(getattr(module, name)))
    yield from _calls(tree.body[0].body, module, m)


def _calls(statements: list[ast.stmt], module, m) -> Iterator[str]:
    for statement in statements:
        if isinstance(statement, ast.If):
            static = ast.unparse(statement.test).startswith("ti.static(")
            holds = not static or eval(ast.unparse(statement.test.args[0]), vars(module), {"m": m})
            yield from _calls(statement.body if holds else statement.orelse, module, m)
        elif isinstance(statement, ast.While):
            yield from _calls(statement.body, module, m)
        elif isinstance(statement, (ast.Expr, ast.Assign)) and isinstance(statement.value, ast.Call):
            call = statement.value
            if isinstance(call.func, ast.Attribute):
                yield ast.unparse(call)
            elif isinstance(call.func, ast.Name) and call.func.id in vars(module):
                yield from stages(module, call.func.id, m)


def alone(
    sim: ts.Simulator, module, calls: list[str], refresh: Callable[[], None], repeat: int, counted: bool = False
) -> tuple[list[float], list[Count]]:
    """Microseconds of each call for one block of worlds, and if `counted` what it executes; `refresh` writes the memory
    that it reads."""
    settings, engine = runtime.get(), sim._engine
    plan = sim._plan()
    known = {
        **vars(module),
        "m": engine.m,
        "d": engine.d,
        "fields": engine._fields,
        "h": plan.h,
        "h_theta": plan.h_theta,
    }
    names = [name for name in known if name.isidentifier() and not name.startswith("__") and name != "ti"]
    source = "from taichi_sim.runtime import ti\n" + "".join(
        _KERNEL.format(number=i, names=", ".join(names), call=call) for i, call in enumerate(calls)
    )
    times, counts = [], []
    with tempfile.TemporaryDirectory() as folder:
        # Taichi reads a kernel's source from its file
        path = Path(folder, "kernels.py")
        path.write_text(source)
        spec = importlib.util.spec_from_file_location("kernels", path)
        kernels = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(kernels)
        for i in range(len(calls)):
            kernel = Launcher(getattr(kernels, f"make_{i}")(**{name: known[name] for name in names}), engine._fields)
            refresh()
            with runtime.exclusive(settings):
                kernel(0)
                times.append(_least(functools.partial(kernel, repeat)) / repeat)
                if counted:
                    counts.append(count(kernel, _turns(times[-1])))
    return times, counts


def ceilings(lanes: int) -> tuple[float, float]:
    """Per nanosecond of a core: operations, of products and sums in registers, and bytes read, of sums of what the
    first-level cache holds."""
    array = ti.types.ndarray(dtype=ti.types.vector(lanes, ti.f32), ndim=1)

    @ti.kernel
    def multiply(x: array, turns: ti.i32):
        for _ in range(1):
            a, b, c, d, e, f, g, h = x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]
            y, z = x[8], x[9]
            for _turn in range(turns):
                a, b, c, d = a * y + z, b * y + z, c * y + z, d * y + z
                e, f, g, h = e * y + z, f * y + z, g * y + z, h * y + z
            x[10] = a + b + c + d + e + f + g + h

    @ti.kernel
    def add(x: array, turns: ti.i32):
        for _ in range(1):
            a, b, c, d = x[0], x[1], x[2], x[3]
            for _turn in range(turns):
                for i in range(_CACHED // 4):
                    a, b, c, d = a + x[4 * i], b + x[4 * i + 1], c + x[4 * i + 2], d + x[4 * i + 3]
            x[0] = a + b + c + d

    x = torch.full((_CACHED, lanes), 0.5)
    with runtime.exclusive(runtime.get()), whole(runtime.get().program.config()):
        rates: list[Count] = []
        for kernel, turns in ((multiply, 10**6), (add, 10**4)):
            kernel(x, 1)
            time = _least(lambda kernel=kernel, turns=turns: kernel(x, turns)) / turns
            found = count(functools.partial(kernel, x), _turns(time))
            rates.append(Count(*(value / time / 1e3 for value in found)))
    return rates[0].operations, rates[1].read


def _turns(microseconds: float) -> int:
    """Turns of a loop that take a thread long enough to be found by the clock of its processor time."""
    return math.ceil(2e5 / microseconds)


def _least(function: Callable[[], object], attempts: int = 5) -> float:
    """Microseconds of processor time that a call takes at least."""
    times = []
    for _ in range(attempts):
        begin = time.process_time()
        function()
        times.append(1e6 * (time.process_time() - begin))
    return min(times)


def profile(name: str, worlds: int, repeat: int, counted: bool):
    """("forward" or "backward", stages, microseconds of each for a block of worlds, what each executes, microseconds of
    the whole substep)."""
    sim = ts.Simulator(ts.load(name), worlds)
    model = sim.model
    state, ctrl = sim.initial_state(), torch.full((worlds, model.nu), 0.1)
    with torch.no_grad():
        # until what falls lies on the ground
        for _ in range(round(1.0 / model.opt.control_timestep)):
            state = sim.step(state, ctrl)
    start = state.qpos.clone().requires_grad_(True)
    whole: dict[str, list[float]] = {"forward": [], "backward": []}

    def step() -> None:
        begin = time.process_time()
        end = sim.step(state._replace(qpos=start), ctrl)
        between = time.process_time()
        (end.qpos.sum() + end.qvel.sum()).backward()
        whole["forward"].append(between - begin)
        whole["backward"].append(time.process_time() - between)

    for _ in range(15):
        step()
    substeps = sim._blocks * model.opt.substeps
    m = sim._engine.m
    # MuJoCo's law has the matrix within `solve`
    names = ("forces", "solve") if m.constraint.any else ("forces", "matrix", "solve")
    first = [call for name in names for call in stages(forward, name, m)]
    parts = {"forward": (forward, first + _LAST), "backward": (adjoint, list(stages(adjoint, "substep", m)))}
    for direction, (module, calls) in parts.items():
        total = 1e6 * statistics.median(whole[direction][3:]) / substeps
        yield direction, calls, *alone(sim, module, calls, step, repeat, counted), total


@click.command()
@click.option("--model", "name", default="humanoid", show_default=True, help="A model's name, or an MJCF file.")
@click.option("--worlds", type=click.IntRange(min=1), default=512, show_default=True)
@click.option("--repeat", type=click.IntRange(min=1), default=1000, show_default=True, help="Of a stage at a time.")
@click.option("--count", "counted", is_flag=True, help="Instructions, operations and bytes, too (Linux, capstone).")
def main(name, worlds, repeat, counted):
    """Processor time that the stages of a substep take in single precision, each alone, and the whole substep.

    \b
    Example:
      python tools/benchmark.py --stages --model humanoid_mtu
    """
    ts.init("cpu", "f32", num_threads=1)
    torch.set_num_threads(1)
    lanes = runtime.get().lanes(worlds)
    reached = ceilings(lanes) if counted else ()
    if counted:
        rates = "{:.0f} operations and {:.0f} bytes read".format(*reached)
        click.echo(f"a core reaches {rates} per ns: last two percentages")
    for direction, calls, times, counts, total in profile(name, worlds, repeat, counted):
        width = max(map(len, calls))
        click.echo(f"\n{name}, {direction}: us per substep and block of {lanes} worlds")
        for k, (call, microseconds) in enumerate(zip(calls, times, strict=True)):
            shares = _shares(counts[k], microseconds, reached) if counted else ""
            click.echo(f"  {call:<{width}} {microseconds:8.2f} {microseconds / total:5.0%}{shares}")
        together = Count(*map(sum, zip(*counts))) if counted else None
        shares = _shares(together, sum(times), reached) if counted else ""
        click.echo(f"  {'all of these':<{width}} {sum(times):8.2f} {sum(times) / total:5.0%}{shares}")
        click.echo(f"  {'a control step, for each of its substeps':<{width}} {total:8.2f}")


def _shares(found: Count, microseconds: float, reached: tuple[float, float]) -> str:
    """Instructions, and how many per nanosecond; operations and bytes read, as a share of what can be reached."""
    text = f" {found.instructions:10,.0f} instructions {found.instructions / microseconds / 1e3:5.1f} / ns"
    for what, number, most in zip(("operations", "bytes"), (found.operations, found.read), reached):
        text += f" {number:10,.0f} {what} {number / microseconds / 1e3 / most:4.0%}"
    return text


if __name__ == "__main__":
    main()
