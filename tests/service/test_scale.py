"""One suite, many servers: the same cells whoever answers, none lost with a server, none ranked."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from playground.records import Column, Request
from playground.service import Playground
from tests.support.replica_server import replicas, turned

pytestmark = pytest.mark.waits

PROMPTS = [f"prompt number {place} of many" for place in range(18)]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_a_server_killed_in_the_middle_of_a_suite_loses_no_cell(make_settings: Any, tmp_path: Path) -> None:
    with replicas(tmp_path, 3, delay=0.3) as servers:
        remote = {"name": "x", "model": "paced", "url": servers[0].url, "replicas": [each.url for each in servers[1:]]}
        with Playground(make_settings(PLAYGROUND_REMOTES=json.dumps([remote]))) as playground:
            suite = playground.read_suite("\n".join(PROMPTS), "prompts.txt")
            column = Column(playground.variants(["remote:x"])[0], Request(max_new_tokens=16))
            threading.Timer(0.8, servers[2].kill).start()
            run = playground.begin_suite(suite, [column]).result()
            cells = list(playground.suite_cells_in_order(run.id))
            summary = playground.suite_summary(run.id)
        finished = [prompt for server in servers for prompt in server.answered]
    assert run.status == "done"
    assert [(cell.row, cell.column, cell.sample) for cell in cells] == [(row, 0, 0) for row in range(18)]
    assert [cell.run.text.strip() for cell in cells] == list(map(turned, PROMPTS))
    assert sum(any("Asked again" in warning for warning in cell.run.warnings) for cell in cells) >= 1
    assert set(finished) == set(PROMPTS) and len(finished) <= 19, "one answer may have been finished and not heard"
    assert {cell.run.timings.mode for cell in cells} == {"fast"} and summary.columns[0].shared


def test_a_suite_that_is_stopped_is_gone_on_with_by_the_servers_that_are_left(
    make_settings: Any, tmp_path: Path
) -> None:
    with replicas(tmp_path, 2, delay=0.3) as servers:
        remote = {"name": "x", "model": "paced", "url": servers[0].url, "replicas": [servers[1].url]}
        with Playground(make_settings(PLAYGROUND_REMOTES=json.dumps([remote]))) as playground:
            suite = playground.read_suite("\n".join(PROMPTS), "prompts.txt")
            job = playground.begin_suite(suite, [Column(playground.variants(["remote:x"])[0], Request())])
            assert not job.wait(1.0)
            job.stop()
            assert job.wait(2.0)
            before = len(playground.suite_cells(job.id).cells)
            assert 0 < before < 18
            servers[0].kill()
            assert playground.resume_suite(job.id).result().status == "done"
            cells = list(playground.suite_cells_in_order(job.id))
    assert [cell.run.text.strip() for cell in cells] == list(map(turned, PROMPTS))
