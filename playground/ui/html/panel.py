"""One model's answer as a panel of HTML: while it streams, when it is done, when it failed.

Model output is untrusted: it is escaped, never read as markdown or HTML. Knows records and live runs, not gradio.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from playground.errors import PlaygroundError
from playground.messages import Translatable, msg
from playground.records import Comparison, Fidelity, ModelRun, Timings, Variant
from playground.ui.html.format import (
    FINISHED,
    OWN_KERNELS,
    RECIPES,
    RUNTIMES,
    count,
    esc,
    link,
    megabytes,
    percent,
    precision_words,
    rate,
    seconds,
)
from playground.ui.html.receipts import ReceiptPopovers, popovers

if TYPE_CHECKING:
    from playground.catalog.entries import CatalogEntry, Terms
    from playground.experiments.progress import LiveRun
    from playground.export import Preparation


@dataclass(frozen=True)
class Label:
    """What a column says about its model before the model has said anything.

    Attributes:
        position: Column, from 0; it picks the colour the model has in panels and charts.
    """

    name: str
    variant: Variant
    position: int = 0
    kind: str = "chat"
    terms: Terms | None = None

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
            made.append(Label(entry.spec.name, variant, position, entry.spec.kind, entry.terms))
        else:
            made.append(Label(variant.model, variant, position, _kind(models, variant.model)))
    return tuple(made)


def _kind(models: Models, model: str) -> str:
    """What a model outside the catalogue does, as far as the Hub's cache tells."""
    try:
        return models.entry(model).spec.kind if model.startswith("hub:") else "chat"
    except PlaygroundError:
        return "chat"


_FENCED = re.compile(r"^[ \t]*```[^\n]*\n.*?(?:^[ \t]*```[ \t]*(?:\n|\Z)|\Z)", re.MULTILINE | re.DOTALL)


def answer_html(text: str) -> str:
    """Model output as HTML whose text content is exactly ``text``; fenced code gets a monospaced block."""
    parts, at = [], 0
    for match in _FENCED.finditer(text):
        parts += [esc(text[at : match.start()]), f'<span class="code">{esc(match[0])}</span>']
        at = match.end()
    return "".join([*parts, esc(text[at:])])


def live_rate(live: LiveRun) -> float | None:
    """Decode rate so far in tokens a second; None below two tokens, as in the final figure."""
    return live.rate


def live_panel(live: LiveRun, label: Label) -> str:
    """The panel of a run that may still be going on."""
    if live.run is not None:
        return run_panel(live.run, label)
    waiting = "" if live.text else f'<span class="ghost">{_waiting_words(live.kind)}</span>'
    caret = '<span class="caret" aria-hidden="true"></span>' if live.text else ""
    return _panel(label, live.kind, _live_state(live), f"{answer_html(live.text)}{waiting}", caret)


def run_panel(run: ModelRun, label: Label, popovers: ReceiptPopovers | None = None, place: int = 0) -> str:
    """The panel of a finished run.

    Args:
        popovers: The receipts that its figures open, once the comparison has ended.
        place: The run's place among them.
    """
    body = answer_html(run.text)
    if not run.text and not run.error:
        stopped = run.finish_reason == "stopped"
        words = "Stopped before the first token." if stopped else "The model ended its answer at once: no text."
        body = f'<span class="ghost">{words}</span>'
    problem = f'<p class="problem" role="alert">{esc(run.error)}</p>' if run.error else ""
    state = _final_state(run, popovers, place)
    below = problem + _provenance(run, label) + (popovers.html() if popovers else "")
    return _panel(label, run.finish_reason, state, body, below, copy=bool(run.text))


def waiting_panel(label: Label) -> str:
    """The panel of a chosen model before the first run."""
    ghost = {
        "base": "Continues your prompt, as it is a base model.",
        "text2text": "Turns your prompt into another text, as it has an encoder.",
    }.get(label.kind, "Answers your prompt.")
    return _panel(label, "idle", "", f'<span class="ghost">{ghost}</span>')


def comparison_panels(comparison: Comparison, shown: tuple[Label, ...]) -> str:
    """A stored comparison's answers side by side, in one piece of HTML."""
    return f'<div class="columns">{"".join(finished_panels(comparison, shown, "reopened"))}</div>'


def finished_panels(comparison: Comparison, shown: tuple[Label, ...], where: str) -> list[str]:
    """A panel for each run, whose figures open their receipts.

    Args:
        where: See ``receipts.ReceiptPopovers``.
    """
    pairs = enumerate(zip(comparison.runs, shown, strict=True))
    return [run_panel(run, label, popovers(comparison, where), place) for place, (run, label) in pairs]


def _panel(label: Label, kind: str, state: str, body: str, below: str = "", *, copy: bool = False) -> str:
    base = '<span class="tag" title="No chat template: it continues the text it is given">base model</span>'
    button = '<button type="button" class="copy" data-copy>Copy</button>' if copy else ""
    terms = f'<p class="terms">{terms_html(label.terms)}</p>' if label.terms else ""
    return (
        f'<article class="panel series-{label.position} is-{esc(kind)}" '
        f'aria-label="{esc(label.name)} {esc(label.tail)}">'
        f'<header><span class="swatch" aria-hidden="true"></span><h3>{esc(label.name)}</h3>'
        f"<code>{esc(label.tail)}</code>{base if label.kind == 'base' else ''}{button}</header>"
        f'<p class="state">{state}</p><div class="answer" dir="auto">{body}</div>{below}{terms}</article>'
    )


def terms_html(terms: Terms) -> str:
    """The conditions a licence wants shown, with their links."""
    links = [link(terms.url, "Terms of use")]
    if terms.policy_url:
        links.append(link(terms.policy_url, "Prohibited use policy"))
    return f"{esc(terms.text)} {' · '.join(links)}"


def _live_state(live: LiveRun) -> str:
    words = {
        "queued": "waiting for its turn",
        "preparing": "preparing",
        "loading": "loading into memory",
        "prefill": "reading the prompt",
        "token": "answering",
    }.get(live.kind, live.kind)
    parts = [f"<strong>{esc(words)}</strong>"]
    if live.kind in ("queued", "preparing", "loading") and live.message not in ("", words):
        parts.append(esc(live.message))
    if live.kind != "token" and live.progress is not None:
        parts.append(f"{live.progress * 100:.0f} %")
    if live.kind == "token":
        parts += [rate(live_rate(live)), count(live.n_tokens, "token")]
    bar = "" if live.progress is None or live.kind == "token" else _bar(live.progress)
    return " · ".join(parts) + bar


def _bar(progress: float) -> str:
    return f'<span class="progress"><span style="width:{max(0.0, min(1.0, progress)) * 100:.1f}%"></span></span>'


def _final_state(run: ModelRun, popovers: ReceiptPopovers | None, place: int) -> str:
    def wrap(name: str, shown: str) -> str:
        return popovers.wrap(place, name, shown) if popovers else shown

    taken = run.timings
    parts = [f"<strong>{FINISHED[run.finish_reason]}</strong>"]
    if taken.output_tokens:
        parts.append(wrap("decode_tok_s", rate(taken.decode_tok_s, taken.unit)))
        parts.append(wrap("output_tokens", count(taken.output_tokens, taken.unit)))
        parts.append(f"first after {wrap('ttft_s', seconds(taken.ttft_s))}")
    return " · ".join(parts) + _shared(taken)


def _shared(taken: Timings) -> str:
    if taken.mode != "fast":
        return ""
    return ' <span class="tag" title="Fast mode: the models shared the CPU">shared CPU</span>'


def _waiting_words(kind: str) -> str:
    return {"queued": "Another model is answering first.", "prefill": "The first token is on its way."}.get(kind, "")


def answered(run: ModelRun) -> bool:
    """Whether any answer came, whole or not."""
    return run.timings.output_tokens is not None


def way_words(run: ModelRun) -> str:
    """Which way a run went: ``ONNX Runtime · int8 · fused export``."""
    runtime = OWN_KERNELS if (run.engine or "").startswith("kernels") else RUNTIMES.get(run.runtime, run.runtime)
    parts = [runtime, "" if run.precision == "none" else run.precision]
    return " · ".join(part for part in [*parts, RECIPES.get(run.recipe or "", "")] if part)


def fidelity_words(fidelity: Fidelity) -> Translatable:
    """The verdict and the figures it rests on."""
    return msg(
        "{verdict}: {share} same top token as {reference}, mean KL {mean_kl:.2g} over {positions:,} positions",
        verdict=fidelity.verdict,
        share=percent(fidelity.top1_agreement),
        reference=fidelity.reference,
        mean_kl=fidelity.mean_kl,
        positions=fidelity.positions,
    )


def _provenance(run: ModelRun, label: Label) -> str:
    rows = [("Ran on" if answered(run) else "Was to run on", esc(way_words(run)))]
    if run.fidelity:
        rows.append(("Export is", esc(fidelity_words(run.fidelity))))
    if label.variant.runtime and (run.runtime, run.precision) != (label.variant.runtime, label.variant.precision):
        rows.append(("Asked for", esc(label.tail)))
    rows += [("Not used", esc(reason)) for reason in run.fallbacks]
    rows += [("Note", esc(warning)) for warning in run.warnings]
    cells = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)
    return f'<dl class="way">{cells}</dl>'


def state_html(variant: Variant, prepared: Preparation, name: str = "") -> str:
    """One line of the picker: what has to happen before this variant can answer."""
    artifact = prepared.artifact
    what = {
        "ready": "ready",
        "preparing": prepared.step or "waiting to be prepared",
        "failed": "could not be prepared",
        "missing": "not prepared yet: the first run does it",
    }[prepared.status]
    more = ""
    if prepared.status == "preparing" and prepared.progress is not None:
        more = f" · {prepared.progress * 100:.0f} %" + _bar(prepared.progress)
    elif prepared.status == "ready" and artifact:
        size = megabytes(artifact.size_bytes / 1e6) if artifact.size_bytes else ""
        verdict = artifact.fidelity.verdict if artifact.fidelity else ""
        more = "".join(f" · {esc(part)}" for part in (size, verdict) if part)
        more += "".join(f"<small>{esc(note)}</small>" for note in artifact.notes)
    elif prepared.status == "failed" and prepared.error:
        more = f'<span class="problem">{esc(prepared.error)}</span>'
    words = f"{esc(name)} <code>{esc(precision_words(variant.runtime, variant.precision))}</code> {esc(what)}{more}"
    return f'<li class="is-{prepared.status}"><i aria-hidden="true"></i><span>{words}</span></li>'


def system_note(labels: tuple[Label, ...]) -> str:
    """What becomes of the system prompt with these models; empty where every one reads it."""
    base = list(dict.fromkeys(label.name for label in labels if label.kind != "chat"))
    if not base:
        return ""
    names = " and ".join(base)
    verb = "has" if len(base) == 1 else "have"
    if all(label.kind != "chat" for label in labels):
        return f"Not used: {names} {verb} no chat template, so there is no place for a system prompt."
    return f"{names} {verb} no chat template and will not see it."
