"""One model's answer as a panel of HTML: before it begins, when it is done, when it failed; ``growing`` has the time
between.

Model output is untrusted: ``answer`` makes it safe. A blind panel has nothing that tells the model: no name, no
variant, no figure, no colour. The parts of a live and of a finished panel are the same in the same order: what did not
change is left alone by the page, and text that is chosen in it stays so. Knows records and live runs, not gradio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from playground.errors import PlaygroundError
from playground.experiments.defaults import BASE_PENALTY, BASE_REASON
from playground.messages import NOTHING, Translatable, msg, sentences
from playground.records import Comparison, ModelRun, Request, Timings, Variant
from playground.results.thinking import split
from playground.ui.html import panel_parts as part
from playground.ui.html.answer import answer_html, raw_html, thinking_html
from playground.ui.html.format import (
    FINISHED,
    count,
    esc,
    link,
    megabytes,
    precision_words,
    rate,
    seconds,
)
from playground.ui.html.provenance import provenance_html
from playground.ui.html.receipts import ReceiptPopovers, popovers
from playground.ui.i18n import say

if TYPE_CHECKING:
    from playground.catalog.entries import CatalogEntry, Terms
    from playground.export import Preparation


@dataclass(frozen=True)
class Label:
    """What a column says about its model before the model has said anything.

    Attributes:
        position: Column, from 0; it picks the colour the model has in panels and charts.
        context: Most tokens of prompt and answer together; 0 where unknown.
    """

    name: str
    variant: Variant
    position: int = 0
    kind: str = "chat"
    terms: Terms | None = None
    context: int = 0

    @property
    def tail(self) -> str:
        """The variant without its model: ``onnx-int8``."""
        return f"{self.variant.runtime}-{self.variant.precision}" if self.variant.runtime else ""


class Models(Protocol):
    """Who knows the models by name: the service, or a catalogue."""

    def ids(self) -> tuple[str, ...]: ...

    def entry(self, model: str) -> CatalogEntry: ...


def labels(models: Models, variants: Sequence[Variant]) -> tuple[Label, ...]:
    """A label for each variant, in order. A model the catalogue no longer knows keeps its id as its name."""
    made = []
    for position, variant in enumerate(variants):
        if variant.model in models.ids():
            entry = models.entry(variant.model)
            spec = entry.spec
            made.append(Label(spec.name, variant, position, spec.kind, entry.terms, spec.context_length))
        else:
            made.append(Label(variant.model, variant, position, _kind(models, variant.model)))
    return tuple(made)


def _kind(models: Models, model: str) -> str:
    """What a model outside the catalogue does, as far as the Hub's cache tells."""
    try:
        return models.entry(model).spec.kind if model.startswith("hub:") else "chat"
    except PlaygroundError:
        return "chat"


def run_panel(
    run: ModelRun,
    label: Label,
    popovers: ReceiptPopovers | None = None,
    place: int = 0,
    *,
    blind: str | None = None,
    shared: Request | None = None,
    where: str = "",
    full: bool = False,
) -> str:
    """The panel of a finished run.

    Args:
        popovers: The receipts that its figures open, once the comparison has ended.
        place: The run's place among them.
        blind: A letter that stands for the model, of which nothing is told.
        shared: What all models were asked.
        where: A word for this piece of the page; the same run may be drawn in several.
        full: Whether it can be gone on with: asked again, replied to, removed.
    """
    found, hidden = split(run.text), blind is not None
    name = label.name if blind is None else blind
    problem = ""
    if run.error:
        told = msg("This one failed; why is told after the vote.") if hidden else run.error
        problem = f'<p class="problem">{esc(told)}</p>'
    buttons = part.actions(run, name, label.position, label.kind, where or "panel", full=full and not hidden)
    rest = "" if hidden else _notes(run, label, full) + provenance_html(run, label.variant)
    return frame(
        label,
        run.finish_reason,
        _final_state(run, None if hidden else popovers, place, hidden),
        thinking=thinking_html(found, tokens=None if hidden else run.thinking_tokens),
        answer=answer_html(found.answer) if found.answer else "",
        ghost="" if run.error or found.answer.strip() else f'<span class="ghost">{esc(_empty_words(run))}</span>',
        raw=raw_html(run.text),
        turns=part.turns(run.request, name, label.position, full=full and not hidden),
        told=part.differing(run.request, shared),
        below=part.fold_button(name, run.text) + problem + (buttons if run.text or full else "") + rest,
        end=popovers.html() if popovers and not hidden else "",
        carried=bool(run.taken_in),
        blind=blind,
    )


def waiting_panel(label: Label, prepared: Preparation | None = None, *, blind: str | None = None) -> str:
    """The panel of a chosen model before the first run, with where its preparation stands if that is known."""
    ghost = {
        "base": msg("Continues your prompt, as it is a base model."),
        "text2text": msg("Turns your prompt into another text, as it has an encoder."),
    }.get(label.kind, msg("Answers your prompt."))
    state = _prepared_words(prepared) if prepared is not None and blind is None else ""
    told = msg("Answers your prompt.") if blind is not None else ghost
    return frame(label, "idle", state, ghost=f'<span class="ghost">{esc(told)}</span>', blind=blind)


def comparison_panels(comparison: Comparison, shown: tuple[Label, ...], *, full: bool = False) -> str:
    """A stored comparison's answers side by side, in one piece of HTML."""
    return f'<div class="columns">{"".join(finished_panels(comparison, shown, "reopened", full=full))}</div>'


def finished_panels(
    comparison: Comparison,
    shown: tuple[Label, ...],
    where: str,
    *,
    full: bool | None = None,
    blind: Sequence[str] | None = None,
) -> list[str]:
    """A panel for each run, whose figures open their receipts.

    Args:
        where: See ``receipts.ReceiptPopovers``.
        full: See ``run_panel``; by default in the outputs alone.
        blind: A letter for each, in place of the models.
    """
    everything = where == "outputs" if full is None else full
    return [
        run_panel(
            run,
            label,
            None if blind else popovers(comparison, where),
            place,
            blind=blind[place] if blind else None,
            shared=comparison.request,
            where=where,
            full=everything,
        )
        for place, (run, label) in enumerate(zip(comparison.runs, shown, strict=True))
    ]


def frame(
    label: Label,
    kind: str,
    state: str,
    *,
    thinking: str = "",
    answer: str = "",
    ghost: str = "",
    raw: str = "",
    turns: str = "",
    told: Sequence[Translatable] = (),
    below: str = "",
    end: str = "",
    carried: bool = False,
    blind: str | None = None,
) -> str:
    """A panel around what is given of it, as HTML; ``kind`` is its class."""
    hidden = blind is not None
    name = msg("Answer {letter}", letter=blind) if hidden else label.name
    tags = "" if hidden else _tags(label, told, carried)
    tail = "" if hidden else f"<code>{esc(label.tail)}</code>"
    terms = f'<p class="terms">{terms_html(label.terms)}</p>' if label.terms and not hidden else ""
    series = "is-blind" if hidden else f"series-{label.position}"
    spoken = esc(name) if hidden else f"{esc(label.name)} {esc(label.tail)}"
    return (
        f'<article class="panel {series} is-{esc(kind)}" data-column="{label.position}" aria-label="{spoken}">'
        f'<div class="head"><header><span class="swatch" aria-hidden="true"></span><h3>{esc(name)}</h3>{tail}{tags}'
        f'</header><p class="state">{state}</p></div><div class="turns">{turns}</div>'
        f'<div class="answer" dir="auto">{thinking}<div class="rendered">{answer}</div>{ghost}</div>'
        f'<pre class="raw" dir="auto">{raw}</pre>{below}{terms}{end}</article>'
    )


def _tags(label: Label, told: Sequence[Translatable], carried: bool) -> str:
    made = []
    if label.kind == "base":
        made.append((msg("base model"), msg("No chat template: it continues the text it is given")))
    if carried:
        made.append((msg("carried over"), msg("This answer is of an earlier run; its figures are of then.")))
    tags = "".join(f'<span class="tag" title="{esc(title)}">{esc(word)}</span>' for word, title in made)
    own = " · ".join(esc(each) for each in told)
    is_penalty = label.kind == "base" and len(told) == 1 and str(BASE_PENALTY) in told[0]
    why = BASE_REASON if is_penalty else msg("Not as the others")
    return tags + (f'<span class="tag own" title="{esc(why)}">{own}</span>' if own else "")


def _notes(run: ModelRun, label: Label, full: bool) -> str:
    """What to know before going on with it."""
    base = NOTHING
    if full and label.kind == "base":
        base = msg("It is a base model: it continues texts and can't be replied to.")
    elif full and label.kind == "text2text":
        base = msg("It turns one text into another and can't be replied to.")
    said = sentences(part.context_left(run, label.context), base)
    return f'<p class="note">{esc(said)}</p>' if said else ""


def _empty_words(run: ModelRun) -> Translatable:
    if run.text.strip():
        return msg("It ended while it was thinking: no answer.")
    if run.finish_reason == "stopped":
        return msg("Stopped before the first token.")
    return msg("The model ended its answer at once: no text.")


def terms_html(terms: Terms) -> str:
    """The conditions a licence wants shown, with their links."""
    links = [link(terms.url, say(msg("Terms of use")))]
    if terms.policy_url:
        links.append(link(terms.policy_url, say(msg("Prohibited use policy"))))
    return f"{esc(terms.text)} {' · '.join(links)}"


def _final_state(run: ModelRun, popovers: ReceiptPopovers | None, place: int, hidden: bool = False) -> str:
    def wrap(name: str, shown: str) -> str:
        return popovers.wrap(place, name, shown) if popovers else shown

    taken = run.timings
    parts = [f"<strong>{esc(FINISHED[run.finish_reason])}</strong>"]
    if hidden:
        return parts[0]
    if taken.output_tokens:
        if taken.decode_tok_s is not None:
            parts.append(wrap("decode_tok_s", rate(taken.decode_tok_s, taken.unit)))
        parts.append(wrap("output_tokens", count(taken.output_tokens, taken.unit)))
        if taken.ttft_s is not None:
            first = esc(msg("first after {time}", time="\0"))
            parts.append(first.replace("\0", wrap("ttft_s", seconds(taken.ttft_s))))
    return " · ".join(parts) + _shared(taken)


def _shared(taken: Timings) -> str:
    if taken.mode != "fast":
        return ""
    return (
        f' <span class="tag" title="{esc(msg("Fast mode: the models shared the CPU"))}">{esc(msg("shared CPU"))}</span>'
    )


def state_html(variant: Variant, prepared: Preparation, name: str = "") -> str:
    """One line of the picker: what has to happen before this variant can answer."""
    precision = f"<code>{esc(precision_words(variant.runtime, variant.precision))}</code>"
    words = f"{esc(name)} {precision} {_prepared_words(prepared)}"
    return f'<li class="is-{prepared.status}"><i aria-hidden="true"></i><span>{words}</span></li>'


def _prepared_words(prepared: Preparation) -> str:
    """Where a variant stands on its way to be ready."""
    artifact = prepared.artifact
    what = {
        "ready": msg("ready"),
        "preparing": prepared.step or msg("waiting to be prepared"),
        "failed": msg("could not be prepared"),
        "missing": msg("not prepared yet: the first run does it"),
    }[prepared.status]
    more = ""
    if prepared.status == "preparing" and prepared.progress is not None:
        more = f" · {prepared.progress * 100:.0f} %" + part.bar(prepared.progress)
    elif prepared.status == "ready" and artifact:
        size = megabytes(artifact.size_bytes / 1e6) if artifact.size_bytes else ""
        verdict = artifact.fidelity.verdict if artifact.fidelity else ""
        more = "".join(f" · {esc(part)}" for part in (size, verdict) if part)
        more += "".join(f"<small>{esc(note)}</small>" for note in artifact.notes)
    elif prepared.status == "failed" and prepared.error:
        more = f'<span class="problem">{esc(prepared.error)}</span>'
    return esc(what) + more


def system_note(labels: tuple[Label, ...]) -> Translatable:
    """What becomes of the system prompt with these models; empty where every one reads it."""
    base = list(dict.fromkeys(label.name for label in labels if label.kind != "chat"))
    if not base:
        return NOTHING
    if all(label.kind != "chat" for label in labels):
        return msg("Not used, for want of a chat template: {models}.", models=base)
    return msg("Without a chat template, and will not see it: {models}.", models=base)
