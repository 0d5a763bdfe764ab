"""The disk of visitors' preparations: counted, bounded, and nobody else's ever removed. Folders of a few bytes stand
for models.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from playground.errors import DoesNotFit, StorageError
from playground.export import accounts, allowance, places
from playground.export.accounts import FOLDER
from playground.export.allowance import Allowance
from playground.records import Artifact, ModelSpec, Variant

pytestmark = pytest.mark.parallel

KEY = "0123456789abcdef"
UNIT = 1000
"""Bytes: a file of JSON is less than one."""


class Disk:
    """A home whose preparations are written by hand."""

    def __init__(self, home: Path, hub: Path) -> None:
        self.home, self.hub = home, hub
        self.expected, self.served, self.in_use = 100, set[Variant](), set[str]()

    def app(self, most: float | None = 1000, *, public: bool = True) -> Allowance:
        """An app, or another one, on this home."""
        return Allowance(
            self.home,
            most if most is None else most * UNIT,
            public=public,
            expected=lambda spec, variant, *, weights, imported: self.expected * UNIT,
            served=lambda: self.served,
            in_use=lambda: self.in_use,
        )

    def spec(self, model: str) -> ModelSpec:
        return ModelSpec(model, model, f"hub:owner/{model}", "", "onnx", "int8", 128, "base")

    def folder(self, model: str, precision: str = "int8") -> Path:
        return self.home / "artifacts" / f"{model}-onnx-{precision}-{KEY}"

    def write(self, model: str, size: int, precision: str = "int8", **document: Any) -> None:
        """What a preparation leaves: an artifact of ``size`` units, an import and a download of ten each."""
        told = {"variant": {"model": model, "runtime": "onnx", "precision": precision}, "path": ""} | document
        made = {
            self.folder(model, precision) / "artifact.json": json.dumps(told),
            self.folder(model, precision) / "weights": "x" * size * UNIT,
            self.home / "imports" / f"{model}-{KEY}" / "weights": "y" * 10 * UNIT,
            self.hub / f"models--owner--{model}" / "blobs" / "abc": "z" * 10 * UNIT,
        }
        for path, text in made.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        link = self.hub / f"models--owner--{model}" / "snapshots" / "c0" / "model.safetensors"
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to("../../blobs/abc")
        record = {"repo": f"owner/{model}", "commit": "c0", "files": {str(link): {}}}
        (self.home / "sources").mkdir(exist_ok=True)
        (self.home / "sources" / f"hub-{model}.json").write_text(json.dumps(record))

    def prepare(self, app: Allowance, model: str, size: int = 100, precision: str = "int8", **document: Any) -> None:
        spec, variant = self.spec(model), Variant(model, "onnx", precision)
        app.begin(spec, variant)
        self.write(model, size, precision, **document)
        app.end(spec, variant, ready=True)

    def used(self, app: Allowance, model: str, precision: str = "int8") -> None:
        app._noted.clear()
        artifact = Artifact(Variant(model, "onnx", precision), str(self.folder(model, precision)), "none", "", "", 0)
        app.used(self.spec(model), Variant(model, "onnx", precision), lambda: artifact)

    def there(self, model: str) -> tuple[bool, bool, bool]:
        """Whether artifact, import and download lie there."""
        imported = self.home / "imports" / f"{model}-{KEY}"
        return self.folder(model).exists(), imported.exists(), (self.hub / f"models--owner--{model}").exists()


ALL, NONE = (True, True, True), (False, False, False)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    monkeypatch.setattr(places, "hub_cache", lambda: tmp_path / "hub")
    monkeypatch.setattr(allowance, "GRACE_S", 0.0)
    yield Disk(tmp_path / "home", tmp_path / "hub")


def test_what_visitors_add_is_counted_and_the_longest_unused_goes_with_all_it_left(disk: Disk) -> None:
    app = disk.app(1000)
    for model in ("a", "b"):
        disk.prepare(app, model, 300)
    assert 640 <= app.bytes // UNIT < 650
    disk.used(app, "a")
    disk.expected = 400
    disk.prepare(app, "c", 300)
    assert (disk.there("a"), disk.there("b"), disk.there("c")) == (ALL, NONE, ALL)
    assert app.evicted == 1 and 320 <= app.evicted_bytes // UNIT < 325
    assert not (disk.home / "sources" / "hub-b.json").exists()
    assert disk.app().bytes == app.bytes, "another start reads the same"


def test_more_than_was_expected_is_made_room_for_afterwards(disk: Disk) -> None:
    app = disk.app(1000)
    disk.prepare(app, "a", 300)
    disk.expected = 0
    disk.prepare(app, "b", 700)
    assert (disk.there("a"), disk.there("b")) == (NONE, ALL)


@pytest.mark.parametrize(
    "why", ["served", "in use", "prepared by another app", "there before", "the owner's", "just asked"]
)
def test_what_has_to_stay_stays_and_the_refusal_names_model_and_sizes(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    app = disk.app(1000)
    if why == "there before":
        disk.write("a", 600)
    disk.prepare(app, "a", 600)
    if why == "served":
        disk.served = {Variant("a", "onnx", "int8")}
    elif why == "in use":
        disk.in_use = {"a"}
    elif why == "prepared by another app":
        disk.app(None).begin(disk.spec("a"), Variant("a", "onnx", "int4"))
    elif why == "the owner's":
        disk.used(disk.app(public=False), "a")
    elif why == "just asked":
        monkeypatch.setattr(allowance, "GRACE_S", 60.0)
    disk.expected = 1100
    said = r"b@onnx-int8 is expected to take 0\.00 GB of the disk.*visitors add may take"
    with pytest.raises(DoesNotFit, match=said):
        disk.prepare(app, "b")
    assert disk.there("a") == ALL
    assert app.evicted == 0


def test_nothing_is_removed_in_vain(disk: Disk) -> None:
    app = disk.app(1000)
    disk.prepare(app, "a", 100)
    disk.expected = 2000
    with pytest.raises(DoesNotFit):
        disk.prepare(app, "b")
    assert disk.there("a") == ALL


def test_a_model_that_turns_out_too_large_is_removed_and_says_so(disk: Disk) -> None:
    app = disk.app(1000)
    disk.in_use = {"a"}
    disk.prepare(app, "a", 600)
    with pytest.raises(DoesNotFit, match=r"b@onnx-int8 took .* and was removed"):
        disk.prepare(app, "b", 900)
    assert (disk.there("a"), disk.there("b")) == (ALL, NONE)
    assert 620 <= app.bytes // UNIT < 625


def test_variants_go_alone_and_what_they_share_with_the_last_one(disk: Disk) -> None:
    app = disk.app(1000)
    disk.prepare(app, "a", 200, "int8")
    disk.prepare(app, "a", 200, "int4")
    disk.expected = 700
    disk.prepare(app, "b", 300)
    assert disk.there("a") == (False, True, True)
    assert disk.folder("a", "int4").exists()
    disk.expected = 800
    disk.prepare(app, "c", 300)
    assert not disk.folder("a", "int4").exists()
    assert disk.there("a") == NONE


def test_what_the_owner_prepared_of_the_same_model_keeps_what_both_stand_on(disk: Disk) -> None:
    app, terminal = disk.app(1000), disk.app(public=False)
    disk.prepare(app, "a", 300, "int8")
    disk.prepare(terminal, "a", 100, "int4")
    disk.expected = 900
    disk.prepare(app, "b", 300)
    assert disk.there("a") == (False, True, True)
    assert disk.folder("a", "int4").exists()


def test_an_artifact_on_which_another_stands_stays(disk: Disk) -> None:
    app, terminal = disk.app(1000), disk.app(public=False)
    disk.prepare(app, "a", 300, "fp32")
    disk.prepare(terminal, "a", 10, "int8", path=f"artifacts/{disk.folder('a', 'fp32').name}")
    disk.expected = 900
    with pytest.raises(DoesNotFit):
        disk.prepare(app, "b", 300)
    assert disk.folder("a", "fp32").exists()


def test_a_file_that_another_models_record_names_stays_in_the_hubs_cache(disk: Disk) -> None:
    app = disk.app(1000)
    disk.prepare(app, "a", 300)
    link = disk.hub / "models--owner--a" / "snapshots" / "c0" / "model.safetensors"
    told = {"repo": "owner/other", "files": {str(link): {}}}
    (disk.home / "sources" / "hub-other.json").write_text(json.dumps(told))
    disk.expected = 900
    disk.prepare(app, "b", 300)
    assert disk.there("a") == (False, False, True)
    assert link.exists()


def test_on_ones_own_machine_nothing_is_counted_or_removed(disk: Disk) -> None:
    app = disk.app(10, public=False)
    for model in ("a", "b"):
        disk.prepare(app, model, 300)
    assert (disk.there("a"), disk.there("b"), app.bytes) == (ALL, ALL, 0)
    assert not (disk.home / FOLDER).exists()


def test_without_a_bound_all_is_counted_and_nothing_removed_and_with_0_nothing_is_begun(disk: Disk) -> None:
    app = disk.app(None)
    for model in ("a", "b"):
        disk.prepare(app, model, 600)
    assert app.bytes > 1200 * UNIT
    with pytest.raises(DoesNotFit):
        disk.prepare(disk.app(0), "c")


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"model": "a"', b"\xff" * 50, b'{"variants": 3}'])
def test_a_damaged_account_is_read_from_its_copy_and_without_one_nothing_is_removed(disk: Disk, damage: bytes) -> None:
    disk.prepare(disk.app(), "a", 300)
    (path,) = (disk.home / FOLDER).glob("*.json")
    path.write_bytes(damage)
    assert disk.app().bytes > 300 * UNIT
    for each in (path, path.with_name(f"{path.name}.copy")):
        each.write_bytes(damage)
    app = disk.app(400)
    assert app.bytes == 0
    disk.prepare(app, "b", 300)
    disk.prepare(app, "c", 300)
    assert (disk.there("a"), disk.there("b"), disk.there("c")) == (ALL, NONE, ALL)
    assert path.with_name(f"{path.name}.damaged").exists()


@pytest.mark.hostile
@pytest.mark.parametrize(
    "place",
    ["../outside", "artifacts/../../outside", "/etc", "hub/../outside", "hub/models--a/../x", "artifacts/.."],
)
def test_an_account_that_names_what_is_elsewhere_is_damaged(disk: Disk, place: str) -> None:
    disk.prepare(disk.app(), "a", 300)
    outside = disk.home.parent / "outside"
    outside.mkdir()
    for path in [*(disk.home / FOLDER).iterdir()]:
        told = json.loads(path.read_text())
        told["variants"]["a@onnx-int8"]["places"][place] = 500
        path.write_text(json.dumps(told))
    disk.expected = 900
    disk.prepare(disk.app(), "b", 300)
    assert outside.exists()
    assert disk.there("a") == ALL


def test_a_preparation_that_was_killed_is_counted_by_whoever_comes_next(disk: Disk) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    killed = disk.app()
    killed._accounts.me = (ended.pid, psutil.Process(ended.pid).create_time())
    killed.begin(disk.spec("a"), Variant("a", "onnx", "int8"))
    disk.write("a", 600)
    ended.wait()
    app = disk.app()
    disk.expected = 500
    disk.prepare(app, "b", 300)
    assert (disk.there("a"), disk.there("b")) == (NONE, ALL)


def test_two_apps_do_not_promise_the_same_room(disk: Disk) -> None:
    disk.expected = 600
    disk.app().begin(disk.spec("a"), Variant("a", "onnx", "int8"))
    with pytest.raises(DoesNotFit):
        disk.app().begin(disk.spec("b"), Variant("b", "onnx", "int8"))


def test_many_at_once_keep_one_account(disk: Disk) -> None:
    disk.expected = 0
    faults: list[BaseException] = []

    def work(model: str) -> None:
        try:
            disk.prepare(disk.app(100_000), model, 100)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(f"m{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert len(list((disk.home / FOLDER).glob("*.json"))) == 8


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_where_nothing_can_be_noted_a_run_goes_on(disk: Disk) -> None:
    app = disk.app()
    disk.prepare(app, "a", 100)
    (disk.home / FOLDER).chmod(0o500)
    disk.used(app, "a")
    (disk.home / FOLDER).chmod(0o700)


def test_what_failed_is_counted_where_it_left_something(disk: Disk) -> None:
    app = disk.app(1000)
    spec, variant = disk.spec("a"), Variant("a", "onnx", "int8")
    app.begin(spec, variant)
    app.end(spec, variant, ready=False)
    assert app.bytes == 0
    app.begin(spec, variant)
    part = disk.hub / "models--owner--a" / "blobs" / "abc.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 500 * UNIT)
    app.end(spec, variant, ready=False)
    assert app.bytes == 500 * UNIT
    disk.expected = 900
    disk.prepare(app, "b", 300)
    assert not part.exists()


@pytest.mark.fault
def test_on_a_full_disk_nothing_is_begun_and_what_was_made_is_counted_later(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    app, spec, variant = disk.app(), disk.spec("a"), Variant("a", "onnx", "int8")
    app.begin(spec, variant)
    disk.write("a", 300)
    with monkeypatch.context() as patch:
        patch.setattr(accounts, "write_text", full)
        app.end(spec, variant, ready=True)
        with pytest.raises(StorageError, match="is full"):
            app.begin(disk.spec("b"), Variant("b", "onnx", "int8"))
    app.end(spec, variant, ready=True)
    assert app.bytes > 300 * UNIT
