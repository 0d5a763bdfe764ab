"""A visitor of a public app reads nothing that was written for its owner, whichever way it is asked: every route,
function and tool, while a place on the owner's disk stands in each error, warning, fallback, note and step.

The same is asked of an app of one's own, where the words stand as they were written: so it is known that they get
there.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gradio as gr
import httpx2
import pytest
from gradio.state_holder import SessionState
from starlette.requests import Request as StarletteRequest

from playground.api.operations import OPERATIONS
from playground.config.settings import load_settings
from playground.errors import ExportError, PlaygroundError
from playground.export import Preparation, fake, preparer
from playground.mcp.tools import TOOLS
from playground.messages import msg, sentences
from playground.records import Event, LoadSpec, ModelFacts, ModelRun, Request, Variant
from playground.results.export_files import MEDIA
from playground.results.figures import CHOICE, Measured, Measurement, figure
from playground.results.suite_export import SUITE_MEDIA
from playground.service import Playground
from playground.system.environment import environment
from playground.ui import files, middleware, suite_views, watching
from playground.ui.app import door_of, free_port, launch
from playground.ui.page import build_ui
from playground.ui.visitors import HEADER
from tests.conftest import DATA
from tests.support.web import routes_of

pytestmark = [pytest.mark.waits, pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'")]

FOLDER, NAME = "owners-disk", "tiny.onnx"
PLACE = f"/srv/{FOLDER}/models/{NAME}"
OWNERS = sentences(
    msg("{path} is damaged ({reason}).", path=PLACE, reason=f"[Errno 5] Input/output error: '{PLACE}'"),
    msg("See the log in PLAYGROUND_HOME."),
)
"""What was written for the owner."""
MODELS = ("fast", "fails", "base", "endless", "fails-to-prepare", "slow-to-prepare")
THREE = ["fast", "fails", "fails-to-prepare"]
VISITOR = "v" * 22
MEASURED_ID = "20260101-000000-" + "d" * 32
TABLE = "prompt,__expected\nCapital of France?,icontains:Paris\nAnd of Japan?,icontains:Tokyo\n"
LOADING_S = 0.8
"""Longer than an agent waits to be told of the next step."""


@dataclass
class App:
    """An app in this process that says what was written for its owner wherever it can.

    Attributes:
        comparison, suite: Ids of what was run and stored.
    """

    playground: Playground
    demo: Any
    door: Any
    web: httpx2.Client
    comparison: str = ""
    suite: str = ""


# -- what is planted ------------------------------------------------------------------------------------------------


def prepare(spec: Any, variant: Variant, home: Path, progress: Any, cancelled: Any) -> Any:
    """In place of the scripted preparation: a step, and for one model an error."""
    if spec.id != "fails-to-prepare":
        return fake.artifact(spec, variant, home)
    progress(OWNERS, 0.5)
    time.sleep(0.4)
    raise ExportError(OWNERS)


def broken(run: ModelRun) -> ModelRun:
    run = replace(run, warnings=(*run.warnings, OWNERS), fallbacks=(*run.fallbacks, OWNERS))
    return replace(run, error=OWNERS, finish_reason="error") if run.variant.model == "fails" else run


def plant(playground: Playground) -> None:
    """Put it into states, steps, prompts, answers and facts, below all that asks for them."""
    generate, inspect = playground.pool.generate, playground.pool.inspect
    state, facts = playground.preparer.state, playground._facts

    def generated(load: LoadSpec, request: Request, cancelled: Any) -> Iterator[Event]:
        yield Event(str(load.artifact.variant), "loading", text=OWNERS, at=time.monotonic())
        if load.spec.id == "base":
            time.sleep(LOADING_S)
        for event in generate(load, request, cancelled):
            yield replace(event, run=broken(event.run)) if event.run else event

    def stated(variant: Variant) -> Preparation:
        if variant.model == "slow-to-prepare":
            return Preparation("preparing", OWNERS, 0.5)
        found = state(variant)
        return replace(found, artifact=replace(found.artifact, notes=(OWNERS,))) if found.artifact else found

    def known(*given: Any) -> ModelFacts:
        found = facts(*given)
        return replace(found, license=replace(found.license, note=OWNERS))

    playground.pool.generate = generated  # type: ignore[method-assign]
    playground.pool.inspect = lambda *given: replace(inspect(*given), warnings=(OWNERS,))  # type: ignore[method-assign]
    playground.preparer.state = stated  # type: ignore[method-assign]
    playground._facts = known  # type: ignore[method-assign]


def variants(playground: Playground, *names: str) -> list[Variant]:
    return playground.variants(names)


def measurement(playground: Playground) -> Measurement:
    fast, fails = variants(playground, "fast", "fails")
    figures = {name: figure(name, quantity.unit, [1.0, 2.0]) for name, quantity in CHOICE.items()}
    measured = Measured(fast, "fake", "none", output_tokens=4, figures=figures, notes=(OWNERS,))
    asked = Request("Hi", max_new_tokens=4, min_new_tokens=4)
    models = (measured, Measured(fails, error=OWNERS))
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")  # an old one would be deleted
    return Measurement(MEASURED_ID, now, asked, 2, models, environment(), warnings=(OWNERS,))


@contextmanager
def opened(home: Path, audience: str) -> Iterator[App]:
    given = load_settings(
        {
            "PLAYGROUND_HOME": str(home),
            "PLAYGROUND_SPACE": str(DATA / "fake_space.yaml"),
            "PLAYGROUND_CATALOG": str(DATA / "fake_catalog.yaml"),
            "PLAYGROUND_THREADS": "1",
            "PLAYGROUND_AUDIENCE": audience,
            "PLAYGROUND_METRICS_KEY": "a-key-for-metrics-alone",
        }
    )
    unbounded = dict.fromkeys(
        (
            *("max_page_loads_per_minute", "max_reads_per_minute", "max_calls_per_minute", "max_tokens_per_day"),
            "max_run_s",
        )
    )
    limits = replace(given.limits, **unbounded, max_unfinished=99, max_unfinished_of_all=99)  # type: ignore[arg-type]
    settings = replace(given, models=MODELS, port=free_port("127.0.0.1", 0), limits=limits, api=True)
    url = f"http://127.0.0.1:{settings.port}"
    with Playground(settings) as playground, httpx2.Client(base_url=url, timeout=60, verify=False) as web:
        plant(playground)
        demo, door = build_ui(playground), door_of(playground)
        routes = [each for part in (files, watching, suite_views) for each in part.routes(playground)]
        launch(demo, settings, routes, door, playground)
        try:
            yield App(playground, demo, door, web)
        finally:
            playground.close()
            demo.close(verbose=False)


def run(app: App) -> None:
    """Have something of each kind stored."""
    playground = app.playground
    asked = Request("Hi", max_new_tokens=6)
    compared = playground.compare(asked, variants(playground, *THREE), owner=VISITOR).result()
    suite = playground.suite(TABLE, "table.csv", THREE, request=asked, owner=VISITOR).result()
    playground.store.save_measurement(measurement(playground))
    app.comparison, app.suite = compared.id, suite.id


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, App]]:
    """One for strangers and one's own."""
    folder = tmp_path_factory.mktemp("told")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fake, "prepare", prepare)
        patch.setattr(preparer, "REMEMBERED_S", 0.0)  # each who asks is told all that a preparation says
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.delenv("PLAYGROUND_LANGUAGE", raising=False)
        with opened(folder / "public", "public") as public, opened(folder / "own", "own") as own:
            run(public)
            run(own)
            yield {"public": public, "own": own}


# -- how it is asked ------------------------------------------------------------------------------------------------

Said = Iterable[tuple[str, str]]
"""What was asked, and what was said."""


def get(app: App, *paths: str) -> Said:
    return [(path, app.web.get(path).text) for path in paths]


def post(app: App, path: str, *bodies: dict[str, Any]) -> Said:
    return [(f"{path} {body}", app.web.post(path, json=body).text) for body in bodies]


def chat(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, **more}


def text(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "prompt": "Hi", "max_tokens": 4, **more}


def answers(app: App, path: str, body: Callable[..., dict[str, Any]]) -> Said:
    """With warnings and with errors, whole and as a stream."""
    return post(app, path, *(body(model, stream=stream) for model in THREE for stream in (False, True)))


def receipt(app: App) -> Said:
    answered = app.web.post("/v1/chat/completions", json=chat("fast")).json()
    return get(app, f"/v1/receipts/{answered['receipt']}")


def watched(app: App) -> Said:
    """A column that has failed, while another goes on."""
    playground = app.playground
    asked = Request("Hi", max_new_tokens=30)
    job = playground.compare(asked, variants(playground, "fails", "endless"), owner=VISITOR)
    said = ""
    try:
        with app.web.stream("GET", f"/watch/{job.id}") as stream:
            for line in stream.iter_lines():
                said += f"{line}\n"
                if "is-error" in line:
                    break
    finally:
        job.stop()
        job.result()
    return [("watched", said)]


def endpoint(app: App, name: str, *bodies: dict[str, Any]) -> Said:
    """An endpoint of gradio's API."""
    said = []
    for body in bodies:
        event = app.web.post(f"/gradio_api/call/v2/{name}", json=body).json()["event_id"]
        said.append((f"{name} {body}", app.web.get(f"/gradio_api/call/v2/{name}/{event}").text))
    return said


def tool(app: App, name: str, *, steps: bool = False, **arguments: Any) -> Said:
    """A tool for agents: its answer and, where there are words of the owner's, its steps."""
    mcp = pytest.importorskip("mcp", reason="the extra mcp is not installed")
    from playground.mcp.server import create_server

    heard: list[str] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message or "")

    async def work() -> Any:
        async with mcp.Client(create_server(app.playground)) as client:
            return await client.call_tool(name, arguments, progress_callback=on_progress)

    result = asyncio.run(work())
    structured = json.dumps(result.structured_content, ensure_ascii=False)
    said = [(f"{name} {arguments}", "".join(part.text for part in result.content)), (f"{name} as JSON", structured)]
    if result.is_error:
        said.pop()
    return [*said, (f"{name}: steps", "\n".join(heard))] if steps else said


ASKED: dict[str, Callable[[App], Said]] = {
    # The page and its files
    "GET /": lambda app: get(app, "/"),
    "GET /config": lambda app: get(app, "/config"),
    "GET /gradio_api/info": lambda app: get(app, "/gradio_api/info"),
    "GET /gradio_api/app_id": lambda app: get(app, "/gradio_api/app_id"),
    "GET /gradio_api/startup-events": lambda app: get(app, "/gradio_api/startup-events"),
    "GET /export/{id}.{ending}": lambda app: get(
        app,
        *(f"/export/{app.comparison}.{ending}" for ending in MEDIA),
        *(f"/export/{MEASURED_ID}.{ending}" for ending in MEDIA if ending != "comparator"),
    ),
    "GET /export/{id}/code": lambda app: get(app, f"/export/{app.comparison}/code"),
    "GET /export/suite/{id}.{ending}": lambda app: get(
        app, *(f"/export/suite/{app.suite}.{ending}" for ending in SUITE_MEDIA)
    ),
    "GET /suite/{id}/view": lambda app: get(app, f"/suite/{app.suite}/view"),
    "GET /suite/{id}/row/{row}": lambda app: get(app, f"/suite/{app.suite}/row/0"),
    "GET /watch/{id}": watched,
    # Gradio's API
    "endpoint /compare": lambda app: endpoint(app, "compare", {"prompt": "Hi", "models": THREE}),
    "endpoint /models": lambda app: endpoint(app, "models", {}),
    "endpoint /card": lambda app: endpoint(app, "card", {"model": "fast"}),
    "endpoint /inspect": lambda app: endpoint(
        app, "inspect", *({"model": model, "prompt": "Hi"} for model in ("fast", "fails-to-prepare"))
    ),
    # OpenAI's
    "GET /health": lambda app: get(app, "/health"),
    "GET /props": lambda app: get(app, "/props?model=fast", "/props?model=fails-to-prepare"),
    "GET /v1/models": lambda app: get(app, "/v1/models"),
    "GET /v1/models/{name:path}": lambda app: get(app, "/v1/models/fails-to-prepare", "/v1/models/none"),
    "GET /v1/openapi.json": lambda app: get(app, "/v1/openapi.json"),
    "GET /v1/docs": lambda app: get(app, "/v1/docs"),
    "GET /v1/receipts/{id}": receipt,
    "POST /v1/chat/completions": lambda app: answers(app, "/v1/chat/completions", chat),
    "POST /v1/completions": lambda app: answers(app, "/v1/completions", text),
    "POST /tokenize": lambda app: post(app, "/tokenize", {"model": "fails-to-prepare", "content": "Hi"}),
    "POST /detokenize": lambda app: post(app, "/detokenize", {"model": "fails-to-prepare", "tokens": [1]}),
    "POST /apply-template": lambda app: post(
        app,
        "/apply-template",
        *({"model": model, "messages": [{"role": "user", "content": "Hi"}]} for model in ("fast", "fails-to-prepare")),
    ),
    # Probes
    "GET /healthz": lambda app: get(app, "/healthz"),
    "GET /readyz": lambda app: get(app, "/readyz"),
    "GET /metrics": lambda app: get(app, "/metrics"),
    # Tools for agents
    "tool compare": lambda app: tool(app, "compare", steps=True, prompt="Hi", models=["fails", "base"]),
    "tool inspect": lambda app: [
        *tool(app, "inspect", model="fast", prompt="Hi"),
        *tool(app, "inspect", steps=True, model="fails-to-prepare", prompt="Hi"),
    ],
    "tool card": lambda app: tool(app, "card", model="fast"),
    "tool choose": lambda app: tool(app, "choose"),
    "tool suite": lambda app: tool(app, "suite", file=TABLE, format="csv", models=THREE),
}
"""How each route, endpoint and tool is asked so that it says what it can of what is planted."""
SILENT = frozenset(
    {
        *("GET /gradio_api/info", "GET /gradio_api/app_id", "GET /gradio_api/startup-events"),
        *("GET /export/{id}/code", "GET /health", "GET /props", "GET /v1/models", "GET /v1/models/{name:path}"),
        *("GET /v1/openapi.json", "GET /v1/docs", "GET /healthz", "GET /metrics"),
    }
)
"""Those that have no words of the owner's to say, also to the owner."""
NOT_ASKED = {
    "GET /assets/{path:path}": "a file of the package",
    "GET /static/{path:path}": "a file of the package",
    "GET /theme.css": "a file of the package",
    "GET /favicon.ico": "a file of the package",
    "GET /robots.txt": "a constant",
    "GET /gradio_api/heartbeat/{session_hash}": "a stream without words",
    "GET /gradio_api/heartbeat/{session}": "a stream without words, or how many pages may be open",
    "GET /gradio_api/queue/data": "what functions of the page say, which are called below",
    "POST /gradio_api/queue/join": "begins a function of the page",
    "POST /gradio_api/run/{api_name}": "a function of the page",
    "GET /gradio_api/call/{api_name}/{event_id}": "what an endpoint says, as below v2",
    "GET /gradio_api/call/v2/{api_name}/{event_id}": "what an endpoint says",
    "POST /gradio_api/call/{api_name}": "begins an endpoint",
    "POST /gradio_api/call/v2/{api_name}": "begins an endpoint",
    "POST /gradio_api/cancel": "says nothing",
}
"""Why the others are not."""
FILLED = {"path": "js/x.js", "ending": "json", "row": "1", "api_name": "predict"}


def passes(method: str, path: str) -> bool:
    """Whether the page's guard lets it in."""
    filled = re.sub(r"\{(\w+)[^}]*\}", lambda name: FILLED.get(name[1], "x"), path)
    try:
        middleware._check_route({"method": method, "path": filled})
    except middleware.Refused:
        return False
    return True


def there_are(app: App) -> set[str]:
    """All that somebody can ask an app."""
    page = {f"{method} {path}" for method, path in routes_of(app.demo.app) if method != "HEAD" and passes(method, path)}
    door = {f"{method} {path}" for method, path in routes_of(app.door) if method != "HEAD"}
    public = {f"endpoint /{each.api_name}" for each in app.demo.fns.values() if each.api_visibility == "public"}
    return page | door | public | {f"GET {path}" for path in OPERATIONS} | {f"tool {each.name}" for each in TOOLS}


def leaks(app: App, said: str) -> list[str]:
    """What of the owner's is in it."""
    return [word for word in (FOLDER, "PLAYGROUND_HOME", str(app.playground.settings.home)) if word in said]


def test_each_route_endpoint_and_tool_is_asked_or_there_is_a_reason_why_not(apps: dict[str, App]) -> None:
    listed = ASKED.keys() | NOT_ASKED.keys()
    assert not ASKED.keys() & NOT_ASKED.keys()
    for app in apps.values():
        there = there_are(app)
        assert not there - listed, "new: ask it here, in ASKED"
        assert not listed - there, "gone: take it out here"
    assert not SILENT - ASKED.keys()


@pytest.mark.parametrize("route", sorted(ASKED))
def test_strangers_are_told_no_place_of_the_owners_and_the_owner_is(apps: dict[str, App], route: str) -> None:
    said = list(ASKED[route](apps["own"]))
    assert said
    for what, words in said:
        assert (PLACE in words) is (route not in SILENT), f"{what} says {words[:2000]}"
    for what, words in ASKED[route](apps["public"]):
        assert leaks(apps["public"], words) == [], f"{what} says {words[:2000]}"
        assert (NAME in words) is (route not in SILENT), f"{what} says {words[:2000]}"


# -- functions of the page ------------------------------------------------------------------------------------------

NOT_CALLED = {"prepare_suggested": "begins to fetch a model, and says what any error of a model says"}


def sent(app: App, part: Any) -> Any:
    """What a page sends of a component that shows what was run."""
    known = {
        "shown": app.comparison,
        "over": f"{app.comparison} 1",
        "compared": app.comparison,
        "draft": json.dumps({"shown": app.comparison, "tab": "compare", "models": THREE}),
        "action": json.dumps({"do": "read", "column": 0}),
        "models": [f"{name}@fake-none" for name in (*THREE, "slow-to-prepare")],
        "prompt": "Hi",
        "reply-text": "More?",
        "read-source": "shown",
        "tokens-answer": 0,
        "measurements": MEASURED_ID,
        "history-id": app.comparison,
        "history-action": json.dumps({"do": "open", "id": app.comparison}),
        "suite-action": json.dumps({"do": "open", "id": app.suite}),
        "suite-text": TABLE,
        "suite-models": [f"{name}@fake-none" for name in THREE],
        "show-model": "fast",
        "pick-model": "fast",
    }
    if isinstance(part, gr.BrowserState):
        return [app.comparison, MEASURED_ID]
    few = {"Repeats": 1, "Tokens of each answer": 4}
    usual = few.get(str(getattr(part, "label", "")), getattr(part, "value", None))
    return known.get(getattr(part, "elem_id", None) or "", usual)


async def called(app: App, number: int) -> str:
    """All that a function answers, as gradio has it below its web server."""
    function = app.demo.fns[number]
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "query_string": b"",
        "headers": [(HEADER.encode(), VISITOR.encode())],
        "client": None,
    }
    request = gr.Request(StarletteRequest(scope), session_hash=f"told-{number}")
    state, values = SessionState(app.demo), [sent(app, part) for part in function.inputs]
    said: list[Any] = []
    iterator: Any = None
    try:
        while True:
            told = await app.demo.process_api(function, list(values), state=state, request=request, iterator=iterator)
            said.append(told["data"])
            iterator = told["iterator"]
            if not told["is_generating"]:
                break
    except gr.Error as error:
        said.append(str(error.message))
    return json.dumps(said, default=str, ensure_ascii=False)


def functions(app: App) -> dict[str, list[int]]:
    """Those of the page by their names; of one name there are several."""
    found: dict[str, list[int]] = {}
    for number, each in app.demo.fns.items():
        if each.fn is not None and each.api_visibility != "public":
            found.setdefault(re.sub(r"_\d+$", "", str(each.api_name)), []).append(number)
    return found


SHOWS = frozenset(
    ("act", "choose", "listed", "look", "measure", "opened", "over", "pick", "pressed", "read", "replay", "show")
)
"""Functions that show an owner what is planted."""


def test_no_function_of_the_page_tells_a_stranger_a_place_of_the_owners(apps: dict[str, App]) -> None:
    told: dict[str, set[str]] = {"public": set(), "own": set()}
    wrong = []
    for audience, app in apps.items():
        for name, numbers in functions(app).items():
            if name in NOT_CALLED:
                continue
            for number in numbers:
                said = asyncio.run(called(app, number))
                if NAME in said:
                    told[audience].add(name)
                if audience == "public" and leaks(app, said):
                    wrong.append(f"{name} says {said[:2000]}")
                elif audience == "own" and NAME in said:
                    assert PLACE in said, name
    assert wrong == []
    assert set(functions(apps["own"])) >= NOT_CALLED.keys() | SHOWS
    assert told["own"] == told["public"] == SHOWS


# -- what is kept ---------------------------------------------------------------------------------------------------


def test_what_is_stored_keeps_the_owners_words(apps: dict[str, App]) -> None:
    for app in apps.values():
        compared = app.playground.comparison(app.comparison)
        assert compared is not None and [run.error for run in compared.runs[1:]] == [OWNERS, OWNERS]
        assert compared.runs[0].warnings[-1] == OWNERS == compared.runs[0].fallbacks[-1]
        errors = {cell.run.error for cell in app.playground.suite_cells_in_order(app.suite) if cell.column}
        assert errors == {OWNERS}
        with pytest.raises(PlaygroundError) as caught:
            app.playground.prepare(variants(app.playground, "fails-to-prepare")[0], lambda step, share: None)
        assert caught.value.message == OWNERS
