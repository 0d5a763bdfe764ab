"""What a licence asks and a program can do is in the folder; the rest is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import yaml

from playground.catalog.entries import Terms
from playground.messages import msg
from playground.records import Fact, Fidelity
from playground.ship import papers
from playground.ship.example import example
from playground.ship.trying import Trial
from tests.ship.conftest import SPEC, MakeShipment

TRIAL = Trial((), True, True, "<t>What is the capital of Japan?<e>", (1,), (3, 4), 0.1, 0.1, 10.0, 90.0, "0.18.0", 2, 2)
GEMMA = Terms("Gemma is provided under its terms.", "https://ai.google.dev/gemma/terms", "https://policy.example")


def test_gemmas_restrictions_notice_and_terms_go_along(make: MakeShipment, tmp_path: Path) -> None:
    written = papers.write(tmp_path, make(licence="gemma", terms=GEMMA), TRIAL)
    notice, terms = (tmp_path / "NOTICE").read_text(), (tmp_path / "TERMS.md").read_text()
    assert papers.GEMMA_NOTICE in notice
    assert "were changed" in notice
    assert "section 3.2" in terms and GEMMA.url in terms and GEMMA.policy_url in terms
    left = " ".join(map(str, written.left_to_do))
    assert "copy of https://licence.example" in left
    assert "binding part" in left
    assert "binding part" in (tmp_path / "README.md").read_text()


def test_apaches_text_goes_along_and_nothing_is_left_to_do(make: MakeShipment, tmp_path: Path) -> None:
    written = papers.write(tmp_path, make(licence="apache-2.0"), TRIAL)
    assert (tmp_path / "LICENSE").read_text() == (Path(__file__).parents[2] / "LICENSE").read_text()
    assert not written.left_to_do
    assert not (tmp_path / "TERMS.md").exists()


def test_the_licence_that_came_with_the_weights_is_the_one_that_goes(make: MakeShipment, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("LICENSE", "NOTICE"):
        (source / name).write_text(f"the maker's {name}")
    stage = tmp_path / "stage"
    stage.mkdir()
    written = papers.write(stage, make(licence="gemma", legal=tuple(source.iterdir())), TRIAL)
    assert (stage / "LICENSE").read_text() == "the maker's LICENSE"
    assert (stage / "NOTICE").read_text() == "the maker's NOTICE"
    assert papers.GEMMA_NOTICE in (stage / "NOTICE.playground").read_text()
    assert "put a copy" not in " ".join(map(str, written.left_to_do))


def test_an_unknown_licence_is_said_to_be_one(make: MakeShipment, tmp_path: Path) -> None:
    shipment = make(licence="")
    shipment = replace(shipment, facts=replace(shipment.facts, license=Fact()))
    written = papers.write(tmp_path, shipment, TRIAL)
    assert "not known" in str(written.left_to_do[0])


def test_a_base_models_licence_is_not_lost(make: MakeShipment, tmp_path: Path) -> None:
    shipment = make(licence="apache-2.0")
    caution = Fact(msg("It descends from a Llama."), "rule", "https://llama.example")
    shipment = replace(shipment, facts=replace(shipment.facts, extra={"licence_caution": caution}))
    written = papers.write(tmp_path, shipment, TRIAL)
    assert "descends from a Llama" in (tmp_path / "TERMS.md").read_text()
    assert "descends from a Llama" in str(written.left_to_do[0])


def test_the_readme_tells_the_hub_and_a_reader_what_it_is(make: MakeShipment) -> None:
    shipment = make(licence="apache-2.0")
    fidelity = Fidelity(msg("the original"), 515, 0.944, 0.0062, 2.5, "faithful")
    kernels = replace(shipment.artifact, fidelity=fidelity, engine="kernels avx2")
    text = papers.readme(replace(shipment, artifact=kernels), replace(TRIAL, same_tokens=1), [msg("Do this.")])
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "apache-2.0" and front["base_model"] == "maker/tiny"
    assert "94.4%" in text and kernels.sha256 in text
    assert "own kernels" in text  # whose figures these are
    assert "first 1 tokens" in text
    assert "Do this." in text


def test_the_example_follows_what_the_trial_found() -> None:
    compile(example(SPEC, TRIAL), "example.py", "exec")
    assert "apply_chat_template" in example(SPEC, TRIAL)
    other = example(SPEC, replace(TRIAL, template_alike=False, reads_alike=False))
    compile(other, "example.py", "exec")
    assert '"<t>" + asked + "<e>"' in other and "add_special_tokens=False" in other
    base = example(replace(SPEC, kind="base"), replace(TRIAL, reads_alike=False))
    compile(base, "example.py", "exec")
    assert "add_special_tokens" not in base and "Tokenizer.from_file" in base
