"""The commands of docs/operations.md do what it says: each is typed here as it is written there, or, where this is no
place for it (a container, an account of the Hub, an hour), every name in it is looked up.

A reader puts names of their own in the place of OWNER/NAME, FILE and KEY, and so do the tests; ports are free ones.
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
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
import typer
import yaml

from playground.config import variables
from playground.paths import ROOT
from playground.ui.app import END_S
from tests.support.documented import Page, page
from tests.support.hub_server import Hub, Space
from tests.support.known_commands import OWN, look_up

pytestmark = pytest.mark.waits

OPERATIONS_PAGE = page(ROOT / "docs" / "operations.md", OWN)
API_PAGE = page(ROOT / "docs" / "api.md", OWN)
FAKE = ROOT / "tests" / "data" / "fake_catalog.yaml"
KEY = "a-key-for-metrics-alone"
RUN: set[str] = set()
"""What is typed below; `typed` adds to it."""
LOOKED_UP = frozenset({
    "make demo",
    "make trust",
    ". .venv/bin/activate",
    "hf auth login",
    "unset",
    "ulimit -n",
    "kill -9",
    "pytest -m fault",
    "pytest -m hostile",
    "mcp --http",
    "serve-api",
    "space check",
    "space render",
    "deploy space",
    "bench load",
    "--force",
    "--name",
    "--profile zerogpu",
    "--renew-secrets",
    "--port",
    "--models A,B",
    "python -m playground history",
    "python -m playground prepare smollm2-135m-instruct gemma-3-270m --push-to OWNER/REPO",
    "PLAYGROUND_PREPARED_FROM=OWNER/REPO python app.py",
    "PLAYGROUND_HOME=/srv/playground PLAYGROUND_HOSTS=play.example.org PORT=7861 python app.py",
    "python -m playground bench load --visitors 50 --minutes 10 --soak 500",
    "docker build --tag open-model-playground .",
    "docker run --detach --name playground --restart unless-stopped --stop-timeout 20 --read-only --tmpfs /tmp "
    "--volume playground:/data --publish 7860:7860 --env PLAYGROUND_SECRET --env PLAYGROUND_METRICS_KEY "
    "--env PLAYGROUND_HOSTS=play.example.org open-model-playground",
    "docker run",
    "docker stop playground",
    "docker rm playground",
    "docker start playground",
    "docker exec playground python -m playground history backup /data/backup.sqlite3",
    "docker cp playground:/data/backup.sqlite3 backup-$(date +%F).sqlite3",
    'docker run --rm --user root --volume playground:/data --volume "$PWD":/from:ro open-model-playground sh -c '
    "'cp /from/FILE /data/playground.sqlite3 && rm -f /data/playground.sqlite3-wal /data/playground.sqlite3-shm && "
    "chown playground /data/playground.sqlite3 && chmod 600 /data/playground.sqlite3'",
})  # fmt: skip
"""What is not: its names are looked up instead."""


def typed(*each: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A test that types these commands, as the documentation has them."""
    RUN.update(each)

    def mark(test: Callable[..., None]) -> Callable[..., None]:
        @wraps(test)
        def whole(**given: Any) -> None:
            test(**given)
            assert given["reader"].typed == set(each)

        return whole

    return mark


@dataclass
class Reader:
    """Somebody in a checkout of their own who types what the documentation says.

    Attributes:
        env: What they exported.
        typed: Commands so far.
    """

    checkout: Path
    env: dict[str, str]
    typed: set[str] = field(default_factory=set)

    def text(self, command: str, *names: tuple[str, str]) -> str:
        """A command with names of the reader's own in the place of those that are written."""
        assert command in OPERATIONS_PAGE.commands, "the documentation has another"
        self.typed.add(command)
        for written, own in names:
            assert written in command
            command = command.replace(written, own)
        return command

    def types(self, command: str, *names: tuple[str, str], then: str = "") -> subprocess.CompletedProcess[str]:
        """Type it, and ``then`` something more in the same shell."""
        return self.shell("\n".join(filter(None, (self.text(command, *names), then))))

    def shell(self, text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euc", text],
            cwd=self.checkout,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    @contextmanager
    def running(self, command: str, more: str = "") -> Iterator[subprocess.Popen[str]]:
        """A command that goes on, until it is told to end, which it does well and in time."""
        process = subprocess.Popen(
            ["bash", "-euc", f"exec {self.text(command)}{more}"],
            cwd=self.checkout,
            env=self.env,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(END_S + 5) == 0
        finally:
            process.kill()
            process.wait(30)
            process.stdout.close()


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """Scripted models are served, and nothing is asked of any hub."""
    for program in ("bash", "curl"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    checkout = tmp_path / "checkout"
    for name in ("playground", "docs"):
        shutil.copytree(ROOT / name, checkout / name)
    for path in (*ROOT.glob("*.txt"), *(ROOT / name for name in ("app.py", "spaces.yaml", "README.md", "LICENSE"))):
        shutil.copy2(path, checkout)
    (tmp_path / "space.yaml").write_text("app: {models: [fast]}\n")
    foreign = re.compile("PLAYGROUND_|HF_|HUGGING|SPACE_|OAUTH_|HOST$|PORT$|PYTHONPATH$|LANG|LC_")
    env = {name: value for name, value in os.environ.items() if not foreign.match(name)}
    env |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}", "PYTHONUNBUFFERED": "1"}
    env |= {"PLAYGROUND_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "COLUMNS": "200", "LC_ALL": "C.UTF-8"}
    env |= {"PLAYGROUND_SPACE": str(tmp_path / "space.yaml"), "PLAYGROUND_CATALOG": str(FAKE)}
    return Reader(checkout, env)


def a_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while True:
        try:
            assert httpx2.get(url, timeout=10, verify=False).status_code == 200
            return
        except httpx2.HTTPError:
            assert process.poll() is None, "it ended at once"
            assert time.monotonic() < until, "it does not answer"
            time.sleep(0.1)


# -- typed ----------------------------------------------------------------------------------------------------------


@typed(
    "python app.py",
    "curl http://127.0.0.1:7860/readyz",
    "curl https://OWNER-NAME.hf.space/readyz",
    'curl -H "Authorization: Bearer $PLAYGROUND_METRICS_KEY" https://OWNER-NAME.hf.space/metrics',
    'curl -H "Authorization: Bearer KEY" …/metrics',
    "python -m playground history backup FILE",
    "mkdir look && cp FILE look/playground.sqlite3 && PLAYGROUND_HOME=look python -m playground history",
)
def test_the_page_is_started_asked_how_it_is_and_its_history_kept(reader: Reader, tmp_path: Path) -> None:
    port = a_free_port()
    url, backup = f"http://127.0.0.1:{port}", tmp_path / "backup.sqlite3"
    reader.env |= {"PORT": str(port), "PLAYGROUND_METRICS_KEY": KEY}
    with reader.running("python app.py") as app:
        wait_for(f"{url}/healthz", app)
        for command, names in (
            ("curl http://127.0.0.1:7860/readyz", ("http://127.0.0.1:7860", url)),
            ("curl https://OWNER-NAME.hf.space/readyz", ("https://OWNER-NAME.hf.space", url)),
        ):
            assert json.loads(reader.types(command, names).stdout)["ready"] is True
        metrics = 'curl -H "Authorization: Bearer $PLAYGROUND_METRICS_KEY" https://OWNER-NAME.hf.space/metrics'
        assert "playground_info{" in reader.types(metrics, ("https://OWNER-NAME.hf.space", url)).stdout
        shown = 'curl -H "Authorization: Bearer KEY" …/metrics'
        for key, said in ((KEY, "playground_info{"), ("another-key-of-some-length", "Send the key as")):
            assert said in reader.types(shown, ("KEY", key), ("…", url)).stdout
        asked = {"model": "fast", "messages": [{"role": "user", "content": "What lasts?"}], "store": True}
        assert httpx2.post(f"{url}/v1/chat/completions", json=asked, timeout=60, verify=False).status_code == 200
        for _ in range(2):  # a backup of that name is replaced
            done = reader.types("python -m playground history backup FILE", ("FILE", str(backup)))
            assert done.returncode == 0, done.stderr
        assert backup.stat().st_mode & 0o777 == 0o600, "readable by its owner alone"
        (tmp_path / "letter").write_text("mine")  # anything else is not
        refused = reader.types("python -m playground history backup FILE", ("FILE", str(tmp_path / "letter")))
        assert refused.returncode and (tmp_path / "letter").read_text() == "mine"
        app.send_signal(signal.SIGTERM)
        app.wait(END_S + 5)
        assert app.stdout
        said = app.stdout.read()
    assert f"http://127.0.0.1:{port}" in said
    assert "Audience: own" in said and "Login: none" in said
    look = "mkdir look && cp FILE look/playground.sqlite3 && PLAYGROUND_HOME=look python -m playground history"
    assert "What lasts?" in reader.types(look, ("FILE", str(backup))).stdout


@typed("python -m playground serve-api")
def test_the_protocol_alone_is_started(reader: Reader) -> None:
    with reader.running("python -m playground serve-api", " --port 0") as process:
        assert process.stdout
        url = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert url
        wait_for(f"{url[0]}/healthz", process)
        assert httpx2.get(f"{url[0]}/readyz", timeout=30, verify=False).json()["ready"] is True
        assert [each["id"] for each in httpx2.get(f"{url[0]}/v1/models", timeout=30, verify=False).json()["data"]]


@typed(
    'export PLAYGROUND_SECRET=$(python -c "import secrets; print(secrets.token_urlsafe(32))")',
    'export PLAYGROUND_METRICS_KEY=$(python -c "import secrets; print(secrets.token_urlsafe(32))")',
)
def test_secrets_that_are_made_so_are_long_enough(reader: Reader) -> None:
    for name in ("PLAYGROUND_SECRET", "PLAYGROUND_METRICS_KEY"):
        export = f'export {name}=$(python -c "import secrets; print(secrets.token_urlsafe(32))")'
        made = reader.types(export, then=f'printf %s "${name}"').stdout
        assert variables.secret({"PLAYGROUND_SECRET": made}) == made
        assert variables.metrics_key({"PLAYGROUND_METRICS_KEY": made}) == made


@typed(
    "python -m playground space check",
    "python -m playground space render && python -m playground space check",
    "space render --profile zerogpu --to FOLDER",
)
def test_what_differs_from_this_space_is_rendered_and_checked(reader: Reader, tmp_path: Path) -> None:
    del reader.env["PLAYGROUND_SPACE"], reader.env["PLAYGROUND_CATALOG"]
    file = reader.checkout / "spaces.yaml"
    document = yaml.safe_load(file.read_text())
    (own,) = [yaml.safe_load(block) for block in OPERATIONS_PAGE.others if block.startswith("app:")]
    for name in ("app", "deploy"):
        document[name] |= own[name]
    document["space"]["title"] = "Another one"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    differs = reader.types("python -m playground space check")
    assert differs.returncode == 1 and "README.md" in differs.stdout
    both = reader.types("python -m playground space render && python -m playground space check")
    assert both.returncode == 0, both.stdout
    assert "consistent" in both.stdout and "title: Another one" in (reader.checkout / "README.md").read_text()
    document["app"]["logim"] = document["app"].pop("login")
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    wrong = reader.types("python -m playground space check")
    assert wrong.returncode and "logim" in wrong.stdout + wrong.stderr, "what does not fit, by its key"
    shutil.copy(ROOT / "spaces.yaml", file)
    render = reader.text("space render --profile zerogpu --to FOLDER", ("FOLDER", str(tmp_path / "gpu")))
    done = reader.shell(f"python -m playground {render}")
    assert done.returncode == 0, done.stderr
    assert 'python_version: "3.12"' in (tmp_path / "gpu" / "README.md").read_text().replace("'", '"')
    assert "torch==2.11.0" in (tmp_path / "gpu" / "requirements.txt").read_text()


class Well(BaseHTTPRequestHandler):
    """An app that is well."""

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")


@pytest.fixture
def space_host(writer: Hub) -> Iterator[Hub]:
    """The Hub, and an app at the address of its Spaces."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Well)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    writer.space_host = f"http://127.0.0.1:{server.server_port}"
    yield writer
    server.shutdown()
    server.server_close()
    thread.join(5)


@typed(
    "python -m playground deploy space OWNER/NAME",
    "python -m playground deploy space OWNER/NAME --dry-run",
    "python -m playground deploy space OWNER/NAME --renew-secrets",
)
def test_a_space_is_shown_made_left_as_it_is_and_given_new_secrets(reader: Reader, space_host: Hub) -> None:
    del reader.env["PLAYGROUND_SPACE"], reader.env["PLAYGROUND_CATALOG"], reader.env["HF_HUB_OFFLINE"]
    reader.env |= {name: value for name, value in os.environ.items() if name.startswith("HF_")}
    reader.env |= {"NO_PROXY": os.environ["NO_PROXY"], "PLAYGROUND_SECRET": "s" * 32}
    name, hub = "me/playground", space_host
    hub.spaces[name] = Space(after_commit=["BUILDING", "RUNNING"])
    plan = reader.types("python -m playground deploy space OWNER/NAME --dry-run", ("OWNER/NAME", name))
    assert plan.returncode == 0, plan.stderr
    for told in ("title: ", "playground/ui/app.py", "variables: ", "secrets: PLAYGROUND_SECRET", "hardware: ", "model"):
        assert told in plan.stdout
    assert name not in hub.repos, "shown alone"
    deploy = "python -m playground deploy space OWNER/NAME"
    done = reader.types(deploy, ("OWNER/NAME", name))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Uploaded " in done.stdout and "/healthz says: ok" in done.stdout
    assert hub.spaces[name].secrets == {"PLAYGROUND_SECRET": "s" * 32}
    reader.env["PLAYGROUND_SECRET"] = "t" * 32
    again = reader.types(deploy, ("OWNER/NAME", name))
    assert "Nothing changed" in again.stdout, "a secret that is there is not touched"
    renewed = reader.types("python -m playground deploy space OWNER/NAME --renew-secrets", ("OWNER/NAME", name))
    assert "Set secrets: PLAYGROUND_SECRET" in renewed.stdout
    assert hub.spaces[name].secrets == {"PLAYGROUND_SECRET": "t" * 32}
    told = "".join(each.stdout + each.stderr for each in (plan, done, renewed))
    assert "ssss" not in told and "tttt" not in told and os.environ["HF_TOKEN"] not in told


# -- looked up ------------------------------------------------------------------------------------------------------


def in_blocks(found: Page) -> set[str]:
    return set(found.commands) - set(found.spans)


@pytest.mark.parametrize("command", sorted(LOOKED_UP))
def test_all_names_of_a_command_that_is_not_typed_here_exist(command: str) -> None:
    look_up(command, whole=command in in_blocks(OPERATIONS_PAGE))


@pytest.mark.parametrize("command", API_PAGE.commands)
def test_all_names_of_the_commands_of_the_api_exist(command: str) -> None:
    look_up(command, whole=command in in_blocks(API_PAGE))


def test_every_command_is_typed_or_looked_up() -> None:
    told = set(OPERATIONS_PAGE.commands)
    assert told - RUN - LOOKED_UP == set(), "type it in a test, or add it to what is looked up"
    assert (RUN | LOOKED_UP) - told == set(), "the documentation has it no more"
    assert not RUN & LOOKED_UP


def test_blocks_that_are_no_commands_are_those_that_are_known() -> None:
    assert [next(iter(yaml.safe_load(block))) for block in OPERATIONS_PAGE.others] == ["app", "scrape_configs"]


@pytest.mark.parametrize(
    "wrong",
    ["space chekc", "python -m playground deploy space OWNER/NAME --dryrun", "make dmeo", "docker rum playground",
     "curl http://127.0.0.1:7860/ready", "pytest -m faults", "python ap.py", "--renew-secret", "--profile zero",
     "python -m playground bench load --visitor 5", "python -m playground history backup A B", "shutdown now",
     "docker exec playground python -m playground histroy", "docker run --env PLAYGROUND_HOST=a open-model-playground",
     "python -m playground prepare smollm --push-to OWNER/REPO"],
)  # fmt: skip
def test_a_name_that_there_is_not_is_found(wrong: str) -> None:
    with pytest.raises((AssertionError, KeyError, typer.TyperException)):
        look_up(wrong, whole=True)
