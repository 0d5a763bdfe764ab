"""What the cells of a suite come to, model by model and pair by pair: pass rates with intervals, paired tests, speed.

A prompt counts once: its share of passed answers (``statistics``), as soon as all its samples are there, so that a run
that goes on is not judged by halves. A prompt without checks has no outcome and counts for no rate. Figures are medians
over answers that did not fail; those of a run whose models shared the machine are no measure of the models, which is
for whoever shows them to say.

It knows records; it does not know where cells are kept, and nothing of prices and licences.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from playground.records import Cell, Record, SuiteRun
from playground.results.statistics import Paired, Rate, family, paired, rate


@dataclass(frozen=True)
class ColumnSummary(Record):
    """What one model did in a suite.

    Attributes:
        answers: Cells that are finished, failed ones too.
        failed: Of them, those that ended in an error.
        cut_off: Of them, those that ended at the token limit.
        rate: Over prompts with checks whose samples are all there.
        score: Mean of the checks' scores over the cells that have one, 0 to 1; None without.
        decode_tok_s, ttft_s, total_s, output_tokens: Medians over the answers that did not fail; None where none has
            the figure.
        cpu_s: Mean processor time of an answer, in seconds.
        peak_memory_mb: The most that any answer took.
    """

    column: int
    answers: int
    failed: int
    cut_off: int
    rate: Rate
    score: float | None
    decode_tok_s: float | None
    ttft_s: float | None
    total_s: float | None
    output_tokens: float | None
    cpu_s: float | None
    peak_memory_mb: float | None


@dataclass(frozen=True)
class Pair(Record):
    """Two columns on the prompts that both have an outcome for, told from the first one's side."""

    first: int
    second: int
    test: Paired


def pass_shares(cells: Iterable[Cell], repeats: int) -> dict[int, dict[int, float]]:
    """By column, by row: the share of passed answers, 0 to 1, of prompts with checks whose samples are all there."""
    outcomes: dict[tuple[int, int], list[bool]] = {}
    for cell in cells:
        if cell.passed is not None:
            outcomes.setdefault((cell.column, cell.row), []).append(cell.passed)
    found: dict[int, dict[int, float]] = {}
    for (column, row), passed in outcomes.items():
        if len(passed) >= repeats:
            found.setdefault(column, {})[row] = sum(passed) / len(passed)
    return found


def columns_of(run: SuiteRun, cells: Iterable[Cell]) -> tuple[ColumnSummary, ...]:
    """A summary for each of the suite's columns, in order."""
    by_column: dict[int, list[Cell]] = {place: [] for place in range(len(run.columns))}
    for cell in cells:
        by_column.setdefault(cell.column, []).append(cell)
    return tuple(_column(place, by_column[place], run.repeats) for place in range(len(run.columns)))


def pairs_of(run: SuiteRun, cells: Iterable[Cell]) -> tuple[Pair, ...]:
    """McNemar's test of every two columns, with the p values of all pairs together (Holm)."""
    return pairs(pass_shares(cells, run.repeats), len(run.columns))


def pairs(shares: Mapping[int, Mapping[int, float]], columns: int) -> tuple[Pair, ...]:
    """As ``pairs_of``, of shares that ``pass_shares`` found; columns without any outcome are in no pair."""
    having = [place for place in range(columns) if shares.get(place)]
    both = list(itertools.combinations(having, 2))
    tests = family([paired(shares[one], shares[two]) for one, two in both])
    return tuple(Pair(one, two, test) for (one, two), test in zip(both, tests, strict=True))


def _column(place: int, cells: Sequence[Cell], repeats: int) -> ColumnSummary:
    well = [cell.run for cell in cells if cell.run.error is None]
    taken = [run.timings for run in well]
    scores = [cell.score for cell in cells if cell.score is not None]
    cpu = [each.cpu_s for each in taken if each.cpu_s is not None]
    return ColumnSummary(
        column=place,
        answers=len(cells),
        failed=len(cells) - len(well),
        cut_off=sum(run.finish_reason == "length" for run in well),
        rate=rate(pass_shares(cells, repeats).get(place, {})),
        score=sum(scores) / len(scores) if scores else None,
        decode_tok_s=_middle(each.decode_tok_s for each in taken if each.unit == "token"),
        ttft_s=_middle(each.ttft_s for each in taken),
        total_s=_middle(each.total_s for each in taken),
        output_tokens=_middle(each.output_tokens for each in taken if each.unit == "token"),
        cpu_s=sum(cpu) / len(cpu) if cpu else None,
        peak_memory_mb=max((each.peak_memory_mb for each in taken if each.peak_memory_mb is not None), default=None),
    )


def _middle(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(median(known)) if known else None
