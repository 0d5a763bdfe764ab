"""What a suite says of its models, as HTML: pass rates with their intervals beside speed, memory, cost and licence, and
which models differ.

Knows summaries and words, not cells or gradio. An interval is drawn from 0 to 100 %, so that two of them can be laid
over each other by eye; the figures stand beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from playground.messages import Translatable, msg, plural, sentences
from playground.results.costs import Tier, per_million
from playground.results.statistics import Paired, Rate, outcome_words, why_words
from playground.results.suite_report import regression_words
from playground.results.suite_summary import ColumnSummary, Difference, Regression, SuiteSummary
from playground.ui.html.costs import money
from playground.ui.html.format import NOTHING, esc, link, megabytes, rate, seconds
from playground.ui.html.panel import Label

HEADS = (
    msg("Passed"),
    msg("Speed"),
    msg("First token"),
    msg("Memory"),
    msg("Cost of 10⁶ tokens"),
    msg("Licence"),
)


@dataclass(frozen=True)
class Told:
    """What stands beside a model's results.

    Attributes:
        license: Its id; empty where unknown.
        license_url: Where it was read.
    """

    license: str = ""
    license_url: str = ""


@dataclass(frozen=True)
class Summed:
    """All that is shown of a suite as a whole.

    Attributes:
        told: A column each, as are the labels.
    """

    found: SuiteSummary
    labels: Sequence[Label]
    told: Sequence[Told]
    tiers: Sequence[Tier]


def summary_html(summed: Summed) -> str:
    """The table of models and the list of pairs."""
    if not summed.found.cells:
        return ""
    tier = next((tier for tier in summed.tiers if tier.per_hour > 0), None)
    rows = "".join(
        _row(column, label, told, tier)
        for column, label, told in zip(summed.found.columns, summed.labels, summed.told, strict=True)
    )
    heads = "".join(f'<th scope="col">{esc(head)}</th>' for head in HEADS)
    return (
        f'<table class="facts suite-summary"><caption>{esc(msg("Model by model"))}</caption>'
        f"<thead><tr><td></td>{heads}</tr></thead><tbody>{rows}</tbody></table>"
        f"{_pairs(summed)}{_notes(summed, tier)}"
    )


def _row(column: ColumnSummary, label: Label, told: Told, tier: Tier | None) -> str:
    speed = column.figures.get("decode_tok_s")
    cost = money(per_million(tier.per_hour, speed), tier) if tier else NOTHING
    cells = (
        rate_html(column.rate) + _marks(column),
        esc(rate(speed)),
        esc(seconds(column.figures.get("ttft_s"))),
        esc(megabytes(column.peak_memory_mb)),
        esc(cost),
        _license(told),
    )
    drawn = "".join(f'<td data-model="{esc(head)}">{cell}</td>' for head, cell in zip(HEADS, cells, strict=True))
    return (
        f'<tr><th scope="row" class="series-{label.position}"><span class="swatch" aria-hidden="true"></span>'
        f"{esc(label.name)} <code>{esc(label.tail)}</code></th>{drawn}</tr>"
    )


def rate_html(found: Rate) -> str:
    """``17 of 20 = 85 %``, its interval in words and as a bar; a dash where no prompt has an outcome."""
    if found.share is None:
        return NOTHING
    low, high = found.interval.low * 100, found.interval.high * 100
    passed = f"{found.passed:.0f}" if found.passed == int(found.passed) else f"{found.passed:.1f}"
    words = msg("{passed} of {n}", passed=passed, n=found.prompts)
    spread = msg("95 %: {low:.0f} to {high:.0f} %", low=low, high=high)
    bar = (
        f'<span class="suite-interval" aria-hidden="true"><i style="left:{low:.1f}%;width:{high - low:.1f}%"></i>'
        f'<b style="left:{found.share * 100:.1f}%"></b></span>'
    )
    return f"<strong>{found.share * 100:.0f} %</strong> {esc(words)}{bar}<small>{esc(spread)}</small>"


def _marks(column: ColumnSummary) -> str:
    told = []
    if column.failed:
        told.append(plural("{n} error", "{n} errors", n=column.failed))
    if column.cut_off:
        told.append(plural("{n} cut off", "{n} cut off", n=column.cut_off))
    return f'<small class="is-cut">{" · ".join(map(esc, told))}</small>' if told else ""


def _license(told: Told) -> str:
    if not told.license:
        return f'<span class="unknown">{esc(msg("unknown"))}</span>'
    return link(told.license_url, told.license) if told.license_url else esc(told.license)


def _notes(summed: Summed, tier: Tier | None) -> str:
    how: list[Translatable] = []
    if summed.found.judged:
        how.append(
            msg(
                "Passed: over the prompts that have checks, with Wilson's 95 % interval: from these prompts "
                "alone, the true rate of prompts like them may lie anywhere in it."
            )
        )
    else:
        how.append(msg("No prompt has a check, so nothing is passed or failed: there are answers and figures alone."))
    how.append(msg("Speed and first token are medians, memory is the most an answer took."))
    if tier:
        how.append(
            msg(
                "Cost: {tier} at {price} an hour, at the speed measured here, never idle.",
                tier=tier.name,
                price=money(tier.per_hour, tier),
            )
        )
    note = (
        f'<details class="suite-more" data-keep="figures"><summary>{esc(msg("What these figures say"))}</summary>'
        f'<p class="note">{esc(sentences(*how))}</p></details>'
    )
    if not any(column.shared for column in summed.found.columns):
        return note
    shared = msg("The models shared the machine: do not compare them by these times.")
    return f'<p class="note warn">{esc(shared)}</p>{note}'


def _pairs(summed: Summed) -> str:
    if not summed.found.differences:
        return ""
    lines = "".join(_pair(pair, summed.labels) for pair in summed.found.differences)
    drawn = f'<ul class="suite-pairs">{lines}</ul>'
    title = msg("Which models differ")
    if len(summed.found.differences) <= 3:
        return f'<h3 class="below">{esc(title)}</h3>{drawn}'
    seen = sum(pair.test.seen != "none" for pair in summed.found.differences)
    told = msg("a difference is seen in {seen} of {n} pairs", seen=seen, n=len(summed.found.differences))
    return (
        f'<details class="suite-more" data-keep="pairs"><summary>{esc(title)}: {esc(told)}</summary>{drawn}</details>'
    )


def _pair(pair: Difference, labels: Sequence[Label]) -> str:
    one, two = labels[pair.first], labels[pair.second]
    names = msg("{first} against {second}", first=_name(one, two), second=_name(two, one))
    return f"<li>{pair_html(names, pair.test)}</li>"


def pair_html(names: Translatable, test: Paired) -> str:
    """Two names, what the test says of them, and why."""
    kind = {"better": "is-better", "worse": "is-worse", "none": "is-same"}[test.seen]
    return (
        f'<span>{esc(names)}:</span> <strong class="{kind}">{esc(outcome_words(test))}</strong>'
        f"<small>{esc(why_words(test))}</small>"
    )


def _whole_name(label: Label) -> str:
    return f"{label.name} {label.tail}".strip()


def _name(label: Label, other: Label) -> str:
    return f"{label.name} {label.tail}" if label.name == other.name else label.name


def change_html(change: Regression, labels: Mapping[str, Label]) -> str:
    """What came of a comparison with an earlier run.

    Args:
        labels: By the columns' keys.
    """
    counted = regression_words(change) if change.compared else msg("The two runs have no prompt in common.")
    lines = "".join(
        f"<li>{pair_html(msg('{model} now against then', model=_whole_name(labels[name])), test)}</li>"
        for name, test in change.tests.items()
    )
    notes = []
    if change.unmatched:
        models = [_whole_name(labels[key]) for key in change.unmatched]
        notes.append(msg("The earlier run does not have {models}.", models=models))
    if change.otherwise:
        models = [_whole_name(labels[key]) for key in change.otherwise]
        notes.append(msg("Asked with other parameters then: {models}.", models=models))
    missing = "".join(f'<p class="note">{esc(note)}</p>' for note in notes)
    kind = "is-worse" if change.worse else "is-same"
    return (
        f'<div class="suite-against"><p class="{kind}" data-say="status"><strong>{esc(counted)}</strong></p>'
        f'<ul class="suite-pairs">{lines}</ul>{missing}</div>'
    )
