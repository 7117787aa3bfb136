"""CUDA cards: which one a process takes, and why none can be taken.

Taichi takes the first card that CUDA shows to the process, and falls back to the CPU without a word where it cannot.
"""

from __future__ import annotations

import ctypes
import os
import re

import torch

_VISIBLE = "CUDA_VISIBLE_DEVICES"
# What the driver says of itself (CUDA 11.1), below which it takes no code for sm_86, the newest that Taichi 1.7 writes.
_OLDEST_DRIVER = 11010


def parse(device: str | None) -> tuple[str | None, int | None]:
    """Kind ("cpu", "cuda", None: any) and card of a device's name; None: the card that LOCAL_RANK says, or the first.

    Raises:
        ValueError: it is no device's name.
    """
    if device in (None, "auto", "cpu", "cuda"):
        return (None if device == "auto" else device), None
    match = re.fullmatch(r"cuda:(\d{1,4})", device) if isinstance(device, str) else None
    if match is None:
        raise ValueError(f"device must be 'cpu' or 'cuda', 'cuda:1' and so on, or 'auto', got {device!r}")
    return "cuda", int(match[1])


def local_card() -> int:
    """The card of this process among those of its machine: LOCAL_RANK, which torchrun sets, or 0."""
    rank = os.environ.get("LOCAL_RANK", "0")
    return int(rank) if rank.isdigit() else 0


def begin(card: int) -> None:
    """Shows the process one card alone, and makes torch's context on it: before Taichi's, as both share it.

    Raises:
        RuntimeError: there is no such card, or it cannot be chosen any more.
    """
    if torch.version.cuda is None:
        raise RuntimeError(
            "device='cuda' was asked for, but this torch is a build without CUDA: install one with CUDA "
            "(https://pytorch.org/get-started/locally), or use device='cpu'"
        )
    if torch.cuda.is_initialized():
        if card != 0 or torch.cuda.current_device() != 0:
            raise RuntimeError(
                f"card {card} was asked for after torch had begun to use CUDA, and Taichi takes the first card that the"
                f" process sees: call ts.init() before torch uses a card, or set {_VISIBLE}={card} and ask for 'cuda'"
            )
    else:
        os.environ[_VISIBLE] = _visible(card, os.environ.get(_VISIBLE))
    if not torch.cuda.is_available():
        raise RuntimeError(f"device='cuda' was asked for, but torch finds no card: {why_not()}; or use device='cpu'")
    torch.zeros(1, device="cuda:0")


def _visible(card: int, before: str | None) -> str:
    """CUDA_VISIBLE_DEVICES for one card of those that it shows so far (None: all)."""
    shown = None if before is None else [name.strip() for name in before.split(",") if name.strip()]
    if shown is None:
        return str(card)
    if card >= len(shown):
        raise RuntimeError(f"card {card} was asked for, but {_VISIBLE}={before} shows {len(shown)}: count from 0")
    return shown[card]


def why_not() -> str:
    """What keeps Taichi from a card, with the cure."""
    # Taichi loads this name, not libcuda.so.1
    try:
        driver = ctypes.CDLL("libcuda.so")
    except OSError:
        return (
            "libcuda.so, the driver's library, is not found: install NVIDIA's driver or, where there is a libcuda.so.1,"
            " link libcuda.so to it in a folder of LD_LIBRARY_PATH"
        )
    status, version, cards = driver.cuInit(0), ctypes.c_int(), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    if version.value < _OLDEST_DRIVER:
        found = f"{version.value // 1000}.{version.value % 1000 // 10}"
        return f"the driver is one for CUDA {found}, and Taichi needs 11.1: install a newer driver"
    if status != 0:
        return f"the driver does not start (cuInit gives {status}): nvidia-smi says more"
    driver.cuDeviceGetCount(ctypes.byref(cards))
    if cards.value == 0:
        return f"the driver shows no card ({_VISIBLE}={os.environ.get(_VISIBLE, '')!r}): nvidia-smi lists what there is"
    return "the driver shows a card, but Taichi did not take it: TI_LOG_LEVEL=trace says why"


def require_default_stream() -> None:
    """Raises a RuntimeError if torch works on a stream of its own, with which Taichi's launches are not in order."""
    if torch.cuda.current_stream(0) != torch.cuda.default_stream(0):
        raise RuntimeError(
            "taichi_sim runs on CUDA's default stream only, and torch's current stream is another one: call it outside "
            "of `with torch.cuda.stream(...)`"
        )
