"""Numbers out of texts: the last one, whichever way it is written."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.suites.quantities import last_number, number_text, tolerance, wanted_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("42", "42"),
        ("The answer is 42.", "42"),
        ("**42**", "42"),
        ("3 + 4 = 7", "7"),
        ("1,234.5", "1234.5"),
        ("1.234,5", "1234.5"),
        ("1,234,567.89 dollars", "1234567.89"),
        ("1.234.567,89 €", "1234567.89"),
        ("1,234,567", "1234567"),
        ("1.234.567", "1234567"),
        ("1,234", "1234"),
        ("1.234", "1.234"),
        ("1,23", "1.23"),
        ("0,125", "0.125"),
        ("0.125", "0.125"),
        ("12,3456", "12.3456"),
        ("1 234,5", None),
        ("1\u00a0234,5", "1234.5"),
        ("1\u202f234\u202f567", "1234567"),
        ("1'234.50", "1234.50"),
        ("-3", "-3"),
        ("−3,5", "-3.5"),
        ("x=-3", "-3"),
        ("3-4", "4"),
        ("(5)", "5"),
        ("$1,000", "1000"),
        ("50%", "50"),
        ("2.5e-3", "0.0025"),
        ("6.02e23 per mole", "602000000000000000000000"),
        ("１２３", "123"),
        ("3/4", "4"),
        (".5", "0.5"),
        ("-.5", "-0.5"),
        ("5km", "5"),
        ("the end.", None),
        ("H2O", None),
        ("v1.2.3", None),
        ("192.168.0.1", None),
        ("1,2,3", None),
        ("no number", None),
        ("", None),
        ("7 and then 1.2.3", "7"),
        ("9" * 500, None),
    ],
)
def test_the_last_number(text: str, number: str | None) -> None:
    if text == "1 234,5":  # a plain space parts two numbers
        assert last_number(text) == Decimal("234.5")
        return
    assert last_number(text) == (None if number is None else Decimal(number))


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9))
def test_a_number_is_read_as_it_was_written(number: Decimal) -> None:
    english = f"{number:,.3f}"
    german = english.translate(str.maketrans(",.", ".,"))
    for text in (f"{number:.4f}", english, german, f"The answer is {english}."):
        if text == f"{number:.4f}" or "," in english or "." in german:
            assert last_number(text) == number, text


@given(st.text("0123456789.,-+eE’' \u00a0%x", max_size=40))
def test_whatever_stands_there_a_number_or_nothing_comes_of_it(text: str) -> None:
    found = last_number(text)
    assert found is None or found.is_finite()


@pytest.mark.parametrize("value", [True, None, "", "x", "4 apples", "1.2.3", [1]])
def test_what_is_no_number_is_not_wanted(value: object) -> None:
    assert wanted_number(value) is None


def test_tolerances_and_how_numbers_are_shown() -> None:
    assert tolerance("0.5", Decimal(10)) == Decimal("0.5")
    assert tolerance("1%", Decimal(-200)) == Decimal(2)
    assert number_text(Decimal("6.02e23")) == "602000000000000000000000"
    assert number_text(Decimal("1e300")) == "1E+300"
