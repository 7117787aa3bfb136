"""Model constants that users may fit: from tensors by MuJoCo's names to the cells that the kernels read."""

from __future__ import annotations

import numpy as np
import torch

from taichi_sim.bodies import tables as bodies
from taichi_sim.contact import tables as contact
from taichi_sim.data import DeviceModel
from taichi_sim.muscles import tables as muscles
from taichi_sim.types import Model

# What can be fitted; the shape of each is that of the Model's array.
NAMES = bodies.PARAMETERS + contact.PARAMETERS + muscles.PARAMETERS
# Values below these would give NaN, or a mass matrix without meaning, a step later and under another name.
_LEAST = dict.fromkeys(("body_mass", "body_inertia", "dof_frictionloss", *contact.PARAMETERS), 0.0)
_LEAST["muscle_optimal_length"] = 1e-6


class Parameters:
    """Maps parameter tensors to the fitted cells, differentiably.

    Every cell is an affine function of one parameter: masses and coefficients are copied, centres of mass and
    inertias are turned from the body's frame to its link's.

    Args:
        model, device_model: the model on both sides.
        base: the model's own figures, cell by cell.
        names: parameters that `step` takes, of `NAMES`.

    Raises:
        ValueError: a name that is not in `NAMES`.
    """

    def __init__(
        self, model: Model, device_model: DeviceModel, base: np.ndarray, names, dtype: torch.dtype, device: torch.device
    ):
        self.shapes = {name: np.shape(getattr(model, name)) for name in names}
        self._dtype, self._device = dtype, device
        self._maps = {name: self._map(device_model, name) for name in names}
        self.base = self._tensor(base)

    @staticmethod
    def check(names) -> tuple[str, ...]:
        """The names as a tuple, or a ValueError that lists what can be fitted."""
        names = (names,) if isinstance(names, str) else tuple(names)
        unknown = [name for name in names if name not in NAMES]
        if unknown:
            raise ValueError(f"cannot fit {', '.join(map(repr, unknown))}; what can be fitted: {', '.join(NAMES)}")
        return names

    def cells(self, values: dict[str, torch.Tensor], num_worlds: int, *, check: bool = True) -> torch.Tensor:
        """The fitted cells of every world, (N, ncell).

        Args:
            values: parameter tensors, shared (as in the Model) or with a leading axis of N worlds; the others keep the
                model's figures.
            check: look for values that nothing can be simulated with.

        Raises:
            ValueError: a name that was not declared, a shape that does not fit, or a value below its bound.
            FloatingPointError: a value is not finite.
        """
        cells = self.base.expand(num_worlds, -1)
        for name, value in values.items():
            value = self.tensor(name, value, num_worlds)
            if check:
                _require_sound(name, value.detach())
            index, entries, weights, offset = self._maps[name]
            # no matrix product: a caller's autocast or TF32 would round it
            shape = self.shapes[name]
            own = value.reshape(len(value) if value.dim() > len(shape) else 1, int(np.prod(shape)))
            new = (own[:, entries] * weights).sum(-1) + offset
            cells = cells.index_copy(1, index, new.expand(num_worlds, -1))
        return cells

    def tensor(self, name: str, value, num_worlds: int) -> torch.Tensor:
        """A parameter's value as a tensor, shaped as in the Model or with a leading axis of N worlds.

        Raises:
            ValueError: as in `cells`.
        """
        if name not in self._maps:
            raise ValueError(
                f"parameter {name!r} was not declared: Simulator(model, num_worlds, parameters=({name!r},))"
            )
        shape, value = self.shapes[name], torch.as_tensor(value, dtype=self._dtype, device=self._device)
        if tuple(value.shape) not in (shape, (num_worlds, *shape)):
            raise ValueError(
                f"{name} must have shape {shape} (all worlds alike) or {(num_worlds, *shape)}, got {tuple(value.shape)}"
            )
        return value

    def _map(self, m: DeviceModel, name: str):
        """Cells index (n,), and what they are the sum of: entries (n, 3), weights (n, 3) and offset (n,)."""
        index: list[int] = []
        rows: list[tuple[list[int], np.ndarray, float]] = []
        for items, i, weights, entries, base in m.fitted_cells(name):
            cells = items.cells(i)
            index.extend(range(cells.start, cells.stop))
            missing = 3 - len(entries)
            for row, offset in zip(weights, np.broadcast_to(base, len(weights)), strict=True):
                rows.append((entries + missing * entries[:1], np.append(row, [0.0] * missing), offset))
        entries, weights, offset = zip(*rows, strict=True) if rows else ((), (), ())
        return (
            torch.as_tensor(index, dtype=torch.long, device=self._device),
            torch.as_tensor(entries, dtype=torch.long, device=self._device).reshape(-1, 3),
            self._tensor(np.reshape(weights, (-1, 3))),
            self._tensor(offset),
        )

    def _tensor(self, values) -> torch.Tensor:
        return torch.as_tensor(np.asarray(values, float), dtype=self._dtype, device=self._device)


def _require_sound(name: str, value: torch.Tensor) -> None:
    finite = torch.isfinite(value)
    if not finite.all():
        raise FloatingPointError(f"parameter {name}{(~finite).nonzero()[0].tolist()} is not finite")
    if name not in _LEAST:
        return
    below = value < _LEAST[name]
    if name.startswith("body_"):
        # of the world nothing is read
        below[(..., 0) if name == "body_mass" else (..., 0, slice(None))] = False
    if below.any():
        at = below.nonzero()[0].tolist()
        raise ValueError(f"parameter {name}{at} is {value[tuple(at)].item():g}; it must be at least {_LEAST[name]:g}")
