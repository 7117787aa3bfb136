"""One stage of the check in a process of its own: `stage.py NAME DEVICE BODY`."""

from __future__ import annotations

import contextlib
import fcntl
import json
import threading
import time
from pathlib import Path

import click
import numpy as np
import torch

import taichi_sim as ts
from shac import models
from taichi_sim import runtime

# Control steps of a rollout.
STEPS = 4


class Stage:
    """What every stage has: a body, a device, a file for facts, and its turn at the card."""

    def __init__(self, name: str, device: str, body: str, precision: str, settings: str, out: Path):
        self.name, self.device, self.body, self.precision, self.out = name, device, body, precision, out
        self.settings, self.cuda = json.loads(settings), device.startswith("cuda")
        self.begin = time.perf_counter()
        if self.settings:
            original = runtime._compile_settings
            runtime._compile_settings = lambda *a: original(*a) | self.settings
        # what measures waits until what checks has ended
        self._turn = open(f"{out}.turn", "w")  # noqa: SIM115
        if name in CHECKS:
            fcntl.flock(self._turn, fcntl.LOCK_SH)

    @contextlib.contextmanager
    def alone(self):
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    def say(self, **facts) -> None:
        own = {"stage": self.name, "device": self.device, "body": self.body, "precision": self.precision}
        facts = own | ({"settings": self.settings} if self.settings else {}) | facts
        facts["t"] = round(time.perf_counter() - self.begin, 1)
        line = json.dumps(facts)
        print(line, flush=True)
        with open(self.out, "a") as file:
            file.write(line + "\n")

    def model(self) -> ts.Model:
        return models.load_task(self.body).model()

    def sync(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


def case(model, worlds: int = 6, lone: int | None = None):
    """A simulator, states in contact that are the same on every device, and weights for what comes out.

    `lone`: all worlds begin as this one does.
    """
    rng, sim = np.random.default_rng(1), ts.Simulator(model, worlds)
    qpos = np.tile(sim.initial_state().qpos[0].cpu().double().numpy(), (worlds, 1))
    if model.nq == model.nv:
        qpos += 0.1 * rng.normal(size=qpos.shape)
    else:
        qpos[:, 2] += rng.uniform(-0.4, 0.1, worlds)
        qpos[:, 3:7] += 0.1 * rng.normal(size=(worlds, 4))
        qpos[:, 3:7] /= np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
        qpos[:, 7:] += 0.1 * rng.normal(size=(worlds, model.nq - 7))
    numbers = [qpos, 0.5 * rng.normal(size=(worlds, model.nv)), rng.uniform(0.1, 0.9, (worlds, model.na))]
    numbers.append(rng.uniform(0, 1, (worlds, model.nu)))
    if lone is not None:
        numbers = [np.repeat(x[lone : lone + 1], worlds, 0) for x in numbers]
    inputs = [torch.tensor(x, dtype=sim.dtype, device=sim.device).requires_grad_() for x in numbers]
    weights = [torch.tensor(rng.normal(size=x.shape), dtype=sim.dtype, device=sim.device) for x in numbers[:3]]
    return sim, inputs, weights


def roll(sim, inputs, steps: int = 3) -> ts.State:
    state = ts.State(*inputs[:3])
    for _ in range(steps):
        state = sim.step(state, inputs[3])
    return state


def numbers(stage: Stage) -> None:
    """Three control steps, their gradient, and `forward`, into a file for the comparison."""
    model = stage.model()
    sim, inputs, weights = case(model)
    state = roll(sim, inputs)
    sum((w * x).sum() for w, x in zip(weights, state, strict=True)).backward()
    detached = [x.detach() for x in inputs]
    found = sim.forward(ts.State(*detached[:3]), detached[3])
    out = {"qpos": state.qpos, "qvel": state.qvel, "act": state.act}
    out |= {f"grad_{k}": x.grad for k, x in zip(("qpos", "qvel", "act", "ctrl"), inputs, strict=True)}
    names = ["xpos", "xquat", "xlinvel", "xangvel", "xlinacc", "qM", "qfrc_bias", "qacc", "ten_length", "ten_J"]
    out |= {k: getattr(found, k) for k in names}
    arrays = {k: x.detach().cpu().numpy() for k, x in out.items() if x is not None and x.numel()}
    np.savez(stage.out.with_suffix("") / f"{stage.body}-{stage.precision}-{stage.device}.npz", **arrays)
    stage.say(ended=True)


def differences(stage: Stage) -> None:
    """The gradient of three control steps against central differences, along a random direction per world."""
    sim, inputs, weights = case(stage.model())

    def loss(inputs):
        return sum((w * x).sum(1) for w, x in zip(weights, roll(sim, inputs), strict=True))

    loss(inputs).sum().backward()
    rng, worst, h = np.random.default_rng(2), {}, 1e-6
    for k, part in ((1, "qvel"), (2, "act"), (3, "ctrl")):
        if not inputs[k].shape[1]:
            continue
        direction = torch.tensor(rng.normal(size=inputs[k].shape), dtype=sim.dtype, device=sim.device)
        with torch.no_grad():
            up, down = (loss([x + s * h * direction if i == k else x for i, x in enumerate(inputs)]) for s in (1, -1))
        numeric, exact = (up - down) / (2 * h), (inputs[k].grad * direction).sum(1)
        worst[part] = float(((numeric - exact).abs() / (exact.abs() + 1e-3 * exact.abs().max())).max())
    stage.say(relative_error=worst)


def hazards(stage: Stage) -> None:
    """Worlds do not touch each other, runs repeat, threads and dropped Simulators do no harm."""
    model, kept = stage.model(), []
    for _ in range(2):
        sim, inputs, _ = case(model, worlds=1000, lone=3)
        state = roll(sim, inputs, 1)
        sum(x.sum() for x in state).backward()
        kept.append(torch.cat([x.grad for x in inputs] + [x.detach() for x in state], dim=1))
    stage.say(all_worlds_equal=bool((kept[0] == kept[0][:1]).all()), repeats=bool((kept[0] == kept[1]).all()))
    sim, inputs, _ = case(model, worlds=64)
    errors = []

    def elsewhere():
        try:
            sum(x.sum() for x in roll(sim, inputs, 1)).backward()
        except Exception as error:  # noqa: BLE001
            errors.append(repr(error)[:300])

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    stage.say(other_thread=errors or "fine")
    with torch.no_grad():
        inputs[1][17, 0] = float("nan")
    try:
        roll(sim, inputs, 1)
        sim.require_finite()
        stage.say(nan="not noticed")
    except FloatingPointError as error:
        stage.say(nan=str(error))
    if stage.cuda:
        try:
            with torch.cuda.stream(torch.cuda.Stream()):
                sim.step(ts.State(*(x.detach() for x in inputs[:3])), inputs[3].detach())
            stage.say(other_stream="not refused")
        except RuntimeError as error:
            stage.say(other_stream=str(error)[:120])
        # in case they first ran on torch's backward thread
        free = []
        for _ in range(40):
            sim, inputs, _ = case(model, worlds=10000)
            sum(x.sum() for x in roll(sim, inputs, 1)).backward()
            del sim, inputs
            torch.cuda.empty_cache()
            free.append(torch.cuda.mem_get_info()[0] >> 20)
        stage.say(memory_free_MiB_after_simulators=free[::5])


def speed(stage: Stage, sizes: list[int]) -> None:
    """World-substeps per second of the forward pass and of forward and backward pass; the kernels' own time."""
    model = stage.model()
    for worlds in sizes:
        sim = ts.Simulator(model, worlds, check_finite=False)
        shape = {"dtype": sim.dtype, "device": sim.device}
        ctrl = torch.full((worlds, model.nu), 0.3, **shape, requires_grad=True)
        start = [*sim.initial_state(), ctrl]

        def both(sim=sim, start=start):
            roll(sim, start, STEPS).qvel.sum().backward()

        def ahead(sim=sim, start=start):
            with torch.no_grad():
                roll(sim, start, STEPS)

        begin = time.perf_counter()
        both()
        ahead()
        stage.sync()
        first = time.perf_counter() - begin
        with stage.alone():
            substeps = STEPS * worlds * model.opt.substeps
            facts = {}
            for name, f in (("forward", ahead), ("forward_backward", both)):
                seconds = []
                f()
                while sum(seconds) < 0.4 or len(seconds) < 3:
                    begin = time.perf_counter()
                    f()
                    stage.sync()
                    seconds.append(time.perf_counter() - begin)
                facts[f"{name}_per_s"] = round(substeps / float(np.median(seconds)))
            if stage.cuda:
                facts |= kernel_times(sim, ahead, both, model.opt.substeps)
                facts["memory_MiB"] = (lambda free, total: (total - free) >> 20)(*torch.cuda.mem_get_info())
        stage.say(worlds=worlds, first_s=round(first, 1), **facts)


def kernel_times(sim, ahead, both, substeps: int) -> dict[str, float]:
    """Microseconds of a substep in the large kernels, by events around them: without a tape, with it, backwards."""
    engine, found = sim._engine, {}
    for key, kernels, run in (
        ("forward", engine._forward, ahead),
        ("recorded", engine._forward, both),
        ("adjoint", engine._adjoint, both),
    ):
        original, times = kernels.step, []

        def timed(*arguments, original=original, times=times):
            ends = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            ends[0].record()
            original(*arguments)
            ends[1].record()
            times.append(ends)

        kernels.step = timed
        try:
            run()
            torch.cuda.synchronize()
        finally:
            kernels.step = original
        found[f"{key}_kernel_us"] = round(1e3 * float(np.median([a.elapsed_time(b) for a, b in times])) / substeps, 2)
    return found


def learner(stage: Stage, worlds: int):
    from shac.runs import config, runner

    task = models.load_task(stage.body)
    settings = config.resolve(task, "shac", {"model": stage.body, "device": stage.device, "num_envs": worlds})
    torch.set_num_threads(settings.threads)
    return runner.build_learner(task, settings)


def epoch(stage: Stage, sizes: list[int]) -> None:
    """Seconds of an epoch of SHAC with the preset's settings, and of its parts."""
    for worlds in sizes:
        shac = learner(stage, worlds)
        shac.train_epoch()
        with stage.alone():
            rows = []
            for _ in range(4):
                begin = time.perf_counter()
                found = shac.train_epoch()
                stage.sync()
                rows.append((time.perf_counter() - begin, found.time_rollout, found.time_backward, found.time_critic))
            total, *parts = np.median(np.array(rows), axis=0).round(4).tolist()
            rate = round(worlds * shac.config.horizon / total)
            stage.say(worlds=worlds, epoch_s=total, rollout_backward_critic=parts, control_steps_per_s=rate)


def calls(stage: Stage, sizes: list[int]) -> None:
    """Launches and waits in an epoch of SHAC, and what takes the card's time."""
    from torch.profiler import ProfilerActivity, profile

    shac = learner(stage, sizes[0])
    shac.train_epoch()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        shac.train_epoch()
        stage.sync()
    events = recorded.key_averages()
    calls = {e.key: [e.count, round(e.self_cpu_time_total / 1e3, 1)] for e in events if e.self_cpu_time_total > 0}
    on_card = {e.key[:60]: [e.count, round(e.self_device_time_total / 1e3, 1)] for e in events}
    wanted = ("cuda", "cuLaunch", "cuMem", "aten::item", "aten::nonzero")
    waits = {k: v for k, v in calls.items() if k.startswith(wanted)}
    largest = dict(sorted(on_card.items(), key=lambda item: -item[1][1])[:8])
    stage.say(worlds=sizes[0], calls_and_ms=waits, kernels_and_ms=largest)


CHECKS = {"numbers": numbers, "differences": differences, "hazards": hazards}
MEASURES = {"speed": speed, "epoch": epoch, "calls": calls}


@click.command()
@click.argument("name", type=click.Choice([*CHECKS, *MEASURES]))
@click.argument("device")
@click.argument("body")
@click.option("--precision", default="f32")
@click.option("--settings", default="{}", help="Taichi's, as JSON.")
@click.option("--sizes", default="64")
@click.option("--out", type=click.Path(path_type=Path), default="card.jsonl")
def main(name, device, body, precision, settings, sizes, out):
    stage = Stage(name, device, body, precision, settings, out)
    ts.init(device, precision)
    if name in CHECKS:
        CHECKS[name](stage)
    else:
        MEASURES[name](stage, [int(n) for n in sizes.split(",")])


main()
