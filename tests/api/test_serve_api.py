"""``serve-api`` as people start it, and the door beside the page."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psutil
import pytest

from playground.paths import ROOT
from tests.conftest import DATA
from tests.support.app import SPACE, serving
from tests.support.web import MODELS, SPACE_ENV, SPACE_HOST

pytestmark = pytest.mark.waits

KEY = "a-key-of-sixteen-characters"
ASKED = {"model": "fast", "messages": [{"role": "user", "content": "Hi"}]}


def environment(home: Path, **more: str) -> dict[str, str]:
    found = {name: value for name, value in os.environ.items() if name not in ("HOST", "PORT")}
    found |= {"PLAYGROUND_HOME": str(home), "PLAYGROUND_SPACE": str(DATA / "fake_space.yaml")}
    return found | {"PLAYGROUND_CATALOG": str(DATA / "fake_catalog.yaml"), "PYTHONUNBUFFERED": "1"} | more


@contextmanager
def serve_api(home: Path, *options: str, **env: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and what it says first."""
    command = [sys.executable, "-m", "playground", "serve-api", "--port", "0", *options]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(home, **env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout
    try:
        yield process, process.stdout.readline()
    finally:
        process.kill()
        process.wait(30)
        process.stdout.close()


@pytest.mark.alone
def test_it_says_what_it_serves_answers_and_ends_with_its_models(tmp_path: Path) -> None:
    with serve_api(tmp_path, "-m", "fast", "-m", "slow") as (process, said):
        url = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert url
        assert "fast@fake-none, slow@fake-none" in said
        answer = httpx2.post(f"{url[0]}/v1/chat/completions", json=ASKED, timeout=30, verify=False)
        assert answer.json()["choices"][0]["message"]["content"] == "Paris is the capital of France."
        assert httpx2.get(f"{url[0]}/props", timeout=30, verify=False).json()["model_alias"] == "fast@fake-none"
        workers = psutil.Process(process.pid).children(recursive=True)
        assert workers
        with httpx2.stream(
            "POST",
            f"{url[0]}/v1/chat/completions",
            json=ASKED | {"model": "slow", "stream": True},
            timeout=30,
            verify=False,
        ) as stream:
            lines = stream.iter_lines()
            next(lines)
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            list(lines)
        assert process.wait(30) == 0
        assert time.monotonic() - began < 5
        assert not [worker for worker in workers if worker.is_running()]


@pytest.mark.parametrize(
    ("options", "env", "words"),
    [
        (["--host", "0.0.0.0"], {}, "PLAYGROUND_API_KEYS"),
        ([], {"PLAYGROUND_HOSTS": "play.example.org"}, "everybody could ask"),
        (["-m", "fst"], {}, "Unknown model 'fst'"),
        (["--host", "no.such.host.invalid"], {"PLAYGROUND_API_KEYS": KEY}, "can't be used"),
        ([], {"PLAYGROUND_API_KEYS": "short"}, "key 1 is shorter than 16"),
    ],
)
def test_a_wrong_command_is_refused_before_anything_is_served(
    tmp_path: Path, options: list[str], env: dict[str, str], words: str
) -> None:
    with serve_api(tmp_path, *options, **env) as (process, first):
        assert process.stdout
        said = re.sub(r"\s+", " ", first + process.stdout.read())
        assert process.wait(30) == 2
        assert words in said


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with serve_api(tmp_path, "--port", port) as (process, first):
            assert process.stdout
            said = first + process.stdout.read()
            assert process.wait(30) == 2
    assert f"Port {port} on 127.0.0.1 can't be used" in re.sub(r"\s+", " ", said)


# -- beside the page ------------------------------------------------------------------------------------------------


def test_beside_the_page_the_door_is_open_on_ones_own_machine(tmp_path: Path) -> None:
    with serving(tmp_path, MODELS) as app:
        answer = httpx2.post(f"{app.url}v1/chat/completions", json=ASKED, timeout=30, verify=False)
        assert answer.json()["choices"][0]["message"]["content"] == "Paris is the capital of France."
        assert httpx2.get(f"{app.url}props", timeout=30, verify=False).status_code == 200
        other = {"Origin": "https://attacker.example"}
        assert (
            httpx2.post(
                f"{app.url}v1/chat/completions", json=ASKED, headers=other, timeout=30, verify=False
            ).status_code
            == 403
        )
        assert "Open-Model Playground" in httpx2.get(app.url, timeout=30, verify=False).text


def test_where_strangers_come_it_is_not_there(tmp_path: Path) -> None:
    with serving(tmp_path, MODELS, **SPACE_ENV, PLAYGROUND_API_KEYS=KEY) as app:
        for path in ("v1/models", "props", "health", "v1/docs"):
            assert httpx2.get(app.url + path, headers=bearer(), timeout=30, verify=False).status_code in (403, 404)


def test_where_strangers_come_and_spaces_yaml_says_so_keys_open_it(tmp_path: Path) -> None:
    space = tmp_path / "open.yaml"
    space.write_text(SPACE.format(models=MODELS, stall_s=3) + "  api: true\n", encoding="utf-8")
    with serving(tmp_path, MODELS, **SPACE_ENV, PLAYGROUND_API_KEYS=KEY, PLAYGROUND_SPACE=str(space)) as app:
        assert httpx2.get(f"{app.url}v1/models", timeout=30, verify=False).status_code == 401
        assert (
            httpx2.get(f"{app.url}v1/models", headers=bearer(Host=SPACE_HOST), timeout=30, verify=False).status_code
            == 200
        )
        asked = ASKED | {"cache_prompt": True}
        answer = httpx2.post(f"{app.url}v1/chat/completions", json=asked, headers=bearer(), timeout=30, verify=False)
        assert answer.json()["error"]["param"] == "cache_prompt"
        answer = httpx2.post(f"{app.url}v1/chat/completions", json=ASKED, headers=bearer(), timeout=30, verify=False)
        assert answer.status_code == 200


def bearer(**more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEY}", **more}
