"""Directions in an actor's parameters along which its loss is drawn."""

from __future__ import annotations

import torch

from shac.algos.networks import Actor
from shac.figures.losses.variants import Direction


def one_weight(actor: Actor, generator: torch.Generator) -> tuple[str, Direction]:
    """The direction of one weight, each entry of the actor's weight matrices being as likely as the others.

    Returns:
      Its name, such as mu.3.weight[5, 17], and the direction: 1 there, 0 elsewhere in its matrix.
    """
    matrices = _matrices(actor)
    sizes = torch.tensor([matrix.numel() for matrix in matrices.values()])
    place = torch.randint(int(sizes.sum()), (1,), generator=generator).item()
    which = int((place >= sizes.cumsum(0)).sum())
    name = list(matrices)[which]
    direction = torch.zeros_like(matrices[name])
    row, column = divmod(place - int(sizes[:which].sum()), direction.shape[1])
    direction[row, column] = 1.0
    return f"{name}[{row}, {column}]", {name: direction}


def filter_normalised(actor: Actor, generator: torch.Generator) -> Direction:
    """A random direction in which every neuron's weights change by as much as they are: Li et al. 2018, section 4.

    Each row of a weight matrix, the weights that lead to one neuron, is normal noise scaled to that row's norm. As
    there, biases and the parameters of normalisation layers stay where they are; so does the actions' standard
    deviation.
    """
    direction = {}
    for name, matrix in _matrices(actor).items():
        # Drawn on the CPU, so that a seed means the same direction on every device.
        noise = torch.randn(matrix.shape, generator=generator).to(matrix)
        direction[name] = noise / noise.norm(dim=1, keepdim=True) * matrix.norm(dim=1, keepdim=True)
    return direction


def _matrices(actor: Actor) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in actor.named_parameters() if parameter.ndim == 2}
