"""What the figures were taken on: the processor and its instruction sets, memory, and how fast memory is read.

The module knows the machine; it does not know models or contenders.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

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
PACKAGES = ("onnxruntime", "onnxruntime-genai", "torch", "transformers", "optimum", "llama-cpp-python", "numpy")
BLOCK_BYTES = 512 * 2**20
"""Read by each thread; far more than any cache holds."""
LOOK_S = 2.0


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


def read_bandwidth(threads: int, rounds: int = 5) -> float:
    """Bytes per second that so many threads read together: the C library compares a block's equal halves.

    Two streams a thread keep more reads under way than one (1.35 times what searching for a byte gave on a Sapphire
    Rapids, where fp32 weights were read faster than that). The best of ``rounds``: what memory can give is asked, not
    what it gave beside somebody else.
    """
    same = ctypes.CDLL(None).memcmp
    same.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    half = BLOCK_BYTES // 2
    blocks = [_block() for _ in range(threads)]
    views = [ctypes.addressof(ctypes.c_char.from_buffer(block)) for block in blocks]
    best = 0.0
    for _ in range(rounds):
        readers = [threading.Thread(target=same, args=(view, view + half, half)) for view in views]
        began = time.perf_counter()
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        best = max(best, threads * BLOCK_BYTES / (time.perf_counter() - began))
    return best


def _block() -> mmap.mmap:
    """Memory that was written once, on huge pages where the system gives them, as the workers' weights are."""
    block = mmap.mmap(-1, BLOCK_BYTES)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    zeros = bytes(2**20)
    for _ in range(BLOCK_BYTES // len(zeros)):
        block.write(zeros)
    return block
