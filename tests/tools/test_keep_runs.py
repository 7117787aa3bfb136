import importlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from shac.figures import means, plan
from shac.figures.figure import Run
from shac.runs import checkpoint
from shac.runs.config import to_yaml

FOLDERS = "tools", "tests/shac/figures"


@pytest.fixture
def modules(monkeypatch):
    """The tool, and the maker of run folders that nobody trained."""
    for folder in FOLDERS:
        monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / folder))
    return importlib.import_module("keep_runs"), importlib.import_module("fabricated")


def test_copies_are_small_runs_that_figures_take(tmp_path, modules):
    """A curve by 200 of its points, with its first and its last; the settings; no policy unless asked for."""
    tool, fabricated = modules
    steps = range(2048, 2048 * 1001, 2048)
    fabricated.run(tmp_path / "cartpole-shac-0", steps, lambda x: (x / 1e6) ** 2)
    fabricated.run(tmp_path / "cartpole-shac-1", steps, float, complete=False)
    wanted = Run("cartpole-shac-0", "cartpole", "shac", 0)
    for name in ("cartpole-shac-0", "cartpole-shac-1"):
        (tmp_path / name / "config.yaml").write_text(to_yaml(plan.settings_of(wanted)))
    best = checkpoint.path_of(tmp_path / "cartpole-shac-0", "best")
    best.parent.mkdir()
    best.write_bytes(b"a policy")
    out = tmp_path / "kept"
    runs = [str(tmp_path / name) for name in ("cartpole-shac-0", "cartpole-shac-1")]
    done = CliRunner().invoke(tool.main, [str(out), *runs])
    assert done.exit_code == 0 and "cartpole-shac-1 is not complete" in done.output
    assert [path.name for path in out.iterdir()] == ["cartpole-shac-0"]
    copy = out / "cartpole-shac-0"
    plan.check_folder(wanted, copy)
    assert checkpoint.completeness_of(copy).is_file() and not checkpoint.path_of(copy, "best").exists()
    curve, whole = means.read(copy), means.read(tmp_path / "cartpole-shac-0")
    assert len(curve.steps) == tool.ROWS - 1  # the first row has no return yet
    assert curve.steps[-1] == steps[-1] and curve.minutes[-1] == whole.minutes[-1]
    # between points six epochs apart a parabola is (6 dx / 2)^2 = 3.8e-5 below its chord; six digits are kept
    np.testing.assert_allclose(np.interp(whole.steps, curve.steps, curve.returns)[5:], whole.returns[5:], atol=4.4e-5)

    CliRunner().invoke(tool.main, [str(out), runs[0], "--policy"])
    assert checkpoint.path_of(copy, "best").read_bytes() == b"a policy"
