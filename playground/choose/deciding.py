"""A choice's file against what is stored: verdicts, what decided them, and what would have to be run to know more.

Both front ends ask here. It reads; it starts nothing: ``missing`` says what to start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from playground.choose.answers import Difference, digest, digest_of, suite_answers
from playground.choose.board import Board, board, candidates_of, stored
from playground.choose.checks import MEASURE_IT, RUN_IT
from playground.choose.constraints import Constraints, Eligibility
from playground.choose.file import Choice
from playground.messages import Translatable, msg
from playground.records import Column, Request, Variant
from playground.suites.suite import Suite

if TYPE_CHECKING:
    from playground.service import Playground


@dataclass(frozen=True)
class Decision:
    """What became of each variant.

    Attributes:
        columns: As the suite asks them; empty without a suite.
        digest: Of the suite; empty without one.
    """

    limits: Constraints
    board: Board
    verdicts: tuple[Eligibility, ...]
    suite: Suite | None = None
    columns: tuple[Column, ...] = ()
    digest: str = ""

    @property
    def differences(self) -> tuple[Difference, ...]:
        """The paired tests between those that are not out."""
        return differences(self.board, self.verdicts)


@dataclass(frozen=True)
class Missing:
    """What would have to be run, of variants that are not out already.

    Attributes:
        suite: The columns whose answers are missing, or not all there.
        measure: Variants without a figure that a limit asks for, once the suite has run.
        scores: By variant, tasks that were not taken of it.
    """

    suite: tuple[Column, ...] = ()
    measure: tuple[Variant, ...] = ()
    scores: tuple[tuple[Variant, str], ...] = ()

    @property
    def anything(self) -> bool:
        return bool(self.suite or self.measure or self.scores)


def decide(playground: Playground, choice: Choice, models: Sequence[str] = (), owner: str = "") -> Decision:
    """Judge the models of a choice by what is stored.

    Args:
        models: Instead of those that the file names.

    Raises:
        UsageError: The suite or a model is wrong; names the place.
    """
    suite = _suite(playground, choice)
    columns = _columns(playground, choice, suite, models)
    kept = stored(playground)
    variants = tuple(dict.fromkeys(column.variant for column in columns)) or candidates_of(playground, kept)
    answers, mark = None, ""
    if suite:
        mark = digest(suite.to_json())
        answers = suite_answers(playground, (mark, suite.name), variants, owner)
    found = board(playground, variants, kept, owner, answers)
    asked = columns or (tuple(Column(variant, Request()) for variant in variants) if suite else ())
    return Decision(choice.limits, found, found.verdicts(choice.limits), suite, asked, mark)


def missing(decision: Decision) -> Missing:
    """What would tell more. A model that is out stays out, whatever its answers are."""
    open_ = {verdict.variant: verdict for verdict in decision.verdicts if verdict.state != "out"}

    def lacks(variant: Variant, step: Translatable) -> bool:
        return variant in open_ and any(check.next_step == step for check in open_[variant].checks)

    suite: list[Column] = []
    for column in decision.columns:
        if lacks(column.variant, RUN_IT) and column.variant not in {each.variant for each in suite}:
            suite.append(column)
    scores = tuple(
        (candidate.variant, task)
        for candidate in decision.board.candidates
        if candidate.variant in open_
        for task in decision.limits.min_scores
        if task not in candidate.scores
    )
    return Missing(tuple(suite), tuple(variant for variant in open_ if lacks(variant, MEASURE_IT)), scores)


def differences(board: Board, verdicts: Sequence[Eligibility]) -> tuple[Difference, ...]:
    """The paired tests between those that are not out."""
    kept = {verdict.variant for verdict in verdicts if verdict.state != "out"}
    found = board.suite.differences if board.suite else ()
    return tuple(each for each in found if each.first in kept and each.second in kept)


def paused(playground: Playground, decision: Decision, columns: Sequence[Column], owner: str = "") -> str:
    """The id of a run of this suite with these columns that was interrupted, to go on with; "" where there is none."""
    wanted = {column.variant for column in columns}
    for entry in playground.suites(owner):
        same = entry.status == "paused" and set(entry.variants) == wanted
        if same and digest_of(playground, entry.id) == decision.digest:
            return entry.id
    return ""


def difference_words(difference: Difference) -> Translatable:
    """The paired test of two models as a sentence."""
    test = difference.test
    told = {"first": difference.first, "second": difference.second, "n": test.prompts, "p": test.p}
    if test.seen == "none":
        return msg("{first} and {second}: no difference seen on {n} prompts (p = {p:.2g})", **told)
    if test.seen == "better":
        return msg(
            "{first} passes more than {second}: better on {better} of {n} prompts, worse on {worse} (p = {p:.2g})",
            better=test.better,
            worse=test.worse,
            **told,
        )
    return msg(
        "{first} passes fewer than {second}: better on {better} of {n} prompts, worse on {worse} (p = {p:.2g})",
        better=test.better,
        worse=test.worse,
        **told,
    )


def _suite(playground: Playground, choice: Choice) -> Suite | None:
    if choice.suite_file:
        return playground.read_suite_file(choice.suite_file)
    if choice.suite:
        return playground.read_suite(choice.suite, choice.path.name, choice.path.parent)
    return None


def _columns(playground: Playground, choice: Choice, suite: Suite | None, models: Sequence[str]) -> tuple[Column, ...]:
    """Models as named, asked as the suite's file asks them where it names them too."""
    named = playground.variants(models or choice.models)
    own = playground.suite_columns(suite) if suite else []
    if not named:
        return tuple(own)
    asked = {column.variant: column for column in reversed(own)}
    return tuple(asked.get(variant, Column(variant, Request())) for variant in named)
