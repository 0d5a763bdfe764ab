"""Patterns of strangers: bounded, and what RE2 lacks is said by name."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.errors import Reason
from playground.suites.patterns import compiled


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(?=a)b", "look-around"),
        ("a(?!b)", "look-around"),
        ("(?<=a)b", "look-around"),
        ("(?<!a)b", "look-around"),
        (r"(a)\1", "back-references"),
        (r"(?<x>a)\k<x>", "back-references by name"),
        ("a++", "possessive"),
        ("(?>a)", "atomic"),
        (r"\u0041", r"\\u escapes"),
        (r"\cA", "control escapes"),
        ("[]", "empty set"),
        ("(", "missing"),
        ("a{1001}", "repetition"),
        ("(?:(?:a{100}){100}){100}", "RE2 takes"),
        ("x" * 1001, "1,001 characters"),
    ],
)
def test_what_is_refused_is_said_by_name(pattern: str, words: str) -> None:
    with pytest.raises(Reason, match=words):
        compiled(pattern)


@pytest.mark.parametrize("pattern", [r"^(a+)+$", r"(a|a)*b", r"(.*.*.*.*=){20}", r"(x+x+)+y|(.*?,){300}z"])
def test_a_bomb_takes_no_time(pattern: str) -> None:
    began = time.monotonic()
    compiled(pattern).search("a,x" * 10_000 + "!")
    assert time.monotonic() - began < 2


@given(st.text("ab01 \n", max_size=12))
def test_plain_patterns_mean_what_they_mean_elsewhere(text: str) -> None:
    for pattern in (r"a+b?", r"^a", r"\bb\b", r"\d{2}", r"a.b", r"[^a]", r"(?i)A", r"b\z"):
        same = re.search(pattern.replace(r"\z", r"\Z"), text)
        assert bool(compiled(pattern).search(text)) == bool(same), pattern
