"""What whoever runs a server asks it: whether it lives, whether it can answer, and its figures."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from playground.api.operations import Operations
from playground.config.hosts import Hosts
from playground.config.settings import Settings, load_settings
from playground.errors import ConfigError
from playground.experiments.base import failure
from playground.messages import msg
from playground.records import Request
from playground.service import Playground
from playground.system import logs

pytestmark = pytest.mark.waits

MakeSettings = Callable[..., Settings]
KEY = "a-key-for-metrics-alone"


async def _app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["path"] == "/breaks":
        raise ValueError(scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"page"})


def get(app: Any, path: str, **headers: str) -> tuple[int, bytes]:
    """Status and body of a request, without a server."""
    said: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    sent = {"host": "127.0.0.1"} | headers
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        "server": ("127.0.0.1", 80),
        "scheme": "http",
    }
    asyncio.run(app(scope, receive, send))
    return said[0]["status"], b"".join(message.get("body", b"") for message in said)


def figures(app: Any, **headers: str) -> dict[tuple[str, ...], float]:
    """Each figure by its name and the values of its labels, by their names."""
    status, body = get(app, "/metrics", **headers)
    assert status == 200
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def operated(playground: Playground) -> Operations:
    return Operations(_app, playground, Hosts("127.0.0.1"))


@pytest.fixture
def playground(make_settings: MakeSettings) -> Iterator[Playground]:
    with Playground(make_settings()) as opened:
        yield opened


def test_it_is_alive_while_its_models_are_still_prepared_and_ready_when_all_are(make_settings: MakeSettings) -> None:
    settings = make_settings()
    names = ("fast", "slow-to-prepare")
    with Playground(Settings(**{**vars(settings), "models": names})) as playground:
        app = operated(playground)
        assert get(app, "/healthz") == (200, b'{"status":"ok"}')
        status, body = get(app, "/readyz", host="10.1.2.3")  # a container's probe knows an address alone
        told = json.loads(body)
        assert status == 503 and not told["ready"]
        assert [(each["model"], each["status"]) for each in told["models"]] == [
            ("fast@fake-none", "ready"),
            ("slow-to-prepare@fake-none", "missing"),
        ]
        playground.prepare(playground.default_variants()[1], lambda step, share: None)
        assert get(app, "/readyz")[0] == 200
        playground.ending = True
        status, body = get(app, "/readyz")
        assert status == 503 and json.loads(body)["ending"]
        assert get(app, "/healthz")[0] == 200


def test_a_served_model_that_can_not_be_prepared_is_named(make_settings: MakeSettings) -> None:
    with Playground(Settings(**{**vars(make_settings()), "models": ("fails-to-prepare",)})) as playground:
        app = operated(playground)
        with pytest.raises(Exception, match=r"\w"):
            playground.prepare(playground.default_variants()[0], lambda step, share: None)
        status, body = get(app, "/readyz")
        assert status == 503 and json.loads(body)["models"][0]["status"] == "failed"
        assert figures(app)["playground_preparations_total", "failed"] == 1


def test_runs_are_counted_by_model_and_end_and_what_a_visitor_writes_is_no_label(playground: Playground) -> None:
    app = operated(playground)
    secret = "a word that only this visitor knows"
    (fast,), (dies,) = playground.variants(["fast"]), playground.variants(["dies"])
    playground.compare(Request(secret), [fast, dies]).result()
    get(app, f"/{secret.replace(' ', '-')}")
    get(app, "/gradio_api/heartbeat/abc")
    with pytest.raises(ValueError):
        get(app, "/breaks")
    playground.refused("waiting")
    found = figures(app)
    assert found["playground_runs_total", "stop", "fast"] == 1
    assert found["playground_runs_total", "error", "dies"] == 1
    assert found["playground_tokens_total", "answer", "fast"] > 3
    assert found["playground_first_token_seconds_count", "fast"] == 1
    assert found["playground_workers_lost_total", "died"] == 1
    assert found["playground_worker_starts_total",] == 2
    assert found["playground_queue_wait_seconds_count",] == 1
    assert found["playground_worker_memory_bytes", "fast"] > 1e6
    assert found["playground_http_requests_total", "other", "200"] == 1
    assert found["playground_http_requests_total", "other", "500"] == 1
    assert found["playground_http_requests_total", "heartbeat", "200"] == 1
    assert found["playground_refusals_total", "waiting"] == 1
    assert found["playground_disk_free_bytes",] > 0 and found["playground_database_bytes",] > 0
    assert not any("visitor" in part for name in found for part in name)


def test_a_flood_of_requests_is_one_look(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []
    readiness = playground.readiness

    def slowly() -> Any:
        looks.append(time.monotonic())
        time.sleep(0.2)
        return readiness()

    monkeypatch.setattr(playground, "readiness", slowly)
    app = operated(playground)
    said: list[int] = []

    async def send(message: dict[str, Any]) -> None:
        said.extend([message["status"]] if "status" in message else [])

    async def flood() -> None:
        scope = {"type": "http", "method": "GET", "path": "/readyz", "headers": []}
        asked = [asyncio.create_task(app(dict(scope), None, send)) for _ in range(50)]
        await asyncio.sleep(0.05)
        asked[0].cancel()  # who leaves takes the answer from nobody
        await asyncio.wait(asked)

    asyncio.run(flood())
    assert len(looks) == 1 and said == [200] * 49


def test_a_model_that_is_no_catalogues_is_counted_with_all_others(playground: Playground) -> None:
    metrics = playground.meter()
    assert metrics.model("fast") == "fast"
    assert metrics.model("path:/home/me/secret") == metrics.model("hub:a/b") == "other"


def test_metrics_need_a_key_where_strangers_come(make_settings: MakeSettings) -> None:
    for env, header, status in (
        ({"HOST": "0.0.0.0"}, "", 403),
        ({"HOST": "0.0.0.0", "PLAYGROUND_METRICS_KEY": KEY}, "", 401),
        ({"HOST": "0.0.0.0", "PLAYGROUND_METRICS_KEY": KEY}, "Bearer another", 401),
        ({"HOST": "0.0.0.0", "PLAYGROUND_METRICS_KEY": KEY}, f"Bearer {KEY}", 200),
        ({}, "", 200),
    ):
        with Playground(make_settings(**env)) as playground:
            assert get(operated(playground), "/metrics", authorization=header)[0] == status
            assert get(operated(playground), "/healthz")[0] == 200
    with Playground(make_settings()) as playground:  # a page of another site whose name was made to lead here
        assert get(operated(playground), "/metrics", host="evil.example")[0] == 403


@pytest.mark.parametrize(
    ("name", "value"),
    [("PLAYGROUND_METRICS_KEY", "short"), ("PLAYGROUND_LOG", "xml"), ("PLAYGROUND_KEEP_DAYS", "0")],
)
def test_a_wrong_setting_is_told_without_its_secret(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name) as told:
        load_settings({name: value})
    assert name != "PLAYGROUND_METRICS_KEY" or value not in str(told.value).replace("shorter", "")


def test_the_log_in_json_has_runs_by_id_and_never_what_was_asked_said_or_read(
    make_settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "xyzzy"
    with logs.written("json"):
        with Playground(make_settings()) as playground:
            job = playground.compare(Request(f"Say {secret}"), playground.variants(["fast", "dies"]))
            job.result()
        failure(ValueError(f"what holds {secret}"), msg("The comparison"))
        logging.getLogger("somebody.else").error("They print %s", secret)
        logging.getLogger("playground.x").error("ours says %s", secret, extra={"run": job.id, "prompt": secret})
        try:
            raise KeyError(secret)
        except KeyError:
            traceback.print_exc()
        print(secret, file=sys.stderr)
    print("text again", file=sys.stderr)
    written = capsys.readouterr().err
    assert secret not in written and "Paris" not in written and written.endswith("text again\n")
    lines = [json.loads(line) for line in written.splitlines()[:-1]]
    assert {"experiment begun", "experiment ended"} <= {
        line["message"] for line in lines if line.get("run") == job.id and "message" in line
    }
    assert [line["error"] for line in lines if "error" in line] == ["ValueError", "KeyError"]
    assert all(line["at"].endswith("Z") and line["level"] for line in lines)


def test_guesses_of_the_key_for_metrics_are_slowed_and_who_reads_them_is_not(make_settings: MakeSettings) -> None:
    settings = make_settings(PLAYGROUND_METRICS_KEY=KEY)
    limits = replace(settings.limits, max_wrong_passwords=2)
    with Playground(replace(settings, limits=limits)) as playground:
        app = operated(playground)
        assert get(app, "/metrics", authorization=f"Bearer {KEY}")[0] == 200
        assert [get(app, "/metrics", authorization=f"Bearer {n}")[0] for n in range(4)] == [401] * 2 + [429] * 2
        assert get(app, "/metrics", authorization=f"Bearer {KEY}")[0] == 200
        assert get(app, "/healthz")[0] == 200
