"""A random Llama as an artifact of the fused recipe, and everything that is known of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from playground.catalog.entries import Terms
from playground.export import cache
from playground.records import Artifact, Environment, Fact, ModelFacts, ModelRun, ModelSpec, Variant
from playground.ship.shipment import Known, Shipment
from tests.support import tiny

MakeShipment = Callable[..., Shipment]
VARIANT = Variant("tiny", "onnx", "fp32")
SPEC = ModelSpec("tiny", "Tiny", "path:tiny", "0", "onnx", "fp32", tiny.CONTEXT, "chat", upstream="maker/tiny")


@pytest.fixture(scope="session")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact's folder, made once; nobody may write there."""
    model = tiny.write_model(tmp_path_factory.mktemp("original"))
    folder = tiny.write_fused(model, tmp_path_factory.mktemp("fused"))
    (folder / "kernels.so").write_bytes(b"\x7fELF")
    records = cache.record_files(folder)
    described = cache.describe(folder, records, variant=VARIANT, recipe="fused", revision="sha256:abc")
    cache.write(folder, folder.parent, described, records)
    return folder


@pytest.fixture
def artifact(graph: Path) -> Artifact:
    found = cache.read(graph, graph.parent)
    assert found is not None
    return found


@pytest.fixture
def make(artifact: Artifact) -> MakeShipment:
    """A shipment of it; keywords replace parts, ``licence`` and ``terms`` those of what is known."""

    def shipment(
        licence: str = "mit", terms: Terms | None = None, legal: tuple[Path, ...] = (), **parts: object
    ) -> Shipment:
        facts = ModelFacts("tiny", license=Fact(licence, "its card", "https://licence.example", "card"))
        known = Known(licence, terms, "Random.", legal={path.name: path for path in legal})
        ours = ModelRun(VARIANT, "onnx", "fp32", "", "length", token_ids=())
        made = Shipment(SPEC, VARIANT, artifact, facts, known, "What?", ours, Environment("cpu", 2, 1000.0))
        return replace(made, **parts)  # type: ignore[arg-type]

    return shipment
