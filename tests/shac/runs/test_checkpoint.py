import os
import pickle
from pathlib import Path

import pytest
import torch

from shac.errors import UserError
from shac.runs import checkpoint

STATE = {"weights": torch.arange(1000.0), "numbers": [1, 2.5, None], "name": "x"}


def test_a_checkpoint_reads_back(tmp_path):
    checkpoint.save(tmp_path / "new" / "a.pt", STATE)
    loaded = checkpoint.load(tmp_path / "new" / "a.pt")
    assert torch.equal(loaded["weights"], STATE["weights"])
    assert (loaded["numbers"], loaded["name"]) == (STATE["numbers"], STATE["name"])


def test_a_failure_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    checkpoint.save(path, STATE)

    def full_disk(state, file):
        file.write(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(path, {"weights": torch.zeros(3)})
    assert torch.equal(checkpoint.load(path)["weights"], STATE["weights"])


def test_the_file_is_on_disk_before_its_name_is(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    checkpoint.save(tmp_path / "a.pt", STATE)
    assert calls[:2] == ["fsync", "replace"]


def truncate(content):
    return content[: len(content) // 2]


def flip_a_bit_of_a_tensor(content):
    at = content.index(torch.arange(1000.0).numpy().tobytes()[400:800])
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def empty(content):
    return b""


def text(content):
    return b"not a checkpoint at all\n" * 100


@pytest.mark.parametrize("damage", [truncate, flip_a_bit_of_a_tensor, empty, text])
def test_a_damaged_file_is_recognised(tmp_path, damage):
    path = tmp_path / "a.pt"
    checkpoint.save(path, STATE)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="damaged or not a checkpoint"):
        checkpoint.load(path)


class Attack:
    def __reduce__(self):
        return os.mkdir, ("attacked",)


@pytest.mark.parametrize(
    "write", [lambda state, path: torch.save(state, path), lambda s, p: p.write_bytes(pickle.dumps(s))]
)
def test_code_in_a_file_is_not_run(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    write({"format": 1, "weights": Attack()}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="damaged or not a checkpoint"):
        checkpoint.load(tmp_path / "a.pt")
    assert not (tmp_path / "attacked").exists()


def test_other_files_and_formats_are_named(tmp_path):
    with pytest.raises(UserError, match=r"there is no checkpoint .*a\.pt"):
        checkpoint.load(tmp_path / "a.pt")
    torch.save({"format": 2}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="not a checkpoint of format 1 .found 2"):
        checkpoint.load(tmp_path / "a.pt")


def test_a_policy_may_be_played_with_other_settings_of_its_task():
    run = Path(__file__).resolve().parents[3] / "docs/figures/policies/walk_mtu-shac-speeds"
    task, _, config = checkpoint.load_run(run, "best", {"slowest": "0.9", "fastest": 1.1})
    assert (task.slowest, task.fastest, config.task["fastest"]) == (0.9, 1.1, 1.8)
    with pytest.raises(UserError, match="has no setting 'quickest'"):
        checkpoint.load_run(run, "best", {"quickest": "2"})
    # what it sees is another thing then
    with pytest.raises(UserError, match="does not fit the model walk_mtu or its settings"):
        checkpoint.load_run(run, "best", {"reference": "person"})


def test_a_ppo_run_from_before_values_had_layers_of_their_own_is_read_as_it_was(tmp_path):
    (tmp_path / "config.yaml").write_text("model: cartpole\nalgo: ppo\n")
    assert checkpoint.read_config(tmp_path).shared_value
    (tmp_path / "config.yaml").write_text("model: cartpole\nalgo: ppo\nshared_value: false\n")
    assert not checkpoint.read_config(tmp_path).shared_value


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(UserError, match="there is no run folder"):
        checkpoint.load_run(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is not a run folder: it has no config.yaml"):
        checkpoint.load_run(tmp_path)
