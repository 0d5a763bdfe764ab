"""Messages in the reader's language: on the page by each request's own header, in the terminal by its environment."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from playground import translations
from playground.choose.constraints import Candidate, Constraints, judge
from playground.cli import main
from playground.config.settings import Settings
from playground.experiments.memory_plan import MemoryPlan, Planned
from playground.experiments.progress import LiveRun
from playground.export import Preparation
from playground.messages import foreign, msg, sentences
from playground.records import Comparison, Environment, Fidelity, ModelFacts, ModelRun, Request, Timings, Variant
from playground.service import Playground
from playground.ui import i18n
from playground.ui.app import free_port, launch, quiet_gradio
from playground.ui.html import choose, costs, growing, panel
from playground.ui.html.receipts import popovers
from tests.support.pseudo_language import LANGUAGE, write_pseudo_language

TINY = Variant("tiny", "onnx", "int8")
LABEL = panel.Label("Tiny", TINY)
STEP = msg("Choose one of the list.")
"""A message of the product, as every message here must be: it stands in the catalogue."""
SAID = "⟦Choose one of the list.⟧"


@pytest.fixture(autouse=True)
def pseudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translations, "LOCALE", write_pseudo_language(tmp_path / "locale"))
    for name in ("PLAYGROUND_LANGUAGE", "LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)


# -- pieces of the page -------------------------------------------------------------------------------------------

FIDELITY = Fidelity(
    verdict="lossy",
    reference=foreign("the original"),
    positions=400,
    top1_agreement=0.9,
    mean_kl=0.1,
    max_logit_error=1.0,
)
RUN = ModelRun(
    TINY,
    "onnx",
    "int8",
    "Choose one of the list.",  # what a model says is no message
    "stop",
    Timings(output_tokens=5, decode_tok_s=10.0, ttft_s=0.1, threads=2, mode="fair", cold=False),
    error=STEP,
    fallbacks=(STEP,),
    warnings=(sentences(STEP, STEP),),
    fidelity=FIDELITY,
)


LIMITS = Constraints(max_memory_mb=1000.0)


def plan() -> MemoryPlan:
    return MemoryPlan(
        1000.0, (Planned(TINY, 1500.0, alone=False), Planned(replace(TINY, precision="fp32"), 500.0, True))
    )


def pieces() -> dict[str, str]:
    """Pieces of HTML that have messages in them."""
    live = LiveRun(TINY, "preparing", message=STEP)
    comparison = Comparison("a", "2026-11-24T10:00:00Z", Request("Hi"), (RUN,), Environment("A CPU", 2, 8000.0))
    receipts = popovers(comparison, "here")
    receipts.wrap(0, "decode_tok_s", "10 tok/s")
    return {
        "error, fallback and warning of a run": panel.run_panel(RUN, LABEL),
        "progress of a run": growing.growing(live, LABEL).html,
        "progress of a preparation": panel.state_html(TINY, Preparation("preparing", step=STEP)),
        "trouble of a preparation": panel.state_html(TINY, Preparation("failed", error=STEP)),
        "plan": costs.plan_html(plan(), "fair"),
        "receipt": receipts.html(),
        "verdict": choose.verdicts_html([judge(LIMITS, Candidate(TINY, "Tiny", ModelFacts("tiny")))], LIMITS),
    }


@pytest.mark.parametrize("name", pieces())
def test_a_piece_of_the_page_is_said_in_the_language_of_whoever_reads_it(name: str) -> None:
    english = pieces()[name]
    with i18n.reading(f"{LANGUAGE}, en;q=0.5"):
        translated = pieces()[name]
    assert "⟦" in translated
    assert "⟦" not in english
    assert pieces()[name] == english


def test_all_that_is_said_of_a_run_is_translated_and_what_the_model_said_is_not() -> None:
    with i18n.reading(LANGUAGE):
        drawn = panel.run_panel(RUN, LABEL)
    assert drawn.count(SAID) == 4
    answer = re.search(r'<div class="answer[^>]*>(.*?)</div>', drawn, re.DOTALL)
    assert answer is not None
    assert "Choose one of the list." in answer[1]
    assert "⟦" not in answer[1]
    assert "⟦⟦lossy⟧: 90.0 % same top token as the original, mean KL 0.1 over 400 positions⟧" in drawn


# -- a running app ------------------------------------------------------------------------------------------------


# Gradio, which counts its events with pandas, is told of it in the middle of ours.
GRADIOS_PANDAS = pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'")


@dataclass(frozen=True)
class Served:
    web: httpx2.Client
    url: str
    config: dict[str, Any]

    def number(self, name: str) -> int:
        return next(int(each["id"]) for each in self.config["dependencies"] if each["api_name"] == name)

    def post(self, path: str, language: str, **body: Any) -> httpx2.Response:
        headers = {"Origin": self.url.rstrip("/"), "Accept-Language": language}
        return self.web.post(self.url + path, json=body, headers=headers)

    def run(self, language: str, session: str) -> str:
        """All that the page is told while the chosen models answer."""
        number = self.number("run")
        parts = {part["id"]: part for part in self.config["components"]}
        inputs = next(each["inputs"] for each in self.config["dependencies"] if each["id"] == number)
        data = [parts[at]["props"].get("value") for at in inputs]
        path = "gradio_api/queue/join"
        self.post(path, language, data=data, fn_index=number, session_hash=session).raise_for_status()
        said = ""
        with self.web.stream("GET", f"{self.url}gradio_api/queue/data?session_hash={session}") as stream:
            for line in stream.iter_lines():
                message = json.loads(line[6:]) if line.startswith("data: ") else {}
                said += json.dumps(message.get("output"), ensure_ascii=False)
                if message.get("msg") in {"process_completed", "close_stream"}:
                    break
        id = re.findall(r"\d{8}-\d{6}-[0-9a-f]{32}", said)[0]
        watched = self.web.get(f"{self.url}watch/{id}", headers={"Accept-Language": language})
        return said + json.dumps(
            [json.loads(line[6:]) for line in watched.text.splitlines() if line.startswith("data: [")],
            ensure_ascii=False,
        )


@pytest.fixture
def served(settings: Settings) -> Iterator[Served]:
    """The app in this process, on a free port, with one model that fails."""
    settings = replace(settings, models=("fails",), port=free_port("127.0.0.1", 0))
    with quiet_gradio(settings):
        from playground.ui import watching
        from playground.ui.page import build_ui

        with Playground(settings) as playground, httpx2.Client(timeout=60, verify=False) as web:
            demo = build_ui(playground)
            launch(demo, settings, watching.routes(playground))
            try:
                url = f"http://127.0.0.1:{settings.port}/"
                yield Served(web, url, web.get(f"{url}config").json())
            finally:
                playground.close()
                demo.close(verbose=False)


@GRADIOS_PANDAS
@pytest.mark.waits
def test_two_visitors_at_once_are_told_each_in_their_own_language_why_a_model_failed(served: Served) -> None:
    said: dict[str, str] = {}

    def visit(language: str) -> None:
        said[language] = served.run(language, f"session-{language}")

    visitors = [threading.Thread(target=visit, args=(language,)) for language in (LANGUAGE, "en")]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join(60)
    assert "is-error" in said["en"]
    assert "⟦" in said[LANGUAGE]
    assert "⟦" not in said["en"]


@GRADIOS_PANDAS
@pytest.mark.waits
def test_functions_that_answer_at_once_endpoints_and_refusals_speak_the_requests_language(served: Served) -> None:
    show = served.number("show_1")  # a model in Find; "show" brings a comparison back
    for language, open_, close in ((LANGUAGE, "⟦", "⟧"), ("en", "", "")):
        answer = served.post("gradio_api/run/predict", language, data=["nope"], fn_index=show, session_hash="abc")
        assert f"{open_}Choose one of the list.{close}" in json.dumps(answer.json(), ensure_ascii=False)
        refused = served.post("gradio_api/run/predict", language, data=[], fn_index=12345)
        assert refused.text == f"{open_}There is no such function.{close}\n"
        event = served.post("gradio_api/call/card", language, data=["nope"]).json()["event_id"]
        told = served.web.get(f"{served.url}gradio_api/call/card/{event}").text
        data = next(line for line in told.splitlines() if line.startswith("data: "))
        assert f"{open_}'nope' is not served by the API of this app{close}" in json.loads(data[6:])["error"]


# -- the terminal -------------------------------------------------------------------------------------------------


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue of scripted models, and an environment that asks for the pseudo-language."""

    def scripted(name: str, script: str) -> dict[str, Any]:
        about = {"name": name.title(), "kind": "chat", "task": "text-generation", "context_length": 64}
        return {"id": name, **about, "source": f"fake:{script}", "revision": "none", "variants": ["fake-none"]}

    models = [scripted("broken", "fail_at=2"), scripted("unmade", "prepare_error=no such weights")]
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump({"schema_version": 1, "models": models}))
    (tmp_path / "spaces.yaml").write_text("app: {models: [broken]}\n")
    for name, value in {"HOME": "home", "CATALOG": "catalog.yaml", "SPACE": "spaces.yaml"}.items():
        monkeypatch.setenv(f"PLAYGROUND_{name}", str(tmp_path / value))
    monkeypatch.setenv("LANG", "de_AT.UTF-8")


@pytest.mark.usefixtures("commands")
def test_the_terminal_speaks_the_language_of_its_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["card", "nope"]) == 2
    assert "⟦Unknown model 'nope'⟧" in capsys.readouterr().err
    monkeypatch.setenv("LANGUAGE", "en")
    assert main(["card", "nope"]) == 2
    assert "⟦" not in capsys.readouterr().err
    monkeypatch.setenv("PLAYGROUND_LANGUAGE", LANGUAGE)
    assert main(["card", "nope"]) == 2
    assert "⟦" in capsys.readouterr().err


@pytest.mark.usefixtures("commands")
def test_failures_and_steps_are_translated_in_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "-m", "broken", "Hi"]) == 1
    printed = capsys.readouterr()
    assert "failed: ⟦" in printed.out
    assert main(["prepare", "unmade"]) == 1
    assert "unmade@fake-none: ⟦" in capsys.readouterr().err


@pytest.mark.usefixtures("commands")
def test_json_is_english_and_has_template_and_values_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["card", "nope", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["message"] == "Unknown model 'nope'"
    what = error["messages"]["what"]
    assert (what["code"], what["values"]) == ("Unknown model '{name}'", {"name": "nope"})
    assert main(["compare", "-m", "broken", "Hi", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)["runs"][0]["error"]
    assert "⟦" not in json.dumps(told, ensure_ascii=False)
    assert told["text"]
    assert told["code"]
