"""Limits of control groups are seen in every hierarchy: v1, v2, mixed and nested, inside and outside a container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from playground.config import settings
from playground.system import cgroups


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


def test_without_control_groups_nothing_is_limited(tmp_path: Path) -> None:
    assert cgroups.cores(tmp_path, tmp_path / "none") is None
    assert cgroups.memory_bytes(tmp_path, tmp_path / "none") is None


@pytest.mark.parametrize(("quota", "threads"), [(None, 8), (3.9, 3), (1.0, 1), (0.2, 1), (64.0, 8)])
def test_threads_never_exceed_the_quota(monkeypatch: pytest.MonkeyPatch, quota: float | None, threads: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(cgroups, "cores", lambda: quota)
    assert settings.usable_cores() == threads
    assert settings.load_settings().threads == threads
