"""The folder in which Taichi keeps compiled kernels: one that can be written, without a lock that nobody holds."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
import time
import warnings
from pathlib import Path

# Age [s] at which the lock of Taichi's kernel cache has no owner any more.
_LOCK_SECONDS = 300.0
_VARIABLE = "TI_OFFLINE_CACHE_FILE_PATH"


@contextlib.contextmanager
def usable(default: str):
    """While Taichi starts: another folder for this process alone if its kernel cache cannot be written.

    Taichi makes the folder when the program ends, cache or not, and crashes if it cannot.

    Args:
        default: where Taichi keeps it if the environment does not say.
    """
    folder, reason = Path(os.environ.get(_VARIABLE) or default).expanduser(), None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            reason = f"no permission to write to {folder}"
    except OSError as error:
        reason = str(error)
    if reason is None:
        _drop_stale_lock(folder)
        yield
        return
    warnings.warn(
        f"kernels are compiled anew in every process: Taichi's kernel cache cannot be used ({reason}); "
        f"the environment variable {_VARIABLE} names another folder",
        stacklevel=5,
    )
    theirs, ours = os.environ.get(_VARIABLE), tempfile.mkdtemp(prefix="taichi_sim")
    # handlers run last in, first out: this one after `_finish`
    atexit.register(shutil.rmtree, ours, ignore_errors=True)
    os.environ[_VARIABLE] = ours
    try:
        yield
    finally:
        os.environ.pop(_VARIABLE)
        if theirs is not None:
            os.environ[_VARIABLE] = theirs


def _drop_stale_lock(folder: Path) -> None:
    """Removes the kernel cache's lock if a process died with it.

    Taichi holds it for moments, at a process's beginning and end. Left behind, it turns the cache off for everybody.
    """
    lock = folder / "ticache.lock"
    # another process may remove it first, or the folder may be read-only
    with contextlib.suppress(OSError):
        if time.time() - lock.stat().st_mtime > _LOCK_SECONDS:
            lock.unlink()
