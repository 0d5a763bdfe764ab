"""Which files are the model, by whatever names: the same answer for the Hub, its cache and a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from playground import sources
from playground.catalog.hub import fetch_model_info
from playground.catalog.weight_files import IncompleteFiles, Weights, weights_of
from playground.errors import SourceError
from playground.export.weights import original_folder
from playground.messages import foreign
from playground.records import ModelSpec
from tests.support import ggufs
from tests.support.hub_repos import tiny_llama
from tests.support.hub_server import Hub

SHARDED = {"a": "x-1.safetensors", "b": "x-2.safetensors"}


def index(places: dict[str, str]) -> str:
    return json.dumps({"weight_map": places})


def chosen(names: list[str], lists: dict[str, dict[str, str]] | None = None) -> Weights | None:
    return weights_of("it", names, lambda name: index((lists or {})[name]), lambda name: foreign(f"Choose: {name}"))


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["model.safetensors", "consolidated.safetensors"], ("model.safetensors",)),
        (["model.safetensors", "adapter_model.safetensors", "m.gguf"], ("model.safetensors",)),
        (["weights.safetensors"], ("weights.safetensors",)),
        (["model.fp16.safetensors"], ("model.fp16.safetensors",)),
        (["pytorch_model-00001-of-00002.safetensors", "pytorch_model-00002-of-00002.safetensors"], 2),
        (["m-Q4_K_M.gguf", "mmproj-F16.gguf"], ("m-Q4_K_M.gguf",)),
        (["m.gguf", "imatrix.gguf", "m-lora.gguf"], ("m.gguf",)),
        (["Q4/m-00001-of-00002.gguf", "Q4/m-00002-of-00002.gguf", "README.md"], 2),
        (["gguf/m.gguf"], ("gguf/m.gguf",)),
        (["inner/config.json", "inner/model.safetensors", "vae/model.safetensors"], ("inner/model.safetensors",)),
    ],
)
def test_the_model_is_found(names: list[str], files: Any) -> None:
    found = chosen(names)
    assert found is not None
    assert found.files == (tuple(names[:2]) if files == 2 else files)
    assert found.index == ""


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "pytorch_model.safetensors.index.json"])
def test_shards_are_what_the_index_names(name: str) -> None:
    names = [name, *SHARDED.values(), "other.safetensors", "consolidated-00001-of-00002.safetensors"]
    assert chosen(names, {name: SHARDED}) == Weights(("x-1.safetensors", "x-2.safetensors"), name)


def test_shards_may_lie_below_their_index() -> None:
    places = {"a": "parts/1.safetensors"}
    found = chosen(["model.safetensors.index.json", "parts/1.safetensors"], {"model.safetensors.index.json": places})
    assert found is not None
    assert found.files == ("parts/1.safetensors",)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a-00001-of-00003.safetensors", "a-00003-of-00003.safetensors"], "a-00002-of-00003.safetensors is missing"),
        (["q/a-00002-of-00002.gguf"], "q/a-00001-of-00002.gguf is missing; 1 of 2 parts are there"),
        (["model.safetensors.index.json", "x-1.safetensors"], "x-2.safetensors is missing, which model.safetensors"),
    ],
)
def test_a_missing_part_is_named(names: list[str], words: str) -> None:
    with pytest.raises(IncompleteFiles, match=words):
        chosen(names, {"model.safetensors.index.json": SHARDED})


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a.gguf", "b.gguf"], r"it has 2 GGUF files \(a\.gguf, b\.gguf\).*Choose: a\.gguf"),
        (["a-00001-of-00002.gguf", "a-00002-of-00002.gguf", "b.gguf"], r"2 GGUF files.*Choose: a-\*\.gguf"),
        (["a.safetensors", "b.safetensors"], r"several files of weights.*a\.safetensors, b\.safetensors"),
        (["1/config.json", "1/model.safetensors", "2/config.json", "2/model.safetensors"], r"several folders \(1, 2\)"),
    ],
)
def test_several_models_are_named_and_none_is_guessed(names: list[str], words: str) -> None:
    with pytest.raises(SourceError, match=words):
        chosen(names)


@pytest.mark.parametrize(
    "place", ["../x.safetensors", "/etc/passwd", "x.bin", "sub/../../x.safetensors", "not-there.safetensors"]
)
def test_an_index_leads_nowhere_but_to_safetensors_that_are_there(place: str) -> None:
    with pytest.raises(SourceError):
        chosen(
            ["model.safetensors.index.json", "y.safetensors", "x.bin"], {"model.safetensors.index.json": {"a": place}}
        )


@pytest.mark.parametrize("names", [[], ["pytorch_model.bin"], ["consolidated.safetensors"], ["mmproj.gguf"]])
def test_what_is_no_model_is_not_taken_for_one(names: list[str]) -> None:
    assert chosen(names) is None


# Through the sources: Hub, cache and folder give the same, and transformers finds it


def renamed(how: str) -> dict[str, bytes]:
    """The tiny Llama with weights by other names."""
    if how == "one file":
        files = tiny_llama()
        files["weights.safetensors"] = files.pop("model.safetensors")
        return files
    if how == "a folder":
        return {f"inner/{name}" if name != "README.md" else name: data for name, data in tiny_llama().items()}
    files = tiny_llama(shards=2)
    document = json.loads(files.pop("model.safetensors.index.json"))
    for name in [name for name in files if name.endswith(".safetensors")]:
        files["pytorch_" + name] = files.pop(name)
    document["weight_map"] = {tensor: "pytorch_" + name for tensor, name in document["weight_map"].items()}
    if how == "shards":
        files["model.safetensors.index.json"] = json.dumps(document).encode()
    elif how == "another index":
        files["pytorch_model.safetensors.index.json"] = json.dumps(document).encode()
    return files


WAYS = ["one file", "a folder", "shards", "another index", "no index"]


def spec(source: str) -> ModelSpec:
    return ModelSpec("tiny", "Tiny", source, "", "torch", "fp32", 640, "chat")


def fetch(home: Path, source: str) -> sources.Fetched:
    return sources.fetch(spec(source), home / "home", lambda *_: None, lambda: False)


def assert_whole(fetched: sources.Fetched) -> None:
    """transformers loads what was fetched, and its weights are the tiny Llama's."""
    import numpy as np
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = original_folder(fetched.files)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    for name, weight in ggufs.llama_weights().items():
        assert np.array_equal(dict(model.named_parameters())[name].detach().numpy(), weight)
    assert AutoTokenizer.from_pretrained(folder, local_files_only=True).vocab_size > 256


@pytest.mark.parametrize("how", WAYS)
def test_a_folder_with_weights_by_other_names_is_loaded(tmp_path: Path, how: str) -> None:
    for name, data in renamed(how).items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    before = sorted(path for path in (tmp_path / "model").rglob("*"))
    fetched = fetch(tmp_path, f"path:{tmp_path / 'model'}")
    assert_whole(fetched)
    assert sources.present(spec(f"path:{tmp_path / 'model'}"), tmp_path / "home") == fetched
    assert fetch(tmp_path, f"path:{tmp_path / 'model'}") == fetched
    assert sorted(path for path in (tmp_path / "model").rglob("*")) == before


@pytest.mark.waits
@pytest.mark.parametrize("how", WAYS)
def test_a_repository_with_weights_by_other_names_is_fetched_and_found_in_the_cache(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    files = renamed(how) | {"consolidated.safetensors": b"x" * 1000}
    hub.add("someone/odd", files)
    fetched = fetch(tmp_path, "hub:someone/odd")
    assert_whole(fetched)
    assert not hub.seen("GET", "consolidated")
    weights = [data for name, data in files.items() if name.endswith(".safetensors") and "consolidated" not in name]
    assert fetch_model_info("someone/odd").download_bytes == sum(map(len, weights))
    assert fetch_model_info("someone/odd").refusal == ""
    shutil.rmtree(tmp_path / "home")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    again = fetch(tmp_path, "hub:someone/odd")
    assert_whole(again)
    assert again.revision == fetched.revision


@pytest.mark.waits
def test_a_split_gguf_in_a_folder_is_fetched_whole(hub: Hub, tmp_path: Path) -> None:
    parts = ggufs.write_llama(tmp_path / "m.gguf", parts=3)
    hub.add("someone/gguf", {f"Q8/{part.name}": part.read_bytes() for part in parts} | {"mmproj-F16.gguf": b"GGUF"})
    fetched = fetch(tmp_path, "hub:someone/gguf")
    assert [path.name for path in fetched.files] == [part.name for part in parts]
    assert fetched.format == "gguf"
    info = fetch_model_info("someone/gguf")
    assert (info.refusal, info.download_bytes) == ("", sum(part.stat().st_size for part in parts))


@pytest.mark.waits
@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"mmproj-F16.gguf": b"GGUF"}, "mmproj-F16.gguf only, the part of a GGUF model that reads images"),
        ({"consolidated.safetensors": b"x", "params.json": b"{}"}, "with Mistral's own names of tensors"),
        ({"a.Q4.gguf": b"x", "a.Q8.gguf": b"x"}, "2 GGUF files and no safetensors: Q4 (0.0 MB), Q8 (0.0 MB)"),
        ({"m-00001-of-00002.gguf": b"x"}, "m-00002-of-00002.gguf is missing"),
    ],
)
def test_what_is_unclear_is_told_before_anything_is_fetched(
    hub: Hub, tmp_path: Path, files: dict[str, bytes], words: str
) -> None:
    hub.add("someone/odd", files)
    with pytest.raises(SourceError) as caught:
        fetch(tmp_path, "hub:someone/odd")
    assert words in str(caught.value)
    assert not hub.seen("GET", "/resolve/")
    assert words in fetch_model_info("someone/odd").refusal


@pytest.mark.waits
def test_templates_come_from_wherever_transformers_looks(hub: Hub, tmp_path: Path) -> None:
    templates = {
        "chat_template.json": b'{"chat_template": "x"}',
        "additional_chat_templates/tool_use.jinja": b"y",
        "processor_config.json": b"{}",
        "preprocessor_config.json": b"{}",
    }
    hub.add("someone/tiny", tiny_llama() | templates | {"additional_chat_templates/evil.py": b"raise SystemExit"})
    fetched = fetch(tmp_path, "hub:someone/tiny")
    folder = original_folder(fetched.files)
    assert {path.relative_to(folder).as_posix() for path in fetched.files} >= templates.keys()
    assert not hub.seen("GET", r"\.py")
    copied = tmp_path / "copy"
    shutil.copytree(folder, copied)
    found = fetch(tmp_path, f"path:{copied}").files
    assert {path.relative_to(copied).as_posix() for path in found} >= templates.keys()


def test_a_projector_for_images_is_not_taken_as_the_model(tmp_path: Path) -> None:
    (tmp_path / "mmproj-F16.gguf").write_bytes(b"GGUF")
    with pytest.raises(SourceError, match="not a language model"):
        fetch(tmp_path, f"path:{tmp_path / 'mmproj-F16.gguf'}")
    with pytest.raises(SourceError, match=r"mmproj-F16\.gguf only"):
        fetch(tmp_path, f"path:{tmp_path}")
    (path,) = ggufs.write_llama(tmp_path / "m.gguf")
    assert fetch(tmp_path, f"path:{tmp_path}").files == (path,)


def test_a_folder_with_a_gguf_is_a_chat_model_until_its_file_says_otherwise(tmp_path: Path) -> None:
    from playground import paths
    from playground.catalog.entries import load_catalog

    ggufs.write_llama(tmp_path / "m.gguf")
    assert load_catalog(paths.CATALOG).entry(f"path:{tmp_path}").spec.kind == "chat"
