"""Memory of a process and of the machine, in MB of 10^6 bytes.

Peak memory is resident memory (weights mapped from a file count once they were touched). The module reads what the
operating system counts; it does not know models, workers or budgets.
"""

from __future__ import annotations

import ctypes
import mmap
import resource
import sys
from pathlib import Path

import psutil

from playground.messages import Translatable, msg
from playground.system import cgroups

MB = 1_000_000
PROC_SELF = Path("/proc/self")


class PeakMeter:
    """The highest resident memory of this process since ``reset``.

    Linux keeps that figure as ``VmHWM`` and lets a process set it back (write 5 to ``clear_refs``, proc(5)). Where the
    kernel refuses, and on systems without /proc, the highest value since the process started is all there is;
    ``method`` says which of the two was read.
    """

    def __init__(self, proc: Path = PROC_SELF) -> None:
        self._proc = proc
        self._was_reset = False

    def reset(self) -> None:
        """Forget earlier peaks, where the system allows it."""
        try:
            (self._proc / "clear_refs").write_text("5")
            self._was_reset = True
        except OSError:
            self._was_reset = False

    def read(self) -> tuple[float, Translatable]:
        """The peak in MB, and the method in words."""
        try:
            peak = _status_bytes(self._proc / "status", "VmHWM") / MB
        except (OSError, ValueError):
            return _rusage_bytes() / MB, msg("ru_maxrss of the worker since it started")
        if self._was_reset:
            return peak, msg("VmHWM of the worker while it answered")
        return peak, msg("VmHWM of the worker since it started")


def give_back() -> None:
    """Give the system what was freed and is kept for more to come. Only glibc keeps so much, and has a call for it.

    What is given back lies between what is still in use. Where the heap has pages of 2 MB, Linux would fill the holes
    again some seconds later to make such pages of them (khugepaged), so from here on it is told not to.
    """
    libc = ctypes.CDLL(None)
    trim = getattr(libc, "malloc_trim", None) if sys.platform == "linux" else None
    if trim is None:
        return
    trim(0)
    for start, end in _heap(PROC_SELF / "maps"):
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_NOHUGEPAGE)


def _heap(maps: Path) -> list[tuple[int, int]]:
    """First address of each part of the heap, and the one behind its last (proc(5))."""
    try:
        lines = maps.read_text().splitlines()
    except OSError:
        return []
    spans = [line.split(maxsplit=1)[0].split("-") for line in lines if line.endswith("[heap]")]
    return [(int(start, 16), int(end, 16)) for start, end in spans]


def resident_mb(pid: int) -> float | None:
    """Resident memory of a process now, None when it is gone."""
    try:
        return float(psutil.Process(pid).memory_info().rss) / MB
    except psutil.Error:
        return None


def children(pid: int) -> list[int]:
    """The processes that a process has started, theirs included; cheap where Linux lists them, none elsewhere."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        for listed in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                started = [int(each) for each in listed.read_text().split()]
            except OSError:
                continue
            found += started
            waiting += started
    return found


def own_mb(pid: int) -> float | None:
    """Memory that a process has written now, also what was swapped out; None when it is gone. Pages of files, which the
    system takes back when it needs them, do not count where the system tells them apart (Linux).
    """
    if sys.platform != "linux":
        return resident_mb(pid)
    status = Path("/proc", str(pid), "status")
    try:
        return sum(_status_bytes(status, field) for field in ("RssAnon", "RssShmem", "VmSwap")) / MB
    except (OSError, ValueError):  # the latter of a process that has ended and is not yet waited for
        return None


def limit_mb() -> float:
    """What this process and its children may use: the machine's memory, or less where a container says so."""
    machine = float(psutil.virtual_memory().total)
    return min(machine, cgroups.memory_bytes() or machine) / MB


def _status_bytes(path: Path, field: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(field)


def _rusage_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB
