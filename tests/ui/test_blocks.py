"""The page's labels, pieces of HTML and events are said in the language of whoever opens it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from playground import translations
from playground.messages import msg
from playground.owners import MEND
from playground.ui import i18n
from playground.ui.blocks import Blocks
from playground.ui.theme import html
from tests.support.pseudo_language import LANGUAGE, write_pseudo_language

WORDS = msg("Choose one of the list.")
SAID = "⟦Choose one of the list.⟧"


@pytest.fixture(autouse=True)
def pseudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translations, "LOCALE", write_pseudo_language(tmp_path / "locale"))
    monkeypatch.delenv("PLAYGROUND_LANGUAGE", raising=False)


def page() -> Blocks:
    with Blocks() as demo:
        button = gr.Button(WORDS)
        box = gr.Textbox("Choose one of the list.", label=WORDS, info=WORDS, placeholder=WORDS)
        gr.Radio([(WORDS, "a")], label="Gemma")
        html(lambda: f"<p>{i18n.say(WORDS)}</p>")
        button.click(lambda: [gr.update(value=WORDS), gr.update(label=WORDS)], None, [button, box])
    demo.config = demo.get_config_file()
    return demo


def props(demo: Blocks) -> list[dict[str, Any]]:
    return [part["props"] for part in demo.config["components"]]


def test_labels_choices_buttons_and_pieces_of_html_are_translated_and_values_are_not() -> None:
    demo = page()
    with i18n.reading(LANGUAGE):
        button, box, radio, piece = props(demo)[:4]
    assert button["value"] == SAID
    assert (box["label"], box["info"], box["placeholder"]) == (SAID, SAID, SAID)
    assert box["value"] == "Choose one of the list."  # what a visitor may edit is no label
    assert radio["choices"] == [(SAID, "a")]
    assert radio["label"] == "Gemma"
    assert piece["value"] == f"<p>{SAID}</p>"
    assert "⟦" not in json.dumps(props(demo), default=str, ensure_ascii=False)


def test_what_an_event_sends_is_in_the_language_of_whoever_sent_it() -> None:
    demo = page()

    def answered(headers: dict[str, str]) -> str:
        request = SimpleNamespace(headers=headers, username=None, session_hash="x", kwargs={})
        done = asyncio.run(demo.process_api(0, [], request=request))
        return json.dumps(done["data"], default=str, ensure_ascii=False)

    assert answered({"accept-language": LANGUAGE}).count(SAID) == 2
    assert SAID not in answered({"accept-language": "en"})


def test_a_visitors_choice_goes_before_what_the_browser_asks_for() -> None:
    assert i18n.wanted({"accept-language": "en", "cookie": f"a=b; {i18n.COOKIE}=ja; c=d"}) == "ja,en"
    assert i18n.wanted({"accept-language": "en", "cookie": f"x{i18n.COOKIE}=ja"}) == "en"
    assert i18n.wanted({"cookie": f'{i18n.COOKIE}=ja";evil'}) == ""
    with i18n.reading(i18n.wanted({"accept-language": "en", "cookie": f"{i18n.COOKIE}={LANGUAGE}"})):
        assert i18n.language() == LANGUAGE
        assert i18n.say(WORDS) == SAID


def sent(demo: Blocks, number: int, predictions: Any) -> list[Any]:
    return asyncio.run(demo.postprocess_data(demo.fns[number], predictions, None))


def test_an_event_sends_what_gradio_would_and_no_component_is_made_anew_for_what_does_not_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Blocks() as demo:
        boxes = [gr.Textbox(label=str(n)) for n in range(4)]
        button = gr.Button("Go")
        button.click(lambda: None, None, boxes)
        button.click(lambda: None, None, boxes[0])
    made: list[object] = []
    init = gr.Textbox.__init__
    monkeypatch.setattr(
        gr.Textbox, "__init__", lambda box, *args, **given: (made.append(box), init(box, *args, **given))[1]
    )
    for predict in (  # gradio changes what it is given
        lambda: {boxes[2]: gr.update(value="b", visible=False), boxes[0]: "a"},
        lambda: ["a", gr.skip(), gr.update(value="b", visible=False), gr.skip()],
        lambda: {boxes[3]: gr.skip()},
        gr.skip,
        lambda: [gr.skip() for _ in boxes],
    ):
        theirs = asyncio.run(gr.Blocks.postprocess_data(demo, demo.fns[0], predict(), None))
        theirs_made = len(made)
        made.clear()
        assert sent(demo, 0, predict()) == theirs
        assert len(made) <= 1 < theirs_made
        made.clear()
    assert sent(demo, 1, "alone") == ["alone"]
    assert sent(demo, 1, gr.skip()) == [gr.skip()]
    with pytest.raises(ValueError, match="not specified"):
        sent(demo, 1, {boxes[1]: "not an output"})


def test_visitors_are_told_nothing_that_only_the_owner_can_do_in_english_and_in_other_languages() -> None:
    full = msg("Free some space on that disk.")

    def read(language: str, *, visitor: bool) -> str:
        with Blocks() as demo:
            button = gr.Button("Go")
            box = gr.Textbox(label=full)
            html(lambda: f"<p>{i18n.say(full)}</p>")
            button.click(lambda: gr.update(label=full), None, box)
        demo.config, demo.visitors = demo.get_config_file(), visitor
        with i18n.reading(language, visitor=visitor):
            shown = props(demo)
        request = SimpleNamespace(headers={"accept-language": language}, username=None, session_hash="x", kwargs={})
        done = asyncio.run(demo.process_api(0, [], request=request))
        return json.dumps([shown, done["data"]], default=str, ensure_ascii=False)

    for language in ("en", LANGUAGE):
        assert read(language, visitor=True).count(str(MEND)) == 3
        assert full not in read(language, visitor=True)
        assert read(language, visitor=False).count(str(full)) == 3
