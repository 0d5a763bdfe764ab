"""What the control groups above this process allow it: processor time and memory, of cgroup v1, v2 and both mixed.

The one reader of them: threads, receipts, budgets and contention ask here. A limit of any group above holds for all
below it, so the least of them counts. Nothing is assumed of where a container
mounts its own group: walking up from the path in ``/proc/self/cgroup`` reaches it from anywhere. The files are those
of the kernel's documentation, ``admin-guide/cgroup-v2`` and ``admin-guide/cgroup-v1`` with ``scheduler/sched-bwc``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def memory_bytes(root: Path = ROOT, membership: Path = MEMBERSHIP) -> float | None:
    """The least memory limit above this process in bytes, None where there is none. v1 writes 2^63 or so for none."""
    return min(_read(root, membership, "memory", _memory_v2, _memory_v1), default=None)


def cores(root: Path = ROOT, membership: Path = MEMBERSHIP) -> float | None:
    """The least processor quota above this process, in cores' worth of time (1.5 is possible); None without one."""
    return min(_read(root, membership, "cpu", _cores_v2, _cores_v1), default=None)


def throttled_s(root: Path = ROOT, membership: Path = MEMBERSHIP) -> float:
    """How long the quota of a group above has kept this process's group from running, in seconds; 0 without a quota.

    Each group counts what its own quota did. Pauses of several may overlap, so the longest is told, not their sum.
    """
    return max(_read(root, membership, "cpu", _throttled_v2, _throttled_v1), default=0.0)


def _memory_v2(folder: Path) -> float | None:
    text = (folder / "memory.max").read_text().strip()
    return None if text == "max" else float(text)


def _memory_v1(folder: Path) -> float | None:
    return float((folder / "memory.limit_in_bytes").read_text())


def _cores_v2(folder: Path) -> float | None:
    quota, period = (folder / "cpu.max").read_text().split()
    return None if quota == "max" else float(quota) / float(period)


def _cores_v1(folder: Path) -> float | None:
    quota = float((folder / "cpu.cfs_quota_us").read_text())
    return None if quota <= 0 else quota / float((folder / "cpu.cfs_period_us").read_text())


def _throttled_v2(folder: Path) -> float | None:
    return _field(folder / "cpu.stat", "throttled_usec", 1e-6)


def _throttled_v1(folder: Path) -> float | None:
    return _field(folder / "cpu.stat", "throttled_time", 1e-9)


def _field(path: Path, name: str, unit: float) -> float | None:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return float(value) * unit
    return None


_Figure = Callable[[Path], float | None]


def _read(root: Path, membership: Path, controller: str, v2: _Figure, v1: _Figure) -> Iterator[float]:
    """Every figure of ``controller`` on the way from this process's groups to the top of each hierarchy."""
    for top, path, figure in _hierarchies(root, membership, controller, v2, v1):
        folder = top / path.lstrip("/")
        for place in (folder, *folder.parents):
            try:
                value = figure(place)
            except (OSError, ValueError, ZeroDivisionError):
                value = None
            if value is not None:
                yield value
            if place == top:
                break


def _hierarchies(
    root: Path, membership: Path, controller: str, v2: _Figure, v1: _Figure
) -> Iterator[tuple[Path, str, _Figure]]:
    """Where the groups of ``controller`` are mounted, this process's place in them, and who reads them."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, found, path = rest.partition(":")
        if not found:
            continue
        if number == "0" and not controllers:
            yield root, path, v2
            yield root / "unified", path, v2  # beside v1, systemd mounts v2 there
        elif controller in controllers.split(","):
            for top in _mounts(root, controller):
                yield top, path, v1


def _mounts(root: Path, controller: str) -> list[Path]:
    """v1 mounts several controllers together under names like ``cpu,cpuacct``, with links for each."""
    try:
        return sorted(folder for folder in root.iterdir() if controller in folder.name.split(","))
    except OSError:
        return []
