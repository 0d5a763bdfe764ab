"""Suites are kept cell by cell: a place once, for every reader and writer, found by finish and by place."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from playground.records import Column, Environment, Message, Request, SuiteRow, SuiteRun, Variant
from playground.results.database import MIGRATIONS
from playground.results.store import Retention, Store
from playground.results.suites import PART, WEIGHT, Suites, asked
from tests.support.suite_runs import cell, suite_run


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "home" / "playground.sqlite3")
    yield store
    store.close()


@pytest.fixture
def suites(store: Store) -> Suites:
    return Suites(store)


def numbered(number: int, **more: object) -> SuiteRun:
    return suite_run(id=f"s{number}", created_at=f"2026-11-23T10:00:{number:02d}.000Z", **more)  # type: ignore[arg-type]


def test_a_suite_comes_back_as_it_was(suites: Suites) -> None:
    run = replace(
        suite_run(repeats=2, file="odd: \ud800 \x00 🦙 '); DROP TABLE suite; --"), name="a\nb \ud800" + "x" * 300
    )
    suites.begin(run, plan=run.rows[0], owner="ann")
    assert suites.get(run.id) == replace(run, status="paused")  # as nobody runs it
    assert suites.plan(run.id) == run.rows[0].to_json()
    assert suites.owner(run.id) == "ann"
    assert suites.get("none") is suites.plan("none") is suites.owner("none") is None
    (entry,) = suites.entries()
    assert (entry.id, entry.cells, entry.done, entry.status) == (run.id, 12, 0, "paused")
    assert entry.variants == (Variant("one", "fake", "none"), Variant("two", "fake", "none"))
    assert len(entry.name) == 120
    assert "\n" not in entry.name


def test_a_place_is_taken_once_by_whoever_is_first(suites: Suites) -> None:
    run = suite_run()
    suites.begin(run)
    assert suites.put(run.id, [cell(run, 0, 0, text="first")])
    assert suites.put(run.id, [cell(run, 0, 0, text="second"), cell(run, 1, 0)])
    assert [each.run.text for each in suites.in_order(run.id)] == ["first", "Well."]


def test_nothing_is_put_into_a_suite_that_is_deleted(suites: Suites, store: Store) -> None:
    run = suite_run()
    suites.begin(run, owner="ann")
    suites.put(run.id, [cell(run, 0, 0)])
    assert not suites.delete(run.id, "bob")
    assert suites.delete(run.id, "ann")
    assert not suites.put(run.id, [cell(run, 1, 0)])
    assert not suites.set_status(run.id, "done")
    with store.reading() as connection:
        assert connection.execute("SELECT count(*) FROM suite_cell").fetchone() == (0,)


def test_cells_come_in_parts_in_the_order_they_ended_and_nothing_twice(suites: Suites) -> None:
    run = suite_run(rows=5)
    suites.begin(run)
    for column, row in ((1, 3), (0, 2), (1, 0)):
        suites.put(run.id, [cell(run, row, column)])
    part = suites.cells(run.id, limit=2)
    assert [(each.column, each.row) for each in part.cells] == [(1, 3), (0, 2)]
    assert [(each.column, each.row) for each in suites.cells(run.id, part.last).cells] == [(1, 0)]
    later = suites.cells(run.id, part.last)
    assert suites.cells(run.id, later.last) == replace(later, cells=())
    suites.put(run.id, [cell(run, 4, 1)])
    assert [each.row for each in suites.cells(run.id, later.last).cells] == [4]


def test_what_is_asked_again_after_a_failure_is_news_to_whoever_read_the_failure(suites: Suites) -> None:
    run = suite_run()
    suites.begin(run)
    suites.put(run.id, [cell(run, 0, 0), cell(run, 1, 0, error="lost")])
    read = suites.cells(run.id)
    assert suites.forget_failed(run.id) == 1
    assert suites.forget_failed(run.id) == 0
    suites.put(run.id, [cell(run, 1, 0, text="found")])
    assert [each.run.text for each in suites.cells(run.id, read.last).cells] == ["found"]


@pytest.mark.parametrize("order", ["rows", "columns"])
def test_cells_come_by_their_places_whatever_their_number(suites: Suites, order: str) -> None:
    run = suite_run(rows=PART, repeats=2)
    suites.begin(run)
    places = [(row, column, sample) for row in range(PART) for column in (1, 0) for sample in (0, 1)]
    suites.put(run.id, [cell(run, row, column, sample=sample) for row, column, sample in places])
    found = [(each.row, each.column, each.sample) for each in suites.in_order(run.id, order)]  # type: ignore[arg-type]
    key = (lambda place: place) if order == "rows" else (lambda place: (place[1], place[0], place[2]))
    assert found == sorted(places, key=key)
    assert suites.done(run.id, 1) == {(row, sample) for row in range(PART) for sample in (0, 1)}
    assert [each.sample for each in suites.answers(run.id, 7, 0)] == [0, 1]


def test_counts_are_of_each_column(suites: Suites) -> None:
    run = suite_run(rows=4)
    suites.begin(run)
    suites.put(run.id, [cell(run, 0, 0), cell(run, 1, 0, False), cell(run, 2, 0, None), cell(run, 3, 0, error="x")])
    suites.put(run.id, [cell(run, 0, 1)])
    one, two = suites.counts(run.id).values()
    assert (one.done, one.passed, one.judged, one.failed, one.seconds) == (4, 2, 3, 1, 3.0)
    assert (two.done, two.passed, two.judged, two.failed) == (1, 1, 1, 0)
    (entry,) = suites.entries()
    assert (entry.done, entry.passed, entry.judged, entry.failed) == (5, 3, 4, 1)


def test_who_runs_it_is_known_while_they_live(suites: Suites) -> None:
    run = suite_run()
    suites.begin(run)
    lock = suites.claim(run.id)
    assert lock.take()
    assert suites.entries()[0].status == "running"
    lock.release()
    assert suites.entries()[0].status == "paused"
    suites.set_status(run.id, "done", "2026-11-23T10:00:00.000Z")
    found = suites.get(run.id)
    assert found
    assert (found.status, found.finished_at) == ("done", "2026-11-23T10:00:00.000Z")


def test_each_owner_has_a_list_of_their_own_the_newest_first(suites: Suites) -> None:
    for number, owner in enumerate(("ann", "bob", "ann", "ann")):
        suites.begin(numbered(number), owner=owner)
    assert [entry.id for entry in suites.entries("ann")] == ["s3", "s2", "s0"]
    assert [entry.id for entry in suites.entries("ann", limit=1, offset=1)] == ["s2"]
    assert [entry.id for entry in suites.entries()] == ["s3", "s2", "s1", "s0"]


def test_where_strangers_fill_it_the_oldest_go_but_not_one_that_is_run(tmp_path: Path) -> None:
    store = Store(tmp_path / "playground.sqlite3", Retention(most=3 * WEIGHT, each=2 * WEIGHT))
    suites = Suites(store)
    suites.begin(numbered(0), owner="ann")
    lock = suites.claim("s0")
    lock.take()
    for number in range(1, 4):
        suites.begin(numbered(number), owner="ann")
    assert [entry.id for entry in suites.entries()] == ["s3", "s2", "s0"]
    lock.release()
    suites.begin(numbered(4), owner="bob")
    assert [entry.id for entry in suites.entries()] == ["s4", "s3", "s2"]
    store.close()
    store = Store(tmp_path / "playground.sqlite3", Retention(days=1))
    Suites(store).begin(suite_run(id="today", created_at="2999-11-23T10:00:00.000Z"))
    assert Suites(store).get("s4") is None
    assert [entry.id for entry in Suites(store).entries()] == ["today"]
    store.close()


def test_threads_can_share_them(suites: Suites) -> None:
    run = suite_run(rows=40)
    suites.begin(run)

    def write(column: int) -> None:
        for row in range(40):
            suites.put(run.id, [cell(run, row, column)])
            suites.cells(run.id, 0, 5)

    threads = [threading.Thread(target=write, args=(column,)) for column in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counted.done for counted in suites.counts(run.id).values()) == 80


@pytest.mark.fault
def test_a_damaged_cell_is_left_out_and_counted(suites: Suites, store: Store) -> None:
    run = suite_run()
    suites.begin(run)
    suites.put(run.id, [cell(run, 0, 0)])
    store.close()
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE suite_cell SET document = '{\"row\": '")
    assert suites.cells(run.id).cells == () and list(suites.in_order(run.id)) == []
    assert suites.counts(run.id)[0].done == 1


def test_a_database_from_before_suites_is_brought_up_to_date(store: Store, suites: Suites) -> None:
    before = next(number for number, script in enumerate(MIGRATIONS) if "CREATE TABLE suite " in script)
    store.path.parent.mkdir()
    with sqlite3.connect(store.path) as connection:
        for script in MIGRATIONS[:before]:
            connection.executescript(script)
        connection.execute(f"PRAGMA user_version = {before}")
    suites.begin(suite_run())
    assert len(suites.entries()) == 1


# -- what is asked ------------------------------------------------------------------------------------------------


def test_a_cell_is_asked_the_columns_way_what_its_row_says() -> None:
    talk = (Message("system", "Be kind."), Message("user", "Hi"))
    rows = (
        SuiteRow("a", "a", prompt="One?"),
        SuiteRow("b", "b", prompt="Two?", system="Of the row."),
        SuiteRow("c", "c", messages=talk),
    )
    base = Request(system="Of the column.", temperature=0.5, seed=3, max_new_tokens=9)
    columns = (Column(Variant("m"), base), Column(Variant("m"), replace(base, seed=None)), Column(Variant("m")))
    run = SuiteRun("s", "", "s", rows, columns, Environment("cpu", 2, 1000.0), repeats=2)
    assert asked(run, 0, 0) == replace(base, prompt="One?")
    assert asked(run, 0, 0, 1) == replace(base, prompt="One?", seed=4)
    assert asked(run, 1, 0).system == "Of the row."
    assert asked(run, 2, 0) == replace(base, messages=talk, system="")
    assert asked(run, 0, 1, 1).seed is None
    assert asked(run, 0, 2) == Request("One?")
    most = replace(run, columns=(Column(Variant("m"), replace(base, seed=2**63 - 1)),))
    assert asked(most, 0, 0, 1).seed == 0
