"""What runtimes tell a reader can be said in the reader's language, wherever it was said and however it travelled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from playground.errors import PlaygroundError, Reason, reason_of
from playground.messages import CLAUSE_SEPARATOR, LIST_SEPARATOR, SENTENCE_SEPARATOR, msg, render
from playground.records import Artifact, Event, LoadSpec, ModelRun, ModelSpec, Remote, Request, Variant
from playground.runtimes import create_runtime
from playground.runtimes.generation.chat_template import ChatTemplate, Refused
from playground.runtimes.generation.settings import read_settings
from playground.runtimes.native.lowering import read_program
from playground.runtimes.native.program import NotForKernels
from playground.runtimes.remote import errors
from playground.runtimes.remote.client import Broken, Silent, Unreachable


class Bracketed:
    """A language in which every template stands in brackets."""

    def gettext(self, message: str) -> str:
        return message if message in (CLAUSE_SEPARATOR, LIST_SEPARATOR, SENTENCE_SEPARATOR) else f"⟦{message}⟧"

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return f"⟦{msgid1 if n == 1 else msgid2}⟧"


def said(text: str) -> str:
    return render(text, Bracketed())


def test_warnings_of_a_models_own_settings_are_templates_down_to_their_values(tmp_path: Path) -> None:
    own = {
        "num_beams": 4,
        "max_time": True,
        "repetition_penalty": "x",
        "suppress_tokens": [1, 2, 3, 4],
        "min_length": 3,
    }
    (tmp_path / "generation_config.json").write_text(json.dumps(own))
    warnings = read_settings(tmp_path).warnings(Request("a", min_new_tokens=2), begun=1)
    assert {said(warning) for warning in warnings} == {
        "⟦The model's own files set ⟦⟦suppress_tokens ⟦(4 of them)⟧⟧⟧: obeyed, as by transformers' generate.⟧",
        "⟦The model's own files set ⟦⟦min_length 3⟧⟧; the request's ⟦⟦min_new_tokens 2⟧⟧ is used instead.⟧",
        "⟦The model's own files set repetition_penalty to a value that has no meaning; it is not used.⟧",
        "⟦The model's own files set ⟦num_beams 4⟧: ⟦beam search is not served, tokens are chosen one by one.⟧⟧",
        "⟦The model's own files set max_time: ⟦an answer is not ended by the clock.⟧⟧",
    }


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Silent(3.5, begun=True), "⟦remote:x: here:1 fell silent inside its answer, for 3.5 s after 1 piece⟧"),
        (Broken("no memory"), "⟦remote:x: here:1 failed after 1 piece: no memory⟧"),
        (Unreachable(msg("no connection in time")), "⟦remote:x: here:1 can't be reached (⟦no connection in time⟧)⟧"),
    ],
)
def test_errors_of_a_server_are_templates_around_its_own_words(error: Exception, words: str) -> None:
    told = errors.explain(error, Remote("x", "tiny", "http://here:1/v1"), key="", pieces=1)
    arrived = PlaygroundError.from_json(json.loads(json.dumps(told.to_json())))
    assert said(told.what) == said(arrived.what) == words
    assert said(told.next_step).startswith("⟦")


def test_warnings_of_a_run_and_what_an_event_tells_keep_their_templates_in_json() -> None:
    spec = ModelSpec("scripted", "Scripted", "fake:template=0", "", "fake", "fp32", 512, "base")
    runtime = create_runtime("fake")
    runtime.load(LoadSpec(spec, Artifact(Variant("scripted", "fake", "fp32"), "", "none", "", "", 0), 1))
    *_, last = runtime.generate(Request("a", system="b"), lambda: False)
    assert last.run is not None
    run = ModelRun.from_json(json.loads(json.dumps(last.run.to_json())))
    assert [said(warning) for warning in run.warnings] == ["⟦This is a base model; the system prompt is not used.⟧"]
    waiting = Event("m", "prefill", text=msg("HTTP {status}, asking again in {seconds:.1f} s", status=503, seconds=2.0))
    arrived = Event.from_json(json.loads(json.dumps(waiting.to_json())))
    assert arrived == waiting and said(arrived.text) == "⟦HTTP 503, asking again in 2.0 s⟧"


def test_a_reason_inside_a_sentence_is_a_template_and_a_strangers_words_are_none(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(NotForKernels) as refusal:
        read_program(tmp_path / "model.onnx")
    assert said(msg("not by the kernels: {reason}", reason=reason_of(refusal.value))) == (
        "⟦not by the kernels: ⟦the file is no ONNX model⟧⟧"
    )
    template = ChatTemplate("{{ raise_exception('no such role') }}", {})
    with pytest.raises(Refused) as words:
        template.render([("user", "a")], generate=True)
    assert said(reason_of(words.value)) == "no such role"
    assert isinstance(refusal.value, Reason) and isinstance(words.value, Reason)
    assert said(reason_of(MemoryError(msg("no memory")))) == "⟦no memory⟧"
    assert said(reason_of(OSError(2, "No such file"))) == "[Errno 2] No such file"
