"""The table of speeds in docs/families.md: put there, found again, left alone by what writes the rest."""

from __future__ import annotations

from tests.families import speed
from tests.families.report import PAGE
from tests.families.sweep import page as sweep_page

ROW = "| Llama 2 | 100 | fused | kernels | int8 | 90.0 | 20.0 | 4.5 | 3.9 |"
SWEPT = f"{sweep_page.START}\nwhat was swept\n{sweep_page.END}\n"


def test_rows_stand_before_the_sweep_and_replace_those_that_were_there() -> None:
    page = speed.put(f"# Families\n\n{SWEPT}", [ROW], "a machine")
    assert page.index(ROW) < page.index(sweep_page.START)
    assert sweep_page.kept(page) == SWEPT
    again = speed.put(page, [ROW.replace("4.5", "5.5")], "another machine")
    assert again.count(speed.START) == again.count(speed.HEAD) == 1
    assert "4.5" not in again
    assert "another machine." in again


def test_a_page_without_them_keeps_none() -> None:
    assert speed.kept(f"# Families\n\n{SWEPT}") == ""


def test_every_row_of_the_page_is_a_network_that_is_measured() -> None:
    lines = speed.kept(PAGE.read_text(encoding="utf-8")).splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]
    assert rows
    for row in rows:
        assert row[0] in speed.FAMILIES
        assert len(row) == len(speed.COLUMNS)
