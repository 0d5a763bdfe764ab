"""Results of evaluations beside a model on the Hub, asked over real HTTP of a small Hub on loopback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from playground.catalog.eval_results import CHARS, results_of
from playground.catalog.hub import MAX_RESULT, MAX_RESULTS, fetch_model_info
from playground.catalog.hub_cards import hub_facts, keep, remembered
from playground.cli import main
from tests.support.hub_server import Hub, tiny_llama

GPQA = b"""
- dataset:
    id: Idavidrein/gpqa
    task_id: gpqa_diamond
    revision: 5503434ddd753f426f4b38109466949a1217c2bb
  value: 63.3
  date: 2026-02-03
  source:
    url: https://example.org/logs
    name: Eval logs
    user: someone
- dataset: {id: Idavidrein/gpqa, task_id: gpqa_diamond}
  value: 71.5
  notes: With tools
  verifyToken: eyJhbGciOiJIUzI1NiJ9
"""
WHERE = {"repo": "someone/tiny", "revision": "c" * 40}


def test_results_are_facts_with_their_source(hub: Hub) -> None:
    repo = hub.add(
        "someone/tiny", tiny_llama() | {".eval_results/gpqa.yaml": GPQA, ".eval_results/more/x.yaml": b"- 1"}
    )
    facts = hub_facts(fetch_model_info("someone/tiny"))
    plain = facts.quality["Idavidrein/gpqa gpqa_diamond"]
    tools = facts.quality["Idavidrein/gpqa gpqa_diamond (With tools)"]
    assert (plain.value, tools.value) == (63.3, 71.5)
    assert (plain.status, plain.url) == ("card", "https://example.org/logs")
    assert plain.source == f".eval_results/gpqa.yaml at revision {repo.sha[:12]}; not measured by us"
    assert plain.note == "Idavidrein/gpqa gpqa_diamond, 2026-02-03, Eval logs"
    assert "not checked here" in tools.source
    assert tools.url == f"https://huggingface.co/someone/tiny/blob/{repo.sha}/.eval_results/gpqa.yaml"
    assert not hub.seen("GET", "more/x.yaml")


def test_they_are_remembered_without_network(hub: Hub, tmp_path: Path) -> None:
    hub.add("someone/tiny", tiny_llama() | {".eval_results/gpqa.yaml": GPQA})
    keep(fetch_model_info("someone/tiny"), tmp_path)
    kept = remembered("someone/tiny", tmp_path)
    assert kept is not None
    assert hub_facts(kept).quality["Idavidrein/gpqa gpqa_diamond"].value == 63.3


def test_the_command_shows_them(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add("someone/tiny", tiny_llama() | {".eval_results/gpqa.yaml": GPQA})
    monkeypatch.setenv("PLAYGROUND_HOME", str(tmp_path))
    assert main(["card", "hub:someone/tiny", "--online"]) == 0
    assert "63.3" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    [
        "- dataset: {id: a/b}\n  value: 1",
        "- dataset: {id: a/b, task_id: t}\n  value: yes",
        "- dataset: {id: a/b, task_id: t}\n  value: .nan",
        "- dataset: {id: a/b, task_id: t}\n  value: 1e300",
        "- dataset: {id: a/b, task_id: t}",
        "- dataset: a/b\n  value: 1",
        "- dataset: {id: [1], task_id: t}\n  value: 1",
        "- 5",
        "- [[]]",
        "just: a mapping",
        "",
    ],
)
def test_what_is_no_result_is_left_out_and_said(text: str) -> None:
    found, notes = results_of({".eval_results/a.yaml": text}, **WHERE)
    assert found == {}
    assert len(notes) == 1


@pytest.mark.parametrize("text", ["a: [", "- &a [*a]", "[" * 1000, "- !!python/object/apply:os.system [true]"])
def test_yaml_that_is_none_or_an_attack_is_not_read(text: str) -> None:
    good = "- dataset: {id: a/b, task_id: default}\n  value: 0.5"
    found, notes = results_of({".eval_results/a.yaml": text, ".eval_results/b.yaml": good}, **WHERE)
    assert {name: fact.value for name, fact in found.items()} == {"a/b": 0.5}
    assert [note.startswith("Its .eval_results/a.yaml is not read") for note in notes] == [True]


def test_strangers_words_are_short_and_on_one_line_and_their_links_are_web_addresses() -> None:
    text = json.dumps(
        [
            {
                "dataset": {"id": "a/b\n\n" + "x" * 500, "task_id": "t"},
                "value": 1,
                "source": {"url": "javascript:alert(1)", "name": "n\x00" + "y" * 500},
            }
        ]
    )
    (found,), _ = [list(part.values()) if isinstance(part, dict) else part for part in results_of({"f": text}, **WHERE)]
    assert len(found.note) < 4 * CHARS
    assert "\n" not in found.note
    assert found.url.startswith("https://huggingface.co/someone/tiny/")


def test_many_and_large_files_are_bounded(hub: Hub) -> None:
    one = b"- dataset: {id: a/b%d, task_id: t}\n  value: 1\n"
    many = {f".eval_results/{n:03}.yaml": one % n for n in range(MAX_RESULTS + 5)}
    hub.add("someone/tiny", tiny_llama() | many | {".eval_results/0.yaml": b"#" * (MAX_RESULT + 1)})
    info = fetch_model_info("someone/tiny")
    assert len(hub_facts(info).quality) == MAX_RESULTS - 1
    assert any("64,001 bytes and is not read" in note for note in info.notes)
    assert any(f"{MAX_RESULTS} of them are read" in note for note in info.notes)
