"""How much memory there is, so that what takes more is refused before it is asked for."""

from __future__ import annotations

import os
from pathlib import Path

# Limits of the control group that the process is in: version 2, version 1.
_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def available() -> float:
    """Memory [bytes] that the machine, or the process' container, has left; infinite where that is not to be known."""
    found = [float("inf")]
    info = Path("/proc/meminfo")
    if info.is_file():
        lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        if "MemAvailable" in lines:
            found.append(1024 * float(lines["MemAvailable"].split()[0]))
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    for limit, usage in _GROUPS:
        try:
            found.append(float(Path(limit).read_text()) - float(Path(usage).read_text()))
        except (OSError, ValueError):
            continue
    return min(found)


def require(size: float, what: str) -> None:
    """Raises a MemoryError if `size` bytes are more than there are; `what` takes them."""
    there_is = available()
    if size > there_is:
        raise MemoryError(f"{what} would take {_readable(size)} of memory, and there are {_readable(there_is)}")


def _readable(size: float) -> str:
    return f"{size / 2**30:,.1f} GB" if size >= 2**30 else f"{size / 2**20:,.1f} MB"
