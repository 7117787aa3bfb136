"""Which of MuJoCo's sensors are read, and as what."""

from __future__ import annotations

import numpy as np

from taichi_sim.mjcf.unsupported import stages
from taichi_sim.types import CONTACT_DATA, OBJ_BODY, OBJ_GEOM, OBJ_SITE, OBJ_XBODY, SENSORS

# What a frame's sensor may be attached to, or read in.
_FRAMES = OBJ_BODY, OBJ_XBODY, OBJ_GEOM, OBJ_SITE


def types(m) -> np.ndarray:
    """`Model.sensor_type`; what is not read, as a sensor with a delay or of a camera's frame, has the type -1."""
    import mujoco

    names, known = [f"mjSENS_{name.upper()}" for name in SENSORS], mujoco.mjtSensor.__members__
    # older releases of MuJoCo have fewer
    kinds = {int(known[name]): k for k, name in enumerate(names) if name in known}
    kind = np.array([kinds.get(int(number), -1) for number in m.sensor_type], dtype=np.int32)
    # those of releases before 4 look at once
    late = getattr(m, "sensor_delay", np.zeros(m.nsensor)) > 0
    late = late | (getattr(m, "sensor_interval", np.zeros((m.nsensor, 2)))[:, 0] > 0)
    framed = np.isin(kind, [k for k, name in enumerate(SENSORS) if name.startswith("frame")])
    found = np.isin(m.sensor_objtype, _FRAMES) & ((m.sensor_refid < 0) | np.isin(m.sensor_reftype, _FRAMES))
    unknown = (kind == SENSORS.index("contact")) & (parameters(m)[:, 0] >= 2 ** len(CONTACT_DATA))
    held = np.isin(m.eq_type, [mujoco.mjtEq.mjEQ_CONNECT, mujoco.mjtEq.mjEQ_WELD]) & (m.eq_active0 > 0)
    held &= stages(m).equality
    # forces with which equalities hold bodies are not known
    between = np.isin(kind, [SENSORS.index("force"), SENSORS.index("torque")]) & held.any()
    kind[late | (framed & ~found) | unknown | between] = -1
    return kind


def parameters(m) -> np.ndarray:
    """`Model.sensor_intprm`, which older releases of MuJoCo do not have."""
    return np.array(getattr(m, "sensor_intprm", np.zeros((m.nsensor, 3))), np.int32).reshape(m.nsensor, 3)
