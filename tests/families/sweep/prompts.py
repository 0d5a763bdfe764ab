"""The questions that every architecture is asked, in this order, of one model in memory."""

from __future__ import annotations

from dataclasses import dataclass

_TALE = """The miller had three sons, and when he died the eldest took the mill, the second the donkey, and for the
third there was only a cat, whom nobody would have bought. "What shall I do with you?" he said. The cat sat down before
him and answered that a pair of boots would be of use: with boots she would walk to the king's own door. """
_END = "Before the sun was up, she was on her way."
_OTHER_END = "He had 42 coins (no more); she took them all."


@dataclass(frozen=True)
class Prompt:
    """One question.

    Attributes:
        tokens: Most that the answer may have.
        reuse: Whether what it shares with the one before may be skipped.
        stopped: Ask it once before, and stop that answer on its way.
        penalty: For tokens that were there before. A random network soon says one thing again and again, whatever it
            reads; kept from that, it has to choose anew each time.
    """

    name: str
    text: str
    tokens: int
    reuse: bool = False
    stopped: bool = False
    penalty: float = 4.0


PROMPTS = (
    Prompt("short", "The cat in boots", 24, penalty=1.0),
    Prompt("long", _TALE + _END, 40),
    Prompt("shared start", _TALE + _OTHER_END, 24, reuse=True, stopped=True),
    Prompt("once more", _TALE + _END, 24, reuse=True),
)
"""Long ones have some 300 tokens: more than a part of a prompt, and than every window."""
