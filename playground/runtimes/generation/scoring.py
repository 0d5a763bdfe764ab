"""Teacher forcing in a worker: one model's logits over a given answer, looked at alone or compared with another's.

Of two models, the first writes its rows of logits (float32, ``[tokens, vocab]``) into a file that the app made and will
delete; the second, in its own worker, reads a row, compares it with its own and goes on. So neither process holds more
than two rows, and nothing wide crosses a pipe. Arithmetic is in float64, over the whole vocabulary; the divergence is
that of the export check. The module knows rows and the seam of a runtime; it does not know models, texts or
comparisons.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from playground.errors import RunError, StorageError
from playground.messages import foreign, msg
from playground.records import Cancelled, Record
from playground.runtimes.base import Runtime

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TOP = 3
"""Most likely tokens reported for each position, where nothing else is asked for."""
LOGIT_BYTES = 4
"""Of a logit in the file."""


@dataclass(frozen=True)
class Task(Record):
    """What to score.

    Attributes:
        prompt: Read first; its own tokens are not scored.
        answer: The text both models are forced along.
        rows: File of the reference's rows; empty: one model alone is looked at, by rank and entropy.
        width: 0: write the rows. Else the width of the rows there, to compare with.
        most_bytes: When writing, stop before the file is larger; the scores then are of the answer's first tokens.
        top: Most likely tokens to report for each position.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    rows: str = ""
    width: int = 0
    most_bytes: int = 0
    top: int = TOP


@dataclass(frozen=True)
class Scored(Record):
    """What one model says of an answer. Lists have one entry a token of it.

    Attributes:
        width: Logits in a row: the vocabulary, with the rows an embedding may be padded by.
        logprobs: ln of the probability of the answer's own token, by a softmax at temperature 1.
        top_ids: Ids of the ``Task.top`` most likely tokens, the likeliest first.
        top_probabilities: Of those, 0 to 1.
        divergence: KL(reference ‖ this model) in nats; empty for the reference itself.
        ranks: Of one model alone: place of the answer's own token among all by falling logit, 1 for the likeliest; of
            equal ones the lower id is before.
        entropies: Of one model alone: −Σ p ln p over the whole vocabulary at temperature 1, in nats.
    """

    width: int
    logprobs: tuple[float, ...]
    top_ids: tuple[tuple[int, ...], ...]
    top_probabilities: tuple[tuple[float, ...], ...]
    divergence: tuple[float, ...] = ()
    ranks: tuple[int, ...] = ()
    entropies: tuple[float, ...] = ()


def score(runtime: Runtime, model: str, task: Task, cancelled: Cancelled, tell: Callable[[float], None]) -> Scored:
    """Force the model along the answer.

    Args:
        model: For messages.
        tell: Told the share that is done, 0 to 1, often enough to be taken for a sign of life.

    Raises:
        Stopped: ``cancelled`` said so.
        RunError: The model can't, or its logits are not numbers.
        StorageError: The file can't be written or read.
    """
    tally = _Tally(model, task)
    try:
        with Path(task.rows).open("rb" if task.width else "r+b") if task.rows else BytesIO() as file:
            for row in runtime.score(task.prompt, task.answer, cancelled):
                if row is not None and not tally.has_room(row):
                    break
                if row is not None:
                    tally.add(row, file)
                tell(len(tally.logprobs) / len(task.answer))
    except OSError as error:
        raise StorageError(
            msg(
                "{model}: its logits can't be kept in {file} ({reason})",
                model=model,
                file=task.rows,
                reason=foreign(error.strerror or str(error)),
            ),
            msg("Free some space there."),
        ) from error
    return tally.scored()


class _Tally:
    """Figures position by position."""

    def __init__(self, model: str, task: Task) -> None:
        self._model, self._task = model, task
        self._width = 0
        self.logprobs: list[float] = []
        self._top_ids: list[tuple[int, ...]] = []
        self._top_probabilities: list[tuple[float, ...]] = []
        self._divergence: list[float] = []
        self._ranks: list[int] = []
        self._entropies: list[float] = []

    def has_room(self, row: NDArray[Any]) -> bool:
        """Whether the file may take one more row.

        Raises:
            StorageError: Not even one.
        """
        needed = len(row) * LOGIT_BYTES
        if not self._task.rows or self._task.width or (len(self.logprobs) + 1) * needed <= self._task.most_bytes:
            return True
        if self.logprobs:
            return False
        raise StorageError(
            msg(
                "{model}: the logits of one token take {need_mb:.1f} MB, the disk of {file} has room for {free_mb:.1f}",
                model=self._model,
                need_mb=needed / 1e6,
                file=self._task.rows,
                free_mb=self._task.most_bytes / 1e6,
            ),
            msg("Free some space there."),
        )

    def add(self, row: NDArray[Any], file: BinaryIO) -> None:
        import numpy as np

        place, self._width = len(self.logprobs), len(row)
        values = row.astype(np.float64)
        if not np.isfinite(values).all():
            raise RunError(
                msg(
                    "{model}: its logits for token {number} of the answer are not numbers",
                    model=self._model,
                    number=place + 1,
                ),
                msg("Prepare the model again, or choose another variant."),
            )
        if self._task.width:
            self._divergence.append(self._compared(values, file, place))
        elif self._task.rows:
            file.write(np.ascontiguousarray(row, np.float32).data)
        values -= values.max()
        weights = np.exp(values)
        whole = weights.sum()
        # −Σ p ln p with p = weights / whole; rounding can leave a certain token's a hair below zero.
        entropy = max(0.0, float(np.log(whole) - np.dot(weights, values) / whole))
        values -= np.log(whole)
        top = _highest(values, self._task.top)
        token = self._task.answer[place]
        if not self._task.rows:
            own = values[token]
            self._ranks.append(1 + int((values > own).sum()) + int((values[:token] == own).sum()))
            self._entropies.append(entropy)
        self.logprobs.append(float(values[token]))
        self._top_ids.append(tuple(int(token) for token in top))
        self._top_probabilities.append(tuple(float(probability) for probability in np.exp(values[top])))

    def _compared(self, values: NDArray[np.float64], file: BinaryIO, place: int) -> float:
        """Over the ids both have: beyond a tokenizer's last one, rows may be padded to different widths."""
        import numpy as np

        from playground.runtimes.generation.divergence import kl_divergence

        data = file.read(self._task.width * LOGIT_BYTES)
        if len(data) < self._task.width * LOGIT_BYTES:
            raise StorageError(
                msg(
                    "{model}: {file} ends before token {number} of the answer",
                    model=self._model,
                    file=self._task.rows,
                    number=place + 1,
                ),
                msg("Run it again."),
            )
        shared = min(self._task.width, len(values))
        gap: float = kl_divergence(np.frombuffer(data, np.float32)[:shared].astype(np.float64), values[:shared])
        if not np.isfinite(gap):
            raise RunError(
                msg(
                    "{model}: its divergence at token {number} of the answer is not a number",
                    model=self._model,
                    number=place + 1,
                ),
                msg("Prepare the model again, or choose another variant."),
            )
        return gap

    def scored(self) -> Scored:
        return Scored(
            width=self._width,
            logprobs=tuple(self.logprobs),
            top_ids=tuple(self._top_ids),
            top_probabilities=tuple(self._top_probabilities),
            divergence=tuple(self._divergence),
            ranks=tuple(self._ranks),
            entropies=tuple(self._entropies),
        )


def _highest(values: NDArray[np.float64], most: int) -> NDArray[np.intp]:
    """Positions of the ``most`` largest values, the largest first; of equal ones the lower id, as greedy takes it."""
    import numpy as np

    size = min(most, len(values))
    least = np.partition(values, len(values) - size)[len(values) - size]
    found = np.flatnonzero(values >= least)
    order = np.lexsort((found, -values[found]))
    return found[order][:size]
