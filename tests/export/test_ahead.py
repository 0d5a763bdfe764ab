"""What a preparation does once, or beside something else: kernels, libraries, the builder's tokenizer."""

from __future__ import annotations

import gc
import hashlib
import inspect
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from playground.export import kernels, passages, reference, vocabulary
from playground.export.recipes.base import Work
from playground.export.recipes.fused import FUSED_PRECISIONS, build_fused
from playground.export.weights import import_model
from playground.kernels import building
from playground.messages import msg
from playground.runtimes.native.stored import PROGRAM
from playground.runtimes.torch import libraries
from tests.support import ggufs, kernel_graphs, tiny

pytestmark = [pytest.mark.integration, pytest.mark.parallel]

needs_kernels = pytest.mark.skipif(building.obstacle() is not None, reason=building.obstacle() or "")


def nothing(*_: object) -> None: ...


@needs_kernels
def test_kernels_are_built_beside_other_work_and_copied_to_the_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds: list[Path] = []

    def build(folder: Path) -> building.Built:
        builds.append(folder)
        return real(folder)

    real = building.build
    monkeypatch.setattr(building, "build", build)
    one, two = (kernel_graphs.write(kernel_graphs.eight_bits(), tmp_path / name) for name in ("one", "two"))
    (one / building.LIBRARY).write_bytes(b"somebody's")
    with kernels.ahead(tmp_path / "home", wanted=True) as ready:
        assert [kernels.attach(folder, nothing, ready) for folder in (one, two)] == [None, None]
    assert len(builds) == 1, "one library for all graphs of a preparation"
    assert not builds[0].exists()
    for folder in (one, two):
        found = kernels.built(folder)
        assert found is not None and found.path == folder / building.LIBRARY
        assert found == building.Built.of(folder / building.LIBRARY)
        assert kernels.tool_versions(folder)["kernels"].startswith(("here", "package"))
        kernels.detach(folder)


@needs_kernels
def test_kernels_that_can_not_be_built_are_a_reason_for_each_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Path) -> building.Built:
        raise building.KernelsUnavailable(msg("the trial failed"))

    monkeypatch.setattr(building, "build", fails)
    folder = kernel_graphs.write(kernel_graphs.eight_bits(), tmp_path)
    with kernels.ahead(tmp_path / "home", wanted=True) as ready:
        assert [kernels.attach(folder, nothing, ready) for _ in range(2)] == ["the trial failed"] * 2
    assert kernels.built(folder) is None
    assert not any((folder / name).exists() for name in (building.LIBRARY, PROGRAM))


def stand_in(monkeypatch: pytest.MonkeyPatch, content: bytes = b"a library") -> list[Path]:
    """Kernels that take no compiler; the folders they are built in."""
    builds: list[Path] = []

    def build(folder: Path) -> building.Built:
        builds.append(folder)
        (folder / building.LIBRARY).write_bytes(content)
        return building.Built.of(folder / building.LIBRARY, "here, stand-in")

    monkeypatch.setattr(building, "build", build)
    monkeypatch.setattr(building, "obstacle", lambda: None)
    return builds


def taken(home: Path) -> tuple[bytes, str, str]:
    """Content, checksum and origin of what a preparation in ``home`` is given."""
    with kernels.ahead(home, wanted=True) as ready:
        assert ready is not None
        found = ready.result()
        assert found.path.is_relative_to(home / "staging"), "nobody takes away what is used"
        return found.path.read_bytes(), found.sha256, found.origin


def test_a_second_preparation_compiles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = stand_in(monkeypatch)
    first = taken(tmp_path)
    assert taken(tmp_path) == first == (b"a library", hashlib.sha256(b"a library").hexdigest(), "here, stand-in")
    assert len(builds) == 1
    assert taken(tmp_path / "another home") == first
    assert len(builds) == 2


@pytest.mark.parametrize("damage", ["content", "record", "no record", "a record of another kind"])
def test_what_is_not_as_it_was_tried_is_built_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    builds = stand_in(monkeypatch)
    first = taken(tmp_path)
    (folder,) = (tmp_path / "kernels").iterdir()
    if damage == "content":
        (folder / building.LIBRARY).write_bytes(b"somebody's")
    elif damage == "no record":
        (folder / kernels.DOCUMENT).unlink()
    else:
        (folder / kernels.DOCUMENT).write_text("[]" if damage.startswith("a record") else '{"sha256": "", "origin": 1}')
    assert taken(tmp_path) == first
    assert len(builds) == 2
    assert taken(tmp_path) == first
    assert len(builds) == 2, "kept again"


def test_another_source_compiler_option_or_processor_is_another_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(name: str, words: str) -> Path:
        file = tmp_path / name
        file.write_text(f"#!/bin/sh\necho {words}\n")
        file.chmod(0o755)
        return file

    def told() -> str:
        building.compiler.cache_clear()
        return building.inputs("scalar")

    one = written("cc", "version 1")
    monkeypatch.setenv("CC", str(one))
    found = [told()]
    assert told() == found[0]
    found.append(building.inputs("avx2"))
    monkeypatch.setenv("CPATH", "/elsewhere")
    found.append(told())
    written("cc", "version 2")
    found.append(told())
    monkeypatch.setattr(building, "REVISION", "another")
    found.append(told())
    monkeypatch.setattr(building, "_flags", lambda _: frozenset(("none",)))
    found.append(told())
    source = tmp_path / "source"
    source.mkdir()
    (source / building.UNIT).write_text("int x;")
    monkeypatch.setattr(building, "SOURCE", source)
    found.append(told())
    assert len(set(found)) == len(found)
    building.compiler.cache_clear()


def test_a_library_that_can_not_be_kept_is_used_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = stand_in(monkeypatch)
    (tmp_path / "kernels").write_text("a file")
    assert taken(tmp_path) == taken(tmp_path)
    assert len(builds) == 2


def test_old_libraries_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    for number in range(kernels.KEPT + 3):
        monkeypatch.setattr(building, "inputs", lambda number=number: f"library-{number}")
        taken(tmp_path)
        os.utime(tmp_path / "kernels" / f"library-{number}", (number, number))
    left = {each.name for each in (tmp_path / "kernels").iterdir()}
    assert left == {f"library-{number}" for number in range(3, kernels.KEPT + 3)}


def test_kernels_nobody_wants_are_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "build", lambda _: pytest.fail("built"))
    with kernels.ahead(tmp_path, wanted=False) as ready:
        assert ready is None
    monkeypatch.setenv(building.OFF, "off")
    with kernels.ahead(tmp_path, wanted=True) as ready:
        assert ready is None


def test_what_fails_meanwhile_is_told_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages: list[Path] = []

    def slow(folder: Path) -> building.Built:
        stages.append(folder)
        time.sleep(0.2)
        (folder / building.LIBRARY).write_bytes(b"late")
        return building.Built.of(folder / building.LIBRARY)

    monkeypatch.setattr(building, "build", slow)
    monkeypatch.setattr(building, "obstacle", lambda: None)
    with pytest.raises(ValueError, match="the import"), kernels.ahead(tmp_path, wanted=True):
        while not stages:
            time.sleep(0.01)
        raise ValueError("the import")
    assert [stage.exists() for stage in stages] == [False]


@pytest.fixture
def unloaded() -> Iterator[None]:
    libraries.load_libraries.cache_clear()
    yield
    libraries.load_libraries.cache_clear()
    gc.unfreeze()
    gc.enable()


def test_what_libraries_define_is_not_looked_at_by_the_collector(unloaded: None) -> None:
    before = gc.get_freeze_count()
    libraries.load_libraries()
    assert gc.isenabled()
    assert gc.get_freeze_count() > before + 10_000


@pytest.mark.parametrize("collects", [True, False])
def test_a_package_that_is_missing_leaves_the_collector_as_it_was(
    collects: bool, unloaded: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(libraries, "import_module", missing)
    (gc.enable if collects else gc.disable)()
    with pytest.raises(ModuleNotFoundError):
        libraries.load_libraries()
    assert gc.isenabled() == collects


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Which tokenizers the builder reads by transformers."""
    from onnxruntime_genai.models import builder
    from onnxruntime_genai.models.builders import base
    from transformers import AutoTokenizer

    found: list[object] = []

    class Counted:
        @staticmethod
        def from_pretrained(*places: Any, **options: Any) -> Any:
            found.append(places)
            return AutoTokenizer.from_pretrained(*places, **options)

    for module in (builder, base):
        monkeypatch.setattr(module, "AutoTokenizer", Counted)
    return found


def built(model: Path, target: Path) -> Any:
    """The builder's settings of a model, which say which ids end an answer."""
    from onnxruntime_genai.models import builder
    from onnxruntime_genai.models.builders import base

    before = builder.AutoTokenizer, base.AutoTokenizer
    target.mkdir()
    work = Work(model, model, target, "fp32", FUSED_PRECISIONS["fp32"], target, nothing)
    assert build_fused(work) == "fp32"
    assert (builder.AutoTokenizer, base.AutoTokenizer) == before, "as it was"
    assert (target / "tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()
    return json.loads((target / "genai_config.json").read_text())


@pytest.mark.parametrize("named", [(), ("bos_token_id",), ("bos_token_id", "eos_token_id", "pad_token_id")])
def test_the_builder_finds_in_the_files_what_transformers_tokenizer_says(
    tmp_path: Path, read: list[object], named: tuple[str, ...]
) -> None:
    from transformers import AutoTokenizer

    model = tiny.write_model(tmp_path / "model")
    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    tokenizer.add_special_tokens({"pad_token": "a", "bos_token": "the"})
    tokenizer.save_pretrained(model)
    config = json.loads((model / "config.json").read_text())
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        config.pop(name, None)
    (model / "config.json").write_text(json.dumps(config | dict.fromkeys(named, 5)))
    (model / "generation_config.json").unlink(missing_ok=True)
    ours = built(model, tmp_path / "ours")
    assert not read
    said = json.loads((model / "tokenizer_config.json").read_text())
    assert said.pop("backend") == "tokenizers"
    (model / "tokenizer_config.json").write_text(json.dumps(said))
    assert built(model, tmp_path / "theirs") == ours
    assert len(read) == 1, "once for three questions"


def test_every_name_that_the_builder_looks_for_is_known() -> None:
    from onnxruntime_genai.models import builder

    asked = re.findall(r'"(<[^"]+>)"', inspect.getsource(builder.add_special_token_ids))
    assert asked
    assert set(asked) <= set(vocabulary.NAMES)


def test_a_tokenizer_that_was_just_written_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "import"
    target.mkdir()
    import_model(tiny.spec(), tuple(ggufs.write_llama(tmp_path / "m.gguf")), target, nothing)
    target = target.rename(tmp_path / "import in its place")
    whole = Tokenizer.from_file(str(target / "tokenizer.json"))
    texts = [text.path.read_text(encoding="utf-8") for text in passages.TEXTS]
    with monkeypatch.context() as patched:
        patched.setattr(vocabulary, "_read", lambda _: pytest.fail("read"))
        encode, size = reference.tokenizer_of(target)
        assert [list(encode(text)) for text in texts] == [whole.encode(text).ids for text in texts]
        assert size == whole.get_vocab_size()
        assert vocabulary.of(target).names[vocabulary.roles(target)["eos_token"]] == 0
    assert list(encode("another text")) == whole.encode("another text").ids
    (target / "tokenizer.json").write_text(whole.to_str(pretty=True) + " ")
    assert vocabulary.of(target).size == size
