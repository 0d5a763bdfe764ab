"""``/v1/completions``: texts and token ids read as they stand, or scored where ``echo`` and ``logprobs`` meet.

https://platform.openai.com/docs/api-reference/completions. lm-eval's ``local-completions`` asks for log-likelihoods by
``echo``, ``logprobs: 1`` and ``max_tokens: 1``: then all prompts are scored in one go, and the one token behind each is
the likeliest after its last, which the same reading tells. It knows shapes; it does not know connections.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from playground.api import parameters, shapes
from playground.api.answering import Asker, Choice, Piece, answers
from playground.api.errors import wrong
from playground.api.flow import Gone
from playground.api.schema import MOST_CHOICES, CompletionBody
from playground.api.spelling import by_number, of_completion, offsets
from playground.config.settings import Settings
from playground.errors import Stopped
from playground.messages import msg
from playground.records import ModelRun, Request, Timings, TokenLogprob, Variant

MOST_SCORED = 1024
"""Prompts of one call that is answered by scoring alone."""
MOST_SHOWN = 2_000_000
"""Tokens of prompts in one answer, each as often as choices show it, alternatives counted: some hundred megabytes."""


@dataclass(frozen=True)
class Prompt:
    """One prompt as it was sent, a text or ids, and what it turned out to be.

    Attributes:
        logprobs: Of its tokens, where it was scored.
        pieces: What each token adds to the text.
    """

    text: str = ""
    ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    pieces: tuple[str, ...] = ()
    names: dict[int, str] = field(default_factory=dict)


def prompts(body: CompletionBody) -> list[Prompt]:
    """What is asked for, one each.

    Raises:
        ApiError: Nothing, or too much.
    """
    sent: Any = body.prompt
    if isinstance(sent, str) or (sent and isinstance(sent[0], int)):
        sent = [sent]
    if not sent:
        raise parameters.nothing("prompt", msg("prompt is empty"))
    most = MOST_SCORED if scores_alone(body) else MOST_CHOICES
    if len(sent) * body.n > most:
        what = msg("{n:,} choices are too many for one call", n=len(sent) * body.n)
        raise wrong("prompt", what, msg("Ask for at most {most:,}.", most=most))
    found = [Prompt(each) if isinstance(each, str) else Prompt(ids=tuple(each)) for each in sent]
    for place, prompt in enumerate(found):
        if not prompt.text and not prompt.ids:
            name = "prompt" if len(found) == 1 else f"prompt[{place}]"
            raise parameters.nothing(name, msg("{name} is empty", name=name))
    return found


def scores_alone(body: CompletionBody) -> bool:
    """Whether scoring the prompts answers all: no token is wanted behind them, or one that scoring tells by the way."""
    scored = body.echo and body.logprobs is not None
    plain = body.repetition_penalty == 1 and not body.stop and not body.response_format
    greedy = body.temperature == 0 and plain and not body.min_tokens
    return body.max_tokens == 0 or (scored and body.max_tokens == 1 and greedy)


def requests(body: CompletionBody, asked: Sequence[Prompt], settings: Settings) -> list[Request]:
    """One for each choice: all of the first prompt, then those of the next.

    Raises:
        ApiError: Parameters contradict each other.
    """
    if not body.max_tokens and not body.echo:
        what = msg("max_tokens is 0, and echo is off: there is nothing to answer")
        raise wrong("max_tokens", what, msg("Send 1 or more, or echo: true."))
    if body.logprobs_from and not (body.echo and body.logprobs is not None):
        what = msg("logprobs_from says where the figures of a scored prompt begin, and none is scored")
        raise wrong("logprobs_from", what, msg("Send echo: true and logprobs as well."))
    wanted = body.max_tokens
    if "max_tokens" not in body.model_fields_set:  # the protocol's default may be more than is allowed here
        wanted = min(wanted, settings.limits.max_new_tokens)
    common = Request(
        max_new_tokens=max(1, parameters.length(wanted, body.min_tokens, settings)),
        logprobs=body.logprobs,
        plain=True,
        **parameters.sampling(body, strangers=settings.strangers),
    )
    each = [replace(common, prompt=prompt.text, prompt_ids=prompt.ids) for prompt in asked]
    return [
        replace(request, seed=parameters.with_seed(body.seed, choice)) for request in each for choice in range(body.n)
    ]


def answered(
    asker: Asker, model: str, body: CompletionBody, asked: Sequence[Prompt], wanted: Sequence[Request]
) -> Iterator[Prompt | Piece | Choice]:
    """Each prompt as it was read, where ``echo`` shows it; then its choices. All prompts come first where they are
    scored together.

    Raises:
        ApiError, PlaygroundError: It can't be done.
        Gone: The client left.
    """
    variant = asker.playground.asked(model)
    try:
        alone = scores_alone(body)
        if body.echo:
            asked, behind = _read(asker, model, body, asked, alone)
        for place, prompt in enumerate(asked):
            if body.echo:
                yield prompt
            first, last = place * body.n, (place + 1) * body.n
            if not alone:
                yield from answers(asker, model, wanted[first:last], first)
                continue
            for number in range(first, last):
                choice = _scored(variant, body, prompt, behind[place], wanted[number], number)
                if choice.run.text:
                    yield Piece(number, choice.run.text)
                yield choice
    except Stopped:
        raise Gone from None


def _read(
    asker: Asker, model: str, body: CompletionBody, asked: Sequence[Prompt], alone: bool
) -> tuple[list[Prompt], list[Prompt]]:
    """The prompts with their ids, texts and figures; and, where scoring answers all, the token behind each of them."""
    playground, spelling, left = asker.playground, asker.spelling, asker.left
    nothing = [Prompt()] * len(asked)
    _check_shown(body, [each.ids or each.text for each in asked])
    asker.make_ready(model)
    if body.logprobs is None:
        with playground.asking(asker.owner, left, model):
            return [_with_text(each, spelling.pieces(model, each.ids, left)) for each in asked], nothing
    with playground.asking(asker.owner, left, model):
        ids = [each.ids or playground.encode(model, each.text, special=True, cancelled=left) for each in asked]
        _check_shown(body, ids)
        # One token more, whichever: what was likeliest in its place is the greedy answer.
        tail = (0,) if alone and body.max_tokens else ()
        top = max(body.logprobs, len(tail))
        texts = [(*each, *tail) for each in ids]
        scored = playground.score_tokens(
            model, texts, top=top, starts=body.logprobs_from, owner=asker.owner, cancelled=left
        )
        if body.logprobs_from:
            scored = [
                (*(TokenLogprob(id, None) for id in text[:start]), *row)
                for text, row, start in zip(texts, scored, body.logprobs_from, strict=True)
            ]
        best = [
            tuple(replace(each, id=each.top_ids[0], logprob=each.top_logprobs[0]) for each in row[len(own) :])
            for own, row in zip(ids, scored, strict=True)
        ]
        # The pieces first: with them come the names of the texts' own tokens.
        pieces = [
            spelling.pieces(model, (*own, *(each.id for each in after)), left)
            for own, after in zip(ids, best, strict=True)
        ]
        names = spelling.names(model, (each for row in scored for each in row), left)
    found, behind = [], []
    for prompt, own, row, after, whole in zip(asked, ids, scored, best, pieces, strict=True):
        kept = tuple(_cut(each, body.logprobs) for each in row[: len(own)])
        read = _with_text(prompt, whole[: len(own)])
        found.append(replace(read, ids=tuple(own), logprobs=kept, names=names))
        token, rest = tuple(_cut(each, body.logprobs) for each in after), whole[len(own) :]
        behind.append(Prompt("".join(rest), tuple(each.id for each in after), token, rest, names))
    return found, behind


def _check_shown(body: CompletionBody, prompts: Sequence[Sequence[Any]]) -> None:
    """
    Args:
        prompts: As ids; as a text where ids are not known yet, whose figures are counted when they are.

    Raises:
        ApiError: With ``n`` and ``logprobs`` the answer would be larger than any that is wanted.
    """
    shown = sum(len(each) * (1 if isinstance(each, str) else 1 + (body.logprobs or 0)) for each in prompts) * body.n
    if shown > MOST_SHOWN * (4 if isinstance(prompts[0], str) else 1):
        what = msg("The prompts, echoed, would be {n:,} tokens and figures", n=shown)
        raise wrong("prompt", what, msg("Ask for fewer at once, for fewer logprobs, or without echo."))


def _with_text(prompt: Prompt, pieces: tuple[str, ...]) -> Prompt:
    return replace(prompt, text=prompt.text or "".join(pieces), pieces=pieces)


def _cut(token: TokenLogprob, most: int) -> TokenLogprob:
    """With no more of the likeliest than were asked for."""
    return replace(token, top_ids=token.top_ids[:most], top_logprobs=token.top_logprobs[:most])


def _scored(  # noqa: PLR0917 (all of them make one run)
    variant: Variant, body: CompletionBody, prompt: Prompt, behind: Prompt, request: Request, number: int
) -> Choice:
    """A choice that scoring has answered. Nothing was timed token by token, so its run has counts alone."""
    taken = Timings(prompt_tokens=len(prompt.ids) or None, output_tokens=len(behind.ids))
    ended = body.max_tokens > 0 and not behind.text  # a control token: the model would have ended here
    run = ModelRun(
        variant,
        variant.runtime,
        variant.precision,
        behind.text,
        "stop" if ended else "length",
        timings=taken,
        token_ids=behind.ids,
        request=request,
        logprobs=behind.logprobs,
    )
    return Choice(number, run, behind.names, behind.pieces)


class CompletionShape:
    """One answer's shape, whole or in chunks."""

    def __init__(self, body: CompletionBody, model: str) -> None:
        self._body = body
        self._common: dict[str, Any] = {"id": f"cmpl-{secrets.token_hex(12)}", "object": "text_completion"}
        self._common |= {"created": int(time.time()), "model": model}
        self._prompts: list[Prompt] = []
        self._shown: set[int] = set()

    def read(self, prompt: Prompt) -> None:
        """The prompt that stands before the next choices."""
        self._prompts.append(prompt)

    def whole(self, choices: Sequence[Choice], more: dict[str, Any]) -> dict[str, Any]:
        """The answer at once.

        Args:
            more: Fields of the whole answer.
        """
        runs = [each.run for each in choices]
        return {
            **self._common,
            "choices": [self._choice(each, len(choices) > 1) for each in choices],
            "usage": shapes.usage(runs[:: self._body.n], runs),
            **more,
        }

    def piece(self, choice: int, text: str) -> bytes:
        """A chunk with more text, the first one behind the prompt where that is shown."""
        return self._before(choice) + self._chunk(choice, text, None)

    def ended(self, choice: Choice, more: dict[str, Any]) -> bytes:
        """The last chunk of a choice, with its log-probabilities: tokens are named when the model has said its last.

        Args:
            more: Fields of the whole answer, for its last choice.
        """
        said = self._before(choice.choice)
        logprobs, fields = self._logprobs(choice), shapes.ending(choice.run, more)
        return said + self._chunk(choice.choice, "", choice.run.finish_reason, logprobs=logprobs, **fields)

    def usage(self, choices: Sequence[Choice]) -> bytes:
        """The chunk that ``include_usage`` asks for."""
        runs = [each.run for each in choices]
        return shapes.event({**self._common, "choices": [], "usage": shapes.usage(runs[:: self._body.n], runs)})

    def _before(self, choice: int) -> bytes:
        if choice in self._shown or not self._body.echo:
            return b""
        self._shown.add(choice)
        return self._chunk(choice, self._prompts[choice // self._body.n].text, None)

    def _chunk(self, choice: int, text: str, finish: str | None, **more: Any) -> bytes:
        logprobs = more.pop("logprobs", None)
        each = {"index": choice, "text": text, "logprobs": logprobs, "finish_reason": finish}
        return shapes.event({**self._common, "choices": [each], **more})

    def _choice(self, choice: Choice, one_of_many: bool) -> dict[str, Any]:
        before = self._prompts[choice.choice // self._body.n].text if self._body.echo else ""
        found = {
            "index": choice.choice,
            "text": before + choice.run.text,
            "logprobs": self._logprobs(choice),
            "finish_reason": choice.run.finish_reason,
        }
        return {**found, "timings": shapes.timings(choice.run.timings)} if one_of_many else found

    def _logprobs(self, choice: Choice) -> dict[str, Any] | None:
        if self._body.logprobs is None:
            return None
        prompt = self._prompts[choice.choice // self._body.n] if self._body.echo else Prompt()
        names = prompt.names | choice.names
        if self._body.return_tokens_as_token_ids:
            names = by_number(names)
        tokens = (*prompt.logprobs, *choice.logprobs)
        places = offsets((*prompt.pieces, *choice.pieces))
        return of_completion(tokens, names, places, top=self._body.logprobs > 0)
