"""The Dockerfile makes an app that runs as a stranger to its own files, and is well.

Where docker can build and PLAYGROUND_TEST_DOCKER=1 allows the minutes that takes, the image is built and run.
Everywhere its instructions are read and followed in a scratch folder: COPY copies, ENV, CMD and HEALTHCHECK are
those of the file, the app runs without rights on files that it can't write. Not followed there are apt-get and pip:
this environment was installed from the same files.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from playground.deploy.files import choose_files
from playground.paths import ROOT

pytestmark = pytest.mark.waits

FAKE = ROOT / "tests" / "data" / "fake_catalog.yaml"
WITHOUT_RIGHTS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.getuid() == 0 else []
"""Root too is then held to what files allow."""
COMMANDS = {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "VOLUME", "EXPOSE", "USER", "HEALTHCHECK", "CMD"}


def instructions() -> list[tuple[str, str]]:
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]
    return [(name, " ".join(rest.split())) for name, rest in found]


def all_of(name: str) -> list[str]:
    return [rest for each, rest in instructions() if each == name]


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for rest in all_of("ENV") for pair in rest.split())


def copied() -> list[tuple[list[str], str]]:
    return [(rest.split()[:-1], rest.split()[-1]) for rest in all_of("COPY")]


def ignored(name: str) -> bool:
    """As docker reads .dockerignore: the last line that matches counts."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!")
            parts = name.split("/")
            beginnings = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
            if pattern.startswith("**/"):
                matches = any(fnmatch(part, pattern[3:]) for part in parts)
            else:
                matches = any(fnmatch(each, pattern) for each in beginnings if "/" not in each)
            out = not line.startswith("!") if matches else out
    return out


def test_every_instruction_is_one_that_is_followed_here() -> None:
    assert {name for name, _ in instructions()} <= COMMANDS


def test_the_base_is_a_version_and_a_python_that_the_project_supports() -> None:
    (base,) = all_of("FROM")
    found = re.fullmatch(r"python:(3\.\d+)\.\d+-slim-[a-z]+", base)
    assert found
    assert found[1] in ("3.11", "3.12", "3.13")


def test_what_is_copied_exists_is_not_ignored_and_is_all_that_a_space_gets() -> None:
    sources = [name for names, _ in copied() for name in names]
    assert [name for name in sources if not (ROOT / name).exists() or ignored(name)] == []
    needed = {path.as_posix() for path in choose_files(ROOT).files}
    reached = {name for name in needed if name.split("/")[0] in sources}
    assert needed - reached == set()
    assert [name for name in needed if ignored(name)] == []


@pytest.mark.parametrize("name", [".git/config", ".venv/bin/python", "playground/.env", "tests/conftest.py", "key.pem"])
def test_what_is_nobodys_business_never_reaches_the_builder(name: str) -> None:
    assert ignored(name)


def test_requirements_are_installed_as_on_a_space() -> None:
    (install,) = [rest for rest in all_of("RUN") if "pip install" in rest]
    assert re.findall(r"-r (\S+)", install) == ["pre-requirements.txt", "requirements.txt"]


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    """A folder with what COPY and RUN make of it."""
    root = tmp_path
    for names, target in copied():
        for name in names:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, root / "app" / target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            else:
                (root / "app").mkdir(exist_ok=True)
                shutil.copy(source, root / "app" / name)
    (compiled,) = [rest for rest in all_of("RUN") if "compileall" in rest]
    subprocess.run([sys.executable, *compiled.split()[1:]], cwd=root / "app", check=True)
    (root / "data").mkdir()
    yield root
    for path in (root / "app").rglob("*"):
        path.chmod(path.stat().st_mode | 0o200)


@pytest.mark.skipif(bool(WITHOUT_RIGHTS) and not shutil.which("setpriv"), reason="root may write anywhere")
def test_the_app_runs_on_files_that_it_can_not_write_and_its_health_is_asked(image: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {name: value.replace("/data", str(image / "data")) for name, value in environment().items()}
    env |= {"PORT": str(port), "PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", "TMPDIR": str(image / "data")}
    # Nothing is fetched and exported in a test: a scripted model is served.
    (image / "spaces.yaml").write_text("app: {models: [fast]}\n")
    env |= {"PLAYGROUND_SPACE": str(image / "spaces.yaml"), "PLAYGROUND_CATALOG": str(FAKE)}
    command, health = [json.loads(rest[rest.index("[") :]) for rest in (all_of("CMD")[0], all_of("HEALTHCHECK")[0])]
    before = {path: path.stat().st_mtime_ns for path in (image / "app").rglob("*")}
    for path in (image / "app", *(image / "app").rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    app = subprocess.Popen([*WITHOUT_RIGHTS, sys.executable, *command[1:]], cwd=image / "app", env=env)
    try:
        end = time.monotonic() + 240

        def healthy() -> bool:
            asked = [*WITHOUT_RIGHTS, sys.executable, *health[1:]]
            return subprocess.run(asked, env=env, capture_output=True, check=False).returncode == 0

        while not healthy():
            assert app.poll() is None, "the app ended"
            assert time.monotonic() < end, "it does not become healthy"
            time.sleep(0.5)
    finally:
        app.send_signal(signal.SIGTERM)
        app.wait(30)
    assert not healthy()
    assert {path: path.stat().st_mtime_ns for path in (image / "app").rglob("*")} == before
    assert list((image / "data").iterdir())


def docker() -> str:
    for name in ("docker", "podman"):
        if shutil.which(name) and not subprocess.run([name, "info"], capture_output=True, check=False).returncode:
            return name
    return ""


@pytest.mark.skipif(os.environ.get("PLAYGROUND_TEST_DOCKER") != "1", reason="PLAYGROUND_TEST_DOCKER=1 builds an image")
@pytest.mark.timeout(1800)
def test_the_image_is_built_and_becomes_healthy_with_a_read_only_root() -> None:
    program = docker()
    assert program, "neither docker nor podman can build here"
    subprocess.run([program, "build", "--tag", "open-model-playground:test", "."], cwd=ROOT, check=True)
    started = [program, "run", "--detach", "--rm", "--read-only", "--tmpfs", "/tmp", "--volume", "/data"]
    run = subprocess.run([*started, "open-model-playground:test"], capture_output=True, text=True, check=True)
    name = run.stdout.strip()
    try:
        health = json.loads(all_of("HEALTHCHECK")[0].partition("CMD ")[2])
        end = time.monotonic() + 300
        while subprocess.run([program, "exec", name, *health], capture_output=True, check=False).returncode:
            assert time.monotonic() < end
            time.sleep(2)
    finally:
        subprocess.run([program, "stop", name], capture_output=True, check=False)
