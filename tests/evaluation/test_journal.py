"""What was answered outlives a crash, and a line that a crash cut off costs nothing but itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from playground.errors import StorageError
from playground.evaluation.journal import Journal, journal_path


def test_answers_are_there_again_as_the_harness_had_them(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal.jsonl"
    journal = Journal(path)
    journal["a"] = (-1.25, True)
    journal["b"] = "Paris\n, 😀 und mehr"
    journal["c"] = -7.5
    assert path.read_text(encoding="utf-8").count("\n") == 3  # written before anybody closes it
    again = Journal(path)
    assert dict(again) == {"a": (-1.25, True), "b": "Paris\n, 😀 und mehr", "c": -7.5}
    journal.close()
    assert (journal.found, again.found) == (0, 3)
    assert "a" in again
    assert isinstance(again["a"], tuple)


def test_a_line_that_was_cut_off_is_left_out_and_the_next_one_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    first = Journal(path)
    first["a"], first["b"] = 1.0, 2.0
    first.close()
    os.truncate(path, path.stat().st_size - 3)
    second = Journal(path)
    assert dict(second) == {"a": 1.0}
    second["c"] = 3.0
    second.close()
    assert dict(Journal(path)) == {"a": 1.0, "c": 3.0}


def test_lines_that_are_no_answers_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('["a", 1]\n5\n{}\n["x"]\n[1, 2, 3]\n[[], 2]\nnull\n["b", 2]\n')
    assert dict(Journal(path)) == {"a": 1, "b": 2}


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StorageError, match="can't be kept"):
        Journal(path)


def test_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    journal = Journal(tmp_path / "file" / "journal.jsonl")
    with pytest.raises(StorageError, match="PLAYGROUND_HOME"):
        journal["a"] = 1.0


def test_other_settings_have_another_file(tmp_path: Path) -> None:
    one = journal_path(tmp_path, "sha", ("arc_easy",), {"limit": 5})
    assert one == journal_path(tmp_path, "sha", ("arc_easy",), {"limit": 5})
    assert one != journal_path(tmp_path, "sha", ("arc_easy",), {"limit": None})
    assert one != journal_path(tmp_path, "other", ("arc_easy",), {"limit": 5})
