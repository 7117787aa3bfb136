import dataclasses

import pytest
from toy import Line

from shac.errors import UserError
from shac.runs.config import Config, parse_assignments, read_yaml, resolve, to_yaml


class Preset(Line):
    presets = {"shac": {"horizon": 16, "actor_lr": 0.5}, "bptt": {"horizon": 99}}


def test_later_layers_win_over_the_preset_and_the_preset_over_the_defaults():
    config = resolve(Preset(), "shac", {"actor_lr": 0.25, "num_envs": 3}, {"num_envs": 4})
    assert (config.horizon, config.actor_lr, config.num_envs) == (16, 0.25, 4)
    assert config.gamma == Config().gamma
    assert resolve(Preset(), "bptt").horizon == 99
    assert resolve(Preset(), "bptt").algo == "bptt"


def test_texts_are_read_as_their_fields_types():
    settings = parse_assignments(
        [
            "actor-units=64,32",
            "actor_lr=1e-3",
            "normalize_obs=false",
            "num_envs=8",
            "device=none",
            "adam_betas=[0.9, 0.99]",
        ]
    )
    assert settings == {
        "actor_units": (64, 32),
        "actor_lr": 1e-3,
        "normalize_obs": False,
        "num_envs": 8,
        "device": None,
        "adam_betas": (0.9, 0.99),
    }


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("horizn=3", "no setting 'horizn'; did you mean horizon?"),
        ("horizon", "takes name=value, got 'horizon'"),
        ("horizon=3.5", "horizon takes a whole number, got '3.5'"),
        ("horizon=0", "horizon must be at least 1, got 0"),
        ("gamma=nan", "gamma must be between 0 and 1, got nan"),
        ("gamma=much", "gamma takes a number, got 'much'"),
        ("normalize_obs=1", "normalize_obs takes true or false, got '1'"),
        ("algo=ppo", "algo takes shac or bptt, got 'ppo'"),
        ("adam_betas=0.9", "adam_betas takes a list of 2 numbers"),
        ("critic_batches=64", "critic_batches must be at most horizon = 16, got 64"),
        ("actor_units=8,x", "actor_units takes a list of whole numbers, such as 1,2, got '8,x'"),
    ],
)
def test_a_bad_setting_gives_one_clear_error(assignment, message):
    with pytest.raises(UserError) as error:
        resolve(Preset(), "shac", parse_assignments([assignment]))
    assert message in str(error.value)


def test_yaml_holds_every_setting(tmp_path):
    config = resolve(Preset(), "bptt", {"model": "x", "seed": 7, "actor_units": (5, 6), "device": "cpu", "gamma": 0.5})
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    assert Config(**read_yaml(path)) == config
    assert set(read_yaml(path)) == {field.name for field in dataclasses.fields(Config)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("horizn: 3", "no setting 'horizn'; did you mean horizon?"),
        ("- 1", "must hold `name: value` lines"),
        ("a: [", "is not YAML"),
        ("num_envs: true", "num_envs takes a whole number, got True"),
        ("num_envs: 2.5", "num_envs takes a whole number, got 2.5"),
    ],
)
def test_a_bad_yaml_file_is_named(tmp_path, content, message):
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        read_yaml(path)
    assert str(path) in str(error.value) and message in str(error.value)


def test_yaml_reads_exponents_without_a_point(tmp_path):
    # YAML 1.1 takes 1e-3 for a text.
    path = tmp_path / "config.yaml"
    path.write_text("actor_lr: 1e-3\nactor_units: [64, 64]\n")
    assert read_yaml(path) == {"actor_lr": 1e-3, "actor_units": (64, 64)}
