"""docs/suites.md says what is so."""

from __future__ import annotations

import re

import pytest

from playground.paths import ROOT
from playground.suites import kinds, tables
from playground.suites.cases import OPTION_KEYS
from playground.suites.providers import PARAMETERS
from playground.suites.reading import KEYS, read_suite
from playground.suites.spots import OWN, STRANGERS

TEXT = (ROOT / "docs" / "suites.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name",
    [*kinds.KINDS, *OPTION_KEYS, *PARAMETERS, *(key for key in KEYS if key != "evaluateOptions"), *tables.SPECIAL],
)
def test_every_name_that_a_file_may_use_is_there(name: str) -> None:
    assert re.search(rf"`[^`]*(?<![a-z]){re.escape(name)}(?![a-z])[^`]*`", TEXT)


def test_the_limits_are_those_of_the_code() -> None:
    for limits, column in ((OWN, 2), (STRANGERS, 3)):
        cells = [line.split("|")[column] for line in TEXT[TEXT.index("## Limits") :].splitlines() if "|" in line][2:]
        assert f"{limits.max_bytes // 1_000_000} MB" in cells[0]
        assert f"{limits.max_rows:,}" in cells[1]
        assert f"{limits.max_cell:,}" in cells[2]
        assert f"{limits.max_total // 1_000_000} million" in cells[3]
        assert f"{limits.max_checks}; {limits.max_columns}; {limits.max_repeats}" in cells[4]
        assert f"{limits.max_values:,}" in cells[5]


def test_the_examples_are_suites() -> None:
    blocks = re.findall(r"\n\n((?:    .*\n)+)", TEXT)
    written = [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks]
    first = read_suite(written[0], "capitals.yaml")
    assert [row.vars["country"] for row in first.rows] == ["France", "Norway", "Iceland"]
    table = read_suite(written[1], "sums.csv")
    assert table.rows[0].prompt == "What is 2+2?"
    assert [check.type for check in table.checks[0]] == ["numeric", "tokens"]
