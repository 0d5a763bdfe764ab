"""What is kept comes back as it was, for every reader and writer; what can't be kept is said, and nothing is lost."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from playground.config.settings import Settings
from playground.errors import StorageError
from playground.paths import ROOT
from playground.records import Comparison, Environment, ModelRun, Request, Timings, Variant
from playground.results import store as store_module
from playground.results.store import EVERYTHING, MIGRATIONS, Retention, Store
from playground.service import Playground


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
    script = """
import sys
from pathlib import Path
from tests.results.test_store import comparison
from playground.results.store import Store
store = Store(Path(sys.argv[1]))
for number in range(20):
    store.save(comparison(f"{sys.argv[2]}-{number}"))
"""
    path = tmp_path / "shared.sqlite3"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path), str(writer)], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        for writer in range(3)
    ]
    for writer in writers:
        assert writer.communicate(timeout=60)[1] == ""
        assert writer.returncode == 0
    assert Store(path).count() == 60


def test_a_database_of_an_older_version_is_brought_up_to_date(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save(comparison())
    store.close()
    newer = (*MIGRATIONS, "CREATE TABLE novelty (comparison TEXT); ALTER TABLE comparison ADD COLUMN note TEXT;")
    monkeypatch.setattr(store_module, "MIGRATIONS", newer)
    assert store.get("a") == comparison()
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(newer),)
        assert connection.execute("SELECT note FROM comparison").fetchall() == [(None,)]


def test_a_migration_that_fails_leaves_the_database_as_it_was(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save(comparison())
    store.close()
    with monkeypatch.context() as patched:
        patched.setattr(store_module, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE novelty (a TEXT); CREATE NONSENSE;"))
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


def test_a_damaged_database_is_named_and_not_overwritten(store: Store) -> None:
    store.path.parent.mkdir()
    store.path.write_bytes(b"this is not a database" * 100)
    for action in (store.list, store.count, lambda: store.get("a"), lambda: store.save(comparison())):
        with pytest.raises(StorageError) as caught:
            action()
        assert str(store.path) in caught.value.what
        assert "move it away" in caught.value.next_step
    assert store.path.read_bytes().startswith(b"this is not")


def test_a_damaged_entry_is_an_error_with_a_path(store: Store) -> None:
    store.save(comparison())
    store.close()
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE comparison SET document = '{\"id\": '")
    with pytest.raises(StorageError, match=r"playground\.sqlite3.*move it away"):
        store.list()


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
        patched.setattr(
            store_module.sqlite3, "connect", lambda path, **how: read_only(f"file:{path}?mode=ro", uri=True, **how)
        )
        with pytest.raises(StorageError, match="readonly"):
            store.save(comparison("lost"))
    assert [found.id for found in store.list()] == ["kept"]
    store.save(comparison("later"))
    assert store.count() == 2


def test_a_full_disk_is_named_and_what_was_kept_stays(store: Store) -> None:
    store.save(comparison("kept"))
    connection = store._connection
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
