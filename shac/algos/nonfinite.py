"""Where a non-finite number began, and gradients that are nearly so."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import nn

from shac.errors import NonFiniteError
from shac.ranks import SOLO, Ranks


@contextlib.contextmanager
def naming_epoch(epoch: int) -> Iterator[None]:
    """Says of what cannot be computed within, as the simulator's step, in which epoch that was: NonFiniteError."""
    try:
        yield
    except ArithmeticError as error:
        raise NonFiniteError(f"in epoch {epoch}: {error}") from error


def check_window(epoch: int, quantities: Mapping[str, torch.Tensor], ranks: Ranks = SOLO) -> None:
    """Raises if any number of a window is not finite, in all processes.

    Args:
      epoch: the present epoch, for the message.
      quantities: name -> values (horizon, num_envs, ...), in the order in which a step computes them.

    Raises:
      NonFiniteError: names the first step with such a number, its first quantity and the first world there.
    """
    finite = bool(torch.stack([values.isfinite().all() for values in quantities.values()]).all())
    if not ranks.any(not finite, next(iter(quantities.values())).device):
        return
    if finite:
        raise NonFiniteError(f"a number is not finite in epoch {epoch}, in the worlds of another process")
    first = None
    for name, values in quantities.items():
        bad = ~values.isfinite().flatten(2).all(2) if values.dim() > 2 else ~values.isfinite()
        if bad.any():
            step, world = bad.nonzero()[0].tolist()
            # Quantities come in the order of a step: of two in the same step the earlier one is the origin.
            if first is None or step < first[0]:
                first = (step, world, name, int(bad[step].sum()))
    step, world, name, count = first
    raise NonFiniteError(
        f"the {name} is not finite: first in epoch {epoch}, step {step} of the window, world {world}"
        f" ({count} of {bad.shape[1]} worlds in that step)"
    )


def clip_gradient(parameters: Iterable[nn.Parameter], max_norm: float) -> torch.Tensor:
    """Scales gradients down to `max_norm`, like torch's `clip_grad_norm_`, and returns the norm that they had.

    Also those beyond 1e19, whose squares are too large for single precision: BPTT's through a thousand steps are.
    """
    parameters = list(parameters)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if not bool(norm.isinf()):
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
        return norm
    largest = nn.utils.get_total_norm(gradients, torch.inf)
    if bool(largest.isinf()):
        return largest
    torch._foreach_div_(gradients, largest)
    norm = nn.utils.get_total_norm(gradients)
    torch._foreach_mul_(gradients, max_norm / norm)
    return largest.double() * norm


def check_gradient(epoch: int, norm: torch.Tensor, actions: Sequence[torch.Tensor]) -> None:
    """Raises if the norm of the actor's gradient is not finite.

    Args:
      epoch: the present epoch, for the message.
      norm: the norm.
      actions: the window's actions, each (num_envs, num_actions), with `.grad`.

    Raises:
      NonFiniteError: names the step in which the backward pass, which runs from the last step to the first, met it.
    """
    if bool(norm.isfinite()):
        return
    for step in reversed(range(len(actions))):
        grad = actions[step].grad
        if grad is not None and not bool(grad.isfinite().all()):
            world = int((~grad.isfinite().all(1)).nonzero()[0])
            raise NonFiniteError(
                f"the gradient is not finite: backwards first in epoch {epoch}, step {step} of the window,"
                f" world {world}, with respect to that step's action"
            )
    raise NonFiniteError(
        f"the actor's gradient is not finite in epoch {epoch} although the gradients of all actions are:"
        " it began in the actor itself"
    )
