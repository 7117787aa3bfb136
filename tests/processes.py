"""Programs for tests that need a process of their own: another precision, another Taichi, a cold cache."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

# A hinged sphere; `pendulum()` gives its model.
PRELUDE = """
import mujoco, torch
import taichi_sim as ts
XML = '<mujoco><worldbody><body><joint axis="0 1 0"/><geom size=".1" pos="0 0 -.5"/></body></worldbody></mujoco>'
def pendulum():
    return ts.load(mujoco.MjModel.from_xml_string(XML))
def fall(sim):
    return sim.step(sim.initial_state(), torch.zeros(sim.num_worlds, 0, dtype=sim.dtype, device=sim.device))
"""

# `as_on_a_card()`: kernels and their memory are from then on what a card's are; torch's tensors stay where they were.
CARD = """
def as_on_a_card():
    from taichi_sim import engine, runtime
    class Fields(engine.Fields):
        def __init__(self, *args):
            super().__init__(*args)
            self.whole = False
    engine.Fields = Fields
    runtime.Runtime.task_stride = 1
    runtime.Runtime.lanes = lambda self, num_worlds: 1
"""


def run(program: str, *, prelude: str = PRELUDE, status: int = 0, timeout: float = 300, **environment: str):
    """Runs a program in Python and returns the finished process; its exit status must be `status`."""
    process = subprocess.run(
        [sys.executable, "-c", prelude + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **environment},
    )
    assert process.returncode == status, process.stdout + process.stderr
    return process


def run_kernels(program: str, folder: Path, **environment: str):
    """`run`, without a prelude, of a program that has kernels: Taichi reads them in a file, here of that folder."""
    file = folder / "program.py"
    file.write_text(program)
    return run(f"import runpy; runpy.run_path({str(file)!r})", prelude="", **environment)
