"""What the cells of a suite say together: pass rates, differences between models, figures, and what got worse.

Made of cells one at a time, so that a suite of any length takes a few numbers a cell in memory. The unit of every rate
is the prompt, not the answer: repeats of one prompt are no new prompts (``statistics`` says why). It knows cells and
arithmetic; not where cells are kept or how they are shown.
"""

from __future__ import annotations

import hashlib
import itertools
import statistics as medians
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from playground.messages import Translatable
from playground.records import Cell, Column, Record, Request, SuiteRun
from playground.results.figures import engine_of
from playground.results.requests import PARAMETERS, changed, headings
from playground.results.statistics import Paired, Rate, family, paired, rate

FIGURES = ("ttft_s", "decode_tok_s", "prefill_tok_s", "total_s")
"""Whose medians are told, as in ``Timings``."""


@dataclass(frozen=True)
class ColumnSummary(Record):
    """One column of a suite.

    Attributes:
        cells: Answers that are there; ``failed`` of them ended with an error, ``cut_off`` at the length limit.
        judged: Of the cells, how many have checks to meet; ``passed`` of them do. ``wrong`` are answers that don't.
        rate: Of its prompts that have an outcome.
        score: Mean of the checks' scores, 0 to 1; None without checks.
        figures: Medians over the answers without an error, by the names of ``Timings``.
        spread: Their quartiles, low and high.
        peak_memory_mb: The largest of all.
        reused: Share of all prompts' tokens that were in the cache from the prompt before and not read again, 0 to 1.
        seconds: That its answers took together.
        tokens: That it answered with.
        repeated: Prompts that were answered more than once; ``varied`` of them with more than one distinct text.
        distinct: Mean number of distinct answers to one of those; None where there is none.
        error: Of the first answer that failed; None where none did.
        engines: What computed its answers (``engine_of``), sorted; empty in a summary without an answer.
        shared: Whether its timings were taken on a machine that did other work at the same time.
    """

    heading: str
    cells: int
    failed: int
    cut_off: int
    judged: int
    passed: int
    wrong: int
    rate: Rate
    score: float | None
    figures: dict[str, float]
    spread: dict[str, tuple[float, ...]]
    peak_memory_mb: float | None
    reused: float | None
    seconds: float
    tokens: int
    repeated: int = 0
    varied: int = 0
    distinct: float | None = None
    shared: bool = False
    error: Translatable | None = None
    engines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference(Record):
    """Two columns, compared prompt by prompt."""

    first: int
    second: int
    test: Paired


@dataclass(frozen=True)
class SuiteSummary(Record):
    """A suite as far as its cells are there.

    Attributes:
        cells: How many are there, of ``total``.
        passed, judged: Over cells: how many have checks to meet, and how many meet them.
        differences: Of every pair of columns, p values raised for their number.
    """

    columns: tuple[ColumnSummary, ...]
    differences: tuple[Difference, ...]
    cells: int
    total: int
    judged: int
    passed: int
    failed: int


@dataclass(eq=False)
class _Column:
    cells: int = 0
    failed: int = 0
    cut_off: int = 0
    judged: int = 0
    passed: int = 0
    wrong: int = 0
    scores: list[float] = field(default_factory=list)
    outcomes: dict[int, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    figures: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    peak_memory_mb: float | None = None
    prompt_tokens: int = 0
    reused_tokens: int = 0
    tokens: int = 0
    seconds: float = 0.0
    texts: dict[int, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    shared: bool = False
    error: Translatable | None = None
    engines: set[str] = field(default_factory=set)


class Tally:
    """Takes cells in any order, each once, and says what they come to."""

    def __init__(self, run: SuiteRun) -> None:
        self._run = run
        self._columns = [_Column() for _ in run.columns]

    def add(self, cell: Cell) -> None:
        """One more cell."""
        at, run = self._columns[cell.column], cell.run
        at.cells += 1
        at.shared |= run.timings.mode == "fast"
        if cell.passed is not None:
            at.judged += 1
            at.passed += cell.passed
            at.wrong += not cell.passed and run.error is None
            at.outcomes[cell.row][0] += cell.passed
            at.outcomes[cell.row][1] += 1
        if cell.score is not None:
            at.scores.append(cell.score)
        if run.error is not None:
            at.failed += 1
            at.error = at.error or run.error
            return
        at.engines.add(engine_of(run.engine, run.runtime))
        at.cut_off += run.finish_reason == "length"
        if self._run.repeats > 1:
            at.texts[cell.row].append(hashlib.blake2b(run.text.encode("utf-8", "replace"), digest_size=8).digest())
        for name in FIGURES:
            value = getattr(run.timings, name)
            if value is not None and (run.timings.unit == "token" or not name.endswith("tok_s")):
                at.figures[name].append(value)
        peak = run.timings.peak_memory_mb
        if peak is not None:
            at.peak_memory_mb = max(peak, at.peak_memory_mb or 0.0)
        at.prompt_tokens += run.timings.prompt_tokens or 0
        at.reused_tokens += run.timings.reused_tokens or 0
        at.tokens += run.timings.output_tokens or 0
        at.seconds += run.timings.total_s or 0.0

    def shares(self, column: int) -> dict[int, float]:
        """By row, the share of passed answers, of each that has checks and whose samples are all there: a suite that
        goes on is not judged by halves.
        """
        return {
            row: passed / judged
            for row, (passed, judged) in self._columns[column].outcomes.items()
            if judged >= self._run.repeats
        }

    def summary(self) -> SuiteSummary:
        shares = [self.shares(column) for column in range(len(self._columns))]
        names = column_names(self._run)
        pairs = list(itertools.combinations(range(len(shares)), 2))
        tests = family([paired(shares[one], shares[other]) for one, other in pairs])
        columns = self._columns
        return SuiteSummary(
            columns=tuple(_summary(*each) for each in zip(columns, names, shares, strict=True)),
            differences=tuple(
                Difference(one, other, test) for (one, other), test in zip(pairs, tests, strict=True) if test.prompts
            ),
            cells=sum(at.cells for at in columns),
            total=self._run.cells,
            judged=sum(at.judged for at in columns),
            passed=sum(at.passed for at in columns),
            failed=sum(at.failed for at in columns),
        )


def summarise(run: SuiteRun, cells: Iterable[Cell]) -> SuiteSummary:
    """What ``cells`` of ``run`` come to."""
    tally = Tally(run)
    for cell in cells:
        tally.add(cell)
    return tally.summary()


def column_names(run: SuiteRun) -> list[str]:
    """A name for each column: its variant, and the parameters in which columns of one variant differ."""
    plain = [str(column.variant) for column in run.columns]
    names = []
    for name, column in zip(plain, run.columns, strict=True):
        asked = [other.request or Request() for other in run.columns if str(other.variant) == name]
        told = {
            key: getattr(column.request or Request(), key)
            for key in dict.fromkeys(key for each in asked for key in changed(each))
            if len({getattr(each, key) for each in asked}) > 1
        }
        if len({each.system for each in asked}) > 1 and column.request and column.request.system:
            told["system"] = column.request.system[:24]
        names.append(" ".join((name, *(f"{key}={value}" for key, value in told.items()))))
    return names if len(set(names)) == len(names) else headings([column.variant for column in run.columns])


def _summary(at: _Column, heading: str, shares: Mapping[int, float]) -> ColumnSummary:
    figures: dict[str, float] = {}
    spread: dict[str, tuple[float, ...]] = {}
    for name, values in at.figures.items():
        figures[name] = medians.median(values)
        if len(values) > 1:
            low, _, high = medians.quantiles(values, n=4, method="inclusive")
            spread[name] = (low, high)
    distinct = [len(set(texts)) for texts in at.texts.values() if len(texts) > 1]
    return ColumnSummary(
        heading=heading,
        cells=at.cells,
        failed=at.failed,
        cut_off=at.cut_off,
        judged=at.judged,
        passed=at.passed,
        wrong=at.wrong,
        rate=rate(shares),
        score=medians.fmean(at.scores) if at.scores else None,
        figures=figures,
        spread=spread,
        peak_memory_mb=at.peak_memory_mb,
        reused=at.reused_tokens / at.prompt_tokens if at.prompt_tokens else None,
        seconds=at.seconds,
        tokens=at.tokens,
        repeated=len(distinct),
        varied=sum(each > 1 for each in distinct),
        distinct=medians.fmean(distinct) if distinct else None,
        shared=at.shared,
        error=at.error,
        engines=tuple(sorted(at.engines)),
    )


# -- regression -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcomes(Record):
    """What a regression needs of a suite: by column (``column_keys``) and row's id, the share of passed answers."""

    name: str
    shares: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Changed(Record):
    """One prompt of one column whose share of passed answers changed, 0 to 1."""

    column: str
    row: str
    before: float
    now: float


@dataclass(frozen=True)
class Regression(Record):
    """A suite against an earlier one.

    Attributes:
        worse, better: Prompts of a column that passed more, less often before.
        same: How many did not change.
        new: How many have an outcome now and had none then; ``gone`` the other way round.
        unmatched: Columns that the earlier suite does not have.
        otherwise: Columns whose model was asked with other parameters then, and what it was held against.
        tests: By column, the paired test of now against then.
    """

    worse: tuple[Changed, ...]
    better: tuple[Changed, ...]
    same: int
    new: int
    gone: int
    unmatched: tuple[str, ...]
    otherwise: dict[str, str]
    tests: dict[str, Paired]

    @property
    def compared(self) -> int:
        """Prompts, each of each column, that both suites have an outcome of."""
        return self.same + len(self.worse) + len(self.better)


def column_keys(run: SuiteRun) -> list[str]:
    """What names each column in any suite; see ``keys_of``."""
    return keys_of(run.columns)


def keys_of(columns: Sequence[Column]) -> list[str]:
    """What names each column in any suite: its variant and the parameters that are not as they are by themselves, as a
    command line has them. ``reuse`` changes no answer.
    """
    keys = []
    for column in columns:
        asked = column.request or Request()
        told = {name: value for name, value in changed(asked).items() if name != "reuse"}
        told |= {"system": asked.system} if asked.system else {}
        keys.append(f"{column.variant}{'?' if told else ''}{urlencode(told, doseq=True)}")
    return keys


def outcomes(run: SuiteRun, tally: Tally) -> Outcomes:
    """What a later suite is held against."""
    return Outcomes(
        run.name,
        {
            key: {run.rows[row].id: share for row, share in tally.shares(place).items()}
            for place, key in enumerate(column_keys(run))
        },
    )


def regression(before: Outcomes, now: Outcomes) -> Regression:
    """What changed; see ``matched`` for which column is held against which."""
    pairs = matched(list(before.shares), list(now.shares))
    worse: list[Changed] = []
    better: list[Changed] = []
    same = new = gone = 0
    tests = {}
    for name, old in pairs.items():
        was, is_now = before.shares[old], now.shares[name]
        tests[name] = paired(is_now, was)
        new += len(is_now.keys() - was.keys())
        gone += len(was.keys() - is_now.keys())
        for row in is_now:
            if row not in was:
                continue
            change = Changed(name, row, was[row], is_now[row])
            if is_now[row] < was[row]:
                worse.append(change)
            elif is_now[row] > was[row]:
                better.append(change)
            else:
                same += 1
    return Regression(
        *(tuple(worse), tuple(better), same, new, gone),
        unmatched=tuple(name for name in now.shares if name not in pairs),
        otherwise={name: old for name, old in pairs.items() if name != old},
        tests=tests,
    )


def matched(before: Sequence[str], now: Sequence[str]) -> dict[str, str]:
    """By column now, the column it is held against: the same model asked alike; else the same model, where both suites
    have it once; else, where both have one column alone, that one.
    """
    found = {name: name for name in now if name in before}
    for name in now:
        model = _model(name)
        then, at_all = (
            [each for each in before if _model(each) == model],
            [each for each in now if _model(each) == model],
        )
        if name not in found and len(then) == len(at_all) == 1:
            found[name] = then[0]
    if not found and len(before) == len(now) == 1:
        return {now[0]: before[0]}
    return found


def _model(key: str) -> str:
    """The variant of a column's key; a source of one's own may hold a question mark too."""
    head, mark, tail = key.rpartition("?")
    return head if mark and tail.partition("=")[0] in (*PARAMETERS, "system") else key
