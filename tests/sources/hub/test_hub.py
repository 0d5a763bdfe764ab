"""``hub:`` sources through the real huggingface_hub client, against the small Hub of tests/support/hub_server.py."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from playground import sources
from playground.catalog import footprint
from playground.catalog.hub_names import HubName
from playground.errors import ChecksumError, PlaygroundError, SourceError, Stopped, StorageError, UsageError
from playground.records import ModelSpec
from playground.sources import limits
from playground.sources.headers import LyingHeader, read_gguf, read_gguf_beginning
from playground.sources.hub import download, onnx_names, worker
from playground.sources.hub.choose_files import files_to_fetch
from playground.system import memory
from tests.support.ggufs import write_llama
from tests.support.hub_server import READER, STRANGER, Hub, tiny_llama, wait_for

pytestmark = pytest.mark.waits

FILES = tiny_llama()
LEAVE = [".gitattributes"]
NAME = "someone/tiny"


def spec(repo: str = NAME, revision: str = "") -> ModelSpec:
    return ModelSpec("tiny", "Tiny", f"hub:{repo}", revision, "onnx", "fp32", 640, "chat")


def fetch(
    home: Path,
    spec: ModelSpec = spec(),  # noqa: B008
    cancelled: Callable[[], bool] = lambda: False,
    steps: list[tuple[str, float | None]] | None = None,
) -> sources.Fetched:
    seen = [] if steps is None else steps
    return sources.fetch(spec, home / "home", lambda step, share: seen.append((step, share)), cancelled)


def refused(home: Path, which: ModelSpec, kind: type[PlaygroundError] = SourceError) -> str:
    with pytest.raises(kind) as caught:
        fetch(home, which)
    assert READER not in str(caught.value)
    assert STRANGER not in str(caught.value)
    return str(caught.value)


def test_the_files_needed_come_at_a_commit_and_nothing_else(hub: Hub, tmp_path: Path) -> None:
    extra = {"pytorch_model.bin": b"\x80\x04", "modeling_tiny.py": b"raise SystemExit", "onnx/model.onnx": b"x"}
    repo = hub.add(NAME, FILES | extra)
    steps: list[tuple[str, float | None]] = []
    fetched = fetch(tmp_path, steps=steps)
    assert fetched.revision == repo.sha
    assert fetched.format == "safetensors"
    assert fetched.files[0].name == "model.safetensors"
    assert {path.name: path.read_bytes() for path in fetched.files} == {
        name: content for name, content in FILES.items() if name not in LEAVE
    }
    shares = [share for step, share in steps if step == "downloading" and share is not None]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert not hub.seen("GET", r"\.bin|\.py|\.onnx")
    hub.close()
    assert sources.present(spec(), tmp_path / "home") == fetched
    assert fetch(tmp_path) == fetched


def test_shards_come_with_their_index(hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, tiny_llama(shards=3))
    names = [path.name for path in fetch(tmp_path).files]
    assert names[:3] == [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    assert "model.safetensors.index.json" in names


def test_a_branch_tag_or_commit_is_resolved_and_later_commits_change_nothing(hub: Hub, tmp_path: Path) -> None:
    repo = hub.add(NAME, FILES)
    first = repo.sha
    repo.refs["v1"] = first
    assert fetch(tmp_path).revision == first
    second = repo.commit(tiny_llama(seed=1))
    assert fetch(tmp_path).revision == first
    assert fetch(tmp_path, spec(f"{NAME}#{second}")).revision == second
    assert fetch(tmp_path, spec(revision="v1")).revision == first
    message = refused(tmp_path, spec(revision="no-such-branch"))
    assert "hub:someone/tiny has no revision 'no-such-branch'" in message


def test_a_record_that_no_longer_fits_the_files_is_looked_into_again(hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, FILES)
    path = next(path for path in fetch(tmp_path).files if path.name == "model.safetensors")
    blob = path.resolve()
    blob.chmod(0o644)
    blob.write_bytes(b"x" * blob.stat().st_size)
    assert sources.present(spec(), tmp_path / "home") is None
    fetch(tmp_path)
    assert path.read_bytes() == FILES["model.safetensors"]


# What the Hub refuses


def test_a_gated_repository_names_the_page_and_the_ways_to_give_a_token(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, FILES, gated="manual")
    for token in ("", STRANGER):
        monkeypatch.setenv("HF_TOKEN", token)
        message = refused(tmp_path, spec())
        assert "hub:someone/tiny is gated" in message
        assert "https://huggingface.co/someone/tiny" in message
        assert "HF_TOKEN" in message
        assert "hf auth login" in message
    monkeypatch.setenv("HF_TOKEN", READER)
    assert fetch(tmp_path).files


def test_missing_and_private_look_alike_and_the_message_says_so(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("someone/private", FILES, private=True)
    messages = {refused(tmp_path, spec(repo)).replace(repo, "X") for repo in ("someone/missing", "someone/private")}
    assert len(messages) == 1
    assert "or it is private" in messages.pop()
    monkeypatch.setenv("HF_TOKEN", READER)
    assert fetch(tmp_path, spec("someone/private")).files


def test_a_wrong_token_is_not_shown(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    hub.add(NAME, FILES)
    monkeypatch.setenv("HF_TOKEN", "hf_not_a_token_of_anybody")
    message = refused(tmp_path, spec())
    assert "hf_not_a_token" not in message + capfd.readouterr().err
    assert "token" in message


def test_a_renamed_repository_is_followed_and_told(hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, FILES)
    hub.rename("someone/old", NAME)
    fetched = fetch(tmp_path, spec("someone/old"))
    assert fetched.notes == ("hub:someone/old is called someone/tiny now; that is what was fetched.",)
    kept = sources.present(spec("someone/old"), tmp_path / "home")
    assert kept is not None
    assert kept.notes == fetched.notes


GRAPHS = (
    *("onnx/model.onnx", "onnx/model.onnx_data", "onnx/model_fp16.onnx"),
    *("onnx/model_int8.onnx", "onnx/model_q4.onnx", "onnx/model_q4.onnx_data", "onnx/model_q4f16.onnx"),
)


@pytest.mark.parametrize(
    ("names", "precision", "chosen"),
    [
        (GRAPHS, "int8", {"onnx/model_int8.onnx"}),
        (GRAPHS, "int4", {"onnx/model_q4.onnx", "onnx/model_q4.onnx_data"}),
        (GRAPHS, "fp32", {"onnx/model.onnx", "onnx/model.onnx_data"}),
        (("model_uint8.onnx", "model.onnx"), "int8", {"model_uint8.onnx"}),
        (("model_fp16.onnx",), "fp32", {"model_fp16.onnx"}),
        (
            ("onnx/encoder_model.onnx", "onnx/decoder_model_merged.onnx", "onnx/decoder_model.onnx"),
            "fp32",
            {"onnx/encoder_model.onnx", "onnx/decoder_model_merged.onnx"},
        ),
        (("onnx/vision_tower.onnx",), "int8", set()),
    ],
)
def test_the_graphs_of_a_precision_are_found_by_their_names(
    names: tuple[str, ...], precision: str, chosen: set[str]
) -> None:
    assert set(onnx_names.precision_files(names, precision)) == chosen


def test_a_repository_with_graphs_alone_is_fetched_in_the_precision_asked_for(hub: Hub, tmp_path: Path) -> None:
    described = {name: FILES[name] for name in ("config.json", "tokenizer.json", "tokenizer_config.json")}
    hub.add(NAME, described | dict.fromkeys(GRAPHS, b"x") | {"pytorch_model.bin": b"x"})

    def graphs(precision: str) -> set[str]:
        got = sources.fetch(spec(), tmp_path / "home", lambda *_: None, lambda: False, onnx=precision)
        kept = sources.present(spec(), tmp_path / "home", onnx=precision)
        assert kept is not None
        assert kept.files == got.files
        assert got.format == "onnx"
        return {path.name for path in got.files if "onnx" in path.name}

    assert graphs("int8") == {"model_int8.onnx"}
    assert graphs("int4") == {"model_q4.onnx", "model_q4.onnx_data"}
    assert "hub:someone/tiny@onnx-int4 or hub:someone/tiny@onnx-fp32" in refused(tmp_path, spec())


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"config.json": b"{}", "pytorch_model.bin": b"\x80"}, "pickled weights only"),
        ({"config.json": b"{}", "tf_model.h5": b"x"}, "for TensorFlow or Flax only (tf_model.h5)"),
        ({"README.md": b"# Nothing"}, "no weights in safetensors or GGUF"),
        ({"config.json": b"{}", "onnx/model.onnx": b"x"}, "ONNX files only"),
        ({"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"}, "an adapter without its base"),
        ({"model.safetensors": b"x"}, "no config.json"),
        ({"a.gguf": b"x", "b.gguf": b"x"}, "2 GGUF files"),
    ],
)
def test_a_repository_without_usable_weights_is_refused_before_anything_is_downloaded(
    hub: Hub, tmp_path: Path, files: dict[str, bytes], words: str
) -> None:
    hub.add(NAME, files)
    message = refused(tmp_path, spec())
    assert f"hub:{NAME}" in message
    assert words in message
    assert not hub.seen("GET", "/resolve/")


@pytest.mark.parametrize(
    "source", ["hub:tiny", "hub:a/b/c", "hub:../x", "hub:someone/tiny#../../x", "hub:a/b#", "hub:a/b:", "hub:a/b:../c"]
)
def test_names_that_are_none_are_usage_errors(tmp_path: Path, source: str) -> None:
    odd = ModelSpec("x", "X", source, "" if "#" in source else "a b", "onnx", "fp32", 0, "chat")
    with pytest.raises(UsageError, match="is not hub:OWNER/NAME#REVISION"):
        fetch(tmp_path, odd)


def test_without_tokenizer_json_the_slow_tokenizers_files_are_fetched() -> None:
    sizes = dict.fromkeys(("model.safetensors", "config.json", "tokenizer.model", "tokenizer_config.json"), 1)
    name = HubName(NAME)
    assert "tokenizer.model" in files_to_fetch(name, sizes)
    assert "tokenizer.model" not in files_to_fetch(name, {**sizes, "tokenizer.json": 1})
    graph = "onnx/model_q4.onnx_data"
    assert graph in files_to_fetch(name, {**sizes, graph: 1}, ("onnx/model_q4.onnx*",))


def test_a_tokenizer_that_nothing_here_can_read_is_refused_before_the_download(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, {name: FILES[name] for name in FILES if name != "tokenizer.json"} | {"tokenizer.model": b"x"})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SourceError, match=r"hub:someone/tiny has its tokenizer as tokenizer\.model only"):
        worker.run_job(job(), lambda _: None)
    assert not hub.seen("GET", "/resolve/")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert "tokenizer.model" in worker.run_job(job(), lambda _: None)["files"]


# Broken networks


@pytest.mark.fault
def test_a_connection_that_breaks_half_way_is_carried_on(hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, FILES)
    hub.drop("cdn/.*safetensors", after=300_000)
    path = fetch(tmp_path).files[0]
    assert path.read_bytes() == FILES["model.safetensors"]
    first, second = (each.headers.get("range") for each in hub.seen("GET", "cdn/.*safetensors"))
    assert first is None
    assert second is not None
    assert int(second.removeprefix("bytes=").rstrip("-")) >= 1 << 18


@pytest.mark.alone
def test_calling_off_is_prompt_and_the_next_try_resumes(hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, FILES)
    hub.stall("cdn/.*safetensors", after=300_000)
    cancelled = threading.Event()
    raised: list[BaseException] = []

    def work() -> None:
        try:
            fetch(tmp_path, cancelled=cancelled.is_set)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_for(lambda: any(path.stat().st_size for path in tmp_path.rglob("*.resumable.incomplete")))
    start = time.monotonic()
    cancelled.set()
    thread.join(5)
    assert time.monotonic() - start < 1.5
    assert isinstance(raised[0], Stopped)
    hub.mend()
    before = len(hub.seen("GET", "cdn/.*safetensors"))
    steps: list[tuple[str, float | None]] = []
    assert fetch(tmp_path, steps=steps).files[0].read_bytes() == FILES["model.safetensors"]
    (resumed,) = hub.seen("GET", "cdn/.*safetensors")[before:]
    assert resumed.headers["range"].startswith("bytes=2")
    assert not list(tmp_path.rglob("*.incomplete"))


def test_a_server_that_is_busy_for_a_moment_is_asked_again(hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, FILES)
    hub.fail("/api/models", status=503, times=2)
    hub.fail("/cdn/.*safetensors", status=429, times=1, Retry_After="0")
    assert fetch(tmp_path).files


@pytest.mark.fault
@pytest.mark.parametrize(("status", "words"), [(500, "Hub answered 500"), (429, "too many requests")])
def test_a_server_that_stays_broken_is_an_error_after_bounded_tries(
    hub: Hub, tmp_path: Path, status: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, FILES)
    hub.fail("/api/models", status=status)
    assert words in refused(tmp_path, spec())
    assert len(hub.seen("GET", "/api/models")) == download.MAX_TRIES


def test_wrong_bytes_once_are_fetched_again_and_twice_are_an_error(hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, FILES)
    hub.corrupt(NAME, "model.safetensors", times=1)
    assert fetch(tmp_path).files[0].read_bytes() == FILES["model.safetensors"]
    hub.add("someone/broken", FILES)
    hub.corrupt("someone/broken", "model.safetensors")
    message = refused(tmp_path, spec("someone/broken"), ChecksumError)
    assert "model.safetensors of hub:someone/broken arrived twice with other bytes" in message


def test_wrong_bytes_of_a_small_file_are_noticed_too(hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, FILES)
    hub.corrupt(NAME, "config.json", times=1)
    (config,) = (path for path in fetch(tmp_path).files if path.name == "config.json")
    assert config.read_bytes() == FILES["config.json"]
    assert len(hub.seen("GET", r"/resolve/.*/config\.json$")) == 2


# Without a network


@pytest.mark.parametrize("how", ["gone", "forbidden"])
def test_what_the_cache_holds_is_used_without_a_network_and_told(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    repo = hub.add(NAME, FILES)
    first = fetch(tmp_path)
    shutil.rmtree(tmp_path / "home")
    if how == "gone":
        hub.close()
    else:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = len(hub.requests)
    again = fetch(tmp_path)
    assert (again.files, again.revision) == (first.files, repo.sha)
    assert ("can't be reached" if how == "gone" else "HF_HUB_OFFLINE is set") in again.notes[0]
    assert len(hub.requests) == before


def test_without_network_and_cache_the_error_says_what_to_do(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "not in the cache, and HF_HUB_OFFLINE is set" in refused(tmp_path, spec())
    monkeypatch.delenv("HF_HUB_OFFLINE")
    hub.close()
    assert "the Hub can't be reached" in refused(tmp_path, spec())


def test_a_cache_with_a_shard_missing_is_not_taken_for_whole(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, tiny_llama(shards=2))
    fetch(tmp_path).files[0].unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "model-00001-of-00002.safetensors is missing" in refused(tmp_path, spec())


# Disk and memory


def job(limit_mb: float = 1e6) -> dict[str, Any]:
    return {"repo": NAME, "tag": "", "revision": "", "extra": [], "onnx": "", "name": "Tiny", "limit_mb": limit_mb}


def test_a_disk_without_room_is_found_out_before_the_download(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(NAME, FILES)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    with pytest.raises(StorageError, match=r"hub:someone/tiny needs 0\.00 GB more.*HF_HOME"):
        worker.run_job(job(), lambda _: None)
    assert not hub.seen("GET", "/resolve/")


@pytest.mark.fault
def test_a_disk_that_fills_up_half_way_is_a_storage_error(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(NAME, FILES)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download.CachedRepository, "_continue", full)
    with pytest.raises(OSError) as caught:
        worker.run_job(job(), lambda _: None)
    told = worker.to_playground_error(caught.value, job())
    assert isinstance(told, StorageError)
    assert "HF_HOME" in str(told)


def test_a_model_beyond_this_machines_memory_is_refused_before_its_weights_are_fetched(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, FILES, info={"safetensors": {"parameters": {"F16": 35_000_000_000}, "total": 35_000_000_000}})
    monkeypatch.setattr(memory, "limit_mb", lambda: 24_000.0)
    message = refused(tmp_path, spec())
    assert "35.00 billion parameters" in message
    assert "141.5 GB" in message  # as torch would run it
    assert "24.0 GB" in message
    assert "remote:NAME" in message
    assert not hub.seen("GET", "safetensors")


def test_ready_made_graphs_are_taken_where_the_original_weights_can_not_be_held(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brings = FILES | {"onnx/model_int8.onnx": b"graph"}
    hub.add(NAME, brings, info={"safetensors": {"parameters": {"F16": 35_000_000_000}, "total": 35_000_000_000}})
    monkeypatch.setattr(memory, "limit_mb", lambda: 24_000.0)
    got = sources.fetch(spec(), tmp_path / "home", lambda *_: None, lambda: False, onnx="int8")
    assert got.format == "onnx"
    assert {path.name for path in got.files} >= {"model_int8.onnx", "config.json", "tokenizer.json"}
    assert any("taken as they are" in note and "41.5 GB" in note for note in got.notes)
    assert not hub.seen("GET", "safetensors")
    # Of a precision that is not there, and where it is asked for torch, the weights are wanted: too much for it.
    for precision in ("int4", ""):
        with pytest.raises(SourceError, match=r"24\.0 GB"):
            sources.fetch(spec(), tmp_path / "home", lambda *_: None, lambda: False, onnx=precision)
    monkeypatch.setattr(memory, "limit_mb", lambda: 64_000.0)
    assert worker.run_job(job(64_000.0) | {"onnx": "int8"}, lambda _: None)["files"].keys() >= {"model.safetensors"}


def test_code_of_its_own_is_refused_before_the_weights_are_fetched(hub: Hub, tmp_path: Path) -> None:
    config = json.loads(FILES["config.json"]) | {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}
    hub.add(NAME, FILES | {"config.json": json.dumps(config).encode(), "evil.py": b"raise SystemExit"})
    assert "needs code of its own" in refused(tmp_path, spec())
    assert not hub.seen("GET", r"safetensors|evil\.py")


def test_nothing_that_is_logged_holds_a_token_or_an_address(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    hub.add(NAME, FILES, private=True)
    monkeypatch.setenv("HF_TOKEN", READER)
    hub.drop("cdn/.*safetensors", after=1000)
    fetch(tmp_path)
    said = caplog.text + capfd.readouterr().err
    assert "trying again" in said
    assert READER not in said
    assert "http" not in said
    assert not any("authorization" in each.headers for each in hub.seen("GET", "^/cdn/"))
    assert all(each.headers["authorization"] == f"Bearer {READER}" for each in hub.seen("GET", "^/someone/"))


def test_the_record_holds_each_files_checksum(hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, FILES)
    fetch(tmp_path)
    (record,) = (tmp_path / "home" / "sources").glob("hub-*.json")
    digests = {Path(path).name: entry["sha256"] for path, entry in json.loads(record.read_text())["files"].items()}
    assert digests["model.safetensors"] == hashlib.sha256(FILES["model.safetensors"]).hexdigest()
    assert digests["config.json"] == hashlib.sha256(FILES["config.json"]).hexdigest()


# One of several GGUF files


def ggufs(folder: Path) -> dict[str, bytes]:
    """A repository with two quantisations, one of them split, and what is no model."""
    import numpy as np

    whole = write_llama(folder / "m-Q4_K_M.gguf", {"output_norm.weight": np.full(64, 2, np.float32)})
    split = write_llama(folder / "m-UD-Q8_K_XL.gguf", parts=3)
    files = {path.name: path.read_bytes() for path in whole}
    files |= {f"UD-Q8_K_XL/{path.name}": path.read_bytes() for path in split}
    return files | {"mmproj-Q4_K_M.gguf": b"GGUF", "imatrix-Q4_K_M.gguf": b"GGUF", "README.md": b"# M"}


def test_a_quantisation_takes_its_files_and_no_others_and_is_a_source_of_its_own(hub: Hub, tmp_path: Path) -> None:
    files = ggufs(tmp_path)
    repo = hub.add(NAME, files)
    four, eight = spec(f"{NAME}:q4_k_m"), spec(f"{NAME}:UD-Q8_K_XL")
    got = fetch(tmp_path, four)
    assert {path.name for path in got.files} == {"m-Q4_K_M.gguf", "README.md"}
    assert got.files[0].read_bytes() == files["m-Q4_K_M.gguf"]
    assert (got.format, got.revision) == ("gguf", f"{repo.sha}:Q4_K_M")
    assert sources.present(eight, tmp_path / "home") is None
    other = fetch(tmp_path, eight)
    assert [path.name for path in other.files[:3]] == [f"m-UD-Q8_K_XL-0000{part}-of-00003.gguf" for part in (1, 2, 3)]
    assert other.revision == f"{repo.sha}:UD-Q8_K_XL"
    assert not hub.seen("GET", "/resolve/.*(mmproj|imatrix)")
    hub.close()
    # Any spelling is the same model, without asking anybody.
    assert sources.present(spec(f"{NAME}:Q4_K_M"), tmp_path / "home") == got
    assert fetch(tmp_path, eight) == other


def test_a_quantisation_of_a_revision_is_that_of_its_commit(hub: Hub, tmp_path: Path) -> None:
    files = ggufs(tmp_path)
    repo = hub.add(NAME, files)
    first = repo.sha
    repo.commit({name: content for name, content in files.items() if "Q4" not in name})
    assert fetch(tmp_path, spec(f"{NAME}:Q4_K_M#{first}")).revision == f"{first}:Q4_K_M"
    assert fetch(tmp_path, spec(f"{NAME}:Q4_K_M", first)).revision == f"{first}:Q4_K_M"
    assert "it has no GGUF file Q4_K_M, but UD-Q8_K_XL (" in refused(tmp_path, spec(f"{NAME}:Q4_K_M"))


def test_without_a_quantisation_the_error_has_all_of_them_and_a_name_that_works(hub: Hub, tmp_path: Path) -> None:
    repo = hub.add(NAME, ggufs(tmp_path))
    repo.refs["v1"] = repo.sha
    message = refused(tmp_path, spec(f"{NAME}#v1"))
    assert re.search(r"2 GGUF files and no safetensors: UD-Q8_K_XL \(\d\.\d MB\), Q4_K_M \(\d\.\d MB\)\.", message)
    proposed = message.rpartition(" ")[2]
    assert proposed == f"hub:{NAME}:Q4_K_M#v1"
    assert fetch(tmp_path, spec(proposed.removeprefix("hub:"))).format == "gguf"


def test_files_that_no_tag_can_tell_apart_are_had_by_path(hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, {"x/y/m.gguf": b"x", "z/y/m.gguf": b"x"})
    message = refused(tmp_path, spec())
    assert "x/y/m.gguf" in message
    assert "--include 'x/y/m.gguf'" in message


def test_beside_safetensors_the_gguf_is_taken_where_it_is_named_and_only_there(hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, FILES | ggufs(tmp_path) | {"onnx/model_int8.onnx": b"graph"})
    assert fetch(tmp_path).format == "safetensors"
    got = sources.fetch(spec(f"{NAME}:Q4_K_M"), tmp_path / "home", lambda *_: None, lambda: False, onnx="int8")
    assert got.format == "gguf"
    assert {path.suffix for path in got.files} & {".gguf", ".safetensors", ".onnx"} == {".gguf"}


def test_large_safetensors_beside_it_do_not_put_graphs_in_the_place_of_a_gguf(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brings = FILES | ggufs(tmp_path) | {"onnx/model_int8.onnx": b"graph"}
    hub.add(NAME, brings, info={"safetensors": {"parameters": {"F16": 35_000_000_000}, "total": 35_000_000_000}})
    monkeypatch.setattr(memory, "limit_mb", lambda: 24_000.0)
    got = sources.fetch(spec(f"{NAME}:Q4_K_M"), tmp_path / "home", lambda *_: None, lambda: False, onnx="int8")
    assert got.format == "gguf"


@pytest.mark.parametrize("tag", ["Q4_K_M", "UD-Q8_K_XL"], ids=["one file", "three parts"])
def test_a_gguf_beyond_this_machines_memory_is_refused_before_it_is_fetched(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str
) -> None:
    files = ggufs(tmp_path)
    hub.add(NAME, files)
    monkeypatch.setattr(download, "FIRST_LOOK_BYTES", 1 << 12)
    parameters = read_gguf(tmp_path / "m-Q4_K_M.gguf").parameters
    asked = job() | {"tag": tag, "onnx": "int4"}
    for onnx, need in (("int4", limits.prepare_mb(parameters, "int4")), ("", footprint.whole_mb(parameters, "torch"))):
        with pytest.raises(SourceError, match=r"Tiny has 0\.00 billion parameters: preparing it takes \d\.\d GB"):
            worker.run_job(asked | {"limit_mb": need - 0.01, "onnx": onnx}, lambda _: None)
    assert not list(Path(constants.HF_HUB_CACHE).rglob("*.gguf"))
    looked = [each.headers["range"] for each in hub.seen("GET", "cdn/")]
    assert looked
    assert set(looked) == {f"bytes=0-{download.LOOK_BYTES - 1}"}
    assert worker.run_job(asked | {"limit_mb": limits.prepare_mb(parameters, "int4") + 1}, lambda _: None)["files"]
    looks = len(hub.seen("GET", "cdn/"))
    assert worker.run_job(asked | {"limit_mb": limits.prepare_mb(parameters, "int4") + 1}, lambda _: None)["files"]
    assert len(hub.seen("GET", "cdn/")) == looks, "what is here is not looked at there"


def test_the_header_of_a_gguf_is_found_in_its_beginning(tmp_path: Path) -> None:
    write_llama(tmp_path / "m.gguf")
    content, header = (tmp_path / "m.gguf").read_bytes(), read_gguf(tmp_path / "m.gguf")
    assert header.layout is not None
    end = header.layout.end
    assert read_gguf_beginning(content[:end], len(content)) == header
    for short in (0, 3, 7, 30, end // 3, end // 2, end - 1):
        assert read_gguf_beginning(content[:short], len(content)) is None
    with pytest.raises(LyingHeader, match="bytes, the file holds"):
        read_gguf_beginning(content[:end], len(content) - 1)
    with pytest.raises(LyingHeader, match="as a GGUF file does"):
        read_gguf_beginning(b"<html>", 1000)


def test_a_quantisation_of_a_repository_without_gguf_is_refused_with_the_name_to_use(hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, FILES)
    message = refused(tmp_path, spec(f"{NAME}:Q4_K_M#main"))
    assert "it has no GGUF file of a language model, so there is no Q4_K_M of it" in message
    assert message.endswith(f"hub:{NAME}#main")
    assert not hub.seen("GET", "/resolve/")


def test_without_a_network_the_cache_answers_for_the_quantisation_that_it_has(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, ggufs(tmp_path))
    got = fetch(tmp_path, spec(f"{NAME}:Q4_K_M"))
    shutil.rmtree(tmp_path / "home")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    again = fetch(tmp_path, spec(f"{NAME}:Q4_K_M"))
    assert (again.files, again.revision) == (got.files, got.revision)
    message = refused(tmp_path, spec(f"{NAME}:UD-Q8_K_XL"))
    assert "is in the cache in part only (it has no GGUF file UD-Q8_K_XL" in message
    assert "Connect to the network" in message


def test_without_a_network_one_quantisation_in_the_cache_is_not_taken_for_the_repository(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, FILES | ggufs(tmp_path))
    fetch(tmp_path, spec(f"{NAME}:Q4_K_M"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = refused(tmp_path, spec(NAME))
    assert f"whether m-Q4_K_M.gguf is all that hub:{NAME} has" in message
    assert message.endswith(f"name it as hub:{NAME}:Q4_K_M.")
    assert fetch(tmp_path, spec(f"{NAME}:Q4_K_M")).format == "gguf"
