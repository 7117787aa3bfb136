import dataclasses
from typing import Literal

import pytest
from toy import Line

from shac.errors import UserError
from shac.models import make_task
from shac.runs.config import Config, assignments, parse, read_yaml, resolve, to_yaml


class Preset(Line):
    presets = {"shac": {"horizon": 16, "actor_lr": 0.5}, "bptt": {"horizon": 99}}


def test_later_layers_win_over_the_preset_and_the_preset_over_the_defaults():
    config = resolve(Preset(), "shac", {"actor_lr": 0.25, "num_envs": 3}, {"num_envs": 4})
    assert (config.horizon, config.actor_lr, config.num_envs) == (16, 0.25, 4)
    assert config.gamma == Config().gamma
    assert resolve(Preset(), "bptt").horizon == 99
    assert resolve(Preset(), "bptt").algo == "bptt"


def test_texts_are_read_as_their_fields_types():
    settings = parse(
        assignments(
            [
                "actor-units=64,32",
                "actor_lr=1e-3",
                "normalize_obs=false",
                "num_envs=8",
                "device=none",
                "adam_betas=[0.9, 0.99]",
            ]
        )
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
        ("algo=trpo", "algo takes shac or bptt or ppo or sac or redq or mbpo, got 'trpo'"),
        ("adam_betas=0.9", "adam_betas takes a list of 2 numbers"),
        ("critic_batches=64", "critic_batches must be at most horizon = 16, got 64"),
        ("actor_units=8,x", "actor_units takes a list of whole numbers, such as 1,2, got '8,x'"),
    ],
)
def test_a_bad_setting_gives_one_clear_error(assignment, message):
    with pytest.raises(UserError) as error:
        resolve(Preset(), "shac", parse(assignments([assignment])))
    assert message in str(error.value)


# What no setting takes, as the command line and a YAML file give it, but for these.
NONSENSE = ["", "much", "nan", "inf", "-inf", "-1", "0", "1.5", "1e400", str(10**30), "1,2,3", "none", "true"]
NONSENSE += [float("nan"), float("inf"), -1, 0, 1.5, 10**30, 10**400, True, None, [], {}, [1, 2, 3]]
COUNTS = ("num_envs", "horizon", "max_epochs", "actor_average", "critic_iterations", "critic_batches", "save_interval")
NONE, FRACTION, REAL = ["none", None], ["0", 0], ["1.5", 1.5]
GOOD = {
    **{name: [] for name in (*COUNTS, "threads")},
    "seed": ["0", 0, str(10**30), 10**30, 10**400],
    "substeps": NONE,
    "final_substeps": NONE,
    "gamma": FRACTION,
    "td_lambda": FRACTION,
    "target_alpha": FRACTION,
    "early_limits": FRACTION,
    "theta": NONE + FRACTION,
    **{name: [*NONE, *REAL, str(10**30), 10**30] for name in ("target_rampup", "max_cpu_seconds")},
    "final_lr": [*FRACTION, *REAL, str(10**30), 10**30],
    **{name: [*REAL, str(10**30), 10**30] for name in ("max_grad_norm", "actor_lr", "critic_lr")},
    "init_log_std": [*FRACTION, *REAL, "-1", -1],
    **{name: ["", [], {}, "1,2,3", [1, 2, 3]] for name in ("actor_units", "critic_units")},
    "snapshots": ["", [], {}, "1,2,3", [1, 2, 3], "0", str(10**30)],
    "adam_betas": [],
}


def same(one, two):
    return type(one) is type(two) and (one == two or one != one and two != two)


@pytest.mark.parametrize("name", GOOD)
def test_every_number_is_in_its_range_or_refused_by_name(name):
    """Seen: nan, infinities and 10^400 came through, or a traceback did."""
    for value in NONSENSE:
        if any(same(value, good) for good in GOOD[name]):
            resolve(Line(), "shac", {name: value})
            continue
        with pytest.raises(UserError, match=f"setting {name} (must be|takes) .*, got ") as error:
            resolve(Line(), "shac", {name: value})
        assert len(str(error.value).splitlines()) == 1, value


def test_every_setting_that_is_a_number_is_in_that_table():
    numbers = (int, float, tuple)
    found = {field.name for field in dataclasses.fields(Config) if isinstance(field.default, numbers)}
    found |= {"substeps", "final_substeps", "theta", "target_rampup", "max_cpu_seconds"}
    assert found - {"stochastic_init", "stagger", "normalize_obs", "failure_gradient", "symmetric"} == set(GOOD)


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


@dataclasses.dataclass
class Walk(Line):
    """A task with settings of its own."""

    speed: float = 1.25
    leg: Literal["left", "right"] = "left"
    range: tuple[float, float] | None = None

    def __post_init__(self):
        if self.speed < 0:
            raise ValueError(f"speed must be at least 0, got {self.speed}")


def test_a_tasks_settings_are_kept_with_the_runs(tmp_path):
    task = make_task(Walk, {"speed": "0.8", "range": "0.8,1.8"})
    assert (task.speed, task.leg, task.range) == (0.8, "left", (0.8, 1.8))
    config = resolve(task, "shac", {"num_envs": 2})
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    again = make_task(Walk, read_yaml(path)["task"])
    assert again == task and resolve(again, "shac", {"num_envs": 2}) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sped": 1}, "Walk has no setting 'sped'; did you mean speed?"),
        ({"speed": "fast"}, "setting speed takes a number, got 'fast'"),
        ({"speed": "-1"}, "Walk: speed must be at least 0, got -1.0"),
        ({"leg": "up"}, "setting leg takes left or right, got 'up'"),
        ({"range": "1"}, "setting range takes a list of 2 numbers, such as 1,2 or none, got '1'"),
    ],
)
def test_a_bad_setting_of_a_task_gives_one_clear_error(settings, message):
    with pytest.raises(UserError) as error:
        make_task(Walk, settings)
    assert str(error.value) == message


def test_a_tasks_setting_may_not_have_an_algorithms_name():
    clash = dataclasses.make_dataclass("Clash", [("gamma", float, 0.5)], bases=(Line,))
    with pytest.raises(UserError, match="Clash.gamma: algorithms have a setting of that name"):
        resolve(clash(), "ppo")
