"""The processor: its name, and how many cores this process may use of it."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from playground.system import cgroups
from playground.system.child_environment import passed


def usable_cores() -> int:
    """Cores this process may use: CPU affinity, and at most the quota of any control group above it, rounded.

    Of a quota of 1.5 cores two are used: they decode 1.4 × as fast as one although they are stopped now and then.
    """
    available = affinity_cores() or 1
    quota = cgroups.cores()
    return max(1, available if quota is None else min(available, int(quota + 0.5)))


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
        brand = command_output("sysctl", "-n", "machdep.cpu.brand_string")
        if brand:
            return brand
    return platform.processor() or platform.machine()


def affinity_cores() -> int | None:
    """Cores the scheduler may put this process on; all of them where the system has no affinity."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has no affinity call
        return os.cpu_count()


def command_output(*command: str) -> str | None:
    """What a short command prints, without spaces around it; None where it fails or says nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True, env=passed())
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
