"""Scoring as a use case: checked before any work, in turns, in parts that are put together again."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from playground.config.settings import Settings
from playground.errors import Stopped, UsageError
from playground.records import Remote
from playground.runtimes.generation.token_scores import ScoredIds, ScoreIds
from playground.service import Playground, scoring
from tests.conftest import MakeSettings

pytestmark = pytest.mark.waits

MODEL = "fast"


def test_texts_come_back_in_their_order_with_figures_from_their_starts_on(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "PART_TOKENS", 12)  # several parts
    texts = [[9, 8, 7, 6, 5], [1, 2], [9, 8, 1], [3]]
    found = playground.score_tokens(MODEL, texts, top=1, starts=[3, 0, 1, 0])
    assert [[each.id for each in one] for one in found] == [[6, 5], [1, 2], [8, 1], [3]]
    assert found[1][0].logprob is None and (found[0][0].logprob or 0) < 0 and len(found[2][0].top_ids) == 1
    assert playground.score_tokens(MODEL, []) == []


def test_a_text_goes_to_tokens_and_back(playground: Playground) -> None:
    ids = playground.encode(MODEL, "one two  three", special=False)
    assert len(ids) == 3
    assert "".join(playground.decode(MODEL, ids)) == "one two  three"
    assert playground.decode(MODEL, []) == []


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an empty text": ({"prompts": [[1], []]}, "Text 2 has no token"),
    "no number": ({"prompts": [[1, "2"]]}, "Text 1 holds '2'"),
    "a truth value": ({"prompts": [[True]]}, "Text 1 holds True"),
    "below nothing": ({"prompts": [[-1]]}, "Text 1 holds -1"),
    "a start too many": ({"prompts": [[1]], "starts": [0, 0]}, "1 texts have 2 starts"),
    "a start behind the end": ({"prompts": [[1]], "starts": [2]}, "Text 1 starts at 2"),
    "too many alternatives": ({"prompts": [[1]], "top": 21}, "21 likeliest"),
    "too many texts": ({"prompts": [[1]] * 5000}, "5,000 texts"),
}


@pytest.mark.parametrize(("asked", "said"), WRONG.values(), ids=WRONG)
def test_what_is_no_list_of_texts_is_refused(playground: Playground, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        playground.score_tokens(MODEL, **asked)


def test_an_unknown_model_a_token_it_does_not_have_and_a_long_text_are_errors(playground: Playground) -> None:
    with pytest.raises(UsageError, match="nobody"):
        playground.score_tokens("nobody", [[1]])
    with pytest.raises(UsageError, match="has no token 50000"):
        playground.score_tokens(MODEL, [[50_000]])
    with pytest.raises(UsageError, match="characters"):
        playground.encode(MODEL, "a" * 10_000_000, special=False)


def test_who_takes_it_back_is_not_kept_waiting_for_a_turn(playground: Playground) -> None:
    with playground.pool.turns.hold(lambda: False, lambda _: None), pytest.raises(Stopped):
        playground.score_tokens(MODEL, [[1, 2]], cancelled=lambda: True)


def test_a_shared_beginning_stays_together() -> None:
    texts = ((5, 1), (9, 9), (5, 1, 2), (9,))
    ((places, part),) = scoring._parts(ScoreIds(texts))
    assert [texts[place] for place in places] == list(part.prompts) == sorted(texts)


def test_among_strangers_only_the_owner_of_the_last_texts_goes_on_from_them(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "PART_TOKENS", 12)
    seen: list[bool] = []
    ask = scoring.protocol.score_ids
    monkeypatch.setattr(
        scoring.protocol, "score_ids", lambda number, task: (seen.append(task.reuse), ask(number, task))[1]
    )
    with Playground(make_settings()) as alone:
        for _ in range(2):
            alone.score_tokens(MODEL, [[1, 2]])
    with Playground(make_settings(HOST="0.0.0.0")) as shared:
        for owner in ("a", "a", "b", "a", "", ""):
            shared.score_tokens(MODEL, [[1, 2]], owner=owner)
        assert seen == [True, True, False, True, False, False, False, False]
        seen.clear()
        shared.score_tokens(MODEL, [[1, 2] * 5, [3, 4] * 5])  # in two parts, of one call
        assert seen == [False, True]


@pytest.mark.waits
def test_others_come_in_between_the_parts_of_a_call(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "PART_TOKENS", 12)
    told: list[float] = []
    came: list[int] = []

    def other() -> None:
        with playground.pool.turns.hold(lambda: False, lambda _: None):
            came.append(len(told))

    def tell(share: float) -> None:
        told.append(share)
        if len(told) == 1:
            threading.Thread(target=other).start()
            time.sleep(0.2)

    ask = playground.pool.ask
    monkeypatch.setattr(playground.pool, "ask", lambda *args, **given: (time.sleep(0.1), ask(*args, **given))[1])
    playground.score_tokens(MODEL, [[place, 2] * 5 for place in range(1, 7)], tell=tell)
    assert len(told) == 6
    assert came
    assert came[0] < 6


def test_no_probability_at_all_is_a_number_that_json_can_hold() -> None:
    task = ScoreIds(((1, 2),))
    found = ScoredIds.from_json(ScoredIds(((None, -9999.0),)).to_json()).tokens(task)
    assert [each.logprob for each in found[0]] == [None, -9999.0]


def test_a_servers_model_gives_none(settings: Settings) -> None:
    remote = Remote("near", "m", "http://127.0.0.1:9/v1")
    with Playground(replace(settings, remotes=(remote,))) as opened, pytest.raises(UsageError, match="no logits"):
        opened.score_tokens("remote:near", [[1]])
