"""A document of the database is believed where it holds what its record says; one that does not is named, and the
others can be read. What could not be read again is not written."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from playground.errors import StorageError
from playground.messages import msg
from playground.records import (
    Comparison,
    Environment,
    Message,
    ModelRun,
    Record,
    Request,
    SuiteRow,
    Timings,
    TokenLogprob,
    Variant,
)
from playground.results import documents
from playground.results.figures import Figure, Measured, Measurement
from playground.results.scores import Evaluation, Metric, Scores
from playground.results.store import Store
from playground.results.suites import PART, Suites
from playground.results.votes import Vote, Votes
from tests.support.suite_runs import cell, suite_run

AT = "2026-11-23T10:00:00.000Z"
VARIANT = Variant("m", "onnx", "int8")
HERE = Environment("cpu", 2, 1000.0, {"python": "3.11"})


def comparison(id: str) -> Comparison:
    timings = Timings(ttft_s=0.1, token_stamps=(0.1, 1), threads=2, cold=False, mode="fair")
    run = ModelRun(
        *(VARIANT, "onnx", "int8", "Hi \ud800", "stop", timings),
        warnings=(msg("{n} warnings", n=1),),
        token_ids=(1, 2),
        logprobs=(TokenLogprob(1, -0.5, (1, 2), (-0.5, -1.5)),),
        request=Request("", (Message("user", "Hi"),)),
    )
    return Comparison(id, AT, Request(f"Of {id}"), (run,), HERE)


def measurement(id: str) -> Measurement:
    figures = {"ttft_s": Figure("ttft_s", "s", (0.1, 0.2), 0.1, 0.15, 0.2)}
    return Measurement(id, AT, Request("Hi"), 2, (Measured(VARIANT, figures=figures),), HERE)


def evaluation(id: str) -> Evaluation:
    metrics = (Metric("acc", "none", 0.5, 0.1, True, "10"),)
    return Evaluation(id, AT, VARIANT, "task", "1", metrics, 2, 10, "harness 1", HERE)


def vote(id: str) -> Vote:
    return Vote(id, (VARIANT, Variant("n")), (0, 1), "best", 0, AT)


@dataclass(frozen=True)
class Kind:
    """What is kept: how two of them are written, and one, and all that can be read, are read."""

    table: str
    key: str
    keep: Callable[[Store, str], object]
    one: Callable[[Store, str], object]
    some: Callable[[Store], list[str]]


def _keep_vote(store: Store, id: str) -> None:
    Votes(store).begin(id, "", AT)
    Votes(store).put(vote(id))


def _keep_suite(store: Store, id: str) -> None:
    Suites(store).begin(suite_run(id=id, rows=2), SuiteRow("a", "a"))


def _keep_cell(store: Store, id: str) -> None:
    run = suite_run(id="s", rows=2)
    if Suites(store).owner("s") is None:
        Suites(store).begin(run)
    Suites(store).put("s", [cell(run, "ab".index(id), 0, text=id)])


KINDS = {
    "comparison": Kind(
        *("comparison", "id", lambda store, id: store.save(comparison(id)), Store.get),
        lambda store: [each.id for each in store.list()],
    ),
    "measurement": Kind(
        *("measurement", "id", lambda store, id: store.save_measurement(measurement(id)), Store.measurement),
        lambda store: [each.id for each in store.measurements()],
    ),
    "evaluation": Kind(
        *("score", "id", lambda store, id: Scores(store).save([evaluation(id)])),
        lambda store, id: next((each for each in Scores(store).newest() if each.id == id), None),
        lambda store: [each.id for each in Scores(store).newest()],
    ),
    "vote": Kind(
        *("vote", "comparison", _keep_vote, lambda store, id: Votes(store).get(id)),
        lambda store: [each.comparison for each in Votes(store).kept()],
    ),
    "suite": Kind(
        *("suite", "id", _keep_suite, lambda store, id: Suites(store).get(id)),
        lambda store: [each.id for each in Suites(store).entries() if Suites(store).get(each.id)],
    ),
    "cell": Kind(
        *("suite_cell", "at_row", _keep_cell),
        lambda store, id: next(iter(Suites(store).answers("s", "ab".index(id), 0)), None),
        lambda store: [each.run.text for each in Suites(store).in_order("s")],
    ),
}
LISTED = ["comparison", "measurement", "evaluation", "vote", "cell"]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(documents, "_told", set())
    store = Store(tmp_path / "kept.sqlite3")
    yield store
    store.close()


def key(kind: Kind, id: str) -> Any:
    return "ab".index(id) if kind.key == "at_row" else id


def document(store: Store, kind: Kind, id: str) -> Any:
    with store.reading() as connection:
        select = f"SELECT document FROM {kind.table} WHERE {kind.key} = ?"
        return json.loads(connection.execute(select, (key(kind, id),)).fetchone()[0])


def put(store: Store, kind: Kind, id: str, text: Any) -> None:
    with store.writing() as connection:
        connection.execute(f"UPDATE {kind.table} SET document = ? WHERE {kind.key} = ?", (text, key(kind, id)))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield (*path, name)
        yield from places(each, (*path, name))


def with_value(whole: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(whole)
    at = changed
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    return changed


@pytest.mark.fault
@pytest.mark.parametrize("name", KINDS)
def test_of_a_document_with_a_value_of_another_kind_nothing_is_believed(name: str, store: Store) -> None:
    """Every value in turn becomes one of each other kind. What is read of that, if anything, holds its types."""
    kind = KINDS[name]
    kind.keep(store, "a")
    whole = document(store, kind, "a")
    assert isinstance(kind.one(store, "a"), Record)
    refused = 0
    for path in places(whole):
        for odd in ({"odd": 1}, [[]], [{"odd": 1}], True, 0.5, -(2**70), "odd", None):
            put(store, kind, "a", json.dumps(with_value(whole, path, odd)))
            try:
                found = kind.one(store, "a")
            except StorageError as error:
                assert "damaged" in error.what and "kept.sqlite3" in error.what and "others" in error.next_step
                assert " a " in f"{error.what} "
                found = None
            refused += found is None
            assert found is None or (isinstance(found, Record) and found.well_formed(any_text=True)), (path, odd)
    assert refused > 3 * len(list(places(whole)))
    put(store, kind, "a", json.dumps(whole))
    assert kind.one(store, "a") is not None


@pytest.mark.fault
@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("text", ['{"id": ', "5", b"\xff", None, '{"runs": NaN}', "[" * 9999])
def test_one_that_is_damaged_is_named_in_the_log_and_the_others_are_read(
    name: str, text: Any, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    kind = KINDS[name]
    for id in ("a", "b"):
        kind.keep(store, id)
    assert sorted(kind.some(store)) == ["a", "b"]
    if text is None and name == "vote":
        pytest.skip("a comparison without a vote")
    if text is None:
        text = json.dumps({**document(store, kind, "a"), "run": 5, "id": "b", "comparison": 5})
    put(store, kind, "a", text)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert kind.some(store) == ["b"]
    assert [record.message for record in caplog.records] == [caplog.records[0].message], "told once"
    assert "damaged" in caplog.text and "kept.sqlite3" in caplog.text
    assert caplog.records[0].__dict__["run"] == ("s" if name == "cell" else "a")


@pytest.mark.fault
def test_a_damaged_comparison_can_be_listed_and_deleted_and_its_line_may_be_damaged_too(store: Store) -> None:
    for id in ("a", "b"):
        store.save(comparison(id))
    with store.writing() as connection:
        connection.execute("UPDATE entry SET variants = '{', turns = 'many', title = x'ff', prompt = 5 WHERE id = 'a'")
        connection.execute("UPDATE comparison SET document = '{' WHERE id = 'a'")
    assert {each.id for each in store.entries()} == {"a", "b"}
    (entry,) = [each for each in store.entries() if each.id == "a"]
    assert entry.well_formed() and (entry.variants, entry.turns, entry.title) == ((), 1, "")
    assert store.asked_models() == [VARIANT]
    with pytest.raises(StorageError, match=r"Comparison a in .*kept\.sqlite3 is damaged.*others can be read"):
        store.get("a")
    assert store.get("b") == comparison("b")
    assert store.delete("a")
    assert [each.id for each in store.entries()] == ["b"]


@pytest.mark.fault
def test_a_part_of_a_suite_that_is_damaged_does_not_end_it(store: Store) -> None:
    suites, run = Suites(store), suite_run(id="s", rows=PART + 2)
    suites.begin(run)
    suites.put("s", [cell(run, row, 0) for row in range(PART + 2)])
    with store.writing() as connection:
        connection.execute("UPDATE suite_cell SET document = '{' WHERE at_row < ?", (PART,))
    part = suites.cells("s")
    assert [each.row for each in part.cells] == [PART, PART + 1]
    assert suites.cells("s", part.last).cells == ()
    assert [each.row for each in suites.in_order("s")] == [PART, PART + 1]


@pytest.mark.fault
def test_a_damaged_suite_is_named_and_listed(store: Store) -> None:
    suites = Suites(store)
    for id in ("a", "b"):
        suites.begin(suite_run(id=id), SuiteRow("x", "x"))
    with store.writing() as connection:
        connection.execute("UPDATE suite SET document = '[]', status = 'odd', cells = 'odd', name = 7 WHERE id = 'a'")
    for read in (suites.get, suites.plan):
        with pytest.raises(StorageError, match=r"Suite a in .* is damaged"):
            read("a")
        assert read("b") is not None
    assert {each.id: each.status for each in suites.entries()} == {"a": "paused", "b": "paused"}
    assert all(each.well_formed() for each in suites.entries())
    assert suites.delete("a")


@pytest.mark.fault
def test_a_vote_in_place_of_a_damaged_one_counts_as_cast_with_the_names_known(store: Store) -> None:
    votes = Votes(store)
    _keep_vote(store, "a")
    assert votes.put(vote("a")).blind
    put(store, KINDS["vote"], "a", '{"outcome": 5}')
    assert not votes.put(vote("a")).blind
    assert votes.get("a") == replace(vote("a"), blind=False)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_figure_that_is_no_number_is_our_own_error_and_what_was_kept_stays(number: float, store: Store) -> None:
    for kind in KINDS.values():
        kind.keep(store, "a")
    good = comparison("a")
    bad = replace(good, runs=(replace(good.runs[0], timings=Timings(ttft_s=number)),))
    figure = Figure("ttft_s", "s", (number,), number, number, number)
    measured = replace(measurement("a"), models=(Measured(VARIANT, figures={"ttft_s": figure}),))
    run = suite_run(id="s", rows=2)
    writes: list[Callable[[], object]] = [
        lambda: store.save(bad),
        lambda: store.save_measurement(measured),
        lambda: Suites(store).put("s", [cell(run, 1, 0, ttft_s=number)]),
        lambda: Suites(store).begin(replace(run, id="t", environment=replace(HERE, memory_limit_mb=number))),
        lambda: Scores(store).save([replace(evaluation("b"), metrics=(Metric("acc", "none", number),))]),
    ]
    for write in writes:
        with pytest.raises(StorageError, match=r"can't be written.*report it"):
            write()
    assert store.get("a") == good and store.measurement("a") == measurement("a")
    assert [each.run.text for each in Suites(store).in_order("s")] == ["a"]
    assert Suites(store).get("t") is None and Scores(store).newest() == [evaluation("a")]
    store.save(good)
