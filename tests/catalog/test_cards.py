"""Model cards: every fact says where it comes from, and what is unknown stays unknown."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from playground import paths
from playground.catalog.card_schema import Card, License
from playground.catalog.cards import MAIN, PAGE, PRIMARY, card_markdown, model_facts, openness_score
from playground.catalog.entries import CatalogEntry, load_catalog
from playground.records import UNKNOWN, Artifact, Fact, Fidelity, ModelFacts, ModelSpec, Variant

CATALOG = load_catalog(paths.CATALOG)
SMOLLM, GEMMA = CATALOG.entry("smollm2-135m-instruct"), CATALOG.entry("gemma-3-270m")


def card_of(**card: Any) -> CatalogEntry:
    spec = ModelSpec("x", "X", "path:x", "", "onnx", "int8", 64, "chat", ("onnx-int8",), upstream="owner/x")
    return CatalogEntry(spec=spec, card=Card.model_validate(card))


def all_facts(facts: ModelFacts) -> dict[str, Fact]:
    plain = {name: value for name, value in vars(facts).items() if isinstance(value, Fact)}
    return {**plain, **vars(facts.openness), **facts.quality, **facts.extra}


@pytest.mark.parametrize("entry", [each for each in CATALOG if each.card], ids=lambda entry: entry.spec.id)
def test_every_known_fact_of_the_catalogue_has_a_source_and_an_address(entry: CatalogEntry) -> None:
    known = {name: fact for name, fact in all_facts(model_facts(entry)).items() if fact.status != "unknown"}
    assert len(known) > 10
    for name, fact in known.items():
        assert fact.source, name
        assert re.match(r"https?://", fact.url), name
        assert fact.value not in (None, "", []), name


def test_how_a_fact_was_read_decides_its_status() -> None:
    facts = model_facts(SMOLLM)
    assert (facts.license.value, facts.license.status) == ("Apache License 2.0", "card")
    assert (facts.parameters.value, facts.parameters.status) == (134_515_008, "catalogue")
    assert "Second-hand" in facts.parameters.source


def test_a_value_nobody_read_is_unknown_even_if_it_is_written() -> None:
    entry = card_of(parameters=5, release="2020", sources=["https://a.example"], from_memory=["parameters"])
    facts = model_facts(entry)
    assert facts.parameters == UNKNOWN
    assert "release" not in facts.extra


def test_a_model_outside_the_catalogue_has_only_unknown_facts() -> None:
    facts = model_facts(card_of())
    assert {fact.status for fact in all_facts(facts).values()} == {"unknown"}
    assert openness_score(facts) == (0, 5)
    assert "unknown" in card_markdown(card_of())


def test_only_a_plain_yes_counts_as_open() -> None:
    assert openness_score(model_facts(SMOLLM)) == (3, 5)
    assert openness_score(model_facts(GEMMA)) == (0, 5)


def test_a_model_trained_from_scratch_is_told_apart_from_an_unknown_base() -> None:
    assert model_facts(GEMMA).base_model.value == "none: trained from scratch"
    assert (
        model_facts(card_of(base_model={"id": None, "relation": "finetune"}, verified=["base_model"])).base_model
        == UNKNOWN
    )


def test_the_impossible_mt_bench_figure_is_not_a_score() -> None:
    assert "MT-Bench" not in model_facts(SMOLLM).quality
    text = card_markdown(SMOLLM)
    assert "MT-Bench: not shown as a score" in text
    assert "19.8" not in text


def test_the_card_says_that_the_weights_run_are_a_repackaged_quantised_gguf() -> None:
    for entry, kind in ((SMOLLM, "Q4_1"), (GEMMA, "Q4_K_M")):
        fact = model_facts(entry).extra["weights"]
        assert kind in str(fact.value)
        assert fact.status == "catalogue"
        assert "third party" in fact.note
        assert "bfloat16" in card_markdown(entry)


def test_measured_facts_come_from_the_artifact_and_say_so() -> None:
    fidelity = Fidelity("torch-fp32", 512, 0.96, 0.0047, 1.5, "faithful", "Close enough.")
    artifact = Artifact(Variant("x", "onnx", "int8"), "/a", "fused", "r", "s", 123, fidelity=fidelity)
    extra = model_facts(SMOLLM, artifact).extra
    assert (extra["size_bytes"].value, extra["size_bytes"].status) == (123, "measured")
    assert extra["top1_agreement"].value == 0.96
    assert "faithful against torch-fp32, 512 positions" in extra["mean_kl"].note
    assert "mean_kl" not in model_facts(SMOLLM, replace(artifact, fidelity=None)).extra


def test_gemmas_card_links_its_terms_and_policy() -> None:
    text = card_markdown(GEMMA)
    assert "(https://ai.google.dev/gemma/terms)" in text
    assert "(https://ai.google.dev/gemma/prohibited_use_policy)" in text


def test_text_of_a_card_cannot_become_markup() -> None:
    hostile = "<script>x</script> [click](javascript:alert(1)) ![i](http://e) `a` | # h\n# heading"
    text = card_markdown(card_of(limitations=hostile, sources=["https://a.example"]))
    body = text.split("### Limitations")[1].split("###")[0]
    assert not re.search(r"(?<!\\)[<>\[\]`|#]", body)
    assert body.strip().count("\n") == 0


def test_links_lead_to_web_addresses_only() -> None:
    """Even if the schema let them pass."""
    licence = License.model_construct(id="l", name="L", url="javascript:alert(1)")
    entry = replace(card_of(), card=Card.model_construct(license=licence, sources=["data:text/html,x"]))
    assert "](" not in card_markdown(entry)
    assert "<" not in card_markdown(entry).replace("\\<", "")


def test_datasets_are_listed_by_stage() -> None:
    text = card_markdown(SMOLLM)
    assert "- Pretraining: FineWeb-Edu; DCLM; The Stack" in text
    assert "- DPO: HuggingFaceH4/ultrafeedback" in text


def test_a_fact_whose_own_address_was_not_noted_says_that_its_link_is_the_entrys_main_source() -> None:
    facts = model_facts(CATALOG.entry("smollm2-135m-instruct"))
    assert facts.languages.source.endswith(MAIN)
    assert facts.parameters.source.endswith(PAGE)  # read second-hand; the link is where to check it
    assert facts.license.source == PRIMARY  # the licence's own text is linked


def test_the_models_that_need_code_of_their_own_are_those_whose_type_transformers_does_not_know() -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    unknown = {e.spec.id for e in CATALOG if (e.card.model_type or "gpt2") not in CONFIG_MAPPING_NAMES}
    marked = {entry.spec.id: entry.card.own_code for entry in CATALOG if entry.card.own_code}
    assert set(marked) == unknown
    for model, code in marked.items():
        assert CATALOG.entry(code.instead).card.own_code is None
        assert model_facts(CATALOG.entry(model)).extra["own_code"].url == code.source


def test_what_is_served_elsewhere_has_no_size_on_this_disk() -> None:
    served = Artifact(Variant("remote:x", "remote", "unknown"), "", "none", "", "", 0, notes=("It was renamed.",))
    extra = model_facts(CATALOG.entry("gpt2"), served).extra
    assert (extra["size_bytes"].value, extra["size_bytes"].status) == (None, "unknown")
    assert extra["fetched"].value == "It was renamed."
