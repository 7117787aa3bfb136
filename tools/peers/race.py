"""Contestants that take turns, each in a process of its own with a limit of time and memory."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
# Seconds between two looks at a process's memory.
POLL = 0.2


class Child:
    """A contestant's process; what it says and what became of it.

    Args:
      name: the peer's, as in `child`.
      python: the interpreter that has it.
      problem: the file with the problem.
      threads: cores that it may use.
      seconds: that it may take for its start and all answers together; while others have their turn none pass.
      gigabytes: of memory that it may hold.
      environment: further environment variables.

    | attribute | meaning |
    |---|---|
    | failure | why it is no more, None while it runs |
    | started | what it said of itself |
    | peak | largest resident memory seen so far [GB] |
    | left | seconds that it may still take |
    """

    def __init__(self, name, python, problem, threads, seconds, gigabytes, environment):
        self.failure, self.started, self.peak = None, {}, 0.0
        self.name, self.limit, self.gigabytes = name, seconds, gigabytes
        self.left = seconds
        # closed by close(); its last line is shown where the process dies
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [python, str(HERE / "child.py"), name, str(problem), str(threads)],
            env={**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)), **environment},
            preexec_fn=_bind(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self.started = self._wait()

    def ask(self, question: str) -> dict:
        """The answer to a question; {} where there is none, because the process has ended or is ended now."""
        if self.failure is None:
            try:
                self._process.stdin.write(question.encode() + b"\n")
                self._process.stdin.flush()
            except BrokenPipeError:
                self._fail("it ended")
        return self._wait() if self.failure is None else {}

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.stdin.close()
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _wait(self) -> dict:
        begin, left = time.monotonic(), self.left
        while self.failure is None:
            ready, _, _ = select.select([self._process.stdout], [], [], POLL)
            self._look_at_memory()
            self.left = left - (time.monotonic() - begin)
            if ready:
                return self._read()
            if self.left < 0:
                self._fail(f"more than {self.limit:.0f} s")
            elif self.peak > self.gigabytes:
                self._fail(f"more than {self.gigabytes:g} GB")
        return {}

    def _read(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._fail(f"it ended with {self._process.returncode}: {self._last_words()}")
            return {}
        reply = json.loads(line)
        if "error" in reply:
            self._fail(reply["error"])
            return {}
        return reply

    def _fail(self, why: str) -> None:
        self.failure = " ".join(why.split())[:200]
        if self._process.poll() is None:
            self._process.kill()

    def _look_at_memory(self) -> None:
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text()
        except OSError:
            return
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                self.peak = max(self.peak, int(line.split()[1]) / 2**20)

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = [line for line in self._log.read().splitlines() if line.strip()]
        return lines[-1] if lines else "it said nothing"


def _bind(threads: int):
    """Keeps a process to the first `threads` cores, where the system can: not every engine has a setting for it."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))[:threads]
    return lambda: os.sched_setaffinity(0, cores)


def run(children: list[Child], repeat: int) -> list[dict]:
    """Asks all children in turn, `repeat` times, for forward and gradient; the first answers have compiled.

    A child whose time would not suffice for another round rests: what it has said so far counts.

    Returns:
      One row per child: "peer", "start" [s], "first_forward", "first_gradient" [s], "forward", "gradient" (lists of
      seconds), "shares" (see `child`), "left" [s], "peak" [GB], "missing" (why there is no gradient), "failure".
    """
    rows = []
    for child in children:
        row = {"peer": child.name, "start": child.started.get("seconds"), "missing": ""}
        row |= {"forward": [], "gradient": [], "shares": {}}
        rows.append(row)
        for question in ("forward", "gradient"):
            reply = child.ask(question)
            row[f"first_{question}"] = reply.get("seconds")
            row["missing"] = reply.get("missing", row["missing"])
    for _ in range(repeat):
        for child, row in zip(children, rows):
            for question in ("forward", "gradient"):
                seen = row[question]
                if row[f"first_{question}"] is None or (seen and child.left < 2 * max(seen) / row["shares"][question]):
                    continue
                reply = child.ask(question)
                if reply.get("seconds"):
                    row["shares"][question] = reply["share"]
                    seen.append(reply["seconds"] * reply["share"])
    for child, row in zip(children, rows):
        row |= {"peak": child.peak, "left": child.left, "failure": child.failure or "", **_about(child)}
    return rows


def _about(child: Child) -> dict[str, str]:
    return {name: child.started.get(name, "") for name in ("leaves_out", "precision")}


def missing(python: str, modules: tuple[str, ...]) -> bool:
    """Whether an interpreter lacks one of these modules."""
    code = f"import importlib.util as u, sys; sys.exit(any(u.find_spec(n) is None for n in {modules!r}))"
    return subprocess.run([python, "-c", code], capture_output=True).returncode != 0


if __name__ == "__main__":
    sys.exit("python tools/benchmark.py --peers")
