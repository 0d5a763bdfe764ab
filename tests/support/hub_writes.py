"""What the small Hub (hub_server.py) does when something is written to it: repositories made, files committed by git
and by LFS; and Spaces with variables, secrets, hardware, stages and logs. WRITER's token may; others are refused.

    hub.spaces["owner/name"] = Space(after_commit=["BUILDING", "RUNNING"])   one each time it is asked; the last stays
    hub.space_host = "http://127.0.0.1:…"                                    where apps answer
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.support.hub_repos import Repo, etag, is_lfs

if TYPE_CHECKING:
    from tests.support.hub_server import Hub

WRITER = "hf_writerwriterwriter"
"""A token whose owner may write to every repository."""


@dataclass
class Space:
    """The running side of a Space. ``stages`` are told one by one, the last again and again; a commit begins those of
    ``after_commit``. ``sha`` is the commit that runs.
    """

    stages: list[str] = field(default_factory=lambda: ["NO_APP_FILE"])
    after_commit: list[str] = field(default_factory=lambda: ["NO_APP_FILE", "BUILDING", "APP_STARTING", "RUNNING"])
    hardware: str = "cpu-basic"
    variables: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    logs: dict[str, list[str]] = field(default_factory=dict)
    error: str = ""
    sha: str = ""
    tells_sha: bool = True

    def runtime(self, newest: str) -> dict[str, Any]:
        stage = self.stages.pop(0) if len(self.stages) > 1 else self.stages[0]
        if stage == "RUNNING" and len(self.stages) == 1:
            self.sha = newest
        told: dict[str, Any] = {"stage": stage, "hardware": {"current": self.hardware, "requested": self.hardware}}
        if self.tells_sha:
            told["sha"] = self.sha
        if self.error:
            told["errorMessage"] = self.error
        return told | {"storage": None, "gcTimeout": 172800, "devMode": False, "domains": []}


@dataclass
class Answer:
    """What a route says: JSON, or a refusal with its code, or events."""

    document: Any = None
    status: int = 200
    code: str = ""
    events: list[str] | None = None


class Writes:
    """The routes. One for each server."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.objects: dict[str, bytes] = {}

    def answer(self, method: str, path: str, body: bytes, token: str) -> Answer | None:
        """None where the path is none of these routes."""
        if path == "/api/validate-yaml":
            return Answer({"errors": [], "warnings": []})
        if match := re.fullmatch(r"/lfs-object/([0-9a-f]{64})", path):
            return self._store(match[1], body)
        routes = {
            r"/api/repos/create": lambda match: self._create(json.loads(body)),
            r"/api/(models|spaces)/([^/]+/[^/]+)/preupload/main": lambda match: self._modes(match[2], json.loads(body)),
            r"/api/(models|spaces)/([^/]+/[^/]+)/commit/main": lambda match: self._commit(match[2], body),
            r"/(?:spaces/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch": lambda match: self._batch(json.loads(body)),
            r"/api/spaces/([^/]+/[^/]+)/(runtime|variables|secrets|hardware)": lambda match: self._space(
                method, match[1], match[2], json.loads(body) if body else {}
            ),
            r"/api/spaces/([^/]+/[^/]+)/logs/(run|build)": lambda match: self._logs(match[1], match[2]),
        }
        for pattern, route in routes.items():
            if match := re.fullmatch(pattern, path):
                if token != WRITER:
                    what = "Invalid username or password." if not token else "You don't have the rights to write here."
                    return Answer({"error": what}, 403 if token else 401)
                return route(match)
        return None

    def _create(self, wanted: dict[str, Any]) -> Answer:
        name = f"{wanted['organization'] or 'writer'}/{wanted['name']}"
        kind = wanted.get("type") or "model"
        url = f"{self.hub.url}/{'spaces/' if kind == 'space' else ''}{name}"
        if name in self.hub.repos:
            return Answer({"error": "You already created this repo", "url": url}, 409)
        repo = Repo(name, {}, private=wanted.get("visibility") == "private", kind=kind)
        repo.commit({".gitattributes": b"*.onnx filter=lfs\n"})
        self.hub.repos[name] = repo
        if kind == "space":
            self.hub.spaces.setdefault(name, Space())
            repo.info["host"] = self.hub.space_host
        return Answer({"url": url, "name": name, "id": name})

    def _modes(self, name: str, asked: dict[str, Any]) -> Answer:
        repo = self.hub.repos[name]
        files = repo.commits[repo.sha]
        told = []
        for file in asked["files"]:
            path = file["path"]
            oid = {"oid": etag(path, files[path])} if path in files else {}
            told.append({"path": path, "uploadMode": _mode(path), "shouldIgnore": False, **oid})
        return Answer({"files": told})

    def _batch(self, asked: dict[str, Any]) -> Answer:
        told = []
        for each in asked["objects"]:
            href = f"{self.hub.url}/lfs-object/{each['oid']}"
            new = {} if each["oid"] in self.objects else {"actions": {"upload": {"href": href}}}
            told.append({"oid": each["oid"], "size": each["size"], **new})
        return Answer({"transfer": "basic", "objects": told})

    def _store(self, oid: str, body: bytes) -> Answer:
        if hashlib.sha256(body).hexdigest() != oid:
            return Answer({"error": "The bytes are not of this checksum"}, 400)
        self.objects[oid] = body
        return Answer({})

    def _commit(self, name: str, body: bytes) -> Answer:
        repo = self.hub.repos[name]
        files = dict(repo.commits[repo.sha])
        for line in body.splitlines():
            item = json.loads(line)
            kind, value = item["key"], item["value"]
            if kind == "header":
                if value.get("parentCommit") not in (None, repo.sha):
                    return Answer({"error": "A commit has happened since. Please refresh and try again."}, 412)
            elif kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                if value["oid"] not in self.objects:
                    return Answer({"error": f"LFS pointer pointed to a file that does not exist: {value['path']}"}, 400)
                files[value["path"]] = self.objects[value["oid"]]
            else:
                files.pop(value["path"])
        sha = repo.commit(files)
        if space := self.hub.spaces.get(name):
            space.stages = list(space.after_commit)
        return Answer({"success": True, "commitOid": sha, "commitUrl": f"{self.hub.url}/{name}/commit/{sha}"})

    def _space(self, method: str, name: str, what: str, wanted: dict[str, Any]) -> Answer:
        if name not in self.hub.spaces:
            return Answer({"error": "Repository not found"}, 404, "RepoNotFound")
        space = self.hub.spaces[name]
        if what == "runtime":
            return Answer(space.runtime(self.hub.repos[name].sha))
        if what == "hardware":
            if wanted["flavor"] in self.hub.paid:
                return Answer({"error": "You must have a payment method on file."}, 402)
            space.hardware = wanted["flavor"]
            return Answer({"stage": space.stages[0], "hardware": {"current": space.hardware}})
        kept = space.variables if what == "variables" else space.secrets
        if method == "POST":
            kept[wanted["key"]] = wanted["value"]
        shown = {key: ({"value": value} if what == "variables" else {}) for key, value in kept.items()}
        return Answer({key: {"key": key, **value} for key, value in shown.items()})

    def _logs(self, name: str, kind: str) -> Answer:
        return Answer(events=[json.dumps({"data": line}) for line in self.hub.spaces[name].logs.get(kind, [])])


def _mode(path: str) -> str:
    return "lfs" if is_lfs(path) else "regular"
