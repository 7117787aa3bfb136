"""All figures that `shac-figure` draws."""

from __future__ import annotations

from shac.figures.curves import Figure4, Figure7, Figure8, Figure9, Figure10
from shac.figures.figure import Budget, Figure, Run
from shac.figures.graphs import Graphs
from shac.figures.grid import unite
from shac.figures.horizon import Figure6
from shac.figures.losses.gradients import GradientValues
from shac.figures.losses.line import OneWeightGradient, OneWeightLosses
from shac.figures.losses.surface import Surfaces
from shac.figures.stills import Figure1, Figure5

FIGURES: dict[int, Figure] = {
    1: Figure1(),
    2: OneWeightLosses(),
    3: Graphs(),
    4: Figure4(),
    5: Figure5(),
    6: Figure6(),
    7: Figure7(),
    8: Figure8(),
    9: Figure9(),
    10: Figure10(),
    11: OneWeightGradient(),
    12: GradientValues(),
    13: Surfaces(),
}


def runs_of(numbers: list[int], budget: Budget) -> dict[int, list[Run]]:
    """The trainings of some figures, each once, by figure.

    One that another figure needs snapshots of has them from the beginning, whichever is drawn first.
    """
    all_of = {number: figure.runs(budget) for number, figure in FIGURES.items()}
    united = unite(run for runs in all_of.values() for run in runs)
    return {number: [united[name] for name in dict.fromkeys(run.name for run in all_of[number])] for number in numbers}
