"""The tools: what each is for, what it takes and what it answers. What it does stands in ``asking`` and ``judging``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from playground.config.schema import Block
from playground.mcp.arguments import (
    CardArguments,
    ChooseArguments,
    CompareArguments,
    InspectArguments,
    SuiteArguments,
)
from playground.mcp.asking import card, compare, inspect
from playground.mcp.calls import Call
from playground.mcp.documents import Document, of_objects, schema
from playground.mcp.judging import choose, suite

if TYPE_CHECKING:
    from playground.service import Playground


@dataclass(frozen=True)
class Tool:
    """One tool.

    Attributes:
        description: For an agent that decides whether to call it.
        answer: JSON schema of what it answers.
        reads_only: Whether it leaves everything as it is: nothing is prepared or kept.
        asks_others: Whether it may reach beyond this machine (weights, the Hub, served models).
    """

    name: str
    title: str
    description: str
    arguments: type[Block]
    answer: Document
    run: Callable[[Playground, Any, Call], Awaitable[Document]]
    reads_only: bool = False
    asks_others: bool = True


OBJECT: Document = {"type": "object"}
OBJECTS: Document = {"type": "array", "items": OBJECT}
TEXTS: Document = {"type": "array", "items": {"type": "string"}}
MAYBE_TEXT: Document = {"type": ["string", "null"]}
MAYBE_WHOLE: Document = {"type": ["integer", "null"]}


ANSWERS = of_objects(
    model="string",
    text="string",
    finish_reason="string",
    error=MAYBE_TEXT,
    figures=OBJECT,
    receipt=OBJECT,
    notes=TEXTS,
)

TOOLS: tuple[Tool, ...] = (
    Tool(
        "compare",
        "Compare models",
        "Send one prompt to several small open models on this machine and get each answer beside its figures (time to "
        "first token, tokens per second, memory) with the receipt that says how they were taken. A model that was "
        "never used here is fetched, exported and checked first, which takes minutes.",
        CompareArguments,
        schema(
            id=MAYBE_TEXT, created_at="string", mode="string", about_figures="string", machine=OBJECT, answers=ANSWERS
        ),
        compare,
    ),
    Tool(
        "inspect",
        "What a model reads",
        "Show what a model really reads of a prompt: the text after its chat template, its tokens, control tokens, and "
        "how much room the context leaves.",
        InspectArguments,
        schema(
            model="string",
            rendered="string",
            n_tokens=MAYBE_WHOLE,
            tokens=of_objects(id="integer", text="string", control="boolean"),
            context_length=MAYBE_WHOLE,
            room=MAYBE_WHOLE,
            notes=TEXTS,
        ),
        inspect,
    ),
    Tool(
        "card",
        "Model card",
        "What is known of a model: licence, parameters, context, training data, openness, published scores; each fact "
        "with its source. What nobody says is unknown, never guessed.",
        CardArguments,
        schema(model="string", name="string", openness="string", facts=OBJECT, prose=MAYBE_TEXT),
        card,
        reads_only=True,
    ),
    Tool(
        "choose",
        "Choose a model",
        "Which models meet limits of memory, time to first token, speed, licence, openness, context and (in a file) "
        "pass rate: eligible, close, undecided (something was not measured here yet) or out, each with what decided "
        "it, and what to run to know more. Without arguments it lists the models there are. It runs nothing: figures "
        "and suites are those stored on this machine.",
        ChooseArguments,
        schema(
            limits=OBJECT,
            counts=OBJECT,
            verdicts=of_objects(
                model="string",
                state="string",
                why="string",
                decided_by=OBJECTS,
                pass_rate={"type": ["object", "null"]},
                figures=OBJECT,
            ),
            differences=TEXTS,
            missing=OBJECT,
            notes=TEXTS,
        ),
        choose,
        reads_only=True,
        asks_others=False,
    ),
    Tool(
        "suite",
        "Run a suite",
        "Ask many prompts of several models, one answer at a time, and check each answer (promptfoo's asserts, CSV "
        "with __expected, JSON Lines, or a prompt a line). Answers pass rates with 95 % intervals, paired tests "
        "between models, figures, and the answers that did not pass. Each answer is stored when it is finished: a "
        "call that is cancelled pauses the suite, and resume goes on with it.",
        SuiteArguments,
        schema(
            id="string",
            name="string",
            status="string",
            cells="integer",
            total="integer",
            passed="integer",
            judged="integer",
            failed="integer",
            columns=OBJECTS,
            differences=of_objects(first="string", second="string", first_is="string", why="string", p="number"),
            failures=of_objects(
                row="string",
                place="string",
                model="string",
                sample="integer",
                answer="string",
                error=MAYBE_TEXT,
                checks=OBJECTS,
            ),
            about_figures="string",
            machine=OBJECT,
        ),
        suite,
    ),
)
