"""``choose --run``: the suite, measurements and scores that a choice needs and that are not stored yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playground.cli import output
from playground.errors import PlaygroundError
from playground.messages import msg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from playground.choose.deciding import Decision
    from playground.choose.file import Choice
    from playground.records import Variant
    from playground.service import Playground

INTERRUPTED = 3
REPEATS = 5
TOKENS = 64
"""Of a measurement, as ``playground bench models`` has them."""


def close_the_loop(playground: Playground, choice: Choice, decision: Decision) -> bool:
    """Run what is missing, one thing after the other; what is finished is stored at once.

    Returns:
        Whether all of it was run; False after Ctrl-C.

    Raises:
        PlaygroundError: A suite or a measurement could not be begun.
    """
    from playground.choose.deciding import decide, missing

    models = [str(candidate.variant) for candidate in decision.board.candidates]
    try:
        if missing(decision).suite:
            if not _run_suite(playground, choice, decision):
                return False
            decision = decide(playground, choice, models)
        if variants := missing(decision).measure:
            _measure(playground, variants)
        _take_scores(playground, missing(decision).scores)
    except KeyboardInterrupt:
        output.stderr().print(output.clean(msg("Interrupted; the same command goes on.")), soft_wrap=True)
        return False
    return True


def _run_suite(playground: Playground, choice: Choice, decision: Decision) -> bool:
    from playground.choose.deciding import missing, paused
    from playground.cli.suite_live import follow_suite
    from playground.results.suite_summary import column_names

    columns = missing(decision).suite
    if found := paused(playground, decision, columns):
        job = playground.resume_suite(found)
    else:
        assert decision.suite
        job = playground.begin_suite(decision.suite, columns, repeats=choice.repeats, file=_written(choice))
    ended = follow_suite(job, column_names(job.run))
    if ended is None or ended.status != "done":
        output.stderr().print(output.clean(msg("Interrupted; the same command goes on.")), soft_wrap=True)
        return False
    return True


def _written(choice: Choice) -> str:
    if choice.suite_file:
        return choice.suite_file.read_text(encoding="utf-8", errors="replace")
    return choice.suite


def _measure(playground: Playground, variants: Sequence[Variant]) -> None:
    from playground.cli.benchmark import PROMPT
    from playground.cli.live import follow
    from playground.records import Request

    request = Request(prompt=PROMPT, max_new_tokens=TOKENS)
    with output.working_on(", ".join(map(str, variants))):
        playground.keep(follow(playground.benchmark(request, variants, REPEATS)))


def _take_scores(playground: Playground, lacking: Sequence[tuple[Variant, str]]) -> None:
    """Task by task; where the harness is not installed, or knows no such task, the verdict stays open."""
    from playground.cli.eval import door
    from playground.cli.live import follow
    from playground.evaluation.job import Plan
    from playground.evaluation.worker import tasks_of

    for task in dict.fromkeys(task for _, task in lacking):
        variants = [variant for variant, wanted in lacking if wanted == task]
        try:
            with output.working_on(", ".join(map(str, variants))):
                follow(playground.evaluate(variants, Plan(tasks_of([task])), door(playground)))
        except PlaygroundError as error:
            words = msg("{task} was not taken: {reason}", task=task, reason=error.message)
            output.stderr().print(output.clean(words), soft_wrap=True)
