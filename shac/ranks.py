"""One training in several processes: what each has of the worlds, and what they tell each other.

Every process draws the random numbers of all worlds and keeps those of its own, and what a single process would average
over all worlds is averaged over the processes. So they are, but for rounding, the training that one process would do.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

import torch
from torch import distributed

import taichi_sim as ts
from shac.errors import LostRankError, UserError

# What torchrun tells each process that it starts.
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Ranks:
    """The processes of a training, and this one's place among them: rank of size.

    With size 1 nothing is sent. All others call the same methods in the same order.

    Raises:
      LostRankError: by every method that sends, if another process has ended.
    """

    def __init__(self, rank: int = 0, size: int = 1):
        self.rank, self.size = rank, size

    @property
    def first(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0

    def share(self, num_envs: int) -> slice:
        """This process's worlds of `num_envs`.

        Raises:
          UserError: they do not divide.
        """
        if num_envs % self.size:
            raise UserError(f"num_envs is {num_envs}, which {self.size} processes cannot share evenly")
        num = num_envs // self.size
        return slice(self.rank * num, (self.rank + 1) * num)

    def gather(self, x: torch.Tensor, dim: int = 0) -> torch.Tensor:
        """What all processes have, side by side along `dim`, in the order of their worlds; without gradient."""
        if self.size == 1:
            return x
        own = x.detach().to(torch.uint8 if x.dtype == torch.bool else x.dtype).contiguous()
        parts = [torch.empty_like(own) for _ in range(self.size)]
        with _sending():
            distributed.all_gather(parts, own)
        return torch.cat(parts, dim).to(x.dtype)

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """The mean over the processes of a tensor, without gradient."""
        if self.size == 1:
            return x.detach()
        total = x.detach().clone()
        with _sending():
            distributed.all_reduce(total)
        return total / self.size

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replaces the parameters' gradients by their means over the processes."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        mean = self.mean(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, part in zip(gradients, mean.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def sum(self, number: float, device: torch.device | str = "cpu") -> float:
        """The sum over the processes of a number."""
        if self.size == 1:
            return number
        return self.size * self.mean(torch.tensor(number, dtype=torch.float64, device=device)).item()

    def any(self, fact: bool, device: torch.device | str = "cpu") -> bool:
        """Whether something is so in any process."""
        return fact if self.size == 1 else self.sum(float(fact), device) > 0


SOLO = Ranks()


@contextlib.contextmanager
def joined(device: str | None) -> Iterator[Ranks]:
    """The processes that torchrun has started, connected; or this one alone.

    On the CPU each takes its share of the machine's cores, so call it before the first Simulator.
    """
    if not started_by_torchrun() or int(os.environ["WORLD_SIZE"]) == 1:
        yield SOLO
        return
    on_card = device is not None and device.startswith("cuda")
    if device is not None and device.startswith("cuda:"):
        raise UserError(
            f"device {device} is one card for several processes: ask for cuda, and each takes one of its own"
        )
    if on_card:
        try:
            # first: it shows the process its own card alone, which must be before anything counts them
            ts.init(device=device)
        except RuntimeError as error:
            raise UserError(str(error)) from error
    else:
        _take_cores(int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"]))
    distributed.init_process_group("nccl" if on_card else "gloo")
    yield Ranks(distributed.get_rank(), distributed.get_world_size())
    # not after an error: the others may not be there any more
    distributed.destroy_process_group()


def started_by_torchrun() -> bool:
    """Whether torchrun, or what sets the same variables, has started this process."""
    return all(name in os.environ for name in _VARIABLES)


def _take_cores(rank: int, size: int) -> None:
    """Keeps this process to its share of the machine's cores, which the others of the machine leave to it."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    each = max(1, len(cores) // size)
    first = rank * each % len(cores)
    os.sched_setaffinity(0, cores[first : first + each])
    os.environ.setdefault("TI_CPU_MAX_NUM_THREADS", str(each))


@contextlib.contextmanager
def _sending() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # torch's own message is of many lines, that on the other side of the connection
        reason = str(error).partition("] ")[2].partition(". ")[0].splitlines()
        raise LostRankError(
            f"process {os.environ.get('RANK')} has lost another one of this training and ends, too "
            f"({(reason or ['?'])[0][:100]}): shac-train --resume goes on, in one process or under torchrun"
        ) from error
