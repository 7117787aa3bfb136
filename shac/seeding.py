"""Independent random streams from one seed."""

from __future__ import annotations

import numpy as np
import torch

# A stream's place in this list is part of what a seed means: append, never reorder.
STREAMS = ("weights", "reset", "exploration", "evaluation", "selection", "sampling", "figures")


def stream_seed(seed: int, stream: str) -> int:
    """A 64-bit seed for one stream of a run.

    Consecutive run seeds would share streams if a stream's seed were an offset from the run's; SeedSequence hashes both
    together instead, so that neither streams of a run nor runs of neighbouring seeds overlap.
    """
    if seed < 0:
        raise ValueError(f"a seed must not be negative, got {seed}")
    sequence = np.random.SeedSequence([seed, STREAMS.index(stream)])
    # torch refuses seeds of 2**64 and above, and reads those of 2**63 and above as negative ones.
    return int(sequence.generate_state(1, np.uint64)[0]) >> 1


def generator(seed: int, stream: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device` for one stream of a run."""
    return torch.Generator(device).manual_seed(stream_seed(seed, stream))
