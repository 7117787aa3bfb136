"""The tables and the scratch of all rooms put together: what kernels call m and d.

A room's own part is in its tables.py. A new room's is added here and nowhere else.
"""

from __future__ import annotations

from taichi_sim.bodies import tables as bodies
from taichi_sim.constraint import tables as constraint
from taichi_sim.contact import tables as contact
from taichi_sim.fluid import tables as fluid
from taichi_sim.lanes.buffers import Fields, Ints, Items
from taichi_sim.loops import tables as loops
from taichi_sim.muscles import tables as muscles
from taichi_sim.records import taping
from taichi_sim.runtime import ti
from taichi_sim.types import Model


@ti.data_oriented
class DeviceModel(bodies.Constants):
    """The model's constants on the device.

    | field | meaning |
    |---|---|
    | (its own) | bodies, joints and dofs: `bodies.tables.Constants` |
    | contact | where bodies can touch: `contact.tables.Constants` |
    | fluid | what a fluid meets: `fluid.tables.Constants` |
    | tendon, actuator | `muscles.tables.Tendons`, `muscles.tables.Actuators` |
    | loops | equalities that close loops: `loops.tables.Constants` |
    | constraint | limits, contacts, dry friction by MuJoCo's law: `constraint.tables.Constants` |
    | rows_on_tendons | whether tendons are held by rows of `loops` or `constraint` |
    | external | whether a room makes forces on links besides those of inertia and gravity |
    | damping | the part of these that is implicit in the links' velocities |
    | nrecord | what a substep leaves on the tape |

    Args:
        fitted: names of the constants that users may fit (`parameters.NAMES`).
    """

    def __init__(self, model: Model, fields: Fields, fitted: tuple[str, ...]):
        super().__init__(model, fields, fitted)
        touching = contact.touching(model, self._tree)
        self.contact = contact.Constants(model, touching, fields, fitted)
        self.fluid = fluid.Constants(model, self._tree, self._heavy, fields)
        self.tendon = muscles.Tendons(model, self._tree, fields)
        self.actuator = muscles.Actuators(model, self._tree, fields)
        self.loops = loops.Constants(model, self._tree, fields)
        self.constraint = constraint.Constants(model, self._tree, fields, fitted, touching)
        self.external = self.external or self.contact.any or self.tendon.npath > 0 or self.loops.any
        self.external = self.external or self.fluid.any or self.actuator.sites.number > 0
        on_tendons = self.constraint.limits.tendons + self.constraint.dry.tendons
        self.rows_on_tendons = self.loops.tendons or on_tendons > 0
        self.external = self.external or self.rows_on_tendons
        # a symmetric problem, as joint equalities make of it
        self.coriolis = self.coriolis and not self.loops.any
        self.damping = self.contact.damping
        self.any_friction = self.any_friction or self.tendon.friction or self.constraint.dry.tendons > 0
        self.nrecord = taping.size(self)
        self.ncell = fields.fitted.cells

    def fitted_cells(self, name: str):
        """Where a parameter's entries go, see `parameters`."""
        if name in contact.PARAMETERS:
            return (self.contact if self.contact.penalty else self.constraint).fitted_cells(name)
        return (super() if name in bodies.PARAMETERS else self.actuator).fitted_cells(name)


@ti.data_oriented
class Data(bodies.Scratch):
    """The state and the intermediate results of a batch of worlds.

    | field | meaning |
    |---|---|
    | (its own) | state, bodies, joints and dofs: `bodies.tables.Scratch` |
    | contact | `contact.tables.Scratch` |
    | fluid | `fluid.tables.Scratch` |
    | tendon, actuator | `muscles.tables.TendonScratch`, `muscles.tables.ActuatorScratch` |
    | loops | `loops.tables.Scratch` |
    | constraint | `constraint.tables.Scratch` |
    """

    def __init__(self, m: DeviceModel, fields: Fields):
        super().__init__(m, fields)
        self.contact = contact.Scratch(m, fields)
        self.fluid = fluid.Scratch(m, fields)
        self.tendon = muscles.TendonScratch(m, fields)
        self.actuator = muscles.ActuatorScratch(m, fields)
        self.loops = loops.Scratch(m, fields)
        self.constraint = constraint.Scratch(m, fields)


def structure(table) -> tuple:
    """What kernels have compiled in of a table: sizes, switches and places, but not the values of constants.

    Models whose tables and scratch have the same structure share their kernels (`engine`).

    Raises:
        TypeError: a table holds something else. What is not for kernels begins with an underscore.
    """
    entries = []
    for name, value in sorted(vars(table).items()):
        if not name.startswith("_"):
            entries.append((name, _compiled_in(value)))
    return tuple(entries)


def _compiled_in(value):
    if isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, frozenset):
        return tuple(sorted(value))
    if isinstance(value, (Items, Ints)):
        return value.place
    if isinstance(value, list):
        return tuple(_compiled_in(x) for x in value)
    if hasattr(value, "__dict__"):
        return structure(value)
    raise TypeError(f"a table for kernels holds a {type(value).__name__}: {value!r}")
