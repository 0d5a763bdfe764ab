"""Tables of figures and facts as HTML. On a narrow screen each row becomes a block (styles/page.css), nothing scrolls.

Knows records; what a figure means is defined in docs/measurement.md, and each row says how it was taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from playground.catalog.cards import MAIN, MEASURED, PAGE, fact_title
from playground.messages import LIST_SEPARATOR, msg
from playground.records import UNKNOWN, Fact, ModelFacts, ModelRun
from playground.results.figures import FIGURES, characters_per_s, others_note, share_of_cores
from playground.system.contention import BUSY_CORES
from playground.ui.html.charts import charts
from playground.ui.html.format import (
    FINISHED,
    NOTHING,
    card_word,
    characters,
    count,
    esc,
    link,
    megabytes,
    percent,
    rate,
    rich,
    seconds,
)
from playground.ui.html.panel import Label
from playground.ui.html.provenance import answered, fidelity_words, way_words
from playground.ui.html.receipts import ReceiptPopovers
from playground.ui.i18n import say

OPENNESS = {
    "training_data": msg("Training data"),
    "weights": msg("Weights"),
    "evaluation_code": msg("Evaluation code"),
    "finetuning_code": msg("Fine-tuning code"),
    "training_metrics": msg("Training metrics"),
}
_FACTS = (
    *("license", "parameters", "context_length", "languages", "specialisation"),
    *("base_model", "base_model_relation", "datasets"),
)
_STATUS = {
    "card": ("●", msg("read in the developer's card, licence or config")),
    "catalogue": ("○", msg("second-hand: a third party's copy or news")),
    "measured": ("◆", msg("measured here")),
    "unknown": ("?", msg("unknown: no source we trust")),
}
YES_NO = {"yes": msg("yes"), "partial": msg("in part"), "no": msg("no"), "unknown": msg("unknown")}
ANSWERS = {"yes": "✓", "partial": "◐", "no": "✕", "unknown": "?"}

Cell = Callable[[ModelRun], str]


def timings_html(runs: Sequence[ModelRun], labels: Sequence[Label], mode: str, popovers: ReceiptPopovers) -> str:
    """The Timings tab: what the mode means, charts, and every figure with how it was taken."""
    return (
        _mode_note(mode, runs)
        + charts(runs, labels, popovers)
        + timings_table(runs, labels, popovers)
        + popovers.html()
    )


def _mode_note(mode: str, runs: Sequence[ModelRun]) -> str:
    if mode == "fast":
        fast = msg(
            "**Fast mode.** The models ran at the same time and shared the CPU, so these figures describe this run "
            "only. Do not compare the models by them: run fair mode for that."
        )
        return f'<p class="note warn">{rich(fast)}</p>'
    fair = msg(
        "**Fair mode.** One model at a time, each with all threads. Tokens are each model's "
        "own: the same sentence can be more tokens for one model than for another."
    )
    found = [f'<p class="note">{rich(fair)}</p>']
    if note := others_note(run.timings for run in runs):
        found.append(f'<p class="note warn">{rich(note)}</p>')
    return "".join(found)


def _conditions(run: ModelRun) -> str:
    taken = run.timings
    if taken.threads is None:
        return NOTHING
    threads = count(taken.threads, "thread")
    if taken.mode == "fast":
        return esc(msg("shared, {threads}", threads=threads))
    others = taken.other_cpu_cores
    if others is not None and others <= BUSY_CORES:
        return esc(msg("alone, {threads}", threads=threads))
    said = esc(msg("one model at a time, {threads}", threads=threads))
    if others is None:
        return said
    return f"{said}<small>{esc(msg('other programs used {share}', share=share_of_cores(others)))}</small>"


def _start(run: ModelRun) -> str:
    return NOTHING if run.timings.cold is None else esc(msg("cold") if run.timings.cold else msg("warm"))


def _loading(run: ModelRun) -> str:
    return esc(msg("already loaded")) if run.timings.cold is False else seconds(run.timings.load_s)


def _prompt(run: ModelRun) -> str:
    reused = run.timings.reused_tokens
    more = f"<small>{esc(msg('{n:,} of them reused', n=reused))}</small>" if reused else ""
    return count(run.timings.prompt_tokens, "token") + more


def _memory(run: ModelRun) -> str:
    taken = run.timings
    method = f"<small>{esc(taken.memory_method)}</small>" if taken.memory_method else ""
    return megabytes(taken.peak_memory_mb) + method


def _export_check(run: ModelRun) -> str:
    return esc(fidelity_words(run.fidelity)) if run.fidelity else NOTHING


def _way(run: ModelRun) -> str:
    return esc(way_words(run)) + ("" if answered(run) else f"<small>{esc(msg('did not answer'))}</small>")


def _figure(name: str, cell: Cell) -> tuple[str, str, Cell, str]:
    return FIGURES[name].title, FIGURES[name].brief, cell, name


def _read(run: ModelRun) -> int:
    """Tokens the answer begins with that were not chosen."""
    return len(run.request.answer_ids) if run.request else 0


_FIGURES: list[tuple[str, str, Cell, str]] = [
    (msg("Ran on"), msg("runtime, precision and export"), _way, ""),
    (msg("Conditions"), msg("threads, and whether the CPU was shared"), _conditions, ""),
    (msg("Start"), msg("cold: the model was loaded for this run"), _start, ""),
    _figure("queue_s", lambda r: seconds(r.timings.queue_s)),
    _figure("load_s", _loading),
    _figure("tokenize_s", lambda r: seconds(r.timings.tokenize_s)),
    _figure("prompt_tokens", _prompt),
    _figure("ttft_s", lambda r: seconds(r.timings.ttft_s)),
    _figure("prefill_tok_s", lambda r: rate(r.timings.prefill_tok_s)),
    _figure("output_tokens", lambda r: count(r.timings.output_tokens, r.timings.unit)),
    _figure("decode_tok_s", lambda r: rate(r.timings.decode_tok_s, r.timings.unit)),
    _figure("decode_char_s", lambda r: characters(characters_per_s(r.text, r.timings, _read(r)))),
    _figure("total_s", lambda r: seconds(r.timings.total_s)),
    _figure("cpu_s", lambda r: seconds(r.timings.cpu_s)),
    _figure("peak_memory_mb", _memory),
    (msg("Export check"), msg("against the original, teacher-forced"), _export_check, ""),
    (msg("Ended"), msg("why the answer ended"), lambda r: esc(FINISHED[r.finish_reason]), ""),
]


def timings_table(runs: Sequence[ModelRun], labels: Sequence[Label], popovers: ReceiptPopovers) -> str:
    """Every figure of every run, each opening its receipt; a dash where it was not taken."""
    rows = [
        (title, how, [popovers.wrap(place, name, cell(run)) for place, run in enumerate(runs)])
        for title, how, cell, name in _FIGURES
    ]
    return table(msg("All figures"), rows, labels)


def table(caption: str, rows: Sequence[tuple[str, str, list[str]]], labels: Sequence[Label]) -> str:
    """Rows of (name, small print, cells); the cells are HTML already."""
    heads = "".join(
        f'<th scope="col" class="series-{label.position}"><span class="swatch" aria-hidden="true"></span>'
        f"{esc(label.name)} <code>{esc(label.tail)}</code></th>"
        for label in labels
    )
    body = "".join(_row(name, how, cells, labels) for name, how, cells in rows)
    return (
        f'<table class="facts"><caption>{esc(caption)}</caption>'
        f"<thead><tr><td></td>{heads}</tr></thead><tbody>{body}</tbody></table>"
    )


def _row(name: str, how: str, cells: list[str], labels: Sequence[Label]) -> str:
    small = f"<small>{esc(how)}</small>" if how else ""
    twice = len({label.name for label in labels}) < len(labels)
    names = [f"{label.name} {label.tail}" if twice else label.name for label in labels]
    drawn = "".join(f'<td data-model="{esc(name)}">{cell}</td>' for cell, name in zip(cells, names, strict=True))
    return f'<tr><th scope="row">{esc(name)}{small}</th>{drawn}</tr>'


def cards_html(facts: Sequence[ModelFacts], labels: Sequence[Label]) -> str:
    """The Model cards tab's comparison: facts, openness, published scores, figures measured here."""
    main = [(fact_title(key), "", [_cell(getattr(f, key)) for f in facts]) for key in _FACTS]
    extra = {key: None for f in facts for key, fact in f.extra.items() if key not in MEASURED}
    main += [(fact_title(key), "", [_cell(f.extra.get(key, UNKNOWN)) for f in facts]) for key in extra]
    return (
        _legend()
        + table(msg("Facts"), main, labels)
        + table(msg("How open it is"), _openness_rows(facts), labels)
        + _quality(facts, labels)
        + _measured(facts, labels)
    )


def _legend() -> str:
    marks = "".join(f"<span><b>{mark}</b> {esc(words)}</span>" for mark, words in _STATUS.values())
    links = "".join(
        f"<span>{rich(words)}</span>"
        for words in (
            msg("**source** leads to where this fact was read"),
            msg("**main source** to the one that most of the entry was read in"),
            msg("**its page** to the model's page, to check what was read second-hand"),
        )
    )
    return f'<p class="legend">{marks}</p><p class="legend">{links}</p>'


def _openness_rows(facts: Sequence[ModelFacts]) -> list[tuple[str, str, list[str]]]:
    scores = [sum(getattr(f.openness, item).value == "yes" for item in OPENNESS) for f in facts]
    total = [f"<strong>{esc(msg('{n} of {all}', n=score, all=len(OPENNESS)))}</strong>" for score in scores]
    rows: list[tuple[str, str, list[str]]] = [(msg("Open items"), msg("a plain yes; partial does not count"), total)]
    return rows + [(name, "", [_answer(getattr(f.openness, item)) for f in facts]) for item, name in OPENNESS.items()]


def _answer(fact: Fact) -> str:
    answer = str(fact.value or "unknown")
    note = f"<small>{esc(fact.note)}</small>" if fact.note else ""
    said = YES_NO.get(answer, answer)
    shown = link(fact.url, said) if fact.url else esc(said)
    mark = f'<span class="answer-mark answer-{esc(answer)}" aria-hidden="true">{ANSWERS.get(answer, "?")}</span>'
    return f"{mark} {shown}{note}"


def _quality(facts: Sequence[ModelFacts], labels: Sequence[Label]) -> str:
    benchmarks = list(dict.fromkeys(name for f in facts for name in f.quality))
    if not benchmarks:
        return ""
    rows = [
        (name, "", [_cell(_settings_only(f.quality.get(name, UNKNOWN), name)) for f in facts]) for name in benchmarks
    ]
    caution = msg(
        "Scores are the publishers' own, each under its own settings (shots, prompts, harness). A row with two "
        "figures is a hint, not a ranking."
    )
    note = f'<p class="note">{esc(caution)}</p>'
    return table(msg("Published scores"), rows, labels) + note


def _settings_only(fact: Fact, benchmark: str) -> Fact:
    """The score without its benchmark's name in the note: the row has that already."""
    if not fact.note.startswith(benchmark):
        return fact
    return replace(fact, note=fact.note.removeprefix(benchmark).removeprefix(", "))


def _measured(facts: Sequence[ModelFacts], labels: Sequence[Label]) -> str:
    keys = list(
        dict.fromkeys(key for f in facts for key, fact in f.extra.items() if key in MEASURED and fact.value is not None)
    )
    if not keys:
        return f'<p class="note">{esc(msg("Figures measured here appear as soon as a chosen model is prepared."))}</p>'
    rows = [(fact_title(key), "", [_cell(f.extra.get(key, UNKNOWN), key) for f in facts]) for key in keys]
    return table(msg("Measured here"), rows, labels)


def _cell(fact: Fact, key: str = "") -> str:
    mark, meaning = _STATUS[fact.status]
    if fact.value is None:
        return f'<span class="unknown" title="{esc(meaning)}">{esc(msg("unknown"))}</span>'
    shown = esc(_value(fact.value, key))
    source = link(fact.url, _link_words(fact.source)) if fact.url else esc(fact.source)
    small = f"<small>{esc(fact.note)}</small>" if fact.note else ""
    return (
        f'{shown} <span class="mark" title="{esc(meaning)}">{mark}</span> <span class="source">{source}</span>{small}'
    )


def _link_words(source: str) -> str:
    return msg("main source") if source.endswith(MAIN) else msg("its page") if source.endswith(PAGE) else msg("source")


def _value(value: Any, key: str) -> str:
    if key == "size_bytes":
        return megabytes(value / 1e6)
    if key == "top1_agreement":
        return percent(value)
    if isinstance(value, bool):
        return say(YES_NO["yes" if value else "no"])
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.2g}" if key == "mean_kl" else f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return say(LIST_SEPARATOR).join(say(card_word(str(item))) for item in value)
    return say(card_word(value)) if isinstance(value, str) else str(value)


def small_print(name: str, text: str) -> str:
    """A line below a table."""
    return f'<p class="note"><strong>{esc(name)}:</strong> {esc(text)}</p>'
