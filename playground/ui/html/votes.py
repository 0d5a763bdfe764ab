"""What is seen of blind votes: the bar to vote with, what was voted, and the table of ratings with its intervals.

The bar knows letters and an id, never a model; who draws it gives it nothing else.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence

from playground.messages import Translatable, clauses, msg, plural
from playground.records import Comparison
from playground.results.blind import LETTERS, answered
from playground.results.ratings import LEAST_VOTES, SAMPLES, Rating, Ratings
from playground.results.votes import NOTE_CHARS, TAG_CHARS, Vote
from playground.ui.html.format import NOTHING, esc

TAGS: tuple[tuple[str, Translatable], ...] = (
    ("facts", msg("facts")),
    ("writing", msg("writing")),
    ("code", msg("code")),
    ("reasoning", msg("reasoning")),
    ("translation", msg("translation")),
    ("instructions", msg("instructions")),
)
"""Kinds of prompts that are proposed; any other word will do. Kept in English, shown in the reader's language."""


def bar_html(comparison: Comparison, tags: Sequence[str] = (), problem: str = "") -> str:
    """The question with its answers, for a blind comparison that has ended.

    Args:
        tags: Those the voter has used before.
        problem: Why the last try was no vote.
    """
    places = [column for column, run in enumerate(comparison.runs) if answered(run)]
    buttons = [_choice(str(place), _best_words(place, len(places))) for place in places]
    none = msg("Both bad") if len(places) == 2 else msg("All bad")
    buttons += [_choice("tie", msg("Tie: equally good")), _choice("bad", none)]
    numbered = "".join(button(number) for number, button in enumerate(buttons, start=1))
    warning = f'<p class="problem" data-say="alert">{esc(problem)}</p>' if problem else ""
    return (
        f'<section class="vote" data-vote-on="{esc(comparison.id)}" aria-label="{esc(msg("Your vote"))}">'
        f'<p class="vote-ask"><strong>{esc(msg("Which answer is best?"))}</strong> '
        f"<small>{esc(HIDDEN)}</small></p>{warning}"
        f'<div class="vote-buttons" role="group" aria-label="{esc(msg("Your vote"))}">{numbered}</div>'
        f"{_extras(tags)}</section>"
    )


HIDDEN = msg(
    "Names, speed and figures come after the vote. What an answer says of itself, or how it thinks aloud, can't be "
    "hidden."
)


def waiting_html() -> str:
    """In the bar's place while the models answer."""
    words = msg("Blind: the columns are in an order of chance, and all answers appear at once. Then you vote.")
    return f'<p class="note vote-note">{esc(words)}</p>'


def others_html() -> str:
    """For who looks at somebody else's blind comparison."""
    return f'<p class="note vote-note">{esc(msg("Blind: names and figures appear when its owner has voted."))}</p>'


def voted_html(vote: Vote, names: Sequence[str], tags: Sequence[str] = (), problem: str = "") -> str:
    """What was voted, once the names are known; tag and note can still be written.

    Args:
        names: Of each column.
    """
    if vote.outcome == "best" and vote.best is not None:
        told = msg("You chose {letter}: {model}.", letter=LETTERS[vote.best], model=names[vote.best])
    elif vote.outcome == "tie":
        told = msg("You called it a tie.")
    else:
        told = msg("You called none of them good.")
    who = _who(names)
    warning = f'<p class="problem" data-say="alert">{esc(problem)}</p>' if problem else ""
    keep = _choice("same", msg("Save tag and note"))(0)
    return (
        f'<section class="vote is-cast" data-vote-on="{esc(vote.comparison)}" aria-label="{esc(msg("Your vote"))}">'
        f'<p class="vote-ask"><strong>{esc(told)}</strong> <small>{esc(who)}</small></p>{warning}'
        f"{_extras(tags, vote.tag, vote.note)}{keep}</section>"
    )


def revealed_html(names: Sequence[str]) -> str:
    """For who looks at a comparison that somebody else has voted on: what was voted, and why, is the voter's own."""
    return f'<p class="note vote-note">{esc(_who(names))}</p>'


def _who(names: Sequence[str]) -> Translatable:
    return clauses(*(msg("{letter} is {model}", letter=LETTERS[place], model=name) for place, name in enumerate(names)))


def _best_words(place: int, columns: int) -> Translatable:
    if columns == 2:
        return msg("{letter} is better", letter=LETTERS[place])
    return msg("{letter} is best", letter=LETTERS[place])


def _choice(value: str, words: str) -> Callable[[int], str]:
    """A button, once its number on the keyboard is known; 0 for none."""

    def drawn(number: int) -> str:
        key = f' <kbd aria-hidden="true">{number}</kbd>' if 0 < number < 10 else ""
        keys = f' aria-keyshortcuts="{number}"' if key else ""
        return f'<button type="button" data-vote="{esc(value)}"{keys}>{esc(words)}{key}</button>'

    return drawn


def _extras(tags: Sequence[str], tag: str = "", note: str = "") -> str:
    own = [(each, each) for each in tags if each not in dict(TAGS)]
    options = "".join(f'<option value="{esc(value)}">{esc(words)}</option>' for value, words in (*TAGS, *own))
    return (
        f'<div class="vote-more"><label>{esc(msg("Kind of prompt"))} '
        f'<input type="text" data-vote-tag list="vote-tags" maxlength="{TAG_CHARS}" value="{esc(tag)}" '
        f'placeholder="{esc(msg("optional"))}"></label><datalist id="vote-tags">{options}</datalist>'
        f'<label class="vote-why">{esc(msg("Note"))} '
        f'<input type="text" data-vote-note maxlength="{NOTE_CHARS}" value="{esc(note)}" '
        f'placeholder="{esc(msg("why, for yourself"))}"></label></div>'
    )


# -- ratings ----------------------------------------------------------------------------------------------------------


def ratings_html(ratings: Ratings, name: Callable[[str], str], left_out: int = 0) -> str:
    """The table, a group of models that were compared at a time; what it can't say yet.

    Args:
        name: What a reader calls the model or variant.
        left_out: Votes that were changed when the names were known.
    """
    if not ratings.votes:
        return f'<p class="note">{esc(EMPTY)}</p>'
    parts = [f'<p class="note">{esc(_counted(ratings, left_out))}</p>']
    for place, group in enumerate(ratings.groups):
        if group[0].win_rate is None:
            continue
        parts.append(_group(group, place, name, several=sum(g[0].win_rate is not None for g in ratings.groups) > 1))
    alone = [rating for rating in ratings.models if rating.win_rate is None and rating.bad]
    if alone:
        words = msg("Only called bad, so not rated: {models}.", models=[name(rating.name) for rating in alone])
        parts.append(f'<p class="note">{esc(words)}</p>')
    return (
        "".join(parts) + f'<details class="how"><summary>{esc(msg("How this is reckoned"))}</summary>{_how()}</details>'
    )


EMPTY = msg(
    "No votes yet. Switch on Vote blind in Compare, run a prompt and say which answer is best. With fewer than {n} "
    "votes on two models even votes that all agree can't tell them apart.",
    n=LEAST_VOTES,
)


def _counted(ratings: Ratings, left_out: int) -> str:
    told = plural("{n} blind vote of yours", "{n} blind votes of yours", n=ratings.votes)
    bad = plural("{n} called every answer bad", "{n} called every answer bad", n=ratings.bad)
    changed = plural(
        "{n} was changed after the names were known and does not count",
        "{n} were changed after the names were known and do not count",
        n=left_out,
    )
    return clauses(told, *([bad] if ratings.bad else []), *([changed] if left_out else []))


def _group(group: Sequence[Rating], place: int, name: Callable[[str], str], *, several: bool) -> str:
    title = msg("Group {n}", n=place + 1) if several else msg("Your ratings")
    apart = msg("No chain of votes joins the groups: nothing is said of models of different ones.") if several else ""
    most = max(rating.votes for rating in group)
    few = (
        msg("Fewer than {n} votes: even if all agree, chance alone explains them.", n=LEAST_VOTES)
        if most < LEAST_VOTES
        else ""
    )
    notes = "".join(f'<p class="note">{esc(words)}</p>' for words in (few, apart if place == 0 else "") if words)
    heads = (
        msg("Model"),
        msg("Would win"),
        msg("95 % interval"),
        msg("Stronger than the next"),
        msg("Votes"),
        msg("Won, tied, lost"),
        msg("Called bad"),
    )
    head = "".join(f'<th scope="col">{esc(words)}</th>' for words in heads)
    rows = "".join(_row(rating, heads, name) for rating in group)
    return (
        f'{notes}<div class="scroll" tabindex="0" role="region" aria-label="{esc(title)}">'
        f'<table class="facts listing ratings"><caption>{esc(title)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(rating: Rating, heads: Sequence[Translatable], name: Callable[[str], str]) -> str:
    assert rating.win_rate is not None and rating.low is not None and rating.high is not None
    over = NOTHING if rating.over_next is None else _share(rating.over_next)
    interval = msg("{low} to {high}", low=_share(rating.low), high=_share(rating.high))
    cells = (
        f'<span class="figure">{_share(rating.win_rate)}</span>',
        f"{_interval_svg(rating.low, rating.win_rate, rating.high)}<small>{esc(interval)}</small>",
        over,
        f"{rating.votes:,}",
        f"{rating.wins:,} · {rating.ties:,} · {rating.losses:,}",
        f"{rating.bad:,}",
    )
    drawn = "".join(f'<td data-model="{esc(t)}">{cell}</td>' for t, cell in zip(heads[1:], cells, strict=True))
    return f'<tr><th scope="row">{esc(name(rating.name))}<small>{esc(rating.name)}</small></th>{drawn}</tr>'


def _share(value: float) -> str:
    return f"{value * 100:.0f} %"


def _interval_svg(low: float, at: float, high: float) -> str:
    """The interval from 0 to 100 %, with a line at a half: who reaches over it may be no better than the others."""
    return (
        '<svg class="interval" viewBox="0 0 200 16" aria-hidden="true" focusable="false">'
        '<line class="axis" x1="0" y1="8" x2="200" y2="8"/><line class="half" x1="100" y1="1" x2="100" y2="15"/>'
        f'<line class="span" x1="{low * 200:.1f}" y1="8" x2="{high * 200:.1f}" y2="8"/>'
        f'<circle class="at" cx="{at * 200:.1f}" cy="8" r="4"/></svg>'
    )


def _how() -> str:
    words = (
        msg(
            "“Would win” is the share of votes a model is expected to win against another one of its table, ties "
            "counted as half: Bradley–Terry strengths with ties (Davidson 1970). Each model starts as if it had won "
            "once and lost once, so that one that was never beaten is not called perfect."
        ),
        msg(
            "The interval is a Bayesian bootstrap: {samples:,} times the votes, and that start, are weighed anew. It "
            "is wide while there are few votes, and so it should be.",
            samples=SAMPLES,
        ),
        msg(
            "A vote for the best of several counts as one choice, not as one against each. “All bad” is counted and "
            "moves no strength: as a tie it would draw the worse model up. These are your own votes on your own "
            "prompts, no benchmark."
        ),
    )
    return "".join(f'<p class="note">{esc(each)}</p>' for each in words)


def downloads_html(csv: str, jsonl: str) -> str:
    """Links that save the votes; empty where there are none."""
    if not jsonl:
        return ""
    links = "".join(
        f'<a class="button" download="votes.{ending}" href="data:{kind};charset=utf-8;base64,'
        f'{base64.b64encode(text.encode("utf-8", "replace")).decode()}">{esc(words)}</a> '
        for ending, kind, text, words in (
            ("csv", "text/csv", csv, msg("Save votes as CSV")),
            ("jsonl", "application/jsonl", jsonl, msg("Save votes as JSONL")),
        )
    )
    return f'<p class="vote-files">{links}<small>model_a, model_b, winner</small></p>'
