"""Models of Ollama's and LM Studio's stores: found by the names they have there, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from playground.catalog.entries import Catalog
from playground.catalog.stores import Stores
from playground.config.stores import lmstudio_folders, ollama_folders
from playground.errors import SourceError, UnknownModel, UsageError
from tests.support.stores import add_to_lmstudio, add_to_ollama, write_gguf

LIBRARY = "registry.ollama.ai/library"


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def stores(tmp_path: Path, gguf: Path) -> Stores:
    ollama, studio = tmp_path / "ollama", tmp_path / "studio"
    add_to_ollama(ollama, f"{LIBRARY}/tiny/latest", gguf, licence="Be kind.")
    add_to_ollama(ollama, f"{LIBRARY}/tiny/1b-instruct-q4_K_M", gguf)
    add_to_ollama(ollama, "registry.ollama.ai/someone/else/v2", gguf)
    add_to_ollama(ollama, "hf.co/maker/tiny-gguf/Q8_0", gguf)
    add_to_ollama(ollama, "ollama.com/library/newer/latest", gguf, manifests="manifests-v2")
    add_to_lmstudio(studio, "maker/tiny-GGUF/tiny-Q4_K_M.gguf", gguf)
    add_to_lmstudio(studio, "maker/tiny-GGUF/mmproj-tiny-f16.gguf", gguf)
    add_to_lmstudio(studio, "maker/two-GGUF/two-IQ3_XS.gguf", gguf)
    add_to_lmstudio(studio, "maker/two-GGUF/two-Q8_0.gguf", gguf)
    (studio / "maker" / "tiny-GGUF" / "config.json").write_text("{}")
    return Stores((ollama,), (studio,))


def test_everything_is_listed_by_the_name_it_can_be_asked_for_with(stores: Stores, gguf: Path) -> None:
    found = {each.source: each.rounding for each in stores.found()}
    assert found == {
        "lmstudio:maker/tiny-GGUF/tiny-Q4_K_M.gguf": "Q4_K_M",
        "lmstudio:maker/two-GGUF/two-IQ3_XS.gguf": "IQ3_XS",
        "lmstudio:maker/two-GGUF/two-Q8_0.gguf": "Q8_0",
        "ollama:else:v2".replace("else", "someone/else"): "F32",
        "ollama:hf.co/maker/tiny-gguf:Q8_0": "F32",
        "ollama:newer:latest": "F32",
        "ollama:tiny:1b-instruct-q4_K_M": "F32",
        "ollama:tiny:latest": "F32",
    }
    for each in stores.found():
        assert stores.find(each.source) == each
        assert each.size_bytes == gguf.stat().st_size


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("ollama:tiny", "ollama:tiny:latest"),
        ("ollama:library/tiny", "ollama:tiny:latest"),
        ("ollama:registry.ollama.ai/library/tiny:latest", "ollama:tiny:latest"),
        ("lmstudio:maker/tiny-GGUF/tiny-Q4_K_M", "lmstudio:maker/tiny-GGUF/tiny-Q4_K_M.gguf"),
        ("lmstudio:maker/tiny-GGUF", "lmstudio:maker/tiny-GGUF/tiny-Q4_K_M.gguf"),
    ],
)
def test_names_are_taken_as_these_programs_take_them(stores: Stores, asked: str, meant: str) -> None:
    spec, variant = Catalog((), stores=stores).resolve(asked)
    assert (spec.id, spec.source, str(variant)) == (meant, meant, f"{meant}@onnx-int8")
    assert str(Catalog((), stores=stores).resolve(f"{asked}@torch-fp32")[1]) == f"{meant}@torch-fp32"


def test_licence_and_checksum_come_with_it(stores: Stores) -> None:
    found = stores.find("ollama:tiny")
    assert [path.read_text() for path in found.legal] == ["Be kind."]
    assert found.path.name == f"sha256-{found.sha256}"
    assert Catalog((), stores=stores).entry("ollama:tiny").spec.revision == f"sha256:{found.sha256}"


@pytest.mark.parametrize(
    ("asked", "close"),
    [
        ("ollama:tinny", "ollama:tiny:latest"),
        ("lmstudio:maker/tiny-GGUF/tiny-Q5", "lmstudio:maker/tiny-GGUF/tiny-Q4_K_M.gguf"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(stores: Stores, asked: str, close: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        stores.find(asked)
    assert close in str(caught.value)


def test_a_folder_with_several_files_asks_which(stores: Stores) -> None:
    with pytest.raises(UsageError, match="has 2 files") as caught:
        stores.find("lmstudio:maker/two-GGUF")
    assert "two-Q8_0.gguf" in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "ollama:../../etc/passwd",
        "ollama:a/../b:c",
        "ollama:x:",
        "lmstudio:a/../b",
        "lmstudio:../x/y.gguf",
        "lmstudio:one",
    ],
)
def test_no_name_leads_out_of_a_store(stores: Stores, name: str) -> None:
    with pytest.raises(UsageError):
        stores.find(name)


def test_a_manifest_leads_nowhere_else(stores: Stores, gguf: Path, tmp_path: Path) -> None:
    root = stores.ollama[0]
    (tmp_path / "secret").write_bytes(gguf.read_bytes())
    assert (root / "blobs" / "../../secret").is_file()
    wrong = {"out": "../../secret", "whole": str(tmp_path / "secret"), "short": "sha256:abc", "none": None}
    for name, digest in {**wrong, "gone": f"sha256:{'0' * 64}"}.items():
        add_to_ollama(root, f"{LIBRARY}/{name}/latest", gguf, digest=digest)
        with pytest.raises(SourceError, match="is not there"):
            stores.find(f"ollama:{name}")
    assert not {"ollama:out:latest", "ollama:gone:latest"} & {each.source for each in stores.found()}


def test_what_is_no_gguf_file_is_said_to_be_none(stores: Stores, gguf: Path) -> None:
    root = stores.ollama[0]
    add_to_ollama(root, f"{LIBRARY}/tensors/latest", gguf, kind="tensor")
    add_to_ollama(root, f"{LIBRARY}/adapted/latest", gguf, adapter=True)
    for name, content in {"broken": "{", "list": "[]", "deep": "[" * 100_000, "empty": ""}.items():
        (root / "manifests" / LIBRARY / name).mkdir(parents=True)
        (root / "manifests" / LIBRARY / name / "latest").write_text(content)
    for name, words in {
        "tensors": "single tensors",
        "adapted": "adapter",
        "broken": "no model",
        "deep": "no model",
    }.items():
        with pytest.raises(SourceError, match=words):
            stores.find(f"ollama:{name}")
    assert len(stores.found()) == 8


def test_a_store_without_end_is_not_walked_to_its_end(tmp_path: Path) -> None:
    for number in range(2_100):
        (tmp_path / "a" / f"r{number}").mkdir(parents=True)
        (tmp_path / "a" / f"r{number}" / "m.gguf").write_bytes(b"")
    assert len(Stores(lmstudio=(tmp_path,)).found()) == 2_000


def test_nothing_is_found_without_stores() -> None:
    assert Stores().found() == []
    with pytest.raises(UnknownModel, match="OLLAMA_MODELS"):
        Stores().find("ollama:tiny")


# -- where they are ---------------------------------------------------------------------------------------------------


def test_ollamas_folder_is_where_its_own_variable_says(tmp_path: Path) -> None:
    for name in ("home/.ollama/models", "elsewhere", "ours"):
        (tmp_path / name).mkdir(parents=True)
    home = {"HOME": str(tmp_path / "home")}
    assert ollama_folders(home)[0] == tmp_path / "home/.ollama/models"
    own = {**home, "OLLAMA_MODELS": str(tmp_path / "elsewhere")}
    assert ollama_folders(own) == (tmp_path / "elsewhere",)
    assert ollama_folders({**own, "PLAYGROUND_OLLAMA": str(tmp_path / "ours")}) == (tmp_path / "ours",)
    assert ollama_folders({**own, "PLAYGROUND_OLLAMA": "off"}) == ()
    assert ollama_folders({}) == ()


def test_lmstudios_folder_is_where_its_settings_and_its_pointer_say(tmp_path: Path) -> None:
    for name in (".lmstudio/models", ".cache/lm-studio/models", "moved/models", "downloads"):
        (tmp_path / name).mkdir(parents=True)
    home = {"HOME": str(tmp_path)}
    assert lmstudio_folders(home) == (tmp_path / ".lmstudio/models", tmp_path / ".cache/lm-studio/models")
    (tmp_path / ".lmstudio-home-pointer").write_text(f"{tmp_path / 'moved'}\n")
    assert lmstudio_folders(home)[0] == tmp_path / "moved/models"
    (tmp_path / "moved" / "settings.json").write_text(
        json.dumps({"downloadsFolder": os.fspath(tmp_path / "downloads")})
    )
    assert lmstudio_folders(home)[0] == tmp_path / "downloads"
    (tmp_path / "moved" / "settings.json").write_text("not json")
    assert lmstudio_folders(home)[0] == tmp_path / "moved/models"
    assert lmstudio_folders({**home, "PLAYGROUND_LMSTUDIO": "OFF"}) == ()
