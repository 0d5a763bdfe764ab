"""What each tool may be given, as pydantic models: their JSON schemas are what an agent reads.

Numbers and texts are taken as they are written, and an unknown name is a mistake that is told with the nearest known
one. Bounds that depend on the settings are the service's; ``bounded`` writes them into the schema, and ``filled`` keeps
defaults within them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from playground.config.schema import Block
from playground.config.settings import Settings
from playground.records import Request

TOKENS = Request.max_new_tokens
"""Of an answer, where nothing is said and the limits allow it."""
MOST_STOPS = 8

Models = Annotated[
    list[str],
    Field(
        min_length=1,
        description="Names as MODEL or MODEL@RUNTIME-PRECISION, e.g. smollm2-135m-instruct@onnx-int8. The tool "
        "`choose` without arguments lists those there are.",
    ),
]
Model = Annotated[str, Field(description="MODEL or MODEL@RUNTIME-PRECISION, e.g. smollm2-135m-instruct@onnx-int8.")]


class CompareArguments(Block):
    """``compare``."""

    prompt: Annotated[str, Field(description="What every model is asked.")]
    models: Models
    system: Annotated[str, Field(description="System prompt, for models that have a template for it.")] = ""
    max_new_tokens: Annotated[int, Field(ge=1, description="Most tokens of an answer.")] = TOKENS
    temperature: Annotated[float, Field(ge=0, le=10, description="0 is greedy.")] = 0.0
    top_k: Annotated[int, Field(ge=0, description="0 is off.")] = 0
    top_p: Annotated[float, Field(gt=0, le=1, description="1 is off.")] = 1.0
    min_p: Annotated[float, Field(ge=0, le=1, description="0 is off.")] = 0.0
    repetition_penalty: Annotated[float, Field(gt=0, le=10, description="1 is off.")] = 1.0
    seed: Annotated[int, Field(ge=0, description="The same seed gives the same answer.")] = 0
    stop: Annotated[list[str], Field(max_length=MOST_STOPS, description="Texts before which an answer ends.")] = Field(
        default_factory=list
    )
    mode: Annotated[
        Literal["fair", "fast"],
        Field(description="fair: one model at a time, all threads, figures to rank by. fast: all at once."),
    ] = "fair"
    save: Annotated[bool, Field(description="Keep it in the history.")] = False


class InspectArguments(Block):
    """``inspect``."""

    model: Model
    prompt: Annotated[str, Field(description="The prompt as a user would type it.")]
    system: Annotated[str, Field(description="System prompt, for models that have a template for it.")] = ""
    max_tokens_shown: Annotated[int, Field(ge=0, le=4000, description="Tokens listed one by one.")] = 200


class CardArguments(Block):
    """``card``."""

    model: Model
    online: Annotated[bool, Field(description="Ask the Hugging Face Hub what it says now; needs network.")] = False
    prose: Annotated[bool, Field(description="With the card's text, beside its facts.")] = False


class ChooseArguments(Block):
    """``choose``."""

    models: Annotated[
        list[str], Field(description="Models to choose from; empty for those measured here and the catalogue's.")
    ] = Field(default_factory=list)
    max_memory: Annotated[float | None, Field(gt=0, description="Peak memory of the process, MB.")] = None
    max_ttft: Annotated[float | None, Field(gt=0, description="Time to first token, s.")] = None
    min_speed: Annotated[float | None, Field(gt=0, description="Decode rate, tokens per second.")] = None
    commercial: Annotated[bool, Field(description="The licence must allow commercial use.")] = False
    min_openness: Annotated[int | None, Field(ge=0, le=5, description="Open items of five that are a plain yes.")] = (
        None
    )
    min_context: Annotated[int | None, Field(ge=1, description="Context length, tokens.")] = None
    file: Annotated[
        str,
        Field(
            description="Instead of limits: the text of a choice's file (YAML with models, limits and a suite below "
            "suite:), as `playground choose` reads it."
        ),
    ] = ""
    most: Annotated[int, Field(ge=1, le=200, description="At most so many verdicts, the eligible ones first.")] = 20


class SuiteArguments(Block):
    """``suite``."""

    file: Annotated[
        str, Field(description="The text of the suite: promptfoo's YAML, CSV, JSON Lines, or a prompt a line.")
    ] = ""
    format: Annotated[
        Literal["auto", "yaml", "json", "csv", "jsonl", "txt"], Field(description="What file is; auto: by its look.")
    ] = "auto"
    models: Annotated[
        list[str], Field(description="Names as MODEL or MODEL@RUNTIME-PRECISION; empty for those that the file names.")
    ] = Field(default_factory=list)
    repeats: Annotated[
        int | None, Field(ge=1, le=100, description="Samples of each prompt; without it what the file asks for.")
    ] = None
    limit: Annotated[int | None, Field(ge=1, description="The first so many prompts alone.")] = None
    max_new_tokens: Annotated[int, Field(ge=1, description="Most tokens of an answer, where the file is silent.")] = (
        TOKENS
    )
    temperature: Annotated[float, Field(ge=0, le=10, description="0 is greedy; where the file is silent.")] = 0.0
    seed: Annotated[int, Field(ge=0, description="The same seed gives the same answer.")] = 0
    resume: Annotated[str, Field(description="Instead of file: id of a paused suite to go on with.")] = ""
    against: Annotated[str, Field(description="Id of an earlier suite: what got worse since then.")] = ""
    failures_shown: Annotated[int, Field(ge=0, le=200, description="Answers that did not pass, listed.")] = 20


def bounded(schema: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """A schema with the bounds of these settings, so that an agent need not find them out by errors."""
    limits = settings.limits
    tokens: dict[str, Any] = {"maximum": limits.max_new_tokens, "default": default_tokens(settings)}
    bounds: dict[str, dict[str, Any]] = {
        "prompt": {"minLength": 1, "maxLength": limits.max_prompt_chars},
        "system": {"maxLength": limits.max_prompt_chars},
        "max_new_tokens": tokens,
        "stop": {"maxItems": min(MOST_STOPS, limits.max_stop_strings)},
    }
    named = {"models": {"maxItems": limits.max_models}} if "models" in schema.get("required", ()) else {}
    properties = {
        name: {**told, **(bounds | named).get(name, {})} for name, told in schema.get("properties", {}).items()
    }
    return {**schema, "properties": properties}


def default_tokens(settings: Settings) -> int:
    """How long an answer may be where nothing is said."""
    return min(TOKENS, settings.limits.max_new_tokens)


def filled(arguments: type[Block], given: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """What was given, with those defaults that the settings decide, as ``bounded`` says them."""
    name = "max_new_tokens"
    if name in given or name not in arguments.model_fields:
        return given
    return {**given, name: default_tokens(settings)}
