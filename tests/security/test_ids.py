"""What is kept under an id: any text comes back as it was, and of an id that can be nobody's there is nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground.errors import StorageError, UsageError
from playground.records import Comparison, Environment, Message, ModelRun, Request, Timings, Variant, as_id
from playground.results import scores, suites, votes
from playground.results.store import Store
from playground.service import Playground

pytestmark = pytest.mark.hostile

VARIANT = Variant("m", "onnx", "int8")
IDS: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        -1,
        2**63,
        2**200,
        1.5,
        float("nan"),
        float("inf"),
        b"a",
        [],
        ["a"],
        {},
        {"a": 1},
        ("a",),
        object(),
    ),
    *("", "\ud800", "a\ud800", "a\x00b", "\x00", "' OR 1=1 --", "../a", "é" * 10_000, "A", "a ", "%", "_"),
)
"""None of them is the id of anything."""
LONGEST = st.text(st.characters(exclude_categories=()), max_size=60)


def comparison(id: str, text: str = "Hi") -> Comparison:
    run = ModelRun(VARIANT, "onnx", "int8", text, "stop", Timings(ttft_s=0.1))
    messages = (Message("user", text), Message("assistant", text), Message("user", text))
    request = Request("", messages, text, stop=(text,) if text else ())
    return Comparison(id, "2026-11-23T10:00:00.000Z", request, (run,), Environment(text, 2, 1000.0, {text: text}))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store(tmp_path_factory.mktemp("home") / "playground.sqlite3")
    store.save(comparison("a"))
    yield store
    store.close()


@given(text=LONGEST, title=LONGEST, looked_for=LONGEST)
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_any_text_comes_back_as_it_was_and_can_be_listed_and_looked_for(
    store: Store, text: str, title: str, looked_for: str
) -> None:
    kept = comparison("b", text)
    store.save(kept)
    assert store.get("b") == kept
    assert store.rename("b", title)
    entry = store.entry("b")
    assert entry is not None and entry in store.entries()
    for words in (entry.prompt, entry.title):
        assert words.encode() is not None and "\x00" not in words
    store.entries(search=looked_for, model=looked_for)
    assert {each.id for each in store.entries(search=text)} >= ({"b"} if text.strip() else set())


@pytest.mark.parametrize("id", IDS, ids=lambda id: ascii(id)[:20])
def test_of_an_id_that_is_nobodys_there_is_nothing(store: Store, id: Any) -> None:
    runs, kept, tables = suites.Suites(store), votes.Votes(store), scores.Scores(store)
    found = (store.get(id), store.entry(id), store.owner(id), store.measurement(id), runs.get(id), runs.plan(id))
    assert found == (None,) * 6
    assert (runs.owner(id), kept.awaited(id), kept.get(id)) == (None, None, None)
    assert (runs.counts(id), runs.done(id, 0), runs.answers(id, 0, 0), list(runs.in_order(id))) == ({}, set(), [], [])
    assert runs.cells(id).cells == ()
    assert not any((store.rename(id, "x"), store.set_favourite(id, True), store.delete(id), runs.delete(id)))
    assert (runs.set_status(id, "done"), runs.forget_failed(id), tables.delete([id])) == (False, 0, 0)
    store.claim([id], "somebody")
    assert store.get("a") is not None and store.owner("a") == ""


def test_the_service_knows_no_id_that_is_nobodys(playground: Playground) -> None:
    for id in IDS:
        found = (playground.running(id), playground.begun_by(id), playground.comparison(id), playground.measurement(id))
        assert found == (None,) * 4
        assert (playground.history_entry(id), playground.running_suite(id), playground.suite_run(id)) == (None,) * 3
        assert (playground.answered(id), playground.vote_on(id)) == (None, None)
        assert not any((playground.blind(id), playground.may_vote(id, "me"), playground.voted(id, "me")))
        assert not playground.has_suite(id) and playground.suite_cells(id).cells == ()
        changes: tuple[Callable[[], object], ...] = (
            lambda id=id: playground.rename(id, "me", "x"),
            lambda id=id: playground.set_favourite(id, "me", True),
            lambda id=id: playground.delete(id, "me"),
            lambda id=id: playground.vote(id, "me", "tie"),
            lambda id=id: playground.pause_suite(id, "me"),
            lambda id=id: playground.resume_suite(id, "me"),
            lambda id=id: playground.delete_suite(id, "me"),
            lambda id=id: playground.suite_summary(id),
            lambda id=id: playground.suite_outcomes(id),
            lambda id=id: playground.suite_comparison(id, 0),
        )
        for change in changes:
            with pytest.raises(UsageError):
                change()


@pytest.mark.parametrize(
    "document", ["[]", "{}", "1e999", '"a"', '{"id": "a", "runs": 5}', '{"created_at": []}', "[" * 9999]
)
def test_a_damaged_document_is_an_error_that_names_the_file(tmp_path: Path, document: str) -> None:
    store = Store(tmp_path / "kept.sqlite3")
    store.save(comparison("a"))
    with store.writing() as connection:
        connection.execute("UPDATE comparison SET document = ?", (document,))
    with pytest.raises(StorageError, match=r"kept\.sqlite3"):
        store.get("a")
    store.close()


@given(id=st.one_of(LONGEST, st.integers(), st.lists(st.text())))
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_an_id_is_itself_where_it_can_be_stored(id: Any) -> None:
    known = as_id(id)
    assert known in (id, "")
    assert known.encode().decode() == known
    if isinstance(id, str) and id.isprintable():
        assert known == id
