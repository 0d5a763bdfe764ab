"""A suite as values: rows of prompts, the checks of each, and the models that its file names.

It knows their fields and how a row becomes a request; not files, and not how a check judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from playground.messages import Translatable
from playground.records import Record, Request, SuiteRow

NOT = "not-"


@dataclass(frozen=True)
class Check(Record):
    """One thing that an answer has to meet.

    Attributes:
        type: As the file names it, ``not-`` in front where it must not be met.
        value: What the answer is held against, variables filled in: a text, a list of texts, a JSON value, a schema.
        threshold: The limit that the type asks for: a score, milliseconds, a count; None where it needs none.
        weight: Of its score in the row's mean; 0 is told and counts neither there nor for passing.
        metric: The name that its scores are summed up by; empty for none.
        checks: What an ``assert-set`` is made of.
        options: What else its type knows: ``tolerance`` of ``numeric``.
    """

    type: str
    value: Any = None
    threshold: float | None = None
    weight: float = 1.0
    metric: str = ""
    checks: tuple[Check, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def base(self) -> str:
        """The type without ``not-``."""
        return self.type.removeprefix(NOT)

    @property
    def inverse(self) -> bool:
        return self.type.startswith(NOT)


@dataclass(frozen=True)
class SuiteColumn(Record):
    """A model that the file names, and how it asks it.

    Attributes:
        model: ``MODEL`` or ``MODEL@RUNTIME-PRECISION``, as written; whether there is such a model is not known here.
        parameters: Of ``Request``, by the names of its fields; what is left out is as the caller has it.
        label: The file's own name for the column; empty for none.
        place: Where in the file it stands, for errors.
    """

    model: str
    parameters: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    place: str = ""

    def request(self, base: Request) -> Request:
        """What this column is asked, where the file says nothing else than ``base``."""
        own: Any = {name: tuple(each) if isinstance(each, list) else each for name, each in self.parameters.items()}
        return replace(base, **own)


@dataclass(frozen=True)
class Suite(Record):
    """A file, read and checked.

    Attributes:
        checks: Of each row.
        thresholds: Of each row: the mean score that lets it pass, whatever its single checks say; None: all must pass.
        schemas: Of each row: JSON text of the schema that its answer is held to while it is decoded; empty for free.
        columns: The models that the file names; empty where it names none.
        repeats: Samples of each cell that the file asks for.
        notes: What of the file has no effect here, for a reader.
    """

    name: str
    rows: tuple[SuiteRow, ...]
    checks: tuple[tuple[Check, ...], ...]
    thresholds: tuple[float | None, ...]
    schemas: tuple[str, ...]
    columns: tuple[SuiteColumn, ...] = ()
    repeats: int = 1
    notes: tuple[Translatable, ...] = ()

    def request(self, row: int, base: Request) -> Request:
        """What a column that asks ``base`` is asked for this row.

        A system prompt of the row goes before the column's; log-probabilities are asked for where a check needs them.
        """
        here = self.rows[row]
        own_system = bool(here.system) or any(message.role == "system" for message in here.messages)
        logprobs = base.logprobs
        if logprobs is None and any(each.base in LOGPROBS for each in _flat(self.checks[row])):
            logprobs = 0
        return replace(
            base,
            prompt=here.prompt,
            messages=here.messages,
            system=here.system if own_system else base.system,
            logprobs=logprobs,
            json_schema=self.schemas[row] or base.json_schema,
        )

    @property
    def needs_cost(self) -> bool:
        """Whether a check asks what an answer costs."""
        return any(check.base == "cost" for row in self.checks for check in _flat(row))

    @property
    def samples(self) -> int:
        """How many samples of a cell the checks compare at most; ``repeats`` must be no fewer."""
        counts = (int(each.value) for row in self.checks for each in _flat(row) if each.base == "same-answer")
        return max(counts, default=1)


LOGPROBS = frozenset({"perplexity", "perplexity-score"})
"""Checks that need the log-probabilities of an answer's tokens."""


def _flat(checks: Iterable[Check]) -> Iterator[Check]:
    for check in checks:
        yield check
        yield from _flat(check.checks)
