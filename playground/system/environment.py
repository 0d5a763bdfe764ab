"""What a comparison ran on: processor, cores, memory limit, versions of what matters, commit of this checkout.

It knows the machine; it does not know models.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

from playground import __version__
from playground.config.settings import ROOT, usable_cores
from playground.records import Environment
from playground.system import memory

PACKAGES = ("onnxruntime", "onnxruntime-genai", "transformers", "tokenizers", "torch", "optimum", "numpy", "gradio")


@cache
def environment() -> Environment:
    """Read once: nothing of it changes while the process lives."""
    return Environment(
        cpu=cpu_name(),
        cores=usable_cores(),
        cores_affinity=affinity_cores(),
        cores_cgroup=cgroup_cores(),
        memory_limit_mb=memory.limit_mb(),
        versions=_versions(),
        commit=commit(ROOT),
    )


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


def commit(checkout: Path) -> str | None:
    """The commit checked out in ``checkout``; None if it is no repository of its own, or there is no git."""
    if not (checkout / ".git").exists():
        return None
    return _output("git", "-C", str(checkout), "rev-parse", "HEAD")


def _versions() -> dict[str, str]:
    found = {"playground": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
