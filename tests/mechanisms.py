"""Random mechanisms as MJCF: all that MuJoCo's law and integrators have to do with, each with some probability.

Left out are shapes that touch in other points than MuJoCo's; capsules do so on boxes alone, see `touch_alike`.
"""

from __future__ import annotations

import mujoco
import numpy as np

ACTUATORS = ("motor", "position", "velocity", "intvelocity", "muscle", "general", "crank", "adhesion", "on a site")
EQUALITIES = ("joint", "locked joint", "connect", "weld", "connect sites", "weld sites", "tendon")
FLAGS = ("gravity", "eulerdamp", "refsafe", "clampctrl", "limit", "frictionloss", "filterparent", "spring", "damper")


def touch_alike(m: mujoco.MjModel, data: mujoco.MjData) -> bool:
    """Whether no capsule touches a box."""
    apart = {int(mujoco.mjtGeom.mjGEOM_CAPSULE), int(mujoco.mjtGeom.mjGEOM_BOX)}
    return all(set(m.geom_type[contact.geom].tolist()) != apart for contact in data.contact)


def random_mechanism(seed: int) -> str:
    """One or two trees, perhaps on a floor, and what drives, holds and couples them."""
    return _Mechanism(np.random.default_rng(seed)).text()


def element(tag: str, inside: str = "", **attributes) -> str:
    """MJCF of an element; attributes are texts or numbers, those that are None are left out."""
    words = "".join(f' {name}="{_text(value)}"' for name, value in attributes.items() if value is not None)
    return f"<{tag}{words}>{inside}</{tag}>"


def _text(value) -> str:
    return value if isinstance(value, str) else " ".join(f"{x:.4g}" for x in np.ravel(value))


class _Mechanism:
    def __init__(self, rng: np.random.Generator):
        self.rng, self.number, self.normal = rng, rng.uniform, rng.normal
        kinds = ("body", "joint", "ball", "site", "wrap", "geom", "tendon")
        self.names: dict[str, list[str]] = {kind: [] for kind in kinds}

    def text(self) -> str:
        bodies = [self.body(children=self.rng.integers(2)) for _ in range(self.rng.integers(1, 3))]
        if self.chance(0.8):
            tilt = [*self.normal(size=2, scale=5), 0]
            bodies.append(element("geom", type="plane", size="5 5 1", euler=tilt, condim=self.choose(1, 3, 4, 6)))
        if self.chance(0.25):
            place = {"pos": self.normal(size=3, scale=0.3), "euler": self.normal(size=3, scale=40)}
            bodies.append(element("body", self.geom() + self.site(), name=self.new("body"), mocap="true", **place))
        text = self.option() + element("worldbody", "".join(bodies) + self.site()) + element("contact", self.contacts())
        # in this order: each may be of those before it
        text += element("tendon", "".join(self.tendon() for _ in range(self.rng.integers(3))))
        text += element("actuator", "".join(self.actuator() for _ in range(self.rng.integers(1, 5))))
        text += element("equality", "".join(self.equality() for _ in range(self.choose(0, 0, 1, 1, 2))))
        return element("mujoco", text)

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def choose(self, *options):
        return options[self.rng.integers(len(options))]

    def maybe(self, probability: float, value):
        return value if self.chance(probability) else None

    def new(self, kind: str) -> str:
        self.names[kind].append(f"{kind}{len(self.names[kind])}")
        return self.names[kind][-1]

    def any(self, kind: str, number: int = 1) -> list[str]:
        """So many different elements; none if there are fewer."""
        names = self.names[kind]
        return self.rng.choice(names, number, replace=False).tolist() if len(names) >= number else []

    def solver(self, suffix: str = "") -> dict:
        """MuJoCo's solver parameters, or none."""
        standard, direct = self.number((0.005, 0.5), (0.05, 1.5)), -self.number((500, 5), (5000, 50))
        impedance = [*self.number((0.5, 0.9, 5e-4, 0.2), (0.9, 0.99, 0.01, 0.8)), self.choose(1, 2, 3)]
        reference = self.choose(*[None] * 6, *[standard] * 3, direct)
        return {f"solref{suffix}": reference, f"solimp{suffix}": self.maybe(0.3, impedance)}

    def option(self) -> str:
        integrator = self.choose("Euler", "Euler", "implicitfast", "implicit", "RK4")
        words = {"timestep": self.choose(0.001, 0.002, 0.004), "integrator": integrator}
        words |= {"cone": self.choose("pyramidal", "elliptic"), "impratio": self.maybe(0.2, self.number(1, 10))}
        # with the implicit integrators the step would be our own
        if integrator in ("Euler", "RK4") and self.chance(0.2):
            words |= {"density": self.number(1, 1000), "viscosity": self.number(0, 0.1), "wind": self.normal(size=3)}
        flags = {flag: self.maybe(0.03, "disable") for flag in FLAGS}
        if self.chance(0.08):
            flags["override"] = "enable"
            words |= {"o_margin": 0.01, "o_solref": "0.03 0.9", "o_friction": "0.7 0.4 0.02 0.004 0.003"}
        return element("option", element("flag", **flags), **words)

    def body(self, children: int, root: bool = True) -> str:
        pos = [*self.normal(size=2, scale=0.4), self.number(0.1, 0.5)] if root else self.normal(size=3, scale=0.2)
        words = {"name": self.new("body"), "pos": pos, "euler": self.normal(size=3, scale=40)}
        if root and self.chance(0.5):
            parts = [element("freejoint")]
        elif self.chance(0.2):
            # MuJoCo lets no hinge go with a ball
            parts = [self.joint(self.choose("hinge", "slide")) for _ in range(2)]
        else:
            parts = [self.joint(self.choose("hinge", "hinge", "slide", "ball"))]
        if self.chance(0.15):
            place = {"pos": self.normal(size=3, scale=0.03), "euler": self.normal(size=3, scale=50)}
            moments = self.number(0.01, 0.017, size=3)
            parts.append(element("inertial", mass=self.number(0.3, 2), diaginertia=moments, **place))
        parts += [self.geom() for _ in range(1 + self.chance(0.3))]
        if self.chance(0.3):
            shape = {"type": self.choose("sphere", "cylinder"), "size": [self.number(0.04, 0.1), 0.2]}
            place = {"pos": self.normal(size=3, scale=0.05), "euler": self.normal(size=3, scale=60)}
            parts.append(element("geom", name=self.new("wrap"), contype=0, conaffinity=0, mass=0, **shape, **place))
        parts += [self.site(), *(self.body(0, root=False) for _ in range(children))]
        return element("body", "".join(parts), **words, gravcomp=self.maybe(0.15, self.number(0, 1.2)))

    def joint(self, kind: str) -> str:
        straight, turns = kind != "ball", kind != "slide"
        width = {"hinge": 40, "slide": 0.2, "ball": 60}[kind]
        words = {"name": self.new("joint" if straight else "ball"), "type": kind}
        words |= {"axis": self.normal(size=3)} if straight else {}
        words |= {"pos": self.normal(size=3, scale=0.05)} if turns else {}
        words |= {
            "damping": self.maybe(0.5, self.number(0.05, 2)),
            "armature": self.maybe(0.4, self.number(0.001, 0.1)),
        }
        words |= {"stiffness": self.maybe(0.3, self.number(1, 30))}
        if self.chance(0.25):
            words |= {"frictionloss": self.number(0.05, 1), **self.solver("friction")}
        if self.chance(0.45):
            low, high = self.number(0.1 * width, width, size=2)
            words |= {"range": [-low if straight else 0, high], "margin": self.choose(0, 0, 0.01)}
            words |= self.solver("limit")
        if straight and self.chance(0.2):
            words |= {"ref": self.normal(scale=0.3 * width), "springref": self.normal(scale=0.3 * width)}
        return element("joint", **words)

    def geom(self) -> str:
        kind, size = self.choose("sphere", "capsule", "box"), self.number(0.04, 0.12, size=3)
        words = {"name": self.new("geom"), "type": kind, "size": size, "density": self.number(200, 2000)}
        words |= {"pos": self.normal(size=3, scale=0.03), "euler": self.normal(size=3, scale=60)}
        words |= {"condim": self.choose(1, 3, 3, 4, 6), "friction": self.number((0.2, 0.002, 2e-4), (1.5, 0.05, 0.01))}
        words |= {"margin": self.maybe(0.2, self.number(0, 0.02)), "gap": self.maybe(0.1, self.number(0, 0.01))}
        words |= {"priority": self.maybe(0.1, 1), "solmix": self.maybe(0.1, self.number(0.2, 3))}
        if self.chance(0.15):
            words |= {"contype": self.rng.integers(4), "conaffinity": self.rng.integers(4)}
        return element("geom", fluidshape=self.maybe(0.1, "ellipsoid"), **words, **self.solver())

    def site(self) -> str:
        place = {"pos": self.normal(size=3, scale=0.1), "euler": self.normal(size=3, scale=60)}
        return element("site", name=self.new("site"), **place)

    def contacts(self) -> str:
        text = ""
        if self.chance(0.3) and (pair := self.any("geom", 2)):
            words = dict(zip(("geom1", "geom2"), pair), condim=self.choose(1, 3, 4, 6), margin=self.number(0, 0.02))
            text += element(
                "pair", friction=[*self.number(0.1, 1, size=2), 0.01, 0.003, 0.002], **words, **self.solver()
            )
        if self.chance(0.2) and (pair := self.any("body", 2)):
            text += element("exclude", **dict(zip(("body1", "body2"), pair)))
        return text

    def tendon(self) -> str:
        words = {"stiffness": self.maybe(0.5, self.number(2, 50)), "damping": self.maybe(0.4, self.number(0.1, 3))}
        words |= {"frictionloss": self.maybe(0.2, self.number(0.1, 2))}
        if self.chance(0.3):
            words |= {"range": self.number((0, 0.25), (0.2, 0.5)), **self.solver("limit")}
        if self.chance(0.35) and (joints := self.any("joint", 2)):
            path = "".join(element("joint", joint=joint, coef=self.normal()) for joint in joints)
            return element("fixed", path, name=self.new("tendon"), **words)
        path = ""
        for site in self.any("site", min(len(self.names["site"]), self.choose(2, 3))):
            if path and self.chance(0.5) and (wrap := self.any("wrap")):
                path += element("geom", geom=wrap[0], sidesite=self.maybe(0.5, self.any("site")[0]))
            path += element("site", site=site)
        return element("spatial", path, name=self.new("tendon"), **words)

    def actuator(self) -> str:
        kind = self.choose(*ACTUATORS)
        if kind == "crank" and (sites := self.any("site", 2)):
            return element("motor", cranksite=sites[0], slidersite=sites[1], cranklength=self.number(0.3, 0.8))
        if kind == "adhesion":
            return element("adhesion", body=self.any("body")[0], ctrlrange="0 1", gain=self.number(1, 20))
        if kind == "on a site":
            return element("motor", site=self.any("site")[0], gear=self.normal(size=6))
        place = {key: name[0] for key in ("joint", "tendon", "ball") if (name := self.any(key))}
        if not place:
            return ""
        where = self.choose(*place)
        words = {where if where != "ball" else "joint": place[where]}
        words["gear"] = self.normal(size=3) if where == "ball" else self.maybe(0.4, self.number(0.5, 2))
        if kind == "muscle":
            return element("muscle", lengthrange="0.1 1.2", force=self.number(5, 40), **words)
        words |= {
            "forcerange": self.maybe(0.3, self.number((-5, 1), (-1, 5))),
            "ctrlrange": self.maybe(0.3, "-0.8 0.9"),
        }
        if kind == "general":
            words["dyntype"] = dynamics = self.choose("none", "integrator", "filter", "filterexact")
            if dynamics != "none":
                words |= {"dynprm": self.number(0.02, 0.2), "actrange": self.maybe(0.3, "-0.5 0.7")}
            words |= {"gaintype": self.choose("fixed", "affine"), "gainprm": self.normal(size=3, scale=2)}
            words |= {"biastype": self.choose("none", "affine"), "biasprm": self.number((-1, -5, -2), (1, 0, 0))}
        if kind == "position":
            words |= {"kp": self.number(1, 50), "kv": self.maybe(0.5, self.number(0, 3))}
            words |= {"timeconst": self.maybe(0.3, self.number(0.01, 0.1))}
        if kind == "velocity":
            words |= {"kv": self.number(0.1, 5)}
        if kind == "intvelocity":
            words |= {"kp": self.number(1, 50), "actrange": "-0.5 0.6"}
        # one site is too few for a crank
        return element("motor" if kind == "crank" else kind, **words)

    def equality(self) -> str:
        kind, solver = self.choose(*EQUALITIES), self.solver()
        if kind == "joint" and (pair := self.any("joint", 2)):
            curve = [*self.normal(size=3) * (0.1, 1, 0.3), 0, 0]
            return element("joint", **dict(zip(("joint1", "joint2"), pair)), polycoef=curve, **solver)
        if kind == "locked joint" and (joint := self.any("joint")):
            return element("joint", joint1=joint[0], polycoef=[self.normal(scale=0.1), 0, 0, 0, 0], **solver)
        if kind == "tendon" and (tendon := self.any("tendon")):
            return element("tendon", tendon1=tendon[0], polycoef=[self.number(0, 0.05), 0, 0, 0, 0], **solver)
        if kind.endswith("sites") and (pair := self.any("site", 2)):
            return element(kind.split()[0], **dict(zip(("site1", "site2"), pair)), **solver)
        if kind in ("connect", "weld"):
            body, *other = self.any("body", 2) or self.any("body")
            anchor = {"anchor": self.normal(size=3, scale=0.1)} if kind == "connect" else {}
            return element(kind, body1=body, body2=other[0] if other else None, **anchor, **solver)
        return ""
