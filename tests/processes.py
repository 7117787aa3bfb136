"""Programs for tests that need a process of their own: another precision, another Taichi, a cold cache."""

import os
import subprocess
import sys
import textwrap

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
