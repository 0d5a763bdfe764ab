"""Two columns as the JSON that LLM Comparator reads, and votes as public collections of votes write them.

LLM Comparator shows two models' answers side by side, by slices of the prompts. Its file
(https://github.com/PAIR-code/llm-comparator, README.md, "JSON Data Format") has ``metadata``, two ``models`` and
``examples`` with a score from 1.5 (A is better) to -1.5. Here a score comes from a vote or from a suite's checks, never
from a guess: where nobody judged it is null, which the tool takes as unknown.

Votes with their conversations have the fields of lmsys/chatbot_arena_conversations, which tools for ratings read.

The module knows records and these two forms.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, TextIO

from playground.errors import UsageError
from playground.messages import msg
from playground.records import Cell, CheckResult, Comparison, ModelRun, Request, SuiteRun
from playground.results.requests import headings

if TYPE_CHECKING:
    from playground.results.votes import Vote

MOST = 1.5
"""The score of an answer that is better without doubt."""
PER_MODEL = {
    "output_tokens": "per_model_number",
    "ttft_s": "per_model_number",
    "decode_tok_s": "per_model_number",
    "total_s": "per_model_number",
    "finish_reason": "per_model_category",
    "error": "per_model_text",
}
"""What is told of both answers: figures as in ``Timings``, and how the answer ended."""
SUITE_FIELDS = {"row": "string", "sample": "number", "passed": "per_model_boolean", "check_score": "per_model_number"}


def comparison_json(comparison: Comparison, first: int = 0, second: int = 1, vote: Vote | None = None) -> str:
    """Two columns of a comparison.

    Args:
        vote: Whose outcome is the score; None where nobody voted.

    Raises:
        UsageError: There are no two such columns.
    """
    names = headings([run.variant for run in comparison.runs])
    _check_pair(names, first, second)
    asked = comparison.asked(first)
    one, other = comparison.runs[first], comparison.runs[second]
    example = {
        "input_text": _prompt(asked),
        "tags": [vote.tag] if vote and vote.tag else [],
        "output_text_a": one.text,
        "output_text_b": other.text,
        "score": _vote_score(vote, first, second),
        "individual_rater_scores": [],
        "custom_fields": _figures(one, other),
    }
    schema = [{"name": name, "type": kind} for name, kind in PER_MODEL.items()]
    document = {
        "metadata": {"source_path": f"open-model-playground:{comparison.id}", "custom_fields_schema": schema},
        "models": [{"name": names[first]}, {"name": names[second]}],
        "examples": [example],
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_suite(
    run: SuiteRun, names: Sequence[str], pair: tuple[int, int], cells: Iterable[Cell], file: TextIO
) -> None:
    """Two columns of a suite, an example a prompt and sample that both have answered; one row in memory at a time.

    Args:
        names: Of the columns.
        cells: All of the suite, by rows.

    Raises:
        UsageError: There are no two such columns.
    """
    first, second = pair
    _check_pair(names, first, second)
    tags = sorted({key for row in run.rows for key in row.metadata})
    kinds = {**SUITE_FIELDS, **dict.fromkeys(tags, "category"), **PER_MODEL}
    metadata = {
        "source_path": f"open-model-playground:{run.id}",
        "custom_fields_schema": [{"name": name, "type": kind} for name, kind in kinds.items()],
    }
    models = [{"name": names[first]}, {"name": names[second]}]
    file.write('{"metadata": ' + _dumped(metadata) + ',\n"models": ' + _dumped(models) + ',\n"examples": [')
    before = "\n"
    for example in _examples(run, first, second, cells):
        file.write(before + _dumped(example))
        before = ",\n"
    file.write("\n]}\n")


def _examples(run: SuiteRun, first: int, second: int, cells: Iterable[Cell]) -> Iterator[dict[str, Any]]:
    wanted = (cell for cell in cells if cell.column in (first, second))
    for row, group in groupby(wanted, key=lambda cell: cell.row):
        by_place = {(cell.column, cell.sample): cell for cell in group}
        for sample in range(run.repeats):
            a, b = by_place.get((first, sample)), by_place.get((second, sample))
            if a and b:
                yield _example(run, row, a, b)


def _example(run: SuiteRun, row: int, a: Cell, b: Cell) -> dict[str, Any]:
    here = run.rows[row]
    told = {
        "row": here.id,
        "sample": a.sample,
        "passed": [a.passed, b.passed],
        "check_score": [a.score, b.score],
        **here.metadata,
    }
    return {
        "input_text": here.prompt or "\n".join(f"{turn.role}: {turn.content}" for turn in here.messages),
        "tags": list(here.metadata.values()),
        "output_text_a": a.run.text,
        "output_text_b": b.run.text,
        "score": None if a.score is None or b.score is None else MOST * (a.score - b.score),
        "individual_rater_scores": list(_checks(a.checks, b.checks)),
        "custom_fields": {**told, **_figures(a.run, b.run)},
    }


def _checks(a: Sequence[CheckResult], b: Sequence[CheckResult]) -> Iterator[dict[str, Any]]:
    """Each check as a rater that judged both."""
    for one, other in zip(a, b, strict=False):
        if one.type == other.type and one.weight > 0:
            words = [f"{one.type} {one.value}".strip(), f"A: {one.reason}", f"B: {other.reason}"]
            yield {"is_flipped": False, "score": MOST * (one.score - other.score), "rationale": "\n".join(words)}


def _figures(one: ModelRun, other: ModelRun) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in PER_MODEL:
        if hasattr(one.timings, name):
            found[name] = [getattr(run.timings, name) for run in (one, other)]
    found["finish_reason"] = [one.finish_reason, other.finish_reason]
    found["error"] = ["" if run.error is None else str(run.error) for run in (one, other)]
    return found


def _vote_score(vote: Vote | None, first: int, second: int) -> float | None:
    if vote is None or not {first, second} <= set(vote.voted_on):
        return None
    if vote.outcome in ("tie", "bad"):
        return 0.0
    return {first: MOST, second: -MOST}.get(vote.best if vote.best is not None else -1)


def _check_pair(names: Sequence[str], first: int, second: int) -> None:
    if len(names) < 2:
        raise UsageError(msg("There is one column"), msg("LLM Comparator sets two beside each other."))
    if first == second or not (0 <= first < len(names) and 0 <= second < len(names)):
        raise UsageError(
            msg("Columns {first} and {second} are no pair", first=first + 1, second=second + 1),
            msg("Choose two of 1 to {most}.", most=len(names)),
        )


def _prompt(request: Request) -> str:
    turns = request.messages
    if not turns:
        return request.prompt
    return turns[0].content if len(turns) == 1 else "\n".join(f"{turn.role}: {turn.content}" for turn in turns)


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


# -- votes ------------------------------------------------------------------------------------------------------------


def arena_jsonl(votes: Iterable[Vote], comparison: Callable[[str], Comparison | None]) -> Iterator[str]:
    """A line a pair of columns that was voted on, with both conversations; what was deleted since is left out.

    Args:
        comparison: Finds one by its id.
    """
    for vote in votes:
        found = comparison(vote.comparison)
        if found is None or len(found.runs) != len(vote.variants):
            continue
        for a, b, winner in vote.pairs():
            yield _dumped(_arena(vote, found, (a, b), winner)) + "\n"


def _arena(vote: Vote, comparison: Comparison, pair: tuple[int, int], winner: str) -> Mapping[str, Any]:
    talks = [_conversation(comparison.asked(place), comparison.runs[place].text) for place in pair]
    return {
        "question_id": vote.comparison,
        "model_a": str(vote.variants[pair[0]]),
        "model_b": str(vote.variants[pair[1]]),
        "winner": winner,
        "judge": "reader",
        "conversation_a": talks[0],
        "conversation_b": talks[1],
        "turn": sum(turn["role"] == "user" for turn in talks[0]),
        "anony": vote.blind,
        "tstamp": _stamp(vote.at),
        "tag": vote.tag,
    }


def _conversation(request: Request, answer: str) -> list[dict[str, str]]:
    turns = [{"role": turn.role, "content": turn.content} for turn in request.messages]
    if not turns:
        system = [{"role": "system", "content": request.system}] if request.system else []
        turns = [*system, {"role": "user", "content": request.prompt}]
    return [*turns, {"role": "assistant", "content": answer}]


def _stamp(at: str) -> float | None:
    """Seconds since 1970."""
    try:
        return datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None
