"""What a figure is: the trainings that it shows, and how it is drawn from their run folders."""

from __future__ import annotations

import abc
import dataclasses
import enum
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar


class Budget(enum.Enum):
    """How much is trained.

    | value | meaning |
    |---|---|
    | quick | minutes: every figure can be drawn, none says much |
    | default | hours on two cores: what docs/figures.md shows |
    | paper | the paper's seeds and epochs, for a cluster |
    """

    QUICK = "quick"
    DEFAULT = "default"
    PAPER = "paper"


@dataclasses.dataclass(frozen=True)
class Run:
    """A training that a figure shows; figures that show the same one share its folder.

    | field | meaning |
    |---|---|
    | name | of its folder |
    | model, algo, seed | as `shac-train` takes them |
    | settings | what differs from the preset |
    """

    name: str
    model: str
    algo: str
    seed: int
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Figure(abc.ABC):
    """One of the paper's figures (Xu et al. 2022).

    | attribute | meaning |
    |---|---|
    | number | the paper's |
    | title | what it shows, one line |
    """

    number: ClassVar[int]
    title: ClassVar[str]

    @abc.abstractmethod
    def runs(self, budget: Budget) -> list[Run]:
        """The trainings that it is drawn from."""

    @abc.abstractmethod
    def draw(self, runs: Path, out: Path, budget: Budget) -> None:
        """Draws it from complete run folders.

        Args:
          runs: the folder that has the run folders, by `Run.name`.
          out: where `fig04.png` and `data/fig04.csv` (or several, `data/fig04_ant.csv`) are written, for figure 4.
          budget: as for `runs`; what is measured for the picture may be coarser with QUICK, too.
        """
