"""The package as somebody installs it: a wheel in a fresh environment, used from an empty folder without a checkout.

The fresh environment sees the packages that this one has, so that nothing is downloaded; the playground itself it has
only from the wheel.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from playground import __version__
from playground.paths import PACKAGE, ROOT

pytestmark = [pytest.mark.waits, pytest.mark.parallel, pytest.mark.xdist_group("wheel")]

DATA = Path(__file__).parents[1] / "data"
FAKES = {"PLAYGROUND_CATALOG": str(DATA / "fake_catalog.yaml"), "PLAYGROUND_SPACE": str(DATA / "fake_space.yaml")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT))
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` folder of an environment with the wheel."""
    environment = tmp_path_factory.mktemp("installed") / "environment"
    venv.create(environment, with_pip=False)
    pip("--python", str(environment / "bin" / "python"), "install", "--no-deps", str(wheel))
    packages = next(environment.glob("lib/python*/site-packages"))
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def pip(*arguments: str) -> None:
    options = ["--isolated", "--disable-pip-version-check", "--no-index", "--quiet"]
    before, command = (arguments[:2], arguments[2:]) if arguments[0] == "--python" else ((), arguments)
    done = subprocess.run(
        [sys.executable, "-m", "pip", *before, command[0], *options, *command[1:]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def environment_of(folder: Path, **more: str) -> dict[str, str]:
    """Nothing of the tests' own: no PYTHONPATH, no settings, a home below ``folder``."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "CC", "TMPDIR") if name in os.environ}
    home = str(folder.parent / "home")
    return kept | {"HOME": home, "PLAYGROUND_HOME": f"{home}/playground", "HF_HUB_OFFLINE": "1", **more}


def run(command: Path, *arguments: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(command), *arguments],
        cwd=folder,
        env=environment_of(folder, **more),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_wheel_holds_every_file_of_the_package_and_the_settings_of_the_checkout(wheel: Path) -> None:
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    with zipfile.ZipFile(wheel) as archive:
        assert {path.relative_to(ROOT).as_posix() for path in files} <= set(archive.namelist())
        assert archive.read("playground/config/spaces.yaml") == (ROOT / "spaces.yaml").read_bytes()
        assert not [name for name in archive.namelist() if not re.match(r"playground/|open_model_playground-", name)]


def test_the_version_is_told_by_the_package_alone(wheel: Path) -> None:
    assert wheel.name.startswith(f"open_model_playground-{__version__}-")


def test_models_are_listed_with_the_packaged_catalogue_and_settings(installed: Path, empty: Path) -> None:
    done = run(installed / "playground", "models", "--json", folder=empty)
    assert done.returncode == 0, done.stderr
    assert "smollm2-135m-instruct" in {model["id"] for model in json.loads(done.stdout)["models"]}
    assert list(empty.iterdir()) == []


def test_the_app_serves_the_models_of_the_packaged_settings(installed: Path, empty: Path) -> None:
    code = "from playground.config.settings import load_settings as s; print(*s().models, s().space_file)"
    done = run(installed / "python", "-c", code, folder=empty)
    *models, file = done.stdout.split()
    assert models == ["smollm2-135m-instruct", "gemma-3-270m"]
    assert file.endswith("site-packages/playground/config/spaces.yaml")


def test_settings_of_the_working_directory_are_not_picked_up_unasked(installed: Path, empty: Path) -> None:
    (empty / "spaces.yaml").write_text("app: {models: [somebody-elses]}\n")
    code = "from playground.config.settings import load_settings as s; print(*s().models)"
    assert "somebody-elses" not in run(installed / "python", "-c", code, folder=empty).stdout
    named = run(installed / "python", "-c", code, folder=empty, PLAYGROUND_SPACE="spaces.yaml")
    assert named.stdout.split() == ["somebody-elses"]


def test_help_names_the_command_that_was_typed(installed: Path, empty: Path) -> None:
    app = run(installed / "open-model-playground", "--help", folder=empty)
    assert app.stdout.startswith("usage: open-model-playground ")
    terminal = run(installed / "playground", "--help", folder=empty)
    assert "Usage: playground " in terminal.stdout
    wrong = run(installed / "playground", "models", "--no-such-option", folder=empty)
    assert wrong.returncode == 2
    assert "See playground models --help" in wrong.stderr


@pytest.mark.parametrize("arguments", [("space", "render"), ("space", "check"), ("deploy", "space", "owner/name")])
def test_what_needs_a_checkout_says_so(installed: Path, empty: Path, arguments: tuple[str, ...]) -> None:
    done = run(installed / "playground", *arguments, folder=empty)
    assert done.returncode == 2
    assert "no checkout of the playground here" in done.stderr
    assert "Run this in the folder that holds spaces.yaml" in done.stderr


def test_an_installed_command_serves_the_checkout_it_is_run_in(installed: Path, empty: Path) -> None:
    environment = environment_of(empty)
    done = subprocess.run(
        [installed / "playground", "space", "check"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "The Space's configuration is consistent." in done.stdout, done.stderr


def test_measurements_that_need_the_checkout_are_told_apart(installed: Path, empty: Path) -> None:
    done = run(installed / "playground", "bench", "engine", folder=empty)
    assert done.returncode == 2
    assert "Known: models. The others are in a checkout" in done.stderr


def test_a_model_answers_in_a_worker_of_the_installed_package(installed: Path, empty: Path) -> None:
    done = run(installed / "playground", "compare", "-m", "fast", "--json", "Capital of France?", folder=empty, **FAKES)
    assert done.returncode == 0, done.stderr
    assert "Paris is the capital of France." in done.stdout


def test_children_find_the_package_without_a_path_before_the_standard_library(installed: Path, empty: Path) -> None:
    code = "from playground.paths import python_path as path; print([path({}), path({'PYTHONPATH': 'x'})])"
    assert run(installed / "python", "-c", code, folder=empty).stdout.strip() == "['', 'x']"


@contextmanager
def serving(installed: Path, folder: Path) -> Iterator[str]:
    """``open-model-playground`` until the block ends; yields its address."""
    command = [str(installed / "open-model-playground"), "--port", "0"]
    environment = environment_of(folder, **FAKES)
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            address = re.search(r"http://\S+", line)
            assert address, line
            yield address[0]
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_the_app_answers_on_the_page_and_over_its_api(installed: Path, empty: Path) -> None:
    client = pytest.importorskip("gradio_client")
    with serving(installed, empty) as address:
        result = client.Client(address, verbose=False).predict("Capital of France?", ["fast"], api_name="/compare")
        assert "Paris is the capital of France." in json.dumps(result)
    assert list(empty.iterdir()) == []
