"""The processor: its name, and how many cores this process may use of it."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

from playground.system import cgroups


def usable_cores() -> int:
    """Cores this process may use: CPU affinity, cut to whole cores by the quota of any control group above it.

    Of a quota of 1.5 cores one is used: two threads would be stopped in the middle of their common steps.
    """
    try:
        available = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has no affinity call
        available = os.cpu_count() or 1
    quota = cgroups.cores()
    return max(1, available if quota is None else min(available, int(quota)))


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as it gives it itself, else its architecture."""
    try:
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model", "Hardware") and value.strip():
                return value.strip()
    except OSError:
        pass
    if platform.system() == "Darwin":
        brand = _output("sysctl", "-n", "machdep.cpu.brand_string")
        if brand:
            return brand
    return platform.processor() or platform.machine()


def affinity_cores() -> int | None:
    """Cores the scheduler may put this process on; all of them where the system has no affinity."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count()


def cgroup_cores(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """The tightest CPU quota of the control groups above this process, in cores; None where none is set."""
    return min(_quotas(root, membership), default=None)


def _quotas(root: Path, membership: Path) -> Iterator[float]:
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, names = root, ["cpu.max"]
        elif "cpu" in controllers.split(","):
            top, names = root / "cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        folder = top / path.lstrip("/")
        for place in (folder, *folder.parents):
            try:
                quota, period = " ".join((place / name).read_text() for name in names).split()
                if quota not in ("max", "-1"):
                    yield int(quota) / int(period)
            except (OSError, ValueError, ZeroDivisionError):
                pass
            if place == top:
                break


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
