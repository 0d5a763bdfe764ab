"""The compiler of the tests (`tests.support.compiler`): what is the same is kept, what differs is compiled."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest

from tests.support import compiler
from tests.support.kernel_sets import needs_compiler

pytestmark = needs_compiler


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CC", raising=False)
    kept = tmp_path / "kept"
    kept.mkdir()
    found = compiler.install(kept)
    assert found is not None
    return found


def compiled(command: Path, unit: Path, target: Path, *options: str) -> int:
    """What the function of the library answers."""
    subprocess.run([command, "-shared", "-fPIC", *options, str(unit), "-o", str(target)], check=True)
    return int(ctypes.CDLL(str(target)).number())


def test_a_header_and_an_option_make_another_library_and_the_same_is_kept(command: Path, tmp_path: Path) -> None:
    unit, header = tmp_path / "unit.c", tmp_path / "header.h"
    unit.write_text('#include "header.h"\nint number(void) { return NUMBER + MORE; }\n')
    header.write_text("#define NUMBER 1\n#ifndef MORE\n#define MORE 0\n#endif\n")
    assert compiled(command, unit, tmp_path / "one.so") == 1
    assert compiled(command, unit, tmp_path / "same.so") == 1
    assert len(list(command.parent.iterdir())) == 2, "the command and one library"
    assert (tmp_path / "one.so").read_bytes() == (tmp_path / "same.so").read_bytes()
    assert compiled(command, unit, tmp_path / "more.so", "-DMORE=5") == 6
    header.write_text("#define NUMBER 2\n#define MORE 0\n")
    assert compiled(command, unit, tmp_path / "two.so") == 2


def test_what_fails_says_what_the_compiler_says_and_is_not_kept(command: Path, tmp_path: Path) -> None:
    unit = tmp_path / "unit.c"
    unit.write_text("int number(void) { return missing; }\n")
    for _ in range(2):
        done = subprocess.run(
            [command, "-shared", str(unit), "-o", str(tmp_path / "one.so")], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert "missing" in done.stderr
    assert not (tmp_path / "one.so").exists()
    assert [each.name for each in command.parent.iterdir()] == [command.name]
