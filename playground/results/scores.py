"""Scores: what a benchmark's harness measured of a prepared model, and on which bytes, kept beside the comparisons.

An ``Evaluation`` is one task on one variant: its metrics, and all that a second person needs to take them again. Two of
them may be held against each other only where task, questions, few-shot examples, template and harness are the same
(``setting``); then each question has an outcome of both, and ``results.statistics`` can pair them. docs/quality.md says
what the figures mean and what they do not. The module knows numbers and where they are kept; it runs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from playground.messages import Translatable, msg
from playground.records import Environment, Record, Variant, as_id
from playground.results import documents
from playground.results.statistics import Interval, Paired, family, paired, wilson
from playground.results.store import Store

FIRST = ("acc", "exact_match", "acc_norm", "f1", "word_perplexity")
"""Of several metrics of a task, which one stands for it: the first of these, else the task's own first."""
Z = 1.959963984540054
"""97.5 % quantile of the normal distribution."""


@dataclass(frozen=True)
class Metric(Record):
    """One figure of a task.

    Attributes:
        name: As the harness names it: ``acc``, ``acc_norm``, ``exact_match``, ``word_perplexity``.
        filter: What the harness took from each answer before it judged; ``none`` for nothing.
        value: As the harness gives it: a share is 0 to 1.
        stderr: Its standard error as the harness gives it; None where it gives none.
        outcomes: ``1`` or ``0`` for each question in the task's order, where each is right or wrong; "" elsewhere.
    """

    name: str
    filter: str
    value: float
    stderr: float | None = None
    higher_is_better: bool | None = None
    outcomes: str = ""

    @property
    def interval(self) -> Interval | None:
        """95 %: Wilson's where questions are right or wrong, else by the harness's standard error; None without."""
        if self.outcomes:
            return wilson(self.outcomes.count("1"), len(self.outcomes))
        if self.stderr is None:
            return None
        return Interval(self.value - Z * self.stderr, self.value + Z * self.stderr)

    @property
    def is_share(self) -> bool:
        """Whether it is a share of questions, and so may be told in per cent."""
        return bool(self.outcomes)


@dataclass(frozen=True)
class Evaluation(Record):
    """One task on one variant.

    Attributes:
        task: As the harness names it; ``version`` is the task's own.
        questions: How many were asked, of ``questions_in_task``.
        limit: What was asked for: only the first so many; None for all.
        shots: Solved examples in front of each question.
        chat: Whether each prompt was put into the model's chat template.
        data_sha256: Of the questions that were asked, in order: the same figure elsewhere means the same questions.
        artifact_sha256: Of the files the model ran on, as in ``Artifact``.
        engine: What computed, as in ``Artifact``, or ``torch``.
        harness: Name and version of who asked and judged.
        reused: Answers that were taken from an interrupted run of the same artifact.
        elapsed_s: Of the whole run of all its tasks, from the harness's start to its end, in seconds.
        notes: What a reader should know, in words of the harness.
    """

    id: str
    created_at: str
    variant: Variant
    task: str
    version: str
    metrics: tuple[Metric, ...]
    questions: int
    questions_in_task: int
    harness: str
    environment: Environment
    limit: int | None = None
    shots: int = 0
    chat: bool = False
    kind: str = ""
    data_sha256: str = ""
    artifact_sha256: str = ""
    revision: str = ""
    engine: str = ""
    reused: int = 0
    elapsed_s: float | None = None
    notes: tuple[Translatable, ...] = ()

    @property
    def setting(self) -> tuple[str, str, str, int, bool, str]:
        """What two evaluations must have in common to be held against each other."""
        return self.task, self.version, self.data_sha256, self.shots, self.chat, self.harness

    @property
    def main(self) -> Metric | None:
        """The metric that stands for the task."""
        by_name = {metric.name: metric for metric in reversed(self.metrics)}
        return next((by_name[name] for name in FIRST if name in by_name), next(iter(self.metrics), None))

    def metric(self, name: str, filter: str = "none") -> Metric | None:
        return next((each for each in self.metrics if (each.name, each.filter) == (name, filter)), None)

    @property
    def how(self) -> Translatable:
        """In which setting it was taken, for a reader."""
        return msg(
            "{harness}, {shots}-shot, {n:,} of {all:,} questions, {template}",
            harness=self.harness,
            shots=self.shots,
            n=self.questions,
            all=self.questions_in_task,
            template=msg("chat template") if self.chat else msg("plain text"),
        )


def pairs(evaluations: Sequence[Evaluation]) -> list[tuple[Evaluation, Evaluation, Paired]]:
    """Every two of them that can be held against each other, question by question, by their main metric.

    Returns:
        The first, the second, and what the paired test says of the first; the p values of all pairs of one setting are
        raised together (``statistics.family``).
    """
    by_setting: dict[tuple[object, ...], list[Evaluation]] = {}
    for each in evaluations:
        if each.data_sha256 and each.main and each.main.outcomes:
            by_setting.setdefault((*each.setting, each.main.name, each.main.filter), []).append(each)
    found: list[tuple[Evaluation, Evaluation, Paired]] = []
    for group in by_setting.values():
        couples = [(one, other) for place, one in enumerate(group) for other in group[place + 1 :]]
        tested = family([paired(_shares(one), _shares(other)) for one, other in couples])
        found += [(one, other, seen) for (one, other), seen in zip(couples, tested, strict=True)]
    return found


def _shares(evaluation: Evaluation) -> dict[int, float]:
    assert evaluation.main
    return {place: float(outcome) for place, outcome in enumerate(evaluation.main.outcomes)}


class Scores:
    """The evaluations that are kept.

    Args:
        store: Whose file they are kept in.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def save(self, evaluations: Iterable[Evaluation]) -> None:
        """Keep these, all or none.

        Raises:
            StorageError: They can't be written.
        """
        rows = [
            (each.id, each.created_at, str(each.variant), each.task, documents.written(each)) for each in evaluations
        ]
        with self._store.writing() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO score (id, created_at, variant, task, document) VALUES (?, ?, ?, ?, ?)", rows
            )

    def newest(self, limit: int = 1000) -> list[Evaluation]:
        """The newest evaluations, the newest first; those that are damaged are left out.

        Raises:
            StorageError: The database can't be read.
        """
        with self._store.reading() as connection:
            rows = connection.execute(
                "SELECT id, document FROM score ORDER BY created_at DESC, id DESC LIMIT ?", (limit,)
            ).fetchall()
        return documents.readable(Evaluation, rows, _named, self._store.path)

    def delete(self, ids: Iterable[str]) -> int:
        """Forget these; returns how many there were.

        Raises:
            StorageError: They can't be deleted.
        """
        with self._store.writing() as connection:
            return sum(connection.execute("DELETE FROM score WHERE id = ?", (as_id(id),)).rowcount for id in ids)


def _named(id: str) -> Translatable:
    return msg("Evaluation {id}", id=id)
