"""What is kept comes back as it was, for every reader and writer; what can't be kept is said, and nothing is lost."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from playground.config.settings import Settings
from playground.errors import StorageError, UsageError
from playground.paths import ROOT
from playground.records import Comparison, Environment, Message, ModelRun, Request, Timings, Variant
from playground.results import database
from playground.results import store as results_store
from playground.results.database import MIGRATIONS
from playground.results.store import EVERYTHING, Retention, Store
from playground.service import Playground
from playground.service.history import retention


def comparison(id: str = "a", created_at: str = "2026-11-23T10:00:00.000Z", prompt: str = "Hello?") -> Comparison:
    run = ModelRun(
        Variant("m", "onnx", "int8"), "onnx", "int8", "Hi", "stop", Timings(ttft_s=0.1, token_stamps=(0.1, 0.2))
    )
    return Comparison(id, created_at, Request(prompt), (run,), Environment("cpu", 2, 1000.0, {"python": "3.11"}))


@pytest.fixture
def store(tmp_path: Path):
    store = Store(tmp_path / "home" / "playground.sqlite3")
    yield store
    store.close()


def test_a_comparison_comes_back_as_it_was(store: Store) -> None:
    kept = comparison(prompt="odd: \ud800 \x00 🦙 '); DROP TABLE comparison; --")
    store.save(kept)
    assert store.get("a") == kept
    assert store.list() == [kept]
    assert store.get("b") is None


def test_the_newest_come_first_and_no_more_than_asked_for(store: Store) -> None:
    for hour in (3, 1, 5, 2, 4):
        store.save(comparison(f"id{hour}", f"2026-11-23T0{hour}:00:00.000Z"))
    assert [kept.id for kept in store.list(3)] == ["id5", "id4", "id3"]
    assert store.count() == 5


def test_saving_again_replaces(store: Store) -> None:
    store.save(comparison(prompt="first"))
    store.save(comparison(prompt="second"))
    assert store.count() == 1
    assert store.list()[0].request.prompt == "second"


def test_what_is_kept_is_there_after_a_restart(store: Store) -> None:
    store.save(comparison())
    store.close()
    again = Store(store.path)
    assert again.get("a") == comparison()
    again.close()


def test_opening_writes_nothing(tmp_path: Path) -> None:
    Store(tmp_path / "home" / "playground.sqlite3").close()
    assert list(tmp_path.iterdir()) == []


def test_threads_can_share_a_store(store: Store) -> None:
    def write(writer: int) -> None:
        for number in range(20):
            store.save(comparison(f"{writer}-{number}"))
            store.list(5)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.count() == 80


def test_processes_can_share_a_database_from_its_first_moment(tmp_path: Path) -> None:
    files, writers = 30, 4
    script = """
import sys, time
from pathlib import Path
from tests.results.test_store import comparison
from playground.results.store import Store
folder, files, writer = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
print("ready", flush=True)
start = float(sys.stdin.readline())
for number in range(files):
    store = Store(folder / f"{number}.sqlite3")
    time.sleep(max(0, start + number * 0.05 - time.time()))  # all of them at the same moment
    store.save(comparison(f"{writer}-{number}"))
    store.close()
"""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), str(files), str(writer)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for writer in range(writers)
    ]
    for process in started:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    start = time.time() + 0.2
    for process in started:
        assert process.stdin is not None
        process.stdin.write(f"{start}\n")
        process.stdin.flush()
    for process in started:
        assert process.communicate(timeout=60)[1] == ""
        assert process.returncode == 0
    for number in range(files):
        store = Store(tmp_path / f"{number}.sqlite3")
        assert store.count() == writers
        store.close()


def test_a_database_of_an_older_version_is_brought_up_to_date(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save(comparison())
    store.close()
    newer = (*MIGRATIONS, "CREATE TABLE novelty (comparison TEXT); ALTER TABLE comparison ADD COLUMN note TEXT;")
    monkeypatch.setattr(database, "MIGRATIONS", newer)
    assert store.get("a") == comparison()
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(newer),)
        assert connection.execute("SELECT note FROM comparison").fetchall() == [(None,)]


def test_a_migration_that_fails_leaves_the_database_as_it_was(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save(comparison())
    store.close()
    with monkeypatch.context() as patched:
        patched.setattr(database, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE novelty (a TEXT); CREATE NONSENSE;"))
        with pytest.raises(StorageError, match="NONSENSE"):
            store.list()
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'novelty'").fetchone() == (0,)
    assert store.get("a") == comparison()


def test_a_database_of_a_newer_version_is_left_alone(store: Store) -> None:
    store.save(comparison())
    store.close()
    with sqlite3.connect(store.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StorageError, match=r"newer version.*Update"):
        store.list()


@pytest.mark.fault
def test_a_damaged_database_is_named_and_not_overwritten(store: Store) -> None:
    store.path.parent.mkdir()
    store.path.write_bytes(b"this is not a database" * 100)
    for action in (store.list, store.count, lambda: store.get("a"), lambda: store.save(comparison())):
        with pytest.raises(StorageError) as caught:
            action()
        assert str(store.path) in caught.value.what
        assert "move it away" in caught.value.next_step
    assert store.path.read_bytes().startswith(b"this is not")


@pytest.mark.fault
def test_a_damaged_entry_is_an_error_with_a_path_and_left_out_of_a_list(store: Store) -> None:
    store.save(comparison())
    store.close()
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE comparison SET document = '{\"id\": '")
    with pytest.raises(StorageError, match=r"Comparison a in .*playground\.sqlite3 is damaged"):
        store.get("a")
    assert store.list() == []


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = Store(tmp_path / "file" / "playground.sqlite3")
    with pytest.raises(StorageError, match=r"can't be kept in .*PLAYGROUND_HOME"):
        store.save(comparison())


def test_a_home_that_cannot_be_written_is_named_and_works_again_afterwards(store: Store) -> None:
    store.save(comparison("kept"))
    store.close()
    read_only = sqlite3.connect  # root may write anywhere, so the file is opened read-only instead
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sqlite3, "connect", lambda path, **how: read_only(f"file:{path}?mode=ro", uri=True, **how))
        with pytest.raises(StorageError, match="readonly"):
            store.save(comparison("lost"))
    assert [found.id for found in store.list()] == ["kept"]
    store.save(comparison("later"))
    assert store.count() == 2


def test_who_reads_does_not_wait_for_a_write_that_waits_for_another_process(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(comparison("kept"))
    monkeypatch.setattr("playground.results.database.BUSY_S", 1.0)
    store.close()
    with sqlite3.connect(store.path, isolation_level=None) as other, ThreadPoolExecutor() as threads:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(2):  # once while it waits, and once more after it was told that it waited in vain
            saved = threads.submit(store.save, comparison("late"))
            time.sleep(0.2)
            began = time.monotonic()
            assert [found.id for found in store.list()] == ["kept"]
            assert store.owner("kept") == ""
            assert time.monotonic() - began < 0.5
            assert not saved.done()
            with pytest.raises(StorageError, match="locked"):
                saved.result()
        other.execute("ROLLBACK")
    store.save(comparison("late"))
    assert store.count() == 2


@pytest.mark.fault
def test_a_full_disk_is_named_and_what_was_kept_stays(store: Store) -> None:
    store.save(comparison("kept"))
    connection = store._writer.connection
    assert connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError, match=r"full.*Free some space"):
        store.save(comparison("lost", prompt="x" * 100_000))
    assert [found.id for found in store.list()] == ["kept"]


def test_where_strangers_fill_it_the_oldest_go(tmp_path: Path) -> None:
    path = tmp_path / "playground.sqlite3"
    few, every = Store(path, Retention(most=3)), Store(path)
    for number in range(6):
        few.save(comparison(f"c{number}", f"2026-11-23T10:00:0{number}.000Z"))
    assert [kept.id for kept in every.list()] == ["c5", "c4", "c3"]
    every.save(comparison("c6", "2026-11-23T10:00:06.000Z"))
    assert every.count() == 4
    few.save(comparison("c5", "2026-11-23T10:00:05.000Z", prompt="again"))
    assert [kept.id for kept in every.list()] == ["c6", "c5", "c4"]
    few.close()
    every.close()


def test_a_space_keeps_so_many_and_a_machine_of_ones_own_all(make_settings: Callable[..., Settings]) -> None:
    for env, kept in (({"SPACE_ID": "o/n"}, Retention(2000, 200, 30.0)), ({}, EVERYTHING)):
        with Playground(make_settings(**env)) as playground:
            assert playground.store.retention == kept


# -- the list -----------------------------------------------------------------------------------------------------


def ids(store: Store, owner: str | None = None, **how: Any) -> list[str]:
    return [entry.id for entry in store.entries(owner, **how)]


def at(minute: int) -> str:
    return f"2026-11-23T10:{minute:02d}:00.000Z"


def test_a_list_shows_what_it_needs_and_pages(store: Store) -> None:
    for number in range(7):
        store.save(comparison(f"c{number}", at(number), prompt=f"Line one\n\nnumber {number}" + " x" * 400), "ann")
    assert ids(store, "ann", limit=3) == ["c6", "c5", "c4"]
    assert ids(store, "ann", limit=3, offset=6) == ["c0"]
    (entry,) = store.entries("ann", limit=1)
    assert entry.prompt.startswith("Line one number 6 x")
    assert len(entry.prompt) <= 300
    assert entry.variants == (Variant("m", "onnx", "int8"),)
    assert (entry.title, entry.favourite, entry.turns, entry.parent) == ("", False, 1, "")
    assert store.entry("c6") == entry
    assert store.entry("none") is None


def test_each_owner_has_a_list_of_their_own_and_nobody_changes_anothers(store: Store) -> None:
    store.save(comparison("hers", at(1)), "ann")
    store.save(comparison("his", at(2)), "bob")
    store.save(comparison("nobodys", at(3)))
    assert ids(store, "ann") == ["hers"]
    assert ids(store, "bob") == ["his"]
    assert ids(store, "") == ["nobodys"]
    assert ids(store) == ["nobodys", "his", "hers"]
    assert store.owner("hers") == "ann"
    assert store.owner("none") is None
    assert not store.rename("hers", "Stolen", "bob")
    assert not store.set_favourite("hers", True, "bob")
    assert not store.delete("hers", "bob")
    assert store.entry("hers") == store.entries("ann")[0]
    assert store.entries("ann")[0].title == ""
    store.save(comparison("hers", at(1), prompt="again"), "bob")
    assert store.owner("hers") == "ann"
    assert store.rename("his", "By whoever sits here", None)


def test_a_comparison_that_is_saved_again_keeps_title_and_star(store: Store) -> None:
    store.save(comparison(prompt="first"), "ann")
    assert store.rename("a", "  My\ntitle ", "ann")
    assert store.set_favourite("a", True, "ann")
    store.save(comparison(prompt="second"), "ann")
    (entry,) = store.entries("ann", favourites=True)
    assert (entry.title, entry.favourite, entry.prompt) == ("My title", True, "second")
    assert store.set_favourite("a", False, "ann")
    assert ids(store, favourites=True) == []


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("moon", ["moon"]),
        ("MOON  how", ["moon"]),
        ("oo", ["moon"]),
        ("富士", ["fuji"]),
        ("山 高さ", ["fuji"]),
        ("ﾒｰﾄﾙ", ["fuji"]),
        ("3776", ["fuji"]),
        ("Titled", ["moon"]),
        ("100%", ["percent"]),
        ("_", ["percent"]),
        ("moon 富士", []),
        ("'; DROP", []),
        ("", ["percent", "fuji", "moon"]),
        ("  ", ["percent", "fuji", "moon"]),
    ],
)
def test_words_are_found_in_prompts_answers_and_titles_in_any_language(
    store: Store, search: str, found: list[str]
) -> None:
    moon = comparison("moon", at(1), prompt="How far is the Moon?")
    fuji = comparison("fuji", at(2), prompt="富士山の高さは？")
    fuji = replace(fuji, runs=(replace(fuji.runs[0], text="３７７６メートルです。"),))
    for each in (moon, fuji, comparison("percent", at(3), prompt="100% of snake_case")):
        store.save(each, "ann")
    store.rename("moon", "Titled so", "ann")
    assert ids(store, "ann", search=search) == found
    assert ids(store, "bob", search=search) == []


def test_the_list_is_narrowed_to_a_model_or_one_of_its_variants(store: Store) -> None:
    one, other = comparison("one", at(1)), comparison("other", at(2))
    other = replace(other, runs=(replace(other.runs[0], variant=Variant("m2", "onnx", "int4")),))
    store.save(one)
    store.save(other)
    assert ids(store, model="m") == ["one"]
    assert ids(store, model="m2") == ["other"]
    assert ids(store, model="m2@onnx-int4") == ["other"]
    assert ids(store, model="m2@onnx-int") == []
    assert [str(each) for each in store.asked_models()] == ["m2@onnx-int4", "m@onnx-int8"]


def reply(to: Comparison, id: str, created_at: str, text: str) -> Comparison:
    said = (Message("user", to.request.prompt), Message("assistant", "Hi"), Message("user", text))
    run = replace(to.runs[0], request=Request(messages=said))
    return replace(to, id=id, created_at=created_at, runs=(run,), parent=to.id)


def test_a_conversation_is_one_entry_that_keeps_its_name_and_goes_as_a_whole(store: Store) -> None:
    first = comparison("first", at(1), prompt="Hello?")
    store.save(first, "ann")
    store.rename("first", "Greeting", "ann")
    store.set_favourite("first", True, "ann")
    second = reply(first, "second", at(2), "And now?")
    store.save(second, "ann")
    store.save(comparison("else", at(3)), "ann")
    listed = {entry.id: entry for entry in store.entries("ann")}
    assert list(listed) == ["else", "second"]
    talk = listed["second"]
    assert (talk.title, talk.favourite, talk.turns, talk.prompt) == ("Greeting", True, 2, "Hello?")
    assert ids(store, "ann", search="and now") == ["second"]
    assert store.delete("second", "ann")
    assert ids(store, "ann") == ["else"]
    assert store.get("first") is store.get("second") is None


def test_what_others_go_on_from_stays_and_is_listed_for_whom_it_belongs(store: Store) -> None:
    first = comparison("first", at(1))
    store.save(first, "ann")
    store.save(reply(first, "bobs", at(2), "Mine?"), "bob")
    assert ids(store, "ann") == ["first"]
    assert store.delete("bobs", "bob")
    assert ids(store, "ann") == ["first"]
    store.save(reply(first, "left", at(3), "Left?"), "ann")
    store.save(reply(first, "right", at(4), "Right?"), "ann")
    assert store.delete("left", "ann")
    assert ids(store, "ann") == ["right"]
    assert store.get("first") == first


def test_what_is_deleted_is_gone_even_if_it_was_still_going_on(store: Store) -> None:
    store.save(comparison(), "ann")
    assert store.delete("a", "ann")
    assert not store.delete("a", "ann")
    store.save(comparison(prompt="later"), "ann")
    assert store.get("a") is None
    assert ids(store) == []
    assert raw(store, "SELECT count(*) FROM entry") == [(0,)]


def raw(store: Store, statement: str) -> list[Any]:
    store.close()
    with sqlite3.connect(store.path) as connection:
        return connection.execute(statement).fetchall()


def old_file(path: Path, documents: list[tuple[str, str, str]]) -> None:
    """A file as version 2 wrote it."""
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as connection:
        for script in MIGRATIONS[:2]:
            connection.executescript(script)
        connection.execute("PRAGMA user_version = 2")
        connection.executemany("INSERT INTO comparison (id, created_at, document) VALUES (?, ?, ?)", documents)


def test_what_was_kept_before_there_was_a_list_is_listed_searched_and_claimed(store: Store) -> None:
    kept = [comparison("x", at(1), prompt="odd: \ud800 \x00 富士"), comparison("y", at(2))]
    damaged = ("z", at(3), '{"id": ')
    documents = [(each.id, each.created_at, json.dumps(each.to_json())) for each in kept]
    old_file(store.path, [*documents, damaged])
    assert ids(store) == ["z", "y", "x"]
    assert ids(store, search="富士 odd") == ["x"]
    assert store.get("x") == kept[0]
    assert store.delete("z")
    store.claim(["x", "none"], "ann")
    store.claim(["x", "y"], "bob")
    assert ids(store, "ann") == ["x"]
    assert ids(store, "bob") == ["y"]
    assert raw(store, "PRAGMA user_version") == [(len(MIGRATIONS),)]


def test_a_space_keeps_so_many_of_each_visitor_and_nothing_for_ever(tmp_path: Path) -> None:
    store = Store(tmp_path / "playground.sqlite3", Retention(most=10, each=2, days=30))
    now = datetime.now(UTC)

    def when(days: float) -> str:
        return (now - timedelta(days=days)).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    store.save(comparison("old", when(29.9)), "bob")
    store.set_favourite("old", True, "bob")
    for number in range(4):
        store.save(comparison(f"ann{number}", when(4 - number)), "ann")
    assert ids(store) == ["ann3", "ann2", "old"]
    for number in range(3):
        store.save(comparison(f"cli{number}", when(0.5)))
    assert len(ids(store, "")) == 3
    store.save(comparison("older", when(30.1)), "bob")
    assert ids(store, "bob") == ["old"]
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE comparison SET created_at = '2020-01-01T00:00:00.000Z' WHERE id = 'old'")
    store._expired_at = None
    assert ids(store, "bob") == []
    assert store.get("old") is None
    store.close()


def test_two_processes_list_what_either_keeps(store: Store) -> None:
    other = Store(store.path)
    store.save(comparison("one", at(1)), "ann")
    other.save(comparison("two", at(2)), "ann")
    assert ids(store, "ann") == ids(other, "ann") == ["two", "one"]
    assert other.delete("one", "ann")
    assert ids(store, "ann") == ["two"]
    other.close()


def test_a_thousand_entries_are_listed_and_searched_without_their_documents(store: Store) -> None:
    long = comparison(prompt="What is this? " * 20)
    long = replace(long, runs=(replace(long.runs[0], text="Some words of an answer. " * 100),))
    for number in range(1000):
        store.save(replace(long, id=f"c{number:04d}", created_at=at(number % 60)), "ann")
    store.close()
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE comparison SET document = 'not read'")
    ids(store, "ann", limit=30)
    began = time.thread_time()
    assert len(ids(store, "ann", limit=30)) == 30
    assert time.thread_time() - began < 0.05
    began = time.thread_time()
    assert ids(store, "ann", search="words that nobody said") == []
    assert time.thread_time() - began < 0.3


def test_what_is_too_old_goes_and_the_disk_gets_its_room_back(tmp_path: Path, make_settings: Any) -> None:
    settings = make_settings(PLAYGROUND_KEEP_DAYS="7")
    assert retention(settings) == Retention(days=7, doubts_clock=True)
    assert retention(make_settings(SPACE_ID="a/b", PLAYGROUND_KEEP_DAYS="7")).days == 7
    assert retention(make_settings(SPACE_ID="a/b", PLAYGROUND_KEEP_DAYS="400")).days == 30
    file = tmp_path / "playground.sqlite3"
    secret = "what a visitor wrote "
    first = Store(file)
    old = (datetime.now(UTC) - timedelta(days=9)).isoformat(timespec="milliseconds")
    new = (datetime.now(UTC) - timedelta(hours=1)).isoformat(timespec="milliseconds")
    yesterday = (datetime.now(UTC) - timedelta(days=0.9 + 1 / 6)).isoformat(timespec="milliseconds")
    first.save(comparison("new", new))
    first.save(comparison("yesterday", yesterday))
    for number in range(3):
        first.save(comparison(f"old{number}", old, secret * 100_000))
    first.close()
    before = file.stat().st_size
    store = Store(file, retention(settings))
    assert [kept.id for kept in store.list()] == ["new", "yesterday"]
    until = time.monotonic() + 20
    while store.loose and time.monotonic() < until:
        time.sleep(0.05)
    store.close()
    assert file.stat().st_size < before / 10
    assert secret.encode() not in b"".join(each.read_bytes() for each in tmp_path.iterdir())


def test_a_clock_that_is_far_ahead_deletes_nothing_and_is_believed_after_a_day_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = datetime.now(UTC)

    class Clock(datetime):
        ahead = timedelta()

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real + cls.ahead

    monkeypatch.setattr(results_store, "datetime", Clock)

    def save(id: str, at: datetime) -> None:
        kept.save(comparison(id, at.isoformat(timespec="milliseconds")))

    kept = Store(tmp_path / "playground.sqlite3", Retention(days=7, doubts_clock=True))
    for days in range(6):
        save(f"id{days}", real - timedelta(days=days))
    Clock.ahead = timedelta(days=30_000)
    kept._expired_at = None
    assert kept.count() == 6
    save("future", Clock.now())
    save("future2", Clock.now() + timedelta(hours=20))
    assert kept.count() == 8
    kept.close()
    # A process that starts with the wrong clock believes no more.
    kept = Store(tmp_path / "playground.sqlite3", Retention(days=7, doubts_clock=True))
    assert kept.count() == 8
    Clock.ahead = timedelta()
    save("again", real + timedelta(seconds=1))
    assert kept.count() == 9
    Clock.ahead = timedelta(days=30_002)
    save("late", Clock.now())
    assert {each.id for each in kept.list()} == {"future", "future2", "late"}
    kept.close()


def test_what_nobody_adds_to_still_becomes_too_old_where_the_app_runs_for_days(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "playground.sqlite3", Retention(days=7, doubts_clock=True))
    old = datetime.now(UTC) - timedelta(days=8)
    store.save(comparison("old", old.isoformat(timespec="milliseconds")))
    assert store.count() == 1
    ran = time.monotonic() + 7.5 * 86_400
    monkeypatch.setattr(time, "monotonic", lambda: ran)
    store._expired_at = None
    assert store.list() == []
    store.close()


def test_a_backup_is_whole_while_others_write_and_can_be_used_in_its_place(store: Store, tmp_path: Path) -> None:
    for number in range(50):
        store.save(comparison(f"id{number:02}", prompt="many words " * 2000))
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.is_set():
            store.save(comparison(f"more{number}"))
            number += 1

    with ThreadPoolExecutor(1) as writer:
        writing = writer.submit(write)
        size = store.back_up(tmp_path / "copy")
        ended.set()
        writing.result()
    copy = Store(tmp_path / "copy")
    assert copy.get("id49") == store.get("id49") and copy.count() >= 50
    copy.close()
    assert size == (tmp_path / "copy").stat().st_size
    assert (tmp_path / "copy").stat().st_mode & 0o077 == 0
    store.back_up(tmp_path / "copy")  # the one of yesterday is replaced
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".copy")]


def test_a_backup_replaces_nothing_that_is_none_and_leaves_nothing_where_it_fails(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Nothing was kept"):
        store.back_up(tmp_path / "copy")
    store.save(comparison())
    (tmp_path / "notes.txt").write_text("mine")
    for file in (tmp_path / "notes.txt", tmp_path, store.path):
        with pytest.raises(UsageError):
            store.back_up(file)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(StorageError, match="can't be written"):
        store.back_up(tmp_path / "no" / "folder" / "copy")
    damaged = Store(tmp_path / "damaged.sqlite3")
    damaged.path.write_bytes(b"SQLite format 3\0" + b"nonsense" * 1000)
    with pytest.raises(StorageError):
        damaged.back_up(tmp_path / "copy")
    damaged.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["damaged.sqlite3", "home", "notes.txt"]


def test_a_backup_put_in_the_place_of_a_database_in_use_is_what_is_read_and_stays_whole(
    store: Store, tmp_path: Path
) -> None:
    for number in range(20):
        store.save(comparison(f"old{number}"))
    store.back_up(tmp_path / "copy")
    for number in range(20):
        store.save(comparison(f"new{number}", prompt="many words " * 500))
    (tmp_path / "copy").replace(store.path)
    assert store.get("new1") is None and store.count() == 20
    store.save(comparison("after"))
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert store.get("after") and store.get("old19")
