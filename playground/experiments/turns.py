"""Going on from a stored comparison: a reply, an earlier turn asked otherwise, one column again, an answer continued.

Each is a new comparison whose columns are asked anew or carried over as they are. Every model keeps a conversation of
its own: what it was asked, what it answered, and so on. The module makes requests of records; it runs nothing and does
not know the screen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from playground.errors import UsageError
from playground.messages import NOTHING, Translatable, msg, sentences
from playground.records import Column, Comparison, Message, Mode, ModelKind, ModelRun, Record, Request, Variant
from playground.results import thinking

CannotReply = Callable[[Variant], Translatable]
"""Says why a model can't be replied to; empty where it can."""


@dataclass(frozen=True)
class Turn:
    """A comparison that is to be begun; see ``Comparer.start``."""

    request: Request
    columns: tuple[Variant | Column | ModelRun, ...]
    mode: Mode
    parent: str = ""


@dataclass(frozen=True)
class ContextUse(Record):
    """How much of its context a column's conversation has taken, in tokens; ``left`` and ``length`` None if unknown."""

    used: int
    left: int | None
    length: int | None


# -- what can be done ---------------------------------------------------------------------------------------------


def why_no_reply(variant: Variant, kind: ModelKind) -> Translatable:
    """Why a model of that kind can't be replied to; empty where it can."""
    if kind == "base":
        return msg(
            "{model} is a base model: it continues a text and has not learnt to take turns, so it can't be replied to.",
            model=variant,
        )
    if kind == "text2text":
        return msg(
            "{model} turns one text into another and reads no conversation, so it can't be replied to.", model=variant
        )
    return NOTHING


def cannot_be_answered(run: ModelRun, cannot_reply: CannotReply) -> Translatable:
    """Why this run can't be replied to; empty where it can."""
    if why := cannot_reply(run.variant):
        return why
    if run.error:
        return msg("{model} failed, so there is no answer of its own to reply to.", model=run.variant)
    if not run.text.strip():
        return msg("{model} has given no text to reply to.", model=run.variant)
    if not said(run).strip():
        return msg(
            "{model} was still thinking when its answer ended, so there is nothing to reply to: let it go on first.",
            model=run.variant,
        )
    return NOTHING


def cannot_go_on(run: ModelRun) -> Translatable:
    """Why this answer can't be continued at its end; empty where it can."""
    if why := _no_tokens(run):
        return why
    if run.finish_reason == "stop":
        return msg("{model} ended its answer by itself.", model=run.variant)
    return NOTHING


def _no_tokens(run: ModelRun) -> Translatable:
    if run.error:
        return msg("{model} failed.", model=run.variant)
    if run.token_ids is None:
        return msg("The tokens of this answer of {model} are not known, so it can't be continued.", model=run.variant)
    if not run.token_ids:
        return msg("{model} had not begun its answer.", model=run.variant)
    return NOTHING


def context_use(run: ModelRun, context_length: int) -> ContextUse | None:
    """How full the context is after this run; None where its tokens were not counted."""
    read, written = run.timings.prompt_tokens, run.timings.output_tokens
    if read is None or written is None or run.timings.unit != "token":
        return None
    if not context_length:
        return ContextUse(read + written, None, None)
    return ContextUse(read + written, max(0, context_length - read - written), context_length)


# -- conversations ------------------------------------------------------------------------------------------------


def said(run: ModelRun) -> str:
    """The answer without the thinking before it: chat templates leave that out of earlier turns, too."""
    return thinking.parts(run.text)[1]


def conversation(request: Request) -> tuple[Message, ...]:
    """What was asked, as messages."""
    return request.messages or (Message("user", request.prompt),)


def user_turns(request: Request) -> list[int]:
    """Where in ``conversation`` the user speaks."""
    return [place for place, message in enumerate(conversation(request)) if message.role == "user"]


def reply(stored: Comparison, text: str, columns: Sequence[int] | None, cannot_reply: CannotReply) -> Turn:
    """A new message of the user to each model in its own conversation.

    Args:
        columns: Who is replied to; None for all who can be.

    Raises:
        UsageError: One of them can't be replied to, or none can.
    """
    why = [cannot_be_answered(run, cannot_reply) for run in stored.runs]
    chosen = _chosen(stored, columns, why)

    def asked(place: int) -> Request:
        before = stored.asked(place)
        answered = Message("assistant", said(stored.runs[place]))
        return replace(before, messages=(*conversation(before), answered, Message("user", text)))

    return _anew(stored, text, {place: asked(place) for place in chosen})


def resend(stored: Comparison, turn: int, text: str, columns: Sequence[int] | None, cannot_reply: CannotReply) -> Turn:
    """An earlier message of the user asked otherwise; what came after it is dropped.

    Args:
        turn: 0 for the first message of the user.
        columns: Whose conversation it is; None for all that are as long.

    Raises:
        UsageError: One of them has no such turn, or none has.
    """
    if turn < 0:
        raise UsageError(msg("There is no turn {number}", number=turn + 1), msg("Turns are counted from 1."))
    why = []
    for place, run in enumerate(stored.runs):
        short = turn >= len(user_turns(stored.asked(place)))
        gone = msg("The conversation with {model} has no turn {number}.", model=run.variant, number=turn + 1)
        why.append(gone if short else (cannot_reply(run.variant) if turn else NOTHING))
    chosen = _chosen(stored, columns, why)

    def asked(place: int) -> Request:
        before = stored.asked(place)
        kept = conversation(before)[: user_turns(before)[turn]]
        return replace(before, messages=(*kept, Message("user", text)) if kept else ())

    return _anew(stored, text, {place: asked(place) for place in chosen})


def again(stored: Comparison, column: int, request: Request | None) -> Turn:
    """One column anew, from the beginning of its answer.

    Args:
        request: What it is asked now; None for the same as before.

    Raises:
        UsageError: There is no such column.
    """
    run = _run(stored, column)
    asked = request or replace(stored.asked(column), answer_ids=(), reuse=stored.request.reuse)
    return _with_column(stored, column, Column(run.variant, asked))


def go_on(stored: Comparison, column: int, at: int | None, token: int | None, *, reuse: bool) -> Turn:
    """One answer continued: at its end, or from one of its tokens with another one in its place.

    Args:
        at: How many of its tokens stay; None for all.
        token: The token that comes then; None to let the model choose.
        reuse: Whether the model may go on from its cache.

    Raises:
        UsageError: It can't be continued, or not there.
    """
    run = _run(stored, column)
    if why := _no_tokens(run) if at is not None else cannot_go_on(run):
        raise UsageError(why, msg("Ask the model again instead."))
    ids = run.token_ids or ()
    most = len(ids) - (run.finish_reason == "stop" and at is not None and token is None)
    if at is not None and not 0 <= at <= most:
        raise UsageError(
            msg("The answer of {model} has no token {number} to go on from", model=run.variant, number=at),
            msg("It has {n:,} tokens.", n=len(ids)),
        )
    begin = ids[:at] + (() if token is None else (token,))
    asked = replace(stored.asked(column), answer_ids=begin, reuse=reuse)
    return _with_column(stored, column, Column(run.variant, asked))


# -- columns --------------------------------------------------------------------------------------------------------


def carried(stored: Comparison, column: int) -> ModelRun:
    """A run as it stands in a later comparison: with its own request, and where it was taken."""
    run = stored.runs[column]
    return replace(run, request=stored.asked(column), taken_in=run.taken_in or stored.id)


def _anew(stored: Comparison, text: str, asked: dict[int, Request]) -> Turn:
    """The comparison in which these columns are asked ``text``, in conversations of their own, and the others stay."""
    shared = replace(stored.request, prompt=text, messages=(), answer_ids=())
    columns: list[Column | ModelRun] = []
    for place, run in enumerate(stored.runs):
        if place not in asked:
            columns.append(carried(stored, place))
            continue
        own = replace(asked[place], answer_ids=(), reuse=shared.reuse)
        own = replace(own, prompt="" if own.messages else text)
        columns.append(Column(run.variant, own))
    return Turn(shared, tuple(columns), stored.mode, stored.id)


def _with_column(stored: Comparison, column: int, new: Column) -> Turn:
    columns = [new if place == column else carried(stored, place) for place in range(len(stored.runs))]
    return Turn(stored.request, tuple(columns), stored.mode, stored.id)


def _run(stored: Comparison, column: int) -> ModelRun:
    if not 0 <= column < len(stored.runs):
        raise UsageError(
            msg("There is no column {number}", number=column + 1),
            msg("{id} has {n} columns, counted from 1.", id=stored.id, n=len(stored.runs)),
        )
    return stored.runs[column]


def _chosen(stored: Comparison, columns: Sequence[int] | None, why: Sequence[Translatable]) -> list[int]:
    """The columns that are asked, by ``why`` each of them can't be."""
    if columns is None:
        chosen = [place for place, reason in enumerate(why) if not reason]
        if not chosen:
            raise UsageError(sentences(*why), msg("Ask something new instead."))
        return chosen
    if not columns:
        raise UsageError(msg("No column is chosen"), msg("Choose at least one."))
    for place in columns:
        _run(stored, place)
        if why[place]:
            raise UsageError(why[place], msg("Ask something new instead, or leave this column out."))
    return sorted(set(columns))
