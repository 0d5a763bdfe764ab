"""The tools: what each is for, what it takes, what it does and what it answers.

A tool asks the service and makes a document of plain JSON, in English: figures with the receipts that say how they were
taken, errors with the next step. It does not know the protocol.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from playground.config.schema import Block
from playground.errors import UnknownModel, UsageError
from playground.experiments.admission import request_from
from playground.mcp.arguments import (
    CardArguments,
    ChooseArguments,
    CompareArguments,
    InspectArguments,
)
from playground.mcp.calls import Call
from playground.messages import msg, sentences
from playground.records import Comparison, ModelRun, Variant
from playground.results.receipts import ModelReceipt, of_comparison

if TYPE_CHECKING:
    from playground.service import Playground

Document = dict[str, Any]

RANKS = "These figures may be held against each other: one model at a time had the machine. One run each: repeat first."
RANKS_NOT = "The answers shared the machine: these figures rank nothing."


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


def document(value: Any) -> Any:
    """A value as plain JSON: records as objects without what is empty, messages as their English sentences."""
    if is_dataclass(value) and not isinstance(value, type):
        items = {each.name: document(getattr(value, each.name)) for each in fields(value)}
        return {name: item for name, item in items.items() if item not in (None, "", [], {})}
    if isinstance(value, Variant):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): document(item) for key, item in value.items()}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [document(item) for item in value]
    return value


def schema(**properties: Any) -> Document:
    """An object with these properties and perhaps more; a type's name stands for a property of that type."""
    told = {name: {"type": kind} if isinstance(kind, str) else kind for name, kind in properties.items()}
    return {"type": "object", "properties": told, "required": list(told)}


def named(playground: Playground, names: Sequence[str]) -> list[Variant]:
    """The variants that an agent named. Where strangers come, folders and files of this machine are nobody's to name.

    Raises:
        UsageError: One of them names nothing, or what may not be named here.
    """
    if playground.settings.strangers:
        offered = {*playground.ids(), *(entry.spec.id for entry in playground.served())}
        for name in names:
            model = name.rpartition("@")[0] or name
            if model not in offered:
                raise UsageError(
                    msg("'{model}' is not offered here", model=model[:100]),
                    sentences(
                        UnknownModel(model[:100], playground.ids()).next_step,
                        msg("Folders, files and repositories can be named only on the machine itself."),
                    ),
                )
    return playground.variants(names)


# -- compare --------------------------------------------------------------------------------------------------------


async def compare(playground: Playground, asked: CompareArguments, call: Call) -> Document:
    """Ask several models the same and answer with texts, figures and receipts."""
    request = request_from(asked.model_dump())

    def begin() -> Any:
        variants = named(playground, asked.models)
        return playground.compare(request, variants, asked.mode, owner=call.owner, keep=asked.save)

    return of_compared(await call.follow(await call.in_thread(begin)), saved=asked.save)


def of_compared(comparison: Comparison, *, saved: bool) -> Document:
    """A comparison for an agent: without stamps and token ids, which nobody reads there."""
    receipts = of_comparison(comparison)
    return {
        "id": comparison.id if saved else None,
        "created_at": comparison.created_at,
        "mode": comparison.mode,
        "about_figures": RANKS if comparison.mode == "fair" else RANKS_NOT,
        "machine": document(receipts.machine),
        "answers": [answer(run, receipt) for run, receipt in zip(comparison.runs, receipts.models, strict=True)],
    }


def answer(run: ModelRun, receipt: ModelReceipt) -> Document:
    """One model's answer with its figures, each beside what it means, and the conditions they were taken under."""
    conditions = document(receipt)
    figures = conditions.pop("figures", {})
    return {
        "model": str(run.variant),
        "text": run.text,
        "finish_reason": run.finish_reason,
        "error": str(run.error) if run.error else None,
        "figures": {
            name: {"value": told["median"], "unit": told.get("unit", ""), "means": told["definition"]}
            for name, told in figures.items()
        },
        "receipt": conditions,
        "notes": [str(note) for note in (*run.warnings, *run.fallbacks)],
    }


# -- inspect --------------------------------------------------------------------------------------------------------


async def inspect(playground: Playground, asked: InspectArguments, call: Call) -> Document:
    """What a model would really read of a prompt."""
    request = request_from({"prompt": asked.prompt, "system": asked.system})
    step: list[Any] = [(0.0, "")]

    def progress(words: str, share: float | None) -> None:
        call.check()
        step[0] = (share or 0.0, str(words))

    def work() -> Any:
        [variant] = named(playground, [asked.model])
        playground.prepare(variant, progress, call.cancelled.is_set)
        return variant, playground.inspect(str(variant), request)

    variant, view = await call.in_thread(work)
    control = set(view.control)
    shown = view.tokens[: asked.max_tokens_shown]
    return {
        "model": str(variant),
        "rendered": view.rendered,
        "n_tokens": len(view.token_ids) or None,
        "tokens": [
            {"id": id, "text": text, "control": place in control}
            for place, (id, text) in enumerate(zip(view.token_ids, shown, strict=False))
        ],
        "context_length": view.context_length or None,
        "room": view.room,
        "notes": [str(note) for note in view.warnings],
    }


# -- card -----------------------------------------------------------------------------------------------------------


async def card(playground: Playground, asked: CardArguments, call: Call) -> Document:
    """What is known of a model, each fact with its source; what nobody says is unknown."""

    def work() -> Any:
        [variant] = named(playground, [asked.model])
        return playground.card(str(variant), "always" if asked.online else "never")

    found = await call.in_thread(work)
    told = document(found.facts)
    if found.entry.terms:
        told["terms"] = document(found.entry.terms)
    yes, items = found.openness
    return {
        "model": found.entry.spec.id,
        "name": found.entry.spec.name,
        "openness": f"{yes}/{items}",
        "facts": {name: value for name, value in told.items() if name != "model"},
        "prose": found.rest if asked.prose else None,
    }


# -- choose ---------------------------------------------------------------------------------------------------------


async def choose(playground: Playground, asked: ChooseArguments, call: Call) -> Document:
    """Which models meet stated limits, by figures measured on this machine and facts with a source."""
    from playground.choose.board import board, candidates_of, stored
    from playground.choose.constraints import Constraints, check_limits

    limits = Constraints(
        asked.max_memory_mb,
        asked.max_ttft_s,
        asked.min_decode_tok_s,
        asked.commercial,
        asked.min_openness,
        asked.min_context,
    )

    def work() -> Document:
        check_limits(limits)
        kept = stored(playground)
        found = board(playground, named(playground, asked.models) or candidates_of(playground, kept), kept)
        verdicts = found.verdicts(limits)
        figures = {str(each.variant): each.figures for each in found.candidates}
        return {
            "limits": document(limits),
            "counts": {
                state: sum(verdict.state == state for verdict in verdicts)
                for state in ("eligible", "close", "undecided", "out")
            },
            "verdicts": [
                {
                    "model": str(verdict.variant),
                    "state": verdict.state,
                    "why": str(verdict.words),
                    "decided_by": [document(check) for check in verdict.deciding],
                    "figures": {name: document(taken) for name, taken in figures[str(verdict.variant)].items()},
                }
                for verdict in verdicts[: asked.most]
            ],
            "notes": [str(note) for note in found.evidence.notes],
        }

    return await call.in_thread(work)


OBJECT: Document = {"type": "object"}
TEXTS: Document = {"type": "array", "items": {"type": "string"}}
MAYBE_TEXT: Document = {"type": ["string", "null"]}
MAYBE_WHOLE: Document = {"type": ["integer", "null"]}


def of_objects(**properties: Any) -> Document:
    return {"type": "array", "items": schema(**properties)}


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
        "Which models meet limits of memory, time to first token, speed, licence, openness and context: eligible, "
        "close, undecided (not measured here yet) or out, each with what decided it. Without arguments it lists the "
        "models there are. Runs nothing: figures are those stored on this machine.",
        ChooseArguments,
        schema(
            limits=OBJECT,
            counts=OBJECT,
            verdicts=of_objects(
                model="string", state="string", why="string", decided_by={"type": "array"}, figures=OBJECT
            ),
            notes=TEXTS,
        ),
        choose,
        reads_only=True,
        asks_others=False,
    ),
)
