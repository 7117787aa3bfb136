"""The models that `--model` takes: each module holds one `Task`, with everything that belongs to it alone.

Installed as `shac.models`. The models of a folder bear its name: gym/ant.py is gym_ant.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from shac import typed
from shac.check_task import check_attributes, failed
from shac.errors import UserError, nearest
from shac.task import Task


def names() -> list[str]:
    """Names of the built-in models: the modules here, but for those, with a leading underscore, that they share."""
    return sorted(_modules())


def load_task(name: str, settings: Mapping[str, Any] | None = None) -> Task:
    """The task of a built-in model, or of a Python file that defines one.

    Args:
      name: one of `names()`, or the path of a file that ends in .py and defines exactly one `Task`.
      settings: those of the task's own that differ from their defaults.

    Raises:
      UserError: there is no such model or file, the file fails to run, it does not define exactly one task, whose
        attributes are as `Task` says, or the task does not take such settings.
    """
    return make_task(task_class(name), settings or {})


def task_class(name: str) -> type[Task]:
    """The class of `load_task`'s task; raises what that does."""
    if name.endswith(".py"):
        return _only_task(_run_file(Path(name).expanduser().resolve()))
    if name not in names():
        raise UserError(f"no model is called {name!r}; {nearest(name, names())} (or give the path of a .py file)")
    return _only_task(importlib.import_module(_modules()[name]))


def make_task(task: type[Task], settings: Mapping[str, Any]) -> Task:
    """A task of this class with these settings, each as `--set` or a run's config.yaml gives it.

    Raises:
      UserError: it does not take them, or its attributes are not as `Task` says.
    """
    kinds = task.kinds()
    typed.require_known(settings, kinds, f"{task.__name__} has")
    values = typed.converted(settings, kinds)
    # not the constructor's, unless the class has a field of this name
    history = None if "history" in typed.fields(task) else values.pop("history", None)
    try:
        made = task(**values)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{task.__name__}: {error}") from error
    except Exception as error:
        raise failed(f"{task.__name__}() failed", error, task.__init__) from error
    if history is not None:
        made.history = history
    check_attributes(made)
    return made


def _modules() -> dict[str, str]:
    """The module of each model."""
    found = {}
    for module in pkgutil.walk_packages(__path__, prefix=f"{__name__}."):
        *folders, own = module.name.removeprefix(f"{__name__}.").split(".")
        if not module.ispkg and not own.startswith("_"):
            found["_".join((*folders, own))] = module.name
    return found


def _run_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    # Two users' files of the same name must not become one module.
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"shac_user_model_{path.stem}_{digest}", path)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickling look a class's module up there.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise failed(f"{path.name} cannot be run", error, str(path)) from error
    return module


def _only_task(module: ModuleType) -> type[Task]:
    tasks = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Task) and value.__module__ == module.__name__
    ]
    if len(tasks) != 1:
        found = ", ".join(task.__name__ for task in tasks) or "none"
        raise UserError(f"{module.__file__} must define exactly one subclass of shac.Task, but has: {found}")
    (task,) = tasks
    missing = [field for field in ("asset", "episode_length", "num_obs", "num_actions") if not hasattr(task, field)]
    missing += sorted(task.__abstractmethods__)
    if missing:
        raise UserError(f"{module.__file__}: task {task.__name__} does not define {', '.join(missing)}")
    return task
