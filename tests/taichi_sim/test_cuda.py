"""CUDA as far as it shows without a card: what is refused, that every kernel compiles, and computes what the CPU does.

A driver without a card (tests/stub_cuda.c) takes the place of libcuda.so and keeps the PTX that Taichi gives it, or has
it run on the host (tests/ptx.py).
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import CARD, run, run_kernels

from taichi_sim.machine import cuda

# The second has all that ant has, too: a free joint, contact with planes.
BODIES = "cartpole", "humanoid_mtu"
# What a step's kernels are called, of the forward pass and of its adjoint, and the others of `Simulator.forward`.
KERNELS = {"step": 2, "frames": 1, "kinematic": 1}
LAUNCHES = """
import types
import taichi as ti
ti.init(arch=ti.cuda)
from taichi_sim.lanes.launcher import Launcher
total = ti.field(ti.i32, ())
@ti.kernel
def kernel(number: ti.i32):
    for _ in range(number):
        total[None] += 1
launch = Launcher(kernel, types.SimpleNamespace(memory=(), whole=False))
for number in 5, 3, 8:
    launch(number)
"""


@pytest.fixture(scope="module")
def stub(tmp_path_factory):
    """The folder of a libcuda.so that answers, and does nothing."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler, cc, to make the stub of a driver with")
    folder = tmp_path_factory.mktemp("stub")
    source = Path(__file__).parents[1] / "stub_cuda.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-w", "-o", folder / "libcuda.so", source, "-ldl"], check=True)
    return str(folder)


def test_names_of_devices():
    assert cuda.parse(None) == cuda.parse("auto") == (None, None)
    assert cuda.parse("cpu") == ("cpu", None)
    assert cuda.parse("cuda") == ("cuda", None) and cuda.parse("cuda:12") == ("cuda", 12)
    for wrong in ("gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0", 0):
        with pytest.raises(ValueError, match="device must be 'cpu' or 'cuda'"):
            cuda.parse(wrong)


def test_a_card_is_one_of_those_that_are_visible(monkeypatch):
    assert cuda._visible(2, None) == "2"
    assert cuda._visible(1, "5, 7") == "7"
    assert cuda._visible(0, "GPU-1f2e") == "GPU-1f2e"
    with pytest.raises(RuntimeError, match="card 2 was asked for, but CUDA_VISIBLE_DEVICES=5,7 shows 2"):
        cuda._visible(2, "5,7")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert cuda.local_card() == 3


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch has CUDA")
def test_cuda_is_refused_where_it_does_not_run_and_the_cpu_is_taken_unasked():
    """Without torch's CUDA; without a driver, where Taichi falls back to the CPU; and where torch finds a card."""
    process = run("""
        from taichi_sim.machine import cuda
        def refused():
            try:
                ts.init(device="cuda")
            except RuntimeError as error:
                print(error)
        refused()
        cuda.begin = lambda card: None
        refused()
        torch.cuda.is_available = lambda: True
        print(ts.init("auto").device, ts.init().device)
    """)
    build, driver, device = process.stdout.splitlines()
    assert "a build without CUDA: install one with CUDA" in build
    assert "but Taichi runs on the CPU: libcuda.so, the driver's library, is not found" in driver
    assert device == "cpu cpu"


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"STUB_CUDA_VERSION": "10020"}, "one for CUDA 10.2, and Taichi needs 11.1: install a newer driver"),
        ({"STUB_CUDA_INIT": "999"}, r"does not start \(cuInit gives 999\): nvidia-smi"),
        ({"STUB_CUDA_CARDS": "0", "CUDA_VISIBLE_DEVICES": "9"}, r"shows no card \(CUDA_VISIBLE_DEVICES='9'\)"),
        ({}, "shows a card, but Taichi did not take it: TI_LOG_LEVEL=trace"),
    ],
)
def test_what_is_wrong_with_a_driver_is_named(stub, monkeypatch, answers, message):
    driver = cuda.ctypes.CDLL(f"{stub}/libcuda.so")
    monkeypatch.setattr(cuda.ctypes, "CDLL", lambda name: driver)
    for name, value in answers.items():
        monkeypatch.setenv(name, value)
    assert re.search(message, cuda.why_not())


def test_every_kernel_compiles(stub, tmp_path):
    """To PTX, and with ptxas, where there is one, for an H100."""
    process = run(
        """
        import os
        import taichi as ti
        ti.init(arch=ti.cuda, default_fp=ti.f32)
        import taichi_sim as ts
        from taichi_sim import forward, runtime
        from taichi_sim.records import taping
        from taichi_sim.engine import Bound
        assert ti.cfg.arch == ti.cuda
        for name in os.environ["BODIES"].split():
            model = ts.load(name)
            bound = Bound(model, 32)
            m, engine, plan = bound._m, bound._engine, bound._plan()
            # a Simulator's arrays and the engine's memory are torch's, on the card
            def empty(cells):
                return ti.Vector.ndarray(1, ti.f32, 32 * max(1, cells))
            def first(kind):
                vector = isinstance(kind.dtype, ti.types.vector(1, ti.f32).__class__)
                return ti.Vector.ndarray(1, kind.dtype.dtype, 1) if vector else ti.ndarray(kind.dtype, 1)
            memory = [first(kind) for kind in engine._fields.types]
            inputs, state, nothing = empty(m.nstate + m.nu), empty(m.nstate), empty(1)
            tape = empty(taping.total(m, plan.substeps))
            bodies, tendons = empty(13 * m.nbody), empty(2 * m.tendon.number)
            with runtime.exclusive(bound._runtime):
                engine._forward.step._kernel(*memory, inputs, nothing, state, tape, *plan, forward.RECORD)
                engine._forward.frames._kernel(*memory, inputs, nothing, bodies)
                engine._adjoint.step._kernel(*memory, tape, nothing, state, inputs, nothing, *plan)
                engine._adjoint.kinematic._kernel(*memory, state, bodies, tendons, empty(m.nq + m.nv))
        """,
        prelude="",
        BODIES=" ".join(BODIES),
        LD_LIBRARY_PATH=stub,
        STUB_CUDA_PTX=str(tmp_path),
    )
    assert "falling back" not in process.stderr
    files = sorted(tmp_path.glob("*.ptx"))
    text = "\n".join(file.read_text() for file in files)
    for kernel, number in KERNELS.items():
        entries = re.findall(rf"\.entry {kernel}_c\d+_\d+_kernel_\d+_range_for\(", text)
        assert len(entries) == number * len(BODIES), kernel
    assembler = shutil.which("ptxas")
    for file in files if assembler else ():
        subprocess.run([assembler, "-arch=sm_90", "-o", os.devnull, file], check=True)


def test_every_launch_has_its_own_arguments(stub, tmp_path):
    """Of a kernel that is launched again and again."""
    file = tmp_path / "first"
    run_kernels(LAUNCHES, tmp_path, LD_LIBRARY_PATH=stub, STUB_CUDA_FIRST=str(file))
    assert file.read_text().split() == ["5", "3", "8"]


# Steps of BODY in so many WORLDS where contacts make and break, their gradient, and `forward`; saved in FILE.
STEPS = """
model = ts.load(os.environ["BODY"])
sim = ts.Simulator(model, int(os.environ["WORLDS"]), parameters="body_mass")
generator = torch.Generator().manual_seed(0)
def drawn(size, scale):
    values = scale * torch.randn(sim.num_worlds, size, dtype=sim.dtype, generator=generator)
    return values.to(sim.device)
state = sim.initial_state()
state.qpos[:, 2] -= drawn(1, 0.1)[:, 0]
while not sim.forward(state).qfrc_contact.any():
    state.qpos[:, 2] -= 0.1
state = state._replace(qvel=drawn(model.nv, 0.5).requires_grad_())
mass = torch.tensor(model.body_mass).to(state.qpos).requires_grad_()
leaves = state.qvel, drawn(model.nu, 0.3).requires_grad_(), mass
for _ in range(3):
    state = sim.step(state, leaves[1], {"body_mass": mass})
found = sim.forward(state, leaves[1])
(state.qpos.square().sum() + found.xpos.square().sum()).backward()
results = *state, *(x.grad for x in leaves), found.qfrc_contact, found.qacc
torch.save([x.detach().cpu() for x in results], os.environ["FILE"])
"""
ON_THE_CPU = "import os; ts.init('cpu', 'f64')"
ON_A_CARD = "import os; ts.init('cuda', 'f64')"
# As on a card, but torch's tensors are the host's, as all memory of the stub is.
ON_THE_STUB = """
import os
import taichi as ti
from taichi_sim import runtime
ti.init(arch=ti.cuda, default_fp=ti.f64, offline_cache=False, **runtime._compile_settings("cuda", "f64"))
assert ti.cfg.arch == ti.cuda
runtime._runtime = runtime.Runtime(torch.device("cpu"), "f64", runtime._program(), shared=False)
as_on_a_card()
"""


def require_same_steps(folder, begin, worlds, body="ant", **environment) -> None:
    """As on the CPU, in double precision, but for rounding."""
    results = []
    for name, beginning, added in (("ours", begin, environment), ("cpu", ON_THE_CPU, {})):
        run(CARD + beginning + STEPS, FILE=str(folder / name), BODY=body, WORLDS=str(worlds), **added)
        results.append(torch.load(folder / name))
    for x, y in zip(*results, strict=True):
        assert x.shape == y.shape and (not y.numel() or float((x - y).abs().max()) <= 1e-11 * float(y.abs().max()))


SHIPPED = "humanoid", "humanoid_mtu", "humanoid_mtu_full", "gymnasium"


@pytest.mark.parametrize("body", ["ant", *(pytest.param(name, marks=pytest.mark.shipped) for name in SHIPPED)])
def test_steps_are_the_cpus_where_kernels_for_a_card_run_on_the_host(stub, tmp_path, body):
    if body == "gymnasium":
        gymnasium = pytest.importorskip("gymnasium")
        body = str(Path(gymnasium.__file__).parent / "envs/mujoco/assets/humanoid.xml")
    translator = f"env -u LD_LIBRARY_PATH {sys.executable} {Path(__file__).parents[1] / 'ptx.py'}"
    folder = {"STUB_CUDA_PTX": str(tmp_path), "STUB_CUDA_RUN": translator, "LD_LIBRARY_PATH": stub}
    require_same_steps(tmp_path, ON_THE_STUB, 5, body, **folder)


@pytest.mark.cuda
def test_a_card_steps_as_the_cpu_does(tmp_path):
    require_same_steps(tmp_path, ON_A_CARD, 64)


@pytest.mark.cuda
def test_a_stream_of_torchs_is_refused():
    run("""
        ts.init("cuda")
        sim = ts.Simulator(pendulum())
        fall(sim)
        with torch.cuda.stream(torch.cuda.Stream()):
            try:
                fall(sim)
            except RuntimeError as error:
                assert "default stream" in str(error)
            else:
                raise AssertionError
    """)
