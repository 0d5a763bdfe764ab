"""What answers differ in, by words, and which say the same, as HTML. Pure: values in, HTML out.

Each pair is drawn once as two texts that both hold what was left out and what was added. The style sheet shows the
first with both (inline), or hides in each what is the other's (side by side): changing the view asks nobody.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from playground.messages import Translatable, msg, plural
from playground.results.text_diff import Agreement, Piece, TextDiff, agreement, text_diff
from playground.ui.html.format import esc
from playground.ui.html.panel import Label

_ENDS = re.compile(r"(\s*)(.*?)(\s*)", re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """One column's answer.

    Attributes:
        text: As far as it goes, without what the model thought before it.
        whole: Whether the model has ended it.
    """

    label: Label
    text: str
    whole: bool = True


def name(label: Label) -> str:
    """A column as its reader knows it: its place, its model, its variant."""
    return " ".join(part for part in (f"{label.position + 1} ·", label.name, label.tail) if part)


def empty_html() -> str:
    """Before there are two answers."""
    head, words = msg("Nothing to compare yet"), msg("Two answers are needed: run a prompt with at least two models.")
    return f'<div class="empty"><h3>{esc(head)}</h3><p>{esc(words)}</p></div>'


def differences_html(answers: Sequence[Answer], prompt: str, reference: int, other: int | None) -> str:
    """Which of the answers say the same, then the differences of one from the reference, or of all.

    Args:
        answers: Those of the columns that have any, in order.
        prompt: What they answer.
        reference: Place of the reference among the answers.
        other: Place of the one that is compared with it; None for all others.
    """
    if len(answers) < 2:
        return empty_html()
    first = answers[reference]
    rest = [answers[other]] if other is not None else [each for each in answers if each is not first]
    pairs = "".join(pair_html(first, each) for each in rest)
    return f"{agreement_html(answers, prompt)}{_key()}{pairs}"


# -- which say the same -----------------------------------------------------------------------------------------------


def agreement_html(answers: Sequence[Answer], prompt: str) -> str:
    """The groups, how that was found out, and each answer's likeness to each."""
    found = agreement([answer.text for answer in answers], prompt)
    groups = "".join(f"<li>{_group(answers, group)}</li>" for group in found.groups)
    partly = [name(answer.label) for answer in answers if not answer.whole]
    note = f'<p class="note">{esc(_partly(partly))}</p>' if partly else ""
    return (
        f'<section class="agreement"><h3 class="below">{esc(_headline(found, len(answers)))}</h3>'
        f'<ul class="groups">{groups}</ul><p class="note">{esc(measure(found))}</p>{note}'
        f"{_table(answers, found)}</section>"
    )


def measure(found: Agreement) -> Translatable:
    """How it was found out which say the same, in one sentence."""
    if found.by_final_answer:
        return msg(
            "Two answers count as the same where {share:.0%} of their words agree (twice those in both, by those of "
            "each, without the prompt’s words), or of their final answers’ words where both name one: this is likeness "
            "of words, and says nothing of what is true.",
            share=found.at,
        )
    return msg(
        "Two answers count as the same where {share:.0%} of their words agree (twice those in both, by those of each, "
        "without the prompt’s words): this is likeness of words, and says nothing of what is true.",
        share=found.at,
    )


def _headline(found: Agreement, n: int) -> Translatable:
    if len(found.groups) == 1:
        return msg("All {n} answers say the same", n=n)
    if len(found.groups) == n:
        return msg("Each answer says something else")
    return msg("The {n} answers say {groups} different things", n=n, groups=len(found.groups))


def _group(answers: Sequence[Answer], group: Sequence[int]) -> str:
    members = "".join(_chip(answers[place].label) for place in group)
    said = plural("Alone:", "{n} say the same:", n=len(group))
    return f"<span>{esc(said)}</span> {members}"


def _chip(label: Label) -> str:
    return (
        f'<span class="chip series-{label.position}"><i class="swatch" aria-hidden="true"></i>{esc(name(label))}</span>'
    )


def _partly(names: Sequence[str]) -> Translatable:
    return plural(
        "Still being written, compared as far as it goes: {names}.",
        "Still being written, compared as far as they go: {names}.",
        n=len(names),
        names=list(names),
    )


def _table(answers: Sequence[Answer], found: Agreement) -> str:
    heads = "".join(f'<th scope="col">{_chip(answer.label)}</th>' for answer in answers)
    rows = "".join(_row(answers, found, place) for place in range(len(answers)))
    return (
        f'<table class="facts likeness"><caption>{esc(msg("Likeness of words"))}</caption>'
        f"<thead><tr><td></td>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _row(answers: Sequence[Answer], found: Agreement, place: int) -> str:
    cells = ""
    for other, answer in enumerate(answers):
        share = found.similarity[place][other]
        if other == place:
            shown = '<span aria-hidden="true">–</span>'
        elif share >= found.at:
            shown = f"<b>{share:.0%}</b> <small>{esc(msg('the same'))}</small>"
        else:
            shown = f"{share:.0%}"
        cells += f'<td data-model="{esc(name(answer.label))}">{shown}</td>'
    return f'<tr><th scope="row">{_chip(answers[place].label)}</th>{cells}</tr>'


# -- one pair --------------------------------------------------------------------------------------------------------


def pair_html(reference: Answer, other: Answer) -> str:
    """Both texts with what differs, and how much that is."""
    diff = text_diff(reference.text, other.text)
    names = {"reference": name(reference.label), "other": name(other.label)}
    title = msg("{reference} and {other}", **names)
    # Of two copies of one text the second is for the eye alone, where it is shown at all.
    sides = "".join(
        f'<section class="side {side} series-{answer.label.position}" aria-label="{esc(name(answer.label))}">'
        f"<h4>{_chip(answer.label)}</h4>"
        f'<div class="words" dir="auto">{_pieces(diff.pieces, right=side == "right")}</div></section>'
        for side, answer in (("left", reference), ("right", other))
    )
    cut = f'<p class="note">{esc(msg("The texts are too long to be compared to their ends."))}</p>' if diff.cut else ""
    return (
        f'<article class="pair" aria-label="{esc(title)}"><h3 class="below both">{_chip(reference.label)} '
        f'<span aria-hidden="true">↔</span> {_chip(other.label)}</h3>'
        f'<p class="note">{esc(summary(diff))}</p>{cut}<div class="sides">{sides}</div></article>'
    )


def summary(diff: TextDiff) -> Translatable:
    """How many words are the first's alone, the second's alone, and of both."""
    if diff.same:
        return msg("The same text, word by word.")
    return msg(
        "{common} in both, in the same order · {removed} only in the first · {added} only in the second",
        common=plural("{n:,} word", "{n:,} words", n=diff.common),
        removed=f"{diff.removed:,}",
        added=f"{diff.added:,}",
    )


def _pieces(pieces: Sequence[Piece], *, right: bool) -> str:
    drawn = ""
    for piece in pieces:
        if piece.alike:
            drawn += esc(piece.right if right else piece.left)
        else:
            drawn += _marked("del", piece.left) + _marked("ins", piece.right)
    return drawn


def _marked(tag: str, text: str) -> str:
    """``text`` in a tag, with the white space around it outside: no line is drawn through it, and paragraphs stay."""
    if not text:
        return ""
    match = _ENDS.fullmatch(text)
    assert match
    before, inner, behind = match.groups()
    return f"{_gap(tag, before)}<{tag}>{esc(inner)}</{tag}>{_gap(tag, behind)}"


def _gap(tag: str, space: str) -> str:
    return f'<span class="of-{tag}">{space}</span>' if space else ""


def _key() -> str:
    """What the marks mean."""
    return (
        f'<p class="note key"><del>{esc(msg("only in the first"))}</del> · '
        f"<ins>{esc(msg('only in the second'))}</ins></p>"
    )
