"""A random Llama from the small Hub goes all the way: fetched, exported, compared with torch, and answers.

Slow only because torch, transformers and the builder are started; no real model and no network.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from playground.records import Comparison, Request, Variant
from playground.service import Playground
from tests.support.ggufs import write_llama
from tests.support.hub_server import Hub, tiny_llama, use

pytestmark = pytest.mark.integration

NAME = "someone/tiny-llama"
MODEL = f"hub:{NAME}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Hub]:
    hub = Hub()
    hub.add(NAME, tiny_llama(shards=2))
    with pytest.MonkeyPatch.context() as patch:
        use(hub, place / "hf", patch)
        yield hub
    hub.close()


def open_playground(place: Path) -> Playground:
    from playground.config.settings import load_settings

    return Playground(load_settings({"PLAYGROUND_HOME": str(place / "home"), "PLAYGROUND_THREADS": "1"}))


def answer(playground: Playground, text: str) -> Comparison:
    _, variant = playground.catalog.resolve(text)
    running = playground.comparer.start(Request(prompt="the quick brown fox", max_new_tokens=8), (variant,), "fair")
    for _ in running.events(timeout=1.0):
        pass
    return running.result()


def test_a_model_of_the_hub_is_prepared_checked_and_answers(server: Hub, place: Path) -> None:
    with open_playground(place) as playground:
        _, variant = playground.catalog.resolve(f"{MODEL}@onnx-fp32")
        steps: list[str] = []
        artifact = playground.preparer.prepare(variant, lambda step, _: steps.append(step), lambda: False)
        assert artifact.revision == server.repos[NAME].sha
        assert artifact.recipe == "fused"
        assert artifact.fidelity is not None
        assert artifact.fidelity.verdict == "exact"
        assert {"importing", "building"} <= set(steps)
        fused = answer(playground, f"{MODEL}@onnx-fp32").runs[0]
        torch = answer(playground, f"{MODEL}@torch-fp32").runs[0]
    assert fused.error is None, fused.error
    assert torch.error is None, torch.error
    assert fused.text == torch.text
    assert fused.timings.output_tokens
    assert fused.variant == Variant(MODEL, "onnx", "fp32")


def test_the_page_looks_a_quantisation_up_and_takes_it_into_the_comparison(server: Hub, place: Path) -> None:
    from playground.ui import offered
    from playground.ui.tabs import catalog

    (gguf,) = write_llama(place / "m-Q6_K.gguf")
    repo = server.add("someone/page-GGUF", {name: gguf.read_bytes() for name in ("m-Q6_K.gguf", "m-UD-Q6_K.gguf")})
    with open_playground(place) as playground:
        drawn, *_, source = catalog._look_up(playground, "someone/page-GGUF")
        assert "Q6_K (" in drawn
        assert "hub:someone/page-GGUF:Q6_K" in drawn
        assert source == ""
        drawn, *_, source = catalog._look_up(playground, "hf.co/someone/page-GGUF:ud-q6_k")
        assert "someone/page-GGUF:UD-Q6_K" in drawn
        assert source == f"hub:someone/page-GGUF:UD-Q6_K#{repo.sha}"
        variant = offered.variant(playground, f"{source}@onnx-int8")
        assert str(variant) == f"{source}@onnx-int8"


def test_two_quantisations_of_a_repository_are_two_models(server: Hub, place: Path) -> None:
    random = np.random.default_rng(1)
    down = random.standard_normal((64, 128)).astype(np.float32)
    repo = f"someone/{'a-very-long-name-' * 4}GGUF"  # longer than what a folder's name has of it
    (four,) = write_llama(place / "m-Q4_K_M.gguf")
    (eight,) = write_llama(place / "m.q8_0.gguf", {"blk.0.ffn_down.weight": down})
    server.add(repo, {path.name: path.read_bytes() for path in (four, eight)})
    names = [f"hub:{repo}:{tag}" for tag in ("Q4_K_M", "Q8_0")]
    with open_playground(place) as playground:
        variants = [playground.catalog.resolve(f"{name}@onnx-fp32")[1] for name in names]
        made = [playground.preparer.prepare(variant, lambda *_: None, lambda: False) for variant in variants]
        runs = [answer(playground, str(variant)).runs[0] for variant in variants]
    assert [artifact.revision for artifact in made] == [f"{server.repos[repo].sha}:{tag}" for tag in ("Q4_K_M", "Q8_0")]
    assert len({artifact.path for artifact in made}) == len({artifact.sha256 for artifact in made}) == 2
    assert [run.variant.model for run in runs] == names
    assert [run.error for run in runs] == [None, None]
    assert runs[0].token_ids != runs[1].token_ids
    # Some file systems know no colon, and no folder is called with one.
    assert not [path for path in (place / "home").rglob("*") if path.is_dir() and ":" in path.name]


def test_with_the_server_gone_the_model_still_answers_and_prepares(server: Hub, place: Path) -> None:
    if not (place / "home" / "artifacts").is_dir():
        pytest.skip("needs what the first test prepared")
    server.close()
    with open_playground(place) as playground:
        run = answer(playground, f"{MODEL}@onnx-fp32").runs[0]
        assert run.error is None, run.error
        assert run.text
        # Another precision is made from the files at hand.
        _, variant = playground.catalog.resolve(f"{MODEL}@onnx-int8")
        artifact = playground.preparer.prepare(variant, lambda *_: None, lambda: False)
        assert artifact.revision == server.repos[NAME].sha
    # A new home finds the Hub's cache and says that it was used.
    with open_playground(place / "other") as playground:
        _, variant = playground.catalog.resolve(f"{MODEL}@torch-fp32")
        artifact = playground.preparer.prepare(variant, lambda *_: None, lambda: False)
        assert artifact.revision == server.repos[NAME].sha
    (log,) = (place / "other" / "home" / "logs").glob("prepare-*.log")
    assert f"what the cache holds of {MODEL} is used" in log.read_text(encoding="utf-8")
