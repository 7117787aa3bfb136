"""What is to be done for some figures: which trainings are complete, missing, or other ones than wanted."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from shac.errors import UserError, nearest
from shac.figures import costs
from shac.figures.catalog import FIGURES, runs_of
from shac.figures.figure import Budget, Run
from shac.film.film import temporary
from shac.models import load_task
from shac.runs.checkpoint import atomic_write, completeness_of, read_config
from shac.runs.config import ALGOS, resolve

# In the folder of the runs, beside them: this plan, locks, and a mark for each figure that is drawn.
OWN_FILES = ".workflow"


@dataclasses.dataclass(frozen=True)
class Plan:
    """The figures to draw, and the trainings that they take.

    | field | meaning |
    |---|---|
    | folder | of the run folders |
    | out | where pictures and tables are written |
    | budget | how much is trained |
    | figures | number -> its trainings |
    """

    folder: Path
    out: Path
    budget: Budget
    figures: dict[int, list[Run]]

    @classmethod
    def of(cls, numbers: list[int], folder: Path, out: Path, budget: Budget) -> Plan:
        return cls(folder, out, budget, runs_of(numbers, budget))

    @property
    def runs(self) -> dict[str, Run]:
        """All trainings, each once, by name."""
        return {run.name: run for runs in self.figures.values() for run in runs}

    @property
    def own_files(self) -> Path:
        """The folder of what is neither a run nor Snakemake's."""
        return self.folder / OWN_FILES

    def complete(self, run: Run) -> bool:
        return completeness_of(self.folder / run.name).is_file()

    def incomplete(self, runs: Iterable[Run]) -> list[Run]:
        return [run for run in runs if not self.complete(run)]

    def lack(self, number: int) -> str | None:
        """What a figure lacks and what that costs, in one line; None if it lacks nothing."""
        runs = self.figures[number]
        lacking = self.incomplete(runs)
        if not lacking:
            return None
        names = ", ".join(run.name for run in lacking)
        return f"figure {number} lacks {len(lacking)} of {len(runs)} runs, {costs.in_words(lacking)}: {names}"

    def check_folders(self) -> None:
        """Compares the run folders that there are with what is wanted in them; see `check_folder`."""
        for run in self.runs.values():
            check_folder(run, self.folder / run.name)

    def check_algorithms(self) -> None:
        """Looks whether all trainings can be made.

        Raises:
          UserError: this version lacks the algorithm of one.
        """
        for run in self.runs.values():
            if run.algo not in ALGOS:
                raise UserError(
                    f"run {run.name} needs the algorithm {run.algo!r}, which this version of shac-train does not have; "
                    f"{nearest(run.algo, ALGOS)}"
                )

    def draw(self, number: int) -> Path:
        """Draws a figure from what is there, and says in the picture if that is not all; returns the picture's path."""
        self.out.mkdir(parents=True, exist_ok=True)
        FIGURES[number].draw(self.folder, self.out, self.budget)
        path = self.out / f"fig{number:02d}.png"
        lacking, all_runs = self.incomplete(self.figures[number]), self.figures[number]
        if lacking:
            _stamp(path, f"PARTIAL: {len(all_runs) - len(lacking)} of {len(all_runs)} trainings are complete")
        return path

    def write(self) -> Path:
        """Writes the plan for the workflow, and takes back the marks of figures that are not where they are wanted."""
        for number in self.figures:
            mark = self.mark(number)
            mark.parent.mkdir(parents=True, exist_ok=True)
            place = mark.read_text(encoding="utf-8") if mark.is_file() else None
            if place != str(self.out) or not (self.out / f"fig{number:02d}.png").is_file():
                mark.unlink(missing_ok=True)
        path = self.own_files / "plan.json"
        content = {
            "folder": str(self.folder),
            "out": str(self.out),
            "budget": self.budget.value,
            "figures": {number: [run.name for run in runs] for number, runs in self.figures.items()},
            "runs": {name: {**dataclasses.asdict(run), "cost": costs.of(run)} for name, run in self.runs.items()},
        }
        atomic_write(path, lambda file: file.write(json.dumps(content, indent=1).encode()))
        return path

    def mark(self, number: int) -> Path:
        """The file that says where a figure has been drawn since its trainings were complete."""
        return self.own_files / "drawn" / f"fig{number:02d}"


def read(path: Path) -> Plan:
    """The plan that `Plan.write` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    runs = {name: Run(**{k: v for k, v in run.items() if k != "cost"}) for name, run in content["runs"].items()}
    figures = {int(number): [runs[name] for name in names] for number, names in content["figures"].items()}
    return Plan(Path(content["folder"]), Path(content["out"]), Budget(content["budget"]), figures)


def settings_of(run: Run):
    """The resolved settings that a training is to have."""
    return resolve(load_task(run.model), run.algo, {"model": run.model, "seed": run.seed, **run.settings})


def check_folder(run: Run, folder: Path) -> None:
    """Compares a run folder, if there is one, with what is wanted in it.

    Raises:
      UserError: it is of other settings, or no run folder.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return
    found, wanted = dataclasses.asdict(read_config(folder)), dataclasses.asdict(settings_of(run))
    # a setting that came later is what it is without being asked for
    usual = settings_of(dataclasses.replace(run, settings={})).task
    found["task"] = {**usual, **found["task"]}
    if set(wanted["snapshots"]) <= set(found["snapshots"]):
        wanted["snapshots"] = found["snapshots"]
    other = [name for name in wanted if found.get(name) != wanted[name]]
    if other:
        differences = ", ".join(f"{x} is {_shown(found.get(x))} instead of {_shown(wanted[x])}" for x in other)
        raise UserError(f"{folder} is a run of other settings: {differences}; move it away, or choose another --runs")


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _stamp(path: Path, text: str) -> None:
    """Writes a line on a red band above a picture."""
    with Image.open(path) as image:
        picture = image.convert("RGB")
    size = max(12, picture.width // 60)
    band = Image.new("RGB", (picture.width, picture.height + 2 * size), "white")
    band.paste(picture, (0, 2 * size))
    draw = ImageDraw.Draw(band)
    draw.rectangle((0, 0, band.width, 2 * size), fill="#b00020")
    draw.text((size, size // 2), text, fill="white", font=ImageFont.load_default(size))
    with temporary(path) as name:
        band.save(name)
        os.replace(name, path)
