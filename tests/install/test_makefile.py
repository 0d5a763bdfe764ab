"""The Makefile's set-up: done once, done again when a pin changes, and a failure says what to do and leaves no stamp.

A stand-in interpreter takes the place of Python, so that nothing is downloaded: it makes an empty environment and its
pip only writes down what it was asked.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from playground.paths import ROOT

STAND_IN = """#!/bin/sh
# As much of an interpreter as the Makefile uses.
case "$*" in
    *"sys.version_info"*) exit ${OLD_PYTHON:-0} ;;
    --version) echo "Python 3.12.0" ;;
    "-m venv"*)
        echo "venv" >>"$LOG"
        for folder; do :; done
        mkdir -p "$folder/bin" && cp "$0" "$folder/bin/python" ;;
    "-m pip --version") exit 0 ;;
    scripts/torch_index.py*)
        [ -z "$REAL_PYTHON" ] || exec "$REAL_PYTHON" "$@"
        echo "$TORCH_FIRST" ;;
    "-m pip install"*)
        echo "pip $*" >>"$LOG"
        [ -z "$PIP_FAILS" ] || { echo "ERROR: no matching distribution" >&2; exit 1; } ;;
    "-m compileall"*) echo "compiled $*" >>"$LOG" ;;
    app.py) echo "app on $HOST:$PORT" ;;
    *) echo "ran $*" >>"$LOG" ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    for name in (
        "Makefile",
        "pre-requirements.txt",
        "requirements.txt",
        "requirements-dev.txt",
        "requirements-audit.txt",
    ):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "app.py").write_text("")
    interpreter = tmp_path / "fake-python"
    interpreter.write_text(STAND_IN)
    interpreter.chmod(interpreter.stat().st_mode | stat.S_IXUSR)
    return tmp_path


def make(project: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("HOST", "PORT", "MAKEFLAGS", "MAKELEVEL")}
    return subprocess.run(
        ["make", f"PYTHON={project}/fake-python", *args],
        cwd=project,
        env={**kept, "LOG": str(project / "log"), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def log(project: Path) -> list[str]:
    return (project / "log").read_text().splitlines()


def test_demo_makes_the_environment_installs_the_pins_and_starts_the_app(project: Path) -> None:
    done = make(project, "demo")
    assert done.returncode == 0, done.stderr
    assert "app on 127.0.0.1:7860" in done.stdout
    assert log(project)[0] == "venv"
    assert log(project)[1].endswith("-r requirements.txt")


def test_a_second_demo_starts_at_once(project: Path) -> None:
    make(project, "demo")
    before = log(project)
    assert "app on 0.0.0.0:9000" in make(project, "demo", HOST="0.0.0.0", PORT="9000").stdout
    assert log(project) == before


def test_a_changed_pin_installs_again_into_the_same_environment(project: Path) -> None:
    make(project, "demo")
    with (project / "requirements.txt").open("a") as file:
        file.write("# changed\n")
    make(project, "demo")
    assert [line.split()[0] for line in log(project)] == ["venv", *["pip", "compiled"] * 2], (
        "pip itself compiles one after the other"
    )
    assert all("--no-compile" in line for line in log(project) if line.startswith("pip"))


def test_tests_install_the_development_pins_which_serve_the_app_too(project: Path) -> None:
    make(project, "test-quick")
    make(project, "demo")
    pips = [line for line in log(project) if line.startswith("pip")]
    assert len(pips) == 1
    assert pips[0].endswith("-r requirements-dev.txt")
    assert "ran -m pytest -n 2 -m not alone and not integration and not ui and not waits" in log(project)


def test_pip_arguments_are_passed_on(project: Path) -> None:
    make(project, "demo", "PIP_ARGS=--proxy http://p:1 --retries 9")
    assert "--proxy http://p:1 --retries 9 -r requirements.txt" in log(project)[1]


def test_torch_comes_first_where_it_has_an_index_of_its_own(project: Path) -> None:
    make(project, "demo", TORCH_FIRST="--no-deps --index-url http://cpu torch==1")
    pips = [line for line in log(project) if line.startswith("pip")]
    assert len(pips) == 2
    assert pips[0].endswith("--no-deps --index-url http://cpu torch==1")
    assert pips[1].endswith("-r requirements.txt")
    assert "http://cpu" not in pips[1]


def test_a_failed_install_of_torch_names_the_way_around(project: Path) -> None:
    failed = make(project, "demo", TORCH_FIRST="torch==1", PIP_FAILS="1")
    assert failed.returncode != 0
    assert "make TORCH=default" in failed.stderr
    assert not list((project / ".venv").glob(".app-*"))


def test_one_line_says_which_torch_was_chosen_and_why(project: Path) -> None:
    mirror = make(project, "demo", REAL_PYTHON=sys.executable, PIP_INDEX_URL="http://127.0.0.1:9/simple")
    assert "torch: from pip's own index alone" in mirror.stderr or sys.platform != "linux"
    make(project, "clean")
    asked = make(project, "demo", "TORCH=default", REAL_PYTHON=sys.executable)
    assert "TORCH=default" in asked.stderr
    make(project, "clean")
    wrong = make(project, "demo", "TORCH=gpu", REAL_PYTHON=sys.executable)
    assert wrong.returncode != 0
    assert "invalid choice: 'gpu'" in wrong.stderr


def test_an_index_in_pips_arguments_counts_as_one_of_its_own(project: Path) -> None:
    done = make(project, "demo", "PIP_ARGS=-i http://127.0.0.1:9/simple", REAL_PYTHON=sys.executable)
    assert "torch: from pip's own index alone" in done.stderr or sys.platform != "linux"


def test_a_failed_install_shows_why_says_what_to_do_and_is_tried_again(project: Path) -> None:
    failed = make(project, "demo", PIP_FAILS="1")
    assert failed.returncode != 0
    assert "no matching distribution" in failed.stderr
    assert "run this again" in failed.stderr
    assert "TORCH=default" not in failed.stderr, "torch was not the trouble"
    assert "app on" not in failed.stdout
    assert not list((project / ".venv").glob(".app-*"))
    assert "app on" in make(project, "demo").stdout


def test_without_a_suitable_python_it_says_what_to_install(project: Path) -> None:
    failed = make(project, "demo", OLD_PYTHON="1")
    assert failed.returncode != 0
    assert "Python 3.11 or newer" in failed.stderr
    assert "apt install" in failed.stderr
    assert not (project / ".venv").exists()


def test_clean_removes_the_environment(project: Path) -> None:
    make(project, "demo")
    assert make(project, "clean").returncode == 0
    assert not (project / ".venv").exists()
    assert (project / "app.py").exists()


def test_what_looks_at_the_environment_is_installed_beside_it(project: Path) -> None:
    make(project, "sbom")
    beside = [line for line in log(project) if line.endswith("-r requirements-audit.txt")]
    make(project, "demo")
    assert len(beside) == 1 and log(project).count(beside[0]) == 1
    assert not [line for line in log(project) if "requirements-dev.txt" in line]
