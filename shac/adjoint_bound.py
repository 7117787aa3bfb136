"""A bound on what flows back through a control step."""

from __future__ import annotations

import torch

from shac.ranks import Ranks
from taichi_sim.types import State


def bounded(state: State, factor: float, ranks: Ranks) -> State:
    """The same state; of the gradient that flows back into it no world has more than `factor` times the median.

    Where contacts are stiff, a few worlds that are about to hit or fall have a gradient a thousand times as large as
    the others: a sum over all of them is theirs, and points anywhere. Here they keep its direction, as one among many.

    Args:
      state: of all worlds, before anything is made of it.
      factor: of the median, over those worlds to which anything flows back, of the gradient's Euclidean norm.
      ranks: the processes that share the worlds.
    """
    return State(*_Bounded.apply(factor, ranks, *state))


class _Bounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, factor: float, ranks: Ranks, *state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.factor, ctx.ranks = factor, ranks
        return tuple(x.view_as(x) for x in state)

    @staticmethod
    def backward(ctx, *bars: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        norm = torch.cat(bars, dim=1).norm(dim=1)
        everywhere = ctx.ranks.gather(norm)
        bound = ctx.factor * everywhere.where(everywhere > 0, torch.nan).nanmedian()
        # what is not a number stays so, and is found
        share = torch.where(norm > bound, bound / norm, 1.0)[:, None]
        return None, None, *(bar * share for bar in bars)
