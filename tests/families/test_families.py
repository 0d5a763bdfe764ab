"""Every family of the lesson and of the catalogue, from a folder of safetensors to an answer (docs/families.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from playground.export import cache as artifacts
from playground.export.quantization.weights import Graph
from playground.export.recipes import dynamo, fused
from playground.kernels import building
from playground.records import LoadSpec, Request
from playground.service import Playground
from tests.families import FAMILIES, Family, write
from tests.families.bank import Bank
from tests.families.report import PRECISIONS, Row, read_rows

BY_NAME = {family.name: family for family in FAMILIES}


def together(name: str) -> pytest.MarkDecorator:
    """Tests of one family have a worker in common, and so its trace and the answers of transformers."""
    return pytest.mark.xdist_group(f"family {name}")


@pytest.fixture(scope="module")
def home(bank: Bank) -> Path:
    """One home for all, so that the overlay is installed once."""
    return bank.home


@pytest.fixture(scope="module")
def models(bank: Bank) -> Path:
    return bank.models


@pytest.fixture(scope="module", autouse=True)
def traced_once() -> Iterator[None]:
    """A network is traced for its first precision: the graph is the same for all, and is rounded afterwards."""
    traced = dynamo._traced

    @cache
    def kept(folder: Path) -> Graph:
        return traced(folder)

    def again(folder: Path) -> Graph:
        first = kept(folder)
        model = type(first.model).FromString(first.model.SerializeToString())
        return Graph(model, first._folder, first._made, first._parts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamo, "_traced", again)
        yield


def documented() -> dict[tuple[str, str], Row]:
    return {(row.family, row.precision): row for row in read_rows()}


def test_the_page_has_a_row_for_each_family_and_precision_and_no_others() -> None:
    assert set(documented()) == {(family.name, precision) for family in FAMILIES for precision in PRECISIONS}


def test_the_page_claims_that_every_family_is_exact_in_fp32_whichever_way_it_runs() -> None:
    claims = [row.verdict for row in documented().values() if row.precision == "fp32"]
    assert claims
    assert set(claims) == {"exact"}


@pytest.mark.integration
@pytest.mark.parallel
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("family", [pytest.param(each, id=each.name, marks=together(each.name)) for each in FAMILIES])
def test_a_family_is_served_as_the_page_says(family: Family, precision: str, models: Path, home: Path) -> None:
    from tests.families.proof import prove

    proof = prove(family, precision, models, home)
    artifact = proof.artifact
    assert proof.way == documented()[family.name, precision].way, artifact.fallbacks
    if building.obstacle() is None:
        assert proof.engine == documented()[family.name, precision].engine, artifact.engine_note
    ways = ("fused", "dynamo", "optimum", "torch")
    assert [line.split(":")[0] for line in artifact.fallbacks] == list(ways[: ways.index(proof.way)])
    assert artifact.fidelity is not None
    if artifact.variant.runtime == "torch":
        assert artifact.fidelity.verdict == "exact"
        assert proof.text == proof.expected
        return
    assert artifact.fidelity.positions >= 512
    if precision == "fp32":
        assert artifact.fidelity.verdict == "exact"
        assert artifact.fidelity.max_logit_error < 1e-3
        assert proof.text == proof.expected
    else:
        assert artifact.fidelity.verdict in ("faithful", "lossy")


@pytest.mark.integration
@pytest.mark.parallel
def test_an_expanded_llama_gives_the_logits_of_the_one_it_was_expanded_from() -> None:
    import torch

    from tests.families.builders import model

    ids = torch.arange(5, 60)[None]
    with torch.inference_mode():
        deeper, shallow = model(BY_NAME["llama-pro"]), model(BY_NAME["llama-2-gqa"])
        assert deeper.config.num_hidden_layers == 2 * shallow.config.num_hidden_layers
        assert torch.equal(deeper(ids).logits, shallow(ids).logits)


@pytest.mark.integration
@pytest.mark.parallel
@together("olmo")
def test_the_builders_olmo_is_caught_by_its_logits_and_by_no_list(models: Path, home: Path) -> None:
    from tests.families.proof import prove

    artifact = prove(BY_NAME["olmo"], "fp32", models, home).artifact
    assert artifact.recipe == "dynamo"
    assert artifact.fallbacks[0].startswith("fused: rejected")
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(artifacts.__file__).parent.rglob("*.py"))
    assert "olmo" not in sources.lower()


@pytest.mark.integration
@pytest.mark.parallel
def test_a_graph_that_forgot_the_sliding_window_is_rejected(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.families.proof import prove

    monkeypatch.setattr(fused, "_say_layer_types", lambda config: None)
    fused_only = tuple(recipe for recipe in artifacts.RECIPES if recipe.name == "fused")
    monkeypatch.setattr(artifacts, "RECIPES", fused_only)
    artifact = prove(BY_NAME["mistral"], "fp32", models, tmp_path).artifact
    assert artifact.variant.runtime == "torch"
    assert artifact.fallbacks[0].startswith("fused: rejected")


@pytest.fixture
def playground(home: Path, make_settings: Callable[..., object]) -> Iterator[Playground]:
    with Playground(make_settings(PLAYGROUND_HOME=home)) as playground:  # type: ignore[arg-type]
        yield playground


@pytest.mark.integration
@pytest.mark.parallel
@pytest.mark.parametrize(("name", "recipe"), [("falcon-7b", "dynamo"), ("t5", "optimum")])
def test_the_real_processes_prepare_a_family_and_answer(
    name: str, recipe: str, tmp_path: Path, playground: Playground
) -> None:
    folder = write(BY_NAME[name], tmp_path / name)
    spec, variant = playground.catalog.resolve(f"path:{folder}@onnx-int8")
    steps: list[str] = []
    artifact = playground.preparer.prepare(variant, lambda step, _: steps.append(step), lambda: False)
    assert artifact.recipe == recipe
    if recipe == "optimum":
        assert artifact.tool_versions["transformers (export)"].startswith("4.57")
    assert artifact.tool_versions["transformers"].startswith("5.")
    *_, last = playground.pool.generate(
        LoadSpec(spec, artifact, 1), Request("the quick brown fox", max_new_tokens=8), lambda: False
    )
    assert last.run is not None
    assert last.run.error is None
    assert last.run.recipe == recipe
    assert last.run.text
    assert last.run.fallbacks == artifact.fallbacks
