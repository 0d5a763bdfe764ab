"""A small Hub on loopback for the real huggingface_hub client: real HTTP, tiny repositories made on the fly.

It plays what the client asks of the Hub for models: information (with revision and ``expand``), the tree, paths-info,
``resolve`` by HEAD and GET with ranges, weights behind a redirect to another host name (as the Hub's CDN is), gated,
private, missing and renamed repositories with the Hub's status codes and ``X-Error-Code``s; and faults on demand.
What is written, and Spaces: hub_writes.py.

    def test_something(hub: Hub) -> None:
        hub.add("someone/tiny", tiny_llama())
        hub.add("someone/locked", tiny_llama(), gated="manual")          # READER's token opens it
        hub.rename("someone/old-name", "someone/tiny")
        hub.fail(r"/resolve/.*safetensors", status=503, times=2)
        hub.drop(r"model.safetensors", after=10_000)                     # once; a Range request carries on
        hub.corrupt("someone/tiny", "model.safetensors", times=1)        # other bytes of the same length
        ...
        assert hub.seen("GET", r"model.safetensors")[-1].headers["range"] == "bytes=10000-"
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tests.support.hub_repos import Repo, etag, file_entry, is_lfs, model_info, tiny_llama, tree_entries
from tests.support.hub_writes import WRITER, Answer, Space, Writes

__all__ = ["READER", "STRANGER", "WRITER", "Hub", "Repo", "Space", "hub", "tiny_llama", "use", "wait_for"]

READER = "hf_readerreaderreader"
"""A token whose owner may read gated and private repositories."""
STRANGER = "hf_strangerstranger"
"""A valid token without access to them."""


@dataclass
class Seen:
    """One request that came."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class _Fault:
    pattern: str
    times: int
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    after: int | None = None
    stall_s: float = 0.0
    slow_s: float = 0.0


class Hub:
    """The server. ``url`` is what HF_ENDPOINT must be."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.renamed: dict[str, str] = {}
        self.requests: list[Seen] = []
        self.spaces: dict[str, Space] = {}
        self.paid: set[str] = set()
        self.space_host = ""
        self.writes = Writes(self)
        self.closing = threading.Event()
        self._faults: list[_Fault] = []
        self._corrupt: dict[str, tuple[bytes, int]] = {}
        self._lock = threading.Lock()
        hub = self

        class Bound(_Handler):
            server_hub = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def add(
        self,
        name: str,
        files: dict[str, bytes],
        *,
        gated: str | bool = False,
        private: bool = False,
        info: dict[str, Any] | None = None,
    ) -> Repo:
        """A repository with one commit. ``info`` is laid over what the API tells (tags, cardData, …)."""
        repo = Repo(name, {}, gated, private, info or {})
        repo.commit(files)
        self.repos[name] = repo
        return repo

    def rename(self, old: str, new: str) -> None:
        """Whoever asks for ``old`` is redirected to ``new``."""
        self.renamed[old] = new

    def fail(self, pattern: str, status: int, times: int = 1_000_000, **headers: str) -> None:
        """Answer ``times`` requests whose path matches with this status (underscores in header names become dashes)."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._faults.append(_Fault(pattern, times, status=status, headers=named))

    def drop(self, pattern: str, after: int, times: int = 1) -> None:
        """Close the connection after so many bytes of the answer to a GET."""
        self._faults.append(_Fault(pattern, times, after=after))

    def stall(self, pattern: str, after: int = 0, seconds: float = 60.0, times: int = 1_000_000) -> None:
        """Send nothing more after so many bytes of the answer to a GET, for so long or until the server is closed."""
        self._faults.append(_Fault(pattern, times, after=after, stall_s=seconds))

    def slow(self, pattern: str, seconds: float) -> None:
        """Wait so long before each 16 KiB of the answer to a GET."""
        self._faults.append(_Fault(pattern, 1_000_000, slow_s=seconds))

    def mend(self) -> None:
        """Forget all faults."""
        self._faults.clear()
        self._corrupt.clear()

    def corrupt(self, name: str, path: str, times: int = 1_000_000) -> None:
        """Serve other bytes of the same length for this file, so many times."""
        content = self.repos[name].commits[self.repos[name].sha][path]
        self._corrupt[etag(path, content)] = (bytes(byte ^ 0xFF for byte in content), times)

    def seen(self, method: str, pattern: str) -> list[Seen]:
        """Requests whose path matches, in order."""
        return [each for each in self.requests if each.method == method and re.search(pattern, each.path)]

    def close(self) -> None:
        if not self.closing.is_set():
            self.closing.set()
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(5)

    def fault(self, path: str, wanted: str) -> _Fault | None:
        """The first fault that applies, counted down. ``wanted``: status, body or slow."""
        with self._lock:
            for fault in self._faults:
                kind = "status" if fault.status else "slow" if fault.slow_s else "body"
                if kind == wanted and fault.times > 0 and re.search(fault.pattern, path):
                    fault.times -= 1
                    return fault
        return None

    def bytes_of(self, tag: str, content: bytes) -> bytes:
        with self._lock:
            wrong, times = self._corrupt.get(tag, (b"", 0))
            if not times:
                return content
            self._corrupt[tag] = (wrong, times - 1)
            return wrong


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, parts = self.server_hub, urlsplit(self.path)
        path, query = unquote(parts.path), parse_qs(parts.query)
        body = self._read_body()
        hub.requests.append(Seen(self.command, path, {name.lower(): value for name, value in self.headers.items()}))
        if fault := hub.fault(path, "status"):
            return self._error(fault.status, "", f"fault {fault.status}", fault.headers)
        if path == "/api/whoami-v2":
            return self._whoami()
        if written := hub.writes.answer(self.command, path, body, self._token()):
            return self._written(written)
        if path.startswith("/cdn/"):
            return self._cdn(path)
        if match := re.fullmatch(r"/api/(?:models|spaces)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/(.+))?", path):
            return self._api(match[1], match[2], match[3], query, body)
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._resolve(match[1], match[2], match[3])
        return self._error(404, "", "Sorry, we can't find the page you are looking for.")

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _written(self, answer: Answer) -> None:
        if answer.events is not None:
            content = "".join(f"data: {event}\n\n" for event in answer.events).encode()
            self._start(200, {"Content-Type": "text/event-stream", "Content-Length": str(len(content))})
            self._send(content)
        elif answer.status == 200:
            self._json(answer.document)
        elif answer.status == 409:
            self._json(answer.document, 409)
        else:
            self._error(answer.status, answer.code, answer.document["error"])

    def _token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ").strip()

    def _whoami(self) -> None:
        names = {READER: "reader", STRANGER: "stranger", WRITER: "writer"}
        if self._token() not in names:
            return self._error(401, "", "Invalid credentials in Authorization header")
        return self._json({"type": "user", "name": names[self._token()], "auth": {"type": "access_token"}})

    def _repo(self, name: str, content: bool) -> Repo | None:
        """The repository, or None after the refusal was sent. ``content``: files are asked for, not only facts."""
        hub, token = self.server_hub, self._token()
        if token and token not in (READER, STRANGER, WRITER):
            self._error(401, "", "Invalid credentials in Authorization header")
            return None
        if name in hub.renamed:
            self._redirect(self.path.replace(name, hub.renamed[name], 1), 307)
            return None
        repo = hub.repos.get(name)
        if repo is None or (repo.private and token not in (READER, WRITER)):
            # The real Hub does not tell a stranger whether a private repository exists.
            self._error(404 if token else 401, "RepoNotFound", "Repository not found")
            return None
        if content and repo.gated and token not in (READER, WRITER):
            why = f"Access to model {name} is restricted."
            self._error(403 if token else 401, "GatedRepo", why)
            return None
        return repo

    def _api(self, name: str, what: str | None, rest: str | None, query: dict[str, list[str]], body: bytes) -> None:
        repo = self._repo(name, content=False)
        if repo is None:
            return None
        revision, _, folder = (rest or "main").partition("/") if what != "revision" else (rest or "main", "", "")
        sha = repo.resolve(revision)
        if sha is None:
            return self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files = repo.commits[sha]
        if what == "tree":
            inside = {path: files[path] for path in files if not folder or path.startswith(folder + "/")}
            return self._json(tree_entries(inside, folder, query.get("recursive", [""])[0].lower() in ("true", "1")))
        if what == "paths-info":
            wanted = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode())["paths"]
            return self._json([file_entry(path, files[path]) for path in wanted if path in files])
        return self._json(model_info(repo, sha, query))

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repo = self._repo(name, content=True)
        if repo is None:
            return None
        sha = repo.resolve(revision)
        if sha is None:
            return self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        content = repo.commits[sha].get(path)
        if content is None:
            return self._error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": sha})
        tag = etag(path, content)
        if not is_lfs(path):
            if self.command == "GET":  # who asks for the head alone gets no bytes, wrong ones neither
                content = self.server_hub.bytes_of(tag, content)
            return self._bytes(content, {"ETag": f'"{tag}"', "X-Repo-Commit": sha})
        linked = {"X-Repo-Commit": sha, "X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{tag}"'}
        # By another name the same server is another host: the token must not follow there.
        place = f"http://localhost:{self.server_hub.port}/cdn/{repo.name}/{sha}/{path}"
        return self._redirect(place, 302, linked)

    def _cdn(self, path: str) -> None:
        owner, name, sha, file = path.removeprefix("/cdn/").split("/", 3)
        content = self.server_hub.repos[f"{owner}/{name}"].commits[sha][file]
        tag = etag(file, content)
        return self._bytes(self.server_hub.bytes_of(tag, content), {"ETag": f'"{tag}"'})

    def _bytes(self, content: bytes, headers: dict[str, str]) -> None:
        start, status = 0, 200
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            start, status = int(match[1]), 206
            if start >= len(content):
                return self._error(416, "", "Range not satisfiable", {"Content-Range": f"bytes */{len(content)}"})
            headers = {**headers, "Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        self._start(status, {**headers, "Accept-Ranges": "bytes", "Content-Length": str(len(content) - start)})
        if self.command != "HEAD":
            self._body(content[start:])
        return None

    def _body(self, content: bytes) -> None:
        hub = self.server_hub
        path = unquote(urlsplit(self.path).path)
        fault, slow = hub.fault(path, "body"), hub.fault(path, "slow")
        end = len(content) if fault is None or fault.after is None else min(fault.after, len(content))
        for start in range(0, end, 1 << 14):
            if slow and hub.closing.wait(slow.slow_s):
                break
            if not self._send(content[start : min(start + (1 << 14), end)]):
                return
        if fault is not None:
            if fault.stall_s:
                hub.closing.wait(fault.stall_s)
            self.close_connection = True

    def _send(self, piece: bytes) -> bool:
        try:
            self.wfile.write(piece)
            self.wfile.flush()
        except OSError:  # the client went away, as in tests of stopping
            self.close_connection = True
            return False
        return True

    def _json(self, document: Any, status: int = 200) -> None:
        content = json.dumps(document).encode()
        self._start(status, {"Content-Type": "application/json", "Content-Length": str(len(content))})
        if self.command != "HEAD":
            self._send(content)

    def _redirect(self, place: str, status: int, headers: dict[str, str] | None = None) -> None:
        self._start(status, {**(headers or {}), "Location": place, "Content-Length": "0"})

    def _error(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        content = json.dumps({"error": message}).encode()
        coded = {"X-Error-Code": code, "X-Error-Message": message} if code else {"X-Error-Message": message}
        kind = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        self._start(status, {**coded, **kind, **(headers or {})})
        if self.command != "HEAD":
            self._send(content)

    def _start(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("X-Request-Id", "loopback")
        self.end_headers()


def use(hub: Hub, home: Path, patch: pytest.MonkeyPatch) -> None:
    """Point huggingface_hub, in this process and in children, at ``hub``, with a cache under ``home`` and no token."""
    from huggingface_hub import constants

    cache = home / "hub"
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_ETAG_TIMEOUT": "2"}
    environment |= {"HF_HUB_DOWNLOAD_TIMEOUT": "2", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1,localhost"}
    for name, value in environment.items():
        patch.setenv(name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE"):
        patch.delenv(name, raising=False)
    # The library read its environment when it was first imported, perhaps by an earlier test.
    known = {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(cache),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_OFFLINE": False,
        "HF_HUB_ETAG_TIMEOUT": 2,
        "HF_HUB_DOWNLOAD_TIMEOUT": 2,
    }
    for name, value in known.items():
        patch.setattr(constants, name, value)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A running server that huggingface_hub uses. A conftest.py that imports it gives it to the tests below."""
    server = Hub()
    use(server, tmp_path / "hf", monkeypatch)
    yield server
    server.close()


def wait_for(true: Any, seconds: float = 10.0) -> None:
    """Wait until ``true()`` is."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
