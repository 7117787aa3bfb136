"""Untrusted and clumsy files: a model or a `ModelError`, in bounded time and memory, and nothing else."""

import subprocess
import sys
from pathlib import Path

import mutants
import numpy as np
import pytest
from snippets import mjcf_text

import taichi_sim as ts

# Seconds of a process that reads what may never end, and the memory [bytes] that it may take.
PATIENCE, MEMORY = 120, 8 << 30
BATCH = 200


@pytest.mark.parametrize("first", [0, BATCH])
def test_mutants_become_a_model_or_a_model_error(first):
    """In a process of its own: a crash or a hang of MuJoCo's would name the mutant that it began with."""
    command = [sys.executable, mutants.__file__, str(first), str(first + BATCH)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert process.returncode == 0, process.stdout[-200:] + process.stderr[-2000:]
    assert len(process.stdout.splitlines()) == BATCH
    assert [line for line in process.stdout.splitlines() if line.split(" ", 1)[1]] == []


BOMB = """<!DOCTYPE m [<!ENTITY a "aaaaaaaaaa">{}]><mujoco model="&j;"><worldbody/></mujoco>""".format(
    "".join(f'<!ENTITY {b} "{10 * f"&{a};"}">' for a, b in zip("abcdefghi", "bcdefghij", strict=True))
)
STRANGER = """<!DOCTYPE m [<!ENTITY x SYSTEM "file:///etc/passwd">]><mujoco model="&x;"><worldbody/></mujoco>"""


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs Linux")
@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        STRANGER,
        '<mujoco><include file="/dev/zero"/></mujoco>',
        '<mujoco><include file="/etc/passwd"/></mujoco>',
        '<mujoco><include file="it.xml"/></mujoco>',
        '<mujoco><asset><mesh name="m" file="/etc/passwd"/></asset><worldbody><geom type="mesh" mesh="m"/></worldbody>'
        "</mujoco>",
        '<mujoco><worldbody><replicate count="1000000000"><geom size="1"/></replicate></worldbody></mujoco>',
        '<mujoco><asset><hfield name="h" nrow="100000" ncol="100000" size="1 1 1 1"/></asset></mujoco>',
    ],
    ids=["bomb", "entity", "endless include", "include", "itself", "mesh", "copies", "cells"],
)
def test_attacks_are_refused_or_harmless(tmp_path, text):
    (tmp_path / "it.xml").write_text(text)
    program = f"""
import resource, sys, taichi_sim as ts
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))
try:
    print(ts.load({str(tmp_path / "it.xml")!r}).names)
except ts.ModelError as error:
    print(error)
"""
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE)
    assert process.returncode == 0, process.stderr
    assert "root:" not in process.stdout and "aaaaaaaaaaaa" not in process.stdout
    assert len(process.stdout.splitlines()) <= 3


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (mjcf_text().encode().replace(b'"fist"', b'"f\xe4ust"'), None),
        (b'<?xml version="1.0" encoding="ISO-8859-1"?>' + mjcf_text().encode().replace(b'"fist"', b'"f\xe4ust"'), None),
        (b"\xef\xbb\xbf" + mjcf_text().encode(), None),
        (mjcf_text().encode("utf-16"), "not UTF-8"),
        (np.random.default_rng(0).bytes(1000), "not"),
        (b"", "not"),
        (b"<mujoco", "not"),
    ],
    ids=["latin-1", "latin-1 declared", "bom", "utf-16", "garbage", "empty", "cut"],
)
def test_encodings(tmp_path, data, words):
    """What MuJoCo reads is read; all else gets one line."""
    path = tmp_path / "it.xml"
    path.write_bytes(data)
    if words is None:
        assert ts.load(path).nv == 1
    else:
        with pytest.raises(ts.ModelError, match=words) as error:
            ts.load(path)
        assert str(error.value).isprintable() and "it.xml" in str(error.value)


def test_names_do_not_reach_a_terminal_as_control_sequences(tmp_path):
    path = tmp_path / "it.xml"
    path.write_bytes(
        mjcf_text(joint='limited="true" range="-.1 .1" margin=".2"').encode().replace(b'"elbow"', b'"\xc2\x9b31m"')
    )
    with pytest.raises(ts.ModelError) as error:
        ts.load(path)
    assert str(error.value).replace("\n", "").isprintable() and "x9b31m" in str(error.value)


@pytest.mark.parametrize("data", ["1e9", "1e300", "nan", "0", "-1", "1.5"])
def test_absurd_substeps(tmp_path, data):
    path = tmp_path / "it.xml"
    path.write_text(mjcf_text(rest=f'<custom><numeric name="substeps" data="{data}"/></custom>'))
    with pytest.raises(ts.ModelError, match="substeps"):
        ts.load(path)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"joint": 'damping="1e300"'}, "damping"),
        ({"joint": 'range="0 1" stiffness="nan"'}, "stiffness"),
        ({"option": 'gravity="0 0 inf"'}, "gravity"),
        ({"option": 'timestep="1e300"'}, "timestep"),
        ({"inside": '<geom size="1e300"/>'}, "mass"),
        ({"body": 'pos="nan 0 0"'}, "nan"),
    ],
)
def test_numbers_that_no_model_can_mean(tmp_path, where, words):
    """Seen: 115 of 6,500 mutants ended in LinAlgError, where one of these reached the mass matrix."""
    path = tmp_path / "it.xml"
    path.write_text(mjcf_text(**where))
    with pytest.raises(ts.ModelError, match=words):
        ts.load(path)


def test_a_model_of_an_older_release():
    model = ts.load(Path(__file__).parents[2] / "old" / "cartpole.npz")
    assert model.names["joint"] == ts.load("cartpole").names["joint"] and model.opt.coriolis is False


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("body_parentid", np.array([0, 2, 1], np.int32), "body_parentid"),
        ("body_parentid", np.array([0, 0, 99], np.int32), "body_parentid"),
        ("qpos0", np.zeros(7), "qpos0"),
        ("body_mass", np.array([0.0, np.nan, 1.0]), "mass"),
        ("jnt_type", np.array([99, 3], np.int32), "jnt_type"),
    ],
)
def test_damaged_arrays(tmp_path, field, value, words):
    """A saved model whose indices point nowhere, or in a circle."""
    ts.save(ts.load("cartpole"), tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as file:
        entries = dict(file)
    np.savez(tmp_path / "bad.npz", **{**entries, field: value})
    with pytest.raises(ts.ModelError, match=words):
        ts.load(tmp_path / "bad.npz")


@pytest.mark.parametrize("cut", [0, 100, 5000])
def test_truncated_arrays(tmp_path, cut):
    ts.save(ts.load("cartpole"), tmp_path / "good.npz")
    (tmp_path / "bad.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:cut])
    with pytest.raises(ts.ModelError, match="bad.npz"):
        ts.load(tmp_path / "bad.npz")
