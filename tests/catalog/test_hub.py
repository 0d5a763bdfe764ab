"""What is known of a repository before anything is downloaded, asked over real HTTP of a small Hub on loopback."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from playground import paths
from playground.catalog.entries import load_catalog
from playground.catalog.facts import full_facts
from playground.catalog.hub import MAX_CARD, MAX_CONFIG, HubInfo, fetch_model_info
from playground.catalog.hub_cards import card_html, hub_facts, read, remembered, rest_url
from playground.catalog.hub_names import HubName, parse
from playground.cli import main
from playground.errors import PlaygroundError, SourceError, UsageError
from tests.support.hub_server import READER, STRANGER, Hub, tiny_llama

CARD = (
    "---\nlicense: mit\nlanguage: en\nbase_model: mistralai/Mistral-7B-v0.1\n---\n# Tiny\n<script>alert(1)</script>\n"
)
TOTAL = {"parameters": {"F32": 1234}, "total": 1234}


def files(**changes: bytes | None) -> dict[str, bytes]:
    """A tiny repository with some files changed; None takes one away. ``config`` is laid over config.json."""
    made = tiny_llama(card=CARD)
    return {name: content for name, content in {**made, **changes}.items() if content is not None}


def with_config(**values: Any) -> dict[str, bytes]:
    made = files()
    return {**made, "config.json": json.dumps({**json.loads(made["config.json"]), **values}).encode()}


def test_size_licence_architecture_and_the_way_are_known(hub: Hub) -> None:
    repo = hub.add("someone/tiny", files(), info={"safetensors": TOTAL, "cardData": {"license": "mit"}})
    info = fetch_model_info("someone/tiny")
    assert (info.revision, info.parameters, info.license, info.gated) == (repo.sha, 1234, "mit", "")
    assert (info.architecture, info.model_type) == ("LlamaForCausalLM", "llama")
    assert info.download_bytes == len(files()["model.safetensors"])
    assert info.shape["layers"] == 2
    assert "Exported to ONNX here" in info.way
    assert info.refusal == ""
    assert info.footprint() is not None


def test_no_weights_are_fetched(hub: Hub) -> None:
    hub.add("someone/tiny", files())
    fetch_model_info("someone/tiny")
    assert hub.seen("GET", "README.md")
    assert not hub.seen("GET", "safetensors")
    assert not hub.seen("GET", "tokenizer")


def test_a_revision_is_resolved_to_its_commit(hub: Hub) -> None:
    repo = hub.add("someone/tiny", files())
    first = repo.sha
    repo.refs["v1"] = first
    repo.commit(with_config(max_position_embeddings=77))
    assert fetch_model_info("someone/tiny", "v1").revision == first
    assert fetch_model_info("someone/tiny").context_length == 77
    with pytest.raises(SourceError, match="no revision 'v9'"):
        fetch_model_info("someone/tiny", "v9")


def test_a_gated_model_names_the_page_and_the_token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("someone/locked", files(), gated="manual")
    monkeypatch.setenv("HF_TOKEN", STRANGER)
    info = fetch_model_info("someone/locked")
    assert info.gated == "manual"
    assert any("is gated" in note for note in info.notes)
    assert info.card == ""
    monkeypatch.setenv("HF_TOKEN", READER)
    assert "Tiny" in fetch_model_info("someone/locked").card


def test_a_missing_and_a_private_repository_look_the_same(hub: Hub) -> None:
    hub.add("someone/secret", files(), private=True)
    for name in ("someone/nothing", "someone/secret"):
        with pytest.raises(SourceError, match=r"no repository hub:.*or it is private.*HF_TOKEN"):
            fetch_model_info(name)


def test_a_renamed_repository_is_found_under_its_new_name(hub: Hub) -> None:
    hub.add("someone/new", files())
    hub.rename("someone/old", "someone/new")
    assert fetch_model_info("someone/old").repo == "someone/new"


def test_no_network_says_so(hub: Hub) -> None:
    hub.add("someone/tiny", files())
    hub.close()
    with pytest.raises(SourceError, match=r"can't be reached.*Check the network"):
        fetch_model_info("someone/tiny")


@pytest.mark.fault
def test_a_broken_hub_is_told_with_its_status(hub: Hub) -> None:
    hub.add("someone/tiny", files())
    hub.fail(r"/api/models/", status=500)
    with pytest.raises(SourceError, match="500"):
        fetch_model_info("someone/tiny")


def weightless(**more: bytes) -> dict[str, bytes]:
    return {name: content for name, content in files(**more).items() if not name.endswith(".safetensors")}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (weightless(**{"pytorch_model.bin": b"x"}), "pickle"),
        (weightless(), "no weights in a format"),
        (with_config(model_type="own_thing", auto_map={"AutoModel": "modeling.Own"}), "Code from the Hub is never run"),
        (files(**{"config.json": None}), "no config.json"),
        (files(**{"config.json": b"[1]"}), "no config.json that can be read"),
        (files(**{"config.json": b"{"}), "no config.json that can be read"),
    ],
)
def test_what_does_not_run_here_is_refused_with_the_reason(hub: Hub, content: dict[str, bytes], reason: str) -> None:
    hub.add("someone/tiny", content)
    info = fetch_model_info("someone/tiny")
    assert reason in info.refusal
    assert info.footprint() is None


def test_code_beside_a_class_transformers_has_is_left_alone(hub: Hub) -> None:
    hub.add("someone/tiny", with_config(auto_map={"AutoModel": "modeling.Own"}))
    info = fetch_model_info("someone/tiny")
    assert info.refusal == ""
    assert any("never run" in note for note in info.notes)


def test_ready_made_graphs_and_gguf_files_are_seen(hub: Hub) -> None:
    hub.add("someone/onnx", files(**{"onnx/model_int8.onnx": b"x" * 9}))
    assert fetch_model_info("someone/onnx").onnx_files == ("onnx/model_int8.onnx",)
    hub.add("someone/gguf", weightless(**{"m.Q4.gguf": b"x" * 7, "config.json": b"{}"}))
    info = fetch_model_info("someone/gguf")
    assert (info.refusal, info.download_bytes) == ("", 7)
    assert "GGUF" in info.way


def test_lies_in_a_config_do_not_get_through(hub: Hub) -> None:
    lies = {"num_hidden_layers": -5, "hidden_size": "big", "vocab_size": 10**30, "max_position_embeddings": True}
    hub.add("someone/tiny", with_config(**lies, architectures=[["x"] * 3], model_type={"a": 1}))
    info = fetch_model_info("someone/tiny")
    assert (info.context_length, info.model_type) == (0, "")
    assert not {"layers", "hidden_size", "vocab_size"} & info.shape.keys()
    assert len(info.architecture) <= 100


def test_a_huge_config_or_card_is_not_fetched(hub: Hub) -> None:
    hub.add("someone/tiny", files(**{"README.md": b"x" * (MAX_CARD + 1), "config.json": b" " * (MAX_CONFIG + 1)}))
    info = fetch_model_info("someone/tiny")
    assert info.card == ""
    assert sum("is not read" in note for note in info.notes) == 2
    assert not hub.seen("GET", "README.md")


def test_the_card_is_part_of_the_facts_and_harmless_to_read(hub: Hub, tmp_path: Path) -> None:
    hub.add("someone/tiny", files(), info={"safetensors": TOTAL})
    info = read("someone/tiny", "", tmp_path, online=True)
    assert info is not None
    catalog = load_catalog(paths.CATALOG)
    facts = full_facts(catalog, catalog.entry("hub:someone/tiny"), None, hub_facts(info))
    assert (facts.license.value, facts.parameters.value) == ("mit", 1234)
    assert info.revision in facts.license.url
    assert facts.extra["lineage"].value == "tiny ← Mistral-7B-v0.1"
    assert "<script" not in card_html(info)


def test_what_was_read_once_is_there_without_network(hub: Hub, tmp_path: Path) -> None:
    hub.add("someone/tiny", files())
    first = read("someone/tiny", "", tmp_path, online=True)
    hub.close()
    assert read("someone/tiny", "", tmp_path, online=False) == first


def test_the_command_shows_a_card_from_the_hub(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLAYGROUND_HOME", str(tmp_path / "home"))
    hub.add("someone/tiny", files(), info={"safetensors": TOTAL})
    assert main(["card", "hub:someone/tiny", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["license"]["value"] == "mit"
    assert document["hub"]["refusal"] == ""
    assert document["hub"]["expected_memory"]["run_mb"] > 0
    hub.fail(r"/api/models/", status=503)
    assert main(["card", "hub:someone/tiny"]) == 0
    printed = capsys.readouterr()
    assert "the Hub answered 503" in printed.err
    assert "Nothing has been researched" not in printed.out
    assert "On the Hub: https://huggingface.co/someone/tiny" in printed.out


@pytest.mark.parametrize("repo", ["", "name", "a/b/c", "../x", "a/b#c", "a /b"])
def test_what_is_no_name_is_not_asked_for(repo: str) -> None:
    with pytest.raises(UsageError):
        fetch_model_info(repo)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hub:a/b", HubName("a/b")),
        (" a/b#v1 ", HubName("a/b", revision="v1")),
        ("https://huggingface.co/a/b/", HubName("a/b")),
        ("https://huggingface.co/a/b?library=transformers", HubName("a/b")),
        ("https://huggingface.co/a/b/tree/main/onnx", HubName("a/b", revision="main")),
        ("https://huggingface.co/a/b/blob/abc/README.md", HubName("a/b", revision="abc")),
        ("hub:a/b:q4_k_m", HubName("a/b", "Q4_K_M")),
        ("hf.co/a/b:UD-Q4_K_XL", HubName("a/b", "UD-Q4_K_XL")),
        ("a/b:Q4_K_M#v1", HubName("a/b", "Q4_K_M", "v1")),
        ("https://huggingface.co/a/b/blob/main/Q8/m-Q8_0-00002-of-00002.gguf", HubName("a/b", "M-Q8_0", "main")),
        ("https://huggingface.co/a/b/resolve/main/my%20model-Q4_K_M.gguf", HubName("a/b", "Q4_K_M", "main")),
        ("https://huggingface.co/a/b/blob/main/a-plain-name.GGUF", HubName("a/b", "A-PLAIN-NAME", "main")),
        ("https://huggingface.co/a/b/blob/main/my%20model.gguf", None),
        ("https://huggingface.co/a/b/blob/main/-.gguf", None),
        ("a/b:", None),
        ("a/b#", None),
        ("a/b:../x", None),
        ("a/b:x/y", None),
        ("a/b#v1:Q4_K_M", None),
    ],
)
def test_a_repository_can_be_named_in_several_ways(text: str, expected: HubName | None) -> None:
    assert parse(text) == expected


def test_an_info_survives_being_kept() -> None:
    info = HubInfo("a/b", "c", shape={"layers": 2}, notes=("x",))
    assert HubInfo.from_json(json.loads(json.dumps(info.to_json()))) == info
    assert isinstance(SourceError("x"), PlaygroundError)


def test_only_a_card_that_is_cut_names_where_its_rest_is(hub: Hub) -> None:
    hub.add("someone/tiny", files(**{"README.md": b"word " * 100_000}))
    long = fetch_model_info("someone/tiny")
    assert rest_url(long) == f"https://huggingface.co/someone/tiny/tree/{long.revision}/"
    assert rest_url(replace(long, card="short")) == ""


# One of several GGUF files

SEVERAL = {
    "m-Q4_K_M.gguf": b"x" * 2_400_000,
    "m-UD-Q4_K_M.gguf": b"x" * 2_500_000,
    "m-Q8_0-00001-of-00002.gguf": b"x" * 3_000_000,
    "m-Q8_0-00002-of-00002.gguf": b"x" * 1_000_000,
    "mmproj-F16.gguf": b"x",
    "imatrix.gguf": b"x",
    "README.md": CARD.encode(),
}
LISTED = "Q4_K_M (2.4 MB), Q8_0 (4.0 MB), UD-Q4_K_M (2.5 MB)"


def test_several_quantisations_are_listed_with_sizes_and_a_name_to_use(hub: Hub) -> None:
    hub.add("someone/m-GGUF", SEVERAL)
    info = fetch_model_info("someone/m-GGUF")
    assert f"3 GGUF files and no safetensors: {LISTED}" in info.refusal
    assert info.refusal.endswith("for example hub:someone/m-GGUF:Q4_K_M")
    assert (info.download_bytes, info.footprint()) == (0, None)


def test_what_is_told_is_that_of_the_quantisation_that_was_named(hub: Hub) -> None:
    gguf = {"total": 4_000_000, "architecture": "llama", "context_length": 4096}
    hub.add("someone/m-GGUF", SEVERAL, info={"gguf": gguf})
    four, eight = (fetch_model_info("someone/m-GGUF", tag=tag) for tag in ("q4_k_m", "Q8_0"))
    assert (four.tag, four.download_bytes, four.refusal) == ("Q4_K_M", 2_400_000, "")
    assert (eight.tag, eight.download_bytes) == ("Q8_0", 4_000_000)
    assert (four.parameters, four.architecture, four.context_length) == (4_000_000, "llama", 4096)
    assert "GGUF" in four.way
    assert str(four.name) == f"hub:someone/m-GGUF:Q4_K_M#{four.revision}"
    assert hub_facts(four).parameters.source.startswith("The Hub's own data")


def test_without_a_number_of_parameters_they_are_counted_by_the_bits_of_the_quantisation(hub: Hub) -> None:
    hub.add("someone/m-GGUF", SEVERAL)
    four, eight = (fetch_model_info("someone/m-GGUF", tag=tag).footprint() for tag in ("Q4_K_M", "Q8_0"))
    assert four is not None
    assert eight is not None
    # Both hold about four million weights, which int8 makes files of the same size of.
    assert four.weights_mb == pytest.approx(eight.weights_mb, rel=0.1)
    assert 3 < four.weights_mb < 6


@pytest.mark.parametrize(
    ("tag", "content", "words"),
    [
        ("Q5_K_M", SEVERAL, f"it has no GGUF file Q5_K_M, but {LISTED}"),
        ("F16", SEVERAL, "it has no GGUF file F16"),  # that is the projector's
        ("Q4", SEVERAL, "it has no GGUF file Q4,"),
        ("M", SEVERAL, f"M fits several GGUF files, {LISTED}"),
        ("Q4_K_M", files(), "it has no GGUF file of a language model, so there is no Q4_K_M of it"),
        ("F16", {"mmproj-F16.gguf": b"x"}, "it has no GGUF file of a language model"),
        ("Q8_0", {"m-Q8_0-00002-of-00002.gguf": b"x"}, "m-Q8_0-00001-of-00002.gguf is missing"),
    ],
)
def test_a_quantisation_that_is_not_there_is_told_with_what_there_is(
    hub: Hub, tag: str, content: dict[str, bytes], words: str
) -> None:
    hub.add("someone/m", content)
    info = fetch_model_info("someone/m", tag=tag)
    assert words in info.refusal
    assert info.footprint() is None


def test_beside_safetensors_and_graphs_the_gguf_is_told_of_where_it_was_named(hub: Hub) -> None:
    hub.add("someone/both", files(**{"m-Q4_K_M.gguf": b"x" * 7, "onnx/model_int8.onnx": b"x" * 9}))
    named, plain = fetch_model_info("someone/both", tag="Q4_K_M"), fetch_model_info("someone/both")
    assert (named.download_bytes, named.onnx_files, named.refusal) == (7, (), "")
    assert "Imported from GGUF" in named.way
    assert plain.download_bytes == len(files()["model.safetensors"])
    assert plain.onnx_files == ("onnx/model_int8.onnx",)


def test_quantisations_of_one_repository_are_remembered_apart(hub: Hub, tmp_path: Path) -> None:
    hub.add("someone/m-GGUF", SEVERAL)
    told = {tag: read("someone/m-GGUF", "", tmp_path, online=True, tag=tag) for tag in ("", "Q4_K_M", "Q8_0")}
    assert {tag: remembered("Someone/m-GGUF", tmp_path, tag) for tag in told} == told
    assert all(":" not in path.name for path in tmp_path.rglob("*"))


def test_the_command_shows_the_card_of_a_quantisation(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLAYGROUND_HOME", str(tmp_path / "home"))
    hub.add("someone/m-GGUF", SEVERAL)
    assert main(["card", "hub:someone/m-GGUF:q8_0", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)["hub"]
    assert (document["tag"], document["download_bytes"], document["refusal"]) == ("Q8_0", 4_000_000, "")
