"""Facts put together: each with a source, contradictions shown, lineage drawn, licence conflicts told with care."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from playground import paths
from playground.catalog.card_schema import Card
from playground.catalog.entries import Catalog, CatalogEntry, load_catalog
from playground.catalog.facts import full_facts, merged
from playground.catalog.hub import HubInfo
from playground.catalog.hub_cards import hub_facts, keep, remembered
from playground.catalog.licenses import ADVICE, RULES, cautions, license_of
from playground.catalog.lineage import trace
from playground.cli import main
from playground.records import Fact, ModelFacts, ModelSpec

CATALOG = load_catalog(paths.CATALOG)
SHA = "0123456789abcdef0123456789abcdef01234567"


def without_source(document: dict[str, Any]) -> list[str]:
    """The facts of a ``card --json`` document that claim something and don't say where it was read."""
    plain = {key: value for key, value in document.items() if isinstance(value, dict) and "status" in value}
    grouped = {**document["openness"], **document["quality"], **document["extra"]}
    return [
        name
        for name, fact in {**plain, **grouped}.items()
        if fact["value"] not in (None, "unknown") and not (fact["source"] and re.match(r"https?://[^/]+", fact["url"]))
    ]


@pytest.mark.parametrize("model", CATALOG.ids())
def test_every_fact_of_every_entry_has_a_source(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("PLAYGROUND_HOME", str(tmp_path))
    assert main(["card", model, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["license"]["value"] or not CATALOG.entry(model).card
    assert without_source(document) == []


def test_the_check_above_finds_a_planted_fact_without_a_source() -> None:
    facts = full_facts(CATALOG, CATALOG.entry("olmo-2-1b")).to_json()
    assert without_source(facts) == []
    facts["extra"]["planted"] = Fact(5, "hearsay", "", "catalogue").to_json()
    facts["parameters"] = Fact(7, "", "https://a.example", "card").to_json()
    assert sorted(without_source(facts)) == ["parameters", "planted"]


@pytest.mark.parametrize("entry", list(CATALOG), ids=lambda entry: entry.spec.id)
def test_nothing_recalled_or_guessed_is_in_the_catalogue(entry: CatalogEntry) -> None:
    written = entry.card.model_dump(exclude_unset=True)
    assert not {"from_memory", "unverified"} & written.keys()
    assert not re.search(r"from memory|unverified", json.dumps(written), re.IGNORECASE)
    read = {*entry.card.verified, *entry.card.verified_via_secondary}
    assert all(key.partition(".")[0] in written for key in read), read


# -- catalogue and card ------------------------------------------------------------------------------------------


def info_of(card: str, **more: Any) -> HubInfo:
    return HubInfo("someone/tiny", SHA, card=card, **more)


CARD = """---
license: mit
language: [en, ja]
datasets: [a/data]
base_model: mistralai/Mistral-7B-Instruct-v0.1
base_model_relation: finetune
tags: [text-generation]
model-index:
- name: tiny
  results:
  - task: {type: text-generation}
    dataset: {type: mmlu, name: MMLU}
    metrics: [{type: acc, value: 0.31, name: accuracy}]
---
# Tiny
"""


def test_a_card_becomes_facts_at_its_exact_revision() -> None:
    facts = hub_facts(info_of(CARD, parameters=7, context_length=64, architecture="LlamaForCausalLM"))
    assert (facts.license.value, facts.languages.value, facts.datasets.value) == ("mit", ["en", "ja"], ["a/data"])
    assert (facts.base_model.value, facts.base_model_relation.value) == (
        "mistralai/Mistral-7B-Instruct-v0.1",
        "finetune",
    )
    assert facts.license.url == f"https://huggingface.co/someone/tiny/blob/{SHA}/README.md"
    assert facts.context_length.url.endswith(f"/blob/{SHA}/config.json")
    assert facts.parameters.value == 7
    assert facts.quality["MMLU accuracy"].value == 0.31
    assert without_source(facts.to_json()) == []


@pytest.mark.parametrize(
    "block",
    [
        "license: {a: 1}\nlanguage: 5\ndatasets: [{x: y}, 7, null]\nbase_model: [[a/b]]\ntags: {a: b}",
        "model-index: 5",
        "model-index: [{name: x, results: [{}]}]",
        "model-index: [{name: x, results: [{task: 5, dataset: [], metrics: {}}]}]",
        "ignore_metadata_errors: false\nself: x\nlicense: mit",
        "eval_results: [1]\nlicense: []",
        "license: " + "x" * 1000,
        "language: [" + "en," * 5000 + "]",
        "base_model_relation: [finetune]\nbase_model: a/b",
    ],
)
def test_a_card_with_values_of_the_wrong_type_loses_only_those(block: str) -> None:
    facts = hub_facts(info_of(f"---\n{block}\n---\nx"))
    assert without_source(facts.to_json()) == []
    assert len(json.dumps(facts.to_json())) < 60_000


def test_a_card_that_is_a_bomb_is_not_read_and_says_so() -> None:
    facts = hub_facts(info_of("---\na: &a [x]\nb: *a\nlicense: mit\n---\n"))
    assert facts.license.value is None
    assert "aliases" in str(facts.extra["card_note"].value)


def test_a_licence_of_its_own_is_called_by_its_name_and_linked_safely() -> None:
    card = "---\nlicense: other\nlicense_name: my-licence\nlicense_link: {link}\n---\n"
    facts = hub_facts(info_of(card.replace("{link}", "LICENSE")))
    assert (facts.license.value, facts.license.url[-7:]) == ("my-licence", "LICENSE")
    assert hub_facts(info_of(card.replace("{link}", "javascript:alert(1)"))).license.url.endswith("README.md")


def test_where_card_and_catalogue_disagree_both_are_shown() -> None:
    known = ModelFacts("x", license=Fact("Apache License 2.0", "s", "https://a.example", "card"))
    card = ModelFacts("x", license=Fact("mit", "Model card", "https://b.example", "card"))
    fact = merged(known, card).license
    assert fact.value == "mit"
    assert "The catalogue has: Apache License 2.0 (https://a.example)" in fact.note


@pytest.mark.parametrize(("one", "other"), [(["en", "ja"], ["ja", "EN"]), ("Apache License 2.0", "apache-2.0"), (5, 5)])
def test_saying_the_same_in_other_words_is_no_contradiction(one: Any, other: Any) -> None:
    known = ModelFacts("x", license=Fact(one, "s", "https://a.example", "catalogue"))
    fact = merged(known, ModelFacts("x", license=Fact(other, "Model card", "https://b.example", "card"))).license
    assert (fact.value, fact.url, fact.note) == (one, "https://b.example", "")


def test_what_only_one_side_knows_is_kept() -> None:
    known = ModelFacts("x", parameters=Fact(5, "s", "https://a.example", "card"))
    card = ModelFacts("x", context_length=Fact(64, "s", "https://b.example", "card"))
    both = merged(known, card)
    assert (both.parameters.value, both.context_length.value) == (5, 64)


def test_what_was_read_of_the_hub_is_there_again_without_network(tmp_path: Any) -> None:
    info = info_of(CARD, shape={"layers": 2}, onnx_files=("onnx/model.onnx",))
    keep(info, tmp_path)
    assert remembered("Someone/Tiny", tmp_path) == info
    assert remembered("someone/other", tmp_path) is None
    (tmp_path / "hub-cards" / "someone--tiny.json").write_text("[1]")
    assert remembered("someone/tiny", tmp_path) is None


# -- lineage -----------------------------------------------------------------------------------------------------


def chain(*pairs: tuple[str, str]) -> Catalog:
    return Catalog(
        tuple(
            CatalogEntry(
                ModelSpec(repo.replace("/", "-"), repo, f"hub:{repo}", "", "onnx", "int8", 0, "chat", upstream=repo),
                Card.model_validate(
                    {
                        "base_model": {"id": base, "relation": "finetune"},
                        "verified": ["base_model"],
                        "sources": ["https://a.example"],
                    }
                ),
            )
            for repo, base in pairs
        )
    )


def path(catalog: Catalog, model: str, read_hub: Any = None) -> str:
    entry = catalog.entry(model)
    return trace(catalog, entry, full_facts(catalog, entry), read_hub).path


def test_biomistral_comes_from_mistral_instruct() -> None:
    assert path(CATALOG, "biomistral-7b") == "BioMistral-7B ← Mistral-7B-Instruct-v0.1 ← Mistral-7B-v0.1"
    fact = full_facts(CATALOG, CATALOG.entry("biomistral-7b")).extra["lineage"]
    assert "finetune from mistralai/Mistral-7B-v0.1" in fact.note


def test_a_chain_that_bites_its_tail_ends() -> None:
    catalog = chain(("a/x", "a/y"), ("a/y", "A/X"))
    assert path(catalog, "a-x") == "x ← y ← …"
    assert path(chain(("a/x", "a/x")), "a-x") == "x ← …"


def test_a_chain_without_end_is_cut() -> None:
    catalog = chain(*((f"a/m{n}", f"a/m{n + 1}") for n in range(100)))
    assert path(catalog, "a-m0").count("←") < 20


def test_the_hub_is_asked_for_a_base_the_catalogue_does_not_know() -> None:
    seen = []

    def read(repo: str) -> ModelFacts | None:
        seen.append(repo)
        base = Fact("a/root", "Model card", "https://b.example", "card")
        return ModelFacts(repo, base_model=base) if repo == "a/y" else None

    assert path(chain(("a/x", "a/y")), "a-x", read) == "x ← y ← root"
    assert seen == ["a/y", "a/root"]


def test_a_base_that_is_no_repository_is_no_step() -> None:
    assert path(CATALOG, "gemma-3-270m") == "gemma-3-270m"
    assert "lineage" not in full_facts(CATALOG, CATALOG.entry("gemma-3-270m")).extra


# -- licences ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "base", "words"),
    [
        ("apache-2.0", ("meta-llama/Llama-2-7b-hf", ""), "The card says apache-2.0, but it descends from meta-llama"),
        ("mit", ("a/b", "gemma"), "Gemma Terms of Use"),
        ("apache-2.0", ("facebook/opt-1.3b", "other"), "non-commercial research use only"),
        ("llama2", ("a/b", "cc-by-nc-4.0"), "no use for commercial advantage"),
        ("", ("a/b", "llama3.2"), "No licence is stated; it descends from a/b"),
    ],
)
def test_a_licence_that_does_not_go_with_the_base_is_told(stated: str, base: tuple[str, str], words: str) -> None:
    (fact,) = cautions(stated, [base])
    assert words in fact.value
    assert fact.url.startswith("https://")
    assert fact.note == ADVICE


@pytest.mark.parametrize(
    ("stated", "base"),
    [
        ("llama2", ("meta-llama/Llama-2-7b-hf", "")),
        ("apache-2.0", ("mistralai/Mistral-7B-v0.1", "apache-2.0")),
        ("apache-2.0", ("tiiuae/falcon-7b", "")),
        ("gemma", ("google/gemma-3-270m", "gemma")),
    ],
)
def test_licences_that_go_together_raise_nothing(stated: str, base: tuple[str, str]) -> None:
    assert cautions(stated, [base]) == []


def test_a_base_far_back_counts_and_is_told_once() -> None:
    found = cautions("apache-2.0", [("a/b", "apache-2.0"), ("c/d", "llama2"), ("meta-llama/Llama-2-7b-hf", "")])
    assert len(found) == 1
    assert "c/d" in str(found[0].value)


def test_non_commercial_data_is_told_unless_the_licence_says_so_itself() -> None:
    assert "tatsu-lab/alpaca" in str(cautions("apache-2.0", [], ["tatsu-lab/alpaca (52k)"])[0].value)
    assert cautions("cc-by-nc-4.0", [], ["tatsu-lab/alpaca"]) == []
    assert cautions("apache-2.0", [], ["someone/alpaca"]) == []


def test_a_model_from_the_hub_with_a_doubtful_licence_gets_its_caution() -> None:
    card = "---\nlicense: apache-2.0\nbase_model: meta-llama/Llama-2-7b-hf\n---\n"
    facts = full_facts(CATALOG, CATALOG.entry("hub:someone/tiny"), None, hub_facts(info_of(card)))
    assert "Llama 2 Community License" in str(facts.extra["licence_caution"].value)


def test_the_table_knows_a_source_for_each_rule() -> None:
    assert all(rule.source.startswith("https://") for rule in RULES)
    assert license_of("meta-llama/Llama-2-70b-hf") == "llama2"
    assert license_of("google/gemma-4-e2b", "apache-2.0") == "apache-2.0"
