"""What other programs keep is used where it lies: checked like any GGUF, and never changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from playground import sources
from playground.catalog.entries import Catalog
from playground.catalog.stores import Stores
from playground.cli import main
from playground.errors import ChecksumError, SourceError, UnknownModel
from playground.records import ModelSpec
from playground.service import Playground
from playground.ui.tabs import form
from tests.conftest import MakeSettings
from tests.support.stores import add_to_lmstudio, add_to_ollama, write_gguf

TINY = "registry.ollama.ai/library/tiny/latest"


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    gguf = write_gguf(tmp_path / "made" / "tiny.gguf")
    ollama, studio = tmp_path / "ollama", tmp_path / "studio"
    add_to_ollama(ollama, TINY, gguf)
    add_to_lmstudio(studio, "maker/tiny-GGUF/tiny-f32.gguf", gguf)
    return Stores((ollama,), (studio,))


def spec_of(stores: Stores, source: str) -> ModelSpec:
    return Catalog((), stores=stores).resolve(source)[0]


def fetch(spec: ModelSpec, home: Path) -> sources.Fetched:
    return sources.fetch(spec, home, lambda step, share: None, lambda: False)


def tree(root: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("source", ["ollama:tiny", "lmstudio:maker/tiny-GGUF/tiny-f32.gguf"])
def test_a_stored_gguf_is_read_where_it_lies(stores: Stores, tmp_path: Path, source: str) -> None:
    before = tree(stores.ollama[0]) | tree(stores.lmstudio[0])
    spec, home = spec_of(stores, source), tmp_path / "home"
    assert sources.present(spec, home) is None
    fetched = fetch(spec, home)
    (file,) = fetched.files
    assert file.suffix == ".gguf"
    assert file.resolve() == Path(spec.file)
    assert fetched.format == "gguf"
    assert sources.present(spec, home) == fetched
    assert tree(stores.ollama[0]) | tree(stores.lmstudio[0]) == before


def test_ollamas_checksum_is_held_to(stores: Stores, tmp_path: Path) -> None:
    spec = spec_of(stores, "ollama:tiny")
    blob = Path(spec.file)
    content = blob.read_bytes()
    blob.write_bytes(content[:-4] + bytes(byte ^ 1 for byte in content[-4:]))
    with pytest.raises(ChecksumError):
        fetch(spec, tmp_path / "home")


def test_a_blob_that_lies_about_itself_is_refused_like_any_file(stores: Stores, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + b"\xff" * 60)
    add_to_ollama(stores.ollama[0], TINY, bad)
    with pytest.raises(SourceError, match="refused"):
        fetch(spec_of(stores, "ollama:tiny"), tmp_path / "home")


def test_a_rounding_that_nobody_knows_is_refused_like_any_file(stores: Stores, tmp_path: Path) -> None:
    made = tmp_path / "made" / "tiny.gguf"
    content = made.read_bytes()
    # The tensor's type stands behind its name and its two sizes, as 32 bits: 0 is F32.
    at = content.index(b"token_embd.weight") + len(b"token_embd.weight") + 4 + 16
    assert content[at : at + 4] == b"\x00\x00\x00\x00"
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(content[:at] + (211).to_bytes(4, "little") + content[at + 4 :])
    add_to_ollama(stores.ollama[0], TINY, bad)
    with pytest.raises(SourceError, match="refused"):
        fetch(spec_of(stores, "ollama:tiny"), tmp_path / "home")


def test_what_was_removed_since_is_said_to_be_gone(stores: Stores, tmp_path: Path) -> None:
    spec = spec_of(stores, "ollama:tiny")
    Path(spec.file).unlink()
    with pytest.raises(SourceError, match="not on this machine any more"):
        fetch(spec, tmp_path / "home")


def test_the_command_lists_them_and_strangers_see_none(
    stores: Stores, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"PLAYGROUND_OLLAMA": stores.ollama[0], "PLAYGROUND_LMSTUDIO": stores.lmstudio[0]}
    settings = make_settings(**env)
    for name, value in {**env, "PLAYGROUND_HOME": settings.home, "PLAYGROUND_CATALOG": settings.catalog_file}.items():
        monkeypatch.setenv(name, str(value))
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    assert "ollama:tiny:latest" in printed and "lmstudio:maker/tiny-GGUF/tiny-f32.gguf" in printed
    assert main(["models", "--json"]) == 0
    listed: Any = json.loads(capsys.readouterr().out)
    assert [each["id"] for each in listed["stores"]] == ["lmstudio:maker/tiny-GGUF/tiny-f32.gguf", "ollama:tiny:latest"]
    with Playground(settings) as playground:
        assert ("ollama:tiny:latest · int8", "ollama:tiny:latest@onnx-int8") in form.choices(playground)
    with Playground(make_settings(**env, SPACE_ID="someone/space")) as playground:
        assert playground.stored_models() == []
        assert not [value for _, value in form.choices(playground) if value.startswith(("ollama:", "lmstudio:"))]
        with pytest.raises(UnknownModel):
            playground.resolve("ollama:tiny")


@pytest.mark.parallel
def test_it_is_prepared_by_its_name_like_any_model(stores: Stores, tmp_path: Path) -> None:
    from playground.export import pipeline

    spec, variant = Catalog((), stores=stores).resolve("ollama:tiny@onnx-fp32")
    artifact = pipeline.make(spec, variant, tmp_path / "home", lambda step, share: None, lambda: False)
    assert artifact.recipe == "fused"
    assert artifact.fidelity and artifact.fidelity.verdict == "exact"
    assert artifact.revision == spec.revision
