"""The whole way from a folder of safetensors to a checked export, on a random two-layer Llama.

Slow only because torch, transformers and the builder are imported.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from playground import sources
from playground.errors import ExportError
from playground.export import cache, pipeline
from playground.export.recipes.fused import build_fused
from playground.export.recipes.optimum import write_source
from playground.export.recipes.registry import RECIPES, Work
from playground.export.weights import import_model
from playground.records import Artifact, LoadSpec, ModelSpec, Request, Variant
from playground.runtimes import create_runtime
from tests.support import ggufs, tiny

pytestmark = [pytest.mark.integration, pytest.mark.parallel, pytest.mark.xdist_group("tiny")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def make(folder: Path, home: Path, precision: str, steps: list[str] | None = None) -> Artifact:
    spec = ModelSpec("tiny", "Tiny", f"path:{folder}", "", "onnx", precision, tiny.CONTEXT, "chat")
    seen: list[str] = [] if steps is None else steps
    return pipeline.make(
        spec, Variant("tiny", "onnx", precision), home, lambda step, _: seen.append(step), lambda: False
    )


def test_a_folder_becomes_an_exact_fp32_graph_with_the_originals_files(folder: Path, home: Path) -> None:
    steps: list[str] = []
    artifact = make(folder, home, "fp32", steps)
    assert artifact.fidelity is not None
    assert artifact.fidelity.verdict == "exact"
    assert artifact.fidelity.positions >= 512
    assert artifact.recipe == "fused"
    assert list(dict.fromkeys(steps)) == ["verifying", "importing", "building", "asking transformers", "checking"]
    place = Path(artifact.path)
    for name in ("model.onnx", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json"):
        assert (place / name).is_file()
    imported = cache.import_folder(home, ModelSpec("tiny", "", "", "", "", "", 0, "chat"), artifact.revision)
    assert (place / "config.json").read_bytes() == (imported / "config.json").read_bytes()
    assert (place / "chat_template.jinja").read_text() == tiny.TEMPLATE
    assert not (place / ".cache").exists()


def test_int8_is_close_and_smaller(folder: Path, home: Path) -> None:
    fp32, int8 = make(folder, home, "fp32"), make(folder, home, "int8")
    assert int8.fidelity is not None
    assert int8.fidelity.verdict in ("faithful", "lossy")
    assert Path(int8.path, "model.onnx.data").stat().st_size < Path(fp32.path, "model.onnx.data").stat().st_size


def zero_one_matrix(target: Path) -> str:
    """Overwrite one weight matrix of the second layer in the graph's data; the graph stays valid."""
    import onnx

    graph = onnx.load(target / "model.onnx", load_external_data=False).graph
    tensor = next(each for each in graph.initializer if "layers.1.attn.o_proj" in each.name)
    place = {entry.key: entry.value for entry in tensor.external_data}
    with (target / place["location"]).open("r+b") as file:
        file.seek(int(place.get("offset", 0)))
        file.write(bytes(int(place["length"])))
    return str(tensor.name)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_export_with_one_weight_block_zeroed_is_rejected_and_torch_is_used(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    def broken(work: Work) -> str:
        precision = build_fused(work)
        zero_one_matrix(work.target)
        return precision

    fused = next(recipe for recipe in RECIPES if recipe.name == "fused")
    monkeypatch.setattr(cache, "RECIPES", (replace(fused, build=broken),))
    artifact = make(folder, tmp_path, precision)
    assert artifact.variant == Variant("tiny", "torch", "fp32")
    assert artifact.recipe == "none"
    assert (Path(artifact.path) / "model.safetensors").is_file()
    assert not (Path(artifact.path) / "model.onnx").exists()
    ways = ["fused: rejected"] if precision == "fp32" else ["fused: rejected", "fp32: fused: rejected"]
    assert [reason.split(",")[0] for reason in artifact.fallbacks] == ways
    assert f"{precision} explains at most" in artifact.fallbacks[0]


def test_an_architecture_that_no_recipe_knows_falls_back_with_each_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    def unknown(work: Work) -> str:
        raise ExportError("it never heard of it")

    fused, optimum = (next(recipe for recipe in RECIPES if recipe.name == name) for name in ("fused", "optimum"))
    monkeypatch.setattr(cache, "RECIPES", (fused, replace(optimum, build=unknown)))
    other = tiny.write_tokenizer(tmp_path / "neox")
    config = GPTNeoXConfig(
        vocab_size=tiny.VOCAB, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    GPTNeoXForCausalLM(config).save_pretrained(other)
    artifact = make(other, tmp_path / "home", "int8")
    assert artifact.variant.runtime == "torch"
    assert artifact.fallbacks == (
        "fused: the model builder does not know this architecture",
        "optimum: it never heard of it",
    )


def test_a_folder_that_is_no_model_is_an_error_that_names_it(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"weight": np.zeros((2, 2), np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no-such-thing"}))
    with pytest.raises(ExportError, match=r"Tiny can't be read by transformers"):
        make(tmp_path, tmp_path / "home", "int8")


def test_a_field_of_the_wrong_type_is_named_with_what_is_wrong_with_it(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(folder, source)
    config = json.loads((source / "config.json").read_text()) | {"initializer_range": "small"}
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(ExportError, match=r"field 'initializer_range': TypeError: .*expected float"):
        make(source, tmp_path / "home", "int8")


@pytest.fixture(scope="module")
def graph(folder: Path, home: Path) -> Path:
    return Path(make(folder, home, "fp32").path)


class TestASourceThatBringsOnnxFiles:
    """Prebuilt graphs: taken first where they are right, passed over with the reason where they are not."""

    def source(self, folder: Path, graph: Path, tmp_path: Path, weights: bool) -> Path:
        source = tmp_path / "source"
        shutil.copytree(folder if weights else graph, source, ignore=shutil.ignore_patterns("artifact.json"))
        if weights:
            for name in ("model.onnx", "model.onnx.data"):
                shutil.copy(graph / name, source / name)
        return source

    def prepared(self, source: Path, tmp_path: Path, precision: str = "fp32") -> Artifact:
        files = tuple(sorted(path for path in source.iterdir() if path.is_file()))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sources, "fetch", lambda *_, **__: sources.Fetched(files, "sha256:test"))
            return make(source, tmp_path / "home", precision)

    def test_a_right_one_is_used_and_checked(self, folder: Path, graph: Path, tmp_path: Path) -> None:
        artifact = self.prepared(self.source(folder, graph, tmp_path, weights=True), tmp_path)
        assert (artifact.recipe, artifact.fallbacks) == ("prebuilt", ())
        assert artifact.fidelity is not None
        assert artifact.fidelity.verdict == "exact"

    def test_a_wrong_one_is_passed_over_with_its_figures(self, folder: Path, graph: Path, tmp_path: Path) -> None:
        source = self.source(folder, graph, tmp_path, weights=True)
        zero_one_matrix(source)
        artifact = self.prepared(source, tmp_path)
        assert artifact.recipe == "fused"
        assert artifact.fallbacks[0].startswith("prebuilt: rejected")

    def test_without_weights_it_is_used_with_no_verdict(self, folder: Path, graph: Path, tmp_path: Path) -> None:
        artifact = self.prepared(self.source(folder, graph, tmp_path, weights=False), tmp_path)
        assert artifact.recipe == "prebuilt"
        assert artifact.fidelity is None

    def test_without_weights_a_missing_precision_is_an_error(self, folder: Path, graph: Path, tmp_path: Path) -> None:
        source = self.source(folder, graph, tmp_path, weights=False)
        with pytest.raises(ExportError, match="None of the ONNX files of Tiny can be used"):
            self.prepared(source, tmp_path, "int8")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (path,) = ggufs.write_llama(tmp_path_factory.mktemp("gguf") / "m.gguf")
    return path


@pytest.fixture(scope="module")
def gguf_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


class TestASourceThatIsOneGgufFile:
    """Its weights stay in the file, whatever is made of it."""

    @pytest.mark.parametrize("way", ["fused", "dynamo"])
    def test_each_recipe_makes_an_exact_graph_of_it(
        self, file: Path, gguf_home: Path, monkeypatch: pytest.MonkeyPatch, way: str
    ) -> None:
        monkeypatch.setattr(cache, "RECIPES", tuple(recipe for recipe in RECIPES if recipe.name == way))
        artifact = make(file, gguf_home, "fp32")
        assert artifact.recipe == way
        assert artifact.fidelity is not None
        assert artifact.fidelity.verdict == "exact"
        assert "GGUF" in artifact.fidelity.reference

    def test_torch_runs_the_file_and_no_copy_in_floats_is_made(self, file: Path, gguf_home: Path) -> None:
        spec = ModelSpec("tiny", "Tiny", f"path:{file}", "", "torch", "fp32", tiny.CONTEXT, "chat")
        artifact = pipeline.make(spec, Variant("tiny", "torch", "fp32"), gguf_home, lambda *_: None, lambda: False)
        assert artifact.fidelity is not None
        assert artifact.fidelity.verdict == "exact"
        assert (Path(artifact.path) / "model.gguf").samefile(file)
        assert not list((gguf_home / "imports").rglob("*.safetensors"))
        assert tokens_of(spec, artifact) == 5

    def test_optimum_is_given_the_numbers_of_the_file(self, file: Path, tmp_path: Path) -> None:
        from safetensors.numpy import load_file

        imported = tmp_path / "import"
        imported.mkdir()
        import_model(tiny.spec(), (file,), imported, lambda *_: None)
        (tmp_path / "source").mkdir()
        assert write_source(imported, tmp_path / "source") == "text-generation-with-past"
        found = load_file(tmp_path / "source" / "model.safetensors")
        expected = ggufs.llama_weights()
        assert found.keys() == expected.keys()
        assert all((found[name] == expected[name]).all() for name in expected)


def tokens_of(spec: ModelSpec, artifact: Artifact) -> int:
    """How many tokens the torch runtime writes, asked for five at least and at most."""
    runtime = create_runtime("torch")
    runtime.load(LoadSpec(spec, artifact, 1))
    events = runtime.generate(Request("the quick", max_new_tokens=5, min_new_tokens=5), lambda: False)
    return sum(event.kind == "token" for event in events)
