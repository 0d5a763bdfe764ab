"""What leaves the app: the files of a comparison, the code that asks again (run here), and the API they use."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from playground.messages import foreign, msg
from playground.paths import ROOT
from playground.records import Comparison, Environment, Message, ModelRun, Request, Timings, Variant
from playground.results.code_of_run import asked_again, code_of_run
from playground.results.export_files import MEDIA
from playground.results.figures import Measured, Measurement, figure
from playground.results.store import Store
from playground.results.votes import Votes
from tests.support.app import App, serving
from tests.support.web import WEB

pytestmark = pytest.mark.ui

NASTY = "It's \"quoted\", $(touch pwned) `touch pwned` ${HOME} \\n\n日本語 🦙 </script> 'JSON' %s -- ok"
EVIL = "=1+1 <script>alert(1)</script> ![x](http://evil.example/a.png) [go](javascript:alert(1)) <img src=x onerror=a>"
TALK = (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", NASTY))
HERE = Environment("A CPU", 2, 8000.0)
ID, MEASURED_ID, BLIND_ID = "c" * 32, "d" * 32, "e" * 32
KEPT = Comparison(
    ID, "2026-11-24T10:00:00.000Z", Request(NASTY),
    (
        ModelRun(Variant("fast", "fake", "none"), "fake", "none", EVIL, "stop", Timings(ttft_s=0.1), request=Request(
            messages=TALK, temperature=0.5)),
        ModelRun(Variant("fast", "fake", "none"), "fake", "none", "<think>hm</think>**done**\n\n| a | b |\n|---|---|\n"
            "| 1 | 2 |", "length", taken_in="before"),
        ModelRun(Variant("slow", "fake", "none"), "fake", "none", "", "error", error=foreign("it broke <b>")),
    ),
    HERE, parent="before",
)  # fmt: skip
MEASUREMENT = Measurement(
    MEASURED_ID, "2026-11-24T10:00:00.000Z", Request("a", max_new_tokens=4, min_new_tokens=4), 2,
    (Measured(Variant("fast"), output_tokens=4, figures={"ttft_s": figure("ttft_s", "s", [0.1, 0.2])}),), HERE,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def app(folder: Path) -> Iterator[App]:
    (folder / "home").mkdir()
    store = Store(folder / "home" / "playground.sqlite3")
    store.save(KEPT)
    store.save_measurement(MEASUREMENT)
    store.save(replace(KEPT, id=BLIND_ID))
    Votes(store).begin(BLIND_ID, "", "2026-11-24T10:00:00.000Z")
    store.close()
    with serving(folder, "fast, slow, base") as app:
        yield app


def get(app: App, path: str, **headers: str) -> Any:
    return WEB.get(app.url + path, headers=headers)


# -- files ----------------------------------------------------------------------------------------------------------


def test_a_format_of_two_answers_is_not_made_of_a_measurement(app: App) -> None:
    refused = get(app, f"export/{MEASURED_ID}.comparator")
    assert refused.status_code == 404
    assert "no answers to compare" in refused.text
    made = get(app, f"export/{ID}.comparator")
    assert made.json()["examples"][0]["score"] is None


@pytest.mark.parametrize("ending", sorted(MEDIA.keys() - {"comparator"}))
@pytest.mark.parametrize("id", [ID, MEASURED_ID])
def test_a_stored_document_is_saved_as_a_file_that_nobody_keeps(app: App, id: str, ending: str) -> None:
    answer = get(app, f"export/{id}.{ending}")
    assert answer.status_code == 200
    kind = "comparison" if id == ID else "measurement"
    assert answer.headers["content-disposition"] == f'attachment; filename="{kind}-{id}.{ending}"'
    assert answer.headers["content-type"].split(";")[0] == MEDIA[ending].split(";")[0]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"].startswith("nosniff")
    assert answer.content


def test_the_files_hold_the_record(app: App) -> None:
    assert Comparison.from_json(get(app, f"export/{ID}.json").json()) == KEPT
    lines = get(app, f"export/{ID}.jsonl").text.splitlines()
    assert [json.loads(line)["column"] for line in lines] == [0, 1, 2]
    raw = get(app, f"export/{ID}.csv").content.decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(raw, newline="")))
    assert rows[0]["answer"] == f"'{EVIL}"
    assert "Taken: in comparison before" in get(app, f"export/{ID}.md").text


@pytest.mark.parametrize(
    "path",
    ["export/nothing.json", f"export/{ID}.exe", f"export/{ID}", "export/..%2f..%2fetc.json", f"export/{ID}.json/x"],
)
def test_what_is_not_kept_is_not_there(app: App, path: str) -> None:
    assert get(app, path).status_code == 404


def test_a_visitors_files_name_no_place_on_the_owners_disk(folder: Path) -> None:
    """What is stored keeps the error as it was, for the owner."""
    home = folder / "public"
    home.mkdir()
    store = Store(home / "playground.sqlite3")
    broken = msg("{path} is damaged", path="/srv/private/model.onnx")
    store.save(replace(KEPT, runs=(*KEPT.runs[:2], replace(KEPT.runs[2], error=broken))))
    with serving(folder, "fast", home=home, PLAYGROUND_AUDIENCE="public") as app:
        for ending in sorted(MEDIA.keys() - {"comparator"}):
            said = get(app, f"export/{ID}.{ending}")
            assert said.status_code == 200 and "/srv/private" not in said.text, ending
        assert Comparison.from_json(get(app, f"export/{ID}.json").json()).runs[2].error == "model.onnx is damaged"
    kept = store.get(ID)
    store.close()
    assert kept is not None and kept.runs[2].error == "/srv/private/model.onnx is damaged"


def test_what_waits_for_its_blind_vote_is_told_to_nobody(app: App) -> None:
    for path in (*(f"export/{BLIND_ID}.{ending}" for ending in MEDIA), f"export/{BLIND_ID}/code"):
        answer = get(app, path)
        assert answer.status_code == 403
        assert "vote first" in answer.text
        assert "fast" not in answer.text


def test_another_websites_page_gets_no_file_by_post_and_a_wrong_host_none(app: App) -> None:
    assert get(app, f"export/{ID}.json", host="evil.example").status_code == 403
    assert WEB.post(f"{app.url}export/{ID}.json", json={}).status_code == 404


def test_the_page_of_a_comparison_runs_no_script_and_asks_nobody(app: App, browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_bytes(get(app, f"export/{ID}.html").content)
    text = file.read_text("utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"<(script|img|iframe|link|object|embed)\b", text)
    assert not re.search(r'href="(?!https?:|mailto:|#)', text)
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme, viewport={"width": 390, "height": 844})
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.on("dialog", lambda dialog: pytest.fail("a script ran"))
        page.goto(file.as_uri())
        assert asked == [file.as_uri()]
        assert page.locator("article strong", has_text="done").count() == 1
        assert page.locator("article table td", has_text="2").count() >= 1
        assert page.get_by_text("it broke <b>").count() >= 1
        assert page.locator("h3", has_text="fast@fake-none #2").count() == 2
        assert page.get_by_text(EVIL[:4]).count() >= 1
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        context.close()


# -- code of a run --------------------------------------------------------------------------------------------------


def asked(app: App, **parameters: Any) -> Comparison:
    client = pytest.importorskip("gradio_client").Client(app.url, verbose=False)
    return Comparison.from_json(client.predict(**parameters, api_name="/compare"))


PLAIN = {"prompt": NASTY, "models": ["fast", "base"], "system": NASTY, "max_new_tokens": 5, "stop": ["France"]}
OWN = {
    "prompt": NASTY, "temperature": 0.5, "top_k": 3,
    "columns": [{"model": "fast"}, {"model": "fast", "max_new_tokens": 2, "temperature": 0.0}, {"model": "base"}],
}  # fmt: skip
CHAT = {
    "prompt": "",
    "models": ["fast"],
    "messages": [each.to_json() for each in TALK],
    "mode": "fast",
}
EACH = pytest.mark.parametrize("given", [PLAIN, OWN, CHAT], ids=["plain", "own", "chat"])


def snippet(done: Comparison, app: App, title: str) -> str:
    return next(each.code for each in code_of_run(done, app.url) if each.title == title)


def ran(command: list[str], folder: Path, **env: str) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **env}
    )
    assert done.returncode == 0, done.stderr
    assert not (folder / "pwned").exists()
    return done.stdout


def check(again: Comparison, done: Comparison) -> None:
    assert [run.text for run in again.runs] == [run.text for run in done.runs]
    assert [again.asked(i) for i in range(len(again.runs))] == [done.asked(i) for i in range(len(done.runs))]
    assert again.mode == done.mode


@EACH
def test_curl_gives_the_same_answer(app: App, tmp_path: Path, given: dict[str, Any]) -> None:
    if not shutil.which("curl"):
        pytest.skip("no curl")
    done = asked(app, **given)
    told = ran(["bash", "-c", snippet(done, app, "curl")], tmp_path)
    data = next(part for part in told.split("\n\n") if part.startswith("event: complete"))
    (result,) = json.loads(data.partition("data: ")[2])
    check(Comparison.from_json(result), done)


@EACH
def test_python_gives_the_same_answer(app: App, tmp_path: Path, given: dict[str, Any]) -> None:
    done = asked(app, **given)
    file = tmp_path / "again.py"
    file.write_text(snippet(done, app, "Python") + "import json\nprint('\\0' + json.dumps(result))\n", "utf-8")
    told = ran([sys.executable, str(file)], tmp_path, PYTHONIOENCODING="utf-8")
    shown, _, result = told.partition("\0")
    check(Comparison.from_json(json.loads(result)), done)
    assert all(run.text in shown for run in done.runs)


@EACH
def test_javascript_gives_the_same_answer(app: App, tmp_path: Path, given: dict[str, Any]) -> None:
    if not shutil.which("node"):
        pytest.skip("no node")
    done = asked(app, **given)
    file = tmp_path / "again.mjs"
    file.write_text(snippet(done, app, "JavaScript") + "console.log('\\0' + JSON.stringify(result))\n", "utf-8")
    shown, _, result = ran(["node", str(file)], tmp_path).partition("\0")
    check(Comparison.from_json(json.loads(result)), done)
    assert all(run.text in shown for run in done.runs)


@pytest.mark.parametrize("given", [PLAIN, OWN], ids=["plain", "own"])
def test_the_terminal_gives_the_same_answers(app: App, folder: Path, tmp_path: Path, given: dict[str, Any]) -> None:
    done = asked(app, **given)
    name = f"{sys.executable} -m playground compare --json "
    code = snippet(done, app, "Terminal").replace("playground compare ", name)
    catalog = str(ROOT / "tests" / "data" / "fake_catalog.yaml")
    env = {"PLAYGROUND_HOME": str(tmp_path / "home"), "PLAYGROUND_CATALOG": catalog, "PYTHONPATH": str(ROOT)}
    told = ran(["bash", "-c", code], tmp_path, **env)
    decoder, found = json.JSONDecoder(), []
    while told.strip():
        document, end = decoder.raw_decode(told.lstrip())
        found.append(Comparison.from_json(document))
        told = told.lstrip()[end:]
    again = [(str(run.variant), run.text, each.asked(i)) for each in found for i, run in enumerate(each.runs)]
    before = [(str(run.variant), run.text, done.asked(i)) for i, run in enumerate(done.runs)]
    assert sorted(again, key=repr) == sorted(before, key=repr)


def test_a_stored_comparison_shows_its_code_for_the_address_it_was_asked_at(app: App) -> None:
    answer = get(app, f"export/{ID}/code")
    assert answer.status_code == 200
    assert "<script" not in answer.text
    port = app.url.rstrip("/").rpartition(":")[2]
    assert f"http://127.0.0.1:{port}/gradio_api/call/v2/compare" in answer.text
    assert get(app, f"export/{MEASURED_ID}/code").status_code == 404
    assert get(app, "export/nothing/code").status_code == 404


# -- the API --------------------------------------------------------------------------------------------------------


def call(app: App, **sent: Any) -> str:
    event = WEB.post(f"{app.url}gradio_api/call/v2/compare", json=sent)
    if event.status_code != 200:
        return str(event.text)
    return str(WEB.get(f"{app.url}gradio_api/call/v2/compare/{event.json()['event_id']}").text)


@pytest.mark.parametrize("models", ["fast", "fast, base", " base ,fast,"])
def test_one_name_or_several_with_commas_may_be_a_text(app: App, models: str) -> None:
    done = asked(app, prompt="Hi", models=models)
    assert [run.variant.model for run in done.runs] == [name.strip() for name in models.split(",") if name.strip()]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"models": 3}, "models is int, not a list of names"),
        ({"models": 3}, 'Send [\\"fast\\", \\"slow\\"], of the names that /models lists.'),
        ({"models": ["fast"], "stop": "x"}, "stop is str, not a list of texts"),
        ({"messages": "x"}, "messages is str, not a list"),
        ({"messages": [{"role": "user"}]}, "messages[0] is not a role and a content"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "has the role"),
        ({"prompt": "Hi", "messages": [{"role": "user", "content": "x"}]}, "both given"),
        ({"columns": "fast"}, "columns is str, not a list"),
        ({"columns": [{"temperature": 1}]}, "columns[0] names no model"),
        ({"columns": [{"model": "fast", "role": "x"}]}, "columns[0] holds role, which no model is asked with"),
        ({"columns": [{"model": "fst"}]}, "Did you mean fast?"),
        ({"columns": [{"model": "fast"}] * 9}, "9 models are too many"),
        ({"columns": [{"model": "fast", "temperature": -1}]}, "temperature"),
        ({"columns": [{"model": "fast", "path": "/etc/passwd"}]}, "this app takes no files"),
        ({"columns": [{"model": {"url": "http://x"}}]}, "this app takes no files"),
    ],
)
def test_the_api_names_what_to_send_instead(app: App, sent: dict[str, Any], said: str) -> None:
    prompt = {} if "messages" in sent else {"prompt": "Hi"}
    assert said in call(app, **({"prompt": ""} | prompt | sent))


def test_what_the_api_page_shows_runs_as_it_is_copied(app: App) -> None:
    module = pytest.importorskip("gradio_client")
    client = module.Client(app.url, verbose=False)
    info = client.view_api(return_format="dict", print_info=False)["named_endpoints"]["/compare"]["parameters"]
    models = next(each for each in info if each["parameter_name"] == "models")
    assert models["parameter_default"] == ["fast", "slow", "base"]
    shown = {
        each["parameter_name"]: each["parameter_default"] if each["parameter_has_default"] else each["example_input"]
        for each in info
    }
    result = client.predict(**shown, api_name="/compare")
    assert [run["variant"]["model"] for run in result["runs"]] == ["fast", "slow", "base"]


def test_a_conversation_is_asked_as_one(app: App) -> None:
    done = asked(app, **CHAT)
    assert done.request.messages == TALK
    assert asked_again(done)["messages"] == CHAT["messages"]
    assert replace(done.request, messages=()) == Request()
