"""``choose --run``: the suite, measurements and scores that a choice needs and that are not stored yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playground.cli import output
from playground.messages import msg

if TYPE_CHECKING:
    from playground.choose.deciding import Decision
    from playground.choose.file import Choice
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
    except KeyboardInterrupt:
        output.stderr().print(output.clean(msg("Interrupted; the same command goes on.")), soft_wrap=True)
        return False
    for variant, task in missing(decision).scores:
        words = msg("Not run here: `playground eval -m {variant} --tasks {task}`.", variant=variant, task=task)
        output.stderr().print(output.clean(words), soft_wrap=True)
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


def _measure(playground: Playground, variants: tuple[object, ...]) -> None:
    from playground.cli.benchmark import PROMPT
    from playground.cli.live import follow
    from playground.records import Request, Variant

    request = Request(prompt=PROMPT, max_new_tokens=TOKENS)
    asked = [each for each in variants if isinstance(each, Variant)]
    with output.working_on(", ".join(map(str, asked))):
        playground.keep(follow(playground.benchmark(request, asked, REPEATS)))
