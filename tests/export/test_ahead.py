"""What a preparation does once, or beside something else: kernels, libraries, the builder's tokenizer."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from playground.export import kernels
from playground.export.recipes.base import Work
from playground.export.recipes.fused import FUSED_PRECISIONS, build_fused
from playground.kernels import building
from playground.messages import msg
from playground.runtimes.native.stored import PROGRAM
from playground.runtimes.torch import libraries
from tests.support import kernel_graphs, tiny

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


def test_the_builder_reads_a_tokenizer_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxruntime_genai.models import builder
    from onnxruntime_genai.models.builders import base
    from transformers import AutoTokenizer

    read: list[object] = []

    class Counted:
        @staticmethod
        def from_pretrained(*places: Any, **options: Any) -> Any:
            read.append(places)
            return AutoTokenizer.from_pretrained(*places, **options)

    for module in (builder, base):
        monkeypatch.setattr(module, "AutoTokenizer", Counted)
    model, target = tiny.write_model(tmp_path / "model"), tmp_path / "target"
    target.mkdir()
    work = Work(model, model, target, "fp32", FUSED_PRECISIONS["fp32"], tmp_path, nothing)
    assert build_fused(work) == "fp32"
    assert len(read) == 1
    assert (builder.AutoTokenizer, base.AutoTokenizer) == (Counted, Counted), "as it was"
    assert (target / "tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()
