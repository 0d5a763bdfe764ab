"""Figures of a choice in words: so many digits as it takes, and how far their values are apart."""

from __future__ import annotations

import math

from playground.messages import Translatable, msg
from playground.results.figures import Figure


def number(value: float, beside: float | None = None) -> str:
    """Three digits, or as many more as it takes to tell it from the number ``beside`` it."""
    for digits in range(3, 8):
        shown = _digits(value, digits)
        if beside is None or value == beside or shown != _digits(beside, digits):
            return shown
    return f"{value:,}"


def _digits(value: float, digits: int) -> str:
    if value == 0 or abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:,.{max(0, places)}f}"


def spread_words(figure: Figure, beside: float | None = None) -> Translatable:
    """``12.3 tokens/s (11.9 to 12.8)``: the median, and the quartiles where there is more than one value."""
    median = number(figure.median, beside)
    if len(figure.values) < 2:
        return msg("{median} {unit}", median=median, unit=figure.unit)
    low, high = number(figure.low, beside), number(figure.high, beside)
    return msg("{median} {unit} ({low} to {high})", median=median, unit=figure.unit, low=low, high=high)
