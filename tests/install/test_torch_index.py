"""Which torch an install takes: PyTorch's CPU build on Linux without a GPU, and whatever stands against it.

Two package indexes on loopback play PyTorch's CPU index and pip's usual one. Their torch is an empty wheel.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest

from playground.paths import ROOT
from scripts import torch_index
from scripts.torch_index import Choice, Wanted, choose, has_nvidia, parse_arguments, parse_config, wanted

CPU, PLAIN = "2.13.0+cpu", "2.13.0"


def wheel(name: str, version: str) -> tuple[str, bytes]:
    """An installable wheel without content: its file name and its bytes."""
    info, content = f"{name}-{version}.dist-info", BytesIO()
    members = {
        f"{name}.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{member},,\n" for member in (*members, f"{info}/RECORD"))
    with zipfile.ZipFile(content, "w") as archive:
        for member, text in {**members, f"{info}/RECORD": record}.items():
            archive.writestr(member, text)
    return f"{name}-{version}-py3-none-any.whl", content.getvalue()


@dataclass
class Index:
    """A package index on loopback: what it offers, how it behaves, and what it was asked."""

    wheels: dict[str, bytes]
    status: int = 200
    login: bool = False
    broken: bool = False
    delay_s: float = 0.0
    url: str = ""
    asked: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def page(self, project: str) -> bytes | None:
        if self.login:
            return b"<!DOCTYPE html><html><body>Sign in to this network</body></html>"
        links = [
            f'<a href="/files/{name.replace("+", "%2B")}#sha256={hashlib.sha256(content).hexdigest()}">{name}</a>'
            for name, content in self.wheels.items()
            if name.startswith(f"{project}-")
        ]
        return f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode() if links else None


@contextmanager
def serving(index: Index) -> Iterator[Index]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.asked.append(self.path)
            index.closing.wait(index.delay_s)
            if index.broken:
                self.wfile.write(b"SSH-2.0-server\r\n")
                return
            kind, name = self.path.strip("/").split("/")[-2:]
            body = index.wheels.get(name.replace("%2B", "+")) if kind == "files" else index.page(name)
            self.send_response(index.status if body is not None else 404)
            self.send_header("Content-Type", "application/octet-stream" if kind == "files" else "text/html")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    index.url = f"http://127.0.0.1:{server.server_port}/simple"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield index
    finally:
        index.closing.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def cpu_index() -> Iterator[Index]:
    with serving(Index(dict([wheel("torch", CPU)]))) as index:
        yield index


@pytest.fixture
def want(cpu_index: Index) -> Wanted:
    return Wanted(cpu_index.url, "torch==2.13.0")


def chosen(want: Wanted, torch: str = "auto", *, system: str = "linux", gpu: bool = False, **pip: str) -> Choice:
    return choose(torch, want, {name.replace("_", "-"): value for name, value in pip.items()}, system=system, gpu=gpu)


def test_linux_without_a_gpu_takes_the_cpu_index_for_torch_alone(want: Wanted) -> None:
    choice = chosen(want)
    assert choice.arguments == ("--no-deps", "--index-url", want.index, "torch==2.13.0")
    assert want.index in choice.why
    assert "TORCH=default" in choice.why


@pytest.mark.alone
def test_an_index_that_is_silent_for_three_seconds_is_given_up(cpu_index: Index, want: Wanted) -> None:
    cpu_index.delay_s = 30
    before = time.monotonic()
    choice = chosen(want)
    assert 2.5 < time.monotonic() - before < 5
    assert choice.arguments == ()
    assert "did not answer in 3 s" in choice.why
    assert "several GB" in choice.why


@pytest.mark.alone
def test_an_index_that_refuses_is_given_up_at_once(want: Wanted) -> None:
    nobody = Wanted("http://127.0.0.1:9/simple", want.torch)
    before = time.monotonic()
    choice = chosen(nobody)
    assert time.monotonic() - before < 2
    assert choice.arguments == ()
    assert "can't be reached" in choice.why


def test_an_index_that_answers_with_an_error_is_given_up(cpu_index: Index, want: Wanted) -> None:
    cpu_index.status = 503
    choice = chosen(want)
    assert choice.arguments == ()
    assert "answers with status 503" in choice.why


def test_a_page_that_does_not_offer_torch_is_no_index(cpu_index: Index, want: Wanted) -> None:
    cpu_index.login = True
    choice = chosen(want)
    assert choice.arguments == ()
    assert "does not offer torch" in choice.why


def test_an_answer_that_is_no_http_is_told_as_that(
    cpu_index: Index, want: Wanted, capfd: pytest.CaptureFixture[str]
) -> None:
    cpu_index.broken = True
    choice = chosen(want)
    assert choice.arguments == ()
    assert "gives no answer of HTTP (BadStatusLine)" in choice.why
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [("index_url", "http://mirror/simple"), ("extra_index_url", "http://mirror/simple"), ("no_index", "true")],
)
def test_where_pip_has_an_index_of_its_own_no_other_is_asked(
    cpu_index: Index, want: Wanted, name: str, value: str
) -> None:
    choice = chosen(want, **{name: value})
    assert choice.arguments == ()
    assert name.replace("_", "-") in choice.why
    assert "mirror/simple" not in choice.why, "an address may hold a password"
    assert cpu_index.asked == []


@pytest.mark.parametrize("pip", [{"index_url": "https://pypi.org/simple/"}, {"no_index": "0"}, {"index_url": ""}])
def test_the_usual_index_by_name_is_no_index_of_its_own(want: Wanted, pip: dict[str, str]) -> None:
    assert chosen(want, **pip).arguments


def test_with_an_nvidia_gpu_pip_chooses_unless_told_otherwise(cpu_index: Index, want: Wanted) -> None:
    choice = chosen(want, gpu=True)
    assert choice.arguments == ()
    assert "NVIDIA GPU" in choice.why
    assert "TORCH=cpu" in choice.why
    assert cpu_index.asked == []
    assert chosen(want, "cpu", gpu=True).arguments


def test_a_system_other_than_linux_takes_pips_build(cpu_index: Index, want: Wanted) -> None:
    assert chosen(want, system="darwin").arguments == ()
    assert cpu_index.asked == []


def test_torch_default_keeps_pips_build(cpu_index: Index, want: Wanted) -> None:
    choice = chosen(want, "default")
    assert choice.arguments == ()
    assert "TORCH=default" in choice.why
    assert cpu_index.asked == []


def test_a_proxy_of_pips_settings_is_used(cpu_index: Index) -> None:
    proxy = cpu_index.url.removesuffix("/simple")
    assert chosen(Wanted("http://pytorch.invalid/simple", "torch==2.13.0"), proxy=proxy).arguments
    assert cpu_index.asked == ["http://pytorch.invalid/simple/torch/"]


def test_a_gpu_is_told_by_its_driver_or_its_device(tmp_path: Path) -> None:
    assert not has_nvidia(str(tmp_path), tmp_path)
    (tmp_path / "nvidia0").touch()
    assert has_nvidia(str(tmp_path), tmp_path)
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.touch(0o755)
    assert has_nvidia(str(tool.parent), tmp_path / "bin")


def test_pips_configuration_is_read_as_pip_prints_it() -> None:
    printed = ":env:.proxy='http://p:1'\nglobal.index-url='https://m/simple'\nfreeze.no-index='1'\nWARNING: odd\n"
    assert parse_config(printed) == {"index-url": "https://m/simple", "proxy": "http://p:1"}


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (["--index-url", "u"], {"index-url": "u"}),
        (["--index-url=u"], {"index-url": "u"}),
        (["-i", "u"], {"index-url": "u"}),
        (["-iu"], {"index-url": "u"}),
        (["-qi", "u"], {"index-url": "u"}),
        (["-qqiu"], {"index-url": "u"}),
        (["-rinstall.txt"], {}),
        (["--extra-index", "u", "--retries", "9"], {"extra-index-url": "u"}),
        (["--no-index", "--find-links", "f"], {"no-index": "1"}),
        (["--proxy", "http://p:1", "--no-input"], {"proxy": "http://p:1"}),
        (["--timeout", "3"], {}),
    ],
)
def test_pips_arguments_are_read_as_pip_reads_them(arguments: list[str], settings: dict[str, str]) -> None:
    assert {name: value for name, value in parse_arguments(arguments).items() if value} == settings


def test_the_pinned_version_and_the_address_come_from_the_file_that_a_space_reads() -> None:
    want = wanted(ROOT / "pre-requirements.txt")
    assert want.index == "https://download.pytorch.org/whl/cpu"
    assert want.torch in (ROOT / "requirements.txt").read_text().splitlines()


@pytest.mark.waits
def test_pip_takes_torch_from_the_cpu_index_and_all_else_from_its_own(cpu_index: Index, tmp_path: Path) -> None:
    usual = Index(dict([wheel("torch", PLAIN), wheel("six", "1.17.0")]))
    (tmp_path / "requirements.txt").write_text("six==1.17.0\ntorch==2.13.0\n")
    with serving(usual):
        python = environment(tmp_path / "cpu")
        first = chosen(Wanted(cpu_index.url, "torch==2.13.0")).arguments
        pip(python, *first)
        pip(python, "--index-url", usual.url, "-r", str(tmp_path / "requirements.txt"))
        assert version(python) == CPU
        assert not [path for path in usual.asked if "torch" in path], "what is installed is not looked for again"
        assert not [path for path in cpu_index.asked if "six" in path]

        python = environment(tmp_path / "default")
        pip(python, "--index-url", usual.url, "-r", str(tmp_path / "requirements.txt"))
        assert version(python) == PLAIN


def environment(folder: Path) -> Path:
    """An environment without a pip of its own: this one's installs into it."""
    venv.create(folder, with_pip=False)
    return folder / "bin" / "python"


def pip(python: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--python", str(python), "--isolated", "install", "--quiet"]
    options = ["--disable-pip-version-check", "--no-cache-dir", *arguments]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, check=False, env={"PIP_CONFIG_FILE": "/dev/null"}
    )
    assert done.returncode == 0, done.stderr


def version(python: Path) -> str:
    code = "import torch; print(torch.__version__)"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_the_script_prints_arguments_for_pip_and_one_line_for_people(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["torch_index.py", "--torch", "default", "--timeout", "3"])
    assert torch_index.main() == 0
    printed = capsys.readouterr()
    assert printed.out == "\n"
    assert printed.err.startswith("torch: ")
    assert printed.err.count("\n") == 1
