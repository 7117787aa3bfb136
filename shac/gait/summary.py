"""From a recording to a gait: mean courses of a stride, their spreads, and figures of the whole."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

import taichi_sim as ts
from shac.errors import UserError
from shac.gait import normal, strides
from shac.gait.legs import JOINTS
from shac.gait.record import Recording

# What is before this is how episodes begin, not how the policy walks [s].
BEGINNING = 2.0
ANGLES = ("hip_flexion", "knee_flexion", "ankle_dorsiflexion")
MOMENTS, POWERS = (tuple(f"{joint}_{kind}" for joint in JOINTS) for kind in ("moment", "power"))
REACTIONS = ("vertical_force", "forward_force")
UNITS = {**dict.fromkeys(ANGLES, "deg"), **dict.fromkeys(MOMENTS, "N m/kg"), **dict.fromkeys(POWERS, "W/kg")}
UNITS |= dict.fromkeys(REACTIONS, "body weights")


@dataclasses.dataclass
class Gait:
    """How a policy walks; the legs are right and left.

    | field | meaning | shape |
    |---|---|---|
    | mean, std | courses of a stride by name, and their spread between strides | name -> (2, 101) |
    | units | of the courses | name -> text |
    | groups | names of the courses of muscles' activations | list |
    | legs | figures of single legs by name, see `_of_leg` | name -> (2,) |
    | whole | figures of the whole by name, see `_of_whole` | name -> number |
    | comparison | with the measured course: correlation and rms difference | name -> (2, 2) by leg |
    """

    mean: dict[str, np.ndarray]
    std: dict[str, np.ndarray]
    units: dict[str, str]
    groups: list[str]
    legs: dict[str, np.ndarray]
    whole: dict[str, float]
    comparison: dict[str, np.ndarray]


def summarise(recording: Recording) -> Gait:
    """The gait of a recording. What is of a leg without strides is nan.

    Raises:
      UserError: there are no strides of either leg.
    """
    first = round(BEGINNING / recording.timestep)
    found = strides.find(recording.reactions[..., 2], recording.alive, first, recording.timestep)
    if not found:
        raise UserError(
            f"there are no strides in {recording.alive.shape[1]} episodes of at most "
            f"{len(recording.alive) * recording.timestep:.3g} s ({int(recording.fallen.sum())} fall), the first "
            f"{BEGINNING:g} s left out; look at it with shac-render, or try more --seconds or --episodes"
        )
    by_leg = [[stride for stride in found if stride.leg == leg] for leg in range(2)]
    names = [*UNITS, *recording.legs.groups]
    # (strides, courses, 101) of each leg
    cut = [
        [_courses(recording, stride) for stride in own] or [np.full((len(names), strides.POINTS), np.nan)]
        for own in by_leg
    ]
    mean, std = (dict(zip(names, np.stack([f(own, axis=0) for own in cut], axis=1))) for f in (np.mean, np.std))
    legs = _of_leg(recording, by_leg, mean)
    comparison = {
        name: np.array([normal.compare(name, course) for course in mean[name]])
        for name in names
        if name in normal.curves()
    }
    whole = _of_whole(recording, first, found, legs, mean)
    units = UNITS | dict.fromkeys(recording.legs.groups, "0 to 1")
    return Gait(mean, std, units, recording.legs.groups, legs, whole, comparison)


def _courses(recording: Recording, stride: strides.Stride) -> np.ndarray:
    """All courses of a stride, in the order of `UNITS` and the groups, (courses, 101)."""
    values = [strides.resampled(x, stride) for x in (recording.angles, recording.moments, recording.powers)]
    force = strides.resampled(recording.reactions, stride)
    forward = _displacement(recording, stride)
    forward = forward / max(float(np.linalg.norm(forward)), 1e-9)
    columns = [*np.concatenate(values, axis=1).T, force[:, 2], force[:, :2] @ forward]
    return np.stack([*columns, *strides.resampled(recording.activations, stride).T])


def _displacement(recording: Recording, stride: strides.Stride) -> np.ndarray:
    """How far the pelvis comes with a stride [m], (2,)."""
    track, times = recording.pelvis[:, stride.world, :2], np.arange(len(recording.pelvis))
    begin, end = ([np.interp(time, times, x) for x in track.T] for time in (stride.start, stride.end))
    return np.subtract(end, begin)


def _of_leg(recording: Recording, by_leg: list[list[strides.Stride]], mean: dict) -> dict[str, np.ndarray]:
    """strides; means of stride_time [s], stride_length [m], stance_share [%]; ranges of angles [deg]; peak_force."""
    figures = {}

    def add(name, of_stride):
        figures[name] = np.array([np.mean([of_stride(s) for s in own]) if own else np.nan for own in by_leg])

    figures["strides"] = np.array([len(own) for own in by_leg], float)
    add("stride_time", lambda s: (s.end - s.start) * recording.timestep)
    add("stride_length", lambda s: np.linalg.norm(_displacement(recording, s)))
    add("stance_share", lambda s: 100 * (s.off - s.start) / (s.end - s.start))
    for joint, name in zip(JOINTS, ANGLES):
        figures[f"{joint}_range"] = np.ptp(mean[name], axis=1)
    figures["peak_force"] = mean["vertical_force"].max(axis=1)
    return figures


def _of_whole(recording, first: int, found: list[strides.Stride], legs: dict, mean: dict) -> dict[str, float]:
    """Figures of the whole: those of `_of_leg` as means of both legs, and

    | name | meaning |
    |---|---|
    | episodes, fallen | how many, and how many of them failed |
    | speed | mean over strides [m/s] |
    | cadence | steps per minute |
    | double_support | how much more than once the feet stand in a stride; negative: flight [%] |
    | cost_of_transport | metabolic energy, the basal one included [J/kg/m]; nan without muscles |
    | mechanical_cost | positive work of the actuators [J/kg/m] |
    | asymmetry | of strides' time, length and stance share: difference of the legs over their mean, the largest [%] |
    | NAME_r, NAME_rms | of the legs' mean course beside the measured one: correlation, rms difference |
    """
    whole = {"episodes": float(len(recording.fallen)), "fallen": float(recording.fallen.sum())}
    times = [(s.end - s.start) * recording.timestep for s in found]
    whole["speed"] = float(np.mean([np.linalg.norm(_displacement(recording, s)) / t for s, t in zip(found, times)]))
    whole["cadence"] = 60 * float(np.nansum(1 / legs["stride_time"]))
    whole |= {name: float(np.nanmean(values)) for name, values in legs.items() if name != "strides"}
    whole["double_support"] = float(np.nansum(legs["stance_share"])) - 100
    alive, pelvis = recording.alive[first:], recording.pelvis[first:]
    last = np.maximum(alive.sum(0) - 1, 0)
    distance = np.linalg.norm(pelvis[last, np.arange(alive.shape[1]), :2] - pelvis[0, :, :2], axis=1).sum()
    for name, power in (("cost_of_transport", recording.metabolic), ("mechanical_cost", recording.mechanical)):
        total = torch.tensor(np.where(alive, power[first:], 0.0).sum(1, keepdims=True))
        cost = ts.cost_of_transport(total, recording.timestep, 1.0, torch.tensor([distance]))
        whole[name] = float(cost)
    whole["asymmetry"] = max(asymmetry(legs[name]) for name in ("stride_time", "stride_length", "stance_share"))
    for name in normal.curves():
        if name in mean:
            whole[f"{name}_r"], whole[f"{name}_rms"] = normal.compare(name, np.nanmean(mean[name], axis=0))
    return whole


def asymmetry(values: np.ndarray) -> float:
    """Difference of the legs over their mean [%]; 200 where one of them has none."""
    first, second = np.nan_to_num(values)
    return 200 * float(abs(first - second) / max(abs(first + second), 1e-9))
