"""One suite, many servers: the same cells whoever answers, none lost with a server, none ranked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from playground.paths import ROOT
from playground.records import Column, Request
from playground.service import Playground
from tests.support.replica_server import replicas, turned

pytestmark = pytest.mark.waits

PROMPTS = [f"prompt number {place} of many" for place in range(18)]

SLOW = "Let me think about this for quite a while before I say Paris."


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.fault
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


@pytest.mark.alone
def test_a_suite_that_is_stopped_is_gone_on_with_by_the_servers_that_are_left(
    make_settings: Any, tmp_path: Path
) -> None:
    with replicas(tmp_path, 2, delay=0.3) as servers:
        remote = {"name": "x", "model": "paced", "url": servers[0].url, "replicas": [servers[1].url]}
        with Playground(make_settings(PLAYGROUND_REMOTES=json.dumps([remote]))) as playground:
            suite = playground.read_suite("\n".join(PROMPTS), "prompts.txt")
            job = playground.begin_suite(suite, [Column(playground.variants(["remote:x"])[0], Request())])
            while not playground.suite_cells(job.id).cells:
                assert not job.wait(0.05)
            job.stop()
            assert job.wait(30)
            before = len(playground.suite_cells(job.id).cells)
            assert 0 < before < 18
            servers[0].kill()
            assert playground.resume_suite(job.id).result().status == "done"
            cells = list(playground.suite_cells_in_order(job.id))
    assert [cell.run.text.strip() for cell in cells] == list(map(turned, PROMPTS))


@contextmanager
def serving(settings: Any) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """This playground's own API, as another machine would run it."""
    named = {"HOME": settings.home, "SPACE": settings.space_file, "CATALOG": settings.catalog_file}
    env = {**os.environ, **{f"PLAYGROUND_{name}": str(value) for name, value in named.items()}}
    command = [sys.executable, "-m", "playground", "serve-api", "-m", "slow", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            found = re.search(r"http://\S+/v1", process.stdout.readline())
            assert found
            yield process, found[0]
        finally:
            process.kill()


def test_the_playgrounds_own_api_on_other_machines_shares_a_suite(make_settings: Any, tmp_path: Path) -> None:
    settings = [make_settings(PLAYGROUND_HOME=tmp_path / name) for name in ("one", "two")]
    with serving(settings[0]) as (_, one), serving(settings[1]) as (victim, two):
        remote = {"name": "ours", "model": "slow", "url": one, "replicas": [two], "timeout_s": 30}
        with Playground(make_settings(PLAYGROUND_REMOTES=json.dumps([remote]))) as playground:
            suite = playground.read_suite("\n".join(PROMPTS[:8]), "prompts.txt")
            job = playground.begin_suite(suite, [Column(playground.variants(["remote:ours"])[0], Request())])
            while len(playground.suite_cells(job.id).cells) < 2:
                assert not job.wait(0.05)
            victim.kill()
            assert job.result().status == "done"
            cells = list(playground.suite_cells_in_order(job.id))
    assert [cell.run.error for cell in cells] == [None] * 8
    assert {cell.run.text.strip() for cell in cells} == {SLOW}
    assert len({warning for cell in cells for warning in cell.run.warnings if "Answered by" in warning}) == 2
