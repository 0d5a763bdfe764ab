"""Limits of control groups are seen in every hierarchy: v1, v2, mixed and nested, inside and outside a container."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from playground.config import settings
from playground.system import cgroups, cpu, environment, memory


def tree(root: Path, membership: str, files: dict[str, str]) -> tuple[Path, Path]:
    """A fake mount of control groups, and what /proc/self/cgroup would say."""
    (root / "fs").mkdir(parents=True)
    (root / "self").write_text(membership)
    for name, content in files.items():
        path = root / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    return root / "fs", root / "self"


@pytest.mark.parametrize(
    ("membership", "file", "content", "expected"),
    [
        ("0::/a/b", "a/b/memory.max", "500000000", 5e8),
        ("0::/a/b", "a/memory.max", "400000000", 4e8),
        ("0::/gone/from/here", "memory.max", "300000000", 3e8),
        ("4:cpu,memory:/a", "memory/a/memory.limit_in_bytes", "200000000", 2e8),
        ("0::/a", "a/memory.max", "max", None),
        ("4:memory:/a", "memory/a/memory.limit_in_bytes", "9223372036854771712", 9223372036854771712),
        ("3:cpu:/a", "memory.max", "1000", None),
        ("no group at all", "memory.max", "1000", None),
        ("0::/a", "a/memory.max", "not a number", None),
    ],
)
def test_the_memory_limit(tmp_path: Path, membership: str, file: str, content: str, expected: float | None) -> None:
    assert cgroups.memory_bytes(*tree(tmp_path, membership + "\n", {file: content})) == expected


V1 = {"cpu.cfs_quota_us": "150000", "cpu.cfs_period_us": "100000"}


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        pytest.param("0::/", {"cpu.max": "200000 100000"}, 2.0, id="v2, seen from inside a container"),
        pytest.param("0::/a/b", {"a/b/cpu.max": "50000 100000"}, 0.5, id="v2, nested"),
        pytest.param(
            "0::/a/b/c",
            {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000", "a/b/c/cpu.max": "400000 100000"},
            1.5,
            id="v2, the least of several above",
        ),
        pytest.param("0::/a", {"a/cpu.max": "max 100000"}, None, id="v2, none"),
        pytest.param("0::/elsewhere/x", {"cpu.max": "300000 100000"}, 3.0, id="v2, a path of the host"),
        pytest.param("4:cpu,cpuacct:/a", {f"cpu,cpuacct/a/{k}": v for k, v in V1.items()}, 1.5, id="v1, together"),
        pytest.param("4:cpu:/", {f"cpu/{k}": v for k, v in V1.items()}, 1.5, id="v1, alone"),
        pytest.param("4:cpu:/docker/id", {f"cpu/{k}": v for k, v in V1.items()}, 1.5, id="v1, a path of the host"),
        pytest.param(
            "4:cpu:/a/b",
            {f"cpu/a/{k}": v for k, v in V1.items()}
            | {"cpu/a/b/cpu.cfs_quota_us": "-1", "cpu/a/b/cpu.cfs_period_us": "100000"},
            1.5,
            id="v1, nested",
        ),
        pytest.param("4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None, id="v1, none"),
        pytest.param("3:cpuset:/a", {"cpuset/a/cpu.max": "1000 100000"}, None, id="another controller"),
        pytest.param(
            "0::/s\n4:cpu,cpuacct:/a",
            {f"cpu,cpuacct/a/{k}": v for k, v in V1.items()} | {"unified/s/cpu.max": "100000 100000"},
            1.0,
            id="both, mixed",
        ),
        pytest.param("0::/a", {"a/cpu.max": "1000 0"}, None, id="a period of nothing"),
    ],
)
def test_the_processor_quota(tmp_path: Path, membership: str, files: dict[str, str], expected: float | None) -> None:
    assert cgroups.cores(*tree(tmp_path, membership + "\n", files)) == expected


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        pytest.param("0::/", {"cpu.stat": "usage_usec 5\nthrottled_usec 1500000"}, 1.5, id="v2"),
        pytest.param("0::/a/b", {"a/cpu.stat": "throttled_usec 2500000"}, 2.5, id="v2, by the quota of a group above"),
        pytest.param(
            "0::/a/b",
            {"a/cpu.stat": "throttled_usec 2500000", "a/b/cpu.stat": "throttled_usec 500000"},
            2.5,
            id="v2, both",
        ),
        pytest.param(
            "4:cpu,cpuacct:/a",
            {"cpu,cpuacct/a/cpu.stat": "nr_throttled 3\nthrottled_time 2500000000"},
            2.5,
            id="v1",
        ),
        pytest.param("4:cpu:/host/path", {"cpu/cpu.stat": "throttled_time 1000000000"}, 1.0, id="v1, in a container"),
        pytest.param(
            "0::/s\n4:cpu:/a",
            {"cpu/a/cpu.stat": "throttled_time 1000000000", "unified/s/cpu.stat": "usage_usec 7"},
            1.0,
            id="both, mixed",
        ),
        pytest.param("0::/a", {"a/cpu.stat": "usage_usec 7"}, 0.0, id="no quota"),
        pytest.param("0::/a", {"a/cpu.stat": "throttled_usec soon"}, 0.0, id="no number"),
        pytest.param("0::/a", {"b/cpu.stat": "throttled_usec 7000000"}, 0.0, id="a neighbour's"),
    ],
)
def test_how_long_threads_were_held_back(
    tmp_path: Path, membership: str, files: dict[str, str], expected: float
) -> None:
    assert cgroups.throttled_s(*tree(tmp_path, membership + "\n", files)) == expected


def test_without_control_groups_nothing_is_limited(tmp_path: Path) -> None:
    assert cgroups.cores(tmp_path, tmp_path / "none") is None
    assert cgroups.memory_bytes(tmp_path, tmp_path / "none") is None
    assert cgroups.throttled_s(tmp_path, tmp_path / "none") == 0


@pytest.mark.parametrize(("quota", "threads"), [(None, 8), (3.9, 4), (1.5, 2), (1.4, 1), (1.0, 1), (0.2, 1), (64.0, 8)])
def test_there_are_as_many_threads_as_the_quota_has_cores_rounded(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, threads: int
) -> None:
    monkeypatch.setattr(cpu, "affinity_cores", lambda: 8)
    monkeypatch.setattr(cgroups, "cores", lambda: quota)
    assert cpu.usable_cores() == threads
    assert settings.load_settings({}).threads == threads


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        pytest.param("0::/pod/box", {"pod/cpu.max": "250000 100000", "pod/memory.max": "2000000000"}, id="v2, nested"),
        pytest.param(
            "4:cpu,cpuacct:/docker/id\n5:memory:/docker/id",
            {
                "cpu,cpuacct/cpu.cfs_quota_us": "250000",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": "2000000000",
            },
            id="v1",
        ),
    ],
)
def test_threads_receipt_and_memory_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, membership: str, files: dict[str, str]
) -> None:
    place = tree(tmp_path, membership + "\n", files)
    for reader in (cgroups.cores, cgroups.memory_bytes):
        monkeypatch.setattr(cgroups, reader.__name__, partial(reader, *place))
    monkeypatch.setattr(cpu, "affinity_cores", lambda: 8)
    monkeypatch.setattr(environment, "affinity_cores", lambda: 8)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=64e9))
    found = environment.environment.__wrapped__()
    assert (found.cores, found.cores_affinity, found.cores_cgroup) == (3, 8, 2.5)
    assert settings.load_settings({}).threads == found.cores
    assert found.memory_limit_mb == memory.limit_mb() == 2000
