import pytest

from shac.figures import costs, grid
from shac.figures.catalog import FIGURES, runs_of
from shac.figures.figure import Budget, Run
from shac.figures.plan import settings_of
from shac.models import load_task
from shac.runs.config import ALGOS, resolve


@pytest.mark.parametrize("budget", Budget)
def test_every_training_has_one_meaning_and_settings_that_exist(budget):
    runs = {run.name: run for several in runs_of(list(FIGURES), budget).values() for run in several}
    assert len(runs) > 30
    for run in runs.values():
        assert run.name.startswith(f"{run.model}-{run.algo}-{run.seed}")
        if run.algo in ALGOS:
            settings_of(run)


def test_the_default_budget_has_the_seeds_and_times_that_it_promises():
    def seeds(runs):
        return [run.seed for run in runs]

    def limits(runs):
        return [run.settings["max_cpu_seconds"] for run in runs]

    budget = Budget.DEFAULT
    assert seeds(grid.trainings("ant", "shac", budget)) == [0, 1, 2, 3, 4]
    for algo in ("bptt", "ppo", "sac"):
        assert seeds(grid.trainings("ant", algo, budget)) == [0, 1, 2]
    ant, humanoid = grid.SHAC_SECONDS["ant"], grid.SHAC_SECONDS["humanoid"]
    assert limits(grid.trainings("ant", "ppo", budget)) == [ant] * 3
    assert limits(grid.trainings("humanoid", "sac", budget)) == [4 * humanoid, 4 * humanoid, humanoid]
    assert seeds(grid.long_runs("humanoid", "sac", budget)) == [0, 1]
    assert limits(grid.off_policy("hopper", "redq", budget)) == [2700, 2700]
    assert limits(grid.off_policy("humanoid", "mbpo", budget)) == [humanoid]


@pytest.mark.parametrize("model", grid.MODELS)
def test_shac_and_bptt_take_as_long_as_the_table_says(model):
    """Every algorithm gets at least SHAC's time, and no more than a fifth beyond."""
    shac = costs.of(grid.training(model, "shac", 0, Budget.DEFAULT)) - costs.START
    bptt = costs.of(grid.training(model, "bptt", 0, Budget.DEFAULT)) - costs.START
    assert 0.5 * grid.SHAC_SECONDS[model] < shac <= 1.2 * grid.SHAC_SECONDS[model]
    assert bptt >= shac / costs.FINISH


def test_the_paper_budget_has_five_seeds_and_limits_nothing():
    for run in (run for figure in FIGURES.values() for run in figure.runs(Budget.PAPER)):
        assert run.algo != "ppo" or "max_cpu_seconds" not in run.settings
        assert run.algo != "bptt" or "max_epochs" not in run.settings
    assert len(grid.published("ant", Budget.PAPER)) == len(grid.off_policy("humanoid", "redq", Budget.PAPER)) == 5


def test_the_quick_budget_fits_into_its_hour():
    runs = {run.name: run for several in runs_of(list(FIGURES), Budget.QUICK).values() for run in several}
    seconds, _ = costs.total(runs.values())
    # of two cores, with other figures' trainings and drawings beside
    assert seconds < 2700


def test_the_published_settings_are_the_papers():
    (run,) = grid.published("humanoid", Budget.QUICK)
    config = settings_of(run)
    assert (config.actor_optimizer, config.failure_gradient, config.actor_average) == ("adam", False, 1)
    assert (config.substeps, config.final_substeps, config.theta) == (48, None, 0.0)
    assert (config.actor_lr, config.critic_lr, config.target_alpha) == (2e-3, 5e-4, 0.995)
    for run in grid.published("humanoid_mtu", Budget.PAPER):
        assert (settings_of(run).max_epochs, settings_of(run).lr_schedule) == (2000, "linear")


def test_a_horizon_has_as_many_steps_an_epoch_as_the_preset():
    preset = resolve(load_task("ant"), "shac")
    steps = {horizon * worlds for horizon, worlds in grid.WORLDS_OF_HORIZON.items()}
    assert steps == {preset.horizon * preset.num_envs} and list(grid.WORLDS_OF_HORIZON) == [4, 8, 16, 32, 64, 128]


def test_trainings_of_one_name_share_snapshots_and_nothing_else_may_differ():
    plain, early = Run("a", "ant", "shac", 0, {"horizon": 4}), {"horizon": 4, "snapshots": (3, 1)}
    one, two = Run("a", "ant", "shac", 0, early), Run("a", "ant", "shac", 0, {**early, "snapshots": (2, 1)})
    for runs in ([plain, one, two], [two, one, plain]):
        assert grid.unite(runs) == {"a": Run("a", "ant", "shac", 0, {"horizon": 4, "snapshots": (1, 2, 3)})}
    assert grid.unite([plain]) == {"a": plain}
    with pytest.raises(ValueError, match="two trainings are called a"):
        grid.unite([plain, Run("a", "ant", "shac", 0, {"horizon": 8})])


def test_costs_are_limited_by_time_and_unknown_where_nothing_is_measured():
    known = Run("ant-shac-0", "ant", "shac", 0, {"max_epochs": 100})
    limited = Run("ant-x-0", "ant", "x", 0, {"max_cpu_seconds": 60.0})
    unknown = Run("ant-x-0-y", "ant", "x", 0, {"max_epochs": 5})
    expected = costs.START + costs.FINISH * 100 * costs.EPOCH_SECONDS["ant", "shac"]
    assert costs.of(known) == pytest.approx(expected)
    assert costs.of(limited) == costs.START + 60
    assert costs.of(Run("ant-shac-0", "ant", "shac", 0, {"max_cpu_seconds": 1.0})) == costs.START + 1
    assert costs.of(unknown) is None
    assert costs.in_words([limited]) == "about 1 core minutes"
    assert costs.in_words([limited, unknown]) == "about 1 core minutes and 1 of unknown cost"
