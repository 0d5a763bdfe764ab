"""The OpenAPI document is true, and no request that it allows or forbids finds a fault of ours."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from playground.api import openapi
from playground.api.schema import ChatBody, CompletionBody

EXAMPLES = 25


def test_every_parameter_is_in_the_document() -> None:
    schemas = openapi.document()["components"]["schemas"]
    for body in (ChatBody, CompletionBody):
        assert set(schemas[body.__name__]["properties"]) == set(body.model_fields)
        assert schemas[body.__name__]["additionalProperties"] is False


def test_the_page_needs_nobody_else_and_no_script() -> None:
    page = openapi.page()
    assert not re.search(r"<script|src=|https?://(?!json-schema)", page)
    for path in openapi.document()["paths"]:
        assert path in page


@pytest.mark.waits
def test_every_path_of_the_document_answers(web: httpx2.Client) -> None:
    paths = web.get("/v1/openapi.json").json()["paths"]
    for path, methods in paths.items():
        for method in methods:
            answer = web.request(method.upper(), path.replace("{name}", "fast").replace("{id}", "x"), json={})
            assert answer.status_code in ({200, 404} if method == "get" else {400}), path
    assert web.get("/v1/docs").headers["content-type"].startswith("text/html")
    assert web.get("/", follow_redirects=True).url.path == "/v1/docs"


@pytest.mark.waits
def test_no_made_up_request_finds_a_fault_of_ours(door: str, tmp_path: Path) -> None:
    """By schemathesis, bounded: right requests, wrong ones and broken ones; none is answered by a 5xx, each answer has
    a status and a shape of the document.
    """
    pytest.importorskip("schemathesis")
    document = json.loads(json.dumps(openapi.document()))
    for schema in document["components"]["schemas"].values():
        if "model" in schema.get("properties", ()):
            schema["properties"]["model"] = {"enum": ["base", "fast"]}  # or all would be about models there are none of
    (tmp_path / "door.json").write_text(json.dumps(document))
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = [sys.executable, "-m", "schemathesis.cli", "run", "door.json", f"--url={door}", f"--checks={checks}"]
    command += [f"--max-examples={EXAMPLES}", "--phases=examples,coverage,fuzzing", "--seed=11", "--max-time=20"]
    command += ["--request-timeout=20", "--generation-database=none", "--no-color", "--warnings=off"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Tested: 10" in re.sub(r" +", " ", done.stdout), done.stdout
