"""README's programs, each run as it stands in a process of its own, but for the number of a long one's rounds."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

README = Path(__file__).parents[1] / "README.md"


def program(mark: str) -> str:
    """The Python block that holds `mark`."""
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (block,) = (block for block in blocks if mark in block)
    return block


def run(folder: Path, tool: str, *arguments: str) -> str:
    """What one of the environment's commands prints."""
    command = [Path(sys.executable).with_name(tool), *arguments]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert process.returncode == 0, process.stderr
    return process.stdout


def numbers(text: str) -> torch.Tensor:
    """Those of a printed tensor."""
    return torch.tensor([float(x) for x in re.findall(r"-?\d+\.\d*(?:e[+-]\d+)?", text)])


def test_a_gradient_through_thirty_steps(tmp_path):
    assert run(tmp_path, "python", "-c", program("print(ctrl.grad.shape)")) == "torch.Size([64, 1])\n"


def test_a_mass_and_a_damping_are_found(tmp_path):
    scale = numbers(run(tmp_path, "python", "-c", program("scale[0]")))
    torch.testing.assert_close(scale, torch.ones(2), atol=1e-3, rtol=0)


def test_a_leg_is_driven(tmp_path):
    pytest.importorskip("myo_sim", reason="pip install --no-deps myo-sim==0.2.4")
    source = program("import myo_sim")
    shorter = source.replace("range(150)", "range(8)")
    assert shorter != source
    hip, _, _, knee, _ = numbers(run(tmp_path, "python", "-c", shorter)).reshape(3, 5).T
    # it hangs at first; in eight rounds of 150 the thigh rises somewhat, the knee bends
    assert hip.mean() > 5 and knee.mean() > 5


def test_a_model_of_ones_own_is_trained(tmp_path):
    (tmp_path / "pendulum.py").write_text(program("class Pendulum"), encoding="utf-8")
    run(tmp_path, "shac-train", "--model", "pendulum.py", "--max-epochs", "2", "--quiet", "--run-dir", "run")
    assert "balanced" in run(tmp_path, "shac-eval", "run")
