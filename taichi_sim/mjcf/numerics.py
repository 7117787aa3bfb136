"""The engine's own settings in MJCF: `<custom><numeric>` and `<custom><text>` fields."""

from __future__ import annotations

from taichi_sim.mjcf.report import Report, decoded, element_name
from taichi_sim.mjcf.values import LARGEST
from taichi_sim.option import MOST_SUBSTEPS

# What each may hold, by the name before a colon: smallest, largest, and whether it must be a whole number.
_RANGES = {
    "substeps": (1, MOST_SUBSTEPS, True),
    "theta": (0, 1, False),
    "limit_ke": (0, LARGEST, False),
    "limit_kd": (0, LARGEST, False),
    "limit_loss": (0, 1, False),
    "contact_ke": (0, LARGEST, False),
    "contact_kd": (0, LARGEST, False),
    "contact_loss": (0, 1, False),
    "contact_kf": (0, LARGEST, False),
    "contact_mu": (0, 1000, False),
    "muscle_pennation": (0, 1.5, False),
    "muscle_damping": (0, 1.5, False),
    "muscle_strain": (0, 1, False),
}


class Numerics:
    """The model's `<custom><numeric>` fields that the engine reads, one number each; reports those that are not."""

    def __init__(self, mj_model, report: Report):
        self._model = mj_model
        self._report = report
        self._ids = {element_name(mj_model, "numeric", i): i for i in range(mj_model.nnumeric)}

    def get(self, name: str, default):
        """The number called `name`, of `_RANGES` or that and a colon and an element; `default` where there is none."""
        if name not in self._ids:
            return default
        i = self._ids[name]
        low, high, whole = _RANGES[name.partition(":")[0]]
        adr, size = self._model.numeric_adr[i], self._model.numeric_size[i]
        data = self._model.numeric_data[adr : adr + size]
        # no comparison holds for a number that is none
        if size == 1 and low <= data[0] <= high and (not whole or data[0] == int(data[0])):
            return float(data[0])
        found = " ".join(f"{x:g}" for x in data[:6]) + (" ..." if size > 6 else "")
        expected = f"one {'whole ' if whole else ''}number from {low:g} to {high:g}"
        self._report.add("numeric", i, f"is {found}, which is not {expected}", f'write data="..." with {expected}')
        return default

    def states(self, prefixes: tuple[str, ...]) -> bool:
        """Whether there is a field whose name begins with one of them."""
        return any(name.startswith(prefixes) for name in self._ids)

    def refuse_strangers(self, prefix: str, known: set[str], kind: str) -> None:
        """Report fields called `prefix` plus the name of something that is not such a `kind` ("a joint")."""
        for name, i in self._ids.items():
            if name.startswith(prefix) and name.removeprefix(prefix) not in known:
                what = f"'{name.removeprefix(prefix)}' is not {kind}"
                self._report.add("numeric", i, what, f"name it {prefix} and the name of {kind}")


def choice(mj_model, report: Report, name: str, choices: dict, what: str) -> tuple:
    """What `<custom><text name="..." data="..."/>` chooses, the first of the choices without one; and its index."""
    m = mj_model
    names = [element_name(m, "text", i) for i in range(m.ntext)]
    default = next(iter(choices.values()))
    if name not in names:
        return default, -1
    i = names.index(name)
    said = decoded(m.text_data[m.text_adr[i] : m.text_adr[i] + m.text_size[i]].rstrip(b"\0"))
    if said not in choices:
        report.add("text", i, f"says {said!r}, which is no {what}", f'write data="{" or ".join(choices)}"')
    return choices.get(said, default), i
