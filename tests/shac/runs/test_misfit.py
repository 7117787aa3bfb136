"""Checkpoints of strangers: whatever one holds, it is taken whole or refused by name before anything is computed."""

import copy

import pytest
import torch
from toy import Line

from shac.algos.shac import SHAC
from shac.errors import UserError
from shac.runs import checkpoint
from shac.runs.config import Config
from shac.runs.logger import Logger
from shac.runs.misfit import refusing_misfits, require_learner
from shac.runs.runner import Run

SMALL = {"num_envs": 2, "horizon": 4, "max_epochs": 3, "actor_units": (4,), "critic_units": (3,), "critic_batches": 2}


def learner(**settings) -> SHAC:
    shac = SHAC(Line(), Config(**{**SMALL, **settings}))
    shac.train_epoch()
    return shac


def leaves(content, path=()):
    """Paths of all that a nested content holds, dicts and their entries alike."""
    for key, value in content.items():
        # torch's own hyperparameters, which are not taken
        if key != "param_groups":
            yield (*path, key)
            if isinstance(value, dict):
                yield from leaves(value, (*path, key))


def changed(content, path, change):
    """A copy in which `change(dict, key)` was done to the entry at a path."""
    content = copy.deepcopy(content)
    entry = content
    for key in path[:-1]:
        entry = entry[key]
    change(entry, path[-1])
    return content


@pytest.mark.parametrize("settings", [{}, {"actor_optimizer": "muon"}, {"algo": "bptt"}, {"actor": "deterministic"}])
def test_a_sound_state_is_taken_and_one_that_lacks_anything_or_has_another_kind_is_refused(settings):
    """Seen: tracebacks, and fused optimisers that wrote beyond their memory."""
    shac = learner(**settings)
    state = shac.state_dict()
    require_learner(state, shac)
    changes = [
        lambda entry, key: entry.pop(key),
        lambda entry, key: entry.update({key: "x"}),
        lambda entry, key: entry.update({key: None}),
        lambda entry, key: entry.update({key: torch.zeros(7)}),
        lambda entry, key: entry.update({key: {}}),
        lambda entry, key: entry.update({key: True}),
        lambda entry, key: entry.update({key: ["x"]}),
    ]
    found = list(leaves(state))
    assert len(found) > 30
    for path in found:
        # a parameter that has had no gradient has no moments
        whole = path[1:2] == ("state",) and len(path) == 3
        empty = path[1:] == ("state",)
        for number, change in enumerate(changes):
            if (whole and number == 0) or (empty and number == 4):
                continue
            with pytest.raises(ValueError) as error:
                require_learner(changed(state, path, change), shac)
            assert ".".join(map(str, path[:-1])) in str(error.value), (path, number)


def test_hyperparameters_are_the_settings_and_not_the_files():
    shac, other = learner(), learner()
    state = copy.deepcopy(shac.state_dict())
    state["actor_optimizer"]["param_groups"] = "nonsense"
    other.load_state_dict(state)
    shac.train_epoch(), other.train_epoch()
    assert all(torch.equal(a, b) for a, b in zip(shac.actor.parameters(), other.actor.parameters(), strict=True))


@pytest.mark.parametrize("field", ["seconds", "return_best", "learner"])
def test_a_run_names_what_does_not_fit(tmp_path, monkeypatch, field):
    monkeypatch.setattr("shac.runs.runner.load_task", lambda model, settings: Line())
    run = Run(Config(**SMALL), tmp_path)
    run.save()
    state = checkpoint.load(checkpoint.path_of(tmp_path, "last"))
    run.load(state)
    with pytest.raises(UserError, match=f"it does not fit: {field} .*'x'"), refusing_misfits("it does not fit"):
        run.load({**state, field: "x"})
    with pytest.raises(UserError, match="it does not fit: cpu_seconds .*'y'"), refusing_misfits("it does not fit"):
        run.load({**state, "cpu_seconds": "y"})
    with pytest.raises(UserError, match=f"it does not fit: '{field}'"), refusing_misfits("it does not fit"):
        run.load({key: value for key, value in state.items() if key != field})


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a,b\n1,2\n", b"epoch,steps\nx,2\n", b"epoch\n\x00\n"])
def test_damaged_metrics_are_named_with_a_cure(tmp_path, content):
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"metrics.csv is damaged \(.*\): move it away"):
        Logger(tmp_path, 3, epoch=1, quiet=True)
    assert (tmp_path / "metrics.csv").read_bytes() == content
