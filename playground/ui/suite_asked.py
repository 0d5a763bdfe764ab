"""What a prompt set is begun with, as a page sends it: the text, its name, the models, and what each is asked.

It comes from a browser and is not believed. Knows values, not components.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from playground.errors import UsageError
from playground.messages import msg
from playground.records import Request
from playground.ui import offered
from playground.ui.tabs import form

if TYPE_CHECKING:
    from playground.suites.suite import Suite

MAX_REPEATS = 20


@dataclass(frozen=True)
class Asked:
    """What ``PromptSet.asked`` sent."""

    text: str
    name: str
    models: list[Any]
    own: bool
    repeats: int
    request: Request

    @classmethod
    def of(cls, values: Sequence[Any]) -> Asked:
        """
        Raises:
            UsageError: A number is none.
        """
        text, name, models, own, repeats, system, *fields = values
        _, request = form.read_asked(["fair", "", text_of(system), *fields])
        times = form.whole(msg("Answers to each prompt"), repeats or 1)
        if not 1 <= times <= MAX_REPEATS:
            raise UsageError(
                msg("{n} answers to each prompt are asked for", n=times),
                msg("Choose from 1 to {most}.", most=MAX_REPEATS),
            )
        return cls(text_of(text), text_of(name)[:200], offered.names([models]), own is True, times, request)

    def samples(self, suite: Suite) -> int:
        """How often each model answers a prompt: what is asked for, or what the file or a check of it needs."""
        return max(self.repeats, suite.repeats, suite.samples)


def fields_of(request: Request) -> tuple[Any, ...]:
    """The values of ``parameter_fields``."""
    return (
        *(request.max_new_tokens, request.temperature, request.top_k, request.top_p, request.min_p),
        *(request.repetition_penalty, request.seed, "\n".join(request.stop), request.reuse),
    )


def text_of(value: Any) -> str:
    """A text without halves of characters, which JSON can say and what is sent to a page can't."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""
