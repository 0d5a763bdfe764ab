"""Errors cross process borders as they were raised: class, both messages, and the templates they are made of."""

from __future__ import annotations

import gettext
import json

import pytest

from playground import errors
from playground.catalog.entries import load_catalog
from playground.errors import PlaygroundError, RunError, SourceError, UnknownModel, UnknownVariant
from playground.messages import Translatable, clauses, msg, render
from playground.paths import PACKAGE

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PlaygroundError)]
MADE = {
    UnknownModel: UnknownModel("smol", ("smollm2-135m", "gemma")),
    UnknownVariant: UnknownVariant("m@onnx-int3", ("m@onnx-int8",)),
}
"""Of those that are made of other things than their messages."""


def sent(error: PlaygroundError, unknown: type[PlaygroundError] | None = None) -> PlaygroundError:
    return PlaygroundError.from_json(json.loads(json.dumps(error.to_json())), unknown)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_survives_the_way_to_another_process(kind: type[PlaygroundError]) -> None:
    error = MADE.get(kind) or kind(msg("{model} broke", model="Tiny"), msg("Mend {file}.", file="a\nb"))
    arrived = sent(error)
    assert type(arrived) is kind
    assert (str(arrived), arrived.what, arrived.next_step) == (str(error), error.what, error.next_step)
    assert (arrived.what.template, arrived.what.values) == (error.what.template, error.what.values)
    assert arrived.args == error.args


def test_an_unknown_model_is_named_once_wherever_it_was_noticed() -> None:
    assert str(sent(sent(UnknownModel("smol", ["a", "b"])))) == "Unknown model 'smol'. Known models: a, b."


CATALOGUE = load_catalog(PACKAGE / "catalog" / "catalog.yaml").ids()


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("smolm2-135m", "smollm2-135m-instruct"),  # a letter left out, the tail left out
        ("smollm2-135m", "smollm2-135m-instruct"),
        ("smollm-135m", "smollm2-135m-instruct"),
        ("smolllm2-360m-instruct", "smollm2-360m-instruct"),  # a letter too many
        ("SMOLLM2-360M", "smollm2-360m-instruct"),
        ("SmolLM2 1.7B", "smollm2-1.7b-instruct"),
        ("smollm2_135m", "smollm2-135m-instruct"),
        ("smollm2135m", "smollm2-135m-instruct"),
        ("135m-smollm2", "smollm2-135m-instruct"),  # words in another order
        ("instruct-smollm2-360m", "smollm2-360m-instruct"),
        ("semma-3-270m-it", "gemma-3-270m-it"),
        ("gema-3-270m", "gemma-3-270m"),
        ("gemma-270m", "gemma-3-270m"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2-135m-instruct"),
        ("Qwen/Qwen3-0.6B", "qwen3-0.6b"),
        ("qwen-0.6b", "qwen3-0.6b"),
        ("qwen3-06b", "qwen3-0.6b"),
        ("lama-3.2-1b", "llama-3.2-1b-instruct"),
        ("llama3.2-1b", "llama-3.2-1b-instruct"),
        ("phi4", "phi-4-mini-instruct"),
        ("granit-4.0-350m", "granite-4.0-350m"),
        ("lfm-350m", "lfm2-350m"),
        ("gpt-2", "gpt2"),
        ("pythia", "pythia-160m"),
        ("t5-small", "flan-t5-small"),
        ("llmjp", "llm-jp-3-150m-instruct3"),
        ("sarashina", "sarashina2.2-0.5b-instruct"),
        ("135m", "smollm2-135m-instruct"),
    ],
)
def test_a_mistyped_name_is_answered_with_the_model_that_was_meant_first(typed: str, meant: str) -> None:
    assert UnknownModel(typed, CATALOGUE).close[0] == meant


@pytest.mark.parametrize(("family", "members"), [("gemma", "gemma-"), ("smol", "smollm"), ("mistrl-7b", "mistral")])
def test_a_family_is_answered_with_its_members(family: str, members: str) -> None:
    close = UnknownModel(family, CATALOGUE).close
    assert len(close) == 3
    assert all(members in each for each in close)


@pytest.mark.parametrize("name", ["claude", "deepseek-r1", "xyz", "nonsense", "", "@", "日本語", "-" * 50])
def test_what_is_like_no_name_is_not_guessed_at(name: str) -> None:
    error = UnknownModel(name, CATALOGUE)
    assert error.close == []
    assert "Did you mean" not in error.next_step


def test_only_the_one_that_was_clearly_meant_is_named() -> None:
    assert UnknownModel("smolm2-135m", CATALOGUE).next_step == "Did you mean smollm2-135m-instruct?"


def test_an_error_of_a_class_of_its_own_arrives_as_the_nearest_that_everybody_knows() -> None:
    class Torn(SourceError):
        def __init__(self, part: int) -> None:
            super().__init__(msg("part {part} is torn", part=part))

    arrived = sent(Torn(3))
    assert type(arrived) is SourceError
    assert arrived.what == "part 3 is torn"


@pytest.mark.parametrize("kind", ["Nonsense", "Translatable", "difflib", ""])
def test_what_is_no_error_of_ours_arrives_as_the_class_the_reader_expects(kind: str) -> None:
    said = {"kind": kind, "what": "it broke", "next_step": ""}
    assert type(PlaygroundError.from_json(said, RunError)) is RunError
    assert type(PlaygroundError.from_json(said)) is PlaygroundError


def test_hundreds_of_reasons_are_said_in_any_language_and_travel() -> None:
    reasons = clauses(*(msg("reason {n}", n=n) for n in range(500)))
    assert reasons.startswith("reason 0; reason 1; ")
    assert render(reasons, gettext.NullTranslations()) == reasons
    assert Translatable.from_json(json.loads(json.dumps(reasons.to_json()))) == reasons
    assert clauses(msg("one")) == "one"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("a short one", "a short one"),
        ("twenty characters.. ", "twenty characters.. "),  # as many as there is room for
        ("it is cut behind a word", "it is cut behind a…"),
        ("it is cut just behind words", "it is cut just…"),
        ("a word ends right at, the end", "a word ends right…"),
        ("no end in sight (of, something)", "no end in sight…"),
        ("see /a/path/that/has/no/end", "see /a/path/that/ha…"),
        ("二十文字よりも長い文で、単語の間に空白がありません", "二十文字よりも長い文で、単語の間に空白…"),
    ],
)
def test_words_of_others_are_cut_behind_a_word_and_the_cut_is_seen(words: str, shown: str) -> None:
    assert errors.shortened(words, 20) == shown
    assert len(shown) <= 20


def test_the_first_line_is_cut_as_any_words_are_and_a_reason_of_our_own_never_is() -> None:
    assert errors.first_line("one two three\nfour", 9) == "one two…"
    assert errors.first_line("one two\nfour", 9) == "one two"
    assert errors.first_line(errors.Reason(msg("one two three")), 9) == "one two three"
