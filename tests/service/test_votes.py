"""What waits for a vote is blind wherever the service gives it out; a vote is its owner's, and reveals it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from playground.errors import StorageError, UsageError
from playground.experiments.blind import shuffled
from playground.messages import msg
from playground.records import Request
from playground.service import Playground
from tests.conftest import MakeSettings
from tests.support.votes import BASE, FAST, SLOW, answered, vote

AT = "2026-11-26T10:00:00.000Z"


def begun(playground: Playground, id: str = "c1", owner: str = "") -> None:
    playground.keep(answered(id, SLOW, FAST), owner)
    playground.votes_kept.begin(id, owner, AT)


def named(*told: object) -> list[str]:
    """Names and figures in what was given out."""
    shown = json.dumps([part.to_json() if hasattr(part, "to_json") else str(part) for part in told])
    return [word for word in ("slow", "fast", "fake") if word in shown]


def test_every_way_to_a_waiting_comparison_is_blind(playground: Playground) -> None:
    begun(playground)
    assert playground.blind("c1")
    assert named(playground.comparison("c1"), *playground.comparisons(5)) == []
    assert [run.text for run in playground.comparison("c1").runs] == ["Answer 0.", "Answer 1."]  # type: ignore[union-attr]


def test_the_history_says_which_models_were_asked_but_not_in_which_column(playground: Playground) -> None:
    begun(playground)
    entry = playground.history_entry("c1")
    assert entry and entry.variants == (FAST, SLOW), "by name: the columns are slow, fast"
    assert playground.history("")[0].variants == (FAST, SLOW)
    playground.vote("c1", "", "tie")
    assert playground.history("")[0].variants == (SLOW, FAST)


def test_the_vote_reveals(playground: Playground) -> None:
    begun(playground)
    cast = playground.vote("c1", "", "best", 0, tag="Facts", note="short")
    assert (cast.blind, cast.variants[0], cast.tag) == (True, SLOW, "facts")
    assert not playground.blind("c1")
    assert playground.comparison("c1").runs[0].variant == SLOW  # type: ignore[union-attr]
    assert playground.vote_on("c1") == cast


def test_nothing_goes_on_from_a_waiting_comparison(playground: Playground) -> None:
    begun(playground)
    seen = playground.comparison("c1")
    assert seen
    ways: list[Callable[[], object]] = [
        lambda: playground.replay(seen),
        lambda: playground.token_view(seen, 0),
        lambda: playground.reply(seen, "And Italy?"),
        lambda: playground.resend(seen, 0, "Italy?"),
        lambda: playground.again(seen, 0),
        lambda: playground.go_on(seen, 0),
        lambda: playground.compare(Request("Italy?"), [FAST], parent=seen),
    ]
    for way in ways:
        with pytest.raises(UsageError, match="wait for your vote"):
            way()
    assert playground.context_use(seen, 0) is None


def test_with_fewer_than_two_answers_there_is_nothing_to_hide_for(playground: Playground) -> None:
    whole = answered("c1", SLOW, FAST)
    broken = replace(whole.runs[1], text="", error=msg("broke"))
    playground.keep(replace(whole, runs=(whole.runs[0], broken)))
    playground.votes_kept.begin("c1", "", AT)
    assert not playground.blind("c1")
    assert playground.comparison("c1").runs[0].variant == SLOW  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="no two answers"):
        playground.vote("c1", "", "tie")


def test_among_strangers_the_vote_is_the_owners_alone(make_settings: MakeSettings) -> None:
    with Playground(make_settings(SPACE_ID="owner/name")) as playground:
        begun(playground, owner="me")
        assert playground.may_vote("c1", "me")
        assert not playground.may_vote("c1", "other") and not playground.may_vote("c1", "")
        with pytest.raises(UsageError, match="not run for a blind vote of yours"):
            playground.vote("c1", "other", "tie")
        assert playground.blind("c1")
        playground.vote("c1", "me", "tie")
        assert [playground.voted("c1", owner) for owner in ("me", "other", "")] == [True, False, False]
        assert [len(playground.votes(owner)) for owner in ("me", "other", "")] == [1, 0, 0]
        assert not playground.ratings("other").models
        assert playground.export_votes("other", "jsonl") == ""


def test_what_was_not_blind_takes_no_vote(playground: Playground) -> None:
    playground.keep(answered("c1", FAST, SLOW))
    with pytest.raises(UsageError, match="not run for a blind vote"):
        playground.vote("c1", "", "tie")
    with pytest.raises(UsageError, match="not run for a blind vote"):
        playground.vote("nowhere", "", "tie")


def test_ratings_by_tag_and_by_model_of_blind_votes_alone(playground: Playground) -> None:
    for number in range(3):
        vote(playground, f"code-{number}", "best", 0, tag="code")
    vote(playground, "facts", "best", 1, tag="facts")
    found = playground.ratings("")
    assert [(rating.name, rating.wins, rating.losses) for rating in found.models] == [
        (str(FAST), 3, 1),
        (str(SLOW), 1, 3),
    ]
    assert found.models[0].win_rate == pytest.approx(2 / 3, abs=1e-6)
    assert [rating.name for rating in playground.ratings("", "model").models] == ["fast", "slow"]
    assert playground.ratings("", tag="facts").models[0].name == str(SLOW)
    assert playground.vote_tags("") == ["code", "facts"]
    playground.vote("facts", "", "best", 0)
    assert playground.ratings("").votes == 3, "changed after the names were known: kept, but not counted"
    assert len(playground.votes("")) == 4


def test_a_deleted_comparison_leaves_its_vote(playground: Playground) -> None:
    vote(playground, "c1", "best", 0)
    playground.delete("c1", "")
    assert [each.comparison for each in playground.votes("")] == ["c1"]


def test_columns_come_in_every_order() -> None:
    orders = Counter(tuple(shuffled([FAST, SLOW, BASE])) for _ in range(600))
    assert len(orders) == 6
    assert min(orders.values()) > 50


def test_a_blind_run_shows_nothing_until_all_have_answered(playground: Playground) -> None:
    job = playground.compare_blind(Request("Hi?"), [FAST, SLOW])
    seen = [job.snapshot()]
    while not job.done:
        assert playground.blind(job.id)
        seen.append(job.snapshot())
        running = playground.running(job.id)
        if running:
            assert named(*running.snapshot().lives) == []
            stored = playground.comparison(job.id)
            told = stored is not None and stored.runs
            assert not told or playground.running(job.id) is None, "what is done already would tell who is fast"
    result = job.result()
    assert len({(live.kind, live.text, live.n_tokens, live.message) for at in seen[:-1] for live in at.lives}) == 1
    assert named(*(live for at in [*seen, job.snapshot()] for live in at.lives), result) == []
    assert sorted(run.text for run in result.runs)[1].startswith("Paris")
    playground.vote(job.id, "", "tie")
    shown = playground.comparison(job.id)
    assert shown and {run.variant for run in shown.runs} == {FAST, SLOW}
    assert [run.text for run in shown.runs] == [run.text for run in result.runs]
    assert shown.runs[0].timings.output_tokens


def test_a_search_finds_no_answer_of_a_blind_run_that_goes_on(playground: Playground) -> None:
    job = playground.compare_blind(Request("Hi?"), [FAST, *playground.variants(["endless"])], "fast")
    until = time.monotonic() + 20
    while not playground.store.entries(search="Paris"):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert playground.running(job.id)
    assert playground.history("", search="Paris") == []
    assert [entry.id for entry in playground.history("")] == [job.id]
    job.stop()
    assert job.wait(30)


def test_a_vote_comes_after_the_answers(playground: Playground) -> None:
    job = playground.compare_blind(Request("Hi?"), [FAST, SLOW])
    with pytest.raises(UsageError, match="still answering"):
        playground.vote(job.id, "", "tie")
    job.result()


def test_one_model_is_nothing_to_vote_on(playground: Playground) -> None:
    with pytest.raises(UsageError, match="two answers or more"):
        playground.compare_blind(Request("Hi?"), [FAST])


def test_a_comparison_is_blind_before_it_can_be_found(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noting takes its time here; the comparison must neither be listed nor stored before."""
    found: list[object] = []

    def begin(id: str, owner: str, at: str) -> None:
        time.sleep(0.3)
        found.extend([playground.running(id), playground.store.get(id), *playground.history("")])
        note(id, owner, at)

    note = playground.votes_kept.begin
    monkeypatch.setattr(playground.votes_kept, "begin", begin)
    job = playground.compare_blind(Request("Hi?"), [FAST, SLOW])
    assert found == [None, None]
    job.result()
    assert playground.blind(job.id)


def test_where_the_vote_can_not_be_kept_nothing_goes_on(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(id: str, owner: str, at: str) -> None:
        raise StorageError(msg("full"), msg("Free some space on that disk."))

    monkeypatch.setattr(playground.votes_kept, "begin", begin)
    with pytest.raises(StorageError):
        playground.compare_blind(Request("Hi?"), [FAST, SLOW])
    assert not playground.going_on.jobs


def test_a_run_with_one_answer_is_told_at_its_end(playground: Playground) -> None:
    job = playground.compare_blind(Request("Hi?"), [FAST, replace(FAST, model="fails")])
    assert {run.variant.model for run in job.result().runs} == {"fast", "fails"}
    assert not playground.blind(job.id)
