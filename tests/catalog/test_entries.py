"""The catalogue: what is in it, how a model is named, and what a mistake in the file says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from playground import paths
from playground.catalog.entries import Catalog, load_catalog
from playground.errors import ConfigError, UnknownModel, UnknownVariant, UsageError
from playground.records import Remote, Variant

SHIPPED = paths.CATALOG


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(SHIPPED)


def entry(**changes: Any) -> dict[str, Any]:
    good = {
        "id": "tiny",
        "name": "Tiny",
        "kind": "chat",
        "task": "text-generation",
        "context_length": 64,
        "source": "fake:text=hi",
        "revision": "none",
        "variants": ["fake-none"],
    }
    return {**good, **changes}


def write(folder: Path, *entries: dict[str, Any], **top: Any) -> Path:
    path = folder / "catalog.yaml"
    path.write_text(yaml.safe_dump({"schema_version": 1, "models": list(entries), **top}))
    return path


def test_the_shipped_catalogue_begins_with_the_two_starter_models_pinned_by_checksum(catalog: Catalog) -> None:
    assert catalog.ids()[:2] == ("smollm2-135m-instruct", "gemma-3-270m")
    smollm, gemma = (catalog.entry(model).spec for model in catalog.ids()[:2])
    assert (smollm.kind, gemma.kind) == ("chat", "base")
    assert all(spec.revision.startswith("sha256:") and len(spec.revision) == 71 for spec in (smollm, gemma))
    assert gemma.source.removeprefix("pypi:").count("==1.0.0/") == 4
    assert " " not in gemma.source


@pytest.mark.parametrize(
    "upstream",
    [
        *("meta-llama/Llama-2-7b-chat-hf", "elyza/ELYZA-japanese-Llama-2-7b-instruct", "TencentARC/LLaMA-Pro-8B"),
        *("mistralai/Mistral-7B-Instruct-v0.1", "mistralai/Mixtral-8x7B-Instruct-v0.1", "BioMistral/BioMistral-7B"),
        *("nvidia/OpenMath-Mistral-7B-v0.1-hf", "tiiuae/falcon-7b-instruct", "tiiuae/falcon-40b"),
        *("OpenAssistant/falcon-40b-sft-top1-560", "nomic-ai/gpt4all-falcon", "allenai/OLMo-7B-hf"),
    ],
)
def test_every_family_of_the_lesson_is_there(catalog: Catalog, upstream: str) -> None:
    entry = catalog.upstream(upstream)
    assert entry is not None
    assert entry.spec.source == f"hub:{upstream}"


@pytest.mark.parametrize("licence", ["gemma", "llama2", "llama3.2", "falcon-llm-license", "lfm1.0"])
def test_models_under_a_licence_with_conditions_carry_them(catalog: Catalog, licence: str) -> None:
    found = [entry for entry in catalog if entry.card.license and entry.card.license.id == licence]
    assert found
    assert all(entry.terms and entry.terms.url for entry in found)


def test_a_hub_model_the_catalogue_knows_keeps_its_card_its_length_and_its_prompt_format(catalog: Catalog) -> None:
    known = catalog.entry("gpt4all-falcon")
    entry = catalog.entry("hub:nomic-ai/GPT4All-Falcon#v1")
    assert entry.card == known.card
    assert (entry.spec.source, entry.spec.revision) == ("hub:nomic-ai/gpt4all-falcon", "v1")
    assert entry.spec.chat_template == known.spec.chat_template
    assert entry.spec.id == "hub:nomic-ai/GPT4All-Falcon#v1"


def test_a_repackaged_file_is_not_what_the_hub_has(catalog: Catalog) -> None:
    assert catalog.entry("smollm2-135m-instruct").card.weights is not None
    assert catalog.entry("hub:HuggingFaceTB/SmolLM2-135M-Instruct").card.weights is None


def test_any_hub_model_resolves_without_network(catalog: Catalog) -> None:
    spec, variant = catalog.resolve("hub:someone/Some.Model-1b#refs/pr/3@onnx-int4")
    assert (spec.source, spec.revision, spec.name) == ("hub:someone/Some.Model-1b", "refs/pr/3", "Some.Model-1b")
    assert (spec.context_length, str(variant)) == (0, "hub:someone/Some.Model-1b#refs/pr/3@onnx-int4")


@pytest.mark.parametrize(
    "text",
    ["hub:name", "hub:a/b/c", "hub:a/../b", "hub:a/b#", "hub:a/b#../x", "hub:/b", "hub:a/b c", "hub:-a/b", "hub:a/b--c",
     "hub:a/b\n", "hub:ａ/b", f"hub:a/{'x' * 97}", "hub:a/b:", "hub:a/b:Q4/x", "hub:a/b:..", "hub:a/b#v1:Q4_K_M"],
)  # fmt: skip
def test_what_is_no_name_of_a_hub_repository_is_a_usage_error(catalog: Catalog, text: str) -> None:
    with pytest.raises(UsageError, match="is not hub:OWNER/NAME"):
        catalog.entry(text)


def test_gemma_carries_its_terms_and_policy_wherever_it_is_offered(catalog: Catalog) -> None:
    terms = catalog.entry("gemma-3-270m").terms
    assert terms is not None
    assert terms.url == "https://ai.google.dev/gemma/terms"
    assert terms.policy_url == "https://ai.google.dev/gemma/prohibited_use_policy"


def test_a_bare_model_means_its_default_variant_int8(catalog: Catalog) -> None:
    spec, variant = catalog.resolve(" smollm2-135m-instruct ")
    assert variant == Variant("smollm2-135m-instruct", "onnx", "int8")
    assert (spec.runtime, spec.precision) == ("onnx", "int8")


def test_a_name_may_be_written_with_the_hubs_capitals(catalog: Catalog) -> None:
    spec, variant = catalog.resolve("SmolLM2-135M-Instruct@onnx-int4")
    assert str(variant) == "smollm2-135m-instruct@onnx-int4"
    assert spec.id == "smollm2-135m-instruct"


def test_a_named_variant_is_kept(catalog: Catalog) -> None:
    assert str(catalog.resolve("gemma-3-270m@torch-fp32")[1]) == "gemma-3-270m@torch-fp32"


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Names that resemble each other, and enough others that not all are listed."""
    alike = ("smollm2-1.7b-instruct", "smollm2-135m-instruct", "smollm2-360m-instruct", "gemma-3-270m")
    others = (f"other-{n}" for n in range(20))
    return load_catalog(write(tmp_path_factory.mktemp("few"), *(entry(id=each) for each in (*alike, *others))))


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("smolm2-135m-instruct", "Did you mean smollm2-135m-instruct"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "Did you mean smollm2-135m-instruct"),
        ("gemma-3-270", "Did you mean gemma-3-270m"),
        ("smollm2", "Did you mean smollm2-1.7b-instruct, smollm2-135m-instruct or smollm2-360m-instruct?"),
        ("zzz", "models are known; `playground models`"),
        ("", "models are known"),
    ],
)
def test_an_unknown_model_gets_the_closest_names(few: Catalog, text: str, suggestion: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        few.resolve(text)
    assert suggestion in str(caught.value)


@pytest.mark.parametrize("tail", ["onnx-int5", "int4", "onnx", "onnx-int4-x", "ONNX-int4", ""])
def test_an_unknown_variant_gets_the_known_ones(catalog: Catalog, tail: str) -> None:
    with pytest.raises(UnknownVariant) as caught:
        catalog.resolve(f"gemma-3-270m@{tail}")
    assert "gemma-3-270m@onnx-int4" in str(caught.value)


def test_an_unknown_model_with_a_malformed_variant_is_an_unknown_model(catalog: Catalog) -> None:
    with pytest.raises(UnknownModel):
        catalog.resolve("nobody@int4")


@pytest.mark.parametrize("text", ["ftp:thing", "path:", "fake:"])
def test_a_source_that_cannot_be_read_is_a_usage_error(catalog: Catalog, text: str) -> None:
    with pytest.raises(UsageError):
        catalog.resolve(text)


def test_a_remote_model_is_known_by_the_name_the_configuration_gives_it() -> None:
    remote = Remote(name="big", model="my-model", url="http://127.0.0.1:8000/v1")
    known = load_catalog(SHIPPED, [remote])
    spec, variant = known.resolve("remote:big")
    assert (spec.remote, str(variant)) == (remote, "remote:big@remote-served")
    assert "remote:big" not in known.ids()
    with pytest.raises(UnknownModel, match="Did you mean remote:big"):
        known.resolve("remote:bug")


def test_a_missing_path_is_told_before_any_work(catalog: Catalog) -> None:
    with pytest.raises(UsageError, match=r"no file or folder '/nowhere/model\.gguf'"):
        catalog.resolve("path:/nowhere/model.gguf@onnx-int4")


def test_a_folder_of_ones_own_takes_length_and_kind_from_its_config(catalog: Catalog, tmp_path: Path) -> None:
    folder = tmp_path / "my@model"
    folder.mkdir()
    (folder / "config.json").write_text('{"max_position_embeddings": 77}')
    spec, variant = catalog.resolve(f"path:{folder}")
    assert (spec.context_length, spec.kind, str(variant)) == (77, "base", f"path:{folder}@onnx-int8")
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    assert catalog.resolve(f"path:{folder}@torch-fp32")[0].kind == "chat"


def test_a_scripted_model_is_chat_unless_its_script_says_otherwise(catalog: Catalog) -> None:
    assert catalog.resolve("fake:text=hi")[0].kind == "chat"
    assert catalog.resolve("fake:text=hi&template=0")[0].kind == "base"


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (entry(colour="red"), "catalog.yaml: tiny: unknown key 'colour'"),
        (entry(contextlength=3), "Did you mean context_length?"),
        ({key: value for key, value in entry().items() if key != "source"}, "tiny: the key 'source' is missing"),
        (entry(variants=["onnx-int7"]), "tiny: variants[0] is 'onnx-int7'. Did you mean onnx-int8?"),
        (entry(variants=[]), "tiny: variants must be a list of at least 1"),
        (entry(source="path:x", variants=["onnx-int8", "onnx-int8"]), "tiny: variants names one twice"),
        (entry(variants=["onnx-int8"]), "tiny: variants does not fit its source"),
        (entry(source="http:x"), "tiny: source is 'http:x'"),
        (entry(source="hub:x", variants=["onnx-int8"]), "tiny: source is 'hub:x'. Write hub:OWNER/NAME"),
        ({"id": "tiny", "source": "hub:o/n"}, "tiny: the keys 'name', 'kind', 'task' and 'variants' are missing"),
        (entry(prompt_format={"template": "x"}), "tiny: prompt_format: the key 'source' is missing"),
        (entry(onnx={"repo": "a/b", "files": []}), "tiny: onnx.files must be a list of at least 1"),
        (entry(context_length=0), "tiny: context_length must be a whole number above 0"),
        (entry(context_length=True), "tiny: context_length must be a whole number above 0"),
        (entry(kind="poem"), "tiny: kind is 'poem'"),
        (entry(id="Tiny One"), "Tiny One: id may have"),
        (entry(card={"license": {"id": "mit"}}), "tiny: card.license: the key 'name' is missing"),
        (entry(card={"gated": True}), "tiny: card.gated is True (quote it"),
        (entry(card={"openness": {"weights": {"status": "maybe"}}}), "tiny: card.openness.weights.status is 'maybe'"),
        (entry(card={"sources": ["javascript:alert(1)"]}), "tiny: card.sources[0] must be an http(s) address"),
        (
            entry(card={"quality": [{"benchmark": "B", "value": 1}]}),
            "tiny: card.quality[0]: the key 'source' is missing",
        ),
        (entry(terms={"text": "x", "url": "ai.google.dev"}), "tiny: terms.url must be an http(s) address"),
        ("text", "entry 1 must be a block of keys"),
    ],
)
def test_a_mistake_names_file_entry_and_field(tmp_path: Path, broken: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_catalog(write(tmp_path, broken))
    assert message in str(caught.value)


def test_the_repository_of_a_hub_source_is_its_upstream_unless_the_entry_names_another(tmp_path: Path) -> None:
    least = {key: value for key, value in entry().items() if key not in ("context_length", "revision")}
    hub = {**least, "source": "hub:Owner/Tiny", "variants": ["onnx-int8"]}
    other = {**hub, "id": "copy", "upstream": "Owner/Original"}
    known = load_catalog(write(tmp_path, hub, other, {**least, "id": "scripted"}))
    assert [each.spec.upstream for each in known] == ["Owner/Tiny", "Owner/Original", ""]
    assert known.entry("hub:owner/tiny").spec.name == "Tiny"


def test_a_scripted_entry_needs_no_revision_and_a_folder_does(tmp_path: Path) -> None:
    least = {key: value for key, value in entry().items() if key != "revision"}
    assert load_catalog(write(tmp_path, least)).ids() == ("tiny",)
    with pytest.raises(ConfigError, match="the key 'revision' is missing"):
        load_catalog(write(tmp_path, {**least, "source": "path:x", "variants": ["onnx-int8"]}))


def test_where_no_served_model_is_set_up_both_places_are_named(catalog: Catalog) -> None:
    with pytest.raises(UnknownModel, match=r"spaces\.yaml, or in PLAYGROUND_REMOTES"):
        catalog.entry("remote:big")


def test_two_entries_with_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tiny: id stands twice"):
        load_catalog(write(tmp_path, entry(), entry(name="Other")))


def test_a_key_written_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text("schema_version: 1\nschema_version: 2\nmodels: []\n")
    with pytest.raises(ConfigError, match=r"'schema_version' stands twice(.|\n)*line 2"):
        load_catalog(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not valid YAML"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"", "must be a block of keys"),
        (None, "can't be read"),
    ],
)
def test_an_unreadable_catalogue_is_a_config_error(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "catalog.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_catalog(path)


def test_a_catalogue_of_another_schema_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="schema_version is 9"):
        load_catalog(write(tmp_path, entry(), schema_version=9))


def test_a_quantisation_of_a_repository_is_a_model_of_its_own_in_any_spelling(catalog: Catalog) -> None:
    spec, variant = catalog.resolve("hub:someone/Some-GGUF:q4_k_m#refs/pr/3@onnx-int4")
    assert (spec.source, spec.revision, spec.upstream) == (
        "hub:someone/Some-GGUF:Q4_K_M",
        "refs/pr/3",
        "someone/Some-GGUF",
    )
    assert (spec.id, spec.name) == ("hub:someone/Some-GGUF:Q4_K_M#refs/pr/3", "Some-GGUF Q4_K_M")
    assert str(variant) == f"{spec.id}@onnx-int4"
    assert catalog.resolve(str(variant)) == (spec, variant)
    other = catalog.entry("hub:someone/Some-GGUF:UD-Q4_K_XL").spec
    assert len({spec.id, other.id, catalog.entry("hub:someone/Some-GGUF").spec.id}) == 3


def test_a_quantisation_of_a_known_repository_has_its_card_and_none_of_its_graphs(catalog: Catalog) -> None:
    plain = catalog.entry("hub:HuggingFaceTB/SmolLM2-135M-Instruct")
    tagged = catalog.entry("hub:huggingfacetb/SmolLM2-135M-Instruct:Q8_0")
    assert tagged.card == plain.card
    assert tagged.spec.source == "hub:HuggingFaceTB/SmolLM2-135M-Instruct:Q8_0"
    assert tagged.spec.name == f"{plain.spec.name} Q8_0"
    assert tagged.onnx is None


def test_an_entry_of_the_catalogue_may_be_a_quantisation(tmp_path: Path) -> None:
    hub = {"revision": "a" * 40, "variants": ["onnx-int8"], "source": "hub:Owner/Tiny-GGUF:q4_k_m"}
    spec = load_catalog(write(tmp_path, entry(**hub))).entry("tiny").spec
    assert (spec.source, spec.upstream) == ("hub:Owner/Tiny-GGUF:Q4_K_M", "Owner/Tiny-GGUF")
    assert spec.revision == "a" * 40
    hub["source"] += "#v1"
    with pytest.raises(ConfigError, match="a commit goes into revision"):
        load_catalog(write(tmp_path, entry(**hub)))
