"""What the figures were taken on: the processor and its instruction sets, memory, and how fast memory is read.

The module knows the machine; it does not know models or contenders.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from playground.system import contention
from playground.system.environment import environment

FLAGS = (
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "asimddp",
    "i8mm",
    "sve",
)
"""Instruction sets that decide how fast small matrices are multiplied."""
PACKAGES = (
    "onnxruntime",
    "onnxruntime-genai",
    "torch",
    "transformers",
    "optimum",
    "llama-cpp-python",
    "openvino-genai",
    "openvino",
    "nncf",
    "numpy",
)
ROUND_BYTES = 2**30
"""Read at least, by all threads together, between two looks at the clock: thread starts are lost in it."""
LOOK_S = 2.0

Reader = Callable[[Any, Any], Any]
"""Reads two vectors of equal length beside each other."""


def machine(threads: int) -> dict[str, Any]:
    """Processor, cores, flags, memory, versions, commit and date."""
    known = environment()
    return {
        "cpu": known.cpu,
        "cores": known.cores,
        "threads": threads,
        "flags": instruction_sets(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "memory_limit_gb": round(known.memory_limit_mb / 1e3, 1),
        "system": " ".join(os.uname()[index] for index in (0, 2, 4)) if hasattr(os, "uname") else os.name,
        "versions": {"python": known.versions["python"]} | _versions(),
        "commit": known.commit,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def instruction_sets(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Those of ``FLAGS`` that the processor has; empty where the system has no such file."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = next(
        (line.split(":", 1)[1].split() for line in lines if line.lower().startswith(("flags", "features"))), []
    )
    return [flag for flag in FLAGS if flag in found]


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def cores_of_others(seconds: float = LOOK_S) -> float:
    """Cores that other programs keep busy while this one sleeps."""
    before = contention.read()
    time.sleep(seconds)
    return contention.between(before, contention.read()).cores or 0.0


def read_bandwidth(size: int, threads: int, rounds: int = 5, read: Reader = np.dot) -> float:
    """Bytes per second at which so many threads together read the same ``size`` bytes again and again.

    That is what a token does with its weights, so ``size`` is the bytes that a token reads: what a cache holds of them
    is read faster, here as there. Each thread has its own part and reads its two halves beside each other by a product
    of vectors. Of numpy's and torch's reductions, memcmp and loops in C this was as fast as the fastest for sizes from
    96 to 2,000 MB; sums and searches for a byte reached 0.4 to 0.8 of it. The best of ``rounds``: what memory can
    give is asked, not what it gave beside somebody else.
    """
    halves = [_halves(size // threads) for _ in range(threads)]
    together = sum(first.nbytes + second.nbytes for first, second in halves)
    passes = max(1, -(-ROUND_BYTES // together))

    def sweep(first: Any, second: Any) -> None:
        for _ in range(passes):
            read(first, second)

    best = 0.0
    for _ in range(rounds):
        readers = [threading.Thread(target=sweep, args=pair) for pair in halves]
        began = time.perf_counter()
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        best = max(best, passes * together / (time.perf_counter() - began))
    return best


def _halves(size: int) -> tuple[Any, Any]:
    """Zeros that were written once, on huge pages where the system gives them, as the workers' weights are.

    Two vectors of fp32, in all ``size`` bytes or at most seven fewer.
    """
    each = max(1, size // 8)
    block = mmap.mmap(-1, 8 * each)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    whole = np.frombuffer(block, np.float32)
    whole[:] = 0.0
    return whole[:each], whole[each:]


def last_level_cache(cores: Iterable[int] | None = None, root: Path = Path("/sys/devices/system/cpu")) -> int | None:
    """Bytes of the caches farthest from the ``cores`` (those we may use), each counted once; None where not said.

    Of a virtual machine that is what the host's processor has; nobody says how much of it the host's others leave.
    """
    if cores is None:
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    found: dict[str, int] = {}
    for core in cores:
        levels = []
        for folder in (root / f"cpu{core}" / "cache").glob("index*"):
            try:
                level, kind, size, shared = (
                    (folder / name).read_text(encoding="ascii").strip()
                    for name in ("level", "type", "size", "shared_cpu_list")
                )
                if kind != "Instruction":
                    levels.append((int(level), shared, int(size.removesuffix("K")) * 1024))
            except (OSError, ValueError):
                continue
        if levels:
            _, shared, size_bytes = max(levels)
            found[shared] = size_bytes
    return sum(found.values()) or None
