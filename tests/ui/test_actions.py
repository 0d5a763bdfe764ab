"""What a browser writes into the boxes out of sight is not believed: any text is an action, a draft, or nothing."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from playground.config.settings import Limits
from playground.errors import UsageError
from playground.experiments.admission import check_request
from playground.ui import actions, columns, draft
from playground.ui.tabs import form, reply
from tests.support.app import App
from tests.support.web import WEB, call, heard, number_of

pytestmark = pytest.mark.ui

DEEP = "[" * 20_000 + "]" * 20_000
BEYOND = "1" + "0" * 400
"""A whole number that is beyond every float."""
ASKED = ["fair", "Hi", "", 8, 0, 0, 1, 0, 1, 0, "", False]


@pytest.mark.parametrize("text", [DEEP, "null", "1", "[]", "{}", '{"do": 1}', "1" * 5_000, "x" * 60_000, None, 5])
def test_what_is_no_action_is_none(text: Any) -> None:
    assert actions.read(text) is None


@pytest.mark.parametrize("column", ["--5", "²", "٣", "5" * 12, "", 1.5, True, [1], {}])
def test_what_is_no_column_is_none(column: Any) -> None:
    action = actions.read(json.dumps({"do": "again", "column": column}))
    assert action and action.column is None


def test_halves_of_characters_are_not_given_back() -> None:
    action = actions.read('{"do": "nothing\\ud800", "prompt": "Hi \\ud800"}')
    assert action and (action.do, action.text("prompt")) == ("nothing?", "Hi ?")
    kept = draft.read('{"prompt": "\\ud800", "system": "fine", "models": ["\\ud800", "fast"], "changes": "\\ud800"}')
    assert (kept.values, kept.models, kept.changes) == ({"system": "fine"}, ("fast",), "")


def test_numbers_that_are_none_are_left_out() -> None:
    sent = f'{{"temperature": {BEYOND}, "seed": {BEYOND}, "top_p": NaN, "min_p": 1e999, "top_k": true, "tokens": 7}}'
    assert draft.read(sent).values == {"tokens": 7}
    own = f'{{"temperature": {BEYOND}, "seed": {BEYOND}, "top_p": NaN, "min_p": Infinity, "top_k": 7}}'
    assert columns.read_changes(f'{{"fast": {own}}}') == {"fast": {"top_k": 7}}
    assert columns.read_changes(DEEP) == {}
    assert reply.target(DEEP) == reply.Target()


@pytest.mark.parametrize("given", [{"do": "nothing"}, {"do": "again", "column": 99}, {"do": "reply", "column": "--5"}])
def test_an_action_that_there_is_not_is_said_on_the_page(space: App, given: dict[str, Any]) -> None:
    said = heard(space, number_of(space, "act"), [json.dumps(given), "", ["fast"], "", *ASKED])
    assert '"success": true' in said
    assert "which there is not" in said or "nothing to go on from" in said


def test_numbers_of_the_form_that_are_none_are_refused() -> None:
    for place in (3, 4, 6, 7, 8):
        asked = [*ASKED[:place], int(BEYOND), *ASKED[place + 1 :]]
        with pytest.raises(UsageError, match="must be a"):
            check_request(form.read_asked(asked)[1], Limits(max_new_tokens=64, max_prompt_chars=64))


def test_the_history_gives_no_half_of_a_character_back(space: App) -> None:
    given = json.dumps({"do": "open", "id": "\ud800"})
    said = call(space, number_of(space, "pressed"), [given, "", "", False, "1", ""])
    assert said.status_code == 200
    assert "There is no such comparison" in said.text


@pytest.mark.alone
def test_buttons_of_columns_and_pages_that_open_do_not_wait_for_those_who_watch(space: App) -> None:
    asked = [*ASKED[:3], 2, *ASKED[4:]]
    run = number_of(space, "run")
    with ThreadPoolExecutor() as threads:
        for number in range(4):  # as many as the app has sessions
            threads.submit(heard, space, run, [["endless"], "", False, *asked], f"watches{number}")
        time.sleep(1)
        began = time.monotonic()
        given = json.dumps({"do": "remove", "column": 0})
        assert '"success": true' in heard(space, number_of(space, "act"), [given, "", ["fast"], "", *ASKED])
        assert '"success": true' in heard(space, number_of(space, "show"), ["{}"])
        assert time.monotonic() - began < 1.5


def test_from_a_blind_comparison_nothing_goes_on_and_no_letter_is_chosen(space: App) -> None:
    run = heard(space, number_of(space, "run"), [["fast", "slow"], "", True, *ASKED])
    id = json.loads(run)["ids"][0]
    assert "event: end" in WEB.get(f"{space.url}watch/{id}").text
    for do in ("reply", "again", "go-on", "resend", "remove", "add-again", "parameters"):
        given = json.dumps({"do": do, "column": 0})
        said = heard(space, number_of(space, "act"), [given, id, ["fast"], "", *ASKED])
        assert "These answers wait for your vote" in said, do
    given = json.dumps({"do": "open-comparison", "id": id})
    opened = heard(space, number_of(space, "act"), [given, "", ["fast"], "", *ASKED])
    assert "Which answer is best?" in opened
    assert '"value": ["A", "B"]' not in opened
