"""Other kernels, or another processor: a library and a comparison are made anew, the graph beside them is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from playground.errors import FidelityError
from playground.export import cache, pipeline
from playground.export.recipes import registry
from playground.kernels import building
from playground.records import Artifact, ModelSpec
from playground.runtimes.native.own_library import recorded
from playground.runtimes.native.stored import PROGRAM
from playground.runtimes.onnx.runtime import open_engine
from tests.support import tiny
from tests.support.tiny_bank import TinyBank, make

pytestmark = [
    pytest.mark.integration,
    pytest.mark.parallel,
    pytest.mark.xdist_group("kernels"),
    pytest.mark.skipif(building.obstacle() is not None, reason=building.obstacle() or ""),
]

GRAPH = ("model.onnx", "model.onnx.data")


@pytest.fixture(autouse=True)
def fresh_identity() -> Iterator[None]:
    building.identity.cache_clear()
    yield
    building.identity.cache_clear()


@pytest.fixture(scope="module")
def source(tiny_bank: TinyBank) -> Path:
    return tiny_bank.source


OF_THEN = "69d2dd893ea0"
"""The revision in keys, while they had one."""


def other_kernels(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    if what == "those of then":
        monkeypatch.setattr(building, "REVISION", OF_THEN)
    elif what == "another revision":
        monkeypatch.setattr(building, "REVISION", "0123456789ab")
    elif what == "another processor":
        monkeypatch.setenv(building.OFF, "scalar")
    building.identity.cache_clear()


def graph(artifact: Artifact) -> list[tuple[int, int]]:
    found = [(Path(artifact.path) / name).stat() for name in GRAPH]
    return [(each.st_ino, each.st_mtime_ns) for each in found]


def says(artifact: Artifact) -> dict[str, str]:
    document: dict[str, str] = json.loads((Path(artifact.path) / cache.DOCUMENT).read_text(encoding="utf-8"))
    return document


@pytest.mark.parametrize("what", ["another revision", "another processor"])
def test_a_graph_gets_a_library_of_todays_kernels_and_is_compared_by_it(
    what: str, source: Path, tiny_bank: TinyBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = make(source, tiny_bank.home(tmp_path, "int8"))
    before, program = graph(old), (Path(old.path) / PROGRAM).stat().st_ino
    other_kernels(monkeypatch, what)
    assert cache.read(Path(old.path), tmp_path) is None, "what was compared by other kernels must not be used"
    assert cache.outdated(Path(old.path), tmp_path) == old

    def built(*_: object) -> str:
        raise AssertionError("a graph was built")

    monkeypatch.setattr(pipeline, "_built", built)
    new = make(source, tmp_path)
    assert new.path == old.path
    assert graph(new) == before
    assert (Path(new.path) / PROGRAM).stat().st_ino != program
    assert new.engine == f"kernels {building.level()}"
    assert new.fidelity is not None and new.fidelity.verdict in ("faithful", "lossy")
    assert new.tool_versions["kernels"].startswith("here, ")
    assert says(new)["kernels"] == building.identity()
    engine = open_engine(Path(new.path), 1, library=recorded(Path(new.path)))
    assert engine.name == new.engine
    engine.close()
    assert cache.read(Path(new.path), tmp_path) == new
    assert make(source, tmp_path) == new
    assert list((tmp_path / "staging").iterdir()) == []


def test_a_graph_without_rounded_weights_stays_as_it_is(
    source: Path, tiny_bank: TinyBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = make(source, tiny_bank.home(tmp_path, "fp32"), "fp32")
    document = (Path(old.path) / cache.DOCUMENT).read_bytes()
    for what in ("another revision", "another processor"):
        other_kernels(monkeypatch, what)
        assert make(source, tmp_path, "fp32") == old
    monkeypatch.setenv(building.OFF, "off")
    building.identity.cache_clear()
    assert make(source, tmp_path, "fp32") == old
    assert (Path(old.path) / cache.DOCUMENT).read_bytes() == document


def test_a_graph_that_is_no_longer_good_enough_is_made_anew(
    source: Path, tiny_bank: TinyBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = make(source, tiny_bank.home(tmp_path, "int8"))
    before = graph(old)
    other_kernels(monkeypatch, "another revision")
    checked, asked = pipeline._checked, []

    def first_refused(*arguments: object) -> object:
        asked.append(arguments)
        if len(asked) == 1:
            raise FidelityError("rejected")
        return checked(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "_checked", first_refused)
    new = make(source, tmp_path)
    assert new.path == old.path
    assert graph(new) != before
    assert len(asked) == 2


@pytest.mark.fault
def test_a_damaged_graph_is_not_renewed_but_made_anew(
    source: Path, tiny_bank: TinyBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = make(source, tiny_bank.home(tmp_path, "int8"))
    weights = Path(old.path) / GRAPH[1]
    content = weights.read_bytes()
    weights.write_bytes(bytes(len(content)))
    other_kernels(monkeypatch, "another revision")
    assert cache.outdated(Path(old.path), tmp_path) is None
    make(source, tmp_path)
    assert weights.read_bytes() == content


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_artifacts_from_when_keys_named_the_kernels_are_found_where_they_lie(
    precision: str, source: Path, tiny_bank: TinyBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = make(source, tiny_bank.home(tmp_path, precision), precision)
    folder = Path(artifact.path)
    spec = ModelSpec("tiny", "Tiny", f"path:{source}", "", "onnx", precision, tiny.CONTEXT, "chat")
    hashed: list[dict[str, str]] = []
    with monkeypatch.context() as patch:
        patch.setattr(cache, "_hash", lambda value, usual=cache._hash: hashed.append(value) or usual(value))
        cache.artifact_folder(tmp_path, spec, artifact.variant, artifact.revision)
    decides = next(each for each in hashed if "kernels" in each)
    keyed = f"{building.level()}-{OF_THEN}"
    before = folder.with_name(f"tiny-onnx-{precision}-{cache._hash(decides | {'kernels': keyed})}")
    folder.rename(before)
    document = says(artifact) if folder.exists() else json.loads((before / cache.DOCUMENT).read_text())
    document.pop("kernels", None)
    (before / cache.DOCUMENT).write_text(json.dumps(document))
    other_kernels(monkeypatch, "those of then")
    again = make(source, tmp_path, precision)
    assert Path(again.path) == before
    assert again.created_at == artifact.created_at
    assert not folder.exists()
    exported = graph(again)
    other_kernels(monkeypatch, "another revision")
    assert make(source, tmp_path, precision).path == str(before)
    assert graph(again) == exported
    assert (cache.read(before, tmp_path) or artifact).created_at >= artifact.created_at
    assert (says(again).get("kernels") == building.identity()) == (precision == "int8")


def test_every_recipe_for_rounded_weights_has_a_precision_that_is_renewed() -> None:
    precisions = {precision for recipe in registry.RECIPES for precision in recipe.options}
    assert {each for each in precisions if each.startswith("int")} == set(cache.ROUNDED)
