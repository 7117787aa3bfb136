"""One contestant in a process of its own: `python child.py PEER PROBLEM THREADS`; `race` starts it and asks.

A module `peer_PEER` has

* `LEAVES_OUT`, a text, and `PRECISION`, in which it computes;
* `Contestant(problem, threads)`, which raises NotImplementedError for a body that the engine cannot simulate, with
  `forward(qpos, ctrl)`: places of the roots along x after the rollout, (N,), and
  `gradient(qpos, ctrl)`: that of their sum in `ctrl`, of its shape; NotImplementedError if there is none;
* optionally `Contestant.gradient_share`, by which the seconds of a gradient are to be multiplied.

Each line of the standard input is a question, and has a line of JSON for an answer.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time

import numpy as np
from problem import Problem

# Height [m] from which nothing touches the ground, and a control's change, relative to its range: small enough for
# contacts that open and close, large enough for f32.
HEIGHT = 10.0
CHANGE = 1e-3
# In f64 a step can be so small that hardly any contact opens or closes in it.
CHANGE_F64 = 1e-6


def check(contestant, problem: Problem) -> dict[str, float]:
    """Slopes of every world's own rollout along its gradient, by central differences over the gradient's norm.

    Returns:
      For worlds on the ground and in the air, the median of the ratio and the fraction of worlds within 5 % of 1.
    """
    found = {}
    for where, height in (("ground", 0.0), ("air", HEIGHT)):
        qpos = problem.qpos.copy()
        qpos[:, 2] += height
        gradient = contestant.gradient(qpos, problem.ctrl)
        norms = np.sqrt(np.square(gradient, dtype=np.float64).sum((0, 2)))
        known = norms > 0
        length = CHANGE_F64 if gradient.dtype == np.float64 else CHANGE
        change = length * gradient / np.where(known, norms, 1.0)[:, None]
        ends = [contestant.forward(qpos, problem.ctrl + sign * change).astype(np.float64) for sign in (1, -1)]
        ratios = ((ends[0] - ends[1]) / (2 * length * np.where(known, norms, 1.0)))[known]
        found[f"{where}_slope"] = float(np.median(ratios)) if known.any() else float("nan")
        found[f"{where}_right"] = float(np.mean(np.abs(ratios - 1) < 0.05)) if known.any() else 0.0
    return found


def answer(question: str, contestant, problem: Problem) -> dict:
    begin = time.perf_counter()
    if question == "check":
        return check(contestant, problem)
    result = getattr(contestant, question)(problem.qpos, problem.ctrl)
    seconds = time.perf_counter() - begin
    if not np.isfinite(result).all():
        return {"error": f"{question}: not finite"}
    return {"seconds": seconds, "share": getattr(contestant, f"{question}_share", 1.0)}


def main(name: str, path: str, threads: str) -> None:
    # whatever the engine prints goes to the standard error
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(reply: dict) -> None:
        print(json.dumps(reply), file=channel, flush=True)

    try:
        begin = time.perf_counter()
        problem = Problem.load(path)
        module = importlib.import_module(f"peer_{name}")
        contestant = module.Contestant(problem, int(threads))
        about = {"leaves_out": module.LEAVES_OUT, "precision": module.PRECISION}
        say({"seconds": time.perf_counter() - begin, **about})
    except Exception as error:
        say({"error": f"{type(error).__name__}: {error}"})
        return
    for line in sys.stdin:
        try:
            say(answer(line.strip(), contestant, problem))
        except NotImplementedError as error:
            say({"missing": str(error)})
        except Exception as error:
            say({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main(*sys.argv[1:])
