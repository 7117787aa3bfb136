"""Whether a checkpoint's content is what a run can take: of the same names, types and shapes as its own.

A checkpoint may come from anywhere. torch takes what has another shape than the parameter it is for, and its fused
optimisers then write beyond the end of memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from shac.errors import UserError

if TYPE_CHECKING:
    from shac.algos.learner import Learner


@contextlib.contextmanager
def refusing_misfits(what: str) -> Iterator[None]:
    """Makes one UserError, of one line, of a content that lacks something or has something else."""
    try:
        yield
    except UserError:
        raise
    except (LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{what}: {' '.join(str(error).split())}") from error


def require_like(saved: Any, like: Any, name: str) -> None:
    """Compares a content with one that fits.

    Args:
      saved: dicts, lists, tensors and numbers of a checkpoint.
      like: what the run would save now; where that is None a number fits too, and where it is an empty list, numbers.
      name: of the content, for the message.

    Raises:
      ValueError: they differ; the message says where.
    """
    if isinstance(like, Mapping):
        if not isinstance(saved, Mapping) or saved.keys() != like.keys():
            raise ValueError(f"{name} has {_names(saved)} instead of {_names(like)}")
        for key in like:
            require_like(saved[key], like[key], f"{name}.{key}")
    elif isinstance(like, torch.Tensor):
        if not isinstance(saved, torch.Tensor) or (saved.shape, saved.dtype) != (like.shape, like.dtype):
            raise ValueError(f"{name} is {_kind(saved)} instead of {_kind(like)}")
    elif isinstance(like, list):
        if not isinstance(saved, list) or not all(_is_number(value) for value in saved):
            raise ValueError(f"{name} is {_kind(saved)} instead of a list of numbers")
    elif like is not None or saved is not None:
        kinds = (int,) if isinstance(like, int) else (int, float)
        if not _is_number(saved, kinds):
            raise ValueError(f"{name} is {_kind(saved)} instead of a number")


def require_learner(saved: Any, learner: Learner) -> None:
    """Looks at what a checkpoint has of a learner's state.

    Raises:
      ValueError: it does not fit; the message says where.
    """
    like = learner.state_dict()
    if not isinstance(saved, Mapping) or saved.keys() != like.keys():
        raise ValueError(f"learner has {_names(saved)} instead of {_names(like)}")
    for name in like:
        if name in learner.optimizers:
            _require_moments(saved[name], learner.optimizers[name], f"learner.{name}")
        elif name == "replay":
            # A complete run has none.
            if saved[name] is not None:
                learner.replay.require(saved[name])
        else:
            require_like(saved[name], like[name], f"learner.{name}")


def _require_moments(saved: Any, optimizer: torch.optim.Optimizer, name: str) -> None:
    if not isinstance(saved, Mapping) or not isinstance(saved.get("state"), Mapping):
        raise ValueError(f"{name} is not an optimiser's state")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    names = ("momentum_buffer",) if isinstance(optimizer, torch.optim.Muon) else ("step", "exp_avg", "exp_avg_sq")
    for index, state in saved["state"].items():
        if index not in range(len(parameters)):
            raise ValueError(f"{name} has a parameter {index!r} of {len(parameters)}")
        moments = {key: torch.zeros(()) if key == "step" else parameters[index] for key in names}
        require_like(state, moments, f"{name}.state.{index}")


def _is_number(value: Any, kinds: tuple[type, ...] = (int, float)) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype}"
    return f"{type(value).__name__} {value!r:.40}"


def _names(value: Any) -> str:
    return ", ".join(map(str, value)) or "nothing" if isinstance(value, Mapping) else _kind(value)
