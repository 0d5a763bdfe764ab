"""requirements*.txt say what pyproject.toml says, and a difference is told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from playground.paths import ROOT
from scripts import render_requirements
from scripts.render_requirements import FILES, problems, render


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "pre-requirements.txt", *FILES):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_files_of_this_checkout_are_rendered_from_pyproject() -> None:
    assert problems(ROOT) == []


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_edited_by_hand_is_named(project: Path, name: str) -> None:
    (project / name).write_text((project / name).read_text() + "left-pad==1\n")
    assert problems(project) == [f"{name} differs from pyproject.toml: run `python scripts/render_requirements.py`."]


def test_a_version_is_changed_in_one_place(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyproject = project / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('"gradio==6.31.0"', '"gradio==9.9.9"'))
    monkeypatch.setattr(render_requirements, "ROOT", project)
    monkeypatch.setattr("sys.argv", ["render_requirements.py"])
    assert render_requirements.main() == 0
    assert "gradio==9.9.9\n" in (project / "requirements.txt").read_text()


def test_another_torch_than_a_space_installs_first_is_told(project: Path) -> None:
    first = project / "pre-requirements.txt"
    first.write_text(first.read_text().replace("torch==", "torch==0."))
    assert ["pre-requirements.txt has no line torch==" in problem for problem in problems(project)] == [True]


def test_another_cpu_index_than_uv_takes_is_told(project: Path) -> None:
    first = project / "pre-requirements.txt"
    first.write_text(first.read_text().replace("/whl/cpu", "/whl/cu130"))
    assert ["name different indexes" in problem for problem in problems(project)] == [True]


def test_an_entry_that_would_be_lost_stops_the_rendering() -> None:
    text = (
        (ROOT / "pyproject.toml")
        .read_text()
        .replace('    "gradio==6.31.0",\n    "trans', '    "gradio==6.31.0", "trans')
    )
    with pytest.raises(SystemExit, match="one entry of dependencies a line"):
        render(text)


def test_every_dependency_of_the_application_has_an_exact_version_but_pip_itself() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if "==" not in line and not line.startswith("#")] == ["pip>=23.1"]
