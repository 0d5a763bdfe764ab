"""Memory is counted as the system counts it, in MB of 10^6 bytes, and limits of containers are seen."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from playground.paths import ROOT
from playground.system import cgroups, memory
from playground.system.cpu import cpu_name
from playground.system.environment import commit, environment

LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage")
"""Where this kernel has such, they can be forbidden."""
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


PEAKS = """
from playground.system import cgroups, memory
meter = memory.PeakMeter()
meter.reset()
before, method = meter.read()
ballast = b"\\x01" * 60_000_000
del ballast
peak, _ = meter.read()
meter.reset()
print(before, peak, meter.read()[0], method, sep="|")
"""
"""In a process of its own: of a large one the kernel may take idle pages back at any moment."""


@linux
def test_the_peak_is_seen_after_the_memory_went_back_and_forgotten_on_reset() -> None:
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True, cwd=ROOT)
    before, peak, after, method = done.stdout.strip().split("|")
    assert float(peak) - float(before) == pytest.approx(60, abs=6)
    if "since it started" in method:
        pytest.skip("this kernel does not let a process reset its peak")
    assert float(after) < float(peak) - 40


FREED = """
from playground.system import memory
kept = [bytearray(1_000) for _ in range(200_000)]
small = kept[::100]
del kept
before = memory.own_mb(__import__("os").getpid())
memory.give_back()
flags, heap = [], False
for line in open("/proc/self/smaps"):
    if "-" in line.split()[0]:
        heap = line.rstrip().endswith("[heap]")
    elif heap and line.startswith("VmFlags:"):
        flags.append("nh" in line.split())
print(before, memory.own_mb(__import__("os").getpid()), len(small), len(flags), all(flags))
"""
"""Blocks too large for Python's own stores, so that the C library keeps their room; some are left in between."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep less, and have no such call")
def test_what_was_freed_is_given_back_and_no_large_page_takes_its_place() -> None:
    env = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True, cwd=ROOT, env=env)
    before, after, _, parts, kept_small = done.stdout.split()
    assert float(before) > 200 and float(after) < float(before) - 100
    if LARGE_PAGES.is_dir():
        assert int(parts) >= 1 and kept_small == "True"


def test_where_the_peak_cannot_be_reset_the_method_says_so(tmp_path: Path) -> None:
    (tmp_path / "clear_refs").mkdir()
    (tmp_path / "status").write_text("Name:\tworker\nVmHWM:\t    2000 kB\n")
    meter = memory.PeakMeter(tmp_path)
    meter.reset()
    assert meter.read() == (2.048, "VmHWM of the worker since it started")


def test_without_proc_the_peak_is_that_of_getrusage(tmp_path: Path) -> None:
    meter = memory.PeakMeter(tmp_path / "nothing")
    meter.reset()
    peak, method = meter.read()
    assert "ru_maxrss" in method
    assert peak > memory.resident_mb(os.getpid()) * 0.5


def test_resident_memory_of_a_process_that_is_gone_is_unknown() -> None:
    command = [sys.executable, "-c", "print('up', flush=True); input()"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout
    child.stdout.readline()
    resident = memory.resident_mb(child.pid)
    assert resident is not None
    assert 1 < resident < 100
    child.communicate(b"\n")
    assert memory.resident_mb(child.pid) is None


def test_a_container_with_less_than_the_machine_has_is_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = psutil.virtual_memory().total / 1e6
    for found, expected in ((None, machine), (5e8, 500), (2.0**63, machine)):
        monkeypatch.setattr(cgroups, "memory_bytes", lambda found=found: found)
        assert memory.limit_mb() == expected


def test_the_environment_names_processor_versions_and_limits() -> None:
    found = environment()
    assert found.cpu
    assert found.cores >= 1
    assert 0 < found.memory_limit_mb <= psutil.virtual_memory().total / 1e6
    assert {"playground", "python", "onnxruntime"} <= set(found.versions)


def test_the_processor_is_named_as_it_names_itself(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\n")
    assert cpu_name(tmp_path / "cpuinfo") == "Some CPU @ 3 GHz"


def test_a_folder_inside_somebody_elses_repository_has_no_commit(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "site-packages").mkdir()
    assert commit(tmp_path / "site-packages") is None
    assert commit(tmp_path) is None  # a repository without a commit
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(tmp_path), *who, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    found = commit(tmp_path)
    assert found is not None
    assert len(found) == 40
