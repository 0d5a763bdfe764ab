"""Two loaded models forced along one text, and what their next-token distributions have in common.

The reference goes first and leaves its logits in a file; the other one compares its own with them, row by row, in its
worker (``runtimes/generation/scoring.py``). Here are the file, its bounds, and the figures. The module knows loaded
models and token ids; it does not know where a text came from or why two models are compared.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from playground.errors import StorageError
from playground.experiments.token_diff import Difference, Token
from playground.messages import Translatable, msg
from playground.records import Cancelled, DecodedTokens, LoadSpec, Record
from playground.runtimes.generation.scoring import Scored, Task
from playground.workers import protocol
from playground.workers.executor import Executor

MAX_BYTES = 1_000_000_000
"""Most logits kept at once: a thousand tokens of a vocabulary of 262,144, five thousand of one of 49,152."""
DISK_SHARE = 0.5
"""Of the free space of the disk they may take."""
FOLDER, NAME = "scratch", "logits-{pid}-"


@dataclass(frozen=True)
class Choice(Record):
    """A token and its probability, by a softmax at temperature 1."""

    id: int
    text: str
    probability: float


@dataclass(frozen=True)
class Position(Record):
    """One token of the text both were forced along.

    Attributes:
        token: What stands there.
        kl: KL(reference ‖ candidate) of the two distributions it was chosen from, in nats.
        reference_probability, candidate_probability: Probability each gave to ``token``.
        reference, candidate: The token each held for the most likely.
    """

    token: Token
    kl: float
    reference_probability: float
    candidate_probability: float
    reference: Choice
    candidate: Choice


@dataclass(frozen=True)
class Forced(Record):
    """Both models on one text.

    Attributes:
        positions: Its tokens, in order.
        total: Tokens the text has; more than ``positions`` where the rest would have taken too much disk.
        flips: Positions where the most likely token differs, counted from 0.
        mean_kl: Mean of ``kl`` over the positions, in nats a token.
        reference_perplexity, candidate_perplexity: exp of the mean negative log-probability of the text's tokens.
    """

    positions: tuple[Position, ...]
    total: int
    flips: tuple[int, ...]
    mean_kl: float
    reference_perplexity: float
    candidate_perplexity: float


@dataclass(frozen=True)
class Divergence(Record):
    """What each would have said where the answers part, behind the same text: its most likely tokens."""

    reference: tuple[Choice, ...]
    candidate: tuple[Choice, ...]


class TeacherForcing:
    """Forces two models along texts. Their worker processes hold nothing of it afterwards.

    Args:
        loads: The reference and the candidate. The caller holds a turn of ``pool``.
        home: PLAYGROUND_HOME; the file of logits lies below it while it is needed.
        tell: Told what is being done and the share that is done, 0 to 1.
    """

    def __init__(
        self,
        pool: Executor,
        loads: tuple[LoadSpec, LoadSpec],
        home: Path,
        cancelled: Cancelled,
        tell: Callable[[Translatable, float | None], None],
    ) -> None:
        self._pool, self._loads, self._home = pool, loads, home
        self._cancelled, self._tell = cancelled, tell

    def along(
        self,
        prompt: Sequence[int],
        text: Sequence[int],
        decoded: DecodedTokens,
        what: Translatable,
        difference: Difference | None = None,
    ) -> tuple[Forced, Divergence | None]:
        """Both models on ``text`` behind ``prompt``.

        Args:
            decoded: ``text``, by the reference's tokenizer.
            what: The text's name in progress.
            difference: Where another answer parts from ``text``: what each would have said there is wanted.

        Raises:
            Stopped: Called off.
            RunError: A model can't be scored; names it.
            StorageError: There is no room for the logits of a single token.
        """
        with rows_file(self._home) as (path, room):
            task = Task(tuple(prompt), tuple(text), str(path), most_bytes=room)
            one = self._scored(self._loads[0], task, what)
            rest = Task(tuple(prompt), tuple(text[: len(one.logprobs)]), str(path), width=one.width)
            other = self._scored(self._loads[1], rest, what)
        names = [self._names(load, scored) for load, scored in zip(self._loads, (one, other), strict=True)]
        forced = _forced(text, decoded, one, other, names)
        place = difference.position if difference else -1
        inside = difference is not None and difference.one.id >= 0 and difference.other.id >= 0
        if not inside or place >= len(one.top_ids):
            return forced, None
        return forced, Divergence(_choices(one, names[0], place), _choices(other, names[1], place))

    def _scored(self, load: LoadSpec, task: Task, what: Translatable) -> Scored:
        step = msg("{model}: scoring {text}", model=load.artifact.variant, text=what)
        self._tell(step, 0.0)
        reply = self._pool.ask(
            load, partial(protocol.score, task=task), self._cancelled, lambda share: self._tell(step, share)
        )
        return Scored.from_json(reply["scored"])

    def _names(self, load: LoadSpec, scored: Scored) -> dict[int, str]:
        """How the model's own tokenizer spells its most likely tokens, each alone."""
        ids = sorted({token for top in scored.top_ids for token in top})
        reply = self._pool.ask(load, partial(protocol.decode_tokens, ids=ids), self._cancelled)
        return dict(zip(ids, DecodedTokens.from_json(reply["decoded"]).names, strict=True))


def _forced(
    text: Sequence[int], decoded: DecodedTokens, one: Scored, other: Scored, names: Sequence[dict[int, str]]
) -> Forced:
    count = len(one.logprobs)
    positions = tuple(
        Position(
            token=Token(text[place], decoded.names[place]),
            kl=other.divergence[place],
            reference_probability=math.exp(one.logprobs[place]),
            candidate_probability=math.exp(other.logprobs[place]),
            reference=_choices(one, names[0], place)[0],
            candidate=_choices(other, names[1], place)[0],
        )
        for place in range(count)
    )
    return Forced(
        positions=positions,
        total=len(text),
        flips=tuple(place for place, at in enumerate(positions) if at.reference.id != at.candidate.id),
        mean_kl=math.fsum(other.divergence) / count,
        reference_perplexity=perplexity(one.logprobs),
        candidate_perplexity=perplexity(other.logprobs),
    )


def perplexity(logprobs: Sequence[float]) -> float:
    """exp of the mean negative log-probability; of one token at least."""
    return math.exp(-math.fsum(logprobs) / len(logprobs))


def _choices(scored: Scored, names: dict[int, str], place: int) -> tuple[Choice, ...]:
    pairs = zip(scored.top_ids[place], scored.top_probabilities[place], strict=True)
    return tuple(Choice(token, names[token], probability) for token, probability in pairs)


@contextmanager
def rows_file(home: Path) -> Iterator[tuple[Path, int]]:
    """An empty file for logits and how many bytes it may take; gone afterwards. What a process that was killed left
    behind goes first.

    Raises:
        StorageError: The folder can't be written, or the disk is full.
    """
    folder = home / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _clear(folder)
        handle, name = tempfile.mkstemp(prefix=NAME.format(pid=os.getpid()), suffix=".f32", dir=folder)
        os.close(handle)
        room = min(MAX_BYTES, int(shutil.disk_usage(folder).free * DISK_SHARE))
    except OSError as error:
        raise StorageError(
            msg("Logits can't be kept in {folder} ({reason})", folder=folder, reason=error.strerror or str(error)),
            msg("Free some space there, or set PLAYGROUND_HOME to another folder."),
        ) from error
    path = Path(name)
    try:
        yield path, room
    finally:
        path.unlink(missing_ok=True)


def _clear(folder: Path) -> None:
    for left in folder.glob(NAME.format(pid="*") + "*"):
        owner = left.name.split("-")[1]
        if not (owner.isdigit() and psutil.pid_exists(int(owner))):
            left.unlink(missing_ok=True)
