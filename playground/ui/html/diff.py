"""What "Token by token" and "Replay" say, as HTML. Pure: values in, HTML out; every text a model made is escaped."""

from __future__ import annotations

from collections.abc import Sequence

from playground.experiments.diff import Side, VariantDiff
from playground.experiments.progress import Snapshot
from playground.experiments.replay import Change, ModelReplay, Replay
from playground.experiments.teacher_forcing import Choice, Forced, Position
from playground.experiments.token_diff import Difference, Token
from playground.messages import clauses, msg, plural
from playground.results.figures import FIGURES
from playground.ui.html import growing, provenance, tables
from playground.ui.html.format import FINISHED, NOTHING, count, esc, megabytes, percent, rate, seconds
from playground.ui.html.panel import Label
from playground.ui.i18n import say

SHOWN_FLIPS = 12
"""Rows of the table of flips before the rest is folded away."""
FLIP_HEADS = (msg("In the text"), msg("Reference"), msg("Candidate"), msg("KL, nats"))


def progress_html(at: Snapshot) -> str:
    """What is being done, while it is."""
    share = "" if at.progress is None else f" · {at.progress * 100:.0f} %"
    return f'<p class="hint" data-say="status">{esc(at.step)}{share}</p>'


def lives_html(at: Snapshot, labels: tuple[Label, ...]) -> str:
    """The two answers while they come."""
    panels = [growing.growing(live, label).html for live, label in zip(at.lives, labels, strict=False)]
    return f'<div class="columns">{"".join(panels)}</div>' if panels else ""


# -- diff -------------------------------------------------------------------------------------------------------


def diff_html(diff: VariantDiff, labels: tuple[Label, ...]) -> str:
    """A finished diff."""
    flips = frozenset(diff.answer.flips)
    sides = [
        _side(side, label, diff.difference, diff.answer.positions if label is labels[0] else (), flips)
        for side, label in zip((diff.reference, diff.candidate), labels, strict=True)
    ]
    notes = "".join(f'<p class="note warn">{esc(note)}</p>' for note in diff.notes)
    prompt = "" if diff.prompt is None else _forced(diff.prompt, prompt=True)
    return (
        _tiles(diff)
        + f'<div class="columns">{"".join(sides)}</div>'
        + f'<p class="note"><mark class="parts">{esc(msg("first token that differs"))}</mark> · '
        f'<mark class="flips">{esc(msg("the candidate would have chosen another token here"))}</mark></p>'
        + _parting(diff, labels)
        + _forced(diff.answer, prompt=False)
        + prompt
        + _figures(diff, labels)
        + notes
    )


def _tiles(diff: VariantDiff) -> str:
    answer, found = diff.answer, diff.difference
    n = len(answer.positions)
    parted = msg("token {n:,}", n=found.position + 1) if found else msg("none")
    perplexity = f"{answer.reference_perplexity:.3f} → {answer.candidate_perplexity:.3f}"
    tiles = (
        (msg("First difference"), parted, plural("{n:,} token alike", "{n:,} tokens alike", n=diff.common_tokens)),
        (
            msg("Top-1 flips"),
            msg("{flips:,} of {n:,}", flips=len(answer.flips), n=n),
            percent(len(answer.flips) / n),
        ),
        (msg("Mean KL"), f"{answer.mean_kl:.3g}", msg("nats a token, KL(reference ‖ candidate)")),
        (msg("Perplexity"), perplexity, msg("on the reference’s own answer, which favours it")),
    )
    drawn = "".join(
        f"<div><dt>{esc(name)}</dt><dd>{esc(value)}<small>{esc(small)}</small></dd></div>"
        for name, value, small in tiles
    )
    return f'<dl class="tiles">{drawn}</dl>'


def _side(
    side: Side, label: Label, found: Difference | None, positions: Sequence[Position], flips: frozenset[int]
) -> str:
    body = "".join(
        _piece(
            piece,
            parts=found is not None and place == found.position,
            flip=positions[place] if place < len(positions) and place in flips else None,
        )
        for place, piece in enumerate(side.pieces)
    )
    what = say(msg("candidate") if label.position else msg("reference"))
    return (
        f'<article class="panel series-{label.position}" aria-label="{esc(what)}: {esc(label.name)} {esc(label.tail)}">'
        f"<header><h3>{esc(label.name)}</h3><code>{esc(label.tail)}</code>"
        f'<span class="tag">{esc(what)}</span></header><p class="state">{esc(FINISHED[side.run.finish_reason])}</p>'
        f'<div class="answer pieces" dir="auto">{body}</div></article>'
    )


def _piece(piece: str, *, parts: bool, flip: Position | None) -> str:
    shown = esc(piece)
    # A token without a text of its own (an end of turn, a part of a character) still has to be seen where it counts.
    if parts:
        return f'<mark class="parts">{shown or "▯"}</mark>'
    if flip is not None:
        said = msg(
            "candidate: {token} {share}",
            token=_quoted(flip.candidate.text),
            share=percent(flip.candidate.probability),
        )
        return f'<mark class="flips" title="{esc(said)}">{shown or "▯"}</mark>'
    return shown


def _parting(diff: VariantDiff, labels: tuple[Label, ...]) -> str:
    found = diff.difference
    if found is None:
        return _note(
            plural(
                "Both gave the same answer, {n:,} token.",
                "Both gave the same answer, {n:,} tokens.",
                diff.common_tokens,
            )
        )
    if diff.divergence is None:
        ended = labels[0 if found.one.id < 0 else 1]
        return _note(msg("There the answer of {model} {variant} had ended.", model=ended.name, variant=ended.tail))
    said = [_token(found.one), _token(found.other)]
    best = [_choices(diff.divergence.reference), _choices(diff.divergence.candidate)]
    rows = [
        (msg("Said"), msg("with its id in the vocabulary"), said),
        (msg("Likeliest there"), msg("softmax at temperature 1"), best),
    ]
    return tables.table(msg("At token {n:,}", n=found.position + 1), rows, labels)


def _choices(choices: Sequence[Choice]) -> str:
    drawn = "".join(
        f"<li><span>{_code(choice.text)} <small>{choice.id}</small></span><b>{percent(choice.probability)}</b>"
        f'<span class="track"><span style="width:{choice.probability * 100:.1f}%"></span></span></li>'
        for choice in choices
    )
    return f'<ul class="chances">{drawn}</ul>'


def _forced(forced: Forced, *, prompt: bool) -> str:
    n = len(forced.positions)
    along = plural(
        "Both forced along the reference’s answer: {n:,} token",
        "Both forced along the reference’s answer: {n:,} tokens",
        n,
    )
    if prompt:
        along = plural("Both forced along the prompt: {n:,} token", "Both forced along the prompt: {n:,} tokens", n)
    parts = [along]
    if forced.total > n:
        parts.append(msg("of {total:,}: more logits would not fit on the disk", total=forced.total))
    if prompt:
        parts.append(plural("{n:,} top-1 flip", "{n:,} top-1 flips", len(forced.flips)))
        parts.append(msg("mean KL {kl:.3g} nats", kl=forced.mean_kl))
        parts.append(
            msg(
                "perplexity {reference:.2f} → {candidate:.2f}",
                reference=forced.reference_perplexity,
                candidate=forced.candidate_perplexity,
            )
        )
    return f'<h3 class="below">{esc(clauses(*parts))}</h3>{_strip(forced)}{_flips(forced)}'


def _strip(forced: Forced) -> str:
    """KL token by token, as bars; their height is relative to the largest."""
    most = max(at.kl for at in forced.positions)
    if most <= 0:
        return _note(msg("The two distributions are equal at every token."))
    flips = frozenset(forced.flips)
    bars = "".join(
        f'<i class="{"flips" if place in flips else ""}" style="height:{max(2.0, at.kl / most * 100):.1f}%" '
        f'title="{esc(_bar_words(place, at))}"></i>'
        for place, at in enumerate(forced.positions)
    )
    words = esc(msg("KL divergence by token, at most {most:.3g} nats; flips stand out", most=most))
    picture = f'<div role="img" aria-label="{words}">{bars}</div>'
    return f'<figure class="strip">{picture}<figcaption>{words}</figcaption></figure>'


def _bar_words(place: int, at: Position) -> str:
    return msg("{n:,}: {token} {kl:.3g} nats", n=place + 1, token=_quoted(at.token.text), kl=at.kl)


def _flips(forced: Forced) -> str:
    if not forced.flips:
        return _note(msg("At every token both hold the same one for the likeliest."))
    rows = [_flip(place, forced.positions[place]) for place in forced.flips]
    head = "".join(f'<th scope="col">{esc(name)}</th>' for name in (msg("Token"), *FLIP_HEADS))

    def table(part: Sequence[str]) -> str:
        return f'<table class="facts"><thead><tr>{head}</tr></thead><tbody>{"".join(part)}</tbody></table>'

    rest = rows[SHOWN_FLIPS:]
    folded = (
        f'<details class="rest"><summary>{esc(msg("{n:,} more", n=len(rest)))}</summary>{table(rest)}</details>'
        if rest
        else ""
    )
    return table(rows[:SHOWN_FLIPS]) + folded


def _flip(place: int, at: Position) -> str:
    cells = (
        _code(at.token.text),
        f"{_code(at.reference.text)} {percent(at.reference.probability)}",
        f"{_code(at.candidate.text)} {percent(at.candidate.probability)}",
        f"{at.kl:.3g}",
    )
    drawn = "".join(f'<td data-model="{esc(name)}">{cell}</td>' for name, cell in zip(FLIP_HEADS, cells, strict=True))
    return f'<tr><th scope="row">{place + 1:,}</th>{drawn}</tr>'


def _figures(diff: VariantDiff, labels: tuple[Label, ...]) -> str:
    sides = (diff.reference, diff.candidate)
    runs = [side.run for side in sides]
    memory = FIGURES["peak_memory_mb"]
    checks = [esc(provenance.fidelity_words(run.fidelity)) if run.fidelity else NOTHING for run in runs]
    rows = [
        (msg("Ran on"), "", [esc(provenance.way_words(run)) for run in runs]),
        (FIGURES["decode_tok_s"].title, msg("one run each"), [rate(run.timings.decode_tok_s) for run in runs]),
        (
            FIGURES["ttft_s"].title,
            msg("one run each, model loaded before"),
            [seconds(run.timings.ttft_s) for run in runs],
        ),
        (memory.title, memory.brief, [megabytes(run.timings.peak_memory_mb) for run in runs]),
        (msg("On disk"), "", [megabytes(side.size_bytes / 1e6 or None) for side in sides]),
        (msg("Export check"), msg("against the original, on a fixed text"), checks),
    ]
    return tables.table(msg("What each costs"), rows, labels) + _note(
        msg("One run says little about speed: Measure repeats it and says what varies.")
    )


def _note(text: str) -> str:
    return f'<p class="note">{esc(text)}</p>'


def _token(token: Token) -> str:
    return f"{_code(token.text)} <small>{token.id}</small>"


def _code(text: str) -> str:
    return f"<code>{esc(_quoted(text))}</code>"


def _quoted(text: str) -> str:
    """A token so that spaces and line breaks are seen."""
    return text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥") or "▯"


# -- replay ----------------------------------------------------------------------------------------------------


VERDICTS = {"identical": msg("identical"), "different": msg("different"), "unknown": msg("can’t be told")}
THEN, NOW = msg("then"), msg("now")


def replay_html(report: Replay, labels: tuple[Label, ...]) -> str:
    """The verdict for each model, and what has changed since."""
    models = "".join(_model(model, label) for model, label in zip(report.models, labels, strict=True))
    changed = msg("Changed since then:") if report.changes else msg("Machine and software are as they were.")
    return (
        f'<section class="replay"><h3 class="below">{esc(msg("Replay"))}</h3><ul class="verdict-list">{models}</ul>'
        f"{_note(changed)}{_changes(report.changes)}</section>"
    )


def _model(model: ModelReplay, label: Label) -> str:
    unit = "token" if model.compared == "tokens" else "character"
    badge = {"identical": "is-eligible", "different": "is-out", "unknown": "is-undecided"}[model.verdict]
    body = count(model.count, unit) if model.verdict == "identical" else ""
    if found := model.difference:
        body = f"{esc(msg('{n} alike, then:', n=count(found.position, found.unit)))}{_then(found)}"
    detail = f'<p class="note">{esc(model.detail)}</p>' if model.detail else ""
    verdict = f'<span class="badge {badge}">{esc(VERDICTS[model.verdict])}</span>'
    return (
        f"<li><strong>{esc(label.name)}</strong> <code>{esc(label.tail)}</code> "
        f"{verdict} {body}{detail}{_changes(model.changes)}</li>"
    )


def _then(found: Difference) -> str:
    drawn = ""
    for when, token, after in ((THEN, found.one, found.one_after), (NOW, found.other, found.other_after)):
        number = f" <small>{token.id}</small>" if token.id >= 0 else ""
        shown = _code(token.text) if token.text else esc(msg("the answer has ended"))
        drawn += (
            f"<dt>{esc(when)}</dt><dd>{shown}{number}<br>…{esc(found.before)}"
            f'<mark class="parts">{esc(token.text)}</mark>{esc(after)}</dd>'
        )
    return f'<dl class="then">{drawn}</dl>'


def _changes(changes: Sequence[Change]) -> str:
    if not changes:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{esc(change.what)}</th><td data-model="{esc(THEN)}">{esc(change.was) or NOTHING}</td>'
        f'<td data-model="{esc(NOW)}">{esc(change.now) or NOTHING}</td></tr>'
        for change in changes
    )
    heads = "".join(f'<th scope="col">{esc(when)}</th>' for when in (THEN, NOW))
    return f'<table class="facts"><thead><tr><td></td>{heads}</tr></thead><tbody>{rows}</tbody></table>'
