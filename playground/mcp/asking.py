"""The tools that look at models and ask them: ``compare``, ``inspect``, ``card``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from playground.experiments.admission import request_from
from playground.mcp.arguments import CardArguments, CompareArguments, InspectArguments
from playground.mcp.calls import Call
from playground.mcp.documents import Document, document, named
from playground.records import Comparison, ModelRun
from playground.results.receipts import ModelReceipt, of_comparison

if TYPE_CHECKING:
    from playground.service import Playground

RANKS = "These figures may be held against each other: one model at a time had the machine. One run each: repeat first."
RANKS_NOT = "The answers shared the machine: these figures rank nothing."


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
        "error": run.error or None,
        "figures": {
            name: {"value": told["median"], "unit": told.get("unit", ""), "means": told["definition"]}
            for name, told in figures.items()
        },
        "receipt": conditions,
        "notes": [*run.warnings, *run.fallbacks],
    }


async def inspect(playground: Playground, asked: InspectArguments, call: Call) -> Document:
    """What a model would really read of a prompt."""
    request = request_from({"prompt": asked.prompt, "system": asked.system})

    def work() -> Any:
        [variant] = named(playground, [asked.model], call.owner)
        playground.prepare(variant, call.step, call.cancelled.is_set)
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
        "notes": list(view.warnings),
    }


async def card(playground: Playground, asked: CardArguments, call: Call) -> Document:
    """What is known of a model, each fact with its source; what nobody says is unknown."""

    def work() -> Any:
        [variant] = named(playground, [asked.model], call.owner)
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
