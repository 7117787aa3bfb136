"""Model constants that users may fit: from tensors by MuJoCo's names to the cells that the kernels read."""

from __future__ import annotations

import numpy as np
import torch

from taichi_sim.data import DeviceModel, Items
from taichi_sim.tree import quat_matrix
from taichi_sim.types import Model

# What can be fitted; the shape of each is that of the Model's array.
NAMES = (
    "body_mass",
    "body_inertia",
    "body_ipos",
    "dof_armature",
    "dof_damping",
    "jnt_stiffness",
    "actuator_gainprm",
    "actuator_biasprm",
    "muscle_force",
    "muscle_optimal_length",
    "muscle_slack_length",
    "muscle_timeconst",
)


class Parameters:
    """Maps parameter tensors to the fitted cells, differentiably.

    Every cell is an affine function of one parameter: masses and coefficients are copied, centres of mass and
    inertias are turned from the body's frame to its link's.

    Args:
        model, device_model: the model on both sides.
        names: parameters that `step` takes, of `NAMES`.

    Raises:
        ValueError: a name that is not in `NAMES`.
    """

    def __init__(self, model: Model, device_model: DeviceModel, names, dtype: torch.dtype, device: torch.device):
        self.shapes = {name: np.shape(getattr(model, name)) for name in names}
        self._dtype, self._device = dtype, device
        self._maps = {name: self._map(model, device_model, name) for name in names}
        self.base = self._tensor(device_model.fitted_values)

    @staticmethod
    def check(names) -> tuple[str, ...]:
        """The names as a tuple, or a ValueError that lists what can be fitted."""
        names = (names,) if isinstance(names, str) else tuple(names)
        unknown = [name for name in names if name not in NAMES]
        if unknown:
            raise ValueError(f"cannot fit {', '.join(map(repr, unknown))}; what can be fitted: {', '.join(NAMES)}")
        return names

    def cells(self, values: dict[str, torch.Tensor], num_worlds: int) -> torch.Tensor:
        """The fitted cells of every world, (N, ncell).

        Args:
            values: parameter tensors, shared (as in the Model) or with a leading axis of N worlds; the others keep the
                model's figures.

        Raises:
            ValueError: a name that was not declared, or a shape that does not fit.
        """
        cells = self.base.expand(num_worlds, -1)
        for name, value in values.items():
            if name not in self._maps:
                raise ValueError(
                    f"parameter {name!r} was not declared: Simulator(model, num_worlds, parameters=({name!r},))"
                )
            shape, value = self.shapes[name], torch.as_tensor(value, dtype=self._dtype, device=self._device)
            if tuple(value.shape) not in (shape, (num_worlds, *shape)):
                raise ValueError(
                    f"{name} must have shape {shape} (all worlds alike) or {(num_worlds, *shape)}, "
                    f"got {tuple(value.shape)}"
                )
            shared = tuple(value.shape) == shape
            index, matrix, offset = self._maps[name]
            new = value.reshape(1 if shared else num_worlds, -1) @ matrix.T + offset
            cells = cells.index_copy(1, index, new.expand(num_worlds, -1))
        return cells

    def _map(self, model: Model, m: DeviceModel, name: str):
        """Cells index (n,), matrix (n, entries) and offset (n,) with cells[index] = matrix @ parameter + offset."""
        size = int(np.prod(self.shapes[name]))
        index: list[int] = []
        rows: list[np.ndarray] = []
        offset: list[float] = []

        def put(items: Items, i: int, weights: np.ndarray, columns, base=0.0) -> None:
            cells = items.cells(i)
            index.extend(range(cells.start, cells.stop))
            block = np.zeros((cells.stop - cells.start, size))
            block[:, columns] = weights
            rows.extend(block)
            offset.extend(np.broadcast_to(base, len(block)))

        if name.startswith("body_"):
            for k, b in enumerate(m.heavy):
                self._put_body(model, m, name, k, b, put)
        elif len(self.shapes[name]) == 2:
            columns = self.shapes[name][1]
            for k, items in enumerate(getattr(m, name)):
                for u in range(model.nu):
                    put(items, u, np.ones((1, 1)), [columns * u + k])
        else:
            for i in range(size):
                put(getattr(m, name), i, np.ones((1, 1)), [i])
        return (
            torch.as_tensor(index, dtype=torch.long, device=self._device),
            self._tensor(np.reshape(rows, (len(index), size))),
            self._tensor(offset),
        )

    @staticmethod
    def _put_body(model: Model, m: DeviceModel, name: str, k: int, b: int, put) -> None:
        frame = quat_matrix(m.tree.body_quat[b])
        vector = [3 * b, 3 * b + 1, 3 * b + 2]
        if name == "body_mass":
            put(m.heavy_mass, k, np.ones((1, 1)), [b])
        elif name == "body_ipos":
            put(m.heavy_com, k, frame, vector, m.tree.body_pos[b])
        else:
            axes = frame @ quat_matrix(model.body_iquat[b])
            put(m.heavy_diag, k, axes**2, vector)
            put(m.heavy_off, k, axes[[1, 0, 0]] * axes[[2, 2, 1]], vector)

    def _tensor(self, values) -> torch.Tensor:
        return torch.as_tensor(np.asarray(values, float), dtype=self._dtype, device=self._device)
