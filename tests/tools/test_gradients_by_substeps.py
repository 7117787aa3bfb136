"""`tools/gradients.py`: one row for each number of substeps and theta."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_few_implicit_substeps_have_the_gradient_of_many_explicit_ones():
    script = [sys.executable, str(ROOT / "tools" / "gradients.py"), "--model=cartpole", "--num-envs=4", "--json"]
    script += ["--substeps=4", "--theta=0.6", "--theta=0"]
    result = subprocess.run(script, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert [(row["model"], row["substeps"], row["theta"]) for row in rows] == [("cartpole", 4, 0.6), ("cartpole", 4, 0)]
    # docs/learning.md asks for these of a body that learns
    assert all(row["cosine"] > 0.95 and row["largest"] < 2 for row in rows)
