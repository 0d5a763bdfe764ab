"""Errors cross process borders as they were raised: class, both messages, and the templates they are made of."""

from __future__ import annotations

import gettext
import json

import pytest

from playground import errors
from playground.errors import PlaygroundError, RunError, SourceError, UnknownModel, UnknownVariant
from playground.messages import Translatable, clauses, msg, render

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
